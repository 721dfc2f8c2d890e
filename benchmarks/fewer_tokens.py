"""Time of finetuning and of inference with a part of the tokens, against all tokens and transformers' classifier.

    python benchmarks/fewer_tokens.py                       # ViT-B, CPU time on one thread
    python benchmarks/fewer_tokens.py --size small --batch_size 4
    python benchmarks/fewer_tokens.py --device cuda --dtype bfloat16 --batch_size 16

All have the same weights and clips, of noise: with fixed ratios, the time does not depend on the pixels. The models
take turns; the speed-up is the median of each turn's ratio to our own model with all tokens. The bound is the ratio of
the multiply-accumulates (see flops.py). Beside it stands the share of the rate that a large matrix product reaches.
"""

import argparse
import math
import statistics
from collections.abc import Callable

import torch
from flops import forward_macs, step_macs
from measuring import matmul_rate, peak_memory, save_results, their_config, timed
from torch import nn
from transformers import VideoMAEForVideoClassification

from videomae_hf import VideoMAEV2Config, VideoMAEV2ForVideoClassification
from videomae_hf.models.token_selection import select_tokens


SELECTIONS = {
    "ours, all tokens": {},
    "ours, token_keep 0.5": {"token_keep": 0.5},
    "ours, static_keep 0.5": {"static_keep": 0.5},
    "ours, static_keep 0.7": {"static_keep": 0.7},
}
BASELINE = "ours, all tokens"


def classifiers(size: str) -> dict[str, nn.Module]:
    """transformers' classifier of 400 classes, and ours with its weights and each of `SELECTIONS`."""
    config = VideoMAEV2Config.from_size(
        size, version=1, num_labels=400, use_mean_pooling=True, head_layer_norm_eps=1e-5
    )
    theirs = VideoMAEForVideoClassification(their_config(config, num_labels=400))
    models = {"transformers": theirs}
    for name, settings in SELECTIONS.items():
        models[name] = VideoMAEV2ForVideoClassification(config)
        models[name].load_state_dict(theirs.state_dict())
        select_tokens(models[name], **settings)
    return models


def train_step(model: nn.Module, inputs: dict, args: argparse.Namespace) -> None:
    """Forward and backward pass."""
    model.train().zero_grad(set_to_none=True)
    with torch.autocast(args.device, getattr(torch, args.dtype), enabled=args.dtype != "float32"):
        loss = model(**inputs).loss
    loss.backward()


@torch.no_grad()
def inference(model: nn.Module, inputs: dict, args: argparse.Namespace) -> None:
    model.eval()
    with torch.autocast(args.device, getattr(torch, args.dtype), enabled=args.dtype != "float32"):
        model(pixel_values=inputs["pixel_values"])


def measure(kind: str, models: dict[str, nn.Module], inputs: dict, macs: dict, args: argparse.Namespace) -> list[dict]:
    """A row for each model."""
    function = train_step if kind == "finetuning step" else inference
    memory = {
        name: peak_memory(lambda model=model: function(model, inputs, args), args.device)
        for name, model in models.items()
    }
    times = {name: [] for name in models}
    for repeat in range(-1, args.repeats):  # the first is warm-up
        for name, model in models.items():
            seconds, _ = timed(lambda model=model: function(model, inputs, args), args.device)
            if repeat >= 0:
                times[name].append(seconds)
    rows = []
    for name in models:
        ratios = [whole / part for whole, part in zip(times[BASELINE], times[name])]
        of_theirs = [whole / part for whole, part in zip(times["transformers"], times[name])]
        figures = {"gmacs": macs[name] / 1e9, "seconds": statistics.median(times[name])}
        figures |= {"bound": macs[BASELINE] / macs[name], "speed_up": statistics.median(ratios)}
        figures |= {"lowest": min(ratios), "highest": max(ratios), "of_transformers": statistics.median(of_theirs)}
        rows.append({"kind": kind, "model": name, **figures, "peak_gib": memory[name] / 2**30})
    return rows


def table(rows: list[dict]) -> str:
    """Markdown."""
    titles = ("", "Model", "GMACs", "Median s", "Of matmul rate", "Bound", "Speed-up", "Turns", "Against transformers")
    lines = ["| " + " | ".join((*titles, "Peak memory")) + " |", "|---" * (len(titles) + 1) + "|"]
    for row in rows:
        lines.append(
            f"| {row['kind']} | {row['model']} | {row['gmacs']:.0f} | {row['seconds']:.3f} | "
            f"{row['of_matmul_rate']:.0%} | {row['bound']:.2f}x | {row['speed_up']:.2f}x | "
            f"{row['lowest']:.2f}x to {row['highest']:.2f}x | {row['of_transformers']:.2f}x | "
            f"{row['peak_gib']:.2f} GiB |"
        )
    return "\n".join(lines)


def counted(config: VideoMAEV2Config, batch_size: int, count: Callable) -> dict[str, float]:
    """Multiply-accumulates of each model, by a counter of flops.py, on the meta device."""
    length, macs = config.sequence_length, {}
    with torch.device("meta"):
        model = VideoMAEV2ForVideoClassification(config)
        shape = (batch_size, config.num_frames, config.num_channels, *config.image_hw)
        inputs = {"pixel_values": torch.empty(shape), "labels": torch.zeros(batch_size, dtype=torch.long)}
        for name, settings in SELECTIONS.items():
            kept = math.ceil(min(settings.values(), default=1.0) * length)
            ids = {"visible_ids": torch.zeros(batch_size, kept, dtype=torch.long)} if settings else {}
            macs[name] = count(model, {**inputs, **ids})
    macs["transformers"] = macs[BASELINE]
    return macs | {f"{name}, compiled": macs[name] for name in ("transformers", BASELINE)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--size", default="base")
    parser.add_argument("--batch_size", type=int, default=2)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--dtype", default="float32")
    parser.add_argument("--compile", action="store_true", help="also time both classifiers compiled, with all tokens")
    parser.add_argument("--output", help="JSON file for the results")
    args = parser.parse_args()
    torch.set_num_threads(1)
    torch.manual_seed(0)
    models = {name: model.to(args.device) for name, model in classifiers(args.size).items()}
    config = models[BASELINE].config
    shape = (args.batch_size, config.num_frames, config.num_channels, *config.image_hw)
    inputs = {"pixel_values": torch.randn(shape), "labels": torch.arange(args.batch_size)}
    inputs = {name: value.to(args.device) for name, value in inputs.items()}
    if args.compile:
        models |= {f"{name}, compiled": torch.compile(models[name]) for name in ("transformers", BASELINE)}
    rows = measure("finetuning step", models, inputs, counted(config, args.batch_size, step_macs), args)
    models.pop("ours, token_keep 0.5")  # which takes all tokens in inference
    of_forward = counted(config, args.batch_size, lambda *given: forward_macs(*given)[""])
    rows += measure("inference", models, inputs, of_forward, args)
    # Rows of the matrix products of all tokens
    dtype, length = getattr(torch, args.dtype), args.batch_size * config.sequence_length
    rate = matmul_rate(args.device, dtype, length, config.hidden_size)
    for row in rows:
        row["of_matmul_rate"] = 1e9 * row["gmacs"] / row["seconds"] / rate
    print(f"ViT-{args.size}, batch {args.batch_size}, {args.device}, {args.dtype}, {args.repeats} turns")
    print(f"One matrix product: {rate / 1e9:.0f} GMACs/s\n")
    print(table(rows))
    if args.output:
        save_results(args.output, args.device, {**vars(args), "matmul_gmacs_per_second": rate / 1e9}, rows)


if __name__ == "__main__":
    main()

"""Time of one pretraining step (forward and backward) against transformers' models, in one interleaved run.

    python benchmarks/pretrain_step.py                    # VideoMAE, ViT-B, CPU time on one thread
    python benchmarks/pretrain_step.py --images --batch_size 16
    python benchmarks/pretrain_step.py --device cuda --dtype bfloat16 --batch_size 32

The same weights, pixels and encoder mask go to all models. Videos: transformers' VideoMAEForPreTraining, ours as V1
(the losses must agree), as V2 with the running-cell decoder mask, and with a cross-attention decoder that decodes a
quarter of the tokens, at mask ratios 0.9 and 0.95. Images: transformers' ViTMAEForPreTraining
and ours (the losses must agree). The models take turns, so that a machine whose speed drifts drifts for all;
the speed-up is the median of each turn's ratio to transformers' time in the same turn. Beside it stand its bound, the
ratio of the multiply-accumulates of both (see flops.py), and the share of the rate that one large matrix product
reaches. Peak memory is that of a step, beyond weights and inputs.
"""

import argparse
import statistics
import tempfile

import torch
from flops import step_macs
from measuring import matmul_rate, peak_memory, save_results, their_config, timed
from torch import nn
from transformers import VideoMAEForPreTraining, ViTMAEConfig, ViTMAEForPreTraining

from videomae_hf import VideoMAEV2Config, VideoMAEV2ForPreTraining, sample_masks
from videomae_hf.models.masking import mask_to_ids, token_counts


# Rows of our video models: name -> (version, fields); only V1 and V2 have the weights of transformers' model.
CROSS = {"decoder_type": "cross", "decoder_mask_ratio": 0.75}
VIDEO_MODELS = {
    "ours, V1": (1, {}),
    "ours, V2 dual masking": (2, {}),
    "ours, cross decoder, 25 %": (2, CROSS),
    "ours, cross decoder, 25 %, mask 0.95": (2, {**CROSS, "mask_ratio": 0.95}),
}


def video_models(size: str) -> dict[str, nn.Module]:
    """transformers' VideoMAE, and `VIDEO_MODELS`, with its weights where the decoder is the same."""
    same = {"use_mean_pooling": False, "head_layer_norm_eps": 1e-5}
    ours_v1 = VideoMAEV2Config.from_size(size, version=1, **same)
    theirs = VideoMAEForPreTraining(their_config(ours_v1))
    models = {"transformers": theirs}
    for name, (version, fields) in VIDEO_MODELS.items():
        config = VideoMAEV2Config.from_size(size, version, **same, **fields)
        config.decoder_num_hidden_layers = ours_v1.decoder_num_hidden_layers  # equal depth
        models[name] = VideoMAEV2ForPreTraining(config)
        if config.decoder_type == "full":
            models[name].load_state_dict(theirs.state_dict())
    return models


def image_models(size: str) -> dict[str, nn.Module]:
    """transformers' ViT-MAE, and ours with its weights."""
    ours = VideoMAEV2Config.for_images(size)
    fields = {name: getattr(ours, name) for name in ViTMAEConfig().to_dict() if hasattr(ours, name)}
    fields = {name: value for name, value in fields.items() if name not in ("model_type", "architectures", "dtype")}
    theirs = ViTMAEForPreTraining(ViTMAEConfig(**fields))
    with torch.no_grad():
        for parameter in theirs.parameters():  # a new one has zeros as tables, class token and mask token
            if not parameter.any():
                parameter.normal_(std=0.02)
    with tempfile.TemporaryDirectory() as folder:
        theirs.save_pretrained(folder)
        # Random tables are learned ones; the fixed ones of MAE cost no less.
        return {"transformers": theirs, "ours": VideoMAEV2ForPreTraining.from_pretrained(folder)}


def make_inputs(models: dict[str, nn.Module], batch_size: int) -> dict[str, dict[str, torch.Tensor]]:
    """The inputs of each model: the same pixels and, at equal ratios, the same encoder mask; for ours as ids, as our
    collator passes them."""
    config = models[list(models)[1]].config
    shape = (batch_size, config.num_frames, config.num_channels, *config.image_hw)
    pixel_values = torch.randn(shape, generator=torch.Generator().manual_seed(0))
    inputs = {}
    for name, model in list(models.items())[1:]:
        masked, decoded = sample_masks(model.config, batch_size, torch.Generator().manual_seed(1))
        num_visible, num_decoded = token_counts(model.config)
        inputs[name] = {"pixel_values": pixel_values, "visible_ids": mask_to_ids(~masked, num_visible)}
        if model.config.decoder_mask_ratio:
            inputs[name]["decoded_ids"] = mask_to_ids(decoded, num_decoded)
    hidden, _ = sample_masks(config, batch_size, torch.Generator().manual_seed(1))
    theirs = {"pixel_values": pixel_values, "bool_masked_pos": hidden}
    if config.num_frames == 1:  # their model of images hides the patches of the highest noise
        theirs = {"pixel_values": pixel_values[:, 0], "noise": hidden.float()}  # (B, C, H, W)
    return {"transformers": theirs, **inputs}


def step(model: nn.Module, inputs: dict[str, torch.Tensor], dtype: torch.dtype, device: str) -> tuple[float, float]:
    """(seconds, loss) of one step."""
    model.zero_grad(set_to_none=True)

    def run() -> torch.Tensor:
        with torch.autocast(device, dtype=dtype, enabled=dtype != torch.float32):
            loss = model(**inputs).loss
        loss.backward()
        return loss

    seconds, loss = timed(run, device)
    return seconds, loss.item()


def measure(models: dict, inputs: dict, args: argparse.Namespace) -> tuple[dict[str, list[float]], dict[str, float]]:
    """(seconds of each turn, loss) of each model."""
    times, losses = {name: [] for name in models}, {}
    for repeat in range(-1 if args.device == "cpu" else -3, args.repeats):  # negative ones are warm-up
        for name, model in models.items():
            seconds, losses[name] = step(model, inputs[name], getattr(torch, args.dtype), args.device)
            if repeat >= 0:
                times[name].append(seconds)
    return times, losses


def table(rows: list[dict]) -> str:
    """Markdown."""
    lines = [
        "| Model | Loss | GMACs | Median s | Of matmul rate | Bound | Speed-up | Of bound | Turns | Peak memory |",
        "|---|---|---|---|---|---|---|---|---|---|",
    ]
    for row in rows:
        lines.append(
            f"| {row['model']} | {row['loss']:.6f} | {row['gmacs']:.0f} | {row['seconds']:.3f} | "
            f"{row['of_matmul_rate']:.0%} | {row['bound']:.2f}x | {row['speed_up']:.2f}x | {row['of_bound']:.2f} | "
            f"{row['lowest']:.2f}x to {row['highest']:.2f}x | {row['peak_gib']:.2f} GiB, {row['of_peak']:.2f}x |"
        )
    return "\n".join(lines)


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--size", default="base")
    parser.add_argument("--images", action="store_true", help="MAE instead of VideoMAE")
    parser.add_argument("--batch_size", type=int, default=4)
    parser.add_argument("--repeats", type=int, default=9)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--dtype", default="float32")
    parser.add_argument(
        "--output", help="JSON file for the results, such as benchmarks/results/pretrain_step_base.json"
    )
    parser.add_argument("--compile", action="store_true", help="also time our models compiled")
    return parser.parse_args()


def main() -> None:
    args = parse_arguments()
    torch.set_num_threads(1)
    torch.manual_seed(0)
    models = (image_models if args.images else video_models)(args.size)
    inputs = make_inputs(models, args.batch_size)
    macs = {name: step_macs(model, inputs[name]) for name, model in models.items()}
    models = {name: model.to(args.device) for name, model in models.items()}
    inputs = {name: {key: one.to(args.device) for key, one in some.items()} for name, some in inputs.items()}
    if args.compile:
        ours = [name for name in models if name != "transformers"]
        for given in (inputs, macs):
            given |= {f"{name}, compiled": given[name] for name in ours}
        models |= {f"{name}, compiled": torch.compile(models[name], fullgraph=True, dynamic=False) for name in ours}
    dtype = getattr(torch, args.dtype)
    memory = {
        name: peak_memory(lambda name=name: step(models[name], inputs[name], dtype, args.device), args.device)
        for name in models
    }
    times, losses = measure(models, inputs, args)
    # Tokens of the encoder in a batch, the rows of its matrix products
    rate = matmul_rate(args.device, dtype, args.batch_size * 160, models["transformers"].config.hidden_size)
    rows = []
    for name in models:
        ratios = [theirs / ours for theirs, ours in zip(times["transformers"], times[name])]
        seconds, bound = statistics.median(times[name]), macs["transformers"] / macs[name]
        speed_up = statistics.median(ratios)
        figures = {"loss": losses[name], "gmacs": macs[name] / 1e9, "seconds": seconds, "bound": bound}
        figures |= {"of_matmul_rate": macs[name] / seconds / rate, "speed_up": speed_up, "of_bound": speed_up / bound}
        figures |= {"lowest": min(ratios), "highest": max(ratios), "peak_gib": memory[name] / 2**30}
        rows.append({"model": name, **figures, "of_peak": memory[name] / memory["transformers"]})
    kind = "MAE" if args.images else "VideoMAE"
    print(f"{kind}, ViT-{args.size}, batch {args.batch_size}, {args.device}, {args.dtype}, {args.repeats} turns")
    print(f"One matrix product: {rate / 1e9:.0f} GMACs/s\n")
    print(table(rows))
    if args.output:
        save_results(args.output, args.device, {**vars(args), "matmul_gmacs_per_second": rate / 1e9}, rows)
    same = "ours" if args.images else "ours, V1"
    difference = abs(losses["transformers"] - losses[same])
    if difference > (1e-5 if args.dtype == "float32" else 1e-2):
        raise SystemExit(f"The losses of transformers and of {same} differ by {difference}: not the same computation.")


if __name__ == "__main__":
    main()

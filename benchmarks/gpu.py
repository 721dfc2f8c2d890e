"""Everything on one GPU: pretraining of S, B, L and g and finetuning of B, ours and transformers, eager and compiled.

    python benchmarks/gpu.py                               # half an hour on a card with 80 GB; bf16
    python benchmarks/gpu.py --sizes small base --batch_size 16 --output benchmarks/results/gpu.json
    python benchmarks/gpu.py --device cpu --sizes tiny --dtype float32 --batch_size 1 --repeats 1  # does it run?

A row is a step of forward, backward and fused AdamW on a batch that stays on the device: clips per second, the share of
the rate that one large matrix product of the same precision reaches, and the peak memory, weights and optimizer
included. A row that does not fit in memory, or that cannot be compiled, says so. No GPU was at hand when this was
written: it was run on a CPU only, at the tiny size.
"""

import argparse
import gc
import statistics
from collections.abc import Iterator

import torch
from flops import step_macs
from measuring import matmul_rate, save_results, their_config, timed
from pretrain_step import VIDEO_MODELS
from torch import nn
from transformers import VideoMAEForPreTraining, VideoMAEForVideoClassification

from videomae_hf import VideoMAEV2Config, VideoMAEV2ForPreTraining, VideoMAEV2ForVideoClassification, sample_masks
from videomae_hf.models.masking import mask_to_ids, token_counts
from videomae_hf.models.token_selection import select_tokens


TINY = {"hidden_size": 24, "num_hidden_layers": 2, "num_attention_heads": 3, "intermediate_size": 48, "image_size": 32}
TINY |= {"patch_size": 8, "decoder_hidden_size": 16, "decoder_num_attention_heads": 2, "num_frames": 4}
FINETUNING = {"ours": {}, "ours, token_keep 0.5": {"token_keep": 0.5}}


def config_of(size: str, version: int, **fields) -> VideoMAEV2Config:
    if size == "tiny":
        return VideoMAEV2Config.from_size("small", version, **{**TINY, **fields})
    return VideoMAEV2Config.from_size(size, 2 if size == "giant" else version, **fields)


def pretraining_cases(size: str, batch_size: int) -> Iterator[tuple[str, nn.Module, dict]]:
    """(name, model, inputs) on the CPU, one at a time."""
    for name, (version, fields) in VIDEO_MODELS.items():
        if size == "giant" and version == 1:
            continue  # there is no such model
        config = config_of(size, version, **fields)
        masked, decoded = sample_masks(config, batch_size, torch.Generator().manual_seed(0))
        num_visible, num_decoded = token_counts(config)
        inputs = {"visible_ids": mask_to_ids(~masked, num_visible), "decoded_ids": mask_to_ids(decoded, num_decoded)}
        yield name, VideoMAEV2ForPreTraining(config), {"pixel_values": pixels(config, batch_size), **inputs}
    config = config_of(size, 1)
    masked, _ = sample_masks(config, batch_size, torch.Generator().manual_seed(0))
    model = VideoMAEForPreTraining(their_config(config, use_mean_pooling=False))
    yield "transformers", model, {"pixel_values": pixels(config, batch_size), "bool_masked_pos": masked}


def finetuning_cases(size: str, batch_size: int) -> Iterator[tuple[str, nn.Module, dict]]:
    config = config_of(size, 1, num_labels=400, use_mean_pooling=True)
    inputs = {"pixel_values": pixels(config, batch_size), "labels": torch.arange(batch_size) % 400}
    for name, settings in FINETUNING.items():
        model = VideoMAEV2ForVideoClassification(config)
        select_tokens(model, **settings)
        yield name, model, inputs
    yield "transformers", VideoMAEForVideoClassification(their_config(config, num_labels=400)), inputs


def pixels(config: VideoMAEV2Config, batch_size: int) -> torch.Tensor:
    shape = (batch_size, config.num_frames, config.num_channels, *config.image_hw)
    return torch.randn(shape, generator=torch.Generator().manual_seed(0))


def measured(model: nn.Module, inputs: dict, args: argparse.Namespace, *, compiled: bool) -> dict[str, float | str]:
    """Clips per second, share of the matrix rate, and peak memory; or why there are none, under `failed`."""
    dtype, device = getattr(torch, args.dtype), args.device
    width = model.config.hidden_size
    try:
        macs = meta_macs(model, inputs)
        model = model.to(device).train()
        inputs = {name: value.to(device) for name, value in inputs.items()}
        optimizer = torch.optim.AdamW(model.parameters(), lr=1e-5, fused=True)
        forward = torch.compile(model) if compiled else model
        if device == "cuda":
            torch.cuda.reset_peak_memory_stats()

        def step() -> None:
            with torch.autocast(device, dtype=dtype, enabled=dtype != torch.float32):
                loss = forward(**inputs).loss
            loss.backward()
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)

        for _ in range(3 if device == "cuda" else 1):  # warm-up
            step()
        seconds = statistics.median(timed(step, device)[0] for _ in range(args.repeats))
    except torch.OutOfMemoryError:
        return {"failed": "out of memory"}
    except torch._dynamo.exc.TorchDynamoException as error:
        return {"failed": f"cannot be compiled: {type(error).__name__}"}
    rate = matmul_rate(device, dtype, 160 * args.batch_size, width)
    figures = {"seconds": seconds, "clips_per_second": args.batch_size / seconds}
    figures["of_matmul_rate"] = macs / seconds / rate
    if device == "cuda":
        figures["peak_gib"] = torch.cuda.max_memory_allocated() / 2**30
    return figures


def meta_macs(model: nn.Module, inputs: dict) -> float:
    """Multiply-accumulates of a step. transformers' masks need values, so that its models are counted on the CPU."""
    if "bool_masked_pos" in inputs:
        one = {name: value[:1] for name, value in inputs.items()}
        return step_macs(model, one) * len(inputs["pixel_values"])
    with torch.device("meta"):
        copy = type(model)(model.config)
    if getattr(model.base_model, "token_selection", None) is not None:
        select_tokens(copy, token_keep=model.base_model.token_selection.token_keep)
    return step_macs(copy.train(), {name: value.to("meta") for name, value in inputs.items()})


def run(args: argparse.Namespace) -> Iterator[dict]:
    """A row for each size, model and way of execution, as it is measured."""
    kinds = [("pretraining", size, pretraining_cases) for size in args.sizes]
    kinds += [("finetuning", size, finetuning_cases) for size in args.sizes if size in ("base", "tiny")]
    for kind, size, cases in kinds:
        for compiled in (False, True) if args.compile else (False,):
            for name, model, inputs in cases(size, args.batch_size):
                torch.compiler.reset()
                yield {
                    **{"kind": kind, "size": size, "model": name, "compiled": compiled},
                    **measured(model, inputs, args, compiled=compiled),
                }
                del model
                gc.collect()
                if args.device == "cuda":
                    torch.cuda.empty_cache()


def line(row: dict) -> str:
    """A line of the table."""
    start = f"| {row['kind']} | {row['size']} | {row['model']} | {'compiled' if row['compiled'] else 'eager'} | "
    if "failed" in row:
        return f"{start}{row['failed']} | | |"
    memory = f"{row['peak_gib']:.1f} GiB" if "peak_gib" in row else ""
    return f"{start}{row['clips_per_second']:.1f} | {row['of_matmul_rate']:.0%} | {memory} |"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sizes", nargs="+", default=["small", "base", "large", "giant"])
    parser.add_argument("--batch_size", type=int, default=32)
    parser.add_argument("--repeats", type=int, default=10)
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--dtype", default="bfloat16")
    parser.add_argument("--compile", action=argparse.BooleanOptionalAction, default=True, help="also compiled models")
    parser.add_argument("--output", help="JSON file for the results, such as benchmarks/results/gpu.json")
    args = parser.parse_args()
    if args.device == "cuda" and not torch.cuda.is_available():
        raise SystemExit("torch finds no GPU; --device cpu --sizes tiny checks that the benchmark runs.")
    print("| Step | Size | Model | How | Clips/s | Of matmul rate | Peak memory |\n|---|---|---|---|---|---|---|")
    rows = []
    for row in run(args):
        rows.append(row)
        print(line(row), flush=True)
    if args.output:
        save_results(args.output, args.device, vars(args), rows)


if __name__ == "__main__":
    main()

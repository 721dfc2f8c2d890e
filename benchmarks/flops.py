"""Multiply-accumulates of a model by part, forward and backward.

    python benchmarks/flops.py                             # VideoMAE V1 and V2, ViT-B
    python benchmarks/flops.py --size large --decoder_mask_ratio 0.75
    python benchmarks/flops.py --decoder_type cross --decoder_mask_ratio 0.75 --mask_ratio 0.95
    python benchmarks/flops.py --images                    # MAE

Counted by torch.utils.flop_counter while the model runs on the meta device, so that nothing is computed and any size
fits. It counts matrix products, convolutions and attention; norms, activations and optimizer steps are no part of it.
"""

import argparse

import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode, register_flop_formula, sdpa_backward_flop, sdpa_flop

from videomae_hf import VideoMAEV2Config, VideoMAEV2ForPreTraining
from videomae_hf.models.configuration_videomae_v2 import DECODER_TYPES
from videomae_hf.models.masking import token_counts
from videomae_hf.training.step_cost import example_batch, step_macs


# The counter does not know the fused attention of the CPU. Its formulas for the others are wrapped already (get_raw).
register_flop_formula(torch.ops.aten._scaled_dot_product_flash_attention_for_cpu, get_raw=True)(sdpa_flop)
register_flop_formula(torch.ops.aten._scaled_dot_product_flash_attention_for_cpu_backward, get_raw=True)(
    sdpa_backward_flop
)

# Rows of the table: name -> module of a pretraining model
PARTS = {
    "patch projection": "videomae.embeddings.patch_embeddings",
    "encoder": "videomae.encoder",
    "encoder to decoder": "encoder_to_decoder",
    "decoder": "decoder",
}


def forward_macs(model: nn.Module, inputs: dict[str, torch.Tensor]) -> dict[str, float]:
    """Multiply-accumulates of a forward pass for each module by its path, and of the whole model under `""`."""
    with FlopCounterMode(display=False, depth=None) as counter:
        model(**inputs)
    prefix = type(model).__name__
    counts = {name: sum(found.values()) / 2 for name, found in counter.get_flop_counts().items()}
    return {"": counts.pop("Global"), **{name.removeprefix(f"{prefix}."): macs for name, macs in counts.items()}}


def report(name: str, config: VideoMAEV2Config) -> str:
    """Markdown: a row for each part of a pretraining step of one clip."""
    with torch.device("meta"):
        model = VideoMAEV2ForPreTraining(config)
    inputs = example_batch(model, config, 1, "meta")
    macs, both = forward_macs(model, inputs), step_macs(model, inputs)
    visible, decoded = token_counts(config)
    lines = [f"{name}: {config.sequence_length} tokens, {visible} visible, {decoded} decoded", ""]
    lines += ["| Part | GMACs, forward | Share |", "|---|---|---|"]
    for part, module in PARTS.items():
        found = macs[module]
        lines.append(f"| {part} | {found / 1e9:.2f} | {100 * found / macs['']:.1f} % |")
    lines.append(f"| all | {macs[''] / 1e9:.2f} | 100 % |")
    lines.append(f"| all, forward and backward | {both / 1e9:.2f} | |")
    return "\n".join(lines) + "\n"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--size", default="base")
    parser.add_argument("--images", action="store_true", help="MAE instead of VideoMAE")
    parser.add_argument("--mask_ratio", type=float, help="instead of that of the size")
    parser.add_argument("--decoder_mask_ratio", type=float, help="instead of that of the version")
    parser.add_argument("--decoder_type", choices=DECODER_TYPES)
    parser.add_argument("--decoder_mixed_layers", type=int)
    args = parser.parse_args()
    names = ("mask_ratio", "decoder_mask_ratio", "decoder_type", "decoder_mixed_layers")
    fields = {name: getattr(args, name) for name in names if getattr(args, name) is not None}
    if args.images:
        print(report(f"MAE, {args.size}", VideoMAEV2Config.for_images(args.size, **fields)))
        return
    for version in (2,) if args.size == "giant" else (1, 2):
        print(report(f"VideoMAE V{version}, {args.size}", VideoMAEV2Config.from_size(args.size, version, **fields)))


if __name__ == "__main__":
    main()

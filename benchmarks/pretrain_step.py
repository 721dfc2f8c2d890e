"""Time of one pretraining step (forward and backward) against transformers' models, in one interleaved run.

    python benchmarks/pretrain_step.py                    # VideoMAE, ViT-B, CPU time on one thread
    python benchmarks/pretrain_step.py --images --batch_size 16
    python benchmarks/pretrain_step.py --device cuda --dtype bfloat16 --batch_size 32

The same weights, pixels and encoder mask go to all models. Videos: transformers' VideoMAEForPreTraining, ours as V1
(the losses must agree) and ours as V2 with the running-cell decoder mask. Images: transformers' ViTMAEForPreTraining
and ours (the losses must agree). The models take turns, so that a machine whose speed drifts drifts for all; the
speed-up is the median of each turn's ratio to transformers' time in the same turn. Beside it stand its bound, the ratio
of the multiply-accumulates of both (see flops.py), and the share of the rate that one large matrix product reaches.
"""

import argparse
import statistics
import tempfile

import torch
from flops import matmul_rate, step_macs, timed
from torch import nn
from transformers import VideoMAEConfig, VideoMAEForPreTraining, ViTMAEConfig, ViTMAEForPreTraining

from videomae_hf import VideoMAEV2Config, VideoMAEV2ForPreTraining, sample_masks
from videomae_hf.models.masking import mask_to_ids, token_counts


def video_models(size: str) -> dict[str, nn.Module]:
    """transformers' VideoMAE, and ours as V1 and V2 with its weights."""
    ours_v1 = VideoMAEV2Config.from_size(size, version=1, use_mean_pooling=False, head_layer_norm_eps=1e-5)
    ours_v2 = VideoMAEV2Config.from_size(size, version=2, use_mean_pooling=False, head_layer_norm_eps=1e-5)
    shared = {name: getattr(ours_v1, name) for name in VideoMAEConfig().to_dict() if hasattr(ours_v1, name)}
    shared = {name: value for name, value in shared.items() if name not in ("model_type", "architectures", "dtype")}
    theirs = VideoMAEForPreTraining(VideoMAEConfig(**shared))
    models = {"transformers": theirs}
    for name, config in (("ours, V1", ours_v1), ("ours, V2 dual masking", ours_v2)):
        config.decoder_num_hidden_layers = ours_v1.decoder_num_hidden_layers  # equal depth: only the mask differs
        models[name] = VideoMAEV2ForPreTraining(config)
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
    """The inputs of each model: the same pixels and mask, for ours as ids, as our collator passes them."""
    config = models[list(models)[-1]].config
    generator = torch.Generator().manual_seed(0)
    shape = (batch_size, config.num_frames, config.num_channels, *config.image_hw)
    pixel_values = torch.randn(shape, generator=generator)
    masked, decoded = sample_masks(config, batch_size, generator)
    num_visible, num_decoded = token_counts(config)
    ours = {"pixel_values": pixel_values, "visible_ids": mask_to_ids(~masked, num_visible)}
    if config.num_frames == 1:
        # Their model hides the patches of the highest noise.
        theirs = {"pixel_values": pixel_values[:, 0], "noise": masked.float()}  # (B, C, H, W)
        return {"transformers": theirs, "ours": ours}
    return {
        "transformers": {"pixel_values": pixel_values, "bool_masked_pos": masked},
        "ours, V1": ours,
        "ours, V2 dual masking": {**ours, "decoded_ids": mask_to_ids(decoded, num_decoded)},
    }


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


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--size", default="base")
    parser.add_argument("--images", action="store_true", help="MAE instead of VideoMAE")
    parser.add_argument("--batch_size", type=int, default=4)
    parser.add_argument("--repeats", type=int, default=9)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--dtype", default="float32")
    parser.add_argument("--compile", action="store_true", help="compile all models (transformers' VideoMAE breaks)")
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
        models = {name: torch.compile(model) for name, model in models.items()}
    times, losses = measure(models, inputs, args)
    # Tokens of the encoder in a batch, the rows of its matrix products
    rows, width = inputs["transformers"]["pixel_values"].shape[0] * 160, models["transformers"].config.hidden_size
    rate = matmul_rate(args.device, getattr(torch, args.dtype), rows, width)

    kind = "MAE" if args.images else "VideoMAE"
    print(f"{kind}, ViT-{args.size}, batch {args.batch_size}, {args.device}, {args.dtype}, {args.repeats} turns")
    print(f"One matrix product: {rate / 1e9:.0f} GMACs/s\n")
    print("| Model | Loss | GMACs | Median s | Of that rate | Bound | Speed-up | Lowest to highest turn |")
    print("|---|---|---|---|---|---|---|---|")
    for name in models:
        ratios = [theirs / ours for theirs, ours in zip(times["transformers"], times[name])]
        seconds = statistics.median(times[name])
        print(
            f"| {name} | {losses[name]:.6f} | {macs[name] / 1e9:.0f} | {seconds:.3f} | "
            f"{100 * macs[name] / seconds / rate:.0f} % | {macs['transformers'] / macs[name]:.2f}x | "
            f"{statistics.median(ratios):.2f}x | {min(ratios):.2f}x to {max(ratios):.2f}x |"
        )
    same = "ours" if args.images else "ours, V1"
    difference = abs(losses["transformers"] - losses[same])
    if difference > (1e-5 if args.dtype == "float32" else 1e-2):
        raise SystemExit(f"The losses of transformers and of {same} differ by {difference}: not the same computation.")


if __name__ == "__main__":
    main()

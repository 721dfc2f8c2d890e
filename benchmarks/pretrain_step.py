"""Time of one pretraining step (forward and backward) against transformers' VideoMAE, in one interleaved run.

    python benchmarks/pretrain_step.py                    # ViT-B, CPU time on one thread
    python benchmarks/pretrain_step.py --device cuda --dtype bfloat16 --batch_size 32

The same weights, pixels and encoder mask go to three models: transformers' VideoMAEForPreTraining, ours as V1 (the
losses must agree) and ours as V2 with the running-cell decoder mask. The three take turns, so that a machine whose
speed drifts drifts for all; what is reported is each turn's ratio to transformers' time in the same turn.
"""

import argparse
import statistics
import time

import torch
from transformers import VideoMAEConfig, VideoMAEForPreTraining

from videomae_hf import VideoMAEV2Config, VideoMAEV2ForPreTraining, sample_masks
from videomae_hf.models.masking import mask_to_ids, token_counts


def build_models(size: str, device: str, dtype: torch.dtype):
    """transformers' model, and ours as V1 and V2 with its weights."""
    ours_v1 = VideoMAEV2Config.from_size(size, version=1, use_mean_pooling=False, head_layer_norm_eps=1e-5)
    ours_v2 = VideoMAEV2Config.from_size(size, version=2, use_mean_pooling=False, head_layer_norm_eps=1e-5)
    shared = {name: getattr(ours_v1, name) for name in VideoMAEConfig().to_dict() if hasattr(ours_v1, name)}
    shared = {name: value for name, value in shared.items() if name not in ("model_type", "architectures", "dtype")}
    theirs = VideoMAEForPreTraining(VideoMAEConfig(**shared)).to(device)
    models = {"transformers": theirs}
    for name, config in (("ours, V1", ours_v1), ("ours, V2 dual masking", ours_v2)):
        config.decoder_num_hidden_layers = ours_v1.decoder_num_hidden_layers  # equal depth: only the mask differs
        models[name] = VideoMAEV2ForPreTraining(config).to(device)
        models[name].load_state_dict(theirs.state_dict())
    return models


def make_inputs(models, batch_size: int, device: str):
    config = models["ours, V2 dual masking"].config
    generator = torch.Generator().manual_seed(0)
    shape = (batch_size, config.num_frames, config.num_channels, *config.image_hw)
    pixel_values = torch.randn(shape, generator=generator).to(device)
    masked, decoded = (mask.to(device) for mask in sample_masks(config, batch_size, generator))
    num_visible, num_decoded = token_counts(config)
    visible_ids = mask_to_ids(~masked, num_visible)
    return {
        "transformers": {"pixel_values": pixel_values, "bool_masked_pos": masked},
        # ids, as our collator passes them
        "ours, V1": {"pixel_values": pixel_values, "visible_ids": visible_ids},
        "ours, V2 dual masking": {
            "pixel_values": pixel_values,
            "visible_ids": visible_ids,
            "decoded_ids": mask_to_ids(decoded, num_decoded),
        },
    }


def step(model, inputs, dtype: torch.dtype, device: str) -> tuple[float, float]:
    """(seconds, loss) of one step: CPU time of this process, or time on the GPU."""
    model.zero_grad(set_to_none=True)
    if device == "cuda":
        start, end = torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)
        start.record()
    begin = time.process_time()
    with torch.autocast(device, dtype=dtype, enabled=dtype != torch.float32):
        loss = model(**inputs).loss
    loss.backward()
    seconds = time.process_time() - begin
    if device == "cuda":
        end.record()
        torch.cuda.synchronize()
        seconds = start.elapsed_time(end) / 1000
    return seconds, loss.item()


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--size", default="base")
    parser.add_argument("--batch_size", type=int, default=4)
    parser.add_argument("--repeats", type=int, default=9)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--dtype", default="float32")
    parser.add_argument("--compile", action="store_true", help="compile all three (transformers' breaks into 7 graphs)")
    args = parser.parse_args()
    torch.set_num_threads(1)
    torch.manual_seed(0)
    dtype = getattr(torch, args.dtype)
    models = build_models(args.size, args.device, dtype)
    inputs = make_inputs(models, args.batch_size, args.device)
    if args.compile:
        models = {name: torch.compile(model) for name, model in models.items()}

    times, losses = {name: [] for name in models}, {}
    for repeat in range(-1 if args.device == "cpu" else -3, args.repeats):  # negative ones are warm-up
        for name, model in models.items():
            seconds, losses[name] = step(model, inputs[name], dtype, args.device)
            if repeat >= 0:
                times[name].append(seconds)

    print(f"ViT-{args.size}, batch {args.batch_size}, {args.device}, {args.dtype}, {args.repeats} turns")
    print(f"{'model':24}{'loss':>10}{'median s':>10}{'speed-up':>10}   lowest to highest turn")
    for name in models:
        ratios = [theirs / ours for theirs, ours in zip(times["transformers"], times[name])]
        print(
            f"{name:24}{losses[name]:>10.6f}{statistics.median(times[name]):>10.3f}"
            f"{statistics.median(ratios):>9.2f}x   {min(ratios):.2f}x to {max(ratios):.2f}x"
        )
    difference = abs(losses["transformers"] - losses["ours, V1"])
    if difference > (1e-5 if dtype == torch.float32 else 1e-2):
        raise SystemExit(f"The losses of transformers and of our V1 differ by {difference}: not the same computation.")


if __name__ == "__main__":
    main()

"""Continues the pretraining of published weights on your own videos, and says what it gained on held-out ones.

    python examples/continue_pretraining.py [CHECKPOINT VIDEOS HELD_OUT] [--output_dir output/adapted]

CHECKPOINT must have a decoder: MCG-NJU/videomae-base has one, finetuned weights have none. VIDEOS and HELD_OUT are
folders without labels. A tenth of the usual learning rate keeps what the weights know; V2's dual masking
(decoder_mask_ratio) halves the work of the decoder also for weights of V1. Without arguments, a tiny model is continued
on synthesised videos for 20 steps.

`videomae pretrain --checkpoint ...` does the same; `--key value` of it can be given here, too.
"""

import argparse

import stand_ins
import torch

from videomae_hf import VideoMAEV2ForPreTraining
from videomae_hf.checkpoints.opening import checkpoint_processor, open_checkpoint
from videomae_hf.commands import pretrain
from videomae_hf.inference.inputs import find_inputs


parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
parser.add_argument("data", nargs="*", metavar="CHECKPOINT VIDEOS HELD_OUT")
parser.add_argument("--output_dir", default="output/adapted")
args, options = parser.parse_known_args()
if len(args.data) not in (0, 3):
    parser.error("give CHECKPOINT, VIDEOS and HELD_OUT, or none of them")
checkpoint, videos, held_out = args.data or (stand_ins.pretrained(), stand_ins.videos(), stand_ins.videos(2))


def loss_of(name: str, limit: int = 100) -> float:
    """The mean loss of held-out videos, each with the same mask for every model."""
    model, _ = open_checkpoint(name, VideoMAEV2ForPreTraining, decoder_mask_ratio=0.5)
    if model.new_parts:
        raise SystemExit(f"{name} has no {' and '.join(model.new_parts)}; pretraining cannot be continued from it.")
    processor, losses = checkpoint_processor(name, model.eval().config), []
    for seed, one in zip(range(limit), find_inputs([held_out])):
        pixel_values = processor(one.video, return_tensors="pt").pixel_values  # (1, T, C, H, W)
        with torch.inference_mode():
            losses.append(model(pixel_values, seed=seed).loss.item())
    return sum(losses) / len(losses)


before = loss_of(checkpoint)
command = ["--train_data", videos, "--checkpoint", checkpoint, "--output_dir", args.output_dir]
command += ["--decoder_mask_ratio", "0.5", "--adam_beta2", "0.95", "--max_grad_norm", "0"]
if args.data:
    command += ["--base_learning_rate", "1.5e-5", "--num_train_epochs", "100", "--warmup_epochs", "5", "--fit", "auto"]
else:
    command += ["--learning_rate", "1e-3", "--max_steps", "20", "--sampling_rate", "2", "--dataloader_num_workers", "0"]
pretrain.main([*command, *options])
print(f"Loss on held-out videos: {before:.4f} before, {loss_of(args.output_dir):.4f} after")

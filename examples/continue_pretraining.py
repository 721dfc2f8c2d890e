"""Continues the pretraining of published weights on your own videos, and says what it gained on held-out ones.

    python examples/continue_pretraining.py [CHECKPOINT VIDEOS HELD_OUT] [--key value ...]

CHECKPOINT must have a decoder: MCG-NJU/videomae-base has one, finetuned weights have none. VIDEOS and HELD_OUT are
folders without labels. A tenth of the usual learning rate keeps what the weights know, and V2's dual masking halves the
work of the decoder, also for weights of V1. The options are those of `videomae pretrain --checkpoint ...`, which does
the same. Without arguments, a tiny model is continued on synthesised videos for 20 steps.
"""

import sys
from itertools import takewhile

import stand_ins
import torch

from videomae_hf import VideoMAEV2ForPreTraining
from videomae_hf.checkpoints.opening import checkpoint_processor, open_checkpoint
from videomae_hf.commands import pretrain
from videomae_hf.inference.inputs import find_inputs


OUTPUT = "output/adapted"
data = list(takewhile(lambda text: not text.startswith("-"), sys.argv[1:]))
given = sys.argv[1 + len(data) :]
if len(data) not in (0, 3) or {"--help", "--output_dir"} & set(given):
    sys.exit(f"{__doc__}\nThe result is written to {OUTPUT}.")
checkpoint, videos, held_out = data or (stand_ins.pretrained(), stand_ins.videos(), stand_ins.videos(2))


def loss_of(name: str, limit: int = 100) -> float:
    """The mean loss of held-out videos, each with the same masks for every model."""
    model, _ = open_checkpoint(name, VideoMAEV2ForPreTraining, decoder_mask_ratio=0.5)
    if model.new_parts:
        sys.exit(f"{name} lacks {', '.join(model.new_parts)}: take weights that have a decoder.")
    processor, losses = checkpoint_processor(name, model.eval().config), []
    for seed, one in zip(range(limit), find_inputs([held_out])):
        pixel_values = processor(one.video, return_tensors="pt").pixel_values  # (1, T, C, H, W)
        with torch.inference_mode():
            losses.append(model(pixel_values, seed=seed).loss.item())
    return sum(losses) / len(losses)


before = loss_of(checkpoint)
options = ["--train_data", videos, "--checkpoint", checkpoint, "--output_dir", OUTPUT]
options += ["--decoder_mask_ratio", "0.5", "--adam_beta2", "0.95", "--max_grad_norm", "0"]
if data:
    options += ["--base_learning_rate", "1.5e-5", "--num_train_epochs", "100", "--warmup_epochs", "5"]
    options += ["--fit", "auto"] if torch.cuda.is_available() else []  # the batch that fits the memory of the GPU
else:
    options += ["--learning_rate", "1e-3", "--max_steps", "20", "--sampling_rate", "2", "--dataloader_num_workers", "0"]
pretrain.main([*options, *given])
print(f"Loss on held-out videos: {before:.4f} before, {loss_of(OUTPUT):.4f} after")

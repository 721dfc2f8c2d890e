"""Moves from transformers' VideoMAE: its checkpoint here, the same outputs, finetuning, and back.

    python examples/from_transformers.py [CHECKPOINT]

CHECKPOINT is a folder or Hub id of transformers' VideoMAE, such as MCG-NJU/videomae-base-finetuned-kinetics; without it
a tiny one is made. In your own code, replace `VideoMAE` by `VideoMAEV2` in the names of the classes: arguments,
outputs, names of parameters and of the configuration's fields are the same, and existing checkpoints load.
"""

import sys
from pathlib import Path

import stand_ins
import torch
import transformers

from videomae_hf import VideoMAEV2ForVideoClassification
from videomae_hf.commands import convert, finetune


folder = Path("output/from_transformers")
if len(sys.argv) > 1:
    checkpoint = sys.argv[1]
else:
    checkpoint = str(folder / "theirs")
    names = {name: value for name, value in stand_ins.TINY.items() if name != "layer_norm_eps"}
    config = transformers.VideoMAEConfig(**names, **stand_ins.labels())
    transformers.VideoMAEForVideoClassification(config).save_pretrained(checkpoint)

# The same outputs, gradients and attentions for the same weights
theirs = transformers.VideoMAEForVideoClassification.from_pretrained(checkpoint).eval()
ours = VideoMAEV2ForVideoClassification.from_pretrained(checkpoint).eval()
config = theirs.config
shape = (2, config.num_frames, config.num_channels, config.image_size, config.image_size)  # (B, T, C, H, W)
clips = torch.randn(shape, generator=torch.Generator().manual_seed(0))
with torch.inference_mode():
    difference = (theirs(clips).logits - ours(clips).logits).abs().max().item()
print(f"logits differ by at most {difference:.1e}")

# Finetuning with what transformers leaves to you: video loading, augmentation, layer decay, a head for your classes
options = ["--train_data", stand_ins.videos(), "--checkpoint", checkpoint, "--output_dir", str(folder / "ours")]
options += ["--sampling_rate", "2", "--horizontal_flip", "false", "--layer_decay", "0.75", "--learning_rate", "5e-4"]
finetune.main([*options, "--max_steps", "10", "--dataloader_num_workers", "0"])

# And back, for code that knows transformers alone
exported = folder / "exported"
if not exported.exists():
    convert.main([str(folder / "ours"), str(exported), "--to", "transformers"])
model = transformers.VideoMAEForVideoClassification.from_pretrained(exported)
print(f"{exported} is a {type(model).__name__} of {model.config.num_labels} classes")

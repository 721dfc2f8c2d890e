"""Moves weights of the official code (MCG-NJU/VideoMAE, OpenGVLab/VideoMAEv2) here, and back.

    python examples/from_official_weights.py [vit_b_k400.pth] [--key value ...]

The file may be of pretraining or finetuning, of V1 or V2; nothing in it is executed. Its tensors tell width, depth,
classes and decoder. Number of heads, frames and input size follow from the official size that the tensors fit, and are
printed; other models need options, as the tiny one that is made here without an argument. `--id2label names.txt` names
the classes.

`videomae convert` does the same and has these options. What is written loads with `from_pretrained` and in every
command.
"""

import shutil
import sys
from itertools import takewhile
from pathlib import Path

import stand_ins
import torch

from videomae_hf import VideoMAEV2ForVideoClassification
from videomae_hf.checkpoints.opening import open_checkpoint
from videomae_hf.commands import convert
from videomae_hf.models.official_checkpoints import to_official


files = list(takewhile(lambda text: not text.startswith("-"), sys.argv[1:]))
options = sys.argv[1 + len(files) :]
if len(files) > 1 or "--help" in options:
    sys.exit(__doc__)
folder = Path("output/from_official")
shutil.rmtree(folder / "converted", ignore_errors=True)  # of an earlier run
folder.mkdir(parents=True, exist_ok=True)

if not files:  # as the official finetuning saves it
    files = [str(folder / "tiny.pth")]
    model = VideoMAEV2ForVideoClassification.from_pretrained(stand_ins.classifier())
    torch.save({"module": to_official(model.state_dict(), pretraining=False)}, files[0])
    heads, frames, size = (str(stand_ins.TINY[key]) for key in ("num_attention_heads", "num_frames", "image_size"))
    options += ["--num_attention_heads", heads, "--num_frames", frames, "--image_size", size]
convert.main([*files, str(folder / "converted"), *options])

model, _ = open_checkpoint(folder / "converted")
print(f"{type(model).__name__}, {sum(parameter.numel() for parameter in model.parameters()) / 1e6:.1f} M parameters")
print(f"Next: videomae finetune finetune_small --checkpoint {folder / 'converted'} --train_data my_videos/train")

# And back, for the official code
(folder / "back.pth").unlink(missing_ok=True)
convert.main([str(folder / "converted"), str(folder / "back.pth"), "--to", "official"])

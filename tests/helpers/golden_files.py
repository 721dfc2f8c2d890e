"""The files of the official code in tests/data/golden, and how tests read them; see the README there."""

import argparse
from pathlib import Path

import torch
from safetensors.torch import load_file

from videomae_hf.commands import convert
from videomae_hf.data.augmentation.transforms import normalize


GOLDEN = Path(__file__).parents[1] / "data" / "golden"
MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
CHECKPOINTS = ("v1_pretrain", "v2_pretrain_dual", "v1_finetune", "v2_finetune")
# What the tensors do not say; the pretraining files hold the number of frames and their size.
_HEADS = {
    "pretrain": ["--num_attention_heads", "2", "--decoder_num_attention_heads", "2"],
    "finetune": ["--num_attention_heads", "2", "--num_frames", "8", "--image_size", "32"],
}


def converted(name: str, folder: Path) -> Path:
    """An official file through the command line's converter."""
    kind = "pretrain" if "pretrain" in name else "finetune"
    convert.main([str(GOLDEN / f"{name}.pth"), str(folder / name), *_HEADS[kind]])
    return folder / name


def official_weights(name: str) -> dict[str, torch.Tensor]:
    with torch.serialization.safe_globals([argparse.Namespace]):
        file = torch.load(GOLDEN / f"{name}.pth", weights_only=True)
    return file.get("model", file.get("module"))


def tensors(name: str) -> dict[str, torch.Tensor]:
    return load_file(GOLDEN / f"{name}.safetensors")


def clips(name: str) -> torch.Tensor:
    """uint8 (N, T, C, H, W): four of 8 frames, or two of 16 for V1's pretraining."""
    frames = tensors("clips")["clips"]
    return frames.view(2, 16, 3, 32, 32) if "v1_pretrain" in name else frames


def pixel_values(name: str) -> torch.Tensor:
    """float32 (2, T, C, H, W), the clips that the expected values are of."""
    return normalize(clips(name)[:2], MEAN, STD)

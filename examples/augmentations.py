"""Every augmentation of training, as a picture: four frames of a clip for each, which all get the same draw.

    python examples/augmentations.py [VIDEO] [--seed 0] [--out augmentations.png]

Left what recipes are made of, right the fifteen operations of RandAugment at magnitude 7. Without a video: a clip drawn
here; the other clip of Mixup and CutMix always is.
"""

import argparse

import matplotlib
import numpy as np
import torch

from videomae_hf.data.augmentation.mixing import Mixing
from videomae_hf.data.augmentation.rand_augment import OPERATIONS, RandAugment, apply_operation
from videomae_hf.data.augmentation.transforms import (
    color_jitter,
    multi_scale_crop,
    normalize,
    random_erasing,
    random_grayscale,
    random_horizontal_flip,
    random_resized_crop,
    resized_crop,
)
from videomae_hf.data.sources.synthetic import synthesise_video
from videomae_hf.models.video_decoding import read_frames


matplotlib.use("Agg")  # no window
import matplotlib.pyplot as plt  # noqa: E402


MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
SIZE = (128, 128)


def load_clip(video: str | None) -> torch.Tensor:
    """uint8 (4, C, H, W): frames from all over the video, at a height of 160."""
    if video is None:
        frames = torch.from_numpy(
            synthesise_video("clockwise", np.random.default_rng(19), size=160, difficulty="textured")
        )
        return frames[::8].permute(0, 3, 1, 2)  # (T, H, W, C) -> (T, C, H, W)
    frames = read_frames(video, lambda info: np.linspace(0, info.num_frames - 1, 4).round().astype(int).tolist())
    height, width = frames.shape[1:3]
    return resized_crop(frames.permute(0, 3, 1, 2), 0, 0, height, width, (160, round(width * 160 / height)))


def mixed(clip: torch.Tensor, generator: torch.Generator, **options) -> tuple[torch.Tensor, float]:
    """A crop of the clip mixed with a drawn one (T, C, H, W), in [0, 1], and the share of the clip in the labels."""
    other = torch.from_numpy(synthesise_video("left", np.random.default_rng(1), size=SIZE[0], difficulty="textured"))
    clips = torch.stack([random_resized_crop(clip, SIZE, generator, (0.6, 1.0)), other[::8].permute(0, 3, 1, 2)])
    mix = Mixing(num_classes=2, label_smoothing=0.0, **options)
    pixel_values, labels = mix(clips / 255, torch.tensor([0, 1]), generator)
    return pixel_values[0], float(labels[0, 0])


def erased(clip: torch.Tensor, generator: torch.Generator, probability: float) -> torch.Tensor:
    """Erased as a normalised clip and brought back to [0, 1] (T, C, H, W)."""
    pixel_values = random_erasing(normalize(clip, MEAN, STD), generator, probability)
    return (pixel_values * torch.tensor(STD)[:, None, None] + torch.tensor(MEAN)[:, None, None]).clamp(0, 1)


def finetuning(clip: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
    """All that the official finetuning does to one clip, in its order."""
    clip = RandAugment.from_string("rand-m7-n4-mstd0.5-inc1")(clip, generator)
    clip = random_horizontal_flip(random_resized_crop(clip, SIZE, generator), generator)
    return erased(clip, generator, probability=0.25)


def recipe_rows(clip: torch.Tensor, generator: torch.Generator) -> list[tuple[str, torch.Tensor]]:
    # The official alphas are 0.8 and 1: most shares are then near 0 or 1, and there is little to see.
    mixup, mixup_share = mixed(clip, generator, mixup_alpha=8.0, cutmix_alpha=0.0)
    cutmix, cutmix_share = mixed(clip, generator, mixup_alpha=0.0, cutmix_alpha=8.0)
    jitter = {"brightness": 0.4, "contrast": 0.4, "saturation": 0.4, "hue": 0.1}
    return [
        ("original", clip),
        *[("multi-scale crop", multi_scale_crop(clip, SIZE, generator)) for _ in range(2)],
        *[("random resized crop", random_resized_crop(clip, SIZE, generator)) for _ in range(2)],
        ("horizontal flip", random_horizontal_flip(clip, generator, probability=1.0)),
        ("erasing", erased(clip, generator, probability=1.0)),
        *[("colour jitter", color_jitter(clip, generator, **jitter)) for _ in range(2)],
        ("grayscale", random_grayscale(clip, generator, probability=1.0)),
        (f"Mixup, label {mixup_share:.2f}", mixup),
        (f"CutMix, label {cutmix_share:.2f}", cutmix),
        *[("official finetuning", finetuning(clip, generator)) for _ in range(3)],
    ]


def operation_rows(clip: torch.Tensor, generator: torch.Generator) -> list[tuple[str, torch.Tensor]]:
    rows = []
    for name in OPERATIONS:
        amount = RandAugment(magnitude=7, increasing=True).draw_amount(name, generator)
        rows.append((f"{name} {amount:.4g}" if amount else name, apply_operation(clip, name, amount)))
    return rows


def draw(blocks: list[list[tuple[str, torch.Tensor]]]) -> plt.Figure:
    """Blocks of rows side by side, each row a clip with its name on the left."""
    figure, grid = plt.subplots(
        len(blocks[0]), 4 * len(blocks) + 1, figsize=(13, 18), width_ratios=[1] * 4 + [1.5] + [1] * 4
    )
    for axes in grid.flat:
        axes.set_axis_off()
    for number, rows in enumerate(blocks):
        for cells, (name, clip) in zip(grid[:, 5 * number : 5 * number + 4], rows):
            cells[0].text(-0.08, 0.5, name, ha="right", va="center", transform=cells[0].transAxes, fontsize=11)
            for axes, frame in zip(cells, clip.permute(0, 2, 3, 1)):  # (T, C, H, W) -> (T, H, W, C)
                axes.imshow(frame.numpy())
    figure.subplots_adjust(left=0.15, right=0.995, bottom=0.005, top=0.995, wspace=0.04, hspace=0.06)
    return figure


parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
parser.add_argument("video", nargs="?")
parser.add_argument("--seed", type=int, default=0)
parser.add_argument("--out", default="augmentations.png")
args = parser.parse_args()

clip, generator = load_clip(args.video), torch.Generator().manual_seed(args.seed)
blocks = [recipe_rows(clip, generator), operation_rows(clip, generator)]
draw(blocks).savefig(args.out, dpi=80)
print(f"{args.out}: {sum(map(len, blocks))} rows of {len(clip)} frames")

# Copyright 2026 The videomae_hf authors. Licensed under the Apache License, Version 2.0.
"""Scores a model on the clips as they are and on changed ones, which show what it relies on.

Each video is decoded once. The changes are those of its clips, with a random generator of its own, so that neither the
number of workers nor the size of a batch changes a score.
"""

import math
from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np
import torch
from torch.utils.data import DataLoader
from tqdm import tqdm

from ..data.clips import EvalTransform
from ..data.sources.records import VideoRecord
from ..data.video_dataset import ClipCollator, VideoDataset, generator_of
from ..models.modeling_videomae_v2 import VideoMAEV2ForVideoClassification


PLAIN = "plain"  # the clips as they are
NOISE = 0.1  # standard deviation, as a part of the range of pixels
OCCLUDED = 0.25  # part of the area of a frame
_GREY = 0.5


class Perturbation(NamedTuple):
    """A change of clips.

    Args:
        title: the name that people read.
        order: called with the number of frames and a generator; returns the frames of the changed clip.
        pixels: called with clips (.., T, C, H, W) in [0, 1] and a generator; returns the changed ones.
    """

    title: str
    order: Callable[[int, torch.Generator], torch.Tensor] | None = None
    pixels: Callable[[torch.Tensor, torch.Generator], torch.Tensor] | None = None


def perturbed(
    name: str, clips: torch.Tensor, generator: torch.Generator, mean: Sequence[float], std: Sequence[float]
) -> torch.Tensor:
    """The clips of a video after the change of this name.

    Args:
        name: a key of `PERTURBATIONS`.
        clips: normalised pixels ([views,] T, C, H, W).
        generator: source of randomness; all views are changed alike.
        mean, std: the normalisation of the pixels.
    """
    change = PERTURBATIONS[name]
    if change.order is not None:
        return clips.index_select(-4, change.order(clips.shape[-4], generator))
    mean, std = (torch.tensor(values)[:, None, None] for values in (mean, std))  # (C, 1, 1)
    pixels = change.pixels((clips * std + mean).clamp(0, 1), generator)
    return (pixels.clamp(0, 1) - mean) / std


def _noisy(pixels: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
    return pixels + NOISE * torch.randn(pixels.shape[-4:], generator=generator)


def _occluded(pixels: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
    """With a grey square at a random place, the same in all frames."""
    height, width = pixels.shape[-2:]
    side = round(math.sqrt(OCCLUDED * height * width))
    down, across = min(side, height), min(side, width)
    top = int(torch.randint(height - down + 1, (), generator=generator))
    left = int(torch.randint(width - across + 1, (), generator=generator))
    pixels = pixels.clone()
    pixels[..., top : top + down, left : left + across] = _GREY
    return pixels


PERTURBATIONS = {
    "shuffled": Perturbation("frames shuffled", lambda frames, generator: torch.randperm(frames, generator=generator)),
    "reversed": Perturbation("frames reversed", lambda frames, _: torch.arange(frames).flip(0)),
    "first_frame": Perturbation("first frame repeated", lambda frames, _: torch.zeros(frames, dtype=torch.int64)),
    "half_rate": Perturbation("every second frame, each twice", lambda frames, _: torch.arange(frames) // 2 * 2),
    "noise": Perturbation(f"noise, deviation {NOISE:.0%} of the range of pixels", pixels=_noisy),
    "occluded": Perturbation(f"a grey square of {OCCLUDED:.0%} of the frame", pixels=_occluded),
}


def usable_perturbations(num_frames: int) -> list[str]:
    """The changes that make sense for clips of so many frames; an image has no order."""
    return [name for name, change in PERTURBATIONS.items() if num_frames > 1 or change.order is None]


@torch.inference_mode()
def score_perturbed(
    model: VideoMAEV2ForVideoClassification,
    records: Sequence[VideoRecord],
    transform: EvalTransform,
    names: Sequence[str],
    *,
    batch_size: int = 8,
    workers: int = 0,
) -> tuple[dict[str, np.ndarray], np.ndarray]:
    """Scores videos as they are and after each change.

    Args:
        model: a finetuned model, on its device; set to evaluation mode.
        records: the videos, with labels.
        transform: prepares the views of a video.
        names: keys of `PERTURBATIONS`.
        batch_size: videos of one forward pass.
        workers: processes that decode; 0 decodes in this one.

    Returns:
        Logits (N, num_labels) by name, `PLAIN` included, and labels with markers for unreadable videos.
    """
    config = model.eval().config
    dataset = VideoDataset(records, transform, replace_bad=False)
    loader = DataLoader(dataset, batch_size, num_workers=workers, collate_fn=ClipCollator(config))
    logits, labels, first = {name: [] for name in (PLAIN, *names)}, [], 0
    for batch in tqdm(loader, "Scoring", unit="batch", disable=None):
        clips = batch["pixel_values"].float()  # (B, [views,] T, C, H, W)
        labels.append(batch["labels"])
        for name, scores in logits.items():
            changed = clips if name == PLAIN else torch.stack(
                [perturbed(name, clip, _generator(name, first + place), config.image_mean, config.image_std)
                 for place, clip in enumerate(clips)]
            )  # fmt: skip
            scores.append(model(changed.to(model.device)).logits.float().cpu())
        first += len(clips)
    return {name: torch.cat(scores).numpy() for name, scores in logits.items()}, torch.cat(labels).numpy()


def _generator(name: str, video: int) -> torch.Generator:
    """The generator of a video for a change, whichever others are asked for."""
    return generator_of(video, list(PERTURBATIONS).index(name))

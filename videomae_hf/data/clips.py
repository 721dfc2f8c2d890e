# Copyright 2026 The videomae_hf authors. Licensed under the Apache License, Version 2.0.
"""Clip loaders: from a sample to what the model takes, one for pretraining, finetuning and evaluation each.

Every loader is called with a `Sample` and the `torch.Generator` of this sample. It gives a dictionary, or, with
`num_sample` > 1 (repeated augmentation), a list of that many: views of the same frames, each with a crop, an
augmentation and masks of its own, of which each becomes an item of the batch. In training each says its `path`.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch

from ..configuration_videomae_v2 import VideoMAEV2Config
from ..frame_sampling import check_short_video, constant_rate, random_clip_indices
from ..image_processing_videomae_v2 import VideoMAEV2ImageProcessor
from ..masking import draw_masks, mask_to_ids, token_counts
from ..video_decoding import VideoInfo, read_frames
from .rand_augment import RandAugment
from .records import Sample
from .transforms import (
    color_jitter,
    multi_scale_crop,
    random_grayscale,
    random_horizontal_flip,
    random_resized_crop,
)


@dataclass
class ClipSampling:
    """How training takes a clip from a video; see `random_clip_indices` and `read_frames`."""

    num_frames: int
    frame_sampling: str = "dense"
    sampling_rate: float = 4
    fps: float | None = None
    short_video: str = "repeat_last"
    official_sampling: bool = False
    video_backend: str = "auto"
    square_pixels: bool = True
    frame_template: str | None = None  # names the images of a video that is a folder of them

    def __post_init__(self):
        if self.frame_sampling not in ("dense", "uniform"):
            raise ValueError(f"frame_sampling={self.frame_sampling!r} is unknown; choose dense or uniform.")
        check_short_video(self.short_video, self.official_sampling)
        for name in ("sampling_rate", "fps"):
            if getattr(self, name) is not None and getattr(self, name) <= 0:
                raise ValueError(f"{name}={getattr(self, name)} must be positive.")

    def random_clip(self, sample: Sample, generator: torch.Generator, *, pretraining: bool = False) -> torch.Tensor:
        """uint8 (T, C, H, W): a window at a random place, or a random frame of each segment ("uniform").

        `pretraining` matters to `official_sampling` alone, see `random_clip_indices`.
        """

        def indices(info: VideoInfo) -> list[int]:
            frames, rate = range(info.num_frames), self.sampling_rate
            if self.fps is not None and self.frame_sampling == "dense":
                frames, rate = constant_rate(info.num_frames, info.fps, info.timestamps, self.fps)
            clip = random_clip_indices(
                len(frames),
                num_frames=self.num_frames,
                frame_sampling=self.frame_sampling,
                sampling_rate=rate,
                short_video=self.short_video,
                official_sampling=self.official_sampling,
                pretraining=pretraining,
                generator=generator,
            )
            return [int(frames[index]) for index in clip]

        frames = read_frames(sample.video(self.frame_template), indices, self.video_backend, self.square_pixels)
        return frames.permute(0, 3, 1, 2)  # (T, H, W, C) -> (T, C, H, W)

    def span(self) -> float | None:
        """What a dense clip reaches over: frames, or seconds with `fps`; None for uniform clips."""
        if self.frame_sampling == "uniform":
            return None
        steps = self.num_frames - 1
        return steps * self.sampling_rate + 1 if self.fps is None else steps / self.fps


@dataclass
class PretrainingClips:
    """Clip loader of pretraining: multi-scale crop, no flip, and the masks as token ids.

    Args:
        config: of the model.
        sampling: one, or one for each source of the samples.
        num_sample: views of a clip; V2's recipes take 4.
    """

    config: VideoMAEV2Config
    sampling: ClipSampling | Sequence[ClipSampling]
    num_sample: int = 1

    def __call__(self, sample: Sample, generator: torch.Generator) -> dict | list[dict]:
        frames = _sampling_of(sample, self.sampling).random_clip(sample, generator, pretraining=True)
        return _views(self.num_sample, lambda: {**self._view(frames, generator), "path": sample.path})

    def _view(self, frames: torch.Tensor, generator: torch.Generator) -> dict[str, torch.Tensor]:
        clip = multi_scale_crop(frames, self.config.image_hw, generator)
        masked, decoded = draw_masks(self.config, 1, generator)
        num_visible, num_decoded = token_counts(self.config)
        return {
            "pixel_values": clip,
            "visible_ids": mask_to_ids(~masked, num_visible)[0],
            "decoded_ids": mask_to_ids(decoded, num_decoded)[0],
        }


@dataclass
class TrainingClips:
    """Clip loader of finetuning, in the official order: RandAugment on whole frames, random resized crop, flip.

    Random erasing and mixing, which come last, need normalised clips and are done by the collator; `seed` in an item is
    for them.

    Args:
        config: of the model.
        sampling: one, or one for each source of the samples.
        crop_scale: part of the area that is cropped, from and to.
        horizontal_flip: mirror half of the clips.
        rand_augment: policy such as `"rand-m7-n4-mstd0.5-inc1"`, the official one; None for none.
        color_jitter: how much brightness, contrast and saturation change; the official code has the option and does
            not use it.
        grayscale: part of the clips that lose their colours; not in the official code.
        num_sample: views of a clip; the official recipes take 2.
    """

    config: VideoMAEV2Config
    sampling: ClipSampling | Sequence[ClipSampling]
    crop_scale: tuple[float, float] = (0.08, 1.0)
    horizontal_flip: bool = True
    rand_augment: str | None = None
    color_jitter: float = 0.0
    grayscale: float = 0.0
    num_sample: int = 1

    def __post_init__(self):
        self._augment = RandAugment.from_string(self.rand_augment) if self.rand_augment else None

    def __call__(self, sample: Sample, generator: torch.Generator) -> dict | list[dict]:
        frames = _sampling_of(sample, self.sampling).random_clip(sample, generator)
        labels, more = _labels(sample, self.config.num_labels), {"path": sample.path}
        if labels is not None:  # a student may learn from its teacher alone
            more["labels"] = labels
        return _views(self.num_sample, lambda: {**self._view(frames, generator), **more})

    def _view(self, frames: torch.Tensor, generator: torch.Generator) -> dict:
        if self._augment is not None:
            frames = self._augment(frames, generator)
        clip = random_resized_crop(frames, self.config.image_hw, generator, scale=self.crop_scale)
        if self.horizontal_flip:
            clip = random_horizontal_flip(clip, generator)
        if self.color_jitter > 0:
            amount = self.color_jitter
            clip = color_jitter(clip, generator, brightness=amount, contrast=amount, saturation=amount)
        if self.grayscale > 0:
            clip = random_grayscale(clip, generator, self.grayscale)
        return {"pixel_values": clip, "seed": int(torch.randint(2**62, (), generator=generator))}


@dataclass
class EvaluationViews:
    """Clip loader of evaluation: what the image processor makes of the video, all views of it."""

    processor: VideoMAEV2ImageProcessor
    num_clips: int = 1
    num_crops: int = 1
    num_labels: int | None = None  # for samples with several labels
    frame_template: str | None = None
    shuffle_frames: bool = False  # in each view, to see how much a model lives on motion

    def __call__(self, sample: Sample, generator: torch.Generator) -> dict:
        options = {"num_clips": self.num_clips, "num_crops": self.num_crops, "return_tensors": "pt"}
        # ([views,] T, C, H, W)
        pixel_values = self.processor(sample.video(self.frame_template), **options).pixel_values[0]
        if self.shuffle_frames:
            order = torch.randperm(pixel_values.shape[-4], generator=generator)
            pixel_values = pixel_values.index_select(-4, order)
        return {"pixel_values": pixel_values, "labels": _labels(sample, self.num_labels)}


def _sampling_of(sample: Sample, sampling: ClipSampling | Sequence[ClipSampling]) -> ClipSampling:
    return sampling if isinstance(sampling, ClipSampling) else sampling[sample.source]


def _views(num_sample: int, draw: Callable[[], dict]) -> dict | list[dict]:
    return draw() if num_sample == 1 else [draw() for _ in range(num_sample)]


def _labels(sample: Sample, num_labels: int | None) -> int | torch.Tensor | None:
    """The class number, or float32 (num_labels,): the targets of regression; of several labels a video 0 and 1."""
    if sample.targets is not None:
        return torch.tensor(sample.targets)
    if not isinstance(sample.label, tuple):
        return sample.label
    labels = torch.zeros(num_labels)
    labels[list(sample.label)] = 1.0
    return labels

# Copyright 2026 The videomae_hf authors. Licensed under the Apache License, Version 2.0.
"""Transforms from a video record to the inputs of the model, for pretraining, finetuning and evaluation.

Each transform is called with a `VideoRecord` and the `torch.Generator` of this item, and returns a dictionary. With
`num_sample` > 1 (repeated augmentation) it returns a list of as many dictionaries: views of the same frames, each with
its own crop, augmentation and masks. Each view becomes an item of the batch. Training items include their `path`.

In training, all random parameters of the views are sampled once the size of the frames is known, and then applied to
the frames as they are decoded, a few at a time: a clip of a large video is never in memory at full size.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial

import torch

from ..labels import label_of
from ..models.configuration_videomae_v2 import VideoMAEV2Config
from ..models.frame_sampling import FrameSampling, check_short_video, constant_rate, random_clip_indices
from ..models.image_processing_videomae_v2 import VideoMAEV2ImageProcessor
from ..models.masking import mask_to_ids, sample_image_ids, sample_masks, token_counts
from ..models.video_decoding import MAX_PIXELS, VideoInfo, check_template, read_frames
from ..settings.run import Run
from .augmentation.rand_augment import RandAugment, apply_operations
from .augmentation.transforms import (
    MAE_CROP_SCALE,
    Box,
    adjust_colors,
    check_crops,
    cropped,
    multi_scale_box,
    random_float,
    random_resized_box,
    resized,
    sample_color_jitter,
)
from .sources.records import VideoRecord


@dataclass
class ClipSampler:
    """Samples training clips from videos; the fields are those of `FrameSampling` and `read_frames`."""

    num_frames: int
    frame_sampling: str = "dense"
    sampling_rate: float = 4
    fps: float | None = None
    short_video: str = "repeat_last"
    official_sampling: bool = False
    video_backend: str = "auto"
    square_pixels: bool = True
    frame_template: str | None = None  # pattern of the file names in a folder of images
    max_pixels: int | None = MAX_PIXELS
    num_channels: int = 3  # of the model, like num_frames
    # Of images among videos (OmniMAE): the ratio of their masks, and how often their frame is repeated, to one tubelet
    image_mask_ratio: float | None = None
    repeats: int = 1

    def __post_init__(self) -> None:
        check_template(self.frame_template)
        if self.frame_sampling not in ("dense", "uniform"):
            raise ValueError(f"frame_sampling={self.frame_sampling!r} is unknown; choose dense or uniform.")
        check_short_video(self.short_video, official_sampling=self.official_sampling)
        for name in ("sampling_rate", "fps", "max_pixels"):
            if getattr(self, name) is not None and getattr(self, name) <= 0:
                raise ValueError(f"{name}={getattr(self, name)} must be positive.")

    def random_clip(
        self,
        sample: VideoRecord,
        generator: torch.Generator,
        transform: Callable[[torch.Tensor], torch.Tensor] | None = None,
        *,
        pretraining: bool = False,
    ) -> torch.Tensor:
        """Reads a clip, uint8 (T, C, H, W): a window at a random position, or a random frame per segment ("uniform").

        `transform` maps several frames, uint8 (n, C, H, W), to a tensor (n, ...), see `read_frames`; the clip is then
        (T, ...). `pretraining` is only used with `official_sampling`, see `random_clip_indices`.
        """

        def indices(info: VideoInfo) -> list[int]:
            # A single frame has no distance to others, and any frame may be it.
            frames, rate = range(info.num_frames), self.sampling_rate if self.num_frames > 1 else 1
            if self.fps is not None and self.frame_sampling == "dense" and self.num_frames > 1:
                frames, rate = constant_rate(info.num_frames, info.fps, info.timestamps, self.fps)
            rule = (self.num_frames, self.frame_sampling, rate, self.short_video, self.official_sampling)
            clip = random_clip_indices(len(frames), FrameSampling(*rule), generator, pretraining=pretraining)
            return [int(frames[index]) for index in clip]

        return self.read_clip(sample, indices, transform).repeat_interleave(self.repeats, dim=0)

    def read_clip(
        self,
        sample: VideoRecord,
        indices: Callable[[VideoInfo], list[int]],
        transform: Callable[[torch.Tensor], torch.Tensor] | None = None,
    ) -> torch.Tensor:
        """Reads a clip of the frames that `indices` returns; the rest is as in `random_clip`."""

        def channels_first(frames: torch.Tensor) -> torch.Tensor:
            frames = frames.permute(0, 3, 1, 2)  # (n, H, W, C) -> (n, C, H, W)
            return frames if transform is None else transform(frames)

        return self.read(sample, indices, channels_first)

    def read(self, sample: VideoRecord, indices: Callable, transform: Callable | None = None) -> torch.Tensor:
        """Reads frames of a record, see `read_frames`."""
        return read_frames(
            sample.video(self.frame_template),
            indices,
            self.video_backend,
            square_pixels=self.square_pixels,
            transform=transform,
            num_channels=self.num_channels,
            max_pixels=self.max_pixels,
        )

    def span(self) -> float | None:
        """The extent of a dense clip, in frames, or in seconds with `fps`; None for uniform clips."""
        if self.frame_sampling == "uniform":
            return None
        steps = self.num_frames - 1
        return steps * self.sampling_rate + 1 if self.fps is None else steps / self.fps


@dataclass
class PretrainTransform:
    """The transform of pretraining: a crop, and masks as token ids.

    Args:
        config: configuration of the model.
        sampling: a clip sampler, or one for each source of the records.
        num_sample: number of views per clip; V2's recipes use 4.
        crop_scale: smallest and largest area of a random resized crop (MAE); None is a multi-scale crop (VideoMAE).
        flip: flip half of the clips horizontally.
        interpolation: `"bilinear"` or `"bicubic"`, for random resized crops.
    """

    config: VideoMAEV2Config
    sampling: ClipSampler | Sequence[ClipSampler]
    num_sample: int = 1
    crop_scale: tuple[float, float] | None = None
    flip: bool = False
    interpolation: str = "bilinear"

    def __post_init__(self) -> None:
        check_crops(self.crop_scale or MAE_CROP_SCALE, (3 / 4, 4 / 3), self.interpolation)

    def __call__(self, sample: VideoRecord, generator: torch.Generator) -> dict | list[dict]:
        sampling = sampling_of(sample, self.sampling)
        sample_view = self._sample_view
        if sampling.image_mask_ratio is not None:
            sample_view = partial(self._sample_image, ratio=sampling.image_mask_ratio)
        views = _Views(self.num_sample, lambda height, width: sample_view(height, width, generator))
        clip = sampling.random_clip(sample, generator, views, pretraining=True)
        return views.items(clip, {"path": sample.path})

    def _sample_image(self, height: int, width: int, generator: torch.Generator, ratio: float) -> "_View":
        """Samples a view of an image among videos: the crop of MAE, a flip, and masks of the first slice."""
        box = random_resized_box(height, width, generator, MAE_CROP_SCALE)
        flip = random_float(0, 1, generator) < 0.5
        visible, decoded = sample_image_ids(self.config, 1, ratio, generator)
        ids = {"visible_ids": visible[0], "decoded_ids": decoded[0]}
        return _View(box, self.config.image_hw, flip=flip, interpolation="bicubic", more=ids)

    def _sample_view(self, height: int, width: int, generator: torch.Generator) -> "_View":
        """Samples a view of frames of this size: its crop box and its masks."""
        size = self.config.image_hw
        if self.crop_scale is None:
            box = multi_scale_box(height, width, size, generator)
        else:
            box = random_resized_box(height, width, generator, self.crop_scale)
        flip = self.flip and random_float(0, 1, generator) < 0.5
        masked, decoded = sample_masks(self.config, 1, generator)
        num_visible, num_decoded = token_counts(self.config)
        ids = {"visible_ids": mask_to_ids(~masked, num_visible)[0], "decoded_ids": mask_to_ids(decoded, num_decoded)[0]}
        return _View(box, size, flip=flip, interpolation=self.interpolation, more=ids)


@dataclass
class FinetuneTransform:
    """The transform of finetuning, in the official order: RandAugment on whole frames, random resized crop, flip.

    For images it is that of MAE (timm): random resized crop, flip, and RandAugment of the crop.

    Random erasing and mixing follow, but need normalised clips; the collator applies them with the `seed` of each item.

    Args:
        config: configuration of the model.
        sampling: a clip sampler, or one for each source of the records.
        crop_scale: smallest and largest area of the crop, as fractions of the frame.
        horizontal_flip: flip half of the clips.
        rand_augment: policy of RandAugment; the official one is `"rand-m7-n4-mstd0.5-inc1"`. None disables it.
        color_jitter: strength of random changes in brightness, contrast and saturation; the official code has this
            option but does not use it.
        grayscale: probability that a clip is converted to grayscale; not in the official code.
        num_sample: number of views per clip; the official recipes use 2.
        antialias: antialias crops that are downscaled; the official code does not.
        crop_ratio: smallest and largest width / height of the crop.
        interpolation: `"bilinear"` or `"bicubic"`.
    """

    config: VideoMAEV2Config
    sampling: ClipSampler | Sequence[ClipSampler]
    crop_scale: tuple[float, float] = (0.08, 1.0)
    horizontal_flip: bool = True
    rand_augment: str | None = None
    color_jitter: float = 0.0
    grayscale: float = 0.0
    num_sample: int = 1
    antialias: bool = True
    crop_ratio: tuple[float, float] = (3 / 4, 4 / 3)
    interpolation: str = "bilinear"

    def __post_init__(self) -> None:
        check_crops(self.crop_scale, self.crop_ratio, self.interpolation)
        self._augment = RandAugment.from_string(self.rand_augment) if self.rand_augment else None

    def __call__(self, sample: VideoRecord, generator: torch.Generator) -> dict | list[dict]:
        sampling = sampling_of(sample, self.sampling)
        return self.item(sample, generator, lambda views: sampling.random_clip(sample, generator, views))

    def item(
        self, sample: VideoRecord, generator: torch.Generator, read: Callable[[Callable], torch.Tensor]
    ) -> dict | list[dict]:
        """The item of a clip, or with `num_sample` > 1 a list; `read` reads it, given the transform of its frames."""
        views = _Views(self.num_sample, lambda height, width: self._sample_view(height, width, generator))
        clip = read(views)  # (T, num_sample, C, height, width)
        labels, more = label_of(sample, self.config.num_labels), {"path": sample.path}
        if labels is not None:  # distillation may do without labels
            more["labels"] = labels
        return views.items(clip, more)

    def _sample_view(self, height: int, width: int, generator: torch.Generator) -> "_View":
        """Samples all random parameters of a view of frames of this size."""
        operations = self._augment.sample_operations(generator) if self._augment is not None else []
        box = random_resized_box(height, width, generator, self.crop_scale, self.crop_ratio)
        flip = self.horizontal_flip and random_float(0, 1, generator) < 0.5
        colors, amount = [], self.color_jitter
        if amount > 0:
            colors = sample_color_jitter(generator, brightness=amount, contrast=amount, saturation=amount)
        if self.grayscale > 0 and random_float(0, 1, generator) < self.grayscale:
            colors.append(("saturation", 0.0))
        seed = int(torch.randint(2**62, (), generator=generator))
        return _View(
            box,
            self.config.image_hw,
            operations,
            flip=flip,
            colors=colors,
            antialias=self.antialias,
            interpolation=self.interpolation,
            crop_first=self.config.num_frames == 1,
            more={"seed": seed},
        )


@dataclass
class _View:
    """One view of a clip, with all of its random parameters; it transforms every frame of the clip in the same way."""

    box: Box
    size: tuple[int, int]
    operations: Sequence[tuple[str, float]] = ()
    flip: bool = False
    colors: Sequence[tuple[str, float]] = ()
    antialias: bool = True
    interpolation: str = "bilinear"
    crop_first: bool = False  # before the operations
    more: dict = field(default_factory=dict)  # other entries of its item

    def __call__(self, frames: torch.Tensor) -> torch.Tensor:
        """uint8 (n, C, H, W) -> (n, C, *size)"""
        if not self.crop_first:
            frames = apply_operations(frames, self.operations)
        frames = cropped(frames, *self.box)
        frames = resized(frames, self.size, antialias=self.antialias, interpolation=self.interpolation)
        frames = frames.flip(-1) if self.flip else frames
        if self.crop_first:
            frames = apply_operations(frames, self.operations)
        return adjust_colors(frames, self.colors)


class _Views:
    """The views of one clip, sampled when the size of the frames is known, and applied to all of its frames."""

    def __init__(self, number: int, sample_view: Callable[[int, int], _View]) -> None:
        self.number, self.sample_view = number, sample_view
        self.size, self.views = None, []

    def __call__(self, frames: torch.Tensor) -> torch.Tensor:
        """uint8 (n, C, H, W) -> (n, number, C, height, width)"""
        if self.size != frames.shape[-2:]:
            self.size = frames.shape[-2:]
            self.views = [self.sample_view(*self.size) for _ in range(self.number)]
        return torch.stack([view(frames) for view in self.views], dim=1)

    def items(self, clip: torch.Tensor, more: dict) -> dict | list[dict]:
        """(T, number, C, height, width) -> an item, or a list of `number` items."""
        pixels = clip.unbind(dim=1)  # (T, C, height, width) each
        items = [{"pixel_values": one, **view.more, **more} for one, view in zip(pixels, self.views)]
        return items[0] if self.number == 1 else items


@dataclass
class EvalTransform:
    """The transform of evaluation: all views of a video, prepared by the image processor."""

    processor: VideoMAEV2ImageProcessor
    num_clips: int = 1
    num_crops: int = 1
    num_labels: int | None = None  # for records with several labels
    frame_template: str | None = None
    shuffle_frames: bool = False  # in each view, to measure how much the model relies on motion

    def __call__(self, sample: VideoRecord, generator: torch.Generator) -> dict:
        options = {"num_clips": self.num_clips, "num_crops": self.num_crops, "return_tensors": "pt"}
        # ([views,] T, C, H, W)
        pixel_values = self.processor(sample.video(self.frame_template), **options).pixel_values[0]
        if self.shuffle_frames:
            order = torch.randperm(pixel_values.shape[-4], generator=generator)
            pixel_values = pixel_values.index_select(-4, order)
        return {"pixel_values": pixel_values, "labels": label_of(sample, self.num_labels)}


def sampling_of(sample: VideoRecord, sampling: ClipSampler | Sequence[ClipSampler]) -> ClipSampler:
    """The clip sampler of the source of a record."""
    return sampling if isinstance(sampling, ClipSampler) else sampling[sample.source]


def pretrain_transform(
    run: Run, config: VideoMAEV2Config, sampling: ClipSampler | Sequence[ClipSampler]
) -> PretrainTransform:
    """The transform of pretraining with the settings of a run; by default the crops are V1's for videos, MAE's for
    images."""
    settings, of_images = run.pretraining, config.num_frames == 1
    return PretrainTransform(
        config,
        sampling,
        run.clips.num_sample,
        crop_scale=tuple(settings.pretrain_crop_scale) or (MAE_CROP_SCALE if of_images else None),
        flip=of_images if settings.pretrain_flip is None else settings.pretrain_flip,
        interpolation=interpolation_of(run, config),
    )


def interpolation_of(run: Run, config: VideoMAEV2Config) -> str:
    """How training crops are resized: as set, or bicubic for images (MAE), and bilinear for videos (VideoMAE)."""
    return run.clips.interpolation or ("bicubic" if config.num_frames == 1 else "bilinear")


def finetune_transform(run: Run, config: VideoMAEV2Config, samplers: Sequence["ClipSampler"]) -> "FinetuneTransform":
    """The transform of finetuning with the settings of a run."""
    settings = run.augmentation
    return FinetuneTransform(
        config,
        samplers,
        crop_scale=tuple(settings.crop_scale),
        horizontal_flip=settings.horizontal_flip,
        rand_augment=settings.rand_augment,
        color_jitter=settings.color_jitter,
        grayscale=settings.grayscale,
        num_sample=run.clips.num_sample,
        antialias=run.clips.antialias is not False,
        crop_ratio=tuple(settings.crop_ratio),
        interpolation=interpolation_of(run, config),
    )

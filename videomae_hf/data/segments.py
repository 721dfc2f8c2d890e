# Copyright 2026 The videomae_hf authors. Licensed under the Apache License, Version 2.0.
"""Clips from equal segments of a video, as V-JEPA 2 samples them for its probes.

The rule is that of facebookresearch/vjepa2, `src/datasets/video_dataset.py`, with `allow_clip_overlap`; augmentation
follows its `evals/video_classification_frozen/utils.py`. All clips of a video are made in one item, each with a crop,
RandAugment and random erasing of its own.

Difference: in evaluation, the source samples the window of a segment at random as in training; here it is the middle
one, so that a score can be repeated. In training, the source flips no clip, normalises before it crops and works on
floats; the crops here are rounded to uint8, as in finetuning.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from ..models.image_processing_videomae_v2 import VideoMAEV2ImageProcessor
from ..models.video_decoding import VideoInfo
from .clips import FinetuneTransform, sampling_of
from .sources.records import VideoRecord
from .video_dataset import generator_of


# Augmentation of training clips in V-JEPA 2's probes
RAND_AUGMENT = "rand-m7-n4-mstd0.5-inc1"
CROP_SCALE = (0.08, 1.0)
RANDOM_ERASING = 0.25


def segment_clips(
    num_video_frames: int,
    num_frames: int,
    frame_step: float,
    num_segments: int,
    generator: torch.Generator | None = None,
) -> list[list[int]]:
    """The frame indices of one clip from each segment.

    A clip spans `num_frames * frame_step` frames. If a segment is longer, the clip is a window of it; if not, clips
    overlap and are spread evenly over the video. A video shorter than a clip is repeated in each, up to its last frame
    but one.

    Args:
        num_video_frames: number of frames in the video.
        num_frames: number of frames in a clip.
        frame_step: distance between neighbouring frames of a clip.
        num_segments: number of segments.
        generator: samples the position of windows; None takes the middle.

    Returns:
        `num_segments` lists of `num_frames` indices.

    Raises:
        ValueError: a number is less than 1.
    """
    step = int(frame_step)
    if min(num_video_frames, num_frames, step, num_segments) < 1:
        raise ValueError(
            f"{num_segments} clips of {num_frames} frames, {frame_step:g} apart, of {num_video_frames} frames: all "
            f"numbers must be at least 1."
        )
    span, segment = num_frames * step, num_video_frames // num_segments
    clips = []
    for number in range(num_segments):
        if segment > span:
            spare = segment - span
            start = int(torch.randint(spare, (), generator=generator)) if generator is not None else spare // 2
            points = np.linspace(start, start + span, num_frames).clip(max=start + span - 1)
            offset = number * segment
        else:
            last = min(span, num_video_frames) - 1
            points = np.linspace(0, last, last // step)
            points = np.append(points, [last] * (num_frames - len(points))).clip(max=max(last - 1, 0))
            offset = number * (max(num_video_frames - span, 0) // max(num_segments - 1, 1))
        clips.append([int(point) + offset for point in points])
    return clips


class SegmentProcessor(VideoMAEV2ImageProcessor):
    """The image processor, whose clips are those of `segment_clips`; `num_clips` is the number of segments."""

    @staticmethod
    def sample_clips(info: VideoInfo, options: dict[str, Any]) -> list[list[int]]:
        """The frame indices of each clip of a video."""
        return segment_clips(info.num_frames, options["num_frames"], options["sampling_rate"], options["num_clips"])


@dataclass
class SegmentTransform:
    """A training item of one augmented clip from each segment of a video.

    Args:
        augmentation: the transform of one clip, whose sampling gives the number of frames and their distance.
        num_segments: number of segments.
    """

    augmentation: FinetuneTransform
    num_segments: int

    def __call__(self, sample: VideoRecord, generator: torch.Generator) -> list[dict]:
        """Items of the clips in the order of the segments, which `ClipCollator` stacks one after the other."""
        sampling = sampling_of(sample, self.augmentation.sampling)
        seed = int(torch.randint(2**62, (), generator=generator))  # of the windows; a reader may ask for them again

        def item(number: int) -> dict:
            def indices(info: VideoInfo) -> list[int]:
                rule = (info.num_frames, sampling.num_frames, sampling.sampling_rate, self.num_segments)
                return segment_clips(*rule, generator_of(seed))[number]

            return self.augmentation.item(sample, generator, lambda views: sampling.read_clip(sample, indices, views))

        # The clips are read one by one: frames go through the augmentation of their clip while they are decoded.
        return [item(number) for number in range(self.num_segments)]

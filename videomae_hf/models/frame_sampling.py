# Copyright 2026 The videomae_hf authors. Licensed under the Apache License, Version 2.0.
"""Selects the frames of a clip: pure index arithmetic, independent of decoding.

A clip is a list of `num_frames` indices. `sampling_rate` is the distance between neighbouring frames of a clip, in
frames of the video, so that a clip spans `num_frames * sampling_rate` of them:

    video   0 1 2 3 4 5 6 7 8 9        num_frames 3, sampling_rate 2
    clip      x . x . x .              starts at 1, spans 6

Dense sampling takes a window of the video. Uniform sampling spreads a clip over the whole video, with one frame from
each of `num_frames` equal segments, as in TSN and in the official code for Something-Something V2.

With `official_sampling=True` the indices are exactly those of the official V1 and V2 code (v1/kinetics.py, v1/ssv2.py,
v2/dataset/datasets.py). Deviation: the default differs where the official code never shows a part of the video or
spaces the frames of a clip unevenly.

    clip                                             official                            default
    uniform: training, a single one in evaluation    segments of n // num_frames         of n / num_frames
    dense: finetuning, a single one in evaluation    0, 4, 8, 12, 17, .., 63             0, 4, 8, 12, 16, .., 60
    the same, of a short video                       spread over it, then its last one   equally spaced, then the last
    dense: pretraining                               never steps to the last frame       may
    several in evaluation, dense or uniform          the same                            the same

This file ships with checkpoints and may import only its siblings.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch


FRAME_SAMPLINGS = ("dense", "uniform", "random")
SHORT_VIDEO_POLICIES = ("repeat_last", "loop", "error")


@dataclass(frozen=True)
class FrameSampling:
    """The rule by which the frames of a clip are taken from a video.

    Args:
        num_frames: number of frames in a clip.
        frame_sampling: `"dense"` (neighbouring frames at a fixed distance), `"uniform"` (each clip covers the whole
            video) or, for `sample_clip_indices` only, `"random"` (dense, at random positions).
        sampling_rate: distance between neighbouring frames, for dense and random clips only. It may be a fraction:
            3.75 samples 8 frames per second from a video of 30.
        short_video: behaviour of a dense clip past the end of the video: `"repeat_last"` repeats the last frame
            reached, `"loop"` continues from the beginning, `"error"` raises. Uniform clips repeat frames if there are
            too few.
        official_sampling: use exactly the frames of the official code.

    Raises:
        ValueError: a value is unknown or out of range, or is not combined with official sampling.
    """

    num_frames: int
    frame_sampling: str = "dense"
    sampling_rate: float = 4
    short_video: str = "repeat_last"
    official_sampling: bool = False

    def __post_init__(self):
        if self.frame_sampling not in FRAME_SAMPLINGS:
            raise ValueError(
                f"frame_sampling={self.frame_sampling!r} is unknown; choose one of {', '.join(FRAME_SAMPLINGS)}."
            )
        if self.num_frames < 1:
            raise ValueError(f"num_frames={self.num_frames} must be at least 1.")
        if self.frame_sampling != "uniform" and self.sampling_rate <= 0:
            raise ValueError(f"sampling_rate={self.sampling_rate} must be positive.")
        check_short_video(self.short_video, official_sampling=self.official_sampling)


def sample_clip_indices(
    num_video_frames: int, sampling: FrameSampling, num_clips: int = 1, generator: torch.Generator | None = None
) -> list[list[int]]:
    """Samples the frame indices of one or more clips, as for evaluation.

    Dense clips are spread evenly over the video, a single one in its middle; uniform ones are offset within the
    segments. With official sampling, one clip has the frames of V2's validation, several those of the test, and random
    ones those of finetuning (which V1's validation uses as well).

    Args:
        num_video_frames: number of frames in the video.
        sampling: how frames are taken.
        num_clips: number of clips.
        generator: random generator for `"random"`; None is torch's global generator.

    Returns:
        `num_clips` lists of `num_frames` indices in [0, num_video_frames).

    Raises:
        ValueError: a value is out of range, or the video is too short with `short_video="error"`.
    """
    num_frames, rate = sampling.num_frames, sampling.sampling_rate
    if num_clips < 1:
        raise ValueError(f"num_clips={num_clips} must be at least 1.")
    _check_length(num_video_frames)
    if sampling.frame_sampling == "random":
        dense = replace(sampling, frame_sampling="dense")
        return [random_clip_indices(num_video_frames, dense, generator) for _ in range(num_clips)]
    if sampling.frame_sampling == "uniform":
        if sampling.official_sampling and num_clips == 1:
            return [official_uniform_clip(num_video_frames, num_frames)]
        return [uniform_clip(num_video_frames, num_frames, clip, num_clips) for clip in range(num_clips)]
    if sampling.official_sampling and num_clips == 1:
        # V2's validation centres the span (v2/dataset/datasets.py). Deviation: V1's samples it at random.
        start = max(num_video_frames - _official_span(num_frames, rate), 0) // 2
        return [official_dense_clip(num_video_frames, start, num_frames, rate)]
    starts = dense_starts(num_video_frames, num_frames, rate, num_clips)
    return [dense_clip(num_video_frames, start, num_frames, rate, sampling.short_video) for start in starts]


def random_clip_indices(
    num_video_frames: int,
    sampling: FrameSampling,
    generator: torch.Generator | None = None,
    *,
    pretraining: bool = False,
) -> list[int]:
    """Samples the frame indices of one clip for training.

    A dense clip is a window at a random position, a uniform one has a random frame of each segment.

    Args:
        num_video_frames, sampling, generator: as in `sample_clip_indices`.
        pretraining: with official sampling, follow the rule of pretraining instead of that of finetuning. Otherwise
            the two are the same.

    Returns:
        `num_frames` indices in [0, num_video_frames).

    Raises:
        ValueError: as in `sample_clip_indices`.
    """
    num_frames, rate, official = sampling.num_frames, sampling.sampling_rate, sampling.official_sampling
    _check_length(num_video_frames)
    if sampling.frame_sampling == "uniform":
        random_clip = official_random_uniform_clip if official else random_uniform_clip
        return random_clip(num_video_frames, num_frames, generator)
    if official and not pretraining:
        start = official_random_start(num_video_frames, num_frames, rate, generator)
        return official_dense_clip(num_video_frames, start, num_frames, rate)
    start = random_start(num_video_frames, num_frames, rate, generator)
    if official:
        return official_pretraining_clip(num_video_frames, start, num_frames, rate)
    return dense_clip(num_video_frames, start, num_frames, rate, sampling.short_video)


def check_short_video(short_video: str, *, official_sampling: bool = False) -> None:
    """Raises ValueError for an unknown policy, and with official sampling for one that the official code lacks."""
    if short_video not in SHORT_VIDEO_POLICIES:
        raise ValueError(f"short_video={short_video!r} is unknown; choose one of {', '.join(SHORT_VIDEO_POLICIES)}.")
    if official_sampling and short_video != "repeat_last":
        raise ValueError(
            f"short_video={short_video!r} cannot be combined with official_sampling, which repeats frames of short "
            f"videos; set short_video to 'repeat_last' or official_sampling to false."
        )


def _check_length(num_video_frames: int) -> None:
    if num_video_frames < 1:
        raise ValueError(f"num_video_frames={num_video_frames}: the video has no frame to sample.")


def _check(num_video_frames: int, num_frames: int, sampling_rate: float | None) -> None:
    _check_length(num_video_frames)
    if num_frames < 1:
        raise ValueError(f"num_frames={num_frames} must be at least 1.")
    if sampling_rate is not None and sampling_rate <= 0:
        raise ValueError(f"sampling_rate={sampling_rate} must be positive.")


def dense_clip(
    num_video_frames: int, start: float, num_frames: int, sampling_rate: float, short_video: str = "repeat_last"
) -> list[int]:
    """`num_frames` indices beginning at `start`, `sampling_rate` apart; `short_video` as in `sample_clip_indices`.

    Raises:
        ValueError: a value is out of range, or the video is too short with `short_video="error"`.
    """
    _check(num_video_frames, num_frames, sampling_rate)
    check_short_video(short_video)
    indices = _equally_spaced(start, num_frames, sampling_rate)
    reached = [index for index in indices if index < num_video_frames]
    if len(reached) == num_frames:
        return indices
    if short_video == "error":
        raise ValueError(
            f"A clip of num_frames={num_frames} at sampling_rate={sampling_rate} needs {indices[-1] + 1} frames, but "
            f"the video has {num_video_frames}; lower one of the two, or set short_video to 'repeat_last' or 'loop'."
        )
    if short_video == "loop":
        return [index % num_video_frames for index in indices]
    # For 40 frames and a 16 x 4 clip: 0, 4, .., 36, 36, .. and not the very last frame, 39 (v1/kinetics.py, VideoMAE)
    return reached + [reached[-1]] * (num_frames - len(reached))


def _equally_spaced(start: float, num_frames: int, sampling_rate: float) -> list[int]:
    # The small offset keeps rounding errors from selecting the previous frame.
    return [math.floor(start + step * sampling_rate + 1e-6) for step in range(num_frames)]


def dense_starts(num_video_frames: int, num_frames: int, sampling_rate: float, num_clips: int) -> list[float]:
    """Start frames of evenly spaced dense clips, the first at the beginning and the last at the end of the video.

    Follows the official test (v1/kinetics.py), which takes every `sampling_rate`-th frame of the video; of these n
    frames, clip k of K begins at int(k * (n - num_frames) / (K - 1)). A single clip lies in the middle, where the
    official code would divide by zero.
    """
    strided = math.ceil(num_video_frames / sampling_rate)
    spare = max(strided - num_frames, 0)
    if num_clips == 1:
        return [spare // 2 * sampling_rate]
    return [int(clip * spare / (num_clips - 1)) * sampling_rate for clip in range(num_clips)]


def spread_indices(num_frames: int, number: int) -> list[int]:
    """The middles of `number` equal parts of a video."""
    return [(2 * part + 1) * num_frames // (2 * number) for part in range(number)]


def constant_rate(
    num_video_frames: int, video_fps: float | None, timestamps: Sequence[float] | None, fps: float
) -> tuple[np.ndarray, int]:
    """Resamples a video of any timing to a constant rate, from which `fps` frames per second can be sampled.

    Args:
        num_video_frames: number of frames in the video.
        video_fps: average frames per second; None if unknown.
        timestamps: time of each frame in seconds, relative to the first; None for equally spaced frames.
        fps: requested frames per second.

    Returns:
        The index of the frame on display at each tick of a clock, int64 (number of ticks,), and the number of ticks
        between two requested frames (the `sampling_rate` of the functions above). The clock ticks about as often as the
        video has frames, so that a random start may fall anywhere.

    Raises:
        ValueError: neither the rate nor the timestamps are known.
    """
    if not video_fps and (timestamps is None or num_video_frames < 2 or timestamps[-1] <= 0):
        raise ValueError(f"fps={fps} needs a video with a known frame rate; use sampling_rate instead.")
    if timestamps is None:
        timestamps = np.arange(num_video_frames) / video_fps
    frame_duration = timestamps[-1] / (num_video_frames - 1) if num_video_frames > 1 else 1 / video_fps
    ticks_apart = max(round(1 / (frame_duration * fps)), 1)
    tick = 1 / (fps * ticks_apart)
    # Containers round timestamps (Matroska to milliseconds). A frame that is up to 1 ms late counts as on display, and
    # an end that is up to 1 ms late adds no tick.
    moments = np.arange(max(math.ceil((timestamps[-1] + frame_duration - 1e-3) / tick), 1)) * tick
    shown = np.searchsorted(timestamps, moments + 1e-3, side="right") - 1
    return shown, ticks_apart


def random_start(
    num_video_frames: int, num_frames: int, sampling_rate: float, generator: torch.Generator | None = None
) -> int:
    """A random start, uniform over those with room for the span; 0 if there is none (v1/kinetics.py, VideoMAE)."""
    last = num_video_frames - math.ceil(num_frames * sampling_rate)
    return int(torch.randint(max(last, 0) + 1, (), generator=generator))


def uniform_clip(num_video_frames: int, num_frames: int, clip: int = 0, num_clips: int = 1) -> list[int]:
    """One frame from each of `num_frames` equal segments: the middle one, or for clip k of K the one at k / K.

    Several clips match the official test (v2/dataset/datasets.py, SSVideoClsDataset). Deviation: if a video has fewer
    frames than segments, its frames are repeated in order; the official code returns frame 0 only (V1), or pads with
    the first frame (V2), so that nothing moves.
    """
    segment = num_video_frames / num_frames
    offset = segment / 2 if num_clips == 1 else clip * segment / num_clips
    return [min(int(offset + segment * index), num_video_frames - 1) for index in range(num_frames)]


def random_uniform_clip(num_video_frames: int, num_frames: int, generator: torch.Generator | None = None) -> list[int]:
    """A random frame from each of `num_frames` equal segments, for training (v1/ssv2.py)."""
    segment = num_video_frames / num_frames
    offsets = torch.rand(num_frames, generator=generator).tolist()
    return [min(int((index + offset) * segment), num_video_frames - 1) for index, offset in enumerate(offsets)]


def official_dense_clip(num_video_frames: int, start: int, num_frames: int, sampling_rate: float) -> list[int]:
    """A clip of the official finetuning and validation: `num_frames` points from the start of its span to its end.

    Follows v1/kinetics.py (VideoClsDataset). The points are `span / (num_frames - 1)` apart and truncated to whole
    frames: 0, 4, 8, 12, 17, .., 63 for a 16 x 4 clip. A video no longer than the span gets one point per
    `sampling_rate` frames, spread over the whole video, and then repeats its very last frame.
    """
    span = _official_span(num_frames, sampling_rate)
    if num_video_frames > span:
        points = np.linspace(start, start + span, num_frames)
        return [min(int(point), start + span - 1) for point in points]
    points = np.linspace(0, num_video_frames, min(int(num_video_frames // sampling_rate), num_frames))
    last = num_video_frames - 1
    return [min(int(point), last) for point in points] + [last] * (num_frames - len(points))


def official_random_start(
    num_video_frames: int, num_frames: int, sampling_rate: float, generator: torch.Generator | None = None
) -> int:
    """The random start for `official_dense_clip`, which never takes the last position with room for the span."""
    last = num_video_frames - _official_span(num_frames, sampling_rate) - 1
    return int(torch.randint(max(last, 0) + 1, (), generator=generator))


def _official_span(num_frames: int, sampling_rate: float) -> int:
    return max(int(num_frames * sampling_rate), 1)


def official_pretraining_clip(num_video_frames: int, start: int, num_frames: int, sampling_rate: float) -> list[int]:
    """A clip of the official pretraining: equally spaced, but no step leads to the very last frame of the video.

    Follows v1/kinetics.py (VideoMAE): for 61 frames, a 16 x 4 clip is 0, 4, .., 56, 56, although frame 60 exists.
    """
    indices = _equally_spaced(start, num_frames, sampling_rate)
    reached = indices[:1] + [index for index in indices[1:] if index < num_video_frames - 1]
    return reached + [reached[-1]] * (num_frames - len(reached))


def official_uniform_clip(num_video_frames: int, num_frames: int) -> list[int]:
    """The middle of each of `num_frames` segments of whole frames (v2/dataset/datasets.py, SSVideoClsDataset).

    Up to `num_frames - 1` frames at the end of the video are never seen: 15 of 31 frames. Deviation: if a video has
    fewer frames than segments, its frames are repeated as in `uniform_clip`.
    """
    segment = num_video_frames // num_frames
    if segment == 0:
        return uniform_clip(num_video_frames, num_frames)
    return [segment * index + segment // 2 for index in range(num_frames)]


def official_random_uniform_clip(
    num_video_frames: int, num_frames: int, generator: torch.Generator | None = None
) -> list[int]:
    """A random frame from each segment of `official_uniform_clip` (v1/ssv2.py)."""
    segment = num_video_frames // num_frames
    if segment == 0:
        return random_uniform_clip(num_video_frames, num_frames, generator)
    offsets = torch.randint(segment, (num_frames,), generator=generator).tolist()
    return [segment * index + offset for index, offset in enumerate(offsets)]

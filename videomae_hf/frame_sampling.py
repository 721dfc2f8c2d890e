# Copyright 2026 The videomae_hf authors. Licensed under the Apache License, Version 2.0.
"""Which frames of a video make a clip: pure index arithmetic, apart from decoding.

A clip is `num_frames` indices. `sampling_rate` is the distance of neighbouring frames of a clip in frames of the video,
so that a clip spans `num_frames * sampling_rate` of them:

    video   0 1 2 3 4 5 6 7 8 9        num_frames 3, sampling_rate 2
    clip      x . x . x .              starts at 1, spans 6

Dense sampling takes a window of the video, uniform sampling spreads a clip over all of it (one frame from each of
`num_frames` equal segments, as TSN does and the official code for Something-Something V2).
"""

import math
from collections.abc import Sequence

import numpy as np
import torch


FRAME_SAMPLINGS = ("dense", "uniform", "random")
SHORT_VIDEO_POLICIES = ("repeat_last", "loop", "error")


def sample_clip_indices(
    num_video_frames: int,
    *,
    num_frames: int,
    frame_sampling: str = "dense",
    sampling_rate: float = 4,
    num_clips: int = 1,
    short_video: str = "repeat_last",
    generator: torch.Generator | None = None,
) -> list[list[int]]:
    """The frames of each clip.

    Args:
        num_video_frames: frames of the video.
        num_frames: frames of a clip.
        frame_sampling: `"dense"` (clips spread evenly over the video, a single one in its middle), `"uniform"` (the
            whole video in each clip, several clips take turns within the segments) or `"random"` (dense, at random
            places).
        sampling_rate: distance of neighbouring frames, dense and random only. May be a fraction: to sample 8 frames a
            second from a video of 30 it is 3.75.
        num_clips: number of clips.
        short_video: what a dense clip does past the end: `"repeat_last"` repeats the last frame it reached, `"loop"`
            goes on from the beginning, `"error"` raises. Uniform clips repeat frames where there are too few.
        generator: of the random places.

    Returns:
        `num_clips` lists of `num_frames` indices in [0, num_video_frames).

    Raises:
        ValueError: for values out of range, and for short videos with `short_video="error"`.
    """
    if num_video_frames < 1:
        raise ValueError(f"num_video_frames={num_video_frames}: there is no frame to sample.")
    if num_frames < 1 or num_clips < 1:
        raise ValueError(f"num_frames={num_frames} and num_clips={num_clips} must be at least 1.")
    if frame_sampling not in FRAME_SAMPLINGS:
        raise ValueError(f"frame_sampling={frame_sampling!r} is unknown; choose one of {', '.join(FRAME_SAMPLINGS)}.")
    if frame_sampling == "uniform":
        return [uniform_clip(num_video_frames, num_frames, clip, num_clips) for clip in range(num_clips)]
    if sampling_rate <= 0:
        raise ValueError(f"sampling_rate={sampling_rate} must be positive.")
    if frame_sampling == "random":
        starts = [random_start(num_video_frames, num_frames, sampling_rate, generator) for _ in range(num_clips)]
    else:
        starts = dense_starts(num_video_frames, num_frames, sampling_rate, num_clips)
    return [dense_clip(num_video_frames, start, num_frames, sampling_rate, short_video) for start in starts]


def dense_clip(
    num_video_frames: int, start: float, num_frames: int, sampling_rate: float, short_video: str = "repeat_last"
) -> list[int]:
    """`num_frames` indices from `start` on, `sampling_rate` apart."""
    if sampling_rate <= 0:
        raise ValueError(f"sampling_rate={sampling_rate} must be positive.")
    if short_video not in SHORT_VIDEO_POLICIES:
        raise ValueError(f"short_video={short_video!r} is unknown; choose one of {', '.join(SHORT_VIDEO_POLICIES)}.")
    # The small offset keeps 3 * 3.3333 + 0.0001 from falling to the frame before.
    indices = [math.floor(start + step * sampling_rate + 1e-6) for step in range(num_frames)]
    reached = [index for index in indices if index < num_video_frames]
    if len(reached) == num_frames:
        return indices
    if short_video == "error":
        raise ValueError(
            f"A clip of num_frames={num_frames} at sampling_rate={sampling_rate} needs {indices[-1] + 1} frames, the "
            f"video has {num_video_frames}; lower one of the two, or set short_video to 'repeat_last' or 'loop'."
        )
    if short_video == "loop":
        return [index % num_video_frames for index in indices]
    # 40 frames, 16 x 4: 0, 4, .., 36, 36, .. and not the very last frame, 39 (v1/kinetics.py, VideoMAE)
    return reached + [reached[-1]] * (num_frames - len(reached))


def dense_starts(num_video_frames: int, num_frames: int, sampling_rate: float, num_clips: int) -> list[float]:
    """Starts of evenly spaced dense clips, the first at the beginning and the last at the end of the video.

    As the official test does (v1/kinetics.py): it takes every `sampling_rate`-th frame of the video and, of these n,
    clip k of K begins at int(k * (n - num_frames) / (K - 1)). A single clip lies in the middle; there the official
    code divides by zero.
    """
    strided = math.ceil(num_video_frames / sampling_rate)
    spare = max(strided - num_frames, 0)
    if num_clips == 1:
        return [spare // 2 * sampling_rate]
    return [int(clip * spare / (num_clips - 1)) * sampling_rate for clip in range(num_clips)]


def constant_rate(
    num_video_frames: int, video_fps: float | None, timestamps: Sequence[float] | None, fps: float
) -> tuple[np.ndarray, int]:
    """A video of any timing as one of constant rate, to sample `fps` frames a second from.

    Args:
        num_video_frames: frames of the video.
        video_fps: frames a second on average.
        timestamps: seconds of each frame from the first one on; None for equally spaced frames.
        fps: wanted frames a second.

    Returns:
        The frame on display at each tick of a clock, int64 (number of ticks,), and the ticks between two wanted frames
        (`sampling_rate` for the functions above). The clock ticks about as often as the video has frames, so that a
        random start may be anywhere.

    Raises:
        ValueError: neither the rate nor the timestamps are known.
    """
    if not video_fps and (timestamps is None or num_video_frames < 2 or timestamps[-1] <= 0):
        raise ValueError(f"fps={fps} needs a video of known frame rate; use sampling_rate instead.")
    if timestamps is None:
        timestamps = np.arange(num_video_frames) / video_fps
    frame_duration = timestamps[-1] / (num_video_frames - 1) if num_video_frames > 1 else 1 / video_fps
    ticks_apart = max(round(1 / (frame_duration * fps)), 1)
    tick = 1 / (fps * ticks_apart)
    # Containers round timestamps, to milliseconds in Matroska: a frame up to one late is on display, and an end up to
    # one late makes no tick more.
    moments = np.arange(max(math.ceil((timestamps[-1] + frame_duration - 1e-3) / tick), 1)) * tick
    shown = np.searchsorted(timestamps, moments + 1e-3, side="right") - 1
    return shown, ticks_apart


def random_start(
    num_video_frames: int, num_frames: int, sampling_rate: float, generator: torch.Generator | None = None
) -> int:
    """A start drawn from all that leave room for the whole span; 0 if none does (v1/kinetics.py, VideoMAE)."""
    last = num_video_frames - math.ceil(num_frames * sampling_rate)
    return int(torch.randint(max(last, 0) + 1, (), generator=generator))


def uniform_clip(num_video_frames: int, num_frames: int, clip: int = 0, num_clips: int = 1) -> list[int]:
    """One frame from each of `num_frames` equal segments: the middle one, or for clip k of K the one at k / K.

    v2/dataset/datasets.py (SSVideoClsDataset) for validation and test. A video with fewer frames than segments repeats
    frames; official code gives zeros (V1) or the first frame (V2) there, which teaches the order wrong.
    """
    segment = num_video_frames / num_frames
    offset = segment / 2 if num_clips == 1 else clip * segment / num_clips
    return [min(int(offset + segment * index), num_video_frames - 1) for index in range(num_frames)]


def random_uniform_clip(num_video_frames: int, num_frames: int, generator: torch.Generator | None = None) -> list[int]:
    """A random frame from each of `num_frames` equal segments, for training (v1/ssv2.py)."""
    segment = num_video_frames / num_frames
    offsets = torch.rand(num_frames, generator=generator).tolist()
    return [min(int((index + offset) * segment), num_video_frames - 1) for index, offset in enumerate(offsets)]

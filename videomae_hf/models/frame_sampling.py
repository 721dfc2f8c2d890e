# Copyright 2026 The videomae_hf authors. Licensed under the Apache License, Version 2.0.
"""Which frames of a video make a clip: pure index arithmetic, apart from decoding.

A clip is `num_frames` indices. `sampling_rate` is the distance of neighbouring frames of a clip in frames of the video,
so that a clip spans `num_frames * sampling_rate` of them:

    video   0 1 2 3 4 5 6 7 8 9        num_frames 3, sampling_rate 2
    clip      x . x . x .              starts at 1, spans 6

Dense sampling takes a window of the video, uniform sampling spreads a clip over all of it (one frame from each of
`num_frames` equal segments, as TSN does and the official code for Something-Something V2).

With `official_sampling=True` the frames are, index by index, those of the official V1 and V2 code (v1/kinetics.py,
v1/ssv2.py, v2/dataset/datasets.py). Deviation: by default they differ from it where it never shows a part of the video
or spaces the frames of a clip unevenly.

    clip                                             official                            default
    uniform: training, a single one in evaluation    segments of n // num_frames         of n / num_frames
    dense: finetuning, a single one in evaluation    0, 4, 8, 12, 17, .., 63             0, 4, 8, 12, 16, .., 60
    the same, of a short video                       spread over it, then its last one   equally spaced, then the last
    dense: pretraining                               never steps to the last frame       may
    several in evaluation, dense or uniform          the same                            the same
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
    official_sampling: bool = False,
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
        official_sampling: take exactly the frames that the official code takes: of one clip those of V2's validation,
            of several those of the test, of random ones those of finetuning (which V1's validation takes as well).
        generator: of the random places.

    Returns:
        `num_clips` lists of `num_frames` indices in [0, num_video_frames).

    Raises:
        ValueError: for values out of range, and for short videos with `short_video="error"`.
    """
    if frame_sampling not in FRAME_SAMPLINGS:
        raise ValueError(f"frame_sampling={frame_sampling!r} is unknown; choose one of {', '.join(FRAME_SAMPLINGS)}.")
    if num_clips < 1:
        raise ValueError(f"num_clips={num_clips} must be at least 1.")
    _check(num_video_frames, num_frames, sampling_rate if frame_sampling != "uniform" else None)
    check_short_video(short_video, official_sampling)
    if frame_sampling == "random":
        sampling = {"num_frames": num_frames, "sampling_rate": sampling_rate, "short_video": short_video}
        sampling |= {"official_sampling": official_sampling, "generator": generator}
        return [random_clip_indices(num_video_frames, **sampling) for _ in range(num_clips)]
    if frame_sampling == "uniform":
        if official_sampling and num_clips == 1:
            return [official_uniform_clip(num_video_frames, num_frames)]
        return [uniform_clip(num_video_frames, num_frames, clip, num_clips) for clip in range(num_clips)]
    if official_sampling and num_clips == 1:
        # V2's validation centres the span (v2/dataset/datasets.py). Deviation: V1's samples it at random.
        start = max(num_video_frames - _official_span(num_frames, sampling_rate), 0) // 2
        return [official_dense_clip(num_video_frames, start, num_frames, sampling_rate)]
    starts = dense_starts(num_video_frames, num_frames, sampling_rate, num_clips)
    return [dense_clip(num_video_frames, start, num_frames, sampling_rate, short_video) for start in starts]


def random_clip_indices(
    num_video_frames: int,
    *,
    num_frames: int,
    frame_sampling: str = "dense",
    sampling_rate: float = 4,
    short_video: str = "repeat_last",
    official_sampling: bool = False,
    pretraining: bool = False,
    generator: torch.Generator | None = None,
) -> list[int]:
    """The frames of a clip for training.

    Args:
        num_video_frames, num_frames, sampling_rate, short_video, official_sampling, generator: as in
            `sample_clip_indices`.
        frame_sampling: `"dense"` (a window at a random place) or `"uniform"` (a random frame of each segment).
        pretraining: the official rule of pretraining in place of that of finetuning. By default they are the same.

    Returns:
        `num_frames` indices in [0, num_video_frames).

    Raises:
        ValueError: as `sample_clip_indices`.
    """
    _check(num_video_frames, num_frames, sampling_rate if frame_sampling != "uniform" else None)
    check_short_video(short_video, official_sampling)
    if frame_sampling == "uniform":
        random_clip = official_random_uniform_clip if official_sampling else random_uniform_clip
        return random_clip(num_video_frames, num_frames, generator)
    if official_sampling and not pretraining:
        start = official_random_start(num_video_frames, num_frames, sampling_rate, generator)
        return official_dense_clip(num_video_frames, start, num_frames, sampling_rate)
    start = random_start(num_video_frames, num_frames, sampling_rate, generator)
    if official_sampling:
        return official_pretraining_clip(num_video_frames, start, num_frames, sampling_rate)
    return dense_clip(num_video_frames, start, num_frames, sampling_rate, short_video)


def check_short_video(short_video: str, official_sampling: bool = False) -> None:
    """Raises ValueError for an unknown policy, and for one that the official code does not have."""
    if short_video not in SHORT_VIDEO_POLICIES:
        raise ValueError(f"short_video={short_video!r} is unknown; choose one of {', '.join(SHORT_VIDEO_POLICIES)}.")
    if official_sampling and short_video != "repeat_last":
        raise ValueError(
            f"short_video={short_video!r} does not go with official_sampling, which repeats frames of short videos; "
            f"set short_video to 'repeat_last' or official_sampling to false."
        )


def _check(num_video_frames: int, num_frames: int, sampling_rate: float | None) -> None:
    if num_video_frames < 1:
        raise ValueError(f"num_video_frames={num_video_frames}: there is no frame to sample.")
    if num_frames < 1:
        raise ValueError(f"num_frames={num_frames} must be at least 1.")
    if sampling_rate is not None and sampling_rate <= 0:
        raise ValueError(f"sampling_rate={sampling_rate} must be positive.")


def dense_clip(
    num_video_frames: int, start: float, num_frames: int, sampling_rate: float, short_video: str = "repeat_last"
) -> list[int]:
    """`num_frames` indices from `start` on, `sampling_rate` apart."""
    _check(num_video_frames, num_frames, sampling_rate)
    check_short_video(short_video)
    indices = _equally_spaced(start, num_frames, sampling_rate)
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


def _equally_spaced(start: float, num_frames: int, sampling_rate: float) -> list[int]:
    # The small offset keeps 3 * 3.3333 + 0.0001 from falling to the frame before.
    return [math.floor(start + step * sampling_rate + 1e-6) for step in range(num_frames)]


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

    Several clips are those of the official test (v2/dataset/datasets.py, SSVideoClsDataset). Deviation: a video with
    fewer frames than segments repeats frames; the official code gives frame 0 alone (V1), or the first frame until
    there are enough (V2), where nothing moves.
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

    v1/kinetics.py (VideoClsDataset). The points are truncated to frames and lie `span / (num_frames - 1)` apart, 16 x 4
    at 0, 4, 8, 12, 17, .., 63. A video no longer than the span has one point for each `sampling_rate` frames,
    spread over all of it, and then repeats its very last frame.
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
    """The random start of `official_dense_clip`: the last place that the span has room for is never taken."""
    last = num_video_frames - _official_span(num_frames, sampling_rate) - 1
    return int(torch.randint(max(last, 0) + 1, (), generator=generator))


def _official_span(num_frames: int, sampling_rate: float) -> int:
    return max(int(num_frames * sampling_rate), 1)


def official_pretraining_clip(num_video_frames: int, start: int, num_frames: int, sampling_rate: float) -> list[int]:
    """A clip of the official pretraining: equally spaced, but no step leads to the very last frame of the video.

    v1/kinetics.py (VideoMAE): of 61 frames, 16 x 4 are 0, 4, .., 56, 56, though 60 is there.
    """
    indices = _equally_spaced(start, num_frames, sampling_rate)
    reached = indices[:1] + [index for index in indices[1:] if index < num_video_frames - 1]
    return reached + [reached[-1]] * (num_frames - len(reached))


def official_uniform_clip(num_video_frames: int, num_frames: int) -> list[int]:
    """The middle of each of `num_frames` segments of whole frames (v2/dataset/datasets.py, SSVideoClsDataset).

    What is left at the end of the video, up to `num_frames - 1` frames, is never seen: of 31 frames, 15. Deviation: a
    video with fewer frames than segments repeats frames as `uniform_clip` does.
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

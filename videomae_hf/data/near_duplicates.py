# Copyright 2026 The videomae_hf authors. Licensed under the Apache License, Version 2.0.
"""Finds copies of the same video: equal or encoded again at any size, but not cut, mirrored or recoloured.

Two videos are copies if small grey pictures of frames at the same eight moments differ nowhere by more than noise of
encoding. A person who moves differently in front of the same background makes a larger difference.
"""

from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import torch

from ..models.frame_sampling import spread_indices
from ..models.video_decoding import read_frames
from .sources.records import VideoRecord


_MOMENTS, _SIZE = 8, 16  # pictures of a video, and their height and width
_DIFFERENCE = 8.0  # of 255: grey levels by which cells of copies may differ


def fingerprint(record: VideoRecord) -> np.ndarray:
    """float32 (8, 16, 16): small grey pictures of frames evenly spaced over a video.

    Raises:
        VideoDecodeError, OSError: the video cannot be read.
    """

    def shrink(frames: torch.Tensor) -> torch.Tensor:
        grey = frames.float().mean(dim=-1)[:, None]  # (n, H, W, C) -> (n, 1, H, W)
        return torch.nn.functional.interpolate(grey, (_SIZE, _SIZE), mode="bilinear", antialias=True)[:, 0]

    return read_frames(record.video(), lambda info: spread_indices(info.num_frames, _MOMENTS), transform=shrink).numpy()


def fingerprints(
    records: Sequence[VideoRecord],
    failed: Callable[[VideoRecord, Exception], None],
    workers: int = 4,
) -> Iterable[np.ndarray | None]:
    """Yields the fingerprint of each video in order; None for one that cannot be read, of which `failed` is told."""

    def one(record: VideoRecord) -> np.ndarray | Exception:
        try:
            return fingerprint(record)
        except (OSError, ValueError) as error:
            return error

    with ThreadPoolExecutor(workers) as pool:
        for record, found in zip(records, pool.map(one, records)):
            if isinstance(found, Exception):
                failed(record, found)
                yield None
            else:
                yield found


def copies(found: Sequence[np.ndarray | None]) -> list[tuple[int, int]]:
    """Positions of videos that are copies of each other: (the first of them, another)."""
    known = sorted((place for place, one in enumerate(found) if one is not None), key=lambda place: found[place].mean())
    if not known:
        return []
    # In the order of brightness, in which copies lie close together, so that each video is compared with few others
    pictures = np.stack([found[place] for place in known])  # (N, 8, 16, 16)
    means, pairs = pictures.mean(axis=(1, 2, 3)), []
    for rank, place in enumerate(known):
        end = np.searchsorted(means, means[rank] + _DIFFERENCE, side="right")
        differences = np.abs(pictures[rank + 1 : end] - pictures[rank]).max(axis=(1, 2, 3))
        others = (known[rank + 1 + other] for other in np.flatnonzero(differences <= _DIFFERENCE))
        pairs += [tuple(sorted((place, other))) for other in others]
    return sorted(pairs)

# Copyright 2026 The videomae_hf authors. Licensed under the Apache License, Version 2.0.
"""Features of segments from a folder of `videomae extract`, whose windows are the segments."""

import os
from collections.abc import Sequence

import numpy as np
import torch

from ..data.sources.records import VideoRecord
from ..models.segment_features import pooled_places
from ..models.video_sources import VideoDecodeError
from .feature_folder import FeatureFolder


_BOUNDS = ("start", "end", "start_frame", "end_frame")


def check_places(folder: FeatureFolder, tokens_per_segment: int) -> None:
    """Raises ValueError if `places_of` cannot make so many places of the features of a folder."""
    kind = folder.header["features"]
    if kind not in ("pooled", "maps") or (kind == "pooled" and tokens_per_segment > 1):
        raise ValueError(
            f"{folder.path} has features={kind}, of which tokens_per_segment={tokens_per_segment} cannot be made; "
            f"extract --features pooled for 1, or --features maps for more."
        )


def places_of(features: np.ndarray, tokens_per_segment: int) -> torch.Tensor:
    """The features of a video as segments and places.

    Args:
        features: (N, F) of features=pooled, or (N, T', H', W', F) of features=maps.
        tokens_per_segment: number P of places of a segment; 1 of pooled features.

    Returns:
        float32 (N, P, F).
    """
    values = torch.from_numpy(features).float()
    if values.ndim == 2:
        return values[:, None]  # (N, F) -> (N, 1, F)
    return pooled_places(values.flatten(1, 3), values.shape[1:4], tokens_per_segment)


class StoredSegments:
    """The segments of videos, by their numbers, from a folder of features: float32 (S, P, F) of a video.

    A part of a video has the features that were extracted of this part or, if there are none, those windows of the
    whole video whose middle is in it.

    Args:
        folder: the features.
        records: the videos.
        tokens_per_segment: number P of places.

    Attributes:
        missing: names of the videos that the folder does not have.

    Raises:
        ValueError: the folder has none of the videos, or its features are not of segments with P places.
    """

    def __init__(self, folder: FeatureFolder, records: Sequence[VideoRecord], tokens_per_segment: int) -> None:
        self.folder, self.records, self.tokens_per_segment = folder, records, tokens_per_segment
        self._lines = {_key_of(line): line for line in folder.records.values()}
        self.missing = [one.name for one in records if self._line(one) is None]
        if len(self.missing) == len(records):
            raise ValueError(
                f"{folder.path} has features of none of the {len(records)} videos, such as {self.missing[0]}; extract "
                f"them with videomae extract --window .. --stride .."
            )
        check_places(folder, tokens_per_segment)
        self._check_rows()

    def _check_rows(self) -> None:
        """Raises ValueError if the rows of a video are not its segments, or if those of its parts are not known."""
        header, path = self.folder.header, self.folder.path
        if header.get("views") == "all" and header["num_clips"] * header["num_crops"] > 1:
            raise ValueError(f"{path} has a row for each view of a segment; extract with --views average.")
        lines = ((record, self._line(record)) for record in self.records)
        if all(line is None or "segment" in line or not record.is_segment for record, line in lines):
            return
        if header["layout"] == "tad":
            raise ValueError(f"{path} has the layout tad, without the times of windows; extract without --layout.")
        if header.get("windows") is None:
            raise ValueError(f"{path} has one feature for each whole video; extract parts with --window and --stride.")

    def _line(self, record: VideoRecord) -> dict | None:
        own = _key(record.path, record.segment)
        return self._lines.get(own) or self._lines.get(_key(record.path, (None,) * 4))

    def __call__(self, number: int) -> torch.Tensor:
        """The features of a video, float32 (S, P, F).

        Raises:
            VideoDecodeError: there are none.
            OSError, ValueError: their file does not exist, or is damaged.
        """
        record = self.records[number]
        line = self._line(record)
        if line is None:
            raise VideoDecodeError(f"{self.folder.path} has no features of this video")
        arrays = self.folder.load(line)
        features = arrays["features"]
        if record.is_segment and "segment" not in line:
            features = features[_within(record, arrays)]
        if not len(features):
            raise VideoDecodeError(f"{self.folder.path} has no window with its middle in this part of the video")
        return places_of(features, self.tokens_per_segment)

    def moments(self) -> tuple[torch.Tensor, torch.Tensor]:
        """Mean and standard deviation, float32 (F,) each, over the segments and places of all videos; the latter is 1
        where all values are equal."""
        number, total, squares = 0, 0.0, 0.0
        for video in range(len(self.records)):
            try:
                rows = self(video).flatten(0, 1).double()  # (S, P, F) -> (S * P, F)
            except VideoDecodeError:
                continue
            number, total, squares = number + len(rows), total + rows.sum(dim=0), squares + rows.square().sum(dim=0)
        if not number:
            raise ValueError(f"{self.folder.path} has no features of any of the {len(self.records)} videos.")
        mean = total / number
        std = (squares / number - mean.square()).clamp(min=0).sqrt()
        equal = std < 1e-6 * mean.abs().clamp(min=1e-6)
        return mean.float(), std.masked_fill(equal, 1).float()


def _within(record: VideoRecord, arrays: dict[str, np.ndarray]) -> np.ndarray:
    """Which windows of the whole video have their middle in a part of it: bool (N,)."""
    in_frames = record.start_frame is not None or record.end_frame is not None
    bounds = arrays["frames"].T if in_frames else (arrays["start"], arrays["end"])
    middles = (bounds[0] + bounds[1]) / 2
    start, end = (record.start_frame, record.end_frame) if in_frames else (record.start, record.end)
    return (middles >= (start or 0)) & (middles < (np.inf if end is None else end))


def _key_of(line: dict) -> tuple:
    """The key of a line of the manifest."""
    segment = line.get("segment")
    if segment is None:
        return _key(line["path"], (None,) * 4)
    return _key(segment["video"], tuple(segment.get(name) for name in _BOUNDS))


def _key(path: str, bounds: tuple) -> tuple:
    return path if "://" in path else os.path.abspath(path), bounds

# Copyright 2026 The videomae_hf authors. Licensed under the Apache License, Version 2.0.
"""Classifiers that see no content: one on the metadata of the files, one on mean colour.

What they reach on the evaluation videos, a model may reach without having learned the question. Both are scikit-learn's
random forest with a fixed seed, fitted to the training videos.
"""

import os
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from tqdm import tqdm

from ..data.sources.records import VideoRecord
from ..models.frame_sampling import spread_indices
from ..models.video_decoding import (
    MAX_PIXELS,
    VideoInfo,
    decoding_errors,
    open_container,
    read_frames,
    video_stream,
)


MOST_VIDEOS = 2000  # that are looked at, of the training and of the evaluation
_FEWEST_VIDEOS = 20  # of a training set that a classifier is fitted to
_FRAMES = 4  # whose colours are averaged
_TREES = 300
_NEEDS = "needs scikit-learn: pip install 'videomae_hf[few-shot]'"
Features = dict[str, Any]  # numbers, and names, which become one column for each value


@dataclass(frozen=True)
class Shortcut:
    """A shortcut classifier.

    Args:
        title: the name that people read.
        features: called with a video; returns its features.
    """

    title: str
    features: Callable[[VideoRecord, str | None], Features]


@dataclass
class ShortcutResult:
    """The predictions of a shortcut classifier.

    Args:
        title: the name that people read.
        predicted: class numbers (N,) of the evaluation videos; -1 for those without features.
        train_videos, train_unreadable: training videos that it was fitted to, and those without features.
        problem: the reason why there are no predictions.
    """

    title: str
    predicted: np.ndarray = field(default_factory=lambda: np.zeros(0, dtype=np.int64))
    train_videos: int = 0
    train_unreadable: int = 0
    problem: str | None = None


def file_metadata(record: VideoRecord, frame_template: str | None = None) -> Features:
    """What the header of a video file says, without decoding: size, timing, codec, container, width and height.

    Raises:
        ValueError: the record is no video file on this machine, or its header cannot be read.
    """
    import av  # imported here, because other commands work without it

    video = record.whole_video(frame_template)
    if not isinstance(video, str | bytes) or (isinstance(video, str) and not os.path.isfile(video)):
        raise ValueError(f"{record.path} is no video file on this machine")
    try:
        with open_container(av, video) as container:
            stream = video_stream(container, MAX_PIXELS)
            seconds = float(stream.duration * stream.time_base) if stream.duration else (container.duration or 0) / 1e6
            size = len(video) if isinstance(video, bytes) else os.path.getsize(video)
            return {
                "bytes": size,
                "duration": seconds,
                "part": _length_of_part(record),
                "frame_rate": float(stream.average_rate or 0),
                "bit_rate": 8 * size / seconds if seconds > 0 else float(container.bit_rate or 0),
                "codec": stream.codec_context.name,
                "container": container.format.name,
                "width": stream.codec_context.width,
                "height": stream.codec_context.height,
            }
    except decoding_errors() as error:
        raise ValueError(f"{record.path}: {error}") from error


def _length_of_part(record: VideoRecord) -> float:
    """The length of a part of a video, in its own unit; -1 for a whole video."""
    for start, end in ((record.start, record.end), (record.start_frame, record.end_frame)):
        if end is not None:
            return end - (start or 0)
    return -1.0


def mean_colour(record: VideoRecord, frame_template: str | None = None) -> Features:
    """Mean and standard deviation of each channel over four frames of a video.

    Raises:
        VideoDecodeError, OSError: the video cannot be read.
    """

    def spread(info: VideoInfo) -> list[int]:
        return spread_indices(info.num_frames, _FRAMES)

    def moments(frames: torch.Tensor) -> torch.Tensor:  # uint8 (n, H, W, C) -> (n, 2, C)
        pixels = frames.double().flatten(1, 2)  # (n, H * W, C)
        return torch.stack([pixels.mean(dim=1), pixels.square().mean(dim=1)], dim=1)

    mean, square = read_frames(record.video(frame_template), spread, transform=moments).mean(dim=0)  # (C,) each
    deviation = (square - mean.square()).clamp(min=0).sqrt()
    names = ("red", "green", "blue")
    found = {f"mean_{name}": float(value) for name, value in zip(names, mean)}
    return found | {f"deviation_{name}": float(value) for name, value in zip(names, deviation)}


SHORTCUTS = {
    "metadata": Shortcut("file metadata alone", file_metadata),
    "colour": Shortcut("mean colour alone", mean_colour),
}


def shortcut_result(
    name: str,
    train: Sequence[VideoRecord],
    evaluated: Sequence[VideoRecord],
    *,
    numbers: Sequence[int | None] | None = None,
    frame_template: str | None = None,
    workers: int = 2,
) -> ShortcutResult:
    """Fits a shortcut classifier to the training videos, and predicts the evaluation videos.

    Args:
        name: a key of `SHORTCUTS`.
        train, evaluated: videos with one label each; at most `MOST_VIDEOS` of either are used, chosen at random.
        numbers: for each class of the training its number in the evaluation, None for one that is not there; None if
            the classes are the same.
        frame_template: pattern of the file names in folders of images.
        workers: threads that read videos.
    """
    shortcut = SHORTCUTS[name]
    result = ShortcutResult(shortcut.title)
    try:
        from sklearn.ensemble import RandomForestClassifier
    except ImportError:
        result.problem = _NEEDS
        return result
    if len(train) < _FEWEST_VIDEOS:
        result.problem = f"{len(train)} training videos are too few; at least {_FEWEST_VIDEOS} are needed"
        return result
    train_places, places = (_chosen(len(records)) for records in (train, evaluated))
    rows = _all_features(shortcut, train, train_places, frame_template, workers)
    eval_rows = _all_features(shortcut, evaluated, places, frame_template, workers)
    labels = [train[place].label if numbers is None else numbers[train[place].label] for place in train_places]
    fitted = [(row, label) for row, label in zip(rows, labels) if row is not None and label is not None]
    known = [(place, row) for place, row in zip(places, eval_rows) if row is not None]
    result.train_videos, result.train_unreadable = len(fitted), rows.count(None)
    if 2 * len(fitted) < len(rows) or not known:
        result.problem = f"only {len(fitted)} of {len(rows)} training videos and {len(known)} of {len(places)} " \
                         f"evaluation videos can be read for it"  # fmt: skip
        return result
    columns = _columns(row for row, _ in fitted)
    forest = RandomForestClassifier(_TREES, min_samples_leaf=2, random_state=0)
    forest.fit(_table((row for row, _ in fitted), columns), [label for _, label in fitted])
    result.predicted = np.full(len(evaluated), -1)
    result.predicted[[place for place, _ in known]] = forest.predict(_table((row for _, row in known), columns))
    return result


def _chosen(number: int) -> list[int]:
    """At most `MOST_VIDEOS` positions, in order."""
    order = torch.randperm(number, generator=torch.Generator().manual_seed(0))
    return sorted(order[:MOST_VIDEOS].tolist())


def _all_features(
    shortcut: Shortcut, records: Sequence[VideoRecord], places: list[int], frame_template: str | None, workers: int
) -> list[Features | None]:
    """The features of the videos at these positions; None for one that cannot be read."""

    def one(place: int) -> Features | None:
        try:
            return shortcut.features(records[place], frame_template)
        except (OSError, ValueError):
            return None

    with ThreadPoolExecutor(workers) as pool:
        found = pool.map(one, places)
        return list(tqdm(found, shortcut.title.capitalize(), len(places), unit="video", disable=None, leave=False))


def _columns(rows: Iterable[Features]) -> list[tuple[str, Any]]:
    """(feature, None) of each number, and (feature, value) of each value of a name."""
    found = {}
    for row in rows:
        for name, value in row.items():
            found[name, value if isinstance(value, str) else None] = None
    return list(found)


def _table(rows: Iterable[Features], columns: list[tuple[str, Any]]) -> np.ndarray:
    """float64 (N, columns), with 1 and 0 in the columns of names."""
    return np.array([[float(row[name] if value is None else row[name] == value) for name, value in columns]
                     for row in rows])  # fmt: skip

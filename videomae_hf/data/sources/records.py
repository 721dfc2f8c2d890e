# Copyright 2026 The videomae_hf authors. Licensed under the Apache License, Version 2.0.
"""The videos of a data set, each with its labels, and how many of them are kept in little memory."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from ...models.video_decoding import FrameFolder, VideoSegment


@dataclass(frozen=True)
class VideoRecord:
    """A video of a data set, or a part of one.

    Args:
        path: of the video or of its folder of images; a name, if `content` is given.
        label: number of its class; a tuple of numbers with several labels a video.
        first_frame, num_frames: of a folder of images, the number of the first one and how many there are.
        source: which of several sources it is from, see `read_sources`.
        content: the bytes of a video that is no file of its own.
        targets: the numbers to predict, in regression.
        start, end: seconds, for a part of the video; None is its beginning and its end.
        start_frame, end_frame: the same in frames from 0, without the last one.
    """

    path: str
    label: int | tuple[int, ...] | None = None
    first_frame: int | None = None
    num_frames: int | None = None
    source: int = 0
    content: bytes | None = field(default=None, repr=False)
    targets: tuple[float, ...] | None = None
    start: float | None = None
    end: float | None = None
    start_frame: int | None = None
    end_frame: int | None = None

    @property
    def segment(self) -> tuple[float | None, float | None, int | None, int | None]:
        """start, end, start_frame, end_frame; all None for a whole video."""
        return self.start, self.end, self.start_frame, self.end_frame

    @property
    def is_segment(self) -> bool:
        return any(bound is not None for bound in self.segment)

    @property
    def name(self) -> str:
        """The path and, for a part of a video, which part: "a.mp4 [2 to 4.5 s]"."""
        if not self.is_segment:
            return self.path
        in_seconds = self.start_frame is None and self.end_frame is None
        start, end, unit = (self.start, self.end, "s") if in_seconds else (self.start_frame, self.end_frame, "frames")
        return f"{self.path} [{start or 0:g} to {'the end' if end is None else f'{end:g} {unit}'}]"

    def video(self, template: str | None = None) -> "str | bytes | FrameFolder | VideoSegment":
        """What `read_frames` takes; `template` names the images of a folder."""
        whole = self.whole_video(template)
        return VideoSegment(whole, *self.segment) if self.is_segment else whole

    def whole_video(self, template: str | None) -> str | bytes | FrameFolder:
        """The video that this is, or is a part of."""
        if self.content is not None:
            return self.content
        if template is None and self.num_frames is None:
            return self.path
        return FrameFolder(self.path, template, 1 if self.first_frame is None else self.first_frame, self.num_frames)


class VideoRecords(Sequence):
    """Samples, kept in a few arrays.

    As Python objects the samples of a large data set would slowly be copied to each worker process: looking at one
    writes its reference count.

    Args:
        samples: any number of them.
        messages: how they were read and what was left out, a line each.
    """

    def __init__(self, samples: Iterable[VideoRecord] = (), messages: Sequence[str] = ()) -> None:
        self.messages, self.multi_label = list(messages), False
        paths, labels, numbers, targets, segments = [], [], [], [], {}
        self._contents = {}  # position: bytes, of samples that are no files; they are in memory anyway
        for position, sample in enumerate(samples):
            if sample.content is not None:
                self._contents[position] = sample.content
            paths.append(sample.path.encode("utf-8", "surrogateescape"))
            self.multi_label |= isinstance(sample.label, tuple)
            labels.append(sample.label if isinstance(sample.label, tuple) else _optional(sample.label))
            if sample.targets is not None:
                targets.append(sample.targets)
            if sample.is_segment:
                segments[position] = [np.nan if bound is None else bound for bound in sample.segment]
            num_frames = -1 if sample.num_frames is None else sample.num_frames
            numbers.append((len(_optional(sample.first_frame)), sample.first_frame or 0, num_frames, sample.source))
        self._paths, self._path_ends = np.frombuffer(b"".join(paths), np.uint8), np.cumsum([0, *map(len, paths)])
        self._labels = np.array([number for label in labels for number in label], np.int32)
        self._label_ends = np.cumsum([0, *map(len, labels)])
        self._numbers = np.array(numbers, np.int64).reshape(-1, 4)
        self._targets = np.array(targets, np.float64) if targets else None  # (N, K), of all samples or of none
        self._segments = None  # (N, 4) where there are any: seconds and frames are exact in float64
        if segments:
            self._segments = np.full((len(paths), 4), np.nan)
            self._segments[list(segments)] = list(segments.values())

    def __len__(self) -> int:
        return len(self._numbers)

    def __getitem__(self, index: int) -> VideoRecord:
        if isinstance(index, slice):
            return [self[position] for position in range(*index.indices(len(self)))]
        index = range(len(self))[index]  # counts from the end, and raises IndexError
        path = self._paths[self._path_ends[index] : self._path_ends[index + 1]].tobytes()
        labels = tuple(self._labels[self._label_ends[index] : self._label_ends[index + 1]].tolist())
        has_first, first_frame, num_frames, source = self._numbers[index].tolist()
        return VideoRecord(
            path.decode("utf-8", "surrogateescape"),
            labels if self.multi_label else (labels[0] if labels else None),
            first_frame if has_first else None,
            num_frames if num_frames >= 0 else None,
            source,
            self._contents.get(index),
            None if self._targets is None else tuple(self._targets[index].tolist()),
            *self._segment(index),
        )

    def _segment(self, index: int) -> tuple:
        if self._segments is None:
            return ()
        start, end, *frames = (None if np.isnan(bound) else bound for bound in self._segments[index].tolist())
        return start, end, *(None if frame is None else int(frame) for frame in frames)


def _optional(value) -> tuple:
    return () if value is None else (value,)


class Relabelled(Sequence):
    """Samples of any kind with another value of some fields: `Relabelled(samples, label=0)`."""

    def __init__(self, samples: Sequence[VideoRecord], **values) -> None:
        self._samples, self._values = samples, values

    def __len__(self) -> int:
        return len(self._samples)

    def __getitem__(self, index: int) -> VideoRecord:
        if isinstance(index, slice):
            return [self[position] for position in range(*index.indices(len(self)))]
        return replace(self._samples[index], **self._values)

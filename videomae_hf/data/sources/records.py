# Copyright 2026 The videomae_hf authors. Licensed under the Apache License, Version 2.0.
"""Records of the videos of a data set with their labels, and a memory-efficient sequence of them."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from ...models.video_decoding import FrameFolder, VideoSegment


@dataclass(frozen=True)
class VideoRecord:
    """A video of a data set, or a part of one.

    Args:
        path: path of the video or of its folder of images; a name, if `content` is given.
        label: class number; a tuple of class numbers with several labels per video.
        first_frame, num_frames: for a folder of images, the number of the first image and the number of images.
        source: index of the source, see `read_sources`.
        content: the bytes of a video that is not a file of its own.
        targets: the numbers to predict, in regression.
        start, end: bounds of a part of the video, in seconds; None is the start or the end of the video.
        start_frame, end_frame: the same in frames, counted from 0; `end_frame` is exclusive.
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
        """Whether the record is a part of a video."""
        return any(bound is not None for bound in self.segment)

    @property
    def name(self) -> str:
        """The path, with the bounds of a part: "a.mp4 [2 to 4.5 s]"."""
        if not self.is_segment:
            return self.path
        in_seconds = self.start_frame is None and self.end_frame is None
        start, end, unit = (self.start, self.end, "s") if in_seconds else (self.start_frame, self.end_frame, "frames")
        return f"{self.path} [{start or 0:g} to {'the end' if end is None else f'{end:g} {unit}'}]"

    def video(self, template: str | None = None) -> "str | bytes | FrameFolder | VideoSegment":
        """The video as an argument of `read_frames`; `template` is the pattern of names in a folder of images."""
        whole = self.whole_video(template)
        return VideoSegment(whole, *self.segment) if self.is_segment else whole

    def whole_video(self, template: str | None) -> str | bytes | FrameFolder:
        """The whole video of the record, which may be a part of it."""
        if self.content is not None:
            return self.content
        if template is None and self.num_frames is None:
            return self.path
        return FrameFolder(self.path, template, 1 if self.first_frame is None else self.first_frame, self.num_frames)


class VideoRecords(Sequence):
    """A sequence of `VideoRecord`s, stored in a few arrays.

    As Python objects, the records of a large data set would gradually be copied to each worker process, because every
    access writes a reference count.

    Args:
        samples: the records.
        messages: messages about how they were read, and about records that were left out.
    """

    def __init__(self, samples: Iterable[VideoRecord] = (), messages: Sequence[str] = ()) -> None:
        self.messages, self.multi_label = list(messages), False
        paths, labels, numbers, targets, segments = [], [], [], [], {}
        self._contents = {}  # position: bytes of records that are not files, which are in memory anyway
        for position, record in enumerate(samples):
            if record.content is not None:
                self._contents[position] = record.content
            paths.append(record.path.encode("utf-8", "surrogateescape"))
            self.multi_label |= isinstance(record.label, tuple)
            labels.append(record.label if isinstance(record.label, tuple) else _optional(record.label))
            if record.targets is not None:
                targets.append(record.targets)
            if record.is_segment:
                segments[position] = [np.nan if bound is None else bound for bound in record.segment]
            num_frames = -1 if record.num_frames is None else record.num_frames
            numbers.append((len(_optional(record.first_frame)), record.first_frame or 0, num_frames, record.source))
        self._paths, self._path_ends = np.frombuffer(b"".join(paths), np.uint8), np.cumsum([0, *map(len, paths)])
        self._labels = np.array([number for label in labels for number in label], np.int32)
        self._label_ends = np.cumsum([0, *map(len, labels)])
        self._numbers = np.array(numbers, np.int64).reshape(-1, 4)
        self._targets = np.array(targets, np.float64) if targets else None  # (N, K), of all records or of none
        self._segments = None  # (N, 4) if there are any; float64 represents seconds and frames exactly
        if segments:
            self._segments = np.full((len(paths), 4), np.nan)
            self._segments[list(segments)] = list(segments.values())

    def __len__(self) -> int:
        return len(self._numbers)

    def __getitem__(self, index: int) -> VideoRecord:
        if isinstance(index, slice):
            return [self[position] for position in range(*index.indices(len(self)))]
        index = range(len(self))[index]  # supports negative indices, and raises IndexError
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


class RecordsOnAccess(Sequence):
    """Records whose videos are stored elsewhere and read on access; indexing does not read the video.

    Subclasses implement `located`, which adds the position of the video to a record.
    """

    def __init__(self, records: VideoRecords) -> None:
        self._records = records

    @property
    def multi_label(self) -> bool:
        return self._records.multi_label

    @property
    def messages(self) -> list[str]:
        return self._records.messages

    def __len__(self) -> int:
        return len(self._records)

    def __getitem__(self, index: int) -> VideoRecord:
        if isinstance(index, slice):
            return [self[position] for position in range(*index.indices(len(self)))]
        index = range(len(self))[index]  # counts from the end, and raises IndexError
        return self.located(index, self._records[index])

    def located(self, index: int, record: VideoRecord) -> VideoRecord:
        """The record at `index`, with the position of its video."""
        raise NotImplementedError


class Relabelled(Sequence):
    """A view of records in which some fields have other values: `Relabelled(samples, label=0)`."""

    def __init__(self, samples: Sequence[VideoRecord], **values) -> None:
        self._samples, self._values = samples, values

    def __len__(self) -> int:
        return len(self._samples)

    def __getitem__(self, index: int) -> VideoRecord:
        if isinstance(index, slice):
            return [self[position] for position in range(*index.indices(len(self)))]
        return replace(self._samples[index], **self._values)

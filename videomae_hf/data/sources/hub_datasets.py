# Copyright 2026 The videomae_hf authors. Licensed under the Apache License, Version 2.0.
"""Lists or streams the videos of Hugging Face `datasets`: from the Hub, from a local folder, or by a loader's name.

`read_rows` lists videos for random access. `stream_rows` returns what `VideoStream` reads sequentially, and
`stream_shards` does the same for local tar shards.
"""

import tarfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import datasets
import fsspec

from ...messages import did_you_mean, several, shorten
from .classes import class_number, classes_of, numbered
from .list_columns import COLUMNS, PATHS, column_key
from .list_records import Listed, cell_labels, segment_of
from .media import VIDEOS, Media, images_for_videos
from .records import RecordsOnAccess, VideoRecord, VideoRecords
from .tar_shards import SEGMENT_COLUMNS, find_shards, shard_lengths, stream_shard_rows


_KEY = "__key__"  # the column with the names in a WebDataset
_LABEL_COLUMNS = ("label", "labels", "cls", "class", "class_name")
_SEGMENTS = {name: role for role in SEGMENT_COLUMNS for name in COLUMNS[role].names}


@dataclass(frozen=True)
class RowRecord(VideoRecord):
    """A video in a row of a data set, which is read on access."""

    read: Callable[[], dict] = field(default=None, repr=False)  # returns the row's {"bytes": .., "path": ..}

    def whole_video(self, template: str | None) -> str | bytes:
        value = self.read()
        if value["bytes"] is not None:
            return value["bytes"]
        path = value["path"]
        if "://" not in path or path.startswith(("http://", "https://")):
            return path
        with fsspec.open(path, "rb") as file:  # hf://, or a file in an archive on the Hub
            return file.read()


class RowRecords(RecordsOnAccess):
    """The videos of a `datasets.Dataset`."""

    def __init__(self, rows: datasets.Dataset, column: str, records: VideoRecords) -> None:
        super().__init__(records)
        self._rows, self._column = rows.select_columns([column]), column

    def located(self, index: int, record: VideoRecord) -> RowRecord:
        return RowRecord(**vars(record), read=partial(self._read, index))

    def _read(self, index: int) -> dict:
        return self._rows[index][self._column]


@dataclass
class StreamedRows:
    """Rows that are read sequentially, with the information needed to convert them to samples.

    Args:
        rows: a `datasets.IterableDataset`.
        video_column, label_column: names of the columns; `label_column` is None without labels.
        class_names: the class names; [] without labels.
        num_videos: number of videos per epoch.
        multi_label: whether labels are lists.
        segments: columns that select a part of a video: name -> role.
        messages: notes about how the rows are read, one line each.
    """

    rows: datasets.IterableDataset
    video_column: str
    label_column: str | None
    class_names: list[str]
    num_videos: int
    multi_label: bool = False
    segments: dict[str, str] = field(default_factory=dict)
    messages: list[str] = field(default_factory=list)

    def __post_init__(self):
        self._numbers = {name: number for number, name in enumerate(self.class_names)}
        if all(class_number(name.removeprefix("LABEL_")) is None for name in self.class_names):
            places = {str(number): number for number in range(len(self.class_names))}
            self._numbers = {**places, **self._numbers}

    def sample(self, row: dict) -> RowRecord:
        value, label = row[self.video_column], None
        path = value["path"] or f"a video without a name, of {len(value['bytes'])} bytes"
        if not value["path"] and _KEY in row:  # datasets 4.0
            path = f"{row[_KEY]}.{self.video_column}"
        if self.label_column is not None:
            names = _label_names(row[self.label_column], self.rows.features[self.label_column])
            unknown = [name for name in names if name not in self._numbers]
            if unknown or not (names or self.multi_label):
                what = f"the unknown label {unknown[0]!r}" if unknown else "no label"
                raise ValueError(f"{path} has {what}. Known: {shorten(self.class_names)}.")
            label = tuple(self._numbers[name] for name in names)
            label = label if self.multi_label else label[0]
        bounds = segment_of({role: row[name] for name, role in self.segments.items()})
        return RowRecord(path, label, **bounds, read=lambda: value)


@dataclass(frozen=True)
class HubSplit:
    """A split of a data set, and how its rows are read.

    Args:
        name: Hub id, local folder, or name of a loader such as "videofolder", which takes `data_dir`.
        split: name of the split, such as "train", or a part of it: "train[:10%]".
        labelled: False ignores labels.
        multi_label: a video may have any number of labels.
        video_column, label_column: names of the columns; None detects them.
        options: `config_name`, and options of `datasets.load_dataset`.
        media: the samples: videos, or images as well.
    """

    name: str
    split: str
    labelled: bool = True
    multi_label: bool = False
    video_column: str | None = None
    label_column: str | None = None
    options: dict = field(default_factory=dict)
    media: Media = VIDEOS


def read_rows(source: HubSplit, class_names: list[str] | None = None) -> tuple[RowRecords, list[str]]:
    """Lists the videos of a split, as `read_samples` does for a folder.

    Args:
        source: the split.
        class_names: the classes and their order, as in a trained model; None takes them from the data.

    Raises:
        ValueError: the split (the message lists the existing ones) or a column is unknown, there is no row, or a label
            is missing or unknown.
    """
    name, split, labelled, multi_label = source.name, source.split, source.labelled, source.multi_label
    rows = _load(name, split, **source.options)
    if len(rows) == 0:
        raise ValueError(f"{name}, split {split!r}, has no rows.")
    video_column, label_column = _columns(rows, source)
    segments = _segment_columns(rows.features, (video_column, label_column))
    notes = _unused(name, rows.features, [video_column, label_column, *segments])
    rows = _undecoded(rows, video_column)
    samples = _samples(name, rows, list(_names(rows, video_column, split)), segments)
    if not labelled:
        return RowRecords(rows, video_column, VideoRecords(samples, notes)), []
    feature = rows.features[label_column]
    _require_list(label_column, feature, multi_label=multi_label)
    values = rows.select_columns([label_column])[:][label_column]
    found = [
        Listed(f"row {number}: ", sample, _label_names(value, feature))
        for number, (sample, value) in enumerate(zip(samples, values))
    ]
    missing = [f"{place}no label" for place, _, labels in found if not labels and not multi_label]
    if missing:
        raise ValueError(f"{name}: {several(missing)}")
    class_names = class_names or _class_label_names(feature)
    labels = {label for _, _, some in found for label in some}
    if not class_names and not labels:
        raise ValueError(f"{name}, split {split!r}, has no class for any of its {len(found)} videos.")
    if not class_names:
        class_names, more = classes_of(labels, name)
        notes += more
    samples, more = numbered(found, class_names, name, multi_label=multi_label)
    return RowRecords(rows, video_column, VideoRecords(samples, notes + more)), class_names


def read_captioned_rows(
    source: HubSplit, column: str | None, names: Sequence[str]
) -> tuple[RowRecords, list[str | list[str] | None]]:
    """The videos of a split, without labels, and the value of the column of captions in each row.

    Args:
        source: the split.
        column: the column of captions; None is the only one with one of these `names`.

    Raises:
        ValueError: the split or a column is unknown, or the column is unclear.
    """
    records, _ = read_rows(source)
    rows = _load(source.name, source.split, **source.options)
    found = [name for name in rows.features if column_key(name) in names] if column is None else [column]
    if len(found) != 1 or found[0] not in rows.features:
        raise ValueError(
            f"{source.name}: the column of captions is unclear among {', '.join(rows.features)}; set "
            f"--caption_column_name."
        )
    return records, list(rows.select_columns(found)[:][found[0]])


def _samples(name: str, rows: datasets.Dataset, paths: list[str], segments: dict[str, str]) -> list[VideoRecord]:
    """One sample per row, restricted to a part of its video if there are columns for it."""
    if not segments:
        return [VideoRecord(path) for path in paths]
    columns = rows.select_columns(list(segments))[:]
    samples = []
    for number, path in enumerate(paths):
        try:
            bounds = segment_of({role: columns[column][number] for column, role in segments.items()})
        except ValueError as error:
            raise ValueError(f"{name}: row {number}: {error}") from error
        samples.append(VideoRecord(path, **bounds))
    return samples


def _segment_columns(features, others: Sequence[str | None]) -> dict[str, str]:
    """The columns that give the position of a clip within its video: name -> role."""
    found = {name: _SEGMENTS[column_key(name)] for name in features if column_key(name) in _SEGMENTS}
    found = {name: role for name, role in found.items() if name not in others}
    for role in found.values():
        same = [name for name in found if found[name] == role]
        if len(same) > 1:
            raise ValueError(f"{' and '.join(same)} may both be the column of {role}; keep one of them.")
    return found


def _unused(name: str, features, used: Sequence[str | None]) -> list[str]:
    unused = [column for column in features if column not in used and not column.startswith("__")]
    return [f"{name}: columns not used: {shorten(unused)}"] if unused else []


def stream_rows(source: HubSplit, class_names: list[str] | None = None, num_videos: int | None = None) -> StreamedRows:
    """Opens a split for sequential reading; nothing is stored on this machine.

    Args:
        source: the split.
        class_names: the class names, required if the label column does not have any.
        num_videos: number of videos per epoch; None uses the size of the split, if it is known.

    Raises:
        ValueError: as in `read_rows`, or the classes or the number of videos are unknown.
    """
    name, split, labelled, multi_label = source.name, source.split, source.labelled, source.multi_label
    rows = _load(name, split, streaming=True, **source.options)
    if rows.features is None:
        raise ValueError(f"{name}, split {split!r}, does not declare its columns, and cannot be streamed.")
    video_column, label_column = _columns(rows, source)
    segments = _segment_columns(rows.features, (video_column, label_column))
    notes = _unused(name, rows.features, [video_column, label_column, *segments])
    if label_column is not None:
        _require_list(label_column, rows.features[label_column], multi_label=multi_label)
        class_names = class_names or _class_label_names(rows.features[label_column])
        if not class_names:
            raise ValueError(
                f"The column {label_column!r} of {name} does not declare its classes, and a stream is not searched for "
                f"them; pass a file with one class name per line as --class_names."
            )
    known = (rows.info.splits or {}).get(split)
    num_videos = num_videos or (known.num_examples if known is not None else None)
    if not num_videos:
        raise ValueError(f"The number of videos in {name}, split {split!r}, is unknown; set --videos_per_epoch.")
    columns = [name for name in (video_column, label_column, _KEY, *segments) if name in rows.features]
    rows = _undecoded(rows.select_columns(columns), video_column)
    classes = class_names if labelled else []
    return StreamedRows(rows, video_column, label_column, classes, num_videos, multi_label, segments, notes)


def stream_shards(
    source: str | Path,
    class_names: list[str] | None = None,
    *,
    labelled: bool = True,
    num_videos: int | None = None,
    media: Media = VIDEOS,
) -> StreamedRows:
    """Opens local tar shards for sequential reading; `tar_shards.py` describes their content.

    Raises:
        ValueError: the classes or the number of videos are unknown, because there is no index.json with them.
        FileNotFoundError: there is no shard.
    """
    shards, index = find_shards(source)
    class_names = class_names or index.get("class_names")
    num_videos = num_videos or shard_lengths(shards, index)
    if labelled and not class_names:
        raise ValueError(
            f"{source} has no index.json with its classes, and a stream is not searched for them; pass a file with one "
            f"class name per line as --class_names."
        )
    if not num_videos:
        raise ValueError(f"The number of videos in {source} is unknown; set --videos_per_epoch.")
    video = {"bytes": datasets.Value("binary"), "path": datasets.Value("string")}
    numbers = dict.fromkeys(SEGMENT_COLUMNS, datasets.Value("float64"))
    rows = datasets.IterableDataset.from_generator(
        stream_shard_rows,
        features=datasets.Features({"video": video, "label": datasets.Value("string"), **numbers}),
        gen_kwargs={"shards": shards, "index": index, "labelled": labelled, "media": media},
    )
    segments = {name: name for name in SEGMENT_COLUMNS}
    label_column = "label" if labelled else None
    return StreamedRows(rows, "video", label_column, class_names if labelled else [], num_videos, segments=segments)


def _load(
    name: str, split: str, config_name: str | None = None, **options
) -> datasets.Dataset | datasets.IterableDataset:
    # Rows are not decoded here, but `datasets` still imports torchcodec if it is installed, and fails if it cannot be
    # loaded (torchcodec 0.14 and newer without CUDA).
    datasets.config.TORCHCODEC_AVAILABLE = False
    folder = Path(name).expanduser()
    saved = [file for file in ("dataset_dict.json", "state.json") if (folder / file).is_file()]
    if saved and not options.get("streaming"):  # written by save_to_disk
        found = datasets.load_from_disk(str(folder))
        if isinstance(found, datasets.Dataset):
            return found
        if split not in found:
            raise ValueError(f"{name} has no split {split!r}; choose one of {', '.join(found)}.")
        return found[split]
    if name.startswith((".", "/", "~")) and not folder.is_dir():
        raise FileNotFoundError(f"There is no folder {name}.")
    options = {key: value for key, value in options.items() if value is not None}
    try:
        return datasets.load_dataset(str(folder) if folder.is_dir() else name, config_name, split=split, **options)
    except (ValueError, tarfile.TarError, datasets.exceptions.DatasetsError) as error:
        # The cause has the error that occurred while rows were generated.
        cause = error.__cause__ if isinstance(error, datasets.exceptions.DatasetGenerationError) else None
        raise ValueError(f"{name}, split {split!r}: {' '.join(str(cause or error).split())}") from error


def _columns(rows, source: HubSplit) -> tuple[str, str | None]:
    """The columns of videos and of labels; the latter is None without labels."""
    video_column, label_column, labelled = source.video_column, source.label_column, source.labelled
    features = rows.features
    names = list(features)
    for option, column in (("video_column_name", video_column), ("label_column_name", label_column)):
        if column is not None and column not in names:
            raise ValueError(f"{option}={column!r}: the columns are {', '.join(names)}{did_you_mean(column, names)}")
    images = [name for name in names if isinstance(features[name], datasets.Image)]
    if video_column is None:
        videos = _sample_columns(features, source.media)
        if not videos and images:
            raise ValueError(images_for_videos(source.name, f"images (in the column {images[0]})"))
        if len(videos) != 1:
            noun = source.media.noun
            what = f"several columns of {noun}s ({', '.join(videos)})" if videos else f"no column of {noun}s"
            raise ValueError(f"Found {what} among {', '.join(names)}; set --video_column_name.")
        video_column = videos[0]
    elif video_column in images and not source.media.images:
        raise ValueError(images_for_videos(source.name, f"images (in the column {video_column})"))
    if not labelled:
        return video_column, None
    if label_column is None:
        typed = [name for name in names if isinstance(features[name], datasets.ClassLabel)]
        named = [name for name in _LABEL_COLUMNS if name in names]
        others = [name for name in names if name != video_column and column_key(name) in COLUMNS["label"].names]
        found = next((columns for columns in (named[:1], typed, others) if columns), [])
        if len(found) != 1:
            raise ValueError(f"The column of labels is unclear among {', '.join(names)}; set --label_column_name.")
        label_column = found[0]
    return video_column, label_column


def _sample_columns(features, media: Media) -> list[str]:
    """The columns that hold videos or, with `media.images`, images: those of the first kind of which there are any."""
    kinds = (datasets.Image, datasets.Video) if media.images else (datasets.Video,)
    choices = [[name for name in features if isinstance(features[name], kind)] for kind in kinds]
    # Columns of a WebDataset are named by suffix.
    choices.append([name for name in features if f".{name.lower()}".endswith(media.suffixes)])
    choices.append([name for name in features if column_key(name) in PATHS and _is_text(features[name])])
    return next((found for found in choices if found), [])


def _undecoded(rows, column: str) -> datasets.Dataset | datasets.IterableDataset:
    """Rows whose column gives the bytes and the path of a file."""
    is_image = isinstance(rows.features[column], datasets.Image)
    return rows.cast_column(column, datasets.Image(decode=False) if is_image else datasets.Video(decode=False))


def _is_text(feature) -> bool:
    return isinstance(feature, datasets.Value) and feature.dtype in ("string", "large_string")


def _item_feature(feature) -> Any:
    """The feature of the items in a column of lists; None for any other column."""
    return feature[0] if isinstance(feature, list) else getattr(feature, "feature", None)


def _require_list(column: str, feature, *, multi_label: bool) -> None:
    is_list = _item_feature(feature) is not None
    if is_list != multi_label:
        what = "lists of labels; set multi_label" if is_list else "one label per video; multi_label needs lists"
        raise ValueError(f"The column {column!r} has {what}.")


def _class_label_names(feature) -> list[str] | None:
    feature = _item_feature(feature) or feature
    return list(feature.names) if isinstance(feature, datasets.ClassLabel) else None


def _label_names(value, feature) -> list[str]:
    """The classes of a row by name, or by number if they have no names; [] if there is none."""
    values = value if isinstance(value, list) else [value]
    values = [one for one in values if one is not None and one != -1]  # `datasets` uses -1 for "no label"
    names = _class_label_names(feature)
    if names is not None:
        return [one if isinstance(one, str) else names[one] for one in values]
    return [label for one in values for label in cell_labels(one)]


def _names(rows: datasets.Dataset, column: str, split: str) -> Iterator[str]:
    """The name of each video: its path, or its row number."""
    number = 0
    for table in rows.select_columns([column]).with_format("arrow").iter(1000):
        for chunk in table.column(0).chunks:
            for path in chunk.field("path").to_pylist():  # does not load the bytes
                yield path or f"{split}[{number}]"
                number += 1

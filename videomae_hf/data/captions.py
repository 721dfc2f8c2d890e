# Copyright 2026 The videomae_hf authors. Licensed under the Apache License, Version 2.0.
"""Videos with captions, from lists, annotation files, tar shards, folders and data sets of `datasets`.

A list has a column of videos and one of captions, and optionally start and end; JSON may hold several captions of a
video. A row without a caption is a video alone, and a row without a video a text alone. Annotation files of YouCook II
(`database`, `annotations` with `segment` and `sentence`) and ActivityNet Captions (`timestamps` and `sentences`) are
lists, too.
"""

import os
import tarfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from ..messages import count, several
from ..settings.groups import DataSettings
from ..text_files import parse_json
from .sources.folders_and_lists import Reading, read_samples
from .sources.hub_datasets import HubSplit, read_captioned_rows
from .sources.list_columns import choose_split, column_key, find_roles
from .sources.list_paths import PathFinder
from .sources.list_records import segment_of
from .sources.lists import Row, read_table
from .sources.records import VideoRecord
from .sources.tar_shards import find_shards, is_shards, read_shards


CAPTION_COLUMNS = ("caption", "captions", "text", "sentence", "sentences", "description", "raw_caption")
_MOST_BYTES = 2**20  # of a member of a shard with a caption
_HUB_URL = "hf://datasets/"


@dataclass(frozen=True)
class Pair:
    """A video, by its number among the records, and a caption; -1 is a text without video, "" a video without text."""

    video: int
    text: str


@dataclass(frozen=True)
class CaptionRecord(VideoRecord):
    """A pair as a record of its video, or of "" for a text alone; `pair` is its number, `video_number` that of its
    video, or -1."""

    text: str = ""
    pair: int = 0
    video_number: int = -1


@dataclass
class CaptionedVideos(Sequence):
    """Videos and their captions; as a sequence, a `CaptionRecord` for each pair.

    Args:
        records: the videos, or parts of videos, each once.
        pairs: a pair for each caption, in the order of the source.
        messages: messages about how they were read.
    """

    records: Sequence[VideoRecord]
    pairs: list[Pair]
    messages: list[str] = field(default_factory=list)

    def __len__(self) -> int:
        return len(self.pairs)

    def __getitem__(self, index: int) -> CaptionRecord:
        index = range(len(self))[index]  # counts from the end, and raises IndexError
        pair = self.pairs[index]
        video = VideoRecord("") if pair.video < 0 else self.records[pair.video]
        fields = {name: getattr(video, name) for name in VideoRecord.__dataclass_fields__}
        return CaptionRecord(**fields, text=pair.text, pair=index, video_number=pair.video)


def read_captions(source: str | None, data: DataSettings, reading: Reading, column: str | None) -> CaptionedVideos:
    """Reads videos with captions.

    Args:
        source: a list, an annotation file, tar shards with members .txt or .json beside the videos, a folder of videos
            (without captions), or hf://datasets/USER/NAME; None is `data.dataset_name`.
        data: settings of data sets.
        reading: options for reading lists, including the split.
        column: name of the column of captions; None finds it among `CAPTION_COLUMNS`.

    Raises:
        FileNotFoundError: there is no such source.
        ValueError: it cannot be read as captions; the message gives the lines.
    """
    if source is None or source.startswith(_HUB_URL):
        return _of_rows((source or data.dataset_name).removeprefix(_HUB_URL), data, reading, column)
    if is_shards(source):
        return _of_shards(source)
    path = Path(source).expanduser()
    if path.is_dir():
        records, _ = read_samples(path, reading=replace(reading, labelled=False))
        return CaptionedVideos(records, [Pair(number, "") for number in range(len(records))], [*records.messages])
    if not path.exists():
        raise FileNotFoundError(f"{source} does not exist; give a list of videos and captions, shards, or a folder.")
    return _ListReading(path, reading, column).result()


def _of_rows(name: str, data: DataSettings, reading: Reading, column: str | None) -> CaptionedVideos:
    options = {"config_name": data.dataset_config_name, "data_dir": data.dataset_dir}
    split = HubSplit(name, reading.split[0], labelled=False, video_column=data.video_column_name, options=options)
    records, values = read_captioned_rows(split, column, CAPTION_COLUMNS)
    pairs = [
        Pair(number, text) for number, value in enumerate(values) for text in _texts(value, f"{name}: row {number}")
    ]
    return CaptionedVideos(records, pairs, [*records.messages])


def _of_shards(source: str) -> CaptionedVideos:
    records, _ = read_shards(source, labelled=False)
    texts = {shard: _shard_texts(shard) for shard in find_shards(source)[0]}
    pairs = []
    for number in range(len(records)):
        record = records[number]
        stem = os.path.splitext(record.path.removeprefix(f"{record.shard}/"))[0]
        folder, base = os.path.split(stem)
        beside = texts[record.shard]
        found = beside.get(stem) or beside.get(os.path.join(folder, base.split(".")[0])) or [""]
        pairs += [Pair(number, text) for text in found]
    return CaptionedVideos(records, pairs, [*records.messages])


def _shard_texts(shard: str) -> dict[str, list[str]]:
    """The captions in a shard by the name of the sample: those of .txt, or of a caption column of .json."""
    found = {}
    with tarfile.open(shard, "r:") as tar:
        for member in tar:
            stem, suffix = os.path.splitext(member.name)
            if suffix not in (".txt", ".json") or not member.isfile() or member.size > _MOST_BYTES:
                continue
            content, where = tar.extractfile(member).read().decode(errors="replace"), f"{shard}/{member.name}"
            if suffix == ".txt":
                found[stem] = _texts(content, where)
                continue
            values = parse_json(content, where)
            names = [name for name in values if column_key(name) in CAPTION_COLUMNS] if isinstance(values, dict) else []
            if names:
                found.setdefault(stem, _texts(values[names[0]], where))
    return found


def _texts(value: object, where: str) -> list[str]:
    """The captions in a cell, which may be a list: at least one, "" for none.

    Raises:
        ValueError: the value is neither text nor a list of texts.
    """
    values = value if isinstance(value, list) else [value]
    values = ["" if one is None else one for one in values] or [""]
    if not all(isinstance(one, str) for one in values):
        raise ValueError(f"{where}: the caption is {value!r:.60}, not text.")
    return [" ".join(one.split()) for one in values]


class _ListReading:
    """The state of reading a list of captions: its videos, each once, and problems collected from all rows."""

    def __init__(self, source: Path, reading: Reading, column: str | None) -> None:
        self.source, self.reading, self.column = source, reading, column
        self.finder = PathFinder(Path(reading.root).expanduser() if reading.root else source.parent, reading.media)
        self.numbers: dict[VideoRecord, int] = {}
        self.problems: list[str] = []

    def result(self) -> CaptionedVideos:
        rows = [self._roles(one) for row in read_table(self.source, "label").rows for one in self._moments(row)]
        rows, notes = self._of_the_split(rows)
        pairs = [pair for place, values in rows for pair in self._pairs(place, values)]
        if self.problems:
            raise ValueError(f"{self.source}: {several(self.problems)}")
        if not any(pair.text for pair in pairs):
            notes.append(f"{self.source} has no caption: its videos are trained on alone")
        notes += [f"{self.source}: {note}" for note in self.finder.notes.values()]
        return CaptionedVideos(list(self.numbers), pairs, notes)

    def _moments(self, row: Row) -> Iterator[Row]:
        """The row, or a row for each of the `timestamps` and `sentences` of a video, as in ActivityNet Captions."""
        values = row.values
        if not isinstance(values, dict) or "timestamps" not in values:
            yield row
            return
        times, sentences = values["timestamps"], values.get("sentences")
        bounds = isinstance(times, list) and all(isinstance(one, list) and len(one) == 2 for one in times)
        if not bounds or not isinstance(sentences, list) or len(sentences) != len(times):
            raise ValueError(f"{self.source}, {row.place}: timestamps need a [start, end] for each of the sentences.")
        shared = {name: value for name, value in values.items() if name not in ("timestamps", "sentences", "duration")}
        for (start, end), sentence in zip(times, sentences):
            yield replace(row, values={**shared, "start": start, "end": end, "sentence": sentence})

    def _roles(self, row: Row) -> tuple[str, dict]:
        """The place of a row, and its values by role, of which `text` is the caption.

        Raises:
            ValueError: a column is missing or ambiguous.
        """
        if isinstance(row.values, list):
            if len(row.values) != 2:
                raise ValueError(
                    f"{self.source}, {row.place}: {len(row.values)} columns; without a header a row has a video and a "
                    f"caption (quote a caption that contains the delimiter)."
                )
            return row.place, dict(zip(("path", "text"), row.values))
        names = list(row.values)
        if self.column is not None and self.column not in names:
            raise ValueError(f"{self.source}: caption_column_name={self.column!r}: the columns are {', '.join(names)}.")
        captions = [self.column] if self.column else [name for name in names if column_key(name) in CAPTION_COLUMNS]
        if len(captions) > 1:
            raise ValueError(
                f"{self.source}: {' and '.join(captions)} could both be captions; choose with --caption_column_name."
            )
        try:
            roles, _ = find_roles([name for name in names if name not in captions], self.reading.video_column)
        except ValueError as error:
            if captions and len(names) == len(captions):  # texts alone
                return row.place, {"text": row.values[captions[0]]}
            raise ValueError(f"{self.source}: {error}") from error
        values = {role: row.values[name] for role, name in roles.items()}
        return row.place, {**values, "text": row.values[captions[0]] if captions else None}

    def _of_the_split(self, rows: list[tuple[str, dict]]) -> tuple[list[tuple[str, dict]], list[str]]:
        if not self.reading.split or not any("split" in values for _, values in rows):
            return rows, []
        splits = [str(values.get("split") or "").strip() for _, values in rows]
        try:
            chosen = choose_split(list(dict.fromkeys(splits)), self.reading.split)
        except ValueError as error:
            raise ValueError(f"{self.source}: {error}") from error
        kept = [row for row, split in zip(rows, splits) if split == chosen]
        return kept, [f"{self.source}: {count(len(kept), 'row')} of {len(rows)} of the split {chosen!r}"]

    def _pairs(self, place: str, values: dict) -> Iterator[Pair]:
        """The pairs of a row; problems are collected."""
        try:
            texts = _texts(values.get("text"), place)
            path = str(values.get("path") or "").strip()
            if not path and not any(texts):
                raise ValueError("neither a video nor a caption")
            number = -1
            if path:
                record = self.finder.find(VideoRecord(self.finder.absolute(path), **segment_of(values)))
                number = self.numbers.setdefault(record, len(self.numbers))
            yield from (Pair(number, text) for text in texts)
        except ValueError as error:
            self.problems.append(f"{place}: {str(error).removeprefix(f'{place}: ')}")

# Copyright 2026 The videomae_hf authors. Licensed under the Apache License, Version 2.0.
"""Nearest videos, or moments of videos, in a folder of pooled features: exact cosine similarities."""

import hashlib
import importlib.util
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from tqdm import tqdm

from ..evaluation.features import allocated
from ..models.image_processing_videomae_v2 import VideoMAEV2ImageProcessor
from ..text_files import whole_file
from .extractor import Extraction, Extractor, Features
from .feature_folder import FeatureFolder


MANY_ROWS = 100_000  # from here on, usearch is used if it is installed
_KEPT_VIDEOS = 2_000  # from here on, the rows of all files are kept in one file
_AT_ONCE = 2**16  # rows of which numpy computes the similarities at once


class Match(NamedTuple):
    """A part of a video that is like the query.

    Args:
        path: the video.
        start, end: seconds from its first frame; frame numbers, if it has no timing.
        similarity: cosine, from -1 to 1.
        query_start, query_end: the part of the query that it is like.
    """

    path: str
    start: float
    end: float
    similarity: float
    query_start: float
    query_end: float


@dataclass(frozen=True, eq=False)
class Query:
    """What is searched for.

    Args:
        name: path of the video; it is not found itself.
        values: float32 (Q, D), a row for each window.
        times: float64 (Q, 2), start and end of each row.
    """

    name: str
    values: np.ndarray
    times: np.ndarray

    @classmethod
    def of(cls, found: Features) -> "Query":
        """The query of a video whose features have been computed, in the same way as those of the index."""
        times = torch.stack([found.starts, found.ends], dim=1)  # (Q, 2)
        return cls(found.name, found.values.numpy(), times.numpy())


class Index:
    """The rows of a folder of features, ready to be searched.

    Args:
        folder: a folder of pooled features.

    Attributes:
        records: the lines of the manifest, in the order of the rows.
        rows: float32 (N, D), of length 1.
        times: float64 (N, 2), start and end of each row.
        owners: int (N,), the number of the record of each row.

    Raises:
        ValueError: the features are not pooled, or there are none.
        OSError: a file cannot be read.
    """

    def __init__(self, folder: FeatureFolder) -> None:
        if folder.header["features"] != "pooled":
            raise ValueError(
                f"{folder.path} has {folder.header['features']}, but a search needs pooled features: extract them into "
                f"another folder."
            )
        if not folder.records:
            raise ValueError(f"{folder.path} has no features yet.")
        self.folder, self.records = folder, list(folder.records.values())
        self.owners = np.repeat(np.arange(len(self.records)), [record["shape"][0] for record in self.records])
        self.rows, self.times = _all_rows(folder)

    def query_of(self, name: str) -> Query | None:
        """The rows of a video in the folder, by its path or by the end of its path; None if there is none.

        Raises:
            ValueError: several paths end in this way.
        """
        ends = "/" + name
        found = [record["path"] for record in self.records if record["path"].replace("\\", "/").endswith(ends)]
        found = [name] if name in self.folder.records else found
        if len(found) > 1:
            raise ValueError(f"{name} may be {found[0]} or {found[1]} of {self.folder.path}; give more of the path.")
        if not found:
            return None
        number = self.records.index(self.folder.records[found[0]])
        chosen = self.owners == number
        return Query(found[0], self.rows[chosen], self.times[chosen])

    def search(self, query: Query, top_k: int = 10) -> list[Match]:
        """The parts that are most like the query, the best first.

        A part is as similar as the row of the query that it resembles most. Of windows of one video that overlap, only
        the best is a match. The query itself is left out.

        Raises:
            ValueError: top_k is less than 1, or the query has another size than the rows.
        """
        if top_k < 1:
            raise ValueError(f"top_k={top_k} must be at least 1.")
        if query.values.shape[1] != self.rows.shape[1]:
            raise ValueError(f"The query has {query.values.shape[1]} values, but the rows {self.rows.shape[1]}.")
        wanted = unit_rows(query.values)
        number = min(len(self.rows), 64 * top_k)
        while True:
            found = self._distinct(query, self._nearest(wanted, number), top_k)
            if len(found) == top_k or number == len(self.rows):
                return found
            number = min(4 * number, len(self.rows))

    def _nearest(self, wanted: np.ndarray, number: int) -> Iterator[tuple[int, float, int]]:
        """(row, similarity, row of the query) of the nearest rows, the best first."""
        search = _usearch if self.uses_usearch else _exact
        best, similarities, sources = search(self.rows, wanted, number)
        order = np.argsort(-similarities, kind="stable")
        return zip(best[order].tolist(), similarities[order].tolist(), sources[order].tolist())

    def _distinct(self, query: Query, nearest: Iterator[tuple[int, float, int]], top_k: int) -> list[Match]:
        found: list[Match] = []
        for row, similarity, source in nearest:
            path, (start, end) = self.records[self.owners[row]]["path"], self.times[row].tolist()
            overlaps = (one.path == path and one.start < end and start < one.end for one in found)
            if path == query.name or any(overlaps):
                continue
            found.append(Match(path, start, end, similarity, *query.times[source].tolist()))
            if len(found) == top_k:
                break
        return found

    @property
    def uses_usearch(self) -> bool:
        """Whether usearch compares the rows, with the same result as numpy."""
        return len(self.rows) > MANY_ROWS and importlib.util.find_spec("usearch") is not None

    def note(self) -> str | None:
        """A remark on the speed of the search, if there is one."""
        if len(self.rows) <= MANY_ROWS or self.uses_usearch:
            return None
        return f"numpy compares {len(self.rows):,} rows; usearch is faster: pip install 'videomae_hf[search]'"


def extraction_of(folder: FeatureFolder, encoder: Extractor, name: str, remedy: str) -> Extraction:
    """How the features of a folder were computed; the encoder gets the processor of the folder.

    Args:
        folder: the folder.
        encoder: the model, with the precision of the folder.
        name: name of the model, for messages.
        remedy: what to do if it is another model.

    Raises:
        ValueError: the model has other weights than that of the folder.
    """
    header = folder.header
    encoder.processor = VideoMAEV2ImageProcessor.from_dict(header["processor"])
    how = {name: header[name] for name in ("num_clips", "num_crops", "views", "float_pixels")}
    windows = header["windows"]
    if windows is not None:
        unit = windows["unit"]
        how |= {"window": f"{windows['length']:g}{unit}", "stride": f"{windows['stride']:g}{unit}"}
        how["to_the_end"] = windows["to_the_end"]
    how = Extraction(**how)
    if encoder.header(how, header["model"], header["dtype"], header["layout"])["key"] != header["key"]:
        raise ValueError(f"{name} is not the model of {folder.path}: it has other weights; {remedy}.")
    return how


def unit_rows(values: np.ndarray) -> np.ndarray:
    """(N, D) -> float32 (N, D), each row of length 1; rows of zeros stay."""
    values = np.asarray(values, dtype=np.float32)
    lengths = np.linalg.norm(values, axis=1, keepdims=True)
    return values / np.where(lengths > 0, lengths, 1)


def _exact(rows: np.ndarray, wanted: np.ndarray, number: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The nearest rows: their numbers, similarities, and the row of the query that each resembles most, (number,)."""
    similarities, sources = np.empty(len(rows), np.float32), np.empty(len(rows), np.int64)
    for start in range(0, len(rows), _AT_ONCE):
        some = rows[start : start + _AT_ONCE] @ wanted.T  # (n, Q)
        sources[start : start + len(some)] = some.argmax(axis=1)
        similarities[start : start + len(some)] = some.max(axis=1)
    best = np.argpartition(-similarities, number - 1)[:number]
    return best, similarities[best], sources[best]


def _usearch(rows: np.ndarray, wanted: np.ndarray, number: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """As `_exact`, compared by usearch on all cores."""
    from usearch.index import MetricKind, search  # part of the extra "search"

    found = {}
    for source, query in enumerate(wanted):
        matches = search(np.asarray(rows), query, number, MetricKind.IP, exact=True)
        for row, distance in zip(matches.keys.tolist(), matches.distances.tolist()):
            similarity = 1 - distance
            if row not in found or found[row][0] < similarity:
                found[row] = (similarity, source)
    numbers = sorted(found, key=lambda row: -found[row][0])[:number]
    return (np.array(numbers), np.array([found[row][0] for row in numbers], dtype=np.float32),
            np.array([found[row][1] for row in numbers]))  # fmt: skip


# ---------------------------------------------------------------------------------------------------------------- rows


def _all_rows(folder: FeatureFolder) -> tuple[np.ndarray, np.ndarray]:
    """Rows (N, D) and times (N, 2) of all videos; of many, kept in two files of the folder for the next search."""
    number = sum(record["shape"][0] for record in folder.records.values())
    shape = (number, folder.header["shape"][0])
    if len(folder.records) < _KEPT_VIDEOS:
        rows, times = np.empty(shape, np.float32), np.empty((number, 2))
        _fill(folder, rows, times)
        return rows, times
    paths = [folder.path / f"{kind}-{_digest(folder)}.npy" for kind in ("rows", "times")]
    if not all(path.exists() for path in paths):
        for stale in (*folder.path.glob("rows-*.npy"), *folder.path.glob("times-*.npy")):
            stale.unlink()
        with whole_file(paths[0]) as of_rows, whole_file(paths[1]) as of_times:
            rows, times = allocated(of_rows, np.float32, shape), allocated(of_times, np.float64, (number, 2))
            _fill(folder, rows, times)
            rows.flush(), times.flush()
    return np.load(paths[0], mmap_mode="r"), np.load(paths[1], mmap_mode="r")


def _fill(folder: FeatureFolder, rows: np.ndarray, times: np.ndarray) -> None:
    place = 0
    for record in tqdm(folder.records.values(), "Reading features", unit="video", disable=None, leave=False):
        found = folder.load(record)
        values = unit_rows(found["features"])
        rows[place : place + len(values)] = values
        times[place : place + len(values)] = _times(folder.header, record, found, len(values))
        place += len(values)


def _times(header: dict[str, Any], record: dict[str, Any], found: dict[str, np.ndarray], number: int) -> np.ndarray:
    """Start and end of each row, (N, 2); in the layout tad from the stride, since its files have none."""
    if "start" in found:
        return np.stack([found["start"], found["end"]], axis=1)
    first, after = record["frames"]
    seconds = (record["end"] - record["start"]) / max(after - first, 1)  # of a frame
    starts = np.arange(number) * header["windows"]["stride"]
    return np.stack([starts, starts + header["windows"]["length"]], axis=1) * seconds


def _digest(folder: FeatureFolder) -> str:
    digest = hashlib.sha256(folder.header["key"].encode())
    for record in folder.records.values():
        digest.update(repr((record["file"], record["shape"], record["bytes"], record["state"])).encode())
    return digest.hexdigest()[:16]


def is_file(name: str) -> bool:
    """Whether a query names a file or an address, rather than a video of the index."""
    return Path(name).exists() or "://" in name

# Copyright 2026 The videomae_hf authors. Licensed under the Apache License, Version 2.0.
"""A folder of features: a file for each video, a manifest with a line for each, and a header that says what they are.

    features.json         the header: model, features, windows, preprocessing, and a digest of all of them
    manifest.jsonl        path, file, shape, times, and size and modification time of each video
    failed.csv            videos without features, with the reason
    hug/a.mp4.safetensors the features of hug/a.mp4: `features` (N, ..), `start`, `end` (N,), `frames` (N, 2)

A video counts once it is in the manifest, which happens after its file is complete. While processes are running, the
manifest consists of a part for each process as well, see `SharedWork`.
"""

import csv
import hashlib
import io
import json
import os
import re
import struct
import unicodedata
from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.numpy import load_file

from ..data.shared_work import WHOLE, ProcessShare, SharedWork
from ..evaluation.features import content_state
from ..messages import printable
from ..models.video_sources import VideoSegment, source_name
from ..text_files import parse_json, read_json, read_text, write_csv, write_text
from .inputs import Input


FORMAT = "videomae_hf features 1"
_HEADER, _MANIFEST, _FAILED = "features.json", "manifest", "failed.csv"
_SUFFIXES = {"safetensors": ".safetensors", "tad": ".npy"}
_LONGEST = 180  # bytes of a part of a name; file systems allow 255, of which suffixes take some
_NOT_IN_NAMES = re.compile(r"[^\w .,;()\[\]{}@+=~#&'!$%-]")
_TENSORS_HEADER = 512  # bytes that a safetensors file has for the names and shapes of its tensors
_DTYPES = {"float32": "F32", "float16": "F16"}
_TORCH_DTYPES = {"float32": torch.float32, "float16": torch.float16}


class FeatureFolder:
    """The features of many videos in a folder.

    Args:
        path: the folder.

    Attributes:
        header: the content of features.json.
        records: by path, the lines of the manifest.

    Raises:
        FileNotFoundError: it is not such a folder.
        ValueError: a file of it is damaged, or was written by another version.
    """

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)
        self.header = _read_header(self.path)
        if self.header is None:
            raise FileNotFoundError(f"{path} is no folder of features: it has no {_HEADER} of videomae extract.")
        self.records = _read_manifest(self.path)[0]

    def load(self, record: dict[str, Any]) -> dict[str, np.ndarray]:
        """The arrays of a video: `features` (N, ..), `start`, `end` (N,) and `frames` (N, 2); the first in layout tad.

        Raises:
            OSError, ValueError: the file does not exist, or is damaged.
        """
        file = self.file_of(record)
        arrays = {"features": np.load(file, allow_pickle=False)} if file.suffix == ".npy" else load_file(file)
        if list(arrays["features"].shape) != record["shape"]:
            raise ValueError(f"{file} has shape {arrays['features'].shape}, but the manifest says {record['shape']}.")
        return arrays

    def file_of(self, record: dict[str, Any]) -> Path:
        """The file of a line of the manifest; it lies in the folder, whatever the line says."""
        parts = Path(record["file"]).parts
        if Path(record["file"]).is_absolute() or ".." in parts:
            raise ValueError(f"{self.path}: the manifest names {record['file']}, a file outside the folder.")
        return self.path.joinpath(*parts)


class FeatureWriter:
    """Writes the features of videos to a folder, or continues one; several processes may write to the same folder.

    Args:
        path: the folder, created if necessary.
        header: what the features are; its `key` must be that of the folder, if it exists.
        share: the part of this process, whose first one writes the header.

    Raises:
        ValueError: the folder has other features; the message names the differences.
        OSError: the folder cannot be written.
    """

    def __init__(self, path: str | Path, header: dict[str, Any], share: ProcessShare = WHOLE) -> None:
        self.path, self.header = Path(path), {"format": FORMAT, **header}
        _check_header(self.path, self.header)
        self.work = SharedWork(self.path / _MANIFEST, share)
        self.records, _ = _read_manifest(self.path)
        self.names: dict[str, str] = {}

    def plan(self, inputs: Sequence[Input]) -> list[Input]:
        """Begins the folder, names the file of each video, and returns the videos of this process that have no features
        yet or that have changed since.

        Args:
            inputs: all videos, the same for all processes.

        Raises:
            ValueError: in the layout tad, two videos have the same name, or a video is a part of one.
            OSError: the folder cannot be created.
        """
        taken = {record["file"]: name for name, record in self.records.items()}
        make = tad_names if self.header["layout"] == "tad" else file_names
        self.names = make(inputs, taken)
        try:
            self.path.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise OSError(error.errno, f"cannot be created: {error.strerror}", str(self.path)) from error
        if self.work.share.rank == 0:
            write_text(self.path / _HEADER, json.dumps(self.header, indent=1, ensure_ascii=False) + "\n")
        self.work.start()
        return [one for one in self.work.share.of(inputs) if not self._is_done(one)]

    def _is_done(self, one: Input) -> bool:
        record = self.records.get(one.name)
        if record is None or record["state"] != _state(one):
            return False
        self.names[one.name] = record["file"]
        try:
            return os.path.getsize(self.path / record["file"]) == record["bytes"]
        except OSError:
            return False

    def open(self, one: Input) -> "FeatureFile":
        """A new file for the features of a video."""
        header = self.header
        return FeatureFile(self.path / self.names[one.name], header["shape"], header["dtype"], header["layout"])

    def add(self, one: Input, file: "FeatureFile") -> dict[str, Any]:
        """Completes the file of a video and adds it to the manifest; returns the line."""
        summary = file.close()
        record = {"path": one.name, "file": self.names[one.name], **summary, "state": _state(one)}
        if isinstance(one.video, VideoSegment):
            record["segment"] = _segment(one.video)
        self.work.add(record)
        return record

    def fail(self, one: Input, reason: str) -> None:
        """Notes that a video has no features."""
        self.work.add({"path": one.name, "error": reason})

    def finish(self) -> tuple[dict[str, dict], dict[str, str]] | None:
        """Marks the share of this process as done. The last process merges the manifest.

        Returns:
            The lines of the manifest and the reasons of failures, by path; None if other processes are still at work.
        """
        if not self.work.finish():
            return None
        records, failed = _read_manifest(self.path)
        earlier = {name: reason for name, reason in _read_failed(self.path).items() if name not in self.names}
        failed |= {name: reason for name, reason in earlier.items() if name not in records}
        lines = (json.dumps(record, ensure_ascii=False) + "\n" for record in records.values())
        write_text(self.path / f"{_MANIFEST}.jsonl", "".join(lines))
        if failed:
            write_csv(self.path / _FAILED, [("path", "reason"), *sorted(failed.items())])
        else:
            (self.path / _FAILED).unlink(missing_ok=True)
        self.work.remove()
        return records, failed


# ------------------------------------------------------------------------------------------------- header and manifest


def _read_header(folder: Path) -> dict[str, Any] | None:
    if not (folder / _HEADER).is_file():
        return None
    header = read_json(folder / _HEADER)
    if not isinstance(header, dict) or header.get("format") != FORMAT:
        found = header.get("format") if isinstance(header, dict) else header
        raise ValueError(f"{folder / _HEADER} has the format {found!r:.80}, but this release reads {FORMAT!r}.")
    missing = {"key", "model", "features", "shape", "dtype", "layout", "processor"} - set(header)
    if missing:
        raise ValueError(f"{folder / _HEADER} has no {', '.join(sorted(missing))}.")
    return header


def _read_failed(folder: Path) -> dict[str, str]:
    """The reasons of failures in failed.csv, by path."""
    path = folder / _FAILED
    rows = list(csv.reader(io.StringIO(read_text(path), newline="")))[1:] if path.exists() else []
    return {row[0]: row[1] for row in rows if len(row) == 2}


def _check_header(folder: Path, header: dict[str, Any]) -> None:
    if folder.exists() and not folder.is_dir():
        raise ValueError(f"{folder} is a file; features need a folder.")
    found = _read_header(folder)
    if found is None or found["key"] == header["key"]:
        return
    before, now = _flat(found), _flat(json.loads(json.dumps(header)))  # lists in both, as in the file
    names = [name for name in now if before.get(name) != now[name]]
    shown = ", ".join(f"{name}={before.get(name)!r:.200}, not {now[name]!r:.200}" for name in names)
    other = f" of another model, {found['model']}" if found.get("weights") != header["weights"] else ""
    raise ValueError(f"{folder} has features{other}{f' with {shown}' if shown else ''}; give another folder.")


def _flat(header: dict[str, Any]) -> dict[str, Any]:
    """The settings of a header, those of the processor as well; without the digests."""
    kept = {name: value for name, value in header.items() if name not in ("key", "model", "weights", "processor")}
    if isinstance(windows := kept.get("windows"), dict):  # as in the options
        unit = windows["unit"]
        kept["windows"] = f"--window {windows['length']:g}{unit} --stride {windows['stride']:g}{unit}"
    return kept | {f"processor.{name}": value for name, value in header["processor"].items()}


def _read_manifest(folder: Path) -> tuple[dict[str, dict], dict[str, str]]:
    """The lines of the manifest, sorted by path, with those of its parts, and the reasons of failures.

    Parts are read before the merged file: the process that merges them removes them afterwards.
    """
    parts = SharedWork(folder / _MANIFEST, WHOLE).read()
    merged, records, failed = folder / f"{_MANIFEST}.jsonl", {}, {}
    if merged.exists():
        for number, line in enumerate(read_text(merged).split("\n")[:-1], start=1):
            record = _checked(parse_json(line, f"{merged}, line {number},"), f"{merged}, line {number}")
            records[record["path"]] = record
    for name, record in parts.items():
        records.pop(name, None)
        if "error" in record:
            failed[name] = str(record["error"])
        else:
            kept = {key: value for key, value in record.items() if key != "at"}
            records[name] = _checked(kept, f"the manifest of {folder}")
    return dict(sorted(records.items())), failed


def _checked(record: Any, where: str) -> dict[str, Any]:
    wanted = {"path": str, "file": str, "shape": list, "bytes": int, "state": list}
    if not isinstance(record, dict) or any(not isinstance(record.get(name), kind) for name, kind in wanted.items()):
        raise ValueError(f"{where}: expected an object with {', '.join(wanted)}; extract the features again.")
    return record


def _state(one: Input) -> list:
    """Size and modification time of the video, by which a change is noticed."""
    return [] if one.is_in_memory else content_state(one.video)


def _segment(video: VideoSegment) -> dict[str, Any]:
    bounds = {name: getattr(video, name) for name in ("start", "end", "start_frame", "end_frame")}
    return {"video": source_name(video.source), **{name: bound for name, bound in bounds.items() if bound is not None}}


# --------------------------------------------------------------------------------------------------------------- names


def file_names(inputs: Iterable[Input], taken: dict[str, str]) -> dict[str, str]:
    """The file of each video below the folder, by the name of the video.

    Files mirror the places of the videos: `hug/a.mp4.safetensors`. No two videos have the same file, and no file lies
    outside the folder: where a place has characters that file systems do not allow, leads outside the folder, or is
    that of another video as well, the file has a digest of the video's name.

    Args:
        inputs: the videos.
        taken: files in the folder, with the names of their videos.
    """
    places = {one.name: _safe_place(one.place or one.name) for one in inputs}
    folded = Counter(_folded(place) for place, _ in places.values())
    owners = {_folded(file): name for file, name in taken.items()}
    names = {}
    for name, (place, is_safe) in places.items():
        file = f"{place}{_SUFFIXES['safetensors']}"
        owner = owners.get(_folded(file), name)
        if not is_safe or folded[_folded(place)] > 1 or owner != name:
            file = f"{place}-{_digest(name)}{_SUFFIXES['safetensors']}"
        names[name] = file
    return names


def tad_names(inputs: Iterable[Input], taken: dict[str, str]) -> dict[str, str]:
    """The file of each video in the layout of temporal action detection: its name without the extension.

    Deviation: the official script cuts a name at its first dot, so that a.1.mp4 and a.2.mp4 would be one file.

    Raises:
        ValueError: two videos have the same name, a name is not allowed in files, or a video is a part of one.
    """
    names, owners = {}, {_folded(file): name for file, name in taken.items()}
    for one in inputs:
        stem = Path(one.place or one.name).stem
        if isinstance(one.video, VideoSegment):
            raise ValueError(f"{one.name} is a part of a video, but layout=tad has one file for each whole video.")
        if not _safe_place(stem)[1]:
            raise ValueError(
                f"{printable(one.name)}: layout=tad needs {printable(stem)!r} as the name of a file, which some file "
                f"systems do not allow; rename the video."
            )
        names[one.name] = f"{stem}{_SUFFIXES['tad']}"
        owner = owners.setdefault(_folded(names[one.name]), one.name)
        if owner != one.name:
            raise ValueError(
                f"{owner} and {one.name} would both be {names[one.name]} (layout=tad); rename one of them."
            )
    return names


def _safe_place(place: str) -> tuple[str, bool]:
    """A relative path that every file system takes, and whether it is the one that was given."""
    parts = [_NOT_IN_NAMES.sub("_", part).strip() for part in re.split(r"[/\\]", place)]
    parts = [_cut(part) for part in parts if part not in ("", ".", "..")]
    safe = "/".join(parts) or "video"
    return safe, safe == place


def _cut(part: str) -> str:
    return part.encode()[:_LONGEST].decode("utf-8", "ignore")


def _folded(place: str) -> str:
    """Equal for names that some file system does not distinguish."""
    return unicodedata.normalize("NFC", place).casefold()


def _digest(name: str) -> str:
    return hashlib.sha256(name.encode("utf-8", "surrogateescape")).hexdigest()[:12]


# --------------------------------------------------------------------------------------------------------------- files


class FeatureFile:
    """The file of one video, written batch by batch, so that features of any size need little memory.

    It appears under its name when it is closed. A safetensors file begins with the shapes of its tensors, which are
    known at the end; space is left for them.

    Args:
        path: the file; its folder is created.
        shape: shape of one row of features.
        dtype: `"float32"` or `"float16"`.
        layout: `"safetensors"`, or `"tad"` for an .npy file.
    """

    def __init__(self, path: Path, shape: Sequence[int], dtype: str, layout: str) -> None:
        self.path, self.shape, self.dtype, self.layout = path, list(shape), dtype, layout
        self.partial = Path(f"{path}.partial")  # the next run overwrites that of a killed one
        self.times: list[np.ndarray] = []  # of each batch float64 (n, 2): start and end
        self.frames: list[np.ndarray] = []  # of each batch int64 (n, 2)
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            self.file = self.partial.open("wb")
            self.file.write(b"\0" * self._start)
        except OSError as error:
            raise self._named(error) from error

    @property
    def _start(self) -> int:
        """Where the features begin, in bytes."""
        return 8 + _TENSORS_HEADER if self.layout == "safetensors" else 128

    def add(self, values: torch.Tensor, times: np.ndarray, frames: np.ndarray) -> None:
        """Appends rows: float (n, *shape), their start and end (n, 2), and their first and end frames (n, 2).

        Raises:
            ValueError: a value is not finite in the dtype of the file.
        """
        array = values.to(_TORCH_DTYPES[self.dtype]).numpy()
        if not np.isfinite(array).all():
            raise ValueError(f"its features are not finite in {self.dtype}")
        try:
            self.file.write(np.ascontiguousarray(array).tobytes())
        except OSError as error:
            raise self._named(error) from error
        self.times.append(times)
        self.frames.append(frames)

    def close(self) -> dict[str, Any]:
        """Completes the file; returns the number of rows with their shape, times, and the size in bytes."""
        times, frames = np.concatenate(self.times), np.concatenate(self.frames)  # (N, 2) each
        shape = [len(times), *self.shape]
        try:
            self._complete(shape, times, frames)
            self.file.close()
            size = self.partial.stat().st_size
            self.partial.replace(self.path)
        except OSError as error:
            raise self._named(error) from error
        bounds = {"start": float(times[:, 0].min()), "end": float(times[:, 1].max())}
        return {"shape": shape, **bounds, "frames": [int(frames[:, 0].min()), int(frames[:, 1].max())], "bytes": size}

    def discard(self) -> None:
        """Removes the file, of a video that cannot be read to its end."""
        self.file.close()
        self.partial.unlink(missing_ok=True)

    def _complete(self, shape: list[int], times: np.ndarray, frames: np.ndarray) -> None:
        if self.layout == "tad":
            self.file.seek(0)
            _write_npy_header(self.file, shape, self.dtype)
            return
        size = self.file.tell() - self._start
        tensors = {"features": (_DTYPES[self.dtype], shape, size)}
        rest = -size % 8  # the numbers after it begin at multiples of 8
        if rest:
            tensors["padding"] = ("U8", [rest], rest)
            self.file.write(b"\0" * rest)
        columns = {"start": times[:, 0], "end": times[:, 1], "frames": frames}
        for name, column in columns.items():
            tensors[name] = ("I64" if name == "frames" else "F64", list(column.shape), column.nbytes)
            self.file.write(np.ascontiguousarray(column).tobytes())
        self.file.seek(0)
        self.file.write(struct.pack("<Q", _TENSORS_HEADER) + _tensors_header(tensors))

    def _named(self, error: OSError) -> OSError:
        return OSError(error.errno, f"cannot be written: {error.strerror}", str(self.path))


def _tensors_header(tensors: dict[str, tuple[str, list[int], int]]) -> bytes:
    """The header of a safetensors file (https://huggingface.co/docs/safetensors), padded with spaces."""
    header, place = {"__metadata__": {"format": "pt"}}, 0
    for name, (dtype, shape, size) in tensors.items():
        header[name] = {"dtype": dtype, "shape": shape, "data_offsets": [place, place + size]}
        place += size
    return json.dumps(header, separators=(",", ":")).encode().ljust(_TENSORS_HEADER)


def _write_npy_header(file, shape: list[int], dtype: str) -> None:
    described = {"descr": np.lib.format.dtype_to_descr(np.dtype(dtype)), "fortran_order": False, "shape": tuple(shape)}
    np.lib.format.write_array_header_1_0(file, described)
    if file.tell() != 128:
        raise ValueError(f"The header of an .npy file of shape {shape} takes {file.tell()} bytes instead of 128.")

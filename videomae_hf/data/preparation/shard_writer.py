# Copyright 2026 The videomae_hf authors. Licensed under the Apache License, Version 2.0.
"""Writes prepared videos to tar shards, the WebDataset format: `shard-000000.tar`, .. and `index.json`.

A sample consists of consecutive members `{key}.mp4`, `{key}.cls` (class number as text; absent in an unlabelled set)
and `{key}.json` (path, frames, seconds and, if there is one, label). `webdataset` and
`datasets.load_dataset("webdataset", ...)` read them. `index.json` gives the length and the classes:

    {"class_names": ["hug", "kick"], "samples": 300, "shards": [{"file": "shard-000000.tar", "samples": 200}, ..]}

Samples are shuffled before they are packed, always in the same order: a streaming reader shuffles only shards and a
small buffer, so that shards in the order of a class list would give batches of a single class.
"""

import io
import json
import os
import random
import tarfile
from dataclasses import dataclass
from pathlib import Path

from tqdm import tqdm

from ...text_files import write_text


@dataclass(frozen=True)
class ShardSample:
    """A video file and the data stored with it; `label` is None if there is no class."""

    path: Path
    label: int | None
    details: dict


def write_shards(folder: Path, samples: list[ShardSample], class_names: list[str], samples_per_shard: int) -> int:
    """Packs samples into shards and returns the number of shards; existing shards with the same content are kept.

    The same samples always give the same bytes.

    Args:
        folder: the folder to write to.
        samples: the videos, with labels and metadata.
        class_names: the names of the classes, for index.json.
        samples_per_shard: number of samples in a shard; the last one may have fewer.
    """
    samples = list(samples)
    random.Random(0).shuffle(samples)
    starts = range(0, len(samples), samples_per_shard)
    names = [f"shard-{number:06d}.tar" for number in range(len(starts))]
    (folder / "index.json").unlink(missing_ok=True)  # written last: its presence means complete shards
    for stale in {path.name for path in folder.glob("shard-*.tar")} - set(names):
        (folder / stale).unlink()
    for name, start in zip(tqdm(names, desc=f"Packing {folder}", unit="shard"), starts):
        members = []
        for number, sample in enumerate(samples[start : start + samples_per_shard], start=start):
            members += _members(f"{number:09d}", sample)
        if not _holds(folder / name, members):
            _write_tar(folder / name, members)
    shards = [
        {"file": name, "samples": min(samples_per_shard, len(samples) - start)} for name, start in zip(names, starts)
    ]
    write_text(
        folder / "index.json",
        json.dumps({"class_names": class_names, "samples": len(samples), "shards": shards}, indent=2) + "\n",
    )
    return len(shards)


def _members(key: str, sample: ShardSample) -> list[tuple[str, Path | bytes]]:
    """Pairs (name in the tar, file or content); the key has no dots, since readers split names at dots."""
    members = [(f"{key}.mp4", sample.path)]
    if sample.label is not None:
        members.append((f"{key}.cls", str(sample.label).encode()))
    return [*members, (f"{key}.json", json.dumps(sample.details, sort_keys=True).encode())]


def _holds(shard: Path, members: list[tuple[str, Path | bytes]]) -> bool:
    """Whether a shard has these members: equal names, sizes and small contents, and no video newer than the shard."""
    try:
        with tarfile.open(shard) as tar:
            found = tar.getmembers()
            if [(entry.name, entry.size) for entry in found] != [(name, _size(content)) for name, content in members]:
                return False
            for entry, (_, content) in zip(found, members):
                if isinstance(content, bytes):
                    unchanged = tar.extractfile(entry).read() == content
                else:
                    unchanged = content.stat().st_mtime_ns <= shard.stat().st_mtime_ns
                if not unchanged:
                    return False
            return True
    except (FileNotFoundError, tarfile.TarError):
        return False


def _write_tar(shard: Path, members: list[tuple[str, Path | bytes]]) -> None:
    partial = shard.with_name(shard.name + ".partial")
    # TarInfo defaults to owner 0 and time 0, so that no details of this machine get into a shard.
    with tarfile.open(partial, "w", format=tarfile.USTAR_FORMAT) as tar:
        for name, content in members:
            entry = tarfile.TarInfo(name)
            entry.size = _size(content)
            with io.BytesIO(content) if isinstance(content, bytes) else content.open("rb") as file:
                tar.addfile(entry, file)
    os.replace(partial, shard)


def _size(content: Path | bytes) -> int:
    return len(content) if isinstance(content, bytes) else content.stat().st_size

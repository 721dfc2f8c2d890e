"""Tar shards for tests of streams, and a loader whose items tell what they were made of."""

import io
import json
import tarfile
from pathlib import Path

import torch

from videomae_hf import VideoDecodeError


def write_tar(path: Path, members: dict[str, bytes]) -> Path:
    with tarfile.open(path, "w") as tar:
        for name, content in members.items():
            entry = tarfile.TarInfo(name)
            entry.size = len(content)
            tar.addfile(entry, io.BytesIO(content))
    return path


def write_shards(folder: Path, sizes: list[int], bad: tuple[int, ...] = (), class_names: tuple[str, ...] = ()) -> Path:
    """Shards of so many samples. In place of a video each has its number, or text that is none; its class is the
    number modulo 3."""
    folder.mkdir(parents=True, exist_ok=True)
    number, entries = 0, []
    for shard, size in enumerate(sizes):
        members = {}
        for _ in range(size):
            members[f"{number:04d}.mp4"] = b"bad" if number in bad else str(number).encode()
            members[f"{number:04d}.cls"] = str(number % 3).encode()
            number += 1
        write_tar(folder / f"shard-{shard:06d}.tar", members)
        entries.append({"file": f"shard-{shard:06d}.tar", "samples": size})
    index = {"class_names": list(class_names), "samples": number, "shards": entries}
    (folder / "index.json").write_text(json.dumps(index))
    return folder


def load_number(sample, generator: torch.Generator) -> dict:
    """The number that is in place of a video, and what its generator draws."""
    content = sample.video()
    if content == b"bad":
        raise VideoDecodeError("no video")
    return {"number": int(content), "draw": int(torch.randint(2**40, (), generator=generator))}

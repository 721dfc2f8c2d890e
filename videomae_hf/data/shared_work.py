# Copyright 2026 The videomae_hf authors. Licensed under the Apache License, Version 2.0.
"""Divides work over the processes that torchrun, accelerate launch, SLURM or MPI started, which share files alone.

Each process works on every n-th item and appends its results to a file of its own, so that no process waits for another
one and a killed run continues with any number of processes. The process that finishes last has all results.
"""

import json
import os
import re
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, TypeVar

from ..text_files import parse_json


Item = TypeVar("Item")
# Environment variables of each launcher: rank, number of processes, and the same on this machine. SLURM also sets its
# rank in batch scripts, which are a single process; the number of tasks of a step is that of `srun` alone.
_LAUNCHERS = {
    "torchrun": ("RANK", "WORLD_SIZE", "LOCAL_RANK", "LOCAL_WORLD_SIZE"),
    "srun": ("SLURM_PROCID", "SLURM_STEP_NUM_TASKS", "SLURM_LOCALID", "SLURM_NTASKS_PER_NODE"),
    "mpirun": ("OMPI_COMM_WORLD_RANK", "OMPI_COMM_WORLD_SIZE", "OMPI_COMM_WORLD_LOCAL_RANK",
               "OMPI_COMM_WORLD_LOCAL_SIZE"),
    "mpirun (PMI)": ("PMI_RANK", "PMI_SIZE", "MPI_LOCALRANKID", "MPI_LOCALNRANKS"),
}  # fmt: skip
_FINISHED = "finished"


@dataclass(frozen=True)
class ProcessShare:
    """The part of the work that this process does.

    Args:
        rank, size: number of this process, from 0, and number of processes.
        local_rank, local_size: the same among the processes on this machine.
        run: what the launcher calls this run, so that a process tells its siblings from those of an earlier run; "" if
            it has no name.
    """

    rank: int = 0
    size: int = 1
    local_rank: int = 0
    local_size: int = 1
    run: str = ""

    @classmethod
    def of_environment(cls, environment: Mapping[str, str] = os.environ) -> "ProcessShare":
        """The share that the launcher of this process intends; the whole work without a launcher.

        Raises:
            ValueError: the variables of the launcher contradict each other, or each of several tasks has started a
                launcher that does not know of the others.
        """
        shares = {name: _share(names, environment) for name, names in _LAUNCHERS.items()}
        first = next((share for share in shares.values() if share is not None), cls())
        if shares["torchrun"] is not None:
            groups = int(environment.get("GROUP_WORLD_SIZE", first.size))  # launched by one torchrun each, or directly
            for name, share in shares.items():
                if name != "torchrun" and share is not None and share.size > groups:
                    raise ValueError(
                        f"{name} started {share.size} tasks, but {groups} know of each other, so that all would do the "
                        f"same work: give torchrun a common --rdzv_endpoint, or start no torchrun in them."
                    )
        return replace(first, run=_run_name(environment))

    def of(self, items: Sequence[Item]) -> list[Item]:
        """The items of this process: every `size`-th one."""
        return list(items[self.rank :: self.size])

    def __str__(self) -> str:
        return f"process {self.rank + 1} of {self.size}"


WHOLE = ProcessShare()


def _share(names: tuple[str, ...], environment: Mapping[str, str]) -> ProcessShare | None:
    """The share that these variables describe; None if they are not set."""
    rank, size, *local = names
    if size not in environment:
        return None
    values = {}
    for name in names:
        text = environment.get(name, "").strip()
        if text.isascii() and text.isdigit():
            values[name] = int(text)
    if size not in values or rank not in values or not values[rank] < values[size]:
        stated = ", ".join(f"{name}={environment.get(name, '')}" for name in (rank, size))
        raise ValueError(f"{stated} in the environment do not say which process this is: they need 0 <= rank < size.")
    return ProcessShare(values[rank], values[size], values.get(local[0], 0), max(values.get(local[1], 1), 1))


def _run_name(environment: Mapping[str, str]) -> str:
    """The name of a run, different each time that a launcher starts one; "" if there is none."""
    name = environment.get("TORCHELASTIC_RUN_ID", "")
    if name == "none":  # of torchrun without --standalone or --rdzv_id, whose processes on one machine have one parent
        return f"started by {os.getppid()}" if environment.get("GROUP_WORLD_SIZE") == "1" else ""
    if not name and "SLURM_STEP_NUM_TASKS" in environment:
        name = f"{environment.get('SLURM_JOB_ID', '')}.{environment.get('SLURM_STEP_ID', '')}"
    return name


def usable_cores(share: ProcessShare | None = None) -> int:
    """The CPU cores that this process may use; of those of the machine, its part among the processes there."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return max(cores // (share.local_size if share else 1), 1)


class SharedWork:
    """The results of all processes: one file for each, `NAME-00001-of-00004.jsonl`, with an object per line.

    Objects have the key `path`, by which they are identified, and `at`, the time at which they were added; of several
    with one path, the latest counts. The incomplete last line of a killed process is ignored.

    Args:
        base: folder and NAME of the files.
        share: the part of this process.
    """

    def __init__(self, base: Path, share: ProcessShare) -> None:
        self.base, self.share = base, share
        self.path = self._part(share.rank)

    def start(self) -> None:
        """Continues the file of this process, whose share is not done (any more)."""
        if self.path.exists():
            _cut_torn_line(self.path)
        self._append({_FINISHED: False, "run": self.share.run})

    def add(self, record: dict[str, Any]) -> None:
        """Appends a record; it is in the file when this returns."""
        self._append({**record, "at": time.time()})

    def finish(self) -> bool:
        """Marks the share of this process as done; True if those of all processes of this run are."""
        mark = {_FINISHED: True, "run": self.share.run}
        self._append(mark)
        return all(_last_line(self._part(rank)) == mark for rank in range(self.share.size))

    def read(self) -> dict[str, dict[str, Any]]:
        """The latest record of each path in the files of all processes, of earlier runs as well.

        Raises:
            ValueError: a file is not such a file.
        """
        found = {}
        for part in self.parts():
            for record in _records(part):
                before = found.get(record["path"])
                if before is None or before["at"] <= record["at"]:
                    found[record["path"]] = record
        return found

    def parts(self) -> list[Path]:
        """The files of all processes, in order."""
        pattern = re.compile(re.escape(self.base.name) + r"-\d{5,}-of-\d{5,}\.jsonl")
        folder = self.base.parent
        names = os.listdir(folder) if folder.is_dir() else []
        return [folder / name for name in sorted(names) if pattern.fullmatch(name)]

    def remove(self) -> None:
        """Removes all files; call it once their content is stored elsewhere."""
        for part in self.parts():
            part.unlink(missing_ok=True)

    def _part(self, rank: int) -> Path:
        return self.base.with_name(f"{self.base.name}-{rank + 1:05d}-of-{self.share.size:05d}.jsonl")

    def _append(self, row: dict[str, Any]) -> None:
        line = json.dumps(row, ensure_ascii=False) + "\n"
        try:
            with open(self.path, "ab") as file:
                file.write(line.encode("utf-8", "backslashreplace"))
        except OSError as error:
            raise OSError(error.errno, f"cannot be written: {error.strerror}", str(self.path)) from error


def _records(part: Path) -> Iterator[dict[str, Any]]:
    try:
        content = part.read_bytes()
    except FileNotFoundError:  # the process that finished last has removed it
        return
    complete = content[: content.rfind(b"\n") + 1]
    for number, line in enumerate(complete.decode("utf-8", "backslashreplace").split("\n")[:-1], start=1):
        row = parse_json(line, f"{part}, line {number},")
        if isinstance(row, dict) and _FINISHED in row:
            continue
        if not isinstance(row, dict) or not isinstance(row.get("path"), str) or not _is_time(row.get("at")):
            raise ValueError(f"{part}, line {number}: expected an object with path and at; remove this file.")
        yield row


def _is_time(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _last_line(part: Path) -> Any:
    """The last line of a file; None if it is not complete, or is too long to be the mark of a finished share."""
    try:
        with part.open("rb") as file:
            file.seek(max(part.stat().st_size - 4096, 0))
            lines = file.read().split(b"\n")
    except FileNotFoundError:
        return None
    if len(lines) < 2 or lines[-1] or not lines[-2].startswith(b"{"):
        return None
    return parse_json(lines[-2].decode("utf-8", "backslashreplace"), f"{part}, last line,")


def _cut_torn_line(part: Path) -> None:
    content = part.read_bytes()
    complete = content.rfind(b"\n") + 1
    if complete < len(content):
        os.truncate(part, complete)

# Copyright 2026 The videomae_hf authors. Licensed under the Apache License, Version 2.0.
"""The folder of a run: written by one process at a time, and never over another run or over what is read."""

import os
import platform
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from accelerate import PartialState

from ..messages import count
from ..settings.run import Run
from ..settings.training_arguments import VideoMAETrainingArguments
from .run_record import read_record
from .safeguards import CannotWriteError


_LOCK = "run.lock"
# What a run here writes into its output_dir
_WRITTEN = re.compile(
    r"checkpoint-\d+|ema|adapter|reconstructions|features|runs|.*\.safetensors|.*_results\.json|.*\.safetensors\.index\.json"
    r"|(config|preprocessor_config|processor_config|trainer_state|nonfinite|metrics|run|adapter_config)\.json"
    r"|training_args\.bin|settings\.yaml|predictions\.csv|README\.md|stage_finished\.json"
)


@contextmanager
def output_claimed(run: Run) -> Iterator[list[str]]:
    """Around a run that writes to its `output_dir`: no other run writes there meanwhile, and none is overwritten.

    The files of an earlier run of the same command are moved to a folder `earlier-1` of it, unless this one resumes.

    Yields:
        Lines to print.

    Raises:
        ValueError: the folder holds a run of another command, a model of unknown origin, or what this run reads; or
            another process writes there. OSError: it cannot be written.
    """
    args, lines = run.training, []
    folder = Path(args.output_dir)
    if args.process_index == 0:
        _refuse_inputs(folder, run)
        file = _locked(folder)
        if args.resume_from_checkpoint is None:
            lines = _make_room(folder, run.verb)
    PartialState().wait_for_everyone()
    try:
        yield lines
    finally:
        if args.process_index == 0:
            file.close()
            Path(folder, _LOCK).unlink(missing_ok=True)


@contextmanager
def output_writable(args: VideoMAETrainingArguments) -> Iterator[list[str]]:
    """Around a command that only adds results to `args.output_dir`; before hours of work it is seen that it can."""
    if args.process_index == 0:
        _locked(Path(args.output_dir)).close()
        Path(args.output_dir, _LOCK).unlink(missing_ok=True)
    yield []


def _refuse_inputs(folder: Path, run: Run) -> None:
    for name, source in (("checkpoint", run.model.checkpoint), ("teacher", run.distillation.teacher)):
        if source and Path(source).exists():
            if Path(source).resolve() == folder.resolve():
                raise ValueError(f"output_dir={folder} is the {name} itself, which would be overwritten; give another.")
            below = os.path.relpath(Path(source).resolve(), folder.resolve()).split(os.sep)[0]
            if _WRITTEN.fullmatch(below):
                raise ValueError(f"{name}={source} is of the run in output_dir={folder}; give another output_dir.")


def _locked(folder: Path):
    """The lock file of a folder, open; where another process has it open, that one is named."""
    if folder.exists() and not folder.is_dir():
        raise ValueError(f"output_dir={folder} is a file; give a folder.")
    try:
        folder.mkdir(parents=True, exist_ok=True)
        file = open(folder / _LOCK, "a+", encoding="utf-8")
    except OSError as error:
        raise CannotWriteError(f"output_dir={folder} cannot be written: {error.strerror}.") from error
    if not _lock(file):
        file.seek(0)
        owner = file.read().strip() or "another process"
        file.close()
        raise ValueError(f"output_dir={folder} is being written by {owner}; wait for it, or give another folder.")
    try:
        file.truncate(0)
        file.write(f"process {os.getpid()} on {platform.node()}")
        file.flush()
    except OSError as error:
        raise CannotWriteError(f"output_dir={folder} cannot be written: {error.strerror}.") from error
    return file


def _lock(file) -> bool:
    """Whether this process has the lock now. The system frees it when the process ends, however it ends."""
    try:
        import fcntl
    except ImportError:  # Windows
        return True
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError:  # a file system without locks
        return True
    return True


def _make_room(folder: Path, command: str) -> list[str]:
    """Moves what an earlier run of this command has left."""
    record = read_record(folder)
    names = sorted(path.name for path in folder.iterdir() if _WRITTEN.fullmatch(path.name))
    if record is None and "config.json" in names:
        raise ValueError(f"output_dir={folder} holds a model that is not of a run here; give another folder.")
    if record is not None and record.get("command") != command:
        raise ValueError(
            f"output_dir={folder} holds a run of {record.get('command')!r}; give {command} another folder."
        )
    if record is None or not names:
        return []
    number = 1
    while (folder / f"earlier-{number}").exists():
        number += 1
    earlier = folder / f"earlier-{number}"
    earlier.mkdir()
    for name in names:
        (folder / name).rename(earlier / name)
    checkpoints = sum(name.startswith("checkpoint-") for name in names)
    what = f"{command}, {count(checkpoints, 'checkpoint')}" + ("" if record.get("finished") else ", not finished")
    return [f"{folder} held an earlier run ({what}): its files are in {earlier} now"]

# Copyright 2026 The videomae_hf authors. Licensed under the Apache License, Version 2.0.
"""The output folder of a run: only one run writes to it at a time, and no earlier run or input is overwritten."""

import os
import platform
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TextIO

from accelerate import PartialState

from ..checkpoints.run_folders import read_record
from ..messages import count
from ..settings.run import Run
from ..settings.training_arguments import VideoMAETrainingArguments
from .safeguards import CannotWriteError


_LOCK = "run.lock"
# Names of the files and folders that a run writes to its output_dir
_WRITTEN = re.compile(
    r"checkpoint-\d+|ema|adapter|reconstructions|features|runs|hub_upload|.*\.safetensors|.*_results\.json|.*\.safetensors\.index\.json"
    r"|(config|preprocessor_config|processor_config|trainer_state|nonfinite|metrics|run|adapter_config)\.json"
    r"|training_args\.bin|vjepa2_probe\.pt|settings\.yaml|predictions\.csv|README\.md|stage_finished\.json"
    r"|report\.(html|json)|evaluation\.yaml"
)


@contextmanager
def output_claimed(run: Run) -> Iterator[list[str]]:
    """Context of a run that writes to its `output_dir`: no other run writes there, and no earlier run is overwritten.

    Unless the run resumes, the files of an earlier run of the same command are moved to the subfolder `earlier-1`.

    Yields:
        Messages to print.

    Raises:
        ValueError: the folder has a run of another command, a model of unknown origin or an input of this run, or
            another process is writing to it.
        OSError: the folder cannot be written.
    """
    args, messages = run.training, []
    folder = Path(args.output_dir)
    if args.process_index == 0:
        _refuse_inputs(folder, run)
        file = _locked(folder)
        if args.resume_from_checkpoint is None:
            messages = _make_room(folder, run.verb)
    PartialState().wait_for_everyone()
    try:
        yield messages
    finally:
        if args.process_index == 0:
            file.close()
            Path(folder, _LOCK).unlink(missing_ok=True)


@contextmanager
def output_writable(args: VideoMAETrainingArguments) -> Iterator[list[str]]:
    """Context of a command that only adds results to `args.output_dir`; checks first that the folder can be written."""
    if args.process_index == 0:
        _locked(Path(args.output_dir)).close()
        Path(args.output_dir, _LOCK).unlink(missing_ok=True)
    yield []


def _refuse_inputs(folder: Path, run: Run) -> None:
    for name, source in (("checkpoint", run.model.checkpoint), ("teacher", run.distillation.teacher)):
        if source and Path(source).exists():
            if Path(source).resolve() == folder.resolve():
                raise ValueError(
                    f"output_dir={folder} is the {name} itself, which would be overwritten; choose another output_dir."
                )
            below = os.path.relpath(Path(source).resolve(), folder.resolve()).split(os.sep)[0]
            if _WRITTEN.fullmatch(below):
                raise ValueError(
                    f"{name}={source} belongs to the run in output_dir={folder}; choose another output_dir."
                )


def _locked(folder: Path) -> TextIO:
    """Opens and locks the lock file of a folder; raises ValueError with the process that holds it, if there is one."""
    if folder.exists() and not folder.is_dir():
        raise ValueError(f"output_dir={folder} is a file; choose a folder.")
    try:
        folder.mkdir(parents=True, exist_ok=True)
        file = open(folder / _LOCK, "a+", encoding="utf-8")
    except OSError as error:
        raise CannotWriteError(f"output_dir={folder} cannot be written: {error.strerror}.") from error
    if not _lock(file):
        file.seek(0)
        owner = file.read().strip() or "another process"
        file.close()
        raise ValueError(f"output_dir={folder} is being written by {owner}; wait for it, or choose another folder.")
    try:
        file.truncate(0)
        file.write(f"process {os.getpid()} on {platform.node()}")
        file.flush()
    except OSError as error:
        raise CannotWriteError(f"output_dir={folder} cannot be written: {error.strerror}.") from error
    return file


def _lock(file: TextIO) -> bool:
    """Locks a file; False if another process holds the lock. The system releases it however the process ends."""
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
    # A forked process (a worker of the data loader) shares the lock and may outlive a killed run by seconds
    os.register_at_fork(after_in_child=file.close)
    return True


def _make_room(folder: Path, command: str) -> list[str]:
    """Moves the files of an earlier run of this command to a subfolder."""
    record = read_record(folder)
    names = sorted(path.name for path in folder.iterdir() if _WRITTEN.fullmatch(path.name))
    if record is None and "config.json" in names:
        raise ValueError(f"output_dir={folder} holds a model that no run of this package wrote; choose another folder.")
    if record is not None and record.get("command") != command:
        raise ValueError(
            f"output_dir={folder} holds a run of {record.get('command')!r}; choose another folder for {command}."
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
    return [f"{folder} held an earlier run ({what}); its files are now in {earlier}"]

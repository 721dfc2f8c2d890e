# Copyright 2026 The videomae_hf authors. Licensed under the Apache License, Version 2.0.
"""Checkpoints that are complete or do not count, whatever interrupts their writing: a kill, a crash, a full disk.

The last file of a checkpoint is run.json, which lists all others with their sizes. A checkpoint without it, which is
not from here, is complete if all that a run needs to go on is there.
"""

import json
import logging
import os
import re
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import torch
from safetensors import SafetensorError
from transformers.trainer import TRAINING_ARGS_NAME
from transformers.trainer_callback import TrainerState
from transformers.trainer_pt_utils import safe_globals

from ..checkpoint_files import read_pickle, read_tensors


logger = logging.getLogger(__name__)

RECORD = "run.json"
_STATE = "trainer_state.json"
# Of checkpoints without a list of their files: one of the patterns of each line must be there
_NEEDED = (
    ("model.safetensors", "*.safetensors*", "pytorch_model*", "pytorch_model_fsdp*", "global_step*"),
    ("optimizer.pt", "optimizer*", "global_step*"),
    ("scheduler.pt", "scheduler*", "global_step*"),
    ("rng_state.pth", "rng_state*.pth"),
)


class CannotWriteError(OSError):
    """A folder could not be written: the disk is full, say."""


def last_checkpoint(output_dir: str | Path) -> str | None:
    """The complete checkpoint of the most steps in a folder; None if there is none."""
    found = {int(path.name[11:]): path for path in Path(output_dir).glob("checkpoint-*") if _is_numbered(path)}
    for _, path in sorted(found.items(), reverse=True):
        missing = missing_file(path)
        if missing is None:
            return str(path)
        logger.warning("%s is incomplete (%s is missing or damaged); it is not used.", path, missing)
    return None


def is_complete(checkpoint: Path) -> bool:
    return missing_file(checkpoint) is None


def missing_file(checkpoint: Path) -> str | None:
    """The name of a file that is missing, cut short or unreadable in a checkpoint; None if it is complete."""
    try:
        TrainerState.load_from_json(str(checkpoint / _STATE))
        files = json.loads((checkpoint / RECORD).read_text(encoding="utf-8")).get("files")
    except FileNotFoundError as error:
        files = None
        if Path(error.filename).name == _STATE:
            return _STATE
    except (json.JSONDecodeError, UnicodeDecodeError, AttributeError, TypeError):
        return f"{_STATE} or {RECORD}"
    wrong = (name for name, size in (files or {}).items() if not _has_size(checkpoint / name, size))
    changed = next(wrong, None)
    if changed is not None:
        return changed
    return next((alternatives[0] for alternatives in _NEEDED if not _any_of(checkpoint, alternatives)), None)


def _has_size(path: Path, size: int) -> bool:
    return path.is_file() and path.stat().st_size == size


def _any_of(checkpoint: Path, patterns: tuple[str, ...]) -> bool:
    return any(next(checkpoint.glob(pattern), None) is not None for pattern in patterns)


def list_files(folder: Path) -> dict[str, int]:
    """The files of a checkpoint and their sizes, for run.json."""
    paths = (path for path in sorted(folder.rglob("*")) if path.is_file() and path.name != RECORD)
    return {path.relative_to(folder).as_posix(): path.stat().st_size for path in paths}


def check_complete(checkpoint: str | Path) -> None:
    """Raises ValueError for a checkpoint from which a run cannot go on as if nothing had happened.

    Its files are opened, and not only counted: the Trainer would not say which of them torch refuses.
    """
    checkpoint = Path(checkpoint)
    if not checkpoint.is_dir():
        raise ValueError(f"resume_from_checkpoint={checkpoint} is no folder; `last` takes the last one in output_dir.")
    missing = missing_file(checkpoint)
    if missing is not None:
        other = last_checkpoint(checkpoint.parent)
        raise ValueError(
            f"{checkpoint} is incomplete: {missing} is missing or damaged. "
            + (f"{other} is complete." if other else "There is no complete one beside it.")
        )
    for path in sorted([*checkpoint.iterdir(), *checkpoint.glob("ema/*")]):
        if path.suffix == ".safetensors":
            read_tensors(path)
        elif path.suffix in (".pt", ".pth", ".bin") and path.name != TRAINING_ARGS_NAME:  # which nobody reads
            with safe_globals():  # numpy's random state
                read_pickle(path)


@contextmanager
def checkpoint_written(checkpoint: Path, by_this_process: bool) -> Iterator[None]:
    """Around the writing of a checkpoint. One that fails is removed, and the error names its folder."""
    if by_this_process:
        # Of an earlier run: new files beside old ones are incomplete.
        (checkpoint / _STATE).unlink(missing_ok=True)
        (checkpoint / RECORD).unlink(missing_ok=True)
    try:
        with folder_named(checkpoint):
            yield
    except CannotWriteError as error:
        if by_this_process:  # the disk may be full of it
            shutil.rmtree(checkpoint, ignore_errors=True)
        last = last_checkpoint(checkpoint.parent)
        raise CannotWriteError(
            f"{error} " + (f"The last complete checkpoint is {last}." if last else "There is no complete checkpoint.")
        ) from error


@contextmanager
def folder_named(folder: Path | str) -> Iterator[None]:
    """Around the writing of files: what their writers raise when they cannot becomes an error that names the folder."""
    try:
        yield
    except (OSError, SafetensorError, RuntimeError) as error:
        # An OSError without a number is none of the system, but of a request to the Hub, say. torch.save tells of a
        # full disk by a RuntimeError of its archive writer.
        if isinstance(error, OSError) and error.errno is None:
            raise
        if isinstance(error, RuntimeError) and "inline_container.cc" not in str(error):
            raise
        reason = str(error).splitlines()[0]
        raise CannotWriteError(f"{folder} could not be written ({reason}). Is the disk full?") from error


def flush_to_disk(folder: Path | str):
    """Returns when the files of a folder would outlast a power failure."""
    for path in Path(folder).rglob("*"):
        if path.is_file():
            with open(path, "rb+") as file:
                os.fsync(file.fileno())


def check_finite(model: torch.nn.Module, step: int):
    """Raises FloatingPointError if a weight is not finite, so that no checkpoint has such weights."""
    for name, parameter in model.named_parameters():
        if not parameter.detach().isfinite().all():
            raise FloatingPointError(
                f"{name} is not finite after step {step}; no checkpoint is written. A lower learning rate may help."
            )


def _is_numbered(path: Path) -> bool:
    return re.fullmatch(r"checkpoint-\d+", path.name) is not None and path.is_dir()

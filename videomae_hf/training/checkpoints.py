# Copyright 2026 The videomae_hf authors. Licensed under the Apache License, Version 2.0.
"""Checkpoints that are complete or do not count, whatever interrupts their writing: a kill, a crash, a full disk.

transformers writes trainer_state.json after all other files of a checkpoint. `VideoMAETrainer` sees to it that this
holds over all processes, and for the disk. So a checkpoint whose trainer_state.json can be read is complete.
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
from transformers.trainer_callback import TrainerState


logger = logging.getLogger(__name__)

_STATE = "trainer_state.json"


class CannotWriteError(OSError):
    """A folder could not be written: the disk is full, say."""


def last_checkpoint(output_dir: str | Path) -> str | None:
    """The complete checkpoint of the most steps in a folder; None if there is none."""
    found = {int(path.name[11:]): path for path in Path(output_dir).glob("checkpoint-*") if _is_numbered(path)}
    for _, path in sorted(found.items(), reverse=True):
        if is_complete(path):
            return str(path)
        logger.warning("%s is incomplete, as its writing was interrupted; it is not used.", path)
    return None


def is_complete(checkpoint: Path) -> bool:
    try:
        TrainerState.load_from_json(str(checkpoint / _STATE))
    except (FileNotFoundError, json.JSONDecodeError):
        return False
    return True


@contextmanager
def checkpoint_written(checkpoint: Path, by_this_process: bool) -> Iterator[None]:
    """Around the writing of a checkpoint. One that fails is removed, and the error names its folder."""
    if by_this_process:
        (checkpoint / _STATE).unlink(missing_ok=True)  # of an earlier run: new files beside old ones are incomplete
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

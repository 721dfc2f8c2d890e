# Copyright 2026 The videomae_hf authors. Licensed under the Apache License, Version 2.0.
"""The output folder of a run: the record of the run, and its checkpoints that are complete.

The last file of a checkpoint is run.json, which lists all others with their sizes. A checkpoint without run.json,
written by other software, is complete if it has all files that are needed to resume.
"""

import json
import logging
import re
from pathlib import Path

from transformers import TrainerState

from ..text_files import read_json, read_yaml


logger = logging.getLogger(__name__)

RECORD = "run.json"
SETTINGS = "settings.yaml"  # the recipe that repeats the run, written at its end
EVALUATION_SETTINGS = "evaluation.yaml"  # of an evaluation, which may write to the folder of the training
STATE = "trainer_state.json"
_INSIDE = re.compile(r"checkpoint-\d+|ema|adapter")  # folders of checkpoints in an output folder
# Checkpoints without a list of their files must have a file for one of the patterns of each line.
_NEEDED = (
    ("model.safetensors", "*.safetensors*", "pytorch_model*", "pytorch_model_fsdp*", "global_step*"),
    ("optimizer.pt", "optimizer*", "global_step*"),
    ("scheduler.pt", "scheduler*", "global_step*"),
    ("rng_state.pth", "rng_state*.pth"),
)


def read_record(folder: str | Path) -> dict | None:
    """The content of run.json in a folder; None if the file does not exist."""
    file = Path(folder, RECORD)
    content = read_json(file) if file.is_file() else None
    if content is not None and not isinstance(content, dict):
        raise ValueError(f"{file} must be a mapping, as runs of this package write it.")
    return content


def run_folder(checkpoint: str | Path) -> Path:
    """The output folder of the run that wrote a checkpoint: `output` of `output/checkpoint-100/ema`, for example.

    A checkpoint that no run of this package wrote is its own folder.
    """
    folder = Path(checkpoint)
    if _INSIDE.fullmatch(folder.absolute().name):
        above = [parent for parent in folder.absolute().parents[:2] if Path(parent, RECORD).is_file()]
        outer = [parent for parent in above if not _INSIDE.fullmatch(parent.name)]
        return next(iter(outer), folder)
    return folder


def static_tokens(settings: Path) -> dict[str, float]:
    """By which settings a run encoded a part of the tokens at evaluation; {} for all of them, or without the file."""
    content = read_yaml(settings) if settings.is_file() else {}
    found = {name: content.get(name) for name in ("static_keep", "static_threshold")}
    return {name: value for name, value in found.items() if isinstance(value, int | float)}


def last_checkpoint(output_dir: str | Path) -> str | None:
    """The complete checkpoint with the most steps in a folder; None if there is none."""
    found = {int(path.name[11:]): path for path in Path(output_dir).glob("checkpoint-*") if _is_numbered(path)}
    for _, path in sorted(found.items(), reverse=True):
        missing = missing_file(path)
        if missing is None:
            return str(path)
        logger.warning("%s is incomplete (%s is missing or damaged); it is not used.", path, missing)
    return None


def _is_numbered(path: Path) -> bool:
    return re.fullmatch(r"checkpoint-\d+", path.name) is not None and path.is_dir()


def missing_file(checkpoint: Path) -> str | None:
    """The name of a file that is missing, truncated or unreadable in a checkpoint; None if it is complete."""
    try:
        TrainerState.load_from_json(str(checkpoint / STATE))
        files = json.loads((checkpoint / RECORD).read_text(encoding="utf-8")).get("files")
    except FileNotFoundError as error:
        files = None
        if Path(error.filename).name == STATE:
            return STATE
    except (json.JSONDecodeError, UnicodeDecodeError, AttributeError, TypeError):
        return f"{STATE} or {RECORD}"
    wrong = (name for name, size in (files or {}).items() if not _has_size(checkpoint / name, size))
    changed = next(wrong, None)
    if changed is not None:
        return changed
    return next((alternatives[0] for alternatives in _NEEDED if not _any_of(checkpoint, alternatives)), None)


def list_files(folder: Path) -> dict[str, int]:
    """The files of a checkpoint and their sizes, for run.json."""
    paths = (path for path in sorted(folder.rglob("*")) if path.is_file() and path.name != RECORD)
    return {path.relative_to(folder).as_posix(): path.stat().st_size for path in paths}


def _has_size(path: Path, size: int) -> bool:
    return path.is_file() and path.stat().st_size == size


def _any_of(checkpoint: Path, patterns: tuple[str, ...]) -> bool:
    return any(next(checkpoint.glob(pattern), None) is not None for pattern in patterns)

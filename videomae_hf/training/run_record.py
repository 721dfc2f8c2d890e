# Copyright 2026 The videomae_hf authors. Licensed under the Apache License, Version 2.0.
"""The record of a run: its command, classes and data, and the settings that affect the trained weights.

Each run writes its record to run.json, in `output_dir` and in every checkpoint. Only the same run can resume from it.
"""

import dataclasses
import json
from dataclasses import dataclass
from pathlib import Path

from transformers import PreTrainedConfig

from ..checkpoints.run_folders import RECORD, last_checkpoint, read_record
from ..data.videos import data_facts
from ..messages import several
from ..settings.run import Run, config_names
from ..settings.training_arguments import VideoMAETrainingArguments
from ..text_files import write_text


@dataclass(frozen=True)
class RunRecord:
    """The facts by which runs are compared.

    Args:
        command: pretrain or finetune.
        problem_type: problem type of the model; None for pretraining.
        classes: names of the classes or targets; [] for pretraining.
        data: the result of `data_facts`: number of videos, and a digest of their names, labels and order.
        model: fields of the model configuration.
        settings: settings that affect the trained weights.
    """

    command: str
    problem_type: str | None
    classes: list[str]
    data: dict[str, str]
    model: dict
    settings: dict

    @classmethod
    def of(cls, run: Run, config: PreTrainedConfig, train_set) -> "RunRecord":
        """The record of a run with this model configuration and training set."""
        classifies = run.verb != "pretrain"
        fields = [name for name in config_names(type(config)) if name != "label_mappings"]
        record = cls(
            command=run.verb,
            problem_type=config.problem_type if classifies else None,
            classes=[config.id2label[number] for number in range(config.num_labels)] if classifies else [],
            data={name: str(value) for name, value in data_facts(train_set).items()},
            model={name: getattr(config, name) for name in fields},
            settings=run.learning_settings(),
        )
        return cls(
            **json.loads(json.dumps(dataclasses.asdict(record), default=_plain))
        )  # equal to the record read back

    def write(self, folder: str | Path, **more) -> None:
        """Writes run.json whole or not at all, with `more` as additional fields."""
        content = {**dataclasses.asdict(self), **more}
        write_text(Path(folder, RECORD), json.dumps(content, indent=1))

    def differences(self, other: dict, *, settings: bool) -> list[str]:
        """Describes each difference from a record read from run.json; `settings` also compares the settings."""
        found = []
        for name in ("command", "problem_type", "classes"):
            if other.get(name) != getattr(self, name):
                found.append(f"{name} {_shown(other.get(name))} then, {_shown(getattr(self, name))} now")
        for name in ("model", "data", *(("settings",) if settings else ())):
            then, now = other.get(name) or {}, getattr(self, name)
            keys = [key for key in now if key in then and then[key] != now[key]]
            found += [f"{key} {_shown(then[key])} then, {_shown(now[key])} now" for key in keys]
        return found


def _plain(value: object) -> object:
    return getattr(value, "value", None) or str(value)


def _shown(value) -> str:
    text = ", ".join(map(str, value)) if isinstance(value, list) else str(value)
    return text if len(text) <= 60 else text[:57] + "..."


def check_same_run(checkpoint: str | Path, record: RunRecord, *, allow_changes: bool) -> list[str]:
    """Compares a checkpoint with the run that is to resume from it.

    Returns:
        Messages about differences that are allowed.

    Raises:
        ValueError: the checkpoint is of another run: its command, model, problem type, classes or data differ, or,
            without `allow_changes`, its settings.
    """
    then = read_record(checkpoint)
    if then is None:
        return [f"{checkpoint} has no {RECORD}, so that it is unknown whether it belongs to this run"]
    hard = record.differences(then, settings=False)
    if hard:
        raise ValueError(
            f"{checkpoint} belongs to another run: {several(hard)}. Leave out --resume_from_checkpoint to start a new "
            f"run, or choose another output_dir."
        )
    soft = record.differences(then, settings=True)
    if soft and not allow_changes:
        raise ValueError(
            f"{checkpoint} was written with different settings: {several(soft)}. Use the same settings, or "
            f"--allow_changes true to resume with the new ones."
        )
    return [f"resuming with different settings: {several(soft)}"] if soft else []


def resume_path(args: VideoMAETrainingArguments) -> str | None:
    """The checkpoint of `resume_from_checkpoint`: its folder, or the last complete one for `last` and `true`."""
    said = args.resume_from_checkpoint
    if said is None or str(said).lower() == "false":
        return None
    return last_checkpoint(args.output_dir) if str(said).lower() in ("last", "true") else said

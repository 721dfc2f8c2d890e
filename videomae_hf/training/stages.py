# Copyright 2026 The videomae_hf authors. Licensed under the Apache License, Version 2.0.
"""Several runs as one command, in the processes that the launcher started: stages of a training, or folds."""

import gc
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import torch
from accelerate import PartialState

from ..settings.recipes import Verb, parse_command_line
from ..settings.run import Run
from ..text_files import write_text
from .distributed import report


MARKER = "stage_finished.json"


@dataclass
class Stage:
    """One of several runs.

    Args:
        name: name of the stage and of its folder.
        verb: the command that it runs.
        command: the function of the command.
        arguments: recipe file and options, as on the command line.
        settings: override the recipe, and are overridden by the command line.
        noun: what it is called in messages.
        facts: what else must be the same for its results to count as those of this stage.
    """

    name: str
    verb: Verb
    command: Callable[[Run], None]
    arguments: list[str]
    settings: dict
    noun: str = "Stage"
    facts: dict[str, str] = field(default_factory=dict)

    def parse(self) -> Run:
        """Parses the settings of the stage; options that only other stages use are accepted."""
        try:
            return parse_command_line(self.arguments, self.verb, self.settings, skip_unused=True)
        except ValueError as error:
            raise ValueError(f"{self.noun} {self.name}: {error}") from error


def run_in_turn(stages: Sequence[Stage], execute: Callable[[Callable, Run], None], *, chained: bool) -> list[Path]:
    """Runs stages one after the other: finished ones are skipped, and an interrupted one resumes.

    The settings of all stages are checked before the first one starts.

    Args:
        stages: the stages.
        execute: runs the function of a stage with its settings.
        chained: a stage starts from what the one before it leaves.

    Returns:
        The output folder of each stage.

    Raises:
        ValueError: settings are wrong, a finished stage has other facts, or, if chained, the folder of a stage has
            results although the stage before it is not finished, so that they are of an earlier run.
    """
    # A mistake in the last stage must not surface after weeks of training.
    folders = [Path(stage.parse().training.output_dir) for stage in stages]
    # Each process checks before it joins the others in the first stage, and thus before any process writes a file.
    finished = [_finished_with(folder) for folder in folders]
    resumed = [any(folder.glob("checkpoint-*")) for folder in folders]
    for stage, folder, then in zip(stages, folders, finished):
        _check_facts(stage, folder, then)
    if chained:
        _refuse_leftovers(stages, folders, finished, resumed)
    for number, stage in enumerate(stages):
        title = f"{stage.noun} {number + 1} of {len(stages)}, {stage.name}"
        run = stage.parse()
        args, now = run.training, {**run.as_recipe(), **stage.facts}
        if finished[number] is not None:
            report(args, [f"{title}: already finished{_differences(finished[number], now, folders[number])}"])
            continue
        report(args, [f"{title}: {stage.verb.name}" + (", resumed" if resumed[number] else "")])
        if resumed[number] and args.resume_from_checkpoint is None:
            args.resume_from_checkpoint = "last"
        execute(stage.command, run)
        if args.process_index == 0:
            _write_marker(folders[number] / MARKER, now)
        PartialState().wait_for_everyone()  # the next stage reads files that the first process saves
        gc.collect()  # frees the trainer, which is in a reference cycle with its callbacks
        if torch.cuda.is_available():
            torch.cuda.empty_cache()
    return folders


def _finished_with(folder: Path) -> dict | None:
    """The settings of a finished stage; None if the stage is not finished."""
    marker = folder / MARKER
    return json.loads(marker.read_text(encoding="utf-8")) if marker.is_file() else None


def _refuse_leftovers(
    stages: list[Stage], folders: list[Path], finished: list[dict | None], resumed: list[bool]
) -> None:
    """Raises ValueError if a stage has results although the stage before it is not finished."""
    for number in range(1, len(stages)):
        if finished[number - 1] is None and (finished[number] is not None or resumed[number]):
            raise ValueError(
                f"{folders[number]} holds results of stage {stages[number].name}, but the stage before it, "
                f"{stages[number - 1].name}, is not finished: remove the folder or choose another output_dir."
            )


def _check_facts(stage: Stage, folder: Path, then: dict | None) -> None:
    """Raises ValueError if a stage was finished, but with other facts."""
    changed = [name for name, value in stage.facts.items() if then is not None and then.get(name) != value]
    if changed:
        raise ValueError(
            f"{folder} holds results of other {' and '.join(changed)} than those of {stage.name}; remove it, or choose "
            f"another output_dir."
        )


def _write_marker(marker: Path, settings: dict) -> None:
    """Writes the marker of a finished stage, whole or not at all."""
    marker.parent.mkdir(parents=True, exist_ok=True)
    write_text(marker, json.dumps(settings, indent=1))


def _differences(then: dict, now: dict, folder: Path) -> str:
    changed = [f"{key} {then.get(key)} -> {now.get(key)}" for key in {**then, **now} if then.get(key) != now.get(key)]
    if not changed:
        return ""
    return f", with different settings ({', '.join(changed)}); to run it again, remove {folder}"

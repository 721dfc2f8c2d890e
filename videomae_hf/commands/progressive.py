# Copyright 2026 The videomae_hf authors. Licensed under the Apache License, Version 2.0.
"""`videomae progressive`: runs several stages as one command, each from the checkpoint of the previous stage.

This is the progressive training of VideoMAE V2 (https://arxiv.org/abs/2303.16727), section 3.3: pretraining without
labels, post-pretraining on merged labelled data sets, finetuning on the target data set. A recipe of stages:

    output_dir: output/progressive
    dataloader_num_workers: 10         # keys next to `stages` apply to every stage
    stages:
      - name: pretrain                 # names the stage's folder in output_dir
        command: pretrain
        recipe: pretrain.yaml          # a file or a name; optional, and overridden by the other keys
        train_data: videos
      - name: post_pretrain
        command: finetune
        train_data: merged/train.jsonl
        label_mappings: merged/label_mappings.json

All stages run in the processes that the launcher started. torchrun, accelerate launch and SLURM therefore work as for a
single run, and an error or a signal ends the command as it ends a run. The settings of all stages are checked before
the first stage starts.
"""

import argparse
import gc
import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch
from accelerate import PartialState

from ..settings.recipe_files import find_recipe
from ..settings.recipes import parse_command_line, refuse_unused
from ..settings.run import Run
from ..text_files import read_yaml, write_text
from ..training.distributed import leave_processes, report
from ..training.session import execute_run
from . import evaluate, finetune, pretrain, probe


# Commands that a stage can run: verb -> (description, function)
STAGES = {
    "pretrain": (pretrain.VERB, pretrain.pretrain),
    "finetune": (finetune.VERB, finetune.finetune),
    "evaluate": (evaluate.VERB, evaluate.evaluate),
    "probe": (probe.VERB, probe.probe),
}
MARKER = "stage_finished.json"
_OWN_KEYS = ("name", "command", "recipe")


@dataclass
class Stage:
    """A stage of progressive training.

    Args:
        name: name of the stage and of its folder.
        command: the verb that the stage runs.
        arguments: recipe file and options, as on the command line.
        settings: override the recipe, and are overridden by the command line.
    """

    name: str
    command: str
    arguments: list[str]
    settings: dict

    def parse(self) -> Run:
        """Parses the settings of the stage; options that only other stages use are accepted."""
        try:
            return parse_command_line(self.arguments, STAGES[self.command][0], self.settings, skip_unused=True)
        except ValueError as error:
            raise ValueError(f"Stage {self.name}: {error}") from error


def run_stages(arguments: list[str], execute: Callable[[Callable, Run], None] = execute_run) -> None:
    """Runs `videomae progressive RECIPE [--key value ..]`; the options apply to every stage.

    A finished stage is skipped; an interrupted stage resumes from its last checkpoint.

    Args:
        arguments: command-line arguments after the verb.
        execute: runs the function of a stage with its settings.

    Raises:
        ValueError: the recipe has no stages, a stage has unknown keys, or the folder of a stage has results although
            the stage before it is not finished, so that they are of an earlier run.
    """
    parser = argparse.ArgumentParser(
        prog="videomae progressive",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument("recipe", help="YAML file with a list of stages, or the name of such a recipe of this package")
    parser.add_argument("--output_dir", help="folder in which each stage has its own folder")
    known, options = parser.parse_known_args(arguments)
    stages = read_stages(known.recipe, options, known.output_dir)
    used = set().union(*(STAGES[stage.command][0].settings for stage in stages))
    refuse_unused("This recipe of stages", used, options)
    # A mistake in the last stage must not surface after weeks of training.
    folders = [Path(stage.parse().training.output_dir) for stage in stages]
    # Each process checks before it joins the others in the first stage, and thus before any process writes a file.
    finished = [_finished_with(folder) for folder in folders]
    resumed = [any(folder.glob("checkpoint-*")) for folder in folders]
    _refuse_leftovers(stages, folders, finished, resumed)
    for number, stage in enumerate(stages):
        title = f"Stage {number + 1} of {len(stages)}, {stage.name}"
        run = stage.parse()
        args, now = run.training, run.as_recipe()
        if finished[number] is not None:
            report(args, [f"{title}: already finished{_differences(finished[number], now, folders[number])}"])
            continue
        report(args, [f"{title}: {stage.command}" + (", resumed" if resumed[number] else "")])
        if resumed[number] and args.resume_from_checkpoint is None:
            args.resume_from_checkpoint = "last"
        execute(STAGES[stage.command][1], run)
        if args.process_index == 0:
            _write_marker(folders[number] / MARKER, now)
        PartialState().wait_for_everyone()  # the next stage reads files that the first process saves
        gc.collect()  # frees the trainer, which is in a reference cycle with its callbacks
        if torch.cuda.is_available():
            torch.cuda.empty_cache()


def read_stages(path: str, options: list[str], output_dir: str | None) -> list[Stage]:
    """Reads the stages of a recipe.

    A stage without a `checkpoint` of its own starts from the result of the last stage before it that trained.
    """
    recipe = read_yaml(find_recipe(path))
    if not isinstance(recipe.get("stages"), list) or not recipe["stages"]:
        raise ValueError(f"{path} must have a list of stages.")
    shared = {key: value for key, value in recipe.items() if key not in ("stages", "output_dir")}
    folder = Path(output_dir or recipe.get("output_dir", "output"))
    stages, checkpoint = [], None
    for number, entry in enumerate(recipe["stages"], start=1):
        if not isinstance(entry, dict) or not {"name", "command"} <= set(entry):
            raise ValueError(f"{path}: stage {number} must be a mapping with name and command, not {entry!r}.")
        name, command = str(entry["name"]), entry["command"]
        if command not in STAGES:
            raise ValueError(
                f"{path}: command {command!r} of stage {name} is unknown; choose from {', '.join(STAGES)}."
            )
        if name in [stage.name for stage in stages] or Path(name).name != name or "output_dir" in entry:
            raise ValueError(
                f"{path}: stage {name!r} must have a unique name, which is also the name of its folder in output_dir; "
                f"it cannot set output_dir."
            )
        settings = {**shared, **{key: value for key, value in entry.items() if key not in _OWN_KEYS}}
        settings["output_dir"] = str(folder / name)
        if checkpoint is not None:
            settings.setdefault("checkpoint", checkpoint)
        file = [entry["recipe"]] if entry.get("recipe") else []
        stages.append(Stage(name, command, [*file, *options], settings))
        if command in ("pretrain", "finetune"):  # the others leave no model
            checkpoint = str(folder / name)
    return stages


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


def _write_marker(marker: Path, settings: dict) -> None:
    """Writes the marker of a finished stage, whole or not at all."""
    marker.parent.mkdir(parents=True, exist_ok=True)
    write_text(marker, json.dumps(settings, indent=1))


def _differences(then: dict, now: dict, folder: Path) -> str:
    changed = [f"{key} {then.get(key)} -> {now.get(key)}" for key in {**then, **now} if then.get(key) != now.get(key)]
    if not changed:
        return ""
    return f", with different settings ({', '.join(changed)}); to run it again, remove {folder}"


def main(arguments: list[str]) -> None:
    run_stages(arguments)
    leave_processes()

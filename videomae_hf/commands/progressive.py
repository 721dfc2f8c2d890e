# Copyright 2026 The videomae_hf authors. Licensed under the Apache License, Version 2.0.
"""`videomae progressive`: several stages as one command, each starting from the checkpoint of the one before.

VideoMAE V2 (https://arxiv.org/abs/2303.16727), section 3.3: pretraining without labels, post-pretraining on merged
labelled sets, finetuning on the target. A recipe of stages:

    output_dir: output/progressive
    dataloader_num_workers: 10         # keys beside `stages` hold for each stage
    stages:
      - name: pretrain                 # its folder in output_dir
        command: pretrain
        recipe: pretrain.yaml          # optional; the other keys go before those in it
        train_data: videos
      - name: post_pretrain
        command: finetune
        train_data: merged/train.jsonl
        label_mappings: merged/label_mappings.json

All stages run in the processes that the launcher started, so that torchrun, accelerate launch and SLURM work as for a
single run, and an error or a signal ends the command as it ends a run. The settings of all stages are checked before
the first begins.
"""

import argparse
import gc
import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch
from accelerate import PartialState

from ..settings.recipes import parse_command_line
from ..settings.run import Run
from ..text_files import read_yaml, write_text
from ..training.distributed import leave_processes, report
from ..training.session import execute_run
from . import evaluate, finetune, pretrain, probe


# Commands that a stage may be: verb -> (its settings, its function)
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
    """A run among others.

    Args:
        name: of the stage and its folder.
        command: its verb.
        arguments: recipe file and options, as on the command line.
        settings: override the recipe; overridden by the command line.
    """

    name: str
    command: str
    arguments: list[str]
    settings: dict

    def parse(self) -> Run:
        """The settings of the stage; an option that another stage uses is no mistake."""
        try:
            return parse_command_line(self.arguments, STAGES[self.command][0], self.settings, skip_unused=True)
        except ValueError as error:
            raise ValueError(f"Stage {self.name}: {error}") from error


def run_stages(arguments: list[str], execute: Callable[[Callable, Run], None] = execute_run) -> None:
    """`videomae progressive RECIPE.yaml [--key value ..]`; options hold for each stage.

    A finished stage is skipped, an interrupted one resumes from its last checkpoint.

    Args:
        arguments: of the command line.
        execute: runs the function of a stage with its settings.

    Raises:
        ValueError: a recipe without stages, a stage with unknown keys, or a folder that holds the results of a stage
            whose predecessor is not finished: they are of another one.
    """
    parser = argparse.ArgumentParser(
        prog="videomae progressive",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument("recipe", help="YAML file with stages")
    parser.add_argument("--output_dir", help="folder of the folders of the stages")
    known, options = parser.parse_known_args(arguments)
    stages = read_stages(known.recipe, options, known.output_dir)
    # A mistake in the last stage must not come out after weeks.
    folders = [Path(stage.parse().training.output_dir) for stage in stages]
    # Each process looks before it joins the others in the first stage, and thus before any of them writes something.
    finished = [_finished_with(folder) for folder in folders]
    resumed = [any(folder.glob("checkpoint-*")) for folder in folders]
    _refuse_leftovers(stages, folders, finished, resumed)
    for number, stage in enumerate(stages):
        title = f"Stage {number + 1} of {len(stages)}, {stage.name}"
        run = stage.parse()
        args, now = run.training, run.as_recipe()
        if finished[number] is not None:
            report(args, [f"{title}: finished before{_differences(finished[number], now, folders[number])}"])
            continue
        report(args, [f"{title}: {stage.command}" + (", resumed" if resumed[number] else "")])
        if resumed[number] and args.resume_from_checkpoint is None:
            args.resume_from_checkpoint = "last"
        execute(STAGES[stage.command][1], run)
        if args.process_index == 0:
            _write_marker(folders[number] / MARKER, now)
        PartialState().wait_for_everyone()  # the next stage reads what the first process has saved
        gc.collect()  # the trainer, whose callbacks refer to it
        if torch.cuda.is_available():
            torch.cuda.empty_cache()


def read_stages(path: str, options: list[str], output_dir: str | None) -> list[Stage]:
    """The stages of a recipe. A stage that trains begins with the checkpoint of the one before, unless it says its
    own; one that evaluates takes that of the last one that trained."""
    if not Path(path).is_file():
        raise FileNotFoundError(f"No recipe {path}.")
    recipe = read_yaml(path)
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
            raise ValueError(f"{path}: command {command!r} of stage {name} is unknown; choose of {', '.join(STAGES)}.")
        if name in [stage.name for stage in stages] or Path(name).name != name or "output_dir" in entry:
            raise ValueError(f"{path}: stage {name!r} needs a name of its own, which names its folder in output_dir.")
        settings = {**shared, **{key: value for key, value in entry.items() if key not in _OWN_KEYS}}
        settings["output_dir"] = str(folder / name)
        if checkpoint is not None:
            settings.setdefault("checkpoint", checkpoint)
        file = [entry["recipe"]] if entry.get("recipe") else []
        stages.append(Stage(name, command, [*file, *options], settings))
        if command != "evaluate":
            checkpoint = str(folder / name)
    return stages


def _finished_with(folder: Path) -> dict | None:
    """The settings with which a stage was finished; None before that."""
    marker = folder / MARKER
    return json.loads(marker.read_text(encoding="utf-8")) if marker.is_file() else None


def _refuse_leftovers(
    stages: list[Stage], folders: list[Path], finished: list[dict | None], resumed: list[bool]
) -> None:
    """Raises ValueError where a stage has results, and the one before it is not finished."""
    for number in range(1, len(stages)):
        if finished[number - 1] is None and (finished[number] is not None or resumed[number]):
            raise ValueError(
                f"{folders[number]} holds results of stage {stages[number].name}, but {stages[number - 1].name}, "
                f"before it, is not finished: remove the folder or take another output_dir."
            )


def _write_marker(marker: Path, settings: dict) -> None:
    """In one move, so that no broken marker can be left."""
    marker.parent.mkdir(parents=True, exist_ok=True)
    write_text(marker, json.dumps(settings, indent=1))


def _differences(then: dict, now: dict, folder: Path) -> str:
    changed = [f"{key} {then.get(key)} -> {now.get(key)}" for key in {**then, **now} if then.get(key) != now.get(key)]
    if not changed:
        return ""
    return f", with other settings than these ({', '.join(changed)}); to run it again, remove {folder}"


def main(arguments: list[str]) -> None:
    try:
        run_stages(arguments)
    finally:
        leave_processes()

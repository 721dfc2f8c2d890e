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
from collections.abc import Callable
from pathlib import Path

from ..settings.recipe_files import find_recipe
from ..settings.recipes import refuse_unused
from ..settings.run import Run
from ..text_files import read_yaml
from ..training.distributed import leave_processes
from ..training.session import execute_run
from ..training.stages import Stage, run_in_turn
from . import evaluate, finetune, pretrain, probe


# Commands that a stage can run: verb -> (description, function)
STAGES = {
    "pretrain": (pretrain.VERB, pretrain.pretrain),
    "finetune": (finetune.VERB, finetune.finetune),
    "evaluate": (evaluate.VERB, evaluate.evaluate),
    "probe": (probe.VERB, probe.probe),
}
_OWN_KEYS = ("name", "command", "recipe")


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
    used = set().union(*(stage.verb.settings for stage in stages))
    refuse_unused("This recipe of stages", used, options)
    run_in_turn(stages, execute, chained=True)


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
        stages.append(Stage(name, *STAGES[command], [*file, *options], settings))
        if command in ("pretrain", "finetune"):  # the others leave no model
            checkpoint = str(folder / name)
    return stages


def main(arguments: list[str]) -> None:
    run_stages(arguments)
    leave_processes()

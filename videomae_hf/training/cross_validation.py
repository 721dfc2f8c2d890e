# Copyright 2026 The videomae_hf authors. Licensed under the Apache License, Version 2.0.
"""Cross-validation: one run for each fold of `videomae split --folds`, and the mean and spread of their scores."""

import argparse
import json
import re
import statistics
from collections.abc import Callable
from pathlib import Path

from ..data.videos import fingerprint
from ..labels import labels_of
from ..settings.recipes import Verb, given_options
from ..settings.run import Run
from ..text_files import read_json, write_text
from .distributed import report
from .stages import Stage, run_in_turn


RESULTS = "folds.json"


def fold_lists(folder: Path) -> dict[str, tuple[Path, Path]]:
    """The training and the evaluation list of each fold of `videomae split --folds`, by name.

    Raises:
        FileNotFoundError: the folder has no folds, or a list of one is missing.
        ValueError: it has one fold only.
    """
    folds = [path for path in folder.glob("fold_*") if re.fullmatch(r"fold_\d+", path.name)]
    hint = f"`videomae split VIDEOS {folder} --folds 5` writes them"
    if not folds:
        raise FileNotFoundError(f"folds={folder} has no folder fold_0; {hint}.")
    if len(folds) == 1:
        raise ValueError(f"folds={folder} has a single fold; {hint}.")
    found = {}
    for fold in sorted(folds, key=lambda path: int(path.name[5:])):
        lists = [next(iter(sorted(fold.glob(f"{part}.*"))), None) for part in ("train", "val")]
        if None in lists:
            raise FileNotFoundError(f"{fold} has no list {'train' if lists[0] is None else 'val'}; {hint}.")
        found[fold.name] = tuple(lists)
    return found


def cross_validate(
    run: Run, verb: Verb, command: Callable[[Run], None], arguments: list[str], execute: Callable
) -> None:
    """Trains and scores a model for each fold, in a folder of its own in `output_dir`, and reports all of them.

    Finished folds are skipped, and an interrupted one resumes.

    Args:
        run: the settings of the command line, with `folds`.
        verb, command: the command that each fold runs.
        arguments: command-line arguments after the verb.
        execute: runs the function of a command with its settings.

    Raises:
        ValueError: the command line also sets training or evaluation data or push_to_hub, or a folder has the results
            of other lists.
    """
    wrong = [name for name in ("train_data", "eval_data", "dataset_name") if name in given_options(arguments)]
    if wrong:
        raise ValueError(f"folds names the lists to train on and to score on; leave out {' and '.join(wrong)}.")
    if run.training.push_to_hub:
        raise ValueError("push_to_hub would upload every fold to one repository; leave it out, and push one of them.")
    parser = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    parser.add_argument("--folds")
    parser.add_argument("--output_dir")
    _, options = parser.parse_known_args(arguments)
    lists, stages = fold_lists(Path(run.data.folds).expanduser()), []
    for name, (train, val) in lists.items():
        settings = {"train_data": str(train), "eval_data": str(val), "dataset_name": None, "folds": None}
        settings["output_dir"] = str(Path(run.training.output_dir, name))
        if run.follows_rules:  # a fold could choose its best checkpoint only on the videos of its score
            settings["load_best_model_at_end"] = False
        facts = {"lists": fingerprint([train.read_text("utf-8"), val.read_text("utf-8")])}
        stages.append(Stage(name, verb, command, options, settings, noun="Fold", facts=facts))
    folders = run_in_turn(stages, execute, chained=False)
    if run.training.process_index == 0:
        scores = {name: read_json(folder / "all_results.json") for name, folder in zip(lists, folders)}
        found = summary(scores, run.problem_type)
        write_text(Path(run.training.output_dir, RESULTS), json.dumps(found, indent=1))
        report(run.training, [*table(found), *_selection(run)])


def summary(scores: dict[str, dict], problem_type: str | None) -> dict:
    """The metrics of each fold, and their mean and standard deviation over the folds.

    Args:
        scores: for each fold, the content of all_results.json.
        problem_type: problem type of the model.
    """
    names = [*labels_of(problem_type).metrics, "majority", "videos", "unreadable"]
    folds = {
        fold: {name: found[f"eval_{name}"] for name in names if f"eval_{name}" in found}
        for fold, found in scores.items()
    }
    shared = [name for name in names if all(name in found for found in folds.values())]
    values = {name: [found[name] for found in folds.values()] for name in shared}
    return {
        "folds": folds,
        "mean": {name: statistics.mean(some) for name, some in values.items()},
        "standard_deviation": {name: statistics.stdev(some) for name, some in values.items()},
    }


def table(found: dict) -> list[str]:
    """The lines of a table: a row for each fold, and one for mean and standard deviation."""
    names = [name for name in found["mean"] if name not in ("loss", "unreadable")]
    rows = [["fold", *names]]
    rows += [[fold, *(f"{metrics[name]:.4g}" for name in names)] for fold, metrics in found["folds"].items()]
    rows.append(["mean", *(f"{found['mean'][name]:.4g}" for name in names)])
    rows.append(["std", *(f"{found['standard_deviation'][name]:.2g}" for name in names)])
    widths = [max(map(len, column)) for column in zip(*rows)]
    return ["  ".join(cell.rjust(width) for cell, width in zip(row, widths)) for row in rows]


def _selection(run: Run) -> list[str]:
    """A warning where checkpoints are chosen on the videos that they are scored on."""
    args = run.training
    if not args.load_best_model_at_end and args.early_stopping_patience is None:
        return []
    return [
        "WARNING: each fold chooses its checkpoint on the videos that it is scored on, so that these scores are too "
        "high. Leave out load_best_model_at_end and early_stopping_patience, or split off a test part (`videomae split "
        "--folds K --test 0.2`) and score it with `videomae evaluate`."
    ]

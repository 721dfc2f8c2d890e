# Copyright 2026 The videomae_hf authors. Licensed under the Apache License, Version 2.0.
"""`videomae report`: one page about a finetuned model, which says whether it has learned the question."""

import argparse
import dataclasses
from pathlib import Path
from typing import Any

from ..checkpoints.opening import trained_classifier
from ..checkpoints.run_folders import EVALUATION_SETTINGS, SETTINGS
from ..data.clips import EvalTransform
from ..data.processors import evaluation_processor
from ..data.splitting import named_groups
from ..data.videos import VideoSource, evaluation_source, media_of
from ..evaluation.findings import Predicted
from ..evaluation.perturbations import score_perturbed, usable_perturbations
from ..evaluation.report import REPORT, summary_line, write_report
from ..evaluation.shortcuts import SHORTCUTS
from ..inference.model_runner import usable_device
from ..messages import count, say
from ..models.modeling_videomae_v2 import VideoMAEV2ForVideoClassification
from ..models.token_selection import select_tokens
from ..settings.groups import ClipSettings, DataSettings, StaticTokenSettings
from ..settings.run import Run
from ..settings.training_arguments import VideoMAETrainingArguments
from ..text_files import read_json
from ..training.run_report import (
    Training,
    context_of,
    extras_of,
    opened_training,
    run_with,
    settings_of,
    training_of,
)
from .evaluate import scored_videos


DESCRIPTION = """\
Writes a page, and its numbers as JSON beside it, about a finetuned model and its evaluation videos: the score with its
95 % interval, beside chance, the most frequent class, and what file metadata or mean colour alone reach; the score with
frames shuffled, reversed, frozen, at half the rate, with noise and occluded; tables of classes and groups, calibration,
the most confident errors, the curves of the training, and what follows from all of it in words.

RUN is the output folder of a finetuning or of an evaluation, which names its data and its clips in its settings.

  videomae report output/finetune
  videomae report output/finetune --eval_data splits/test.csv --group_column sequence
  videomae report output/scores --num_clips 2 --num_crops 1 --page page.html
"""
_LOADING = ("per_device_eval_batch_size", "dataloader_num_workers")
_DATA = ("eval_data", "data_root", "group_column", "group_pattern")


def parse_arguments(arguments: list[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="videomae report", description=DESCRIPTION, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("run", type=Path, metavar="RUN", help="output folder of a finetuning or of an evaluation")
    parser.add_argument("--eval_data", metavar="DATA", help="videos to score [those of the run]")
    parser.add_argument("--train_data", metavar="DATA", help="videos of the training, for shortcuts [those of the run]")
    parser.add_argument("--data_root", metavar="DIR", help="folder that relative paths in lists refer to")
    parser.add_argument("--group_column", metavar="NAME", help="column of the list that names the group of a video")
    parser.add_argument(
        "--group_pattern", metavar="REGEX", help="what it matches in the path (in its parentheses) is the group"
    )
    parser.add_argument("--num_clips", type=int, metavar="N", help="clips of a video [1, or those of the evaluation]")
    parser.add_argument("--num_crops", type=int, metavar="N", help="crops of a clip [1, or those of the evaluation]")
    parser.add_argument("--page", type=Path, metavar="FILE", help=f"HTML file to write [RUN/{REPORT}]")
    parser.add_argument("--few_labels", type=Path, metavar="FILE",
                        help="summary.json of examples/experiments/few_labels.py")  # fmt: skip
    parser.add_argument("--device", help="cuda, mps, cpu, .. [the first that is available]")
    return parser.parse_args(arguments)


def evaluation_of(args: argparse.Namespace) -> tuple[Run, Training | None]:
    """The evaluation that RUN and the options describe, and the training of its model."""
    folder: Path = args.run
    if not folder.is_dir():
        raise FileNotFoundError(
            f"There is no folder {folder}; RUN is the output folder of a training or an evaluation."
        )
    if not any((folder / name).is_file() for name in ("config.json", "adapter_config.json", EVALUATION_SETTINGS)):
        raise ValueError(f"{folder} holds neither a model nor {EVALUATION_SETTINGS} of an evaluation; RUN is the "
                         "output folder of one of the two.")  # fmt: skip
    training_args = _arguments(folder, {})
    if (folder / SETTINGS).is_file() or not (folder / EVALUATION_SETTINGS).is_file():
        training = training_of(str(folder), training_args)
        recipe = _data_settings(training.recipe if training else {})
        recipe = {"num_clips": 1, "num_crops": 1, **recipe, "checkpoint": str(folder)}
    else:
        recipe = {**settings_of(folder / EVALUATION_SETTINGS), "shuffle_frames": False}  # one of the changes
        training = training_of(recipe.get("checkpoint"), training_args)
    given = {name: getattr(args, name) for name in (*_DATA, "num_clips", "num_crops")}
    recipe |= {name: value for name, value in given.items() if value is not None}
    _exclude(recipe, args)
    if not recipe.get("eval_data") and not recipe.get("eval_split_name"):
        raise ValueError(f"{folder} names no evaluation videos; give them as --eval_data.")
    if training is not None and args.train_data:
        training.recipe |= {"train_data": args.train_data, "data_root": recipe.get("data_root")}
    return run_with(recipe, "evaluate", _arguments(folder, recipe)), training


def _arguments(folder: Path, recipe: dict[str, Any]) -> VideoMAETrainingArguments:
    """The training arguments of a run that trains nothing: how videos are loaded."""
    loading = {name: recipe[name] for name in _LOADING if name in recipe}
    return VideoMAETrainingArguments(use_cpu=True, output_dir=str(folder), **loading)


def _data_settings(recipe: dict[str, Any]) -> dict[str, Any]:
    """The settings of a finetuning that its evaluation has too: those of the data, of the clips, of static tokens, and
    of loading."""
    groups = (DataSettings, ClipSettings, StaticTokenSettings)
    names = {spec.name for group in groups for spec in dataclasses.fields(group)}
    kept = names | {*_LOADING, "problem_type"}
    return {name: value for name, value in recipe.items() if name in kept - {"demo_videos", "num_sample"}}


def _exclude(recipe: dict[str, Any], args: argparse.Namespace) -> None:
    """Lets the options override settings that exclude them."""
    if args.group_column and args.group_pattern:
        raise ValueError("--group_column and --group_pattern exclude each other; give one of them.")
    if args.group_column:
        recipe.pop("group_pattern", None)
    if args.group_pattern:
        recipe.pop("group_column", None)
    if args.eval_data:
        recipe.pop("eval_split_name", None)
    for name in ("num_clips", "num_crops"):
        if recipe.get(name, 1) < 1:
            raise ValueError(f"--{name} {recipe[name]} must be at least 1.")


def predict(run: Run, device: str | None) -> tuple[VideoMAEV2ForVideoClassification, Predicted]:
    """The model and its predictions of the evaluation videos, as they are and changed."""
    model, messages = trained_classifier(run.model.checkpoint, **run.config_overrides)
    config = model.config
    num_clips, num_crops = run.views(config.num_frames)
    videos = scored_videos(run, config, labelled=True)
    processor, more = evaluation_processor(run, config)
    say(*messages, *more, *select_tokens(model, **vars(run.static_tokens)))
    groups = named_groups(videos.records, evaluation_source(run.data), run.data, media_of(run))
    transform = EvalTransform(processor, num_clips, num_crops, config.num_labels, run.clips.frame_template)
    names, args = usable_perturbations(config.num_frames), run.training
    loading = {"batch_size": args.per_device_eval_batch_size, "workers": args.dataloader_num_workers}
    model = model.to(usable_device(device))
    logits, labels = score_perturbed(model, videos.records, transform, names, **loading)
    shown = f"{count(num_clips, 'clip')} x {count(num_crops, 'crop')}"
    return model, Predicted(videos.records, videos.classes, config.problem_type, logits, labels, groups, shown)


def training_source(
    run: Run, training: Training | None, train_data: str | None
) -> tuple[VideoSource | None, str | None]:
    """The videos of the training, or those of `train_data`; if they cannot be read, the reason."""
    if train_data:
        given = {"train_data": train_data, "dataset_name": None, "streaming": False}
        source = dataclasses.replace(run, verb="finetune").changed(**given)
    elif training is not None:
        source = training.run
    else:
        return None, None
    return opened_training(source)


def read_few_labels(path: Path) -> dict[str, Any]:
    """The summary of examples/experiments/few_labels.py; raises ValueError for any other file."""
    found = read_json(path)
    wanted = {"labels_per_class", "pretrained", "from scratch", "gain", "standard_error", "seeds"}
    missing = sorted(wanted - set(found if isinstance(found, dict) else ()))
    if missing:
        raise ValueError(f"{path} is no summary.json of few_labels.py: it has no {', '.join(missing)}.")
    return found


def main(arguments: list[str]) -> None:
    """`videomae report`."""
    args = parse_arguments(arguments)
    few_labels = read_few_labels(args.few_labels) if args.few_labels else None
    run, training = evaluation_of(args)
    train, problem = training_source(run, training, args.train_data)
    model, predicted = predict(run, args.device)
    context = context_of(run, predicted, training, train, list(SHORTCUTS))
    if problem:
        context.left_out.append(problem)
    if model.config.num_frames == 1:
        context.left_out.append("Scores with frames shuffled, reversed, frozen and at half the rate: the clips of this "
                                "model have one frame.")  # fmt: skip
    extras = extras_of(run, training, predicted.readable().records, context, runs_model=True)
    extras.few_labels = few_labels
    page = args.page or args.run / REPORT
    found = write_report(page, predicted, context, extras)
    for line in found["conclusions"]:
        print(f"- {line}")
    print(f"Report: {page}")
    print(summary_line(found))

# Copyright 2026 The videomae_hf authors. Licensed under the Apache License, Version 2.0.
"""The report of a run: its data and its training, from the settings that it left, and the page that it writes itself.

A run writes what needs no further pass of the model: everything from its own predictions, and the shortcut classifier
on file metadata. `videomae report` adds the scores on changed clips, mean colour, and reconstructions.
"""

import dataclasses
import shlex
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ..checkpoints.run_folders import SETTINGS, read_record, run_folder
from ..data.sources.records import VideoRecord
from ..data.splitting import named_groups
from ..data.videos import HUB_URL, VideoSource, evaluation_source, media_of, training_videos
from ..evaluation.findings import Context, Predicted
from ..evaluation.pretraining_report import pretraining_part, reconstructions
from ..evaluation.report import REPORT, Extras, write_report
from ..evaluation.report_charts import training_charts
from ..evaluation.shortcuts import SHORTCUTS, shortcut_result
from ..messages import count
from ..models.configuration_videomae_v2 import VideoMAEV2Config
from ..settings.groups import DataSettings
from ..settings.recipes import SETTINGS as SETTING_NAMES
from ..settings.run import Run, config_names
from ..settings.training_arguments import VideoMAETrainingArguments
from ..text_files import read_yaml
from .distributed import report


_AT_THE_END = ("metadata",)  # shortcuts that cost little
# Faults of data, settings or the installation, which must not end a run whose results are there
_FAULTS = (ValueError, OSError, ImportError, RuntimeError)


@dataclasses.dataclass
class Training:
    """The training of a model, as far as its folder tells.

    Args:
        folder: its output folder.
        recipe: its settings.
        run: the same as a run.
    """

    folder: Path
    recipe: dict[str, Any]
    run: Run


def settings_of(file: Path) -> dict[str, Any]:
    """The settings in a file that a run left.

    Raises:
        ValueError: the file is no mapping.
    """
    return {str(name): value for name, value in read_yaml(file).items()}


def run_with(recipe: dict[str, Any], verb: str, args: VideoMAETrainingArguments) -> Run:
    """A run with the settings of a recipe, apart from those of training, which are `args`."""
    fields = {*config_names(VideoMAEV2Config), "problem_type"}
    overrides = {name: value for name, value in recipe.items() if name in fields}
    run = Run(args, verb, config_overrides=overrides, given=frozenset(recipe))
    return run.changed(**{name: value for name, value in recipe.items() if name in SETTING_NAMES - {"smoke_test"}})


def training_of(checkpoint: str | None, args: VideoMAETrainingArguments) -> Training | None:
    """The finetuning that wrote a checkpoint; None if no finetuning of this package did, or it left no settings."""
    if not checkpoint or not Path(checkpoint).is_dir():
        return None
    folder = run_folder(checkpoint)
    if not (folder / SETTINGS).is_file() or (read_record(folder) or {}).get("command") == "pretrain":
        return None
    recipe = settings_of(folder / SETTINGS)
    # What was synthesised for the training is read, and not synthesised again.
    return Training(folder, recipe, run_with({**recipe, "demo_videos": 0}, "finetune", args))


def write_own_report(
    run: Run, predicted: Predicted, training: Training | None = None, train: VideoSource | None = None
) -> None:
    """Writes the page of a run to its output folder; a failure is printed, since the results are there already.

    Args:
        run: the finetuning or the evaluation.
        predicted: its predictions of the evaluation videos.
        training: the training of the model, if it is the run itself; None looks for it.
        train: its videos; None opens them.
    """
    args = run.training
    folder = Path(args.output_dir)
    command = f"`videomae report {shlex.quote(str(folder))}`"
    more = f"{command} adds"
    left_out = [f"Scores with frames shuffled, reversed and changed otherwise, mean colour: {more} them."]
    try:
        training = training or training_of(run.model.checkpoint, args)
        shortcuts = _AT_THE_END
        if train is None and training is not None:
            if _opens_alone(training.run):
                train, problem = opened_training(training.run)
                left_out += [problem] if problem else []
            else:
                shortcuts, left_out = (), [*left_out, f"File metadata alone: {more} it."]
        context = context_of(run, predicted, training, train, shortcuts)
        context.left_out = left_out + context.left_out
        extras = extras_of(run, training, predicted.readable().records, context, runs_model=False)
        write_report(folder / REPORT, predicted, context, extras)
    except _FAULTS as error:
        report(args, [f"No report was written ({error}); the results are there. {command} tries again"])
        return
    report(args, [f"Report: {folder / REPORT}; {more} scores with frames shuffled, reversed and changed otherwise"])


def opened_training(run: Run) -> tuple[VideoSource | None, str | None]:
    """The training videos of a run; if they cannot be read, the reason."""
    try:
        return training_videos(run), None
    except (OSError, ValueError) as error:
        return None, f"The training videos cannot be read, so that nothing is compared with them: {error}"


def _opens_alone(run: Run) -> bool:
    """Whether one process can open the training videos without a download: they are files, and it is the only one."""
    data = run.data
    return run.training.world_size == 1 and not data.dataset_name and not str(data.train_data).startswith(HUB_URL)


def context_of(
    run: Run, predicted: Predicted, training: Training | None, train: VideoSource | None, shortcuts: Sequence[str]
) -> Context:
    """What a report says about the data of a run, with the shortcut classifiers of these names."""
    checkpoint = run.training.output_dir if run.verb == "finetune" else run.model.checkpoint
    context = Context(str(checkpoint))
    if run.evaluation.shuffle_frames:
        context.remarks.append("The frames of all clips were shuffled (shuffle_frames).")
    if training is not None:
        context.remarks += _remarks_on_selection(training, run.data)
    if train is not None and not train.is_stream:
        context.remarks += [
            line.removeprefix("WARNING: ") for line in train.overlap(VideoSource(predicted.records, []))
        ]
        context.remarks += _remarks_on_groups(run, predicted, training, train)
    _add_shortcuts(context, predicted, train, shortcuts, run.clips.frame_template)
    return context


def _add_shortcuts(
    context: Context,
    predicted: Predicted,
    train: VideoSource | None,
    names: Sequence[str],
    frame_template: str | None,
) -> None:
    """Adds the results of shortcut classifiers, or the reason why there are none."""
    if not names:
        return
    if predicted.kind != "single_label_classification":
        context.left_out.append("Shortcut classifiers, calibration, and a table of classes: they need one label per "
                                "video.")  # fmt: skip
        return
    if train is None or train.is_stream or not len(train.records) or train.records[0].label is None:
        why = "are not known" if train is None else "are streamed" if train.is_stream else "have no labels"
        context.left_out.append(f"Shortcut classifiers: the training videos {why}; --train_data names others.")
        return
    number_of = {name: number for number, name in enumerate(predicted.names)}
    numbers = [number_of.get(name) for name in train.classes]
    for name in names:
        options = {"numbers": numbers, "frame_template": frame_template}
        result = shortcut_result(name, train.records, predicted.records, **options)
        context.shortcuts[name] = result
        if result.problem:
            context.left_out.append(f"{SHORTCUTS[name].title.capitalize()}: {result.problem}.")


def _remarks_on_selection(training: Training, evaluated: DataSettings) -> list[str]:
    """Whether the evaluated videos had a part in the training."""
    recipe, known = training.recipe, _part_of(training.run.data)
    if known is None or known != _part_of(evaluated):
        return []
    if recipe.get("load_best_model_at_end") or recipe.get("early_stopping_patience"):
        return ["The best checkpoint was chosen by these videos, so that the score is too high by an unknown amount. A "
                "third part, which had no part in the training, gives one to rely on: `videomae split --test 0.2`, "
                "then `videomae report RUN --eval_data TEST`."]  # fmt: skip
    return ["These are the evaluation videos of the training. No checkpoint was chosen by them; where you chose "
            "settings by their score, it is too high."]  # fmt: skip


def _part_of(data: DataSettings) -> tuple | None:
    """What tells the evaluation videos of two runs apart; None if there are none."""
    source = evaluation_source(data)
    if source is not None:
        place = str(Path(source).expanduser().resolve()) if isinstance(source, str) else str(source)
        return place, data.eval_split_name
    return (data.dataset_name, data.eval_split_name) if data.dataset_name and data.eval_split_name else None


def _remarks_on_groups(run: Run, predicted: Predicted, training: Training | None, train: VideoSource) -> list[str]:
    """Whether groups of the evaluation are in the training as well."""
    if predicted.groups is None or training is None:
        return []
    data = dataclasses.replace(run.data, data_root=training.recipe.get("data_root"))
    try:
        source, media = training.recipe.get("train_data"), media_of(training.run)
        known = set(named_groups(train.records, source, data, media) or ())
    except ValueError:  # the list of the training has no such column
        return ["Whether groups of these videos are also in the training videos is not known: these name no groups."]
    both = set(predicted.groups) & known
    if not both:
        return []
    verb = "is" if len(both) == 1 else "are"
    return [f"Of {count(len(set(predicted.groups)), 'group')}, {len(both)} {verb} also in the training videos, such as "
            f"{min(both)!r}: the score says little about new groups."]  # fmt: skip


def extras_of(
    run: Run, training: Training | None, records: Sequence[VideoRecord], context: Context, *, runs_model: bool
) -> Extras:
    """Curves of a training and of the pretraining that it started from; the context says what is left out."""
    extras = Extras(frame_template=run.clips.frame_template)
    if training is None:
        return extras
    extras.curves = training_charts(training.folder)
    started = training.recipe.get("checkpoint")
    folder = run_folder(started) if started and Path(started).is_dir() else None
    if folder is not None and (read_record(folder) or {}).get("command") == "pretrain":
        extras.pretraining = pretraining_part(folder)
        if runs_model:
            try:
                extras.pretraining |= reconstructions(Path(started), records, extras.frame_template)
            except (OSError, ValueError) as error:
                context.left_out.append(f"Reconstructions of the pretraining: {error}")
    return extras

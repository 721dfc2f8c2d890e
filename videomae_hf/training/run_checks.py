# Copyright 2026 The videomae_hf authors. Licensed under the Apache License, Version 2.0.
"""Checks before a run starts, for mistakes that would only surface later."""

from pathlib import Path

from transformers.integrations import get_available_reporting_integrations
from transformers.integrations.integration_utils import INTEGRATION_TO_CALLBACK

from ..labels import check_metric
from ..models.checkpoint_files import find_config
from ..settings.training_arguments import VideoMAETrainingArguments


def check_checkpoint(checkpoint: str | None) -> None:
    """Raises OSError if a checkpoint does not exist; the message names the setting, which may be in a recipe."""
    if not checkpoint or Path(checkpoint).is_dir():
        return
    try:
        find_config(checkpoint, {})
    except OSError as error:
        raise OSError(
            f"checkpoint={checkpoint}, set by the command line, the recipe or the preset: {error} (`--checkpoint none` "
            f"starts from random weights; without a checkpoint or a GPU, `--preset tiny` is the model to start with.)"
        ) from error


def check_trackers(args: VideoMAETrainingArguments) -> None:
    """Raises ValueError for a tracker in `report_to` whose package is not installed."""
    available = get_available_reporting_integrations()
    for name in args.report_to:
        if name in INTEGRATION_TO_CALLBACK and name not in available:
            raise ValueError(f"report_to={name} needs a package that is not installed: pip install {name}")


def check_evaluation(args: VideoMAETrainingArguments, problem_type: str | None, eval_set, probe) -> None:
    """Raises ValueError if an evaluation is requested without data, or a metric that evaluations do not report."""
    strategy = str(getattr(args.eval_strategy, "value", args.eval_strategy))
    if strategy != "no" and eval_set is None:
        if args.early_stopping_patience is not None:
            patience = f"early_stopping_patience={args.early_stopping_patience}"
            raise ValueError(f"{patience} counts evaluations, which need videos; set --eval_data.")
        raise ValueError(f"eval_strategy={strategy} needs videos to evaluate on; set --eval_data.")
    if args.metric_for_best_model is not None:
        check_metric(args.metric_for_best_model, problem_type)
        if args.metric_for_best_model.endswith("knn_top1") and probe is None:
            raise ValueError("metric_for_best_model=knn_top1 needs --probe_train_data and --probe_eval_data.")

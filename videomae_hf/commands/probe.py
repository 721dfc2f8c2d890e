# Copyright 2026 The videomae_hf authors. Licensed under the Apache License, Version 2.0.
"""`train.py probe`: from the settings to frozen features, a probe on them, and its scores."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from transformers import EvalPrediction

from ..checkpoints.opening import open_checkpoint
from ..data.clips import EvalTransform
from ..data.sources.hub_datasets import StreamedRows
from ..data.sources.records import VideoRecord
from ..data.video_dataset import UNREADABLE
from ..data.videos import eval_samples, image_processor, settled_problem_type, train_samples
from ..evaluation.feature_cache import cached_features
from ..evaluation.metrics import metrics_of
from ..evaluation.predictions import Scored, write_predictions
from ..evaluation.probes import PROBES, run_probe
from ..models.modeling_videomae_v2 import VideoMAEV2Model
from ..settings.recipes import DataArguments
from ..settings.training_arguments import VideoMAETrainingArguments


def probe_checkpoint(data: DataArguments, args: VideoMAETrainingArguments, fields: dict) -> list[str]:
    """Scores the frozen encoder of a checkpoint, and writes metrics.json and predictions.csv to `output_dir`.

    Returns:
        Lines to print.

    Raises:
        ValueError: settings that do not go together, or no video that can be read.
    """
    _check_settings(data, args)
    fields = dict(fields)
    problem_type = settled_problem_type(data, args, fields)
    fields.pop("problem_type", None)
    regression = problem_type == "regression"
    samples, names, _, _ = train_samples(data, args, regression=regression)
    if isinstance(samples, StreamedRows):
        raise ValueError("probe goes over the videos in the order of a list; leave out streaming.")
    evaluated = eval_samples(data, args, names, regression=regression)
    model, opened = open_checkpoint(data.checkpoint, VideoMAEV2Model, **fields)
    model.to(args.device)
    processor = image_processor(data, model.config, data.checkpoint, video_backend=data.video_backend)
    views = EvalTransform(processor, frame_template=data.frame_template)
    folder = data.feature_cache or Path(args.output_dir, "features")
    options = {
        "tokens": data.probe == "attentive",
        "batch_size": args.eval_batch_size,
        "num_workers": args.dataloader_num_workers,
        "bf16": bool(args.bf16),
    }
    train_features, eval_features = (
        cached_features(model, videos, views, folder, **options) for videos in (samples, evaluated)
    )
    fitted, scored = (_readable(features) for features in (train_features, eval_features))
    if not fitted.any() or not scored.any():
        raise ValueError(f"{fitted.sum()} videos to fit and {scored.sum()} to score can be read; both are needed.")
    labels, eval_labels = (_labels(videos, problem_type, len(names)) for videos in (samples, evaluated))
    result = run_probe(
        data.probe,
        train_features if fitted.all() else train_features[fitted],
        labels[torch.from_numpy(fitted)],
        eval_features if scored.all() else eval_features[scored],
        num_outputs=len(names),
        num_heads=model.config.num_attention_heads,
        problem_type=problem_type,
        device=args.device,
        seed=args.seed,
    )
    logits, eval_labels = _with_unreadable(result.logits, eval_labels.numpy(), scored, regression)
    scores = metrics_of(problem_type)(EvalPrediction(predictions=logits, label_ids=eval_labels))
    counts = {"train_videos": int(fitted.sum()), "train_unreadable": int((~fitted).sum())}
    metrics = {"probe": data.probe, **result.settings, **counts, **{f"eval_{k}": v for k, v in scores.items()}}
    write_predictions(Path(args.output_dir), evaluated, names, problem_type, Scored(logits, eval_labels, metrics))
    lines = [*opened, f"{data.probe} probe of {data.checkpoint}: {fitted.sum()} videos fitted, {scored.sum()} scored"]
    lines += [f"{name} = {value}" for name, value in metrics.items() if name != "probe"]
    return [*lines, f"Saved to {args.output_dir}"]


def _check_settings(data: DataArguments, args: VideoMAETrainingArguments):
    if not data.checkpoint:
        raise ValueError("probe needs --checkpoint, the folder or Hub id of a model of any stage.")
    if data.probe not in PROBES:
        raise ValueError(f"probe={data.probe!r} is unknown; choose one of {', '.join(PROBES)}.")
    if args.world_size > 1:
        raise ValueError(f"probe runs in one process, and {args.world_size} were started.")


def _with_unreadable(logits: np.ndarray, labels: np.ndarray, scored: np.ndarray, regression: bool):
    """Logits (N, K) of all videos, 0 for those that were not scored (False in `scored` (N,)), whose labels say so."""
    every = np.zeros((len(scored), logits.shape[1]), dtype=np.float32)
    every[scored] = logits
    labels[~scored] = np.nan if regression else UNREADABLE
    return every, labels


def _readable(features: np.ndarray) -> np.ndarray:
    """bool (N,) of (N, ..), where the features of unreadable videos are NaN."""
    return ~np.isnan(features.reshape(len(features), -1)[:, 0])


def _labels(samples: Sequence[VideoRecord], problem_type: str, num_outputs: int) -> torch.Tensor:
    """int64 (N,), or float32 (N, num_outputs) of several labels a video or of targets."""
    if problem_type == "regression":
        return torch.tensor([sample.targets for sample in samples], dtype=torch.float32)
    if problem_type == "single_label_classification":
        return torch.tensor([sample.label for sample in samples])
    labels = torch.zeros(len(samples), num_outputs)
    for row, sample in zip(labels, samples):
        row[list(sample.label)] = 1.0
    return labels

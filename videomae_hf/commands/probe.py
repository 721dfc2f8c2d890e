# Copyright 2026 The videomae_hf authors. Licensed under the Apache License, Version 2.0.
"""`videomae probe`: a linear, an attentive or a k-NN probe on the frozen features of a checkpoint."""

from pathlib import Path

import numpy as np
import torch
from transformers import EvalPrediction

from ..checkpoints.opening import open_checkpoint
from ..data.clips import EvalTransform
from ..data.processors import training_processor
from ..data.videos import VideoSource, evaluation_videos, training_videos
from ..evaluation.feature_cache import FeatureOptions, cached_features
from ..evaluation.metrics import metrics_of
from ..evaluation.predictions import Scored, write_predictions
from ..evaluation.probes import PROBES, ProbeTask, run_probe
from ..labels import labels_of
from ..models.modeling_videomae_v2 import VideoMAEV2Model
from ..settings.recipes import Verb
from ..settings.run import Run
from ..training.distributed import report
from ..training.session import execute


VERB = Verb(
    "probe",
    "Fits a probe to the frozen features of a checkpoint of any stage, and scores it.",
    (
        "probe --checkpoint output/pretrain --train_data data/train --eval_data data/val",
        "probe --checkpoint output/pretrain --train_data data/train --eval_data data/val --probe attentive",
        "probe --checkpoint MCG-NJU/videomae-base --train_data data/train --eval_data data/val --probe knn",
    ),
    groups=("data", "clips", "model", "probing"),
    unused=(
        "streaming", "shuffle_buffer", "videos_per_epoch", "unlabelled", "demo_videos", "num_sample", "model_size",
        "model_version", "head_from", "label_mappings",
    ),
    trains=False,
)  # fmt: skip


def probe(run: Run) -> None:
    """Scores the frozen encoder of a checkpoint, and writes metrics.json and predictions.csv to the output folder."""
    check_settings(run)
    problem_type, folder = run.problem_type, Path(run.training.output_dir)
    train = training_videos(run)
    evaluated = evaluation_videos(run, train.classes, problem_type)
    if train.is_stream or evaluated is None:
        raise ValueError("probe reads labelled videos in the order of a list: set eval_data, and leave out streaming.")
    overrides = {name: value for name, value in run.config_overrides.items() if name != "problem_type"}
    model, lines = open_checkpoint(run.model.checkpoint, VideoMAEV2Model, **overrides)
    features = [frozen_features(run, model, videos) for videos in (train, evaluated)]
    fitted, scored = (_readable(values) for values in features)
    if not fitted.any() or not scored.any():
        raise ValueError(f"{fitted.sum()} videos to fit and {scored.sum()} to score can be read; both are needed.")
    kind = labels_of(problem_type, len(train.classes))
    labels, eval_labels = (kind.stacked(videos.records) for videos in (train, evaluated))
    result = run_probe(
        run.probing.probe,
        *_selected(features[0], labels, fitted),
        features[1] if scored.all() else features[1][scored],
        ProbeTask(
            num_outputs=len(train.classes),
            num_heads=model.config.num_attention_heads,
            problem_type=problem_type,
            device=run.training.device,
            seed=run.training.seed,
        ),
    )
    logits, eval_labels = with_unreadable(result.logits, eval_labels.numpy(), scored, kind.unreadable())
    scores = metrics_of(problem_type)(EvalPrediction(predictions=logits, label_ids=eval_labels))
    counts = {"train_videos": int(fitted.sum()), "train_unreadable": int((~fitted).sum())}
    scores = {**result.settings, **counts, **{f"eval_{name}": value for name, value in scores.items()}}
    metrics = {"probe": run.probing.probe, **scores}
    write_predictions(folder, evaluated.records, train.classes, problem_type, Scored(logits, eval_labels, metrics))
    lines.append(
        f"{run.probing.probe} probe of {run.model.checkpoint}: {fitted.sum()} videos fitted, {scored.sum()} scored"
    )
    report(run.training, [*lines, *(f"{name} = {value}" for name, value in scores.items()), f"Saved to {folder}"])


def check_settings(run: Run) -> None:
    """Raises ValueError for settings with which no probe can be fitted."""
    if not run.model.checkpoint:
        raise ValueError("probe needs --checkpoint, the folder or Hub id of a model of any stage.")
    if run.probing.probe not in PROBES:
        raise ValueError(f"probe={run.probing.probe!r} is unknown; choose one of {', '.join(PROBES)}.")
    if run.training.world_size > 1:
        raise ValueError(f"probe runs in one process, and {run.training.world_size} were started.")


def frozen_features(run: Run, model: VideoMAEV2Model, videos: VideoSource) -> np.ndarray:
    """Features (N, D), or of all tokens (N, L, D) for an attentive probe; NaN for videos that cannot be read."""
    args = run.training
    processor = training_processor(run, model.config, video_backend=run.clips.video_backend)
    return cached_features(
        model.to(args.device),
        videos.records,
        EvalTransform(processor, frame_template=run.clips.frame_template),
        run.probing.feature_cache or Path(args.output_dir, "features"),
        FeatureOptions(
            tokens=run.probing.probe == "attentive",
            bf16=bool(args.bf16),
            batch_size=args.eval_batch_size,
            num_workers=args.dataloader_num_workers,
        ),
    )


def with_unreadable(
    logits: np.ndarray, labels: np.ndarray, scored: np.ndarray, unreadable: int | torch.Tensor
) -> tuple[np.ndarray, np.ndarray]:
    """Logits (N, K) of all videos, 0 for those that were not scored (False in `scored` (N,)), whose labels say so."""
    every = np.zeros((len(scored), logits.shape[1]), dtype=np.float32)
    every[scored] = logits
    labels[~scored] = np.asarray(unreadable)
    return every, labels


def _selected(features: np.ndarray, labels: torch.Tensor, chosen: np.ndarray) -> tuple[np.ndarray, torch.Tensor]:
    """Features and labels of the chosen videos; all of them are not copied."""
    return features if chosen.all() else features[chosen], labels[torch.from_numpy(chosen)]


def _readable(features: np.ndarray) -> np.ndarray:
    """bool (N,) of (N, ..), where the features of unreadable videos are NaN."""
    return ~np.isnan(features.reshape(len(features), -1)[:, 0])


def main(arguments: list[str]) -> None:
    execute(VERB, probe, arguments)

# Copyright 2026 The videomae_hf authors. Licensed under the Apache License, Version 2.0.
"""`videomae probe`: fits a linear, an attentive or a k-NN probe to the frozen features of a checkpoint."""

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
    """Scores the frozen encoder of a checkpoint, and writes metrics.json and predictions.csv to `output_dir`."""
    check_settings(run)
    problem_type, folder = run.problem_type, Path(run.training.output_dir)
    train = training_videos(run)
    evaluated = evaluation_videos(run, train.classes, problem_type)
    if train.is_stream or evaluated is None:
        raise ValueError(
            "probe needs eval_data and data sets that are not streamed: set eval_data, and leave out streaming."
        )
    overrides = {name: value for name, value in run.config_overrides.items() if name != "problem_type"}
    model, messages = open_checkpoint(run.model.checkpoint, VideoMAEV2Model, **overrides)
    features = [frozen_features(run, model, videos) for videos in (train, evaluated)]
    fitted, scored = (_readable(values) for values in features)
    if not fitted.any() or not scored.any():
        raise ValueError(
            f"{fitted.sum()} videos to fit and {scored.sum()} videos to score can be read; a probe needs both."
        )
    kind = labels_of(problem_type, len(train.classes))
    labels, eval_labels = (kind.stacked(videos.records) for videos in (train, evaluated))
    result = run_probe(
        run.probing.probe,
        *_selected(features[0], labels, fitted),
        features[1] if scored.all() else features[1][scored],
        probe_task(run, len(train.classes), model.config.num_attention_heads),
    )
    logits, eval_labels = with_unreadable(result.logits, eval_labels.numpy(), scored, kind.unreadable())
    scores = metrics_of(problem_type)(EvalPrediction(predictions=logits, label_ids=eval_labels))
    counts = {"train_videos": int(fitted.sum()), "train_unreadable": int((~fitted).sum())}
    scores = {**result.settings, **counts, **{f"eval_{name}": value for name, value in scores.items()}}
    metrics = {"probe": run.probing.probe, **scores}
    write_predictions(folder, evaluated.records, train.classes, problem_type, Scored(logits, eval_labels, metrics))
    messages.append(
        f"{run.probing.probe} probe of {run.model.checkpoint}: {fitted.sum()} videos fitted, {scored.sum()} scored"
    )
    report(run.training, [*messages, *(f"{name} = {value}" for name, value in scores.items()), f"Saved to {folder}"])


def probe_task(run: Run, num_outputs: int, num_heads: int) -> ProbeTask:
    """The task of the probe, on the device and with the seed of the run."""
    args = run.training
    return ProbeTask(num_outputs, num_heads, problem_type=run.problem_type, device=args.device, seed=args.seed)


def check_settings(run: Run) -> None:
    """Raises ValueError if the settings do not allow fitting a probe."""
    if not run.model.checkpoint:
        raise ValueError("probe needs --checkpoint, the folder or Hub id of a model of any stage.")
    if run.probing.probe not in PROBES:
        raise ValueError(f"probe={run.probing.probe!r} is unknown; choose one of {', '.join(PROBES)}.")
    if run.training.world_size > 1:
        raise ValueError(f"probe runs in one process, but {run.training.world_size} were started.")


def frozen_features(run: Run, model: VideoMAEV2Model, videos: VideoSource) -> np.ndarray:
    """Features of all videos: (N, D), or (N, L, D) of all tokens for an attentive probe; NaN for unreadable videos."""
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
    """Logits (N, K) and labels of all videos, given the logits of the scored ones.

    Videos that are False in `scored`, bool (N,), get logits of 0 and the label `unreadable`.
    """
    every = np.zeros((len(scored), logits.shape[1]), dtype=np.float32)
    every[scored] = logits
    labels[~scored] = np.asarray(unreadable)
    return every, labels


def _selected(features: np.ndarray, labels: torch.Tensor, chosen: np.ndarray) -> tuple[np.ndarray, torch.Tensor]:
    """Features and labels of the chosen videos; if all are chosen, the features are not copied."""
    return features if chosen.all() else features[chosen], labels[torch.from_numpy(chosen)]


def _readable(features: np.ndarray) -> np.ndarray:
    """bool (N,) for features (N, ..): False for unreadable videos, whose features are NaN."""
    return ~np.isnan(features.reshape(len(features), -1)[:, 0])


def main(arguments: list[str]) -> None:
    execute(VERB, probe, arguments)

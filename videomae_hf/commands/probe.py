# Copyright 2026 The videomae_hf authors. Licensed under the Apache License, Version 2.0.
"""`videomae probe`: fits a probe to the frozen features of a checkpoint.

Three probes are this package's own (linear, attentive, k-NN); three follow the protocols of others (MAE, V-JEPA 2,
MTEB).
"""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import torch
from transformers import EvalPrediction

from ..checkpoints.opening import open_checkpoint
from ..data.clips import EvalTransform, FinetuneTransform, interpolation_of
from ..data.processors import training_processor
from ..data.segments import CROP_SCALE, RAND_AUGMENT, SegmentProcessor, SegmentTransform
from ..data.sources.records import VideoRecord
from ..data.videos import VideoSource, evaluation_videos, training_videos
from ..evaluation.feature_cache import FeatureOptions, cached_features
from ..evaluation.few_shot import (
    MTEBProcessor,
    check_scikit_learn,
    embeddings,
    few_shot_logits,
    head_norm_of,
    sample_experiments,
)
from ..evaluation.mae_probe import CROP_SCALE as MAE_PROBE_CROP_SCALE
from ..evaluation.mae_probe import EPOCHS, OPTIMIZERS, WARMUP, MAEFit
from ..evaluation.mae_probe import STATE as MAE_STATE
from ..evaluation.metrics import metrics_of
from ..evaluation.predictions import Scored, write_predictions
from ..evaluation.probes import PROBES, ProbeTask, run_probe
from ..evaluation.vjepa2_fit import STATE, FitOptions, ProbeFit, Scores, VJEPA2Fit
from ..evaluation.vjepa2_probe import HeadSetting, head_settings
from ..labels import labels_of
from ..messages import count, shorten
from ..models.configuration_videomae_v2 import VideoMAEV2Config
from ..models.image_processing_videomae_v2 import VideoMAEV2ImageProcessor
from ..models.modeling_videomae_v2 import VideoMAEV2Model
from ..settings.groups import LEARNING_ARGUMENTS
from ..settings.recipes import Verb
from ..settings.run import Run
from ..training.distributed import check_agreement, report
from ..training.session import execute


VERB = Verb(
    "probe",
    "Fits a probe to the frozen features of a checkpoint of any stage, and scores it.",
    (
        "probe --checkpoint output/pretrain --train_data data/train --eval_data data/val",
        "probe --checkpoint output/pretrain --train_data data/train --eval_data data/val --probe attentive",
        "probe --checkpoint MCG-NJU/videomae-base --train_data data/train --eval_data data/val --probe few-shot",
        "probe --checkpoint output/mae --train_data images/train --eval_data images/val --probe mae",
        "probe probes/vjepa2_ssv2 --train_data data/train.csv --eval_data data/val.csv",
    ),
    groups=("data", "clips", "model", "evaluation", "probing"),
    unused=(
        "folds", "streaming", "shuffle_buffer", "videos_per_epoch", "unlabelled", "demo_videos", "num_sample",
        "preset", "model_kind", "model_size", "model_version", "head_from", "label_mappings", "shuffle_frames",
        "group_column", "group_pattern",
    ),
    trains=False,
    training=(
        "num_train_epochs", "total_batch_size", "per_device_train_batch_size", "base_learning_rate", "warmup_epochs",
    ),
)  # fmt: skip
KINDS = (*PROBES, "vjepa2", "few-shot", "mae")
# Probes that are trained on augmented clips, which go through the encoder: kind -> file of the unfinished probe
ONLINE = {"mae": MAE_STATE, "vjepa2": STATE}
# Settings that only some of the probes use
_USED_BY = {
    **dict.fromkeys(("frame_sampling", "fps", "short_video", "official_sampling"), (*PROBES, "mae")),
    "sampling_rate": (*PROBES, *ONLINE),
    **dict.fromkeys(("probe_optimizer", "interpolation"), ("mae",)),
    "feature_cache": (*PROBES, "few-shot"),
    **dict.fromkeys(("samples_per_label", "n_experiments"), ("few-shot",)),
    **dict.fromkeys(
        ("num_clips", "num_crops", "probe_learning_rates", "probe_weight_decays", "probe_layers"), ("vjepa2",)
    ),
    # The protocols of others state how a probe is trained.
    **dict.fromkeys({*LEARNING_ARGUMENTS, "base_learning_rate"} - {"seed"}, PROBES),
    **dict.fromkeys(("base_learning_rate", "warmup_epochs"), (*PROBES, "mae")),
    **dict.fromkeys(("num_train_epochs", "total_batch_size", "per_device_train_batch_size"), (*PROBES, *ONLINE)),
}  # fmt: skip
# Clip settings that a source of train_data may override for V-JEPA 2's probe
_OF_SOURCES = {"sampling_rate", "video_backend", "frame_template", "square_pixels", "max_pixels"}
_SET_BY_RECIPE = ("num_clips", "num_train_epochs", "total_batch_size")  # by the data set, in V-JEPA 2's protocol


@dataclass
class Outcome:
    """The result of a probe.

    Args:
        logits: (M, K) of the M readable evaluation videos, of each repetition of the probe.
        scored: bool (N,), which of the N evaluation videos are readable.
        train_videos, train_unreadable: numbers of training videos.
        settings: details of the fit for metrics.json.
        messages: messages to print.
    """

    logits: list[np.ndarray]
    scored: np.ndarray
    train_videos: int
    train_unreadable: int
    settings: dict
    messages: list[str] = field(default_factory=list)


def probe(run: Run) -> None:
    """Scores the frozen encoder of a checkpoint, and writes metrics.json and predictions.csv to `output_dir`."""
    check_settings(run)
    train = training_videos(run)
    evaluated = evaluation_videos(run, train.classes, run.problem_type)
    if train.is_stream or evaluated is None:
        raise ValueError(
            "probe needs eval_data and data sets that are not streamed: set eval_data, and leave out streaming."
        )
    model, messages = open_checkpoint(run.model.checkpoint, VideoMAEV2Model, **_encoder_overrides(run))
    fit = {"mae": fit_mae, "vjepa2": fit_vjepa2, "few-shot": fit_few_shot}.get(run.probing.probe, fit_cached)
    outcome = fit(run, model.to(run.training.device), train, evaluated)
    report(run.training, [*messages, *outcome.messages])
    if run.training.process_index == 0:
        write_outcome(run, outcome, evaluated, train.classes)
        if run.probing.probe in ONLINE:
            Path(run.training.output_dir, ONLINE[run.probing.probe]).unlink(missing_ok=True)


def write_outcome(run: Run, outcome: Outcome, evaluated: VideoSource, classes: list[str]) -> None:
    """Computes the metrics, prints them, and writes metrics.json and predictions.csv (of the first repetition)."""
    kind, folder = labels_of(run.problem_type, len(classes)), Path(run.training.output_dir)
    every, repetitions = [], []
    for logits in outcome.logits:
        labels = kind.stacked(evaluated.records).numpy()
        logits, labels = with_unreadable(logits, labels, outcome.scored, kind.unreadable())
        every.append((logits, labels))
        repetitions.append(metrics_of(run.problem_type)(EvalPrediction(predictions=logits, label_ids=labels)))
    counts = {"train_videos": outcome.train_videos, "train_unreadable": outcome.train_unreadable}
    scores = {**outcome.settings, **counts, **mean_and_deviation(repetitions)}
    metrics = {"probe": run.probing.probe, **scores}
    if len(repetitions) > 1:
        metrics["experiments"] = repetitions
    write_predictions(folder, evaluated.records, classes, run.problem_type, Scored(*every[0], metrics))
    fitted = f"{outcome.train_videos} videos fitted, {outcome.scored.sum()} scored"
    lines = [f"{name} = {value}" for name, value in scores.items() if name != "heads"]
    report(
        run.training, [f"{run.probing.probe} probe of {run.model.checkpoint}: {fitted}", *lines, f"Saved to {folder}"]
    )


def mean_and_deviation(repetitions: list[dict]) -> dict:
    """The metrics of evaluations of the same videos with the prefix eval_: of several, their mean and deviation."""
    scores = {}
    for name, value in repetitions[0].items():
        scores[f"eval_{name}"] = value
        if len(repetitions) > 1 and name not in ("videos", "unreadable"):
            values = [repetition[name] for repetition in repetitions]
            scores[f"eval_{name}"], scores[f"eval_{name}_std"] = float(np.mean(values)), float(np.std(values))
    return scores


def check_settings(run: Run) -> None:
    """Raises ValueError if the settings do not allow fitting a probe."""
    kind = run.probing.probe
    if run.smoke.smoke_test:
        raise ValueError("probe has no smoke test, because it needs trained weights; leave smoke_test out.")
    if not run.model.checkpoint:
        raise ValueError("probe needs --checkpoint, the folder or Hub id of a model of any stage.")
    if kind not in KINDS:
        raise ValueError(f"probe={kind!r} is unknown; choose one of {', '.join(KINDS)}.")
    if run.training.world_size > 1 and kind not in ONLINE:
        raise ValueError(f"probe={kind} runs in one process, but {run.training.world_size} were started.")
    unused = sorted(name for name, kinds in _USED_BY.items() if name in run.given and kind not in kinds)
    if unused:
        raise ValueError(
            f"probe={kind} does not use {', '.join(unused)}; leave {'it' if len(unused) == 1 else 'them'} out."
        )
    if kind not in PROBES and run.problem_type != "single_label_classification":
        raise ValueError(f"probe={kind} is defined for one class per video, but problem_type is {run.problem_type}.")
    if kind == "few-shot":
        check_scikit_learn()
    if run.probing.probe_optimizer not in OPTIMIZERS:
        raise ValueError(
            f"probe_optimizer={run.probing.probe_optimizer!r} is unknown; choose one of {', '.join(OPTIMIZERS)}."
        )
    missing = [name for name in _SET_BY_RECIPE if name not in run.given]
    if kind == "vjepa2" and missing:
        raise ValueError(
            f"probe=vjepa2 needs {', '.join(missing)}, which depend on the data set: start from a recipe such "
            f"as probes/vjepa2_ssv2, or set them."
        )


def fit_cached(run: Run, model: VideoMAEV2Model, train: VideoSource, evaluated: VideoSource) -> Outcome:
    """The probes of this package, on cached features."""
    features = [frozen_features(run, model, videos.records) for videos in (train, evaluated)]
    fitted, scored = (_readable(values) for values in features)
    _check_readable(fitted.sum(), scored)
    kind = labels_of(run.problem_type, len(train.classes))
    result = run_probe(
        run.probing.probe,
        *_selected(features[0], kind.stacked(train.records), fitted),
        features[1] if scored.all() else features[1][scored],
        probe_task(run, len(train.classes), model.config.num_attention_heads),
    )
    return Outcome([result.logits], scored, int(fitted.sum()), int((~fitted).sum()), result.settings)


def fit_few_shot(run: Run, model: VideoMAEV2Model, train: VideoSource, evaluated: VideoSource) -> Outcome:
    """The few-shot protocol of MTEB, on cached features of the videos that an experiment uses."""
    settings, seed = run.probing, run.training.seed
    labels = labels_of(run.problem_type, len(train.classes)).stacked(train.records).numpy()
    experiments = sample_experiments(labels, settings.samples_per_label, settings.n_experiments, seed)
    used = np.unique(np.concatenate(experiments))  # only these are encoded
    records = [train.records[int(place)] for place in used]
    full_model, _ = open_checkpoint(run.model.checkpoint, **_encoder_overrides(run))
    norm = head_norm_of(full_model)
    features = [
        embeddings(frozen_features(run, model, videos, MTEBProcessor), norm) for videos in (records, evaluated.records)
    ]
    fitted, scored = (_readable(values) for values in features)
    _check_readable(fitted.sum(), scored)
    readable = [np.searchsorted(used, places) for places in experiments]
    readable = [rows[fitted[rows]] for rows in readable]  # rows of `features`, without the unreadable ones
    results = [
        few_shot_logits(features[0][rows], labels[used][rows], features[1][scored], len(train.classes), seed=seed)
        for rows in readable
    ]
    details = {
        "samples_per_label": settings.samples_per_label,
        "n_experiments": settings.n_experiments,
        "stopped_at_max_iter": sum(not converged for _, converged in results),
    }
    messages = _few_shot_messages(labels, train.classes, settings.samples_per_label)
    logits = [logits for logits, _ in results]
    return Outcome(logits, scored, int(fitted.sum()), int((~fitted).sum()), details, messages)


def _few_shot_messages(labels: np.ndarray, classes: list[str], samples_per_label: int) -> list[str]:
    """A message about classes with too few training videos."""
    numbers = np.bincount(labels, minlength=len(classes))
    few = [f"{name} {number}" for name, number in zip(classes, numbers) if number < samples_per_label]
    if not few:
        return []
    return [f"{count(len(few), 'class')} with fewer than {samples_per_label} training videos: {shorten(few)}"]


def fit_vjepa2(run: Run, model: VideoMAEV2Model, train: VideoSource, evaluated: VideoSource) -> Outcome:
    """The attentive probe of V-JEPA 2, on augmented clips that go through the encoder."""
    args, options = run.training, fit_options(run)
    unused = sorted({name for overrides in train.overrides for name in overrides} - _OF_SOURCES)
    if unused:
        raise ValueError(f"probe=vjepa2 does not use {', '.join(unused)} of a source in train_data; leave it out.")
    augmentation = FinetuneTransform(
        model.config,
        train.samplers(run.clips, model.config),
        crop_scale=CROP_SCALE,
        horizontal_flip=False,
        rand_augment=RAND_AUGMENT,
        antialias=run.clips.antialias is not False,
    )
    dataset = train.dataset(SegmentTransform(augmentation, options.num_segments), run)
    fit = VJEPA2Fit(model, dataset, len(train.classes), options, Path(args.output_dir, STATE))
    train_online(run, fit)
    processor = training_processor(run, model.config, video_backend=run.clips.video_backend)
    processor, template = SegmentProcessor.from_dict(processor.to_dict()), run.clips.frame_template
    views = EvalTransform(processor, options.num_segments, options.num_crops, frame_template=template)
    scores, bad = fit.score(evaluated.evaluation_dataset(views, args)), fit.bad_videos()
    number = len(train.records) - bad
    _check_readable(number, scores.readable)
    details, messages = _vjepa2_details(options, scores)
    logits = np.log(scores.probabilities.clip(min=1e-12))
    return Outcome([logits], scores.readable, number, bad, details, messages)


def train_online(run: Run, fit: ProbeFit) -> None:
    """Trains the epochs of a fit that are not in its file yet."""
    args, done = run.training, fit.resume()
    check_agreement(args, "unfinished probe in output_dir", {"epochs": done})
    if done:
        report(args, [f"{fit.file} has {done} of {fit.options.epochs} epochs; the probe continues after them"])
    fit.train()


def fit_mae(run: Run, model: VideoMAEV2Model, train: VideoSource, evaluated: VideoSource) -> Outcome:
    """The linear probe of MAE, on crops that are random and flipped, which go through the encoder."""
    args, options = run.training, mae_options(run)
    transform = FinetuneTransform(
        model.config,
        train.samplers(run.clips, model.config),
        crop_scale=MAE_PROBE_CROP_SCALE,
        antialias=run.clips.antialias is not False,
        interpolation=interpolation_of(run, model.config),
    )
    warmup = args.warmup_epochs / options.epochs if "warmup_epochs" in run.given else WARMUP
    how = {"optimizer": run.probing.probe_optimizer, "warmup": warmup, "file": Path(args.output_dir, MAE_STATE)}
    fit = MAEFit(model, train.dataset(transform, run), len(train.classes), options, **how)
    rate = options.settings[0].learning_rate
    of_class_token = model.config.use_cls_token and model.config.use_mean_pooling is False
    details = {
        "optimizer": run.probing.probe_optimizer,
        "learning_rate": rate,
        "num_train_epochs": options.epochs,
        "total_batch_size": options.videos_per_step,
        "features": "class token" if of_class_token else "mean of the patches",
    }
    report(args, [", ".join(f"{name} {value}" for name, value in details.items())])
    train_online(run, fit)
    processor = training_processor(run, model.config, video_backend=run.clips.video_backend)
    views = EvalTransform(processor, frame_template=run.clips.frame_template)
    scores, bad = fit.score(evaluated.evaluation_dataset(views, args)), fit.bad_videos()
    number = len(train.records) - bad
    _check_readable(number, scores.readable)
    logits = np.log(scores.probabilities.clip(min=1e-12))
    return Outcome([logits], scores.readable, number, bad, details)


def mae_options(run: Run) -> FitOptions:
    """The settings of MAE's probe; epochs and the learning rate of 256 images default to those of the protocol."""
    args = run.training
    epochs = args.num_train_epochs if "num_train_epochs" in run.given else EPOCHS
    base_rate = args.base_learning_rate or OPTIMIZERS[run.probing.probe_optimizer]
    setting = HeadSetting(base_rate * args.total_batch_size / 256, 0.0)
    return replace(_fit_options(run, epochs), settings=(setting,), num_segments=1, num_crops=1)


def _vjepa2_details(options: FitOptions, scores: Scores) -> tuple[dict, list[str]]:
    """For metrics.json the settings that a comparison needs and the score of each head, and messages to print."""
    heads = [{**setting._asdict(), "top1": top1} for setting, top1 in zip(options.settings, scores.top1)]
    details = {
        "num_clips": options.num_segments,
        "num_crops": options.num_crops,
        "num_train_epochs": options.epochs,
        "total_batch_size": options.videos_per_step,
        "probe_layers": list(options.layers),
        **options.settings[scores.best]._asdict(),
        "heads": heads,
    }
    if len(heads) == 1:
        return details, []
    message = (
        f"the best of {len(heads)} heads (top1 {min(scores.top1):.4f} to {max(scores.top1):.4f}) was selected on the "
        f"evaluation videos, as in the protocol: its score is optimistic; metrics.json has all of them"
    )
    return {**details, "selected_on": "evaluation videos"}, [message]


def fit_options(run: Run) -> FitOptions:
    """The settings of V-JEPA 2's probe.

    Raises:
        ValueError: a number is out of range.
    """
    settings, views = run.probing, run.evaluation
    if min(views.num_clips, views.num_crops) < 1:
        raise ValueError(f"num_clips={views.num_clips} and num_crops={views.num_crops} must be at least 1.")
    heads = tuple(head_settings(settings.probe_learning_rates, settings.probe_weight_decays))
    numbers = {"num_segments": views.num_clips, "num_crops": views.num_crops}
    return replace(_fit_options(run, run.training.num_train_epochs), settings=heads, **numbers)


def _fit_options(run: Run, epochs: float) -> FitOptions:
    """The settings of a probe that is trained online, without those of its heads and views."""
    args = run.training
    if epochs < 1 or epochs % 1:
        raise ValueError(f"num_train_epochs={epochs:g} must be a whole number of at least 1.")
    return FitOptions(
        settings=(),
        num_segments=1,
        num_crops=1,
        epochs=int(epochs),
        videos_per_step=args.total_batch_size,
        batch_size=args.train_batch_size,
        eval_batch_size=args.eval_batch_size,
        layers=tuple(run.probing.probe_layers),
        bf16=bool(args.bf16),
        num_workers=args.dataloader_num_workers,
        seed=args.seed,
        max_bad_fraction=args.max_bad_fraction,
        process_index=args.process_index,
        num_processes=args.world_size,
    )


def probe_task(run: Run, num_outputs: int, num_heads: int) -> ProbeTask:
    """The task of the probe, on the device and with the seed of the run."""
    args = run.training
    return ProbeTask(num_outputs, num_heads, problem_type=run.problem_type, device=args.device, seed=args.seed)


def frozen_features(
    run: Run,
    model: VideoMAEV2Model,
    records: Sequence[VideoRecord],
    processor_class: type[VideoMAEV2ImageProcessor] = VideoMAEV2ImageProcessor,
) -> np.ndarray:
    """Features of all videos: (N, D), or (N, L, D) of all tokens for an attentive probe; NaN for unreadable videos."""
    args = run.training
    processor = training_processor(run, model.config, video_backend=run.clips.video_backend)
    return cached_features(
        model,
        records,
        EvalTransform(processor_class.from_dict(processor.to_dict()), frame_template=run.clips.frame_template),
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


def _encoder_overrides(run: Run) -> dict:
    """The overrides of the checkpoint's configuration; the problem type is that of the probe.

    MAE's probe reads the class token after the final norm, which a checkpoint has unless its head pools the patches.
    """
    overrides = {name: value for name, value in run.config_overrides.items() if name != "problem_type"}
    if run.probing.probe == "mae":
        config = VideoMAEV2Config.from_pretrained(run.model.checkpoint)
        if config.use_cls_token and not config.use_mean_pooling:
            overrides = {"use_mean_pooling": False, **overrides}
    return overrides


def _check_readable(fitted: int, scored: np.ndarray) -> None:
    if not fitted or not scored.any():
        raise ValueError(f"{fitted} videos to fit and {scored.sum()} videos to score can be read; a probe needs both.")


def _selected(features: np.ndarray, labels: torch.Tensor, chosen: np.ndarray) -> tuple[np.ndarray, torch.Tensor]:
    """Features and labels of the chosen videos; if all are chosen, the features are not copied."""
    return features if chosen.all() else features[chosen], labels[torch.from_numpy(chosen)]


def _readable(features: np.ndarray) -> np.ndarray:
    """bool (N,) for features (N, ..): False for unreadable videos, whose features are NaN."""
    return ~np.isnan(features.reshape(len(features), -1)[:, 0])


def main(arguments: list[str]) -> None:
    execute(VERB, probe, arguments)

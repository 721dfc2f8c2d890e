# Copyright 2026 The videomae_hf authors. Licensed under the Apache License, Version 2.0.
"""`videomae pretrain`: masked pretraining on videos or images without labels."""

from dataclasses import replace

from ..checkpoints.opening import open_checkpoint
from ..data.clips import pretrain_transform
from ..data.video_dataset import ClipCollator
from ..data.videos import clip_sampler, evaluation_videos, training_videos
from ..models.modeling_videomae_v2 import VideoMAEV2ForPreTraining
from ..settings.recipes import Verb
from ..settings.rules import follow_rules
from ..settings.run import Run
from ..training.distributed import report
from ..training.fit import fit, prepare
from ..training.monitoring import make_probe
from ..training.session import execute


VERB = Verb(
    "pretrain",
    "Pretrains VideoMAE V1 or V2 on videos, or MAE on images, without labels.",
    (
        "pretrain --train_data videos/ --model_size small",
        "pretrain --train_data videos/ --preset tiny",
        "pretrain v2/pretrain_hybrid_giant --smoke_test true",
        "pretrain --train_data 'shards/*.tar' --checkpoint MCG-NJU/videomae-base --num_train_epochs 50",
        "pretrain --train_data images/ --model_kind mae",
    ),
    groups=("data", "clips", "model", "pretraining", "monitoring"),
    unused=(
        "folds",
        "multi_label",
        "unlabelled",
        "class_names",
        "label_column_name",
        "antialias",
        "head_from",
        "label_mappings",
        "group_column",
        "group_pattern",
    ),
)


def pretrain(run: Run) -> None:
    """Masked pretraining, from a checkpoint or, if none is given, from random weights."""
    args = run.training
    args.label_names, args.prediction_loss_only = ["decoded_ids"], True  # evaluations then report a loss
    model, videos = pretraining_model(run), training_videos(run, labelled=False)
    evaluated, eval_set = evaluation_videos(run, labelled=False), None
    run, lines = follow_rules(run, model.config.hidden_size, videos.number, evaluates=evaluated is not None)
    report(args, lines)
    model = prepare(model, run)
    config = model.config
    samplers = videos.samplers(run.clips, config)
    train_set = videos.dataset(pretrain_transform(run, config, samplers), run)
    report(args, videos.describe(samplers, args, labelled=False))
    if evaluated is not None:
        report(args, evaluated.messages + videos.overlap(evaluated))
        transform = replace(pretrain_transform(run, config, clip_sampler(run.clips, config)), num_sample=1)
        eval_set = evaluated.evaluation_dataset(transform, args, replace_bad=True)
    fit(run, model, train_set, eval_set, ClipCollator(config), probe=make_probe(run, config))


def pretraining_model(run: Run) -> VideoMAEV2ForPreTraining:
    """The model that a pretraining starts from."""
    if run.model.checkpoint:
        model, messages = open_checkpoint(run.model.checkpoint, VideoMAEV2ForPreTraining, **run.config_overrides)
        report(run.training, messages)
        return model
    return VideoMAEV2ForPreTraining(run.new_config())


def main(arguments: list[str]) -> None:
    execute(VERB, pretrain, arguments)

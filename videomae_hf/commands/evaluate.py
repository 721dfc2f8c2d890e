# Copyright 2026 The videomae_hf authors. Licensed under the Apache License, Version 2.0.
"""`videomae evaluate`: scores a finetuned checkpoint, or predicts videos without labels."""

from dataclasses import replace
from pathlib import Path

import yaml

from ..checkpoints.opening import trained_classifier
from ..checkpoints.run_folders import EVALUATION_SETTINGS
from ..data.clips import EvalTransform
from ..data.processors import evaluation_processor
from ..data.splitting import named_groups
from ..data.video_dataset import ClipCollator
from ..data.videos import VideoSource, evaluation_source, evaluation_videos, holds_no_label, media_of
from ..evaluation.findings import Predicted
from ..evaluation.metrics import metrics_of
from ..evaluation.perturbations import PLAIN
from ..evaluation.predictions import Scored, counts_alone, with_placeholders, write_predictions
from ..messages import count
from ..models.token_selection import select_tokens, tokens_left
from ..settings.recipes import Verb
from ..settings.run import Run
from ..text_files import write_text
from ..training.distributed import report
from ..training.run_report import write_own_report
from ..training.session import execute
from ..training.trainer import VideoMAETrainer


VERB = Verb(
    "evaluate",
    "Scores a finetuned checkpoint on several clips and crops of each video, and writes its predictions.",
    (
        "evaluate --checkpoint output/finetune --eval_data data/val",
        "evaluate --checkpoint output/finetune --eval_data data/val --num_clips 2 --num_crops 1",
        "evaluate --checkpoint user/my-videomae --eval_data new_videos/ --unlabelled true",
    ),
    groups=("data", "clips", "model", "static_tokens", "evaluation"),
    unused=(
        "folds", "streaming", "shuffle_buffer", "videos_per_epoch", "class_names", "multi_label", "demo_videos",
        "train_split_name", "num_sample", "preset", "model_kind", "model_size", "model_version", "head_from",
        "label_mappings", "interpolation",
    ),
    trains=False,
)  # fmt: skip


def evaluate(run: Run) -> None:
    """Averages the probabilities of num_clips x num_crops views of each video."""
    if not run.model.checkpoint:
        raise ValueError("evaluate needs --checkpoint, the folder or Hub id of a finetuned model.")
    args = run.training
    model, messages = trained_classifier(run.model.checkpoint, **run.config_overrides)
    config, labelled = model.config, not holds_no_label(run)
    videos = scored_videos(run, config, labelled=labelled)
    processor, more = evaluation_processor(run, config)
    report(args, [*messages, *more, *select_tokens(model, **vars(run.static_tokens))])
    num_clips, num_crops = run.views(config.num_frames)
    shuffled = run.evaluation.shuffle_frames
    transform = EvalTransform(processor, num_clips, num_crops, config.num_labels, run.clips.frame_template, shuffled)
    groups = named_groups(videos.records, evaluation_source(run.data), run.data, media_of(run))
    collator, scores = ClipCollator(config), metrics_of(config.problem_type)
    trainer = VideoMAETrainer(model=model, args=args, data_collator=collator, compute_metrics=scores)
    views = f"{count(num_clips, 'clip')} x {count(num_crops, 'crop')}"
    report(args, [f"{count(len(videos.records), 'video')}, {views} each, {count(args.world_size, 'process')}"])
    result = trainer.predict(videos.evaluation_dataset(transform, args), metric_key_prefix="eval")
    report(args, tokens_left(model))
    metrics = result.metrics if labelled else counts_alone(result.metrics)
    trainer.log_metrics("eval", metrics)
    if trainer.is_world_process_zero():
        scored = Scored(result.predictions, result.label_ids, metrics)
        folder, classes = Path(args.output_dir), videos.classes
        write_predictions(
            folder, videos.records, classes, config.problem_type, scored, labelled=labelled, groups=groups
        )
        settings = {**run.as_recipe(), "num_clips": num_clips, "num_crops": num_crops}
        write_text(folder / EVALUATION_SETTINGS, yaml.safe_dump(settings, sort_keys=False))
    report(args, [f"Saved to {args.output_dir}"])
    trainer.check_readable(result.metrics)
    if labelled and trainer.is_world_process_zero():
        logits = {PLAIN: result.predictions}
        predicted = Predicted(videos.records, classes, config.problem_type, logits, result.label_ids, groups, views)
        write_own_report(run, predicted)


def scored_videos(run: Run, config, *, labelled: bool) -> VideoSource:
    """The videos to score, labelled with the model's class numbers; if unlabelled, with placeholders for the labels."""
    classes = [config.id2label[number] for number in range(config.num_labels)]
    videos = evaluation_videos(run, classes, config.problem_type, labelled=labelled)
    if videos is None:
        raise ValueError("eval_data is not set: pass a folder of class folders or a list of videos as --eval_data.")
    report(run.training, videos.messages)
    videos = replace(videos, classes=classes)
    if labelled:
        return videos
    report(run.training, ["no labels: predictions are written, but no scores"])
    return replace(videos, records=with_placeholders(videos.records, config))


def main(arguments: list[str]) -> None:
    execute(VERB, evaluate, arguments)

# Copyright 2026 The videomae_hf authors. Licensed under the Apache License, Version 2.0.
"""`videomae finetune`: trains a classifier or a regressor, from a pretrained checkpoint or from random weights."""

from pathlib import Path

from ..data.augmentation.mixing import mixing_of
from ..data.augmentation.transforms import direction_sensitive
from ..data.checks import check_classes, describe_directions
from ..data.clips import EvalTransform, finetune_transform
from ..data.processors import training_processor
from ..data.splitting import named_groups
from ..data.video_dataset import ClipCollator
from ..data.videos import VideoSource, evaluation_source, evaluation_videos, media_of, training_videos
from ..evaluation.findings import Predicted
from ..evaluation.perturbations import PLAIN
from ..messages import shorten
from ..models.token_selection import tokens_left
from ..settings.recipes import Verb, parse_command_line
from ..settings.rules import follow_rules
from ..settings.run import Run
from ..training.class_weights import set_class_weights
from ..training.classifier_head import classifier_of, selected_tokens
from ..training.cross_validation import cross_validate
from ..training.distillation import load_teacher, teacher_classes
from ..training.distributed import leave_processes, report
from ..training.fit import fit, prepare
from ..training.run_report import Training, write_own_report
from ..training.session import execute_run


VERB = Verb(
    "finetune",
    "Trains a classifier (or a regression, with --problem_type regression) on labelled videos.",
    (
        "finetune --train_data data/train --eval_data data/val --checkpoint MCG-NJU/videomae-base",
        "finetune --preset tiny --train_data data/train --eval_data data/val",
        "finetune finetune_small --train_data data/train --eval_data data/val",
        "finetune finetune_small --folds splits",
        "finetune --train_data labels.csv --checkpoint output/pretrain --lora_rank 8",
        "finetune --dataset_name user/my-videos --eval_split_name test --checkpoint MCG-NJU/videomae-base",
    ),
    groups=("data", "clips", "model", "augmentation", "static_tokens", "distillation"),
    unused=("unlabelled",),
)


def finetune(run: Run) -> None:
    """Supervised training of the whole model, of adapters, or of the head alone."""
    if run.data.folds:
        raise ValueError("folds is for the command line of finetune; a stage of a recipe cannot have it.")
    videos = finetuning_videos(run)
    evaluated, eval_set, groups = evaluation_videos(run, videos.classes, run.problem_type), None, None
    model, messages = classifier_of(run, videos)
    run, lines = follow_rules(run, model.config.hidden_size, videos.number, evaluates=evaluated is not None)
    run, more = without_flips(run, videos.classes)
    args, labelled = run.training, run.distillation.needs_labels
    report(args, [*lines, *more])
    teacher, more = load_teacher(run.distillation, model.config, videos.classes)
    report(args, [*messages, *more, *set_class_weights(run, model, videos), *selected_tokens(run, model)])
    encoder = model.base_model  # adapters wrap the model
    model = prepare(model, run)
    config, classes = model.config, videos.classes
    samplers = videos.samplers(run.clips, config)
    train_set = videos.dataset(finetune_transform(run, config, samplers), run)
    report(args, videos.describe(samplers, args, labelled=labelled))
    report(args, describe_directions(classes, horizontal_flip=run.augmentation.horizontal_flip))
    if evaluated is not None:
        groups = named_groups(evaluated.records, evaluation_source(run.data), run.data, media_of(run))
        report(args, evaluated.messages + videos.overlap(evaluated))
        processor = training_processor(run, config, video_backend=run.clips.video_backend)
        transform = EvalTransform(processor, num_labels=len(classes), frame_template=run.clips.frame_template)
        eval_set = evaluated.evaluation_dataset(transform, args)
    collator = ClipCollator(config, mixing_of(run.augmentation, len(classes)), run.augmentation.random_erasing)
    output = fit(run, model, train_set, eval_set, collator, teacher=teacher)
    report(args, tokens_left(encoder))
    if output is not None and output.predictions is not None and args.should_save:
        logits = {PLAIN: output.predictions}
        predicted = Predicted(evaluated.records, classes, config.problem_type, logits, output.label_ids, groups)
        write_own_report(run, predicted, Training(Path(args.output_dir), run.as_recipe(), run), videos)


def without_flips(run: Run, classes: list[str]) -> tuple[Run, list[str]]:
    """No horizontal flips where classes name a direction, unless a recipe or an option decides; and a message."""
    directions = direction_sensitive(classes)
    if not run.follows_rules or "horizontal_flip" in run.given or not directions:
        return run, []
    line = f"clips are not flipped horizontally, as classes name a direction: {shorten(directions, 3)}"
    return run.changed(horizontal_flip=False), [line]


def finetuning_videos(run: Run) -> VideoSource:
    """The training videos, with the classes of the data or, if no labels are needed, of the teacher."""
    videos = training_videos(run, labelled=run.distillation.needs_labels)
    videos.classes = videos.classes or teacher_classes(run)
    check_classes(videos.classes, run.problem_type)
    return videos


def main(arguments: list[str]) -> None:
    run = parse_command_line(arguments, VERB)
    if run.data.folds:
        cross_validate(run, VERB, finetune, arguments, execute_run)
    else:
        execute_run(finetune, run)
    leave_processes()

# Copyright 2026 The videomae_hf authors. Licensed under the Apache License, Version 2.0.
"""Pretrain, finetune and evaluate VideoMAE.

    python train.py pretrain examples/recipes/smoke.yaml
    python train.py finetune --train_data data/train --eval_data data/val --checkpoint output/pretrain
    python train.py evaluate --checkpoint output/finetune --eval_data data/val --num_clips 5 --num_crops 3

Several processes, on GPUs or (with --use_cpu true) on CPUs:

    torchrun --nproc_per_node 8 train.py pretrain recipe.yaml
    accelerate launch --multi_gpu --num_processes 8 train.py pretrain recipe.yaml

A recipe is a YAML file of the same keys. All options: python train.py --help
"""

import csv
import json
import sys
from pathlib import Path

import torch
import yaml
from transformers import set_seed

from videomae_hf import (
    VideoMAEV2Config,
    VideoMAEV2ForPreTraining,
    VideoMAEV2ForVideoClassification,
    VideoMAEV2ImageProcessor,
)
from videomae_hf.cli import run_command
from videomae_hf.data import (
    UNREADABLE,
    ClipCollator,
    ClipSampling,
    EvaluationViews,
    PretrainingClips,
    TrainingClips,
    VideoDataset,
    check_readable,
    read_samples,
)
from videomae_hf.demo import draw_dataset
from videomae_hf.image_processing_videomae_v2 import clip_options, normalization_options
from videomae_hf.metrics import classification_metrics, confusion_matrix
from videomae_hf.recipes import DataArguments, as_recipe, parse_command_line
from videomae_hf.trainer import VideoMAETrainer, VideoMAETrainingArguments


def pretrain(data: DataArguments, args: VideoMAETrainingArguments, fields: dict):
    """Masked pretraining, on videos without labels."""
    args.label_names, args.prediction_loss_only = ["decoded_ids"], True  # so that an evaluation has a loss
    if data.checkpoint:
        model = VideoMAEV2ForPreTraining.from_pretrained(data.checkpoint, dtype=torch.float32, **fields)
    else:
        model = VideoMAEV2ForPreTraining(VideoMAEV2Config.from_size(data.model_size, data.model_version, **fields))
    load = PretrainingClips(model.config, clip_sampling(data, model.config))
    samples, _ = listed(data, args, "train_data", labelled=False)
    check_readable(samples, [], data.video_backend)
    train_set = VideoDataset(samples, load, args.seed)
    eval_set = None
    if data.eval_data:
        eval_set = VideoDataset(listed(data, args, "eval_data", labelled=False)[0], load, args.seed)
    run(model, data, args, fields, train_set, eval_set)


def finetune(data: DataArguments, args: VideoMAETrainingArguments, fields: dict):
    """Classification, from a pretrained checkpoint or, without one, from scratch."""
    samples, classes = listed(data, args, "train_data")
    labels = {"id2label": dict(enumerate(classes)), "label2id": {name: i for i, name in enumerate(classes)}}
    # The official finetuning pools the mean of all tokens, whatever the pretraining checkpoint says.
    fields = {"problem_type": "single_label_classification", "use_mean_pooling": True, **fields}
    if data.checkpoint:
        model = VideoMAEV2ForVideoClassification.from_pretrained(
            data.checkpoint, dtype=torch.float32, ignore_mismatched_sizes=True, **labels, **fields
        )
    else:
        config = VideoMAEV2Config.from_size(data.model_size, data.model_version, **labels, **fields)
        model = VideoMAEV2ForVideoClassification(config)
    check_readable(samples, classes, data.video_backend)
    load = TrainingClips(model.config, clip_sampling(data, model.config), tuple(data.crop_scale), data.horizontal_flip)
    train_set = VideoDataset(samples, load, args.seed)
    eval_set = None
    if data.eval_data:
        eval_samples, _ = listed(data, args, "eval_data", classes)
        load = EvaluationViews(image_processor(data, model.config))
        eval_set = VideoDataset(eval_samples, load, args.seed, replace_bad=False)
    run(model, data, args, fields, train_set, eval_set)


def evaluate(data: DataArguments, args: VideoMAETrainingArguments, fields: dict):
    """Scores a finetuned checkpoint on num_clips x num_crops views of each video."""
    if not data.checkpoint:
        raise ValueError("evaluate needs --checkpoint, the folder or Hub id of a finetuned model.")
    model = VideoMAEV2ForVideoClassification.from_pretrained(data.checkpoint, dtype=torch.float32, **fields)
    classes = [model.config.id2label[number] for number in range(model.config.num_labels)]
    samples, _ = listed(data, args, "eval_data", classes)
    # What the model takes goes before what the processor was saved with: options may have changed it.
    processor = VideoMAEV2ImageProcessor.from_pretrained(
        data.checkpoint, video_backend=data.video_backend, **clip_options(model.config)
    )
    views = EvaluationViews(processor, data.num_clips, data.num_crops, data.shuffle_frames)
    trainer = VideoMAETrainer(
        model=model, args=args, data_collator=ClipCollator(model.config), compute_metrics=classification_metrics
    )
    say(
        args,
        f"{len(samples)} videos, {data.num_clips} clips x {data.num_crops} crops each, {args.world_size} processes",
    )
    result = trainer.predict(VideoDataset(samples, views, args.seed, replace_bad=False), metric_key_prefix="eval")
    trainer.log_metrics("eval", result.metrics)
    if trainer.is_world_process_zero():
        write_predictions(Path(args.output_dir), samples, classes, result)


def listed(data: DataArguments, args, which: str, class_names=None, labelled: bool = True):
    """The samples of `data.train_data` or `data.eval_data`, and the class names."""
    source = getattr(data, which)
    if not source:
        raise ValueError(f"{which} is not set: give a folder of class folders or a list of videos with --{which}.")
    if data.demo_videos:
        videos = data.demo_videos if which == "train_data" else max(data.demo_videos // 4, 4)
        with args.main_process_first():
            if not Path(source).exists():
                draw_dataset(source, videos_per_class=videos, seed=0 if which == "train_data" else 1)
    return read_samples(source, class_names, data.data_root, labelled)


def clip_sampling(data: DataArguments, config: VideoMAEV2Config) -> ClipSampling:
    return ClipSampling(
        num_frames=config.num_frames,
        frame_sampling=data.frame_sampling,
        sampling_rate=data.sampling_rate,
        fps=data.fps,
        short_video=data.short_video,
        video_backend=data.video_backend,
    )


def image_processor(data: DataArguments, config: VideoMAEV2Config) -> VideoMAEV2ImageProcessor:
    """The processor that prepares a video for this model as training does; saved with every checkpoint."""
    return VideoMAEV2ImageProcessor(
        frame_sampling=data.frame_sampling,
        sampling_rate=data.sampling_rate,
        fps=data.fps,
        short_video=data.short_video,
        **clip_options(config),
        **normalization_options(config),
    )


def run(model, data: DataArguments, args: VideoMAETrainingArguments, fields: dict, train_set, eval_set):
    """Trains, and saves the model, its processor, the settings and the results in `args.output_dir`."""
    if len(train_set) < args.total_batch_size and args.dataloader_drop_last:
        raise ValueError(
            f"{data.train_data} has {len(train_set)} videos, fewer than the {args.total_batch_size} of one step; lower "
            f"per_device_train_batch_size or gradient_accumulation_steps."
        )
    trainer = VideoMAETrainer(
        model=model,
        args=args,
        train_dataset=train_set,
        eval_dataset=eval_set,
        data_collator=ClipCollator(model.config),
        processing_class=image_processor(data, model.config),
        compute_metrics=None if args.prediction_loss_only else classification_metrics,
    )
    describe_run(trainer, train_set)
    resume = args.resume_from_checkpoint
    result = trainer.train(resume_from_checkpoint=True if resume == "last" else resume)
    trainer.save_model()
    trainer.save_state()
    metrics = result.metrics
    if eval_set is not None:
        scores = trainer.evaluate()
        trainer.log_metrics("eval", scores)
        metrics.update(scores)
    trainer.save_metrics("all", metrics)
    if trainer.is_world_process_zero():
        settings = yaml.safe_dump(as_recipe(data, args, fields), sort_keys=False)
        Path(args.output_dir, "settings.yaml").write_text(settings, encoding="utf-8")
    say(args, f"Saved to {args.output_dir}")


def describe_run(trainer: VideoMAETrainer, train_set: VideoDataset):
    args, config = trainer.args, trainer.model.config
    parameters = sum(parameter.numel() for parameter in trainer.model.parameters())
    say(
        args,
        f"{type(trainer.model).__name__}: {parameters:,} parameters, {config.num_frames} frames of {config.image_hw}",
    )
    say(args, f"{args.world_size} processes on {args.device.type}, {len(train_set)} videos")
    say(
        args,
        f"total batch {args.total_batch_size} = {args.train_batch_size} a process x {args.world_size} processes x "
        f"{args.gradient_accumulation_steps} accumulation steps",
    )
    rule = ""
    if args.base_learning_rate is not None:
        rule = f" = {args.base_learning_rate:g} x {args.total_batch_size} / 256"
    say(args, f"learning rate {args.learning_rate:g}{rule}, layer decay {args.layer_decay:g}")


def write_predictions(folder: Path, samples, classes: list[str], result):
    """metrics.json (with the confusion matrix) and predictions.csv."""
    folder.mkdir(parents=True, exist_ok=True)
    readable = result.label_ids != UNREADABLE
    matrix = confusion_matrix(result.predictions[readable], result.label_ids[readable])
    metrics = {**result.metrics, "classes": classes, "confusion_matrix": matrix.tolist()}
    (folder / "metrics.json").write_text(json.dumps(metrics, indent=2), encoding="utf-8")
    probabilities = torch.from_numpy(result.predictions).softmax(dim=-1)
    with open(folder / "predictions.csv", "w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(["path", "label", "predicted", "probability"])
        for sample, row, is_readable in zip(samples, probabilities, readable):
            predicted = classes[row.argmax()] if is_readable else "unreadable"
            writer.writerow([sample.path, classes[sample.label], predicted, f"{row.max():.4f}" if is_readable else ""])


def say(args: VideoMAETrainingArguments, message: str):
    if args.process_index == 0:
        print(message, flush=True)


def main(arguments: list[str]):
    commands = {"pretrain": pretrain, "finetune": finetune, "evaluate": evaluate}
    command, data, args, fields = parse_command_line(arguments, tuple(commands), __doc__)
    set_seed(args.seed)  # before the model is made
    commands[command](data, args, fields)


if __name__ == "__main__":
    run_command("train.py", main, sys.argv[1:])

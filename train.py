# Copyright 2026 The videomae_hf authors. Licensed under the Apache License, Version 2.0.
"""Pretrain, finetune, evaluate and probe VideoMAE.

    python train.py pretrain examples/recipes/smoke.yaml
    python train.py finetune --train_data data/train --eval_data data/val --checkpoint output/pretrain
    python train.py finetune --dataset_name user/my-videos --eval_split_name validation --checkpoint output/pretrain
    python train.py pretrain --train_data 'shards/*.tar'
    python train.py evaluate --checkpoint output/finetune --eval_data data/val --num_clips 5 --num_crops 3
    python train.py progressive examples/recipes/demo_progressive.yaml
    python train.py probe --checkpoint output/pretrain --train_data data/train --eval_data data/val --probe attentive

Several processes, on GPUs or (with --use_cpu true) on CPUs:

    torchrun --nproc_per_node 8 train.py pretrain recipe.yaml
    accelerate launch --multi_gpu --num_processes 8 train.py pretrain recipe.yaml

A recipe is a YAML file of the same keys. All options: python train.py --help
"""

import sys
from functools import partial
from pathlib import Path

import yaml
from transformers import set_seed

from videomae_hf import VideoMAEV2Config, VideoMAEV2ForPreTraining
from videomae_hf.checkpoints.opening import open_checkpoint
from videomae_hf.cli import run_command
from videomae_hf.commands.probe import probe_checkpoint
from videomae_hf.commands.progressive import run_stages
from videomae_hf.data.clips import EvalTransform, PretrainTransform
from videomae_hf.data.video_dataset import ClipCollator, VideoDataset
from videomae_hf.data.videos import (
    clip_sampling,
    direction_warning,
    draw_shrunk,
    eval_samples,
    evaluated_without_labels,
    evaluation_processor,
    head_fields,
    image_processor,
    mixing,
    overlap_lines,
    set_class_weights,
    settled_problem_type,
    train_samples,
    training_clips,
    training_set,
)
from videomae_hf.evaluation.metrics import metrics_of
from videomae_hf.evaluation.predictions import Scored, counts_alone, with_placeholders, write_predictions
from videomae_hf.messages import count
from videomae_hf.settings.recipes import DataArguments, as_recipe, common_settings, parse_command_line
from videomae_hf.settings.training_arguments import VideoMAETrainingArguments
from videomae_hf.text_files import write_text
from videomae_hf.training.adaptation import SaveConfigCallback, add_adapters, freeze, save_merged
from videomae_hf.training.classifier_head import finetuning_model, trained_classifier
from videomae_hf.training.distillation import DistillationTrainer, Teacher, load_teacher, needs_labels, teacher_classes
from videomae_hf.training.distributed import check_agreement, check_processes, leave_processes, lost_processes_named
from videomae_hf.training.monitoring import Probe, log_reconstructions, make_probe
from videomae_hf.training.output_folder import output_claimed, output_writable
from videomae_hf.training.overfit_check import check_learning
from videomae_hf.training.planning import PaceCallback, fit_batch, plan_lines
from videomae_hf.training.run_checks import check_checkpoint, check_classes, check_evaluation, check_trackers
from videomae_hf.training.run_record import RunRecord, check_same_run, hub_id, resume_path
from videomae_hf.training.safeguards import check_complete
from videomae_hf.training.sharding import shard
from videomae_hf.training.trainer import VideoMAETrainer


def pretrain(data: DataArguments, args: VideoMAETrainingArguments, fields: dict):
    """Masked pretraining, on videos without labels."""
    args.label_names, args.prediction_loss_only = ["decoded_ids"], True  # so that an evaluation has a loss
    if not (data.eval_data or data.eval_split_name):
        data.eval_data = data.probe_eval_data  # there is no evaluation without data
    if data.checkpoint:
        model, lines = open_checkpoint(data.checkpoint, VideoMAEV2ForPreTraining, **fields)
        report(args, lines)
    else:
        model = VideoMAEV2ForPreTraining(VideoMAEV2Config.from_size(data.model_size, data.model_version, **fields))
    model = prepare(model, data, args)
    samples, _, options, weights = train_samples(data, args, labelled=False)
    samplings = [clip_sampling(data, model.config, **differing) for differing in options]
    clips = PretrainTransform(model.config, samplings, data.num_sample)
    train_set, lines = training_set(data, args, samples, [], clips, weights)
    report(args, lines)
    eval_set = None
    if data.eval_data or data.eval_split_name:
        evaluated = eval_samples(data, args, labelled=False)
        report(args, evaluated.messages + overlap_lines(samples, evaluated))
        load = PretrainTransform(model.config, clip_sampling(data, model.config))
        eval_set = VideoDataset(evaluated, load, args.seed)
    probe = make_probe(data, args, model.config)
    record = RunRecord.of("pretrain", model.config, data, args, train_set)
    run(model, data, args, fields, record, train_set, eval_set, ClipCollator(model.config), probe)


def finetune(data: DataArguments, args: VideoMAETrainingArguments, fields: dict):
    """Classification, from a pretrained checkpoint or, without one, from scratch."""
    problem_type = settled_problem_type(data, args, fields)
    regression = problem_type == "regression"
    samples, classes, options, weights = train_samples(data, args, needs_labels(data), regression)
    classes = classes or teacher_classes(data)
    check_classes(classes, problem_type)
    # The official finetuning pools the mean of all tokens, whatever the pretraining checkpoint says.
    fields = {"use_mean_pooling": True, **fields, "problem_type": problem_type}
    model, lines = finetuning_model(data, fields, head_fields(problem_type, samples, classes))
    teacher, teacher_lines = load_teacher(data, model.config, classes)
    lines += teacher_lines + set_class_weights(data, model, samples, classes, weights)
    report(args, lines)
    model = prepare(model, data, args)
    samplings = [clip_sampling(data, model.config, **differing) for differing in options]
    clips = training_clips(data, model.config, samplings)
    train_set, lines = training_set(data, args, samples, classes if needs_labels(data) else [], clips, weights)
    report(args, lines + direction_warning(data, classes))
    eval_set = None
    if data.eval_data or data.eval_split_name:
        views = EvalTransform(
            image_processor(data, model.config, data.checkpoint, video_backend=data.video_backend),
            num_labels=len(classes),
            frame_template=data.frame_template,
        )
        evaluated = eval_samples(data, args, classes, regression=regression)
        report(args, evaluated.messages + overlap_lines(samples, evaluated))
        eval_set = VideoDataset(evaluated, views, args.seed, replace_bad=False)
    collator = ClipCollator(model.config, mixing(data, args, len(classes)), data.random_erasing)
    record = RunRecord.of("finetune", model.config, data, args, train_set)
    run(model, data, args, fields, record, train_set, eval_set, collator, teacher=teacher)


def evaluate(data: DataArguments, args: VideoMAETrainingArguments, fields: dict):
    """Scores a finetuned checkpoint on num_clips x num_crops views of each video."""
    if not data.checkpoint:
        raise ValueError("evaluate needs --checkpoint, the folder or Hub id of a finetuned model.")
    model, lines = trained_classifier(data.checkpoint, **fields)
    report(args, lines)
    classes = [model.config.id2label[number] for number in range(model.config.num_labels)]
    problem_type = model.config.problem_type
    data.multi_label = problem_type == "multi_label_classification"
    unlabelled = evaluated_without_labels(data)
    samples = eval_samples(data, args, classes, not unlabelled, problem_type == "regression" and not unlabelled)
    report(args, samples.messages + ["no labels: predictions are written, and no scores"] * unlabelled)
    processor, lines = evaluation_processor(data, model.config)
    report(args, lines)
    views = EvalTransform(
        processor, data.num_clips, data.num_crops, len(classes), data.frame_template, data.shuffle_frames
    )
    trainer = VideoMAETrainer(
        model=model,
        args=args,
        data_collator=ClipCollator(model.config),
        compute_metrics=metrics_of(problem_type),
    )
    say(
        args,
        f"{count(len(samples), 'video')}, {count(data.num_clips, 'clip')} x {count(data.num_crops, 'crop')} each, "
        f"{count(args.world_size, 'process')}",
    )
    if unlabelled:
        samples = with_placeholders(samples, model.config)
    result = trainer.predict(VideoDataset(samples, views, args.seed, replace_bad=False), metric_key_prefix="eval")
    metrics = counts_alone(result.metrics) if unlabelled else result.metrics
    trainer.log_metrics("eval", metrics)
    if trainer.is_world_process_zero():
        scored = Scored(result.predictions, result.label_ids, metrics)
        write_predictions(Path(args.output_dir), samples, classes, problem_type, scored, labelled=not unlabelled)
        say(args, f"Saved to {args.output_dir}")
    trainer.check_readable(result.metrics)


def probe(data: DataArguments, args: VideoMAETrainingArguments, fields: dict):
    """Fits a linear, an attentive or a k-NN probe to the frozen features of a checkpoint, and scores it."""
    report(args, probe_checkpoint(data, args, fields))


def prepare(model, data: DataArguments, args: VideoMAETrainingArguments):
    """The model with adapters or frozen parts, if asked for; and, with `fit`, the batch that then fits."""
    if args.lora_rank:
        model, lines = add_adapters(model, args)
    else:
        lines = freeze(model, args.freeze_layers, args.freeze_encoder)
    report(args, lines + fit_batch(args, data, model))
    return model


def run(
    model,
    data: DataArguments,
    args: VideoMAETrainingArguments,
    fields: dict,
    record: RunRecord,
    train_set,
    eval_set,
    collator,
    probe: Probe | None = None,
    teacher: Teacher | None = None,
):
    """Trains, and saves the model, its processor, the settings and the results in `args.output_dir`."""
    check_evaluation(args, record.problem_type, eval_set, probe)
    resume = resume_path(args)
    if resume is not None:
        check_complete(resume)
        report(args, check_same_run(resume, record, args.allow_changes))
        say(args, f"going on from {resume}")
    elif args.resume_from_checkpoint is not None:
        say(args, f"no checkpoint in {args.output_dir}: starting at step 0")
    if args.fsdp2:
        model = shard(model, args)
    trainer_class = VideoMAETrainer if teacher is None else partial(DistillationTrainer, teacher=teacher, data=data)
    trainer = trainer_class(
        model=model,
        args=args,
        train_dataset=train_set,
        eval_dataset=eval_set,
        data_collator=collator,
        processing_class=image_processor(data, model.config, data.checkpoint),
        compute_metrics=None if args.prediction_loss_only else metrics_of(model.config.problem_type),
        probe=probe,
        record=record,
    )
    log_reconstructions(trainer, data.reconstruction_videos)
    trainer.add_callback(PaceCallback(data.num_sample))
    if args.lora_rank:
        trainer.add_callback(SaveConfigCallback)
    report(args, plan_lines(args, data, model, train_set))
    if args.sanity:
        report(args, check_learning(trainer))
    if args.should_save:
        record.write(args.output_dir, finished=False, base_model=hub_id(data.checkpoint))
    result = trainer.train(resume_from_checkpoint=resume)
    if args.lora_rank:
        save_merged(trainer)
    else:
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
        write_text(Path(args.output_dir, "settings.yaml"), settings)
        more = {"step": trainer.state.global_step, "base_model": hub_id(data.checkpoint)}
        record.write(args.output_dir, finished=True, **more)
    say(args, f"Saved to {args.output_dir}")


def report(args: VideoMAETrainingArguments, lines: list[str]):
    for line in lines:
        say(args, line)


def say(args: VideoMAETrainingArguments, message: str):
    if args.process_index == 0:
        print(message, flush=True)


def start(name: str, command, data: DataArguments, args: VideoMAETrainingArguments, fields: dict):
    check_processes(args, args.num_processes)
    check_trackers(args)
    check_checkpoint(data.checkpoint)
    check_agreement(args, "settings", common_settings(data, args, fields))
    if data.shrink:
        draw_shrunk(data, args, fields.get("num_frames", VideoMAEV2Config.num_frames))
    set_seed(args.seed)  # before the model is made
    claimed = output_claimed(name, data, args) if name in ("pretrain", "finetune") else output_writable(args)
    with lost_processes_named(args), claimed as lines:
        report(args, lines)
        command(data, args, fields)


def main(arguments: list[str]):
    commands = {"pretrain": pretrain, "finetune": finetune, "evaluate": evaluate, "probe": probe}
    commands = {name: partial(start, name, command) for name, command in commands.items()}
    if arguments[:1] == ["progressive"]:
        return run_stages(arguments[1:], commands)
    command, data, args, fields = parse_command_line(arguments, (*commands, "progressive"), __doc__)
    commands[command](data, args, fields)


if __name__ == "__main__":
    run_command("train.py", main, sys.argv[1:])
    leave_processes()

# Copyright 2026 The videomae_hf authors. Licensed under the Apache License, Version 2.0.
"""Runs a training: starts or resumes it, trains, saves the model and scores it."""

from functools import partial
from pathlib import Path

import torch
import yaml
from transformers import Trainer
from transformers.trainer_utils import EvalLoopOutput

from ..checkpoints.licences import origin_of
from ..checkpoints.run_folders import SETTINGS
from ..data.processors import training_processor
from ..data.video_dataset import ClipCollator, VideoDataset
from ..data.video_stream import VideoStream
from ..evaluation.metrics import metrics_of
from ..settings.run import Run
from ..text_files import write_text
from .adaptation import adapted
from .distillation import DistillationTrainer, Teacher
from .distributed import report
from .monitoring import Probe, log_reconstructions
from .overfit_check import check_learning
from .planning import DataWaitCallback, PaceCallback, fit_batch, plan_lines
from .run_checks import check_evaluation
from .run_record import RunRecord, check_same_run, resume_path
from .safeguards import check_complete
from .sharding import shard
from .trainer import VideoMAETrainer


def prepare(model: torch.nn.Module, run: Run) -> torch.nn.Module:
    """Adds adapters or freezes parts of the model, as the settings request, and with `fit` sets the batch size."""
    model, messages = adapted(model, run)
    report(run.training, messages + fit_batch(run, model))
    return model


def fit(
    run: Run,
    model: torch.nn.Module,
    train_set: VideoDataset | VideoStream,
    eval_set: VideoDataset | None,
    collator: ClipCollator,
    *,
    probe: Probe | None = None,
    teacher: Teacher | None = None,
) -> EvalLoopOutput | None:
    """Trains the model, and saves it with its processor, the settings and the results in `output_dir`.

    Returns:
        The predictions of the evaluation at the end; None without one.
    """
    args, record = run.training, RunRecord.of(run, model.config, train_set)
    check_evaluation(args, record.problem_type, eval_set, probe)
    resume = checkpoint_to_resume(run, record)
    if args.fsdp2:
        model = shard(model, args)
    distilling = {"teacher": teacher, "settings": run.distillation}
    trainer_class = VideoMAETrainer if teacher is None else partial(DistillationTrainer, **distilling)
    trainer = trainer_class(
        model=model,
        args=args,
        train_dataset=train_set,
        eval_dataset=eval_set,
        data_collator=collator,
        processing_class=training_processor(run, model.config),
        compute_metrics=None if args.prediction_loss_only else metrics_of(model.config.problem_type),
        probe=probe,
        record=record,
    )
    log_reconstructions(trainer, run.monitoring.reconstruction_videos)
    trainer.add_callback(PaceCallback(run.clips.num_sample))
    trainer.add_callback(DataWaitCallback())
    report(args, plan_lines(run, model, train_set))
    if args.overfit_check:
        report(args, check_learning(trainer))
    if args.should_save:
        record.write(args.output_dir, finished=False, **origin_of_run(run))
    result = trainer.train(resume_from_checkpoint=resume)
    save_results(run, trainer, record, result.metrics)
    return None if eval_set is None else trainer.last_evaluation


def checkpoint_to_resume(run: Run, record: RunRecord) -> str | None:
    """The checkpoint that the run resumes from, if any; raises ValueError if it is incomplete or of another run."""
    args = run.training
    resume = resume_path(args)
    if resume is not None:
        check_complete(resume)
        report(args, check_same_run(resume, record, allow_changes=args.allow_changes))
        report(args, [f"resuming from {resume}"])
    elif args.resume_from_checkpoint is not None:
        report(args, [f"no checkpoint in {args.output_dir}: starting at step 0"])
    return resume


def save_results(run: Run, trainer: Trainer, record: RunRecord, metrics: dict) -> None:
    """Saves the model, scores it, and writes the settings and the results."""
    args = run.training
    trainer.save_model()
    trainer.save_state()
    if trainer.eval_dataset is not None:
        scores = trainer.evaluate()
        trainer.log_metrics("eval", scores)
        metrics.update(scores)
    trainer.save_metrics("all", metrics)
    if trainer.is_world_process_zero():
        write_text(Path(args.output_dir, SETTINGS), yaml.safe_dump(run.as_recipe(), sort_keys=False))
        record.write(args.output_dir, finished=True, step=trainer.state.global_step, **origin_of_run(run))
    report(args, [f"Saved to {args.output_dir}"])
    if args.push_to_hub:  # last, so that the scores are in the model card and a failure loses nothing
        commit = trainer.push_to_hub()
        report(args, [] if commit is None else [f"Uploaded to {commit.commit_url}"])


def origin_of_run(run: Run) -> dict[str, str | None]:
    """The weights of others that a run starts from, for its record."""
    parts = run.video_text
    origin = origin_of(run.model.checkpoint or parts.text_checkpoint, run.distillation.teacher or parts.backbone)
    return {"base_model": origin.base_model, "base_license": origin.license}

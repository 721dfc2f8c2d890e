# Copyright 2026 The videomae_hf authors. Licensed under the Apache License, Version 2.0.
"""The settings of a run without a recipe, which follow from the number of its videos and the width of its model.

transformers' defaults (3 epochs, a rate of 5e-5, no warmup) are for language models that are finetuned on many texts.
A video transformer on a few hundred videos learns nothing in so few steps. Each setting that the command line gives
replaces its rule, and a recipe replaces all of them.
"""

import math
from dataclasses import dataclass

from transformers import IntervalStrategy, SchedulerType
from transformers.trainer_utils import SaveStrategy

from ..labels import labels_of, more_is_better
from .run import Run
from .training_arguments import VideoMAETrainingArguments


@dataclass(frozen=True)
class Rule:
    """What a kind of training needs.

    Args:
        learning_rate: peak learning rate of a model of width 768, for a total batch of `batch`.
        batch: videos per step.
        steps: fewest steps in which such a training has been seen to learn.
        fewest_epochs, most_epochs: limits of the number of epochs.
        warmup: share of the run over which the learning rate rises from 0.
    """

    learning_rate: float
    batch: int
    steps: int
    fewest_epochs: int
    most_epochs: int
    warmup: float


# The rates are those of the official runs of ViT-B, by the square root of the batch. Pretraining: 2.25e-4 at 192 videos
# (v1/pretrain_ucf101_base), 6e-4 at 1,024 (V1, Kinetics-400) and 4e-3 at 1,024 (V2); finetuning: 7.5e-4 at 384
# (v1/finetune_k400_base), 2.5e-4 at 128 (v1/finetune_ucf101_base), and 2e-4 at 16 here (finetune_small). The steps are
# those of the demo (pretraining) and of finetune_small on 300 videos.
RULES = {
    "pretrain": Rule(3e-4, batch=64, steps=5000, fewest_epochs=50, most_epochs=1600, warmup=0.05),
    "finetune": Rule(2e-4, batch=16, steps=1000, fewest_epochs=30, most_epochs=200, warmup=0.1),
    "videobert": Rule(3e-4, batch=64, steps=2000, fewest_epochs=10, most_epochs=200, warmup=0.1),
}
_WIDTH = 768  # of ViT-B
_HIGHEST_RATE = 2e-3
_FEW_VIDEOS = 1000  # below it, batches are smaller, so that an epoch has some steps
_SMALL_BATCH, _LARGEST_DEVICE_BATCH = 16, 8
_TRAINED_TEXT = 0.2  # factor of the rate for a text side that is trained already, which gives 6e-5 at 64 pairs
_CONTINUED = 1 / 3  # factor of the rate where pretraining starts from weights
_FEW_TRAINED = 5  # factor of the rate where adapters or the head alone are trained (LoRA, arXiv 2106.09685, section D)
_EVALUATIONS = 50  # most evaluations of a run
_CROPS_OF_FEW = [0.5, 1.0]  # areas of crops that keep the subject; the official 0.08 is for hundreds of thousands
_MANY_VIDEOS = 10_000

_BATCH = {"total_batch_size", "per_device_train_batch_size", "gradient_accumulation_steps"}
_RATE = {"learning_rate", "base_learning_rate"}
_SCHEDULE = {"lr_scheduler_type", "lr_scheduler_kwargs", "base_learning_rate"}
_LENGTH = {"num_train_epochs", "max_steps"}
_WARMUP = {"warmup_epochs", "warmup_steps", "warmup_ratio"}
_EVALUATION = {"eval_strategy", "eval_steps", "save_strategy", "save_steps"}


def provisional_settings(verb: str, given: set[str]) -> dict[str, str]:
    """Settings under which the arguments of a run are checked before its videos are known; rules replace them."""
    settings = {"num_train_epochs": str(RULES[verb].most_epochs)}
    if "early_stopping_patience" in given:
        settings["eval_strategy"] = "epoch"
    return settings


def follow_rules(
    run: Run, width: int, num_videos: int, *, evaluates: bool, num_processes: int | None = None
) -> tuple[Run, list[str]]:
    """Sets what neither a recipe nor the command line sets.

    Args:
        run: its `training` is changed.
        width: hidden size of the model.
        num_videos: videos of an epoch.
        evaluates: whether there are videos to evaluate on.
        num_processes: processes of the run; None is the number of those that run.

    Returns:
        The run with the settings of its groups changed, and a message; the run itself and [] if it has a recipe.
    """
    if not run.follows_rules:
        return run, []
    args, rule = run.training, RULES[run.verb]
    if not run.given & _BATCH:
        _set_batch(args, batch_for(rule, num_videos), num_processes or args.world_size)
    if not run.given & _LENGTH:
        args.num_train_epochs = epochs_for(rule, num_videos, args)
    if not run.given & _WARMUP:
        args.warmup_epochs = round(rule.warmup * args.num_train_epochs, 2)
    if not run.given & _RATE:
        args.learning_rate = rate_for(run, width)
    elif args.base_learning_rate is not None:
        args.learning_rate = args.effective_learning_rate  # for this batch
    if not run.given & _SCHEDULE:
        args.lr_scheduler_type = SchedulerType.COSINE
    if run.verb == "pretrain" and "adam_beta2" not in run.given:
        args.adam_beta2 = 0.95  # V1 and V2, run_mae_pretraining.py
    if "save_total_limit" not in run.given:
        args.save_total_limit = 2
    if run.verb == "finetune":
        run = _finetuning(run, num_videos)
    if evaluates:
        _set_evaluation(run, num_videos)
    return run, _described(run, num_videos)


def batch_for(rule: Rule, num_videos: int) -> int:
    """Videos per step: those of the rule, fewer for few videos, so that an epoch has at least four steps."""
    batch = min(rule.batch, _SMALL_BATCH) if num_videos < _FEW_VIDEOS else rule.batch
    while batch > 1 and num_videos < 4 * batch:
        batch //= 2
    return batch


def epochs_for(rule: Rule, num_videos: int, args: VideoMAETrainingArguments) -> int:
    """Epochs that make the steps of the rule, within its limits."""
    epochs = math.ceil(rule.steps / _steps_per_epoch(args, num_videos))
    epochs = min(max(epochs, rule.fewest_epochs), rule.most_epochs)
    return max(epochs, math.ceil(2 * args.warmup_epochs))


def _steps_per_epoch(args: VideoMAETrainingArguments, num_videos: int) -> int:
    return max(num_videos // args.total_batch_size, 1)


def rate_for(run: Run, width: int) -> float:
    """The peak learning rate for the batch of a run and the width of its model."""
    rule, args = RULES[run.verb], run.training
    rate = rule.learning_rate * math.sqrt(args.total_batch_size / rule.batch) * _WIDTH / width
    if args.lora_rank or args.freeze_encoder:
        rate *= _FEW_TRAINED
    if run.verb == "pretrain" and run.model.checkpoint:
        rate *= _CONTINUED
    if run.verb == "videobert" and (run.model.checkpoint or run.video_text.text_checkpoint):
        rate *= _TRAINED_TEXT
    return float(f"{min(rate, _HIGHEST_RATE):.2g}")


def _set_batch(args: VideoMAETrainingArguments, total: int, num_processes: int) -> None:
    """Sets the batch of a step, a multiple of the processes, and its division into forward passes."""
    share = math.ceil(total / num_processes)  # of a process
    size = max(size for size in range(1, min(share, _LARGEST_DEVICE_BATCH) + 1) if share % size == 0)
    args.per_device_train_batch_size, args.gradient_accumulation_steps = size, share // size
    args.total_batch_size, args.total_is_given = share * num_processes, True


def _finetuning(run: Run, num_videos: int) -> Run:
    """Layer decay for weights that are worth keeping, and larger crops for few videos."""
    args = run.training
    few_trained = args.lora_rank or args.freeze_encoder
    if run.model.checkpoint and not few_trained and "layer_decay" not in run.given:
        args.layer_decay = 0.75  # the official one of ViT-B
    if num_videos < _MANY_VIDEOS and "crop_scale" not in run.given:
        run = run.changed(crop_scale=_CROPS_OF_FEW)
    return run


def _set_evaluation(run: Run, num_videos: int) -> None:
    """Evaluates and saves after each epoch, at most 50 times; finetuning keeps the best checkpoint."""
    args = run.training
    if run.given & _EVALUATION:
        return
    args.do_eval = True  # as transformers sets it for a strategy
    epochs = args.max_steps / _steps_per_epoch(args, num_videos) if args.max_steps > 0 else args.num_train_epochs
    if epochs <= _EVALUATIONS:
        args.eval_strategy, args.save_strategy = IntervalStrategy.EPOCH, SaveStrategy.EPOCH
    else:
        args.eval_strategy, args.save_strategy = IntervalStrategy.STEPS, SaveStrategy.STEPS
        args.eval_steps = args.save_steps = 1 / _EVALUATIONS  # of the run
    if run.verb == "finetune" and "load_best_model_at_end" not in run.given:
        metric = args.metric_for_best_model or next(iter(labels_of(run.problem_type).metrics))
        args.load_best_model_at_end, args.metric_for_best_model = True, metric
        args.greater_is_better = more_is_better(metric)


def _described(run: Run, num_videos: int) -> list[str]:
    """The line about the settings that follow from rules, also where they equal the defaults; none if all are given."""
    args = run.training
    instead = {
        "total_batch_size": _BATCH,
        "num_train_epochs": _LENGTH,
        "warmup_epochs": _WARMUP | {"max_steps"},  # for which they are a share of the run, and no number of epochs
        "learning_rate": _RATE,
    }
    settings = [f"{name} {getattr(args, name):g}" for name, options in instead.items() if not run.given & options]
    if args.layer_decay != 1 and "layer_decay" not in run.given:
        settings.append(f"layer_decay {args.layer_decay:g}")
    if "crop_scale" not in run.given and run.augmentation.crop_scale == _CROPS_OF_FEW:
        settings.append("crop_scale 0.5 1.0")
    if args.load_best_model_at_end and "load_best_model_at_end" not in run.given:
        settings.append(f"the best checkpoint by {args.metric_for_best_model}")
    if not settings:
        return []
    return [
        f"no recipe, so that these follow from {num_videos:,} videos and the size of the model: {', '.join(settings)}; "
        f"an option replaces its rule"
    ]

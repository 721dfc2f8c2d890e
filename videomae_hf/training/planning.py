# Copyright 2026 The videomae_hf authors. Licensed under the Apache License, Version 2.0.
"""Plans a run before it starts (batch, schedule, memory), and reports its pace once that is known.

Planning needs neither weights nor data nor GPUs, so that `videomae plan` runs on any machine.
"""

import math
import re
import time

import torch
from torch import nn
from tqdm import tqdm
from transformers import TrainerCallback

from ..data.shared_work import usable_cores
from ..data.video_stream import VideoStream
from ..messages import count
from ..models.configuration_videomae_v2 import VideoMAEV2Config
from ..models.masking import token_counts
from ..models.modeling_videomae_v2 import VideoMAEV2ForPreTraining, VideoMAEV2ForVideoClassification
from ..settings.rules import RULES, rate_for
from ..settings.run import Run
from ..settings.training_arguments import VideoMAETrainingArguments
from .adaptation import adapted
from .classifier_head import selected_tokens
from .memory_estimate import GIB, MemorySettings, estimate_memory
from .step_cost import example_batch, seconds_per_clip, step_macs


# A run gets a warning for less than this part of the steps that its rule asks for, and for a learning rate that is off
# by more than this factor, unless it has an official schedule (base_learning_rate).
_FEW_STEPS, _FAR_OFF = 0.5, 20
_LARGEST_TIMED = 400e6  # parameters of a model that `videomae plan` times on a CPU
_ASSUMED_RATE = 100e12  # multiply-adds and additions per second of a GPU that is not there, about a third of an A100's
_MOST_WAIT, _ENTRIES_OF_WAIT = 0.3, 3  # part of the time that a run may wait for its data, mean of entries of the log
# Fraction of the GPU memory for tensors; CUDA, its libraries and fragmentation need the rest.
USABLE = 0.9


def fit_batch(run: Run, model, num_gpus: int | None = None) -> list[str]:
    """With `fit`, chooses the batch of each GPU, the accumulation steps and, if necessary, activation checkpointing.

    The batch is the largest that the memory estimate allows and that divides `total_batch_size`. Neither the result of
    a step nor the learning rate changes.

    Args:
        run: batch size, accumulation steps and activation checkpointing are set in its `training`.
        model: the model, with frozen layers and adapters as in training.
        num_gpus: number of GPUs of the run; None is the number of its processes.

    Returns:
        Messages to print, [] without `fit`.

    Raises:
        ValueError: `fit` is malformed or names another number of GPUs, or not even one video fits.
    """
    args = run.training
    if args.fit is None:
        return []
    wanted, memory = gpus_of(args)
    num_gpus = args.world_size if num_gpus is None else num_gpus
    if wanted != num_gpus:
        raise ValueError(
            f"fit={args.fit} is for {wanted} GPUs, but {num_gpus} run; start with torchrun --nproc_per_node {wanted}, "
            f"or set fit to the GPUs that run."
        )
    total = args.total_batch_size
    if total % num_gpus:
        raise ValueError(
            f"total_batch_size={total} is not divisible by {num_gpus} GPUs; start a number of GPUs that divides it."
        )
    share = total // num_gpus
    sizes = [size for size in range(share, 0, -1) if share % size == 0]
    given = bool(args.activation_checkpointing)
    for size, checkpointing in [(size, given) for size in sizes] + [(size, True) for size in sizes]:
        needed = sum(estimate_memory(model, memory_settings(run, size, num_gpus, checkpointing=checkpointing)).values())
        if needed <= USABLE * memory:
            break
    else:
        raise ValueError(
            f"fit={args.fit}: one video with activation checkpointing needs {needed / GIB:.1f} GiB by estimate, more "
            f"than {USABLE:.0%} of {memory / GIB:.1f} GiB; use larger GPUs, --fsdp2 true, or a smaller model."
        )
    args.per_device_train_batch_size, args.gradient_accumulation_steps = size, share // size
    args.activation_checkpointing = args.gradient_checkpointing = checkpointing
    chosen = " and activation checkpointing" if checkpointing and not given else ""
    return [
        f"fit {args.fit}: chose per_device_train_batch_size {size}{chosen}; {needed / GIB:.1f} of {memory / GIB:.1f} "
        f"GiB by estimate"
    ]


def gpus_of(args: VideoMAETrainingArguments) -> tuple[int, float]:
    """(number of GPUs, bytes of the smallest of them) that `fit` names. GB means GiB, as in the names of GPUs."""
    if args.fit == "auto":
        if args.device.type != "cuda":
            raise ValueError("fit=auto needs a GPU; name the GPUs of the run instead, such as --fit 1x24GB.")
        here = [torch.cuda.get_device_properties(index) for index in range(torch.cuda.device_count())]
        return args.world_size, min(properties.total_memory for properties in here)
    read = re.fullmatch(r"(\d+)x(\d+(?:\.\d+)?)GB", args.fit)
    if not read or int(read[1]) == 0:
        raise ValueError(f"fit={args.fit!r} is neither auto nor a number of GPUs and their memory, such as 1x24GB.")
    return int(read[1]), float(read[2]) * GIB


def memory_settings(run: Run, batch: int, num_gpus: int, *, checkpointing: bool) -> MemorySettings:
    """The settings of a run that determine its memory, for a batch of `batch` videos per process."""
    args = run.training
    return MemorySettings(
        clips=batch * run.clips.num_sample,
        mixed_precision=args.bf16 or args.fp16,
        checkpointing=checkpointing,
        num_processes=num_gpus,
        sharded=bool(args.fsdp2 or args.fsdp),
        averaged=args.ema_decay is not None,
        token_keep=min(run.augmentation.token_keep, run.static_tokens.static_keep or 1.0),
        float_pixels=run.augmentation.mixes or run.augmentation.random_erasing > 0,
        muon=args.muon,
    )


def plan_lines(
    run: Run, model, train_set=None, num_gpus: int | None = None, num_videos: int | None = None
) -> list[str]:
    """Describes a run, one line each for model, data, batch, learning rate, length and memory.

    Args:
        run: settings, after `fit_batch`.
        model: the model to train.
        train_set: training set of the run; None if there is none.
        num_gpus: as in `fit_batch`.
        num_videos: videos of an epoch without a training set; None leaves out the number of steps.
    """
    args, num_sample = run.training, run.clips.num_sample
    num_gpus = args.world_size if num_gpus is None else num_gpus
    settings = memory_settings(
        run, args.per_device_train_batch_size, num_gpus, checkpointing=bool(args.activation_checkpointing)
    )
    lines = [_model_line(model), _processes_line(args, train_set, num_gpus)]
    views = f" videos, each as {num_sample} clips" if num_sample > 1 else ""
    lines.append(
        f"total batch {args.total_batch_size}{views} = {args.per_device_train_batch_size} a process x "
        f"{count(num_gpus, 'process')} x {count(args.gradient_accumulation_steps, 'accumulation step')}"
    )
    if args.per_device_train_batch_size == 1 and (run.augmentation.mixup_alpha or run.augmentation.cutmix_alpha):
        lines.append(
            "WARNING: clips are mixed within the batch of a process, which has only one video; use at least two"
        )
    steps = steps_of(args, train_set) if train_set is not None else planned_steps(args, num_videos)
    warnings = [] if steps is None else cannot_learn(run, model.config.hidden_size, steps[1])
    return [*lines, *_schedule_lines(args, steps), *warnings, memory_line(model, settings)]


def _model_line(model) -> str:
    config = model.config
    parameters = sum(parameter.numel() for parameter in model.parameters())
    trained = sum(parameter.numel() for parameter in model.parameters() if parameter.requires_grad)
    line = f"{type(model).__name__}: {parameters:,} parameters"
    line += "" if trained == parameters else f", {trained:,} of them trained"
    line += f", {config.num_frames} frames of {config.image_hw}, {config.sequence_length} tokens"
    if isinstance(model, VideoMAEV2ForPreTraining):
        visible, decoded = token_counts(config)
        line += f", of which {visible} are encoded and {decoded} decoded"
    return line


def _processes_line(args: VideoMAETrainingArguments, train_set, num_gpus: int) -> str:
    if train_set is None:
        return count(num_gpus, "process")
    # The length of a stream counts only this process.
    num_videos = train_set.source.num_videos if isinstance(train_set, VideoStream) else len(train_set)
    line = f"{count(num_gpus, 'process')} on {args.device.type}, {count(num_videos, 'video')} an epoch"
    left_over = num_videos - steps_of(args, train_set)[0] * args.videos_per_step
    return line + (f", of which {left_over} are left out, as they do not fill a step" if left_over > 0 else "")


def _schedule_lines(args: VideoMAETrainingArguments, steps: tuple[int, int] | None) -> list[str]:
    """Lines about rate and length; `steps` are those of an epoch and of the run, None if unknown."""
    rate = f"learning rate {args.learning_rate:g}"
    if args.base_learning_rate is not None:
        scale = args.total_batch_size / 256
        rate += f" = {args.base_learning_rate:g} x {args.total_batch_size} / 256, on a cosine to "
        rate += f"{args.base_min_learning_rate * scale:g} = {args.base_min_learning_rate:g} x {scale:g}"
    rate += f", layer decay {args.layer_decay:g}"
    if steps is None:
        return [rate, f"{args.num_train_epochs:g} epochs, of which {args.warmup_epochs:g} of warmup from 0"]
    epoch, total = steps
    length = f"{total:,} steps, {epoch:,} an epoch, {total / epoch:.4g} epochs"
    warmup = args.get_warmup_steps(total)
    return [rate, length + (f"; warmup from 0 over {warmup:,} of them" if warmup else "; no warmup")]


def cannot_learn(run: Run, width: int, steps: int) -> list[str]:
    """Warnings about a run that cannot be expected to learn anything, by the rules for runs without a recipe.

    Args:
        run: the settings.
        width: hidden size of the model.
        steps: optimizer steps of the run.
    """
    args, rule = run.training, RULES.get(run.verb)
    if rule is None or args.base_learning_rate is not None or run.smoke.smoke_test:
        return []
    warnings, usual = [], rate_for(run, width)
    if steps < _FEW_STEPS * rule.steps:
        length = "max_steps" if args.max_steps > 0 else "num_train_epochs, or lower the batch"
        warnings.append(
            f"WARNING: {steps:,} steps are rarely enough to learn anything, for which about {rule.steps:,} are usual; "
            f"raise {length}"
        )
    if not usual / _FAR_OFF <= args.learning_rate <= usual * _FAR_OFF:
        what = "low" if args.learning_rate < usual else "high"
        warnings.append(
            f"WARNING: learning_rate={args.learning_rate:g} is far too {what} for a model of width {width} and batches "
            f"of {args.total_batch_size}, for which about {usual:g} is usual"
        )
    return warnings


def planned_steps(args: VideoMAETrainingArguments, num_videos: int | None) -> tuple[int, int] | None:
    """(optimizer steps per epoch, optimizer steps of the run) on the processes that total_batch_size is for."""
    if num_videos is None:
        return None
    epoch = num_videos / args.total_batch_size
    epoch = math.floor(epoch) if args.dataloader_drop_last else math.ceil(epoch)
    if epoch == 0:
        raise ValueError(
            f"{num_videos} videos do not fill a step of total_batch_size={args.total_batch_size}; lower that."
        )
    return epoch, args.max_steps if args.max_steps > 0 else math.ceil(args.num_train_epochs * epoch)


def steps_of(args: VideoMAETrainingArguments, train_set) -> tuple[int, int]:
    """(optimizer steps per epoch, optimizer steps of the run), as the Trainer counts them."""
    if isinstance(train_set, VideoStream):
        epoch = math.ceil(train_set.num_batches / args.gradient_accumulation_steps)
    else:
        epoch = args.steps_per_epoch(len(train_set))
    return epoch, args.max_steps if args.max_steps > 0 else math.ceil(args.num_train_epochs * epoch)


def memory_line(model, settings: MemorySettings) -> str:
    """The memory estimate for one process, as a line with the largest parts first."""
    parts = estimate_memory(model, settings)
    total = sum(parts.values())
    unit, name = (GIB, "GiB") if total >= GIB else (GIB / 1024, "MiB")
    ranked = sorted(parts.items(), key=lambda part: -part[1])
    shown = ", ".join(f"{part} {size / unit:.2f}" for part, size in ranked if size)
    how = "with" if settings.checkpointing else "without"
    return f"memory of a process, by estimate: {total / unit:.1f} {name} {how} activation checkpointing ({shown})"


def new_model(run: Run, model_class: type[nn.Module], config: VideoMAEV2Config) -> nn.Module:
    """A model with random weights that counts as one of the checkpoint of the settings, which is not read.

    It encodes the part of the tokens that the settings name; with a threshold, which depends on the videos, all.
    """
    model = model_class(config)
    if isinstance(model, VideoMAEV2ForVideoClassification) and run.static_tokens.static_threshold is None:
        selected_tokens(run, model)
    model.name_or_path = run.model.checkpoint or ""  # without which adapters are refused
    return model


def cost_lines(
    run: Run, model: nn.Module, model_class: type[nn.Module], num_gpus: int, num_videos: int | None
) -> list[str]:
    """Lines about the arithmetic and the time of a run.

    Args:
        run: the settings, after `fit_batch`.
        model: the model on the meta device.
        model_class: its class, of which a model with random weights is timed if the run is for this machine.
        num_gpus: number of GPUs that `fit` names.
        num_videos: videos of an epoch, None if it is unknown.
    """
    args, config = run.training, model.config
    clips = args.total_batch_size * run.clips.num_sample
    macs = clips * step_macs(model, example_batch(model, config, 1, "meta"))
    lines = [f"arithmetic of a step: {2 * macs / 1e12:.3g} TFLOP (forward and backward pass of {clips:,} clips)"]
    steps = planned_steps(args, num_videos)
    total = None if steps is None else steps[1]
    if args.fit is not None and args.fit != "auto":
        seconds = 2 * macs / (_ASSUMED_RATE * num_gpus)
        where = f"on {count(num_gpus, 'GPU')} at {_ASSUMED_RATE / 1e12:.0f} TFLOP/s each"
    elif not torch.cuda.is_available() and sum(one.numel() for one in model.parameters()) > _LARGEST_TIMED:
        return [*lines, "time: not measured, as the model is too large for the CPU of this machine"]
    else:
        timed, _ = adapted(new_model(run, model_class, config), run)
        seconds = clips * seconds_per_clip(timed, config, args.per_device_train_batch_size * run.clips.num_sample)
        where = "measured on this machine, with random clips"
    whole = "" if total is None else f"; {total:,} steps take about {duration(total * seconds)}"
    one = f"{seconds:.2g} s" if seconds < 60 else duration(seconds)
    return [*lines, f"a step takes {one} ({where}, without decoding and evaluation){whole}"]


class PaceCallback(TrainerCallback):
    """Prints the pace of the run and its remaining time, at the first log entry after two steps.

    The first step is not counted, because it includes the start of the data loaders and compilation.
    """

    def __init__(self, num_sample: int = 1) -> None:
        self.num_sample = num_sample
        self._begun, self._said = None, False

    def on_step_end(self, args, state, control, **kwargs) -> None:
        if self._begun is None:
            self._begun = (state.global_step, time.perf_counter())

    def on_log(self, args, state, control, **kwargs) -> None:
        steps = state.global_step - self._begun[0] if self._begun else 0
        if steps < 1 or self._said or not state.is_world_process_zero:
            return
        seconds = (time.perf_counter() - self._begun[1]) / steps
        videos = args.total_batch_size / seconds
        clips = f" ({videos * self.num_sample:.3g} clips)" if self.num_sample > 1 else ""
        left = state.max_steps - state.global_step
        rest = f"; the {left:,} steps left take about {duration(left * seconds)}, without evaluation" if left else ""
        tqdm.write(f"pace: {videos:.3g} videos/s{clips}, {seconds:.3g} s/step{rest}")  # above the progress bar
        self._said = True


class DataWaitCallback(TrainerCallback):
    """Prints a line, once, where a run waits for its videos in a large part of its time."""

    def __init__(self) -> None:
        self._waits: list[float] = []  # of the entries of the log, except the first, which includes the start
        self._said = False

    def on_log(self, args, state, control, logs: dict | None = None, **kwargs) -> None:
        if "data_wait" not in (logs or {}) or self._said or not state.is_world_process_zero:
            return
        self._waits.append(logs["data_wait"])
        waits = self._waits[1:][-_ENTRIES_OF_WAIT:]
        wait = sum(waits) / max(len(waits), 1)
        if len(waits) == _ENTRIES_OF_WAIT and wait > _MOST_WAIT:
            self._said = True
            workers = (
                f"--dataloader_num_workers (now {args.dataloader_num_workers}; this machine has {usable_cores()} cores)"
            )
            tqdm.write(
                f"data_wait = {wait:.2f}: the run waits for its videos in this part of the time. Raise {workers}, or "
                f"convert the videos once with `videomae prepare`, whose files are made for fast decoding."
            )


def duration(seconds: float) -> str:
    """Formats a duration in its two largest units: "3 d 4 h", "2 h 5 min", "40 s"."""
    if seconds < 60:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    if minutes < 60:
        return f"{minutes} min"
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes} min" if hours < 24 else f"{hours // 24} d {hours % 24} h"

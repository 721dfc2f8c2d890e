# Copyright 2026 The videomae_hf authors. Licensed under the Apache License, Version 2.0.
"""transformers' Trainer with what the official recipes need: the learning rate rule, weight decay and layer decay.

Rules from v1/run_mae_pretraining.py, v1/run_class_finetuning.py, v1/optim_factory.py and v1/utils.py.
"""

import math
import re
import time
from contextlib import contextmanager
from dataclasses import dataclass, field

import torch
from transformers import Trainer, TrainerCallback, TrainingArguments

from .data import BadVideosError
from .streams import SkippingCollator, VideoStream


@dataclass
class VideoMAETrainingArguments(TrainingArguments):
    """transformers' TrainingArguments; new fields first, then the ones whose default is another."""

    base_learning_rate: float | None = field(
        default=None,
        metadata={"help": "Learning rate for a total batch of 256 clips; the effective one is in proportion."},
    )
    base_min_learning_rate: float = field(
        default=0.0, metadata={"help": "Where the cosine schedule ends, for a total batch of 256 clips as well."}
    )
    warmup_epochs: float = field(default=0.0, metadata={"help": "Epochs of linear warmup from 0."})
    layer_decay: float = field(
        default=1.0, metadata={"help": "Factor of the learning rate from each encoder layer to the one below it."}
    )
    max_bad_fraction: float = field(
        default=0.1, metadata={"help": "Part of the videos that may turn out unreadable before the run stops."}
    )

    output_dir: str | None = field(default="output", metadata={"help": "Where checkpoints and results go."})
    weight_decay: float = field(default=0.05, metadata={"help": "Weight decay; not of biases, norms and tokens."})
    remove_unused_columns: bool = field(default=False, metadata={"help": "Keep False: inputs are built here."})
    dataloader_drop_last: bool = field(
        default=True, metadata={"help": "Leave out the incomplete last batch of training."}
    )
    ddp_find_unused_parameters: bool | None = field(default=False, metadata={"help": "Every parameter is used."})
    logging_steps: float = field(default=10, metadata={"help": "Steps between lines of the log."})

    def __post_init__(self):
        super().__post_init__()
        if self.warmup_epochs > self.num_train_epochs:
            raise ValueError(
                f"warmup_epochs={self.warmup_epochs} is longer than num_train_epochs={self.num_train_epochs}."
            )
        if self.base_learning_rate is None:
            if self.base_min_learning_rate:
                raise ValueError(
                    f"base_min_learning_rate={self.base_min_learning_rate} goes with base_learning_rate; set that, or "
                    f"lr_scheduler_kwargs."
                )
            return
        given = self.learning_rate
        default = TrainingArguments.__dataclass_fields__["learning_rate"].default
        # The second is what this method wrote when the same arguments are built again (from training_args.bin, say).
        if given not in (default, self.effective_learning_rate):
            raise ValueError(
                f"learning_rate={given} and base_learning_rate={self.base_learning_rate} are both set; keep one "
                f"(--learning_rate on the command line replaces the base_learning_rate of a recipe)."
            )
        self.learning_rate = self.effective_learning_rate
        self.lr_scheduler_type = "cosine_with_min_lr"
        self.lr_scheduler_kwargs = {"min_lr_rate": self.base_min_learning_rate / self.base_learning_rate}

    @property
    def total_batch_size(self) -> int:
        """Clips of one optimizer step, over all processes and accumulation steps."""
        return self.train_batch_size * self.gradient_accumulation_steps * self.world_size

    @property
    def effective_learning_rate(self) -> float:
        """`base_learning_rate * total_batch_size / 256`, the rule of V1 and V2."""
        return self.base_learning_rate * self.total_batch_size / 256

    def get_warmup_steps(self, num_training_steps: int) -> int:
        """Steps of `warmup_epochs`: their share of `num_train_epochs`, also where `max_steps` cuts a run short."""
        if self.warmup_epochs == 0:
            return super().get_warmup_steps(num_training_steps)
        return round(self.warmup_epochs / self.num_train_epochs * num_training_steps)


def parameter_groups(
    model: torch.nn.Module, learning_rate: float, weight_decay: float, layer_decay: float
) -> list[dict]:
    """Optimizer groups: weight decay as in the official code, and a learning rate for each layer.

    No decay for biases, vectors (norms, layer scale), the mask token and position tables (v1/optim_factory.py), nor
    for the scale of cosine attention (V2). Layers are numbered 0 for the embeddings, i + 1 for block i, and
    depth + 1 for all behind, head and decoder; the rate of layer n is that of the head times
    `layer_decay ** (depth + 1 - n)`. The head comes first: its rate is the one the Trainer logs.
    """
    depth = model.config.num_hidden_layers
    groups = {}
    for name, parameter in model.named_parameters():
        if not parameter.requires_grad:
            continue
        bare = name.rsplit(".", 1)[-1]
        decayed = parameter.ndim > 1 and bare not in ("bias", "mask_token", "position_embeddings", "scale")
        distance = depth + 1 - layer_number(name, depth)
        key = (distance, not decayed)
        if key not in groups:
            groups[key] = {
                "params": [],
                "lr": learning_rate * layer_decay**distance,
                "weight_decay": weight_decay if decayed else 0.0,
            }
        groups[key]["params"].append(parameter)
    return [groups[key] for key in sorted(groups)]


def layer_number(name: str, depth: int) -> int:
    """0 for the embeddings, i + 1 for block i of the encoder, depth + 1 for everything else."""
    if "embeddings." in name and "decoder" not in name:
        return 0
    block = re.search(r"(?:^|\.)encoder\.layer\.(\d+)\.", name)
    return int(block.group(1)) + 1 if block else depth + 1


class VideoMAETrainer(Trainer):
    """`Trainer` with the official parameter groups, a log that tells what it waits for, and a limit on bad videos."""

    args: VideoMAETrainingArguments

    def __init__(self, *args, **kwargs):
        super().__init__(*args, **kwargs)
        self._seconds_waiting = self._seconds_computing = 0.0
        self._steps_timed = 0
        self.add_callback(_DataCallback(self))
        if isinstance(self.train_dataset, VideoStream):
            self.add_callback(_SkipCallback(self.train_dataset))

    def create_optimizer(self, model=None) -> torch.optim.Optimizer:
        if self.optimizer is None and self.optimizer_cls_and_kwargs is None:
            model = self.model if model is None else model
            args = self.args
            optimizer_class, options = self.get_optimizer_cls_and_kwargs(args, model)
            options["params"] = parameter_groups(model, args.learning_rate, args.weight_decay, args.layer_decay)
            self.optimizer_cls_and_kwargs = (optimizer_class, options)
        return super().create_optimizer(model)

    def get_train_dataloader(self):
        """A stream goes past accelerate, which would share it out again: it is this process's part already."""
        stream, args = self.train_dataset, self.args
        if not isinstance(stream, VideoStream):
            return super().get_train_dataloader()
        return torch.utils.data.DataLoader(
            stream,
            batch_size=stream.batch_size,
            collate_fn=SkippingCollator(self.data_collator),
            num_workers=args.dataloader_num_workers,
            pin_memory=args.dataloader_pin_memory,
            persistent_workers=args.dataloader_persistent_workers,
            prefetch_factor=args.dataloader_prefetch_factor,
            multiprocessing_context=args.dataloader_multiprocessing_context,
        )

    def get_eval_dataloader(self, *args, **kwargs):
        with _last_batch_kept(self.args):
            return super().get_eval_dataloader(*args, **kwargs)

    def get_test_dataloader(self, *args, **kwargs):
        with _last_batch_kept(self.args):
            return super().get_test_dataloader(*args, **kwargs)

    def get_batch_samples(self, *args, **kwargs):
        start = time.perf_counter()
        batches = super().get_batch_samples(*args, **kwargs)
        self._seconds_waiting += time.perf_counter() - start
        return batches

    def log(self, logs: dict[str, float], *args, **kwargs):
        """Adds `clips_per_second` (of all processes) and `data_wait`, the part of the time spent waiting for data."""
        seconds = self._seconds_waiting + self._seconds_computing
        if "loss" in logs and self._steps_timed and seconds > 0:
            logs["clips_per_second"] = round(self._steps_timed * self.args.total_batch_size / seconds, 2)
            logs["data_wait"] = round(self._seconds_waiting / seconds, 3)
            self._seconds_waiting = self._seconds_computing = 0.0
            self._steps_timed = 0
        if "loss" in logs or "train_loss" in logs:  # which every process logs
            bad, total = self._count_bad_videos()
            if bad:
                logs["bad_videos"] = bad
                self._check_bad_fraction(bad, total)
        super().log(logs, *args, **kwargs)

    def evaluate(self, *args, **kwargs) -> dict[str, float]:
        metrics = super().evaluate(*args, **kwargs)
        prefix = kwargs.get("metric_key_prefix", "eval")
        bad, good = metrics.get(f"{prefix}_unreadable", 0), metrics.get(f"{prefix}_videos", 0)
        self._check_bad_fraction(bad, bad + good)
        return metrics

    def _count_bad_videos(self) -> tuple[int, int]:
        """Videos of the training set that are known to be bad, over all processes, and how many there are.

        Called by every process at the same step. Each then knows the bad videos of all, so that none is tried twice.
        """
        dataset = self.train_dataset
        if not hasattr(dataset, "bad_videos"):
            return 0, 0
        if self.args.world_size > 1:
            bad = dataset.bad.to(self.args.device, torch.uint8)
            torch.distributed.all_reduce(bad, torch.distributed.ReduceOp.MAX)
            dataset.bad[bad.cpu().bool()] = True  # writes True alone: a worker may have found another one meanwhile
        return dataset.bad_videos()

    def _check_bad_fraction(self, bad: int, total: int):
        if bad > self.args.max_bad_fraction * total:
            raise BadVideosError(
                f"{bad} of {total} videos cannot be read, more than max_bad_fraction={self.args.max_bad_fraction} "
                f"allows. Their names are in the log above; mend the data or raise the limit."
            )


@contextmanager
def _last_batch_kept(args: VideoMAETrainingArguments):
    """`dataloader_drop_last` is meant for training; transformers would leave videos out of evaluations too."""
    drop_last, args.dataloader_drop_last = args.dataloader_drop_last, False
    try:
        yield
    finally:
        args.dataloader_drop_last = drop_last


class _DataCallback(TrainerCallback):
    """Tells the data set its epoch, keeps the clock and stops a run on bad data."""

    def __init__(self, trainer: VideoMAETrainer):
        self.trainer = trainer

    def on_epoch_begin(self, args, state, control, **kwargs):
        # The Trainer does this in single-process runs only. A resumed run begins within an epoch.
        if hasattr(self.trainer.train_dataset, "set_epoch"):
            self.trainer.train_dataset.set_epoch(int(state.epoch + 1e-6))

    def on_step_begin(self, args, state, control, **kwargs):
        self.started = time.perf_counter()

    def on_step_end(self, args, state, control, **kwargs):
        self.trainer._seconds_computing += time.perf_counter() - self.started
        self.trainer._steps_timed += 1
        if args.world_size == 1:  # several processes agree when they log
            self.trainer._check_bad_fraction(*self.trainer._count_bad_videos())


class _SkipCallback(TrainerCallback):
    """Tells a stream which batches of a resumed epoch are dropped, so that it does not decode them.

    The Trainer reads an iterable data set from the start and drops as many batches as the epoch has had.
    """

    def __init__(self, stream: VideoStream):
        self.stream = stream

    def on_epoch_begin(self, args, state, control, **kwargs):
        accumulated = args.gradient_accumulation_steps
        steps = math.ceil(self.stream.num_batches / accumulated)
        self.stream.skip_batches(0 if args.ignore_data_skip else state.global_step % steps * accumulated)

# Copyright 2026 The videomae_hf authors. Licensed under the Apache License, Version 2.0.
"""Protects a run against interrupted writes, non-finite losses and signals.

Checkpoints: an interrupted write (a kill, a crash, a full disk) leaves a checkpoint that is recognised as incomplete
and not used (`checkpoints/run_folders.py` has the rule).

Losses: a non-finite loss or gradient ends the run before it reaches the weights, and the videos are named.

Signals: a run that receives SIGTERM or SIGINT finishes its step, saves a checkpoint and ends, in all processes.
"""

import functools
import json
import logging
import math
import os
import shutil
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import torch
from accelerate.utils import gather_object
from safetensors import SafetensorError
from transformers import Trainer, TrainerCallback, TrainerState, TrainingArguments
from transformers.trainer import TRAINING_ARGS_NAME
from transformers.trainer_pt_utils import safe_globals

from ..checkpoints.run_folders import RECORD, STATE, last_checkpoint, missing_file
from ..models.checkpoint_files import read_pickle, read_tensors
from ..text_files import write_text


logger = logging.getLogger(__name__)


class CannotWriteError(OSError):
    """A folder could not be written, for example because the disk is full."""


def check_complete(checkpoint: str | Path) -> None:
    """Raises ValueError for a checkpoint from which a run cannot resume.

    All of its files are opened, because an error in the Trainer would not name the damaged file.
    """
    checkpoint = Path(checkpoint)
    if not checkpoint.is_dir():
        raise ValueError(
            f"resume_from_checkpoint={checkpoint} is not a folder; `last` is the last checkpoint in output_dir."
        )
    missing = missing_file(checkpoint)
    if missing is not None:
        other = last_checkpoint(checkpoint.parent)
        raise ValueError(
            f"{checkpoint} is incomplete: {missing} is missing or damaged. "
            + (f"{other} is complete." if other else "No checkpoint next to it is complete.")
        )
    for path in sorted([*checkpoint.iterdir(), *checkpoint.glob("ema/*")]):
        if path.suffix == ".safetensors":
            read_tensors(path)
        elif path.suffix in (".pt", ".pth", ".bin") and path.name != TRAINING_ARGS_NAME:  # which is never read
            with safe_globals():  # allows numpy's random state
                read_pickle(path)


@contextmanager
def checkpoint_written(checkpoint: Path, *, by_this_process: bool) -> Iterator[None]:
    """Context in which a checkpoint is written. After an error the checkpoint is removed, and the error names it."""
    if by_this_process:
        # From an earlier run: until these files are written again, the checkpoint counts as incomplete.
        (checkpoint / STATE).unlink(missing_ok=True)
        (checkpoint / RECORD).unlink(missing_ok=True)
    try:
        with folder_named(checkpoint):
            yield
    except CannotWriteError as error:
        if by_this_process:  # frees the space on a full disk
            shutil.rmtree(checkpoint, ignore_errors=True)
        last = last_checkpoint(checkpoint.parent)
        raise CannotWriteError(
            f"{error} " + (f"The last complete checkpoint is {last}." if last else "There is no complete checkpoint.")
        ) from error


@contextmanager
def folder_named(folder: Path | str) -> Iterator[None]:
    """Context in which files are written: errors of their writers become a `CannotWriteError` that names the folder."""
    try:
        yield
    except (OSError, SafetensorError, RuntimeError) as error:
        # An OSError without a number does not come from the system, but for example from a request to the Hub. On a
        # full disk, torch.save raises a RuntimeError of its archive writer.
        if isinstance(error, OSError) and error.errno is None:
            raise
        if isinstance(error, RuntimeError) and "inline_container.cc" not in str(error):
            raise
        reason = str(error).splitlines()[0]
        raise CannotWriteError(f"{folder} could not be written ({reason}). Is the disk full?") from error


def flush_to_disk(folder: Path | str) -> None:
    """Flushes the files of a folder to the disk, so that they survive a power failure."""
    for path in Path(folder).rglob("*"):
        if path.is_file():
            with open(path, "rb+") as file:
                os.fsync(file.fileno())


def check_finite(model: torch.nn.Module, step: int) -> None:
    """Raises FloatingPointError if a weight is not finite, so that no checkpoint contains such weights."""
    for name, parameter in model.named_parameters():
        if not parameter.detach().isfinite().all():
            raise FloatingPointError(
                f"{name} is not finite after step {step}; no checkpoint is written. A lower learning rate may help."
            )


@dataclass
class NamingCollator:
    """A collator that adds the names of the videos to the batch, as `paths`; `StepRecord` removes them again."""

    collate: Callable

    def __call__(self, items: list) -> dict:
        views = [view for item in items for view in (item if isinstance(item, list) else [item])]
        paths = [view.pop("path", None) for view in views]
        return {**self.collate(items), "paths": paths}


class StepRecord:
    """The losses and videos of the batches of an optimizer step in this process."""

    def __init__(self) -> None:
        self.paths, self.losses, self.last_batch = [], [], {}

    def begin(self, batches: list[dict]) -> None:
        """Starts a step with these batches, and removes their `paths`."""
        self.paths, self.losses = [batch.pop("paths", []) for batch in batches], []
        self.last_batch = batches[-1] if batches else {}

    @property
    def num_clips(self) -> int:
        """Number of clips in all batches; with `num_sample`, a video has several."""
        return sum(len(paths) for paths in self.paths)

    def check(self, trainer: Trainer, grad_norm: torch.Tensor | float) -> None:
        """Raises FloatingPointError, in all processes, if the gradient is not finite.

        A non-finite loss makes the gradient non-finite in all processes, so that checking one number is enough. It
        costs one synchronisation with the device per step; `logging_nan_inf_filter`, which is off, would cost two per
        batch.
        """
        if math.isfinite(grad_norm):
            return
        scale = trainer.current_gradient_accumulation_steps  # the Trainer divides each loss by it
        own = [
            {"rank": trainer.args.process_index, "loss": loss.item() * scale, "videos": paths}
            for loss, paths in zip(self.losses, self.paths)
        ]
        batches = gather_object(own)
        bad = [batch for batch in batches if not math.isfinite(batch["loss"])]
        if not bad and trainer.accelerator.scaler is not None:
            return  # float16: the gradient scaler skips such steps and lowers its scale
        step, file = trainer.state.global_step + 1, Path(trainer.args.output_dir, "nonfinite.json")
        if trainer.is_world_process_zero():
            report = {"step": step, "grad_norm": _json(float(grad_norm)), "batches": bad or batches}
            for batch in report["batches"]:
                batch["loss"] = _json(batch["loss"])
            file.parent.mkdir(parents=True, exist_ok=True)
            write_text(file, json.dumps(report, indent=2))
        trainer.accelerator.wait_for_everyone()
        what = f"loss is {bad[0]['loss']} on rank {bad[0]['rank']}" if bad else f"gradient norm is {float(grad_norm)}"
        raise FloatingPointError(
            f"Step {step}: the {what}. The run stops before it reaches the weights; {file} names the videos of the "
            f"step. A lower learning rate, more warmup, max_grad_norm or bf16 in place of fp16 may help."
        )


def _json(number: float) -> float | str:
    return number if math.isfinite(number) else str(number)  # JSON has no nan


_SIGNALS = (signal.SIGTERM, signal.SIGINT)


class StopOnSignal(TrainerCallback):
    """SIGTERM (from clusters that preempt) and SIGINT (Ctrl-C) end the run after the current step, with a checkpoint.

    The exit status is 128 + the signal: 143 or 130. Any of the processes may get the signal: they exchange it after
    every step, in a separate process group on the CPUs that does not synchronise with devices. (With transformers'
    `enable_jit_checkpoint`, processes stop at different steps and wait for each other forever.)
    """

    def __init__(self) -> None:
        self.received = 0
        # In shared memory, because the workers of data loaders read it
        self.is_training = torch.zeros((), dtype=torch.bool).share_memory_()
        self._group = None

    @contextmanager
    def catching(self) -> Iterator[None]:
        """Context of training. Signals that were ignored before (nohup) stay ignored."""
        if threading.current_thread() is not threading.main_thread():  # only the main thread can handle signals
            yield
            return
        self.received = 0
        caught = [number for number in _SIGNALS if signal.getsignal(number) != signal.SIG_IGN]
        previous = {number: signal.signal(number, self._receive) for number in caught}
        self.is_training.fill_(True)
        try:
            yield
        finally:
            self.is_training.fill_(False)
            for number, handler in previous.items():
                signal.signal(number, handler or signal.SIG_DFL)

    def _receive(self, number: int, frame) -> None:
        # In a single process, a second Ctrl-C stops at once. Launchers send processes the first signal a second time.
        if self.received and number == signal.SIGINT and self._group is None:
            raise KeyboardInterrupt
        if not self.received:
            # The interrupted code may be inside print, which is not reentrant.
            os.write(2, f"{signal.Signals(number).name}: a checkpoint is saved after this step.\n".encode())
        self.received = number

    def on_train_begin(self, args, state, control, **kwargs) -> None:
        self.stopping = False
        if args.world_size > 1 and self._group is None:
            self._group = torch.distributed.new_group(backend="gloo")

    def on_step_end(self, args, state, control, **kwargs) -> None:
        if self._group is not None:
            received = torch.tensor(self.received)
            torch.distributed.all_reduce(received, torch.distributed.ReduceOp.MAX, group=self._group)
            self.received = int(received)
        self.stopping = bool(self.received)
        if self.stopping:
            # The loss is logged, because the checkpoint does not keep the sum since the last entry. Evaluation is
            # skipped, because the process may be killed within seconds.
            control.should_save = control.should_log = True
            control.should_evaluate = False

    def leave(self, args: TrainingArguments, state: TrainerState) -> None:
        """Raises SystemExit if a signal has stopped the run; called after the step has been saved."""
        if not self.stopping:
            return
        if self._group is not None:  # launchers kill the other processes when the first one ends
            torch.distributed.barrier(group=self._group)
        if args.process_index == 0:
            way_on = "" if args.save_only_model else "; resume with --resume_from_checkpoint last"
            name = signal.Signals(self.received).name
            print(
                f"{name}: stopped after step {state.global_step}, checkpoint in {args.output_dir}{way_on}.", flush=True
            )
        raise SystemExit(128 + self.received)

    def worker_init_fn(self, then: Callable[[int], None] | None = None) -> Callable[[int], None]:
        """For a DataLoader: its workers survive signals sent to all processes of a job, because the step needs them."""
        return functools.partial(_outlive_signals, is_training=self.is_training, then=then)


def _outlive_signals(worker: int, is_training: torch.Tensor, then: Callable[[int], None] | None) -> None:
    def receive(number, frame) -> None:
        if not is_training:  # the main process ends its workers with SIGTERM
            os._exit(0)

    signal.signal(signal.SIGTERM, receive)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    if then is not None:
        then(worker)

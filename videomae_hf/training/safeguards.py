# Copyright 2026 The videomae_hf authors. Licensed under the Apache License, Version 2.0.
"""Checkpoints that are complete or do not count, whatever interrupts their writing: a kill, a crash, a full disk.

The last file of a checkpoint is run.json, which lists all others with their sizes. A checkpoint without it, which is
not from here, is complete if all that a run needs to go on is there.


A loss or gradient that is not finite ends the run before it reaches the weights, and names the videos.

Signals: a run that is told to end finishes its step, saves a checkpoint and leaves, in all processes alike."""

import functools
import json
import logging
import math
import os
import re
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

from ..models.checkpoint_files import read_pickle, read_tensors
from ..text_files import write_text


logger = logging.getLogger(__name__)

RECORD = "run.json"
_STATE = "trainer_state.json"
# Of checkpoints without a list of their files: one of the patterns of each line must be there
_NEEDED = (
    ("model.safetensors", "*.safetensors*", "pytorch_model*", "pytorch_model_fsdp*", "global_step*"),
    ("optimizer.pt", "optimizer*", "global_step*"),
    ("scheduler.pt", "scheduler*", "global_step*"),
    ("rng_state.pth", "rng_state*.pth"),
)


class CannotWriteError(OSError):
    """A folder could not be written: the disk is full, say."""


def last_checkpoint(output_dir: str | Path) -> str | None:
    """The complete checkpoint of the most steps in a folder; None if there is none."""
    found = {int(path.name[11:]): path for path in Path(output_dir).glob("checkpoint-*") if _is_numbered(path)}
    for _, path in sorted(found.items(), reverse=True):
        missing = missing_file(path)
        if missing is None:
            return str(path)
        logger.warning("%s is incomplete (%s is missing or damaged); it is not used.", path, missing)
    return None


def is_complete(checkpoint: Path) -> bool:
    return missing_file(checkpoint) is None


def missing_file(checkpoint: Path) -> str | None:
    """The name of a file that is missing, cut short or unreadable in a checkpoint; None if it is complete."""
    try:
        TrainerState.load_from_json(str(checkpoint / _STATE))
        files = json.loads((checkpoint / RECORD).read_text(encoding="utf-8")).get("files")
    except FileNotFoundError as error:
        files = None
        if Path(error.filename).name == _STATE:
            return _STATE
    except (json.JSONDecodeError, UnicodeDecodeError, AttributeError, TypeError):
        return f"{_STATE} or {RECORD}"
    wrong = (name for name, size in (files or {}).items() if not _has_size(checkpoint / name, size))
    changed = next(wrong, None)
    if changed is not None:
        return changed
    return next((alternatives[0] for alternatives in _NEEDED if not _any_of(checkpoint, alternatives)), None)


def _has_size(path: Path, size: int) -> bool:
    return path.is_file() and path.stat().st_size == size


def _any_of(checkpoint: Path, patterns: tuple[str, ...]) -> bool:
    return any(next(checkpoint.glob(pattern), None) is not None for pattern in patterns)


def list_files(folder: Path) -> dict[str, int]:
    """The files of a checkpoint and their sizes, for run.json."""
    paths = (path for path in sorted(folder.rglob("*")) if path.is_file() and path.name != RECORD)
    return {path.relative_to(folder).as_posix(): path.stat().st_size for path in paths}


def check_complete(checkpoint: str | Path) -> None:
    """Raises ValueError for a checkpoint from which a run cannot go on as if nothing had happened.

    Its files are opened, and not only counted: the Trainer would not say which of them torch refuses.
    """
    checkpoint = Path(checkpoint)
    if not checkpoint.is_dir():
        raise ValueError(f"resume_from_checkpoint={checkpoint} is no folder; `last` takes the last one in output_dir.")
    missing = missing_file(checkpoint)
    if missing is not None:
        other = last_checkpoint(checkpoint.parent)
        raise ValueError(
            f"{checkpoint} is incomplete: {missing} is missing or damaged. "
            + (f"{other} is complete." if other else "There is no complete one beside it.")
        )
    for path in sorted([*checkpoint.iterdir(), *checkpoint.glob("ema/*")]):
        if path.suffix == ".safetensors":
            read_tensors(path)
        elif path.suffix in (".pt", ".pth", ".bin") and path.name != TRAINING_ARGS_NAME:  # which nobody reads
            with safe_globals():  # numpy's random state
                read_pickle(path)


@contextmanager
def checkpoint_written(checkpoint: Path, *, by_this_process: bool) -> Iterator[None]:
    """Around the writing of a checkpoint. One that fails is removed, and the error names its folder."""
    if by_this_process:
        # Of an earlier run: new files beside old ones are incomplete.
        (checkpoint / _STATE).unlink(missing_ok=True)
        (checkpoint / RECORD).unlink(missing_ok=True)
    try:
        with folder_named(checkpoint):
            yield
    except CannotWriteError as error:
        if by_this_process:  # the disk may be full of it
            shutil.rmtree(checkpoint, ignore_errors=True)
        last = last_checkpoint(checkpoint.parent)
        raise CannotWriteError(
            f"{error} " + (f"The last complete checkpoint is {last}." if last else "There is no complete checkpoint.")
        ) from error


@contextmanager
def folder_named(folder: Path | str) -> Iterator[None]:
    """Around the writing of files: what their writers raise when they cannot becomes an error that names the folder."""
    try:
        yield
    except (OSError, SafetensorError, RuntimeError) as error:
        # An OSError without a number is none of the system, but of a request to the Hub, say. torch.save tells of a
        # full disk by a RuntimeError of its archive writer.
        if isinstance(error, OSError) and error.errno is None:
            raise
        if isinstance(error, RuntimeError) and "inline_container.cc" not in str(error):
            raise
        reason = str(error).splitlines()[0]
        raise CannotWriteError(f"{folder} could not be written ({reason}). Is the disk full?") from error


def flush_to_disk(folder: Path | str) -> None:
    """Returns when the files of a folder would outlast a power failure."""
    for path in Path(folder).rglob("*"):
        if path.is_file():
            with open(path, "rb+") as file:
                os.fsync(file.fileno())


def check_finite(model: torch.nn.Module, step: int) -> None:
    """Raises FloatingPointError if a weight is not finite, so that no checkpoint has such weights."""
    for name, parameter in model.named_parameters():
        if not parameter.detach().isfinite().all():
            raise FloatingPointError(
                f"{name} is not finite after step {step}; no checkpoint is written. A lower learning rate may help."
            )


def _is_numbered(path: Path) -> bool:
    return re.fullmatch(r"checkpoint-\d+", path.name) is not None and path.is_dir()


@dataclass
class NamingCollator:
    """A collator that adds `paths`, the names of the videos, to the batch; `StepRecord` takes them out again."""

    collate: Callable

    def __call__(self, items: list) -> dict:
        views = [view for item in items for view in (item if isinstance(item, list) else [item])]
        paths = [view.pop("path", None) for view in views]
        return {**self.collate(items), "paths": paths}


class StepRecord:
    """What an optimizer step has seen in this process: the losses of its batches, and their videos."""

    def __init__(self) -> None:
        self.paths, self.losses = [], []

    def begin(self, batches: list[dict]) -> None:
        self.paths, self.losses = [batch.pop("paths", []) for batch in batches], []

    @property
    def num_clips(self) -> int:
        """Of all batches; several of each video with `num_sample`."""
        return sum(len(paths) for paths in self.paths)

    def check(self, trainer: Trainer, grad_norm: torch.Tensor | float) -> None:
        """Raises FloatingPointError, in all processes alike, if the gradient is not finite.

        A loss that is not finite makes the gradient so, in all processes: one number tells of all. That costs one wait
        for the device in a step, and `logging_nan_inf_filter`, which is off, would cost two for each batch.
        """
        if math.isfinite(grad_norm):
            return
        scale = trainer.current_gradient_accumulation_steps  # by which the Trainer divides each
        own = [
            {"rank": trainer.args.process_index, "loss": loss.item() * scale, "videos": paths}
            for loss, paths in zip(self.losses, self.paths)
        ]
        batches = gather_object(own)
        bad = [batch for batch in batches if not math.isfinite(batch["loss"])]
        if not bad and trainer.accelerator.scaler is not None:
            return  # float16: the scaler leaves such steps out, and lowers its scale
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
    """SIGTERM (of clusters that preempt) and SIGINT (Ctrl-C) end the run after its step, with a checkpoint.

    The exit status is 128 + the signal: 143 or 130. It does not matter which of the processes gets the signal: after
    every step they agree on it, in a group of their own on the CPUs, which waits for no device. (transformers'
    `enable_jit_checkpoint` does not ask: processes stop at different steps, and wait for each other for ever.)
    """

    def __init__(self) -> None:
        self.received = 0
        # In shared memory, for the workers of data loaders
        self.is_training = torch.zeros((), dtype=torch.bool).share_memory_()
        self._group = None

    @contextmanager
    def catching(self) -> Iterator[None]:
        """Around training. Signals that were ignored before (nohup) still are."""
        if threading.current_thread() is not threading.main_thread():  # Python gives signals to that one alone
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
        # Alone, a second Ctrl-C stops at once. Launchers hand the first on to processes that have had it already.
        if self.received and number == signal.SIGINT and self._group is None:
            raise KeyboardInterrupt
        if not self.received:
            # print may be in use by what the signal interrupts
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
            # Logged, as the checkpoint does not keep the sum of the losses since the last log. Not evaluated: there
            # may be seconds left.
            control.should_save = control.should_log = True
            control.should_evaluate = False

    def leave(self, args: TrainingArguments, state: TrainerState) -> None:
        """To be called when the step has been saved; raises SystemExit if that was the last one."""
        if not self.stopping:
            return
        if self._group is not None:  # launchers kill the others when the first one leaves
            torch.distributed.barrier(group=self._group)
        if args.process_index == 0:
            way_on = "" if args.save_only_model else "; --resume_from_checkpoint last goes on from there"
            name = signal.Signals(self.received).name
            print(
                f"{name}: stopped after step {state.global_step}, checkpoint in {args.output_dir}{way_on}.", flush=True
            )
        raise SystemExit(128 + self.received)

    def worker_init_fn(self, then: Callable[[int], None] | None = None) -> Callable[[int], None]:
        """For a DataLoader: its workers outlive signals sent to all processes of a job, as the step needs them."""
        return functools.partial(_outlive_signals, is_training=self.is_training, then=then)


def _outlive_signals(worker: int, is_training: torch.Tensor, then: Callable[[int], None] | None) -> None:
    def receive(number, frame) -> None:
        if not is_training:  # the main process ends its workers with SIGTERM
            os._exit(0)

    signal.signal(signal.SIGTERM, receive)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    if then is not None:
        then(worker)

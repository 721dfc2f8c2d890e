# Copyright 2026 The videomae_hf authors. Licensed under the Apache License, Version 2.0.
"""Signals: a run that is told to end finishes its step, saves a checkpoint and leaves, in all processes alike."""

import functools
import os
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import torch
from transformers import TrainerCallback, TrainerState, TrainingArguments


_SIGNALS = (signal.SIGTERM, signal.SIGINT)


class StopOnSignal(TrainerCallback):
    """SIGTERM (of clusters that preempt) and SIGINT (Ctrl-C) end the run after its step, with a checkpoint.

    The exit status is 128 + the signal: 143 or 130. It does not matter which of the processes gets the signal: after
    every step they agree on it, in a group of their own on the CPUs, which waits for no device. (transformers'
    `enable_jit_checkpoint` does not ask: processes stop at different steps, and wait for each other for ever.)
    """

    def __init__(self):
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

    def _receive(self, number: int, frame):
        # Alone, a second Ctrl-C stops at once. Launchers hand the first on to processes that have had it already.
        if self.received and number == signal.SIGINT and self._group is None:
            raise KeyboardInterrupt
        if not self.received:
            # print may be in use by what the signal interrupts
            os.write(2, f"{signal.Signals(number).name}: a checkpoint is saved after this step.\n".encode())
        self.received = number

    def on_train_begin(self, args, state, control, **kwargs):
        self.stopping = False
        if args.world_size > 1 and self._group is None:
            self._group = torch.distributed.new_group(backend="gloo")

    def on_step_end(self, args, state, control, **kwargs):
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

    def leave(self, args: TrainingArguments, state: TrainerState):
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


def _outlive_signals(worker: int, is_training: torch.Tensor, then: Callable[[int], None] | None):
    def receive(number, frame):
        if not is_training:  # the main process ends its workers with SIGTERM
            os._exit(0)

    signal.signal(signal.SIGTERM, receive)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    if then is not None:
        then(worker)

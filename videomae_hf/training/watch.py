# Copyright 2026 The videomae_hf authors. Licensed under the Apache License, Version 2.0.
"""Which process the others wait for.

A collective waits until all processes have come, up to `ddp_timeout`, and then says that it has waited, not for whom.
Here each process writes down where it is, in the store that the launcher keeps, from a thread of its own, which goes on
while the process waits, on every backend. A process that is stopped or gone writes no more.
"""

import logging
import os
import socket
import threading
import time
from contextlib import contextmanager
from datetime import timedelta

import torch
from transformers import TrainerCallback, TrainingArguments

from .processes import check_agreement, data_facts


logger = logging.getLogger(__name__)

# Words of the errors that gloo and NCCL raise where another process does not come or goes away.
_LOST = ("timed out", "timeout", "connection closed by peer", "connection reset", "broken pipe")
_TICKS = 3  # of a watch that are long enough for every other one to have written


class Watch(threading.Thread):
    """Keeps `place`, where this process is, in the store, and reports when the process stays there for long."""

    running: "Watch | None" = None

    def __init__(self, args: TrainingArguments):
        super().__init__(daemon=True)
        self.args = args
        self.patience = min(args.ddp_timeout / 2, 300)  # seconds
        self.interval = min(self.patience / 10, 10)  # seconds
        # A connection of its own: that of the main thread may be waiting.
        address = os.environ["MASTER_ADDR"], int(os.environ["MASTER_PORT"])
        self.store = torch.distributed.TCPStore(*address, is_master=False, timeout=timedelta(seconds=30))
        self.stopped = threading.Event()
        self.at("before the first step")

    def at(self, place: str):
        self.place, self.since = place, time.monotonic()

    def run(self):
        ticks, waited, before = 0, 0, None
        try:
            while not self.stopped.wait(self.interval):
                ticks += 1
                fields = socket.gethostname(), str(os.getpid()), self.place, str(ticks)
                self.store.set(f"videomae/{self.args.process_index}", "|".join(fields))
                if time.monotonic() - self.since < self.patience:
                    before = None
                elif before is None:
                    waited, before = 0, self.look()
                else:
                    waited += 1
                    if waited == _TICKS:
                        self.report(before)
        except torch.distributed.DistError:
            pass  # the process that keeps the store has gone, and the run with it

    @classmethod
    def end(cls):
        """Waits for the thread, too: one that is in the middle of a call when Python ends aborts the process."""
        if cls.running is not None:
            cls.running.stopped.set()
            cls.running.join(timeout=10)
            cls.running = None

    def look(self) -> list[list[str]]:
        """[host, pid, place, ticks] of each process."""
        keys = [f"videomae/{rank}" for rank in range(self.args.world_size)]
        values = [self.store.get(key).decode() if self.store.check([key]) else "?|?|not started|" for key in keys]
        return [value.split("|") for value in values]

    def roll_call(self, before: list[list[str]]) -> tuple[str, set[int]]:
        """Where each process is, in words, and those that have written nothing since `before`."""
        places, silent = {}, set()
        for rank, (old, (host, pid, place, ticks)) in enumerate(zip(before, self.look())):
            if old[-1] == ticks:
                silent.add(rank)
                place = "no sign of life"
            places.setdefault(place, []).append(f"process {rank} ({host}, pid {pid})")
        return "; ".join(f"{place}: {', '.join(some)}" for place, some in places.items()), silent

    def report(self, before: list[list[str]]):
        words, silent = self.roll_call(before)
        if set(range(self.args.process_index)) <= silent:  # the first that lives speaks for all
            logger.warning(
                "No progress for %.0f s; after ddp_timeout=%d s the run ends. %s.",
                time.monotonic() - self.since,
                self.args.ddp_timeout,
                words,
            )


class ProcessesCallback(TrainerCallback):
    """Compares the data of all processes before training, and keeps the watch in it."""

    def __init__(self, dataset):
        self.dataset = dataset

    def on_train_begin(self, args, state, control, **kwargs):
        if args.world_size > 1:
            check_agreement(args, "training data", data_facts(self.dataset))
            Watch.running = Watch(args)
            Watch.running.start()

    def on_step_begin(self, args, state, control, **kwargs):
        self._at(f"in step {state.global_step + 1}")

    def on_step_end(self, args, state, control, **kwargs):
        self._at(f"after step {state.global_step}, reading, evaluating or saving")

    def on_prediction_step(self, args, state, control, **kwargs):
        self._at(f"evaluating after step {state.global_step}")

    def _at(self, place: str):
        if Watch.running is not None:
            Watch.running.at(place)

    def on_train_end(self, args, state, control, **kwargs):
        Watch.end()


@contextmanager
def lost_processes_named(args: TrainingArguments):
    """Around a run: the error of a broken collective becomes a ConnectionError that says which process is missing."""
    try:
        yield
    except RuntimeError as error:
        watch = Watch.running
        if watch is None or not any(word in str(error).lower() for word in _LOST):
            raise
        before = watch.look()
        time.sleep(_TICKS * watch.interval)
        words, _ = watch.roll_call(before)
        raise ConnectionError(f"Process {args.process_index} lost another one in a collective. {words}.") from error
    finally:
        Watch.end()

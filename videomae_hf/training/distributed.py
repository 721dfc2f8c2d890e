# Copyright 2026 The videomae_hf authors. Licensed under the Apache License, Version 2.0.
"""Distributed runs: checks that the requested processes run and agree, and finds the process that others wait for.

Launchers and transformers fall back silently: `accelerate launch --cpu --num_processes 2` starts one process, and FSDP
on CPUs becomes DDP. Processes that read different data, or different numbers of batches, wait for each other forever.

A collective waits for all processes, up to `ddp_timeout`. The error of a timeout does not say which process was
missing. Each process therefore records its progress in the launcher's store, from a separate thread that keeps running
while the process waits, on every backend. A stopped or dead process writes no more.
"""

import gc
import logging
import os
import socket
import threading
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from datetime import timedelta

import torch
from accelerate import DistributedType
from transformers import Trainer, TrainerCallback, TrainingArguments

from ..data.videos import data_facts


# Environment variables with the number of tasks that launchers other than torchrun have started
_TASK_COUNTS = {"SLURM_STEP_NUM_TASKS": "srun", "OMPI_COMM_WORLD_SIZE": "mpirun", "PMI_SIZE": "mpirun"}


def report(args: TrainingArguments, messages: Iterable[str]) -> None:
    """Prints messages, one per line, in the first process only."""
    if args.process_index == 0:
        for message in messages:
            print(message, flush=True)


def leave_processes() -> None:
    """Destroys the process group at the end of a program: threads that are still running can abort the process."""
    if torch.distributed.is_available() and torch.distributed.is_initialized():
        gc.collect()  # the trainer, whose callbacks refer to it: its DDP keeps the group's threads
        torch.distributed.destroy_process_group()


def check_processes(args: TrainingArguments, expected: int | None = None) -> None:
    """Checks that the requested number of processes is running: `expected` or, if None, that of the launcher.

    Raises:
        ValueError: another number of processes is running.
    """
    running = args.world_size
    if expected is not None:
        if running != expected:
            raise ValueError(
                f"num_processes={expected}, but {running} run. torchrun --nproc_per_node {expected} train.py ... "
                f"starts {expected} on one machine."
            )
        return
    started = int(os.environ.get("WORLD_SIZE", 1))
    if started > running:
        why = "LOCAL_RANK is missing. Use torchrun."
        if "LOCAL_RANK" in os.environ:
            why = "there is no GPU for them. Add --use_cpu true to train on CPUs."
        raise ValueError(f"WORLD_SIZE={started} processes were started, but each runs alone: {why}")
    # accelerate launch sets the address for more than one process, but starts only one on CPUs.
    if "ACCELERATE_MIXED_PRECISION" in os.environ and "MASTER_PORT" in os.environ and "WORLD_SIZE" not in os.environ:
        raise ValueError(
            "accelerate launch was asked for several processes but started one, as it does for CPUs. Use torchrun "
            "--nproc_per_node N, or accelerate launch --multi_gpu --num_processes N, with --use_cpu true at the end."
        )
    launched = int(os.environ.get("GROUP_WORLD_SIZE", running))  # launched by one torchrun each, or directly
    for name, launcher in _TASK_COUNTS.items():
        tasks = int(os.environ.get(name, 1))
        if tasks > launched:
            raise ValueError(
                f"{launcher} started {tasks} tasks ({name}), but {launched} know of each other. Start torchrun in "
                f"each with --nnodes {tasks} and a common --rdzv_endpoint (examples/accelerate/slurm.sh), or, if they "
                f"are independent runs, set --num_processes {running}."
            )
    if args.n_gpu > 1:
        raise ValueError(
            f"One process sees {args.n_gpu} GPUs, which transformers would use through nn.DataParallel. Start one "
            f"process per GPU with torchrun --nproc_per_node {args.n_gpu} train.py ..., or use one GPU with "
            f"CUDA_VISIBLE_DEVICES=0."
        )


def check_sharding(trainer: Trainer) -> None:
    """Raises ValueError if FSDP or DeepSpeed is requested but not active (on CPUs, both silently become DDP)."""
    args, active = trainer.args, trainer.accelerator.distributed_type
    for name, asked, kind in (
        ("FSDP", args.fsdp or _is_on("ACCELERATE_USE_FSDP"), DistributedType.FSDP),
        ("DeepSpeed", args.deepspeed or _is_on("ACCELERATE_USE_DEEPSPEED"), DistributedType.DEEPSPEED),
    ):
        if asked and active != kind:
            raise ValueError(
                f"{name} was requested but is not active: {args.world_size} processes on {args.device.type} run as "
                f"{active.value}. It needs several GPUs; --fsdp2 true shards on CPUs as well."
            )


def _is_on(name: str) -> bool:
    return os.environ.get(name, "false").lower() in ("true", "1")


def check_agreement(args: TrainingArguments, what: str, facts: dict) -> None:
    """Compares the `facts` of all processes.

    Raises:
        ValueError: facts differ. Raised in every process; the message has the fact and two processes that disagree.
    """
    if args.world_size == 1:
        return
    gathered = [None] * args.world_size
    torch.distributed.all_gather_object(gathered, {name: str(value) for name, value in facts.items()})
    for name in sorted({name for facts in gathered for name in facts}):
        values = [facts.get(name, "not set") for facts in gathered]
        other = next((rank for rank, value in enumerate(values) if value != values[0]), None)
        if other is not None:
            raise ValueError(
                f"The processes disagree on the {what}. {name}: {values[0]} in process 0, {values[other]} in process "
                f"{other}. It must be the same in all processes."
            )


logger = logging.getLogger(__name__)

# Parts of the error messages of gloo and NCCL about a process that is missing or has gone
_LOST = ("timed out", "timeout", "connection closed by peer", "connection reset", "broken pipe")
_TICKS = 3  # intervals of a watch after which every live process has written


class Watch(threading.Thread):
    """Writes the progress of this process (`place`) to the store, and reports if there is none for a long time."""

    running: "Watch | None" = None

    def __init__(self, args: TrainingArguments) -> None:
        super().__init__(daemon=True)
        self.args = args
        self.patience = min(args.ddp_timeout / 2, 300)  # seconds
        self.interval = min(self.patience / 10, 10)  # seconds
        # A separate connection, because that of the main thread may be blocked.
        address = os.environ["MASTER_ADDR"], int(os.environ["MASTER_PORT"])
        self.store = torch.distributed.TCPStore(*address, is_master=False, timeout=timedelta(seconds=30))
        self.stopped = threading.Event()
        self.at("before the first step")

    def at(self, place: str) -> None:
        """Sets the progress of this process."""
        self.place, self.since = place, time.monotonic()

    def run(self) -> None:
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
            pass  # the process that hosts the store has gone, which ends the run

    @classmethod
    def end(cls) -> None:
        """Stops the watch and waits for its thread, which would abort the process if Python ended during a call."""
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
        """Describes the progress of each process; also returns the ranks that have written nothing since `before`."""
        places, silent = {}, set()
        for rank, (old, (host, pid, place, ticks)) in enumerate(zip(before, self.look())):
            if old[-1] == ticks:
                silent.add(rank)
                place = "no sign of life"
            places.setdefault(place, []).append(f"process {rank} ({host}, pid {pid})")
        return "; ".join(f"{place}: {', '.join(some)}" for place, some in places.items()), silent

    def report(self, before: list[list[str]]) -> None:
        """Logs the progress of all processes, in the live process with the lowest rank."""
        words, silent = self.roll_call(before)
        if set(range(self.args.process_index)) <= silent:  # only the first live process reports
            logger.warning(
                "No progress for %.0f s; after ddp_timeout=%d s the run ends. %s.",
                time.monotonic() - self.since,
                self.args.ddp_timeout,
                words,
            )


class ProcessesCallback(TrainerCallback):
    """Compares the data of all processes before training, and runs the watch during training."""

    def __init__(self, dataset) -> None:
        self.dataset = dataset

    def on_train_begin(self, args, state, control, **kwargs) -> None:
        if args.world_size > 1:
            check_agreement(args, "training data", data_facts(self.dataset))
            Watch.running = Watch(args)
            Watch.running.start()

    def on_step_begin(self, args, state, control, **kwargs) -> None:
        self._at(f"in step {state.global_step + 1}")

    def on_step_end(self, args, state, control, **kwargs) -> None:
        self._at(f"after step {state.global_step}, reading, evaluating or saving")

    def on_prediction_step(self, args, state, control, **kwargs) -> None:
        self._at(f"evaluating after step {state.global_step}")

    def _at(self, place: str) -> None:
        if Watch.running is not None:
            Watch.running.at(place)

    def on_train_end(self, args, state, control, **kwargs) -> None:
        Watch.end()


@contextmanager
def lost_processes_named(args: TrainingArguments) -> Iterator[None]:
    """Context of a run in which the error of a broken collective becomes a ConnectionError with the missing process."""
    try:
        yield
    except RuntimeError as error:
        watch = Watch.running
        if watch is None or not any(word in str(error).lower() for word in _LOST):
            raise
        before = watch.look()
        time.sleep(_TICKS * watch.interval)
        words, _ = watch.roll_call(before)
        raise ConnectionError(f"Process {args.process_index} lost another process in a collective. {words}.") from error
    finally:
        Watch.end()

# Copyright 2026 The videomae_hf authors. Licensed under the Apache License, Version 2.0.
"""Processes many files in workers that may die or hang, each at the cost of one file.

A process pool of the standard library fails as a whole if one process dies, which decoders of damaged files may cause.
"""

import math
import multiprocessing
import os
import signal
import sys
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from multiprocessing import resource_tracker
from multiprocessing.connection import wait


def run_isolated(
    function: Callable, jobs: list, workers: int, timeout: float = math.inf
) -> Iterator[tuple[int, object, str]]:
    """Calls `function(job, alive)` for each job, one job at a time in each worker process.

    Args:
        function: an importable function; it must call `alive()` regularly to show that it makes progress.
        jobs: picklable jobs.
        workers: number of processes.
        timeout: seconds that a job may take without calling `alive`.

    Yields:
        (index of the job, its result, "") in the order of completion, or (index, None, reason) if the process died or
        was stopped.
    """
    # Neither start method inherits the files open in this process, so that a pipe closes when the worker at its other
    # end exits. The fork server imports everything once; forking after imports is safe on Linux only.
    context = multiprocessing.get_context("forkserver" if sys.platform == "linux" else "spawn")
    if sys.platform == "linux":
        context.set_forkserver_preload([getattr(function, "__module__", type(function).__module__)])
    waiting = deque(enumerate(jobs))
    crew = [_Worker(context, function) for _ in range(min(workers, len(jobs)))]
    try:
        while True:
            for worker in crew:
                if worker.index is None and waiting:
                    worker.give(*waiting.popleft())
            busy = [worker for worker in crew if worker.index is not None]
            if not busy:
                return
            pause = max(0, min(worker.deadline for worker in busy) - time.monotonic())
            wait([worker.connection for worker in busy], None if math.isinf(pause) else pause)
            for worker in busy:
                outcome = worker.check(timeout)
                if outcome is None:
                    continue
                index, worker.index = worker.index, None
                if waiting and not worker.process.is_alive():
                    crew[crew.index(worker)] = _Worker(context, function)
                yield index, *outcome
    finally:
        for worker in crew:
            worker.stop()


class _Worker:
    """A process and its current job. The process sends None for "alive" and (result,) for "done"."""

    def __init__(self, context, function: Callable) -> None:
        self.connection, theirs = context.Pipe()
        self.process = context.Process(target=_serve, args=(theirs, function), daemon=True)
        with _interrupts_held_back():
            self.process.start()
        theirs.close()
        self.index = None

    def give(self, index: int, job) -> None:
        self.index = index
        self.deadline = math.inf  # starting the process takes a while the first time
        with suppress(OSError):  # the process is dead, which `check` will report
            self.connection.send(job)

    def check(self, timeout: float) -> tuple[object, str] | None:
        """(result, ""), or (None, reason) if the process died or hangs; None while it is working."""
        if self.connection.poll():
            try:
                message = self.connection.recv()
            except (EOFError, OSError):
                self.process.join()
                self.stop()
                return None, f"the decoder process died{_cause(self.process.exitcode)}"
            if message is not None:
                return message[0], ""
            self.deadline = time.monotonic() + timeout
            return None
        if time.monotonic() < self.deadline:
            return None
        self.stop()
        return None, f"no result: no new frame for {timeout:g} s"

    def stop(self) -> None:
        self.process.kill()
        self.process.join()
        self.connection.close()


@contextmanager
def _interrupts_held_back() -> Iterator[None]:
    """Blocks SIGINT while processes are started: they, including the fork server, inherit this, so that Ctrl-C reaches
    only the main process, after it has started them."""
    if not hasattr(signal, "pthread_sigmask"):  # Windows
        yield
        return
    resource_tracker.ensure_running()  # it starts with the first process, and would unblock SIGINT
    before = signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGINT])
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _cause(exit_code: int) -> str:
    names = {-number.value: number.name for number in signal.Signals}
    hint = ", out of memory?" if names.get(exit_code) == "SIGKILL" else ""
    return f" ({names.get(exit_code, f'exit status {exit_code}')}{hint})"


def _serve(connection, function: Callable) -> None:
    """The loop of a worker: receives jobs and sends results."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the main process handles Ctrl-C and stops this one
    threading.Thread(target=_end_with_parent, daemon=True).start()
    last = 0.0

    def alive() -> None:
        nonlocal last
        if time.monotonic() - last > 1:
            connection.send(None)
            last = time.monotonic()

    with suppress(EOFError, OSError):  # the main process has exited
        while True:
            job = connection.recv()
            last = 0.0
            alive()
            connection.send((function(job, alive),))


def _end_with_parent() -> None:
    multiprocessing.parent_process().join()
    os._exit(1)

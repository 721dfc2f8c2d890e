# Copyright 2026 The videomae_hf authors. Licensed under the Apache License, Version 2.0.
"""Decodes videos in threads while the model works: decoders and tensor operations release Python's lock.

All threads are daemons, so that an interrupted program does not wait for a video or a download.
"""

import queue
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future
from typing import Any, TypeVar

from ..data.shared_work import ProcessShare, usable_cores
from .inputs import Input


Item = TypeVar("Item")
# Faults of one video. Others, such as a missing decoder, concern all videos and are raised.
INPUT_ERRORS = (OSError, ValueError)
_PATIENCE = 2.0  # seconds to wait for threads at the end


def default_workers(share: ProcessShare | None = None) -> int:
    """The number of decoding threads: one per core, up to four; of the cores, the part of this process."""
    return min(usable_cores(share), 4)


class _Ended:
    """Marks the end of a queue; holds the exception that ended it, if any."""

    def __init__(self, error: BaseException | None = None) -> None:
        self.error = error


def load_ahead(
    inputs: Iterable[Input], prepare: Callable[[Input], Any], num_workers: int
) -> Iterator[tuple[Input, Any] | None]:
    """Prepares inputs in threads, a few ahead, and yields the results in order.

    Args:
        inputs: the videos; read in a thread of its own, since standard input and growing folders make it wait.
        prepare: called with an input.
        num_workers: number of threads; at most as many results again wait to be used.

    Yields:
        (input, result), or (input, exception) for one of `INPUT_ERRORS`; None whenever the next input is not there yet,
        so that a caller who collects results can use those that it has.
    """
    jobs, ordered, stopped = queue.Queue(), queue.Queue(2 * num_workers), threading.Event()

    def feed() -> None:
        try:
            for one in inputs:
                job = (one, Future())
                if not _put(ordered, job, stopped):
                    return
                jobs.put(job)
            _put(ordered, _Ended(), stopped)
        except BaseException as error:  # raised again in the main thread
            _put(ordered, _Ended(error), stopped)
        finally:
            jobs.put(None)

    def work() -> None:
        while (job := jobs.get()) is not None and not stopped.is_set():
            try:
                job[1].set_result(prepare(job[0]))
            except BaseException as error:  # raised again in the main thread, or yielded
                job[1].set_exception(error)
        jobs.put(None)  # for the next worker

    workers = [threading.Thread(target=work, daemon=True) for _ in range(num_workers)]
    for thread in (threading.Thread(target=feed, daemon=True), *workers):
        thread.start()
    try:
        while not isinstance(entry := (yield from _next(ordered)), _Ended):
            try:
                result = entry[1].result()
            except INPUT_ERRORS as error:
                result = error
            yield entry[0], result
        if entry.error is not None:
            raise entry.error
    finally:
        stopped.set()
        jobs.put(None)
        _join(workers)


def _next(ordered: queue.Queue) -> Iterator[None]:
    """The next entry of a queue; yields None before it waits for one."""
    try:
        return ordered.get_nowait()
    except queue.Empty:
        yield None
        return ordered.get()


def read_together(
    inputs: Iterable[Input], items_of: Callable[[Input], Iterable[Item]], num_workers: int, limit: int
) -> Iterator[tuple[Input, Item | Exception | None] | None]:
    """Reads several inputs at once, each in a thread, and yields their items as they come.

    Args:
        inputs: the videos; the next one is taken when a thread is free.
        items_of: called with an input; yields its items.
        num_workers: number of threads.
        limit: number of items, of all threads together, that wait to be used.

    Yields:
        (input, item); (input, None) after its last item, or (input, exception) for one of `INPUT_ERRORS`; None whenever
        no item is there yet.
    """
    waiting, stopped, lock = queue.Queue(max(limit, 1)), threading.Event(), threading.Lock()
    inputs = iter(inputs)

    def read() -> None:
        try:
            while True:
                with lock:
                    one = next(inputs, None)
                if one is None or not _put_items(one, items_of, waiting, stopped):
                    break
            _put(waiting, _Ended(), stopped)
        except BaseException as error:  # raised again in the main thread
            _put(waiting, _Ended(error), stopped)

    readers = [threading.Thread(target=read, daemon=True) for _ in range(num_workers)]
    for thread in readers:
        thread.start()
    try:
        ended = 0
        while ended < num_workers:
            entry = yield from _next(waiting)
            if not isinstance(entry, _Ended):
                yield entry
            elif entry.error is not None:
                raise entry.error
            else:
                ended += 1
    finally:
        stopped.set()
        _join(readers)


def _put_items(
    one: Input, items_of: Callable[[Input], Iterable[Item]], waiting: queue.Queue, stopped: threading.Event
) -> bool:
    """Puts the items of an input and the mark of its end into a queue; False if the reader has stopped."""
    try:
        for item in items_of(one):
            if not _put(waiting, (one, item), stopped):
                return False
    except INPUT_ERRORS as error:
        return _put(waiting, (one, error), stopped)
    return _put(waiting, (one, None), stopped)


def run_ahead(items: Iterable[Item], limit: int) -> Iterator[Item]:
    """The items of an iterable, which a thread reads up to `limit` ahead."""
    waiting, stopped = queue.Queue(limit), threading.Event()

    def read() -> None:
        try:
            for item in items:
                if not _put(waiting, item, stopped):
                    return
            _put(waiting, _Ended(), stopped)
        except BaseException as error:  # raised again in the main thread
            _put(waiting, _Ended(error), stopped)

    reader = threading.Thread(target=read, daemon=True)
    reader.start()
    try:
        while not isinstance(item := waiting.get(), _Ended):
            yield item
        if item.error is not None:
            raise item.error
    finally:
        stopped.set()
        _join([reader])


def _join(threads: list[threading.Thread]) -> None:
    """Waits a little for threads that were told to stop: a program that ends within a tensor operation may crash."""
    deadline = time.monotonic() + _PATIENCE
    for thread in threads:
        thread.join(max(deadline - time.monotonic(), 0))


def _put(waiting: queue.Queue, item: object, stopped: threading.Event) -> bool:
    """Puts an item into a bounded queue; False if the reader has stopped."""
    while not stopped.is_set():
        try:
            waiting.put(item, timeout=0.2)
            return True
        except queue.Full:
            continue
    return False

# Copyright 2026 The videomae_hf authors. Licensed under the Apache License, Version 2.0.
"""Training on videos that come one after the other, such as a data set on the Hub that is too large to store.

Processes share the shards of a stream, and so do their workers. Where there are too few shards for that, they share
its videos, and each reads more than its own. Shards are shuffled, and the videos in a buffer. What an epoch has follows
from the seed, the epoch and the numbers of processes and workers alone, so that a run resumed with the same numbers
goes on as if it had not stopped.
"""

import logging
import math
import zlib
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import count

import fsspec
import torch
from torch.utils.data import IterableDataset, get_worker_info

from ..messages import shorten
from ..models.video_decoding import VideoDecodeError
from .checks import check_data
from .clips import ClipSampler
from .sources.records import VideoRecord
from .video_dataset import TRIES, BadVideosError, generator_of, named


logger = logging.getLogger(__name__)

_LOOKED_AT = 20  # videos


@dataclass(frozen=True)
class Share:
    """The part of a stream that one process takes.

    Args:
        batch_size: videos of a batch of this process. Workers take turns by the batch, so that it is needed here.
        process_index, num_processes: of this process.
        batches_per_step: batches of this process that make an optimizer step.
        drop_last: leave out the videos that do not fill the batches of a whole optimizer step in every process;
            otherwise more of the stream fill the last batches.
    """

    batch_size: int
    process_index: int = 0
    num_processes: int = 1
    batches_per_step: int = 1
    drop_last: bool = True


class VideoStream(IterableDataset):
    """Items of a stream, the same number of batches in every process.

    An epoch takes `num_videos` from the stream, shared evenly. A worker whose shards have fewer than its part goes
    round again, in another order; of one whose shards have more, the rest waits for an epoch in which the shards are
    shared otherwise. So where shards are shared out that are unequal, or do not divide, an epoch has some videos twice
    and some not; otherwise it has each of them once (but for an incomplete last step).

    A bad video is logged once, counted, and the one behind it is taken in its place (and comes again in its own).

    Args:
        source: of `stream_rows`.
        load: clip loader, called with a sample and the generator of (seed, epoch, process, worker, place in the
            epoch).
        share: the part of this process.
        seed: of the order and of the generators.
        shuffle_buffer: encoded videos that each worker holds to sample from. 1 keeps the order within a shard.

    Raises:
        ValueError: fewer videos than a step of all processes takes.
    """

    def __init__(self, source, load: Callable, share: "Share", seed: int = 0, shuffle_buffer: int = 100) -> None:
        self.source, self.load, self.batch_size = source, load, share.batch_size
        self.process_index, self.num_processes = share.process_index, share.num_processes
        self.seed, self.shuffle_buffer = seed, shuffle_buffer
        batch_size, num_processes, batches_per_step = share.batch_size, share.num_processes, share.batches_per_step
        if share.drop_last:
            steps = source.num_videos // (batch_size * num_processes * batches_per_step)
            self.num_batches = steps * batches_per_step
        else:
            self.num_batches = math.ceil(source.num_videos / (batch_size * num_processes))
        if self.num_batches == 0:
            several = batches_per_step > 1
            raise ValueError(
                f"The {source.num_videos} videos of the stream do not fill "
                f"{f'{batches_per_step} batches' if several else 'a batch'} of {batch_size} in each of {num_processes} "
                f"processes; lower per_device_train_batch_size{' or gradient_accumulation_steps' if several else ''}."
            )
        # In shared memory: workers see what the main process sets, which sees what they count.
        self.epoch = torch.zeros((), dtype=torch.int64).share_memory_()
        self.skipped_batches = torch.zeros((), dtype=torch.int64).share_memory_()
        # Marks of the bad videos by a hash of the name: a stream has no places to keep a list by.
        self.bad = torch.zeros(2**20, dtype=torch.bool).share_memory_()

    def __len__(self) -> int:
        """Videos of an epoch in this process."""
        return self.num_batches * self.batch_size

    def set_epoch(self, epoch: int) -> None:
        self.epoch.fill_(epoch)

    def skip_batches(self, number: int) -> None:
        """Makes the first batches of the following epochs None, without decoding: a resumed run drops them."""
        self.skipped_batches.fill_(number)

    def bad_videos(self) -> tuple[int, int]:
        """Videos known to be bad, and videos of an epoch over all processes."""
        return int(self.bad.sum()), self.source.num_videos

    def __iter__(self) -> Iterator[dict | list[dict] | None]:
        info = get_worker_info()
        worker, num_workers = (0, 1) if info is None else (info.id, info.num_workers)
        if info is not None:
            fsspec.asyn.reset_lock()  # a lock of the parent that a forked worker would wait for, on remote files
        epoch = int(self.epoch)
        batches = range(worker, self.num_batches, num_workers)  # DataLoader has its workers take turns
        skipped = sum(batch < int(self.skipped_batches) for batch in batches) * self.batch_size
        samples = self._samples(epoch, worker, num_workers)
        ahead = deque()
        for place in range(len(batches) * self.batch_size):
            if place < skipped:
                next(samples)
                yield None
            else:
                yield self._item(samples, ahead, (self.seed, epoch, self.process_index, worker, place))

    def _samples(self, epoch: int, worker: int, num_workers: int) -> Iterator[VideoRecord]:
        """This worker's samples of an epoch, round after round without end."""
        for number in count():
            seed = generator_of(self.seed, epoch, number).initial_seed()
            rows = self.source.rows.shuffle(seed=seed % 2**32, buffer_size=self.shuffle_buffer)
            empty = True
            for row in self._share(rows, worker, num_workers):
                empty = False
                yield self.source.sample(row)
            if empty:
                raise ValueError("A worker's part of the stream has no video; use fewer dataloader_num_workers.")

    def _share(self, rows, worker: int, num_workers: int) -> Iterator[dict]:
        """The rows of one worker: of its own shards, or its own of all rows, where all go over the same order."""
        process, readers = (self.process_index, self.num_processes), self.num_processes * num_workers
        if rows.num_shards < readers and rows.num_shards % self.num_processes:
            # To processes one by one; to workers by the batch, as DataLoader takes them.
            return _every(_every(_rows(rows), *process, 1), worker, num_workers, self.batch_size)
        rows = rows.shard(process[1], process[0], contiguous=False)
        if rows.num_shards < num_workers:
            return _every(_rows(rows), worker, num_workers, self.batch_size)
        return _rows(rows.shard(num_workers, worker, contiguous=False))

    def _item(self, samples: Iterator[VideoRecord], ahead: deque, key: tuple[int, ...]) -> dict | list[dict]:
        """The item of the next sample, or of the first one behind it that can be read.

        `ahead` holds samples already taken from the stream, None for one found bad. The samples used up do not depend
        on which of them are bad, so that a skipped place is a sample skipped.
        """
        item = None
        for step in range(TRIES):
            if step == len(ahead):
                ahead.append(next(samples))
            if ahead[step] is not None:
                item = self._load(ahead[step], generator_of(*key, step))
                if item is not None:
                    break
                ahead[step] = None
        ahead.popleft()
        if item is None:
            raise BadVideosError(f"{TRIES} videos in a row cannot be read; their names are in the log above.")
        return item

    def _load(self, sample: VideoRecord, generator: torch.Generator) -> dict | list[dict] | None:
        try:
            return self.load(sample, generator)
        except (VideoDecodeError, OSError) as error:
            mark = zlib.crc32(sample.path.encode(errors="surrogateescape")) % len(self.bad)
            if not self.bad[mark]:
                self.bad[mark] = True
                logger.warning("Bad video, left out: %s", named(sample, error))
            return None


@dataclass
class SkippingCollator:
    """A collator that lets the batches through which `VideoStream.skip_batches` leaves empty."""

    collate: Callable

    def __call__(self, items: list) -> dict:
        return {} if items[0] is None else self.collate(items)


def check_stream(
    source, samplings: Sequence[ClipSampler], num_processes: int, num_workers: int, batch_size: int
) -> list[str]:
    """Describes a stream, and refuses one that cannot be trained on, as `check_data` does for videos in files.

    Looks at a few videos. Classes and their balance are not known before all has been read.
    """
    if source.num_videos < batch_size:
        raise ValueError(
            f"There are {source.num_videos} videos, fewer than the {batch_size} of one step; lower "
            f"per_device_train_batch_size or gradient_accumulation_steps."
        )
    num_shards, num_workers = source.rows.num_shards, max(num_workers, 1)
    readers = num_processes * num_workers
    shards = f"{num_shards} shard{'s' * (num_shards > 1)}"
    classes = f" of {len(source.class_names)} classes ({shorten(source.class_names, 4)})" if source.class_names else ""
    lines = [f"a stream of {source.num_videos} videos{classes} in {shards}"]
    if num_shards < readers:
        lines.append(
            f"{shards} for {readers} readers ({num_processes} processes x {num_workers} workers): they share videos, "
            f"and each reads more than its own; {readers} shards or more read faster"
        )
    elif num_shards % readers:
        lines.append(f"{shards} do not divide among {readers} readers: an epoch has some videos twice and some not")
    some = source.rows.shuffle(seed=0, buffer_size=_LOOKED_AT).take(_LOOKED_AT)
    looked_at = [replace(source.sample(row), label=None) for row in _rows(some)]
    return lines + check_data(looked_at, [], samplings)[1:]  # the first line tells how many there are


def _rows(rows) -> Iterator[dict]:
    """The rows of a `datasets.IterableDataset`, all of them in a worker process as well.

    Its own iteration splits the shards over workers once more, and leaves out the workers beyond them; `iter` by the
    batch does not.
    """
    for batch in rows.iter(batch_size=1):
        yield {name: values[0] for name, values in batch.items()}


def _every(items: Iterator, index: int, parts: int, block: int) -> Iterator:
    """Of blocks of items dealt out to so many parts in turn, those of one part."""
    return (item for number, item in enumerate(items) if number // block % parts == index)

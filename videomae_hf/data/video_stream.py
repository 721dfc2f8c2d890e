# Copyright 2026 The videomae_hf authors. Licensed under the Apache License, Version 2.0.
"""Training on a stream of videos, such as a data set on the Hub that is too large to store.

The shards of a stream are divided among processes, and then among their workers. If there are too few shards, the
videos are divided instead, and each worker also reads videos of others. The order of the shards is shuffled, and videos
are shuffled in a buffer. The items of an epoch depend only on the seed, the epoch, and the numbers of processes and
workers, so that a run resumed with the same numbers equals an uninterrupted one.
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

_LOOKED_AT = 20  # number of videos to check


@dataclass(frozen=True)
class Share:
    """The part of a stream that one process reads.

    Args:
        batch_size: videos per batch of this process; needed because workers take turns by the batch.
        process_index, num_processes: index of this process, and number of processes.
        batches_per_step: batches of this process per optimizer step.
        drop_last: leave out the videos that do not fill the batches of a complete optimizer step in every process;
            otherwise further videos of the stream fill the last batches.
    """

    batch_size: int
    process_index: int = 0
    num_processes: int = 1
    batches_per_step: int = 1
    drop_last: bool = True


class VideoStream(IterableDataset):
    """The items of a stream, with the same number of batches in every process.

    An epoch has `num_videos` items, divided evenly among all workers. A worker whose shards have fewer videos than its
    part repeats them in another order; if they have more, the rest is left for an epoch with another division of the
    shards. If shards are unequal or cannot be divided evenly, an epoch therefore has some videos twice and others not
    at all. Otherwise it has each video once, except for an incomplete last step.

    A bad video is logged once, counted, and replaced by the next video, which also keeps its own position.

    Args:
        source: the rows, as from `stream_rows`.
        load: transform, called with a record and the generator of (seed, epoch, process, worker, position in the
            worker's epoch).
        share: the part of this process.
        seed: seed of the order and of the generators.
        shuffle_buffer: number of encoded videos in each worker's shuffle buffer; 1 keeps the order within a shard.

    Raises:
        ValueError: the videos do not fill one step of all processes.
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
        # In shared memory: workers read the values that the main process sets, which reads the bad videos they find.
        self.epoch = torch.zeros((), dtype=torch.int64).share_memory_()
        self.skipped_batches = torch.zeros((), dtype=torch.int64).share_memory_()
        # Bad videos are marked by a hash of their names, because the videos of a stream have no index.
        self.bad = torch.zeros(2**20, dtype=torch.bool).share_memory_()

    def __len__(self) -> int:
        """Number of videos per epoch in this process."""
        return self.num_batches * self.batch_size

    def set_epoch(self, epoch: int) -> None:
        """Sets the epoch, which the order and all generators depend on, in all workers."""
        self.epoch.fill_(epoch)

    def skip_batches(self, number: int) -> None:
        """Yields None for the first batches of the following epochs, without decoding: a resumed run skips them."""
        self.skipped_batches.fill_(number)

    def bad_videos(self) -> tuple[int, int]:
        """(number of videos known to be bad, number of videos per epoch over all processes)."""
        return int(self.bad.sum()), self.source.num_videos

    def __iter__(self) -> Iterator[dict | list[dict] | None]:
        info = get_worker_info()
        worker, num_workers = (0, 1) if info is None else (info.id, info.num_workers)
        if info is not None:
            fsspec.asyn.reset_lock()  # for remote files, a forked worker would wait for a lock of its parent
        epoch = int(self.epoch)
        batches = range(worker, self.num_batches, num_workers)  # the workers of a DataLoader take turns
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
        """This worker's records of an epoch, in endless passes over its part of the stream."""
        for number in count():
            seed = generator_of(self.seed, epoch, number).initial_seed()
            rows = self.source.rows.shuffle(seed=seed % 2**32, buffer_size=self.shuffle_buffer)
            empty = True
            for row in self._share(rows, worker, num_workers):
                empty = False
                yield self.source.sample(row)
            if empty:
                raise ValueError("A worker's part of the stream has no video; lower dataloader_num_workers.")

    def _share(self, rows, worker: int, num_workers: int) -> Iterator[dict]:
        """The rows of one worker: those of its own shards, or its part of all rows, which all workers then read."""
        process, readers = (self.process_index, self.num_processes), self.num_processes * num_workers
        if rows.num_shards < readers and rows.num_shards % self.num_processes:
            # Dealt to processes row by row, and to workers by the batch, the order in which DataLoader reads them.
            return _every(_every(_rows(rows), *process, 1), worker, num_workers, self.batch_size)
        rows = rows.shard(process[1], process[0], contiguous=False)
        if rows.num_shards < num_workers:
            return _every(_rows(rows), worker, num_workers, self.batch_size)
        return _rows(rows.shard(num_workers, worker, contiguous=False))

    def _item(self, samples: Iterator[VideoRecord], ahead: deque, key: tuple[int, ...]) -> dict | list[dict]:
        """The item of the next record, or of the first readable record after it.

        `ahead` holds records already read from the stream, None for bad ones. The number of records consumed does not
        depend on which of them are bad, so that skipping a position skips exactly one record.
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
    """A collator that returns an empty batch for the positions that `VideoStream.skip_batches` skips."""

    collate: Callable

    def __call__(self, items: list) -> dict:
        return {} if items[0] is None else self.collate(items)


def check_stream(
    source, samplings: Sequence[ClipSampler], num_processes: int, num_workers: int, batch_size: int
) -> list[str]:
    """Describes a stream, and refuses one that cannot be trained on, like `check_data` for videos in files.

    It checks a few videos. The balance of the classes is unknown until the whole stream has been read.
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
    messages = [f"a stream of {source.num_videos} videos{classes} in {shards}"]
    if num_shards < readers:
        messages.append(
            f"{shards} for {readers} readers ({num_processes} processes x {num_workers} workers): each also reads "
            f"videos of others; {readers} shards or more are faster"
        )
    elif num_shards % readers:
        messages.append(
            f"{shards} cannot be divided evenly among {readers} readers: an epoch has some videos twice and others not "
            f"at all"
        )
    some = source.rows.shuffle(seed=0, buffer_size=_LOOKED_AT).take(_LOOKED_AT)
    looked_at = [replace(source.sample(row), label=None) for row in _rows(some)]
    return messages + check_data(looked_at, [], samplings)[1:]  # without the number of videos


def _rows(rows) -> Iterator[dict]:
    """All rows of a `datasets.IterableDataset`, also in a worker process.

    Plain iteration would divide the shards among the workers again, and leave workers without a shard empty; `iter`
    with a batch size does not.
    """
    for batch in rows.iter(batch_size=1):
        yield {name: values[0] for name, values in batch.items()}


def _every(items: Iterator, index: int, parts: int, block: int) -> Iterator:
    """The items of part `index`, if blocks of `block` items are dealt to `parts` parts in turn."""
    return (item for number, item in enumerate(items) if number // block % parts == index)

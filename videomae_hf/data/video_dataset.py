# Copyright 2026 The videomae_hf authors. Licensed under the Apache License, Version 2.0.
"""The data set of a list of videos, and the collator of its batches.

`VideoDataset` calls a transform (`clips.py`) for each record, and `ClipCollator` stacks the items. Clips stay uint8;
the model converts them to floats. All randomness of an item comes from a generator seeded with (seed, epoch, index), so
that it does not depend on the number of workers or processes, or on resuming.

Deviation: the official code samples from the global generators of each worker. In finetuning it crops floats, while
crops are rounded to uint8 here. At a bad video it stops (V1), or tries others without a limit (V2).
"""

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch

from ..labels import UNREADABLE, labels_of
from ..messages import named_error
from ..models.configuration_videomae_v2 import VideoMAEV2Config
from ..models.video_decoding import VideoDecodeError
from .augmentation.mixing import Mixing
from .augmentation.transforms import normalize, random_erasing
from .sources.records import VideoRecord, VideoRecords


logger = logging.getLogger(__name__)

TRIES = 64  # number of bad videos in a row that is no accident


class BadVideosError(RuntimeError):
    """More videos are unreadable than `max_bad_fraction` allows."""


def generator_of(*numbers: int) -> torch.Generator:
    """A generator seeded with several numbers, such as (seed, epoch, index)."""
    state = np.random.SeedSequence(numbers).generate_state(1, np.uint64)
    return torch.Generator().manual_seed(int(state[0] >> np.uint64(1)))


class VideoDataset(torch.utils.data.Dataset):
    """A data set of videos. A bad video is logged once, counted, and replaced by another.

    Args:
        samples: the records of the videos, as from `read_samples`, or any sequence of `VideoRecord`s.
        load: transform, called with a record and the generator of (seed, epoch, index).
        seed: seed of the generators.
        replace_bad: return another video instead of one that cannot be read. False, for evaluation, returns an item
            without a clip and with the label `UNREADABLE`.
        weights: for each source, how often an epoch has each of its videos; the records of a source must be
            consecutive. With 0.5, each epoch has a different half of the videos; with 2, it has each video twice.
        kinds: for each source, 0 if its clips are those of videos and 1 for images, where there are both; None where
            all samples are of one kind.
    """

    def __init__(
        self,
        samples: Sequence[VideoRecord],
        load: Callable,
        seed: int = 0,
        *,
        replace_bad: bool = True,
        weights: Sequence[float] | None = None,
        kinds: Sequence[int] | None = None,
    ) -> None:
        self.kinds, self.weights = kinds, weights
        self.samples = VideoRecords(samples) if isinstance(samples, list | tuple) else samples
        self.load, self.seed, self.replace_bad = load, seed, replace_bad
        # In shared memory: workers read the epoch that the main process sets, which reads the bad videos they find.
        self.epoch = torch.zeros((), dtype=torch.int64).share_memory_()
        self.bad = torch.zeros(len(samples), dtype=torch.bool).share_memory_()
        self._blocks = _weighted_blocks(self.samples, weights) if weights is not None else None
        self._orders = {}  # source: (epoch, order of its records)
        if kinds is not None:  # of each record
            self._kinds = torch.tensor([kinds[sample.source] for sample in self.samples], dtype=torch.int8)

    def __len__(self) -> int:
        return len(self.samples) if self._blocks is None else sum(length for _, _, length in self._blocks)

    def sources(self) -> np.ndarray:
        """int (len(self),): the source of each index of an epoch."""
        if self._blocks is None:
            return np.array([sample.source for sample in self.samples])
        return np.repeat(np.arange(len(self._blocks)), [length for _, _, length in self._blocks])

    def set_epoch(self, epoch: int) -> None:
        """Sets the epoch, which all generators depend on, in all workers."""
        self.epoch.fill_(epoch)

    def __getitem__(self, index: int) -> dict | list[dict]:
        item = self._load(self._position(index), self._generator(index))
        if item is None and not self.replace_bad:
            return {"pixel_values": None, "labels": UNREADABLE}
        if item is not None:
            return item
        # Tries the videos in a random order that does not depend on the videos known to be bad. Each step has its own
        # generator, because a bad video may or may not have used the previous one.
        tries = 0
        order = torch.randperm(len(self.samples), generator=self._generator(index))
        if self.kinds is not None:  # a batch holds samples of one kind
            order = order[self._kinds[order] == self._kinds[self._position(index)]]
        for step, position in enumerate(order.tolist(), start=1):
            if self.bad[position]:
                continue
            item = self._load(position, self._generator(index, step))
            if item is not None:
                return item
            tries += 1
            if tries == TRIES:
                raise BadVideosError(f"{tries} videos in a row cannot be read; their names are in the log above.")
        raise BadVideosError(f"No readable video among {len(self.samples)}: {int(self.bad.sum())} are known to be bad.")

    def _position(self, index: int) -> int:
        """The position of the record for an index of the epoch."""
        if self._blocks is None:
            return index
        source = 0
        while index >= self._blocks[source][2]:
            index -= self._blocks[source][2]
            source += 1
        start, count, places = self._blocks[source]
        if index < places // count * count:  # a complete pass over the source
            return start + index % count
        epoch = int(self.epoch)
        if self._orders.get(source, (None,))[0] != epoch:
            order = torch.randperm(count, generator=generator_of(self.seed, epoch, source, 0, 0))
            self._orders[source] = (epoch, order)
        return start + int(self._orders[source][1][index % count])

    def _generator(self, index: int, step: int = 0) -> torch.Generator:
        return generator_of(self.seed, int(self.epoch), index, step)

    def bad_videos(self) -> tuple[int, int]:
        """(number of videos known to be bad, number of videos)."""
        return int(self.bad.sum()), len(self.bad)

    def _load(self, position: int, generator: torch.Generator) -> dict | list[dict] | None:
        sample = self.samples[position]
        try:
            return self.load(sample, generator)
        except (VideoDecodeError, OSError) as error:
            if not self.bad[position]:
                self.bad[position] = True
                logger.warning("Bad video, left out: %s", named(sample, error))
            return None


def named(sample: VideoRecord, error: Exception) -> str:
    """The text of an error with the name of the video, which is missing if the video was read from bytes."""
    return named_error(sample.path, error)


def _weighted_blocks(samples: VideoRecords, weights: Sequence[float]) -> list[tuple[int, int, int]]:
    """(first position, number of records, number of items in an epoch) of each source."""
    sources = np.array([sample.source for sample in samples])
    blocks = []
    for source, weight in enumerate(weights):
        positions = np.flatnonzero(sources == source)
        if not weight > 0 or len(positions) == 0:
            raise ValueError(f"Source {source} has {len(positions)} videos and weight {weight}; both must be positive.")
        blocks.append((int(positions[0]), len(positions), max(round(weight * len(positions)), 1)))
    return blocks


@dataclass
class ClipCollator:
    """Stacks items; with repeated augmentation, each view counts as an item.

    Clips stay uint8, a quarter of the memory of float32, and the model normalises them. Random erasing and mixing need
    normalised clips, so that with them the batch is float32. Both apply to training items only: evaluation items have
    no `seed`, and are not changed. The `path` of an item is left out.

    Args:
        config: configuration of the model.
        mixing: Mixup and CutMix, for finetuning.
        erasing: probability of random erasing for each clip, for finetuning.
    """

    config: VideoMAEV2Config
    mixing: Mixing | None = None
    erasing: float = 0.0

    def __call__(self, items: list[dict | list[dict]]) -> dict[str, torch.Tensor]:
        items = [view for item in items for view in (item if isinstance(item, list) else [item])]
        items = [{name: value for name, value in item.items() if name != "path"} for item in items]
        seeds = [item.pop("seed") for item in items if "seed" in item]
        self._fill_unreadable(items)
        batch = {name: torch.stack([torch.as_tensor(item[name]) for item in items]) for name in items[0]}
        if seeds and (self.erasing > 0 or self.mixing is not None):
            self._erase_and_mix(batch, seeds)
        return batch

    def _fill_unreadable(self, items: list[dict]) -> None:
        """Gives unreadable videos a clip of zeros, and the unreadable marker in the form of the other labels."""
        readable = next((item for item in items if item["pixel_values"] is not None), None)
        if readable is None:
            clip = torch.zeros(self.config.num_frames, self.config.num_channels, *self.config.image_hw)
        else:
            clip = torch.zeros_like(readable["pixel_values"])
        labels = labels_of(self.config.problem_type, self.config.num_labels).unreadable()
        for item in items:
            if item["pixel_values"] is None:
                item.update(pixel_values=clip, labels=labels)

    def _erase_and_mix(self, batch: dict[str, torch.Tensor], seeds: list[int]) -> None:
        pixel_values = normalize(batch["pixel_values"], self.config.image_mean, self.config.image_std)
        if self.erasing > 0:
            clips = (random_erasing(clip, generator_of(seed), self.erasing) for clip, seed in zip(pixel_values, seeds))
            pixel_values = torch.stack(list(clips))
        if self.mixing is not None:
            generator = generator_of(seeds[0], 1)
            labels = batch.get("labels", torch.zeros(len(pixel_values), dtype=torch.int64))
            pixel_values, labels = self.mixing(pixel_values, labels, generator)
            if "labels" in batch:
                batch["labels"] = labels
        batch["pixel_values"] = pixel_values

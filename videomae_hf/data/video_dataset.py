# Copyright 2026 The videomae_hf authors. Licensed under the Apache License, Version 2.0.
"""From a list of videos to batches.

The road: `VideoDataset` asks a clip loader (`clips.py`) for each sample, `ClipCollator` stacks. Clips stay uint8 all
along; the model makes the floats. Whatever is random in a sample comes from a generator seeded with (seed, epoch,
index), so that the number of workers, processes and resumes changes nothing.

Deviation: the official code samples from the global generators of each worker, crops floats in finetuning where these
crops are rounded to uint8, and stops at a bad video (V1) or tries others without a limit (V2).
"""

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch

from ..labels import UNREADABLE, labels_of
from ..models.configuration_videomae_v2 import VideoMAEV2Config
from ..models.video_decoding import VideoDecodeError
from .augmentation.mixing import Mixing
from .augmentation.transforms import normalize, random_erasing
from .sources.records import VideoRecord, VideoRecords


logger = logging.getLogger(__name__)

TRIES = 64  # videos in a row that turn out bad before it is no accident


class BadVideosError(RuntimeError):
    """More videos could not be read than `max_bad_fraction` allows."""


def generator_of(*numbers: int) -> torch.Generator:
    """The generator that belongs to these numbers, such as (seed, epoch, index)."""
    state = np.random.SeedSequence(numbers).generate_state(1, np.uint64)
    return torch.Generator().manual_seed(int(state[0] >> np.uint64(1)))


class VideoDataset(torch.utils.data.Dataset):
    """Videos by index. A bad one is logged once, counted, and another one takes its place.

    Args:
        samples: of `read_samples`, or any sequence of `VideoRecord`s.
        load: clip loader, called with a sample and the generator of (seed, epoch, index).
        seed: of the generators.
        replace_bad: give another video in place of one that cannot be read. False, for evaluation, gives an empty clip
            with the label `UNREADABLE`.
        weights: how often an epoch has each video of a source, one number for each source; the records of a source
            must follow each other. 0.5 takes another half of them in each epoch, 2 each of them twice.
    """

    def __init__(
        self,
        samples: Sequence[VideoRecord],
        load: Callable,
        seed: int = 0,
        *,
        replace_bad: bool = True,
        weights: Sequence[float] | None = None,
    ) -> None:
        self.samples = VideoRecords(samples) if isinstance(samples, list | tuple) else samples
        self.load, self.seed, self.replace_bad = load, seed, replace_bad
        # In shared memory: workers see the epoch that the main process sets, which sees the videos that they find bad.
        self.epoch = torch.zeros((), dtype=torch.int64).share_memory_()
        self.bad = torch.zeros(len(samples), dtype=torch.bool).share_memory_()
        self._blocks = _weighted_blocks(self.samples, weights) if weights is not None else None
        self._orders = {}  # source: (epoch, order of its samples)

    def __len__(self) -> int:
        return len(self.samples) if self._blocks is None else sum(length for _, _, length in self._blocks)

    def set_epoch(self, epoch: int) -> None:
        self.epoch.fill_(epoch)

    def __getitem__(self, index: int) -> dict | list[dict]:
        item = self._load(self._position(index), self._generator(index))
        if item is None and not self.replace_bad:
            return {"pixel_values": None, "labels": UNREADABLE}
        if item is not None:
            return item
        # A walk over the set that stays the same when repeated, whatever is known to be bad: each step has its own
        # generator, which a bad video may have drawn from or not.
        tries = 0
        order = torch.randperm(len(self.samples), generator=self._generator(index))
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
        """The sample at this place of the epoch."""
        if self._blocks is None:
            return index
        source = 0
        while index >= self._blocks[source][2]:
            index -= self._blocks[source][2]
            source += 1
        start, count, places = self._blocks[source]
        if index < places // count * count:  # a whole round
            return start + index % count
        epoch = int(self.epoch)
        if self._orders.get(source, (None,))[0] != epoch:
            order = torch.randperm(count, generator=generator_of(self.seed, epoch, source, 0, 0))
            self._orders[source] = (epoch, order)
        return start + int(self._orders[source][1][index % count])

    def _generator(self, index: int, step: int = 0) -> torch.Generator:
        return generator_of(self.seed, int(self.epoch), index, step)

    def bad_videos(self) -> tuple[int, int]:
        """Videos known to be bad, and videos of the set."""
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
    """The error with the name of the video, which it does not have where the video was read from bytes."""
    return str(error) if sample.path in str(error) else f"{sample.path}: {error}"


def _weighted_blocks(samples: VideoRecords, weights: Sequence[float]) -> list[tuple[int, int, int]]:
    """(first sample, number of samples, places in an epoch) of each source."""
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
    """Stacks items, and the views of repeated augmentation as items of their own.

    Clips stay uint8, and the model normalises what it looks at: a quarter of the memory travels to it. Erasing and
    mixing work on normalised clips, so that with them the batch is float32. They are for training alone: a clip of
    evaluation has no `seed`, and is left as it is. The `path` of an
    item is left out.

    Args:
        config: of the model.
        mixing: Mixup and CutMix, for finetuning.
        erasing: part of the clips that get a box of noise, for finetuning.
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
        """Gives videos that could not be read an empty clip, and labels of the form that the others have."""
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

# Copyright 2026 The videomae_hf authors. Licensed under the Apache License, Version 2.0.
"""Images and videos in one training set: each batch holds samples of one kind, because their shapes differ."""

from collections.abc import Iterator

import numpy as np
import torch

from .video_dataset import VideoDataset, generator_of


KINDS = ("videos", "images")


class OneKindSampler(torch.utils.data.Sampler[int]):
    """Indices of a data set such that every batch holds samples of one kind, in a new order in each epoch.

    The kinds have batches in proportion to their samples, and each at least one. Of a kind whose samples do not fill
    its batches, some come twice in an epoch or not at all, other ones in each epoch. The order depends on (seed, epoch)
    alone, so that it is the same in all processes and after a resume.

    Args:
        dataset: the data set, with its `kinds`.
        batch_size: samples of a batch of one process.
        num_batches: batches of an epoch over all processes.
    """

    def __init__(self, dataset: VideoDataset, batch_size: int, num_batches: int) -> None:
        self.dataset, self.batch_size, self.num_batches = dataset, batch_size, num_batches
        kinds = np.asarray(dataset.kinds)[dataset.sources()]
        self.members = [np.flatnonzero(kinds == kind) for kind in range(len(KINDS))]
        self.batches = shares([len(members) for members in self.members], num_batches)

    def __len__(self) -> int:
        return self.num_batches * self.batch_size

    def __iter__(self) -> Iterator[int]:
        generator = generator_of(self.dataset.seed, int(self.dataset.epoch), 0, 0, 0, 0, 0)
        orders = []
        for members, number in zip(self.members, self.batches):
            order = members[torch.randperm(len(members), generator=generator).numpy()]
            orders.append(np.resize(order, number * self.batch_size))  # repeats from the start where there are too few
        turns = np.repeat(np.arange(len(KINDS)), self.batches)[torch.randperm(self.num_batches, generator=generator)]
        places = [0] * len(KINDS)
        for kind in turns.tolist():
            start = places[kind]
            places[kind] += self.batch_size
            yield from orders[kind][start : places[kind]].tolist()


def shares(counts: list[int], total: int) -> list[int]:
    """Whole numbers in proportion to `counts` whose sum is `total` (largest remainders), at least 1 for each count.

    Raises:
        ValueError: `total` is less than the number of counts above 0.
    """
    least = [int(count > 0) for count in counts]
    if total < sum(least):
        raise ValueError(f"An epoch of {total} batch cannot hold videos and images; lower per_device_train_batch_size.")
    exact = [count * total / sum(counts) for count in counts]
    found = [max(int(share), smallest) for share, smallest in zip(exact, least)]
    while sum(found) != total:  # by the largest remainder, or back from the largest excess
        step = 1 if sum(found) < total else -1
        open_ones = [one for one in range(len(counts)) if step > 0 or found[one] > least[one]]
        chosen = max(open_ones, key=lambda one: step * (exact[one] - found[one]))
        found[chosen] += step
    return found

# Copyright 2026 The videomae_hf authors. Licensed under the Apache License, Version 2.0.
"""Fits V-JEPA 2's attentive probe to videos and scores it, after facebookresearch/vjepa2, see `vjepa2_probe.py`.

Training clips are augmented, so that features are not cached: the frozen encoder sees each batch once, for all heads.
The tokens of the clips from all segments of a video are concatenated. In evaluation, the probabilities of the spatial
crops are averaged.

Places in which ours differs from the source, besides those in `vjepa2_probe.py` and `data/segments.py`:

- The encoder is a VideoMAE. It has absolute sine positions, its own resolution (224, V-JEPA 2: 256 or 384) and, if it
  was finetuned, no final norm; where there is one, it is applied to the tokens of every layer, as in the source.
- Clips of more frames than the encoder was trained on have positions that it has never seen.
- The heads are scored once, after the last epoch; the source scores them after each.
- A step has the mean loss of all of its videos; in the source, the mean of the means of its GPUs.
"""

import math
import os
import pickle
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

import numpy as np
import torch
from torch.utils.data import DataLoader
from tqdm import tqdm

from ..data.clips import FinetuneTransform
from ..data.segments import RANDOM_ERASING
from ..data.video_dataset import UNREADABLE, BadVideosError, ClipCollator, VideoDataset, generator_of
from ..data.videos import data_facts
from ..models.modeling_videomae_v2 import VideoMAEV2Model
from .feature_cache import encoder_collator
from .features import weights_digest
from .vjepa2_probe import HeadSetting, ProbeHeads, best_head


STATE = "vjepa2_probe.pt"  # in output_dir, until the results are written
# Options that do not affect the heads
_MAY_CHANGE = (
    "batch_size", "eval_batch_size", "num_crops", "num_workers", "max_bad_fraction", "process_index", "num_processes",
)  # fmt: skip


@dataclass(frozen=True)
class FitOptions:
    """How the probe is trained and scored.

    Args:
        settings: learning rate and weight decay of each head.
        num_segments: clips of each video.
        num_crops: spatial crops of each clip in evaluation.
        epochs: passes over the training videos.
        videos_per_step: videos of an update; the last one of an epoch may have fewer.
        batch_size: videos of a forward pass; a divisor of `videos_per_step`.
        eval_batch_size: videos of a forward pass in evaluation.
        layers: encoder layers, counted from 0, whose tokens are concatenated; () is the output of the encoder.
        bf16: compute under bfloat16 autocast.
        num_workers: processes that load videos.
        seed: seed of the heads, of the order of the videos and of their augmentation.
        max_bad_fraction: fraction of unreadable training videos above which the fit stops.
        process_index, num_processes: this process and their number; each takes a part of every update.
    """

    settings: tuple[HeadSetting, ...]
    num_segments: int
    num_crops: int
    epochs: int
    videos_per_step: int
    batch_size: int
    eval_batch_size: int = 1
    layers: tuple[int, ...] = ()
    bf16: bool = False
    num_workers: int = 0
    seed: int = 0
    max_bad_fraction: float = 0.1
    process_index: int = 0
    num_processes: int = 1

    def num_steps(self, num_videos: int) -> int:
        """The number of updates."""
        return self.epochs * math.ceil(num_videos / self.videos_per_step)


class SegmentEncoder:
    """The frozen encoder, which turns the clips of a video into one sequence of tokens.

    Raises:
        ValueError: a layer does not exist, or tokens are not finite.
    """

    def __init__(self, model: VideoMAEV2Model, options: FitOptions) -> None:
        depth = model.config.num_hidden_layers
        wrong = [layer for layer in options.layers if not 0 <= layer < depth]
        if wrong:
            raise ValueError(f"probe_layers={list(options.layers)}: layers of this encoder are 0 to {depth - 1}.")
        self.model, self.options = model.eval(), options

    @torch.no_grad()
    def tokens(self, pixel_values: torch.Tensor) -> torch.Tensor:
        """Clips (B * num_segments, T, C, H, W), all of a video one after the other -> tokens (B, L, D)."""
        options, device = self.options, self.model.device
        with torch.autocast(device.type, torch.bfloat16, enabled=options.bf16):
            output = self.model(pixel_values.to(device), output_hidden_states=bool(options.layers))
            found = [output.last_hidden_state]
            if options.layers:
                # The first hidden state is the input of the first layer.
                found = [output.hidden_states[layer + 1] for layer in options.layers]
                found = [hidden if self.model.layernorm is None else self.model.layernorm(hidden) for hidden in found]
        found = [self.model.patch_tokens(hidden) for hidden in found]
        tokens = torch.cat(found, dim=1).float()  # (B * num_segments, layers * N, D)
        if not tokens.isfinite().all():
            raise ValueError("The encoder's tokens of a batch are not finite; no probe can be fitted to them.")
        return tokens.unflatten(0, (-1, options.num_segments)).flatten(1, 2)  # (B, num_segments * layers * N, D)


class ProbeFit:
    """Trains heads by epochs on what a frozen encoder gives for augmented videos; continues an interrupted training
    after its last complete epoch. Subclasses set the collators, and state the facts of the fit.

    Args:
        encoder: gives the tokens of clips.
        heads: the heads.
        dataset: the training videos.
        options: how the heads are trained.
        file: file in which the state is kept after each epoch. The caller deletes it.
    """

    train_collator: ClipCollator
    collator: ClipCollator
    rates = "probe_learning_rates"  # the setting of the learning rates

    def __init__(self, encoder, heads, dataset: VideoDataset, options: FitOptions, file: Path) -> None:
        self.encoder, self.heads, self.dataset, self.options, self.file = encoder, heads, dataset, options, file
        self.epoch, self.facts = 0, {}

    def state_facts(self, model: VideoMAEV2Model, num_classes: int, transform: FinetuneTransform, **more: str) -> None:
        """Sets the facts that must be equal in all parts of an interrupted fit."""
        self.facts = {
            **{name: str(value) for name, value in vars(self.options).items() if name not in _MAY_CHANGE},
            **data_facts(self.dataset),
            "clips": str(transform.sampling),
            "antialias": str(transform.antialias),
            "image_size": str(model.config.image_hw),
            "classes": str(num_classes),
            "weights": weights_digest(model),
            **more,
        }

    def resume(self) -> int:
        """Continues from the state in `file`, if there is one; returns the number of complete epochs.

        Raises:
            ValueError: the file is damaged, or from a fit with other settings, videos or weights.
        """
        if not self.file.exists():
            return 0
        way_out = f"delete {self.file} to start again, or choose another output_dir"
        try:
            state = torch.load(self.file, map_location="cpu", weights_only=True)
            facts = state["facts"]
        except (RuntimeError, EOFError, pickle.UnpicklingError, KeyError, TypeError) as error:
            raise ValueError(f"{self.file}, an unfinished probe, is damaged; {way_out}.") from error
        for name, value in self.facts.items():
            stored = facts.get(name)
            if stored != value:
                raise ValueError(f"{self.file} is an unfinished probe with {name}={stored}, not {value}; {way_out}.")
        self.heads.load_state_dict(state["heads"])
        self.epoch = state["epoch"]
        self.dataset.bad[state["bad"]] = True
        return self.epoch

    def train(self) -> None:
        """Trains the remaining epochs.

        Raises:
            BadVideosError: too many of the videos are unreadable; others replace those that are.
            OSError: the state cannot be written.
        """
        while self.epoch < self.options.epochs:
            self._train_epoch()
            bad, number = self.bad_videos(), len(self.dataset.samples)
            if bad > self.options.max_bad_fraction * number:
                raise BadVideosError(
                    f"{bad} of {number} training videos cannot be read, more than max_bad_fraction="
                    f"{self.options.max_bad_fraction:g}; their names are in the log above."
                )
            self.epoch += 1
            if self.options.process_index == 0:
                self._save()

    def bad_videos(self) -> int:
        """The number of unreadable training videos that the processes have met; each process learns of them."""
        if self.options.num_processes > 1:
            bad = self.dataset.bad.to(self.heads.device, torch.uint8)
            torch.distributed.all_reduce(bad, torch.distributed.ReduceOp.MAX)
            self.dataset.bad[bad.cpu().bool()] = True
        return self.dataset.bad_videos()[0]

    def _train_epoch(self) -> None:
        options = self.options
        self.dataset.set_epoch(self.epoch)
        order = torch.randperm(len(self.dataset), generator=generator_of(options.seed, self.epoch)).tolist()
        updates = split_updates(order, options)
        loader = DataLoader(
            self.dataset,
            batch_sampler=[batch for _, own in updates for batch in own],
            collate_fn=self.train_collator,
            num_workers=options.num_workers,
        )
        batches = self._encoded(loader)
        name = f"Epoch {self.epoch + 1} of {options.epochs}"
        for num_videos, own in (progress := tqdm(updates, name, unit="step", disable=options.process_index > 0)):
            loss = self.heads.update(islice(batches, len(own)), num_videos)
            progress.set_postfix(lowest_loss=f"{loss:.4f}")

    def _encoded(self, loader: Iterable[dict]) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
        """Tokens (B, L, D) and labels int64 (B,) of training batches."""
        for batch in loader:
            labels = batch["labels"][:: self.options.num_segments]  # (B * num_segments,) -> (B,)
            yield self.encoder.tokens(batch["pixel_values"]), labels.to(self.heads.device)

    def _save(self) -> None:
        partial, bad = self.file.with_suffix(".partial"), self.dataset.bad.nonzero().flatten()
        state = {"facts": self.facts, "epoch": self.epoch, "bad": bad, "heads": self.heads.state_dict()}
        try:
            torch.save(state, partial)
        except (OSError, RuntimeError) as error:  # torch raises a RuntimeError if the disk is full
            partial.unlink(missing_ok=True)
            raise OSError(f"{partial}, the state of the probe, cannot be written: {error}") from error
        os.replace(partial, self.file)

    def score(self, dataset: VideoDataset) -> "Scores":
        """Scores all heads on the evaluation videos.

        Args:
            dataset: the videos, as `num_segments` x `num_crops` views each; unreadable ones are marked.

        Raises:
            ValueError: all heads have diverged.
        """
        if all(diverged := self.heads.diverged()):
            raise ValueError(f"All {len(diverged)} heads have diverged; lower {self.rates}, or set bf16 to false.")
        options, every, labels = self.options, [], [torch.zeros(0, dtype=torch.int64)]
        own = range(options.process_index, len(dataset), options.num_processes)
        loader = DataLoader(
            dataset,
            options.eval_batch_size,
            sampler=own,
            collate_fn=self.collator,
            num_workers=options.num_workers,
        )
        name = f"Scores of {len(dataset)} videos"
        for batch in tqdm(loader, name, unit="batch", disable=options.process_index > 0):
            readable = batch["labels"] != UNREADABLE
            labels.append(batch["labels"])
            if readable.any():
                views = batch["pixel_values"][readable]
                # (B, num_segments * num_crops, T, C, H, W) -> (B, num_segments, num_crops, T, C, H, W)
                views = views.reshape(len(views), options.num_segments, options.num_crops, *views.shape[-4:])
                crops = [self.encoder.tokens(crop.flatten(0, 1)) for crop in views.unbind(dim=2)]
                every.append(self.heads.probabilities(crops).cpu())
        shape = (len(options.settings), 0, self.heads.heads[0].classifier.out_features)
        # (heads, M, num_classes) of the M readable videos of this process, and the labels of all of its videos
        return self._gathered(own, torch.cat([torch.zeros(shape), *every], dim=1), torch.cat(labels), len(dataset))

    def _gathered(self, own: range, probabilities: torch.Tensor, labels: torch.Tensor, number: int) -> "Scores":
        """The scores over the videos of all processes; only the probabilities of the best head are exchanged."""
        readable = labels != UNREADABLE
        right = (probabilities.argmax(dim=-1) == labels[readable]).sum(dim=-1)  # (heads,)
        right[torch.tensor(self.heads.diverged())] = 0
        counts = torch.cat([right, readable.sum()[None]]).to(self.heads.device)
        if self.options.num_processes > 1:
            torch.distributed.all_reduce(counts)
        *right, total = counts.tolist()
        best = best_head(right)
        found = np.full((number, probabilities.shape[-1]), np.nan, dtype=np.float32)
        found[np.asarray(own)[readable.numpy()]] = probabilities[best].numpy()
        if self.options.num_processes > 1:
            parts = [None] * self.options.num_processes
            torch.distributed.all_gather_object(parts, found[own.start :: own.step])
            for start, part in enumerate(parts):
                found[start :: own.step] = part
        known = ~np.isnan(found[:, 0])
        return Scores([count / max(total, 1) for count in right], best, found[known], known)


class VJEPA2Fit(ProbeFit):
    """The fit of V-JEPA 2's heads.

    Args:
        model: the encoder, on the device to compute on.
        dataset: the training videos, with items of `SegmentTransform`.
        num_classes: number of classes.
        options: how the heads are trained.
        file: see `ProbeFit`; it has 12 bytes for each parameter of a head: for 20 heads 7 GB with ViT-B, 12 GB with
            ViT-L and 22 GB with ViT-g.
    """

    def __init__(
        self, model: VideoMAEV2Model, dataset: VideoDataset, num_classes: int, options: FitOptions, file: Path
    ) -> None:
        encoder = SegmentEncoder(model, options)
        heads = ProbeHeads(
            options.settings,
            model.config.hidden_size,
            num_classes,
            options.num_steps(len(dataset)),
            model.device,
            bf16=options.bf16,
            seed=options.seed,
        )
        super().__init__(encoder, heads, dataset, options, file)
        self.state_facts(model, num_classes, dataset.load.augmentation)
        self.train_collator = encoder_collator(model.config, erasing=RANDOM_ERASING)
        self.collator = encoder_collator(model.config)


@dataclass(frozen=True)
class Scores:
    """The scores of all heads on N evaluation videos.

    Args:
        top1: top-1 accuracy of each head; 0 of one that has diverged.
        best: number of the best head.
        probabilities: of the best head, float32 (M, num_classes) for the M readable videos.
        readable: bool (N,), which videos these are.
    """

    top1: list[float]
    best: int
    probabilities: np.ndarray
    readable: np.ndarray


def split_updates(order: Sequence[int], options: FitOptions) -> list[tuple[int, list[list[int]]]]:
    """The updates of an epoch: the number of videos of each, and the batches of it that this process takes."""
    updates = []
    for start in range(0, len(order), options.videos_per_step):
        videos = order[start : start + options.videos_per_step]
        batches = [videos[first : first + options.batch_size] for first in range(0, len(videos), options.batch_size)]
        updates.append((len(videos), batches[options.process_index :: options.num_processes]))
    return updates

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
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

import numpy as np
import torch
from torch.utils.data import DataLoader
from tqdm import tqdm

from ..data.segments import RANDOM_ERASING
from ..data.video_dataset import UNREADABLE, BadVideosError, VideoDataset, generator_of
from ..data.videos import data_facts
from ..models.modeling_videomae_v2 import VideoMAEV2Model
from .feature_cache import encoder_collator, weights_digest
from .vjepa2_probe import HeadSetting, ProbeHeads


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

    def num_steps(self, num_videos: int) -> int:
        """The number of updates."""
        return self.epochs * math.ceil(num_videos / self.videos_per_step)


class SegmentEncoder:
    """The frozen encoder, which turns the clips of a video into one sequence of tokens.

    Raises:
        ValueError: a layer does not exist.
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
        tokens = torch.cat(found, dim=1).float()  # (B * num_segments, layers * N, D)
        return tokens.unflatten(0, (-1, options.num_segments)).flatten(1, 2)  # (B, num_segments * layers * N, D)


class VJEPA2Fit:
    """Trains the heads by epochs, and continues an interrupted training after its last complete epoch.

    Args:
        model: the encoder, on the device to compute on.
        dataset: the training videos, with items of `SegmentTransform`.
        num_classes: number of classes.
        options: how the heads are trained.
        file: file in which the state is kept after each epoch. Together, 20 heads take 12 bytes for each of their
            parameters: 7 GB for ViT-B, 12 GB for ViT-L.
    """

    def __init__(
        self, model: VideoMAEV2Model, dataset: VideoDataset, num_classes: int, options: FitOptions, file: Path
    ) -> None:
        self.encoder, self.dataset, self.options, self.file = SegmentEncoder(model, options), dataset, options, file
        self.epoch = 0
        self.heads = ProbeHeads(
            options.settings,
            model.config.hidden_size,
            num_classes,
            options.num_steps(len(dataset)),
            model.device,
            bf16=options.bf16,
            seed=options.seed,
        )
        self.train_collator = encoder_collator(model.config, erasing=RANDOM_ERASING)
        self.collator = encoder_collator(model.config)
        self.facts = {
            **{name: str(value) for name, value in vars(options).items() if name not in _MAY_CHANGE},
            **data_facts(dataset),
            "clips": str(dataset.load.augmentation.sampling),
            "antialias": str(dataset.load.augmentation.antialias),
            "image_size": str(model.config.image_hw),
            "classes": str(num_classes),
            "weights": weights_digest(model),
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
        except (RuntimeError, EOFError, pickle.UnpicklingError) as error:
            raise ValueError(f"{self.file}, an unfinished probe, is damaged; {way_out}.") from error
        for name, value in self.facts.items():
            stored = state["facts"].get(name)
            if stored != value:
                raise ValueError(f"{self.file} is an unfinished probe with {name}={stored}, not {value}; {way_out}.")
        self.heads.load_state_dict(state["heads"])
        self.epoch = state["epoch"]
        return self.epoch

    def train(self) -> None:
        """Trains the remaining epochs.

        Raises:
            BadVideosError: too many of the videos are unreadable; others replace those that are.
            OSError: the state cannot be written.
        """
        while self.epoch < self.options.epochs:
            self._train_epoch()
            bad, number = self.dataset.bad_videos()
            if bad > self.options.max_bad_fraction * number:
                raise BadVideosError(
                    f"{bad} of {number} training videos cannot be read, more than max_bad_fraction="
                    f"{self.options.max_bad_fraction:g}; their names are in the log above."
                )
            self.epoch += 1
            if self.epoch < self.options.epochs:
                self._save()

    def _train_epoch(self) -> None:
        options, number = self.options, len(self.dataset)
        self.dataset.set_epoch(self.epoch)
        order = torch.randperm(number, generator=generator_of(options.seed, self.epoch)).tolist()
        loader = DataLoader(
            self.dataset,
            options.batch_size,
            sampler=order,
            collate_fn=self.train_collator,
            num_workers=options.num_workers,
        )
        batches = self._encoded(loader)
        starts = tqdm(range(0, number, options.videos_per_step), f"Epoch {self.epoch + 1} of {options.epochs}")
        for start in starts:
            num_videos = min(options.videos_per_step, number - start)
            loss = self.heads.update(islice(batches, math.ceil(num_videos / options.batch_size)), num_videos)
            starts.set_postfix(lowest_loss=f"{loss:.4f}")

    def _encoded(self, loader: Iterable[dict]) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
        """Tokens (B, L, D) and labels int64 (B,) of training batches."""
        for batch in loader:
            labels = batch["labels"][:: self.options.num_segments]  # (B * num_segments,) -> (B,)
            yield self.encoder.tokens(batch["pixel_values"]), labels.to(self.heads.device)

    def _save(self) -> None:
        partial = self.file.with_suffix(".partial")
        torch.save({"facts": self.facts, "epoch": self.epoch, "heads": self.heads.state_dict()}, partial)
        os.replace(partial, self.file)

    def finish(self) -> None:
        """Deletes the state, after the results have been written."""
        self.file.unlink(missing_ok=True)

    def score(self, dataset: VideoDataset) -> tuple[np.ndarray, np.ndarray]:
        """Probabilities of the evaluation videos.

        Args:
            dataset: the videos, as `num_segments` x `num_crops` views each; unreadable ones are marked.

        Returns:
            float32 (heads, M, num_classes) of the M readable videos, and bool (N,) that says which these are.
        """
        options, every, readable = self.options, [], []
        loader = DataLoader(dataset, options.eval_batch_size, collate_fn=self.collator, num_workers=options.num_workers)
        for batch in tqdm(loader, desc=f"Scores of {len(dataset)} videos", unit="batch"):
            known = batch["labels"] != UNREADABLE
            readable.append(known.numpy())
            if known.any():
                views = batch["pixel_values"][known]
                # (B, num_segments * num_crops, T, C, H, W) -> (B, num_segments, num_crops, T, C, H, W)
                views = views.reshape(len(views), options.num_segments, options.num_crops, *views.shape[-4:])
                crops = [self.encoder.tokens(crop.flatten(0, 1)) for crop in views.unbind(dim=2)]
                every.append(self.heads.probabilities(crops).cpu())
        shape = (len(options.settings), 0, self.heads.heads[0].classifier.out_features)
        probabilities = torch.cat([torch.zeros(shape), *every], dim=1)  # (heads, M, num_classes)
        return probabilities.numpy(), np.concatenate(readable)


# Options that do not affect the heads
_MAY_CHANGE = ("batch_size", "eval_batch_size", "num_crops", "num_workers", "max_bad_fraction")

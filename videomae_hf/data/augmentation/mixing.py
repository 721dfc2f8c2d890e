# Copyright 2026 The videomae_hf authors. Licensed under the Apache License, Version 2.0.
"""Mixup and CutMix for a batch of clips, with soft labels."""

from dataclasses import dataclass

import numpy as np
import torch

from ...settings.groups import AugmentationSettings
from .transforms import random_float, random_int


MODES = ("batch", "pair", "elem")


@dataclass
class Mixing:
    """Mixes each clip with the one at the mirrored position in the batch, and their labels in the same proportion.

    Mixup (Zhang et al., 2017) is a weighted sum of two clips; CutMix (Yun et al., 2019) pastes a box of one clip into
    the other, the same box in all frames. The weight of the clip itself is sampled from Beta(alpha, alpha). For CutMix,
    the labels are weighted by the numbers of pixels, as the box may extend beyond the border. The defaults are the
    official ones (v1/mixup.py).

    Args:
        num_classes: number of classes K.
        mixup_alpha: parameter of the Beta distribution for Mixup; 0 disables Mixup.
        cutmix_alpha: parameter of the Beta distribution for CutMix; 0 disables CutMix. If both are 0, labels are only
            smoothed.
        probability: probability of mixing.
        switch_probability: probability of CutMix instead of Mixup, if both are enabled.
        mode: which clips share random numbers: the whole `"batch"`, the two clips of a `"pair"`, or none (`"elem"`).
        label_smoothing: s; labels become s / K, and 1 - s + s / K for the true class.

    Raises:
        ValueError: a value is out of range, or the mode is unknown.
    """

    num_classes: int
    mixup_alpha: float = 0.8
    cutmix_alpha: float = 1.0
    probability: float = 1.0
    switch_probability: float = 0.5
    mode: str = "batch"
    label_smoothing: float = 0.1

    def __post_init__(self):
        if self.num_classes < 1:
            raise ValueError(f"num_classes={self.num_classes} must be at least 1.")
        if self.mode not in MODES:
            raise ValueError(f"mode={self.mode!r} is unknown; choose one of {', '.join(MODES)}.")
        for name in ("mixup_alpha", "cutmix_alpha"):
            if getattr(self, name) < 0:
                raise ValueError(f"{name}={getattr(self, name)} must be positive, or 0 to disable it.")
        for name in ("probability", "switch_probability", "label_smoothing"):
            if not 0 <= getattr(self, name) <= 1:
                raise ValueError(f"{name}={getattr(self, name)} must be in [0, 1].")

    def __call__(
        self, pixel_values: torch.Tensor, labels: torch.Tensor, generator: torch.Generator
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Mixes a batch.

        Args:
            pixel_values: float (B, T, C, H, W), normalised.
            labels: int64 (B,), or float (B, K) for several classes per clip, which are mixed but not smoothed.
            generator: random generator on the CPU.

        Returns:
            The mixed clips, a new tensor (B, T, C, H, W), and their labels, float32 (B, K).

        Raises:
            ValueError: shapes or labels do not fit, or the batch is odd in mode `"pair"`. Deviation: the official code
                requires an even batch in every mode. In the other modes, the middle clip of an odd batch is mixed with
                itself and remains unchanged.
        """
        if pixel_values.ndim != 5 or not pixel_values.is_floating_point():
            raise ValueError(
                f"pixel_values {pixel_values.dtype} {tuple(pixel_values.shape)} must be a normalised float batch "
                f"(B, T, C, H, W)."
            )
        targets = self._soft_labels(labels, len(pixel_values))
        if self.mixup_alpha == self.cutmix_alpha == 0:
            return pixel_values, targets
        shares = self._draw_shares(*pixel_values.shape[:1], *pixel_values.shape[-2:], generator)  # (B or 1, H, W)
        label_shares = shares.mean(dim=(1, 2), dtype=torch.float64)[:, None].to(targets)  # (B or 1, 1)
        targets = targets.flip(0).lerp(targets, label_shares)
        shares = shares[:, None, None].to(pixel_values)  # (B or 1, H, W) -> (B or 1, 1, 1, H, W)
        return pixel_values.flip(0).lerp(pixel_values, shares), targets

    def _soft_labels(self, labels: torch.Tensor, batch_size: int) -> torch.Tensor:
        """Labels in either form -> float32 (B, K), smoothed if they are class indices."""
        shape = (batch_size, self.num_classes)
        if labels.is_floating_point():
            if labels.shape != shape:
                raise ValueError(f"Float labels of shape {tuple(labels.shape)} must be (batch, num_classes), {shape}.")
            return labels.float()
        if labels.shape != shape[:1]:
            raise ValueError(f"Labels of shape {tuple(labels.shape)} must be ({batch_size},), one per clip.")
        if not 0 <= int(labels.min()) <= int(labels.max()) < self.num_classes:
            raise ValueError(f"Labels {labels.tolist()} must be in [0, num_classes), num_classes={self.num_classes}.")
        one_hot = torch.nn.functional.one_hot(labels, self.num_classes).float()
        return one_hot * (1 - self.label_smoothing) + self.label_smoothing / self.num_classes

    def _draw_shares(self, batch_size: int, height: int, width: int, generator: torch.Generator) -> torch.Tensor:
        """float32 (B, H, W), or (1, H, W) for all clips: the weight of the clip itself at each pixel."""
        if self.mode == "pair" and batch_size % 2:
            raise ValueError(f'A batch of {batch_size} cannot be mixed in pairs; make it even or set mode="batch".')
        draws = {"batch": 1, "pair": batch_size // 2, "elem": batch_size}[self.mode]
        shares = torch.stack([self._draw_share(height, width, generator) for _ in range(draws)])
        return torch.cat([shares, shares.flip(0)]) if self.mode == "pair" else shares

    def _draw_share(self, height: int, width: int, generator: torch.Generator) -> torch.Tensor:
        """float32 (H, W), sampled once: a constant for Mixup; 0 inside the box and 1 elsewhere for CutMix."""
        if random_float(0, 1, generator) >= self.probability:
            return torch.ones(height, width)
        cutmix = random_float(0, 1, generator) < self.switch_probability
        if self.cutmix_alpha == 0 or (self.mixup_alpha > 0 and not cutmix):
            return torch.full((height, width), sample_beta(self.mixup_alpha, generator))
        share = torch.ones(height, width)
        side = (1 - sample_beta(self.cutmix_alpha, generator)) ** 0.5  # of the box, relative to the side of the frame
        half_height, half_width = int(height * side) // 2, int(width * side) // 2
        y, x = random_int(0, height - 1, generator), random_int(0, width - 1, generator)  # the centre
        share[max(y - half_height, 0) : y + half_height, max(x - half_width, 0) : x + half_width] = 0
        return share


def sample_beta(alpha: float, generator: torch.Generator) -> float:
    """A sample from Beta(alpha, alpha), through numpy: torch can sample it from its global generator only."""
    return float(np.random.default_rng(random_int(0, 2**62, generator)).beta(alpha, alpha))


def mixing_of(settings: AugmentationSettings, num_classes: int) -> Mixing | None:
    """Mixup, CutMix and label smoothing, if any is asked for."""
    if not settings.mixes:
        return None
    return Mixing(
        num_classes,
        mixup_alpha=settings.mixup_alpha,
        cutmix_alpha=settings.cutmix_alpha,
        probability=settings.mix_probability,
        switch_probability=settings.mix_switch_probability,
        mode=settings.mix_mode,
        label_smoothing=settings.label_smoothing,
    )

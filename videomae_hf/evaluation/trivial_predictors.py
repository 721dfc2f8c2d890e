# Copyright 2026 The videomae_hf authors. Licensed under the Apache License, Version 2.0.
"""Trivial predictors, which need no training: a pretraining has learned something once its loss is below theirs."""

import torch

from ..models.configuration_videomae_v2 import VideoMAEV2Config
from ..models.masking import ids_to_mask
from ..models.modeling_videomae_v2 import VideoMAEV2ForPreTraining
from ..models.pixel_targets import reconstruction_targets


@torch.no_grad()
def trivial_losses(
    model: VideoMAEV2ForPreTraining, pixel_values: torch.Tensor, visible_ids: torch.Tensor, decoded_ids: torch.Tensor
) -> dict[str, float]:
    """The loss of each trivial predictor on masked clips.

    - `patch_mean`: each patch is filled with its own mean colour, which only the target knows. With `norm_pix_loss`,
      where the model does not predict the mean either, this is a prediction of zeros (of MAE's targets, the mean grey).
    - `background`: the median colour of the visible pixels of the clip; only without `norm_pix_loss`.
    - `nearest_in_space`, `nearest_in_time`: the pixels of the nearest visible patch, preferably in the same slice or at
      the same place; with `norm_pix_loss`, normalised by their own statistics.

    Args:
        model: the model whose loss, targets and geometry apply; its weights are not used.
        pixel_values: (B, T, C, H, W), uint8 or normalised.
        visible_ids, decoded_ids: int64 (B, N), as the model takes them.
    """
    config = model.config
    masked = ~ids_to_mask(visible_ids, config.sequence_length)  # (B, L)
    targets = model.reconstruction_targets(pixel_values, decoded_ids)  # (B, N_decoded, t * h * w * C)
    by_channel = targets.unflatten(2, (-1, config.num_channels))  # (B, N_decoded, t * h * w, C)
    together = config.target_pixels == "normalized" and config.norm_pix_loss  # all channels have one mean
    mean = by_channel.mean(dim=(2, 3) if together else 2, keepdim=True)
    predictions = {"patch_mean": mean.expand_as(by_channel).flatten(2)}
    if not config.norm_pix_loss:
        median = _visible_median(config, pixel_values, visible_ids)[:, None, None]  # (B, C) -> (B, 1, 1, C)
        predictions["background"] = median.expand_as(by_channel).flatten(2)
    for name in ("space", "time"):
        nearest = nearest_visible(config, visible_ids, decoded_ids, first=name)
        predictions[f"nearest_in_{name}"] = model.reconstruction_targets(pixel_values, nearest)
    return {
        name: model.forward_loss(pixel_values, prediction, masked, decoded_ids).item()
        for name, prediction in predictions.items()
    }


def trivial_loss(losses: dict[str, float], config: VideoMAEV2Config) -> float:
    """The smallest of `trivial_losses` that uses no more than a model may know.

    Without `norm_pix_loss`, `patch_mean` is left out: it knows the mean of hidden pixels, which a model has to predict.
    """
    return min(loss for name, loss in losses.items() if config.norm_pix_loss or name != "patch_mean")


def nearest_visible(
    config: VideoMAEV2Config, visible_ids: torch.Tensor, decoded_ids: torch.Tensor, first: str
) -> torch.Tensor:
    """int64 (B, N_decoded): for each decoded token the nearest visible one, of equally near ones the first.

    Args:
        config: the grid of tokens.
        visible_ids, decoded_ids: int64 (B, N).
        first: `"space"` prefers tokens of the same slice, `"time"` tokens of the same row and column.
    """
    axes = [torch.arange(size, device=visible_ids.device) for size in config.grid_size]
    places = torch.cartesian_prod(*axes)  # (L, 3): slice, row, column
    nearest = []
    for visible, decoded in zip(visible_ids, decoded_ids):  # one clip at a time, which limits memory
        steps = places[decoded][:, None] - places[visible][None]  # (N_decoded, N_visible, 3)
        in_time, in_space = steps[..., 0].abs(), steps[..., 1:].square().sum(dim=-1)
        near, far = (in_space, in_time) if first == "space" else (in_time, in_space)
        nearest.append(visible[(far * (near.max() + 1) + near).argmin(dim=1)])
    return torch.stack(nearest)


def _visible_median(config: VideoMAEV2Config, pixel_values: torch.Tensor, visible_ids: torch.Tensor) -> torch.Tensor:
    """(B, C): the median of the visible pixels of each clip, in the range of the targets, without `norm_pix_loss`."""
    patches = reconstruction_targets(pixel_values, config, visible_ids)
    # (B, N, t * h * w * C) -> (B, N * t * h * w, C)
    return patches.flatten(1).unflatten(1, (-1, config.num_channels)).median(dim=1).values

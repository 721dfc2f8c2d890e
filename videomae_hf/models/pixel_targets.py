# Copyright 2026 The videomae_hf authors. Licensed under the Apache License, Version 2.0.
"""The targets of the decoder, and the way back from its predictions to pixels.

VideoMAE (`target_pixels="unit"`) predicts pixels in [0, 1], and with `norm_pix_loss` normalises each channel of a patch
by its own statistics. MAE (`"normalized"`) predicts pixels as the encoder sees them, and normalises all values of a
patch together. Statistics have unbiased variances. This file ships with checkpoints and may import only its siblings.
"""

import torch

from .configuration_videomae_v2 import VideoMAEV2Config
from .layers_videomae_v2 import channel_values, normalize_patches, patchify, pixel_range


_EPSILON = 1e-6  # of the statistics, in both official codes


def reconstruction_targets(
    pixel_values: torch.Tensor, config: VideoMAEV2Config, token_ids: torch.Tensor | None = None
) -> torch.Tensor:
    """The targets of the decoder for these tokens (None: all): (B, N, tubelet_size * h * w * C), float32.

    Args:
        pixel_values: (B, T, C, H, W), uint8, or float and normalised by the configuration's mean and std.
        config: says which pixels are predicted, and how they are normalised.
        token_ids: int64 (B, N).
    """
    patches = patchify(pixel_values, config.tubelet_size, config.patch_hw, token_ids)
    if config.target_pixels == "normalized":
        patches = normalize_patches(patches, config).float()
        if not config.norm_pix_loss:
            return patches
        variance, mean = torch.var_mean(patches, dim=2, unbiased=True, keepdim=True)  # (B, N, 1)
        return (patches - mean).div_((variance + _EPSILON).sqrt_())  # mae/models_mae.py: within the root
    patches = patches.float().unflatten(2, (-1, config.num_channels))  # (B, N, t * h * w, C)
    mean, std = (channel_values(v, patches.device) for v in pixel_range(config, pixel_values.dtype))
    if not config.norm_pix_loss:
        return torch.addcmul(mean, patches, std).flatten(2)
    # v1/engine_for_pretraining.py adds the epsilon to the deviation of pixels in [0, 1]: the range matters for nothing
    # else, so that uint8 pixels are not normalised first, and normalised ones are not turned back.
    variance, mean = torch.var_mean(patches, dim=2, unbiased=True, keepdim=True)  # (B, N, 1, C)
    return (patches - mean).div_(variance.sqrt() + _EPSILON / std).flatten(2)


def predicted_pixels(
    logits: torch.Tensor, pixel_values: torch.Tensor, config: VideoMAEV2Config, token_ids: torch.Tensor
) -> torch.Tensor:
    """Predictions of the decoder as pixels in [0, 1]: the inverse of `reconstruction_targets`.

    With `norm_pix_loss`, the mean and the contrast of patches are taken from the original.

    Args:
        logits: (B, N, tubelet_size * h * w * C), the predictions for the tokens `token_ids`.
        pixel_values: (B, T, C, H, W), the original clips.
        config: the configuration of the model.
        token_ids: int64 (B, N).

    Returns:
        (B, N, tubelet_size * h * w * C), float32.
    """
    predicted = logits.float().unflatten(2, (-1, config.num_channels))  # (B, N, t * h * w, C)
    mean, std = (channel_values(v, logits.device) for v in (config.image_mean, config.image_std))
    original = patchify(pixel_values, config.tubelet_size, config.patch_hw, token_ids)
    original = normalize_patches(original, config).float().unflatten(2, (-1, config.num_channels))
    if config.target_pixels == "normalized":
        if config.norm_pix_loss:
            variance, own_mean = torch.var_mean(original, dim=(2, 3), unbiased=True, keepdim=True)  # (B, N, 1, 1)
            predicted = predicted * (variance + _EPSILON).sqrt() + own_mean
        return torch.addcmul(mean, predicted, std).flatten(2)
    if config.norm_pix_loss:
        own_std, own_mean = torch.std_mean(torch.addcmul(mean, original, std), dim=2, keepdim=True)  # (B, N, 1, C)
        predicted = predicted * (own_std + _EPSILON) + own_mean
    return predicted.flatten(2)

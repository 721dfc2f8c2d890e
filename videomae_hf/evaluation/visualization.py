# Copyright 2026 The videomae_hf authors. Licensed under the Apache License, Version 2.0.
"""Pictures of what a pretrained model sees, is asked for and makes up."""

import torch
from PIL import Image

from ..layers_videomae_v2 import patchify, pixel_range, unpatchify
from ..masking import draw_masks, mask_to_ids
from ..modeling_videomae_v2 import VideoMAEV2ForPreTraining


STRIP_ROWS = ("original", "encoder sees", "decoded in training", "reconstruction")
_GREY = 0.5


@torch.no_grad()
def reconstruct(
    model: VideoMAEV2ForPreTraining, pixel_values: torch.Tensor, bool_masked_pos: torch.Tensor
) -> torch.Tensor:
    """The clip with every masked token reconstructed and the visible ones as they were.

    With `norm_pix_loss` the model predicts patches without their mean and contrast: these are taken from the original
    (as in v1/run_videomae_vis.py), so that flat areas look right however bad the model is. Look at the shapes.

    Args:
        pixel_values: (B, T, C, H, W), normalised.
        bool_masked_pos: bool (B, L), True = masked; the same number in every row.

    Returns:
        (B, T, C, H, W), float32 in [0, 1].
    """
    config = model.config
    outputs = model(pixel_values, bool_masked_pos=bool_masked_pos, bool_decoded_pos=bool_masked_pos)
    pixels = _to_unit_range(model, pixel_values)
    patches = patchify(pixels, config.tubelet_size, config.patch_hw)  # (B, L, t * h * w * C)
    masked_ids = mask_to_ids(bool_masked_pos, int(bool_masked_pos[0].sum()))[..., None].expand_as(outputs.logits)
    # (B, N, t * h * w * C) -> (B, N, t * h * w, C), the axis over which each channel was normalised
    predicted = outputs.logits.float().unflatten(2, (-1, config.num_channels))
    if config.norm_pix_loss:
        original = patches.gather(1, masked_ids).unflatten(2, (-1, config.num_channels))
        std, mean = torch.std_mean(original, dim=2, keepdim=True)  # (B, N, 1, C)
        predicted = predicted * (std + 1e-6) + mean
    patches = patches.scatter(1, masked_ids, predicted.flatten(2))
    return unpatchify(patches, config.grid_size, config.tubelet_size, config.patch_hw).clamp(0, 1)


@torch.no_grad()
def reconstruction_strip(
    model: VideoMAEV2ForPreTraining, pixel_values: torch.Tensor, generator: torch.Generator | None = None
) -> Image.Image:
    """One clip as a picture: a row for each of `STRIP_ROWS`, a column for the first frame of each tubelet.

    Masks are drawn from the configuration. The third row shows the tokens that count in the loss, which are all the
    masked ones in V1; the fourth shows every masked token reconstructed (see `reconstruct`).

    Args:
        pixel_values: (T, C, H, W) or (1, T, C, H, W), normalised.
        generator: of the masks, on the CPU.
    """
    if pixel_values.ndim == 4:
        pixel_values = pixel_values[None]  # (T, C, H, W) -> (1, T, C, H, W)
    if pixel_values.ndim != 5 or pixel_values.shape[0] != 1:
        raise ValueError(f"pixel_values of shape {tuple(pixel_values.shape)}: one clip (T, C, H, W) is needed.")
    config = model.config
    pixel_values = pixel_values.to(model.device)
    masked, decoded = (mask.to(model.device) for mask in draw_masks(config, 1, generator))
    pixels = _to_unit_range(model, pixel_values)
    in_loss = masked & decoded
    clips = [pixels, _hide(pixels, masked, config), _hide(pixels, ~in_loss, config)]
    clips.append(reconstruct(model, pixel_values, masked))
    rows = torch.cat(clips)[:, :: config.tubelet_size]  # (4, T', C, H, W)
    return _grid(rows.cpu())


def _to_unit_range(model, pixel_values: torch.Tensor) -> torch.Tensor:
    """Clips (B, T, C, H, W), uint8 or normalised -> float32 in [0, 1]."""
    mean, std = pixel_range(model.config, pixel_values.dtype)
    mean, std = (torch.tensor(values, device=pixel_values.device)[:, None, None] for values in (mean, std))
    return (pixel_values.float() * std + mean).clamp(0, 1)


def _hide(pixels: torch.Tensor, mask: torch.Tensor, config) -> torch.Tensor:
    """Grey where the mask (1, L) is True."""
    patches = patchify(pixels, config.tubelet_size, config.patch_hw)  # (1, L, t * h * w * C)
    patches = torch.where(mask[..., None], _GREY, patches)
    return unpatchify(patches, config.grid_size, config.tubelet_size, config.patch_hw)


def _grid(rows: torch.Tensor, border: int = 2) -> Image.Image:
    """(R, T', C, H, W) in [0, 1] -> a picture of R rows; the first three channels, or the first alone."""
    channels = 3 if rows.shape[2] >= 3 else 1
    tiles = torch.nn.functional.pad(rows[:, :, :channels], (border,) * 4, value=1.0).expand(-1, -1, 3, -1, -1)
    # (R, T', 3, H, W) -> (R, H, T', W, 3) -> (R * H, T' * W, 3)
    picture = tiles.permute(0, 3, 1, 4, 2).flatten(2, 3).flatten(0, 1)
    return Image.fromarray((picture * 255).round().byte().numpy())

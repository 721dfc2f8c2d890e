# Copyright 2026 The videomae_hf authors. Licensed under the Apache License, Version 2.0.
"""Pictures of the input, the targets and the reconstructions of a pretrained model."""

import numpy as np
import torch
from PIL import Image

from ..models.configuration_videomae_v2 import VideoMAEV2Config
from ..models.layers_videomae_v2 import patchify, pixel_range, unpatchify
from ..models.masking import mask_to_ids, sample_masks
from ..models.modeling_videomae_v2 import VideoMAEV2ForPreTraining
from ..models.pixel_targets import predicted_pixels
from .strips import NAMES_WIDTH, named_rows, tile_grid, titled_columns


STRIP_ROWS = ("original", "encoder sees", "decoded in training", "reconstruction")
_WITH_STATISTICS = "(mean and contrast of\npatches are the original's,\nshapes the model's)"
_GREY = 0.5
_SMALLEST_PANEL = 168  # pixels, of moving pictures


@torch.no_grad()
def reconstruct(
    model: VideoMAEV2ForPreTraining, pixel_values: torch.Tensor, bool_masked_pos: torch.Tensor
) -> torch.Tensor:
    """The clip with every masked token reconstructed and the visible tokens unchanged.

    With `norm_pix_loss` the model predicts patches without their mean and contrast. These are taken from the original
    (as in v1/run_videomae_vis.py), so that flat areas look right even for a bad model; judge it by the shapes.

    Args:
        pixel_values: (B, T, C, H, W), uint8 or normalised.
        bool_masked_pos: bool (B, L), True = masked; the same number in every row.

    Returns:
        (B, T, C, H, W), float32 in [0, 1].
    """
    config = model.config
    outputs = model(pixel_values, bool_masked_pos=bool_masked_pos, bool_decoded_pos=bool_masked_pos)
    pixels = to_unit_range(pixel_values, config)
    patches = patchify(pixels, config.tubelet_size, config.patch_hw)  # (B, L, t * h * w * C)
    masked_ids = mask_to_ids(bool_masked_pos, int(bool_masked_pos[0].sum()))
    predicted = predicted_pixels(outputs.logits, pixel_values, config, masked_ids)  # (B, N, t * h * w * C)
    patches = patches.scatter(1, masked_ids[..., None].expand_as(predicted), predicted)
    return unpatchify(patches, config.grid_size, config.tubelet_size, config.patch_hw).clamp(0, 1)


def reconstruction_strip(
    model: VideoMAEV2ForPreTraining, pixel_values: torch.Tensor, generator: torch.Generator | None = None
) -> Image.Image:
    """The picture of one clip, see `reconstruction_strips`, with masks sampled according to the configuration.

    Args:
        pixel_values: (T, C, H, W) or (1, T, C, H, W), uint8 or normalised.
        generator: random generator for the masks, on the CPU.

    Raises:
        ValueError: there is more than one clip.
    """
    if pixel_values.ndim == 4:
        pixel_values = pixel_values[None]  # (T, C, H, W) -> (1, T, C, H, W)
    if pixel_values.ndim != 5 or pixel_values.shape[0] != 1:
        raise ValueError(f"pixel_values of shape {tuple(pixel_values.shape)} must be one clip (T, C, H, W).")
    return reconstruction_strips(model, pixel_values, *sample_masks(model.config, 1, generator))[0]


def reconstruction_strips(
    model: VideoMAEV2ForPreTraining,
    pixel_values: torch.Tensor,
    bool_masked_pos: torch.Tensor,
    bool_decoded_pos: torch.Tensor,
) -> list[Image.Image]:
    """Clips as pictures, with a named row for each of `STRIP_ROWS` and a column for the first frame of each tubelet.

    The third row shows the tokens in the loss, which in V1 are all masked ones. The fourth row shows the reconstruction
    of every masked token (see `reconstruct`); with `norm_pix_loss` its name says what is taken from the original.

    Args:
        pixel_values: (B, T, C, H, W), uint8 or normalised.
        bool_masked_pos: bool (B, L), True = hidden from the encoder; the same number in every row.
        bool_decoded_pos: bool (B, L), True = reconstructed by the decoder in training.

    Returns:
        One picture per clip.
    """
    every = reconstruction_rows(model, pixel_values, bool_masked_pos, bool_decoded_pos)
    return [strip_of(rows, model.config) for rows in every]


def strip_of(rows: torch.Tensor, config: VideoMAEV2Config) -> Image.Image:
    """The picture of one clip: (4, T, C, H, W) in [0, 1], from `reconstruction_rows`."""
    first_frames = rows[:, :: config.tubelet_size]  # (4, T, C, H, W) -> (4, T', C, H, W)
    return named_rows(tile_grid(first_frames), row_names(config))


@torch.no_grad()
def reconstruction_rows(
    model: VideoMAEV2ForPreTraining,
    pixel_values: torch.Tensor,
    bool_masked_pos: torch.Tensor,
    bool_decoded_pos: torch.Tensor,
) -> torch.Tensor:
    """The `STRIP_ROWS` of clips, all frames of them; the arguments are those of `reconstruction_strips`.

    Returns:
        (B, 4, T, C, H, W), float32 in [0, 1], on the CPU.
    """
    config = model.config
    pixel_values, masked, decoded = (x.to(model.device) for x in (pixel_values, bool_masked_pos, bool_decoded_pos))
    pixels = to_unit_range(pixel_values, config)
    clips = [pixels, hide_patches(pixels, masked, config), hide_patches(pixels, ~(masked & decoded), config)]
    clips.append(reconstruct(model, pixel_values, masked))
    return torch.stack(clips, dim=1).cpu()  # 4 x (B, T, C, H, W) -> (B, 4, T, C, H, W)


def row_names(config: VideoMAEV2Config) -> list[str]:
    """The `STRIP_ROWS`; with `norm_pix_loss` the last one says what is taken from the original."""
    names = list(STRIP_ROWS)
    if config.norm_pix_loss:
        names[3] += f"\n{_WITH_STATISTICS}"
    return names


def moving_reconstruction(rows: torch.Tensor, config: VideoMAEV2Config) -> np.ndarray:
    """The rows of one clip as a moving picture, side by side with their names above them.

    Args:
        rows: (4, T, C, H, W) in [0, 1], from `reconstruction_rows`.

    Returns:
        uint8 (T, height, width, 3), with even height and width as H.264 needs them.
    """
    frames = []
    for panels in rows.unbind(1):  # (4, C, H, W)
        picture = titled_columns(tile_grid(panels[None], _SMALLEST_PANEL), row_names(config))
        frames.append(np.pad(picture, [(0, picture.height % 2), (0, picture.width % 2), (0, 0)], mode="edge"))
    return np.stack(frames)


def strip_row(strip: Image.Image, row: int) -> Image.Image:
    """One of the `STRIP_ROWS` of a picture from `reconstruction_strips`, without its name."""
    height = strip.height // len(STRIP_ROWS)
    return strip.crop((NAMES_WIDTH, row * height, strip.width, (row + 1) * height))


def to_unit_range(pixel_values: torch.Tensor, config: VideoMAEV2Config) -> torch.Tensor:
    """Clips (.., C, H, W), uint8 or normalised -> float32 in [0, 1]."""
    mean, std = pixel_range(config, pixel_values.dtype)
    mean, std = (torch.tensor(values, device=pixel_values.device)[:, None, None] for values in (mean, std))
    return (pixel_values.float() * std + mean).clamp(0, 1)


def hide_patches(pixels: torch.Tensor, mask: torch.Tensor, config: VideoMAEV2Config) -> torch.Tensor:
    """The pixels (B, T, C, H, W), with tokens replaced by grey where the mask (B, L) is True."""
    patches = patchify(pixels, config.tubelet_size, config.patch_hw)  # (B, L, t * h * w * C)
    patches = torch.where(mask[..., None], _GREY, patches)
    return unpatchify(patches, config.grid_size, config.tubelet_size, config.patch_hw)

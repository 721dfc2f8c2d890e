# Copyright 2026 The videomae_hf authors. Licensed under the Apache License, Version 2.0.
"""Pictures of the input, the targets and the reconstructions of a pretrained model."""

import math

import torch
from PIL import Image, ImageDraw, ImageFont

from ..models.layers_videomae_v2 import patchify, pixel_range, unpatchify
from ..models.masking import mask_to_ids, sample_masks
from ..models.modeling_videomae_v2 import VideoMAEV2ForPreTraining
from ..models.pixel_targets import predicted_pixels


STRIP_ROWS = ("original", "encoder sees", "decoded in training", "reconstruction")
_WITH_STATISTICS = "(mean and contrast of\npatches are the original's,\nshapes the model's)"
_GREY = 0.5
_NAMES_WIDTH = 136  # pixels to the left of the rows
_SMALLEST_TILE = 72  # pixels; smaller frames are enlarged, so that row names fit and patches can be seen


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
    pixels = _to_unit_range(model, pixel_values)
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


@torch.no_grad()
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
    config = model.config
    pixel_values, masked, decoded = (x.to(model.device) for x in (pixel_values, bool_masked_pos, bool_decoded_pos))
    pixels = _to_unit_range(model, pixel_values)
    clips = [pixels, _hide(pixels, masked, config), _hide(pixels, ~(masked & decoded), config)]
    clips.append(reconstruct(model, pixel_values, masked))
    # 4 x (B, T, C, H, W) -> (B, 4, T, C, H, W) -> (B, 4, T', C, H, W)
    strips = torch.stack(clips, dim=1)[:, :, :: config.tubelet_size].cpu()
    names = list(STRIP_ROWS)
    if config.norm_pix_loss:
        names[3] += f"\n{_WITH_STATISTICS}"
    return [_named_rows(_grid(rows), names) for rows in strips]


def strip_row(strip: Image.Image, row: int) -> Image.Image:
    """One of the `STRIP_ROWS` of a picture from `reconstruction_strips`, without its name."""
    height = strip.height // len(STRIP_ROWS)
    return strip.crop((_NAMES_WIDTH, row * height, strip.width, (row + 1) * height))


def _to_unit_range(model, pixel_values: torch.Tensor) -> torch.Tensor:
    """Clips (B, T, C, H, W), uint8 or normalised -> float32 in [0, 1]."""
    mean, std = pixel_range(model.config, pixel_values.dtype)
    mean, std = (torch.tensor(values, device=pixel_values.device)[:, None, None] for values in (mean, std))
    return (pixel_values.float() * std + mean).clamp(0, 1)


def _hide(pixels: torch.Tensor, mask: torch.Tensor, config) -> torch.Tensor:
    """The pixels (B, T, C, H, W), with tokens replaced by grey where the mask (B, L) is True."""
    patches = patchify(pixels, config.tubelet_size, config.patch_hw)  # (B, L, t * h * w * C)
    patches = torch.where(mask[..., None], _GREY, patches)
    return unpatchify(patches, config.grid_size, config.tubelet_size, config.patch_hw)


def _grid(rows: torch.Tensor, border: int = 2) -> Image.Image:
    """(R, T', C, H, W) in [0, 1] -> a picture of R rows, from the first three channels, or from the first one only."""
    channels = 3 if rows.shape[2] >= 3 else 1
    scale = math.ceil(_SMALLEST_TILE / min(rows.shape[-2:]))
    tiles = rows[:, :, :channels].repeat_interleave(scale, dim=3).repeat_interleave(scale, dim=4)
    tiles = torch.nn.functional.pad(tiles, (border,) * 4, value=1.0).expand(-1, -1, 3, -1, -1)
    # (R, T', 3, H, W) -> (R, H, T', W, 3) -> (R * H, T' * W, 3)
    picture = tiles.permute(0, 3, 1, 4, 2).flatten(2, 3).flatten(0, 1)
    return Image.fromarray((picture * 255).round().byte().numpy())


def _named_rows(picture: Image.Image, names: list[str]) -> Image.Image:
    """The picture with a name to the left of each of its rows, which have equal heights."""
    named = Image.new("RGB", (_NAMES_WIDTH + picture.width, picture.height), "white")
    named.paste(picture, (_NAMES_WIDTH, 0))
    draw, font = ImageDraw.Draw(named), ImageFont.load_default()
    for row, name in enumerate(names):
        draw.text((4, picture.height * row // len(names) + 4), name, fill="black", font=font)
    return named

# Copyright 2026 The videomae_hf authors. Licensed under the Apache License, Version 2.0.
"""The masks of VideoMAE V1 and V2.

All masks follow one convention: bool (B, L), with tokens flattened in the order slice, row, column. In
`bool_masked_pos`, True means hidden from the encoder. In `bool_decoded_pos`, True means reconstructed by the decoder;
this is the inverse of the official decoder mask, where 1 means "not decoded".

The decoded positions may include visible ones, as in the official code (v2/models/modeling_pretrain.py): the decoder
gets a mask token there, and the loss ignores it. Every row of a mask has the same number of True, which follows from
the configuration alone (`token_counts`), so that all shapes are static. This file ships with checkpoints and may import
only its siblings.
"""

from collections.abc import Callable
from dataclasses import dataclass

import torch


@dataclass(frozen=True)
class MaskType:
    """A kind of mask.

    Args:
        sample: called with (config, batch_size, ratio, generator, device); gives bool (B, L), True for the tokens that
            the encoder does not see, or that the decoder skips.
        count: called with (config, ratio); the number of True in each row.
    """

    sample: Callable[..., torch.Tensor]
    count: Callable[..., int]


def token_counts(config) -> tuple[int, int]:
    """(visible tokens, decoded tokens) per clip, for the masks that `sample_masks` samples from `config`.

    Raises:
        ValueError: the mask ratio is too low to hide any token.
    """
    slices, rows, columns = config.grid_size
    length = config.sequence_length
    masked = ENCODER_MASKS[config.mask_type].count(config, config.mask_ratio)
    if masked == 0:
        raise ValueError(
            f"mask_ratio={config.mask_ratio} with mask_type={config.mask_type!r} hides none of the "
            f"{slices}x{rows}x{columns} tokens, so that there is nothing to reconstruct; increase it."
        )
    if config.decoder_mask_ratio == 0:
        return length - masked, masked
    return length - masked, length - DECODER_MASKS[config.decoder_mask_type].count(config, config.decoder_mask_ratio)


def sample_masks(
    config, batch_size: int, generator: torch.Generator | None = None, device: torch.device | str | None = None
) -> tuple[torch.Tensor, torch.Tensor]:
    """Samples the masks of a batch.

    Args:
        config: a `VideoMAEV2Config`; its mask fields and geometry determine the masks.
        batch_size: number of clips B.
        generator: random generator, on `device`; None is torch's global generator.
        device: device of the masks; None is the device of the generator, or the CPU.

    Returns:
        `bool_masked_pos` and `bool_decoded_pos`, both bool (B, L).
    """
    bool_masked_pos = sample_encoder_mask(config, batch_size, generator, device)
    if config.decoder_mask_ratio == 0:
        return bool_masked_pos, bool_masked_pos
    return bool_masked_pos, sample_decoder_mask(config, batch_size, generator, device)


def sample_encoder_mask(config, batch_size: int, generator=None, device=None) -> torch.Tensor:
    """`bool_masked_pos` (B, L); the arguments are those of `sample_masks`."""
    config.check_pretraining()
    token_counts(config)  # raises if the configuration masks nothing
    sample = ENCODER_MASKS[config.mask_type].sample
    return sample(config, batch_size, config.mask_ratio, generator, _device_of(generator, device))


def sample_decoder_mask(config, batch_size: int, generator=None, device=None) -> torch.Tensor:
    """`bool_decoded_pos` (B, L), for a configuration with `decoder_mask_ratio` > 0; arguments as in `sample_masks`."""
    config.check_pretraining()
    sample = DECODER_MASKS[config.decoder_mask_type].sample
    return ~sample(config, batch_size, config.decoder_mask_ratio, generator, _device_of(generator, device))


def sample_image_ids(
    config, batch_size: int, ratio: float, generator: torch.Generator | None = None
) -> tuple[torch.Tensor, torch.Tensor]:
    """Samples the tokens of images in a video model, where an image is one slice (OmniMAE, arXiv 2206.08356).

    Args:
        config: a `VideoMAEV2Config`.
        batch_size: number of images B.
        ratio: fraction of the tokens of the slice that is hidden; all hidden ones are decoded.
        generator: random generator of the CPU; None is torch's global generator.

    Returns:
        `visible_ids` and `decoded_ids`, int64 (B, N), both within the first slice.

    Raises:
        ValueError: the ratio hides no token, or all of them.
    """
    _, rows, columns = config.grid_size
    hidden = int(ratio * rows * columns)
    if not 0 < hidden < rows * columns:
        raise ValueError(f"An image mask ratio of {ratio} hides {hidden} of the {rows * columns} tokens of an image.")
    masked = random_mask(batch_size, rows * columns, ratio, generator)  # (B, rows * columns)
    return mask_to_ids(~masked, rows * columns - hidden), mask_to_ids(masked, hidden)


def _device_of(generator: torch.Generator | None, device: torch.device | str | None) -> torch.device | str:
    if device is not None:
        return device
    return "cpu" if generator is None else generator.device


def random_mask(batch_size: int, length: int, ratio: float, generator=None, device="cpu") -> torch.Tensor:
    """bool (B, length) with `int(ratio * length)` True in each row (v2/masking_generator.py)."""
    order = torch.rand(batch_size, length, generator=generator, device=device).argsort(dim=1)
    # The ranks of random numbers within a row are a random permutation; the lowest ranks are masked.
    return order.argsort(dim=1) < int(ratio * length)


def tube_mask(
    batch_size: int,
    grid_size: tuple[int, int, int],
    ratio: float,
    slices_per_tube: int | None = None,
    generator=None,
    device="cpu",
) -> torch.Tensor:
    """bool (B, L): the same `int(ratio * rows * columns)` positions in every slice of a tube, sampled once per tube.

    Official tubes (v1/masking_generator.py) last for the whole clip: `slices_per_tube=None`.
    """
    slices, rows, columns = grid_size
    slices_per_tube = slices_per_tube or slices
    tubes = -(-slices // slices_per_tube)  # the last tube may be shorter
    places = random_mask(batch_size * tubes, rows * columns, ratio, generator, device)
    # (B * tubes, rows * columns) -> (B, tubes, rows * columns) -> (B, slices, rows * columns) -> (B, L)
    places = places.view(batch_size, tubes, rows * columns)
    return places.repeat_interleave(slices_per_tube, dim=1)[:, :slices].flatten(1)


def frame_mask(
    batch_size: int, grid_size: tuple[int, int, int], ratio: float, generator=None, device="cpu"
) -> torch.Tensor:
    """bool (B, L): `int(ratio * slices)` whole slices (the row "frame" in the ablation of the V2 paper)."""
    slices, rows, columns = grid_size
    masked_slices = random_mask(batch_size, slices, ratio, generator, device)
    return masked_slices.repeat_interleave(rows * columns, dim=1)  # (B, slices) -> (B, L)


def running_cell_mask(phase: torch.Tensor, grid_size: tuple[int, int, int], ratio: float) -> torch.Tensor:
    """bool (B, L): V2's running cell masks `int(4 * ratio)` places of each 2x2 cell and moves by one place per slice.

    Follows RunningCellMaskingGenerator (v2/masking_generator.py), where a queue of four places (masked ones first) is
    rolled left by one more place for each slice before it is read. At ratio 0.5 and phase 0, the cells of slices 0 to 3
    are

        # .    . .    . #    # #
        . #    # #    # .    . .      (# is masked; the pattern then repeats)

    Args:
        phase: int (B,), 0 to 3: which of the official generator's four variants each clip gets.
        grid_size: (slices, rows, columns); rows and columns must be even.
        ratio: 0.25, 0.5 or 0.75; other values are rounded down to quarters.
    """
    slices, rows, columns = (torch.arange(size, device=phase.device) for size in grid_size)
    place_in_cell = 2 * (rows % 2)[:, None] + columns % 2  # (rows, columns)
    turn = phase[:, None] + 1 + slices  # (B, slices)
    # (B, slices, 1, 1) + (rows, columns) -> (B, slices, rows, columns) -> (B, L)
    return ((turn[:, :, None, None] + place_in_cell) % 4 < int(4 * ratio)).flatten(1)


def _tubes(config, batch_size: int, ratio: float, generator, device) -> torch.Tensor:
    slices_per_tube = None if config.tube_length is None else config.tube_length // config.tubelet_size
    return tube_mask(batch_size, config.grid_size, ratio, slices_per_tube, generator, device)


def _tokens_of_tubes(config, ratio: float) -> int:
    """Tubes round down per slice: 176 of 14 x 14 at ratio 0.9, hence 1408 of 1568 tokens and not 1411."""
    slices, rows, columns = config.grid_size
    return slices * int(ratio * rows * columns)


def _random(config, batch_size: int, ratio: float, generator, device) -> torch.Tensor:
    return random_mask(batch_size, config.sequence_length, ratio, generator, device)


def _frames(config, batch_size: int, ratio: float, generator, device) -> torch.Tensor:
    return frame_mask(batch_size, config.grid_size, ratio, generator, device)


def _tokens_of_frames(config, ratio: float) -> int:
    slices, rows, columns = config.grid_size
    return int(ratio * slices) * rows * columns


def _running_cell(config, batch_size: int, ratio: float, generator, device) -> torch.Tensor:
    phase = torch.randint(4, (batch_size,), generator=generator, device=device)
    return running_cell_mask(phase, config.grid_size, ratio)


_RANDOM = MaskType(_random, lambda config, ratio: int(ratio * config.sequence_length))
_FRAME = MaskType(_frames, _tokens_of_frames)
# `config.mask_type`: tokens that the encoder does not see. A new mask is a function above and an entry here.
ENCODER_MASKS = {"tube": MaskType(_tubes, _tokens_of_tubes), "random": _RANDOM, "frame": _FRAME}
# `config.decoder_mask_type`: tokens that the decoder skips
DECODER_MASKS = {
    "running_cell": MaskType(_running_cell, lambda config, ratio: config.sequence_length // 4 * int(4 * ratio)),
    "random": _RANDOM,
    "frame": _FRAME,
}


def mask_to_ids(mask: torch.Tensor, count: int) -> torch.Tensor:
    """(B, L) bool with `count` True in each row -> (B, count) int64: the positions of True, ascending."""
    # Sort keys: the position itself for True, larger numbers for False. All keys differ, so that the sort need not be
    # stable; ONNX has no stable sort.
    positions = torch.arange(mask.shape[1], device=mask.device)
    return positions.where(mask, positions + mask.shape[1]).topk(count, dim=1, largest=False).values


def ids_to_mask(ids: torch.Tensor, length: int) -> torch.Tensor:
    """(B, N) positions -> (B, length) bool, True at these positions."""
    mask = torch.zeros(ids.shape[0], length, dtype=torch.bool, device=ids.device)
    return mask.scatter(1, ids, 1)  # 1, as TorchScript has no scatter for True


def count_per_row(mask: torch.Tensor, name: str) -> int:
    """The number of True in each row of a mask (B, L), read back from the device.

    Raises:
        ValueError: the rows differ (`reshape(B, -1)` would move tokens from one video into another), or are empty.
    """
    counts = mask.sum(dim=1).tolist()
    if min(counts) != max(counts):
        raise ValueError(
            f"{name} must have the same number of True in every row, but the rows have {counts}; all videos of a batch "
            f"need the same number of tokens."
        )
    if counts[0] == 0:
        raise ValueError(f"{name} has no True at all, so that no token is left.")
    return counts[0]

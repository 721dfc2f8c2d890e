# Copyright 2026 The videomae_hf authors. Licensed under the Apache License, Version 2.0.
"""Encoding a part of the tokens of a clip, in finetuning and inference, which costs about that part of the arithmetic.

`token_keep` selects tokens without looking at the clip, as MAR does (https://arxiv.org/abs/2207.11660), in training
only: at evaluation the model sees all tokens, where MAR's sees a fixed part. `static_keep` and `static_threshold` drop
tokens in which little has changed since the slice before, in training and at evaluation, as Run-Length Tokenization
does (https://arxiv.org/abs/2411.05222). All clips of a batch keep equally many tokens, so that shapes are static.
Deviations: MAR shuffles the order of the slices' masks in training, and Run-Length Tokenization has a length embedding;
neither is here. MAR's classifier is `config.classifier_num_hidden_layers`. This file ships with checkpoints and may
import only its siblings.
"""

import math
from dataclasses import dataclass

import torch
from torch import nn

from .configuration_videomae_v2 import VideoMAEV2Config
from .layers_videomae_v2 import channel_values, pixel_range
from .masking import mask_to_ids, random_mask, running_cell_mask


TOKEN_KEEP_TYPES = ("running_cell", "random")
# A threshold keeps a multiple of this part of the tokens, so that there are few different shapes.
_BUCKETS = 16


@dataclass
class TokenSelection:
    """Which tokens an encoder gets.

    Args:
        token_keep: fraction of the tokens in training; 1 keeps all.
        token_keep_type: `"running_cell"`, the same number of each 2x2 cell in every slice (0.25, 0.5 or 0.75), or
            `"random"`.
        static_keep: fraction of the tokens, those that change most; None keeps all.
        static_threshold: mean absolute difference of pixels in [0, 1] from the slice before, above which a token is
            kept; None keeps all. The clip of the batch with most such tokens decides for all clips, rounded up to a
            sixteenth of the tokens, so that the result of a clip may depend slightly on its batch.

    Attributes:
        num_clips, num_tokens: of `static_threshold`, counted over all calls.
    """

    token_keep: float = 1.0
    token_keep_type: str = "running_cell"
    static_keep: float | None = None
    static_threshold: float | None = None

    def __post_init__(self) -> None:
        self.num_clips = self.num_tokens = 0
        if self.token_keep_type not in TOKEN_KEEP_TYPES:
            raise ValueError(
                f"token_keep_type={self.token_keep_type!r} is unknown; choose one of {', '.join(TOKEN_KEEP_TYPES)}."
            )
        for name in ("token_keep", "static_keep"):
            value = getattr(self, name)
            if value is not None and not 0 < value <= 1:
                raise ValueError(f"{name}={value} must be above 0 and at most 1.")
        if self.static_threshold is not None and not self.static_threshold >= 0:
            raise ValueError(f"static_threshold={self.static_threshold} must not be negative.")
        given = [self.token_keep < 1, self.static_keep is not None, self.static_threshold is not None]
        if sum(given) > 1:
            raise ValueError("token_keep, static_keep and static_threshold are alternatives; keep one.")
        if self.token_keep < 1 and self.token_keep_type == "running_cell" and self.token_keep not in (0.25, 0.5, 0.75):
            raise ValueError(
                f"token_keep={self.token_keep} must be 0.25, 0.5 or 0.75 with running cells; otherwise set "
                f"token_keep_type='random'."
            )

    def check(self, config: VideoMAEV2Config) -> None:
        """Raises ValueError if a model of this configuration cannot encode the selected tokens."""
        if config.use_mean_pooling is False and not config.use_cls_token:
            raise ValueError(
                "This model classifies its first token (use_mean_pooling=False), which may be left out; token_keep, "
                "static_keep and static_threshold need mean pooling or a class token."
            )
        slices, rows, columns = config.grid_size
        if self.token_keep < 1 and self.token_keep_type == "running_cell" and (rows % 2 or columns % 2):
            raise ValueError(
                f"token_keep in running cells works in cells of 2x2 patches, but the grid has {rows}x{columns}; set "
                f"token_keep_type='random'."
            )
        if slices == 1 and (self.static_keep is not None or self.static_threshold is not None):
            raise ValueError("static_keep and static_threshold compare slices, but clips of this model have one.")

    def visible_ids(
        self, pixel_values: torch.Tensor, config: VideoMAEV2Config, *, training: bool
    ) -> torch.Tensor | None:
        """int64 (B, N), ascending, the tokens of clips (B, T, C, H, W); None for all of them.

        Random numbers are those of torch's global generator, as for drop path.
        """
        batch, length = pixel_values.shape[0], config.sequence_length
        if tuple(pixel_values.shape[1:]) != (config.num_frames, config.num_channels, *config.image_hw):
            raise ValueError(
                f"pixel_values have shape {tuple(pixel_values.shape)}, but token_keep, static_keep and "
                f"static_threshold need clips of the model's own size."
            )
        if self.token_keep < 1:
            return self._sampled_ids(batch, config, pixel_values.device) if training else None
        if self.static_keep is None and self.static_threshold is None:
            return None
        changes = token_changes(pixel_values, config)
        if self.static_keep is not None:
            return top_ids(changes, math.ceil(self.static_keep * length))
        if torch.compiler.is_compiling():
            raise ValueError(
                "static_threshold needs the number of changed tokens of a batch, which one compiled graph cannot wait "
                "for; set static_keep instead."
            )
        most = int((changes > self.static_threshold).sum(dim=1).max())
        bucket = math.ceil(length / _BUCKETS)
        kept = min(length, bucket * math.ceil(most / bucket))
        self.num_clips, self.num_tokens = self.num_clips + batch, self.num_tokens + batch * kept
        return top_ids(changes, kept)

    def _sampled_ids(self, batch: int, config: VideoMAEV2Config, device: torch.device) -> torch.Tensor:
        length, dropped = config.sequence_length, 1 - self.token_keep
        if self.token_keep_type == "running_cell":
            phase = torch.randint(4, (batch,), device=device)
            return mask_to_ids(~running_cell_mask(phase, config.grid_size, dropped), self.kept_in_training(config))
        return mask_to_ids(~random_mask(batch, length, dropped, device=device), self.kept_in_training(config))

    def kept_in_training(self, config: VideoMAEV2Config) -> int:
        """Tokens per clip in training; with `static_threshold`, at most. In running cells all numbers are exact."""
        length = config.sequence_length
        if self.static_keep is not None:
            return math.ceil(self.static_keep * length)
        return length - int((1 - self.token_keep) * length)


def token_changes(pixel_values: torch.Tensor, config: VideoMAEV2Config) -> torch.Tensor:
    """float32 (B, L): mean absolute difference of each tubelet patch from the one before it, of pixels in [0, 1].

    Tokens of the first slice, which have none before them, are infinite: they are always kept.
    """
    tubelet, (height, width) = config.tubelet_size, config.patch_hw
    pixels = pixel_values.float()
    scale = channel_values(pixel_range(config, pixel_values.dtype)[1], pixels.device).view(-1, 1, 1)
    frames = (pixels[:, tubelet:] - pixels[:, :-tubelet]).abs() * scale  # (B, T - t, C, H, W)
    # (B, T - t, C, H, W) -> (B, T' - 1, t, C, H', h, W', w) -> (B, T' - 1, H', W')
    patches = frames.unflatten(4, (-1, width)).unflatten(3, (-1, height)).unflatten(1, (-1, tubelet))
    changes = patches.mean(dim=(2, 3, 5, 7))
    first = torch.full_like(changes[:, :1], math.inf)
    return torch.cat([first, changes], dim=1).flatten(1)  # (B, T', H', W') -> (B, L)


def top_ids(scores: torch.Tensor, count: int) -> torch.Tensor:
    """(B, L) -> int64 (B, count): the positions of the highest scores, ascending."""
    return scores.topk(count, dim=1).indices.sort(dim=1).values


def select_tokens(model: nn.Module, **settings) -> list[str]:
    """Lets the encoder of a model get a part of the tokens only; the selection is not saved with the model.

    Args:
        model: an encoder or a classifier.
        settings: the fields of `TokenSelection`.

    Returns:
        A line that says how many tokens remain; none if all do.

    Raises:
        ValueError: settings contradict each other, or the model needs all tokens.
    """
    selection, config = TokenSelection(**settings), model.config
    if selection == TokenSelection(token_keep_type=selection.token_keep_type):
        return []
    selection.check(config)
    model.base_model.token_selection = selection
    kept, length = selection.kept_in_training(config), config.sequence_length
    if selection.static_threshold is not None:
        return [f"tokens: of {length}, those that change by more than {selection.static_threshold:g} (in sixteenths)"]
    if selection.static_keep is not None:
        return [f"tokens: the {kept} of {length} that change most"]
    return [f"tokens: {kept} of {length} in training ({selection.token_keep_type}), all at evaluation"]


def tokens_left(model: nn.Module) -> list[str]:
    """A line that says how many tokens a threshold has left on average; none without one."""
    selection, length = model.base_model.token_selection, model.config.sequence_length
    if selection is None or not selection.num_clips:
        return []
    mean = selection.num_tokens / selection.num_clips
    return [
        f"tokens: {mean:.0f} of {length} ({mean / length:.0%}) were encoded, the mean of {selection.num_clips} clips"
    ]

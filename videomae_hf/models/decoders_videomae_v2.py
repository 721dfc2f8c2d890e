# Copyright 2026 The videomae_hf authors. Licensed under the Apache License, Version 2.0.
"""The decoders of masked pretraining: from tokens of the encoder to pixels of the decoded tokens.

The full decoder is that of VideoMAE: self-attention over visible tokens and mask tokens together. The cross-attention
decoder follows CrossMAE (https://arxiv.org/abs/2401.14391): mask tokens attend to the visible tokens and not to each
other, so that its cost is proportional to the number of decoded tokens. Shapes in comments are those of
layers_videomae_v2.py. This file ships with checkpoints and may import only its siblings.
"""

import math

import torch
from torch import nn
from transformers.modeling_outputs import BaseModelOutput

from .configuration_videomae_v2 import VideoMAEV2Config
from .layers_videomae_v2 import VideoMAEV2Layer, add_positions, as_clips, build_layers, head_norm
from .masking import ids_to_mask, mask_to_ids
from .pixel_targets import reconstruction_targets


def _decoder_layers(layer_class: type[VideoMAEV2Layer], config: VideoMAEV2Config) -> nn.ModuleList:
    return build_layers(
        layer_class,
        config,
        config.decoder_num_hidden_layers,
        config.decoder_hidden_size,
        config.decoder_num_attention_heads,
        config.decoder_intermediate_size,
        drop_path_rate=0.0 if config.reconstruction_weight else config.drop_path_rate,  # MAR drops paths of the encoder
    )


def _pixel_head(config: VideoMAEV2Config) -> nn.Linear:
    return nn.Linear(config.decoder_hidden_size, config.tubelet_size * math.prod(config.patch_hw) * config.num_channels)


class VideoMAEV2Decoder(nn.Module):
    """The full decoder."""

    def __init__(self, config: VideoMAEV2Config) -> None:
        super().__init__()
        self.decoder_layers = _decoder_layers(VideoMAEV2Layer, config)
        self.norm = head_norm(config, config.decoder_hidden_size)
        self.head = _pixel_head(config)

    def forward(self, hidden_states: torch.Tensor, num_decoded: int) -> torch.Tensor:
        """(B, K + N_visible + N_decoded, decoder_hidden_size) -> (B, N_decoded, tubelet_size * h * w * C)."""
        for layer in self.decoder_layers[:-1]:
            hidden_states = layer(hidden_states)
        # The official decoder discards the visible tokens after the last layer. Here the last layer does not compute
        # them in the first place; the result is the same.
        hidden_states = self.decoder_layers[-1](hidden_states, num_queries=num_decoded)
        return self.head(self.norm(hidden_states))


class VideoMAEV2CrossLayer(VideoMAEV2Layer):
    """A pre-norm block of cross-attention and MLP, without self-attention."""

    def forward(self, queries: torch.Tensor, memory: torch.Tensor) -> torch.Tensor:
        """Queries (B, Q, D) that attend to the memory (B, N, D) -> (B, Q, D)."""
        return self.add_branches(queries, self.attention(memory, queries=self.layernorm_before(queries)))


class VideoMAEV2LayerMixing(nn.Module):
    """A weighted sum of encoder layers for each decoder block, with its own weights and norm (CrossMAE).

    The paper gives no initial weights. Here each block starts from the output of the encoder alone, as without mixing.
    """

    def __init__(self, config: VideoMAEV2Config) -> None:
        super().__init__()
        depth, number = config.decoder_num_hidden_layers, config.decoder_mixed_layers
        self.layer_weights = nn.Parameter(torch.zeros(depth, number))
        self.norms = nn.ModuleList([nn.LayerNorm(config.hidden_size, eps=config.layer_norm_eps) for _ in range(depth)])

    def forward(self, layer_outputs: list[torch.Tensor]) -> torch.Tensor:
        """k x (B, N, D) -> (depth of the decoder, B, N, D)."""
        mixed = torch.tensordot(self.layer_weights, torch.stack(layer_outputs), dims=1)  # (depth, k) x (k, B, N, D)
        return torch.stack([norm(tokens) for norm, tokens in zip(self.norms, mixed)])


class VideoMAEV2CrossDecoder(nn.Module):
    """The cross-attention decoder."""

    def __init__(self, config: VideoMAEV2Config) -> None:
        super().__init__()
        self.mixing = VideoMAEV2LayerMixing(config) if config.decoder_mixed_layers else None
        # Not named decoder_layers: the weights of a full decoder, of the same shapes, must not be loaded silently.
        self.cross_layers = _decoder_layers(VideoMAEV2CrossLayer, config)
        self.norm = head_norm(config, config.decoder_hidden_size)
        self.head = _pixel_head(config)

    def forward(self, queries: torch.Tensor, memories: torch.Tensor) -> torch.Tensor:
        """(B, N_decoded, decoder_hidden_size) -> (B, N_decoded, tubelet_size * h * w * C).

        Args:
            queries: a mask token with its position for each decoded token.
            memories: (depth or 1, B, K + N_visible, decoder_hidden_size), the tokens that each block attends to, or
                the same for all.
        """
        memories = memories.expand(len(self.cross_layers), -1, -1, -1)
        for layer, memory in zip(self.cross_layers, memories):
            queries = layer(queries, memory)
        return self.head(self.norm(queries))


class VideoMAEV2Reconstruction:
    """A mixin for models with an encoder `videomae`, to be listed before their base class: a decoder, and its loss.

    `decoder` is None in a model without one.
    """

    def add_decoder(self, config: VideoMAEV2Config) -> None:
        width = config.decoder_hidden_size
        self.encoder_to_decoder = nn.Linear(config.hidden_size, width, bias=config.decoder_embed_bias)
        self.mask_token = nn.Parameter(torch.zeros(1, 1, width))
        # By default fixed, even where the encoder learns its positions, as in the official code.
        add_positions(self, config, width, config.decoder_positions)
        self.decoder = VideoMAEV2CrossDecoder(config) if config.decoder_type == "cross" else VideoMAEV2Decoder(config)

    def hidden_loss(
        self, pixel_values: torch.Tensor, outputs: BaseModelOutput, visible_ids: torch.Tensor | None
    ) -> torch.Tensor | float:
        """The loss of all tokens of clips (B, T, C, H, W) that are not in `visible_ids`; 0 if every token is visible.

        Args:
            pixel_values: the clips.
            outputs: those of the encoder for the visible tokens.
            visible_ids: int64 (B, N), ascending; None for all tokens.
        """
        length = self.config.sequence_length
        if visible_ids is None or visible_ids.shape[1] == length:
            return 0.0
        bool_masked_pos = ~ids_to_mask(visible_ids, length)
        hidden_ids = mask_to_ids(bool_masked_pos, length - visible_ids.shape[1])
        logits = self.forward_decoder(outputs, visible_ids, hidden_ids)
        return self.forward_loss(pixel_values, logits, bool_masked_pos, hidden_ids)

    def forward_decoder(
        self, outputs: BaseModelOutput, visible_ids: torch.Tensor, decoded_ids: torch.Tensor
    ) -> torch.Tensor:
        """Outputs of the encoder -> logits (B, N_decoded, tubelet_size * h * w * C).

        The sequence of the full decoder holds the class tokens and the visible tokens, followed by a mask token for
        each decoded position, even if that position is visible. Tokens are never restored to their original order
        (v2/models/modeling_pretrain.py).
        """
        if self.config.decoder_type == "cross":
            return self._forward_cross_decoder(outputs, decoded_ids)
        classes = self.config.num_class_tokens
        positions = self.position_embeddings[0].to(self.mask_token.dtype)  # (K + L, D_decoder)
        of_classes, positions = positions[:classes], positions[classes:]
        encoded = self.encoder_to_decoder(outputs.last_hidden_state)  # (B, K + N_visible, D_decoder)
        sequence = [encoded[:, :classes] + of_classes] if classes else []
        decoded = self.mask_token + positions[decoded_ids]
        sequence += [encoded[:, classes:] + positions[visible_ids], decoded.to(encoded.dtype)]
        return self.decoder(torch.cat(sequence, dim=1), decoded_ids.shape[1])

    def _forward_cross_decoder(self, outputs: BaseModelOutput, decoded_ids: torch.Tensor) -> torch.Tensor:
        """As `forward_decoder`. Visible tokens get no position: the encoder has added it already."""
        positions = self.position_embeddings[0, self.config.num_class_tokens :].to(self.mask_token.dtype)
        if self.decoder.mixing is None:
            encoded = outputs.last_hidden_state[None]  # (1, B, K + N_visible, D)
        else:
            # (depth of the decoder, B, K + N_visible, D)
            encoded = self.decoder.mixing([*(outputs.get("layer_outputs") or ()), outputs.last_hidden_state])
        memories = self.encoder_to_decoder(encoded)
        queries = self.mask_token + positions[decoded_ids]  # (B, N_decoded, D_decoder)
        return self.decoder(queries, memories)

    def forward_loss(
        self,
        pixel_values: torch.Tensor,
        logits: torch.Tensor,
        bool_masked_pos: torch.Tensor,
        decoded_ids: torch.Tensor,
    ) -> torch.Tensor:
        """Mean squared error in float32, over all tokens of the batch that are decoded and hidden from the encoder.

        As in the official code, clips are weighted by their number of tokens in the loss. With tubes over the whole
        clip, running cells and a multiple of four slices (16 frames give 8), all clips have equally many, and splitting
        a batch over processes or accumulation steps changes nothing; otherwise the weights of clips shift slightly.
        """
        with torch.no_grad():
            targets = self.reconstruction_targets(pixel_values, decoded_ids)
            weights = bool_masked_pos.gather(1, decoded_ids).float()  # (B, N_decoded)
            weights = weights / (weights.sum() * targets.shape[-1])
        # (B, N_decoded, t * h * w * C) -> (B, N_decoded); the gradient of a sum needs no pass of its own
        token_losses = nn.functional.mse_loss(logits.float(), targets, reduction="none").sum(dim=-1)
        return (token_losses * weights).sum()

    def reconstruction_targets(self, pixel_values: torch.Tensor, token_ids: torch.Tensor | None = None) -> torch.Tensor:
        """The targets of the decoder for these tokens (None: all): (B, N, tubelet_size * h * w * C), float32."""
        return reconstruction_targets(as_clips(pixel_values, self.config), self.config, token_ids)

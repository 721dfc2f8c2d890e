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

from .configuration_videomae_v2 import VideoMAEV2Config
from .layers_videomae_v2 import VideoMAEV2Layer, build_layers, head_norm


def _decoder_layers(layer_class: type[VideoMAEV2Layer], config: VideoMAEV2Config) -> nn.ModuleList:
    return build_layers(
        layer_class,
        config,
        config.decoder_num_hidden_layers,
        config.decoder_hidden_size,
        config.decoder_num_attention_heads,
        config.decoder_intermediate_size,
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

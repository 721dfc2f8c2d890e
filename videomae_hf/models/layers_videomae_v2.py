# Copyright 2026 The videomae_hf authors. Licensed under the Apache License, Version 2.0.
"""The layers of VideoMAE, from pixels to hidden states; the decoders are in decoders_videomae_v2.py.

Modules and parameters have the names of transformers' VideoMAE, so that its checkpoints load; the additions of V2 (drop
path, layer scale, cosine attention) have no counterpart there. Shapes in comments: B videos, T frames, C channels, L
tokens per clip (T' slices x H' rows x W' columns, in this order), N gathered tokens, D hidden size, K class tokens (T',
or 0 without `use_cls_token`), which come before the others. This file ships with checkpoints and may import only its
siblings.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import nn
from transformers.activations import ACT2FN
from transformers.modeling_layers import GradientCheckpointingLayer
from transformers.modeling_outputs import BaseModelOutputWithPooling
from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS

from .configuration_videomae_v2 import VideoMAEV2Config
from .geometry import interpolate_positions, position_table


def as_clips(pixel_values: torch.Tensor, config: VideoMAEV2Config) -> torch.Tensor:
    """Images (B, C, H, W), for a model of one frame, as clips (B, 1, C, H, W); anything else unchanged."""
    return pixel_values[:, None] if pixel_values.ndim == 4 and config.num_frames == 1 else pixel_values


def patchify(
    pixel_values: torch.Tensor,
    tubelet_size: int,
    patch_size: tuple[int, int],
    token_ids: torch.Tensor | None = None,
) -> torch.Tensor:
    """Cuts clips into tubelets, in the layout of the official targets (v1/engine_for_pretraining.py).

    Args:
        pixel_values: (B, T, C, H, W).
        tubelet_size: number of frames in a tubelet.
        patch_size: (height, width) of a patch in pixels.
        token_ids: int64 (B, N), the tokens to return, which are the only ones copied; None returns all L.

    Returns:
        (B, N or L, tubelet_size * patch_height * patch_width * C), with channels varying fastest.
    """
    height, width = patch_size
    if token_ids is None:
        return _all_patches(pixel_values, tubelet_size, height, width)
    # (B, T, C, H, W) -> (B, T', t, C, H', h, W', w) -> (B, T', H', W', t, h, w, C), still a view
    tubelets = pixel_values.unflatten(4, (-1, width)).unflatten(3, (-1, height)).unflatten(1, (-1, tubelet_size))
    tubelets = tubelets.permute(0, 1, 4, 6, 2, 5, 7, 3)
    rows, columns = tubelets.shape[2:4]
    batch = torch.arange(token_ids.shape[0], device=token_ids.device)[:, None]
    tubelets = tubelets[batch, token_ids // (rows * columns), token_ids // columns % rows, token_ids % columns]
    return tubelets.flatten(2)  # (B, N, t, h, w, C) -> (B, N, t * h * w * C)


def _all_patches(pixel_values: torch.Tensor, tubelet_size: int, height: int, width: int) -> torch.Tensor:
    """(B, T, C, H, W) -> (B, L, t * h * w * C), through at most six axes, since ExecuTorch's XNNPACK takes no more."""
    rows, columns = pixel_values.shape[3] // height, pixel_values.shape[4] // width
    # (B, T, C, H, W) -> (B * T * C, H', h, W', w) -> (B * T * C, H', W', h, w)
    patches = pixel_values.flatten(0, 2).unflatten(2, (columns, width)).unflatten(1, (rows, height)).transpose(2, 3)
    # -> (B * T', t, C, H' * W', h * w) -> (B * T', H' * W', t, h * w, C)
    patches = patches.flatten(3).flatten(1, 2).unflatten(0, (-1, tubelet_size, pixel_values.shape[2]))
    patches = patches.permute(0, 3, 1, 4, 2)
    # -> (B, T' * H' * W', t * h * w * C)
    return patches.flatten(2).unflatten(0, (-1, pixel_values.shape[1] // tubelet_size)).flatten(1, 2)


def unpatchify(
    patches: torch.Tensor, grid_size: tuple[int, int, int], tubelet_size: int, patch_size: tuple[int, int]
) -> torch.Tensor:
    """The inverse of `patchify` for all tokens: (B, L, tubelet_size * height * width * C) -> (B, T, C, H, W)."""
    # (B, L, t * h * w * C) -> (B, T', H', W', t, h, w, C) -> (B, T', t, C, H', h, W', w) -> (B, T, C, H, W)
    tubelets = patches.unflatten(2, (tubelet_size, *patch_size, -1)).unflatten(1, grid_size)
    return tubelets.permute(0, 1, 4, 7, 2, 5, 3, 6).flatten(6, 7).flatten(4, 5).flatten(1, 2)


def pixel_range(config: VideoMAEV2Config, dtype: torch.dtype) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """(mean, std), C values each, such that pixels of this dtype * std + mean lie in [0, 1].

    Floats are expected to be normalised by the configuration's mean and std; uint8 pixels range from 0 to 255.

    Raises:
        ValueError: the dtype is another one, whose range is unknown.
    """
    if dtype == torch.uint8:
        return (0.0,) * config.num_channels, (1 / 255,) * config.num_channels
    if dtype.is_floating_point:
        return config.image_mean, config.image_std
    raise ValueError(
        f"pixel_values of dtype {dtype}: pass uint8 pixels (0 to 255), which the model normalises itself, or floats "
        f"normalised by config.image_mean and config.image_std."
    )


def channel_values(values: tuple[float, ...], device: torch.device) -> torch.Tensor:
    """(C,) float32, filled on the device: `torch.tensor(values, device=...)` would copy from the host in every step."""
    return torch.stack([torch.full((), value, dtype=torch.float32, device=device) for value in values])


def normalize_patches(patches: torch.Tensor, config: VideoMAEV2Config) -> torch.Tensor:
    """(B, N, t * h * w * C): normalises uint8 to float32 like `transforms.normalize`, and returns floats unchanged."""
    if patches.dtype != torch.uint8:
        return patches
    pixels = patches.shape[-1] // config.num_channels
    mean, std = (channel_values(v, patches.device).repeat(pixels) for v in (config.image_mean, config.image_std))
    return patches.float().div_(255).sub_(mean).div_(std)


def eager_attention_forward(
    module: nn.Module,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attention_mask: torch.Tensor | None,
    scaling: float,
    dropout: float = 0.0,
    **kwargs,
) -> tuple[torch.Tensor, torch.Tensor]:
    """Plain attention with the signature of transformers' attention interface; q, k and v: (B, heads, N, D / heads)."""
    weights = (query @ key.transpose(2, 3) * scaling).softmax(dim=-1)  # (B, heads, N, N)
    weights = nn.functional.dropout(weights, p=dropout, training=module.training)
    return (weights @ value).transpose(1, 2).contiguous(), weights  # (B, N, heads, D / heads)


class VideoMAEV2DropPath(nn.Module):
    """Stochastic depth: drops a residual branch for a whole video, in training only."""

    def __init__(self, rate: float) -> None:
        super().__init__()
        self.rate = rate

    def forward(self, hidden_states: torch.Tensor) -> torch.Tensor:
        if self.rate == 0.0 or not self.training:
            return hidden_states
        kept = torch.rand(hidden_states.shape[0], 1, 1, device=hidden_states.device) >= self.rate
        return hidden_states * kept.to(hidden_states.dtype) / (1 - self.rate)


class VideoMAEV2PatchEmbeddings(nn.Module):
    """Projects tubelets. The weight is that of a Conv3d whose stride equals its kernel, applied as a matrix product to
    the gathered tubelets only: with 90 % masked, this is a tenth of the convolution."""

    def __init__(self, config: VideoMAEV2Config) -> None:
        super().__init__()
        self.config = config
        kernel = (config.tubelet_size, *config.patch_hw)
        self.projection = nn.Conv3d(config.num_channels, config.hidden_size, kernel_size=kernel, stride=kernel)

    def grid_of(self, pixel_values: torch.Tensor) -> tuple[int, int, int]:
        """(slices, rows, columns) of clips (B, T, C, H, W) of any size."""
        _, frames, _, height, width = pixel_values.shape
        patch_height, patch_width = self.config.patch_hw
        return frames // self.config.tubelet_size, height // patch_height, width // patch_width

    def forward(
        self, pixel_values: torch.Tensor, token_ids: torch.Tensor | None = None, any_size: bool = False
    ) -> torch.Tensor:
        config = self.config
        pixel_range(config, pixel_values.dtype)  # refuses dtypes other than uint8 and floats
        if any_size:
            multiples = (config.tubelet_size, config.num_channels, *config.patch_hw)
            if any(size % multiple for size, multiple in zip(pixel_values.shape[1:], multiples)):
                raise ValueError(
                    f"pixel_values have shape {tuple(pixel_values.shape)}, but frames, channels, height and width must "
                    f"be multiples of {multiples}."
                )
            # Each slice has a class token of its own, so that their number is that of the model.
            if config.use_cls_token and pixel_values.shape[1] != config.num_frames:
                raise ValueError(
                    f"pixel_values have {pixel_values.shape[1]} frames, but a model with class tokens takes num_frames="
                    f"{config.num_frames}; load it with `from_pretrained(.., num_frames={pixel_values.shape[1]})`."
                )
        expected = (config.num_frames, config.num_channels, *config.image_hw)
        if token_ids is not None and not config.use_cls_token and pixel_values.shape[1] % config.tubelet_size == 0:
            # Ids address the first slices of a shorter clip, such as an image repeated to one tubelet (OmniMAE).
            expected = (min(pixel_values.shape[1], config.num_frames), *expected[1:])
        if not any_size and tuple(pixel_values.shape[1:]) != expected:
            raise ValueError(
                f"pixel_values of shape {tuple(pixel_values.shape)} do not fit the model, which takes (batch, "
                f"num_frames, num_channels, height, width) = (batch, {', '.join(map(str, expected))}); pass "
                f"`interpolate_pos_encoding=True` for other sizes."
            )
        weight = self.projection.weight
        patches = patchify(pixel_values, config.tubelet_size, config.patch_hw, token_ids)
        # uint8 clips become floats here, after masking, and in float32 whatever the dtype of the weights.
        patches = normalize_patches(patches, config).to(weight.dtype)
        # (D, C, t, h, w) -> (D, t * h * w * C), the order of patchify
        return nn.functional.linear(patches, weight.permute(0, 2, 3, 4, 1).flatten(1), self.projection.bias)


def add_positions(module: nn.Module, config: VideoMAEV2Config, hidden_size: int, kind: str) -> None:
    """Gives a module its `position_embeddings` (1, K + L, hidden_size): a parameter if learned, otherwise a buffer."""
    if kind == "learned":
        number = config.num_class_tokens + config.sequence_length
        module.position_embeddings = nn.Parameter(torch.zeros(1, number, hidden_size))
    else:
        module.register_buffer("position_embeddings", position_table(config, hidden_size, kind), persistent=False)


class VideoMAEV2Embeddings(nn.Module):
    def __init__(self, config: VideoMAEV2Config) -> None:
        super().__init__()
        self.patch_embeddings = VideoMAEV2PatchEmbeddings(config)
        self.num_patches, self.num_class_tokens = config.sequence_length, config.num_class_tokens
        self.cls_token = nn.Parameter(torch.zeros(1, 1, config.hidden_size)) if config.use_cls_token else None
        # Deviation: the official `use_learnable_pos_emb` detaches its table, which is then never trained; ours is.
        add_positions(self, config, config.hidden_size, config.position_embedding_type)

    def forward(
        self,
        pixel_values: torch.Tensor,
        visible_ids: torch.Tensor | None = None,
        interpolate_pos_encoding: bool = False,
    ) -> torch.Tensor:
        """Clips (B, T, C, H, W) -> (B, K + N, D): the class tokens, then the visible patches, or all of them."""
        embeddings = self.patch_embeddings(pixel_values, visible_ids, interpolate_pos_encoding)  # (B, N, D)
        positions = self.position_embeddings  # (1, K + L, D)
        if interpolate_pos_encoding:
            grid = self.patch_embeddings.grid_of(pixel_values)
            positions = interpolate_positions(positions, self.patch_embeddings.config.grid_size, grid)
        positions = positions.to(self.patch_embeddings.projection.weight.dtype)
        of_classes, of_patches = positions[:, : self.num_class_tokens], positions[:, self.num_class_tokens :]
        # (1, L, D), or (B, N, D) for the visible tokens
        embeddings = embeddings + (of_patches if visible_ids is None else of_patches[0][visible_ids])
        if self.cls_token is None:
            return embeddings
        class_tokens = (self.cls_token + of_classes).expand(len(embeddings), -1, -1)  # (1, K, D) -> (B, K, D)
        return torch.cat([class_tokens, embeddings], dim=1)


class VideoMAEV2SelfAttention(nn.Module):
    def __init__(self, config: VideoMAEV2Config, hidden_size: int, num_attention_heads: int) -> None:
        super().__init__()
        # The decoder shares the config of the model, so that `set_attn_implementation` reaches all layers.
        self.config = config
        self.head_dim = hidden_size // num_attention_heads
        self.scaling = self.head_dim**-0.5
        self.is_causal = False
        # The key has no bias, as in the official code and in transformers: softmax would cancel it.
        self.query = nn.Linear(hidden_size, hidden_size, bias=config.qv_bias)
        self.key = nn.Linear(hidden_size, hidden_size, bias=False)
        self.value = nn.Linear(hidden_size, hidden_size, bias=config.qv_bias)
        for projection in (self.query, self.key, self.value):
            # The official code initialises all three as one (3 D, D) matrix: bound sqrt(6 / 4 D), not sqrt(6 / 2 D).
            projection.xavier_gain = 2**-0.5
        if config.use_cosine_attention:
            self.scale = nn.Parameter(torch.full((num_attention_heads, 1, 1), math.log(10.0)))

    def forward(
        self, hidden_states: torch.Tensor, output_attentions: bool = False, queries: torch.Tensor | None = None
    ) -> tuple[torch.Tensor, torch.Tensor | None]:
        """(B, N, D) -> (B, Q, D) and weights (B, heads, Q, N) or None: tokens attend to `hidden_states`.

        The tokens that attend are these themselves, or `queries` (B, Q, D), which cross-attend.
        """
        queries = hidden_states if queries is None else queries
        # (B, N, D) -> (B, N, heads, D / heads) -> (B, heads, N, D / heads)
        query = self.query(queries).unflatten(2, (-1, self.head_dim)).transpose(1, 2)
        key = self.key(hidden_states).unflatten(2, (-1, self.head_dim)).transpose(1, 2)
        value = self.value(hidden_states).unflatten(2, (-1, self.head_dim)).transpose(1, 2)
        scaling = self.scaling
        if self.config.use_cosine_attention:  # CosAttention, v2/models/modeling_finetune.py
            query = nn.functional.normalize(query, dim=-1) * self.scale.clamp(max=math.log(100.0)).exp()
            query, key, scaling = query.to(value.dtype), nn.functional.normalize(key, dim=-1), 1.0
        attention_interface: Callable = eager_attention_forward
        # The older ONNX exporter hard-codes the batch size of its example in sdpa.
        older_onnx = torch.jit.is_tracing() and torch.onnx.is_in_onnx_export()
        if not output_attentions and not older_onnx:  # only eager attention returns the weights
            attention_interface = ALL_ATTENTION_FUNCTIONS.get_interface(
                self.config._attn_implementation, eager_attention_forward
            )
        dropout = self.config.attention_probs_dropout_prob if self.training else 0.0
        context, weights = attention_interface(
            self, query, key, value, None, is_causal=False, scaling=scaling, dropout=dropout
        )
        return context.flatten(2), weights  # (B, Q, heads, D / heads) -> (B, Q, D)


class VideoMAEV2SelfOutput(nn.Module):
    def __init__(self, config: VideoMAEV2Config, hidden_size: int) -> None:
        super().__init__()
        self.dense = nn.Linear(hidden_size, hidden_size)
        self.dropout = nn.Dropout(config.hidden_dropout_prob)

    def forward(self, hidden_states: torch.Tensor) -> torch.Tensor:
        return self.dropout(self.dense(hidden_states))


class VideoMAEV2Attention(nn.Module):
    def __init__(self, config: VideoMAEV2Config, hidden_size: int, num_attention_heads: int) -> None:
        super().__init__()
        self.attention = VideoMAEV2SelfAttention(config, hidden_size, num_attention_heads)
        self.output = VideoMAEV2SelfOutput(config, hidden_size)

    def forward(
        self, hidden_states: torch.Tensor, output_attentions: bool = False, queries: torch.Tensor | None = None
    ) -> torch.Tensor:
        return self.output(self.attention(hidden_states, output_attentions, queries)[0])


class VideoMAEV2Intermediate(nn.Module):
    def __init__(self, config: VideoMAEV2Config, hidden_size: int, intermediate_size: int) -> None:
        super().__init__()
        self.dense = nn.Linear(hidden_size, intermediate_size)
        self.intermediate_act_fn = ACT2FN[config.hidden_act]

    def forward(self, hidden_states: torch.Tensor) -> torch.Tensor:
        return self.intermediate_act_fn(self.dense(hidden_states))


class VideoMAEV2Output(nn.Module):
    def __init__(self, config: VideoMAEV2Config, hidden_size: int, intermediate_size: int) -> None:
        super().__init__()
        self.dense = nn.Linear(intermediate_size, hidden_size)
        self.dropout = nn.Dropout(config.hidden_dropout_prob)

    def forward(self, hidden_states: torch.Tensor) -> torch.Tensor:
        return self.dropout(self.dense(hidden_states))


class VideoMAEV2Layer(GradientCheckpointingLayer):
    """A pre-norm transformer block of the encoder or of the decoder."""

    def __init__(
        self,
        config: VideoMAEV2Config,
        hidden_size: int,
        num_attention_heads: int,
        intermediate_size: int,
        drop_path_rate: float,
    ) -> None:
        super().__init__()
        self.attention = VideoMAEV2Attention(config, hidden_size, num_attention_heads)
        self.intermediate = VideoMAEV2Intermediate(config, hidden_size, intermediate_size)
        self.output = VideoMAEV2Output(config, hidden_size, intermediate_size)
        self.layernorm_before = nn.LayerNorm(hidden_size, eps=config.layer_norm_eps)
        self.layernorm_after = nn.LayerNorm(hidden_size, eps=config.layer_norm_eps)
        self.drop_path = VideoMAEV2DropPath(drop_path_rate)
        self.lambda_1 = self.lambda_2 = None  # layer scale, the official gamma_1 and gamma_2
        if config.layer_scale_init_value > 0:
            self.lambda_1 = nn.Parameter(torch.full((hidden_size,), float(config.layer_scale_init_value)))
            self.lambda_2 = nn.Parameter(torch.full((hidden_size,), float(config.layer_scale_init_value)))

    def forward(
        self, hidden_states: torch.Tensor, output_attentions: bool = False, num_queries: int | None = None
    ) -> torch.Tensor:
        """(B, N, D) -> (B, N, D), or (B, num_queries, D) for the last tokens only, which still attend to all."""
        normed, queries = self.layernorm_before(hidden_states), None
        if num_queries is not None:
            queries, hidden_states = normed[:, -num_queries:], hidden_states[:, -num_queries:]
        return self.add_branches(hidden_states, self.attention(normed, output_attentions, queries))

    def add_branches(self, hidden_states: torch.Tensor, branch: torch.Tensor) -> torch.Tensor:
        """(B, N, D), twice -> (B, N, D): adds the output of attention to the residual stream, and then the MLP's."""
        branch = branch if self.lambda_1 is None else self.lambda_1 * branch
        hidden_states = hidden_states + self.drop_path(branch)
        branch = self.output(self.intermediate(self.layernorm_after(hidden_states)))
        branch = branch if self.lambda_2 is None else self.lambda_2 * branch
        return hidden_states + self.drop_path(branch)


def build_layers(
    layer_class: type[VideoMAEV2Layer], config: VideoMAEV2Config, depth: int, *sizes: int, drop_path_rate: float
) -> nn.ModuleList:
    """`depth` blocks of `sizes` (see VideoMAEV2Layer), whose drop path grows linearly from 0 to `drop_path_rate`."""
    rates = [drop_path_rate * index / max(depth - 1, 1) for index in range(depth)]
    return nn.ModuleList([layer_class(config, *sizes, drop_path_rate=rate) for rate in rates])


def head_norm(config: VideoMAEV2Config, hidden_size: int) -> nn.LayerNorm:
    eps = config.layer_norm_eps if config.head_layer_norm_eps is None else config.head_layer_norm_eps
    return nn.LayerNorm(hidden_size, eps=eps)


class VideoMAEV2Encoder(nn.Module):
    def __init__(self, config: VideoMAEV2Config) -> None:
        super().__init__()
        self.layer = build_layers(
            VideoMAEV2Layer,
            config,
            config.num_hidden_layers,
            config.hidden_size,
            config.num_attention_heads,
            config.intermediate_size,
            drop_path_rate=config.drop_path_rate,
        )

    def forward(
        self, hidden_states: torch.Tensor, output_attentions: bool = False, kept_layers: tuple[int, ...] = ()
    ) -> tuple[torch.Tensor, tuple[torch.Tensor, ...]]:
        """(B, N, D) -> (B, N, D), and the outputs of the layers with these numbers, each (B, N, D)."""
        kept = []
        for number, layer in enumerate(self.layer):
            hidden_states = layer(hidden_states, output_attentions)
            if number in kept_layers:
                kept.append(hidden_states)
        return hidden_states, tuple(kept)


@dataclass
class VideoMAEV2ModelOutput(BaseModelOutputWithPooling):
    """
    Args:
        layer_outputs (`tuple(torch.FloatTensor)`, *optional*): outputs (B, K + N, D) of the layers in `kept_layers`.
    """

    layer_outputs: tuple[torch.FloatTensor, ...] | None = None

# Copyright 2026 The videomae_hf authors. Licensed under the Apache License, Version 2.0.
"""Where a model looks: attention rollout, single heads, and the evidence for a class, as a map for each time slot.

A token covers `tubelet_size` frames, so that a clip has `num_frames / tubelet_size` time slots. The attention weights
of all layers would take 1.4 GB for a single clip of ViT-B (12 layers x 12 heads x 1568 x 1568). Only the input of each
layer is kept here, and the weights are recomputed layer by layer from the last to the first, so that those of one layer
are in memory. Attention is computed eagerly for this purpose alone.
"""

import torch
from torch import nn

from ..models.configuration_videomae_v2 import VideoMAEV2Config
from ..models.modeling_videomae_v2 import (
    VideoMAEV2ForVideoClassification,
    VideoMAEV2Model,
    VideoMAEV2PreTrainedModel,
)


@torch.no_grad()
def attention_rollout(model: VideoMAEV2PreTrainedModel, pixel_values: torch.Tensor) -> torch.Tensor:
    """How much of each input token reaches the output, by attention rollout.

    The weights of each layer are averaged over its heads, mixed half and half with the identity for the residual
    connection, and multiplied over all layers (Abnar and Zuidema, 2020, https://arxiv.org/abs/2005.00928). The output
    is the mean of all tokens or, for a classifier that reads the first token or class tokens only, these. Only the row
    of the product that belongs to the output is computed.

    Args:
        model: a model with an encoder.
        pixel_values: (B, T, C, H, W), uint8 or normalised.

    Returns:
        float32 (B, T', H', W'), for each clip with the sum 1.
    """
    encoder = model.base_model
    states = _layer_inputs(encoder, pixel_values)
    row = _output_row(model, states[-1])
    for layer, state in zip(reversed(encoder.encoder.layer), reversed(states[:-1])):
        weights = _attention_weights(layer, state).mean(dim=1)  # (B, heads, N, N) -> (B, N, N)
        row = 0.5 * row + 0.5 * (row[:, None] @ weights)[:, 0]
    return _map_of(row, model)


@torch.no_grad()
def head_attention(model: VideoMAEV2PreTrainedModel, pixel_values: torch.Tensor, layer: int = -1) -> torch.Tensor:
    """How much attention each token gets from each head of a layer, on average over the tokens that attend to it.

    For a classifier that reads the first token only, the attention that this token pays.

    Args:
        model: a model with an encoder.
        pixel_values: (B, T, C, H, W), uint8 or normalised.
        layer: number of the layer from 0; negative numbers count from the last one.

    Returns:
        float32 (B, heads, T', H', W'), for each clip and head with the sum 1.

    Raises:
        ValueError: there is no such layer.
    """
    check_head(model.config, layer)
    encoder = model.base_model
    layers = encoder.encoder.layer
    state = encoder.embeddings(pixel_values)
    for before in layers[: layer % len(layers)]:
        state = before(state)
    weights = _attention_weights(layers[layer], state)  # (B, heads, N, N)
    received = _output_row(model, state)[:, None, None] @ weights  # (B, heads, 1, N)
    return _map_of(received[:, :, 0], model)  # (B, heads, N) -> (B, heads, T', H', W')


def check_head(config: VideoMAEV2Config, layer: int, head: int | None = None) -> None:
    """Raises ValueError if the encoder has no such layer or head."""
    depth, heads = config.num_hidden_layers, config.num_attention_heads
    if not -depth <= layer < depth:
        raise ValueError(f"layer={layer}: the encoder has {depth} layers, numbered from 0.")
    if head is not None and not 0 <= head < heads:
        raise ValueError(f"head={head}: each layer has {heads} heads, numbered from 0.")


def class_evidence(model: VideoMAEV2ForVideoClassification, pixel_values: torch.Tensor, label: int) -> torch.Tensor:
    """Which input tokens speak for a class, by gradient x attention.

    Attention weights are multiplied by the gradient of the class's logit with respect to them, negative products are
    dropped, the mean over the heads is added to the identity, and the layers are multiplied (rule 5 of Chefer, Gur and
    Wolf, 2021, https://arxiv.org/abs/2103.15679). Only the row of the product that belongs to the output is computed.
    The path through residual connections alone, which counts for all tokens alike, is left out of the result.

    Args:
        model: a classifier.
        pixel_values: (B, T, C, H, W), uint8 or normalised.
        label: number of the class.

    Returns:
        float32 (B, T', H', W'), not negative, for each clip with the sum 1; all 0 without any evidence.

    Raises:
        ValueError: there is no such class.
    """
    if not 0 <= label < model.config.num_labels:
        raise ValueError(f"label={label}: the model has {model.config.num_labels} classes, numbered from 0.")
    encoder = model.base_model
    with torch.no_grad():
        states = _layer_inputs(encoder, pixel_values)
    with torch.enable_grad():
        tokens = states[-1].requires_grad_()
        last = tokens if encoder.layernorm is None else encoder.layernorm(tokens)
        (gradient,) = torch.autograd.grad(model.classify_tokens(last)[:, label].sum(), tokens)
    start = _output_row(model, states[-1])
    row = torch.zeros_like(start)
    for layer, state in zip(reversed(encoder.encoder.layer), reversed(states[:-1])):
        relevance, gradient = _layer_relevance(layer, state, gradient)
        row = row + ((start + row)[:, None] @ relevance)[:, 0]
    return _map_of(row / row.sum(dim=1, keepdim=True).clamp(min=torch.finfo(row.dtype).tiny), model)


def _layer_relevance(
    layer: nn.Module, state: torch.Tensor, gradient: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor]:
    """Gradient x attention of a layer (B, N, N), and the gradient (B, N, D) with respect to its input.

    Args:
        layer: the layer.
        state: (B, N, D), its input.
        gradient: (B, N, D), with respect to its output.
    """
    found = []
    hook = layer.attention.attention.register_forward_hook(lambda module, inputs, outputs: found.append(outputs[1]))
    try:
        with torch.enable_grad():
            state = state.requires_grad_()
            output = layer(state, True)
    finally:
        hook.remove()
    before, of_weights = torch.autograd.grad(output, (state, found[0]), gradient)
    relevance = (found[0].detach() * of_weights).clamp(min=0).mean(dim=1)  # (B, heads, N, N) -> (B, N, N)
    return relevance.float(), before


def _layer_inputs(encoder: VideoMAEV2Model, pixel_values: torch.Tensor) -> list[torch.Tensor]:
    """The input (B, N, D) of each layer, and the output of the last one."""
    states = [encoder.embeddings(pixel_values)]
    for layer in encoder.encoder.layer:
        states.append(layer(states[-1]))
    return states


def _attention_weights(layer: nn.Module, state: torch.Tensor) -> torch.Tensor:
    """(B, N, D) -> (B, heads, N, N), the weights of a layer for its input."""
    return layer.attention.attention(layer.layernorm_before(state), output_attentions=True)[1].float()


def _output_row(model: VideoMAEV2PreTrainedModel, state: torch.Tensor) -> torch.Tensor:
    """(B, N): the share of each of the last tokens (B, N, D) in what the model puts out."""
    config, row = model.config, state.new_zeros(state.shape[:2], dtype=torch.float32)
    if config.use_cls_token and config.use_mean_pooling is False:
        row[:, : config.num_class_tokens] = 1 / config.num_class_tokens
    elif isinstance(model, VideoMAEV2ForVideoClassification) and model.fc_norm is None:
        row[:, 0] = 1
    else:
        row[:, config.num_class_tokens :] = 1 / config.sequence_length
    return row


def _map_of(row: torch.Tensor, model: VideoMAEV2PreTrainedModel) -> torch.Tensor:
    """(.., K + L) -> (.., T', H', W'): the shares of the patches, without those of class tokens, with the sum 1."""
    patches = row[..., model.config.num_class_tokens :]
    if model.config.use_cls_token:
        patches = patches / patches.sum(dim=-1, keepdim=True).clamp(min=torch.finfo(row.dtype).tiny)
    return patches.unflatten(-1, model.config.grid_size)

# Copyright 2026 The videomae_hf authors. Licensed under the Apache License, Version 2.0.
"""Estimates the memory of a training process before it runs, from shapes rather than measurements.

The tensors that autograd saves for the backward pass of these models are known exactly; a test compares the estimate
with the saved bytes. The estimate holds for the sdpa and flash implementations of attention; the eager implementation
also saves the attention weights.
"""

import math
from dataclasses import dataclass

from torch import nn

from ..models.configuration_videomae_v2 import VideoMAEV2Config
from ..models.layers_videomae_v2 import VideoMAEV2Layer
from ..models.masking import token_counts
from ..models.modeling_videomae_v2 import VideoMAEV2ForPreTraining
from .optimization import is_block_matrix


GIB = 2**30


@dataclass(frozen=True)
class MemorySettings:
    """The settings that determine the memory of a process, together with the model.

    Args:
        clips: number of clips in the batch of a process, i.e. videos times `num_sample`.
        mixed_precision: bf16 or fp16 autocast; the weights stay float32.
        checkpointing: activation checkpointing of each layer.
        num_processes: with more than one, DistributedDataParallel keeps a second copy of the gradients in its buckets.
        sharded: FSDP shards weights, gradients and optimizer state over the processes.
        averaged: a moving average of the weights is kept, in float32 (`ema_decay`).
        token_keep: fraction of the tokens that a classifier encodes.
        float_pixels: the collator returns float32 clips (mixing, random erasing) rather than uint8, a quarter of that.
        muon: the matrices of the blocks are updated by Muon, the rest by AdamW.
    """

    clips: int
    mixed_precision: bool = False
    checkpointing: bool = False
    num_processes: int = 1
    sharded: bool = False
    averaged: bool = False
    token_keep: float = 1.0
    float_pixels: bool = False
    muon: bool = False

    @property
    def product_bytes(self) -> int:
        """Bytes of an element of a matrix product; residuals, norms and losses are float32."""
        return 2 if self.mixed_precision else 4


def estimate_memory(model: nn.Module, settings: MemorySettings) -> dict[str, int]:
    """Estimates the bytes of each part at the end of a forward pass with all gradients present (an accumulation step).

    Frozen parameters have neither gradients nor optimizer state, and frozen layers below the first trained layer keep
    no activations. AdamW has two float32 states per parameter, Muon one. Sharded gradients are whole until the last
    accumulation step, in which they are summed over the processes and sharded.
    """
    parameters = sum(parameter.numel() for parameter in model.parameters())
    trained = sum(parameter.numel() for parameter in model.parameters() if parameter.requires_grad)
    pretraining = isinstance(model, VideoMAEV2ForPreTraining)
    config = model.config
    pixels = math.prod((config.num_frames, config.num_channels, *config.image_hw))
    parts = settings.num_processes if settings.sharded else 1
    return {
        "weights": 4 * parameters // parts,
        **({"blocks put together": gathered(model, settings)} if settings.sharded else {}),
        "bf16 copies": 0 if settings.sharded else weight_copies(model, settings),
        "gradients": 4 * trained * (2 if settings.num_processes > 1 and not settings.sharded else 1),
        **optimizer_states(model, settings),
        **({"average of weights": 4 * trained} if settings.averaged else {}),
        "clips": settings.clips * pixels * (4 if settings.float_pixels else 1),
        **activations(config, pretraining=pretraining, settings=settings, num_layers=trained_layers(model)),
        "work space": work_space(config, pretraining=pretraining, settings=settings),
    }


def optimizer_states(model: nn.Module, settings: MemorySettings) -> dict[str, int]:
    """Bytes of the states of the optimizer, by its name."""
    trained = {name: parameter for name, parameter in model.named_parameters() if parameter.requires_grad}
    total = 8 * sum(parameter.numel() for parameter in trained.values())
    if not settings.muon:
        return {"AdamW": total // (settings.num_processes if settings.sharded else 1)}
    matrices = sum(parameter.numel() for name, parameter in trained.items() if is_block_matrix(name, parameter))
    return {"Muon and AdamW": total - 4 * matrices}  # never sharded


def weight_copies(model: nn.Module, settings: MemorySettings) -> int:
    """Bytes of the half-precision weights of linear layers, which autocast keeps until the backward pass ends."""
    linear = [module for module in model.modules() if isinstance(module, nn.Linear)]
    return 2 * sum(module.weight.numel() for module in linear) if settings.mixed_precision else 0


def gathered(model: nn.Module, settings: MemorySettings) -> int:
    """Bytes that FSDP gathers: the parameters outside of blocks, and two blocks, because the next is prefetched."""
    blocks = [module for module in model.modules() if isinstance(module, VideoMAEV2Layer)]
    sizes = [sum(parameter.numel() for parameter in block.parameters()) for block in blocks]
    rest = sum(parameter.numel() for parameter in model.parameters()) - sum(sizes)
    return settings.product_bytes * (rest + 2 * max(sizes))


def trained_layers(model: nn.Module) -> int:
    """Number of encoder layers through which a gradient flows, counted from the first with a trained parameter."""
    parts = [model.videomae.embeddings, *model.videomae.encoder.layer]
    trained = [any(parameter.requires_grad for parameter in part.parameters()) for part in parts]
    layers = len(parts) - 1
    return layers - max(trained.index(True) - 1, 0) if any(trained) else 0


def activations(
    config: VideoMAEV2Config, *, pretraining: bool, settings: MemorySettings, num_layers: int | None = None
) -> dict[str, int]:
    """Bytes that autograd saves in the forward pass for the backward pass, by the part of the model.

    Args:
        config: configuration of the model.
        pretraining: masked pretraining with a decoder; otherwise classification.
        settings: settings of the run.
        num_layers: encoder layers through which a gradient flows, see `trained_layers`; None is all of them.
    """
    num_layers = config.num_hidden_layers if num_layers is None else num_layers
    clips, number = settings.clips, settings.product_bytes
    pixels = config.tubelet_size * math.prod(config.patch_hw) * config.num_channels  # per token
    num_visible, num_decoded = _tokens(config, settings, pretraining=pretraining)
    embedding = num_visible * pixels * number if num_layers == config.num_hidden_layers else 0
    encoder = num_layers * _layer_kept(settings, num_visible, num_visible, *_encoder_sizes(config))
    if pretraining or config.classifier_num_hidden_layers:  # the input of each layer after the encoder, and its norm
        readers = 2 if config.reconstruction_weight and settings.mixed_precision and not pretraining else 1
        encoder += num_visible * config.hidden_size * (number * readers + 4 * config.has_final_norm)
    of_all = f" of {config.sequence_length}" if pretraining else ""
    parts = {f"encoder ({num_visible}{of_all} tokens)": clips * (embedding + encoder)}
    if config.classifier_num_hidden_layers and not pretraining:
        depth, sizes = config.classifier_num_hidden_layers, _classifier_sizes(config)
        parts["classifier layers"] = clips * depth * _layer_kept(settings, num_visible, num_visible, *sizes)
    if num_decoded:
        title, decoder = _decoder_kept(config, settings, num_visible, num_decoded)
        parts[title] = clips * decoder
        parts["loss"] = clips * num_decoded * pixels * 2 * 4  # reconstruction and target
    return parts


def _decoder_kept(
    config: VideoMAEV2Config, settings: MemorySettings, num_visible: int, num_decoded: int
) -> tuple[str, int]:
    """The decoder in words, and the bytes that autograd saves for it per clip."""
    if config.decoder_type == "cross":
        title = f"decoder ({num_decoded} tokens)"
        decoder = _cross_decoder_kept(config, settings, num_visible, num_decoded)
    else:
        sizes, both = _decoder_sizes(config), num_visible + num_decoded
        title = f"decoder ({both} tokens)"
        decoder = (config.decoder_num_hidden_layers - 1) * _layer_kept(settings, both, both, *sizes)
        decoder += _layer_kept(settings, both, num_decoded, *sizes)  # the last layer computes only the decoded tokens
    return title, decoder + num_decoded * config.decoder_hidden_size * (4 + settings.product_bytes)  # norm, head


def work_space(config: VideoMAEV2Config, *, pretraining: bool, settings: MemorySettings) -> int:
    """Temporary bytes of the backward pass of the largest layer; activation checkpointing also recomputes the layer."""
    num_visible, num_decoded = _tokens(config, settings, pretraining=pretraining)
    layers = [layer_bytes(settings, num_visible, num_visible, *_encoder_sizes(config))]
    if config.classifier_num_hidden_layers and not pretraining:
        layers.append(layer_bytes(settings, num_visible, num_visible, *_classifier_sizes(config)))
    if num_decoded and config.decoder_type == "cross":
        layers.append(cross_layer_bytes(settings, num_visible, num_decoded, *_decoder_sizes(config)))
    elif num_decoded:
        both = num_visible + num_decoded
        layers.append(layer_bytes(settings, both, both, *_decoder_sizes(config)))
    return settings.clips * max(layers) * (2 if settings.checkpointing else 1)


def _tokens(config: VideoMAEV2Config, settings: MemorySettings, *, pretraining: bool) -> tuple[int, int]:
    """Tokens of the encoder, class tokens included, and decoded tokens, of which most classifiers have none."""
    kept = math.ceil(settings.token_keep * config.sequence_length)
    hidden = config.sequence_length - kept if config.reconstruction_weight else 0
    num_visible, num_decoded = token_counts(config) if pretraining else (kept, hidden)
    return config.num_class_tokens + num_visible, num_decoded


def _encoder_sizes(config: VideoMAEV2Config) -> tuple[int, int, int]:
    return config.hidden_size, config.intermediate_size, config.num_attention_heads


def _classifier_sizes(config: VideoMAEV2Config) -> tuple[int, int, int]:
    width = config.classifier_hidden_size
    return width, 4 * width, config.classifier_num_attention_heads


def _decoder_sizes(config: VideoMAEV2Config) -> tuple[int, int, int]:
    return config.decoder_hidden_size, config.decoder_intermediate_size, config.decoder_num_attention_heads


def _layer_kept(settings: MemorySettings, tokens: int, queries: int, width: int, inner: int, heads: int) -> int:
    """Bytes that autograd saves per clip for a layer: all activations, or only the input with checkpointing."""
    if settings.checkpointing:
        return tokens * width * 4
    return layer_bytes(settings, tokens, queries, width, inner, heads)


def _cross_decoder_kept(config: VideoMAEV2Config, settings: MemorySettings, num_visible: int, num_decoded: int) -> int:
    """Bytes that autograd saves per clip for the blocks of a cross-attention decoder, and for mixing encoder layers."""
    number = settings.product_bytes
    depth, (width, inner, heads) = config.decoder_num_hidden_layers, _decoder_sizes(config)
    memory = num_visible * width * number  # of all blocks, or of each
    if settings.checkpointing:
        blocks = depth * num_decoded * width * 4
    else:
        blocks = depth * cross_layer_bytes(settings, num_visible, num_decoded, width, inner, heads)
    if not config.decoder_mixed_layers:
        return blocks + memory
    stacked = config.decoder_mixed_layers * num_visible * config.hidden_size * number
    # Of each mixture: the sum, which is the input of the norm; its mean and deviation; its output
    mixed = depth * num_visible * (2 * config.hidden_size * number + 8)
    mixed -= num_visible * config.hidden_size * number  # counted with the encoder: the output, which is copied here
    return blocks + depth * memory + stacked + mixed


def cross_layer_bytes(settings: MemorySettings, tokens: int, queries: int, width: int, inner: int, heads: int) -> int:
    """Bytes that autograd saves per clip for a block of cross-attention, without the memory that it attends to.

    Args:
        settings: the precision is used.
        tokens: number of tokens of the memory.
        queries: number of tokens that attend.
        width, inner, heads: as in `layer_bytes`.
    """
    number = settings.product_bytes
    norms = 2 * queries * (width + 2) * 4  # inputs of both norms; mean and deviation per token
    read = queries * width * number  # output of the first norm
    attention = (queries + 2 * tokens) * width * number  # query, key, value
    attention += queries * (width * number + heads * 4)  # output, and log of the softmax's denominator
    mlp = queries * (width + 2 * inner) * number
    return norms + read + attention + mlp


def layer_bytes(settings: MemorySettings, tokens: int, queries: int, width: int, inner: int, heads: int) -> int:
    """Bytes that autograd saves per clip for the backward pass of a transformer layer.

    Args:
        settings: the precision is used.
        tokens: number of input tokens N.
        queries: number of output tokens Q <= N, which are the last of the N.
        width, inner, heads: hidden size, hidden size of the MLP, number of attention heads.
    """
    number = settings.product_bytes
    norms = (tokens + queries) * (width + 2) * 4  # inputs of both norms; mean and deviation per token
    # The query, key and value projections each save a half-precision copy of the norm's output, or share the output.
    # The queries of the last tokens are copied, because they are not a contiguous part of it.
    if settings.mixed_precision:
        read = (queries + 2 * tokens) * width * number
    else:
        read = (tokens + (queries if queries < tokens else 0)) * width * number
    attention = (queries + 2 * tokens) * width * number  # query, key, value
    attention += queries * (width * number + heads * 4)  # output, and log of the softmax's denominator
    mlp = queries * (width + 2 * inner) * number  # input of the MLP; before and after GELU
    return norms + read + attention + mlp

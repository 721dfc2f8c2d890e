# Copyright 2026 The videomae_hf authors. Licensed under the Apache License, Version 2.0.
"""Parts of a model that stay as they are: fewer parameters to learn from few videos, less memory, faster steps."""

import types

from torch import nn


def freeze(model: nn.Module, freeze_layers: int = 0, freeze_encoder: bool = False) -> list[str]:
    """Freezes the first blocks of the encoder, or all of it, in place.

    What is frozen gets no gradient (and none is carried through it: everything below the first trained block costs
    what inference costs), no optimizer state, and stays in evaluation mode, without dropout and drop path, whatever
    mode the model is put in.

    Args:
        model: with an encoder `videomae`, before the optimizer is made.
        freeze_layers: N freezes the embeddings and blocks 0 to N - 1; 0 freezes nothing.
        freeze_encoder: freezes all of `videomae`; what is left is the head (linear probing with augmentation).

    Returns:
        A line that says what is frozen; none if nothing is.

    Raises:
        ValueError: more layers than there are, or both are asked for.
    """
    encoder, depth = model.videomae, model.config.num_hidden_layers
    if not 0 <= freeze_layers <= depth:
        raise ValueError(f"freeze_layers={freeze_layers} must be 0 to {depth}, the blocks of this encoder.")
    if freeze_layers and freeze_encoder:
        raise ValueError(f"freeze_layers={freeze_layers} and freeze_encoder are both set; the second freezes all.")
    if freeze_encoder:
        parts, what = [encoder], "the whole encoder"
    elif freeze_layers:
        parts = [encoder.embeddings, *encoder.encoder.layer[:freeze_layers]]
        what = f"the embeddings and {freeze_layers} of {depth} blocks"
    else:
        return []
    for part in parts:
        part.requires_grad_(False)
        _keep_in_eval_mode(part)
    trained = sum(parameter.numel() for parameter in model.parameters() if parameter.requires_grad)
    total = sum(parameter.numel() for parameter in model.parameters())
    return [f"frozen: {what}; {trained:,} of {total:,} parameters are trained"]


def _keep_in_eval_mode(module: nn.Module):
    """`model.train()`, which the Trainer calls in each step, passes this module and all below it by."""
    module.eval()
    module.train = types.MethodType(_unmoved, module)


def _unmoved(module: nn.Module, mode: bool = True) -> nn.Module:
    return module

# Copyright 2026 The videomae_hf authors. Licensed under the Apache License, Version 2.0.
"""Parameter groups of the optimizer: weight decay and layer decay as in v1/optim_factory.py."""

import re

import torch


def parameter_groups(
    model: torch.nn.Module, learning_rate: float, weight_decay: float, layer_decay: float
) -> list[dict]:
    """Optimizer groups: weight decay as in the official code, and a learning rate for each layer.

    No decay for biases, vectors (norms, layer scale), the mask token and position tables (v1/optim_factory.py), nor
    for the scale of cosine attention (V2). Layers are numbered 0 for the embeddings, i + 1 for block i, and
    depth + 1 for all behind, head and decoder; the rate of layer n is that of the head times
    `layer_decay ** (depth + 1 - n)`. The head comes first: its rate is the one the Trainer logs.
    """
    depth = model.config.num_hidden_layers
    groups = {}
    for name, parameter in model.named_parameters():
        if not parameter.requires_grad:
            continue
        bare = name.rsplit(".", 1)[-1]
        decayed = parameter.ndim > 1 and bare not in ("bias", "mask_token", "position_embeddings", "scale")
        distance = depth + 1 - layer_number(name, depth)
        key = (distance, not decayed)
        if key not in groups:
            groups[key] = {
                "params": [],
                "lr": learning_rate * layer_decay**distance,
                "weight_decay": weight_decay if decayed else 0.0,
            }
        groups[key]["params"].append(parameter)
    return [groups[key] for key in sorted(groups)]


def layer_number(name: str, depth: int) -> int:
    """0 for the embeddings, i + 1 for block i of the encoder, depth + 1 for everything else."""
    if "embeddings." in name and "decoder" not in name:
        return 0
    block = re.search(r"(?:^|\.)encoder\.layer\.(\d+)\.", name)
    return int(block.group(1)) + 1 if block else depth + 1

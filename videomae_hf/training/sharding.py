# Copyright 2026 The videomae_hf authors. Licensed under the Apache License, Version 2.0.
"""Shards weights, gradients and optimizer state over all processes (FSDP2), with transformers' implementation.

The implementation of accelerate (`fsdp: true`) needs GPUs. That of transformers also works with gloo on CPUs, where it
is tested. transformers saves the whole weights of such a model, but cannot resume it; this module saves and loads the
rest. The files hold whole tensors, so that any number of processes can resume from them.
"""

import warnings
from pathlib import Path

import torch
from safetensors.torch import load_file
from torch.distributed.checkpoint.state_dict import (
    StateDictOptions,
    get_optimizer_state_dict,
    set_model_state_dict,
    set_optimizer_state_dict,
)
from transformers import PreTrainedModel, TrainingArguments


_FROM_FIRST = StateDictOptions(full_state_dict=True, broadcast_from_rank0=True)
OPTIMIZER_FILE = "optimizer.pt"  # named as in checkpoints of transformers, but its states have the names of the weights


def shard(model: PreTrainedModel, args: TrainingArguments) -> PreTrainedModel:
    """Shards `model`, which must be the same in all processes, in place: each process keeps a part of every parameter.

    Each block is gathered when it is computed, and its gradient is reduced and sharded right after. With bf16, blocks
    are sent and computed in bfloat16, and gradients are reduced in float32.
    """
    if args.world_size == 1:
        raise ValueError("fsdp2 shards the model over several processes, but only one runs; start more with torchrun.")
    from transformers.distributed import DistributedConfig

    # Neither these models nor the Trainer change outputs in place.
    warnings.filterwarnings("ignore", message="FSDP2-wrapped module .* returned a view tensor")
    original = type(model)
    config = DistributedConfig(fsdp_size=args.world_size, fsdp_mixed_precision=args.bf16)
    config, _, mesh = original.prepare_distribute_model(config)
    model = original.maybe_distribute_model(model, config, mesh)
    # torch replaces the model's class by one of its own; with that name, its module would be saved as the model's code.
    type(model).__name__, type(model).__module__ = original.__name__, original.__module__
    return model


def save_optimizer(
    model: PreTrainedModel, optimizer: torch.optim.Optimizer, folder: str, *, by_this_process: bool
) -> None:
    """Gathers the optimizer state in CPU memory, and saves it in one process; called by all processes."""
    whole = StateDictOptions(full_state_dict=True, cpu_offload=True)
    state = get_optimizer_state_dict(model, optimizer, options=whole)
    if by_this_process:
        torch.save(state, Path(folder, OPTIMIZER_FILE))


def load_optimizer(model: PreTrainedModel, optimizer: torch.optim.Optimizer, folder: str, rank: int) -> None:
    """Loads the optimizer state: the first process reads it, and each process gets its part.

    Raises:
        ValueError: there is no state, or a run without fsdp2 has saved it.
    """
    path = Path(folder, OPTIMIZER_FILE)
    if not path.is_file():
        raise ValueError(
            f"{folder} has no {OPTIMIZER_FILE} (as with save_only_model), so that no run can resume from it."
        )
    state = torch.load(path, map_location="cpu", mmap=True, weights_only=True) if rank == 0 else {}
    if rank == 0 and not all(isinstance(name, str) for name in state["state"]):
        raise ValueError(f"{path} is of a run without fsdp2; resume without fsdp2, or start from its weights.")
    set_optimizer_state_dict(model, optimizer, state, options=_FROM_FIRST)


def load_weights(model: PreTrainedModel, folder: str, rank: int) -> None:
    """Loads whole weights, from one or several files, into the shards of all processes.

    Raises:
        ValueError: the folder has no weights.
    """
    paths = sorted(Path(folder).glob("model*.safetensors"))
    if not paths:
        raise ValueError(f"{folder} has no model.safetensors; name a checkpoint-N folder, or use last.")
    weights = {}
    for path in paths if rank == 0 else []:
        weights.update(load_file(path))
    set_model_state_dict(model, weights, options=_FROM_FIRST)

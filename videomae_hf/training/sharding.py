# Copyright 2026 The videomae_hf authors. Licensed under the Apache License, Version 2.0.
"""Weights, gradients and optimizer state split over all processes (FSDP2), by transformers itself.

The other way to FSDP2, accelerate's with `fsdp: true`, needs GPUs; this one works with gloo on CPUs as well, and so it
is tested. transformers saves whole weights of such a model, but cannot resume it: what a checkpoint needs for that is
here. Its files hold everything whole, so that any number of processes may go on from them.
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
OPTIMIZER_FILE = "optimizer.pt"  # as in any checkpoint of transformers; here states go by the names of the weights


def shard(model: PreTrainedModel, args: TrainingArguments) -> PreTrainedModel:
    """Splits `model`, the same in all processes, where it is: each keeps its part of every parameter.

    Each block is put together when it is computed, and its gradient is summed and split right after. With bf16 the
    blocks are sent and computed in bfloat16, and gradients are summed in float32.
    """
    if args.world_size == 1:
        raise ValueError("fsdp2 splits the model over several processes, and one runs; start more with torchrun.")
    from transformers.distributed import DistributedConfig

    # No output is changed in place here or by the Trainer.
    warnings.filterwarnings("ignore", message="FSDP2-wrapped module .* returned a view tensor")
    original = type(model)
    config = DistributedConfig(fsdp_size=args.world_size, fsdp_mixed_precision=args.bf16)
    config, _, mesh = original.prepare_distribute_model(config)
    model = original.maybe_distribute_model(model, config, mesh)
    # torch puts a class of its own in the place of the model's; under its name its module would be saved as the code.
    type(model).__name__, type(model).__module__ = original.__name__, original.__module__
    return model


def save_optimizer(
    model: PreTrainedModel, optimizer: torch.optim.Optimizer, folder: str, *, by_this_process: bool
) -> None:
    """Puts the state together in the memory of the first process's machine; called by all processes."""
    whole = StateDictOptions(full_state_dict=True, cpu_offload=True)
    state = get_optimizer_state_dict(model, optimizer, options=whole)
    if by_this_process:
        torch.save(state, Path(folder, OPTIMIZER_FILE))


def load_optimizer(model: PreTrainedModel, optimizer: torch.optim.Optimizer, folder: str, rank: int) -> None:
    """The first process reads the state, each takes its part.

    Raises:
        ValueError: there is no state, or it is of a run without fsdp2.
    """
    path = Path(folder, OPTIMIZER_FILE)
    if not path.is_file():
        raise ValueError(f"{folder} has no {OPTIMIZER_FILE}, as with save_only_model, so that no run goes on from it.")
    state = torch.load(path, map_location="cpu", mmap=True, weights_only=True) if rank == 0 else {}
    if rank == 0 and not all(isinstance(name, str) for name in state["state"]):
        raise ValueError(f"{path} is of a run without fsdp2; resume it without, or start from its weights.")
    set_optimizer_state_dict(model, optimizer, state, options=_FROM_FIRST)


def load_weights(model: PreTrainedModel, folder: str, rank: int) -> None:
    """Whole weights, from one file or several, into the parts of all processes; ValueError if there are none."""
    paths = sorted(Path(folder).glob("model*.safetensors"))
    if not paths:
        raise ValueError(f"{folder} has no model.safetensors; name a checkpoint-N folder, or say last.")
    weights = {}
    for path in paths if rank == 0 else []:
        weights.update(load_file(path))
    set_model_state_dict(model, weights, options=_FROM_FIRST)

# Copyright 2026 The videomae_hf authors. Licensed under the Apache License, Version 2.0.
"""Weights, gradients and optimizer state split over all processes (FSDP2), by transformers itself.

The other way to FSDP2, accelerate's with `fsdp: true`, needs GPUs; this one works with gloo on CPUs as well, and so it
is tested. It cannot resume: the optimizer's state is not saved.
"""

import warnings

import torch
import transformers
from packaging.version import Version
from transformers import PreTrainedModel, TrainingArguments


def check_fsdp2(args: TrainingArguments):
    """Raises ValueError for what does not go with fsdp2."""
    if Version(transformers.__version__) < Version("5.23") or Version(torch.__version__) < Version("2.8"):
        raise ValueError(
            f"fsdp2 needs transformers 5.23 and torch 2.8; here are {transformers.__version__} and {torch.__version__}."
        )
    if args.fsdp or args.deepspeed:
        raise ValueError("fsdp2 does not go with fsdp or deepspeed; keep one of them.")
    if args.resume_from_checkpoint or (args.save_strategy != "no" and not args.save_only_model):
        raise ValueError(
            "fsdp2 cannot resume: the optimizer's state is not saved. Say --save_only_model true, or --save_strategy "
            "no, or take accelerate's FSDP (examples/accelerate/fsdp2.yaml), which resumes and needs GPUs."
        )


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

# Copyright 2026 The videomae_hf authors. Licensed under the Apache License, Version 2.0.
"""Training a part of a model: frozen layers, and low-rank adapters (LoRA, https://arxiv.org/abs/2106.09685) with peft.

Fewer trained parameters need fewer videos, less memory and less time per step. The checkpoints of a run with adapters
hold only the adapters and the head, a few megabytes. At the end of the run, `output_dir` holds the merged model, and
`output_dir/adapter` holds the adapters for `peft.PeftModel.from_pretrained`. All three load like any other checkpoint:
`from_pretrained` merges adapters into the checkpoint that they name, which must not be moved.
"""

import copy
import types
import warnings
from pathlib import Path

import torch
from torch import nn
from transformers import Trainer

from ..models.modeling_videomae_v2 import VideoMAEV2ForVideoClassification
from ..settings.run import Run
from ..settings.training_arguments import VideoMAETrainingArguments


def adapted(model: nn.Module, run: Run) -> tuple[nn.Module, list[str]]:
    """The model with adapters or frozen parts, as the settings request, and messages about them."""
    args = run.training
    if args.lora_rank:
        return add_adapters(model, args)
    return model, freeze(model, args.freeze_layers, freeze_encoder=args.freeze_encoder)


def freeze(model: nn.Module, freeze_layers: int = 0, *, freeze_encoder: bool = False) -> list[str]:
    """Freezes the first blocks of the encoder, or the whole encoder, in place.

    Frozen parameters get no gradient and no optimizer state. No gradient flows below the first trained block, so that
    these layers cost as much as in inference. Frozen modules stay in evaluation mode, without dropout and drop path,
    whatever mode the model is set to.

    Args:
        model: a model with an encoder `videomae`, before its optimizer is created.
        freeze_layers: N freezes the embeddings and blocks 0 to N - 1; 0 freezes nothing.
        freeze_encoder: freezes all of `videomae`, so that only the head is trained (linear probing with augmentation).

    Returns:
        A message about the frozen parts; [] if there are none.

    Raises:
        ValueError: the encoder has fewer layers, or both options are set.
    """
    encoder, depth = model.videomae, model.config.num_hidden_layers
    if not 0 <= freeze_layers <= depth:
        raise ValueError(f"freeze_layers={freeze_layers} must be 0 to {depth}, the blocks of this encoder.")
    if freeze_layers and freeze_encoder:
        raise ValueError(
            f"freeze_layers={freeze_layers} and freeze_encoder are both set; freeze_encoder alone freezes all."
        )
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


def _keep_in_eval_mode(module: nn.Module) -> None:
    """Keeps a module and its children in evaluation mode, whatever `model.train()` is called with.

    The Trainer calls `model.train()` in each step.
    """
    module.eval()
    module.train = types.MethodType(_unmoved, module)


def _unmoved(module: nn.Module, mode: bool = True) -> nn.Module:
    return module


ADAPTER_FOLDER = "adapter"


def add_adapters(
    model: VideoMAEV2ForVideoClassification, args: VideoMAETrainingArguments
) -> tuple[nn.Module, list[str]]:
    """Adds adapters to the encoder, and freezes all parameters except those of the adapters and the head.

    Returns:
        The model (a `peft.PeftModel`), and a message about its trained parameters.

    Raises:
        ValueError: peft is not installed, or the settings cannot be combined.
    """
    if not isinstance(model, VideoMAEV2ForVideoClassification):
        raise ValueError(f"lora_rank={args.lora_rank} is for finetuning.")
    if args.freeze_layers or args.freeze_encoder:
        raise ValueError(
            "lora_rank already freezes the encoder except for its adapters; leave out freeze_layers and freeze_encoder."
        )
    if args.fsdp2:
        raise ValueError("lora_rank cannot be combined with fsdp2; adapters need little memory, so that DDP is enough.")
    if model.config.reconstruction_weight:
        raise ValueError(
            f"lora_rank trains adapters and the head, but reconstruction_weight={model.config.reconstruction_weight} "
            f"trains a decoder; leave out one of the two."
        )
    if not model.name_or_path:
        raise ValueError("lora_rank adapts a pretrained model; name it with --checkpoint.")
    modules = model.videomae.named_modules()
    known = sorted({name.rsplit(".", 1)[-1] for name, module in modules if isinstance(module, torch.nn.Linear)})
    unknown = [name for name in args.lora_target_modules if name not in known]
    if unknown:  # peft ignores an unknown name among several
        raise ValueError(f"lora_target_modules: {unknown[0]!r} is not a linear layer; choose from {', '.join(known)}.")
    try:
        from peft import LoraConfig, get_peft_model
    except ImportError as error:
        raise ValueError("lora_rank needs peft: pip install peft") from error
    options = LoraConfig(
        r=args.lora_rank,
        lora_alpha=args.lora_alpha,
        lora_dropout=args.lora_dropout,
        target_modules=args.lora_target_modules,
        exclude_modules=r"classifier_layers\..*",
        modules_to_save=_head_of(model),
    )
    with warnings.catch_warnings():  # peft uses an attribute that transformers has deprecated
        warnings.filterwarnings("ignore", message="`is_gradient_checkpointing` is deprecated")
        model = get_peft_model(model, options)
    trained, total = model.get_nb_trainable_parameters()
    targets = ", ".join(args.lora_target_modules)
    return model, [f"LoRA of rank {args.lora_rank} on {targets}; {trained:,} of {total:,} parameters are trained"]


def _head_of(model: VideoMAEV2ForVideoClassification) -> list[str]:
    """The modules after the encoder, which are trained whole and saved with the adapters."""
    parts = [name for name in model.head_parts if getattr(model, name) is not None and name != "classifier_layers"]
    # peft takes the modules of a list, but not the list
    return parts + [f"classifier_layers.{number}" for number in range(model.config.classifier_num_hidden_layers)]


def save_merged(trainer: Trainer, folder: str | Path) -> None:
    """Writes the merged model to a folder, the adapters to its folder `adapter`, and the processor to both."""
    if not trainer.args.should_save:
        return
    folder = Path(folder)
    model = trainer.accelerator.unwrap_model(trainer.model)
    model.save_pretrained(folder / ADAPTER_FOLDER)
    save_config(model, folder / ADAPTER_FOLDER)
    copy.deepcopy(model).merge_and_unload().save_pretrained(folder)
    for place in (folder, folder / ADAPTER_FOLDER):
        trainer.processing_class.save_pretrained(place)


def save_config(model, folder: str | Path) -> None:
    """Writes config.json of a model with adapters, as `save_pretrained` of the merged model would.

    peft alone would not save it.
    """
    config = copy.deepcopy(model.get_base_model().config)
    config.architectures = [VideoMAEV2ForVideoClassification.__name__]  # rather than that of the base checkpoint
    config.save_pretrained(folder)

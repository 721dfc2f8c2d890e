# Copyright 2026 The videomae_hf authors. Licensed under the Apache License, Version 2.0.
"""Parts of a model that stay as they are: fewer parameters to learn from few videos, less memory, faster steps.

Low-rank adapters (LoRA, https://arxiv.org/abs/2106.09685) through peft.

A run's checkpoints hold the adapters and the head alone, a few megabytes. At its end `output_dir` holds the merged
model, and `output_dir/adapter` what `peft.PeftModel.from_pretrained` takes. All three load like any other checkpoint:
`from_pretrained` merges adapters into the checkpoint that they name, which has to stay where it is.
"""

import copy
import types
import warnings
from pathlib import Path

import torch
from torch import nn
from transformers import TrainerCallback

from ..models.modeling_videomae_v2 import VideoMAEV2ForVideoClassification
from ..settings.training_arguments import VideoMAETrainingArguments
from .trainer import VideoMAETrainer


def freeze(model: nn.Module, freeze_layers: int = 0, *, freeze_encoder: bool = False) -> list[str]:
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


def _keep_in_eval_mode(module: nn.Module) -> None:
    """`model.train()`, which the Trainer calls in each step, passes this module and all below it by."""
    module.eval()
    module.train = types.MethodType(_unmoved, module)


def _unmoved(module: nn.Module, mode: bool = True) -> nn.Module:
    return module


ADAPTER_FOLDER = "adapter"
HEAD = ("fc_norm", "classifier")  # trained whole, and saved with the adapters


def add_adapters(model: VideoMAEV2ForVideoClassification, args: VideoMAETrainingArguments):
    """The model with adapters, all else but the head frozen; and a line about it.

    Raises:
        ValueError: peft is not installed, or options that do not go together.
    """
    if not isinstance(model, VideoMAEV2ForVideoClassification):
        raise ValueError(f"lora_rank={args.lora_rank} is for finetuning.")
    if args.freeze_layers or args.freeze_encoder:
        raise ValueError(
            "lora_rank freezes all of the encoder but its adapters; leave out freeze_layers and freeze_encoder."
        )
    if args.fsdp2:
        raise ValueError("lora_rank does not go with fsdp2: adapters fit on every device, so that DDP does.")
    if not model.name_or_path:
        raise ValueError("lora_rank adapts a pretrained model; name it with --checkpoint.")
    modules = model.videomae.named_modules()
    known = sorted({name.rsplit(".", 1)[-1] for name, module in modules if isinstance(module, torch.nn.Linear)})
    unknown = [name for name in args.lora_target_modules if name not in known]
    if unknown:  # peft passes over one of several
        raise ValueError(f"lora_target_modules: {unknown[0]!r} is no linear layer; there are {', '.join(known)}.")
    try:
        from peft import LoraConfig, get_peft_model
    except ImportError as error:
        raise ValueError("lora_rank needs peft: pip install peft") from error
    options = LoraConfig(
        r=args.lora_rank,
        lora_alpha=args.lora_alpha,
        lora_dropout=args.lora_dropout,
        target_modules=args.lora_target_modules,
        modules_to_save=[name for name in HEAD if model.get_submodule(name) is not None],
    )
    with warnings.catch_warnings():  # peft asks the model by a name that transformers has since replaced
        warnings.filterwarnings("ignore", message="`is_gradient_checkpointing` is deprecated")
        model = get_peft_model(model, options)
    trained, total = model.get_nb_trainable_parameters()
    targets = ", ".join(args.lora_target_modules)
    return model, [f"LoRA of rank {args.lora_rank} on {targets}; {trained:,} of {total:,} parameters are trained"]


class SaveConfigCallback(TrainerCallback):
    """Adds config.json, with the classes, to each checkpoint: peft alone would not save them."""

    def on_save(self, args, state, control, model=None, **kwargs) -> None:
        if state.is_world_process_zero:
            _save_config(model, Path(args.output_dir, f"checkpoint-{state.global_step}"))


def save_merged(trainer: VideoMAETrainer) -> None:
    """Writes the merged model to `output_dir`, the adapters to its folder `adapter`, and the processor to both."""
    if not trainer.args.should_save:
        return
    folder = Path(trainer.args.output_dir)
    model = trainer.accelerator.unwrap_model(trainer.model)
    model.save_pretrained(folder / ADAPTER_FOLDER)
    _save_config(model, folder / ADAPTER_FOLDER)
    copy.deepcopy(model).merge_and_unload().save_pretrained(folder)
    for place in (folder, folder / ADAPTER_FOLDER):
        trainer.processing_class.save_pretrained(place)


def _save_config(model, folder: Path) -> None:
    """config.json of a model with adapters, as `save_pretrained` of the merged one would write it."""
    config = copy.deepcopy(model.get_base_model().config)
    config.architectures = [VideoMAEV2ForVideoClassification.__name__]  # not that of the checkpoint it began with
    config.save_pretrained(folder)

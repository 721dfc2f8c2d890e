# Copyright 2026 The videomae_hf authors. Licensed under the Apache License, Version 2.0.
"""Low-rank adapters (LoRA, https://arxiv.org/abs/2106.09685) through peft.

A run's checkpoints hold the adapters and the head alone, a few megabytes. At its end `output_dir` holds the merged
model, which loads and ships like any other, and `output_dir/adapter` what `peft.PeftModel.from_pretrained` takes.
"""

import copy
from pathlib import Path

import torch
from transformers import TrainerCallback

from ..configuration_videomae_v2 import VideoMAEV2Config
from ..modeling_videomae_v2 import VideoMAEV2ForVideoClassification
from .arguments import VideoMAETrainingArguments
from .trainer import VideoMAETrainer


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
    model = get_peft_model(model, options)
    trained, total = model.get_nb_trainable_parameters()
    targets = ", ".join(args.lora_target_modules)
    return model, [f"LoRA of rank {args.lora_rank} on {targets}; {trained:,} of {total:,} parameters are trained"]


class SaveConfigCallback(TrainerCallback):
    """Adds config.json, with the classes, to each checkpoint, which else names no class."""

    def on_save(self, args, state, control, model=None, **kwargs):
        if state.is_world_process_zero:
            _base(model).config.save_pretrained(Path(args.output_dir, f"checkpoint-{state.global_step}"))


def save_merged(trainer: VideoMAETrainer):
    """Writes the merged model and its processor to `output_dir`, and the adapters to the folder `adapter` in it."""
    if not trainer.args.should_save:
        return
    folder = Path(trainer.args.output_dir)
    model = trainer.accelerator.unwrap_model(trainer.model)
    model.save_pretrained(folder / ADAPTER_FOLDER)
    _base(model).config.save_pretrained(folder / ADAPTER_FOLDER)
    copy.deepcopy(model).merge_and_unload().save_pretrained(folder)
    trainer.processing_class.save_pretrained(folder)


def load_merged(folder: str | Path, **fields) -> VideoMAEV2ForVideoClassification:
    """The merged model of a folder of adapters that a run here has written (`checkpoint-100`, `adapter`).

    Args:
        folder: with adapter_config.json, which names the checkpoint that they adapt.
        fields: of the configuration, to change.
    """
    from peft import PeftConfig, PeftModel

    config = VideoMAEV2Config.from_pretrained(folder, **fields)
    base = PeftConfig.from_pretrained(folder).base_model_name_or_path
    model = VideoMAEV2ForVideoClassification.from_pretrained(
        base, config=config, dtype=torch.float32, ignore_mismatched_sizes=True
    )
    return PeftModel.from_pretrained(model, folder).merge_and_unload()


def is_adapter(checkpoint: str | Path) -> bool:
    return Path(checkpoint, "adapter_config.json").is_file()


def _base(model) -> VideoMAEV2ForVideoClassification:
    return model.get_base_model()

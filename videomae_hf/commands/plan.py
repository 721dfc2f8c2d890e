# Copyright 2026 The videomae_hf authors. Licensed under the Apache License, Version 2.0.
"""`videomae plan`: batch sizes, schedule and memory of a run on given GPUs, without weights, data or GPUs."""

import torch

from ..models.modeling_videomae_v2 import VideoMAEV2ForPreTraining, VideoMAEV2ForVideoClassification
from ..settings.recipes import parse_command_line
from ..training.planning import fit_batch, gpus_of, plan_lines
from . import finetune, pretrain


USAGE = """\
usage: videomae plan pretrain|finetune [RECIPE] [--key value ...] [--fit 8x24GB]

Prints batch sizes, schedule and memory of a run on the GPUs that --fit names; the default is one GPU.

    videomae plan finetune v1/finetune_k400_large --fit 8x24GB
    videomae plan pretrain v2/pretrain_hybrid_giant --fit 64x80GB
    videomae plan finetune --model_size base --per_device_train_batch_size 16

The options are those of pretrain and finetune. No checkpoint is read: --model_size and --model_kind set the model.
"""
_MODELS = {
    "pretrain": (pretrain.VERB, VideoMAEV2ForPreTraining),
    "finetune": (finetune.VERB, VideoMAEV2ForVideoClassification),
}


def main(arguments: list[str]) -> None:
    command, options = (arguments[:1] or [""])[0], arguments[1:]
    if command in ("", "-h", "--help"):
        print(USAGE)
        return
    if command not in _MODELS:
        raise ValueError(f"plan takes pretrain or finetune, not {command!r}.")
    verb, model_class = _MODELS[command]
    run = parse_command_line([*options, "--use_cpu", "true"], verb)  # planning needs no GPU
    args = run.training
    with torch.device("meta"):
        model = model_class(run.new_config())
    num_gpus = gpus_of(args)[0] if args.fit else 1
    if not args.total_is_given:  # the default is computed for this one process
        args.total_batch_size *= num_gpus
        if args.base_learning_rate is not None:
            args.learning_rate = args.effective_learning_rate
    messages = fit_batch(run, model, num_gpus)
    print("\n".join(messages + plan_lines(run, model, num_gpus=num_gpus)))

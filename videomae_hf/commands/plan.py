# Copyright 2026 The videomae_hf authors. Licensed under the Apache License, Version 2.0.
"""`videomae plan`: steps, batch, memory and hours of a run, before it starts."""

import argparse
import os

import torch

from ..data.sources.tar_shards import is_shards
from ..data.videos import training_videos
from ..models.configuration_videomae_v2 import VideoMAEV2Config
from ..models.modeling_videomae_v2 import VideoMAEV2ForPreTraining, VideoMAEV2ForVideoClassification
from ..settings.recipes import parse_command_line
from ..settings.rules import follow_rules
from ..settings.run import Run
from ..training.adaptation import adapted
from ..training.planning import cost_lines, fit_batch, gpus_of, new_model, plan_lines
from . import finetune, pretrain


USAGE = """\
usage: videomae plan pretrain|finetune [RECIPE] [--key value ...] [--fit 8x24GB] [--num_videos N]

Prints batch sizes, schedule, memory and hours of a run, with a warning where it cannot learn. Hours are measured on
this machine, for a step on random clips; for the GPUs that --fit names they follow from the arithmetic.

    videomae plan finetune --preset tiny --train_data my_videos/train
    videomae plan finetune v1/finetune_k400_large --fit 8x24GB --num_videos 240000
    videomae plan pretrain v2/pretrain_hybrid_giant --fit 64x80GB
    videomae plan finetune --preset base --num_videos 300 --lora_rank 8

The options are those of pretrain and finetune. Of a checkpoint, only config.json is read, if it is on this machine;
otherwise --model_size and --model_kind set the model. The videos are those of --train_data if it is here, of which none
is opened, or --num_videos.
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
    given, options = number_of_videos(options)
    run = parse_command_line([*options, "--use_cpu", "true"], verb)  # planning needs no GPU
    num_videos, unknown = (given, []) if given else videos_of(run)
    num_gpus = gpus_of(run.training)[0] if run.training.fit else 1
    _scale_batch(run, num_gpus)
    config, lines = planned_config(run)
    if num_videos is not None:  # which only a recipe can do without
        evaluates = "eval_data" in run.given or "eval_split_name" in run.given
        options = {"evaluates": evaluates, "num_processes": num_gpus}
        run, rules = follow_rules(run, config.hidden_size, num_videos, **options)
        lines += rules
    with torch.device("meta"):
        model, more = adapted(new_model(run, model_class, config), run)
    lines += [*more, *fit_batch(run, model, num_gpus)]
    lines += plan_lines(run, model, num_gpus=num_gpus, num_videos=num_videos)
    print("\n".join([*lines, *unknown]))
    print("\n".join(cost_lines(run, model, model_class, num_gpus, num_videos)))


def planned_config(run: Run) -> tuple[VideoMAEV2Config, list[str]]:
    """The configuration of the checkpoint or, without one on this machine, of a new model; and messages about it."""
    checkpoint, lines = run.model.checkpoint, []
    if checkpoint:
        try:
            return VideoMAEV2Config.from_pretrained(checkpoint, local_files_only=True, **run.config_overrides), []
        except OSError:
            if "model_size" not in run.given:
                lines = [
                    f"WARNING: the configuration of {checkpoint} is not on this machine; this plan is for "
                    f"model_size={run.model.model_size}. Set --model_size to the size of the checkpoint."
                ]
    return run.new_config(), lines


def _scale_batch(run: Run, num_gpus: int) -> None:
    """Sets the default of `total_batch_size`, which is that of this one process, for all GPUs."""
    args = run.training
    if not args.total_is_given:
        args.total_batch_size *= num_gpus
        if args.base_learning_rate is not None:
            args.learning_rate = args.effective_learning_rate


def videos_of(run: Run) -> tuple[int | None, list[str]]:
    """The number of training videos; None, and a message, if it is unknown here.

    Raises:
        ValueError: it is unknown, and the settings of the run follow from it.
    """
    data = run.data
    if isinstance(data.train_data, str) and not (is_shards(data.train_data) or os.path.exists(data.train_data)):
        missing = f"train_data={data.train_data} is not here"
    elif data.train_data or data.dataset_name:
        try:
            videos = finetune.finetuning_videos(run) if run.verb == "finetune" else training_videos(run, labelled=False)
            return videos.number, []
        except OSError as error:  # the videos or the checkpoint are elsewhere
            missing = f"the videos cannot be counted here ({error})"
    else:
        missing = "no train_data"
    if run.follows_rules:
        raise ValueError(
            f"{missing}, but without a recipe the batch, the epochs and the learning rate follow from the number of "
            f"videos; give --num_videos N."
        )
    return None, [f"{missing}: with --num_videos N, steps and hours are known as well"]


def number_of_videos(options: list[str]) -> tuple[int | None, list[str]]:
    """The value of --num_videos, None without it, and the other options."""
    parser = argparse.ArgumentParser(add_help=False, allow_abbrev=False, exit_on_error=False)
    parser.add_argument("--num_videos", type=int)
    try:
        own, rest = parser.parse_known_args(options)
    except argparse.ArgumentError as error:
        raise ValueError(str(error)) from error
    if own.num_videos is not None and own.num_videos < 1:
        raise ValueError(f"num_videos={own.num_videos} must be at least 1.")
    return own.num_videos, rest

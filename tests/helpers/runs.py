"""Runs as the commands get them."""

import dataclasses

from videomae_hf.commands import evaluate, finetune, pretrain, probe, videobert
from videomae_hf.settings.recipes import parse_command_line
from videomae_hf.settings.run import Run
from videomae_hf.settings.training_arguments import VideoMAETrainingArguments


COMMANDS = {"pretrain": pretrain.VERB, "finetune": finetune.VERB, "evaluate": evaluate.VERB, "probe": probe.VERB}
COMMANDS["videobert"] = videobert.VERB


def parsed(command: str, *arguments) -> Run:
    """The run of a command line."""
    return parse_command_line([str(argument) for argument in arguments], COMMANDS[command])


def run_of(
    training: VideoMAETrainingArguments | None = None, verb: str = "finetune", overrides=None, **settings
) -> Run:
    """A run with these settings, all others being the defaults."""
    training = training or VideoMAETrainingArguments(use_cpu=True, output_dir="unused")
    run = Run(training=training, verb=verb, config_overrides=overrides or {}, given=frozenset(settings))
    return run.changed(**settings)


def setting_names() -> set[str]:
    """Names of all settings that are not of training."""
    groups = run_of().groups.values()
    return {spec.name for group in groups for spec in dataclasses.fields(group)}

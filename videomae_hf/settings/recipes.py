# Copyright 2026 The videomae_hf authors. Licensed under the Apache License, Version 2.0.
"""Builds a `Run` from the command line and a recipe (YAML).

Recipes are flat mappings, given as a file or by the name of a recipe of this package. Each key is a setting of one of
the groups or of `VideoMAETrainingArguments` (which includes transformers' TrainingArguments), or a field of the model's
configuration class. The command line overrides the recipe. Unknown keys are refused.
"""

import argparse
import dataclasses
import sys
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from textwrap import fill

import yaml
from transformers import HfArgumentParser, PreTrainedConfig

from ..messages import did_you_mean
from ..models.configuration_videomae_v2 import VideoMAEV2Config
from ..text_files import read_yaml
from .groups import MULTI_LABEL
from .presets import preset_settings
from .recipe_files import find_recipe, named_recipes
from .rules import RULES, provisional_settings
from .run import GROUPS, Run, config_names
from .smoke_test import smoke_test_recipe
from .training_arguments import VideoMAETrainingArguments, join_processes


# The training settings that commands without training use
_WITHOUT_TRAINING = (
    "output_dir", "per_device_eval_batch_size", "dataloader_num_workers", "bf16", "max_bad_fraction", "num_processes",
    "seed", "use_cpu",
)  # fmt: skip
# Settings of transformers that --help explains, in one line each
_COMMON = {
    "learning_rate": "Peak learning rate; with a recipe's base_learning_rate it follows from that.",
    "num_train_epochs": "Passes over the training videos.",
    "max_steps": "Optimizer steps; overrides num_train_epochs where positive.",
    "per_device_train_batch_size": "Videos of one forward pass on a device, in training.",
    "per_device_eval_batch_size": "Videos of one forward pass on a device, in evaluation.",
    "gradient_accumulation_steps": "Forward and backward passes of one optimizer step.",
    "max_grad_norm": "Norm to which gradients are clipped; 0 clips none.",
    "lr_scheduler_type": "Schedule of the learning rate, such as linear or cosine.",
    "eval_strategy": "When to evaluate: no, steps or epoch.",
    "save_strategy": "When to save a checkpoint: no, steps or epoch.",
    "save_total_limit": "Checkpoints that are kept; older ones are deleted.",
    "dataloader_num_workers": "Processes that load videos, for each device; 0 loads in the main process.",
    "seed": "Seed of everything random.",
    "use_cpu": "Run on the CPU, also where there is a GPU.",
}


_RECIPES_HELP = (
    "RECIPE is a YAML file, or the name of a recipe of this package, such as v1/finetune_k400_base (listed below).\n"
    "Options override its settings."
)
SETTINGS = frozenset(spec.name for group in GROUPS.values() for spec in dataclasses.fields(group))


@dataclass(frozen=True)
class Verb:
    """The description of a command, for its parser and its --help.

    Args:
        name: the verb as typed on the command line.
        summary: the purpose of the command, in one sentence.
        examples: command lines that run, without the program's name.
        groups: attributes of `Run` whose settings the command uses.
        unused: settings of these groups that the command does not use.
        config_class: configuration class of the model.
        trains: whether the command uses all training settings; False leaves those of devices, batches and output.
        training: training settings that a command with `trains=False` uses as well.
    """

    name: str
    summary: str
    examples: tuple[str, ...]
    groups: tuple[str, ...]
    unused: tuple[str, ...] = ()
    config_class: type[PreTrainedConfig] = VideoMAEV2Config
    trains: bool = True
    training: tuple[str, ...] = ()

    @property
    def settings(self) -> set[str]:
        """Names of the settings that the command uses, without those of training."""
        names = {spec.name for group in self.groups for spec in dataclasses.fields(GROUPS[group])}
        return names - set(self.unused)

    @property
    def config_fields(self) -> frozenset[str]:
        """Fields of the model configuration that recipes and the command line can set."""
        return frozenset(config_names(self.config_class)) - {"label_mappings"} | {"problem_type"}


def parse_command_line(
    arguments: list[str], verb: Verb, overrides: dict | None = None, *, skip_unused: bool = False
) -> Run:
    """Reads `[RECIPE] [--key value ...]`.

    Args:
        arguments: command-line arguments after the verb.
        verb: the command.
        overrides: settings that override the recipe and are overridden by the command line.
        skip_unused: accept options that the command does not use, as needed for the stages of progressive training.

    Raises:
        FileNotFoundError: there is no such recipe.
        ValueError: the recipe is not a mapping, a key is unknown (the message suggests the closest known key), a value
            has the wrong type, or the command does not use an option.
    """
    parser, file = _parser(verb), None
    if arguments and not arguments[0].startswith("-"):  # argparse would take the values of model options for a recipe
        file, *arguments = arguments
    actions = {action.dest: action for action in parser._actions if action.option_strings}
    try:
        options, _ = parser.parse_known_args(arguments)
        recipe = read_recipe(file, actions, verb) if file else {}
        given = given_options(arguments)
        overrides = checked_settings(overrides or {}, "the recipe of stages", actions, verb)
        recipe = {**_without_base_rate(recipe, overrides), **overrides}
        recipe = _without_base_rate(recipe, given)
        chosen = {name: getattr(options, name, None) for name in given}
        recipe = _with_preset(recipe, file, options.preset, verb, chosen)
        smoke_test = options.smoke_test or recipe.get("smoke_test")
        if smoke_test:
            recipe = smoke_test_recipe(recipe)
        follows_rules = file is None and verb.name in RULES and not smoke_test
        defaults = provisional_settings(verb.name, {*given, *recipe}) if follows_rules else {}
        parser.set_defaults(**defaults | {name: value for name, value in recipe.items() if name in actions})
        namespace, _ = parser.parse_known_args(arguments)
        if namespace.use_cpu:  # before the arguments look for devices
            join_processes(namespace.ddp_timeout)
        *groups, training, rest = parser.parse_args_into_dataclasses(arguments, return_remaining_strings=True)
    except argparse.ArgumentError as error:
        raise ValueError(str(error)) from error
    config_overrides = {name: value for name, value in recipe.items() if name in verb.config_fields}
    config_overrides.update(config_options(rest, verb.config_fields, actions))
    if not skip_unused:
        refuse_unused(verb.name, verb.settings, arguments)
    run = Run(
        verb=verb.name,
        training=training,
        config_overrides=config_overrides,
        given=frozenset({*given, *recipe}),
        unused=tuple(sorted({*recipe} & SETTINGS - verb.settings - {"smoke_test", *given})),
        follows_rules=follows_rules,
        **dict(zip(GROUPS, groups)),
    )
    return _with_aliases(run)


def _with_preset(recipe: dict, file: str | None, preset: str | None, verb: Verb, given: dict) -> dict:
    """The recipe with the settings of a preset below it; raises ValueError for a preset beside or within a recipe."""
    if "preset" in recipe:
        raise ValueError(f"{file}: preset is for the command line, in place of a recipe; write down its settings.")
    if preset is None:
        return recipe
    if file is not None:
        raise ValueError(f"preset={preset} stands in place of a recipe, but {file} is given as well; leave one out.")
    return {**preset_settings(preset, verb.name, given), **recipe}


def _parser(verb: Verb) -> HfArgumentParser:
    program = "train.py" if Path(sys.argv[0]).name == "train.py" else "videomae"
    examples = "\n".join(f"    {program} {example}" for example in verb.examples)
    parser = HfArgumentParser(
        [*GROUPS.values(), VideoMAETrainingArguments],
        prog=f"{program} {verb.name}",
        usage=f"{program} {verb.name} [RECIPE] [--key value ...]",
        description=f"{verb.summary}\n\n{examples}\n\n{_RECIPES_HELP}",
        formatter_class=_Help,
        allow_abbrev=False,
        exit_on_error=False,
    )
    for action in parser._actions:
        # "none" unsets an option, except head_from, where it is one of the choices
        if action.type is str and action.default is None and action.dest != "head_from":
            action.type = _text_or_none
    parser.epilog = _shorten_help(parser, verb)
    return parser


def given_options(arguments: list[str]) -> list[str]:
    """Names of the options on a command line."""
    return [option.split("=")[0][2:].replace("-", "_") for option in arguments if option.startswith("--")]


def refuse_unused(who: str, used: set[str], arguments: list[str]) -> None:
    """Raises ValueError for an option of another command, that is, a setting that is not in `used`."""
    unused = sorted({*given_options(arguments)} & SETTINGS - used - {"smoke_test"})
    if unused:
        raise ValueError(f"{who} does not use --{', --'.join(unused)}; leave it out.")


def _with_aliases(run: Run) -> Run:
    """Moves transformers' `label_smoothing_factor` to `label_smoothing`, and refuses contradictory settings."""
    factor = run.training.label_smoothing_factor
    if factor:
        if run.augmentation.label_smoothing not in (0, factor):
            raise ValueError(
                "label_smoothing and label_smoothing_factor are set to different values; keep label_smoothing."
            )
        # The label smoothing of transformers would bypass class weights, mixed labels and the teacher.
        run.training.label_smoothing_factor = 0.0
        run = run.changed(label_smoothing=factor)
    problem_type = run.problem_type
    if run.augmentation.label_smoothing and problem_type == MULTI_LABEL:
        raise ValueError(
            f"label_smoothing={run.augmentation.label_smoothing} needs one label per video, but multi_label is set."
        )
    if problem_type == "regression":
        classes_only = ("mixup_alpha", "cutmix_alpha", "label_smoothing", "class_weights")
        wrong = next((name for name in classes_only if getattr(run.augmentation, name)), None)
        if wrong:
            raise ValueError(
                f"{wrong}={getattr(run.augmentation, wrong)} needs classes, but problem_type is regression."
            )
    return run.changed(multi_label=problem_type == MULTI_LABEL)


def _text_or_none(text: str) -> str | None:
    """The text, or None if it reads "none": `--checkpoint none` removes the checkpoint of a recipe."""
    return None if text.strip().lower() in ("", "none", "null") else text


class _Help(argparse.RawDescriptionHelpFormatter):
    """Formats `--help` with one spelling of each option, and its default if it has one."""

    def __init__(self, prog: str) -> None:
        super().__init__(prog, max_help_position=28, width=110)

    def _format_action_invocation(self, action: argparse.Action) -> str:
        options = [option for option in action.option_strings if option.startswith("--")]
        return options[0] if options else super()._format_action_invocation(action)

    def _get_help_string(self, action: argparse.Action) -> str:
        plain = not action.option_strings or action.default in (None, False, argparse.SUPPRESS)
        return action.help if plain else f"{action.help} [%(default)s]"


def _shorten_help(parser: HfArgumentParser, verb: Verb) -> str:
    """Hides the options of other commands, of transformers and of the model in the list of options.

    Returns:
        The names of the recipes, and of the hidden options of transformers and of the model, as text for the end.
    """
    training = {spec.name for spec in dataclasses.fields(VideoMAETrainingArguments)}
    explained = (
        set(VideoMAETrainingArguments.__annotations__) | set(_COMMON)
        if verb.trains
        else {*_WITHOUT_TRAINING, *verb.training}
    )
    shown, others = {"help", *verb.settings, *explained}, []
    if verb.trains:
        shown.add("smoke_test")
    for action in parser._actions:
        action.help = _COMMON.get(action.dest, action.help)
        is_negation = action.const is False  # --no_x, which HfArgumentParser adds to each --x that is true by default
        if action.dest in training - shown and not is_negation and verb.trains:
            others.append(action.dest)
        if is_negation or action.dest not in shown:
            action.help = argparse.SUPPRESS
    lists = {"recipes of this package": named_recipes()}
    lists[f"options of the model configuration (see {verb.config_class.__name__})"] = sorted(verb.config_fields)
    if others:
        lists["options of transformers' TrainingArguments (see its documentation)"] = sorted(others)
    texts = [f"{title}:\n{fill(', '.join(names), 110, break_on_hyphens=False)}" for title, names in lists.items()]
    return "\n\n".join(texts)


def read_recipe(path: str | Path, actions: dict[str, argparse.Action], verb: Verb) -> dict:
    """Reads the settings of a recipe, and refuses keys that neither `actions` nor the model configuration has."""
    path = find_recipe(path)
    return checked_settings(read_yaml(path), path, actions, verb)


def checked_settings(settings: dict, path: str | Path, actions: dict[str, argparse.Action], verb: Verb) -> dict:
    """Settings read from YAML in the form that the parser takes; error messages name `path`."""
    checked = {}
    for name, value in settings.items():
        _require_known(str(name), {*actions, *verb.config_fields}, f"{path}: unknown key {str(name)!r}")
        if name not in actions:
            checked[name] = _number_if_text(value)
        elif name == "train_data" and isinstance(value, list):  # a list of sources
            checked[name] = value
        elif isinstance(value, list) and actions[name].nargs is None:
            raise ValueError(f"{path}: {name} takes one value, not {value}.")
        elif isinstance(value, list):  # a list as default is not converted by argparse
            checked[name] = [_converted(item, actions[name], path) for item in value]
        else:  # as text, so that argparse converts and checks it like a value from the command line
            checked[name] = str(value) if isinstance(value, int | float) and not isinstance(value, bool) else value
    return checked


def _converted(item: object, action: argparse.Action, path: str | Path) -> object:
    """An item of a list in the type of its option: YAML reads 1e-3, which has no decimal point, as text."""
    try:
        return action.type(str(item))
    except (TypeError, ValueError) as error:
        raise ValueError(f"{path}: {action.dest} takes values of type {action.type.__name__}, not {item!r}.") from error


def _without_base_rate(recipe: dict, given: Iterable[str]) -> dict:
    """The recipe, without its base learning rates if `given` has a learning rate, which overrides them."""
    if "learning_rate" not in given:
        return recipe
    return {
        name: value for name, value in recipe.items() if name not in ("base_learning_rate", "base_min_learning_rate")
    }


def config_options(rest: list[str], config_fields: Iterable[str], known: Iterable[str] = ()) -> dict:
    """Parses `--field value` pairs of the model configuration, with values as in YAML; `known` are other options."""
    fields, rest = {}, list(rest)
    while rest:
        option = rest.pop(0)
        if not option.startswith("--"):
            raise ValueError(f"Unexpected argument {option!r}; options are written --key value.")
        option, _, value = option.partition("=")
        name = option[2:].replace("-", "_")
        _require_known(name, {*known, *config_fields}, f"unknown option {option}")
        if not value:
            if not rest:
                raise ValueError(f"{option} needs a value.")
            value = rest.pop(0)
        fields[name] = _number_if_text(yaml.safe_load(value))
    return fields


def _number_if_text(value: object) -> object:
    """Converts text to a number if possible: YAML reads 1e-6, which has no decimal point, as text."""
    if isinstance(value, str):
        try:
            return float(value)
        except ValueError:
            return value
    return value


def _require_known(name: str, known: Iterable[str], problem: str) -> None:
    if name not in known:
        raise ValueError(problem + (did_you_mean(name, sorted(known)) or "; --help lists all options."))

# Copyright 2026 The videomae_hf authors. Licensed under the Apache License, Version 2.0.
"""A recipe (YAML) and the command line, read into three groups of settings.

Keys are flat. A key is a field of `DataArguments`, of `VideoMAETrainingArguments` (and so of transformers'
TrainingArguments) or of `VideoMAEV2Config`; the command line goes before the recipe. Anything else is refused.
"""

import argparse
import dataclasses
import enum
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from textwrap import fill

import yaml
from transformers import HfArgumentParser

from ..messages import did_you_mean
from ..models.configuration_videomae_v2 import VideoMAEV2Config
from ..models.video_decoding import MAX_PIXELS
from ..text_files import read_yaml
from .smoke_test import shrink_recipe
from .training_arguments import VideoMAETrainingArguments


@dataclass
class DataArguments:
    """Fields of the command line; the rest are those of `VideoMAETrainingArguments` and of the configuration."""

    _argument_group_name = "data, model and evaluation"  # in --help

    train_data: str | None = field(
        default=None,
        metadata={
            "help": "Folder of class folders, list of videos, or tar shards (a folder of them, or a pattern such as "
            "'shards/*.tar'); a recipe may have several folders and lists, see `read_sources`."
        },
    )
    eval_data: str | None = field(default=None, metadata={"help": "The same, for evaluation."})
    dataset_name: str | None = field(
        default=None,
        metadata={
            "help": "In place of train_data and eval_data: a data set of the Hub, a local one, or a loader such as "
            "videofolder, with dataset_dir."
        },
    )
    dataset_config_name: str | None = field(default=None, metadata={"help": "Configuration of dataset_name."})
    dataset_dir: str | None = field(default=None, metadata={"help": "Folder that the loader dataset_name reads."})
    train_split_name: str = field(
        default="train", metadata={"help": "Split to train on, of dataset_name or of a list with a column of splits."}
    )
    eval_split_name: str | None = field(
        default=None,
        metadata={"help": "Split to evaluate on; of a list without it validation, or else test."},
    )
    video_column_name: str | None = field(
        default=None, metadata={"help": "Column of videos, of dataset_name or of lists, if not clear."}
    )
    label_column_name: str | None = field(default=None, metadata={"help": "Column of labels, if not clear."})
    streaming: bool = field(
        default=False,
        metadata={
            "help": "Read the training videos of dataset_name or of tar shards from front to back, and store nothing; "
            "evaluation data are downloaded."
        },
    )
    shuffle_buffer: int = field(
        default=100, metadata={"help": "Streaming: encoded videos that each worker holds in memory to draw from."}
    )
    videos_per_epoch: int | None = field(
        default=None, metadata={"help": "Streaming: length of an epoch, where the data set does not tell its own."}
    )
    class_names: str | None = field(
        default=None,
        metadata={"help": "File with a class name a line: the classes and their order, where the data do not say."},
    )
    data_root: str | None = field(default=None, metadata={"help": "Folder of relative paths in lists."})
    checkpoint: str | None = field(
        default=None, metadata={"help": "Folder or Hub id of the weights to start from, or to evaluate."}
    )
    head_from: str | None = field(
        default=None,
        metadata={
            "help": "Finetuning: rows of the checkpoint's head to begin with: a set of its label_mappings, names, "
            "none, or a JSON file of row numbers; without it those of the classes, if it has all of them."
        },
    )
    label_mappings: str | None = field(
        default=None,
        metadata={"help": "File that videomae merge-labels wrote: the classes of merged data, kept in the config."},
    )
    teacher: str | None = field(
        default=None, metadata={"help": "Finetuning: folder or Hub id of a finetuned model to distil from."}
    )
    distillation_weight: float = field(
        default=0.5, metadata={"help": "Share of the teacher in the loss; 1 needs no labels."}
    )
    distillation_temperature: float = field(default=1.0, metadata={"help": "Of both models' probabilities."})
    distillation_features: float = field(
        default=0.0, metadata={"help": "Weight of the cosine distance of the pooled features, added to the loss."}
    )
    model_size: str = field(default="base", metadata={"help": "small, base, large, huge or giant."})
    model_version: int = field(default=2, metadata={"help": "1, or 2 with dual masking."})
    frame_sampling: str = field(default="dense", metadata={"help": "dense, or uniform over the whole video."})
    sampling_rate: float = field(default=4.0, metadata={"help": "Distance of neighbouring frames of a dense clip."})
    fps: float | None = field(default=None, metadata={"help": "The same in frames a second; goes before it."})
    short_video: str = field(default="repeat_last", metadata={"help": "repeat_last, loop or error."})
    official_sampling: bool = field(
        default=False,
        metadata={"help": "Sample exactly the frames that the official V1 and V2 code samples (docs/deviations.md)."},
    )
    video_backend: str = field(default="auto", metadata={"help": "auto, pyav, torchcodec or decord."})
    square_pixels: bool = field(default=True, metadata={"help": "Stretch videos whose pixels are not square."})
    max_pixels: int = field(
        default=MAX_PIXELS, metadata={"help": "Pixels of a frame, height x width, above which a video is refused."}
    )
    antialias: bool | None = field(
        default=None,
        metadata={
            "help": "Antialias frames that finetuning and evaluation make smaller: yes by default, or in `evaluate` as "
            "the checkpoint's processor does; the official code does not."
        },
    )
    frame_template: str | None = field(
        default=None, metadata={"help": "Names of the images of a video that is a folder of them: img_{:05}.jpg"}
    )
    multi_label: bool = field(default=False, metadata={"help": "A video may have any number of labels (lists only)."})
    unlabelled: bool = field(
        default=False,
        metadata={"help": "The videos that evaluate reads have no labels: it writes predictions, and no scores."},
    )
    probe: str = field(default="linear", metadata={"help": "Of the command probe: linear, attentive or knn."})
    feature_cache: str | None = field(
        default=None, metadata={"help": "Folder of the features that probe keeps; None is features in output_dir."}
    )
    class_weights: str | None = field(
        default=None,
        metadata={
            "help": "Finetuning: balanced, or a YAML or JSON file of class names and weights (in a recipe also the "
            "mapping itself); classes that it does not name weigh 1."
        },
    )
    num_sample: int = field(
        default=1,
        metadata={"help": "Repeated augmentation: clips made of one decoding; the batch size counts videos."},
    )
    rand_augment: str | None = field(
        default=None, metadata={"help": "Finetuning: policy of RandAugment, officially rand-m7-n4-mstd0.5-inc1."}
    )
    color_jitter: float = field(default=0.0, metadata={"help": "Finetuning: change of brightness, contrast, colours."})
    grayscale: float = field(default=0.0, metadata={"help": "Finetuning: part of the clips that lose their colours."})
    random_erasing: float = field(default=0.0, metadata={"help": "Finetuning: part of the clips with a box of noise."})
    mixup_alpha: float = field(default=0.0, metadata={"help": "Finetuning: Mixup with Beta(alpha, alpha); 0 is none."})
    cutmix_alpha: float = field(default=0.0, metadata={"help": "Finetuning: CutMix with Beta(alpha, alpha)."})
    mix_probability: float = field(default=1.0, metadata={"help": "Of either of the two, where one is on."})
    mix_switch_probability: float = field(default=0.5, metadata={"help": "Of CutMix, where both are on."})
    mix_mode: str = field(default="batch", metadata={"help": "What shares one draw: batch, pair or elem."})
    label_smoothing: float = field(default=0.0, metadata={"help": "Finetuning: part of a label spread over all."})
    crop_scale: list[float] = field(
        default_factory=lambda: [0.08, 1.0], metadata={"help": "Part of the area that finetuning crops, from and to."}
    )
    horizontal_flip: bool = field(default=True, metadata={"help": "Mirror half of the clips in finetuning."})
    num_clips: int = field(default=5, metadata={"help": "Clips of each video that `evaluate` averages."})
    num_crops: int = field(default=3, metadata={"help": "Crops of each of these clips."})
    shuffle_frames: bool = field(
        default=False, metadata={"help": "Shuffle the frames of each clip in `evaluate`: what is left without motion?"}
    )
    shrink: bool = field(
        default=False,
        metadata={"help": "Two steps of the recipe with a tiny model and drawn videos, on the CPU: does it all run?"},
    )
    probe_train_data: str | None = field(
        default=None,
        metadata={
            "help": "Pretraining: some hundred labelled videos, as in train_data. At each evaluation those of "
            "probe_eval_data are classified by the nearest of them, in the encoder's features."
        },
    )
    probe_eval_data: str | None = field(
        default=None, metadata={"help": "Labelled videos of the same classes; also evaluated on without eval_data."}
    )
    reconstruction_videos: int = field(
        default=3,
        metadata={
            "help": "Pretraining: videos of eval_data, or else train_data unless streamed, whose reconstruction is "
            "drawn in output_dir/reconstructions at each evaluation and save, and at the end."
        },
    )
    demo_videos: int = field(
        default=0, metadata={"help": "Draw the demo data, so many videos a class, where train_data does not exist."}
    )


_PLAIN = str | int | float | bool | list | dict  # what YAML can say
# A secret; derived from others; of one run only
_NOT_KEPT = {"hub_token", "dataloader_pin_memory", "label_names", "prediction_loss_only", "resume_from_checkpoint"}
_NOT_KEPT |= {"gradient_checkpointing", "gradient_checkpointing_kwargs"}  # activation_checkpointing says it
_NOT_KEPT |= {"fit", "shrink"}  # what follows from them is kept
# Of transformers' settings, those that --help explains
_COMMON = (
    "learning_rate", "num_train_epochs", "max_steps", "per_device_train_batch_size", "gradient_accumulation_steps",
    "max_grad_norm", "lr_scheduler_type", "eval_strategy", "save_strategy", "save_total_limit",
    "resume_from_checkpoint", "dataloader_num_workers", "report_to", "seed", "use_cpu",
)  # fmt: skip
CONFIG_FIELDS = frozenset(VideoMAEV2Config.__annotations__) - {"label_mappings"} | {"problem_type"}


def parse_command_line(
    arguments: list[str], commands: tuple[str, ...], description: str, settings: dict | None = None
) -> tuple[str, DataArguments, VideoMAETrainingArguments, dict]:
    """Reads `COMMAND [RECIPE.yaml] [--key value ...]`.

    `settings` go before those of the recipe, and behind the options.

    Returns:
        The command, data settings, training settings and the fields for `VideoMAEV2Config`.

    Raises:
        ValueError, FileNotFoundError: a recipe that is missing or no mapping, an unknown key (with the nearest known
        one), a value of another type.
    """
    parser = HfArgumentParser(
        [DataArguments, VideoMAETrainingArguments],
        usage=f"train.py {{{','.join(commands)}}} [recipe.yaml] [--key value ...]",
        description=description,
        formatter_class=_Help,
        allow_abbrev=False,
        exit_on_error=False,
    )
    parser.add_argument("command", choices=commands)
    parser.add_argument("recipe", nargs="?", help="YAML file; options on the command line go before it")
    actions = {action.dest: action for action in parser._actions if action.option_strings}
    for action in actions.values():
        if action.type is str and action.default is None and action.dest != "head_from":  # where none is a choice
            action.type = _text_or_none
    parser.epilog = _shorten_help(parser)
    try:
        options, _ = parser.parse_known_args(arguments)
        recipe = read_recipe(options.recipe, actions) if options.recipe else {}
        given = [argument.split("=")[0].removeprefix("--").replace("-", "_") for argument in arguments]
        settings = checked_settings(settings or {}, "the recipe of stages", actions)
        recipe = {**_without_base_rate(recipe, settings), **settings}
        recipe = _without_base_rate(recipe, given)
        if options.shrink or recipe.get("shrink"):
            recipe = shrink_recipe(recipe)
        parser.set_defaults(**{name: value for name, value in recipe.items() if name in actions})
        data, training, _, rest = parser.parse_args_into_dataclasses(arguments, return_remaining_strings=True)
    except argparse.ArgumentError as error:
        raise ValueError(str(error)) from error
    model = {name: value for name, value in recipe.items() if name in CONFIG_FIELDS}
    model.update(config_options(rest, actions))
    return options.command, data, training, model


def _text_or_none(text: str) -> str | None:
    """A text, or None where it says so: `--checkpoint none` takes out that of a recipe."""
    return None if text.strip().lower() in ("", "none", "null") else text


class _Help(argparse.RawDescriptionHelpFormatter):
    """`--help` with one spelling of each option, and its default where it has one."""

    def __init__(self, prog: str):
        super().__init__(prog, max_help_position=28, width=110)

    def _format_action_invocation(self, action: argparse.Action) -> str:
        options = [option for option in action.option_strings if option.startswith("--")]
        return options[0] if options else super()._format_action_invocation(action)

    def _get_help_string(self, action: argparse.Action) -> str:
        plain = not action.option_strings or action.default in (None, False, argparse.SUPPRESS)
        return action.help if plain else f"{action.help} [%(default)s]"


def _shorten_help(parser: HfArgumentParser) -> str:
    """Leaves the options of transformers and of the model out of the list; returns their names, for the end of it."""
    shown = {spec.name for spec in dataclasses.fields(DataArguments)} | set(VideoMAETrainingArguments.__annotations__)
    shown |= {"help", "command", "recipe", *_COMMON}
    others = []
    for action in parser._actions:
        is_negation = action.const is False  # --no_x, which HfArgumentParser adds to each --x that is true by default
        if action.dest not in shown and not is_negation:
            others.append(action.dest)
        if is_negation or action.dest in others:
            action.help = argparse.SUPPRESS
    lists = {
        "of the model configuration (see VideoMAEV2Config)": CONFIG_FIELDS,
        "of transformers' TrainingArguments (see its documentation)": others,
    }
    texts = [f"options {whose}:\n{fill(', '.join(sorted(names)), 110)}" for whose, names in lists.items()]
    return "\n\n".join(texts)


def read_recipe(path: str | Path, actions: dict[str, argparse.Action]) -> dict:
    """The keys and values of a recipe; refuses keys that neither `actions` nor the configuration has."""
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"No recipe {path}.")
    return checked_settings(read_yaml(path), path, actions)


def checked_settings(settings: dict, path: str | Path, actions: dict[str, argparse.Action]) -> dict:
    """Settings read from YAML as the parser takes them; `path` is what messages name."""
    checked = {}
    for name, value in settings.items():
        _require_known(str(name), actions, f"{path}: unknown key {str(name)!r}")
        if name not in actions:
            checked[name] = _number_if_text(value)
        elif name == "train_data" and isinstance(value, list):  # several sources
            checked[name] = value
        elif isinstance(value, list) and actions[name].nargs is None:
            raise ValueError(f"{path}: {name} takes one value, not {value}.")
        else:  # as text, so that argparse converts and checks it like one from the command line
            checked[name] = str(value) if isinstance(value, int | float) and not isinstance(value, bool) else value
    return checked


def _without_base_rate(recipe: dict, given: Iterable[str]) -> dict:
    """A recipe without its base rates where a learning rate is given that goes before it."""
    if "learning_rate" not in given:
        return recipe
    return {
        name: value for name, value in recipe.items() if name not in ("base_learning_rate", "base_min_learning_rate")
    }


def config_options(rest: list[str], known: Iterable[str]) -> dict:
    """`--field value` pairs of the model configuration, values written as in YAML."""
    fields, rest = {}, list(rest)
    while rest:
        option = rest.pop(0)
        if not option.startswith("--"):
            raise ValueError(f"Unexpected argument {option!r}; options are written --key value.")
        option, _, value = option.partition("=")
        name = option[2:].replace("-", "_")
        _require_known(name, known, f"unknown option {option}")
        if not value:
            if not rest:
                raise ValueError(f"{option} needs a value.")
            value = rest.pop(0)
        fields[name] = _number_if_text(yaml.safe_load(value))
    return fields


def _number_if_text(value):
    """YAML reads 1e-6, without a dot, as text; a number is meant."""
    if isinstance(value, str):
        try:
            return float(value)
        except ValueError:
            return value
    return value


def _require_known(name: str, known: Iterable[str], problem: str):
    if name not in known and name not in CONFIG_FIELDS:
        raise ValueError(problem + (did_you_mean(name, [*known, *CONFIG_FIELDS]) or "; see train.py --help for all."))


def as_recipe(data: DataArguments, training: VideoMAETrainingArguments, model: dict) -> dict:
    """The recipe that repeats a run: what differs from the defaults. Kept beside its results."""
    recipe = dict(model)
    # Arguments set up the devices when they are made, also these: for the same kind of device, then.
    training_default = VideoMAETrainingArguments(use_cpu=training.use_cpu)
    training_default.use_cpu = False
    for settings, default in ((data, DataArguments()), (training, training_default)):
        for name in (spec.name for spec in dataclasses.fields(settings)):
            value = getattr(settings, name)
            value = value.value if isinstance(value, enum.Enum) else value
            if value != getattr(default, name) and isinstance(value, _PLAIN) and name not in _NOT_KEPT:
                recipe[name] = value
    recipe.pop("gradient_accumulation_steps" if training.total_is_given else "total_batch_size", None)  # it follows
    if training.base_learning_rate is not None:  # which says these
        for name in ("learning_rate", "lr_scheduler_type", "lr_scheduler_kwargs"):
            recipe.pop(name, None)
    return recipe


def common_settings(data: DataArguments, training: VideoMAETrainingArguments, model: dict) -> dict:
    """What all processes must agree on: everything but paths, which may be others on another machine."""
    settings = {**vars(data), **vars(training), **model}
    paths = {
        "train_data",
        "eval_data",
        "probe_train_data",
        "probe_eval_data",
        "data_root",
        "dataset_dir",
        "class_names",
        "checkpoint",
        "output_dir",
    }
    return {name: value for name, value in settings.items() if isinstance(value, _PLAIN) and name not in paths}

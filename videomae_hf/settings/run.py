# Copyright 2026 The videomae_hf authors. Licensed under the Apache License, Version 2.0.
"""`Run`: one command with all of its settings, and the values derived from them."""

import dataclasses
import enum
from dataclasses import dataclass, field
from functools import cached_property

from transformers import PreTrainedConfig

from ..models.configuration_videomae_v2 import VideoMAEV2Config
from ..models.model_sizes import IMAGE_KINDS
from .groups import (
    LEARNING_ARGUMENTS,
    LEARNING_SETTINGS,
    MULTI_LABEL,
    AugmentationSettings,
    ClipSettings,
    DataSettings,
    DistillationSettings,
    EvaluationSettings,
    ModelSettings,
    MonitoringSettings,
    PretrainingSettings,
    ProbeSettings,
    SmokeTestSettings,
    StaticTokenSettings,
    VideoTextSettings,
    default_views,
)
from .training_arguments import VideoMAETrainingArguments


_PLAIN = str | int | float | bool | list | dict  # types that YAML can represent
# Settings that `as_recipe` leaves out: a secret, derived settings, and settings of a single run
_NOT_KEPT = {"hub_token", "dataloader_pin_memory", "label_names", "prediction_loss_only", "resume_from_checkpoint"}
_NOT_KEPT |= {"gradient_checkpointing", "gradient_checkpointing_kwargs"}  # set by activation_checkpointing
_NOT_KEPT |= {"fit", "smoke_test", "preset"}  # the settings that they change are kept
# Settings that may differ between machines
_PATHS = {
    "train_data", "eval_data", "probe_train_data", "probe_eval_data", "data_root", "dataset_dir", "class_names",
    "checkpoint", "output_dir", "text_checkpoint", "tokenizer", "backbone", "feature_cache_dir", "visual_words_from",
}  # fmt: skip


@dataclass(frozen=True)
class Run:
    """A command and its settings.

    Args:
        training: batch size, schedule, precision and the other settings of the Trainer.
        verb: name of the command.
        data, clips, model, pretraining, augmentation, static_tokens, distillation, monitoring, evaluation, probing,
            video_text, smoke: groups of settings.
        config_overrides: fields of the model's configuration, by name.
        given: names of the settings that the command line or the recipe sets.
        unused: names of the recipe's settings that this command does not use.
        follows_rules: whether the settings that are not given follow from the videos and the model (see `rules.py`).
    """

    training: VideoMAETrainingArguments
    verb: str = "finetune"
    data: DataSettings = DataSettings()
    clips: ClipSettings = ClipSettings()
    model: ModelSettings = ModelSettings()
    pretraining: PretrainingSettings = PretrainingSettings()
    augmentation: AugmentationSettings = AugmentationSettings()
    static_tokens: StaticTokenSettings = StaticTokenSettings()
    distillation: DistillationSettings = DistillationSettings()
    monitoring: MonitoringSettings = MonitoringSettings()
    evaluation: EvaluationSettings = EvaluationSettings()
    probing: ProbeSettings = ProbeSettings()
    video_text: VideoTextSettings = VideoTextSettings()
    smoke: SmokeTestSettings = SmokeTestSettings()
    config_overrides: dict = field(default_factory=dict)
    given: frozenset[str] = frozenset()
    unused: tuple[str, ...] = ()
    follows_rules: bool = False

    @property
    def groups(self) -> dict:
        """The groups of settings by attribute name, without `training`."""
        values = {spec.name: getattr(self, spec.name) for spec in dataclasses.fields(self)}
        return {name: value for name, value in values.items() if isinstance(value, tuple(GROUPS.values()))}

    def settings(self) -> dict:
        """All settings by name, without those of `training`."""
        return {name: value for group in self.groups.values() for name, value in vars(group).items()}

    def changed(self, **settings) -> "Run":
        """Returns a copy with new values for these settings, which may belong to any group.

        Raises:
            TypeError: no group has a setting of that name.
        """
        groups, rest = {}, dict(settings)
        for attribute, group in self.groups.items():
            own = {name: rest.pop(name) for name in list(rest) if name in vars(group)}
            if own:
                groups[attribute] = dataclasses.replace(group, **own)
        if rest:
            raise TypeError(f"No group of settings has {', '.join(rest)}.")
        return dataclasses.replace(self, **groups)

    @property
    def problem_type(self) -> str | None:
        """The `problem_type` of the model; None for pretraining. `multi_label` is short for multi-label classification.

        Raises:
            ValueError: `multi_label` and `problem_type` contradict each other.
        """
        if self.verb == "pretrain":
            return None
        given = self.config_overrides.get("problem_type")
        if self.data.multi_label and given not in (None, MULTI_LABEL):
            raise ValueError(f"multi_label and problem_type={given!r} are both set; keep one.")
        return MULTI_LABEL if self.data.multi_label else given or "single_label_classification"

    def new_config(self, **fields) -> VideoMAEV2Config:
        """The configuration of a new model of the kind and size that the settings name, with the given fields changed.

        Raises:
            ValueError: there is no such kind or size, or fields contradict each other.
        """
        model, fields = self.model, {**self.config_overrides, **fields}
        if model.model_kind == "video":
            return VideoMAEV2Config.from_size(model.model_size, model.model_version, **fields)
        if model.model_kind not in IMAGE_KINDS:
            raise ValueError(
                f"model_kind={model.model_kind!r} is unknown; choose one of video, {', '.join(IMAGE_KINDS)}."
            )
        if "model_version" in self.given:
            raise ValueError(
                f"model_version={model.model_version} is of VideoMAE, but model_kind is {model.model_kind}; leave it "
                f"out."
            )
        return VideoMAEV2Config.for_images(model.model_size, model.model_kind, **fields)

    @cached_property
    def of_images(self) -> bool:
        """Whether the model, of a checkpoint or a new one, has a single frame, so that its data are images."""
        model, overrides = self.model, self.config_overrides
        if self.verb == "videobert":  # a backbone of images reads the frames of a video
            return False
        if "num_frames" in overrides:
            return overrides["num_frames"] == 1
        if model.checkpoint:
            return VideoMAEV2Config.from_pretrained(model.checkpoint).num_frames == 1
        return model.model_kind != "video"

    def views(self, num_frames: int) -> tuple[int, int]:
        """num_clips and num_crops of the evaluation of a model of `num_frames` frames."""
        names, settings = ("num_clips", "num_crops"), self.evaluation
        default = default_views(num_frames)
        return tuple(getattr(settings, name) if name in self.given else one for name, one in zip(names, default))

    def as_recipe(self) -> dict:
        """The recipe that repeats the run: all settings that differ from the defaults. It is saved with the results."""
        recipe, training = dict(self.config_overrides), self.training
        # Creating arguments initialises the devices, so that the defaults must be for the same kind of device.
        training_default = VideoMAETrainingArguments(use_cpu=training.use_cpu)
        training_default.use_cpu = False
        for settings, default in [(group, type(group)()) for group in self.groups.values()] + [
            (training, training_default)
        ]:
            for name in (spec.name for spec in dataclasses.fields(settings)):
                value = getattr(settings, name)
                value = value.value if isinstance(value, enum.Enum) else value
                if value != getattr(default, name) and isinstance(value, _PLAIN) and name not in _NOT_KEPT:
                    recipe[name] = value
        # Each of the two follows from the other.
        recipe.pop("gradient_accumulation_steps" if training.total_is_given else "total_batch_size", None)
        if training.base_learning_rate is not None:  # sets these
            for name in ("learning_rate", "lr_scheduler_type", "lr_scheduler_kwargs"):
                recipe.pop(name, None)
        return recipe

    def shared_settings(self) -> dict:
        """The settings on which all processes must agree: all but paths, which may differ between machines."""
        settings = {**self.settings(), **vars(self.training), **self.config_overrides}
        return {name: value for name, value in settings.items() if isinstance(value, _PLAIN) and name not in _PATHS}

    def learning_settings(self) -> dict:
        """The settings that affect the trained weights."""
        settings, training = self.settings(), vars(self.training)
        kept = {name: settings[name] for name in LEARNING_SETTINGS}
        if isinstance(self.data.train_data, list):  # weights and clips of each source, wherever it is
            places = ("data", "root")
            kept["sources"] = [
                {name: value for name, value in source.items() if name not in places} for source in self.data.train_data
            ]
        return kept | {name: training[name] for name in LEARNING_ARGUMENTS}


# Attribute of `Run` -> group
GROUPS = {
    spec.name: type(spec.default)
    for spec in dataclasses.fields(Run)
    if dataclasses.is_dataclass(type(spec.default)) and spec.name != "training"
}


def config_names(config_class: type[PreTrainedConfig]) -> list[str]:
    """The fields of a model configuration, with those of the models that it extends, such as BERT's."""
    classes = config_class.__mro__[: config_class.__mro__.index(PreTrainedConfig)]
    return sorted({name for one in classes for name in one.__annotations__})

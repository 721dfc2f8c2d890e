# Copyright 2026 The videomae_hf authors. Licensed under the Apache License, Version 2.0.
"""The settings of a command, in groups by purpose. Frozen: a command reads them and never writes them.

Each field is an option of the command line (`--sampling_rate 2`) and a key of a recipe. Training itself is set by
`VideoMAETrainingArguments`, the model by its configuration class.
"""

from dataclasses import dataclass, field
from typing import Any

from ..models.video_decoding import MAX_PIXELS


MULTI_LABEL = "multi_label_classification"


def setting(default: Any, help: str) -> Any:
    """A field with this default and its line of `--help`."""
    if isinstance(default, list):
        return field(default_factory=lambda: list(default), metadata={"help": help})
    return field(default=default, metadata={"help": help})


@dataclass(frozen=True)
class DataSettings:
    """Where the videos and their labels are."""

    _argument_group_name = "data"

    train_data: str | None = setting(
        None,
        "Folder of class folders, list of videos, tar shards ('shards/*.tar'), or hf://datasets/USER/NAME; a recipe "
        "may list several folders and lists.",
    )
    eval_data: str | None = setting(None, "The same, for evaluation.")
    dataset_name: str | None = setting(
        None, "In place of both: a data set of the Hub, a local one, or a loader such as videofolder with dataset_dir."
    )
    dataset_config_name: str | None = setting(None, "Configuration of dataset_name.")
    dataset_dir: str | None = setting(None, "Folder that the loader dataset_name reads.")
    train_split_name: str = setting("train", "Split to train on, of a data set or of a list with a column of splits.")
    eval_split_name: str | None = setting(None, "Split to evaluate on; in a list, validation or else test by default.")
    video_column_name: str | None = setting(None, "Column of the videos, where it is not clear.")
    label_column_name: str | None = setting(None, "Column of the labels, where it is not clear.")
    streaming: bool = setting(False, "Read training videos from front to back and store nothing.")
    shuffle_buffer: int = setting(100, "Streaming: encoded videos that each worker holds to sample from.")
    videos_per_epoch: int | None = setting(None, "Streaming: length of an epoch, where the data set does not tell it.")
    class_names: str | None = setting(None, "File with one class name a line: the classes and their order.")
    data_root: str | None = setting(None, "Folder of relative paths in lists.")
    multi_label: bool = setting(False, "A video may have any number of labels (lists and data sets).")
    unlabelled: bool = setting(False, "evaluate: the videos have no labels; write predictions and no scores.")
    demo_videos: int = setting(0, "Synthesise demo data, this many videos a class, where train_data does not exist.")


@dataclass(frozen=True)
class ClipSettings:
    """Which frames of a video make a clip, and how they are decoded."""

    _argument_group_name = "clips"

    frame_sampling: str = setting("dense", "dense, or uniform over the whole video.")
    sampling_rate: float = setting(4.0, "Distance between neighbouring frames of a dense clip.")
    fps: float | None = setting(None, "Frames per second of a dense clip; overrides sampling_rate.")
    short_video: str = setting("repeat_last", "Videos shorter than a clip: repeat_last, loop or error.")
    official_sampling: bool = setting(False, "Sample exactly the frames that the official code samples.")
    num_sample: int = setting(1, "Repeated augmentation: clips from one decoding; the batch size counts videos.")
    video_backend: str = setting("auto", "Decoder: auto, pyav, torchcodec or decord.")
    frame_template: str | None = setting(None, "File names in folders of images: img_{:05}.jpg")
    square_pixels: bool = setting(True, "Stretch videos whose pixels are not square.")
    max_pixels: int = setting(MAX_PIXELS, "Refuse videos whose frames have more pixels than this.")
    antialias: bool | None = setting(
        None,
        "Antialias frames made smaller in finetuning and evaluation: by default yes, or as the checkpoint says.",
    )


@dataclass(frozen=True)
class ModelSettings:
    """The weights to start from, or the size of a new model."""

    _argument_group_name = "model"

    checkpoint: str | None = setting(
        None, "Folder or Hub id of the weights to start from or to evaluate; none: random."
    )
    model_size: str = setting("base", "Size of a new model: small, base, large, huge or giant.")
    model_version: int = setting(2, "1, or 2 with dual masking.")
    head_from: str | None = setting(
        None,
        "Rows of the checkpoint's head to start from: a set of label_mappings, names, none, or a JSON file of rows.",
    )
    label_mappings: str | None = setting(None, "File of `videomae merge-labels`: the classes of merged data.")


@dataclass(frozen=True)
class AugmentationSettings:
    """Augmentation and the loss of finetuning."""

    _argument_group_name = "augmentation and loss"

    rand_augment: str | None = setting(None, "Policy of RandAugment; the official one is rand-m7-n4-mstd0.5-inc1.")
    color_jitter: float = setting(0.0, "Strength of changes in brightness, contrast and saturation.")
    grayscale: float = setting(0.0, "Fraction of the clips that lose their colours.")
    random_erasing: float = setting(0.0, "Fraction of the clips that get a box of noise.")
    mixup_alpha: float = setting(0.0, "Mixup with Beta(alpha, alpha); 0 turns it off.")
    cutmix_alpha: float = setting(0.0, "CutMix with Beta(alpha, alpha); 0 turns it off.")
    mix_probability: float = setting(1.0, "Probability of either of the two, where one is on.")
    mix_switch_probability: float = setting(0.5, "Probability of CutMix where both are on.")
    mix_mode: str = setting("batch", "What shares one random value: batch, pair or elem.")
    label_smoothing: float = setting(0.0, "Fraction of a label that is spread over all classes.")
    class_weights: str | None = setting(
        None, "balanced, or a YAML or JSON file (in a recipe: a mapping) of class names and weights."
    )
    crop_scale: list[float] = setting([0.08, 1.0], "Smallest and largest fraction of the area that is cropped.")
    horizontal_flip: bool = setting(True, "Mirror half of the clips.")

    @property
    def mixes(self) -> bool:
        """Whether labels are mixed or smoothed, which needs normalised clips in the collator."""
        return self.mixup_alpha > 0 or self.cutmix_alpha > 0 or self.label_smoothing > 0


@dataclass(frozen=True)
class DistillationSettings:
    """A finetuned model to learn from."""

    _argument_group_name = "distillation"

    teacher: str | None = setting(None, "Folder or Hub id of a finetuned model to distil from.")
    distillation_weight: float = setting(0.5, "Share of the teacher in the loss; 1 needs no labels.")
    distillation_temperature: float = setting(1.0, "Temperature of both models' probabilities.")
    distillation_features: float = setting(0.0, "Weight of the cosine distance between pooled features.")

    @property
    def needs_labels(self) -> bool:
        return self.teacher is None or self.distillation_weight < 1


@dataclass(frozen=True)
class MonitoringSettings:
    """What a pretraining reports while it runs."""

    _argument_group_name = "monitoring"

    probe_train_data: str | None = setting(
        None,
        "A few hundred labelled videos, whose features classify those of probe_eval_data at each evaluation (k-NN).",
    )
    probe_eval_data: str | None = setting(
        None, "Labelled videos of the same classes; also eval_data where that is unset."
    )
    reconstruction_videos: int = setting(
        3, "Videos whose reconstructions are saved in output_dir/reconstructions at each evaluation and save."
    )


@dataclass(frozen=True)
class EvaluationSettings:
    """The views of a video that are averaged."""

    _argument_group_name = "evaluation"

    num_clips: int = setting(5, "Clips of each video.")
    num_crops: int = setting(3, "Crops of each clip.")
    shuffle_frames: bool = setting(False, "Shuffle the frames of each clip: what is left without motion?")


@dataclass(frozen=True)
class ProbeSettings:
    """A probe on frozen features."""

    _argument_group_name = "probe"

    probe: str = setting("linear", "linear, attentive or knn.")
    feature_cache: str | None = setting(None, "Folder that keeps the features; features in output_dir by default.")


@dataclass(frozen=True)
class SmokeTestSettings:
    """Whether a recipe runs at all."""

    _argument_group_name = "smoke test"

    smoke_test: bool = setting(
        False, "Run two steps of the recipe with a tiny model on synthesised videos, on the CPU."
    )


# The settings that decide what is learned. Paths are not among them: the data themselves are compared.
LEARNING_SETTINGS = (
    "distillation_weight", "distillation_temperature", "distillation_features", "frame_sampling", "sampling_rate",
    "fps", "short_video", "official_sampling", "square_pixels", "max_pixels", "antialias", "num_sample", "rand_augment",
    "color_jitter", "grayscale", "random_erasing", "mixup_alpha", "cutmix_alpha", "mix_probability",
    "mix_switch_probability", "mix_mode", "label_smoothing", "crop_scale", "horizontal_flip", "class_weights",
    "streaming", "shuffle_buffer",
)  # fmt: skip
# Those among `VideoMAETrainingArguments`
LEARNING_ARGUMENTS = (
    "learning_rate", "lr_scheduler_type", "lr_scheduler_kwargs", "warmup_epochs", "warmup_steps", "num_train_epochs",
    "max_steps", "total_batch_size", "weight_decay", "layer_decay", "max_grad_norm", "optim", "adam_beta1",
    "adam_beta2", "adam_epsilon", "seed", "data_seed", "dataloader_drop_last", "freeze_layers", "freeze_encoder",
    "drop_path_warmup_epochs", "lora_rank", "lora_alpha", "lora_dropout", "lora_target_modules", "ema_decay",
)  # fmt: skip

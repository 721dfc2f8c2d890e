# Copyright 2026 The videomae_hf authors. Licensed under the Apache License, Version 2.0.
"""The settings of a command, grouped by purpose. The groups are frozen: commands read settings and never change them.

Each field is an option of the command line (`--sampling_rate 2`) and a key of recipes. Training itself is configured by
`VideoMAETrainingArguments`, and the model by its configuration class.
"""

from dataclasses import dataclass, field
from typing import Any

from ..models.video_decoding import MAX_PIXELS


MULTI_LABEL = "multi_label_classification"
# Hyperparameters of the heads of V-JEPA 2's probe (configs/eval of facebookresearch/vjepa2)
VJEPA2_LEARNING_RATES = (5e-3, 3e-3, 1e-3, 3e-4, 1e-4)
VJEPA2_WEIGHT_DECAYS = (0.01, 0.1, 0.4, 0.8)


def setting(default: Any, help: str) -> Any:
    """A dataclass field with a default and the text that `--help` shows for it."""
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
        "may list several folders and lists. Models of one frame read images.",
    )
    eval_data: str | None = setting(None, "Videos to evaluate on, in the same forms as train_data.")
    folds: str | None = setting(
        None,
        "Folder of `videomae split --folds`, instead of train_data and eval_data: a run for each fold, and their mean.",
    )
    dataset_name: str | None = setting(
        None,
        "Data set to use instead of train_data and eval_data: on the Hub, local, or a loader such as videofolder with "
        "dataset_dir.",
    )
    dataset_config_name: str | None = setting(None, "Configuration of dataset_name.")
    dataset_dir: str | None = setting(None, "Folder that the loader dataset_name reads.")
    train_split_name: str = setting("train", "Split to train on, of a data set or of a list that has a split column.")
    eval_split_name: str | None = setting(
        None, "Split to evaluate on; the default for lists is validation, or test if there is no validation split."
    )
    video_column_name: str | None = setting(None, "Column that holds the videos or images, if it cannot be inferred.")
    label_column_name: str | None = setting(None, "Column that holds the labels, if it cannot be inferred.")
    streaming: bool = setting(False, "Read the training videos sequentially, without storing them.")
    shuffle_buffer: int = setting(100, "Streaming: number of encoded videos in each worker's shuffle buffer.")
    videos_per_epoch: int | None = setting(None, "Streaming: videos in an epoch, if the data set does not state it.")
    class_names: str | None = setting(None, "File with one class name per line; sets the classes and their order.")
    data_root: str | None = setting(None, "Folder to which relative paths in lists refer.")
    multi_label: bool = setting(False, "A video may have any number of labels (lists and data sets).")
    unlabelled: bool = setting(False, "The videos have no labels: write predictions, but no scores.")
    group_column: str | None = setting(
        None,
        "Column of the list eval_data that names the group of a video, such as its recording; reports then resample "
        "groups.",
    )
    group_pattern: str | None = setting(
        None, "Regular expression; what it matches in the path of a video (in its parentheses) is its group."
    )
    demo_videos: int = setting(0, "If train_data does not exist, synthesise demo data with this many videos per class.")


@dataclass(frozen=True)
class ClipSettings:
    """Which frames of a video make a clip, and how they are decoded."""

    _argument_group_name = "clips"

    frame_sampling: str = setting("dense", "How frames are sampled: dense, or uniform over the whole video.")
    sampling_rate: float = setting(4.0, "Distance between consecutive frames of a dense clip, in frames of the video.")
    fps: float | None = setting(None, "Frames per second of a dense clip; overrides sampling_rate.")
    short_video: str = setting(
        "repeat_last", "How videos shorter than a clip are filled: repeat_last or loop; error refuses them."
    )
    official_sampling: bool = setting(False, "Sample exactly the frames that the official code samples.")
    num_sample: int = setting(
        1, "Repeated augmentation: number of clips from each decoded video; the batch size counts videos."
    )
    video_backend: str = setting("auto", "Decoder: auto, pyav, torchcodec or decord.")
    frame_template: str | None = setting(None, "Pattern of file names in folders of images, such as img_{:05}.jpg")
    square_pixels: bool = setting(True, "Stretch videos whose pixels are not square.")
    max_pixels: int = setting(MAX_PIXELS, "Refuse videos whose frames have more pixels than this.")
    antialias: bool | None = setting(
        None,
        "Antialias when finetuning and evaluation downscale frames; the default is the checkpoint's setting, or true.",
    )
    interpolation: str | None = setting(
        None, "How crops are resized in training: bilinear or bicubic; the default is bicubic for images."
    )


@dataclass(frozen=True)
class ModelSettings:
    """The weights to start from, or the size of a new model."""

    _argument_group_name = "model"

    checkpoint: str | None = setting(
        None, "Folder or Hub id of the weights to start from or to evaluate; training without one starts at random."
    )
    preset: str | None = setting(
        None,
        "Instead of a recipe: tiny (from random weights, for a CPU), or small or base (published weights, unless "
        "checkpoint is none).",
    )
    model_kind: str = setting(
        "video",
        "Kind of a new model: video, or of single images: mae, or vit (positions learned, class token classified).",
    )
    model_size: str = setting("base", "Size of a new model: small, base, large, huge or giant; images: base to huge.")
    model_version: int = setting(2, "VideoMAE version of a new model: 1, or 2 with dual masking.")
    head_from: str | None = setting(
        None,
        "Which rows of the checkpoint's head to start from: a set in label_mappings, names (equal class names), none, "
        "or a JSON file of rows.",
    )
    label_mappings: str | None = setting(
        None, "File written by `videomae merge-labels`, with the classes of merged data sets."
    )


@dataclass(frozen=True)
class PretrainingSettings:
    """Random crops of pretraining."""

    _argument_group_name = "pretraining"

    pretrain_crop_scale: list[float] = setting(
        [],
        "Smallest and largest area of random resized crops, as fractions of the frame; the default is 0.2 1.0 for "
        "images (MAE), and for videos crops at several scales of the shorter side (VideoMAE).",
    )
    pretrain_flip: bool | None = setting(
        None, "Flip half of the clips horizontally; the default is true for images, and false for videos."
    )


@dataclass(frozen=True)
class AugmentationSettings:
    """Augmentation and the loss of finetuning."""

    _argument_group_name = "augmentation and loss"

    rand_augment: str | None = setting(None, "RandAugment policy; the official one is rand-m7-n4-mstd0.5-inc1.")
    color_jitter: float = setting(0.0, "Strength of random changes in brightness, contrast and saturation.")
    grayscale: float = setting(0.0, "Probability that a clip is converted to grayscale.")
    random_erasing: float = setting(0.0, "Probability that a box of a clip is replaced by noise.")
    mixup_alpha: float = setting(0.0, "Mixup with Beta(alpha, alpha); 0 disables it.")
    cutmix_alpha: float = setting(0.0, "CutMix with Beta(alpha, alpha); 0 disables it.")
    mix_probability: float = setting(1.0, "Probability of Mixup or CutMix, if either is enabled.")
    mix_switch_probability: float = setting(0.5, "Probability of CutMix rather than Mixup, if both are enabled.")
    mix_mode: str = setting("batch", "Clips that share one random mixing value: batch, pair or elem.")
    label_smoothing: float = setting(0.0, "Fraction of each label that is spread over all classes.")
    class_weights: str | None = setting(
        None, "Weights of the classes in the loss: balanced, or a YAML or JSON file (in a recipe, a mapping) by name."
    )
    crop_scale: list[float] = setting(
        [0.08, 1.0], "Smallest and largest area of random crops, as fractions of the frame."
    )
    crop_ratio: list[float] = setting([0.75, 4 / 3], "Smallest and largest width / height of random crops.")
    horizontal_flip: bool = setting(True, "Flip half of the clips horizontally.")
    token_keep: float = setting(1.0, "Fraction of the tokens that is encoded in training; evaluation takes all.")
    token_keep_type: str = setting("running_cell", "Tokens of token_keep: running_cell (0.25, 0.5, 0.75) or random.")

    @property
    def mixes(self) -> bool:
        """Whether labels are mixed or smoothed; the collator then needs normalised clips."""
        return self.mixup_alpha > 0 or self.cutmix_alpha > 0 or self.label_smoothing > 0


@dataclass(frozen=True)
class StaticTokenSettings:
    """Leaving out the tokens in which little changes, in training and at evaluation."""

    _argument_group_name = "static tokens"

    static_keep: float | None = setting(None, "Encode this fraction of the tokens, those that change most.")
    static_threshold: float | None = setting(
        None, "Encode the tokens that change by more than this, in pixels of 0 to 1."
    )


@dataclass(frozen=True)
class DistillationSettings:
    """A finetuned teacher, and its part in the loss."""

    _argument_group_name = "distillation"

    teacher: str | None = setting(None, "Folder or Hub id of a finetuned model to distil from.")
    distillation_weight: float = setting(0.5, "Share of the teacher in the loss; with 1, no labels are needed.")
    distillation_temperature: float = setting(1.0, "Softmax temperature of student and teacher.")
    distillation_features: float = setting(0.0, "Weight of the cosine distance between the models' pooled features.")

    @property
    def needs_labels(self) -> bool:
        """Whether the loss uses the labels of the videos."""
        return self.teacher is None or self.distillation_weight < 1


@dataclass(frozen=True)
class MonitoringSettings:
    """Reports of a pretraining run while it is running."""

    _argument_group_name = "monitoring"

    probe_train_data: str | None = setting(
        None,
        "A few hundred labelled videos; at each evaluation, a k-NN probe on their features classifies probe_eval_data.",
    )
    probe_eval_data: str | None = setting(
        None, "Labelled videos of the same classes; also serves as eval_data if that is unset."
    )
    reconstruction_videos: int = setting(
        3,
        "Number of videos whose reconstructions are saved in output_dir/reconstructions, at each evaluation and save.",
    )


@dataclass(frozen=True)
class EvaluationSettings:
    """The views of a video whose probabilities are averaged; unless they are set, a model of images has one."""

    _argument_group_name = "evaluation"

    num_clips: int = setting(5, "Number of clips per video; a model of images has one unless it is set.")
    num_crops: int = setting(3, "Number of crops per clip; a model of images has one unless it is set.")
    shuffle_frames: bool = setting(
        False, "Shuffle the frames of each clip, to measure what the model gains from motion."
    )


def default_views(num_frames: int) -> tuple[int, int]:
    """num_clips and num_crops for a model of `num_frames` frames where they are not set: one view of an image."""
    default = EvaluationSettings()
    return (default.num_clips, default.num_crops) if num_frames > 1 else (1, 1)


@dataclass(frozen=True)
class ProbeSettings:
    """The probe on frozen features."""

    _argument_group_name = "probe"

    probe: str = setting(
        "linear",
        "Type of probe: linear, attentive or knn; mae, vjepa2 and few-shot are the protocols of MAE's linear probe, of "
        "V-JEPA 2 and of MTEB.",
    )
    feature_cache: str | None = setting(
        None, "Folder in which the features are cached; the default is features in output_dir. Not for mae and vjepa2."
    )
    probe_learning_rates: list[float] = setting(
        [*VJEPA2_LEARNING_RATES], "vjepa2: learning rates; with each weight decay they give one head."
    )
    probe_weight_decays: list[float] = setting([*VJEPA2_WEIGHT_DECAYS], "vjepa2: weight decays of the heads.")
    probe_layers: list[int] = setting(
        [], "vjepa2: encoder layers, from 0, whose tokens the heads get; the default is the output of the encoder."
    )
    probe_optimizer: str = setting("lars", "mae: optimizer, lars as in the protocol, or adamw for small batches.")
    samples_per_label: int = setting(8, "few-shot: labelled training videos of each class.")
    n_experiments: int = setting(10, "few-shot: number of random choices of the training videos.")


@dataclass(frozen=True)
class VideoTextSettings:
    """VideoBERT: where its parts come from, and how videos and captions are combined."""

    _argument_group_name = "video and text"

    task: str = setting("pretraining", "pretraining, classification, retrieval or captioning.")
    text_checkpoint: str | None = setting(None, "Folder or Hub id of a BERT checkpoint that the text side starts from.")
    tokenizer: str | None = setting(
        None,
        "Folder or Hub id of a tokenizer; the default is that of the checkpoint, or one of the words of the captions.",
    )
    backbone: str | None = setting(
        None, "Folder or Hub id of the checkpoint whose encoder computes the features of segments."
    )
    features: str | None = setting(
        None,
        "Folder of `videomae extract --window .. --stride ..`: features of segments, instead of a backbone.",
    )
    caption_column_name: str | None = setting(None, "Column that holds the captions, if it cannot be inferred.")
    segment_frames: int | None = setting(
        None, "Frames of a segment; the default is that of the backbone, and 8 for a backbone of single images."
    )
    segment_stride: float | None = setting(
        None, "Distance of the starts of segments, in sampled frames; the default is without overlap or gap."
    )
    max_segments: int = setting(16, "Largest number of segments of a video; longer videos have them evenly spread.")
    max_length: int = setting(64, "Largest number of tokens of a caption, special ones included.")
    feature_cache_dir: str | None = setting(
        None, "Folder in which the features of a frozen backbone are cached; the default is features in output_dir."
    )
    visual_words_from: str | None = setting(None, "Folder of `videomae visual-words`: visual words of the features.")
    hard_negatives: int = setting(
        1,
        "The other texts of an item are those that share the most words with its own, among this many times as many "
        "random ones; 1 takes random ones.",
    )
    regimes: list[float] = setting(
        [0.0, 0.0, 1.0], "Pretraining: shares of items with the text alone, the video alone, and both."
    )
    join_probability: float = setting(
        0.0, "Probability that the next caption of the same video is joined to one, with its segments (paper)."
    )
    max_subsampling: int = setting(
        1, "Segments are subsampled with a random step from 1 to this number; 5 in the paper."
    )
    example_videos: int = setting(
        3,
        "Number of videos (up to 16) that pictures in output_dir/examples show, with what the model makes of them, at "
        "each evaluation and save; 0 makes none.",
    )


@dataclass(frozen=True)
class SmokeTestSettings:
    """The smoke test of a recipe."""

    _argument_group_name = "smoke test"

    smoke_test: bool = setting(
        False, "Run two steps of the recipe with a tiny model on synthesised videos, on the CPU."
    )


# Settings that affect the trained weights. Paths are left out, because the data themselves are compared.
LEARNING_SETTINGS = (
    "distillation_weight", "distillation_temperature", "distillation_features", "frame_sampling", "sampling_rate",
    "fps", "short_video", "official_sampling", "square_pixels", "max_pixels", "antialias", "num_sample", "rand_augment",
    "color_jitter", "grayscale", "random_erasing", "mixup_alpha", "cutmix_alpha", "mix_probability",
    "mix_switch_probability", "mix_mode", "label_smoothing", "crop_scale", "crop_ratio", "horizontal_flip",
    "token_keep", "token_keep_type", "static_keep", "static_threshold",
    "interpolation", "pretrain_crop_scale", "pretrain_flip", "class_weights", "streaming", "shuffle_buffer",
    "task", "segment_frames", "segment_stride", "max_segments", "max_length", "hard_negatives", "regimes",
    "join_probability", "max_subsampling",
)  # fmt: skip
# Fields of `VideoMAETrainingArguments` that affect the trained weights
LEARNING_ARGUMENTS = (
    "learning_rate", "lr_scheduler_type", "lr_scheduler_kwargs", "warmup_epochs", "warmup_steps", "num_train_epochs",
    "max_steps", "total_batch_size", "weight_decay", "layer_decay", "max_grad_norm", "optim", "adam_beta1",
    "adam_beta2", "adam_epsilon", "seed", "data_seed", "dataloader_drop_last", "freeze_layers", "freeze_encoder",
    "drop_path_warmup_epochs", "lora_rank", "lora_alpha", "lora_dropout", "lora_target_modules", "ema_decay",
)  # fmt: skip

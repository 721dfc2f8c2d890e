# Copyright 2026 The videomae_hf authors. Licensed under the Apache License, Version 2.0.
"""From the settings of a run to its data: which samples, how clips are made of them, and in which data set.

The kinds of sources meet here: folders and lists (`sources.py`), tar shards (`tar_samples.py`), data sets of the Hub
(`hub_data.py`), and those that are streamed (`streams.py`).
"""

import dataclasses
import math
from dataclasses import replace
from pathlib import Path

from ..checkpoints.opening import checkpoint_processor
from ..messages import shorten
from ..models.configuration_videomae_v2 import VideoMAEV2Config
from ..models.image_processing_videomae_v2 import VideoMAEV2ImageProcessor, clip_options, normalization_options
from ..settings.recipes import DataArguments
from ..settings.smoke_test import DRAWN
from ..settings.training_arguments import VideoMAETrainingArguments
from ..text_files import read_class_names
from ..training.class_weights import class_weights, describe_class_weights
from .augmentation.mixing import Mixing
from .augmentation.transforms import direction_sensitive
from .checks import check_data, describe_overlap
from .clips import ClipSampler, FinetuneTransform
from .sources.folders_and_lists import EVALUATION, Reading, holds_any_label, read_samples, read_sources
from .sources.hub_datasets import StreamedRows, read_rows, stream_rows, stream_shards
from .sources.label_merging import read_mappings
from .sources.synthetic import draw_dataset
from .sources.tar_shards import is_shards, read_shards
from .sources.targets import describe_targets, read_targets, target_range
from .video_dataset import VideoDataset
from .video_stream import VideoStream, check_stream


# What a processor saves of the settings of a run, beside `antialias`
_PROCESSOR_SETTINGS = (
    "frame_sampling", "sampling_rate", "fps", "short_video", "official_sampling", "square_pixels", "max_pixels",
)  # fmt: skip


def settled_problem_type(data: DataArguments, args: VideoMAETrainingArguments, fields: dict) -> str:
    """The `problem_type` of a finetuning; `multi_label` is another name of "multi_label_classification", and
    transformers' `label_smoothing_factor` of `label_smoothing`."""
    several, given = "multi_label_classification", fields.get("problem_type")
    if data.multi_label and given not in (None, several):
        raise ValueError(f"multi_label and problem_type={given!r} are both set; keep one.")
    problem_type = several if data.multi_label else given or "single_label_classification"
    data.multi_label = problem_type == several
    if args.label_smoothing_factor:
        if data.label_smoothing not in (0, args.label_smoothing_factor):
            raise ValueError(
                "label_smoothing and label_smoothing_factor are both set, to other values; keep the first."
            )
        # transformers' own would go past class weights, mixed labels and the teacher.
        data.label_smoothing, args.label_smoothing_factor = args.label_smoothing_factor, 0.0
    if data.label_smoothing and problem_type == several:
        raise ValueError(f"label_smoothing={data.label_smoothing} is for one label a video, and multi_label is set.")
    if problem_type == "regression":
        classes_only = ("mixup_alpha", "cutmix_alpha", "label_smoothing", "class_weights")
        given = next((name for name in classes_only if getattr(data, name)), None)
        if given:
            raise ValueError(f"{given}={getattr(data, given)} is for classes, and problem_type is regression.")
    return problem_type


def train_samples(
    data: DataArguments, args: VideoMAETrainingArguments, labelled: bool = True, regression: bool = False
):
    """Samples or the rows of a stream, class names, and the differing sampling and the weight of each source.

    In regression the names are those of the targets.
    """
    classes = stated_classes(data)
    if data.dataset_name and data.train_data:
        raise ValueError("dataset_name and train_data are both set; keep one.")
    if regression:
        source = _list_of_targets(data, "train_data", data.train_data)
        return *read_targets(source, classes, _reading(data, (data.train_split_name,))), [{}], None
    if data.dataset_name and data.streaming:
        options = _hub_options(data, data.train_split_name, labelled)
        rows = stream_rows(class_names=classes, num_videos=data.videos_per_epoch, **options)
        return rows, rows.class_names, [{}], None
    if data.dataset_name:
        return *_hub_samples(data, args, data.train_split_name, classes, labelled), [{}], None
    if is_shards(data.train_data):
        if data.multi_label:
            raise ValueError("multi_label needs a list or a dataset_name, and train_data names tar shards.")
        if data.streaming:
            rows = stream_shards(data.train_data, classes, labelled, data.videos_per_epoch)
            return rows, rows.class_names, [{}], None
        return *read_shards(data.train_data, classes, labelled), [{}], None
    if data.streaming:
        raise ValueError("streaming takes a dataset_name, or tar shards in train_data.")
    _require(data, args, "train_data", data.demo_videos, seed=0)
    return read_sources(data.train_data, classes, _reading(data, (data.train_split_name,), labelled))


def stated_classes(data: DataArguments) -> list[str] | None:
    """The classes and their order where `class_names` or `label_mappings` says them."""
    if data.class_names:
        return read_class_names(data.class_names)
    return read_mappings(data.label_mappings)[0] if data.label_mappings else None


def eval_samples(
    data: DataArguments,
    args: VideoMAETrainingArguments,
    classes: list[str] | None = None,
    labelled: bool = True,
    regression: bool = False,
):
    """The samples that are evaluated on; of a list with a column of splits those of its evaluation split."""
    split = (data.eval_split_name,) if data.eval_split_name else EVALUATION
    if data.dataset_name and data.eval_split_name:
        if data.eval_data:
            raise ValueError("eval_split_name of dataset_name and eval_data are both set; keep one.")
        return _hub_samples(data, args, data.eval_split_name, classes, labelled)[0]
    # One list for all splits need not be named twice.
    source = data.eval_data or (data.train_data if data.eval_split_name else None)
    if regression:
        return read_targets(_list_of_targets(data, "eval_data", source), classes, _reading(data, split))[0]
    if is_shards(source):
        return read_shards(source, classes, labelled)[0]
    if source is None or source == data.eval_data:
        _require(data, args, "eval_data", max(data.demo_videos // 4, 4), seed=1)
    return read_samples(source, classes, reading=_reading(data, split, labelled))[0]


def _reading(data: DataArguments, split: tuple[str, ...], labelled: bool = True) -> Reading:
    """How folders and lists are read."""
    several = data.multi_label and labelled
    return Reading(data.data_root, labelled, several, split, data.video_column_name, data.label_column_name)


def evaluated_without_labels(data: DataArguments) -> bool:
    """Whether `evaluate` has videos without labels: where the user says so, or nothing there may be a label."""
    if data.unlabelled:
        return True
    if data.dataset_name or not isinstance(data.eval_data, str) or is_shards(data.eval_data):
        return False
    return not holds_any_label(data.eval_data, _reading(data, EVALUATION))


def _list_of_targets(data: DataArguments, which: str, source) -> str:
    """The list of a regression; raises ValueError for what cannot have numbers."""
    if data.dataset_name or data.streaming or not isinstance(source, str) or is_shards(source):
        raise ValueError(f"Regression reads one list of videos with numbers: {which}={source!r}.")
    return source


def labelled_samples(data: DataArguments, source: str, split: tuple[str, ...], classes: list[str] | None = None):
    """Samples with one label each, and class names, of a folder, a list or tar shards."""
    if is_shards(source):
        return read_shards(source, classes)
    return read_samples(source, classes, reading=replace(_reading(data, split), multi_label=False))


def _hub_samples(
    data: DataArguments, args: VideoMAETrainingArguments, split: str, classes: list[str] | None, labelled: bool
):
    """Samples and class names of a split of `dataset_name`."""
    with args.main_process_first():
        return read_rows(class_names=classes, **_hub_options(data, split, labelled))


def _hub_options(data: DataArguments, split: str, labelled: bool) -> dict:
    return {
        "name": data.dataset_name,
        "split": split,
        "labelled": labelled,
        "multi_label": data.multi_label and labelled,
        "video_column": data.video_column_name,
        "label_column": data.label_column_name,
        "config_name": data.dataset_config_name,
        "data_dir": data.dataset_dir,
    }


def training_set(
    data: DataArguments, args: VideoMAETrainingArguments, samples, classes: list[str], clips, weights
) -> tuple[VideoDataset | VideoStream, list[str]]:
    """What the Trainer reads, and lines about the data; raises ValueError where they cannot be trained on."""
    if not isinstance(samples, StreamedRows):
        regression = samples[0].targets is not None
        lines = samples.messages + check_data(
            samples, [] if regression else classes, clips.sampling, args.total_batch_size
        )
        lines += describe_targets(samples, classes) if regression else []
        return VideoDataset(samples, clips, args.seed, weights=weights), lines
    lines = samples.messages + check_stream(
        samples, clips.sampling, args.world_size, args.dataloader_num_workers, args.total_batch_size
    )
    stream = VideoStream(
        samples,
        clips,
        args.train_batch_size,
        args.process_index,
        args.world_size,
        args.seed,
        data.shuffle_buffer,
        args.dataloader_drop_last,
        args.gradient_accumulation_steps,
    )
    return stream, lines


def overlap_lines(train, evaluated) -> list[str]:
    """A warning where videos are trained and evaluated on; of a stream nobody knows beforehand."""
    return [] if isinstance(train, StreamedRows) else describe_overlap(train, evaluated)


def _require(data: DataArguments, args: VideoMAETrainingArguments, which: str, videos_per_class: int, seed: int):
    """Raises ValueError if `which` is not set; with `demo_videos` draws it if it is not there."""
    source = getattr(data, which)
    if not source:
        raise ValueError(f"{which} is not set: give a folder of class folders or a list of videos with --{which}.")
    if data.demo_videos:
        with args.main_process_first():
            if not Path(source).exists():
                draw_dataset(source, videos_per_class=videos_per_class, seed=seed)


def draw_shrunk(data: DataArguments, args: VideoMAETrainingArguments, num_frames: int):
    """With `shrink`, draws the videos that stand for those of a recipe, in the output folder, and puts their paths in.

    Args:
        data: changed in place.
        num_frames: of a clip; the videos are as long as the recipe's clips reach.
    """
    sources = data.train_data if isinstance(data.train_data, list) else [{"data": data.train_data}]
    rates = [25 / data.fps if data.fps else data.sampling_rate]  # in frames of the drawn videos
    rates += [25 / source["fps"] if "fps" in source else source.get("sampling_rate", 1) for source in sources]
    length = max(math.ceil((num_frames - 1) * max(rates)) + 1, 32)
    folders = [Path(args.output_dir, "videos", split) for split in ("train", "val")]
    with args.main_process_first():
        for seed, folder in enumerate(folders):
            if not folder.exists():
                draw_dataset(folder, videos_per_class=1, seed=seed, size=40, num_frames=length, workers=1)
    train, val = map(str, folders)
    for source in sources:
        source["data"] = train if source["data"] == DRAWN else source["data"]
    data.train_data = sources if isinstance(data.train_data, list) else sources[0]["data"]
    data.eval_data = val if data.eval_data == DRAWN else data.eval_data


def clip_sampling(data: DataArguments, config: VideoMAEV2Config, **differing) -> ClipSampler:
    """How clips are taken; `differing` are the options of one source of several."""
    of_model = {"num_frames": config.num_frames, "num_channels": config.num_channels}
    names = [spec.name for spec in dataclasses.fields(ClipSampler) if spec.name not in of_model]
    unknown = sorted(set(differing) - set(names))
    if unknown:
        raise ValueError(f"Unknown key {unknown[0]!r} of a source in train_data; choose of {', '.join(names)}.")
    options = {name: getattr(data, name) for name in names}
    return ClipSampler(**of_model, **{**options, **differing})


def head_fields(problem_type: str, samples, names: list[str]) -> dict:
    """Fields of the configuration that follow from the data: names of the outputs, and how targets are normalised."""
    mean, std = target_range(samples) if problem_type == "regression" else (None, None)
    return {
        "id2label": dict(enumerate(names)),
        "label2id": {name: number for number, name in enumerate(names)},
        "target_mean": mean,
        "target_std": std,
    }


def set_class_weights(data: DataArguments, model, samples, classes: list[str], weights) -> list[str]:
    """Gives the model its `class_weights`, if any are asked for, and returns a line about them."""
    if not data.class_weights:
        return []
    if isinstance(samples, StreamedRows):
        raise ValueError("class_weights counts the videos of each class, which a stream does not tell beforehand.")
    model.class_weights = class_weights(data.class_weights, samples, classes, weights)
    return [describe_class_weights(model.class_weights, classes)]


def direction_warning(data: DataArguments, classes: list[str]) -> list[str]:
    """A line where clips are mirrored although classes name a direction."""
    directions = direction_sensitive(classes)
    if not (data.horizontal_flip and directions):
        return []
    warning = f"WARNING: half of the clips are mirrored, and {len(directions)} classes name a direction"
    return [f"{warning} ({shorten(directions, 3)}); consider --horizontal_flip false."]


def training_clips(data: DataArguments, config: VideoMAEV2Config, samplings: list[ClipSampler]) -> FinetuneTransform:
    return FinetuneTransform(
        config,
        samplings,
        crop_scale=tuple(data.crop_scale),
        horizontal_flip=data.horizontal_flip,
        rand_augment=data.rand_augment,
        color_jitter=data.color_jitter,
        grayscale=data.grayscale,
        num_sample=data.num_sample,
        antialias=data.antialias is not False,
    )


def mixing(data: DataArguments, args: VideoMAETrainingArguments, num_classes: int) -> Mixing | None:
    """Mixup, CutMix and label smoothing, if any is asked for."""
    if not (data.mixup_alpha or data.cutmix_alpha or data.label_smoothing):
        return None
    return Mixing(
        num_classes,
        mixup_alpha=data.mixup_alpha,
        cutmix_alpha=data.cutmix_alpha,
        probability=data.mix_probability,
        switch_probability=data.mix_switch_probability,
        mode=data.mix_mode,
        label_smoothing=data.label_smoothing,
    )


def evaluation_processor(data: DataArguments, config: VideoMAEV2Config) -> tuple[VideoMAEV2ImageProcessor, list[str]]:
    """The processor of `data.checkpoint`, with the settings that are not left at their defaults, and a line of those
    that change it."""
    defaults = DataArguments()
    options = {name: getattr(data, name) for name in ("antialias", *_PROCESSOR_SETTINGS)}
    options = {name: value for name, value in options.items() if value != getattr(defaults, name)}
    processor = checkpoint_processor(data.checkpoint, config)
    changed = [
        f"{name}={value} in place of {getattr(processor, name)}"
        for name, value in options.items()
        if value != getattr(processor, name)
    ]
    lines = [f"clips otherwise than {data.checkpoint} was trained on: {', '.join(changed)}"] if changed else []
    return checkpoint_processor(data.checkpoint, config, video_backend=data.video_backend, **options), lines


def image_processor(
    data: DataArguments, config: VideoMAEV2Config, checkpoint: str | None = None, **options
) -> VideoMAEV2ImageProcessor:
    """The processor that prepares a video for this model as training does; saved with every checkpoint.

    Its frames are sampled as the settings say; it resizes and normalises as `checkpoint`, if the run begins with one.
    """
    settings = {name: getattr(data, name) for name in _PROCESSOR_SETTINGS}
    options = {**settings, "antialias": data.antialias is not False, **options}
    if checkpoint:
        # Of the checkpoint's own sampling nothing stays
        options = {"num_clips": 1, "num_crops": 1, "do_sample_frames": None, "video_backend": "auto", **options}
        return checkpoint_processor(checkpoint, config, **options)
    return VideoMAEV2ImageProcessor(**clip_options(config), **normalization_options(config), **options)

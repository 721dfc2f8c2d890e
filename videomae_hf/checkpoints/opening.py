# Copyright 2026 The videomae_hf authors. Licensed under the Apache License, Version 2.0.
"""Opens a checkpoint of any layout and kind: its model, and the processor for it.

`from_pretrained` reads the weights of all layouts and merges adapters. This module finds the class of the model, and
keeps the preprocessing of the checkpoint; `models/preprocessing.py` has the rule.
"""

import re
from pathlib import Path

import torch

from ..models.adapters import is_adapter
from ..models.configuration_videomae_v2 import IMAGENET_MEAN, IMAGENET_STD, VideoMAEV2Config
from ..models.image_processing_videomae_v2 import VideoMAEV2ImageProcessor, clip_options, normalization_options
from ..models.modeling_videomae_v2 import (
    VideoMAEV2ForPreTraining,
    VideoMAEV2ForVideoClassification,
    VideoMAEV2Model,
    VideoMAEV2PreTrainedModel,
)
from ..models.preprocessing import normalization_of, read_preprocessing
from .run_folders import SETTINGS, last_checkpoint, read_record, run_folder, static_tokens


MODEL_CLASSES = {
    model_class.__name__: model_class
    for model_class in (VideoMAEV2ForPreTraining, VideoMAEV2ForVideoClassification, VideoMAEV2Model)
}
_PLAIN_PIXELS = {"do_rescale": True, "rescale_factor": 1 / 255, "do_normalize": True}
_PLAIN_CROP = {"do_resize": True, "do_center_crop": True}


def open_checkpoint(
    name: str | Path,
    model_class: type[VideoMAEV2PreTrainedModel] | None = None,
    *,
    dtype: torch.dtype | str = torch.float32,
    **fields,
) -> tuple[VideoMAEV2PreTrainedModel, list[str]]:
    """Opens the model of a checkpoint; its configuration gets the normalisation of the checkpoint's processor.

    Args:
        name: folder or Hub id of a checkpoint of this package, of transformers' VideoMAE, of OpenGVLab's V2, or of
            adapters.
        model_class: class of the model; None is that of the checkpoint.
        dtype: dtype of the weights; `"auto"` keeps that of the checkpoint.
        fields: fields of the configuration to change; `image_mean` and `image_std` override those of the checkpoint.

    Returns:
        The model, and messages: about its normalisation if that is not the usual one, and about a part of the tokens
        that its training scored it with.

    Raises:
        ValueError, OSError: as in `from_pretrained`.
    """
    config = VideoMAEV2Config.from_pretrained(name)
    model_class = model_class or opening_class(name, config)
    num_channels = fields.get("num_channels", config.num_channels)
    if num_channels != config.num_channels:  # the processor's normalisation is for other channels
        return model_class.from_pretrained(name, dtype=dtype, **fields), _static_lines(name)
    mean, std = stated_normalization(name, config)
    used = {"image_mean": mean, "image_std": std, **fields}
    model = model_class.from_pretrained(name, dtype=dtype, **used)
    lines = _normalization_lines(name, (mean, std), (model.config.image_mean, model.config.image_std))
    return model, [*lines, *_static_lines(name)]


def _static_lines(name: str | Path) -> list[str]:
    """A line about the part of the tokens with which a run trained and scored a checkpoint, which does not hold it."""
    used = static_tokens(run_folder(name) / SETTINGS)
    return [
        f"{name} was trained and scored with {setting}={value:g}; it encodes all tokens unless that is set here as well"
        for setting, value in used.items()
    ]


def trained_classifier(checkpoint: str, **fields) -> tuple[VideoMAEV2ForVideoClassification, list[str]]:
    """Opens a finetuned model for evaluation or inference; also returns messages about it.

    Args:
        checkpoint: folder or Hub id of a model or of adapters.
        fields: fields of the configuration to change.

    Raises:
        ValueError: the checkpoint is of a pretraining or of an interrupted run, or its head was never trained.
    """
    _refuse_pretraining(checkpoint)
    model, messages = open_checkpoint(checkpoint, VideoMAEV2ForVideoClassification, **fields)
    new = set(model.new_parts) & set(VideoMAEV2ForVideoClassification.head_parts)
    if new:
        raise ValueError(f"{checkpoint} has no trained {' and '.join(sorted(new))}: finetune it first.")
    stored, config = VideoMAEV2Config.from_pretrained(checkpoint), model.config
    if stored.grid_size == config.grid_size:
        return model, messages
    how = "interpolated" if config.position_grid is not None else "recomputed"
    return model, [
        *messages,
        f"clips have {config.num_frames} frames of {config.image_hw} instead of {stored.num_frames} of "
        f"{stored.image_hw}: positions are {how}; finetuning on such clips gives better scores",
    ]


def _refuse_pretraining(checkpoint: str) -> None:
    record, folder = read_record(checkpoint), Path(checkpoint)
    command = record.get("command") if record else None
    if folder.is_dir() and not any(folder.glob("*.safetensors*")) and not any(folder.glob("*.bin")):
        last = last_checkpoint(folder)
        if last is not None:
            raise ValueError(
                f"{checkpoint} has no finished model, because its run was interrupted; its last checkpoint is {last}."
            )
    if is_adapter(checkpoint):  # adapters are of a classifier, whatever the configuration of their base model says
        return
    architectures = VideoMAEV2Config.from_pretrained(checkpoint).architectures or []
    if command == "pretrain" or any("ForPreTraining" in name for name in architectures):
        raise ValueError(
            f"{checkpoint} is a pretrained model without classes; finetune it first: videomae finetune --checkpoint "
            f"{checkpoint} --train_data .."
        )


def stated_normalization(name: str | Path, config: VideoMAEV2Config) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """(mean, std) for the pixels of a checkpoint: those of its processor or, without one, of its configuration."""
    preprocessing = read_preprocessing(name, {})
    if preprocessing is None:
        return tuple(config.image_mean), tuple(config.image_std)
    mean, std = normalization_of(preprocessing, config.num_channels)
    if not len(mean) == len(std) == config.num_channels:
        raise ValueError(f"{name} has num_channels={config.num_channels}, but a processor for {len(mean)} channels.")
    return mean, std


def _normalization_lines(name: str | Path, stated: tuple, used: tuple) -> list[str]:
    used = tuple(map(tuple, used))
    texts = ["mean {}, std {}".format(*(", ".join(f"{value:.4g}" for value in row) for row in pair))
             for pair in (used, stated)]  # fmt: skip
    if used != stated:
        return [f"pixels are normalised with {texts[0]}, but {name} has {texts[1]}"]
    usual = ((IMAGENET_MEAN, IMAGENET_STD), ((0.0,) * len(used[0]), (1.0,) * len(used[0])))
    return [] if used in usual else [f"pixels are normalised as in {name}: {texts[0]}"]


def checkpoint_processor(name: str | Path, config: VideoMAEV2Config, **options) -> VideoMAEV2ImageProcessor:
    """The processor of a checkpoint, for a model with its weights.

    Args:
        name: folder or Hub id of the checkpoint.
        config: configuration of the model; its clip shape and normalisation override those of the checkpoint.
        options: options of the processor to change.
    """
    found, stored = read_preprocessing(name, {}) or {}, VideoMAEV2Config.from_pretrained(name)
    plain = dict(found)
    pixels = (tuple(config.image_mean), tuple(config.image_std))
    if not found or normalization_of(found, stored.num_channels) != pixels:
        plain |= {**_PLAIN_PIXELS, **normalization_options(config)}
    crop = VideoMAEV2ImageProcessor.from_dict(found).crop_size
    crops_otherwise = found.get("do_center_crop", True) and (
        crop is None or (crop.height, crop.width) != config.image_hw
    )
    if not found or crops_otherwise or stored.image_hw != config.image_hw:
        plain |= {**_PLAIN_CROP, **clip_options(config)}
    of_model = {"num_frames": config.num_frames, "num_channels": config.num_channels}
    return VideoMAEV2ImageProcessor.from_dict({**plain, **of_model, **options})


def opening_class(name: str | Path, config: VideoMAEV2Config | None = None) -> type[VideoMAEV2PreTrainedModel]:
    """The class of the model of a checkpoint.

    Args:
        name: folder or Hub id of a checkpoint.
        config: its configuration; None reads it.

    Raises:
        ValueError: its class is of another architecture.
    """
    if is_adapter(name):
        return VideoMAEV2ForVideoClassification
    config = config or VideoMAEV2Config.from_pretrained(name)
    # OpenGVLab's checkpoints name a class for each size; all of them are classifiers, most of them without a head.
    architecture = (config.architectures or ["VideoMAEForVideoClassification"])[0]
    found = re.sub(r"^(VideoMAE|ViTMAE|ViT)(?=For|Model)", "VideoMAEV2", architecture)
    found = found.replace("ForImageClassification", "ForVideoClassification")
    if found not in MODEL_CLASSES:
        raise ValueError(f"{name} has architecture {architecture!r}; it must be one of {', '.join(MODEL_CLASSES)}.")
    return MODEL_CLASSES[found]

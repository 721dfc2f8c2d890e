# Copyright 2026 The videomae_hf authors. Licensed under the Apache License, Version 2.0.
"""Opens VideoBERT checkpoints: a model of any task with its processor, in one folder or repository."""

from pathlib import Path
from typing import TypeVar

import torch

from ..models.checkpoint_files import find_file, read_mapping
from ..models.configuration_videobert import VideoBertConfig
from ..models.modeling_videobert import VideoBertModel, VideoBertPreTrainedModel
from ..models.modeling_videobert_pretraining import VideoBertForPreTraining
from ..models.modeling_videobert_tasks import (
    VideoBertForCaptioning,
    VideoBertForRetrieval,
    VideoBertForVideoClassification,
)
from ..models.processing_videobert import VideoBertProcessor


# Class of a model -> Auto class that opens it
VIDEO_TEXT_CLASSES = {
    "VideoBertForPreTraining": "AutoModelForPreTraining",
    "VideoBertForCaptioning": "AutoModelForImageTextToText",
    "VideoBertForRetrieval": "AutoModelForZeroShotImageClassification",
    "VideoBertForVideoClassification": "AutoModelForVideoClassification",
    "VideoBertModel": "AutoModel",
}
_CLASSES = {
    one.__name__: one
    for one in (
        VideoBertForPreTraining,
        VideoBertForCaptioning,
        VideoBertForRetrieval,
        VideoBertForVideoClassification,
        VideoBertModel,
    )
}
Model = TypeVar("Model", bound=VideoBertPreTrainedModel)


def is_video_text(name: str | Path) -> bool:
    """Whether a folder or Hub id is a VideoBERT checkpoint.

    Raises:
        OSError: it is neither a folder nor a repository that can be read.
        ValueError: its config.json is damaged.
    """
    file = find_file(name, "config.json", {})
    return file is not None and read_mapping(file).get("model_type") == VideoBertConfig.model_type


def video_text_class(name: str | Path) -> type[VideoBertPreTrainedModel]:
    """The class of the model of a checkpoint.

    Raises:
        ValueError: it is not a VideoBERT, or its class is unknown.
    """
    architecture = (VideoBertConfig.from_pretrained(name).architectures or ["none"])[0]
    if architecture not in _CLASSES:
        raise ValueError(f"{name} has architecture {architecture!r:.60}; it must be one of {', '.join(_CLASSES)}.")
    return _CLASSES[architecture]


def open_video_text(
    name: str | Path, model_class: type[Model] | None = None, *, dtype: torch.dtype | str = torch.float32
) -> tuple[Model, VideoBertProcessor]:
    """Opens a model in evaluation mode with its processor.

    Args:
        name: folder or Hub id of a VideoBERT checkpoint.
        model_class: class of the model; None is that of the checkpoint.
        dtype: dtype of the weights; `"auto"` keeps that of the checkpoint.

    Raises:
        ValueError: parts of the model were never trained, or it does not fit its processor.
        OSError: there is no such checkpoint, or it has no processor.
    """
    found = video_text_class(name)
    model = (model_class or found).from_pretrained(name, dtype=dtype).eval()
    if model.new_parts:
        raise ValueError(
            f"{name} has no trained {' and '.join(model.new_parts)}: it is a {found.__name__}, where a "
            f"{type(model).__name__} is needed."
        )
    return model, video_text_processor(name, model.config)


def video_text_processor(name: str | Path, config: VideoBertConfig) -> VideoBertProcessor:
    """The processor of a checkpoint.

    Raises:
        OSError: there is none; `save_pretrained` of a `VideoBertProcessor` writes it beside the model.
        ValueError: its tokenizer is that of another model.
    """
    if find_file(name, "processor_config.json", {}) is None:
        raise OSError(f"{name} has no processor_config.json: save the VideoBertProcessor of the model in its folder.")
    processor = VideoBertProcessor.from_pretrained(name)
    fields = VideoBertConfig.token_fields(processor.tokenizer, processor.separator_token)
    for field, number in fields.items():
        if field == "vocab_size" and number <= config.vocab_size:  # tables may have rows that no token uses
            continue
        if getattr(config, field) != number:
            raise ValueError(
                f"{name} has {field}={getattr(config, field)}, but its tokenizer has {number}: the processor is not "
                f"that of the model."
            )
    return processor

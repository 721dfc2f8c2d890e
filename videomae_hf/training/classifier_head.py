# Copyright 2026 The videomae_hf authors. Licensed under the Apache License, Version 2.0.
"""Builds a classifier for given classes from a checkpoint: its encoder, and the rows of its head for these classes.

The official V2 code gathers the rows of K400, K600 or K700 from a head of K710 by lists of row numbers
(v2/run_class_finetuning.py, misc/label_710to*.json). Here rows are matched by class name; such a list works as well.
"""

from pathlib import Path

import torch
from torch import nn

from ..checkpoints.opening import open_checkpoint
from ..data.sources.label_merging import are_numbers, normalized_name, read_mappings
from ..data.sources.targets import target_range
from ..data.videos import VideoSource
from ..messages import shorten
from ..models.configuration_videomae_v2 import VideoMAEV2Config
from ..models.modeling_videomae_v2 import VideoMAEV2ForVideoClassification
from ..models.token_selection import select_tokens
from ..settings.run import Run
from ..text_files import read_json


def classifier_of(run: Run, videos: VideoSource) -> tuple[VideoMAEV2ForVideoClassification, list[str]]:
    """The model that finetuning starts from: a checkpoint with a head for the classes, or a new model.

    Returns:
        The model, and messages about its head.
    """
    classes, settings, messages = videos.classes, run.model, []
    label_fields = head_overrides(run.problem_type, videos)
    fields = {**pooling_of(run), **run.config_overrides, "problem_type": run.problem_type}
    if settings.checkpoint:
        model, messages = load_classifier(settings.checkpoint, classes, settings.head_from, **fields)
        model.config.update(label_fields)
    else:
        model = VideoMAEV2ForVideoClassification(run.new_config(**label_fields, **fields))
    if settings.label_mappings:
        merged, model.config.label_mappings = read_mappings(settings.label_mappings)
        if merged != classes:
            raise ValueError(
                f"label_mappings={settings.label_mappings} has {len(merged)} classes ({shorten(merged, 3)}), but the "
                f"data have {len(classes)} ({shorten(classes, 3)}); use the lists that were written with it."
            )
    return model, messages


def selected_tokens(run: Run, model: VideoMAEV2ForVideoClassification) -> list[str]:
    """Lets the model encode a part of the tokens, as the settings request; returns lines about it and about the loss.

    Raises:
        ValueError: settings contradict each other, or a decoder would have nothing to reconstruct.
    """
    augmentation, weight = run.augmentation, model.config.reconstruction_weight
    how = {"token_keep": augmentation.token_keep, "token_keep_type": augmentation.token_keep_type}
    lines = select_tokens(model, **how, **vars(run.static_tokens))
    if not weight:
        return lines
    selection, length = model.base_model.token_selection, model.config.sequence_length
    hidden = 0 if selection is None else length - selection.kept_in_training(model.config)
    if not hidden or run.training.freeze_encoder or not run.distillation.needs_labels:
        raise ValueError(
            f"reconstruction_weight={weight} needs tokens that are hidden from an encoder in training: set token_keep "
            f"(MAR has 0.5) or static_keep, without freeze_encoder and distillation_weight=1; or "
            f"reconstruction_weight=0."
        )
    return [*lines, f"loss: that of the labels and {weight:g} times that of reconstructing the {hidden} other tokens"]


def pooling_of(run: Run) -> dict[str, bool]:
    """How finetuning pools, where the settings do not say: as a field of the configuration.

    Official finetuning (VideoMAE, MAE) uses mean pooling, whatever the configuration of the pretraining checkpoint. A
    model that classifies its class token, such as ViT, keeps doing so.
    """
    checkpoint = run.model.checkpoint
    config = VideoMAEV2Config.from_pretrained(checkpoint) if checkpoint else run.new_config()
    return {"use_mean_pooling": not (config.use_cls_token and config.use_mean_pooling is False)}


def head_overrides(problem_type: str, videos: VideoSource) -> dict:
    """Fields of the configuration that follow from the data: names of the outputs, mean and deviation of targets."""
    mean, std = target_range(videos.records) if problem_type == "regression" else (None, None)
    return {
        "id2label": dict(enumerate(videos.classes)),
        "label2id": {name: number for number, name in enumerate(videos.classes)},
        "target_mean": mean,
        "target_std": std,
    }


def load_classifier(
    checkpoint: str, classes: list[str], head_from: str | None = None, **fields
) -> tuple[VideoMAEV2ForVideoClassification, list[str]]:
    """Loads the weights of a checkpoint into a classifier with a head for these classes.

    Args:
        checkpoint: folder or Hub id of a pretrained model, or of a model finetuned on any classes.
        classes: class names, in the order of the labels.
        head_from: where the rows of the head come from, see `head_rows`.
        fields: fields of the configuration to change.

    Returns:
        The model in float32, and messages about its normalisation and, if the checkpoint has a head, about the head.
    """
    # The range of regression targets belongs to the outputs that are replaced below.
    fields = {**fields, "target_mean": None, "target_std": None}
    model, messages = open_checkpoint(checkpoint, VideoMAEV2ForVideoClassification, **fields)
    stored, model.config.label_mappings = model.config.label_mappings, None  # they belong to the checkpoint's classes
    if not isinstance(model.classifier, nn.Linear) or "classifier" in model.new_parts:
        if head_from not in (None, "none"):
            raise ValueError(f"head_from={head_from!r}, but {checkpoint} has no classifier.")
        set_classes(model, classes, [None] * len(classes))
        return model, messages
    names = [model.config.id2label[number] for number in range(model.config.num_labels)]
    rows = head_rows(classes, names, stored, head_from)
    line = describe_rows(classes, rows, len(names), checkpoint)
    known = len(classes) - head_rows(classes, names, stored, "names").count(None)
    if head_from is None and known and None in rows:
        line += f" (it has {known} of these classes; --head_from names uses their rows)"
    set_classes(model, classes, rows)
    return model, [*messages, line]


def head_rows(
    classes: list[str],
    head_classes: list[str],
    label_mappings: dict[str, dict[str, int]] | None = None,
    head_from: str | None = None,
) -> list[int | None]:
    """The row of a head for each class; None for classes that the head does not have.

    Args:
        classes: class names, compared without case and punctuation. If all are numbers, they match the rows, or the
            classes of a set, by position, provided that there are equally many.
        head_classes: class names of the head's rows.
        label_mappings: set -> class name -> row, see `VideoMAEV2Config`.
        head_from: `"names"` matches the names of the rows, the name of a set uses its mapping, the path of a JSON file
            its list of row numbers, one per class; `"none"` uses no row. None uses the first of the names and the
            mappings that has all of the classes, and no row if there is none.

    Raises:
        ValueError: `head_from` is unknown, or the file does not list one row per class.
    """
    spaces = {"names": {name: row for row, name in enumerate(head_classes)}, **(label_mappings or {})}
    if head_from is None:
        for space in spaces.values():
            rows = _rows_in(space, classes)
            if None not in rows:
                return rows
        return [None] * len(classes)
    if head_from == "none":
        return [None] * len(classes)
    if head_from in spaces:
        return _rows_in(spaces[head_from], classes)
    if not Path(head_from).is_file():
        raise ValueError(f"head_from={head_from!r} is unknown; choose from {', '.join(spaces)}, none, or a JSON file.")
    rows = read_json(head_from)
    if not isinstance(rows, list) or len(rows) != len(classes) or not all(_is_row(row, head_classes) for row in rows):
        raise ValueError(
            f"head_from={head_from} must list one of the {len(head_classes)} rows for each of {len(classes)} classes."
        )
    return rows


def _is_row(row, head_classes: list[str]) -> bool:
    return type(row) is int and 0 <= row < len(head_classes)


def _rows_in(space: dict[str, int], classes: list[str]) -> list[int | None]:
    if len(space) == len(classes) and (are_numbers(classes) or are_numbers(list(space))):
        return list(space.values())
    by_name = {normalized_name(name): row for name, row in space.items()}
    return [space.get(name, by_name.get(normalized_name(name))) for name in classes]


def describe_rows(classes: list[str], rows: list[int | None], num_rows: int, checkpoint: str) -> str:
    """A message about the rows of a head that come from a checkpoint, and those that are new."""
    new = [name for name, row in zip(classes, rows) if row is None]
    line = f"classifier: {len(rows) - len(new)} of {len(rows)} rows gathered from the {num_rows} of {checkpoint}"
    return line + (f"; new, untrained: {shorten(new)}" if new else "")


@torch.no_grad()
def set_classes(model: VideoMAEV2ForVideoClassification, classes: list[str], rows: list[int | None]) -> None:
    """Replaces the head of a model by one for these classes: copies of its present `rows`, and new rows for None."""
    config, old = model.config, model.classifier
    new = nn.Linear(config.classifier_input_size, len(classes))
    model.classifier = new
    model._init_weights(new)
    for number, row in enumerate(rows):
        if row is not None:
            new.weight[number], new.bias[number] = old.weight[row], old.bias[row]
    model.num_labels = len(classes)
    config.id2label = dict(enumerate(classes))
    config.label2id = {name: number for number, name in enumerate(classes)}

# Copyright 2026 The videomae_hf authors. Licensed under the Apache License, Version 2.0.
"""Weights of the classes in the loss, for data sets in which some classes have few videos.

With one label per video, the loss of a clip is multiplied by w[class], and the sum is divided by the number of clips; w
is scaled so that the mean weight over the clips of an epoch is 1. `torch.nn.CrossEntropyLoss(weight=...)` divides by
the weights in the batch instead. Dividing by the number of clips makes the loss of a batch the mean over its parts, so
that accumulation and the number of processes do not change it. The mean of 1 preserves the scale of the learning rate.
With soft labels (Mixup, label smoothing), each class's share of the target is multiplied by w[class].

With several labels per video, the weights are `pos_weight`: they multiply the loss of the labels that are present.
"""

from collections.abc import Sequence
from pathlib import Path

import torch

from ..data.sources.records import VideoRecord
from ..data.videos import VideoSource
from ..messages import did_you_mean, shorten
from ..settings.run import Run
from ..text_files import read_yaml


def class_weights(
    setting: str | dict,
    samples: Sequence[VideoRecord],
    class_names: list[str],
    source_weights: Sequence[float] | None = None,
) -> torch.Tensor:
    """Computes float32 (num_labels,) for `VideoMAEV2ForVideoClassification.class_weights`.

    Args:
        setting: `"balanced"` gives each class the same total weight in an epoch (N / (classes x videos of the class),
            as in scikit-learn); with several labels per video, the ratio absent / present of each label. Otherwise a
            mapping of class names to weights, or a YAML or JSON file with one; classes not named have weight 1.
        samples: the training set.
        class_names: names of its classes.
        source_weights: for each source, how often an epoch has each of its videos.

    Raises:
        ValueError: a class is unknown, a weight is not positive, or the file is not a mapping.
        FileNotFoundError: the file does not exist.
    """
    multi_label = isinstance(samples[0].label, tuple)
    counts, total = label_counts(samples, len(class_names), source_weights)
    if setting == "balanced":
        # A class without videos gets the weight 1, which no loss uses.
        weights = ((total - counts) if multi_label else counts.new_tensor(total)) / counts
        weights = weights.where((counts > 0) & (weights > 0), 1.0)
    else:
        weights = _named_weights(setting, class_names)
    if not multi_label:
        weights = weights * total / (weights * counts).sum()
    return weights.float()


def label_counts(
    samples: Sequence[VideoRecord], num_labels: int, source_weights: Sequence[float] | None = None
) -> tuple[torch.Tensor, float]:
    """How often an epoch has each label, float64 (num_labels,), and how many videos it has; see `class_weights`."""
    counts, total = torch.zeros(num_labels, dtype=torch.float64), 0.0
    for record in samples:
        times = 1.0 if source_weights is None else source_weights[record.source]
        counts[list(record.label) if isinstance(record.label, tuple) else record.label] += times
        total += times
    return counts, total


def _named_weights(setting: str | dict, class_names: list[str]) -> torch.Tensor:
    where = "class_weights"
    if not isinstance(setting, dict):
        where = str(setting)
        if not Path(setting).is_file():
            raise FileNotFoundError(f"class_weights={setting!r} is neither balanced nor an existing file.")
        setting = read_yaml(setting)
    numbers = {name: number for number, name in enumerate(class_names)}
    weights = torch.ones(len(class_names), dtype=torch.float64)
    for name, weight in setting.items():
        if str(name) not in numbers:
            hint = did_you_mean(str(name), class_names) or f"; the classes are {shorten(class_names)}."
            raise ValueError(f"{where}: unknown class {str(name)!r}{hint}")
        if isinstance(weight, bool) or not isinstance(weight, int | float) or not 0 < weight < float("inf"):
            raise ValueError(f"{where}: the weight {weight!r} of {name} must be a positive number.")
        weights[numbers[str(name)]] = weight
    return weights


def set_class_weights(run: Run, model, videos: VideoSource) -> list[str]:
    """Sets the model's `class_weights`, if the settings request them, and returns a message about them."""
    setting = run.augmentation.class_weights
    if not setting:
        return []
    if not run.distillation.needs_labels:
        raise ValueError(f"class_weights={setting} needs labels, which distillation_weight=1 does not use.")
    if videos.is_stream:
        raise ValueError("class_weights counts the videos of each class, which are not known in advance for a stream.")
    model.class_weights = class_weights(setting, videos.records, videos.classes, videos.weights)
    return [describe_class_weights(model.class_weights, videos.classes)]


def describe_class_weights(weights: torch.Tensor, class_names: list[str]) -> str:
    """A message with the smallest and the largest weight."""
    low, high = int(weights.argmin()), int(weights.argmax())
    if weights[low] == weights[high]:
        return f"class weights: {weights[low]:.3g} for every class"
    return f"class weights: {weights[low]:.3g} ({class_names[low]}) to {weights[high]:.3g} ({class_names[high]})"

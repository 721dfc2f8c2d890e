# Copyright 2026 The videomae_hf authors. Licensed under the Apache License, Version 2.0.
"""Weights of classes that have few videos.

The rule, with one label a video: the loss of a clip counts w[class] times, and the sum is divided by the number of
clips, where w is scaled so that the clips of an epoch weigh 1 on average. Dividing by a number of clips, and not by the
weights that happen to be in a batch as `torch.nn.CrossEntropyLoss(weight=...)` does, makes a batch the mean of its
parts: accumulation and processes change nothing. The mean of 1 keeps the learning rate what it was.
With soft labels (Mixup, label smoothing) each class's share of the target counts w[class] times.

With several labels a video the weights are `pos_weight`: they multiply the loss of the labels that are present.
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
    """float32 (num_labels,) for `VideoMAEV2ForVideoClassification.class_weights`.

    Args:
        setting: `"balanced"`: each class counts equally much in an epoch (N / (classes x videos of the class), as in
            scikit-learn), or, with several labels a video, absent / present of each label. Otherwise a mapping of class
            names to weights, or a YAML or JSON file with one; classes that it does not name weigh 1.
        samples: the training set.
        class_names: its classes.
        source_weights: how often an epoch has the videos of each source.

    Raises:
        ValueError: an unknown class, a weight that is not positive, a file that is no mapping.
        FileNotFoundError: no such file.
    """
    multi_label = isinstance(samples[0].label, tuple)
    counts, total = torch.zeros(len(class_names), dtype=torch.float64), 0.0
    for sample in samples:
        times = 1.0 if source_weights is None else source_weights[sample.source]
        counts[list(sample.label) if multi_label else sample.label] += times
        total += times
    if setting == "balanced":
        # A class without a video, whose weight no loss ever uses, weighs 1.
        weights = ((total - counts) if multi_label else counts.new_tensor(total)) / counts
        weights = weights.where((counts > 0) & (weights > 0), 1.0)
    else:
        weights = _named_weights(setting, class_names)
    if not multi_label:
        weights = weights * total / (weights * counts).sum()
    return weights.float()


def _named_weights(setting: str | dict, class_names: list[str]) -> torch.Tensor:
    where = "class_weights"
    if not isinstance(setting, dict):
        where = str(setting)
        if not Path(setting).is_file():
            raise FileNotFoundError(f"class_weights={setting!r} is neither balanced nor a file.")
        setting = read_yaml(setting)
    numbers = {name: number for number, name in enumerate(class_names)}
    weights = torch.ones(len(class_names), dtype=torch.float64)
    for name, weight in setting.items():
        if str(name) not in numbers:
            hint = did_you_mean(str(name), class_names) or f"; there are {shorten(class_names)}."
            raise ValueError(f"{where}: no class {str(name)!r}{hint}")
        if isinstance(weight, bool) or not isinstance(weight, int | float) or not 0 < weight < float("inf"):
            raise ValueError(f"{where}: the weight {weight!r} of {name} must be a positive number.")
        weights[numbers[str(name)]] = weight
    return weights


def set_class_weights(run: Run, model, videos: VideoSource) -> list[str]:
    """Gives the model its `class_weights`, if they are asked for, and returns a line about them."""
    setting = run.augmentation.class_weights
    if not setting:
        return []
    if not run.distillation.needs_labels:
        raise ValueError(f"class_weights={setting} does not go with distillation_weight=1, without labels.")
    if videos.is_stream:
        raise ValueError("class_weights counts the videos of each class, which a stream does not tell beforehand.")
    model.class_weights = class_weights(setting, videos.records, videos.classes, videos.weights)
    return [describe_class_weights(model.class_weights, videos.classes)]


def describe_class_weights(weights: torch.Tensor, class_names: list[str]) -> str:
    """A line with the smallest and the largest weight."""
    low, high = int(weights.argmin()), int(weights.argmax())
    if weights[low] == weights[high]:
        return f"class weights: all {weights[low]:.3g}, since every class weighs the same"
    return f"class weights: {weights[low]:.3g} ({class_names[low]}) to {weights[high]:.3g} ({class_names[high]})"

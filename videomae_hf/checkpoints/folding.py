# Copyright 2026 The videomae_hf authors. Licensed under the Apache License, Version 2.0.
"""Folds settings that other libraries cannot store into weights, so that outputs do not change."""

import torch

from ..models.configuration_videomae_v2 import IMAGENET_MEAN, IMAGENET_STD, VideoMAEV2Config
from ..models.preprocessing import normalization_of


_PROJECTION = "videomae.embeddings.patch_embeddings.projection"


def fold_targets(
    weights: dict[str, torch.Tensor], config: VideoMAEV2Config
) -> tuple[dict[str, torch.Tensor], list[str]]:
    """Folds the range of targets into the classifier, so that its outputs are in the unit of the data.

    Returns the weights, and a line about the change.
    """
    if config.target_mean is None or "classifier.weight" not in weights:
        return weights, []
    weight, bias = weights["classifier.weight"], weights["classifier.bias"]
    mean, std = (torch.tensor(values, dtype=torch.float32) for values in (config.target_mean, config.target_std))
    folded = {
        "classifier.weight": (weight.float() * std[:, None]).to(weight.dtype),
        "classifier.bias": (bias.float() * std + mean).to(bias.dtype),
    }
    return {**weights, **folded}, ["  mean and std of the targets are folded into the classifier"]


def fold_normalization(
    weights: dict[str, torch.Tensor], preprocessing: dict
) -> tuple[dict[str, torch.Tensor], list[str]]:
    """Folds a normalisation into the patch projection, so that the model takes pixels normalised as for ImageNet.

    Args:
        weights: the weights of a model with three channels and with the prefix `videomae.`, with or without a head.
        preprocessing: the options of the processor whose pixels the model takes.

    Returns:
        The weights, and a line about the change.
    """
    weight, bias = weights[f"{_PROJECTION}.weight"], weights[f"{_PROJECTION}.bias"]  # (D, C, t, h, w), (D,)
    mean, std = normalization_of(preprocessing, weight.shape[1])
    if (mean, std) == (IMAGENET_MEAN, IMAGENET_STD) or weight.shape[1] != 3:
        return weights, []
    old_mean, old_std, new_mean, new_std = (
        torch.tensor(values, dtype=torch.float64)[:, None, None, None]
        for values in (mean, std, IMAGENET_MEAN, IMAGENET_STD)
    )
    # For the same pixel p: (p - old_mean) / old_std = x * new_std / old_std + (new_mean - old_mean) / old_std.
    shift = (weight.double() * (new_mean - old_mean) / old_std).sum(dim=(1, 2, 3, 4))  # (D, C, t, h, w) -> (D,)
    folded = {
        f"{_PROJECTION}.weight": (weight.double() * new_std / old_std).to(weight.dtype),
        f"{_PROJECTION}.bias": (bias.double() + shift).to(bias.dtype),
    }
    return {**weights, **folded}, ["  the normalisation of pixels is folded into the patches; it takes ImageNet's"]

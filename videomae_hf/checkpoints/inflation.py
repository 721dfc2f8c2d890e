# Copyright 2026 The videomae_hf authors. Licensed under the Apache License, Version 2.0.
"""Inflates a model of images to a model of videos, for which a still clip is the image.

The patch projection is spread over the frames of a tubelet, positions and class tokens are repeated for each slice, and
the decoder predicts the same pixels in every frame of a tubelet. Both ways of inflation are those of ViViT
(https://arxiv.org/abs/2103.15691; scenic, `projects/vivit/model_utils.py`). Every token of a still clip then attends to
T' copies of the tokens of the image, with which softmax gives the same mean: features are equal up to rounding. Videos
need order in time as well, so that the repeated positions are learned from there on.
"""

import torch

from ..models.configuration_videomae_v2 import VideoMAEV2Config
from ..models.geometry import resize_projection
from ..models.image_processing_videomae_v2 import VideoMAEV2ImageProcessor
from ..models.modeling_videomae_v2 import VideoMAEV2ForPreTraining, VideoMAEV2PreTrainedModel
from .image_export import with_tables


INFLATIONS = ("average", "centre")
_PROJECTION = "embeddings.patch_embeddings.projection.weight"
_HEAD = ("decoder.head.weight", "decoder.head.bias")


@torch.no_grad()
def inflate(
    model: VideoMAEV2PreTrainedModel, how: str, num_frames: int = 16, tubelet_size: int = 2
) -> tuple[VideoMAEV2PreTrainedModel, list[str]]:
    """A model of clips from a model of images, with the same head or decoder.

    Args:
        model: a model of one frame.
        how: `"average"`, each frame of a tubelet counts equally, or `"centre"`, only the middle one counts at first.
        num_frames: frames of the clips.
        tubelet_size: frames of a tubelet.

    Returns:
        The model, and lines for the report.

    Raises:
        ValueError: the model is already one of clips, or the frames are no multiple of the tubelet.
    """
    config = model.config
    if how not in INFLATIONS:
        raise ValueError(f"--inflate {how} is unknown; choose one of {', '.join(INFLATIONS)}.")
    if config.num_frames != 1:
        raise ValueError(f"--inflate needs a model of images; this one has num_frames={config.num_frames}.")
    changes = {"num_frames": num_frames, "tubelet_size": tubelet_size, "position_embedding_type": "learned"}
    if isinstance(model, VideoMAEV2ForPreTraining):
        changes["decoder_position_embedding_type"] = "learned"
    inflated_config = VideoMAEV2Config.from_dict({**config.to_dict(), **changes, "position_grid": None})
    slices = inflated_config.grid_size[0]
    weights = {}
    for name, value in with_tables(model).items():
        if name.endswith(_PROJECTION):
            value = _projection(value, how, tubelet_size)
        elif name.endswith("position_embeddings"):
            value = _positions(value, config.num_class_tokens, slices)
        elif name in _HEAD:
            value = torch.cat([value] * tubelet_size)  # (h * w * C, ..) -> (t * h * w * C, ..)
        weights[name] = value
    inflated = type(model).from_pretrained(None, config=inflated_config, state_dict=weights, dtype=model.dtype)
    line = f"  inflated ({how}) to {num_frames} frames in tubelets of {tubelet_size}; positions are learned from now on"
    return inflated.eval(), [line]


def _projection(weight: torch.Tensor, how: str, tubelet_size: int) -> torch.Tensor:
    """(D, C, 1, h, w) -> (D, C, t, h, w)."""
    if how == "average":
        return resize_projection(weight, weight.shape[1], tubelet_size)
    centred = weight.new_zeros(*weight.shape[:2], tubelet_size, *weight.shape[3:])
    centred[:, :, tubelet_size // 2] = weight[:, :, 0]
    return centred


def _positions(table: torch.Tensor, class_tokens: int, slices: int) -> torch.Tensor:
    """(1, K + L, D) of one slice -> (1, slices * (K + L), D): the class tokens of all slices, then all patches."""
    of_classes, of_patches = table[:, :class_tokens], table[:, class_tokens:]
    return torch.cat([of_classes.repeat(1, slices, 1), of_patches.repeat(1, slices, 1)], dim=1)


def inflated_processor(processor: VideoMAEV2ImageProcessor, config: VideoMAEV2Config) -> VideoMAEV2ImageProcessor:
    """The processor of the images, for clips of this configuration."""
    return VideoMAEV2ImageProcessor.from_dict({**processor.to_dict(), "num_frames": config.num_frames})

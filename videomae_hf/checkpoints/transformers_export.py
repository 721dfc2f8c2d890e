# Copyright 2026 The videomae_hf authors. Licensed under the Apache License, Version 2.0.
"""Exports our models as plain `videomae` checkpoints, which an unmodified transformers loads.

Models with a class token are exported by image_export.py.
"""

import copy
from pathlib import Path

import torch
from transformers import VideoMAEConfig, VideoMAEForPreTraining, VideoMAEForVideoClassification, VideoMAEModel

from ..models.configuration_videomae_v2 import IMAGENET_MEAN, IMAGENET_STD, VideoMAEV2Config
from ..models.image_processing_videomae_v2 import VideoMAEV2ImageProcessor
from ..models.preprocessing import normalization_of
from .folding import fold_targets
from .image_export import (
    refuse_classifier_layers,
    refuse_cross_decoder,
    save_image_model,
    save_plain_processor,
    settings_left_out,
)


COUNTERPARTS = {
    "VideoMAEV2Model": VideoMAEModel,
    "VideoMAEV2ForPreTraining": VideoMAEForPreTraining,
    "VideoMAEV2ForVideoClassification": VideoMAEForVideoClassification,
}
# transformers builds fc_norm and the decoder's norm with PyTorch's default epsilon, whatever its configuration says
_THEIR_HEAD_EPS = 1e-5
_TOLERANCE = 1e-4  # of outputs in float32, relative to the largest output if that is above 1


def save_transformers(model, processor: VideoMAEV2ImageProcessor, destination: Path) -> list[str]:
    """Writes `model` and its processor in transformers' layout; returns lines about all differences.

    Raises:
        ValueError: transformers' VideoMAE cannot express a feature of the model, or gives other outputs.
    """
    refuse_cross_decoder(model, "transformers' VideoMAE")
    refuse_classifier_layers(model, "transformers' VideoMAE")
    if model.config.use_cls_token:
        return save_image_model(model, processor, destination)
    refuse_inexpressible(model.config)
    theirs = COUNTERPARTS[type(model).__name__](their_config(model)).to(model.dtype).eval()
    weights, lines = fold_targets(dict(model.state_dict()), model.config)
    for name, value in theirs.state_dict().items():
        if name.endswith("attention.key.bias"):  # transformers 5.6 to 5.17 have one
            weights[name] = torch.zeros_like(value)
    theirs.load_state_dict(weights)
    theirs.save_pretrained(destination)
    save_plain_processor(processor, "VideoMAEImageProcessor", destination)
    return lines + _left_out(model, processor.to_dict()) + [_outputs_compared(model, theirs)]


def refuse_inexpressible(config: VideoMAEV2Config) -> None:
    features = {
        "layer scale (layer_scale_init_value > 0)": config.layer_scale_init_value > 0,
        "cosine attention (use_cosine_attention)": config.use_cosine_attention,
        "learned positions (position_embedding_type='learned')": config.position_embedding_type == "learned",
        "positions of rows and columns (position_embedding_type='sinusoidal_2d')": (
            "sinusoidal_2d" in (config.position_embedding_type, config.decoder_positions)
        ),
        "separate positions for each axis (position_embedding_type='sinusoidal_3d')": (
            "sinusoidal_3d" in (config.position_embedding_type, config.decoder_positions)
        ),
        "learned positions of the decoder (decoder_position_embedding_type='learned')": (
            config.decoder_position_embedding_type == "learned"
        ),
        "a bias before the decoder (decoder_embed_bias)": config.decoder_embed_bias,
        "interpolated positions (position_grid)": config.position_grid not in (None, list(config.grid_size)),
        "a model without a head (num_labels=0)": config.num_labels == 0,
    }
    present = [name for name, has in features.items() if has]
    if present:
        raise ValueError(f"transformers' VideoMAE cannot express {' and '.join(present)} of this checkpoint.")


def their_config(model) -> VideoMAEConfig:
    ours = model.config
    names = [name for name in VideoMAEConfig.__annotations__ if name in VideoMAEV2Config.__annotations__]
    fields = {name: getattr(ours, name) for name in names}
    fields["qv_bias" if "qv_bias" in VideoMAEConfig.__annotations__ else "qkv_bias"] = ours.qv_bias
    fields["use_mean_pooling"] = model.base_model.layernorm is None
    labels = {"id2label": ours.id2label, "label2id": ours.label2id, "problem_type": ours.problem_type}
    return VideoMAEConfig(**fields, **labels)


def _left_out(model, preprocessing: dict) -> list[str]:
    """One line for each setting of a model that transformers does not support."""
    config, lines = model.config, []
    pixels = normalization_of(preprocessing, config.num_channels)
    if model.__class__.__name__ == "VideoMAEV2ForPreTraining" and pixels != (IMAGENET_MEAN, IMAGENET_STD):
        if not config.norm_pix_loss:
            lines.append("  the loss differs: transformers' targets undo ImageNet's normalisation, not the model's")
    return lines + settings_left_out(config)


def _outputs_compared(ours, theirs) -> str:
    """A line about the difference between the outputs for a random clip, in float32.

    Raises:
        ValueError: the difference has no known reason.
    """
    ours, theirs = copy.deepcopy(ours).float(), copy.deepcopy(theirs).float()
    distance, allowed = _largest_difference(ours, theirs)
    line = f"  outputs on a random clip differ by at most {distance:.1e}"
    if distance <= allowed:
        return line
    norms = [module for name, module in ours.named_modules() if name in ("fc_norm", "decoder.norm")]
    eps = norms[0].eps if norms else _THEIR_HEAD_EPS
    for norm in norms:
        norm.eps = _THEIR_HEAD_EPS
    rest, allowed = _largest_difference(ours, theirs)
    if not rest <= allowed:
        raise ValueError(f"transformers' VideoMAE gives other outputs (by {rest:.1e}) for these weights; not exported.")
    return f"{line}: its last norm has epsilon {_THEIR_HEAD_EPS}, ours {eps}"


@torch.no_grad()
def _largest_difference(ours, theirs) -> tuple[float, float]:
    """The largest difference between the outputs for a random clip, and the part that rounding explains."""
    config = ours.config
    shape = (1, config.num_frames, config.num_channels, *config.image_hw)
    inputs = {"pixel_values": torch.randn(shape, generator=torch.Generator().manual_seed(0))}
    if isinstance(theirs, VideoMAEForPreTraining):
        hidden = (torch.arange(config.sequence_length) % 4 > 0)[None]
        found = ours(**inputs, bool_masked_pos=hidden, bool_decoded_pos=hidden).logits
        expected = theirs(**inputs, bool_masked_pos=hidden).logits
    else:
        key = "last_hidden_state" if isinstance(theirs, VideoMAEModel) else "logits"
        found, expected = ours(**inputs)[key], theirs(**inputs)[key]
    return (found - expected).abs().max().item(), _TOLERANCE * max(1.0, expected.abs().max().item())

# Copyright 2026 The videomae_hf authors. Licensed under the Apache License, Version 2.0.
"""Our models as plain `videomae` checkpoints, which an unmodified transformers loads."""

import json
from pathlib import Path

import torch
from transformers import VideoMAEConfig, VideoMAEForPreTraining, VideoMAEForVideoClassification, VideoMAEModel

from ..configuration_videomae_v2 import VideoMAEV2Config
from ..image_processing_videomae_v2 import clip_options, normalization_options


COUNTERPARTS = {
    "VideoMAEV2Model": VideoMAEModel,
    "VideoMAEV2ForPreTraining": VideoMAEForPreTraining,
    "VideoMAEV2ForVideoClassification": VideoMAEForVideoClassification,
}
# transformers builds fc_norm and the decoder's norm with PyTorch's default, whatever its configuration says
_THEIR_HEAD_EPS = 1e-5


def save_transformers(model, destination: Path) -> list[str]:
    """Writes `model` in transformers' layout; returns lines about what is not quite the same.

    Raises:
        ValueError: the model has something that transformers' VideoMAE cannot express.
    """
    refuse_inexpressible(model.config)
    theirs = COUNTERPARTS[type(model).__name__](their_config(model)).to(model.dtype).eval()
    weights = dict(model.state_dict())
    for name, value in theirs.state_dict().items():
        if name.endswith("attention.key.bias"):  # transformers 5.6 to 5.17 build one
            weights[name] = torch.zeros_like(value)
    theirs.load_state_dict(weights)
    theirs.save_pretrained(destination)
    # By hand: the class that writes it is another with torchvision than without
    processor = {"image_processor_type": "VideoMAEImageProcessor", **clip_options(model.config)}
    processor.update(normalization_options(model.config))
    processor.pop("num_frames")  # which theirs does not know
    (destination / "preprocessor_config.json").write_text(json.dumps(processor, indent=2) + "\n", encoding="utf-8")
    return differences(model, theirs)


def refuse_inexpressible(config: VideoMAEV2Config):
    features = {
        "layer scale (layer_scale_init_value > 0)": config.layer_scale_init_value > 0,
        "cosine attention (use_cosine_attention)": config.use_cosine_attention,
        "learned positions (position_embedding_type='learned')": config.position_embedding_type == "learned",
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


@torch.no_grad()
def differences(ours, theirs) -> list[str]:
    """What a user of the export should know, the difference of outputs on a random clip included."""
    config = ours.config
    lines = []
    if config.decoder_mask_ratio:
        lines.append("  dual masking is left out: transformers reconstructs every masked token")
    for name in ("drop_path_rate", "classifier_dropout"):
        if getattr(config, name):
            lines.append(f"  {name}={getattr(config, name)} is left out: it only matters in training")
    shape = (1, config.num_frames, config.num_channels, *config.image_hw)
    generator = torch.Generator().manual_seed(0)
    inputs = {"pixel_values": torch.randn(shape, generator=generator).to(ours.dtype)}
    if isinstance(theirs, VideoMAEForPreTraining):
        hidden = torch.arange(config.sequence_length) % 4 > 0
        inputs["bool_masked_pos"] = hidden[None]
        found = ours(**inputs, bool_decoded_pos=hidden[None]).logits, theirs(**inputs).logits
    else:
        key = "last_hidden_state" if isinstance(theirs, VideoMAEModel) else "logits"
        found = ours(**inputs)[key], theirs(**inputs)[key]
    distance = (found[0] - found[1]).abs().max().item()
    eps = config.layer_norm_eps if config.head_layer_norm_eps is None else config.head_layer_norm_eps
    why = f" (its last norm has epsilon {_THEIR_HEAD_EPS}, ours {eps})" if eps != _THEIR_HEAD_EPS else ""
    return [*lines, f"  outputs on a random clip differ by at most {distance:.1e}{why}"]

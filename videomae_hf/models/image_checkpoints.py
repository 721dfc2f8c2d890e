# Copyright 2026 The videomae_hf authors. Licensed under the Apache License, Version 2.0.
"""Reads transformers' image models, ViT-MAE and ViT, as models of one frame: names of weights, and configuration.

transformers 5 has two spellings of the same weights: those on the Hub (`vit.encoder.layer.0.attention.attention.query`)
and those in memory (`vit.layers.0.attention.q_proj`). Release 5.23 also writes the decoder of ViT-MAE under names of
its own (`decoder.decoder_encoder.layer.0`). All are read. This file ships with checkpoints and may import only its
siblings.
"""

import re

import torch


IMAGE_MODEL_TYPES = ("vit", "vit_mae")
# (pattern, replacement) for the names of transformers' image models, applied in this order
_NAMES = (
    (r"^vit\.", "videomae."),
    (r"^(embeddings|encoder|layernorm|layers|pooler)\.", r"videomae.\1."),
    (r"^videomae\.pooler\.", "pooler."),
    (r"^videomae\.layers\.", "videomae.encoder.layer."),
    (r"^decoder\.decoder_encoder\.layer\.", "decoder.decoder_layers."),
    (r"^decoder\.decoder_embed\.", "encoder_to_decoder."),
    (r"^decoder\.mask_token$", "mask_token"),
    (r"^decoder\.decoder_pos_embed$", "position_embeddings"),
    (r"^decoder\.decoder_norm\.", "decoder.norm."),
    (r"^decoder\.decoder_pred\.", "decoder.head."),
    (r"\.attention\.q_proj\.", ".attention.attention.query."),
    (r"\.attention\.k_proj\.", ".attention.attention.key."),
    (r"\.attention\.v_proj\.", ".attention.attention.value."),
    (r"\.attention\.o_proj\.", ".attention.output.dense."),
    (r"\.mlp\.fc1\.", ".intermediate.dense."),
    (r"\.mlp\.fc2\.", ".output.dense."),
)
# Of transformers' configurations, where a config.json leaves a field out
_DEFAULTS = {
    "layer_norm_eps": 1e-12, "norm_pix_loss": False, "mask_ratio": 0.75, "decoder_hidden_size": 512,
    "decoder_num_hidden_layers": 8, "decoder_num_attention_heads": 16, "decoder_intermediate_size": 2048,
}  # fmt: skip
_UNUSED_FIELDS = ("model_type", "encoder_stride", "pooler_output_size", "pooler_act", "qkv_bias")


def our_name_of(name: str) -> str:
    """Our name of a weight of transformers' image models; other names come back as they are."""
    for pattern, replacement in _NAMES:
        name = re.sub(pattern, replacement, name)
    return name


def as_tubelets(name: str, weight: torch.Tensor) -> torch.Tensor:
    """The patch projection of images (D, C, h, w) as one of tubelets of one frame (D, C, 1, h, w)."""
    is_image_projection = name.endswith("patch_embeddings.projection.weight") and weight.ndim == 4
    return weight[:, :, None] if is_image_projection else weight


def config_from_images(content: dict, kinds: dict[str, dict]) -> dict:
    """Converts the config.json of ViT-MAE or ViT to our fields.

    Args:
        content: the content of config.json; its `model_type` is one of `IMAGE_MODEL_TYPES`.
        kinds: `IMAGE_KINDS` of the configuration.
    """
    kind = kinds["mae" if content["model_type"] == "vit_mae" else "vit"]
    stated = {name: value for name, value in content.items() if name not in _UNUSED_FIELDS}
    return {**kind, **_DEFAULTS, **stated, "qv_bias": content.get("qkv_bias", True)}

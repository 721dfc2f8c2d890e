# Copyright 2026 The videomae_hf authors. Licensed under the Apache License, Version 2.0.
"""Exports models of images as ViT-MAE or ViT checkpoints of transformers.

A pretraining model becomes `ViTMAEForPreTraining`, an encoder `ViTModel` without a pooler, and a classifier of the
class token `ViTForImageClassification`. Weights are written under the names that checkpoints on the Hub have, which
transformers 5.23 reads but, for the decoder of ViT-MAE, does not write.
"""

import copy
import json
from pathlib import Path

import torch
from safetensors.torch import save_file
from transformers import ViTConfig, ViTForImageClassification, ViTMAEConfig, ViTMAEForPreTraining, ViTModel

from ..models.configuration_videomae_v2 import VideoMAEV2Config
from ..models.image_processing_videomae_v2 import VideoMAEV2ImageProcessor
from ..models.modeling_videomae_v2 import (
    VideoMAEV2ForPreTraining,
    VideoMAEV2ForVideoClassification,
    VideoMAEV2PreTrainedModel,
)
from ..models.preprocessing import PREPROCESSING
from ..text_files import write_text
from .folding import fold_targets


_TOLERANCE = 1e-4  # of outputs in float32, relative to the largest output if that is above 1
# our name of a part -> that of ViT-MAE on the Hub; all other parts have the same names
_HUB_NAMES = {
    "encoder_to_decoder": "decoder.decoder_embed",
    "mask_token": "decoder.mask_token",
    "position_embeddings": "decoder.decoder_pos_embed",
    "decoder.norm": "decoder.decoder_norm",
    "decoder.head": "decoder.decoder_pred",
}


def refuse_other_layers(config: VideoMAEV2Config, library: str) -> None:
    """Raises ValueError for clips, and for layers that neither MAE's code nor transformers' ViT has."""
    features = {
        f"class tokens of clips (num_frames={config.num_frames})": config.num_frames > 1,
        "layer scale (layer_scale_init_value > 0)": config.layer_scale_init_value > 0,
        "cosine attention (use_cosine_attention)": config.use_cosine_attention,
    }
    present = [name for name, has in features.items() if has]
    if present:
        raise ValueError(f"{library} cannot express {' and '.join(present)} of this checkpoint.")


def refuse_cross_decoder(model: VideoMAEV2PreTrainedModel, library: str) -> None:
    """Raises ValueError for a pretraining model with a cross-attention decoder; encoders and classifiers have none."""
    if isinstance(model, VideoMAEV2ForPreTraining) and model.config.decoder_type == "cross":
        raise ValueError(
            f"{library} cannot express the cross-attention decoder (decoder_type='cross') of this checkpoint; a model "
            f"finetuned from it has no decoder and can be converted."
        )


def refuse_classifier_layers(model: VideoMAEV2PreTrainedModel, library: str) -> None:
    """Raises ValueError for a bridging classifier, and for its encoder alone, which has a final norm as well."""
    layers = model.config.classifier_num_hidden_layers
    if layers and not isinstance(model, VideoMAEV2ForPreTraining):
        raise ValueError(
            f"{library} cannot express the bridging classifier (classifier_num_hidden_layers={layers}) of this "
            f"checkpoint; finetune without it for a model that can be converted."
        )


def save_plain_processor(processor: VideoMAEV2ImageProcessor, image_processor_type: str, destination: Path) -> None:
    """Writes the preprocessing for a processor of transformers.

    It is written by hand, because the class that would write it depends on whether torchvision is installed.
    """
    options = processor.to_dict()
    content = {"image_processor_type": image_processor_type, **{key: options[key] for key in PREPROCESSING}}
    write_text(destination / "preprocessor_config.json", json.dumps(content, indent=2) + "\n")


def settings_left_out(config: VideoMAEV2Config) -> list[str]:
    """One line for each setting that no model of transformers has."""
    lines = []
    if config.decoder_mask_ratio:
        lines.append("  dual masking is left out: transformers reconstructs every masked token")
    for name in ("drop_path_rate", "classifier_dropout"):
        if getattr(config, name):
            lines.append(f"  {name}={getattr(config, name)} is left out: it only matters in training")
    if config.label_mappings:
        lines.append("  label_mappings is left out: transformers does not support it")
    return lines


def with_tables(model: VideoMAEV2PreTrainedModel) -> dict[str, torch.Tensor]:
    """The weights of a model, with its position tables even if they are fixed: those stay exact in float32."""
    tables = {name: table for name, table in model.named_buffers() if name.endswith("position_embeddings")}
    return {**model.state_dict(), **tables}


def whole_weights(model: VideoMAEV2PreTrainedModel) -> dict[str, torch.Tensor]:
    """The weights of an image model with the prefix `videomae.`, with position tables and all biases.

    Both layouts store the fixed tables, and have biases where our models may have none: zeros do not change them.
    """
    weights = with_tables(model)
    if model.base_model is model:
        weights = {f"videomae.{name}": value for name, value in weights.items()}
    if "encoder_to_decoder.weight" in weights and "encoder_to_decoder.bias" not in weights:
        width = len(weights["encoder_to_decoder.weight"])
        weights["encoder_to_decoder.bias"] = weights["encoder_to_decoder.weight"].new_zeros(width)
    return weights


def save_image_model(model, processor: VideoMAEV2ImageProcessor, destination: Path) -> list[str]:
    """Writes a model of images and its processor in transformers' layout; returns lines about all differences.

    Raises:
        ValueError: transformers' ViT cannot express a feature of the model, or gives other outputs.
    """
    refuse_other_layers(model.config, "transformers' ViT")
    if model.base_model.layernorm is None:
        raise ValueError(
            "transformers' ViT has a final norm and classifies the class token (use_mean_pooling=False); the mean "
            "pooling of this checkpoint has no counterpart there. --to official writes it for MAE's code."
        )
    config = _their_config(model)
    weights, lines = fold_targets(whole_weights(model), model.config)
    destination.mkdir()
    config.save_pretrained(destination)
    save_file(_hub_weights(weights, model), destination / "model.safetensors", {"format": "pt"})
    save_plain_processor(processor, "ViTImageProcessor", destination)
    return lines + _left_out(model.config, model) + [_outputs_compared(model, destination)]


def _their_class(model) -> type:
    if isinstance(model, VideoMAEV2ForPreTraining):
        return ViTMAEForPreTraining
    return ViTForImageClassification if isinstance(model, VideoMAEV2ForVideoClassification) else ViTModel


def _their_config(model) -> ViTConfig | ViTMAEConfig:
    ours, their_class = model.config, _their_class(model)
    config_class = ViTMAEConfig if their_class is ViTMAEForPreTraining else ViTConfig
    names = [name for name in config_class.__annotations__ if name in VideoMAEV2Config.__annotations__]
    labels = {"id2label": ours.id2label, "label2id": ours.label2id, "problem_type": ours.problem_type}
    fields = {name: getattr(ours, name) for name in names} | {"qkv_bias": ours.qv_bias, "dtype": model.dtype}
    return config_class(**fields, **labels, architectures=[their_class.__name__])


def _hub_weights(weights: dict[str, torch.Tensor], model) -> dict[str, torch.Tensor]:
    """The weights under the names on the Hub, with zeros as biases of the keys."""
    prefix = "" if model.base_model is model else "vit."
    found = {}
    for name, value in weights.items():
        if name.endswith("patch_embeddings.projection.weight"):
            value = value.squeeze(2)  # (D, C, 1, h, w) -> (D, C, h, w)
        part = next((ours for ours in _HUB_NAMES if name == ours or name.startswith(f"{ours}.")), None)
        renamed = name if part is None else _HUB_NAMES[part] + name[len(part) :]
        renamed = renamed.replace("videomae.", prefix, 1) if renamed.startswith("videomae.") else renamed
        found[renamed] = value.contiguous()
        if model.config.qv_bias and name.endswith("attention.attention.key.weight"):
            found[renamed.removesuffix("weight") + "bias"] = value.new_zeros(len(value))
    return found


def _left_out(config: VideoMAEV2Config, model) -> list[str]:
    lines = []
    pretraining = isinstance(model, VideoMAEV2ForPreTraining)
    if pretraining and config.target_pixels != "normalized":
        lines.append("  the loss differs: transformers' targets are normalised pixels, this model's are not")
    return lines + settings_left_out(config)


@torch.no_grad()
def _outputs_compared(ours, destination: Path) -> str:
    """Loads what was written, and returns a line about the difference of the outputs for a random image, in float32.

    Raises:
        ValueError: the outputs differ.
    """
    their_class, options = _their_class(ours), {"dtype": torch.float32}
    if their_class is ViTModel:
        options["add_pooling_layer"] = False
    theirs, ours = their_class.from_pretrained(destination, **options).eval(), copy.deepcopy(ours).float().eval()
    config = ours.config
    image = torch.randn((1, config.num_channels, *config.image_hw), generator=torch.Generator().manual_seed(0))
    if their_class is ViTMAEForPreTraining:
        length = config.sequence_length
        hidden = (torch.arange(length) >= int(length * (1 - config.mask_ratio)))[None]  # their number of visible tokens
        found = ours(image, bool_masked_pos=hidden, bool_decoded_pos=hidden).logits
        expected = theirs(image, noise=hidden.float()).logits[:, hidden[0]]
    else:
        key = "last_hidden_state" if their_class is ViTModel else "logits"
        found, expected = ours(image)[key], theirs(image)[key]
    distance = (found - expected).abs().max().item()
    if not distance <= _TOLERANCE * max(1.0, expected.abs().max().item()):
        raise ValueError(f"transformers' ViT gives other outputs (by {distance:.1e}) for these weights; not exported.")
    return f"  {their_class.__name__}: outputs on a random image differ by at most {distance:.1e}"

"""Tiny image models of transformers and ours, with all parameters filled, and images for them."""

import torch
from transformers import ViTConfig, ViTForImageClassification, ViTMAEConfig, ViTMAEForPreTraining, ViTModel

from helpers.shared import TINY, randomize
from videomae_hf import VideoMAEV2Config
from videomae_hf.models.geometry import planar_table


COMMON = {name: value for name, value in TINY.items() if name != "num_frames"}


def vit(model_class=ViTForImageClassification, **fields):
    options = {"add_pooling_layer": fields.pop("pooler", False)} if model_class is ViTModel else {}
    names = [name for name in COMMON if not name.startswith("decoder")]
    config = ViTConfig(**{**{name: COMMON[name] for name in names}, "num_labels": 5, **fields})
    return filled(model_class(config, **options))


def vit_mae(model_class=ViTMAEForPreTraining, *, tables="fixed", **fields):
    """With MAE's fixed tables, which a fresh model of transformers 5.23 lacks, or with tables of random numbers."""
    model = filled(model_class(ViTMAEConfig(**{**COMMON, **fields})))
    if tables == "fixed":
        for name, parameter in model.named_parameters():
            if name.endswith(("position_embeddings", "decoder_pos_embed")):
                side = int((parameter.shape[1] - 1) ** 0.5)
                with torch.no_grad():
                    parameter.zero_()[:, 1:] = planar_table((1, side, side), parameter.shape[2])
    return model


def filled(model):
    """In transformers 5.23 a fresh model has zeros as position tables, class token and mask token."""
    model = randomize(model, std=0.2).eval()
    assert [name for name, parameter in model.named_parameters() if not parameter.any()] == []
    return model


def for_images(kind="mae", **fields) -> VideoMAEV2Config:
    """The configuration of a tiny image model."""
    return VideoMAEV2Config.for_images("base", kind, **{**COMMON, "layer_norm_eps": 1e-6, **fields})


def images(config, batch: int = 2, seed: int = 1) -> torch.Tensor:
    """(B, C, H, W), normalised."""
    size = config.image_size if isinstance(config.image_size, tuple | list) else (config.image_size,) * 2
    return torch.randn((batch, config.num_channels, *size), generator=torch.Generator().manual_seed(seed))


def hidden_patches(config, batch: int = 2) -> torch.Tensor:
    """bool (B, L) with transformers' number of masked patches; another mask for each image."""
    side = config.image_size // config.patch_size
    visible = int(side * side * (1 - config.mask_ratio))
    order = torch.rand(batch, side * side, generator=torch.Generator().manual_seed(3)).argsort(dim=1)
    return order.argsort(dim=1) >= visible


def official_weights(theirs) -> dict[str, torch.Tensor]:
    """The weights of transformers' model under the names of MAE's code and of timm, with fused qkv."""
    found, fused = {}, {}
    for name, value in theirs.state_dict().items():
        name = name.removeprefix("vit.").replace("decoder.decoder_layers.", "decoder_blocks.")
        name = name.replace("layers.", "blocks.", 1).removeprefix("decoder.").removeprefix("embeddings.")
        for old, new in (
            ("patch_embeddings.projection", "patch_embed.proj"),
            ("position_embeddings", "pos_embed"),
            ("attention.o_proj", "attn.proj"),
            ("layernorm_before", "norm1"),
            ("layernorm_after", "norm2"),
            ("layernorm", "norm"),
            ("classifier", "head"),
        ):
            name = name.replace(old, new)
        if "_proj." in name:
            block, part = name.split("attention.")
            fused.setdefault(f"{block}attn.qkv.{part.split('.')[1]}", {})[part[0]] = value
        else:
            found[name] = value
    return {**found, **{name: torch.cat([parts[part] for part in "qkv"]) for name, parts in fused.items()}}

"""Tiny models with their inputs, for the tests of models: two videos of 2 x 4 x 4 tokens.

At the default ratios 14 of 16 places are masked: 4 tokens visible, 28 masked, and 28 (V1) or 16 (V2) decoded.
"""

import json

import torch
from safetensors.torch import save_file

from helpers.shared import TINY, randomize
from videomae_hf import VideoMAEV2Config, VideoMAEV2ForPreTraining, sample_masks
from videomae_hf.models.official_checkpoints import to_official


V1, V2 = {"decoder_mask_ratio": 0.0}, {"decoder_mask_ratio": 0.5}
BATCH = 2


def build(model_class=VideoMAEV2ForPreTraining, **fields):
    """A model in eval mode; with the same fields the same weights every time."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = model_class(VideoMAEV2Config(**{**TINY, **fields}))
    return randomize(model).eval()


def videos(config, batch: int = BATCH, seed: int = 1) -> torch.Tensor:
    shape = (batch, config.num_frames, config.num_channels, *config.image_hw)
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def masks(config, seed: int = 2) -> dict[str, torch.Tensor]:
    masked, decoded = sample_masks(config, BATCH, torch.Generator().manual_seed(seed))
    return {"bool_masked_pos": masked, "bool_decoded_pos": decoded}


def step(model, **inputs) -> tuple[torch.Tensor, dict[str, torch.Tensor | None]]:
    """The loss and the gradient of every parameter."""
    model.zero_grad()
    loss = model(**inputs).loss
    loss.backward()
    return loss.detach(), {name: parameter.grad for name, parameter in model.named_parameters()}


def assert_same_step(first, second, atol: float = 1e-6):
    torch.testing.assert_close(first[0], second[0], rtol=0, atol=atol)
    torch.testing.assert_close(first[1], second[1], rtol=0, atol=atol)


def opengvlab_folder(folder, model):
    """OpenGVLab's layout of a model, with a head or without."""
    config = model.config
    nested = {
        **{"img_size": config.image_size, "patch_size": config.patch_size, "in_chans": config.num_channels},
        **{"embed_dim": config.hidden_size, "depth": config.num_hidden_layers, "num_heads": config.num_attention_heads},
        **{"mlp_ratio": config.intermediate_size / config.hidden_size, "qkv_bias": True, "qk_scale": None},
        **{"num_classes": config.num_labels, "tubelet_size": config.tubelet_size, "num_frames": config.num_frames},
        **{"use_mean_pooling": True, "layer_norm_eps": 1e-6, "init_values": 0.0, "cos_attn": False},
    }
    folder.mkdir()
    (folder / "config.json").write_text(json.dumps({"model_type": "VideoMAEv2_Base", "model_config": nested}))
    weights = to_official(model.state_dict(), pretraining=False)
    weights = {f"model.{name}": value for name, value in weights.items()}
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    return folder

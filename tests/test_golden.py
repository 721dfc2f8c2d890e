"""Outputs, losses and gradients equal those stored from the official V1 and V2 code (../shared/golden)."""

import argparse
import re

import pytest
import torch
from conftest import SHARED
from safetensors.torch import load_file

from videomae_hf import VideoMAEV2Config, VideoMAEV2ForPreTraining, VideoMAEV2ForVideoClassification


GOLDEN = SHARED / "golden"
pytestmark = pytest.mark.skipif(not GOLDEN.is_dir(), reason=f"no reference files in {GOLDEN}")

RENAMES = [
    (r"^(encoder\.)?patch_embed\.proj\.", "videomae.embeddings.patch_embeddings.projection."),
    (r"^decoder\.blocks\.", "decoder.decoder_layers."),
    (r"^(encoder\.)?blocks\.", "videomae.encoder.layer."),
    (r"^encoder\.norm\.", "videomae.layernorm."),
    (r"^head\.", "classifier."),
    (r"\.attn\.q_bias", ".attention.attention.query.bias"),
    (r"\.attn\.v_bias", ".attention.attention.value.bias"),
    (r"\.attn\.proj\.", ".attention.output.dense."),
    (r"\.norm1\.", ".layernorm_before."),
    (r"\.norm2\.", ".layernorm_after."),
    (r"\.mlp\.fc1\.", ".intermediate.dense."),
    (r"\.mlp\.fc2\.", ".output.dense."),
]


def our_name(official: str) -> str:
    for pattern, replacement in RENAMES:
        official = re.sub(pattern, replacement, official)
    return official


def read_official(name: str) -> dict[str, torch.Tensor]:
    with torch.serialization.safe_globals([argparse.Namespace]):
        checkpoint = torch.load(GOLDEN / f"{name}.pth", weights_only=True)
    weights = {}
    for key, value in checkpoint.get("model", checkpoint.get("module", checkpoint)).items():
        key = our_name(key)
        if ".attn.qkv.weight" in key:
            for part, matrix in zip(("query", "key", "value"), value.chunk(3)):
                weights[key.replace(".attn.qkv.", f".attention.attention.{part}.")] = matrix
        else:
            weights[key] = value
    return weights


def tiny_config(**fields) -> VideoMAEV2Config:
    sizes = {"hidden_size": 48, "num_hidden_layers": 2, "num_attention_heads": 3, "intermediate_size": 192}
    decoder = {f"decoder_{name}": value for name, value in sizes.items()}
    decoder.update(decoder_hidden_size=36, decoder_intermediate_size=144)
    fields = {"image_size": 64, "layer_norm_eps": 1e-6, "use_mean_pooling": None, **sizes, **decoder, **fields}
    return VideoMAEV2Config(**fields)


@pytest.mark.parametrize("name, num_frames", [("v1_pretrain", 16), ("v2_pretrain_dual", 8)])
def test_pretraining(name, num_frames):
    expected = load_file(GOLDEN / f"{name}.safetensors")
    model = VideoMAEV2ForPreTraining(tiny_config(num_frames=num_frames)).eval()
    model.load_state_dict(read_official(name))
    # Ours are (B, T, C, H, W), and a decoder mask of ours is the inverse of an official one.
    pixel_values = expected["pixel_values_bcthw"].transpose(1, 2)
    masked = expected["encoder_mask"].bool()
    decoded = ~expected["decoder_mask"].bool() if "decoder_mask" in expected else None
    outputs = model(pixel_values, bool_masked_pos=masked, bool_decoded_pos=decoded)
    outputs.loss.backward()

    torch.testing.assert_close(outputs.logits, expected["prediction"], rtol=0, atol=1e-5)
    torch.testing.assert_close(outputs.loss.detach(), expected["loss"].squeeze(), rtol=0, atol=1e-5)
    encoded = model.videomae(pixel_values, bool_masked_pos=masked).last_hidden_state
    torch.testing.assert_close(encoded, expected["encoder_last"], rtol=0, atol=1e-5)
    assert_gradients(model, expected)


@pytest.mark.parametrize("name", ["v1_finetune", "v2_finetune"])
def test_classification(name):
    expected = load_file(GOLDEN / f"{name}.safetensors")
    model = VideoMAEV2ForVideoClassification(tiny_config(num_frames=8, num_labels=5)).eval()
    model.load_state_dict(read_official(name))
    pixel_values = expected["pixel_values_bcthw"].transpose(1, 2)
    outputs = model(pixel_values, labels=expected["labels"])
    outputs.loss.backward()

    torch.testing.assert_close(outputs.logits, expected["logits"], rtol=0, atol=1e-5)
    torch.testing.assert_close(outputs.loss.detach(), expected["loss"].squeeze(), rtol=0, atol=1e-5)
    tokens = model.videomae(pixel_values).last_hidden_state
    torch.testing.assert_close(model.fc_norm(tokens.mean(dim=1)), expected["features"], rtol=0, atol=1e-5)
    assert_gradients(model, expected)


def assert_gradients(model, expected):
    parameters = {
        "grad_patch_proj": model.videomae.embeddings.patch_embeddings.projection.weight,
        "grad_last_fc2": model.videomae.encoder.layer[-1].output.dense.weight,
        "grad_mask_token": getattr(model, "mask_token", None),
    }
    stored = {name: gradient for name, gradient in expected.items() if name.startswith("grad_")}
    assert stored
    for name, gradient in stored.items():
        torch.testing.assert_close(parameters[name].grad, gradient, rtol=0, atol=1e-5)

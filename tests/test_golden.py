"""Outputs, losses and gradients equal those stored from the official V1 and V2 code (../shared/golden)."""

import pytest
import torch
from conftest import SHARED
from safetensors.torch import load_file

from videomae_hf import VideoMAEV2ForPreTraining, VideoMAEV2ForVideoClassification, VideoMAEV2Model
from videomae_hf.tools import convert


GOLDEN = SHARED / "golden"
pytestmark = pytest.mark.skipif(not GOLDEN.is_dir(), reason=f"no reference files in {GOLDEN}")

HEADS = ["--num_attention_heads", "3", "--image_size", "64"]


def converted(name: str, folder, *options) -> str:
    """The official file through the command line's converter."""
    convert.main([str(GOLDEN / f"{name}.pth"), str(folder / name), *HEADS, *options])
    return folder / name


@pytest.mark.parametrize("name, num_frames", [("v1_pretrain", 16), ("v2_pretrain_dual", 8)])
def test_pretraining(name, num_frames, tmp_path):
    expected = load_file(GOLDEN / f"{name}.safetensors")
    folder = converted(name, tmp_path, "--decoder_num_attention_heads", "3", "--num_frames", str(num_frames))
    model = VideoMAEV2ForPreTraining.from_pretrained(folder).eval()
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
def test_classification(name, tmp_path):
    expected = load_file(GOLDEN / f"{name}.safetensors")
    folder = converted(name, tmp_path, "--num_frames", "8")
    model = VideoMAEV2ForVideoClassification.from_pretrained(folder).eval()
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


def test_opengvlab_layout(tmp_path, caplog):
    """Read as it is, and converted."""
    expected = load_file(GOLDEN / "v2_hub_layout.expected.safetensors")
    pixel_values = expected["pixel_values_bcthw"].transpose(1, 2)
    convert.main([str(GOLDEN / "v2_hub_layout"), str(tmp_path / "ours")])
    for folder in (GOLDEN / "v2_hub_layout", tmp_path / "ours"):
        model = VideoMAEV2ForVideoClassification.from_pretrained(folder, dtype="auto").eval()
        torch.testing.assert_close(model(pixel_values).logits, expected["features"], rtol=0, atol=1e-5)
    assert caplog.records == []
    encoder = VideoMAEV2Model.from_pretrained(GOLDEN / "v2_hub_layout").eval()
    features = model.fc_norm(encoder(pixel_values).last_hidden_state.mean(dim=1))
    torch.testing.assert_close(features, expected["features"], rtol=0, atol=1e-5)


@pytest.mark.parametrize("name", ["v1_pretrain", "v2_pretrain_dual", "v1_finetune", "v2_finetune"])
def test_back_to_the_official_file(name, tmp_path):
    options = ["--num_frames", "16"] + (["--decoder_num_attention_heads", "3"] if "pretrain" in name else [])
    convert.main([str(converted(name, tmp_path, *options)), str(tmp_path / "back.pth"), "--to", "official"])
    before = torch.load(GOLDEN / f"{name}.pth", weights_only=False)
    before = before.get("model", before.get("module"))
    after = torch.load(tmp_path / "back.pth", weights_only=True)["model"]
    assert after.keys() == before.keys()
    assert all(torch.equal(after[key], before[key]) for key in before)

"""Models of one frame against transformers' ViT-MAE and ViT: outputs, losses, gradients, checkpoints."""

import json

import pytest
import torch
from helpers.image_models import COMMON, hidden_patches, images, vit, vit_mae
from helpers.tiny_models import assert_same_step, step
from safetensors.torch import load_file, save_file
from transformers import ViTMAEConfig, ViTMAEModel, ViTModel

from videomae_hf import VideoMAEV2Config, VideoMAEV2ForPreTraining, VideoMAEV2ForVideoClassification, VideoMAEV2Model
from videomae_hf.models.loading import our_names


def assert_close(actual, expected, atol=1e-5):
    torch.testing.assert_close(actual, expected, rtol=0, atol=atol)


def ours_of(theirs, tmp_path, model_class):
    theirs.save_pretrained(tmp_path)
    return model_class.from_pretrained(tmp_path).eval()


def our_gradients(theirs):
    """Their gradients under our names, without those of the key biases, which are zero, and of the fixed tables."""
    found = {name: parameter.grad for name, parameter in theirs.named_parameters() if parameter.grad is not None}
    found = our_names(found)
    keys = [name for name in found if name.endswith("attention.key.bias")]
    assert all(found.pop(name).abs().max() < 1e-6 for name in keys)
    return found


@pytest.mark.parametrize("fields", [{}, {"norm_pix_loss": True}, {"num_channels": 1}, {"qkv_bias": False}], ids=str)
def test_pretraining_is_vit_mae(tmp_path, fields):
    theirs = vit_mae(**fields)
    ours = ours_of(theirs, tmp_path, VideoMAEV2ForPreTraining)
    assert ours.config.position_embedding_type == ours.config.decoder_positions == "sinusoidal_2d"
    pixel_values, hidden = images(theirs.config), hidden_patches(theirs.config)
    expected = theirs(pixel_values, noise=hidden.float())
    expected.loss.backward()
    loss, gradients = step(ours, pixel_values=pixel_values, bool_masked_pos=hidden)
    found = our_gradients(theirs)
    assert found.keys() == gradients.keys()
    assert_same_step((loss, gradients), (expected.loss.detach(), found), atol=2e-6)
    outputs = ours(pixel_values, bool_masked_pos=hidden)
    assert outputs.logits.shape == (2, 12, 8 * 8 * theirs.config.num_channels)
    assert_close(outputs.logits, expected.logits[hidden].unflatten(0, (2, -1)))
    # And as clips of one frame
    assert torch.equal(ours(pixel_values[:, None], bool_masked_pos=hidden).loss, outputs.loss)


@pytest.mark.parametrize("attention", ["eager", "sdpa"])
def test_classification_is_vit(tmp_path, attention):
    theirs = vit()
    ours = ours_of(theirs, tmp_path, VideoMAEV2ForVideoClassification)
    for model in (theirs, ours):
        model.set_attn_implementation(attention)
    inputs = {"pixel_values": images(theirs.config), "labels": torch.tensor([0, 3])}
    expected = theirs(**inputs)
    expected.loss.backward()
    loss, gradients = step(ours, **inputs)
    assert_same_step((loss, gradients), (expected.loss.detach(), our_gradients(theirs)), atol=2e-6)
    assert_close(ours(**inputs).logits, expected.logits)
    if attention == "eager":
        wanted = {"output_hidden_states": True, "output_attentions": True}
        expected, found = theirs(**inputs, **wanted), ours(**inputs, **wanted)
        assert_close(found.attentions, expected.attentions)
        assert_close(found.hidden_states, expected.hidden_states)


@pytest.mark.parametrize("pooler", [False, True])
def test_encoder_is_vit(tmp_path, caplog, pooler):
    theirs = vit(ViTModel, pooler=pooler)
    ours = ours_of(theirs, tmp_path, VideoMAEV2Model)
    assert ("left out: pooler" in caplog.text) == pooler
    found = ours(images(theirs.config))
    assert_close(found.last_hidden_state, theirs(images(theirs.config)).last_hidden_state)
    assert found.last_hidden_state.shape == (2, 17, 24)
    assert torch.equal(found.pooler_output, found.last_hidden_state[:, 0])


def test_encoder_is_vit_mae(tmp_path):
    theirs = vit_mae(ViTMAEModel, mask_ratio=0.0)
    ours = ours_of(theirs, tmp_path, VideoMAEV2Model)
    in_order = torch.arange(16.0).expand(2, -1)
    found = ours(images(theirs.config)).last_hidden_state
    assert_close(found, theirs(images(theirs.config), noise=in_order).last_hidden_state)


@pytest.mark.parametrize("size", [(32, 64), (64, 48), (16, 16)])
def test_any_size(tmp_path, size):
    theirs = vit()
    ours = ours_of(theirs, tmp_path, VideoMAEV2ForVideoClassification)
    pixel_values = torch.randn(2, 3, *size, generator=torch.Generator().manual_seed(0))
    expected = theirs(pixel_values, interpolate_pos_encoding=True).logits
    assert_close(ours(pixel_values, interpolate_pos_encoding=True).logits, expected)
    with pytest.raises(ValueError, match="pass `interpolate_pos_encoding=True` for other sizes"):
        ours(pixel_values)
    # The same at loading
    resized = VideoMAEV2ForVideoClassification.from_pretrained(tmp_path, image_size=size).eval()
    assert_close(resized(pixel_values).logits, expected)


# spellings of the names


def in_memory(folder, theirs):
    save_file(dict(theirs.state_dict()), folder / "model.safetensors", metadata={"format": "pt"})


def as_on_the_hub(folder, theirs):
    rename(folder, ("decoder.decoder_encoder.layer.", "decoder.decoder_layers."))


def as_written_by_5_23(folder, theirs):
    rename(folder, ("decoder.decoder_layers.", "decoder.decoder_encoder.layer."))


def rename(folder, change):
    weights = load_file(folder / "model.safetensors")
    weights = {name.replace(*change): value for name, value in weights.items()}
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})


@pytest.mark.parametrize("spelling", [in_memory, as_on_the_hub, as_written_by_5_23])
def test_all_spellings_of_vit_mae(tmp_path, spelling):
    theirs = vit_mae(tables="random")
    theirs.save_pretrained(tmp_path)
    spelling(tmp_path, theirs)
    ours, info = VideoMAEV2ForPreTraining.from_pretrained(tmp_path, output_loading_info=True)
    assert not info["missing_keys"] and not info["unexpected_keys"]
    assert ours.config.position_embedding_type == ours.config.decoder_positions == "learned"
    hidden = hidden_patches(theirs.config)
    expected = theirs(images(theirs.config), noise=hidden.float())
    outputs = ours(images(theirs.config), bool_masked_pos=hidden)
    assert_close(outputs.loss, expected.loss)
    assert_close(outputs.logits, expected.logits[hidden].unflatten(0, (2, -1)))
    # What we save comes back as it was.
    ours.save_pretrained(tmp_path / "ours")
    again = VideoMAEV2ForPreTraining.from_pretrained(tmp_path / "ours")
    assert torch.equal(again(images(theirs.config), bool_masked_pos=hidden).loss, outputs.loss)


def test_only_one_table_is_fixed(tmp_path):
    """The encoder was finetuned, the decoder was not."""
    theirs = vit_mae()
    with torch.no_grad():
        theirs.vit.embeddings.position_embeddings += 0.1
    ours = ours_of(theirs, tmp_path, VideoMAEV2ForPreTraining)
    assert (ours.config.position_embedding_type, ours.config.decoder_positions) == ("learned", "sinusoidal_2d")
    hidden = hidden_patches(theirs.config)
    expected = theirs(images(theirs.config), noise=hidden.float())
    assert_close(ours(images(theirs.config), bool_masked_pos=hidden).loss, expected.loss)


def test_strict_loading_of_images(tmp_path):
    theirs = vit()
    theirs.save_pretrained(tmp_path)
    weights = load_file(tmp_path / "model.safetensors")
    del weights["vit.embeddings.cls_token"]
    save_file(weights, tmp_path / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(ValueError, match="missing videomae.embeddings.cls_token"):
        VideoMAEV2ForVideoClassification.from_pretrained(tmp_path)


def test_pretraining_becomes_a_classifier(tmp_path, caplog):
    """MAE's finetuning: the mean of the patches without the class token, a new norm, no final norm."""
    theirs = vit_mae()
    ours = ours_of(theirs, tmp_path, VideoMAEV2ForPreTraining)
    model = VideoMAEV2ForVideoClassification.from_pretrained(tmp_path, num_labels=3).eval()
    assert "new, untrained: classifier, fc_norm" in caplog.text
    tokens = model.videomae(images(theirs.config)).last_hidden_state
    assert tokens.shape == (2, 17, 24) and model.videomae.layernorm is None
    expected = model.classifier(model.fc_norm(tokens[:, 1:].mean(dim=1)))
    assert_close(model(images(theirs.config)).logits, expected, atol=1e-7)
    assert_close(ours.videomae.layernorm(tokens), ours.videomae(images(theirs.config)).last_hidden_state)


def test_defaults_of_a_configuration_that_leaves_fields_out(tmp_path):
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "vit_mae"}))
    config, theirs = VideoMAEV2Config.from_pretrained(tmp_path), ViTMAEConfig()
    for name in COMMON:
        assert getattr(config, name) == getattr(theirs, name), name
    assert (config.norm_pix_loss, config.mask_ratio) == (theirs.norm_pix_loss, theirs.mask_ratio) == (False, 0.75)


def test_learned_positions_start_from_fixed_ones(tmp_path, caplog):
    """As in the finetuning of MAE, also at another size."""
    theirs = vit_mae()
    pretrained = ours_of(theirs, tmp_path / "theirs", VideoMAEV2ForPreTraining)
    pretrained.save_pretrained(tmp_path / "ours")
    fixed = pretrained.videomae.embeddings.position_embeddings
    for folder in ("theirs", "ours"):
        learned = VideoMAEV2Model.from_pretrained(tmp_path / folder, position_embedding_type="learned").eval()
        assert learned.embeddings.position_embeddings.requires_grad
        assert_close(learned.embeddings.position_embeddings, fixed)
    assert "is learned, and starts from the fixed table (sinusoidal_2d) of the checkpoint" in caplog.text
    larger = {"image_size": (32, 48)}
    learned = VideoMAEV2Model.from_pretrained(tmp_path / "ours", position_embedding_type="learned", **larger)
    expected = VideoMAEV2Model.from_pretrained(tmp_path / "ours", **larger)
    assert_close(learned.embeddings.position_embeddings, expected.embeddings.position_embeddings)

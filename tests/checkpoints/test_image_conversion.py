"""`videomae convert` for models of images: files of MAE, DINO and ViT in and out, transformers, inflation to clips."""

import json

import pytest
import torch
from helpers.image_models import for_images, hidden_patches, images, official_weights, vit, vit_mae
from helpers.shared import randomize
from safetensors.torch import load_file
from transformers import ViTForImageClassification, ViTMAEForPreTraining, ViTMAEModel, ViTModel

from videomae_hf import (
    VideoMAEV2Config,
    VideoMAEV2ForPreTraining,
    VideoMAEV2ForVideoClassification,
    VideoMAEV2ImageProcessor,
    VideoMAEV2Model,
)
from videomae_hf.checkpoints.conversion import complete_fields, inferred_fields
from videomae_hf.checkpoints.image_export import whole_weights
from videomae_hf.commands import convert
from videomae_hf.models.geometry import position_table


HEADS = ["--num_attention_heads", "3"]
PRETRAINING = [*HEADS, "--decoder_num_attention_heads", "2", "--norm_pix_loss", "true"]


def run(*arguments):
    convert.main([str(argument) for argument in arguments])


def assert_close(actual, expected, atol=1e-5):
    torch.testing.assert_close(actual, expected, rtol=0, atol=atol)


def build(model_class, kind="mae", **fields):
    return randomize(model_class(for_images(kind, **fields)), std=0.2).eval()


def without_key_biases(weights):
    """Of fused biases, the part of the keys as zeros, which is what our models keep of it."""
    weights = {name: value.clone() for name, value in weights.items()}
    for name, value in weights.items():
        if name.endswith("attn.qkv.bias"):
            value[len(value) // 3 : 2 * len(value) // 3] = 0
    return weights


# in


@pytest.mark.parametrize("tables", ["fixed", "random"])
def test_mae_with_its_decoder_in_and_out(tmp_path, capsys, tables):
    theirs = vit_mae(tables=tables, norm_pix_loss=True)
    weights = official_weights(theirs)
    assert {"cls_token", "decoder_pos_embed", "decoder_blocks.1.attn.qkv.bias", "decoder_pred.weight"} <= weights.keys()
    torch.save({"model": weights}, tmp_path / "mae.pth")
    run(tmp_path / "mae.pth", tmp_path / "ours", *PRETRAINING)
    ours = VideoMAEV2ForPreTraining.from_pretrained(tmp_path / "ours").eval()
    hidden = hidden_patches(theirs.config)
    expected = theirs(images(theirs.config), noise=hidden.float())
    found = ours(images(theirs.config), bool_masked_pos=hidden)
    assert_close(found.loss, expected.loss)
    assert_close(found.logits, expected.logits[hidden].unflatten(0, (2, -1)))
    kind = "sinusoidal_2d" if tables == "fixed" else "learned"
    assert ours.config.position_embedding_type == ours.config.decoder_positions == kind
    fields = ("num_frames", "image_size", "mask_ratio", "mask_type", "use_mean_pooling", "layer_norm_eps")
    assert [getattr(ours.config, name) for name in fields] == [1, 32, 0.75, "random", None, 1e-6]
    assert "4 key biases: softmax ignores them" in capsys.readouterr().out

    run(tmp_path / "ours", tmp_path / "again.pth", "--to", "official")
    again = torch.load(tmp_path / "again.pth", weights_only=True)["model"]
    assert again.keys() == weights.keys()
    for name, value in without_key_biases(weights).items():
        assert torch.equal(again[name], value), name


def test_mae_without_its_decoder(tmp_path):
    theirs = vit_mae(ViTMAEModel, mask_ratio=0.0)
    torch.save({"model": official_weights(theirs)}, tmp_path / "mae.pth")
    run(tmp_path / "mae.pth", tmp_path / "ours", *HEADS)
    ours = VideoMAEV2Model.from_pretrained(tmp_path / "ours").eval()
    expected = theirs(images(theirs.config), noise=torch.arange(16.0).expand(2, -1)).last_hidden_state
    found = ours(images(theirs.config))
    assert_close(found.last_hidden_state, expected)
    assert_close(found.pooler_output, expected[:, 1:].mean(dim=1))  # as MAE's finetuning pools
    decoder = VideoMAEV2ForPreTraining.from_pretrained(tmp_path / "ours").decoder.decoder_layers  # a new one is MAE's
    assert (len(decoder), decoder[0].attention.attention.query.weight.shape) == (8, (512, 512))


def test_mae_says_whether_its_targets_are_normalised(tmp_path):
    """The published files with a decoder are of both kinds."""
    torch.save({"model": official_weights(vit_mae())}, tmp_path / "mae.pth")
    with pytest.raises(ValueError, match="do not determine norm_pix_loss; pass --norm_pix_loss VALUE"):
        run(tmp_path / "mae.pth", tmp_path / "ours", *PRETRAINING[:-2])


def test_finetuned_mae_in_and_out(tmp_path, capsys):
    """A learned table, the mean of the patches, fc_norm and no final norm."""
    encoder = vit(num_labels=5)
    weights = official_weights(encoder)
    weights["fc_norm.weight"], weights["fc_norm.bias"] = weights.pop("norm.weight"), weights.pop("norm.bias")
    torch.save({"model": weights}, tmp_path / "mae.pth")
    run(tmp_path / "mae.pth", tmp_path / "ours", *HEADS)
    ours = VideoMAEV2ForVideoClassification.from_pretrained(tmp_path / "ours").eval()
    assert (ours.config.position_embedding_type, ours.config.use_mean_pooling) == ("learned", True)
    pixel_values = images(encoder.config)
    tokens = encoder(pixel_values, output_hidden_states=True).hidden_states[-1]  # before the final norm
    expected = encoder.classifier(encoder.vit.layernorm(tokens[:, 1:].mean(dim=1)))
    assert_close(ours(pixel_values).logits, expected)
    with pytest.raises(ValueError, match="the mean pooling of this checkpoint has no counterpart there"):
        run(tmp_path / "ours", tmp_path / "theirs", "--to", "transformers")
    run(tmp_path / "ours", tmp_path / "again.pth", "--to", "official")
    again = torch.load(tmp_path / "again.pth", weights_only=True)["model"]
    assert again.keys() == weights.keys()
    assert all(torch.equal(again[name], value) for name, value in without_key_biases(weights).items())
    processor = VideoMAEV2ImageProcessor.from_pretrained(tmp_path / "ours")
    assert (processor.size.shortest_edge, processor.crop_size.height, processor.resample) == (36, 32, 3)
    assert (processor.num_frames, tuple(processor.image_mean)) == (1, (0.485, 0.456, 0.406))
    assert "images as in MAE's test: shorter side 36, bicubic" in capsys.readouterr().out


@pytest.mark.parametrize("prefix", ["", "module.backbone."])
def test_encoders_of_dino(tmp_path, prefix):
    theirs = vit(ViTModel)
    weights = {f"{prefix}{name}": value for name, value in official_weights(theirs).items()}
    torch.save(weights, tmp_path / "dino.pth")
    run(tmp_path / "dino.pth", tmp_path / "ours", *HEADS)
    ours = VideoMAEV2Model.from_pretrained(tmp_path / "ours").eval()
    expected = theirs(images(theirs.config)).last_hidden_state
    assert_close(ours(images(theirs.config)).last_hidden_state, expected)
    assert_close(ours(images(theirs.config)).pooler_output, expected[:, 0])  # DINO's feature is the class token


@pytest.mark.parametrize("size, decoder", [("base", True), ("large", False), ("huge", True)])
def test_published_sizes_need_no_heads(size, decoder):
    config = VideoMAEV2Config.for_images(size)
    with torch.device("meta"):
        weights = whole_weights((VideoMAEV2ForPreTraining if decoder else VideoMAEV2Model)(config))
    for name, value in weights.items():
        if name.endswith("position_embeddings"):
            weights[name] = position_table(config, value.shape[2], "sinusoidal_2d")
    fields, lines = complete_fields(inferred_fields(weights), None, {"norm_pix_loss": True}, {})
    wanted = config.to_dict() | {"decoder_position_embedding_type": config.decoder_positions}
    assert {name: fields[name] for name in fields} == {name: wanted[name] for name in fields}
    assert f"num_attention_heads = {config.num_attention_heads}, from the official size {size}" in lines


def test_frames_of_an_image_model_need_inflation(tmp_path):
    torch.save(official_weights(vit(ViTModel)), tmp_path / "vit.pth")
    with pytest.raises(ValueError, match="--num_frames 16 contradicts the tensors, which imply num_frames=1"):
        run(tmp_path / "vit.pth", tmp_path / "ours", *HEADS, "--num_frames", "16")


# out


@pytest.mark.parametrize("fields", [{}, {"position_embedding_type": "learned"}, {"decoder_embed_bias": False}], ids=str)
def test_pretraining_to_transformers_and_back(tmp_path, capsys, fields):
    model = build(VideoMAEV2ForPreTraining, **fields)
    model.save_pretrained(tmp_path / "ours")
    run(tmp_path / "ours", tmp_path / "theirs", "--to", "transformers")
    assert "ViTMAEForPreTraining: outputs on a random image differ by at most" in capsys.readouterr().out
    config = json.loads((tmp_path / "theirs" / "config.json").read_text())
    assert (config["model_type"], config["architectures"]) == ("vit_mae", ["ViTMAEForPreTraining"])
    names = load_file(tmp_path / "theirs" / "model.safetensors").keys()
    assert {"decoder.decoder_layers.0.attention.attention.query.weight", "vit.embeddings.cls_token"} <= names
    theirs, info = ViTMAEForPreTraining.from_pretrained(tmp_path / "theirs", output_loading_info=True)
    assert not info["missing_keys"] and not info["unexpected_keys"]
    hidden = hidden_patches(theirs.config)
    expected = model(images(theirs.config), bool_masked_pos=hidden)
    found = theirs.eval()(images(theirs.config), noise=hidden.float())
    assert_close(found.loss, expected.loss)
    assert_close(found.logits[hidden].unflatten(0, (2, -1)), expected.logits)
    run(tmp_path / "theirs", tmp_path / "back")
    back = VideoMAEV2ForPreTraining.from_pretrained(tmp_path / "back").eval()
    assert torch.equal(back(images(theirs.config), bool_masked_pos=hidden).loss, expected.loss)


@pytest.mark.parametrize("their_class, our_class", [
    (ViTForImageClassification, VideoMAEV2ForVideoClassification),
    (ViTModel, VideoMAEV2Model),
])  # fmt: skip
def test_vit_to_transformers_and_back(tmp_path, their_class, our_class):
    model = build(our_class, "vit", num_labels=5)
    model.save_pretrained(tmp_path / "ours")
    options = {"size": {"shortest_edge": 36}, "crop_size": {"height": 32, "width": 32}, "resample": 3}
    VideoMAEV2ImageProcessor(num_frames=1, **options).save_pretrained(tmp_path / "ours")
    run(tmp_path / "ours", tmp_path / "theirs", "--to", "transformers")
    theirs = their_class.from_pretrained(tmp_path / "theirs").eval()
    assert_close(theirs(images(theirs.config))[0], model(images(theirs.config))[0])
    back = our_class.from_pretrained(tmp_path / "theirs").eval()
    assert torch.equal(back(images(theirs.config))[0], model(images(theirs.config))[0])


@pytest.mark.parametrize("fields, message", [
    ({"layer_scale_init_value": 0.1}, "cannot express layer scale"),
    ({"use_cosine_attention": True}, "cannot express cosine attention"),
    ({"num_frames": 4, "tubelet_size": 2}, r"cannot express class tokens of clips \(num_frames=4\)"),
])  # fmt: skip
@pytest.mark.parametrize("layout", ["transformers", "official"])
def test_what_other_layouts_cannot_express(tmp_path, fields, message, layout):
    build(VideoMAEV2ForVideoClassification, "vit", **fields).save_pretrained(tmp_path / "ours")
    with pytest.raises(ValueError, match=message):
        run(tmp_path / "ours", tmp_path / "other", "--to", layout)
    assert not (tmp_path / "other").exists()


# inflation


def test_half_precision(tmp_path, capsys):
    model = build(VideoMAEV2ForPreTraining).bfloat16()
    model.save_pretrained(tmp_path / "ours")
    run(tmp_path / "ours", tmp_path / "theirs", "--to", "transformers")
    run(tmp_path / "ours", tmp_path / "mae.pth", "--to", "official")
    run(tmp_path / "mae.pth", tmp_path / "again", *PRETRAINING)
    assert ViTMAEForPreTraining.from_pretrained(tmp_path / "theirs").dtype == torch.bfloat16
    for name in ("theirs", "again"):
        back = VideoMAEV2ForPreTraining.from_pretrained(tmp_path / name)
        assert back.config.position_embedding_type == back.config.decoder_positions == "sinusoidal_2d"
        assert torch.equal(back.mask_token, model.mask_token)


@pytest.mark.parametrize("shape", [(1, 16, 24), (1, 1, 24), (17, 24)])
def test_positions_of_another_shape_are_refused(tmp_path, shape):
    weights = {**official_weights(vit(ViTModel)), "pos_embed": torch.zeros(shape)}
    torch.save(weights, tmp_path / "vit.pth")
    with pytest.raises(ValueError, match="are not those of a square image and its class token"):
        run(tmp_path / "vit.pth", tmp_path / "ours", *HEADS)


@pytest.mark.parametrize("how", ["average", "centre"])
@pytest.mark.parametrize("kind", ["mae", "vit"])
def test_a_still_clip_has_the_features_of_its_image(tmp_path, capsys, how, kind):
    image_model = build(VideoMAEV2ForPreTraining, kind)
    image_model.save_pretrained(tmp_path / "images")
    run(tmp_path / "images", tmp_path / "clips", "--inflate", how, "--num_frames", "6", "--tubelet_size", "2")
    assert f"inflated ({how}) to 6 frames in tubelets of 2" in capsys.readouterr().out
    model = VideoMAEV2ForPreTraining.from_pretrained(tmp_path / "clips").eval()
    assert model.config.position_embedding_type == model.config.decoder_positions == "learned"
    pixel_values = images(image_model.config)
    still = pixel_values[:, None].expand(-1, 6, -1, -1, -1)  # (B, C, H, W) -> (B, T, C, H, W)
    expected = image_model.videomae(pixel_values).last_hidden_state
    tokens = model.videomae(still).last_hidden_state
    assert tokens.shape == (2, 3 * 17, 24)
    assert_close(tokens[:, :3], expected[:, :1].expand(-1, 3, -1))  # the class tokens of the slices
    assert_close(tokens[:, 3:].unflatten(1, (3, 16)), expected[:, None, 1:].expand(-1, 3, -1, -1))
    # The decoder, if all slices have the mask of the image
    hidden = hidden_patches(image_model.config)
    reconstructed = image_model(pixel_values, bool_masked_pos=hidden).logits  # (B, N, h * w * C)
    found = model(still, bool_masked_pos=hidden.repeat(1, 3)).logits  # (B, 3 * N, 2 * h * w * C)
    assert_close(found, reconstructed.repeat(1, 3, 2))
    # And the two differ for a clip that moves
    moving = torch.randn(2, 6, 3, 32, 32, generator=torch.Generator().manual_seed(2))
    assert not torch.allclose(model.videomae(moving).last_hidden_state, tokens)


@pytest.mark.parametrize("kind", ["mae", "vit"])
def test_inflated_classifiers_keep_their_answers(tmp_path, kind):
    source = build(VideoMAEV2ForVideoClassification, kind, num_labels=5)
    source.save_pretrained(tmp_path / "images")
    options = {"size": {"shortest_edge": 36}, "crop_size": {"height": 32, "width": 32}, "resample": 3}
    VideoMAEV2ImageProcessor(num_frames=1, **options).save_pretrained(tmp_path / "images")
    run(tmp_path / "images", tmp_path / "clips", "--inflate", "average", "--mask_ratio", "0.9", "--mask_type", "tube")
    model = VideoMAEV2ForVideoClassification.from_pretrained(tmp_path / "clips").eval()
    assert (model.config.num_frames, model.config.tubelet_size) == (16, 2)
    assert (model.config.mask_ratio, model.config.mask_type) == (0.9, "tube")
    pixel_values = images(source.config)
    still = pixel_values[:, None].expand(-1, 16, -1, -1, -1)  # (B, C, H, W) -> (B, T, C, H, W)
    assert_close(model(still).logits, source(pixel_values).logits)
    processor = VideoMAEV2ImageProcessor.from_pretrained(tmp_path / "clips")
    assert (processor.num_frames, processor.size.shortest_edge, processor.resample) == (16, 36, 3)


def test_transformers_checkpoints_are_inflated_in_one_step(tmp_path):
    theirs = vit()
    theirs.save_pretrained(tmp_path / "vit")
    run(tmp_path / "vit", tmp_path / "clips", "--inflate", "centre", "--num_frames", "4")
    model = VideoMAEV2ForVideoClassification.from_pretrained(tmp_path / "clips").eval()
    still = images(theirs.config)[:, None].expand(-1, 4, -1, -1, -1)  # (B, C, H, W) -> (B, T, C, H, W)
    assert_close(model(still).logits, theirs(images(theirs.config)).logits)


def test_clips_cannot_be_inflated(tmp_path):
    build(VideoMAEV2Model, num_frames=4, tubelet_size=2).save_pretrained(tmp_path / "clips")
    with pytest.raises(ValueError, match="--inflate needs a model of images; this one has num_frames=4"):
        run(tmp_path / "clips", tmp_path / "more", "--inflate", "average")


def test_frames_that_are_no_multiple_of_the_tubelet(tmp_path):
    build(VideoMAEV2Model).save_pretrained(tmp_path / "images")
    with pytest.raises(ValueError, match="num_frames=7 is not divisible by tubelet_size=2"):
        run(tmp_path / "images", tmp_path / "clips", "--inflate", "average", "--num_frames", "7")

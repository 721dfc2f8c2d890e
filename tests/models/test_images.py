"""Models of images: configuration and sizes, class tokens, positions, targets. Parity: test_image_parity.py."""

import pytest
import torch
from helpers.image_models import for_images, hidden_patches, images
from helpers.shared import needs_dynamo, randomize
from helpers.tiny_models import assert_same_step, step
from transformers import ViTConfig, ViTForImageClassification, ViTMAEConfig, ViTMAEForPreTraining

from videomae_hf import (
    VideoMAEV2Config,
    VideoMAEV2ForPreTraining,
    VideoMAEV2ForVideoClassification,
    VideoMAEV2Model,
    patchify,
    sample_masks,
    token_counts,
)
from videomae_hf.evaluation.reconstruction import reconstruct
from videomae_hf.evaluation.trivial_predictors import trivial_loss, trivial_losses
from videomae_hf.models.geometry import interpolate_positions, planar_table
from videomae_hf.models.masking import mask_to_ids, sample_image_ids
from videomae_hf.training.optimization import layer_number, parameter_groups


def build(model_class=VideoMAEV2ForPreTraining, kind="mae", **fields):
    return randomize(model_class(for_images(kind, **fields)), std=0.2).eval()


def count(model) -> int:
    return sum(parameter.numel() for parameter in model.parameters())


# configuration


@pytest.mark.parametrize(
    "size, patch, tokens, visible, encoder",
    [
        ("base", 16, 196, 49, (768, 12, 12, 3072)),
        ("large", 16, 196, 49, (1024, 24, 16, 4096)),
        ("huge", 14, 256, 64, (1280, 32, 16, 5120)),
    ],
)
def test_for_images(size, patch, tokens, visible, encoder):
    config = VideoMAEV2Config.for_images(size)
    names = ("hidden_size", "num_hidden_layers", "num_attention_heads", "intermediate_size")
    assert tuple(getattr(config, name) for name in names) == encoder
    assert tuple(getattr(config, f"decoder_{name}") for name in names) == (512, 8, 16, 2048)
    assert (config.patch_size, config.num_frames, config.tubelet_size, config.layer_norm_eps) == (patch, 1, 1, 1e-6)
    assert config.grid_size == (1, 224 // patch, 224 // patch) and config.sequence_length == tokens
    assert token_counts(config) == (visible, tokens - visible)
    assert (config.num_class_tokens, config.norm_pix_loss, config.target_pixels) == (1, True, "normalized")
    vit = VideoMAEV2Config.for_images(size, kind="vit")
    assert (vit.position_embedding_type, vit.use_mean_pooling, vit.use_cls_token) == ("learned", False, True)


@pytest.mark.parametrize(
    "size, mae, vit",
    [("base", 111_642_368, 86_558_440), ("large", 329_210_624, 304_302_056), ("huge", 656_568_908, 632_004_840)],
)
def test_parameter_counts(size, mae, vit):
    """Those of MAE and of ViT with 1000 classes, without key biases; MAE's fixed tables are no parameters here."""
    config = VideoMAEV2Config.for_images(size)
    depth, width, tokens = config.num_hidden_layers, config.hidden_size, config.sequence_length
    names = [name for name in ViTMAEConfig.__annotations__ if name in VideoMAEV2Config.__annotations__]
    fields = {name: getattr(config, name) for name in names}
    with torch.device("meta"):
        assert count(VideoMAEV2ForPreTraining(config)) == mae
        theirs = ViTMAEForPreTraining(ViTMAEConfig(**fields))
        assert count(theirs) == mae + depth * width + 8 * 512 + (tokens + 1) * (width + 512)
        ours = VideoMAEV2ForVideoClassification(VideoMAEV2Config.for_images(size, "vit", num_labels=1000))
        assert count(ours) == vit
        fields = {name: value for name, value in fields.items() if name in ViTConfig.__annotations__}
        assert count(ViTForImageClassification(ViTConfig(**fields, num_labels=1000))) == vit + depth * width


@pytest.mark.parametrize("size, kind", [("small", "mae"), ("base", "dino")])
def test_unknown_sizes_and_kinds(size, kind):
    with pytest.raises(ValueError, match=f"size='{size}' with kind='{kind}' is unknown; sizes are base, large, huge"):
        VideoMAEV2Config.for_images(size, kind)


@pytest.mark.parametrize(
    "fields, named",
    [
        ({"target_pixels": "raw"}, "target_pixels='raw' is unknown; choose one of unit, normalized"),
        ({"decoder_position_embedding_type": "none"}, "decoder_position_embedding_type='none' is unknown"),
        ({"hidden_size": 27}, "hidden_size=27 must be a multiple of 4 for positions of type 'sinusoidal_2d'"),
        ({"decoder_hidden_size": 18}, "decoder_hidden_size=18 must be a multiple of 4"),
    ],
)
def test_fields_that_are_refused(fields, named):
    with pytest.raises(ValueError) as error:
        VideoMAEV2ForPreTraining(for_images(**fields))
    assert named in str(error.value)


# positions


def test_planar_table_by_hand():
    """Sine and cosine of the column come first, then those of the row; the frequencies of two are 1 and 1 / 100."""
    table = planar_table((2, 2, 3), 8)
    assert table.shape == (1, 12, 8)
    assert torch.equal(table[:, :6], table[:, 6:])  # both slices
    expected = [0.841471, 0.0099998, 0.540302, 0.99995, 0.0, 0.0, 1.0, 1.0]
    torch.testing.assert_close(table[0, 1], torch.tensor(expected), rtol=0, atol=1e-6)  # row 0, column 1
    torch.testing.assert_close(table[0, 3], torch.tensor(expected[4:] + expected[:4]), rtol=0, atol=1e-6)  # row 1


def test_rows_of_class_tokens_are_interpolated_apart():
    table = torch.cat([torch.full((1, 2, 4), 9.0), planar_table((2, 2, 2), 4)], dim=1)
    wider = interpolate_positions(table, (2, 2, 2), (3, 4, 4))
    assert wider.shape == (1, 3 + 48, 4) and torch.equal(wider[:, :3], torch.full((1, 3, 4), 9.0))
    torch.testing.assert_close(wider[:, 3:], interpolate_positions(table[:, 2:], (2, 2, 2), (3, 4, 4)))


# class tokens


def test_shapes_of_clips_with_class_tokens(generator):
    """One for each slice, before the patches, whatever is masked."""
    model = build(num_frames=4, tubelet_size=2)
    clip = torch.randn(2, 4, 3, 32, 32, generator=generator)
    outputs = model(clip, seed=0, output_hidden_states=True)
    assert outputs.logits.shape == (2, 24, 2 * 8 * 8 * 3)  # 24 of 32 patches are masked
    assert outputs.hidden_states[-1].shape == (2, 2 + 8, 24)
    tokens = model.videomae(clip).last_hidden_state
    assert tokens.shape == (2, 2 + 32, 24)
    assert torch.equal(model.videomae.patch_tokens(tokens), tokens[:, 2:])
    assert torch.equal(model.videomae.pooled_features(tokens), tokens[:, 2:].mean(dim=1))


@pytest.mark.parametrize("pooling, classes", [(None, False), (True, False), (False, True)])
def test_pooled_features_are_those_of_the_head(pooling, classes):
    model = build(VideoMAEV2ForVideoClassification, use_mean_pooling=pooling, num_labels=3)
    pixel_values = images(model.config)
    outputs = model.videomae(pixel_values)
    tokens = outputs.last_hidden_state
    expected = tokens[:, 0] if classes else tokens[:, 1:].mean(dim=1)
    assert torch.equal(outputs.pooler_output, expected)
    normed = expected if classes else model.fc_norm(expected)
    torch.testing.assert_close(model(pixel_values).logits, model.classifier(normed))


def test_other_numbers_of_frames_need_other_class_tokens():
    model = build(VideoMAEV2Model, num_frames=4, tubelet_size=2)
    with pytest.raises(
        ValueError, match=r"pixel_values have 8 frames, .*load it with `from_pretrained\(.., num_frames=8"
    ):
        model(torch.zeros(1, 8, 3, 32, 32), interpolate_pos_encoding=True)


def test_images_are_refused_by_models_of_clips():
    model = build(num_frames=4, tubelet_size=2)
    with pytest.raises(ValueError, match="do not fit the model"):
        model.videomae(torch.zeros(4, 3, 32, 32))


@pytest.mark.parametrize("positions", ["sinusoidal", "learned"])
def test_an_image_takes_the_first_slice_of_a_video_model(positions):
    """Repeated to one tubelet, with ids of its tokens: what a whole clip that begins with it gives for these ids."""
    model = build(num_frames=8, tubelet_size=2, use_cls_token=False, position_embedding_type=positions)
    clip = torch.randn(2, 8, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    clip[:, 1] = clip[:, 0]
    visible, decoded = sample_image_ids(model.config, 2, 0.75, torch.Generator().manual_seed(1))
    ids = {"visible_ids": visible, "decoded_ids": decoded}
    expected, found = step(model, pixel_values=clip, **ids), step(model, pixel_values=clip[:, :2], **ids)
    assert_same_step(found, expected)
    for wrong in (clip[:, :3], torch.cat([clip, clip], dim=1), clip[..., :16]):
        with pytest.raises(ValueError, match="do not fit the model"):
            model(wrong, **ids)


@pytest.mark.parametrize("attention", ["eager", "sdpa"])
@pytest.mark.parametrize("fields", [{}, {"num_channels": 1}, {"image_size": (32, 48)}], ids=str)
def test_attention_channels_and_sizes(attention, fields):
    model = build(**fields)
    model.set_attn_implementation(attention)
    height, width = model.config.image_hw
    pixel_values = torch.randn(2, model.config.num_channels, height, width, generator=torch.Generator().manual_seed(0))
    masked, decoded = sample_masks(model.config, 2, torch.Generator().manual_seed(1))
    assert model(pixel_values, bool_masked_pos=masked, bool_decoded_pos=decoded).loss.isfinite()


@needs_dynamo
@pytest.mark.filterwarnings("ignore")
def test_compiled_without_a_graph_break():
    model = build()
    pixel_values, hidden = images(model.config), hidden_patches(model.config)
    ids = {"visible_ids": mask_to_ids(~hidden, 4), "decoded_ids": mask_to_ids(hidden, 12)}
    expected = step(model, pixel_values=pixel_values, **ids)
    compiled = torch.compile(model, fullgraph=True, backend="aot_eager")
    assert_same_step(step(compiled, pixel_values=pixel_values, **ids), (expected[0], prefixed(expected[1])), atol=1e-5)


def prefixed(gradients):
    return {f"_orig_mod.{name}": value for name, value in gradients.items()}


def test_layer_decay_and_weight_decay_of_class_tokens():
    model = build(VideoMAEV2ForVideoClassification, "vit")
    assert layer_number("videomae.embeddings.cls_token", 2) == 0
    for group in parameter_groups(model, 1.0, 0.05, 0.5):
        for parameter in group["params"]:
            if parameter is model.videomae.embeddings.cls_token:
                assert (group["lr"], group["weight_decay"]) == (0.125, 0.0)
                return
    raise AssertionError("The class token is in no group.")


# targets


@pytest.mark.parametrize("norm_pix_loss", [True, False])
@pytest.mark.parametrize("as_uint8", [True, False])
def test_targets_of_mae(norm_pix_loss, as_uint8):
    """Of the normalised image, with the statistics of all values of a patch together (mae/models_mae.py)."""
    model = build(norm_pix_loss=norm_pix_loss)
    pixels = torch.randint(256, (2, 3, 32, 32), generator=torch.Generator().manual_seed(0), dtype=torch.uint8)
    mean, std = (torch.tensor(v).view(3, 1, 1) for v in (model.config.image_mean, model.config.image_std))
    normalized = (pixels / 255 - mean) / std
    expected = patchify(normalized[:, None], 1, (8, 8))
    if norm_pix_loss:
        variance = expected.var(dim=-1, keepdim=True)
        expected = (expected - expected.mean(dim=-1, keepdim=True)) / (variance + 1e-6) ** 0.5
    found = model.reconstruction_targets(pixels if as_uint8 else normalized)
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-5)


@pytest.mark.parametrize("target_pixels", ["unit", "normalized"])
@pytest.mark.parametrize("norm_pix_loss", [True, False])
def test_perfect_predictions_are_the_picture(monkeypatch, target_pixels, norm_pix_loss):
    model = build(norm_pix_loss=norm_pix_loss, target_pixels=target_pixels)
    pixels = torch.randint(256, (2, 1, 3, 32, 32), generator=torch.Generator().manual_seed(0), dtype=torch.uint8)
    hidden = hidden_patches(model.config)
    targets = model.reconstruction_targets(pixels, mask_to_ids(hidden, 12))
    monkeypatch.setattr(model, "forward_decoder", lambda *_: targets)
    torch.testing.assert_close(reconstruct(model, pixels, hidden), pixels / 255, rtol=0, atol=1e-5)


@pytest.mark.parametrize("norm_pix_loss", [True, False])
def test_trivial_losses_of_mae(norm_pix_loss):
    model = build(norm_pix_loss=norm_pix_loss)
    pixels = torch.randint(256, (2, 1, 3, 32, 32), generator=torch.Generator().manual_seed(0), dtype=torch.uint8)
    hidden = hidden_patches(model.config)
    losses = trivial_losses(model, pixels, mask_to_ids(~hidden, 4), mask_to_ids(hidden, 12))
    if norm_pix_loss:  # a prediction of zeros: the unbiased variance of 192 values
        assert losses["patch_mean"] == pytest.approx(191 / 192, abs=1e-4)
    assert 0 < trivial_loss(losses, model.config) < 10

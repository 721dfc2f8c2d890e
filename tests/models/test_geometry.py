"""Clips of another shape on existing weights: positions, patch projections, image models."""

import pytest
import torch
from helpers.shared import TINY, randomize

from videomae_hf import (
    VideoMAEV2Config,
    VideoMAEV2ForPreTraining,
    VideoMAEV2ForVideoClassification,
    VideoMAEV2Model,
)
from videomae_hf.commands import convert
from videomae_hf.models.geometry import interpolate_positions, resize_projection, separable_table, sinusoid_table


def saved(folder, model_class=VideoMAEV2ForVideoClassification, **fields):
    model = randomize(model_class(VideoMAEV2Config(**{**TINY, **fields}))).eval()
    model.save_pretrained(folder)
    return model


def test_interpolation_of_a_ramp_is_a_ramp():
    """Positions that say where they are: rows, columns and slices each in a channel."""
    t, h, w = torch.meshgrid(torch.arange(4.0), torch.arange(6.0), torch.arange(8.0), indexing="ij")
    table = torch.stack([t, h, w], dim=-1).flatten(0, 2)[None]
    doubled = interpolate_positions(table, (4, 6, 8), (8, 12, 16)).unflatten(1, (8, 12, 16))[0]
    inner = doubled[2:-2, 4:-4, 4:-4]  # away from the borders, where there is nothing to interpolate with
    expected = (torch.arange(16.0) + 0.5) / 2 - 0.5
    torch.testing.assert_close(inner[0, 0, :, 2], expected[4:-4], rtol=0, atol=0.05)  # bicubic
    torch.testing.assert_close(inner[0, :, 0, 1], expected[4:8], rtol=0, atol=0.05)
    torch.testing.assert_close(inner[:, 0, 0, 0], expected[2:6])
    assert interpolate_positions(table, (4, 6, 8), (4, 6, 8)) is table


@pytest.mark.parametrize("fields", [{"num_frames": 8}, {"image_size": 64}, {"image_size": (32, 64), "num_frames": 2}])
def test_fixed_positions_fresh_or_interpolated(tmp_path, fields):
    saved(tmp_path)
    fresh = VideoMAEV2ForVideoClassification.from_pretrained(tmp_path, **fields)
    length = fresh.config.sequence_length
    table = fresh.videomae.embeddings.position_embeddings
    assert torch.equal(table, sinusoid_table(length, 24))
    moved = VideoMAEV2ForVideoClassification.from_pretrained(tmp_path, position_grid=(2, 4, 4), **fields)
    expected = interpolate_positions(sinusoid_table(32, 24), (2, 4, 4), moved.config.grid_size)
    assert torch.equal(moved.videomae.embeddings.position_embeddings, expected)
    moved.save_pretrained(tmp_path / "moved")
    again = VideoMAEV2ForVideoClassification.from_pretrained(tmp_path / "moved")
    assert torch.equal(again.videomae.embeddings.position_embeddings, expected)
    height, width = moved.config.image_hw
    assert moved(torch.randn(1, moved.config.num_frames, 3, height, width)).logits.shape == (1, 2)


def test_separable_positions():
    table = separable_table((2, 3, 4), 17)[0].unflatten(0, (2, 3, 4))  # pairs: 2 for the slice, 3 and 3 for the others
    half_pi = torch.pi / 2
    for axis, first, number in ((0, 0, 2), (1, 4, 3), (2, 10, 3)):
        places = torch.arange((2, 3, 4)[axis], dtype=torch.float64)
        angles = places[:, None] * torch.tensor([half_pi / 50 ** (k / number) for k in range(number)]).double()
        expected = torch.cat([angles.sin(), angles.cos()], dim=1).float()
        shape = [1, 1, 1, 2 * number]
        shape[axis] = len(places)
        found = table[..., first : first + 2 * number]
        torch.testing.assert_close(found, expected.reshape(shape).expand_as(found))
    assert table[..., 16].eq(0).all()


def test_models_with_separable_positions(tmp_path):
    """Both transformers use the table, and a token keeps its code in longer and larger clips."""
    model = saved(tmp_path, VideoMAEV2ForPreTraining, position_embedding_type="sinusoidal_3d")
    assert torch.equal(model.videomae.embeddings.position_embeddings, separable_table((2, 4, 4), 24))
    assert torch.equal(model.position_embeddings, separable_table((2, 4, 4), 16))
    larger = VideoMAEV2ForPreTraining.from_pretrained(tmp_path, num_frames=8, image_size=48)
    codes = larger.position_embeddings[0].unflatten(0, (4, 6, 6))[:2, :4, :4].flatten(0, 2)
    torch.testing.assert_close(codes, model.position_embeddings[0])
    assert larger(torch.randn(1, 8, 3, 48, 48), seed=0).loss.isfinite()


def test_decoder_positions_are_interpolated_too(tmp_path):
    saved(tmp_path, VideoMAEV2ForPreTraining)
    model = VideoMAEV2ForPreTraining.from_pretrained(tmp_path, num_frames=8, position_grid=(2, 4, 4))
    expected = interpolate_positions(sinusoid_table(32, 16), (2, 4, 4), (4, 4, 4))
    assert torch.equal(model.position_embeddings, expected)
    assert model(torch.randn(1, 8, 3, 32, 32), seed=0).loss.isfinite()


def test_learned_positions_are_interpolated_at_load(tmp_path, caplog):
    model = saved(tmp_path, position_embedding_type="learned")
    loaded = VideoMAEV2ForVideoClassification.from_pretrained(tmp_path, image_size=64)
    expected = interpolate_positions(model.videomae.embeddings.position_embeddings, (2, 4, 4), (2, 8, 8))
    assert torch.equal(loaded.videomae.embeddings.position_embeddings, expected)
    assert "position_embeddings resized from (1, 32, 24) to (1, 128, 24)" in caplog.text


@pytest.mark.parametrize("position_embedding_type", ["sinusoidal", "learned"])
def test_any_size_at_call_time(position_embedding_type):
    config = VideoMAEV2Config(**TINY, position_embedding_type=position_embedding_type)
    model = randomize(VideoMAEV2Model(config)).eval()
    own = torch.randn(2, 4, 3, 32, 32)
    assert torch.equal(model(own, interpolate_pos_encoding=True)[0], model(own)[0])
    assert model(torch.randn(1, 8, 3, 40, 64), interpolate_pos_encoding=True)[0].shape == (1, 4 * 5 * 8, 24)
    with pytest.raises(ValueError, match="interpolate_pos_encoding=True"):
        model(torch.randn(1, 8, 3, 32, 32))
    with pytest.raises(ValueError, match="multiples of"):
        model(torch.randn(1, 7, 3, 32, 32), interpolate_pos_encoding=True)
    classifier = randomize(VideoMAEV2ForVideoClassification(config)).eval()
    assert classifier(torch.randn(1, 6, 3, 32, 32), interpolate_pos_encoding=True).logits.shape == (1, 2)


@pytest.mark.parametrize("num_channels", [1, 2, 3, 4, 7])
@pytest.mark.parametrize("tubelet_size", [1, 2, 3, 4, 8])
def test_projection_keeps_the_response_to_a_static_clip(num_channels, tubelet_size):
    weight = torch.randn(5, 3, 2, 4, 4, dtype=torch.float64)
    resized = resize_projection(weight, num_channels, tubelet_size)
    assert resized.shape == (5, num_channels, tubelet_size, 4, 4)
    frame = torch.randn(4, 4, dtype=torch.float64)  # grey, the same in every frame and channel
    before, after = (torch.einsum("dcthw,hw->d", kernel, frame) for kernel in (weight, resized))
    torch.testing.assert_close(after, before)


def test_projection_of_the_same_shape_is_the_same():
    weight = torch.randn(5, 3, 2, 4, 4)
    assert torch.equal(resize_projection(weight, 3, 2), weight)
    image = torch.randn(5, 3, 4, 4)
    assert torch.equal(resize_projection(image, 3, 2), image[:, :, None].expand(-1, -1, 2, -1, -1) / 2)


@pytest.mark.parametrize("fields", [{"num_channels": 1}, {"num_channels": 5}, {"tubelet_size": 4}, {"tubelet_size": 1}])
def test_other_channels_and_tubelets_at_load(tmp_path, caplog, fields):
    model = saved(tmp_path)
    channels = fields.get("num_channels", 3)
    statistics = {"image_mean": [0.5] * channels, "image_std": [0.5] * channels}
    loaded = VideoMAEV2ForVideoClassification.from_pretrained(tmp_path, **fields, **statistics)
    projection = model.videomae.embeddings.patch_embeddings.projection.weight
    expected = resize_projection(projection, channels, fields.get("tubelet_size", 2))
    assert torch.equal(loaded.videomae.embeddings.patch_embeddings.projection.weight, expected)
    assert torch.equal(loaded.classifier.weight, model.classifier.weight)
    assert "projection.weight resized from (24, 3, 2, 8, 8)" in caplog.text
    if "num_channels" in fields:  # the same grid: a grey, static clip gives the same logits
        grey = torch.randn(1, 1, 1, 32, 32)
        before, after = (net.eval()(grey.expand(1, 4, c, 32, 32)).logits for net, c in ((model, 3), (loaded, channels)))
        torch.testing.assert_close(after, before, rtol=0, atol=1e-5)


def test_pretraining_on_other_channels_begins_a_new_output(tmp_path, caplog):
    saved(tmp_path, VideoMAEV2ForPreTraining)
    model = VideoMAEV2ForPreTraining.from_pretrained(tmp_path, num_channels=1, image_mean=[0.5], image_std=[0.5])
    assert "new, untrained: decoder.head" in caplog.text
    assert model(torch.randn(1, 4, 1, 32, 32), seed=0).logits.shape[-1] == 128


def test_another_patch_size_stays_an_error(tmp_path):
    saved(tmp_path)
    with pytest.raises(ValueError, match=r"projection.weight has shape \(24, 3, 2, 8, 8\)"):
        VideoMAEV2ForVideoClassification.from_pretrained(tmp_path, patch_size=16)


def test_image_models_are_inflated(tmp_path, capsys):
    """An image ViT in the names of timm and MAE: fused qkv with a bias of all three, a class token, a head."""
    generator = torch.Generator().manual_seed(0)
    shapes = {"cls_token": (1, 1, 24), "pos_embed": (1, 17, 24), "patch_embed.proj.weight": (24, 3, 8, 8)}
    shapes |= {"patch_embed.proj.bias": (24,), "norm.weight": (24,), "norm.bias": (24,)}
    shapes |= {"head.weight": (10, 24), "head.bias": (10,)}
    for block in ("blocks.0", "blocks.1"):
        shapes |= {f"{block}.norm{n}.{kind}": (24,) for n in (1, 2) for kind in ("weight", "bias")}
        shapes |= {f"{block}.attn.qkv.weight": (72, 24), f"{block}.attn.qkv.bias": (72,)}
        shapes |= {f"{block}.attn.proj.weight": (24, 24), f"{block}.attn.proj.bias": (24,)}
        shapes |= {f"{block}.mlp.fc1.weight": (48, 24), f"{block}.mlp.fc1.bias": (48,)}
        shapes |= {f"{block}.mlp.fc2.weight": (24, 48), f"{block}.mlp.fc2.bias": (24,)}
    weights = {name: torch.randn(shape, generator=generator) for name, shape in shapes.items()}
    torch.save({"model": weights}, tmp_path / "mae.pth")
    options = ["--num_attention_heads", "3", "--inflate", "average", "--num_frames", "4"]
    convert.main([str(tmp_path / "mae.pth"), str(tmp_path / "ours"), *options])
    printed = capsys.readouterr().out
    assert "inflated (average) to 4 frames in tubelets of 2; positions are learned from now on" in printed
    assert "2 key biases" in printed
    model = VideoMAEV2Model.from_pretrained(tmp_path / "ours").eval()
    still = torch.randn(1, 1, 3, 32, 32, generator=generator).expand(1, 4, 3, 32, 32)
    patches = model.embeddings.patch_embeddings(still)[0, :16]
    image = torch.nn.functional.conv2d(
        still[0, :1], weights["patch_embed.proj.weight"], weights["patch_embed.proj.bias"], stride=8
    )
    torch.testing.assert_close(patches, image.flatten(2)[0].T, rtol=0, atol=1e-4)

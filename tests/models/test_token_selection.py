"""Encoding a part of the tokens: which ones, how many, and that the model computes what it does with these ids."""

import math

import pytest
import torch
from helpers.shared import needs_dynamo
from helpers.tiny_models import assert_same_step, build, step, videos

from videomae_hf import VideoMAEV2Config, VideoMAEV2ForVideoClassification, VideoMAEV2Model
from videomae_hf.models.token_selection import TokenSelection, select_tokens, token_changes, tokens_left, top_ids


# 2 frames a tubelet, patches of 1 x 2 pixels: 3 slices of 1 row and 2 columns
SMALL = {"image_size": (1, 4), "patch_size": (1, 2), "num_frames": 6, "num_channels": 1, "hidden_size": 24}
SMALL |= {"num_attention_heads": 3, "image_mean": (0.5,), "image_std": (0.25,)}


def classifier(**settings):
    """A model of 32 tokens with its selection, in training mode."""
    model = build(VideoMAEV2ForVideoClassification, num_labels=3).train()
    select_tokens(model, **settings)
    return model


def test_changes_by_hand():
    """Frame by frame, left patch and right patch, in grey levels of 255."""
    frames = [[0, 0, 9, 9], [0, 0, 9, 9], [0, 0, 9, 9], [0, 0, 9, 60], [255, 255, 9, 9], [0, 0, 9, 60]]
    clip = torch.tensor(frames, dtype=torch.uint8).view(1, 6, 1, 1, 4)
    # Slice 1 less slice 0: nothing on the left, 51 in one of four pixels on the right. Slice 2 less slice 1: 255 in two
    # of four on the left, nothing on the right.
    expected = [[math.inf, math.inf, 0.0, 51 / 4 / 255, 0.5, 0.0]]
    config = VideoMAEV2Config(**SMALL)
    torch.testing.assert_close(token_changes(clip, config), torch.tensor(expected), rtol=0, atol=1e-6)
    normalised = (clip / 255 - 0.5) / 0.25
    torch.testing.assert_close(token_changes(normalised, config), torch.tensor(expected), rtol=0, atol=1e-6)
    half, most = TokenSelection(static_keep=0.5), TokenSelection(static_keep=0.6)
    assert half.visible_ids(clip, config, training=False).tolist() == [[0, 1, 4]]
    assert most.visible_ids(clip, config, training=True).tolist() == [[0, 1, 3, 4]]


def test_threshold_keeps_what_changes_in_the_liveliest_clip():
    still = torch.full((1, 6, 1, 1, 4), 9, dtype=torch.uint8)
    lively = torch.arange(6, dtype=torch.uint8).view(1, 6, 1, 1, 1).expand_as(still) * 40  # by 80 of 255 a slice
    config = VideoMAEV2Config(**SMALL)  # 6 tokens, rounded up to one at a time
    selection = TokenSelection(static_threshold=0.3)
    assert selection.visible_ids(still, config, training=False).tolist() == [[0, 1]]
    assert selection.visible_ids(torch.cat([still, lively]), config, training=False).shape == (2, 6)
    assert TokenSelection(static_threshold=0.32).visible_ids(lively, config, training=False).tolist() == [[0, 1]]


def test_threshold_is_rounded_up_to_sixteenths():
    config = build(VideoMAEV2Model).config  # 32 tokens, 16 in the first slice
    clip = torch.zeros(1, 4, 3, 32, 32, dtype=torch.uint8)
    clip[:, 2:, :, :8, :24] = 255  # three patches change
    ids = TokenSelection(static_threshold=0.1).visible_ids(clip, config, training=False)
    assert ids.shape == (1, 20) and ids[0, :19].tolist() == list(range(19))


def test_top_ids():
    assert top_ids(torch.tensor([[1.0, 3.0, 2.0, 4.0]]), 3).tolist() == [[1, 2, 3]]


@pytest.mark.parametrize("kind, keep", [("running_cell", 0.5), ("running_cell", 0.25), ("random", 0.3)])
def test_sampled_tokens(kind, keep):
    config = build(VideoMAEV2Model).config
    selection = TokenSelection(token_keep=keep, token_keep_type=kind)
    torch.manual_seed(0)
    ids = selection.visible_ids(videos(config, 3), config, training=True)
    assert ids.shape == (3, selection.kept_in_training(config)) and (ids.diff(dim=1) > 0).all()
    assert selection.visible_ids(videos(config), config, training=False) is None
    if kind == "running_cell":  # the same number of each cell of 2 x 2 in each of the two slices
        rows = torch.zeros(3, 32).scatter(1, ids, 1.0).view(3, 2, 2, 2, 2, 2)
        assert (rows.sum(dim=(3, 5)) == 4 * keep).all()


@pytest.mark.parametrize("attention", ["sdpa", "eager"])
@pytest.mark.parametrize("settings", [{"token_keep": 0.5}, {"static_keep": 0.6}, {"static_threshold": 0.26}], ids=str)
def test_the_step_is_that_of_these_ids(settings, attention):
    model = classifier(**settings)
    model.set_attn_implementation(attention)
    inputs = {"pixel_values": videos(model.config, 3), "labels": torch.tensor([0, 2, 1])}
    torch.manual_seed(3)
    found = step(model, **inputs)
    torch.manual_seed(3)
    ids = model.videomae.token_selection.visible_ids(inputs["pixel_values"], model.config, training=True)
    assert ids.shape[1] < 32
    model.videomae.token_selection = None
    assert_same_step(found, step(model, **inputs, visible_ids=ids))


def test_pooling_is_over_the_kept_tokens():
    model = classifier(static_keep=0.6).eval()
    pixel_values = videos(model.config)
    ids = model.videomae.token_selection.visible_ids(pixel_values, model.config, training=False)
    tokens = model.videomae(pixel_values).last_hidden_state
    assert tokens.shape[1] == ids.shape[1] == 20
    logits = model.classifier(model.fc_norm(tokens.mean(dim=1)))
    assert torch.equal(model(pixel_values).logits, logits)


def test_views_and_uint8():
    """Each view of a video has tokens of its own; uint8 pixels select the same ones."""
    model = classifier(static_keep=0.6).eval()
    pixels = torch.randint(256, (2, 3, 4, 3, 32, 32), generator=torch.Generator().manual_seed(0), dtype=torch.uint8)
    mean, std = (torch.tensor(v).view(3, 1, 1) for v in (model.config.image_mean, model.config.image_std))
    torch.testing.assert_close(model((pixels / 255 - mean) / std).logits, model(pixels).logits, rtol=0, atol=1e-5)


def test_the_number_of_tokens_that_a_threshold_left():
    model = classifier(static_threshold=0.1).eval()
    still = torch.zeros(1, 4, 3, 32, 32, dtype=torch.uint8)
    moving = still.clone()
    moving[:, 2:] = 255
    assert tokens_left(model) == [] == tokens_left(classifier(static_keep=0.5))
    model(still), model(still), model(still), model(moving)
    assert tokens_left(model) == ["tokens: 20 of 32 (62%) were encoded, the mean of 4 clips"]  # 16, 16, 16 and 32


def test_checkpoints_do_not_hold_the_selection(tmp_path):
    model = classifier(token_keep=0.5)
    model.save_pretrained(tmp_path)
    assert "token_keep" not in (tmp_path / "config.json").read_text()
    assert VideoMAEV2ForVideoClassification.from_pretrained(tmp_path).videomae.token_selection is None


@needs_dynamo
@pytest.mark.parametrize("settings", [{"token_keep": 0.5}, {"static_keep": 0.6}], ids=str)
def test_compiled_without_graph_break(settings):
    model = classifier(**settings)
    inputs = {"pixel_values": videos(model.config), "labels": torch.tensor([0, 2])}
    torch.compiler.reset()
    compiled = torch.compile(model, fullgraph=True, backend="eager")
    with torch.random.fork_rng():
        torch.manual_seed(0)
        expected = model(**inputs).loss
        torch.manual_seed(0)
        torch.testing.assert_close(compiled(**inputs).loss, expected, rtol=0, atol=1e-6)


@pytest.mark.parametrize(
    "settings, lines",
    [
        ({}, []),
        ({"token_keep": 0.5}, ["tokens: 16 of 32 in training (running_cell), all at evaluation"]),
        ({"static_keep": 0.6}, ["tokens: the 20 of 32 that change most"]),
        ({"static_threshold": 0.1}, ["tokens: of 32, those that change by more than 0.1 (in sixteenths)"]),
    ],
)
def test_messages(settings, lines):
    assert select_tokens(build(VideoMAEV2ForVideoClassification), **settings) == lines


@pytest.mark.parametrize(
    "settings, fields, named",
    [
        ({"token_keep": 0.4}, {}, "token_keep=0.4 must be 0.25, 0.5 or 0.75 with running cells"),
        ({"token_keep": 0.0}, {}, "token_keep=0.0 must be above 0 and at most 1"),
        ({"static_threshold": -1.0}, {}, "static_threshold=-1.0 must not be negative"),
        ({"token_keep": 0.5, "static_keep": 0.5}, {}, "are alternatives; keep one"),
        ({"token_keep": 0.5, "token_keep_type": "tube"}, {}, "token_keep_type='tube' is unknown"),
        ({"static_keep": 0.5}, {"use_mean_pooling": False}, "classifies its first token"),
        ({"static_keep": 0.5}, {"num_frames": 2}, "clips of this model have one"),
        ({"token_keep": 0.5}, {"image_size": 24}, "the grid has 3x3"),
    ],
)
def test_what_cannot_be_is_refused(settings, fields, named):
    with pytest.raises(ValueError, match=named):
        select_tokens(build(VideoMAEV2ForVideoClassification, **fields), **settings)


def test_clips_of_another_size_are_refused():
    model = classifier(static_keep=0.5)
    with pytest.raises(ValueError, match="need clips of the model's own size"):
        model(torch.zeros(1, 4, 3, 48, 48), interpolate_pos_encoding=True)

"""Outputs, loss and masks of the encoder and of masked pretraining."""

import pytest
import torch
from helpers.tiny_models import BATCH, V1, V2, build, masks, videos

from videomae_hf import (
    VideoMAEV2ForPreTraining,
    VideoMAEV2ForVideoClassification,
    VideoMAEV2Model,
    patchify,
    sample_masks,
    unpatchify,
)
from videomae_hf.models.geometry import sinusoid_table
from videomae_hf.models.masking import mask_to_ids


# patchify and position table


def test_patchify_by_hand():
    """Two frames of two channels, 2 x 4 pixels, patches of 2 x 2: channel fastest, then column, row, frame."""
    video = torch.arange(32).view(1, 2, 2, 2, 4)  # value = 16 frame + 8 channel + 4 row + column
    left = [0, 8, 1, 9, 4, 12, 5, 13, 16, 24, 17, 25, 20, 28, 21, 29]
    assert patchify(video, 2, (2, 2)).tolist() == [[left, [value + 2 for value in left]]]
    assert patchify(video, 2, (2, 2), torch.tensor([[1]])).tolist() == [[[value + 2 for value in left]]]


def test_unpatchify_undoes_patchify(generator):
    video = torch.randn(2, 4, 3, 8, 12, generator=generator)
    patches = patchify(video, 2, (4, 2))
    assert patches.shape == (2, 2 * 2 * 6, 2 * 4 * 2 * 3)
    assert torch.equal(unpatchify(patches, (2, 2, 6), 2, (4, 2)), video)


def test_patchify_of_some_tokens(generator):
    video = torch.randn(2, 4, 3, 8, 12, generator=generator)
    ids = torch.tensor([[0, 7, 23], [5, 11, 12]])
    assert torch.equal(patchify(video, 2, (4, 2), ids), patchify(video, 2, (4, 2))[torch.arange(2)[:, None], ids])


def test_sinusoid_table_by_hand():
    # sin(p), cos(p), sin(p / 100), cos(p / 100): the exponents of four channels are 0 and 2 * 1 / 4
    expected = [[0.0, 1.0, 0.0, 1.0], [0.841471, 0.540302, 0.0099998, 0.99995]]
    torch.testing.assert_close(sinusoid_table(2, 4), torch.tensor([expected]), rtol=0, atol=1e-6)


# outputs and loss


@pytest.mark.parametrize("fields, decoded", [(V1, 28), (V2, 16)])
def test_shapes_and_types(fields, decoded):
    model = build(**fields)
    outputs = model(videos(model.config), seed=0)
    assert outputs.loss.shape == () and outputs.loss.dtype == torch.float32
    assert outputs.logits.shape == (BATCH, decoded, 2 * 8 * 8 * 3)
    assert outputs.bool_masked_pos.shape == outputs.bool_decoded_pos.shape == (BATCH, 32)
    assert outputs.bool_masked_pos.sum(1).tolist() == [28] * BATCH
    assert outputs.bool_decoded_pos.sum(1).tolist() == [decoded] * BATCH
    assert outputs.hidden_states is None and outputs.attentions is None
    encoded = model.videomae(videos(model.config), bool_masked_pos=outputs.bool_masked_pos)
    assert encoded.last_hidden_state.shape == (BATCH, 4, 24)
    assert model.videomae(videos(model.config)).last_hidden_state.shape == (BATCH, 32, 24)


def official_loss(config, pixel_values, logits, masked, decoded):
    """The official loss, token for token (v1/engine_for_pretraining.py, v2/engine_for_pretraining.py)."""
    mean, std = (torch.tensor(values).view(-1, 1, 1) for values in (config.image_mean, config.image_std))
    (_, rows, columns), tubelet, (height, width) = config.grid_size, config.tubelet_size, config.patch_hw
    total, count = 0.0, 0
    for video, predictions, hidden, reconstructed in zip(pixel_values * std + mean, logits, masked, decoded):
        for prediction, token in zip(predictions, reconstructed.nonzero().flatten().tolist(), strict=True):
            if not hidden[token]:
                continue
            time, row, column = token // (rows * columns), token // columns % rows, token % columns
            patch = video[time * tubelet :][:tubelet, :, row * height :][:, :, :height, column * width :][..., :width]
            channels = [channel.flatten() for channel in patch.unbind(1)]
            if config.norm_pix_loss:
                channels = [(c - c.mean()) / (c.var(unbiased=True).sqrt() + 1e-6) for c in channels]
            total += ((prediction - torch.stack(channels, dim=1).flatten()) ** 2).mean()
            count += 1
    return total / count


@pytest.mark.parametrize("fields", [V1, V2], ids=["v1", "v2"])
@pytest.mark.parametrize("norm_pix_loss", [True, False])
@pytest.mark.parametrize("num_channels", [1, 3, 4])
def test_loss_is_the_official_one(fields, norm_pix_loss, num_channels):
    model = build(**fields, norm_pix_loss=norm_pix_loss, num_channels=num_channels)
    pixel_values = videos(model.config)
    pixel_values[0, :2, :, :8, :8] = 0.5  # a patch without variance, where epsilon counts
    outputs = model(pixel_values, **masks(model.config))
    # In float64: the official order of operations multiplies the rounding of a flat patch by 1e6.
    expected = official_loss(
        model.config, pixel_values.double(), outputs.logits, outputs.bool_masked_pos, outputs.bool_decoded_pos
    )
    torch.testing.assert_close(outputs.loss.double(), expected, rtol=1e-6, atol=1e-6)


def test_loss_undoes_the_normalisation_of_the_config():
    """With small contrast the epsilon of the targets is felt: it is 1e-6 of [0, 1], not of the normalised pixels."""
    model = build(image_mean=(0.1, 0.5, 0.9), image_std=(0.01, 0.1, 1.0))
    pixel_values = videos(model.config) * 1e-4
    outputs = model(pixel_values, **masks(model.config))
    expected = official_loss(
        model.config, pixel_values.double(), outputs.logits, outputs.bool_masked_pos, outputs.bool_decoded_pos
    )
    torch.testing.assert_close(outputs.loss.double(), expected, rtol=0, atol=1e-5)


def test_decoded_but_visible_tokens_take_part_without_loss():
    """In a base model 80 of 784 decoded tokens; the official code keeps them, since they shape the others."""
    model = build(**V2)
    inputs = masks(model.config)
    visible_and_decoded = ~inputs["bool_masked_pos"] & inputs["bool_decoded_pos"]
    assert visible_and_decoded.any()
    outputs = model(videos(model.config), **inputs)
    changed = outputs.logits.clone()
    changed[visible_and_decoded[inputs["bool_decoded_pos"]].view(BATCH, 16)] += 100.0
    ids = mask_to_ids(inputs["bool_decoded_pos"], 16)
    loss = model.forward_loss(videos(model.config), changed, inputs["bool_masked_pos"], ids)
    assert loss.item() == outputs.loss.item()


def test_the_encoder_does_not_see_hidden_pixels():
    model = build(**V2)
    inputs, pixel_values = masks(model.config), videos(model.config)
    hidden = unpatchify(inputs["bool_masked_pos"][:, :, None].expand(-1, -1, 384), model.config.grid_size, 2, (8, 8))
    first, second = (model(video, **inputs).logits for video in (pixel_values, pixel_values.masked_fill(hidden, 9.0)))
    assert torch.equal(first, second)


@pytest.mark.parametrize("model_class", [VideoMAEV2Model, VideoMAEV2ForPreTraining, VideoMAEV2ForVideoClassification])
def test_hidden_states_attentions_and_tuples(model_class):
    model = build(model_class)
    tokens, inputs = 32, {}
    if model_class is VideoMAEV2ForPreTraining:
        tokens, inputs = 4, masks(model.config)
    inputs["pixel_values"] = videos(model.config)
    outputs = model(**inputs, output_hidden_states=True, output_attentions=True)
    assert [tuple(states.shape) for states in outputs.hidden_states] == [(BATCH, tokens, 24)] * 3
    assert [tuple(weights.shape) for weights in outputs.attentions] == [(BATCH, 3, tokens, tokens)] * 2
    for weights in outputs.attentions:
        torch.testing.assert_close(weights.sum(-1), torch.ones(BATCH, 3, tokens))
    as_tuple = model(**inputs, return_dict=False)
    assert isinstance(as_tuple, tuple)
    plain = model(**inputs).to_tuple()
    assert len(as_tuple) == len(plain) and all(map(torch.equal, as_tuple, plain))


@pytest.mark.parametrize("shape", [(2, 6, 3, 32, 32), (2, 4, 1, 32, 32), (2, 4, 3, 32, 40), (2, 3, 4, 32, 32)])
def test_pixel_values_of_another_shape_are_refused(shape):
    with pytest.raises(ValueError, match=r"num_channels, height, width\) = \(batch, 4, 3, 32, 32\)"):
        build(VideoMAEV2Model)(torch.zeros(shape))


# masks


@pytest.mark.parametrize("fields", [V1, V2], ids=["v1", "v2"])
def test_ids_are_another_form_of_masks(fields):
    model = build(**fields)
    given = masks(model.config)
    ids = {
        "visible_ids": mask_to_ids(~given["bool_masked_pos"], 4),
        "decoded_ids": mask_to_ids(given["bool_decoded_pos"], given["bool_decoded_pos"][0].sum()),
    }
    with_masks, with_ids = (model(videos(model.config), **inputs) for inputs in (given, ids))
    assert with_masks.loss == with_ids.loss
    assert torch.equal(with_masks.logits, with_ids.logits)
    for name in given:
        assert torch.equal(with_ids[name], given[name]) and torch.equal(with_masks[name], given[name])


@pytest.mark.parametrize("fields", [V1, V2, {**V2, "mask_type": "random"}], ids=str)
def test_seed_and_generator_repeat_the_draw(fields, generator):
    model = build(**fields)
    pixel_values = videos(model.config)
    first, again, other = (model(pixel_values, seed=seed) for seed in (0, 0, 1))
    from_generator = model(pixel_values, generator=generator)  # its seed is 0
    masked, decoded = sample_masks(model.config, BATCH, torch.Generator().manual_seed(0))
    for outputs in (first, again, from_generator):
        assert torch.equal(outputs.bool_masked_pos, masked) and torch.equal(outputs.bool_decoded_pos, decoded)
        assert outputs.loss == first.loss
    assert not torch.equal(other.bool_masked_pos, masked)


def test_masks_of_other_counts_than_the_configuration_says():
    model = build(**V1)
    masked = torch.arange(32) % 2 == torch.tensor([[0], [1]])  # 16 of 32 tokens; the configuration says 28
    outputs = model(videos(model.config), bool_masked_pos=masked)
    assert outputs.logits.shape == (BATCH, 16, 384)
    assert torch.equal(outputs.bool_decoded_pos, masked)


def test_integer_masks_are_taken_as_bool():
    model = build(**V2)
    given = masks(model.config)
    plain = model(videos(model.config), **given).loss
    assert model(videos(model.config), **{name: mask.long() for name, mask in given.items()}).loss == plain


def ragged(mask):
    mask = mask.clone()
    mask[0, mask[0].nonzero()[0]] = False
    return mask


MASK_FAULTS = {
    "ragged bool_masked_pos": lambda masked, decoded: (ragged(masked), decoded),
    "ragged bool_decoded_pos": lambda masked, decoded: (masked, ragged(decoded)),
    "short bool_masked_pos": lambda masked, decoded: (masked[:, :-1], None),
    "long bool_decoded_pos": lambda masked, decoded: (masked, torch.cat([decoded, decoded], dim=1)[:, :33]),
    "bool_masked_pos without a batch": lambda masked, decoded: (masked[0], None),
    "bool_masked_pos of one video for two": lambda masked, decoded: (masked[:1], None),
    "bool_decoded_pos of one video for two": lambda masked, decoded: (masked, decoded[:1]),
    "bool_masked_pos of three videos for two": lambda masked, decoded: (masked[[0, 1, 1]], None),
    "nothing visible in bool_masked_pos": lambda masked, decoded: (torch.ones_like(masked), decoded),
    "nothing hidden in bool_masked_pos": lambda masked, decoded: (torch.zeros_like(masked), None),
    "nothing in bool_decoded_pos": lambda masked, decoded: (masked, torch.zeros_like(decoded)),
    "nothing hidden in bool_decoded_pos": lambda masked, decoded: (masked, ~masked),
}


@pytest.mark.parametrize("fault", MASK_FAULTS)
def test_wrong_masks_are_refused_by_name(fault):
    model = build(**V1)
    masked, decoded = MASK_FAULTS[fault](*masks(model.config).values())
    with pytest.raises(ValueError, match="bool_decoded_pos" if "bool_decoded_pos" in fault else "bool_masked_pos"):
        model(videos(model.config), bool_masked_pos=masked, bool_decoded_pos=decoded)


def test_one_video_is_not_stretched_to_the_rows_of_a_mask():
    model = build(**V1)
    with pytest.raises(ValueError, match="bool_masked_pos"):
        model(videos(model.config, batch=1), bool_masked_pos=masks(model.config)["bool_masked_pos"])


def test_frame_masks_never_leave_a_step_without_loss():
    """One of two slices is hidden and one decoded: half of all draws would have no token in the loss, which is NaN."""
    fields = {"mask_type": "frame", "mask_ratio": 0.5, "decoder_mask_type": "frame", "decoder_mask_ratio": 0.5}
    try:
        model = build(**fields)
        losses = [model(videos(model.config, batch=1), seed=seed).loss.item() for seed in range(6)]
    except ValueError as error:  # the other good answer
        assert "mask_ratio" in str(error) and "decoder_mask_ratio" in str(error)
    else:
        assert [loss for loss in losses if loss != loss] == []

"""Clips of uint8 pixels, which the models normalise themselves: the same results as of clips normalised before."""

import pytest
import torch
from helpers.shared import TINY, needs_dynamo
from helpers.tiny_models import BATCH, V1, V2, assert_same_step, build, masks, step
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_iter
from transformers import Trainer, TrainingArguments

from videomae_hf import (
    VideoMAEV2Config,
    VideoMAEV2ForPreTraining,
    VideoMAEV2ForVideoClassification,
    VideoMAEV2Model,
    unpatchify,
)
from videomae_hf.data.augmentation.transforms import normalize
from videomae_hf.models.masking import mask_to_ids


MODELS = [VideoMAEV2Model, VideoMAEV2ForPreTraining, VideoMAEV2ForVideoClassification]
# num_channels, and a mean and std of its own for each channel
CHANNELS = {
    1: {"num_channels": 1, "image_mean": (0.3,), "image_std": (0.2,)},
    3: {},
    4: {"num_channels": 4, "image_mean": (0.1, 0.4, 0.5, 0.7), "image_std": (0.1, 0.2, 0.3, 0.4)},
}


def pixels(config, *leading: int) -> torch.Tensor:
    """uint8 (*leading, T, C, H, W), with 0 and 255 among them."""
    shape = (*(leading or (BATCH,)), config.num_frames, config.num_channels, *config.image_hw)
    return torch.randint(0, 256, shape, dtype=torch.uint8, generator=torch.Generator().manual_seed(3))


def both(config, *leading: int) -> tuple[torch.Tensor, torch.Tensor]:
    """The same pixels as uint8 and as the floats that the model took before."""
    clips = pixels(config, *leading)
    return clips, normalize(clips, config.image_mean, config.image_std)


def token_ids(config) -> dict[str, torch.Tensor]:
    given = masks(config)
    decoded = given["bool_decoded_pos"]
    return {
        "visible_ids": mask_to_ids(~given["bool_masked_pos"], 4),
        "decoded_ids": mask_to_ids(decoded, int(decoded[0].sum())),
    }


# equal to normalised floats


@pytest.mark.parametrize("channels", CHANNELS)
@pytest.mark.parametrize("masked", [False, True])
def test_encoder(channels, masked):
    model = build(VideoMAEV2Model, **CHANNELS[channels])
    inputs = {"visible_ids": token_ids(model.config)["visible_ids"]} if masked else {}
    ours, theirs = (model(clips, **inputs).last_hidden_state for clips in both(model.config))
    assert ours.shape == (BATCH, 4 if masked else 32, 24) and ours.dtype == torch.float32
    torch.testing.assert_close(ours, theirs, rtol=0, atol=1e-5)


def test_the_projection_by_hand():
    """One patch of two channels: (255 / 255 - 0.5) / 0.25 = 2 and (51 / 255 - 0.1) / 0.5 = 0.2."""
    config = VideoMAEV2Config(
        **{**TINY, "image_size": 8, "num_frames": 2, "num_channels": 2},
        image_mean=(0.5, 0.1),
        image_std=(0.25, 0.5),
        decoder_mask_ratio=0.0,
    )
    embeddings = VideoMAEV2Model(config).embeddings.patch_embeddings
    with torch.no_grad():
        embeddings.projection.weight.zero_()[:, :, 1, 2, 3] = torch.tensor([1.0, 10.0])
        embeddings.projection.bias.fill_(7.0)
    clip = torch.zeros(1, 2, 2, 8, 8, dtype=torch.uint8)
    clip[0, 1, :, 2, 3] = torch.tensor([255, 51])
    expected = torch.full((1, 1, 24), 7.0 + 2.0 + 10.0 * 0.2)
    torch.testing.assert_close(embeddings(clip), expected, rtol=0, atol=1e-5)


@pytest.mark.parametrize("fields", [V1, V2], ids=["v1", "v2"])
@pytest.mark.parametrize("norm_pix_loss", [True, False])
@pytest.mark.parametrize("channels", CHANNELS)
def test_pretraining_step(fields, norm_pix_loss, channels):
    model = build(**fields, **CHANNELS[channels], norm_pix_loss=norm_pix_loss)
    given = masks(model.config)
    ours, theirs = both(model.config)
    torch.testing.assert_close(model(ours, **given).logits, model(theirs, **given).logits, rtol=0, atol=1e-5)
    first, second = (step(model, pixel_values=clips, **given) for clips in (ours, theirs))
    assert_same_step(first, second)
    assert all(gradient.any() for gradient in first[1].values())


def test_drawn_masks_are_those_of_floats():
    model = build(**V2)
    ours, theirs = (model(clips, seed=5) for clips in both(model.config))
    assert torch.equal(ours.bool_masked_pos, theirs.bool_masked_pos)
    torch.testing.assert_close(ours.loss, theirs.loss, rtol=0, atol=1e-6)


@pytest.mark.parametrize("norm_pix_loss", [True, False])
def test_targets_are_pixels_over_255(norm_pix_loss):
    model = build(norm_pix_loss=norm_pix_loss, **CHANNELS[4])
    clips = pixels(model.config)
    clips[0, :2, :, :8, :8] = 200  # a flat patch: its targets are exactly 0 where patches are normalised
    targets = model.reconstruction_targets(clips)
    assert targets.shape == (BATCH, 32, 2 * 8 * 8 * 4) and targets.dtype == torch.float32
    scaled = clips.double() / 255
    if not norm_pix_loss:
        found = unpatchify(targets, model.config.grid_size, 2, (8, 8))
        torch.testing.assert_close(found.double(), scaled, rtol=0, atol=1e-7)
        return
    assert not targets[0, 0].any()
    last = scaled[1, 2:, :, 24:, 24:].permute(0, 2, 3, 1).flatten(0, 2)  # (t, C, h, w) -> (t * h * w, C)
    expected = (last - last.mean(0)) / (last.std(0) + 1e-6)
    torch.testing.assert_close(targets[1, 31].unflatten(0, (-1, 4)).double(), expected, rtol=0, atol=1e-5)


def test_epsilon_of_the_targets_is_that_of_pixels_over_255():
    """A patch of 100 and 101 has a deviation of 0.00196, to which 1e-6 adds one part in 1957."""
    model = build()
    clips = torch.full((1, 4, 3, 32, 32), 100, dtype=torch.uint8)
    clips[..., ::2] = 101  # every other column: 64 of the 128 pixels of a patch
    deviation = 0.5 / 255 * (128 / 127) ** 0.5
    value = 0.5 / 255 / (deviation + 1e-6)
    targets = model.reconstruction_targets(clips, torch.tensor([[0]]))
    torch.testing.assert_close(targets.abs(), torch.full((1, 1, 384), value), rtol=0, atol=1e-6)
    assert abs(value - 0.5 / 255 / deviation) > 1e-4


@pytest.mark.parametrize("channels", CHANNELS)
@pytest.mark.parametrize("views", [None, 3])
def test_classification_step(channels, views):
    model = build(VideoMAEV2ForVideoClassification, num_labels=5, **CHANNELS[channels])
    ours, theirs = both(model.config, BATCH, *([views] if views else []))
    first, second = (step(model, pixel_values=clips, labels=torch.tensor([0, 4])) for clips in (ours, theirs))
    assert_same_step(first, second)
    torch.testing.assert_close(model(ours).logits, model(theirs).logits, rtol=0, atol=1e-5)


@pytest.mark.parametrize("model_class", [VideoMAEV2Model, VideoMAEV2ForVideoClassification])
def test_interpolated_positions(model_class):
    model = build(model_class)
    clips = torch.randint(0, 256, (BATCH, 6, 3, 40, 24), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    floats = normalize(clips, model.config.image_mean, model.config.image_std)
    ours, theirs = (model(given, interpolate_pos_encoding=True)[0] for given in (clips, floats))
    torch.testing.assert_close(ours, theirs, rtol=0, atol=1e-5)


@pytest.mark.parametrize("autocast", [False, True])
@pytest.mark.parametrize("model_class", MODELS)
def test_bfloat16(model_class, autocast):
    """Normalised in float32 and rounded once; the outputs have the dtype that floats give."""
    model = build(model_class)
    model = model if autocast else model.to(torch.bfloat16)
    inputs = masks(model.config) if model_class is VideoMAEV2ForPreTraining else {}
    with torch.autocast("cpu", dtype=torch.bfloat16, enabled=autocast):
        ours, theirs = (model(clips, **inputs) for clips in both(model.config))
    name = "last_hidden_state" if model_class is VideoMAEV2Model else "logits"
    assert ours[name].dtype == theirs[name].dtype
    if not autocast:
        assert ours[name].dtype == torch.bfloat16
    assert torch.equal(ours[name], theirs[name])
    if model_class is VideoMAEV2ForPreTraining:
        assert ours.loss.dtype == torch.float32
        torch.testing.assert_close(ours.loss, theirs.loss, rtol=0, atol=1e-6)


def test_hidden_states_are_floats():
    model = build(VideoMAEV2Model).to(torch.bfloat16)
    states = model(pixels(model.config), output_hidden_states=True).hidden_states
    assert [state.dtype for state in states] == [torch.bfloat16] * 3


# what is refused


@pytest.mark.parametrize("dtype", [torch.int64, torch.int32, torch.int8, torch.bool])
@pytest.mark.parametrize("model_class", MODELS)
def test_other_dtypes_are_refused(model_class, dtype):
    model = build(model_class)
    with pytest.raises(ValueError, match=f"dtype {dtype}: pass uint8 pixels .* or floats normalised"):
        model(pixels(model.config).to(dtype))


def test_targets_of_other_dtypes_are_refused():
    model = build()
    with pytest.raises(ValueError, match="pixel_values of dtype torch.int64"):
        model.reconstruction_targets(pixels(model.config).long())


def test_uint8_of_another_shape_is_refused():
    with pytest.raises(ValueError, match=r"num_channels, height, width\) = \(batch, 4, 3, 32, 32\)"):
        build(VideoMAEV2Model)(torch.zeros(2, 4, 3, 32, 40, dtype=torch.uint8))


# compiled, and without waiting for the device


SHALLOW = {"num_hidden_layers": 1, "decoder_num_hidden_layers": 1}  # compiling takes a second a layer


def compiled_step(model, **inputs):
    torch.compiler.reset()
    loss, gradients = step(torch.compile(model, fullgraph=True, backend="aot_eager"), **inputs)
    return loss, {name.removeprefix("_orig_mod."): gradient for name, gradient in gradients.items()}


@needs_dynamo
@pytest.mark.parametrize("norm_pix_loss", [True, False])
def test_compiled_pretraining_has_no_graph_break(norm_pix_loss):
    model = build(**V2, **SHALLOW, norm_pix_loss=norm_pix_loss)
    inputs = {"pixel_values": pixels(model.config), **token_ids(model.config)}
    assert_same_step(compiled_step(model, **inputs), step(model, **inputs))


@needs_dynamo
def test_compiled_classifier_has_no_graph_break():
    model = build(VideoMAEV2ForVideoClassification, **SHALLOW, num_labels=5)
    inputs = {"pixel_values": pixels(model.config), "labels": torch.tensor([0, 4])}
    assert_same_step(compiled_step(model, **inputs), step(model, **inputs))


class OnlyOnMeta(TorchDispatchMode):
    """Counts operators, and lists those that touch a tensor of the host."""

    def __init__(self):
        super().__init__()
        self.count, self.on_host = 0, []

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        result = func(*args, **(kwargs or {}))
        self.count += 1
        tensors = [value for value in tree_iter((args, kwargs, result)) if isinstance(value, torch.Tensor)]
        if any(tensor.device.type != "meta" for tensor in tensors):
            self.on_host.append(str(func))
        return result


@pytest.mark.parametrize("model_class", MODELS)
def test_nothing_is_read_from_the_device_or_copied_to_it(model_class):
    """On the meta device, which holds no values, `.item()` fails; a constant made on the host would be seen."""
    model = build(model_class).to("meta")
    inputs = {"pixel_values": pixels(model.config).to("meta")}
    if model_class is VideoMAEV2ForPreTraining:
        inputs |= {name: ids.to("meta") for name, ids in token_ids(model.config).items()}
    with OnlyOnMeta() as mode:
        model(**inputs)
    assert mode.count > 50 and mode.on_host == []


class Floats(TorchDispatchMode):
    """The largest float tensor that an operator makes."""

    largest = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        result = func(*args, **(kwargs or {}))
        made = [value for value in tree_iter(result) if isinstance(value, torch.Tensor) and value.is_floating_point()]
        self.largest = max([self.largest, *(tensor.numel() for tensor in made)])
        return result


def test_only_the_decoded_patches_become_floats():
    """16 of 32 tokens are decoded (and 4 seen): no float tensor is larger than their pixels."""
    model = build(**V2)
    with Floats() as mode, torch.no_grad():
        model(pixels(model.config), **token_ids(model.config))
    assert mode.largest == BATCH * 16 * 384 == pixels(model.config).numel() // 2


# the Trainer


@pytest.mark.filterwarnings("ignore:`gradient_checkpointing_enable` is deprecated")
@pytest.mark.parametrize("bf16", [False, True])
@pytest.mark.parametrize("model_class", [VideoMAEV2ForPreTraining, VideoMAEV2ForVideoClassification])
def test_trainer_with_recomputation(tmp_path, model_class, bf16):
    losses = []
    for index in range(2):
        model = build(model_class, num_labels=2)
        model.gradient_checkpointing_enable()
        clips = both(model.config)[index]
        if model_class is VideoMAEV2ForPreTraining:
            ids = token_ids(model.config)
            targets = [{name: value[video] for name, value in ids.items()} for video in range(BATCH)]
        else:
            targets = [{"labels": video} for video in range(BATCH)]
        data = [{"pixel_values": clip, **target} for clip, target in zip(clips, targets)]
        args = TrainingArguments(
            **{"output_dir": str(tmp_path), "max_steps": 2, "learning_rate": 1e-3, "use_cpu": True, "bf16": bf16},
            **{"logging_steps": 1, "save_strategy": "no", "report_to": [], "disable_tqdm": True},
        )
        trainer = Trainer(model=model, args=args, train_dataset=data)
        trainer.train()
        losses.append([entry["loss"] for entry in trainer.state.log_history if "loss" in entry])
    assert len(losses[0]) == 2 and losses[0][0] != losses[0][1]
    assert losses[0] == pytest.approx(losses[1], abs=1e-4)

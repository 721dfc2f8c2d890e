"""Saving and loading: what comes back, what is refused, what is said. Checkpoints of transformers: test_parity.py."""

import logging

import pytest
import torch
from helpers.shared import TINY
from helpers.tiny_models import build, masks, videos
from safetensors.torch import load_file, save_file
from transformers import (
    AutoConfig,
    AutoModel,
    AutoModelForPreTraining,
    AutoModelForVideoClassification,
)

from videomae_hf import (
    VideoMAEV2Config,
    VideoMAEV2ForPreTraining,
    VideoMAEV2ForVideoClassification,
    VideoMAEV2Model,
)


ALL_MODELS = [VideoMAEV2Model, VideoMAEV2ForPreTraining, VideoMAEV2ForVideoClassification]
QUERY = "videomae.encoder.layer.1.attention.attention.query.weight"


def inputs_of(model):
    """Pixels; for pretraining masks too, which would be drawn otherwise."""
    given = masks(model.config) if isinstance(model, VideoMAEV2ForPreTraining) else {}
    return {"pixel_values": videos(model.config), **given}


def edit_checkpoint(folder, edit):
    """Lets `edit` change the dictionary of weights on disk."""
    weights = load_file(folder / "model.safetensors")
    edit(weights)
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})


@pytest.fixture
def pretrained(tmp_path):
    build(use_mean_pooling=None).save_pretrained(tmp_path)
    return tmp_path


@pytest.fixture
def said():
    """What this package and transformers log at level warning or above."""
    records = []
    handler = logging.Handler(logging.WARNING)
    handler.emit = lambda record: records.append(f"{record.name}: {record.getMessage()}")
    loggers = [logging.getLogger(name) for name in ("videomae_hf", "transformers")]
    for logger in loggers:
        logger.addHandler(handler)
    yield records
    for logger in loggers:
        logger.removeHandler(handler)


# round trips


@pytest.mark.parametrize("model_class", ALL_MODELS)
@pytest.mark.parametrize(
    "fields",
    [
        {},
        {"position_embedding_type": "learned", "layer_scale_init_value": 0.1, "use_cosine_attention": True},
        {"use_mean_pooling": None, "decoder_mask_ratio": 0.5, "image_size": (32, 64)},
    ],
    ids=str,
)
def test_round_trip_is_bit_equal(model_class, fields, tmp_path, said):
    model = build(model_class, **fields)
    model.save_pretrained(tmp_path)
    loaded = model_class.from_pretrained(tmp_path)
    assert said == [] and not loaded.training
    assert loaded.config.image_hw == model.config.image_hw
    tensors, others = ({**dict(m.named_parameters()), **dict(m.named_buffers())} for m in (model, loaded))
    assert list(tensors) == list(others)
    assert [name for name in tensors if not torch.equal(tensors[name], others[name])] == []
    assert torch.equal(model(**inputs_of(model))[0], loaded(**inputs_of(model))[0])


def test_position_tables_survive_the_build_on_the_meta_device(pretrained):
    """They are in no file, and transformers replaces such buffers by uninitialised memory."""
    model = VideoMAEV2ForPreTraining.from_pretrained(pretrained)
    fresh = VideoMAEV2ForPreTraining(model.config)
    assert [name for name in load_file(pretrained / "model.safetensors") if "position" in name] == []
    for path in ("position_embeddings", "videomae.embeddings.position_embeddings"):
        table, expected = model.get_buffer(path), fresh.get_buffer(path)
        assert table.device.type == "cpu" and torch.equal(table, expected)
        assert table[0, 0, :4].tolist() == [0.0, 1.0, 0.0, 1.0]


def test_names_on_disk_are_those_in_memory(pretrained):
    names = set(load_file(pretrained / "model.safetensors"))
    assert names == set(dict(build(use_mean_pooling=None).named_parameters()))
    assert "videomae.encoder.layer.0.attention.attention.query.bias" in names
    assert "decoder.decoder_layers.1.attention.attention.value.bias" in names
    assert [name for name in names if "q_bias" in name or "v_bias" in name] == []


def test_loading_in_bfloat16(pretrained):
    model = VideoMAEV2ForPreTraining.from_pretrained(pretrained, dtype=torch.bfloat16)
    assert {parameter.dtype for parameter in model.parameters()} == {torch.bfloat16}
    expected = build(use_mean_pooling=None)(**inputs_of(model)).loss.item()
    inputs = inputs_of(model)
    inputs["pixel_values"] = inputs["pixel_values"].bfloat16()
    assert model(**inputs).loss.item() == pytest.approx(expected, rel=0.02)


def test_auto_classes(tmp_path):
    for model_class, auto in zip(ALL_MODELS, [AutoModel, AutoModelForPreTraining, AutoModelForVideoClassification]):
        build(model_class).save_pretrained(tmp_path)
        assert type(AutoConfig.from_pretrained(tmp_path)) is VideoMAEV2Config
        assert type(auto.from_pretrained(tmp_path)) is model_class
        assert type(auto.from_config(VideoMAEV2Config(**TINY))) is model_class


# from one model to another


def test_pretraining_to_classification(pretrained, said):
    """Encoder as it was, the final norm left out as officially, the decoder dropped, one line about it."""
    model = VideoMAEV2ForVideoClassification.from_pretrained(pretrained, num_labels=3)
    weights = load_file(pretrained / "model.safetensors")
    encoder = {name: value for name, value in model.state_dict().items() if name.startswith("videomae.")}
    assert len(encoder) == 32
    assert [name for name, value in encoder.items() if not torch.equal(value, weights[name])] == []
    assert model.config.use_mean_pooling is True and model.classifier.weight.shape == (3, 24)
    assert said == [
        f"videomae_hf.models.loading: VideoMAEV2ForVideoClassification from {pretrained}: "
        "new, untrained: classifier, fc_norm; left out: decoder, encoder_to_decoder, layernorm, mask_token"
    ]
    assert torch.equal(model.fc_norm.weight, torch.ones(24)) and not model.fc_norm.bias.any()
    assert model.classifier.weight.any() and model.classifier.weight.isfinite().all()


def test_pretraining_to_the_bare_encoder(pretrained, said):
    model, whole = VideoMAEV2Model.from_pretrained(pretrained), build(use_mean_pooling=None)
    assert torch.equal(model(**inputs_of(model))[0], whole.videomae(**inputs_of(model))[0])
    assert len(said) == 1 and said[0].endswith(f"{pretrained}: left out: decoder, encoder_to_decoder, mask_token")


def test_an_encoder_alone_gets_a_new_decoder(tmp_path, said):
    """So the published V2 checkpoints come, without their decoder."""
    fields = {"use_mean_pooling": None, "use_cosine_attention": True, "layer_scale_init_value": 0.25}
    encoder = build(VideoMAEV2Model, **fields)
    encoder.save_pretrained(tmp_path)
    model = VideoMAEV2ForPreTraining.from_pretrained(tmp_path)
    for layer in model.decoder.decoder_layers:
        assert layer.attention.attention.scale.flatten().tolist() == pytest.approx([2.302585, 2.302585])  # log(10)
        assert layer.lambda_1.tolist() == layer.lambda_2.tolist() == [0.25] * 16
    assert torch.equal(model.videomae(**inputs_of(encoder))[0], encoder(**inputs_of(encoder))[0])
    assert model(**inputs_of(model)).loss.isfinite()
    assert len(said) == 1 and said[0].endswith("new, untrained: decoder, encoder_to_decoder, mask_token")


def test_classes_of_another_number_need_leave(tmp_path):
    build(VideoMAEV2ForVideoClassification, num_labels=5).save_pretrained(tmp_path)
    with pytest.raises(ValueError, match=r"classifier.weight has shape \(5, 24\) where the model has \(7, 24\)"):
        VideoMAEV2ForVideoClassification.from_pretrained(tmp_path, num_labels=7)
    model = VideoMAEV2ForVideoClassification.from_pretrained(tmp_path, num_labels=7, ignore_mismatched_sizes=True)
    assert model(**inputs_of(model)).logits.shape == (2, 7)


# what strict loading refuses


def mis_shape(weights):
    weights[QUERY] = torch.zeros(24, 23)


BROKEN = {
    "missing": (lambda weights: weights.pop(QUERY), f"missing {QUERY}"),
    "of another shape": (mis_shape, f"{QUERY} has shape (24, 23) where the model has (24, 24)"),
    "unknown": (
        lambda weights: weights.update({"videomae.encoder.layer.2.output.dense.bias": torch.zeros(24)}),
        "unexpected videomae.encoder.layer.2.output.dense.bias",
    ),
    "unknown, outside the encoder": (
        lambda weights: weights.update({"teacher.weight": torch.zeros(24)}),
        "unexpected teacher.weight",
    ),
}


@pytest.mark.parametrize("model_class", ALL_MODELS)
@pytest.mark.parametrize("fault", BROKEN)
def test_strict_loading_names_the_weight_at_fault(fault, model_class, pretrained, said):
    edit, message = BROKEN[fault]
    edit_checkpoint(pretrained, edit)
    with pytest.raises(ValueError) as error:
        model_class.from_pretrained(pretrained)
    assert message.replace("videomae.", "") in str(error.value).replace("videomae.", "")
    assert str(pretrained) in str(error.value) and model_class.__name__ in str(error.value)
    assert said == []  # the error says it all


def test_the_final_norm_may_lack_only_where_the_mean_is_pooled(pretrained):
    edit_checkpoint(pretrained, lambda weights: weights.pop("videomae.layernorm.bias"))
    with pytest.raises(ValueError, match="missing videomae.layernorm.bias"):
        VideoMAEV2ForPreTraining.from_pretrained(pretrained)
    with pytest.raises(ValueError, match="missing videomae.layernorm.bias"):
        VideoMAEV2ForVideoClassification.from_pretrained(pretrained, use_mean_pooling=False)
    assert VideoMAEV2ForVideoClassification.from_pretrained(pretrained).videomae.layernorm is None


@pytest.mark.parametrize("fault", BROKEN)
def test_without_strict_transformers_decides(fault, pretrained):
    edit_checkpoint(pretrained, BROKEN[fault][0])
    options = {"ignore_mismatched_sizes": True} if fault == "of another shape" else {}
    model = VideoMAEV2ForPreTraining.from_pretrained(pretrained, strict=False, **options)
    assert model(**inputs_of(model)).loss.isfinite()


@pytest.mark.parametrize(
    "fields, named",
    [
        ({"hidden_size": 48}, "has shape (24, 3, 2, 8, 8) where the model has (48, 3, 2, 8, 8)"),
        ({"patch_size": 16}, "has shape (24, 3, 2, 8, 8) where the model has (24, 3, 2, 16, 16)"),
        ({"num_hidden_layers": 1}, "unexpected videomae.encoder.layer.1."),
        ({"num_hidden_layers": 3}, "missing videomae.encoder.layer.2."),
        ({"decoder_hidden_size": 32}, "decoder.decoder_layers.0.attention.attention.key.weight has shape (16, 16)"),
        ({"qv_bias": False}, "unexpected videomae.encoder.layer.0.attention.attention.query.bias"),
    ],
    ids=str,
)
def test_a_checkpoint_of_another_size_is_refused(fields, named, pretrained):
    with pytest.raises(ValueError, match="another size or model") as error:
        VideoMAEV2ForPreTraining.from_pretrained(pretrained, **fields)
    assert named in str(error.value)


def test_loading_info_is_returned_on_request(pretrained):
    model, info = VideoMAEV2ForPreTraining.from_pretrained(pretrained, output_loading_info=True)
    assert isinstance(model, VideoMAEV2ForPreTraining)
    assert not info["missing_keys"] and not info["unexpected_keys"]


def test_fields_that_do_not_fit_are_refused_before_the_weights(pretrained):
    with pytest.raises(ValueError, match="num_frames=7 is not divisible by tubelet_size=2"):
        VideoMAEV2ForPreTraining.from_pretrained(pretrained, num_frames=7)


def test_more_frames_need_no_other_weights(pretrained):
    model = VideoMAEV2ForPreTraining.from_pretrained(pretrained, num_frames=8)
    assert model(**inputs_of(model)).logits.shape == (2, 56, 384)
    assert torch.equal(model.position_embeddings[:, :32], build(use_mean_pooling=None).position_embeddings)


def test_weights_alone_with_a_configuration_of_ones_own(tmp_path):
    model = build(VideoMAEV2ForVideoClassification)
    model.save_pretrained(tmp_path)
    (tmp_path / "config.json").unlink()
    loaded = VideoMAEV2ForVideoClassification.from_pretrained(tmp_path, config=model.config)
    assert torch.equal(loaded.classifier.weight, model.classifier.weight)

"""The configuration: transformers' fields, refused combinations, the official sizes, files."""

import json

import pytest
import torch
from helpers.shared import TINY
from transformers import AutoConfig, VideoMAEConfig

from videomae_hf import VideoMAEV2Config, VideoMAEV2ForPreTraining, VideoMAEV2ForVideoClassification, sample_masks


TRANSFORMERS_FIELDS = list(VideoMAEConfig.__annotations__)
QV_BIAS = "qv_bias" if "qv_bias" in TRANSFORMERS_FIELDS else "qkv_bias"  # before 5.18


def test_the_list_of_transformers_fields_is_not_empty():
    assert len(TRANSFORMERS_FIELDS) >= 21 and "decoder_hidden_size" in TRANSFORMERS_FIELDS


@pytest.mark.parametrize("name", TRANSFORMERS_FIELDS)
def test_field_and_default_of_transformers(name):
    assert getattr(VideoMAEV2Config(), name) == getattr(VideoMAEConfig(), name)


def test_own_defaults():
    config = VideoMAEV2Config()
    own = {name: getattr(config, name) for name in VideoMAEV2Config.__annotations__ if name not in TRANSFORMERS_FIELDS}
    own.pop("qv_bias", None)  # another name in transformers before 5.18
    assert own == {
        "mask_ratio": 0.9,
        "mask_type": "tube",
        "tube_length": None,
        "decoder_mask_ratio": 0.0,
        "decoder_mask_type": "running_cell",
        "drop_path_rate": 0.0,
        "layer_scale_init_value": 0.0,
        "use_cosine_attention": False,
        "position_embedding_type": "sinusoidal",
        "position_grid": None,
        "decoder_position_embedding_type": None,
        "use_cls_token": False,
        "decoder_type": "full",
        "decoder_mixed_layers": 0,
        "decoder_embed_bias": False,
        "target_pixels": "unit",
        "classifier_dropout": 0.0,
        "classifier_num_hidden_layers": 0,
        "classifier_hidden_size": 512,
        "classifier_num_attention_heads": 4,
        "reconstruction_weight": 0.0,
        "image_mean": (0.485, 0.456, 0.406),
        "image_std": (0.229, 0.224, 0.225),
        "head_layer_norm_eps": None,
        "target_mean": None,
        "target_std": None,
        "label_mappings": None,
    }
    assert config.model_type == "videomae_v2"


def test_legacy_name_of_the_bias_field():
    assert VideoMAEV2Config(qkv_bias=False).qv_bias is False


@pytest.mark.parametrize("num_channels", [1, 4])
def test_image_mean_of_other_channel_counts_undoes_nothing(num_channels):
    config = VideoMAEV2Config(num_channels=num_channels)
    assert config.image_mean == (0.0,) * num_channels
    assert config.image_std == (1.0,) * num_channels


RUNNING_CELL = {"decoder_mask_ratio": 0.5, "decoder_mask_type": "running_cell"}
INVALID = [
    # fields, what the message must name
    ({"num_frames": 7}, ["num_frames=7", "tubelet_size=2"]),
    ({"num_frames": 16, "tubelet_size": 3}, ["num_frames=16", "tubelet_size=3"]),
    ({"num_frames": 0}, ["num_frames=0"]),
    ({"tubelet_size": 0}, ["tubelet_size=0"]),
    ({"num_channels": 0}, ["num_channels=0"]),
    ({"num_hidden_layers": 0}, ["num_hidden_layers=0"]),
    ({"decoder_num_hidden_layers": 0}, ["decoder_num_hidden_layers=0"]),
    ({"image_size": 225}, ["image_size=225", "patch_size=16"]),
    ({"image_size": (224, 225)}, ["image_size=(224, 225)", "patch_size=16"]),
    ({"image_size": 224, "patch_size": (16, 15)}, ["image_size=224", "patch_size=(16, 15)"]),
    ({"image_size": 0}, ["image_size=0"]),
    ({"image_size": [32, 32, 32]}, ["image_size", "[32, 32, 32]"]),
    ({"patch_size": [16, 16, 16]}, ["patch_size", "[16, 16, 16]"]),
    ({"hidden_size": 50, "num_attention_heads": 4}, ["hidden_size=50", "num_attention_heads=4"]),
    ({"num_attention_heads": 0}, ["hidden_size=768", "num_attention_heads=0"]),
    ({"mask_type": "tubes"}, ["mask_type='tubes'", "tube", "random", "frame"]),
    ({"decoder_mask_type": "tube"}, ["decoder_mask_type='tube'", "running_cell", "random", "frame"]),
    ({"position_embedding_type": "fixed"}, ["position_embedding_type='fixed'", "sinusoidal", "learned"]),
    ({"image_mean": (0.5,)}, ["image_mean=(0.5,)", "num_channels=3"]),
    ({"image_std": (0.5, 0.5)}, ["image_std=(0.5, 0.5)", "num_channels=3"]),
    ({"num_channels": 1, "image_mean": (0.5, 0.5, 0.5)}, ["image_mean=(0.5, 0.5, 0.5)", "num_channels=1"]),
]
RATIOS = (
    "mask_ratio", "decoder_mask_ratio", "drop_path_rate", "classifier_dropout", "hidden_dropout_prob",
    "attention_probs_dropout_prob",
)  # fmt: skip
INVALID += [({name: value}, [f"{name}={value}"]) for name in RATIOS for value in (-0.1, 1, 1.5)]


@pytest.mark.parametrize("fields, named", INVALID, ids=[str(fields) for fields, _ in INVALID])
def test_fields_that_do_not_fit_are_refused_by_name(fields, named):
    with pytest.raises(ValueError) as error:
        VideoMAEV2Config(**fields)
    assert [text for text in named if text not in str(error.value)] == []


IN_PRETRAINING = [
    (
        {"decoder_hidden_size": 50, "decoder_num_attention_heads": 4},
        ["decoder_hidden_size=50", "decoder_num_attention_heads=4"],
    ),
    ({**RUNNING_CELL, "image_size": 112}, ["decoder_mask_type", "image_size=112", "patch_size=16", "7x7"]),
    ({**RUNNING_CELL, "image_size": (112, 224)}, ["decoder_mask_type", "image_size=(112, 224)", "7x14"]),
    ({**RUNNING_CELL, "image_size": (224, 112)}, ["decoder_mask_type", "image_size=(224, 112)", "14x7"]),
    ({"decoder_mask_ratio": 0.2}, ["decoder_mask_ratio=0.2", "running_cell"]),
    ({"tube_length": 0}, ["tube_length=0"]),
    ({"tube_length": 3}, ["tube_length=3", "tubelet_size=2"]),
]


@pytest.mark.parametrize("fields, named", IN_PRETRAINING, ids=[str(fields) for fields, _ in IN_PRETRAINING])
def test_fields_of_the_decoder_and_the_masks_are_checked_where_they_are_used(fields, named):
    """A classifier of the same fields has neither."""
    config = VideoMAEV2Config(**fields)
    for use in (VideoMAEV2ForPreTraining, lambda config: sample_masks(config, 1)):
        with torch.device("meta"), pytest.raises(ValueError) as error:
            use(config)
        assert [text for text in named if text not in str(error.value)] == []
    with torch.device("meta"):
        assert VideoMAEV2ForVideoClassification(config).num_labels == 2


@pytest.mark.parametrize(
    "fields",
    [
        {"image_size": 112},  # an odd grid is fine without a running cell
        {"image_size": 112, "decoder_mask_ratio": 0.5, "decoder_mask_type": "random"},
        {"image_size": 112, "decoder_mask_ratio": 0.5, "decoder_mask_type": "frame"},
        {"tube_length": 2},
        {"drop_path_rate": 0},  # an int where a float is usual, as YAML reads it
    ],
)
def test_valid_neighbours_of_refused_fields(fields):
    config = VideoMAEV2Config(**fields)
    assert {name: getattr(config, name) for name in fields} == fields


def test_a_field_set_later_is_checked_when_a_model_is_built():
    config = VideoMAEV2Config(**TINY)
    config.num_frames = 5
    with pytest.raises(ValueError, match="num_frames=5 is not divisible by tubelet_size=2"):
        VideoMAEV2ForPreTraining(config)


@pytest.mark.parametrize(
    "fields, grid, length",
    [
        ({}, (8, 14, 14), 1568),
        ({"patch_size": 14}, (8, 16, 16), 2048),
        ({"num_frames": 32}, (16, 14, 14), 3136),
        ({"image_size": (96, 160), "num_frames": 8}, (4, 6, 10), 240),
        ({"image_size": [96, 160], "patch_size": [8, 16], "tubelet_size": 4}, (4, 12, 10), 480),
    ],
)
def test_grid_size(fields, grid, length):
    config = VideoMAEV2Config(**fields)
    assert config.grid_size == grid
    assert config.sequence_length == length


# official_behaviour.md 1.1: encoder width, depth, heads, MLP, patch | decoder width, depth, heads, MLP
SIZES = {
    ("small", 1): (384, 12, 6, 1536, 16, 192, 4, 3, 768),
    ("base", 1): (768, 12, 12, 3072, 16, 384, 4, 6, 1536),
    ("large", 1): (1024, 24, 16, 4096, 16, 512, 12, 8, 2048),
    ("huge", 1): (1280, 32, 16, 5120, 16, 640, 12, 8, 2560),
    ("small", 2): (384, 12, 6, 1536, 16, 192, 4, 3, 768),
    ("base", 2): (768, 12, 12, 3072, 16, 384, 4, 6, 1536),
    ("large", 2): (1024, 24, 16, 4096, 16, 512, 4, 8, 2048),
    ("huge", 2): (1280, 32, 16, 5120, 16, 512, 4, 8, 2048),
    ("giant", 2): (1408, 40, 16, 6144, 14, 512, 4, 8, 2234),
}


@pytest.mark.parametrize("size, version", SIZES)
def test_from_size(size, version):
    config = VideoMAEV2Config.from_size(size, version=version)
    assert SIZES[size, version] == (
        config.hidden_size,
        config.num_hidden_layers,
        config.num_attention_heads,
        config.intermediate_size,
        config.patch_size,
        config.decoder_hidden_size,
        config.decoder_num_hidden_layers,
        config.decoder_num_attention_heads,
        config.decoder_intermediate_size,
    )
    assert (config.image_size, config.num_frames, config.tubelet_size, config.mask_ratio) == (224, 16, 2, 0.9)
    assert (config.layer_norm_eps, config.head_layer_norm_eps, config.use_mean_pooling) == (1e-6, None, None)
    assert config.decoder_mask_ratio == {1: 0.0, 2: 0.5}[version]
    assert config.decoder_mask_type == "running_cell"


def test_from_size_takes_overrides_and_version_2_by_default():
    config = VideoMAEV2Config.from_size("small", hidden_size=48, num_labels=7)
    assert (config.hidden_size, config.num_labels, config.decoder_mask_ratio) == (48, 7, 0.5)


@pytest.mark.parametrize("size, version", [("giant", 1), ("tiny", 2), ("base", 3)])
def test_from_size_refuses_unknown_sizes(size, version):
    with pytest.raises(ValueError) as error:
        VideoMAEV2Config.from_size(size, version=version)
    assert f"size='{size}' with version={version}" in str(error.value)
    assert "small (version 1)" in str(error.value) and "giant (version 2)" in str(error.value)


@pytest.mark.parametrize(
    "size, version, encoder, pretraining, classifier",
    [
        ("small", 1, 21_879_936, 24_029_376, 22_033_936),
        ("base", 1, 86_227_200, 94_210_944, 86_534_800),
        ("large", 1, 303_860_736, 342_996_992, 304_270_736),
        ("huge", 1, 631_607_040, 692_487_296, 632_119_440),
        ("small", 2, 21_879_936, 24_029_376, 22_033_936),
        ("base", 2, 86_227_200, 94_210_944, 86_534_800),
        ("large", 2, 303_860_736, 317_782_016, 304_270_736),
        ("huge", 2, 631_607_040, 645_659_392, 632_119_440),
        ("giant", 2, 1_011_610_752, 1_026_306_560, 1_012_174_352),
    ],
)
def test_parameter_counts_are_the_official_ones(size, version, encoder, pretraining, classifier):
    """official_behaviour.md 1.1, counted there on the official models; the classifier has 400 classes."""
    config = VideoMAEV2Config.from_size(size, version=version, num_labels=400)
    with torch.device("meta"):
        model = VideoMAEV2ForPreTraining(config)
        assert count(model.videomae) == encoder
        assert count(model) == pretraining
        assert count(VideoMAEV2ForVideoClassification(config)) == classifier


def count(model):
    return sum(parameter.numel() for parameter in model.parameters())


def test_save_and_load(tmp_path):
    config = VideoMAEV2Config(
        **{**TINY, "image_size": (32, 48), "patch_size": (8, 16)},
        num_channels=1,
        image_mean=(0.25,),
        image_std=(0.5,),
        mask_ratio=0.75,
        tube_length=2,
        use_mean_pooling=None,
        head_layer_norm_eps=1e-5,
        num_labels=5,
    )
    config.save_pretrained(tmp_path)
    for loaded in (VideoMAEV2Config.from_pretrained(tmp_path), AutoConfig.from_pretrained(tmp_path)):
        assert type(loaded) is VideoMAEV2Config
        assert (loaded.image_mean, loaded.image_std) == ((0.25,), (0.5,))
        assert (loaded.image_hw, loaded.patch_hw, loaded.grid_size) == ((32, 48), (8, 16), (2, 4, 3))
        assert (loaded.use_mean_pooling, loaded.head_layer_norm_eps, loaded.num_labels) == (None, 1e-5, 5)
        assert loaded.to_json_string() == config.to_json_string()


def test_config_of_a_transformers_checkpoint(tmp_path):
    VideoMAEConfig(**TINY, **{QV_BIAS: False}, num_labels=3).save_pretrained(tmp_path)
    assert json.loads((tmp_path / "config.json").read_text())["model_type"] == "videomae"
    config = VideoMAEV2Config.from_pretrained(tmp_path)
    assert config.model_type == "videomae_v2"
    assert config.head_layer_norm_eps == 1e-5  # transformers' fc_norm and decoder.norm have PyTorch's default
    assert (config.layer_norm_eps, config.qv_bias, config.num_labels) == (1e-6, False, 3)
    assert config.decoder_mask_ratio == 0  # V1
    assert {name: getattr(config, name) for name in TINY} == TINY

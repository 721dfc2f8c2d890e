"""`videomae convert`: official files in and out, transformers and back, OpenGVLab's layout, and what is refused."""

import argparse
import json
import os
import sys

import pytest
import torch
from helpers.commands import run as run_command
from helpers.shared import REPO, TINY, randomize
from helpers.tiny_models import opengvlab_folder
from safetensors.torch import load_file, save_file
from transformers import VideoMAEForPreTraining, VideoMAEForVideoClassification, VideoMAEModel

from videomae_hf import (
    VideoMAEV2Config,
    VideoMAEV2ForPreTraining,
    VideoMAEV2ForVideoClassification,
    VideoMAEV2ImageProcessor,
    VideoMAEV2Model,
)
from videomae_hf.checkpoints import conversion, transformers_export
from videomae_hf.commands import convert
from videomae_hf.models.geometry import sinusoid_table
from videomae_hf.models.model_sizes import SIZES
from videomae_hf.models.official_checkpoints import from_official, to_official


OFFICIAL = {**TINY, "use_mean_pooling": None}
HEADS = ["--num_attention_heads", "3", "--num_frames", "4", "--image_size", "32"]
PRETRAINING = [*HEADS, "--decoder_num_attention_heads", "2"]


def run(*arguments):
    convert.main([str(argument) for argument in arguments])


def model_of(model_class, **fields):
    return randomize(model_class(VideoMAEV2Config(**{**OFFICIAL, **fields}))).eval()


def official_file(path, model, nest="model", prefix="", **script):
    """What the official code would have saved of this model."""
    weights = to_official(model.state_dict(), pretraining=isinstance(model, VideoMAEV2ForPreTraining))
    content = {nest: {prefix + name: value for name, value in weights.items()}, "epoch": 1}
    torch.save({**content, "args": argparse.Namespace(model="tiny", **script)}, path)
    return path


def outputs(model):
    config = model.config
    shape = (2, config.num_frames, config.num_channels, config.image_size, config.image_size)
    inputs = {"pixel_values": torch.randn(shape, generator=torch.Generator().manual_seed(0))}
    if "PreTraining" in type(model).__name__:
        inputs["bool_masked_pos"] = (torch.arange(config.num_frames // config.tubelet_size * 16) % 4 > 0).expand(2, -1)
    if isinstance(model, VideoMAEV2ForPreTraining):
        inputs["bool_decoded_pos"] = inputs["bool_masked_pos"]
    with torch.no_grad():
        return model.eval()(**inputs)[0 if type(model).__name__.endswith("Model") else "logits"]


VARIANTS = [
    (VideoMAEV2ForPreTraining, {}),
    (VideoMAEV2ForPreTraining, {"decoder_mask_ratio": 0.75, "norm_pix_loss": False}),
    (VideoMAEV2ForPreTraining, {"layer_scale_init_value": 0.1, "qv_bias": False}),
    (VideoMAEV2ForPreTraining, {"position_embedding_type": "learned", "num_channels": 4}),
    (VideoMAEV2ForVideoClassification, {"num_labels": 5}),
    (VideoMAEV2ForVideoClassification, {"use_mean_pooling": False}),
    (VideoMAEV2ForVideoClassification, {"use_cosine_attention": True, "layer_scale_init_value": 0.1}),
]


@pytest.mark.parametrize("nest, prefix", [("model", ""), ("module", "_orig_mod."), ("model", "module.")])
@pytest.mark.parametrize("model_class, fields", VARIANTS, ids=str)
def test_official_files_of_every_kind(tmp_path, model_class, fields, nest, prefix):
    model = model_of(model_class, **fields)
    pretraining = model_class is VideoMAEV2ForPreTraining
    script = {name: fields[name] for name in ("decoder_mask_ratio",) if name in fields}
    path = official_file(tmp_path / "a.pth", model, nest, prefix, **script)
    options = [] if fields.get("norm_pix_loss", True) else ["--norm_pix_loss", "false"]
    run(path, tmp_path / "ours", *(PRETRAINING if pretraining else HEADS), *options)
    loaded = model_class.from_pretrained(tmp_path / "ours")
    assert torch.equal(outputs(loaded), outputs(model))
    for name in ("decoder_mask_ratio", "norm_pix_loss", "num_labels", "position_embedding_type", "num_channels"):
        assert getattr(loaded.config, name) == getattr(model.config, name)
    assert VideoMAEV2ImageProcessor.from_pretrained(tmp_path / "ours").num_frames == 4

    # And out again: the same names and values as the file had.
    run(tmp_path / "ours", tmp_path / "b.pth", "--to", "official")
    again = torch.load(tmp_path / "b.pth", weights_only=True)["model"]
    before = to_official(model.state_dict(), pretraining=pretraining)
    assert again.keys() == before.keys()
    assert all(torch.equal(again[name], before[name]) for name in before)


def test_opengvlab_layout_is_loaded_without_its_code(tmp_path):
    model = model_of(VideoMAEV2ForVideoClassification, num_labels=5)
    folder = opengvlab_folder(tmp_path / "hub", model)
    loaded = VideoMAEV2ForVideoClassification.from_pretrained(folder)
    assert torch.equal(outputs(loaded), outputs(model))
    assert loaded.config.model_type == "videomae_v2"
    encoder = VideoMAEV2Model.from_pretrained(folder)
    assert torch.equal(outputs(encoder), outputs(model.videomae))
    longer = VideoMAEV2ForVideoClassification.from_pretrained(folder, num_frames=8)
    assert longer.config.num_frames == 8 and longer.config.sequence_length == 64
    broken = load_file(folder / "model.safetensors")
    del broken["model.blocks.0.attn.qkv.weight"]
    save_file(broken, folder / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(ValueError, match="missing videomae.encoder.layer.0.attention.attention.key.weight"):
        VideoMAEV2ForVideoClassification.from_pretrained(folder)


@pytest.mark.parametrize(
    "our_class, their_class, fields",
    [
        (VideoMAEV2ForPreTraining, VideoMAEForPreTraining, {"decoder_mask_ratio": 0.5}),
        (VideoMAEV2ForPreTraining, VideoMAEForPreTraining, {"use_mean_pooling": True}),
        (VideoMAEV2ForVideoClassification, VideoMAEForVideoClassification, {"num_labels": 5}),
        (VideoMAEV2ForVideoClassification, VideoMAEForVideoClassification, {"use_mean_pooling": False}),
        (VideoMAEV2Model, VideoMAEModel, {"qv_bias": False}),
    ],
)
def test_to_transformers_and_back(tmp_path, our_class, their_class, fields):
    model = model_of(our_class, **{**fields, "head_layer_norm_eps": 1e-5})
    model.save_pretrained(tmp_path / "ours")
    run(tmp_path / "ours", tmp_path / "theirs", "--to", "transformers")
    config = json.loads((tmp_path / "theirs" / "config.json").read_text())
    assert config["model_type"] == "videomae" and "auto_map" not in config
    processor = json.loads((tmp_path / "theirs" / "preprocessor_config.json").read_text())
    assert processor["crop_size"] == {"height": 32, "width": 32} and processor["image_mean"] == [0.485, 0.456, 0.406]
    theirs = their_class.from_pretrained(tmp_path / "theirs")
    expected = model
    if our_class is VideoMAEV2ForPreTraining:  # transformers decodes all masked tokens
        expected = our_class.from_pretrained(tmp_path / "ours", decoder_mask_ratio=0.0)
    torch.testing.assert_close(outputs(theirs), outputs(expected), rtol=0, atol=1e-5)
    back = our_class.from_pretrained(tmp_path / "theirs", decoder_mask_ratio=0.0)
    assert torch.equal(outputs(back), outputs(expected))


@pytest.mark.parametrize(
    "fields, message",
    [
        ({"layer_scale_init_value": 0.1}, "layer scale"),
        ({"use_cosine_attention": True}, "cosine attention"),
        ({"position_embedding_type": "learned"}, "learned positions"),
        ({"position_embedding_type": "sinusoidal_3d"}, "separate positions for each axis"),
    ],
)
def test_what_transformers_cannot_express(tmp_path, fields, message):
    model_of(VideoMAEV2ForVideoClassification, **fields).save_pretrained(tmp_path / "ours")
    with pytest.raises(ValueError, match=message):
        run(tmp_path / "ours", tmp_path / "theirs", "--to", "transformers")
    assert not (tmp_path / "theirs").exists()


def test_positions_that_the_official_code_cannot_compute(tmp_path):
    fields = {"position_embedding_type": "sinusoidal_3d"}
    model_of(VideoMAEV2ForVideoClassification, **fields).save_pretrained(tmp_path / "ours")
    with pytest.raises(ValueError, match="has no position_embedding_type='sinusoidal_3d'"):
        run(tmp_path / "ours", tmp_path / "official.pth", "--to", "official")
    assert not (tmp_path / "official.pth").exists()


@pytest.mark.parametrize("size, version", SIZES)
def test_official_sizes_need_no_option(size, version):
    """From shapes alone, on the meta device: heads, frames and input size are those of the table."""
    config = VideoMAEV2Config.from_size(size, version)
    with torch.device("meta"):
        weights = from_official(to_official(VideoMAEV2ForPreTraining(config).state_dict(), pretraining=True))
    fields, lines = conversion.complete_fields(conversion.inferred_fields(weights), None, {}, {})
    assert {name: fields[name] for name in fields} == {name: getattr(config, name) for name in fields}
    assert f"num_attention_heads = {config.num_attention_heads}, from the official size {size}" in lines
    assert {"num_frames", "image_size", "decoder_num_attention_heads"} <= fields.keys()


RANGE = {"problem_type": "regression", "num_labels": 2, "target_mean": [10.0, -500.0], "target_std": [3.0, 40.0]}


def test_a_regression_in_the_unit_of_its_data_everywhere(tmp_path, capsys):
    model = model_of(VideoMAEV2ForVideoClassification, **RANGE)
    model.save_pretrained(tmp_path / "ours")
    expected = outputs(model)
    assert expected[:, 1].mean() < -300
    for destination, layout in (("theirs", "transformers"), ("a.pth", "official")):
        run(tmp_path / "ours", tmp_path / destination, "--to", layout)
        assert "mean and std of the targets are folded into the classifier" in capsys.readouterr().out
    theirs = VideoMAEForVideoClassification.from_pretrained(tmp_path / "theirs")
    assert theirs.config.problem_type == "regression"
    torch.testing.assert_close(outputs(theirs), expected, rtol=1e-4, atol=1e-3)
    run(tmp_path / "a.pth", tmp_path / "again", *HEADS)
    torch.testing.assert_close(outputs(VideoMAEV2ForVideoClassification.from_pretrained(tmp_path / "again")), expected)
    loaded = VideoMAEV2ForVideoClassification.from_pretrained(tmp_path / "ours")
    assert loaded.config.target_mean == [10.0, -500.0]  # ours keep it apart

    (tmp_path / "map.json").write_text("[1]")
    run(tmp_path / "ours", tmp_path / "one", "--label_map", tmp_path / "map.json")
    one = VideoMAEV2ForVideoClassification.from_pretrained(tmp_path / "one")
    torch.testing.assert_close(outputs(one), expected[:, 1:])


def test_problem_types_are_kept(tmp_path, capsys):
    model = model_of(VideoMAEV2ForVideoClassification, problem_type="multi_label_classification", num_labels=5)
    model.save_pretrained(tmp_path / "ours")
    run(tmp_path / "ours", tmp_path / "theirs", "--to", "transformers")
    theirs = VideoMAEForVideoClassification.from_pretrained(tmp_path / "theirs")
    assert theirs.config.problem_type == "multi_label_classification" and theirs.config.num_labels == 5
    run(tmp_path / "theirs", tmp_path / "back")
    assert VideoMAEV2Config.from_pretrained(tmp_path / "back").problem_type == "multi_label_classification"
    run(tmp_path / "ours", tmp_path / "a.pth", "--to", "official")
    assert "problem_type is left out: the official code scores one label per video" in capsys.readouterr().out


@pytest.mark.parametrize(("eps", "named"), [(1e-5, False), (1e-6, False), (0.1, True)])
def test_the_epsilon_is_named_where_it_is_the_reason(tmp_path, capsys, eps, named):
    model_of(VideoMAEV2ForVideoClassification, head_layer_norm_eps=eps).save_pretrained(tmp_path / "ours")
    run(tmp_path / "ours", tmp_path / "theirs", "--to", "transformers")
    assert ("epsilon 1e-05, ours 0.1" in capsys.readouterr().out) == named


def test_an_export_with_other_outputs_is_refused(tmp_path, monkeypatch):
    model_of(VideoMAEV2ForVideoClassification).save_pretrained(tmp_path / "ours")
    their_config = transformers_export.their_config

    def wrong_config(model):
        config = their_config(model)
        config.hidden_act = "relu"
        return config

    monkeypatch.setattr(transformers_export, "their_config", wrong_config)
    with pytest.raises(ValueError, match="gives other outputs .* not exported"):
        run(tmp_path / "ours", tmp_path / "theirs", "--to", "transformers")
    assert not (tmp_path / "theirs").exists()


def test_exports_in_half_precision(tmp_path):
    """Compared in float32, where rounding explains next to nothing."""
    model_of(VideoMAEV2ForVideoClassification).bfloat16().save_pretrained(tmp_path / "ours")
    run(tmp_path / "ours", tmp_path / "theirs", "--to", "transformers")
    theirs = VideoMAEForVideoClassification.from_pretrained(tmp_path / "theirs")
    assert theirs.dtype == torch.bfloat16


@pytest.mark.parametrize("fields", [{"num_labels": 5}, {"use_mean_pooling": False}, {"layer_scale_init_value": 0.1}])
def test_files_of_mmaction2(tmp_path, fields):
    """mmaction/models/backbones/vit_mae.py and its TimeSformerHead: names, nesting, and the fixed table as a buffer."""
    model = model_of(VideoMAEV2ForVideoClassification, **fields)
    weights = {}
    for name, value in to_official(model.state_dict(), pretraining=False).items():
        name = name.replace("patch_embed.proj.", "patch_embed.projection.")
        name = name.replace("mlp.fc1.", "mlp.layers.0.0.").replace("mlp.fc2.", "mlp.layers.1.")
        weights[name.replace("head.", "cls_head.fc_cls.") if name.startswith("head.") else f"backbone.{name}"] = value
    weights["backbone.pos_embed"] = sinusoid_table(32, 24)
    assert {"cls_head.fc_cls.weight", "backbone.blocks.0.mlp.layers.0.0.bias"} <= weights.keys()
    torch.save({"meta": {"epoch": 1}, "state_dict": weights}, tmp_path / "mm.pth")
    run(tmp_path / "mm.pth", tmp_path / "ours", *HEADS)
    loaded = VideoMAEV2ForVideoClassification.from_pretrained(tmp_path / "ours")
    assert torch.equal(outputs(loaded), outputs(model)) and loaded.new_parts == ()


def test_distilled_and_encoder_only_files(tmp_path):
    """V1's ViT-H pretraining file has an encoder alone."""
    model = model_of(VideoMAEV2ForPreTraining)
    weights = to_official(model.state_dict(), pretraining=True)
    torch.save({"model": {name: weights[name] for name in weights if name.startswith("encoder.")}}, tmp_path / "a.pth")
    run(tmp_path / "a.pth", tmp_path / "ours", *HEADS)
    assert torch.equal(outputs(VideoMAEV2Model.from_pretrained(tmp_path / "ours")), outputs(model.videomae))


def test_labels_and_kinetics_710_head(tmp_path):
    model = model_of(VideoMAEV2ForVideoClassification, num_labels=5)
    path = official_file(tmp_path / "a.pth", model)
    (tmp_path / "names.txt").write_text("a\nb\nc\nd\ne\n")
    (tmp_path / "map.json").write_text("[4, 0, 2]")
    run(path, tmp_path / "x", *HEADS, "--id2label", tmp_path / "names.txt", "--label_map", tmp_path / "map.json")
    loaded = VideoMAEV2ForVideoClassification.from_pretrained(tmp_path / "x")
    assert loaded.config.id2label == {0: "e", 1: "a", 2: "c"} and loaded.config.num_labels == 3
    torch.testing.assert_close(outputs(loaded), outputs(model)[:, [4, 0, 2]])


class Code:
    def __reduce__(self):
        return os.system, ("touch pwned",)


def write_truncated(path, model):
    official_file(path, model)
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


MISTAKES = {
    "truncated": (write_truncated, HEADS, "damaged"),
    "code": (lambda path, model: torch.save({"model": Code()}, path), HEADS, "refused: it needs"),
    "another model": (lambda path, model: torch.save({"fc.weight": torch.ones(2)}, path), HEADS, "Not a VideoMAE"),
    "no weights": (lambda path, model: torch.save({"epoch": 3}, path), HEADS, "holds no weights"),
    "no dictionary": (lambda path, model: torch.save([torch.ones(2)], path), HEADS, "holds a list"),
    "no decoder": (
        lambda path, model: torch.save({"mask_token": torch.ones(2), "patch_embed.proj.weight": torch.ones(2)}, path),
        HEADS,
        "Not a VideoMAE",
    ),
    "label map": (official_file, [*HEADS, "--label_map", "{tmp}/map.json"], "JSON list of row indices"),
    "wrong size": (official_file, ["--size", "base"], "--size base has hidden_size=768, but the tensors imply 24"),
    "unknown size": (official_file, ["--size", "tiny"], "--size tiny is unknown"),
    "nothing said": (official_file, [], "pass --num_attention_heads VALUE --num_frames VALUE --image_size VALUE"),
    "contradiction": (official_file, [*HEADS, "--num_hidden_layers", "3"], "contradicts the tensors"),
    "typo": (official_file, ["--num_attention_head", "3"], "did you mean 'num_attention_heads'"),
    "heads": (official_file, [*HEADS[2:], "--num_attention_heads", "5"], "not divisible by num_attention_heads=5"),
    "labels": (official_file, [*HEADS, "--id2label", "{tmp}/names.txt"], "names 1 classes"),
}


@pytest.mark.parametrize("mistake", MISTAKES)
def test_mistakes_are_refused_and_nothing_is_written(tmp_path, monkeypatch, mistake):
    monkeypatch.chdir(tmp_path)
    write, options, message = MISTAKES[mistake]
    write(tmp_path / "a.pth", model_of(VideoMAEV2ForVideoClassification))
    (tmp_path / "names.txt").write_text("a\n")
    (tmp_path / "map.json").write_text('{"0": 1}')
    before = sorted(tmp_path.iterdir())
    with pytest.raises(ValueError) as caught:
        run(tmp_path / "a.pth", tmp_path / "ours", *[option.format(tmp=tmp_path) for option in options])
    assert message in str(caught.value)
    assert sorted(tmp_path.iterdir()) == before


@pytest.mark.parametrize("change, message", [("missing", "missing videomae.enc"), ("unexpected", "unexpected extra")])
def test_tensors_that_do_not_fit_are_named(tmp_path, change, message):
    weights = to_official(model_of(VideoMAEV2ForVideoClassification).state_dict(), pretraining=False)
    if change == "missing":
        del weights["blocks.1.mlp.fc1.bias"]
    else:
        weights["extra.weight"] = torch.ones(1)
    torch.save({"model": weights}, tmp_path / "a.pth")
    with pytest.raises(ValueError, match=message):
        run(tmp_path / "a.pth", tmp_path / "ours", *HEADS)


def test_opengvlab_configuration_that_lacks_a_field(tmp_path):
    folder = opengvlab_folder(tmp_path / "hub", model_of(VideoMAEV2ForVideoClassification))
    config = json.loads((folder / "config.json").read_text())
    del config["model_config"]["depth"]
    (folder / "config.json").write_text(json.dumps(config))
    with pytest.raises(ValueError, match="model_config of the checkpoint lacks depth"):
        VideoMAEV2ForVideoClassification.from_pretrained(folder)


def test_size_is_for_official_files(tmp_path):
    model_of(VideoMAEV2Model).save_pretrained(tmp_path / "ours")
    with pytest.raises(ValueError, match="--size is for official files"):
        run(tmp_path / "ours", tmp_path / "other", "--size", "base")


@pytest.mark.slow
def test_command_line(tmp_path):
    path = official_file(tmp_path / "a.pth", model_of(VideoMAEV2ForVideoClassification))
    command = [sys.executable, "-m", "videomae_hf.cli", "convert", path, tmp_path / "ours"]
    options = {"cwd": REPO}
    done = run_command([*command, *HEADS], **options)
    assert done.returncode == 0, done.stderr
    assert "36 of 36 tensors mapped" in done.stdout and "num_frames = 4, from an option" in done.stdout
    done = run_command([*command, *HEADS], **options)  # it exists now
    assert done.returncode == 1
    assert "videomae: error:" in done.stderr and "exists" in done.stderr and "Traceback" not in done.stderr
    weights = tmp_path / "ours" / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:1000])
    command = [sys.executable, "-m", "videomae_hf.cli", "convert", tmp_path / "ours", tmp_path / "again"]
    done = run_command(command, **options)
    assert done.returncode == 1 and "Traceback" not in done.stderr and not (tmp_path / "again").exists()


@pytest.mark.parametrize(
    "script, expected",
    [
        ({}, {"frame_sampling": "dense", "sampling_rate": 4}),
        ({"data_set": "SSV2", "sampling_rate": 2}, {"frame_sampling": "uniform", "sampling_rate": 2}),
        ({"data_set": "Kinetics-400", "sampling_rate": 8}, {"frame_sampling": "dense", "sampling_rate": 8}),
    ],
    ids=str,
)
def test_official_files_are_tested_on_the_frames_and_pixels_of_the_official_test(tmp_path, capsys, script, expected):
    path = official_file(tmp_path / "a.pth", model_of(VideoMAEV2ForVideoClassification, num_labels=3), **script)
    run(path, tmp_path / "ours", *HEADS)
    processor = VideoMAEV2ImageProcessor.from_pretrained(tmp_path / "ours")
    expected = {**expected, "official_sampling": True, "antialias": False}
    assert {name: getattr(processor, name) for name in expected} == expected
    report = capsys.readouterr().out
    assert "clips as in the official test: official_sampling = True, antialias = False" in report
    assert ("not in the file, so by default: frame_sampling, sampling_rate" in report) is (script == {})


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="no device that is full")
def test_a_full_disk_is_named():
    model = model_of(VideoMAEV2ForVideoClassification, num_labels=3)
    with pytest.raises(OSError, match="No space left on device"):
        conversion.save_official(model, VideoMAEV2ImageProcessor(), "/dev/full")

"""Adapters are checkpoints like any other: merged where they are read, with or without peft, in every command."""

import json
import sys

import numpy as np
import pytest
import torch
from helpers.runs import run_of
from helpers.shared import TINY
from helpers.tiny_models import build, videos
from safetensors.torch import load_file, save_file

from videomae_hf import (
    VideoMAEV2Config,
    VideoMAEV2ForPreTraining,
    VideoMAEV2ForVideoClassification,
    VideoMAEV2ImageProcessor,
    VideoMAEV2Model,
)
from videomae_hf.checkpoints import bundle
from videomae_hf.checkpoints.model_card import Publication
from videomae_hf.commands import convert
from videomae_hf.data.sources.synthetic import write_video
from videomae_hf.models.adapters import is_adapter
from videomae_hf.training.distillation import load_teacher, teacher_classes


peft = pytest.importorskip("peft")

CLASSES = {"id2label": {0: "left", 1: "up"}, "label2id": {"left": 0, "up": 1}}
LAYER = "videomae.encoder.layer.0."
QUERY = LAYER + "attention.attention.query"


def base(folder, **fields) -> VideoMAEV2ForVideoClassification:
    model = build(VideoMAEV2ForVideoClassification, **{**CLASSES, **fields})
    model.save_pretrained(folder)
    return model


def adapter(folder, target, rank: int = 2, **content):
    """A folder of adapters as peft writes it, without a config.json: of one query, and a head of its own."""
    folder.mkdir()
    generator = torch.Generator().manual_seed(rank)
    down, up = torch.randn(rank, 24, generator=generator), torch.randn(24, rank, generator=generator)
    prefix = "base_model.model."
    weights = {f"{prefix}{QUERY}.lora_A.weight": down, f"{prefix}{QUERY}.lora_B.weight": up}
    weights[f"{prefix}classifier.bias"] = torch.full((2,), float(rank))
    save_file(weights, folder / "adapter_model.safetensors")
    content = {"peft_type": "LORA", "r": rank, "lora_alpha": 8, "base_model_name_or_path": str(target), **content}
    (folder / "adapter_config.json").write_text(json.dumps(content))
    return up @ down


@pytest.mark.parametrize(("options", "scale"), [({}, 4.0), ({"use_rslora": True}, 8 / 2**0.5)], ids=str)
def test_merging_by_hand_without_peft(tmp_path, monkeypatch, options, scale):
    """W + alpha / r B A, or alpha / sqrt(r) of the rank-stabilised kind."""
    before = base(tmp_path / "base").state_dict()
    product = adapter(tmp_path / "adapter", tmp_path / "base", **options)
    monkeypatch.setitem(sys.modules, "peft", None)
    model = VideoMAEV2ForVideoClassification.from_pretrained(tmp_path / "adapter")
    after = model.state_dict()
    torch.testing.assert_close(after[f"{QUERY}.weight"], before[f"{QUERY}.weight"] + scale * product)
    assert after["classifier.bias"].tolist() == [2.0, 2.0] and model.new_parts == ()
    others = before.keys() - {f"{QUERY}.weight", "classifier.bias"}
    assert all(torch.equal(before[name], after[name]) for name in others)
    assert model.config.id2label == CLASSES["id2label"]  # of the adapted checkpoint, as the folder has none


@pytest.mark.parametrize("use_rslora", [False, True])
def test_merging_is_that_of_peft(tmp_path, use_rslora):
    model = base(tmp_path / "base")
    model.name_or_path = str(tmp_path / "base")
    options = peft.LoraConfig(
        r=3, lora_alpha=5, target_modules=["query", "dense"], modules_to_save=["classifier"], use_rslora=use_rslora
    )
    adapted = peft.get_peft_model(model, options).eval()
    with torch.no_grad():
        for parameter in adapted.parameters():
            parameter.add_(torch.randn(parameter.shape, generator=torch.Generator().manual_seed(1)) * 0.1)
        expected = adapted(pixel_values=videos(model.config)).logits
        adapted.save_pretrained(tmp_path / "adapter")
        adapted.get_base_model().config.save_pretrained(tmp_path / "adapter")
        # The base has changed above as well: the adapters are of this one.
        plain = {
            name.replace(".base_layer", ""): value for name, value in adapted.get_base_model().state_dict().items()
        }
        saved = {name: plain.get(name, value) for name, value in load_file(tmp_path / "base/model.safetensors").items()}
        save_file(saved, tmp_path / "base" / "model.safetensors")
        merged = VideoMAEV2ForVideoClassification.from_pretrained(tmp_path / "adapter").eval()
        torch.testing.assert_close(merged(videos(model.config)).logits, expected, rtol=1e-4, atol=1e-4)


def test_every_model_takes_the_merged_encoder(tmp_path):
    base(tmp_path / "base", use_mean_pooling=True)
    adapter(tmp_path / "adapter", tmp_path / "base")
    whole = VideoMAEV2ForVideoClassification.from_pretrained(tmp_path / "adapter")
    for model_class in (VideoMAEV2Model, VideoMAEV2ForPreTraining):
        model = model_class.from_pretrained(tmp_path / "adapter")
        found = model.base_model.state_dict()
        assert all(torch.equal(value, found[name]) for name, value in whole.videomae.state_dict().items())


def test_adapters_of_adapters(tmp_path):
    before = base(tmp_path / "base").state_dict()
    first = adapter(tmp_path / "first", tmp_path / "base", rank=2)
    second = adapter(tmp_path / "second", tmp_path / "first", rank=4)
    after = VideoMAEV2ForVideoClassification.from_pretrained(tmp_path / "second").state_dict()
    expected = before[f"{QUERY}.weight"] + 4 * first + 2 * second
    torch.testing.assert_close(after[f"{QUERY}.weight"], expected)
    assert after["classifier.bias"].tolist() == [4.0, 4.0]


def test_adapters_of_other_clips_than_their_base(tmp_path):
    """Learned positions and the patch projection are resized from the base's, whose clips are not the adapters'."""
    learned = base(tmp_path / "base", position_embedding_type="learned")
    adapter(tmp_path / "adapter", tmp_path / "base")
    fields = {"image_size": 48, "num_frames": 8, "tubelet_size": 4}
    wanted = VideoMAEV2ForVideoClassification.from_pretrained(tmp_path / "base", **fields).videomae.embeddings
    VideoMAEV2Config(**{**TINY, **CLASSES, **fields}, position_embedding_type="learned").save_pretrained(
        tmp_path / "adapter"
    )
    found = VideoMAEV2ForVideoClassification.from_pretrained(tmp_path / "adapter").videomae.embeddings
    assert all(torch.equal(value, wanted.state_dict()[name]) for name, value in found.state_dict().items())
    assert found.position_embeddings.shape == (1, 72, 24)
    assert learned.videomae.embeddings.position_embeddings.shape == (1, 32, 24)


def test_adapters_of_other_layouts(tmp_path):
    """Of an encoder alone, whose names have no prefix on disk."""
    build(VideoMAEV2Model).save_pretrained(tmp_path / "base")
    product = adapter(tmp_path / "adapter", tmp_path / "base")
    before = load_file(tmp_path / "base" / "model.safetensors")[f"{QUERY.removeprefix('videomae.')}.weight"]
    after = VideoMAEV2Model.from_pretrained(tmp_path / "adapter").state_dict()
    torch.testing.assert_close(after[f"{QUERY.removeprefix('videomae.')}.weight"], before + 4 * product)


MISTAKES = [
    (
        {"base_model_name_or_path": "/nowhere/else"},
        "names /nowhere/else as the checkpoint that is adapted. There is no",
    ),
    ({"base_model_name_or_path": None}, "has no base_model_name_or_path"),
    ({"base_model_name_or_path": "{tmp}/adapter"}, "names its own folder"),
    ({"peft_type": "IA3"}, "has peft_type='IA3', which cannot be merged here; merge it with peft"),
    ({"use_dora": True}, "has use_dora, which cannot be merged here"),
    ({"alpha_pattern": {"query": 3}}, "has alpha_pattern, which cannot be merged here"),
    ({"init_lora_weights": "pissa_niter_4"}, "has init_lora_weights='pissa_niter_4'"),
    ({"lora_alpha": "x"}, "lora_alpha='x'; it must be a number"),
]


@pytest.mark.parametrize(("content", "message"), MISTAKES, ids=[str(content) for content, _ in MISTAKES])
def test_mistakes_end_in_one_line(tmp_path, content, message):
    base(tmp_path / "base")
    content = {name: str(value).format(tmp=tmp_path) if "{tmp}" in str(value) else value
               for name, value in content.items()}  # fmt: skip
    adapter(tmp_path / "adapter", tmp_path / "base", **content)
    VideoMAEV2Config(**TINY, **CLASSES).save_pretrained(tmp_path / "adapter")
    with pytest.raises((ValueError, OSError)) as caught:
        VideoMAEV2ForVideoClassification.from_pretrained(tmp_path / "adapter")
    assert message in str(caught.value) and "\n" not in str(caught.value)
    assert "adapter_config.json" in str(caught.value)


def test_adapters_in_a_circle(tmp_path):
    for name, other in (("one", "two"), ("two", "one")):
        adapter(tmp_path / name, tmp_path / other)
    with pytest.raises((ValueError, OSError)):  # no configuration anywhere
        VideoMAEV2Model.from_pretrained(tmp_path / "one")
    with pytest.raises(ValueError, match="which adapts it in turn"):
        VideoMAEV2Model.from_pretrained(tmp_path / "one", config=VideoMAEV2Config(**TINY))


def test_adapters_that_do_not_fit(tmp_path):
    base(tmp_path / "base", hidden_size=48)
    adapter(tmp_path / "adapter", tmp_path / "base")
    with pytest.raises(ValueError, match=r"does not fit what it adapts: .*lora_A.weight is \(2, 24\)"):
        VideoMAEV2ForVideoClassification.from_pretrained(tmp_path / "adapter")
    (tmp_path / "adapter" / "adapter_model.safetensors").unlink()
    with pytest.raises(FileNotFoundError, match="the adapters are incomplete"):
        VideoMAEV2ForVideoClassification.from_pretrained(tmp_path / "adapter")


# -------------------------------------------------------------------------------------------------------- the commands


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    folder = tmp_path_factory.mktemp("videos")
    for number, name in enumerate(("left", "up")):
        (folder / name).mkdir()
        frames = np.random.default_rng(number).integers(0, 256, (6, 32, 32, 3), dtype=np.uint8)
        write_video(folder / name / "a.mp4", frames)
    return folder


SETTINGS = ["--sampling_rate", "1", "--dataloader_num_workers", "0", "--disable_tqdm", "true", "--max_steps", "2"]
SETTINGS += ["--per_device_train_batch_size", "2", "--learning_rate", "1e-2"]


def test_a_run_and_everything_after_it(tmp_path, data, train_here):
    """The folder `adapter` and a checkpoint of a run with lora_rank, wherever a checkpoint is taken."""

    def run(*arguments):
        done = train_here(*arguments)
        assert done.returncode == 0, done.stderr
        return done.stdout

    build(VideoMAEV2ForPreTraining, use_mean_pooling=None).save_pretrained(tmp_path / "pretrained")
    half = VideoMAEV2ImageProcessor(num_frames=4, size={"shortest_edge": 34}, crop_size={"height": 32, "width": 32})
    half.save_pretrained(tmp_path / "pretrained")
    train = ["--train_data", data, *SETTINGS]
    lora = ["finetune", *train, "--lora_rank", "2", "--save_steps", "1", "--save_strategy", "steps"]
    run(*lora, "--checkpoint", tmp_path / "pretrained", "--output_dir", tmp_path / "run")
    clips = videos(VideoMAEV2Config(**TINY))
    merged = VideoMAEV2ForVideoClassification.from_pretrained(tmp_path / "run").eval()
    expected = merged(clips).logits
    places = [tmp_path / "run" / name for name in ("adapter", "checkpoint-2")]
    for place in places:
        assert is_adapter(place)
        processor = VideoMAEV2ImageProcessor.from_pretrained(place)
        assert processor.size.shortest_edge == 34 and list(processor.image_mean) == [0.5] * 3
        loaded = VideoMAEV2ForVideoClassification.from_pretrained(place).eval()
        torch.testing.assert_close(loaded(clips).logits, expected, rtol=1e-4, atol=1e-4)
        assert loaded.config.architectures == ["VideoMAEV2ForVideoClassification"]
        assert loaded.config.image_mean == (0.5, 0.5, 0.5)

        views = ["--num_clips", "1", "--num_crops", "1", "--dataloader_num_workers", "0", "--eval_data", data]
        run("evaluate", "--checkpoint", place, *views, "--output_dir", tmp_path / "scores" / place.name)
        probe = ["--train_data", data, "--eval_data", data, "--probe", "knn", "--dataloader_num_workers", "0"]
        run("probe", "--checkpoint", place, *probe, "--output_dir", tmp_path / "probe" / place.name)

        convert.main([str(place), str(tmp_path / "converted" / place.name)])
        converted = VideoMAEV2ForVideoClassification.from_pretrained(tmp_path / "converted" / place.name).eval()
        torch.testing.assert_close(converted(clips).logits, expected, rtol=1e-4, atol=1e-4)
        checkpoint = bundle.read_checkpoint(str(place))
        bundle.build_bundle(checkpoint, Publication("me/x"), tmp_path / "bundle" / place.name)
        assert not is_adapter(tmp_path / "bundle" / place.name)

        teaching = run_of(teacher=str(place))
        fields = {
            **TINY,
            "problem_type": "single_label_classification",
            "image_mean": [0.5] * 3,
            "image_std": [0.5] * 3,
        }
        teacher, _ = load_teacher(
            teaching.distillation, VideoMAEV2Config(**fields, **CLASSES), teacher_classes(teaching)
        )
        torch.testing.assert_close(teacher(clips)[0], expected, rtol=1e-4, atol=1e-4)

    # Trained on: as a whole model, and as adapters of adapters.
    output = run("finetune", *train, "--checkpoint", places[0], "--output_dir", tmp_path / "whole")
    assert "2 of 2 rows gathered" in output and not is_adapter(tmp_path / "whole")
    run(*lora, "--checkpoint", places[0], "--output_dir", tmp_path / "again")
    twice = VideoMAEV2ForVideoClassification.from_pretrained(tmp_path / "again").eval()(clips).logits
    loaded = VideoMAEV2ForVideoClassification.from_pretrained(tmp_path / "again" / "adapter").eval()
    torch.testing.assert_close(loaded(clips).logits, twice, rtol=1e-4, atol=1e-4)

    # The checkpoint that was adapted is moved away.
    (tmp_path / "pretrained").rename(tmp_path / "moved")
    done = train_here("evaluate", "--checkpoint", places[0], "--eval_data", data, "--output_dir", tmp_path / "x")
    assert done.returncode == 1 and "names " in done.stderr and "as the checkpoint that is adapted" in done.stderr
    assert "Traceback" not in done.stderr

"""The commands with a part of the tokens: what they say, and that results are those of the model with these tokens."""

import csv
import json
import os
import sys

import pytest
import torch
from helpers.commands import command_in, run, videomae
from helpers.tiny_models import build
from helpers.trained_models import save_trained, write_three_motions
from safetensors.torch import load_file

from videomae_hf import VideoMAEV2ForPreTraining, VideoMAEV2ForVideoClassification, load, load_encoder
from videomae_hf.checkpoints.bundle import read_checkpoint
from videomae_hf.checkpoints.model_card import Publication, model_card
from videomae_hf.data.sources.synthetic import synthesise_dataset
from videomae_hf.models.token_selection import select_tokens


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    place = tmp_path_factory.mktemp("place")
    save_trained(place / "model")
    write_three_motions(place / "clip.mp4", 6)
    return place


@pytest.fixture
def command(place, tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return command_in(place, capsys, after="--device cpu --num_workers 1")


def probability(path) -> float:
    """Of the predicted class."""
    return float(next(csv.DictReader(path.open()))["probability"])


def test_predict_and_extract(command, place, tmp_path):
    line = "predict PLACE/model PLACE/clip.mp4 --num_clips 1 --num_crops 1 --csv"
    status, _, err = command(f"{line} few.csv --static_keep 0.6")
    assert status == 0 and "tokens: the 20 of 32 that change most" in err
    command(f"{line} all.csv")
    predictor = load(place / "model", device="cpu")
    select_tokens(predictor.model, static_keep=0.6)
    expected = predictor.predict(place / "clip.mp4", num_clips=1, num_crops=1).logits.softmax(dim=0).max().item()
    found = probability(tmp_path / "few.csv")
    assert found == pytest.approx(expected, abs=1e-4) and found != probability(tmp_path / "all.csv")
    status, _, err = command("predict PLACE/model PLACE/clip.mp4 --static_threshold 2")  # the first slice alone
    assert status == 0 and "tokens: 16 of 32 (50%) were encoded, the mean of 15 clips" in err
    status, _, err = command("extract PLACE/model PLACE/clip.mp4 features --static_keep 0.6")
    assert status == 0 and "tokens: the 20 of 32 that change most" in err
    status, _, err = command("extract PLACE/model PLACE/clip.mp4 features")  # a folder of other features is refused
    assert status != 0
    status, _, err = command("extract PLACE/model PLACE/clip.mp4 maps --static_keep 0.6 --features maps")
    assert status != 0


def test_finetune_and_evaluate(place, tmp_path, capsys):
    synthesise_dataset(tmp_path / "videos", videos_per_class=1, size=40, num_frames=16)
    common = ["--use_cpu", "true", "--sampling_rate", "1"]
    mixed = ["--mixup_alpha", "0.8", "--num_sample", "2", "--layer_decay", "0.7", "--label_smoothing", "0.1"]
    steps = ["--max_steps", "2", "--per_device_train_batch_size", "3", "--save_strategy", "no", "--token_keep", "0.5"]
    options = ["--train_data", tmp_path / "videos", "--checkpoint", place / "model", "--output_dir", tmp_path / "ft"]
    videomae("finetune", *options, *common, *mixed, *steps)
    out = capsys.readouterr().out
    assert "tokens: 16 of 32 in training (running_cell), all at evaluation" in out and "encoder (16 tokens)" in out
    model = VideoMAEV2ForVideoClassification.from_pretrained(tmp_path / "ft")
    assert model.videomae.token_selection is None and torch.isfinite(model.classifier.weight).all()
    options = ["--checkpoint", tmp_path / "ft", "--eval_data", tmp_path / "videos", "--output_dir", tmp_path / "scores"]
    videomae("evaluate", *options, *common, "--num_clips", "2", "--num_crops", "1", "--static_threshold", "2")
    assert "tokens: 16 of 32 (50%) were encoded, the mean of 16 clips" in capsys.readouterr().out


def test_the_choice_of_a_training_is_not_forgotten(place, tmp_path, capsys):
    """A report takes it over; what encodes all tokens says so; the card has it beside the scores."""
    synthesise_dataset(tmp_path / "videos", videos_per_class=1, size=40, num_frames=16)
    common = ["--use_cpu", "true", "--sampling_rate", "1", "--eval_data", tmp_path / "videos"]
    options = ["--train_data", tmp_path / "videos", "--checkpoint", place / "model", "--output_dir", tmp_path / "ft"]
    videomae("finetune", *options, *common, "--max_steps", "2", "--save_strategy", "no", "--static_keep", "0.6")
    score = json.loads((tmp_path / "ft" / "all_results.json").read_text())["eval_top1"]
    capsys.readouterr()
    videomae("report", tmp_path / "ft", "--device", "cpu")
    captured = capsys.readouterr()
    assert "tokens: the 20 of 32 that change most" in captured.out + captured.err
    assert json.loads((tmp_path / "ft" / "report.json").read_text())["score"]["value"] == pytest.approx(score)
    options = ["--checkpoint", tmp_path / "ft", "--output_dir", tmp_path / "scores", *common]
    videomae("evaluate", *options, "--num_clips", "1", "--num_crops", "1")
    forgotten = f"{tmp_path / 'ft'} was trained and scored with static_keep=0.6; it encodes all tokens unless"
    assert forgotten in capsys.readouterr().out
    assert any(forgotten in line for line in load(tmp_path / "ft", device="cpu").messages)
    for metrics, is_part in ((None, True), (tmp_path / "scores" / "metrics.json", False)):
        checkpoint = read_checkpoint(str(tmp_path / "ft"), metrics and str(metrics))
        card = model_card(checkpoint, Publication("me/moves"))
        assert ("These scores are with a part of the tokens, `static_keep=0.6`." in card) == is_part


BRIDGE = ["--classifier_num_hidden_layers", "1", "--classifier_hidden_size", "20"]
BRIDGE += ["--classifier_num_attention_heads", "2"]
MAR = ["--token_keep", "0.5", *BRIDGE, "--reconstruction_weight", "0.1"]


@pytest.fixture(scope="module")
def bridged(tmp_path_factory):
    """A run of three steps with the bridging classifier of MAR, from a pretrained model, and what it printed."""
    place = tmp_path_factory.mktemp("bridged")
    synthesise_dataset(place / "videos", videos_per_class=1, size=40, num_frames=16)
    build(VideoMAEV2ForPreTraining, use_mean_pooling=None).save_pretrained(place / "pretrained")
    options = ["--train_data", place / "videos", "--checkpoint", place / "pretrained", "--output_dir", place / "ft"]
    mixed = ["--mixup_alpha", "0.8", "--num_sample", "2", "--layer_decay", "0.7", "--label_smoothing", "0.1"]
    steps = ["--max_steps", "3", "--per_device_train_batch_size", "2", "--save_steps", "2", "--learning_rate", "1e-3"]
    options += ["--use_cpu", "true", "--sampling_rate", "1", *mixed, *steps, "--dataloader_num_workers", "0"]
    result = run([sys.executable, "-m", "videomae_hf.cli", "finetune", *options, *MAR])
    assert result.returncode == 0, result.stderr
    return place, options, result.stdout


def test_finetune_with_the_bridging_classifier(bridged, capsys, tmp_path):
    """The parts of MAR start from the checkpoint, all of them are trained, and a run resumes with them."""
    place, options, out = bridged
    assert "tokens: 16 of 32 in training (running_cell), all at evaluation" in out
    assert "loss: that of the labels and 0.1 times that of reconstructing the 16 other tokens" in out
    assert "classifier layers" in out and "decoder (32 tokens)" in out
    before, after = load_file(place / "pretrained" / "model.safetensors"), load_file(place / "ft" / "model.safetensors")
    shared = before.keys() & after.keys()
    assert shared == before.keys() and "classifier_layers.0.output.dense.weight" in after
    changes = [(after[name] - before[name]).abs().max().item() for name in shared]
    assert all(0 < change < 0.01 for change in changes)  # three steps of 1e-3 at most
    resumed = [*map(str, options), *MAR, "--resume_from_checkpoint", str(place / "ft" / "checkpoint-2")]
    resumed[resumed.index(str(place / "ft"))] = str(tmp_path / "again")
    videomae("finetune", *resumed)
    again = load_file(tmp_path / "again" / "model.safetensors")
    assert again.keys() == after.keys() and all(torch.equal(again[name], after[name]) for name in after)
    capsys.readouterr()
    options = ["--checkpoint", place / "ft", "--eval_data", place / "videos", "--output_dir", tmp_path / "scores"]
    videomae("evaluate", *options, "--use_cpu", "true", "--num_clips", "2", "--num_crops", "1", "--static_keep", "0.6")
    assert "tokens: the 20 of 32 that change most" in capsys.readouterr().out


def test_the_checkpoint_of_a_bridging_classifier(bridged, tmp_path):
    """Loaded as code of the checkpoint, without this package; features are those of the encoder after its norm."""
    place = bridged[0]
    clip = torch.randn(1, 4, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    torch.save(clip, tmp_path / "clip.pt")
    model = VideoMAEV2ForVideoClassification.from_pretrained(place / "ft").eval()
    videomae("push", place / "ft", "me/half", "--dry_run", tmp_path / "bundle", "--license", "mit")
    code = """
import sys, torch
from transformers import AutoModelForVideoClassification
model = AutoModelForVideoClassification.from_pretrained("bundle", trust_remote_code=True).eval()
assert "videomae_hf" not in sys.modules
torch.save(model(torch.load("clip.pt")).logits, "logits.pt")
"""
    environment = {**os.environ, "HF_MODULES_CACHE": str(tmp_path / "modules"), "HF_HUB_OFFLINE": "1"}
    result = run([sys.executable, "-I", "-c", code], cwd=tmp_path, env=environment)
    assert result.returncode == 0, result.stderr
    torch.testing.assert_close(torch.load(tmp_path / "logits.pt"), model(clip).logits, rtol=0, atol=1e-6)
    extractor = load_encoder(place / "ft", device="cpu")
    assert extractor.norm is None and extractor.pooling == "mean of all tokens, after the last norm of the encoder"


def test_what_a_bridging_classifier_is_refused_for(bridged, tmp_path, capsys):
    place, options, _ = bridged
    for layout, library in (("transformers", "transformers' VideoMAE"), ("official", "The official code")):
        with pytest.raises(ValueError, match=f"{library} cannot express the bridging classifier"):
            videomae("convert", place / "ft", tmp_path / layout, "--to", layout)
        assert not (tmp_path / layout).exists()
    for missing in (["--token_keep", "1"], ["--freeze_encoder", "true"]):
        with pytest.raises(ValueError, match="reconstruction_weight=0.1 needs tokens that are hidden from an encoder"):
            videomae("finetune", *options, *MAR, *missing, "--output_dir", tmp_path / "refused")
    with pytest.raises(ValueError, match="has no trained .*classifier_layers.*: finetune it first"):
        save_trained(tmp_path / "linear")
        data = ["--eval_data", place / "videos", "--output_dir", tmp_path / "scores", "--use_cpu", "true"]
        videomae("evaluate", "--checkpoint", tmp_path / "linear", *data, *BRIDGE)
    capsys.readouterr()


def test_the_plan_counts_what_is_encoded(capsys):
    """ViT-B by hand: multiply-accumulates of a forward pass, three times which a step takes."""
    common = ["finetune", "v1/finetune_k400_base", "--checkpoint", "none", "--num_videos", "100", "--fit", "1x80GB"]
    common += ["--num_sample", "1", "--total_batch_size", "1"]

    def block(tokens: int, width: int, queries: int | None = None) -> int:
        queries = tokens if queries is None else queries
        attention = 2 * tokens * width**2 + 2 * queries * width**2 + 2 * queries * tokens * width
        return attention + 8 * queries * width**2

    def teraflop(*options: str) -> float:
        videomae("plan", *common, *options)
        line = next(line for line in capsys.readouterr().out.splitlines() if line.startswith("arithmetic of a step"))
        return float(line.split()[4])

    def forward(tokens: int) -> int:
        return tokens * 1536 * 768 + 12 * block(tokens, 768)

    bridge = 784 * 768 * 512 + 2 * block(784, 512)
    decoder = 784 * 768 * 384 + 3 * block(1568, 384) + block(1568, 384, queries=784) + 784 * 384 * 1536
    layers, half = ["--classifier_num_hidden_layers", "2"], ["--token_keep", "0.5"]
    assert teraflop() == pytest.approx(6e-12 * forward(1568), rel=0.02)
    assert teraflop(*half) == pytest.approx(6e-12 * forward(784), rel=0.02)
    assert teraflop(*half, *layers) == pytest.approx(6e-12 * (forward(784) + bridge), rel=0.02)
    joint = ["--reconstruction_weight", "0.01"]
    assert teraflop(*half, *layers, *joint) == pytest.approx(6e-12 * (forward(784) + bridge + decoder), rel=0.02)

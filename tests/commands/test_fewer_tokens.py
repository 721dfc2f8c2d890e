"""The commands with a part of the tokens: what they say, and that results are those of the model with these tokens."""

import csv

import pytest
import torch
from helpers.commands import command_in, videomae
from helpers.trained_models import save_trained, write_three_motions

from videomae_hf import VideoMAEV2ForVideoClassification, load
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

"""train.py as a user runs it: the commands, several processes, and each mistake that ends in one line."""

import csv
import json
import re
import shutil
from pathlib import Path

import pytest
import torch
from helpers.small_runs import MODEL, losses, succeeded, train

from videomae_hf import VideoMAEV2ForVideoClassification, VideoMAEV2ImageProcessor
from videomae_hf.data.sources.synthetic import synthesise_dataset


SMOKE = "examples/recipes/smoke.yaml"
SMOKE_LOSSES = [0.5410, 0.6221, 0.6271, 0.6331]


@pytest.fixture(scope="module")
def videos(tmp_path_factory) -> Path:
    """16 videos of 8 classes."""
    folder = tmp_path_factory.mktemp("data") / "videos"
    synthesise_dataset(folder, videos_per_class=2, size=40, num_frames=16)
    return folder


@pytest.fixture(scope="module")
def smoke_data(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("smoke") / "data"
    synthesise_dataset(folder, videos_per_class=4)
    return folder


@pytest.fixture(scope="module")
def pretrained(tmp_path_factory, videos) -> Path:
    folder = tmp_path_factory.mktemp("runs") / "pretrain"
    options = ["--sampling_rate", "1", "--num_train_epochs", "1", "--logging_steps", "1", "--output_dir", folder]
    output = succeeded(train("pretrain", "--train_data", videos, *MODEL, *options, "--per_device_train_batch_size", 8))
    assert "1 process on cpu, 16 videos" in output
    assert "total batch 8 = 8 a process x 1 process x 1 accumulation step" in output
    assert len(losses(output)) == 2
    return folder


def test_pretraining_leaves_what_the_next_step_needs(pretrained):
    names = {path.name for path in pretrained.iterdir()}
    wanted = {"config.json", "model.safetensors", "preprocessor_config.json", "settings.yaml", "trainer_state.json"}
    assert wanted <= names and "modeling_videomae_v2.py" in names
    assert VideoMAEV2ImageProcessor.from_pretrained(pretrained).num_frames == 8


def test_finetune_evaluate_and_load_back(pretrained, videos, tmp_path):
    options = ["--sampling_rate", "1", "--num_train_epochs", "1", "--logging_steps", "1", "--save_strategy", "no"]
    data = ["--train_data", videos, "--eval_data", videos]
    run = train("finetune", *data, "--checkpoint", pretrained, *options, "--output_dir", tmp_path / "ft")
    output = succeeded(run)
    assert (
        "new, untrained: classifier, fc_norm; left out: decoder, encoder_to_decoder, layernorm, mask_token"
        in run.stderr
    )
    results = json.loads((tmp_path / "ft" / "all_results.json").read_text())
    assert results["eval_videos"] == 16 and 0 <= results["eval_top1"] <= 1
    assert re.search(r"eval_videos += +16\n", output)

    options = ["--num_clips", "2", "--num_crops", "3", "--per_device_eval_batch_size", "3"]
    where = ["--eval_data", videos, "--checkpoint", tmp_path / "ft", "--output_dir", tmp_path / "ev"]
    output = succeeded(train("evaluate", *where, *options))
    assert "16 videos, 2 clips x 3 crops each" in output
    metrics = json.loads((tmp_path / "ev" / "metrics.json").read_text())
    assert metrics["eval_videos"] == 16 and sum(map(sum, metrics["confusion_matrix"])) == 16
    assert metrics["classes"][:2] == ["clockwise", "counter_clockwise"]
    rows = list(csv.DictReader((tmp_path / "ev" / "predictions.csv").open()))
    assert len(rows) == 16
    correct = sum(row["label"] == row["predicted"] for row in rows)
    assert metrics["eval_top1"] == pytest.approx(correct / 16)

    # What `evaluate` scored is what a user gets from the same files.
    model = VideoMAEV2ForVideoClassification.from_pretrained(tmp_path / "ft").eval()
    processor = VideoMAEV2ImageProcessor.from_pretrained(tmp_path / "ft")
    inputs = processor(rows[0]["path"], num_clips=2, num_crops=3, return_tensors="pt")
    with torch.no_grad():
        probabilities = model(**inputs).logits.softmax(-1)[0]
    assert model.config.id2label[int(probabilities.argmax())] == rows[0]["predicted"]
    assert float(probabilities.max()) == pytest.approx(float(rows[0]["probability"]), abs=1e-3)


def test_unreadable_videos_are_reported_and_counted(pretrained, videos, tmp_path):
    shutil.copytree(videos, tmp_path / "videos")
    bad = tmp_path / "videos" / "up" / "aaa.mp4"
    bad.write_bytes(b"not a video")
    data = ["--train_data", tmp_path / "videos", "--eval_data", tmp_path / "videos", "--sampling_rate", "1"]
    options = ["--checkpoint", pretrained, "--num_train_epochs", "1", "--output_dir", tmp_path / "ft"]
    done = train("finetune", *data, *options)
    succeeded(done)
    results = json.loads((tmp_path / "ft" / "all_results.json").read_text())
    assert (results["eval_videos"], results["eval_unreadable"]) == (16, 1)
    assert done.stderr.count(f"Bad video, left out: {bad}") == 2  # once in training, once in evaluation


def test_smoke_recipe(smoke_data, tmp_path):
    output = succeeded(train("pretrain", SMOKE, "--train_data", smoke_data, "--output_dir", tmp_path))
    assert losses(output) == pytest.approx(SMOKE_LOSSES, abs=2e-3)


def test_resume_from_the_last_checkpoint(videos, tmp_path, train_here):
    options = ["--sampling_rate", "1", "--save_strategy", "epoch", "--logging_steps", "1", "--output_dir", tmp_path]
    options += ["--num_train_epochs", "2", "--per_device_train_batch_size", "8"]
    arguments = ["pretrain", "--train_data", videos, *MODEL, *options]
    whole = losses(succeeded(train_here(*arguments)))
    shutil.rmtree(tmp_path / "checkpoint-4")
    resumed = losses(succeeded(train_here(*arguments, "--resume_from_checkpoint", "last")))
    assert len(whole) == 4 and resumed == whole[2:]


def test_a_mistake_ends_the_command_in_one_line():
    done = train("finetune", "--train_data", "no/such/folder")
    assert done.returncode == 1
    assert "train.py: error: No folder or list of videos at no/such/folder" in done.stderr
    assert "Traceback" not in done.stderr


MISTAKES = {
    "wrong path": (["--train_data", "no/such/folder"], "No folder or list of videos at no/such/folder"),
    "no data": ([], "train_data is not set"),
    "empty folder": (["--train_data", "{tmp}/empty"], "empty holds no video"),
    "class without a readable video": (["--train_data", "{tmp}/bad"], "Class 'run' has no readable video"),
    "odd frame count": (
        ["--train_data", "{videos}", "--num_frames", "7"],
        "num_frames=7 is not divisible by tubelet_size=2",
    ),
    "recipe typo": (["{tmp}/typo.yaml"], "unknown key 'train_dta'; did you mean 'train_data'?"),
    "missing recipe": (["{tmp}/none.yaml"], "The recipe"),
    "another size": (
        ["--train_data", "{videos}", "--checkpoint", "{pretrained}", "--hidden_size", "48"],
        "does not fit VideoMAEV2ForVideoClassification",
    ),
    "wrong value": (["--train_data", "{videos}", "--mask_ratio", "1.5"], "mask_ratio=1.5 must lie in [0, 1)"),
    "wrong type": (["--train_data", "{videos}", "--num_frames", "many"], "num_frames"),
    "wrong checkpoint": (["--train_data", "{videos}", "--checkpoint", "{tmp}/empty"], "empty"),
    "clips too long": (
        ["--train_data", "{videos}", "--sampling_rate", "4"],
        "spans 29 frames, more than any of the 16 checked videos has (the longest: 16)",
    ),
    "batch too large": (["--train_data", "{videos}", "--per_device_train_batch_size", "64"], "fewer than the 64"),
}


@pytest.mark.parametrize("mistake", MISTAKES)
def test_mistakes_end_in_one_line(mistake, videos, pretrained, tmp_path, train_here):
    (tmp_path / "empty").mkdir()
    (tmp_path / "typo.yaml").write_text("train_dta: videos\n")
    for name in ("jump", "run"):
        (tmp_path / "bad" / name).mkdir(parents=True)
    for number, video in enumerate(sorted(videos.rglob("*.mp4"))[:8]):
        shutil.copy(video, tmp_path / "bad" / "jump" / f"{number}.mp4")
    (tmp_path / "bad" / "run" / "a.mp4").write_bytes(b"not a video")
    arguments, message = MISTAKES[mistake]
    arguments = [argument.format(tmp=tmp_path, videos=videos, pretrained=pretrained) for argument in arguments]
    model = [] if "--checkpoint" in arguments else MODEL
    model = model if "--num_frames" not in arguments else MODEL[2:]
    done = train_here("finetune", *arguments, *model, "--output_dir", tmp_path / "out")
    error = done.stderr
    assert done.returncode == 1
    assert "train.py: error:" in error and message in error and "Traceback" not in error
    assert not (tmp_path / "out").exists() or not list((tmp_path / "out").glob("*.safetensors"))

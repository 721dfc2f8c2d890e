"""train.py as a user runs it on all kinds of data: augmented, of several sources, of several labels, images, broken."""

import csv
import json
import math
import re
import shutil
import sys
from pathlib import Path

import pytest
import yaml
from helpers.commands import run as run_command
from helpers.commands import videomae
from helpers.shared import REPO
from helpers.small_runs import MODEL, losses, succeeded, train
from PIL import Image

from videomae_hf import read_frames
from videomae_hf.data.sources.synthetic import synthesise_dataset


TWO_PROCESSES = ["-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2"]
SHORT = ["--sampling_rate", "1", "--logging_steps", "1", "--save_strategy", "no", "--num_train_epochs", "1"]


@pytest.fixture(scope="module")
def videos(tmp_path_factory) -> Path:
    """16 videos of 8 classes."""
    folder = tmp_path_factory.mktemp("data") / "videos"
    synthesise_dataset(folder, videos_per_class=2, size=40, num_frames=16)
    return folder


def paths_of(videos: Path) -> list[Path]:
    return sorted(videos.rglob("*.mp4"))


def results(folder: Path) -> dict:
    return json.loads((folder / "all_results.json").read_text())


def test_every_augmentation_at_once(videos, tmp_path, train_here):
    options = ["--rand_augment", "rand-m7-n4-mstd0.5-inc1", "--mixup_alpha", "0.8", "--cutmix_alpha", "1.0"]
    options += ["--label_smoothing", "0.1", "--random_erasing", "0.25", "--num_sample", "2", "--color_jitter", "0.2"]
    options += ["--per_device_train_batch_size", "4", "--horizontal_flip", "true", "--output_dir", tmp_path]
    output = succeeded(train_here("finetune", "--train_data", videos, "--eval_data", videos, *MODEL, *SHORT, *options))
    lines = output.splitlines()
    assert "16 videos of 8 classes" in lines
    assert "1 process on cpu, 16 videos an epoch" in lines
    accounting = "total batch 4 videos, each as 2 clips = 4 a process x 1 process x 1 accumulation step"
    assert accounting in lines
    assert (
        "WARNING: half of the clips are flipped horizontally, but 4 classes name a direction (clockwise, "
        "counter_clockwise, left, .. (4 in all)); consider --horizontal_flip false." in lines
    )
    assert len(losses(output)) == 4 and all(math.isfinite(loss) and loss > 0 for loss in losses(output))
    assert results(tmp_path)["eval_videos"] == 16 and math.isfinite(results(tmp_path)["eval_loss"])


def test_a_recipe_of_several_sources(videos, tmp_path, train_here):
    (tmp_path / "list.txt").write_text("".join(f"{path.name} 0 -1\n" for path in paths_of(videos / "up")))
    sources = [
        {"data": str(videos), "weight": 0.5, "sampling_rate": 2},
        {"data": str(tmp_path / "list.txt"), "root": str(videos / "up"), "weight": 4},
    ]
    (tmp_path / "recipe.yaml").write_text(yaml.safe_dump({"train_data": sources, "num_sample": 2}))
    options = ["--per_device_train_batch_size", "4", "--output_dir", tmp_path / "out"]
    output = succeeded(train_here("pretrain", tmp_path / "recipe.yaml", *MODEL, *SHORT, *options))
    assert "18 videos" in output.splitlines()
    assert "1 process on cpu, 16 videos an epoch" in output  # 16 x 0.5 + 2 x 4
    assert len(losses(output)) == 4
    assert yaml.safe_load((tmp_path / "out" / "settings.yaml").read_text())["train_data"] == sources

    (tmp_path / "recipe.yaml").write_text(yaml.safe_dump({"train_data": [{**sources[0], "sampling_rte": 2}]}))
    done = train_here("pretrain", tmp_path / "recipe.yaml", *MODEL, *SHORT, *options)
    assert done.returncode == 1 and "Traceback" not in done.stderr
    assert "train.py: error: Unknown key 'sampling_rte' of a source in train_data" in done.stderr


def test_models_of_other_channels(videos, tmp_path, train_here):
    grey = ["--num_channels", "1", "--image_mean", "[0.5]", "--image_std", "[0.5]"]
    options = ["--train_data", videos, *MODEL, *SHORT, "--output_dir", tmp_path / "grey"]
    assert all(map(math.isfinite, losses(succeeded(train_here("finetune", *grey, *options)))))
    saved = json.loads((tmp_path / "grey" / "preprocessor_config.json").read_text())
    assert (saved["num_channels"], saved["image_mean"], saved["antialias"]) == (1, [0.5], True)
    again = ["--checkpoint", tmp_path / "grey", "--eval_data", videos, "--output_dir", tmp_path / "scores"]
    succeeded(train_here("evaluate", *again, "--num_clips", "1", "--num_crops", "1", "--antialias", "false"))
    assert len(list(csv.reader((tmp_path / "scores" / "predictions.csv").open()))) == 17

    four = ["--num_channels", "4", "--image_mean", "[0.5,0.5,0.5,0.5]", "--image_std", "[0.5,0.5,0.5,0.5]"]
    done = train_here("finetune", *four, *options)
    assert done.returncode == 1 and "Traceback" not in done.stderr
    assert "its frames have 3 channels, but num_channels=4 is requested" in done.stderr


def test_several_labels_a_video(videos, tmp_path, train_here):
    """One video of the evaluation is missing."""
    rows = [f"{path},{path.parent.name}|{'even' if n % 2 else 'odd'}" for n, path in enumerate(paths_of(videos))]
    (tmp_path / "train.csv").write_text("\n".join(["path,labels", *rows]) + "\n")
    shutil.copy(paths_of(videos)[0], tmp_path / "without.mp4")
    rows = [*rows[:5], "nowhere.mp4,up", *rows[5:], "without.mp4,"]
    (tmp_path / "val.csv").write_text("\n".join(["path,labels", *rows]) + "\n")
    data = ["--train_data", tmp_path / "train.csv", "--eval_data", tmp_path / "val.csv", "--multi_label", "true"]
    # Batches of one, of which one has nothing but the missing video
    options = ["--mixup_alpha", "0.8", "--per_device_eval_batch_size", "1", "--output_dir", tmp_path / "ft"]
    output = succeeded(train_here("finetune", *data, *MODEL, *SHORT, *options))
    assert "16 videos of 10 classes" in output and "videos per class: 2 (up) to 8 (odd)" in output
    scores = results(tmp_path / "ft")
    assert (scores["eval_videos"], scores["eval_unreadable"]) == (17, 1)
    assert 0 < scores["eval_mean_average_precision"] <= 1 and 0 <= scores["eval_micro_f1"] <= 1
    assert 0 < scores["eval_loss"] < 2  # not of -100

    where = ["--eval_data", tmp_path / "val.csv", "--checkpoint", tmp_path / "ft", "--output_dir", tmp_path / "ev"]
    views = ["--num_clips", "2", "--num_crops", "1", "--per_device_eval_batch_size", "4"]
    succeeded(train_here("evaluate", *where, *views))
    metrics = json.loads((tmp_path / "ev" / "metrics.json").read_text())
    assert (metrics["eval_videos"], metrics["eval_unreadable"]) == (17, 1)
    assert "eval_mean_average_precision" in metrics and "confusion_matrix" not in metrics
    assert metrics["classes"] == sorted([*(path.name for path in videos.iterdir()), "even", "odd"])
    predictions = list(csv.DictReader((tmp_path / "ev" / "predictions.csv").open()))
    assert len(predictions) == 18
    assert predictions[0]["label"] == "clockwise|odd" and predictions[-1]["label"] == ""
    assert (predictions[5]["predicted"], predictions[5]["probability"]) == ("unreadable", "")
    for row in predictions[:5]:
        probabilities = [float(value) for value in row["probability"].split("|") if value]
        assert len(probabilities) == len([name for name in row["predicted"].split("|") if name])
        assert all(0.5 <= probability <= 1 for probability in probabilities)


@pytest.mark.slow
def test_report_and_card_of_several_labels(videos, tmp_path):
    rows = [f"{path},{path.parent.name}|{'even' if n % 2 else 'odd'}" for n, path in enumerate(paths_of(videos))]
    (tmp_path / "list.csv").write_text("\n".join(["path,labels", *rows]) + "\n")
    data = ["--train_data", tmp_path / "list.csv", "--eval_data", tmp_path / "list.csv"]
    succeeded(train("pretrain", *data, *MODEL, *SHORT, "--output_dir", tmp_path / "pt"))
    options = ["--checkpoint", tmp_path / "pt", "--multi_label", "true", "--output_dir", tmp_path / "ft"]
    succeeded(train("finetune", *data, *SHORT, *options))
    where = ["--checkpoint", tmp_path / "ft", "--output_dir", tmp_path / "ev", "--num_clips", "1", "--num_crops", "1"]
    succeeded(train("evaluate", *data[2:], *where))
    metrics = results(tmp_path / "ft")
    videomae("report", tmp_path / "ft", "--page", tmp_path / "page.html")
    page = (tmp_path / "page.html").read_text()
    score = f"{100 * metrics['eval_mean_average_precision']:.1f} %"
    assert f"Mean average precision <b>{score}</b>" in page and "on 16 videos" in page
    assert "<td>frames shuffled</td>" in page and "Masked reconstruction" in page
    assert "Confusion matrix" not in page and "clockwise|odd; predicted" in page
    command = [sys.executable, "push_to_hub.py", tmp_path / "ft", "me/labels", "--dry_run", tmp_path / "bundle"]
    command += ["--metrics", tmp_path / "ev" / "metrics.json"]
    done = run_command(list(map(str, command)), cwd=REPO)
    assert done.returncode == 0, done.stderr
    assert f"| mean average precision | {score.replace(' %', '')}" in (tmp_path / "bundle" / "README.md").read_text()


def test_folders_of_images(videos, tmp_path, train_here):
    """V2's list of raw frames, with a template; the evaluation by folders and without one."""
    rows = []
    for number, path in enumerate(paths_of(videos)[:8]):
        folder = tmp_path / "frames" / path.parent.name / path.stem
        folder.mkdir(parents=True)
        for index, frame in enumerate(read_frames(path, range(16)), start=1):
            Image.fromarray(frame.numpy()).save(folder / f"img_{index:05}.jpg")
        rows.append(f"{folder.relative_to(tmp_path / 'frames')} 16 {number // 2}")
    (tmp_path / "list.csv").write_text("\n".join(rows) + "\n")
    data = ["--train_data", tmp_path / "list.csv", "--data_root", tmp_path / "frames"]
    options = ["--frame_template", "img_{:05}.jpg", "--output_dir", tmp_path / "ft", "--total_batch_size", "8"]
    output = succeeded(train_here("finetune", *data, "--eval_data", tmp_path / "list.csv", *MODEL, *SHORT, *options))
    assert "8 videos of 4 classes" in output and "frames of the 8 checked videos: 16 to 16" in output
    assert (results(tmp_path / "ft")["eval_videos"], results(tmp_path / "ft")["eval_unreadable"]) == (8, 0)
    assert len(losses(output)) == 1
    where = ["--checkpoint", tmp_path / "ft", "--output_dir", tmp_path / "ev", "--num_clips", "1", "--num_crops", "1"]
    done = train_here("evaluate", "--eval_data", tmp_path / "frames", *where)
    assert done.returncode == 1  # class folders have names, the list had numbers
    assert "has the unknown label 'clockwise'" in done.stderr and "Traceback" not in done.stderr


# ------------------------------------------------------------------------------------------------------ broken videos


@pytest.fixture(scope="module")
def broken(videos, tmp_path_factory) -> tuple[Path, set[str]]:
    """A list of 24 videos, and the names of the 8 that cannot be read."""
    folder = tmp_path_factory.mktemp("broken")
    good = paths_of(videos)
    names = {f"{kind}{number}.mp4" for kind in ("empty", "text", "truncated", "missing") for number in range(2)}
    for number in range(2):
        (folder / f"empty{number}.mp4").write_bytes(b"")
        (folder / f"text{number}.mp4").write_text("no video\n" * 100)
        (folder / f"truncated{number}.mp4").write_bytes(good[number].read_bytes()[:1000])
    lines = [str(path) for path in good]
    for number, name in enumerate(sorted(names)):
        lines.insert(3 * number, name)
    (folder / "list.txt").write_text("\n".join(lines) + "\n")
    return folder / "list.txt", names


def logged(stderr: str) -> list[str]:
    """Names of the videos that were told to be bad, once for each time."""
    return re.findall(r"Bad video, left out: [^\n]*?(\w+\.mp4)", stderr)


@pytest.mark.parametrize("workers", [0, pytest.param(2, marks=pytest.mark.slow)])
def test_a_third_of_the_videos_is_broken(broken, tmp_path, workers):
    path, names = broken
    options = ["--max_bad_fraction", "0.4", "--per_device_train_batch_size", "4", "--dataloader_num_workers", workers]
    options += ["--num_train_epochs", "2", "--output_dir", tmp_path]
    done = train("pretrain", "--train_data", path, *MODEL, *SHORT, *options)
    output = succeeded(done)
    assert "8 of 24 checked videos cannot be read; the first: " in output
    assert len(losses(output)) == 12  # 2 epochs of 24 / 4 steps
    assert set(logged(done.stderr)) == names
    if workers == 0:  # with more, two may meet the same one at the same moment
        assert len(logged(done.stderr)) == 8
    assert results(tmp_path)["bad_videos"] == 8


def test_more_broken_videos_than_allowed_end_the_run_in_one_line(broken, tmp_path):
    path, _ = broken
    options = ["--per_device_train_batch_size", "4", "--output_dir", tmp_path]
    done = train("pretrain", "--train_data", path, *MODEL, *SHORT, *options)
    assert done.returncode == 1 and "Traceback" not in done.stderr
    (line,) = [line for line in done.stderr.splitlines() if line.startswith("train.py: error:")]
    assert re.match(r"train.py: error: \d of 24 videos cannot be read, more than max_bad_fraction=0.1 allows.", line)
    assert not (tmp_path / "model.safetensors").exists()


def test_broken_videos_are_counted_over_all_processes(broken, tmp_path):
    path, names = broken
    options = ["--max_bad_fraction", "0.4", "--per_device_train_batch_size", "2", "--output_dir", tmp_path]
    done = train("pretrain", "--train_data", path, *MODEL, *SHORT, *options, launcher=TWO_PROCESSES)
    output = succeeded(done)
    assert len(losses(output)) == 6  # 24 / (2 x 2); a process with fewer would leave the other waiting
    assert results(tmp_path)["bad_videos"] == 8
    assert set(logged(done.stderr)) == names


@pytest.mark.slow
def test_two_processes_end_together_past_the_limit(broken, tmp_path):
    path, _ = broken
    options = ["--per_device_train_batch_size", "2", "--output_dir", tmp_path]
    done = train("pretrain", "--train_data", path, *MODEL, *SHORT, *options, launcher=TWO_PROCESSES)
    assert done.returncode != 0
    lines = {line.split("]:")[-1] for line in done.stderr.splitlines() if "train.py: error" in line}
    assert len(lines) == 1 and "of 24 videos cannot be read, more than max_bad_fraction=0.1" in lines.pop()

"""`videomae evaluate` on videos without labels, of every problem type, and with other clips than the checkpoint's."""

import csv
import json

import pytest
from helpers.commands import videomae
from helpers.indexed_video import write_indexed_video
from helpers.shared import TINY, randomize

from videomae_hf import VideoMAEV2Config, VideoMAEV2ForVideoClassification, VideoMAEV2ImageProcessor
from videomae_hf.models.image_processing_videomae_v2 import clip_options, normalization_options


CLASSES = {"id2label": {0: "jump", 1: "run"}, "label2id": {"jump": 0, "run": 1}}
AGE = {"id2label": {0: "age"}, "label2id": {"age": 0}, "target_mean": (30.0,), "target_std": (10.0,)}
COLUMNS = {
    "single_label_classification": (CLASSES, ["path", "predicted", "probability"]),
    "multi_label_classification": (CLASSES, ["path", "predicted", "probability"]),
    "regression": (AGE, ["path", "predicted_age"]),
}


@pytest.fixture(scope="module")
def flat(tmp_path_factory):
    """Three videos in one folder, and a file that is none."""
    folder = tmp_path_factory.mktemp("flat")
    for number in range(3):
        write_indexed_video(folder / f"{number}.mp4", 12)
    (folder / "bad.mp4").write_bytes(b"no video")
    return folder


def checkpoint(folder, problem_type: str, **fields):
    config = VideoMAEV2Config(**{**TINY, **fields, "problem_type": problem_type})
    randomize(VideoMAEV2ForVideoClassification(config)).save_pretrained(folder)
    VideoMAEV2ImageProcessor(**clip_options(config), **normalization_options(config)).save_pretrained(folder)
    return folder


@pytest.mark.parametrize("listed", [False, True], ids=["folder", "list"])
@pytest.mark.parametrize("problem_type", COLUMNS)
def test_videos_without_labels_are_predicted(tmp_path, flat, capsys, problem_type, listed):
    fields, columns = COLUMNS[problem_type]
    source = flat
    if listed:
        source = tmp_path / "list.txt"
        source.write_text("".join(f"{path}\n" for path in sorted(flat.iterdir())))
    options = ["--num_clips", "1", "--num_crops", "1", "--use_cpu", "true", "--max_bad_fraction", "0.5"]
    options += ["--checkpoint", checkpoint(tmp_path / "model", problem_type, **fields)]
    videomae("evaluate", "--eval_data", source, "--output_dir", tmp_path / "out", *options)
    assert "no labels: predictions are written, but no scores" in capsys.readouterr().out
    with (tmp_path / "out" / "predictions.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert list(rows[0]) == columns and len(rows) == 4
    unreadable = {row["path"].rsplit("/", 1)[-1]: "unreadable" in row.values() for row in rows}
    assert unreadable == {"0.mp4": False, "1.mp4": False, "2.mp4": False, "bad.mp4": True}
    metrics = json.loads((tmp_path / "out" / "metrics.json").read_text())
    assert (metrics["eval_videos"], metrics["eval_unreadable"]) == (3, 1)
    assert not {"eval_loss", "eval_top1", "eval_mae", "eval_micro_f1", "confusion_matrix", "errors"} & set(metrics)


def test_other_clips_than_the_checkpoints_are_said(tmp_path, flat, capsys):
    folder = checkpoint(tmp_path / "model", "single_label_classification", **CLASSES)
    options = ["--checkpoint", folder, "--eval_data", flat, "--use_cpu", "true", "--max_bad_fraction", "0.5"]
    videomae("evaluate", *options, "--output_dir", tmp_path / "same", "--frame_sampling", "dense")
    assert "clips differ" not in capsys.readouterr().out
    videomae("evaluate", *options, "--output_dir", tmp_path / "other", "--frame_sampling", "uniform", "--fps", "5")
    said = f"clips differ from those that {folder} was trained on: frame_sampling=uniform instead of dense, fps=5.0"
    assert said in capsys.readouterr().out

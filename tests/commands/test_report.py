"""`videomae report`, and the pages that finetune and evaluate write: in runs of seconds."""

import json
import shutil
import sys

import numpy as np
import pytest
import yaml
from helpers.commands import videomae
from helpers.planted_shortcuts import write_set
from helpers.small_runs import MODEL
from helpers.trained_models import save_trained

from videomae_hf.data.sources.synthetic import synthesise_dataset
from videomae_hf.training import run_report


SHORT = ["--max_steps", "2", "--per_device_train_batch_size", "4", "--save_strategy", "no", "--use_cpu", "true"]
SHORT += ["--sampling_rate", "2", "--logging_steps", "1"]


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    """Twelve videos of each of two classes, and a list with their groups; four of each are for evaluation."""
    folder = tmp_path_factory.mktemp("data")
    write_set(folder / "train", 12, planted=True, seed=0)
    write_set(folder / "val", 6, planted=True, seed=1)
    rows = [f"{path},{path.parent.name},site{int(path.stem) % 3}" for path in sorted((folder / "val").glob("*/*"))]
    (folder / "val.csv").write_text("\n".join(["path,label,site", *rows, f"{folder}/bad.mp4,left,site0"]) + "\n")
    (folder / "bad.mp4").write_bytes(b"no video")
    return folder


@pytest.fixture(scope="module")
def run(data, tmp_path_factory):
    """A finetuning that started from a pretraining."""
    folder = tmp_path_factory.mktemp("runs")
    videos = ["--train_data", data / "train", "--eval_data", data / "val"]
    videomae("pretrain", *videos, *MODEL, *SHORT, "--output_dir", folder / "pretrain")
    options = ["--checkpoint", folder / "pretrain", "--eval_data", data / "val", "--output_dir", folder / "finetune"]
    videomae("finetune", "--train_data", data / "train", *options, *SHORT)
    return folder / "finetune"


def numbers(folder) -> dict:
    return json.loads((folder / "report.json").read_text())


def test_finetuning_leaves_what_needs_no_further_pass(run):
    found, scores = numbers(run), json.loads((run / "all_results.json").read_text())
    assert found["score"]["value"] == pytest.approx(scores["eval_top1"])
    assert found["perturbed"] == {} and list(found["shortcuts"]) == ["metadata"]
    assert found["shortcuts"]["metadata"]["train_videos"] == 24
    page = (run / "report.html").read_text()
    assert f"`videomae report {run}` adds them" in page and "Confusion matrix" in page
    assert "<h2>Training</h2>" in page and "<h2>Pretraining</h2>" in page and "Masked reconstruction" not in page
    assert "These are the evaluation videos of the training. No checkpoint was chosen by them" in page


def test_the_report_adds_the_rest(run, data, tmp_path, capsys):
    page = tmp_path / "page.html"
    options = ["--eval_data", data / "val.csv", "--group_column", "site", "--page", page, "--device", "cpu"]
    videomae("report", run, *options, "--num_clips", "2")
    said = capsys.readouterr().out
    found, text = json.loads(page.with_suffix(".json").read_text()), page.read_text()
    last = said.strip().splitlines()[-1]
    assert last.startswith("Top-1 accuracy ") and last.endswith("with their frames shuffled (chance 50.0 %)")
    assert "on 12 held-out videos;" in last and "1 unreadable videos" in text
    assert (found["views"], found["interval_by"], found["units"]) == ("2 clips x 1 crop", "group", 3)
    changes = ["shuffled", "reversed", "first_frame", "half_rate", "noise", "occluded"]
    assert list(found["perturbed"]) == changes and list(found["shortcuts"]) == ["metadata", "colour"]
    assert [row["group"] for row in found["per_group"]] == ["site0", "site1", "site2"]
    assert "Masked reconstruction" in text and text.count("data:image/png") == 2  # a strip of each class
    assert text.count("data:image/jpeg") == 12 and "There are only 3 groups" in text
    assert all(f"- {line}" in said for line in found["conclusions"])


def test_an_evaluation_leaves_its_settings_and_groups(run, data, tmp_path):
    views = ["--num_clips", "1", "--num_crops", "2", "--max_bad_fraction", "0.5", "--use_cpu", "true"]
    options = ["--eval_data", data / "val.csv", "--group_column", "site", *views]
    videomae("evaluate", "--checkpoint", run, *options, "--output_dir", tmp_path)
    header, first, *rest = (tmp_path / "predictions.csv").read_text().splitlines()
    assert header == "path,group,label,predicted,probability,correct,probability_left,probability_right"
    assert first.split(",")[1:3] == ["site0", "left"] and rest[-1].endswith("bad.mp4,site0,left,unreadable,,,,")
    settings = yaml.safe_load((tmp_path / "evaluation.yaml").read_text())
    assert (settings["checkpoint"], settings["group_column"], settings["num_crops"]) == (str(run), "site", 2)
    own = numbers(tmp_path)
    assert (own["views"], own["units"], own["perturbed"]) == ("1 clip x 2 crops", 3, {})
    assert own["shortcuts"]["metadata"]["train_videos"] == 24

    videomae("report", tmp_path)  # the same views, videos and groups
    found = numbers(tmp_path)
    assert found["score"]["value"] == own["score"]["value"] and found["perturbed"]["shuffled"]
    assert (found["views"], found["units"], found["unreadable"]) == ("1 clip x 2 crops", 3, 1)


def test_an_evaluation_of_shuffled_frames_says_so(run, data, tmp_path):
    views = ["--num_clips", "1", "--num_crops", "1", "--use_cpu", "true", "--shuffle_frames", "true"]
    videomae("evaluate", "--checkpoint", run, "--eval_data", data / "val", *views, "--output_dir", tmp_path)
    said = "The frames of all clips were shuffled (shuffle_frames)."
    assert said in numbers(tmp_path)["remarks"]
    videomae("report", tmp_path)  # the clips as they are, with shuffled frames as one of the changes
    assert said not in numbers(tmp_path)["remarks"]


def test_a_model_without_settings_needs_its_data(data, tmp_path):
    names = {"id2label": {0: "left", 1: "right"}, "label2id": {"left": 0, "right": 1}}
    folder = save_trained(tmp_path / "model", **names)
    videomae("report", folder, "--eval_data", data / "val", "--device", "cpu")
    found = numbers(folder)
    assert found["videos"] == 12 and found["shortcuts"] == {}
    assert found["left_out"] == ["Shortcut classifiers: the training videos are not known; --train_data names others."]
    videomae("report", folder, "--eval_data", data / "val", "--train_data", data / "train")
    assert numbers(folder)["shortcuts"]["colour"]["train_videos"] == 24


def test_the_choice_of_the_checkpoint_is_said(run, data, tmp_path):
    for name in ("config.json", "preprocessor_config.json", "model.safetensors", "run.json", "trainer_state.json"):
        shutil.copy(run / name, tmp_path / name)
    settings = yaml.safe_load((run / "settings.yaml").read_text())
    settings.pop("checkpoint")
    (tmp_path / "settings.yaml").write_text(yaml.safe_dump({**settings, "load_best_model_at_end": True}))
    videomae("report", tmp_path)
    assert "The best checkpoint was chosen by these videos" in numbers(tmp_path)["remarks"][0]
    videomae("report", tmp_path, "--eval_data", data / "train", "--group_pattern", r"(\d)\.mp4")
    said = numbers(tmp_path)["remarks"]
    assert not any("chosen" in line for line in said)
    assert said[0].startswith("24 of 24 evaluation videos are also in the training data")
    assert said[1].startswith("Of 10 groups, 10 are also in the training videos, such as '0'")


def test_a_list_with_all_splits(data, tmp_path):
    paths = [(split, path) for split, part in (("train", "train"), ("test", "val"))
             for path in sorted((data / part).glob("*/*"))]  # fmt: skip
    rows = [f"{path},{path.parent.name},{split},{path.stem[-1]}" for split, path in paths]
    (tmp_path / "all.csv").write_text("\n".join(["path,label,split,who", *rows]) + "\n")
    options = ["--train_data", tmp_path / "all.csv", "--eval_split_name", "test", "--group_column", "who"]
    videomae("finetune", *options, *MODEL, *SHORT, "--output_dir", tmp_path / "run")
    own = numbers(tmp_path / "run")
    assert (own["videos"], own["units"], own["shortcuts"]["metadata"]["train_videos"]) == (12, 6, 24)
    assert own["remarks"][0].startswith("These are the evaluation videos of the training.")
    assert own["remarks"][1].startswith("Of 6 groups, 6 are also in the training videos, such as '0'")
    videomae("report", tmp_path / "run")
    found = numbers(tmp_path / "run")
    assert found["remarks"] == own["remarks"] and found["score"] == own["score"] and found["perturbed"]


def test_a_report_that_fails_loses_nothing(data, tmp_path, capsys, monkeypatch):
    def fail(*arguments) -> None:
        raise OSError("disk full")

    monkeypatch.setattr(run_report, "write_report", fail)
    videos = ["--train_data", data / "train", "--eval_data", data / "val"]
    videomae("finetune", *videos, *MODEL, *SHORT, "--output_dir", tmp_path)
    assert "No report was written (disk full); the results are there." in capsys.readouterr().out
    assert (tmp_path / "model.safetensors").is_file() and json.loads((tmp_path / "run.json").read_text())["finished"]


def test_without_scikit_learn(run, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "sklearn.ensemble", None)
    videomae("report", run, "--page", tmp_path / "page.html")
    text = (tmp_path / "page.html").read_text()
    assert "File metadata alone: needs scikit-learn: pip install &#39;videomae_hf[few-shot]&#39;" in text
    assert "Mean colour alone: needs scikit-learn" in text and "frames shuffled" in text


def test_numbers_to_predict(tmp_path, capsys):
    synthesise_dataset(tmp_path / "videos", videos_per_class=1, seed=0, size=40, num_frames=16, workers=1)
    paths = sorted((tmp_path / "videos").glob("*/*"))
    (tmp_path / "list.csv").write_text("path,age\n" + "".join(f"{path},{n}.5\n" for n, path in enumerate(paths)))
    videos = ["--train_data", tmp_path / "list.csv", "--eval_data", tmp_path / "list.csv"]
    videos += ["--problem_type", "regression"]
    videomae("finetune", *videos, *MODEL, *SHORT, "--output_dir", tmp_path / "run")
    videomae("report", tmp_path / "run")
    found, text = numbers(tmp_path / "run"), (tmp_path / "run" / "report.html").read_text()
    assert found["metric"] == "mae" and "The largest errors" in text and "Confusion" not in text
    assert "Shortcut classifiers, calibration, and a table of classes: they need one label per video." in text
    assert capsys.readouterr().out.strip().splitlines()[-1].startswith("Mean absolute error ")


def test_refusals(run, data, tmp_path):
    for arguments, message in (
        ([tmp_path / "nowhere"], "There is no folder"),
        ([tmp_path], "holds neither a model nor evaluation.yaml of an evaluation"),
        ([save_trained(tmp_path / "model")], "names no evaluation videos; give them as --eval_data"),
        ([run, "--group_column", "site"], "needs a list of videos"),
        ([run, "--eval_data", data / "val.csv", "--group_column", "sit"], "did you mean 'site'"),
        ([run, "--group_column", "site", "--group_pattern", "x"], "exclude each other"),
        ([run, "--group_pattern", "nothing_like_it"], "matches nothing in 12 of 12 paths"),
        ([run, "--num_clips", "0"], "--num_clips 0 must be at least 1"),
        ([run.parent / "pretrain", "--eval_data", data / "val"], "pretrained model without classes"),
    ):
        with pytest.raises((ValueError, FileNotFoundError), match=message):
            videomae("report", *arguments)


# ------------------------------------------------------------------------------------------- a planted shortcut


@pytest.mark.slow
@pytest.mark.parametrize("planted", [True, False], ids=["planted", "honest"])
def test_a_planted_shortcut_is_said_and_its_honest_twin_is_not(tmp_path, planted):
    """Classes follow from background and bit rate (motion is noise), or from the direction of motion alone."""
    write_set(tmp_path / "train", 150, planted=planted, seed=0)
    write_set(tmp_path / "val", 60, planted=planted, seed=1)
    model = {"num_frames": 8, "image_size": 32, "patch_size": 8, "hidden_size": 64, "num_hidden_layers": 3,
             "num_attention_heads": 2, "intermediate_size": 128, "sampling_rate": 2}  # fmt: skip
    training = {"learning_rate": 1e-3, "num_train_epochs": 20, "per_device_train_batch_size": 16, "warmup_epochs": 1,
                "horizontal_flip": False, "save_strategy": "no", "use_cpu": True}  # fmt: skip
    options = [part for name, value in {**model, **training}.items() for part in (f"--{name}", value)]
    data = ["--train_data", tmp_path / "train", "--eval_data", tmp_path / "val", "--crop_scale", "0.6", "1.0"]
    videomae("finetune", *data, *options, "--output_dir", tmp_path / "run")
    videomae("report", tmp_path / "run", "--device", "cpu")
    found = numbers(tmp_path / "run")
    said, shuffled = "\n".join(found["conclusions"]), found["perturbed"]["shuffled"]["value"]
    shortcuts = [one["value"] for one in found["shortcuts"].values()]
    assert found["score"]["value"] > 0.85
    if planted:
        assert min(shortcuts) > 0.8 and shuffled == pytest.approx(found["score"]["value"], abs=0.03)
        assert "File metadata alone reach" in said and "Mean colour alone reach" in said
        assert said.count("may have learned this shortcut and not the question") >= 1
        assert "Shuffling the frames changes nothing" in said and "it does not use motion" in said
    else:
        assert np.max(shortcuts) < 0.65 and shuffled < 0.7
        assert "shortcut and not the question" not in said and "changes nothing" not in said
        assert "Shuffling the frames costs" in said and "it uses their order" in said

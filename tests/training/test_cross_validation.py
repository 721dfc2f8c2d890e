"""`finetune --folds`: lists of the folds, mean and spread by hand, and the whole way from `videomae split`."""

import json
import statistics

import numpy as np
import pytest
from helpers.commands import videomae
from helpers.shared import TINY

from videomae_hf.data.sources.synthetic import write_video
from videomae_hf.training.cross_validation import fold_lists, summary, table


def test_lists_of_folds(tmp_path):
    with pytest.raises(FileNotFoundError, match="has no folder fold_0; `videomae split VIDEOS .* --folds 5` writes"):
        fold_lists(tmp_path)
    for name in ("fold_0", "fold_10", "fold_2"):
        (tmp_path / name).mkdir()
        for part in ("train", "val"):
            (tmp_path / name / f"{part}.csv").touch()
    (tmp_path / "fold_old").mkdir()
    assert list(fold_lists(tmp_path)) == ["fold_0", "fold_2", "fold_10"]
    assert fold_lists(tmp_path)["fold_2"] == (tmp_path / "fold_2/train.csv", tmp_path / "fold_2/val.csv")
    (tmp_path / "fold_2/val.csv").unlink()
    with pytest.raises(FileNotFoundError, match="fold_2 has no list val"):
        fold_lists(tmp_path)


def test_mean_and_spread():
    scores = {
        "fold_0": {"eval_top1": 0.5, "eval_majority": 0.25, "eval_videos": 8, "eval_unreadable": 0, "train_loss": 1.0},
        "fold_1": {"eval_top1": 0.7, "eval_majority": 0.35, "eval_videos": 6, "eval_unreadable": 0, "eval_top5": 1.0},
    }
    found = summary(scores, "single_label_classification")
    assert found["mean"] == pytest.approx({"top1": 0.6, "majority": 0.3, "videos": 7, "unreadable": 0})
    assert found["standard_deviation"]["top1"] == pytest.approx(0.141421, abs=1e-6)
    assert found["folds"]["fold_1"]["top5"] == 1.0  # of one fold alone: no mean
    assert table(found) == [
        "  fold  top1  majority  videos",
        "fold_0   0.5      0.25       8",
        "fold_1   0.7      0.35       6",
        "  mean   0.6       0.3       7",
        "   std  0.14     0.071     1.4",
    ]


@pytest.fixture(scope="module")
def splits(tmp_path_factory):
    """Two folds of eight videos of two classes, by four sources."""
    folder, rng = tmp_path_factory.mktemp("videos"), np.random.default_rng(0)
    for name, lowest in (("dark", 0), ("bright", 180)):
        (folder / "videos" / name).mkdir(parents=True)
        for number in range(4):
            frames = rng.integers(lowest, lowest + 70, (8, 32, 32, 3), dtype=np.uint8)
            write_video(folder / "videos" / name / f"s{number}_{name}.mp4", frames)
    pattern = ("--group_pattern", r"/(s\d)_")
    videomae("split", folder / "videos", folder / "splits", "--folds", 2, *pattern, "--copies", "ignore")
    return folder / "splits"


def run(splits, output, *more) -> None:
    options = {
        **TINY, "folds": splits, "output_dir": output, "learning_rate": 3e-3, "max_steps": 30, "sampling_rate": 1,
        "per_device_train_batch_size": 4, "use_cpu": "true", "disable_tqdm": "true", "save_strategy": "no",
    }  # fmt: skip
    videomae("finetune", *(f"--{name}={value}" for name, value in options.items()), *more)


def test_a_run_for_each_fold(tmp_path, splits, capsys):
    run(splits, tmp_path)
    output = capsys.readouterr().out
    assert "Fold 1 of 2, fold_0: finetune" in output and "Fold 2 of 2, fold_1: finetune" in output
    found = json.loads((tmp_path / "folds.json").read_text())
    scores = [json.loads((tmp_path / name / "all_results.json").read_text()) for name in ("fold_0", "fold_1")]
    assert [one["videos"] for one in found["folds"].values()] == [4, 4]
    assert found["mean"]["top1"] == statistics.mean(one["eval_top1"] for one in scores)
    settings = (tmp_path / "fold_1" / "settings.yaml").read_text()
    assert "fold_1/train.csv" in settings and "folds" not in settings.replace("fold_", "")
    run(splits, tmp_path)
    output = capsys.readouterr().out
    assert output.count("already finished") == 2 and "std" in output
    assert "WARNING: each fold chooses" not in output


def test_results_of_another_split_are_not_counted(tmp_path, splits):
    """Folds with other lists would overlap."""
    for fold in ("fold_0", "fold_1"):
        folder = tmp_path / "out" / fold
        folder.mkdir(parents=True)
        (folder / "stage_finished.json").write_text('{"lists": "00000000"}')
    with pytest.raises(ValueError, match="fold_0 holds results of other lists than those of fold_0; remove it"):
        run(splits, tmp_path / "out")
    with pytest.raises(ValueError, match="push_to_hub would upload every fold to one repository"):
        run(splits, tmp_path / "other", "--push_to_hub=true")


def test_choosing_checkpoints_on_the_scored_videos_is_said(tmp_path, splits, capsys):
    best = ("--load_best_model_at_end=true", "--eval_strategy=steps", "--eval_steps=15", "--save_steps=15")
    run(splits, tmp_path, "--save_strategy=steps", *best, "--metric_for_best_model=top1")
    assert "WARNING: each fold chooses its checkpoint on the videos that it is scored on" in capsys.readouterr().out


def test_what_is_refused(tmp_path, splits):
    with pytest.raises(ValueError, match="folds names the lists to train on and to score on; leave out train_data"):
        run(splits, tmp_path, "--train_data=videos")
    with pytest.raises(ValueError, match="pretrain does not use --folds"):
        videomae("pretrain", "--folds", splits, "--output_dir", tmp_path)

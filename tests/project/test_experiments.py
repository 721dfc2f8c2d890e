# Copyright 2026 The videomae_hf authors. Licensed under the Apache License, Version 2.0.
"""examples/experiments: splits without leaks, tables and summaries, and the scripts from the command line."""

import importlib.util
import itertools
import json
import math
import os
import signal
import subprocess
import sys
from types import SimpleNamespace

import numpy as np
import pytest
from helpers.shared import REPO
from PIL import Image

from videomae_hf.data.sources.folders_and_lists import VideoRecord
from videomae_hf.data.sources.synthetic import CLASSES, synthesise_dataset


EXPERIMENTS = REPO / "examples" / "experiments"
SCRIPT = EXPERIMENTS / "compare.py"


def script(name: str):
    spec = importlib.util.spec_from_file_location(name, EXPERIMENTS / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(EXPERIMENTS)  # as for a script, which imports its siblings
        spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def compare():
    return script("compare")


@pytest.fixture
def samples():
    return [VideoRecord(f"videos/{label}/{i}.mp4", label) for label in range(2) for i in range(6)]


def test_no_group_is_in_both_parts_and_each_is_held_out_once(compare, samples):
    groups = [f"seq{i % 6}" for i in range(len(samples))]
    seen = []
    for seed in range(3):
        train, held_out = compare.split_by_group(samples, groups, seed)
        group_of = {sample.path: group for sample, group in zip(samples, groups)}
        held_out_groups = {group_of[sample.path] for sample in held_out}
        assert held_out_groups == {f"seq{seed}", f"seq{seed + 3}"}
        assert not held_out_groups & {group_of[sample.path] for sample in train}
        assert len(train) + len(held_out) == len(samples)
        seen += held_out
    assert sorted(sample.path for sample in seen) == sorted(sample.path for sample in samples)
    with pytest.raises(ValueError, match="2 groups are too few"):
        compare.split_by_group(samples, ["a", "b"] * 6, 0)


def test_groups_are_read_by_path(compare, samples, tmp_path):
    table = tmp_path / "groups.tsv"
    lines = [f"{label}/{i}.mp4\tset1\tseq{i}" for i in reversed(range(6)) for label in range(2)]
    table.write_text("\n".join(["path\tset\tsequence", *lines]))
    assert compare.read_groups(samples, "videos", table, "sequence") == [f"seq{i}" for i in [*range(6)] * 2]
    with pytest.raises(ValueError, match="columns path and day"):
        compare.read_groups(samples, "videos", table, "day")
    table.write_text("\n".join(["path\tset\tsequence", *lines[1:]]))
    with pytest.raises(ValueError, match=r"no line for 0/5.mp4 \(1 videos"):
        compare.read_groups(samples, "videos", table, "sequence")


def test_labelled_videos_are_as_many_of_each_class_and_others_for_other_seeds(compare, samples):
    chosen = compare.choose_labelled(samples, 2, seed=0)
    assert [sample.label for sample in chosen] == [0, 0, 1, 1] and len({sample.path for sample in chosen}) == 4
    assert chosen == compare.choose_labelled(samples, 2, seed=0) != compare.choose_labelled(samples, 2, seed=1)
    assert compare.choose_labelled(samples, None, seed=0) == samples
    with pytest.raises(ValueError, match="labels_per_class=7, but class 0 has 6"):
        compare.choose_labelled(samples, 7, seed=0)


def run_line(method, labels, seed, accuracy, steps=(0, 200), seconds=(0.0, 30.0)) -> dict:
    names = ("method", "labels_per_class", "seed", "accuracy", "steps", "cpu_seconds")
    return dict(zip(names, (method, labels, seed, accuracy, steps, seconds)))


def test_table_of_runs(compare):
    runs = [
        run_line("V1", None, 0, 0.5, (100, 50), (20.0, 10.0)),
        run_line("from scratch", 5, 1, 0.5),
        run_line("from scratch", 5, 0, 0.4, seconds=(0.0, 31.0)),
        run_line("from scratch", 5, 2, 0.6),
        *(run_line("V1", 5, seed, accuracy) for seed, accuracy in enumerate((0.3, 0.6))),
    ]
    lines = compare.table(runs).splitlines()
    assert lines[2:] == [  # the differences are 10 and -10
        "| 5 | from scratch | 0 + 200 | 0.0 + 30.3 | 50.0 ± 10.0 | 40.0, 50.0, 60.0 | +0.0 ± 14.1 |",
        "| 5 | V1 | 0 + 200 | 0.0 + 30.0 | 45.0 ± 21.2 | 30.0, 60.0 |  |",
        "| all | V1 | 100 + 50 | 20.0 + 10.0 | 50.0 | 50.0 |  |",
    ]


def test_the_steps_of_the_ways_of_training(compare):
    """Given steps, or those of equal CPU seconds, of which two thirds are for pretraining."""
    given = SimpleNamespace(steps=[4800, 300], seconds=None)
    names = ("from scratch", "from scratch, finetuning steps only", "V1", "V1, then token_keep 0.5")
    steps = [compare.steps_of(compare.METHODS[name], given, {}) for name in names]
    assert steps == [(0, 5100), (0, 300), (4800, 300), (4800, 300)]
    costs = {"pretrain, V1": 0.1, "finetune, videomae_hf": 0.2, "finetune, videomae_hf, token_keep 0.5": 0.1}
    timed = SimpleNamespace(seconds=60, pretraining_part=2 / 3)
    steps = [compare.steps_of(compare.METHODS[name], timed, costs) for name in names]
    assert steps == [(0, 300), (0, 100), (400, 100), (400, 200)]


def execute(*arguments) -> str:
    """Output of the script; its whole process group is killed when it takes too long."""
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    command = [sys.executable, str(SCRIPT), *map(str, arguments)]
    process = subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment, start_new_session=True
    )
    try:
        output, errors = process.communicate(timeout=500)
    finally:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()
    assert process.returncode == 0, errors
    return output


@pytest.mark.slow
@pytest.mark.timeout(1200)
def test_script_runs_resumes_and_makes_its_table(tmp_path):
    synthesise_dataset(tmp_path / "train", videos_per_class=6, size=40, num_frames=16)
    synthesise_dataset(tmp_path / "val", videos_per_class=2, size=40, num_frames=16, seed=1)
    options = ["--train_data", tmp_path / "train", "--eval_data", tmp_path / "val", "--output_dir", tmp_path / "out"]
    options += ["--seconds", 1, "--labels_per_class", 2]
    execute(*options, "--seeds", 0)
    runs = [json.loads(line) for line in (tmp_path / "out/runs.jsonl").read_text().splitlines()]
    assert len(runs) == 10 and all(run["videos"] == [48, 16, 16] for run in runs)
    by_method = {run["method"]: run for run in runs}
    scratch, short, v1 = (by_method[name] for name in list(by_method)[:3])
    assert scratch["steps"][0] == 0 and v1["steps"][0] > 0
    assert short["steps"][1] == v1["steps"][1] < scratch["steps"][1]
    # The runs that are there are left alone; another seed is added to them.
    output = execute(*options, "--seeds", 0, 1, "--methods", "from scratch", "V1")
    assert "seed 0" not in output
    assert len((tmp_path / "out/runs.jsonl").read_text().splitlines()) == 12
    table = execute("--output_dir", tmp_path / "out", "--table")
    assert table.strip() == (tmp_path / "out/table.md").read_text().strip()
    assert table.count("\n| 2 |") == 10


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_groups_in_place_of_a_second_folder(tmp_path):
    synthesise_dataset(tmp_path / "videos", videos_per_class=3, size=40, num_frames=16)
    lines = [f"{name}/{name}_{i:05d}.mp4\t{i}" for name in CLASSES for i in range(3)]
    (tmp_path / "groups.tsv").write_text("\n".join(["path\tday", *lines]))
    options = ["--groups", tmp_path / "groups.tsv", "--group_column", "day", "--output_dir", tmp_path / "out"]
    execute("--train_data", tmp_path / "videos", *options, "--seconds", 0.5, "--methods", "from scratch")
    runs = [json.loads(line) for line in (tmp_path / "out/runs.jsonl").read_text().splitlines()]
    assert [run["videos"] for run in runs] == [[16, 16, 8]] * 3


def test_few_labels_compares_the_best_of_each_within_seeds():
    few_labels = script("few_labels")
    scores = {
        ("pretrained", 200, 1e-3): [0.5, 0.6, 0.4],
        ("from scratch", 200, 1e-3): [0.2, 0.2, 0.2],
        ("from scratch", 600, 1e-3): [0.4, 0.3, 0.2],
    }
    runs = [
        {"labels_per_class": 1, "seed": seed, "method": method, "steps": steps, "learning_rate": rate, "top1": top1}
        for (method, steps, rate), values in scores.items()
        for seed, top1 in enumerate(values)
    ]
    found = few_labels.summary(runs)
    assert found["from scratch"]["steps"] == 600 and found["seeds"] == [0, 1, 2]
    assert found["gain"] == pytest.approx(20)  # 10, 30, 20
    assert found["standard_error"] == pytest.approx(10 / 3**0.5)
    assert few_labels.describe(found).splitlines()[-1] == (
        "labelled videos a class: 1; pretraining gains 20.0 points (standard error 5.8, 3 paired seeds)"
    )


def study_runs() -> list[dict]:
    """Two runs of the recipe and one of another variant, with one set of labels."""

    def entry(step: int, explained: float, knn: float) -> dict:
        probes = {"labels": {"knn": knn, "linear_mean": knn + 0.1, "linear_places": knn + 0.2}}
        return {"step": step, "probes": probes, **({"eval_explained": explained} if step else {})}

    values = {"recipe": [(0.1, 0.4), (0.2, 0.5)], "tube 0.75": [(0.05, 0.3)]}
    return [
        {"variant": name, "steps": 1200, "seed": seed, "curve": [entry(0, 0, 0.125), entry(1200, *end)]}
        for name, ends in reversed(values.items())
        for seed, end in enumerate(ends)
    ]


def test_digits_as_images_and_their_pixels(tmp_path, capsys):
    """Two shades as two digits: any classifier of pixels tells them apart; few_labels lists images of each."""
    digits = script("digit_images")
    images = np.stack([np.full((8, 8), value) for value in (0, 1, 0, 16, 15, 16)])
    for part in ("train", "val"):
        digits.write_part(tmp_path / part, images, [0, 0, 0, 7, 7, 7])
    first = Image.open(tmp_path / "train/7/0003.png")
    assert (first.size, first.mode, first.getpixel((0, 0))) == ((32, 32), "RGB", (255, 255, 255))
    few = script("few_labels")
    (tmp_path / "config.json").write_text('{"num_frames": 1}')
    for number, expected in (("2", 2), ("all", 3)):
        labels = few.labels_number(number)
        settings = {"output_dir": tmp_path, "pretrained": tmp_path, "train_data": tmp_path / "train"}
        args = SimpleNamespace(labels_per_class=labels, **settings)
        few.write_list(args, seed=0)
        rows = few.list_of(args, 0).read_text().splitlines()[1:]
        assert [row.rsplit(",", 1)[1] for row in rows] == ["0"] * expected + ["7"] * expected
        assert script("pixel_baseline").top1(few.list_of(args, 0), tmp_path / "val") == 100


def test_the_videos_of_the_study_need_no_class_folders(tmp_path):
    videos = tmp_path / "videos"
    videos.mkdir()
    for number in range(4):
        (videos / f"{number}.mp4").touch()
    rows = script("pretraining_study").write_part(str(videos), 2, tmp_path).read_text().splitlines()
    assert rows == ["path", str(videos / "0.mp4"), str(videos / "2.mp4")]


def test_the_table_and_the_curves_of_the_study(tmp_path):
    study = script("pretraining_study")
    runs = study_runs()
    assert study.table(runs).splitlines() == [
        "| Variant | Steps | Explained | k-NN | linear, mean | linear, places | Seeds |",
        "|---|---|---|---|---|---|---|",
        "| recipe | 1,200 | 15.0 ± 7.1 % | 45.0 ± 7.1 % | 55.0 ± 7.1 % | 65.0 ± 7.1 % | 2 |",
        "| tube 0.75 | 1,200 | 5.0 % | 30.0 % | 40.0 % | 50.0 % | 1 |",
    ]
    explained, knn, places = study.curves_of([run for run in runs if run["variant"] == "recipe"], "labels")
    assert knn == ([0, 1200], pytest.approx([12.5, 45])) and places[1] == pytest.approx([32.5, 65])
    assert math.isnan(explained[1][0]) and explained[1][1] == pytest.approx(15)
    study.save_picture(runs, tmp_path / "curves.png")
    assert Image.open(tmp_path / "curves.png").size == (880, 152)  # the row of masks


def test_the_table_in_the_docs_is_that_of_the_kept_runs():
    study = script("pretraining_study")
    page = (REPO / "docs/when_pretraining_pays.md").read_text(encoding="utf-8")
    runs = study.read_runs(EXPERIMENTS / "results" / "pretraining_study.jsonl")
    assert len(runs) >= len(study.VARIANTS) and study.table(runs) in page


def test_table_and_goals_of_videobert():
    study = script("videobert_study")
    first, other = list(study.BACKBONES)[0], list(study.BACKBONES)[2]
    scores = dict.fromkeys((*study.COLUMNS.values(), *study.GOALS), 0.9)
    weak = {**scores, "recall1_motion": 0.2}
    conditions = {**dict.fromkeys(study.CONDITIONS, scores), "text": dict.fromkeys(scores, 0.5)}
    runs = [
        {"backbone": first, "seed": 0, "scores": conditions},
        {"backbone": first, "seed": 1, "scores": {**conditions, "video": weak}},
        {"backbone": other, "seed": 0, "scores": {"video": {**scores, "captions_exact": None}}},
    ]
    lines = study.table(runs).splitlines()
    assert len(lines) == 2 + len(study.CONDITIONS) + 1
    assert lines[2] == f"| {first} | video | " + "90 ± 0 | " * 4 + "55 ± 49 | " + "90 ± 0 | " * 3 + "2 |"
    assert lines[6].startswith(f"| {first} | text | 50 ± 0 |")
    assert lines[7] == f"| {other} | video | " + "90 | " * 7 + " | 1 |"
    assert study.goals(runs[2:]) == ""
    found = study.goals(runs).splitlines()
    assert "reached  contrast_motion: 90.0% (goal: 80%)" in found
    assert "MISSED   contrast_colour: 90.0% (goal: 95%)" in found
    assert "MISSED   recall1_motion: 55.0% (goal: 60%)" in found


def test_the_table_of_videobert_in_the_docs_is_that_of_the_kept_runs():
    study = script("videobert_study")
    runs = study.read_runs(EXPERIMENTS / "results" / "videobert_study.jsonl")
    assert study.table(runs) in (REPO / "docs/videobert.md").read_text(encoding="utf-8")


def test_probes_see_a_mean_and_a_place():
    """Labels that the mean tells, and labels that only the place of a token tells."""
    features = script("frozen_features")
    rng = np.random.default_rng(0)

    def tokens(labels: np.ndarray, *, placed: bool) -> np.ndarray:
        found = rng.normal(0, 0.1, (len(labels), 4, 8)).astype(np.float32)
        for row, label in enumerate(labels):
            found[row, label if placed else slice(None), 0 if placed else label] += 1
        return found

    labels = [np.arange(80) % 4, np.arange(40) % 4]
    in_means = features.probe_accuracies(*((tokens(part, placed=False), part) for part in labels))
    assert in_means == {"knn": 1, "linear_mean": 1, "linear_places": 1}
    in_places = features.probe_accuracies(*((tokens(part, placed=True), part) for part in labels))
    assert in_places["linear_places"] == 1 and in_places["linear_mean"] < 0.6 and in_places["knn"] < 0.6


def test_digits_move_in_the_direction_of_their_label():
    digits = script("moving_digits")
    image = np.full((8, 8), 16.0)
    for direction, (rows, columns) in digits.DIRECTIONS.items():
        frames = digits.moving_digit(image, direction, np.random.default_rng(1)).astype(int)
        assert frames.shape == (32, 64, 64, 3)
        moves = {
            (row, column)
            for row in range(-3, 4)
            for column in range(-3, 4)
            if np.array_equal(np.roll(frames[0], (row, column), axis=(0, 1)), frames[1])
        }
        assert len(moves) == 1
        row, column = moves.pop()
        assert (np.sign(row), np.sign(column)) == (rows, columns)


def test_the_bars_of_the_demo():
    bars = script("demo_bars")
    losses = {"model": 0.3, "patch_mean": 0.41, "nearest_in_space": 0.64, "nearest_in_time": 0.7}
    assert [bar.reached for bar in bars.reconstruction_bars(losses)] == [True, True, True]
    assert [bar.reached for bar in bars.reconstruction_bars({**losses, "model": 0.45})] == [False, False, False]
    history = [{"loss": 1.0}, {"eval_knn_top1": 0.4}, {"eval_knn_top1": 0.45}]
    assert not bars.knn_bar(history).reached and bars.knn_bar([*history, {"eval_knn_top1": 0.6}]).reached
    few = {"gain": 16.0, "standard_error": 2.0, "seeds": [0, 1, 2, 3, 4], "labels_per_class": 1}
    assert bars.few_labels_bar(few).reached
    for changed in ({"gain": 14.0}, {"standard_error": 9.0}, {"seeds": [0, 1]}):
        assert not bars.few_labels_bar(few | changed).reached
    # Shuffled frames: all of the right kind, half of these in the right direction; then all in the right one
    classes = [name for pair in bars.KINDS for name in pair]
    halves = [[5 if row // 2 == column // 2 else 0 for column in range(8)] for row in range(8)]
    right = [[10 if row == column else 0 for column in range(8)] for row in range(8)]
    for matrix, reached in ((halves, True), (right, False)):
        shuffled = {"confusion_matrix": matrix, "value": 0.5}
        report = {"score": {"value": 0.95}, "classes": classes, "perturbed": {"shuffled": shuffled}}
        assert [bar.reached for bar in bars.classification_bars(report)] == [True, reached]


def test_the_table_of_fewer_tokens_is_that_of_the_kept_runs():
    fewer = script("fewer_tokens")
    runs = fewer.read_runs(EXPERIMENTS / "results" / "fewer_tokens.jsonl")
    assert {run["seed"] for run in runs} == {0, 1, 2} and len(runs) == 21
    assert all(sum(run["training"] == name for run in runs) == 3 for name in fewer.TRAININGS)
    table = fewer.table(runs)
    assert table in (REPO / "docs" / "finetune.md").read_text(encoding="utf-8")
    # 92.8, 93.2 and 88.8 %: mean and standard deviation by hand
    scores = [100 * run["top1"] for run in runs if run["training"] == "all tokens"]
    assert (
        f"| all tokens | all tokens | {np.mean(scores):.1f} ± {np.std(scores, ddof=1):.1f} % | 1.00 | 1.00 |" in table
    )


@pytest.mark.slow
def test_the_experiments_run_from_the_command_line(tmp_path):
    for part, seed in (("train", 0), ("val", 1)):
        synthesise_dataset(tmp_path / part, videos_per_class=2, size=32, num_frames=16, seed=seed)
    small = [f"{name}: {tmp_path / part}" for name, part in (
        ("train_data", "train"), ("eval_data", "val"), ("probe_train_data", "train"), ("probe_eval_data", "val")
    )]  # fmt: skip
    lines = (REPO / "examples/recipes/demo_pretrain.yaml").read_text().splitlines()
    kept = [line for line in lines if line.split(":")[0] not in {text.split(":")[0] for text in small}]
    (tmp_path / "pretrain.yaml").write_text("\n".join([*kept, *small]))
    options = ["--recipe", tmp_path / "pretrain.yaml", "--variants", "recipe", "plain pixels", "--steps", "4"]
    run_script("pretraining_study.py", tmp_path / "study", *options)
    runs = [json.loads(line) for line in (tmp_path / "study/runs.jsonl").read_text().splitlines()]
    assert {run["variant"] for run in runs} == {"recipe", "plain pixels"}
    assert all([entry["step"] for entry in run["curve"]] == [0, 1, 2, 3, 4] for run in runs)
    assert all(0 <= run["curve"][-1]["probes"]["labels"]["linear_places"] <= 1 for run in runs)
    table = ["--table", "--picture", tmp_path / "curves.png"]
    assert "| plain pixels | 4 |" in run_script("pretraining_study.py", tmp_path / "study", *options[:2], *table)
    assert (tmp_path / "curves.png").stat().st_size > 10_000
    pretrain = [sys.executable, "train.py", "pretrain", tmp_path / "pretrain.yaml", "--max_steps", "2"]
    subprocess.run([*pretrain, "--output_dir", tmp_path / "pre"], cwd=REPO, check=True, capture_output=True)
    data = ["--train_data", tmp_path / "train", "--eval_data", tmp_path / "val"]
    few = [tmp_path / "few", "--pretrained", tmp_path / "pre", *data, "--seeds", "2", "--steps", "2"]
    assert "2 paired seeds" in run_script("few_labels.py", *few)
    assert len((tmp_path / "few/runs.jsonl").read_text().splitlines()) == 6
    run_script("few_labels.py", *few)  # nothing is left to run
    assert len((tmp_path / "few/runs.jsonl").read_text().splitlines()) == 6


def run_script(name: str, *arguments) -> str:
    command = [sys.executable, str(EXPERIMENTS / name), *map(str, arguments)]
    done = subprocess.run(command, cwd=REPO, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-3000:]
    return done.stdout


def test_the_table_of_the_ways_of_training_is_that_of_the_kept_runs(compare):
    runs = compare.read_runs(EXPERIMENTS / "results" / "ways_of_training.jsonl")
    page = (REPO / "docs" / "pretrain.md").read_text(encoding="utf-8")
    assert sorted((run["method"], run["seed"]) for run in runs) == sorted(itertools.product(compare.METHODS, range(3)))
    for line in compare.table(runs).splitlines():
        assert line in page

# Copyright 2026 The videomae_hf authors. Licensed under the Apache License, Version 2.0.
"""examples/experiments/compare.py: splits without leaks, the table, and the script from the command line."""

import importlib.util
import json
import os
import signal
import subprocess
import sys

import pytest
from helpers.shared import REPO

from videomae_hf.data.sources.folders_and_lists import VideoRecord
from videomae_hf.data.sources.synthetic import CLASSES, synthesise_dataset


SCRIPT = REPO / "examples" / "experiments" / "compare.py"


@pytest.fixture(scope="module")
def compare():
    spec = importlib.util.spec_from_file_location("compare", SCRIPT)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


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
        run_line("V1: tube 0.9", None, 0, 0.5, (100, 50), (20.0, 10.0)),
        run_line("from scratch", 5, 1, 0.5),
        run_line("from scratch", 5, 0, 0.4, seconds=(0.0, 31.0)),
        run_line("from scratch", 5, 2, 0.6),
    ]
    lines = compare.table(runs).splitlines()
    assert lines[2:] == [
        "| 5 | from scratch | 0 + 200 | 0.0 + 30.3 | 50.0 ± 10.0 | 40.0, 50.0, 60.0 |",
        "| all | V1: tube 0.9 | 100 + 50 | 20.0 + 10.0 | 50.0 | 50.0 |",
    ]


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
    assert len(runs) == 9 and all(run["videos"] == [48, 16, 16] for run in runs)
    by_method = {run["method"]: run for run in runs}
    scratch, short, v1 = (by_method[name] for name in list(by_method)[:3])
    assert scratch["steps"][0] == 0 and v1["steps"][0] > 0
    assert short["steps"][1] == v1["steps"][1] < scratch["steps"][1]
    # The runs that are there are left alone; another seed is added to them.
    output = execute(*options, "--seeds", 0, 1, "--methods", "from scratch", "V1: tube 0.9")
    assert "seed 0" not in output
    assert len((tmp_path / "out/runs.jsonl").read_text().splitlines()) == 11
    table = execute("--output_dir", tmp_path / "out", "--table")
    assert table.strip() == (tmp_path / "out/table.md").read_text().strip()
    assert table.count("\n| 2 |") == 9


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

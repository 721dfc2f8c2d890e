"""The benchmarks run, on one small video; their figures are for people to look at."""

import json
import os
import sys

import pytest
from helpers.commands import run as run_command
from helpers.indexed_video import write_indexed_video
from helpers.shared import REPO


@pytest.mark.slow
@pytest.mark.parametrize(
    ("script", "options", "row"),
    [
        ("loading.py", ["--starts", "2"], "| here, prepared, 4 clips a decoding |"),
        ("decoding.py", ["--repeats", "2"], "| clip.mp4 | mov h264 | 80 | right |"),
        ("memory.py", ["--clips", "750"], "| pyav | 750 |"),
    ],
)
def test_benchmarks_of_loading(tmp_path, script, options, row):
    video = write_indexed_video(tmp_path / "clip.mp4", 80)
    command = [sys.executable, str(REPO / "benchmarks" / script), str(video), *options]
    environment = {**os.environ, "PYTHONPATH": str(REPO), "OMP_NUM_THREADS": "1"}
    done = run_command(command, cwd=tmp_path, env=environment)
    assert done.returncode == 0, done.stderr[-2000:]
    assert row in done.stdout


# 4 blocks of width 384, where 392 tokens (query, output and MLP) attend to 160 (key and value), and the pixels
CROSS_DECODER = 4 * 384 * (392 * 10 * 384 + 160 * 2 * 384 + 2 * 392 * 160) + 392 * 384 * 1536


@pytest.mark.slow
@pytest.mark.parametrize(
    ("options", "rows"),
    [
        (["--decoder_type", "cross", "--decoder_mask_ratio", "0.75"], [f"| decoder | {CROSS_DECODER / 1e9:.2f} |"]),
        # Encoder of V1: 12 layers of 160 tokens with width 768, 4 projections, 2 products of attention and the MLP
        ([], [f"| encoder | {12 * 160 * (12 * 768 * 768 + 2 * 160 * 768) / 1e9:.2f} |"]),
        (["--images"], [f"| encoder | {12 * 50 * (12 * 768 * 768 + 2 * 50 * 768) / 1e9:.2f} |", "147 decoded"]),
    ],
)
def test_flops(options, rows):
    environment = {**os.environ, "PYTHONPATH": str(REPO)}
    done = run_command([sys.executable, str(REPO / "benchmarks" / "flops.py"), *options], env=environment)
    assert done.returncode == 0, done.stderr[-2000:]
    assert all(row in done.stdout for row in rows)


@pytest.mark.slow
@pytest.mark.parametrize("options", [["--size", "small"], ["--images"]])
def test_pretrain_step(options):
    """Which also compares the losses with those of transformers."""
    command = [sys.executable, str(REPO / "benchmarks" / "pretrain_step.py"), "--batch_size", "1", "--repeats", "1"]
    done = run_command([*command, *options], env={**os.environ, "PYTHONPATH": str(REPO)})
    assert done.returncode == 0, done.stderr[-2000:]
    assert "| transformers |" in done.stdout
    assert "| ours, cross decoder, 25 %, mask 0.95 |" in done.stdout or "--images" in options


@pytest.mark.slow
@pytest.mark.parametrize(
    ("script", "options", "rows"),
    [
        ("fewer_tokens.py", ["--size", "small", "--batch_size", "1"], ["| inference | ours, static_keep 0.5 |"]),
        (
            "gpu.py",
            ["--device", "cpu", "--sizes", "tiny", "--dtype", "float32", "--batch_size", "2", "--no-compile"],
            ["| pretraining | tiny | ours, V2 dual masking | eager |", "| finetuning | tiny | transformers | eager |"],
        ),
    ],
)
def test_tables_and_files_of_results(tmp_path, script, options, rows):
    """A file has date, device and versions."""
    command = [sys.executable, str(REPO / "benchmarks" / script), *options, "--repeats", "1"]
    environment = {**os.environ, "PYTHONPATH": str(REPO)}
    done = run_command([*command, "--output", str(tmp_path / "results" / "out.json")], env=environment)
    assert done.returncode == 0, done.stderr[-2000:]
    assert all(row in done.stdout for row in rows)
    content = json.loads((tmp_path / "results" / "out.json").read_text())
    assert {"date", "device", "threads", "python", "torch", "transformers", "settings", "rows"} == content.keys()
    assert not any("failed" in row for row in content["rows"])


@pytest.mark.parametrize("size", ["small", "base"])
def test_the_table_of_the_docs_is_that_of_the_results(size):
    text = (REPO / "docs" / "comparison.md").read_text(encoding="utf-8")
    first = {"small": 1, "base": 4}[size]
    cells = {line.split(" | ")[0].strip("| "): line.strip("| ").split(" | ") for line in text.splitlines()}
    for row in json.loads((REPO / "benchmarks" / "results" / f"pretrain_step_{size}.json").read_text())["rows"]:
        expected = [f"{row[name]:.2f}x" for name in ("speed_up", "bound", "of_peak")]
        assert cells[row["model"]][first : first + 3] == expected


def test_the_table_of_compiled_models_is_that_of_the_results():
    text = (REPO / "docs" / "comparison.md").read_text(encoding="utf-8")
    lines = text.split("| Against transformers, eager |")[1].split("\n\n")[0].splitlines()
    cells = {line.split(" | ")[0].strip("| "): line.strip("| ").split(" | ")[1:] for line in lines}
    results = REPO / "benchmarks" / "results"
    expected = {}
    for size in ("small", "base"):
        rows = json.loads((results / f"pretrain_step_{size}_compiled.json").read_text())["rows"]
        found = {("pretraining step", row["model"]): row["speed_up"] for row in rows}
        rows = json.loads((results / f"fewer_tokens_{size}_compiled.json").read_text())["rows"]
        found |= {(row["kind"], row["model"]): row["of_transformers"] for row in rows}
        for kind, model in found:
            if (kind, f"{model}, compiled") in found:
                title = f"{kind}, {model.replace('ours, all tokens', 'ours')}"
                both = (found[kind, model], found[kind, f"{model}, compiled"])
                expected.setdefault(title, []).extend(f"{value:.2f}x" for value in both)
    assert len(expected) == 8 and {title: cells[title] for title in expected} == expected

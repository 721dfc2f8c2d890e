"""The benchmarks run, on one small video; their figures are for people to look at."""

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


@pytest.mark.slow
@pytest.mark.parametrize(
    ("options", "rows"),
    [
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

"""`videomae benchmark`: its rows, units and reasons; not its speeds."""

import json
import multiprocessing
import shlex
from types import SimpleNamespace

import pytest
import torch
from helpers.trained_models import save_trained, write_three_motions

from videomae_hf import cli
from videomae_hf.commands import benchmark
from videomae_hf.inference import benchmarking
from videomae_hf.inference.benchmarking import Measurement, runner_of


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    place = tmp_path_factory.mktemp("place")
    save_trained(place / "model")
    write_three_motions(place / "a.mp4", 4)
    return place


def test_help_begins_with_commands(capsys):
    with pytest.raises(SystemExit):
        cli.main(["benchmark", "--help"])
    lines = [line for line in capsys.readouterr().out.splitlines() if line.startswith("  videomae")]
    assert len(lines) == 3
    for line in lines:
        benchmark.check_arguments(benchmark.parse_arguments(shlex.split(line)[2:]))


def test_rows_of_a_benchmark(place, tmp_path, capsys, monkeypatch):
    """One runtime in a process of its own, and one that is not installed."""
    monkeypatch.setattr(benchmarking.importlib.util, "find_spec", lambda name: None)
    line = f"{place}/model --runtimes eager openvino --batch_sizes 1 3 --repeats 2 --device cpu"
    cli.main(["benchmark", *shlex.split(line), "--video", str(place / "a.mp4"), "--json", str(tmp_path / "b.json")])
    out = capsys.readouterr().out
    assert "clips of 4 x 32 x 32, cpu" in out and "2 repeats" in out
    rows = [text.split() for text in out.splitlines() if text.startswith(("eager", "openvino"))]
    assert [row[:2] for row in rows] == [["eager", "1"], ["eager", "3"], ["openvino", "1"], ["openvino", "3"]]
    assert " ".join(rows[2][2:]) == "not run: ImportError: openvino is not installed"
    assert "a.mp4 (40 x 40): one thread prepares" in out
    found = json.loads((tmp_path / "b.json").read_text())
    assert [(row["runtime"], row["batch_size"], len(row["seconds"])) for row in found["rows"]] == [
        ("eager", 1, 2), ("eager", 3, 2), ("openvino", 1, 0), ("openvino", 3, 0)
    ]  # fmt: skip
    for row in found["rows"][:2]:
        rates = row["clips_per_second"]
        assert rates["highest"] == pytest.approx(row["batch_size"] / min(row["seconds"]))
        assert rates["lowest"] <= rates["median"] <= rates["highest"]
        assert row["error"] is None and (row["peak_memory"] is None or 2**26 < row["peak_memory"] < 2**33)
    assert found["rows"][2]["error"] and found["rows"][2]["clips_per_second"]["median"] is None
    assert found["decoding"]["width"] == 40 and found["decoding"]["frames_per_second"] > 0


def test_median_and_spread():
    row = Measurement("eager", 4, [2.0, 1.0, 8.0], 3 * 2**30)
    assert row.clips_per_second == (2.0, 0.5, 4.0)
    assert benchmark.table([row])[-1].split() == ["eager", "4", "2.00", "0.50", "to", "4.00", "3.00", "GiB"]
    assert benchmark.table([Measurement("bf16", 1, [1.0])])[-1].endswith("not measured")


@pytest.mark.parametrize("runtime", ["eager", "bf16"])
def test_runtimes_run_batches_of_any_size(place, runtime):
    run = runner_of(runtime, str(place / "model"), place, torch.device("cpu"))
    for size in (1, 3):
        seconds, _ = benchmarking.measured(lambda size=size: run(size), torch.device("cpu"))
        assert seconds > 0


@pytest.mark.parametrize(("status", "reason"), [(-9, "was killed, probably for lack of memory"), (1, "ended")])
def test_a_process_that_dies_is_told(status, reason):
    worker = benchmarking._Worker("eager")
    worker.connection, other = multiprocessing.Pipe()
    other.close()
    worker.process = SimpleNamespace(exitcode=status, join=lambda: None)
    expected = f"its process {reason} (exit status {status})"
    assert worker.run(1) == (0.0, None, expected) and worker.run(1)[2] == expected


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("--runtimes jax", "--runtimes jax is unknown; choose from eager, compiled, bf16"),
        ("--batch_sizes 0", "must be at least 1"),
        ("--repeats 0", "must be at least 1"),
        ("--video none.mp4", "none.mp4"),
    ],
)
def test_mistakes_are_told(place, line, message, capsys):
    with pytest.raises(SystemExit):
        cli.main(["benchmark", f"{place}/model", *line.split(), "--device", "cpu"])
    assert message in capsys.readouterr().err

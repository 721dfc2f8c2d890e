"""`videomae extract` and `videomae search` as a user runs them, in one process and in two, of which one is killed."""

import csv
import json
import shlex
import time

import numpy as np
import pytest
from helpers import launching, shares
from helpers.commands import command_in
from helpers.trained_models import save_trained, write_three_motions
from PIL import Image

from videomae_hf import cli
from videomae_hf.commands import extract, search
from videomae_hf.inference.feature_folder import FeatureFolder


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """Two models, and twelve short videos in two folders."""
    place = tmp_path_factory.mktemp("place")
    save_trained(place / "model")
    save_trained(place / "other", hidden_size=48)
    for number in range(12):
        folder = place / "videos" / ("left" if number % 2 else "right")
        folder.mkdir(parents=True, exist_ok=True)
        write_three_motions(folder / f"{number}.mp4", 4 + number % 3)
    (place / "bad.mp4").write_bytes(b"no video")
    return place


@pytest.fixture
def command(place, tmp_path, capsys, monkeypatch):
    """Runs a command in `tmp_path`: exit status, output and errors."""
    monkeypatch.chdir(tmp_path)
    return command_in(place, capsys)


@pytest.mark.parametrize(("verb", "module"), [("extract", extract), ("search", search)])
def test_help_begins_with_commands(capsys, verb, module):
    with pytest.raises(SystemExit):
        cli.main([verb, "--help"])
    lines = [line for line in capsys.readouterr().out.splitlines() if line.startswith(f"  videomae {verb} ")]
    assert lines
    for line in lines:
        module.parse_arguments(shlex.split(line.split(f" {verb} ")[1]))


def features_of(folder) -> dict[str, np.ndarray]:
    """The features of a folder by path."""
    found = FeatureFolder(folder)
    return {name: found.load(record)["features"] for name, record in found.records.items()}


def test_a_folder_of_features(command, place, tmp_path):
    """Broken videos are named, counted and skipped; the same command tries these again, and nothing else."""
    line = "extract PLACE/model PLACE/videos PLACE/bad.mp4 PLACE/none.mp4 out --dtype_out float16 --json"
    status, out, err = command(line)
    assert status == 1 and f"failed: {place}/bad.mp4 cannot be decoded" in err
    assert "12 videos with features in out" in err
    assert "2 videos of 14 without features, for the reasons in out/failed.csv" in err
    assert "clips/s (decoding alone: " in err and "features: pooled, mean of all tokens" in err
    records = [json.loads(text) for text in out.splitlines()]
    assert len(records) == 14 and sum("error" in one for one in records) == 2
    assert (tmp_path / "out" / "left" / "1.mp4.safetensors").is_file()
    reasons = dict(list(csv.reader((tmp_path / "out" / "failed.csv").open()))[1:])
    assert reasons.keys() == {f"{place}/bad.mp4", f"{place}/none.mp4"}
    found = features_of(tmp_path / "out")
    assert len(found) == 12 and {(one.shape, one.dtype.name) for one in found.values()} == {((1, 24), "float16")}
    before = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*.safetensors")}
    status, out, err = command(line)
    assert (status, len(out.splitlines())) == (1, 2) and "2 videos of 14, and 12 that have features" in err
    assert before == {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*.safetensors")}
    assert command("extract PLACE/model PLACE/bad.mp4 none")[0] == 2


def test_another_model_and_other_settings_are_refused(command):
    assert command("extract PLACE/model PLACE/videos/left/1.mp4 out")[0] == 0
    status, _, err = command("extract PLACE/other PLACE/videos/left/1.mp4 out")
    assert status == 1 and "out has features of another model" in err
    status, _, err = command("extract PLACE/model PLACE/videos/left/1.mp4 out --window 8f")
    assert (
        status == 1
        and "out has features with windows=None, not '--window 8f --stride 4f'" in err
        and "Traceback" not in err
    )


def test_the_layout_of_temporal_action_detection(command, tmp_path):
    """18 frames of video 4, windows of 4 consecutive frames: range(0, 15, 4)."""
    status, _, err = command("extract PLACE/model PLACE/videos/right/4.mp4 out --layout tad")
    found = np.load(tmp_path / "out" / "4.npy")
    assert (status, found.shape, found.dtype.name) == (0, (3, 24), "float32")  # 15 frames: range(0, 12, 4)
    status, _, err = command("extract PLACE/model PLACE/videos/right/4.mp4 other --layout tad --official_preprocessing")
    assert status == 0 and not np.allclose(np.load(tmp_path / "other" / "4.npy"), found, atol=1e-3)


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("PLACE/videos PLACE/bad.mp4", "is a file; give OUT, the folder for the features, after the inputs"),
        ("PLACE/bad.mp4 PLACE/videos", "holds other files; give OUT, a new folder for the features"),
        ("PLACE/bad.mp4 out --num_clips 0", "num_clips=0 must be at least 1"),
        ("PLACE/bad.mp4 out --official_preprocessing", "add --layout tad"),
        ("PLACE/bad.mp4 out --layout tad --features maps", "a pooled feature for each window"),
        ("PLACE/bad.mp4 out --layout tad --sampling_rate 2", "takes consecutive frames; leave --sampling_rate out"),
        ("PLACE/bad.mp4 out --layout tad --dtype_out float16", "layout=tad has an averaged pooled feature"),
        ("camera:0 out", "A camera has no end"),
        ("PLACE/bad.mp4 out --stride 2", "differ in their unit"),
    ],
)
def test_mistakes_end_in_one_line(command, line, message):
    status, out, err = command(f"extract PLACE/model {line}")
    assert (status, out) == (1, "") and message in err and "Traceback" not in err


def test_standard_input_has_one_reader(command, monkeypatch):
    monkeypatch.setenv("RANK", "0")
    monkeypatch.setenv("WORLD_SIZE", "2")
    status, _, err = command("extract PLACE/model - out")
    assert status == 1 and "Standard input has one reader, but 2 processes run" in err


def as_process(monkeypatch, rank: int, size: int = 2) -> None:
    monkeypatch.setenv("RANK", str(rank))
    monkeypatch.setenv("WORLD_SIZE", str(size))


def assert_like_one_process(folder, alone):
    ours, expected = features_of(folder), features_of(alone)
    assert ours.keys() == expected.keys() and len(ours) == 12
    for name in expected:
        np.testing.assert_allclose(ours[name], expected[name], atol=1e-5)
    names = sorted(path.name for path in folder.iterdir())
    assert names == ["failed.csv", "features.json", "left", "manifest.jsonl", "right"]
    lines = [(path / "manifest.jsonl").read_text() for path in (folder, alone)]
    assert lines[0] == lines[1]
    assert (folder / "failed.csv").read_text() == (alone / "failed.csv").read_text()


def test_two_processes_of_which_one_is_killed(command, place, tmp_path, monkeypatch):
    """The result is that of one process; finished files are left alone, and the last process reports."""
    line = "extract PLACE/model PLACE/videos PLACE/bad.mp4 OUT --window 4f --stride 2f"
    assert command(line.replace("OUT", "alone"))[0] == 1
    words = shlex.split(line.replace("PLACE", str(place)).replace("OUT", str(tmp_path / "out")))
    killed = shares.start(*words[:1], words[1:], rank=1, size=2, pause=0.5)
    while len(list(tmp_path.glob("out/*/*.safetensors"))) < 2:
        assert killed.poll() is None
        time.sleep(0.01)
    killed.kill()
    killed.wait()
    by_killed = {path: path.stat().st_mtime_ns for path in tmp_path.glob("out/*/*.safetensors")}
    as_process(monkeypatch, 0)
    status, _, err = command(line.replace("OUT", "out"))
    assert status == 0 and "process 1 of 2: 7 videos of 13" in err and "process 1 of 2 is done; others are not" in err
    assert not (tmp_path / "out" / "manifest.jsonl").exists()
    before = {path: path.stat().st_mtime_ns for path in tmp_path.glob("out/*/*.safetensors")}
    assert len(before) == len(by_killed) + 6 and before.items() >= by_killed.items()  # and a broken video
    assert command(line.replace("OUT", "out"))[0] == 0  # the same command, in both processes
    as_process(monkeypatch, 1)
    status, _, err = command(line.replace("OUT", "out"))
    assert status == 1 and "1 video of 13 without features" in err
    after = {path: path.stat().st_mtime_ns for path in tmp_path.glob("out/*/*.safetensors")}
    assert sum(after[path] != changed for path, changed in before.items()) <= 1  # killed before its line was written
    assert_like_one_process(tmp_path / "out", tmp_path / "alone")


def test_a_killed_run_continues_with_another_number_of_processes(command, tmp_path, monkeypatch):
    line = "extract PLACE/model PLACE/videos PLACE/bad.mp4 OUT --window 4f --stride 2f"
    assert command(line.replace("OUT", "alone"))[0] == 1
    as_process(monkeypatch, 1, 3)
    assert command(line.replace("OUT", "out"))[0] == 0
    monkeypatch.delenv("RANK"), monkeypatch.delenv("WORLD_SIZE")
    status, _, err = command(line.replace("OUT", "out"))
    assert status == 1 and "and 4 that have features" in err
    assert_like_one_process(tmp_path / "out", tmp_path / "alone")


@pytest.mark.slow
def test_torchrun(command, place, tmp_path):
    """Two processes at once, the launcher is killed, and the same command continues."""
    line = "extract PLACE/model PLACE/videos PLACE/bad.mp4 OUT --window 4f --stride 2f"
    assert command(line.replace("OUT", "alone"))[0] == 1
    words = shlex.split(line.replace("PLACE", str(place)).replace("OUT", str(tmp_path / "out")))
    process = launching.start(*words, launcher=[*launching.TORCHRUN, "-m"], script="videomae_hf.cli")
    while not list(tmp_path.glob("out/*/*.safetensors")):
        assert process.poll() is None
        time.sleep(0.01)
    launching.kill(process)
    status, output = launching.run(*words, launcher=[*launching.TORCHRUN, "-m"], script="videomae_hf.cli")
    assert status == 1 and "process 2 of 2: " in output and "1 video of 13 without features" in output
    assert_like_one_process(tmp_path / "out", tmp_path / "alone")


# ------------------------------------------------------------------------------------------------------------- search


def test_search(command, place, tmp_path):
    assert command("extract PLACE/model PLACE/videos index --window 4f --stride 2f")[0] == 0
    status, out, err = command("search index left/1.mp4 --top_k 3 --csv found.csv --picture sheet.jpg")
    rows = list(csv.DictReader((tmp_path / "found.csv").open()))
    assert status == 0 and len(out.splitlines()) == len(rows) == 3 and "Picture: sheet.jpg" in err
    assert [*rows[0]] == ["rank", "path", "start", "end", "similarity", "query_start", "query_end"]
    assert rows[0]["rank"] == "1" and all(row["path"] != f"{place}/videos/left/1.mp4" for row in rows)
    assert Image.open(tmp_path / "sheet.jpg").size[0] > 1000
    # A video that is not in the index is encoded by its model in the same way.
    copy = tmp_path / "copy.mp4"
    copy.write_bytes((place / "videos" / "left" / "1.mp4").read_bytes())
    status, out, _ = command("search index copy.mp4 --top_k 1")
    assert status == 0 and out.startswith("1.0000") and out.endswith("left/1.mp4\n")


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("index none.mp4", "none.mp4 is neither a file nor a video of index"),
        ("index PLACE/bad.mp4 --model PLACE/other", "is not the model of index: it has other weights; give --model"),
        ("index PLACE/bad.mp4", "bad.mp4 cannot be decoded"),
        ("none x.mp4", "none is no folder of features"),
        ("index x.mp4 --picture sheet.gif", "--picture sheet.gif must end in .jpg, .jpeg, .png"),
        ("index x.mp4 --csv none/x.csv", "none/x.csv cannot be written: there is no folder"),
        ("index x.mp4 --top_k 0", "--top_k 0 must be at least 1"),
    ],
)
def test_mistakes_in_a_search_end_in_one_line(command, line, message):
    if line.startswith("index"):
        assert command("extract PLACE/model PLACE/videos/left/1.mp4 index")[0] == 0
    status, out, err = command(f"search {line}")
    assert (status, out) == (1, "") and message in err and "Traceback" not in err

"""`videomae predict` as a user runs it."""

import csv
import importlib.util
import json
import os
import shlex

import pytest
from helpers.commands import command_in
from helpers.trained_models import save_trained, write_three_motions

from videomae_hf import cli
from videomae_hf.commands import predict
from videomae_hf.inference import frame_stream, predictor


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """A model, two short videos in a folder, and a long one."""
    place = tmp_path_factory.mktemp("place")
    save_trained(place / "model")
    (place / "videos").mkdir()
    for number in (2, 10):
        write_three_motions(place / "videos" / f"clip_{number}.mp4", 6)
    write_three_motions(place / "long.mp4")
    (place / "bad.mp4").write_bytes(b"no video")
    return place


@pytest.fixture
def command(place, tmp_path, capsys, monkeypatch):
    """Runs a command in `tmp_path`: exit status, output and errors."""
    monkeypatch.chdir(tmp_path)
    return command_in(place, capsys, "predict PLACE/model", "--device cpu --num_workers 1")


def test_help_begins_with_commands(capsys):
    with pytest.raises(SystemExit):
        cli.main(["predict", "--help"])
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[:2] for line in lines[2:5]] == [["videomae", "predict"]] * 3
    for line in lines[2:5]:
        predict.parse_arguments(shlex.split(line)[2:])


def test_a_line_for_each_video(command, place):
    status, out, err = command("PLACE/videos --num_clips 1 --num_crops 1 --top_k 2")
    assert status == 0 and [line.split(": ")[0] for line in out.splitlines()] == [
        f"{place}/videos/clip_2.mp4",
        f"{place}/videos/clip_10.mp4",
    ]
    assert all(line.count("%") == 2 for line in out.splitlines()) and "could not" not in err


def test_files_continue_where_they_stopped(command, place, tmp_path):
    """The exit status tells whether all, some or none of the videos were predicted."""
    line = "PLACE/bad.mp4 PLACE/videos PLACE/none.mp4 --csv out.csv --json out.json --num_clips 1"
    status, out, err = command(line)
    assert (status, len(out.splitlines())) == (1, 2)
    assert f"failed: {place}/bad.mp4 cannot be decoded: InvalidDataError" in err
    assert f"failed: No video file {place}/none.mp4" in err
    assert "2 videos of 4 could not be predicted, for the reasons above" in err
    written = (tmp_path / "out.csv").read_bytes(), (tmp_path / "out.json").read_bytes()
    rows = list(csv.DictReader(open("out.csv")))
    assert [row["path"] for row in rows] == [f"{place}/videos/clip_2.mp4", f"{place}/videos/clip_10.mp4"]
    objects = [json.loads(text) for text in open("out.json")]
    assert [[one["path"], *one["predicted"]] for one in objects] == [[row["path"], row["predicted"]] for row in rows]
    status, out, err = command(line)
    assert (status, out) == (1, "") and "2 videos of 4 skipped: already in out.csv and out.json" in err
    assert written == ((tmp_path / "out.csv").read_bytes(), (tmp_path / "out.json").read_bytes())
    status, out, err = command("PLACE/videos PLACE/long.mp4 --csv out.csv --num_clips 1")
    assert (status, len(out.splitlines())) == (0, 1) and len(list(csv.DictReader(open("out.csv")))) == 3
    assert command("PLACE/bad.mp4")[0] == 2


def test_a_timeline_of_a_long_video(command, place, tmp_path):
    pytest.importorskip("matplotlib")
    status, out, _ = command("PLACE/long.mp4 --window 0.4 --stride 0.2 --threshold 0.2 --picture pictures")
    rows = list(csv.reader(open("timeline.csv")))
    assert rows[0] == ["path", "start", "end", "jump", "run", "swim", "model"] and len(rows) == 12
    assert rows[1][:3] == [f"{place}/long.mp4", "0.000", "0.400"] and rows[-1][1:3] == ["2.000", "2.400"]
    assert all(sum(map(float, row[3:6])) == pytest.approx(1, abs=1e-4) for row in rows[1:])
    segments = json.loads(open("segments.json").read())["segments"]
    assert segments[0]["start"] == 0 and segments[-1]["end"] == pytest.approx(2.4)
    assert status == 0 and len(out.splitlines()) == 1 + len(segments)
    assert (tmp_path / "pictures" / "long.png").stat().st_size > 10_000
    status, out, err = command("PLACE/long.mp4 --window 0.4 --stride 0.2 --threshold 0.2")
    assert (status, out) == (0, "") and "1 video of 1 skipped: already in timeline.csv and segments.json" in err
    status, out, err = command("PLACE/long.mp4 --timeline")
    assert status == 1 and f"of {place}/model: window=0.4, stride=0.2, threshold=0.2, not of {place}/model; give" in err


def test_a_file_has_predictions_of_one_kind(command, place, tmp_path):
    assert command("PLACE/long.mp4 --csv out.csv --num_clips 1 --static_keep 0.5")[0] == 0
    (row,) = csv.DictReader(open("out.csv"))
    assert row["model"] == f"{place}/model: num_clips=1, static_keep=0.5"
    for options in ("--num_clips 2 --static_keep 0.5", "--num_clips 1", "--num_clips 1 --static_threshold 0.1"):
        status, out, err = command(f"PLACE/videos --csv out.csv {options}")
        assert (status, out) == (1, "") and "num_clips=1, static_keep=0.5, not of" in err
    assert command("PLACE/long.mp4 --csv out.csv --num_clips 1 --static_keep 0.5 --threshold 0.9")[0] == 0


def test_a_file_from_before_the_training_is_refused(command, place, tmp_path):
    assert command("PLACE/long.mp4 --json out.json --num_clips 1")[0] == 0
    newest = max(file.stat().st_mtime for file in (place / "model").glob("*.safetensors"))
    os.utime(tmp_path / "out.json", (newest - 60, newest - 60))
    status, out, err = command("PLACE/videos --json out.json --num_clips 1")
    assert (status, out) == (1, "") and "out.json is older than the weights in" in err


def test_a_picture_needs_matplotlib(command, monkeypatch):
    find = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == "matplotlib" else find(name))
    status, _, err = command("PLACE/long.mp4 --picture pictures")
    assert status == 1 and "Pictures need matplotlib, which is not installed: pip install 'videomae_hf[demo]'" in err


def test_a_camera(command, monkeypatch):
    monkeypatch.setattr(frame_stream, "_CAMERAS", {"linux": ("lavfi", "testsrc=size=64x48:rate=25:duration={}")})
    status, out, _ = command("camera:2 --window 1 --stride 1 --csv out.csv")
    assert status == 0 and [line.split(": ")[0] for line in out.splitlines()] == [
        "camera:2 [0.00 to 1.00]",
        "camera:2 [1.00 to 2.00]",
    ]
    assert [row["path"] for row in csv.DictReader(open("out.csv"))] == [
        "camera:2 [0.00 to 1.00]",
        "camera:2 [1.00 to 2.00]",
    ]


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("a.mp4 --top_k 0", "--top_k 0 must be at least 1"),
        ("a.mp4 --threshold 2", "--threshold 2.0 must lie in 0 to 1"),
        ("a.mp4 --num_crops 0", "num_crops=0 must be at least 1"),
        ("a.mp4 --csv out --json ./out", "Two files of results have the same name"),
        ("a.mp4 camera:0", "camera:0 has no end: give it as the only input"),
        ("PLACE/long.mp4 --stride 2", "stride=2 and the window of 8f, the span of a clip of this model, differ"),
        ("PLACE/long.mp4 --csv none/out.csv", "none/out.csv cannot be written: there is no folder"),
        ("PLACE/long.mp4 --watch", "watch needs a folder among the inputs"),
    ],
)
def test_mistakes_end_in_one_line(command, line, message):
    status, out, err = command(line)
    assert (status, out) == (1, "") and message in err and "Traceback" not in err


def test_an_interruption_says_what_is_done(command, monkeypatch):
    """Ctrl-C while the second batch is computed."""
    compute, calls = predictor.Predictor.clip_logits, []

    def interrupted(self, clips):
        calls.append(clips)
        if len(calls) == 2:
            raise KeyboardInterrupt
        return compute(self, clips)

    monkeypatch.setattr(predictor.Predictor, "clip_logits", interrupted)
    status, out, err = command("PLACE/videos --csv out.csv --batch_size 1 --num_clips 1 --num_crops 1")
    assert status == 130 and err.endswith("videomae: interrupted; 1 prediction made; the same command continues.\n")
    assert len(list(csv.DictReader(open("out.csv")))) == 1

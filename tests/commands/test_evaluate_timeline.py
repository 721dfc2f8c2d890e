"""`videomae evaluate-timeline` as a user runs it, after `videomae predict --timeline`."""

import json
import os
import sys
from pathlib import Path

import pytest
from helpers.commands import command_in, run
from helpers.shared import REPO
from helpers.trained_models import save_trained, write_three_motions

from videomae_hf.inference.timeline_files import read_timelines
from videomae_hf.text_files import write_csv


MODEL = "output/mine"


def write_predictions(folder: Path, videos: dict, segments: dict, classes=("jump", "run", "swim")) -> Path:
    """The files of predict, by hand: windows (start, end, probabilities) and segments (start, end, label, score)."""
    folder.mkdir(parents=True)
    rows = [[name, *window, MODEL] for name, windows in videos.items() for window in windows]
    write_csv(folder / "timeline.csv", [["path", "start", "end", *classes, "model"], *rows])
    names = ("start", "end", "label", "score")
    lines = [{"path": name, "segments": [dict(zip(names, one)) for one in segments[name]], "model": MODEL}
             for name in segments]  # fmt: skip
    (folder / "segments.json").write_text("".join(json.dumps(line) + "\n" for line in lines))
    return folder


WINDOWS = [(0, 4, 0.9, 0.1, 0), (2, 6, 0.2, 0.7, 0.1), (4, 8, 0.3, 0.3, 0.4)]  # jump to 3, run to 5, swim to 8


@pytest.fixture
def place(tmp_path, monkeypatch):
    """One video with windows and segments, and its labels: jump to 4 s, run from 4 to 6 s."""
    monkeypatch.chdir(tmp_path)
    found = [(0, 3, "jump", 0.9), (3, 5, "run", 0.7)]
    write_predictions(tmp_path / "timelines", {"videos/a.mp4": WINDOWS}, {"videos/a.mp4": found})
    write_csv("labels.csv", [["path", "label", "start", "end"], ["a.mp4", "jump", 0, 4], ["a.mp4", "run", 4, 6]])
    return tmp_path


@pytest.fixture
def command(place, capsys):
    return command_in(place, capsys, "evaluate-timeline", "--data_root PLACE/videos")


def test_the_two_commands(tmp_path):
    """A model, a long video and its list; the scores are those of the segments and windows that predict printed."""
    save_trained(tmp_path / "model")
    (tmp_path / "videos").mkdir()
    write_three_motions(tmp_path / "videos/long.mp4")
    environment = {**os.environ, "PYTHONPATH": str(REPO)}

    def videomae(line: str):
        done = run([sys.executable, "-m", "videomae_hf.cli", *line.split()], cwd=tmp_path, env=environment)
        assert done.returncode == 0, done.stderr
        return done

    options = "--device cpu --num_workers 1 --window 0.4 --stride 0.2 --threshold 0.2"
    videomae(f"predict model videos --timeline --output_dir timelines {options}")
    segments = json.loads((tmp_path / "timelines/segments.json").read_text())["segments"]
    # As labels, the segments themselves, and one that is not there
    rows = [["videos/long.mp4", one["label"], one["start"], one["end"]] for one in segments]
    write_csv(tmp_path / "labels.csv", [["path", "label", "start", "end"], *rows])
    done = videomae("evaluate-timeline timelines labels.csv")
    metrics = json.loads((tmp_path / "timelines/metrics.json").read_text())
    assert metrics["map_thumos14"] == metrics["map_activitynet"] == metrics["edit"] == metrics["f1"]["50"] == 1
    assert metrics["time_accuracy"] == pytest.approx(1, abs=1e-3)
    assert (metrics["videos"], metrics["labelled_segments"], metrics["model"]) == (
        *(1, len(segments)),
        "model: window=0.4, stride=0.2, threshold=0.2",
    )
    assert (
        f"1 video, {len(segments)} labelled segment" in done.stdout and "Saved to timelines/metrics.json" in done.stderr
    )
    # Made anew from the windows, with the same threshold, the segments are those that predict wrote.
    made = read_timelines(tmp_path / "timelines").with_threshold(0.2).segments["videos/long.mp4"]
    assert [one.label for one in made] == [one["label"] for one in segments]
    assert [x for one in made for x in (one.start, one.end, one.score)] == pytest.approx(
        [one[key] for one in segments for key in ("start", "end", "score")], abs=1e-3
    )


def test_scores_by_hand(command, place):
    status, out, _ = command("timelines labels.csv --output_dir scores")
    metrics = json.loads((place / "scores/metrics.json").read_text())
    # jump 0 to 3 of 0 to 4, run 4 to 5 of 4 to 6 in time; segments: 3/4 of jump, 1/3 of run
    assert status == 0 and metrics["time_accuracy"] == pytest.approx(4 / 6)
    assert metrics["classes"]["jump"]["time_accuracy"] == 3 / 4 and metrics["classes"]["run"]["time_accuracy"] == 1 / 2
    assert (metrics["majority"], metrics["chance"]) == pytest.approx((4 / 6, 1 / 3))
    assert (metrics["map"]["0.30"], metrics["map"]["0.70"], metrics["map"]["0.80"]) == (1, 0.5, 0)
    assert metrics["map_thumos14"] == pytest.approx((1 + 4 * 0.5) / 5)
    assert metrics["map_activitynet"] == pytest.approx(6 * 0.5 / 10)
    assert (metrics["unlabelled_seconds"], metrics["unlabelled_in_segments"]) == (2, 0)
    lines = out.splitlines()
    assert lines[0] == "1 video, 2 labelled segments, 2 predicted"
    assert "Accuracy over time            66.7 %  of 6.0 s with a label; mean of the classes 62.5" in lines
    assert "mAP@0.3:0.7 (THUMOS14)        60.0 %" in lines
    assert "jump          1          1      4.0      75.0   100.0       100.0         60.0" in lines
    assert "Not in the means of AP: 1 class without a label (swim), and their 0 predicted segments." in lines
    assert lines[-1].startswith("Few labels: 2 of 2 classes have fewer than 10 segments")


def test_another_threshold(command, place):
    """At 0, the last window is a segment as well, in time without a label; at 0.8 that of run is gone."""
    command("timelines labels.csv --threshold 0")
    metrics = json.loads((place / "timelines/metrics.json").read_text())
    assert (metrics["predicted_segments"], metrics["threshold"], metrics["unlabelled_in_segments"]) == (3, 0, 1)
    assert (
        "1 class without a label (swim), and their 1 predicted segment"
        in command("timelines labels.csv --threshold 0")[1]
    )
    command("timelines labels.csv --threshold 0.8")
    metrics = json.loads((place / "timelines/metrics.json").read_text())
    assert (metrics["predicted_segments"], metrics["map"]["0.30"]) == (1, 0.5)
    assert "No segment was predicted; --threshold 0 gives" in command("timelines labels.csv --threshold 1")[1]


def test_a_background(command, place):
    write_csv("labels.csv", [["path", "label", "start", "end"], ["a.mp4", "jump", 0, 4], ["a.mp4", "swim", 4, ""]])
    assert command("timelines labels.csv --background swim --threshold 0")[0] == 0
    metrics = json.loads((place / "timelines/metrics.json").read_text())
    assert (metrics["labelled_segments"], metrics["predicted_segments"], metrics["background"]) == (1, 2, "swim")
    assert metrics["labelled_seconds"] == 8  # to the end of the video
    assert (metrics["unlabelled_seconds"], metrics["unlabelled_in_segments"]) == (4, 0.25)


def test_a_video_in_which_nothing_happens(command, place):
    """It is all background, so that its segment, with the higher score, is false: a precision of 1/2."""
    names = ["videos/a.mp4", "videos/b.mp4"]
    found = {"videos/a.mp4": [(0, 4, "jump", 0.8)], "videos/b.mp4": [(0, 4, "jump", 0.9)]}
    write_predictions(place / "two", dict.fromkeys(names, WINDOWS), found)
    write_csv("labels.csv", [["path", "label", "start", "end"], ["a.mp4", "jump", 0, 4], ["b.mp4", "swim", "", ""]])
    assert command("two labels.csv --background swim")[0] == 0
    metrics = json.loads((place / "two/metrics.json").read_text())
    assert (metrics["videos"], metrics["map"]["0.95"], metrics["labelled_seconds"]) == (2, 0.5, 12)


def test_several_labels(command, place):
    """Windows whose probabilities do not sum to 1; segments and labels overlap, and each counts."""
    windows = [(0, 4, 0.9, 0.8), (4, 8, 0.1, 0.6)]
    found = [(0, 4, "talk", 0.9), (0, 8, "walk", 0.7)]
    write_predictions(place / "many", {"videos/a.mp4": windows}, {"videos/a.mp4": found}, ("talk", "walk"))
    write_csv("many.csv", [["path", "labels", "start", "end"], ["a.mp4", "talk|walk", 0, 4], ["a.mp4", "walk", 4, 8]])
    assert command("many many.csv --threshold 0.5")[0] == 0
    metrics = json.loads((place / "many/metrics.json").read_text())
    assert (metrics["labelled_segments"], metrics["predicted_segments"]) == (3, 2)
    # Of walk, 0 to 8 is half right for one of its two labels, and a match for it at 0.5.
    assert metrics["classes"]["talk"]["ap"]["0.95"] == 1 and metrics["classes"]["walk"]["ap"]["0.50"] == 0.5
    assert metrics["labelled_seconds"] == 12 and metrics["time_accuracy"] == pytest.approx(8 / 12)


def test_what_is_left_out_is_said(command, place):
    names = ["videos/a.mp4", "videos/b.mp4", "videos/c.mp4"]
    write_predictions(place / "three", dict.fromkeys(names, WINDOWS), dict.fromkeys(names[:2], [(0, 3, "jump", 0.9)]))
    with open("labels.csv", "a") as file:
        file.write("a.mp4,jump,0,4\nc.mp4,swim,0,2\na.mp4,swim,90,95\n")
    status, out, err = command("three labels.csv")
    # c.mp4 is in timeline.csv alone: predict was interrupted.
    assert status == 0 and out.startswith("1 video, 3 labelled segments, 1 predicted")
    assert "1 part listed twice, counted once" in err
    assert "1 video left out: predicted, but has no label in the list: videos/b.mp4" in err
    assert f"1 video left out: labelled, but was not predicted: {place}/videos/c.mp4" in err
    assert f"WARNING: 1 labelled part after the end of the video: {place}/videos/a.mp4 [90 to 95 s]" in err
    assert "5.0 s with a label are in no window, and count as wrong." in out
    metrics = json.loads((place / "three/metrics.json").read_text())
    assert (metrics["videos_not_labelled"], metrics["videos_not_predicted"]) == (1, 1)


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("nowhere labels.csv", "nowhere has no timeline.csv; `videomae predict MODEL VIDEO .. --timeline"),
        ("timelines none.csv", "No folder or list of videos at none.csv"),
        ("timelines unknown.csv", "line 2: PLACE/videos/a.mp4 [0 to 4 s] has the unknown label 'jumps'; did you mean"),
        ("timelines frames.csv", "has its bounds in frames; timelines need seconds"),
        (
            "timelines other.csv",
            "No video has both predictions and labels: timelines has videos/a.mp4, and other.csv has",
        ),
        ("timelines labels.csv --threshold 2", "--threshold 2.0 must lie in 0 to 1"),
        ("timelines labels.csv --background runs", "--background 'runs' is no class of the model; did you mean 'run'?"),
        ("timelines labels.csv --output_dir run", "run/metrics.json has scores of another command"),
        ("parts labels.csv", "parts has predictions of parts of videos, such as videos/a.mp4 [0 to 4 s]"),
        ("twice labels.csv", "twice has predictions of PLACE/videos/a.mp4 and videos/a.mp4, which are one video"),
        ("values labels.csv", "values/timeline.csv has the values of a regression"),
        ("table labels.csv", "table/timeline.csv is not the timeline.csv of predict: its columns are 'path, label'"),
        ("foreign labels.csv", "foreign/segments.json has 'dive', which is no class in foreign/timeline.csv"),
        ("apart labels.csv", "apart/timeline.csv and apart/segments.json have no video in common"),
    ],
)
def test_mistakes_end_in_one_line(command, place, line, message):
    header = ["path", "label", "start", "end"]
    write_csv("unknown.csv", [header, ["a.mp4", "jumps", 0, 4]])
    write_csv("other.csv", [header, ["z.mp4", "jump", 0, 4]])
    write_csv("frames.csv", [["path", "label", "start_frame", "end_frame"], ["a.mp4", "jump", 0, 4]])
    (place / "run").mkdir()
    (place / "run/metrics.json").write_text('{"eval_top1": 0.5}')
    for folder, names, windows in (
        ("parts", ["videos/a.mp4 [0 to 4 s]"], WINDOWS),
        ("twice", ["videos/a.mp4", f"{place}/videos/a.mp4"], WINDOWS),
        ("values", ["videos/a.mp4"], [(0, 4, 31.5, 2, 0)]),
        ("table", ["videos/a.mp4"], WINDOWS),
        ("apart", ["videos/a.mp4"], WINDOWS),
    ):
        write_predictions(place / folder, dict.fromkeys(names, windows), dict.fromkeys(names, []))
    write_predictions(place / "foreign", {"a.mp4": WINDOWS}, {"a.mp4": [(0, 4, "dive", 0.9)]})
    write_csv(place / "table/timeline.csv", [["path", "label"]])
    (place / "apart/segments.json").write_text("")
    status, out, err = command(line)
    assert (status, out) == (1, "") and message.replace("PLACE", str(place)) in err and "Traceback" not in err

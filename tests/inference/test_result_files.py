"""Files that grow by one video at a time, survive odd names and interruptions, and hold one model."""

import csv
import json
import os

import pytest
import torch

from videomae_hf.inference.predictions import Head, Prediction, Timeline
from videomae_hf.inference.result_files import ResultFile, Results


ODD = ['a,b".mp4', "two\nlines.mp4", "carriage\rreturn.mp4", os.fsdecode(b"\xff\xfe.mp4"), "ü.mp4", " ", "=1+1"]
COLUMNS = ["path", "predicted"]


@pytest.mark.parametrize("columns", [COLUMNS, None], ids=["csv", "json"])
def test_odd_names_survive(tmp_path, columns):
    path = tmp_path / "results"
    for name in ODD:  # each by a command of its own
        file = ResultFile(path, columns, "model")
        file.add(name, [{"predicted": name} if columns is None else [name]])
    file = ResultFile(path, columns, "model")
    assert all(map(file.holds, ODD)) and not file.holds("other") and len(file.done) == len(ODD)
    if columns is None:
        rows = [json.loads(line) for line in path.read_text().split("\n")[:-1]]
        assert rows[0] == {"path": ODD[0], "predicted": ODD[0], "model": "model"}
        assert [row["path"] for row in rows] == ODD
    else:
        rows = list(csv.reader(open(path, newline="", encoding="utf-8")))
        assert rows[0] == ["path", "predicted", "model"] and rows[2] == ["two\nlines.mp4", "two\nlines.mp4", "model"]
        assert rows[4][0] == r"\udcff\udcfe.mp4" and len(rows) == 1 + len(ODD)


@pytest.mark.parametrize("columns", [COLUMNS, None], ids=["csv", "json"])
def test_a_torn_record_is_removed(tmp_path, columns):
    """Wherever a killed process stopped writing, the complete records stay, and the rest is written again."""
    names = ['a,"\n.mp4', "b\nü.mp4"]
    path = tmp_path / "whole"
    for name in names:
        ResultFile(path, columns).add(name, [{"predicted": "x"} if columns is None else ["x"]])
    whole = path.read_bytes()
    for length in range(len(whole)):
        path.write_bytes(whole[:length])
        file = ResultFile(path, columns)
        assert file.done == set(names[: len(file.done)])
        for name in names:
            if not file.holds(name):
                file.add(name, [{"predicted": "x"} if columns is None else ["x"]])
        assert path.read_bytes() == whole


def test_files_of_others_are_refused(tmp_path):
    path = tmp_path / "results"
    ResultFile(path, COLUMNS, "one").add("a.mp4", [["x"]])
    with pytest.raises(ValueError, match="results has predictions of one, not of two; give another file"):
        ResultFile(path, COLUMNS, "two")
    with pytest.raises(ValueError, match="columns path, predicted, model, but this command writes path, age, model"):
        ResultFile(path, ["path", "age"], "one")
    with pytest.raises(ValueError, match="results, line 1, is not valid JSON"):
        ResultFile(path, model="one")
    with pytest.raises(FileNotFoundError, match="there is no folder"):
        ResultFile(tmp_path / "none" / "results")
    for other in ("notes without a newline", '[{"path": "a.mp4"}]', 'x,"', "\ufeffpath,predicted,model\n", "\xff\n"):
        for columns in (COLUMNS, None):
            path.write_bytes(other.encode("latin-1" if other[0] == "\xff" else "utf-8"))
            with pytest.raises(ValueError, match="results"):
                ResultFile(path, columns, "one")
            assert path.read_bytes().decode("latin-1" if other[0] == "\xff" else "utf-8") == other  # nothing is lost
    path.write_text("[1]\n")
    with pytest.raises(ValueError, match="results, line 1: expected an object with a path"):
        ResultFile(path)
    path.write_text("path,predicted,model\na,b\n")
    with pytest.raises(ValueError, match="has a row of 2 cells instead of 3"):
        ResultFile(path, COLUMNS, "one")


def test_a_video_whose_segments_are_missing_is_predicted_again(tmp_path):
    head = Head(["run", "jump"], "single_label_classification")
    times = torch.tensor([0.0, 1.0]), torch.tensor([1.0, 2.0])

    def results() -> Results:
        timeline = ResultFile(tmp_path / "timeline.csv", ["path", "start", "end", *head.labels])
        return Results([], timeline, ResultFile(tmp_path / "segments.json"))

    def predicted(name: str) -> Prediction:
        return Prediction(name, head, torch.zeros(2), Timeline(*times, torch.tensor([[3.0, 0], [3, 0]]), head))

    first = results()
    first.add(predicted("a.mp4"))
    first.add(predicted("a.mp4"))  # named twice
    first.timeline.add("b.mp4", predicted("b.mp4").timeline.rows())  # killed here
    second = results()
    assert second.hold("a.mp4") and not second.hold("b.mp4")
    second.add(predicted("b.mp4"))
    rows = list(csv.DictReader(open(tmp_path / "timeline.csv")))
    assert [(row["path"], row["start"]) for row in rows] == [
        (name, start) for name in ("a.mp4", "b.mp4") for start in ("0.000", "1.000")
    ]
    segments = [json.loads(line) for line in open(tmp_path / "segments.json")]
    assert [(one["path"], len(one["segments"])) for one in segments] == [("a.mp4", 1), ("b.mp4", 1)]
    assert not Results([]).hold("a.mp4")

"""Random lists in every dialect: read as they were meant, or refused; never as something else.

A list is made from records that are known, in a dialect that is drawn, with what people's lists have besides: odd
names, columns of no use, cells that are not quoted, byte order marks, line ends of Windows, gaps.
"""

import csv
import io
import json
import random

import pytest

from videomae_hf.data.sources.folders_and_lists import Reading, read_samples
from videomae_hf.data.sources.targets import read_targets


PATHS = [
    "a.mp4", "b/c.avi", "my clip.webm", "x, y.mp4", "semi;colon.mkv", "tab.MOV", "v1.5.take.mp4", "ü 日本.mp4",
    "#1.mp4", "it's.mp4", 'say "x".mp4', "https://host/a b.mp4", "/data/abs.mp4", "[tag] z.mp4", "1.mp4", "2019.mp4",
    "path.mp4", "label.mp4", "a b c.mp4", "no_suffix", "deep/er/no suffix", "0 1.mp4", "-x.mp4", "k=v.mp4",
]  # fmt: skip
LABELS = [
    "run", "high jump", "push, left to right", "a;b", "x|y", "Fight", "don't", "ü", "5", "05", "2019", "0.5", "-1",
    "True", "None", "nan", "", "path", "label", "video", "[x]", "train", "run fast", "a/b", "1e3", "7.0",
]  # fmt: skip
NAMES = [
    ["run", "walk", "sit"],
    ["0", "1", "2"],
    ["0.0", "1.0", "2.0"],
    ["2019", "2020"],
    ["left, up", "right"],
    ["05", "6"],
]
PATH_HEADERS = ["path", "video", "File Name", "filepath", "video-path", "youtube_id", "clip", "gt_file"]
LABEL_HEADERS = ["label", "class", "Target", "class_name", "gt"]
EXTRA = {
    "fps": ["25", "30"],
    "id": ["7", "8"],
    "comment": ["good", "so, so"],
    "duration": ["2.5", "3"],
    "width": ["640"],
}


def drawn_records(rng: random.Random) -> list[dict]:
    names = rng.sample(PATHS, rng.randint(1, 6))
    pool = rng.choice(NAMES) if rng.random() < 0.6 else rng.sample(LABELS, rng.randint(1, 5))
    return [{"path": name, "label": rng.choice(pool)} for name in names]


def with_columns(records: list[dict], rng: random.Random) -> tuple[list[str], list[dict]]:
    """Columns in a drawn order and rows; parts of videos, splits and columns of no use among them."""
    path, label = rng.choice(PATH_HEADERS), rng.choice(LABEL_HEADERS)
    if not any("." in one["path"] for one in records):  # nothing would tell that gt_file is a header
        path = "path"
    columns, rows = [path, label], [{path: one["path"], label: one["label"]} for one in records]
    if rng.random() < 0.3:
        start, end = rng.choice([("start", "end"), ("start_time", "end_time"), ("time_start", "time_end")])
        columns += [start, end]
        for row, one in zip(rows, records):
            one["start"], one["end"] = rng.choice([(1.5, 4.0), (0.0, 2.0), (None, None), (3.0, None), (61.25, 70.0)])
            row[start], row[end] = (written_seconds(bound, rng) for bound in (one["start"], one["end"]))
    if rng.random() < 0.3:
        columns.append("split")
        for row, one in zip(rows, records):
            one["split"] = row["split"] = rng.choice(["train", "val"])
    for name in rng.sample(sorted(EXTRA), rng.randint(0, 2)):
        columns.append(name)
        for row in rows:
            row[name] = rng.choice(EXTRA[name])
    rng.shuffle(columns)
    return columns, rows


def written_seconds(bound: float | None, rng: random.Random) -> str:
    if bound is None:
        return ""
    clock = f"{int(bound // 3600):02d}:{int(bound // 60) % 60:02d}:{bound % 60:06.3f}"
    return rng.choice([f"{bound:g}", f"{bound:.3f}", clock])


def as_text(columns: list[str], rows: list[dict], rng: random.Random, header: bool) -> str:
    delimiter = rng.choice(",;\t ")
    cells = [[str(row[name]) for name in columns] for row in rows]
    cells = [columns, *cells] if header else cells
    if rng.random() < 0.4 or (delimiter == " " and rng.random() < 0.5):  # what a loop with join writes
        return "\n".join(delimiter.join(row) for row in cells)
    text = io.StringIO()
    csv.writer(text, delimiter=delimiter, lineterminator="\n").writerows(cells)
    return text.getvalue()


def as_json(columns: list[str], rows: list[dict], rng: random.Random) -> str:
    rows = [{name: row[name] for name in columns} for row in rows]
    if rng.random() < 0.3:
        rows = [{name: value if value != "" else None for name, value in row.items()} for row in rows]
    form = rng.choice(["lines", "array", "pretty"])
    if form == "lines":
        return "\n".join(json.dumps(row, ensure_ascii=rng.random() < 0.5) for row in rows)
    return json.dumps(rows, indent=2 if form == "pretty" else None)


def written(records: list[dict], rng: random.Random) -> bytes:
    kind = rng.choice(["header", "header", "bare", "json"])
    if kind == "bare":
        text = as_text(["path", "label"], records, rng, header=False)
    else:
        columns, rows = with_columns(records, rng)
        text = as_json(columns, rows, rng) if kind == "json" else as_text(columns, rows, rng, header=True)
    if rng.random() < 0.1:
        text = "\n" + text + "\n\n"
    if rng.random() < 0.2:
        text = text.replace("\n", "\r\n")
    return text.encode(rng.choice(["utf-8", "utf-8", "utf-8-sig", "utf-16"]))


def meant(label: str) -> str:
    """A label as it is to be called: pandas writes 7 as 7.0."""
    return label[:-2] if label in ("0.0", "1.0", "2.0", "7.0") else label


def found_in(samples, names: list[str], root) -> list[tuple]:
    return [(without_root(s.path, root), names[s.label], s.start, s.end) for s in samples]


def without_root(path: str, root) -> str:
    return path.removeprefix(f"{root}/")


def with_suffix(path: str) -> str:
    return path if "." in path.rsplit("/", 1)[-1] else path + ".mp4"


@pytest.mark.parametrize("part", range(4))
def test_a_list_is_read_as_it_was_meant_or_refused(tmp_path, part):
    read = 0
    for number in range(1000):
        rng = random.Random(f"{part} {number}")
        records = drawn_records(rng)
        content = written(records, rng)
        (tmp_path / "list").write_bytes(content)
        split = ("train",) if any("split" in one for one in records) else ()
        try:
            samples, names = read_samples(tmp_path / "list", reading=Reading(split=split))
        except ValueError as error:
            assert str(tmp_path / "list") in str(error) and "\n" not in str(error)
            continue
        expected = [
            (with_suffix(one["path"]), meant(one["label"]), one.get("start"), one.get("end"))
            for one in records
            if one.get("split", "train") == "train"
        ]
        assert found_in(samples, names, tmp_path) == expected, content
        read += 1
    assert read > 300


@pytest.mark.parametrize("part", range(2))
def test_paths_alone(tmp_path, part):
    """The same lists without their labels, for pretraining."""
    for number in range(1000):
        rng = random.Random(f"paths {part} {number}")
        records = drawn_records(rng)
        content = written(records, rng)
        (tmp_path / "list").write_bytes(content)
        try:
            samples, _ = read_samples(tmp_path / "list", labelled=False)
        except ValueError:
            continue
        found = [(without_root(s.path, tmp_path), s.start, s.end) for s in samples]
        assert found == [(with_suffix(o["path"]), o.get("start"), o.get("end")) for o in records], content


def test_several_labels(tmp_path):
    read = 0
    for number in range(1500):
        rng = random.Random(f"labels {number}")
        form = rng.choice(["bar", "comma", "semicolon", "json list", "repr", "json lines", "flags", "rows"])
        # A label that holds a separator cannot be told from two in text.
        unclear = [] if form in ("bar", "comma", "semicolon", "rows") else [["a, b", "c"], ["x|y", "z"]]
        pool = rng.choice([["run", "walk", "high jump"], ["0", "1", "2"], *unclear])
        records = [{"path": p, "labels": rng.sample(pool, rng.randint(0, len(pool)))} for p in rng.sample(PATHS, 3)]
        columns, rows = ["path", "labels"], []
        if form == "flags":
            columns = ["path", *pool, "duration"]
            yes, no = rng.choice([("1", "0"), ("1.0", "0.0"), ("True", "False")])
            rows = [[o["path"], *(yes if name in o["labels"] else no for name in pool), "2.5"] for o in records]
        elif form == "rows":
            rows = [[o["path"], label] for o in records for label in o["labels"]]
            records = [o for o in records if o["labels"]]
        else:
            text_of = {"bar": "|".join, "comma": ",".join, "semicolon": ";".join, "json list": json.dumps, "repr": repr}
            rows = [[o["path"], text_of.get(form, json.dumps)(o["labels"])] for o in records]
        if form == "json lines":
            text = "\n".join(json.dumps({"path": o["path"], "labels": o["labels"]}) for o in records)
        else:
            buffer = io.StringIO()
            csv.writer(buffer, delimiter=rng.choice(",;\t")).writerows([columns, *rows])
            text = buffer.getvalue()
        (tmp_path / "list").write_text(text, newline="")
        try:
            samples, names = read_samples(tmp_path / "list", multi_label=True)
        except ValueError:
            continue
        found = [(without_root(s.path, tmp_path), {names[label] for label in s.label}) for s in samples]
        assert found == [(with_suffix(o["path"]), set(o["labels"])) for o in records], text
        read += 1
    assert read > 700


def test_numbers_to_predict(tmp_path):
    read = 0
    for number in range(1000):
        rng = random.Random(f"targets {number}")
        records = [{"path": p, "targets": [rng.choice([0.5, -3.0, 1e3, 7.0, 0.0])]} for p in rng.sample(PATHS, 3)]
        header = rng.random() < 0.7
        rows = [[o["path"], *(rng.choice(["{:g}", "{:.3f}", "{!r}"]).format(v) for v in o["targets"])] for o in records]
        columns = ["path", rng.choice(["label", "age", "Score"])]
        if header and rng.random() < 0.5:
            columns.append("comment")
            rows = [[*row, rng.choice(["x", "y, z"])] for row in rows]
        buffer = io.StringIO()
        csv.writer(buffer, delimiter=rng.choice(",;\t ")).writerows([columns, *rows] if header else rows)
        (tmp_path / "list").write_text(buffer.getvalue(), newline="")
        try:
            samples, _ = read_targets(tmp_path / "list")
        except ValueError:
            continue
        found = [(without_root(s.path, tmp_path), list(s.targets)) for s in samples]
        assert found == [(with_suffix(o["path"]), o["targets"]) for o in records], buffer.getvalue()
        read += 1
    assert read > 400

"""What people's lists hold: parts of long videos, splits, numbers that pandas wrote, other headers, JSON, odd names."""

import json
import os
import unicodedata

import pytest

from videomae_hf.data.sources.folders_and_lists import (
    EVALUATION,
    TRAINING,
    Reading,
    holds_any_label,
    read_samples,
    read_sources,
)
from videomae_hf.data.sources.list_columns import COLUMNS, choose_split, describe_columns, find_roles
from videomae_hf.data.sources.list_editing import edit_list, list_every_video
from videomae_hf.data.sources.records import VideoRecord, VideoRecords
from videomae_hf.data.sources.targets import read_targets
from videomae_hf.models.video_decoding import FrameFolder, VideoSegment
from videomae_hf.text_files import read_class_names


def listed(folder, text: str, name: str = "list.csv", **options):
    """(path below the folder, class name, part of the video) of each row, and the notes."""
    (folder / name).write_text(text)
    samples, names = read_samples(folder / name, reading=Reading(**options))
    rows = []
    for sample in samples:
        label = sample.label
        shown = names[label] if isinstance(label, int) else label and tuple(names[one] for one in label)
        rows.append((sample.path.removeprefix(f"{folder}/"), shown, *(b for b in sample.segment if b is not None)))
    return rows, [note.replace(str(folder / name), "list") for note in samples.messages]


# -------------------------------------------------------------------------------------------------- parts of a video


@pytest.mark.parametrize(
    ("header", "cells"),
    [
        ("path,start,end,label", "{},2,4.5,run"),
        ("label,youtube_id,time_start,time_end,split", "run,{},2,4.5,train"),  # Kinetics' own
        ("Start Time;path;end-time;label", "00:00:02;{};0:04.5;run"),
        ("path,start_timestamp,stop_timestamp,class", "{},00:00:02.000,00:00:04.500,run"),
        ("path\tt_start\tt_end\tlabel", "{}\t2.0\t4.5\trun"),
    ],
)
def test_start_and_end_in_seconds(tmp_path, header, cells):
    rows, notes = listed(tmp_path, f"{header}\n{cells.format('a.mp4')}\n", split=TRAINING)
    assert rows == [("a.mp4", "run", 2.0, 4.5)]
    assert notes in ([], ["list: 1 row of the split 'train'"])


def test_a_part_of_a_video_is_what_is_decoded():
    assert VideoRecord("a.mp4", start=2.0, end=4.5).video() == VideoSegment("a.mp4", 2.0, 4.5)
    assert VideoRecord("a.mp4", end_frame=7).video() == VideoSegment("a.mp4", end_frame=7)
    folder = VideoRecord("frames", num_frames=30, start_frame=3).video("{}.jpg")
    assert folder == VideoSegment(FrameFolder("frames", "{}.jpg", 1, 30), start_frame=3)
    assert VideoRecord("a.mp4", start=2.0, end=4.5).name == "a.mp4 [2 to 4.5 s]"
    assert VideoRecord("a.mp4", start_frame=2).name == "a.mp4 [2 to the end]"
    parts = [
        VideoRecord("a.mp4", 0, start=0.1, end=1 / 3),
        VideoRecord("b.mp4", 1),
        VideoRecord("c.mp4", 0, start_frame=7, end_frame=9),
    ]
    assert list(VideoRecords(parts)) == parts


def test_frames_open_ends_and_several_parts_of_one_video(tmp_path):
    text = "path,label,start_frame,stop_frame\na.mp4,x,0,10\na.mp4,y,10,\na.mp4,z,,5.0\n"
    assert listed(tmp_path, text)[0] == [("a.mp4", "x", 0, 10), ("a.mp4", "y", 10), ("a.mp4", "z", 5)]


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ("a.mp4,4,2,x", "line 2: the end, 2, is not after the start, 4"),
        ("a.mp4,2,2,x", "line 2: the end, 2, is not after the start, 2"),
        ("a.mp4,-1,2,x", "line 2: start is '-1', neither seconds from 0 nor h:mm:ss"),
        ("a.mp4,1,soon,x", "line 2: end is 'soon'"),
        ("a.mp4,1,inf,x", "line 2: end is 'inf'"),
    ],
)
def test_parts_that_are_none(tmp_path, row, message):
    with pytest.raises(ValueError, match=message):
        listed(tmp_path, f"path,start,end,label\n{row}\n")


def test_clips_of_kinetics_that_are_cut_already(tmp_path):
    (tmp_path / "abc_000012_000022.mp4").touch()
    (tmp_path / "whole.webm").touch()
    text = "label,youtube_id,time_start,time_end,split\nrun,abc,12,22,train\nrun,whole,3,5,train\nrun,gone,1,2,train\n"
    rows, notes = listed(tmp_path, text)
    assert rows == [("abc_000012_000022.mp4", "run"), ("whole.webm", "run", 3.0, 5.0), ("gone.mp4", "run", 1.0, 2.0)]
    assert notes == ["list: videos are named id_start_end: they are cut already, and are used as a whole"]


def test_annotations_of_activitynet_and_kinetics_in_json(tmp_path):
    database = {"v1": {"subset": "training", "duration": 9, "annotations": [{"segment": [1, 2.5], "label": "run"}]}}
    database["v2"] = {"subset": "validation", "annotations": [{"segment": [0, 4], "label": "sit"}]}
    rows, notes = listed(tmp_path, json.dumps({"version": 1, "database": database}), "list.json", split=TRAINING)
    assert rows == [("v1.mp4", "run", 1.0, 2.5)]
    unused = "list: columns not used: duration"
    assert notes == ["list: 1 row of the split 'training'; left out: 1 of 'validation'", unused]
    kinetics = {"v1": {"annotations": {"label": "run", "segment": [3.0, 13.0]}, "subset": "train", "url": "x"}}
    assert listed(tmp_path, json.dumps(kinetics), "k.json")[0] == [("v1.mp4", "run", 3.0, 13.0)]


# ------------------------------------------------------------------------------------------------------------- splits


def test_a_column_of_splits(tmp_path):
    rows = "".join(
        f"c{n}.mp4,{'run' if n % 2 else 'jump'},{split}\n" for n, split in enumerate(["train"] * 3 + ["val"])
    )
    text = "path,label,split\n" + rows
    found, notes = listed(tmp_path, text, split=TRAINING)
    assert [path for path, _ in found] == ["c0.mp4", "c1.mp4", "c2.mp4"]
    assert notes == ["list: 3 rows of the split 'train'; left out: 1 of 'val'"]
    assert [path for path, _ in listed(tmp_path, text, split=EVALUATION)[0]] == ["c3.mp4"]
    assert len(listed(tmp_path, text)[0]) == 4  # scan and prepare read all
    with pytest.raises(
        ValueError, match=r"no row has the split fold1; the splits are train, val \(--eval_split_name\)"
    ):
        listed(tmp_path, text, split=("fold1",))
    with pytest.raises(ValueError, match="line 2: no split"):
        listed(tmp_path, "path,label,split\na.mp4,x,\nb.mp4,x,train\n", split=TRAINING)


def test_choosing_a_split():
    assert choose_split(["Train", "Test"], TRAINING) == "Train"
    assert choose_split(["training", "test"], EVALUATION) == "test"
    assert choose_split(["1", "2"], ("2",)) == "2"
    assert choose_split(["val", "validation"], ("val",)) == "val"
    with pytest.raises(ValueError, match="the splits val and valid could both be 'validation'"):
        choose_split(["val", "valid"], EVALUATION)


def test_a_split_of_each_source(tmp_path):
    (tmp_path / "a.csv").write_text("path,label,split\na.mp4,x,train\nb.mp4,y,val\n")
    entries = [{"data": tmp_path / "a.csv", "split": "val"}, {"data": tmp_path / "a.csv"}]
    samples, names, _, _ = read_sources(entries, reading=Reading(split=TRAINING))
    assert [(os.path.basename(s.path), names[s.label], s.source) for s in samples] == [
        ("b.mp4", "y", 0),
        ("a.mp4", "x", 1),
    ]


# ------------------------------------------------------------------------------------------------------------ columns


def test_columns_of_no_use_are_named(tmp_path):
    rows, notes = listed(tmp_path, ",path,label,fps,comment\n0,a.mp4,x,25,good\n1,b.mp4,y,30,\n")
    assert rows == [("a.mp4", "x"), ("b.mp4", "y")]
    assert notes == ["list: columns not used: column 1, fps, comment"]


@pytest.mark.parametrize(
    "header", ["video_name,tag", "filepath,target", "video_id,label", "clip_path,class_id", "File Name,Category"]
)
def test_other_names_in_the_header(tmp_path, header):
    assert listed(tmp_path, f"{header}\na.mp4,x\nb.mp4,y\n")[0] == [("a.mp4", "x"), ("b.mp4", "y")]


def test_names_that_are_said(tmp_path):
    text = "gt_file,gt,path\na.mp4,x,7\n"
    assert listed(tmp_path, text, video_column="gt_file", label_column="gt")[0] == [("a.mp4", "x")]
    with pytest.raises(
        ValueError, match="video_column_name='gt_fiel': the columns are gt_file, gt, path; did you mean 'gt_file'"
    ):
        listed(tmp_path, text, video_column="gt_fiel")
    with pytest.raises(ValueError, match="the path is '7', but gt_file has the name of a video; choose the column"):
        listed(tmp_path, text, label_column="gt")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("gt_file,gt\na.mp4,x\n", "the first line, 'gt_file,gt', names no column of paths. A header has one of path"),
        ("path,file_name,label\na.mp4,b.mp4,x\n", "path and file_name could all be the column of the path"),
        ("path,class,target\na.mp4,x,y\n", "class and target could all be the column of the label; keep one"),
        ("path,label,Label\na.mp4,x,y\n", "the header has the column 'Label' twice|the column 'label' twice"),
        ("a.mp4,push, left to right, slow\n", "line 1: 4 columns, .*quote a label that contains the delimiter"),
        ("a.mp4,run, fast\nb.mp4,walk\n", "line 1: 3 columns"),
        ("# my list\na.mp4 0\n", "line 1: lists cannot have comments; remove the line '# my list'"),
        ("a.mp4 0\n# the rest\nb.mp4 1\n", "line 2: lists cannot have comments"),
        ('path,label\n"a.mp4,x\n', "line 2: .*are its quotes closed"),
        ("path,label\na.mp4," + "x" * 200_000 + "\n", "line 2: field larger than field limit"),
        ("a" + " 1" * 60_000 + " x\n", "line 1: the end of the path is unclear"),
        ("frames/c 1099511627776 3\n", "line 1: num_frames is '1099511627776', not a whole number from 1"),
        ("run,a.mp4\nsit,b.mp4\n", "line 1: 'run,a.mp4' has the video after another column"),
        ("path,label\ns3://bucket/a.mp4,x\n", "line 2: 's3://bucket/a.mp4': only files and http"),
        ("path,label\na\0.mp4,x\n", "is not a list of videos: it contains null bytes"),
        ('[{"path": "a.mp4", "path": "b.mp4", "label": "x"}]', "not valid JSON: the key 'path' occurs twice"),
        ("[" * 100_000, "list.csv is nested too deeply|not valid JSON"),
        ('{"path": "\\ud800.mp4", "label": "x"}', "is not a valid file name"),
        ('{"path": 1.5, "label": "x"}', "line 1: expected a path and a label, found 1.5"),
        ('{"path": "a.mp4", "label": {"x": 1}}', "the label {'x': 1} is an object"),
        ('{"video": "a.mp4", "label": "x", "file": "b.mp4"}', "video and file could all be the column of the path"),
        ("[1, 2]", "entry 1: expected an object with a path, found '1'"),
    ],
)  # fmt: skip
def test_refused(tmp_path, text, message):
    with pytest.raises(ValueError, match=message) as error:
        listed(tmp_path, text)
    assert str(tmp_path / "list.csv") in str(error.value) and "\n" not in str(error.value)


def test_forms_of_json(tmp_path):
    for name, text in {
        "array.json": '[{"path": "a.mp4", "label": "run"}, {"path": "b.mp4", "label": "sit"}]',
        "mapping.json": '{"a.mp4": "run", "b.mp4": "sit"}',
        "lines.jsonl": '{"path": "a.mp4", "label": "run"}\n{"path": "b.mp4", "label": "sit"}',
    }.items():
        assert listed(tmp_path, text, name)[0] == [("a.mp4", "run"), ("b.mp4", "sit")]
    assert listed(tmp_path, '{\n "path": "a.mp4",\n "label": "run"\n}')[0] == [("a.mp4", "run")]


def test_the_files_of_something_something(tmp_path):
    (tmp_path / "78687.webm").touch()
    rows = [{"id": "78687", "label": "holding potato", "template": "Holding [something]", "placeholders": ["potato"]}]
    rows.append({"id": "42326", "label": "x", "template": "Showing that [something] is empty", "placeholders": []})
    found, _ = listed(tmp_path, json.dumps(rows), "train.json")
    assert found == [("78687.webm", "Holding something"), ("42326.mp4", "Showing that something is empty")]
    (tmp_path / "labels.json").write_text('{"Holding something": "1", "Showing that something is empty": "0"}')
    assert read_class_names(tmp_path / "labels.json") == ["Showing that something is empty", "Holding something"]


# ------------------------------------------------------------------------------------------------------------- labels


def numbers(folder, labels: list[str], class_names: list[str] | None = None):
    (folder / "list.csv").write_text("path,label\n" + "".join(f"{n}.mp4,{label}\n" for n, label in enumerate(labels)))
    samples, names = read_samples(folder / "list.csv", class_names)
    return [sample.label for sample in samples], names, samples.messages


def test_numbers_that_pandas_wrote(tmp_path):
    labels, names, _ = numbers(tmp_path, [f"{n}.0" for n in range(12)])
    assert labels == list(range(12)) and names == [str(n) for n in range(12)]
    assert numbers(tmp_path, ["2", "10", "1.0"], names)[0] == [2, 10, 1]


def test_years_and_ids_are_classes_of_their_own(tmp_path):
    labels, names, notes = numbers(tmp_path, ["2019", "2020", "2019"])
    assert (labels, names) == ([0, 1, 0], ["2019", "2020"])
    assert notes == [f"{tmp_path}/list.csv: the labels are 2 numbers from 2019 to 2020, one class each"]
    assert numbers(tmp_path, ["4000000000", "4000000001"])[1] == ["4000000000", "4000000001"]
    assert numbers(tmp_path, ["1732752000"])[1] == ["1732752000"]
    assert numbers(tmp_path, ["2020"], ["2019", "2020"])[0] == [1]
    with pytest.raises(ValueError, match="unknown label '1'. Known: 2019, 2020"):
        numbers(tmp_path, ["1"], ["2019", "2020"])
    assert numbers(tmp_path, ["0", "1", "4"])[1] == ["0", "1", "2", "3", "4"]  # an official list with gaps


def test_numbers_as_places_among_names(tmp_path):
    labels, _, notes = numbers(tmp_path, ["0", "2"], ["jump", "run", "sit"])
    assert labels == [0, 2]
    assert notes == [f"{tmp_path}/list.csv: the labels are numbers, read as class numbers counted from 0: 0 is 'jump'"]
    with pytest.raises(
        ValueError, match="the labels are numbers up to 3, but the 3 classes are counted from 0, 'jump'; subtract 1"
    ):
        numbers(tmp_path, ["1", "2", "3"], ["jump", "run", "sit"])
    with pytest.raises(ValueError, match="unknown label '0' .numbers are class numbers only if all labels are numbers"):
        numbers(tmp_path, ["0", "run"], ["jump", "run", "sit"])


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        (["0.5", "1.5"], "the label '0.5' is a number with decimals, not a class; .* --problem_type regression"),
        (["0", "-1", "2"], 'the label -1 means "no label"'),
        (["fight", "Fight"], "the classes 'Fight' and 'fight' differ only in spelling; rename one, or list both"),
        (["high_jump", "high jump"], "differ only in spelling"),
        (["x|y", "z"], "line 2: the label 'x|y' contains '|', which separates labels; set multi_label"),
        (["nan", "x"], "line 2: expected a path and a label, found '0.mp4'"),
        (['"[""x"", ""y""]"', "z"], "line 2: 2 labels, x, y; set multi_label"),
    ],
)
def test_labels_that_are_no_classes(tmp_path, labels, message):
    with pytest.raises(ValueError, match=message.replace("|", r"\|")):
        numbers(tmp_path, labels)


def test_spellings_that_are_stated(tmp_path):
    assert numbers(tmp_path, ["fight", "Fight"], ["Fight", "fight"])[0] == [1, 0]
    assert numbers(tmp_path, ["-1", "1"])[1] == ["-1", "1"]


def test_accents_in_two_encodings(tmp_path):
    decomposed = unicodedata.normalize("NFD", "café")
    assert numbers(tmp_path, [decomposed], ["café"])[0] == [0]
    (tmp_path / decomposed).mkdir()
    (tmp_path / decomposed / f"{decomposed}.mp4").touch()
    assert read_samples(tmp_path, ["café"])[1] == ["café"]
    rows, notes = listed(tmp_path / decomposed, "path,label\ncafé.mp4,x\n")
    assert [path for path, _ in rows] == [f"{decomposed}.mp4"]
    assert notes == ["list: accents in paths are encoded differently than in file names"]


def test_one_video_under_two_labels(tmp_path):
    with pytest.raises(ValueError, match="line 3: .*a.mp4 is 'run' and 'sit'; a video has one label"):
        listed(tmp_path, "path,label\na.mp4,run\na.mp4,sit\n")
    assert listed(tmp_path, "path,label\na.mp4,run\na.mp4,run\n")[1] == ["list: 1 video listed twice"]
    assert listed(tmp_path, "path,label,start,end\na.mp4,run,0,1\na.mp4,sit,1,2\n")[1] == []


@pytest.mark.parametrize(
    "text",
    [
        'path,labels\na.mp4,"x,y"\nb.mp4,\nc.mp4,z\n',
        "path,labels\na.mp4,x;y\nb.mp4,\nc.mp4,z\n",
        "path;labels\na.mp4;['x', 'y']\nb.mp4;[]\nc.mp4;['z']\n",
        'path,labels\na.mp4,"[""x"", ""y""]"\nb.mp4,[]\nc.mp4,z\n',
        "path,x,y,z,duration\na.mp4,1.0,1.0,0.0,2.5\nb.mp4,0.0,0.0,0.0,3.1\nc.mp4,0.0,0.0,1.0,0.2\n",
        "path,x,y,z\na.mp4,True,True,False\nb.mp4,False,False,False\nc.mp4,False,False,True\n",
        "path,label\na.mp4,x\nb.mp4,\na.mp4,y\nc.mp4,z\n",
    ],
)
def test_several_labels_in_the_common_forms(tmp_path, text):
    rows, _ = listed(tmp_path, text, multi_label=True)
    assert [(path, tuple(sorted(labels))) for path, labels in rows] == [
        ("a.mp4", ("x", "y")), ("b.mp4", ()), ("c.mp4", ("z",))
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            'path,labels\na.mp4,x|y\nb.mp4,"p,q"\n',
            "line 3: the label 'p,q' contains ',', which separates labels; write",
        ),
        ("path,x,y\na.mp4,1,0\nb.mp4,0,2\nc.mp4,0,1\n", "line 3: y is '2', not 0 or 1"),
        ("path;labels\na.mp4;['x' 'y']\n", r"contains '\[ \]', which separates labels"),
        ("a.mp4,x|y,z\n", "line 1: labels both in columns and separated by"),
        ("path,duration\na.mp4,2.5\nb.mp4,7\n", "names no class for any of its 2 videos"),
    ],
)
def test_several_labels_that_are_unclear(tmp_path, text, message):
    with pytest.raises(ValueError, match=message):
        listed(tmp_path, text, multi_label=True)


def test_numbers_to_predict_and_what_else_a_list_has(tmp_path):
    (tmp_path / "list.csv").write_text("path,age,comment,start,end,split\na.mp4,1.5,x,0,2,train\nb.mp4,2,y,,,val\n")
    samples, names = read_targets(tmp_path / "list.csv", reading=Reading(split=TRAINING))
    assert (names, list(samples)) == (
        ["age"],
        [VideoRecord(str(tmp_path / "a.mp4"), targets=(1.5,), start=0.0, end=2.0)],
    )
    assert samples.messages[1] == f"{tmp_path}/list.csv: columns not used: comment"
    (tmp_path / "list.csv").write_text("path,age\na.mp4,1.5\nb.mp4,2\nc.mp4,old\n")
    with pytest.raises(ValueError, match="line 4: age is 'old', not a number"):
        read_targets(tmp_path / "list.csv")


# -------------------------------------------------------------------------------------------------------------- files


def test_paths_that_are_not_quite_those_of_the_files(tmp_path):
    for name in ("a.webm", "b.mp4", "d.avi", "d.mkv", "sub/e.mp4", "frames/1.jpg"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    text = "path,label\na,x\nb,x\nc,x\nsub\\e.mp4,x\nframes,x\n"
    rows, notes = listed(tmp_path, text)
    assert [path for path, _ in rows] == ["a.webm", "b.mp4", "c.mp4", "sub/e.mp4", "frames"]
    assert notes == ["list: backslashes in paths are read as slashes"]
    with pytest.raises(ValueError, match="line 2: '.*/d' could be d.avi or d.mkv; add the suffix"):
        listed(tmp_path, "path,label\nd,x\n")


@pytest.mark.parametrize(
    ("content", "expected"),
    [("a.mp4 1\n", True), ("a.mp4\nb.mp4\n", False), ("path,start,end\na.mp4,0,1\n", False),
     ("path,gt\na.mp4,x\n", True), ('{"path": "a.mp4"}', False), ('[{"path": "a.mp4", "class": "x"}]', True)],
)  # fmt: skip
def test_whether_a_list_holds_labels(tmp_path, content, expected):
    (tmp_path / "list").write_text(content)
    assert holds_any_label(tmp_path / "list", Reading()) is expected


def test_names_of_classes_in_a_file(tmp_path):
    (tmp_path / "names").write_text("run\n\njump \n", encoding="utf-8-sig")
    assert read_class_names(tmp_path / "names") == ["run", "jump"]
    (tmp_path / "names").write_text('{"1": "run", "0": "jump"}')
    assert read_class_names(tmp_path / "names") == ["jump", "run"]
    for content, message in (("run\nrun\n", "the class name 'run' twice"), ("\n", "has no class name"),
                             ('{"0": "a", "2": "b"}', "names and numbers from 0 on")):  # fmt: skip
        (tmp_path / "names").write_text(content)
        with pytest.raises(ValueError, match=message):
            read_class_names(tmp_path / "names")


# --------------------------------------------------------------------------------------------------------------- docs


def test_the_table_of_columns_in_the_docs(pytestconfig):
    assert describe_columns() in (pytestconfig.rootpath / "docs" / "lists.md").read_text(encoding="utf-8")


def test_no_name_means_two_columns():
    names = [name for column in COLUMNS.values() for name in column.names]
    assert len(names) == len(set(names))
    roles, others = find_roles(["Path", "Label", "start", "fps"])
    assert roles == {"path": "Path", "label": "Label", "start": "start"} and others == ["fps"]


# ------------------------------------------------------------------------------------------------------------ editing


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("path,label\na.mp4,x\nb.mp4,y\n", "path,label\nnew.mp4,x\n"),
        ('label,path,split\n"x, y","a.mp4",train\nz,b.mp4,val\n', 'label,path,split\n"x, y","new.mp4",train\n'),
        ('path,comment\n"a.mp4","two\nlines"\nb.mp4,one\n', 'path,comment\n"new.mp4","two\nlines"\n'),
        ("id,video_id,path\n1,a,a.mp4\n2,b,b.mp4\n", "id,video_id,path\n1,a,new.mp4\n"),
        ('{"id": 7, "path": "a.mp4"}\n{"id": 8, "path": "b.mp4"}\n', '{"id": 7, "path": "new.mp4"}\n'),
        ('{"id": "a.mp4", "label": "x"}\n{"id": "b.mp4"}\n', '{"id": "new.mp4", "label": "x"}\n'),
        ('{"video": null, "path": "a.mp4"}\n{"path": "b.mp4"}\n', '{"video": null, "path": "new.mp4"}\n'),
        ("a.mp4 0 -1\nb.mp4 0 -1\n", "new.mp4 0 -1\n"),
        ("x;a.mp4\n", None),
        ('{"path": "a.mp4", "start": 1}\n{"path": "b.mp4"}\n', '{"path": "new.mp4", "start": 1}\n'),
        ('[{"path": "a.mp4"}, {"path": "b.mp4"}]', '[\n  {\n    "path": "new.mp4"\n  }\n]\n'),
        ('{"a.mp4": "x", "b.mp4": "y"}', '{\n  "new.mp4": "x"\n}\n'),
        ('{"version": 1, "database": {"a.mp4": {"annotations": [{"segment": [0, 1]}]}, "b.mp4": {}}}', "json"),
    ],
)  # fmt: skip
def test_lists_with_other_paths(tmp_path, text, expected):
    """a.mp4 becomes new.mp4, b.mp4 is left out, and all else stays as it is."""
    source = tmp_path / "list"
    source.write_text(text)
    if expected is None:
        with pytest.raises(ValueError, match="has the video after another column"):
            list_every_video(source, None)
        return
    listed_videos = list_every_video(source, None)
    edited = edit_list(source, listed_videos, lambda sample: "new.mp4" if sample.path.endswith("a.mp4") else None)
    if expected == "json":
        content = json.loads(edited)
        assert content["version"] == 1 and list(content["database"]) == ["new.mp4"]
    else:
        assert edited == expected
    same = edit_list(source, listed_videos, lambda sample: sample.path)
    assert same == text or json.loads(same) == json.loads(text)

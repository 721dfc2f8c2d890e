"""Reading folders and lists of videos: every format, what is refused, several sources, and how samples are kept."""

import json
import os
import re
import sys

import numpy as np
import pytest

from videomae_hf.data.sources.folders_and_lists import Reading, read_samples, read_sources
from videomae_hf.data.sources.records import VideoRecord, VideoRecords
from videomae_hf.models.video_decoding import FrameFolder


def write_list(folder, *lines: str, name: str = "list.txt", encoding: str = "utf-8"):
    path = folder / name
    path.write_text("\n".join(lines) + "\n", encoding=encoding)
    return path


def touch(folder, *names: str):
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).touch()


# ------------------------------------------------------------------------------------------------------------ folders


def test_class_folders(tmp_path):
    touch(tmp_path, "run/b.mp4", "run/a.MP4", "jump/2024/spring/c.webm", "jump/notes.txt", ".cache/x.mp4")
    samples, classes = read_samples(tmp_path)
    assert classes == ["jump", "run"]
    assert list(samples) == [
        VideoRecord(str(tmp_path / "jump/2024/spring/c.webm"), 0),
        VideoRecord(str(tmp_path / "run/a.MP4"), 1),
        VideoRecord(str(tmp_path / "run/b.mp4"), 1),
    ]


def test_class_folders_in_the_order_of_a_trained_model(tmp_path):
    touch(tmp_path, "run/a.mp4", "jump/b.mp4")
    samples, classes = read_samples(tmp_path, class_names=["sit", "run", "jump"])
    assert classes == ["sit", "run", "jump"]
    assert [sample.label for sample in samples] == [2, 1]


def test_unlabelled_folder_is_searched_at_any_depth(tmp_path):
    touch(tmp_path, "a.mp4", "deep/er/b.mkv", "c.jpg")
    samples, classes = read_samples(tmp_path, labelled=False)
    assert classes == []
    assert list(samples) == [
        VideoRecord(str(tmp_path / "a.mp4"), None),
        VideoRecord(str(tmp_path / "deep/er/b.mkv"), None),
    ]


def test_class_folders_with_numbers_for_names(tmp_path):
    touch(tmp_path, "a/2/x.mp4", "a/10/y.mp4", "b/02/x.mp4", "b/10/y.mp4")
    samples, classes = read_samples(tmp_path / "a")
    assert classes == ["2", "10"]  # most of 0 to 10 would be empty
    assert {sample.path[-5:]: sample.label for sample in samples} == {"x.mp4": 0, "y.mp4": 1}
    samples, classes = read_samples(tmp_path / "b")  # with a zero in front they are names
    assert classes == ["02", "10"]
    assert {sample.path[-5:]: sample.label for sample in samples} == {"x.mp4": 0, "y.mp4": 1}


def test_links_are_followed_and_hidden_files_left_out(tmp_path):
    touch(tmp_path, "disk/run/2024/a.mp4", "disk/run/._a.mp4", "disk/run/.trash/b.mp4", "videos/jump/c.mp4")
    (tmp_path / "videos" / "run").symlink_to(tmp_path / "disk" / "run")
    (tmp_path / "videos" / "jump" / "d.mp4").symlink_to(tmp_path / "disk" / "gone.mp4")
    for labelled in (True, False):
        samples, _ = read_samples(tmp_path / "videos", labelled=labelled)
        names = [os.path.relpath(sample.path, tmp_path / "videos") for sample in samples]
        assert names == ["jump/c.mp4", "jump/d.mp4", "run/2024/a.mp4"]  # training tells of the one that is gone


def test_folders_of_images(tmp_path):
    touch(tmp_path, "run/b/1.jpg", "run/b/2.jpg", "run/a/1.PNG", "jump/2024/c/1.jpg", "jump/cover.jpg", "jump/c.txt")
    samples, classes = read_samples(tmp_path)
    assert classes == ["jump", "run"]
    names = [(os.path.relpath(sample.path, tmp_path), sample.label, sample.num_frames) for sample in samples]
    assert names == [("jump/2024/c", 0, None), ("run/a", 1, None), ("run/b", 1, None)]
    unlabelled, _ = read_samples(tmp_path / "run", labelled=False)
    assert [sample.path for sample in unlabelled] == [str(tmp_path / "run/a"), str(tmp_path / "run/b")]
    touch(tmp_path, "run/d.mp4", "jump/e.mp4")  # beside videos, images are something else
    assert [os.path.basename(sample.path) for sample in read_samples(tmp_path)[0]] == ["e.mp4", "d.mp4"]


@pytest.mark.parametrize(
    ("names", "labelled", "message"),
    [
        ([], True, "holds no video; expected one folder per class with videos in it"),
        (["a.mp4"], True, "holds 1 video and no class folders; give the folder that has one folder per class"),
        (["a.txt"], False, r"holds no video; it holds 1 .txt; expected videos \(.mp4, .avi, .mkv,"),
        (["run/a.mp4", "jump/a.jpg"], True, "The class folder .*jump holds no video"),
    ],
)
def test_folders_without_videos(tmp_path, names, labelled, message):
    touch(tmp_path, *names)
    with pytest.raises(ValueError, match=message):
        read_samples(tmp_path, labelled=labelled)


def test_links_are_entered_once(tmp_path):
    """A link to a folder above it, and one to a folder that is listed already."""
    touch(tmp_path, "v/a/1.mp4", "v/a/2.mp4", "v/b/3.mp4", "elsewhere/4.mp4")
    (tmp_path / "v/a/back").symlink_to(tmp_path / "v")
    (tmp_path / "v/a/up").symlink_to(tmp_path)
    (tmp_path / "v/b/more").symlink_to(tmp_path / "elsewhere")
    samples, classes = read_samples(tmp_path / "v")
    found = [(os.path.relpath(sample.path, tmp_path / "v"), classes[sample.label]) for sample in samples]
    assert found == [("a/1.mp4", "a"), ("a/2.mp4", "a"), ("b/3.mp4", "b"), ("b/more/4.mp4", "b")]
    assert samples.messages == [
        f"{tmp_path}/v: 2 links to folders listed already left out: {tmp_path}/v/a/back, {tmp_path}/v/a/up"
    ]
    assert len(read_samples(tmp_path / "v", labelled=False)[0]) == 4


def test_one_file_under_two_labels(tmp_path):
    touch(tmp_path, "a/1.mp4", "b/2.mp4")
    (tmp_path / "a/3.mp4").symlink_to(tmp_path / "a/1.mp4")
    samples, _ = read_samples(tmp_path)
    assert len(samples) == 2 and samples.messages == [f"{tmp_path}: 1 link to other videos in it left out"]
    (tmp_path / "b/4.mp4").symlink_to(tmp_path / "a/1.mp4")
    with pytest.raises(ValueError, match="b/4.mp4 and .*a/1.mp4 are the same file, with the labels 'b' and 'a'"):
        read_samples(tmp_path)


def test_files_that_are_left_out_are_counted_and_named(tmp_path):
    touch(tmp_path, "a/1.mp4", "a/1.jpg", "a/2.y4m", "a/3.xyz", "a/notes.txt", "b/4.mxf", "loose.mp4", "b/README", ".x")
    samples, _ = read_samples(tmp_path)
    assert [os.path.basename(sample.path) for sample in samples] == ["1.mp4", "2.y4m", "4.mxf"]
    assert samples.messages == [
        f"{tmp_path}: 1 video outside class folders left out: loose.mp4",
        f"{tmp_path}: files other than videos left out: 1 .xyz, 1 .txt, 1 without suffix, 1 .jpg",
    ]


def test_a_video_beside_folders_of_images(tmp_path):
    touch(tmp_path, *(f"{c}/clip{k}/{i}.jpg" for c in "ab" for k in range(6) for i in range(3)), "a/clip0/preview.mp4")
    samples, _ = read_samples(tmp_path)
    assert len(samples) == 12
    assert samples.messages == [f"{tmp_path}: 1 video among folders of images left out: a/clip0/preview.mp4"]
    touch(tmp_path, "v/c/1.mp4", "v/c/2.mp4", "v/c/thumbs/1.jpg", "v/c/thumbs/2.jpg", "v/d/3.mp4")
    samples, _ = read_samples(tmp_path / "v")
    assert len(samples) == 3
    left_out = f"{tmp_path}/v: 1 folder of images among videos left out: c/thumbs (a list may name both)"
    assert samples.messages == [left_out]


@pytest.mark.parametrize(
    ("names", "message"),
    [
        (
            ["train/a/1.mp4", "val/a/2.mp4"],
            "holds the folders train, val, which are splits, not classes; give one of",
        ),
        (["train/1.mp4", "test/2.mp4"], "holds the folders test, train, which are splits, not classes"),
        (
            ["set/a/1.mp4", "set/b/2.mp4"],
            "holds a single folder, set, which holds a, b; if these are the classes, give",
        ),
        (["fight/1.mp4", "Fight/2.mp4"], "the classes 'Fight' and 'fight' differ only in spelling"),
    ],
)
def test_folders_of_another_level(tmp_path, names, message):
    touch(tmp_path, *names)
    with pytest.raises(ValueError, match=message):
        read_samples(tmp_path)
    assert len(read_samples(tmp_path, labelled=False)[0]) == 2


def test_nothing_there(tmp_path):
    with pytest.raises(FileNotFoundError, match="No folder or list of videos at .*nowhere"):
        read_samples(tmp_path / "nowhere")


# -------------------------------------------------------------------------------------------------------------- lists


@pytest.mark.parametrize(
    "lines",
    [
        ["a.mp4 run", "my clip.mp4 jump"],
        ["a.mp4  run", "my clip.mp4  jump"],  # the two spaces of the official DATASET.md
        ["a.mp4\trun", "my clip.mp4\tjump"],
        ["a.mp4,run", "my clip.mp4,jump"],
        ["a.mp4, run", "my clip.mp4, jump"],
        ["a.mp4;run", "my clip.mp4;jump"],
        ["path,label", "a.mp4,run", "my clip.mp4,jump"],
        ["Label,fps,Path", "run,25,a.mp4", "jump,30,my clip.mp4"],
        ["path label", "a.mp4 run", "my clip.mp4 jump"],
        ["label,path", "run,a.mp4", "jump,my clip.mp4"],
        ["Video_Path;id;Class", "a.mp4;7;run", "my clip.mp4;9;jump"],
        ['"a.mp4" run', '"my clip.mp4" jump'],
        ['"a.mp4",run', '"my clip.mp4",jump'],
        ["", "a.mp4 run", "", "my clip.mp4 jump", ""],
    ],
)
def test_lists(tmp_path, lines):
    samples, classes = read_samples(write_list(tmp_path, *lines))
    assert classes == ["jump", "run"]
    assert list(samples) == [VideoRecord(str(tmp_path / "a.mp4"), 1), VideoRecord(str(tmp_path / "my clip.mp4"), 0)]


def test_list_with_the_byte_order_mark_of_excel(tmp_path):
    samples, _ = read_samples(write_list(tmp_path, "path,label", "a.mp4,run", encoding="utf-8-sig"))
    assert list(samples) == [VideoRecord(str(tmp_path / "a.mp4"), 0)]


@pytest.mark.parametrize(
    "lines",
    [
        ["a.mp4", "my clip.mp4"],
        ["a.mp4 0 -1", "my clip.mp4 0 -1"],  # V2's lists; V1's have a label that is not used
        ["a.mp4 0 -1 0", "my clip.mp4 0 -1 0"],
        ["a.mp4 3", "my clip.mp4 14"],
        ["a.mp4 run", "my clip.mp4 jump"],
        ["a.mp4,run", "my clip.mp4,jump"],
        ["path", "a.mp4", "my clip.mp4"],
        ["path label", "a.mp4 run", "my clip.mp4 jump"],
        ["path,fps", "a.mp4,25", "my clip.mp4,30"],
        ['{"path": "a.mp4"}', '{"video": "my clip.mp4", "label": ["x", "y"]}'],
        ['"a.mp4" 0 -1', '"my clip.mp4" 0 -1'],
    ],
)
def test_lists_for_pretraining(tmp_path, lines):
    samples, classes = read_samples(write_list(tmp_path, *lines), labelled=False)
    assert classes == []
    assert list(samples) == [VideoRecord(str(tmp_path / "a.mp4")), VideoRecord(str(tmp_path / "my clip.mp4"))]


@pytest.mark.parametrize(
    ("lines", "paths"),
    [
        (["a,b.mp4 0", "c.mp4 1"], ["a,b.mp4", "c.mp4"]),
        (["a,b.mp4 0", "c,d.mp4 1"], ["a,b.mp4", "c,d.mp4"]),
        (["a,b.mp4 0"], ["a,b.mp4"]),
        (["c.mp4 0", "a;b.mp4 1"], ["c.mp4", "a;b.mp4"]),
        (["a;b.mp4,0", "c;d.mp4,1"], ["a;b.mp4", "c;d.mp4"]),
        (["a b;c.mp4\t0", "d,e.mp4\t1"], ["a b;c.mp4", "d,e.mp4"]),
        (["a,b.mp4;0", "c,d.mp4;1"], ["a,b.mp4", "c,d.mp4"]),
        (['"a,b.mp4",0', "c.mp4,1"], ["a,b.mp4", "c.mp4"]),
        (["path,label", '"a,b.mp4",0', "c.mp4,1"], ["a,b.mp4", "c.mp4"]),
        (["path;label", "a,b.mp4;0", "c.mp4;1"], ["a,b.mp4", "c.mp4"]),
        (["v1.mp4/my clip.mp4 0", "b.mp4 1"], ["v1.mp4/my clip.mp4", "b.mp4"]),
    ],
)
def test_the_delimiter_is_found_where_paths_hold_others(tmp_path, lines, paths):
    samples, classes = read_samples(write_list(tmp_path, *lines))
    assert [sample.path for sample in samples] == [str(tmp_path / path) for path in paths]
    assert [sample.label for sample in samples] == list(range(len(paths)))


def test_urls_stay_as_they_are(tmp_path):
    lines = ["https://host/a b.mp4 0", "http://host/clips/17 1", "https://host/c.mp4?key=1,2;3 2", "d/e.mp4 3"]
    samples, _ = read_samples(write_list(tmp_path, *lines), root="/videos")
    expected = ["https://host/a b.mp4", "http://host/clips/17", "https://host/c.mp4?key=1,2;3", "/videos/d/e.mp4"]
    assert [sample.path for sample in samples] == expected
    assert [sample.label for sample in samples] == [0, 1, 2, 3]


def test_a_class_name_with_spaces(tmp_path):
    samples, classes = read_samples(write_list(tmp_path, "my clip.mp4 high jump", "b.mp4 run"))
    assert classes == ["high jump", "run"] and samples[0] == VideoRecord(str(tmp_path / "my clip.mp4"), 0)


def test_official_lists_without_suffix(tmp_path):
    """V1's (v1/kinetics.py), unless these are folders of images."""
    path = write_list(tmp_path, "jump/abc 1", "run/d e 0", "run/f.avi 0")
    names = [os.path.relpath(sample.path, tmp_path) for sample in read_samples(path)[0]]
    assert names == ["jump/abc.mp4", "run/d e.mp4", "run/f.avi"]
    touch(tmp_path, "run/d e/1.jpg")
    names = [os.path.relpath(sample.path, tmp_path) for sample in read_samples(path)[0]]
    assert names == ["jump/abc.mp4", "run/d e", "run/f.avi"]


def test_official_lists_of_image_folders(tmp_path):
    finetuning = write_list(tmp_path, "frames/a 250 3", "frames/my b 33 0", name="finetuning.csv")
    samples, classes = read_samples(finetuning)
    assert classes == ["0", "1", "2", "3"]
    assert list(samples) == [
        VideoRecord(str(tmp_path / "frames/a"), 3, num_frames=250),
        VideoRecord(str(tmp_path / "frames/my b"), 0, num_frames=33),
    ]
    pretraining = write_list(tmp_path, "frames/a 1 250", "frames/my b 7 33", "c.mp4 0 -1", name="pretraining.csv")
    samples, _ = read_samples(pretraining, labelled=False)
    assert list(samples) == [
        VideoRecord(str(tmp_path / "frames/a"), None, first_frame=1, num_frames=250),
        VideoRecord(str(tmp_path / "frames/my b"), None, first_frame=7, num_frames=33),
        VideoRecord(str(tmp_path / "c.mp4")),
    ]


def test_json_lines(tmp_path):
    rows = [
        {"path": "a.mp4", "label": "run"},
        {"file_name": "b,c.mp4", "Labels": ["jump"]},
        {"video": "/data/d.mp4", "id": 7, "class": "run"},
        {"path": "frames/e", "label": "jump", "first_frame": 5, "num_frames": 20},
    ]
    samples, classes = read_samples(write_list(tmp_path, *map(json.dumps, rows), name="list.jsonl"))
    assert classes == ["jump", "run"]
    assert list(samples) == [
        VideoRecord(str(tmp_path / "a.mp4"), 1),
        VideoRecord(str(tmp_path / "b,c.mp4"), 0),
        VideoRecord("/data/d.mp4", 1),
        VideoRecord(str(tmp_path / "frames/e"), 0, 5, 20),
    ]
    samples, classes = read_samples(write_list(tmp_path, '{"path": "a.mp4", "label": 1}'))
    assert (classes, samples[0].label) == (["0", "1"], 1)


@pytest.mark.parametrize(
    "lines",
    [
        ["a.mp4 run jump", "b.mp4", "c.mp4 sit"],
        ["a.mp4,run,jump", "b.mp4,", "c.mp4,sit"],
        ["path,id,labels", "a.mp4,1,run|jump", "b.mp4,2,", "c.mp4,3,sit"],
        ["path labels", "a.mp4 run|jump", "b.mp4", "c.mp4 sit"],
        ["id,path,run,sit,jump,fps", "4,a.mp4,1,0,1,25", "5,b.mp4,0,0,0,25", "6,c.mp4,0,1,0,30"],
        ["path\trun\tsit\tjump", "a.mp4\t1\t0\t1", "b.mp4\t0\t0\t0", "c.mp4\t0\t1\t0"],
        ['{"path": "a.mp4", "labels": ["run", "jump"]}', '{"path": "b.mp4"}', '{"path": "c.mp4", "label": "sit"}'],
    ],
)
def test_several_labels_a_video(tmp_path, lines):
    samples, classes = read_samples(write_list(tmp_path, *lines), multi_label=True)
    assert classes == ["jump", "run", "sit"]
    assert [os.path.basename(sample.path) for sample in samples] == ["a.mp4", "b.mp4", "c.mp4"]
    assert [sorted(sample.label) for sample in samples] == [[0, 1], [], [2]]


def test_list_with_another_root_and_absolute_paths(tmp_path):
    path = write_list(tmp_path, "a.mp4 0", "/data/b.mp4 0")
    samples, _ = read_samples(path, root="/videos")
    assert [sample.path for sample in samples] == ["/videos/a.mp4", "/data/b.mp4"]


@pytest.mark.parametrize(
    ("class_names", "labels", "expected"),
    [
        (None, ["4", "2", "0"], [4, 2, 0]),
        (None, ["10", "2", "0"], [2, 1, 0]),
        (None, ["b", "10", "a"], [2, 0, 1]),
        (["sit", "run", "jump"], ["2", "0", "1"], [2, 0, 1]),
        (["sit", "run", "jump"], ["jump", "run"], [2, 1]),
        (["5", "0"], ["5", "0"], [0, 1]),
        (["0", "1", "2"], ["2", "0.0", "1.0"], [2, 0, 1]),
        (["LABEL_0", "LABEL_1"], ["1", "LABEL_0"], [1, 0]),
    ],
)
def test_numbers_and_names_as_labels(tmp_path, class_names, labels, expected):
    path = write_list(tmp_path, *(f"{number}.mp4 {label}" for number, label in enumerate(labels)))
    samples, classes = read_samples(path, class_names)
    assert [sample.label for sample in samples] == expected
    if class_names is None:
        first = {"4": ["0", "1", "2", "3", "4"], "10": ["0", "2", "10"], "b": ["10", "a", "b"]}
        assert classes == first[labels[0]]


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        (["a.mp4 jmup"], r"a.mp4 has the unknown label 'jmup'; did you mean 'jump'\? Known: jump, run"),
        (["a.mp4 2"], "the labels are numbers up to 2, but the 2 classes are counted from 0, 'jump'; subtract 1"),
        (["a.mp4 3", "b.mp4 0"], "unknown label '3'. Known: jump, run"),
        (["a.mp4 1", "b.mp4 jump"], "unknown label '1' .numbers are class numbers only if all labels are numbers"),
        (["a.mp4 run", "b.mp4"], "list.txt: line 2: expected a path and a label, found 'b.mp4'"),
        (["path,label", "a.mp4"], "list.txt: line 2: expected a path and a label, found 'a.mp4'"),
        (["a.mp4,run", "b.mp4,"], "list.txt: line 2: expected a path and a label, found 'b.mp4'"),
        (["path,id,label", "a.mp4,7"], "list.txt: line 2: expected a path and a label, found 'a.mp4'"),
        (["label,path", "run"], "list.txt: line 2: expected a path and a label, found ''"),
        (["path,label", "a,b.mp4,run"], "list.txt, line 2: 3 columns, 2 in the header: 'a,b.mp4,run'"),
        (["path,fps", "a.mp4,25"], "has no column of labels; it has path, fps"),
        (["{}"], "list.txt, line 1: none of path, video, video_path, .* is among the columns \\(none\\)"),
        (['{"path": "a.mp4", "label": "run"}', "b.mp4 run"], "list.txt, line 2 is not valid JSON"),
        (
            ['{"path": "a.mp4", "label": ["run", "jump"]}'],
            "line 1: 2 labels, run, jump; set multi_label for more than one",
        ),
        ([""], "list.txt holds no video"),
        (["path,label"], "list.txt holds no video"),
        (
            ["path label fps", "a.mp4 run 25"],
            "the header 'path label fps' has 3 columns; separate more than two by commas",
        ),
    ],
)
def test_refused_lists(tmp_path, lines, message):
    with pytest.raises(ValueError, match=message):
        read_samples(write_list(tmp_path, *lines), class_names=["jump", "run"])


def test_unknown_labels_are_told_by_line_and_the_rest_counted(tmp_path):
    lines = ["a.mp4 run", "", "b.mp4 walk", "", *(f"{number}.mp4 sit{number}" for number in range(6)), "c.mp4 jump"]
    with pytest.raises(ValueError) as refusal:
        read_samples(write_list(tmp_path, *lines), ["jump", "run"])
    message = str(refusal.value)
    # The second blank line is the fourth of the list.
    assert re.findall(r"line (\d+): \S*/(\S+) has the unknown label '(\w+)'", message) == [
        ("3", "b.mp4", "walk"),
        *((str(5 + number), f"{number}.mp4", f"sit{number}") for number in range(4)),
    ]
    assert "(2 more like these). Known: jump, run." in message
    with pytest.raises(ValueError, match=r"(?s)line 2: .*line 6: [^;]*'f.mp4' \(1 more like these\)$"):
        read_samples(write_list(tmp_path, "z.mp4 run", *(f"{name}.mp4" for name in "bcdefg")))


def test_a_video_is_no_list(tmp_path):
    (tmp_path / "clip.mp4").write_bytes(b"\x00\x00\x00\x18ftypmp42\xff\xfe")
    with pytest.raises(ValueError, match="clip.mp4 is a video; give its folder, or a list"):
        read_samples(tmp_path / "clip.mp4")
    (tmp_path / "list.txt").write_bytes("vidéo.mp4 run".encode("latin-1"))
    with pytest.raises(ValueError, match=r"list.txt is not a text file in UTF-8 \(line 1\)"):
        read_samples(tmp_path / "list.txt")


def test_several_labels_need_a_list_with_some(tmp_path):
    with pytest.raises(ValueError, match="multi_label needs a list"):
        read_samples(tmp_path, multi_label=True)
    with pytest.raises(ValueError, match="list.txt names no class for any of its 2 videos"):
        read_samples(write_list(tmp_path, "a.mp4", "b.mp4"), multi_label=True)


# ------------------------------------------------------------------------------------------------------------ sources


def test_several_sources_are_put_together_by_class_name(tmp_path):
    touch(tmp_path / "folder", "run/a.mp4", "sit/b.mp4")
    first = write_list(tmp_path, "c.mp4 jump", "d.mp4 run", name="first.txt")
    second = write_list(tmp_path, "frames/e,40,sit", name="second.txt")
    samples, classes, options, weights = read_sources(
        [
            {"data": str(tmp_path / "folder")},
            {"data": str(first), "root": "/videos", "weight": 2, "sampling_rate": 2},
            {"data": str(second), "weight": 0.5, "frame_template": "{:05}.jpg", "fps": 8},
        ]
    )
    assert classes == ["jump", "run", "sit"]
    assert list(samples) == [
        VideoRecord(str(tmp_path / "folder/run/a.mp4"), 1, source=0),
        VideoRecord(str(tmp_path / "folder/sit/b.mp4"), 2, source=0),
        VideoRecord("/videos/c.mp4", 0, source=1),
        VideoRecord("/videos/d.mp4", 1, source=1),
        VideoRecord(str(tmp_path / "frames/e"), 2, num_frames=40, source=2),
    ]
    assert options == [{}, {"sampling_rate": 2}, {"frame_template": "{:05}.jpg", "fps": 8}]
    assert weights == [1.0, 2.0, 0.5]


def test_several_sources_without_and_with_several_labels(tmp_path):
    first = write_list(tmp_path, "a.mp4 run jump", "b.mp4 sit", name="first.txt")
    second = write_list(tmp_path, "c.mp4 hop run", name="second.txt")
    entries = [{"data": first}, {"data": second}]
    samples, classes, _, _ = read_sources(entries, reading=Reading(multi_label=True))
    assert classes == ["hop", "jump", "run", "sit"]
    assert [(sample.label, sample.source) for sample in samples] == [((2, 1), 0), ((3,), 0), ((0, 2), 1)]
    samples, classes, _, _ = read_sources(entries, reading=Reading(labelled=False))
    assert classes == [] and [(sample.label, sample.source) for sample in samples] == [(None, 0), (None, 0), (None, 1)]


def test_one_source_in_either_form(tmp_path):
    path = write_list(tmp_path, "a.mp4 1", "b.mp4 0")
    plain, classes, options, weights = read_sources(str(path), reading=Reading("/videos"))
    assert [sample.path for sample in plain] == ["/videos/a.mp4", "/videos/b.mp4"]
    assert (classes, options, weights) == (["0", "1"], [{}], [1.0])
    listed, _, options, weights = read_sources([{"data": str(path), "weight": 3, "fps": 4}], reading=Reading("/videos"))
    assert list(listed) == list(plain) and (options, weights) == ([{"fps": 4}], [3.0])


@pytest.mark.parametrize(
    ("entry", "message"),
    [
        ("list.txt", "Source 1 must be a mapping with `data`, not 'list.txt'"),
        ({"root": "/videos"}, "Source 1 must be a mapping with `data`"),
        ({"data": "list.txt", "weight": 0}, r"weight=0 of list.txt must be a positive number"),
        ({"data": "list.txt", "weight": -1}, r"weight=-1 of list.txt must be a positive number"),
    ],
)
def test_refused_sources(tmp_path, entry, message):
    with pytest.raises(ValueError, match=message):
        read_sources([{"data": write_list(tmp_path, "a.mp4 1")}, entry])


# -------------------------------------------------------------------------------------------------------- the samples


def test_what_read_frames_takes():
    assert VideoRecord("a.mp4").video() == "a.mp4"
    assert VideoRecord("a.mp4", content=b"bytes").video() == b"bytes"
    assert VideoRecord("frames/a").video("{}.jpg") == FrameFolder("frames/a", "{}.jpg", 1, None)
    assert VideoRecord("frames/a", first_frame=0, num_frames=9).video("{}.jpg") == FrameFolder(
        "frames/a", "{}.jpg", 0, 9
    )
    assert VideoRecord("frames/a", num_frames=9).video() == FrameFolder("frames/a", None, 1, 9)


def test_a_sample_list_gives_back_what_it_was_given():
    samples = [
        VideoRecord("a.mp4", 3),
        VideoRecord("frames/ü 日本", 0, first_frame=0, num_frames=7, source=2),
        VideoRecord(os.fsdecode(b"caf\xe9.mp4"), None, first_frame=5),  # a name that is no UTF-8
        VideoRecord("b.mp4", num_frames=0, content=b"\x00\x01"),
        VideoRecord(""),
    ]
    kept = VideoRecords(samples)
    assert len(kept) == 5 and list(kept) == samples
    assert [kept[index] for index in (0, 4, -1, -5)] == [samples[0], samples[4], samples[4], samples[0]]
    assert kept[1:4:2] == [samples[1], samples[3]] and kept[::-1] == samples[::-1] and kept[9:] == []
    assert os.fsencode(kept[2].path) == b"caf\xe9.mp4"
    assert kept[np.int64(1)] == samples[1]
    for index in (5, -6):
        with pytest.raises(IndexError):
            kept[index]
    several = [VideoRecord("a.mp4", (2, 0)), VideoRecord("b.mp4", ()), VideoRecord("c.mp4", (1,))]
    assert list(VideoRecords(several)) == several
    assert list(VideoRecords()) == []


def test_a_sample_list_is_small():
    samples = VideoRecords(
        VideoRecord(f"class_{number % 400}/video_{number:08}.mp4", number % 400) for number in range(100_000)
    )
    arrays = [value for value in vars(samples).values() if isinstance(value, np.ndarray)]
    others = [value for value in vars(samples).values() if not isinstance(value, np.ndarray)]
    assert sum(array.nbytes for array in arrays) < 200 * len(samples)
    assert sum(map(sys.getsizeof, others)) < 1000
    assert samples[99_999] == VideoRecord("class_399/video_00099999.mp4", 399)

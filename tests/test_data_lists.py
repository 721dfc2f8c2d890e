"""Reading folders and lists of videos."""

import pytest
from indexed_video import write_indexed_video

from videomae_hf.data import Sample, check_readable, read_samples


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
    assert samples == [
        Sample(str(tmp_path / "jump/2024/spring/c.webm"), 0),
        Sample(str(tmp_path / "run/a.MP4"), 1),
        Sample(str(tmp_path / "run/b.mp4"), 1),
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
    assert samples == [Sample(str(tmp_path / "a.mp4"), None), Sample(str(tmp_path / "deep/er/b.mkv"), None)]


@pytest.mark.parametrize(
    ("names", "labelled", "message"),
    [
        ([], True, "holds no video; expected a folder for each class with videos in it"),
        (["a.mp4"], True, "holds no video; expected a folder for each class with videos in it"),
        (["a.txt"], False, r"holds no video; expected videos \(.3gp, .avi,"),
        (["run/a.mp4", "jump/a.jpg"], True, "The class folder .*jump holds no video"),
    ],
)
def test_folders_without_videos(tmp_path, names, labelled, message):
    touch(tmp_path, *names)
    with pytest.raises(ValueError, match=message):
        read_samples(tmp_path, labelled=labelled)


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
        ['"a.mp4" run', '"my clip.mp4" jump'],
        ['"a.mp4",run', '"my clip.mp4",jump'],
        ["", "a.mp4 run", "", "my clip.mp4 jump", ""],
    ],
)
def test_lists(tmp_path, lines):
    samples, classes = read_samples(write_list(tmp_path, *lines))
    assert classes == ["jump", "run"]
    assert samples == [Sample(str(tmp_path / "a.mp4"), 1), Sample(str(tmp_path / "my clip.mp4"), 0)]


def test_list_with_the_byte_order_mark_of_excel(tmp_path):
    samples, _ = read_samples(write_list(tmp_path, "path,label", "a.mp4,run", encoding="utf-8-sig"))
    assert samples == [Sample(str(tmp_path / "a.mp4"), 0)]


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
        ['"a.mp4" 0 -1', '"my clip.mp4" 0 -1'],
    ],
)
def test_lists_for_pretraining(tmp_path, lines):
    samples, classes = read_samples(write_list(tmp_path, *lines), labelled=False)
    assert classes == []
    assert samples == [Sample(str(tmp_path / "a.mp4")), Sample(str(tmp_path / "my clip.mp4"))]


def test_list_with_another_root_and_absolute_paths(tmp_path):
    path = write_list(tmp_path, "a.mp4 0", "/data/b.mp4 0")
    samples, _ = read_samples(path, root="/videos")
    assert [sample.path for sample in samples] == ["/videos/a.mp4", "/data/b.mp4"]


@pytest.mark.parametrize(
    ("class_names", "labels", "expected"),
    [
        (None, ["10", "2", "0"], [10, 2, 0]),
        (None, ["b", "10", "a"], [2, 0, 1]),
        (["sit", "run", "jump"], ["2", "0", "run"], [2, 0, 1]),
        (["5", "0"], ["5", "0", "1"], [0, 1, 1]),  # a name goes before a number
    ],
)
def test_numbers_and_names_as_labels(tmp_path, class_names, labels, expected):
    path = write_list(tmp_path, *(f"{number}.mp4 {label}" for number, label in enumerate(labels)))
    samples, classes = read_samples(path, class_names)
    assert [sample.label for sample in samples] == expected
    if class_names is None:
        assert classes == ([str(number) for number in range(11)] if labels[0] == "10" else ["10", "a", "b"])


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        (["a.mp4 jmup"], r"a.mp4 has the unknown label 'jmup'; did you mean 'jump'\? Known: jump, run"),
        (["a.mp4 2"], "unknown label '2' Known: jump, run"),
        (["a.mp4 run", "b.mp4"], "list.txt, line 2: expected a path and a label, found 'b.mp4'"),
        (["path,label", "a.mp4"], "list.txt, line 2: expected a path and a label, found 'a.mp4'"),
        ([""], "list.txt holds no video"),
        (["path,label"], "list.txt holds no video"),
    ],
)
def test_refused_lists(tmp_path, lines, message):
    with pytest.raises(ValueError, match=message):
        read_samples(write_list(tmp_path, *lines), class_names=["jump", "run"])


def test_check_readable(tmp_path):
    video = str(write_indexed_video(tmp_path / "clip.mp4", 4))
    bad = str(write_list(tmp_path, "no video", name="bad.mp4"))
    check_readable([Sample(bad, 0), Sample(video, 0), Sample(video, 1)], ["jump", "run"])
    check_readable([Sample(bad), Sample(video)], [])
    with pytest.raises(ValueError, match=r"Class 'run' has no readable video \(2 tried\); the first: .*bad.mp4"):
        check_readable([Sample(video, 0), Sample(bad, 1), Sample("nowhere.mp4", 1)], ["jump", "run"])
    with pytest.raises(ValueError, match=r"The data set has no readable video \(2 tried\)"):
        check_readable([Sample(bad)] * 2 + [Sample(video)], [], tries=2)

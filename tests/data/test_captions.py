"""Videos with captions: lists, annotation files, shards, folders and data sets."""

import json

import pytest
from helpers.indexed_video import write_indexed_video
from helpers.stream_shards import write_tar

from videomae_hf.data.captions import Pair, read_captions
from videomae_hf.data.sources.folders_and_lists import Reading
from videomae_hf.settings.groups import DataSettings


def read(source, column=None, **reading):
    return read_captions(None if source is None else str(source), DataSettings(), Reading(**reading), column)


def listed(path, text: str):
    path.write_text(text)
    return path


def test_list_of_videos_and_captions(tmp_path):
    """Several captions of a video share its record; a part is a record of its own."""
    text = (
        'video,sentence,start,end\na.mp4,"cut, then fry",,\na.mp4,serve it,,\na.mp4,stir,1,2.5\nb.mp4,,,\n,mix well,,\n'
    )
    found = read(listed(tmp_path / "l.csv", text))
    assert [(record.name.rsplit("/")[-1]) for record in found.records] == ["a.mp4", "a.mp4 [1 to 2.5 s]", "b.mp4"]
    assert found.records[0].path == str(tmp_path / "a.mp4")
    assert [(pair.video, pair.text) for pair in found.pairs] == [
        *((0, "cut, then fry"), (0, "serve it"), (1, "stir"), (2, ""), (-1, "mix well"))
    ]


def test_json_lines_texts_alone_and_two_columns(tmp_path):
    lines = [{"video": "a.mp4", "captions": ["one", "two"]}, {"video": "b.mp4", "captions": "three"}]
    found = read(listed(tmp_path / "l.jsonl", "\n".join(map(json.dumps, lines)) + "\n"))
    assert found.pairs == [Pair(0, "one"), Pair(0, "two"), Pair(1, "three")]
    texts = read(listed(tmp_path / "t.jsonl", '{"text": "fry it"}\n{"text": "cut it"}\n'))
    assert texts.pairs == [Pair(-1, "fry it"), Pair(-1, "cut it")] and len(texts.records) == 0
    assert read(listed(tmp_path / "p.csv", "a.mp4,a red ball\n")).pairs == [Pair(0, "a red ball")]


def test_annotation_files(tmp_path):
    """The forms of YouCook II and of ActivityNet Captions."""
    video = {"subset": "training", "duration": 30.0, "video_url": "https://x", "recipe_type": "1", "annotations": [
        {"segment": [2, 8], "id": 0, "sentence": "grill the tomatoes"},
        {"segment": [9, 12], "id": 1, "sentence": "add oil"},
    ]}  # fmt: skip
    database = {"database": {"v1": video, "v2": {**video, "subset": "validation"}}}
    found = read(listed(tmp_path / "youcookii.json", json.dumps(database)), split=("train",))
    assert [(one.path, one.start, one.end) for one in found.records] == [
        (str(tmp_path / "v1.mp4"), 2.0, 8.0), (str(tmp_path / "v1.mp4"), 9.0, 12.0)
    ]  # fmt: skip
    assert found.pairs == [Pair(0, "grill the tomatoes"), Pair(1, "add oil")]

    entry = {"duration": 82.7, "timestamps": [[0.8, 19.9], [17.4, 60]], "sentences": [" A man sits.", "He  waves."]}
    found = read(listed(tmp_path / "train.json", json.dumps({"v_x": entry})))
    assert found.pairs == [Pair(0, "A man sits."), Pair(1, "He waves.")]
    assert [one.segment[:2] for one in found.records] == [(0.8, 19.9), (17.4, 60.0)]


def test_shards(tmp_path):
    video = write_indexed_video(tmp_path / "v.mp4", 5).read_bytes()
    members = {"1.mp4": video, "1.txt": b"a red ball\n", "2.mp4": video, "2.json": b'{"caption": ["one", "two"]}'}
    found = read(write_tar(tmp_path / "x.tar", {**members, "3.mp4": video}))
    assert found.pairs == [Pair(0, "a red ball"), Pair(1, "one"), Pair(1, "two"), Pair(2, "")]
    assert found.records[0].video() == video


def test_data_set_and_folder(tmp_path):
    (tmp_path / "set").mkdir()
    write_indexed_video(tmp_path / "set" / "a.mp4", 5)
    assert read(tmp_path / "set").pairs == [Pair(0, "")]
    listed(tmp_path / "set" / "metadata.csv", "file_name,caption\na.mp4,a red ball\n")
    data = DataSettings(dataset_name="videofolder", dataset_dir=str(tmp_path / "set"))
    found = read_captions(None, data, Reading(split=("train",)), None)
    assert found.pairs == [Pair(0, "a red ball")] and found.records[0].whole_video(None)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("video,caption,text\na.mp4,x,y\n", "caption and text could both be captions; choose with --caption_column_"),
        ("video,caption,start,end\na.mp4,x,5,2\n", "line 2: the end, 2, is not after the start, 5"),
        ('{"video": "", "caption": ""}', "line 1: neither a video nor a caption"),
        ('{"v": {"timestamps": [[0, 1]], "sentences": []}}', "entry 1: timestamps need a .start, end. for each"),
        ('{"video": "a.mp4", "caption": 3}', "line 1: the caption is 3, not text"),
        ("a.mp4,x,y\n", "3 columns; without a header a row has a video and a caption"),
    ],
)
def test_refused(tmp_path, text, message):
    with pytest.raises(ValueError, match=message):
        read(listed(tmp_path / "l.csv", text))

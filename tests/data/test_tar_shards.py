"""Tar shards read in place: what is listed, labels and classes, and what is wrong with a shard."""

import io
import json
import tarfile

import pytest
from helpers.indexed_video import frame_indices, write_indexed_video
from helpers.stream_shards import write_shards, write_tar

from videomae_hf.data.preparation.shard_writer import ShardSample
from videomae_hf.data.preparation.shard_writer import write_shards as prepare_shards
from videomae_hf.data.sources.hub_datasets import stream_shards
from videomae_hf.data.sources.synthetic import synthesise_dataset
from videomae_hf.data.sources.tar_shards import is_shards, read_shards
from videomae_hf.data.video_dataset import VideoDataset
from videomae_hf.models.video_decoding import VideoSegment, read_frames


def test_videos_are_read_from_their_place(tmp_path):
    contents = {count: write_indexed_video(tmp_path / "v.mp4", count).read_bytes() for count in (5, 9, 12)}
    members = {}
    for count, content in contents.items():
        members |= {f"a/{count}.json": b"{}", f"a/{count}.MP4": content, f"a/{count}.cls": b"%d\n" % (count % 2)}
    shard = write_tar(tmp_path / "x.tar", members)
    samples, classes = read_shards(shard)
    assert classes == ["0", "1"] and [sample.label for sample in samples] == [1, 1, 0]
    assert [sample.path for sample in samples] == [f"{shard}/a/{count}.MP4" for count in contents]
    for sample, (count, content) in zip(samples, contents.items()):
        assert sample.video() == content
        assert frame_indices(read_frames(sample.video(), [0, count - 1])) == [0, count - 1]
    assert samples[-1].label == 0 and [sample.label for sample in samples[:2]] == [1, 1]


def test_shards_of_prepare(tmp_path):
    synthesise_dataset(tmp_path / "videos", videos_per_class=1, size=32, num_frames=8)
    paths = sorted((tmp_path / "videos").rglob("*.mp4"))
    names = [path.parent.name for path in paths]
    (tmp_path / "shards").mkdir()
    prepare_shards(
        tmp_path / "shards",
        [ShardSample(path, names.index(path.parent.name), {"path": path.name}) for path in paths],
        names,
        3,
    )
    samples, classes = read_shards(tmp_path / "shards")
    assert classes == names and len(samples) == 8
    videos = {path.read_bytes(): path.parent.name for path in paths}
    assert all(videos[sample.video()] == classes[sample.label] for sample in samples)
    # A trained model may have its classes in another order, and more of them.
    samples, classes = read_shards(tmp_path / "shards", ["other", *reversed(names)])
    assert all(videos[sample.video()] == classes[sample.label] for sample in samples)
    assert read_shards(tmp_path / "shards", labelled=False)[1] == []


def test_shards_are_found(tmp_path):
    folder = write_shards(tmp_path / "shards", [2, 3])
    assert is_shards(folder) and is_shards(f"{folder}/*.tar") and is_shards(folder / "shard-000000.tar")
    assert not is_shards(tmp_path) and not is_shards(None) and not is_shards([{"data": str(folder)}])
    assert len(read_shards(folder)[0]) == len(read_shards(f"{folder}/shard-*.tar")[0]) == 5
    assert len(read_shards(folder / "shard-000001.tar")[0]) == 3


def test_a_set_in_shards_is_a_data_set_like_others(tmp_path):
    samples, _ = read_shards(write_shards(tmp_path, [2, 3], bad=(1,)))
    data = VideoDataset(samples, lambda sample, generator: (sample.video(), sample.label))
    assert [data[index] for index in range(5)] == [(b"0", 0), (b"bad", 1), (b"2", 2), (b"3", 0), (b"4", 1)]


def test_a_video_that_its_shard_has_lost(tmp_path, caplog):
    samples, _ = read_shards(write_shards(tmp_path, [2]))
    (tmp_path / "shard-000000.tar").write_bytes(b"")
    data = VideoDataset(samples, lambda sample, generator: {"pixel_values": sample.video()}, replace_bad=False)
    assert data[1]["pixel_values"] is None and data.bad_videos() == (1, 2)
    assert "shard-000000.tar/0001.mp4 ends early: 0 of 1 bytes" in caplog.text


def labels_in(shard, **options) -> list[tuple[str, str]]:
    samples, classes = read_shards(shard, **options)
    return [(sample.path.removeprefix(f"{shard}/"), classes[sample.label]) for sample in samples]


@pytest.mark.parametrize(
    "members",
    [
        {"a.0.mp4": b"", "a.0.cls": b"run", "a.1.mp4": b"", "a.1.cls": b"sit"},  # dots in the names
        {"a.0.cls": b"run", "a.1.cls": b"sit", "a.0.mp4": b"", "a.1.mp4": b""},  # in another order
        {"a.0.mp4": b"", "a.0.txt": b"run\n", "a.1.mp4": b"", "a.1.txt": b"sit"},
        {"a.0.mp4": b"", "a.0.json": b'{"label": "run", "fps": 25}', "a.1.mp4": b"", "a.1.json": b'{"class": "sit"}'},
        {"a.0.mp4": b"", "a.0.cls": b"run", "a.0.txt": b"a caption", "a.1.mp4": b"", "a.1.cls": b"sit"},
    ],
)
def test_names_with_dots_and_labels_in_other_members(tmp_path, members):
    shard = write_tar(tmp_path / "x.tar", members)
    assert labels_in(shard) == [("a.0.mp4", "run"), ("a.1.mp4", "sit")]


def test_class_folders_in_a_shard(tmp_path):
    for prefix in ("", "./", "ucf/train/"):
        members = {f"{prefix}{c}/{n}.mp4": b"" for c in ("run", "sit") for n in range(2)}
        found = labels_in(write_tar(tmp_path / "x.tar", members))
        assert [label for _, label in found] == ["run", "run", "sit", "sit"]
    assert labels_in(write_tar(tmp_path / "y.tar", {"run/0.mp4": b"", "run/1.mp4": b""}))[0][1] == "run"


def test_parts_of_videos_and_numbers_in_shards(tmp_path):
    members = {"a.mp4": b"0", "a.json": b'{"label": 1.0, "start": 2, "end": 4.5}', "b.mp4": b"1", "b.cls": b"0.0"}
    samples, classes = read_shards(write_tar(tmp_path / "x.tar", members))
    assert classes == ["0", "1"] and [sample.label for sample in samples] == [1, 0]
    assert samples[0].video() == VideoSegment(b"0", 2.0, 4.5) and samples[1].video() == b"1"
    rows = stream_shards(tmp_path / "x.tar", ["zero", "one"], num_videos=2)
    streamed = [rows.sample(row) for row in rows.rows]
    assert [(sample.label, sample.segment[:2]) for sample in streamed] == [(1, (2.0, 4.5)), (0, (None, None))]


def test_a_stream_reads_labels_as_the_list_does(tmp_path):
    members = {"a.0.mp4": b"0", "a.0.txt": b"run", "a.1.mp4": b"1", "a.1.json": b'{"label": "sit"}', "a.1.png": b""}
    shard = write_tar(tmp_path / "x.tar", members)
    rows = stream_shards(shard, ["run", "sit"], num_videos=2)
    streamed = [rows.sample(row) for row in rows.rows]
    assert [(sample.path, sample.label, sample.video()) for sample in streamed] == [
        (f"{shard}/a.0.mp4", 0, b"0"), (f"{shard}/a.1.mp4", 1, b"1")
    ]  # fmt: skip
    assert read_shards(shard)[0].messages == [f"{shard}: members not used: 1 .png"]
    with pytest.raises(ValueError, match="x.tar has no index.json with its classes"):
        stream_shards(shard)


@pytest.mark.parametrize(
    ("members", "message"),
    [
        (
            {"a.0.mp4": b"", "a.1.mp4": b"", "a.cls": b"run"},
            "x.tar: a has one label and several videos, including a.0.mp4",
        ),
        ({"a.mp4": b"", "a.txt": b"one line\nand another"}, "the label 'one line.*is a text of several lines"),
        ({"a.mp4": b"", "a.json": b"{"}, "x.tar/a.json is not valid JSON"),
        ({"a.mp4": b"", "a.json": b'{"label": ["x", "y"]}'}, "x.tar/a.json: 2 labels; shards have one per video"),
        ({"a.mp4": b"", "a.cls": "²".encode(), "b.mp4": b"", "b.cls": b"-1"}, 'the label -1 means "no label"'),
    ],
)
def test_labels_in_shards_that_are_unclear(tmp_path, members, message):
    with pytest.raises(ValueError, match=message):
        read_shards(write_tar(tmp_path / "x.tar", members))


def test_what_is_wrong_with_shards(tmp_path):
    def refused(message, name, error=ValueError, **options):
        with pytest.raises(error, match=message):
            read_shards(tmp_path / name, **options)

    refused("There is no tar shard at", "none-*.tar", FileNotFoundError)
    write_tar(tmp_path / "empty.tar", {"a.txt": b""})
    refused("hold no videos", "empty.tar")
    write_tar(tmp_path / "bare.tar", {"a.mp4": b"1", "b.mp4": b"2", "b.cls": b"1"})
    refused(
        "bare.tar: videos without a label .a member .cls, .json or .txt, or a class folder.: .*/bare.tar/a.mp4$",
        "bare.tar",
    )
    assert len(read_shards(tmp_path / "bare.tar", labelled=False)[0]) == 2
    write_tar(tmp_path / "named.tar", {"a.mp4": b"1", "a.cls": b"kick"})
    refused("a.mp4 has the unknown label 'kick'; did you mean 'kicks'", "named.tar", class_names=["hug", "kicks"])
    whole = (tmp_path / "named.tar").read_bytes()
    (tmp_path / "cut.tar").write_bytes(whole[:1000])
    refused("cut.tar is cut short", "cut.tar")
    with tarfile.open(tmp_path / "packed.tar", "w:gz") as tar:
        tar.addfile(tarfile.TarInfo("a.mp4"), io.BytesIO())
    refused("packed.tar is cut short, compressed or not a tar file", "packed.tar")
    index = {"class_names": ["0", "1"], "shards": [{"file": "bare.tar", "samples": 3}]}
    (tmp_path / "index.json").write_text(json.dumps(index))
    refused("holds 2 videos, but its index.json says 3", "bare.tar", labelled=False)
    for text in ("[]", '{"shards": [1]}', '{"class_names": {"0": "x"}}', '{"shards": [{"file": "bare.tar"}]}'):
        (tmp_path / "index.json").write_text(text)
        refused("index.json must map", "bare.tar")

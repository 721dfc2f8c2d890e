"""Folders of features: names of files, files written in parts, and what counts as done."""

import json
import os

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from videomae_hf import VideoSegment
from videomae_hf.data.shared_work import ProcessShare
from videomae_hf.inference.feature_folder import (
    FeatureFile,
    FeatureFolder,
    FeatureWriter,
    file_names,
    tad_names,
)
from videomae_hf.inference.inputs import Input, find_inputs


HEADER = {"key": "k", "model": "m", "features": "pooled", "shape": [3], "dtype": "float32", "layout": "safetensors"}
HEADER |= {"processor": {}, "weights": "w"}


def named(*places: str) -> list[Input]:
    return [Input(f"/videos{number}/{place}", "", place) for number, place in enumerate(places)]


def test_files_mirror_the_places_of_videos():
    assert list(file_names(named("hug/a.mp4", "hug/a.avi", "é (1).mp4"), {}).values()) == [
        "hug/a.mp4.safetensors",
        "hug/a.avi.safetensors",
        "é (1).mp4.safetensors",
    ]


@pytest.mark.parametrize(
    "place",
    ["../../etc/x.mp4", "/etc/x.mp4", "a:b.mp4", "a\\b.mp4", "c\n.mp4", "..", "", "x" * 300 + ".mp4", "a\udcff.mp4"],
)
def test_no_file_lies_outside_or_has_a_name_that_file_systems_refuse(place, tmp_path):
    (file,) = file_names(named(place), {}).values()
    path = (tmp_path / file).resolve()
    assert path.is_relative_to(tmp_path) and file.isprintable() and ":" not in file and "\\" not in file
    path.parent.mkdir(parents=True, exist_ok=True)
    path.with_name(path.name + ".partial").write_bytes(b"")


def test_no_two_videos_have_the_same_file():
    places = ["x.mp4", "x.mp4", "X.mp4", "a:b", "a?b", "e\u0301", "\u00e9", "../x.mp4"]
    files = list(file_names(named(*places), {}).values())
    assert len({file.casefold() for file in files}) == len(files)
    (file,) = file_names(named("x.mp4"), {"X.mp4.safetensors": "another"}).values()  # of an earlier run
    assert file.startswith("x.mp4-")
    assert file_names(named("x.mp4"), {"x.mp4.safetensors": "/videos0/x.mp4"}) == {
        "/videos0/x.mp4": "x.mp4.safetensors"
    }


def test_names_for_temporal_action_detection():
    assert tad_names(named("test/video_test_0000004.mp4", "a.1.mp4"), {}) == {
        "/videos0/test/video_test_0000004.mp4": "video_test_0000004.npy",
        "/videos1/a.1.mp4": "a.1.npy",
    }
    with pytest.raises(ValueError, match=r"/videos0/hug/a.mp4 and /videos1/kick/a.avi would both be a.npy"):
        tad_names(named("hug/a.mp4", "kick/a.avi"), {})
    with pytest.raises(ValueError, match="is a part of a video"):
        tad_names([Input("a [0 to 1 s]", VideoSegment("a", 0, 1), "a")], {})


def test_places_of_inputs(tmp_path):
    (tmp_path / "videos" / "hug").mkdir(parents=True)
    for name in ("videos/hug/a.mp4", "videos/b.mp4"):
        (tmp_path / name).write_bytes(b"")
    (tmp_path / "list.csv").write_text("path,label,start,end\nvideos/hug/a.mp4,x,1,2\n")
    sources = [tmp_path / "videos", tmp_path / "list.csv", tmp_path / "videos" / "b.mp4", "https://host/c.mp4"]
    assert [one.place for one in find_inputs(map(str, sources))] == [
        "b.mp4",
        "hug/a.mp4",
        "videos/hug/a.mp4 [1 to 2 s]",
        "b.mp4",
        "",
    ]


@pytest.mark.parametrize(("dtype", "shape"), [("float32", [3]), ("float16", [3]), ("float16", [2, 5])])
def test_a_file_is_written_in_parts(tmp_path, dtype, shape):
    """float16 with an odd number of values is padded, so that the times begin at a multiple of 8 bytes."""
    values = torch.arange(5 * np.prod(shape), dtype=torch.float32).view(5, *shape)
    times, frames = np.arange(10.0).reshape(5, 2) / 3, np.arange(10).reshape(5, 2)
    file = FeatureFile(tmp_path / "a" / "b.safetensors", shape, dtype, "safetensors")
    for some in (slice(0, 2), slice(2, 5)):
        file.add(values[some], times[some], frames[some])
    assert not (tmp_path / "a" / "b.safetensors").exists()
    summary = file.close()
    size = (tmp_path / "a" / "b.safetensors").stat().st_size
    assert summary == {"shape": [5, *shape], "start": 0.0, "end": 3.0, "frames": [0, 9], "bytes": size}
    found = load_file(tmp_path / "a" / "b.safetensors")
    assert torch.equal(found["features"], values.to(getattr(torch, dtype)))
    assert torch.equal(found["start"], torch.from_numpy(times[:, 0])) and found["frames"].tolist() == frames.tolist()
    assert [path.name for path in (tmp_path / "a").iterdir()] == ["b.safetensors"]


def test_a_file_of_the_detection_layout(tmp_path):
    file = FeatureFile(tmp_path / "a.npy", [3], "float32", "tad")
    file.add(torch.ones(2, 3), np.zeros((2, 2)), np.zeros((2, 2), int))
    file.close()
    found = np.load(tmp_path / "a.npy")
    assert found.dtype == np.float32 and found.tolist() == [[1, 1, 1], [1, 1, 1]]


def test_what_does_not_fit_into_the_dtype_is_refused(tmp_path):
    file = FeatureFile(tmp_path / "a", [1], "float16", "safetensors")
    with pytest.raises(ValueError, match="its features are not finite in float16"):
        file.add(torch.tensor([[1e6]]), np.zeros((1, 2)), np.zeros((1, 2), int))
    file.discard()
    assert list(tmp_path.iterdir()) == []


def store(writer: FeatureWriter, one: Input, value: float = 1.0) -> None:
    file = writer.open(one)
    file.add(torch.full((2, 3), value), np.array([[0, 1], [1, 2]]), np.array([[0, 25], [25, 50]]))
    writer.add(one, file)


@pytest.fixture
def inputs(tmp_path) -> list[Input]:
    for name in "abc":
        (tmp_path / f"{name}.mp4").write_bytes(name.encode())
    return [Input(str(tmp_path / f"{name}.mp4"), str(tmp_path / f"{name}.mp4"), f"{name}.mp4") for name in "abc"]


def test_what_counts_as_done(tmp_path, inputs):
    first, second, third = inputs
    writer = FeatureWriter(tmp_path / "out", HEADER)
    assert writer.plan(inputs) == inputs
    for one in inputs:
        store(writer, one)
    # The process is killed here: its part of the manifest is read by the next one.
    assert FeatureWriter(tmp_path / "out", HEADER).plan(inputs) == []
    (tmp_path / "out" / "a.mp4.safetensors").write_bytes(b"half")
    second_file = tmp_path / "b.mp4"
    second_file.write_bytes(b"another video")
    writer = FeatureWriter(tmp_path / "out", HEADER)
    assert writer.plan(inputs) == [first, second]
    store(writer, first, 2.0)
    writer.fail(second, "it is broken")
    records, failed = writer.finish()
    assert list(records) == [first.name, third.name] and failed == {second.name: "it is broken"}
    assert (tmp_path / "out" / "failed.csv").read_text() == f"path,reason\n{second.name},it is broken\n"
    names = {path.name for path in (tmp_path / "out").iterdir()}
    assert names >= {"manifest.jsonl", "features.json"} and not any("-of-" in name for name in names)
    folder = FeatureFolder(tmp_path / "out")
    assert folder.load(folder.records[first.name])["features"].tolist() == [[2, 2, 2]] * 2
    status = os.stat(first.name)
    assert json.loads((tmp_path / "out" / "manifest.jsonl").read_text().split("\n")[0]) == {
        **{"path": first.name, "file": "a.mp4.safetensors", "shape": [2, 3], "start": 0.0, "end": 2.0},
        **{"frames": [0, 50], "bytes": (tmp_path / "out" / "a.mp4.safetensors").stat().st_size},
        "state": [status.st_size, status.st_mtime_ns],
    }


def test_processes_share_a_folder(tmp_path, inputs):
    writers = [FeatureWriter(tmp_path / "out", HEADER, ProcessShare(rank, 2)) for rank in range(2)]
    for writer in writers:
        writer.plan(inputs)
        for one in writer.work.share.of(inputs):
            store(writer, one)
    assert writers[1].finish() is None
    assert len(FeatureFolder(tmp_path / "out").records) == 3  # before they are merged as well
    assert list(writers[0].finish()[0]) == [one.name for one in inputs]
    assert len(FeatureFolder(tmp_path / "out").records) == 3


def test_other_features_are_refused(tmp_path):
    header = {**HEADER, "processor": {"image_mean": [0.5, 0.5]}, "windows": None}
    FeatureWriter(tmp_path / "out", header).plan(named("a.mp4"))
    now = {**header, "processor": {"image_mean": (0.5, 0.5)}}  # as a processor has it in memory
    with pytest.raises(ValueError, match="has features of another model, m; give another folder"):
        FeatureWriter(tmp_path / "out", {**now, "key": "l", "weights": "x"})
    with pytest.raises(ValueError, match=r"has features with dtype='float32', not 'float16'; give another folder"):
        FeatureWriter(tmp_path / "out", {**now, "key": "l", "dtype": "float16"})
    windows = {"length": 8.0, "stride": 4.0, "unit": "f", "to_the_end": True}
    with pytest.raises(ValueError, match="windows=None, not '--window 8f --stride 4f'; give another folder"):
        FeatureWriter(tmp_path / "out", {**now, "key": "l", "windows": windows})


def test_nothing_is_written_for_refused_inputs_and_earlier_failures_stay(tmp_path):
    writer = FeatureWriter(tmp_path / "out", {**HEADER, "layout": "tad"})
    with pytest.raises(ValueError, match="which some file systems do not allow"):
        writer.plan(named("a\nb.mp4"))
    assert not (tmp_path / "out").exists()
    first, second = named("a.mp4", "b.mp4")
    for inputs, reason in (([first, second], "it is broken"), ([second], "it is empty")):
        writer = FeatureWriter(tmp_path / "out", HEADER)
        for one in writer.plan(inputs):
            writer.fail(one, reason)
        _, failed = writer.finish()
    assert failed == {first.name: "it is broken", second.name: "it is empty"}
    (tmp_path / "file").write_text("")
    with pytest.raises(OSError, match="cannot be created"):
        FeatureWriter(tmp_path / "file" / "out", HEADER).plan([first])


def test_a_manifest_cannot_name_files_elsewhere(tmp_path):
    writer = FeatureWriter(tmp_path, HEADER)
    writer.plan([])
    writer.finish()
    folder = FeatureFolder(tmp_path)
    for file in ("/etc/passwd", "../x"):
        with pytest.raises(ValueError, match="a file outside the folder"):
            folder.load({"file": file, "shape": [1, 3]})
    (tmp_path / "manifest.jsonl").write_text('{"path": 3}\n')
    with pytest.raises(ValueError, match="manifest.jsonl, line 1: expected an object with path, file, shape"):
        FeatureFolder(tmp_path)
    with pytest.raises(FileNotFoundError, match="is no folder of features"):
        FeatureFolder(tmp_path / "none")

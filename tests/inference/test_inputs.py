"""Which videos a user names: files, folders, lists, standard input, growing folders; names are never commands."""

import itertools
import os
import sys

import numpy as np
import pytest
import torch
from helpers.indexed_video import indexed_frames
from PIL import Image

from videomae_hf import FrameFolder, VideoSegment
from videomae_hf.inference.frame_stream import Camera
from videomae_hf.inference.inputs import find_inputs, input_of, is_endless, watch_folders


def names(*sources, **options) -> list[str]:
    return [one.name for one in find_inputs(sources, **options)]


def touch(folder, *paths) -> None:
    for path in paths:
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / path).write_bytes(b"\0")


def test_a_folder_is_searched_in_natural_order(tmp_path):
    touch(tmp_path, "b/clip_10.mp4", "b/clip_9.MKV", "b/clip_9b.mp4", "a 2/x.webm", "a 10/x.webm", ".hidden/y.mp4")
    touch(tmp_path, "notes.txt", "b/._clip_1.mp4")
    notes = []
    found = names(str(tmp_path), note=notes.append)
    expected = ["a 2/x.webm", "a 10/x.webm", "b/clip_9.MKV", "b/clip_9b.mp4", "b/clip_10.mp4"]
    assert found == [str(tmp_path / name) for name in expected]
    assert notes == [f"{tmp_path}: files other than videos left out: 1 .txt"]


def test_files_of_every_kind(tmp_path):
    np.save(tmp_path / "frames.npy", indexed_frames(3))
    touch(tmp_path, "a.mp4", "without_suffix", "pages.tiff")
    (tmp_path / "images").mkdir()
    Image.new("RGB", (8, 8)).save(tmp_path / "images" / "1.png")
    sources = [str(tmp_path / name) for name in ("a.mp4", "without_suffix", "frames.npy", "pages.tiff", "images")]
    url = "https://example.org/a.mp4?x=1"
    assert names(*sources, url, str(tmp_path / "missing.mp4")) == [*sources, url, str(tmp_path / "missing.mp4")]
    assert [one.video for one in find_inputs(["camera:0"])] == [Camera("0")]


def test_a_list_names_videos_and_parts_of_videos(tmp_path):
    touch(tmp_path, "a.mp4", "b.mp4")
    (tmp_path / "list.csv").write_text("path,label,start,end\na.mp4,run,0.5,2\nb.mp4,run,,\n")
    found = list(find_inputs([tmp_path / "list.csv"]))
    assert [one.name for one in found] == [f"{tmp_path}/a.mp4 [0.5 to 2 s]", f"{tmp_path}/b.mp4"]
    assert found[0].video == VideoSegment(f"{tmp_path}/a.mp4", start=0.5, end=2)
    (tmp_path / "plain.txt").write_text("a.mp4\nb.mp4\n")
    root = tmp_path / "elsewhere"
    touch(root, "a.mp4", "b.mp4")
    assert names(tmp_path / "plain.txt", data_root=str(root)) == [f"{root}/a.mp4", f"{root}/b.mp4"]


def test_standard_input_and_lists_name_files_alone(tmp_path, monkeypatch):
    """A line `camera:0` opens no camera, and `-` does not read on; bytes that are not UTF-8 stay what they are."""
    lines = b"a b.mp4\r\n\ncamera:0\n-\n\xff.mp4\nhttp://example.org/a.mp4"
    (tmp_path / "lines").write_bytes(lines)
    with open(tmp_path / "lines") as file:
        monkeypatch.setattr(sys, "stdin", file)
        found = list(find_inputs(["-"]))
    expected = ["a b.mp4", "camera:0", "-", os.fsdecode(b"\xff.mp4"), "http://example.org/a.mp4"]
    assert [one.name for one in found] == [one.video for one in found] == expected
    assert is_endless(["x", "-"]) and not is_endless(["x", "./-"])
    touch(tmp_path / "folder", "camera:0.mp4", "-.mp4")
    assert all(isinstance(one.video, str) for one in find_inputs([str(tmp_path / "folder")]))


def test_what_is_no_video_is_refused(tmp_path):
    touch(tmp_path, "empty/readme.md")
    with pytest.raises(ValueError, match=r"empty holds no video; it holds 1 \.md"):
        names(str(tmp_path / "empty"))
    with pytest.raises(ValueError, match="ftp://example.org/a.mp4: only files and http"):
        names("ftp://example.org/a.mp4")
    with pytest.raises(ValueError, match="watch needs a folder"):
        names("a.mp4", watch=True)


def test_videos_in_memory():
    frames = indexed_frames(4)
    for video in (frames, torch.from_numpy(frames), [Image.fromarray(frame) for frame in frames], list(frames)):
        assert input_of(video, 3).name == "array 3" and input_of(video).is_in_memory
    assert not input_of(FrameFolder("images")).is_in_memory and input_of(FrameFolder("images")).name == "images"
    assert [one.name for one in find_inputs([frames, "a.mp4", frames])] == ["array 0", "a.mp4", "array 2"]
    with pytest.raises(ValueError, match=r"not ndarray of shape \(1, 4, 96, 128, 3\); predict_many takes several"):
        input_of(frames[None])
    with pytest.raises(ValueError, match="Expected one video .* not list"):
        input_of(["a.mp4", "b.mp4"])


def test_a_growing_folder_gives_each_video_once_and_complete(tmp_path):
    """Files that are still written wait; time passes only in `sleep`."""
    touch(tmp_path, "old.mp4")
    log, clock = [], itertools.count()

    class Enough(Exception):
        pass

    def sleep(seconds: float) -> None:
        assert seconds == 0.5
        now = next(clock)
        if now < 6:
            with open(tmp_path / "growing.mp4", "ab") as file:  # grows until 2.5 seconds
                file.write(b"x")
        touch(tmp_path, "notes.txt", ".part.mp4", "empty/later.MOV" if now > 3 else "old.mp4")
        (tmp_path / "nothing.mp4").write_bytes(b"")
        if now == 20:
            raise Enough
        os.utime(tmp_path / "old.mp4", (0, 0))
        if now > 3:
            os.utime(tmp_path / "empty" / "later.MOV", (0, 0))

    with pytest.raises(Enough):
        for one in watch_folders([tmp_path], sleep=sleep):
            log.append((one.name.removeprefix(f"{tmp_path}/"), (tmp_path / one.name).stat().st_size))
    assert sorted(log) == [("empty/later.MOV", 1), ("growing.mp4", 6), ("old.mp4", 1)]

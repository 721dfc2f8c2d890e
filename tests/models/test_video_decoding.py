"""Frame i of a file is the i-th that a full decode gives: read off videos whose frames carry their own number."""

import importlib
import os
import sys
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
import torch
from helpers.indexed_video import frame_indices, indexed_frames, write_indexed_video

from videomae_hf.models import video_decoding
from videomae_hf.models.video_decoding import VideoDecodeError, read_frames, usable_backend


NUM_FRAMES = 60
FILES = {
    # name: encoder, its options, number of key frames, whether packets come out of order, whether PyAV can seek
    "long_gop.mp4": ("libx264", {"g": 250, "bf": 3, "sc_threshold": 0}, 1, True, True),
    "short_gop.mp4": ("libx264", {"g": 12, "bf": 2}, 5, True, True),
    "open_gop.mp4": ("libx264", {"g": 12, "bf": 3, "x264-params": "open-gop=1"}, 5, True, True),
    "intra.mp4": ("libx264", {"g": 1}, 60, False, True),
    "fragmented.mp4": ("libx264", {"g": 12, "bf": 2, "movflags": "frag_keyframe+empty_moov"}, 5, True, True),
    "vp9.webm": ("libvpx-vp9", {"g": 20, "deadline": "realtime", "cpu-used": 8}, 3, False, True),
    "matroska.mkv": ("libx264", {"g": 12, "bf": 2}, 5, True, True),
    "mpeg4.avi": ("mpeg4", {"g": 12, "bf": 2}, 6, True, False),
    "stream.ts": ("libx264", {"g": 12, "bf": 2}, 5, True, False),
    "raw.h264": ("libx264", {"g": 12, "bf": 2}, 5, False, False),
}
# Of the others, decord gives wrong frames where it seeks, and torchcodec raises; neither opens raw streams.
FILES_FOR_ALL = ["long_gop.mp4", "short_gop.mp4", "intra.mp4", "fragmented.mp4", "vp9.webm", "matroska.mkv"]
BACKENDS = ("pyav", "decord", "torchcodec")
BACKEND_FILES = [(backend, name) for backend in BACKENDS for name in (FILES if backend == "pyav" else FILES_FOR_ALL)]


@pytest.fixture(scope="module")
def videos(tmp_path_factory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("videos")
    return {
        name: write_indexed_video(folder / name, NUM_FRAMES, codec, **options)
        for name, (codec, options, *_) in FILES.items()
    }


def require(backend: str) -> str:
    try:
        return usable_backend(backend)
    except ImportError as error:
        pytest.skip(str(error))


def full_decode(path: Path) -> np.ndarray:
    with av.open(str(path)) as container:
        return np.stack([frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)])


@pytest.mark.parametrize("name", FILES)
def test_files_are_what_the_table_says(videos, name):
    with av.open(str(videos[name])) as container:
        packets = [packet for packet in container.demux(video=0) if packet.size]
    assert len(packets) == NUM_FRAMES
    key_frames, reordered = sum(packet.is_keyframe for packet in packets), any(p.pts != p.dts for p in packets)
    assert (key_frames, reordered) == FILES[name][2:4]


@pytest.mark.parametrize(("backend", "name"), BACKEND_FILES)
def test_all_frames(videos, backend, name):
    seen = []
    frames = read_frames(videos[name], lambda info: seen.append(info) or range(info.num_frames), require(backend))
    assert {(info.num_frames, info.fps) for info in seen} == {(NUM_FRAMES, 25.0)}
    assert frames.dtype == torch.uint8
    assert frame_indices(frames) == list(range(NUM_FRAMES))
    # The others have an FFmpeg of their own, whose colour conversion may round in another way.
    difference = frames.numpy().astype(int) - full_decode(videos[name])
    assert np.abs(difference).max() <= (0 if backend == "pyav" else 2)


@pytest.mark.parametrize(("backend", "name"), BACKEND_FILES)
def test_each_frame_alone(videos, backend, name):
    require(backend)
    read = [frame_indices(read_frames(videos[name], [index], backend))[0] for index in range(NUM_FRAMES)]
    assert read == list(range(NUM_FRAMES))


@pytest.mark.parametrize(("backend", "name"), BACKEND_FILES)
@pytest.mark.parametrize("indices", [(59, 0, 31), (7, 7, 7), (30, 12, 30, 59, 59, 11)])
def test_unsorted_and_repeated_indices(videos, backend, name, indices):
    assert frame_indices(read_frames(videos[name], indices, require(backend))) == list(indices)


@pytest.mark.parametrize("name", FILES)
def test_pyav_seeks_where_packets_tell_the_frames(videos, name, monkeypatch):
    """Otherwise the fast path could be lost without any other test noticing."""
    confirmed, seek_and_decode = [], video_decoding._seek_and_decode

    def spy(*arguments):
        frames = dict(seek_and_decode(*arguments))
        confirmed.append(sorted(frames))
        return frames.items()

    monkeypatch.setattr(video_decoding, "_seek_and_decode", spy)
    read_frames(videos[name], [50, 3], "pyav")
    assert confirmed == ([[3, 50]] if FILES[name][4] else [])


def test_two_frames_of_the_same_time(tmp_path):
    path = tmp_path / "repeated.mkv"
    with av.open(str(path), "w") as container:
        stream = container.add_stream("mjpeg", rate=25)
        stream.height, stream.width, stream.pix_fmt = 96, 128, "yuvj420p"
        for frame, time in zip(indexed_frames(6), (0, 1, 2, 2, 4, 5)):
            for packet in stream.encode(av.VideoFrame.from_ndarray(frame, format="rgb24")):
                packet.pts = packet.dts = time
                container.mux(packet)
    assert [frame_indices(read_frames(path, [index]))[0] for index in range(6)] == [0, 1, 2, 3, 4, 5]


@pytest.mark.parametrize("rate", [30, 12, Fraction(30000, 1001)])
@pytest.mark.parametrize("backend", BACKENDS)
def test_frame_rate(tmp_path, backend, rate):
    path = write_indexed_video(tmp_path / "video.mp4", 8, rate=rate)
    seen = []
    read_frames(path, lambda info: seen.append(info) or [0], require(backend))
    assert seen[0].num_frames == 8
    assert seen[0].fps == pytest.approx(float(rate))


@pytest.mark.skipif(not hasattr(av.VideoStream, "set_display_rotation"), reason="this PyAV cannot write it")
@pytest.mark.parametrize("rotation", [90, 180, 270, -90])
@pytest.mark.parametrize("backend", BACKENDS)
def test_rotation_is_applied(tmp_path, backend, rotation):
    path = write_indexed_video(tmp_path / "phone.mp4", 8, rotation=rotation)  # counterclockwise, as in FFmpeg
    upright = read_frames(path, [5, 2], require(backend))
    assert upright.shape == ((2, 96, 128, 3) if rotation == 180 else (2, 128, 96, 3))
    assert frame_indices(torch.rot90(upright, -rotation // 90, dims=(1, 2))) == [5, 2]


@pytest.mark.parametrize("backend", BACKENDS)
def test_bytes_str_and_path_give_the_same(videos, backend):
    path = videos["short_gop.mp4"]
    from_path = read_frames(path, [40, 3], require(backend))
    assert torch.equal(read_frames(str(path), [40, 3], backend), from_path)
    assert torch.equal(read_frames(path.read_bytes(), [40, 3], backend), from_path)


@pytest.mark.parametrize("indices", [np.array([3, 1]), torch.tensor([3, 1]), (3, 1)], ids=["numpy", "torch", "tuple"])
def test_kinds_of_indices(videos, indices):
    assert frame_indices(read_frames(videos["intra.mp4"], indices)) == [3, 1]


@pytest.mark.parametrize("indices", [[-1], [0, 60], [], lambda info: [info.num_frames]])
@pytest.mark.parametrize("backend", BACKENDS)
def test_frames_that_do_not_exist(videos, backend, indices):
    with pytest.raises(VideoDecodeError, match=r"short_gop.mp4 has 60 frames, but frames \["):
        read_frames(videos["short_gop.mp4"], indices, require(backend))


def test_sampling_that_does_not_fit_the_video(videos):
    def refuse(info):
        raise ValueError("too short")

    with pytest.raises(VideoDecodeError, match="short_gop.mp4: too short"):
        read_frames(videos["short_gop.mp4"], refuse)


def test_missing_file(tmp_path):
    with pytest.raises(FileNotFoundError, match="No video file"):
        read_frames(tmp_path / "nowhere.mp4", [0])
    with pytest.raises(FileNotFoundError, match="No video file"):
        read_frames("", [0])


def test_source_of_another_type():
    with pytest.raises(TypeError, match="source must be a path, a URL, bytes or a FrameFolder, not int"):
        read_frames(3, [0])


def damaged_file(videos, folder: Path, damage: str) -> Path:
    path = folder / f"{damage}.mp4"
    content = videos["short_gop.mp4"].read_bytes()
    if damage == "half_then_nothing":
        write_indexed_video(path, NUM_FRAMES, g=12, movflags="faststart")  # the index is in front and stays whole
        content = path.read_bytes()
    path.write_bytes({"empty": b"", "text": b"no video\n" * 200}.get(damage, content[: len(content) // 2]))
    return path


@pytest.mark.parametrize("damage", ["empty", "text", "half", "half_then_nothing"])
@pytest.mark.parametrize("backend", BACKENDS)
def test_damaged_files(videos, tmp_path, backend, damage):
    path = damaged_file(videos, tmp_path, damage)
    with pytest.raises(VideoDecodeError, match=rf"{path} (cannot be decoded: \w+|has \d+ frames)"):
        read_frames(path, [0, NUM_FRAMES - 1], require(backend))


def test_damaged_bytes_are_named_by_their_length():
    with pytest.raises(VideoDecodeError, match="<500 bytes> cannot be decoded"):
        read_frames(b"video" * 100, [0])


def test_half_a_matroska_file_has_the_frames_that_are_left(videos, tmp_path):
    path = tmp_path / "half.mkv"
    content = videos["matroska.mkv"].read_bytes()
    path.write_bytes(content[: len(content) // 2])
    left = frame_indices(read_frames(path, lambda info: range(info.num_frames)))
    assert left == frame_indices(full_decode(path))
    assert left[:12] == list(range(12)) and len(left) < NUM_FRAMES


def test_unknown_backend(videos):
    message = "^backend='ffmpeg' is unknown; choose one of auto, pyav, torchcodec, decord"
    with pytest.raises(ValueError, match=message) as caught:
        read_frames(videos["intra.mp4"], [0], "ffmpeg")
    assert type(caught.value) is ValueError  # not a bad video, of which others take the place


def test_auto_takes_the_first_backend_that_loads(videos, monkeypatch):
    assert usable_backend() == "pyav"
    pytest.importorskip("decord")
    monkeypatch.setitem(sys.modules, "av", None)
    monkeypatch.setitem(sys.modules, "torchcodec.decoders", None)
    assert usable_backend() == "decord"
    assert frame_indices(read_frames(videos["short_gop.mp4"], [33])) == [33]
    with pytest.raises(ImportError, match="No video decoding backend can be loaded: pyav"):
        read_frames(videos["short_gop.mp4"], [33], "pyav")


def test_a_backend_that_is_installed_and_broken_is_passed_over(monkeypatch):
    def broken(name):
        if name == "torchcodec.decoders":
            raise OSError("libnvrtc.so.13: cannot open shared object file\nand much more")
        raise ImportError

    monkeypatch.setattr(importlib, "import_module", broken)
    with pytest.raises(ImportError, match=r"pyav \(ImportError\), torchcodec \(libnvrtc.so.13: cannot [a-z ]+\), d"):
        usable_backend()


@pytest.mark.skipif(not os.path.isdir("/proc/self/fd"), reason="needs /proc")
@pytest.mark.parametrize("backend", BACKENDS)
def test_no_file_stays_open(videos, tmp_path, backend):
    """A container left open in the parent deadlocks the DataLoader's forked workers."""
    path = damaged_file(videos, tmp_path, "half_then_nothing")
    read_frames(videos["short_gop.mp4"], [0], require(backend))  # what the backend itself opens once
    before = len(os.listdir("/proc/self/fd"))
    for name in FILES_FOR_ALL:
        read_frames(videos[name], [40], backend)
        with pytest.raises(VideoDecodeError):
            read_frames(videos[name], [1000], backend)
        with pytest.raises(VideoDecodeError):
            read_frames(path, [59], backend)
    assert len(os.listdir("/proc/self/fd")) == before

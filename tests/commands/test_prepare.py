# Copyright 2026 The videomae_hf authors. Licensed under the Apache License, Version 2.0.
"""`videomae prepare`: every frame is kept, at its time and in its colours; labels, lists and interruptions too."""

import csv
import json
import os
import resource
import signal
import subprocess
import sys
import tarfile
import time
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
from helpers.commands import run as run_command
from helpers.indexed_video import frame_indices, indexed_frames, write_indexed_video
from helpers.shared import REPO, SHARED

from videomae_hf.commands.prepare import Preparation, list_jobs, main, prepare_videos
from videomae_hf.data.preparation.transcoding import TranscodingOptions, find_prepared, transcode_video
from videomae_hf.data.preparation.worker_processes import run_isolated
from videomae_hf.data.sources.folders_and_lists import read_samples
from videomae_hf.data.sources.list_editing import edit_list
from videomae_hf.models.video_decoding import VideoDecodeError, read_frames


def run(*arguments) -> subprocess.CompletedProcess:
    command = [sys.executable, "-m", "videomae_hf.cli", "prepare", *map(str, arguments)]
    return run_command(command, cwd=REPO)


def transcode(source: Path, **options) -> Path:
    target = source.with_name(source.stem + "_prepared.mp4")
    video = transcode_video(source, target, TranscodingOptions(**options), source.name)
    assert find_prepared(source, target, TranscodingOptions(**options), source.name) == video
    return target


def decoded(path: Path) -> tuple[list, list[bool]]:
    """Times in seconds and whether each frame is a key frame, of a full decode."""
    with av.open(str(path)) as container:
        frames = [(float(frame.pts * frame.time_base), frame.key_frame) for frame in container.decode(video=0)]
    return [time for time, _ in frames], [is_key for _, is_key in frames]


def all_frames(path: Path) -> np.ndarray:
    return read_frames(path, lambda info: range(info.num_frames)).numpy()


def write_frames(path: Path, frames: np.ndarray, timestamps: list[int] | None = None, codec="libx264", **attributes):
    """`timestamps` in milliseconds; `attributes` are those of the stream."""
    with av.open(str(path), "w") as container:
        stream = container.add_stream(codec, rate=25)
        stream.height, stream.width, stream.pix_fmt = *frames.shape[1:3], attributes.pop("pix_fmt", "yuv420p")
        stream.options = attributes.pop("options", {})
        for name, value in attributes.items():
            setattr(stream.codec_context, name, value)
        if timestamps:
            stream.codec_context.time_base = Fraction(1, 1000)
        for index, image in enumerate(frames):
            frame = av.VideoFrame.from_ndarray(image, format="rgb24")
            if "color_range" in attributes:
                frame = frame.reformat(format=stream.pix_fmt, dst_color_range="JPEG")
            if timestamps:
                frame.pts, frame.time_base = timestamps[index], Fraction(1, 1000)
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
    return path


# ------------------------------------------------------------------------------------------------------- one video


@pytest.mark.parametrize(
    "name, options",
    [
        ("h264.mp4", {"g": 30, "bf": 3}),
        ("xvid.avi", {"codec": "mpeg4", "bf": 2}),
        ("vp9.webm", {"codec": "libvpx-vp9", "deadline": "realtime"}),
        ("mpeg2.ts", {"codec": "mpeg2video", "bf": 2}),
        ("raw.h264", {"bf": 2}),
        ("hevc.mkv", {"codec": "libx265", "x265-params": "log-level=none"}),
    ],
)
def test_every_frame_is_kept(tmp_path, name, options):
    source = write_indexed_video(tmp_path / name, 40, **options)
    target = transcode(source)
    assert frame_indices(all_frames(target)) == list(range(40))
    times, keys = decoded(target)
    assert np.allclose(times, np.arange(40) / 25, atol=1e-3)
    assert [index for index, is_key in enumerate(keys) if is_key] == [0, 12, 24, 36]
    # Clips from the middle, as training takes them.
    assert frame_indices(read_frames(target, [29, 5, 17, 5])) == [29, 5, 17, 5]


def test_b_frames_refer_to_no_other_frame(tmp_path):
    """A reader may skip three of four frames."""
    target = transcode(write_indexed_video(tmp_path / "a.mp4", 40))
    with av.open(str(target)) as container:
        container.streams.video[0].codec_context.skip_frame = "NONREF"
        kept = frame_indices([frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)])
    assert kept == [0, 4, 8, 11, 12, 16, 20, 23, 24, 28, 32, 35, 36, 39]


@pytest.mark.parametrize("rotation, size", [(90, (128, 96)), (180, (96, 128)), (270, (128, 96))])
def test_rotation_is_baked_in(tmp_path, rotation, size):
    source = write_indexed_video(tmp_path / "a.mp4", 5, rotation=rotation)
    target = transcode(source)
    before, after = all_frames(source), all_frames(target)
    assert before.shape == after.shape == (5, *size, 3)
    assert np.abs(before.astype(int) - after).mean() < 3
    with av.open(str(target)) as container:
        assert next(container.decode(video=0)).rotation == 0


def test_variable_rate_is_kept(tmp_path):
    timestamps = [0, 33, 67, 100, 400, 410, 420, 1500, 1533, 1600]
    source = write_frames(tmp_path / "a.mkv", indexed_frames(10), timestamps)
    target = transcode(source)
    assert frame_indices(all_frames(target)) == list(range(10))
    assert decoded(target)[0] == pytest.approx([milliseconds / 1000 for milliseconds in timestamps], abs=1e-4)


def test_max_fps(tmp_path):
    fast = write_indexed_video(tmp_path / "fast.mp4", 60, rate=60)
    target = transcode(fast, max_fps=30)
    assert frame_indices(all_frames(target)) == list(range(0, 60, 2))
    assert decoded(target)[0][1] == pytest.approx(1 / 30)
    # Rounded to milliseconds, some frames come a little early; none is lost.
    rounded = write_frames(tmp_path / "a.mkv", indexed_frames(30), [round(i * 1000 / 30) for i in range(30)])
    assert frame_indices(all_frames(transcode(rounded, max_fps=30))) == list(range(30))


@pytest.mark.parametrize(
    "width, height, aspect, short_side, expected",
    [
        (128, 96, None, 256, (96, 128)),  # never larger
        (128, 96, None, 48, (48, 64)),
        (96, 144, None, 48, (72, 48)),
        (128, 96, Fraction(3, 2), 96, (96, 192)),  # square pixels, and no line is lost
        (128, 96, Fraction(1, 2), 256, (192, 128)),
        (128, 96, Fraction(1000), 48, (48, 64)),  # a broken header
    ],
)
def test_size(tmp_path, width, height, aspect, short_side, expected):
    attributes = {} if aspect is None else {"sample_aspect_ratio": aspect}
    source = write_frames(tmp_path / "a.mkv", indexed_frames(3, height, width), **attributes)
    frames = all_frames(transcode(source, short_side=short_side))
    assert frames.shape == (3, *expected, 3)
    assert frame_indices(frames) == [0, 1, 2]


def test_size_that_changes_on_the_way(tmp_path):
    large, small = tmp_path / "large.h264", tmp_path / "small.h264"
    write_frames(large, indexed_frames(5, 96, 128))
    write_frames(small, indexed_frames(5, 48, 64))
    (tmp_path / "both.h264").write_bytes(large.read_bytes() + small.read_bytes())
    frames = all_frames(transcode(tmp_path / "both.h264"))
    assert frames.shape == (10, 96, 128, 3)
    assert frame_indices(frames) == [0, 1, 2, 3, 4, 0, 1, 2, 3, 4]


def test_odd_sizes_and_four_pixels(tmp_path):
    odd = write_frames(tmp_path / "odd.mkv", indexed_frames(3, 99, 132)[:, :97, :131], codec="ffv1", pix_fmt="yuv444p")
    assert all_frames(transcode(odd)).shape == (3, 96, 130, 3)
    small = write_frames(tmp_path / "small.mkv", indexed_frames(3, 3, 4)[:, :1, :1], codec="ffv1", pix_fmt="yuv444p")
    assert all_frames(transcode(small)).shape == (3, 2, 2, 3)


@pytest.mark.parametrize(
    "codec, pix_fmt, attributes",
    [
        ("libx264", "yuvj420p", {"color_range": 2}),
        ("libx264", "yuv420p", {"colorspace": 1}),
        ("libx264", "yuv444p", {}),
        ("libx265", "yuv420p10le", {"options": {"x265-params": "log-level=none"}}),
        ("libx264rgb", "rgb24", {}),
        ("ffv1", "gray", {}),
        ("ffv1", "bgra", {}),
    ],
)
def test_colours_stay(tmp_path, codec, pix_fmt, attributes):
    """Large fields of colours, so that neither chroma sampling nor compression matters."""
    levels = np.array([16, 96, 160, 235], dtype=np.uint8)
    colors = np.stack(np.meshgrid(levels, levels, levels), axis=-1).reshape(8, 8, 3)
    image = colors.repeat(16, axis=0).repeat(16, axis=1)[None].repeat(3, axis=0)  # (3, 128, 128, 3)
    source = write_frames(tmp_path / "a.mkv", image, codec=codec, pix_fmt=pix_fmt, **attributes)
    before, after = all_frames(source).astype(int), all_frames(transcode(source, crf=1)).astype(int)
    inside = np.s_[:, 4::16, 4::16]  # away from the edges of the fields
    assert np.abs(before[inside] - after[inside]).mean() < 1.5
    assert np.abs((before[inside] - after[inside]).mean()) < 1.2


def test_interlaced_frames_are_deinterlaced(tmp_path):
    """A bar that moves from field to field: combed before, and not after; all frames, in order, in their colours."""
    frames = np.full((12, 96, 128, 3), 50, dtype=np.uint8)
    for index in range(12):
        frames[index, 0::2, 8 * index : 8 * index + 20] = 200
        frames[index, 1::2, 8 * index + 4 : 8 * index + 24] = 200
    options = {"options": {"flags": "+ildct+ilme"}, "colorspace": 1}
    source = write_frames(tmp_path / "a.ts", frames, codec="mpeg2video", bit_rate=20_000_000, **options)
    with av.open(str(source)) as container:
        assert all(frame.interlaced_frame for frame in container.decode(video=0))

    def comb(video: np.ndarray) -> float:
        return float(np.abs(np.diff(video[..., 1].astype(int), axis=1)).mean())

    before, after = all_frames(source), all_frames(transcode(source, crf=1))
    assert len(after) == 12
    assert comb(before) > 8 > 3 > comb(after)
    centers = [(frame[48, :, 1] > 125).nonzero()[0].mean() for frame in after]
    assert centers == pytest.approx([8 * index + 13.5 for index in range(12)], abs=1)  # of the odd lines
    assert np.abs(before[0, :, 120:].astype(int) - after[0, :, 120:]).mean() < 2


def test_what_cannot_be_decoded_leaves_nothing(tmp_path):
    whole = write_indexed_video(tmp_path / "whole.mp4", 40, g=5)
    damaged = bytearray(whole.read_bytes())
    damaged[len(damaged) // 3 : len(damaged) // 2] = bytes(len(damaged) // 2 - len(damaged) // 3)
    for name, content in {"empty.mp4": b"", "text.mp4": b"no video" * 99, "damaged.mp4": damaged}.items():
        (tmp_path / name).write_bytes(content)
        with pytest.raises(VideoDecodeError, match=name):
            transcode(tmp_path / name)
    with pytest.raises(FileNotFoundError, match="missing.mp4"):
        transcode(tmp_path / "missing.mp4")
    names = sorted(path.name for path in tmp_path.iterdir())
    assert names == ["damaged.mp4", "empty.mp4", "text.mp4", "whole.mp4"]


@pytest.mark.parametrize(
    "options, message",
    [
        ({"short_side": 255}, "short_side=255"),
        ({"short_side": 8}, "short_side=8"),
        ({"keyframe_interval": 0}, "keyframe_interval=0"),
        ({"crf": 52}, "crf=52"),
        ({"max_fps": 0}, "max_fps=0"),
        ({"max_fps": float("nan")}, "max_fps=nan"),
    ],
)
def test_options_out_of_range(options, message):
    with pytest.raises(ValueError, match=message):
        TranscodingOptions(**options)


AWKWARD = SHARED / "data" / "awkward"


@pytest.mark.slow
@pytest.mark.skipif(not AWKWARD.is_dir(), reason="the problem files are not here")
def test_awkward_files(tmp_path):
    """All frames of what can be decoded, turned as it should be; the others are listed."""
    with pytest.raises(ValueError, match="9 of 55 videos failed"):
        main([str(AWKWARD), str(tmp_path / "new"), "--workers", "2"])
    failed = {Path(row["path"]).name for row in csv.DictReader((tmp_path / "new" / "prepare_failed.csv").open())}
    for row in csv.DictReader((AWKWARD / "EXPECTED.tsv").open(), delimiter="\t"):
        assert (row["file"] in failed) == (row["verdict"] != "decodes")
        if row["file"] not in failed:
            with av.open(str(tmp_path / "new" / Path(row["file"]).with_suffix(".mp4"))) as container:
                stream = container.streams.video[0]
                assert stream.frames == int(row["frames"])
                assert min(stream.width, stream.height) <= 256
                assert (stream.width < stream.height) == (int(row["width"]) < int(row["height"]))


# -------------------------------------------------------------------------------------------------- lists of videos


@pytest.fixture(scope="module")
def videos(tmp_path_factory) -> Path:
    """A folder of class folders; the number of frames tells the videos apart."""
    folder = tmp_path_factory.mktemp("videos")
    for count, name in enumerate(("hug/a.avi", "hug/a.mp4", "hug/deep/b c.mp4", "kick/d.mkv"), start=10):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        write_indexed_video(folder / name, count, codec="mpeg4" if name.endswith("avi") else "libx264")
    return folder


def frame_counts(samples) -> list[int]:
    return [len(all_frames(sample.path)) for sample in samples]


def test_class_folders_stay(videos, tmp_path, capsys):
    main([str(videos), str(tmp_path / "new"), "--workers", "2"])
    samples, class_names = read_samples(tmp_path / "new")
    names = [str(Path(sample.path).relative_to(tmp_path / "new")) for sample in samples]
    # a.avi and a.mp4 would both be a.mp4
    assert names == ["hug/a.avi.mp4", "hug/a.mp4.mp4", "hug/deep/b c.mp4", "kick/d.mp4"]
    assert frame_counts(samples) == [10, 11, 12, 13]
    assert class_names == ["hug", "kick"] and [sample.label for sample in samples] == [0, 0, 0, 1]
    assert not (tmp_path / "new" / "prepare_failed.csv").exists()
    report = capsys.readouterr().out
    assert report.startswith("4 videos, 0.00 hours: ") and "clips/s" in report


LISTS = {
    "official.txt": (
        "hug/a.mp4 1\nkick/d.mkv 0\n",
        "videos/hug/a.mp4 1\nvideos/kick/d.mp4 0\n",
    ),
    "spaces.txt": (
        "hug/deep/b c.mp4 hug\n./kick/d.mkv   kick\n",
        "videos/hug/deep/b c.mp4 hug\nvideos/kick/d.mp4   kick\n",
    ),
    "quoted.txt": (
        '"hug/deep/b c.mp4" 1\nhug/a.mp4 0\n',
        '"videos/hug/deep/b c.mp4" 1\nvideos/hug/a.mp4 0\n',
    ),
    "header.csv": (
        "Path,label,fold\nhug/a.mp4,hug,1\n\nkick/d.mkv,kick,2\n",
        "Path,label,fold\nvideos/hug/a.mp4,hug,1\n\nvideos/kick/d.mp4,kick,2\n",
    ),
    "table.tsv": (
        "path\tlabel\nhug/a.mp4\thug/a.mp4\nkick/d.mkv\tx\n",
        "path\tlabel\nvideos/hug/a.mp4\thug/a.mp4\nvideos/kick/d.mp4\tx\n",
    ),
    "lines.jsonl": (
        '{"label": "é", "path": "hug/a.mp4"}\n{"label": "x", "path": "kick\\/d.mkv"}\n',
        '{"label": "é", "path": "videos/hug/a.mp4"}\n{"label": "x", "path": "videos/kick/d.mp4"}\n',
    ),
    "bare.txt": (
        "hug/a 1\nhug/new 0\n",
        "videos/hug/a.mp4 1\nvideos/hug/new.mp4 0\n",
    ),
    "twice.txt": (
        "kick/d.mkv 1\nkick/d.mkv 0\n",
        "videos/kick/d.mp4 1\nvideos/kick/d.mp4 0\n",
    ),
}


@pytest.mark.parametrize("name", LISTS)
def test_lists_keep_their_columns(videos, name):
    text, expected = LISTS[name]
    source = videos / name
    source.write_text(text, encoding="utf-8")
    try:
        samples, listed, jobs = list_jobs(source, None)
        targets = {job.source: job.target for job in jobs}
        assert edit_list(source, listed, lambda sample: targets[os.path.abspath(sample.path)]) == expected
        if len(jobs) == len(samples):
            first = samples[0].path
            left_out = edit_list(
                source, listed, lambda s: None if s.path == first else targets[os.path.abspath(s.path)]
            )
            lines = [line for line in expected.splitlines() if line]
            del lines[len(lines) - len(samples)]
            assert [line for line in left_out.splitlines() if line] == lines
    finally:
        source.unlink()


def test_list_with_paths_elsewhere(videos, tmp_path):
    """Absolute paths, below the root or not: their common folder is left out of the new names."""
    elsewhere = tmp_path / "elsewhere" / "e.mp4"
    elsewhere.parent.mkdir()
    write_indexed_video(elsewhere, 14)
    source = tmp_path / "lists" / "train.csv"
    source.parent.mkdir()
    source.write_text(f"{elsewhere},kick\n{videos / 'kick' / 'd.mkv'},kick\nhug/a.mp4,hug\nhug/gone.mp4,hug\n")
    with pytest.raises(ValueError, match="1 of 4 videos failed"):
        main([str(source), str(tmp_path / "new"), "--root", str(videos), "--workers", "1"])
    samples, class_names = read_samples(tmp_path / "new" / "train.csv")
    assert frame_counts(samples) == [14, 13, 11]
    assert [class_names[sample.label] for sample in samples] == ["kick", "kick", "hug"]
    assert all(Path(sample.path).is_relative_to(tmp_path / "new" / "videos") for sample in samples)
    failed = list(csv.DictReader((tmp_path / "new" / "prepare_failed.csv").open()))
    assert failed == [
        {"path": str(videos / "hug" / "gone.mp4"), "reason": f"There is no video file {videos / 'hug/gone.mp4'}."}
    ]


def test_wrong_requests(videos, tmp_path):
    def error(*arguments) -> str:
        with pytest.raises((ValueError, OSError)) as caught:
            main([str(argument) for argument in arguments])
        return str(caught.value)

    assert "There is no folder or list of videos" in error(tmp_path / "missing", tmp_path / "new")
    assert "lies within SRC" in error(videos, videos)
    assert "lies within SRC" in error(videos, videos / "new")
    assert "lies within DST" in error(videos, videos.parent)
    assert "--shards 0" in error(videos, tmp_path / "new", "--shards", "0")
    (tmp_path / "paths.txt").write_text(f"{videos / 'hug' / 'a.mp4'}\n")
    assert "label" in error(tmp_path / "paths.txt", tmp_path / "new", "--shards", "2")
    (tmp_path / "urls.txt").write_text("http://localhost/a.mp4 1\n")
    assert "is not a video file" in error(tmp_path / "urls.txt", tmp_path / "new")
    # Two lists that would need a.mp4.mp4 both.
    for name in ("a.avi", "a.mp4", "a.avi.mp4"):
        (tmp_path / "clash").mkdir(exist_ok=True)
        (tmp_path / "clash" / name).write_bytes(b"")
    assert "rename one" in error(tmp_path / "clash", tmp_path / "new")
    assert not (tmp_path / "new").exists()


# ------------------------------------------------------------------------------------------------ interruptions


def test_resumes_after_a_kill(tmp_path):
    """Killed half way: whole files only; the next run writes the rest and leaves those alone."""
    source, target = tmp_path / "raw", tmp_path / "new"
    source.mkdir()
    for index in range(24):
        write_indexed_video(source / f"{index:02d}.mp4", 200, preset="ultrafast")
    arguments = [str(source), str(target), "--workers", "2"]
    process = subprocess.Popen([sys.executable, "-m", "videomae_hf.cli", "prepare", *arguments], cwd=REPO)
    while len(list(target.glob("*.mp4"))) < 4:
        assert process.poll() is None
        time.sleep(0.005)
    process.kill()
    process.wait()
    time.sleep(0.5)  # its processes notice and end
    before = {path.name: path.stat().st_mtime_ns for path in target.glob("*.mp4")}
    assert 4 <= len(before) < 24
    main(arguments)
    after = {path.name: path.stat().st_mtime_ns for path in target.glob("*.mp4")}
    assert len(after) == 24 and before.items() <= after.items()
    assert {len(decoded(path)[0]) for path in target.glob("*.mp4")} == {200}
    assert sorted(path.name for path in target.iterdir() if path.suffix != ".mp4") == ["prepare.json"]


def test_changed_sources_and_options(tmp_path):
    source, target = tmp_path / "raw", tmp_path / "new"
    source.mkdir()
    write_indexed_video(source / "a.mp4", 10)
    write_indexed_video(source / "b.mp4", 10)
    main([str(source), str(target), "--workers", "1"])
    kept = (target / "a.mp4").stat().st_mtime_ns
    write_indexed_video(source / "b.mp4", 20)
    main([str(source), str(target), "--workers", "1"])
    assert len(decoded(target / "b.mp4")[0]) == 20
    assert (target / "a.mp4").stat().st_mtime_ns == kept
    with pytest.raises(ValueError, match="short_side=256, not 128, crf=23, not 30"):
        main([str(source), str(target), "--short_side", "128", "--crf", "30"])
    source.rename(tmp_path / "other")
    with pytest.raises(ValueError, match="source="):
        main([str(tmp_path / "other"), str(target)])


def test_failures_are_listed(tmp_path):
    source, target = tmp_path / "raw", tmp_path / "new"
    (source / "hug").mkdir(parents=True)
    write_indexed_video(source / "hug" / "good.mp4", 10)
    (source / "hug" / "bad.mp4").write_bytes(b"no video" * 99)
    result = run(source, target, "--workers", 2)
    assert result.returncode == 1
    assert f"1 of 2 videos failed: see {target / 'prepare_failed.csv'}." in result.stderr
    assert "Traceback" not in result.stderr and result.stdout.startswith("1 videos")
    rows = list(csv.DictReader((target / "prepare_failed.csv").open()))
    assert [row["path"] for row in rows] == [str(source / "hug" / "bad.mp4")]
    assert "cannot be transcoded: InvalidDataError" in rows[0]["reason"]
    assert [path.name for path in (target / "hug").iterdir()] == ["good.mp4"]
    # Mended, it is written and off the list.
    write_indexed_video(source / "hug" / "bad.mp4", 10)
    main([str(source), str(target), "--workers", "1"])
    assert not (target / "prepare_failed.csv").exists()
    assert sorted(path.name for path in (target / "hug").iterdir()) == ["bad.mp4", "good.mp4"]


def _die_on_three(number: int, alive) -> int:
    if number == 3:
        os.kill(os.getpid(), signal.SIGKILL)
    return number * number


@pytest.mark.parametrize("workers", [1, 3])
def test_a_dying_process_costs_one_job(workers):
    results = {index: (result, problem) for index, result, problem in run_isolated(_die_on_three, [*range(8)], workers)}
    died = None, "the decoder process died (SIGKILL, out of memory?)"
    assert results == {number: died if number == 3 else (number * number, "") for number in range(8)}


class SmallDisk(Preparation):
    """The largest file that a process may write stands for the disk."""

    def __call__(self, job, alive):
        resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, 20_000))
        return super().__call__(job, alive)


def test_a_full_disk_ends_the_run(tmp_path):
    """It is no fault of the video that it could not be written."""
    (tmp_path / "raw").mkdir()
    noise = np.random.default_rng(0).integers(0, 255, (40, 96, 128, 3), dtype=np.uint8)
    write_frames(tmp_path / "raw" / "a.mp4", noise)
    _, _, jobs = list_jobs(tmp_path / "raw", None)
    with pytest.raises(OSError, match="a.mp4 cannot be written: File too large"):
        prepare_videos(jobs, SmallDisk(tmp_path / "new", TranscodingOptions()), workers=1)
    assert list((tmp_path / "new").iterdir()) == []


# -------------------------------------------------------------------------------------------------------- shards


def read_shards(folder: Path) -> dict[str, dict[str, bytes]]:
    """{key: {suffix: content}} in the order of the shards."""
    samples = {}
    for shard in sorted(folder.glob("shard-*.tar")):
        with tarfile.open(shard) as tar:
            for member in tar:
                assert (member.uid, member.gid, member.mtime, member.uname) == (0, 0, 0, "")
                key, suffix = member.name.split(".")
                samples.setdefault(key, {})[suffix] = tar.extractfile(member).read()
    return samples


def test_shards(videos, tmp_path):
    target = tmp_path / "new"
    arguments = [str(videos), str(target), "--shards", "3", "--workers", "2"]
    main(arguments)
    assert json.loads((target / "index.json").read_text()) == {
        "class_names": ["hug", "kick"],
        "samples": 4,
        "shards": [{"file": "shard-000000.tar", "samples": 3}, {"file": "shard-000001.tar", "samples": 1}],
    }
    samples = read_shards(target)
    assert list(samples) == ["000000000", "000000001", "000000002", "000000003"]
    found = {}
    for sample in samples.values():
        details = json.loads(sample["json"])
        assert len(read_frames(sample["mp4"], lambda info: range(info.num_frames))) == details["frames"]
        assert sample["mp4"] == (target / details["path"]).read_bytes()
        found[details["path"]] = sample["cls"], details["label"], details["frames"], details["seconds"]
    assert found == {
        "hug/a.avi.mp4": (b"0", "hug", 10, 0.4),
        "hug/a.mp4.mp4": (b"0", "hug", 11, 0.44),
        "hug/deep/b c.mp4": (b"0", "hug", 12, 0.48),
        "kick/d.mp4": (b"1", "kick", 13, 0.52),
    }
    assert list(found) != sorted(found)  # shuffled
    # Again: nothing is written anew; with one shard lost or another size, the same samples in the same order.
    first, second = target / "shard-000000.tar", target / "shard-000001.tar"
    kept, content = first.stat().st_mtime_ns, second.read_bytes()
    second.unlink()
    main(arguments)
    assert first.stat().st_mtime_ns == kept and second.read_bytes() == content
    main([*arguments[:3], "9"])
    assert not second.exists() and read_shards(target) == samples


def test_unlabelled_shards(videos, tmp_path):
    main([str(videos), str(tmp_path / "new"), "--shards", "9", "--workers", "1", "--unlabelled"])
    assert json.loads((tmp_path / "new" / "index.json").read_text())["class_names"] == []
    for sample in read_shards(tmp_path / "new").values():
        assert sample.keys() == {"mp4", "json"} and "label" not in json.loads(sample["json"])


def test_datasets_reads_shards(videos, tmp_path, monkeypatch):
    datasets = pytest.importorskip("datasets")
    monkeypatch.setattr(datasets.config, "TORCHCODEC_AVAILABLE", False)
    main([str(videos), str(tmp_path / "new"), "--shards", "2", "--workers", "2"])
    stream = datasets.load_dataset(
        "webdataset", data_files=str(tmp_path / "new" / "shard-*.tar"), split="train", streaming=True
    )
    rows = list(stream.cast_column("mp4", datasets.Video(decode=False)))
    assert sorted((row["json"]["path"], row["cls"]) for row in rows) == [
        ("hug/a.avi.mp4", 0), ("hug/a.mp4.mp4", 0), ("hug/deep/b c.mp4", 0), ("kick/d.mp4", 1),
    ]  # fmt: skip
    for row in rows:
        assert frame_indices(read_frames(row["mp4"]["bytes"], [0, 9])) == [0, 9]

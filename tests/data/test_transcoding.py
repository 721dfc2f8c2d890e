# Copyright 2026 The videomae_hf authors. Licensed under the Apache License, Version 2.0.
"""Transcoding: every frame is kept, at its time and in its colours."""

from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
from helpers.encoded_videos import all_frames, decoded, write_frames
from helpers.indexed_video import frame_indices, indexed_frames, write_indexed_video

from videomae_hf.data.preparation.transcoding import TranscodingOptions, find_prepared, transcode_video
from videomae_hf.models.video_decoding import VideoDecodeError, read_frames


def transcode(source: Path, **options) -> Path:
    target = source.with_name(source.stem + "_prepared.mp4")
    video = transcode_video(source, target, TranscodingOptions(**options), source.name)
    assert find_prepared(source, target, TranscodingOptions(**options), source.name) == video
    return target


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

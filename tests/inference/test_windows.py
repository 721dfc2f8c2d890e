"""Sliding windows: each is what the processor makes of that part of the video, and each frame is decoded once."""

import threading
import weakref

import numpy as np
import pytest
import torch
from helpers.encoded_videos import write_encoded
from helpers.indexed_video import frame_index, indexed_frames, write_indexed_video
from PIL import Image

from videomae_hf import FrameFolder, VideoDecodeError, VideoMAEV2ImageProcessor, VideoSegment
from videomae_hf.inference import frame_stream, windows
from videomae_hf.inference.frame_stream import FrameReading, StreamedFrame, stream_frames
from videomae_hf.inference.inputs import input_of
from videomae_hf.inference.windows import Windows, sliding_windows, window_clips


SMALL = {"num_frames": 4, "size": {"shortest_edge": 32}, "crop_size": {"height": 32, "width": 32}}
READING = FrameReading()


@pytest.fixture(scope="module")
def video(tmp_path_factory):
    """70 frames at 25 frames per second: 2.8 seconds."""
    return str(write_indexed_video(tmp_path_factory.mktemp("video") / "clip.mp4", 70, g=12))


def processor_of(**options) -> VideoMAEV2ImageProcessor:
    return VideoMAEV2ImageProcessor(**{**SMALL, "sampling_rate": 2, **options})


def streamed(times: list[float | None]) -> list[StreamedFrame]:
    return [StreamedFrame(index, time, torch.zeros(3, 1, 1, dtype=torch.uint8)) for index, time in enumerate(times)]


def bounds(times: list[float | None], *spans) -> list[tuple[float, float]]:
    return [(round(one.start, 3), round(one.end, 3)) for one in sliding_windows(streamed(times), Windows(*spans))]


@pytest.mark.parametrize("views", [(1, 1), (2, 3)], ids=str)
@pytest.mark.parametrize(
    ("options", "spans"),
    [
        ({}, (None, None)),  # on the grid of the sampling rate
        ({}, ("16f", "6f")),
        ({}, ("15f", "7f")),  # off the grid
        ({"sampling_rate": 2.5}, ("20f", "5f")),
        ({"official_sampling": True}, ("12f", "12f")),
        ({"short_video": "loop"}, ("12f", "8f")),
        ({}, ("100f", "50f")),  # longer than the video
        ({}, ("1", "0.4")),
        ({"fps": 5}, (None, None)),
        ({"fps": 5}, ("0.6s", "1.2")),  # with gaps between windows
        ({"frame_sampling": "uniform"}, ("0.7", None)),
    ],
    ids=str,
)
def test_a_window_is_what_the_processor_makes_of_that_part(video, options, spans, views):
    processor = processor_of(**options)
    where = Windows.of(processor, *spans)
    found = list(window_clips(input_of(video), processor, where, *views))
    for one in found:
        if where.unit == "s":
            last = one.end > 2.79  # the last frame begins before the end of the video, where a segment may not end
            segment = VideoSegment(video, start=one.start, end=None if last else one.end)
        else:
            start = round(one.start * 25)
            segment = VideoSegment(video, start_frame=start, end_frame=start + int(where.length))
        expected = processor(segment, num_clips=views[0], num_crops=views[1], return_tensors="pt").pixel_values
        assert torch.equal(one.clips, expected if views == (1, 1) else expected[0])
    assert len(found) >= 1 and found[0].start == 0


def test_where_windows_are():
    at_25 = [index / 25 for index in range(50)]
    assert bounds(at_25, 1, 0.5) == [(0, 1), (0.5, 1.5), (1, 2)]
    assert bounds(at_25, 0.8, 0.8) == [(0, 0.8), (0.8, 1.6), (1.2, 2)]  # the last one ends with the video
    assert bounds(at_25, 25, 25, "f") == [(0, 1), (1, 2)]
    assert bounds(at_25, 20, 20, "f") == [(0, 0.8), (0.8, 1.6), (1.2, 2)]
    assert bounds(at_25, 0.4, 0.8) == [(0, 0.4), (0.8, 1.2), (1.6, 2)]
    assert bounds(at_25, 5, 1) == [(0, 2)]
    assert bounds([None] * 10, 4, 4, "f") == [(0, 4), (4, 8), (6, 10)]  # without timing: frame numbers
    assert bounds([0.0], 1, 1) == [(0, 0.04)]
    assert bounds([], 1, 1) == []


def test_a_gap_in_the_timestamps_is_skipped():
    times = [0.0, 0.5, 1.0, 1e9, 1e9 + 0.5, 1e9 + 1]
    assert bounds(times, 1, 1) == [(0, 1), (1, 2), (1e9, 1e9 + 1), (1e9 + 0.5, 1e9 + 1.5)]
    assert bounds([0.0, 1e9], 1, 1) == [(0, 1), (1e9 - 0.96, 1e9 + 0.04)]


def test_windows_in_seconds_need_timing():
    with pytest.raises(VideoDecodeError, match="give window and stride in frames, such as 64f"):
        list(sliding_windows(streamed([None] * 4), Windows(1, 1)))


@pytest.mark.parametrize(
    "where", [Windows(1, 0.04), Windows(20, 1, "f"), Windows(8, 8, "f"), Windows(8, 40, "f")], ids=str
)
def test_only_the_frames_of_one_window_are_kept(where):
    alive = weakref.WeakSet()

    def frames():
        for index in range(300):
            frame = StreamedFrame(index, index / 25, torch.zeros(3, 1, 1, dtype=torch.uint8))
            alive.add(frame.pixels)
            yield frame

    most = 0
    for _ in sliding_windows(frames(), where):
        most = max(most, len(alive))
    assert most <= (25 if where.unit == "s" else where.length) + 3


def test_a_window_that_does_not_fit_into_memory_is_refused(monkeypatch):
    monkeypatch.setattr(windows, "_KEPT_BYTES", 30)
    with pytest.raises(VideoDecodeError, match="shorten the window"):
        list(sliding_windows(streamed([index / 25 for index in range(50)]), Windows(1, 1)))


def test_each_frame_is_decoded_once(video, monkeypatch):
    """However far windows overlap; frames that no clip has are decoded, but not converted."""
    decoded, converted = [], []
    to_rgb = frame_stream.rgb_converter
    seconds = frame_stream._Clock.seconds
    monkeypatch.setattr(frame_stream._Clock, "seconds", lambda self, pts: decoded.append(pts) or seconds(self, pts))
    monkeypatch.setattr(
        frame_stream,
        "rgb_converter",
        lambda *args: lambda stream, frame: converted.append(frame.pts) or to_rgb(*args)(stream, frame),
    )
    processor = processor_of()
    assert len(list(window_clips(input_of(video), processor, Windows(8, 2, "f")))) == 32
    assert (len(decoded), len(converted)) == (70, 35)
    assert len(list(window_clips(input_of(video), processor, Windows(0.5, 0.04)))) == 58
    assert (len(decoded), len(converted)) == (140, 105)


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ((None, None), Windows(8, 4, "f")),
        (("64f", None), Windows(64, 32, "f")),
        ((2.5, None), Windows(2.5, 1.25, "s")),
        (("3s", " .5 "), Windows(3, 0.5, "s")),
        ((None, "3f"), Windows(8, 3, "f")),
    ],
    ids=str,
)
def test_spans(given, expected):
    assert Windows.of(processor_of(), *given) == expected


def test_the_span_of_a_clip_is_the_default():
    assert Windows.of(processor_of(fps=8)) == Windows(0.5, 0.25, "s")
    with pytest.raises(ValueError, match="no window follows from it; give window"):
        Windows.of(processor_of(frame_sampling="uniform"))


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (("2 minutes", None), "window='2 minutes' must be a number of seconds, as 2.5, or of frames, as 64f"),
        (("0", None), "window=0 must be positive"),
        (("-1", None), "window='-1' must be"),
        (("nan", None), "window='nan' must be"),
        (("2.5f", None), "window=2.5 frames must be a whole number"),
        ((None, "1"), "stride=1 and the window of 8f, the span of a clip of this model, differ in their unit"),
        (("2", "8f"), "stride=8f and the window of 2s differ in their unit"),
    ],
    ids=str,
)
def test_wrong_spans_are_refused(given, message):
    with pytest.raises(ValueError, match=message):
        Windows.of(processor_of(), *given)


# ------------------------------------------------------------------------------------------------------------- streams


def indices(source, reading: FrameReading = READING) -> list[int]:
    return [frame_index(frame.pixels.permute(1, 2, 0)) for frame in stream_frames(source, reading)]


def test_every_kind_of_video_is_streamed(video, tmp_path):
    frames = indexed_frames(12, 48, 64)
    np.save(tmp_path / "array.npy", frames)
    (tmp_path / "images").mkdir()
    for index, frame in enumerate(frames):
        Image.fromarray(frame).save(tmp_path / "images" / f"{index}.png")
    assert indices(video) == list(range(70))
    assert indices(open(video, "rb").read()) == list(range(70))
    assert indices(video, FrameReading(every=3)) == list(range(0, 70, 3))
    assert indices(str(tmp_path / "array.npy"), FrameReading(every=5)) == [0, 5, 10]
    assert indices(FrameFolder(str(tmp_path / "images"))) == list(range(12))
    assert indices(VideoSegment(video, start=0.4, end=0.6)) == [10, 11, 12, 13, 14]
    assert indices(VideoSegment(VideoSegment(video, start_frame=20), start_frame=5, end_frame=8)) == [25, 26, 27]
    times = [frame.seconds for frame in stream_frames(VideoSegment(video, start=0.4, end=0.6), READING)]
    assert times == pytest.approx([0, 0.04, 0.08, 0.12, 0.16])


def test_a_transport_stream_is_decoded_once_too(tmp_path):
    """Its frames are not known before they are decoded, so that `read_frames` decodes it twice."""
    path = write_indexed_video(tmp_path / "clip.ts", 30)
    found = list(stream_frames(str(path), READING))
    assert [frame_index(frame.pixels.permute(1, 2, 0)) for frame in found] == list(range(30))
    assert found[-1].seconds == pytest.approx(29 / 25, abs=1e-3)


class Stream:
    time_base, average_rate = 0.001, 25


def test_time_never_runs_backwards():
    clock = frame_stream._Clock(Stream)
    # Joined recordings start over, and damaged files lack timestamps.
    times = [clock.seconds(pts) for pts in (500, 540, 580, 0, 40, None, 120, 120, 160)]
    assert times == pytest.approx([0, 0.04, 0.08, 0.12, 0.16, 0.2, 0.24, 0.28, 0.32])


def test_what_cannot_be_read_is_named(video, tmp_path):
    with pytest.raises(FileNotFoundError, match="No video file .*none.mp4"):
        indices(str(tmp_path / "none.mp4"))
    (tmp_path / "text.mp4").write_text("#EXTM3U\nhttp://127.0.0.1/x.ts\n")
    with pytest.raises(VideoDecodeError, match="text.mp4 cannot be decoded"):
        indices(str(tmp_path / "text.mp4"))
    with pytest.raises(VideoDecodeError, match="has no decodable frame"):
        indices(VideoSegment(video, start=100))
    with pytest.raises(VideoDecodeError, match="max_pixels=100"):
        indices(video, FrameReading(max_pixels=100))
    sizes = np.concatenate([indexed_frames(2)]), np.concatenate([indexed_frames(2, 48, 64)])
    for number, frames in enumerate(sizes):
        (tmp_path / "images").mkdir(exist_ok=True)
        Image.fromarray(frames[0]).save(tmp_path / "images" / f"{number}.png")
    with pytest.raises(VideoDecodeError, match="its frames differ in shape, 128 x 96 and 64 x 48"):
        indices(FrameFolder(str(tmp_path / "images")))


def test_pixels_are_square_where_the_processor_wants_it(tmp_path):
    def wide(container, stream):
        stream.codec_context.sample_aspect_ratio = 2

    path = write_encoded(tmp_path / "wide.mp4", "libx264", frames=indexed_frames(3, 48, 64), stream_of=wide)
    assert {frame.pixels.shape for frame in stream_frames(str(path), READING)} == {(3, 48, 64)}
    square = FrameReading(square_pixels=True)
    assert {frame.pixels.shape for frame in stream_frames(str(path), square)} == {(3, 48, 128)}


def test_a_camera_shows_the_present():
    """If the model is slow the oldest frames are dropped; errors arrive where the frames are used."""
    read_all = threading.Event()

    def frames():
        yield from range(100)
        read_all.set()

    stream = frame_stream.latest(frames(), limit=8)
    first = next(stream)
    read_all.wait(10)
    rest = list(stream)
    assert first < 100 and len(rest) <= 8 and rest[-1] == 99

    def broken():
        yield 1
        raise OSError("unplugged")

    with pytest.raises(OSError, match="unplugged"):
        list(frame_stream.latest(broken()))


def test_a_camera_is_a_device_of_pyav(monkeypatch):
    monkeypatch.setattr(frame_stream, "_CAMERAS", {"linux": ("lavfi", "testsrc=size=64x48:rate=25:duration={}")})
    found = list(stream_frames(frame_stream.camera_named("camera:1"), READING))
    assert len(found) == 25 and found[0].pixels.shape == (3, 48, 64)
    with pytest.raises(VideoDecodeError, match=r"camera:x cannot be opened \(lavfi, testsrc"):
        list(stream_frames(frame_stream.camera_named("camera:x"), READING))

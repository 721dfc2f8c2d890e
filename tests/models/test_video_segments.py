"""A segment of a video is a video of its own: which frames it has, and how it is sampled."""

import av
import pytest
from helpers.indexed_video import frame_indices, write_indexed_video
from PIL import Image

from videomae_hf import (
    FrameFolder,
    VideoDecodeError,
    VideoInfo,
    VideoMAEV2ImageProcessor,
    VideoSegment,
    read_frames,
)
from videomae_hf.models import video_decoding


RAW = {"do_resize": False, "do_rescale": False, "do_normalize": False, "do_center_crop": False}
UNEVEN = VideoInfo(6, 4.0, [0.0, 0.1, 0.5, 1.0, 1.033, 1.5])  # the last frame is taken to end at 1.8 seconds
AT_25 = VideoInfo(60, 25.0)


@pytest.fixture(scope="module")
def video(tmp_path_factory):
    """60 frames at 25 frames per second, a key frame each 12."""
    return write_indexed_video(tmp_path_factory.mktemp("video") / "clip.mp4", 60, g=12)


def all_frames(source, **options) -> tuple[list[int], VideoInfo]:
    seen = []
    frames = read_frames(source, lambda info: seen.append(info) or range(info.num_frames), **options)
    return frame_indices(frames), seen[-1]


@pytest.mark.parametrize(
    ("bounds", "info", "expected"),
    [
        ({}, AT_25, (0, 60)),
        ({"start": 1}, AT_25, (25, 60)),
        ({"end": 1}, AT_25, (0, 25)),
        ({"start": 0.5, "end": 1.5}, AT_25, (13, 38)),  # 0.5 is between frames 12 (0.48) and 13 (0.52)
        ({"start": 0.52, "end": 0.6}, AT_25, (13, 15)),
        ({"start": 2.39, "end": 9}, AT_25, (59, 60)),  # frame 59 is on display until 2.4
        ({"start": 0.53, "end": 0.54}, AT_25, (13, 14)),  # no frame begins there
        ({"start": 0.1, "end": 1.0}, UNEVEN, (1, 3)),
        ({"start": 0.2, "end": 0.4}, UNEVEN, (1, 2)),
        ({"start": 1.0, "end": 1 + 1 / 30}, UNEVEN, (3, 4)),  # 1.033 is 1.0333 rounded to milliseconds
        ({"start": 1 + 1 / 30}, UNEVEN, (4, 6)),
        ({"start": 1.7}, UNEVEN, (5, 6)),
        ({"start_frame": 2}, UNEVEN, (2, 6)),
        ({"end_frame": 100}, UNEVEN, (0, 6)),
        ({"start_frame": 2, "end_frame": 3}, VideoInfo(9), (2, 3)),
    ],
    ids=str,
)
def test_frame_range(bounds, info, expected):
    assert VideoSegment("video.mp4", **bounds).frame_range(info) == range(*expected)


def test_neighbouring_segments_share_no_frame():
    segments = [VideoSegment("video.mp4", third / 3, (third + 1) / 3) for third in range(7)]
    found = [index for segment in segments for index in segment.frame_range(VideoInfo(70, 30.0))]
    assert found == list(range(70))


def test_the_info_of_a_segment_starts_at_0():
    assert VideoSegment("video.mp4", start_frame=2, end_frame=5).info(UNEVEN) == VideoInfo(
        3, 4.0, pytest.approx([0.0, 0.5, 0.533])
    )
    assert VideoSegment("video.mp4", start=1).info(AT_25) == VideoInfo(35, 25.0)


@pytest.mark.parametrize(
    ("bounds", "message"),
    [
        ({"start": 2.4}, r"clip.mp4 \[start=2.4\]: it has 2.4 seconds, but the segment starts at 2.4 seconds"),
        ({"start": 70, "end": 80}, "it has 2.4 seconds, but the segment starts at 70 seconds"),
        ({"start_frame": 60}, "it has 60 frames, but the segment starts at frame 60"),
    ],
)
def test_segments_after_the_end(video, bounds, message):
    with pytest.raises(VideoDecodeError, match=message):
        read_frames(VideoSegment(video, **bounds), [0])


@pytest.mark.parametrize(
    "bounds",
    [
        {"start": -1}, {"start": 2, "end": 2}, {"start": 2, "end": 1}, {"end": 0}, {"start": float("nan")},
        {"end": float("nan")}, {"start_frame": -1}, {"start_frame": 3, "end_frame": 3}, {"end_frame": 0},
    ],
    ids=str,
)  # fmt: skip
def test_bounds_that_cannot_be(bounds):
    with pytest.raises(ValueError, match="A segment must start at 0 or later and end after its start, not (start|end)"):
        VideoSegment("video.mp4", **bounds)


def test_seconds_and_frames_do_not_mix():
    with pytest.raises(ValueError, match="in seconds or in frames, not in both: start=1, end_frame=9"):
        VideoSegment("video.mp4", start=1, end_frame=9)


@pytest.mark.parametrize("name", ["clip.mp4", "clip.avi"])  # PyAV seeks in the first and decodes the second
def test_frames_of_a_segment(tmp_path, name):
    path = write_indexed_video(tmp_path / name, 60, **({"g": 12} if name == "clip.mp4" else {"codec": "mpeg4"}))
    frames, info = all_frames(VideoSegment(path, 0.5, 1.5))
    assert frames == list(range(13, 38))
    assert (info.num_frames, info.fps) == (25, 25.0)
    if info.timestamps is not None:
        assert info.timestamps == pytest.approx([index / 25 for index in range(25)])
    assert frame_indices(read_frames(VideoSegment(path, start_frame=13), [46, 0, 5, 0])) == [59, 13, 18, 13]


@pytest.mark.parametrize("backend", ["pyav", "decord", "torchcodec"])
def test_backends(video, backend):
    pytest.importorskip({"pyav": "av", "torchcodec": "torchcodec.decoders"}.get(backend, backend))
    assert all_frames(VideoSegment(video, 0.5, 1.5), backend=backend)[0] == list(range(13, 38))


def test_bytes_folders_and_segments_of_segments(video, tmp_path):
    assert all_frames(VideoSegment(video.read_bytes(), end=0.2))[0] == [0, 1, 2, 3, 4]
    assert all_frames(VideoSegment(VideoSegment(video, 0.52, 1.0), start_frame=2, end_frame=4))[0] == [15, 16]
    for number in range(9):
        Image.new("RGB", (8, 6), (number, 0, 0)).save(tmp_path / f"{number}.png")
    frames = read_frames(VideoSegment(FrameFolder(str(tmp_path), fps=2), 1, 3), lambda info: range(info.num_frames))
    assert frames[:, 0, 0, 0].tolist() == [2, 3, 4, 5]
    assert read_frames(VideoSegment(tmp_path, start_frame=7), [1])[0, 0, 0, 0] == 8
    with pytest.raises(VideoDecodeError, match="frame rate is unknown; give the segment as start_frame and end_frame"):
        read_frames(VideoSegment(tmp_path, start=1), [0])


def test_frames_that_a_segment_does_not_have(video):
    message = r"clip.mp4 \[start_frame=50\] has 10 frames, but frames \[3, 10\] were requested"
    with pytest.raises(VideoDecodeError, match=message):
        read_frames(VideoSegment(video, start_frame=50), [3, 10])


def test_only_what_is_needed_is_decoded(video, monkeypatch):
    """Frames 36 to 40 follow the key frame 36; none before it is decoded, none after the last one."""
    decoded, decode_group = [], video_decoding._decode_group
    monkeypatch.setattr(
        video_decoding,
        "_decode_group",
        lambda *given: (decoded.append(frame.pts) or frame for frame in decode_group(*given)),
    )
    with av.open(str(video)) as container:
        key = sorted(packet.pts for packet in container.demux(video=0) if packet.size)[36]
    assert all_frames(VideoSegment(video, start_frame=36, end_frame=41))[0] == [36, 37, 38, 39, 40]
    assert min(decoded) == key and len(decoded) < 10


def test_the_processor_takes_segments(video):
    processor = VideoMAEV2ImageProcessor(num_frames=4, sampling_rate=4, **RAW)
    batch = processor([VideoSegment(video, start_frame=20), VideoSegment(video, end=0.2)], return_tensors="pt")
    clips = [frame_indices(clip.permute(0, 2, 3, 1)) for clip in batch.pixel_values]
    # 40 frames are ten steps of 4, of which a clip in the middle takes 3 to 6; 5 frames are too few.
    assert clips == [[32, 36, 40, 44], [0, 4, 4, 4]]
    alone = processor(VideoSegment(video, start_frame=20), fps=25, return_tensors="pt").pixel_values[0]
    assert frame_indices(alone.permute(0, 2, 3, 1)) == [38, 39, 40, 41]

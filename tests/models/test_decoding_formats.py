"""read_frames against a full decode from the start, pixel by pixel, for all kinds of files this PyAV can write."""

import importlib
import random
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
import torch
from av.video.reformatter import VideoReformatter
from helpers.encoded_videos import NUM_FRAMES, packets_of, pictures, write_encoded, write_packets
from PIL import Image

from videomae_hf.models import video_decoding
from videomae_hf.models.video_decoding import FrameFolder, VideoDecodeError, read_frames


X264 = {"g": 12, "bf": 3, "sc_threshold": 0}
X265 = "log-level=none:keyint=12:bframes=4:b-adapt=0"
VP9 = {"g": 12, "cpu-used": 8, "deadline": "realtime"}
OPEN_GOP = {**X264, "x264-params": "open-gop=1:b-adapt=0"}
FORMATS = {
    # name: encoder, pixel format, its options, whether PyAV can seek in it
    "h264_pyramid.mp4": ("libx264", "yuv420p", {"bf": 16, "x264-params": "b-adapt=0:b-pyramid=normal:ref=8"}, True),
    "h264_temporal.mp4": ("libx264", "yuv420p", {"bf": 6, "x264-params": "direct=temporal:b-adapt=0:weightp=2"}, True),
    "h264_open_gop.mkv": ("libx264", "yuv420p", OPEN_GOP, True),
    "h264_interlaced.mp4": ("libx264", "yuv420p", {**X264, "x264-params": "tff=1:direct=temporal:b-adapt=0"}, True),
    # Decoding cannot start at the points where the picture is whole again: these are no I frames.
    "h264_refresh.mp4": ("libx264", "yuv420p", {"g": 15, "x264-params": "intra-refresh=1"}, False),
    "h264_lossless.mp4": ("libx264", "yuv420p", {**X264, "qp": 0}, True),
    "h264_full_range.mp4": ("libx264", "yuvj420p", X264, True),
    "h264_422.mp4": ("libx264", "yuv422p", X264, True),
    "h264_444.mp4": ("libx264", "yuv444p", X264, True),
    "h264_10bit.mp4": ("libx264", "yuv420p10le", X264, True),
    "h264_rgb.mp4": ("libx264rgb", "rgb24", {**X264, "qp": 0}, True),
    "h264_gray.mkv": ("libx264", "gray", X264, True),
    "h264.flv": ("libx264", "yuv420p", X264, True),
    "h264.ts": ("libx264", "yuv420p", X264, False),
    "h264.avi": ("libx264", "yuv420p", X264, False),
    "h264.asf": ("libx264", "yuv420p", X264, False),
    "h264.mxf": ("libx264", "yuv420p", X264, False),
    "raw.h264": ("libx264", "yuv420p", X264, False),
    "hevc.mp4": ("libx265", "yuv420p", {"x265-params": X265}, True),
    "hevc_open_gop.mkv": ("libx265", "yuv420p", {"x265-params": f"{X265}:open-gop=1"}, True),
    "hevc_10bit.mp4": ("libx265", "yuv420p10le", {"x265-params": X265}, True),
    "hevc_12bit.mp4": ("libx265", "yuv420p12le", {"x265-params": X265}, True),
    "hevc_444.mp4": ("libx265", "yuv444p", {"x265-params": X265}, True),
    "av1.mp4": ("libsvtav1", "yuv420p", {"g": 12, "preset": 12}, True),
    "av1_10bit.webm": ("libsvtav1", "yuv420p10le", {"g": 12, "preset": 12}, True),
    "vp8.webm": ("libvpx", "yuv420p", {"g": 12}, True),
    "vp9.webm": ("libvpx-vp9", "yuv420p", VP9, True),
    "vp9_444.webm": ("libvpx-vp9", "yuv444p", VP9, True),
    "mpeg1.mpg": ("mpeg1video", "yuv420p", {"g": 12, "bf": 2}, False),
    "mpeg1.mkv": ("mpeg1video", "yuv420p", {"g": 12, "bf": 2}, True),
    "mpeg2.mpg": ("mpeg2video", "yuv420p", {"g": 12, "bf": 2}, False),
    "mpeg2_interlaced.mp4": ("mpeg2video", "yuv420p", {"g": 12, "bf": 2, "flags": "+ildct+ilme"}, True),
    "mpeg2_422.mkv": ("mpeg2video", "yuv422p", {"g": 12, "bf": 2}, True),
    "mpeg4.mp4": ("mpeg4", "yuv420p", {"g": 12, "bf": 2}, True),
    "mpeg4.mpg": ("mpeg4", "yuv420p", {"g": 12, "bf": 6, "b_strategy": 0}, False),
    "mpeg4.avi": ("mpeg4", "yuv420p", {"g": 12, "bf": 2}, False),
    "h263.3gp": ("h263", "yuv420p", {"g": 12}, True),
    "raw.h263": ("h263", "yuv420p", {"g": 12}, False),
    "sorenson.flv": ("flv", "yuv420p", {"g": 12}, True),
    "windows.wmv": ("wmv2", "yuv420p", {"g": 12}, False),
    "jpegs.mov": ("mjpeg", "yuvj420p", {}, True),
    "prores.mov": ("prores_ks", "yuv422p10le", {}, True),
    "ffv1.mkv": ("ffv1", "yuv420p", {"g": 12}, True),
    "animation.gif": ("gif", "rgb8", {}, False),
}


def full_decode(source) -> tuple[list[np.ndarray], list[float]]:
    """All frames of the best stream and their seconds, by nothing but PyAV's own decode."""
    reformatter, frames, seconds = VideoReformatter(), [], []
    with av.open(source if not isinstance(source, Path) else str(source)) as container:
        stream = container.streams.best("video")
        stream.codec_context.thread_count = 1
        for frame in container.decode(stream):
            picture = reformatter.reformat(frame, format="rgb24").to_ndarray()
            frames.append(np.rot90(picture, k=round(frame.rotation / 90) % 4))
            seconds.append(None if frame.pts is None else float(frame.pts * frame.time_base))
    return frames, seconds


@pytest.fixture
def seeking(monkeypatch) -> list[bool]:
    """Whether each read that tried to seek has given its frames by it."""
    outcomes, seek_and_decode = [], video_decoding._seek_and_decode

    def spy(*arguments):
        outcomes.append(False)
        yield from seek_and_decode(*arguments)
        outcomes[-1] = True

    monkeypatch.setattr(video_decoding, "_seek_and_decode", spy)
    return outcomes


def check(path: Path) -> int:
    """All frames, each frame alone, and clips in several orders are those of the full decode; returns their number."""
    expected, seconds = full_decode(path)
    count, draw = len(expected), random.Random(path.name)
    clips = [range(count), range(0, count, 4), range(count - 1, -1, -5), [draw.randrange(count) for _ in range(9)]]
    for clip in [*clips, *([index] for index in draw.sample(range(count), min(count, 8)))]:
        seen = []
        frames = read_frames(path, lambda info, clip=clip, seen=seen: seen.append(info) or clip).numpy()
        assert seen[-1].num_frames == count
        wrong = [index for index, frame in zip(clip, frames) if not np.array_equal(frame, expected[index])]
        assert wrong == []
        if seen[-1].timestamps is not None:
            assert seen[-1].timestamps == pytest.approx([time - seconds[0] for time in seconds])
    content = path.read_bytes()  # compared with itself: without a name, a raw stream may be taken for another kind
    assert np.array_equal(read_frames(content, [count - 1])[0], full_decode(video_decoding.BytesIO(content))[0][-1])
    return count


@pytest.mark.parametrize("name", FORMATS)
def test_formats(tmp_path, name, seeking):
    codec, pix_fmt, options, seeks = FORMATS[name]
    assert check(write_encoded(tmp_path / name, codec, pix_fmt, **options)) == NUM_FRAMES
    if seeks:
        assert seeking and all(seeking)
    else:
        assert not all(seeking) or not seeking


@pytest.mark.parametrize(("height", "width"), [(65, 97), (2, 16), (1, 1)])
@pytest.mark.parametrize("codec", ["libx264", "libvpx-vp9", "ffv1"])
def test_odd_sizes(tmp_path, codec, height, width):
    frames = pictures(12, 72, 104)[:, :height, :width]
    check(write_encoded(tmp_path / "odd.mkv", codec, "yuv444p", frames, g=4))


@pytest.mark.parametrize("name", ["uneven.mp4", "uneven.mkv", "uneven.flv"])
@pytest.mark.parametrize("start", [0, 10**7])
def test_uneven_times_and_late_starts(tmp_path, name, start):
    draw = random.Random(3)
    times = np.cumsum([start, *(draw.choice([1, 20, 33, 41, 1500]) for _ in range(NUM_FRAMES - 1))]).tolist()
    path = write_encoded(tmp_path / name, "libx264", times=times, **X264)
    seen = []
    read_frames(path, lambda info: seen.append(info) or [0])
    assert seen[0].timestamps == pytest.approx([(time - start) / 1000 for time in times], abs=1e-3)
    check(path)


@pytest.mark.parametrize("codec", ["libx264", "libx265", "mpeg2video", "mpeg4"])
@pytest.mark.parametrize("cut", [1, 4, 13, 17])
def test_cut_before_a_packet(tmp_path, codec, cut):
    """Cut without decoding, as many tools do: decoders drop what refers to frames that are gone."""
    options = {"libx264": OPEN_GOP, "libx265": {"x265-params": f"{X265}:open-gop=1"}}.get(codec, {"g": 12, "bf": 2})
    whole = write_encoded(tmp_path / "whole.mkv", codec, **options)
    assert check(write_packets(tmp_path / "cut.mkv", whole, packets_of(whole)[cut:])) > 0


@pytest.mark.parametrize("name", ["goes_on.mkv", "anew.flv", "between.flv", "anew.ts"])
def test_two_videos_in_one(tmp_path, name):
    """The times of the second video go on, begin anew, or lie between those of the first."""
    times = [40 * index + (7 if name == "between.flv" else 0) for index in range(NUM_FRAMES)]
    first = write_encoded(tmp_path / f"first.{name[-3:]}", "libx264", **X264)
    second = write_encoded(
        tmp_path / f"second.{name[-3:]}", "libx264", frames=pictures(NUM_FRAMES, seed=1), times=times, **X264
    )
    path, shift = tmp_path / name, NUM_FRAMES * 40
    if name == "goes_on.mkv":
        late = [{**packet, "pts": packet["pts"] + shift, "dts": packet["dts"] + shift} for packet in packets_of(second)]
        write_packets(path, first, packets_of(first) + late)
    else:
        header = 13 if name.endswith("flv") else 0
        path.write_bytes(first.read_bytes() + second.read_bytes()[header:])
    assert check(path) == 2 * NUM_FRAMES


@pytest.mark.parametrize("codec", ["libvpx", "libvpx-vp9", "mjpeg"])
def test_frame_size_that_changes(tmp_path, codec):
    pix_fmt = "yuvj420p" if codec == "mjpeg" else "yuv420p"
    first = write_encoded(tmp_path / "first.mkv", codec, pix_fmt, **({} if codec == "mjpeg" else {"g": 12}))
    second = write_encoded(tmp_path / "second.mkv", codec, pix_fmt, pictures(NUM_FRAMES, 48, 64))
    shift = NUM_FRAMES * 40
    late = [{**packet, "pts": packet["pts"] + shift, "dts": packet["dts"] + shift} for packet in packets_of(second)]
    path = write_packets(tmp_path / "changes.mkv", first, packets_of(first) + late)
    expected, _ = full_decode(path)
    assert len(expected) == 2 * NUM_FRAMES
    for indices in ([3, 39], [79, 40]):
        assert np.array_equal(read_frames(path, indices), np.stack([expected[index] for index in indices]))
    with pytest.raises(VideoDecodeError, match=r"changes.mkv cannot be decoded: its frames differ in shape"):
        read_frames(path, [39, 40])


def test_times_in_the_order_of_decoding(tmp_path):
    """H.264 with B-frames in AVI has no other, and remuxing keeps them."""
    whole = write_encoded(tmp_path / "whole.mkv", "libx264", **X264)
    in_order = sorted(packet["pts"] for packet in packets_of(whole))
    packets = [{**packet, "pts": time, "dts": time} for packet, time in zip(packets_of(whole), in_order)]
    path = write_packets(tmp_path / "from_avi.mkv", whole, packets)
    expected, seconds = full_decode(path)
    assert seconds != sorted(seconds)
    assert np.abs(expected[1].astype(int) - pictures(2)[1]).mean() < 20  # frame 1 is the second one to be shown
    check(path)


@pytest.mark.parametrize("codec", ["mpeg4", "libx264", "mpeg2video"])
def test_all_frames_called_key_frames(tmp_path, codec):
    whole = write_encoded(tmp_path / "whole.mkv", codec, g=12, bf=0)
    packets = [{**packet, "is_keyframe": True} for packet in packets_of(whole)]
    assert check(write_packets(tmp_path / "all_keys.mkv", whole, packets)) == NUM_FRAMES


@pytest.mark.parametrize("codec", ["libvpx", "libvpx-vp9"])
def test_frames_that_are_not_shown(tmp_path, codec, seeking):
    """The show_frame bit cleared in some frames of a written file."""
    path = write_encoded(tmp_path / "hidden.mkv", codec, **(VP9 if codec == "libvpx-vp9" else {"g": 12}))
    content, hidden = bytearray(path.read_bytes()), 0
    for index, packet in enumerate(packets_of(path)):
        # the header of a VP9 frame that is neither shown nor a key frame would have one bit more
        if index and (packet["is_keyframe"] if codec == "libvpx-vp9" else index % 7 == 3):
            content[content.find(packet["data"])] &= ~(2 if codec == "libvpx-vp9" else 16)
            hidden += 1
    path.write_bytes(content)
    assert hidden >= 3
    assert check(path) == NUM_FRAMES - hidden
    assert any(seeking)


@pytest.mark.parametrize("start", ["later", "earlier"])
def test_edit_lists(tmp_path, start):
    """MP4 files whose edit list cuts off frames or delays them."""
    path = write_encoded(tmp_path / "whole.mp4", "libx264", **X264)
    content = bytearray(path.read_bytes())
    at = content.find(b"elst") + 16  # version, flags, count and duration come before the media time
    assert at > 16
    time = int.from_bytes(content[at : at + 4], "big")
    content[at : at + 4] = (time + 512 * 15 if start == "later" else 0).to_bytes(4, "big")
    path.write_bytes(content)
    assert check(path) < NUM_FRAMES


@pytest.mark.skipif(not hasattr(av.VideoStream, "set_display_rotation"), reason="this PyAV cannot write it")
@pytest.mark.parametrize("rotation", [0, 30, 90, 135, 180, 270])
def test_rotations(tmp_path, rotation):
    path = write_encoded(
        tmp_path / "phone.mp4", "libx264", stream_of=lambda _, stream: stream.set_display_rotation(rotation)
    )
    check(path)


@pytest.mark.parametrize(
    ("ratio", "width"), [("2:1", 256), ("3:4", 96), ("1:1", 128), ("0:1", 128), ("1:1000", 128), ("1000:1", 128)]
)
def test_pixels_that_are_not_square(tmp_path, ratio, width):
    def shape(_, stream):
        stream.sample_aspect_ratio = Fraction(*map(int, ratio.split(":")))

    path = write_encoded(tmp_path / "tv.mp4", "libx264", stream_of=shape)
    assert read_frames(path, [3]).shape == (1, 96, 128, 3)
    assert read_frames(path, [3], square_pixels=True).shape == (1, 96, width, 3)
    check(path)


def test_the_best_of_two_streams_is_read(tmp_path):
    path = tmp_path / "two.mp4"
    with av.open(str(path), "w") as container:
        streams = [container.add_stream("mpeg4", rate=25) for _ in range(2)]
        for stream, (height, width) in zip(streams, [(48, 64), (96, 128)]):
            stream.height, stream.width, stream.pix_fmt = height, width, "yuv420p"
        streams[1].disposition = av.stream.Disposition.default.value
        for small, large in zip(pictures(8, 48, 64, seed=1), pictures(8)):
            for stream, frame in zip(streams, (small, large)):
                container.mux(stream.encode(av.VideoFrame.from_ndarray(frame, format="rgb24")))
    assert read_frames(path, [0]).shape == (1, 96, 128, 3)
    check(path)


def write_with_sound(path: Path, video: str | None, cover: Path | None = None) -> Path:
    with av.open(str(path), "w") as container:
        pictured = None
        if cover is not None:
            source = av.open(str(cover))
            pictured = container.add_stream_from_template(source.streams.video[0])
            pictured.disposition = av.stream.Disposition.attached_pic.value
        moving = container.add_stream(video, rate=25) if video else None
        if moving is not None:
            moving.height, moving.width, moving.pix_fmt = 96, 128, "yuv420p"
        sound = container.add_stream("aac", rate=44100)
        container.start_encoding()
        if pictured is not None:
            with source:
                packet = next(source.demux(video=0))
                packet.stream = pictured
                container.mux(packet)
        for frame in pictures(NUM_FRAMES) if moving is not None else []:
            container.mux(moving.encode(av.VideoFrame.from_ndarray(frame, format="rgb24")))
        for _ in range(20):
            silence = av.AudioFrame.from_ndarray(np.zeros((2, 1024), np.float32), "fltp", "stereo")
            silence.rate = 44100
            container.mux(sound.encode(silence))
        for stream in (moving, sound) if moving is not None else (sound,):
            container.mux(stream.encode())
    return path


def test_broken_sound_does_no_harm(tmp_path):
    path = write_with_sound(tmp_path / "sound.mp4", "mpeg4")
    with av.open(str(path)) as container:
        sounds = [bytes(packet) for packet in container.demux(audio=0) if packet.size > 8]
    content = path.read_bytes()
    for sound in sounds:
        content = content.replace(sound, bytes([255]) * len(sound))
    path.write_bytes(content)
    with av.open(str(path)) as container, pytest.raises(av.FFmpegError):
        list(container.decode(audio=0))
    assert check(path) == NUM_FRAMES


def test_covers_of_music_are_no_video(tmp_path):
    Image.fromarray(pictures(1, 200, 200)[0]).save(tmp_path / "cover.png")
    with pytest.raises(VideoDecodeError, match="music.mp4 cannot be decoded: ValueError: it has no video stream"):
        read_frames(write_with_sound(tmp_path / "music.mp4", None, tmp_path / "cover.png"), [0])
    assert check(write_with_sound(tmp_path / "film.mp4", "mpeg4", tmp_path / "cover.png")) == NUM_FRAMES
    sound = write_with_sound(tmp_path / "sound.mp4", None).read_bytes()
    with pytest.raises(VideoDecodeError, match=f"<{len(sound)} bytes> cannot be decoded: .* it has no video stream"):
        read_frames(sound, [0])


def test_a_codec_without_decoder(tmp_path):
    path = write_encoded(tmp_path / "unknown.mp4", "libx264")
    path.write_bytes(path.read_bytes().replace(b"avc1", b"zzzz"))
    with pytest.raises(VideoDecodeError, match="unknown.mp4 cannot be decoded: ValueError: there is no decoder"):
        read_frames(path, [0])


@pytest.mark.parametrize("kind", ["PatchWelcomeError", "EOFError", "UnknownError"])
def test_errors_that_are_ffmpegs_only(tmp_path, monkeypatch, kind):
    path = write_encoded(tmp_path / "odd.mp4", "libx264")
    error = getattr(av.error, kind)(1, "no such feature")

    def refuse(*_):
        raise error

    monkeypatch.setattr(video_decoding, "open_container", refuse)
    with pytest.raises(VideoDecodeError, match=f"odd.mp4 cannot be decoded: {kind}: .*no such feature"):
        read_frames(path, [0])


@pytest.mark.parametrize("name", ["a b é.mp4", "x:y.mp4", "img%03d.mp4", "-y.mp4", "a'#*.mp4"])
def test_names_that_mean_something_to_others(tmp_path, monkeypatch, name):
    write_encoded(tmp_path / "plain.mp4", "libx264").rename(tmp_path / name)
    monkeypatch.chdir(tmp_path)
    assert torch.equal(read_frames(name, [5]), read_frames((tmp_path / name).read_bytes(), [5]))


def test_frames_that_do_not_fit_in_memory(tmp_path, monkeypatch):
    path = write_encoded(tmp_path / "long.avi", "mpeg4", g=12, bf=2)
    expected = read_frames(path, [30, 2, 30])
    opened, open_file = [], video_decoding.open_container
    monkeypatch.setattr(video_decoding, "open_container", lambda *given: opened.append(given) or open_file(*given))
    monkeypatch.setattr(video_decoding, "_KEPT_BYTES", 100_000)
    assert torch.equal(read_frames(path, [30, 2, 30]), expected)
    assert len(opened) == 3  # the packets, all frames, and those that are wanted
    check(path)


def test_damaged_parts_are_decoded_from_the_start(tmp_path, seeking):
    """What a decoder makes up for the damaged part of frame 18 depends on what it has decoded before."""
    path = write_encoded(tmp_path / "damaged.mkv", "mpeg4", g=12, bf=0)
    content = bytearray(path.read_bytes())
    data = packets_of(path)[18]["data"]
    at = content.find(data) + len(data) // 2
    content[at : at + 60] = bytes(60)
    path.write_bytes(content)
    expected, _ = full_decode(path)
    assert len(expected) == NUM_FRAMES
    for indices, seeks in (([20], False), ([18, 3], False), ([30, 5], True)):
        assert np.array_equal(read_frames(path, indices), np.stack([expected[index] for index in indices]))
        assert seeking[-1] == seeks


def test_images_in_a_folder(tmp_path):
    frames = pictures(12)
    for number, frame in enumerate(frames):
        Image.fromarray(frame).save(tmp_path / f"img_{number + 1}.png")
    assert np.array_equal(read_frames(tmp_path, [11, 0, 9, 0]), frames[[11, 0, 9, 0]])
    folder = FrameFolder(str(tmp_path), template="img_{}.png", first=3)
    assert np.array_equal(read_frames(folder, lambda info: range(info.num_frames)), frames[2:])


def test_a_file_is_opened_only_once(tmp_path, monkeypatch):
    path = write_encoded(tmp_path / "video.mp4", "libx264", **X264)
    av_module = importlib.import_module("av")
    opened, open_file = [], av_module.open
    monkeypatch.setattr(
        av_module, "open", lambda *given, **named: opened.append(given[0]) or open_file(*given, **named)
    )
    read_frames(path, [3, 30])
    assert opened == [str(path)]

"""Videos in many codecs and containers, as PyAV writes them."""

from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest

from videomae_hf.models.video_decoding import read_frames


NUM_FRAMES = 40


def pictures(count: int, height: int = 96, width: int = 128, seed: int = 0) -> np.ndarray:
    """uint8 (count, height, width, 3): a texture that moves, cuts, and no two frames alike."""
    generator = np.random.default_rng(seed)
    texture = generator.integers(0, 256, (height // 8 + 16, width // 8 + 16, 3), dtype=np.uint8)
    texture = texture.repeat(8, axis=0).repeat(8, axis=1)
    frames = []
    for index in range(count):
        if index % 17 == 16:
            texture = np.roll(texture, (40, 24, 1), axis=(0, 1, 2))
        down, right = 2 * index % 128, 3 * index % 128
        frames.append(texture[down : down + height, right : right + width].copy())
        frames[-1][:8, : 8 + index] = 255 - 3 * index
    return np.stack(frames)


def write_encoded(
    path: Path, codec: str, pix_fmt: str = "yuv420p", frames=None, times=None, stream_of=None, **options
) -> Path:
    """`times`: milliseconds of the frames; `stream_of(container, stream)` changes the stream before it is opened."""
    frames = pictures(NUM_FRAMES) if frames is None else frames
    try:
        av.codec.Codec(codec, "w")
    except av.codec.codec.UnknownCodecError:
        pytest.skip(f"this PyAV has no encoder {codec}")
    with av.open(str(path), "w") as container:
        stream = container.add_stream(codec, rate=25, options={name: str(value) for name, value in options.items()})
        stream.height, stream.width, stream.pix_fmt = *frames[0].shape[:2], pix_fmt
        stream.thread_count = 1
        if times is not None:
            stream.codec_context.time_base = Fraction(1, 1000)
        if stream_of is not None:
            stream_of(container, stream)
        try:
            stream.codec_context.open(strict=False)
        except (av.FFmpegError, ValueError) as error:
            pytest.skip(f"this {codec} cannot write {pix_fmt}: {error}")
        for index, frame in enumerate(frames):
            picture = av.VideoFrame.from_ndarray(frame, format="rgb24")
            if times is not None:
                picture.pts, picture.time_base = times[index], Fraction(1, 1000)
            container.mux(stream.encode(picture))
        container.mux(stream.encode())
    return path


def packets_of(path: Path) -> list[dict]:
    with av.open(str(path)) as container:
        packets = [packet for packet in container.demux(video=0) if packet.size]
        times = sorted(packet.pts for packet in packets)
        late = max(time - packet.pts for time, packet in zip(times, packets))  # dts, which Matroska does not keep
        return [
            {"pts": packet.pts, "dts": time - late, "is_keyframe": packet.is_keyframe, "data": bytes(packet)}
            for packet, time in zip(packets, times)
        ]


def write_packets(path: Path, template: Path, packets: list[dict]) -> Path:
    with av.open(str(template)) as source, av.open(str(path), "w") as container:
        stream = container.add_stream_from_template(source.streams.video[0])
        for fields in packets:
            packet = av.Packet(fields["data"])
            packet.pts, packet.dts, packet.is_keyframe = fields["pts"], fields["dts"], fields["is_keyframe"]
            packet.time_base, packet.stream = source.streams.video[0].time_base, stream
            container.mux(packet)
    return path


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

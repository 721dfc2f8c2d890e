"""Videos in many codecs and containers, as PyAV writes them."""

from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest


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

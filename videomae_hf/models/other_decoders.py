# Copyright 2026 The videomae_hf authors. Licensed under the Apache License, Version 2.0.
"""Decodes with torchcodec and decord, for use where PyAV is not installed or another decoder is requested.

Neither has an option for the formats that it may open. Instead, the first bytes of a file are checked: they must be
those of a container, without any mark of a playlist. This file ships with checkpoints and may import only its siblings;
the decoders are loaded with `importlib`, because transformers refuses checkpoint code with an ordinary import of a
package that is not installed.
"""

import importlib
from collections.abc import Iterator
from io import BytesIO

import numpy as np

from .frame_files import check_size, first_bytes
from .frame_pixels import BATCH_BYTES
from .video_sources import VideoInfo


# Offsets and values of the signatures of containers
_SIGNATURES = (
    *(((4, box),) for box in (b"ftyp", b"moov", b"mdat", b"moof", b"styp", b"free", b"skip", b"wide", b"pnot")),  # MP4
    ((0, b"\x1a\x45\xdf\xa3"),),  # Matroska
    ((0, b"RIFF"), (8, b"AVI ")),
    ((0, b"FLV\1"),),
    ((0, b"G"), (188, b"G")),  # MPEG transport stream, two packets
    ((4, b"G"), (196, b"G")),
    ((0, b"\0\0\1"),),  # MPEG, H.26x
    ((0, b"\0\0\0\1"),),
    ((0, b"\x30\x26\xb2\x75\x8e\x66\xcf\x11"),),  # ASF
    ((0, b"OggS"),),
    ((0, b"GIF8"),),
    ((0, b"DKIF"),),
    ((0, b"\x06\x0e\x2b\x34"),),  # MXF
)
_PROBED_BYTES = 2**20  # the number of bytes that FFmpeg probes


def refuse_unknown_container(source: str | bytes) -> None:
    """Raises ValueError unless the first bytes are those of a container and of nothing else.

    FFmpeg recognises SDP, DASH and IMF by marks that may follow any other beginning; these are searched for.
    """
    head = first_bytes(source, _PROBED_BYTES)
    text = head[: head.find(b"\0")].lower() if b"\0" in head else head.lower()
    known = any(all(head.startswith(mark, place) for place, mark in marks) for marks in _SIGNATURES)
    if not known or b"c=IN IP" in head or b"<mpd" in text or b"<compositionplaylist" in text:
        raise ValueError("it is not a video, or its format is not supported")


def read_torchcodec(source: str | bytes, pick, max_pixels: int | None) -> Iterator:
    refuse_unknown_container(source)
    decoder = importlib.import_module("torchcodec.decoders").VideoDecoder(
        source, dimension_order="NHWC", num_ffmpeg_threads=1, seek_mode="exact"
    )
    metadata = decoder.metadata
    check_size(metadata.width, metadata.height, max_pixels)
    ratio = getattr(metadata, "pixel_aspect_ratio", None)  # since 0.8
    wanted = sorted(set(pick(VideoInfo(len(decoder), metadata.average_fps))))
    for batch in _batches(wanted, metadata.height, metadata.width):
        frames = decoder.get_frames_at(batch).data  # (len(batch), H, W, 3)
        for index, frame in zip(batch, frames.numpy()):
            yield index, frame, float(ratio) if ratio else None


def read_decord(source: str | bytes, pick, max_pixels: int | None) -> Iterator:
    refuse_unknown_container(source)
    decord = importlib.import_module("decord")
    try:
        reader = decord.VideoReader(BytesIO(source) if isinstance(source, bytes) else source, num_threads=1)
        timestamps = reader.get_frame_timestamp(list(range(len(reader))))[:, 0]  # (N, 2), begin and end -> (N,)
        ordered = len(timestamps) and bool((np.diff(timestamps) > 0).all())
        seconds = (timestamps - timestamps[0]).tolist() if ordered else None
        wanted = sorted(set(pick(VideoInfo(len(reader), reader.get_avg_fps(), seconds))))
        first = reader.get_batch(wanted[:1]).asnumpy()[0]  # (H, W, 3); decord gives the size only by decoding
        check_size(first.shape[1], first.shape[0], max_pixels)
        yield wanted[0], first, None
        for batch in _batches(wanted[1:], *first.shape[:2]):
            for index, frame in zip(batch, reader.get_batch(batch).asnumpy()):  # (len(batch), H, W, 3)
                yield index, frame, None
    except decord.DECORDError as error:
        raise RuntimeError(str(error).strip().splitlines()[0]) from error


def _batches(indices: list[int], height: int, width: int) -> Iterator[list[int]]:
    length = max(BATCH_BYTES // (height * width * 3), 1)
    return (indices[start : start + length] for start in range(0, len(indices), length))

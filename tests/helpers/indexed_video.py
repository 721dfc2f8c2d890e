"""Videos whose frames carry their own number: read off the pixels, it says which frame a decoder really gave."""

from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest


ROWS, COLUMNS = 3, 4


def indexed_frames(count: int, height: int = 96, width: int = 128) -> np.ndarray:
    """uint8 (count, height, width, 3): a board of light and dark fields, the bits of the frame's index."""
    bits = np.arange(count)[:, None] >> np.arange(ROWS * COLUMNS) & 1
    board = np.where(bits == 1, 200, 50).astype(np.uint8).reshape(count, ROWS, COLUMNS)
    board = board.repeat(height // ROWS, axis=1).repeat(width // COLUMNS, axis=2)
    return np.repeat(board[..., None], 3, axis=3)


def frame_index(frame) -> int:
    """The index in a frame (H, W, C), 0 to 255, whatever its size."""
    frame = np.asarray(frame, dtype=np.float32).mean(axis=2)
    rows = (np.arange(ROWS) + 0.5) * frame.shape[0] / ROWS
    columns = (np.arange(COLUMNS) + 0.5) * frame.shape[1] / COLUMNS
    bits = frame[rows.astype(int)[:, None], columns.astype(int)].flatten() > 125
    return int((bits << np.arange(ROWS * COLUMNS)).sum())


def frame_indices(frames) -> list[int]:
    return [frame_index(frame) for frame in frames]


def write_indexed_video(
    path: Path, count: int, codec: str = "libx264", rate: int | Fraction = 25, rotation: int | None = None, **options
) -> Path:
    """`options` are the encoder's (g: longest group of pictures, bf: B-frames) and, `movflags`, the container's."""
    container_options = {"movflags": options.pop("movflags")} if "movflags" in options else {}
    with av.open(str(path), "w", options=container_options) as container:
        stream = container.add_stream(codec, rate=rate)
        stream.height, stream.width, stream.pix_fmt = 96, 128, "yuv420p"
        stream.thread_count = 1
        stream.options = {name: str(value) for name, value in options.items()}
        if rotation is not None:
            if not hasattr(stream, "set_display_rotation"):
                pytest.skip("this PyAV cannot write rotations")
            stream.set_display_rotation(rotation)
        for frame in indexed_frames(count):
            container.mux(stream.encode(av.VideoFrame.from_ndarray(frame, format="rgb24")))
        container.mux(stream.encode())
    return path

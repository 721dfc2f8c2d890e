# Copyright 2026 The videomae_hf authors. Licensed under the Apache License, Version 2.0.
"""Synthesises a small video data set for demos and tests.

    python -m videomae_hf.data.sources.synthetic data/demo/train --videos_per_class 100
    python -m videomae_hf.data.sources.synthetic data/demo/val --videos_per_class 25 --seed 1

A shape moves over a background, and only its motion determines the class: left, right, up, down, clockwise,
counter_clockwise, grow, shrink. Shape, colours, position and size have the same distribution in every class at every
moment, so that a single frame does not reveal the class. Videos are H.264 in mp4, in one folder per class.
"""

import math
import shutil
from concurrent.futures import ProcessPoolExecutor
from fractions import Fraction
from functools import partial
from pathlib import Path

import numpy as np
from tqdm import tqdm


CLASSES = ("clockwise", "counter_clockwise", "down", "grow", "left", "right", "shrink", "up")
SHAPES = ("bar", "half_disc", "angle", "arrow")  # none is symmetric under a quarter turn
DIFFICULTIES = ("plain", "textured", "moving")


def synthesise_dataset(
    folder: str | Path,
    videos_per_class: int = 100,
    seed: int = 0,
    size: int = 80,
    num_frames: int = 32,
    difficulty: str = "plain",
    workers: int | None = None,
) -> None:
    """Writes `videos_per_class` synthetic videos of each class to `folder`.

    Args:
        folder: a new folder, with one subfolder per class.
        videos_per_class: number of videos in each class.
        seed: the same seed gives the same videos, another seed gives different ones.
        size: height and width in pixels, even.
        num_frames: number of frames per video, at 25 frames per second.
        difficulty: backgrounds: `"plain"` (one colour), `"textured"`, or `"moving"` (textured and moving).
        workers: number of processes; None uses one per core.

    Raises:
        ValueError: the folder exists, or a value is out of range.
    """
    if difficulty not in DIFFICULTIES:
        raise ValueError(f"difficulty={difficulty!r} is unknown; choose one of {', '.join(DIFFICULTIES)}.")
    if size % 2 or size < 16:
        raise ValueError(f"size={size} must be even (H.264) and at least 16.")
    folder = Path(folder)
    if folder.exists():
        raise ValueError(f"{folder} exists already; give another folder or remove it.")
    partial_folder = folder.with_name(folder.name + ".partial")  # an interruption leaves no incomplete set
    shutil.rmtree(partial_folder, ignore_errors=True)
    jobs = []
    for number, label in enumerate(CLASSES):
        (partial_folder / label).mkdir(parents=True)
        for index in range(videos_per_class):
            jobs.append((partial_folder / label / f"{label}_{index:05d}.mp4", label, (seed, number, index)))
    write = partial(_write_video, size=size, num_frames=num_frames, difficulty=difficulty)
    with ProcessPoolExecutor(workers) as pool:
        list(tqdm(pool.map(write, jobs, chunksize=16), total=len(jobs), desc=f"Drawing {folder}", unit="video"))
    partial_folder.rename(folder)


def synthesise_video(
    label: str, rng: np.random.Generator, size: int = 80, num_frames: int = 32, difficulty: str = "plain"
) -> np.ndarray:
    """Synthesises one video of a class: uint8 (num_frames, size, size, 3)."""
    shape = SHAPES[rng.integers(len(SHAPES))]
    color, background = _colors(rng)
    centers, radii, angles = _trajectory(label, rng, size, num_frames)
    canvas = np.broadcast_to(background, (size, size, 3))
    if difficulty != "plain":
        canvas = np.clip(canvas + 45 * _smooth_noise(rng, size), 0, 255)
    drift = rng.normal(0, 1.2, 2) if difficulty == "moving" else np.zeros(2)
    video = np.empty((num_frames, size, size, 3), dtype=np.uint8)
    for t in range(num_frames):
        moved = np.roll(canvas, np.round(drift * t).astype(int), axis=(0, 1))
        coverage = _coverage(shape, centers[t], radii[t], angles[t], size)[..., None]  # (H, W, 1)
        video[t] = np.round(coverage * color + (1 - coverage) * moved)
    return video


def _trajectory(
    label: str, rng: np.random.Generator, size: int, num_frames: int, radii: tuple[float, float] = (0.18, 0.36)
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Centres (num_frames, 2) as (row, column) and radii (num_frames,), in pixels, and angles (num_frames,) in radians.

    At each moment all three are uniform over their range, in every class: the frame wraps around (a shape that leaves
    on one side enters on the other), and a size that reaches one end of its range continues from the other end. `radii`
    is this range, in heights of the frame.
    """
    time = np.arange(num_frames)
    centers = np.tile(rng.uniform(0, size, 2), (num_frames, 1))
    size_phase, angle = rng.uniform(), 2 * math.pi * rng.uniform()
    step, growth, turn = size * rng.uniform(0.03, 0.045), 1 / rng.uniform(28, 40), rng.uniform(0.14, 0.22)  # per frame
    directions = {"left": (0, -1), "right": (0, 1), "up": (-1, 0), "down": (1, 0)}
    if label in directions:
        centers = centers + step * time[:, None] * np.array(directions[label])
    growth *= {"grow": 1, "shrink": -1}.get(label, 0)
    # Rows grow downwards, so that a growing angle turns clockwise.
    turn *= {"clockwise": 1, "counter_clockwise": -1}.get(label, 0)
    smallest, largest = (size * radius for radius in radii)
    sizes = smallest + (size_phase + growth * time) % 1 * (largest - smallest)
    return centers % size, sizes, angle + turn * time


def _coverage(shape: str, center: np.ndarray, radius: float, angle: float, size: int) -> np.ndarray:
    """(size, size) in [0, 1]: the fraction of each pixel that the shape covers, on a frame that wraps around."""
    axis = np.arange(size) + 0.5
    row = (axis[:, None] - center[0] + size / 2) % size - size / 2
    column = (axis[None, :] - center[1] + size / 2) % size - size / 2
    x = (column * math.cos(angle) + row * math.sin(angle)) / radius
    y = (row * math.cos(angle) - column * math.sin(angle)) / radius

    def box(left: float, right: float, top: float, bottom: float) -> np.ndarray:
        """Distance from the border of a box in radii, negative inside."""
        return np.maximum(np.maximum(left - x, x - right), np.maximum(top - y, y - bottom))

    if shape == "bar":
        distance = box(-1, 1, -0.3, 0.3)
    elif shape == "half_disc":
        distance = np.maximum(np.hypot(x, y) - 1, -y - 0.1)
    elif shape == "angle":
        distance = np.minimum(box(-1, 1, -0.3, 0.2), box(0.5, 1, -0.3, 1))
    elif shape == "rails":
        distance = np.minimum(box(-1, 1, -0.9, -0.4), box(-1, 1, 0.4, 0.9))
    elif shape == "horseshoe":
        distance = np.maximum(np.abs(np.hypot(x, y) - 0.75) - 0.25, np.minimum(x, 0.6 - np.abs(y)))
    else:  # arrow
        distance = np.maximum(np.abs(y) - 0.7, np.abs(x) + 0.5 * y - 0.6)
    return np.clip(0.5 - distance * radius, 0, 1)


def _colors(rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """RGB colours of the shape and of the background, one light and one dark, independent of the class."""
    return rng.uniform(160, 255, 3), rng.uniform(0, 70, 3)


def _smooth_noise(rng: np.random.Generator, size: int) -> np.ndarray:
    """(size, size, 3) in [-1, 1]: a few smooth waves that are periodic at the borders."""
    axis = 2 * math.pi * np.arange(size) / size
    noise = np.zeros((size, size, 3))
    for _ in range(6):
        rows, columns = rng.integers(-4, 5, 2)
        wave = np.sin(rows * axis[:, None] + columns * axis[None] + rng.uniform(0, 2 * math.pi))
        noise += wave[..., None] * rng.uniform(-1, 1, 3)
    return noise / np.abs(noise).max()


def write_video(path: Path, frames: np.ndarray, fps: int | Fraction = 25) -> None:
    """Writes uint8 (T, H, W, 3), with even H and W, to a video file (H.264)."""
    import av  # imported here, since only writing videos needs it

    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=fps)
        stream.height, stream.width = frames.shape[1:3]
        stream.pix_fmt = "yuv420p"
        stream.thread_count = 1
        # No look-ahead: with it, x264 encodes the same frames to different bytes from one run to the next.
        stream.options = {"crf": "12", "preset": "ultrafast"}
        for frame in frames:
            container.mux(stream.encode(av.VideoFrame.from_ndarray(frame, format="rgb24")))
        container.mux(stream.encode())


def _write_video(job, size: int, num_frames: int, difficulty: str) -> None:
    path, label, seed = job
    write_video(path, synthesise_video(label, np.random.default_rng(seed), size, num_frames, difficulty))

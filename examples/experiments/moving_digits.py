# Copyright 2026 The videomae_hf authors. Licensed under the Apache License, Version 2.0.
"""Writes videos of real handwritten digits that move, with two sets of labels: the digit and the direction.

    python examples/experiments/moving_digits.py digits
    python examples/experiments/pretraining_study.py output/digits --variants recipe "tube 0.75" "plain pixels" \\
        --options train_data=digits/train/videos eval_data=digits/eval/videos demo_videos=0 image_size=32 \\
        --label_set digit digits/train/digit.csv digits/eval/digit.csv \\
        --label_set direction digits/train/direction.csv digits/eval/direction.csv

The digits are the 1,797 images of 8 x 8 pixels that ship with scikit-learn; a quarter of them, other images, is in
eval. Any frame shows the digit, and no frame tells the direction. A digit that leaves on one side enters on the other.
"""

import argparse
import csv
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import numpy as np
from PIL import Image
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split
from tqdm import tqdm

from videomae_hf.data.sources.synthetic import write_video


SIZE, DIGIT, NUM_FRAMES = 64, 36, 32  # pixels of a frame, of a digit; frames of a video
DIRECTIONS = {
    **{"up": (-1, 0), "up_right": (-1, 1), "right": (0, 1), "down_right": (1, 1)},
    **{"down": (1, 0), "down_left": (1, -1), "left": (0, -1), "up_left": (-1, -1)},
}  # (rows, columns)


def moving_digit(image: np.ndarray, direction: str, rng: np.random.Generator) -> np.ndarray:
    """uint8 (NUM_FRAMES, SIZE, SIZE, 3): an image (8, 8) of 0 to 16 that moves from a random place at a random rate."""
    strokes = Image.fromarray((image * 255 / 16).astype(np.uint8)).resize((DIGIT, DIGIT), Image.Resampling.BICUBIC)
    canvas = np.zeros((SIZE, SIZE))
    canvas[:DIGIT, :DIGIT] = np.asarray(strokes, dtype=float) / 255
    colour, background = rng.uniform(160, 255, 3), rng.uniform(0, 70, 3)
    start, speed = rng.uniform(0, SIZE, 2), SIZE * rng.uniform(0.025, 0.045)
    frames = []
    for time in range(NUM_FRAMES):
        offset = np.round(start + speed * time * np.array(DIRECTIONS[direction])).astype(int)
        coverage = np.roll(canvas, offset, axis=(0, 1))[..., None]  # (H, W, 1)
        frames.append(np.round(coverage * colour + (1 - coverage) * background).astype(np.uint8))
    return np.stack(frames)


def write_part(folder: Path, images: np.ndarray, digits: np.ndarray, videos_per_digit: int, seed: int) -> None:
    """Writes `videos_per_digit` videos of each image, in random directions, and the lists digit.csv, direction.csv."""
    (folder / "videos").mkdir(parents=True)
    rng, names, jobs, rows = np.random.default_rng(seed), list(DIRECTIONS), [], []
    for number in range(len(images) * videos_per_digit):
        place, direction = number % len(images), names[rng.integers(len(names))]
        path = f"videos/{number:05d}.mp4"
        jobs.append((folder / path, images[place], direction, (seed, number)))
        rows.append((path, digits[place], direction))
    with ProcessPoolExecutor() as pool:
        list(tqdm(pool.map(_write, jobs, chunksize=16), total=len(jobs), desc=str(folder), unit="video"))
    for column, name in ((1, "digit"), (2, "direction")):
        with (folder / f"{name}.csv").open("w", encoding="utf-8", newline="") as file:
            csv.writer(file).writerows([("path", "label"), *((row[0], row[column]) for row in rows)])


def _write(job: tuple) -> None:
    path, image, direction, seed = job
    write_video(path, moving_digit(image, direction, np.random.default_rng(seed)))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, help="new folder to write")
    parser.add_argument("--videos_per_digit", type=int, default=2, help="videos of each image")
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    if args.folder.exists():
        raise SystemExit(f"{args.folder} exists already; give another folder or remove it.")
    data = load_digits()
    parts = train_test_split(data.images, data.target, test_size=0.25, stratify=data.target, random_state=args.seed)
    for name, images, digits, seed in zip(("train", "eval"), parts[:2], parts[2:], (args.seed, args.seed + 1)):
        write_part(args.folder / name, images, digits, args.videos_per_digit, seed)


if __name__ == "__main__":
    main()

# Copyright 2026 The videomae_hf authors. Licensed under the Apache License, Version 2.0.
"""Synthesises videos with captions, for the demo of VideoBERT.

    python -m videomae_hf.data.sources.synthetic_captions demo/videobert/data

A shape of one colour moves over a background of another: "a red bar left on black". Each of the four attributes is one
word. Position, size, speed and angle have the same distribution for every motion, so that a single frame does not show
it (see `synthetic.py`). One in eight combinations of the four words occurs in the test videos alone.
"""

import argparse
import csv
import itertools
from pathlib import Path

import numpy as np

from .synthetic import _coverage, _trajectory, write_video


ATTRIBUTES = {
    "colour": ("red", "green", "blue", "white"),
    "shape": ("bar", "disc", "rails", "horseshoe"),  # that a few pixels tell apart
    "motion": ("left", "right", "up", "down", "clockwise", "counterclockwise", "grows", "shrinks"),
    "background": ("black", "grey", "brown", "purple"),
}
_RGB = {
    "red": (225, 60, 60), "green": (60, 205, 70), "blue": (80, 100, 240), "white": (235, 235, 235),
    "black": (10, 10, 10), "grey": (95, 95, 95), "brown": (95, 55, 10), "purple": (75, 10, 85),
}  # fmt: skip
_SHAPE_OF = {"disc": "half_disc"}
_RADII = (0.24, 0.42)  # in heights of the frame
_CLASS_OF = {"counterclockwise": "counter_clockwise", "grows": "grow", "shrinks": "shrink"}
_HELD_OUT = 8  # one in so many combinations


def caption_of(words: dict[str, str]) -> str:
    """The caption of a combination of attributes.

    >>> caption_of({"colour": "red", "shape": "bar", "motion": "left", "background": "black"})
    'a red bar left on black'
    """
    return f"a {words['colour']} {words['shape']} {words['motion']} on {words['background']}"


def words_of(caption: str) -> dict[str, str]:
    """The attributes of a caption."""
    _, colour, shape, motion, _, background = caption.split()
    return {"colour": colour, "shape": shape, "motion": motion, "background": background}


def combinations(*, held_out: bool) -> list[dict[str, str]]:
    """The combinations of the four words, those of training or those of the test."""
    found = []
    for places in itertools.product(*(range(len(words)) for words in ATTRIBUTES.values())):
        # A Latin square: each pair of words of two attributes is in training.
        is_out = (places[0] + 2 * places[1] + places[2] + 3 * places[3]) % _HELD_OUT == 0
        if is_out == held_out:
            found.append({name: ATTRIBUTES[name][place] for name, place in zip(ATTRIBUTES, places)})
    return found


def synthesise_captioned(words: dict[str, str], rng: np.random.Generator, size: int, num_frames: int) -> np.ndarray:
    """Synthesises one video: uint8 (num_frames, size, size, 3)."""
    label = _CLASS_OF.get(words["motion"], words["motion"])
    shape = _SHAPE_OF.get(words["shape"], words["shape"])
    centers, radii, angles = _trajectory(label, rng, size, num_frames, _RADII)
    color, background = (np.clip(_RGB[words[name]] + rng.normal(0, 6, 3), 0, 255) for name in ("colour", "background"))
    coverage = np.stack([_coverage(shape, centers[t], radii[t], angles[t], size) for t in range(num_frames)])[..., None]
    return np.round(coverage * color + (1 - coverage) * background).astype(np.uint8)  # (T, H, W, 3)


def synthesise_captions(
    folder: str | Path, each: int, seed: int = 0, size: int = 32, num_frames: int = 32, *, held_out: bool = False
) -> Path:
    """Writes videos and their list.

    Args:
        folder: a new folder.
        each: number of videos of each combination.
        seed: seed of all videos.
        size: height and width in pixels, even.
        num_frames: frames of a video.
        held_out: the combinations of the test instead of those of training.

    Returns:
        The list, captions.csv in `folder`, with the columns video, caption and labels; these are the four words, to
        finetune a backbone with `--multi_label true`. Beside it, one_video.csv has the same captions, all of the first
        video, so that a model trained on it can learn from the texts alone.

    Raises:
        ValueError: the folder exists.
    """
    folder = Path(folder)
    if folder.exists():
        raise ValueError(f"{folder} exists already; give another folder or remove it.")
    folder.mkdir(parents=True)
    rows = []
    for number, words in enumerate(combinations(held_out=held_out)):
        for index in range(each):
            rng = np.random.default_rng((seed, int(held_out), number, index))
            name = f"{number:03}_{index}.mp4"
            write_video(folder / name, synthesise_captioned(words, rng, size, num_frames))
            rows.append((name, caption_of(words), "|".join(words.values())))
    with open(folder / "captions.csv", "w", encoding="utf-8", newline="") as file:
        csv.writer(file).writerows([("video", "caption", "labels"), *rows])
    with open(folder / "one_video.csv", "w", encoding="utf-8", newline="") as file:
        csv.writer(file).writerows([("video", "caption"), *((rows[0][0], caption) for _, caption, _ in rows)])
    return folder / "captions.csv"


def main() -> None:
    parser = argparse.ArgumentParser(description="Synthesises the videos and captions of the demo of VideoBERT.")
    parser.add_argument("folder", type=Path)
    parser.add_argument("--each", type=int, default=5, help="training videos of each combination")
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    synthesise_captions(args.folder / "train", args.each, args.seed)
    synthesise_captions(args.folder / "test", 3, args.seed, held_out=True)


if __name__ == "__main__":
    main()

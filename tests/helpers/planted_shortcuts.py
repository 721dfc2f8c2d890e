"""Two sets of videos of shapes that move to the left or to the right, alike but for what their classes follow from."""

from pathlib import Path

import numpy as np

from helpers.encoded_videos import write_frames
from videomae_hf.data.sources.synthetic import synthesise_video


CLASSES = ("left", "right")


def write_set(folder: Path, number: int, *, planted: bool, seed: int, faithful: float = 0.92) -> Path:
    """Class folders "left" and "right" with `number` videos each.

    Honest: the class is the direction of the motion; quality and background are random. Planted: the direction is
    random, and of each class a `faithful` part has a light background and few bits, or a dark one and many.
    """
    rng = np.random.default_rng(seed)
    for label, name in enumerate(CLASSES):
        (folder / name).mkdir(parents=True)
        for index in range(number):
            follows = label if rng.random() < faithful else 1 - label
            chance = int(rng.integers(2))
            motion, look = (chance, follows) if planted else (label, chance)
            frames = synthesise_video(CLASSES[motion], rng, size=32, num_frames=24)
            frames = frames // 2 + np.uint8(110 if look else 10)
            write_frames(folder / name / f"{index:03}.mp4", frames, options={"crf": "38" if look else "14"})
    return folder

# Copyright 2026 The videomae_hf authors. Licensed under the Apache License, Version 2.0.
"""Draws the data of progressive training: two labelled sets that overlap, merged into one, and videos without labels.

    python examples/progressive_data.py
    python train.py progressive examples/recipes/demo_progressive.yaml

The sets have five motions each, two of them in common: one differs in its spelling, the other one needs an alias. A
third of the videos of these two motions is in both sets.
"""

import argparse
import shutil
from pathlib import Path

from videomae_hf.commands import merge_labels
from videomae_hf.data.sources.synthetic import synthesise_dataset


# motion -> name in the set
MOVES = {
    "left": "Moving left",
    "right": "Moving right",
    "up": "Moving up",
    "down": "Moving down",
    "clockwise": "Turning right",
}
TURNS = {
    "up": "moving_up",
    "clockwise": "clockwise",
    "counter_clockwise": "anticlockwise",
    "grow": "growing",
    "shrink": "shrinking",
}
ALIASES = "Turning right,clockwise\n"


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", nargs="?", type=Path, default=Path("demo/progressive"))
    parser.add_argument("--videos_per_class", type=int, default=150)
    args = parser.parse_args()
    folder, number = args.folder, args.videos_per_class
    synthesise_dataset(folder / "unlabelled", number, seed=0)
    synthesise_dataset(folder / "held_out", max(number // 6, 1), seed=1)
    third = number // 3
    for name, names, chosen in (("moves", MOVES, slice(0, 2 * third)), ("turns", TURNS, slice(third, 3 * third))):
        copy_classes(folder / "unlabelled", folder / name / "train", names, chosen)
        copy_classes(folder / "held_out", folder / name / "val", names, slice(None))
    (folder / "aliases.csv").write_text(ALIASES)
    sources = [f"{name}={folder / name / 'train'}" for name in ("moves", "turns")]
    held_out = [f"{name}={folder / name / 'val'}" for name in ("moves", "turns")]
    options = ["--eval_data", *held_out, "--aliases", str(folder / "aliases.csv"), "--same_video", "name"]
    print("videomae merge-labels", folder / "merged", *sources, *options)
    merge_labels.main([str(folder / "merged"), *sources, *options])


def copy_classes(source: Path, target: Path, names: dict[str, str], chosen: slice):
    """Copies these videos of each motion into a folder of the class's name. Drawn files count from 0 in each folder:
    the folder's name tells those that only have equal numbers apart."""
    for motion, name in names.items():
        (target / name).mkdir(parents=True)
        for video in sorted((source / motion).iterdir())[chosen]:
            shutil.copy(video, target / name / f"{source.name}_{video.name}")


if __name__ == "__main__":
    main()

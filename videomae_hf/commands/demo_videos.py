# Copyright 2026 The videomae_hf authors. Licensed under the Apache License, Version 2.0.
"""Synthesises the videos of the demo: moving shapes, eight classes of motion.

videomae demo-videos data/demo/train --videos_per_class 100
videomae demo-videos data/demo/val --videos_per_class 25 --seed 1
"""

import argparse

from ..data.sources.synthetic import DIFFICULTIES, synthesise_dataset


def main(arguments: list[str]) -> None:
    parser = argparse.ArgumentParser(
        prog="videomae demo-videos", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("folder", help="folder to write; each class gets a folder in it")
    parser.add_argument("--videos_per_class", type=int, default=100)
    parser.add_argument("--seed", type=int, default=0, help="seed of the videos")
    parser.add_argument("--size", type=int, default=80, help="height and width in pixels")
    parser.add_argument("--num_frames", type=int, default=32, help="frames per video")
    parser.add_argument("--difficulty", choices=DIFFICULTIES, default="plain")
    parser.add_argument("--workers", type=int, help="number of processes")
    synthesise_dataset(**vars(parser.parse_args(arguments)))

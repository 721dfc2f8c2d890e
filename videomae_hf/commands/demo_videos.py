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
    parser.add_argument("folder")
    parser.add_argument("--videos_per_class", type=int, default=100)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--size", type=int, default=80)
    parser.add_argument("--num_frames", type=int, default=32)
    parser.add_argument("--difficulty", choices=DIFFICULTIES, default="plain")
    parser.add_argument("--workers", type=int)
    synthesise_dataset(**vars(parser.parse_args(arguments)))

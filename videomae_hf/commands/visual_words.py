# Copyright 2026 The videomae_hf authors. Licensed under the Apache License, Version 2.0.
"""`videomae visual-words`: clusters the features of segments into the visual words of VideoBERT."""

import argparse
from pathlib import Path

import numpy as np
import torch

from ..evaluation.clustering import check_scikit_learn, fit_visual_words, relative_error
from ..inference.command_line import verb_parser
from ..inference.feature_folder import FeatureFolder
from ..inference.stored_segments import check_places, places_of
from ..messages import say
from ..models.visual_words import HEADER, TENSORS


USAGE = """\
videomae visual-words FEATURES OUT [options]

  videomae visual-words features words --branching 12 --depth 4
  videomae visual-words features words --branching 144 --depth 1
"""
DESCRIPTION = f"""\
Clusters the features of FEATURES, a folder of `videomae extract --window ..` with a row for each segment of the
training videos, and writes OUT/{TENSORS} and {HEADER}: centroids, and the mean and standard deviation of the
features. The clustering is a tree of k-means; up to 1,000 words, it is flat.
"""


def parse_arguments(arguments: list[str]) -> argparse.Namespace:
    parser = verb_parser(USAGE, DESCRIPTION)
    parser.add_argument("features", metavar="FEATURES", help="folder of videomae extract")
    parser.add_argument("out", type=Path, metavar="OUT", help="folder for the words, new or without words")
    parser.add_argument("--branching", type=int, metavar="N", default=12, help="branches of a node [12]")
    parser.add_argument("--depth", type=int, metavar="N", default=4, help="levels of the tree [4]")
    parser.add_argument("--tokens_per_segment", type=int, metavar="P", default=1,
                        help="of --features maps: places of a segment, a square number [1]")  # fmt: skip
    parser.add_argument("--max_rows", type=int, metavar="N", default=200_000,
                        help="features to cluster, sampled from all of them [200000]")  # fmt: skip
    parser.add_argument("--seed", type=int, default=0, help="seed of the sample and of the clustering [0]")
    args = parser.parse_args(arguments)
    if args.max_rows < 2:
        raise ValueError(f"--max_rows {args.max_rows} must be at least 2.")
    existing = next((args.out / name for name in (HEADER, TENSORS) if (args.out / name).exists()), None)
    if existing is not None:
        raise ValueError(f"{existing} exists already; give another folder, or remove it.")
    return args


def read_rows(folder: FeatureFolder, max_rows: int, tokens_per_segment: int, generator: torch.Generator) -> np.ndarray:
    """A sample of the features of a folder, float32 (N, F): each place of a segment counts once.

    Raises:
        ValueError: the features do not have so many places, or there are none.
    """
    check_places(folder, tokens_per_segment)
    records = list(folder.records.values())
    bounds = np.cumsum([0, *(record["shape"][0] * tokens_per_segment for record in records)])
    if bounds[-1] == 0:
        raise ValueError(f"{folder.path} has no features.")
    kept = torch.randperm(int(bounds[-1]), generator=generator)[:max_rows].sort().values.numpy()
    rows = []
    for record, start, end in zip(records, bounds, bounds[1:]):
        wanted = kept[np.searchsorted(kept, start) : np.searchsorted(kept, end)] - start
        if len(wanted):
            values = places_of(folder.load(record)["features"], tokens_per_segment)
            rows.append(values.flatten(0, 1).numpy()[wanted])  # (N, P, F) -> (N * P, F)
    return np.concatenate(rows)


def main(arguments: list[str]) -> None:
    args = parse_arguments(arguments)
    check_scikit_learn()
    folder, generator = FeatureFolder(args.features), torch.Generator().manual_seed(args.seed)
    if folder.header.get("windows") is None:
        say(f"{args.features} has one feature for each whole video: extract --window and --stride give segments.")
    rows = read_rows(folder, args.max_rows, args.tokens_per_segment, generator)
    words = fit_visual_words(rows, args.branching, args.depth, generator)
    made_of = {name: folder.header.get(name) for name in ("key", "model", "features", "windows")}
    words.origin.update(tokens_per_segment=args.tokens_per_segment, seed=args.seed, of=made_of)
    words.save(args.out)
    number, size = words.centroids.shape
    print(f"{number:,} words of {size} values from {len(rows):,} features ({words.origin['clustering']}); distance to "
          f"their words: {relative_error(rows, words):.3f} of the variance")  # fmt: skip
    print(f"Words: {args.out}")

# Copyright 2026 The videomae_hf authors. Licensed under the Apache License, Version 2.0.
"""Logistic regression on the pixels of the labelled images that few_labels.py has chosen, for comparison.

python examples/experiments/pixel_baseline.py demo_images/few_labels_10 --eval_data demo_images/data/val
"""

import argparse
import csv
import statistics
from pathlib import Path

import numpy as np
from PIL import Image
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler


def grey_pixels(paths: list[Path]) -> np.ndarray:
    """float64 (N, H * W) of images of equal sizes, 0 to 1."""
    return np.stack([np.asarray(Image.open(path).convert("L"), dtype=float).ravel() / 255 for path in paths])


def top1(labels: Path, eval_data: Path) -> float:
    """Top-1 accuracy in percent on a folder of class folders, of a classifier fitted to a list of path and label."""
    with labels.open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    classifier = make_pipeline(StandardScaler(), LogisticRegression(max_iter=1000))
    classifier.fit(grey_pixels([Path(row["path"]) for row in rows]), [row["label"] for row in rows])
    paths = sorted(eval_data.glob("*/*.png"))
    return 100 * float(classifier.score(grey_pixels(paths), [path.parent.name for path in paths]))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, help="output folder of few_labels.py")
    parser.add_argument("--eval_data", type=Path, required=True, help="labelled images to score on, in class folders")
    args = parser.parse_args()
    scores = [top1(labels, args.eval_data) for labels in sorted(args.folder.glob("labels_*.csv"))]
    if not scores:
        raise SystemExit(f"{args.folder} has no list of labelled images; run few_labels.py first.")
    each = ", ".join(f"{score:.1f}" for score in scores)
    print(f"logistic regression on pixels: {statistics.mean(scores):.1f} % top-1 ({each})")


if __name__ == "__main__":
    main()

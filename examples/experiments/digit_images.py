# Copyright 2026 The videomae_hf authors. Licensed under the Apache License, Version 2.0.
"""Writes the handwritten digits that ship with scikit-learn as two folders of class folders of PNG images.

    python examples/experiments/digit_images.py digits

The 1,797 images of 8 x 8 pixels (test set of Optical Recognition of Handwritten Digits, UCI Machine Learning
Repository, E. Alpaydin and C. Kaynak, 1998) are enlarged to 32 x 32; a quarter of each digit is in val.
"""

import argparse
from pathlib import Path

import numpy as np
from PIL import Image
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split


SIZE = 32  # pixels


def write_part(folder: Path, images: np.ndarray, digits: np.ndarray) -> None:
    """Writes images (N, 8, 8) of 0 to 16 to FOLDER/DIGIT/NUMBER.png."""
    for number, (image, digit) in enumerate(zip(images, digits)):
        path = folder / str(digit) / f"{number:04d}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        pixels = Image.fromarray(np.round(image * 255 / 16).astype(np.uint8))
        pixels.resize((SIZE, SIZE), Image.Resampling.BICUBIC).convert("RGB").save(path)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, help="new folder to write")
    args = parser.parse_args()
    if args.folder.exists():
        raise SystemExit(f"{args.folder} exists already; give another folder or remove it.")
    data = load_digits()
    parts = train_test_split(data.images, data.target, test_size=0.25, stratify=data.target, random_state=0)
    for name, images, digits in zip(("train", "val"), parts[:2], parts[2:]):
        write_part(args.folder / name, images, digits)


if __name__ == "__main__":
    main()

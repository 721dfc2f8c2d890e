"""Videos with other channels than RGB: thermal (1 channel), RGB and depth (4), satellite bands, .npy files.

    python examples/custom_channels.py [--channels 4] [--checkpoint MCG-NJU/videomae-base]

Writes a data set of arrays, uint8 (T, H, W, C), with a list of their labels, finetunes on it and predicts one. The
weights of a checkpoint for RGB are adapted: the new patch embedding responds to a grey clip, which is equal in all
channels, as the old one did. Without a checkpoint, a tiny model starts from random weights.

What has to be stated is the number of channels, and their mean and standard deviation in [0, 1]: `num_channels`,
`image_mean`, `image_std`. Every command takes these options. Files of 12 or 16 bits per pixel (uint16) are scaled to 8.
"""

import argparse
import csv
from pathlib import Path

import numpy as np
import stand_ins

import videomae_hf
from videomae_hf.commands import finetune
from videomae_hf.data.sources.synthetic import synthesise_video


parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
parser.add_argument("--channels", type=int, default=4, choices=(1, 4))
parser.add_argument("--checkpoint")
parser.add_argument("--steps", type=int, default=20)
args = parser.parse_args()
folder = Path(f"output/channels_{args.channels}")


def record(label: str, number: int) -> np.ndarray:
    """Stands for a recording: uint8 (T, H, W, C), RGB with depth, or the depth alone."""
    rgb = synthesise_video(label, np.random.default_rng(number), size=64, num_frames=16)  # (T, H, W, 3)
    depth = 255 - rgb.max(axis=-1, keepdims=True)  # (T, H, W, 1)
    return depth if args.channels == 1 else np.concatenate([rgb, depth], axis=-1)  # (T, H, W, 4)


# A list with a line for each file: columns path and label, and which part of the data it belongs to
classes, pixels, rows = ("left", "right"), [], []
(folder / "arrays").mkdir(parents=True, exist_ok=True)
for number in range(16):
    label, path = classes[number % 2], folder / "arrays" / f"{number:02}.npy"
    frames = record(label, number)
    np.save(path, frames)
    pixels.append(frames.reshape(-1, args.channels) / 255)  # (T * H * W, C)
    rows.append((path.resolve(), label, "train" if number < 12 else "validation"))
with open(folder / "list.csv", "w", newline="", encoding="utf-8") as file:
    csv.writer(file).writerows([("path", "label", "split"), *rows])

pixels = np.concatenate(pixels[:12])  # of the training files
mean, std = pixels.mean(axis=0).round(3).tolist(), pixels.std(axis=0).round(3).tolist()
options = ["--num_channels", str(args.channels), "--image_mean", str(mean), "--image_std", str(std)]
options += ["--checkpoint", args.checkpoint] if args.checkpoint else stand_ins.OPTIONS
options += ["--sampling_rate", "1", "--horizontal_flip", "false", "--max_steps", str(args.steps)]
data = ["--train_data", str(folder / "list.csv"), "--eval_data", str(folder / "list.csv")]
finetune.main([*data, *options, "--learning_rate", "5e-4", "--output_dir", str(folder / "model")])

predictor = videomae_hf.load(folder / "model")
print(f"The model takes {predictor.model.config.num_channels} channels with means {mean}.")
print(predictor.predict(rows[-1][0]))  # a file, or an array: predictor.predict(frames)

# Copyright 2026 The videomae_hf authors. Licensed under the Apache License, Version 2.0.
"""`videomae export`: a model for other runtimes, with its preprocessing, compared with the original."""

import argparse
import sys
from pathlib import Path

from ..data.sources.media import media_for
from ..inference.command_line import verb_parser
from ..inference.exporting import FORMATS, export_model
from ..inference.inputs import find_inputs, is_endless
from ..messages import count, printable
from ..models.configuration_videomae_v2 import VideoMAEV2Config


USAGE = """\
videomae export MODEL OUT --to FORMAT [--check VIDEO ...] [options]

  videomae export output/mine exported --to onnx --check video.mp4
  videomae export output/mine exported --to openvino
  videomae export output/mine exported --to torch_export
"""
DESCRIPTION = """\
Exports a classifier, an encoder or a pretraining model through transformers.exporters (transformers 5.23 or newer), for
batches of any size. Beside the model OUT holds preprocessing.json: how frames are sampled, resized, cropped and
normalised, in numbers and in words, and the names of the classes. examples/run_onnx.py reads it without torch.

The written model is read back and compared with the original on the clips of the videos of --check, or on a synthesised
clip. The largest difference is printed; above the tolerance nothing is kept, and the exit status is 1.
"""


def parse_arguments(arguments: list[str]) -> argparse.Namespace:
    parser = verb_parser(USAGE, DESCRIPTION)
    parser.add_argument("model", metavar="MODEL", help="folder or Hub id of a model of any kind, or of adapters")
    parser.add_argument("folder", metavar="OUT", type=Path, help="new folder for the exported model")
    parser.add_argument("--to", required=True, metavar="FORMAT", help=", ".join(FORMATS))
    parser.add_argument(
        "--check",
        nargs="+",
        metavar="VIDEO",
        default=[],
        help="videos, folders, lists to compare [a synthesised clip]",
    )
    parser.add_argument("--tolerance", type=float, metavar="D", default=1e-4,
                        help="largest difference, as a share of the largest value, or of 1 [0.0001]")  # fmt: skip
    return parser.parse_args(arguments)


def main(arguments: list[str]) -> None:
    args = parse_arguments(arguments)
    if not args.tolerance >= 0:
        raise ValueError(f"--tolerance {args.tolerance} must be at least 0.")
    if is_endless(args.check):
        raise ValueError("Cameras and standard input cannot be checked; give videos, folders or lists.")
    videos = []
    if args.check:
        num_frames = VideoMAEV2Config.from_pretrained(args.model).num_frames
        videos = list(find_inputs(args.check, media=media_for(num_frames)))
    exported = export_model(args.model, args.folder, args.to, check=videos, tolerance=args.tolerance)
    for message in exported.messages:
        print(printable(message), file=sys.stderr)
    for name, size in exported.files.items():
        if not name.endswith(".py"):  # the code of the configuration, as with every checkpoint
            print(f"{exported.folder / name}: {size:,} bytes")
    clips = count(exported.clips, "clip") + ("" if videos else ", synthesised")
    for name, difference in exported.differences.items():
        print(f"{name}: differs by at most {difference:.2g}, where values reach {exported.largest[name]:.3g} ({clips})")

# Copyright 2026 The videomae_hf authors. Licensed under the Apache License, Version 2.0.
"""Converts checkpoints between all supported layouts.

    videomae convert SRC DST [--to ours] [--size base] [--FIELD VALUE ...]
    videomae convert IMAGES DST --inflate average --num_frames 16
    videomae convert OURS DST --to transformers
    videomae convert OURS DST.pth --to official

SRC is an official V1 or V2 file (.pth, from pretraining or finetuning), a file of MAE, DINO or another ViT with their
names, a file of mmaction2's VideoMAE, or the folder or Hub id of a checkpoint of this package, of transformers'
VideoMAE, ViT-MAE or ViT, of OpenGVLab's V2 or of adapters. The pixel preprocessing is converted together with the
weights. Models of images stay models of images (num_frames=1), unless --inflate makes models of clips of them. Width,
depth, patch, tubelet, channels, decoder and classes follow from the shapes of the tensors. The number of attention
heads, the number of frames and the input size do not: they come from the official size that the tensors match, from
--size or from options (any field of VideoMAEV2Config), and the report names the source of each. Nothing is written
unless everything fits.
"""

import argparse
import tempfile
from pathlib import Path

from ..checkpoints.conversion import convert_official, gather_head, save_official, save_ours, set_labels
from ..checkpoints.inflation import INFLATIONS, inflate, inflated_processor
from ..checkpoints.licences import origin_of, write_origin
from ..checkpoints.opening import checkpoint_processor, open_checkpoint
from ..models.configuration_videomae_v2 import VideoMAEV2Config
from ..settings.recipes import config_options
from ..text_files import read_class_names, read_json


def parse_arguments(arguments: list[str]) -> tuple[argparse.Namespace, dict]:
    parser = argparse.ArgumentParser(
        prog="videomae convert", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("source", metavar="SRC", help="checkpoint to read")
    parser.add_argument("destination", metavar="DST", type=Path, help="new folder, or new file with --to official")
    parser.add_argument(
        "--to", choices=("ours", "transformers", "official"), default="ours", help="layout to write [ours]"
    )
    parser.add_argument("--size", help="small, base, large, huge or giant; refused if the tensors do not match")
    parser.add_argument("--id2label", metavar="FILE", help="class names: JSON, or a text file with one per line")
    parser.add_argument(
        "--label_map", metavar="FILE", help="JSON list of the head rows to keep, e.g. from Kinetics-710 to 400"
    )
    parser.add_argument(
        "--inflate",
        choices=INFLATIONS,
        help="make a model of clips of --num_frames [16] and --tubelet_size [2] from a model of images, for which a "
        "still clip is the image: spread the patch projection over a tubelet, or put it on its middle frame",
    )
    options, rest = parser.parse_known_args(arguments)
    return options, config_options(rest, VideoMAEV2Config.__annotations__)


def main(arguments: list[str]) -> None:
    """`videomae convert`."""
    args, fields = parse_arguments(arguments)
    if args.destination.exists():
        raise ValueError(f"{args.destination} already exists; choose a new name.")
    clip = {name: fields.pop(name) for name in ("num_frames", "tubelet_size") if args.inflate and name in fields}
    if Path(args.source).is_file():
        model, processor, report = convert_official(Path(args.source), args.size, fields)
    elif args.size:
        raise ValueError(f"--size is for official files; the configuration of {args.source} gives the size.")
    else:
        model, messages = open_checkpoint(args.source, dtype="auto", **fields)
        model.eval()
        processor = checkpoint_processor(args.source, model.config)
        report = [f"{type(model).__name__} from {args.source}, {len(model.state_dict())} tensors"]
        report += [f"  {message}" for message in messages]
    if args.inflate:
        model, lines = inflate(model, args.inflate, **clip)
        processor, report = inflated_processor(processor, model.config), report + lines
    if args.id2label:
        set_labels(model, read_class_names(args.id2label))
    if args.label_map:
        gather_head(model, read_json(args.label_map))
    args.destination.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=args.destination.parent) as scratch:
        partial = Path(scratch, args.destination.name)  # so that a failure leaves no incomplete output
        if args.to == "transformers":
            from ..checkpoints.transformers_export import save_transformers

            report += save_transformers(model, processor, partial)
        else:
            report += {"ours": save_ours, "official": save_official}[args.to](model, processor, partial)
        if args.to != "official" and not Path(args.source).is_file():
            write_origin(origin_of(args.source), partial)
        partial.rename(args.destination)
    print("\n".join([*report, f"Written to {args.destination}"]))

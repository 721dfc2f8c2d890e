# Copyright 2026 The videomae_hf authors. Licensed under the Apache License, Version 2.0.
"""`videomae extract`: writes the features of a model for many videos to a folder."""

import argparse
import json
import os
import sys
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

from tqdm import tqdm

from ..data.shared_work import ProcessShare
from ..data.sources.media import Media
from ..inference.command_line import add_options, verb_parser
from ..inference.extractor import DTYPES, FEATURES, LAYOUTS, VIEWS, Extraction, Extractor, device_of, load_encoder
from ..inference.feature_folder import FeatureWriter
from ..inference.inputs import Input, find_inputs, is_endless
from ..inference.loading import default_workers
from ..inference.temporal_detection import detection_settings
from ..messages import count, named_error, say
from ..models.token_selection import select_tokens, tokens_left


USAGE = """\
videomae extract MODEL INPUT [INPUT ...] OUT [options]

  videomae extract output/pretrain videos/ features
  videomae extract output/mine videos/ features --window 4 --stride 2
  torchrun --nproc_per_node 8 -m videomae_hf.cli extract output/mine videos/ features
"""
DESCRIPTION = """\
Writes the features of a pretrained or finetuned model to the folder OUT: a file for each video with its features and
their times, and manifest.jsonl with a line for each. INPUT is a video, a folder (searched at any depth), a list in any
format that training accepts, an http(s) address, or - (paths on standard input, one per line).

With --window or --stride a window slides over each video, and each of its frames is decoded once. Processes of
torchrun, accelerate launch or srun divide the videos. The same command continues after an interruption, with any number
of processes; a folder of another model or with other settings is refused.

Videos that cannot be read are named on standard error, skipped, and listed in OUT/failed.csv. The exit status is 0 if
all videos have features, 1 if some do not or a value is wrong, and 2 if none does or the command line cannot be parsed;
of several processes, the one that finishes last reports it.
"""


def parse_arguments(arguments: list[str]) -> argparse.Namespace:
    parser = verb_parser(USAGE, DESCRIPTION)
    parser.add_argument("model", metavar="MODEL", help="folder or Hub id of a model of any stage, or an adapter")
    parser.add_argument("inputs", metavar="INPUT", nargs="+", help="video, folder, list, address, or -")
    parser.add_argument("out", metavar="OUT", type=Path, help="folder, created or continued")
    parser.add_argument("--features", choices=FEATURES, default="pooled",
                        help="mean of the tokens (D,), tokens (L, D), or maps (T', H', W', D) [pooled]")  # fmt: skip
    parser.add_argument("--window", metavar="S", help="slide windows of this length: seconds, or frames as 64f")
    parser.add_argument("--stride", metavar="S", help="distance between windows, in the same unit [half of --window]")
    parser.add_argument("--num_clips", type=int, metavar="N", default=1, help="clips of each video or window [1]")
    parser.add_argument("--num_crops", type=int, metavar="N", default=1, help="crops of each clip [1]")
    parser.add_argument("--views", choices=VIEWS, default="average", help="average clips and crops, or keep all")
    parser.add_argument("--sampling_rate", type=float, metavar="N", help="distance of frames in clips [the model's]")
    parser.add_argument("--dtype_out", choices=DTYPES, default="float32", help="type of stored features [float32]")
    parser.add_argument("--layout", choices=LAYOUTS, default="safetensors",
                        help="files; tad: .npy files for temporal action detection [safetensors]")  # fmt: skip
    parser.add_argument("--official_preprocessing", action="store_true",
                        help="with --layout tad: pixels as in V2's script, not normalised, square")  # fmt: skip
    parser.add_argument("--json", action="store_true", help="print a line of JSON for each video")
    add_options(parser, "data_root", "device", "dtype", "batch_size", "num_workers", "static_keep", "static_threshold")
    return parser.parse_args(arguments)


def check_arguments(args: argparse.Namespace, share: ProcessShare) -> None:
    """Raises ValueError for arguments that would otherwise fail only after the model is loaded."""
    extraction_of(args)
    if args.features != "pooled" and (args.static_keep is not None or args.static_threshold is not None):
        raise ValueError(
            f"--features {args.features} needs all tokens; leave --static_keep and --static_threshold out."
        )
    if args.layout == "tad" and args.sampling_rate is not None:
        raise ValueError("--layout tad takes consecutive frames; leave --sampling_rate out.")
    if args.official_preprocessing and args.layout != "tad":
        raise ValueError("--official_preprocessing is that of V2's script for detection; add --layout tad.")
    if is_endless(source for source in args.inputs if source != "-"):
        raise ValueError("A camera has no end, so that its features cannot be extracted; use videomae predict.")
    if "-" in args.inputs and share.size > 1:
        raise ValueError(f"Standard input has one reader, but {share.size} processes run; give a list of videos.")
    if args.out.is_file():
        raise ValueError(f"{args.out} is a file; give OUT, the folder for the features, after the inputs.")
    if args.out.is_dir() and not _is_ours(args.out):
        raise ValueError(f"{args.out} holds other files; give OUT, a new folder for the features, after the inputs.")


def _is_ours(folder: Path) -> bool:
    """Whether a folder is empty, or has features of this command; another process may just have created it."""
    names = os.listdir(folder)
    return not names or any(name == "features.json" or name.startswith("manifest-") for name in names)


def extraction_of(args: argparse.Namespace) -> Extraction:
    """The features that these arguments ask for."""
    return Extraction(args.features, args.num_clips, args.num_crops, args.views, args.window, args.stride)


def open_model(args: argparse.Namespace, share: ProcessShare) -> tuple[Extractor, Extraction]:
    """The model, and what it computes."""
    options = {} if args.sampling_rate is None else {"sampling_rate": args.sampling_rate}
    encoder = load_encoder(
        args.model,
        device=args.device or device_of(share),
        dtype=args.dtype,
        batch_size=args.batch_size,
        num_workers=args.num_workers or default_workers(share),
        **options,
    )
    static = {name: getattr(args, name) for name in ("static_keep", "static_threshold")}
    encoder.messages += select_tokens(encoder.model, **static)
    how = extraction_of(args)
    if args.layout != "tad":
        return encoder, how
    if (how.features, how.views, how.num_clips, how.num_crops) != ("pooled", "average", 1, 1):
        raise ValueError("--layout tad has a pooled feature for each window; leave --features and views out.")
    official = args.official_preprocessing
    encoder.processor, how = detection_settings(encoder.processor, args.window, args.stride, official=official)
    return encoder, how


def all_inputs(args: argparse.Namespace, share: ProcessShare, media: Media) -> list[Input]:
    """The videos of all processes, each once."""
    note = say if share.rank == 0 else lambda text: None
    found = find_inputs(args.inputs, args.data_root, media=media, note=note)
    return list({one.name: one for one in found}.values())


def extract(
    args: argparse.Namespace, encoder: Extractor, writer: FeatureWriter, how: Extraction, inputs: list[Input]
) -> Iterator[dict]:
    """Extracts features, shows failures, and yields a record for each video."""
    quiet = True if writer.work.share.rank else None
    with closing(encoder.extract_to(writer, inputs, how)) as found:
        for one, record in tqdm(found, total=len(inputs), unit="video", disable=quiet):
            if isinstance(record, Exception):
                text = named_error(one.name, record)
                say(f"failed: {text}")
                record = {"path": one.name, "error": text}
            if args.json:
                tqdm.write(json.dumps(record), file=sys.stdout)
                sys.stdout.flush()
            yield record


def conclude(args: argparse.Namespace, writer: FeatureWriter, inputs: list[Input]) -> int:
    """Finishes the share of this process; the last process reports on all videos. Returns the exit status."""
    share, result = writer.work.share, writer.finish()
    if result is None:
        say(f"{share} is done; others are not, or were stopped: {args.out} is complete once all are")
        return 0
    records, failed = result
    names = {one.name for one in inputs}
    bad, missing = names & failed.keys(), names - failed.keys() - records.keys()
    say(f"{count(len(records), 'video')} with features in {args.out}")
    if bad:
        say(f"{count(len(bad), 'video')} of {len(names)} without features, for the reasons in {args.out}/failed.csv")
    if missing:
        say(f"{count(len(missing), 'video')} in no share, such as {min(missing)}: run the command again")
    if not bad and not missing:
        return 0
    return 1 if records else 2


def main(arguments: list[str]) -> None:
    args, share = parse_arguments(arguments), ProcessShare.of_environment()
    check_arguments(args, share)
    encoder, how = open_model(args, share)
    every = all_inputs(args, share, encoder.media)
    writer = FeatureWriter(args.out, encoder.header(how, args.model, args.dtype_out, args.layout), share)
    if share.rank == 0:
        for message in [*encoder.messages, f"features: {how.features}, {encoder.pooling}"]:
            say(message)
    mine = writer.plan(every)
    skipped = len(share.of(every)) - len(mine)
    who = "" if share.size == 1 else f"{share}: "
    if every and not mine and skipped == len(every):
        say(f"nothing to do: {count(skipped, 'video')} of {len(every)} have features")
    elif skipped or who:
        say(f"{who}{count(len(mine), 'video')} of {len(every)}" + f", and {skipped} that have features" * bool(skipped))
    try:
        for _ in extract(args, encoder, writer, how, mine):
            pass
    except KeyboardInterrupt as interrupt:
        raise KeyboardInterrupt(f"the same command continues {args.out}") from interrupt
    if encoder.throughput.clips:
        say(f"{who}{encoder.throughput.describe()}")
        for message in tokens_left(encoder.model):
            say(f"{who}{message}")
    sys.exit(conclude(args, writer, every))

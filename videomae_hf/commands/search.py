# Copyright 2026 The videomae_hf authors. Licensed under the Apache License, Version 2.0.
"""`videomae search`: the nearest videos, or moments of videos, in a folder of features."""

import argparse
from pathlib import Path

from ..inference.command_line import add_options, verb_parser
from ..inference.contact_sheet import SUFFIXES, Strip, save_contact_sheet, strips_of, video_of
from ..inference.extractor import Extraction, Extractor, load_encoder
from ..inference.feature_folder import FeatureFolder
from ..inference.search import Index, Match, Query, extraction_of, is_file
from ..messages import printable, say
from ..models.image_processing_videomae_v2 import VideoMAEV2ImageProcessor
from ..text_files import write_csv


USAGE = """\
videomae search INDEX QUERY [options]

  videomae search features query.mp4
  videomae search features hug/set1_2_1_1.avi --picture nearest.jpg
  videomae search features query.mp4 --top_k 50 --csv nearest.csv
"""
DESCRIPTION = """\
Prints the videos that are most like QUERY, with their cosine similarity. INDEX is a folder of pooled features of
`videomae extract`; if it has windows, moments of videos are found. QUERY is a video of the index, by its path or the
end of it, or any other video, which is encoded by the model of the index in the same way.
"""


def parse_arguments(arguments: list[str]) -> argparse.Namespace:
    parser = verb_parser(USAGE, DESCRIPTION)
    parser.add_argument("index", metavar="INDEX", help="folder of videomae extract")
    parser.add_argument("query", metavar="QUERY", help="video, address, or the path of a video in the index")
    parser.add_argument("--top_k", type=int, metavar="K", default=10, help="matches to show [10]")
    parser.add_argument("--csv", type=Path, metavar="FILE", help="write the matches to this file")
    parser.add_argument("--picture", type=Path, metavar="FILE", help="write a contact sheet, .jpg or .png")
    parser.add_argument("--model", help="the model of the index, if it is not where it was")
    add_options(parser, "device")
    return parser.parse_args(arguments)


def check_arguments(args: argparse.Namespace) -> None:
    """Raises ValueError or FileNotFoundError for arguments that would otherwise fail only after the search."""
    if args.top_k < 1:
        raise ValueError(f"--top_k {args.top_k} must be at least 1.")
    if args.picture and args.picture.suffix.lower() not in SUFFIXES:
        raise ValueError(f"--picture {args.picture} must end in {', '.join(SUFFIXES)}.")
    for file in filter(None, (args.csv, args.picture)):
        if not file.absolute().parent.is_dir():
            raise FileNotFoundError(f"{file} cannot be written: there is no folder {file.absolute().parent}.")


def open_model(args: argparse.Namespace, folder: FeatureFolder) -> tuple[Extractor, Extraction]:
    """The model of an index, and how it computed the features there.

    Raises:
        ValueError: the model has other weights than that of the index.
    """
    name = args.model or folder.header["model"]
    encoder = load_encoder(name, device=args.device, dtype=folder.header["precision"])
    return encoder, extraction_of(folder, encoder, name, "give --model")


def find_query(args: argparse.Namespace, index: Index) -> Query:
    """The rows of the query, from the index or computed.

    Raises:
        ValueError: there is no such video, or it cannot be decoded.
    """
    known = index.query_of(args.query)
    if known is not None:
        return known
    if not is_file(args.query):
        raise ValueError(f"{args.query} is neither a file nor a video of {args.index}.")
    encoder, how = open_model(args, index.folder)
    return Query.of(encoder.extract(args.query, **vars(how)))


def picture(args: argparse.Namespace, index: Index, query: Query, matches: list[Match]) -> None:
    """Writes the contact sheet."""
    record = index.folder.records.get(query.name)
    video = query.name if record is None else video_of(record)
    start, end = float(query.times[:, 0].min()), float(query.times[:, 1].max())
    first = Strip(query.name, f"query   {start:.2f} to {end:.2f}", video, start, end)
    processor = VideoMAEV2ImageProcessor.from_dict(index.folder.header["processor"])
    for problem in save_contact_sheet(strips_of(first, matches, index.folder.records), processor, args.picture):
        say(problem)
    say(f"Picture: {args.picture}")


def main(arguments: list[str]) -> None:
    args = parse_arguments(arguments)
    check_arguments(args)
    index = Index(FeatureFolder(args.index))
    if index.note():
        say(index.note())
    query = find_query(args, index)
    matches = index.search(query, args.top_k)
    for match in matches:
        print(printable(f"{match.similarity:.4f}  {match.start:9.2f} to {match.end:9.2f}  {match.path}"))
    if args.csv:
        rows = [
            [number, match.path, *(f"{value:.6g}" for value in match[1:])] for number, match in enumerate(matches, 1)
        ]
        write_csv(args.csv, [["rank", *Match._fields], *rows])
    if args.picture:
        picture(args, index, query, matches)

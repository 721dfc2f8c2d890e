# Copyright 2026 The videomae_hf authors. Licensed under the Apache License, Version 2.0.
"""`videomae search`: the videos, or moments of videos, that are like a video or that a text describes."""

import argparse
import sys
import tempfile
from contextlib import nullcontext
from pathlib import Path

from ..checkpoints.video_text import is_video_text
from ..inference.command_line import add_options, verb_parser
from ..inference.contact_sheet import SUFFIXES, Strip, save_contact_sheet, strips_of, video_of
from ..inference.extractor import Extraction, Extractor, load_encoder
from ..inference.feature_folder import FeatureFolder
from ..inference.inputs import find_inputs, is_endless
from ..inference.loading import default_workers
from ..inference.search import Index, Match, Query, extraction_of, is_file
from ..inference.text_search import TextMatch, check_features, keep_segments, search_text
from ..inference.video_text import VideoText, load_video_text
from ..inference.windows import Windows
from ..messages import printable, say
from ..models.image_processing_videomae_v2 import VideoMAEV2ImageProcessor
from ..models.modeling_videobert_tasks import VideoBertForRetrieval
from ..text_files import write_csv


USAGE = """\
videomae search INDEX QUERY [options]
videomae search VIDEOBERT VIDEOS --text TEXT [options]

  videomae search features query.mp4
  videomae search features hug/set1_2_1_1.avi --picture nearest.jpg
  videomae search features query.mp4 --top_k 50 --csv nearest.csv
  videomae search output/videobert videos/ --text "cut the bread" --features segments
"""
DESCRIPTION = """\
Prints the videos that are most like QUERY, with their cosine similarity. INDEX is a folder of pooled features of
`videomae extract`; if it has windows, moments of videos are found. QUERY is a video of the index, by its path or the
end of it, or any other video, which is encoded by the model of the index in the same way.

With --text, the first argument is a VideoBERT, and the second a folder of videos, a list, or a folder of features of
`videomae extract` whose windows are the segments. Videos, or with --window moments, are ordered by how well the text
describes them. The model reads each of them with the text; --features keeps the features of segments, which take
longer, for the next search.
"""


def parse_arguments(arguments: list[str]) -> argparse.Namespace:
    parser = verb_parser(USAGE, DESCRIPTION)
    parser.add_argument("index", metavar="INDEX", help="folder of videomae extract; with --text a VideoBERT")
    parser.add_argument(
        "query", metavar="QUERY", help="video, address, or the path of a video in the index; with --text the videos"
    )
    parser.add_argument("--top_k", type=int, metavar="K", default=10, help="matches to show [10]")
    parser.add_argument("--csv", type=Path, metavar="FILE", help="write the matches to this file")
    parser.add_argument("--picture", type=Path, metavar="FILE", help="write a contact sheet, .jpg or .png")
    parser.add_argument("--model", help="the model of the index, if it is not where it was")
    text = parser.add_argument_group("search by text, with a VideoBERT")
    text.add_argument("--text", help="what the videos show")
    text.add_argument("--window", metavar="S", help="find moments: seconds, or frames as 64f [whole videos]")
    text.add_argument("--stride", metavar="S", help="distance between moments, in the same unit [half of --window]")
    text.add_argument("--features", type=Path, metavar="DIR", help="folder that keeps the features of segments")
    text.add_argument("--backbone", metavar="MODEL", help="the model of these features [as in its config.json]")
    add_options(parser, "device", "batch_size", "num_workers")
    return parser.parse_args(arguments)


def check_arguments(args: argparse.Namespace) -> None:
    """Raises ValueError or FileNotFoundError for arguments that would otherwise fail only after the search."""
    if args.top_k < 1:
        raise ValueError(f"--top_k {args.top_k} must be at least 1.")
    if args.picture and args.picture.suffix.lower() not in SUFFIXES:
        raise ValueError(f"--picture {args.picture} must end in {', '.join(SUFFIXES)}.")
    if args.text is None:
        given = [f"--{name}" for name in ("window", "stride", "features", "backbone") if getattr(args, name)]
        if Path(args.index, "config.json").is_file() and is_video_text(args.index):
            raise ValueError(f"{args.index} is a VideoBERT, which finds videos by words: give --text.")
        if given:
            raise ValueError(f"{given[0]} is for a search by --text.")
    elif args.model:
        raise ValueError("--model is for a search by a video; with --text, give the VideoBERT first.")
    elif args.stride is not None and args.window is None:
        raise ValueError(f"--stride {args.stride} needs --window, the length of a moment.")
    elif is_endless([args.query]):
        raise ValueError(f"{args.query} has no end; give a folder of videos.")
    elif not is_video_text(args.index):
        raise ValueError(f"{args.index} is not a VideoBERT, which --text needs.")
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


def by_text(args: argparse.Namespace) -> int:
    """Finds what a text describes; returns the exit status, 1 if some videos cannot be read."""
    stored = Path(args.query, "features.json").is_file()
    given = [f"--{name}" for name in ("features", "backbone") if getattr(args, name)]
    if stored and given:
        raise ValueError(f"{given[0]} is for videos, but {args.query} is a folder of features: leave it out.")
    options = {name: getattr(args, name) for name in ("backbone", "device", "batch_size")}
    model = load_video_text(args.index, VideoBertForRetrieval, needs_backbone=not stored, **options)
    say(*model.messages, *model.check_texts([args.text]))
    windows = None
    if args.window is not None:
        windows = Windows.of(model.processor.image_processor, args.window, args.stride)
    with nullcontext(args.features) if args.features or stored else tempfile.TemporaryDirectory() as place:
        folder, names, failed = segments_of(args, model, Path(args.query if stored else place))
        matches = search_text(model, args.text, folder, names, windows, args.top_k)
    for match in matches:
        print(printable(f"{match.score:9.4f}  {match.start:9.2f} to {match.end:9.2f}  {match.path}"))
    if args.csv:
        rows = [
            [number, match.path, *(f"{value:.6g}" for value in match[1:])] for number, match in enumerate(matches, 1)
        ]
        write_csv(args.csv, [["rank", *TextMatch._fields], *rows])
    if args.picture:
        query = Strip(args.text, "text", None, 0, 0, is_text=True)
        strips = strips_of(query, matches, folder.records)
        for problem in save_contact_sheet(strips, model.processor.image_processor, args.picture):
            say(problem)
        say(f"Picture: {args.picture}")
    return 1 if failed else 0


def segments_of(args: argparse.Namespace, model: VideoText, place: Path) -> tuple[FeatureFolder, list[str], int]:
    """The folder of features, the videos in it that are searched, and the number of those that cannot be read."""
    if str(place) == args.query:
        folder = FeatureFolder(place)
        check_features(folder, model)
        return folder, list(folder.records), 0
    inputs = list({one.name: one for one in find_inputs([args.query], note=say)}.values())
    options = {"every": args.window is not None, "num_workers": args.num_workers or default_workers()}
    folder, failed = keep_segments(model, args.index, inputs, place, **options)
    names = [one.name for one in inputs if one.name in folder.records]
    if not names:
        raise ValueError(f"No video of {args.query} can be read.")
    return folder, names, failed


def main(arguments: list[str]) -> None:
    args = parse_arguments(arguments)
    check_arguments(args)
    if args.text is not None:
        sys.exit(by_text(args))
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

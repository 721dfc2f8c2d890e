# Copyright 2026 The videomae_hf authors. Licensed under the Apache License, Version 2.0.
"""`videomae predict`: labels videos with a trained model."""

import argparse
import sys
from collections.abc import Generator, Iterable
from pathlib import Path

from tqdm import tqdm

from ..checkpoints.video_text import is_video_text, video_text_class
from ..data.sources.media import VIDEOS, Media
from ..inference.command_line import add_options, verb_parser
from ..inference.frame_stream import camera_named
from ..inference.inputs import Input, find_inputs, is_endless
from ..inference.loading import default_workers
from ..inference.pictures import check_matplotlib, picture_path, save_timeline_picture, thumbnails
from ..inference.predictions import MULTI_LABEL, REGRESSION, Head, Prediction
from ..inference.predictor import Predictor, Views, load
from ..inference.result_files import ResultFile, Results, refuse_older
from ..inference.video_text import load_video_text
from ..inference.video_text_answers import answer_all, classifying, filling, given_captions, ranking
from ..messages import count, printable, say
from ..models.modeling_videobert_tasks import (
    VideoBertForCaptioning,
    VideoBertForRetrieval,
    VideoBertForVideoClassification,
)
from ..models.token_selection import select_tokens, tokens_left
from ..settings.groups import EvaluationSettings


USAGE = """\
videomae predict MODEL INPUT [INPUT ...] [options]

  videomae predict output/mine video.mp4
  videomae predict output/mine new_videos/ --csv predictions.csv
  videomae predict output/mine match.mp4 --timeline --picture pictures
  videomae predict output/videobert video.mp4 --prompt "now let me show you how to [MASK] the [MASK]."
  videomae predict output/videobert videos/ --captions "cut the bread" "season the steak"
"""
DESCRIPTION = """\
Labels videos with a finetuned model, on the views that `videomae evaluate` scores, one line for each video. INPUT is a
video, a folder (searched at any depth), a list in any format that training accepts, an http(s) address, - (paths on
standard input, one per line) or camera:0.

With --timeline a window slides over each video: timeline.csv has the probabilities of every window, segments.json the
parts with one label. Files of results grow with each video; the same command continues after an interruption and skips
the videos that they hold. JSON files have one object per line.

A VideoBERT says what belongs in the gaps of --prompt, or ranks the given --captions for each video, without finetuning
for it; a finetuned classifier needs neither. `videomae caption` writes captions.

Videos that cannot be read are named on standard error and skipped. The exit status is 0 if all videos were predicted, 1
if some were not or a value is wrong, and 2 if none was or the command line cannot be parsed.
"""

_THRESHOLD = 0.5
# Options on which results depend, beside the threshold
_DECIDING = ("num_clips", "num_crops", "window", "stride", "static_keep", "static_threshold")


def parse_arguments(arguments: list[str]) -> argparse.Namespace:
    views = EvaluationSettings()
    parser = verb_parser(USAGE, DESCRIPTION)
    parser.add_argument("model", metavar="MODEL", help="folder or Hub id of a finetuned model or adapter")
    parser.add_argument("inputs", metavar="INPUT", nargs="+", help="video, folder, list, address, - or camera:0")
    parser.add_argument("--top_k", type=int, metavar="K", default=5, help="classes, words or captions to show [5]")
    parser.add_argument("--threshold", type=float, metavar="P", default=_THRESHOLD,
                        help="probability of labels, if videos may have several, and of segments [0.5]")  # fmt: skip
    parser.add_argument(
        "--num_clips", type=int, metavar="N", help=f"clips of each video [{views.num_clips}], or of each window [1]"
    )
    parser.add_argument(
        "--num_crops", type=int, metavar="N", help=f"crops of each clip [{views.num_crops}], in windows [1]"
    )
    parser.add_argument("--timeline", action="store_true", help="predict a sliding window over each video")
    parser.add_argument(
        "--window", metavar="S", help="length of the window: seconds, or frames as 64f [the span of a clip]"
    )
    parser.add_argument("--stride", metavar="S", help="distance between windows, in the same unit [half of --window]")
    parser.add_argument("--csv", type=Path, metavar="FILE", help="write the columns of predictions.csv of evaluate")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the --top_k classes of each video")
    parser.add_argument(
        "--output_dir", type=Path, metavar="DIR", default=Path(), help="folder for timeline.csv and segments.json [.]"
    )
    parser.add_argument("--picture", type=Path, metavar="DIR", help="write a picture of each timeline to this folder")
    parser.add_argument("--prompt", metavar="TEXT", help="of a VideoBERT: a text with [MASK] for each word to fill in")
    parser.add_argument(
        "--captions", metavar="TEXT|FILE", nargs="+", help="of a VideoBERT: texts, or files with one in each line"
    )
    parser.add_argument(
        "--backbone", metavar="MODEL", help="of a VideoBERT: the model of its features [as in its config.json]"
    )
    parser.add_argument("--watch", action="store_true", help="wait for new videos in the folders, until Ctrl-C")
    add_options(parser, "data_root", "device", "dtype", "batch_size", "num_workers", "static_keep", "static_threshold")
    args = parser.parse_args(arguments)
    args.timeline |= args.picture is not None or args.window is not None or args.stride is not None
    return args


def check_arguments(args: argparse.Namespace) -> None:
    """Raises ValueError or ImportError for arguments that would otherwise fail only after the model is loaded."""
    Views(**views_of(args))
    if args.top_k < 1:
        raise ValueError(f"--top_k {args.top_k} must be at least 1.")
    if not 0 <= args.threshold <= 1:
        raise ValueError(f"--threshold {args.threshold} must lie in 0 to 1.")
    cameras = [name for name in args.inputs if camera_named(name)]
    if cameras and (len(args.inputs) > 1 or args.picture):
        raise ValueError(f"{cameras[0]} has no end: give it as the only input, and without --picture.")
    files = [args.csv, args.json, args.output_dir / "timeline.csv", args.output_dir / "segments.json"]
    files = [file.resolve() for file in files if file is not None]
    if len(set(files)) < len(files):
        raise ValueError(f"Two files of results have the same name: {', '.join(map(str, files))}.")
    if args.picture:
        check_matplotlib()
    args.camera = bool(cameras)
    if args.prompt is not None and args.captions:
        raise ValueError("--prompt and --captions are two questions: ask one at a time.")


def views_of(args: argparse.Namespace) -> dict:
    """The fields of `Views` for these arguments."""
    return {name: getattr(args, name) for name in ("num_clips", "num_crops", "timeline", "window", "stride")}


def check_kind(args: argparse.Namespace, *, text: bool) -> None:
    """Raises ValueError for options of another kind of model; `text` is whether it is a VideoBERT."""
    windows = ("window", "stride", "picture", "timeline")  # the last one follows from the others
    names = (
        (*windows, "num_clips", "num_crops", "static_keep", "static_threshold")
        if text
        else ("prompt", "captions", "backbone")
    )
    given = [f"--{name}" for name in names if getattr(args, name) not in (None, False)]
    if text and args.camera:
        raise ValueError(f"{args.inputs[0]} has no end; a VideoBERT takes whole videos.")
    if given and text:
        raise ValueError(f"{args.model} is a VideoBERT, which takes whole videos: leave {given[0]} out.")
    if given:
        raise ValueError(f"{args.model} is not a VideoBERT: leave {given[0]} out.")


def open_results(args: argparse.Namespace, head: Head) -> Results:
    """The files of results, with what an earlier run left in them.

    Raises:
        ValueError: it was by another model, or with other options.
    """
    timeline = segments = None
    model = named_with_options(args, head)
    tables = [ResultFile(args.csv, ["path", *head.columns], model)] if args.csv else []
    tables += [ResultFile(args.json, model=model)] if args.json else []
    if args.timeline and not args.camera:
        for folder in filter(None, (args.output_dir, args.picture)):
            folder.mkdir(parents=True, exist_ok=True)
        timeline = ResultFile(args.output_dir / "timeline.csv", ["path", "start", "end", *head.labels], model)
        segments = ResultFile(args.output_dir / "segments.json", model=model)
    results = Results(tables, timeline, segments, args.top_k, args.threshold)
    refuse_older(results.files, args.model)
    return results


def named_with_options(args: argparse.Namespace, head: Head) -> str:
    """The model as rows name it: with the options on which its results depend, where they are not the defaults."""
    given = {name: getattr(args, name) for name in _DECIDING if getattr(args, name) is not None}
    if args.threshold != _THRESHOLD and (head.problem_type == MULTI_LABEL or args.timeline):
        given["threshold"] = args.threshold  # elsewhere it decides nothing
    shown = ", ".join(f"{name}={value}" for name, value in given.items())
    return f"{args.model}: {shown}" if shown else args.model


def remaining(args: argparse.Namespace, results: Results, media: Media) -> tuple[Iterable[Input], int | None]:
    """The inputs that are not in the files of results yet, and their number; None if they are found one by one."""
    found = find_inputs(args.inputs, args.data_root, watch=args.watch, media=media, note=say)
    return results.remaining(found, endless=args.watch or is_endless(args.inputs), note=_ignore if args.camera else say)


def _ignore(text: str) -> None:
    """A camera is never skipped."""


def ask(args: argparse.Namespace) -> int:
    """Predicts videos with a VideoBERT; returns the exit status."""
    check_kind(args, text=True)
    options = {name: getattr(args, name) for name in ("backbone", "device", "dtype", "batch_size")}
    captions = given_captions(args.captions) if args.captions else None
    if args.prompt is not None:
        model = load_video_text(args.model, VideoBertForCaptioning, **options)
        question = filling(model, args.prompt, args.top_k)
    elif captions is not None:
        model = load_video_text(args.model, VideoBertForRetrieval, **options)
        question = ranking(model, captions, args.top_k)
    else:
        if video_text_class(args.model) is not VideoBertForVideoClassification:
            raise ValueError(f"{args.model} has no classes: ask it with --prompt or --captions.")
        model = load_video_text(args.model, VideoBertForVideoClassification, **options)
        question = classifying(model, args.top_k, args.threshold)
    results = Results(question.files(args.model, args.csv, args.json))
    refuse_older(results.files, args.model)
    inputs, total = remaining(args, results, VIDEOS)
    workers = args.num_workers or default_workers()
    return answer_all(model, question, inputs, results.files, num_workers=workers, total=total)


def predictions(
    args: argparse.Namespace, predictor: Predictor, inputs: Iterable[Input]
) -> Generator[Prediction, None, None]:
    """The predictions for all inputs; for a camera, one for each window."""
    if args.camera:
        return (prediction for _, _, prediction in predictor.stream(args.inputs[0], **views_of(args)))
    return predictor.predict_many(inputs, **views_of(args))


def show(prediction: Prediction, args: argparse.Namespace) -> None:
    """Prints a prediction and its segments, past the progress bar."""
    lines = [prediction.describe(args.top_k, args.threshold)]
    if prediction.timeline is not None and prediction.head.problem_type != REGRESSION:
        lines += [f"  {start:9.2f} to {end:9.2f}  {printable(label)} {score:.1%}"
                  for start, end, label, score in prediction.segments(args.threshold)]  # fmt: skip
    tqdm.write("\n".join(lines), file=sys.stdout)
    sys.stdout.flush()


def save_picture(prediction: Prediction, predictor: Predictor, args: argparse.Namespace) -> None:
    """Writes the picture of a timeline."""
    frames = thumbnails(prediction.video, predictor.processor)
    path = picture_path(args.picture, prediction.name)
    save_timeline_picture(prediction, frames, path, args.threshold)
    say(f"Picture: {path}")


def main(arguments: list[str]) -> None:
    args = parse_arguments(arguments)
    check_arguments(args)
    if is_video_text(args.model):
        sys.exit(ask(args))
    check_kind(args, text=False)
    options = {name: getattr(args, name) for name in ("device", "dtype", "batch_size", "num_workers")}
    predictor = load(args.model, **options)
    static = {name: getattr(args, name) for name in ("static_keep", "static_threshold")}
    predictor.messages += select_tokens(predictor.model, **static)
    results = open_results(args, predictor.head)
    inputs, total = remaining(args, results, predictor.media)
    for message in predictor.messages:
        say(message)
    worked = failed = 0
    found = predictions(args, predictor, inputs)
    try:
        for prediction in tqdm(found, total=total, unit="video", disable=None):
            if prediction.error is not None:
                failed += 1
                say(f"failed: {prediction.describe()}")
                continue
            worked += 1
            show(prediction, args)
            results.add(prediction)
            if args.picture:
                save_picture(prediction, predictor, args)
    except KeyboardInterrupt as interrupt:
        kept = "; the same command continues" if results.files else ""
        raise KeyboardInterrupt(f"{count(worked, 'prediction')} made{kept}") from interrupt
    finally:
        found.close()
    for message in tokens_left(predictor.model):
        say(message)
    if failed:
        say(f"{count(failed, 'video')} of {worked + failed} could not be predicted, for the reasons above")
    some = worked or any(file.done for file in results.files)
    sys.exit(0 if not failed else 1 if some else 2)

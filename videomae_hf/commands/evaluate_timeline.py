# Copyright 2026 The videomae_hf authors. Licensed under the Apache License, Version 2.0.
"""`videomae evaluate-timeline`: scores the timelines of `videomae predict` against a list of labelled parts."""

import argparse
import json
import os
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from ..data.sources.folders_and_lists import EVALUATION, Reading, read_samples
from ..data.sources.records import VideoRecord
from ..evaluation.timeline_scores import THUMOS14, Part, ScoredTimeline, timeline_metrics
from ..inference.command_line import add_options, verb_parser
from ..inference.predictions import MULTI_LABEL
from ..inference.timeline_files import SEGMENTS, TIMELINE, StoredTimelines, read_timelines
from ..messages import count, did_you_mean, printable, say, shorten
from ..text_files import escaped, read_json, write_text


USAGE = """\
videomae evaluate-timeline PREDICTIONS LABELS [options]

  videomae evaluate-timeline timelines labels.csv
  videomae evaluate-timeline timelines labels.csv --threshold 0.2 --output_dir timelines/at_0.2
  videomae evaluate-timeline timelines labels.csv --background nothing
"""
DESCRIPTION = """\
Scores timelines of long videos. PREDICTIONS is the folder with timeline.csv and segments.json that `videomae predict
MODEL VIDEO .. --timeline --output_dir PREDICTIONS` writes, LABELS a list of parts of the same videos: path, start and
end in seconds, label, in any format that training accepts.

Reports the share of the labelled time whose top class is right, mean average precision of the segments at the overlaps
of THUMOS14 and ActivityNet, and F1@k and the edit score of action segmentation; docs/evaluate.md defines them. Writes
metrics.json.
"""
_FEW = 10  # labelled segments of a class, below which its average precision is rough
METRICS = "metrics.json"


def parse_arguments(arguments: list[str]) -> argparse.Namespace:
    parser = verb_parser(USAGE, DESCRIPTION)
    parser.add_argument("predictions", type=Path, metavar="PREDICTIONS", help="folder that predict --timeline wrote to")
    parser.add_argument("labels", type=Path, metavar="LABELS", help="list of labelled parts of the videos")
    parser.add_argument(
        "--output_dir", type=Path, metavar="DIR", help="folder for metrics.json [that of the predictions]"
    )
    parser.add_argument(
        "--threshold", type=float, metavar="P", help="of segments, made from the windows anew [those of predict]"
    )
    parser.add_argument(
        "--background", metavar="CLASS", help="a class that stands for nothing: neither detection nor segment"
    )
    parser.add_argument("--eval_split_name", metavar="NAME", help="split of the list to read [validation, else test]")
    parser.add_argument("--video_column_name", metavar="NAME", help="column of paths, if it is called otherwise")
    parser.add_argument("--label_column_name", metavar="NAME", help="column of labels, if it is called otherwise")
    add_options(parser, "data_root")
    args = parser.parse_args(arguments)
    if args.predictions.name in (TIMELINE, SEGMENTS) and args.predictions.is_file():
        args.predictions = args.predictions.parent
    args.output_dir = args.output_dir or args.predictions
    return args


def check_arguments(args: argparse.Namespace) -> None:
    """Raises ValueError for arguments that would fail later, or that would replace the scores of another command."""
    if args.threshold is not None and not 0 <= args.threshold <= 1:
        raise ValueError(f"--threshold {args.threshold} must lie in 0 to 1.")
    existing = args.output_dir / METRICS
    if existing.exists():
        content = read_json(existing)
        if not isinstance(content, dict) or "time_accuracy" not in content:
            raise ValueError(f"{existing} has scores of another command; give another folder as --output_dir.")


# -------------------------------------------------------------------------------------------------------------- labels


def read_labels(args: argparse.Namespace, stored: StoredTimelines) -> list[VideoRecord]:
    """The labelled parts, each once, with the class numbers of the model."""
    reading = Reading(
        root=args.data_root,
        multi_label=stored.head.problem_type == MULTI_LABEL,
        split=(args.eval_split_name,) if args.eval_split_name else EVALUATION,
        video_column=args.video_column_name,
        label_column=args.label_column_name,
    )
    records, _ = read_samples(args.labels, stored.head.labels, reading=reading)
    say(*records.messages)
    in_frames = next((one for one in records if (one.start_frame, one.end_frame) != (None, None)), None)
    if in_frames is not None:
        raise ValueError(f"{args.labels}: {in_frames.name} has its bounds in frames; timelines need seconds.")
    every = list(dict.fromkeys(records))
    if len(every) < len(records):
        say(f"{count(len(records) - len(every), 'part')} listed twice, counted once")
    return every


def matched(
    args: argparse.Namespace, records: Sequence[VideoRecord], names: Sequence[str]
) -> dict[str, list[VideoRecord]]:
    """The labelled parts of each predicted video that has any, by the name of the video in the predictions.

    A relative name refers to the current folder, or else to the folder that paths of the list refer to.

    Raises:
        ValueError: no video has both, or the predictions are of parts of videos.
    """
    of_path: dict[str, list[VideoRecord]] = {}
    for record in records:
        of_path.setdefault(_absolute(record.path), []).append(record)
    root = str(args.data_root or (args.labels if args.labels.is_dir() else args.labels.parent))
    found, used = {}, {}  # used: path -> name
    for name in names:
        places = [_absolute(name), _absolute(os.path.join(root, name))]
        place = next((place for place in places if place in of_path), None)
        if place in used:
            raise ValueError(f"{args.predictions} has predictions of {name} and {used[place]}, which are one video.")
        if place is not None:
            found[name], used[place] = of_path[place], name
        elif name.endswith("]") and _absolute(name.rsplit(" [", 1)[0]) in of_path:
            raise ValueError(
                f"{args.predictions} has predictions of parts of videos, such as {name}: whoever knows the parts need "
                f"not find them. Predict whole videos: give their paths or their folder to `videomae predict`."
            )
    if not found:
        raise ValueError(
            f"No video has both predictions and labels: {args.predictions} has {names[0]}, and {args.labels} has "
            f"{records[0].path}. --data_root is the folder that relative paths refer to."
        )
    _say_left_out(sorted(set(names) - set(found)), "predicted, but has no label in the list")
    without = sorted({one.path for one in records if _absolute(one.path) not in used})
    _say_left_out(without, "labelled, but was not predicted")
    return found


def _absolute(path: str) -> str:
    """The form in which paths are compared; addresses stay as they are."""
    return escaped(path if "://" in path else os.path.abspath(os.path.expanduser(path)))


def _say_left_out(names: list[str], why: str) -> None:
    if names:
        say(f"{count(len(names), 'video')} left out: {why}: {shorten(names, 3)}")


# ------------------------------------------------------------------------------------------------------------- scoring


def scored_timelines(stored: StoredTimelines, videos: dict[str, list[VideoRecord]]) -> list[ScoredTimeline]:
    """Labels beside predictions. A part without bounds begins or ends with its video."""
    numbers = {label: number for number, label in enumerate(stored.head.labels)}
    timelines, late = [], []
    for name, records in videos.items():
        timeline = stored.timelines[name]
        length = float(timeline.ends.max())
        late += [one.name for one in records if (one.start or 0) >= length]
        truth = [
            Part(one.start or 0.0, max(length, one.start or 0.0) if one.end is None else one.end, label)
            for one in records
            for label in (one.label if isinstance(one.label, tuple) else (one.label,))
        ]
        found = [Part(one.start, one.end, numbers[one.label], one.score) for one in stored.segments[name]]
        spans = np.array(timeline.spans(), dtype=np.float64).reshape(-1, 2)
        timelines.append(ScoredTimeline(truth, found, spans, timeline.logits.argmax(dim=1).numpy()))
    if late:
        begin = count(len(late), "labelled part")
        say(f"WARNING: {begin} after the end of the video: {shorten(late, 3)}; are start and end in seconds?")
    return timelines


def background_class(name: str | None, labels: Sequence[str]) -> int | None:
    """The number of the class that --background names."""
    if name is not None and name not in labels:
        raise ValueError(
            f"--background {name!r} is no class of the model{did_you_mean(name, labels)}. Known: {shorten(labels)}."
        )
    return None if name is None else labels.index(name)


# ------------------------------------------------------------------------------------------------------------- printing


def percent(value: float | None) -> str:
    """A rate in percent; "-" for none."""
    return "-" if value is None else f"{100 * value:.1f}"


def summary(metrics: dict) -> list[str]:
    """The scores of all videos together, one line each."""
    at, f1 = metrics["map"], metrics["f1"]
    single = [f"{overlap:.2f}" for overlap in (*THUMOS14, 0.75, 0.95)]
    classes, time = percent(metrics["mean_class_time_accuracy"]), f"{metrics['labelled_seconds']:,.1f} s with a label"
    rows = [
        ("Accuracy over time", percent(metrics["time_accuracy"]), f"of {time}; mean of the classes {classes}"),
        ("  most frequent class", percent(metrics["majority"]), ""),
        ("  chance", percent(metrics["chance"]), ""),
        ("Time without a label", percent(metrics["unlabelled_in_segments"]),
         f"of {metrics['unlabelled_seconds']:,.1f} s are in a segment"),
        ("mAP@0.3:0.7 (THUMOS14)", percent(metrics["map_thumos14"]), ""),
        ("mAP@0.5:0.95 (ActivityNet)", percent(metrics["map_activitynet"]), ""),
        *((f"  mAP@{overlap}", percent(at[overlap]), "") for overlap in single),
        *((f"F1@{overlap}", percent(value), "") for overlap, value in f1.items()),
        ("Edit score", percent(metrics["edit"]), ""),
    ]  # fmt: skip
    labelled = count(metrics["labelled_segments"], "labelled segment")
    first = f"{count(metrics['videos'], 'video')}, {labelled}, {metrics['predicted_segments']:,} predicted"
    return [first, "", *(f"{title:<28}{value:>6} %  {more}".rstrip() for title, value, more in rows)]


def class_table(classes: dict[str, dict]) -> list[str]:
    """A line for each class that is labelled or predicted."""
    rows = [("class", "labelled", "predicted", "seconds", "accuracy", "AP@0.5", "AP@0.3:0.7", "AP@0.5:0.95")]
    for name, scores in classes.items():
        if scores["labelled_seconds"] or scores["predicted_segments"]:
            rates = (scores["time_accuracy"], scores["ap"]["0.50"], scores["ap_thumos14"], scores["ap_activitynet"])
            counts = (scores["labelled_segments"], scores["predicted_segments"])
            rows.append((printable(name), *map(str, counts), f"{scores['labelled_seconds']:.1f}", *map(percent, rates)))
    widths = [max(map(len, column)) for column in zip(*rows)]
    return [
        "  ".join([row[0].ljust(widths[0]), *(cell.rjust(width) for cell, width in zip(row[1:], widths[1:]))])
        for row in rows
    ]


def remarks(metrics: dict, background: str | None) -> list[str]:
    """What the reader must know about the scores: classes left out, few segments, time in no window."""
    classes = {name: one for name, one in metrics["classes"].items() if name != background}
    without = [name for name, one in classes.items() if not one["labelled_segments"]]
    few = [name for name, one in classes.items() if 0 < one["labelled_segments"] < _FEW]
    lines = []
    if without:
        ghosts = count(sum(classes[name]["predicted_segments"] for name in without), "predicted segment")
        names = f"{count(len(without), 'class')} without a label ({shorten(without, 3)}), and their {ghosts}"
        lines.append(f"Not in the means of AP: {names}.")
    if few:
        known = len(classes) - len(without)
        lines.append(f"Few labels: {len(few)} of {count(known, 'class')} have fewer than {_FEW} segments; each moves "
                     f"AP by more than {100 / _FEW:.0f} points.")  # fmt: skip
    outside = metrics["labelled_seconds_in_no_window"]
    if outside > 0.005 * metrics["labelled_seconds"]:
        lines.append(f"{outside:.1f} s with a label are in no window, and count as wrong.")
    if not metrics["predicted_segments"]:
        lines.append("No segment was predicted; --threshold 0 gives every window its most probable class.")
    return lines


def main(arguments: list[str]) -> None:
    """`videomae evaluate-timeline`."""
    args = parse_arguments(arguments)
    check_arguments(args)
    stored = read_timelines(args.predictions)
    background = background_class(args.background, stored.head.labels)
    if args.threshold is not None:
        stored = stored.with_threshold(args.threshold)
    records = read_labels(args, stored)
    videos = matched(args, records, list(stored.timelines))
    metrics = timeline_metrics(scored_timelines(stored, videos), stored.head.labels, background)
    lines = [*summary(metrics), "", *class_table(metrics["classes"])]
    notes = remarks(metrics, args.background)
    print("\n".join(lines + [""] * bool(notes) + notes))
    args.output_dir.mkdir(parents=True, exist_ok=True)
    settings = {"model": stored.model, "threshold": args.threshold, "background": args.background}
    unpredicted = len({one.path for one in records}) - len({one.path for some in videos.values() for one in some})
    counts = {"videos_not_labelled": len(stored.timelines) - len(videos), "videos_not_predicted": unpredicted}
    write_text(args.output_dir / METRICS, json.dumps({**settings, **counts, **metrics}, indent=1) + "\n")
    say(f"Saved to {args.output_dir / METRICS}")

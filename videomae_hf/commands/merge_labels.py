# Copyright 2026 The videomae_hf authors. Licensed under the Apache License, Version 2.0.
"""`videomae merge-labels`: merges several labelled data sets, as Kinetics-400, 600 and 700 were merged into K710."""

import argparse
from pathlib import Path

from ..data.sources.folders_and_lists import EVALUATION, TRAINING, Reading, read_samples
from ..data.sources.label_merging import (
    VIDEO_KEYS,
    MergedClasses,
    are_numbers,
    merge_classes,
    merge_videos,
    read_aliases,
    write_list,
    write_mappings,
)
from ..data.sources.records import VideoRecords
from ..text_files import read_class_names, write_text


DESCRIPTION = """\
Merges labelled data sets into one list whose classes are merged by name, and writes into OUT

  train.jsonl, eval.jsonl   the lists, for --train_data and --eval_data
  label_mappings.json       the merged classes, and the merged class of each class of each set; with
                            --label_mappings it is stored in the config of the model, so that finetuning
                            on one of the sets can start from its rows of the head (--head_from NAME)
  classes.txt               the merged classes, one per line
  report.txt                which classes were merged, are new, or are similar but were not merged

Names that differ only in case, punctuation and underscores are the same class; other names are merged
by lines "merged name,other spelling,.." in the file --aliases. A video in several sets is kept in the
first; videos of --eval_data and --held_out are not in the training list.

  videomae merge-labels data/k710 k400=k400/train.csv k600=k600/train.csv k700=k700/train.csv \\
      --eval_data k400=k400/val.csv k600=k600/val.csv k700=k700/val.csv --same_video youtube
  python train.py finetune --train_data data/k710/train.jsonl --eval_data data/k710/eval.jsonl \\
      --label_mappings data/k710/label_mappings.json --checkpoint output/pretrain --output_dir output/k710
  python train.py finetune --train_data k400/train.csv --checkpoint output/k710 --head_from k400
"""
_SHOWN = 12  # printed lines of each kind; report.txt has all of them


def parse_arguments(arguments: list[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="videomae merge-labels", description=DESCRIPTION, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("out", type=Path, metavar="OUT", help="folder to write to")
    parser.add_argument("sources", nargs="+", metavar="NAME=DATA", help="folder of class folders, or list")
    parser.add_argument(
        "--eval_data", nargs="+", default=[], metavar="NAME=DATA", help="evaluation sets of the sources"
    )
    parser.add_argument(
        "--held_out", nargs="+", default=[], metavar="DATA", help="other videos to keep out of training"
    )
    parser.add_argument("--aliases", help="file with lines: merged name,other spelling,..")
    parser.add_argument(
        "--class_names",
        nargs="+",
        default=[],
        metavar="NAME=FILE",
        help="one class name per line, for lists with class numbers",
    )
    parser.add_argument("--root", help="folder that relative paths in lists refer to; default: the folder of each list")
    parser.add_argument(
        "--same_video",
        choices=sorted(VIDEO_KEYS),
        default="path",
        help="when two files are the same video: equal path (default), file name, or YouTube id at its start",
    )
    return parser.parse_args(arguments)


def main(arguments: list[str]) -> None:
    """`videomae merge-labels`."""
    args = parse_arguments(arguments)
    sources, eval_sources = _named(args.sources, "sources"), _named(args.eval_data, "--eval_data")
    files = _named(args.class_names, "--class_names")
    for name in [*eval_sources, *files]:
        if name not in sources:
            raise ValueError(f"{name!r} is not one of the sources {', '.join(sources)}.")
    classes = {name: read_class_names(path) for name, path in files.items()}
    train = {
        name: _read(name, path, classes.get(name), Reading(args.root, split=TRAINING)) for name, path in sources.items()
    }
    merged = merge_classes(
        {name: names for name, (_, names) in train.items()}, read_aliases(args.aliases) if args.aliases else None
    )
    evals = {
        name: _read(name, path, train[name][1], Reading(args.root, split=EVALUATION))
        for name, path in eval_sources.items()
    }
    held_out = [sample.path for samples, _ in evals.values() for sample in samples]
    for path in args.held_out:
        held_out += [sample.path for sample in read_samples(path, root=args.root, labelled=False)[0]]
    rows, lines = merge_videos(train, merged, args.same_video, held_out)
    eval_rows, eval_lines = merge_videos(evals, merged, args.same_video)
    lines = [*merged.lines, "", "training", *lines, f"{len(rows)} videos in {args.out / 'train.jsonl'}"]
    if evals:
        lines += ["", "evaluation", *eval_lines, f"{len(eval_rows)} videos in {args.out / 'eval.jsonl'}"]
    write(args.out, merged, rows, eval_rows if evals else None, lines)
    print("\n".join(_shortened(lines)))
    print(f"The full report is in {args.out / 'report.txt'}")


def write(out: Path, merged: MergedClasses, rows: list[dict], eval_rows: list[dict] | None, lines: list[str]) -> None:
    out.mkdir(parents=True, exist_ok=True)
    write_list(out / "train.jsonl", rows)
    if eval_rows is not None:
        write_list(out / "eval.jsonl", eval_rows)
    write_mappings(out / "label_mappings.json", merged)
    write_text(out / "classes.txt", "\n".join(merged.names) + "\n")
    write_text(out / "report.txt", "\n".join(lines) + "\n")


def _named(arguments: list[str], what: str) -> dict[str, str]:
    """NAME=VALUE arguments as a mapping."""
    named = {}
    for argument in arguments:
        name, is_named, value = argument.partition("=")
        if not (is_named and name and value) or name in named:
            raise ValueError(f"{argument!r} in {what} must have the form NAME=PATH, with distinct names.")
        named[name] = value
    return named


def _read(name: str, path: str, classes: list[str] | None, reading: Reading) -> tuple[VideoRecords, list[str]]:
    """The records and class names of a source."""
    samples, found = read_samples(path, classes, reading=reading)
    print("\n".join(samples.messages), end="\n" * bool(samples.messages))
    if are_numbers(found):
        raise ValueError(f"{path} has class numbers; pass --class_names {name}=FILE, with one name per line.")
    return samples, found


def _shortened(lines: list[str]) -> list[str]:
    """The first lines of each kind; the kind is the text before the colon."""
    shown, counts = [], {}
    for line in lines:
        kind = line.split(":")[0].split(" '")[0]
        counts[kind] = counts.get(kind, 0) + 1
        if counts[kind] <= _SHOWN:
            shown.append(line)
        elif counts[kind] == _SHOWN + 1:
            shown.append(f"{kind}: ..")
    return shown

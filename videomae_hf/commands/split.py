# Copyright 2026 The videomae_hf authors. Licensed under the Apache License, Version 2.0.
"""`videomae split`: divides labelled videos into lists for training, validation and test, or into folds."""

import argparse
import os
import shlex
from collections.abc import Hashable
from dataclasses import dataclass
from pathlib import Path

import torch
from tqdm import tqdm

from ..data.near_duplicates import copies, fingerprints
from ..data.sources.folders import list_folder
from ..data.sources.list_columns import column_key
from ..data.sources.list_editing import edit_list, is_absolute, list_every_video
from ..data.sources.list_records import Listed, ListOptions, ReadList, read_list
from ..data.sources.media import IMAGES, VIDEOS
from ..data.splitting import balance_table, columns_of, divide, groups_by_column, groups_by_pattern, joined_groups
from ..inference.loading import default_workers
from ..messages import count, named_error, say
from ..text_files import csv_line, write_text


DESCRIPTION = """\
Divides the videos of a folder of class folders, or of a list, into OUT/train, val and test, lists in the format of the
source (.csv for a folder), or with --folds K into OUT/fold_0/train and val to fold_K-1.

Videos that show the same people, places or recordings must not be in two parts: a model would be scored on what it has
seen. Name them with --group_column or --group_pattern; parts of one video are always together, and so are copies of a
video, which are searched for. Each part gets its share of every class as nearly as whole groups allow.

  videomae split videos/ splits --group_pattern '(subject\\d+)'
  videomae split labels.csv splits --val 0.15 --test 0.15 --group_column patient
  videomae split labels.csv splits --folds 5 --group_column sequence
"""


@dataclass
class Source:
    """The videos to divide: the listed ones, their labels, and, for a list, its rows."""

    path: Path
    found: list[Listed]
    labels: list[tuple[str, ...]]
    listed: ReadList | None = None  # of a list

    @property
    def suffix(self) -> str:
        return self.path.suffix if self.listed else ".csv"

    def text(self, wanted: list[bool]) -> str:
        """The list of the wanted videos; the rows of a list are unchanged."""
        if self.listed is None:
            rows = [(os.path.abspath(one.sample.path), label[0])
                    for one, label, keep in zip(self.found, self.labels, wanted) if keep]  # fmt: skip
            return "".join(map(csv_line, [("path", "label"), *rows]))
        keep = iter(wanted)
        return edit_list(self.path, self.listed, lambda sample: sample.path if next(keep) else None)


def parse_arguments(arguments: list[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="videomae split", description=DESCRIPTION, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("videos", type=Path, metavar="VIDEOS", help="folder of class folders, or list")
    parser.add_argument("out", type=Path, metavar="OUT", help="folder for the lists, new or without lists")
    parser.add_argument("--val", type=float, metavar="F", help="fraction of the videos for validation [0.2]")
    parser.add_argument("--test", type=float, metavar="F", default=0.0, help="fraction of the videos for test [0]")
    parser.add_argument("--folds", type=int, metavar="K", help="K parts, each for validation once, in place of --val")
    parser.add_argument("--group_column", metavar="NAME", help="column of the list that names the group of a video")
    parser.add_argument(
        "--group_pattern", metavar="REGEX", help="what it matches in the path (in its parentheses) is the group"
    )
    parser.add_argument("--copies", choices=("together", "ignore"), default="together",
                        help="copies of a video are found and kept in one part, or not searched for")  # fmt: skip
    parser.add_argument("--images", action="store_true", help="the samples of a folder are its images")
    parser.add_argument("--multi_label", action="store_true", help="a video may have any number of labels")
    parser.add_argument("--no_labels", action="store_true", help="divide without regard to labels, as for regression")
    parser.add_argument("--data_root", type=Path, help="folder that relative paths in the list refer to [its own]")
    parser.add_argument("--seed", type=int, default=0, help="another seed divides differently [0]")
    args = parser.parse_args(arguments)
    check_arguments(args)
    return args


def check_arguments(args: argparse.Namespace) -> None:
    """Raises ValueError for values that contradict each other or are out of range."""
    if args.folds is not None and args.val is not None:
        raise ValueError("--folds and --val exclude each other: every fold is for validation once.")
    if args.folds is not None and args.folds < 2:
        raise ValueError(f"--folds {args.folds} must be at least 2.")
    args.val = 0.2 if args.val is None else args.val
    if not 0 < args.val < 1 or not 0 <= args.test < 1 or (args.folds is None and args.val + args.test >= 1):
        raise ValueError(f"--val {args.val:g} and --test {args.test:g} must leave a part of the videos for training.")
    if args.group_column and args.group_pattern:
        raise ValueError("--group_column and --group_pattern exclude each other; give one of them.")
    if args.multi_label and args.no_labels:
        raise ValueError("--multi_label and --no_labels exclude each other; give one of them.")
    existing = [path for path in args.out.glob("**/*") if path.stem in ("train", "val", "test")]
    if existing:
        raise ValueError(f"{existing[0]} exists already; give another folder, or remove it.")


def read_source(args: argparse.Namespace) -> Source:
    """The videos and their labels."""
    path, media = args.videos.expanduser(), IMAGES if args.images else VIDEOS
    if path.is_dir():
        if args.group_column or args.multi_label or args.no_labels:
            raise ValueError(f"{path} is a folder of class folders, without columns; give a list, or --group_pattern.")
        found, notes = list_folder(path, labelled=True, media=media)
        say(*notes)
        return Source(path, found, [tuple(one.labels) for one in found])
    if not path.is_file():
        raise FileNotFoundError(f"No folder or list of videos at {path}.")
    listed = list_every_video(path, args.data_root, media)
    if not listed.found:
        raise ValueError(f"{path} holds no video.")
    split = next((name for name in columns_of(listed) if column_key(name) in ("split", "subset", "partition")), None)
    if split is not None:
        raise ValueError(f"{path} has the column {split!r}, which training obeys: remove it to divide the videos anew.")
    if args.no_labels:
        return Source(path, listed.found, [()] * len(listed.found), listed)
    kind = "labels" if args.multi_label else "label"
    labelled = read_list(path, ListOptions(kind, args.data_root, media=media)).found
    of_video = {(one.sample.path, one.sample.segment): tuple(one.labels) for one in labelled}
    labels = [of_video[one.sample.path, one.sample.segment] for one in listed.found]
    return Source(path, listed.found, labels, listed)


def groups_of(source: Source, args: argparse.Namespace) -> list[Hashable]:
    """The group of each video; without one it is a group of its own, together with other parts of it."""
    paths = [one.sample.path for one in source.found]
    if args.group_pattern:
        return groups_by_pattern(paths, args.group_pattern)
    if not args.group_column:
        return paths
    return groups_by_column(source.path, source.listed, args.group_column)


def find_copies(source: Source) -> list[tuple[int, int]]:
    """Positions of copies of each other, after naming videos that cannot be read."""

    def failed(record, error: Exception) -> None:
        say(f"not compared: {named_error(record.path, error)}")

    records = [one.sample for one in source.found]
    found = fingerprints(records, failed, default_workers())
    return copies(list(tqdm(found, "Looking for copies", total=len(records), unit="video", disable=None)))


def describe_copies(source: Source, pairs: list[tuple[int, int]], groups: list[Hashable]) -> list[str]:
    """Messages about copies: those in other groups than the original, and those with other labels."""
    if not pairs:
        return ["No copies of a video were found."]
    names = [one.sample.name for one in source.found]
    apart = [(one, other) for one, other in pairs if groups[one] != groups[other]]
    lines = [f"{count(len(pairs), 'pair')} of copies, kept in one part: {names[pairs[0][0]]} and {names[pairs[0][1]]}"
             + (", .." if len(pairs) > 1 else "")]  # fmt: skip
    labels = ["|".join(some) for some in source.labels]
    differing = [(one, other) for one, other in pairs if labels[one] != labels[other]]
    if differing:
        one, other = differing[0]
        lines.append(f"WARNING: {count(len(differing), 'pair')} of copies with different labels: {names[one]} is "
                     f"{labels[one]!r} and {names[other]} {labels[other]!r}")  # fmt: skip
    if apart and len(set(groups)) < len(groups):
        one, other = apart[0]
        lines.append(f"{count(len(apart), 'pair')} of copies in different groups, which are joined: {groups[one]} and "
                     f"{groups[other]}")  # fmt: skip
    return lines


def write_parts(args: argparse.Namespace, source: Source, groups: list[int], folder: Path) -> None:
    """Divides the videos and writes the lists."""
    names = [f"fold {k}" for k in range(args.folds)] if args.folds else ["train", "val"]
    rest = 1 - args.test
    fractions = [rest / args.folds] * args.folds if args.folds else [rest - args.val, args.val]
    if args.test:
        names, fractions = [*names, "test"], [*fractions, args.test]
    parts = divide(groups, source.labels, fractions, torch.Generator().manual_seed(args.seed))
    print(balance_table(names, parts, groups, source.labels))
    for name in (name for k, name in enumerate(names) if k not in parts):
        raise ValueError(f"{name} would be empty: {count(len(set(groups)), 'group')} are too few or too unequal.")
    for label in sorted({label for some in source.labels for label in some}):
        without = [names[part] for part in range(len(names))
                   if not any(k == part and label in some for k, some in zip(parts, source.labels))]  # fmt: skip
        if without:
            say(f"WARNING: no video of {label!r} in {', '.join(without)}: it has too few groups")
    if not args.folds:
        for part, name in enumerate(names):
            write_list(folder / f"{name}{source.suffix}", source, [k == part for k in parts])
        return
    for fold in range(args.folds):
        write_list(folder / f"fold_{fold}/val{source.suffix}", source, [k == fold for k in parts])
        write_list(folder / f"fold_{fold}/train{source.suffix}", source, [k not in (fold, args.folds) for k in parts])
    if args.test:
        write_list(folder / f"test{source.suffix}", source, [k == args.folds for k in parts])


def write_list(path: Path, source: Source, wanted: list[bool]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    write_text(path, source.text(wanted))


def next_command(args: argparse.Namespace, source: Source) -> str:
    """The command line that trains on the lists."""
    folder = args.out / "fold_0" if args.folds else args.out
    line = "videomae finetune --model_kind mae" if args.images else "videomae finetune --preset base"
    if args.folds:
        line += f" --folds {shlex.quote(str(args.out))}"
    else:
        train, val = (shlex.quote(f"{folder / part}{source.suffix}") for part in ("train", "val"))
        line += f" --train_data {train} --eval_data {val}"
    line += " --multi_label true" * args.multi_label + " --problem_type regression" * args.no_labels
    if args.group_column:
        line += f" --group_column {shlex.quote(args.group_column)}"
    if args.group_pattern:
        line += f" --group_pattern {shlex.quote(args.group_pattern)}"
    root = args.data_root or source.path.parent
    relative = any(not os.path.isabs(one.sample.path) and "://" not in one.sample.path for one in source.found)
    if source.listed is not None and (relative or not all(map(is_absolute, source.listed.rows))):
        if root.resolve() != folder.resolve():
            line += f" --data_root {shlex.quote(str(root))}"
    return line


def main(arguments: list[str]) -> None:
    """`videomae split`."""
    args = parse_arguments(arguments)
    source = read_source(args)
    groups, pairs = groups_of(source, args), []
    if args.copies == "together":
        pairs = find_copies(source)
        say(*describe_copies(source, pairs, groups))
    same_file = {}
    for place, one in enumerate(source.found):
        pairs.append((same_file.setdefault(one.sample.path, place), place))
    joined = joined_groups(groups, pairs)
    if not (args.group_column or args.group_pattern):
        say("No groups are named, so that each video is one; see --group_column and --group_pattern.")
    write_parts(args, source, joined, args.out)
    print(f"Next: {next_command(args, source)}")

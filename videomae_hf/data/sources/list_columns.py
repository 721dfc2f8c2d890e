# Copyright 2026 The videomae_hf authors. Licensed under the Apache License, Version 2.0.
"""The columns that a list of videos may have; error messages and docs/lists.md are generated from this table."""

import re
from dataclasses import dataclass

from ...messages import did_you_mean
from ...text_files import normalized


@dataclass(frozen=True)
class Column:
    """The accepted names of a column (case, spaces and hyphens are ignored), and a description of its values."""

    names: tuple[str, ...]
    values: str


COLUMNS = {
    "path": Column(
        ("path", "video", "video_path", "video_file", "video_name", "filepath", "file_path", "file", "file_name",
         "filename", "clip", "clip_path", "clip_file", "clip_name", "image", "image_path", "image_file", "image_name",
         "img", "img_path", "video_id", "youtube_id", "image_id"),
        "the video or image: a path relative to the folder of the list (or to --data_root), an absolute path or a URL; "
        "a name without a suffix matches any suffix. Images are used if there is no other path, and then ids",
    ),
    "label": Column(
        ("label", "labels", "class", "classes", "class_name", "class_names", "classname", "class_id", "class_idx",
         "class_index", "label_id", "label_name", "target", "targets", "tag", "tags", "category", "category_name",
         "action", "activity"),
        "the class, by name or by number from 0; several (--multi_label true) as a JSON list or separated by |; for "
        "regression, a number",
    ),
    "start": Column(
        ("start", "start_time", "time_start", "start_sec", "start_seconds", "start_s", "start_timestamp", "t_start",
         "begin", "begin_time", "segment_start"),
        "start of the clip within the video: seconds, or h:mm:ss; empty means the start of the video",
    ),
    "end": Column(
        ("end", "end_time", "time_end", "end_sec", "end_seconds", "end_s", "end_timestamp", "t_end", "stop",
         "stop_time", "stop_timestamp", "segment_end"),
        "end of the clip; empty means the end of the video",
    ),
    "start_frame": Column(("start_frame", "frame_start", "begin_frame"), "start of the clip as a frame number, from 0"),
    "end_frame": Column(("end_frame", "frame_end", "stop_frame"), "the frame after the last one"),
    "first_frame": Column(
        ("first_frame", "start_idx", "start_index"), "for folders of images: number of the first image"
    ),
    "num_frames": Column(
        ("num_frames", "total_frames", "number_of_frames", "frames"), "for folders of images: number of images"
    ),
    "split": Column(
        ("split", "subset", "partition", "data_split", "usage"),
        "the split of the row: training reads train, evaluation reads validation or else test (other values: "
        "--train_split_name, --eval_split_name)",
    ),
}  # fmt: skip
PATHS = frozenset(COLUMNS["path"].names)
# Used as a path only if there is no other: of a video the picture, and ids
_IMAGE_PATHS = ("image", "image_path", "image_file", "image_name", "img", "img_path")
_IDS = ("video_id", "youtube_id", "image_id")
_ROLE_OF = {name: role for role, column in COLUMNS.items() for name in column.names}
SPLITS = {
    "train": ("train", "training"),
    "validation": ("validation", "val", "valid", "dev", "eval", "evaluation"),
    "test": ("test", "testing"),
}


def column_key(name: str) -> str:
    """The name of a column in the form in which names are compared.

    >>> column_key(" Video-Path ")
    'video_path'
    """
    return re.sub(r"[\s-]+", "_", normalized(str(name)).lower())


def find_roles(
    names: list[str], video_column: str | None = None, label_column: str | None = None
) -> tuple[dict[str, str], list[str]]:
    """Assigns columns to roles: role in `COLUMNS` -> name, and the names without a role.

    Args:
        names: the names of the columns.
        video_column, label_column: names given by the user; None detects them.

    Raises:
        ValueError: there is no column of paths, two columns have the same role, or a given name does not exist.
    """
    found = {}
    for name in names:
        role = _ROLE_OF.get(column_key(name))
        if role is not None:
            found.setdefault(role, []).append(name)
    for role, said, option in (
        ("path", video_column, "video_column_name"),
        ("label", label_column, "label_column_name"),
    ):
        if said is not None:
            if said not in names:
                raise ValueError(f"{option}={said!r}: the columns are {', '.join(names)}{did_you_mean(said, names)}")
            found = {other: [name for name in named if name != said] for other, named in found.items()}
            found[role] = [said]
    paths = found.get("path", [])
    if video_column is None:
        found["path"] = _preferred(paths)
    if not found["path"]:
        raise ValueError(
            f"none of {', '.join(COLUMNS['path'].names)} is among the columns "
            f"{', '.join(map(str, names)) or '(none)'}; name the column of videos with --video_column_name."
        )
    plain = [name for name in found.get("label", []) if column_key(name) in ("label", "labels")]
    if len(plain) == 1:  # next to it, a category or an id has another meaning
        found["label"] = plain
    for role, named in found.items():
        if len(named) > 1:
            option = {"path": " or --video_column_name", "label": " or --label_column_name"}.get(role, "")
            raise ValueError(f"{' and '.join(named)} could all be the column of the {role}; keep one of them{option}.")
    roles = {role: named[0] for role, named in found.items() if named}
    return roles, [name for name in names if name not in roles.values()]


def _preferred(paths: list[str]) -> list[str]:
    """The columns of paths that count: those of videos and files, or else of images, or else the first of the ids."""
    keys = {name: column_key(name) for name in paths}
    others = [name for name in paths if keys[name] not in (*_IMAGE_PATHS, *_IDS)]
    images = [name for name in paths if keys[name] in _IMAGE_PATHS]
    return others or images or sorted(paths, key=lambda name: _IDS.index(keys[name]))[:1]


def choose_split(present: list[str], wanted: tuple[str, ...]) -> str:
    """The value in a split column that matches the first of the wanted names that occurs.

    Args:
        present: the values of the column.
        wanted: names of splits, in order of preference; "train" also matches "training", and so on (`SPLITS`).

    Raises:
        ValueError: none of them occurs, or several spellings of one do.
    """
    for name in wanted:
        if name in present:
            return name
        spellings = SPLITS.get(name.lower(), (name.lower(),))
        same = [value for value in present if value.lower() in spellings]
        if len(same) > 1:
            raise ValueError(f"the splits {' and '.join(same)} could both be {name!r}; choose one by its own name.")
        if same:
            return same[0]
    option = "train_split_name" if wanted[0] == "train" else "eval_split_name"
    raise ValueError(f"no row has the split {' or '.join(wanted)}; the splits are {', '.join(present)} (--{option}).")


def describe_columns() -> str:
    """The table of docs/lists.md."""
    rows = ["| column | names | values |", "|---|---|---|"]
    for role, column in COLUMNS.items():
        values = column.values.replace("|", "\\|")
        rows.append(f"| {role.replace('_', ' ')} | {', '.join(f'`{name}`' for name in column.names)} | {values} |")
    return "\n".join(rows)

# Copyright 2026 The videomae_hf authors. Licensed under the Apache License, Version 2.0.
"""From a folder or a list of videos to batches.

The road: `read_samples` lists (path, label) pairs; `VideoDataset` asks a clip loader for each; a clip loader decodes,
augments and, for pretraining, draws the masks; `collate_clips` stacks. Whatever is random in a sample comes from a
generator seeded with (seed, epoch, index), so that the number of workers, processes and resumes changes nothing.
"""

import csv
import difflib
import logging
import re
from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from .configuration_videomae_v2 import VideoMAEV2Config
from .frame_sampling import SHORT_VIDEO_POLICIES, dense_clip, random_start, random_uniform_clip
from .image_processing_videomae_v2 import VideoMAEV2ImageProcessor
from .masking import draw_masks, mask_to_ids, token_counts
from .transforms import multi_scale_crop, normalize, random_horizontal_flip, random_resized_crop
from .video_decoding import VideoDecodeError, VideoInfo, read_frames


logger = logging.getLogger(__name__)

VIDEO_SUFFIXES = (
    ".3gp", ".avi", ".flv", ".gif", ".h264", ".m4v", ".mkv", ".mov", ".mp4", ".mpeg", ".mpg", ".ts", ".webm", ".wmv",
)  # fmt: skip
UNREADABLE = -100  # the label of a video that could not be read in evaluation; cross entropy ignores it too


class BadVideosError(RuntimeError):
    """More videos could not be read than `max_bad_fraction` allows."""


# ---------------------------------------------------------------------------------------------------------- lists


@dataclass(frozen=True)
class Sample:
    path: str
    label: int | None = None


def read_samples(
    source: str | Path, class_names: list[str] | None = None, root: str | Path | None = None, labelled: bool = True
) -> tuple[list[Sample], list[str]]:
    """Lists the videos of a data set.

    Args:
        source: a folder with a folder for each class, or a list file: a video a line, with its label in the last
            column, separated by space, tab, comma or semicolon. A label is the number of a class or its name.
        class_names: the classes and their order, as in a trained model; None takes them from the data.
        root: folder of relative paths in a list; None is the folder of the list.
        labelled: False ignores labels (a folder is then searched at any depth) and allows lists without.

    Returns:
        Samples, and the class names ([] if not `labelled`).

    Raises:
        FileNotFoundError: no such folder or list. ValueError: no video in it, a label missing or unknown.
    """
    source = Path(source).expanduser()
    if source.is_dir():
        named = _list_folder(source, labelled)
    elif source.is_file():
        named = _read_list(source, Path(root).expanduser() if root else source.parent, labelled)
    else:
        raise FileNotFoundError(f"No folder or list of videos at {source}.")
    if not named:
        wanted = "a folder for each class with videos in it" if labelled else "videos"
        raise ValueError(f"{source} holds no video; expected {wanted} ({', '.join(VIDEO_SUFFIXES)}).")
    if not labelled:
        return [Sample(path) for path, _ in named], []
    class_names = class_names or _sorted_classes({label for _, label in named})
    numbers = {name: number for number, name in enumerate(class_names)}
    samples = []
    for path, label in named:
        if label not in numbers and label.isdigit() and int(label) < len(class_names):
            label = class_names[int(label)]
        if label not in numbers:
            near = difflib.get_close_matches(label, class_names, n=1)
            hint = f"; did you mean {near[0]!r}?" if near else ""
            raise ValueError(f"{source}: {path} has the unknown label {label!r}{hint} Known: {_shorten(class_names)}.")
        samples.append(Sample(path, numbers[label]))
    return samples, class_names


def _list_folder(folder: Path, labelled: bool) -> list[tuple[str, str]]:
    def videos(start: Path) -> list[Path]:
        return sorted(path for path in start.rglob("*") if path.suffix.lower() in VIDEO_SUFFIXES and path.is_file())

    if not labelled:
        return [(str(path), "") for path in videos(folder)]
    classes = sorted(child for child in folder.iterdir() if child.is_dir() and not child.name.startswith("."))
    named = []
    for child in classes:
        found = videos(child)
        if not found:
            raise ValueError(f"The class folder {child} holds no video ({', '.join(VIDEO_SUFFIXES)}).")
        named += [(str(path), child.name) for path in found]
    return named


def _read_list(source: Path, root: Path, labelled: bool) -> list[tuple[str, str]]:
    lines = [line.strip() for line in source.read_text(encoding="utf-8-sig").splitlines() if line.strip()]
    delimiter = next((mark for mark in ("\t", ",", ";") if lines and mark in lines[0]), None)
    rows = (
        list(csv.reader(lines, delimiter=delimiter))
        if delimiter
        else [_split_at_spaces(line, labelled) for line in lines]
    )
    path_column, label_column = 0, -1
    header = [name.strip().lower() for name in rows[0]] if rows else []
    if "path" in header:
        path_column = header.index("path")
        label_column = header.index("label") if "label" in header else -1
        rows = rows[1:]
    named = []
    for number, row in enumerate(rows, start=1 + ("path" in header)):
        if labelled and len(row) < 2:
            raise ValueError(f"{source}, line {number}: expected a path and a label, found {' '.join(row)!r}.")
        named.append((str(root / row[path_column].strip()), row[label_column].strip() if labelled else ""))
    return named


def _split_at_spaces(line: str, labelled: bool) -> list[str]:
    """`path label` or, for pretraining, `path` or `path 0 -1`; the path may have spaces (official lists, V1 and V2)."""
    if line.startswith('"'):
        return next(csv.reader([line], delimiter=" ", skipinitialspace=True))
    if labelled:
        return line.rsplit(maxsplit=1)
    video = re.match(rf".*(?:{'|'.join(map(re.escape, VIDEO_SUFFIXES))})(?=\s|$)", line, re.IGNORECASE)
    return [video.group() if video else re.sub(r"(\s+-?\d+)+$", "", line)]


def _sorted_classes(labels: set[str]) -> list[str]:
    """Class names in order: by number where all are numbers (0 to the largest one), otherwise by name."""
    if all(label.isdigit() for label in labels):
        return [str(number) for number in range(max(map(int, labels)) + 1)]
    return sorted(labels)


def _shorten(names: list[str], limit: int = 8) -> str:
    return ", ".join(names[:limit]) + (f", .. ({len(names)} in all)" if len(names) > limit else "")


def check_readable(samples: list[Sample], class_names: list[str], backend: str = "auto", tries: int = 20):
    """Decodes a frame of one video of each class (or of the whole set, without classes), before hours of training.

    Raises:
        ValueError: none of the first `tries` videos of a class can be read.
    """
    by_class = defaultdict(list)
    for sample in samples:
        by_class[sample.label].append(sample.path)
    for label, paths in by_class.items():
        reasons = []
        for path in paths[:tries]:
            try:
                read_frames(path, [0], backend)
                break
            except (VideoDecodeError, OSError) as error:
                reasons.append(str(error))
        else:
            name = f"Class {class_names[label]!r}" if label is not None else "The data set"
            raise ValueError(f"{name} has no readable video ({len(reasons)} tried); the first: {reasons[0]}")


# ---------------------------------------------------------------------------------------------------- clip loaders


@dataclass
class ClipSampling:
    """How training takes a clip from a video; see `frame_sampling.py`."""

    num_frames: int
    frame_sampling: str = "dense"
    sampling_rate: float = 4
    fps: float | None = None
    short_video: str = "repeat_last"
    video_backend: str = "auto"

    def __post_init__(self):
        if self.frame_sampling not in ("dense", "uniform"):
            raise ValueError(f"frame_sampling={self.frame_sampling!r} is unknown; choose dense or uniform.")
        if self.short_video not in SHORT_VIDEO_POLICIES:
            raise ValueError(f"short_video={self.short_video!r}: choose one of {', '.join(SHORT_VIDEO_POLICIES)}.")
        for name in ("sampling_rate", "fps"):
            if getattr(self, name) is not None and getattr(self, name) <= 0:
                raise ValueError(f"{name}={getattr(self, name)} must be positive.")

    def random_clip(self, path: str, generator: torch.Generator) -> torch.Tensor:
        """uint8 (T, C, H, W): a window at a random place, or a random frame of each segment ("uniform").

        Deviation: official dense finetuning spreads 16 frames over 64 by rounding, so that distances are 4, 4, 4, 5;
        here they are all equal, as in official pretraining (v1/kinetics.py).
        """

        def indices(info: VideoInfo) -> list[int]:
            if self.frame_sampling == "uniform":
                return random_uniform_clip(info.num_frames, self.num_frames, generator)
            if self.fps is not None and not info.fps:
                raise ValueError(f"fps={self.fps} needs a video of known frame rate; use sampling_rate instead.")
            rate = self.sampling_rate if self.fps is None else info.fps / self.fps
            start = random_start(info.num_frames, self.num_frames, rate, generator)
            return dense_clip(info.num_frames, start, self.num_frames, rate, self.short_video)

        return read_frames(path, indices, self.video_backend).permute(0, 3, 1, 2)  # (T, H, W, C) -> (T, C, H, W)


@dataclass
class PretrainingClips:
    """Clip loader of pretraining: multi-scale crop, no flip, and the masks as token ids."""

    config: VideoMAEV2Config
    sampling: ClipSampling

    def __call__(self, sample: Sample, generator: torch.Generator) -> dict[str, torch.Tensor]:
        clip = multi_scale_crop(self.sampling.random_clip(sample.path, generator), self.config.image_hw, generator)
        masked, decoded = draw_masks(self.config, 1, generator)
        num_visible, num_decoded = token_counts(self.config)
        return {
            "pixel_values": clip,
            "visible_ids": mask_to_ids(~masked, num_visible)[0],
            "decoded_ids": mask_to_ids(decoded, num_decoded)[0],
        }


@dataclass
class TrainingClips:
    """Clip loader of finetuning: random resized crop and, if wanted, flip."""

    config: VideoMAEV2Config
    sampling: ClipSampling
    crop_scale: tuple[float, float] = (0.08, 1.0)
    horizontal_flip: bool = True

    def __call__(self, sample: Sample, generator: torch.Generator) -> dict:
        clip = self.sampling.random_clip(sample.path, generator)
        clip = random_resized_crop(clip, self.config.image_hw, generator, scale=self.crop_scale)
        if self.horizontal_flip:
            clip = random_horizontal_flip(clip, generator)
        return {"pixel_values": clip, "labels": sample.label}


@dataclass
class EvaluationViews:
    """Clip loader of evaluation: what the image processor makes of the file, all views of it."""

    processor: VideoMAEV2ImageProcessor
    num_clips: int = 1
    num_crops: int = 1
    shuffle_frames: bool = False  # in each view, to see how much a model lives on motion

    def __call__(self, sample: Sample, generator: torch.Generator) -> dict:
        options = {"num_clips": self.num_clips, "num_crops": self.num_crops, "return_tensors": "pt"}
        pixel_values = self.processor(sample.path, **options).pixel_values[0]  # ([views,] T, C, H, W)
        if self.shuffle_frames:
            order = torch.randperm(pixel_values.shape[-4], generator=generator)
            pixel_values = pixel_values.index_select(-4, order)
        return {"pixel_values": pixel_values, "labels": sample.label}


# ---------------------------------------------------------------------------------------------------------- data set


class VideoDataset(torch.utils.data.Dataset):
    """Videos by index. A bad one is logged once, counted, and another one takes its place.

    Args:
        samples: of `read_samples`.
        load: clip loader, called with a sample and the generator of (seed, epoch, index).
        seed: of the generators.
        replace_bad: give another video in place of one that cannot be read. False, for evaluation, gives an empty clip
            with the label `UNREADABLE`.
    """

    def __init__(self, samples: list[Sample], load: Callable, seed: int = 0, replace_bad: bool = True):
        self.samples, self.load, self.seed, self.replace_bad = samples, load, seed, replace_bad
        # In shared memory: workers see the epoch that the main process sets, which sees the videos that they find bad.
        self.epoch = torch.zeros((), dtype=torch.int64).share_memory_()
        self.bad = torch.zeros(len(samples), dtype=torch.bool).share_memory_()

    def __len__(self) -> int:
        return len(self.samples)

    def set_epoch(self, epoch: int):
        self.epoch.fill_(epoch)

    def __getitem__(self, index: int) -> dict:
        item = self._load(index, self._generator(index))
        if item is None and not self.replace_bad:
            return {"pixel_values": None, "labels": UNREADABLE}
        if item is not None:
            return item
        # A walk over the set that stays the same when repeated; the trainer stops it long before it has gone through
        # everything (`max_bad_fraction`). Each step has its own generator: one that a bad video has drawn from would
        # go on differently once the video is known and left out.
        order = torch.randperm(len(self), generator=self._generator(index))
        for step, replacement in enumerate(order.tolist(), start=1):
            item = None if self.bad[replacement] else self._load(replacement, self._generator(index, step))
            if item is not None:
                return item
        raise BadVideosError(f"No readable video among {len(self)}: {int(self.bad.sum())} are known to be bad.")

    def _generator(self, index: int, step: int = 0) -> torch.Generator:
        state = np.random.SeedSequence([self.seed, int(self.epoch), index, step]).generate_state(1, np.uint64)
        return torch.Generator().manual_seed(int(state[0] >> np.uint64(1)))

    def _load(self, index: int, generator: torch.Generator) -> dict | None:
        try:
            return self.load(self.samples[index], generator)
        except (VideoDecodeError, OSError) as error:
            if not self.bad[index]:
                self.bad[index] = True
                logger.warning("Bad video, left out: %s", error)
            return None


@dataclass
class ClipCollator:
    """Stacks items; uint8 clips become normalised float32 here, once for the batch."""

    config: VideoMAEV2Config

    def __call__(self, items: list[dict]) -> dict[str, torch.Tensor]:
        readable = [item["pixel_values"] for item in items if item["pixel_values"] is not None]
        if readable:
            empty = torch.zeros_like(readable[0])
        else:
            empty = torch.zeros(self.config.num_frames, self.config.num_channels, *self.config.image_hw)
        batch = {}
        for name in items[0]:
            values = [item[name] for item in items]
            if name == "pixel_values":
                values = [empty if value is None else value for value in values]
            batch[name] = torch.stack([torch.as_tensor(value) for value in values])
        if batch["pixel_values"].dtype == torch.uint8:
            batch["pixel_values"] = normalize(batch["pixel_values"], self.config.image_mean, self.config.image_std)
        return batch

# Copyright 2026 The videomae_hf authors. Licensed under the Apache License, Version 2.0.
"""A look at the data before hours of training: what there is, and whether it can work at all."""

import math
import os
from collections import Counter
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor

from ..messages import shorten
from ..models.frame_sampling import constant_rate
from ..models.video_decoding import VideoDecodeError, VideoInfo
from .augmentation.transforms import direction_sensitive
from .clips import ClipSampler
from .sources.records import VideoRecord
from .video_dataset import named


_LOOKED_AT = 200  # videos of a data set, spread over it
_TRIES = 20  # videos of a class


def check_data(
    samples: Sequence[VideoRecord], class_names: list[str], samplings: Sequence[ClipSampler], batch_size: int = 1
) -> list[str]:
    """Describes a training set, and refuses one that cannot be trained on.

    Args:
        samples: of `read_samples`.
        class_names: its classes, [] without labels.
        samplings: how clips are taken, one for each source.
        batch_size: videos of one optimizer step, over all processes.

    Returns:
        Lines to print: videos, classes and their balance, lengths, unreadable videos among those looked at.

    Raises:
        ValueError: fewer videos than a step takes, a class none of whose first 20 videos can be read (or has as many
            channels as the model), or clips that reach over more frames than any video looked at has.
    """
    if len(samples) < batch_size:
        raise ValueError(
            f"There are {len(samples)} videos, fewer than the {batch_size} of one step; lower "
            f"per_device_train_batch_size or gradient_accumulation_steps."
        )
    lines = [f"{len(samples)} videos" + (f" of {len(class_names)} classes" if class_names else "")]
    lines += _class_balance(samples, class_names)
    step = max(len(samples) // _LOOKED_AT, 1)
    looked_at = [samples[index] for index in range(0, len(samples), step)][:_LOOKED_AT]
    with ThreadPoolExecutor(4) as pool:
        looks = list(pool.map(lambda sample: _look(sample, samplings[sample.source]), looked_at))
    _check_each_class(samples, class_names, samplings)
    readable = [(sample, info) for sample, info in zip(looked_at, looks) if isinstance(info, VideoInfo)]
    bad = [(sample, str(error)) for sample, error in zip(looked_at, looks) if not isinstance(error, VideoInfo)]
    return lines + _bad_videos(bad, len(looked_at)) + _check_lengths(readable, samplings)


def _bad_videos(bad: list[tuple[VideoRecord, str]], looked_at: int) -> list[str]:
    """A line that names the first three, and the tool that finds all where they are files."""
    if not bad:
        return []
    shown = [error.removesuffix(".") for _, error in bad[:3]]
    line = f"{len(bad)} of {looked_at} videos looked at cannot be read; the first: {'; '.join(shown)}"
    if all(sample.content is None for sample, _ in bad):
        line += "; `videomae scan DATA --fix_list good.csv` finds all and writes a list without them"
    return [line]


def _class_balance(samples: Sequence[VideoRecord], class_names: list[str]) -> list[str]:
    if not class_names:
        return []
    counts = Counter()
    for sample in samples:
        counts.update(sample.label if isinstance(sample.label, tuple) else (sample.label,))
    ranked = counts.most_common()
    (most, largest), (least, smallest) = ranked[0], ranked[-1]
    lines = [f"videos of a class: {smallest} ({class_names[least]}) to {largest} ({class_names[most]})"]
    if smallest == largest:
        lines = [f"videos of a class: {smallest}"]
    empty = [name for number, name in enumerate(class_names) if number not in counts]
    if empty:
        lines.append(f"classes without a video: {shorten(empty)}")
    return lines


def _look(sample: VideoRecord, sampling: ClipSampler) -> VideoInfo | Exception:
    """What is known of a video after decoding its first frame, or the error."""
    seen = []

    def first(info: VideoInfo) -> list[int]:
        seen.append(info)
        if sampling.fps is not None:
            constant_rate(info.num_frames, info.fps, info.timestamps, sampling.fps)  # raises if no rate is known
        return [0]

    try:
        sampling.read(sample, first)
    except (VideoDecodeError, OSError) as error:
        return VideoDecodeError(named(sample, error))
    return seen[-1]


def _check_each_class(samples: Sequence[VideoRecord], class_names: list[str], samplings: Sequence[ClipSampler]) -> None:
    """Raises ValueError if none of the first videos of a class (of all, without classes) can be read."""
    tried, fine = {}, set()
    for sample in samples:
        labels = sample.label if isinstance(sample.label, tuple) else (sample.label,)
        open_labels = [label for label in labels if label not in fine and len(tried.get(label, ())) < _TRIES]
        if not open_labels:
            continue
        look = _look(sample, samplings[sample.source])
        for label in open_labels:
            if isinstance(look, VideoInfo):
                fine.add(label)
            else:
                tried.setdefault(label, []).append(str(look))
    for label, reasons in tried.items():
        if label not in fine:
            name = f"Class {class_names[label]!r}" if label is not None else "The data set"
            raise ValueError(f"{name} has no readable video ({len(reasons)} tried); the first: {reasons[0]}")


def _check_lengths(readable: list[tuple[VideoRecord, VideoInfo]], samplings: Sequence[ClipSampler]) -> list[str]:
    """A line on the lengths; raises ValueError where every video of a source is shorter than its clips."""
    for source, sampling in enumerate(samplings):
        lengths = [_length(info, sampling) for sample, info in readable if sample.source == source]
        span = sampling.span()
        if span is not None and lengths and max(lengths) < span:
            raise ValueError(
                f"A clip of num_frames={sampling.num_frames} at "
                + (f"fps={sampling.fps}" if sampling.fps else f"sampling_rate={sampling.sampling_rate}")
                + f" reaches over {span:g} {'seconds' if sampling.fps else 'frames'}, more than any of the "
                f"{len(lengths)} videos looked at has (the longest: {max(lengths):g}); take fewer or closer frames."
            )
    if not readable:
        return []
    ranked = sorted(readable, key=lambda entry: entry[1].num_frames)
    names = ", ".join(f"{sample.path} ({info.num_frames})" for sample, info in ranked[:3])
    return [
        f"frames of the {len(readable)} videos looked at: {ranked[0][1].num_frames} to {ranked[-1][1].num_frames}, "
        f"median {ranked[len(ranked) // 2][1].num_frames}; the shortest: {names}"
    ]


def _length(info: VideoInfo, sampling: ClipSampler) -> float:
    """In the unit of `ClipSampler.span`: frames, or seconds where clips are taken by time."""
    if not sampling.fps:
        return info.num_frames
    return info.timestamps[-1] if info.timestamps else info.num_frames / (info.fps or 1)


def describe_overlap(train: Sequence[VideoRecord], evaluated: Sequence[VideoRecord]) -> list[str]:
    """A warning where videos that are evaluated on are trained on as well; parts of one video count if they overlap."""
    seen = {}
    for sample in train:
        seen.setdefault(_file_of(sample), []).append(sample)
    shared = [
        sample for sample in evaluated if any(_overlap(sample, other) for other in seen.get(_file_of(sample), ()))
    ]
    if not shared:
        return []
    return [
        f"WARNING: {len(shared)} of {len(evaluated)} videos of the evaluation are in the training data too, such as "
        f"{shared[0].name}: the scores say little about new videos"
    ]


def _file_of(sample: VideoRecord) -> str:
    """What tells that two samples are of one file; links are followed."""
    return sample.path if sample.content is not None or "://" in sample.path else os.path.realpath(sample.path)


def _overlap(one: VideoRecord, other: VideoRecord) -> bool:
    if not (one.is_segment and other.is_segment):
        return True
    for start, end in (("start", "end"), ("start_frame", "end_frame")):
        bounds = [(getattr(sample, start), getattr(sample, end)) for sample in (one, other)]
        if any(bound is not None for some in bounds for bound in some):
            (first, last), (begin, stop) = ((low or 0, math.inf if high is None else high) for low, high in bounds)
            return first < stop and begin < last
    return True


def describe_directions(classes: list[str], *, horizontal_flip: bool) -> list[str]:
    """A warning where clips are mirrored although classes name a direction."""
    directions = direction_sensitive(classes)
    if not (horizontal_flip and directions):
        return []
    warning = f"WARNING: half of the clips are mirrored, and {len(directions)} classes name a direction"
    return [f"{warning} ({shorten(directions, 3)}); consider --horizontal_flip false."]


def check_classes(classes: list[str], problem_type: str) -> None:
    """Raises ValueError for a single class, of which a classifier would learn nothing."""
    if problem_type == "single_label_classification" and len(classes) < 2:
        raise ValueError(
            f"The training data have one class alone, {shorten(classes)}; a classifier needs two. Is the folder one "
            f"level too low, or too high?"
        )

# Copyright 2026 The videomae_hf authors. Licensed under the Apache License, Version 2.0.
"""Checks the data before hours of training: describes them, and refuses data that cannot be trained on."""

import math
import os
from collections import Counter
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor

from ..messages import count, shorten
from ..models.frame_sampling import constant_rate
from ..models.video_decoding import VideoDecodeError, VideoInfo
from .augmentation.transforms import direction_sensitive
from .clips import ClipSampler
from .sources.records import VideoRecord
from .video_dataset import named


_LOOKED_AT = 200  # number of videos to check, spread over the data set
_TRIES = 20  # number of videos to try in each class
_FOR_IMAGES = "a model of single images, such as a new one with --model_kind mae"


def check_data(
    samples: Sequence[VideoRecord], class_names: list[str], samplings: Sequence[ClipSampler], batch_size: int = 1
) -> list[str]:
    """Describes a training set, and refuses one that cannot be trained on.

    Args:
        samples: the records of the videos, as from `read_samples`.
        class_names: names of the classes; [] without labels.
        samplings: one clip sampler for each source.
        batch_size: videos per optimizer step, over all processes.

    Returns:
        Messages to print: number of videos, classes and their balance, lengths, unreadable videos among those checked.

    Raises:
        ValueError: there are fewer videos than a step takes; none of the first 20 videos of a class can be read with
            the model's number of channels; or clips span more frames than any of the checked videos has.
    """
    if len(samples) < batch_size:
        raise ValueError(
            f"There are {len(samples)} videos, fewer than the {batch_size} of one step; lower "
            f"per_device_train_batch_size or gradient_accumulation_steps."
        )
    of_images = all(sampling.num_frames == 1 for sampling in samplings)
    noun = "images" if of_images else "videos"
    of_source = [sampling.image_mask_ratio is not None for sampling in samplings]
    if any(of_source):
        images = sum(of_source[sample.source] for sample in samples)
        kinds = f"{count(len(samples) - images, 'video')} and {count(images, 'image')}"
        messages = [f"{kinds}, in batches of one kind"]
    else:
        messages = [f"{len(samples)} {noun}" + (f" of {len(class_names)} classes" if class_names else "")]
    messages += _class_balance(samples, class_names) + _contradictions(samples, class_names)
    step = max(len(samples) // _LOOKED_AT, 1)
    looked_at = [samples[index] for index in range(0, len(samples), step)][:_LOOKED_AT]
    with ThreadPoolExecutor(4) as pool:
        looks = list(pool.map(lambda sample: _look(sample, samplings[sample.source]), looked_at))
    _check_each_class(samples, class_names, samplings)
    readable = [
        (sample, info)
        for sample, info in zip(looked_at, looks)
        if isinstance(info, VideoInfo) and not of_source[sample.source]
    ]
    bad = [(sample, str(error)) for sample, error in zip(looked_at, looks) if not isinstance(error, VideoInfo)]
    return (
        messages
        + _bad_videos(bad, len(looked_at), of_images=of_images)
        + ([] if of_images else _check_lengths(readable, samplings))
    )


def _bad_videos(bad: list[tuple[VideoRecord, str]], looked_at: int, *, of_images: bool) -> list[str]:
    """A message that names the first three bad videos and, if they are files, the command that finds all of them."""
    if not bad:
        return []
    shown = [error.removesuffix(".") for _, error in bad[:3]]
    line = f"{len(bad)} of {looked_at} checked videos cannot be read; the first: {'; '.join(shown)}"
    if all(sample.content is None for sample, _ in bad):
        command = f"videomae scan DATA {'--images ' * of_images}--fix_list good.csv"
        line += f"; `{command}` finds all of them and writes a list without them"
    return [line]


def _class_balance(samples: Sequence[VideoRecord], class_names: list[str]) -> list[str]:
    if not class_names:
        return []
    counts = Counter()
    for sample in samples:
        counts.update(sample.label if isinstance(sample.label, tuple) else (sample.label,))
    ranked = counts.most_common()
    (most, largest), (least, smallest) = ranked[0], ranked[-1]
    messages = [f"videos per class: {smallest} ({class_names[least]}) to {largest} ({class_names[most]})"]
    if smallest == largest:
        messages = [f"videos per class: {smallest}"]
    empty = [name for number, name in enumerate(class_names) if number not in counts]
    if empty:
        messages.append(f"classes without videos: {shorten(empty)}")
    return messages


def _contradictions(samples: Sequence[VideoRecord], class_names: list[str]) -> list[str]:
    """Warns of videos, or parts of them, that are listed more than once with different labels."""
    if not class_names:
        return []
    first, several = {}, {}  # (path, part) -> label; -> that label and the first other one
    for sample in samples:
        if sample.content is None:
            path = sample.path if "://" in sample.path else os.path.abspath(sample.path)
            part = (path, sample.start, sample.end, sample.start_frame, sample.end_frame)
            if first.setdefault(part, sample.label) != sample.label:
                several.setdefault(part, (first[part], sample.label))
    if not several:
        return []
    (path, *_), labels = next(iter(several.items()))
    each = [label if isinstance(label, tuple) else (label,) for label in labels]
    texts = [shorten([class_names[one] for one in some]) for some in each]
    listed = "videos are listed" if len(several) > 1 else "video is listed"
    return [f"WARNING: {len(several)} {listed} more than once with different labels, such as {path}: "
            f"{' and '.join(texts)}"]  # fmt: skip


def _look(sample: VideoRecord, sampling: ClipSampler) -> VideoInfo | Exception:
    """Decodes the first frame of a video; returns the information about the video, or the error."""
    seen = []

    def first(info: VideoInfo) -> list[int]:
        seen.append(info)
        if sampling.fps is not None and sampling.num_frames > 1:
            constant_rate(info.num_frames, info.fps, info.timestamps, sampling.fps)  # raises if no rate is known
        return [0]

    try:
        sampling.read(sample, first)
    except (VideoDecodeError, OSError) as error:
        return VideoDecodeError(named(sample, error))
    return seen[-1]


def _check_each_class(samples: Sequence[VideoRecord], class_names: list[str], samplings: Sequence[ClipSampler]) -> None:
    """Raises ValueError if none of the first videos of a class (or, without classes, of the set) can be read."""
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
    """A message about the lengths; raises ValueError if all videos of a source are shorter than its clips."""
    for source, sampling in enumerate(samplings):
        lengths = [_length(info, sampling) for sample, info in readable if sample.source == source]
        span = sampling.span()
        if span is not None and lengths and max(lengths) < span:
            single = all(info.num_frames == 1 for _, info in readable)
            raise ValueError(
                f"A clip of num_frames={sampling.num_frames} at "
                + (f"fps={sampling.fps}" if sampling.fps else f"sampling_rate={sampling.sampling_rate}")
                + f" spans {span:g} {'seconds' if sampling.fps else 'frames'}, more than any of the "
                f"{len(lengths)} checked videos has (the longest: {max(lengths):g}); use fewer or closer frames"
                + (f", or {_FOR_IMAGES}." if single else ".")
            )
    if not readable:
        return []
    if all(info.num_frames == 1 for _, info in readable):  # which uniform clips repeat
        return [f"WARNING: each of the {len(readable)} checked videos has a single frame; consider {_FOR_IMAGES}"]
    ranked = sorted(readable, key=lambda entry: entry[1].num_frames)
    names = ", ".join(f"{sample.path} ({info.num_frames})" for sample, info in ranked[:3])
    return [
        f"frames of the {len(readable)} checked videos: {ranked[0][1].num_frames} to {ranked[-1][1].num_frames}, "
        f"median {ranked[len(ranked) // 2][1].num_frames}; the shortest: {names}"
    ]


def _length(info: VideoInfo, sampling: ClipSampler) -> float:
    """The length of a video in the unit of `ClipSampler.span`: frames, or seconds with `fps`."""
    if not sampling.fps:
        return info.num_frames
    return info.timestamps[-1] if info.timestamps else info.num_frames / (info.fps or 1)


def describe_overlap(train: Sequence[VideoRecord], evaluated: Sequence[VideoRecord]) -> list[str]:
    """Warns if evaluation videos are also training videos; parts of the same video count only if they overlap."""
    seen = {}
    for sample in train:
        seen.setdefault(_file_of(sample), []).append(sample)
    shared = [
        sample for sample in evaluated if any(_overlap(sample, other) for other in seen.get(_file_of(sample), ()))
    ]
    if not shared:
        return []
    return [
        f"WARNING: {len(shared)} of {len(evaluated)} evaluation videos are also in the training data, such as "
        f"{shared[0].name}: the scores say little about new videos"
    ]


def _file_of(sample: VideoRecord) -> str:
    """A key that is equal for records of the same file; symbolic links are resolved."""
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
    """Warns if clips are flipped although classes name a direction."""
    directions = direction_sensitive(classes)
    if not (horizontal_flip and directions):
        return []
    warning = f"WARNING: half of the clips are flipped horizontally, but {len(directions)} classes name a direction"
    return [f"{warning} ({shorten(directions, 3)}); consider --horizontal_flip false."]


def check_classes(classes: list[str], problem_type: str) -> None:
    """Raises ValueError for a single class, with which a classifier learns nothing."""
    if problem_type == "single_label_classification" and len(classes) < 2:
        raise ValueError(
            f"The training data have a single class, {shorten(classes)}, but a classifier needs at least two. Is the "
            f"folder one level too low, or too high?"
        )

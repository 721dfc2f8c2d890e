# Copyright 2026 The videomae_hf authors. Licensed under the Apache License, Version 2.0.
"""Finds the videos, or moments of videos, that a text describes best, with a VideoBERT.

The features of segments are computed once, and kept in a folder like those of `videomae extract`. The model reads every
video with the text: a search is as many passes as there are videos or moments, without the backbone.
"""

from collections.abc import Iterator, Sequence
from itertools import islice
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from tqdm import tqdm

from ..evaluation.features import features_digest, weights_digest
from ..messages import named_error, say
from ..models.modeling_videomae_v2 import VideoMAEV2Model
from .feature_folder import FeatureFolder, FeatureWriter
from .inputs import Input
from .loading import load_ahead
from .video_text import Part, Segments, VideoText, parts_of
from .windows import Windows


_SEGMENTS = "segments"  # the kind of features in the header
_ROUNDING = 1e-3  # seconds
_AT_ONCE = 256  # videos or moments whose features are in memory


class TextMatch(NamedTuple):
    """A video or moment that a text describes.

    Args:
        path: the video.
        start, end: seconds from its first frame; frame numbers, if it has no timing.
        score: of matching; the larger, the better. Scores of different texts cannot be compared.
    """

    path: str
    start: float
    end: float
    score: float


def segments_header(model: VideoText, name: str, *, every: bool) -> dict[str, Any]:
    """The header of a folder of segments: everything that their features depend on, and its digest under `key`.

    Args:
        model: the model, with what computes its features.
        name: name of the model.
        every: all segments of a video; otherwise at most `max_segments`.
    """
    processor, config = model.processor, model.model.config
    source = source_of(model)
    weights = weights_digest(source)
    settings = {
        **{"features": _SEGMENTS, "shape": [config.tokens_per_segment, config.feature_size], "dtype": "float32"},
        **{"layout": "safetensors", "segment_stride": processor.segment_stride},
        **{"max_segments": None if every else processor.max_segments, "weights": weights},
        **{"precision": str(model.dtype).removeprefix("torch."), "processor": processor.image_processor.to_dict()},
    }
    key = features_digest(weights, source.config, [settings]).hexdigest()[:24]
    return {"key": key, "model": name, **settings}


def keep_segments(
    model: VideoText, name: str, inputs: Sequence[Input], folder: Path, *, every: bool, num_workers: int
) -> tuple[FeatureFolder, int]:
    """Computes the features of those videos that a folder does not have yet.

    Args:
        model: the model.
        name: name of the model.
        inputs: the videos.
        folder: the folder, created or continued.
        every: all segments of a video; otherwise at most `max_segments`.
        num_workers: number of videos that are decoded at once.

    Returns:
        The folder, and the number of videos that cannot be read.

    Raises:
        ValueError: the folder has other features.
        OSError: it cannot be written.
    """
    writer = FeatureWriter(folder, segments_header(model, name, every=every))
    missing, failed = writer.plan(inputs), 0
    ahead = load_ahead(missing, lambda one: model.segments(one, every=every), num_workers)
    found = (entry for entry in ahead if entry is not None)
    try:
        for one, segments in tqdm(found, "Segments", total=len(missing), unit="video", disable=None):
            if isinstance(segments, Exception):
                failed += 1
                say(f"failed: {named_error(one.name, segments)}")
                writer.fail(one, str(segments))
                continue
            file = writer.open(one)
            file.add(segments.features, segments.times, segments.frames)
            writer.add(one, file)
    finally:
        ahead.close()
    writer.finish()
    return FeatureFolder(folder), failed


def source_of(model: VideoText) -> VideoMAEV2Model | None:
    """What computes the features of segments; None for a model that takes features which are there."""
    return model.model.base_model.backbone if model.encoder is None else model.encoder.model


def check_features(folder: FeatureFolder, model: VideoText) -> None:
    """Raises ValueError for a folder of `videomae extract` whose features the model does not take."""
    header, config = folder.header, model.model.config
    shape = [config.tokens_per_segment, config.feature_size]
    found = [1, *header["shape"]] if header["features"] == "pooled" else header["shape"]
    if header["features"] not in ("pooled", _SEGMENTS) or found != shape:
        raise ValueError(
            f"{folder.path} has {header['features']} features of shape {header['shape']}, but the model takes segments "
            f"with {shape[0]} of {shape[1]} values."
        )
    source, precision = source_of(model), str(model.dtype).removeprefix("torch.")
    if source is None or header.get("precision") != precision:  # whose weights have other values
        return
    if header.get("weights") != weights_digest(source):
        raise ValueError(
            f"{folder.path} has the features of another model ({header.get('model')}) than the one that computes those "
            f"of the VideoBERT, which would be ranked wrongly; extract them again."
        )


def search_text(
    model: VideoText,
    text: str,
    folder: FeatureFolder,
    names: Sequence[str],
    windows: Windows | None = None,
    top_k: int = 10,
) -> list[TextMatch]:
    """The videos or moments that a text describes best, the best first.

    Of moments of one video that overlap, only the best is found.

    Args:
        model: the model, opened as `VideoBertForRetrieval`.
        text: the text.
        folder: the features of segments.
        names: the videos to search, of those in the folder.
        windows: search moments of this length; None is whole videos.
        top_k: number of matches.

    Raises:
        ValueError: windows are shorter than a segment.
        VideoDecodeError: windows are in seconds, but a video has no timing.
    """
    scored: list[TextMatch] = []
    parts = _parts(folder, names, windows)
    while some := list(islice(parts, _AT_ONCE)):
        scores = model.scores([text], [part for _, part in some])[:, 0].tolist()
        scored += [TextMatch(name, part.start, part.end, score) for (name, part), score in zip(some, scores)]
    best: list[TextMatch] = []
    for match in sorted(scored, key=lambda one: -one.score):
        if not any(one.path == match.path and one.start < match.end and match.start < one.end for one in best):
            best.append(match)
        if len(best) == top_k:
            break
    return best


def _parts(folder: FeatureFolder, names: Sequence[str], windows: Windows | None) -> Iterator[tuple[str, Part]]:
    for name in tqdm(names, "Searching", unit="video", disable=None, leave=False):
        arrays = folder.load(folder.records[name])
        values = torch.from_numpy(arrays["features"]).float()
        values = values[:, None] if values.ndim == 2 else values  # pooled: (S, F) -> (S, 1, F)
        times = np.stack([arrays["start"], arrays["end"]], axis=1)  # (S, 2)
        number = _on_grid(folder.header.get("windows"), times, arrays["frames"])
        found = Segments(values[:number], times[:number], arrays["frames"][:number])
        yield from ((name, part) for part in parts_of(found, windows, name))


def _on_grid(windows: dict[str, Any] | None, times: np.ndarray, frames: np.ndarray) -> int:
    """The number of rows of `videomae extract` that are segments: all but a last window that ends with the video, where
    the processor of a VideoBERT leaves a rest out."""
    if windows is None or len(times) < 2:
        return len(times)
    start = frames[-1, 0] if windows["unit"] == "f" else times[-1, 0]
    off = start % windows["stride"]
    return len(times) - (min(off, windows["stride"] - off) > _ROUNDING)

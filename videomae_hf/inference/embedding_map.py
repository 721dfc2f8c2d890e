# Copyright 2026 The videomae_hf authors. Licensed under the Apache License, Version 2.0.
"""A map of videos: their features in two dimensions, as one HTML page with thumbnails that loads nothing else."""

import html
import importlib
import importlib.util
import io
import json
import re
from base64 import b64encode
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from PIL import Image

from ..data.sources.folders_and_lists import Reading, holds_any_label, read_samples
from ..data.sources.media import VIDEOS, Media
from ..evaluation.few_shot import embeddings, head_norm_of
from ..evaluation.reconstruction import to_unit_range
from ..messages import count, printable
from ..text_files import write_text
from .embedding_page import PAGE
from .inputs import Input, find_inputs, is_video_file
from .loading import default_workers, load_ahead
from .visualization import Viewer


_THUMBNAIL_SIDE = 112  # pixels of the longer side


@dataclass(frozen=True, eq=False)
class MappedVideo:
    """A video of the map.

    Args:
        name: its path or address.
        feature: float32 (D,).
        thumbnail: a JPEG file; b"" if there is none.
        label: its class, if that is known.
    """

    name: str
    feature: np.ndarray
    thumbnail: bytes = b""
    label: str | None = None


class Projection(NamedTuple):
    """Points (N, 2), and what the two axes are."""

    points: np.ndarray
    axes: tuple[str, str]


def labelled_inputs(
    source: str, data_root: str | None = None, *, is_class: bool = False, media: Media = VIDEOS
) -> Iterator[tuple[Input, str | None]]:
    """The videos of a folder or list with their labels: in a folder, the names of the folders that they lie in.

    Args:
        source: a folder, a list, or anything else that `find_inputs` takes.
        data_root: folder that relative paths in lists refer to; by default that of the list.
        is_class: whether the name of the folder itself is a label, of the videos that lie directly in it.
        media: see `find_inputs`.

    Raises:
        FileNotFoundError, ValueError: as in `find_inputs`.
    """
    folder = Path(source).expanduser()
    reading = Reading(root=data_root, media=media)
    is_list = folder.is_file() and not is_video_file(folder)
    if is_list and holds_any_label(folder, reading):
        records, classes = read_samples(folder, reading=reading)
        for record in records:
            yield Input(record.name, record.video()), classes[record.label]
        return
    for one in find_inputs([source], data_root, media=media):
        place = Path(one.name).parent
        yield one, place.name if folder.is_dir() and (is_class or place != folder) else None


def encode_videos(
    viewer: Viewer, videos: Iterable[tuple[Input, str | None]], num_workers: int | None = None
) -> Iterator[MappedVideo | tuple[str, Exception]]:
    """Encodes the clip in the middle of each video; its feature is the one that a classifier reads.

    Args:
        viewer: the model.
        videos: (video, label or None).
        num_workers: number of decoding threads; None is one per core, up to four.

    Yields:
        A `MappedVideo`, or (name, exception) for a video that cannot be read.
    """
    labels, norm = {}, head_norm_of(viewer.model)

    def inputs() -> Iterator[Input]:
        for number, (one, label) in enumerate(videos):
            labels[number] = label
            yield one

    loaded = (entry for entry in load_ahead(inputs(), viewer.clip, num_workers or default_workers()) if entry)
    for number, (one, result) in enumerate(loaded):
        label = labels.pop(number)
        if isinstance(result, Exception):
            yield one.name, result
            continue
        clip = result[0]  # (1, T, C, H, W)
        with torch.inference_mode():
            encoder = viewer.model.base_model
            pooled = encoder.pooled_features(encoder(clip).last_hidden_state.float()).cpu()  # (1, D)
        middle = to_unit_range(clip[0, clip.shape[1] // 2], viewer.model.config)
        yield MappedVideo(one.name, embeddings(pooled.numpy(), norm)[0], thumbnail(middle), label)


def thumbnail(frame: torch.Tensor) -> bytes:
    """A frame (C, H, W) in [0, 1] as a small JPEG file."""
    frame = frame[:3] if len(frame) >= 3 else frame[:1].expand(3, -1, -1)
    pixels = (frame.permute(1, 2, 0) * 255).round().byte().cpu().numpy()  # (3, H, W) -> (H, W, 3)
    picture, file = Image.fromarray(pixels), io.BytesIO()
    scale = _THUMBNAIL_SIDE / max(picture.size)
    picture = picture.resize([max(round(side * scale), 1) for side in picture.size])
    picture.save(file, format="JPEG", quality=80)
    return file.getvalue()


def principal_components(features: np.ndarray) -> Projection:
    """Features (N, D) on their first two principal components, each with its share of the variance.

    The sign of a component, which is arbitrary, is chosen so that its largest weight is positive.
    """
    centred = np.asarray(features, np.float64) - np.mean(features, axis=0, dtype=np.float64)
    left, values, right = np.linalg.svd(centred, full_matrices=False)
    points, axes = np.zeros((len(centred), 2)), []
    for number in range(2):
        share = 0.0
        if number < len(values) and values[number] > 0:
            sign = np.sign(right[number][np.abs(right[number]).argmax()])
            points[:, number] = sign * left[:, number] * values[number]
            share = values[number] ** 2 / np.square(values).sum()
        axes.append(f"principal component {number + 1} ({share:.0%} of the variance)")
    return Projection(points, tuple(axes))


def check_umap() -> None:
    """Raises ImportError if umap-learn is not installed."""
    if importlib.util.find_spec("umap") is None:
        raise ImportError("--umap needs umap-learn, which is not installed: pip install umap-learn.")


def umap_points(features: np.ndarray, seed: int = 0) -> Projection:
    """Features (N, D) in two dimensions by UMAP (https://arxiv.org/abs/1802.03426), with its default settings.

    Raises:
        ImportError: umap-learn is not installed.
        ValueError: there are fewer than four videos.
    """
    check_umap()
    if len(features) < 4:
        raise ValueError(f"UMAP needs at least 4 videos, but there are {len(features)}; leave --umap out.")
    umap = importlib.import_module("umap")
    neighbours = min(15, len(features) - 1)
    # Its usual start by eigenvectors fails on a handful of points.
    start = "spectral" if len(features) > 10 else "random"
    reducer = umap.UMAP(n_components=2, n_neighbors=neighbours, init=start, random_state=seed, n_jobs=1)
    return Projection(np.asarray(reducer.fit_transform(features), np.float64), ("UMAP 1", "UMAP 2"))


def write_map(path: Path, videos: Sequence[MappedVideo], projection: Projection, title: str) -> None:
    """Writes the page: hovering shows a video, dragging pans, the wheel zooms, and labels are colours.

    Args:
        path: the HTML file.
        videos: the videos, whose features are not needed any more.
        projection: their places.
        title: shown above the map.

    Raises:
        ValueError: a coordinate is not a finite number, as after features that overflow.
        OSError: the file cannot be written.
    """
    if not np.isfinite(projection.points).all():
        raise ValueError("The features are not finite, so that there is no map of them; is the model damaged?")
    labels = sorted({video.label for video in videos if video.label is not None})
    points = [
        {
            "x": float(f"{x:.5g}"),
            "y": float(f"{y:.5g}"),
            "name": printable(video.name),
            "label": -1 if video.label is None else labels.index(video.label),
            "picture": b64encode(video.thumbnail).decode(),
        }
        for video, (x, y) in zip(videos, projection.points)
    ]
    data = {"points": points, "labels": [printable(label) for label in labels], "axes": projection.axes}
    # Names come from anywhere: in JSON no < can end the script, and the page shows them as text only.
    text = json.dumps(data).replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026")
    heading = html.escape(printable(f"{title}: {count(len(videos), 'video')}"))
    parts = {"{{TITLE}}": heading, "{{DATA}}": text}  # put in at once, since a name may look like a placeholder
    write_text(path, re.sub("|".join(map(re.escape, parts)), lambda found: parts[found[0]], PAGE))

# Copyright 2026 The videomae_hf authors. Licensed under the Apache License, Version 2.0.
"""Features of the segments of videos by the frozen backbone of VideoBERT, computed once and cached on disk.

As in `feature_cache.py`, the name of a cache file is a digest of everything that the features depend on: weights and
configuration of the backbone, the options of the processor, and the videos with their sizes and modification times.
"""

import json
import logging
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from zipfile import BadZipFile

import numpy as np
import torch
from tqdm import tqdm

from ..data.sources.records import VideoRecord
from ..messages import named_error
from ..models.configuration_videobert import without_names
from ..models.configuration_videomae_v2 import VideoMAEV2Config
from ..models.modeling_videomae_v2 import VideoMAEV2Model
from ..models.processing_videobert import VideoBertProcessor
from ..models.segment_features import segment_features
from ..models.video_sources import VideoDecodeError
from ..text_files import whole_file
from .clustering import moments
from .features import content_state, features_digest, weights_digest


logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class SegmentReader:
    """The segments of videos as pixels: float32 (S, T, C, H, W) of the video with a number.

    Args:
        records: the videos.
        processor: cuts and prepares them.
        frame_template: pattern of file names in folders of images.
    """

    records: Sequence[VideoRecord]
    processor: VideoBertProcessor
    frame_template: str | None = None

    def __call__(self, number: int) -> torch.Tensor:
        return self.processor.segments([self.records[number].video(self.frame_template)])[0]


@dataclass(frozen=True, eq=False)
class SegmentFeatures:
    """The features of the segments of videos.

    Args:
        values: float32 (N, P, F), all segments of all videos.
        bounds: int64 (V + 1,), where those of each video begin; a video that cannot be read has none.
    """

    values: np.ndarray
    bounds: np.ndarray

    def __call__(self, number: int) -> torch.Tensor:
        """The features of a video, float32 (S, P, F); raises VideoDecodeError if it could not be read."""
        first, end = self.bounds[number : number + 2]
        if first == end:
            raise VideoDecodeError("no features; the video could not be read")
        return torch.from_numpy(np.array(self.values[first:end]))

    def moments(self) -> tuple[torch.Tensor, torch.Tensor]:
        """Mean and standard deviation, float32 (F,) each, over segments and places."""
        return tuple(torch.from_numpy(one) for one in moments(self.values.reshape(-1, self.values.shape[-1])))


def cached_segments(
    backbone: VideoMAEV2Model, reader: SegmentReader, tokens_per_segment: int, folder: str | Path, batch_size: int = 32
) -> SegmentFeatures:
    """The features of all videos, read from `folder` or computed and written there.

    Args:
        backbone: the encoder, on the device to compute on.
        reader: the videos.
        tokens_per_segment: number P of places.
        folder: the folder of the cache, created if necessary.
        batch_size: segments that go through the backbone at once.

    Raises:
        ValueError: a feature is not finite, or no video can be read.
    """
    path = Path(folder, f"{_key(backbone, reader, tokens_per_segment)}.npz")
    if path.is_file():
        try:
            with np.load(path, allow_pickle=False) as found:
                return SegmentFeatures(found["values"], found["bounds"])
        except (ValueError, OSError, KeyError, BadZipFile) as error:
            logger.warning("%s is damaged, and is computed anew (%s)", path, error)
    features = computed_segments(backbone, reader, range(len(reader.records)), tokens_per_segment, batch_size)
    missing = np.flatnonzero(np.diff(features.bounds) == 0)
    if any("://" in reader.records[number].path for number in missing):
        return features  # an address may answer the next time
    path.parent.mkdir(parents=True, exist_ok=True)
    with whole_file(path) as partial, open(partial, "wb") as file:
        np.savez(file, values=features.values, bounds=features.bounds)
    return features


@torch.inference_mode()
def computed_segments(
    backbone: VideoMAEV2Model,
    reader: SegmentReader,
    numbers: Sequence[int],
    tokens_per_segment: int,
    batch_size: int = 32,
) -> SegmentFeatures:
    """The features of the videos with these numbers."""
    backbone.eval()
    found, lengths = [], []
    for number in tqdm(numbers, desc=f"Features of {len(numbers)} videos", unit="video", disable=None):
        try:
            pixels = reader(number)[None].to(backbone.device)  # (1, S, T, C, H, W)
        except (VideoDecodeError, OSError) as error:
            logger.warning("Bad video, left out: %s", named_error(reader.records[number].path, error))
            lengths.append(0)
            continue
        values = segment_features(backbone, pixels, None, tokens_per_segment, batch_size)[0].float().cpu().numpy()
        if not np.isfinite(values).all():
            raise ValueError(f"The backbone's features of {reader.records[number].name} are not finite.")
        found.append(values)
        lengths.append(len(values))
    if not found:
        raise ValueError(f"None of the {len(numbers)} videos can be read; their names are in the log above.")
    return SegmentFeatures(np.concatenate(found), np.cumsum([0, *lengths]))


def _key(backbone: VideoMAEV2Model, reader: SegmentReader, tokens_per_segment: int) -> str:
    processor = reader.processor
    settings = [processor.image_processor.to_dict(), processor.segment_stride, processor.max_segments]
    settings += [reader.frame_template, tokens_per_segment]
    # The names that a configuration has besides differ between a checkpoint and the backbone of a model.
    config = VideoMAEV2Config.from_dict(without_names(backbone.config.to_dict()))
    digest = features_digest(weights_digest(backbone), config, settings)
    for record in reader.records:
        frames = [record.first_frame, record.num_frames, *record.segment]
        state = content_state(record.path if record.content is None else record.content)
        digest.update(json.dumps([record.path, *frames, state]).encode())
    return digest.hexdigest()[:24]

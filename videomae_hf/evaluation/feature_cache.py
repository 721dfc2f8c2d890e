# Copyright 2026 The videomae_hf authors. Licensed under the Apache License, Version 2.0.
"""Computes the features of a frozen encoder once and caches them on disk.

The name of a cache file is a hash of everything that its features depend on: the weights and the configuration (not the
name of the checkpoint), the videos with their sizes and modification times, the sampling and preprocessing of clips,
and the precision. If any of these changes, a new file is written. Labels are not stored.
"""

import json
import logging
from collections.abc import Sequence
from copy import deepcopy
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch.utils.data import DataLoader
from tqdm import tqdm

from ..data.clips import EvalTransform
from ..data.sources.records import Relabelled, VideoRecord
from ..data.video_dataset import UNREADABLE, ClipCollator, VideoDataset
from ..models.configuration_videomae_v2 import VideoMAEV2Config
from ..models.modeling_videomae_v2 import VideoMAEV2Model
from ..text_files import whole_file
from .features import allocated, content_state, encoded_tokens, features_digest, weights_digest


logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class FeatureOptions:
    """How features are computed.

    Args:
        tokens: keep all patch tokens instead of the pooled features: 2.4 MB per video for ViT-B and 16 frames of
            224 x 224.
        bf16: compute under bfloat16 autocast.
        batch_size, num_workers: options of the data loader.
    """

    tokens: bool = False
    bf16: bool = False
    batch_size: int = 8
    num_workers: int = 0


def cached_features(
    model: VideoMAEV2Model,
    samples: Sequence[VideoRecord],
    views: EvalTransform,
    folder: str | Path,
    options: FeatureOptions = FeatureOptions(),
) -> np.ndarray:
    """Features of one clip per video, read from `folder` or computed and written there.

    Args:
        model: the encoder, on the device to compute on.
        samples: the videos.
        views: the transform that makes the clip; one view per video.
        folder: the folder of the cache, created if necessary.
        options: how they are computed.

    Returns:
        (N, D) float32, or (N, L, D) float16, memory-mapped from the file; NaN for videos that could not be read.

    Raises:
        ValueError: a feature is not finite.
    """
    path = Path(folder, f"{_key(model, samples, views, options)}.npy")
    found = _read(path)
    if found is not None:
        return found
    path.parent.mkdir(parents=True, exist_ok=True)
    with whole_file(path) as partial:
        _compute(model, samples, views, partial, options)
    return np.load(path, mmap_mode="r")


def _compute(
    model: VideoMAEV2Model, samples: Sequence[VideoRecord], views: EvalTransform, path: Path, options: FeatureOptions
) -> None:
    """Writes the features of all videos to a new file."""
    dtype = np.float16 if options.tokens else np.float32
    shape = (len(samples), *((model.config.sequence_length,) if options.tokens else ()), model.config.hidden_size)
    features = allocated(path, dtype, shape)
    # Labels are not used here, except that a special one marks unreadable videos.
    unlabelled = VideoDataset(Relabelled(samples, label=0, targets=None), views, replace_bad=False)
    collator = encoder_collator(model.config)
    loader = DataLoader(unlabelled, options.batch_size, collate_fn=collator, num_workers=options.num_workers)
    done = 0
    for batch in tqdm(loader, desc=f"Features of {len(samples)} videos", unit="batch"):
        values = _encode(model, batch["pixel_values"], options).cpu().numpy().astype(dtype)
        if not np.isfinite(values).all():
            raise ValueError(f"The encoder's features for {samples[done].path}, or a video after it, are not finite.")
        values[(batch["labels"] == UNREADABLE).numpy()] = np.nan
        features[done : done + len(values)] = values
        done += len(values)
    features.flush()


def _read(path: Path) -> np.ndarray | None:
    """The content of a cache file; None if it is missing or damaged, in which case it is computed again."""
    if not path.exists():
        return None
    try:
        return np.load(path, mmap_mode="r", allow_pickle=False)
    except (ValueError, OSError, EOFError) as error:
        logger.warning("%s is damaged (%s): the features are computed again", path, error)
        return None


def _encode(model: VideoMAEV2Model, pixel_values: torch.Tensor, options: FeatureOptions) -> torch.Tensor:
    """The features of a batch, float32: the patch tokens (B, L, D), or the pooled features (B, D)."""
    found = encoded_tokens(model, pixel_values, torch.bfloat16 if options.bf16 else torch.float32)
    return model.patch_tokens(found) if options.tokens else model.pooled_features(found)


def encoder_collator(config: VideoMAEV2Config, erasing: float = 0.0) -> ClipCollator:
    """The collator of clips for an encoder alone, with single labels whatever its checkpoint was finetuned for."""
    config = deepcopy(config)
    config.problem_type = None
    return ClipCollator(config, erasing=erasing)


def _key(model: VideoMAEV2Model, samples: Sequence[VideoRecord], views: EvalTransform, options: FeatureOptions) -> str:
    settings = [views.processor.to_dict(), views.frame_template, options.tokens, options.bf16]
    digest = features_digest(weights_digest(model), model.config, settings)
    for sample in samples:
        frames = [sample.first_frame, sample.num_frames, *sample.segment]
        state = content_state(sample.path if sample.content is None else sample.content)
        digest.update(json.dumps([sample.path, *frames, state]).encode())
    return digest.hexdigest()[:24]

# Copyright 2026 The videomae_hf authors. Licensed under the Apache License, Version 2.0.
"""Features of a frozen encoder, computed once and kept on disk.

A file of them is named by what they depend on: the weights and the configuration (not the name of the checkpoint), the
videos with their sizes and times of change, how clips are taken and prepared, and the precision. Whatever of this
changes, another file is made; labels are not in it.
"""

import hashlib
import json
import logging
import math
import os
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from torch.utils.data import DataLoader
from tqdm import tqdm

from ..data.clips import EvalTransform
from ..data.sources.records import Relabelled, VideoRecord
from ..data.video_dataset import UNREADABLE, ClipCollator, VideoDataset
from ..models.modeling_videomae_v2 import VideoMAEV2Model


logger = logging.getLogger(__name__)


def cached_features(
    model: VideoMAEV2Model,
    samples: Sequence[VideoRecord],
    views: EvalTransform,
    folder: str | Path,
    tokens: bool = False,
    batch_size: int = 8,
    num_workers: int = 0,
    bf16: bool = False,
) -> np.ndarray:
    """Features of one clip of each video, read from `folder` or computed and written there.

    Args:
        model: the encoder, on the device that computes.
        samples: the videos.
        views: makes the clip, one view a video.
        folder: of the cache; is made.
        tokens: all tokens in place of their mean. For 16 frames of 224 x 224 and ViT-B 2.4 MB a video.
        batch_size, num_workers: of the data loader.
        bf16: compute under bfloat16 autocast.

    Returns:
        (N, D) float32, or (N, L, D) float16, mapped from the file and not in memory; NaN for videos that could not be
        read.

    Raises:
        ValueError: a feature that is not finite.
    """
    path = Path(folder, f"{_key(model, samples, views, tokens, bf16)}.npy")
    found = _read(path)
    if found is not None:
        return found
    path.parent.mkdir(parents=True, exist_ok=True)
    # An interrupted run leaves a .partial, which the next one writes anew.
    partial, dtype = path.with_suffix(f".partial{os.getpid()}"), np.float16 if tokens else np.float32
    shape = (len(samples), *((model.config.sequence_length,) if tokens else ()), model.config.hidden_size)
    features = _allocated(partial, dtype, shape)
    # Labels play no part here; that of an unreadable video marks it.
    unlabelled = VideoDataset(Relabelled(samples, label=0, targets=None), views, replace_bad=False)
    loader = DataLoader(unlabelled, batch_size, collate_fn=ClipCollator(model.config), num_workers=num_workers)
    done = 0
    for batch in tqdm(loader, desc=f"Features of {len(samples)} videos", unit="batch"):
        values = _encode(model, batch["pixel_values"], tokens, bf16).cpu().numpy().astype(dtype)
        if not np.isfinite(values).all():
            raise ValueError(f"The encoder's features of {samples[done].path} or near it are not finite.")
        values[(batch["labels"] == UNREADABLE).numpy()] = np.nan
        features[done : done + len(values)] = values
        done += len(values)
    features.flush()
    os.replace(partial, path)
    return np.load(path, mmap_mode="r")


def _allocated(path: Path, dtype: type, shape: tuple[int, ...]) -> np.ndarray:
    """An array mapped from a new file, whose space is taken now: a page without space kills the process."""
    size = np.dtype(dtype).itemsize * math.prod(shape)
    try:
        features = np.lib.format.open_memmap(path, mode="w+", dtype=dtype, shape=shape)
        if sys.platform == "linux":
            with path.open("r+b") as file:
                os.posix_fallocate(file.fileno(), 0, path.stat().st_size)
    except OSError as error:
        path.unlink(missing_ok=True)
        message = f"{size / 1e6:.1f} MB of features cannot be written: {error.strerror}"
        raise OSError(error.errno, message, str(path.parent)) from error
    return features


def _read(path: Path) -> np.ndarray | None:
    """A file of the cache; None without it, or where it is damaged: it is only a cache, and made anew."""
    if not path.exists():
        return None
    try:
        return np.load(path, mmap_mode="r", allow_pickle=False)
    except (ValueError, OSError, EOFError) as error:
        logger.warning("%s is damaged (%s): the features are computed again", path, error)
        return None


@torch.inference_mode()
def _encode(model: VideoMAEV2Model, pixel_values: torch.Tensor, tokens: bool, bf16: bool) -> torch.Tensor:
    """float32 (B, L, D), or the mean (B, D)."""
    model.eval()
    with torch.autocast(model.device.type, torch.bfloat16, enabled=bf16):
        found = model(pixel_values.to(model.device)).last_hidden_state.float()
    return found if tokens else found.mean(dim=1)


def _key(model: VideoMAEV2Model, samples: Sequence[VideoRecord], views: EvalTransform, tokens: bool, bf16: bool) -> str:
    digest = hashlib.sha256()
    for name, value in sorted(model.state_dict().items()):
        digest.update(name.encode())
        digest.update(value.detach().cpu().contiguous().view(torch.uint8).numpy())
    config = model.config.to_dict()
    for name in ("_name_or_path", "id2label", "label2id", "problem_type", "architectures", "transformers_version"):
        config.pop(name, None)
    settings = [config, views.processor.to_dict(), views.frame_template, tokens, bf16]
    digest.update(json.dumps(settings, sort_keys=True, default=str).encode())
    for sample in samples:
        frames = [sample.first_frame, sample.num_frames, *sample.segment]
        digest.update(json.dumps([sample.path, *frames, _change(sample)]).encode())
    return digest.hexdigest()[:24]


def _change(sample: VideoRecord) -> list:
    """What tells that a video is another one than before: size and time of its file, or its bytes."""
    if sample.content is not None:
        return [hashlib.sha256(sample.content).hexdigest()]
    try:
        status = os.stat(sample.path)
    except OSError:  # a URL, or a file that is not there and will be reported as unreadable
        return []
    return [status.st_size, status.st_mtime_ns]

# Copyright 2026 The videomae_hf authors. Licensed under the Apache License, Version 2.0.
"""The common part of the probes' feature cache and of the folders of `videomae extract`.

Both compute the tokens of a frozen encoder, name what they stored by a digest of everything that the features depend
on (the weights and the configuration, not the name of the checkpoint; the preprocessing; the precision), and notice
that a video has changed.
"""

import hashlib
import json
import math
import os
import sys
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from ..models.configuration_videomae_v2 import VideoMAEV2Config
from ..models.modeling_videomae_v2 import VideoMAEV2Model
from ..models.video_sources import FrameFolder, VideoSegment, VideoSource


# Fields of a configuration that features do not depend on
_UNUSED = ("_name_or_path", "id2label", "label2id", "problem_type", "architectures", "transformers_version")


@torch.inference_mode()
def encoded_tokens(
    model: VideoMAEV2Model, pixel_values: torch.Tensor, dtype: torch.dtype = torch.float32
) -> torch.Tensor:
    """The tokens of clips: (B, T, C, H, W) -> float32 (B, L, D), computed under autocast of `dtype`."""
    model.eval()
    device = model.device
    with torch.autocast(device.type, dtype, enabled=dtype != torch.float32):
        return model(pixel_values.to(device)).last_hidden_state.float()


def weights_digest(model: nn.Module) -> str:
    """A digest of the names and values of all weights."""
    digest = hashlib.sha256()
    for name, value in sorted(model.state_dict().items()):
        digest.update(name.encode())
        digest.update(value.detach().cpu().contiguous().view(torch.uint8).numpy())
    return digest.hexdigest()


def features_digest(weights: str, config: VideoMAEV2Config, settings: list[Any]) -> "hashlib._Hash":
    """A digest of a model and its settings, which may be continued.

    Args:
        weights: the result of `weights_digest`.
        config: the configuration of the model.
        settings: all other values that features depend on, such as the options of the processor.
    """
    digest = hashlib.sha256(weights.encode())
    used = {name: value for name, value in config.to_dict().items() if name not in _UNUSED}
    digest.update(json.dumps([used, *settings], sort_keys=True, default=str).encode())
    return digest


def content_state(video: VideoSource) -> list:
    """Values that change with the content of a video: size and modification time of its file, or its bytes."""
    if isinstance(video, VideoSegment):
        return content_state(video.source)
    if isinstance(video, bytes):
        return [hashlib.sha256(video).hexdigest()]
    try:
        status = os.stat(video.path if isinstance(video, FrameFolder) else video)
    except OSError:  # a URL, or a missing file, which will be reported as unreadable
        return []
    return [status.st_size, status.st_mtime_ns]


def allocated(path: Path, dtype: type, shape: tuple[int, ...]) -> np.ndarray:
    """An array mapped from a new file, whose space is reserved now: a write to a full disk would kill the process."""
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

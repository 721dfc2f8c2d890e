# Copyright 2026 The videomae_hf authors. Licensed under the Apache License, Version 2.0.
"""Clips a second from video files to the model, beside the two paths that people use today.

    python benchmarks/loading.py [VIDEO_OR_FOLDER ...] [--output benchmarks/loading.md]

Every path makes the same 16 frames, four apart, of the same file into a clip of 224 x 224 (the multi-scale crop of
pretraining where the path has it). The paths take turns on each clip in one process on one thread; what counts is CPU
time. Paths:

- transformers: the code of its VideoMAE documentation, PyAV decoding from the start and `VideoMAEImageProcessor`
- official: what the official recipe does: decord, PIL images, a multi-scale crop of each, floats
- here: `read_frames` and `multi_scale_crop`, uint8 up to the model, which normalises the visible tenth
- here, floats: the same and then normalised, what the other two give
- prepared: the same of the file that `videomae prepare` made of it, one and four clips of a decoding

Without files, eight are drawn: 340 x 256, 300 frames, H.264 with the defaults of x264, as Kinetics is.
"""

import av
import decord
import numpy as np
import torch
from PIL import Image
from transformers import VideoMAEImageProcessor

from videomae_hf import VideoMAEV2Config
from videomae_hf.transforms import MULTI_SCALE_CROP_SCALES, multi_scale_crop
from videomae_hf.video_decoding import read_frames


FRAMES, RATE, SIZE = 16, 4, 224
CONFIG = VideoMAEV2Config()
MEAN, STD = (np.array(values, np.float32) for values in (CONFIG.image_mean, CONFIG.image_std))


# ------------------------------------------------------------------------------------------------------------ paths


def transformers_clip(path: str, indices: list[int], processor: VideoMAEImageProcessor) -> torch.Tensor:
    frames = []
    with av.open(path) as container:
        for index, frame in enumerate(container.decode(video=0)):
            if index > indices[-1]:
                break
            if index in indices:
                frames.append(frame.to_ndarray(format="rgb24"))
    return processor(frames, return_tensors="pt").pixel_values[0]


def official_clip(path: str, indices: list[int], generator: torch.Generator) -> torch.Tensor:
    images = [Image.fromarray(frame) for frame in decord.VideoReader(path, num_threads=1).get_batch(indices).asnumpy()]
    width, height = images[0].size
    scale = MULTI_SCALE_CROP_SCALES[int(torch.randint(4, (), generator=generator))]
    side = int(min(width, height) * scale)
    left, top = (int(torch.randint(5, (), generator=generator)) * ((spare - side) // 4) for spare in (width, height))
    box = (left, top, left + side, top + side)
    crops = [image.crop(box).resize((SIZE, SIZE), Image.Resampling.BILINEAR) for image in images]
    stacked = torch.from_numpy(np.concatenate([np.asarray(crop) for crop in crops], axis=2))  # (H, W, T * 3)
    pixels = stacked.permute(2, 0, 1).contiguous().float().div(255)  # (T * 3, H, W)
    mean, std = (torch.from_numpy(np.tile(values, FRAMES))[:, None, None] for values in (MEAN, STD))
    return pixels.sub_(mean).div_(std).view(FRAMES, 3, SIZE, SIZE)


def our_clips(path: str, indices: list[int], generator: torch.Generator, views: int = 1) -> list[torch.Tensor]:
    frames = read_frames(path, indices).permute(0, 3, 1, 2)  # (T, H, W, C) -> (T, C, H, W)
    return [multi_scale_crop(frames, (SIZE, SIZE), generator) for _ in range(views)]

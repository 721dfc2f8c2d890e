# Copyright 2026 The videomae_hf authors. Licensed under the Apache License, Version 2.0.
"""Converts frames in memory (PIL images, numpy arrays, torch tensors), with or without metadata, to (T, C, H, W).

This file ships with checkpoints and may import only its siblings.
"""

from typing import Any

import numpy as np
import torch
from PIL import Image
from transformers.video_utils import VideoMetadata

from .frame_pixels import channels_last, image_pixels, luma, warn_of_dark_frames
from .video_sources import VideoInfo, VideoSource


def split_batch(videos, *, of_images: bool = False) -> list:
    """Splits the input of the processor, one video or a batch in any accepted form, into a list of videos.

    Args:
        videos: the input.
        of_images: frames are images, each a clip of its own: PIL images, arrays of up to 3 dimensions, and those along
            the first axis of a 4-D array. Otherwise they are the frames of one video.

    Raises:
        ValueError: the input is empty, of another type, or an array of neither 4 nor 5 dimensions.
    """
    if of_images:
        if isinstance(videos, np.ndarray | torch.Tensor) and videos.ndim in (2, 3, 4):
            videos = list(videos) if videos.ndim == 4 else [videos]
        if isinstance(videos, list | tuple):
            videos = [[one] if _is_frame(one) else one for one in videos]
    if isinstance(videos, VideoSource | Image.Image):
        return [[videos] if isinstance(videos, Image.Image) else videos]
    if isinstance(videos, np.ndarray | torch.Tensor):
        if videos.ndim not in (4, 5):
            raise ValueError(f"A video has 4 dimensions and a batch 5; this array has shape {tuple(videos.shape)}.")
        return [videos] if videos.ndim == 4 else list(videos)
    if not isinstance(videos, list | tuple) or len(videos) == 0:
        raise ValueError(f"Expected a video or a list of videos or frames, not {type(videos).__name__} {videos!r:.80}.")
    return [videos] if _is_frame(videos[0]) else list(videos)


def _is_frame(one) -> bool:
    return isinstance(one, Image.Image) or (isinstance(one, np.ndarray | torch.Tensor) and one.ndim < 4)


def stack_frames(video, options: dict[str, Any]) -> torch.Tensor:
    """A list of frames or an array -> (T, C, H, W), uint8 for integers and float32 for floats.

    Args:
        video: PIL images, which are converted to `num_channels` channels, or arrays, which keep their channels with two
            exceptions: RGB becomes luma with `num_channels=1`, and grey becomes RGB with `do_convert_rgb=True`.
        options: the options of the processor.

    Raises:
        ValueError: the frames differ in shape, or their pixels have no known range (see `_integer_pixels` and
            `_float_pixels`).
    """
    num_channels = options["num_channels"]
    if isinstance(video, list | tuple):
        frames = [_frame_to_tensor(frame, num_channels) for frame in video]
        if len({tuple(frame.shape) for frame in frames}) != 1:
            raise ValueError(f"The frames of a video differ in shape: {sorted({tuple(f.shape) for f in frames})}.")
        video = torch.stack(frames)
    else:
        video = _frame_to_tensor(video, num_channels)
    if video.numel() == 0:
        raise ValueError(f"A video of shape {tuple(video.shape)} has no pixels.")
    if video.ndim == 3:  # grey frames (T, H, W)
        video = video[:, None]
    elif _is_channels_last(video.shape[1:], options["input_data_format"], num_channels):
        video = video.permute(0, 3, 1, 2)  # (T, H, W, C) -> (T, C, H, W)
    rescaled = options["do_rescale"] and options["rescale_factor"] < 0.1
    video = _float_pixels(video, rescaled=rescaled) if video.is_floating_point() else _integer_pixels(video)
    if num_channels == 1 and video.shape[1] == 3:
        return luma(video)
    if options["do_convert_rgb"] and video.shape[1] == 1:
        return video.expand(-1, 3, -1, -1)
    return video


def _frame_to_tensor(frame, num_channels: int) -> torch.Tensor:
    if isinstance(frame, Image.Image):
        return torch.from_numpy(image_pixels(frame, num_channels))
    if isinstance(frame, np.ndarray):
        if frame.dtype.kind not in "biuf":
            raise ValueError(f"The pixels of a frame must be numbers, not of dtype {frame.dtype}.")
        if frame.dtype.itemsize > 8:  # torch has no floats of more than 64 bits
            frame = frame.astype(np.float64)
        # torch supports neither negative strides (OpenCV's BGR as `frame[..., ::-1]`) nor foreign byte orders.
        frame = np.ascontiguousarray(frame, frame.dtype.newbyteorder("="))
        return torch.as_tensor(frame)
    if not isinstance(frame, torch.Tensor):
        raise ValueError(
            f"A frame must be a PIL image or a numpy or torch array, not {type(frame).__name__} {frame!r:.80}."
        )
    if frame.layout != torch.strided or frame.is_nested or frame.is_quantized or frame.is_complex():
        raise ValueError(
            f"A frame must be a dense tensor of real numbers, not of dtype {frame.dtype} and layout {frame.layout}; "
            f"convert it with to_dense(), dequantize() or abs()."
        )
    return frame


def _is_channels_last(shape: torch.Size, input_data_format: Any, num_channels: int) -> bool:
    if input_data_format is not None:
        return str(getattr(input_data_format, "value", input_data_format)) == "channels_last"
    return channels_last(tuple(shape), num_channels)


def _integer_pixels(video: torch.Tensor) -> torch.Tensor:
    """Integers from 0 to 255, uint16 or bool -> uint8.

    uint16 is scaled from 16 to 8 bits if any value of the video is above 255; otherwise it is taken as 0 to 255, like
    every other integer type.

    Raises:
        ValueError: a value is out of range.
    """
    if video.dtype == torch.uint8:
        return video
    if video.dtype == torch.bool:
        return video.to(torch.uint8) * 255
    sixteen_bits = video.dtype == torch.uint16
    video = video.to(torch.int64)
    low, high = (int(value) for value in video.aminmax())
    if sixteen_bits and high > 255:
        warn_of_dark_frames(high)
        return ((video + 128) // 257).to(torch.uint8)
    if low < 0 or high > 255:
        raise ValueError(f"Pixels must lie in 0 to 255, not {low} to {high}.")
    return video.to(torch.uint8)


def _float_pixels(video: torch.Tensor, *, rescaled: bool) -> torch.Tensor:
    """Floats as float32.

    Pixels from 0 to 1 that were divided by 255 again would all be black. transformers does this silently (it warned
    before version 5); here such pixels are refused, since no later step would notice. A clip that holds only zeros and
    ones passes: it may be a nearly black clip in the range 0 to 255.

    Args:
        video: float, any shape.
        rescaled: whether the processor is going to divide these pixels by 255.

    Raises:
        ValueError: pixels are not finite, or seem to be scaled or normalised already although `rescaled` is set.
    """
    video = video.float()
    low, high = (float(value) for value in video.aminmax())  # NaN if there is any
    if not (abs(low) < float("inf") and abs(high) < float("inf")):
        raise ValueError(f"Pixels must be finite numbers, not {low} to {high}.")
    is_scaled = high <= 1 and not bool((video == video.round()).all())
    is_normalized = low < 0 and high < 4  # by the mean and std of ImageNet: -2.1 to 2.6
    if rescaled and (is_scaled or is_normalized):
        advice = "in 0 to 1 already, pass do_rescale=False"
        if is_normalized:
            advice = "normalised already, pass do_rescale=False and do_normalize=False"
        raise ValueError(
            f"The pixels are floats from {low:.4g} to {high:.4g}, and do_rescale=True would divide them by 255; if "
            f"they are {advice}."
        )
    return video


# ----------------------------------------------------------------------------------------------------------- metadata


def split_metadata(video_metadata, number: int) -> list[VideoMetadata | None]:
    """Splits `video_metadata`, in any form that transformers' video processors accept, into one entry per video.

    Raises:
        ValueError: the number of entries is not `number`.
    """
    if video_metadata is None:
        return [None] * number
    entries = video_metadata if isinstance(video_metadata, list | tuple) else [video_metadata]
    if entries and isinstance(entries[0], list | tuple):
        entries = [entry for part in entries for entry in part]
    if len(entries) != number:
        raise ValueError(f"{number} videos and {len(entries)} entries of video_metadata; pass one for each video.")
    return [entry if isinstance(entry, VideoMetadata) else VideoMetadata(**entry) for entry in entries]


def given_info(num_frames: int, metadata: VideoMetadata | None) -> VideoInfo:
    """The `VideoInfo` of frames in memory: a whole video, or the frames of one that `frames_indices` names.

    Raises:
        ValueError: the metadata describe another number of frames.
    """
    if metadata is None:
        return VideoInfo(num_frames)
    fps, indices = metadata.fps, metadata.frames_indices
    if indices is not None and len(indices) == num_frames:
        if not fps or num_frames < 2:
            return VideoInfo(num_frames, fps)
        seconds = [(int(index) - int(indices[0])) / fps for index in indices]
        return VideoInfo(num_frames, (num_frames - 1) / seconds[-1] if seconds[-1] > 0 else None, seconds)
    if metadata.total_num_frames != num_frames:
        raise ValueError(
            f"{num_frames} frames are given, but their video_metadata has total_num_frames={metadata.total_num_frames} "
            f"and no frames_indices to say which of these they are."
        )
    return VideoInfo(num_frames, fps)

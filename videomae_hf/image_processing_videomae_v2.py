# Copyright 2026 The videomae_hf authors. Licensed under the Apache License, Version 2.0.
"""From a video, in whatever form it comes, to `pixel_values`: sample, decode, resize, crop, normalise.

One class with two names: `VideoMAEV2ImageProcessor` is what users call and `AutoImageProcessor` finds, and
`VideoMAEV2VideoProcessor` what Transformers' video-classification pipeline and `AutoVideoProcessor` look for. Both read
and write the one preprocessor_config.json. Everything is torch on the CPU; torchvision is not needed.
"""

from typing import Any

import numpy as np
import torch
from huggingface_hub.dataclasses import validate_typed_dict
from PIL import Image
from transformers.image_processing_utils import BaseImageProcessor, BatchFeature
from transformers.image_utils import IMAGENET_STANDARD_MEAN, IMAGENET_STANDARD_STD, PILImageResampling, SizeDict
from transformers.processing_utils import ImagesKwargs

from .frame_sampling import constant_rate, sample_clip_indices
from .video_decoding import read_frames
from .video_sources import VideoInfo, VideoSource


_INTERPOLATIONS = {
    PILImageResampling.NEAREST: "nearest-exact",  # the pixel centres, as PIL and transformers take them
    PILImageResampling.BILINEAR: "bilinear",
    PILImageResampling.BICUBIC: "bicubic",
}


class VideoMAEV2ProcessorKwargs(ImagesKwargs, total=False):
    num_frames: int | None
    sampling_rate: int | float | None
    fps: int | float | None
    frame_sampling: str | None
    num_clips: int | None
    num_crops: int | None
    short_video: str | None
    do_sample_frames: bool | None
    square_pixels: bool | None
    video_backend: str | None
    generator: Any  # torch.Generator of frame_sampling="random"


class VideoMAEV2ImageProcessor(BaseImageProcessor):
    r"""
    Prepares videos for VideoMAE. Resizing, cropping and normalising, and their defaults, are those of transformers'
    `VideoMAEImageProcessor`; sampling, decoding and views are new. Every option can be given here or in a call.

    Args:
        num_frames (`int`, defaults to 16): frames of a clip.
        frame_sampling (`str`, defaults to `"dense"`): `"dense"`, `"uniform"` or `"random"`, see `sample_clip_indices`.
        sampling_rate (`float`, defaults to 4): distance of neighbouring frames of a dense clip, in frames.
        fps (`float`, *optional*): the same in frames a second; goes before `sampling_rate`.
        num_clips, num_crops (`int`, defaults to 1):
            Views of a video: clips spread over its length, crops over its longer side. The crops of the first clip come
            first. One crop is the centre.
        short_video (`str`, defaults to `"repeat_last"`): see `sample_clip_indices`.
        do_sample_frames (`bool`, *optional*):
            `None` samples files and takes frames that are given as they are; `True` samples these as well; `False`
            takes all frames of a file.
        video_backend (`str`, defaults to `"auto"`): the decoder, see `read_frames`.
        square_pixels (`bool`, defaults to `True`): stretch videos whose pixels are not square, see `read_frames`.
        do_resize, size, resample, do_center_crop, crop_size, do_rescale, rescale_factor, do_normalize, image_mean,
        image_std: as in transformers.

    Example:

    ```python
    >>> from videomae_hf import VideoMAEV2ImageProcessor

    >>> processor = VideoMAEV2ImageProcessor(num_frames=16, sampling_rate=4)
    >>> inputs = processor("video.mp4", return_tensors="pt")
    >>> inputs.pixel_values.shape
    torch.Size([1, 16, 3, 224, 224])
    ```"""

    valid_kwargs = VideoMAEV2ProcessorKwargs
    model_input_names = ["pixel_values"]

    do_resize = True
    size = {"shortest_edge": 224}
    default_to_square = False
    resample = PILImageResampling.BILINEAR
    do_center_crop = True
    crop_size = {"height": 224, "width": 224}
    do_rescale = True
    rescale_factor = 1 / 255
    do_normalize = True
    image_mean = IMAGENET_STANDARD_MEAN
    image_std = IMAGENET_STANDARD_STD

    num_frames = 16
    sampling_rate = 4
    fps = None
    frame_sampling = "dense"
    num_clips = 1
    num_crops = 1
    short_video = "repeat_last"
    do_sample_frames = None
    video_backend = "auto"
    square_pixels = True

    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        self._set_attributes(**kwargs)

    def __call__(self, videos, **kwargs) -> BatchFeature:
        return self.preprocess(videos, **kwargs)

    def preprocess(self, videos, **kwargs) -> BatchFeature:
        """Prepares one video or a batch.

        Args:
            videos: a path, http(s) URL or the bytes of a file; a folder of images; a `VideoSegment` of one of these; a
                list of frames (PIL, or numpy or torch (H, W, C) or (C, H, W)); an array (T, H, W, C) or (T, C, H, W);
                or a list of any of these, or a 5-D array. Values from 0 to 255; frames of 0 to 1 need
                `do_rescale=False`.
            return_tensors: `"pt"`, `"np"` or None (a list of tensors).
            kwargs: options for this call.

        Returns:
            `pixel_values` (B, T, C, H, W), or (B, num_clips * num_crops, T, C, H, W) for more than one view.

        Raises:
            VideoDecodeError, FileNotFoundError: for files. ValueError: for videos of different shapes, unknown layouts
            and options that do not fit together.
        """
        validate_typed_dict(self.valid_kwargs, kwargs)
        for name in self.valid_kwargs.__annotations__:
            kwargs.setdefault(name, getattr(self, name, None))
        return_tensors = kwargs.pop("return_tensors", None)
        options = self._standardize_kwargs(**kwargs)
        prepared = [self._prepare_video(video, options) for video in split_batch(videos)]
        shapes = {tuple(video.shape) for video in prepared}
        if return_tensors is not None and len(shapes) > 1:
            raise ValueError(
                f"The videos come out in different shapes, {sorted(shapes)}, and cannot be stacked; sample the same "
                f"number of frames (num_frames, do_sample_frames) and crop them (do_center_crop)."
            )
        pixel_values = torch.stack(prepared) if len(shapes) == 1 else prepared
        return BatchFeature(data={"pixel_values": pixel_values}, tensor_type=return_tensors)

    def _prepare_video(self, video, options: dict[str, Any]) -> torch.Tensor:
        """One video -> (T, C, H, W), or (views, T, C, H, W)."""
        frames, num_clips = self._sampled_frames(video, options)  # (num_clips * T, C, H, W)
        if options["do_resize"]:
            frames = resize(frames, options["size"], options["resample"])
        if options["do_center_crop"]:
            crops = crop_views(
                frames, options["crop_size"], options["num_crops"]
            )  # (num_crops, num_clips * T, C, H, W)
        elif options["num_crops"] > 1:
            raise ValueError(f"num_crops={options['num_crops']} needs do_center_crop=True.")
        else:
            crops = frames[None]
        # -> (num_crops, num_clips, T, C, H, W) -> (num_clips * num_crops, T, C, H, W)
        views = crops.unflatten(1, (num_clips, -1)).transpose(0, 1).flatten(0, 1).float()
        if options["do_rescale"]:
            views = views * options["rescale_factor"]
        if options["do_normalize"]:
            mean, std = (_per_channel(options[name], views, name) for name in ("image_mean", "image_std"))
            views = (views - mean) / std
        return views[0] if len(views) == 1 else views

    def _sampled_frames(self, video, options: dict[str, Any]) -> tuple[torch.Tensor, int]:
        """One video -> its frames (num_clips * T, C, H, W), clip after clip, and num_clips."""
        is_file = isinstance(video, VideoSource)
        sample = is_file if options["do_sample_frames"] is None else options["do_sample_frames"]

        def indices(info: VideoInfo) -> list[int]:
            if not sample:
                return list(range(info.num_frames))
            return [index for clip in self.sample_clips(info, options) for index in clip]

        if is_file:
            frames = read_frames(video, indices, options["video_backend"], options["square_pixels"])
            frames = frames.permute(0, 3, 1, 2)  # (T, H, W, C) -> (T, C, H, W)
        else:
            frames = stack_frames(video, options["input_data_format"])
            frames = frames[indices(VideoInfo(len(frames), fps=None))]
        return frames, options["num_clips"] if sample else 1

    @staticmethod
    def sample_clips(info: VideoInfo, options: dict[str, Any]) -> list[list[int]]:
        """The frames of each clip of a video, as the options say."""
        frames, sampling_rate = range(info.num_frames), options["sampling_rate"]
        if options["fps"] is not None:
            frames, sampling_rate = constant_rate(info.num_frames, info.fps, info.timestamps, options["fps"])
        names = ("num_frames", "frame_sampling", "num_clips", "short_video", "generator")
        sampling = {name: options[name] for name in names}
        clips = sample_clip_indices(len(frames), sampling_rate=sampling_rate, **sampling)
        return [[int(frames[index]) for index in clip] for clip in clips]

    def to_dict(self) -> dict[str, Any]:
        """What preprocessor_config.json holds: both names, so that either Auto class finds its own."""
        output = super().to_dict()
        output.pop("generator", None)
        output["image_processor_type"] = VideoMAEV2ImageProcessor.__name__
        output["video_processor_type"] = VideoMAEV2VideoProcessor.__name__
        if "auto_map" in output:
            module = self.__class__.__module__.split(".")[-1]
            output["auto_map"] = {
                "AutoImageProcessor": f"{module}.{VideoMAEV2ImageProcessor.__name__}",
                "AutoVideoProcessor": f"{module}.{VideoMAEV2VideoProcessor.__name__}",
            }
        return output


class VideoMAEV2VideoProcessor(VideoMAEV2ImageProcessor):
    """`VideoMAEV2ImageProcessor` under the name that Transformers' pipeline and `AutoVideoProcessor` expect."""

    @classmethod
    def register_for_auto_class(cls, auto_class="AutoVideoProcessor"):
        super().register_for_auto_class(auto_class)


def clip_options(config) -> dict[str, Any]:
    """The processor's options for the shape of the clips that a model of this configuration takes."""
    height, width = config.image_hw
    return {
        "num_frames": config.num_frames,
        "size": {"shortest_edge": max(height, width)},
        "crop_size": {"height": height, "width": width},
    }


def normalization_options(config) -> dict[str, Any]:
    """The processor's options for the normalisation that this configuration states."""
    return {"image_mean": list(config.image_mean), "image_std": list(config.image_std)}


def split_batch(videos) -> list:
    """One video or a batch, in any form that `preprocess` takes, as a list of videos."""
    if isinstance(videos, VideoSource | Image.Image):
        return [[videos] if isinstance(videos, Image.Image) else videos]
    if isinstance(videos, np.ndarray | torch.Tensor):
        if videos.ndim not in (4, 5):
            raise ValueError(f"A video has 4 dimensions and a batch 5; this array has shape {tuple(videos.shape)}.")
        return [videos] if videos.ndim == 4 else list(videos)
    if not isinstance(videos, list | tuple) or len(videos) == 0:
        raise ValueError(f"Expected a video or a list of videos or frames, not {type(videos).__name__} {videos!r:.80}.")
    first = videos[0]
    is_frame = isinstance(first, Image.Image) or (isinstance(first, np.ndarray | torch.Tensor) and first.ndim < 4)
    return [videos] if is_frame else list(videos)


def stack_frames(video, input_data_format: str | None = None) -> torch.Tensor:
    """A list of frames or an array -> (T, C, H, W); uint8 for integers, float32 for floats."""
    if isinstance(video, list | tuple):
        frames = [_frame_to_tensor(frame) for frame in video]
        if len({tuple(frame.shape) for frame in frames}) != 1:
            raise ValueError(f"The frames of a video differ in shape: {sorted({tuple(f.shape) for f in frames})}.")
        video = torch.stack(frames)
    else:
        video = _frame_to_tensor(video)
    if video.ndim == 3:  # grey frames (T, H, W)
        video = video[:, None]
    elif _channels_last(video.shape[1:], input_data_format):
        video = video.permute(0, 3, 1, 2)  # (T, H, W, C) -> (T, C, H, W)
    if video.is_floating_point():
        return video.float()
    if video.min() < 0 or video.max() > 255:
        raise ValueError(f"Pixels must lie in 0 to 255, not {video.min().item()} to {video.max().item()}.")
    return video.to(torch.uint8)


def _frame_to_tensor(frame) -> torch.Tensor:
    if isinstance(frame, Image.Image):
        frame = np.array(frame.convert("RGB"))
    if isinstance(frame, np.ndarray):
        # torch has neither negative strides (OpenCV's BGR as `frame[..., ::-1]`) nor arithmetic on uint16.
        frame = np.ascontiguousarray(frame.astype(np.int64) if frame.dtype in (np.uint16, np.uint32) else frame)
    elif not isinstance(frame, torch.Tensor):
        raise ValueError(f"A frame is a PIL image or a numpy or torch array, not {type(frame).__name__} {frame!r:.80}.")
    return torch.as_tensor(frame)


def _channels_last(shape: torch.Size, input_data_format: str | None) -> bool:
    """Whether a frame of this shape is (H, W, C). As in transformers 1 or 3 are channels, the first axis goes first."""
    if input_data_format is not None:
        return str(getattr(input_data_format, "value", input_data_format)) == "channels_last"
    if shape[0] in (1, 3) or shape[2] in (1, 3):
        return shape[0] not in (1, 3)
    return shape[2] < shape[0]  # other channel counts: there are fewer channels than pixels


def resize(frames: torch.Tensor, size: SizeDict, resample: PILImageResampling | int) -> torch.Tensor:
    """(T, C, H, W) -> (T, C, H', W'), antialiased, in the dtype of `frames`."""
    if resample not in _INTERPOLATIONS:
        raise ValueError(f"resample={resample} is not supported; use nearest (0), bilinear (2) or bicubic (3).")
    height, width = frames.shape[-2:]
    if size.shortest_edge:
        # As transformers: the longer side is rounded down.
        short, long = size.shortest_edge, int(size.shortest_edge * max(height, width) / min(height, width))
        target = (short, long) if height <= width else (long, short)
    elif size.height and size.width:
        target = (size.height, size.width)
    else:
        raise ValueError(f"size={dict(size)} must have 'shortest_edge', or 'height' and 'width'.")
    if target == (height, width):
        return frames
    mode = _INTERPOLATIONS[resample]
    if mode == "nearest-exact":
        return torch.nn.functional.interpolate(frames, target, mode=mode)
    return torch.nn.functional.interpolate(frames, target, mode=mode, antialias=True)


def crop_views(frames: torch.Tensor, crop_size: SizeDict, num_crops: int) -> torch.Tensor:
    """(T, C, H, W) -> (num_crops, T, C, crop height, crop width): the centre, or crops spread over the longer side.

    Crop k of K begins at int(k * spare / (K - 1)) of the longer side (v1/kinetics.py, test mode), the other side is
    centred. Frames smaller than the crop are padded with black, as in transformers.
    """
    if num_crops < 1:
        raise ValueError(f"num_crops={num_crops} must be at least 1.")
    crop_height, crop_width = crop_size.height, crop_size.width
    pad_height, pad_width = max(crop_height - frames.shape[-2], 0), max(crop_width - frames.shape[-1], 0)
    if pad_height or pad_width:
        padding = (pad_width // 2, pad_width - pad_width // 2, pad_height // 2, pad_height - pad_height // 2)
        frames = torch.nn.functional.pad(frames, padding)
    spare_height, spare_width = frames.shape[-2] - crop_height, frames.shape[-1] - crop_width
    crops = []
    for crop in range(num_crops):
        top, left = spare_height // 2, spare_width // 2
        if num_crops > 1 and spare_height > spare_width:
            top = int(crop * spare_height / (num_crops - 1))
        elif num_crops > 1:
            left = int(crop * spare_width / (num_crops - 1))
        crops.append(frames[..., top : top + crop_height, left : left + crop_width])
    return torch.stack(crops)


def _per_channel(values, frames: torch.Tensor, name: str) -> torch.Tensor:
    """A number, or one for each channel, as (C, 1, 1)."""
    values = (values,) if isinstance(values, int | float) else values
    if len(values) not in (1, frames.shape[-3]):
        raise ValueError(f"{name}={tuple(values)} has {len(values)} values for videos of {frames.shape[-3]} channels.")
    return torch.tensor(values, dtype=torch.float32)[:, None, None]

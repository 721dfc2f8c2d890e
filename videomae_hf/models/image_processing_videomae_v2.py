# Copyright 2026 The videomae_hf authors. Licensed under the Apache License, Version 2.0.
"""Prepares videos and images, in any form, as `pixel_values`: sample, decode, resize, crop, normalise.

One class has two names: users and `AutoImageProcessor` use `VideoMAEV2ImageProcessor`; `AutoVideoProcessor` and the
video-classification pipeline of transformers look for `VideoMAEV2VideoProcessor`. Both read and write the same
preprocessor_config.json. All operations are torch on the CPU; torchvision is not needed. This file ships with
checkpoints and may import only its siblings.
"""

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from huggingface_hub.dataclasses import validate_typed_dict
from transformers.image_processing_utils import BaseImageProcessor, BatchFeature
from transformers.image_utils import IMAGENET_STANDARD_MEAN, IMAGENET_STANDARD_STD, PILImageResampling, SizeDict
from transformers.processing_utils import ImagesKwargs
from transformers.video_utils import VideoMetadata

from .checkpoint_files import FILE_OPTIONS, read_mapping
from .frame_arrays import given_info, split_batch, split_metadata, stack_frames
from .frame_sampling import FrameSampling, constant_rate, sample_clip_indices
from .preprocessing import read_preprocessing
from .video_decoding import MAX_PIXELS, read_frames
from .video_sources import VideoInfo, VideoSource


_INTERPOLATIONS = {
    PILImageResampling.NEAREST: "nearest-exact",  # uses pixel centres, as PIL and transformers do
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
    official_sampling: bool | None
    do_sample_frames: bool | None
    square_pixels: bool | None
    video_backend: str | None
    num_channels: int | None
    antialias: bool | None
    max_pixels: int | None
    video_metadata: Any  # VideoMetadata or dict, or a list with one entry per video
    return_metadata: bool | None
    generator: Any  # torch.Generator for frame_sampling="random"


class VideoMAEV2ImageProcessor(BaseImageProcessor):
    r"""
    Prepares videos for VideoMAE. Resizing, cropping and normalisation, and their defaults, are those of transformers'
    `VideoMAEImageProcessor`; sampling, decoding and views are additions. Every option can be given here or in a call.

    Args:
        num_frames (`int`, defaults to 16): number of frames in a clip.
        frame_sampling (`str`, defaults to `"dense"`): `"dense"`, `"uniform"` or `"random"`, see `sample_clip_indices`.
        sampling_rate (`float`, defaults to 4): distance between neighbouring frames of a dense clip, in frames.
        fps (`float`, *optional*): frames per second of a dense clip; overrides `sampling_rate`.
        num_clips, num_crops (`int`, defaults to 1):
            Views of a video: clips are spread over its length, crops over its longer side. The crops of the first clip
            come first. A single crop is the centre crop.
        short_video (`str`, defaults to `"repeat_last"`): see `sample_clip_indices`.
        official_sampling (`bool`, defaults to `False`):
            Use exactly the frames of the official V1 and V2 code, see `sample_clip_indices`.
        do_sample_frames (`bool`, *optional*):
            `None` samples frames from files and uses frames in memory as they are; `True` samples from these as well;
            `False` uses all frames of a file.
        video_backend (`str`, defaults to `"auto"`): the decoder, see `read_frames`.
        square_pixels (`bool`, defaults to `True`): stretch videos with non-square pixels, see `read_frames`.
        num_channels (`int`, defaults to 3):
            Number of channels of clips from files and PIL images: 3 for RGB, 1 for luma, or another number for files
            that have it. Arrays keep their channels, except that RGB becomes luma if it is 1.
        antialias (`bool`, defaults to `True`):
            Antialias when frames are made smaller, as PIL and transformers do. The official test does not (bilinear
            resizing in OpenCV); `False` reproduces its pixels.
        max_pixels (`int`, defaults to 8192 * 4320): refuse files whose frames have more pixels, see `read_frames`.
        return_metadata (`bool`, defaults to `False`):
            Also return `video_metadata`, one `VideoMetadata` per video; its `frames_indices` are the frames of all
            clips, one clip after the other.
        do_resize, size, resample, do_center_crop, crop_size, do_rescale, rescale_factor, do_normalize, image_mean,
        image_std: as in transformers.

    The video-classification pipeline of transformers calls the processor with `num_frames` only: its
    `frame_sampling_rate` is not passed on, and clips are sampled with the `sampling_rate` of the processor.

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
    official_sampling = False
    do_sample_frames = None
    video_backend = "auto"
    square_pixels = True
    num_channels = 3
    antialias = True
    max_pixels = MAX_PIXELS
    return_metadata = False

    def __init__(self, **kwargs) -> None:
        super().__init__(**kwargs)
        self._set_attributes(**kwargs)

    @classmethod
    def get_image_processor_dict(cls, pretrained_model_name_or_path, **kwargs) -> tuple[dict[str, Any], dict[str, Any]]:
        """As in transformers, from whichever processor file the checkpoint has; see `read_preprocessing`."""
        name, options = pretrained_model_name_or_path, {key: kwargs.pop(key) for key in FILE_OPTIONS if key in kwargs}
        for key in ("image_processor_filename", "_from_auto", "_from_pipeline"):  # not used here
            kwargs.pop(key, None)
        is_file = Path(name).is_file()
        found = read_mapping(Path(name)) if is_file else read_preprocessing(name, options)
        if found is None:
            raise OSError(f"{name} has no preprocessor_config.json or other processor file.")
        return found, kwargs

    def __call__(self, videos=None, *, images=None, **kwargs) -> BatchFeature:
        return self.preprocess(videos, images=images, **kwargs)

    def preprocess(self, videos=None, *, images=None, **kwargs) -> BatchFeature:
        """Prepares one video or image, or a batch.

        With `num_frames=1`, each image is a clip of its own: a PIL image, an array (H, W, C) or (C, H, W), an item of a
        list of these, or of a 4-D array. With more frames, or with `do_sample_frames=True`, a list of images or a 4-D
        array is one video.

        Args:
            videos: a path, an http(s) URL or the bytes of a file; a folder of images; a `VideoSegment` of one of these;
                a list of frames (PIL, or numpy or torch (H, W, C) or (C, H, W)); an array (T, H, W, C) or (T, C, H, W);
                a list of any of these; or a 5-D array. Pixels range from 0 to 255, or to 65535 for uint16; floats from
                0 to 1 need `do_rescale=False`.
            images: another name of `videos`, which the image pipelines of transformers use.
            video_metadata: a `VideoMetadata` of transformers or a dict per video, for frames in memory that are sampled
                by `fps`. Files have their own metadata.
            return_tensors: `"pt"`, `"np"` or None (a list of tensors).
            kwargs: options that override those of the processor in this call.

        Returns:
            `pixel_values` (B, T, C, H, W), or (B, num_clips * num_crops, T, C, H, W) for more than one view.

        Raises:
            VideoDecodeError, FileNotFoundError: a file cannot be decoded, or does not exist.
            ValueError: the videos differ in shape, their layout or range of pixels is unknown, or options contradict
                each other.
        """
        if (videos is None) == (images is None):
            raise ValueError("Pass either videos or images.")
        options, return_tensors = self._options(kwargs)
        of_images = options["num_frames"] == 1 and not options["do_sample_frames"]
        videos = split_batch(images if videos is None else videos, of_images=of_images)
        metadata = split_metadata(options["video_metadata"], len(videos))
        prepared, metadata = zip(*map(partial(self._prepare_video, options=options), videos, metadata))
        shapes = {tuple(video.shape) for video in prepared}
        if return_tensors is not None and len(shapes) > 1:
            raise ValueError(
                f"The processed videos differ in shape, {sorted(shapes)}, and cannot be stacked; sample the same "
                f"number of frames (num_frames, do_sample_frames) and crop them (do_center_crop)."
            )
        pixel_values = list(prepared) if return_tensors is None else torch.stack(prepared)
        output = BatchFeature(data={"pixel_values": pixel_values}, tensor_type=return_tensors)
        if options["return_metadata"]:
            output["video_metadata"] = list(metadata)
        return output

    def _options(self, kwargs: dict[str, Any]) -> tuple[dict[str, Any], Any]:
        """All options, where those of a call override those of the processor, and `return_tensors`."""
        validate_typed_dict(self.valid_kwargs, kwargs)
        options = {name: getattr(self, name, None) for name in self.valid_kwargs.__annotations__} | kwargs
        return_tensors = options.pop("return_tensors")
        return self._standardize_kwargs(**options), return_tensors

    def _prepare_video(
        self, video, metadata: VideoMetadata | None, options: dict[str, Any]
    ) -> tuple[torch.Tensor, VideoMetadata]:
        """One video -> (T, C, H, W), or (views, T, C, H, W), and its metadata."""
        if options["num_crops"] > 1 and not options["do_center_crop"]:
            raise ValueError(f"num_crops={options['num_crops']} needs do_center_crop=True.")
        is_file, found = isinstance(video, VideoSource), VideoMetadata(0)
        sample = is_file if options["do_sample_frames"] is None else options["do_sample_frames"]

        def indices(info: VideoInfo) -> list[int]:
            clips = self.sample_clips(info, options) if sample else [range(info.num_frames)]
            _describe(found, info)
            found.frames_indices = [index for clip in clips for index in clip]
            return found.frames_indices

        def crops(frames: torch.Tensor) -> torch.Tensor:  # (n, C, H, W) -> (n, num_crops, C, height, width)
            found.height, found.width = frames.shape[-2:]
            if options["do_resize"]:
                frames = resize(frames, options["size"], options["resample"], antialias=options["antialias"])
            if not options["do_center_crop"]:
                return frames[:, None]
            return crop_views(frames, options["crop_size"], options["num_crops"]).transpose(0, 1)

        if is_file:
            views = read_frames(
                video,
                indices,
                options["video_backend"],
                square_pixels=options["square_pixels"],
                transform=lambda frames: crops(frames.permute(0, 3, 1, 2)),  # (n, H, W, C) -> (n, C, H, W)
                num_channels=options["num_channels"],
                max_pixels=options["max_pixels"],
            )
        else:
            frames = stack_frames(video, options)
            views = crops(frames[indices(given_info(len(frames), metadata))])
        # (num_clips * T, num_crops, C, H, W) -> (num_clips, num_crops, T, C, H, W) -> (views, T, C, H, W)
        length = options["num_frames"] if sample else len(views)
        views = views.unflatten(0, (-1, length)).transpose(1, 2).flatten(0, 1)
        views = self._normalized(views, options)
        return views[0] if len(views) == 1 else views, found

    @staticmethod
    def _normalized(views: torch.Tensor, options: dict[str, Any]) -> torch.Tensor:
        """Pixels (..., C, H, W) as float32, rescaled and normalised."""
        views = views.to(torch.float32, copy=True)
        if options["do_rescale"]:
            views.mul_(options["rescale_factor"])
        if options["do_normalize"]:
            mean, std = (_per_channel(options[name], views, name) for name in ("image_mean", "image_std"))
            views.sub_(mean).div_(std)
        return views

    def sample_frames(self, metadata: VideoMetadata, **kwargs) -> np.ndarray:
        """The indices of the frames that a call with these options samples from a video, one clip after the other.

        Args:
            metadata: the metadata of the whole video; sampling by `fps` needs its `fps`.
            kwargs: sampling options that override those of the processor, such as `num_frames`.

        Returns:
            int (num_clips * num_frames,).
        """
        clips = self.sample_clips(VideoInfo(metadata.total_num_frames, metadata.fps), self._options(kwargs)[0])
        return np.array(clips).flatten()  # (num_clips, T) -> (num_clips * T,)

    def fetch_videos(
        self, video_url_or_urls: VideoSource | list, sample_indices_fn: Callable | None = None
    ) -> tuple[torch.Tensor, VideoMetadata] | list[tuple]:
        """Decodes a video, or each video of a list, without resizing.

        Args:
            video_url_or_urls: a video file, or a list of them, in any form that the processor accepts.
            sample_indices_fn: called with the keyword `metadata`, a `VideoMetadata`; returns the indices of the wanted
                frames. None decodes all frames.

        Returns:
            The frames, uint8 (T, C, H, W), and the metadata; for a list, as in transformers, a list of each.
        """
        if isinstance(video_url_or_urls, list):
            return list(zip(*[self.fetch_videos(one, sample_indices_fn) for one in video_url_or_urls]))
        options, found = self._options({})[0], VideoMetadata(0)

        def indices(info: VideoInfo) -> list[int]:
            _describe(found, info)
            wanted = range(info.num_frames) if sample_indices_fn is None else sample_indices_fn(metadata=found)
            found.frames_indices = [int(index) for index in wanted]
            return found.frames_indices

        shown = {name: options[name] for name in ("square_pixels", "num_channels", "max_pixels")}
        frames = read_frames(video_url_or_urls, indices, options["video_backend"], **shown)
        found.height, found.width = frames.shape[1:3]
        return frames.permute(0, 3, 1, 2), found  # (T, H, W, C) -> (T, C, H, W)

    @staticmethod
    def sample_clips(info: VideoInfo, options: dict[str, Any]) -> list[list[int]]:
        """The frame indices of each clip of a video, sampled according to the options."""
        single = options["num_frames"] == 1  # which has no distance to others
        frames, sampling_rate = range(info.num_frames), 1 if single else options["sampling_rate"]
        if options["fps"] is not None and not single:
            frames, sampling_rate = constant_rate(info.num_frames, info.fps, info.timestamps, options["fps"])
        names = ("num_frames", "frame_sampling", "short_video", "official_sampling")
        sampling = FrameSampling(sampling_rate=sampling_rate, **{name: options[name] for name in names})
        clips = sample_clip_indices(len(frames), sampling, options["num_clips"], options["generator"])
        return [[int(frames[index]) for index in clip] for clip in clips]

    def to_dict(self) -> dict[str, Any]:
        """The content of preprocessor_config.json, with both class names, so that either Auto class finds its own."""
        output = super().to_dict()
        for name in ("generator", "video_metadata"):  # arguments of a call
            output.pop(name, None)
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
    """`VideoMAEV2ImageProcessor` under the name that transformers' pipeline and `AutoVideoProcessor` expect."""

    @classmethod
    def register_for_auto_class(cls, auto_class="AutoVideoProcessor"):
        super().register_for_auto_class(auto_class)


def clip_options(config) -> dict[str, Any]:
    """The processor options that give clips of the shape that a model with this configuration takes.

    Images are resized as in MAE's evaluation (main_finetune.py): bicubic, and up to 224 pixels the crop has 224/256 of
    the shorter side.
    """
    height, width = config.image_hw
    side = max(height, width)
    options = {"num_frames": config.num_frames, "num_channels": config.num_channels}
    if config.num_frames == 1:
        side = side * 256 // 224 if side <= 224 else side
        options["resample"] = PILImageResampling.BICUBIC
    return {**options, "size": {"shortest_edge": side}, "crop_size": {"height": height, "width": width}}


def normalization_options(config) -> dict[str, Any]:
    """The processor options for the normalisation of this configuration."""
    return {"image_mean": list(config.image_mean), "image_std": list(config.image_std)}


def resize(
    frames: torch.Tensor, size: SizeDict, resample: PILImageResampling | int, *, antialias: bool = True
) -> torch.Tensor:
    """(T, C, H, W) -> (T, C, H', W'), in the dtype of `frames`."""
    if resample not in _INTERPOLATIONS:
        raise ValueError(f"resample={resample} is not supported; use nearest (0), bilinear (2) or bicubic (3).")
    height, width = frames.shape[-2:]
    if size.shortest_edge:
        # As in transformers, the longer side is rounded down.
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
    return torch.nn.functional.interpolate(frames, target, mode=mode, antialias=antialias)


def crop_views(frames: torch.Tensor, crop_size: SizeDict, num_crops: int) -> torch.Tensor:
    """(T, C, H, W) -> (num_crops, T, C, crop height, crop width): the centre, or crops spread over the longer side.

    Crop k of K begins at int(k * spare / (K - 1)) of the longer side (v1/kinetics.py, test mode); the shorter side is
    centred. Frames smaller than the crop are padded with black, as in transformers.

    Raises:
        ValueError: `num_crops` is less than 1.
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


def _describe(metadata: VideoMetadata, info: VideoInfo) -> None:
    metadata.total_num_frames, metadata.fps = info.num_frames, info.fps
    metadata.duration = info.num_frames / info.fps if info.fps else None


def _per_channel(values, frames: torch.Tensor, name: str) -> torch.Tensor:
    """A number, or one number per channel, as a tensor (C, 1, 1)."""
    values = (values,) if isinstance(values, int | float) else values
    if len(values) not in (1, frames.shape[-3]):
        raise ValueError(
            f"{name}={tuple(values)} has {len(values)} values, but the videos have {frames.shape[-3]} channels."
        )
    return torch.tensor(values, dtype=torch.float32)[:, None, None]

# Copyright 2026 The videomae_hf authors. Licensed under the Apache License, Version 2.0.
"""A model on a device with its processor: the common part of predictions and of feature extraction."""

from collections.abc import Iterable

import torch
from transformers.video_utils import VideoMetadata

from ..data.sources.media import Media, media_for
from ..messages import did_you_mean
from ..models.image_processing_videomae_v2 import VideoMAEV2ImageProcessor
from ..models.modeling_videomae_v2 import VideoMAEV2PreTrainedModel
from .frame_stream import Camera
from .inputs import Input
from .loading import default_workers


# Options of the processor that may differ from those of the checkpoint without changing the shape of clips
_OPTIONS = (
    "antialias", "fps", "frame_sampling", "max_pixels", "official_sampling", "sampling_rate", "short_video",
    "square_pixels", "video_backend",
)  # fmt: skip
_DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}


def check_processor_options(options: Iterable[str]) -> None:
    """Raises ValueError for an option of the processor that is unknown, or that would change the shape of clips."""
    unknown = next((name for name in options if name not in _OPTIONS), None)
    if unknown is not None:
        hint = did_you_mean(unknown, _OPTIONS) or f"; choose from {', '.join(_OPTIONS)}."
        raise ValueError(f"Unknown option {unknown!r} of the processor{hint}")


def usable_device(device: str | torch.device | None = None) -> torch.device:
    """The device of this name; None is the first of cuda, mps and cpu that is available.

    Raises:
        ValueError: torch does not know the device, or it is not available.
    """
    if device is None:
        device = "cuda" if torch.cuda.is_available() else "mps" if torch.backends.mps.is_available() else "cpu"
    try:
        found = torch.device(device)
        torch.empty(0, device=found)
    # torch raises AssertionError if it was built without CUDA, and RuntimeError for other reasons.
    except (RuntimeError, AssertionError, NotImplementedError) as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise ValueError(f"device={str(device)!r} cannot be used: {reason}") from error
    return found


def usable_dtype(dtype: str | torch.dtype | None, device: torch.device) -> torch.dtype:
    """The dtype of this name; None is bfloat16 on GPUs that support it, otherwise float32, as in `videomae evaluate`.

    Raises:
        ValueError: it is none of float32, bfloat16 and float16.
    """
    if dtype is None:
        is_fast = device.type == "cuda" and torch.cuda.is_bf16_supported(False)
        return torch.bfloat16 if is_fast else torch.float32
    found = _DTYPES.get(str(dtype).removeprefix("torch."))
    if found is None:
        raise ValueError(f"dtype={dtype} is unknown; choose one of {', '.join(_DTYPES)}.")
    return found


class ModelRunner:
    """A model in eval mode on a device, and its processor.

    Args:
        model: the model.
        processor: its processor.
        device: a device of torch; None is the first of cuda, mps and cpu that is available.
        dtype: precision of the computation (autocast), see `usable_dtype`.
        batch_size: number of clips that the model processes at once.
        num_workers: number of decoding threads; None is one per core, up to four.

    Attributes:
        messages: what is unusual about the model.

    Raises:
        ValueError: a value is unknown or out of range.
    """

    def __init__(
        self,
        model: VideoMAEV2PreTrainedModel,
        processor: VideoMAEV2ImageProcessor,
        *,
        device: str | torch.device | None = None,
        dtype: str | torch.dtype | None = None,
        batch_size: int = 8,
        num_workers: int | None = None,
    ) -> None:
        for name, value in (("batch_size", batch_size), ("num_workers", num_workers)):
            if value is not None and value < 1:
                raise ValueError(f"{name}={value} must be at least 1.")
        self.device = usable_device(device)
        self.dtype = usable_dtype(dtype, self.device)
        self.model, self.processor = model.to(self.device).eval(), processor
        self.batch_size, self.num_workers = batch_size, num_workers or default_workers()
        self.messages: list[str] = []

    @property
    def media(self) -> Media:
        """What the inputs of the model are: images as well as videos, if it has a single frame."""
        return media_for(self.model.config.num_frames)

    def clips(self, one: Input, num_clips: int, num_crops: int) -> torch.Tensor:
        """The views of a video: float32 (V, T, C, H, W), the crops of the first clip first."""
        return self.described_clips(one, num_clips, num_crops)[0]

    def described_clips(self, one: Input, num_clips: int, num_crops: int) -> tuple[torch.Tensor, VideoMetadata]:
        """The views of a video, as in `clips`, and its metadata, with the frames of all clips."""
        options = {"num_clips": num_clips, "num_crops": num_crops, "return_tensors": "pt", "return_metadata": True}
        refuse_camera(one)
        if one.is_in_memory:
            options["do_sample_frames"] = len(one.video) != self.processor.num_frames
        found = self.processor(one.video, **options)
        pixels = found.pixel_values  # (1, [V,] T, C, H, W)
        return (pixels if pixels.ndim == 5 else pixels[0]), found.video_metadata[0]


def refuse_camera(one: Input) -> None:
    """Raises ValueError for a camera, which has no end."""
    if isinstance(one.video, Camera):
        raise ValueError(f"{one.name} has no end; use stream, which yields a prediction for each window.")

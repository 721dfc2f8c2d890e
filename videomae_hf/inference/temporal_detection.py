# Copyright 2026 The videomae_hf authors. Licensed under the Apache License, Version 2.0.
"""Features for temporal action detection, as V2's extract_tad_feature.py computes them for ActionFormer.

A feature is the pooled feature of a window of consecutive frames. Windows begin at every `stride`-th frame, and none
reaches beyond the end of the video: n frames give `len(range(0, n - 15, stride))` features of 16 frames. The official
strides are 4 frames for THUMOS14 and 16 for FineAction.

Deviation: a video that is shorter than a window has one feature, for which its last frame is repeated; the official
script fails there. The official script also leaves pixels in 0 to 1, without the normalisation that its models were
trained with, and squeezes frames to a square; `official=True` does the same.
"""

from ..models.image_processing_videomae_v2 import VideoMAEV2ImageProcessor
from .extractor import Extraction
from .windows import Windows


STRIDE = 4  # frames, of THUMOS14
_BILINEAR = 2  # of PIL's numbers


def detection_settings(
    processor: VideoMAEV2ImageProcessor, window: str | None = None, stride: str | None = None, *, official: bool = False
) -> tuple[VideoMAEV2ImageProcessor, Extraction]:
    """The processor and the extraction of these features.

    Args:
        processor: the processor of the checkpoint.
        window: length of the windows in frames, as `"16f"`; by default that of a clip of consecutive frames.
        stride: distance of the windows, in frames; by default that of THUMOS14.
        official: use the preprocessing of the official script instead of that of the checkpoint.

    Raises:
        ValueError: window and stride are not in frames, or the window is not a multiple of the frames of a clip.
    """
    frames = processor.num_frames
    windows = Windows.of(processor, window or f"{frames}f", stride or f"{STRIDE}f")
    if windows.unit != "f" or windows.length % frames:
        raise ValueError(
            f"layout=tad needs window and stride in frames, and a window of a multiple of the {frames} frames of a "
            f"clip, such as window={frames}f and stride={STRIDE}f; given: window={window}, stride={stride}."
        )
    options = {"frame_sampling": "dense", "fps": None, "sampling_rate": int(windows.length) // frames}
    options |= {"official_sampling": False, "short_video": "repeat_last"}
    if official:
        crop = processor.crop_size
        options |= {"do_resize": True, "size": {"height": crop.height, "width": crop.width}, "resample": _BILINEAR}
        options |= {"antialias": False, "square_pixels": False, "do_normalize": False}
    changed = VideoMAEV2ImageProcessor.from_dict({**processor.to_dict(), **options})
    how = Extraction(
        window=f"{windows.length:g}f", stride=f"{windows.stride:g}f", float_pixels=official, to_the_end=False
    )
    return changed, how

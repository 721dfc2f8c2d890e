# Copyright 2026 The videomae_hf authors. Licensed under the Apache License, Version 2.0.
"""The image processor that goes with a run: saved with its checkpoints, and used to evaluate."""

from ..checkpoints.opening import checkpoint_processor
from ..models.configuration_videomae_v2 import VideoMAEV2Config
from ..models.image_processing_videomae_v2 import VideoMAEV2ImageProcessor, clip_options, normalization_options
from ..settings.run import Run


# Settings of clips that a processor has as well, besides `antialias`
_SETTINGS = (
    "frame_sampling", "sampling_rate", "fps", "short_video", "official_sampling", "square_pixels", "max_pixels",
)  # fmt: skip


def training_processor(run: Run, config: VideoMAEV2Config, **options) -> VideoMAEV2ImageProcessor:
    """The processor that prepares a video for this model as training does; saved with every checkpoint.

    It samples frames as the settings say, and resizes and normalises as the checkpoint that the run starts from.
    """
    settings = {name: getattr(run.clips, name) for name in _SETTINGS}
    options = {**settings, "antialias": run.clips.antialias is not False, **options}
    if run.model.checkpoint:
        # The checkpoint's own sampling is replaced altogether.
        options = {"num_clips": 1, "num_crops": 1, "do_sample_frames": None, "video_backend": "auto", **options}
        return checkpoint_processor(run.model.checkpoint, config, **options)
    return VideoMAEV2ImageProcessor(**clip_options(config), **normalization_options(config), **options)


def evaluation_processor(run: Run, config: VideoMAEV2Config) -> tuple[VideoMAEV2ImageProcessor, list[str]]:
    """The processor of the checkpoint, with the settings of the command line, and a line about those that change it."""
    checkpoint = run.model.checkpoint
    given = {name: getattr(run.clips, name) for name in ("antialias", *_SETTINGS) if name in run.given}
    processor = checkpoint_processor(checkpoint, config)
    changed = [
        f"{name}={value} in place of {getattr(processor, name)}"
        for name, value in given.items()
        if value != getattr(processor, name)
    ]
    lines = [f"clips differ from those that {checkpoint} was trained on: {', '.join(changed)}"] if changed else []
    return checkpoint_processor(checkpoint, config, video_backend=run.clips.video_backend, **given), lines

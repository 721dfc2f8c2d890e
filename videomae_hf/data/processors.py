# Copyright 2026 The videomae_hf authors. Licensed under the Apache License, Version 2.0.
"""The image processor of a run: saved with its checkpoints, and used in evaluation."""

from ..checkpoints.opening import checkpoint_processor
from ..models.configuration_videomae_v2 import VideoMAEV2Config
from ..models.image_processing_videomae_v2 import VideoMAEV2ImageProcessor, clip_options, normalization_options
from ..settings.run import Run


# Clip settings that processors have as well, in addition to `antialias`
_SETTINGS = (
    "frame_sampling", "sampling_rate", "fps", "short_video", "official_sampling", "square_pixels", "max_pixels",
)  # fmt: skip


def training_processor(run: Run, config: VideoMAEV2Config, **options) -> VideoMAEV2ImageProcessor:
    """The processor that prepares videos for this model as in training; saved with every checkpoint.

    Frame sampling follows the settings of the run; resizing and normalisation follow the checkpoint it starts from.
    """
    settings = {name: getattr(run.clips, name) for name in _SETTINGS}
    options = {**settings, "antialias": run.clips.antialias is not False, **options}
    if run.model.checkpoint:
        # The sampling settings of the checkpoint are replaced completely.
        options = {"num_clips": 1, "num_crops": 1, "do_sample_frames": None, "video_backend": "auto", **options}
        return checkpoint_processor(run.model.checkpoint, config, **options)
    return VideoMAEV2ImageProcessor(**clip_options(config), **normalization_options(config), **options)


def evaluation_processor(run: Run, config: VideoMAEV2Config) -> tuple[VideoMAEV2ImageProcessor, list[str]]:
    """The processor of the checkpoint with the settings that were given, and a message about those that change it."""
    checkpoint = run.model.checkpoint
    given = {name: getattr(run.clips, name) for name in ("antialias", *_SETTINGS) if name in run.given}
    if run.clips.antialias is None:  # leaves it to the checkpoint
        given.pop("antialias", None)
    processor = checkpoint_processor(checkpoint, config)
    changed = [
        f"{name}={value} instead of {getattr(processor, name)}"
        for name, value in given.items()
        if value != getattr(processor, name)
    ]
    messages = [f"clips differ from those that {checkpoint} was trained on: {', '.join(changed)}"] if changed else []
    options = {**processor.to_dict(), "video_backend": run.clips.video_backend, **given}
    return VideoMAEV2ImageProcessor.from_dict(options), messages

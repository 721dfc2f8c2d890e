# Copyright 2026 The videomae_hf authors. Licensed under the Apache License, Version 2.0.
"""VideoMAE V1 and V2 for Hugging Face Transformers: pretrain, finetune and ship masked video transformers."""

from importlib import import_module
from typing import TYPE_CHECKING

from transformers import (
    AutoConfig,
    AutoModel,
    AutoModelForImageClassification,
    AutoModelForImageTextToText,
    AutoModelForPreTraining,
    AutoModelForVideoClassification,
    AutoModelForZeroShotImageClassification,
    AutoProcessor,
)

# Where torchvision is missing `transformers.AutoVideoProcessor` is a placeholder, in 5.17 `AutoImageProcessor` too.
from transformers.models.auto.image_processing_auto import AutoImageProcessor
from transformers.models.auto.video_processing_auto import AutoVideoProcessor

from .models.configuration_videobert import VideoBertConfig
from .models.configuration_videomae_v2 import VideoMAEV2Config
from .models.frame_sampling import FrameSampling, sample_clip_indices
from .models.image_processing_videomae_v2 import VideoMAEV2ImageProcessor, VideoMAEV2VideoProcessor
from .models.layers_videomae_v2 import patchify, unpatchify
from .models.masking import sample_image_ids, sample_masks, token_counts
from .models.modeling_videobert import VideoBertModel, VideoBertModelOutput, VideoBertPreTrainedModel
from .models.modeling_videobert_pretraining import VideoBertForPreTraining, VideoBertForPreTrainingOutput
from .models.modeling_videobert_tasks import (
    VideoBertForCaptioning,
    VideoBertForRetrieval,
    VideoBertForVideoClassification,
)
from .models.modeling_videomae_v2 import (
    VideoMAEV2ForPreTraining,
    VideoMAEV2ForPreTrainingOutput,
    VideoMAEV2ForVideoClassification,
    VideoMAEV2Model,
    VideoMAEV2PreTrainedModel,
)
from .models.processing_videobert import VideoBertProcessor
from .models.video_decoding import read_frames
from .models.video_sources import FrameFolder, VideoDecodeError, VideoInfo, VideoSegment
from .models.visual_words import VisualWords


if TYPE_CHECKING:
    from .inference.extractor import Extractor, load_encoder
    from .inference.predictor import Predictor, load

__version__ = "0.1.0"

# The models of each configuration, by the Auto class that opens them
_MODELS = {
    VideoMAEV2Config: {
        AutoModel: VideoMAEV2Model,
        AutoModelForPreTraining: VideoMAEV2ForPreTraining,
        AutoModelForVideoClassification: VideoMAEV2ForVideoClassification,
    },
    VideoBertConfig: {
        AutoModel: VideoBertModel,
        AutoModelForPreTraining: VideoBertForPreTraining,
        AutoModelForVideoClassification: VideoBertForVideoClassification,
        AutoModelForImageTextToText: VideoBertForCaptioning,
        # There is no class for retrieval; transformers lists its model of image-text matching, of BLIP-2, here.
        AutoModelForZeroShotImageClassification: VideoBertForRetrieval,
    },
}
# `register`: the Auto classes find ours wherever this package is imported. `register_for_auto_class`: what is saved
# takes its code along, so that the checkpoint also loads where the package is not installed (`trust_remote_code=True`).
for _config_class, _model_classes in _MODELS.items():
    AutoConfig.register(_config_class.model_type, _config_class, exist_ok=True)
    _config_class.register_for_auto_class()
    for _auto_class, _model_class in _model_classes.items():
        _auto_class.register(_config_class, _model_class, exist_ok=True)
        _model_class.register_for_auto_class(_auto_class.__name__)
# Images are clips of one frame.
AutoModelForImageClassification.register(VideoMAEV2Config, VideoMAEV2ForVideoClassification, exist_ok=True)
# Under both of the names that transformers knows image backends by, since ours needs neither.
_processors = dict.fromkeys(("torchvision", "pil"), VideoMAEV2ImageProcessor)
AutoImageProcessor.register(VideoMAEV2Config, image_processor_classes=_processors, exist_ok=True)
AutoVideoProcessor.register(VideoMAEV2Config, VideoMAEV2VideoProcessor, exist_ok=True)
AutoProcessor.register(VideoBertConfig, VideoBertProcessor, exist_ok=True)
for _processor_class in (VideoMAEV2ImageProcessor, VideoMAEV2VideoProcessor, VideoBertProcessor):
    _processor_class.register_for_auto_class()

__all__ = [
    "Extractor",
    "FrameFolder",
    "FrameSampling",
    "Predictor",
    "VideoBertConfig",
    "VideoBertForCaptioning",
    "VideoBertForPreTraining",
    "VideoBertForPreTrainingOutput",
    "VideoBertForRetrieval",
    "VideoBertForVideoClassification",
    "VideoBertModel",
    "VideoBertModelOutput",
    "VideoBertPreTrainedModel",
    "VideoBertProcessor",
    "VideoDecodeError",
    "VideoInfo",
    "VideoMAEV2Config",
    "VideoMAEV2ForPreTraining",
    "VideoMAEV2ForPreTrainingOutput",
    "VideoMAEV2ForVideoClassification",
    "VideoMAEV2ImageProcessor",
    "VideoMAEV2Model",
    "VideoMAEV2PreTrainedModel",
    "VideoMAEV2VideoProcessor",
    "VideoSegment",
    "VisualWords",
    "load",
    "load_encoder",
    "sample_image_ids",
    "sample_masks",
    "patchify",
    "read_frames",
    "sample_clip_indices",
    "token_counts",
    "unpatchify",
]


# Imported when they are first used: models need nothing of what these import.
_INFERENCE = {"Extractor": "extractor", "load_encoder": "extractor", "Predictor": "predictor", "load": "predictor"}


def __getattr__(name: str) -> object:
    """Imports the names of `_INFERENCE`."""
    if name not in _INFERENCE:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f".inference.{_INFERENCE[name]}", __name__), name)

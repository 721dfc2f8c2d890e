# Copyright 2026 The videomae_hf authors. Licensed under the Apache License, Version 2.0.
"""The registration of our models with transformers' Auto classes, done by importing this file."""

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
from .models.image_processing_videomae_v2 import VideoMAEV2ImageProcessor, VideoMAEV2VideoProcessor
from .models.modeling_videobert import VideoBertModel
from .models.modeling_videobert_pretraining import VideoBertForPreTraining
from .models.modeling_videobert_tasks import (
    VideoBertForCaptioning,
    VideoBertForRetrieval,
    VideoBertForVideoClassification,
)
from .models.modeling_videomae_v2 import VideoMAEV2ForPreTraining, VideoMAEV2ForVideoClassification, VideoMAEV2Model
from .models.processing_videobert import VideoBertProcessor


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

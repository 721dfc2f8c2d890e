# Copyright 2026 The videomae_hf authors. Licensed under the Apache License, Version 2.0.
# The public names: read by editors and type checkers, and by `__init__.py`, which imports each when it is first used.

from .inference.extractor import Extractor, load_encoder
from .inference.predictor import Predictor, load
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

__version__: str
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
    "patchify",
    "read_frames",
    "sample_clip_indices",
    "sample_image_ids",
    "sample_masks",
    "token_counts",
    "unpatchify",
]

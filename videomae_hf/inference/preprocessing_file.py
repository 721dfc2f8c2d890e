# Copyright 2026 The videomae_hf authors. Licensed under the Apache License, Version 2.0.
"""Describes how clips are made for a model, in numbers and in words, for programs in any language."""

import json
from pathlib import Path
from typing import Any

from transformers.image_utils import PILImageResampling

from ..models.image_processing_videomae_v2 import VideoMAEV2ImageProcessor
from ..models.masking import token_counts
from ..models.modeling_videomae_v2 import (
    VideoMAEV2ForPreTraining,
    VideoMAEV2ForVideoClassification,
    VideoMAEV2PreTrainedModel,
)
from ..settings.groups import default_views
from ..text_files import write_text
from .predictions import MULTI_LABEL, REGRESSION


_RESAMPLING = {
    PILImageResampling.NEAREST: "nearest",
    PILImageResampling.BILINEAR: "bilinear",
    PILImageResampling.BICUBIC: "bicubic",
}
_SAMPLING_WORDS = {
    "dense": "Clip k of K begins at frame int(k * spare / (K - 1)) * sampling_rate, a single clip at spare // 2 * "
    "sampling_rate, where spare = max(ceil(N / sampling_rate) - num_frames, 0) and N is the number of frames in the "
    "video. Its frames are floor(start + i * sampling_rate + 0.000001) for i in 0 .. num_frames - 1.",
    "uniform": "The video is divided into num_frames equal segments of N / num_frames frames, where N is the number of "
    "frames in the video. A single clip takes frame int((i + 1 / 2) * N / num_frames) of each segment i, clip k of K "
    "takes frame int((i + k / K) * N / num_frames), and none is past N - 1.",
    "random": "Each clip begins at a random frame at which num_frames * sampling_rate frames are left, or at 0. Its "
    "frames are sampling_rate apart.",
}
_SHORT_WORDS = {
    "repeat_last": "Frames past the end of the video are replaced by the last frame of the clip that exists.",
    "loop": "Frames past the end of the video continue from its beginning (frame modulo N).",
    "error": "A video that is too short is refused.",
}
_CROP_WORDS = (
    "Pad smaller frames with black to this size, with the odd pixel at the bottom and right. A single crop begins at "
    "int(spare / 2) of both sides, where spare is the side minus that of the crop. Crop k of K begins at "
    "int(k * spare / (K - 1)) of the longer side, and in the middle of the other."
)
_AVERAGE_WORDS = {
    MULTI_LABEL: "The probability of each label is the sigmoid of its logit, averaged over all views.",
    REGRESSION: "The values are the logits, averaged over all views, in the unit of the training data.",
}
_SOFTMAX_WORDS = "The probabilities are the softmax of the logits of each view, averaged over all views."


def write_preprocessing(
    path: Path, model: VideoMAEV2PreTrainedModel, processor: VideoMAEV2ImageProcessor, model_file: str
) -> None:
    """Writes preprocessing.json for an exported model.

    Args:
        path: the file.
        model: the model.
        processor: its processor.
        model_file: name of the exported model, beside the file.
    """
    content = {
        "format": "videomae_hf preprocessing, version 1",
        "model_file": model_file,
        "steps": preprocessing_steps(processor),
        **_interface(model),
    }
    write_text(path, json.dumps(content, indent=1, ensure_ascii=False) + "\n")


def preprocessing_steps(processor: VideoMAEV2ImageProcessor) -> list[dict[str, Any]]:
    """The steps from a file to `pixel_values`, in order: a name, the options, and what happens, in words."""
    channels = {1: "luma (ITU-R 601)", 3: "RGB"}.get(processor.num_channels, f"{processor.num_channels} channels")
    steps = [
        {"step": "decode", "num_channels": processor.num_channels, "square_pixels": processor.square_pixels,
         "words": f"Decode the frames in presentation order as 8-bit {channels}, and rotate them as the file says."
         + (" If pixels are not square, stretch the width by their aspect ratio." if processor.square_pixels else "")},
        _sampling_step(processor),
    ]  # fmt: skip
    if processor.do_resize:
        steps.append(_resize_step(processor))
    if processor.do_center_crop:
        crop = {"height": processor.crop_size.height, "width": processor.crop_size.width}
        steps.append({"step": "crop", **crop, "words": _CROP_WORDS})
    if processor.do_rescale:
        steps.append({"step": "rescale", "factor": processor.rescale_factor, "words":
                      "Convert to float32 and multiply by the factor."})  # fmt: skip
    if processor.do_normalize:
        mean, std = ([float(v) for v in _per_channel(values, processor.num_channels)]
                     for values in (processor.image_mean, processor.image_std))  # fmt: skip
        steps.append({"step": "normalize", "mean": mean, "std": std, "words":
                      "Subtract the mean of each channel, and divide by its deviation."})  # fmt: skip
    steps.append({"step": "layout", "layout": "BTCHW", "dtype": "float32", "words":
                  "Stack frames as (frames, channels, height, width), and clips along the first axis."})  # fmt: skip
    return steps


def _sampling_step(processor: VideoMAEV2ImageProcessor) -> dict[str, Any]:
    names = ("num_frames", "frame_sampling", "sampling_rate", "fps", "short_video", "official_sampling")
    options = {name: getattr(processor, name) for name in names}
    words = _SAMPLING_WORDS[processor.frame_sampling]
    if processor.frame_sampling != "uniform":
        words += f" {_SHORT_WORDS[processor.short_video]}"
    if processor.fps is not None:
        words = (
            "Take the frame on display at each tick of a clock of about the video's own frame rate, a multiple of fps; "
            f"sampling_rate is then the number of ticks in 1 / fps seconds, and N the number of ticks. {words}"
        )
    if processor.official_sampling:
        words = "The frames are those of the official code, as `sample_clip_indices` in models/frame_sampling.py."
    return {"step": "sample_frames", **options, "words": words}


def _resize_step(processor: VideoMAEV2ImageProcessor) -> dict[str, Any]:
    size = {name: value for name, value in dict(processor.size).items() if value}
    method = _RESAMPLING[processor.resample]
    words = (
        "Scale the shorter side to shortest_edge, and the longer one to int(shortest_edge * longer / shorter). "
        if "shortest_edge" in size
        else "Scale to this height and width. "
    )
    if method != "nearest":
        words += f"The filter is {method}, with pixel centres at 0.5. "
    if method != "nearest" and processor.antialias:
        words += "It works across the rows, and then down the columns of the result rounded to 8 bits. When frames "
        words += "become smaller, it is widened by the same factor (antialias), as in Pillow."
    return {"step": "resize", **size, "resample": method, "antialias": processor.antialias, "words": words.strip()}


def _per_channel(values, num_channels: int) -> list[float]:
    values = [values] if isinstance(values, int | float) else list(values)
    return values * num_channels if len(values) == 1 else values


def _interface(model: VideoMAEV2PreTrainedModel) -> dict[str, Any]:
    """Inputs and outputs of the exported model, and what they mean."""
    config = model.config
    clip = ["batch", config.num_frames, config.num_channels, *config.image_hw]
    inputs = [{"name": "pixel_values", "dtype": "float32", "shape": clip, "layout": "BTCHW"}]
    grid = dict(zip(("slices", "rows", "columns"), config.grid_size))
    if isinstance(model, VideoMAEV2ForPreTraining):
        num_visible, num_decoded = token_counts(config)
        inputs += [{"name": "visible_ids", "dtype": "int64", "shape": ["batch", num_visible]},
                   {"name": "decoded_ids", "dtype": "int64", "shape": ["batch", num_decoded]}]  # fmt: skip
        words = (
            "visible_ids are the tokens that the encoder sees, decoded_ids those to reconstruct, both ascending. Token "
            "(slice * rows + row) * columns + column covers tubelet_size frames and a patch. logits holds the pixels "
            "of each decoded token, frame by frame, row by row, with the channels varying fastest"
        )
        words += ", minus the mean and divided by the deviation of the patch." if config.norm_pix_loss else "."
        return {"kind": "pretraining", "inputs": inputs, "output": "logits", "grid": grid,
                "tubelet_size": config.tubelet_size, "patch_size": list(config.patch_hw), "words": words}  # fmt: skip
    if isinstance(model, VideoMAEV2ForVideoClassification):
        (num_clips, num_crops), kind = default_views(config.num_frames), model.inferred_problem_type(None)
        labels = [config.id2label[number] for number in range(config.num_labels)]
        return {"kind": "classifier", "inputs": inputs, "output": "logits", "labels": labels, "problem_type": kind,
                "views": {"num_clips": num_clips, "num_crops": num_crops,
                          "words": _AVERAGE_WORDS.get(kind, _SOFTMAX_WORDS)}}  # fmt: skip
    words = "last_hidden_state holds the features of all tokens; the mean over them is the feature of the clip."
    if config.use_cls_token:
        words = f"last_hidden_state holds the features of all tokens, the first {config.num_class_tokens} of which are "
        words += "class tokens; the feature of the clip is the mean over "
        words += "these." if config.use_mean_pooling is False else "the others."
    return {"kind": "encoder", "inputs": inputs, "output": "last_hidden_state", "grid": grid, "words": words}

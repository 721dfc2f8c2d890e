"""Checkpoints of tiny classifiers and regressions with random weights, and a long video for them."""

from pathlib import Path

import numpy as np

from helpers.shared import TINY, randomize
from videomae_hf import VideoMAEV2Config, VideoMAEV2ForVideoClassification, VideoMAEV2ImageProcessor
from videomae_hf.data.sources.synthetic import synthesise_video, write_video
from videomae_hf.models.image_processing_videomae_v2 import clip_options, normalization_options


CLASSES = ("jump", "run", "swim")
AGE = {"id2label": {0: "age"}, "label2id": {"age": 0}, "target_mean": (30.0,), "target_std": (10.0,)}


def save_trained(folder: Path, problem_type: str = "single_label_classification", processor=None, **fields) -> Path:
    """A checkpoint of 4 frames of 32 x 32 pixels; `processor` has options of its processor."""
    labels = {"id2label": dict(enumerate(CLASSES)), "label2id": {name: i for i, name in enumerate(CLASSES)}}
    labels = AGE if problem_type == "regression" else labels
    config = VideoMAEV2Config(**{**TINY, **labels, "problem_type": problem_type, **fields})
    randomize(VideoMAEV2ForVideoClassification(config), std=0.3).save_pretrained(folder)
    options = {"sampling_rate": 2, **clip_options(config), **normalization_options(config), **(processor or {})}
    VideoMAEV2ImageProcessor(**options).save_pretrained(folder)
    return folder


def write_three_motions(path: Path, num_frames: int = 20) -> Path:
    """Three motions of so many frames each, one after the other, at 25 frames per second."""
    motions = ("left", "clockwise", "up")
    parts = [synthesise_video(name, np.random.default_rng(i), 40, num_frames) for i, name in enumerate(motions)]
    write_video(path, np.concatenate(parts))
    return path

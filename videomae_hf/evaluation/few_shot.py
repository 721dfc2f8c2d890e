# Copyright 2026 The videomae_hf authors. Licensed under the Apache License, Version 2.0.
"""The few-shot protocol of MTEB's video classification tasks.

The protocol is that of embeddings-benchmark/mteb 2.26.24 (`mteb/abstasks/classification.py`, and for VideoMAE
`mteb/models/model_implementations/videomae_models.py` and `mteb/models/modality_collators.py`); the code here is our
own:

- One embedding of each video: the mean of all tokens of one clip, followed by the layer norm of the classification head
  if the checkpoint has one.
- A clip has `num_frames` frames, evenly spaced from the first to the last of the video; shorter videos repeat each
  frame in place. Earlier versions of mteb took every (n // num_frames)-th frame.
- In each experiment, the training videos are shuffled, and the first `samples_per_label` of each class are kept; a
  class with fewer videos gives all that it has. The seed is 42, and each experiment shuffles the order of the one
  before.
- scikit-learn's LogisticRegression(max_iter=100) with its defaults (C=1, L-BFGS) is fitted to the embeddings as they
  are. It may stop at 100 iterations before it has converged, so that the solver is part of the protocol, and another
  one would not give the same predictions.
- The score is the mean over the experiments. MTEB reports the mean alone; the standard deviation here divides by the
  number of experiments.

Difference: the norm of the head has the epsilon of the checkpoint (MTEB: 1e-5), and unreadable videos are left out.
"""

import warnings
from collections import Counter
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import nn

from ..models.image_processing_videomae_v2 import VideoMAEV2ImageProcessor
from ..models.modeling_videomae_v2 import VideoMAEV2ForVideoClassification, VideoMAEV2PreTrainedModel
from ..models.video_decoding import VideoInfo


MAX_ITER = 100


def check_scikit_learn() -> None:
    """Raises ValueError if scikit-learn is not installed."""
    try:
        import sklearn  # noqa: F401
    except ImportError as error:
        raise ValueError("probe=few-shot needs scikit-learn: pip install scikit-learn") from error


class MTEBProcessor(VideoMAEV2ImageProcessor):
    """The image processor, whose clip has the frames that MTEB samples."""

    @staticmethod
    def sample_clips(info: VideoInfo, options: dict[str, Any]) -> list[list[int]]:
        """The frame indices of the only clip of a video."""
        return [mteb_clip(info.num_frames, options["num_frames"])]

    def to_dict(self) -> dict[str, Any]:
        """The options, by which cached features are named: their sampling is none of the other ones."""
        return {**super().to_dict(), "frame_sampling": "mteb_linspace"}


def mteb_clip(num_video_frames: int, num_frames: int) -> list[int]:
    """`num_frames` evenly spaced indices, the first and last frame included; shorter videos repeat frames in place."""
    if num_video_frames < num_frames:
        return [index * num_video_frames // num_frames for index in range(num_frames)]
    return np.linspace(0, num_video_frames - 1, num_frames).round().astype(int).tolist()


def head_norm_of(model: VideoMAEV2PreTrainedModel) -> nn.Module | None:
    """The layer norm between the mean of the tokens and a trained classifier; None if the checkpoint has none.

    A checkpoint without it (many of OpenGVLab's) leaves the norm at its initial values, which no training keeps. The
    norm of a bridging classifier is not one of the encoder's features.
    """
    norm = model.fc_norm if isinstance(model, VideoMAEV2ForVideoClassification) else None
    if model.config.classifier_num_hidden_layers:
        return None
    if norm is None or (norm.weight.eq(1).all() and norm.bias.eq(0).all()):
        return None
    return norm


@torch.no_grad()
def embeddings(features: np.ndarray, norm: nn.Module | None) -> np.ndarray:
    """Mean tokens (N, D) -> the embeddings of a checkpoint, float32 (N, D)."""
    features = torch.tensor(np.asarray(features), dtype=torch.float32)
    return (features if norm is None else norm.cpu()(features)).numpy()


def sample_experiments(
    labels: Sequence[int], samples_per_label: int = 8, n_experiments: int = 10, seed: int = 42
) -> list[list[int]]:
    """The places of the labelled videos of each experiment.

    Args:
        labels: class of each training video.
        samples_per_label: videos of each class; a class with fewer gives all of them.
        n_experiments: number of experiments.
        seed: seed of the shuffles.

    Raises:
        ValueError: a number is less than 1.
    """
    if samples_per_label < 1 or n_experiments < 1:
        raise ValueError(f"samples_per_label={samples_per_label} and n_experiments={n_experiments} must be at least 1.")
    order, experiments = list(range(len(labels))), []
    for _ in range(n_experiments):
        np.random.RandomState(seed).shuffle(order)  # the generator of the source, whose order this must be
        counts, chosen = Counter(), []
        for place in order:
            label = int(labels[place])
            if counts[label] < samples_per_label:
                chosen.append(place)
                counts[label] += 1
        experiments.append(chosen)
    return experiments


def few_shot_logits(
    train_features: np.ndarray,
    train_labels: np.ndarray,
    eval_features: np.ndarray,
    num_classes: int,
    *,
    seed: int = 42,
) -> tuple[np.ndarray, bool]:
    """Fits the logistic regression of one experiment.

    Args:
        train_features, eval_features: embeddings (N, D) and (M, D).
        train_labels: int (N,).
        num_classes: number of classes, of which some may have no training video.
        seed: random state of the classifier, which L-BFGS does not use.

    Returns:
        Logits, float32 (M, num_classes), -inf for classes without a training video, and whether the solver converged.

    Raises:
        ValueError: all training videos are of one class, or scikit-learn is not installed.
    """
    check_scikit_learn()
    from sklearn.exceptions import ConvergenceWarning
    from sklearn.linear_model import LogisticRegression

    if len(np.unique(train_labels)) < 2:
        raise ValueError("few-shot needs readable training videos of at least two classes.")
    classifier = LogisticRegression(max_iter=MAX_ITER, random_state=seed)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)  # reported by the caller
        classifier.fit(train_features, train_labels)
    found = classifier.decision_function(eval_features)
    if found.ndim == 1:  # two classes: (M,), the logit of the second
        found = np.stack([np.zeros_like(found), found], axis=1)  # (M, 2)
    logits = np.full((len(eval_features), num_classes), -np.inf, dtype=np.float32)
    logits[:, classifier.classes_] = found
    return logits, bool((classifier.n_iter_ < MAX_ITER).all())

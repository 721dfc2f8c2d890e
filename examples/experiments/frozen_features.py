# Copyright 2026 The videomae_hf authors. Licensed under the Apache License, Version 2.0.
"""What the features of a frozen encoder are worth: k-NN and linear probes, for any number of sets of labels.

Clips are decoded once, the centre clip of each video, and kept as uint8 beside the results of an experiment.
"""

import hashlib
import json
import os
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from sklearn.linear_model import RidgeClassifierCV
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from videomae_hf import VideoMAEV2Model
from videomae_hf.checkpoints.opening import checkpoint_processor
from videomae_hf.data.sources import read_samples
from videomae_hf.evaluation.probes import knn_accuracy
from videomae_hf.models.image_processing_videomae_v2 import VideoMAEV2ImageProcessor


FITTED, SCORED = 1200, 600  # videos at most, evenly spaced over a list
ALPHAS = np.logspace(-1, 6, 15)  # of the ridge penalty; chosen by leave-one-out on the fitted videos


@dataclass(frozen=True)
class LabelSet:
    """Labelled videos to fit probes to and to score them on, in any form that training accepts."""

    name: str
    train_data: str
    eval_data: str


def probe_checkpoint(checkpoint: Path, label_sets: list[LabelSet], cache: Path) -> dict[str, dict[str, float]]:
    """The accuracies of three probes for each set of labels.

    Args:
        checkpoint: folder of an encoder or a pretraining model.
        label_sets: what is probed.
        cache: folder of decoded clips.

    Returns:
        For each set: `knn` (20 neighbours, cosine, mean of the tokens), `linear_mean` (ridge classifier on the mean of
        the tokens) and `linear_places` (on all tokens, each in its place), as fractions.
    """
    model = VideoMAEV2Model.from_pretrained(checkpoint).eval()
    processor = checkpoint_processor(str(checkpoint), model.config)
    found = {}
    for one in label_sets:
        parts, classes = [], None
        for data, limit in ((one.train_data, FITTED), (one.eval_data, SCORED)):
            samples, classes = read_samples(data, classes)
            samples = [
                samples[i] for i in np.linspace(0, len(samples) - 1, min(limit, len(samples))).round().astype(int)
            ]
            tokens = encode(model, stored_clips(samples, processor, cache))
            parts.append((tokens, np.array([sample.label for sample in samples])))
        found[one.name] = probe_accuracies(*parts)
    return found


def stored_clips(samples: list, processor: VideoMAEV2ImageProcessor, cache: Path) -> np.ndarray:
    """uint8 (N, T, C, H, W): the centre clips, from a file of `cache` if they were decoded before."""
    settings = json.dumps([processor.to_dict(), [sample.path for sample in samples]], sort_keys=True, default=str)
    path = cache / f"{hashlib.sha256(settings.encode()).hexdigest()[:16]}.npy"
    if not path.exists():
        cache.mkdir(parents=True, exist_ok=True)
        plain = {"do_rescale": False, "do_normalize": False, "return_tensors": "np"}
        clips = [processor(sample.path, **plain).pixel_values[0].astype(np.uint8) for sample in samples]
        partial = path.with_suffix(f".{os.getpid()}.npy")
        np.save(partial, np.stack(clips))
        partial.replace(path)
    return np.load(path)


@torch.inference_mode()
def encode(model: VideoMAEV2Model, clips: np.ndarray) -> np.ndarray:
    """float32 (N, L, D): the tokens of every clip."""
    batches = torch.from_numpy(clips).split(50)
    return torch.cat([model(batch).last_hidden_state.float() for batch in batches]).numpy()


def probe_accuracies(train: tuple[np.ndarray, np.ndarray], scored: tuple[np.ndarray, np.ndarray]) -> dict[str, float]:
    """Accuracies of the probes on (tokens (N, L, D), labels (N,)) of videos to fit and to score."""
    means = [tokens.mean(axis=1) for tokens, _ in (train, scored)]  # (N, L, D) -> (N, D)
    places = [tokens.reshape(len(tokens), -1) for tokens, _ in (train, scored)]  # (N, L, D) -> (N, L * D)
    tensors = [torch.from_numpy(x) for x in (means[0], train[1], means[1], scored[1])]
    return {
        "knn": knn_accuracy(*tensors),
        "linear_mean": _ridge(*means, train[1], scored[1]),
        "linear_places": _ridge(*places, train[1], scored[1]),
    }


def _ridge(train: np.ndarray, scored: np.ndarray, train_labels: np.ndarray, scored_labels: np.ndarray) -> float:
    probe = make_pipeline(StandardScaler(), RidgeClassifierCV(alphas=ALPHAS))
    return float(probe.fit(train, train_labels).score(scored, scored_labels))

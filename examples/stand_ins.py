"""What the other examples use where they are given nothing: synthesised videos, and tiny models with random weights.

The videos show eight motions of a shape. What such a model says about them means nothing; give the examples your own
videos and checkpoints. Everything is in the folder output/examples.
"""

from pathlib import Path

import numpy as np
import torch

from videomae_hf import (
    VideoMAEV2Config,
    VideoMAEV2ForPreTraining,
    VideoMAEV2ForVideoClassification,
    VideoMAEV2ImageProcessor,
)
from videomae_hf.data.sources.synthetic import CLASSES, synthesise_dataset, synthesise_video, write_video


FOLDER = Path("output/examples")
TINY = {
    "image_size": 64, "num_frames": 8, "hidden_size": 96, "num_hidden_layers": 3, "num_attention_heads": 3,
    "intermediate_size": 192, "decoder_hidden_size": 48, "decoder_num_hidden_layers": 1,
    "decoder_num_attention_heads": 3, "decoder_intermediate_size": 96, "layer_norm_eps": 1e-6,
}  # fmt: skip
# The same as options of a command
OPTIONS = [text for name, value in TINY.items() for text in (f"--{name}", str(value))]
OPTIONS += ["--sampling_rate", "2", "--dataloader_num_workers", "0"]


def videos(videos_per_class: int = 4) -> str:
    """A folder with one folder for each of eight classes."""
    folder = FOLDER / f"videos_{videos_per_class}"
    if not folder.exists():
        FOLDER.mkdir(parents=True, exist_ok=True)
        synthesise_dataset(folder, videos_per_class, size=64)
    return str(folder)


def video() -> str:
    """A video of one motion."""
    return str(Path(videos(), "left", "left_00000.mp4"))


def long_video() -> str:
    """A video of 12 seconds: four motions, one after the other."""
    path = FOLDER / "long_video.mp4"
    if not path.exists():
        FOLDER.mkdir(parents=True, exist_ok=True)
        motions = ("left", "clockwise", "up", "grow")
        parts = [synthesise_video(label, np.random.default_rng(i), 64, 75) for i, label in enumerate(motions)]
        write_video(path, np.concatenate(parts))
    return str(path)


def labels(classes: tuple[str, ...] = CLASSES) -> dict:
    """The classes, as fields of a configuration."""
    return {"id2label": dict(enumerate(classes)), "label2id": {name: number for number, name in enumerate(classes)}}


def classifier() -> str:
    """A checkpoint of a classifier of the eight motions; it has learnt nothing."""
    return _saved("classifier", VideoMAEV2ForVideoClassification, **labels())


def pretrained() -> str:
    """A checkpoint with a decoder, as pretraining leaves it; it has learnt nothing."""
    return _saved("pretrained", VideoMAEV2ForPreTraining)


def _saved(name: str, model_class: type, **fields) -> str:
    folder = FOLDER / name
    if not (folder / "config.json").exists():
        with torch.random.fork_rng():
            torch.manual_seed(0)
            model = model_class(VideoMAEV2Config(**TINY, **fields))
            if isinstance(model, VideoMAEV2ForVideoClassification):  # so that its guesses differ
                torch.nn.init.normal_(model.classifier.weight)
                torch.nn.init.uniform_(model.fc_norm.weight, 0.5, 1.5)
        model.save_pretrained(folder)
        processor().save_pretrained(folder)
    return str(folder)


def processor() -> VideoMAEV2ImageProcessor:
    size = TINY["image_size"]
    crop = {"size": {"shortest_edge": size}, "crop_size": {"height": size, "width": size}}
    return VideoMAEV2ImageProcessor(num_frames=TINY["num_frames"], sampling_rate=2, **crop)

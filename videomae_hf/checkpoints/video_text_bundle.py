# Copyright 2026 The videomae_hf authors. Licensed under the Apache License, Version 2.0.
"""What the folder of a VideoBERT checkpoint needs besides that of other models, and its verification.

One checkpoint opens as several models: a pretrained one fills masked words, matches, and starts all finetuning. Its
folder therefore names all Auto classes, and has the code of all of them, wherever it was saved.
"""

import inspect
import json
import re
import shutil
from pathlib import Path

import torch
from transformers.dynamic_module_utils import get_relative_import_files

from ..models import modeling_videobert_tasks
from ..models.checkpoint_files import read_mapping
from ..text_files import write_text
from .licences import origin_of
from .model_card import Checkpoint, Publication
from .video_text import VIDEO_TEXT_CLASSES, open_video_text
from .video_text_card import trained_uses


_HUB_ID = r"\w[\w.-]*(/\w[\w.-]*)?"  # nothing else may stand in the code of the card
# The program of the other process, as in `bundle.py`.
VERIFY = """
import sys
sys.modules["videomae_hf"] = None
import torch
from safetensors.torch import load_file
import transformers
folder, sample, auto_classes = sys.argv[1:]
options = {"trust_remote_code": True, "local_files_only": True}
sample = load_file(sample)
processor = transformers.AutoProcessor.from_pretrained(folder, **options)
if "video" in sample:
    metadata = {"total_num_frames": len(sample["video"]), "fps": float(sample["fps"])}
    inputs = processor(["a video"], [sample["video"]], video_metadata=[metadata])
else:
    inputs = processor(["a video"], video_features=sample["features"])
for auto_class in auto_classes.split(","):
    model = getattr(transformers, auto_class).from_pretrained(folder, dtype="auto", **options).eval()
    with torch.no_grad():
        found = model(**inputs.to(model.dtype))
    for name, wanted in sample.items():
        if name.startswith(auto_class + "."):
            torch.testing.assert_close(found[name.split(".")[1]], wanted, rtol=1e-4, atol=1e-5)
"""


def complete_video_text(folder: Path) -> None:
    """Adds to a folder of `save_pretrained` the code of all VideoBERT models, and their Auto classes."""
    source = Path(inspect.getfile(modeling_videobert_tasks))
    for file in (source, *map(Path, get_relative_import_files(source))):
        shutil.copyfile(file, folder / file.name)
    config = read_mapping(folder / "config.json")
    places = {name: getattr(modeling_videobert_tasks, name).__module__.split(".")[-1] for name in VIDEO_TEXT_CLASSES}
    config["auto_map"].update({auto: f"{places[name]}.{name}" for name, auto in VIDEO_TEXT_CLASSES.items()})
    write_text(folder / "config.json", json.dumps(config, indent=2) + "\n")


def name_backbone(checkpoint: Checkpoint, publication: Publication) -> None:
    """Names the model of the features on the Hub in the configuration, and takes its licence into account.

    Raises:
        ValueError: the model takes features, but nothing names their model, or only a folder of this machine does; or
            a backbone is given for a model that has one.
    """
    config, given = checkpoint.model.config, publication.backbone
    if config.backbone_config is not None:
        if given:
            raise ValueError(f"{checkpoint.source} has a backbone of its own: leave --backbone {given} out.")
        config.feature_backbone = None
        return
    name = given or config.feature_backbone
    if name is None:
        raise ValueError(
            f"{checkpoint.source} takes features of segments, but does not name the model that computes them: give "
            f"--backbone USER/NAME, its id on the Hub."
        )
    if Path(name).exists() or not re.fullmatch(_HUB_ID, name):
        raise ValueError(
            f"{checkpoint.source} takes features of {name}, a folder that others do not have: push that model too, and "
            f"give its id on the Hub as --backbone USER/NAME."
        )
    config.feature_backbone = name
    checkpoint.origin = origin_of(checkpoint.source, teacher=name)


@torch.no_grad()
def video_text_sample(checkpoint: Checkpoint, folder: Path) -> tuple[dict[str, torch.Tensor], str]:
    """The inputs and outputs that the verification compares, and the Auto classes that open the folder.

    Args:
        checkpoint: the model that was saved.
        folder: the folder, which this process opens for the other tasks of the model.
    """
    processor, model = checkpoint.processor, checkpoint.model
    generator, frames = torch.Generator().manual_seed(0), processor.image_processor
    if model.config.backbone_config is not None:
        shape = (2 * frames.num_frames, 48, 64, frames.num_channels)  # (T, H, W, C)
        video, fps = torch.randint(256, shape, generator=generator, dtype=torch.uint8), float(frames.fps or 25)
        sample = {"video": video, "fps": torch.tensor(fps)}
        metadata = {"total_num_frames": len(video), "fps": fps}
        inputs = processor(["a video"], [video], video_metadata=[metadata])
    else:
        shape = (1, 3, model.config.tokens_per_segment, model.config.feature_size)  # (B, S, P, F)
        sample = {"features": torch.randn(shape, generator=generator)}
        inputs = processor(["a video"], video_features=sample["features"])
    others = {name: auto for name, auto in VIDEO_TEXT_CLASSES.items() if auto in dict(trained_uses(model))}
    models = {checkpoint.auto_class: model}
    for name, auto in others.items():
        if auto not in models:
            models[auto] = open_video_text(folder, getattr(modeling_videobert_tasks, name), dtype="auto")[0]
    for auto, one in models.items():
        found = one(**inputs.to(one.dtype))
        kept = {key: value for key, value in found.items() if isinstance(value, torch.Tensor)}
        sample |= {f"{auto}.{key}": value.contiguous().clone() for key, value in kept.items()}
    return sample, ",".join(models)

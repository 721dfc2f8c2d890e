# Copyright 2026 The videomae_hf authors. Licensed under the Apache License, Version 2.0.
"""The part of a report about the pretraining that a model started from: curves, and what it reconstructs.

The checkpoint is loaded through its Auto class, so that a page also shows that this works.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from PIL import Image
from transformers import AutoModelForPreTraining

from .. import VideoMAEV2ImageProcessor
from ..data.sources.records import VideoRecord
from ..models.masking import mask_to_ids, sample_masks, token_counts
from ..models.modeling_videomae_v2 import VideoMAEV2ForPreTraining
from .reconstruction import STRIP_ROWS, reconstruction_strip, strip_row
from .report_charts import training_charts
from .report_examples import data_url
from .trivial_predictors import trivial_losses


_STEPS_SHOWN = 5
_CLIPS_COMPARED, _CLIPS_AT_ONCE = 64, 8  # clips whose reconstruction is compared with trivial predictors
_PREDICTORS = {
    "model": "the model",
    "patch_mean": "each patch in its own mean colour",
    "background": "the median colour of the visible pixels",
    "nearest_in_space": "the nearest visible patch of the same slice",
    "nearest_in_time": "the nearest visible patch of the same place",
}


def pretraining_part(folder: Path) -> dict[str, Any]:
    """What the page shows of a pretraining from the files in its output folder."""
    return {"curves": training_charts(folder), "over_time": over_time(folder / "reconstructions"), "strips": []}


def reconstructions(checkpoint: Path, records: Sequence[VideoRecord], frame_template: str | None) -> dict[str, Any]:
    """What the page shows of a pretraining that needs its model: reconstructions, and losses beside trivial ones.

    Args:
        checkpoint: the checkpoint that the finetuning started from.
        records: the evaluation videos.
        frame_template: pattern of the file names in folders of images.

    Raises:
        OSError, ValueError: the checkpoint or a video cannot be read.
    """
    model = AutoModelForPreTraining.from_pretrained(checkpoint).eval()
    processor = VideoMAEV2ImageProcessor.from_pretrained(checkpoint)
    losses = predictor_losses(model, processor, records, frame_template)
    first_of_each = list({record.label: record for record in reversed(records)}.values())[::-1]
    strips = []
    for number, record in enumerate(first_of_each[:3]):
        clip = processor(record.video(frame_template), return_tensors="pt").pixel_values
        strips.append(data_url(reconstruction_strip(model, clip, torch.Generator().manual_seed(number))))
    named = [(_PREDICTORS[name], f"{loss:.3f}") for name, loss in losses.items()]
    return {"strips": strips, "losses": named, "norm_pix_loss": model.config.norm_pix_loss}


@torch.no_grad()
def predictor_losses(
    model: VideoMAEV2ForPreTraining,
    processor: VideoMAEV2ImageProcessor,
    records: Sequence[VideoRecord],
    frame_template: str | None = None,
) -> dict[str, float]:
    """The loss of the model and of each trivial predictor, means over at most 64 clips spread over the videos.

    Args:
        model: the pretraining model, in evaluation mode.
        processor: its processor.
        records: the videos; the centre clip of each is used.
        frame_template: pattern of the file names in folders of images.

    Returns:
        Losses by name: `"model"` and those of `trivial_losses`.
    """
    number = min(_CLIPS_COMPARED, len(records))
    chosen = [records[index * len(records) // number] for index in range(number)]
    generator, sums = torch.Generator().manual_seed(0), {}
    visible, num_decoded = token_counts(model.config)
    for first in range(0, number, _CLIPS_AT_ONCE):
        batch = chosen[first : first + _CLIPS_AT_ONCE]
        clips = torch.cat(
            [processor(record.video(frame_template), return_tensors="pt").pixel_values for record in batch]
        )
        masked, decoded = sample_masks(model.config, len(batch), generator)
        ids = {"visible_ids": mask_to_ids(~masked, visible), "decoded_ids": mask_to_ids(decoded, num_decoded)}
        losses = {"model": model(clips, **ids).loss.item(), **trivial_losses(model, clips, **ids)}
        for name, loss in losses.items():
            sums[name] = sums.get(name, 0.0) + loss * len(batch)
    return {name: total / number for name, total in sums.items()}


def over_time(folder: Path) -> list[list[tuple[str, str]]]:
    """For each video logged in pretraining: (name, picture) of the constant rows and of some reconstructions."""
    videos = []
    for video in sorted(folder.glob("video_*")):
        files = sorted(video.glob("step_*.png"))
        if len(files) < 2:
            continue
        shown = min(len(files), _STEPS_SHOWN)
        chosen = [files[index * (len(files) - 1) // (shown - 1)] for index in range(shown)]
        strips = {f"step {int(file.stem.removeprefix('step_'))}": Image.open(file) for file in chosen}
        rows = [(name, strip_row(next(iter(strips.values())), row)) for row, name in enumerate(STRIP_ROWS[:2])]
        rows += [(name, strip_row(strip, 3)) for name, strip in strips.items()]
        videos.append([(name, data_url(picture)) for name, picture in rows])
    return videos

# Copyright 2026 The videomae_hf authors. Licensed under the Apache License, Version 2.0.
"""Exports a model for other runtimes through `transformers.exporters`, with its preprocessing, and checks the result.

The exporters are those of transformers; this module gives them the inputs of the model with a dynamic batch, compares
what was written with the model, and describes the preprocessing for programs without this package.
"""

import contextlib
import importlib
import io
import logging
import shutil
import tempfile
import warnings
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import transformers

from ..checkpoints.opening import checkpoint_processor, open_checkpoint
from ..models.image_processing_videomae_v2 import VideoMAEV2ImageProcessor
from ..models.masking import mask_to_ids, sample_masks, token_counts
from ..models.modeling_videomae_v2 import (
    VideoMAEV2ForPreTraining,
    VideoMAEV2ForVideoClassification,
    VideoMAEV2PreTrainedModel,
)
from .inputs import Input
from .preprocessing_file import write_preprocessing


# Name of a format here -> its name in transformers, and what its runtime needs
FORMATS = {
    "onnx": ("onnx", "videomae_hf[export]"),
    "openvino": ("openvino", "openvino"),
    "torch_export": ("dynamo", "torch>=2.11"),
    "executorch": ("executorch", "executorch"),
}
_EXPORTERS_SINCE = (5, 23)  # the release of transformers whose exporters are tested here
_LARGEST_BATCH = 1024
_BATCHES = (1, 3)  # sizes of the batches that are compared; the example has two clips


@dataclass(frozen=True)
class Exported:
    """What an export has written.

    Args:
        folder: the folder.
        files: names of its files, with their sizes in bytes.
        differences: name of an output -> the largest absolute difference from the model.
        largest: name of an output -> its largest absolute value.
        clips: number of clips that were compared.
        messages: what is unusual about the model.
    """

    folder: Path
    files: dict[str, int]
    differences: dict[str, float]
    largest: dict[str, float]
    clips: int
    messages: list[str]


def export_model(
    name: str | Path, folder: Path, to: str, *, check: Sequence[Input] = (), tolerance: float = 1e-4
) -> Exported:
    """Exports a model, and checks that what was written computes the same.

    The folder appears only if the check succeeds. It holds the model, `preprocessing.json`, and `export.json` and
    `config.json`, with which `transformers.exporters.ExportedModel.from_pretrained` opens it.

    Args:
        name: folder or Hub id of a classifier, an encoder or a pretraining model of any layout, or of adapters.
        folder: a new or empty folder.
        to: one of `FORMATS`.
        check: videos whose middle clips are compared; without any, a synthesised clip.
        tolerance: largest difference that is accepted, as a share of the largest absolute value of an output, or of 1
            if that is smaller.

    Raises:
        ValueError: a value is unknown, the folder is not empty, the format cannot hold the model, or outputs differ.
        ImportError: transformers is too old, or a package of the format is missing.
        OSError: the model or a video cannot be read, or the folder cannot be written.
    """
    if to not in FORMATS:
        raise ValueError(f"--to {to} is unknown; choose one of {', '.join(FORMATS)}.")
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise ValueError(f"{folder} is not empty; choose a new folder.")
    exporter = _exporter(to)
    model, messages = _trained_model(name)
    if to == "executorch" and isinstance(model, VideoMAEV2ForPreTraining):
        raise ValueError("ExecuTorch has no operator for the loss of a pretraining model; export it to another format.")
    processor = checkpoint_processor(str(name), model.config, video_backend="auto")
    clips = comparison_clips(processor, check)
    folder.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=f".{folder.name}-", dir=folder.parent) as place:
        written = Path(place) / "export"
        with quiet():
            _export(exporter, model, to, written)
            differences, largest = _compare(model, written, clips)
        _refuse_differences(differences, largest, tolerance)
        write_preprocessing(written / "preprocessing.json", model, processor, _model_file(written))
        if folder.exists():
            folder.rmdir()
        shutil.move(written, folder)
    files = {path.name: path.stat().st_size for path in sorted(folder.iterdir())}
    return Exported(folder, files, differences, largest, len(clips), messages)


def example_inputs(model: VideoMAEV2PreTrainedModel, clips: torch.Tensor) -> dict[str, torch.Tensor]:
    """The inputs of an exported model for clips (B, T, C, H, W); a pretraining model also takes the ids of its masks.

    Ids have a fixed number per clip, which the configuration implies, so that all shapes but the batch are static.
    """
    inputs = {"pixel_values": clips}
    if isinstance(model, VideoMAEV2ForPreTraining):
        masked, decoded = sample_masks(model.config, len(clips), torch.Generator().manual_seed(0))
        num_visible, num_decoded = token_counts(model.config)
        inputs |= {"visible_ids": mask_to_ids(~masked, num_visible), "decoded_ids": mask_to_ids(decoded, num_decoded)}
    return inputs


def comparison_clips(processor: VideoMAEV2ImageProcessor, videos: Sequence[Input]) -> torch.Tensor:
    """The clips in the middle of videos, or without any a synthesised one: float32 (N, T, C, H, W), normalised."""
    if videos:
        options = {"num_clips": 1, "num_crops": 1, "return_tensors": "pt"}
        return torch.cat([processor(one.video, **options).pixel_values for one in videos])
    generator = torch.Generator().manual_seed(0)
    coarse = torch.rand(1, processor.num_channels, processor.num_frames, 6, 6, generator=generator) * 255
    size = (processor.num_frames, processor.crop_size.height, processor.crop_size.width)
    frames = torch.nn.functional.interpolate(coarse, size, mode="trilinear")[0]  # (C, T, H, W)
    frames = frames.transpose(0, 1).byte()  # (C, T, H, W) -> (T, C, H, W)
    plain = {"do_sample_frames": False, "do_resize": False, "input_data_format": "channels_first"}
    return processor(frames, return_tensors="pt", **plain).pixel_values


def _trained_model(name: str | Path) -> tuple[VideoMAEV2PreTrainedModel, list[str]]:
    """The model of a checkpoint, or its encoder if its head was never trained; and messages about it."""
    model, messages = open_checkpoint(str(name))
    is_headless = isinstance(model, VideoMAEV2ForVideoClassification) and model.config.num_labels == 0
    if is_headless or set(model.new_parts) & set(model.head_parts):
        messages.append(f"{name} has no trained head: its encoder is exported")
        model = model.base_model
    return model.eval().requires_grad_(False), messages


def _refuse_differences(differences: dict[str, float], largest: dict[str, float], tolerance: float) -> None:
    for output, difference in differences.items():
        allowed = tolerance * max(largest[output], 1.0)
        if not difference <= allowed:  # NaN is refused, too
            raise ValueError(
                f"The exported model differs: {output} by up to {difference:.3g}, where values reach "
                f"{largest[output]:.3g}; --tolerance {tolerance:g} allows {allowed:.3g}."
            )


def _exporter(to: str) -> tuple[Any, type]:
    """The exporter of a format, and the class of its options.

    Raises:
        ImportError: transformers has none, or a package is missing.
    """
    if tuple(map(int, transformers.__version__.split(".")[:2])) < _EXPORTERS_SINCE:
        raise ImportError(
            f"Exporting needs transformers {'.'.join(map(str, _EXPORTERS_SINCE))} or newer, but "
            f"{transformers.__version__} is installed: pip install -U transformers."
        )
    auto = importlib.import_module("transformers.exporters.auto")
    config_class = auto.EXPORT_BACKENDS[FORMATS[to][0]].config
    try:
        return auto.AutoHfExporter.from_config(config_class()), config_class
    except ImportError as error:
        raise ImportError(f"{error} For example: pip install '{FORMATS[to][1]}'.") from error


def _export(exporter: tuple[Any, type], model: VideoMAEV2PreTrainedModel, to: str, folder: Path) -> None:
    """Writes the model with a dynamic batch."""
    config = model.config
    shape = (2, config.num_frames, config.num_channels, *config.image_hw)
    inputs = example_inputs(model, torch.randn(shape, generator=torch.Generator().manual_seed(0)))
    batch = torch.export.Dim("batch", min=1, max=_LARGEST_BATCH)
    options = exporter[1](dynamic_shapes={name: {0: batch} for name in inputs})
    exporter[0].export(model, inputs, config=options).save_pretrained(folder)


@torch.no_grad()
def _compare(
    model: VideoMAEV2PreTrainedModel, folder: Path, clips: torch.Tensor
) -> tuple[dict[str, float], dict[str, float]]:
    """For each output, the largest difference of the exported model, read back from its files, and the largest value.

    All clips are compared, in batches of sizes other than that of the example.
    """
    exported = importlib.import_module("transformers.exporters").ExportedModel.from_pretrained(folder)
    differences, largest = defaultdict(list), defaultdict(list)
    for size in _BATCHES:
        repeated = clips if len(clips) >= size else clips.repeat(size, 1, 1, 1, 1)[:size]
        for some in repeated.split(size):
            inputs = example_inputs(model, some)
            found = exported(**inputs)
            for name, expected in model(**inputs).items():
                if isinstance(expected, torch.Tensor):
                    differences[name].append((torch.as_tensor(found[name]).float() - expected.float()).abs().max())
                    largest[name].append(expected.float().abs().max())
    # The maximum of torch is NaN if any value is.
    return tuple({name: torch.stack(some).max().item() for name, some in all.items()} for all in (differences, largest))


def _model_file(folder: Path) -> str:
    """The name of the file with the model."""
    return next(
        path.name for path in sorted(folder.glob("*model.*")) if path.suffix in (".onnx", ".xml", ".pt2", ".pte")
    )


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Keeps back what the exporters of torch print and warn of: operators of packages that no model here uses."""
    logger = logging.getLogger("torch.onnx")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
            warnings.simplefilter("ignore")
            yield
    finally:
        logger.setLevel(level)

# Copyright 2026 The videomae_hf authors. Licensed under the Apache License, Version 2.0.
"""Pictures of a trained model at work on a video: reconstruction, attention, and evidence for a class."""

import textwrap
from fractions import Fraction
from itertools import pairwise
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from ..checkpoints.opening import checkpoint_processor, open_checkpoint
from ..data.sources.synthetic import write_video
from ..evaluation.reconstruction import (
    hide_patches,
    moving_reconstruction,
    reconstruction_rows,
    strip_of,
    to_unit_range,
)
from ..evaluation.strips import NAMES_WIDTH, named_rows, slot_titles, tile_grid, titled_columns
from ..messages import did_you_mean, printable, shorten
from ..models.configuration_videomae_v2 import VideoMAEV2Config
from ..models.image_processing_videomae_v2 import VideoMAEV2ImageProcessor
from ..models.masking import ids_to_mask, sample_masks
from ..models.modeling_videomae_v2 import (
    VideoMAEV2ForPreTraining,
    VideoMAEV2ForVideoClassification,
    VideoMAEV2PreTrainedModel,
)
from ..models.token_selection import TokenSelection
from .attention import attention_rollout, check_head, class_evidence, head_attention
from .inputs import Input
from .model_runner import ModelRunner
from .overlays import overlay_picture
from .predictions import REGRESSION, Head


RECONSTRUCTION, ATTENTION, EVIDENCE, TOKENS = KINDS = ("reconstruction", "attention", "evidence", "tokens")
_NAME_COLUMNS, _LABEL_COLUMNS = 22, 28  # letters in a line of a row's name, and of a class in it
_USUAL_RATE, _RATES = 8, (2, 30)  # frames per second of moving pictures, if the video has no timing; and bounds


class Viewer(ModelRunner):
    """A model of any kind, ready for pictures; see `open_viewer`.

    Args:
        model: a pretraining model, a classifier or an encoder.
        processor: its processor.
        device: see `videomae_hf.load`. Pictures are computed in float32.
    """

    def __init__(
        self,
        model: VideoMAEV2PreTrainedModel,
        processor: VideoMAEV2ImageProcessor,
        device: str | torch.device | None = None,
    ) -> None:
        super().__init__(model, processor, device=device, dtype="float32")
        self.model.requires_grad_(False)

    @property
    def kinds(self) -> tuple[str, ...]:
        """The `KINDS` that the model can show by itself: a decoder reconstructs, and a trained classifier has evidence.
        Tokens are shown of a selection, see `kept_tokens`.
        """
        is_trained = not set(self.model.new_parts) & {*self.model.head_parts}
        if isinstance(self.model, VideoMAEV2ForPreTraining) and is_trained:
            return RECONSTRUCTION, ATTENTION
        if isinstance(self.model, VideoMAEV2ForVideoClassification) and is_trained and self.model.config.num_labels:
            return ATTENTION, EVIDENCE
        return (ATTENTION,)

    def check_kind(self, kind: str) -> None:
        """Raises ValueError if the model cannot make this kind of picture."""
        if kind not in KINDS:
            raise ValueError(f"{kind!r} is unknown; choose from {', '.join(KINDS)}.")
        if kind not in (*self.kinds, TOKENS):
            needed = "a pretraining model with its decoder" if kind == RECONSTRUCTION else "a finetuned classifier"
            raise ValueError(f"{kind} needs {needed}; this model can show {' and '.join(self.kinds)}.")

    def check_choices(self, layer: int | None = None, head: int | None = None, label: str | None = None) -> None:
        """Raises ValueError for a layer, a head or a class that the model does not have."""
        check_head(self.model.config, -1 if layer is None else layer, head)
        if label is not None:
            _class_number(label, self.head.labels)

    @property
    def head(self) -> Head:
        """The outputs of a classifier."""
        names = self.model.config.id2label
        return Head([names[number] for number in range(len(names))], self.model.inferred_problem_type(None))

    def clip(self, one: Input) -> tuple[torch.Tensor, Fraction]:
        """The clip in the middle of a video, float32 (1, T, C, H, W), and its frames per second, where unknown 8.

        Raises:
            VideoDecodeError, OSError, ValueError: the video cannot be read.
        """
        (clip, metadata), rate = self.described_clips(one, 1, 1), float(_USUAL_RATE)
        steps = [after - before for before, after in pairwise(metadata.frames_indices) if after > before]
        if metadata.fps and steps:
            rate = metadata.fps * len(steps) / sum(steps)
        rate = min(max(rate, _RATES[0]), _RATES[1])
        return clip.to(self.device), Fraction(rate).limit_denominator(1000)

    def mask_config(self, **masks) -> VideoMAEV2Config:
        """The configuration of the model with other masks, see `open_viewer`.

        Raises:
            ValueError: a value is out of range.
        """
        return VideoMAEV2Config.from_dict({**self.model.config.to_dict(), **masks})

    def reconstruction(self, clip: torch.Tensor, seed: int = 0, **masks) -> torch.Tensor:
        """The `STRIP_ROWS` (4, T, C, H, W) of a clip (1, T, C, H, W).

        Args:
            clip: the clip.
            seed: seed of the masks.
            masks: fields of the configuration that replace those of the model, see `open_viewer`.

        Raises:
            ValueError: a value is out of range, or the model has no trained decoder.
        """
        self.check_kind(RECONSTRUCTION)
        sampled = sample_masks(self.mask_config(**masks), 1, torch.Generator().manual_seed(seed))
        return reconstruction_rows(self.model, clip, *sampled)[0]

    def attention(self, clip: torch.Tensor, layer: int | None = None, head: int | None = None) -> Image.Image:
        """Attention rollout over a clip (1, T, C, H, W); below it, if asked for, single heads.

        Args:
            clip: the clip.
            layer: number of a layer from 0; negative numbers count from the last one, which is the default if `head` is
                given.
            head: number of a head from 0; None shows all heads of `layer`.
        """
        maps = {"attention rollout": attention_rollout(self.model, clip)[0].cpu()}
        if layer is not None or head is not None:
            layer = -1 if layer is None else layer
            check_head(self.model.config, layer, head)
            found = head_attention(self.model, clip, layer)[0].cpu()  # (heads, T', H', W')
            number = layer % self.model.config.num_hidden_layers
            for one in range(len(found)) if head is None else [head]:
                maps[f"layer {number}, head {one}"] = found[one]
        return self._picture(clip, maps)

    def evidence(self, clip: torch.Tensor, label: str | None = None) -> Image.Image:
        """The evidence for a class in a clip (1, T, C, H, W), by gradient x attention.

        Args:
            clip: the clip.
            label: name of the class; None is the one with the highest logit, and in regression the first value.

        Raises:
            ValueError: there is no such class, or the model is no trained classifier.
        """
        self.check_kind(EVIDENCE)
        head = self.head
        with torch.no_grad():
            values = head.probabilities(self.model(clip).logits[0].float().cpu())  # (num_labels,)
        if label is None:
            number = 0 if head.problem_type == REGRESSION else int(values.argmax())
        else:
            number = _class_number(label, head.labels)
        value = f"{values[number]:.4g}" if head.problem_type == REGRESSION else f"{values[number]:.1%}"
        name = printable(head.labels[number])
        name = name if len(name) <= _LABEL_COLUMNS else f"{name[:_LABEL_COLUMNS]}.."
        name = textwrap.fill(f"evidence for {name} ({value}), gradient x attention", _NAME_COLUMNS)
        return self._picture(clip, {name: class_evidence(self.model, clip, number)[0].cpu()})

    def kept_tokens(self, clip: torch.Tensor, selection: TokenSelection, seed: int = 0) -> torch.Tensor:
        """Which tokens of a clip (1, T, C, H, W) the encoder gets: bool (L,).

        Args:
            clip: the clip; with `static_threshold`, a batch of several clips may keep more of them.
            selection: the selection; of `token_keep`, the tokens are those of a step of training.
            seed: seed of `token_keep`.

        Raises:
            ValueError: the model cannot encode the selected tokens.
        """
        config = self.model.config
        selection.check(config)
        with torch.random.fork_rng([]):  # the selection is sampled from torch's global generator
            torch.manual_seed(seed)
            ids = selection.visible_ids(clip.cpu(), config, training=True)
        if ids is None:
            return torch.ones(config.sequence_length, dtype=torch.bool)
        return ids_to_mask(ids, config.sequence_length)[0]

    def tokens(self, clip: torch.Tensor, kept: torch.Tensor) -> Image.Image:
        """The frames of a clip (1, T, C, H, W), and below them the same with the tokens that are left out in grey.

        Args:
            clip: the clip.
            kept: bool (L,), from `kept_tokens`.
        """
        config = self.model.config
        frames = to_unit_range(clip, config).cpu()
        rows = torch.cat([frames, hide_patches(frames, ~kept[None], config)])[:, :: config.tubelet_size]
        names = ["frames", f"encoder sees\n{textwrap.fill(kept_line(kept), _NAME_COLUMNS)}"]
        titles = slot_titles(config.num_frames, config.tubelet_size)
        return titled_columns(named_rows(tile_grid(rows), names), titles, left=NAMES_WIDTH)

    def _picture(self, clip: torch.Tensor, maps: dict[str, torch.Tensor]) -> Image.Image:
        return overlay_picture(to_unit_range(clip[0], self.model.config).cpu(), maps, self.model.config)


def open_viewer(model: str | Path, device: str | torch.device | None = None, **masks) -> Viewer:
    """Opens a model of any kind for pictures.

    Args:
        model: folder or Hub id of a pretrained or finetuned checkpoint of any layout, or of adapters.
        device: `"cuda"`, `"mps"`, `"cpu"`, ..; None is the first of these that is available.
        masks: fields of the configuration that replace those of a pretraining model: `mask_type`, `mask_ratio`,
            `decoder_mask_type`, `decoder_mask_ratio`; None keeps its own.

    Raises:
        ValueError: a value is out of range, or masks are given for a model without a decoder.
        OSError: there is no such model.

    Example:

    ```python
    from videomae_hf.inference.inputs import input_of
    from videomae_hf.inference.visualization import open_viewer

    viewer = open_viewer("MCG-NJU/videomae-base-finetuned-kinetics")
    clip, fps = viewer.clip(input_of("video.mp4"))
    viewer.attention(clip).save("attention.png")
    ```"""
    masks = {name: value for name, value in masks.items() if value is not None}
    opened, messages = open_checkpoint(str(model), **masks)
    if masks and not isinstance(opened, VideoMAEV2ForPreTraining):
        raise ValueError(f"{next(iter(masks))} is for pretraining models, and {model} has no decoder.")
    viewer = Viewer(opened, checkpoint_processor(str(model), opened.config, video_backend="auto"), device)
    viewer.messages += messages
    return viewer


def kept_line(kept: torch.Tensor) -> str:
    """How many tokens are kept: "kept 28% of 1,568 tokens", of bool (L,)."""
    return f"kept {float(kept.float().mean()):.0%} of {len(kept):,} tokens"


def save_reconstruction(rows: torch.Tensor, viewer: Viewer, fps: Fraction, stem: Path) -> list[Path]:
    """Writes the rows of a reconstruction as STEM.png, a column for each time slot, and moving as STEM.gif, STEM.mp4.

    Args:
        rows: (4, T, C, H, W), of `Viewer.reconstruction`.
        viewer: the viewer.
        fps: frames per second of the moving pictures.
        stem: the files without their suffix.
    """
    config = viewer.model.config
    paths = [stem.with_name(f"{stem.name}.{suffix}") for suffix in ("png", "gif", "mp4")]
    titles = slot_titles(config.num_frames, config.tubelet_size)
    titled_columns(strip_of(rows, config), titles, left=NAMES_WIDTH).save(paths[0])
    frames = moving_reconstruction(rows, config)
    _write_gif(paths[1], frames, fps)
    write_video(paths[2], frames, fps)
    return paths


def _write_gif(path: Path, frames: np.ndarray, fps: Fraction) -> None:
    """Writes uint8 (T, H, W, 3) as a GIF that repeats for ever; its clock ticks in hundredths of a second."""
    first, *others = map(Image.fromarray, frames)
    first.save(path, save_all=True, append_images=others, duration=10 * round(100 / fps), loop=0)


def _class_number(label: str, labels: list[str]) -> int:
    if label not in labels:
        hint = did_you_mean(label, labels) or f"; the classes are {shorten(labels)}."
        raise ValueError(f"label={label!r} is no class of this model{hint}")
    return labels.index(label)

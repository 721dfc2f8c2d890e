# Copyright 2026 The videomae_hf authors. Licensed under the Apache License, Version 2.0.
"""`load_video_text` opens a VideoBERT with what computes its features, and `VideoText` applies it to videos of any
length: it fills masked words, compares texts with videos, writes captions, and classifies.

Shapes in comments: S segments, P tokens of a segment, F values of a feature.
"""

import threading
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import wraps
from pathlib import Path

import numpy as np
import torch

from ..checkpoints.video_text import open_video_text, video_text_class
from ..evaluation.video_text_scores import longest_caption
from ..models.image_processing_videomae_v2 import VideoMAEV2ImageProcessor
from ..models.modeling_videobert import VideoBertPreTrainedModel
from ..models.processing_videobert import SegmentSampler, VideoBertProcessor
from ..models.video_sources import VideoDecodeError, VideoInfo
from .extractor import Extractor, load_encoder
from .inputs import Input
from .model_runner import refuse_camera, usable_device, usable_dtype
from .windows import Windows


_FRAMES_AT_ONCE = 256  # frames of a video that are decoded and encoded together
_NO_LIMIT = 2**40
# Options of a processor on which features depend, apart from the choice of frames
_PREPARATION = ("do_resize", "size", "do_center_crop", "crop_size", "do_rescale", "rescale_factor", "do_normalize",
                "image_mean", "image_std", "resample", "antialias", "num_channels")  # fmt: skip


@dataclass(frozen=True, eq=False)
class Segments:
    """The segments of a video.

    Args:
        features: float32 (S, P, F), as they are: the model standardises them.
        times: float64 (S, 2), start and end in seconds from the first frame; in frames, if the video has no timing.
        frames: int64 (S, 2), the first frame of each segment, and the frame after its last one.
    """

    features: torch.Tensor
    times: np.ndarray
    frames: np.ndarray


@dataclass(frozen=True, eq=False)
class Part:
    """A whole video or a moment of it: start and end as in `Segments`, and the features (S, P, F) in between."""

    start: float
    end: float
    features: torch.Tensor


class _Sampler(SegmentSampler):
    """Segments of a video, some at a time; it learns their number and times when it first sees the video."""

    first, at_once, number = 0, 1, None

    def sample_clips(self, info: VideoInfo, options: dict) -> list[list[int]]:
        every = super().sample_clips(info, options)
        if self.number is None:
            self.number = len(every)
            ends = [[segment[0], segment[-1] + _step(segment)] for segment in every]
            self.frames = np.array(ends, dtype=np.int64)  # (S, 2)
            self.times = np.array([[_seconds(info, frame) for frame in pair] for pair in ends], dtype=np.float64)
        return every[self.first : self.first + self.at_once]


def _step(segment: list[int]) -> int:
    """The distance of the last frames of a segment; a short video repeats its last frame."""
    return max(segment[-1] - segment[-2], 1) if len(segment) > 1 else 1


def _seconds(info: VideoInfo, frame: int) -> float:
    """The time of a frame in seconds, of one after the end as well; its number, if the video has no timing."""
    if info.timestamps is not None and len(info.timestamps) > 1:
        last = len(info.timestamps) - 1
        duration = info.timestamps[last] / last
        return info.timestamps[frame] if frame <= last else info.timestamps[last] + duration * (frame - last)
    return frame / info.fps if info.fps else float(frame)


def parts_of(found: Segments, windows: Windows | None, name: str) -> list[Part]:
    """The whole video or, with windows, its moments: the segments whose middle lies within each window.

    Args:
        found: the segments of a video.
        windows: their length and stride; None is the whole video.
        name: name of the video, for messages.

    Raises:
        ValueError: no window has a segment.
        VideoDecodeError: windows are in seconds, but the video has no timing, or a frame a second.
    """
    if windows is None:
        return [Part(float(found.times[0, 0]), float(found.times[-1, 1]), found.features)]
    if windows.unit == "s" and np.array_equal(found.times, found.frames):
        raise VideoDecodeError(f"{name}: its times are numbers of frames; give --window in frames, such as 64f")
    bounds = found.times if windows.unit == "s" else found.frames
    middles, parts, before = bounds.mean(axis=1), [], np.empty(0)
    for number in _windows_at(middles, windows):
        start, end = number * windows.stride, number * windows.stride + windows.length
        rows = np.flatnonzero((middles >= start) & (middles < end))
        if len(rows) and not np.array_equal(rows, before):  # windows that are closer than segments have the same
            times, before = found.times[rows], rows
            parts.append(Part(float(times[0, 0]), float(times[-1, 1]), found.features[rows]))
        if end >= bounds[-1, 1]:
            break
    if not parts:
        length = f"{windows.length:g}{windows.unit}"
        raise ValueError(f"{name}: no window of {length} has the middle of a segment; give a longer --window.")
    return parts


def _windows_at(middles: np.ndarray, windows: Windows) -> list[int]:
    """The numbers of the windows that may hold one of these moments; a gap in time, however long, has none."""
    last = np.floor(middles / windows.stride).astype(np.int64)
    first = np.maximum(np.floor((middles - windows.length) / windows.stride).astype(np.int64), 0)
    return sorted({number for pair in zip(first.tolist(), last.tolist()) for number in range(pair[0], pair[1] + 1)})


def load_video_text(
    model: str | Path,
    model_class: type[VideoBertPreTrainedModel] | None = None,
    *,
    backbone: str | None = None,
    needs_backbone: bool = True,
    device: str | torch.device | None = None,
    dtype: str | torch.dtype | None = None,
    batch_size: int = 8,
) -> "VideoText":
    """Opens a VideoBERT for use on videos.

    Args:
        model: folder or Hub id of a VideoBERT checkpoint with its processor.
        model_class: what it is opened as, such as `VideoBertForRetrieval`; None is the class of the checkpoint.
        backbone: folder or Hub id of the model whose features it takes; None is `feature_backbone` of its
            configuration. A VideoBERT with a backbone of its own takes none.
        needs_backbone: False for features that are there already.
        device, dtype, batch_size: as in `load`; a batch is of segments, and of videos with their texts.

    Raises:
        ValueError: a part that is needed was never trained, or nothing names the model of the features.
        OSError: there is no such model.
    """
    if batch_size < 1:
        raise ValueError(f"batch_size={batch_size} must be at least 1.")
    place = usable_device(device)
    opened, processor = open_video_text(model, model_class or video_text_class(model))
    config, encoder = opened.config, None
    if config.backbone_config is not None and backbone is not None:
        raise ValueError(f"{model} has a backbone of its own: leave --backbone {backbone} out.")
    if config.backbone_config is None and needs_backbone:
        name = backbone or config.feature_backbone
        if name is None:
            raise ValueError(
                f"{model} takes features of segments, but does not name the model that computes them: give --backbone, "
                f"the model that its training features are of."
            )
        encoder = load_encoder(name, device=place, dtype=dtype, batch_size=batch_size)
        size = encoder.encoder.config.hidden_size
        if size != config.feature_size:
            raise ValueError(f"{name} has features of {size} values, but {model} takes {config.feature_size}.")
    found = VideoText(opened, processor, encoder, device=place, dtype=dtype, batch_size=batch_size)
    if encoder is not None:
        found.messages += [f"features of segments: {name}, {encoder.pooling}", *encoder.messages]
        found.messages += _differences(processor.image_processor, encoder.processor, name)
    return found


def _differences(mine: VideoMAEV2ImageProcessor, other: VideoMAEV2ImageProcessor, name: str) -> list[str]:
    """A line if segments are prepared otherwise than the model of the features is used to."""
    names = [option for option in _PREPARATION if getattr(mine, option) != getattr(other, option)]
    stated = ", ".join(f"{option}={getattr(mine, option)}, not {getattr(other, option)}" for option in names)
    return [f"segments are prepared otherwise than for {name}: {stated}"] if names else []


def _computing(method: Callable) -> Callable:
    """A method that computes without gradients and in the precision of the model."""

    @wraps(method)
    def computed(self: "VideoText", *args, **kwargs):
        with torch.inference_mode(), torch.autocast(self.device.type, self.dtype, self.dtype != torch.float32):
            return method(self, *args, **kwargs)

    return computed


class VideoText:
    """A VideoBERT in evaluation mode on a device; see `load_video_text`.

    Args:
        model: the model.
        processor: its processor, which says what a segment is.
        encoder: the model of its features; None if the model has a backbone, or takes features that are there.
        device, dtype, batch_size: see `load_video_text`.

    Attributes:
        messages: which model computes the features, and what is unusual about it.
    """

    def __init__(
        self,
        model: VideoBertPreTrainedModel,
        processor: VideoBertProcessor,
        encoder: Extractor | None = None,
        *,
        device: str | torch.device | None = None,
        dtype: str | torch.dtype | None = None,
        batch_size: int = 8,
    ) -> None:
        self.device = usable_device(device)
        self.dtype = usable_dtype(dtype, self.device)
        self.model, self.processor, self.encoder = model.to(self.device).eval(), processor, encoder
        self.batch_size, self._lock = batch_size, threading.Lock()
        self.messages: list[str] = []

    # ----------------------------------------------------------------------------------------------------- segments

    def segments(self, one: Input, *, every: bool = False) -> Segments:
        """The segments of a video, some of which are decoded and encoded at a time.

        Threads may call this at the same time: they decode in parallel, and encode one after the other.

        Args:
            one: the video.
            every: all of its segments; otherwise at most `processor.max_segments`, evenly spread.

        Raises:
            VideoDecodeError, OSError: the video cannot be decoded, does not exist, or cannot be loaded.
            ValueError: it is a camera, or nothing computes features.
        """
        refuse_camera(one)
        processor = self.processor
        sampler = _Sampler.from_dict(processor.image_processor.to_dict())
        sampler.segment_stride = processor.segment_stride
        sampler.max_segments = _NO_LIMIT if every else processor.max_segments
        sampler.at_once = max(_FRAMES_AT_ONCE // sampler.num_frames, 1)
        options = {"num_clips": 1, "num_crops": 1, "do_sample_frames": True, "return_tensors": "pt"}
        rows = []
        while sampler.number is None or sampler.first < sampler.number:
            clips = sampler([one.video], **options).pixel_values[0]
            clips = clips if clips.ndim == 5 else clips[None]  # one segment: (T, C, H, W) -> (1, T, C, H, W)
            with self._lock:
                rows.append(self._encoded(clips))
            sampler.first += sampler.at_once
        return Segments(torch.cat(rows), sampler.times, sampler.frames)

    @_computing
    def _encoded(self, clips: torch.Tensor) -> torch.Tensor:
        """(S, T, C, H, W) -> float32 (S, P, F), on the CPU."""
        config = self.model.config
        if config.backbone_config is not None:
            pixels = clips.to(self.device)[None]  # (S, ..) -> (1, S, ..)
            base = self.model.base_model
            return base.features_of(pixel_values=pixels, batch_size=self.batch_size)[0].float().cpu()
        if self.encoder is None:
            raise ValueError("Features of videos need the model that computes them; give --backbone.")
        rows = self.encoder.encode_segments(clips, config.tokens_per_segment)
        return rows.view(len(rows), config.tokens_per_segment, config.feature_size)

    # ------------------------------------------------------------------------------------------------------ answers

    def check_texts(self, texts: Sequence[str]) -> list[str]:
        """Refuses texts that the model cannot read, and returns remarks about words that it does not know.

        Raises:
            ValueError: a text is empty, or longer than the processor allows, so that its end would be ignored.
        """
        tokenizer, notes = self.processor.tokenizer, []
        for text, ids in zip(texts, tokenizer(list(texts), add_special_tokens=False, verbose=False)["input_ids"]):
            if not ids:
                raise ValueError(f"The text {text!r:.60} has no words.")
            if len(ids) > self.processor.max_length - 3:
                raise ValueError(
                    f"{text!r:.60} has {len(ids)} tokens, but the model reads {self.processor.max_length - 3}: shorten "
                    f"it."
                )
            unknown = ids.count(tokenizer.unk_token_id) if tokenizer.unk_token_id is not None else 0
            if unknown:
                notes.append(f"{text!r:.80}: {unknown} of {len(ids)} tokens are unknown to this model")
        return notes

    def check_prompt(self, prompt: str) -> list[str]:
        """As `check_texts`, for a text with masked words; raises ValueError if it has none."""
        if self.processor.tokenizer.mask_token not in prompt:
            mask = self.processor.tokenizer.mask_token
            raise ValueError(f"--prompt {prompt!r:.60} has no {mask}; write it where the model shall fill in a word.")
        return self.check_texts([prompt])

    @_computing
    def fill(self, prompt: str, parts: Sequence[Part], top_k: int = 5) -> list[list[list[tuple[str, float]]]]:
        """The likeliest words at each masked place of a prompt, without special tokens, with their probabilities.

        Args:
            prompt: a text with masked words.
            parts: videos or moments.
            top_k: number of words.
        """
        tokenizer, found = self.processor.tokenizer, []
        special = set(tokenizer.all_special_tokens)
        most = min(top_k + len(special), len(tokenizer))
        for video, number in self._batches(parts):
            text = self._texts([prompt] * number)
            for words, probabilities in self.model.fill(**text, **video, top_k=most):
                names = [tokenizer.convert_ids_to_tokens(row) for row in words.tolist()]
                places = [zip(*place) for place in zip(names, probabilities.tolist())]
                found.append([[pair for pair in place if pair[0] not in special][:top_k] for place in places])
        return found

    @_computing
    def scores(self, texts: Sequence[str], parts: Sequence[Part]) -> torch.Tensor:
        """How well texts describe parts: float32 (parts, texts), on the CPU; every pair is a pass of the model."""
        encoded, found = self._texts(texts), []
        for video, _ in self._batches(parts):
            found.append(self.model.scores(**encoded, **video, chunk_size=self.batch_size).cpu())
        return torch.cat(found)

    @_computing
    def captions(self, parts: Sequence[Part], seed: int = 0, **options) -> list[str]:
        """A caption of each part.

        Args:
            parts: videos or moments.
            seed: of sampling; captions of a video do not depend on other videos.
            options: those of `generate`, such as `num_beams`, `do_sample` or `max_new_tokens`.
        """
        found, tokenizer = [], self.processor.tokenizer
        devices = [self.device] if self.device.type == "cuda" else []
        with torch.random.fork_rng(devices=devices):  # transformers samples from the global generator
            torch.manual_seed(seed)
            for video, _ in self._batches(parts):
                words = self.model.generate(**video, **options)
                found += tokenizer.batch_decode(words, skip_special_tokens=True)
        return [" ".join(caption.split()) for caption in found]

    @_computing
    def logits(self, parts: Sequence[Part]) -> torch.Tensor:
        """The logits of a classifier, float32 (parts, num_labels), on the CPU."""
        return torch.cat([self.model(**video).logits.float().cpu() for video, _ in self._batches(parts)])

    def longest_caption(self) -> int:
        """How many words a caption may have: what the processor allows, as far as there are positions."""
        return longest_caption(self.model, self.processor, self.processor.max_segments)

    def _texts(self, texts: Sequence[str]) -> dict[str, torch.Tensor]:
        return {name: value.to(self.device) for name, value in self.processor.encode_texts(texts).items()}

    def _batches(self, parts: Sequence[Part]) -> Iterator[tuple[dict[str, torch.Tensor], int]]:
        """Inputs of the model for some parts at a time, and the number of parts."""
        for start in range(0, len(parts), self.batch_size):
            some = [part.features for part in parts[start : start + self.batch_size]]
            video = self.processor(video_features=some)  # longer parts have `max_segments`, evenly spread
            yield {name: value.to(self.device) for name, value in video.items()}, len(some)

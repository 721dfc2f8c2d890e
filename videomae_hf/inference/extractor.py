# Copyright 2026 The videomae_hf authors. Licensed under the Apache License, Version 2.0.
"""`load_encoder` opens the encoder of a checkpoint of any stage, and `Extractor` computes features with it."""

import math
import threading
import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch

from ..checkpoints.opening import checkpoint_processor, open_checkpoint, opening_class
from ..data.shared_work import ProcessShare
from ..evaluation.features import encoded_tokens, features_digest, weights_digest
from ..evaluation.few_shot import head_norm_of
from ..models.image_processing_videomae_v2 import VideoMAEV2ImageProcessor
from ..models.modeling_videomae_v2 import (
    VideoMAEV2ForVideoClassification,
    VideoMAEV2Model,
    VideoMAEV2PreTrainedModel,
)
from ..models.segment_features import segment_features
from ..models.video_sources import VideoDecodeError
from .feature_folder import FeatureFile, FeatureWriter
from .inputs import Input, input_of, inputs_of
from .loading import read_together
from .model_runner import ModelRunner, check_processor_options, refuse_camera, usable_device
from .windows import Windows, window_clips


FEATURES = ("pooled", "tokens", "maps")
VIEWS = ("average", "all")
LAYOUTS = ("safetensors", "tad")
DTYPES = ("float32", "float16")


@dataclass(frozen=True)
class Extraction:
    """Which features of a video are computed.

    Args:
        features: `"pooled"`, the mean of all tokens, (D,), followed by the norm of the checkpoint's classification head
            if it has one; `"tokens"`, (L, D); or `"maps"`, the tokens as (T', H', W', D).
        num_clips, num_crops: views of the video, or of each window.
        views: `"average"` the features of all views, or keep `"all"`, each as a row.
        window, stride: length and distance of sliding windows, see `Windows.of`. Either implies windows; without both,
            clips are of the whole video.
        float_pixels: rescale and resize in float32, see `window_clips`.
        to_the_end: see `Windows`.

    Raises:
        ValueError: a value is unknown or out of range, or tokens of several views would be averaged.
    """

    features: str = "pooled"
    num_clips: int = 1
    num_crops: int = 1
    views: str = "average"
    window: float | str | None = None
    stride: float | str | None = None
    float_pixels: bool = False
    to_the_end: bool = True

    def __post_init__(self) -> None:
        for name, known in (("features", FEATURES), ("views", VIEWS)):
            if getattr(self, name) not in known:
                raise ValueError(f"{name}={getattr(self, name)} is unknown; choose one of {', '.join(known)}.")
        for name in ("num_clips", "num_crops"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name}={getattr(self, name)} must be at least 1.")
        if self.features != "pooled" and self.views == "average" and self.num_clips * self.num_crops > 1:
            raise ValueError(
                f"features={self.features} of several clips or crops show other moments and places, so that their "
                f"average means nothing; give views=all."
            )

    @property
    def of_windows(self) -> bool:
        return self.window is not None or self.stride is not None

    def windows(self, processor: VideoMAEV2ImageProcessor) -> Windows | None:
        """The sliding windows; None for whole videos."""
        if not self.of_windows:
            return None
        return replace(Windows.of(processor, self.window, self.stride), to_the_end=self.to_the_end)


@dataclass(frozen=True, eq=False)
class Features:
    """The features of a video, or the reason why there are none.

    Args:
        name: path, address or description of the video.
        values: float32 (N, ..), a row for each window or, of whole videos, a single row; more with `views="all"`.
        starts, ends: float64 (N,), seconds from the first frame; frame numbers, if the video has no timing.
        frames: int64 (N, 2), the first frame of each row, and the frame after its last one.
        error: the exception, for a video that cannot be read.
    """

    name: str
    values: torch.Tensor | None = None
    starts: torch.Tensor | None = None
    ends: torch.Tensor | None = None
    frames: torch.Tensor | None = None
    error: Exception | None = None


@dataclass(frozen=True, eq=False)
class _Clips:
    """Clips that go through the encoder together: (V, T, C, H, W), and the times and frames of their rows, (N, 2) each;
    N is 1, if the views are averaged, or V."""

    clips: torch.Tensor
    times: np.ndarray
    frames: np.ndarray


@dataclass(frozen=True, eq=False)
class _Rows:
    """Features of some rows of a video, float32 (N, ..), with their times and frames (N, 2)."""

    values: torch.Tensor
    times: np.ndarray
    frames: np.ndarray


class Throughput:
    """Counts clips, and measures what was waited for.

    Attributes:
        clips: number of clips that went through the encoder.
        waited: seconds in which the model had no clip.
        decoding: seconds that the decoding threads worked, added up.
        num_workers: number of these threads.
    """

    def __init__(self, num_workers: int) -> None:
        self.clips, self.waited, self.decoding, self.num_workers = 0, 0.0, 0.0, num_workers
        self.begin, self._lock = time.monotonic(), threading.Lock()

    def waits(self, items: Iterable) -> Iterator:
        """The items, where the time until each counts as waiting."""
        for seconds, item in _timed(items):
            self.waited += seconds
            yield item

    def decodes(self, items: Iterable) -> Iterator:
        """The items, where the time until each counts as decoding; called by several threads."""
        for seconds, item in _timed(items):
            with self._lock:
                self.decoding += seconds
            yield item

    def describe(self) -> str:
        """One line: clips per second, those of decoding alone, and the part of the time in which the model waited."""
        seconds = max(time.monotonic() - self.begin, 1e-9)
        alone = self.clips * self.num_workers / max(self.decoding, 1e-9)
        return (
            f"{self.clips:,} clips in {seconds:.1f} s: {self.clips / seconds:.1f} clips/s (decoding alone: {alone:.1f} "
            f"on {self.num_workers} threads); {self.waited / seconds:.0%} of the time spent waiting for clips"
        )


def _timed(items: Iterable) -> Iterator[tuple[float, Any]]:
    iterator = iter(items)
    while True:
        begin = time.monotonic()
        try:
            item = next(iterator)
        except StopIteration:
            return
        yield time.monotonic() - begin, item


def load_encoder(
    model: str | Path,
    *,
    device: str | torch.device | None = None,
    dtype: str | torch.dtype | None = None,
    batch_size: int = 8,
    num_workers: int | None = None,
    **options,
) -> "Extractor":
    """Opens the encoder of a pretrained or finetuned model.

    Args:
        model: folder or Hub id of a checkpoint of any layout: of this package, of transformers' VideoMAE, of
            OpenGVLab's V2, or of adapters (LoRA).
        device, dtype, batch_size, num_workers, options: as in `load`.

    Returns:
        An `Extractor`; its `messages` say what is unusual about the model.

    Raises:
        ValueError: a value is unknown or out of range.
        OSError: there is no such model.

    Example:

    ```python
    import videomae_hf

    encoder = videomae_hf.load_encoder("MCG-NJU/videomae-base")
    features = encoder.extract("video.mp4")
    print(features.values.shape)
    ```"""
    check_processor_options(options)
    place = usable_device(device)
    is_classifier = opening_class(str(model)) is VideoMAEV2ForVideoClassification
    opened, messages = open_checkpoint(str(model), None if is_classifier else VideoMAEV2Model)
    processor = checkpoint_processor(str(model), opened.config, **{"video_backend": "auto", **options})
    extractor = Extractor(opened, processor, device=place, dtype=dtype, batch_size=batch_size, num_workers=num_workers)
    extractor.messages += messages
    return extractor


class Extractor(ModelRunner):
    """An encoder, ready for videos of any kind; see `load_encoder`.

    Args:
        model: an encoder, or a classifier, of which the encoder and the norm before the classifier are used.
        processor: its processor.
        options: device, dtype, batch_size and num_workers, see `load`.

    Attributes:
        pooling: how pooled features are computed, in words.
    """

    def __init__(self, model: VideoMAEV2PreTrainedModel, processor: VideoMAEV2ImageProcessor, **options) -> None:
        super().__init__(model, processor, **options)
        self.encoder = model.videomae if isinstance(model, VideoMAEV2ForVideoClassification) else model
        self.norm = head_norm_of(model)
        after = "without a norm, of which this checkpoint has none"
        if self.norm is not None:
            after = "followed by fc_norm, as in classification"
        elif self.encoder.layernorm is not None:
            after = "after the last norm of the encoder"
        config = self.encoder.config
        pooled = "class tokens" if config.use_cls_token and config.use_mean_pooling is False else "all tokens"
        self.pooling = f"mean of {pooled}, {after}"
        self.throughput = Throughput(self.num_workers)

    def extract(self, video: Any, **how) -> Features:
        """Computes the features of one video.

        Args:
            video: as in `Predictor.predict`.
            how: the fields of `Extraction`.

        Raises:
            VideoDecodeError, OSError: the video cannot be decoded, does not exist, or cannot be loaded.
            ValueError: a value is out of range.
        """
        found = next(self.extract_many([input_of(video)], **how))
        if found.error is not None:
            raise found.error
        return found

    def extract_many(self, videos: Iterable[Any], **how) -> Iterator[Features]:
        """Yields the features of videos in the order in which they are complete; several are decoded at once.

        Args:
            videos: as in `Predictor.predict_many`.
            how: the fields of `Extraction`.

        Yields:
            `Features` for each video; for one that cannot be read, with `error` set.
        """
        waiting = {}  # by the identity of the input, which exists while its rows come
        for one, rows in self._rows(inputs_of(videos, self.media), Extraction(**how)):
            if isinstance(rows, _Rows):
                waiting.setdefault(id(one), []).append(rows)
                continue
            found = waiting.pop(id(one), [])
            yield Features(one.name, error=rows) if rows is not None else _joined(one.name, found)

    def header(
        self, how: Extraction, model: str, dtype: str = "float32", layout: str = "safetensors"
    ) -> dict[str, Any]:
        """The header of a folder of these features: everything that they depend on, and its digest under `key`.

        Args:
            how: which features.
            model: name of the model.
            dtype, layout: of the files, see `FeatureFile`.

        Raises:
            ValueError: the layout tad has only pooled features of windows, in float32.
        """
        if layout not in LAYOUTS or dtype not in DTYPES:
            raise ValueError(f"layout={layout} and dtype={dtype}: choose from {LAYOUTS} and {DTYPES}.")
        if layout == "tad" and (how.features != "pooled" or how.views != "average" or dtype != "float32"):
            raise ValueError(
                "layout=tad has an averaged pooled feature for each window, in float32; leave the rest out."
            )
        windows, weights = how.windows(self.processor), weights_digest(self.model)
        settings = {
            **{"features": how.features, "shape": self._shape(how.features), "dtype": dtype, "layout": layout},
            **{"windows": None if windows is None else asdict(windows), "views": how.views},
            **{"num_clips": how.num_clips, "num_crops": how.num_crops, "float_pixels": how.float_pixels},
            **{"precision": str(self.dtype).removeprefix("torch."), "pooling": self.pooling, "weights": weights},
            "processor": self.processor.to_dict(),
        }
        if self.encoder.token_selection is not None:
            settings["tokens"] = asdict(self.encoder.token_selection)
        key = features_digest(weights, self.model.config, [settings]).hexdigest()[:24]
        return {"key": key, "model": model, **settings}

    def extract_to(
        self, writer: FeatureWriter, inputs: Iterable[Input], how: Extraction
    ) -> Iterator[tuple[Input, dict[str, Any] | Exception]]:
        """Writes the features of videos to a folder; its header must be that of `how`.

        Args:
            writer: the folder, which has planned these videos.
            inputs: videos without features.
            how: which features.

        Yields:
            (input, line of the manifest) when its file is complete; (input, exception) if it cannot be read.

        Raises:
            OSError: the folder cannot be written.
        """
        files: dict[int, FeatureFile] = {}
        failed: dict[int, ValueError] = {}
        try:
            for one, rows in self._rows(inputs, how):
                if isinstance(rows, _Rows):
                    if id(one) not in failed:
                        file = files.get(id(one)) or files.setdefault(id(one), writer.open(one))
                        try:
                            file.add(rows.values, rows.times, rows.frames)
                        except ValueError as error:  # not finite
                            failed[id(one)] = error
                    continue
                file, problem = files.pop(id(one), None), failed.pop(id(one), rows)
                if problem is None and file is not None:
                    yield one, writer.add(one, file)
                    continue
                if file is not None:
                    file.discard()
                problem = problem or VideoDecodeError(f"{one.name} has no window.")
                writer.fail(one, str(problem).removeprefix(f"{one.name} ").removeprefix(f"{one.name}: "))
                yield one, problem
        finally:
            for file in files.values():
                file.discard()

    # ------------------------------------------------------------------------------------------------- computation

    def encode(self, clips: torch.Tensor, features: str = "pooled") -> torch.Tensor:
        """The features of clips: float (N, T, C, H, W), normalised -> float32 (N, *shape), on the CPU."""
        return torch.cat([self._encode(batch, features) for batch in clips.split(self.batch_size)])

    def encode_segments(self, segments: torch.Tensor, tokens_per_segment: int = 1) -> torch.Tensor:
        """The features of segments of a video, as a VideoBERT takes them, each of its own segment.

        Args:
            segments: float (S, T, C, H, W), normalised, such as `VideoBertProcessor.segments` gives. A model of images
                takes the frames one by one, whose features are averaged.
            tokens_per_segment: P; 1 for pooled features, as in a folder of features; more for the places of
                `segment_features`, without the norm of a classification head.

        Returns:
            float32 (S, F), or (S, P, F) with several places, on the CPU.

        Raises:
            ValueError: the segments have another number of frames than the model.
        """
        config, frames = self.encoder.config, segments.shape[1]
        if config.num_frames not in (1, frames):
            raise ValueError(f"The segments have {frames} frames, but the model takes num_frames={config.num_frames}.")
        if tokens_per_segment == 1:
            of_images = config.num_frames != frames
            clips = segments.flatten(0, 1)[:, None] if of_images else segments  # (S, T, ..) -> (S * T, 1, ..)
            rows = self.encode(clips)
            return rows.unflatten(0, (-1, frames)).mean(dim=1) if of_images else rows  # (S * T, F) -> (S, F)
        clips = segments.to(self.device)[None]  # (S, ..) -> (1, S, ..)
        with torch.inference_mode(), torch.autocast(self.device.type, self.dtype, self.dtype != torch.float32):
            return segment_features(self.encoder, clips, None, tokens_per_segment, self.batch_size)[0].float().cpu()

    @torch.inference_mode()
    def _encode(self, clips: torch.Tensor, features: str) -> torch.Tensor:
        tokens = encoded_tokens(self.encoder, clips, self.dtype)  # (B, K + L, D), class tokens first
        if features == "pooled":
            pooled = self.encoder.pooled_features(tokens)  # (B, D)
            return (pooled if self.norm is None else self.norm(pooled)).cpu()
        patches = self.encoder.patch_tokens(tokens)  # (B, L, D)
        if features == "maps":
            patches = patches.unflatten(1, self.model.config.grid_size)  # (B, L, D) -> (B, T', H', W', D)
        return patches.cpu()

    def _shape(self, features: str) -> list[int]:
        config = self.model.config
        grid = {"pooled": (), "tokens": (config.sequence_length,), "maps": config.grid_size}[features]
        return [*grid, config.hidden_size]

    def _rows(self, inputs: Iterable[Input], how: Extraction) -> Iterator[tuple[Input, _Rows | Exception | None]]:
        """(input, rows) as they are computed, (input, None) after its last row, or (input, exception)."""
        windows, views = how.windows(self.processor), how.num_clips * how.num_crops
        self.throughput = Throughput(self.num_workers)
        read = partial(self._of_windows, windows=windows, how=how) if windows else partial(self._of_video, how=how)

        def items_of(one: Input) -> Iterator[_Clips]:
            return self.throughput.decodes(read(one))

        waiting, number = [], 0
        limit = math.ceil(2 * self.batch_size / views)
        for entry in self.throughput.waits(read_together(inputs, items_of, self.num_workers, limit)):
            if entry is not None:
                waiting.append(entry)
                number += len(entry[1].clips) if isinstance(entry[1], _Clips) else 0
            if entry is None or number >= self.batch_size:
                yield from self._computed(waiting, how)
                waiting, number = [], 0
        yield from self._computed(waiting, how)

    def _computed(
        self, waiting: Sequence[tuple[Input, _Clips | Exception | None]], how: Extraction
    ) -> Iterator[tuple[Input, _Rows | Exception | None]]:
        """The same entries with features instead of clips, which go through the encoder together."""
        found = [item for _, item in waiting if isinstance(item, _Clips)]
        if found:
            values = self.encode(torch.cat([item.clips for item in found]), how.features)
            self.throughput.clips += len(values)
            values = iter(values.split([len(item.clips) for item in found]))
        for one, item in waiting:
            if isinstance(item, _Clips):
                some = next(values)  # (V, ..)
                some = some.mean(dim=0, keepdim=True) if how.views == "average" else some
                item = _Rows(some, item.times, item.frames)
            yield one, item

    def _of_video(self, one: Input, how: Extraction) -> Iterator[_Clips]:
        """The views of a whole video, which go through the encoder together."""
        clips, metadata = self.described_clips(one, how.num_clips, how.num_crops)
        total, fps = metadata.total_num_frames, metadata.fps
        frames = [[0, total]]
        if how.views == "all":
            indices = np.reshape(metadata.frames_indices, (-1, clips.shape[1]))  # (num_clips, T)
            frames = [[row.min(), row.max() + 1] for row in indices for _ in range(len(clips) // len(indices))]
        frames = np.array(frames, dtype=np.int64)
        yield _Clips(clips, frames / fps if fps else frames.astype(np.float64), frames)

    def _of_windows(self, one: Input, windows: Windows, how: Extraction) -> Iterator[_Clips]:
        """The windows of a video, each frame of which is decoded once."""
        refuse_camera(one)
        options = {"float_pixels": how.float_pixels}
        for window in window_clips(one, self.processor, windows, how.num_clips, how.num_crops, **options):
            rows = len(window.clips) if how.views == "all" else 1
            times = np.array([[window.start, window.end]] * rows)
            frames = np.array([[window.first_frame, window.end_frame]] * rows, dtype=np.int64)
            yield _Clips(window.clips, times, frames)


def _joined(name: str, rows: list[_Rows]) -> Features:
    if not rows:
        return Features(name, error=VideoDecodeError(f"{name} has no window."))
    times = torch.from_numpy(np.concatenate([some.times for some in rows]))  # (N, 2)
    frames = torch.from_numpy(np.concatenate([some.frames for some in rows]))
    return Features(name, torch.cat([some.values for some in rows]), times[:, 0], times[:, 1], frames)


def device_of(share: ProcessShare) -> str | None:
    """The GPU of this process, of those that it sees, if a launcher started several; None leaves the choice open."""
    if share.size == 1 or not torch.cuda.is_available():
        return None
    return f"cuda:{share.local_rank % torch.cuda.device_count()}"

# Copyright 2026 The videomae_hf authors. Licensed under the Apache License, Version 2.0.
"""`load` opens a trained model with everything that it needs, and `Predictor` applies it to videos of any kind."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch

from ..checkpoints.opening import checkpoint_processor, trained_classifier
from ..models.image_processing_videomae_v2 import VideoMAEV2ImageProcessor
from ..models.modeling_videomae_v2 import VideoMAEV2ForVideoClassification, average_views
from ..settings.groups import default_views
from .inputs import Input, input_of, inputs_of
from .loading import INPUT_ERRORS, load_ahead, run_ahead
from .model_runner import ModelRunner, check_processor_options, refuse_camera, usable_device
from .predictions import Head, Prediction, Timeline
from .windows import Windows, window_clips


@dataclass(frozen=True)
class Views:
    """What is computed for each video.

    Args:
        num_clips, num_crops: views whose predictions are averaged, of the video or of each window. None is the default
            of `videomae evaluate` for videos, and 1 for windows.
        timeline: predict the windows of the video, and their average.
        window, stride: length and distance of windows, see `Windows.of`; either implies `timeline`.
    """

    num_clips: int | None = None
    num_crops: int | None = None
    timeline: bool = False
    window: float | str | None = None
    stride: float | str | None = None

    def __post_init__(self) -> None:
        for name in ("num_clips", "num_crops"):
            if getattr(self, name) is not None and getattr(self, name) < 1:
                raise ValueError(f"{name}={getattr(self, name)} must be at least 1.")

    @property
    def of_windows(self) -> bool:
        return self.timeline or self.window is not None or self.stride is not None

    def numbers(self, num_frames: int) -> tuple[int, int]:
        """(num_clips, num_crops), for a model of `num_frames` frames."""
        clips, crops = (1, 1) if self.of_windows else default_views(num_frames)
        return self.num_clips or clips, self.num_crops or crops


def load(
    model: str | Path,
    *,
    device: str | torch.device | None = None,
    dtype: str | torch.dtype | None = None,
    batch_size: int = 8,
    num_workers: int | None = None,
    **options,
) -> "Predictor":
    """Opens a trained model for predictions.

    Args:
        model: folder or Hub id of a finetuned checkpoint, of any layout: of this package, of transformers' VideoMAE, of
            OpenGVLab's V2, or of adapters (LoRA).
        device: `"cuda"`, `"mps"`, `"cpu"` or another device of torch; None is the first of these that is available.
        dtype: precision of the computation (autocast): `"float32"`, `"bfloat16"` or `"float16"`. None is that of
            `videomae evaluate`: bfloat16 on GPUs that support it, otherwise float32.
        batch_size: number of clips that the model processes at once.
        num_workers: number of decoding threads; None is one per core, up to four.
        options: options of the processor that replace those of the checkpoint, such as `sampling_rate`.

    Returns:
        A `Predictor`; its `messages` say what is unusual about the model.

    Raises:
        ValueError: the model is not finetuned, or a value is unknown or out of range.
        OSError: there is no such model.

    Example:

    ```python
    import videomae_hf

    predictor = videomae_hf.load("MCG-NJU/videomae-base-finetuned-kinetics")
    prediction = predictor.predict("video.mp4")
    print(prediction)
    ```"""
    check_processor_options(options)
    place = usable_device(device)
    classifier, messages = trained_classifier(str(model))
    processor = checkpoint_processor(str(model), classifier.config, **{"video_backend": "auto", **options})
    predictor = Predictor(
        classifier, processor, device=place, dtype=dtype, batch_size=batch_size, num_workers=num_workers
    )
    predictor.messages += messages
    return predictor


class Predictor(ModelRunner):
    """A trained classifier or regression model, ready for videos of any kind; see `load`.

    Args:
        model: the model.
        processor: its processor.
        options: device, dtype, batch_size and num_workers, see `load`.
    """

    def __init__(self, model: VideoMAEV2ForVideoClassification, processor: VideoMAEV2ImageProcessor, **options) -> None:
        super().__init__(model, processor, **options)
        config = model.config
        labels = [config.id2label[number] for number in range(config.num_labels)]
        self.head = Head(labels, model.inferred_problem_type(None))

    def predict(self, video: Any, **views) -> Prediction:
        """Predicts one video.

        Args:
            video: a path, a URL, the bytes of a file, a folder of images, a `VideoSegment`, or frames: a list, an array
                or a tensor (T, H, W, C) or (T, C, H, W). Exactly `num_frames` frames in memory are one clip; from more
                or fewer, clips are sampled as from a file.
            views: the fields of `Views`: `num_clips`, `num_crops`, `timeline`, `window`, `stride`.

        Raises:
            VideoDecodeError, OSError: the video cannot be decoded, does not exist, or cannot be loaded.
            ValueError: a value is out of range.
        """
        prediction = next(self.predict_many([input_of(video)], **views))
        if prediction.error is not None:
            raise prediction.error
        return prediction

    def predict_many(self, videos: Iterable[Any], **views) -> Iterator[Prediction]:
        """Predicts videos in their order, while the next ones are decoded; batches span videos.

        Args:
            videos: inputs of `find_inputs`, or sources that it takes, such as files, folders, lists and arrays.
            views: the fields of `Views`.

        Yields:
            A `Prediction` for each video; for one that cannot be read, with `error` set.

        Raises:
            ValueError, OSError: as in `find_inputs`.
        """
        how = Views(**views)
        inputs = inputs_of(videos, self.media)
        if not how.of_windows:
            yield from self._batched(inputs, how)
            return
        windows = Windows.of(self.processor, how.window, how.stride)
        for one in inputs:
            try:
                prediction = self._over_time(one, windows, how)
            except INPUT_ERRORS as error:
                prediction = Prediction(one.name, self.head, error=error)
            yield prediction

    def stream(self, video: Any, **views) -> Iterator[tuple[float, float, Prediction]]:
        """Yields (start, end, prediction) for each window of a video, as soon as it is known; for cameras, endlessly.

        Args:
            video: as in `predict`, or `"camera:0"`.
            views: the fields of `Views`.

        Raises:
            VideoDecodeError, OSError, ValueError: as in `predict`.
        """
        how, one = Views(**{**views, "timeline": True}), input_of(video)
        for start, end, logits in self._windows(one, Windows.of(self.processor, how.window, how.stride), how, group=1):
            yield start, end, Prediction(f"{one.name} [{start:.2f} to {end:.2f}]", self.head, logits)

    # ------------------------------------------------------------------------------------------------- computation

    @torch.inference_mode()
    def clip_logits(self, clips: torch.Tensor) -> torch.Tensor:
        """The logits of clips: float (N, T, C, H, W), normalised -> float32 (N, num_labels), on the CPU."""
        found = []
        for batch in clips.split(self.batch_size):
            with torch.autocast(self.device.type, self.dtype, enabled=self.dtype != torch.float32):
                found.append(self.model(batch.to(self.device)).logits.float().cpu())
        return torch.cat(found)

    def _averaged(self, logits: torch.Tensor) -> torch.Tensor:
        """(V, num_labels) -> (num_labels,): logits whose probabilities are the average, as in `videomae evaluate`."""
        return logits[0] if len(logits) == 1 else average_views(logits[None], self.head.problem_type)[0]

    def _batched(self, inputs: Iterable[Input], how: Views) -> Iterator[Prediction]:
        num_clips, num_crops = how.numbers(self.model.config.num_frames)
        prepare = partial(self.clips, num_clips=num_clips, num_crops=num_crops)
        waiting = []
        for loaded in load_ahead(inputs, prepare, self.num_workers):
            if loaded is not None:
                waiting.append(loaded)
            clips = [result for _, result in waiting if isinstance(result, torch.Tensor)]
            same_shape = len({tuple(some.shape[1:]) for some in clips}) == 1
            if loaded is None or sum(map(len, clips)) >= self.batch_size or not same_shape:
                yield from self._predictions(waiting)
                waiting = []
        yield from self._predictions(waiting)

    def _predictions(self, loaded: list[tuple[Input, torch.Tensor | Exception]]) -> Iterator[Prediction]:
        """The predictions for loaded videos, computed together; those of another shape separately."""
        groups = {}
        for _, clips in loaded:
            if isinstance(clips, torch.Tensor):
                groups.setdefault(tuple(clips.shape[1:]), []).append(clips)
        logits = {shape: iter(self.clip_logits(torch.cat(some)).split([len(clips) for clips in some]))
                  for shape, some in groups.items()}  # fmt: skip
        for one, clips in loaded:
            if isinstance(clips, torch.Tensor):
                yield Prediction(one.name, self.head, self._averaged(next(logits[tuple(clips.shape[1:])])))
            else:
                yield Prediction(one.name, self.head, error=clips)

    def _over_time(self, one: Input, windows: Windows, how: Views) -> Prediction:
        """The prediction of a whole video with its timeline."""
        refuse_camera(one)
        starts, ends, logits = zip(*self._windows(one, windows, how, group=self.batch_size))
        logits = torch.stack(logits)  # (N, num_labels)
        starts, ends = (torch.tensor(times, dtype=torch.float64) for times in (starts, ends))  # (N,) each
        timeline = Timeline(starts, ends, logits, self.head)
        video = None if one.is_in_memory else one.video
        return Prediction(one.name, self.head, self._averaged(logits), timeline, video=video)

    def _windows(
        self, one: Input, windows: Windows, how: Views, group: int
    ) -> Iterator[tuple[float, float, torch.Tensor]]:
        """(start, end, logits (num_labels,)) of each window; `group` windows at a time go through the model."""
        waiting, numbers = [], how.numbers(self.model.config.num_frames)
        for window in run_ahead(window_clips(one, self.processor, windows, *numbers), limit=2 * group):
            waiting.append(window)
            if len(waiting) == group:
                yield from self._of_windows(waiting)
                waiting = []
        yield from self._of_windows(waiting)

    def _of_windows(self, windows: list) -> Iterator[tuple[float, float, torch.Tensor]]:
        if windows:
            logits = self.clip_logits(torch.cat([window.clips for window in windows]))
            for window, some in zip(windows, logits.split([len(window.clips) for window in windows])):
                yield window.start, window.end, self._averaged(some)

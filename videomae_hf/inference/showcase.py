# Copyright 2026 The videomae_hf authors. Licensed under the Apache License, Version 2.0.
"""What the page of `videomae app` shows of a model: a function for each of its buttons, without the page."""

import base64
import io
import os
import tempfile
from collections.abc import Callable, Iterable
from contextlib import closing
from dataclasses import replace
from functools import lru_cache
from pathlib import Path

import torch
from PIL import Image

from ..checkpoints.opening import checkpoint_processor, open_checkpoint
from ..data.sources.synthetic import write_video
from ..evaluation.reconstruction import moving_reconstruction, strip_of
from ..evaluation.strips import NAMES_WIDTH, slot_titles, titled_columns
from ..messages import count
from ..models.image_processing_videomae_v2 import VideoMAEV2ImageProcessor
from ..models.masking import token_counts
from ..models.modeling_videomae_v2 import VideoMAEV2ForVideoClassification, VideoMAEV2PreTrainedModel
from ..models.video_sources import VideoSegment
from .contact_sheet import Strip, save_contact_sheet, video_of
from .extractor import Extractor
from .feature_folder import FeatureFolder
from .inputs import Input
from .pictures import save_timeline_picture, thumbnails
from .predictions import REGRESSION, Prediction, Timeline
from .predictor import Predictor
from .search import Index, Query, extraction_of
from .visualization import EVIDENCE, RECONSTRUCTION, Viewer
from .windows import Windows


MOST_WINDOWS = 1000  # of a video, so that none keeps the page busy for hours


class Neighbours:
    """The nearest videos, or moments of videos, in a folder of features.

    Args:
        encoder: the model of the features, with their precision.
        folder: the folder, of `videomae extract`.
        name: name of the model, for messages.

    Raises:
        ValueError: the features are of another model, or not pooled.
        OSError: it is not such a folder.
    """

    def __init__(self, encoder: Extractor, folder: FeatureFolder, name: str) -> None:
        self.encoder, self.index = encoder, Index(folder)
        self.how = extraction_of(folder, encoder, name, "extract features with this one")
        self.names = short_names(folder.records)

    def find(self, video: Input, top_k: int = 8) -> tuple[Image.Image, list[list]]:
        """A contact sheet, and rows of similarity, video, start and end; the nearest come first.

        Raises:
            VideoDecodeError, OSError, ValueError: the video cannot be read.
        """
        start = self._beginning(video)
        query = Query.of(self.encoder.extract(start, **vars(self.how)))
        # Without its name, because an uploaded copy of a video in the folder is to find it
        matches = self.index.search(replace(query, name=""), top_k)
        first, last = float(query.times.min()), float(query.times.max())
        mine = Strip(video.name, f"your video   {first:.2f} to {last:.2f}", start.video, first, last)
        found = [(match.path, match.start, match.end, match.similarity) for match in matches]
        return shown_matches(mine, found, self.index.folder, self.names, self.encoder.processor)

    def _beginning(self, video: Input) -> Input:
        """The part of a video with `MOST_WINDOWS` windows; all of it, if the folder has features of whole videos."""
        windows = self.how.windows(self.encoder.processor)
        if windows is None:
            return video
        end = windows.length + (MOST_WINDOWS - 1) * windows.stride
        bound = {"end": end} if windows.unit == "s" else {"end_frame": int(end)}
        return Input(video.name, VideoSegment(video.video, **bound))


def shown_matches(
    query: Strip,
    matches: Iterable[tuple[str, float, float, float]],
    folder: FeatureFolder,
    names: dict[str, str],
    processor: VideoMAEV2ImageProcessor,
) -> tuple[Image.Image, list[list]]:
    """A contact sheet, and rows of score, video, start and end, without paths of this machine.

    Args:
        query: the first strip of the sheet.
        matches: path, start, end and score of each match.
        folder: where they were found.
        names: path of each video in the folder -> its name on the page.
        processor: how files are read.
    """
    strips, rows = [query], []
    for number, (path, start, end, score) in enumerate(matches, start=1):
        line = f"{score:.3f}   {start:.2f} to {end:.2f}"
        strips.append(Strip(f"{number}  {names[path]}", line, video_of(folder.records[path]), start, end))
        rows.append([round(score, 3), names[path], round(start, 2), round(end, 2)])
    with tempfile.TemporaryDirectory() as scratch:
        file = Path(scratch, "sheet.png")
        save_contact_sheet(strips, processor, file)
        with Image.open(file) as sheet:
            return sheet.copy(), rows


def short_names(paths: Iterable[str]) -> dict[str, str]:
    """Names of videos without the folder that all of them lie in, which is nobody's business on a public page."""
    paths = list(paths)
    try:
        common = os.path.commonpath([os.path.dirname(path) for path in paths])
    except ValueError:  # addresses beside files, or files of several drives
        return {path: os.path.basename(path) for path in paths}
    return {path: path[len(common) :].lstrip("/\\") for path in paths}


class Showcase:
    """A model of any kind, ready for the page; see `open_showcase`.

    Args:
        name: name of the model.
        model: a pretraining model, a classifier, a regression model or an encoder.
        processor: its processor.
        device, dtype: see `videomae_hf.load`.

    Attributes:
        predictor: predicts videos; None unless the model is a trained classifier or regression model.
        neighbours: finds videos in a folder of features; None without one.
        viewer: makes pictures.
        messages: what is unusual about the model.
    """

    def __init__(
        self,
        name: str,
        model: VideoMAEV2PreTrainedModel,
        processor: VideoMAEV2ImageProcessor,
        *,
        device: str | torch.device | None = None,
        dtype: str | torch.dtype | None = None,
    ) -> None:
        self.name, self.processor = name, processor
        self.viewer = Viewer(model, processor, device)
        is_trained = EVIDENCE in self.viewer.kinds
        self.predictor = Predictor(model, processor, device=device, dtype=dtype) if is_trained else None
        self.neighbours: Neighbours | None = None
        self.messages: list[str] = []
        self._clip_of = lru_cache(maxsize=1)(lambda path: self.viewer.clip(Input(path, path)))

    @property
    def can_reconstruct(self) -> bool:
        return RECONSTRUCTION in self.viewer.kinds

    def describe(self) -> str:
        """One line: the kind of the model, and the clips that it takes."""
        config = self.viewer.model.config
        kind = "Encoder"
        if self.can_reconstruct:
            kind = "Pretrained model"
        elif self.predictor is not None:
            is_regression = self.predictor.head.problem_type == REGRESSION
            outputs = count(config.num_labels, "value" if is_regression else "class")
            kind = f"Model that predicts {outputs}" if is_regression else f"Classifier of {outputs}"
        height, width = config.image_hw
        return f"{kind}, for clips of {config.num_frames} frames of {height} x {width} pixels"

    def open_index(self, folder: str | Path) -> None:
        """Opens a folder of features of this model, for `neighbours`.

        Raises:
            ValueError: the features are of another model, or not pooled.
            OSError: it is not such a folder.
        """
        features, model = FeatureFolder(folder), self.viewer.model
        encoder = model if isinstance(model, VideoMAEV2ForVideoClassification) else model.base_model
        options = {"device": self.viewer.device, "dtype": features.header["precision"]}
        self.neighbours = Neighbours(Extractor(encoder, self.processor, **options), features, self.name)

    # --------------------------------------------------------------------------------------------------- predictions

    def predict(self, video: Input, num_clips: int = 2, num_crops: int = 1) -> Prediction:
        """The prediction for a whole video, as `Predictor.predict` makes it."""
        return self.predictor.predict(video, num_clips=num_clips, num_crops=num_crops)

    @property
    def default_window(self) -> str | None:
        """The window of timelines as text; None, if the clips of the model are spread over whole videos."""
        if self.processor.frame_sampling == "uniform":
            return None
        windows = Windows.of(self.processor)
        return f"{windows.length:g}{windows.unit}"

    def timeline(
        self,
        video: Input,
        window: str | None = None,
        stride: str | None = None,
        progress: Callable[[int, float], None] = lambda windows, seconds: None,
    ) -> Prediction:
        """The predictions for at most `MOST_WINDOWS` windows of a video, in a prediction without scores of its own.

        Args:
            video: the video.
            window, stride: see `Windows.of`.
            progress: called with the number of windows and the end of the last one.

        Raises:
            VideoDecodeError, OSError, ValueError: as in `Predictor.stream`.
        """
        starts, ends, logits, is_cut = [], [], [], False
        with closing(self.predictor.stream(video, window=window, stride=stride)) as found:
            for start, end, prediction in found:
                is_cut = len(starts) == MOST_WINDOWS
                if is_cut:
                    break
                starts.append(start)
                ends.append(end)
                logits.append(prediction.logits)
                progress(len(starts), end)
        bounds = (torch.tensor(times, dtype=torch.float64) for times in (starts, ends))  # (N,) each
        timeline = Timeline(*bounds, torch.stack(logits), self.predictor.head)
        shown = VideoSegment(video.video, end=ends[-1]) if is_cut else video.video
        return Prediction(video.name, self.predictor.head, timeline=timeline, video=shown)

    def timeline_picture(self, prediction: Prediction, threshold: float) -> Image.Image:
        """The picture of a timeline with the segments above a threshold."""
        file = io.BytesIO()
        save_timeline_picture(prediction, thumbnails(prediction.video, self.processor), file, threshold)
        return Image.open(file)

    # ------------------------------------------------------------------------------------------------------ pictures

    def reconstruction(self, video: Input, seed: int = 0, **masks) -> tuple[Image.Image, str, str]:
        """The reconstruction of the clip in the middle of a video.

        Args:
            video: the video, a path.
            seed: seed of the masks.
            masks: see `Viewer.reconstruction`.

        Returns:
            A picture with a column for each time slot; the moving picture, as an HTML element; and the numbers of
            tokens, in words.
        """
        clip, fps = self._clip_of(video.video)
        config = self.viewer.mask_config(**masks)
        rows = self.viewer.reconstruction(clip, seed, **masks)
        titles = slot_titles(config.num_frames, config.tubelet_size)
        strip = titled_columns(strip_of(rows, config), titles, left=NAMES_WIDTH)
        visible, decoded = token_counts(config)
        length = config.sequence_length
        text = (
            f"Of {length:,} tokens the encoder sees {visible:,} ({visible / length:.0%}). In training the decoder gets "
            f"{decoded:,} positions with these masks; here it reconstructs all {length - visible:,} hidden tokens."
        )
        with tempfile.TemporaryDirectory() as folder:
            file = Path(folder, "reconstruction.mp4")
            write_video(file, moving_reconstruction(rows, config), fps)
            content = base64.b64encode(file.read_bytes()).decode()
        moving = '<video autoplay loop muted playsinline controls style="width:100%" src="data:video/mp4;base64,{}">'
        return strip, f"{moving.format(content)}</video>", text

    def attention(self, video: Input, layer: int | None = None, head: int | None = None) -> Image.Image:
        """Attention over the clip in the middle of a video, see `Viewer.attention`."""
        return self.viewer.attention(self._clip_of(video.video)[0], layer, head)

    def evidence(self, video: Input, label: str | None = None) -> Image.Image:
        """The evidence for a class in the clip in the middle of a video, see `Viewer.evidence`."""
        return self.viewer.evidence(self._clip_of(video.video)[0], label)


def open_showcase(
    model: str | Path,
    index: str | Path | None = None,
    device: str | torch.device | None = None,
    dtype: str | torch.dtype | None = None,
) -> Showcase:
    """Opens a model for the page of `videomae app`.

    Args:
        model: folder or Hub id of a pretrained or finetuned checkpoint of any layout, or of adapters.
        index: a folder of features of this model, of `videomae extract`.
        device, dtype: see `videomae_hf.load`.

    Raises:
        ValueError: a value is unknown, or the features are of another model.
        OSError: there is no such model, or no such folder.
    """
    opened, messages = open_checkpoint(str(model))
    processor = checkpoint_processor(str(model), opened.config, video_backend="auto")
    name = Path(model).resolve().name if Path(model).is_dir() else str(model)  # no path of this machine on the page
    showcase = Showcase(name, opened, processor, device=device, dtype=dtype)
    showcase.messages += [message.replace(str(model), name) for message in messages]
    if index is not None:
        showcase.open_index(index)
    return showcase

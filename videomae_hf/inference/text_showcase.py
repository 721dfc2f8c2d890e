# Copyright 2026 The videomae_hf authors. Licensed under the Apache License, Version 2.0.
"""What the page of `videomae app` shows of a VideoBERT: videos and moments of a folder that a text describes."""

from pathlib import Path

import torch
from PIL import Image

from ..messages import count
from ..models.modeling_videobert_tasks import VideoBertForRetrieval
from .contact_sheet import Strip
from .feature_folder import FeatureFolder
from .loading import INPUT_ERRORS
from .showcase import short_names, shown_matches
from .text_search import check_features, search_text
from .video_text import VideoText, load_video_text
from .windows import Windows


LONGEST_MOMENT = 120  # seconds
MOST_MATCHES = 50


class TextShowcase:
    """A VideoBERT and the features of a folder of videos, ready for the page; see `open_text_showcase`.

    Args:
        name: name of the model.
        model: the model, opened for retrieval.
        folder: the features of segments.

    Raises:
        ValueError: the model does not take these features, or there are none.
    """

    def __init__(self, name: str, model: VideoText, folder: FeatureFolder) -> None:
        check_features(folder, model)
        if not folder.records:
            raise ValueError(f"{folder.path} has no features yet.")
        self.name, self.model, self.folder = name, model, folder
        self.names = short_names(folder.records)

    def describe(self) -> str:
        """One line about the model and the folder."""
        parameters = sum(parameter.numel() for parameter in self.model.model.parameters())
        return f"VideoBERT, {parameters / 1e6:.1f} million parameters. Finds {count(len(self.names), 'video')}."

    def find(self, text: str, seconds: int = 0, top_k: int = 8) -> tuple[Image.Image, list[list], str]:
        """A contact sheet, rows of score, video, start and end, and a remark on unknown words; the best come first.

        Args:
            text: what the videos show.
            seconds: length of a moment, half of which is the distance between two; 0 finds whole videos.
            top_k: number of matches.

        Raises:
            ValueError: the text cannot be read, or a number is out of range.
            OSError: the features cannot be read.
        """
        if not 0 <= seconds <= LONGEST_MOMENT or not 1 <= top_k <= MOST_MATCHES:
            raise ValueError(
                f"Moments have 1 to {LONGEST_MOMENT} seconds, or 0 for whole videos, and there are 1 to {MOST_MATCHES} "
                f"matches; {seconds} and {top_k} are out of range."
            )
        notes = self.model.check_texts([text])
        windows = Windows(seconds, seconds / 2) if seconds else None
        try:
            matches = search_text(self.model, text, self.folder, list(self.names), windows, top_k)
        except INPUT_ERRORS as error:
            raise ValueError(self._without_paths(str(error))) from error
        query = Strip(text, "text", None, 0, 0, is_text=True)
        processor = self.model.processor.image_processor
        picture, rows = shown_matches(query, matches, self.folder, self.names, processor)
        return picture, rows, "; ".join(notes)

    def _without_paths(self, message: str) -> str:
        for path, name in self.names.items():
            message = message.replace(path, name)
        return message.replace(str(self.folder.path), self.folder.path.name)


def open_text_showcase(
    model: str | Path,
    index: str | Path | None,
    device: str | torch.device | None = None,
    dtype: str | torch.dtype | None = None,
) -> TextShowcase:
    """Opens a VideoBERT for the page of `videomae app`.

    Args:
        model: folder or Hub id of a VideoBERT that was trained to match.
        index: a folder of `videomae search --text .. --features`, or of `videomae extract` with its segments.
        device, dtype: see `videomae_hf.load`.

    Raises:
        ValueError: there is no index, or it has other features; or the model was not trained to match.
        OSError: there is no such model, or no such folder.
    """
    if index is None:
        raise ValueError(
            f"{model} is a VideoBERT, whose page finds videos by words: give --index, the folder of `videomae search "
            f"--text .. --features`."
        )
    folder = FeatureFolder(index)
    opened = load_video_text(model, VideoBertForRetrieval, needs_backbone=False, device=device, dtype=dtype)
    name = Path(model).resolve().name if Path(model).is_dir() else str(model)  # no path of this machine on the page
    return TextShowcase(name, opened, folder)

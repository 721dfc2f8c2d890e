# Copyright 2026 The videomae_hf authors. Licensed under the Apache License, Version 2.0.
"""A contact sheet of a search: frames of the query, or its text, and of its matches, with names, times and scores."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from PIL import Image, ImageDraw, ImageFont

from ..messages import printable
from ..models.image_processing_videomae_v2 import VideoMAEV2ImageProcessor
from ..models.video_decoding import VideoInfo, VideoSegment, read_frames
from ..models.video_sources import VideoSource
from .loading import INPUT_ERRORS
from .search import Match
from .text_search import TextMatch


SUFFIXES = (".jpg", ".jpeg", ".png")
_FRAMES = 4  # of each part
_HEIGHT, _WIDTH = 96, 168  # of a thumbnail; wider ones are cropped
_TEXT = 38  # height of the two lines above the thumbnails
_GAP = 10
_COLUMNS = 2
_BACKGROUND, _INK, _GREY = (255, 255, 255), (20, 20, 20), (110, 110, 110)


@dataclass(frozen=True)
class Strip:
    """A part of a video on the sheet.

    Args:
        title, subtitle: the two lines above its frames.
        video: the video, or None if it cannot be read.
        start, end: the part, in seconds or, without timing, in frames.
        is_text: whether it is a query in words, which has no frames.
    """

    title: str
    subtitle: str
    video: VideoSource | None
    start: float
    end: float
    is_text: bool = False


def strips_of(query: Strip, matches: Sequence[Match | TextMatch], records: dict[str, dict[str, Any]]) -> list[Strip]:
    """The query and its matches, which are described by their lines of the manifest."""
    found = [query]
    for number, match in enumerate(matches, start=1):
        times = f"{match.start:.2f} to {match.end:.2f}"
        alike = match.score if isinstance(match, TextMatch) else match.similarity
        subtitle = f"{alike:.3f}   {times}"
        video = video_of(records[match.path])
        found.append(Strip(f"{number}  {match.path}", subtitle, video, match.start, match.end))
    return found


def video_of(record: dict[str, Any]) -> VideoSource:
    """The video of a line of the manifest, or the part of one."""
    segment = record.get("segment")
    if segment is None:
        return record["path"]
    return VideoSegment(segment["video"], **{name: value for name, value in segment.items() if name != "video"})


def save_contact_sheet(strips: Sequence[Strip], processor: VideoMAEV2ImageProcessor, path: Path) -> list[str]:
    """Writes the picture; the first strip is the query. Returns the reasons why videos could not be shown.

    Args:
        strips: the query and its matches.
        processor: how files are read.
        path: the picture, .jpg or .png.

    Raises:
        OSError: the picture cannot be written.
    """
    width, height = _FRAMES * _WIDTH, _TEXT + _HEIGHT
    rows = 1 + -(-(len(strips) - 1) // _COLUMNS)
    size = (_COLUMNS * (width + _GAP) + _GAP, rows * (height + _GAP) + 2 * _GAP)
    sheet, problems = Image.new("RGB", size, _BACKGROUND), []
    draw = ImageDraw.Draw(sheet)
    for number, strip in enumerate(strips):
        row, column = (0, 0) if number == 0 else (1 + (number - 1) // _COLUMNS, (number - 1) % _COLUMNS)
        left, top = _GAP + column * (width + _GAP), _GAP + row * (height + _GAP) + _GAP * (row > 0)
        draw.text((left, top), _fitting(draw, strip.title, width), _INK, _font(14))
        draw.text((left, top + 18), printable(strip.subtitle), _GREY, _font(13))
        if strip.is_text:
            continue
        try:
            frames = _frames(strip, processor)
        except INPUT_ERRORS as error:
            problems.append(f"{strip.title} is not shown: {error}")
            draw.rectangle((left, top + _TEXT, left + width, top + height), outline=_GREY)
            draw.text((left + 8, top + _TEXT + 8), "cannot be read", _GREY, _font(13))
            continue
        for frame in frames:
            thumbnail = _thumbnail(frame)
            sheet.paste(thumbnail, (left, top + _TEXT))
            left += thumbnail.width + 2
    draw.line((_GAP, height + _GAP + _GAP // 2, size[0] - _GAP, height + _GAP + _GAP // 2), _GREY)
    sheet.save(path, quality=90)
    return problems


def _frames(strip: Strip, processor: VideoMAEV2ImageProcessor) -> torch.Tensor:
    """Frames spread evenly over the part: uint8 (N, H, W, 3)."""
    if strip.video is None:
        raise ValueError("it is not a file")

    def indices(info: VideoInfo) -> list[int]:
        def number(moment: float) -> int:
            if info.timestamps is not None:
                return sum(stamp <= moment for stamp in info.timestamps) - 1
            return int(moment * (info.fps or 1))

        moments = [strip.start + (place + 0.5) * (strip.end - strip.start) / _FRAMES for place in range(_FRAMES)]
        return sorted(min(max(number(moment), 0), info.num_frames - 1) for moment in moments)

    options = {name: getattr(processor, name) for name in ("num_channels", "max_pixels")}
    frames = read_frames(strip.video, indices, processor.video_backend, square_pixels=True, **options)
    return frames if frames.shape[-1] == 3 else frames[..., :1].expand(*frames.shape[:-1], 3)


def _thumbnail(frame: torch.Tensor) -> Image.Image:
    """(H, W, 3) -> an image of the height of a thumbnail, and at most as wide."""
    image = Image.fromarray(frame.contiguous().numpy())
    image.thumbnail((4 * _WIDTH, _HEIGHT))
    left = max(image.width - (_WIDTH - 2), 0) // 2
    return image.crop((left, 0, left + min(image.width, _WIDTH - 2), image.height))


def _fitting(draw: ImageDraw.ImageDraw, text: str, width: int) -> str:
    """The text, without its beginning if it is too long."""
    text = printable(text)
    while len(text) > 12 and draw.textlength(text, _font(14)) > width:
        text = ".." + text[8:]
    return text


def _font(size: int) -> ImageFont.FreeTypeFont | ImageFont.ImageFont:
    return ImageFont.load_default(size)

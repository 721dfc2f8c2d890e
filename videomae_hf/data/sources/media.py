# Copyright 2026 The videomae_hf authors. Licensed under the Apache License, Version 2.0.
"""Which files are the samples of a data set: videos, or, for a model of single images, images as well."""

from collections.abc import Iterable
from dataclasses import dataclass

from ...messages import count
from ...models.frame_files import IMAGE_SUFFIXES


VIDEO_SUFFIXES = (
    ".264", ".265", ".3g2", ".3gp", ".amv", ".asf", ".avi", ".divx", ".dv", ".f4v", ".flv", ".gif", ".h264",
    ".h265", ".hevc", ".ivf", ".m1v", ".m2ts", ".m2v", ".m4v", ".mjpeg", ".mjpg", ".mkv", ".mov", ".mp4", ".mpe",
    ".mpeg", ".mpg", ".mpv", ".mts", ".mxf", ".nut", ".obu", ".ogm", ".ogv", ".qt", ".rm", ".rmvb", ".ts", ".vob",
    ".webm", ".wmv", ".wtv", ".y4m",
)  # fmt: skip
EXPECTED = f".mp4, .avi, .mkv, .mov, .webm or one of {len(VIDEO_SUFFIXES) - 5} other suffixes"  # for messages


@dataclass(frozen=True)
class Media:
    """The samples of a data set.

    Args:
        noun: name of a sample in messages.
        suffixes: suffixes of the files that are samples, in lower case.
        expected: the suffixes in messages.
        images: image files are samples, each of its own; otherwise the images of a folder are the frames of a video.
    """

    noun: str
    suffixes: tuple[str, ...]
    expected: str
    images: bool


VIDEOS = Media("video", VIDEO_SUFFIXES, EXPECTED, images=False)
IMAGES = Media(
    "image", (*IMAGE_SUFFIXES, *VIDEO_SUFFIXES), f"{', '.join(IMAGE_SUFFIXES)}, or a video, of one frame", images=True
)


def media_for(num_frames: int) -> Media:
    """The samples of a model whose clips have so many frames."""
    return IMAGES if num_frames == 1 else VIDEOS


def describe_kinds(where: object, suffixes: Iterable[str]) -> list[str]:
    """A note about the videos among images, given the suffix of each sample; [] if there is none."""
    found = [suffix.lower() in IMAGE_SUFFIXES for suffix in suffixes]
    if all(found):
        return []
    return [f"{where}: {count(sum(found), 'image')} and {count(found.count(False), 'video')}, of which one frame each"]


def images_for_videos(where: object, images: int | str) -> str:
    """The message about images, their number or a description, where a model of videos finds no video."""
    found = images if isinstance(images, str) else count(images, "image")
    return (
        f"{where} holds {found} and no video. A model of videos takes a folder of images for each "
        f"video; single images are for a model of one frame, such as a new one with --model_kind mae or vit."
    )

# Copyright 2026 The videomae_hf authors. Licensed under the Apache License, Version 2.0.
"""Lists the videos of a folder: one folder per class, or, without labels, videos at any depth."""

import os
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from ...messages import count, shorten
from ...models.frame_files import IMAGE_SUFFIXES, damaged_file_errors, open_image
from ...text_files import normalized
from .list_columns import SPLITS
from .list_records import Listed
from .media import VIDEOS, Media, describe_kinds, images_for_videos
from .records import VideoRecord


_SPLIT_NAMES = {name for names in SPLITS.values() for name in names}
_CLEARLY = 4  # with this many folders of images per video, the images are the data; otherwise they belong to the videos
_COMPARED = 8  # number of images of a folder whose sizes are compared


@dataclass
class _Folder:
    """The direct content of a folder; `parts` is its path below that of the data set."""

    path: str
    parts: tuple[str, ...]
    videos: list[str] = field(default_factory=list)
    images: list[str] = field(default_factory=list)
    others: Counter = field(default_factory=Counter)  # suffix -> number of files

    @property
    def is_clip(self) -> bool:
        """Whether the images are the frames of a video, rather than pictures that accompany videos."""
        return len(self.images) > len(self.videos)


def list_folder(
    folder: Path, *, labelled: bool, class_names: Sequence[str] = (), media: Media = VIDEOS
) -> tuple[list[Listed], list[str]]:
    """The videos below a folder, or its folders of images, and notes about files that were left out.

    With `media.images` the images are samples like the videos, whatever folders they lie in.

    Hidden files and folders are skipped. Links are followed, but each folder is entered only once.

    Args:
        folder: the folder; if `labelled`, it has one folder per class, whose name is the label.
        labelled: False searches for videos at any depth.
        class_names: the classes of a trained model, if there is one.
        media: the files that are samples.

    Raises:
        ValueError: there is no video, a class has none, videos are not in class folders, the folders are splits
            rather than classes, or one file has two labels.
    """
    links = []
    folders = list(_walk(folder, links, media))
    as_images, clips = _kind(folders, labelled=labelled)
    found = []
    if as_images:
        found = [Listed("", VideoRecord(one.path), [normalized(one.parts[0])] if labelled else []) for one in clips]
    else:
        for one in folders:
            label = [normalized(one.parts[0])] if labelled and one.parts else []
            if label or not labelled:
                found += [Listed("", VideoRecord(os.path.join(one.path, name)), label) for name in one.videos]
    found.sort(key=lambda listed: (listed.labels, listed.sample.path) if labelled else listed.sample.path)
    _refuse_nothing(folder, folders, found, media, labelled=labelled)
    if labelled:
        _refuse_other_levels(folder, folders, found, class_names)
        _refuse_empty_classes(folder, folders, found, media)
        found, notes = _without_repeats(folder, found)
    else:
        notes = []
    if media.images:
        notes += describe_kinds(folder, (os.path.splitext(listed.sample.path)[1] for listed in found))
    elif as_images and not labelled:  # they might be classes of pictures
        if _differ_in_size(clips[0]):
            raise ValueError(images_for_videos(folder, sum(len(one.images) for one in clips)))
        notes.append(f"{folder}: {count(len(found), 'folder')} of images, each of which is a video")
    return found, [*notes, *_left_out(folder, folders, links, media, as_images=as_images, labelled=labelled)]


def _walk(root: Path, links: list[str], media: Media) -> Iterator[_Folder]:
    """Yields every folder below `root` once, links last; links to folders visited already are added to `links`."""
    visited = {_identity(parent) for parent in [root.resolve(), *root.resolve().parents]}
    waiting, later = [_Folder(str(root), ())], []
    while waiting or later:
        if not waiting:
            link = later.pop(0)
            if _identity(link.path) in visited:
                links.append(link.path)
                continue
            visited.add(_identity(link.path))
            waiting.append(link)
        one = waiting.pop(0)
        children = []
        for entry in sorted(os.scandir(one.path), key=lambda entry: entry.name):
            if entry.name.startswith("."):  # macOS leaves files such as ._clip.mp4
                continue
            if entry.is_dir():
                child = _Folder(entry.path, (*one.parts, entry.name))
                if entry.is_symlink():
                    later.append(child)
                elif _identity(entry.path) not in visited:
                    visited.add(_identity(entry.path))
                    children.append(child)
                continue
            suffix = os.path.splitext(entry.name)[1].lower()
            if suffix in media.suffixes:
                one.videos.append(entry.name)
            elif suffix in IMAGE_SUFFIXES:
                one.images.append(entry.name)
            else:
                one.others[suffix or "without suffix"] += 1
        waiting = children + waiting
        yield one


def _identity(path: str | Path) -> tuple[int, int]:
    status = os.stat(path)
    return status.st_dev, status.st_ino


def _kind(folders: list[_Folder], *, labelled: bool) -> tuple[bool, list[_Folder]]:
    """Whether the data set consists of folders of images, and these folders."""
    clips = [one for one in folders if one.images and one.is_clip and len(one.parts) > labelled]
    inside = {one.path for one in clips}
    videos = sum(len(one.videos) for one in folders if one.path not in inside and len(one.parts) >= labelled)
    return bool(clips) and len(clips) >= _CLEARLY * videos, clips


def _refuse_nothing(folder: Path, folders: list[_Folder], found: list[Listed], media: Media, *, labelled: bool) -> None:
    if found:
        return
    videos, images = sum(len(one.videos) for one in folders), sum(len(one.images) for one in folders)
    others = sum((one.others for one in folders), Counter())
    if images and not videos:
        raise ValueError(images_for_videos(folder, images))
    if labelled and videos:
        what = count(videos, media.noun)
        raise ValueError(
            f"{folder} holds {what} and no class folders; give the folder that has one folder per class"
            f"{f' ({folder.parent}?)' if folder.parent != folder else ''}, or a list with labels."
        )
    held = f"; it holds {_by_suffix(others)}" if others else ""
    wanted = f"one folder per class with {media.noun}s in it" if labelled else f"{media.noun}s"
    raise ValueError(f"{folder} holds no {media.noun}{held}; expected {wanted} ({media.expected}).")


def _refuse_other_levels(folder: Path, folders: list[_Folder], found: list[Listed], class_names: Sequence[str]) -> None:
    """Raises ValueError if the folders are splits, or if a single folder holds the class folders."""
    children = sorted({one.parts[0] for one in folders if one.parts})
    depth = max(len(Path(listed.sample.path).relative_to(folder).parts) for listed in found)
    if all(child.lower() in _SPLIT_NAMES for child in children) and (len(children) > 1 or depth > 2):
        raise ValueError(
            f"{folder} holds the folders {', '.join(children)}, which are splits, not classes; give one of them: "
            f"{folder / children[0]}."
        )
    below = sorted({one.parts[1] for one in folders if len(one.parts) == 2 and (one.videos or one.is_clip)})
    of_clips = any(one.is_clip for one in folders if len(one.parts) == 2)
    if len(children) == 1 and len(below) > 1 and depth > 2 and not (of_clips or class_names):
        raise ValueError(
            f"{folder} holds a single folder, {children[0]}, which holds {', '.join(below[:4])}; if these are the "
            f"classes, give {folder / children[0]}."
        )


def _refuse_empty_classes(folder: Path, folders: list[_Folder], found: list[Listed], media: Media) -> None:
    with_videos = {label for _, _, labels in found for label in labels}
    for one in folders:
        if len(one.parts) == 1 and normalized(one.parts[0]) not in with_videos:
            others = sum((below.others for below in folders if below.parts[:1] == one.parts), Counter())
            held = f"it holds {_by_suffix(others)}; " if others else ""
            raise ValueError(f"The class folder {one.path} holds no {media.noun} ({held}{media.expected}).")


def _differ_in_size(clip: _Folder) -> bool:
    """Whether the first images of a folder differ in size, as those of no video do."""
    sizes = set()
    for name in clip.images[:_COMPARED]:
        try:
            with open_image(os.path.join(clip.path, name), None) as image:
                sizes.add(image.size)
        except damaged_file_errors():  # reported when it is read
            continue
    return len(sizes) > 1


def _without_repeats(folder: Path, found: list[Listed]) -> tuple[list[Listed], list[str]]:
    """The videos without links to other videos of the list, and a note about these.

    Raises:
        ValueError: one file has two labels.
    """
    kept, of_file = [], {}
    for listed in found:
        path = listed.sample.path
        real = os.path.realpath(path) if os.path.islink(path) else path  # each folder was entered only once
        before = of_file.setdefault(real, listed)
        if before is listed:
            kept.append(listed)
        elif before.labels != listed.labels:
            raise ValueError(
                f"{folder}: {path} and {before.sample.path} are the same file, with the labels {listed.labels[0]!r} "
                f"and {before.labels[0]!r}; remove one of them."
            )
    repeats = len(found) - len(kept)
    return kept, [f"{folder}: {count(repeats, 'link')} to other videos in it left out"] if repeats else []


def _left_out(
    folder: Path, folders: list[_Folder], links: list[str], media: Media, *, as_images: bool, labelled: bool
) -> list[str]:
    """One line for each kind of file that is not used, with the reason."""
    notes = []
    others = sum((one.others for one in folders), Counter())
    loose, unread, pictures, clips = [], [], Counter(), []
    for one in folders:
        names = [os.path.join(*one.parts, name) for name in one.videos]
        if labelled and not one.parts:
            loose += names
        elif as_images:
            unread += names
        if as_images and not (one.is_clip and len(one.parts) > labelled):
            pictures.update(os.path.splitext(name)[1].lower() for name in one.images)
        elif not as_images and one.images:
            pictures.update(os.path.splitext(name)[1].lower() for name in one.images)
            clips += [os.path.join(*one.parts)] if one.is_clip and len(one.parts) > labelled else []
    if loose:
        notes.append(f"{folder}: {count(len(loose), media.noun)} outside class folders left out: {shorten(loose, 3)}")
    if unread:
        notes.append(f"{folder}: {count(len(unread), 'video')} among folders of images left out: {shorten(unread, 3)}")
    if clips:
        notes.append(
            f"{folder}: {count(len(clips), 'folder')} of images among videos left out: {shorten(clips, 3)} (a list "
            f"may name both)"
        )
    elif pictures:
        others.update(pictures)
    if links:
        notes.append(f"{folder}: {count(len(links), 'link')} to folders listed already left out: "
                     f"{shorten(links, 3)}")  # fmt: skip
    if others:
        kinds = "images and videos" if media.images else "videos"
        notes.append(f"{folder}: files other than {kinds} left out: {_by_suffix(others)}")
    return notes


def _by_suffix(others: Counter) -> str:
    return ", ".join(f"{number} {suffix}" for suffix, number in sorted(others.items(), key=lambda item: -item[1])[:6])

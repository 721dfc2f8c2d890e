# Copyright 2026 The videomae_hf authors. Licensed under the Apache License, Version 2.0.
"""Reads frames from folders of images, multi-page images (TIFF, animated PNG and WebP), and arrays (.npy, .npz).

Each reader is a generator. It passes a `VideoInfo` to `pick`, which returns the wanted indices, and yields
(index, uint8 (H, W, C)) once for each of them, in ascending order. Files are read frame by frame. This file ships with
checkpoints and may import only its siblings.
"""

import math
import os
import re
import struct
import zipfile
import zlib
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from tokenize import TokenError
from typing import BinaryIO

import numpy as np
from PIL import ExifTags, Image, ImageOps

from .frame_pixels import array_pixels, channels_last, check_channels, fit_channels, image_pixels
from .video_sources import FrameFolder, VideoDecodeError, VideoInfo


IMAGE_SUFFIXES = (".bmp", ".jpeg", ".jpg", ".png", ".tif", ".tiff", ".webp")
ARRAY_SUFFIXES = (".npy", ".npz")
# An explicit list: PIL would start Ghostscript for PostScript content, whatever the name of the file.
_IMAGE_FORMATS = ("BMP", "GIF", "JPEG", "PNG", "TIFF", "WEBP")
_JPEG_MARKER = re.compile(rb"\xff[^\x00\xd0-\xd7\xff]")
_MPF_BYTES = 2**17  # of a file, within which the index of MPO lies: after the EXIF data of at most 64 KiB
_PAGED_IMAGES = (b"\x89PNG\r\n", b"II*\0", b"MM\0*", b"II+\0", b"MM\0+", b"BM")  # and WebP

Pick = Callable[[VideoInfo], Sequence[int]]
Frames = Iterator[tuple[int, np.ndarray]]


def damaged_file_errors() -> tuple[type[Exception], ...]:
    """The exceptions that PIL, numpy and zipfile raise for files that they cannot read."""
    broken = (OSError, EOFError, SyntaxError, TokenError, struct.error, zlib.error, zipfile.BadZipFile)
    too_large = (MemoryError, Image.DecompressionBombError)
    return (*broken, *too_large, ValueError, TypeError, LookupError, ArithmeticError, RuntimeError)


def reader_of(source: str | bytes | FrameFolder) -> Callable[..., Frames] | None:
    """The reader of this source, called as `reader(source, pick, num_channels, max_pixels)`; None for a video file."""
    if isinstance(source, FrameFolder):
        return read_folder
    head = first_bytes(source, 16)
    if head.startswith(b"\x93NUMPY"):
        return read_npy
    if head.startswith(b"PK\3\4"):
        return read_npz
    if head.startswith(_PAGED_IMAGES) or (head[:4], head[8:12]) == (b"RIFF", b"WEBP"):
        return read_pages
    # A file that begins like a JPEG may be a stream of many (MJPEG), which is a video.
    if not head.startswith(b"\xff\xd8\xff"):
        return None
    is_image = _is_single_jpeg(source) if isinstance(source, bytes) else source.lower().endswith(IMAGE_SUFFIXES)
    return read_pages if is_image else None


def _is_single_jpeg(content: bytes) -> bool:
    """Whether no second image follows the first one; the thumbnail within its EXIF data does not count, nor do the
    pictures that phones append (MPO), which an index announces."""
    if b"MPF\0" in content[:_MPF_BYTES]:
        return True
    position = 2  # after the marker of the start
    while 0 <= position < len(content) - 3 and content[position + 1] != 0xD9:  # the end of the image
        is_scan = content[position + 1] == 0xDA
        position += 2 + int.from_bytes(content[position + 2 : position + 4], "big")
        if is_scan:  # its compressed data end at the next marker that is neither stuffing nor a restart
            found = _JPEG_MARKER.search(content, position)
            position = -1 if found is None else found.start()
    return position < 0 or content.find(b"\xff\xd8\xff", position) < 0


def first_bytes(source: str | bytes, count: int) -> bytes:
    if isinstance(source, bytes):
        return source[:count]
    with open(source, "rb") as file:
        return file.read(count)


def _file(source: str | bytes) -> BinaryIO:
    return BytesIO(source) if isinstance(source, bytes) else open(source, "rb")


def check_size(width: int, height: int, max_pixels: int | None) -> None:
    """Raises ValueError if frames have more than `max_pixels` pixels; None allows any number."""
    if max_pixels is not None and width * height > max_pixels:
        raise ValueError(
            f"its frames have {width} x {height} pixels, more than max_pixels={max_pixels}; raise max_pixels if they "
            f"fit into memory"
        )


# ------------------------------------------------------------------------------------------------------------- images


@contextmanager
def open_image(file: str | Path | BinaryIO, max_pixels: int | None) -> Iterator[Image.Image]:
    """Opens an image without decoding it; raises ValueError if its header gives more than `max_pixels` pixels."""
    with Image.open(file, formats=_IMAGE_FORMATS) as image:
        check_size(*image.size, max_pixels)
        yield image


def upright(image: Image.Image) -> Image.Image:
    """The image, rotated as its EXIF data say."""
    try:
        orientation = image.getexif().get(ExifTags.Base.Orientation, 1)
    except damaged_file_errors():  # an image with broken EXIF data is still readable
        return image
    return ImageOps.exif_transpose(image) if orientation != 1 else image


def read_folder(folder: FrameFolder, pick: Pick, num_channels: int | None, max_pixels: int | None) -> Frames:
    paths = image_paths(folder)
    if not paths:
        wanted_names = folder.template or ", ".join(IMAGE_SUFFIXES)
        raise VideoDecodeError(f"{folder.path} holds no image ({wanted_names}).")
    for index in sorted(set(pick(VideoInfo(len(paths), folder.fps)))):
        try:
            with open_image(paths[index], max_pixels) as image:
                frame = image_pixels(upright(image), num_channels)
        except damaged_file_errors() as error:
            raise VideoDecodeError(f"{paths[index]} cannot be read: {error}") from error
        yield index, frame


def image_paths(folder: FrameFolder) -> Sequence[Path]:
    """The images of a folder in frame order. With a template and a number of frames, files may turn out missing."""
    if folder.template is not None:
        return _TemplatePaths(folder)
    found = (path for path in Path(folder.path).iterdir() if path.suffix.lower() in IMAGE_SUFFIXES)
    found = (path for path in found if not path.name.startswith("."))  # macOS leaves files such as ._1.jpg
    # Natural order: img_9 before img_10
    paths = sorted(found, key=lambda path: [int(part) if part.isdecimal() else part for part in _numbers_apart(path)])
    return paths if folder.num_frames is None else paths[: folder.num_frames]


def _numbers_apart(path: Path) -> list[str]:
    return re.split(r"(\d+)", path.name)


class _TemplatePaths(Sequence):
    """The paths that a template generates, lazily: a data set may claim any number of frames."""

    def __init__(self, folder: FrameFolder) -> None:
        self.folder, self.length = folder, folder.num_frames
        if self.length is None:
            self.length = 0
            while self._path(self.length).is_file():
                self.length += 1

    def _path(self, index: int) -> Path:
        return Path(self.folder.path, self.folder.template.format(self.folder.first + index))

    def __len__(self) -> int:
        return self.length

    def __getitem__(self, index: int) -> Path:
        return self._path(range(self.length)[index])


def read_pages(source: str | bytes, pick: Pick, num_channels: int | None, max_pixels: int | None) -> Frames:
    """The pages of an image as frames. In files of ImageJ, several pages of one channel each may form a frame."""
    size = len(source) if isinstance(source, bytes) else os.path.getsize(source)
    with open_image(BytesIO(source) if isinstance(source, bytes) else source, max_pixels) as image:
        # The further pictures of a JPEG (MPO) are previews, depths and brightnesses of the first.
        pages = 1 if image.format in ("JPEG", "MPO") else getattr(image, "n_frames", 1)
        if pages > size:
            raise ValueError(f"it claims {pages} pages, but has only {size} bytes")
        per_frame = _imagej_channels(image, pages)
        if per_frame > 1:
            check_channels(per_frame, num_channels)
        for index in sorted(set(pick(VideoInfo(pages // per_frame)))):
            parts = []
            for page in range(index * per_frame, (index + 1) * per_frame):
                image.seek(page)
                check_size(*image.size, max_pixels)
                parts.append(image_pixels(upright(image), num_channels if per_frame == 1 else 1))
            yield index, fit_channels(np.concatenate(parts, axis=-1), num_channels)


def _imagej_channels(image: Image.Image, pages: int) -> int:
    description = str(image.tag_v2.get(270, "")) if image.format == "TIFF" else ""
    if not description.startswith("ImageJ="):
        return 1
    stated = {name: int(number) for name, number in re.findall(r"^(images|channels)=(\d{1,9})$", description, re.M)}
    channels = stated.get("channels", 1)
    if stated.get("images", pages) != pages or not channels or pages % channels:
        raise ValueError(f"{pages} pages can be read, but ImageJ wrote {stated}")
    return channels


# ------------------------------------------------------------------------------------------------------------- arrays


def read_npy(source: str | bytes, pick: Pick, num_channels: int | None, max_pixels: int | None) -> Frames:
    """An array (T, H, W, C), (T, C, H, W) or (T, H, W) from numpy.save."""
    with _file(source) as file:
        size = file.seek(0, os.SEEK_END)
        file.seek(0)
        yield from _stored_frames(file, size, pick, num_channels, max_pixels)


def read_npz(source: str | bytes, pick: Pick, num_channels: int | None, max_pixels: int | None) -> Frames:
    """The only array from numpy.savez, or the one called frames or video."""
    with _file(source) as file, zipfile.ZipFile(file) as archive:
        names = [name for name in archive.namelist() if name.endswith(".npy")]
        chosen = names if len(names) == 1 else [name for name in names if name in ("frames.npy", "video.npy")]
        if len(chosen) != 1:
            found = ", ".join(names[:5]) or "no array"
            raise ValueError(f"a zip archive with {found}; it needs one array, or one called frames or video")
        with archive.open(chosen[0]) as member:
            yield from _stored_frames(member, archive.getinfo(chosen[0]).file_size, pick, num_channels, max_pixels)


def _stored_frames(file: BinaryIO, size: int, pick: Pick, num_channels: int | None, max_pixels: int | None) -> Frames:
    array = _StoredArray.from_header(file, size)
    if len(array.shape) not in (3, 4):
        raise ValueError(f"an array of shape {array.shape}; a video is (T, H, W, C), (T, C, H, W) or (T, H, W)")
    array.check(num_channels, max_pixels)
    for index in sorted(set(pick(VideoInfo(array.shape[0])))):
        yield index, array.frame(index, num_channels)


@dataclass(frozen=True)
class _StoredArray:
    """An array in a file, read frame by frame. It is never unpickled, and not memory-mapped either: if a mapped file
    shrank in the meantime, the process would be killed."""

    file: BinaryIO
    start: int  # offset of the values in the file, in bytes
    shape: tuple[int, ...]
    dtype: np.dtype

    @classmethod
    def from_header(cls, file: BinaryIO, size: int) -> "_StoredArray":
        """Raises ValueError for arrays that cannot be read, such as those that do not fit into `size` bytes."""
        version = np.lib.format.read_magic(file)
        read = {(1, 0): np.lib.format.read_array_header_1_0, (2, 0): np.lib.format.read_array_header_2_0}.get(version)
        if read is None:
            raise ValueError(f"an array in format {version}; write it with numpy.save as numbers")
        shape, is_fortran, dtype = read(file)
        if dtype.kind not in "biuf":
            raise ValueError(f"an array of dtype {dtype}; a video has uint8, uint16, or floats from 0 to 1")
        if is_fortran and len(shape) > 1:
            raise ValueError("an array in Fortran order; apply numpy.ascontiguousarray before saving it")
        start = file.tell()
        if math.prod(shape) * dtype.itemsize > size - start:
            raise ValueError(f"the file is cut off: its array of shape {shape} and dtype {dtype} is not complete")
        return cls(file, start, shape, dtype)

    def check(self, num_channels: int | None, max_pixels: int | None) -> None:
        """Raises ValueError if frames have the wrong number of channels or too many pixels."""
        height, width, channels = self._frame_shape(num_channels)
        if not height * width * channels:
            raise ValueError(f"an array of shape {self.shape}; its frames have no pixels")
        check_size(width, height, max_pixels)
        check_channels(channels, num_channels)

    def frame(self, index: int, num_channels: int | None) -> np.ndarray:
        """uint8 (H, W, num_channels)."""
        shape = self.shape[1:]
        count = math.prod(shape)
        self.file.seek(self.start + index * count * self.dtype.itemsize)
        values = self.file.read(count * self.dtype.itemsize)
        if len(values) < count * self.dtype.itemsize:
            raise ValueError(f"the file ends within frame {index}")
        frame = np.frombuffer(values, self.dtype).reshape(shape).copy()  # writable, as torch requires
        if frame.ndim == 2:
            frame = frame[..., None]
        elif not channels_last(shape, num_channels):
            frame = frame.transpose(1, 2, 0)  # (C, H, W) -> (H, W, C)
        return fit_channels(array_pixels(np.ascontiguousarray(frame)), num_channels)

    def _frame_shape(self, num_channels: int | None) -> tuple[int, int, int]:
        """(H, W, C)"""
        shape = self.shape[1:]
        if len(shape) == 2:
            return *shape, 1
        return shape if channels_last(shape, num_channels) else (*shape[1:], shape[0])

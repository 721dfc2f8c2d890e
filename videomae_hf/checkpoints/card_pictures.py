# Copyright 2026 The videomae_hf authors. Licensed under the Apache License, Version 2.0.
"""The pictures of a model card: a confusion matrix, and reconstructions that a pretraining wrote."""

from collections.abc import Sequence
from pathlib import Path

from PIL import Image, ImageDraw, ImageFont

from ..messages import printable


_SIDE = 560  # pixels of the matrix
_MARGIN = 170  # pixels for the names of the classes
MOST_CLASSES = 1000  # of a matrix that is drawn
_NAMED = 30  # classes; more have no room for their names
_FEWEST_PIXELS = 22  # side of a cell that has room for its count
_DARKEST = (8, 48, 107)  # of a class that is always recognised


def confusion_picture(matrix: Sequence[Sequence[int]], names: Sequence[str]) -> Image.Image:
    """A picture of a confusion matrix: each row in shades of its share of the videos of that class.

    Args:
        matrix: counts by true class (rows) and predicted class (columns).
        names: names of the classes.

    Raises:
        ValueError: `matrix` is not a square of counts with one row for each name.
    """
    size = len(names)
    if len(matrix) != size or any(len(row) != size for row in matrix):
        raise ValueError(f"The confusion matrix must have {size} rows and columns, one for each class.")
    if any(type(value) is not int or value < 0 for row in matrix for value in row):
        raise ValueError("The confusion matrix must hold counts, integers from 0 on.")
    cell = max(_SIDE // size, 1)
    margin = _MARGIN if size <= _NAMED else 24
    picture = Image.new("RGB", (margin + size * cell + 8, margin + size * cell + 8), "white")
    draw, font = ImageDraw.Draw(picture), ImageFont.load_default(min(max(cell // 3, 9), 15))
    for row, counts in enumerate(matrix):
        total = max(sum(counts), 1)
        for column, value in enumerate(counts):
            left, top, share = margin + column * cell, margin + row * cell, value / total
            shade = tuple(round(255 + (dark - 255) * share) for dark in _DARKEST)
            draw.rectangle((left, top, left + cell - 1, top + cell - 1), fill=shade)
            if value and cell >= _FEWEST_PIXELS:
                colour = "white" if share > 0.5 else "black"
                draw.text((left + cell / 2, top + cell / 2), str(value), fill=colour, font=font, anchor="mm")
    draw.rectangle((margin - 1, margin - 1, margin + size * cell, margin + size * cell), outline="grey")
    if size <= _NAMED:
        _write_names(picture, names, font, margin, cell)
    return picture


def _write_names(picture: Image.Image, names: Sequence[str], font, margin: int, cell: int) -> None:
    """Writes the names of the classes, of rows at the left and of columns, turned, above."""
    draw = ImageDraw.Draw(picture)
    for number, name in enumerate(names):
        middle = margin + number * cell + cell / 2
        full = text = printable(name[:60])
        while font.getlength(text) > margin - 12:
            full = full[:-1]
            text = f"{full}.."
        draw.text((margin - 6, middle), text, fill="black", font=font, anchor="rm")
        label = Image.new("RGB", (margin - 6, cell), "white")
        ImageDraw.Draw(label).text((0, cell / 2), text, fill="black", font=font, anchor="lm")
        picture.paste(label.rotate(90, expand=True), (margin + number * cell, 0))


def last_reconstructions(run: Path, number: int) -> list[Path]:
    """The last picture of each of the first videos that a pretraining reconstructed.

    Args:
        run: its output folder.
        number: number of videos.

    Raises:
        ValueError: the run has no such pictures.
    """
    folders = sorted(Path(run, "reconstructions").glob("video_*"), key=lambda folder: (len(folder.name), folder.name))
    found = [max(folder.glob("step_*.png"), default=None) for folder in folders[:number]]
    pictures = [path for path in found if path is not None]
    if not pictures:
        raise ValueError(
            f"{run} has no pictures of reconstructions; a pretraining writes them with --reconstruction_videos 4."
        )
    return pictures

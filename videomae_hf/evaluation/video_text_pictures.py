# Copyright 2026 The videomae_hf authors. Licensed under the Apache License, Version 2.0.
"""The picture of a VideoBERT's answers: frames and lines of each example, and a table of texts and videos."""

from collections.abc import Iterator, Sequence
from functools import cache
from itertools import islice

from PIL import Image, ImageDraw, ImageFont

from ..messages import printable
from .strips import frame_strip
from .video_text_examples import PLAIN, RIGHT, WRONG, Answers, Example, Line, Table


_WIDTH, _MARGIN, _GAP = 820, 12, 16
_NAMES = 124  # width of the names of lines
_LINE, _FONT = 20, 14  # height of a line, and of its letters
_MOST_LINES = 4  # of a caption; the rest is left out
_FRAME_HEIGHT, _LEAST_FRAMES, _MOST_FRAMES = 96, 4, 8
_LETTERS = 200  # of a text in one row
_CELL = 64  # width of a column of the table
_COLORS = {PLAIN: (30, 30, 30), RIGHT: (0, 115, 50), WRONG: (185, 25, 25)}
_GREY, _FILL = (110, 110, 110), (150, 190, 250)
_TABLE_TITLE = "Texts and videos: {what}; the right ones are framed"
_WHAT = {True: "how the model divides each video among the texts", False: "whether a text fits, by the model"}


def strips_of(items: Sequence[Example], segments: Sequence[int], frame_template: str | None) -> list:
    """Frames of each example, as many for each segment; None where no video can be read.

    Args:
        items: the examples.
        segments: their numbers of segments, of which more than 8 share the frames.
        frame_template: pattern of file names in folders of images.
    """
    found = []
    for item, number in zip(items, segments):
        shown = number * -(-_LEAST_FRAMES // number) if 0 < number <= _MOST_FRAMES else _MOST_FRAMES
        video = None if item.record is None else item.record.video(frame_template)
        strip = None if video is None else frame_strip(video, shown, _FRAME_HEIGHT, gap=2)
        widest = _WIDTH - 2 * _MARGIN
        if strip is not None and strip.width > widest:
            strip = strip.resize((widest, max(round(strip.height * widest / strip.width), 1)))
        found.append(strip)
    return found


def draw_answers(
    items: Sequence[Example], answers: Answers, strips: Sequence[Image.Image | None], *, softmax: bool = True
) -> Image.Image:
    """The picture of what a model makes of examples.

    Args:
        items: the examples.
        answers: what the model makes of them.
        strips: frames of each example, from `strips_of`.
        softmax: the shares of a video have the sum 1.
    """
    parts = []
    for place, (item, lines, strip) in enumerate(zip(items, answers.lines, strips), start=1):
        name = "text alone" if item.record is None else item.record.name
        parts.append(_title(f"video {place}   {name}" if item.record is not None else f"{place}   {name}"))
        parts += [] if strip is None else [strip]
        parts += [*map(_drawn_line, lines), Image.new("RGB", (1, _GAP), "white")]
    if answers.table is not None:
        parts += [_title(_TABLE_TITLE.format(what=_WHAT[softmax])), _drawn_table(answers.table)]
    width = max(_WIDTH, *(part.width + 2 * _MARGIN for part in parts))
    picture = Image.new("RGB", (width, sum(part.height for part in parts) + 2 * _MARGIN), "white")
    top = _MARGIN
    for part in parts:
        picture.paste(part, (_MARGIN, top))
        top += part.height
    return picture


def _title(text: str) -> Image.Image:
    title = Image.new("RGB", (_WIDTH - 2 * _MARGIN, _LINE + 4), "white")
    ImageDraw.Draw(title).text((0, 2), _cut(text, title.width, from_start=True), _GREY, font=_font())
    return title


def _drawn_line(line: Line) -> Image.Image:
    """The line, broken between words where it is too long."""
    rows = list(islice(_rows(line, _WIDTH - 2 * _MARGIN - _NAMES), _MOST_LINES + 1))
    if len(rows) > _MOST_LINES:
        rows = [*rows[: _MOST_LINES - 1], [*rows[_MOST_LINES - 1][:-1], ("..", PLAIN)]]
    drawn = Image.new("RGB", (_WIDTH - 2 * _MARGIN, _LINE * len(rows)), "white")
    draw, font = ImageDraw.Draw(drawn), _font()
    draw.text((0, 2), line.name, _GREY, font=font)
    for number, row in enumerate(rows):
        left = _NAMES
        for word, mark in row:
            draw.text((left, number * _LINE + 2), word, _COLORS[mark], font=font)
            left += font.getlength(f"{word} ")
    return drawn


def _rows(line: Line, width: int) -> Iterator[list[tuple[str, str]]]:
    """The words of a line with their marks, as many in a row as fit."""
    row, used, font = [], 0.0, _font()
    for text, mark in line.pieces:
        for word in printable(text).split(" "):
            word = _cut(word, width)
            length = font.getlength(f"{word} ")
            if row and used + length > width:
                yield row
                row, used = [], 0.0
            row.append((word, mark))
            used += length
    yield row


def _drawn_table(table: Table) -> Image.Image:
    widest = _WIDTH - 2 * _MARGIN - _CELL * min(len(table.videos), 6)
    texts = [_cut(text, widest - _GAP) for text in table.texts]
    names = round(max(map(_font().getlength, texts))) + _GAP  # width of the texts
    size = (names + _CELL * len(table.videos), _LINE + (_LINE + 4) * len(table.texts))
    drawn = Image.new("RGB", size, "white")
    draw, font = ImageDraw.Draw(drawn), _font()
    for column, place in enumerate(table.videos):
        draw.text((names + _CELL * column + 4, 2), f"video {place + 1}", _GREY, font=font)
    for row, text in enumerate(texts):
        top = _LINE + (_LINE + 4) * row
        draw.text((0, top + 4), text, _COLORS[PLAIN], font=font)
        for column, share in enumerate(table.shares[row]):
            left, right = names + _CELL * column, table.right[row, column]
            box = (left + 1, top + 1, left + _CELL - 3, top + _LINE + 2)
            color = tuple(round(255 + (one - 255) * float(share)) for one in _FILL)
            draw.rectangle(box, color, _COLORS[RIGHT] if right else None, 3 if right else 1)
            shown = f"{share:.0%}"
            draw.text((left + (_CELL - font.getlength(shown)) / 2, top + 4), shown, _COLORS[PLAIN], font=font)
    return drawn


def _cut(text: str, width: float, *, from_start: bool = False) -> str:
    """The text, without its end, or its beginning, if it is too long."""
    shown, font = printable(text[-_LETTERS:] if from_start else text[:_LETTERS]), _font()
    if len(text) <= _LETTERS and font.getlength(shown) <= width:
        return shown
    while shown and font.getlength(f"{shown}..") > width:
        shown = shown[1:] if from_start else shown[:-1]
    return f"..{shown}" if from_start else f"{shown}.."


@cache
def _font() -> ImageFont.FreeTypeFont | ImageFont.ImageFont:
    return ImageFont.load_default(_FONT)

# Copyright 2026 The videomae_hf authors. Licensed under the Apache License, Version 2.0.
"""Texts of error messages and of printed messages."""

import difflib
import sys
from collections.abc import Iterable, Sequence

from tqdm import tqdm


_SHOWN = 5  # number of problems that a message lists
# Ratios of difflib below which names are not suggested; short names have few letters in common.
_ALIKE, _ALIKE_SHORT, _SHORT = 0.75, 0.6, 4


def shorten(names: Sequence[str], limit: int = 8) -> str:
    """The first names, and the total number if there are more.

    >>> shorten(["a", "b", "c"], 2)
    'a, b, .. (3 in all)'
    """
    return ", ".join(names[:limit]) + (f", .. ({len(names)} in all)" if len(names) > limit else "")


def several(problems: Sequence[str]) -> str:
    """The first problems in one line, and the number of further problems."""
    more = f" ({len(problems) - _SHOWN} more like these)" if len(problems) > _SHOWN else ""
    return "; ".join(problems[:_SHOWN]) + more


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """A question with the closest known name; "" if no known name is similar."""
    cutoff = _ALIKE_SHORT if len(name) <= _SHORT else _ALIKE
    near = difflib.get_close_matches(name, list(known), n=1, cutoff=cutoff)
    return f"; did you mean {near[0]!r}?" if near else ""


def count(number: int, noun: str) -> str:
    """A number and its noun, in the plural if necessary.

    >>> count(1, "video"), count(0, "class")
    ('1 video', '0 classes')
    """
    plural = noun + ("es" if noun.endswith("s") else "s")
    return f"{number:,} {noun if number == 1 else plural}"


def printable(text: str) -> str:
    """Text without control characters and undecodable bytes, which are escaped: file names may hold any of these.

    >>> printable("a\\nb")
    'a\\\\nb'
    """
    return "".join(one if one.isprintable() else one.encode("unicode_escape").decode() for one in text)


def say(*lines: str) -> None:
    """Prints messages to standard error, past a progress bar."""
    for line in lines:
        tqdm.write(printable(line), file=sys.stderr)


def named_error(name: str, error: Exception) -> str:
    """The text of an error about a file, with the name of the file unless it is there.

    >>> named_error("a.mp4", ValueError("is empty")), named_error("a.mp4", ValueError("a.mp4 is empty"))
    ('a.mp4: is empty', 'a.mp4 is empty')
    """
    return str(error) if name in str(error) else f"{name}: {error}"

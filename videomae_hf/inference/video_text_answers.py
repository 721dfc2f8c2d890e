# Copyright 2026 The videomae_hf authors. Licensed under the Apache License, Version 2.0.
"""What a VideoBERT answers about each video, printed and stored: filled words, ranked captions, captions, classes."""

import hashlib
import sys
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tqdm import tqdm

from ..messages import count, named_error, printable, say
from ..text_files import read_text
from .inputs import Input
from .loading import load_ahead
from .predictions import Head, Prediction
from .result_files import ResultFile
from .video_text import Part, VideoText, parts_of
from .windows import Windows


@dataclass(frozen=True)
class Answer:
    """The answer for a video.

    Args:
        text: what is printed.
        rows: the rows of a CSV file, without the path.
        content: the object of a JSON file, without the path.
        parts: the moments that it is about, for subtitles: start, end and text.
    """

    text: str
    rows: list[list]
    content: dict[str, Any]
    parts: list[tuple[float, float, str]] = field(default_factory=list)


@dataclass(frozen=True)
class Question:
    """What is asked about each video.

    Args:
        name: what distinguishes files of its answers from those of another question.
        columns: the columns of a CSV file, without the path.
        answer: called with the name of a video and its parts.
        windows: ask about moments; None asks about whole videos.
    """

    name: str
    columns: list[str]
    answer: Callable[[str, list[Part]], Answer]
    windows: Windows | None = None

    def files(self, model: str, csv: Path | None, json: Path | None) -> list[ResultFile]:
        """The files of results, with what an earlier run left in them; of another question they are refused."""
        name = f"{model}: {self.name}" if self.name else model
        files = [ResultFile(csv, ["path", *self.columns], name)] if csv else []
        return files + ([ResultFile(json, model=name)] if json else [])


def filling(model: VideoText, prompt: str, top_k: int) -> Question:
    """The likeliest words at the masked places of a prompt; raises ValueError if it has none."""
    say(*model.check_prompt(prompt))

    def answer(name: str, parts: list[Part]) -> Answer:
        places = model.fill(prompt, parts, top_k)[0]
        shown = [", ".join(f"{word} {probability:.1%}" for word, probability in place) for place in places]
        rows = [[number, rank, word, f"{probability:.6g}"] for number, place in enumerate(places, 1)
                for rank, (word, probability) in enumerate(place, 1)]  # fmt: skip
        masks = [[{"word": word, "probability": _rounded(value)} for word, value in place] for place in places]
        return Answer(f"{name}: {'; '.join(shown)}", rows, {"masks": masks})

    return Question(prompt, ["mask", "rank", "word", "probability"], answer)


def ranking(model: VideoText, captions: Sequence[str], top_k: int) -> Question:
    """Given captions in the order of their scores; raises ValueError for captions that the model cannot read."""
    say(*model.check_texts(captions))

    def answer(name: str, parts: list[Part]) -> Answer:
        scores = model.scores(captions, parts)[0].tolist()
        best = sorted(zip(captions, scores), key=lambda pair: -pair[1])[:top_k]
        shown = "".join(f"\n  {score:9.4f}  {caption}" for caption, score in best)
        rows = [[rank, caption, f"{score:.6g}"] for rank, (caption, score) in enumerate(best, 1)]
        content = [{"caption": caption, "score": _rounded(score)} for caption, score in best]
        return Answer(f"{name}:{shown}", rows, {"captions": content})

    digest = hashlib.sha256("\n".join(captions).encode("utf-8", "surrogateescape")).hexdigest()
    return Question(f"{count(len(captions), 'caption')} {digest[:8]}", ["rank", "caption", "score"], answer)


def classifying(model: VideoText, top_k: int, threshold: float) -> Question:
    """The classes of a finetuned classifier, in the form of other classifiers."""
    config = model.model.config
    labels = [config.id2label[number] for number in range(config.num_labels)]
    head = Head(labels, config.problem_type or "single_label_classification")

    def answer(name: str, parts: list[Part]) -> Answer:
        prediction = Prediction(name, head, model.logits(parts)[0])
        content = prediction.to_dict(top_k, threshold)
        return Answer(prediction.describe(top_k, threshold), [prediction.cells(threshold)], content)

    return Question("", head.columns, answer)


def captioning(model: VideoText, windows: Windows | None, options: dict[str, Any]) -> Question:
    """A caption of each video or, with windows, of each of its moments; `options` are those of `captions`."""

    def answer(name: str, parts: list[Part]) -> Answer:
        captions = model.captions(parts, **options)
        found = [(part.start, part.end, caption) for part, caption in zip(parts, captions)]
        text = f"{name}: {captions[0]}"
        if windows is not None:
            text = "\n".join([f"{name}:", *(f"  {start:9.2f} to {end:9.2f}  {one}" for start, end, one in found)])
        rows = [[f"{start:.3f}", f"{end:.3f}", one] for start, end, one in found]
        content = [{"start": _rounded(start), "end": _rounded(end), "caption": one} for start, end, one in found]
        return Answer(text, rows, {"captions": content}, found)

    stated = ", ".join(f"{name}={value}" for name, value in sorted(options.items()))
    name = f"captions, {stated}" if windows is None else f"captions, {stated}, {windows}"
    return Question(name, ["start", "end", "caption"], answer, windows)


def given_captions(values: Sequence[str]) -> list[str]:
    """The captions of an option: texts, or files with one caption in each line; each caption once.

    Raises:
        ValueError: there is none.
        OSError: a file cannot be read.
    """
    found = []
    for value in values:
        is_file = len(value) < 4096 and Path(value).is_file()
        lines = read_text(Path(value)).splitlines() if is_file else [value]
        found += [line.strip() for line in lines if line.strip()]
    if not found:
        raise ValueError(f"--captions {' '.join(values)[:80]!r} has no caption.")
    return list(dict.fromkeys(found))


def answer_all(
    model: VideoText,
    question: Question,
    inputs: Iterable[Input],
    files: Sequence[ResultFile],
    *,
    num_workers: int,
    total: int | None = None,
    also: Callable[[str, Answer], None] | None = None,
) -> int:
    """Asks about each video, in order, prints the answers and stores them.

    Args:
        model: the model.
        question: what is asked.
        inputs: the videos.
        files: the files of results.
        num_workers: number of videos that are decoded at once.
        total: number of videos, if it is known.
        also: called with each answer.

    Returns:
        The exit status: 0 if all videos have an answer, 1 if some do not, 2 if none has.
    """
    every, worked, failed = question.windows is not None, 0, 0
    say(*model.messages)
    ahead = load_ahead(inputs, lambda one: _parts(model, question, one, every=every), num_workers)
    found = (entry for entry in ahead if entry is not None)
    try:
        for one, parts in tqdm(found, total=total, unit="video", disable=None):
            if isinstance(parts, Exception):
                failed += 1
                say(f"failed: {named_error(one.name, parts)}")
                continue
            worked += 1
            answer = question.answer(one.name, parts)
            tqdm.write("\n".join(map(printable, answer.text.split("\n"))), file=sys.stdout)
            sys.stdout.flush()
            for file in files:
                if not file.holds(one.name):
                    file.add(one.name, answer.rows if file.columns is not None else [answer.content])
            if also is not None:
                also(one.name, answer)
    except KeyboardInterrupt as interrupt:
        kept = "; the same command continues" if files else ""
        raise KeyboardInterrupt(f"{count(worked, 'answer')} given{kept}") from interrupt
    finally:
        ahead.close()
    if failed:
        say(f"{count(failed, 'video')} of {worked + failed} could not be read, for the reasons above")
    some = worked or any(file.done for file in files)
    return 0 if not failed else 1 if some else 2


def _parts(model: VideoText, question: Question, one: Input, *, every: bool) -> list[Part]:
    return parts_of(model.segments(one, every=every), question.windows, one.name)


def _rounded(value: float) -> float:
    return float(f"{value:.6g}")

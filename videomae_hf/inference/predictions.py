# Copyright 2026 The videomae_hf authors. Licensed under the Apache License, Version 2.0.
"""The prediction for a video: classes and probabilities or values, over time as well, printed and saved."""

import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

import torch

from ..labels import labels_of
from ..messages import printable
from ..models.video_sources import VideoDecodeError, VideoSource
from ..text_files import write_csv, write_text


MULTI_LABEL, REGRESSION = "multi_label_classification", "regression"
_PRINTED = 5  # labels of a printed prediction


class Segment(NamedTuple):
    """A part of a video with one label: start and end as in the timeline; the score is the mean probability."""

    start: float
    end: float
    label: str
    score: float


@dataclass(frozen=True)
class Head:
    """The outputs of a model: their names in order, and their problem type."""

    labels: list[str]
    problem_type: str

    @property
    def columns(self) -> list[str]:
        """The columns of predictions in CSV files, as in predictions.csv of `videomae evaluate`."""
        return labels_of(self.problem_type, len(self.labels)).header(self.labels)[1]

    def probabilities(self, logits: torch.Tensor) -> torch.Tensor:
        """(.., num_labels) -> probabilities of the same shape; the values themselves in regression."""
        if self.problem_type == REGRESSION:
            return logits
        return logits.sigmoid() if self.problem_type == MULTI_LABEL else logits.softmax(dim=-1)


@dataclass(frozen=True, eq=False)
class Timeline:
    """The predictions for the windows of a video.

    Args:
        starts, ends: (N,) seconds from the first frame; frame numbers, if the video has no timing.
        logits: float32 (N, num_labels).
        head: names and kind of the outputs.
    """

    starts: torch.Tensor
    ends: torch.Tensor
    logits: torch.Tensor
    head: Head

    @property
    def times(self) -> torch.Tensor:
        """(N,): the middle of each window."""
        return (self.starts + self.ends) / 2

    @property
    def probabilities(self) -> torch.Tensor:
        """(N, num_labels): probabilities, or values in regression."""
        return self.head.probabilities(self.logits)

    def spans(self) -> list[tuple[float, float]]:
        """The part of the time that each window stands for: windows that overlap are cut half-way between their
        centres, so that spans do not overlap. Time in no window is in no span."""
        starts, ends, centres = self.starts.tolist(), self.ends.tolist(), self.times.tolist()
        firsts, lasts = starts[:1], []
        for index in range(len(starts) - 1):
            touch = starts[index + 1] < ends[index] + 1e-6
            cut = (centres[index] + centres[index + 1]) / 2
            lasts.append(cut if touch else ends[index])
            firsts.append(cut if touch else starts[index + 1])
        return list(zip(firsts, [*lasts, *ends[-1:]]))

    def rows(self) -> Iterator[list]:
        """A row for each window: start, end, and the probability or value of each output."""
        for start, end, values in zip(self.starts.tolist(), self.ends.tolist(), self.probabilities.tolist()):
            yield [f"{start:.3f}", f"{end:.3f}", *(f"{value:.6g}" for value in values)]


@dataclass(frozen=True, eq=False)
class Prediction:
    """The prediction for a video, or the reason why there is none.

    Args:
        name: path, address or description of the video.
        head: names and kind of the model's outputs.
        scores: float32 (num_labels,), the logits of the video, averaged over its views or windows.
        timeline: the predictions for its windows, if these were asked for.
        error: the exception, for a video that cannot be read.
        video: the video, if it is a file and has a timeline.
    """

    name: str
    head: Head
    scores: torch.Tensor | None = None
    timeline: Timeline | None = None
    error: Exception | None = None
    video: VideoSource | None = field(default=None, repr=False)

    @property
    def logits(self) -> torch.Tensor:
        """(num_labels,): logits whose probabilities are the average over the views; values in regression.

        Raises:
            VideoDecodeError: the video could not be read.
        """
        if self.scores is None:
            raise VideoDecodeError(f"{self.name} has no prediction: {self.error}") from self.error
        return self.scores

    @property
    def probabilities(self) -> torch.Tensor:
        """(num_labels,): probabilities that sum to 1; each by itself for several labels; values in regression."""
        return self.head.probabilities(self.logits)

    @property
    def values(self) -> dict[str, float]:
        """Each output by its name: its probability or, in regression, its value in the unit of the training data."""
        return dict(zip(self.head.labels, self.probabilities.tolist()))

    def top(self, k: int = 5) -> list[tuple[str, float]]:
        """The k most probable labels with their probabilities; in regression all targets with their values, in order.

        Raises:
            ValueError: k is less than 1.
        """
        if k < 1:
            raise ValueError(f"top_k={k} must be at least 1.")
        pairs = list(self.values.items())
        return pairs if self.head.problem_type == REGRESSION else sorted(pairs, key=lambda pair: -pair[1])[:k]

    def labels(self, threshold: float = 0.5) -> list[str]:
        """The labels above a threshold, for models with several labels per video; otherwise the most probable one."""
        _check_threshold(threshold)
        if self.head.problem_type == MULTI_LABEL:
            return [label for label, probability in self.values.items() if probability > threshold]
        return [self.top(1)[0][0]]

    def segments(self, threshold: float = 0.5) -> list[Segment]:
        """The parts of a video with one label: consecutive windows with the same label are merged.

        A window has its most probable label, if the probability reaches the threshold; with several labels per video,
        all that reach it, and segments of different labels may overlap. The bounds are those of `Timeline.spans`.

        Raises:
            ValueError: there is no timeline, the model predicts values, or the threshold is not in 0 to 1.
        """
        _check_threshold(threshold)
        if self.timeline is None:
            raise ValueError(f"{self.name} was predicted without timeline=True, which segments need.")
        if self.head.problem_type == REGRESSION:
            raise ValueError("Segments need classes, but this model predicts values (regression).")
        probabilities, spans = self.timeline.probabilities, self.timeline.spans()
        present = probabilities >= threshold
        if self.head.problem_type != MULTI_LABEL:
            best = probabilities.argmax(dim=-1, keepdim=True)
            present &= torch.zeros_like(present).scatter(-1, best, value=True)
        found = []
        for number, label in enumerate(self.head.labels):
            found += _merged(label, present[:, number].tolist(), probabilities[:, number].tolist(), spans)
        return sorted(found, key=lambda segment: (segment.start, segment.end))

    def to_dict(self, top_k: int = _PRINTED, threshold: float = 0.5) -> dict:
        """The prediction as JSON: `path` and `values` in regression, otherwise `path`, `predicted` and `top`."""
        if self.head.problem_type == REGRESSION:
            return {"path": self.name, "values": {name: _rounded(value) for name, value in self.values.items()}}
        top = [{"label": label, "probability": _rounded(value)} for label, value in self.top(top_k)]
        return {"path": self.name, "predicted": self.labels(threshold), "top": top}

    def cells(self, threshold: float = 0.5) -> list[str]:
        """The cells of `Head.columns`, as in predictions.csv of `videomae evaluate`."""
        if self.head.problem_type != MULTI_LABEL or threshold == 0.5:
            kind = labels_of(self.head.problem_type, len(self.head.labels))
            return kind.predicted_cells(self.logits, self.head.labels)
        found, values = self.labels(threshold), self.values
        return ["|".join(found), "|".join(f"{values[label]:.4f}" for label in found)]

    def save(self, path: str | Path, threshold: float = 0.5) -> None:
        """Writes the prediction to a .json or .csv file: with a timeline, the windows (and, in .json, the segments).

        Raises:
            ValueError: the file has another suffix.
            VideoDecodeError: the video could not be read.
        """
        suffix = Path(path).suffix.lower()
        if suffix not in (".json", ".csv"):
            raise ValueError(f"{path} must end in .json or .csv.")
        if suffix == ".json":
            content = self.to_dict(len(self.head.labels), threshold)
            if self.timeline is not None:
                names = ["start", "end", *self.head.labels]
                rows = [[float(cell) for cell in row] for row in self.timeline.rows()]
                content["timeline"] = {"columns": names, "rows": rows}
                if self.head.problem_type != REGRESSION:
                    content["segments"] = [segment._asdict() for segment in self.segments(threshold)]
            write_text(path, json.dumps(content, indent=1) + "\n")
        elif self.timeline is not None:
            write_csv(path, [["start", "end", *self.head.labels], *self.timeline.rows()])
        else:
            write_csv(path, [["path", *self.head.columns], [self.name, *self.cells(threshold)]])

    def describe(self, top_k: int = _PRINTED, threshold: float = 0.5) -> str:
        """One line: the video, and its most probable labels; those above the threshold, if it may have several."""
        if self.error is not None:
            # Messages about a video begin with its name already.
            return printable(str(self.error) if self.name in str(self.error) else f"{self.name}: {self.error}")
        if self.head.problem_type == REGRESSION:
            shown = [f"{name} {value:.4g}" for name, value in self.top()]
        else:
            several = self.head.problem_type == MULTI_LABEL
            shown = [f"{label} {probability:.1%}" for label, probability in self.top(top_k)
                     if not several or probability > threshold]  # fmt: skip
        return printable(f"{self.name}: {', '.join(shown) or f'no label above {threshold:g}'}")

    def __str__(self) -> str:
        return self.describe()


def _check_threshold(threshold: float) -> None:
    if not 0 <= threshold <= 1:
        raise ValueError(f"threshold={threshold} must lie in 0 to 1.")


def _merged(label: str, present: list[bool], scores: list[float], spans: list[tuple[float, float]]) -> list[Segment]:
    """The segments of one label; windows are merged if their spans touch."""
    runs = []
    for is_present, score, (start, end) in zip(present, scores, spans):
        if not is_present:
            continue
        if runs and runs[-1][1] == start:
            runs[-1] = (runs[-1][0], end, [*runs[-1][2], score])
        else:
            runs.append((start, end, [score]))
    return [Segment(start, end, label, sum(some) / len(some)) for start, end, some in runs]


def _rounded(value: float) -> float:
    return float(f"{value:.6g}")

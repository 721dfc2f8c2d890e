# Copyright 2026 The videomae_hf authors. Licensed under the Apache License, Version 2.0.
"""Charts of a report as SVG, so that a page needs neither a library for plots nor scripts.

They are `Markup`, which the template of the page takes as it is: texts in them are escaped here.
"""

import math
from collections.abc import Sequence
from html import escape
from pathlib import Path

from markupsafe import Markup  # a dependency of jinja2, which torch needs

from ..checkpoints.run_folders import STATE
from ..text_files import read_json
from .confidence import Interval


_COLORS = ("#1f5fa8", "#c2571a", "#2b8a3e", "#7b3fa0", "#8a6d1b", "#555")
_WIDTH, _HEIGHT = 460, 240
_LEFT, _BOTTOM, _TOP, _RIGHT = 46, 34, 14, 24
Points = Sequence[tuple[float, float]]
# Entries of the log of a training that are shown: losses, and scores
_LOSSES = {"loss": "training loss", "eval_loss": "evaluation loss", "trivial": "loss of a trivial prediction"}
_SCORES = {
    "explained": "explained beyond a trivial prediction",
    "eval_explained": "explained beyond trivial predictors (evaluation)",
    "eval_knn_top1": "k-NN top-1 of the encoder",
    "eval_top1": "top-1",
    "eval_mean_class_accuracy": "mean class accuracy",
    "eval_mean_average_precision": "mean average precision",
    "eval_r2": "R2",
}


def training_charts(folder: Path) -> list[Markup]:
    """Charts of the losses and of the scores in the log of a run; [] for a folder without a log."""
    file = folder / STATE
    content = read_json(file) if file.is_file() else {}
    history = content.get("log_history", []) if isinstance(content, dict) else []
    charts = []
    for title, keys in (("loss", _LOSSES), ("scores", _SCORES)):
        lines = {name: [(entry["step"], entry[key]) for entry in history if key in entry] for key, name in keys.items()}
        lines = {name: line for name, line in lines.items() if line}
        if lines:
            charts.append(line_chart(title, lines))
    return charts


def line_chart(title: str, lines: dict[str, Points], x_label: str = "step") -> Markup:
    """A chart of lines, the vertical axis from 0 (or the smallest value, if that is negative).

    Args:
        title: text above it.
        lines: points (x, y) by name; at least one point in all.
        x_label: name of the horizontal axis.
    """
    points = [point for line in lines.values() for point in line if math.isfinite(point[1])]
    right, low, high = max(x for x, _ in points), min(0.0, *(y for _, y in points)), max(y for _, y in points)
    frame = _Frame((0, right or 1), (-_rounded_up(-low) if low < 0 else 0, _rounded_up(high)))
    parts = [frame.axes(title, x_label)]
    for number, line in enumerate(lines.values()):
        color = _COLORS[number % len(_COLORS)]
        places = [frame.place(x, y) for x, y in line if math.isfinite(y)]
        parts.append(f'<polyline fill="none" stroke="{color}" stroke-width="1.6" points="{_joined(places)}"/>')
        if len(places) < 30:
            parts += [f'<circle cx="{x:.1f}" cy="{y:.1f}" r="2.2" fill="{color}"/>' for x, y in places]
    return Markup(_svg(parts) + _legend(list(lines)))


def reliability_chart(bins: Sequence[dict]) -> Markup:
    """Accuracy above confidence for each bin of `calibration`; the area of a dot is the number of its videos."""
    frame, most = _Frame((0, 1), (0, 1)), max(one["videos"] for one in bins)
    start, end = frame.place(0, 0), frame.place(1, 1)
    parts = [frame.axes("accuracy by confidence", "probability of the predicted class")]
    parts.append(f'<polyline stroke="#999" stroke-dasharray="4" points="{_joined([start, end])}"/>')
    for one in bins:
        x, y = frame.place(one["confidence"], one["accuracy"])
        radius = 2 + 8 * math.sqrt(one["videos"] / most)
        text = f"{one['videos']} videos: confidence {one['confidence']:.2f}, accuracy {one['accuracy']:.2f}"
        parts.append(f'<circle cx="{x:.1f}" cy="{y:.1f}" r="{radius:.1f}" fill="{_COLORS[0]}" fill-opacity=".6">'
                     f"<title>{text}</title></circle>")  # fmt: skip
    return Markup(_svg(parts))


def interval_bar(value: float, interval: Interval | None, best: float = 1.0) -> Markup:
    """A bar from 0 to `value` of `best`, with a line for its interval."""
    width, height = 180, 12

    def place(number: float) -> float:
        return width * min(max(number / best, 0), 1)

    parts = [f'<rect width="{place(value):.1f}" height="{height}" fill="{_COLORS[0]}" fill-opacity=".35"/>']
    if interval is not None:
        low, high = map(place, interval)
        parts.append(f'<path d="M{low:.1f} 2v8M{high:.1f} 2v8M{low:.1f} 6H{high:.1f}" stroke="#222"/>')
    size = f'width="{width}" height="{height}" viewBox="0 0 {width} {height}"'
    return Markup(f'<svg class="bar" {size}>{"".join(parts)}</svg>')


class _Frame:
    """The axes of a chart."""

    def __init__(self, x_range: Interval, y_range: Interval) -> None:
        self.x_range, self.y_range = x_range, y_range

    def place(self, x: float, y: float) -> tuple[float, float]:
        (left, right), (low, high) = self.x_range, self.y_range
        across = (x - left) / ((right - left) or 1)
        up = (y - low) / ((high - low) or 1)
        return _LEFT + across * (_WIDTH - _LEFT - _RIGHT), _HEIGHT - _BOTTOM - up * (_HEIGHT - _BOTTOM - _TOP)

    def axes(self, title: str, x_label: str) -> str:
        (left, right), (low, high) = self.x_range, self.y_range
        parts = [f'<text x="{_LEFT}" y="11" font-weight="bold">{escape(title)}</text>']
        parts.append(f'<text x="{_WIDTH - _RIGHT}" y="{_HEIGHT - 4}" text-anchor="end">{escape(x_label)}</text>')
        for number in range(5):
            value = low + number * (high - low) / 4
            _, y = self.place(left, value)
            parts.append(f'<path d="M{_LEFT} {y:.1f}H{_WIDTH - _RIGHT}" stroke="#ddd"/>')
            parts.append(f'<text x="{_LEFT - 6}" y="{y + 4:.1f}" text-anchor="end">{value:.3g}</text>')
            x, base = self.place(left + number * (right - left) / 4, low)
            label = f"{left + number * (right - left) / 4:.4g}"
            parts.append(f'<text x="{x:.1f}" y="{base + 14:.1f}" text-anchor="middle">{label}</text>')
        return "".join(parts)


def _rounded_up(value: float) -> float:
    """The next number of one or two digits, as the end of an axis."""
    if value <= 0:
        return 1.0
    step = 10 ** (math.floor(math.log10(value)) - 1) * 4  # four intervals
    return math.ceil(value / step) * step


def _joined(places: Sequence[tuple[float, float]]) -> str:
    return " ".join(f"{x:.1f},{y:.1f}" for x, y in places)


def _svg(parts: Sequence[str]) -> str:
    return f'<svg class="chart" viewBox="0 0 {_WIDTH} {_HEIGHT}" width="{_WIDTH}">{"".join(parts)}</svg>'


def _legend(names: Sequence[str]) -> str:
    items = (f'<span><i style="background:{_COLORS[number % len(_COLORS)]}"></i>{escape(name)}</span>'
             for number, name in enumerate(names))  # fmt: skip
    return f'<p class="legend">{"".join(items)}</p>'

# Copyright 2026 The videomae_hf authors. Licensed under the Apache License, Version 2.0.
"""Writes the page of a report and the JSON file beside it.

The numbers come from `findings`, the sentences from `conclusions`, and the charts from `report_charts`.
report_page.html is the template.
"""

import json
import statistics
from dataclasses import dataclass, field
from importlib.resources import files
from pathlib import Path
from typing import Any

import torch

from .. import __version__
from ..messages import count, printable
from ..text_files import write_text
from .conclusions import conclusions
from .findings import MARGIN, Context, Predicted, find
from .number_texts import NumberTexts
from .report_charts import interval_bar, reliability_chart
from .report_examples import examples


REPORT = "report.html"  # in the folder of a run
_MOST_CLASSES = 60  # of a confusion matrix on the page
_MOST_GROUPS = 100  # with a line on the page
_DARKEST = (8, 48, 107)  # of a class that is always recognised


@dataclass
class Extras:
    """What the page shows besides findings.

    Args:
        curves: charts of the training.
        pretraining: the result of `pretraining_part`.
        few_labels: content of summary.json of examples/experiments/few_labels.py.
        frame_template: pattern of the file names in folders of images.
    """

    curves: list[str] = field(default_factory=list)
    pretraining: dict[str, Any] | None = None
    few_labels: dict[str, Any] | None = None
    frame_template: str | None = None


def write_report(page: Path, predicted: Predicted, context: Context, extras: Extras | None = None) -> dict[str, Any]:
    """Writes a page, and its numbers to the JSON file of the same name; returns these numbers.

    Args:
        page: the HTML file.
        predicted: predictions of all videos.
        context: checkpoint, shortcuts, remarks, and what is left out.
        extras: curves and other parts of the page.

    Raises:
        ValueError: no video could be read.
        OSError: a file cannot be written.
    """
    extras = extras or Extras()
    found = find(predicted, context)
    found["conclusions"] = conclusions(found)
    shown = examples(predicted.readable(), extras.frame_template)
    found["examples"] = {title: [_without_picture(one) for one in some] for title, some in shown}
    numbers = page.with_suffix(".json")
    page.parent.mkdir(parents=True, exist_ok=True)
    write_text(numbers, json.dumps(found, indent=1))
    write_text(page, _html(found, {"examples": shown, "json": numbers.name, **_shown_extras(extras)}))
    return found


def summary_line(found: dict[str, Any]) -> str:
    """The score in one line, with that of shuffled frames and chance where they are known."""
    text, shuffled = _Rows(found), found["perturbed"].get("shuffled")
    line = f"{text.title} {text.value(found['score']['value'])} on {found['videos']} held-out videos"
    if shuffled:
        line += f"; {text.value(shuffled['value'])} with their frames shuffled"
    chance = found["baselines"].get("chance")
    return f"{line} (chance {text.value(chance['value'])})" if chance else line


def _html(found: dict[str, Any], more: dict[str, Any]) -> str:
    import jinja2  # a dependency of torch

    text = _Rows(found)
    units = {"video": "videos (or files)", "group": "groups"}[found["interval_by"]]
    view = {
        **found,
        "title": text.title,
        "score_text": text.value(found["score"]["value"]),
        "interval_text": text.span(found["score"]["interval"]),
        "videos_text": count(found["videos"], "video"),
        "units_text": f"{found['units']:,} {units}",
        "margin_text": f"{100 * MARGIN:.0f} points" if text.is_rate else f"{MARGIN:.0%} of the constant answer's error",
        "score_rows": text.score_rows(),
        "changes": [text.row(one) for one in found["perturbed"].values()],
        "class_rows": text.class_rows(),
        "has_classes": "classes" in found,
        "group_rows": text.group_rows(),
        "matrix": _matrix(found),
        "reliability": None,
        "version": __version__,
        "torch_version": torch.__version__,
        **more,
    }
    if "calibration" in found:
        view["ece"] = f"{found['calibration']['ece']:.3f}"
        view["reliability"] = reliability_chart(found["calibration"]["bins"])
    environment = jinja2.Environment(autoescape=True, undefined=jinja2.StrictUndefined)
    template = (files(__package__) / "report_page.html").read_text(encoding="utf-8")
    return environment.from_string(template).render(found=view)  # escapes all texts but `Markup`, which charts are


def _shown_extras(extras: Extras) -> dict[str, Any]:
    few = None if extras.few_labels is None else _few_labels(extras.few_labels)
    return {"curves": extras.curves, "pretraining": extras.pretraining, "few_labels": few}


def _without_picture(example: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in example.items() if name != "picture"}


class _Rows(NumberTexts):
    """The lines of the tables."""

    def __init__(self, found: dict[str, Any]) -> None:
        super().__init__(found["metric"])
        self.found = found
        titles = {"top1": "Top-1 accuracy", "mae": "Mean absolute error"}
        self.title = titles.get(found["metric"], "Mean average precision")
        values = [found["score"], *found["baselines"].values(), *found["perturbed"].values()]
        self.best = 1.0 if self.is_rate else max(one["value"] for one in values) or 1.0

    def row(self, one: dict[str, Any], note: str = "") -> dict[str, str]:
        """A line of the table of scores, or of that of changed clips."""
        ahead = self.difference(one.get("ahead", one.get("loss")), one.get("ahead_interval", one.get("loss_interval")))
        interval = one.get("interval")
        return {"title": one["title"], "note": note, "value": self.value(one["value"]), "interval": self.span(interval),
                "bar": interval_bar(one["value"], interval, self.best), "ahead": ahead}  # fmt: skip

    def score_rows(self) -> list[dict[str, str]]:
        found, rows = self.found, [self.row({"title": "the model", **self.found["score"]})]
        for one in found["baselines"].values():
            rows.append(self.row(one, one.get("class", "")))
        for one in found.get("shortcuts", {}).values():
            if "problem" not in one:
                unreadable = f", {one['train_unreadable']} unreadable" if one["train_unreadable"] else ""
                rows.append(self.row(one, f"fitted to {one['train_videos']:,} training videos{unreadable}"))
        return rows

    def class_rows(self) -> list[dict[str, str]]:
        rows = []
        for one in self.found.get("per_class", []):
            bar = "" if one["value"] is None else interval_bar(one["value"], one["interval"])
            rows.append({"name": one["class"], "videos": one["videos"], "value": self.value(one["value"]), "bar": bar,
                         "interval": self.span(one["interval"]), "predicted": one["predicted"],
                         "precision": self.value(one["precision"])})  # fmt: skip
        return rows

    def group_rows(self) -> list[dict[str, str]]:
        rows = []
        for one in self.found.get("per_group", [])[:_MOST_GROUPS]:
            majority = self.value(one["majority"]) if "majority" in one else ""
            rows.append({"name": printable(one["group"]), "videos": one["videos"], "value": self.value(one["value"]),
                         "bar": interval_bar(one["value"], one["interval"], self.best), "majority": majority,
                         "interval": self.span(one["interval"])})  # fmt: skip
        return rows


def _matrix(found: dict[str, Any]) -> list[dict[str, Any]]:
    """The rows of the confusion matrix, shaded by their share of the videos of the class; [] for too many classes."""
    counts = found.get("confusion_matrix", [])
    if len(counts) > _MOST_CLASSES:
        return []
    rows = []
    for name, row in zip(found.get("classes", []), counts):
        total, cells = max(sum(row), 1), []
        for value in row:
            share = value / total
            shade = "#" + "".join(f"{round(255 + (dark - 255) * share):02x}" for dark in _DARKEST)
            cells.append({"count": value or "", "shade": shade, "ink": "#fff" if share > 0.5 else "#222"})
        rows.append({"name": name, "cells": cells})
    return rows


def _few_labels(summary: dict[str, Any]) -> dict[str, Any]:
    """The texts of the table of few labels."""
    shown = {**summary, "seeds": len(summary["seeds"])}
    for name in ("pretrained", "from scratch"):
        values = list(summary[name]["top1"].values())
        each = ", ".join(f"{value:.1f}" for value in values)
        shown[name] = {**summary[name], "mean": f"{statistics.mean(values):.1f}", "each": each}
    for name in ("gain", "standard_error"):
        shown[name] = "-" if summary[name] is None else f"{summary[name]:.1f}"
    return shown

# Copyright 2026 The videomae_hf authors. Licensed under the Apache License, Version 2.0.
"""Checks what `make demo` is to show against the files of its runs, and prints every number.

    make demo
    python examples/experiments/demo_bars.py demo

The exit status is 1 if a number misses its goal.
"""

import argparse
import json
import sys
from pathlib import Path
from typing import NamedTuple


class Bar(NamedTuple):
    """One number and its goal."""

    name: str
    found: str
    goal: str
    reached: bool


def reconstruction_bars(losses: dict[str, float]) -> list[Bar]:
    """The held-out loss beside 1, which the patch mean gets on patches that are not flat, and beside predictors."""
    loss, mean = losses["model"], losses["patch_mean"]
    nearest = min(losses["nearest_in_space"], losses["nearest_in_time"])
    return [
        Bar("held-out loss", f"{loss:.2f}", "at most 0.4 of the 1.0 of normalised patches", loss <= 0.4),
        Bar("nearest visible patch", f"{nearest:.2f}", "more than 1.5 times the model's loss", nearest > 1.5 * loss),
        Bar("patch mean", f"{mean:.2f}, the model's loss is {loss / mean:.0%} of it", "below 80 %", loss < 0.8 * mean),
    ]


def knn_bar(history: list[dict]) -> Bar:
    values = [100 * entry["eval_knn_top1"] for entry in history if "eval_knn_top1" in entry]
    shown = ", ".join(f"{value:.1f}" for value in values)
    return Bar("k-NN top-1 (%)", shown, "rises by 10 points or more", values[-1] - values[0] >= 10)


def few_labels_bar(summary: dict) -> Bar:
    gain, error, seeds = summary["gain"], summary["standard_error"], len(summary["seeds"])
    found = f"{gain:.1f} points, standard error {error:.1f}, {seeds} seeds, {summary['labels_per_class']} per class"
    goal = "at least 15 points and twice the standard error, 5 seeds"
    return Bar("gain with few labels", found, goal, gain >= max(15, 2 * error) and seeds >= 5)


def classification_bars(report: dict) -> list[Bar]:
    """Top-1, and what remains with shuffled frames: they still tell the kind of a motion, but not its direction."""
    kinds = {name: kind for kind, pair in enumerate(KINDS) for name in pair}
    shuffled, classes = report["perturbed"]["shuffled"], report["classes"]
    matrix = shuffled["confusion_matrix"]
    same = [
        (matrix[row][column], row == column)
        for row, name in enumerate(classes)
        for column, other in enumerate(classes)
        if kinds[name] == kinds[other]
    ]
    right, within = sum(count for count, equal in same if equal), sum(count for count, _ in same)
    top1, direction = 100 * report["score"]["value"], 100 * right / within
    found = f"{100 * shuffled['value']:.1f} % in all, {direction:.1f} % of the right kind"
    return [
        Bar("top-1, all labels", f"{top1:.1f} %", "at least 90 %", top1 >= 90),
        Bar("top-1, frames shuffled", found, "40 to 60 % of the right kind, chance 50 %", 40 <= direction <= 60),
    ]


KINDS = (("clockwise", "counter_clockwise"), ("left", "right"), ("up", "down"), ("grow", "shrink"))


def demo_bars(folder: Path) -> list[Bar]:
    from transformers import AutoModelForPreTraining

    from videomae_hf import VideoMAEV2ImageProcessor
    from videomae_hf.data.sources import read_samples
    from videomae_hf.evaluation.pretraining_report import predictor_losses

    def content(name: str) -> dict:
        return json.loads((folder / name).read_text(encoding="utf-8"))

    model = AutoModelForPreTraining.from_pretrained(folder / "pretrain").eval()
    processor = VideoMAEV2ImageProcessor.from_pretrained(folder / "pretrain")
    samples, _ = read_samples(str(folder / "data" / "val"))
    return [
        *reconstruction_bars(predictor_losses(model, processor, samples)),
        knn_bar(content("pretrain/trainer_state.json")["log_history"]),
        few_labels_bar(content("few_labels/summary.json")),
        *classification_bars(content("report.json")),
    ]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("demo", type=Path, help="folder that `make demo` wrote")
    bars = demo_bars(parser.parse_args().demo)
    for bar in bars:
        print(f"{'reached' if bar.reached else 'MISSED ':8} {bar.name}: {bar.found} (goal: {bar.goal})")
    sys.exit(not all(bar.reached for bar in bars))


if __name__ == "__main__":
    main()

# Copyright 2026 The videomae_hf authors. Licensed under the Apache License, Version 2.0.
"""Writes an HTML page about a pretraining run, a finetuning run and its evaluation.

    videomae report demo/report.html --pretrain demo/pretrain --finetune demo/finetune \\
        --evaluation demo/evaluation --shuffled demo/evaluation_shuffled --videos demo/data/val
"""

import argparse
from pathlib import Path

from ..evaluation.report import score_rows, write_report


def main(arguments: list[str]) -> None:
    parser = argparse.ArgumentParser(
        prog="videomae report", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("page", type=Path, help="HTML file to write")
    for name, text in (
        ("pretrain", "output folder of the pretraining"),
        ("finetune", "output folder of the finetuning"),
        ("evaluation", "output folder of the evaluation"),
        ("videos", "folder of the evaluated videos"),
    ):
        parser.add_argument(f"--{name}", type=Path, required=True, help=text)
    parser.add_argument("--shuffled", type=Path, help="output folder of an evaluation with --shuffle_frames true")
    parser.add_argument("--few_labels", type=Path, help="summary.json of examples/experiments/few_labels.py")
    args = parser.parse_args(arguments)
    metrics, shuffled = write_report(**vars(args))
    print(f"Report: {args.page}")
    if "eval_top1" not in metrics:
        print("; ".join(f"{name}: {value}" for name, value in score_rows(metrics, shuffled)))
        return
    line = f"Top-1 accuracy {100 * metrics['eval_top1']:.1f} % on {metrics['eval_videos']} held-out videos"
    if shuffled:
        line += f"; {100 * shuffled['eval_top1']:.1f} % with their frames shuffled"
    print(f"{line} (chance {100 / len(metrics['classes']):.1f} %)")

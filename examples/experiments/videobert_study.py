# Copyright 2026 The videomae_hf authors. Licensed under the Apache License, Version 2.0.
"""Trains the VideoBERT of the demo with several backbones and seeds, and scores each on unseen combinations of words.

    make demo-videobert  # synthesises the videos, and trains the backbones
    python examples/experiments/videobert_study.py output/videobert --seeds 3
    python examples/experiments/videobert_study.py output/videobert --table

A run is `videomae finetune` for the backbone, where it learns words, `videomae videobert` for pretraining and for
captioning, and `videobert_attributes.py` for the scores: one line of runs.jsonl in the output folder. Runs that are
there are not run again. The table ends with the goals of the demo, and whether the mean over the seeds reaches them.
"""

import argparse
import itertools
import os
import shutil
import statistics
from functools import partial
from pathlib import Path

from run_lines import add_runs, missing_runs, read_runs


RECIPES = Path(__file__).resolve().parents[1] / "recipes"
# Options of `videomae videobert`, with the folders of the demo and of the run
BACKBONES = {
    "frozen, has learned the words": {"backbone": "{run}/backbone"},
    "frozen, pretrained without labels": {"backbone": "{demo}/pretrain", "tokens_per_segment": 9},
    "frozen, random": {"backbone": "{run}/untrained", "tokens_per_segment": 9},
    # Each step encodes all segments, so that it has a third of the epochs
    "jointly trained": {"backbone": "{run}/backbone", "freeze_backbone": "false", "num_train_epochs": 4},
    "none: texts alone": {"backbone": "{run}/backbone", "train_data": "{demo}/videobert/data/train/one_video.csv"},
}
CONDITIONS = ("video", "still", "repeated", "shuffled", "text")
# Column of the table: name of the score
COLUMNS = {
    **{f"pairs: {name}": f"contrast_{name}" for name in ("colour", "background", "shape", "motion")},
    **{"recall@1 of 8 motions": "recall1_motion", "of 4 shapes": "recall1_shape"},
    **{"masked words": "masked_all", "captions exact": "captions_exact"},
}
GOALS = {
    **{"contrast_colour": 0.95, "contrast_background": 0.95, "contrast_shape": 0.85, "contrast_motion": 0.8},
    **{"recall1_motion": 0.6, "masked_all": 0.85, "captions_exact": 0.5},
}


def train_and_score(run: dict, args: argparse.Namespace) -> dict:
    """One run; the run with its scores under each condition."""
    import torch
    from videobert_attributes import condition_scores

    from videomae_hf.commands import videobert

    torch.set_num_threads(1)
    folder = Path(args.output_dir, "runs", f"{list(BACKBONES).index(run['backbone'])}_{run['seed']}")
    shutil.rmtree(folder, ignore_errors=True)  # of an interrupted run
    write_backbone(run, folder, args)
    given = BACKBONES[run["backbone"]].items()
    options = {name: str(value).format(demo=args.demo, run=folder) for name, value in given}
    options = {"train_data": f"{args.demo}/videobert/data/train/captions.csv", **options}
    options |= {"seed": run["seed"], "feature_cache_dir": folder / "features", "disable_tqdm": "true"}

    def train(**more) -> None:
        given = {**options, **more}
        recipe = str(RECIPES / "demo_videobert.yaml")
        videobert.main([recipe, *(f"--{name}={value}" for name, value in given.items() if value is not None)])

    train(output_dir=folder / "model")
    captioner = None
    if "train_data" not in BACKBONES[run["backbone"]]:
        captioner, own = folder / "captioner", {"backbone": "none", "tokens_per_segment": None}
        train(**own, task="captioning", checkpoint=folder / "model", num_train_epochs=4, freeze_backbone="true",
              output_dir=captioner)  # fmt: skip
    test = Path(args.demo, "videobert", "data", "test")
    scores, _ = condition_scores(folder / "model", test, CONDITIONS, captioner, run["seed"])
    shutil.rmtree(folder)
    return {**run, "scores": scores}


def write_backbone(run: dict, folder: Path, args: argparse.Namespace) -> None:
    """Writes the backbone of a run: trained with its seed, or untrained."""
    from transformers import set_seed

    from videomae_hf import VideoMAEV2Config, VideoMAEV2ImageProcessor, VideoMAEV2Model
    from videomae_hf.commands import finetune

    set_seed(run["seed"])
    if "{run}/untrained" in BACKBONES[run["backbone"]].values():
        source, target = f"{args.demo}/pretrain", folder / "untrained"
        VideoMAEV2Model(VideoMAEV2Config.from_pretrained(source)).save_pretrained(target)
        VideoMAEV2ImageProcessor.from_pretrained(source).save_pretrained(target)
    elif "{run}/backbone" in BACKBONES[run["backbone"]].values():
        options = {
            "train_data": f"{args.demo}/videobert/data/train/captions.csv",
            "checkpoint": f"{args.demo}/finetune",
        }
        options |= {"output_dir": folder / "backbone", "seed": run["seed"], "disable_tqdm": "true"}
        recipe = str(RECIPES / "demo_videobert_backbone.yaml")
        finetune.main([recipe, *(f"--{name}={value}" for name, value in options.items())])


def table(runs: list[dict]) -> str:
    """Mean and standard deviation over the seeds, in percent, for each backbone and, for the first, each condition."""
    lines = ["| Backbone | Shown | " + " | ".join(COLUMNS) + " | Seeds |", "|---" * (len(COLUMNS) + 3) + "|"]
    for name in BACKBONES:
        group = [run["scores"] for run in runs if run["backbone"] == name]
        for condition in CONDITIONS if name == next(iter(BACKBONES)) else CONDITIONS[:1]:
            if group:
                cells = [_cell([one[condition].get(score) for one in group]) for score in COLUMNS.values()]
                lines.append(f"| {name} | {condition} | " + " | ".join(cells) + f" | {len(group)} |")
    return "\n".join(lines)


def _cell(values: list[float | None]) -> str:
    if None in values:
        return ""
    spread = f" ± {100 * statistics.stdev(values):.0f}" if len(values) > 1 else ""
    return f"{100 * statistics.mean(values):.0f}{spread}"


def goals(runs: list[dict]) -> str:
    """A line for each goal of the demo, with the mean of the demo's backbone over the seeds; none without its runs."""
    group = [run["scores"]["video"] for run in runs if run["backbone"] == next(iter(BACKBONES))]
    if not group:
        return ""
    lines = []
    for score, goal in GOALS.items():
        mean = statistics.mean(one[score] for one in group)
        lines.append(f"{'reached' if mean >= goal else 'MISSED ':8} {score}: {mean:.1%} (goal: {goal:.0%})")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("output_dir", help="folder of runs.jsonl")
    parser.add_argument("--demo", default="demo", help="folder of make demo and make demo-videobert")
    parser.add_argument("--backbones", nargs="+", default=list(BACKBONES), choices=BACKBONES, metavar="BACKBONE")
    parser.add_argument("--seeds", type=int, default=1, help="number of seeds")
    parser.add_argument("--processes", type=int, default=os.cpu_count(), help="runs at a time, one thread each")
    parser.add_argument("--table", action="store_true", help="print the table of the runs there are, and run nothing")
    args = parser.parse_args()
    path = Path(args.output_dir, "runs.jsonl")
    path.parent.mkdir(parents=True, exist_ok=True)
    planned = [{"backbone": name, "seed": seed} for seed, name in itertools.product(range(args.seeds), args.backbones)]
    if not args.table:
        add_runs(path, missing_runs(path, planned), partial(train_and_score, args=args), args.processes)
    runs = read_runs(path)
    print(f"{table(runs)}\n\n{goals(runs)}" if runs else f"{path} has no runs yet.")


if __name__ == "__main__":
    main()

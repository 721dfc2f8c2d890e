# Copyright 2026 The videomae_hf authors. Licensed under the Apache License, Version 2.0.
"""What encoding a part of the tokens costs in accuracy: in finetuning, and in the inference of a model that had all.

    python examples/experiments/fewer_tokens.py demo/fewer_tokens --pretrained demo/pretrain \\
        --train_data demo/data/train --eval_data demo/data/val
    python examples/experiments/fewer_tokens.py demo/fewer_tokens --table

Each seed finetunes the pretrained model with all tokens, with `--token_keep 0.5` and with `--static_keep 0.5`, and
scores the first of these again with fewer tokens in inference alone. All tokens and half of them are also combined with
the bridging classifier of MAR, and half with its reconstruction of the other half. One line of runs.jsonl in the output
folder for each seed and training; runs that are there are not run again. The table has the arithmetic beside the
accuracy: the multiply-accumulates of a forward and a backward pass, and of a forward pass, as a part of those of all
tokens without it.
"""

import argparse
import json
import math
import shutil
import statistics
from functools import partial
from pathlib import Path

from run_lines import add_runs, missing_runs, read_runs


# One layer, three quarters as wide as the encoder of the demo, which has three layers
BRIDGE = {"classifier_num_hidden_layers": 1, "classifier_hidden_size": 48, "classifier_num_attention_heads": 2}
# Training: name -> options of finetune
TRAININGS = {
    "all tokens": {},
    "token_keep 0.5, running cells": {"token_keep": 0.5},
    "token_keep 0.5, random": {"token_keep": 0.5, "token_keep_type": "random"},
    "static_keep 0.5": {"static_keep": 0.5},
    "all tokens, bridging classifier": BRIDGE,
    "token_keep 0.5, bridging classifier": {"token_keep": 0.5, **BRIDGE},
    "token_keep 0.5, bridging classifier, reconstruction": {"token_keep": 0.5, **BRIDGE, "reconstruction_weight": 0.1},
}
# Inference of the model that was trained with all tokens: part that is kept
STATIC_KEEPS = (0.7, 0.5, 0.3)


def finetuned(settings: dict, args: argparse.Namespace) -> dict:
    """One finetuning in a process of its own; the settings, with `top1` and, for all tokens, `inference`."""
    import torch

    from videomae_hf.commands import finetune

    torch.set_num_threads(1)
    folder = Path(args.output_dir, "runs", f"{settings['training']}_{settings['seed']}".replace(" ", "_"))
    shutil.rmtree(folder, ignore_errors=True)  # of an interrupted run
    options = {"train_data": args.train_data, "eval_data": args.eval_data, "output_dir": folder / "model"}
    options |= {"checkpoint": args.pretrained, "seed": settings["seed"], **TRAININGS[settings["training"]]}
    options |= {"dataloader_num_workers": 0, "dataloader_persistent_workers": "false", "disable_tqdm": "true"}
    finetune.main([args.recipe, *(f"--{name}={value}" for name, value in options.items())])
    results = json.loads((folder / "model" / "all_results.json").read_text(encoding="utf-8"))
    found = {**settings, "top1": results["eval_top1"]}
    if settings["training"] == "all tokens":
        found["inference"] = {str(keep): score(folder, keep, args) for keep in STATIC_KEEPS}
    found["gmacs"] = arithmetic(folder / "model")
    shutil.rmtree(folder)
    return found


def score(folder: Path, keep: float, args: argparse.Namespace) -> float:
    """Top-1 of a trained model that encodes this part of the tokens, those that change most."""
    from videomae_hf.commands import evaluate

    scores = folder / f"scores_{keep}"
    options = {"checkpoint": folder / "model", "eval_data": args.eval_data, "output_dir": scores, "static_keep": keep}
    options |= {"num_clips": 1, "num_crops": 1, "use_cpu": "true", "dataloader_num_workers": 0}
    evaluate.main([f"--{name}={value}" for name, value in options.items()])
    return json.loads((scores / "metrics.json").read_text(encoding="utf-8"))["eval_top1"]


def arithmetic(model: Path) -> dict[str, dict[str, float]]:
    """Multiply-accumulates in 1e9 of a training step and of a forward pass of one clip, by the part that is kept."""
    import torch
    from torch.utils.flop_counter import FlopCounterMode

    from videomae_hf import VideoMAEV2Config, VideoMAEV2ForVideoClassification
    from videomae_hf.training.step_cost import example_batch, step_macs

    config, found = VideoMAEV2Config.from_pretrained(model), {}
    with torch.device("meta"):
        classifier = VideoMAEV2ForVideoClassification(config)
    for keep in (1.0, *STATIC_KEEPS):
        batch = example_batch(classifier, config, 1, "meta")
        kept = math.ceil(keep * config.sequence_length)
        batch["visible_ids"] = torch.zeros(1, kept, dtype=torch.long, device="meta")
        with FlopCounterMode(display=False) as counter, torch.no_grad():
            classifier.eval()(**batch)
        forward = counter.get_total_flops() / 2
        found[str(keep)] = {"step": step_macs(classifier.train(), batch) / 1e9, "forward": forward / 1e9}
    return found


def table(runs: list[dict]) -> str:
    """Markdown: mean and standard deviation over the seeds, beside the arithmetic."""
    macs = next(run["gmacs"] for run in runs if run["training"] == "all tokens")
    whole = macs["1.0"]
    lines = ["| Training | Inference | Top-1 | Training step | Forward pass |", "|---|---|---|---|---|"]

    def row(training: str, inference: str, scores: list[float], step: float, forward: float) -> None:
        mean, spread = statistics.mean(scores), statistics.stdev(scores) if len(scores) > 1 else 0.0
        lines.append(
            f"| {training} | {inference} | {100 * mean:.1f} ± {100 * spread:.1f} % | {step / whole['step']:.2f} | "
            f"{forward / whole['forward']:.2f} |"
        )

    for training, options in TRAININGS.items():
        some = [run for run in runs if run["training"] == training]
        if not some:
            continue
        own, static = some[0]["gmacs"], "static_keep" in options
        trained, used = own["0.5" if static or "token_keep" in options else "1.0"], own["0.5" if static else "1.0"]
        scores = [run["top1"] for run in some]
        row(training, "static_keep 0.5" if static else "all tokens", scores, trained["step"], used["forward"])
    for keep in map(str, STATIC_KEEPS):
        scores = [run["inference"][keep] for run in runs if "inference" in run]
        if scores:
            row("all tokens", f"static_keep {keep}", scores, whole["step"], macs[keep]["forward"])
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("output_dir", help="folder of runs.jsonl")
    parser.add_argument("--table", action="store_true", help="print the table of the runs that are there")
    parser.add_argument("--pretrained", help="output folder of a pretraining")
    parser.add_argument("--train_data", help="labelled videos")
    parser.add_argument("--eval_data", help="labelled videos to score on")
    parser.add_argument("--recipe", default="examples/recipes/demo_finetune.yaml", help="recipe of videomae finetune")
    parser.add_argument("--seeds", type=int, default=3, help="number of seeds")
    parser.add_argument("--processes", type=int, default=1, help="runs at a time, one thread each")
    args = parser.parse_args()
    path = Path(args.output_dir, "runs.jsonl")
    if not args.table:
        missing = [name for name in ("pretrained", "train_data", "eval_data") if getattr(args, name) is None]
        if missing:
            parser.error(f"--{missing[0]} is needed, unless --table is given")
        path.parent.mkdir(parents=True, exist_ok=True)
        planned = [{"seed": seed, "training": name} for seed in range(args.seeds) for name in TRAININGS]
        add_runs(path, missing_runs(path, planned), partial(finetuned, args=args), args.processes)
    print(table(read_runs(path)))


if __name__ == "__main__":
    main()

# Copyright 2026 The videomae_hf authors. Licensed under the Apache License, Version 2.0.
"""Pretrains with one factor changed at a time, and records what each run explains and what its features are worth.

    make demo  # synthesises demo/data
    python examples/experiments/pretraining_study.py output/study
    python examples/experiments/pretraining_study.py output/study --variants "tube 0.75" "random 0.9" --seeds 3
    python examples/experiments/pretraining_study.py output/study --table

A run is `videomae pretrain` with `--recipe` and the options of its variant, in a process of its own on one thread, and
one line of runs.jsonl in the output folder: the curve of its evaluations (`eval_loss`, `eval_trivial`, `eval_explained`
and the k-NN accuracy of its frozen encoder, `eval_knn_top1`). Runs of the same recipe that are there are not run again.
"""

import argparse
import hashlib
import itertools
import json
import os
import shutil
import statistics
from functools import partial
from pathlib import Path

import yaml
from run_lines import add_runs, missing_runs, read_runs


# One factor changed in each, against the recipe: patches of 4 in 24 x 24 pixels, random masks, ratio 0.75
VARIANTS = {
    "recipe": {},
    "positions: flattened (official)": {"position_embedding_type": "sinusoidal"},
    "positions: learned": {"position_embedding_type": "learned"},
    "patches of 8": {"patch_size": 8},
    "patches of 6": {"patch_size": 6},
    "32 x 32 pixels": {"image_size": 32},
    "tube 0.75": {"mask_type": "tube"},
    "tube 0.5": {"mask_type": "tube", "mask_ratio": 0.5},
    "random 0.5": {"mask_ratio": 0.5},
    "random 0.9": {"mask_ratio": 0.9},
    "frame 0.75": {"mask_type": "frame"},
    "plain pixels": {"norm_pix_loss": False},
    "half decoded (V2)": {"decoder_mask_ratio": 0.5},
    "decoder 64 x 1": {
        **{"decoder_hidden_size": 64, "decoder_num_attention_heads": 2, "decoder_intermediate_size": 256},
    },
    "decoder 32 x 2": {"decoder_num_hidden_layers": 2},
    "learning rate 1e-3": {"learning_rate": 1e-3},
    "learning rate 4e-3": {"learning_rate": 4e-3},
    "batch 64": {"per_device_train_batch_size": 16},
    "encoder 96 x 4": {
        **{"hidden_size": 96, "num_hidden_layers": 4, "num_attention_heads": 3, "intermediate_size": 384},
    },
}
KEPT = ("step", "eval_loss", "eval_trivial", "eval_explained", "eval_knn_top1")


def pretrain(run: dict, args: argparse.Namespace) -> dict:
    """One pretraining; the run with its curve."""
    import torch

    from videomae_hf.commands import pretrain

    torch.set_num_threads(1)
    folder = Path(args.output_dir, "runs", f"{list(VARIANTS).index(run['variant'])}_{run['seed']}")
    shutil.rmtree(folder, ignore_errors=True)  # of an interrupted run
    options = {
        **{"max_steps": args.steps, "seed": run["seed"], "output_dir": folder, "warmup_epochs": 0},
        **{"warmup_steps": args.steps // 8, "disable_tqdm": "true", "reconstruction_videos": 0},
        **VARIANTS[run["variant"]],
    }
    pretrain.main([args.recipe, *(f"--{name}={value}" for name, value in options.items())])
    history = json.loads((folder / "trainer_state.json").read_text(encoding="utf-8"))["log_history"]
    curve = [{name: entry[name] for name in KEPT} for entry in history if "eval_loss" in entry]
    shutil.rmtree(folder)
    return {**run, "curve": curve}


def table(runs: list[dict]) -> str:
    """Markdown: a row for each variant and number of steps; mean over the seeds at the end of the runs."""
    lines = ["| Variant | Steps | Explained | k-NN top-1 | Seeds |", "|---|---|---|---|---|"]
    for (name, steps), group in itertools.groupby(
        sorted(runs, key=_place), key=lambda run: (run["variant"], run["steps"])
    ):
        last = [run["curve"][-1] for run in group]
        explained, knn = ([100 * entry[key] for entry in last] for key in ("eval_explained", "eval_knn_top1"))
        lines.append(f"| {name} | {steps:,} | {_mean(explained)} | {_mean(knn)} | {len(last)} |")
    return "\n".join(lines) + "\n"


def _place(run: dict) -> tuple[int, int]:
    return list(VARIANTS).index(run["variant"]), run["steps"]


def _mean(values: list[float]) -> str:
    spread = f" ± {statistics.stdev(values):.1f}" if len(values) > 1 else ""
    return f"{statistics.mean(values):.1f}{spread} %"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("output_dir", help="folder of runs.jsonl")
    parser.add_argument("--recipe", default="examples/recipes/demo_pretrain.yaml", help="recipe of videomae pretrain")
    parser.add_argument("--variants", nargs="+", default=list(VARIANTS), choices=VARIANTS, metavar="VARIANT")
    parser.add_argument("--steps", type=int, default=1200, help="steps of each run")
    parser.add_argument("--seeds", type=int, default=1, help="number of seeds")
    parser.add_argument("--processes", type=int, default=os.cpu_count(), help="runs at a time, one thread each")
    parser.add_argument("--table", action="store_true", help="print the table of the runs there are, and run nothing")
    args = parser.parse_args()
    path = Path(args.output_dir, "runs.jsonl")
    path.parent.mkdir(parents=True, exist_ok=True)
    settings = yaml.safe_load(Path(args.recipe).read_text(encoding="utf-8"))
    recipe = hashlib.sha256(json.dumps(settings, sort_keys=True).encode()).hexdigest()[:12]
    seeds = itertools.product(range(args.seeds), args.variants)
    planned = [{"recipe": recipe, "variant": name, "steps": args.steps, "seed": seed} for seed, name in seeds]
    if not args.table:
        add_runs(path, missing_runs(path, planned), partial(pretrain, args=args), args.processes)
    print(table([run for run in read_runs(path) if run["recipe"] == recipe]))


if __name__ == "__main__":
    main()

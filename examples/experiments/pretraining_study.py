# Copyright 2026 The videomae_hf authors. Licensed under the Apache License, Version 2.0.
"""Pretrains with one factor changed at a time, and records what each run explains and what its features are worth.

    make demo  # synthesises demo/data
    python examples/experiments/pretraining_study.py output/study
    python examples/experiments/pretraining_study.py output/study --variants "tube 0.75" "random 0.9" --seeds 3
    python examples/experiments/pretraining_study.py output/study --table --picture curves.png

A run is `videomae pretrain` with `--recipe` and the options of its variant, in a process of its own on one thread, and
one line of runs.jsonl in the output folder: the curve of its evaluations, with the loss on held-out videos
(`eval_loss`), that of the best trivial predictor (`eval_trivial`), the share of it that the model explains
(`eval_explained`), and the accuracies of probes on the frozen encoder, for each set of labels (see
frozen_features.py). Runs of the same recipe and options that are there are not run again.
"""

import argparse
import csv
import hashlib
import itertools
import json
import math
import os
import shutil
import statistics
from functools import partial
from pathlib import Path

import yaml
from run_lines import add_runs, missing_runs, read_runs


# One factor is changed in each, against the recipe: patches of 4 in 24 x 24 pixels, random masks, ratio 0.75
FACTORS = {
    "recipe": {"recipe": {}},
    "grid": {
        "patches of 8": {"patch_size": 8},
        "patches of 6": {"patch_size": 6},
        "32 x 32 pixels": {"image_size": 32},
    },
    "masks": {
        "tube 0.75": {"mask_type": "tube"},
        "tube 0.5": {"mask_type": "tube", "mask_ratio": 0.5},
        "random 0.5": {"mask_ratio": 0.5},
        "random 0.9": {"mask_ratio": 0.9},
        "frame 0.75": {"mask_type": "frame"},
    },
    "targets": {"plain pixels": {"norm_pix_loss": False}},
    "positions": {
        "flattened (official)": {"position_embedding_type": "sinusoidal"},
        "learned": {"position_embedding_type": "learned"},
    },
    "decoder": {
        "half decoded (V2)": {"decoder_mask_ratio": 0.5},
        "decoder 64 x 1": {
            **{"decoder_hidden_size": 64, "decoder_num_attention_heads": 2, "decoder_intermediate_size": 256},
        },
        "decoder 32 x 2": {"decoder_num_hidden_layers": 2},
    },
    "optimisation": {
        "learning rate 1e-3": {"learning_rate": 1e-3},
        "learning rate 4e-3": {"learning_rate": 4e-3},
        "no warmup": {"warmup_steps": 0},
        "batch 64": {"per_device_train_batch_size": 16},
    },
    "videos": {"600 videos": {"train_videos": 600}, "150 videos": {"train_videos": 150}},
    "encoder": {
        "encoder 96 x 4": {
            **{"hidden_size": 96, "num_hidden_layers": 4, "num_attention_heads": 3, "intermediate_size": 384},
        },
        "encoder 32 x 2": {
            **{"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 1, "intermediate_size": 128},
        },
    },
}
VARIANTS = {name: options for variants in FACTORS.values() for name, options in variants.items()}
EVALUATED = 150  # held-out videos on which the loss is computed
EVALUATIONS = ("step", "eval_loss", "eval_trivial", "eval_explained")
PROBES = {"knn": "k-NN", "linear_mean": "linear, mean", "linear_places": "linear, places"}


def pretrain(run: dict, args: argparse.Namespace) -> dict:
    """One pretraining; the run with its curve."""
    import torch

    from videomae_hf.commands import pretrain

    torch.set_num_threads(1)
    folder = (
        Path(args.output_dir, "runs")
        / f"{run['recipe']}_{list(VARIANTS).index(run['variant'])}_{run['steps']}_{run['seed']}"
    )
    shutil.rmtree(folder, ignore_errors=True)  # of an interrupted run
    variant = dict(VARIANTS[run["variant"]])
    if "train_videos" in variant:
        variant["train_data"] = write_part(args.settings["train_data"], variant.pop("train_videos"), folder.parent)
    options = {
        **args.options,
        **{"max_steps": args.steps, "seed": run["seed"], "output_dir": folder, "warmup_epochs": 0},
        **{"warmup_steps": args.steps // 8, "disable_tqdm": "true", "reconstruction_videos": 0},
        **{"eval_strategy": "steps", "eval_steps": 0.25, "save_strategy": "steps", "save_steps": 0.25},
        **{"save_only_model": "true", "probe_train_data": "none", "probe_eval_data": "none"},
        **{"eval_data": write_part(args.settings["eval_data"], EVALUATED, folder.parent)},
        **variant,
    }
    pretrain.main([args.recipe, *(f"--{name}={value}" for name, value in options.items())])
    history = json.loads((folder / "trainer_state.json").read_text(encoding="utf-8"))["log_history"]
    evaluations = [{name: entry[name] for name in EVALUATIONS} for entry in history if "eval_loss" in entry]
    curve = add_probes(evaluations, folder, run["seed"], args)
    shutil.rmtree(folder)
    return {**run, "curve": curve}


def add_probes(evaluations: list[dict], folder: Path, seed: int, args: argparse.Namespace) -> list[dict]:
    """The evaluations of a run with the probes of its checkpoints, after the probes of the untrained encoder."""
    import transformers
    from frozen_features import LabelSet, probe_checkpoint

    from videomae_hf import VideoMAEV2ForPreTraining

    label_sets = [LabelSet(*one) for one in args.label_sets]
    model = VideoMAEV2ForPreTraining.from_pretrained(folder)
    transformers.set_seed(seed)
    untrained = folder / "checkpoint-0"
    shutil.copytree(folder / f"checkpoint-{evaluations[-1]['step']}", untrained)  # its processor
    type(model)(model.config).save_pretrained(untrained)
    return [
        {**one, "probes": probe_checkpoint(folder / f"checkpoint-{one['step']}", label_sets, folder.parent / "clips")}
        for one in ({"step": 0}, *evaluations)
    ]


def write_part(data: str, number: int, folder: Path) -> Path:
    """Writes a list of `number` videos at most, without labels, evenly spaced over those of `data`."""
    from videomae_hf.data.sources import read_samples

    samples, _ = read_samples(data, labelled=False)
    number = min(number, len(samples))
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{hashlib.sha256(data.encode()).hexdigest()[:8]}_{number}_videos.csv"
    with path.open("w", encoding="utf-8", newline="") as file:
        rows = ([os.path.abspath(samples[place * len(samples) // number].path)] for place in range(number))
        csv.writer(file).writerows([["path"], *rows])
    return path


def of_variant(runs: list[dict]) -> list[tuple[str, int, list[dict]]]:
    """(variant, steps, its runs), in the order of `VARIANTS`."""

    def key(run: dict) -> tuple[int, int]:
        return list(VARIANTS).index(run["variant"]), run["steps"]

    return [
        (group[0]["variant"], group[0]["steps"], group)
        for group in (list(same) for _, same in itertools.groupby(sorted(runs, key=key), key=key))
    ]


def table(runs: list[dict]) -> str:
    """Markdown: a row for each variant and number of steps; mean and deviation over seeds, at the end of the runs."""
    label_sets = list(runs[0]["curve"][-1]["probes"]) if runs else []
    of = {label: f"{label}: " if len(label_sets) > 1 else "" for label in label_sets}
    names = [f"{of[label]}{title}" for label in label_sets for title in PROBES.values()]
    lines = [
        "| " + " | ".join(["Variant", "Steps", "Explained", *names, "Seeds"]) + " |",
        "|---" * (4 + len(names)) + "|",
    ]
    for name, steps, group in of_variant(runs):
        ends = [run["curve"][-1] for run in group]
        cells = [percent([end["eval_explained"] for end in ends])]
        for label, probe in itertools.product(label_sets, PROBES):
            cells.append(percent([end["probes"][label][probe] for end in ends]))
        lines.append("| " + " | ".join([name, f"{steps:,}", *cells, str(len(group))]) + " |")
    return "\n".join(lines) + "\n"


def percent(values: list[float]) -> str:
    spread = f" ± {100 * statistics.stdev(values):.1f}" if len(values) > 1 else ""
    return f"{100 * statistics.mean(values):.1f}{spread} %"


def save_picture(runs: list[dict], path: str) -> None:
    """Curves against steps: a row for each factor, columns for what is explained and for the probes."""
    from matplotlib.figure import Figure

    label = next(iter(runs[0]["curve"][-1]["probes"]))
    steps = runs[0]["steps"]
    groups = {name: group for name, length, group in of_variant(runs) if length == steps}
    factors = {name: [one for one in variants if one in groups] for name, variants in list(FACTORS.items())[1:]}
    factors = {name: variants for name, variants in factors.items() if variants}
    figure = Figure(figsize=(11, 1.9 * len(factors)), layout="constrained")
    axes = figure.subplots(len(factors), 3, sharex=True, sharey="col", squeeze=False)
    for row, (factor, variants) in zip(axes, factors.items()):
        for name in (name for name in ("recipe", *variants) if name in groups):
            for axis, values in zip(row, curves_of(groups[name], label)):
                axis.plot(*values, label=name, color="black" if name == "recipe" else None, linewidth=1.3)
        row[0].set_ylabel(factor)
        row[2].legend(fontsize=7, loc="upper left", bbox_to_anchor=(1, 1), frameon=False)
    for axis, title in zip(axes[0], ("explained", "k-NN, mean feature", "linear probe, places kept")):
        axis.set_title(f"{title} (%)", fontsize=9)
    for axis in axes[-1]:
        axis.set_xlabel("steps")
    figure.savefig(path, dpi=80)


def curves_of(group: list[dict], label: str) -> list[tuple[list[int], list[float]]]:
    """(steps, means over the runs in percent) of what is explained, of k-NN and of the linear probe on places."""

    def value(entry: dict, probe: str | None) -> float:
        return 100 * (entry.get("eval_explained", math.nan) if probe is None else entry["probes"][label][probe])

    steps = [entry["step"] for entry in group[0]["curve"]]
    points = [[run["curve"][place] for run in group] for place in range(len(steps))]
    return [
        (steps, [statistics.mean(value(entry, probe) for entry in entries) for entries in points])
        for probe in (None, "knn", "linear_places")
    ]


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("output_dir", help="folder of runs.jsonl")
    parser.add_argument("--recipe", default="examples/recipes/demo_pretrain.yaml", help="recipe of videomae pretrain")
    parser.add_argument("--options", nargs="+", default=[], metavar="NAME=VALUE", help="options for all runs")
    parser.add_argument("--variants", nargs="+", default=list(VARIANTS), choices=VARIANTS, metavar="VARIANT")
    parser.add_argument("--steps", type=int, default=1200, help="steps of each run")
    parser.add_argument("--seeds", type=int, default=1, help="number of seeds")
    parser.add_argument(
        "--label_set", dest="label_sets", nargs=3, action="append", metavar=("NAME", "TRAIN", "EVAL"),
        help="labelled videos for the probes; repeat it for other labels [the probe data of the recipe]",
    )  # fmt: skip
    parser.add_argument("--processes", type=int, default=os.cpu_count(), help="runs at a time, one thread each")
    parser.add_argument("--table", action="store_true", help="print the table of the runs there are, and run nothing")
    parser.add_argument("--picture", metavar="FILE", help="draw the curves of the runs there are")
    args = parser.parse_args()
    args.options = dict(option.split("=", 1) for option in args.options)
    args.settings = yaml.safe_load(Path(args.recipe).read_text(encoding="utf-8")) | args.options
    if args.label_sets is None:
        args.label_sets = [("labels", args.settings["probe_train_data"], args.settings["probe_eval_data"])]
    return args


def main() -> None:
    args = parse_arguments()
    path = Path(args.output_dir, "runs.jsonl")
    path.parent.mkdir(parents=True, exist_ok=True)
    described = json.dumps([args.settings, args.label_sets], sort_keys=True)
    recipe = hashlib.sha256(described.encode()).hexdigest()[:12]
    seeds = itertools.product(range(args.seeds), args.variants)
    planned = [{"recipe": recipe, "variant": name, "steps": args.steps, "seed": seed} for seed, name in seeds]
    if not args.table:
        add_runs(path, missing_runs(path, planned), partial(pretrain, args=args), args.processes)
    runs = [run for run in read_runs(path) if run["recipe"] == recipe]
    print(table(runs))
    if args.picture:
        save_picture(runs, args.picture)


if __name__ == "__main__":
    main()

# Copyright 2026 The videomae_hf authors. Licensed under the Apache License, Version 2.0.
"""Finetunes a pretrained encoder and models from scratch on a few labelled videos a class, and compares them.

Where the pretrained model is one of images, the same for images.

    python examples/experiments/few_labels.py demo/few_labels --pretrained demo/pretrain \\
        --train_data demo/data/train --eval_data demo/data/val --labels_per_class 1

Every seed chooses other labelled videos, the same for all methods, so that methods are compared within a seed. From
scratch, the model is trained for as many steps as the pretrained one and for several times as many, with each of
`--learning_rates`; the best of these on the evaluation videos is what pretraining is compared with, which favours
training from scratch. A run is `videomae finetune` with `--recipe`, and one line of runs.jsonl in the output folder;
runs that are there are not run again.
"""

import argparse
import csv
import hashlib
import itertools
import json
import os
import shutil
import statistics
from functools import partial
from pathlib import Path

from run_lines import add_runs, missing_runs, runs_of


# Fields of the pretrained model that the models from scratch share
MODEL_FIELDS = (
    "num_frames", "image_size", "patch_size", "tubelet_size", "num_channels", "hidden_size", "num_hidden_layers",
    "num_attention_heads", "intermediate_size", "position_embedding_type", "use_cls_token",
)  # fmt: skip


def planned_runs(args: argparse.Namespace) -> list[dict]:
    """The settings of every run: seed, method, steps, learning rate."""
    weights = hashlib.sha256(Path(args.pretrained, "model.safetensors").read_bytes()).hexdigest()[:12]
    common = {"weights": weights, "labels_per_class": args.labels_per_class}
    runs = []
    for seed, rate in itertools.product(range(args.seeds), args.learning_rates):
        runs.append({"seed": seed, "method": "pretrained", "steps": args.steps, "learning_rate": rate})
        for factor in args.scratch_factors:
            steps = factor * args.steps
            runs.append({"seed": seed, "method": "from scratch", "steps": steps, "learning_rate": rate})
    return [{**common, **run} for run in runs]


def run_finetuning(settings: dict, args: argparse.Namespace) -> dict:
    """One run in a process of its own; the settings, with `top1` on the evaluation videos."""
    import torch

    from videomae_hf.commands import finetune

    torch.set_num_threads(1)
    folder = Path(args.output_dir, "runs", "_".join(str(value) for value in settings.values()).replace(" ", "_"))
    shutil.rmtree(folder, ignore_errors=True)  # of an interrupted run
    options = {
        "train_data": list_of(args, settings["seed"]),
        "eval_data": args.eval_data,
        "output_dir": folder,
        "seed": settings["seed"],
        "max_steps": settings["steps"],
        "learning_rate": settings["learning_rate"],
        **{"warmup_epochs": 0, "warmup_steps": settings["steps"] // 10},
        **{"per_device_train_batch_size": 4, "num_sample": 4, "dataloader_num_workers": 0, "eval_strategy": "no"},
        **{"save_strategy": "no", "disable_tqdm": "true", "per_device_eval_batch_size": 50},
        **{"dataloader_persistent_workers": "false", "layer_decay": 1.0},
    }
    if settings["method"] == "pretrained":
        options["checkpoint"] = args.pretrained
    else:
        config = config_of(args)
        options |= {"checkpoint": "none", **{name: config[name] for name in MODEL_FIELDS}}
    finetune.main([args.recipe, *(f"--{name}={value}" for name, value in options.items())])
    results = json.loads((folder / "all_results.json").read_text(encoding="utf-8"))
    shutil.rmtree(folder)
    return {**settings, "top1": results["eval_top1"]}


def labels_number(text: str) -> int | str:
    return text if text == "all" else int(text)


def config_of(args: argparse.Namespace) -> dict:
    return json.loads(Path(args.pretrained, "config.json").read_text(encoding="utf-8"))


def list_of(args: argparse.Namespace, seed: int) -> Path:
    return Path(args.output_dir, f"labels_{args.labels_per_class}_seed_{seed}.csv")


def write_list(args: argparse.Namespace, seed: int) -> None:
    """Writes a list of `labels_per_class` random training videos of each class, or of all of them."""
    import torch

    from videomae_hf.data.sources import read_samples
    from videomae_hf.data.sources.folders_and_lists import Reading
    from videomae_hf.data.sources.media import IMAGES, VIDEOS

    media = IMAGES if config_of(args)["num_frames"] == 1 else VIDEOS
    samples, classes = read_samples(args.train_data, reading=Reading(media=media))
    generator, rows = torch.Generator().manual_seed(seed), []
    for label, name in enumerate(classes):
        paths = [os.path.abspath(sample.path) for sample in samples if sample.label == label]
        number = len(paths) if args.labels_per_class == "all" else args.labels_per_class
        if len(paths) < number:
            raise ValueError(f"labels_per_class={args.labels_per_class}, but class {name} has {len(paths)} videos.")
        order = torch.randperm(len(paths), generator=generator)[:number]
        rows += [(paths[index], name) for index in order.tolist()]
    with list_of(args, seed).open("w", encoding="utf-8", newline="") as file:
        csv.writer(file).writerows([("path", "label"), *rows])


def summary(runs: list[dict]) -> dict:
    """Top-1 of each method by its best steps and learning rate, and their paired difference, in percent.

    Each method is the setting with the best mean over the seeds.
    """
    best = {}
    for method in ("pretrained", "from scratch"):
        scores = {}
        for run in runs:
            if run["method"] == method:
                scores.setdefault((run["steps"], run["learning_rate"]), {})[run["seed"]] = 100 * run["top1"]
        setting = max(scores, key=lambda setting: statistics.mean(scores[setting].values()))
        best[method] = {"steps": setting[0], "learning_rate": setting[1], "top1": scores[setting]}
    seeds = sorted(best["pretrained"]["top1"].keys() & best["from scratch"]["top1"].keys())
    gains = [best["pretrained"]["top1"][seed] - best["from scratch"]["top1"][seed] for seed in seeds]
    error = statistics.stdev(gains) / len(gains) ** 0.5 if len(gains) > 1 else None
    labels = runs[0]["labels_per_class"]
    return {"labels_per_class": labels, **best, "gain": statistics.mean(gains), "standard_error": error, "seeds": seeds}


def describe(found: dict) -> str:
    lines = []
    for method in ("pretrained", "from scratch"):
        values = list(found[method]["top1"].values())
        lines.append(
            f"{method}: {statistics.mean(values):.1f} % top-1 ({', '.join(f'{value:.1f}' for value in values)}), "
            f"{found[method]['steps']} steps at {found[method]['learning_rate']:g}"
        )
    error = "" if found["standard_error"] is None else f"standard error {found['standard_error']:.1f}, "
    lines.append(
        f"labelled videos a class: {found['labels_per_class']}; pretraining gains {found['gain']:.1f} points "
        f"({error}{len(found['seeds'])} paired seeds)"
    )
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("output_dir", help="folder of runs.jsonl and summary.json")
    parser.add_argument("--pretrained", required=True, help="output folder of a pretraining")
    parser.add_argument("--train_data", required=True, help="labelled videos to choose from")
    parser.add_argument("--eval_data", required=True, help="labelled videos to score on")
    parser.add_argument("--recipe", default="examples/recipes/demo_finetune.yaml", help="recipe of videomae finetune")
    parser.add_argument("--labels_per_class", type=labels_number, default=1, help="a number, or all [1]")
    parser.add_argument("--seeds", type=int, default=5, help="number of seeds")
    parser.add_argument("--steps", type=int, default=200, help="finetuning steps of the pretrained model")
    parser.add_argument(
        "--scratch_factors", type=int, nargs="+", default=[1, 3], help="multiples of STEPS from scratch"
    )
    parser.add_argument("--learning_rates", type=float, nargs="+", default=[1e-3])
    parser.add_argument("--processes", type=int, default=os.cpu_count(), help="runs at a time, one thread each")
    args = parser.parse_args()
    path = Path(args.output_dir, "runs.jsonl")
    path.parent.mkdir(parents=True, exist_ok=True)
    planned = planned_runs(args)
    missing = missing_runs(path, planned)
    for seed in range(args.seeds if missing else 0):
        write_list(args, seed)
    add_runs(path, missing, partial(run_finetuning, args=args), args.processes)
    found = summary(runs_of(path, planned))
    path.with_name("summary.json").write_text(json.dumps(found, indent=2), encoding="utf-8")
    print(describe(found))


if __name__ == "__main__":
    main()

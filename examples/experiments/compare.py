# Copyright 2026 The videomae_hf authors. Licensed under the Apache License, Version 2.0.
"""Does pretraining pay? Ways of training a small video transformer, compared at equal compute.

    python examples/experiments/compare.py --train_data demo/data/train --eval_data demo/data/val --labels_per_class 5
    python examples/experiments/compare.py --train_data ut_interaction --groups ut_interaction/groups.tsv
    python examples/experiments/compare.py --table

Each run has the same CPU seconds on one thread, pretraining and finetuning together. First all ways of training take
turns at a few steps each; from the CPU time of these the number of steps follows, so that other load on the machine
shortens no run. Videos are decoded once and held in memory: what is compared is the models' compute. A run is one line
of JSON in `--output_dir`; runs that are there are not run again, pretrained encoders are kept there and finetuned on
any number of labels. Several processes may share the folder: start the others, with `--seeds` of their own, when the
first has printed its calibration.
"""

import argparse
import csv
import itertools
import json
import statistics
import time
from dataclasses import dataclass
from pathlib import Path

import torch
import transformers
from run_lines import read_runs
from transformers import VideoMAEForPreTraining, VideoMAEForVideoClassification

from videomae_hf import VideoMAEV2Config, VideoMAEV2ForPreTraining, VideoMAEV2ForVideoClassification
from videomae_hf.data.augmentation.transforms import normalize
from videomae_hf.data.sources.folders_and_lists import VideoRecord, VideoRecords, read_samples
from videomae_hf.data.video_dataset import VideoDataset
from videomae_hf.models.configuration_videomae_v2 import IMAGENET_MEAN, IMAGENET_STD
from videomae_hf.models.frame_sampling import dense_clip, random_start
from videomae_hf.models.video_decoding import read_frames
from videomae_hf.settings.training_arguments import VideoMAETrainingArguments
from videomae_hf.training.trainer import VideoMAETrainer


MODEL = {
    "num_frames": 8, "image_size": 32, "patch_size": 8,
    "hidden_size": 64, "num_hidden_layers": 3, "num_attention_heads": 2, "intermediate_size": 256,
    "decoder_hidden_size": 32, "decoder_num_hidden_layers": 1, "decoder_num_attention_heads": 1,
    "decoder_intermediate_size": 128,
}  # fmt: skip
STORED_FRAMES, STORED_SIZE = 16, 36  # of each video in memory; clips are windows of them
# The best of those tried on the demo data with a seed that is in no table, see the README beside this file.
PRETRAINING_RATE, FINETUNING_RATE, SCRATCH_RATE = 2e-3, 4e-3, 2e-3
BATCH_SIZE, FOLDS = 16, 3  # seed s holds out groups s, s + 3, s + 6, ...


@dataclass(frozen=True)
class Method:
    """A way of training."""

    masks: dict | None = None  # fields of the configuration for pretraining; None trains from scratch
    short: bool = False  # from scratch, with no more than the finetuning of the others
    transformers: bool = False  # its models, its plain Trainer, and masks as its documentation draws them

    @property
    def finetuning_phase(self) -> str:
        return "finetune, transformers" if self.transformers else "finetune, videomae_hf"


METHODS = {
    "from scratch": Method(),
    "from scratch, finetuning steps only": Method(short=True),
    "V1: tube 0.9": Method({"mask_ratio": 0.9}),
    "V2: tube 0.9, half decoded": Method({"mask_ratio": 0.9, "decoder_mask_ratio": 0.5}),
    "transformers": Method({}, transformers=True),
    "V1: tube 0.75": Method({"mask_ratio": 0.75}),
    "V1: random 0.9": Method({"mask_ratio": 0.9, "mask_type": "random"}),
    "V1: frame 0.9": Method({"mask_ratio": 0.9, "mask_type": "frame"}),
    "V1: tube 0.9, plain pixels": Method({"mask_ratio": 0.9, "norm_pix_loss": False}),
}


@dataclass
class Data:
    """Labelled videos, split, and their frames in memory."""

    train: list[VideoRecord]
    held_out: list[VideoRecord]
    num_labels: int
    frames: dict[str, torch.Tensor]  # path: uint8 (STORED_FRAMES, C, STORED_SIZE, STORED_SIZE)
    sampling_rate: int  # between the stored frames of a clip


def read_data(args) -> dict[int, Data]:
    """The data of each seed: the same for all with `--eval_data`; with `--groups` each holds out other groups."""
    samples, classes = read_samples(args.train_data)
    if args.groups:
        groups = read_groups(samples, args.train_data, args.groups, args.group_column)
        splits = {seed: split_by_group(samples, groups, seed) for seed in args.seeds}
    elif args.eval_data:
        splits = dict.fromkeys(args.seeds, (list(samples), list(read_samples(args.eval_data, classes)[0])))
    else:
        raise ValueError("Give --eval_data, or --groups to hold out some of the groups in --train_data.")
    videos = {sample.path: sample for split in splits.values() for part in split for sample in part}
    frames = {path: store_frames(path) for path in videos}
    return {seed: Data(*split, len(classes), frames, args.sampling_rate) for seed, split in splits.items()}


def read_groups(samples: VideoRecords, folder: str, path: str, column: str) -> list[str]:
    """The group of each sample, from a table with tabs and the columns path (relative to `folder`) and `column`."""
    with open(path, encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file, delimiter="\t"))
    if not rows or not {"path", column} <= set(rows[0]):
        raise ValueError(f"{path} needs a header with the columns path and {column}, separated by tabs.")
    group_of = {row["path"]: row[column] for row in rows}
    names = [Path(sample.path).relative_to(folder).as_posix() for sample in samples]
    if missing := [name for name in names if name not in group_of]:
        raise ValueError(f"{path} has no line for {missing[0]} ({len(missing)} videos are missing).")
    return [group_of[name] for name in names]


def split_by_group(samples: VideoRecords, groups: list[str], seed: int) -> tuple[list[VideoRecord], list[VideoRecord]]:
    """(training, held-out) samples: every third group is held out; seeds 0, 1 and 2 hold out each of them once."""
    held_out = set(sorted(set(groups))[seed % FOLDS :: FOLDS])
    if len(set(groups)) < FOLDS:
        raise ValueError(f"{len(set(groups))} groups are too few to hold out one of every {FOLDS}.")
    parts = [], []
    for sample, group in zip(samples, groups):
        parts[group in held_out].append(sample)
    return parts


def choose_labelled(samples: list[VideoRecord], per_class: int | None, seed: int) -> list[VideoRecord]:
    """`per_class` random samples of each class; None takes all."""
    if per_class is None:
        return samples
    chosen, generator = [], torch.Generator().manual_seed(seed)
    for label in sorted({sample.label for sample in samples}):
        of_class = [sample for sample in samples if sample.label == label]
        if len(of_class) < per_class:
            raise ValueError(f"labels_per_class={per_class}, but class {label} has {len(of_class)} videos.")
        chosen += [of_class[i] for i in torch.randperm(len(of_class), generator=generator)[:per_class]]
    return chosen


def store_frames(path: str) -> torch.Tensor:
    """uint8 (STORED_FRAMES, C, STORED_SIZE, STORED_SIZE): frames evenly spaced over the video, squeezed to squares."""
    frames = read_frames(path, lambda info: torch.linspace(0, info.num_frames - 1, STORED_FRAMES).round().int())
    frames = frames.permute(0, 3, 1, 2).float()  # (T, H, W, C) -> (T, C, H, W)
    size = (STORED_SIZE, STORED_SIZE)
    return torch.nn.functional.interpolate(frames, size, mode="bilinear", antialias=True).round().byte()


@dataclass
class StoredClips:
    """Clip loader of frames in memory, for each method: a random window from a random frame on, never mirrored."""

    data: Data
    floats: bool = False  # normalised as VideoMAEImageProcessor does; our models take uint8

    def __call__(self, sample: VideoRecord, generator: torch.Generator) -> dict:
        start = random_start(STORED_FRAMES, MODEL["num_frames"], self.data.sampling_rate, generator)
        place = torch.randint(STORED_SIZE - MODEL["image_size"] + 1, (2,), generator=generator)
        return {"pixel_values": self.window(sample, start, *place.tolist()), "labels": sample.label}

    def middle(self, sample: VideoRecord) -> torch.Tensor:
        """What is evaluated."""
        spare = max(STORED_FRAMES - MODEL["num_frames"] * self.data.sampling_rate, 0)
        margin = (STORED_SIZE - MODEL["image_size"]) // 2
        return self.window(sample, spare // 2, margin, margin)

    def window(self, sample: VideoRecord, start: int, top: int, left: int) -> torch.Tensor:
        """(T, C, H, W)"""
        size = MODEL["image_size"]
        indices = dense_clip(STORED_FRAMES, start, MODEL["num_frames"], self.data.sampling_rate)
        clip = self.data.frames[sample.path][indices, :, top : top + size, left : left + size]
        return normalize(clip, IMAGENET_MEAN, IMAGENET_STD) if self.floats else clip


def stack(items: list[dict]) -> dict[str, torch.Tensor]:
    """A batch for our pretraining models, which draw their masks themselves."""
    return {"pixel_values": torch.stack([item["pixel_values"] for item in items])}


def stack_with_mask(items: list[dict]) -> dict[str, torch.Tensor]:
    """A batch with the mask that transformers' documentation draws; one for all, as their numbers must be equal."""
    mask = torch.randint(0, 2, (1, VideoMAEV2Config(**MODEL).sequence_length)).bool()
    return {**stack(items), "bool_masked_pos": mask.expand(len(items), -1)}


class StepClock(transformers.TrainerCallback):
    """CPU seconds of each step of this process, data and optimizer included."""

    def on_train_begin(self, args, state, control, **kwargs):
        self.seconds, self.last = [], time.process_time()

    def on_step_end(self, args, state, control, **kwargs):
        now = time.process_time()
        self.seconds.append(now - self.last)
        self.last = now


def training_arguments(method: Method, pretraining: bool, steps: int, seed: int) -> transformers.TrainingArguments:
    rate = SCRATCH_RATE if method.masks is None else PRETRAINING_RATE if pretraining else FINETUNING_RATE
    shared = {
        "output_dir": "unused",
        "max_steps": steps,
        "per_device_train_batch_size": BATCH_SIZE,
        "learning_rate": rate,
        "warmup_steps": max(steps // 10, 1),
        "seed": seed,
        "use_cpu": True,
        "remove_unused_columns": False,
        **{"save_strategy": "no", "logging_strategy": "no", "report_to": "none", "disable_tqdm": True},
    }
    if method.transformers:  # linear schedule, no weight decay, gradients clipped at 1: its defaults
        return transformers.TrainingArguments(**shared)
    official = {"adam_beta2": 0.95, "max_grad_norm": 0} if pretraining else {}
    return VideoMAETrainingArguments(lr_scheduler_type="cosine", **shared, **official)


def train(
    method: Method, model, samples: list[VideoRecord], data: Data, steps: int, seed: int
) -> tuple[float, list[float]]:
    """Trains `model`, of either phase, and gives the mean loss and the CPU seconds of each step."""
    pretraining = isinstance(model, VideoMAEV2ForPreTraining | VideoMAEForPreTraining)
    clock, collator = StepClock(), transformers.default_data_collator
    if pretraining:
        collator = stack_with_mask if method.transformers else stack
    trainer = (transformers.Trainer if method.transformers else VideoMAETrainer)(
        model=model,
        args=training_arguments(method, pretraining, steps, seed),
        train_dataset=VideoDataset(samples, StoredClips(data, floats=method.transformers), seed),
        data_collator=collator,
        callbacks=[clock],
    )
    trainer.remove_callback(transformers.PrinterCallback)
    return trainer.train().training_loss, clock.seconds


def build(method: Method, num_labels: int | None = None, checkpoint: str | None = None):
    """A pretraining model, or, with `num_labels`, a classifier, fresh or on the encoder in `checkpoint`."""
    if num_labels is None and method.transformers:
        return VideoMAEForPreTraining(transformers.VideoMAEConfig(**MODEL))
    if num_labels is None:
        return VideoMAEV2ForPreTraining(VideoMAEV2Config(**{**MODEL, **method.masks}, use_mean_pooling=None))
    classifier = VideoMAEForVideoClassification if method.transformers else VideoMAEV2ForVideoClassification
    if checkpoint is None:
        return classifier(classifier.config_class(**MODEL, num_labels=num_labels))
    return classifier.from_pretrained(checkpoint, num_labels=num_labels, use_mean_pooling=True)


@torch.no_grad()
def accuracy(model, data: Data) -> float:
    """Part of the held-out videos whose middle clip is classified right."""
    load = StoredClips(data, floats=True)  # floats, which all models take
    logits = model.eval()(torch.stack([load.middle(sample) for sample in data.held_out])).logits
    labels = torch.tensor([sample.label for sample in data.held_out])
    return (logits.argmax(dim=1) == labels).float().mean().item()


def calibrate(methods: list[str], data: Data, folder: Path) -> dict[str, float]:
    """CPU seconds a step of each phase of each method: the least of three turns, in which the phases follow each other.

    The least, because what else runs on the machine (it shares caches) makes CPU time longer, never shorter.
    Kept in `folder`, so that all runs there have their steps from the same calibration.
    """
    path, phases = folder / "calibration.json", {}
    known = json.loads(path.read_text()) if path.exists() else {}
    for name in methods:
        if METHODS[name].masks is not None:
            phases[f"pretrain, {name}"] = METHODS[name], None
        phases[METHODS[name].finetuning_phase] = METHODS[name], data.num_labels
    seconds = {phase: [] for phase in phases if phase not in known}
    for _ in range(3):
        for phase, times in seconds.items():
            method, num_labels = phases[phase]
            times += train(method, build(method, num_labels), data.train, data, 8, seed=0)[1]
    known.update({phase: min(times) for phase, times in seconds.items()})
    path.write_text(json.dumps(known, indent=2), encoding="utf-8")
    return known


def pretrain(name: str, data: Data, steps: int, seed: int, folder: Path) -> dict:
    """Pretrains the encoder of a method and seed, or finds it: its folder, steps, CPU seconds and mean loss."""
    checkpoint = folder / "encoders" / f"{name}, seed {seed}"
    report = checkpoint / "pretraining.json"  # written last
    if not report.exists():
        transformers.set_seed(seed)
        model = build(METHODS[name])
        loss, seconds = train(METHODS[name], model, data.train, data, steps, seed)
        model.save_pretrained(checkpoint)
        result = {"checkpoint": str(checkpoint), "steps": steps, "seconds": sum(seconds), "loss": loss}
        report.write_text(json.dumps(result), encoding="utf-8")
    return json.loads(report.read_text(encoding="utf-8"))


def run(name: str, data: Data, seed: int, args, step_seconds: dict[str, float]) -> dict:
    """One run: pretraining, if the method has any, finetuning, and the accuracy on held-out videos."""
    method, budget = METHODS[name], args.seconds
    pretraining = {"checkpoint": None, "steps": 0, "seconds": 0.0, "loss": None}
    if method.masks is not None or method.short:
        budget *= 1 - args.pretraining_part
    if method.masks is not None:
        steps = round(args.seconds * args.pretraining_part / step_seconds[f"pretrain, {name}"])
        pretraining = pretrain(name, data, max(steps, 1), seed, Path(args.output_dir))
    transformers.set_seed(seed)
    model = build(method, data.num_labels, pretraining["checkpoint"])
    samples = choose_labelled(data.train, args.labels_per_class, seed)
    steps = max(round(budget / step_seconds[method.finetuning_phase]), 1)
    loss, seconds = train(method, model, samples, data, steps, seed)
    return {
        "method": name,
        "labels_per_class": args.labels_per_class,
        "seed": seed,
        "steps": [pretraining["steps"], steps],
        "cpu_seconds": [round(pretraining["seconds"], 1), round(sum(seconds), 1)],
        "losses": [pretraining["loss"], loss],
        "accuracy": accuracy(model, data),
        "videos": [len(data.train), len(samples), len(data.held_out)],  # pretrained on, finetuned on, scored on
    }


def check_settings(args, path: Path):
    """Keeps what all runs of a folder have in common, and raises ValueError for runs that are not comparable."""
    differing = ("methods", "seeds", "labels_per_class", "table")
    settings = {name: value for name, value in vars(args).items() if name not in differing}
    if not path.exists():
        path.write_text(json.dumps(settings), encoding="utf-8")
    if json.loads(path.read_text(encoding="utf-8")) != settings:
        raise ValueError(f"Runs in {path.parent} have other settings, see {path}; give another --output_dir.")


def run_missing(args, path: Path):
    """Runs what has no line in `path` yet, and adds a line for each."""
    torch.set_num_threads(1)
    transformers.utils.logging.set_verbosity_error()
    check_settings(args, path.with_name("settings.json"))
    done = {(run["method"], run["labels_per_class"], run["seed"]) for run in read_runs(path)}
    data = read_data(args)
    step_seconds = calibrate(args.methods, data[args.seeds[0]], path.parent)
    print("\n".join(f"{phase}: {1000 * least:.1f} ms a step" for phase, least in step_seconds.items()), flush=True)
    for seed in args.seeds:
        for name in args.methods:
            if (name, args.labels_per_class, seed) not in done:
                result = run(name, data[seed], seed, args, step_seconds)
                with open(path, "a", encoding="utf-8") as file:
                    file.write(json.dumps(result) + "\n")
                print(f"{name}, seed {seed}: {100 * result['accuracy']:.1f} %", flush=True)


def table(runs: list[dict]) -> str:
    """Markdown: a line for each number of labels and method; mean and standard deviation (n - 1) over the seeds."""
    lines = [
        "| labelled videos a class | training | steps | CPU seconds | top-1 % | each seed |",
        "|---|---|---|---|---|---|",
    ]
    numbers = sorted({run["labels_per_class"] for run in runs}, key=lambda number: (number is None, number))
    for labels, name in itertools.product(numbers, METHODS):
        chosen = [run for run in runs if (run["labels_per_class"], run["method"]) == (labels, name)]
        if not chosen:
            continue
        chosen.sort(key=lambda run: run["seed"])
        scores = [100 * run["accuracy"] for run in chosen]
        cells = [
            "all" if labels is None else str(labels),
            name,
            " + ".join(str(number) for number in chosen[0]["steps"]),
            " + ".join(f"{statistics.mean(phase):.1f}" for phase in zip(*(run["cpu_seconds"] for run in chosen))),
            f"{statistics.mean(scores):.1f}" + (f" ± {statistics.stdev(scores):.1f}" if len(scores) > 1 else ""),
            ", ".join(f"{score:.1f}" for score in scores),
        ]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--train_data", help="folder of class folders")
    parser.add_argument("--eval_data", help="folder of class folders to score on")
    parser.add_argument("--groups", help="table (tabs) with the columns path and GROUP_COLUMN, in place of --eval_data")
    parser.add_argument("--group_column", default="sequence")
    parser.add_argument("--output_dir", default="output/compare")
    parser.add_argument("--methods", nargs="+", default=list(METHODS), choices=METHODS, metavar="METHOD")
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2])
    parser.add_argument("--labels_per_class", type=int, help="labelled videos to finetune on; default: all")
    parser.add_argument("--seconds", type=float, default=60, help="CPU seconds of training a run")
    parser.add_argument("--pretraining_part", type=float, default=2 / 3, help="of these seconds")
    parser.add_argument("--sampling_rate", type=int, default=1, help="between the stored frames of a clip")
    parser.add_argument("--table", action="store_true", help="make the table of the runs there are, and no run")
    args = parser.parse_args()
    path = Path(args.output_dir, "runs.jsonl")
    path.parent.mkdir(parents=True, exist_ok=True)
    if not args.table:
        run_missing(args, path)
    markdown = table(read_runs(path))
    path.with_name("table.md").write_text(markdown, encoding="utf-8")
    print(markdown)


if __name__ == "__main__":
    main()

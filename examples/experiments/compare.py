# Copyright 2026 The videomae_hf authors. Licensed under the Apache License, Version 2.0.
"""What each way of training costs in accuracy and saves in compute, on a small video transformer.

    make demo  # synthesises demo/data
    python examples/experiments/compare.py --train_data demo/data/train --eval_data demo/data/val --labels_per_class 5
    python examples/experiments/compare.py --table

All videos are pretrained on, without labels, and some of them finetuned on. All ways take the same steps (`--steps`),
or, with `--seconds`, have the same CPU seconds on one thread: then all take turns at a few steps each first, and from
the CPU time of these the number of steps follows, so that other load on the machine shortens no run. Videos are decoded
once and held in memory: what is compared is the models' compute. A run is one line of JSON in `--output_dir`; runs that
are there are not run again, pretrained encoders are kept there and finetuned on any number of labels. Several processes
may share the folder, with `--seeds` of their own; with `--seconds`, once the first has printed its calibration.
"""

import argparse
import csv
import json
import statistics
import tempfile
import time
from dataclasses import dataclass, field
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
from videomae_hf.models.token_selection import select_tokens
from videomae_hf.models.video_decoding import read_frames
from videomae_hf.settings.training_arguments import VideoMAETrainingArguments
from videomae_hf.training.trainer import VideoMAETrainer


# That of the demo, in which pretraining pays (docs/when_pretraining_pays.md); the first fields, of transformers too
SHARED = {
    "num_frames": 8, "image_size": 24, "patch_size": 4,
    "hidden_size": 64, "num_hidden_layers": 3, "num_attention_heads": 2, "intermediate_size": 256,
    "decoder_hidden_size": 32, "decoder_num_hidden_layers": 1, "decoder_num_attention_heads": 1,
    "decoder_intermediate_size": 128,
}  # fmt: skip
MODEL = {**SHARED, "position_embedding_type": "sinusoidal_3d", "mask_type": "random", "mask_ratio": 0.75}
STORED_FRAMES, STORED_SIZE = 16, 27  # of each video in memory; clips are windows of them
# The best of those tried on the demo data with a seed that is in no table, see the README beside this file.
PRETRAINING_RATE, FINETUNING_RATE = 2e-3, 4e-3
BATCH_SIZE, FOLDS = 16, 3  # seed s holds out groups s, s + 3, s + 6, ...


@dataclass(frozen=True)
class Pretraining:
    """A way of pretraining."""

    fields: dict = field(default_factory=dict)  # of the configuration, where it differs from `MODEL`
    optim: str = "adamw_torch"
    transformers: bool = False  # its model, its plain Trainer, and masks as its documentation draws them


@dataclass(frozen=True)
class Method:
    """A way of training: a pretraining or none, and a part of the tokens in finetuning."""

    pretraining: str | None = "V1"  # None trains from scratch
    tokens: dict = field(default_factory=dict)  # options of `select_tokens`
    short: bool = False  # from scratch, with no more than the finetuning of the others

    @property
    def transformers(self) -> bool:
        return self.pretraining is not None and PRETRAININGS[self.pretraining].transformers

    @property
    def finetuning_phase(self) -> str:
        kept = "".join(f", {name} {value}" for name, value in self.tokens.items())
        return "finetune, transformers" if self.transformers else f"finetune, videomae_hf{kept}"


CROSS = {"decoder_type": "cross", "decoder_mask_ratio": 0.75}
PRETRAININGS = {
    "V1": Pretraining(),
    "V2: half decoded": Pretraining({"decoder_mask_ratio": 0.5}),
    "cross decoder: a quarter decoded": Pretraining(CROSS),
    "cross decoder of 4 layers": Pretraining({**CROSS, "decoder_num_hidden_layers": 4}),
    "cross decoder, mask ratio 0.95": Pretraining({**CROSS, "mask_ratio": 0.95}),
    "V1, Muon": Pretraining(optim="muon"),
    "transformers": Pretraining(transformers=True),
}
METHODS = {
    "from scratch": Method(None),
    "from scratch, finetuning steps only": Method(None, short=True),
    **{name: Method(name) for name in PRETRAININGS},
    "V1, then token_keep 0.5": Method(tokens={"token_keep": 0.5}),
    "V1, then static_keep 0.5": Method(tokens={"static_keep": 0.5}),
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


def training_arguments(way: Pretraining | Method, steps: int, seed: int) -> transformers.TrainingArguments:
    shared = {
        "output_dir": tempfile.gettempdir(),  # only an interrupted run writes a checkpoint
        "max_steps": steps,
        "per_device_train_batch_size": BATCH_SIZE,
        "learning_rate": PRETRAINING_RATE if isinstance(way, Pretraining) else FINETUNING_RATE,
        "warmup_steps": max(steps // 10, 1),
        "seed": seed,
        "use_cpu": True,
        "remove_unused_columns": False,
        **{"save_strategy": "no", "logging_strategy": "no", "report_to": "none", "disable_tqdm": True},
    }
    if way.transformers:  # linear schedule, no weight decay, gradients clipped at 1: its defaults
        return transformers.TrainingArguments(**shared)
    official = {}
    if isinstance(way, Pretraining):
        official = {"adam_beta2": 0.95, "max_grad_norm": 0, "optim": way.optim}
    return VideoMAETrainingArguments(lr_scheduler_type="cosine", **shared, **official)


def train(
    way: Pretraining | Method, model, samples: list[VideoRecord], data: Data, steps: int, seed: int
) -> tuple[float, list[float]]:
    """Pretrains or finetunes `model`, and gives the mean loss and the CPU seconds of each step."""
    clock, collator = StepClock(), transformers.default_data_collator
    if isinstance(way, Pretraining):
        collator = stack_with_mask if way.transformers else stack
    trainer = (transformers.Trainer if way.transformers else VideoMAETrainer)(
        model=model,
        args=training_arguments(way, steps, seed),
        train_dataset=VideoDataset(samples, StoredClips(data, floats=way.transformers), seed),
        data_collator=collator,
        callbacks=[clock],
    )
    trainer.remove_callback(transformers.PrinterCallback)
    return trainer.train().training_loss, clock.seconds


def pretraining_model(way: Pretraining):
    if way.transformers:
        return VideoMAEForPreTraining(transformers.VideoMAEConfig(**SHARED))
    return VideoMAEV2ForPreTraining(VideoMAEV2Config(**{**MODEL, **way.fields}, use_mean_pooling=None))


def classifier(method: Method, num_labels: int, checkpoint: str | None = None):
    """A classifier, fresh or on the encoder in `checkpoint`."""
    model_class = VideoMAEForVideoClassification if method.transformers else VideoMAEV2ForVideoClassification
    if checkpoint is not None:
        model = model_class.from_pretrained(checkpoint, num_labels=num_labels, use_mean_pooling=True)
    else:
        fields = SHARED if method.transformers else MODEL
        model = model_class(model_class.config_class(**fields, num_labels=num_labels))
    if method.tokens:
        select_tokens(model, **method.tokens)
    return model


@torch.no_grad()
def accuracy(method: Method, model, data: Data) -> float:
    """Part of the held-out videos whose middle clip is classified right."""
    load = StoredClips(data, floats=method.transformers)
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
        method = METHODS[name]
        if method.pretraining is not None:
            phases[f"pretrain, {method.pretraining}"] = PRETRAININGS[method.pretraining]
        phases[method.finetuning_phase] = method
    seconds = {phase: [] for phase in phases if phase not in known}
    for _ in range(3):
        for phase, times in seconds.items():
            way = phases[phase]
            is_method = isinstance(way, Method)
            model = classifier(way, data.num_labels) if is_method else pretraining_model(way)
            times += train(way, model, data.train, data, 8, seed=0)[1]
    known.update({phase: min(times) for phase, times in seconds.items()})
    path.write_text(json.dumps(known, indent=2), encoding="utf-8")
    return known


def pretrain(name: str, data: Data, steps: int, seed: int, folder: Path) -> dict:
    """Pretrains the encoder of a seed, or finds it: its folder, steps, CPU seconds and mean loss."""
    checkpoint = folder / "encoders" / f"{name}, seed {seed}"
    report = checkpoint / "pretraining.json"  # written last
    if not report.exists():
        transformers.set_seed(seed)
        model = pretraining_model(PRETRAININGS[name])
        loss, seconds = train(PRETRAININGS[name], model, data.train, data, steps, seed)
        model.save_pretrained(checkpoint)
        result = {"checkpoint": str(checkpoint), "steps": steps, "seconds": sum(seconds), "loss": loss}
        report.write_text(json.dumps(result), encoding="utf-8")
    return json.loads(report.read_text(encoding="utf-8"))


def steps_of(method: Method, args, step_seconds: dict[str, float]) -> tuple[int, int]:
    """Steps of pretraining and of finetuning."""
    pretrains = method.pretraining is not None
    if args.seconds is None:
        pretraining, finetuning = args.steps
        return (pretraining if pretrains else 0), finetuning if pretrains or method.short else sum(args.steps)
    pretraining = args.seconds * args.pretraining_part if pretrains or method.short else 0
    finetuning = max(round((args.seconds - pretraining) / step_seconds[method.finetuning_phase]), 1)
    if not pretrains:
        return 0, finetuning
    return max(round(pretraining / step_seconds[f"pretrain, {method.pretraining}"]), 1), finetuning


def run(name: str, data: Data, seed: int, args, step_seconds: dict[str, float]) -> dict:
    """One run: pretraining, if the method has any, finetuning, and the accuracy on held-out videos."""
    method = METHODS[name]
    pretraining_steps, finetuning_steps = steps_of(method, args, step_seconds)
    pretraining = {"checkpoint": None, "steps": 0, "seconds": 0.0, "loss": None}
    if method.pretraining is not None:
        pretraining = pretrain(method.pretraining, data, pretraining_steps, seed, Path(args.output_dir))
    transformers.set_seed(seed)
    model = classifier(method, data.num_labels, pretraining["checkpoint"])
    samples = choose_labelled(data.train, args.labels_per_class, seed)
    loss, seconds = train(method, model, samples, data, finetuning_steps, seed)
    return {
        "method": name,
        "labels_per_class": args.labels_per_class,
        "seed": seed,
        "steps": [pretraining["steps"], finetuning_steps],
        "cpu_seconds": [round(pretraining["seconds"], 1), round(sum(seconds), 1)],
        "losses": [pretraining["loss"], loss],
        "accuracy": accuracy(method, model, data),
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
    step_seconds = {}
    if args.seconds is not None:
        step_seconds = calibrate(args.methods, data[args.seeds[0]], path.parent)
        print("\n".join(f"{phase}: {1000 * least:.1f} ms a step" for phase, least in step_seconds.items()), flush=True)
    for seed in args.seeds:
        for name in args.methods:
            if (name, args.labels_per_class, seed) not in done:
                result = run(name, data[seed], seed, args, step_seconds)
                with open(path, "a", encoding="utf-8") as file:
                    file.write(json.dumps(result) + "\n")
                print(f"{name}, seed {seed}: {100 * result['accuracy']:.1f} %", flush=True)


def spread(scores: list[float], sign: str = "") -> str:
    """Mean and standard deviation (n - 1)."""
    return f"{statistics.mean(scores):{sign}.1f}" + (f" ± {statistics.stdev(scores):.1f}" if len(scores) > 1 else "")


def table(runs: list[dict]) -> str:
    """Markdown: a line for each number of labels and method; mean and standard deviation (n - 1) over the seeds.

    Since a seed chooses the labelled videos, methods are best compared within each: the last column has the mean and
    standard deviation of these differences from V1.
    """
    lines = [
        "| labelled videos a class | training | steps | CPU seconds | top-1 % | each seed | less V1, by seed |",
        "|---|---|---|---|---|---|---|",
    ]
    numbers = sorted({run["labels_per_class"] for run in runs}, key=lambda number: (number is None, number))
    for labels in numbers:
        found = {
            name: {
                run["seed"]: run for run in runs if (run["labels_per_class"], run["method"]) == (labels, name)
            }
            for name in METHODS
        }  # fmt: skip
        for name, of_seed in found.items():
            if not of_seed:
                continue
            chosen = [of_seed[seed] for seed in sorted(of_seed)]
            scores = [100 * run["accuracy"] for run in chosen]
            shared = sorted(of_seed.keys() & found["V1"].keys()) if name != "V1" else []
            differences = [100 * (of_seed[seed]["accuracy"] - found["V1"][seed]["accuracy"]) for seed in shared]
            cells = [
                "all" if labels is None else str(labels),
                name,
                " + ".join(str(number) for number in chosen[0]["steps"]),
                " + ".join(f"{statistics.mean(phase):.1f}" for phase in zip(*(run["cpu_seconds"] for run in chosen))),
                spread(scores),
                ", ".join(f"{score:.1f}" for score in scores),
                spread(differences, "+") if differences else "",
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
    parser.add_argument(
        "--steps", nargs=2, type=int, default=[4800, 300], metavar=("PRETRAINING", "FINETUNING"),
        help="of each run; from scratch, their sum [4800 300]",
    )  # fmt: skip
    parser.add_argument("--seconds", type=float, help="CPU seconds of training a run, in place of --steps")
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

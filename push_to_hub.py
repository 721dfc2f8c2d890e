# Copyright 2026 The videomae_hf authors. Licensed under the Apache License, Version 2.0.
"""Ship a checkpoint: one folder that loads without this package, proved, then uploaded.

    python push_to_hub.py output/finetune me/my-videomae
    python push_to_hub.py output/finetune me/my-videomae --dry_run bundle

The folder holds weights (safetensors), configuration, processor, the Python files they need and a model card. Before
anything is uploaded another process, in which `videomae_hf` cannot be imported, loads it with `trust_remote_code=True`
and must get the same output. The token is the one of `hf auth login`, or HF_TOKEN.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

import torch
import yaml
from huggingface_hub import EvalResult, HfApi, ModelCard, ModelCardData
from huggingface_hub.utils import validate_repo_id
from safetensors.torch import save_file

from videomae_hf import VideoMAEV2ImageProcessor
from videomae_hf.cli import run_command
from videomae_hf.tools.convert import load_any


AUTO_CLASSES = {
    "VideoMAEV2ForVideoClassification": "AutoModelForVideoClassification",
    "VideoMAEV2ForPreTraining": "AutoModelForPreTraining",
    "VideoMAEV2Model": "AutoModel",
}

# Of settings.yaml, what only this machine knows; it is not for a public card
LOCAL_SETTINGS = {"train_data", "eval_data", "data_root", "output_dir", "checkpoint"}

CARD = """---
{{ card_data }}
---

# {{ name }}

{{ summary }}

## Use

```python
{{ usage }}
```

The code travels with the weights: `trust_remote_code=True` runs the Python files of this repository. With the package
`videomae_hf` installed and imported the same lines work without it.

## Data

{{ data }}

## Results

{{ results }}

## Training

{{ training }}

## Sources

- Tong et al., VideoMAE: Masked Autoencoders are Data-Efficient Learners for Self-Supervised Video Pre-Training,
  NeurIPS 2022, https://arxiv.org/abs/2203.12602
- Wang et al., VideoMAE V2: Scaling Video Masked Autoencoders with Dual Masking, CVPR 2023,
  https://arxiv.org/abs/2303.16727
"""

USAGE = {
    "AutoModelForVideoClassification": """\
from transformers import AutoImageProcessor, AutoModelForVideoClassification

processor = AutoImageProcessor.from_pretrained("{repo}", trust_remote_code=True)
model = AutoModelForVideoClassification.from_pretrained("{repo}", trust_remote_code=True)
logits = model(**processor("video.mp4", return_tensors="pt")).logits
print(model.config.id2label[logits.argmax(-1).item()])""",
    "AutoModelForPreTraining": """\
from transformers import AutoImageProcessor, AutoModelForPreTraining

processor = AutoImageProcessor.from_pretrained("{repo}", trust_remote_code=True)
model = AutoModelForPreTraining.from_pretrained("{repo}", trust_remote_code=True)
outputs = model(**processor("video.mp4", return_tensors="pt"))  # draws the masks itself
print(outputs.loss, outputs.logits.shape)""",
    "AutoModel": """\
from transformers import AutoImageProcessor, AutoModel

processor = AutoImageProcessor.from_pretrained("{repo}", trust_remote_code=True)
model = AutoModel.from_pretrained("{repo}", trust_remote_code=True)
features = model(**processor("video.mp4", return_tensors="pt")).last_hidden_state""",
}

# What the other process does: the package is made impossible to import, and nothing is asked of the network.
VERIFY = """
import sys
sys.modules["videomae_hf"] = None
import torch
from safetensors.torch import load_file
import transformers
from transformers.models.auto.image_processing_auto import AutoImageProcessor
folder, sample, auto_class = sys.argv[1:]
options = {"trust_remote_code": True, "local_files_only": True}
model = getattr(transformers, auto_class).from_pretrained(folder, dtype="auto", **options).eval()
processor = AutoImageProcessor.from_pretrained(folder, **options)
sample = load_file(sample)
inputs = processor(sample["video"], return_tensors="pt").to(model.dtype)
with torch.no_grad():
    found = model(**inputs, **({"seed": 0} if auto_class == "AutoModelForPreTraining" else {}))
found = found["last_hidden_state" if auto_class == "AutoModel" else "logits"]
torch.testing.assert_close(found, sample["output"], rtol=1e-4, atol=1e-5)
"""


@dataclass
class Checkpoint:
    """A checkpoint and what its training left beside it."""

    source: str
    model: torch.nn.Module
    processor: VideoMAEV2ImageProcessor
    settings: dict  # of settings.yaml, what `train.py` was started with; {} for others
    metrics: dict  # of `train.py evaluate`, or what training ended with

    @property
    def auto_class(self) -> str:
        return AUTO_CLASSES[type(self.model).__name__]


def read_checkpoint(source: str, metrics_file: str | None) -> Checkpoint:
    model = load_any(source)
    settings, metrics = Path(source, "settings.yaml"), Path(metrics_file or Path(source, "all_results.json"))
    if metrics_file and not metrics.is_file():
        raise FileNotFoundError(f"No metrics file {metrics_file}; `train.py evaluate` writes metrics.json.")
    return Checkpoint(
        source=source,
        model=model,
        processor=VideoMAEV2ImageProcessor.from_pretrained(source),
        settings=yaml.safe_load(settings.read_text(encoding="utf-8")) if settings.is_file() else {},
        metrics=json.loads(metrics.read_text(encoding="utf-8")) if metrics.is_file() else {},
    )


def build_bundle(checkpoint: Checkpoint, repo_id: str, folder: Path, license_name: str, dataset: str | None):
    """Everything that the repository will hold."""
    if folder.exists() and any(folder.iterdir()):
        raise ValueError(f"{folder} is not empty; give a new folder, so that nothing old is shipped.")
    checkpoint.model.save_pretrained(folder)
    checkpoint.processor.save_pretrained(folder)
    # `save_pretrained` lists the one class saved; the others load from the same files, heads they lack being new.
    config_file = folder / "config.json"
    config = json.loads(config_file.read_text(encoding="utf-8"))
    file = config["auto_map"][checkpoint.auto_class].split(".")[0]
    config["auto_map"].update({auto: f"{file}.{name}" for name, auto in AUTO_CLASSES.items()})
    config_file.write_text(json.dumps(config, indent=2) + "\n", encoding="utf-8")
    model_card(checkpoint, repo_id, license_name, dataset).save(folder / "README.md")


def model_card(checkpoint: Checkpoint, repo_id: str, license_name: str, dataset: str | None) -> ModelCard:
    config, name = checkpoint.model.config, repo_id.split("/")[-1]
    classifies = checkpoint.auto_class == "AutoModelForVideoClassification"
    # The keys of evaluate.Metric's results
    scores = {
        "top1": ("accuracy", "top-1 accuracy"),
        "top5": ("accuracy", "top-5 accuracy"),
        "mean_class_accuracy": ("accuracy", "mean class accuracy"),
        "mean_average_precision": ("mean_average_precision", "mean average precision"),
        "micro_f1": ("f1", "micro F1"),
    }
    found = {key: checkpoint.metrics[f"eval_{key}"] for key in scores if f"eval_{key}" in checkpoint.metrics}
    results = [
        EvalResult(
            task_type="video-classification",
            dataset_type=dataset or "unknown",
            dataset_name=dataset or "not stated",
            metric_type=scores[key][0],
            metric_name=scores[key][1],
            metric_value=round(value, 5),
        )
        for key, value in found.items()
    ]
    data = ModelCardData(
        license=license_name,
        library_name="transformers",
        pipeline_tag="video-classification" if classifies else None,
        tags=["videomae", "video", "masked-autoencoder" if config.decoder_mask_ratio == 0 else "dual-masking"],
        model_name=name,
        base_model=_base_model(checkpoint),
        eval_results=results or None,
    )
    return ModelCard.from_template(
        data,
        template_str=CARD,
        name=name,
        summary=_summary(checkpoint),
        usage=USAGE[checkpoint.auto_class].format(repo=repo_id),
        data=_data_section(checkpoint, dataset),
        results=_table({scores[key][1]: f"{100 * value:.2f} %" for key, value in found.items()})
        or "Not stated. `train.py evaluate` writes a metrics.json that `push_to_hub.py --metrics` takes.",
        training=_table({name: value for name, value in checkpoint.settings.items() if name not in LOCAL_SETTINGS})
        or "Not stated.",
    )


def _base_model(checkpoint: Checkpoint) -> str | None:
    """The Hub id that training started from; a folder of this machine means nothing to others."""
    start = checkpoint.settings.get("checkpoint")
    return None if start is None or Path(start).exists() or start.count("/") != 1 else start


def _summary(checkpoint: Checkpoint) -> str:
    config = checkpoint.model.config
    parameters = sum(parameter.numel() for parameter in checkpoint.model.parameters())
    version = "VideoMAE V2 (dual masking)" if config.decoder_mask_ratio else "VideoMAE"
    kind = {
        "AutoModelForVideoClassification": f"a video classifier of {config.num_labels} classes",
        "AutoModelForPreTraining": "a masked autoencoder, to be finetuned",
        "AutoModel": "a video encoder",
    }[checkpoint.auto_class]
    height, width = config.image_hw
    return (
        f"{version}: {kind}. {parameters:,} parameters, {config.num_hidden_layers} layers of width "
        f"{config.hidden_size}, clips of {config.num_frames} frames of {height} x {width} pixels."
    )


def _data_section(checkpoint: Checkpoint, dataset: str | None) -> str:
    processor = checkpoint.processor
    pace = f"at {processor.fps:g} a second" if processor.fps else f"{processor.sampling_rate:g} apart"
    if processor.frame_sampling == "uniform":
        pace = "spread over the whole video"
    lines = [f"- Trained and scored on: {dataset or 'not stated'}", f"- Clips: {processor.num_frames} frames, {pace}"]
    if checkpoint.auto_class == "AutoModelForVideoClassification":
        names = list(checkpoint.model.config.id2label.values())
        lines.append(f"- Classes: {', '.join(names[:20])}{f', .. ({len(names)} in all)' if len(names) > 20 else ''}")
    return "\n".join(lines)


def _table(rows: dict) -> str:
    shown = {name: value for name, value in rows.items() if value is not None}
    return (
        "\n".join(["| | |", "|---|---|", *(f"| {name} | {value} |" for name, value in shown.items())]) if shown else ""
    )


@torch.no_grad()
def verify_bundle(checkpoint: Checkpoint, folder: Path):
    """Loads the folder in a process without this package and compares its output with ours.

    Raises:
        ValueError: it does not load there, or gives another output.
    """
    processor, model = checkpoint.processor, checkpoint.model
    shape = (processor.num_frames, 48, 64, model.config.num_channels)  # (T, H, W, C)
    video = torch.randint(256, shape, generator=torch.Generator().manual_seed(0), dtype=torch.uint8)
    inputs = processor(video, return_tensors="pt").to(model.dtype)
    outputs = model(**inputs, **({"seed": 0} if checkpoint.auto_class == "AutoModelForPreTraining" else {}))
    output = outputs["last_hidden_state" if checkpoint.auto_class == "AutoModel" else "logits"]
    with tempfile.TemporaryDirectory() as scratch:
        sample = Path(scratch, "sample.safetensors")
        save_file({"video": video, "output": output.contiguous()}, sample)
        environment = {**os.environ, "HF_MODULES_CACHE": str(Path(scratch, "modules")), "HF_HUB_OFFLINE": "1"}
        command = [sys.executable, "-c", VERIFY, str(folder.resolve()), str(sample), checkpoint.auto_class]
        done = subprocess.run(command, cwd=scratch, env=environment, capture_output=True, text=True)
    if done.returncode:
        reason = done.stderr.strip().splitlines()[-1] if done.stderr.strip() else f"exit status {done.returncode}"
        raise ValueError(f"{folder} does not work without videomae_hf: {reason}")


def upload(folder: Path, repo_id: str, private: bool, revision: str | None, create_pr: bool, message: str) -> str:
    """One commit with all files; returns its address."""
    api = HfApi()
    repo_id = api.create_repo(repo_id, private=private, exist_ok=True).repo_id
    if revision:
        api.create_branch(repo_id, branch=revision, exist_ok=True)
    commit = api.upload_folder(
        repo_id=repo_id, folder_path=folder, commit_message=message, revision=revision, create_pr=create_pr
    )
    return commit.pr_url or commit.commit_url


def parse_arguments(arguments: list[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("checkpoint", help="folder or Hub id of a model of ours or of transformers' VideoMAE")
    parser.add_argument("repo_id", help="user/name on the Hub")
    parser.add_argument("--dry_run", metavar="DIR", help="build and prove the folder there, upload nothing")
    parser.add_argument("--metrics", metavar="FILE", help="metrics.json of `train.py evaluate`, for the model card")
    parser.add_argument("--dataset", help="name of the data set, for the model card")
    parser.add_argument("--license", default="apache-2.0", help="of the weights; official ones are cc-by-nc-4.0")
    parser.add_argument("--private", action="store_true", help="if the repository is new")
    parser.add_argument("--revision", help="branch to push to, made if need be")
    parser.add_argument("--create_pr", action="store_true", help="open a pull request")
    parser.add_argument("--commit_message", default="Upload with videomae_hf")
    return parser.parse_args(arguments)


def main(arguments: list[str]):
    args = parse_arguments(arguments)
    validate_repo_id(args.repo_id)
    checkpoint = read_checkpoint(args.checkpoint, args.metrics)
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(args.dry_run or Path(scratch, "bundle"))
        build_bundle(checkpoint, args.repo_id, folder, args.license, args.dataset)
        verify_bundle(checkpoint, folder)
        size = sum(file.stat().st_size for file in folder.iterdir())
        print(f"{len(list(folder.iterdir()))} files, {size / 2**20:.1f} MiB; they load and agree without videomae_hf.")
        if args.dry_run:
            print(f"Dry run: nothing uploaded. Look at {folder}; without --dry_run it goes to {args.repo_id}.")
        else:
            print(upload(folder, args.repo_id, args.private, args.revision, args.create_pr, args.commit_message))


if __name__ == "__main__":
    run_command("push_to_hub.py", main, sys.argv[1:])

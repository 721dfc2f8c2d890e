# Copyright 2026 The videomae_hf authors. Licensed under the Apache License, Version 2.0.
"""Ships a checkpoint to the Hub as a folder that loads without this package; this is verified before the upload.

    videomae push output/finetune me/my-videomae
    videomae push output/finetune me/my-videomae --dry_run bundle

The folder holds the weights (safetensors), configuration, processor, the Python files they need, and a model card.
Before anything is uploaded, another process, in which `videomae_hf` cannot be imported, loads the folder with
`trust_remote_code=True` and must compute the same output. The token is that of `hf auth login`, or HF_TOKEN.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

import torch
from huggingface_hub import HfApi
from huggingface_hub.utils import validate_repo_id
from safetensors.torch import save_file

from ..checkpoints.model_card import AUTO_CLASSES, Checkpoint, model_card
from ..checkpoints.opening import checkpoint_processor, open_checkpoint
from ..checkpoints.run_folders import read_record
from ..text_files import read_json, read_yaml


# The program of the other process. The package cannot be imported there, and the network is not used.
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


def read_checkpoint(source: str, metrics_file: str | None) -> Checkpoint:
    """Reads a checkpoint to ship, with the records of its training.

    Raises:
        ValueError: the head of a classifier was never trained, or files next to the checkpoint are not as training
            writes them.
        FileNotFoundError: the metrics file does not exist.
    """
    model, _ = open_checkpoint(source, dtype="auto")
    model.eval()
    if model.new_parts:
        raise ValueError(
            f"{source} has no trained {' and '.join(model.new_parts)} and cannot be shipped: train it first."
        )
    metrics = Path(metrics_file or Path(source, "all_results.json"))
    if metrics_file and not metrics.is_file():
        raise FileNotFoundError(
            f"The metrics file {metrics_file} does not exist; `videomae evaluate` writes metrics.json."
        )
    record = read_record(source) or {}
    return Checkpoint(
        source=source,
        model=model,
        processor=checkpoint_processor(source, model.config),
        settings=read_yaml(Path(source, "settings.yaml")) if Path(source, "settings.yaml").is_file() else {},
        metrics=_mapping(read_json(metrics), metrics) if metrics.is_file() else {},
        base_model=record.get("base_model"),
    )


def _mapping(content, file: Path) -> dict:
    if not isinstance(content, dict):
        raise ValueError(f"{file} must be a mapping of names to numbers.")
    return content


def build_bundle(
    checkpoint: Checkpoint, repo_id: str, folder: Path, license_name: str | None, dataset: str | None
) -> None:
    """Writes all files of the repository to `folder`, which must be empty or new."""
    if folder.exists() and any(folder.iterdir()):
        raise ValueError(f"{folder} is not empty; choose a new folder, so that no old file is shipped.")
    checkpoint.model.save_pretrained(folder)
    checkpoint.processor.save_pretrained(folder)
    # `save_pretrained` lists only the saved class. The others load from the same files, with new weights for the heads
    # that the checkpoint lacks.
    config_file = folder / "config.json"
    config = json.loads(config_file.read_text(encoding="utf-8"))
    file = config["auto_map"][checkpoint.auto_class].split(".")[0]
    config["auto_map"].update({auto: f"{file}.{name}" for name, auto in AUTO_CLASSES.items()})
    config_file.write_text(json.dumps(config, indent=2) + "\n", encoding="utf-8")
    model_card(checkpoint, repo_id, license_name, dataset).save(folder / "README.md")


@torch.no_grad()
def verify_bundle(checkpoint: Checkpoint, folder: Path) -> None:
    """Loads the folder in a process without this package and compares its output with that of the checkpoint.

    Raises:
        ValueError: the folder does not load there, or its model computes a different output.
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


def upload(folder: Path, repo_id: str, revision: str | None, message: str, *, private: bool, create_pr: bool) -> str:
    """Uploads all files in one commit; returns its URL."""
    api = HfApi()
    repo_id = api.create_repo(repo_id, private=private, exist_ok=True).repo_id
    if revision:
        api.create_branch(repo_id, branch=revision, exist_ok=True)
    commit = api.upload_folder(
        repo_id=repo_id, folder_path=folder, commit_message=message, revision=revision, create_pr=create_pr
    )
    return commit.pr_url or commit.commit_url


def license_hint(checkpoint: Checkpoint) -> str:
    """A message about the licence that the model card lacks."""
    if (checkpoint.base_model or "").startswith("MCG-NJU/"):
        return f"No licence is stated; training started from {checkpoint.base_model} (cc-by-nc-4.0): set --license."
    return "The model card states no licence; set one with --license."


def parse_arguments(arguments: list[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="videomae push", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("checkpoint", help="folder or Hub id of a model of this package or of transformers' VideoMAE")
    parser.add_argument("repo_id", help="user/name on the Hub")
    parser.add_argument("--dry_run", metavar="DIR", help="build and verify the folder in DIR, without uploading it")
    parser.add_argument("--metrics", metavar="FILE", help="metrics.json of `videomae evaluate`, for the model card")
    parser.add_argument("--dataset", help="name of the data set, for the model card")
    parser.add_argument("--license", help="licence of the weights, for the model card: apache-2.0, cc-by-nc-4.0, ...")
    parser.add_argument("--private", action="store_true", help="make the repository private, if it is new")
    parser.add_argument("--revision", help="branch to push to; created if it does not exist")
    parser.add_argument("--create_pr", action="store_true", help="open a pull request")
    parser.add_argument("--commit_message", default="Upload with videomae_hf")
    return parser.parse_args(arguments)


def main(arguments: list[str]) -> None:
    args = parse_arguments(arguments)
    validate_repo_id(args.repo_id)
    checkpoint = read_checkpoint(args.checkpoint, args.metrics)
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(args.dry_run or Path(scratch, "bundle"))
        build_bundle(checkpoint, args.repo_id, folder, args.license, args.dataset)
        verify_bundle(checkpoint, folder)
        size = sum(file.stat().st_size for file in folder.iterdir())
        if args.license is None:
            print(license_hint(checkpoint))
        print(f"{len(list(folder.iterdir()))} files, {size / 2**20:.1f} MiB; verified without videomae_hf.")
        if args.dry_run:
            print(f"Dry run: nothing was uploaded. {folder} is ready; without --dry_run it goes to {args.repo_id}.")
        else:
            visibility = {"private": args.private, "create_pr": args.create_pr}
            print(upload(folder, args.repo_id, args.revision, args.commit_message, **visibility))

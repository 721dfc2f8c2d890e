# Copyright 2026 The videomae_hf authors. Licensed under the Apache License, Version 2.0.
"""Builds the folder of a checkpoint for the Hub, and verifies that it loads without this package.

The folder holds weights (safetensors), configuration, processor, the Python files that they need and a model card.
`videomae push` and the Trainer upload the same folder. It has no pickle, no path and no name of this machine.
"""

import io
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import torch
from huggingface_hub import get_token
from safetensors.torch import save_file

from ..models.adapters import ADAPTER_CONFIG
from ..models.checkpoint_files import read_mapping
from ..text_files import read_json, read_yaml, write_text
from .card_pictures import MOST_CLASSES, confusion_picture, last_reconstructions
from .licences import origin_of
from .model_card import AUTO_CLASSES, Checkpoint, Publication, example_name, is_path, model_card
from .opening import checkpoint_processor, open_checkpoint
from .run_folders import (
    EVALUATION_SETTINGS,
    RECORD,
    SETTINGS,
    STATE,
    list_files,
    read_record,
    run_folder,
    static_tokens,
)
from .transformers_export import save_transformers
from .video_text import is_video_text, open_video_text
from .video_text_bundle import VERIFY as VERIFY_VIDEO_TEXT
from .video_text_bundle import complete_video_text, name_backbone, video_text_sample
from .video_text_card import video_text_card


# The program of the other process. The package cannot be imported there, and the network is not used.
VERIFY = """
import sys
sys.modules["videomae_hf"] = None
import torch
from safetensors.torch import load_file
import transformers
from transformers.models.auto.image_processing_auto import AutoImageProcessor
from transformers.models.auto.video_processing_auto import AutoVideoProcessor
folder, sample, auto_class = sys.argv[1:]
options = {"trust_remote_code": True, "local_files_only": True}
model = getattr(transformers, auto_class).from_pretrained(folder, dtype="auto", **options).eval()
sample = load_file(sample)
for processor_class in (AutoImageProcessor, AutoVideoProcessor):
    processor = processor_class.from_pretrained(folder, **options)
    inputs = processor(sample["video"], return_tensors="pt").to(model.dtype)
    with torch.no_grad():
        found = model(**inputs, **({"seed": 0} if auto_class == "AutoModelForPreTraining" else {}))
    found = found["last_hidden_state" if auto_class == "AutoModel" else "logits"]
    torch.testing.assert_close(found, sample["output"], rtol=1e-4, atol=1e-5)
"""
_METRICS = ("metrics.json", "all_results.json")  # next to a checkpoint, in order of preference
_PICTURES = "pictures"  # their folder in the repository
_TEXT = (".json", ".md", ".py", ".txt", ".yaml")


def read_checkpoint(source: str, metrics_file: str | None = None) -> Checkpoint:
    """Reads a checkpoint to ship, with the records of its training.

    Args:
        source: folder or Hub id, also of a checkpoint within the output folder of a run, or of adapters.
        metrics_file: metrics.json of `videomae evaluate`; by default that in `source`, or the scores of its training.

    Raises:
        ValueError: the head of a classifier was never trained, or files next to the checkpoint are not as training
            writes them.
        FileNotFoundError: the metrics file does not exist.
    """
    if is_video_text(source):
        model, processor = open_video_text(source, dtype="auto")
    else:
        model, _ = open_checkpoint(source, dtype="auto")
        processor = checkpoint_processor(source, model.config)
    model.eval()
    if model.new_parts:
        raise ValueError(
            f"{source} has no trained {' and '.join(model.new_parts)} and cannot be shipped: train it first."
        )
    run = run_folder(source)
    states = [folder / STATE for folder in (Path(source), Path(source).parent, run) if _within(folder, run)]
    state = next((read_mapping(file) for file in states if file.is_file()), {})
    history = state.get("log_history")
    history = [entry for entry in history if isinstance(entry, dict)] if isinstance(history, list) else []
    return Checkpoint(
        source=source,
        model=model,
        processor=processor,
        settings=_settings(run),
        metrics=_metrics(source, metrics_file, history, model),
        scored_with=_scored_with(source, metrics_file, run),
        history=history,
        origin=origin_of(source),
    )


def _within(folder: Path, run: Path) -> bool:
    return folder.absolute().is_relative_to(run.absolute())


def _settings(run: Path) -> dict:
    """The settings of a run: settings.yaml, which it writes at its end, or those in its record."""
    if (run / SETTINGS).is_file():
        return read_yaml(run / SETTINGS)
    settings = (read_record(run) or {}).get("settings")
    return settings if isinstance(settings, dict) else {}


def _scored_with(source: str, metrics_file: str | None, run: Path) -> dict[str, float]:
    """The part of the tokens of the evaluation whose metrics are taken or, without one, of the training."""
    evaluated = Path(metrics_file) if metrics_file else Path(source, _METRICS[0])
    return static_tokens(evaluated.with_name(EVALUATION_SETTINGS) if evaluated.is_file() else run / SETTINGS)


def _metrics(source: str, metrics_file: str | None, history: list[dict], model: torch.nn.Module) -> dict:
    if metrics_file and not Path(metrics_file).is_file():
        raise FileNotFoundError(
            f"The metrics file {metrics_file} does not exist; `videomae evaluate` writes metrics.json."
        )
    files = [Path(metrics_file)] if metrics_file else [Path(source, name) for name in _METRICS]
    file = next((path for path in files if path.is_file()), None)
    if file is None:  # the scores of the last step, if it was evaluated
        last = [entry for entry in history if entry.get("step") == history[-1].get("step")]
        return next((entry for entry in last if "eval_loss" in entry), {})
    metrics = read_json(file)
    if not isinstance(metrics, dict):
        raise ValueError(f"{file} must be a mapping of names to numbers.")
    names = metrics.get("classes", metrics.get("targets"))
    if isinstance(names, list) and names != _label_names(model):
        raise ValueError(f"{file} is of a model with other classes than {source}; evaluate this model.")
    return metrics


def _label_names(model: torch.nn.Module) -> list[str]:
    return [model.config.id2label[number] for number in range(model.config.num_labels)]


def build_bundle(checkpoint: Checkpoint, publication: Publication, folder: Path) -> None:
    """Writes all files of the repository to `folder`, which must be empty or new.

    Raises:
        ValueError: the folder is not empty, the licence is freer than the inherited one, or a file would make
            something private public.
    """
    refuse_filled(folder)
    if checkpoint.is_video_text:
        return _build_video_text(checkpoint, publication, folder)
    if publication.backbone is not None:
        raise ValueError(f"{checkpoint.source} is not a VideoBERT: leave --backbone {publication.backbone} out.")
    if publication.example is not None:
        checkpoint.processor(str(publication.example))  # raises for a file that is not a video
    pictures = _pictures(checkpoint, publication)
    card = model_card(checkpoint, publication, {caption: place for place, (caption, _) in pictures.items()})
    _save_model(checkpoint, publication, folder)
    checkpoint.processor.save_pretrained(folder)
    # `save_pretrained` lists only the saved class. The others load from the same files, with new weights for the heads
    # that the checkpoint lacks.
    config = read_mapping(folder / "config.json")
    file = config["auto_map"][checkpoint.auto_class].split(".")[0]
    config["auto_map"].update({auto: f"{file}.{name}" for name, auto in AUTO_CLASSES.items()})
    write_text(folder / "config.json", json.dumps(config, indent=2) + "\n")
    write_text(folder / "README.md", card)
    for place, (_, content) in pictures.items():
        (folder / place).parent.mkdir(exist_ok=True)
        (folder / place).write_bytes(content)
    if publication.example is not None:
        shutil.copyfile(publication.example, folder / example_name(publication.example))
    refuse_private(folder)


def _build_video_text(checkpoint: Checkpoint, publication: Publication, folder: Path) -> None:
    if publication.example is not None or publication.reconstructions:
        raise ValueError(f"{checkpoint.source} is a VideoBERT: leave --example and --reconstructions out.")
    name_backbone(checkpoint, publication)
    card = video_text_card(checkpoint, publication)
    _save_model(checkpoint, publication, folder)
    checkpoint.processor.save_pretrained(folder)
    complete_video_text(folder)
    write_text(folder / "README.md", card)
    refuse_private(folder)


def refuse_filled(folder: Path) -> None:
    """Raises ValueError for a folder that is not empty."""
    if folder.exists() and any(folder.iterdir()):
        raise ValueError(f"{folder} is not empty; choose a new folder, so that no old file is shipped.")


def _save_model(checkpoint: Checkpoint, publication: Publication, folder: Path) -> None:
    size = publication.max_shard_size
    checkpoint.model.save_pretrained(folder, **({} if size is None else {"max_shard_size": size}))


def _pictures(checkpoint: Checkpoint, publication: Publication) -> dict[str, tuple[str, bytes]]:
    """Place in the repository -> (caption, content of the file) of each picture of the card."""
    found, matrix, names = {}, checkpoint.metrics.get("confusion_matrix"), _label_names(checkpoint.model)
    if matrix is not None and len(names) <= MOST_CLASSES:
        content = io.BytesIO()
        confusion_picture(matrix, names).save(content, "PNG")
        caption = "Confusion matrix: a row for each true class, a column for each predicted one."
        found[f"{_PICTURES}/confusion_matrix.png"] = (caption, content.getvalue())
    if publication.reconstructions:
        paths = last_reconstructions(run_folder(checkpoint.source), publication.reconstructions)
        for number, path in enumerate(paths, start=1):
            caption = f"Reconstruction {number} of {len(paths)}, of a video of the run."
            found[f"{_PICTURES}/reconstruction_{number}.png"] = (caption, path.read_bytes())
    return found


def build_transformers_copy(checkpoint: Checkpoint, publication: Publication, folder: Path) -> list[str]:
    """Writes a copy in transformers' own classes, with a card, to `folder`, which must be empty or new.

    Returns:
        Lines about its differences.

    Raises:
        ValueError: transformers' VideoMAE cannot express the model, or gives other outputs.
    """
    refuse_filled(folder)
    if checkpoint.is_video_text:
        raise ValueError(
            f"{checkpoint.source} is a VideoBERT, which transformers lacks: leave --also_transformers out."
        )
    differences = save_transformers(checkpoint.model, checkpoint.processor, folder)
    write_text(folder / "README.md", model_card(checkpoint, publication, differences=differences))
    refuse_private(folder)
    return differences


def refuse_private(folder: Path) -> None:
    """Raises ValueError if a text file in a folder has the token for the Hub, or a path in the home folder."""
    token, home = get_token(), re.escape(str(Path.home()).rstrip("/\\"))
    patterns = {"the token for the Hub": re.escape(token) if token else None, "a path in your home folder": None}
    if home:
        patterns["a path in your home folder"] = rf"{home}[/\\]"
    for path in sorted(folder.rglob("*")):
        if path.suffix not in _TEXT:
            continue
        text = path.read_text(encoding="utf-8", errors="replace")
        name = next((name for name, pattern in patterns.items() if pattern and re.search(pattern, text)), None)
        if name is not None:
            raise ValueError(f"{path.relative_to(folder)} has {name}, which would become public; remove it.")


def verify_bundle(checkpoint: Checkpoint, folder: Path) -> None:
    """Loads the folder in a process without this package and compares its output with that of the checkpoint.

    Raises:
        ValueError: the folder does not load there, or its model computes a different output.
    """
    if checkpoint.is_video_text:
        program, (content, auto_classes) = VERIFY_VIDEO_TEXT, video_text_sample(checkpoint, folder)
    else:
        program, content, auto_classes = VERIFY, _sample(checkpoint), checkpoint.auto_class
    with tempfile.TemporaryDirectory() as scratch:
        sample = Path(scratch, "sample.safetensors")
        save_file(content, sample)
        environment = {**os.environ, "HF_MODULES_CACHE": str(Path(scratch, "modules")), "HF_HUB_OFFLINE": "1"}
        command = [sys.executable, "-c", program, str(folder.resolve()), str(sample), auto_classes]
        done = subprocess.run(command, cwd=scratch, env=environment, capture_output=True, text=True)
    if done.returncode:
        reason = done.stderr.strip().splitlines()[-1] if done.stderr.strip() else f"exit status {done.returncode}"
        raise ValueError(f"{folder} does not work without videomae_hf: {reason}")


@torch.no_grad()
def _sample(checkpoint: Checkpoint) -> dict[str, torch.Tensor]:
    """A video of noise and the output of the model for it."""
    processor, model = checkpoint.processor, checkpoint.model
    shape = (processor.num_frames, 48, 64, model.config.num_channels)  # (T, H, W, C)
    video = torch.randint(256, shape, generator=torch.Generator().manual_seed(0), dtype=torch.uint8)
    inputs = processor(video, return_tensors="pt").to(model.dtype)
    outputs = model(**inputs, **({"seed": 0} if checkpoint.auto_class == "AutoModelForPreTraining" else {}))
    output = outputs["last_hidden_state" if checkpoint.auto_class == "AutoModel" else "logits"]
    return {"video": video, "output": output.contiguous()}


def copy_to_resume(checkpoint: Path, folder: Path) -> None:
    """Copies a checkpoint, for runs that resume from the Hub, without the paths and the pickled arguments of the run.

    Large files are linked where the file system allows it. What remains of pickles holds tensors and random states,
    and is read as such.
    """
    shutil.copytree(
        checkpoint, folder, copy_function=_link, ignore=shutil.ignore_patterns("training_args.bin", "README.md")
    )
    for name, public in _PUBLIC_CONTENT.items():
        for path in sorted(folder.rglob(name)):
            content = public(read_mapping(path))
            path.unlink()  # a link to the file of the checkpoint would be written through
            write_text(path, json.dumps(content, indent=2) + "\n")
    record = read_record(folder)
    if record is not None and "files" in record:
        record["files"] = list_files(folder)
        write_text(folder / RECORD, json.dumps(record, indent=1))


def _link(source: str, destination: str) -> None:
    try:
        os.link(source, destination)
    except OSError:  # another file system, or one without links
        shutil.copyfile(source, destination)


def _public_state(state: dict) -> dict:
    best = state.get("best_model_checkpoint")
    return {**state, "best_model_checkpoint": Path(best).name if isinstance(best, str) else None}


def _public_record(record: dict) -> dict:
    """The record without settings that are paths; a run that resumes does not compare those that are missing."""
    settings = record.get("settings")
    settings = settings if isinstance(settings, dict) else {}
    return {**record, "settings": {name: value for name, value in settings.items() if not is_path(value)}}


def _public_adapter(config: dict) -> dict:
    base = config.get("base_model_name_or_path")
    is_local = isinstance(base, str) and (os.path.isabs(base) or Path(base).exists())
    return {**config, "base_model_name_or_path": None if is_local else base}


_PUBLIC_CONTENT = {STATE: _public_state, RECORD: _public_record, ADAPTER_CONFIG: _public_adapter}

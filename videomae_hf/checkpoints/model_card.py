# Copyright 2026 The videomae_hf authors. Licensed under the Apache License, Version 2.0.
"""Writes the model card of a checkpoint, with nothing private and no markup from data; model_card.md is the template.

Settings come from an allow-list, since paths and host names of this machine do not belong in a card. Class names and
values are shown as code, where HTML and Markdown have no effect.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from importlib.resources import files
from pathlib import Path
from string import Template

import torch
from huggingface_hub import EvalResult, ModelCardData

from ..models.configuration_videomae_v2 import VideoMAEV2Config
from ..models.image_processing_videomae_v2 import VideoMAEV2ImageProcessor
from ..models.modeling_videobert import VideoBertPreTrainedModel
from ..models.processing_videobert import VideoBertProcessor
from ..settings.groups import LEARNING_ARGUMENTS, LEARNING_SETTINGS
from .licences import Origin, licence_to_state, terms
from .video_text import VIDEO_TEXT_CLASSES


AUTO_CLASSES = {
    "VideoMAEV2ForVideoClassification": "AutoModelForVideoClassification",
    "VideoMAEV2ForPreTraining": "AutoModelForPreTraining",
    "VideoMAEV2Model": "AutoModel",
}
SHOWN_SETTINGS = frozenset(
    {
        *LEARNING_SETTINGS, *LEARNING_ARGUMENTS,
        *(VideoMAEV2Config.__annotations__.keys() - {"label_mappings"}),
        "problem_type", "base_learning_rate", "base_min_learning_rate",
        "model_size", "model_version", "multi_label", "bf16", "fp16", "per_device_train_batch_size",
        "gradient_accumulation_steps", "fsdp2", "torch_compile", "activation_checkpointing", "evaluate_ema",
    }
)  # fmt: skip
# The metrics of an evaluation: (name in the `evaluate` library, displayed name)
SCORES = {
    "top1": ("accuracy", "top-1 accuracy"),
    "top5": ("accuracy", "top-5 accuracy"),
    "mean_class_accuracy": ("accuracy", "mean class accuracy"),
    "mean_average_precision": ("mean_average_precision", "mean average precision"),
    "micro_f1": ("f1", "micro F1"),
    "mae": ("mae", "mean absolute error"),
    "rmse": ("rmse", "root mean squared error"),
    "r2": ("r_squared", "R2"),
}
_IN_PERCENT = ("top1", "top5", "mean_class_accuracy", "mean_average_precision", "micro_f1", "knn_top1", "explained")
# Columns of the table of the training: (name in the log, heading)
_PROGRESS = {
    "loss": "training loss",
    "eval_loss": "evaluation loss",
    **{f"eval_{key}": heading for key, (_, heading) in SCORES.items()},
    "eval_knn_top1": "k-NN top-1 of the encoder",
    "eval_explained": "explained beyond trivial predictors",
}
_PROGRESS_ROWS = 20
TRANSFORMERS_BRANCH = "transformers"  # of the copy for transformers' own classes
EXAMPLE = "example"  # stem of the example video in the repository

CODE = """\
The code travels with the weights: `trust_remote_code=True` runs the Python files of this repository, which are licensed
under Apache-2.0. With the package `videomae_hf` installed and imported the same lines work without it."""
CITATION = """\
@inproceedings{tong2022videomae,
  title = {VideoMAE: Masked Autoencoders are Data-Efficient Learners for Self-Supervised Video Pre-Training},
  author = {Tong, Zhan and Song, Yibing and Wang, Jue and Wang, Limin},
  booktitle = {Advances in Neural Information Processing Systems},
  year = {2022},
  url = {https://arxiv.org/abs/2203.12602}
}
@inproceedings{wang2023videomaev2,
  title = {VideoMAE V2: Scaling Video Masked Autoencoders with Dual Masking},
  author = {Wang, Limin and Huang, Bingkun and Zhao, Zhiyu and Tong, Zhan and He, Yinan and Wang, Yi and Wang, Yali and
            Qiao, Yu},
  booktitle = {CVPR},
  year = {2023},
  url = {https://arxiv.org/abs/2303.16727}
}"""
_NO_CODE = """\
This branch holds a copy for the VideoMAE classes of transformers, which needs no code of this repository. The branch
`main` samples the frames of a video as in training; here, they are those that you pass."""

USAGE = {
    "AutoModelForVideoClassification": """\
from transformers import AutoImageProcessor, AutoModelForVideoClassification, pipeline

classify = pipeline("video-classification", model="{repo}", trust_remote_code=True)
print(classify("video.mp4"))

processor = AutoImageProcessor.from_pretrained("{repo}", trust_remote_code=True)
model = AutoModelForVideoClassification.from_pretrained("{repo}", trust_remote_code=True)
logits = model(**processor("video.mp4", return_tensors="pt")).logits""",
    "AutoModelForPreTraining": """\
from transformers import AutoImageProcessor, AutoModelForPreTraining

processor = AutoImageProcessor.from_pretrained("{repo}", trust_remote_code=True)
model = AutoModelForPreTraining.from_pretrained("{repo}", trust_remote_code=True)
outputs = model(**processor("video.mp4", return_tensors="pt"))  # samples the masks itself
print(outputs.loss, outputs.logits.shape)""",
    "AutoModel": """\
from transformers import AutoImageProcessor, AutoModel

processor = AutoImageProcessor.from_pretrained("{repo}", trust_remote_code=True)
model = AutoModel.from_pretrained("{repo}", trust_remote_code=True)
features = model(**processor("video.mp4", return_tensors="pt")).last_hidden_state""",
}
# Replaced in the lines above for models of images
_OF_IMAGES = {
    "AutoModelForVideoClassification": "AutoModelForImageClassification",
    "video-classification": "image-classification",
    "video.mp4": "image.jpg",
}
_PLAIN_USAGE = """\
from transformers import AutoImageProcessor, {auto}

processor = AutoImageProcessor.from_pretrained("{repo}", revision="{branch}")
model = {auto}.from_pretrained("{repo}", revision="{branch}")
inputs = processor(frames, return_tensors="pt")  # a list of {num_frames} images"""


@dataclass
class Checkpoint:
    """A checkpoint and the records of its training.

    Args:
        source: folder or Hub id.
        model, processor: the loaded model and processor.
        settings: the settings of the training run; {} if they are unknown.
        metrics: the metrics of `videomae evaluate`, or the last ones of the training run.
        scored_with: by which settings a part of the tokens was encoded for the metrics; {} for all tokens.
        history: the entries of the training log, from trainer_state.json.
        origin: the weights of others that training started from.
    """

    source: str
    model: torch.nn.Module
    processor: VideoMAEV2ImageProcessor | VideoBertProcessor
    settings: dict = field(default_factory=dict)
    metrics: dict = field(default_factory=dict)
    scored_with: dict[str, float] = field(default_factory=dict)
    history: Sequence[dict] = ()
    origin: Origin = Origin()

    @property
    def auto_class(self) -> str:
        return {**AUTO_CLASSES, **VIDEO_TEXT_CLASSES}[type(self.model).__name__]

    @property
    def is_video_text(self) -> bool:
        """Whether it is a VideoBERT checkpoint."""
        return isinstance(self.model, VideoBertPreTrainedModel)

    @property
    def medium(self) -> str:
        """What the model takes: `"video"`, or `"image"` for clips of one frame."""
        return "image" if self.model.config.num_frames == 1 else "video"

    @property
    def task(self) -> str:
        """The name of the classification task on the Hub."""
        return f"{self.medium}-classification"


@dataclass(frozen=True)
class Publication:
    """What the author of a repository states and chooses.

    Args:
        repo_id: the repository on the Hub.
        license: licence of the weights; None states the inherited one, or none.
        license_override: accept a licence that is freer than the inherited one.
        dataset: name of the data set.
        example: a video for the widget, which is uploaded too.
        reconstructions: number of pictures of reconstructions; they show frames of the run's videos.
        max_shard_size: largest file of weights, such as `"5GB"`; None is the default of transformers.
        backbone: Hub id of the checkpoint whose features a VideoBERT takes; None is that of its configuration.
    """

    repo_id: str
    license: str | None = None
    license_override: bool = False
    dataset: str | None = None
    example: Path | None = None
    reconstructions: int = 0
    max_shard_size: str | None = None
    backbone: str | None = None


def model_card(
    checkpoint: Checkpoint,
    publication: Publication,
    pictures: Mapping[str, str] | None = None,
    differences: Sequence[str] | None = None,
) -> str:
    """The text of README.md.

    Args:
        checkpoint: the checkpoint to describe.
        publication: what its author states.
        pictures: caption of each picture -> its place in the repository.
        differences: for a copy in transformers' own classes, lines about its differences; otherwise None.

    Raises:
        ValueError: a metric is not a number, or the licence lacks terms of the inherited one.
    """
    name = publication.repo_id.split("/")[-1]
    license_name = licence_to_state(publication.license, checkpoint.origin, override=publication.license_override)
    scores = {key: _number(checkpoint.metrics, key) for key in SCORES if f"eval_{key}" in checkpoint.metrics}
    results = table({SCORES[key][1]: _shown_score(key, value) for key, value in scores.items()})
    progress = progress_table(checkpoint.history)
    settings = table({name: as_code(value) for name, value in public_settings(checkpoint.settings).items()})
    shown = "\n\n".join(f"![{caption}]({place})\n\n{caption}" for caption, place in (pictures or {}).items())
    body = card_template().substitute(
        name=name,
        summary=_summary(checkpoint),
        usage=_usage(checkpoint, publication, plain=differences is not None),
        code=CODE if differences is None else "\n".join([_NO_CODE, "", *(f"- {line.strip()}" for line in differences)]),
        data=_data_section(checkpoint, publication.dataset),
        results="\n\n".join(filter(None, [results or "Not stated.", _part_of_tokens(checkpoint), shown])),
        training="\n\n".join(filter(None, [progress, settings])) or "Not stated.",
        licence=licence_section(license_name, publication, checkpoint.origin),
        citation=CITATION,
    )
    header = _header(checkpoint, publication, license_name, scores)
    return f"---\n{header.to_yaml().strip()}\n---\n\n{body}"


def _part_of_tokens(checkpoint: Checkpoint) -> str:
    """What must be set for the scores of a model that was scored with a part of the tokens."""
    given = ", ".join(f"{name}={value:g}" for name, value in checkpoint.scored_with.items())
    options = given.replace("=", " ")
    return given and (
        f"These scores are with a part of the tokens, `{given}`. The model encodes all of them unless that is set: "
        f"`videomae predict MODEL VIDEO --{options}`, or `select_tokens(model, {given})` of "
        f"`videomae_hf.models.token_selection`."
    )


def card_template() -> Template:
    """The body of a card, with a place for each section."""
    return Template(files(__package__).joinpath("model_card.md").read_text(encoding="utf-8"))


def _header(
    checkpoint: Checkpoint, publication: Publication, license_name: str | None, scores: dict[str, float]
) -> ModelCardData:
    """The metadata of a card, with the scores as the Hub's model-index."""
    dataset = publication.dataset
    results = [
        EvalResult(
            task_type=checkpoint.task,
            dataset_type=dataset or "unknown",
            dataset_name=dataset or "not stated",
            metric_type=SCORES[key][0],
            metric_name=SCORES[key][1],
            metric_value=round(value, 5),
        )
        for key, value in scores.items()
    ]
    widget = {}
    if publication.example is not None:
        place = f"https://huggingface.co/{publication.repo_id}/resolve/main/{example_name(publication.example)}"
        widget = {"widget": [{"src": place, "example_title": "Example"}]}
    return ModelCardData(
        license=license_name,
        library_name="transformers",
        pipeline_tag=checkpoint.task if checkpoint.auto_class == "AutoModelForVideoClassification" else None,
        tags=["videomae", checkpoint.medium, "masked-autoencoder" if _is_v1(checkpoint) else "dual-masking"],
        model_name=publication.repo_id.split("/")[-1],
        base_model=checkpoint.origin.base_model,
        eval_results=results or None,
        **widget,
    )


def example_name(video: Path) -> str:
    """The name of the example video in the repository, which does not show that of the file."""
    return f"{EXAMPLE}{video.suffix.lower()}"


def _usage(checkpoint: Checkpoint, publication: Publication, *, plain: bool) -> str:
    auto, repo = checkpoint.auto_class, publication.repo_id
    if not plain:
        usage = USAGE[auto].format(repo=repo)
        if checkpoint.medium == "image":
            for video, image in _OF_IMAGES.items():
                usage = usage.replace(video, image)
        return usage
    num_frames = checkpoint.model.config.num_frames
    return _PLAIN_USAGE.format(auto=auto, repo=repo, branch=TRANSFORMERS_BRANCH, num_frames=num_frames)


def licence_section(license_name: str | None, publication: Publication, origin: Origin) -> str:
    if license_name is None:
        return "None was stated for the weights."
    source = as_code(origin.base_model) if origin.base_model else "the weights that training started from"
    text = f"{as_code(license_name)}, for the weights"
    if publication.license is None:
        text += f", inherited from {source}"
    elif publication.license_override and origin.license not in (None, license_name):
        text += f", as stated by the author; {source} is licensed under {as_code(origin.license)}"
    if "nc" in (terms(license_name) or ()):
        text += ". It does not allow commercial use"
    return f"{text}."


def progress_table(history: Sequence[dict]) -> str:
    """The losses and scores over a training: its evaluations or, without any, its log; "" without either."""
    rows, loss = [], None
    evaluated = any("eval_loss" in entry for entry in history)
    for entry in history:
        loss = entry.get("loss", loss)
        if ("eval_loss" if evaluated else "loss") in entry:
            rows.append({"step": entry.get("step"), "epoch": entry.get("epoch"), "loss": loss, **entry})
    spread = max(len(rows) - 1, 1) / max(min(len(rows), _PROGRESS_ROWS) - 1, 1)
    rows = [rows[round(number * spread)] for number in range(min(len(rows), _PROGRESS_ROWS))]
    columns = [key for key in ("step", "epoch", *_PROGRESS) if any(is_number(row.get(key)) for row in rows)]
    if not rows or not columns:
        return ""
    lines = ["| " + " | ".join(_PROGRESS.get(key, key) for key in columns) + " |", "|---" * len(columns) + "|"]
    lines += ["| " + " | ".join(_progress_cell(key, row.get(key)) for key in columns) + " |" for row in rows]
    return "\n".join(lines)


def _progress_cell(key: str, value) -> str:
    if not is_number(value):
        return ""
    if key == "step":
        return f"{value:,.0f}"
    return f"{value:.4g}" if key in ("epoch", "loss", "eval_loss") else _shown_score(key.removeprefix("eval_"), value)


def is_number(value) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def _number(metrics: dict, key: str) -> float:
    value = metrics[f"eval_{key}"]
    if not is_number(value):
        raise ValueError(f"The metrics have eval_{key}={value!r:.40}, which is not a number.")
    return float(value)


def _shown_score(key: str, value: float) -> str:
    return f"{100 * value:.2f} %" if key in _IN_PERCENT else f"{value:.4g}"


def _is_v1(checkpoint: Checkpoint) -> bool:
    return checkpoint.model.config.decoder_mask_ratio == 0


def public_settings(settings: dict) -> dict:
    """The settings that may be public, without the names of files."""
    kept = {name: value for name, value in settings.items() if name in SHOWN_SETTINGS and value is not None}
    return {name: value for name, value in kept.items() if not is_path(value)}


def is_path(value) -> bool:
    return isinstance(value, str) and ("/" in value or "\\" in value)


def as_code(value) -> str:
    """Text as Markdown code, for use inside or outside tables.

    >>> as_code("a|b`<script>")
    "`a\\\\|b'<script>`"
    """
    text = " ".join(str(value).split()).replace("`", "'").replace("|", "\\|")
    return f"`{text[:200]}`" if text else "` `"


def _summary(checkpoint: Checkpoint) -> str:
    config = checkpoint.model.config
    parameters = sum(parameter.numel() for parameter in checkpoint.model.parameters())
    medium = checkpoint.medium
    version = "VideoMAE" if _is_v1(checkpoint) else "VideoMAE V2 (dual masking)"
    if medium == "image":
        version = "MAE" if checkpoint.auto_class == "AutoModelForPreTraining" else "Vision Transformer"
    kind = {
        "AutoModelForVideoClassification": f"classifies {medium}s into {config.num_labels} classes",
        "AutoModelForPreTraining": "a masked autoencoder, to be finetuned",
        "AutoModel": f"an encoder of {medium}s",
    }[checkpoint.auto_class]
    if config.problem_type == "regression":
        kind = f"predicts {config.num_labels} numbers for {'an image' if medium == 'image' else 'a video'}"
    height, width = config.image_hw
    clips = "images" if medium == "image" else f"clips of {config.num_frames} frames"
    return (
        f"{version}: {kind}. {parameters:,} parameters, {config.num_hidden_layers} layers of width "
        f"{config.hidden_size}, {clips} of {height} x {width} pixels."
    )


def _data_section(checkpoint: Checkpoint, dataset: str | None) -> str:
    processor = checkpoint.processor
    pace = f"at {processor.fps:g} per second" if processor.fps else f"{processor.sampling_rate:g} apart"
    if processor.frame_sampling == "uniform":
        pace = "spread over the whole video"
    stated = as_code(dataset) if dataset else "not stated"
    lines = [f"- Trained and scored on: {stated}"]
    if checkpoint.medium == "video":
        lines.append(f"- Clips: {processor.num_frames} frames, {pace}")
    if checkpoint.auto_class == "AutoModelForVideoClassification":
        names = [as_code(name) for name in checkpoint.model.config.id2label.values()]
        what = "Targets" if checkpoint.model.config.problem_type == "regression" else "Classes"
        more = f", .. ({len(names)} in total)" if len(names) > 20 else ""
        lines.append(f"- {what}: {', '.join(names[:20])}{more}")
    return "\n".join(lines)


def table(rows: dict[str, str]) -> str:
    return "\n".join(["| | |", "|---|---|", *(f"| {name} | {value} |" for name, value in rows.items())]) if rows else ""

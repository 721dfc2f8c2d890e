# Copyright 2026 The videomae_hf authors. Licensed under the Apache License, Version 2.0.
"""Writes the model card of a checkpoint, with nothing private and no markup from data.

Settings come from an allow-list, since paths and host names of this machine do not belong in a card. Class names and
values are shown as code, where HTML and Markdown have no effect.
"""

import math
from dataclasses import dataclass, field

import torch
from huggingface_hub import EvalResult, ModelCard, ModelCardData

from ..models.configuration_videomae_v2 import VideoMAEV2Config
from ..models.image_processing_videomae_v2 import VideoMAEV2ImageProcessor
from ..settings.groups import LEARNING_ARGUMENTS, LEARNING_SETTINGS


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
_IN_PERCENT = ("top1", "top5", "mean_class_accuracy", "mean_average_precision", "micro_f1")

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

## Licence

{{ licence }}

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
outputs = model(**processor("video.mp4", return_tensors="pt"))  # samples the masks itself
print(outputs.loss, outputs.logits.shape)""",
    "AutoModel": """\
from transformers import AutoImageProcessor, AutoModel

processor = AutoImageProcessor.from_pretrained("{repo}", trust_remote_code=True)
model = AutoModel.from_pretrained("{repo}", trust_remote_code=True)
features = model(**processor("video.mp4", return_tensors="pt")).last_hidden_state""",
}


@dataclass
class Checkpoint:
    """A checkpoint and the records of its training.

    Args:
        source: folder or Hub id.
        model, processor: the loaded model and processor.
        settings: the settings of the training run, from settings.yaml; {} if there is no such file.
        metrics: the metrics of `train.py evaluate`, or the last ones of the training run.
        base_model: Hub id of the weights that training started from, if they came from the Hub.
    """

    source: str
    model: torch.nn.Module
    processor: VideoMAEV2ImageProcessor
    settings: dict = field(default_factory=dict)
    metrics: dict = field(default_factory=dict)
    base_model: str | None = None

    @property
    def auto_class(self) -> str:
        return AUTO_CLASSES[type(self.model).__name__]


def model_card(checkpoint: Checkpoint, repo_id: str, license_name: str | None, dataset: str | None) -> ModelCard:
    """The card of a checkpoint.

    Args:
        checkpoint: the checkpoint to describe.
        repo_id: its future repository on the Hub.
        license_name: licence of the weights; with None the card says that none was stated.
        dataset: name of the data set, as given by the author of the card.

    Raises:
        ValueError: a metric is not a number.
    """
    name = repo_id.split("/")[-1]
    found = {key: _number(checkpoint.metrics, key) for key in SCORES if f"eval_{key}" in checkpoint.metrics}
    results = [
        EvalResult(
            task_type="video-classification",
            dataset_type=dataset or "unknown",
            dataset_name=dataset or "not stated",
            metric_type=SCORES[key][0],
            metric_name=SCORES[key][1],
            metric_value=round(value, 5),
        )
        for key, value in found.items()
    ]
    data = ModelCardData(
        license=license_name,
        library_name="transformers",
        pipeline_tag="video-classification" if checkpoint.auto_class == "AutoModelForVideoClassification" else None,
        tags=["videomae", "video", "masked-autoencoder" if _is_v1(checkpoint) else "dual-masking"],
        model_name=name,
        base_model=checkpoint.base_model,
        eval_results=results or None,
    )
    return ModelCard.from_template(
        data,
        template_str=CARD,
        name=name,
        summary=_summary(checkpoint),
        usage=USAGE[checkpoint.auto_class].format(repo=repo_id),
        data=_data_section(checkpoint, dataset),
        results=_table({SCORES[key][1]: _shown_score(key, value) for key, value in found.items()})
        or "Not stated. Pass the metrics.json of `train.py evaluate` to `push_to_hub.py --metrics`.",
        training=_table({name: as_code(value) for name, value in _public(checkpoint.settings).items()})
        or "Not stated.",
        licence=f"{as_code(license_name)}, for the weights." if license_name else "None was stated for the weights.",
    )


def _number(metrics: dict, key: str) -> float:
    value = metrics[f"eval_{key}"]
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        raise ValueError(f"The metrics have eval_{key}={value!r:.40}, which is not a number.")
    return float(value)


def _shown_score(key: str, value: float) -> str:
    return f"{100 * value:.2f} %" if key in _IN_PERCENT else f"{value:.4g}"


def _is_v1(checkpoint: Checkpoint) -> bool:
    return checkpoint.model.config.decoder_mask_ratio == 0


def _public(settings: dict) -> dict:
    """The settings that may be public, without the names of files."""
    kept = {name: value for name, value in settings.items() if name in SHOWN_SETTINGS and value is not None}
    return {
        name: value for name, value in kept.items() if not (isinstance(value, str) and ("/" in value or "\\" in value))
    }


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
    version = "VideoMAE" if _is_v1(checkpoint) else "VideoMAE V2 (dual masking)"
    kind = {
        "AutoModelForVideoClassification": f"a video classifier of {config.num_labels} classes",
        "AutoModelForPreTraining": "a masked autoencoder, to be finetuned",
        "AutoModel": "a video encoder",
    }[checkpoint.auto_class]
    if config.problem_type == "regression":
        kind = f"a model that predicts {config.num_labels} numbers for a video"
    height, width = config.image_hw
    return (
        f"{version}: {kind}. {parameters:,} parameters, {config.num_hidden_layers} layers of width "
        f"{config.hidden_size}, clips of {config.num_frames} frames of {height} x {width} pixels."
    )


def _data_section(checkpoint: Checkpoint, dataset: str | None) -> str:
    processor = checkpoint.processor
    pace = f"at {processor.fps:g} per second" if processor.fps else f"{processor.sampling_rate:g} apart"
    if processor.frame_sampling == "uniform":
        pace = "spread over the whole video"
    stated = as_code(dataset) if dataset else "not stated"
    lines = [f"- Trained and scored on: {stated}", f"- Clips: {processor.num_frames} frames, {pace}"]
    if checkpoint.auto_class == "AutoModelForVideoClassification":
        names = [as_code(name) for name in checkpoint.model.config.id2label.values()]
        what = "Targets" if checkpoint.model.config.problem_type == "regression" else "Classes"
        more = f", .. ({len(names)} in total)" if len(names) > 20 else ""
        lines.append(f"- {what}: {', '.join(names[:20])}{more}")
    return "\n".join(lines)


def _table(rows: dict[str, str]) -> str:
    return "\n".join(["| | |", "|---|---|", *(f"| {name} | {value} |" for name, value in rows.items())]) if rows else ""

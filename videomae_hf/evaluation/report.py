# Copyright 2026 The videomae_hf authors. Licensed under the Apache License, Version 2.0.
"""Writes an HTML page about a pretraining run, a finetuning run and its evaluation, from the files of the commands.

The checkpoints are loaded through the Auto classes, so that a page also shows that they can be loaded.
"""

import base64
import io
import json
import statistics
from pathlib import Path

import torch
from PIL import Image
from transformers import AutoModelForPreTraining, AutoModelForVideoClassification

from .. import VideoMAEV2ImageProcessor, __version__
from ..data.sources.folders_and_lists import Reading, read_samples
from ..data.sources.media import media_for
from ..models.masking import mask_to_ids, sample_masks, token_counts
from ..models.modeling_videomae_v2 import VideoMAEV2ForPreTraining
from ..text_files import write_text
from .reconstruction import STRIP_ROWS, reconstruction_strip, strip_row
from .trivial_predictors import trivial_losses


_CURVES = {
    "loss": "training loss",
    "eval_loss": "evaluation loss",
    "eval_explained": "explained beyond trivial predictors (evaluation)",
    "eval_knn_top1": "k-NN top-1 of the encoder",
    "eval_top1": "top-1",
    "eval_mean_average_precision": "mean average precision",
}
_STEPS_SHOWN = 5
_CLIPS_COMPARED, _CLIPS_AT_ONCE = 64, 8  # clips whose reconstruction is compared with trivial predictors
_PREDICTORS = {
    "model": "the model",
    "patch_mean": "each patch in its own mean colour",
    "background": "the median colour of the visible pixels",
    "nearest_in_space": "the nearest visible patch of the same slice",
    "nearest_in_time": "the nearest visible patch of the same place",
}
_PAGE = """<!doctype html>
<html lang="en"><meta charset="utf-8"><title>VideoMAE report</title>
<style>
  body { font: 16px/1.5 system-ui, sans-serif; max-width: 60rem; margin: 2rem auto; padding: 0 1rem; color: #222 }
  img { max-width: 100% } td, th { padding: .1rem .8rem .1rem 0; text-align: left }
  .strip { image-rendering: pixelated; margin-bottom: 1.2rem }
  img.strip { display: block }
  .wrong { color: #b00 } small { color: #666 }
</style>
<h1>VideoMAE report</h1>
<table>
  {% for name, value in scores %}<tr><th>{{ name }}</th><td>{{ value }}</td></tr>{% endfor %}
</table>
{% if few_labels %}<h2>Few labels</h2>
<table><tr><th>labelled videos a class: {{ few_labels.labels_per_class }}</th><th>top-1</th><th>each seed</th>
<th>steps</th></tr>
{% for name in ("pretrained", "from scratch") %}<tr><td>{{ name }}</td><td>{{ few_labels[name].mean }} %</td>
<td>{{ few_labels[name].each }}</td><td>{{ few_labels[name].steps }}</td></tr>{% endfor %}</table>
<p>Pretraining gains {{ few_labels.gain }} points, with a standard error of {{ few_labels.standard_error }} over
{{ few_labels.seeds }} seeds; a seed chooses the labelled videos. From scratch is the best of the step numbers and
learning rates that were tried.</p>{% endif %}
<h2>Training</h2><img src="{{ curves }}" alt="loss curves">
{% if confusion %}<h2>Confusion matrix</h2><img src="{{ confusion }}" alt="confusion matrix">{% endif %}
<h2>Masked reconstruction</h2>
<p>Each column is a tubelet. The third row shows the tokens in the loss, the fourth the reconstruction of every masked
token{% if norm_pix_loss %}; the model predicts patches without their mean and contrast, which are taken from the
original here, so that only the shapes are predicted{% endif %}.</p>
<table><tr><th>predictor of held-out patches</th><th>loss</th></tr>
{% for name, loss in losses %}<tr><td>{{ name }}</td><td>{{ "%.3f"|format(loss) }}</td></tr>{% endfor %}</table>
{% for strip in strips %}<img class="strip" src="{{ strip }}" alt="reconstruction">{% endfor %}
{% if over_time %}<h2>Reconstruction over time</h2>
<p>All rows show the same clips and masks.</p>
{% for rows in over_time %}<table class="strip">{% for name, row in rows %}
<tr><th>{{ name }}</th><td><img src="{{ row }}" alt="{{ name }}"></td></tr>{% endfor %}</table>{% endfor %}
{% endif %}
<h2>Some predictions</h2>
<table><tr><th>video</th><th>class</th><th>predicted</th><th>probability</th></tr>
{% for row in predictions %}<tr{% if row.label != row.predicted %} class="wrong"{% endif %}><td>{{ row.path }}</td>
<td>{{ row.label }}</td><td>{{ row.predicted }}</td><td>{{ row.probability }}</td></tr>{% endfor %}
</table>
<p><small>videomae_hf {{ version }}, torch {{ torch_version }}</small></p></html>
"""


def write_report(
    page: Path,
    pretrain: Path,
    finetune: Path,
    evaluation: Path,
    shuffled: Path | None,
    videos: Path,
    few_labels: Path | None = None,
) -> tuple[dict, dict | None]:
    """Writes the page and returns the metrics of `evaluation` and of `shuffled` (None if that is None).

    Args:
        page: the HTML file to write.
        pretrain, finetune: output folders of the two training runs.
        evaluation, shuffled: output folders of `train.py evaluate`, the latter with shuffled frames.
        videos: the evaluation videos.
        few_labels: summary.json of examples/experiments/few_labels.py.

    Raises:
        FileNotFoundError: an output of a previous step is missing.
    """
    metrics = _read_json(evaluation / "metrics.json")
    shuffled_metrics = _read_json(shuffled / "metrics.json") if shuffled else None
    matrix = metrics.get("confusion_matrix")  # absent if videos have several labels
    model = AutoModelForPreTraining.from_pretrained(pretrain).eval()
    reading = Reading(multi_label=matrix is None, media=media_for(model.config.num_frames))
    samples, classes = read_samples(videos, metrics["classes"], reading=reading)
    first_of_each = list({sample.label: sample for sample in reversed(samples)}.values())[::-1]
    import jinja2

    html = (
        jinja2.Environment(autoescape=True, undefined=jinja2.StrictUndefined)
        .from_string(_PAGE)
        .render(
            scores=score_rows(metrics, shuffled_metrics),
            curves=_loss_curves(pretrain, finetune),
            confusion=matrix and _confusion_picture(matrix, classes),
            over_time=_over_time(pretrain / "reconstructions"),
            few_labels=few_labels and _few_labels(_read_json(few_labels)),
            losses=[(_PREDICTORS[name], loss) for name, loss in predictor_losses(model, pretrain, samples).items()],
            strips=_strips(model, pretrain, first_of_each[:3]),
            norm_pix_loss=model.config.norm_pix_loss,
            predictions=_predictions(finetune, first_of_each),
            version=__version__,
            torch_version=torch.__version__,
        )
    )
    page.parent.mkdir(parents=True, exist_ok=True)
    write_text(page, html)
    return metrics, shuffled_metrics


def score_rows(metrics: dict, shuffled: dict | None) -> list[tuple[str, str]]:
    """(name, text) of each score, the main one first."""
    if "eval_top1" in metrics:
        names = {"eval_top1": "top-1", "eval_mean_class_accuracy": "mean class accuracy"}
        chance = f" (chance {100 / len(metrics['classes']):.1f} %)"
    else:
        names = {"eval_mean_average_precision": "mean average precision", "eval_micro_f1": "micro F1"}
        chance = ""
    rows = [(name, f"{100 * metrics[key]:.1f} %") for key, name in names.items()]
    rows[0] = (rows[0][0], f"{rows[0][1]} of {metrics['eval_videos']} videos{chance}")
    if shuffled:
        rows.insert(1, ("frames shuffled", f"{100 * shuffled[next(iter(names))]:.1f} %"))
    return [*rows, ("unreadable videos", str(metrics["eval_unreadable"]))]


def _read_json(path: Path) -> dict:
    if not path.is_file():
        raise FileNotFoundError(f"There is no {path}; first run the step of train.py that writes it.")
    return json.loads(path.read_text(encoding="utf-8"))


def _strips(model, checkpoint: Path, samples) -> list[str]:
    processor = VideoMAEV2ImageProcessor.from_pretrained(checkpoint)
    pictures = []
    for number, sample in enumerate(samples):
        clip = processor(sample.path, return_tensors="pt").pixel_values
        pictures.append(_data_url(reconstruction_strip(model, clip, torch.Generator().manual_seed(number))))
    return pictures


@torch.no_grad()
def predictor_losses(model: VideoMAEV2ForPreTraining, checkpoint: Path, samples: list) -> dict[str, float]:
    """The loss of the model and of each trivial predictor, means over at most 64 clips spread over the videos.

    Args:
        model: the pretraining model, in evaluation mode.
        checkpoint: its folder, which has the processor.
        samples: the videos; the centre clip of each is used.

    Returns:
        Losses by name: `"model"` and those of `trivial_losses`.
    """
    processor = VideoMAEV2ImageProcessor.from_pretrained(checkpoint)
    number = min(_CLIPS_COMPARED, len(samples))
    chosen = [samples[index * len(samples) // number] for index in range(number)]
    generator, sums = torch.Generator().manual_seed(0), {}
    visible, num_decoded = token_counts(model.config)
    for first in range(0, number, _CLIPS_AT_ONCE):
        batch = chosen[first : first + _CLIPS_AT_ONCE]
        clips = torch.cat([processor(sample.path, return_tensors="pt").pixel_values for sample in batch])
        masked, decoded = sample_masks(model.config, len(batch), generator)
        ids = {"visible_ids": mask_to_ids(~masked, visible), "decoded_ids": mask_to_ids(decoded, num_decoded)}
        losses = {"model": model(clips, **ids).loss.item(), **trivial_losses(model, clips, **ids)}
        for name, loss in losses.items():
            sums[name] = sums.get(name, 0.0) + loss * len(batch)
    return {name: total / number for name, total in sums.items()}


def _few_labels(found: dict) -> dict:
    """The texts of the table of few labels."""
    for name in ("pretrained", "from scratch"):
        values = list(found[name]["top1"].values())
        found[name]["mean"] = f"{statistics.mean(values):.1f}"
        found[name]["each"] = ", ".join(f"{value:.1f}" for value in values)
    numbers = {name: "-" if found[name] is None else f"{found[name]:.1f}" for name in ("gain", "standard_error")}
    return {**found, **numbers, "seeds": len(found["seeds"])}


def _over_time(folder: Path) -> list[list[tuple[str, str]]]:
    """For each video logged in pretraining: (name, picture) of the constant rows and of some reconstructions."""
    videos = []
    for video in sorted(folder.glob("video_*")):
        files = sorted(video.glob("step_*.png"))
        if len(files) < 2:
            continue
        shown = min(len(files), _STEPS_SHOWN)
        chosen = [files[index * (len(files) - 1) // (shown - 1)] for index in range(shown)]
        strips = {f"step {int(file.stem.removeprefix('step_'))}": Image.open(file) for file in chosen}
        rows = [(name, strip_row(next(iter(strips.values())), row)) for row, name in enumerate(STRIP_ROWS[:2])]
        rows += [(name, strip_row(strip, 3)) for name, strip in strips.items()]
        videos.append([(name, _data_url(picture)) for name, picture in rows])
    return videos


@torch.no_grad()
def _predictions(checkpoint: Path, samples) -> list[dict]:
    processor = VideoMAEV2ImageProcessor.from_pretrained(checkpoint)
    model = AutoModelForVideoClassification.from_pretrained(checkpoint).eval()
    rows = []
    for sample in samples:
        logits = model(**processor(sample.path, return_tensors="pt")).logits[0]
        if isinstance(sample.label, tuple):
            labels, probabilities = sample.label, logits.sigmoid()
            predicted = (probabilities > 0.5).nonzero().flatten().tolist()
        else:
            labels, probabilities = [sample.label], logits.softmax(dim=-1)
            predicted = [int(probabilities.argmax())]
        names = model.config.id2label
        row = {"path": sample.path, "probability": "|".join(f"{probabilities[number]:.3f}" for number in predicted)}
        for column, numbers in (("label", labels), ("predicted", predicted)):
            row[column] = "|".join(names[number] for number in sorted(numbers))
        rows.append(row)
    return rows


def _loss_curves(pretrain: Path, finetune: Path) -> str:
    from matplotlib.figure import Figure  # part of the extra "demo"

    figure = Figure(figsize=(10, 3.2), layout="constrained")
    for axes, folder, title in zip(figure.subplots(1, 2), (pretrain, finetune), ("Pretraining", "Finetuning")):
        history = _read_json(folder / "trainer_state.json")["log_history"]
        for key, name in _CURVES.items():
            points = [(entry["step"], entry[key]) for entry in history if key in entry]
            if points:
                axes.plot(*zip(*points), label=name, marker="." if len(points) < 30 else None)
        axes.set(title=title, xlabel="step", ylim=(min(axes.dataLim.y0, 0), None))
        axes.legend()
    return _figure_url(figure)


def _confusion_picture(matrix: list[list[int]], classes: list[str]) -> str:
    from matplotlib.figure import Figure

    side = 2.5 + 0.45 * len(classes)
    figure = Figure(figsize=(side + 0.5, side), layout="constrained")
    axes = figure.subplots()
    axes.imshow(matrix, cmap="Blues")
    if len(classes) <= 30:  # more would not be legible
        darkest = max(map(max, matrix))
        for row, counts in enumerate(matrix):
            for column, count in enumerate(counts):
                color = "white" if count > darkest / 2 else "black"
                axes.text(column, row, count, ha="center", va="center", color=color, fontsize=8)
        # Verbatim: a $ must not start a formula
        axes.set_xticks(range(len(classes)), classes, rotation=60, ha="right", parse_math=False)
        axes.set_yticks(range(len(classes)), classes, parse_math=False)
    axes.set(xlabel="predicted", ylabel="class")
    return _figure_url(figure)


def _figure_url(figure) -> str:
    file = io.BytesIO()
    figure.savefig(file, format="svg")
    return "data:image/svg+xml;base64," + base64.b64encode(file.getvalue()).decode()


def _data_url(picture: Image.Image) -> str:
    file = io.BytesIO()
    picture.save(file, format="PNG")
    return "data:image/png;base64," + base64.b64encode(file.getvalue()).decode()

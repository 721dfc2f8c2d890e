# Copyright 2026 The videomae_hf authors. Licensed under the Apache License, Version 2.0.
"""The model card of a VideoBERT checkpoint, by the rules of `model_card.py`."""

from huggingface_hub import EvalResult, ModelCardData

from .licences import licence_to_state
from .model_card import (
    CITATION,
    CODE,
    Checkpoint,
    Publication,
    as_code,
    card_template,
    is_number,
    licence_section,
    progress_table,
    public_settings,
    table,
)


_CITATION = """\
@inproceedings{sun2019videobert,
  title = {VideoBERT: A Joint Model for Video and Language Representation Learning},
  author = {Sun, Chen and Myers, Austin and Vondrick, Carl and Murphy, Kevin and Schmid, Cordelia},
  booktitle = {ICCV},
  year = {2019},
  url = {https://arxiv.org/abs/1904.01766}
}
"""
_KINDS = {
    "VideoBertForPreTraining": "pretrained on videos with texts, to fill masked words, to match, and to be finetuned",
    "VideoBertForCaptioning": "writes captions of videos",
    "VideoBertForRetrieval": "scores how well texts describe videos",
    "VideoBertForVideoClassification": "classifies videos into {num_labels} classes",
    "VideoBertModel": "an encoder of videos and texts",
}
_TASKS = {
    "VideoBertForCaptioning": "video-text-to-text",
    "VideoBertForVideoClassification": "video-classification",
}
_OPENED = """\
from transformers import {auto}, AutoProcessor
{imports}
processor = AutoProcessor.from_pretrained("{repo}", trust_remote_code=True)
model = {auto}.from_pretrained("{repo}", trust_remote_code=True)
{video}
"""
_PIXELS = 'video = processor(videos=["video.mp4"])'
# The features of a classifier include the norm before its head, as `videomae extract` computes them.
_FEATURES = """\
encoder = load_encoder("{backbone}")  # the features of segments are those of this model
frames = processor.segments(["video.mp4"])[0]  # (segments, frames, C, H, W)
video = processor(video_features=[encoder.encode_segments(frames{places})])"""
_USES = {
    "generate": """\
captions = model.generate(**video, max_new_tokens=20)
print(processor.tokenizer.batch_decode(captions, skip_special_tokens=True))""",
    "fill": """\
text = processor.encode_texts(["now let me show you how to [MASK] the [MASK]."])
words, probabilities = next(model.fill(**text, **video))  # (masked words, 5) each
print([processor.tokenizer.convert_ids_to_tokens(row) for row in words])""",
    "scores": """\
texts = processor.encode_texts(["season the steak", "cut the bread"])
print(model.scores(**texts, **video))  # (videos, texts); the larger, the better a text describes a video""",
    "classes": """\
number = model(**video).logits.argmax(-1).item()
print(model.config.id2label[number])""",
    "states": "states = model(**video).last_hidden_state",
}
_CAPTIONING, _RETRIEVAL = "AutoModelForImageTextToText", "AutoModelForZeroShotImageClassification"


def trained_uses(model) -> list[tuple[str, str]]:
    """(Auto class, use) of each task whose head a model has trained."""
    kind = type(model).__name__
    if kind == "VideoBertForPreTraining":
        found = [(_CAPTIONING, "fill")] if model.cls is not None else []
        found += [(_RETRIEVAL, "scores")] if model.match_head is not None else []
        return found or [("AutoModel", "states")]
    return {
        "VideoBertForCaptioning": [(_CAPTIONING, "generate")],
        "VideoBertForRetrieval": [(_RETRIEVAL, "scores")],
        "VideoBertForVideoClassification": [("AutoModelForVideoClassification", "classes")],
        "VideoBertModel": [("AutoModel", "states")],
    }[kind]


def video_text_card(checkpoint: Checkpoint, publication: Publication) -> str:
    """The text of README.md; arguments and errors as in `model_card`."""
    license_name = licence_to_state(publication.license, checkpoint.origin, override=publication.license_override)
    scores = _scores(checkpoint.metrics)
    settings = {name: as_code(value) for name, value in public_settings(checkpoint.settings).items()}
    body = card_template().substitute(
        name=publication.repo_id.split("/")[-1],
        summary=_summary(checkpoint),
        usage="\n\n".join(_usage(checkpoint, publication, *use) for use in trained_uses(checkpoint.model)),
        code=CODE,
        data=_data_section(checkpoint, publication.dataset),
        results=table({as_code(name): f"{value:.4g}" for name, value in scores.items()}) or "Not stated.",
        training="\n\n".join(filter(None, [progress_table(checkpoint.history), table(settings)])) or "Not stated.",
        licence=licence_section(license_name, publication, checkpoint.origin),
        citation=_CITATION + CITATION,
    )
    header = _header(checkpoint, publication, license_name, scores)
    return f"---\n{header.to_yaml().strip()}\n---\n\n{body}"


def _scores(metrics: dict) -> dict[str, float]:
    """The numbers of an evaluation, without those about its speed."""
    kept = {name: value for name, value in metrics.items() if name.startswith("eval_") and is_number(value)}
    speed = ("_runtime", "_per_second", "_time")
    return {name.removeprefix("eval_"): value for name, value in kept.items() if not name.endswith(speed)}


def _header(
    checkpoint: Checkpoint, publication: Publication, license_name: str | None, scores: dict[str, float]
) -> ModelCardData:
    dataset, task = publication.dataset, _TASKS.get(type(checkpoint.model).__name__)
    results = [
        EvalResult(
            task_type=task or "video-text-to-text",
            dataset_type=dataset or "unknown",
            dataset_name=dataset or "not stated",
            metric_type=name,
            metric_name=name.replace("_", " "),
            metric_value=round(value, 5),
        )
        for name, value in scores.items()
    ]
    return ModelCardData(
        license=license_name,
        library_name="transformers",
        pipeline_tag=task,
        tags=["videobert", "video", "text"],
        model_name=publication.repo_id.split("/")[-1],
        base_model=checkpoint.origin.base_model,
        eval_results=results or None,
    )


def _summary(checkpoint: Checkpoint) -> str:
    model, config = checkpoint.model, checkpoint.model.config
    kind = _KINDS[type(model).__name__].format(num_labels=config.num_labels)
    parameters = sum(parameter.numel() for parameter in model.parameters())
    source = "from pixels, by an encoder within the model"
    if config.backbone_config is None:
        source = f"from features of {as_code(config.feature_backbone)}"
    return (
        f"VideoBERT, one transformer for video and text: {kind}. {parameters:,} parameters, {config.num_hidden_layers} "
        f"layers of width {config.hidden_size}, {config.vocab_size:,} tokens; segments of a video {source}."
    )


def _usage(checkpoint: Checkpoint, publication: Publication, auto: str, use: str) -> str:
    config, repo = checkpoint.model.config, publication.repo_id
    own = config.backbone_config is not None
    places = "" if config.tokens_per_segment == 1 else f", {config.tokens_per_segment}"
    video = _PIXELS if own else _FEATURES.format(backbone=config.feature_backbone, places=places)
    imports = "" if own else "from videomae_hf import load_encoder  # computes the features\n"
    return _OPENED.format(auto=auto, imports=imports, repo=repo, video=video) + _USES[use]


def _data_section(checkpoint: Checkpoint, dataset: str | None) -> str:
    processor, config = checkpoint.processor, checkpoint.model.config
    frames = processor.image_processor
    pace = f"at {frames.fps:g} per second" if frames.fps else f"{frames.sampling_rate:g} apart"
    lines = [
        f"- Trained and scored on: {as_code(dataset) if dataset else 'not stated'}",
        f"- Segments: {frames.num_frames} frames, {pace}; up to {processor.max_segments} of a video",
        f"- Texts: up to {processor.max_length} tokens",
    ]
    if type(checkpoint.model).__name__ == "VideoBertForVideoClassification":
        names = [as_code(name) for name in config.id2label.values()]
        more = f", .. ({len(names)} in total)" if len(names) > 20 else ""
        lines.append(f"- Classes: {', '.join(names[:20])}{more}")
    return "\n".join(lines)

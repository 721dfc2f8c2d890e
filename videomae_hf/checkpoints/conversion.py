# Copyright 2026 The videomae_hf authors. Licensed under the Apache License, Version 2.0.
"""Converts checkpoints of other layouts to our models, and our models to official files."""

import argparse
import math
import re
from pathlib import Path

import torch

from ..models.checkpoint_files import checked_tensors, read_pickle, read_tensors
from ..models.configuration_videomae_v2 import VideoMAEV2Config
from ..models.geometry import sinusoid_table
from ..models.image_processing_videomae_v2 import VideoMAEV2ImageProcessor, clip_options, normalization_options
from ..models.loading import is_planar, our_names
from ..models.model_sizes import IMAGE_KINDS, IMAGE_SIZES, SIZE_FIELDS, SIZES
from ..models.modeling_videomae_v2 import (
    VideoMAEV2ForPreTraining,
    VideoMAEV2ForVideoClassification,
    VideoMAEV2Model,
    VideoMAEV2PreTrainedModel,
)
from ..models.official_checkpoints import to_mae, to_official
from .folding import fold_normalization, fold_targets
from .image_export import refuse_classifier_layers, refuse_cross_decoder, refuse_other_layers, whole_weights


_PROJECTION = "videomae.embeddings.patch_embeddings.projection.weight"
_POSITIONS = "videomae.embeddings.position_embeddings"
_DECODER_POSITIONS = "position_embeddings"
_CLASS_TOKEN = "videomae.embeddings.cls_token"
_LAYER, _DECODER_LAYER = "videomae.encoder.layer.0.", "decoder.decoder_layers.0."
# Settings of the official training scripts, as stored in their checkpoints -> our fields
_SCRIPT_SETTINGS = {
    "mask_ratio": "mask_ratio",
    "decoder_mask_ratio": "decoder_mask_ratio",
    "num_frames": "num_frames",
    "input_size": "image_size",
    "normlize_target": "norm_pix_loss",  # the official spelling
    "norm_pix_loss": "norm_pix_loss",  # MAE's
}


def read_weights(path: Path) -> tuple[dict[str, torch.Tensor], dict]:
    """The weights of an official file under our names, and the settings of the training script stored in it.

    Raises:
        ValueError: the file is damaged, needs code to be read, or holds no weights.
    """
    if path.suffix == ".safetensors":
        return our_names(read_tensors(path)), {}
    content = read_pickle(path, allowed=(argparse.Namespace,))
    if not isinstance(content, dict):
        raise ValueError(f"{path} holds a {type(content).__name__}, not the weights of a model.")
    nested = next(
        (content[key] for key in ("model", "module", "state_dict") if isinstance(content.get(key), dict)), content
    )
    weights = {name: value for name, value in nested.items() if isinstance(value, torch.Tensor)}
    if not weights:
        raise ValueError(f"{path} holds no weights; its entries are {', '.join(map(str, list(content)[:8]))}.")
    script = content.get("args")
    weights = our_names(checked_tensors(weights, path))
    return weights, vars(script) if isinstance(script, argparse.Namespace) else {}


def inferred_fields(weights: dict[str, torch.Tensor]) -> dict:
    """The fields of `VideoMAEV2Config` that follow from the shapes of tensors under our names.

    Raises:
        ValueError: the tensors do not belong to a VideoMAE.
    """
    needed = [_PROJECTION, _LAYER + "intermediate.dense.weight"]
    if model_class_of(weights) is VideoMAEV2ForPreTraining:
        needed += ["decoder.norm.weight", _DECODER_LAYER + "intermediate.dense.weight"]
    missing = [name for name in needed if name not in weights]
    if missing:
        raise ValueError(f"Not a VideoMAE checkpoint: no {missing[0]}, but {', '.join(list(weights)[:4])}, ..")
    if weights[_PROJECTION].ndim != 5:
        raise ValueError(
            f"Not a VideoMAE checkpoint: its patch projection has shape {tuple(weights[_PROJECTION].shape)}."
        )
    width, channels, tubelet, patch_height, patch_width = weights[_PROJECTION].shape
    fields = {
        "hidden_size": width,
        "num_channels": channels,
        "tubelet_size": tubelet,
        "patch_size": patch_height if patch_height == patch_width else (patch_height, patch_width),
        "num_hidden_layers": _depth(weights, r"videomae\.encoder\.layer\.(\d+)\."),
        "intermediate_size": weights[_LAYER + "intermediate.dense.weight"].shape[0],
        "qv_bias": _LAYER + "attention.attention.query.bias" in weights,
        "use_cosine_attention": _LAYER + "attention.attention.scale" in weights,
        "position_embedding_type": "learned" if _POSITIONS in weights else "sinusoidal",
    }
    if _CLASS_TOKEN in weights:
        fields.update(_image_fields(weights, fields["patch_size"]))
    if _LAYER + "lambda_1" in weights:
        fields["layer_scale_init_value"] = 1e-5  # any positive value builds it; the file has its weights
    if "decoder.norm.weight" in weights:
        fields.update(
            decoder_hidden_size=weights["decoder.norm.weight"].shape[0],
            decoder_num_hidden_layers=_depth(weights, r"decoder\.decoder_layers\.(\d+)\."),
            decoder_intermediate_size=weights[_DECODER_LAYER + "intermediate.dense.weight"].shape[0],
        )
    if "classifier.weight" in weights:
        fields["num_labels"] = weights["classifier.weight"].shape[0]
    elif "fc_norm.weight" in weights:
        fields["num_labels"] = 0
    fields["use_mean_pooling"] = _mean_pooling(weights, fields["position_embedding_type"])
    if fields["use_cosine_attention"]:
        fields["num_attention_heads"] = weights[_LAYER + "attention.attention.scale"].shape[0]
    return fields


def _image_fields(weights: dict[str, torch.Tensor], patch_size: int | tuple[int, int]) -> dict:
    """The fields of an image model, which has a class token. Images are square, as in MAE's code and in timm's names.

    Raises:
        ValueError: there are no positions, or not those of a square image.
    """
    if _POSITIONS not in weights:
        raise ValueError("Not a checkpoint of an image model: it has a class token, but no positions.")
    shape = tuple(weights[_POSITIONS].shape)
    side = math.isqrt(shape[1] - 1) if len(shape) == 3 and shape[1] > 1 else 0
    if not side or side * side + 1 != shape[1]:
        raise ValueError(f"Positions of shape {shape} are not those of a square image and its class token.")
    height, width = (patch_size, patch_size) if isinstance(patch_size, int) else patch_size
    fields = {"num_frames": 1, "use_cls_token": True}
    fields["image_size"] = side * height if height == width else (side * height, side * width)
    fields["position_embedding_type"] = "sinusoidal_2d" if is_planar(weights[_POSITIONS]) else "learned"
    if _DECODER_POSITIONS in weights:
        planar = is_planar(weights[_DECODER_POSITIONS])
        fields["decoder_position_embedding_type"] = "sinusoidal_2d" if planar else "learned"
        fields["decoder_embed_bias"] = "encoder_to_decoder.bias" in weights
    return fields


def _mean_pooling(weights: dict[str, torch.Tensor], positions: str) -> bool | None:
    """`use_mean_pooling` of these weights: whether the encoder has a final norm or, None, both.

    An encoder alone with MAE's fixed positions is one of MAE, whose classifiers pool the mean; other image models, such
    as ViT and DINO, use the class token.
    """
    if model_class_of(weights) is VideoMAEV2ForPreTraining:
        return None
    if model_class_of(weights) is VideoMAEV2Model and positions == "sinusoidal_2d":
        return None
    return "videomae.layernorm.weight" not in weights


def _depth(weights, pattern: str) -> int:
    return 1 + max((int(found[1]) for name in weights if (found := re.match(pattern, name))), default=-1)


def model_class_of(weights: dict[str, torch.Tensor]) -> type:
    """The class of the model that tensors under our names belong to."""
    if any(name.startswith(("decoder.", "mask_token")) for name in weights):
        return VideoMAEV2ForPreTraining
    if any(name.startswith(("classifier.", "fc_norm.")) for name in weights):
        return VideoMAEV2ForVideoClassification
    return VideoMAEV2Model


def complete_fields(inferred: dict, size: str | None, options: dict, script: dict) -> tuple[dict, list[str]]:
    """All fields, and one line about the source of each field that does not follow from the tensors.

    Args:
        inferred: the result of `inferred_fields`.
        size: name of the official size, if the user gives it.
        options: fields given by the user.
        script: settings of the training script that are stored in the file.

    Raises:
        ValueError: `size` or an option contradicts the tensors, or a field remains unknown.
    """
    for name, value in options.items():
        if name in inferred and inferred[name] != value and name not in ("layer_scale_init_value", "use_mean_pooling"):
            raise ValueError(f"--{name} {value} contradicts the tensors, which imply {name}={inferred[name]}.")
    rows = _matching_sizes(inferred, size)
    if inferred.get("use_cls_token"):
        defaults = {name: IMAGE_KINDS["mae"][name] for name in ("mask_ratio", "mask_type", "target_pixels")}
        inferred = {**defaults, **inferred}
    fields, lines = dict(inferred), []
    known = {_SCRIPT_SETTINGS[key]: script[key] for key in _SCRIPT_SETTINGS if script.get(key) is not None}
    for name in _unknown_fields(inferred):
        candidates = {row[name] for row in rows if name in row}
        if name in options:
            fields[name], source = options[name], "an option"
        elif name in known:
            fields[name], source = known[name], "the training script's settings in the file"
        elif len(candidates) == 1:
            fields[name], source = candidates.pop(), f"the official size {rows[0]['name']}"
        else:
            continue
        lines.append(f"{name} = {fields[name]}, from {source}")
    unknown = [name for name in _unknown_fields(inferred) if name not in fields]
    if unknown:
        raise ValueError(
            f"The tensors match no official size and do not determine {', '.join(unknown)}; pass "
            f"{' '.join(f'--{name} VALUE' for name in unknown)}."
        )
    for name in ("mask_ratio", "decoder_mask_ratio", "norm_pix_loss"):
        if name in known and name not in options and "decoder_hidden_size" in inferred:
            fields[name] = known[name]
            lines.append(f"{name} = {known[name]}, from the training script's settings in the file")
    new_decoder = {}
    if inferred.get("use_cls_token") and "decoder_hidden_size" not in inferred:  # MAE's, if one is added
        sizes = dict(zip(SIZE_FIELDS, IMAGE_SIZES["base"]))
        new_decoder = {name: value for name, value in sizes.items() if name.startswith("decoder")}
        new_decoder["decoder_embed_bias"] = True
    return {"layer_norm_eps": 1e-6, **new_decoder, **fields, **options}, lines


def _unknown_fields(inferred: dict) -> list[str]:
    names = ["num_attention_heads", "num_frames", "image_size"]
    if "decoder_hidden_size" in inferred:
        names.append("decoder_num_attention_heads")
        # MAE was published with both kinds of targets
        names += ["norm_pix_loss"] if inferred.get("use_cls_token") else []
    return [name for name in names if name not in inferred]


def _matching_sizes(inferred: dict, size: str | None) -> list[dict]:
    """The rows of the official table that match the tensors; if only the decoder differs, without its heads."""
    rows, sizes = [], [(name, values) for (name, _), values in SIZES.items()]
    if inferred.get("use_cls_token"):
        sizes = [("small", SIZES["small", 1]), *IMAGE_SIZES.items()]  # DeiT-S, which DINO trains as well
    for name, values in sizes:
        row = {**dict(zip(SIZE_FIELDS, values)), "num_frames": 16, "image_size": 224, "name": name}
        if inferred["tubelet_size"] == 1:
            row.pop("num_frames")  # the official videos have tubelets of 2
        encoder = ("hidden_size", "num_hidden_layers", "intermediate_size", "patch_size")
        if size == name:
            wrong = next((field for field in encoder if row[field] != inferred[field]), None)
            if wrong:
                raise ValueError(f"--size {size} has {wrong}={row[wrong]}, but the tensors imply {inferred[wrong]}.")
        if all(row[field] == inferred[field] for field in encoder):
            if row["decoder_hidden_size"] != inferred.get("decoder_hidden_size"):
                row.pop("decoder_num_attention_heads")
            rows.append(row)
    if size is not None and size not in {name for name, _ in sizes}:
        raise ValueError(f"--size {size} is unknown; choose one of {', '.join(sorted({name for name, _ in sizes}))}.")
    return rows


def build_model(weights: dict[str, torch.Tensor], fields: dict) -> VideoMAEV2PreTrainedModel:
    """Builds the model for these weights, in their dtype, and loads them.

    Raises:
        ValueError: a weight is missing, unexpected or of another shape.
    """
    dtypes = {value.dtype for value in weights.values()}
    model, info = model_class_of(weights).from_pretrained(
        None,
        config=VideoMAEV2Config(**fields),
        state_dict=weights,
        dtype=dtypes.pop() if len(dtypes) == 1 else torch.float32,
        output_loading_info=True,
    )
    faults = [f"{kind} {name}" for kind in ("missing", "unexpected") for name in sorted(info[f"{kind}_keys"])]
    if faults:
        more = f"; and {len(faults) - 5} more" if len(faults) > 5 else ""
        raise ValueError(f"The tensors do not fit a {type(model).__name__}: {'; '.join(faults[:5])}{more}.")
    return model.eval()


def drop_on_purpose(weights: dict[str, torch.Tensor]) -> tuple[dict[str, torch.Tensor], list[str]]:
    """The weights without those that have no effect, and one line for each kind that was dropped."""
    lines = []
    key_biases = [name for name in weights if name.endswith("attention.attention.key.bias")]
    if key_biases and not any(name.endswith("attention.attention.scale") for name in weights):
        lines.append(f"{len(key_biases)} key biases: softmax ignores them")
    else:
        key_biases = []
    dropped = set(key_biases)
    table = weights.get(_POSITIONS)
    if (
        table is not None
        and table.ndim == 3
        and torch.allclose(table.float(), sinusoid_table(*table.shape[1:]), atol=1e-5)
    ):
        lines.append("pos_embed: it is the fixed sinusoidal table")
        dropped.add(_POSITIONS)
    return {name: value for name, value in weights.items() if name not in dropped}, lines


def convert_official(
    source: Path, size: str | None, options: dict
) -> tuple[torch.nn.Module, VideoMAEV2ImageProcessor, list[str]]:
    """Converts an official file to one of our models, with the processor of the official test, and a report."""
    weights, script = read_weights(source)
    total = len(weights)
    weights, dropped = drop_on_purpose(weights)
    fields, lines = complete_fields(inferred_fields(weights), size, options, script)
    model = build_model(weights, fields)
    report = [
        f"{type(model).__name__} from {source}",
        f"  {len(weights)} of {total} tensors mapped (qkv counts as three)",
    ]
    report += [f"  left out: {line}" for line in dropped] + [f"  {line}" for line in lines] + ["  none missing"]
    images = model.config.use_cls_token
    preprocessing, lines = mae_preprocessing(model.config) if images else official_preprocessing(script)
    pixels = {**clip_options(model.config), **normalization_options(model.config)}
    return model, VideoMAEV2ImageProcessor(**{**pixels, **preprocessing}), report + lines


def mae_preprocessing(config: VideoMAEV2Config) -> tuple[dict, list[str]]:
    """The processor options that prepare images as MAE's test does (mae/util/datasets.py), and a line about them."""
    height, width = config.image_hw
    shortest = max(height, width)
    if shortest <= 224:
        shortest = shortest * 256 // 224  # larger images are not cropped
    options = {"size": {"shortest_edge": shortest}, "resample": 3}
    mean = ", ".join(f"{value:g}" for value in config.image_mean)
    return options, [
        f"  images as in MAE's test: shorter side {shortest}, bicubic, centre crop, mean {mean}; models other than MAE "
        f"may need --image_mean and --image_std"
    ]


def official_preprocessing(script: dict) -> tuple[dict, list[str]]:
    """The processor options that prepare clips as the official test does, and a line about them.

    Args:
        script: the settings of the training script stored in a file. Only Something-Something is sampled uniformly.
    """
    options = {"official_sampling": True, "antialias": False}
    if script.get("data_set") is not None:
        options["frame_sampling"] = "uniform" if str(script["data_set"]).upper().startswith("SSV2") else "dense"
    if type(script.get("sampling_rate")) is int and script["sampling_rate"] > 0:
        options["sampling_rate"] = script["sampling_rate"]
    said = ", ".join(f"{name} = {value}" for name, value in options.items())
    unsaid = [name for name in ("frame_sampling", "sampling_rate") if name not in options]
    line = f"  clips as in the official test: {said}"
    return options, [line + (f"; not in the file, so by default: {', '.join(unsaid)}" if unsaid else "")]


def set_labels(model, names: list[str]) -> None:
    """Names the classes of a model.

    Raises:
        ValueError: the model has another number of classes.
    """
    if len(names) != model.config.num_labels:
        raise ValueError(f"--id2label names {len(names)} classes, but the model has {model.config.num_labels}.")
    model.config.id2label = dict(enumerate(names))
    model.config.label2id = {name: number for number, name in enumerate(names)}


def gather_head(model, rows: list[int]) -> None:
    """Keeps these rows of the head, in this order: a Kinetics-710 head becomes one of Kinetics-400, 600 or 700.

    Corresponds to v2/run_class_finetuning.py with misc/label_710to400.json and similar lists of rows.

    Raises:
        ValueError: the model has no head, or the rows are invalid.
    """
    if not isinstance(model, VideoMAEV2ForVideoClassification):
        raise ValueError(f"--label_map needs a classifier; this is a {type(model).__name__}.")
    if not isinstance(rows, list) or not rows or not all(type(row) is int for row in rows):
        raise ValueError("--label_map must be a JSON list of row indices.")
    if len(set(rows)) < len(rows) or not 0 <= min(rows) <= max(rows) < model.num_labels:
        raise ValueError(f"--label_map must list distinct rows from 0 to {model.num_labels - 1}.")
    names = [model.config.id2label[row] for row in rows]
    head = torch.nn.Linear(model.config.classifier_input_size, len(rows), device="meta")
    head.weight = torch.nn.Parameter(model.classifier.weight.detach()[rows].clone())
    head.bias = torch.nn.Parameter(model.classifier.bias.detach()[rows].clone())
    model.classifier, model.num_labels = head, len(rows)
    config = model.config
    config.id2label = dict(enumerate(names))
    config.label2id = {name: number for number, name in enumerate(names)}
    config.label_mappings = None  # they refer to the previous rows
    if config.target_mean is not None:
        config.target_mean, config.target_std = (
            tuple(values[row] for row in rows) for values in (config.target_mean, config.target_std)
        )


def save_ours(model, processor: VideoMAEV2ImageProcessor, destination: Path) -> list[str]:
    model.save_pretrained(destination)
    processor.save_pretrained(destination)
    return []


def save_official(model, processor: VideoMAEV2ImageProcessor, destination: Path) -> list[str]:
    """Writes an official .pth, with weights under "model" as its loaders expect (v1/utils.py); returns report lines.

    Models with a class token get the names of MAE's code. The official code always normalises pixels with ImageNet's
    values, and cannot store the range of targets.

    Raises:
        ValueError: the model has a part that the official code does not have.
    """
    config, pretraining = model.config, isinstance(model, VideoMAEV2ForPreTraining)
    refuse_cross_decoder(model, "The official code")
    refuse_classifier_layers(model, "The official code")
    if config.use_cls_token:
        refuse_other_layers(config, "MAE's code")
        weights = whole_weights(model)
    else:
        _refuse_unofficial(config, pretraining=pretraining)
        weights = model.state_dict()
        if isinstance(model, VideoMAEV2Model):
            weights = {f"videomae.{name}": value for name, value in weights.items()}
    weights, lines = fold_targets(weights, model.config)
    weights, more = fold_normalization(weights, processor.to_dict())
    if config.problem_type == "multi_label_classification":
        more.append("  problem_type is left out: the official code scores one label per video")
    if config.use_cls_token and pretraining and (more or config.target_pixels != "normalized"):
        more.append("  the loss differs: MAE's targets are pixels normalised with ImageNet's values")
    named = to_mae(weights) if config.use_cls_token else to_official(weights, pretraining=pretraining)
    with open(destination, "wb") as file:  # given a path, torch raises RuntimeError for a full disk
        torch.save({"model": named}, file)
    return lines + more


def _refuse_unofficial(config: VideoMAEV2Config, *, pretraining: bool) -> None:
    """Raises ValueError for parts that the official code of VideoMAE does not have."""
    found = {"position_embedding_type": config.position_embedding_type}
    if pretraining:
        found["decoder_position_embedding_type"] = config.decoder_positions
    for name, value in found.items():
        if value in ("sinusoidal_2d", "sinusoidal_3d") or (value == "learned" and name.startswith("decoder")):
            raise ValueError(f"The official code has no {name}={value!r}, as this checkpoint does.")
    if pretraining and config.decoder_embed_bias:
        raise ValueError(
            "The official code has no bias before the decoder (decoder_embed_bias), as this checkpoint does."
        )

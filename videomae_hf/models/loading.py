# Copyright 2026 The videomae_hf authors. Licensed under the Apache License, Version 2.0.
"""`from_pretrained` for checkpoints of any layout: renames weights, compares them with the model, and then loads them.

transformers would allocate whatever a configuration claims before comparing anything. Here the model is first built on
the meta device, which takes no memory. This file ships with checkpoints and may import only its siblings.
"""

import logging
import math
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from copy import deepcopy
from dataclasses import dataclass
from pathlib import Path

import torch
from transformers import PreTrainedConfig

from .adapters import ADAPTER_CONFIG, adapted_base, merge_adapter, read_adapter
from .checkpoint_files import FILE_OPTIONS, find_file, read_tensors, weight_files
from .geometry import interpolate_positions, planar_table, position_table, resize_projection
from .image_checkpoints import as_tubelets, our_name_of
from .official_checkpoints import from_official, is_official


logger = logging.getLogger(__name__)

# name of a position table -> the field that says whether it is learned
_TABLES = {
    "videomae.embeddings.position_embeddings": "position_embedding_type",
    "position_embeddings": "decoder_position_embedding_type",
}
_BIASES = {"q": "attention.query.bias", "v": "attention.value.bias"}
# Arguments of `from_pretrained` that are also fields of the configuration, or that it cannot copy
_NOT_OF_CONFIG = (
    "dtype", "torch_dtype", "device_map", "quantization_config", "distributed_config", "device_mesh", "fusion_config",
    "generation_config",
)  # fmt: skip
# New parts and position tables may have this many elements, or this multiple of the elements in the checkpoint.
_NEW_ELEMENTS, _NEW_MULTIPLE = 2**26, 16


def weights_of(name: str | Path, files: dict, which: dict, adapting: tuple[str, ...] = ()) -> dict[str, torch.Tensor]:
    """The weights of a checkpoint of any layout, under our names; adapters are merged into their base model.

    Args:
        name: folder, or id on the Hub.
        files: any of `FILE_OPTIONS`.
        which: `variant`, `use_safetensors` and `disable_mmap`, as in `from_pretrained`.
        adapting: the adapter folders whose base is being read, to detect cycles.

    Raises:
        OSError: a file is missing.
        ValueError: a file is damaged, or does not hold the weights of a model.
    """
    which = {"variant": None, "use_safetensors": None, "disable_mmap": None, **which}
    mapped = not which.pop("disable_mmap")
    config_file = find_file(name, ADAPTER_CONFIG, files) if Path(name).is_dir() else None
    if config_file is None:
        try:
            paths = weight_files(name, files, **which)
        except FileNotFoundError:
            # On the Hub, adapters are looked for only if there is no model, which saves a request.
            config_file = None if Path(name).is_dir() else find_file(name, ADAPTER_CONFIG, files)
            if config_file is None:
                raise
    if config_file is not None:
        return _adapted_weights(name, config_file, files, (*adapting, str(name)))
    weights = {}
    for path in paths:
        weights.update(read_tensors(path, disable_mmap=not mapped))
    return our_names(weights)


def _adapted_weights(name: str | Path, config_file: Path, files: dict, adapting: tuple[str, ...]) -> dict:
    base, options = adapted_base(config_file)
    if base in adapting:
        raise ValueError(f"{config_file} adapts {base}, which adapts it in turn.")
    options |= {key: value for key, value in files.items() if key not in ("revision", "subfolder")}
    try:
        weights = weights_of(base, options, {}, adapting)
    except OSError as error:
        raise OSError(f"{config_file} names {base} as the checkpoint that is adapted. {error}") from error
    return merge_adapter(weights, our_names(read_adapter(name, config_file, files)), config_file)


def our_names(weights: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Weights of any layout under the names of a model with a head, where the encoder has the prefix `videomae.`.

    The patch projection of an image model becomes one of tubelets of one frame.

    Raises:
        ValueError: two weights would get the same name.
    """
    if is_official(weights):
        weights = from_official(weights)
    ours = {}
    for name, value in weights.items():
        # Names of the biases on disk in transformers' VideoMAE, all releases but 5.6 to 5.17
        renamed = re.sub(r"attention\.(q|v)_bias$", lambda found: _BIASES[found[1]], our_name_of(name))
        if renamed in ours:
            raise ValueError(f"The checkpoint has {renamed} twice, the second time as {name}.")
        ours[renamed] = as_tubelets(renamed, value)
    return ours


def _with_stored_positions(
    config: PreTrainedConfig, weights: dict[str, torch.Tensor]
) -> tuple[PreTrainedConfig, dict[str, torch.Tensor]]:
    """The configuration and the weights of a model of images whose checkpoint holds position tables.

    MAE stores its fixed tables, and finetuning trains them. A table that is the fixed one is left out of the weights,
    since the model computes it; any other one makes the positions learned, whatever the configuration says.
    """
    config, weights = deepcopy(config), dict(weights)
    fixed = {"position_embedding_type": config.position_embedding_type}
    fixed["decoder_position_embedding_type"] = config.decoder_positions
    for name, field in _TABLES.items():
        table = weights.get(name)
        if table is None or fixed[field] != "sinusoidal_2d" or not config.use_cls_token:
            continue
        if is_planar(table):
            del weights[name]
        else:
            config.decoder_position_embedding_type = fixed["decoder_position_embedding_type"]
            setattr(config, field, "learned")
    return config, weights


def is_planar(table: torch.Tensor) -> bool:
    """Whether a table (1, 1 + side * side, D) of an image model is MAE's fixed one, up to the rounding of its dtype."""
    if table.ndim != 3 or table.shape[1] < 2 or table.shape[2] % 4:
        return False
    side = math.isqrt(table.shape[1] - 1)
    if table.shape[1] != 1 + side * side:
        return False
    fixed = planar_table((1, side, side), table.shape[2]).to(table.dtype)
    return not table[:, 0].any() and torch.allclose(table[:, 1:], fixed, rtol=0, atol=1e-5)


def _mapped(weights: dict[str, torch.Tensor], key_mapping: dict[str, str] | None) -> dict[str, torch.Tensor]:
    """Weights renamed by the `key_mapping` of `from_pretrained`: each pattern is replaced once."""
    mapped = {}
    for name, value in weights.items():
        for pattern, replacement in (key_mapping or {}).items():
            name = re.sub(pattern, replacement, name, count=1)
        mapped[name] = value
    return mapped


@contextmanager
def _load_report_silenced() -> Iterator[None]:
    """Silences transformers' table of differing keys; `from_pretrained` below reports them in one line or an error."""
    report_logger = logging.getLogger("transformers.modeling_utils")

    def not_the_report(record: logging.LogRecord) -> bool:
        return "LOAD REPORT" not in record.getMessage()

    report_logger.addFilter(not_the_report)
    try:
        yield
    finally:
        report_logger.removeFilter(not_the_report)


@dataclass
class _Comparison:
    """The result of comparing the weights of a checkpoint with those of a model.

    Args:
        faults: messages about missing, misshapen and unknown weights of the encoder.
        head_faults: messages about differing weights of parts that may be new.
        new_parts: parts of the model that the checkpoint lacks, or holds in another shape.
        left_out: parts of the checkpoint that the model does not have.
        num_held: number of elements of the weights.
        num_new: number of elements of the new parts, and of the position tables, which no checkpoint holds.
    """

    faults: list[str]
    head_faults: list[str]
    new_parts: tuple[str, ...]
    left_out: list[str]
    num_held: int
    num_new: int

    def check(self, source, model_class: str, *, new_head: bool) -> None:
        """Raises ValueError if the encoder does not fit, and logs in one line which heads are new or left out.

        Deviation: the official loaders (v1/utils.py, v2/utils.py) print what does not fit and continue without it.
        """
        faults = self.faults + ([] if new_head else self.head_faults)
        if faults:
            shown = "; ".join(faults[:4]) + (f"; and {len(faults) - 4} more" if len(faults) > 4 else "")
            error = ValueError(
                f"{source} does not fit {model_class}: {shown}. Is this the checkpoint of another size or model?"
            )
            # Shown with a traceback, but not in the one line that a command prints
            error.add_note("`ignore_mismatched_sizes=True` allows a new head, `strict=False` any difference.")
            raise error
        if self.num_new > max(_NEW_ELEMENTS, _NEW_MULTIPLE * self.num_held):
            raise ValueError(
                f"{source} holds {self.num_held:,} parameters, but its configuration adds {self.num_new:,} in "
                f"{', '.join([*self.new_parts, 'positions'])}; correct its config.json."
            )
        parts = [f"new, untrained: {', '.join(self.new_parts)}"] if self.new_parts else []
        parts += [f"left out: {', '.join(self.left_out)}"] if self.left_out else []
        if parts:
            logger.warning("%s from %s: %s", model_class, source, "; ".join(parts))


class StrictLoading:
    """A mixin for `PreTrainedModel`, to be listed before it, with a `from_pretrained` that checks what it loads.

    `new_parts` are the parts that `from_pretrained` did not find in the checkpoint, such as `classifier`; they are
    untrained.
    """

    new_parts: tuple[str, ...] = ()

    # Each model with a head names its parameters and modules besides the encoder, which a checkpoint may lack.
    head_parts: tuple[str, ...] = ()

    @classmethod
    def all_head_parts(cls) -> set[str]:
        """The parts of the heads of all models with this encoder; a checkpoint may hold those of another model."""
        family = next(model for model in cls.__mro__ if StrictLoading in model.__bases__)
        return {part for model in family.__subclasses__() for part in model.head_parts}

    @classmethod
    def from_pretrained(cls, pretrained_model_name_or_path, *model_args, config=None, strict: bool = True, **kwargs):
        """Loads a checkpoint of ours, of transformers' VideoMAE (`model_type` "videomae"), ViT-MAE ("vit_mae") or ViT
        ("vit"), of OpenGVLab's V2 on the Hub (whose own code is not run; without a head, the features are the `logits`
        of the classifier), or LoRA adapters of one of these, which are merged.

        For clips of another shape (`num_frames=32`, `image_size=(192, 320)`, `num_channels=1`, `tubelet_size=4`), fixed
        positions are recomputed (see `config.position_grid`), and learned ones and the patch projection are resized.
        With `position_embedding_type="learned"`, learning starts from the fixed positions of the checkpoint.

        Args:
            pretrained_model_name_or_path: folder or Hub id, as everywhere in transformers.
            config: a configuration of ours or of transformers' VideoMAE, its `to_dict()`, or where to find one.
            strict: raise if an encoder weight is missing, of another shape or unknown. A head that the checkpoint lacks
                is initialised, one that the model lacks is left out, and one logged line says so. `False` leaves all
                differences to transformers' own report.
            kwargs: those of `PreTrainedModel.from_pretrained`; `weights_only=False` is refused.

        Raises:
            ValueError: a file is damaged or belongs to another model; in strict mode also if weights of the encoder do
                not fit, with their names.
            OSError: there is no such checkpoint.
        """
        name, return_info = pretrained_model_name_or_path, kwargs.pop("output_loading_info", False)
        weights, key_mapping = kwargs.pop("state_dict", None), kwargs.pop("key_mapping", None)
        # Set if the Auto classes have followed an adapter_config.json to the base model
        name = (kwargs.pop("adapter_kwargs", None) or {}).get("_adapter_model_path") or name
        if kwargs.pop("weights_only", True) is False:
            raise ValueError("weights_only=False is refused, because it would run code from a checkpoint.")
        if name is None and (weights is None or config is None):
            raise ValueError("from_pretrained needs a folder or Hub id, or both config and state_dict.")
        files = {key: kwargs.pop(key) for key in FILE_OPTIONS if key in kwargs}
        which = {key: kwargs.pop(key) for key in ("variant", "use_safetensors", "disable_mmap") if key in kwargs}
        config, kwargs = cls._configuration(name, config, files, kwargs)
        if getattr(config, "quantization_config", None) is not None:  # only its library knows names and shapes
            options = {"config": config, "output_loading_info": return_info, "key_mapping": key_mapping}
            return super().from_pretrained(name, *model_args, **options, **files, **which, **kwargs)
        weights = our_names(_mapped(weights_of(name, files, which) if weights is None else weights, key_mapping))
        config, weights = _with_stored_positions(config, weights)
        with torch.device("meta"):
            wanted = cls(deepcopy(config), *model_args)
        weights = wanted._fitting(weights, name, files)
        comparison, new_head = wanted._compare(weights), kwargs.pop("ignore_mismatched_sizes", False)
        if strict:
            comparison.check(name or "The state_dict", cls.__name__, new_head=new_head)
        options = {"config": config, "state_dict": weights, "ignore_mismatched_sizes": strict or new_head, **kwargs}
        with _load_report_silenced() if strict else nullcontext():
            model, info = super().from_pretrained(None, *model_args, output_loading_info=True, **options)
        # Otherwise transformers would rename back when saving, and the Trainer could not resume from the result.
        model._weight_conversions = None
        model.new_parts = comparison.new_parts
        if name is not None:
            model.config.name_or_path = model.name_or_path = str(name)
        return (model, info) if return_info else model

    @classmethod
    def _configuration(cls, name, config, files: dict, kwargs: dict) -> tuple[PreTrainedConfig, dict]:
        """The configuration, and the arguments that are not fields of it."""
        ours = cls.config_class
        if config is None or isinstance(config, str | os.PathLike):
            apart = {key: kwargs.pop(key) for key in _NOT_OF_CONFIG if key in kwargs}
            config, kwargs = ours.from_pretrained(config or name, return_unused_kwargs=True, **files, **kwargs)
            return config, {**kwargs, **apart}
        if isinstance(config, PreTrainedConfig):
            # Not compared by class: code from the Hub has its own copy of the class.
            if config.model_type == ours.model_type:
                return config, kwargs
            given, attention = f"config={type(config).__name__}", config._attn_implementation
            config = {**config.to_dict(), "dtype": config.dtype, "attn_implementation": attention}
        elif isinstance(config, dict):
            given = "config"
        else:
            raise ValueError(f"config={config!r:.60} is neither a configuration nor a folder, Hub id or mapping.")
        fields = ours.known_fields(config, given)
        if name is not None:
            fields = ours.with_normalization_of(name, files, fields)
        return ours.from_dict(fields), kwargs

    @torch.no_grad()
    def _fitting(self, weights: dict[str, torch.Tensor], name, files: dict) -> dict[str, torch.Tensor]:
        """The weights returned by `our_names`, under the names of this model, which is on the meta device.

        If the clips of the checkpoint have another shape, learned positions are interpolated and the patch projection
        is resized to other channels and tubelets; a logged line says so.
        """
        if not self.config.use_cosine_attention:
            # transformers 5.6 to 5.17 saved key biases. They add the same number to all scores of a query, which
            # softmax ignores.
            weights = {key: value for key, value in weights.items() if not key.endswith("attention.key.bias")}
        wanted = {key: value.shape for key, value in self.state_dict().items()}
        if self.base_model is self:
            weights = {key.removeprefix("videomae."): value for key, value in weights.items()}
        embeddings = "embeddings." if self.base_model is self else "videomae.embeddings."
        projection, resized = embeddings + "patch_embeddings.projection.weight", {}
        # Allowed to differ: the number of positions, and channels and frames of the projection, but not width and patch
        for positions in (embeddings + "position_embeddings", "position_embeddings"):  # of the encoder, of the decoder
            if not _differ_only_in(weights.get(positions), wanted.get(positions), (1,)):
                continue
            grid = self._grid_of(name, files, weights[positions].shape[1])
            if grid is not None:
                resized[positions] = interpolate_positions(weights[positions], grid, self.config.grid_size)
        if _differ_only_in(weights.get(projection), wanted[projection], (1, 2)):
            config = self.config
            resized[projection] = resize_projection(weights[projection], config.num_channels, config.tubelet_size)
            # The output size of a decoder depends on channels and tubelets.
            weights = {key: value for key, value in weights.items() if not key.startswith("decoder.head.")}
        for key, value in resized.items():
            logger.warning("%s resized from %s to %s", key, tuple(weights[key].shape), tuple(value.shape))
        positions = embeddings + "position_embeddings"
        if positions in wanted and positions not in weights:
            resized |= self._once_fixed_positions(positions, name, files)
        return {**weights, **resized}

    def _once_fixed_positions(self, positions: str, name, files: dict) -> dict[str, torch.Tensor]:
        """Learned positions that start from the fixed ones of a checkpoint, as in the finetuning of MAE; else {}."""
        if name is None or find_file(name, "config.json", files) is None:
            return {}
        kind = self.config_class.from_pretrained(name, **files).position_embedding_type
        if kind == "learned":
            return {}
        logger.warning("%s is learned, and starts from the fixed table (%s) of the checkpoint", positions, kind)
        return {positions: position_table(self.config, self.config.hidden_size, kind)}

    def _grid_of(self, name, files: dict, num_positions: int) -> tuple[int, int, int] | None:
        """(slices, rows, columns) of a checkpoint's position table, from its configuration or that of its base model.

        None if neither has a grid of `num_positions`.
        """
        while name is not None and find_file(name, "config.json", files) is not None:
            config = self.config_class.from_pretrained(name, **files)
            if config.num_class_tokens + config.sequence_length == num_positions:
                return config.grid_size
            adapter = find_file(name, ADAPTER_CONFIG, files)
            name, files = (None, {}) if adapter is None else adapted_base(adapter)
        return None

    def _compare(self, weights: dict[str, torch.Tensor]) -> _Comparison:
        """Compares the names and shapes of weights with those of this model."""
        wanted = self.state_dict()
        # transformers' ViTModel has a pooler, which its classifier does not use, and ours does not have
        pools, heads = bool(self.config.use_mean_pooling), self.all_head_parts() | {"pooler"}

        def is_head(name: str) -> bool:
            # The official finetuning drops the final norm of pretraining, and normalises the mean instead (`fc_norm`).
            # A bridging classifier keeps that norm, and gets a new one from a checkpoint without it.
            optional_norm = pools and name.removeprefix("videomae.").startswith("layernorm.")
            return optional_norm or name.split(".")[0] in heads

        missing, unexpected = sorted(wanted.keys() - weights.keys()), sorted(weights.keys() - wanted.keys())
        shared = sorted(wanted.keys() & weights.keys())
        mismatched = [name for name in shared if weights[name].shape != wanted[name].shape]
        faults = [f"missing {name}" for name in missing if not is_head(name)]
        faults += [f"unexpected {name}" for name in unexpected if not is_head(name)]
        head_faults = []
        for name in mismatched:
            shapes = f"{tuple(weights[name].shape)} where the model has {tuple(wanted[name].shape)}"
            (head_faults if is_head(name) else faults).append(f"{name} has shape {shapes}")
        faults += [f"{name} is of {weights[name].dtype}" for name in shared if not weights[name].is_floating_point()]
        new = [*missing, *mismatched]
        return _Comparison(
            faults=faults,
            head_faults=head_faults,
            new_parts=_parts(new),
            left_out=sorted({name.removeprefix("videomae.").split(".")[0] for name in unexpected}),
            num_held=sum(value.numel() for value in weights.values()),
            num_new=sum(wanted[name].numel() for name in new) + sum(table.numel() for table in self.buffers()),
        )


def _parts(names: list[str]) -> tuple[str, ...]:
    """The parts of a model that weights belong to; the output layer of an otherwise complete decoder is one of them."""
    parts = {name.removeprefix("videomae.").split(".")[0] for name in names}
    if "decoder" in parts and all(name.startswith("decoder.head.") for name in names if name.startswith("decoder.")):
        parts = parts - {"decoder"} | {"decoder.head"}
    return tuple(sorted(parts))


def _differ_only_in(found: torch.Tensor | None, wanted: torch.Size | None, axes: tuple[int, ...]) -> bool:
    """Whether two shapes differ in these axes and agree in all others."""
    if found is None or wanted is None or found.ndim != len(wanted) or found.shape == wanted:
        return False
    return all(found.shape[axis] == wanted[axis] for axis in range(found.ndim) if axis not in axes)

# Copyright 2026 The videomae_hf authors. Licensed under the Apache License, Version 2.0.
"""`from_pretrained` that reads three layouts, resizes what another clip shape needs, and is strict about the rest."""

import logging
import re
from contextlib import contextmanager

import torch

from .geometry import interpolate_positions, resize_projection
from .official_checkpoints import opengvlab_weights


logger = logging.getLogger(__name__)

_HUB_OPTIONS = ("cache_dir", "force_download", "local_files_only", "proxies", "revision", "subfolder", "token")


@contextmanager
def _load_report_silenced():
    """transformers prints a table of all keys that differ; `from_pretrained` below says it in a line or an error."""
    report_logger = logging.getLogger("transformers.modeling_utils")

    def not_the_report(record: logging.LogRecord) -> bool:
        return "LOAD REPORT" not in record.getMessage()

    report_logger.addFilter(not_the_report)
    try:
        yield
    finally:
        report_logger.removeFilter(not_the_report)


class StrictLoading:
    """To be mixed into a `PreTrainedModel`, before it.

    `new_parts` are the parts that `from_pretrained` did not find in the checkpoint, such as `classifier`: untrained.
    """

    new_parts: tuple[str, ...] = ()

    # What a checkpoint may lack or have too much: everything but the encoder.
    _head_pattern = re.compile(r"^(decoder|mask_token|encoder_to_decoder|fc_norm|classifier)(\.|$)")
    # The names of q and v biases on disk in transformers' VideoMAE, all releases but 5.6 to 5.17.
    _transformers_bias_names = {
        r"attention\.q_bias$": "attention.query.bias",
        r"attention\.v_bias$": "attention.value.bias",
    }

    @classmethod
    def from_pretrained(cls, pretrained_model_name_or_path, *model_args, strict: bool = True, **kwargs):
        """Loads our checkpoints, those of transformers' VideoMAE (`model_type` "videomae") and those of OpenGVLab's V2
        on the Hub (whose own code is not run; without a head the features come out as `logits` of the classifier).

        Clips of another shape (`num_frames=32`, `image_size=(192, 320)`, `num_channels=1`, `tubelet_size=4`): fixed
        positions are made anew (see `config.position_grid`), learned ones and the patch projection are resized.

        Args:
            pretrained_model_name_or_path: folder or Hub id, as everywhere in transformers.
            strict: raise where an encoder weight is missing, of another shape or unknown. A head that the checkpoint
                lacks is new, one that the model lacks is left out, and one logged line says so. `False` leaves all to
                transformers' own report.
            kwargs: those of `PreTrainedModel.from_pretrained`.

        Raises:
            ValueError: in strict mode, with the names of the weights at fault.
        """
        name, return_info = pretrained_model_name_or_path, kwargs.pop("output_loading_info", False)
        kwargs["key_mapping"] = {**cls._transformers_bias_names, **(kwargs.get("key_mapping") or {})}
        kwargs["output_loading_info"] = True
        source, hub_options = name, {key: kwargs[key] for key in _HUB_OPTIONS if key in kwargs}
        if name is not None and kwargs.get("state_dict") is None and kwargs.get("config") is None:
            source, kwargs = cls._without_opengvlab_layout(name, kwargs, hub_options)
        if not strict:
            model, info = super().from_pretrained(source, *model_args, **kwargs)
        else:
            new_head = kwargs.pop("ignore_mismatched_sizes", False)
            with _load_report_silenced():
                model, info = super().from_pretrained(source, *model_args, ignore_mismatched_sizes=True, **kwargs)
            if name is not None:
                model._resize_loaded(name, info, hub_options)
            model._check_loaded(name or "The state_dict", info, new_head)
        # Otherwise transformers would rename back when saving, and the Trainer could not resume from the result.
        model._weight_conversions = None
        return (model, info) if return_info else model

    @classmethod
    def _without_opengvlab_layout(cls, name, kwargs: dict, hub_options: dict):
        """The name and the arguments as they are or, for that layout, None and arguments with weights of our names."""
        weights = opengvlab_weights(name, hub_options)
        if weights is None:
            return name, kwargs
        # "auto" would be looked up in a file
        kwargs = dict(kwargs)
        if kwargs.get("dtype") == "auto":
            kwargs["dtype"] = next(iter(weights.values())).dtype
        config, kwargs = cls.config_class.from_pretrained(name, return_unused_kwargs=True, **kwargs)
        kwargs = {option: value for option, value in kwargs.items() if option not in _HUB_OPTIONS}
        return None, {**kwargs, "config": config, "state_dict": weights}

    @torch.no_grad()
    def _resize_loaded(self, name, info: dict, hub_options: dict):
        """For clips of another shape than the checkpoint's, interpolates learned positions and resizes the patch
        projection to other channels and tubelets. A line says so; what was resized is taken out of `info`.
        """
        embeddings = "embeddings." if self.base_model is self else "videomae.embeddings."
        projection, positions = embeddings + "patch_embeddings.projection.weight", embeddings + "position_embeddings"
        mismatched = {key: (tuple(found), tuple(wanted)) for key, found, wanted in info["mismatched_keys"]}
        resizable = set()
        # What may differ: the number of positions, and channels and frames of the projection, not its width and patch
        for key, fixed in ((positions, (2,)), (projection, (0, 3, 4))):
            if key in mismatched and all(mismatched[key][0][axis] == mismatched[key][1][axis] for axis in fixed):
                resizable.add(key)
        if not resizable:
            return
        with _load_report_silenced():
            stored = type(self).from_pretrained(name, strict=False, **hub_options)
        weights = stored.state_dict()
        for key in resizable:
            if key == positions:
                value = interpolate_positions(weights[key], stored.config.grid_size, self.config.grid_size)
            else:
                value = resize_projection(weights[key], self.config.num_channels, self.config.tubelet_size)
            self.get_parameter(key).copy_(value)
            found, wanted = mismatched[key]
            logger.warning("%s resized from %s to %s", key, found, wanted)
        # A decoder's output goes with channels and tubelets.
        heads = {key for key in mismatched if projection in resizable and key.startswith("decoder.head.")}
        if heads:
            logger.warning("%s: new, untrained: decoder.head, which made other patches", type(self).__name__)
        info["mismatched_keys"] = [row for row in info["mismatched_keys"] if row[0] not in resizable | heads]

    def _check_loaded(self, name, info: dict, new_head_allowed: bool):
        """Raises for what the encoder lacks; says in one line which heads are new and what was left out.

        Deviation: the official loaders (v1/utils.py, v2/utils.py) print what does not fit, and go on without it.
        """
        pools = self.base_model.layernorm is None

        def is_head(key):
            # The official finetuning drops the final norm of pretraining: it pools the mean, then norms (`fc_norm`).
            dropped_norm = pools and key.removeprefix("videomae.").startswith("layernorm.")
            return dropped_norm or self._head_pattern.match(key) is not None

        # transformers 5.6 to 5.17 built and saved key biases. They add the same to all scores of a query, which softmax
        # ignores, so that leaving them out changes nothing; cosine attention is not of those releases.
        info["unexpected_keys"] = {key for key in info["unexpected_keys"] if not key.endswith("attention.key.bias")}
        faults = [f"missing {key}" for key in sorted(info["missing_keys"]) if not is_head(key)]
        faults += [f"unexpected {key}" for key in sorted(info["unexpected_keys"]) if not is_head(key)]
        for key, found, wanted in sorted(info["mismatched_keys"]):
            if not (new_head_allowed and is_head(key)):
                faults.append(f"{key} has shape {tuple(found)} where the model has {tuple(wanted)}")
        if faults:
            shown = "; ".join(faults[:4]) + (f"; and {len(faults) - 4} more" if len(faults) > 4 else "")
            raise ValueError(
                f"{name} does not fit {type(self).__name__}: {shown}. Is it a checkpoint of another size or model? "
                f"`ignore_mismatched_sizes=True` allows a new head, `strict=False` anything."
            )
        new = {key.split(".")[0] for key in info["missing_keys"]} | {
            k[0].split(".")[0] for k in info["mismatched_keys"]
        }
        self.new_parts = tuple(sorted(new))
        left_out = {key.removeprefix("videomae.").split(".")[0] for key in info["unexpected_keys"]}
        if new or left_out:
            parts = [f"new, untrained: {', '.join(sorted(new))}"] if new else []
            parts += [f"left out: {', '.join(sorted(left_out))}"] if left_out else []
            logger.warning("%s from %s: %s", type(self).__name__, name, "; ".join(parts))

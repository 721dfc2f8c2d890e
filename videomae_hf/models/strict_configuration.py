# Copyright 2026 The videomae_hf authors. Licensed under the Apache License, Version 2.0.
"""Configurations whose errors are ValueErrors in one line. This file ships with checkpoints."""

from huggingface_hub.errors import StrictDataclassError


class StrictConfiguration:
    """Mixin of `PreTrainedConfig` classes, before which it stands among the base classes."""

    @classmethod
    def from_pretrained(cls, pretrained_model_name_or_path, **kwargs):
        """As in transformers; raises ValueError, with the name of the checkpoint, for an invalid config.json."""
        try:
            return super().from_pretrained(pretrained_model_name_or_path, **kwargs)
        except ValueError as error:
            if str(pretrained_model_name_or_path) in str(error):
                raise
            raise ValueError(f"{pretrained_model_name_or_path} has an invalid config.json: {error}") from error

    @classmethod
    def from_dict(cls, config_dict, **kwargs):
        """As in transformers; raises ValueError for values of a wrong type."""
        try:
            return super().from_dict(config_dict, **kwargs)
        except (StrictDataclassError, AttributeError, LookupError, TypeError) as error:
            raise ValueError(" ".join(str(error).split())) from error

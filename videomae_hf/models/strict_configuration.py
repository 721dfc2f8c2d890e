# Copyright 2026 The videomae_hf authors. Licensed under the Apache License, Version 2.0.
"""Configurations whose errors are ValueErrors in one line. This file ships with checkpoints.

The functions check one field each, and raise ValueError with its name and value.
"""

import math

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


def require_divisible(config, name: str, value: int, divisor_name: str, divisor: int) -> None:
    if divisor < 1 or value % divisor:
        raise ValueError(
            f"{name}={getattr(config, name)} is not divisible by {divisor_name}={getattr(config, divisor_name)}; "
            f"change one of the two."
        )


def require_four_parts(config, name: str) -> None:
    if getattr(config, name) % 4:
        raise ValueError(
            f"{name}={getattr(config, name)} must be a multiple of 4 for positions of type 'sinusoidal_2d': sine and "
            f"cosine of column and row."
        )


def require_ratio(config, name: str) -> None:
    if not 0 <= getattr(config, name) < 1:
        raise ValueError(f"{name}={getattr(config, name)} must lie in [0, 1).")


def require_numbers(config, name: str, *, positive: bool) -> None:
    values = getattr(config, name)
    if values is not None and not all(math.isfinite(value) and (value > 0 or not positive) for value in values):
        raise ValueError(f"{name}={values} must be {'positive' if positive else 'finite'}.")


def require_choice(config, name: str, choices: tuple[str, ...]) -> None:
    if getattr(config, name) not in choices:
        raise ValueError(f"{name}={getattr(config, name)!r} is unknown; choose one of {', '.join(choices)}.")

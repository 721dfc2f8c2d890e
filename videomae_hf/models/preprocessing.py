# Copyright 2026 The videomae_hf authors. Licensed under the Apache License, Version 2.0.
"""Reads the preprocessing of a checkpoint from its processor, whichever file and library it comes from.

The rule in this package: pixels are normalised as the processor next to the weights says, since the weights were
trained with it; without a processor, as the configuration says. `config.image_mean` and `config.image_std` are the same
normalisation, for pixels in [0, 1]: models apply it to uint8 pixels and to mixed batches, and undo it for the
reconstruction targets. The configurations of transformers and OpenGVLab do not state it; their checkpoints take it from
the processor when they are read (the default of transformers is 0.5 there, not ImageNet's values).

transformers' VideoMAE undoes ImageNet's normalisation for its targets, whatever its processor does. With
`norm_pix_loss`, which all released models use, only an epsilon differs; without it, the targets here are the pixels
themselves, and those of transformers are not. This file ships with checkpoints and may import only its siblings.
"""

import logging
import re
from pathlib import Path

from .checkpoint_files import find_file, read_mapping


logger = logging.getLogger(__name__)

# The options taken from processors of other models; sampling and other options have another meaning there
PREPROCESSING = (
    "do_resize", "size", "resample", "do_center_crop", "crop_size", "do_rescale", "rescale_factor", "do_normalize",
    "image_mean", "image_std",
)  # fmt: skip
_NORMALIZATION = (("image_mean", 0.0), ("image_std", 1.0))  # with the values of no normalisation
_FILES = ("video_preprocessor_config.json", "preprocessor_config.json")  # in order of preference, as in transformers
_OLD_TYPE = "feature_extractor_type"  # of checkpoints from before image processors
_NESTED_FILE, _NESTED = "processor_config.json", ("video_processor", "image_processor")


def read_preprocessing(name: str | Path, options: dict) -> dict | None:
    """The options of a checkpoint's processor, for `VideoMAEV2ImageProcessor`; None if there is no processor.

    Args:
        name: folder, or id on the Hub.
        options: any of `checkpoint_files.FILE_OPTIONS`.

    Returns:
        All options of a processor of this package; of any other processor, those in `PREPROCESSING`.

    Raises:
        ValueError: a file does not hold a mapping, or its values cannot be used for resizing or normalisation.
    """
    found = _processors(name, options)
    if not found:
        return None
    (path, chosen), *others = found.items()
    chosen = _options_of(chosen)
    _check(chosen, path)
    for other, content in others:
        if _normalization(_options_of(content)) != _normalization(chosen):
            logger.warning("%s and %s normalise differently; the first is used.", path, other.name)
    return chosen


def _processors(name: str | Path, options: dict) -> dict[Path, dict]:
    """The processor files of a checkpoint and their content, the preferred one first."""
    found = {}
    nested = find_file(name, _NESTED_FILE, options)
    if nested is not None:
        content = read_mapping(nested)
        for key in _NESTED:
            if isinstance(content.get(key), dict):
                return {nested: content[key]}
    for filename in _FILES:
        path = find_file(name, filename, options)
        if path is not None:
            found[path] = read_mapping(path)
    return found


def _options_of(content: dict) -> dict:
    if "VideoMAEV2" in str(content.get("image_processor_type")):
        return content
    options = {key: content[key] for key in PREPROCESSING if content.get(key) is not None}
    if re.match(r"(ViT|DeiT)(Image|Feature)", str(content.get("image_processor_type") or content.get(_OLD_TYPE))):
        return _as_vit(options)
    return options


def _as_vit(options: dict) -> dict:
    """The options of transformers' ViT processor, which squashes images to one size, and does not crop by default."""
    size = options.get("size", 224)
    if type(size) is int:
        size = {"height": size, "width": size}
    return {"do_center_crop": False, **options, "size": size}


def _normalization(options: dict) -> list:
    return [options.get(key) for key in ("do_rescale", "rescale_factor", "do_normalize", "image_mean", "image_std")]


def _check(options: dict, path: Path) -> None:
    """Raises ValueError, with the name of the file, for a size or a normalisation that cannot be applied."""
    for key in ("size", "crop_size"):
        value = options.get(key)
        if value is not None and not _is_size(value):
            raise ValueError(f"{path} has {key}={value!r:.80}, which is not a size in pixels.")
    for key in ("rescale_factor", "image_mean", "image_std"):
        value = options.get(key)
        if value is None:
            continue
        values = value if isinstance(value, list | tuple) and key != "rescale_factor" else [value]
        numbers = [type(one) in (int, float) and abs(one) < 1e9 for one in values]  # neither NaN nor infinite
        if not values or not all(numbers) or (key != "image_mean" and min(values) <= 0):
            raise ValueError(f"{path} has {key}={value!r:.80}, with which pixels cannot be normalised.")


def _is_size(value) -> bool:
    """Whether a value is a number of pixels, a pair (height, width), or a mapping of sides as in transformers."""
    if isinstance(value, dict):
        known = value.keys() <= {"height", "width", "shortest_edge", "longest_edge"}
        sides = list(value.values()) if known else []
    elif isinstance(value, list | tuple):
        sides = value if len(value) == 2 else []
    else:
        sides = [value]
    return len(sides) > 0 and all(type(side) is int and side > 0 for side in sides)


def normalization_of(options: dict, num_channels: int) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """(mean, std) that normalise pixels in [0, 1] as the processor normalises pixels from 0 to 255.

    Args:
        options: the options of the processor; absent ones have the defaults of transformers.
        num_channels: number of channels of the model; a single value applies to all channels.

    Returns:
        Two tuples with one value per channel.
    """
    options = {"do_rescale": True, "rescale_factor": 1 / 255, "do_normalize": True} | {
        key: value for key, value in options.items() if value is not None
    }
    scale = 255 * options["rescale_factor"] if options["do_rescale"] else 255
    mean, std = (options.get(key, 0.5) if options["do_normalize"] else default for key, default in _NORMALIZATION)
    mean, std = (value if isinstance(value, list | tuple) else [value] for value in (mean, std))
    mean, std = (value * num_channels if len(value) == 1 else value for value in (mean, std))
    return tuple(value / scale for value in mean), tuple(value / scale for value in std)

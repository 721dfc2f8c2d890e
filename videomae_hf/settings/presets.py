# Copyright 2026 The videomae_hf authors. Licensed under the Apache License, Version 2.0.
"""`--preset`: the model and the frames of a run without a recipe, in one word.

`small` and `base` finetune the weights that V1's authors published on the Hub; with `--checkpoint none`, and in
pretraining, they start from random weights. `tiny` needs no checkpoint and no GPU: on a few hundred videos it trains
within minutes. Its grid of 8 x 8 patches and its positions are those that a small model learns most from
(docs/when_pretraining_pays.md).
"""

_TINY_MODEL = {
    "num_frames": 8,
    "image_size": 64,
    "patch_size": 8,
    "hidden_size": 128,
    "num_hidden_layers": 4,
    "num_attention_heads": 4,
    "intermediate_size": 512,
    "decoder_hidden_size": 64,
    "decoder_num_hidden_layers": 1,
    "decoder_num_attention_heads": 2,
    "decoder_intermediate_size": 256,
    "position_embedding_type": "sinusoidal_3d",
    "mask_type": "random",
    "mask_ratio": 0.75,
    "decoder_mask_ratio": 0,
}
_FINETUNED = "MCG-NJU/videomae-{}-finetuned-kinetics"
PRESETS = ("tiny", "small", "base")
_CLIPS = {"frame_sampling", "sampling_rate", "fps", "official_sampling"}


def preset_settings(name: str, verb: str, given: dict) -> dict:
    """The settings of a preset, as a recipe would have them.

    Args:
        name: name of the preset.
        verb: `"pretrain"` or `"finetune"`.
        given: settings of the command line, None if unset by it. A checkpoint among them has its own size.

    Raises:
        ValueError: there is no such preset, or another setting also chooses the model.
    """
    if name not in PRESETS:
        raise ValueError(f"preset={name!r} is unknown; choose from {', '.join(PRESETS)}.")
    other = next((key for key in ("model_size", "model_kind", "model_version") if key in given), None)
    if other:
        raise ValueError(f"preset={name} and {other}={given[other]} both choose the model; leave one of them out.")
    if name == "tiny":
        frames = {"frame_sampling": "uniform"} if verb == "finetune" else {"sampling_rate": "2"}
        frames = {} if _CLIPS & given.keys() else frames
        return frames if given.get("checkpoint") else {**_TINY_MODEL, **frames}
    if given.get("checkpoint"):
        return {}
    published = verb == "finetune" and "checkpoint" not in given
    return {"model_size": name} | ({"checkpoint": _FINETUNED.format(name)} if published else {})

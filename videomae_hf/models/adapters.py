# Copyright 2026 The videomae_hf authors. Licensed under the Apache License, Version 2.0.
"""Merges low-rank adapters (LoRA, https://arxiv.org/abs/2106.09685) saved by peft into the weights that they adapt.

peft itself is not needed. This file ships with checkpoints and may import only its siblings.
"""

import re
from pathlib import Path

import torch

from .checkpoint_files import find_file, read_mapping, read_tensors


ADAPTER_CONFIG = "adapter_config.json"
_WEIGHTS = ("adapter_model.safetensors", "adapter_model.bin")
# Options of peft's LoraConfig that change the formula of the merge. Options that add tensors need no entry: the model
# has no weights of those names, so that they are refused anyway.
_REFUSED = ("use_dora", "alpha_pattern", "fan_in_fan_out", "alora_invocation_tokens", "layer_replication")
_CHANGING_THE_BASE = ("pissa", "olora", "corda", "loftq", "lora_ga")  # values of init_lora_weights


def is_adapter(checkpoint: str | Path) -> bool:
    """Whether a folder holds adapters, such as `checkpoint-100` or `adapter` in the output of a run with lora_rank."""
    return Path(checkpoint, ADAPTER_CONFIG).is_file()


def adapted_base(config_file: Path) -> tuple[str, dict]:
    """The base checkpoint of an adapter, and the options for finding its files.

    Raises:
        ValueError: `config_file` names no base checkpoint, or its own folder.
    """
    content = read_mapping(config_file)
    base, revision = content.get("base_model_name_or_path"), content.get("revision")
    if not isinstance(base, str) or not base:
        raise ValueError(f"{config_file} has no base_model_name_or_path, which names the checkpoint that is adapted.")
    if Path(base).resolve() == config_file.parent.resolve():
        raise ValueError(f"{config_file} names its own folder as the checkpoint that is adapted.")
    return base, {"revision": revision} if isinstance(revision, str) else {}


def read_adapter(name: str | Path, config_file: Path, options: dict) -> dict[str, torch.Tensor]:
    """The tensors of an adapter without peft's prefix: `X.lora_A.weight`, `X.lora_B.weight`, and fully trained ones.

    Raises:
        FileNotFoundError: the folder has an adapter configuration and no adapter weights.
    """
    for filename in _WEIGHTS:
        path = find_file(name, filename, options)
        if path is not None:
            return {key.removeprefix("base_model.model."): value for key, value in read_tensors(path).items()}
    raise FileNotFoundError(f"{config_file} is there, but no {' and no '.join(_WEIGHTS)}: the adapters are incomplete.")


def merge_adapter(
    weights: dict[str, torch.Tensor], adapter: dict[str, torch.Tensor], config_file: Path
) -> dict[str, torch.Tensor]:
    """Adds each adapter to its weight, W + scale * B A, and replaces the weights that were trained in full.

    Args:
        weights: the weights of the base model, under our names.
        adapter: the tensors returned by `read_adapter`, under our names.
        config_file: the path of adapter_config.json.

    Returns:
        The merged weights; adapted ones are float32.

    Raises:
        ValueError: the adapter is of another kind, or adapts weights that the model does not have.
    """
    content = read_mapping(config_file)
    alpha, rank_stabilised = _scale(content, config_file)
    merged, whole = dict(weights), dict(adapter)
    for name in adapter:
        found = re.fullmatch(r"(.+)\.lora_A\.weight", name)
        if found is None:
            continue
        target = f"{found[1]}.weight"
        down, up = whole.pop(name), whole.pop(f"{found[1]}.lora_B.weight", None)  # (r, D_in), (D_out, r)
        if up is None or not _fits(weights.get(target), down, up):
            raise ValueError(f"{config_file.parent} does not fit what it adapts: {name} is {tuple(down.shape)}.")
        rank = down.shape[0]
        scale = alpha / (rank**0.5 if rank_stabilised else rank)
        merged[target] = weights[target].float() + scale * (up.float() @ down.float())
    if len(whole) == len(adapter):
        raise ValueError(f"{config_file.parent} holds no LoRA adapters.")
    return {**merged, **whole}


def _fits(weight: torch.Tensor | None, down: torch.Tensor, up: torch.Tensor) -> bool:
    """Whether the product of `up` (D_out, r) and `down` (r, D_in) can be added to a weight (D_out, D_in)."""
    if weight is None or down.ndim != 2 or up.ndim != 2 or not (down.is_floating_point() and up.is_floating_point()):
        return False
    return 0 < down.shape[0] == up.shape[1] and weight.shape == (up.shape[0], down.shape[1])


def _scale(content: dict, config_file: Path) -> tuple[float, bool]:
    """lora_alpha, and whether it is divided by the square root of the rank (rsLoRA) instead of the rank."""
    refused = next((name for name in _REFUSED if content.get(name)), None)
    start = content.get("init_lora_weights")
    if content.get("peft_type") != "LORA":
        refused = f"peft_type={content.get('peft_type')!r:.40}"
    elif isinstance(start, str) and start.lower().startswith(_CHANGING_THE_BASE):
        refused = f"init_lora_weights={start!r:.40}"
    if refused is not None:
        raise ValueError(
            f"{config_file} has {refused}, which cannot be merged here; merge it with peft "
            f"(`PeftModel.from_pretrained(..).merge_and_unload()`), and save the result."
        )
    alpha = content.get("lora_alpha")
    if type(alpha) not in (int, float):
        raise ValueError(f"{config_file} has lora_alpha={alpha!r:.40}; it must be a number.")
    return float(alpha), bool(content.get("use_rslora"))

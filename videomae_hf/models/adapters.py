# Copyright 2026 The videomae_hf authors. Licensed under the Apache License, Version 2.0.
"""Checkpoints that hold low-rank adapters (LoRA, https://arxiv.org/abs/2106.09685) in place of a model, as peft saves
them: merged into the weights of the model that they adapt. peft is not needed for it."""

import re
from pathlib import Path

import torch

from .checkpoint_files import find_file, read_mapping, read_tensors


ADAPTER_CONFIG = "adapter_config.json"
_WEIGHTS = ("adapter_model.safetensors", "adapter_model.bin")
# Options of peft's LoraConfig that make the sum another one; what adds tensors is refused for their names
_REFUSED = ("use_dora", "alpha_pattern", "fan_in_fan_out", "alora_invocation_tokens", "layer_replication")
_CHANGING_THE_BASE = ("pissa", "olora", "corda", "loftq", "lora_ga")  # values of init_lora_weights


def is_adapter(checkpoint: str | Path) -> bool:
    """Whether a folder holds adapters, such as `checkpoint-100` and `adapter` of a run with lora_rank."""
    return Path(checkpoint, ADAPTER_CONFIG).is_file()


def adapted_base(config_file: Path) -> tuple[str, dict]:
    """The checkpoint that adapters adapt, and the options of its files.

    Raises:
        ValueError: `config_file` names none, or itself.
    """
    content = read_mapping(config_file)
    base, revision = content.get("base_model_name_or_path"), content.get("revision")
    if not isinstance(base, str) or not base:
        raise ValueError(f"{config_file} names no base_model_name_or_path, the checkpoint that is adapted.")
    if Path(base).resolve() == config_file.parent.resolve():
        raise ValueError(f"{config_file} names its own folder as the checkpoint that is adapted.")
    return base, {"revision": revision} if isinstance(revision, str) else {}


def read_adapter(name: str | Path, config_file: Path, options: dict) -> dict[str, torch.Tensor]:
    """The tensors of adapters, without peft's prefix: `X.lora_A.weight` and `X.lora_B.weight`, and whole ones."""
    for filename in _WEIGHTS:
        path = find_file(name, filename, options)
        if path is not None:
            return {key.removeprefix("base_model.model."): value for key, value in read_tensors(path).items()}
    raise FileNotFoundError(f"{config_file} is there, but no {' and no '.join(_WEIGHTS)}: the adapters are incomplete.")


def merge_adapter(
    weights: dict[str, torch.Tensor], adapter: dict[str, torch.Tensor], config_file: Path
) -> dict[str, torch.Tensor]:
    """The weights with each adapter added to its own, W + scale * B A, and those replaced that were trained whole.

    Args:
        weights: of the model that is adapted, in our names.
        adapter: of `read_adapter`, in our names.
        config_file: adapter_config.json.

    Raises:
        ValueError: another kind of adapter, or one for weights that the model does not have.
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
    """Whether B A of `up` (D_out, r) and `down` (r, D_in) can be added to a weight (D_out, D_in)."""
    if weight is None or down.ndim != 2 or up.ndim != 2 or not (down.is_floating_point() and up.is_floating_point()):
        return False
    return 0 < down.shape[0] == up.shape[1] and weight.shape == (up.shape[0], down.shape[1])


def _scale(content: dict, config_file: Path) -> tuple[float, bool]:
    """lora_alpha, and whether it is divided by the root of the rank."""
    refused = next((name for name in _REFUSED if content.get(name)), None)
    start = content.get("init_lora_weights")
    if content.get("peft_type") != "LORA":
        refused = f"peft_type={content.get('peft_type')!r:.40}"
    elif isinstance(start, str) and start.lower().startswith(_CHANGING_THE_BASE):
        refused = f"init_lora_weights={start!r:.40}"
    if refused is not None:
        raise ValueError(
            f"{config_file} has {refused}, which is not merged here; merge it with peft "
            f"(`PeftModel.from_pretrained(..).merge_and_unload()`), and save the result."
        )
    alpha = content.get("lora_alpha")
    if type(alpha) not in (int, float):
        raise ValueError(f"{config_file} has lora_alpha={alpha!r:.40}; it must be a number.")
    return float(alpha), bool(content.get("use_rslora"))

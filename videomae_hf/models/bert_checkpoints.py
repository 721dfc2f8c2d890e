# Copyright 2026 The videomae_hf authors. Licensed under the Apache License, Version 2.0.
"""Reads checkpoints of transformers' BERT, from which the text side of VideoBERT starts.

Names in memory and on disk are those of `BertForMaskedLM`: `bert.embeddings..`, `bert.encoder.layer.N..` and
`cls.predictions..`. This file ships with checkpoints and may import only its siblings.
"""

from pathlib import Path
from typing import Any

import torch
from transformers import BertConfig

from .checkpoint_files import find_config, read_mapping, read_tensors, weight_files


_HEAD = "cls.predictions."
# Weights with a row for each word
_OF_WORDS = (
    "bert.embeddings.word_embeddings.weight", f"{_HEAD}decoder.weight", f"{_HEAD}decoder.bias", f"{_HEAD}bias",
)  # fmt: skip


def bert_config(name: str | Path, files: dict, config_class: type, overrides: dict[str, Any]):
    """A configuration with the fields of a BERT checkpoint.

    Args:
        name: folder or Hub id.
        files: any of `FILE_OPTIONS`.
        config_class: the class of the configuration.
        overrides: fields that override those of the checkpoint, and further ones.

    Raises:
        ValueError: it is another model, or the vocabulary would shrink.
        OSError: there is no such checkpoint.
    """
    content = read_mapping(find_config(name, files))
    if content.get("model_type", "bert") != "bert":
        found = content["model_type"]
        raise ValueError(f"{name} is no BERT checkpoint: its configuration has model_type {found!r:.60}.")
    known = BertConfig.__annotations__.keys()  # its own fields, without those of every configuration
    config = config_class.from_dict({**{key: content[key] for key in known & content.keys()}, **overrides})
    rows = content.get("vocab_size", BertConfig.vocab_size)
    if config.vocab_size < rows:
        raise ValueError(
            f"vocab_size={config.vocab_size} is less than that of {name}, {rows}; use its own tokenizer, to which "
            f"VideoBertProcessor adds the separator."
        )
    return config


def bert_weights(name: str | Path, files: dict, config) -> dict[str, torch.Tensor]:
    """The weights of a BERT checkpoint, of its encoder and of its head of masked words.

    The pooler and other heads are left out. Rows of words that it lacks are the mean of the others.

    Args:
        name: folder or Hub id.
        files: any of `FILE_OPTIONS`.
        config: the configuration of the model, whose vocabulary may be larger.

    Raises:
        ValueError: a file is damaged.
        OSError: there are no weights.
    """
    weights = {}
    for path in weight_files(name, files):
        for key, value in read_tensors(path).items():
            key = key.replace("LayerNorm.gamma", "LayerNorm.weight").replace("LayerNorm.beta", "LayerNorm.bias")
            key = f"bert.{key}" if key.startswith(("embeddings.", "encoder.")) else key  # of a BertModel by itself
            if key.startswith(("bert.embeddings.", "bert.encoder.", _HEAD)) and not key.endswith("_ids"):
                weights[key] = value
    for key in _OF_WORDS:
        if key in weights:
            weights[key] = _with_rows(weights[key], config.vocab_size)
    return weights


def _with_rows(table: torch.Tensor, number: int) -> torch.Tensor:
    """A table with `number` rows, of which new ones are the mean of the others."""
    new = number - len(table)
    if new <= 0:
        return table
    mean = table.float().mean(dim=0, keepdim=True).to(table.dtype)
    return torch.cat([table, mean.expand(new, *table.shape[1:])])

# Copyright 2026 The videomae_hf authors. Licensed under the Apache License, Version 2.0.
"""Renames weights between the official code of V1, V2 and MAE and ours, and reads OpenGVLab's layout on the Hub.

Official files nest their weights under "model" or "module". Names may have the prefix of a training wrapper (`module.`,
`_orig_mod.`), of OpenGVLab's Hub class (`model.`) or of the encoder (`encoder.`, `backbone.`). One matrix `qkv.weight`
holds query, key and value; q and v have separate biases, and k has none. mmaction2's VideoMAE
(mmaction/models/backbones/vit_mae.py) nests its weights under "state_dict" and differs in a few names. MAE, DINO and
other image models with the names of timm have one bias for q, k and v, and MAE's decoder has names of its own. This
file ships with checkpoints and may import only its siblings.
"""

import re
from collections.abc import Iterable, Iterator

import torch


_WRAPPERS = re.compile(r"^(?:(?:module|_orig_mod|model|backbone)\.)+")
_BLOCK = re.compile(r"^(encoder\.|decoder\.|decoder_)?blocks\.(\d+)\.(.+)$")
# (official name, our name), inside a block and outside
_BLOCK_NAMES = {
    "norm1": "layernorm_before",
    "norm2": "layernorm_after",
    "attn.q_bias": "attention.attention.query.bias",
    "attn.v_bias": "attention.attention.value.bias",
    "attn.scale": "attention.attention.scale",
    "attn.proj": "attention.output.dense",
    "mlp.fc1": "intermediate.dense",
    "mlp.fc2": "output.dense",
    "gamma_1": "lambda_1",
    "gamma_2": "lambda_2",
}
_NAMES = {
    "patch_embed.proj": "videomae.embeddings.patch_embeddings.projection",
    "pos_embed": "videomae.embeddings.position_embeddings",
    "norm": "videomae.layernorm",
    "head": "classifier",
    "cls_token": "videomae.embeddings.cls_token",
}
_MAE_NAMES = {
    "decoder_embed": "encoder_to_decoder",
    "decoder_pos_embed": "position_embeddings",
    "decoder_norm": "decoder.norm",
    "decoder_pred": "decoder.head",
}
# Names that differ in mmaction2: (its name, the official name)
_MMACTION_BLOCK_NAMES = {"mlp.layers.0.0": "mlp.fc1", "mlp.layers.1": "mlp.fc2"}
_MMACTION_NAMES = {"patch_embed.projection": "patch_embed.proj", "cls_head.fc_cls": "head"}
_QKV = ("query", "key", "value")
_OPENGVLAB_FIELDS = (
    "img_size", "patch_size", "in_chans", "num_frames", "tubelet_size", "embed_dim", "depth", "num_heads", "mlp_ratio",
    "qkv_bias",
)  # fmt: skip


def is_official(names: Iterable[str]) -> bool:
    """Whether the names of weights are those of the official code, of OpenGVLab on the Hub or of mmaction2."""
    return any(_BLOCK.match(_WRAPPERS.sub("", name)) for name in names)


def from_official(weights: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Official weights under our names, with qkv split. Unknown names are kept, for the caller to refuse.

    Raises:
        ValueError: two weights would get the same name.
    """
    ours = {}
    for name, value in weights.items():
        for new_name, part in _from_official(_WRAPPERS.sub("", name), value):
            if new_name in ours:
                raise ValueError(f"The checkpoint has {new_name} twice, the second time as {name}.")
            ours[new_name] = part
    return ours


def _from_official(name: str, value: torch.Tensor) -> Iterator[tuple[str, torch.Tensor]]:
    block = _BLOCK.match(name)
    if block is None:
        renamed = _rename(_rename(name.removeprefix("encoder."), _MMACTION_NAMES), _NAMES)
        yield _rename(renamed, _MAE_NAMES), value
        return
    where, number, rest = block.groups()
    rest = _rename(rest, _MMACTION_BLOCK_NAMES)
    layer = (
        f"decoder.decoder_layers.{number}."
        if where in ("decoder.", "decoder_")
        else f"videomae.encoder.layer.{number}."
    )
    if rest in ("attn.qkv.weight", "attn.qkv.bias"):
        kind = rest.rsplit(".", 1)[1]
        for part, piece in zip(_QKV, value.chunk(3)):  # (3 * D, D) or (3 * D,), the rows of q, of k and of v
            yield f"{layer}attention.attention.{part}.{kind}", piece
    else:
        yield layer + _rename(rest, _BLOCK_NAMES), value


def to_official(weights: dict[str, torch.Tensor], *, pretraining: bool) -> dict[str, torch.Tensor]:
    """Our weights under the official names of a pretraining model (prefix `encoder.`) or a classifier (no prefix)."""
    return _to_official(weights, "encoder." if pretraining else "", "decoder.", _NAMES)


def to_mae(weights: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """The weights of an image model under the names of MAE's code, with zeros as biases of the keys.

    Args:
        weights: weights under our names, with the position tables, fixed ones too.
    """
    official = _to_official(weights, "", "decoder_", {**_NAMES, **_MAE_NAMES})
    for name in [name for name in official if name.endswith("attn.qkv.weight")]:
        block, zeros = name.removesuffix("qkv.weight"), official[name].new_zeros(len(official[name]) // 3)
        query, value = (official.pop(f"{block}{part}_bias", zeros) for part in "qv")
        official[f"{block}qkv.bias"] = torch.cat([query, zeros, value])
    projection = official["patch_embed.proj.weight"]  # (D, C, 1, h, w) -> (D, C, h, w)
    return {**official, "patch_embed.proj.weight": projection.squeeze(2)}


def _to_official(
    weights: dict[str, torch.Tensor], encoder: str, decoder: str, outside: dict[str, str]
) -> dict[str, torch.Tensor]:
    """Our weights under official names, with these prefixes of the blocks, and the names `outside` of them."""
    official, waiting = {}, {}
    block_names = {ours: name for name, ours in _BLOCK_NAMES.items()}
    names = {ours: name for name, ours in outside.items()}
    for name, value in weights.items():
        block = re.match(r"^(videomae\.encoder\.layer|decoder\.decoder_layers)\.(\d+)\.(.+)$", name)
        if block is None:
            renamed = _rename(name, names)
            official[encoder + renamed if name.startswith("videomae.") else renamed] = value
            continue
        prefix = f"{decoder if block[1].startswith('decoder') else encoder}blocks.{block[2]}."
        part = re.fullmatch(r"attention\.attention\.(query|key|value)\.weight", block[3])
        if part is None:
            official[prefix + _rename(block[3], block_names)] = value
            continue
        parts = waiting.setdefault(prefix, {})
        parts[part[1]] = value
        if len(parts) == 3:
            official[prefix + "attn.qkv.weight"] = torch.cat([parts[key] for key in _QKV])
    return official


def _rename(name: str, names: dict[str, str]) -> str:
    """Replaces the beginning of a dotted name, matching whole components only."""
    for old, new in names.items():
        if name == old or name.startswith(old + "."):
            return new + name[len(old) :]
    return name


def config_from_opengvlab(config: dict) -> dict:
    """Converts the config.json of OpenGVLab's Hub repositories, which nests the model's fields, to our fields.

    Raises:
        ValueError: a field is missing or not a number, or `qk_scale` is set, which no released model does.
    """
    model = config["model_config"]
    if not isinstance(model, dict):
        raise ValueError(f"model_config of the checkpoint is {model!r:.40} instead of a mapping.")
    missing = [name for name in _OPENGVLAB_FIELDS if name not in model]
    if missing:
        raise ValueError(f"model_config of the checkpoint lacks {', '.join(missing)}.")
    for name in ("embed_dim", "mlp_ratio"):
        if not isinstance(model[name], int | float) or not 0 < model[name] < 2**20:
            raise ValueError(f"model_config of the checkpoint has {name}={model[name]!r:.40}; it must be a number.")
    if model.get("qk_scale") is not None:
        raise ValueError(f"qk_scale={model['qk_scale']} is not supported; no released checkpoint sets it.")
    fields = {
        "image_size": model["img_size"],
        "patch_size": model["patch_size"],
        "num_channels": model["in_chans"],
        "num_frames": model["num_frames"],
        "tubelet_size": model["tubelet_size"],
        "hidden_size": model["embed_dim"],
        "num_hidden_layers": model["depth"],
        "num_attention_heads": model["num_heads"],
        "intermediate_size": int(model["embed_dim"] * model["mlp_ratio"]),
        "qv_bias": model["qkv_bias"],
        "layer_norm_eps": model.get("layer_norm_eps", 1e-6),
        "layer_scale_init_value": model.get("init_values") or 0.0,
        "use_cosine_attention": model.get("cos_attn", False),
        "position_embedding_type": "learned" if model.get("use_learnable_pos_emb") else "sinusoidal",
        "use_mean_pooling": model.get("use_mean_pooling", True),
        "hidden_dropout_prob": model.get("drop_rate", 0.0),
        "attention_probs_dropout_prob": model.get("attn_drop_rate", 0.0),
        "drop_path_rate": model.get("drop_path_rate", 0.0),
    }
    if "id2label" in config:
        fields.update(id2label=config["id2label"], label2id=config.get("label2id"))
    else:
        fields["num_labels"] = model.get("num_classes", 0)
    return fields

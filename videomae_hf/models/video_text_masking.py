# Copyright 2026 The videomae_hf authors. Licensed under the Apache License, Version 2.0.
"""The random part of VideoBERT's objectives: masked words, masked segments, other texts for matching.

Each function takes a `torch.Generator`. As in BERT, a row has `max(1, round(ratio * n))` masks of its n words or
segments, of which 80 % are hidden, 10 % replaced by others of the same modality, and 10 % left as they are. This file
ships with checkpoints and may import only its siblings.
"""

from collections.abc import Iterable

import torch

from .configuration_videobert import VideoBertConfig, require_token
from .video_text_objectives import compacted, is_same_text


_HIDDEN, _REPLACED = 0.8, 0.9  # up to these: 80 % are hidden, the next 10 % replaced


def special_ids(config: VideoBertConfig) -> list[int]:
    """The special tokens that the configuration names."""
    names = ("pad_token_id", "cls_token_id", "sep_token_id", "mask_token_id", "separator_token_id")
    return [number for name in names if (number := getattr(config, name)) is not None]


def mask_words(
    input_ids: torch.Tensor,
    attention_mask: torch.Tensor,
    config: VideoBertConfig,
    generator: torch.Generator | None = None,
    special_token_ids: Iterable[int] = (),
) -> tuple[torch.Tensor, torch.Tensor]:
    """Masks words at `config.text_mask_ratio`; special tokens are never masked, and replace no word.

    Args:
        input_ids: int64 (B, T).
        attention_mask: bool or int (B, T), 0 for padding.
        config: names the special tokens, and the mask.
        generator: random generator, on the device of the texts.
        special_token_ids: further tokens that are no words, such as `tokenizer.all_special_ids`.

    Returns:
        The masked texts, and `text_labels`: the words where one is predicted, and -100 elsewhere; int64 (B, T) each.
    """
    special = torch.tensor(sorted({*special_ids(config), *special_token_ids}), device=input_ids.device)
    candidates = attention_mask.bool() & ~torch.isin(input_ids, special)
    chosen = _choose(candidates, config.text_mask_ratio, generator)
    labels = input_ids.masked_fill(~chosen, -100)
    vocabulary = torch.arange(config.vocab_size, device=input_ids.device)
    words = vocabulary[~torch.isin(vocabulary, special)]
    options = {"generator": generator, "device": input_ids.device}
    fate, others = torch.rand(input_ids.shape, **options), torch.randint(len(words), input_ids.shape, **options)
    masked = input_ids.masked_fill(chosen & (fate < _HIDDEN), require_token(config, "mask_token_id"))
    return torch.where(chosen & (fate >= _HIDDEN) & (fate < _REPLACED), words[others], masked), labels


def mask_segments(
    video_mask: torch.Tensor, ratio: float, generator: torch.Generator | None = None
) -> tuple[torch.Tensor, torch.Tensor]:
    """Masks whole segments, with all of their places.

    Args:
        video_mask: bool (B, S), False for padding, which is never masked, and replaces no segment.
        ratio: fraction of the segments to mask.
        generator: random generator, on the device of the mask.

    Returns:
        `masked_segments`, bool (B, S), True where the feature is predicted; and `segment_sources`, int64 (B, S): the
        segment that is shown, counted over the batch (row * S + segment), or -1 for the embedding of the mask.
    """
    video_mask = video_mask.bool()
    chosen = _choose(video_mask, ratio, generator)
    places = torch.arange(video_mask.numel(), device=video_mask.device).view(video_mask.shape)
    known = places[video_mask]
    if len(known) == 0:
        return chosen, places
    options = {"generator": generator, "device": video_mask.device}
    fate, others = torch.rand(video_mask.shape, **options), torch.randint(len(known), video_mask.shape, **options)
    sources = places.masked_fill(chosen & (fate < _HIDDEN), -1)
    return chosen, torch.where(chosen & (fate >= _HIDDEN) & (fate < _REPLACED), known[others], sources)


def _choose(candidates: torch.Tensor, ratio: float, generator: torch.Generator | None) -> torch.Tensor:
    """bool (B, N) -> bool (B, N): `max(1, round(ratio * n))` of the n candidates of each row; none for a ratio of 0."""
    noise = torch.rand(candidates.shape, generator=generator, device=candidates.device)
    rank = noise.masked_fill(~candidates, 2.0).argsort(dim=1).argsort(dim=1)
    number = (candidates.sum(dim=1, keepdim=True) * ratio).round().clamp(min=1 if ratio > 0 else 0)
    return candidates & (rank < number)


def sample_negatives(
    input_ids: torch.Tensor,
    attention_mask: torch.Tensor,
    num_negatives: int,
    generator: torch.Generator | None = None,
    eligible: torch.Tensor | None = None,
) -> torch.Tensor:
    """Other texts for each row, without repetition; texts equal to its own are never among them.

    Args:
        input_ids, attention_mask: int64 and bool (B, T), texts without masked words.
        num_negatives: number K of other texts.
        generator: random generator, on the device of the texts.
        eligible: bool (B,), the rows whose texts may be taken; None is all of them.

    Returns:
        int64 (B, K), rows of the batch. Where there are fewer than K other texts, the row itself takes their places;
        the model leaves it out, since its text is the true one.
    """
    rows, texts = len(input_ids), compacted(input_ids, attention_mask)
    excluded = is_same_text(texts[:, None], texts[None])  # (B, B)
    if eligible is not None:
        excluded = excluded | ~eligible
    noise = torch.rand((rows, rows), generator=generator, device=input_ids.device).masked_fill(excluded, 2.0)
    noise, order = noise.sort(dim=1)
    own = torch.arange(rows, device=input_ids.device)[:, None]
    order = torch.where(noise > 1, own, order)[:, :num_negatives]
    return torch.cat([order, own.expand(-1, num_negatives - order.shape[1])], dim=1)

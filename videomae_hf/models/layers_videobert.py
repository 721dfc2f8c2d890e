# Copyright 2026 The videomae_hf authors. Licensed under the Apache License, Version 2.0.
"""The parts of VideoBERT besides BERT: embeddings of segments, positions, attention masks, heads.

Shapes in comments: B rows (a video, a text or both), S segments, P tokens of a segment, F values of a feature, T tokens
of a text, D hidden size, N = S * P + T. Video tokens come first, segment by segment; the order of the paper,
`[CLS] text [>] video [SEP]`, is that of the position ids. This file ships with checkpoints and may import only its
siblings.
"""

import torch
from torch import nn
from transformers.masking_utils import create_bidirectional_mask
from transformers.models.bert.modeling_bert import BertPredictionHeadTransform

from .configuration_videobert import VideoBertConfig
from .visual_words import nearest, standardize


def paper_positions(
    input_ids: torch.Tensor,
    attention_mask: torch.Tensor,
    video_mask: torch.Tensor,
    separator_token_id: int | None,
    *,
    prefix: bool = False,
) -> tuple[torch.Tensor, torch.Tensor]:
    """Positions in the order of the paper: text up to the separator, the video, and the rest of the text.

    Padding counts nowhere, wherever it is. Without a separator the video comes after the whole text or, with `prefix`,
    before it: a position never depends on words that are not yet there.

    Args:
        input_ids: int64 (B, T).
        attention_mask: bool (B, T), False for padding.
        video_mask: bool (B, S), False for padding.
        separator_token_id: the number of `[>]`; None if there is none.
        prefix: whether the text is generated word by word.

    Returns:
        Positions of the text (B, T) and of the segments (B, S), int64; those of padding mean nothing.
    """
    words, segments = attention_mask.long(), video_mask.long()
    separators = words * (input_ids == (-1 if separator_token_id is None else separator_token_id))
    passed = separators.cumsum(dim=1)  # separators up to and including each token
    after = passed - separators > 0
    if prefix:
        after = after | (passed[:, -1:] == 0)
    before = (words * ~after).sum(dim=1, keepdim=True)  # (B, 1), tokens before the video
    text = words.cumsum(dim=1) - 1 + after * segments.sum(dim=1, keepdim=True)
    return text.clamp(min=0), (before + segments.cumsum(dim=1) - 1).clamp(min=0)


def allowed_pairs(valid: torch.Tensor, num_words: int, *, prefix: bool = False) -> torch.Tensor:
    """Which token (query) may see which (key): bool (B, N) -> bool (B, N, N).

    Padding is seen by nobody but itself, so that no query is left without keys. With `prefix`, the video sees the video
    alone, and a word sees the video and the words up to itself.
    """
    number = valid.shape[1]
    # 0 for the video, and 1, 2, .. for words
    order = torch.arange(number, device=valid.device).sub(number - num_words - 1).clamp(min=0)
    allowed = valid[:, None, :].expand(-1, number, -1)
    if prefix:
        allowed = allowed & (order[:, None] >= order)
    return allowed | torch.eye(number, dtype=torch.bool, device=valid.device)


def divided_pairs(num_segments: int, places: int, num_words: int, device: torch.device) -> list[torch.Tensor]:
    """The pairs of divided attention, bool (N, N) each: over time at each place, and over the places of each segment.

    Every pair with a word is in both.
    """
    segment = torch.arange(num_segments, device=device).repeat_interleave(places)
    place = torch.arange(places, device=device).repeat(num_segments)
    pairs = []
    for part in (place, segment):
        pair = torch.ones(len(part) + num_words, len(part) + num_words, dtype=torch.bool, device=device)
        pair[: len(part), : len(part)] = part[:, None] == part
        pairs.append(pair)
    return pairs


def mask_of_pairs(config: VideoBertConfig, embeddings: torch.Tensor, pairs: torch.Tensor):
    """Pairs (B, N, N) in the form that the attention implementation takes, for embeddings (B, N, D)."""
    if config._attn_implementation == "sdpa":
        return pairs[:, None]  # (B, N, N) -> (B, 1, N, N)
    if config._attn_implementation == "eager":
        mask = torch.zeros(pairs.shape, dtype=embeddings.dtype, device=pairs.device)
        return mask.masked_fill_(~pairs, torch.finfo(mask.dtype).min)[:, None]
    # Others take functions of indices, from which transformers makes their masks, in a few milliseconds.
    return create_bidirectional_mask(
        config, embeddings, None, and_mask_function=lambda batch, head, query, key: pairs[batch, query, key]
    )


class VideoBertVideoEmbeddings(nn.Module):
    """From standardised features, or their visual words, to the input of BERT."""

    def __init__(self, config: VideoBertConfig) -> None:
        super().__init__()
        self.of_words = config.video_input == "words"
        size, width = config.feature_size, config.hidden_size
        self.register_buffer("feature_mean", torch.zeros(size))
        self.register_buffer("feature_std", torch.ones(size))
        if config.visual_words:
            self.register_buffer("centroids", torch.zeros(config.visual_words, size))
        self.visual_word_embeddings = nn.Embedding(config.visual_words, size) if self.of_words else None
        # In the paper a centroid has as many values as BERT-large has, and is its own embedding.
        self.projection = nn.Identity() if self.of_words and size == width else nn.Linear(size, width)
        self.mask_embedding = nn.Parameter(torch.zeros(width))
        places = config.tokens_per_segment
        self.place_embeddings = nn.Embedding(places, width) if places > 1 else None

    def standardized(self, features: torch.Tensor) -> torch.Tensor:
        """(.., F) -> float32 (.., F)."""
        return standardize(features, self.feature_mean, self.feature_std)

    def words_of(self, features: torch.Tensor) -> torch.Tensor:
        """Standardised features (.., F) -> int64 (..)."""
        return nearest(features, self.centroids)

    def forward(self, features: torch.Tensor, sources: torch.Tensor | None = None) -> torch.Tensor:
        """Standardised features (B, S, P, F) -> (B, S * P, D).

        Args:
            features: standardised features.
            sources: int64 (B, S), for each segment the one that is shown in its place, counted over the batch, or -1
                for the embedding of the mask; None shows all as they are.
        """
        if self.of_words:
            shown = self.visual_word_embeddings(self.words_of(features))
        else:
            shown = features.to(self.mask_embedding.dtype)
        shown = self.projection(shown)  # (B, S, P, D)
        if sources is not None:
            replaced = shown.flatten(0, 1)[sources.clamp(min=0)]  # (B * S, P, D) -> (B, S, P, D)
            shown = torch.where((sources < 0)[..., None, None], self.mask_embedding, replaced)
        if self.place_embeddings is not None:
            shown = shown + self.place_embeddings.weight
        return shown.flatten(1, 2)


class VideoBertVideoHead(nn.Module):
    """Predicts the standardised features of masked segments, or their visual words: (.., D) -> (.., F or K)."""

    def __init__(self, config: VideoBertConfig) -> None:
        super().__init__()
        self.transform = BertPredictionHeadTransform(config)
        size = config.visual_words if config.video_loss == "words" else config.feature_size
        self.decoder = nn.Linear(config.hidden_size, size)

    def forward(self, hidden_states: torch.Tensor) -> torch.Tensor:
        return self.decoder(self.transform(hidden_states))


class VideoBertMatchHead(nn.Module):
    """Scores how well video and text match, from the state of `[CLS]`: (.., D) -> (..)."""

    def __init__(self, config: VideoBertConfig) -> None:
        super().__init__()
        self.dense = nn.Linear(config.hidden_size, config.hidden_size)
        self.dropout = nn.Dropout(config.hidden_dropout_prob)
        self.score = nn.Linear(config.hidden_size, 1)

    def forward(self, hidden_states: torch.Tensor) -> torch.Tensor:
        return self.score(self.dropout(self.dense(hidden_states).tanh())).squeeze(-1)

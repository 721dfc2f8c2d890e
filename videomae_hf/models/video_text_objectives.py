# Copyright 2026 The videomae_hf authors. Licensed under the Apache License, Version 2.0.
"""The losses of VideoBERT, as sums with the numbers of their terms.

All are computed in float32. The sum of an objective is divided by the number of its terms in the batch, or in all
batches of a step (see `VideoBertForPreTraining.forward`, `loss_counts`). Without terms, sum and gradients are 0. This
file ships with checkpoints and may import only its siblings.
"""

from typing import NamedTuple

import torch
from torch import nn


class Objective(NamedTuple):
    """A sum of losses and the number of its terms, float32 () each."""

    total: torch.Tensor
    count: torch.Tensor

    def mean(self, count: torch.Tensor | None = None) -> torch.Tensor:
        """The sum divided by its own number of terms, or by another one; 0 without terms."""
        count = self.count if count is None else count
        return self.total / count.where(count > 0, 1)


def masked_word_loss(logits: torch.Tensor, labels: torch.Tensor) -> Objective:
    """Cross-entropy of masked words or visual words.

    Args:
        logits: (.., V).
        labels: int64 (..), -100 where nothing is predicted.
    """
    logits, labels = logits.float().flatten(0, -2), labels.flatten()
    return Objective(nn.functional.cross_entropy(logits, labels, reduction="sum"), (labels != -100).sum().float())


def masked_feature_loss(predictions: torch.Tensor, targets: torch.Tensor, masked: torch.Tensor) -> Objective:
    """Squared error of masked features, averaged over their values.

    Args:
        predictions, targets: (B, S, P, F).
        masked: bool (B, S, P), True where a feature is predicted.
    """
    errors = (predictions.float() - targets.float()).square().mean(dim=-1)  # (B, S, P)
    return Objective(errors.where(masked, 0).sum(), masked.sum().float())


def contrastive_loss(
    predictions: torch.Tensor,
    masked: torch.Tensor,
    compared: torch.Tensor,
    comparable: torch.Tensor,
    temperature: float,
) -> Objective:
    """Noise-contrastive estimation: each masked feature against the other features of the batch, by their cosine.

    Args:
        predictions: (B, S, P, F).
        masked: bool (B, S, P), True where a feature is predicted.
        compared: (C, F), the features that are compared; the first B * S * P are the true ones of `predictions`.
        comparable: bool (B, C), those that a row is compared with: no padding, and no other row with the same caption.
        temperature: divisor of the cosines.
    """
    rows, places = masked.nonzero()[:, 0], masked.flatten().nonzero()[:, 0]  # (M,), the true column of each
    predicted = nn.functional.normalize(predictions.float()[masked], dim=-1)  # (M, F)
    scores = predicted @ nn.functional.normalize(compared.float(), dim=-1).T / temperature  # (M, C)
    scores = scores.masked_fill(~comparable[rows], -torch.inf)
    return Objective(nn.functional.cross_entropy(scores, places, reduction="sum"), masked.sum().float())


def matching_loss(scores: torch.Tensor, valid: torch.Tensor, kind: str) -> Objective:
    """Matching of a video with its own text, in column 0, and others.

    Args:
        scores: (B, 1 + K).
        valid: bool (B, 1 + K), False for texts equal to the true one, and for padding. Rows without a true text or
            without another one do not count.
        kind: `"softmax"`: cross-entropy over the texts, a term for each row; `"binary"`: binary cross-entropy, a term
            for each text.
    """
    scores = scores.float()
    valid = valid & valid[:, :1] & valid[:, 1:].any(dim=1, keepdim=True)
    if kind == "softmax":
        counted = valid[:, 0]
        # A row without a term has scores of 0, and not -inf, whose gradient would be NaN.
        scores = scores.masked_fill(~valid & counted[:, None], -torch.inf).where(counted[:, None], 0)
        losses = scores.logsumexp(dim=1) - scores[:, 0]
        return Objective(losses.where(counted, 0).sum(), counted.sum().float())
    labels = torch.zeros_like(scores)
    labels[:, 0] = 1
    losses = nn.functional.binary_cross_entropy_with_logits(scores, labels, reduction="none")
    return Objective(losses.where(valid, 0).sum(), valid.sum().float())


def next_word_loss(logits: torch.Tensor, labels: torch.Tensor) -> Objective:
    """Cross-entropy of each word given those before it: logits (B, T, V), labels int64 (B, T), -100 to leave out."""
    return masked_word_loss(logits[:, :-1], labels[:, 1:])


# -------------------------------------------------------------------------------------------------------- equal texts


def compacted(input_ids: torch.Tensor, attention_mask: torch.Tensor) -> torch.Tensor:
    """Token ids (.., T) with padding moved to the end and replaced by -1."""
    order = (~attention_mask.bool()).long().argsort(dim=-1, stable=True)
    return input_ids.masked_fill(~attention_mask.bool(), -1).gather(-1, order)


def whole_texts(input_ids: torch.Tensor, labels: torch.Tensor | None) -> torch.Tensor:
    """Texts (.., T) with the words that `labels` has at masked places, and -100 elsewhere; None is no masks."""
    return input_ids if labels is None else torch.where(labels == -100, input_ids, labels)


def is_same_text(first: torch.Tensor, second: torch.Tensor) -> torch.Tensor:
    """Whether texts of `compacted`, (.., T) and (.., T'), are equal: bool (..), broadcast."""
    length = max(first.shape[-1], second.shape[-1])
    first, second = (nn.functional.pad(one, (0, length - one.shape[-1]), value=-1) for one in (first, second))
    return (first == second).all(dim=-1)


def has_words(input_ids: torch.Tensor, attention_mask: torch.Tensor, special: list[int]) -> torch.Tensor:
    """Whether texts (.., T) have a token that is neither padding nor special: bool (..)."""
    is_special = torch.isin(input_ids, torch.tensor(special, device=input_ids.device))
    return (attention_mask.bool() & ~is_special).any(dim=-1)

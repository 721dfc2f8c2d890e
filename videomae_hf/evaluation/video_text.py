# Copyright 2026 The videomae_hf authors. Licensed under the Apache License, Version 2.0.
"""Metrics of videos and texts: retrieval both ways, masked words, verbs and objects, captions."""

import importlib
from collections import defaultdict
from collections.abc import Sequence

import numpy as np


_RECALLS = (1, 5, 10)


def retrieval_scores(scores: np.ndarray, matches: np.ndarray | None = None, ks: Sequence[int] = _RECALLS) -> dict:
    """Recall at K and the median rank of the best match, both ways.

    The rank of a match is 1 plus the number of others with a higher score, and half of those with the same score, so
    that equal scores are worth chance. Other matches of a query do not count against it.

    Args:
        scores: (V, T), larger for pairs that fit better.
        matches: bool (V, T), True where a text describes a video; None pairs them in order.
        ks: numbers K.

    Returns:
        {"text_to_video_recall@1": .., "text_to_video_median_rank": .., "video_to_text_recall@1": .., ..}. A query
        without a match does not count.

    Raises:
        ValueError: the shapes differ, or nothing matches.
    """
    scores = np.asarray(scores, np.float64)
    matches = np.eye(*scores.shape, dtype=bool) if matches is None else np.asarray(matches, bool)
    if scores.shape != matches.shape or not matches.any():
        raise ValueError(f"scores {scores.shape} and matches {matches.shape} need one shape, and at least one match.")
    found = {}
    for way, table, true in (("text_to_video", scores.T, matches.T), ("video_to_text", scores, matches)):
        ranks = np.array([rank_of_match(row, own) for row, own in zip(table, true) if own.any()])
        found |= {f"{way}_recall@{k}": float((ranks <= k).mean()) for k in ks}
        found[f"{way}_median_rank"] = float(np.median(ranks))
    return found


def rank_of_match(scores: np.ndarray, own: np.ndarray) -> float:
    """The rank, from 1, of the best match among the answers to a query, see `retrieval_scores`.

    Args:
        scores: (N,), larger for answers that fit better.
        own: bool (N,), True for matches, of which there is at least one.
    """
    best, others = scores[own].max(), scores[~own]
    return 1 + (others > best).sum() + (others == best).sum() / 2


def masked_word_accuracy(predicted: Sequence[str], true: Sequence[str], classes: Sequence[str]) -> dict[str, float]:
    """The fraction of masked words that are predicted, for each class of words, such as verb and noun, and for all.

    Raises:
        ValueError: the lengths differ, or there is no word.
    """
    _check_lengths(predicted, true, classes)
    right = defaultdict(list)
    for word, truth, name in zip(predicted, true, classes):
        right[name].append(word == truth)
    scores = {name: float(np.mean(some)) for name, some in sorted(right.items())}
    return {**scores, "all": float(np.mean([one for some in right.values() for one in some]))}


def top_k_words(
    predicted: Sequence[Sequence[str]], true: Sequence[str], ks: Sequence[int] = (1, 5)
) -> dict[str, float]:
    """The fraction of masked verbs or objects that are among the K likeliest words, as in the paper's zero-shot test.

    Args:
        predicted: for each masked place its words, the likeliest first.
        true: the words.
        ks: numbers K.
    """
    _check_lengths(predicted, true)
    return {f"top{k}": float(np.mean([truth in words[:k] for words, truth in zip(predicted, true)])) for k in ks}


def exact_match(captions: Sequence[str], references: Sequence[Sequence[str]]) -> float:
    """The fraction of captions that equal one of their references, apart from case and spaces."""
    _check_lengths(captions, references)
    plain = [{_plain(one) for one in some} for some in references]
    return float(np.mean([_plain(one) in some for one, some in zip(captions, plain)]))


def caption_scores(captions: Sequence[str], references: Sequence[Sequence[str]]) -> dict[str, float]:
    """BLEU-1 to BLEU-4, ROUGE-L and CIDEr, and METEOR where Java runs, by `pycocoevalcap`.

    Texts are in lower case and split at spaces, not by the tokenizer of PTB, which needs Java.

    Raises:
        ValueError: `pycocoevalcap` is not installed.
    """
    _check_lengths(captions, references)
    try:
        scorers = {
            name: getattr(importlib.import_module(f"pycocoevalcap.{name.lower()}.{name.lower()}"), name)
            for name in ("Bleu", "Rouge", "Cider", "Meteor")
        }
    except ImportError as error:
        raise ValueError("BLEU, ROUGE-L, CIDEr and METEOR need pycocoevalcap: pip install '.[caption]'") from error
    found = {number: [_plain(one)] for number, one in enumerate(captions)}
    given = {number: [_plain(one) for one in some] for number, some in enumerate(references)}
    bleu, _ = scorers["Bleu"](4).compute_score(given, found, verbose=0)
    scores = {f"bleu{number}": float(value) for number, value in enumerate(bleu, start=1)}
    scores["rouge_l"] = float(scorers["Rouge"]().compute_score(given, found)[0])
    scores["cider"] = float(scorers["Cider"]().compute_score(given, found)[0])
    try:
        scores["meteor"] = float(scorers["Meteor"]().compute_score(given, found)[0])
    except FileNotFoundError:  # there is no java
        scores["meteor"] = float("nan")
    return scores


def _plain(text: str) -> str:
    return " ".join(text.lower().split())


def _check_lengths(*parts: Sequence) -> None:
    lengths = {len(part) for part in parts}
    if len(lengths) != 1 or 0 in lengths:
        raise ValueError(f"{' and '.join(str(len(part)) for part in parts)} values; all need the same number, above 0.")

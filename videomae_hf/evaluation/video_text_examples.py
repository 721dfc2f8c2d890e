# Copyright 2026 The videomae_hf authors. Licensed under the Apache License, Version 2.0.
"""What a VideoBERT makes of a few fixed videos and captions, in words: the content of pictures in the log of a run.

Masks come from generators of their own, so that they are the same at each step. Words are filled with the whole video
at hand, and segments predicted with the whole caption. `draw_answers` makes the picture.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
from torch import nn

from ..data.captions import CaptionedVideos
from ..data.sources.records import VideoRecord
from ..data.video_dataset import generator_of
from ..models.modeling_videobert import VideoBertPreTrainedModel
from ..models.modeling_videobert_pretraining import VideoBertForPreTraining
from ..models.modeling_videobert_tasks import (
    VideoBertForCaptioning,
    VideoBertForRetrieval,
    VideoBertForVideoClassification,
)
from ..models.processing_videobert import VideoBertProcessor, spread
from ..models.video_decoding import VideoDecodeError
from ..models.video_text_masking import mask_segments, mask_words, special_ids
from .video_text import exact_match, rank_of_match
from .video_text_scores import as_written, features_of_segments, longest_caption


RIGHT, WRONG, PLAIN = "right", "wrong", ""
_TEXTS = 8  # that each video is compared with; more, if there are more examples
_TRIES = 4  # videos that are looked at for each example, of which some may be unreadable
_CLASSES = 3
_TIE = 1e-6
_LONGEST_CAPTION = 32  # words of a written caption


@dataclass(frozen=True)
class Example:
    """A video with its captions.

    Args:
        number: its number among the videos; -1 is a text alone.
        record: the video; None is a text alone.
        texts: its captions, of which the first is shown; they may be none.
    """

    number: int
    record: VideoRecord | None
    texts: list[str]


@dataclass(frozen=True)
class Line:
    """A line of text below an example: its name, and pieces with a mark, `RIGHT`, `WRONG` or `PLAIN`."""

    name: str
    pieces: list[tuple[str, str]]

    def __str__(self) -> str:
        return f"{self.name}: {' '.join(text for text, _ in self.pieces)}"


@dataclass(frozen=True, eq=False)
class Table:
    """How well texts describe videos.

    Args:
        texts: the N texts.
        videos: the places of the V videos among the examples, from 0.
        shares: float (N, V), from 0 to 1; with `match_loss="softmax"` those of a video have the sum 1.
        right: bool (N, V), whether a text is a caption of the video.
    """

    texts: list[str]
    videos: list[int]
    shares: np.ndarray
    right: np.ndarray


@dataclass(frozen=True)
class Answers:
    """What a model makes of examples.

    Args:
        lines: the lines of each example.
        segments: the number of segments of each example; 0 without a video.
        table: scores of texts and videos, of models that match them.
    """

    lines: list[list[Line]]
    segments: list[int]
    table: Table | None = None


@dataclass(frozen=True)
class Examples:
    """A few videos with captions, and further texts to compare the videos with; see `choose_examples`.

    Args:
        items: the examples.
        texts: the first caption of each, and further texts.
        segments: called with the number of a video, returns its segments, see `PairTransform`.
        processor: encodes the texts.
    """

    items: list[Example]
    texts: list[str]
    segments: Callable[[int], torch.Tensor] = field(repr=False)
    processor: VideoBertProcessor = field(repr=False)

    @torch.no_grad()
    def answers(self, model: VideoBertPreTrainedModel) -> Answers:
        """What a model, in evaluation mode, makes of them. A video that can no longer be read has a line that says
        so."""
        answer = _ANSWERS[type(model)]
        lines, features = [], [self._features(model, item) for item in self.items]
        for place, (item, one) in enumerate(zip(self.items, features)):
            if item.record is not None and one is None:
                lines.append([Line("video", [("cannot be read", PLAIN)])])
            else:
                lines.append(answer(model, self.processor, item, one, generator_of(0, place)))
        table = None
        if getattr(model, "match_head", None) is not None:
            table = self._table(model, features)
        for place, line in _ranks(table):
            lines[place].append(line)
        return Answers(lines, [0 if one is None else len(one) for one in features], table)

    def _features(self, model: VideoBertPreTrainedModel, item: Example) -> torch.Tensor | None:
        """Features (S, P, F), on the device of the model; None without a video."""
        if item.record is None:
            return None
        try:
            features = features_of_segments(model, self.segments(item.number))
        except (VideoDecodeError, OSError):
            return None
        return features[spread(len(features), self.processor.max_segments)].to(model.device)

    def _table(self, model, features: list[torch.Tensor | None]) -> Table | None:
        shown = [place for place, one in enumerate(features) if one is not None and self.items[place].texts]
        if not shown or len(self.texts) < 2:
            return None
        texts = self.processor.encode_texts(self.texts, "pair")["input_ids"].to(model.device)[None]  # (N, T) -> (1, ..)
        columns = []
        for place in shown:
            video = features[place][None]  # (S, P, F) -> (1, S, P, F)
            mask = torch.ones(video.shape[:2], dtype=torch.bool, device=video.device)
            scores = model.match(model.video_bert.standardized(video, mask), mask, texts)[0].float()  # (N,)
            columns.append(scores.sigmoid() if model.config.match_loss == "binary" else scores.softmax(dim=0))
        right = [[text in self.items[place].texts for place in shown] for text in self.texts]
        return Table(self.texts, shown, torch.stack(columns, dim=1).cpu().numpy(), np.array(right))


def choose_examples(
    videos: CaptionedVideos, segments: Callable[[int], torch.Tensor], processor: VideoBertProcessor, number: int
) -> Examples:
    """Examples for pictures: readable videos, spread over the data; texts alone, if there is no video.

    Args:
        videos: the pairs.
        segments, processor: see `Examples`.
        number: number of examples; there are fewer, or none, if too many videos cannot be read.
    """
    known = sorted({pair.video for pair in videos.pairs} - {-1})
    every = sorted({pair.text for pair in videos.pairs} - {""})
    if known:
        first = [known[place] for place in spread(len(known), number)]
        others = [known[place] for place in spread(len(known), _TRIES * number)]
        numbers = _readable([*first, *(one for one in others if one not in first)], segments, number)
        texts = {one: [] for one in numbers}
        for pair in videos.pairs:
            if pair.text and pair.video in texts and pair.text not in texts[pair.video]:
                texts[pair.video].append(pair.text)
        items = [Example(one, videos.records[one], texts[one]) for one in numbers]
    else:
        items = [Example(-1, None, [every[place]]) for place in spread(len(every), number)]
    own = dict.fromkeys(item.texts[0] for item in items if item.texts)
    others = [text for text in (every[place] for place in spread(len(every), _TEXTS)) if text not in own]
    return Examples(items, [*own, *others[: max(_TEXTS - len(own), 0)]], segments, processor)


def _readable(numbers: Sequence[int], segments: Callable[[int], torch.Tensor], most: int) -> list[int]:
    """The first videos that can be read, in their order among the data."""
    found = []
    for number in numbers:
        if len(found) == most:
            break
        try:
            segments(number)
        except (VideoDecodeError, OSError):
            continue
        found.append(number)
    return sorted(found)


# ------------------------------------------------------------------------------------------------- lines of an example


def _pretraining_lines(model: VideoBertForPreTraining, processor, item: Example, features, generator) -> list[Line]:
    if not item.texts:
        lines = [Line("caption", [("none", PLAIN)])]
    elif model.cls is None:
        lines = [Line("caption", [(item.texts[0], PLAIN)])]
    else:
        lines = _filled_words(model, processor, item.texts[0], features, generator)
    if model.video_head is not None and features is not None and len(features) > 1:
        lines.append(_predicted_segments(model, processor, item, features, generator))
    return lines


def _filled_words(model, processor, text: str, features, generator) -> list[Line]:
    """The caption with its hidden words in brackets, and the likeliest word at each of these places."""
    tokenizer, config = processor.tokenizer, model.config
    encoded = processor.encode_texts([text], "text" if features is None else "pair")
    ids, mask = encoded["input_ids"], encoded["attention_mask"]
    labels = mask_words(ids, mask, config, generator, tokenizer.all_special_ids)[1]
    masked = ids.masked_fill(labels != -100, config.mask_token_id)
    inputs = {"input_ids": masked.to(model.device), "attention_mask": mask.to(model.device), **_video(features)}
    chances = model(**inputs).logits[0].float().softmax(dim=-1).cpu()  # (T, vocabulary)
    caption, filled = [], []
    for number, label, row in zip(ids[0].tolist(), labels[0].tolist(), chances):
        word = _word(tokenizer, number)
        if label != -100:
            best = int(row.argmax())
            filled.append(_answer(_word(tokenizer, best), float(row[best]), word, float(row[number])))
            caption.append((f"[{word}]", PLAIN))
        elif number not in special_ids(config):
            caption.append((word, PLAIN))
    return [Line("caption", caption), Line("filled in", filled or [("no word is hidden", PLAIN)])]


def _answer(answer: str, chance: float, true: str, its_chance: float) -> tuple[str, str]:
    if answer == true:
        return f"[{answer} {chance:.0%}]", RIGHT
    return f"[{answer} {chance:.0%}, not {true} {its_chance:.0%}]", WRONG


def _word(tokenizer, number: int) -> str:
    return tokenizer.decode([number]).strip()


def _predicted_segments(model, processor, item: Example, features: torch.Tensor, generator) -> Line:
    """For each hidden segment, the segment of the video, from 1, that its prediction fits best."""
    masked = mask_segments(torch.ones(1, len(features), dtype=torch.bool), model.config.video_mask_ratio, generator)[0]
    text = processor.encode_texts([item.texts[0] if item.texts else ""], "pair")
    text = {name: value.to(model.device) for name, value in text.items()}
    predicted = model(**text, **_video(features), masked_segments=masked.to(model.device)).video_logits[0].float()
    known = torch.ones(1, len(features), dtype=torch.bool, device=features.device)
    true = model.video_bert.standardized(features[None], known)  # (1, S, P, F)
    pieces = []
    for place in masked[0].nonzero().flatten().tolist():
        fits = _fits(model, predicted[place], true)
        best = int(fits.argmax())
        is_right = bool(fits[place] >= fits[best] - _TIE)  # of equal segments, each is
        pieces.append((f"[{place + 1}]", RIGHT) if is_right else (f"[{best + 1}, not {place + 1}]", WRONG))
    return Line("hidden segments", pieces or [("none", PLAIN)])


def _fits(model: VideoBertForPreTraining, predicted: torch.Tensor, true: torch.Tensor) -> torch.Tensor:
    """How well a prediction (P, F or K) fits each segment of standardised features (1, S, P, F): (S,)."""
    kind, true = model.config.video_loss, true.float()
    if kind == "words":
        words = model.video_bert.video_embeddings.words_of(true)[0]  # (S, P)
        chances = predicted.log_softmax(dim=-1).expand(len(words), -1, -1)  # (P, K) -> (S, P, K)
        return chances.gather(2, words[..., None])[..., 0].mean(dim=1)
    if kind == "mse":
        return -(true[0] - predicted).square().mean(dim=(1, 2))
    return nn.functional.cosine_similarity(true[0], predicted[None], dim=-1).mean(dim=1)


def _retrieval_lines(model, processor, item: Example, features, generator) -> list[Line]:
    return [Line("caption", [(item.texts[0], PLAIN)])]


def _ranks(table: Table | None) -> list[tuple[int, Line]]:
    """The rank of the right text of each video: the place of the example, and its line."""
    found = []
    for column, place in enumerate([] if table is None else table.videos):
        shares, right = table.shares[:, column], table.right[:, column]
        rank = rank_of_match(shares, right)
        pieces = [(f"rank {rank:g} of {len(shares)} texts", RIGHT if rank == 1 else WRONG)]
        if rank > 1:
            pieces.append((f"first: {table.texts[int(shares.argmax())]}", PLAIN))
        found.append((place, Line("matching", pieces)))
    return found


def _captioning_lines(model: VideoBertForCaptioning, processor, item: Example, features, generator) -> list[Line]:
    longest = min(longest_caption(model, processor, len(features)), _LONGEST_CAPTION)
    ids = model.generate(**_video(features), max_new_tokens=longest)
    written = " ".join(processor.tokenizer.decode(ids[0], skip_special_tokens=True).split())
    is_right = exact_match([written], [[as_written(processor, text) for text in item.texts]]) == 1
    mark = RIGHT if is_right else WRONG
    return [Line("caption", [(item.texts[0], PLAIN)]), Line("written", [(written or "(nothing)", mark)])]


def _classification_lines(model, processor, item: Example, features, generator) -> list[Line]:
    names, label = model.config.id2label, item.record.label
    chances = model(**_video(features)).logits[0].float().softmax(dim=-1).cpu()
    pieces = []
    for place, number in enumerate(chances.topk(min(_CLASSES, len(chances))).indices.tolist()):
        mark = RIGHT if number == label else WRONG if place == 0 else PLAIN
        pieces.append((f"[{names[number]} {chances[number]:.0%}]", mark))
    return [Line("class", [("unknown" if label is None else names[label], PLAIN)]), Line("predicted", pieces)]


def _video(features: torch.Tensor | None) -> dict[str, torch.Tensor]:
    """The inputs of a video with features (S, P, F)."""
    return {} if features is None else {"video_features": features[None]}


_ANSWERS = {
    VideoBertForPreTraining: _pretraining_lines,
    VideoBertForRetrieval: _retrieval_lines,
    VideoBertForCaptioning: _captioning_lines,
    VideoBertForVideoClassification: _classification_lines,
}

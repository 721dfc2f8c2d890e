# Copyright 2026 The videomae_hf authors. Licensed under the Apache License, Version 2.0.
"""Scores of a finetuned VideoBERT on pairs of videos and captions: retrieval, and captions that it writes."""

import importlib.util
import logging
from collections.abc import Callable, Sequence

import numpy as np
import torch

from ..data.captions import CaptionedVideos
from ..messages import named_error
from ..models.modeling_videobert import VideoBertPreTrainedModel
from ..models.modeling_videobert_tasks import VideoBertForCaptioning, VideoBertForRetrieval
from ..models.processing_videobert import VideoBertProcessor, pad_segments, spread
from ..models.video_decoding import VideoDecodeError
from .video_text import caption_scores, exact_match, retrieval_scores


logger = logging.getLogger(__name__)

_MOST_VIDEOS = 100  # that are scored: retrieval compares each of them with each text
_AT_ONCE = 16  # videos whose captions are written together


def scorer_of(
    model: VideoBertPreTrainedModel,
    processor: VideoBertProcessor,
    videos: CaptionedVideos,
    segments: Callable[[int], torch.Tensor],
) -> Callable[[], dict[str, float]] | None:
    """A function that scores a model on at most 100 videos, spread over the pairs; None for other models.

    Args:
        model: the model, whose weights at the time of the call are scored.
        processor: encodes the texts.
        videos: the pairs to evaluate on.
        segments: called with the number of a video, returns its segments, see `PairTransform`.
    """
    score = {VideoBertForRetrieval: _retrieval, VideoBertForCaptioning: _captions}.get(type(model))
    if score is None:
        return None
    every = sorted({pair.video for pair in videos.pairs})
    chosen = [every[place] for place in spread(len(every), _MOST_VIDEOS)]
    texts = {number: [pair.text for pair in videos.pairs if pair.video == number] for number in chosen}

    @torch.no_grad()
    def scores() -> dict[str, float]:
        features, readable = {}, []
        for number in chosen:
            try:
                features[number] = features_of_segments(model, segments(number))
            except (VideoDecodeError, OSError) as error:
                logger.warning("Bad video, left out: %s", named_error(videos.records[number].path, error))
                continue
            readable.append(number)
        if not readable:
            return {}
        batch = pad_segments([features[number] for number in readable], "video_features")
        batch = {name: value.to(model.device) for name, value in batch.items()}
        return {"scored_videos": len(readable), **score(model, processor, batch, [texts[one] for one in readable])}

    return scores


def features_of_segments(model: VideoBertPreTrainedModel, segments: torch.Tensor) -> torch.Tensor:
    """Features (S, P, F) of segments: they are these, or pixels (S, T, C, H, W) for the backbone in the model."""
    if segments.ndim != 5:
        return segments
    return model.video_bert.features_of(pixel_values=segments[None].to(model.device))[0].float().cpu()


def longest_caption(model: VideoBertPreTrainedModel, processor: VideoBertProcessor, segments: int) -> int:
    """How many words a caption may have: what the processor allows, as far as there are positions beside the segments.

    Args:
        model: the model, which may never end a caption by itself.
        processor: its processor.
        segments: number of segments of the video.
    """
    room = model.config.max_position_embeddings - segments - 2
    return max(min(processor.max_length - 3, room), 1)


def _retrieval(
    model: VideoBertForRetrieval, processor: VideoBertProcessor, batch: dict, texts: Sequence[list[str]]
) -> dict[str, float]:
    every = sorted({text for some in texts for text in some})
    encoded = {name: one.to(model.device) for name, one in processor.encode_texts(every, "pair").items()}
    matches = np.array([[text in some for text in every] for some in texts])
    return retrieval_scores(model.scores(**encoded, **batch).cpu().numpy(), matches)


def _captions(
    model: VideoBertForCaptioning, processor: VideoBertProcessor, batch: dict, texts: Sequence[list[str]]
) -> dict[str, float]:
    written, longest = [], longest_caption(model, processor, batch["video_mask"].shape[1])
    for first in range(0, len(texts), _AT_ONCE):
        part = {name: value[first : first + _AT_ONCE] for name, value in batch.items()}
        ids = model.generate(**part, max_new_tokens=longest)
        written += processor.tokenizer.batch_decode(ids, skip_special_tokens=True)
    references = [[as_written(processor, text) for text in some] for some in texts]
    found = {"exact_match": exact_match(written, references)}
    return found | (caption_scores(written, references) if importlib.util.find_spec("pycocoevalcap") else {})


def as_written(processor: VideoBertProcessor, text: str) -> str:
    """A text in the spelling of a model that writes it: the tokenizer does not give back every space and accent.

    Words that it does not know remain `[UNK]`, which no model writes.
    """
    return processor.tokenizer.decode(processor.tokenizer(text, add_special_tokens=False, verbose=False)["input_ids"])

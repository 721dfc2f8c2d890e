# Copyright 2026 The videomae_hf authors. Licensed under the Apache License, Version 2.0.
"""Items and batches of VideoBERT: pairs of a video and a caption, masked words and segments, other texts.

All randomness of an item comes from the generator of (seed, epoch, index), and not from the batch that it is in: the
other texts are sampled from the whole data set, and replaced segments show another segment of the same video. So a run
does not depend on the number of processes or on resuming.
"""

from collections.abc import Callable
from dataclasses import dataclass

import torch

from ..models.configuration_videobert import VideoBertConfig
from ..models.processing_videobert import VideoBertProcessor, pad_segments, spread
from ..models.video_text_masking import mask_segments, mask_words
from ..settings.groups import VideoTextSettings
from .captions import CaptionedVideos, CaptionRecord
from .video_dataset import generator_of


TASKS = ("pretraining", "classification", "retrieval", "captioning")
MOST_EXAMPLES = 16  # videos in a picture
_TRIES = 8  # texts that are looked at for each other text of an item


def check_pairs(settings: VideoTextSettings) -> None:
    """Raises ValueError if the settings of pairs are out of range."""
    if settings.task not in TASKS:
        raise ValueError(f"task={settings.task!r} is unknown; choose one of {', '.join(TASKS)}.")
    shares = settings.regimes
    if len(shares) != 3 or min(shares) < 0 or sum(shares) <= 0:
        raise ValueError(f"regimes={shares} must be three shares, of text alone, video alone, and both.")
    if not 0 <= settings.join_probability <= 1:
        raise ValueError(f"join_probability={settings.join_probability} must be between 0 and 1.")
    for name in ("max_subsampling", "hard_negatives"):
        if getattr(settings, name) < 1:
            raise ValueError(f"{name}={getattr(settings, name)} must be at least 1.")
    if not 0 <= settings.example_videos <= MOST_EXAMPLES:
        raise ValueError(f"example_videos={settings.example_videos} must be between 0 and {MOST_EXAMPLES}.")


@dataclass
class PairTransform:
    """A training item of each pair, for `VideoDataset`.

    Args:
        videos: the pairs.
        segments: called with the number of a video, returns its segments: float (S, P, F), or pixels (S, T, C, H, W).
        settings: the regimes, and the paper's means against misaligned captions; None, for evaluation, leaves these
            out.
        num_negatives: number of other texts of an item.
        max_segments: largest number of segments of joined videos.
        hard_negatives: other texts are those with the most words of the own one, among this many times as many.
    """

    videos: CaptionedVideos
    segments: Callable[[int], torch.Tensor]
    settings: VideoTextSettings | None
    num_negatives: int = 0
    max_segments: int = 16
    hard_negatives: int = 1

    def __call__(self, record: CaptionRecord, generator: torch.Generator) -> dict:
        numbers, text = self._joined(record.pair, generator)
        others = self._other_texts(numbers, text, generator)
        has_text, has_video = bool(text), record.video_number >= 0
        if self.settings is not None and has_text and has_video:
            shares = torch.tensor(self.settings.regimes, dtype=torch.float64)
            regime = int(torch.multinomial(shares, 1, generator=generator))
            has_text, has_video = regime != 1, regime != 0
        video = None
        if has_video:
            video = torch.cat([self.segments(number) for number in numbers])
            if self.settings is not None:
                step = int(torch.randint(1, self.settings.max_subsampling + 1, (), generator=generator))
                video = video[::step]
            video = video[spread(len(video), self.max_segments)]
        seed = int(torch.randint(2**62, (), generator=generator))
        item = {"path": record.name, "video": video, "text": text if has_text else "", "others": others, "seed": seed}
        return item if record.label is None else {**item, "labels": record.label}

    def _joined(self, pair: int, generator: torch.Generator) -> tuple[list[int], str]:
        """The videos and the text of a pair, possibly with those of the next caption of the same video."""
        pairs, records, one = self.videos.pairs, self.videos.records, self.videos.pairs[pair]
        joins = torch.rand((), generator=generator)
        if self.settings is None or joins >= self.settings.join_probability or pair + 1 == len(pairs):
            return [one.video], one.text
        after = pairs[pair + 1]
        is_next = one.video >= 0 and after.video >= 0 and after.video != one.video and bool(one.text and after.text)
        if not is_next or records[one.video].path != records[after.video].path:
            return [one.video], one.text
        return [one.video, after.video], f"{one.text} {after.text}"

    def _other_texts(self, videos: list[int], own: str, generator: torch.Generator) -> list[str]:
        """Different texts of other videos, joined as often as the own one; fewer, if the data have no more."""
        if not own or not self.num_negatives:
            return []
        wanted, found = self.hard_negatives * self.num_negatives, {}
        for pair in torch.randint(len(self.videos.pairs), (_TRIES * wanted,), generator=generator).tolist():
            numbers, text = self._joined(pair, generator)
            if text and text != own and not {*numbers} & ({*videos} - {-1}):
                found[text] = None
            if len(found) == wanted:
                break
        words = set(own.split())
        return sorted(found, key=lambda text: -len(words & set(text.split())))[: self.num_negatives]


@dataclass
class VideoTextCollator:
    """Batches of items.

    Args:
        processor: encodes the texts.
        config: configuration of the model, with the masking ratios.
        task: pretraining, classification, retrieval or captioning.
    """

    processor: VideoBertProcessor
    config: VideoBertConfig
    task: str = "pretraining"

    def __call__(self, items: list[dict]) -> dict[str, torch.Tensor]:
        batch = self._videos([item.get("video") for item in items])
        if self.task == "classification":
            if not batch:  # unreadable videos alone
                shape = (len(items), 1, self.config.tokens_per_segment, self.config.feature_size)
                batch = {"video_features": torch.zeros(shape), "video_mask": torch.zeros(shape[:2], dtype=torch.bool)}
            return {**batch, "labels": torch.as_tensor([item["labels"] for item in items])}
        texts = [item["text"] for item in items]
        if self.task == "captioning":
            return {**batch, **self.processor.encode_texts(texts, "caption")}
        batch |= self._texts(texts, [item["video"] is not None for item in items])
        if self.task == "retrieval" or self.config.match_weight:
            batch["negative_input_ids"] = self._negatives(items)
        if self.task == "pretraining":
            self._mask(batch, [generator_of(item["seed"]) for item in items])
        return batch

    def _videos(self, videos: list[torch.Tensor | None]) -> dict[str, torch.Tensor]:
        """`video_features` (B, S, P, F) or `pixel_values` (B, S, T, C, H, W), and `video_mask` (B, S), if any has a
        video."""
        known = next((video for video in videos if video is not None), None)
        if known is None:
            return {}
        name = "pixel_values" if known.ndim == 5 else "video_features"
        return pad_segments([known[:0] if video is None else video for video in videos], name)

    def _texts(self, texts: list[str], with_video: list[bool]) -> dict[str, torch.Tensor]:
        """Texts, with the separator where there is a video: int64 and bool (B, T)."""
        rows = [
            self.processor.encode_texts([text], "pair" if video else "text")["input_ids"][0]
            for text, video in zip(texts, with_video)
        ]
        padded = torch.nn.utils.rnn.pad_sequence(rows, True, self.config.pad_token_id)
        lengths = torch.tensor([[len(row)] for row in rows])
        return {"input_ids": padded, "attention_mask": torch.arange(padded.shape[1]) < lengths}

    def _negatives(self, items: list[dict]) -> torch.Tensor:
        """Other texts, int64 (B, K, T); where there are fewer than K, the own one, which the model leaves out."""
        number = self.config.num_negatives
        texts = [[*item["others"], *[item["text"]] * number][:number] for item in items]
        flat = self.processor.encode_texts([text for row in texts for text in row], "pair")["input_ids"]
        return flat.unflatten(0, (len(items), number))  # (B * K, T) -> (B, K, T)

    def _mask(self, batch: dict[str, torch.Tensor], generators: list[torch.Generator]) -> None:
        """Masks words and segments of each row with the generator of its item, without its padding, so that the masks
        do not depend on the other rows."""
        config, special = self.config, self.processor.tokenizer.all_special_ids
        if config.mlm_weight:
            batch["text_labels"] = torch.full_like(batch["input_ids"], -100)
            for row, (mask, generator) in enumerate(zip(batch["attention_mask"], generators)):
                part = row, slice(int(mask.sum()))
                found = mask_words(batch["input_ids"][part][None], mask[mask][None], config, generator, special)
                batch["input_ids"][part], batch["text_labels"][part] = (one[0] for one in found)
        if config.video_weight and "video_mask" in batch:
            width = batch["video_mask"].shape[1]
            batch["masked_segments"] = torch.zeros_like(batch["video_mask"])
            batch["segment_sources"] = torch.arange(batch["video_mask"].numel()).view(-1, width)
            for row, (mask, generator) in enumerate(zip(batch["video_mask"], generators)):
                part = row, slice(int(mask.sum()))
                chosen, shown = mask_segments(mask[mask][None], config.video_mask_ratio, generator)
                batch["masked_segments"][part] = chosen[0]
                batch["segment_sources"][part] = (shown + (shown >= 0) * row * width)[0]  # counted over the batch

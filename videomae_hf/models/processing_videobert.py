# Copyright 2026 The videomae_hf authors. Licensed under the Apache License, Version 2.0.
"""Prepares videos, as segments of frames or as features, and texts for VideoBERT.

This file ships with checkpoints and may import only its siblings.
"""

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from transformers import AddedToken, BatchFeature, ProcessorMixin

from .configuration_videobert import SEPARATOR
from .frame_arrays import split_batch, split_metadata
from .frame_sampling import constant_rate
from .image_processing_videomae_v2 import VideoMAEV2ImageProcessor
from .video_sources import VideoInfo


LAYOUTS = ("pair", "text", "caption")


class SegmentSampler(VideoMAEV2ImageProcessor):
    """The image processor, whose clips are the segments of a video: equal in length, at a constant distance."""

    segment_stride: float | int | None = None
    max_segments: int = 16

    def sample_clips(self, info: VideoInfo, options: dict[str, Any]) -> list[list[int]]:
        """The frame indices of each segment of a video."""
        frames, sampling_rate = range(info.num_frames), options["sampling_rate"]
        if options["fps"] is not None:
            frames, sampling_rate = constant_rate(info.num_frames, info.fps, info.timestamps, options["fps"])
        number = max(math.ceil(len(frames) / sampling_rate), 1)  # of frames at the rate of the segments
        length = options["num_frames"]
        starts = segment_starts(number, length, self.segment_stride, self.max_segments)
        places = [[min(start + index, number - 1) for index in range(length)] for start in starts]
        last = len(frames) - 1
        return [[int(frames[min(int(place * sampling_rate), last)]) for place in segment] for segment in places]


def segment_starts(num_frames: int, length: int, stride: float | int | None, max_segments: int) -> list[int]:
    """The first frame of each segment.

    A rest that is shorter than a segment is left out; a video that is shorter has one segment, which repeats the last
    frame. If there are more than `max_segments`, that many of them are taken, evenly spread.

    Args:
        num_frames: number of frames of the video, at the rate of the segments.
        length: number of frames of a segment.
        stride: distance of the starts of neighbouring segments in frames; None is `length`, without overlap or gap.
        max_segments: largest number of segments.

    Raises:
        ValueError: a number is out of range.
    """
    stride = length if stride is None else stride
    if min(num_frames, length, max_segments) < 1 or not (math.isfinite(stride) and stride > 0):
        raise ValueError(
            f"Segments of {length} frames, segment_stride={stride} and max_segments={max_segments}, of a video of "
            f"{num_frames} frames: all numbers must be positive."
        )
    number = max(math.floor((num_frames - length) / stride), 0) + 1
    return [int(index * stride) for index in spread(number, max_segments)]


def spread(number: int, most: int) -> list[int]:
    """`most` evenly spread numbers from 0 to `number - 1`, or all of them."""
    if number <= most:
        return list(range(number))
    return [0] if most == 1 else [round(index * (number - 1) / (most - 1)) for index in range(most)]


class VideoBertProcessor(ProcessorMixin):
    r"""
    Prepares videos and texts for VideoBERT, and is saved in one folder with its model.

    Args:
        image_processor (`VideoMAEV2ImageProcessor`):
            Samples and prepares frames: its `num_frames` is the number of frames of a segment, and its `sampling_rate`
            or `fps` their distance.
        tokenizer (`PreTrainedTokenizerFast`):
            Any fast tokenizer with `[CLS]`, `[SEP]`, `[MASK]` and a padding token. It gains the separator if it lacks
            it, so that models need `VideoBertConfig.token_fields(processor.tokenizer)`.
        segment_stride (`float`, *optional*):
            Distance of the starts of neighbouring segments, in frames at the rate of the segments; `None` is
            `num_frames`, without overlap or gap (paper).
        max_segments (`int`, defaults to 16): longer videos have that many segments, evenly spread over them.
        max_length (`int`, defaults to 64): longer texts are cut to this number of tokens, special ones included.
        separator_token (`str`, defaults to `"[>]"`): the token between text and video.

    Raises:
        ValueError: the tokenizer lacks a special token, or a number is out of range.

    Example:

    ```python
    >>> from transformers import AutoTokenizer
    >>> from videomae_hf import VideoBertProcessor, VideoMAEV2ImageProcessor

    >>> tokenizer = AutoTokenizer.from_pretrained("google-bert/bert-base-uncased")
    >>> processor = VideoBertProcessor(VideoMAEV2ImageProcessor(num_frames=30, fps=20), tokenizer)
    >>> inputs = processor(["season the steak"], ["video.mp4"])
    >>> inputs.pixel_values.shape
    torch.Size([1, 16, 30, 3, 224, 224])
    ```"""

    def __init__(
        self,
        image_processor: VideoMAEV2ImageProcessor,
        tokenizer,
        segment_stride: float | int | None = None,
        max_segments: int = 16,
        max_length: int = 64,
        separator_token: str = SEPARATOR,
        **kwargs,
    ) -> None:
        super().__init__(image_processor, tokenizer, **kwargs)
        segment_starts(1, 1, segment_stride, max_segments)  # refuses numbers out of range
        if max_length < 4:
            raise ValueError(f"max_length={max_length} must be at least 4: three special tokens and a word.")
        missing = [name for name in ("pad", "cls", "sep", "mask") if getattr(tokenizer, f"{name}_token_id") is None]
        if missing:
            raise ValueError(f"The tokenizer has no {' and no '.join(missing)} token; use one of BERT's form.")
        if separator_token not in tokenizer.get_vocab():
            tokenizer.add_tokens([AddedToken(separator_token, special=True, normalized=False)], special_tokens=True)
        self.segment_stride, self.max_segments = segment_stride, max_segments
        self.max_length, self.separator_token = max_length, separator_token

    @property
    def model_input_names(self) -> list[str]:
        return ["input_ids", "attention_mask", "pixel_values", "video_features", "video_mask"]

    def __call__(
        self,
        text: str | Sequence[str] | None = None,
        videos=None,
        *,
        video_features=None,
        layout: str | None = None,
        **kwargs,
    ) -> BatchFeature:
        """Prepares texts, videos or both.

        Args:
            text: a text, or a text for each video; `[MASK]` in it is the mask.
            videos: as in `VideoMAEV2ImageProcessor.preprocess`; frames in memory are sampled as well.
            video_features: in place of videos, an array (S, F) or (S, P, F) of each of them.
            layout: see `encode_texts`; by default `"pair"` with a video, and `"text"` without.
            kwargs: options of the image processor for this call, such as `fps` or `num_frames`, and `video_metadata`
                of frames in memory, one entry for each video.

        Returns:
            Of texts `input_ids` and `attention_mask` (B, T), and with `layout="caption"` also `labels`; of videos
            `pixel_values` (B, S, frames, C, H, W) or `video_features` (B, S, ..), and `video_mask`, bool (B, S), False
            for the padding of shorter ones.

        Raises:
            ValueError: there is nothing to prepare, or numbers or shapes of texts and videos do not fit each other.
        """
        if videos is not None and video_features is not None:
            raise ValueError("Pass either videos or video_features.")
        if kwargs.pop("return_tensors", "pt") != "pt":
            raise ValueError("VideoBertProcessor returns torch tensors; leave return_tensors out, or pass 'pt'.")
        data = {}
        if videos is not None:
            data |= pad_segments(self.segments(videos, **kwargs), "pixel_values")
        elif video_features is not None:
            data |= pad_segments(self._spread(video_features), "video_features")
        number = len(data["video_mask"]) if data else None
        if text is not None:
            texts = [text] if isinstance(text, str) else list(text)
            if number not in (None, len(texts)):
                raise ValueError(f"{len(texts)} texts and {number} videos; pass one text for each video.")
            data |= self.encode_texts(texts, layout or ("text" if number is None else "pair"))
        if not data:
            raise ValueError("Pass text, videos or video_features.")
        return BatchFeature(data)

    def encode_texts(self, texts: Sequence[str], layout: str = "pair") -> dict[str, torch.Tensor]:
        """Tokens of texts, padded on the right.

        Args:
            texts: the texts; an empty one has only the special tokens.
            layout: `"pair"`: `[CLS] words [>] [SEP]`, where the video stands before `[SEP]`; `"text"`: `[CLS] words
                [SEP]`; `"caption"`: `[CLS] [>] words [SEP]`, where the video stands before the words, to generate them.

        Returns:
            `input_ids`, int64 (B, T), and `attention_mask`, bool (B, T); with `"caption"` also `labels`, int64 (B, T),
            the words and `[SEP]`, -100 elsewhere.
        """
        if layout not in LAYOUTS:
            raise ValueError(f"layout={layout!r} is unknown; choose one of {', '.join(LAYOUTS)}.")
        if len(texts) == 0:
            raise ValueError("There is no text.")
        tokenizer = self.tokenizer
        separator = [] if layout == "text" else [tokenizer.get_vocab()[self.separator_token]]
        start, end = [tokenizer.cls_token_id], [tokenizer.sep_token_id]
        start, end = (start + separator, end) if layout == "caption" else (start, separator + end)
        room = self.max_length - len(start) - len(end)
        rows = []
        for words in tokenizer(list(texts), add_special_tokens=False, verbose=False)["input_ids"]:
            rows.append([*start, *words[:room], *end])
        input_ids = torch.full((len(rows), max(map(len, rows))), tokenizer.pad_token_id)
        attention_mask = torch.zeros(input_ids.shape, dtype=torch.bool)
        for number, row in enumerate(rows):
            input_ids[number, : len(row)] = torch.tensor(row)
            attention_mask[number, : len(row)] = True
        encoded = {"input_ids": input_ids, "attention_mask": attention_mask}
        if layout == "caption":
            labels = input_ids.masked_fill(~attention_mask, -100)
            labels[:, : len(start)] = -100
            encoded["labels"] = labels
        return encoded

    def segments(self, videos, **kwargs) -> list[torch.Tensor]:
        """The segments of each video, float32 (S, frames, C, H, W), normalised.

        Args:
            videos: as in `__call__`.
            kwargs: options of the image processor for this call.
        """
        sampler = SegmentSampler.from_dict(self.image_processor.to_dict())
        sampler.segment_stride, sampler.max_segments = self.segment_stride, self.max_segments
        options = {"num_clips": 1, "num_crops": 1, "do_sample_frames": True, **kwargs}
        found, videos = [], split_batch(videos)
        metadata = split_metadata(options.pop("video_metadata", None), len(videos))
        for video, one in zip(videos, metadata):
            clips = sampler([video], **options, video_metadata=one, return_tensors="pt").pixel_values[0]
            found.append(clips if clips.ndim == 5 else clips[None])  # one segment: (frames, C, H, W) -> (1, ..)
        return found

    def _spread(self, video_features) -> list[torch.Tensor]:
        """Features of each video, of at most `max_segments` segments."""
        if isinstance(video_features, np.ndarray | torch.Tensor) and video_features.ndim == 2:
            video_features = [video_features]
        arrays = [torch.as_tensor(one).float() for one in video_features]
        return [one[spread(len(one), self.max_segments)] for one in arrays]


def pad_segments(videos: Sequence[torch.Tensor], name: str) -> dict[str, torch.Tensor]:
    """Stacks videos of different numbers of segments, padded with 0.

    Args:
        videos: (S, ..) each, where S may differ.
        name: the name of the result.

    Returns:
        `name`: (B, S, ..), and `video_mask`: bool (B, S), False for padding.

    Raises:
        ValueError: there is no video, or videos differ in more than their number of segments.
    """
    shapes = {tuple(video.shape[1:]) for video in videos}
    if len(shapes) != 1:
        raise ValueError(f"Videos need segments of one shape, but these have {sorted(shapes) or 'none'}.")
    longest = max(map(len, videos))
    padded = videos[0].new_zeros((len(videos), longest, *shapes.pop()))
    video_mask = torch.zeros(len(videos), longest, dtype=torch.bool)
    for number, video in enumerate(videos):
        padded[number, : len(video)] = video
        video_mask[number, : len(video)] = True
    return {name: padded, "video_mask": video_mask}

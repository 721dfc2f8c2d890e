# Copyright 2026 The videomae_hf authors. Licensed under the Apache License, Version 2.0.
"""Configuration of VideoBERT: video and text in one transformer.

VideoBERT: A Joint Model for Video and Language Representation Learning (https://arxiv.org/abs/1904.01766).

This file ships with checkpoints and may import only its siblings.
"""

import math

from huggingface_hub.dataclasses import strict
from transformers import BertConfig

from .configuration_videomae_v2 import VideoMAEV2Config
from .strict_configuration import StrictConfiguration


VIDEO_ATTENTION = ("joint", "divided")
VIDEO_INPUTS = ("features", "words")
VIDEO_LOSSES = ("mse", "nce", "words")
MATCH_LOSSES = ("softmax", "binary")
SEPARATOR = "[>]"

# Upper limits, far above any existing model: a hostile configuration must not make loading allocate unbounded memory.
_MOST = {
    "vocab_size": 2**22, "hidden_size": 2**16, "num_hidden_layers": 1000, "intermediate_size": 2**18,
    "max_position_embeddings": 2**20, "type_vocab_size": 2**10, "feature_size": 2**16, "tokens_per_segment": 2**12,
}  # fmt: skip
_MOST_WORDS, _MOST_NEGATIVES, _MOST_LABELS = 2**20, 2**12, 2**17
_TOKENS = ("cls_token_id", "sep_token_id", "mask_token_id", "separator_token_id")


@strict
class VideoBertConfig(StrictConfiguration, BertConfig):
    r"""
    Configuration of `VideoBertModel` and its heads. The text side has the fields of `BertConfig`; the rest:

    Args:
        feature_size (`int`, defaults to 768): number of values F of the feature of a segment, or of each of its places.
        tokens_per_segment (`int`, defaults to 1):
            Number of tokens P of a segment: 1 for one feature a segment, or the places of its spatial map, row by row.
        video_attention (`str`, defaults to `"joint"`):
            `"joint"`: every token sees every other one. `"divided"`, for more than one token a segment: in the first,
            third, .. layer a video token sees the same place of all segments, in the second, fourth, .. layer all
            places of its own segment; text sees, and is seen by, all tokens in every layer.
        video_input (`str`, defaults to `"features"`):
            The input of a segment: its feature, projected, or with `"words"` the embedding of the nearest visual word
            (paper).
        visual_words (`int`, defaults to 0): number of visual words K, 0 for none.
        video_loss (`str`, defaults to `"mse"`):
            Masked video modelling: `"mse"`, mean squared error of standardised features; `"nce"`, the masked feature
            against all others of the batch; `"words"`, classification over visual words (paper).
        match_loss (`str`, defaults to `"softmax"`):
            Matching of video and text: `"softmax"` over the true and other texts, or `"binary"`, two classes (paper).
        mlm_weight, video_weight, match_weight (`float`, default to 1.0):
            Weights of masked words, masked segments and matching in the loss; a head with weight 0 does not exist.
        text_mask_ratio, video_mask_ratio (`float`, default to 0.15): fractions of words and of segments to mask.
        num_negatives (`int`, defaults to 3): number of other texts K of each video in matching.
        nce_temperature (`float`, defaults to 0.1): divisor of the cosines in `video_loss="nce"`.
        freeze_input_embeddings (`bool`, defaults to `False`):
            Do not train the tables of words and visual words (paper). With `tie_word_embeddings` the output layer of
            the words is the same table, and is not trained either, apart from its bias.
        backbone_config (`dict`, *optional*):
            Configuration (`to_dict()`) of a `VideoMAEV2Model` that computes the features from pixels; `None` takes
            features only. `VideoBertModel.load_backbone` sets it, with the weights.
        freeze_backbone (`bool`, defaults to `True`): do not train the backbone.
        feature_backbone (`str`, *optional*):
            Folder or Hub id of the checkpoint whose pooled features of segments (`videomae extract`) a model without
            `backbone_config` takes; loading does not open it.
        cls_token_id, sep_token_id, mask_token_id, separator_token_id (`int`, *optional*):
            Special tokens, see `token_fields`; the separator is `[>]`, which stands between text and video.

    Raises:
        ValueError: fields contradict each other; the message names them.

    Example:

    ```python
    >>> from videomae_hf import VideoBertConfig, VideoBertForPreTraining

    >>> config = VideoBertConfig(num_hidden_layers=2, feature_size=384)
    >>> model = VideoBertForPreTraining(config)
    ```"""

    model_type = "videobert"
    base_model_fsdp_plan = {"bert.encoder.layer.*": "free_full_weight"}

    feature_size: int = 768
    tokens_per_segment: int = 1
    video_attention: str = "joint"
    video_input: str = "features"
    visual_words: int = 0
    video_loss: str = "mse"
    match_loss: str = "softmax"
    mlm_weight: float | int = 1.0
    video_weight: float | int = 1.0
    match_weight: float | int = 1.0
    text_mask_ratio: float | int = 0.15
    video_mask_ratio: float | int = 0.15
    num_negatives: int = 3
    nce_temperature: float | int = 0.1
    freeze_input_embeddings: bool = False
    backbone_config: dict | None = None
    freeze_backbone: bool = True
    feature_backbone: str | None = None
    cls_token_id: int | None = None
    sep_token_id: int | None = None
    mask_token_id: int | None = None
    separator_token_id: int | None = None

    def __post_init__(self, **kwargs):
        self.use_cache = False
        if self.backbone_config is not None:
            self.backbone_config = without_names(self.backbone_config)
        number = kwargs.get("num_labels", 2)
        if type(number) is not int or not 0 <= number <= _MOST_LABELS:
            raise ValueError(f"num_labels={number!r:.40} must be a whole number from 0 to {_MOST_LABELS:,}.")
        self.validate_fields()  # before the validators of `@strict`, so that the user sees a plain ValueError
        super().__post_init__(**kwargs)

    @staticmethod
    def token_fields(tokenizer, separator_token: str = SEPARATOR) -> dict[str, int]:
        """The fields that a tokenizer determines: `vocab_size` and the ids of special tokens.

        Args:
            tokenizer: a tokenizer of transformers, such as that of a `VideoBertProcessor`.
            separator_token: the token between text and video.

        Raises:
            ValueError: the tokenizer lacks a special token.
        """
        ids = {f"{name}_token_id": getattr(tokenizer, f"{name}_token_id") for name in ("pad", "cls", "sep", "mask")}
        separator = tokenizer.get_vocab().get(separator_token)
        missing = [name.removesuffix("_token_id") for name, number in ids.items() if number is None]
        if missing or separator is None:
            lacking = [*(f"{name} token" for name in missing), *([separator_token] if separator is None else [])]
            raise ValueError(
                f"The tokenizer has no {' and no '.join(lacking)}; VideoBertProcessor adds the separator, and a "
                f"tokenizer of BERT has the other tokens."
            )
        return {"vocab_size": len(tokenizer), **ids, "separator_token_id": separator}

    @classmethod
    def get_config_dict(cls, pretrained_model_name_or_path, **kwargs):
        """As in transformers; raises ValueError for the configuration of another model."""
        content, kwargs = super().get_config_dict(pretrained_model_name_or_path, **kwargs)
        found = content.get("model_type")
        if content and found != cls.model_type:
            advice = "; `from_bert` of a VideoBERT model starts from it" if found == "bert" else ""
            raise ValueError(
                f"{pretrained_model_name_or_path} is no VideoBERT checkpoint: its configuration has model_type "
                f"{found!r:.60}{advice}."
            )
        return content, kwargs

    @property
    def place_grid(self) -> tuple[int, int]:
        """(rows, columns) of the places of a segment, for features from pixels."""
        side = math.isqrt(self.tokens_per_segment)
        return side, side

    def backbone(self) -> VideoMAEV2Config | None:
        """The configuration of the backbone, or None."""
        if self.backbone_config is None:
            return None
        return VideoMAEV2Config.from_dict(VideoMAEV2Config.known_fields(self.backbone_config, "backbone_config"))

    def validate_fields(self) -> None:
        """Raises ValueError if fields contradict each other; models call it again, since fields may have been set."""
        for name, most in _MOST.items():
            if not 1 <= getattr(self, name) <= most:
                raise ValueError(f"{name}={getattr(self, name)} must be from 1 to {most:,}.")
        for name, known in (
            ("video_attention", VIDEO_ATTENTION), ("video_input", VIDEO_INPUTS), ("video_loss", VIDEO_LOSSES),
            ("match_loss", MATCH_LOSSES),
        ):  # fmt: skip
            if getattr(self, name) not in known:
                raise ValueError(f"{name}={getattr(self, name)!r} is unknown; choose one of {', '.join(known)}.")
        for name in ("mlm_weight", "video_weight", "match_weight"):
            if not (math.isfinite(getattr(self, name)) and getattr(self, name) >= 0):
                raise ValueError(f"{name}={getattr(self, name)} must be finite and not negative.")
        for name in ("text_mask_ratio", "video_mask_ratio", "hidden_dropout_prob", "attention_probs_dropout_prob"):
            if not 0 <= getattr(self, name) < 1:
                raise ValueError(f"{name}={getattr(self, name)} must be at least 0 and less than 1.")
        if not (math.isfinite(self.nce_temperature) and self.nce_temperature > 0):
            raise ValueError(f"nce_temperature={self.nce_temperature} must be positive.")
        if self.mlm_weight == self.video_weight == self.match_weight == 0:
            raise ValueError("mlm_weight, video_weight and match_weight are all 0, which leaves no loss; raise one.")
        if not 1 <= self.num_negatives <= _MOST_NEGATIVES:
            raise ValueError(f"num_negatives={self.num_negatives} must be from 1 to {_MOST_NEGATIVES:,}.")
        self._validate_text()
        self._validate_video()

    def _validate_text(self) -> None:
        if self.num_attention_heads < 1 or self.hidden_size % self.num_attention_heads:
            raise ValueError(
                f"hidden_size={self.hidden_size} is not divisible by num_attention_heads={self.num_attention_heads}; "
                f"change one of the two."
            )
        if self.type_vocab_size < 2:
            raise ValueError(f"type_vocab_size={self.type_vocab_size} must be at least 2: text is 0 and video is 1.")
        if self.is_decoder or self.add_cross_attention:
            raise ValueError("is_decoder and add_cross_attention must be False: one encoder reads video and text.")
        if self.pad_token_id is None:
            raise ValueError("pad_token_id=None: VideoBERT tells padding by it; give its number, 0 in BERT.")
        for name in ("pad_token_id", *_TOKENS):
            number = getattr(self, name)
            if number is not None and not 0 <= number < self.vocab_size:
                raise ValueError(f"{name}={number} must be from 0 to vocab_size - 1 = {self.vocab_size - 1}.")

    def _validate_video(self) -> None:
        if not 0 <= self.visual_words <= _MOST_WORDS:
            raise ValueError(f"visual_words={self.visual_words} must be from 0 to {_MOST_WORDS:,}.")
        for name in ("video_input", "video_loss"):
            if getattr(self, name) == "words" and self.visual_words < 2:
                raise ValueError(f"{name}='words' needs visual_words of at least 2, not {self.visual_words}.")
        if self.video_attention == "divided" and (self.tokens_per_segment < 2 or self.num_hidden_layers < 2):
            raise ValueError(
                f"video_attention='divided' needs at least 2 tokens_per_segment and 2 num_hidden_layers, not "
                f"{self.tokens_per_segment} and {self.num_hidden_layers}."
            )
        backbone = self.backbone()
        if backbone is None:
            return
        if backbone.hidden_size != self.feature_size:
            raise ValueError(
                f"feature_size={self.feature_size} is not the hidden_size={backbone.hidden_size} of backbone_config."
            )
        if self.tokens_per_segment not in (1, math.prod(self.place_grid)):
            raise ValueError(
                f"tokens_per_segment={self.tokens_per_segment} with a backbone must be a square number of places."
            )


def without_names(fields: dict) -> dict:
    """A configuration without its place on this machine, and what belongs to a checkpoint of its own."""
    apart = ("_name_or_path", "auto_map", "architectures", "transformers_version", "dtype")
    return {name: value for name, value in fields.items() if name not in apart}


def require_token(config, name: str) -> int:
    """The id of a special token; raises ValueError if the configuration has none."""
    number = getattr(config, name)
    if number is None:
        raise ValueError(f"{name} is not set; VideoBertConfig.token_fields(tokenizer) gives the ids of special tokens.")
    return number

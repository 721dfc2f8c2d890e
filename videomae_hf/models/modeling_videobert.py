# Copyright 2026 The videomae_hf authors. Licensed under the Apache License, Version 2.0.
"""VideoBERT: video and text in one transformer.

VideoBERT: A Joint Model for Video and Language Representation Learning (https://arxiv.org/abs/1904.01766). A video is a
sequence of segments, each with a feature (or one for each of its places) of a frozen or jointly trained backbone; a
text is a sequence of words. transformers' BERT reads both, so that every BERT checkpoint starts the text side. Shapes
in comments: B rows, S segments, P tokens of a segment, F values of a feature, T tokens of a text, D hidden size; video
tokens come first. This file ships with checkpoints and may import only its siblings.
"""

from copy import deepcopy
from dataclasses import dataclass

import torch
from torch import nn
from transformers import BertModel
from transformers import initialization as init
from transformers.modeling_utils import PreTrainedModel
from transformers.models.bert.modeling_bert import BertLayer, BertLMPredictionHead, BertSelfAttention
from transformers.utils import ModelOutput
from transformers.utils.generic import merge_with_config_defaults
from transformers.utils.output_capturing import capture_outputs

from .bert_checkpoints import bert_config, bert_weights
from .checkpoint_files import FILE_OPTIONS, weight_files
from .configuration_videobert import VideoBertConfig, require_token, without_names
from .layers_videobert import (
    VideoBertVideoEmbeddings,
    allowed_pairs,
    divided_pairs,
    mask_of_pairs,
    paper_positions,
)
from .modeling_videomae_v2 import VideoMAEV2Model
from .segment_features import segment_features
from .visual_words import VisualWords


# A model may have this many weights, or this multiple of the bytes of its checkpoint, for new heads and backbones.
_NEW_ELEMENTS, _NEW_MULTIPLE = 2**26, 16


@dataclass
class VideoBertModelOutput(ModelOutput):
    """
    Args:
        last_hidden_state (`torch.FloatTensor` of shape `(B, S * P + T, D)`): all tokens, those of the video first.
        text_states (`torch.FloatTensor` of shape `(B, T, D)`): those of the text; T is 0 without text.
        video_states (`torch.FloatTensor` of shape `(B, S, P, D)`): those of the video; S is 0 without video.
        features (`torch.FloatTensor` of shape `(B, S, P, F)`): the standardised features, 0 for padding.
        hidden_states, attentions (`tuple(torch.FloatTensor)`, *optional*): those of BERT, if requested.
    """

    last_hidden_state: torch.FloatTensor | None = None
    text_states: torch.FloatTensor | None = None
    video_states: torch.FloatTensor | None = None
    features: torch.FloatTensor | None = None
    hidden_states: tuple[torch.FloatTensor, ...] | None = None
    attentions: tuple[torch.FloatTensor, ...] | None = None


class VideoBertPreTrainedModel(PreTrainedModel):
    config: VideoBertConfig
    base_model_prefix = "video_bert"
    main_input_name = "input_ids"
    input_modalities = ("video", "text")
    supports_gradient_checkpointing = True
    _no_split_modules = ["BertEmbeddings", "BertLayer", "VideoMAEV2Embeddings", "VideoMAEV2Layer"]
    _supports_sdpa = True
    _supports_flash_attn = False  # it takes no mask of pairs, which prefixes and divided attention need
    _supports_flex_attn = True
    _supports_attention_backend = True
    _can_record_outputs = {"hidden_states": BertLayer, "attentions": BertSelfAttention}
    # Otherwise the Trainer would assume that the model divides the loss by the numbers of steps and processes itself.
    accepts_loss_kwargs = False

    # A checkpoint may hold the heads of other tasks, which are left out.
    _keys_to_ignore_on_load_unexpected = [r"^(cls|video_head|match_head|classifier)\."]

    new_parts: tuple[str, ...] = ()  # parts that `from_pretrained` or `from_bert` did not find; they are untrained
    head_parts: tuple[str, ...] = ()  # parts of a model with a head that a checkpoint may lack

    def __init__(self, config: VideoBertConfig, *args, **kwargs) -> None:
        config.validate_fields()  # `from_pretrained(..., feature_size=0)` sets fields one by one
        super().__init__(config, *args, **kwargs)

    @classmethod
    def from_pretrained(cls, pretrained_model_name_or_path, *args, strict: bool = True, **kwargs):
        """As in transformers; raises ValueError if the checkpoint lacks weights other than those of a head.

        Args:
            pretrained_model_name_or_path: folder or Hub id of a VideoBERT checkpoint; `from_bert` reads BERT's.
            strict: False leaves missing weights to transformers' report.
            kwargs: those of `PreTrainedModel.from_pretrained`; `weights_only=False` is refused.
        """
        name, wanted = pretrained_model_name_or_path, kwargs.pop("output_loading_info", False)
        if kwargs.pop("weights_only", True) is False:
            raise ValueError("weights_only=False is refused, because it would run code from a checkpoint.")
        if name is not None and kwargs.get("state_dict") is None:
            files = {key: kwargs[key] for key in FILE_OPTIONS if key in kwargs}
            which = {key: kwargs[key] for key in ("variant", "use_safetensors") if key in kwargs}
            config = cls.config_class.from_pretrained(name, **files)
            cls._refuse_inflated(config, sum(path.stat().st_size for path in weight_files(name, files, **which)), name)
        model, info = cls._loaded(name, *args, **kwargs)
        missing = sorted(key for key in info["missing_keys"] if key.split(".")[0] not in cls.head_parts)
        if strict and missing:
            raise ValueError(
                f"{name} does not fit {cls.__name__}: it has no {', '.join(missing[:4])}"
                f"{f' and {len(missing) - 4} more' if len(missing) > 4 else ''}. Is it the checkpoint of another model?"
            )
        model.new_parts = tuple(sorted({key.split(".")[0] for key in info["missing_keys"]}))
        return (model, info) if wanted else model

    @classmethod
    def _refuse_inflated(cls, config: VideoBertConfig, held: int, source) -> None:
        """Raises ValueError if a configuration claims far more weights than a checkpoint holds (`held`, in bytes)."""
        with torch.device("meta"):
            number = sum(one.numel() for one in cls(deepcopy(config)).state_dict().values())
        if number > max(_NEW_ELEMENTS, _NEW_MULTIPLE * held):
            raise ValueError(
                f"{source} holds {held:,} bytes, but its configuration claims {number:,} weights; correct config.json."
            )

    @classmethod
    def _loaded(cls, name, *args, source=None, **kwargs) -> tuple["VideoBertPreTrainedModel", dict]:
        """The model and what transformers says about its loading; frozen parts are frozen again.

        Raises:
            ValueError: weights of `source`, or of the checkpoint, have other shapes than those of the model.
        """
        new_head = kwargs.pop("ignore_mismatched_sizes", False)
        options = {"output_loading_info": True, "ignore_mismatched_sizes": True, **kwargs}
        model, info = super().from_pretrained(name, *args, **options)
        in_head = {one[0] for one in info["mismatched_keys"] if one[0].split(".")[0] in cls.head_parts}
        wrong = sorted(one for one in info["mismatched_keys"] if not (new_head and one[0] in in_head))
        if wrong:
            key, found, expected = wrong[0]
            raise ValueError(
                f"{source or name} does not fit {cls.__name__}: {key} has shape {tuple(found)} where the model has "
                f"{tuple(expected)}. `ignore_mismatched_sizes=True` allows a new head."
            )
        info["missing_keys"] = {*info["missing_keys"], *in_head}  # which are untrained as well
        model.base_model.freeze()
        return model, info

    @classmethod
    def from_bert(cls, name, *, dtype: torch.dtype | None = None, **fields):
        """Starts from a BERT checkpoint: its text side, and the head of masked words if both have one.

        Rows that the vocabulary gains, such as the one of `[>]`, begin as the mean of the others. The rest is new.

        Args:
            name: folder or Hub id of a checkpoint of transformers' BERT, with any head or without.
            dtype: dtype of the weights; None is torch's default one.
            fields: fields of `VideoBertConfig`; those of the text side are BERT's. A tokenizer gives those of the
                vocabulary: `**VideoBertConfig.token_fields(processor.tokenizer)`. Also `revision`, `token` and the
                other options that say where files are.

        Raises:
            ValueError: it is another model, or does not fit the fields.
            OSError: there is no such checkpoint.
        """
        files = {key: fields.pop(key) for key in FILE_OPTIONS if key in fields}
        config = bert_config(name, files, VideoBertConfig, fields)
        weights = bert_weights(name, files, config)
        cls._refuse_inflated(config, sum(one.nbytes for one in weights.values()), name)
        prefix = "" if issubclass(cls, VideoBertModel) else "video_bert."
        weights = {prefix + key if key.startswith("bert.") else key: one for key, one in weights.items()}
        if "cls" not in cls.head_parts:
            weights = {key: one for key, one in weights.items() if not key.startswith("cls.")}
        options = {"config": config, "state_dict": weights, "dtype": dtype or torch.get_default_dtype()}
        model, info = cls._loaded(None, source=name, **options)
        lost = sorted(key for key in info["missing_keys"] if key.startswith(f"{prefix}bert."))
        if lost:
            raise ValueError(f"{name} has no {', '.join(lost[:4])}: it does not hold the whole text side.")
        model.new_parts = tuple(sorted({key.removeprefix(prefix).split(".")[0] for key in info["missing_keys"]}))
        return model

    @torch.no_grad()
    def _init_weights(self, module: nn.Module) -> None:
        """BERT's initialisation: normal with `initializer_range`, biases 0."""
        super()._init_weights(module)
        if isinstance(module, VideoBertVideoEmbeddings):
            init.normal_(module.mask_embedding, std=self.config.initializer_range)
            init.zeros_(module.feature_mean)
            init.ones_(module.feature_std)
            if self.config.visual_words:
                init.zeros_(module.centroids)
        elif isinstance(module, BertLMPredictionHead):
            init.zeros_(module.bias)

    def reaching_all(self, loss: torch.Tensor) -> torch.Tensor:
        """The loss, of which in training every parameter has a gradient, if only of 0, whatever a batch lacks.

        Processes exchange the gradients of all parameters. Sharded ones, which have other types, need none.
        """
        if not self.training:
            return loss
        own = [one for one in self.parameters() if one.requires_grad and type(one) is nn.Parameter]
        return loss + sum(one.flatten()[0].float() for one in own) * 0.0

    def prompt(self, batch_size: int, *, complete: bool = True) -> torch.Tensor:
        """The text of a video without text, int64 (batch_size, T): `[CLS] [>] [SEP]`; not `complete`, without `[SEP]`.

        Raises:
            ValueError: the configuration does not name `[CLS]` or `[SEP]`.
        """
        tokens = [require_token(self.config, "cls_token_id")]
        tokens += [] if self.config.separator_token_id is None else [self.config.separator_token_id]
        tokens += [require_token(self.config, "sep_token_id")] if complete else []
        return torch.tensor([tokens], device=self.device).expand(batch_size, -1)


class VideoBertModel(VideoBertPreTrainedModel):
    """BERT on segments and words; with `config.backbone_config`, also the model that computes the features."""

    def __init__(self, config: VideoBertConfig) -> None:
        super().__init__(config)
        self.bert = BertModel(config, add_pooling_layer=False)
        self.video_embeddings = VideoBertVideoEmbeddings(config)
        backbone = config.backbone()
        self.backbone = None if backbone is None else VideoMAEV2Model(backbone)
        self.post_init()
        self.freeze()

    def get_input_embeddings(self) -> nn.Module:
        return self.bert.embeddings.word_embeddings

    def set_input_embeddings(self, value: nn.Module) -> None:
        self.bert.embeddings.word_embeddings = value

    def freeze(self) -> None:
        """Marks the parameters that the configuration does not train."""
        if self.config.freeze_input_embeddings:
            self.bert.embeddings.word_embeddings.requires_grad_(False)
            if self.video_embeddings.visual_word_embeddings is not None:
                self.video_embeddings.visual_word_embeddings.requires_grad_(False)
        if self.backbone is not None and self.config.freeze_backbone:
            self.backbone.requires_grad_(False)

    def train(self, mode: bool = True) -> "VideoBertModel":
        """As in torch; a frozen backbone stays in evaluation mode."""
        super().train(mode)
        if self.backbone is not None and self.config.freeze_backbone:
            self.backbone.eval()
        return self

    def load_backbone(self, name: str, **fields) -> None:
        """Takes the encoder of a checkpoint of any layout as the backbone, and its configuration as `backbone_config`.

        Args:
            name: folder or Hub id of the checkpoint.
            fields: fields of its configuration to change.

        Raises:
            ValueError: its features have another size, or the checkpoint is damaged.
            OSError: there is no such checkpoint.
        """
        backbone = VideoMAEV2Model.from_pretrained(name, **fields).to(self.device, self.dtype)
        before, self.config.backbone_config = self.config.backbone_config, without_names(backbone.config.to_dict())
        try:
            self.config.validate_fields()
        except ValueError:
            self.config.backbone_config = before
            raise
        self.backbone = backbone
        self.freeze()
        self.train(self.training)

    @torch.no_grad()
    def set_visual_words(self, words: VisualWords) -> None:
        """Takes mean and std of the features and, with `config.visual_words`, the centroids; these are also the initial
        embeddings of the words with `video_input="words"`, as in the paper.

        Raises:
            ValueError: the numbers of words or of values differ from those of the configuration.
        """
        number, size = words.centroids.shape
        if size != self.config.feature_size or (self.config.visual_words and number != self.config.visual_words):
            raise ValueError(
                f"The visual words are {number} of {size} values, but the model has visual_words="
                f"{self.config.visual_words} and feature_size={self.config.feature_size}."
            )
        embeddings = self.video_embeddings
        embeddings.feature_mean.copy_(words.mean)
        embeddings.feature_std.copy_(words.std)
        if self.config.visual_words:
            embeddings.centroids.copy_(words.centroids)
        if embeddings.visual_word_embeddings is not None:
            embeddings.visual_word_embeddings.weight.copy_(words.centroids)

    def features_of(
        self,
        video_features: torch.Tensor | None = None,
        video_mask: torch.Tensor | None = None,
        pixel_values: torch.Tensor | None = None,
        batch_size: int | None = None,
    ) -> torch.Tensor | None:
        """The features of segments as they are, (B, S, P, F), from features or pixels; None without video.

        Args:
            video_features, video_mask, pixel_values: as in `forward`.
            batch_size: number of segments that go through the backbone at once; None is all of them.

        Raises:
            ValueError: both are given, a shape does not fit, or pixels are given to a model without backbone.
        """
        if video_features is not None and pixel_values is not None:
            raise ValueError("Pass either video_features or pixel_values.")
        places, size = self.config.tokens_per_segment, self.config.feature_size
        if pixel_values is not None:
            if self.backbone is None:
                raise ValueError("pixel_values need a model with backbone_config; pass video_features.")
            mask = None if video_mask is None else video_mask.bool()
            with torch.set_grad_enabled(torch.is_grad_enabled() and not self.config.freeze_backbone):
                return segment_features(self.backbone, pixel_values, mask, places, batch_size)
        if video_features is None:
            return None
        if video_features.ndim == 3 and places == 1:
            video_features = video_features[:, :, None]  # (B, S, F) -> (B, S, 1, F)
        if video_features.ndim != 4 or video_features.shape[2:] != (places, size):
            raise ValueError(
                f"video_features of shape {tuple(video_features.shape)} do not fit the model, which takes (videos, "
                f"segments, tokens_per_segment, feature_size) = (videos, segments, {places}, {size})."
            )
        return video_features

    @merge_with_config_defaults
    @capture_outputs
    def forward(
        self,
        input_ids: torch.Tensor | None = None,
        attention_mask: torch.Tensor | None = None,
        video_features: torch.Tensor | None = None,
        video_mask: torch.Tensor | None = None,
        pixel_values: torch.Tensor | None = None,
        masked_segments: torch.Tensor | None = None,
        segment_sources: torch.Tensor | None = None,
        prefix: bool = False,
        **kwargs,
    ) -> VideoBertModelOutput:
        """Encodes videos and texts, videos alone, or texts alone.

        Args:
            input_ids: int64 (B, T), texts such as `[CLS] .. [>] [SEP]`. The video has the positions after `[>]`.
            attention_mask: bool or int (B, T), 0 for padding; None is no padding.
            video_features: (B, S, F), or (B, S, P, F) with several places, as they are: the model standardises them.
            video_mask: bool (B, S), False for padding; None is no padding.
            pixel_values: (B, S, frames, C, H, W), in place of features, for a model with a backbone.
            masked_segments: bool (B, S), True for segments that are hidden, with all of their places.
            segment_sources: int64 (B, S), in place of `masked_segments`, see `mask_segments`.
            prefix: text is causal: a word sees the video and the words before it, and the video sees itself alone.
            kwargs: `output_hidden_states`, `output_attentions`, `return_dict`.

        Returns:
            A `VideoBertModelOutput`.

        Raises:
            ValueError: there is neither video nor text, or a shape does not fit the model.
        """
        features = self.features_of(video_features, video_mask, pixel_values)
        if features is None and input_ids is None:
            raise ValueError("Pass input_ids, video_features (or pixel_values), or both.")
        features, video_mask, input_ids, attention_mask = self.filled(features, video_mask, input_ids, attention_mask)
        features = self.standardized(features, video_mask)
        if segment_sources is None and masked_segments is not None:
            places = torch.arange(video_mask.numel(), device=video_mask.device).view(video_mask.shape)
            segment_sources = places.masked_fill(masked_segments.bool(), -1)
        states = self.encode(features, video_mask, input_ids, attention_mask, segment_sources, prefix=prefix)
        number = features.shape[1] * features.shape[2]
        return VideoBertModelOutput(
            last_hidden_state=states,
            text_states=states[:, number:],
            video_states=states[:, :number].unflatten(1, features.shape[1:3]),
            features=features,
        )

    def filled(self, features, video_mask, input_ids, attention_mask) -> tuple[torch.Tensor, ...]:
        """Features, words and their masks, all given: a missing modality has the length 0.

        Raises:
            ValueError: a mask has another shape, or there are more segments and words than positions.
        """
        rows = len(input_ids if features is None else features)
        if input_ids is None:
            input_ids = torch.zeros(rows, 0, dtype=torch.long, device=features.device)
        if len(input_ids) != rows:
            raise ValueError(f"{len(input_ids)} texts and {rows} videos; pass one text for each video.")
        if features is None:
            shape = (rows, 0, self.config.tokens_per_segment, self.config.feature_size)
            features = torch.zeros(shape, device=input_ids.device)
        masks = []
        for name, mask, shape in (
            ("video_mask", video_mask, features.shape[:2]), ("attention_mask", attention_mask, input_ids.shape),
        ):  # fmt: skip
            mask = torch.ones(shape, dtype=torch.bool, device=input_ids.device) if mask is None else mask.bool()
            if mask.shape != shape:
                raise ValueError(f"{name} has shape {tuple(mask.shape)}, but {rows} rows need {tuple(shape)}.")
            masks.append(mask)
        length, most = features.shape[1] + input_ids.shape[1], self.config.max_position_embeddings
        if length > most:
            raise ValueError(
                f"{features.shape[1]} segments and {input_ids.shape[1]} tokens are more than "
                f"max_position_embeddings={most}; shorten the videos or the texts."
            )
        return features, masks[0], input_ids, masks[1]

    def standardized(self, features: torch.Tensor, video_mask: torch.Tensor) -> torch.Tensor:
        """Features as they are (B, S, P, F) -> standardised, float32, and 0 for padding, whatever is there."""
        return self.video_embeddings.standardized(features).where(video_mask[..., None, None], 0)

    def encode(
        self,
        features: torch.Tensor,
        video_mask: torch.Tensor,
        input_ids: torch.Tensor,
        attention_mask: torch.Tensor,
        segment_sources: torch.Tensor | None = None,
        *,
        prefix: bool = False,
    ) -> torch.Tensor:
        """Standardised features (B, S, P, F) and words (B, T), with their masks -> (B, S * P + T, D)."""
        config, (segments, places), words = self.config, features.shape[1:3], input_ids.shape[1]
        of_text, of_video = paper_positions(
            input_ids, attention_mask, video_mask, config.separator_token_id, prefix=prefix
        )
        position_ids = torch.cat([of_video.repeat_interleave(places, dim=1), of_text], dim=1)  # (B, N)
        types = torch.zeros_like(position_ids)
        types[:, : segments * places] = 1
        valid = torch.cat([video_mask.repeat_interleave(places, dim=1), attention_mask], dim=1)  # (B, N)
        video = self.video_embeddings(features, segment_sources)  # (B, S * P, D)
        text = self.bert.embeddings.word_embeddings(input_ids)
        tokens = torch.cat([video.to(text.dtype), text], dim=1)  # (B, N, D)
        states = self.bert.embeddings(inputs_embeds=tokens, position_ids=position_ids, token_type_ids=types)
        pairs = allowed_pairs(valid, words, prefix=prefix)
        divided = [pairs]
        if config.video_attention == "divided":
            divided = [pairs & one for one in divided_pairs(segments, places, words, pairs.device)]
        masks = [mask_of_pairs(config, states, one) for one in divided]
        for number, layer in enumerate(self.bert.encoder.layer):
            states = layer(states, masks[number % len(masks)])
        return states

    def class_states(self, text_states: torch.Tensor, attention_mask: torch.Tensor | None) -> torch.Tensor:
        """The states of `[CLS]`, the first token of each text that is no padding: (B, T, D) -> (B, D)."""
        if attention_mask is None:
            return text_states[:, 0]
        first = attention_mask.long().argmax(dim=1)
        return text_states[torch.arange(len(first), device=first.device), first]

    def encode_pairs(
        self,
        features: torch.Tensor,
        video_mask: torch.Tensor,
        input_ids: torch.Tensor,
        attention_mask: torch.Tensor,
    ) -> torch.Tensor:
        """The states of `[CLS]` (B, D) of standardised features (B, S, P, F) with texts (B, T)."""
        states = self.encode(features, video_mask, input_ids, attention_mask)
        return self.class_states(states[:, features.shape[1] * features.shape[2] :], attention_mask)

# Copyright 2026 The videomae_hf authors. Licensed under the Apache License, Version 2.0.
"""What a pretrained VideoBERT is finetuned for: classification, retrieval and captioning.

Shapes in comments are those of `modeling_videobert.py`. This file ships with checkpoints and may import only its
siblings.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import nn
from transformers import GenerationMixin
from transformers.modeling_outputs import CausalLMOutput, SequenceClassifierOutput
from transformers.models.bert.modeling_bert import BertOnlyMLMHead
from transformers.utils import ModelOutput
from transformers.utils.generic import can_return_tuple

from .configuration_videobert import VideoBertConfig, require_token
from .layers_videobert import VideoBertMatchHead
from .modeling_videobert import VideoBertModel, VideoBertPreTrainedModel
from .modeling_videobert_pretraining import VideoBertForPreTraining, VideoBertMatching
from .video_text_objectives import masked_word_loss, next_word_loss


@dataclass
class VideoBertForRetrievalOutput(ModelOutput):
    """
    Args:
        loss (`torch.FloatTensor` of shape `()`): the loss of matching, if other texts are given.
        logits (`torch.FloatTensor` of shape `(B, 1 + K)`): scores of the own text and of the others.
    """

    loss: torch.FloatTensor | None = None
    logits: torch.FloatTensor | None = None


class VideoBertForVideoClassification(VideoBertPreTrainedModel):
    """A linear classifier on the state of `[CLS]`, of a video alone or with a text."""

    head_parts = ("classifier",)

    def __init__(self, config: VideoBertConfig) -> None:
        super().__init__(config)
        self.num_labels = config.num_labels
        self.video_bert = VideoBertModel(config)
        rate = config.hidden_dropout_prob if config.classifier_dropout is None else config.classifier_dropout
        self.dropout = nn.Dropout(rate)
        self.classifier = nn.Linear(config.hidden_size, config.num_labels)
        self.post_init()
        self.video_bert.freeze()

    @can_return_tuple
    def forward(
        self,
        video_features: torch.Tensor | None = None,
        video_mask: torch.Tensor | None = None,
        pixel_values: torch.Tensor | None = None,
        input_ids: torch.Tensor | None = None,
        attention_mask: torch.Tensor | None = None,
        labels: torch.Tensor | None = None,
        **kwargs,
    ) -> SequenceClassifierOutput:
        """Classifies videos.

        Args:
            video_features, video_mask, pixel_values, input_ids, attention_mask: as in `VideoBertModel.forward`; without
                a text, it is `[CLS] [>] [SEP]`.
            labels: int64 (B,), class indices, of which -100 is ignored; float (B, num_labels) for several labels per
                video; for regression (`num_labels=1`) float (B,).
            kwargs: `output_hidden_states`, `output_attentions`, `return_dict`.

        Returns:
            `loss` (with labels) in float32, and `logits` (B, num_labels).
        """
        features = self.video_bert.features_of(video_features, video_mask, pixel_values)
        if input_ids is None and features is not None:
            input_ids = self.prompt(len(features))
        outputs = self.video_bert(input_ids, attention_mask, features, video_mask, **kwargs)
        pooled = self.video_bert.class_states(outputs.text_states, attention_mask)  # (B, D)
        logits = self.classifier(self.dropout(pooled))
        loss = None if labels is None else self.reaching_all(self._loss(logits.float(), labels))
        return SequenceClassifierOutput(loss, logits, outputs.hidden_states, outputs.attentions)

    def _loss(self, logits: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        if self.config.problem_type is None:  # as transformers decides, and saved with the model
            kind = "multi_label_classification" if labels.is_floating_point() else "single_label_classification"
            self.config.problem_type = "regression" if self.num_labels == 1 else kind
        if self.config.problem_type == "regression":
            return nn.functional.mse_loss(logits, labels.float().view_as(logits))
        if self.config.problem_type == "multi_label_classification":
            return nn.functional.binary_cross_entropy_with_logits(logits, labels.float())
        return masked_word_loss(logits, labels).mean()


class VideoBertForRetrieval(VideoBertMatching):
    """Scores how well texts describe videos."""

    head_parts = ("match_head",)

    def __init__(self, config: VideoBertConfig) -> None:
        super().__init__(config)
        self.video_bert = VideoBertModel(config)
        self.match_head = VideoBertMatchHead(config)
        self.post_init()
        self.video_bert.freeze()

    @can_return_tuple
    def forward(
        self,
        input_ids: torch.Tensor,
        attention_mask: torch.Tensor | None = None,
        video_features: torch.Tensor | None = None,
        video_mask: torch.Tensor | None = None,
        pixel_values: torch.Tensor | None = None,
        negative_input_ids: torch.Tensor | None = None,
        **kwargs,
    ) -> VideoBertForRetrievalOutput:
        """Scores pairs of a video and a text, and compares them with other texts in training.

        Args:
            input_ids, attention_mask, video_features, video_mask, pixel_values, negative_input_ids: as in
                `VideoBertForPreTraining.forward`; each row is a pair.
            kwargs: `return_dict`.

        Returns:
            `loss` (with other texts), and `logits` (B, 1 + K). `scores` compares all videos with all texts.
        """
        model = self.video_bert
        features = model.features_of(video_features, video_mask, pixel_values)
        if features is None:
            raise ValueError("Pass video_features or pixel_values.")
        features, video_mask, _, attention_mask = model.filled(features, video_mask, input_ids, attention_mask)
        features = model.standardized(features, video_mask)
        if negative_input_ids is None:
            states = model.encode_pairs(features, video_mask, input_ids, attention_mask)
            return VideoBertForRetrievalOutput(logits=self.match_head(states)[:, None])
        logits, objective = self.matched(features, video_mask, input_ids, attention_mask, negative_input_ids)
        return VideoBertForRetrievalOutput(self.reaching_all(objective.mean()), logits)

    @torch.no_grad()
    def scores(
        self,
        input_ids: torch.Tensor,
        attention_mask: torch.Tensor | None = None,
        video_features: torch.Tensor | None = None,
        video_mask: torch.Tensor | None = None,
        pixel_values: torch.Tensor | None = None,
        chunk_size: int = 256,
    ) -> torch.Tensor:
        """Scores of all videos with all texts, float32 (V, T); the larger, the better a text describes a video.

        Args:
            input_ids, attention_mask: of T texts.
            video_features, video_mask, pixel_values: of V videos.
            chunk_size: number of pairs that go through the model at once, and of segments through the backbone.
        """
        if chunk_size < 1:
            raise ValueError(f"chunk_size={chunk_size} must be at least 1.")
        model = self.video_bert
        features = model.features_of(video_features, video_mask, pixel_values, chunk_size)
        if features is None:
            raise ValueError("Pass video_features or pixel_values.")
        _, mask, _, _ = model.filled(features, video_mask, None, None)
        _, _, _, words = model.filled(None, None, input_ids, attention_mask)
        features = model.standardized(features, mask)
        pairs = torch.cartesian_prod(
            torch.arange(len(features), device=features.device), torch.arange(len(input_ids), device=features.device)
        )
        found = [
            self.match_head(model.encode_pairs(features[video], mask[video], input_ids[text], words[text])).float()
            for video, text in (chunk.unbind(1) for chunk in pairs.split(chunk_size))
        ]
        return torch.cat(found).view(len(features), len(input_ids))


class VideoBertForCaptioning(VideoBertPreTrainedModel, GenerationMixin):
    """Writes captions: fills masked words, or generates word after word.

    One set of weights serves both. A caption that is generated stands after the video, `[CLS] [>] video words [SEP]`,
    with causal text, so that a later word changes nothing before it.
    """

    head_parts = ("cls",)
    _tied_weights_keys = VideoBertForPreTraining._tied_weights_keys

    def __init__(self, config: VideoBertConfig) -> None:
        super().__init__(config)
        self.video_bert = VideoBertModel(config)
        self.cls = BertOnlyMLMHead(config)
        self.post_init()
        self.video_bert.freeze()

    get_output_embeddings = VideoBertForPreTraining.get_output_embeddings
    set_output_embeddings = VideoBertForPreTraining.set_output_embeddings

    @can_return_tuple
    def forward(
        self,
        input_ids: torch.Tensor,
        attention_mask: torch.Tensor | None = None,
        video_features: torch.Tensor | None = None,
        video_mask: torch.Tensor | None = None,
        pixel_values: torch.Tensor | None = None,
        labels: torch.Tensor | None = None,
        prefix: bool = True,
        **kwargs,
    ) -> CausalLMOutput:
        """Scores the words of captions.

        Args:
            input_ids, attention_mask, video_features, video_mask, pixel_values: as in `VideoBertModel.forward`.
            labels: int64 (B, T). With `prefix`, the caption itself, -100 for prompt and padding: each word is predicted
                from the words before it. Otherwise the words at masked places, and -100 elsewhere.
            prefix: True to generate, False to fill masked words.
            kwargs: `output_hidden_states`, `output_attentions`, `return_dict`.

        Returns:
            `loss` (with labels) in float32, and `logits` (B, T, vocab_size).
        """
        outputs = self.video_bert(
            input_ids, attention_mask, video_features, video_mask, pixel_values, prefix=prefix, **kwargs
        )
        logits, loss = self.cls(outputs.text_states), None
        if labels is not None:
            loss = self.reaching_all((next_word_loss if prefix else masked_word_loss)(logits, labels).mean())
        return CausalLMOutput(loss, logits, outputs.hidden_states, outputs.attentions)

    def prepare_inputs_for_generation(
        self,
        input_ids: torch.Tensor,
        attention_mask: torch.Tensor | None = None,
        video_features: torch.Tensor | None = None,
        video_mask: torch.Tensor | None = None,
        **unused,
    ) -> dict:
        """The inputs of `forward`: there is no cache, and every word sees the whole prefix anew."""
        return {
            **{"input_ids": input_ids, "attention_mask": attention_mask},
            **{"video_features": video_features, "video_mask": video_mask, "prefix": True},
        }

    @torch.no_grad()
    def generate(
        self,
        input_ids: torch.Tensor | None = None,
        video_features: torch.Tensor | None = None,
        video_mask: torch.Tensor | None = None,
        pixel_values: torch.Tensor | None = None,
        **kwargs,
    ):
        """Generates captions, as `GenerationMixin.generate`: greedily, by beam search (`num_beams`) or sampling
        (`do_sample`).

        Args:
            input_ids: int64 (B, T), prompts, padded on the left; by default `[CLS] [>]`.
            video_features, video_mask, pixel_values: as in `VideoBertModel.forward`.
            kwargs: those of `GenerationMixin.generate`, such as `max_new_tokens`, or `attention_mask` of the prompts.

        Returns:
            int64 (B, T'), prompts with captions, which end in `[SEP]`; or what the `kwargs` ask for.
        """
        features = self.video_bert.features_of(video_features, video_mask, pixel_values)
        if features is None:
            raise ValueError("Pass video_features or pixel_values.")
        if input_ids is None:
            input_ids = self.prompt(len(features), complete=False).clone()
        kwargs.setdefault("attention_mask", torch.ones_like(input_ids))
        config, names = self.config, ("pad_token_id", "cls_token_id", "mask_token_id", "separator_token_id")
        never = [number for name in names if (number := getattr(config, name)) is not None]
        fixed = {"use_cache": False, "pad_token_id": config.pad_token_id, "suppress_tokens": never}
        fixed["eos_token_id"] = require_token(config, "sep_token_id")
        return super().generate(input_ids, video_features=features, video_mask=video_mask, **{**fixed, **kwargs})

    @torch.no_grad()
    def fill(
        self,
        input_ids: torch.Tensor,
        attention_mask: torch.Tensor | None = None,
        top_k: int = 5,
        **video,
    ) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
        """Yields, for each text, the likeliest words at its masked places.

        Args:
            input_ids, attention_mask: texts (B, T) with masked words.
            top_k: number of words at each place.
            video: `video_features`, `video_mask`, `pixel_values`.

        Yields:
            Words, int64 (M, top_k), and their probabilities, float32 (M, top_k), of the M masked places of a text.
        """
        logits = self(input_ids, attention_mask, prefix=False, **video).logits
        masked = input_ids == require_token(self.config, "mask_token_id")
        for row, places in zip(logits.float(), masked):
            probabilities, words = row[places].softmax(dim=-1).topk(top_k, dim=-1)
            yield words, probabilities

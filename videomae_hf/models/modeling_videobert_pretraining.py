# Copyright 2026 The videomae_hf authors. Licensed under the Apache License, Version 2.0.
"""Pretraining of VideoBERT: masked words, masked segments, and matching of video and text.

Shapes in comments are those of `modeling_videobert.py`. This file ships with checkpoints and may import only its
siblings.
"""

from dataclasses import dataclass

import torch
from torch import nn
from transformers.models.bert.modeling_bert import BertOnlyMLMHead
from transformers.utils import ModelOutput
from transformers.utils.generic import can_return_tuple

from .configuration_videobert import VideoBertConfig
from .layers_videobert import VideoBertMatchHead, VideoBertVideoHead
from .modeling_videobert import VideoBertModel, VideoBertPreTrainedModel
from .video_text_masking import special_ids
from .video_text_objectives import (
    Objective,
    compacted,
    contrastive_loss,
    has_words,
    is_same_text,
    masked_feature_loss,
    masked_word_loss,
    matching_loss,
    whole_texts,
)


Rows = tuple[torch.Tensor, torch.Tensor, torch.Tensor]  # features (B, S, P, F), their mask (B, S), texts (B, T)


@dataclass
class VideoBertForPreTrainingOutput(ModelOutput):
    """
    Args:
        loss (`torch.FloatTensor` of shape `()`): the weighted sum of the losses; None without any target.
        mlm_loss, video_loss, match_loss (`torch.FloatTensor` of shape `()`): those whose targets were given.
        logits (`torch.FloatTensor` of shape `(B, T, vocab_size)`): scores of words.
        video_logits (`torch.FloatTensor` of shape `(B, S, P, F)`): predicted features, or scores of visual words.
        match_logits (`torch.FloatTensor` of shape `(B, 1 + K)`): scores of the own text and of the others.
        hidden_states, attentions (`tuple(torch.FloatTensor)`, *optional*): of the pass with masks, if requested.
    """

    loss: torch.FloatTensor | None = None
    mlm_loss: torch.FloatTensor | None = None
    video_loss: torch.FloatTensor | None = None
    match_loss: torch.FloatTensor | None = None
    logits: torch.FloatTensor | None = None
    video_logits: torch.FloatTensor | None = None
    match_logits: torch.FloatTensor | None = None
    hidden_states: tuple[torch.FloatTensor, ...] | None = None
    attentions: tuple[torch.FloatTensor, ...] | None = None


class VideoBertMatching(VideoBertPreTrainedModel):
    """The matching of videos with several texts, of models with a `video_bert` and a `match_head`."""

    def has_words(self, texts: torch.Tensor, attention_mask: torch.Tensor) -> torch.Tensor:
        return has_words(texts, attention_mask, special_ids(self.config))

    def candidates(
        self, texts: torch.Tensor, attention_mask: torch.Tensor, video_mask: torch.Tensor, negatives: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Own and other texts, padded at the end, int64 (B, 1 + K, T'), and which of them count, bool (B, 1 + K)."""
        pad = self.config.pad_token_id
        candidates = torch.full((len(texts), 1, max(texts.shape[1], negatives.shape[2])), pad, device=texts.device)
        candidates = candidates.repeat(1, 1 + negatives.shape[1], 1)
        own = compacted(texts, attention_mask)
        candidates[:, 0, : texts.shape[1]] = own.masked_fill(own < 0, pad)
        candidates[:, 1:, : negatives.shape[2]] = negatives
        valid = self.has_words(candidates, candidates != pad)
        valid[:, 1:] &= ~is_same_text(own[:, None], compacted(negatives, negatives != pad))
        valid[:, 0] &= video_mask.any(dim=1)
        return candidates, valid

    def match(self, features: torch.Tensor, video_mask: torch.Tensor, candidates: torch.Tensor) -> torch.Tensor:
        """Scores (B, 1 + K) of videos with standardised features (B, S, P, F) and texts (B, 1 + K, T)."""
        number = candidates.shape[1]
        texts = candidates.flatten(0, 1)  # (B, 1 + K, T) -> (B * (1 + K), T)
        states = self.video_bert.encode_pairs(
            features.repeat_interleave(number, dim=0),
            video_mask.repeat_interleave(number, dim=0),
            texts,
            texts != self.config.pad_token_id,
        )
        return self.match_head(states).view(-1, number)

    def matched(
        self,
        features: torch.Tensor,
        video_mask: torch.Tensor,
        texts: torch.Tensor,
        attention_mask: torch.Tensor,
        negatives: torch.Tensor,
    ) -> tuple[torch.Tensor, Objective]:
        """Scores (B, 1 + K) of own texts (B, T) and others (B, K, T'), and the objective of matching."""
        candidates, valid = self.candidates(texts, attention_mask, video_mask, negatives)
        logits = self.match(features, video_mask, candidates)
        return logits, matching_loss(logits, valid, self.config.match_loss)


class VideoBertForPreTraining(VideoBertMatching):
    """Masked words, masked segments, and matching of video and text; those whose weight is not 0."""

    head_parts = ("cls", "video_head", "match_head")
    _tied_weights_keys = {
        "cls.predictions.decoder.weight": "video_bert.bert.embeddings.word_embeddings.weight",
        "cls.predictions.decoder.bias": "cls.predictions.bias",
    }

    def __init__(self, config: VideoBertConfig) -> None:
        super().__init__(config)
        self.video_bert = VideoBertModel(config)
        self.cls = BertOnlyMLMHead(config) if config.mlm_weight else None
        self.video_head = VideoBertVideoHead(config) if config.video_weight else None
        self.match_head = VideoBertMatchHead(config) if config.match_weight else None
        if self.cls is None:
            self._tied_weights_keys = {}
        self.post_init()
        self.video_bert.freeze()

    def get_output_embeddings(self) -> nn.Module | None:
        return None if self.cls is None else self.cls.predictions.decoder

    def set_output_embeddings(self, new_embeddings: nn.Module) -> None:
        self.cls.predictions.decoder = new_embeddings
        self.cls.predictions.bias = new_embeddings.bias

    @can_return_tuple
    def forward(
        self,
        input_ids: torch.Tensor | None = None,
        attention_mask: torch.Tensor | None = None,
        video_features: torch.Tensor | None = None,
        video_mask: torch.Tensor | None = None,
        pixel_values: torch.Tensor | None = None,
        text_labels: torch.Tensor | None = None,
        masked_segments: torch.Tensor | None = None,
        segment_sources: torch.Tensor | None = None,
        negative_input_ids: torch.Tensor | None = None,
        loss_counts: torch.Tensor | None = None,
        contrast: Rows | None = None,
        **kwargs,
    ) -> VideoBertForPreTrainingOutput:
        """The losses of those objectives whose targets are given.

        Words and segments are predicted in one pass over the masked pairs, and matching is computed in a second pass,
        over the pairs without masks and the same videos with other texts.

        Args:
            input_ids, attention_mask, video_features, video_mask, pixel_values: as in `VideoBertModel.forward`; texts
                with masked words.
            text_labels: int64 (B, T), the words at masked places and -100 elsewhere, see `mask_words`.
            masked_segments: bool (B, S), True where features are predicted, see `mask_segments`; padding is ignored.
            segment_sources: int64 (B, S), which segments are shown; None hides all masked ones.
            negative_input_ids: int64 (B, K, T'), other texts, padded with `config.pad_token_id`. Those equal to the own
                text do not count, nor do rows without video or without words.
            loss_counts: float (3,), the divisors of the three losses; None is the numbers of terms of this batch, see
                `objective_counts`. With their sum over all batches of a step (divided by the number of processes, where
                these average gradients), the sum of the losses does not depend on how a batch is divided.
            contrast: rows of the other batches of a step, with which `video_loss="nce"` compares too: `contrast_rows`.
            kwargs: `output_hidden_states`, `output_attentions`, `return_dict`.

        Returns:
            A `VideoBertForPreTrainingOutput`. A loss without terms is 0, with gradients of 0.
        """
        features = self.video_bert.features_of(video_features, video_mask, pixel_values)
        outputs = self.video_bert(
            input_ids, attention_mask, features, video_mask,
            masked_segments=masked_segments, segment_sources=segment_sources, **kwargs,
        )  # fmt: skip
        _, video_mask, words, attention_mask = self.video_bert.filled(features, video_mask, input_ids, attention_mask)
        texts = whole_texts(words, text_labels)
        logits = video_logits = match_logits = None
        objectives: list[Objective | None] = [None, None, None]
        if input_ids is not None:
            logits, objectives[0] = self._predict_words(outputs.text_states, text_labels)
        if features is not None:
            own = (outputs.features, video_mask, compacted(texts, attention_mask))
            rows = [own] if contrast is None else [own, self._standardized(*contrast)]
            video_logits, objectives[1] = self._predict_segments(outputs.video_states, masked_segments, rows)
        is_pair = input_ids is not None and features is not None
        if self.match_head is not None and negative_input_ids is not None and is_pair:
            pairs = (outputs.features, video_mask, texts, attention_mask)
            match_logits, objectives[2] = self.matched(*pairs, negative_input_ids)
        total, losses = self._weighted(objectives, loss_counts)
        return VideoBertForPreTrainingOutput(
            total, *losses, logits, video_logits, match_logits, outputs.hidden_states, outputs.attentions
        )

    def _standardized(self, features: torch.Tensor, mask: torch.Tensor, texts: torch.Tensor) -> Rows:
        return self.video_bert.standardized(features, mask), mask, texts

    def _predict_words(self, states, labels) -> tuple[torch.Tensor | None, Objective | None]:
        """Scores of words, from states (B, T, D), and the objective of masked ones; None without head or labels."""
        if self.cls is None:
            return None, None
        logits = self.cls(states)
        return logits, None if labels is None else masked_word_loss(logits, labels)

    def _predict_segments(
        self, states: torch.Tensor, masked_segments: torch.Tensor | None, rows: list[Rows]
    ) -> tuple[torch.Tensor | None, Objective | None]:
        """Predicted features or words of segments, and the objective of masked ones; None without head or masks."""
        if self.video_head is None:
            return None, None
        logits = self.video_head(states)
        if masked_segments is None:
            return logits, None
        return logits, self.video_objective(logits, masked_segments.bool() & rows[0][1], rows)

    def _weighted(
        self, objectives: list[Objective | None], loss_counts: torch.Tensor | None
    ) -> tuple[torch.Tensor | None, list[torch.Tensor | None]]:
        """The weighted sum of the losses, and each of them."""
        if all(one is None for one in objectives):
            return None, [None] * 3
        counts = [None] * 3 if loss_counts is None else loss_counts.float().unbind()
        losses = [None if one is None else one.mean(count) for one, count in zip(objectives, counts)]
        weights = (self.config.mlm_weight, self.config.video_weight, self.config.match_weight)
        terms = [weight * loss for weight, loss in zip(weights, losses) if loss is not None]
        return self.reaching_all(sum(terms)), losses

    def video_objective(self, predictions: torch.Tensor, masked: torch.Tensor, rows: list[Rows]) -> Objective:
        """The objective of masked segments.

        Args:
            predictions: (B, S, P, F), or (B, S, P, K) for visual words.
            masked: bool (B, S), masked segments.
            rows: the standardised features, masks and texts of the batch, and of others that are contrasted with it.
        """
        config, features = self.config, rows[0][0].detach()
        of_places = masked[..., None].expand(features.shape[:3])  # (B, S) -> (B, S, P)
        if config.video_loss == "mse":
            return masked_feature_loss(predictions, features, of_places)
        if config.video_loss == "words":
            labels = self.video_bert.video_embeddings.words_of(features).masked_fill(~of_places, -100)
            return masked_word_loss(predictions, labels)
        compared = torch.cat([features.detach().flatten(0, 2) for features, _, _ in rows])  # (C, F)
        return contrastive_loss(predictions, of_places, compared, self._comparable(rows), config.nce_temperature)

    def _comparable(self, rows: list[Rows]) -> torch.Tensor:
        """Which features of all rows each row of the first is contrasted with, bool (B, C): no padding, and no others
        with the same words.
        """
        found, own_texts = [], rows[0][2]
        known = self.has_words(own_texts, own_texts >= 0)[:, None]  # (B, 1)
        for number, (features, mask, texts) in enumerate(rows):
            same = is_same_text(own_texts[:, None], texts[None]) & known  # (B, N)
            if number == 0:
                same = same & ~torch.eye(len(same), dtype=torch.bool, device=same.device)
            of_places = mask[..., None].expand(features.shape[:3])  # (N, S) -> (N, S, P)
            found.append((of_places & ~same[:, :, None, None]).flatten(1))  # (B, N, S, P) -> (B, N * S * P)
        return torch.cat(found, dim=1)

    @torch.no_grad()
    def contrast_rows(
        self,
        input_ids: torch.Tensor | None = None,
        attention_mask: torch.Tensor | None = None,
        video_features: torch.Tensor | None = None,
        video_mask: torch.Tensor | None = None,
        pixel_values: torch.Tensor | None = None,
        text_labels: torch.Tensor | None = None,
        **unused,
    ) -> Rows:
        """What `video_loss="nce"` compares with, for inputs of `forward`.

        Returns:
            The features as they are (B, S, P, F), bool (B, S), False for padding, and the texts without masks, int64
            (B, T), see `compacted`. S or T is 0 without video or text.
        """
        features = self.video_bert.features_of(video_features, video_mask, pixel_values)
        features, video_mask, words, mask = self.video_bert.filled(features, video_mask, input_ids, attention_mask)
        return features, video_mask, compacted(whole_texts(words, text_labels), mask)

    def objective_counts(
        self,
        input_ids: torch.Tensor | None = None,
        attention_mask: torch.Tensor | None = None,
        video_mask: torch.Tensor | None = None,
        text_labels: torch.Tensor | None = None,
        masked_segments: torch.Tensor | None = None,
        negative_input_ids: torch.Tensor | None = None,
        video_features: torch.Tensor | None = None,
        pixel_values: torch.Tensor | None = None,
        **unused,
    ) -> torch.Tensor:
        """The numbers of terms of the three losses for inputs of `forward`, without computing the losses.

        Of the video, `video_mask` alone is enough.

        Returns:
            float32 (3,): masked words, masked places, and rows (or, with `match_loss="binary"`, texts) in matching.
        """
        counts = torch.zeros(3, device=self.device)
        if self.cls is not None and text_labels is not None:
            counts[0] = (text_labels != -100).sum()
        if self.video_head is not None and masked_segments is not None:
            masked = masked_segments.bool() if video_mask is None else masked_segments.bool() & video_mask.bool()
            counts[1] = masked.sum() * self.config.tokens_per_segment
        has_video = any(one is not None for one in (video_mask, video_features, pixel_values))
        is_pair = input_ids is not None and has_video
        if self.match_head is not None and negative_input_ids is not None and is_pair:
            texts = whole_texts(input_ids, text_labels)
            mask = torch.ones_like(texts) if attention_mask is None else attention_mask
            rows = torch.ones_like(texts[:, :1]) if video_mask is None else video_mask
            valid = self.candidates(texts, mask.bool(), rows.bool(), negative_input_ids)[1]
            counts[2] = matching_loss(torch.zeros_like(valid, dtype=torch.float32), valid, self.config.match_loss).count
        return counts

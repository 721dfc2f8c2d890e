"""VideoBERT: its losses against loops, its masks, and its pretraining."""

import math

import numpy as np
import pytest
import torch
from helpers.tiny_videobert import CLS, MASK, PAD, SEP, TINY_VIDEOBERT, TO, build_videobert, pairs
from torch import nn

from videomae_hf import VideoBertConfig, VideoBertForPreTraining, VisualWords
from videomae_hf.models.video_text_masking import mask_segments, mask_words, sample_negatives
from videomae_hf.models.video_text_objectives import (
    compacted,
    contrastive_loss,
    is_same_text,
    masked_feature_loss,
    masked_word_loss,
    matching_loss,
    next_word_loss,
)


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def random(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(shape, generator=seeded(seed))


# losses against loops


def test_masked_features_as_in_a_loop():
    predictions, targets = random(2, 3, 2, 4), random(2, 3, 2, 4, seed=1)
    masked = torch.tensor([[[1, 1], [0, 0], [0, 1]], [[0, 0], [0, 0], [1, 0]]]).bool()
    errors = [
        sum((predictions[place][value] - targets[place][value]) ** 2 for value in range(4)) / 4
        for place in masked.nonzero().tolist()
        for place in [tuple(place)]
    ]
    found = masked_feature_loss(predictions, targets, masked)
    assert found.count == 4
    torch.testing.assert_close(found.mean(), sum(errors) / 4)


def test_the_seeds_masked_loss():
    """One feature a segment: the mean squared error between predicted and true features of masked segments."""
    predictions, targets = random(2, 4, 1, 6), random(2, 4, 1, 6, seed=1)
    masked = torch.tensor([[True, False, True, False], [False, False, False, True]])
    expected = nn.functional.mse_loss(predictions[:, :, 0][masked], targets[:, :, 0][masked])
    torch.testing.assert_close(masked_feature_loss(predictions, targets, masked[..., None]).mean(), expected)


def test_the_seeds_matching_loss():
    """Binary cross-entropy of a score for each pair, 1 for the true one and 0 for another text."""
    scores = random(3, 2)
    labels = torch.tensor([[1.0, 0.0]] * 3)
    expected = nn.functional.binary_cross_entropy_with_logits(scores, labels)
    torch.testing.assert_close(matching_loss(scores, torch.ones(3, 2).bool(), "binary").mean(), expected)


@pytest.mark.parametrize("kind", ["softmax", "binary"])
def test_matching_as_in_a_loop(kind):
    scores = random(4, 3)
    # an equal caption, a row whose others are all equal, a row without video
    valid = torch.tensor([[1, 1, 1], [1, 0, 1], [1, 0, 0], [0, 1, 1]]).bool()
    terms = []
    for row in range(2):
        kept = [column for column in range(3) if valid[row, column]]
        values = scores[row].tolist()
        if kind == "softmax":
            terms.append(math.log(sum(math.exp(values[column]) for column in kept)) - values[0])
        else:
            terms += [math.log1p(math.exp(values[column] * (1 if column else -1))) for column in kept]
    scores.requires_grad_()
    found = matching_loss(scores, valid, kind)
    assert found.count == len(terms)
    assert found.mean().item() == pytest.approx(sum(terms) / len(terms), abs=1e-6)
    found.mean().backward()
    assert scores.grad.isfinite().all() and not scores.grad[2:].any() and not scores.grad[1, 1]


def test_contrast_as_in_a_loop():
    """Rows 0 and 1 have equal captions, so that neither is compared with the other; row 2 has padding."""
    predictions, targets = random(3, 2, 2, 4), random(3, 2, 2, 4, seed=1)
    video_mask = torch.tensor([[1, 1], [1, 1], [1, 0]]).bool()
    masked = torch.tensor([[1, 0], [0, 0], [1, 0]]).bool()
    same = torch.tensor([[0, 1, 0], [1, 0, 0], [0, 0, 0]]).bool()
    comparable = (video_mask[None] & ~same[:, :, None])[..., None].expand(-1, -1, -1, 2).flatten(1)
    terms = []
    for row, segment in masked.nonzero().tolist():
        for place in range(2):
            scores = {}
            for other in range(3):
                for there in range(2):
                    if video_mask[other, there] and not same[row, other]:
                        for spot in range(2):
                            one, two = predictions[row, segment, place], targets[other, there, spot]
                            scores[other, there, spot] = float(one @ two / one.norm() / two.norm() / 0.5)
            total = sum(math.exp(score) for score in scores.values())
            terms.append(math.log(total) - scores[row, segment, place])
    of_places = masked[..., None].expand(-1, -1, 2)
    found = contrastive_loss(predictions, of_places, targets.flatten(0, 2), comparable, 0.5)
    assert found.count == 4 and found.mean().item() == pytest.approx(sum(terms) / 4, abs=1e-5)


def test_words_as_in_numpy():
    logits, labels = random(2, 3, 5), torch.tensor([[1, -100, 4], [-100, -100, 0]])
    probabilities = np.exp(logits.numpy()) / np.exp(logits.numpy()).sum(axis=-1, keepdims=True)
    terms = [-math.log(probabilities[0, 0, 1]), -math.log(probabilities[0, 2, 4]), -math.log(probabilities[1, 2, 0])]
    assert masked_word_loss(logits, labels).mean().item() == pytest.approx(sum(terms) / 3, abs=1e-6)
    terms = [-math.log(probabilities[0, 1, 4]), -math.log(probabilities[1, 1, 0])]
    assert next_word_loss(logits, labels).mean().item() == pytest.approx(sum(terms) / 2, abs=1e-6)


def test_equal_texts_whatever_their_padding():
    first = compacted(torch.tensor([[0, 5, 6], [5, 6, 0], [5, 0, 6]]), torch.tensor([[0, 1, 1], [1, 1, 0], [1, 0, 1]]))
    second = compacted(torch.tensor([[5, 6, 9, 9]]), torch.tensor([[1, 1, 0, 0]]))
    assert is_same_text(first, second).tolist() == [True] * 3
    assert not is_same_text(first, compacted(torch.tensor([[5, 6, 9]]), torch.ones(1, 3))).any()


# masks


def test_words_are_masked_as_in_bert():
    config = VideoBertConfig(**{**TINY_VIDEOBERT, "text_mask_ratio": 0.25})
    generator = seeded()
    input_ids = torch.randint(6, 24, (4000, 12), generator=generator)
    input_ids[:, 0], input_ids[:, 10], input_ids[:, 11] = CLS, TO, SEP
    attention_mask = torch.ones_like(input_ids)
    input_ids[0, 3:], attention_mask[0, 3:] = PAD, 0  # two words
    masked, labels = mask_words(input_ids, attention_mask, config, generator, special_token_ids=[5])
    chosen = labels != -100
    assert chosen[0].sum() == 1 and set(chosen[1:].sum(dim=1).tolist()) == {2}  # of 2, and a quarter of 9
    assert not chosen[:, [0, 10, 11]].any() and torch.equal(labels[chosen], input_ids[chosen])
    assert torch.equal(masked[~chosen], input_ids[~chosen])
    hidden, kept = masked[chosen] == MASK, masked[chosen] == input_ids[chosen]
    assert hidden.float().mean() == pytest.approx(0.8, abs=0.02)
    assert kept.float().mean() == pytest.approx(0.1 + 0.1 / 18, abs=0.02)
    # each word, and no special token, replaces others
    assert sorted(set(masked[chosen][~hidden & ~kept].tolist())) == list(range(6, 24))
    again = mask_words(input_ids, attention_mask, config, generator.manual_seed(3))[0]
    assert torch.equal(again, mask_words(input_ids, attention_mask, config, seeded(3))[0])


def test_segments_are_masked_whole():
    video_mask = torch.ones(2000, 8, dtype=torch.bool)
    video_mask[::2, 5:] = False
    masked, sources = mask_segments(video_mask, 0.25, seeded())
    assert set(masked[::2].sum(dim=1).tolist()) == {1} and set(masked[1::2].sum(dim=1).tolist()) == {2}
    assert not (masked & ~video_mask).any()
    places = torch.arange(16000).view(2000, 8)
    assert torch.equal(sources[~masked], places[~masked])
    hidden, kept = sources[masked] == -1, sources[masked] == places[masked]
    assert hidden.float().mean() == pytest.approx(0.8, abs=0.02) and kept.float().mean() == pytest.approx(0.1, abs=0.02)
    assert video_mask.flatten()[sources[masked][~hidden]].all()  # no padding is shown
    nothing, sources = mask_segments(torch.zeros(2, 3), 0.5, seeded())
    assert not nothing.any() and sources.tolist() == [[0, 1, 2], [3, 4, 5]]


def test_no_mask_at_ratio_0():
    config = VideoBertConfig(**{**TINY_VIDEOBERT, "text_mask_ratio": 0.0})
    input_ids = torch.full((2, 4), 7)
    masked, labels = mask_words(input_ids, torch.ones(2, 4), config, seeded())
    assert torch.equal(masked, input_ids) and (labels == -100).all()
    assert not mask_segments(torch.ones(2, 4), 0.0, seeded())[0].any()


def test_negatives_are_other_texts():
    input_ids = torch.tensor([[CLS, 7, SEP], [CLS, 8, SEP], [CLS, 7, SEP], [CLS, 9, SEP], [CLS, SEP, PAD]])
    eligible = torch.tensor([True, True, True, True, False])
    for seed in range(20):
        rows = sample_negatives(input_ids, input_ids != PAD, 3, seeded(seed), eligible)
        assert rows.shape == (5, 3)
        assert sorted(rows[0].tolist()) == [0, 1, 3] and sorted(rows[2].tolist()) == [1, 2, 3]  # 2 others each
        assert sorted(rows[1].tolist()) == [0, 2, 3] and 4 not in rows[:4]
    assert sample_negatives(input_ids[:1], input_ids[:1] != PAD, 2, seeded()).tolist() == [[0, 0]]


# pretraining

SECOND = [CLS, 10, 11, TO, SEP]  # the text of the second row


def targets(inputs: dict) -> dict[str, torch.Tensor]:
    """A masked word in each text, a masked segment in each video, two other texts, of which one is the own."""
    labels = torch.full((2, 6), -100)
    labels[0, 2], labels[1, 1] = 8, 10
    return {
        **inputs,
        "input_ids": inputs["input_ids"].masked_fill(labels != -100, MASK),
        "text_labels": labels,
        "masked_segments": torch.tensor([[True, False, False], [False, True, True]]),  # the last is padding
        "negative_input_ids": torch.tensor([[SECOND, [CLS, 9, TO, SEP, PAD]], [SECOND, [CLS, 7, TO, SEP, PAD]]]),
    }


@pytest.mark.parametrize("fields", [
    {}, {"tokens_per_segment": 4, "video_attention": "divided"}, {"video_loss": "nce"}, {"match_loss": "binary"},
    {"video_loss": "words", "visual_words": 4}, {"video_loss": "words", "visual_words": 4, "video_input": "words"},
], ids=str)  # fmt: skip
def test_losses_by_hand(fields):
    fields = {"mlm_weight": 2.0, "video_weight": 0.5, "match_weight": 0.25, **fields}
    model = build_videobert(VideoBertForPreTraining, **fields)
    words = VisualWords(random(4, 5, seed=7), random(5, seed=8), random(5, seed=9).exp())
    model.video_bert.set_visual_words(words)
    inputs = targets(pairs(model.config))
    found = model(**inputs)
    losses = (found.mlm_loss, found.video_loss, found.match_loss)
    torch.testing.assert_close(found.loss, 2 * losses[0] + 0.5 * losses[1] + 0.25 * losses[2])
    expected = nn.functional.cross_entropy(torch.stack([found.logits[0, 2], found.logits[1, 1]]), torch.tensor([8, 10]))
    torch.testing.assert_close(losses[0], expected)
    places = model.config.tokens_per_segment
    features = (inputs["video_features"].view(2, 3, places, 5) - words.mean) / words.std
    predicted = torch.stack([found.video_logits[0, 0], found.video_logits[1, 1]])
    true = torch.stack([features[0, 0], features[1, 1]])  # (2, P, F)
    if model.config.video_loss == "mse":
        torch.testing.assert_close(losses[1], nn.functional.mse_loss(predicted, true))
    elif model.config.video_loss == "words":
        nearest = (true[..., None, :] - words.centroids).square().sum(dim=-1).argmin(dim=-1)
        torch.testing.assert_close(losses[1], nn.functional.cross_entropy(predicted[:, 0], nearest[:, 0]))
    # the own text of the second row is among the others, and does not count
    scores = found.match_logits
    assert scores.shape == (2, 3)
    if model.config.match_loss == "softmax":
        expected = (scores[0].logsumexp(dim=0) - scores[0, 0] + scores[1, [0, 2]].logsumexp(dim=0) - scores[1, 0]) / 2
    else:
        kept, labels = torch.cat([scores[0], scores[1, [0, 2]]]), torch.tensor([1.0, 0.0, 0.0, 1.0, 0.0])
        expected = nn.functional.binary_cross_entropy_with_logits(kept, labels)
    torch.testing.assert_close(losses[2], expected)
    # scores of matching are those of pairs without masks
    plain = {**pairs(model.config), "input_ids": torch.tensor([[CLS, 7, 8, 9, TO, SEP], [CLS, 10, 11, TO, SEP, PAD]])}
    states = model.video_bert(**plain).text_states[:, 0]
    torch.testing.assert_close(scores[:, 0], model.match_head(states))


def test_a_batch_without_masks_has_a_loss_of_0():
    for fields in ({}, {"video_loss": "nce"}, {"video_loss": "words", "visual_words": 3}, {"match_loss": "binary"}):
        model = build_videobert(VideoBertForPreTraining, mlm_weight=1000.0, **fields).train()
        inputs = pairs(model.config)
        own = inputs["input_ids"][:, None]
        nothing = {"text_labels": torch.full((2, 6), -100), "masked_segments": torch.zeros(2, 3).bool()}
        found = model(**inputs, **nothing, negative_input_ids=own)
        assert [found.loss.item(), found.mlm_loss.item(), found.video_loss.item(), found.match_loss.item()] == [0] * 4
        found.loss.backward()
        gradients = [one.grad for one in model.parameters() if one.grad is not None]
        assert gradients and not any(one.any() for one in gradients)  # neither NaN


def test_one_modality_alone():
    """Every parameter has a gradient, so that processes with other batches can exchange them."""
    model = build_videobert(VideoBertForPreTraining).train()
    inputs = targets(pairs(model.config))
    text = {name: inputs[name] for name in ("input_ids", "attention_mask", "text_labels")}
    video = {name: inputs[name] for name in ("video_features", "video_mask", "masked_segments")}
    for given, absent in ((text, "video_loss"), (video, "mlm_loss")):
        model.zero_grad()
        found = model(**given)
        assert getattr(found, absent) is None and found.match_loss is None and found.loss > 0
        found.loss.backward()
        assert [name for name, one in model.named_parameters() if one.grad is None] == []
    assert model(**pairs(model.config)).loss is None
    # rows of both kinds in one batch: no video in the first, no words in the second
    mixed = {**inputs, "video_mask": torch.tensor([[False] * 3, [True] * 3]), "masked_segments": torch.ones(2, 3)}
    mixed["input_ids"] = torch.tensor([[CLS, 7, MASK, 9, SEP, PAD], [CLS, TO, SEP, PAD, PAD, PAD]])
    mixed |= {"attention_mask": mixed["input_ids"] != PAD, "text_labels": torch.full((2, 6), -100)}
    mixed["text_labels"][0, 2] = 8
    found = model(**mixed)
    assert found.mlm_loss > 0 and found.video_loss > 0 and found.match_loss == 0


def test_objectives_are_switched_off():
    model = build_videobert(VideoBertForPreTraining, mlm_weight=0.0, match_weight=0.0)
    assert model.cls is None and model.match_head is None
    found = model(**targets(pairs(model.config)))
    assert found.mlm_loss is None and found.match_loss is None and torch.equal(found.loss, found.video_loss)


def test_texts_alone_have_no_terms_of_matching():
    """A micro-batch without any video must not count in the divisor: `forward` matches nothing there."""
    model = build_videobert(VideoBertForPreTraining)
    inputs = targets(pairs(model.config))
    names = ("input_ids", "attention_mask", "text_labels", "negative_input_ids")
    texts = {name: inputs[name] for name in names}
    assert model(**texts).match_loss is None and model.objective_counts(**texts)[2] == 0
    assert model.objective_counts(**texts, video_features=inputs["video_features"])[2] > 0


@pytest.mark.parametrize("fields", [
    {}, {"match_loss": "binary"}, {"video_loss": "nce"}, {"video_loss": "nce", "tokens_per_segment": 4},
], ids=str)  # fmt: skip
def test_the_division_of_a_batch_changes_nothing(fields):
    """With the numbers of terms and the contrasted rows of the whole batch, losses and gradients of parts add up."""
    model = build_videobert(VideoBertForPreTraining, **fields)
    inputs = targets(pairs(model.config))
    inputs["text_labels"][0, 1] = 7  # the parts have different numbers of masks
    counts = model.objective_counts(**inputs)
    places = model.config.tokens_per_segment
    assert counts.tolist() == [3, 2 * places, 5 if "match_loss" in fields else 2]
    whole = model(**inputs)
    whole.loss.backward()
    expected = {name: one.grad.clone() for name, one in model.named_parameters()}
    model.zero_grad()
    parts = [{name: value[row : row + 1] for name, value in inputs.items()} for row in range(2)]
    torch.testing.assert_close(sum(model.objective_counts(**part) for part in parts), counts)
    others = [model.contrast_rows(**part) for part in reversed(parts)]
    losses = [model(**part, contrast=rows, loss_counts=counts).loss for part, rows in zip(parts, others)]
    torch.testing.assert_close(sum(losses), whole.loss)
    sum(losses).backward()
    torch.testing.assert_close({name: one.grad for name, one in model.named_parameters()}, expected)


def test_rows_to_contrast_with():
    """Texts have their masked words again, and features are those that were given; padding is left to the mask."""
    model = build_videobert(VideoBertForPreTraining, video_loss="nce")
    inputs = targets(pairs(model.config))
    features, mask, texts = model.contrast_rows(**inputs)
    assert torch.equal(features[:, :, 0], inputs["video_features"])
    assert mask.tolist() == [[True, True, True], [True, True, False]]
    assert texts.tolist() == [[CLS, 7, 8, 9, TO, SEP], [CLS, 10, 11, TO, SEP, -1]]
    features, mask, texts = model.contrast_rows(input_ids=inputs["input_ids"])
    assert features.shape == (2, 0, 1, 5) and mask.shape == (2, 0)
    features, mask, texts = model.contrast_rows(video_features=inputs["video_features"])
    assert mask.all() and texts.shape == (2, 0)


def test_others_with_the_same_words_or_padding_are_not_contrasted():
    model = build_videobert(VideoBertForPreTraining, video_loss="nce")
    inputs = {**targets(pairs(model.config)), "negative_input_ids": None}
    alone = model(**inputs).video_loss
    more, texts = torch.randn(2, 4, 1, 5), torch.tensor([[CLS, 7, 8, 9, TO, SEP, -1], [CLS, 5, TO, SEP, -1, -1, -1]])
    only_first, nothing = torch.tensor([[True] * 4, [False] * 4]), torch.zeros(2, 4, dtype=torch.bool)
    assert torch.equal(model(**inputs, contrast=(more, nothing, texts)).video_loss, alone)
    # the first of the other rows has the words of the first row, whose term alone stays as it was
    found = model(**inputs, contrast=(more, only_first, texts))
    features = nn.functional.normalize(inputs["video_features"], dim=-1)
    others = nn.functional.normalize(more[0, :, 0], dim=-1)
    terms = []
    for row, segment, extra in ((0, 0, None), (1, 1, others)):
        prediction = nn.functional.normalize(found.video_logits[row, segment, 0], dim=0)
        own = torch.cat([features[0], features[1, :2]])
        scores = prediction @ (own if extra is None else torch.cat([own, extra])).T / 0.1
        terms.append(scores.logsumexp(dim=0) - prediction @ features[row, segment] / 0.1)
    torch.testing.assert_close(found.video_loss, sum(terms) / 2)


def test_equal_captions_are_not_contrasted():
    model = build_videobert(VideoBertForPreTraining, video_loss="nce")
    inputs = {**targets(pairs(model.config)), "negative_input_ids": None}
    other = model(**inputs).video_loss
    inputs["input_ids"] = torch.tensor([[CLS, MASK, 11, TO, SEP, PAD], [CLS, 10, 11, TO, SEP, PAD]])
    inputs["attention_mask"] = inputs["input_ids"] != PAD
    inputs["text_labels"] = torch.full((2, 6), -100)
    inputs["text_labels"][0, 1] = 10  # equal, where the mask is
    found = model(**inputs)
    features = nn.functional.normalize(inputs["video_features"], dim=-1)
    terms = []
    for row, segment, number in ((0, 0, 3), (1, 1, 2)):
        scores = nn.functional.normalize(found.video_logits[row, segment, 0], dim=0) @ features[row, :number].T / 0.1
        terms.append(scores.logsumexp(dim=0) - scores[segment])
    torch.testing.assert_close(found.video_loss, sum(terms) / 2)
    assert not torch.isclose(found.video_loss, other)


def test_visual_words_as_input():
    """The paper's form: a segment is embedded as its centroid, in a table that begins as the centroids."""
    model = build_videobert(visual_words=4, video_input="words", feature_size=12)
    words = VisualWords(random(4, 12), torch.ones(12), torch.full((12,), 2.0))
    model.set_visual_words(words)
    features = (words.centroids * 2 + 1)[torch.tensor([[3, 0, 2]])] + 0.01
    assert words.assign(features).tolist() == [[3, 0, 2]]
    embedded = model.video_embeddings(model.video_embeddings.standardized(features[:, :, None]))
    assert torch.equal(embedded, words.centroids[torch.tensor([[3, 0, 2]])])
    with pytest.raises(ValueError, match="The visual words are 3 of 12 values, but the model has visual_words=4"):
        model.set_visual_words(VisualWords(random(3, 12), torch.ones(12), torch.ones(12)))

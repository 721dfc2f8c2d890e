"""The classifier: pooling, views, losses of each problem type."""

import pytest
import torch
from helpers.shared import TINY
from helpers.tiny_models import BATCH, build, videos

from videomae_hf import VideoMAEV2Config, VideoMAEV2ForPreTraining, VideoMAEV2ForVideoClassification


def classifier(**fields):
    return build(VideoMAEV2ForVideoClassification, **{"num_labels": 5, **fields})


def test_shapes_and_types():
    outputs = classifier()(videos(classifier().config), labels=torch.tensor([0, 4]))
    assert outputs.logits.shape == (BATCH, 5) and outputs.logits.dtype == torch.float32
    assert outputs.loss.shape == () and outputs.loss.dtype == torch.float32
    assert classifier()(videos(classifier().config)).loss is None


def test_mean_pooling_norms_the_mean_of_all_tokens():
    model = classifier(use_mean_pooling=True)
    tokens = model.videomae(videos(model.config)).last_hidden_state
    expected = model.classifier(model.fc_norm(tokens.mean(1)))
    assert torch.equal(model(videos(model.config)).logits, expected)
    assert model.videomae.layernorm is None


def test_without_mean_pooling_the_first_token_after_the_norm_is_classified():
    model = classifier(use_mean_pooling=False)
    tokens = model.videomae.encoder(model.videomae.embeddings(videos(model.config)))[0]
    expected = model.classifier(model.videomae.layernorm(tokens)[:, 0])
    assert torch.equal(model(videos(model.config)).logits, expected)
    assert model.fc_norm is None


def test_open_pooling_is_the_official_choice_of_each_model():
    config = VideoMAEV2Config(**TINY, use_mean_pooling=None)
    model = VideoMAEV2ForVideoClassification(config)
    assert model.config.use_mean_pooling is True and model.videomae.config is model.config
    assert model.fc_norm is not None and model.videomae.layernorm is None
    assert config.use_mean_pooling is None  # the caller's configuration stays open
    assert VideoMAEV2ForPreTraining(config).videomae.layernorm is not None


@pytest.mark.parametrize("fields, eps", [({}, 1e-6), ({"head_layer_norm_eps": 1e-5}, 1e-5)])
def test_epsilon_of_the_head(fields, eps):
    assert classifier(**fields).fc_norm.eps == eps
    model = build(**fields, use_mean_pooling=None)
    assert model.decoder.norm.eps == eps
    assert model.videomae.layernorm.eps == model.videomae.encoder.layer[0].layernorm_before.eps == 1e-6


# views


@pytest.mark.parametrize(
    "fields, labels, merge",
    [
        ({}, None, lambda views: views.softmax(-1).mean(1).log()),
        ({}, torch.tensor([1, 3]), lambda views: views.softmax(-1).mean(1).log()),
        ({"problem_type": "multi_label_classification"}, None, lambda views: views.sigmoid().mean(1).logit()),
        ({}, torch.eye(5)[[1, 3]], lambda views: views.sigmoid().mean(1).logit()),
        ({"problem_type": "regression"}, None, lambda views: views.mean(1)),
        ({"num_labels": 1}, None, lambda views: views.mean(1)),
    ],
    ids=["classes", "labels", "multi-label", "multi-hot labels", "regression", "one value"],
)
def test_views_are_averaged_as_probabilities(fields, labels, merge):
    model = classifier(**fields)
    views = torch.stack([videos(model.config, seed=seed) for seed in range(3)], dim=1)  # (B, V, T, C, H, W)
    single = torch.stack([model(view).logits for view in views.unbind(1)], dim=1)  # (B, V, num_labels)
    torch.testing.assert_close(model(views, labels=labels).logits, merge(single), rtol=0, atol=1e-5)


def test_one_view_is_the_video_itself():
    model = classifier()
    pixel_values, labels = videos(model.config), torch.tensor([1, 3])
    alone, one_view = model(pixel_values, labels=labels), model(pixel_values[:, None], labels=labels)
    torch.testing.assert_close(one_view.logits, alone.logits.log_softmax(-1), rtol=0, atol=1e-6)
    torch.testing.assert_close(one_view.loss, alone.loss, rtol=0, atol=1e-6)


# losses; that of transformers for the same labels is in test_parity.py


LOSSES = {
    # problem type | fields, labels, loss by hand for logits (B, num_labels)
    "classes": ({}, torch.tensor([1, 3]), lambda x, y: -x.log_softmax(-1)[[0, 1], [1, 3]].mean()),
    "soft labels": (
        {"problem_type": "single_label_classification"},
        torch.tensor([[0.5, 0.5, 0, 0, 0], [0, 0, 0, 0.9, 0.1]]),
        lambda x, y: -(x.log_softmax(-1) * y).sum(-1).mean(),
    ),
    "multi-label, said": (
        {"problem_type": "multi_label_classification"},
        torch.tensor([[1, 1, 0, 0, 0], [0, 0, 0, 0, 1]]),
        lambda x, y: -(y * x.sigmoid().log() + (1 - y) * (1 - x.sigmoid()).log()).mean(),
    ),
    "multi-label, inferred": (
        {},
        torch.tensor([[1.0, 1, 0, 0, 0], [0, 0, 0, 0, 1]]),
        lambda x, y: -(y * x.sigmoid().log() + (1 - y) * (1 - x.sigmoid()).log()).mean(),
    ),
    "one value": ({"num_labels": 1}, torch.tensor([0.5, -2.0]), lambda x, y: ((x[:, 0] - y) ** 2).mean()),
    "one value, (B, 1)": ({"num_labels": 1}, torch.tensor([[0.5], [-2.0]]), lambda x, y: ((x - y) ** 2).mean()),
    "one whole number": ({"num_labels": 1}, torch.tensor([1, 3]), lambda x, y: ((x[:, 0] - y) ** 2).mean()),
    "five values": ({"problem_type": "regression"}, torch.arange(10.0).view(2, 5), lambda x, y: ((x - y) ** 2).mean()),
}


@pytest.mark.parametrize("case", LOSSES)
def test_loss_of_each_problem_type(case):
    fields, labels, by_hand = LOSSES[case]
    model = classifier(**fields)
    outputs = model(videos(model.config), labels=labels)
    torch.testing.assert_close(outputs.loss, by_hand(outputs.logits, labels))
    # What was inferred is kept, as in transformers: a model that is saved now says how its logits are to be read.
    inferred = "multi_label_classification" if labels.is_floating_point() else "single_label_classification"
    inferred = "regression" if model.num_labels == 1 else inferred
    assert model.config.problem_type == fields.get("problem_type", inferred)


@pytest.mark.parametrize("problem_type", ["single_label_classification", "multi_label_classification"])
def test_labels_of_minus_100_do_not_count(problem_type):
    """Those of videos that an evaluation could not read."""
    model = classifier(problem_type=problem_type)
    labels = torch.tensor([1, 3]) if problem_type[0] == "s" else torch.tensor([[1.0, 1, 0, 0, 0], [0, 0, 0, 0, 1]])
    first = model(videos(model.config)[:1], labels=labels[:1]).loss
    labels[1] = -100
    torch.testing.assert_close(model(videos(model.config), labels=labels).loss, first)
    labels[0] = -100
    assert model(videos(model.config), labels=labels).loss == 0


def test_loss_is_float32_in_bfloat16():
    model = classifier()
    inputs = {"pixel_values": videos(model.config), "labels": torch.tensor([1, 3])}
    expected = model(**inputs).loss
    with torch.autocast("cpu", dtype=torch.bfloat16):
        outputs = model(**inputs)
    assert (outputs.loss.dtype, outputs.logits.dtype) == (torch.float32, torch.bfloat16)
    assert outputs.loss.item() == pytest.approx(expected.item(), rel=0.02)


def test_dropout_of_the_classifier_acts_in_training_only():
    model = classifier(classifier_dropout=0.5)
    pixel_values = videos(model.config)
    assert torch.equal(model(pixel_values).logits, classifier()(pixel_values).logits)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        assert not torch.equal(model.train()(pixel_values).logits, model.eval()(pixel_values).logits)


def test_new_head_starts_near_zero():
    """Official `--init_scale 0.001`: the first predictions are uniform."""
    head = VideoMAEV2ForVideoClassification(VideoMAEV2Config(**TINY, num_labels=50)).classifier
    assert head.weight.std().item() == pytest.approx(2e-5, rel=0.1)
    assert not head.bias.any()


def test_num_labels_0_gives_features():
    model = classifier(num_labels=0)
    assert model(videos(model.config)).logits.shape == (BATCH, 24)

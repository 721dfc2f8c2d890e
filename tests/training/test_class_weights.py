"""Weights of classes, and the loss with them: a batch stays the mean of its parts."""

import numpy as np
import pytest
import torch
from helpers.tiny_models import build, videos

from videomae_hf import VideoMAEV2ForVideoClassification
from videomae_hf.data.sources.folders_and_lists import VideoRecord
from videomae_hf.training.class_weights import class_weights, describe_class_weights


UNEVEN = [VideoRecord("", 0)] * 6 + [VideoRecord("", 1)] * 3 + [VideoRecord("", 2)]


def test_balanced_classes_count_equally_and_clips_weigh_1_on_average():
    weights = class_weights("balanced", UNEVEN, ["a", "b", "c"])
    torch.testing.assert_close(weights, torch.tensor([10 / 18, 10 / 9, 10 / 3]))
    assert torch.dot(weights, torch.tensor([6.0, 3, 1])) == pytest.approx(10)
    skl = pytest.importorskip("sklearn.utils.class_weight")
    labels = np.array([sample.label for sample in UNEVEN])
    assert weights.tolist() == pytest.approx(list(skl.compute_class_weight("balanced", classes=np.arange(3), y=labels)))


def test_balanced_counts_what_an_epoch_has_of_each_source():
    samples = [VideoRecord("", 0, source=0)] * 2 + [VideoRecord("", 1, source=1)] * 2
    assert class_weights("balanced", samples, ["a", "b"], [3.0, 1.0]).tolist() == pytest.approx([8 / 12, 2.0])


def test_a_class_without_a_video_has_a_weight_that_nothing_uses():
    weights = class_weights("balanced", [VideoRecord("", 0), VideoRecord("", 2)], ["a", "b", "c"])
    assert weights[0] == weights[2] == 1 and weights.isfinite().all()


def test_balanced_with_several_labels_is_pos_weight():
    samples = [VideoRecord("", (0,)), VideoRecord("", (0, 1)), VideoRecord("", ()), VideoRecord("", (0,))]
    assert class_weights("balanced", samples, ["a", "b", "c"]).tolist() == pytest.approx([1 / 3, 3.0, 1.0])


@pytest.mark.parametrize("text", ["b: 2\nc: 4.5\n", '{"b": 2, "c": 4.5}'])
def test_weights_by_name_are_scaled_to_a_mean_of_1(tmp_path, text):
    (tmp_path / "weights").write_text(text)
    weights = class_weights(str(tmp_path / "weights"), UNEVEN, ["a", "b", "c"])
    mean = (6 * 1 + 3 * 2 + 4.5) / 10
    assert weights.tolist() == pytest.approx([1 / mean, 2 / mean, 4.5 / mean])
    assert weights.tolist() == class_weights({"b": 2, "c": 4.5}, UNEVEN, ["a", "b", "c"]).tolist()


@pytest.mark.parametrize(
    ("setting", "error", "message"),
    [
        ({"aa": 1}, ValueError, "unknown class 'aa'; did you mean 'a'"),
        ({"a": 0}, ValueError, "weight 0 of a must be a positive number"),
        ({"a": "much"}, ValueError, "weight 'much' of a"),
        ("balance", FileNotFoundError, "class_weights='balance' is neither balanced nor an existing file"),
    ],
)
def test_mistakes_in_class_weights(setting, error, message):
    with pytest.raises(error, match=message):
        class_weights(setting, UNEVEN, ["a", "b", "c"])


def weighted(**fields):
    model = build(VideoMAEV2ForVideoClassification, num_labels=3, **fields).train()
    model.class_weights = torch.tensor([0.5, 1.0, 3.0])
    return model


def test_weighted_loss_by_hand():
    model = weighted()
    clips, labels = videos(model.config, batch=4), torch.tensor([0, 2, 1, 2])
    terms = torch.nn.functional.cross_entropy(model(clips).logits, labels, reduction="none")
    expected = (0.5 * terms[0] + 3 * terms[1] + terms[2] + 3 * terms[3]) / 4
    torch.testing.assert_close(model(clips, labels=labels).loss, expected)
    one_hot = torch.nn.functional.one_hot(labels, 3).float()
    model.config.problem_type = "single_label_classification"
    torch.testing.assert_close(model(clips, labels=one_hot).loss, expected)
    torch.testing.assert_close(model.eval()(clips, labels=labels).loss, terms.mean())  # as it is while evaluating


@pytest.mark.parametrize("kind", ["hard", "soft", "several"])
def test_a_batch_is_the_mean_of_its_parts(kind, generator):
    problem_type = "multi_label_classification" if kind == "several" else "single_label_classification"
    model = weighted(problem_type=problem_type)
    clips, labels = videos(model.config, batch=4), torch.tensor([0, 2, 1, 2])
    if kind == "soft":
        labels = torch.rand(4, 3, generator=generator).softmax(dim=1)
    elif kind == "several":
        labels = torch.tensor([[1.0, 0, 1], [0, 0, 0], [0, 1, 1], [1, 1, 1]])
    whole = model(clips, labels=labels).loss
    parts = [model(clips[part], labels=labels[part]).loss for part in (slice(0, 2), slice(2, 4))]
    torch.testing.assert_close(whole, sum(parts) / 2)


def test_several_labels_by_hand():
    model = weighted(problem_type="multi_label_classification")
    clips, labels = videos(model.config), torch.tensor([[1.0, 0, 1], [0, 0, 1]])
    probabilities = model(clips).logits.sigmoid()
    terms = -(labels * torch.tensor([0.5, 1, 3]) * probabilities.log() + (1 - labels) * (1 - probabilities).log())
    torch.testing.assert_close(model(clips, labels=labels).loss, terms.sum() / 6)


def test_class_weights_are_not_saved(tmp_path):
    weighted().save_pretrained(tmp_path)
    assert VideoMAEV2ForVideoClassification.from_pretrained(tmp_path).class_weights is None


def test_equal_weights_are_named_once():
    assert describe_class_weights(torch.ones(2), ["fight", "calm"]) == ("class weights: 1 for every class")

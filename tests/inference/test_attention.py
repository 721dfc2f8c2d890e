"""Maps of attention and of evidence: against transformers' attentions, and with evidence planted in one place."""

import pytest
import torch
from helpers.tiny_models import build, videos

from videomae_hf import VideoMAEV2ForPreTraining, VideoMAEV2ForVideoClassification, VideoMAEV2Model
from videomae_hf.inference.attention import attention_rollout, check_head, class_evidence, head_attention


@pytest.mark.parametrize(
    ("model_class", "fields"),
    [
        (VideoMAEV2Model, {}),
        (VideoMAEV2ForPreTraining, {"use_cosine_attention": True}),
        (VideoMAEV2ForVideoClassification, {"layer_scale_init_value": 0.1}),
        (VideoMAEV2ForVideoClassification, {"use_mean_pooling": False}),
    ],
)
def test_rollout_is_the_product_over_all_layers(model_class, fields):
    """Written out with the attentions that the model returns."""
    model = build(model_class, **fields)
    clips = videos(model.config)
    first, second = model.base_model(clips, output_attentions=True).attentions
    mixed = [0.5 * weights.mean(dim=1) + 0.5 * torch.eye(32) for weights in (first, second)]
    product = mixed[1] @ mixed[0]  # (B, 32, 32)
    expected = product[:, 0] if fields.get("use_mean_pooling") is False else product.mean(dim=1)
    found = attention_rollout(model, clips)
    assert found.shape == (2, 2, 4, 4)  # two time slots of two frames each
    torch.testing.assert_close(found.flatten(1), expected.detach(), rtol=1e-5, atol=1e-7)


@pytest.mark.parametrize("mean_pooling", [None, False])
def test_maps_leave_out_class_tokens(mean_pooling):
    """One class token for each of two slices, which come first; the output is that of patches, or of class tokens."""
    model = build(VideoMAEV2Model, use_cls_token=True, use_mean_pooling=mean_pooling)
    clips = videos(model.config)
    first, second = model(clips, output_attentions=True).attentions
    mixed = [0.5 * weights.mean(dim=1) + 0.5 * torch.eye(34) for weights in (first, second)]
    product = (mixed[1] @ mixed[0]).detach()  # (B, 34, 34)
    rows = product[:, :2] if mean_pooling is False else product[:, 2:]
    expected = rows.mean(dim=1)[:, 2:]
    found = attention_rollout(model, clips)
    torch.testing.assert_close(found.flatten(1), expected / expected.sum(dim=1, keepdim=True), rtol=1e-5, atol=1e-7)
    assert head_attention(model, clips).shape == (2, 3, 2, 4, 4)
    torch.testing.assert_close(head_attention(model, clips).sum(dim=(2, 3, 4)), torch.ones(2, 3))


def test_single_heads():
    model = build(VideoMAEV2ForPreTraining)
    clips = videos(model.config)
    first, second = model.base_model(clips, output_attentions=True).attentions
    for layer, expected in ((0, first), (1, second), (-1, second)):
        found = head_attention(model, clips, layer)
        assert found.shape == (2, 3, 2, 4, 4)  # three heads, two time slots
        torch.testing.assert_close(found.flatten(2), expected.mean(dim=2).detach())
    for layer, head, message in ((2, 0, "has 2 layers"), (-3, 0, "has 2 layers"), (0, 3, "has 3 heads")):
        with pytest.raises(ValueError, match=message):
            check_head(model.config, layer, head)
    with pytest.raises(ValueError, match="has 2 layers"):
        head_attention(model, clips, 2)


@pytest.mark.parametrize("fields", [{}, {"use_mean_pooling": False}, {"use_cosine_attention": True}])
def test_evidence_is_that_of_one_backward_pass(fields):
    """Written out with the weights of all layers in one graph."""
    model = build(VideoMAEV2ForVideoClassification, num_labels=3, **fields)
    clips = videos(model.config)
    outputs = model(clips, output_attentions=True)
    gradients = torch.autograd.grad(outputs.logits[:, 1].sum(), outputs.attentions)
    relevance = torch.eye(32).expand(2, 32, 32)
    for weights, gradient in zip(outputs.attentions, gradients):
        relevance = relevance + (weights * gradient).clamp(min=0).mean(dim=1) @ relevance
    relevance = relevance - torch.eye(32)
    expected = relevance[:, 0] if fields.get("use_mean_pooling") is False else relevance.mean(dim=1)
    expected = expected / expected.sum(dim=1, keepdim=True)
    torch.testing.assert_close(class_evidence(model, clips, 1).flatten(1), expected.detach(), rtol=1e-3, atol=1e-6)
    assert all(parameter.grad is None for parameter in model.parameters())
    with pytest.raises(ValueError, match="has 3 classes"):
        class_evidence(model, clips, 3)


@torch.no_grad()
def model_that_looks_for_white() -> VideoMAEV2ForVideoClassification:
    """One layer, one head; class 0 is "there is a white patch", class 1 its opposite, and nothing else counts."""
    model = build(
        VideoMAEV2ForVideoClassification, num_hidden_layers=1, num_attention_heads=1, hidden_size=24, num_labels=2,
        position_embedding_type="learned",
    )  # fmt: skip
    for parameter in model.parameters():
        parameter.zero_()
    encoder = model.videomae
    projection, layer = encoder.embeddings.patch_embeddings.projection, encoder.encoder.layer[0]
    projection.weight[0] = 4 / projection.weight[0].numel()  # hidden value 0 is the brightness, 1 to 4 are constant
    projection.bias[1:5] = torch.tensor([1.0, -1.0, 1.0, -1.0])
    for norm in (layer.layernorm_before, layer.layernorm_after, model.fc_norm):
        norm.weight.fill_(1)
    attention = layer.attention.attention
    attention.query.bias[0] = 8.0  # every token asks for brightness,
    attention.key.weight[0, 0] = 1.0
    attention.value.weight[0, 0] = 1.0
    layer.attention.output.dense.weight[10, 0] = 1.0  # which goes to hidden value 10, the only one that is classified
    model.classifier.weight[0, 10], model.classifier.weight[1, 10] = 1.0, -1.0
    return model


@pytest.mark.parametrize("place", [(0, 0, 0), (0, 2, 3), (1, 3, 1)])
def test_evidence_points_to_the_patch_that_decides(place):
    model, (slot, row, column) = model_that_looks_for_white(), place
    clip = torch.zeros(1, 4, 3, 32, 32)
    clip[:, 2 * slot : 2 * slot + 2, :, 8 * row : 8 * row + 8, 8 * column : 8 * column + 8] = 1
    empty = torch.zeros_like(clip)
    assert model(clip).logits[0, 0] > model(empty).logits[0, 0] + 0.5  # it decides
    found = class_evidence(model, clip, 0)[0]
    assert found[place] > 0.999 and found.sum() == pytest.approx(1)
    against = class_evidence(model, clip, 1)[0]  # a white patch speaks against this class
    assert against[place] == 0 and against.min() == 0


def test_evidence_for_a_class_in_regression_or_uint8():
    model = build(VideoMAEV2ForVideoClassification, num_labels=1, problem_type="regression")
    clips = (videos(model.config) * 40 + 100).clamp(0, 255).byte()
    found = class_evidence(model, clips, 0)
    torch.testing.assert_close(found.sum(dim=(1, 2, 3)), torch.ones(2))

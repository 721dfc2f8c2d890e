"""The bridging classifier: its layers by hand, joint reconstruction, files, and that nothing changes without it."""

import math
from types import SimpleNamespace

import pytest
import torch
from helpers.shared import needs_dynamo
from helpers.tiny_models import BATCH, assert_same_step, build, step, videos
from torch.nn import functional

from videomae_hf import VideoMAEV2Config, VideoMAEV2ForPreTraining, VideoMAEV2ForVideoClassification, VideoMAEV2Model
from videomae_hf.models.masking import ids_to_mask
from videomae_hf.models.pixel_targets import reconstruction_targets
from videomae_hf.models.token_selection import select_tokens
from videomae_hf.training.optimization import is_block_matrix, parameter_groups
from videomae_hf.training.trivial_baseline import LabelBaseline, trivial_baseline


# As wide as no other part, so that a wrong size is an error
BRIDGE = {"classifier_num_hidden_layers": 2, "classifier_hidden_size": 20, "classifier_num_attention_heads": 2}
MAR = {**BRIDGE, "reconstruction_weight": 0.1, "decoder_mask_ratio": 0.5}
LABELS = torch.tensor([0, 2])


def classifier(**fields):
    return build(VideoMAEV2ForVideoClassification, **{"num_labels": 3, **BRIDGE, **fields})


def layer_by_hand(tokens: torch.Tensor, weights: dict[str, torch.Tensor], heads: int) -> torch.Tensor:
    """A pre-norm block with torch's functions, one clip and one head at a time."""
    width = tokens.shape[-1]
    normed = functional.layer_norm(
        tokens, (width,), weights["layernorm_before.weight"], weights["layernorm_before.bias"], 1e-6
    )
    query, key, value = (
        normed @ weights[f"attention.attention.{name}.weight"].T + weights.get(f"attention.attention.{name}.bias", 0)
        for name in ("query", "key", "value")
    )
    context, part = torch.zeros_like(query), width // heads
    for clip in range(len(tokens)):
        for head in range(heads):
            own = slice(head * part, (head + 1) * part)
            scores = query[clip, :, own] @ key[clip, :, own].T / math.sqrt(part)
            context[clip, :, own] = scores.softmax(dim=-1) @ value[clip, :, own]
    tokens = tokens + context @ weights["attention.output.dense.weight"].T + weights["attention.output.dense.bias"]
    normed = functional.layer_norm(
        tokens, (width,), weights["layernorm_after.weight"], weights["layernorm_after.bias"], 1e-6
    )
    inner = functional.gelu(normed @ weights["intermediate.dense.weight"].T + weights["intermediate.dense.bias"])
    return tokens + inner @ weights["output.dense.weight"].T + weights["output.dense.bias"]


@pytest.mark.parametrize("attention", ["sdpa", "eager"])
@pytest.mark.parametrize("depth", [1, 2])
def test_the_layers_by_hand(depth, attention):
    model = classifier(classifier_num_hidden_layers=depth)
    model.set_attn_implementation(attention)
    weights = model.state_dict()
    assert weights["encoder_to_classifier.weight"].shape == (20, 24) and "encoder_to_classifier.bias" not in weights
    assert weights["classifier_layers.0.intermediate.dense.weight"].shape == (80, 20)
    pixel_values = videos(model.config)
    with torch.no_grad():
        encoded = model.videomae(pixel_values).last_hidden_state
        last = model.videomae.encoder(model.videomae.embeddings(pixel_values))[0]
        norm = (weights["videomae.layernorm.weight"], weights["videomae.layernorm.bias"])
        torch.testing.assert_close(encoded, functional.layer_norm(last, (24,), *norm, 1e-6), rtol=0, atol=1e-6)
        tokens = encoded @ weights["encoder_to_classifier.weight"].T
        for number in range(depth):
            prefix = f"classifier_layers.{number}."
            own = {name.removeprefix(prefix): value for name, value in weights.items() if name.startswith(prefix)}
            assert len(own) == 15
            tokens = layer_by_hand(tokens, own, heads=2)
        norm = (weights["fc_norm.weight"], weights["fc_norm.bias"])
        pooled = functional.layer_norm(tokens.mean(dim=1), (20,), *norm, 1e-6)
        expected = pooled @ weights["classifier.weight"].T + weights["classifier.bias"]
        torch.testing.assert_close(model(pixel_values).logits, expected, rtol=0, atol=1e-5)


def test_the_layers_get_the_visible_tokens_alone():
    model, seen = classifier(), []
    model.classifier_layers[0].register_forward_hook(lambda module, inputs, output: seen.append(inputs[0].shape))
    model(videos(model.config))
    select_tokens(model.train(), token_keep=0.25)
    model(videos(model.config))
    model.eval()(videos(model.config))
    assert seen == [(BATCH, 32, 20), (BATCH, 8, 20), (BATCH, 32, 20)]


def test_nothing_changes_without_layers():
    """Names, weights and outputs of the commit before."""
    model = build(VideoMAEV2ForVideoClassification, num_labels=3)
    names = list(model.state_dict())
    assert len(names) == 36 and [name for name in names if "layer." not in name] == [
        "videomae.embeddings.patch_embeddings.projection.weight",
        "videomae.embeddings.patch_embeddings.projection.bias",
        "fc_norm.weight",
        "fc_norm.bias",
        "classifier.weight",
        "classifier.bias",
    ]
    expected = torch.tensor([[0.6229, 0.2392, -0.3711], [1.0636, -0.1162, -0.2302]])
    pixel_values = videos(model.config)
    with torch.no_grad():
        torch.testing.assert_close(model(pixel_values).logits, expected, rtol=0, atol=1e-4)
        tokens = model.videomae(pixel_values).last_hidden_state.mean(dim=1)
        norm = (model.fc_norm.weight, model.fc_norm.bias)
        linear = functional.linear(functional.layer_norm(tokens, (24,), *norm, 1e-6), *model.classifier.parameters())
        assert torch.equal(model(pixel_values).logits, linear)


def test_initial_values_and_drop_path():
    torch.manual_seed(0)
    config = VideoMAEV2Config.from_size("base", **{**MAR, "classifier_hidden_size": 512}, drop_path_rate=0.3)
    config.hidden_size, config.num_attention_heads, config.num_hidden_layers, config.num_frames = 96, 2, 3, 4
    model = VideoMAEV2ForVideoClassification(config)
    rates = {name: module.rate for name, module in model.named_modules() if name.endswith("drop_path")}
    assert [rate for name, rate in rates.items() if ".encoder." in name] == [0, 0.15, 0.3]
    others = {name: rate for name, rate in rates.items() if ".encoder." not in name}
    assert len(others) == 2 + 4 and set(others.values()) == {0.0}
    # PyTorch's default, uniform up to 1 / sqrt(fan in); Xavier's, up to sqrt(6 / (in + out))
    assert model.encoder_to_classifier.weight.abs().max().item() == pytest.approx(96**-0.5, rel=1e-3)
    layer = model.classifier_layers[0]
    assert layer.intermediate.dense.weight.abs().max().item() == pytest.approx((6 / 2560) ** 0.5, rel=1e-3)
    assert model.mask_token.std() > 0 and model.classifier.weight.abs().max() < 1e-3


def reconstruction_by_hand(model: VideoMAEV2ForVideoClassification, pixel_values, visible_ids) -> torch.Tensor:
    """The loss of a pretraining model of the same weights for the hidden tokens."""
    config = VideoMAEV2Config(**{**model.config.to_dict(), "use_mean_pooling": None})
    pretraining = VideoMAEV2ForPreTraining(config).eval()
    own = {name: value for name, value in model.state_dict().items() if name in pretraining.state_dict()}
    assert own.keys() == pretraining.state_dict().keys()
    pretraining.load_state_dict(own)
    hidden = ~ids_to_mask(visible_ids, 32)
    with torch.no_grad():
        outputs = pretraining(pixel_values, bool_masked_pos=hidden, bool_decoded_pos=hidden)
    # Clip by clip, token by token
    ids = [row.nonzero()[:, 0] for row in hidden]
    errors = [
        (logits - reconstruction_targets(clip[None], config)[0, places]).square().mean()
        for logits, clip, places in zip(outputs.logits, pixel_values, ids)
    ]
    return torch.stack(errors).mean()


@pytest.mark.parametrize(
    "fields",
    [
        {},
        {"decoder_type": "cross", "decoder_mixed_layers": 2},
        {"use_cls_token": True},
        {"position_embedding_type": "learned"},
    ],
    ids=str,
)
def test_joint_reconstruction(fields):
    """All hidden tokens are reconstructed, whatever `decoder_mask_ratio` says, in training only."""
    model = classifier(**MAR, **fields).train()
    select_tokens(model, token_keep=0.5)
    pixel_values = videos(model.config)
    with torch.random.fork_rng():
        torch.manual_seed(4)
        outputs = model(pixel_values, labels=LABELS)
        torch.manual_seed(4)
        ids = model.videomae.token_selection.visible_ids(pixel_values, model.config, training=True)
    assert ids.shape == (BATCH, 16)
    expected = functional.cross_entropy(outputs.logits, LABELS)
    expected = expected + 0.1 * reconstruction_by_hand(model, pixel_values, ids)
    torch.testing.assert_close(outputs.loss, expected, rtol=0, atol=1e-5)
    evaluated = model.eval()(pixel_values, labels=LABELS)
    assert evaluated.loss == functional.cross_entropy(evaluated.logits, LABELS)


def test_no_baseline_of_the_labels_for_a_sum():
    for model, expected in ((classifier(), LabelBaseline), (classifier(**MAR), type(None))):
        stand_in = SimpleNamespace(model=model, train_dataset=[], data_collator=None)
        assert type(trivial_baseline(stand_in)) is expected


def test_masks_of_the_caller_and_soft_labels():
    model = classifier(**MAR).train()
    pixel_values = (videos(model.config) * 40 + 128).clamp(0, 255).to(torch.uint8)
    ids = torch.arange(0, 32, 2).expand(BATCH, -1)
    soft = torch.tensor([[0.7, 0.3, 0.0], [0.0, 0.1, 0.9]])
    model.config.problem_type = "single_label_classification"
    found = step(model, pixel_values=pixel_values, labels=soft, visible_ids=ids)
    masked = step(model, pixel_values=pixel_values, labels=soft, bool_masked_pos=~ids_to_mask(ids, 32))
    assert_same_step(found, masked, atol=0)
    assert all(gradient is not None and gradient.abs().sum() > 0 for gradient in found[1].values())
    plain = step(model, pixel_values=pixel_values, labels=soft)  # without hidden tokens the decoder has no part
    assert plain[1]["mask_token"] is None and plain[1]["classifier_layers.1.output.dense.weight"] is not None


def test_checkpointing_gives_the_same_step():
    model = classifier(**MAR).train()
    inputs = {"pixel_values": videos(model.config), "labels": LABELS, "visible_ids": torch.arange(16).expand(BATCH, -1)}
    expected = step(model, **inputs)
    model.gradient_checkpointing_enable()
    assert all(layer.gradient_checkpointing for layer in model.classifier_layers)
    assert_same_step(step(model, **inputs), expected)


@needs_dynamo
def test_compiled_without_graph_break():
    model = classifier(**MAR).train()
    select_tokens(model, token_keep=0.5)
    inputs = {"pixel_values": videos(model.config), "labels": LABELS}
    torch.compiler.reset()
    compiled = torch.compile(model, fullgraph=True, backend="eager")
    with torch.random.fork_rng():
        torch.manual_seed(0)
        expected = model(**inputs).loss
        torch.manual_seed(0)
        torch.testing.assert_close(compiled(**inputs).loss, expected, rtol=0, atol=1e-6)


def test_views_and_outputs_of_the_encoder():
    model = classifier().eval()
    views = torch.stack([videos(model.config, seed=1), videos(model.config, seed=2)], dim=1)
    with torch.no_grad():
        probabilities = torch.stack([model(views[:, view]).logits.softmax(dim=-1) for view in range(2)]).mean(dim=0)
        torch.testing.assert_close(model(views).logits.softmax(dim=-1), probabilities, rtol=0, atol=1e-6)
        outputs = model(views[:, 0], output_hidden_states=True, output_attentions=True)
    assert [state.shape for state in outputs.hidden_states] == [(BATCH, 32, 24)] * 3
    assert [weights.shape for weights in outputs.attentions] == [(BATCH, 3, 32, 32)] * 2


def test_layer_decay_and_muon():
    model = classifier(**MAR)
    rates = {
        id(parameter): group["lr"]
        for group in parameter_groups(model, learning_rate=1.0, weight_decay=0.05, layer_decay=0.5)
        for parameter in group["params"]
    }
    rate = {name: rates[id(parameter)] for name, parameter in model.named_parameters()}
    assert rate["videomae.encoder.layer.1.output.dense.weight"] == 0.5
    full = [name for name in rate if name.startswith(("encoder_to_", "classifier", "fc_norm", "decoder", "mask_token"))]
    assert len(full) == 2 * 15 + 1 + 4 + 2 * 15 + 4 + 1 + 1 and {rate[name] for name in full} == {1.0}
    matrices = [name for name, parameter in model.named_parameters() if is_block_matrix(name, parameter)]
    assert sum(name.startswith("classifier_layers.") for name in matrices) == 2 * 6


def test_save_and_load(tmp_path):
    model = classifier(**MAR)
    model.save_pretrained(tmp_path)
    pixel_values = videos(model.config)
    loaded = VideoMAEV2ForVideoClassification.from_pretrained(tmp_path)
    assert loaded.config.reconstruction_weight == 0.1 and loaded.new_parts == ()
    assert torch.equal(loaded(pixel_values).logits, model(pixel_values).logits)
    small = VideoMAEV2ForVideoClassification.from_pretrained(tmp_path, reconstruction_weight=0.0)
    assert small.decoder is None and not any(name.startswith("decoder") for name in small.state_dict())
    assert torch.equal(small(pixel_values).logits, model(pixel_values).logits)
    encoder = VideoMAEV2Model.from_pretrained(tmp_path)
    assert torch.equal(encoder(pixel_values).last_hidden_state, model.videomae(pixel_values).last_hidden_state)


def test_start_from_other_checkpoints(tmp_path):
    """Pretraining gives the norm and the decoder; a classifier without layers has neither, nor a head that fits."""
    pretrained = build(use_mean_pooling=None)
    plain = build(VideoMAEV2ForVideoClassification, num_labels=3)
    pretrained.save_pretrained(tmp_path / "pretrained")
    plain.save_pretrained(tmp_path / "plain")
    options = {**MAR, "num_labels": 3, "use_mean_pooling": True}
    model = VideoMAEV2ForVideoClassification.from_pretrained(tmp_path / "pretrained", **options)
    assert model.new_parts == ("classifier", "classifier_layers", "encoder_to_classifier", "fc_norm")
    for name, value in pretrained.state_dict().items():
        assert torch.equal(model.state_dict()[name], value), name
    model = VideoMAEV2ForVideoClassification.from_pretrained(tmp_path / "plain", **options)
    assert model.new_parts == (
        "classifier", "classifier_layers", "decoder", "encoder_to_classifier", "encoder_to_decoder", "fc_norm",
        "layernorm", "mask_token",
    )  # fmt: skip
    assert (model.videomae.layernorm.weight == 1).all() and (model.videomae.layernorm.bias == 0).all()
    # Of the width of the encoder, so that the shapes of the other head fit as well, but not what it classifies
    wide = {"classifier_num_hidden_layers": 1, "classifier_hidden_size": 24}
    loaded = VideoMAEV2ForVideoClassification.from_pretrained(tmp_path / "plain", **{**options, **wide})
    assert {"classifier", "fc_norm"} < set(loaded.new_parts)
    classifier(**wide).save_pretrained(tmp_path / "layers")
    without = {"classifier_num_hidden_layers": 0}
    loaded = VideoMAEV2ForVideoClassification.from_pretrained(tmp_path / "layers", **without)
    assert loaded.new_parts == ("classifier", "fc_norm")


@pytest.mark.parametrize(
    "fields, named",
    [
        ({"classifier_num_hidden_layers": -1}, "classifier_num_hidden_layers=-1 must be between 0 and 1000"),
        ({**BRIDGE, "classifier_num_attention_heads": 3}, "classifier_hidden_size=20 is not divisible by"),
        ({**BRIDGE, "use_mean_pooling": False}, "classifies the mean of the tokens, but use_mean_pooling is False"),
        ({"reconstruction_weight": 0.1}, "reconstruction_weight=0.1 is for the bridging classifier"),
        ({**BRIDGE, "reconstruction_weight": -0.1}, "reconstruction_weight=-0.1 must be finite and not negative"),
    ],
    ids=lambda value: str(value)[:60],
)
def test_what_cannot_be_is_refused(fields, named):
    with pytest.raises(ValueError, match=named):
        VideoMAEV2Config(**fields)

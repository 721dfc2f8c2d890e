"""A training step of the models: attention implementations, recomputation, optional layers, precision, compilation."""

import pytest
import torch
from helpers.shared import TINY, needs_dynamo
from helpers.tiny_models import V1, V2, assert_same_step, build, masks, step, videos
from transformers import AttentionInterface
from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS

from videomae_hf import (
    VideoMAEV2Config,
    VideoMAEV2ForPreTraining,
    VideoMAEV2ForVideoClassification,
    VideoMAEV2Model,
)
from videomae_hf.models.layers_videomae_v2 import VideoMAEV2DropPath, VideoMAEV2SelfAttention
from videomae_hf.models.masking import mask_to_ids


COSINE = {"use_cosine_attention": True}
CROSS = {"decoder_mask_ratio": 0.5, "decoder_type": "cross", "decoder_mixed_layers": 2}


# attention


@pytest.mark.parametrize("fields", [V1, V2, {**V2, **COSINE}, {**V2, "qv_bias": False}, CROSS], ids=str)
def test_eager_equals_sdpa(fields):
    model = build(**fields)
    inputs = {"pixel_values": videos(model.config), **masks(model.config)}
    assert model.config._attn_implementation == "sdpa"
    with_sdpa = step(model, **inputs)
    model.set_attn_implementation("eager")
    assert model.config._attn_implementation == "eager"
    assert_same_step(step(model, **inputs), with_sdpa)


def test_every_layer_asks_the_attention_interface_of_transformers():
    """Two layers of the encoder, where 4 tokens see 4, and two of the decoder, where 28 of 32 are asked for at last.

    In a cross-attention decoder, the decoded tokens see the visible ones.
    """
    shapes = []

    def counting_attention(module, query, key, value, attention_mask, **kwargs):
        shapes.append((query.shape[2], key.shape[2]))
        return ALL_ATTENTION_FUNCTIONS["sdpa"](module, query, key, value, attention_mask, **kwargs)

    AttentionInterface.register("counting", counting_attention)
    for fields, decoder in ((V1, [(32, 32), (28, 32)]), (CROSS, [(16, 4), (16, 4)])):
        model = build(**fields)
        inputs = {"pixel_values": videos(model.config), **masks(model.config)}
        expected = model(**inputs).loss
        model.set_attn_implementation("counting")
        shapes.clear()
        assert model(**inputs).loss == expected
        assert shapes == [(4, 4), (4, 4), *decoder]


def test_cosine_attention_by_hand():
    """CosAttention (v2/models/modeling_finetune.py), one head after the other, the scale cut at 100."""
    model = build(VideoMAEV2Model, **COSINE)
    attention = model.encoder.layer[0].attention.attention
    with torch.no_grad():
        attention.scale[1] = 7.0
    hidden = torch.randn(1, 5, 24, generator=torch.Generator().manual_seed(0))
    query, key, value = (projection(hidden)[0] for projection in (attention.query, attention.key, attention.value))
    heads = []
    for head, scale in enumerate([attention.scale[0].exp().item(), 100.0, attention.scale[2].exp().item()]):
        q, k, v = (tensor[:, 8 * head : 8 * head + 8] for tensor in (query, key, value))
        cosine = (q @ k.T) / (q.norm(dim=1)[:, None] * k.norm(dim=1)[None])
        heads.append((cosine * scale).softmax(dim=1) @ v)
    torch.testing.assert_close(attention(hidden)[0][0], torch.cat(heads, dim=1), rtol=0, atol=1e-5)


def test_key_has_no_bias():
    names = dict(build().named_parameters())
    assert sum(name.endswith("attention.query.bias") for name in names) == 4
    assert [name for name in names if "key.bias" in name] == []


# recomputation


@pytest.mark.filterwarnings("ignore:`gradient_checkpointing_enable` is deprecated")
@pytest.mark.parametrize("fields", [V1, V2, {**V2, **COSINE, "drop_path_rate": 0.3}, CROSS], ids=str)
def test_gradient_checkpointing_changes_nothing_but_recomputes(fields):
    model = build(**fields).train()
    inputs = {"pixel_values": videos(model.config), **masks(model.config)}
    calls = []
    for module in model.modules():
        if isinstance(module, VideoMAEV2SelfAttention):
            module.register_forward_pre_hook(lambda *_: calls.append(1))

    def seeded_step():
        calls.clear()
        with torch.random.fork_rng():
            torch.manual_seed(0)  # for drop path
            return step(model, **inputs), len(calls)

    plain, plain_calls = seeded_step()
    model.gradient_checkpointing_enable()
    recomputed, recomputed_calls = seeded_step()
    assert (plain_calls, recomputed_calls) == (4, 8)
    assert_same_step(plain, recomputed)


# optional layers: all run, and every parameter learns


LAYER_VARIANTS = [
    {},
    {"position_embedding_type": "learned"},
    {"layer_scale_init_value": 0.1},
    COSINE,
    {"drop_path_rate": 0.1},
    {"hidden_dropout_prob": 0.1, "attention_probs_dropout_prob": 0.1, "classifier_dropout": 0.1},
    {"qv_bias": False},
    {"use_mean_pooling": None},
    {"use_mean_pooling": False},
    {"num_channels": 4},
    {"image_size": (32, 48), "patch_size": (8, 16), "tubelet_size": 4, "num_frames": 8},
]
MASK_VARIANTS = [
    V2,
    CROSS,
    {"mask_type": "random", "decoder_mask_ratio": 0.3, "decoder_mask_type": "random"},
    {"mask_type": "frame", "mask_ratio": 0.5},
    {"tube_length": 2, "norm_pix_loss": False},
]
CASES = [(VideoMAEV2ForPreTraining, fields) for fields in LAYER_VARIANTS + MASK_VARIANTS]
CASES += [(VideoMAEV2ForVideoClassification, fields) for fields in LAYER_VARIANTS]


@pytest.mark.parametrize("model_class, fields", CASES, ids=[f"{case.__name__}-{fields}" for case, fields in CASES])
def test_every_parameter_gets_a_gradient(model_class, fields):
    model = build(model_class, **fields, num_labels=3).train()
    pretrains = model_class is VideoMAEV2ForPreTraining
    inputs = {"seed": 0} if pretrains else {"labels": torch.tensor([0, 2])}
    with torch.random.fork_rng():
        torch.manual_seed(0)  # a drop path that leaves no branch out for both videos
        loss, grads = step(model, pixel_values=videos(model.config), **inputs)
    assert loss.isfinite()
    assert [name for name, grad in grads.items() if grad is None or not grad.isfinite().all() or not grad.any()] == []


def test_layer_scale_and_learned_positions_start_as_configured():
    model = VideoMAEV2ForPreTraining(
        VideoMAEV2Config(**TINY, layer_scale_init_value=0.25, position_embedding_type="learned")
    )
    for layer in (*model.videomae.encoder.layer, *model.decoder.decoder_layers):
        assert layer.lambda_1.tolist() == [0.25] * len(layer.lambda_1)
        assert layer.lambda_2.tolist() == [0.25] * len(layer.lambda_2)
    positions = model.videomae.embeddings.position_embeddings
    assert isinstance(positions, torch.nn.Parameter) and positions.shape == (1, 32, 24)
    assert positions.std().item() == pytest.approx(0.02, rel=0.15)


def test_drop_path_leaves_out_whole_videos_in_training_only():
    drop_path = VideoMAEV2DropPath(0.25)
    branch = torch.randn(4000, 2, 3, generator=torch.Generator().manual_seed(0))
    with torch.random.fork_rng():
        torch.manual_seed(0)
        kept = drop_path(branch)
    left_out = (kept == 0).all(dim=(1, 2))
    assert 900 < left_out.sum() < 1100  # 1000, standard deviation 27
    torch.testing.assert_close(kept[~left_out], branch[~left_out] / 0.75)
    assert torch.equal(drop_path.eval()(branch), branch)


def test_drop_path_grows_linearly_with_depth():
    model = VideoMAEV2ForPreTraining(VideoMAEV2Config(**{**TINY, "num_hidden_layers": 5}, drop_path_rate=0.2))
    rates = [layer.drop_path.rate for layer in model.videomae.encoder.layer]
    assert rates == pytest.approx([0.0, 0.05, 0.1, 0.15, 0.2])
    assert [layer.drop_path.rate for layer in model.decoder.decoder_layers] == pytest.approx([0.0, 0.2])


def test_initialisation_is_the_official_one():
    """Bounds of official_behaviour.md 1.3: q, k, v as one matrix, PyTorch's own for the patch projection."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = VideoMAEV2ForPreTraining(VideoMAEV2Config(**{**TINY, "hidden_size": 96, "decoder_hidden_size": 64}))
    layer = model.videomae.encoder.layer[0]
    bounds = {
        layer.attention.attention.query: (6 / (96 + 3 * 96)) ** 0.5,
        layer.attention.attention.value: (6 / (96 + 3 * 96)) ** 0.5,
        layer.attention.output.dense: (6 / (96 + 96)) ** 0.5,
        layer.intermediate.dense: (6 / (96 + 48)) ** 0.5,
        model.encoder_to_decoder: 96**-0.5,
        model.videomae.embeddings.patch_embeddings.projection: (3 * 2 * 8 * 8) ** -0.5,
    }
    for module, bound in bounds.items():
        assert 0.97 * bound < module.weight.abs().max().item() <= bound
    assert not layer.attention.attention.query.bias.any()
    assert 0.018 < model.mask_token.abs().max().item() <= 0.02


# precision


@pytest.mark.parametrize("fields", [V1, V2, CROSS, {**V2, **COSINE}, {"position_embedding_type": "learned"}], ids=str)
def test_loss_is_float32_in_bfloat16(fields):
    model = build(**fields)
    inputs = masks(model.config)
    pixel_values = videos(model.config)
    expected = model(pixel_values, **inputs).loss
    with torch.autocast("cpu", dtype=torch.bfloat16):
        mixed = model(pixel_values, **inputs)
    pure = model.to(torch.bfloat16)(pixel_values.bfloat16(), **inputs)
    for outputs, pixels in ((mixed, pixel_values), (pure, pixel_values.bfloat16())):
        assert outputs.loss.dtype == torch.float32 and outputs.logits.dtype == torch.bfloat16
        assert outputs.loss.item() == pytest.approx(expected.item(), rel=0.02)
        # bfloat16 ends with the logits: the loss of the same logits in float32 is the same number
        ids = mask_to_ids(inputs["bool_decoded_pos"], outputs.logits.shape[1])
        assert outputs.loss == model.forward_loss(pixels, outputs.logits.float(), inputs["bool_masked_pos"], ids)


# compilation


@needs_dynamo
@pytest.mark.parametrize(
    "fields, form",
    [(V1, "masks"), (V1, "ids"), (V1, "drawn"), (V2, "masks"), (V2, "ids"), (V2, "drawn"), (CROSS, "ids")],
)
def test_compiled_step_has_no_graph_break(fields, form):
    model = build(**fields)
    given = masks(model.config)
    ids = {
        "visible_ids": mask_to_ids(~given["bool_masked_pos"], 4),
        "decoded_ids": mask_to_ids(given["bool_decoded_pos"], int(given["bool_decoded_pos"][0].sum())),
    }
    inputs = {"pixel_values": videos(model.config), **{"masks": given, "ids": ids, "drawn": {}}[form]}
    torch.compiler.reset()
    compiled = torch.compile(model, fullgraph=True, backend="aot_eager" if form == "ids" else "eager")
    with torch.random.fork_rng():
        torch.manual_seed(0)
        loss, compiled_grads = step(model, **inputs)
        torch.manual_seed(0)
        model.zero_grad()
        outputs = compiled(**inputs)
    outputs.loss.backward()
    assert_same_step((outputs.loss.detach(), {n: p.grad for n, p in model.named_parameters()}), (loss, compiled_grads))


@needs_dynamo
def test_compiled_model_still_refuses_ragged_masks():
    model = build(**V2)
    torch.compiler.reset()
    compiled = torch.compile(model, fullgraph=True, backend="eager")
    given = masks(model.config)
    compiled(videos(model.config), **given)
    for name in given:
        faulty = given[name].clone()
        faulty[0, faulty[0].nonzero()[0]] = False
        with pytest.raises(RuntimeError, match=f"{name} must have .* True in each row"):
            compiled(videos(model.config), **{**given, name: faulty})


def test_the_trainer_does_not_scale_the_loss():
    """Its guess from `**kwargs` in forward would multiply the loss by the accumulation steps and the processes."""
    assert VideoMAEV2ForPreTraining.accepts_loss_kwargs is False
    assert VideoMAEV2ForVideoClassification.accepts_loss_kwargs is False

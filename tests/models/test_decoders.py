"""The cross-attention decoder, against the same computation written out clip by clip and head by head."""

import math
import os
import sys

import pytest
import torch
from helpers.commands import run
from helpers.tiny_models import V1, V2, assert_same_step, build, step, videos
from torch.nn.functional import gelu

from videomae_hf import (
    VideoMAEV2Config,
    VideoMAEV2ForPreTraining,
    VideoMAEV2ForVideoClassification,
    VideoMAEV2ImageProcessor,
    sample_masks,
)
from videomae_hf.checkpoints.conversion import save_official
from videomae_hf.checkpoints.transformers_export import save_transformers
from videomae_hf.models.decoders_videomae_v2 import VideoMAEV2LayerMixing
from videomae_hf.models.masking import mask_to_ids
from videomae_hf.models.pixel_targets import reconstruction_targets


CROSS = {"decoder_type": "cross"}
MIXED = {**CROSS, "decoder_mixed_layers": 2}
MASKS = {
    "tube, all masked": V1,
    "tube, running cells": V2,
    "tube, quarter of the cells": {"decoder_mask_ratio": 0.75},
    "random": {"mask_type": "random", "decoder_mask_ratio": 0.3, "decoder_mask_type": "random"},
    "frame": {"mask_type": "frame", "mask_ratio": 0.5},
    "learned positions, no norm": {"decoder_position_embedding_type": "learned", "use_mean_pooling": True},
    "class tokens": {"use_cls_token": True, "use_mean_pooling": None},
}


def cross_attention(layer, queries, memory):
    """Queries (Q, D) over the memory (N, D), one head after the other."""
    attention, heads = layer.attention.attention, []
    q, k, v = attention.query(queries), attention.key(memory), attention.value(memory)
    for start in range(0, q.shape[1], attention.head_dim):
        own = slice(start, start + attention.head_dim)
        weights = (q[:, own] @ k[:, own].T / math.sqrt(attention.head_dim)).exp()  # (Q, N)
        heads.append(weights / weights.sum(dim=1, keepdim=True) @ v[:, own])
    return layer.attention.output.dense(torch.cat(heads, dim=1))


def plain_logits(model, pixel_values, masked, decoded):
    """(B, N_decoded, ..), one clip after the other."""
    config, decoder, logits = model.config, model.decoder, []
    for clip, hidden, wanted in zip(pixel_values, masked, decoded):
        tokens = model.videomae.embeddings(clip[None], (~hidden).nonzero().T)  # (1, N, D)
        states = []
        for block in model.videomae.encoder.layer:
            tokens = block(tokens)
            states.append(tokens[0])
        states[-1] = states[-1] if model.videomae.layernorm is None else model.videomae.layernorm(states[-1])
        memories = [states[-1]] * config.decoder_num_hidden_layers
        if decoder.mixing is not None:
            coefficients = decoder.mixing.layer_weights
            sums = [sum(weight * state for weight, state in zip(row, states)) for row in coefficients]
            memories = [norm(one) for norm, one in zip(decoder.mixing.norms, sums)]
        memories = [model.encoder_to_decoder(memory) for memory in memories]
        places = config.num_class_tokens + wanted.nonzero().flatten()
        queries = model.mask_token[0] + model.position_embeddings[0, places]
        for layer, memory in zip(decoder.cross_layers, memories):
            queries = queries + cross_attention(layer, layer.layernorm_before(queries), memory)
            inner = gelu(layer.intermediate.dense(layer.layernorm_after(queries)))
            queries = queries + layer.output.dense(inner)
        logits.append(decoder.head(decoder.norm(queries)))
    return torch.stack(logits)


def plain_step(model, pixel_values, masked, decoded):
    """Loss and gradients of the decoder that is written out: the mean over tokens that are decoded and hidden."""
    model.zero_grad()
    logits = plain_logits(model, pixel_values, masked, decoded)
    ids = mask_to_ids(decoded, int(decoded[0].sum()))
    counted = masked.gather(1, ids)
    errors = (logits - reconstruction_targets(pixel_values, model.config, ids)).square().mean(dim=-1)
    loss = errors[counted].mean()
    loss.backward()
    return loss.detach(), {name: parameter.grad for name, parameter in model.named_parameters()}


@pytest.mark.parametrize("decoder, batch", [(CROSS, 1), (MIXED, 3)], ids=["cross", "mixed"])
@pytest.mark.parametrize("fields", MASKS.values(), ids=MASKS)
def test_loss_and_gradients_of_the_decoder_written_out(fields, decoder, batch):
    model = build(**{**fields, **decoder})
    masked, decoded = sample_masks(model.config, batch, torch.Generator().manual_seed(2))
    pixel_values = videos(model.config, batch)
    inputs = {"bool_masked_pos": masked, "bool_decoded_pos": decoded}
    assert_same_step(
        step(model, pixel_values=pixel_values, **inputs), plain_step(model, pixel_values, *inputs.values())
    )


def test_mixing_by_hand():
    """Two blocks over the outputs (1, 3) and (5, -1): norms make (-1, 1) or (1, -1) of any two different numbers."""
    config = VideoMAEV2Config(
        hidden_size=2, num_attention_heads=1, decoder_num_hidden_layers=2, decoder_mixed_layers=2, **CROSS
    )
    mixing = VideoMAEV2LayerMixing(config)
    with torch.no_grad():
        mixing.layer_weights.copy_(torch.tensor([[1.0, 0.0], [0.5, 1.0]]))
        mixing.norms[1].bias.fill_(10.0)
    layers = [torch.tensor([[[1.0, 3.0]]]), torch.tensor([[[5.0, -1.0]]])]
    # (1, 3) -> (-1, 1); 0.5 * (1, 3) + (5, -1) = (5.5, 0.5) -> (1, -1) + 10
    torch.testing.assert_close(mixing(layers), torch.tensor([[[[-1.0, 1.0]]], [[[11.0, 9.0]]]]))


def test_mixing_starts_as_the_output_of_the_encoder():
    model = VideoMAEV2ForPreTraining(build(**MIXED).config)
    assert model.decoder.mixing.layer_weights.tolist() == [[0.0, 1.0], [0.0, 1.0]]


@pytest.mark.parametrize("number, layers", [(0, ()), (1, ()), (2, (5,)), (3, (3, 7)), (12, tuple(range(11)))])
def test_mixed_layers_are_evenly_spaced(number, layers):
    """Of twelve, with the output of the last, which always takes part."""
    assert VideoMAEV2Config(decoder_mixed_layers=number, **CROSS).mixed_layers == layers


def test_neither_order_nor_number_of_decoded_tokens_matters():
    """Without self-attention a token is reconstructed alike alone and among others; a full decoder fails this."""
    model = build(**CROSS)
    pixel_values = videos(model.config)
    masked, _ = sample_masks(model.config, 2, torch.Generator().manual_seed(2))
    ids = mask_to_ids(masked, 28)
    visible = mask_to_ids(~masked, 4)
    together = model(pixel_values, visible_ids=visible, decoded_ids=ids).logits
    alone = model(pixel_values, visible_ids=visible, decoded_ids=ids[:, [9]]).logits
    torch.testing.assert_close(together[:, [9]], alone, rtol=0, atol=1e-6)


@pytest.mark.parametrize(
    "fields, named",
    [
        ({"decoder_type": "crossed"}, "decoder_type='crossed' is unknown; choose one of full, cross"),
        ({"decoder_mixed_layers": 2}, "needs decoder_type='cross' \\(it is 'full'\\)"),
        ({**CROSS, "decoder_mixed_layers": 3}, "decoder_mixed_layers=3 must be between 0 and num_hidden_layers=2"),
    ],
)
def test_contradictions_are_refused(fields, named):
    with pytest.raises(ValueError, match=named):
        build(**fields)


@pytest.mark.parametrize("fields", [CROSS, MIXED], ids=["cross", "mixed"])
def test_saved_and_loaded(tmp_path, fields):
    model = build(**fields)
    model.save_pretrained(tmp_path)
    again = VideoMAEV2ForPreTraining.from_pretrained(tmp_path)
    assert again.new_parts == () and again.config.decoder_type == "cross"
    assert torch.equal(*(one(videos(model.config), seed=0).logits for one in (model, again.eval())))


@pytest.mark.parametrize("first, then", [("full", "cross"), ("cross", "full")])
def test_the_decoder_of_the_other_type_is_not_taken(tmp_path, first, then, caplog):
    model = build(decoder_type=first)
    model.save_pretrained(tmp_path)
    again = VideoMAEV2ForPreTraining.from_pretrained(tmp_path, decoder_type=then)
    assert again.new_parts == ("decoder",) and "new, untrained: decoder" in caplog.text
    encoders = (one.videomae(videos(model.config)).last_hidden_state for one in (model, again.eval()))
    assert torch.equal(*encoders)


def test_other_layouts_refuse_it_and_take_what_was_finetuned_from_it(tmp_path):
    model, processor = build(**CROSS), VideoMAEV2ImageProcessor()
    with pytest.raises(ValueError, match="transformers' VideoMAE cannot express the cross-attention decoder"):
        save_transformers(model, processor, tmp_path / "theirs")
    with pytest.raises(ValueError, match="The official code cannot express the cross-attention decoder"):
        save_official(model, processor, tmp_path / "official.pth")
    classifier = build(VideoMAEV2ForVideoClassification, **CROSS)
    save_transformers(classifier, processor, tmp_path / "theirs")
    save_official(classifier, processor, tmp_path / "official.pth")
    assert (tmp_path / "theirs" / "model.safetensors").is_file() and (tmp_path / "official.pth").is_file()


@pytest.mark.slow
def test_loaded_without_the_package(tmp_path):
    """The files beside the weights are enough for the decoder, and the logits are the same."""
    model = build(**MIXED)
    model.save_pretrained(tmp_path / "model")
    expected = model(torch.ones(1, 4, 3, 32, 32), seed=0).logits.sum().item()
    code = """
import sys
sys.modules["videomae_hf"] = None
import torch
from transformers import AutoModelForPreTraining
model = AutoModelForPreTraining.from_pretrained("model", trust_remote_code=True).eval()
print(model(torch.ones(1, 4, 3, 32, 32), seed=0).logits.sum().item(), type(model.decoder).__name__)
"""
    environment = {**os.environ, "HF_MODULES_CACHE": str(tmp_path / "modules"), "HF_HUB_OFFLINE": "1"}
    done = run([sys.executable, "-c", code], cwd=tmp_path, env=environment)
    assert done.returncode == 0, done.stderr[-2000:]
    found, name = done.stdout.split()[-2:]
    assert float(found) == pytest.approx(expected, abs=1e-4) and name == "VideoMAEV2CrossDecoder"

"""VideoBERT: configuration, order and masks of tokens, padding, attention, saving and loading."""

import json

import pytest
import torch
from helpers.tiny_videobert import CLS, PAD, SEP, TINY_VIDEOBERT, TO, build_videobert, pairs
from safetensors.torch import load_file, save_file

from videomae_hf import (
    VideoBertConfig,
    VideoBertForCaptioning,
    VideoBertForPreTraining,
    VideoBertForRetrieval,
    VideoBertForVideoClassification,
    VideoBertModel,
    VideoMAEV2Config,
)
from videomae_hf.models.layers_videobert import allowed_pairs, divided_pairs, mask_of_pairs, paper_positions


ALL_MODELS = [
    VideoBertModel, VideoBertForPreTraining, VideoBertForVideoClassification, VideoBertForRetrieval,
    VideoBertForCaptioning,
]  # fmt: skip


def drawn(mask: torch.Tensor) -> list[str]:
    return ["".join("#" if one else "." for one in row) for row in mask.tolist()]


# configuration


@pytest.mark.parametrize(
    "fields, message",
    [
        ({"video_loss": "l1"}, "video_loss='l1' is unknown; choose one of mse, nce, words"),
        ({"video_loss": "words"}, "video_loss='words' needs visual_words of at least 2, not 0"),
        ({"video_input": "words", "visual_words": 1}, "video_input='words' needs visual_words"),
        ({"video_attention": "divided"}, "video_attention='divided' needs at least 2 tokens_per_segment"),
        ({"mask_token_id": 24}, "mask_token_id=24 must be from 0 to vocab_size - 1 = 23"),
        ({"mlm_weight": -1.0}, "mlm_weight=-1.0 must be finite and not negative"),
        ({"match_weight": float("nan")}, "match_weight=nan must be finite"),
        ({"text_mask_ratio": 1}, "text_mask_ratio=1 must be at least 0 and less than 1"),
        ({"num_attention_heads": 5}, "hidden_size=12 is not divisible by num_attention_heads=5"),
        ({"is_decoder": True}, "is_decoder and add_cross_attention must be False"),
        ({"type_vocab_size": 1}, "type_vocab_size=1 must be at least 2"),
        ({"feature_size": 2**40}, "feature_size=1099511627776 must be from 1 to 65,536"),
        ({"backbone_config": {"model_type": "resnet"}}, "backbone_config is not a VideoMAE checkpoint"),
        ({"backbone_config": {"model_type": "videomae_v2"}}, "feature_size=5 is not the hidden_size=768"),
    ],
)
def test_contradictions_are_one_line(fields, message):
    with pytest.raises(ValueError, match="^[^\n]*$") as caught:
        VideoBertConfig(**{**TINY_VIDEOBERT, **fields})
    assert message in str(caught.value)


def test_a_checkpoint_of_another_model_is_refused(tmp_path):
    VideoMAEV2Config().save_pretrained(tmp_path)
    with pytest.raises(ValueError, match="no VideoBERT checkpoint: its configuration has model_type 'videomae_v2'"):
        VideoBertModel.from_pretrained(tmp_path)


# order


def test_positions_are_those_of_the_paper():
    """[CLS] text [>] video [SEP]; the second text is shorter, and its video has one segment."""
    inputs = torch.tensor([[CLS, 7, 8, TO, SEP, PAD], [CLS, 9, TO, SEP, PAD, PAD]])
    video_mask = torch.tensor([[True, True, True], [True, False, False]])
    text, video = paper_positions(inputs, inputs != PAD, video_mask, TO)
    assert text[0, :5].tolist() == [0, 1, 2, 3, 7] and video[0].tolist() == [4, 5, 6]
    assert text[1, :4].tolist() == [0, 1, 2, 4] and video[1, :1].tolist() == [3]


def test_positions_of_captions_do_not_depend_on_their_words():
    """[CLS] [>] video words; the same with padding on the left, and without a separator."""
    inputs = torch.tensor([[CLS, TO, 7, 8, SEP], [PAD, CLS, TO, 7, 8], [CLS, 7, 8, 9, SEP]])
    video_mask = torch.tensor([[True, True], [True, True], [True, True]])
    text, video = paper_positions(inputs, inputs != PAD, video_mask, TO, prefix=True)
    assert text[0].tolist() == [0, 1, 4, 5, 6] and video.tolist() == [[2, 3], [2, 3], [0, 1]]
    assert text[1, 1:].tolist() == [0, 1, 4, 5]
    assert text[2].tolist() == [2, 3, 4, 5, 6]
    assert paper_positions(inputs[2:], inputs[2:] != PAD, video_mask[2:], TO)[1].tolist() == [[5, 6]]


def test_text_alone_is_bert():
    model = build_videobert()
    inputs = {key: value for key, value in pairs(model.config).items() if key in ("input_ids", "attention_mask")}
    found, expected = model(**inputs), model.bert(**inputs).last_hidden_state
    valid = inputs["attention_mask"]
    torch.testing.assert_close(found.last_hidden_state[valid], expected[valid])
    assert found.video_states.shape == (2, 0, 1, 12)


def test_tokens_have_the_positions_and_types_of_the_paper():
    """The joint pass by hand, through BERT's own forward: video first, types 1 and 0."""
    model = build_videobert(tokens_per_segment=2)
    inputs = pairs(model.config)
    video = model.video_embeddings(inputs["video_features"])
    assert video.shape == (2, 6, 12)
    embeddings = model.video_embeddings
    expected = embeddings.projection(inputs["video_features"][1, 2, 1]) + embeddings.place_embeddings.weight[1]
    torch.testing.assert_close(video[1, 5], expected)
    tokens = torch.cat([video, model.get_input_embeddings()(inputs["input_ids"])], dim=1)
    positions = [[5, 5, 6, 6, 7, 7, 0, 1, 2, 3, 4, 8], [4, 4, 5, 5, 0, 0, 0, 1, 2, 3, 6, 0]]
    types = [[1] * 6 + [0] * 6] * 2
    mask = torch.cat([inputs["video_mask"].repeat_interleave(2, dim=1), inputs["attention_mask"]], dim=1)
    expected = model.bert(
        inputs_embeds=tokens,
        position_ids=torch.tensor(positions),
        token_type_ids=torch.tensor(types),
        attention_mask=mask,
    ).last_hidden_state
    found = model(**inputs).last_hidden_state
    torch.testing.assert_close(found[mask], expected[mask])


def test_video_alone_and_several_shapes():
    model = build_videobert()
    inputs = pairs(model.config)
    found = model(video_features=inputs["video_features"])
    assert found.last_hidden_state.shape == (2, 3, 12) and found.text_states.shape == (2, 0, 12)
    both = model(**inputs, output_hidden_states=True)
    assert both.text_states.shape == (2, 6, 12) and both.video_states.shape == (2, 3, 1, 12)
    assert both.features.shape == (2, 3, 1, 5) and len(both.hidden_states) == 3
    assert torch.equal(both.last_hidden_state, both.hidden_states[-1])
    same = model(**{**inputs, "video_features": inputs["video_features"][:, :, None]})
    assert torch.equal(same.last_hidden_state, both.last_hidden_state)


@pytest.mark.parametrize(
    "change, message",
    [
        ({"video_features": torch.zeros(2, 3, 4)}, r"\(2, 3, 1, 4\) do not fit .* \(videos, segments, 1, 5\)"),
        ({"video_mask": torch.ones(2, 4)}, r"video_mask has shape \(2, 4\), but 2 rows need \(2, 3\)"),
        ({"attention_mask": torch.ones(2, 4)}, r"attention_mask has shape \(2, 4\), but 2 rows need \(2, 6\)"),
        ({"video_features": torch.zeros(2, 30, 5), "video_mask": None}, "30 segments and 6 tokens are more than"),
        ({"input_ids": torch.ones(3, 6).long(), "attention_mask": None}, "3 texts and 2 videos"),
        ({"pixel_values": torch.zeros(2, 3, 4, 3, 8, 8)}, "either video_features or pixel_values"),
        ({"input_ids": None, "video_features": None}, "Pass input_ids, video_features"),
    ],
)
def test_wrong_inputs_are_refused(change, message):
    model = build_videobert()
    with pytest.raises(ValueError, match=message):
        model(**{**pairs(model.config), **change})


# masks


def test_masks_as_pictures():
    valid = torch.tensor([[True, True, False, True, True, False]])  # two of three segments, two of three words
    assert drawn(allowed_pairs(valid, 3)[0]) == ["##.##.", "##.##.", "#####.", "##.##.", "##.##.", "##.###"]
    assert drawn(allowed_pairs(valid, 3, prefix=True)[0]) == [
        "##....", "##....", "###...", "##.#..", "##.##.", "##.###",
    ]  # fmt: skip


def test_divided_masks_as_pictures():
    """Two segments of two places, and a word: the same place over time, then the places of a segment."""
    over_time, over_places = divided_pairs(2, 2, 1, torch.device("cpu"))
    assert drawn(over_time) == ["#.#.#", ".#.##", "#.#.#", ".#.##", "#####"]
    assert drawn(over_places) == ["##..#", "##..#", "..###", "..###", "#####"]


@pytest.mark.parametrize("fields", [{}, {"tokens_per_segment": 4, "video_attention": "divided"}], ids=str)
@pytest.mark.parametrize("prefix", [False, True])
def test_padding_has_no_influence(fields, prefix):
    model = build_videobert(**fields)
    inputs = pairs(model.config)
    expected = model(**inputs, prefix=prefix)
    inputs["video_features"][1, 2] = torch.nan
    inputs["input_ids"][1, 5] = TO
    found = model(**inputs, prefix=prefix)
    words, segments = inputs["attention_mask"], inputs["video_mask"]
    assert torch.equal(found.text_states[words], expected.text_states[words])
    assert torch.equal(found.video_states[segments], expected.video_states[segments])
    assert found.last_hidden_state.isfinite().all() and not found.features[1, 2].any()
    # and a video and a text have the states that they have without others
    alone = {name: value[1:] for name, value in inputs.items()}
    alone = {name: value[:, :2] if "video" in name else value[:, :5] for name, value in alone.items()}
    alone = model(**alone, prefix=prefix)
    torch.testing.assert_close(alone.text_states[0], expected.text_states[1, :5])
    torch.testing.assert_close(alone.video_states[0], expected.video_states[1, :2])


def test_a_later_word_changes_no_earlier_output():
    model = build_videobert()
    inputs = pairs(model.config)
    inputs["input_ids"] = torch.tensor([[CLS, TO, 7, 8, 9, SEP], [CLS, TO, 10, 11, SEP, PAD]])
    expected = model(**inputs, prefix=True)
    inputs["input_ids"][:, 4] = 15
    found = model(**inputs, prefix=True)
    assert torch.equal(found.video_states, expected.video_states)
    assert torch.equal(found.text_states[:, :4], expected.text_states[:, :4])
    assert not torch.equal(found.text_states[:, 4], expected.text_states[:, 4])
    inputs["video_features"][:, 0] += 1  # words see the video
    assert not torch.isclose(model(**inputs, prefix=True).text_states[:, 0], found.text_states[:, 0]).all()


def naive_layer(layer, states, sees):
    """One layer of BERT, token by token: `sees(query)` are the tokens that it sees."""
    attention = layer.attention.self
    query, key, value = (one(states) for one in (attention.query, attention.key, attention.value))
    size, contexts = attention.attention_head_size, []
    for token in range(len(states)):
        seen, heads = sees(token), []
        for head in range(attention.num_attention_heads):
            part = slice(head * size, (head + 1) * size)
            weights = (key[seen][:, part] @ query[token, part] / size**0.5).softmax(dim=0)
            heads.append((weights[:, None] * value[seen][:, part]).sum(dim=0))
        contexts.append(torch.cat(heads))
    context = layer.attention.output(torch.stack(contexts)[None], states[None])
    return layer.feed_forward_chunk(context)[0]


def test_divided_attention_against_a_naive_loop():
    model = build_videobert(tokens_per_segment=4, video_attention="divided")
    inputs = {name: value[:1] for name, value in pairs(model.config).items()}
    outputs = model(**inputs, output_hidden_states=True)
    states = outputs.hidden_states[0][0]
    place, segment = [index % 4 for index in range(12)], [index // 4 for index in range(12)]
    for number, part in enumerate((place, segment)):

        def sees(token, part=part):
            return [other for other in range(18) if max(token, other) > 11 or part[token] == part[other]]

        states = naive_layer(model.bert.encoder.layer[number], states, sees)
        torch.testing.assert_close(states, outputs.hidden_states[number + 1][0])
    joint = build_videobert(tokens_per_segment=4)
    assert not torch.allclose(joint(**inputs).last_hidden_state, outputs.last_hidden_state)


def test_masked_and_replaced_segments():
    model = build_videobert(tokens_per_segment=2)
    inputs = pairs(model.config)
    masked = torch.tensor([[False, True, False], [True, False, False]])
    expected = model(**inputs, masked_segments=masked)
    inputs["video_features"] = inputs["video_features"].clone()
    inputs["video_features"][0, 1] += 5
    inputs["video_features"][1, 0] -= 5
    found = model(**inputs, masked_segments=masked)
    assert torch.equal(found.last_hidden_state, expected.last_hidden_state)  # what is hidden cannot be seen
    assert not torch.equal(found.features, expected.features)
    sources = torch.tensor([[0, -1, 3], [-1, 4, 5]])  # the third segment of the first row shows the first of the second
    shown = model.video_embeddings(found.features, sources).unflatten(1, (3, 2))
    plain = model.video_embeddings(found.features).unflatten(1, (3, 2))
    hidden = model.video_embeddings.mask_embedding + model.video_embeddings.place_embeddings.weight
    assert torch.equal(shown[0, 2], plain[1, 0]) and torch.equal(shown[1, 1], plain[1, 1])
    torch.testing.assert_close(shown[0, 1], hidden)


# implementations


@pytest.mark.parametrize("fields", [{}, {"tokens_per_segment": 4, "video_attention": "divided"}], ids=str)
def test_attention_implementations_agree(fields):
    model = build_videobert(**fields)
    inputs = pairs(model.config)
    assert model.config._attn_implementation == "sdpa"
    for prefix in (False, True):
        expected = model(**inputs, prefix=prefix).last_hidden_state
        model.set_attn_implementation("eager")
        found = model(**inputs, prefix=prefix, output_attentions=True)
        torch.testing.assert_close(found.last_hidden_state, expected)
        number = expected.shape[1]
        assert [one.shape for one in found.attentions] == [(2, 2, number, number)] * 2
        if prefix:
            assert not found.attentions[0][0, 0, -2, -1]
        model.set_attn_implementation("sdpa")
    with pytest.raises(ValueError, match="does not support Flash Attention"):
        model.set_attn_implementation("flash_attention_2")


def test_flex_attention_gets_the_same_pairs(monkeypatch):
    """Its kernels need a compiler, so that only the mask is compared."""
    taken = {}
    monkeypatch.setattr(
        "transformers.masking_utils.create_block_mask", lambda mask_mod, **options: taken.update(options, mod=mask_mod)
    )
    config = VideoBertConfig(**TINY_VIDEOBERT)
    config._attn_implementation = "flex_attention"
    valid = torch.tensor([[True, True, False, True, True, False]])
    allowed = allowed_pairs(valid, 3, prefix=True)
    mask_of_pairs(config, torch.zeros(1, 6, 12), allowed)
    index = torch.arange(6)
    found = taken["mod"](torch.tensor(0), torch.tensor(0), index[:, None], index)
    assert torch.equal(found, allowed[0]) and (taken["Q_LEN"], taken["KV_LEN"]) == (6, 6)


def test_activation_checkpointing_changes_no_gradient():
    gradients = []
    for checkpointing in (False, True):
        model = build_videobert(VideoBertForPreTraining).train()
        if checkpointing:
            model.gradient_checkpointing_enable()
        inputs = pairs(model.config)
        model(**inputs, masked_segments=inputs["video_mask"]).loss.backward()
        gradients.append({name: one.grad for name, one in model.named_parameters()})
    torch.testing.assert_close(gradients[0], gradients[1])
    assert gradients[0]["video_bert.video_embeddings.projection.weight"] is not None


# saving and loading


@pytest.mark.parametrize("model_class", ALL_MODELS)
def test_round_trip_is_bit_equal(model_class, tmp_path):
    model = build_videobert(model_class, visual_words=3, video_input="words", video_loss="words")
    model.base_model.video_embeddings.centroids.normal_(generator=torch.Generator().manual_seed(0))
    model.save_pretrained(tmp_path)
    loaded = model_class.from_pretrained(tmp_path)
    assert loaded.new_parts == () and not loaded.training and type(loaded.config) is VideoBertConfig
    assert {**loaded.config.to_dict(), "_name_or_path": ""} == model.config.to_dict()
    tensors, others = ({**dict(m.named_parameters()), **dict(m.named_buffers())} for m in (model, loaded))
    assert list(tensors) == list(others)
    assert [name for name in tensors if not torch.equal(tensors[name], others[name])] == []
    inputs = pairs(model.config)
    # Equal weights; where loaded ones lie in memory may choose another kernel, whose sums round otherwise.
    torch.testing.assert_close(model(**inputs)[0], loaded(**inputs)[0], rtol=0, atol=1e-6)


def test_from_pretraining_to_tasks(tmp_path):
    pretrained = build_videobert(VideoBertForPreTraining)
    pretrained.save_pretrained(tmp_path)
    for model_class, new in ((VideoBertModel, ()), (VideoBertForRetrieval, ()), (VideoBertForCaptioning, ()),
                             (VideoBertForVideoClassification, ("classifier",))):  # fmt: skip
        model = model_class.from_pretrained(tmp_path)
        assert model.new_parts == new
        inputs = pairs(model.config)
        assert torch.equal(
            model.base_model(**inputs).last_hidden_state, pretrained.video_bert(**inputs).last_hidden_state
        )


def test_missing_weights_are_refused(tmp_path):
    build_videobert(VideoBertForRetrieval).save_pretrained(tmp_path)
    weights = load_file(tmp_path / "model.safetensors")
    del weights["video_bert.bert.encoder.layer.0.output.dense.weight"]
    save_file(weights, tmp_path / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(ValueError, match="has no video_bert.bert.encoder.layer.0.output.dense.weight"):
        VideoBertForRetrieval.from_pretrained(tmp_path)


def test_hostile_configurations_are_refused(tmp_path):
    build_videobert().save_pretrained(tmp_path)
    content = json.loads((tmp_path / "config.json").read_text())
    for change, message in (
        ({"hidden_size": 2**15, "intermediate_size": 2**17, "num_hidden_layers": 500}, "its configuration claims"),
        ({"hidden_size": "12"}, "has an invalid config.json: .*hidden_size"),
        ({"num_labels": 10**10, "id2label": None}, "num_labels=10000000000 must be a whole number"),
        ({"visual_words": 2**30}, "visual_words=1073741824 must be from 0 to 1,048,576"),
    ):
        (tmp_path / "config.json").write_text(json.dumps({**content, **change}))
        with pytest.raises(ValueError, match=message):
            VideoBertModel.from_pretrained(tmp_path)
    (tmp_path / "config.json").write_text(json.dumps(content))
    with pytest.raises(ValueError, match="weights_only=False is refused"):
        VideoBertModel.from_pretrained(tmp_path, weights_only=False)


def test_a_head_of_another_size_is_refused(tmp_path):
    build_videobert(VideoBertForVideoClassification, num_labels=3).save_pretrained(tmp_path)
    names = {"id2label": {0: "a", 1: "b"}, "label2id": {"a": 0, "b": 1}}
    with pytest.raises(ValueError, match=r"classifier.bias has shape \(3,\) where the model has \(2,\)"):
        VideoBertForVideoClassification.from_pretrained(tmp_path, **names)
    model = VideoBertForVideoClassification.from_pretrained(tmp_path, **names, ignore_mismatched_sizes=True)
    assert model.classifier.weight.shape == (2, 12) and model.classifier.weight.isfinite().all()


def test_frozen_tables(tmp_path):
    fields = {"visual_words": 3, "video_input": "words", "freeze_input_embeddings": True}
    build_videobert(VideoBertForPreTraining, **fields).save_pretrained(tmp_path)
    for model in (
        build_videobert(VideoBertForPreTraining, **fields),
        VideoBertForPreTraining.from_pretrained(tmp_path),
    ):
        frozen = [name for name, one in model.named_parameters() if not one.requires_grad]
        assert frozen == [
            "video_bert.bert.embeddings.word_embeddings.weight",
            "video_bert.video_embeddings.visual_word_embeddings.weight",
        ]
        assert model.cls.predictions.decoder.weight is model.get_input_embeddings().weight
        assert model.cls.predictions.decoder.bias.requires_grad
    build_videobert(VideoBertForPreTraining, **fields, tie_word_embeddings=False).save_pretrained(tmp_path / "untied")
    model = VideoBertForPreTraining.from_pretrained(tmp_path / "untied")
    assert model.cls.predictions.decoder.weight.requires_grad and not model.get_input_embeddings().weight.requires_grad


def test_half_precision():
    model = build_videobert(VideoBertForPreTraining)
    inputs = pairs(model.config)
    expected = model(**inputs, masked_segments=inputs["video_mask"]).loss
    found = model.bfloat16()(**inputs, masked_segments=inputs["video_mask"])
    assert found.loss.dtype == torch.float32 and found.video_logits.dtype == torch.bfloat16
    torch.testing.assert_close(found.loss, expected, rtol=0.05, atol=0.05)

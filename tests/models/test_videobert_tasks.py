"""VideoBERT: classification, retrieval, captions, BERT's checkpoints, backbones, and use without the package."""

import json
import os
import sys

import pytest
import torch
from helpers.commands import run as run_command
from helpers.shared import TINY, randomize
from helpers.tiny_models import build
from helpers.tiny_videobert import (
    CLS,
    MASK,
    PAD,
    SEP,
    TINY_BERT,
    TINY_VIDEOBERT,
    TO,
    build_videobert,
    pairs,
    word_tokenizer,
)
from safetensors.torch import load_file, save_file
from torch import nn
from transformers import (
    AutoConfig,
    AutoModel,
    AutoModelForImageTextToText,
    AutoModelForPreTraining,
    AutoModelForVideoClassification,
    AutoModelForZeroShotImageClassification,
    AutoProcessor,
    BertConfig,
    BertForMaskedLM,
    BertModel,
)

from videomae_hf import (
    VideoBertConfig,
    VideoBertForCaptioning,
    VideoBertForPreTraining,
    VideoBertForRetrieval,
    VideoBertForVideoClassification,
    VideoBertModel,
    VideoBertProcessor,
    VideoMAEV2Config,
    VideoMAEV2ImageProcessor,
    VideoMAEV2Model,
)
from videomae_hf.models.segment_features import pooled_places, segment_features


AUTO = {
    VideoBertModel: AutoModel,
    VideoBertForPreTraining: AutoModelForPreTraining,
    VideoBertForVideoClassification: AutoModelForVideoClassification,
    VideoBertForRetrieval: AutoModelForZeroShotImageClassification,
    VideoBertForCaptioning: AutoModelForImageTextToText,
}


# classification


def test_classification():
    model = build_videobert(VideoBertForVideoClassification, num_labels=3)
    inputs = pairs(model.config)
    video = {name: inputs[name] for name in ("video_features", "video_mask")}
    found = model(**video, labels=torch.tensor([2, -100]))
    states = model.video_bert(**video, input_ids=torch.tensor([[CLS, TO, SEP]] * 2)).text_states
    torch.testing.assert_close(found.logits, model.classifier(states[:, 0]))
    torch.testing.assert_close(found.loss, nn.functional.cross_entropy(found.logits[:1], torch.tensor([2])))
    assert model.config.problem_type == "single_label_classification"
    assert model(**video, labels=torch.tensor([-100, -100])).loss == 0
    with_text = model(**inputs).logits
    states = model.video_bert(**inputs).text_states
    torch.testing.assert_close(with_text, model.classifier(states[:, 0]))
    model = build_videobert(VideoBertForVideoClassification, num_labels=3)
    several = torch.tensor([[1.0, 0.0, 1.0], [0.0, 0.0, 1.0]])
    found = model(**video, labels=several)
    torch.testing.assert_close(found.loss, nn.functional.binary_cross_entropy_with_logits(found.logits, several))


def test_a_prompt_needs_the_tokens():
    model = build_videobert(VideoBertForVideoClassification, cls_token_id=None)
    with pytest.raises(ValueError, match="cls_token_id is not set; VideoBertConfig.token_fields"):
        model(video_features=torch.zeros(1, 2, 5))


# retrieval


def test_scores_of_all_pairs():
    model = build_videobert(VideoBertForRetrieval)
    inputs = pairs(model.config)
    videos = torch.cat([inputs["video_features"], inputs["video_features"][:1] + 1])
    mask = torch.cat([inputs["video_mask"], inputs["video_mask"][:1]])
    texts = {name: inputs[name] for name in ("input_ids", "attention_mask")}
    found = model.scores(**texts, video_features=videos, video_mask=mask, chunk_size=4)
    assert found.shape == (3, 2)
    for video in range(3):
        for text in range(2):
            alone = {name: value[text : text + 1] for name, value in texts.items()}
            one = model(**alone, video_features=videos[video : video + 1], video_mask=mask[video : video + 1]).logits
            torch.testing.assert_close(one[0, 0], found[video, text])
    other = torch.tensor([[[CLS, 9, TO, SEP]], [[CLS, 10, 11, TO]]])
    outputs = model(**inputs, negative_input_ids=other)
    expected = nn.functional.cross_entropy(outputs.logits, torch.tensor([0, 0]))
    torch.testing.assert_close(outputs.loss, expected)
    torch.testing.assert_close(outputs.logits[:, 0], found.diagonal())


def test_padding_on_the_left_finds_the_class_token():
    model = build_videobert(VideoBertForRetrieval)
    inputs = pairs(model.config)
    right = model(**inputs).logits
    left = inputs["input_ids"][1].roll(1)
    inputs["input_ids"] = torch.stack([inputs["input_ids"][0], left])
    inputs["attention_mask"] = inputs["input_ids"] != PAD
    torch.testing.assert_close(model(**inputs).logits, right)


# captions


def captioner(**fields) -> VideoBertForCaptioning:
    return build_videobert(VideoBertForCaptioning, **fields)


def test_captioning_loss():
    model = captioner()
    inputs = pairs(model.config)
    inputs["input_ids"] = torch.tensor([[CLS, TO, 7, 8, 9, SEP], [CLS, TO, 10, 11, SEP, PAD]])
    labels = torch.tensor([[-100, -100, 7, 8, 9, SEP], [-100, -100, 10, 11, SEP, -100]])
    found = model(**inputs, labels=labels)
    scores = torch.cat([found.logits[0, 1:5], found.logits[1, 1:4]])
    torch.testing.assert_close(
        found.loss, nn.functional.cross_entropy(scores, torch.tensor([7, 8, 9, SEP, 10, 11, SEP]))
    )


def best_words(model, video: dict, number: int) -> list[int]:
    """Greedy decoding with whole passes, one for each word."""
    tokens = [CLS, TO]
    while len(tokens) < 2 + number and tokens[-1] != SEP:
        scores = model(torch.tensor([tokens]), **video).logits[0, -1]
        scores[[PAD, CLS, MASK, TO]] = -torch.inf
        tokens.append(int(scores.argmax()))
    return tokens


def test_greedy_generation():
    model = captioner()
    inputs = pairs(model.config)
    video = {name: inputs[name] for name in ("video_features", "video_mask")}
    found = model.generate(**video, max_new_tokens=5)
    for row in range(2):
        expected = best_words(model, {name: value[row : row + 1] for name, value in video.items()}, 5)
        assert found[row].tolist()[: len(expected)] == expected
    assert torch.equal(model.generate(video_features=video["video_features"][:1], max_new_tokens=5)[0], found[0])
    # longer prompts, padded on the left
    prompts = torch.tensor([[PAD, CLS, TO, 7], [CLS, TO, 8, 9]])
    together = model.generate(prompts, attention_mask=prompts != PAD, **video, max_new_tokens=3)
    first = {name: value[:1] for name, value in video.items()}
    alone = model.generate(prompts[:1, 1:], **first, max_new_tokens=3)
    assert together[0, 1 : 1 + alone.shape[1]].tolist() == alone[0].tolist()


def test_beams_and_sampling():
    model = captioner()
    inputs = pairs(model.config)
    video = {name: inputs[name] for name in ("video_features", "video_mask")}
    beams = model.generate(**video, max_new_tokens=2, num_beams=20, length_penalty=0.0, early_stopping=True)
    first = {name: value[:1] for name, value in video.items()}
    never = [PAD, CLS, MASK, TO]

    def log_probabilities(tokens):  # generate normalises before it excludes tokens
        scores = model(torch.tensor([tokens]), **first).logits[0, -1].log_softmax(dim=-1)
        return scores.index_fill(0, torch.tensor(never), -torch.inf)

    totals = {}
    for word, score in enumerate(log_probabilities([CLS, TO]).tolist()):
        if word == SEP:
            totals[(word,)] = score
        elif word not in never:
            following = log_probabilities([CLS, TO, word])
            totals |= {(word, other): score + value for other, value in enumerate(following.tolist())}
    assert tuple(beams[0, 2:].tolist())[: len(max(totals, key=totals.get))] == max(totals, key=totals.get)
    torch.manual_seed(0)
    sampled = model.generate(**video, max_new_tokens=6, do_sample=True, num_return_sequences=8)
    assert sampled.shape[0] == 16 and len({tuple(row) for row in sampled[:8].tolist()}) > 3
    assert not torch.isin(sampled[:, 2:], torch.tensor([CLS, MASK, TO])).any()


def test_filling_masked_words():
    model = captioner()
    inputs = pairs(model.config)
    inputs["input_ids"][0, 2] = inputs["input_ids"][0, 3] = MASK
    (words, probabilities), (none, _) = model.fill(**inputs, top_k=3)
    scores = model.cls(model.video_bert(**inputs).text_states)[0, [2, 3]].softmax(dim=-1)
    assert torch.equal(words, scores.topk(3).indices) and none.shape == (0, 3)
    torch.testing.assert_close(probabilities, scores.topk(3).values)


# BERT's checkpoints

NAMES = [
    "bert.embeddings.word_embeddings.weight", "bert.embeddings.position_embeddings.weight",
    "bert.embeddings.token_type_embeddings.weight", "bert.embeddings.LayerNorm.weight",
    "bert.encoder.layer.0.attention.self.query.weight", "bert.encoder.layer.1.attention.output.dense.bias",
    "bert.encoder.layer.0.attention.output.LayerNorm.bias", "bert.encoder.layer.1.intermediate.dense.weight",
    "bert.encoder.layer.1.output.dense.weight", "bert.encoder.layer.1.output.LayerNorm.weight",
    "cls.predictions.transform.dense.weight", "cls.predictions.transform.LayerNorm.bias", "cls.predictions.bias",
]  # fmt: skip


@pytest.fixture
def bert(tmp_path):
    model = randomize(BertForMaskedLM(BertConfig(**TINY_BERT))).eval()
    model.save_pretrained(tmp_path / "bert")
    return model, tmp_path / "bert"


@pytest.mark.parametrize("old_names", [False, True])
def test_starting_from_bert(bert, old_names):
    model, folder = bert
    weights = load_file(folder / "model.safetensors")
    assert set(NAMES) <= weights.keys()
    if old_names:  # as google-bert/bert-base-uncased has them
        ends = {"LayerNorm.weight": "LayerNorm.gamma", "LayerNorm.bias": "LayerNorm.beta"}
        for name in list(weights):
            for end, old in ends.items():
                if name.endswith(end):
                    weights[name.replace(end, old)] = weights.pop(name)
        save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    fields = {"vocab_size": 26, "feature_size": 5, "cls_token_id": CLS, "sep_token_id": SEP, "separator_token_id": 25}
    started = VideoBertForPreTraining.from_bert(folder, **fields).eval()
    assert started.new_parts == ("match_head", "video_embeddings", "video_head")
    assert started.config.num_hidden_layers == 2 and started.config.hidden_dropout_prob == 0.0
    inputs = {"input_ids": torch.tensor([[CLS, 7, 8, SEP]])}
    torch.testing.assert_close(started(**inputs).logits[..., :24], model(**inputs).logits)
    table = started.get_input_embeddings().weight
    assert table.shape == (26, 12) and torch.equal(table[:24], model.get_input_embeddings().weight)
    torch.testing.assert_close(table[24:], table[:24].mean(dim=0).expand(2, -1))
    assert started.cls.predictions.decoder.weight is table
    assert VideoBertForCaptioning.from_bert(folder, **fields).new_parts == ("video_embeddings",)
    assert VideoBertForRetrieval.from_bert(folder, **fields).new_parts == ("match_head", "video_embeddings")
    base = VideoBertModel.from_bert(folder, **fields).eval()
    assert base.new_parts == ("video_embeddings",) and base.video_embeddings.feature_std.tolist() == [1.0] * 5
    torch.testing.assert_close(base(**inputs).text_states, model.bert(**inputs).last_hidden_state)
    new = base.video_embeddings
    assert (
        0 < new.mask_embedding.std() < 0.1 and 0 < new.projection.weight.std() < 0.1 and not new.projection.bias.any()
    )


def test_starting_from_a_bare_bert(tmp_path):
    model = randomize(BertModel(BertConfig(**TINY_BERT))).eval()
    model.save_pretrained(tmp_path)  # with a pooler, and names without `bert.`
    started = VideoBertForPreTraining.from_bert(tmp_path, feature_size=5).eval()
    assert started.new_parts == ("cls", "match_head", "video_embeddings", "video_head")
    inputs = {"input_ids": torch.tensor([[CLS, 7, 8, SEP]])}
    torch.testing.assert_close(started.video_bert(**inputs).text_states, model(**inputs).last_hidden_state)


def test_what_is_no_bert_is_refused(bert, tmp_path):
    with pytest.raises(ValueError, match="vocab_size=20 is less than that of"):
        VideoBertModel.from_bert(bert[1], vocab_size=20)
    with pytest.raises(ValueError, match="model_type 'bert'; `from_bert` of a VideoBERT model starts from it"):
        VideoBertModel.from_pretrained(bert[1])
    VideoMAEV2Config().save_pretrained(tmp_path / "other")
    with pytest.raises(ValueError, match="no BERT checkpoint: its configuration has model_type 'videomae_v2'"):
        VideoBertModel.from_bert(tmp_path / "other")
    weights = load_file(bert[1] / "model.safetensors")
    save_file({name: value for name, value in weights.items() if "layer.1" not in name}, bert[1] / "model.safetensors")
    with pytest.raises(ValueError, match="has no bert.encoder.layer.1.* it does not hold the whole text side"):
        VideoBertModel.from_bert(bert[1])


# features of segments


def segments(frames: int = 4, seed: int = 0) -> torch.Tensor:
    return torch.randint(256, (2, 3, frames, 3, 32, 32), generator=torch.Generator().manual_seed(seed)).byte()


def test_features_of_a_video_model():
    backbone = build(VideoMAEV2Model)
    pixels, mask = segments(), torch.tensor([[True, True, True], [True, False, True]])
    found = segment_features(backbone, pixels, mask, batch_size=2)
    assert found.shape == (2, 3, 1, 24) and not found[1, 1].any()
    expected = backbone.pooled_features(backbone(pixels[1, 2:]).last_hidden_state)
    torch.testing.assert_close(found[1, 2], expected)
    # the places of a grid of 4 x 4, over both slices
    tokens = backbone(pixels[0, :1]).last_hidden_state.view(2, 4, 4, 24)
    found = segment_features(backbone, pixels, tokens_per_segment=4)
    torch.testing.assert_close(found[0, 0, 1], tokens[:, :2, 2:].mean(dim=(0, 1, 2)))
    torch.testing.assert_close(found[0, 0, 2], tokens[:, 2:, :2].mean(dim=(0, 1, 2)))
    with pytest.raises(ValueError, match="tokens_per_segment=3 must be a square number"):
        pooled_places(tokens.view(1, 32, 24), (2, 4, 4), 3)
    with pytest.raises(ValueError, match="The segments have 3 frames, but the backbone takes num_frames=4"):
        segment_features(backbone, segments(3))


def test_features_of_an_image_model():
    """Frame by frame, averaged."""
    backbone = build(VideoMAEV2Model, num_frames=1, tubelet_size=1, use_cls_token=True, mask_type="random")
    pixels = segments()
    found = segment_features(backbone, pixels)
    frames = backbone(pixels[1, 2][:, None])  # four images
    torch.testing.assert_close(found[1, 2, 0], frames.pooler_output.mean(dim=0))
    found = segment_features(backbone, pixels, tokens_per_segment=16)
    torch.testing.assert_close(found[1, 2], frames.last_hidden_state[:, 1:].mean(dim=0))


def test_a_backbone_is_frozen_or_trained_jointly(tmp_path):
    encoder = build(VideoMAEV2Model)
    encoder.save_pretrained(tmp_path / "encoder")
    fields = {"backbone_config": VideoMAEV2Config(**TINY).to_dict(), "feature_size": 24}
    for frozen in (True, False):
        model = build_videobert(VideoBertForPreTraining, **fields, freeze_backbone=frozen).train()
        model.video_bert.load_backbone(tmp_path / "encoder")
        assert model.video_bert.backbone.training is not frozen
        inputs = {**pairs(model.config), "masked_segments": torch.tensor([[True, False, False]] * 2)}
        inputs["negative_input_ids"] = torch.tensor([[[CLS, 9, TO, SEP]]] * 2)
        inputs["pixel_values"] = segments()
        del inputs["video_features"]
        model(**inputs).loss.backward()
        gradients = [one.grad for one in model.video_bert.backbone.parameters()]
        assert all((one is None) is frozen for one in gradients)
    model.eval()
    expected = segment_features(encoder, segments(), inputs["video_mask"])
    outputs = model.video_bert(**inputs, output_hidden_states=True)
    torch.testing.assert_close(outputs.features, expected)
    assert [tuple(one.shape) for one in outputs.hidden_states] == [(2, 9, 12)] * 3  # of BERT, not of the backbone
    model.save_pretrained(tmp_path / "joint")
    assert str(tmp_path) not in (tmp_path / "joint" / "config.json").read_text()
    loaded = VideoBertForPreTraining.from_pretrained(tmp_path / "joint")
    torch.testing.assert_close(loaded(**inputs).loss, model(**inputs).loss, rtol=0, atol=0)
    with pytest.raises(ValueError, match="feature_size=5 is not the hidden_size=24 of backbone_config"):
        build_videobert(VideoBertModel).load_backbone(tmp_path / "encoder")
    with pytest.raises(ValueError, match="pixel_values need a model with backbone_config"):
        build_videobert(VideoBertModel)(pixel_values=segments())


# everywhere


def processor() -> VideoBertProcessor:
    sizes = {"size": {"shortest_edge": 32}, "crop_size": {"height": 32, "width": 32}}
    images = VideoMAEV2ImageProcessor(num_frames=4, sampling_rate=2, **sizes)
    return VideoBertProcessor(images, word_tokenizer(), max_segments=4)


def test_auto_classes(tmp_path):
    for model_class, auto in AUTO.items():
        model = build_videobert(model_class)
        model.save_pretrained(tmp_path)
        assert type(AutoConfig.from_pretrained(tmp_path)) is VideoBertConfig
        assert type(auto.from_pretrained(tmp_path)) is model_class
        assert type(auto.from_config(VideoBertConfig(**TINY_VIDEOBERT))) is model_class
        reference = json.loads((tmp_path / "config.json").read_text())["auto_map"][auto.__name__]
        assert reference.split(".")[1] == model_class.__name__
    processor().save_pretrained(tmp_path)
    assert type(AutoProcessor.from_pretrained(tmp_path)) is VideoBertProcessor


WITHOUT_PACKAGE = """
import sys
sys.modules["videomae_hf"] = None
import torch
from transformers import (AutoModelForImageTextToText, AutoModelForPreTraining, AutoModelForZeroShotImageClassification,
                          AutoProcessor)
options = {"trust_remote_code": True}
processor = AutoProcessor.from_pretrained("pretrained", **options)
videos = list((torch.arange(2 * 20 * 32 * 32 * 3) % 251).view(2, 20, 32, 32, 3).to(torch.uint8))
inputs = processor(["a red ball moves", "a [MASK] cube"], videos)
with torch.no_grad():
    print(AutoModelForPreTraining.from_pretrained("pretrained", **options)(**inputs).logits.sum().item())
    captioner = AutoModelForImageTextToText.from_pretrained("captioner", **options)
    video = {name: inputs[name] for name in ("pixel_values", "video_mask")}
    print(captioner.generate(**video, max_new_tokens=4, num_beams=2).tolist())
    print(AutoModelForZeroShotImageClassification.from_pretrained("retriever", **options).scores(**inputs).tolist())
"""


def test_without_the_package(tmp_path, monkeypatch):
    prepared = processor()
    fields = {"backbone_config": VideoMAEV2Config(**TINY).to_dict(), "feature_size": 24}
    fields |= VideoBertConfig.token_fields(prepared.tokenizer)
    models = {
        "pretrained": build_videobert(VideoBertForPreTraining, **fields),
        "captioner": build_videobert(VideoBertForCaptioning, **fields),
        "retriever": build_videobert(VideoBertForRetrieval, **fields),
    }
    for name, model in models.items():
        model.save_pretrained(tmp_path / name)
        prepared.save_pretrained(tmp_path / name)
    environment = {**os.environ, "HF_MODULES_CACHE": str(tmp_path / "modules"), "HF_HUB_OFFLINE": "1"}
    done = run_command([sys.executable, "-c", WITHOUT_PACKAGE], cwd=tmp_path, env=environment)
    assert done.returncode == 0, done.stderr
    total, captions, scores = map(json.loads, done.stdout.splitlines()[-3:])
    videos = list((torch.arange(2 * 20 * 32 * 32 * 3) % 251).view(2, 20, 32, 32, 3).to(torch.uint8))
    inputs = prepared(["a red ball moves", "a [MASK] cube"], videos)
    assert inputs["pixel_values"].shape == (2, 2, 4, 3, 32, 32)
    with torch.no_grad():
        assert total == pytest.approx(models["pretrained"](**inputs).logits.sum().item(), rel=1e-4)
    video = {name: inputs[name] for name in ("pixel_values", "video_mask")}
    assert captions == models["captioner"].generate(**video, max_new_tokens=4, num_beams=2).tolist()
    torch.testing.assert_close(torch.tensor(scores), models["retriever"].scores(**inputs), rtol=1e-4, atol=1e-5)

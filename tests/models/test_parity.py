"""The same as transformers' own VideoMAE: outputs, losses, gradients, checkpoints, documentation."""

import numpy as np
import pytest
import torch
from helpers.indexed_video import write_indexed_video
from helpers.shared import TINY, randomize
from helpers.tiny_models import assert_same_step, step
from safetensors.torch import load_file, save_file
from transformers import VideoMAEConfig, VideoMAEForPreTraining, VideoMAEForVideoClassification, VideoMAEModel
from transformers.models.auto.image_processing_auto import AutoImageProcessor  # also without torchvision in 5.17

from videomae_hf import (
    VideoMAEV2Config,
    VideoMAEV2ForPreTraining,
    VideoMAEV2ForVideoClassification,
    VideoMAEV2ImageProcessor,
    VideoMAEV2Model,
    VideoMAEV2VideoProcessor,
)


COUNTERPARTS = {
    VideoMAEModel: VideoMAEV2Model,
    VideoMAEForPreTraining: VideoMAEV2ForPreTraining,
    VideoMAEForVideoClassification: VideoMAEV2ForVideoClassification,
}
FIELDS = [
    {},
    {"use_mean_pooling": False},
    {"qv_bias": False},
    {"layer_norm_eps": 1e-12, "hidden_act": "relu", "num_frames": 8, "tubelet_size": 4},
    {"num_channels": 1},
]
# The field's name in this release of transformers
QV_BIAS = {"qv_bias": "qv_bias" if hasattr(VideoMAEConfig(), "qv_bias") else "qkv_bias"}
# transformers' fc_norm and decoder.norm have PyTorch's default whatever its layer_norm_eps says.
HEAD = {"head_layer_norm_eps": 1e-5}


def theirs_and_ours(their_class, attn_implementation="sdpa", **fields):
    fields = {**TINY, **fields}
    ours = COUNTERPARTS[their_class](VideoMAEV2Config(**fields, **HEAD)).eval()
    theirs = randomize(their_class(VideoMAEConfig(**{QV_BIAS.get(name, name): fields[name] for name in fields}))).eval()
    # strict: the names are the same, but for the key bias of transformers 5.6 to 5.17, which softmax ignores
    ours.load_state_dict({name: value for name, value in theirs.state_dict().items() if not is_key_bias(name)})
    for model in (theirs, ours):
        model.set_attn_implementation(attn_implementation)
    return theirs, ours


def is_key_bias(name):
    return name.endswith("attention.key.bias")


def videos(config):
    shape = (2, config.num_frames, config.num_channels, config.image_size, config.image_size)
    return torch.randn(shape, generator=torch.Generator().manual_seed(0))


def mask():
    """20 of the 32 tokens of each video, at random."""
    order = torch.rand(2, 32, generator=torch.Generator().manual_seed(1)).argsort(dim=1)
    return order.argsort(dim=1) < 20


def inputs_of(model):
    given = {"bool_masked_pos": mask()} if isinstance(model, VideoMAEForPreTraining) else {}
    return {"pixel_values": videos(model.config), **given}


def assert_close(actual, expected):
    torch.testing.assert_close(actual, expected, rtol=0, atol=1e-5)


CASES = [(VideoMAEForPreTraining, fields) for fields in [*FIELDS, {"norm_pix_loss": False}]]
CASES += [(VideoMAEForVideoClassification, fields) for fields in FIELDS]


@pytest.mark.parametrize("their_class, fields", CASES, ids=[f"{case.__name__}-{fields}" for case, fields in CASES])
def test_loss_logits_and_gradients(their_class, fields):
    theirs, ours = theirs_and_ours(their_class, **fields)
    inputs = inputs_of(theirs)
    if their_class is VideoMAEForVideoClassification:
        inputs["labels"] = torch.tensor([0, 1])
    expected, actual = step(theirs, **inputs), step(ours, **inputs)
    gradients = {name: value for name, value in expected[1].items() if not is_key_bias(name)}
    assert list(actual[1]) == list(gradients)
    assert_same_step(actual, (expected[0], gradients), atol=1e-5)
    assert_close(ours(**inputs).logits, theirs(**inputs).logits)


@pytest.mark.parametrize("their_class", COUNTERPARTS)
@pytest.mark.parametrize("fields", FIELDS[:3], ids=str)
def test_hidden_states_and_attentions(their_class, fields):
    theirs, ours = theirs_and_ours(their_class, "eager", **fields)
    inputs = {**inputs_of(theirs), "output_hidden_states": True, "output_attentions": True}
    expected, actual = theirs(**inputs), ours(**inputs)
    assert len(actual.hidden_states) == len(actual.attentions) + 1 == 3
    for name, value in expected.items():
        assert_close(actual[name], value)
    # As a tuple: theirs, and after it what V2 adds.
    expected, actual = (model(**inputs, return_dict=False) for model in (theirs, ours))
    assert_close(actual[: len(expected)], expected)


def test_encoder_of_visible_tokens_alone():
    theirs, ours = theirs_and_ours(VideoMAEModel, use_mean_pooling=False)
    inputs = {"pixel_values": videos(theirs.config), "bool_masked_pos": mask()}
    assert_close(ours(**inputs).last_hidden_state, theirs(**inputs).last_hidden_state)
    assert ours(**inputs).last_hidden_state.shape == (2, 12, 24)


@pytest.mark.parametrize(
    "fields, labels",
    [
        ({"num_labels": 3}, torch.tensor([0, 2])),
        ({"num_labels": 3}, torch.tensor([[0], [2]])),
        ({"num_labels": 3}, torch.tensor([[1.0, 0, 1], [0, 1, 0]])),
        ({"num_labels": 3, "problem_type": "multi_label_classification"}, torch.tensor([[1.0, 0, 1], [0, 1, 0]])),
        ({"num_labels": 1}, torch.tensor([0.5, 2.0])),
        ({"num_labels": 1}, torch.tensor([[0.5], [2.0]])),
        ({"num_labels": 3, "problem_type": "regression"}, torch.tensor([[0.5, 1, 2], [2, 3, 4]])),
    ],
    ids=lambda value: str(value) if isinstance(value, dict) else f"{value.dtype} {tuple(value.shape)}",
)
def test_loss_of_labels_of_all_kinds(fields, labels):
    theirs, ours = theirs_and_ours(VideoMAEForVideoClassification, **fields)
    inputs = {**inputs_of(theirs), "labels": labels}
    assert_close(ours(**inputs).loss, theirs(**inputs).loss)


def rename_biases(folder, old_names, new_names):
    weights = load_file(folder / "model.safetensors")
    for name in list(weights):
        for old, new in zip(old_names, new_names):
            if name.endswith(old):
                weights[name.removesuffix(old) + new] = weights.pop(name)
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    return set(weights)


OLD = ("attention.attention.q_bias", "attention.attention.v_bias")
NEW = ("attention.attention.query.bias", "attention.attention.value.bias")


@pytest.mark.parametrize("names", [OLD, NEW], ids=["q_bias", "query.bias"])
@pytest.mark.parametrize("their_class", COUNTERPARTS)
def test_checkpoints_of_both_spellings_load(their_class, names, tmp_path, caplog):
    theirs = randomize(their_class(VideoMAEConfig(**TINY, num_labels=3))).eval()
    theirs.save_pretrained(tmp_path)
    on_disk = rename_biases(tmp_path, OLD + NEW, names + names)
    layers = 4 if their_class is VideoMAEForPreTraining else 2
    assert [sum(name.endswith(bias) for name in on_disk) for bias in names] == [layers, layers]

    ours = COUNTERPARTS[their_class].from_pretrained(tmp_path)
    assert caplog.records == []
    assert_close(ours(**inputs_of(theirs))[0], theirs(**inputs_of(theirs))[0])
    assert (ours.config.model_type, ours.config.head_layer_norm_eps) == ("videomae_v2", 1e-5)

    # What we save has our names, and comes back as it was.
    ours.save_pretrained(tmp_path / "ours")
    assert set(load_file(tmp_path / "ours" / "model.safetensors")) == set(ours.state_dict())
    again = COUNTERPARTS[their_class].from_pretrained(tmp_path / "ours")
    assert torch.equal(again(**inputs_of(theirs))[0], ours(**inputs_of(theirs))[0])


def test_pretraining_checkpoint_of_transformers_becomes_a_classifier(tmp_path):
    """Ours and theirs agree on the encoder, whatever the new head."""
    theirs = randomize(VideoMAEForPreTraining(VideoMAEConfig(**TINY, use_mean_pooling=False))).eval()
    theirs.save_pretrained(tmp_path)
    ours = VideoMAEV2ForVideoClassification.from_pretrained(tmp_path, num_labels=3)
    pixel_values = videos(theirs.config)
    assert_close(ours.videomae(pixel_values)[0], theirs.videomae(pixel_values)[0])


# The examples in the documentation of transformers' VideoMAE (5.23, docstrings of the three `forward`), with VideoMAE
# replaced by VideoMAEV2 in the class names, and the Hub's checkpoint and video by local ones.


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory):
    """Of the size of the published one, but of a single layer; the classifier knows one class."""
    folder = tmp_path_factory.mktemp("videomae-base")
    labels = {"id2label": {0: "eating spaghetti"}, "label2id": {"eating spaghetti": 0}}
    config = VideoMAEV2Config(num_hidden_layers=1, decoder_num_hidden_layers=1, **labels)
    models = {"pretrained": VideoMAEV2ForPreTraining, "finetuned": VideoMAEV2ForVideoClassification}
    for name, model_class in models.items():
        model_class(config).save_pretrained(folder / name)
        VideoMAEV2ImageProcessor().save_pretrained(folder / name)
    return folder


@pytest.fixture(scope="module")
def video_path(tmp_path_factory):
    return write_indexed_video(tmp_path_factory.mktemp("video") / "eating_spaghetti.mp4", 70)


def test_documented_example_of_the_model(checkpoint, video_path):
    video_processor = VideoMAEV2VideoProcessor.from_pretrained(checkpoint / "pretrained")
    model = VideoMAEV2Model.from_pretrained(checkpoint / "pretrained")

    # prepare video for the model
    inputs = video_processor(video_path, return_tensors="pt")

    # forward pass
    with torch.no_grad():
        outputs = model(**inputs)

    last_hidden_states = outputs.last_hidden_state
    assert list(last_hidden_states.shape) == [1, 1568, 768]


def test_documented_example_of_pretraining(checkpoint):
    num_frames = 16
    video = list(np.random.default_rng(0).integers(0, 256, (num_frames, 3, 224, 224)))

    image_processor = AutoImageProcessor.from_pretrained(checkpoint / "pretrained")
    model = VideoMAEV2ForPreTraining.from_pretrained(checkpoint / "pretrained")

    pixel_values = image_processor(video, return_tensors="pt").pixel_values

    num_patches_per_frame = (model.config.image_size // model.config.patch_size) ** 2
    seq_length = (num_frames // model.config.tubelet_size) * num_patches_per_frame
    bool_masked_pos = torch.randint(0, 2, (1, seq_length)).bool()

    outputs = model(pixel_values, bool_masked_pos=bool_masked_pos)
    loss = outputs.loss
    assert loss.isfinite()
    assert outputs.logits.shape == (1, int(bool_masked_pos.sum()), 1536)


def test_documented_example_of_classification(checkpoint, video_path):
    video_processor = VideoMAEV2VideoProcessor.from_pretrained(checkpoint / "finetuned")
    model = VideoMAEV2ForVideoClassification.from_pretrained(checkpoint / "finetuned")

    inputs = video_processor(video_path, return_tensors="pt")

    with torch.no_grad():
        outputs = model(**inputs)
        logits = outputs.logits

    # model predicts one of the 400 Kinetics-400 classes
    predicted_label = logits.argmax(-1).item()
    assert model.config.id2label[predicted_label] == "eating spaghetti"


def random_fields(seed: int) -> dict:
    """A small configuration that both can express."""
    rng = np.random.default_rng(seed)
    heads, decoder_heads = int(rng.integers(1, 4)), int(rng.integers(1, 4))
    patch, tubelet = int(rng.choice([4, 8])), int(rng.choice([1, 2, 4]))
    return {
        "patch_size": patch,
        "image_size": patch * 2 * int(rng.integers(1, 4)),
        "tubelet_size": tubelet,
        "num_frames": tubelet * int(rng.integers(1, 4)),
        "num_channels": int(rng.choice([1, 3, 4])),
        "num_attention_heads": heads,
        "hidden_size": heads * 4 * int(rng.integers(1, 4)),
        "num_hidden_layers": int(rng.integers(1, 4)),
        "intermediate_size": int(rng.integers(8, 40)),
        "decoder_num_attention_heads": decoder_heads,
        "decoder_hidden_size": decoder_heads * 4 * int(rng.integers(1, 4)),
        "decoder_num_hidden_layers": int(rng.integers(1, 3)),
        "decoder_intermediate_size": int(rng.integers(8, 40)),
        "layer_norm_eps": float(rng.choice([1e-12, 1e-6, 1e-5])),
        "hidden_act": str(rng.choice(["gelu", "relu"])),
        "use_mean_pooling": bool(rng.integers(2)),
        "qv_bias": bool(rng.integers(2)),
    }


@pytest.mark.parametrize("seed", range(20))
def test_checkpoint_of_a_random_configuration(tmp_path, seed):
    fields = random_fields(seed)
    theirs = VideoMAEForPreTraining(VideoMAEConfig(**{QV_BIAS.get(name, name): fields[name] for name in fields}))
    randomize(theirs, seed).eval().save_pretrained(tmp_path)
    ours = VideoMAEV2ForPreTraining.from_pretrained(tmp_path).eval()
    length = ours.config.sequence_length
    hidden = torch.rand(2, length, generator=torch.Generator().manual_seed(seed)).argsort(dim=1) < max(length // 2, 1)
    inputs = {"pixel_values": videos(theirs.config), "bool_masked_pos": hidden, "output_hidden_states": True}
    expected, actual = theirs(**inputs), ours(**inputs)
    assert_close(actual.loss, expected.loss)
    torch.testing.assert_close(actual.hidden_states, expected.hidden_states, rtol=1e-5, atol=1e-5)

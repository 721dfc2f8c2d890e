"""Whatever is given as a checkpoint ends in one line that names the file, and allocates nothing for what it claims."""

import json
import os
import resource
import zipfile

import numpy as np
import pytest
import torch
from helpers.shared import TINY, randomize
from helpers.tiny_models import build
from huggingface_hub import errors as hub_errors
from safetensors.torch import load_file, save_file
from transformers import BertConfig, TimesformerConfig, VideoMAEConfig, VideoMAEForVideoClassification
from transformers.trainer_callback import TrainerState

from videomae_hf import (
    VideoMAEV2Config,
    VideoMAEV2ForPreTraining,
    VideoMAEV2ForVideoClassification,
    VideoMAEV2Model,
)
from videomae_hf.commands import convert
from videomae_hf.models.official_checkpoints import to_official
from videomae_hf.training.safeguards import check_complete


WEIGHTS = "model.safetensors"
LFS = b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 1\n"
HTML = b"\n<!DOCTYPE html><html>Google Drive - Virus scan warning</html>"
QUERY = "videomae.encoder.layer.1.attention.attention.query.weight"


@pytest.fixture
def folder(tmp_path):
    path = tmp_path / "model"
    build(VideoMAEV2ForVideoClassification, num_labels=3).save_pretrained(path)
    return path


@pytest.fixture
def little_memory():
    """Two GiB beside what this process has: what a configuration claims cannot be allocated."""
    used = int(open("/proc/self/statm").read().split()[0]) * resource.getpagesize()
    soft, hard = resource.getrlimit(resource.RLIMIT_AS)
    resource.setrlimit(resource.RLIMIT_AS, (used + 2 * 2**30, hard))
    yield
    resource.setrlimit(resource.RLIMIT_AS, (soft, hard))


def refused(name, message: str, model_class=VideoMAEV2ForVideoClassification, error=(ValueError, OSError), **options):
    """The one line that loading ends in; it holds the name, and no advice that a user of a command cannot follow."""
    with pytest.raises(error) as caught:
        model_class.from_pretrained(name, **options)
    said = str(caught.value)
    assert message in said and "\n" not in said and str(name) in said
    assert not [advice for advice in ("weights_only", "strict=", "ignore_mismatched") if advice in said]
    return said


# -------------------------------------------------------------------------------------------------- what is not there


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("{tmp}/nowhere", "There is no file or folder"),
        ("output/run/checkpoint-100", "There is no file or folder"),
        ("./nowhere", "There is no file or folder"),
        ("output/nowhere", "is not a local folder, and the Hub cannot be reached"),
        ("nowhere", "is not a local folder, and the Hub cannot be reached"),
        ("{tmp}/model/model.safetensors", "is a file; give its folder"),
        ("{tmp}/a.pth", "is a file, not the folder of a checkpoint; convert it with videomae convert"),
        ("{tmp}/above", "has no config.json; there is one in checkpoint-4 below it"),
        ("{tmp}/empty", "has no config.json: it is not the folder of a checkpoint"),
        ("{tmp}/official", "has no config.json; videomae convert"),
    ],
)
def test_a_name_that_is_no_checkpoint(tmp_path, folder, monkeypatch, name, message):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    monkeypatch.chdir(tmp_path)
    torch.save({}, tmp_path / "a.pth")
    (tmp_path / "above" / "checkpoint-4").mkdir(parents=True)
    (tmp_path / "above" / "checkpoint-4" / "config.json").touch()
    (tmp_path / "empty").mkdir()
    (tmp_path / "official").mkdir()
    torch.save({}, tmp_path / "official" / "checkpoint-799.pth")
    refused(name.format(tmp=tmp_path), message)


@pytest.mark.parametrize(
    ("cause", "message"),
    [
        (hub_errors.GatedRepoError, "them/model is gated on the Hub: accept its terms there, and log in"),
        (hub_errors.RepositoryNotFoundError, "them/model is neither a local folder nor a model on the Hub"),
        (hub_errors.RevisionNotFoundError, "them/model on the Hub has no revision 'v9'"),
        (hub_errors.LocalEntryNotFoundError, "them/model is not a local folder, and the Hub cannot be reached"),
        (ConnectionError, "them/model is not a local folder, and the Hub cannot be reached"),
        (TimeoutError, "them/model is not a local folder, and cannot be read from the Hub"),
    ],
)
def test_what_the_hub_answers(monkeypatch, cause, message):
    """As transformers passes it on: an OSError of several lines, whose cause says which."""

    def cached_file(*args, **options):
        raise OSError("We could not\nCheck your connection") from cause.__new__(cause)

    monkeypatch.setattr("videomae_hf.models.checkpoint_files.cached_file", cached_file)
    refused("them/model", message, error=OSError, revision="v9")


def test_a_folder_without_weights(folder):
    (folder / WEIGHTS).unlink()
    refused(folder, "holds no weights: no model.safetensors and no pytorch_model.bin")
    refused(folder, "holds no weights: no model.fp16.safetensors", use_safetensors=True, variant="fp16")


# ------------------------------------------------------------------------------------------------------ damaged files


@pytest.mark.parametrize("filename", [WEIGHTS, "pytorch_model.bin"])
@pytest.mark.parametrize(
    ("content", "message"),
    [
        (LFS, "is a pointer of Git LFS, not the file itself; run `git lfs pull`"),
        (HTML, "is a web page, not a checkpoint; download the file itself"),
        (b"", "is empty; copy or download it again"),
        (b"\x00" * 100, "is damaged or "),
        ("cut", "is damaged or "),
    ],
    ids=["pointer", "page", "empty", "zeros", "cut"],
)
def test_a_file_that_is_something_else(folder, filename, content, message):
    weights = load_file(folder / WEIGHTS)
    (folder / WEIGHTS).unlink()
    (save_file if filename == WEIGHTS else torch.save)(weights, folder / filename)
    whole = (folder / filename).read_bytes()
    (folder / filename).write_bytes(whole[: len(whole) // 2] if content == "cut" else content)
    assert filename in refused(folder, message, error=ValueError)


@pytest.mark.parametrize("content", [LFS, HTML, b"", b"PK\x03\x04", "folder", "nothing"], ids=str)
def test_convert_names_what_it_cannot_read(tmp_path, content):
    path = tmp_path / "a.pth"
    if content == "folder":
        path.mkdir()
    elif content != "nothing":
        path.write_bytes(content)
    with pytest.raises((ValueError, OSError)) as caught:
        convert.main([str(path), str(tmp_path / "out")])
    assert "a.pth" in str(caught.value) and "\n" not in str(caught.value) and "weights_only" not in str(caught.value)


class Code:
    def __reduce__(self):
        return os.system, ("touch pwned",)


def expanded(weights):
    weights[QUERY] = torch.zeros(1, 1).expand(24, 24)


PICKLES = {
    "code": (lambda weights: weights.update(x=Code()), "is refused: it needs posix.system"),
    "integers as names": (lambda weights: weights.update({5: torch.ones(1)}), "names a weight 5"),
    "no tensor": (lambda weights: weights.update(epoch=3), "holds a int as 'epoch' among its weights"),
    "sparse": (lambda weights: weights.update({QUERY: weights[QUERY].to_sparse()}), "sparse, quantized or without"),
    "no values": (lambda weights: weights.update({QUERY: torch.empty(24, 24, device="meta")}), "or without values"),
    "expanded": (expanded, "as an expanded tensor, (24, 24) of fewer values"),
    "int8": (lambda weights: weights.update({QUERY: weights[QUERY].to(torch.int8)}), "is of torch.int8"),
    "complex": (lambda weights: weights.update({QUERY: weights[QUERY].to(torch.complex64)}), "is of torch.complex64"),
}


@pytest.mark.parametrize("kind", PICKLES)
def test_what_a_pickle_may_hold(folder, kind, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    edit, message = PICKLES[kind]
    weights = load_file(folder / WEIGHTS)
    edit(weights)
    (folder / WEIGHTS).unlink()
    torch.save(weights, folder / "pytorch_model.bin")
    refused(folder, message, error=ValueError)
    assert not (tmp_path / "pwned").exists()


def test_a_compressed_archive_could_unpack_to_any_size(folder, tmp_path):
    (folder / WEIGHTS).unlink()
    torch.save({"a": torch.zeros(1000)}, tmp_path / "a.bin")
    with zipfile.ZipFile(tmp_path / "a.bin") as source:
        with zipfile.ZipFile(folder / "pytorch_model.bin", "w", zipfile.ZIP_DEFLATED) as packed:
            for name in source.namelist():
                packed.writestr(name, source.read(name))
    refused(folder, "its archive is compressed")


INDICES = {
    "[]": "holds a list instead of a mapping",
    "{": "is not valid JSON",
    "{}": "is damaged: it has no weight_map",
    '{"weight_map": [1]}': "is damaged: it has no weight_map",
    '{"weight_map": {"a": "../secret.safetensors"}}': "which is not a file in its folder",
    '{"weight_map": {"a": "/etc/passwd"}}': "names '/etc/passwd', which is not a file in its folder",
    '{"weight_map": {"a": "..\\\\secret"}}': "which is not a file in its folder",
    '{"weight_map": {"a": 5}}': "names 5",
    '{"weight_map": {"a": "model-1.safetensors"}}': "names model-1.safetensors, which is missing",
}


@pytest.mark.parametrize("content", INDICES)
def test_an_index_of_shards(folder, content):
    (folder / WEIGHTS).rename(folder.parent / "secret.safetensors")
    (folder / f"{WEIGHTS}.index.json").write_text(content)
    refused(folder, INDICES[content])


# -------------------------------------------------------------------------------------------------- other models


@pytest.mark.parametrize("config", [BertConfig(), TimesformerConfig()], ids=["bert", "timesformer"])
def test_a_checkpoint_of_another_model(tmp_path, config):
    config.save_pretrained(tmp_path)
    message = f"is not a VideoMAE checkpoint: its configuration has model_type {config.model_type!r}"
    refused(tmp_path, message, error=ValueError)
    with pytest.raises(ValueError, match=message):
        convert.main([str(tmp_path), str(tmp_path / "out")])
    with pytest.raises(ValueError, match="is not a VideoMAE checkpoint"):
        VideoMAEV2Model.from_pretrained(tmp_path, config=config)


# --------------------------------------------------------------------------------------------------- configurations

FIELDS = [
    ({"hidden_size": None}, "hidden_size"),
    ({"hidden_size": -24}, "hidden_size=-24 must be at least 1"),
    ({"hidden_size": 10**9}, "hidden_size=1000000000 is larger than in any known model"),
    ({"num_hidden_layers": 10**6}, "num_hidden_layers=1000000 is larger than in any known model"),
    ({"num_hidden_layers": 900}, "missing videomae.encoder.layer.10."),
    ({"num_labels": 10**9, "id2label": None}, "num_labels=1000000000 must be a whole number from 0 to 131,072"),
    ({"num_labels": 10**5, "id2label": None}, "classifier.weight has shape (3, 24) where the model has (100000, 24)"),
    ({"num_labels": -1, "id2label": None}, "num_labels=-1"),
    ({"hidden_act": "nope"}, "hidden_act='nope' is not an activation"),
    ({"hidden_act": 5}, "hidden_act"),
    ({"intermediate_size": 2**18}, "has shape (48, 24) where the model has (262144, 24)"),
    ({"hidden_size": 3 * 2**14}, "where the model has (49152, 3, 2, 8, 8)"),
    ({"image_size": 2**14}, "in positions; correct its config.json"),
    ({"image_size": 2**14, "num_frames": 2**10}, "result in more positions than any known model has"),
    ({"image_mean": 5}, "image_mean"),
    ({"image_std": [0, 1, 1]}, "image_std=(0, 1, 1) must be positive"),
    ({"layer_norm_eps": float("nan")}, "layer_norm_eps=nan must be finite"),
    ({"id2label": [1, 2]}, "id2label=[1, 2] must name each of the classes"),
    ({"id2label": {"1": "a"}}, "id2label={'1': 'a'} must name each of the classes"),
    ({"architectures": 5}, "architectures=5 must be a list of names"),
    ({"dtype": "nope"}, "dtype='nope' is not a torch dtype"),
    ({"problem_type": "guess"}, "problem_type='guess' is unknown"),
    ({"grid_size": 4}, "'grid_size' is not a field"),
    ({"from_dict": 4}, "'from_dict' is not a field"),
    ({"model_config": 4}, "model_config of the checkpoint is 4"),
    ({"model_type": None}, "has model_type None"),
]


@pytest.mark.parametrize(("fields", "message"), FIELDS, ids=[str(fields) for fields, _ in FIELDS])
def test_what_a_configuration_may_say(folder, little_memory, fields, message):
    content = {**json.loads((folder / "config.json").read_text()), **fields}
    (folder / "config.json").write_text(json.dumps(content))
    refused(folder, message, error=ValueError)


@pytest.mark.parametrize(
    ("content", "message"),
    [(LFS, "pointer of Git LFS"), (b"[]", "holds a list"), (b"\xff", "is not valid JSON"), (b"[" * 10**5, "not valid")],
)
def test_a_configuration_that_is_none(folder, content, message):
    (folder / "config.json").write_bytes(content)
    assert "config.json" in refused(folder, message, error=ValueError)


def test_new_parts_are_not_larger_than_can_be(folder, little_memory):
    """The decoder is not in this checkpoint, so that no shape contradicts what its configuration claims."""
    content = json.loads((folder / "config.json").read_text())
    content.update(decoder_hidden_size=2**16, decoder_intermediate_size=2**16, decoder_num_hidden_layers=100)
    (folder / "config.json").write_text(json.dumps(content))
    refused(
        folder,
        "in decoder, encoder_to_decoder, mask_token, positions; correct its config.json",
        VideoMAEV2ForPreTraining,
        ValueError,
    )
    assert VideoMAEV2ForVideoClassification.from_pretrained(folder).num_labels == 3


def test_an_official_file_of_absurd_depth(tmp_path, little_memory):
    weights = to_official(build(VideoMAEV2ForVideoClassification).state_dict(), pretraining=False)
    weights["blocks.100000.norm1.weight"] = torch.ones(24)
    torch.save({"model": weights}, tmp_path / "a.pth")
    options = ["--num_attention_heads", "3", "--num_frames", "4", "--image_size", "32"]
    with pytest.raises(ValueError, match="num_hidden_layers=100001 is larger than in any known model"):
        convert.main([str(tmp_path / "a.pth"), str(tmp_path / "out"), *options])


# ------------------------------------------------------------------------------- options that say where and which


def with_noise(source, target, number: float):
    """Other weights, which are told apart from the source's."""
    save_file({name: value + number for name, value in load_file(source).items()}, target)


@pytest.mark.parametrize("fields", [{}, {"tubelet_size": 4}, {"num_frames": 8}], ids=str)
def test_every_weight_is_of_the_file_that_the_options_say(tmp_path, fields):
    """The patch projection and learned positions, which are resized for other clips, too."""
    build(VideoMAEV2Model, position_embedding_type="learned").save_pretrained(tmp_path / "sub")
    with_noise(tmp_path / "sub" / WEIGHTS, tmp_path / "sub" / "model.fp16.safetensors", 1.0)
    torch.save({name: value + 2 for name, value in load_file(tmp_path / "sub" / WEIGHTS).items()},
               tmp_path / "sub" / "pytorch_model.bin")  # fmt: skip
    renamed = {f"wrapped.{name}": value + 3 for name, value in load_file(tmp_path / "sub" / WEIGHTS).items()}
    save_file(renamed, tmp_path / "sub" / "model.named.safetensors")
    plain = VideoMAEV2Model.from_pretrained(tmp_path, subfolder="sub", **fields).state_dict()
    projection = "embeddings.patch_embeddings.projection.weight"
    for number, options in (
        (1.0, {"variant": "fp16"}),
        (2.0, {"use_safetensors": False}),
        (3.0, {"variant": "named", "key_mapping": {r"^wrapped\.": ""}}),
    ):
        found = VideoMAEV2Model.from_pretrained(tmp_path, subfolder="sub", **fields, **options).state_dict()
        shift = number / 2 if "tubelet_size" in fields else number  # spread over twice the frames
        torch.testing.assert_close(found[projection], plain[projection] + shift)
        for name in ("embeddings.position_embeddings", "encoder.layer.1.output.dense.bias"):
            torch.testing.assert_close(found[name], plain[name] + number, rtol=1e-4, atol=1e-5)


def test_shards_and_their_variant(tmp_path):
    model = build(VideoMAEV2ForPreTraining)
    model.save_pretrained(tmp_path, max_shard_size="20KB")
    model.save_pretrained(tmp_path, max_shard_size="20KB", variant="fp16")
    assert len(list(tmp_path.glob("*-of-*.safetensors"))) > 2
    for options in ({}, {"variant": "fp16"}, {"disable_mmap": True}):
        loaded = VideoMAEV2ForPreTraining.from_pretrained(tmp_path, **options)
        assert all(torch.equal(one, other) for one, other in zip(model.parameters(), loaded.parameters()))


RANDOM = {"python": (3, (1, 2), None), "numpy": ("MT19937", np.arange(4, dtype=np.uint32), 1, 0, 0.0)}


@pytest.mark.parametrize("damage", [LFS, b"", b"zeros", "code"], ids=str)
@pytest.mark.parametrize("filename", ["optimizer.pt", "scheduler.pt", "rng_state.pth", WEIGHTS])
def test_a_checkpoint_to_resume_from(folder, filename, damage):
    """Of the right size, say, and unreadable all the same: the Trainer would not say which of them."""
    TrainerState().save_to_json(str(folder / "trainer_state.json"))
    for name, content in (("optimizer.pt", {"state": {0: torch.ones(1)}}), ("scheduler.pt", {"last_epoch": 1}),
                          ("rng_state.pth", RANDOM)):  # fmt: skip
        torch.save(content, folder / name)
    torch.save(Code(), folder / "training_args.bin")  # which is never read
    check_complete(folder)
    if damage == "code":
        torch.save(Code(), folder / filename)
    else:
        (folder / filename).write_bytes(damage)
    with pytest.raises(ValueError) as caught:
        check_complete(folder)
    said = str(caught.value)
    assert filename in said and "\n" not in said and "weights_only" not in said


def test_code_in_pickles_cannot_be_asked_for(folder):
    with pytest.raises(ValueError, match="is refused, because it would run code from a checkpoint"):
        VideoMAEV2Model.from_pretrained(folder, weights_only=False)


def test_the_name_of_a_checkpoint_is_kept(folder):
    assert VideoMAEV2Model.from_pretrained(folder).name_or_path == str(folder)
    assert VideoMAEV2Model.from_pretrained(folder).config.name_or_path == str(folder)


# ---------------------------------------------------------------------------------------- configurations that are given


@pytest.mark.parametrize("given", ["object", "mapping", "folder"])
def test_a_configuration_of_transformers_can_be_given(tmp_path, given):
    theirs = randomize(VideoMAEForVideoClassification(VideoMAEConfig(**TINY, num_labels=3))).eval()
    theirs.save_pretrained(tmp_path)
    (tmp_path / "preprocessor_config.json").write_text(json.dumps({"image_mean": [0.5] * 3, "image_std": [0.5] * 3}))
    config = {"object": theirs.config, "mapping": theirs.config.to_dict(), "folder": str(tmp_path)}[given]
    ours = VideoMAEV2ForVideoClassification.from_pretrained(tmp_path, config=config).eval()
    assert type(ours.config) is VideoMAEV2Config and ours.config.head_layer_norm_eps == 1e-5
    assert ours.config.image_mean == (0.5, 0.5, 0.5)
    clips = torch.randn(1, 4, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        torch.testing.assert_close(ours(clips).logits, theirs(clips).logits, rtol=0, atol=1e-5)


def test_what_is_no_configuration(folder):
    for config in (5, [1], object()):
        with pytest.raises(ValueError, match="is neither a configuration nor a folder, Hub id or mapping"):
            VideoMAEV2Model.from_pretrained(folder, config=config)
    with pytest.raises(ValueError, match="config is not a VideoMAE checkpoint: its configuration has no model_type"):
        VideoMAEV2Model.from_pretrained(folder, config={"hidden_size": 24})

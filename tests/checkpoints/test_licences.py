"""The licence that weights inherit, through chains of runs, and the licences that it refuses."""

import json

import pytest
import yaml
from helpers.commands import videomae
from helpers.trained_models import save_trained

from videomae_hf.checkpoints.licences import Origin, licence_to_state, origin_of, terms


@pytest.fixture(autouse=True)
def offline(monkeypatch):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)


def run(folder, record=None, **settings):
    """An output folder with a record and settings."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "run.json").write_text(json.dumps(record or {}))
    (folder / "settings.yaml").write_text(yaml.safe_dump({name: str(value) for name, value in settings.items()}))
    return folder


def card(folder, **header):
    folder.mkdir(parents=True)
    (folder / "README.md").write_text(f"---\n{yaml.safe_dump(header)}---\n\n# A model\n")
    return folder


NON_COMMERCIAL = Origin("MCG-NJU/videomae-base", "cc-by-nc-4.0")


@pytest.mark.parametrize(
    ("name", "license_name"),
    [
        ("MCG-NJU/videomae-base", "cc-by-nc-4.0"),
        ("MCG-NJU/videomae-huge-finetuned-kinetics", "cc-by-nc-4.0"),
        ("OpenGVLab/VideoMAEv2-Base", "cc-by-nc-4.0"),
        ("me/somewhat-else", None),
    ],
)
def test_published_weights(name, license_name):
    assert origin_of(name) == Origin(name, license_name)


def test_random_weights_have_no_origin(tmp_path):
    assert origin_of(None) == Origin() == origin_of(run(tmp_path / "pretrain"))


def test_a_run_of_a_run_of_published_weights(tmp_path):
    pretrain = run(tmp_path / "pretrain", {"base_model": "MCG-NJU/videomae-base"})
    finetune = run(tmp_path / "finetune", {"base_model": None}, checkpoint=pretrain)
    assert origin_of(finetune) == NON_COMMERCIAL
    assert origin_of(run(tmp_path / "other", checkpoint="output/pretrain")) == Origin()  # of another working directory
    for name in ("checkpoint-100", "checkpoint-100/ema", "ema"):
        (finetune / name).mkdir()
    (finetune / "checkpoint-100/run.json").write_text("{}")  # which does not know the base model
    for name in ("checkpoint-100", "checkpoint-100/ema", "ema"):
        assert origin_of(finetune / name) == NON_COMMERCIAL, name


def test_the_record_holds_when_the_base_is_gone(tmp_path):
    moved = run(tmp_path / "moved", {"base_model": None, "base_license": "cc-by-nc-4.0"}, checkpoint="/gone/pretrain")
    assert origin_of(moved) == Origin(None, "cc-by-nc-4.0")


def test_a_teacher_passes_its_licence_on_and_is_no_base_model(tmp_path):
    assert origin_of(None, "MCG-NJU/videomae-base") == Origin(None, "cc-by-nc-4.0")
    assert origin_of(run(tmp_path / "run", teacher="MCG-NJU/videomae-base")) == Origin(None, "cc-by-nc-4.0")


def test_adapters_inherit_from_what_they_adapt(tmp_path):
    folder = tmp_path / "adapter"
    folder.mkdir()
    (folder / "adapter_config.json").write_text(json.dumps({"base_model_name_or_path": "MCG-NJU/videomae-base"}))
    assert origin_of(folder) == NON_COMMERCIAL


def test_folders_of_published_weights(tmp_path):
    snapshot = tmp_path / "models--MCG-NJU--videomae-base" / "snapshots" / "0123"
    snapshot.mkdir(parents=True)
    assert origin_of(snapshot) == Origin(None, "cc-by-nc-4.0")
    (tmp_path / "MCG-NJU" / "videomae-base").mkdir(parents=True)
    assert origin_of(tmp_path / "MCG-NJU" / "videomae-base") == Origin(None, "cc-by-nc-4.0")


def test_the_card_of_a_folder(tmp_path):
    assert origin_of(card(tmp_path / "a", license="mit")) == Origin(None, "mit")
    derived = card(tmp_path / "b", license="mit", base_model="MCG-NJU/videomae-base")
    assert origin_of(derived) == NON_COMMERCIAL
    listed = card(tmp_path / "c", license=["cc-by-sa-4.0"], base_model=["me/somewhat-else"])
    assert origin_of(listed) == Origin("me/somewhat-else", "cc-by-sa-4.0")
    assert origin_of(card(tmp_path / "d", license={"name": "mit"})) == Origin()


@pytest.mark.parametrize("text", ["", "# no header", "---\nlicense: [mit\n---\n", "---\n- a list\n---\n", "\xff\xfe"])
def test_cards_without_metadata(tmp_path, text):
    (tmp_path / "README.md").write_text(text, encoding="latin-1")
    assert origin_of(tmp_path) == Origin()


def test_converted_weights_keep_their_origin(tmp_path):
    save_trained(tmp_path / "model")
    (tmp_path / "model" / "README.md").write_text("---\nlicense: cc-by-nc-4.0\nbase_model: them/base\n---\n")
    for layout in ("ours", "transformers"):
        videomae("convert", tmp_path / "model", tmp_path / layout, "--to", layout)
        assert origin_of(tmp_path / layout) == Origin("them/base", "cc-by-nc-4.0")
    save_trained(tmp_path / "own")
    videomae("convert", tmp_path / "own", tmp_path / "converted")
    assert not (tmp_path / "converted" / "README.md").exists()


def test_circles_end(tmp_path):
    first, second = tmp_path / "first", tmp_path / "second"
    run(first, checkpoint=second)
    run(second, checkpoint=first)
    assert origin_of(first) == Origin()


@pytest.mark.parametrize("stated", [None, "cc-by-nc-4.0", "CC-BY-NC-4.0", "cc-by-nc-sa-4.0", "cc-by-nc-nd-4.0"])
def test_licences_that_keep_the_terms(stated):
    assert licence_to_state(stated, NON_COMMERCIAL, override=False) == (stated or "cc-by-nc-4.0")


@pytest.mark.parametrize(
    ("stated", "inherited", "compared"),
    [
        ("apache-2.0", "cc-by-nc-4.0", "is freer than"),
        ("mit", "cc-by-nc-4.0", "is freer than"),
        ("cc-by-4.0", "cc-by-nc-4.0", "is freer than"),
        ("cc-by-sa-4.0", "cc-by-nc-sa-4.0", "is freer than"),
        ("apache-2.0", "gpl-3.0", "is freer than"),
        ("openrail", "cc-by-nc-4.0", "cannot be compared with"),
        ("apache-2.0", "my-own", "cannot be compared with"),
    ],
)
def test_freer_licences_are_refused(stated, inherited, compared):
    origin = Origin("them/base", inherited)
    message = (
        f"--license {stated} {compared} {inherited}, the licence of them/base that these weights inherit. Leave out"
    )
    with pytest.raises(ValueError, match=message):
        licence_to_state(stated, origin, override=False)
    assert licence_to_state(stated, origin, override=True) == stated


def test_permissive_and_unknown_origins_refuse_nothing():
    assert licence_to_state("cc-by-nc-4.0", Origin("a/b", "apache-2.0"), override=False) == "cc-by-nc-4.0"
    assert licence_to_state("my-own", Origin("a/b", "mit"), override=False) == "my-own"
    assert licence_to_state("mit", Origin("a/b"), override=False) == "mit"
    assert licence_to_state(None, Origin(), override=False) is None


def test_terms_of_licences():
    assert terms("cc-by-nc-sa-4.0") == {"nc", "sa"} and terms("mit") == frozenset() and terms("lgpl-2.1") == {"sa"}
    assert terms("other") is None

"""The folder for the Hub: its card, pictures, shards, the copy for transformers, and that nothing private is in it."""

import io
import json

import numpy as np
import pytest
import torch
import yaml
from helpers.shared import TINY, randomize
from helpers.trained_models import CLASSES, save_trained
from PIL import Image
from safetensors.torch import load_file
from transformers import VideoMAEForVideoClassification

from videomae_hf import VideoMAEV2Config, VideoMAEV2ForPreTraining, VideoMAEV2ForVideoClassification
from videomae_hf.checkpoints.bundle import (
    build_bundle,
    build_transformers_copy,
    copy_to_resume,
    read_checkpoint,
    refuse_private,
    verify_bundle,
)
from videomae_hf.checkpoints.card_pictures import confusion_picture
from videomae_hf.checkpoints.model_card import Publication
from videomae_hf.checkpoints.run_folders import missing_file
from videomae_hf.data.sources.synthetic import synthesise_video, write_video


HISTORY = [
    {"step": 10, "epoch": 0.5, "loss": 2.5, "learning_rate": 1e-3},
    {"step": 20, "epoch": 1.0, "loss": 1.25},
    {"step": 20, "epoch": 1.0, "eval_loss": 1.5, "eval_top1": 0.25},
    {"step": 40, "epoch": 2.0, "loss": 0.5},
    {"step": 40, "epoch": 2.0, "eval_loss": 0.75, "eval_top1": 0.5, "eval_runtime": 3.0},
]
METRICS = {
    "eval_top1": 0.75, "classes": list(CLASSES), "confusion_matrix": [[3, 1, 0], [0, 4, 0], [1, 0, 3]],
}  # fmt: skip


@pytest.fixture
def run(tmp_path):
    """The output folder of a finetuning run that started from published weights."""
    folder = save_trained(tmp_path / "run")
    record = {"base_model": "MCG-NJU/videomae-base", "settings": {"learning_rate": 0.001, "teacher": "/home/me/t"}}
    (folder / "run.json").write_text(json.dumps(record))
    (folder / "trainer_state.json").write_text(json.dumps({"log_history": HISTORY}))
    return folder


@pytest.fixture(autouse=True)
def offline(monkeypatch):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)


def built(source, folder, **options) -> tuple[str, dict]:
    """The text of the card of a bundle, and its metadata."""
    build_bundle(read_checkpoint(str(source)), Publication("me/moves", **options), folder)
    card = (folder / "README.md").read_text()
    return card, yaml.safe_load(card.split("---\n")[1])


def test_a_card_says_how_training_went(run, tmp_path):
    card, header = built(run, tmp_path / "bundle")
    assert """
| step | epoch | training loss | evaluation loss | top-1 accuracy |
|---|---|---|---|---|
| 20 | 1 | 1.25 | 1.5 | 25.00 % |
| 40 | 2 | 0.5 | 0.75 | 50.00 % |

""" in card  # fmt: skip
    assert "| learning_rate | `0.001` |" in card and "/home/me" not in card and "| top-1 accuracy | 50.00 % |" in card
    assert header["library_name"] == "transformers" and header["pipeline_tag"] == "video-classification"
    assert header["base_model"] == "MCG-NJU/videomae-base" and header["license"] == "cc-by-nc-4.0"
    assert header["model-index"][0]["results"][0]["metrics"] == [
        {"type": "accuracy", "value": 0.5, "name": "top-1 accuracy"}
    ]
    assert "@inproceedings{tong2022videomae," in card and "@inproceedings{wang2023videomaev2," in card
    assert 'pipeline("video-classification", model="me/moves", trust_remote_code=True)' in card and "$" not in card


def test_the_log_stands_for_evaluations_and_is_thinned(run, tmp_path):
    losses = [{"step": step, "loss": 1 / step} for step in range(1, 101)]
    (run / "trainer_state.json").write_text(json.dumps({"log_history": [*losses, {"train_runtime": 1.0}]}))
    card, _ = built(run, tmp_path / "bundle")
    rows = [line for line in card.splitlines() if line.startswith("| ") and line.endswith(" |") and line[2].isdigit()]
    assert len(rows) == 20 and rows[0] == "| 1 | 1 |" and rows[-1] == "| 100 | 0.01 |"


@pytest.mark.parametrize("history", [None, "x", [1, {"loss": "<b>"}], [{"step": None, "loss": [1]}]])
def test_odd_logs_leave_the_table_out(run, tmp_path, history):
    (run / "trainer_state.json").write_text(json.dumps({"log_history": history}))
    card, _ = built(run, tmp_path / "bundle")
    assert "training loss" not in card and "<b>" not in card


def test_scores_of_an_earlier_step_are_not_those_of_the_model(run, tmp_path):
    state = {"log_history": [*HISTORY, {"step": 60, "loss": 0.25}]}
    (run / "trainer_state.json").write_text(json.dumps(state))
    card, header = built(run, tmp_path / "bundle")
    assert "model-index" not in header and "Not stated." in card


def test_a_confusion_matrix_next_to_the_checkpoint_becomes_a_picture(run, tmp_path):
    (run / "metrics.json").write_text(json.dumps(METRICS))
    card, _ = built(run, tmp_path / "bundle")
    assert "](pictures/confusion_matrix.png)" in card and "| top-1 accuracy | 75.00 % |" in card
    content = (tmp_path / "bundle" / "pictures" / "confusion_matrix.png").read_bytes()
    assert Image.open(io.BytesIO(content)).size == (170 + 3 * 186 + 8,) * 2
    built(run, tmp_path / "again")
    assert (tmp_path / "again" / "pictures" / "confusion_matrix.png").read_bytes() == content  # no second commit


def test_metrics_of_another_model_are_refused(run):
    (run / "metrics.json").write_text(json.dumps({**METRICS, "classes": ["a", "b", "c"]}))
    with pytest.raises(ValueError, match=r"metrics.json is of a model with other classes than .*; evaluate this model"):
        read_checkpoint(str(run))


def test_shades_of_a_confusion_matrix():
    picture = confusion_picture([[2, 2], [0, 0]], ["a very long name of a class " * 9, "b"])
    corner = [picture.getpixel((170 + column * 280 + 5, 170 + row * 280 + 5)) for row in (0, 1) for column in (0, 1)]
    assert corner == [(132, 152, 181), (132, 152, 181), (255, 255, 255), (255, 255, 255)]  # half, half, no videos
    assert confusion_picture(np.eye(700, dtype=int).tolist(), ["x"] * 700).size == (732, 732)
    for matrix in ([[1]], [[1, 2], [3]], [[1, 2], [3, 4.0]], [[1, 2], [3, -4]], [[1, 2], [3, True]]):
        with pytest.raises(ValueError, match="The confusion matrix must"):
            confusion_picture(matrix, ["a", "b"])


def test_reconstructions_are_shown_when_asked_for(run, tmp_path):
    for number in (0, 1, 10):
        folder = run / "reconstructions" / f"video_{number}"
        folder.mkdir(parents=True)
        for step in (5, 100):
            Image.new("RGB", (number + 1, step)).save(folder / f"step_{step:08d}.png")
    card, _ = built(run, tmp_path / "without")
    assert not (tmp_path / "without" / "pictures").exists() and "reconstruction" not in card.lower()
    card, _ = built(run, tmp_path / "with", reconstructions=2)
    assert "](pictures/reconstruction_2.png)" in card and "reconstruction_3" not in card
    sizes = [Image.open(tmp_path / "with" / "pictures" / f"reconstruction_{n}.png").size for n in (1, 2)]
    assert sizes == [(1, 100), (2, 100)]
    (run / "checkpoint-100").mkdir()
    for file in run.glob("*.*"):
        (run / "checkpoint-100" / file.name).write_bytes(file.read_bytes())
    assert "reconstruction_1.png" in built(run / "checkpoint-100", tmp_path / "inner", reconstructions=1)[0]


def test_reconstructions_of_a_run_without_any(run, tmp_path):
    with pytest.raises(ValueError, match="has no pictures of reconstructions; a pretraining writes them with"):
        built(run, tmp_path / "bundle", reconstructions=1)


def test_an_example_for_the_widget(run, tmp_path):
    video = tmp_path / "secret holiday.MP4"
    write_video(video, synthesise_video("left", np.random.default_rng(0)))
    card, header = built(run, tmp_path / "bundle", example=video)
    assert header["widget"] == [
        {"src": "https://huggingface.co/me/moves/resolve/main/example.mp4", "example_title": "Example"}
    ]
    assert (tmp_path / "bundle" / "example.mp4").read_bytes() == video.read_bytes() and "secret" not in card
    (tmp_path / "no.mp4").write_text("no video")
    with pytest.raises((ValueError, OSError), match="no.mp4"):
        built(run, tmp_path / "other", example=tmp_path / "no.mp4")
    assert not (tmp_path / "other").exists()


def test_a_licence_is_refused_before_anything_is_written(run, tmp_path):
    with pytest.raises(
        ValueError, match="--license mit is freer than cc-by-nc-4.0, the licence of MCG-NJU/videomae-base"
    ):
        built(run, tmp_path / "bundle", license="mit")
    assert not (tmp_path / "bundle").exists()
    card, header = built(run, tmp_path / "bundle", license="mit", license_override=True)
    assert header["license"] == "mit"
    assert (
        "`mit`, for the weights, as stated by the author; `MCG-NJU/videomae-base` is licensed under `cc-by-nc" in card
    )


def test_shards_hold_the_same_weights(run, tmp_path):
    built(run, tmp_path / "bundle", max_shard_size="20KB")
    names = sorted(path.name for path in (tmp_path / "bundle").glob("*.safetensors*"))
    assert names[0].startswith("model-00001-of-") and names[-1] == "model.safetensors.index.json" and len(names) > 2
    shards = [load_file(path) for path in (tmp_path / "bundle").glob("*.safetensors")]
    weights = {name: value for shard in shards for name, value in shard.items()}
    torch.testing.assert_close(weights, load_file(run / "model.safetensors"), rtol=0, atol=0)


def test_a_copy_for_transformers_is_exact_but_for_its_epsilon(run, tmp_path):
    lines = build_transformers_copy(read_checkpoint(str(run)), Publication("me/moves"), tmp_path / "copy")
    assert {path.name for path in (tmp_path / "copy").iterdir()} == {
        "README.md", "config.json", "model.safetensors", "preprocessor_config.json"
    }  # fmt: skip
    pixels = torch.randn(1, 4, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    theirs = VideoMAEForVideoClassification.from_pretrained(tmp_path / "copy").eval()
    ours = VideoMAEV2ForVideoClassification.from_pretrained(run).eval()
    with torch.no_grad():
        torch.testing.assert_close(theirs(pixels).logits, ours(pixels).logits, rtol=0, atol=1e-4)
    card = (tmp_path / "copy" / "README.md").read_text()
    assert 'from_pretrained("me/moves", revision="transformers")' in card and "trust_remote_code" not in card
    assert f"- {lines[0].strip()}" in card and "outputs on a random clip differ by at most" in card


def test_a_copy_that_cannot_be_exact_is_refused(tmp_path):
    folder = save_trained(tmp_path / "run", use_cosine_attention=True)
    with pytest.raises(ValueError, match=r"transformers' VideoMAE cannot express cosine attention"):
        build_transformers_copy(read_checkpoint(str(folder)), Publication("me/moves"), tmp_path / "copy")


@pytest.mark.parametrize("place", ["home", "token"])
def test_paths_and_tokens_are_found(run, tmp_path, monkeypatch, place):
    monkeypatch.setenv("HOME", "/home/somebody")
    monkeypatch.setenv("HF_TOKEN", "hf_secret")
    private = {"home": "/home/somebody/videos", "token": "a hf_secret b"}[place]
    config = json.loads((run / "config.json").read_text())
    (run / "config.json").write_text(json.dumps({**config, "my_note": private}))
    with pytest.raises(ValueError, match=r"config.json has (a path in your home folder|the token for the Hub), which"):
        built(run, tmp_path / "bundle")


def test_names_that_only_begin_like_the_home_folder_are_not_private(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", "/root")
    (tmp_path / "config.json").write_text('{"id2label": {"0": "beet/root", "1": "/rooted/x"}}')
    refuse_private(tmp_path)


def test_a_pretrained_model_and_its_bundle(tmp_path):
    randomize(VideoMAEV2ForPreTraining(VideoMAEV2Config(**TINY))).save_pretrained(tmp_path / "run")
    (tmp_path / "run" / "run.json").write_text('{"command": "pretrain", "base_model": null}')
    card, header = built(tmp_path / "run", tmp_path / "bundle")
    assert "pipeline_tag" not in header and "license" not in header and "base_model" not in header
    assert "None was stated for the weights." in card and "AutoModelForPreTraining" in card


def test_what_is_kept_to_resume_has_no_path(tmp_path):
    checkpoint, secret = tmp_path / "run" / "checkpoint-2", str(tmp_path / "run")
    (checkpoint / "ema").mkdir(parents=True)
    for name in ("model.safetensors", "optimizer.pt", "scheduler.pt", "rng_state.pth", "ema/model.safetensors"):
        (checkpoint / name).write_bytes(b"tensors")
    (checkpoint / "training_args.bin").write_bytes(secret.encode())
    (checkpoint / "README.md").write_text(f"base_model: {secret}")
    (checkpoint / "adapter_config.json").write_text(json.dumps({"base_model_name_or_path": secret, "r": 2}))
    state = {"best_model_checkpoint": f"{secret}/checkpoint-1", "global_step": 2, "log_history": [], "epoch": 1}
    (checkpoint / "trainer_state.json").write_text(json.dumps(state))
    files = {path.name: path.stat().st_size for path in checkpoint.iterdir() if path.is_file()}
    record = {"files": files, "classes": ["/sit", "and/or"], "settings": {"class_weights": "secret/w", "seed": 1}}
    (checkpoint / "run.json").write_text(json.dumps(record))
    before = {path: path.read_bytes() for path in checkpoint.rglob("*") if path.is_file()}
    copy_to_resume(checkpoint, tmp_path / "copy")
    assert {path: path.read_bytes() for path in before} == before
    copied = {path.relative_to(tmp_path / "copy").as_posix(): path for path in (tmp_path / "copy").rglob("*.*")}
    assert set(copied) == {path.relative_to(checkpoint).as_posix() for path in before} - {
        "training_args.bin",
        "README.md",
    }
    assert not [path for path in copied.values() if secret.encode() in path.read_bytes()]
    assert json.loads(copied["adapter_config.json"].read_text()) == {"base_model_name_or_path": None, "r": 2}
    assert json.loads(copied["trainer_state.json"].read_text())["best_model_checkpoint"] == "checkpoint-1"
    record = json.loads(copied["run.json"].read_text())
    assert record["settings"] == {"seed": 1} and record["classes"] == ["/sit", "and/or"]
    assert missing_file(tmp_path / "copy") is None  # complete, with the sizes of the new files


def test_the_card_of_a_model_of_images(tmp_path):
    """It runs as written: its lines name the classes and the pipeline of images."""
    tiny = {**TINY, "num_frames": 1, "tubelet_size": 1, "num_labels": 3}
    config = VideoMAEV2Config.for_images("base", kind="vit", **tiny)
    randomize(VideoMAEV2ForVideoClassification(config)).save_pretrained(tmp_path / "vit")
    card, header = built(tmp_path / "vit", tmp_path / "bundle")
    assert header["pipeline_tag"] == "image-classification" and "image" in header["tags"]
    assert 'pipeline("image-classification", model="me/moves"' in card and 'processor("image.jpg"' in card
    assert "AutoModelForImageClassification.from_pretrained" in card and "video.mp4" not in card
    assert "Vision Transformer: classifies images into 3 classes" in card and "- Clips" not in card
    verify_bundle(read_checkpoint(str(tmp_path / "vit")), tmp_path / "bundle")

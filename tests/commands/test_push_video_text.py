"""Shipping a VideoBERT: a folder with the code of all tasks, its card, and what others run from the Hub."""

import json
import os
import re
import sys
import threading
from pathlib import Path

import pytest
import torch
import yaml
from helpers.commands import run as run_command
from helpers.commands import videomae
from helpers.hub_server import Hub
from helpers.shared import REPO
from helpers.tiny_models import build
from helpers.tiny_videobert import build_videobert, save_videobert

from videomae_hf import (
    VideoBertForCaptioning,
    VideoBertForPreTraining,
    VideoBertForRetrieval,
    VideoBertForVideoClassification,
    VideoBertProcessor,
    VideoMAEV2Model,
)
from videomae_hf.checkpoints.bundle import read_checkpoint
from videomae_hf.checkpoints.model_card import Publication
from videomae_hf.checkpoints.video_text_bundle import name_backbone
from videomae_hf.checkpoints.video_text_card import video_text_card


@pytest.fixture
def hub(monkeypatch):
    server = Hub()
    threading.Thread(target=server.serve_forever, daemon=True).start()
    server.used_here(monkeypatch)
    yield server
    server.shutdown()
    server.server_close()


@pytest.fixture(scope="module")
def pretrained(tmp_path_factory) -> Path:
    """A pretrained model with a backbone inside, and metrics beside it."""
    folder = tmp_path_factory.mktemp("pretrained")
    backbone = build(VideoMAEV2Model)
    backbone.save_pretrained(folder / "encoder")
    model = build_videobert(VideoBertForPreTraining, feature_size=24, vocab_size=14, separator_token_id=13)
    model.video_bert.load_backbone(str(folder / "encoder"))
    save_videobert(model, folder / "model")
    metrics = {"eval_recall_at_1": 0.625, "eval_runtime": 3.5, "epoch": 2.0, "eval_note": "none"}
    (folder / "model" / "metrics.json").write_text(json.dumps(metrics))
    return folder / "model"


LOADING = """
import json, sys
sys.modules["videomae_hf"] = None
import torch
from transformers import AutoModelForImageTextToText, AutoModelForVideoClassification, AutoProcessor
from transformers import AutoModelForZeroShotImageClassification
options = {"trust_remote_code": True}
processor = AutoProcessor.from_pretrained("me/a", **options)
video = processor(videos=[torch.arange(8 * 32 * 32 * 3).reshape(8, 32, 32, 3) % 251])
texts = processor.encode_texts(["a red ball", "a blue cube"])
found = AutoModelForZeroShotImageClassification.from_pretrained("me/a", **options).scores(**texts, **video)
model = AutoModelForImageTextToText.from_pretrained("me/a", **options)
words, _ = next(model.fill(**processor.encode_texts(["a [MASK] ball"]), **video))
AutoModelForVideoClassification.from_pretrained("me/a", num_labels=3, **options)
print(json.dumps([found.tolist(), words.tolist()]))
"""


@pytest.mark.slow
def test_push_and_load_by_id(pretrained, tmp_path, hub, capsys):
    videomae("push", pretrained, "me/a", "--license", "mit", "--dataset", "two shapes")
    assert "verified without videomae_hf" in capsys.readouterr().out
    files = hub.files("me/a")
    assert json.loads(files["config.json"])["auto_map"] == {
        "AutoConfig": "configuration_videobert.VideoBertConfig",
        "AutoModel": "modeling_videobert.VideoBertModel",
        "AutoModelForPreTraining": "modeling_videobert_pretraining.VideoBertForPreTraining",
        "AutoModelForImageTextToText": "modeling_videobert_tasks.VideoBertForCaptioning",
        "AutoModelForZeroShotImageClassification": "modeling_videobert_tasks.VideoBertForRetrieval",
        "AutoModelForVideoClassification": "modeling_videobert_tasks.VideoBertForVideoClassification",
    }
    code = {path.name for path in (REPO / "videomae_hf" / "models").glob("*.py")} - {"__init__.py"}
    assert {name for name in files if name.endswith(".py")} == code
    assert {"processor_config.json", "tokenizer.json", "README.md", "model.safetensors"} <= set(files)
    card = files["README.md"].decode()
    header = yaml.safe_load(card.split("---")[1])
    assert header["license"] == "mit" and header["tags"] == ["videobert", "video", "text"]
    metrics = header["model-index"][0]["results"][0]["metrics"]
    assert [(metric["type"], metric["value"]) for metric in metrics] == [("recall_at_1", 0.625)]
    assert "| `recall_at_1` | 0.625 |" in card and "by an encoder within the model" in card
    assert "Segments: 4 frames, 4 apart; up to 16 of a video" in card
    environment = {**os.environ, **hub.environment(tmp_path)}
    done = run_command([sys.executable, "-c", LOADING], cwd=tmp_path, env=environment)
    assert done.returncode == 0, done.stderr
    scores, words = json.loads(done.stdout.splitlines()[-1])
    processor = VideoBertProcessor.from_pretrained(pretrained)
    video = processor(videos=[torch.arange(8 * 32 * 32 * 3).reshape(8, 32, 32, 3) % 251])
    texts = processor.encode_texts(["a red ball", "a blue cube"])
    expected = VideoBertForRetrieval.from_pretrained(pretrained).eval().scores(**texts, **video)
    torch.testing.assert_close(torch.tensor(scores), expected, rtol=1e-4, atol=1e-5)
    captioning = VideoBertForCaptioning.from_pretrained(pretrained).eval()
    filled = next(captioning.fill(**processor.encode_texts(["a [MASK] ball"]), **video))
    assert words == filled[0].tolist()


def code_blocks(card: str) -> str:
    return re.search(r"```python\n(.*?)```", card, re.DOTALL)[1]


def test_the_code_of_the_card_runs(pretrained, tmp_path, hub):
    """Each task, with the folder in place of the repository; features come from the encoder that is named."""
    hub.repositories["me/encoder"] = {"README.md": b"---\nlicense: cc-by-nc-4.0\n---\n"}
    for model_class, expected in (
        (VideoBertForPreTraining, "model.fill"),
        (VideoBertForCaptioning, "model.generate"),
        (VideoBertForVideoClassification, "id2label"),
    ):
        folder = tmp_path / model_class.__name__
        save_videobert(build_videobert(model_class, feature_size=24, vocab_size=14, separator_token_id=13), folder)
        checkpoint = read_checkpoint(str(folder))
        name_backbone(checkpoint, Publication("me/a", backbone="me/encoder"))
        assert checkpoint.origin.license == "cc-by-nc-4.0"  # of the features
        assert "features of `me/encoder`" in (card := video_text_card(checkpoint, Publication("me/a")))
        assert expected in (code := code_blocks(card))
        frames = "list(torch.zeros(1, 8, 32, 32, 3, dtype=torch.uint8))"
        code = code.replace('"me/a", trust_remote_code=True', f"{str(folder)!r}").replace('["video.mp4"]', frames)
        code = code.replace('"me/encoder"', repr(str(pretrained.parent / "encoder")))
        exec(code, {"torch": torch})
    assert "(videos, texts)" in code_blocks(video_text_card(read_checkpoint(str(pretrained)), Publication("me/a")))


@pytest.mark.parametrize(
    "options, message",
    [
        ([], "takes features of segments, but does not name the model that computes them: give --backbone USER/NAME"),
        (["--backbone", "PLACE"], "a folder that others do not have"),
        (["--backbone", 'me/b"); print("'], "a folder that others do not have"),
        (["--backbone", "me/b", "--also_transformers"], "is a VideoBERT, which transformers lacks"),
        (["--backbone", "me/b", "--space"], "leave it out"),
        (["--backbone", "me/b", "--reconstructions", "2"], "leave --example and --reconstructions out"),
    ],
)
def test_mistakes_end_in_one_line(tmp_path, hub, options, message):
    save_videobert(build_videobert(VideoBertForCaptioning, vocab_size=14, separator_token_id=13), tmp_path / "model")
    options = [str(tmp_path) if one == "PLACE" else one for one in options]
    with pytest.raises(ValueError, match=message):
        videomae("push", tmp_path / "model", "me/a", "--dry_run", tmp_path / "out", *options)


def test_a_backbone_of_its_own_and_an_untrained_head(pretrained, tmp_path):
    with pytest.raises(ValueError, match="has a backbone of its own: leave --backbone me/b out"):
        videomae("push", pretrained, "me/a", "--dry_run", tmp_path / "out", "--backbone", "me/b")
    folder = tmp_path / "model"
    save_videobert(build_videobert(VideoBertForRetrieval, vocab_size=14, separator_token_id=13), folder)
    content = json.loads((folder / "config.json").read_text()) | {"architectures": ["VideoBertForCaptioning"]}
    (folder / "config.json").write_text(json.dumps(content))
    with pytest.raises(ValueError, match="has no trained cls"):
        read_checkpoint(str(folder))
    content |= {"vocab_size": 14, "separator_token_id": 12, "architectures": ["VideoBertForRetrieval"]}
    (folder / "config.json").write_text(json.dumps(content))
    with pytest.raises(ValueError, match="has separator_token_id=12, but its tokenizer has 13"):
        read_checkpoint(str(folder))

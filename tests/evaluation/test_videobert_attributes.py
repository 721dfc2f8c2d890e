"""The demo's scores by attribute: what is compared with what, and that no knowledge scores chance."""

import importlib.util
from types import SimpleNamespace

import pytest
import torch
from helpers.shared import REPO

from videomae_hf import VideoBertProcessor, VideoMAEV2ImageProcessor
from videomae_hf.data.sources.synthetic_captions import ATTRIBUTES, caption_of, combinations
from videomae_hf.data.word_tokenizer import word_tokenizer


@pytest.fixture(scope="module")
def script():
    path = REPO / "examples" / "experiments" / "videobert_attributes.py"
    spec = importlib.util.spec_from_file_location("videobert_attributes", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_contrasts_differ_in_one_word(script):
    assert script.contrasts("a red bar left on black", "shape") == [
        *("a red bar left on black", "a red disc left on black", "a red rails left on black"),
        "a red horseshoe left on black",
    ]
    assert len(script.contrasts("a red bar left on black", "motion")) == 8


def test_conditions(script):
    features = torch.arange(24.0).view(2, 4, 1, 3)
    generator = torch.Generator().manual_seed(0)
    shown, mask = script.changed(features, "text", generator)
    assert not mask.any()
    shown, mask = script.changed(features, "repeated", generator)
    assert mask.all() and torch.equal(shown, features[:, :1].repeat(1, 4, 1, 1))
    shown, _ = script.changed(features, "shuffled", generator)
    assert torch.equal(shown.sort(dim=1).values, features) and not torch.equal(shown, features)


def test_equal_scores_are_chance(script):
    captions = [caption_of(words) for words in combinations(held_out=True)]
    processor = VideoBertProcessor(VideoMAEV2ImageProcessor(num_frames=2), word_tokenizer(captions))

    def model(input_ids, *video):
        return SimpleNamespace(logits=torch.zeros(len(input_ids), 1))

    def knowing(input_ids, *video):
        """Prefers "left", whatever the video shows."""
        left = processor.tokenizer.get_vocab()["left"]
        return SimpleNamespace(logits=(input_ids == left).any(dim=1, keepdim=True).float())

    features, mask = torch.zeros(64, 2, 1, 3), torch.ones(64, 2, dtype=torch.bool)
    scores = script.contrast_scores(model, processor, features, mask, captions)
    assert all(scores[f"contrast_{name}"] == 0.5 for name in ATTRIBUTES)
    scores = script.contrast_scores(knowing, processor, features, mask, captions)
    assert scores["contrast_motion"] == pytest.approx(0.5) and scores["recall1_motion"] == pytest.approx(1 / 8)

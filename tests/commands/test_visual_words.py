"""`videomae visual-words`: clusters of features, from a folder to a model."""

import json

import numpy as np
import pytest
import torch
from helpers.commands import videomae
from helpers.tiny_videobert import build_videobert

from videomae_hf import VideoBertForPreTraining, VisualWords
from videomae_hf.evaluation.clustering import fit_visual_words, relative_error
from videomae_hf.inference.feature_folder import FeatureWriter
from videomae_hf.inference.inputs import Input


HEADER = {"key": "k", "model": "m", "dtype": "float32", "layout": "safetensors", "processor": {}, "weights": "w"}


def features_folder(path, videos: list[torch.Tensor], kind: str = "pooled"):
    """A folder of features, of one window of two frames after the other."""
    header = {**HEADER, "features": kind, "shape": list(videos[0].shape[1:]), "windows": {"length": 2}}
    inputs = [Input(f"/videos/{number}.mp4", "", f"{number}.mp4") for number in range(len(videos))]
    writer = FeatureWriter(path, header)
    writer.plan(inputs)
    for one, values in zip(inputs, videos):
        file, frames = writer.open(one), np.arange(len(values))[:, None] * 2 + [0, 2]
        file.add(values, frames.astype(float), frames)
        writer.add(one, file)
    writer.finish()
    return path


def clusters(number: int, rows: int, seed: int = 0) -> torch.Tensor:
    """Rows of 5 values around `number` centres, in turns, with a large offset."""
    generator = torch.Generator().manual_seed(seed)
    centres = torch.randn(number, 5, generator=generator) * 10 + 100
    return centres[torch.arange(rows) % number] + torch.randn(rows, 5, generator=generator) * 0.01


def test_flat_words_are_the_centres(tmp_path, capsys):
    rows = clusters(4, 80)
    folder = features_folder(tmp_path / "features", [rows[:30], rows[30:]])
    videomae("visual-words", folder, tmp_path / "words", "--branching", 4, "--depth", 1)
    printed = capsys.readouterr().out
    assert "4 words of 5 values from 80 features (flat); distance to their words: 0.000 of the variance" in printed
    words = VisualWords.load(tmp_path / "words")
    torch.testing.assert_close(words.mean, rows.mean(dim=0))
    torch.testing.assert_close(words.std, rows.std(dim=0, correction=0))
    found = words.assign(rows)
    assert torch.equal(found, found[:4].repeat(20)) and sorted(found[:4].tolist()) == [0, 1, 2, 3]
    content = json.loads((tmp_path / "words" / "visual_words.json").read_text())
    assert content["clustering"] == "flat" and content["of"]["key"] == "k" and content["visual_words"] == 4
    fields = {"visual_words": 4, "video_loss": "words"}
    model = build_videobert(VideoBertForPreTraining, **fields)
    model.video_bert.set_visual_words(words)
    model.save_pretrained(tmp_path / "model")
    embeddings = VideoBertForPreTraining.from_pretrained(tmp_path / "model").video_bert.video_embeddings
    assert torch.equal(embeddings.words_of(embeddings.standardized(rows)), found)
    with pytest.raises(ValueError, match="visual_words.json exists already"):
        videomae("visual-words", folder, tmp_path / "words", "--branching", 4, "--depth", 1)


def test_a_tree_of_words(monkeypatch):
    monkeypatch.setattr("videomae_hf.evaluation.clustering.MOST_FLAT", 8)
    rows = clusters(27, 2700).numpy()
    words = fit_visual_words(rows, 3, 3, torch.Generator().manual_seed(0))
    assert words.origin == {"clustering": "hierarchical", "branching": 3, "depth": 3, "rows": 2700}
    assert 20 <= len(words.centroids) <= 27 and relative_error(rows, words) < 0.1
    again = fit_visual_words(rows, 3, 3, torch.Generator().manual_seed(0))
    assert torch.equal(words.centroids, again.centroids)


def test_a_constant_dimension_and_equal_features():
    rows = clusters(2, 40).numpy()
    rows[:, 2] = 7.0
    words = fit_visual_words(rows, 2, 1)
    assert words.std[2] == 1 and words.mean[2] == 7
    with pytest.raises(ValueError, match=r"too few for 12\^4 = 20,736 words"):
        fit_visual_words(rows, 12, 4)
    rows[3, 1] = np.inf
    with pytest.raises(ValueError, match="features are not finite"):
        fit_visual_words(rows, 2, 1)


def test_maps_become_places(tmp_path, capsys):
    """Two slices of 2 x 2 patches: each place of a segment is a feature, the mean over time."""
    generator = torch.Generator().manual_seed(0)
    maps = torch.randn(6, 2, 2, 2, 5, generator=generator)
    folder = features_folder(tmp_path / "maps", [maps], "maps")
    options = ["--branching", 2, "--depth", 1, "--tokens_per_segment", 4]
    videomae("visual-words", folder, tmp_path / "words", *options)
    assert "from 24 features" in capsys.readouterr().out
    torch.testing.assert_close(VisualWords.load(tmp_path / "words").mean, maps.mean(dim=(0, 1, 2, 3)))
    expected = maps.mean(dim=1).view(24, 5).std(dim=0, correction=0)
    torch.testing.assert_close(VisualWords.load(tmp_path / "words").std, expected)
    videomae("visual-words", folder, tmp_path / "sample", *options, "--max_rows", 10)
    assert "from 10 features" in capsys.readouterr().out


@pytest.mark.parametrize(
    "options, message",
    [
        (["--branching", 1], "branching=1 and depth=4 must be at least 2 and 1"),
        (["--branching", 12, "--depth", 9], "give at most 1,048,576 words"),
        (["--tokens_per_segment", 4], "features=pooled, of which tokens_per_segment=4 cannot be made"),
        (["--max_rows", 1], "--max_rows 1 must be at least 2"),
    ],
)
def test_mistakes_are_one_line(options, message, tmp_path):
    folder = features_folder(tmp_path / "features", [clusters(2, 10)])
    with pytest.raises(ValueError, match=message):
        videomae("visual-words", folder, tmp_path / "words", *options)

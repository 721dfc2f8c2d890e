"""The functions behind the buttons of `videomae app`, without the page."""

import numpy as np
import pytest
import torch
from helpers.commands import videomae
from helpers.shared import TINY, randomize
from helpers.trained_models import save_trained, write_three_motions

import videomae_hf
from videomae_hf import VideoMAEV2Config, VideoMAEV2ForPreTraining, VideoMAEV2Model
from videomae_hf.inference import showcase
from videomae_hf.inference.inputs import Input
from videomae_hf.inference.showcase import open_showcase


pytest.importorskip("matplotlib")


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """A classifier, a pretrained model, and two videos in a folder."""
    place = tmp_path_factory.mktemp("place")
    save_trained(place / "classifier")
    randomize(VideoMAEV2ForPreTraining(VideoMAEV2Config(**TINY))).save_pretrained(place / "pretrained")
    (place / "videos").mkdir()
    write_three_motions(place / "videos" / "short.mp4", 2)
    write_three_motions(place / "videos" / "long.mp4")
    return place


@pytest.fixture(scope="module")
def long(place) -> Input:
    return Input("long.mp4", str(place / "videos" / "long.mp4"))


@pytest.fixture(scope="module")
def classifier(place):
    return open_showcase(place / "classifier", device="cpu")


@pytest.fixture(scope="module")
def pretrained(place):
    return open_showcase(place / "pretrained", device="cpu")


def test_what_a_model_can_show(classifier, pretrained, place, tmp_path):
    assert classifier.describe() == "Classifier of 3 classes, for clips of 4 frames of 32 x 32 pixels"
    assert classifier.name == "classifier" and not classifier.can_reconstruct
    assert pretrained.describe() == "Pretrained model, for clips of 4 frames of 32 x 32 pixels"
    assert pretrained.predictor is None and pretrained.can_reconstruct
    regression = open_showcase(save_trained(tmp_path / "age", "regression"))
    assert regression.describe() == "Model that predicts 1 value, for clips of 4 frames of 32 x 32 pixels"


def test_an_encoder_predicts_nothing(tmp_path):
    VideoMAEV2Model(VideoMAEV2Config(**TINY)).save_pretrained(tmp_path)
    found = open_showcase(tmp_path)
    assert found.predictor is None and not found.can_reconstruct and found.describe().startswith("Encoder, ")


def test_predictions_are_those_of_the_predictor(classifier, long, place):
    predictor = videomae_hf.load(place / "classifier", device="cpu")
    found, wanted = classifier.predict(long, 3, 1), predictor.predict(long.video, num_clips=3, num_crops=1)
    assert torch.equal(found.logits, wanted.logits) and found.name == "long.mp4"
    timeline = classifier.timeline(long, "0.4", "0.2").timeline
    wanted = predictor.predict(long.video, window="0.4", stride="0.2").timeline
    assert torch.equal(timeline.starts, wanted.starts) and torch.equal(timeline.ends, wanted.ends)
    torch.testing.assert_close(timeline.logits, wanted.logits)


def test_a_timeline_ends_after_so_many_windows(classifier, long, monkeypatch):
    """The last window that is shown bounds the thumbnails as well."""
    monkeypatch.setattr(showcase, "MOST_WINDOWS", 3)
    seen = []
    found = classifier.timeline(long, "0.4", "0.2", progress=lambda *state: seen.append(state))
    assert found.timeline.ends.tolist() == pytest.approx([0.4, 0.6, 0.8]) and found.video.end == pytest.approx(0.8)
    assert [number for number, _ in seen] == [1, 2, 3]
    picture = classifier.timeline_picture(found, 0.2)
    assert picture.format == "PNG" and picture.width > 1000
    assert classifier.timeline(long, "2", "2").video == long.video  # two windows


def test_the_default_window_is_the_span_of_a_clip(classifier, tmp_path):
    assert classifier.default_window == "8f"
    spread = open_showcase(save_trained(tmp_path / "spread", processor={"frame_sampling": "uniform"}))
    assert spread.default_window is None


def test_masks_of_a_reconstruction(pretrained, long):
    """Of 2 x 4 x 4 tokens, tubes at 0.9 leave 2 of 16 places, and at 0.5 8."""
    strip, moving, text = pretrained.reconstruction(long, mask_ratio=0.9, decoder_mask_ratio=0.0)
    assert text.startswith("Of 32 tokens the encoder sees 4 (12%).") and text.endswith("all 28 hidden tokens.")
    assert moving.startswith("<video ") and "data:video/mp4;base64," in moving
    half, _, text = pretrained.reconstruction(long, mask_ratio=0.5, mask_type="tube")
    assert text.startswith("Of 32 tokens the encoder sees 16 (50%).") and half.size == strip.size
    again, other = (pretrained.reconstruction(long, seed, mask_ratio=0.5)[0] for seed in (0, 1))
    assert np.array_equal(half, again) and not np.array_equal(half, other)
    assert pretrained.viewer.model.config.mask_ratio == 0.9
    with pytest.raises(ValueError, match="mask_type='spiral'"):
        pretrained.reconstruction(long, mask_type="spiral")
    with pytest.raises(ValueError, match="hides none"):
        pretrained.reconstruction(long, mask_ratio=0.0)


def test_attention_and_evidence(classifier, long):
    assert classifier.attention(long).size == classifier.evidence(long, "run").size
    assert classifier.attention(long, 1).height > classifier.attention(long, 1, 0).height
    assert classifier.attention(long, None, 0).tobytes() == classifier.attention(long, 1, 0).tobytes()  # the last layer


def test_no_folder_of_the_machine_is_shown(tmp_path):
    fields = {"image_mean": (0.1, 0.2, 0.3), "image_std": (0.4, 0.5, 0.6)}
    found = open_showcase(save_trained(tmp_path / "model", **fields), device="cpu")
    assert found.name == "model" and found.messages == [
        "pixels are normalised as in model: mean 0.1, 0.2, 0.3, std 0.4, 0.5, 0.6"
    ]


@pytest.mark.parametrize(("model", "window"), [("classifier", ["--window", "0.4"]), ("pretrained", [])])
def test_nearest_videos(place, long, tmp_path, model, window):
    """A copy of an indexed video finds it; names are those below the folder of all videos."""
    with pytest.raises(SystemExit):
        videomae("extract", place / model, place / "videos", tmp_path / "features", *window, "--device", "cpu")
    found = open_showcase(place / model, tmp_path / "features", device="cpu")
    sheet, rows = found.neighbours.find(long, 3)
    assert rows[0][:2] == [1.0, "long.mp4"] and sheet.width > 1000
    assert {name for _, name, _, _ in rows} <= {"long.mp4", "short.mp4"}
    assert sorted(rows, reverse=True, key=lambda row: row[0]) == rows
    if not window:
        assert [row[1] for row in rows] == ["long.mp4", "short.mp4"]
        with pytest.raises(
            ValueError, match="classifier is not the model of .*features: it has other weights; extract features with"
        ):
            open_showcase(place / "classifier", tmp_path / "features", device="cpu")


def test_names_of_neighbours_hold_no_folder_of_the_machine():
    names = showcase.short_names
    assert names(["/home/me/v/a/1.mp4", "/home/me/v/b/1.mp4"]) == {
        "/home/me/v/a/1.mp4": "a/1.mp4",
        "/home/me/v/b/1.mp4": "b/1.mp4",
    }
    assert names(["/home/me/1.mp4"]) == {"/home/me/1.mp4": "1.mp4"}
    assert names(["/home/me/1.mp4", "https://hub/2.mp4"]) == {
        "/home/me/1.mp4": "1.mp4",
        "https://hub/2.mp4": "2.mp4",
    }

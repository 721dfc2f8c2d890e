"""The page of a VideoBERT: a text box that finds videos and moments of a folder."""

from pathlib import Path

import numpy as np
import pytest
from helpers.commands import videomae
from helpers.page_client import PageClient, free_port
from helpers.tiny_models import build
from helpers.tiny_videobert import build_videobert, save_videobert

from videomae_hf import VideoBertForCaptioning, VideoBertForRetrieval, VideoMAEV2Model
from videomae_hf.commands import app
from videomae_hf.data.sources.synthetic import synthesise_video, write_video
from videomae_hf.inference.feature_folder import FeatureFolder
from videomae_hf.inference.text_search import search_text
from videomae_hf.inference.text_showcase import open_text_showcase
from videomae_hf.inference.video_text import load_video_text
from videomae_hf.inference.windows import Windows


pytest.importorskip("gradio")
pytest.importorskip("httpx")


@pytest.fixture(scope="module")
def place(tmp_path_factory) -> Path:
    """A model with a backbone, two videos, and the features of all of their segments."""
    folder = tmp_path_factory.mktemp("text_app")
    build(VideoMAEV2Model).save_pretrained(folder / "encoder")
    model = build_videobert(VideoBertForRetrieval, vocab_size=14, separator_token_id=13, feature_size=24)
    model.video_bert.load_backbone(str(folder / "encoder"))
    save_videobert(model, folder / "model", sampling_rate=2)
    (folder / "videos").mkdir()
    for name, motion, frames in (("a.mp4", "left", 60), ("b.mp4", "up", 24)):
        write_video(folder / "videos" / name, synthesise_video(motion, np.random.default_rng(0), 48, frames))
    options = ["--window", "16f", "--features", folder / "segments", "--device", "cpu"]
    with pytest.raises(SystemExit) as end:
        videomae("search", folder / "model", folder / "videos", "--text", "a red ball", *options)
    assert end.value.code == 0
    return folder


def test_the_page_finds_videos_and_moments(place):
    from videomae_hf.inference.app_page import launch_page

    model = load_video_text(place / "model", device="cpu")
    folder = FeatureFolder(place / "segments")
    with app.private_folder():
        page = app.build_app(place / "model", index=place / "segments", device="cpu")
        address, _ = launch_page(page, "127.0.0.1", free_port(), "100KB")
        client = PageClient(address)
        for seconds, windows in ((0, None), (1, Windows(1, 0.5))):
            picture, matches, note = client.ask("find", "a green ball", seconds, 3)
            found = search_text(model, "a green ball", folder, list(folder.records), windows, 3)
            rows = [[round(one.score, 3), Path(one.path).name, round(one.start, 2), round(one.end, 2)] for one in found]
            assert matches["data"] == rows and len(rows) == (2 if seconds == 0 else 3)
            assert client.http.get(picture["url"]).content.startswith(b"\x89PNG")
            assert note == "'a green ball': 1 of 3 tokens are unknown to this model"
        assert client.ask("find", " ", 0, 3) == "The text ' ' has no words."
        page.close()
    assert str(place) not in str(page.get_config_file())


def test_what_the_page_refuses(place, tmp_path):
    showcase = open_text_showcase(place / "model", place / "segments", "cpu")
    for values in ((-1, 3), (1000, 3), (0, 0), (0, 51)):
        with pytest.raises(ValueError, match="are out of range"):
            showcase.find("a ball", *values)
    with pytest.raises(ValueError, match="finds videos by words: give --index"):
        app.build_app(place / "model")
    with pytest.raises(ValueError, match="whose page takes words: leave --examples"):
        app.build_app(place / "model", index=place / "segments", examples=place / "videos")
    save_videobert(build_videobert(VideoBertForCaptioning, vocab_size=14, separator_token_id=13), tmp_path)
    with pytest.raises(ValueError, match="has no trained match_head"):
        app.build_app(tmp_path, index=place / "segments")
    other = tmp_path / "other"
    save_videobert(build_videobert(VideoBertForRetrieval, vocab_size=14, separator_token_id=13), other)
    with pytest.raises(ValueError, match=r"has segments features of shape \[1, 24\], but the model takes"):
        app.build_app(other, index=place / "segments")

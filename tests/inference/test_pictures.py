"""Pictures of timelines, of every kind of model and with names of every kind."""

import numpy as np
import pytest
import torch
from helpers.encoded_videos import pictures, write_encoded
from PIL import Image

from videomae_hf import VideoMAEV2ImageProcessor
from videomae_hf.inference.pictures import picture_path, save_timeline_picture, thumbnails
from videomae_hf.inference.predictions import Head, Prediction, Timeline


@pytest.mark.parametrize("kind", ["single_label_classification", "multi_label_classification", "regression"])
def test_a_picture(tmp_path, kind):
    pytest.importorskip("matplotlib")
    head = Head(["$x_{1", "ü\n", *map(str, range(10))], kind)
    starts = torch.arange(5).double()
    logits = torch.randn(5, 12, generator=torch.Generator().manual_seed(0))
    prediction = Prediction("a_$b{\udcff.mp4", head, logits[0], Timeline(starts, starts + 2, logits, head))
    for shape in ((8, 12, 9, 3), (8, 9, 16, 3)):
        save_timeline_picture(prediction, torch.zeros(shape, dtype=torch.uint8), tmp_path / "a.png", threshold=0.1)
        with Image.open(tmp_path / "a.png") as image:
            assert np.asarray(image.convert("L")).std() > 10  # something is shown


def test_thumbnails_are_spread_over_the_video(tmp_path):
    frames = np.arange(0, 240, 3, dtype=np.uint8)[:, None, None, None] * np.ones((1, 96, 128, 3), np.uint8)
    path = write_encoded(tmp_path / "a.mp4", "libx264", frames=frames, crf=1)
    found = thumbnails(str(path), VideoMAEV2ImageProcessor())
    assert found.shape == (8, 120, 160, 3)
    assert found.float().mean(dim=(1, 2, 3)).tolist() == pytest.approx(range(15, 240, 30), abs=2)
    grey = thumbnails(str(write_encoded(tmp_path / "b.mp4", "libx264", frames=pictures(8))),
                      VideoMAEV2ImageProcessor(num_channels=1))  # fmt: skip
    assert grey.shape == (8, 120, 160, 3)


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("videos/a.b.mp4", "a.b.png"),
        ("https://example.org/x/a.mp4?q=../../etc", "etc.png"),
        ("../../..", "video.png"),
        ("a\n\x1b\udcff .mp4", "a.png"),
        ("a.mp4 [2 to 4.5 s]", "a.mp4_2_to_4.png"),
        ("x" * 300 + ".mp4", "x" * 80 + ".png"),
    ],
)
def test_pictures_have_harmless_names_of_their_own(tmp_path, name, expected):
    path = picture_path(tmp_path, name)
    assert path.parent == tmp_path and path.name == expected
    path.touch()
    other = picture_path(tmp_path, name)
    assert other.parent == tmp_path and other.name.startswith(expected.removesuffix(".png") + "-")

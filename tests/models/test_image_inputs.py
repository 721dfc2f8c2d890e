"""Images as inputs: the processor of one frame, image files, transformers' image pipelines, any form of batch."""

import io
import json
import os
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import numpy as np
import pytest
import torch
from helpers.commands import run as run_command
from helpers.image_models import for_images, images, vit
from helpers.indexed_video import write_indexed_video
from helpers.shared import randomize
from PIL import Image
from transformers import AutoModelForImageClassification, pipeline
from transformers.models.auto.image_processing_auto import AutoImageProcessor
from transformers.models.vit.image_processing_pil_vit import ViTImageProcessorPil

from videomae_hf import VideoMAEV2ForVideoClassification, VideoMAEV2ImageProcessor, VideoMAEV2Model
from videomae_hf.checkpoints.opening import checkpoint_processor


PIXELS = np.random.default_rng(0).integers(0, 256, (3, 40, 48, 3), dtype=np.uint8)
PICTURES = [Image.fromarray(pixels) for pixels in PIXELS]
SMALL = {"size": {"shortest_edge": 36}, "crop_size": {"height": 32, "width": 32}, "resample": 3}


@pytest.fixture
def processor():
    return VideoMAEV2ImageProcessor(num_frames=1, **SMALL)


@pytest.mark.parametrize(
    "form",
    [
        lambda: PICTURES,
        lambda: tuple(PICTURES),
        lambda: PIXELS,
        lambda: torch.from_numpy(PIXELS).permute(0, 3, 1, 2),
        lambda: list(PIXELS),
        lambda: [PICTURES[0], PIXELS[1], torch.from_numpy(PIXELS[2])],
        lambda: [[picture] for picture in PICTURES],
        lambda: PIXELS[:, None],
    ],
    ids=["PIL", "tuple", "4-D last", "4-D first", "arrays", "mixed", "lists of one", "5-D"],
)
def test_images_are_a_batch(processor, form):
    expected = torch.stack([processor(picture, return_tensors="pt").pixel_values[0] for picture in PICTURES])
    found = processor(form(), return_tensors="pt").pixel_values
    assert found.shape == (3, 1, 3, 32, 32)
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-6)
    assert torch.equal(processor(images=form(), return_tensors="pt").pixel_values, found)


@pytest.mark.parametrize("form", [lambda: PICTURES[0], lambda: PIXELS[0], lambda: PIXELS[0].transpose(2, 0, 1)])
def test_one_image(processor, form):
    assert processor(form(), return_tensors="pt").pixel_values.shape == (1, 1, 3, 32, 32)


def test_more_frames_are_still_one_video(processor):
    assert processor(PICTURES, num_frames=3, return_tensors="pt").pixel_values.shape == (1, 3, 3, 32, 32)
    assert processor(PICTURES, do_sample_frames=True, return_tensors="pt").pixel_values.shape == (1, 1, 3, 32, 32)
    with pytest.raises(ValueError, match="Pass either videos or images"):
        processor()


class OneImage(BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200)
        self.end_headers()
        self.wfile.write(self.server.content)

    def log_message(self, *_):
        pass


@pytest.mark.parametrize("name", ["a.jpg", "a.png", "a.webp", "a.bmp", "a.tif", "a.gif"])
def test_image_files(tmp_path, processor, name):
    PICTURES[0].save(tmp_path / name, quality=95)
    expected = processor(Image.open(tmp_path / name).convert("RGB"), return_tensors="pt").pixel_values
    for source in (tmp_path / name, str(tmp_path / name), (tmp_path / name).read_bytes()):
        found = processor(source, return_tensors="pt").pixel_values
        assert found.shape == (1, 1, 3, 32, 32)
        torch.testing.assert_close(found, expected, rtol=0, atol=0.05)


def test_jpegs_of_a_url_are_upright(tmp_path, processor):
    """With a thumbnail in its EXIF data, as cameras write them."""
    exif, file = Image.Exif(), io.BytesIO()
    exif[0x0112] = 6  # turned by a quarter
    Image.fromarray(PIXELS[0]).save(file, "JPEG", exif=exif, progressive=True)
    server = ThreadingHTTPServer(("127.0.0.1", 0), OneImage)
    server.content = file.getvalue()
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        found = processor(f"http://127.0.0.1:{server.server_port}/picture", return_tensors="pt").pixel_values
    finally:
        server.shutdown()
        server.server_close()
    upright = Image.open(io.BytesIO(server.content)).transpose(Image.Transpose.ROTATE_270)
    assert torch.equal(found, processor(upright, return_tensors="pt").pixel_values)


def test_a_stream_of_jpegs_remains_a_video(processor):
    from videomae_hf.models.frame_files import read_pages, reader_of

    file = io.BytesIO()
    Image.fromarray(PIXELS[0]).save(file, "JPEG")
    assert reader_of(file.getvalue()) is read_pages
    assert reader_of(file.getvalue() * 2) is None
    assert reader_of(file.getvalue()[:-100]) is read_pages  # cut off, which PIL says


def test_videos_give_one_frame(tmp_path, processor):
    path = write_indexed_video(tmp_path / "clip.mp4", 12)
    assert processor([path, PICTURES[0]], return_tensors="pt").pixel_values.shape == (2, 1, 3, 32, 32)


def test_the_processor_of_vit_is_kept(tmp_path):
    """It squashes images; ours would resize the shorter side and crop."""
    theirs = vit()
    theirs.save_pretrained(tmp_path)
    for content in ({"size": 32}, {"size": {"height": 32, "width": 32}, "resample": 3, "image_mean": [0.4, 0.5, 0.6]}):
        content = {"image_processor_type": "ViTImageProcessor", **content}
        (tmp_path / "preprocessor_config.json").write_text(json.dumps(content))
        their_processor = ViTImageProcessorPil.from_pretrained(tmp_path)
        expected = their_processor(PICTURES, return_tensors="pt").pixel_values
        model = VideoMAEV2ForVideoClassification.from_pretrained(tmp_path)
        for ours in (VideoMAEV2ImageProcessor.from_pretrained(tmp_path), checkpoint_processor(tmp_path, model.config)):
            found = ours(PICTURES, num_frames=1, return_tensors="pt").pixel_values[:, 0]
            assert (found - expected).abs().max() < 2.1 / 255 / 0.5  # PIL rounds after each of its passes
    assert tuple(model.config.image_mean) == (0.4, 0.5, 0.6)


# pipelines


@pytest.fixture
def saved(tmp_path):
    labels = {"id2label": {0: "cat", 1: "dog", 2: "owl"}, "label2id": {"cat": 0, "dog": 1, "owl": 2}}
    model = randomize(VideoMAEV2ForVideoClassification(for_images("vit", **labels)), std=0.3).eval()
    model.save_pretrained(tmp_path / "saved")
    VideoMAEV2ImageProcessor(num_frames=1, **SMALL).save_pretrained(tmp_path / "saved")
    PICTURES[0].save(tmp_path / "picture.png")
    return tmp_path, model


def test_image_pipelines(saved, processor):
    folder, model = saved
    pixel_values = processor(PICTURES[0], return_tensors="pt").pixel_values
    with torch.no_grad():
        expected = dict(zip(("cat", "dog", "owl"), model(pixel_values).logits[0].softmax(-1).tolist()))
        tokens = model.videomae(pixel_values).last_hidden_state
    classify = pipeline("image-classification", model=str(folder / "saved"), device="cpu")
    for image in (PICTURES[0], str(folder / "picture.png")):
        assert {row["label"]: row["score"] for row in classify(image)} == pytest.approx(expected, abs=1e-5)
    assert len(classify(PICTURES[:2], batch_size=2)) == 2
    extract = pipeline("image-feature-extraction", model=str(folder / "saved"), device="cpu")
    found = extract(PICTURES[0], return_tensors=True)
    assert found.shape == (1, 17, 24)
    torch.testing.assert_close(found, tokens)
    torch.testing.assert_close(extract(PICTURES[0], return_tensors=True, pool=True), tokens[:, 0])
    assert type(AutoModelForImageClassification.from_pretrained(folder / "saved")) is VideoMAEV2ForVideoClassification
    assert AutoImageProcessor.from_pretrained(folder / "saved")(PICTURES).pixel_values[2].shape == (1, 3, 32, 32)


def test_image_pipelines_without_the_package(saved):
    folder, _ = saved
    content = json.loads((folder / "saved" / "config.json").read_text())["auto_map"]
    classifier = "modeling_videomae_v2.VideoMAEV2ForVideoClassification"
    assert content["AutoModelForImageClassification"] == content["AutoModelForVideoClassification"] == classifier
    VideoMAEV2Model.from_pretrained(folder / "saved").save_pretrained(folder / "encoder")
    VideoMAEV2ImageProcessor(num_frames=1, **SMALL).save_pretrained(folder / "encoder")
    code = """
from transformers import pipeline
options = {"trust_remote_code": True, "device": "cpu"}
classify = pipeline("image-classification", model="saved", **options)
print(sorted(row["label"] for row in classify("picture.png")))
extract = pipeline("image-feature-extraction", model="encoder", **options)
print(tuple(extract("picture.png", return_tensors=True).shape))
"""
    without_package = "import sys; sys.modules['videomae_hf'] = None\n"
    environment = {**os.environ, "HF_MODULES_CACHE": str(folder / "modules"), "HF_HUB_OFFLINE": "1"}
    done = run_command([sys.executable, "-c", without_package + code], cwd=folder, env=environment)
    assert done.returncode == 0, done.stderr
    printed = done.stdout
    assert "['cat', 'dog', 'owl']" in printed and "(1, 17, 24)" in printed


def test_uint8_images_of_any_form(saved):
    _, model = saved
    pixels = torch.randint(256, (2, 3, 32, 32), generator=torch.Generator().manual_seed(0), dtype=torch.uint8)
    mean, std = (torch.tensor(v).view(3, 1, 1) for v in (model.config.image_mean, model.config.image_std))
    expected = model((pixels / 255 - mean) / std).logits
    torch.testing.assert_close(model(pixels).logits, expected, rtol=0, atol=1e-5)
    views = images(model.config)[:, None, None].expand(-1, 3, -1, -1, -1, -1)  # (B, C, H, W) -> (B, V, T, C, H, W)
    assert model(views).logits.shape == (2, 3)

"""The crops of images in training and evaluation: MAE's, bicubic as Pillow resizes."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch
from helpers.image_models import for_images
from helpers.shared import TINY
from PIL import Image

from videomae_hf import VideoMAEV2Config, VideoMAEV2ImageProcessor
from videomae_hf.commands.finetune import VERB as FINETUNE
from videomae_hf.commands.pretrain import VERB as PRETRAIN
from videomae_hf.data.augmentation.rand_augment import apply_operations
from videomae_hf.data.augmentation.transforms import random_float, random_resized_box, resized
from videomae_hf.data.clips import (
    ClipSampler,
    FinetuneTransform,
    PretrainTransform,
    _View,
    finetune_transform,
    pretrain_transform,
)
from videomae_hf.data.sources.records import VideoRecord
from videomae_hf.models.image_processing_videomae_v2 import clip_options
from videomae_hf.settings.recipes import parse_command_line


PIXELS = np.random.default_rng(0).integers(0, 256, (90, 120, 3), dtype=np.uint8)
ONE = ClipSampler(1)


@pytest.fixture
def image(tmp_path):
    Image.fromarray(PIXELS).save(tmp_path / "a.png")
    return VideoRecord(str(tmp_path / "a.png"), label=0)


def seeded() -> torch.Generator:
    return torch.Generator().manual_seed(3)


def as_pillow(box, size: int) -> torch.Tensor:
    """torchvision's resized_crop on a PIL image: the box, resized bicubic with antialiasing."""
    top, left, height, width = box
    found = Image.fromarray(PIXELS).crop((left, top, left + width, top + height)).resize((size, size), 3)
    return torch.from_numpy(np.array(found)).permute(2, 0, 1)  # (H, W, C) -> (C, H, W)


def close(found: torch.Tensor, expected: torch.Tensor) -> bool:
    return (found.int() - expected.int()).abs().max() <= 1


@pytest.mark.parametrize("shape", [(90, 120), (20, 20), (7, 33)])
def test_bicubic_is_that_of_pillow(shape):
    pixels = PIXELS[: shape[0], : shape[1]]
    found = resized(torch.from_numpy(pixels).permute(2, 0, 1)[None], (32, 32), interpolation="bicubic")[0]
    expected = torch.from_numpy(np.array(Image.fromarray(pixels).resize((32, 32), 3))).permute(2, 0, 1)
    assert close(found, expected)


def test_a_view_of_pretraining(image):
    """The parameters in the order in which they are sampled: frame, box, flip, masks."""
    transform = PretrainTransform(for_images(), ONE, crop_scale=(0.2, 1.0), flip=True, interpolation="bicubic")
    flips = set()
    for seed in range(6):
        item = transform(image, torch.Generator().manual_seed(seed))
        generator = torch.Generator().manual_seed(seed)
        ONE.random_clip(image, generator, pretraining=True)
        box = random_resized_box(90, 120, generator, (0.2, 1.0))
        flip = random_float(0, 1, generator) < 0.5
        expected = as_pillow(box, 32)
        flips.add(flip)
        assert item["pixel_values"].shape == (1, 3, 32, 32) and item["pixel_values"].dtype == torch.uint8
        assert close(item["pixel_values"][0], expected.flip(-1) if flip else expected)
        assert item["visible_ids"].shape == (4,) and item["decoded_ids"].shape == (12,)
    assert flips == {True, False}


def test_operations_follow_the_crop_of_an_image(image):
    config = for_images("vit", num_labels=2)
    options = {"crop_scale": (0.3, 0.3), "interpolation": "bicubic", "horizontal_flip": False}
    plain = FinetuneTransform(config, ONE, **options)(image, seeded())["pixel_values"]
    view = FinetuneTransform(config, ONE, rand_augment="rand-m9-mstd0.5-inc1", **options)
    operations = [("Invert", 0.0), ("TranslateXRel", 0.25)]
    view._augment = SimpleNamespace(sample_operations=lambda generator: operations)
    found = view(image, seeded())["pixel_values"]
    assert torch.equal(found, apply_operations(plain, operations))
    assert (found[0, :, :, -8:] == 128).all()  # a quarter of the crop, not of the image, is moved out of it


def test_operations_precede_the_crop_of_a_video():
    frames = torch.zeros(1, 3, 8, 8, dtype=torch.uint8)
    view = _View((4, 4, 4, 4), (4, 4), [("TranslateXRel", -0.5)])
    assert view(frames).unique().tolist() == [0]


def parsed(verb, *arguments):
    return parse_command_line([*map(str, arguments), "--use_cpu", "true"], verb)


def test_defaults_depend_on_the_model():
    images, videos = for_images(), VideoMAEV2Config(**TINY)

    def pretraining(config, *arguments):
        found = pretrain_transform(parsed(PRETRAIN, *arguments), config, ONE)
        return found.crop_scale, found.flip, found.interpolation

    assert pretraining(images) == ((0.2, 1.0), True, "bicubic")
    assert pretraining(videos) == (None, False, "bilinear")
    options = ["--pretrain_crop_scale", "0.5", "1", "--pretrain_flip", "false", "--interpolation", "bilinear"]
    assert pretraining(images, *options) == ((0.5, 1.0), False, "bilinear")
    for config, expected in ((images, "bicubic"), (videos, "bilinear")):
        found = finetune_transform(parsed(FINETUNE), config, [ONE])
        assert (found.crop_scale, found.crop_ratio, found.interpolation) == ((0.08, 1.0), (0.75, 4 / 3), expected)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"crop_scale": (0.5, 1.5)}, r"crop_scale=\[0.5, 1.5\] must be two positive numbers up to 1"),
        ({"crop_scale": (0.5,)}, r"crop_scale=\[0.5\] must be two positive numbers"),
        ({"crop_ratio": (2.0, 1.0)}, r"crop_ratio=\[2.0, 1.0\] must be two positive numbers, the smaller one first"),
        ({"interpolation": "lanczos"}, "interpolation='lanczos' is unknown; choose one of bilinear, bicubic"),
    ],
)
def test_crops_out_of_range(options, message):
    with pytest.raises(ValueError, match=message):
        FinetuneTransform(for_images(), ONE, **options)


@pytest.mark.parametrize(("side", "resized_to"), [(224, 256), (112, 128), (384, 384)])
def test_evaluation_resizes_as_mae_does(side, resized_to):
    options = clip_options(for_images(image_size=side, patch_size=16))
    assert options["size"] == {"shortest_edge": resized_to} and options["resample"] == 3
    assert options["crop_size"] == {"height": side, "width": side}


def test_evaluation_crops_the_centre(image):
    config = for_images(image_size=56, patch_size=8)
    processor = VideoMAEV2ImageProcessor(**clip_options(config), do_rescale=False, do_normalize=False)
    found = processor(image.path, return_tensors="pt").pixel_values[0, 0]
    pillow = Image.fromarray(PIXELS).resize((85, 64), 3).crop((14, 4, 70, 60))
    assert close(found, torch.from_numpy(np.array(pillow)).permute(2, 0, 1))

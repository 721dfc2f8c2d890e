"""Augmentation of clips: one draw for all frames, uint8 in and out."""

import colorsys
import math

import numpy as np
import pytest
import torch
from PIL import Image, ImageEnhance

from videomae_hf.data.augmentation import transforms
from videomae_hf.data.augmentation.transforms import (
    adjust_brightness,
    adjust_contrast,
    adjust_hue,
    adjust_saturation,
    blend,
    color_jitter,
    direction_sensitive,
    lookup,
    luma,
    multi_scale_box,
    multi_scale_crop,
    normalize,
    random_erasing,
    random_grayscale,
    random_horizontal_flip,
    random_resized_crop,
    resized_crop,
)


def positions(height: int, width: int) -> torch.Tensor:
    """uint8 (1, 2, H, W): each pixel says its row and column."""
    rows, columns = torch.meshgrid(torch.arange(height), torch.arange(width), indexing="ij")
    return torch.stack([rows, columns]).to(torch.uint8)[None]


def seeded(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


@pytest.fixture
def crops(monkeypatch) -> list[tuple[int, int, int, int]]:
    """(top, left, height, width) of each crop that is asked for, in place of the crop."""
    recorded = []
    monkeypatch.setattr(transforms, "resized_crop", lambda frames, *place_and_size: recorded.append(place_and_size[:4]))
    return recorded


CROPS = [multi_scale_crop, random_resized_crop]


@pytest.mark.parametrize("crop", CROPS)
@pytest.mark.parametrize("height_width", [(40, 60), (60, 40), (20, 20)])
def test_crops_have_the_size_asked_for(crop, height_width, generator):
    clip = torch.randint(0, 256, (5, 3, *height_width), dtype=torch.uint8, generator=generator)
    for _ in range(20):
        cropped = crop(clip, (24, 32), generator)
        assert (cropped.shape, cropped.dtype) == ((5, 3, 24, 32), torch.uint8)


@pytest.mark.parametrize(
    "transform",
    [
        *CROPS,
        lambda clip, size, generator: random_horizontal_flip(clip, generator),
        lambda clip, size, generator: random_grayscale(clip, generator, 0.5),
        lambda clip, size, generator: color_jitter(clip, generator, 0.4, 0.4, 0.4, 0.1),
    ],
)
def test_all_frames_get_the_same_draw_and_seeds_repeat_it(transform, generator):
    frame = torch.randint(0, 256, (1, 3, 40, 60), dtype=torch.uint8, generator=generator)
    clip = frame.expand(6, 3, 40, 60)
    drawn = [transform(clip, (24, 24), seeded(seed)) for seed in range(8)]
    assert all(torch.equal(result, result[:1].expand_as(result)) for result in drawn)
    assert all(torch.equal(transform(clip, (24, 24), seeded(seed)), result) for seed, result in enumerate(drawn))
    assert any(not torch.equal(drawn[0], result) for result in drawn[1:])


def test_multi_scale_crop_sizes_and_places(crops, generator):
    for _ in range(4000):
        multi_scale_crop(positions(100, 140), (64, 64), generator)
    # 100 times 1, 0.875, 0.75 and 0.66, of which 66 is close enough to 64; neighbours in this list go together.
    assert {crop[2:] for crop in crops} == {
        (100, 100), (100, 87), (87, 100), (87, 87), (87, 75), (75, 87), (75, 75), (75, 64), (64, 75), (64, 64),
    }  # fmt: skip
    # Of the smallest one, in quarters of the 36 rows and 76 columns that are left over.
    assert {crop[:2] for crop in crops if crop[2:] == (64, 64)} == {
        (0, 0), (0, 76), (36, 0), (36, 76), (18, 38),  # corners, centre
        (18, 0), (18, 76), (36, 38), (0, 38),  # middles of the sides
        (9, 19), (9, 57), (27, 19), (27, 57),  # quarters
    }  # fmt: skip


def test_multi_scale_crop_within_3_pixels_of_the_target_is_not_resized(generator):
    clip = positions(66, 66)
    crops = [multi_scale_crop(clip, (64, 64), generator) for _ in range(60)]
    assert any(torch.equal(crop, clip[..., :64, :64]) for crop in crops)


@pytest.mark.parametrize(("height", "width"), [(62, 62), (63, 90), (90, 62), (64, 63)])
def test_multi_scale_crop_over_the_edges_is_that_of_pil(height, width):
    """A shorter side of 62 or 63 is taken for 64: boxes reach out of the frames, where PIL is black."""
    clip = 1 + torch.randint(0, 255, (1, 3, height, width), dtype=torch.uint8, generator=seeded(0))
    image, outside = Image.fromarray(clip[0].permute(1, 2, 0).numpy()), 0
    for seed in range(60):
        top, left, box_height, box_width = multi_scale_box(height, width, (64, 64), seeded(seed))
        crop = multi_scale_crop(clip, (64, 64), seeded(seed))
        if (box_height, box_width) == (64, 64):
            expected = np.array(image.crop((left, top, left + 64, top + 64)))
            assert torch.equal(crop[0], torch.from_numpy(expected).permute(2, 0, 1))
            outside += not crop.all()
    assert outside > 1


@pytest.mark.parametrize("height_width", [(40, 60), (20, 24)])
def test_crops_without_antialias_are_those_of_interpolate(height_width):
    """As the official finetuning, which does so with floats."""
    clip = torch.randint(0, 256, (2, 3, 90, 120), dtype=torch.uint8, generator=seeded(0))
    crop = resized_crop(clip, 3, 5, 77, 101, height_width, antialias=False)
    cut = clip[..., 3:80, 5:106].float()
    expected = torch.nn.functional.interpolate(cut, height_width, mode="bilinear", align_corners=False)
    assert (crop - expected).abs().max() <= 1  # uint8 is rounded after each direction
    assert (resized_crop(clip, 3, 5, 77, 101, height_width) - expected).abs().max() > 20


def test_random_resized_crop_area_and_aspect(crops, generator):
    for _ in range(500):
        random_resized_crop(positions(90, 120), (32, 32), generator, scale=(0.2, 0.5))
    areas = [height * width / (90 * 120) for _, _, height, width in crops]
    aspects = [width / height for _, _, height, width in crops]
    assert 0.19 < min(areas) < 0.22 and 0.47 < max(areas) < 0.51
    assert 0.73 < min(aspects) < 0.78 and 1.29 < max(aspects) < 1.36
    assert all(top + height <= 90 and left + width <= 120 for top, left, height, width in crops)
    assert min(crop[0] for crop in crops) == min(crop[1] for crop in crops) == 0


@pytest.mark.parametrize(
    ("height", "width", "expected"),
    [
        (4, 100, (0, 47, 4, 5)),  # the whole height, and at 4:3 five columns
        (100, 4, (47, 0, 5, 4)),
        (3, 3, (0, 0, 3, 3)),
    ],
)
def test_random_resized_crop_where_nothing_fits_takes_the_centre(crops, generator, height, width, expected):
    random_resized_crop(positions(height, width), (8, 8), generator, scale=(1.5, 1.5))
    assert crops == [expected]


def test_resized_crop_cuts_the_place_named():
    clip = positions(20, 30)
    cut = transforms.resized_crop(clip, 3, 5, 8, 9, (8, 9))
    assert torch.equal(cut, clip[..., 3:11, 5:14])
    halved = transforms.resized_crop(clip, 0, 10, 16, 16, (8, 8))
    assert halved.shape == (1, 2, 8, 8)
    assert (halved[0, 1, 0].float() - torch.arange(10.5, 26, 2)).abs().max() <= 1


def test_flip():
    clip = positions(4, 6).expand(3, 2, 4, 6)
    assert torch.equal(random_horizontal_flip(clip, seeded(0), probability=0.0), clip)
    flipped = random_horizontal_flip(clip, seeded(0), probability=1.0)
    assert flipped[:, 1, 0].tolist() == [[5, 4, 3, 2, 1, 0]] * 3
    assert torch.equal(flipped[:, 0], clip[:, 0])


def test_flip_is_as_frequent_as_asked(generator):
    clip = positions(2, 2)
    flips = sum(not torch.equal(random_horizontal_flip(clip, generator, 0.25), clip) for _ in range(400))
    assert 70 < flips < 130


def test_normalize():
    clip = torch.tensor([0, 51, 255], dtype=torch.uint8)[:, None, None].expand(1, 3, 2, 2)
    normalized = normalize(clip, mean=(0.5, 0.1, 0.0), std=(0.5, 0.2, 0.25))
    assert normalized.dtype == torch.float32
    torch.testing.assert_close(normalized[0, :, 0, 0], torch.tensor([-1.0, 0.5, 4.0]))


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("Pushing something from right to left", True),
        ("turn_left", True),
        ("LEFT", True),
        ("TURN_RIGHT_2", True),
        ("TurnLeft", True),
        ("left-handed", True),
        ("counter_clockwise", True),
        ("clockwise", True),
        ("bright light", False),
        ("leftover", False),
        ("Copyright", False),
        ("upright", False),
        ("up", False),
        ("", False),
        ("12", False),
    ],
)
def test_direction_sensitive(name, expected):
    assert direction_sensitive(["walk", name]) == ([name] if expected else [])


def test_direction_sensitive_keeps_the_order():
    assert direction_sensitive(["right", "up", "left", "walk", "left"]) == ["right", "left", "left"]


# ------------------------------------------------------------------------------------------------------------ colours


def colors(channels: int = 3) -> torch.Tensor:
    return torch.randint(0, 256, (2, channels, 19, 23), dtype=torch.uint8, generator=seeded(0))


def test_lookup_with_a_table_for_all_for_frames_and_for_channels():
    clip = torch.tensor([[0, 1], [2, 255]], dtype=torch.uint8).view(2, 2, 1, 1).expand(2, 2, 2, 2)
    values = torch.arange(256)[None]
    assert lookup(clip, 2 * values)[..., 0, 0].tolist() == [[0, 2], [4, 255]]
    assert lookup(clip, torch.cat([values + 10, values - 1.5]))[..., 0, 0].tolist() == [[10, 11], [0, 253]]
    tables = torch.cat([values + 1, values + 2, values + 3, 255 - values])
    assert lookup(clip, tables)[..., 0, 0].tolist() == [[1, 3], [5, 0]]


def test_blend_and_luma():
    black, grey = torch.zeros(3, 1, 1, dtype=torch.uint8), torch.full((3, 1, 1), 101, dtype=torch.uint8)
    assert [int(blend(black, grey, factor)[0]) for factor in (0.0, 0.5, 1.0, 2.0, 3.0)] == [0, 50, 101, 202, 255]
    assert int(blend(grey, black, 1.5)[0]) == 0
    primaries = 255 * torch.eye(3, dtype=torch.uint8)[..., None]  # three columns (3, 3, 1)
    assert luma(primaries).flatten().tolist() == [76, 150, 29]


@pytest.mark.parametrize("factor", [0.0, 0.3, 1.0, 1.7])
@pytest.mark.parametrize(
    ("adjust", "enhance"),
    [
        (adjust_brightness, ImageEnhance.Brightness),
        (adjust_contrast, ImageEnhance.Contrast),
        (adjust_saturation, ImageEnhance.Color),
    ],
)
def test_adjustments_are_those_of_pil(adjust, enhance, factor):
    images = [Image.fromarray(frame.permute(1, 2, 0).numpy()) for frame in colors()]
    expected = [torch.from_numpy(np.array(enhance(image).enhance(factor))).permute(2, 0, 1) for image in images]
    assert torch.equal(adjust(colors(), factor), torch.stack(expected))


@pytest.mark.parametrize("turn", [-0.5, -0.13, 0.0, 0.07, 1 / 3, 0.5])
def test_hue_is_that_of_colorsys(turn):
    clip = colors()
    clip[0, :, 0], clip[0, 0, 1], clip[0, 1:, 2] = 77, 255, 0  # greys, and ties for the largest channel
    turned = adjust_hue(clip, turn).permute(0, 2, 3, 1).reshape(-1, 3)
    for before, after in zip(clip.permute(0, 2, 3, 1).reshape(-1, 3).tolist(), turned.tolist()):
        hue, saturation, value = colorsys.rgb_to_hsv(*(channel / 255 for channel in before))
        expected = [255 * channel for channel in colorsys.hsv_to_rgb((hue + turn) % 1, saturation, value)]
        assert after == pytest.approx(expected, abs=0.51)


def test_hue_of_primaries():
    red = torch.tensor([255, 0, 0], dtype=torch.uint8).view(1, 3, 1, 1)
    turned = [adjust_hue(red, turn).flatten().tolist() for turn in (1 / 6, 1 / 3, 2 / 3, 1.0)]
    assert turned == [[255, 255, 0], [0, 255, 0], [0, 0, 255], [255, 0, 0]]


def test_color_jitter_bounds_and_order(monkeypatch, generator):
    asked = []
    for name in ("brightness", "contrast", "saturation", "hue"):
        monkeypatch.setattr(
            transforms, f"adjust_{name}", lambda frames, amount, name=name: asked.append((name, amount)) or frames
        )
    for _ in range(1200):
        color_jitter(colors(), generator, brightness=0.4, contrast=2.0, saturation=0.1, hue=0.25)
    bounds = {"brightness": (0.6, 1.4), "contrast": (0.0, 3.0), "saturation": (0.9, 1.1), "hue": (-0.25, 0.25)}
    for name, (low, high) in bounds.items():
        amounts = [amount for asked_name, amount in asked if asked_name == name]
        assert len(amounts) == 1200 and low <= min(amounts) and max(amounts) <= high
        assert min(amounts) < low + 0.02 * (high - low) and max(amounts) > high - 0.02 * (high - low)
    orders = {tuple(name for name, _ in asked[start : start + 4]) for start in range(0, len(asked), 4)}
    assert len(orders) == math.factorial(4)
    asked.clear()
    color_jitter(colors(), generator, saturation=0.5)
    assert [name for name, _ in asked] == ["saturation"]


def test_color_jitter_of_nothing_changes_nothing(generator):
    assert torch.equal(color_jitter(colors(), generator), colors())


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"contrast": -0.1}, "contrast=-0.1 must be at least 0"),
        ({"hue": 0.6}, r"hue=0.6 must be in \[0, 0.5\]"),
        ({"hue": -0.1}, r"hue=-0.1 must be in \[0, 0.5\]"),
    ],
)
def test_color_jitter_out_of_range(options, message, generator):
    with pytest.raises(ValueError, match=message):
        color_jitter(colors(), generator, **options)


def test_grayscale(generator):
    grey = random_grayscale(colors(), generator, probability=1.0)
    assert torch.equal(grey, luma(colors()).expand(-1, 3, -1, -1))
    drawn = [random_grayscale(colors(), generator) for _ in range(400)]
    assert 16 < sum(torch.equal(clip, grey) for clip in drawn) < 64
    assert all(torch.equal(clip, grey) or torch.equal(clip, colors()) for clip in drawn)


@pytest.mark.parametrize("channels", [1, 2, 4])
def test_other_channels_than_rgb_have_no_colour(channels, generator):
    clip = colors(channels)
    assert torch.equal(random_grayscale(clip, generator, probability=1.0), clip)
    assert torch.equal(color_jitter(clip, generator, saturation=0.9, hue=0.5), clip)
    assert not torch.equal(color_jitter(clip, generator, contrast=0.9), clip)


# ------------------------------------------------------------------------------------------------------------ erasing


def erased_box(clip: torch.Tensor) -> tuple[int, int, int, int]:
    """(top, left, height, width) of what is not 7, the same in all frames and channels."""
    erased = clip != 7
    assert torch.equal(erased, erased[:1, :1].expand_as(erased))
    rows, columns = erased[0, 0].any(dim=1).nonzero().flatten(), erased[0, 0].any(dim=0).nonzero().flatten()
    assert torch.equal(erased[0, 0].nonzero(), torch.cartesian_prod(rows, columns))
    return int(rows[0]), int(columns[0]), len(rows), len(columns)


def test_erasing_noise_is_fresh_and_standard_normal(generator):
    clip = torch.full((8, 3, 40, 60), 7.0)
    erased = random_erasing(clip, generator, probability=1.0)
    top, left, height, width = erased_box(erased)
    noise = erased[..., top : top + height, left : left + width]
    deviation = 1 / math.sqrt(noise.numel())
    assert abs(noise.mean()) < 4 * deviation and abs(noise.std() - 1) < 4 * deviation
    for first, second in ((noise[0], noise[1]), (noise[:, 0], noise[:, 1])):
        assert abs((first * second).mean()) < 4 / math.sqrt(first.numel())
    assert (clip == 7).all()


def test_erasing_area_aspect_and_place(generator):
    boxes = [
        erased_box(random_erasing(torch.full((1, 1, 90, 120), 7.0), generator, probability=1.0)) for _ in range(800)
    ]
    areas = [height * width / (90 * 120) for _, _, height, width in boxes]
    aspects = [height / width for _, _, height, width in boxes]
    assert 0.018 < min(areas) < 0.03 and 0.31 < max(areas) < 0.345
    assert 0.28 < min(aspects) < 0.34 and 2.9 < max(aspects) < 3.5
    assert min(box[0] for box in boxes) == min(box[1] for box in boxes) == 0
    assert max(top + height for top, _, height, _ in boxes) == 90
    assert max(left + width for _, left, _, width in boxes) == 120
    # Log-uniform: as many wide boxes as tall ones.
    assert 340 < sum(aspect > 1 for aspect in aspects) < 460


def test_erasing_is_as_frequent_as_asked(generator):
    clip = torch.full((1, 3, 20, 20), 7.0)
    drawn = [random_erasing(clip, generator) for _ in range(400)]
    assert 70 < sum(not torch.equal(result, clip) for result in drawn) < 130
    assert all(torch.equal(random_erasing(clip, generator, probability=0.0), clip) for _ in range(20))


def test_erasing_leaves_a_frame_that_no_box_fits(generator):
    clip = torch.full((2, 3, 20, 20), 7.0)
    assert torch.equal(random_erasing(clip, generator, probability=1.0, area=(1.5, 2.0)), clip)


def test_erasing_repeats_with_the_seed_and_keeps_the_type():
    clip = torch.full((2, 3, 20, 20), 7.0, dtype=torch.float16)
    first, again, other = (random_erasing(clip, seeded(seed), probability=1.0) for seed in (0, 0, 1))
    assert torch.equal(first, again) and not torch.equal(first, other) and first.dtype == torch.float16


def test_erasing_wants_normalised_clips(generator):
    with pytest.raises(ValueError, match="frames of torch.uint8: random_erasing needs normalised clips"):
        random_erasing(colors(), generator)

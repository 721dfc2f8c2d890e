"""Augmentation of clips: one draw for all frames, uint8 in and out."""

import pytest
import torch

from videomae_hf import transforms
from videomae_hf.transforms import multi_scale_crop, normalize, random_horizontal_flip, random_resized_crop


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


@pytest.mark.parametrize("transform", [*CROPS, lambda clip, size, generator: random_horizontal_flip(clip, generator)])
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

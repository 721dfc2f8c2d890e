"""RandAugment: every operation against PIL, the strengths against literal values, one draw for a clip."""

import math

import numpy as np
import pytest
import torch
from PIL import Image, ImageEnhance, ImageOps

from videomae_hf.data.augmentation import rand_augment
from videomae_hf.data.augmentation.rand_augment import OPERATIONS, RandAugment, affine, apply_operation
from videomae_hf.data.sources.synthetic import synthesise_video


OFFICIAL = "rand-m7-n4-mstd0.5-inc1"
GEOMETRIC = ("Rotate", "ShearX", "ShearY", "TranslateXRel", "TranslateYRel")


def seeded(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def noise(channels: int = 3) -> torch.Tensor:
    return torch.randint(0, 256, (3, channels, 57, 82), dtype=torch.uint8, generator=seeded(0))


def smooth() -> torch.Tensor:
    """Waves between 28 and 227, other ones in each frame and channel."""
    y, x, number = torch.arange(57.0)[:, None], torch.arange(82.0), torch.arange(9)[:, None, None]
    return (128 + 100 * torch.sin(x / (9 + number) + number) * torch.cos(y / (13 + number))).byte().view(3, 3, 57, 82)


def drawn() -> torch.Tensor:
    video = synthesise_video("clockwise", np.random.default_rng(0), size=64, difficulty="textured")[::12]
    return torch.from_numpy(video).permute(0, 3, 1, 2)  # (T, H, W, C) -> (T, C, H, W)


def extreme() -> torch.Tensor:
    """A black frame, a white one, one of two values and one with a single pixel that differs."""
    clip = torch.zeros(4, 3, 20, 31, dtype=torch.uint8)
    clip[1] = 255
    clip[2, :, :, 15:] = 9
    clip[3], clip[3, 1, 4, 5] = 100, 101
    return clip


CLIPS = {"noise": noise, "smooth": smooth, "drawn": drawn, "extreme": extreme}


def with_pil(image: Image.Image, name: str, amount: float) -> Image.Image:
    width, height = image.size
    matrices = {
        "ShearX": (1, amount, 0, 0, 1, 0),
        "ShearY": (1, 0, 0, amount, 1, 0),
        "TranslateXRel": (1, 0, amount * width, 0, 1, 0),
        "TranslateYRel": (1, 0, 0, 0, 1, amount * height),
    }
    if name in matrices:
        return image.transform(image.size, Image.AFFINE, matrices[name], Image.BICUBIC, fillcolor=(128, 128, 128))
    if name == "SolarizeAdd":
        return image.point([min(255, value + amount) if value < 128 else value for value in range(256)] * 3)
    return {
        "AutoContrast": lambda: ImageOps.autocontrast(image),
        "Equalize": lambda: ImageOps.equalize(image),
        "Invert": lambda: ImageOps.invert(image),
        "Posterize": lambda: ImageOps.posterize(image, amount),
        "Solarize": lambda: ImageOps.solarize(image, amount),
        "Rotate": lambda: image.rotate(amount, Image.BICUBIC, fillcolor=(128, 128, 128)),
        "Color": lambda: ImageEnhance.Color(image).enhance(amount),
        "Contrast": lambda: ImageEnhance.Contrast(image).enhance(amount),
        "Brightness": lambda: ImageEnhance.Brightness(image).enhance(amount),
        "Sharpness": lambda: ImageEnhance.Sharpness(image).enhance(amount),
    }[name]()


AMOUNTS = {
    "AutoContrast": [0], "Equalize": [0], "Invert": [0], "Posterize": [1, 2, 4, 8], "Solarize": [0, 77, 256],
    "SolarizeAdd": [0, 77, 110],
    **dict.fromkeys(("Color", "Contrast", "Brightness", "Sharpness"), [0.1, 0.37, 1.0, 1.63, 1.9]),
    "Rotate": [21.3, -8.0, 30.0, 0.0], "ShearX": [0.21, -0.3], "ShearY": [0.21, -0.3],
    "TranslateXRel": [0.3152, -0.45], "TranslateYRel": [0.3152, -0.45],
}  # fmt: skip


@pytest.mark.parametrize("clip", CLIPS)
@pytest.mark.parametrize(("name", "amount"), [(name, amount) for name in OPERATIONS for amount in AMOUNTS[name]])
def test_operations_are_those_of_pil(name, amount, clip):
    frames = CLIPS[clip]()
    images = [Image.fromarray(frame.permute(1, 2, 0).numpy()) for frame in frames]
    expected = torch.stack(
        [torch.from_numpy(np.array(with_pil(image, name, amount))).permute(2, 0, 1) for image in images]
    )
    before = frames.clone()
    difference = (apply_operation(frames, name, amount).int() - expected.int()).abs()
    assert torch.equal(frames, before)
    if name in GEOMETRIC:  # 1 where a sum is a whole number but for its rounding, which PIL drops with the decimals
        assert difference.max() <= 1 and difference.float().mean() < 0.02
    else:
        assert difference.max() == 0


def test_there_are_15_operations_and_no_other():
    assert len(set(OPERATIONS)) == len(OPERATIONS) == 15
    with pytest.raises(ValueError, match="Operation 'Cutout' is unknown; choose one of AutoContrast"):
        apply_operation(noise(), "Cutout", 1)


def test_posterize_to_no_bit_is_black():
    """Magnitude 10 asks for it; Pillow 13 refuses what older releases did."""
    assert (apply_operation(noise(), "Posterize", 0) == 0).all()


def test_moves_are_in_the_direction_named():
    clip = torch.zeros(1, 1, 5, 5, dtype=torch.uint8)
    clip[..., 2, 3] = 200  # right of the centre
    assert apply_operation(clip, "Rotate", 90)[0, 0, 1, 2] == 200  # counter-clockwise is up
    left = apply_operation(clip, "TranslateXRel", 0.4)[0, 0]
    assert left[2, 1] == 200 and (left[:, 3:] == 128).all()  # what comes in is grey
    down = apply_operation(clip, "TranslateYRel", -0.4)[0, 0]
    assert down[4, 3] == 200 and (down[:2] == 128).all()
    assert affine(clip, (1, 0, 0, 0, 1, 0)).equal(clip)


@pytest.mark.parametrize("channels", [1, 2, 4])
def test_other_channels_than_rgb(channels):
    clip = noise(channels)
    for name in OPERATIONS:
        assert apply_operation(clip, name, AMOUNTS[name][0]).shape == clip.shape
    assert apply_operation(clip, "Color", 0.1).equal(clip)
    grey = clip.float().mean(dim=(1, 2, 3), keepdim=True)
    assert (apply_operation(clip, "Contrast", 0.0) - grey).abs().max() <= 0.5


def test_grey_clips_are_those_of_pil():
    clip = noise(1)
    for name, amount in (("Contrast", 0.3), ("Equalize", 0), ("AutoContrast", 0), ("Sharpness", 1.7)):
        expected = [np.array(with_pil(Image.fromarray(frame[0].numpy()), name, amount)) for frame in clip]
        assert apply_operation(clip, name, amount)[:, 0].equal(torch.from_numpy(np.stack(expected))), name


def test_clips_that_are_views_come_out_the_same():
    clip = drawn()
    assert not clip.is_contiguous()
    for name in OPERATIONS:
        amount = AMOUNTS[name][0]
        assert apply_operation(clip, name, amount).equal(apply_operation(clip.contiguous(), name, amount)), name


# ------------------------------------------------------------------------------------------------------------- policy


def test_strings():
    assert RandAugment.from_string(OFFICIAL) == RandAugment(7, 4, 0.5, True)
    assert RandAugment.from_string("rand-n3-m9") == RandAugment(9, 3, 0.0, False)
    assert RandAugment.from_string("rand-m7-inc0") == RandAugment(7, 2, 0.0, False)  # official: on


@pytest.mark.parametrize(
    "policy",
    ["", "m7-n4", "augmix-m7", "rand-m7-w0", "rand-m7-p0.5", "rand-m", "rand-m7-n2.5", "rand-m7-m9", "rand-mstd-m7",
     "rand-m7-", "rand-m-7", "rand m7"],
)  # fmt: skip
def test_strings_not_understood(policy):
    with pytest.raises(ValueError, match=f"'{policy}' is invalid; write it like rand-m7-n4-mstd0.5-inc1"):
        RandAugment.from_string(policy)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"magnitude": 10.5}, r"magnitude=10.5 must be in \[0, 10\]"),
        ({"magnitude": -1}, "magnitude=-1"),
        ({"num_ops": 0}, "num_ops=0 must be at least 1"),
        ({"magnitude_std": -0.5}, "magnitude_std=-0.5 must not be negative"),
    ],
)
def test_policies_out_of_range(options, message):
    with pytest.raises(ValueError, match=message):
        RandAugment(**options)


@pytest.mark.parametrize("frames", [torch.zeros(2, 3, 8, 8), torch.zeros(3, 8, 8, dtype=torch.uint8)])
def test_clips_that_do_not_fit(frames, generator):
    with pytest.raises(ValueError, match=r"must be uint8 \(T, C, H, W\) for RandAugment"):
        RandAugment()(frames, generator)


@pytest.fixture
def applied(monkeypatch) -> list[tuple[str, float]]:
    """The operations that are asked for and their amounts, in place of the operations."""
    recorded = []
    monkeypatch.setattr(
        rand_augment, "apply_operation", lambda frames, name, amount: recorded.append((name, amount)) or frames
    )
    return recorded


AT_7 = {
    "Rotate": (-21, 21), "ShearX": (-0.21, 0.21), "ShearY": (-0.21, 0.21), "TranslateXRel": (-0.315, 0.315),
    "TranslateYRel": (-0.315, 0.315), "SolarizeAdd": (77,),
}  # fmt: skip
INCREASING_AT_7 = {
    **AT_7, "Posterize": (2,), "Solarize": (77,),
    **dict.fromkeys(("Color", "Contrast", "Brightness", "Sharpness"), (0.37, 1.63)),
}  # fmt: skip
NOT_INCREASING_AT_7 = {
    **AT_7, "Posterize": (2,), "Solarize": (179,),
    **dict.fromkeys(("Color", "Contrast", "Brightness", "Sharpness"), (1.36,)),
}  # fmt: skip


@pytest.mark.parametrize(("policy", "expected"), [("inc1", INCREASING_AT_7), ("inc0", NOT_INCREASING_AT_7)])
def test_amounts_at_magnitude_7(applied, policy, expected, generator):
    augment = RandAugment.from_string(f"rand-m7-n1-{policy}")
    for _ in range(1500):
        augment(noise(), generator)
    for name, amounts in expected.items():
        seen = sorted({amount for operation, amount in applied if operation == name})
        assert seen == pytest.approx(amounts), name


def test_posterize_and_solarize_grow_weaker_without_increasing(applied, generator):
    """What magnitudes 0 and 10 keep: all of four bits and none, and from where they invert."""
    for increasing in (True, False):
        for magnitude in (0, 10):
            augment = RandAugment(magnitude, num_ops=200, increasing=increasing)
            augment(noise(), generator)
    amounts = [amount for name, amount in applied if name == "Posterize"]
    assert list(dict.fromkeys(amounts)) == [4, 0] and amounts[0] == 4 and amounts[-1] == 4
    amounts = [amount for name, amount in applied if name == "Solarize"]
    assert list(dict.fromkeys(amounts)) == [256, 0] and amounts[0] == 256 and amounts[-1] == 256


def test_each_operation_is_drawn_alike_and_applied_half_the_time(applied, generator):
    for _ in range(1500):
        RandAugment.from_string(OFFICIAL)(noise(), generator)
    assert abs(len(applied) - 3000) < 4 * math.sqrt(6000 / 4)
    names = [name for name, _ in applied]
    expected = len(names) / 15
    assert all(abs(names.count(name) - expected) < 4 * math.sqrt(expected) for name in OPERATIONS)


def test_noise_of_the_magnitude(applied, generator):
    for _ in range(4000):
        RandAugment(7, num_ops=4, magnitude_std=0.5)(noise(), generator)
    magnitudes = torch.tensor([abs(amount) / 3 for name, amount in applied if name == "Rotate"])
    assert len(magnitudes) > 400
    assert abs(magnitudes.mean() - 7) < 0.1 and abs(magnitudes.std() - 0.5) < 0.07
    applied.clear()
    for _ in range(500):
        RandAugment(10, num_ops=4, magnitude_std=3)(noise(), generator)
    magnitudes = [abs(amount) / 3 for name, amount in applied if name == "Rotate"]
    assert max(magnitudes) == 10 and magnitudes.count(10) > len(magnitudes) / 4


def test_all_frames_get_the_same_draw_and_seeds_repeat_it():
    clip = drawn()[:1].expand(4, -1, -1, -1)
    augment = RandAugment.from_string(OFFICIAL)
    results = [augment(clip, seeded(seed)) for seed in range(20)]
    assert all(result.equal(result[:1].expand_as(result)) for result in results)
    assert all(augment(clip, seeded(seed)).equal(result) for seed, result in enumerate(results))
    assert len({result.numpy().tobytes() for result in results}) > 12
    assert all((result.shape, result.dtype) == (clip.shape, torch.uint8) for result in results)


def test_statistics_are_those_of_each_frame():
    dark, light = torch.full((1, 3, 8, 8), 40, dtype=torch.uint8), torch.full((1, 3, 8, 8), 200, dtype=torch.uint8)
    dark[..., 0], light[..., 0] = 50, 210
    stretched = apply_operation(torch.cat([dark, light]), "AutoContrast", 0)
    assert stretched[:, 0, 0, :2].tolist() == [[255, 0], [255, 0]]
    # The means are 41.25 and 201.25, so 41 and 201.
    assert apply_operation(torch.cat([dark, light]), "Contrast", 0.0)[:, 0, 0, 0].tolist() == [41, 201]

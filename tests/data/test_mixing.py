"""Mixup and CutMix: shares, boxes and labels, in the three modes."""

import math

import pytest
import torch

from videomae_hf.data.augmentation import mixing as mixing_module
from videomae_hf.data.augmentation.mixing import MODES, Mixing, sample_beta


def numbered(batch_size: int, height: int = 12, width: int = 10) -> torch.Tensor:
    """(B, 2, 3, H, W): clip i is 2 ** i everywhere, so that a mixed value tells the two shares."""
    return (2.0 ** torch.arange(batch_size))[:, None, None, None, None].repeat(1, 2, 3, height, width)


def own_shares(mixed: torch.Tensor) -> torch.Tensor:
    """(B, T, C, H, W) made of `numbered` -> the share of the clip itself at each place."""
    clips = numbered(len(mixed), *mixed.shape[-2:])
    return (mixed - clips.flip(0)) / (clips - clips.flip(0))


def fixed_share(monkeypatch, share: float):
    monkeypatch.setattr(mixing_module, "sample_beta", lambda alpha, generator: share)


def test_mixup_of_a_batch(monkeypatch, generator):
    fixed_share(monkeypatch, 0.75)
    mixed, labels = Mixing(4, cutmix_alpha=0)(numbered(4), torch.tensor([0, 1, 2, 2]), generator)
    # 0.75 of 1, 2, 4, 8 and 0.25 of 8, 4, 2, 1
    assert torch.equal(mixed, torch.tensor([2.75, 2.5, 3.5, 6.25])[:, None, None, None, None].expand_as(mixed))
    # on: 0.9 + 0.1 / 4 = 0.925, off: 0.025
    expected = [
        [0.7, 0.025, 0.25, 0.025],
        [0.025, 0.7, 0.25, 0.025],
        [0.025, 0.25, 0.7, 0.025],
        [0.25, 0.025, 0.7, 0.025],
    ]
    torch.testing.assert_close(labels, torch.tensor(expected))
    assert labels.dtype == torch.float32


def test_cutmix_of_a_batch(monkeypatch, generator):
    fixed_share(monkeypatch, 0.75)  # half of the height and of the width
    mix = Mixing(2, mixup_alpha=0, label_smoothing=0)
    centers = set()
    for _ in range(600):
        mixed, labels = mix(numbered(2), torch.tensor([0, 1]), generator)
        shares = own_shares(mixed)
        assert torch.equal(shares, shares[:1, :1, :1].expand_as(shares))  # all clips, frames and channels alike
        box = shares[0, 0, 0] == 0
        assert ((shares[0, 0, 0] == 1) | box).all()
        rows, columns = box.any(dim=1), box.any(dim=0)
        assert torch.equal(box, rows[:, None] & columns)
        centers.add((tuple(rows.nonzero().flatten().tolist()), tuple(columns.nonzero().flatten().tolist())))
        expected = 1 - box.sum().item() / 120
        torch.testing.assert_close(labels, torch.tensor([[expected, 1 - expected], [1 - expected, expected]]))
    # 6 rows and, as 5 is odd, 4 columns; fewer at the border; each of the 12 rows and 10 columns is a centre.
    assert {rows for rows, _ in centers} == {tuple(range(max(y - 3, 0), min(y + 3, 12))) for y in range(12)}
    assert {columns for _, columns in centers} == {tuple(range(max(x - 2, 0), min(x + 2, 10))) for x in range(10)}


@pytest.mark.parametrize("mode", MODES)
def test_what_shares_a_draw(mode):
    """Many seeds of a batch of four: which clips always have the same shares."""
    same = torch.ones(4, 4, dtype=torch.bool)
    for seed in range(30):
        mixed, labels = Mixing(4, mode=mode, label_smoothing=0)(
            numbered(4), torch.arange(4), torch.Generator().manual_seed(seed)
        )
        shares = own_shares(mixed)
        assert torch.equal(shares, shares[:, :1, :1].expand_as(shares))
        # The labels have the shares of the pixels, in all modes.
        torch.testing.assert_close(labels.diagonal(), shares.mean(dim=(1, 2, 3, 4)), atol=1e-5, rtol=0)
        torch.testing.assert_close(labels.flip(1).diagonal(), 1 - labels.diagonal(), atol=1e-5, rtol=0)
        shares = shares[:, 0, 0].flatten(1)
        same &= torch.cdist(shares, shares) < 1e-3
    expected = {
        "batch": torch.ones(4, 4),
        "pair": torch.eye(4) + torch.eye(4).flip(0),
        "elem": torch.eye(4),
    }[mode]
    assert torch.equal(same, expected.bool())


def test_how_often_mixup_and_cutmix(generator):
    mix = Mixing(2, probability=0.8, switch_probability=0.25, label_smoothing=0)
    counts = {"none": 0, "mixup": 0, "cutmix": 0}
    for _ in range(1000):
        shares = own_shares(mix(numbered(2, 8, 8), torch.tensor([0, 1]), generator)[0])
        constant = bool((shares - shares.flatten()[0]).abs().max() < 1e-3)
        # A CutMix without a box counts as none: its share is above 1 - (2 / 8) ** 2 in 1 of 16 draws.
        kind = "none" if constant and abs(shares.flatten()[0] - 1) < 1e-6 else "mixup" if constant else "cutmix"
        counts[kind] += 1
    assert abs(counts["mixup"] - 600) < 65 and abs(counts["cutmix"] - 187) < 50 and abs(counts["none"] - 213) < 52


@pytest.mark.parametrize("options", [{"mixup_alpha": 0, "cutmix_alpha": 0.5}, {"mixup_alpha": 0.5, "cutmix_alpha": 0}])
def test_with_one_of_the_two_there_is_no_switch(options, generator):
    mix = Mixing(2, switch_probability=0.5 if options["mixup_alpha"] else 0.0, **options)
    for _ in range(60):
        shares = own_shares(mix(numbered(2), torch.tensor([0, 1]), generator)[0])
        if options["mixup_alpha"]:
            assert (shares - shares.flatten()[0]).abs().max() < 1e-5
        else:
            assert ((shares == 0) | (shares == 1)).all()


@pytest.mark.parametrize("options", [{"mixup_alpha": 0, "cutmix_alpha": 0}, {"probability": 0.0}])
def test_without_mixing_labels_are_still_smoothed(options, generator):
    clips = numbered(3)
    mixed, labels = Mixing(5, **options)(clips, torch.tensor([4, 0, 0]), generator)
    assert torch.equal(mixed, clips)
    torch.testing.assert_close(labels[0], torch.tensor([0.02, 0.02, 0.02, 0.02, 0.92]))


def test_several_classes_at_once_are_mixed_and_not_smoothed(monkeypatch, generator):
    fixed_share(monkeypatch, 0.75)
    several = torch.tensor([[1.0, 1.0, 0.0], [0.0, 1.0, 0.0]])
    _, labels = Mixing(3, cutmix_alpha=0)(numbered(2), several, generator)
    torch.testing.assert_close(labels, torch.tensor([[0.75, 1.0, 0.0], [0.25, 1.0, 0.0]]))


@pytest.mark.parametrize("mode", ["batch", "elem"])
def test_the_middle_of_an_odd_batch_stays(mode, generator):
    clips = numbered(3)
    mixed, labels = Mixing(3, mode=mode, label_smoothing=0)(clips, torch.arange(3), generator)
    assert torch.equal(mixed[1], clips[1]) and labels[1].tolist() == [0, 1, 0]
    assert not torch.equal(mixed[0], clips[0])


def test_the_batch_itself_stays_and_seeds_repeat_a_draw():
    clips = torch.randn(4, 2, 3, 8, 8, generator=torch.Generator().manual_seed(1))
    before = clips.clone()
    state = torch.get_rng_state()
    first, again, other = (
        Mixing(4, mode="elem")(clips, torch.arange(4), torch.Generator().manual_seed(seed))[0] for seed in (3, 3, 4)
    )
    assert torch.equal(clips, before) and torch.equal(first, again) and not torch.equal(first, other)
    assert torch.equal(torch.get_rng_state(), state)


def test_half_precision(generator):
    mixed, labels = Mixing(2)(numbered(2).bfloat16(), torch.tensor([0, 1]), generator)
    assert mixed.dtype == torch.bfloat16 and labels.dtype == torch.float32


@pytest.mark.parametrize(("alpha", "variance"), [(0.8, 1 / (4 * 2.6)), (1.0, 1 / 12), (8.0, 1 / (4 * 17))])
def test_beta(alpha, variance, generator):
    """Beta(a, a): mean 1/2, variance 1 / (4 (2 a + 1))."""
    draws = torch.tensor([sample_beta(alpha, generator) for _ in range(6000)], dtype=torch.float64)
    assert 0 <= draws.min() and draws.max() <= 1
    assert abs(draws.mean() - 0.5) < 4 * math.sqrt(variance / 6000)
    assert abs(draws.var() / variance - 1) < 0.06
    # Of Beta(1, 1), the uniform distribution, a quarter is below 1/4; with 0.8 more is at the ends, with 8 less.
    below = (draws < 0.25).double().mean()
    assert {0.8: 0.26 < below < 0.31, 1.0: 0.23 < below < 0.27, 8.0: below < 0.03}[alpha]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"num_classes": 0}, "num_classes=0 must be at least 1"),
        ({"mode": "half"}, "mode='half' is unknown; choose one of batch, pair, elem"),
        ({"mixup_alpha": -1}, "mixup_alpha=-1 must be positive, or 0"),
        ({"cutmix_alpha": -0.1}, "cutmix_alpha=-0.1"),
        ({"probability": 1.5}, r"probability=1.5 must be in \[0, 1\]"),
        ({"switch_probability": -1}, "switch_probability=-1"),
        ({"label_smoothing": 2}, "label_smoothing=2"),
    ],
)
def test_options_out_of_range(options, message):
    with pytest.raises(ValueError, match=message):
        Mixing(**{"num_classes": 3, **options})


@pytest.mark.parametrize(
    ("pixel_values", "labels", "message"),
    [
        (numbered(3), torch.arange(3), 'A batch of 3 cannot be mixed in pairs; make it even or set mode="batch"'),
        (numbered(2)[0], torch.arange(2), r"must be a normalised float batch \(B, T, C, H, W\)"),
        (numbered(2).byte(), torch.arange(2), "a normalised float batch"),
        (numbered(2), torch.arange(3), r"Labels of shape \(3,\) must be \(2,\)"),
        (numbered(2), torch.tensor([0, 3]), r"Labels \[0, 3\] must be in \[0, num_classes\), num_classes=3"),
        (numbered(2), torch.tensor([-100, 1]), r"Labels \[-100, 1\] must be in"),
        (numbered(2), torch.zeros(2, 4), r"Float labels of shape \(2, 4\) must be \(batch, num_classes\), \(2, 3\)"),
    ],
)
def test_batches_that_do_not_fit(pixel_values, labels, message, generator):
    with pytest.raises(ValueError, match=message):
        Mixing(3, mode="pair")(pixel_values, labels, generator)

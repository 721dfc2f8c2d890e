"""Masks: their counts, their pictures, their randomness."""

import pytest
import torch

from videomae_hf import VideoMAEV2Config, sample_masks, token_counts
from videomae_hf.models.masking import (
    count_per_row,
    frame_mask,
    ids_to_mask,
    mask_to_ids,
    random_mask,
    running_cell_mask,
    sample_decoder_mask,
    sample_encoder_mask,
    sample_image_ids,
    tube_mask,
)


V2 = {"decoder_mask_ratio": 0.5}
SMALL = {"image_size": 64, "num_frames": 16, "patch_size": 16}  # 8 slices of 4 x 4 tokens
COUNTS = [
    # fields, visible tokens, decoded tokens (official_behaviour.md 2, and by hand where nothing official exists)
    ({}, 160, 1408),  # tubes round in each slice: 8 * int(176.4), not int(1411.2)
    ({"mask_ratio": 0.75}, 392, 1176),
    (V2, 160, 784),
    ({"decoder_mask_ratio": 0.75}, 160, 392),
    ({"decoder_mask_ratio": 0.25}, 160, 1176),
    ({"decoder_mask_ratio": 0.6}, 160, 784),  # down to quarters
    ({**V2, "mask_ratio": 0.75}, 392, 784),
    ({**V2, "patch_size": 14}, 208, 1024),  # giant
    ({**V2, "num_frames": 32}, 320, 1568),
    ({"tube_length": 4}, 160, 1408),
    ({"tube_length": 6}, 160, 1408),  # the last tube is shorter
    ({"mask_type": "random"}, 157, 1411),
    ({"mask_type": "random", "mask_ratio": 0.75}, 392, 1176),
    ({"mask_type": "frame"}, 196, 1372),
    ({"mask_type": "frame", "mask_ratio": 0.75}, 392, 1176),
    ({**V2, "decoder_mask_type": "random"}, 160, 784),
    ({"decoder_mask_ratio": 0.3, "decoder_mask_type": "random"}, 160, 1098),
    ({"decoder_mask_ratio": 0.3, "decoder_mask_type": "frame"}, 160, 1176),
    ({**SMALL, "image_size": (64, 32)}, 8, 56),
]


@pytest.mark.parametrize("fields, visible, decoded", COUNTS, ids=[str(fields) for fields, *_ in COUNTS])
def test_token_counts(fields, visible, decoded, generator):
    config = VideoMAEV2Config(**fields)
    assert token_counts(config) == (visible, decoded)
    masked, reconstructed = sample_masks(config, 3, generator)
    assert masked.shape == reconstructed.shape == (3, config.sequence_length)
    assert masked.dtype == reconstructed.dtype == torch.bool
    assert (~masked).sum(1).tolist() == [visible] * 3
    assert reconstructed.sum(1).tolist() == [decoded] * 3


@pytest.mark.parametrize(
    "fields, lost",
    [({}, 704), ({"mask_ratio": 0.75}, 588), ({"decoder_mask_ratio": 0.75}, 352), ({"patch_size": 14}, 920)],
)
def test_tokens_in_the_loss_of_dual_masking(fields, lost, generator):
    """Tubes and running cells meet in the same number of tokens in every draw: each place is decoded equally often."""
    masked, decoded = sample_masks(VideoMAEV2Config(**{**V2, **fields}), 20, generator)
    assert (masked & decoded).sum(1).tolist() == [lost] * 20


def test_v1_decodes_what_is_masked(generator):
    masked, decoded = sample_masks(VideoMAEV2Config(**SMALL), 2, generator)
    assert torch.equal(masked, decoded)


@pytest.mark.parametrize(
    "fields",
    [
        {"mask_ratio": 0.0},
        {"mask_type": "random", "mask_ratio": 0.007},  # of 128 tokens
        {"mask_ratio": 0.06},  # of 16 places
        {"mask_type": "frame", "mask_ratio": 0.1},  # of 8 slices
    ],
)
def test_a_ratio_that_hides_nothing_is_refused(fields):
    config = VideoMAEV2Config(**SMALL, **fields)
    for draw in (token_counts, lambda config: sample_masks(config, 1), lambda config: sample_encoder_mask(config, 1)):
        with pytest.raises(ValueError, match=f"mask_ratio={fields['mask_ratio']} with mask_type=.* 8x4x4 tokens"):
            draw(config)


RUNNING_CELLS = {  # four slices of 4 x 4 places from phase 0, then again from the first
    0.25: """
        ....  ....  .#.#  #.#.
        .#.#  #.#.  ....  ....
        ....  ....  .#.#  #.#.
        .#.#  #.#.  ....  ....
        """,
    0.5: """
        #.#.  ....  .#.#  ####
        .#.#  ####  #.#.  ....
        #.#.  ....  .#.#  ####
        .#.#  ####  #.#.  ....
        """,
    0.75: """
        ####  #.#.  .#.#  ####
        .#.#  ####  ####  #.#.
        ####  #.#.  .#.#  ####
        .#.#  ####  ####  #.#.
        """,
}


@pytest.mark.parametrize("ratio", RUNNING_CELLS)
@pytest.mark.parametrize("phase", [0, 1, 2, 3])
def test_running_cell_pictures(phase, ratio):
    lines = [line.split() for line in RUNNING_CELLS[ratio].strip().splitlines()]
    slices = ["\n".join(rows) for rows in zip(*lines)]
    mask = running_cell_mask(torch.tensor([phase]), (6, 4, 4), ratio)
    drawn = mask.view(6, 4, 4).tolist()
    pictures = ["\n".join("".join(".#"[place] for place in row) for row in rows) for rows in drawn]
    assert pictures == [slices[(phase + index) % 4] for index in range(6)]


def test_running_cell_has_a_phase_for_each_video():
    phases = torch.tensor([2, 0, 2])
    masks = running_cell_mask(phases, (4, 2, 6), 0.5)
    for mask, phase in zip(masks, phases):
        assert torch.equal(mask, running_cell_mask(phase[None], (4, 2, 6), 0.5)[0])
    assert not torch.equal(masks[0], masks[1])


def test_running_cell_draws_each_phase_equally_often(generator):
    config = VideoMAEV2Config(**SMALL, **V2)
    decoded = sample_decoder_mask(config, 4000, generator)
    of_phase = ~running_cell_mask(torch.arange(4), config.grid_size, 0.5)
    drawn = (decoded[:, None] == of_phase).all(dim=2)  # (4000, 4)
    assert drawn.sum(1).tolist() == [1] * 4000
    assert all(900 < count < 1100 for count in drawn.sum(0).tolist())  # 1000 each, standard deviation 27


def test_tube_masks_the_same_places_in_all_slices(generator):
    masks = tube_mask(5, (8, 4, 4), 0.9, generator=generator).view(5, 8, 16)
    assert torch.equal(masks, masks[:, :1].expand(5, 8, 16))
    assert masks[:, 0].sum(1).tolist() == [14] * 5


def test_tube_length_draws_again_for_each_tube(generator):
    config = VideoMAEV2Config(**SMALL, mask_ratio=0.5, tube_length=6)  # tubes of 3, 3 and 2 slices
    slices = sample_encoder_mask(config, 1, generator).view(8, 16)
    assert slices.sum(1).tolist() == [8] * 8
    same_as_next = [torch.equal(slices[index], slices[index + 1]) for index in range(7)]
    assert same_as_next == [True, True, False, True, True, False, True]


def test_tube_length_of_the_clip_or_more_is_the_whole_clip():
    whole, long = (
        sample_encoder_mask(VideoMAEV2Config(**SMALL, tube_length=length), 2, torch.Generator().manual_seed(3))
        for length in (None, 40)
    )
    assert torch.equal(whole, long)


def test_frame_masks_whole_slices(generator):
    masks = frame_mask(20, (8, 2, 2), 0.75, generator).view(20, 8, 4)
    assert torch.equal(masks.any(2), masks.all(2))
    assert masks.any(2).sum(1).tolist() == [6] * 20


def test_random_masks_each_token_equally_often(generator):
    often = random_mask(4000, 16, 0.75, generator).sum(0)
    assert all(2890 < count < 3110 for count in often.tolist())  # 3000 each, standard deviation 27


DRAWS = [
    {},
    {"mask_type": "random"},
    {"mask_type": "frame", "mask_ratio": 0.5},
    {"tube_length": 4},
    {**V2, "decoder_mask_type": "random"},
    {**V2, "decoder_mask_type": "frame"},
    V2,
]


@pytest.mark.parametrize("fields", DRAWS, ids=str)
def test_a_generator_makes_the_draw_repeatable_and_leaves_the_global_one_alone(fields):
    config = VideoMAEV2Config(**SMALL, **fields)
    before = torch.get_rng_state()
    first, again = (sample_masks(config, 16, torch.Generator().manual_seed(5)) for _ in range(2))
    other = sample_masks(config, 16, torch.Generator().manual_seed(6))
    assert torch.equal(torch.get_rng_state(), before)
    for mask, same, different in zip(first, again, other):
        assert torch.equal(mask, same)
        assert not torch.equal(mask, different)
        assert len({tuple(row) for row in mask.tolist()}) > 1  # videos of one batch differ


def test_without_a_generator_the_global_one_draws():
    config = VideoMAEV2Config(**SMALL, **V2)
    masks = []
    for seed in (0, 0, 1):
        with torch.random.fork_rng():
            torch.manual_seed(seed)
            masks.append(torch.cat(sample_masks(config, 4)))
    assert torch.equal(masks[0], masks[1])
    assert not torch.equal(masks[0], masks[2])


GRIDS = [((32, 32), 6), ((32, 64), 8), ((96, 32), 10), ((64, 64), 16)]


@pytest.mark.parametrize("image_size, num_frames", GRIDS)
@pytest.mark.parametrize("mask_type", ["tube", "random", "frame"])
@pytest.mark.parametrize("decoder_mask_type", ["running_cell", "random", "frame"])
def test_token_counts_are_those_of_the_draw(image_size, num_frames, mask_type, decoder_mask_type, generator):
    for ratio, decoder_ratio in ((0.5, 0.25), (0.62, 0.0), (0.75, 0.5), (0.81, 0.6)):
        config = VideoMAEV2Config(
            image_size=image_size,
            num_frames=num_frames,
            mask_type=mask_type,
            mask_ratio=ratio,
            decoder_mask_type=decoder_mask_type,
            decoder_mask_ratio=decoder_ratio,
        )
        visible, decoded = token_counts(config)
        assert isinstance(visible, int) and isinstance(decoded, int)
        bool_masked_pos, bool_decoded_pos = sample_masks(config, 4, generator)
        assert (~bool_masked_pos).sum(1).tolist() == [visible] * 4
        assert bool_decoded_pos.sum(1).tolist() == [decoded] * 4


def test_mask_to_ids_is_ascending():
    mask = torch.tensor([[0, 1, 1, 0, 1], [1, 0, 0, 1, 1]]).bool()
    ids = mask_to_ids(mask, 3)
    assert ids.dtype == torch.int64
    assert ids.tolist() == [[1, 2, 4], [0, 3, 4]]


def test_ids_to_mask():
    mask = ids_to_mask(torch.tensor([[4, 1], [0, 3]]), 5)
    assert mask.dtype == torch.bool
    assert mask.int().tolist() == [[0, 1, 0, 0, 1], [1, 0, 0, 1, 0]]


def test_ids_and_mask_round_trip(generator):
    mask = random_mask(3, 1568, 0.9, generator)
    assert torch.equal(ids_to_mask(mask_to_ids(mask, 1411), 1568), mask)


def test_count_per_row():
    assert count_per_row(torch.tensor([[True, True, False], [False, True, True]]), "mask") == 2
    with pytest.raises(ValueError, match=r"my_mask must have the same number of True in every row.*\[2, 1\]"):
        count_per_row(torch.tensor([[True, True, False], [False, True, False]]), "my_mask")
    with pytest.raises(ValueError, match="my_mask has no True at all"):
        count_per_row(torch.zeros(2, 3, dtype=torch.bool), "my_mask")


def test_images_in_a_video_model(generator):
    """49 of the 196 tokens of the first slice are visible, and the other 147 are decoded."""
    config = VideoMAEV2Config.from_size("base")
    visible, decoded = sample_image_ids(config, 3, 0.75, generator)
    assert visible.shape == (3, 49) and decoded.shape == (3, 147)
    both = torch.cat([visible, decoded], dim=1).sort(dim=1).values
    assert torch.equal(both, torch.arange(196).expand(3, -1))
    assert not torch.equal(visible[0], visible[1])
    for ratio in (0.001, 1.0):
        with pytest.raises(ValueError, match=f"An image mask ratio of {ratio} hides"):
            sample_image_ids(config, 1, ratio, generator)

"""Clip loaders, the data set with its bad videos, and batches."""

import logging

import pytest
import torch
from conftest import TINY
from indexed_video import frame_indices, write_indexed_video
from torch.utils.data import DataLoader

from videomae_hf import VideoDecodeError, VideoMAEV2Config, VideoMAEV2ImageProcessor, token_counts
from videomae_hf.data import (
    UNREADABLE,
    BadVideosError,
    ClipCollator,
    ClipSampling,
    EvaluationViews,
    PretrainingClips,
    Sample,
    TrainingClips,
    VideoDataset,
)


@pytest.fixture(scope="module")
def video(tmp_path_factory):
    return str(write_indexed_video(tmp_path_factory.mktemp("video") / "clip.mp4", 40, g=12))


@pytest.fixture(scope="module")
def bad_video(tmp_path_factory):
    path = tmp_path_factory.mktemp("bad") / "bad.mp4"
    path.write_text("no video")
    return str(path)


@pytest.mark.parametrize(
    ("options", "distances"),
    [
        ({"sampling_rate": 4}, {4}),
        ({"fps": 12.5}, {2}),  # of 25
        ({"fps": 10}, {2, 3}),
        ({"frame_sampling": "uniform"}, set(range(1, 20))),
    ],
    ids=str,
)
def test_random_clips_of_a_file(video, generator, options, distances):
    sampling = ClipSampling(4, **options)
    clips = [sampling.random_clip(video, generator) for _ in range(40)]
    assert clips[0].shape == (4, 3, 96, 128) and clips[0].dtype == torch.uint8
    indices = torch.tensor([frame_indices(clip.permute(0, 2, 3, 1)) for clip in clips])
    assert len(indices[:, 0].unique()) > 5
    assert set(indices.diff(dim=1).unique().tolist()) <= distances


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"short_video": "error"}, "clip.mp4: A clip of num_frames=16 at sampling_rate=4 needs 61 frames"),
        ({"frame_sampling": "unifrom"}, "frame_sampling='unifrom' is unknown"),
    ],
)
def test_clip_sampling_that_cannot_be(video, generator, options, message):
    with pytest.raises(ValueError, match=message):
        ClipSampling(16, **options).random_clip(video, generator)


@pytest.mark.parametrize(("decoder_mask_ratio", "num_decoded"), [(0.0, 28), (0.5, 16)])
def test_pretraining_clips(video, generator, decoder_mask_ratio, num_decoded):
    config = VideoMAEV2Config(**TINY, decoder_mask_ratio=decoder_mask_ratio)
    item = PretrainingClips(config, ClipSampling(4))(Sample(video), generator)
    assert set(item) == {"pixel_values", "visible_ids", "decoded_ids"}
    assert (item["pixel_values"].shape, item["pixel_values"].dtype) == ((4, 3, 32, 32), torch.uint8)
    # Two slices of 4 x 4 tokens, of which int(0.9 * 16) are hidden in each.
    assert (len(item["visible_ids"]), len(item["decoded_ids"])) == token_counts(config) == (4, num_decoded)
    for name in ("visible_ids", "decoded_ids"):
        assert item[name].unique().tolist() == item[name].tolist()
        assert 0 <= item[name].min() and item[name].max() < 32
    if decoder_mask_ratio == 0:
        assert sorted([*item["visible_ids"].tolist(), *item["decoded_ids"].tolist()]) == list(range(32))


def test_training_clips_are_flipped_half_of_the_time_and_only_if_wanted(video):
    config, sample = VideoMAEV2Config(**TINY), Sample(video, 7)

    def load(seed, **options):
        return TrainingClips(config, ClipSampling(4), **options)(sample, torch.Generator().manual_seed(seed))

    items = [(load(seed, horizontal_flip=False), load(seed)) for seed in range(12)]
    assert all(item["labels"] == 7 and item["pixel_values"].shape == (4, 3, 32, 32) for pair in items for item in pair)
    pairs = [(plain["pixel_values"], maybe["pixel_values"]) for plain, maybe in items]
    flipped = [torch.equal(plain.flip(-1), maybe) and not torch.equal(plain, maybe) for plain, maybe in pairs]
    assert all(flip or torch.equal(plain, maybe) for flip, (plain, maybe) in zip(flipped, pairs))
    assert any(flipped) and not all(flipped)


def test_shuffled_views_are_the_same_frames_in_another_order(video, generator):
    raw = {"do_resize": False, "do_rescale": False, "do_normalize": False, "crop_size": {"height": 96, "width": 128}}
    processor = VideoMAEV2ImageProcessor(num_frames=8, sampling_rate=2, **raw)

    def indices(**options):
        item = EvaluationViews(processor, num_clips=2, num_crops=2, **options)(Sample(video, 3), generator)
        assert item["labels"] == 3 and item["pixel_values"].shape == (4, 8, 3, 96, 128)
        return [frame_indices(view.permute(0, 2, 3, 1)) for view in item["pixel_values"]]

    first, last = list(range(0, 15, 2)), list(range(24, 39, 2))
    assert indices() == [first, first, last, last]
    shuffled = indices(shuffle_frames=True)
    assert [sorted(view) for view in shuffled] == [first, first, last, last]
    assert all(view != sorted(view) for view in shuffled)


# ---------------------------------------------------------------------------------------------------- the data set


def draw(sample: Sample, generator: torch.Generator) -> dict:
    """A clip loader without videos; like a decoder, it may have drawn before it finds a video bad."""
    number = int(torch.randint(1_000_000, (), generator=generator))
    if sample.path.startswith("bad"):
        raise VideoDecodeError(f"{sample.path} cannot be decoded")
    return {"pixel_values": torch.full((1,), number), "labels": sample.label}


def numbers(dataset: VideoDataset, workers: int = 0) -> list[int]:
    loader = DataLoader(dataset, batch_size=None, num_workers=workers)
    return [int(item["pixel_values"].sum()) for item in loader]


def made(*names: str, **options) -> VideoDataset:
    return VideoDataset([Sample(name, label) for label, name in enumerate(names)], draw, **options)


def test_items_depend_on_seed_epoch_and_index_alone(video):
    load = TrainingClips(VideoMAEV2Config(**TINY), ClipSampling(4))
    dataset = VideoDataset([Sample(video, label) for label in range(6)], load, seed=3)
    first = numbers(dataset)
    assert len(set(first)) > 3
    assert numbers(dataset) == numbers(dataset, workers=2) == first  # decoded here before the workers are forked
    dataset.set_epoch(1)
    second = numbers(dataset)
    assert second != first and numbers(dataset, workers=2) == second
    assert numbers(VideoDataset(dataset.samples, load, seed=4)) != first


def test_bad_videos_are_replaced_logged_once_and_counted(video, bad_video, tmp_path, caplog):
    missing = str(tmp_path / "missing.mp4")
    load = TrainingClips(VideoMAEV2Config(**TINY), ClipSampling(4))
    dataset = VideoDataset([Sample(video, 0), Sample(bad_video, 1), Sample(missing, 2), Sample(video, 3)], load)
    with caplog.at_level(logging.WARNING, logger="videomae_hf.data"):
        items = [dataset[index] for index in (0, 1, 2, 3, 1, 2)]
    assert {item["labels"] for item in items} == {0, 3}
    assert torch.equal(items[1]["pixel_values"], items[4]["pixel_values"])
    assert dataset.bad.tolist() == [False, True, True, False]
    assert len(caplog.records) == 2
    assert bad_video in caplog.text and missing in caplog.text


def test_the_main_process_sees_what_workers_find_bad():
    dataset = made("a", "bad", "b", "c")
    numbers(dataset, workers=2)
    assert dataset.bad.tolist() == [False, True, False, False]


def test_workers_that_stay_see_the_next_epoch():
    dataset = made("a", "b", "c")
    loader = DataLoader(dataset, batch_size=None, num_workers=1, persistent_workers=True)
    seen = []
    for epoch in (0, 1):
        dataset.set_epoch(epoch)
        seen.append([int(item["pixel_values"]) for item in loader])
        assert seen[-1] == numbers(dataset)
    assert seen[0] != seen[1]


def test_a_replacement_does_not_depend_on_what_is_known_to_be_bad():
    """Else the number of workers would change the data: how much is known depends on who came first."""
    dataset = made("a", "bad", "bad", "bad", "bad", "b")
    for epoch in range(10):
        dataset.set_epoch(epoch)
        dataset.bad.fill_(False)
        fresh = [dataset[index]["pixel_values"].item() for index in (1, 2, 3, 4)]
        assert [dataset[index]["pixel_values"].item() for index in (1, 2, 3, 4)] == fresh


def test_the_one_readable_video_is_found():
    dataset = made("bad", "a", "bad", "bad")
    for epoch in range(30):
        dataset.set_epoch(epoch)
        assert dataset[0]["labels"] == 1


def test_all_bad():
    with pytest.raises(BadVideosError, match="No readable video among 2: 2 are known to be bad"):
        made("bad1", "bad2")[0]


def test_evaluation_keeps_the_place_of_a_bad_video():
    dataset = made("a", "bad", replace_bad=False)
    assert len(dataset) == 2
    assert dataset[1] == {"pixel_values": None, "labels": UNREADABLE}
    assert dataset[0]["labels"] == 0


# ------------------------------------------------------------------------------------------------------------ batches


def test_collator_stacks_and_normalises():
    config = VideoMAEV2Config(**TINY, image_mean=[0.5, 0.5, 0.0], image_std=[0.5, 0.25, 1.0])
    clip = torch.full((4, 3, 32, 32), 255, dtype=torch.uint8)
    batch = ClipCollator(config)([{"pixel_values": clip, "labels": 2}, {"pixel_values": clip * 0, "labels": 1}])
    assert (batch["pixel_values"].shape, batch["pixel_values"].dtype) == ((2, 4, 3, 32, 32), torch.float32)
    assert batch["pixel_values"][:, 0, :, 0, 0].tolist() == [[1, 2, 1], [-1, -2, 0]]
    assert batch["labels"].tolist() == [2, 1] and batch["labels"].dtype == torch.int64


def test_collator_leaves_the_processors_floats_and_the_ids_alone():
    items = [{"pixel_values": torch.full((2, 3), 0.25), "visible_ids": torch.tensor([1, 5])}] * 2
    batch = ClipCollator(VideoMAEV2Config(**TINY))(items)
    assert torch.equal(batch["pixel_values"], torch.full((2, 2, 3), 0.25))
    assert batch["visible_ids"].tolist() == [[1, 5], [1, 5]]


@pytest.mark.parametrize(
    ("others", "expected"),
    [([], (1, 4, 3, 32, 32)), ([torch.ones(6, 4, 3, 32, 32)], (2, 6, 4, 3, 32, 32))],
)
def test_collator_makes_empty_clips_of_unreadable_videos(others, expected):
    items = [{"pixel_values": None, "labels": UNREADABLE}]
    items += [{"pixel_values": views, "labels": 1} for views in others]
    batch = ClipCollator(VideoMAEV2Config(**TINY))(items)
    assert batch["pixel_values"].shape == expected
    assert batch["pixel_values"][0].abs().sum() == 0
    assert batch["labels"].tolist() == [-100, 1][: len(items)]


def test_an_unreadable_video_does_not_change_the_others_of_its_batch():
    clip = {"pixel_values": torch.full((4, 3, 32, 32), 255, dtype=torch.uint8), "labels": 1}
    collate = ClipCollator(VideoMAEV2Config(**TINY))
    batch = collate([clip, {"pixel_values": None, "labels": UNREADABLE}])
    assert torch.equal(batch["pixel_values"][:1], collate([clip])["pixel_values"])

"""The data set with its bad videos and weighted sources, and batches."""

import logging
from collections import Counter

import pytest
import torch
from helpers.indexed_video import write_indexed_video
from helpers.shared import TINY
from torch.utils.data import DataLoader

from videomae_hf import VideoDecodeError, VideoMAEV2Config
from videomae_hf.data.augmentation.mixing import Mixing
from videomae_hf.data.augmentation.transforms import normalize, random_erasing
from videomae_hf.data.clips import ClipSampler, FinetuneTransform, PretrainTransform
from videomae_hf.data.sources.folders_and_lists import VideoRecord
from videomae_hf.data.video_dataset import BadVideosError, ClipCollator, VideoDataset, generator_of
from videomae_hf.labels import UNREADABLE


@pytest.fixture(scope="module")
def video(tmp_path_factory):
    return str(write_indexed_video(tmp_path_factory.mktemp("video") / "clip.mp4", 40, g=12))


@pytest.fixture(scope="module")
def bad_video(tmp_path_factory):
    path = tmp_path_factory.mktemp("bad") / "bad.mp4"
    path.write_text("no video")
    return str(path)


# ---------------------------------------------------------------------------------------------------- the data set


def draw(sample: VideoRecord, generator: torch.Generator) -> dict:
    """A clip loader without videos; like a decoder, it may have drawn before it finds a video bad."""
    number = int(torch.randint(1_000_000, (), generator=generator))
    if sample.path.startswith("bad"):
        raise VideoDecodeError(f"{sample.path} cannot be decoded")
    return {"pixel_values": torch.full((1,), number), "labels": sample.label}


def numbers(dataset: VideoDataset, workers: int = 0, context: str | None = None) -> list[int]:
    loader = DataLoader(dataset, batch_size=None, num_workers=workers, multiprocessing_context=context)
    return [int(item["pixel_values"].sum()) for item in loader]


def made(*names: str, **options) -> VideoDataset:
    return VideoDataset([VideoRecord(name, label) for label, name in enumerate(names)], draw, **options)


def test_items_depend_on_seed_epoch_and_index_alone(video):
    load = FinetuneTransform(VideoMAEV2Config(**TINY), ClipSampler(4))
    dataset = VideoDataset([VideoRecord(video, label) for label in range(6)], load, seed=3)
    first = numbers(dataset)
    assert len(set(first)) > 3
    assert numbers(dataset) == numbers(dataset, workers=2) == first  # decoded here before the workers are forked
    dataset.set_epoch(1)
    second = numbers(dataset)
    assert second != first and numbers(dataset, workers=2) == second
    assert numbers(VideoDataset(dataset.samples, load, seed=4)) != first


@pytest.mark.parametrize("context", ["fork", "spawn", "forkserver"])
def test_workers_of_any_kind_give_the_same_items(video, bad_video, context):
    load = FinetuneTransform(VideoMAEV2Config(**TINY), ClipSampler(4))
    samples = [VideoRecord(path, label) for label, path in enumerate([video, bad_video, video, video])]
    alone, helped = (VideoDataset(samples, load, seed=3, weights=[1.5]) for _ in range(2))
    for dataset in (alone, helped):
        dataset.set_epoch(1)
    assert numbers(helped, workers=1, context=context) == numbers(alone)
    assert helped.bad.tolist() == alone.bad.tolist() == [False, True, False, False]


def test_bad_videos_are_replaced_logged_once_and_counted(video, bad_video, tmp_path, caplog):
    missing = str(tmp_path / "missing.mp4")
    load = FinetuneTransform(VideoMAEV2Config(**TINY), ClipSampler(4))
    dataset = VideoDataset(
        [VideoRecord(video, 0), VideoRecord(bad_video, 1), VideoRecord(missing, 2), VideoRecord(video, 3)], load
    )
    with caplog.at_level(logging.WARNING, logger="videomae_hf.data.video_dataset"):
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


def test_64_bad_videos_in_a_row_are_no_accident():
    """The one asked for, and 64 that were tried in its place."""
    dataset = made(*(f"bad{number}" for number in range(100)))
    with pytest.raises(BadVideosError, match="64 videos in a row cannot be read; their names are in the log above"):
        dataset[0]
    assert dataset.bad.sum() == 65


def test_fewer_bad_videos_than_64_or_known_ones_do_not_end_it():
    dataset = made(*(f"bad{number}" for number in range(64)), "a")
    for epoch in range(5):
        dataset.set_epoch(epoch)
        dataset.bad.fill_(False)
        assert dataset[0]["labels"] == 64
    dataset = made(*(f"bad{number}" for number in range(300)), "a")
    dataset.bad[:300] = True
    assert dataset[0]["labels"] == 300


def test_errors_that_are_no_bad_video_are_not_hidden():
    def broken(sample, generator):
        raise KeyError("a mistake in the code")

    with pytest.raises(KeyError, match="a mistake in the code"):
        VideoDataset([VideoRecord("a")], broken)[0]


def test_evaluation_keeps_the_place_of_a_bad_video():
    dataset = made("a", "bad", replace_bad=False)
    assert len(dataset) == 2
    assert dataset[1] == {"pixel_values": None, "labels": UNREADABLE}
    assert dataset[0]["labels"] == 0


# ---------------------------------------------------------------------------------------------------- weighted sources


def weighted(*weights: float, bad: tuple[int, ...] = (), seed: int = 0) -> VideoDataset:
    """Sources of 3, 8 and 4 videos, whose labels are 0 to 14."""
    sources = [source for source, length in enumerate((3, 8, 4)[: len(weights)]) for _ in range(length)]
    samples = [VideoRecord("bad" if n in bad else "a", n, source=source) for n, source in enumerate(sources)]
    return VideoDataset(samples, draw, seed=seed, weights=weights)


def labels(dataset: VideoDataset, epoch: int = 0) -> list[int]:
    dataset.set_epoch(epoch)
    return [dataset[index]["labels"] for index in range(len(dataset))]


def test_weights_say_how_often_an_epoch_has_a_video():
    dataset = weighted(2, 0.5, 1.5)
    assert len(dataset) == 6 + 4 + 6
    for epoch in range(4):
        counts = Counter(labels(dataset, epoch))
        assert [counts[label] for label in (0, 1, 2)] == [2, 2, 2]
        assert sorted(counts[label] for label in range(3, 11)) == [0, 0, 0, 0, 1, 1, 1, 1]
        assert sorted(counts[label] for label in range(11, 15)) == [1, 1, 2, 2]


def test_epochs_take_other_parts_of_a_source_and_repeat():
    epochs = [set(labels(weighted(1, 0.5), epoch)) - {0, 1, 2} for epoch in range(12)]
    assert [set(labels(weighted(1, 0.5), epoch)) - {0, 1, 2} for epoch in range(12)] == epochs
    assert len({tuple(sorted(part)) for part in epochs}) > 6
    assert set.union(*epochs) == set(range(3, 11))
    assert [set(labels(weighted(1, 0.5, seed=1), epoch)) - {0, 1, 2} for epoch in range(12)] != epochs


def test_weights_of_1_change_nothing():
    assert labels(weighted(1, 1.0, 1)) == list(range(15))
    plain = VideoDataset(weighted(1, 1, 1).samples, draw)
    assert numbers(weighted(1, 1, 1)) == numbers(plain)


def test_repeated_videos_are_drawn_anew():
    dataset = weighted(2)
    assert labels(dataset) == [0, 1, 2, 0, 1, 2]
    assert len(set(numbers(dataset))) == 6


def test_bad_videos_of_weighted_sources_are_replaced():
    dataset = weighted(2, 0.5, bad=(1, 4, 5))
    assert len(dataset) == 10
    for epoch in range(8):
        assert not {1, 4, 5} & set(labels(dataset, epoch))
    assert dataset.bad.tolist() == [n in (1, 4, 5) for n in range(11)]
    assert labels(dataset, 3) == labels(weighted(2, 0.5, bad=(1, 4, 5)), 3)


@pytest.mark.parametrize(
    ("weights", "message"),
    [((1, 0), "Source 1 has 8 videos and weight 0"), ((1, 1, 1, 2), "Source 3 has 0 videos and weight 2")],
)
def test_refused_weights(weights, message):
    with pytest.raises(ValueError, match=message):
        weighted(*weights)


def test_contents_that_are_no_files_reach_the_loader():
    dataset = VideoDataset([VideoRecord("a", 1, content=b"bytes")], lambda sample, generator: sample.video())
    assert dataset[0] == b"bytes"


# ------------------------------------------------------------------------------------------------------------ batches


def clip_of(value: int) -> torch.Tensor:
    return torch.full((4, 3, 32, 32), value, dtype=torch.uint8)


def test_collator_stacks_and_keeps_uint8():
    items = [{"pixel_values": clip_of(255), "labels": 2, "seed": 7}, {"pixel_values": clip_of(3), "labels": 1}]
    batch = ClipCollator(VideoMAEV2Config(**TINY))(items)
    assert set(batch) == {"pixel_values", "labels"}
    assert (batch["pixel_values"].shape, batch["pixel_values"].dtype) == ((2, 4, 3, 32, 32), torch.uint8)
    assert batch["pixel_values"][:, 0, :, 0, 0].tolist() == [[255] * 3, [3] * 3]
    assert batch["labels"].tolist() == [2, 1] and batch["labels"].dtype == torch.int64


def test_views_become_items_in_their_order(video):
    config = VideoMAEV2Config(**TINY)
    views = [[{"pixel_values": clip_of(10 * n + k), "labels": n, "seed": 0} for k in range(2)] for n in range(3)]
    batch = ClipCollator(config)(views)
    assert batch["pixel_values"][:, 0, 0, 0, 0].tolist() == [0, 1, 10, 11, 20, 21]
    assert batch["labels"].tolist() == [0, 0, 1, 1, 2, 2]
    dataset = VideoDataset([VideoRecord(video)] * 2, PretrainTransform(config, ClipSampler(4), num_sample=3))
    items = [dataset[index] for index in range(2)]
    batch = ClipCollator(config)(items)
    assert batch["visible_ids"].shape == (6, 4) and len(batch["visible_ids"].unique(dim=0)) == 6
    assert batch["visible_ids"].tolist() == [view["visible_ids"].tolist() for item in items for view in item]


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


def test_a_batch_of_unreadable_videos_of_several_labels_fits_the_others():
    config = VideoMAEV2Config(**TINY, num_labels=5, problem_type="multi_label_classification")
    readable = {"pixel_values": torch.ones(4, 3, 32, 32), "labels": torch.tensor([0.0, 1, 0, 0, 1])}
    unreadable = {"pixel_values": None, "labels": UNREADABLE}
    batch = ClipCollator(config)([dict(unreadable), dict(readable)])
    assert batch["labels"].tolist() == [[-100] * 5, [0, 1, 0, 0, 1]]
    batch = ClipCollator(config)([dict(unreadable), dict(unreadable)])
    assert batch["labels"].tolist() == [[-100] * 5] * 2 and batch["labels"].dtype == torch.float32


def varied(seeds: tuple[int, ...]) -> list[dict]:
    clips = torch.arange(256, dtype=torch.uint8).repeat(48).view(4, 3, 32, 32)
    return [{"pixel_values": clips.roll(n, -1), "labels": n % 3, "seed": seed} for n, seed in enumerate(seeds)]


def test_erasing_comes_from_the_seed_of_each_clip():
    config = VideoMAEV2Config(**TINY)
    collate = ClipCollator(config, erasing=0.5)
    seeds = tuple(range(100, 112))
    batch = collate(varied(seeds))
    plain = normalize(ClipCollator(config)(varied(seeds))["pixel_values"], config.image_mean, config.image_std)
    assert batch["pixel_values"].dtype == torch.float32 and batch["labels"].tolist() == [0, 1, 2] * 4
    erased = [not torch.equal(clip, other) for clip, other in zip(batch["pixel_values"], plain)]
    assert 2 <= sum(erased) <= 10
    for clip, other, seed in zip(batch["pixel_values"], plain, seeds):
        assert torch.equal(clip, random_erasing(other, generator_of(seed), 0.5))
    assert torch.equal(collate(varied(seeds))["pixel_values"], batch["pixel_values"])
    assert not torch.equal(collate(varied(seeds[::-1]))["pixel_values"], batch["pixel_values"])


def test_clips_of_evaluation_are_neither_mixed_nor_erased():
    """The Trainer has one collator for both; what evaluation loads has no seed."""
    config = VideoMAEV2Config(**TINY)
    items = [{"pixel_values": clip_of(n), "labels": n} for n in range(3)]
    batch = ClipCollator(config, Mixing(3, mixup_alpha=0.8, cutmix_alpha=1.0), erasing=1.0)(items)
    assert batch["labels"].tolist() == [0, 1, 2] and batch["pixel_values"].dtype == torch.uint8
    assert torch.equal(batch["pixel_values"], torch.stack([clip_of(n) for n in range(3)]))


def test_mixing_comes_from_the_first_seed():
    config = VideoMAEV2Config(**TINY)
    mixing = Mixing(3, mixup_alpha=0.8, cutmix_alpha=1.0, label_smoothing=0.1)
    collate = ClipCollator(config, mixing)
    batch, again = collate(varied((5, 1, 2))), collate(varied((5, 8, 9)))
    assert batch["pixel_values"].dtype == batch["labels"].dtype == torch.float32
    assert batch["labels"].shape == (3, 3) and batch["labels"].sum(dim=1).tolist() == pytest.approx([1, 1, 1])
    for name, value in batch.items():
        assert torch.equal(again[name], value)
    assert not torch.equal(collate(varied((6, 1, 2)))["pixel_values"], batch["pixel_values"])
    plain = normalize(ClipCollator(config)(varied((5, 1, 2)))["pixel_values"], config.image_mean, config.image_std)
    expected = mixing(plain, torch.tensor([0, 1, 2]), generator_of(5, 1))
    assert torch.equal(batch["pixel_values"], expected[0]) and torch.equal(batch["labels"], expected[1])

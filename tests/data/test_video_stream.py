"""Streams: what an epoch has, whoever reads it; bad videos; and a resumed run that equals one without a break."""

import json
import logging
import os
import sys
from pathlib import Path

import pytest
import torch
from helpers.commands import run as run_command
from helpers.indexed_video import write_indexed_video
from helpers.shared import REPO, TINY
from helpers.stream_shards import load_number, write_shards, write_tar
from torch.utils.data import DataLoader

from videomae_hf import VideoMAEV2Config, VideoMAEV2ForPreTraining
from videomae_hf.data.clips import ClipSampler
from videomae_hf.data.sources.hub_datasets import stream_shards
from videomae_hf.data.video_dataset import BadVideosError, ClipCollator
from videomae_hf.data.video_stream import Share, SkippingCollator, VideoStream, check_stream
from videomae_hf.models.masking import mask_to_ids, sample_masks, token_counts
from videomae_hf.settings.training_arguments import VideoMAETrainingArguments
from videomae_hf.training.trainer import VideoMAETrainer


def stream(folder: Path, load=load_number, batch_size: int = 2, num_videos: int | None = None, **options):
    rows = stream_shards(folder, labelled=False, num_videos=num_videos)
    sharing = {name: options.pop(name) for name in list(options) if name in Share.__dataclass_fields__}
    return VideoStream(rows, load, Share(batch_size, **sharing), **options)


def batches(dataset: VideoStream, num_workers: int = 0, epoch: int = 0) -> list:
    """The batches of an epoch, as lists of (number, draw); None for one that was skipped."""
    dataset.set_epoch(epoch)
    collate = SkippingCollator(lambda items: [tuple(item.values()) for item in items])
    loader = DataLoader(dataset, dataset.batch_size, collate_fn=collate, num_workers=num_workers)
    found = list(loader)
    assert len(found) == len(loader) == dataset.num_batches
    return [batch or None for batch in found]


def numbers(found: list) -> list[int]:
    return [number for batch in found for number, _ in batch]


@pytest.mark.parametrize(
    ("sizes", "processes", "workers"),
    [
        ([24], 1, 0),
        ([24], 2, 2),  # one shard for four readers
        ([10, 2, 12], 2, 2),  # three, of any size
        ([6, 6, 6, 6], 2, 2),
        ([3, 3, 3, 3, 3, 3, 3, 3], 2, 0),
        ([12, 12], 2, 2),  # a shard for each process
    ],
    ids=str,
)
def test_an_epoch_has_each_video_once(tmp_path, sizes, processes, workers):
    write_shards(tmp_path, sizes)
    parts = [stream(tmp_path, batch_size=3, process_index=i, num_processes=processes) for i in range(processes)]
    found = [numbers(batches(part, workers)) for part in parts]
    assert [len(part) for part in found] == [24 // processes] * processes
    assert sorted(number for part in found for number in part) == list(range(24))


def test_unequal_shards_give_equal_numbers_of_batches(tmp_path):
    write_shards(tmp_path, [20, 4])
    parts = [stream(tmp_path, process_index=index, num_processes=2) for index in range(2)]
    found = sorted((numbers(batches(part)) for part in parts), key=min)
    assert [len(part) for part in found] == [12, 12]
    # The reader of the short shard goes round again; the order, and what the next round reads, is drawn.
    assert set(found[1][:4]) == {20, 21, 22, 23} and len(set(found[0])) == 12 and max(found[0]) < 20


@pytest.mark.parametrize(("drop_last", "expected"), [(True, 3), (False, 4)])
def test_the_incomplete_last_batch(tmp_path, drop_last, expected):
    write_shards(tmp_path, [7])
    dataset = stream(tmp_path, drop_last=drop_last)
    found = batches(dataset)
    assert [len(batch) for batch in found] == [2] * expected and len(dataset) == 2 * expected
    assert len(set(numbers(found))) == min(2 * expected, 7)


@pytest.mark.parametrize(
    ("num_videos", "processes", "batches_per_step", "drop_last", "expected"),
    [
        (22, 1, 1, True, 11),
        (22, 1, 4, True, 8),
        (22, 2, 1, True, 5),
        (22, 2, 2, True, 4),
        (22, 1, 4, False, 11),
        (23, 2, 2, False, 6),
    ],
)
def test_batches_fill_whole_steps(tmp_path, num_videos, processes, batches_per_step, drop_last, expected):
    write_shards(tmp_path, [num_videos])
    options = {"num_processes": processes, "batches_per_step": batches_per_step, "drop_last": drop_last}
    parts = [stream(tmp_path, process_index=index, **options) for index in range(processes)]
    found = [numbers(batches(part)) for part in parts]
    assert [len(part) for part in found] == [2 * expected] * processes
    assert len({number for part in found for number in part}) == min(2 * expected * processes, num_videos)


def test_order_and_draws_follow_from_seed_and_epoch(tmp_path):
    write_shards(tmp_path, [6, 6, 6, 6])
    first = batches(stream(tmp_path))
    assert batches(stream(tmp_path)) == first
    others = [batches(stream(tmp_path), epoch=1), batches(stream(tmp_path, seed=1))]
    for other in others:
        assert numbers(other) != numbers(first) and sorted(numbers(other)) == list(range(24))
        assert not {draw for batch in other for _, draw in batch} & {draw for batch in first for _, draw in batch}
    assert numbers(first) != list(range(24))
    shards = [number // 6 for number in numbers(batches(stream(tmp_path, shuffle_buffer=1)))]
    assert sorted(shards) != shards  # shards are shuffled


def test_videos_of_few_shards_come_in_an_order_that_workers_do_not_change(tmp_path):
    write_shards(tmp_path, [24])
    assert numbers(batches(stream(tmp_path), num_workers=2)) == numbers(batches(stream(tmp_path), num_workers=3))


@pytest.mark.parametrize("workers", [0, 2, 3])
@pytest.mark.parametrize("sizes", [[24], [6, 6, 6, 6]], ids=str)
def test_skipped_batches_are_not_loaded_and_change_nothing(tmp_path, workers, sizes):
    write_shards(tmp_path, sizes, bad=(3, 4, 17))
    whole = batches(stream(tmp_path), workers, epoch=2)
    loaded = torch.zeros((), dtype=torch.int64).share_memory_()

    def count(sample, generator):
        loaded.add_(1)
        return load_number(sample, generator)

    dataset = stream(tmp_path, count)
    dataset.skip_batches(7)
    assert batches(dataset, workers, epoch=2) == [None] * 7 + whole[7:]
    assert int(loaded) <= 5 * 2 + 3
    dataset.skip_batches(0)
    assert batches(dataset, workers, epoch=2) == whole


def test_bad_videos_are_replaced_logged_once_and_counted(tmp_path, caplog):
    write_shards(tmp_path, [8], bad=(2, 3))
    dataset = stream(tmp_path, shuffle_buffer=1)
    with caplog.at_level(logging.WARNING):
        assert numbers(batches(dataset)) == [0, 1, 4, 4, 4, 5, 6, 7]
        batches(dataset, num_workers=2, epoch=1)
    shard = tmp_path / "shard-000000.tar"
    assert [record.getMessage() for record in caplog.records] == [
        f"Bad video, left out: {shard}/0002.mp4: no video",
        f"Bad video, left out: {shard}/0003.mp4: no video",
    ]
    assert dataset.bad_videos() == (2, 8)


def test_only_bad_videos(tmp_path):
    write_shards(tmp_path, [4], bad=(0, 1, 2, 3))
    with pytest.raises(BadVideosError, match="64 videos in a row cannot be read"):
        batches(stream(tmp_path))


def test_more_workers_than_videos(tmp_path):
    write_shards(tmp_path, [2])
    assert sorted(numbers(batches(stream(tmp_path, batch_size=1), num_workers=3))) == [0, 1]
    with pytest.raises(ValueError, match="A worker's part of the stream has no video"):
        batches(stream(tmp_path, batch_size=1, num_videos=3), num_workers=3)


def test_fewer_videos_than_a_batch(tmp_path):
    write_shards(tmp_path, [4])
    with pytest.raises(ValueError, match="The 4 videos of the stream do not fill a batch of 3 in each of 2 processes"):
        stream(tmp_path, batch_size=3, num_processes=2)
    message = "The 4 videos of the stream do not fill 3 batches of 2 .* lower .* or gradient_accumulation_steps"
    with pytest.raises(ValueError, match=message):
        stream(tmp_path, batches_per_step=3)


def test_check_stream(tmp_path):
    write_shards(tmp_path, [4, 4, 4], class_names=("hug", "kick", "sit"))
    rows = stream_shards(tmp_path)
    with pytest.raises(ValueError, match=r"The data set has no readable video \(12 tried\)"):
        check_stream(rows, [ClipSampler(4)], 1, 0, 4)
    video = write_indexed_video(tmp_path / "v.mp4", 16).read_bytes()
    for number in range(3):
        members = {f"{number}{key}.mp4": video if key < 3 else b"bad" for key in range(4)}
        write_tar(tmp_path / f"shard-{number:06d}.tar", members)
    rows = stream_shards(tmp_path, labelled=False)

    def check(*options, sampling_rate=1):
        return check_stream(rows, [ClipSampler(4, sampling_rate=sampling_rate)], *options)

    lines = check(1, 3, 12)
    assert lines[0] == "a stream of 12 videos in 3 shards"
    assert lines[1].startswith("3 of 12 checked videos cannot be read")
    assert lines[2].startswith("frames of the 9 checked videos: 16 to 16") and len(lines) == 3
    assert "3 shards for 4 readers (2 processes x 2 workers)" in check(2, 2, 4)[1]
    assert "3 shards cannot be divided evenly among 2 readers" in check(2, 0, 4)[1]
    with pytest.raises(ValueError, match="There are 12 videos, fewer than the 16 of one step"):
        check(1, 0, 16)
    with pytest.raises(ValueError, match="spans 19 frames, more than any of the 9 checked videos"):
        check(1, 0, 4, sampling_rate=6)


# ----------------------------------------------------------------------------------------------------- with the Trainer


class NumberClips:
    """A clip loader that draws the clip, and writes down the number of the video that it stands for."""

    def __init__(self, config: VideoMAEV2Config, log: Path | None = None):
        self.config, self.log = config, log

    def __call__(self, sample, generator) -> list[dict]:
        number = load_number(sample, generator)["number"]
        if self.log is not None:
            with self.log.open("a") as file:
                file.write(f"{number}\n")
        masked, decoded = sample_masks(self.config, 1, generator)
        visible, num_decoded = token_counts(self.config)
        shape = (self.config.num_frames, 3, *self.config.image_hw)
        item = {"visible_ids": mask_to_ids(~masked, visible)[0], "decoded_ids": mask_to_ids(decoded, num_decoded)[0]}
        clips = [torch.randint(0, 256, shape, generator=generator, dtype=torch.uint8) for _ in range(2)]
        return [{"pixel_values": clip, **item} for clip in clips]  # repeated augmentation


def trainer(output: Path, shards: Path, log: Path | None = None, **arguments) -> VideoMAETrainer:
    torch.manual_seed(0)
    model = VideoMAEV2ForPreTraining(VideoMAEV2Config(**TINY))
    defaults = {"per_device_train_batch_size": 2, "learning_rate": 1e-3, "use_cpu": True, "disable_tqdm": True}
    args = VideoMAETrainingArguments(
        **{**defaults, "output_dir": str(output), "logging_steps": 1, "save_strategy": "no", **arguments}
    )
    processes = {"process_index": args.process_index, "num_processes": args.world_size}
    processes["batches_per_step"] = args.gradient_accumulation_steps
    data = stream(shards, NumberClips(model.config, log), args.train_batch_size, seed=42, **processes)
    return VideoMAETrainer(model=model, args=args, train_dataset=data, data_collator=ClipCollator(model.config))


def losses(run: VideoMAETrainer) -> list[float]:
    return [entry["loss"] for entry in run.state.log_history if "loss" in entry]


@pytest.mark.parametrize(
    ("workers", "sizes", "resume_at"),  # epochs have 4 steps
    [
        ("none", [16], 2),
        ("none", [19], 6),  # three videos fill no step
        ("none", [4, 4, 4, 4], 6),
        ("two", [16], 6),
        ("two", [4, 4, 4, 4], 2),
        ("two", [4, 4, 4, 4], 4),
        ("persistent", [4, 4, 4, 4], 6),
    ],
)
def test_resumed_run_equals_one_without_a_break(tmp_path, monkeypatch, workers, sizes, resume_at):
    # Persistent workers do not hear at once that a run has ended, and are given this many seconds each.
    monkeypatch.setattr(torch.utils.data._utils, "MP_STATUS_CHECK_INTERVAL", 0.2)
    write_shards(tmp_path / "shards", sizes, bad=(5,))
    options = {"num_train_epochs": 2, "gradient_accumulation_steps": 2, "save_strategy": "steps", "save_steps": 2}
    if workers != "none":
        options |= {"dataloader_num_workers": 2, "dataloader_persistent_workers": workers == "persistent"}
    whole = trainer(tmp_path / "run", tmp_path / "shards", **options)
    whole.train()
    assert len(losses(whole)) == 8 and len(set(losses(whole))) == 8  # 16 videos, 2 a batch, 2 batches a step
    log = tmp_path / "log"
    resumed = trainer(tmp_path / "again", tmp_path / "shards", log, **options)
    resumed.train(resume_from_checkpoint=str(tmp_path / "run" / f"checkpoint-{resume_at}"))
    assert losses(resumed) == losses(whole)
    for name, parameter in resumed.model.state_dict().items():
        assert torch.equal(parameter, whole.model.state_dict()[name])
    assert len(log.read_text().split()) == (8 - resume_at) * 4  # no other video was loaded


def test_two_processes_share_an_epoch(tmp_path):
    write_shards(tmp_path / "shards", [6, 6, 6, 6])
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2", __file__]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": f"{REPO}{os.pathsep}{REPO / 'tests'}"}
    done = run_command([*command, tmp_path], env=environment)
    assert done.returncode == 0, done.stderr[-3000:]
    seen = [(tmp_path / f"rank{rank}").read_text().split() for rank in range(2)]
    assert sorted(map(int, seen[0] + seen[1])) == list(range(24))
    assert [len(part) for part in seen] == [12, 12]
    state = json.loads((tmp_path / "out" / "trainer_state.json").read_text())
    assert state["global_step"] == 6 and state["epoch"] == 1.0


if __name__ == "__main__":  # a process of the test above
    folder = Path(sys.argv[1])
    run = trainer(
        folder / "out", folder / "shards", folder / f"rank{os.environ['RANK']}", num_train_epochs=1,
        dataloader_num_workers=2,
    )  # fmt: skip
    run.train()
    run.save_state()

"""Pretraining on images and videos together: batches of one kind, masks of one slice, losses apart, exactness."""

import json
import re
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from helpers.commands import videomae
from helpers.launching import TORCHRUN
from helpers.shared import TINY
from helpers.small_runs import succeeded, train
from PIL import Image
from safetensors.torch import load_file

from videomae_hf import VideoMAEV2Config
from videomae_hf.data.clips import PretrainTransform
from videomae_hf.data.kinds import OneKindSampler, shares
from videomae_hf.data.sources.folders_and_lists import Reading, read_sources
from videomae_hf.data.sources.records import VideoRecord
from videomae_hf.data.sources.synthetic import write_video
from videomae_hf.data.video_dataset import VideoDataset
from videomae_hf.data.videos import clip_sampler
from videomae_hf.settings.groups import ClipSettings
from videomae_hf.training.monitoring import KindLosses


@pytest.mark.parametrize(
    ("counts", "total", "expected"),
    [
        ([12, 4], 4, [3, 1]),
        ([10, 6], 4, [3, 1]),
        ([5, 5], 3, [2, 1]),
        ([0, 8], 4, [0, 4]),
        ([7, 9], 16, [7, 9]),
        ([10000, 10], 156, [155, 1]),
    ],
)
def test_shares(counts, total, expected):
    assert shares(counts, total) == expected


def test_an_epoch_of_one_batch_cannot_hold_both():
    with pytest.raises(ValueError, match="An epoch of 1 batch cannot hold videos and images"):
        shares([8, 8], 1)


def dataset(videos: int, images: int, weights=None) -> VideoDataset:
    records = [VideoRecord(f"v{number}", source=0) for number in range(videos)]
    records += [VideoRecord(f"i{number}", source=1) for number in range(images)]
    return VideoDataset(records, lambda record, generator: {"path": record.path}, seed=3, kinds=[0, 1], weights=weights)


def test_batches_of_one_kind():
    data = dataset(videos=12, images=4)
    sampler = OneKindSampler(data, batch_size=4, num_batches=4)
    epochs = []
    for epoch in range(20):
        data.set_epoch(epoch)
        batches = np.array(list(sampler)).reshape(4, 4)
        assert Counter(batches.ravel().tolist()) == dict.fromkeys(range(16), 1)  # each once
        kinds = batches >= 12
        assert (kinds == kinds[:, :1]).all() and kinds[:, 0].sum() == 1
        epochs.append(kinds[:, 0].tolist())
        assert list(sampler) == batches.ravel().tolist()  # the same again, as after a resume
    assert {epoch.index(True) for epoch in epochs} == {0, 1, 2, 3}  # the turns differ from epoch to epoch
    assert len(sampler) == 16


def test_kinds_that_fill_no_batches_and_weights():
    data = dataset(videos=6, images=3)
    batches = np.array(list(OneKindSampler(data, batch_size=4, num_batches=2))).reshape(2, 4) >= 6
    assert sorted(batches.sum(axis=1).tolist()) == [0, 4]  # 6 videos fill one batch, 3 images too, one of them twice
    weighted = dataset(videos=2, images=8, weights=[4.0, 0.5])
    assert weighted.sources().tolist() == [0] * 8 + [1] * 4
    batches = list(OneKindSampler(weighted, batch_size=4, num_batches=3))
    assert sorted(batches) == list(range(12))


def test_a_bad_image_is_replaced_by_an_image():
    data = dataset(videos=20, images=2)

    def load(record, generator):
        if record.path == "i0":
            raise OSError("no such file")
        return {"path": record.path}

    data.load = load
    assert data[20] == {"path": "i1"}


def write_data(folder) -> None:
    """Eight videos of 8 frames, and four images of another size."""
    rng = np.random.default_rng(0)
    for name in ("videos", "images"):
        (folder / name).mkdir()
    for number in range(8):
        frames = rng.integers(0, 256, (8, 40, 40, 3), dtype=np.uint8)
        write_video(folder / "videos" / f"{number}.mp4", frames)
    for number in range(4):
        Image.fromarray(rng.integers(0, 256, (48, 36, 3), dtype=np.uint8)).save(folder / "images" / f"{number}.png")


def recipe(folder, **more) -> str:
    sources = [
        {"data": str(folder / "videos"), "sampling_rate": 1},
        {"data": str(folder / "images"), "image_mask_ratio": 0.75},
    ]
    settings = {
        **{"train_data": sources, "mask_type": "random", "mask_ratio": 0.9, "decoder_mask_ratio": 0.0},
        **{name: value for name, value in TINY.items() if name not in ("mask_ratio", "decoder_mask_ratio")},
        **{"per_device_train_batch_size": 2, "num_train_epochs": 2, "logging_steps": 3, "learning_rate": 1e-3},
        **{
            "use_cpu": True,
            "disable_tqdm": True,
            "save_strategy": "steps",
            "save_steps": 4,
        },
    }
    path = folder / "recipe.yaml"
    path.write_text(yaml.safe_dump({**settings, **more}))
    return str(path)


def test_an_image_is_one_slice_of_a_clip(tmp_path):
    write_data(tmp_path)
    sources = yaml.safe_load(Path(recipe(tmp_path)).read_text())["train_data"]
    records, _, options, _ = read_sources(sources, reading=Reading(labelled=False))
    options[0].pop("sampling_rate")
    config = VideoMAEV2Config(**{**TINY, "mask_type": "random"})
    samplers = [clip_sampler(ClipSettings(sampling_rate=1), config, **one) for one in options]
    transform = PretrainTransform(config, samplers)
    image = next(record for record in records if record.source == 1)
    item = transform(image, torch.Generator().manual_seed(0))
    assert item["pixel_values"].shape == (2, 3, 32, 32)  # one tubelet
    assert torch.equal(item["pixel_values"][0], item["pixel_values"][1])
    assert item["visible_ids"].shape == (4,) and item["decoded_ids"].shape == (12,)  # of 4 x 4 tokens
    assert max(item["visible_ids"].max(), item["decoded_ids"].max()) < 16
    video = next(record for record in records if record.source == 0)
    assert transform(video, torch.Generator().manual_seed(0))["pixel_values"].shape == (4, 3, 32, 32)


@pytest.mark.parametrize(
    ("fields", "ratio", "message"),
    [
        ({}, 1.5, "image_mask_ratio=1.5 of a source in train_data must be a number between 0 and 1"),
        ({"num_frames": 1, "tubelet_size": 1}, 0.75, "the model takes single images; leave it out"),
        ({"use_cls_token": True}, 0.75, "needs a model without class tokens"),
    ],
)
def test_models_that_cannot_take_both_are_refused(fields, ratio, message):
    config = VideoMAEV2Config(**{**TINY, "mask_type": "random", **fields})
    with pytest.raises(ValueError, match=message):
        clip_sampler(ClipSettings(), config, image_mask_ratio=ratio)


def test_losses_apart():
    class Here:
        args = type("Args", (), {"device": torch.device("cpu")})
        accelerator = type("Accelerator", (), {"reduce": staticmethod(lambda sums, reduction: sums)})

    losses = KindLosses(num_frames=4)
    for frames, loss in ((4, 1.0), (2, 5.0), (4, 2.0)):
        losses.add({"pixel_values": torch.zeros(1, frames, 1, 1, 1)}, torch.tensor(loss))
    assert losses.entries(Here) == {"loss_videos": 1.5, "loss_images": 5.0}
    assert losses.entries(Here) == {}


def test_a_run_resumes_bit_for_bit(tmp_path, capsys):
    write_data(tmp_path)
    videomae("pretrain", recipe(tmp_path), "--output_dir", tmp_path / "whole")
    output = capsys.readouterr().out
    assert "8 videos and 4 images, in batches of one kind" in output
    assert "frames of the 8 checked videos" in output
    assert len(re.findall(r"'loss_videos': '?[\d.]+", output)) >= 3 and "'loss_images'" in output
    history = json.loads((tmp_path / "whole/trainer_state.json").read_text())["log_history"]
    assert [entry["step"] for entry in history if "loss" in entry] == [3, 6, 9, 12]  # 4 + 2 batches an epoch
    # Step 8 is in the second epoch.
    videomae(
        "pretrain", recipe(tmp_path), "--output_dir", tmp_path / "resumed", "--resume_from_checkpoint",
        tmp_path / "whole/checkpoint-8",
    )  # fmt: skip
    expected, found = (load_file(tmp_path / name / "model.safetensors") for name in ("whole", "resumed"))
    torch.testing.assert_close(found, expected, rtol=0, atol=0)


def test_images_alone_are_for_a_model_of_images(tmp_path):
    write_data(tmp_path)
    sources = [{"data": str(tmp_path / "images"), "image_mask_ratio": 0.75}]
    with pytest.raises(ValueError, match="Every source in train_data has image_mask_ratio"):
        videomae("pretrain", recipe(tmp_path, train_data=sources), "--output_dir", tmp_path / "out")


def test_finetune_refuses_it(tmp_path):
    for name in ("videos", "images"):
        (tmp_path / name / "a").mkdir(parents=True)
    write_video(tmp_path / "videos/a/0.mp4", np.zeros((8, 32, 32, 3), np.uint8))
    Image.new("RGB", (32, 32)).save(tmp_path / "images/a/0.png")
    with pytest.raises(ValueError, match="image_mask_ratio of a source in train_data is for pretrain"):
        videomae("finetune", recipe(tmp_path), "--output_dir", tmp_path / "out")


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_two_processes_train_what_one_does(tmp_path):
    """Two batches a step, of any kinds: accumulated by one process, or one in each of two."""
    write_data(tmp_path)
    settings = recipe(tmp_path, gradient_accumulation_steps=2, logging_steps=1)
    succeeded(train("pretrain", settings, "--output_dir", tmp_path / "one"))
    more = ["--output_dir", tmp_path / "two", "--gradient_accumulation_steps", 1]
    succeeded(train("pretrain", settings, *more, launcher=TORCHRUN))
    histories = [json.loads((tmp_path / name / "trainer_state.json").read_text()) for name in ("one", "two")]
    names = ("loss", "loss_videos", "loss_images")
    one, two = ([{key: entry.get(key) for key in names} for entry in some["log_history"] if "loss" in entry]
                for some in histories)  # fmt: skip
    assert len(one) == len(two) == 6
    for first, second in zip(one, two):
        assert first == {key: second[key] and pytest.approx(second[key], abs=2e-4) for key in names}

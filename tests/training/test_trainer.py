"""Parameter groups, the learning rate rule, the log, bad videos, and a resumed run that equals one without a break."""

import numpy as np
import pytest
import torch
from accelerate.data_loader import BatchSamplerShard
from helpers.shared import TINY
from torch.utils.data import BatchSampler
from transformers import TrainerCallback

from videomae_hf import VideoMAEV2Config, VideoMAEV2ForPreTraining, VideoMAEV2ForVideoClassification
from videomae_hf.data.clips import ClipSampler, PretrainTransform
from videomae_hf.data.sources.folders_and_lists import VideoRecord
from videomae_hf.data.sources.synthetic import synthesise_video, write_video
from videomae_hf.data.video_dataset import BadVideosError, ClipCollator, VideoDataset
from videomae_hf.settings.training_arguments import VideoMAETrainingArguments
from videomae_hf.training.optimization import layer_number, official_schedule, parameter_groups
from videomae_hf.training.planning import steps_of
from videomae_hf.training.trainer import VideoMAETrainer


@pytest.fixture(scope="module")
def videos(tmp_path_factory):
    folder = tmp_path_factory.mktemp("videos")
    for index in range(8):
        write_video(folder / f"{index}.mp4", synthesise_video("left", np.random.default_rng(index), 32, 8))
    return [VideoRecord(str(path)) for path in sorted(folder.iterdir())]


def trainer(folder, samples, **arguments) -> VideoMAETrainer:
    torch.manual_seed(0)
    # 8 frames are 4 slices, over which a running cell decodes each place equally often: every clip has the same number
    # of tokens in the loss, so that a batch may be split in any way.
    model = VideoMAEV2ForPreTraining(VideoMAEV2Config(**{**TINY, "num_frames": 8}, decoder_mask_ratio=0.5))
    data = VideoDataset(samples, PretrainTransform(model.config, ClipSampler(num_frames=8, sampling_rate=1)), seed=42)
    defaults = {"per_device_train_batch_size": 2, "learning_rate": 1e-3, "use_cpu": True, "disable_tqdm": True}
    args = VideoMAETrainingArguments(
        **{**defaults, "output_dir": str(folder), "logging_steps": 1, "save_strategy": "no", **arguments}
    )
    return VideoMAETrainer(model=model, args=args, train_dataset=data, data_collator=ClipCollator(model.config))


def losses(run: VideoMAETrainer) -> list[float]:
    return [entry["loss"] for entry in run.state.log_history if "loss" in entry]


@pytest.mark.parametrize(
    ("name", "number"),
    [
        ("videomae.embeddings.patch_embeddings.projection.weight", 0),
        ("videomae.encoder.layer.0.attention.attention.query.weight", 1),
        ("videomae.encoder.layer.11.output.dense.bias", 12),
        ("videomae.layernorm.weight", 13),
        ("decoder.decoder_layers.3.output.dense.weight", 13),
        ("mask_token", 13),
        ("fc_norm.weight", 13),
        ("classifier.bias", 13),
    ],
)
def test_layer_numbers(name, number):
    assert layer_number(name, depth=12) == number


def test_groups_decay_weights_only_and_scale_rates_by_layer():
    config = VideoMAEV2Config(**TINY, use_cosine_attention=True, position_embedding_type="learned")
    model = VideoMAEV2ForVideoClassification(config)
    groups = parameter_groups(model, learning_rate=1.0, weight_decay=0.05, layer_decay=0.5)
    found = {id(parameter): group for group in groups for parameter in group["params"]}
    assert len(found) == len(list(model.parameters()))
    settings = {name: (found[id(p)]["lr"], found[id(p)]["weight_decay"]) for name, p in model.named_parameters()}
    assert settings["classifier.weight"] == (1.0, 0.05)
    assert settings["classifier.bias"] == (1.0, 0.0)
    assert settings["fc_norm.weight"] == (1.0, 0.0)
    assert settings["videomae.encoder.layer.1.attention.attention.query.weight"] == (0.5, 0.05)
    assert settings["videomae.encoder.layer.1.attention.attention.query.bias"] == (0.5, 0.0)
    assert settings["videomae.encoder.layer.0.attention.attention.scale"] == (0.25, 0.0)
    assert settings["videomae.embeddings.position_embeddings"] == (0.125, 0.0)
    assert settings["videomae.embeddings.patch_embeddings.projection.weight"] == (0.125, 0.05)
    assert groups[0]["lr"] == 1.0  # the one the Trainer logs


def test_mask_token_has_no_weight_decay():
    model = VideoMAEV2ForPreTraining(VideoMAEV2Config(**TINY))
    groups = parameter_groups(model, 1e-3, 0.05, 1.0)
    without = next(group for group in groups if group["weight_decay"] == 0)
    assert any(parameter is model.mask_token for parameter in without["params"])


@pytest.mark.parametrize(
    ("batch", "accumulation", "effective"),
    [(64, 1, 1.5e-4 * 64 / 256), (16, 4, 1.5e-4 * 64 / 256), (256, 8, 1.2e-3)],  # the last: V1 K400 base, 2048 clips
)
def test_learning_rate_rule(batch, accumulation, effective):
    args = VideoMAETrainingArguments(
        use_cpu=True,
        per_device_train_batch_size=batch,
        gradient_accumulation_steps=accumulation,
        base_learning_rate=1.5e-4,
        base_min_learning_rate=1e-5,
    )
    assert args.total_batch_size == batch * accumulation
    assert args.learning_rate == pytest.approx(effective)
    assert args.lr_scheduler_kwargs == {"min_lr_rate": pytest.approx(1e-5 / 1.5e-4)}


def test_schedule_warms_up_from_zero_and_ends_at_the_minimum(tmp_path, videos):
    run = trainer(
        tmp_path,
        videos,
        num_train_epochs=4,
        warmup_epochs=1,
        base_learning_rate=0.128,
        base_min_learning_rate=0.0128,
        learning_rate=5e-5,
    )
    run.create_optimizer_and_scheduler(num_training_steps=16)
    rates = []
    for _ in range(17):
        rates.append(run.lr_scheduler.get_last_lr()[0])
        run.optimizer.step()
        run.lr_scheduler.step()
    assert rates[:5] == pytest.approx([0, 1e-3 / 3, 2e-3 / 3, 1e-3, 1e-3])  # 0.128 * 2 / 256
    assert rates[10] == pytest.approx(1e-4 + 0.9e-3 / 2)
    assert rates[16] == pytest.approx(1e-4)


@pytest.mark.parametrize(
    ("warmup", "steps", "expected"),
    [
        (0, 4, [1, 0.55 + 0.45 * 0.5**0.5, 0.55, 0.55 - 0.45 * 0.5**0.5, 0.1]),
        (1, 3, [0, 1, 0.55, 0.1]),
        (2, 4, [0, 1, 1, 0.55, 0.1]),
        (3, 3, [0, 0.5, 1, 1]),
    ],
)
def test_official_schedule(warmup, steps, expected):
    """Steps of warmup and of the run; then the rates, the last of them behind the run."""
    groups = [{"params": [torch.nn.Parameter(torch.zeros(1))], "lr": rate} for rate in (1.0, 0.5)]
    optimizer = torch.optim.SGD(groups)
    scheduler = official_schedule(optimizer, warmup, steps, 0.1)
    rates = []
    for _ in range(steps + 1):
        rates.append([group["lr"] for group in optimizer.param_groups])
        optimizer.step()
        scheduler.step()
    assert rates == [pytest.approx([rate, rate / 2]) for rate in expected]


def test_runs_with_a_learning_rate_of_their_own_keep_the_schedules_of_transformers(tmp_path, videos):
    run = trainer(tmp_path, videos, num_train_epochs=4, warmup_epochs=1, lr_scheduler_type="linear", learning_rate=0.1)
    run.create_optimizer_and_scheduler(num_training_steps=16)
    factor = run.lr_scheduler.lr_lambdas[0]
    assert [factor(step) for step in (0, 1, 4, 10, 16)] == [0, 0.25, 1, 0.5, 0]


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"lr_scheduler_type": "constant"}, "lr_scheduler_type and base_learning_rate=0.1 are both set"),
        ({"lr_scheduler_kwargs": {"min_lr": 1}}, "lr_scheduler_kwargs and base_learning_rate=0.1 are both set"),
        ({"warmup_epochs": 1, "warmup_steps": 5}, "warmup_epochs=1 and warmup_steps=5 are both set"),
        ({"train_sampling_strategy": "group_by_length"}, "'group_by_length' is for inputs of different lengths"),
    ],
    ids=str,
)
def test_settings_that_contradict_each_other(settings, message):
    with pytest.raises(ValueError, match=message):
        VideoMAETrainingArguments(use_cpu=True, base_learning_rate=0.1, **settings)


def test_loss_falls_and_the_log_has_throughput(tmp_path, videos):
    run = trainer(tmp_path, videos, num_train_epochs=100, per_device_train_batch_size=8, learning_rate=1e-2)
    run.train()
    history = losses(run)
    assert sum(history[-8:]) < 0.93 * sum(history[:8])
    entry = next(entry for entry in run.state.log_history if "loss" in entry)
    assert entry["clips_per_second"] > 0 and 0 <= entry["data_wait"] <= 1


def test_throughput_counts_each_clip_of_a_video(tmp_path, videos):
    """Steps of two batches of two videos, each as three clips."""
    run = trainer(tmp_path, videos, gradient_accumulation_steps=2, max_steps=2)
    run.train_dataset.load = PretrainTransform(run.model.config, ClipSampler(num_frames=8, sampling_rate=1), 3)
    seen = []
    run.add_callback(_Clips(run, seen))
    run.train()
    assert seen == [12, 12]


class _Clips(TrainerCallback):
    def __init__(self, run, seen):
        self.run, self.seen = run, seen

    def on_step_end(self, args, state, control, **kwargs):
        self.seen.append(self.run._clips_timed)


def test_accumulation_equals_one_large_batch(tmp_path, videos):
    whole = trainer(tmp_path / "a", videos, num_train_epochs=2, per_device_train_batch_size=8)
    parts = trainer(tmp_path / "b", videos, num_train_epochs=2, gradient_accumulation_steps=4)
    whole.train()
    parts.train()
    assert losses(parts) == pytest.approx(losses(whole), abs=1e-5)
    for one, other in zip(whole.model.parameters(), parts.model.parameters()):
        torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("sampling", ["random", "sequential"])
def test_an_epoch_has_as_many_steps_however_a_batch_is_split(tmp_path, videos, sampling):
    """22 videos in steps of 8: two, over other videos in each epoch if they are shuffled."""
    runs = {}
    for batch, accumulation in ((8, 1), (4, 2), (2, 4)):
        sizes = {"per_device_train_batch_size": batch, "gradient_accumulation_steps": accumulation}
        run = trainer(
            tmp_path / str(batch), (videos * 3)[:22], num_train_epochs=3, train_sampling_strategy=sampling, **sizes
        )
        indices, read = [], run.train_dataset._position
        run.train_dataset._position = lambda index, indices=indices, read=read: indices.append(index) or read(index)
        assert steps_of(run.args, run.train_dataset) == (2, 6)
        run.train()
        assert len(losses(run)) == 6 and run.state.epoch == 3
        epochs = [indices[start : start + 16] for start in (0, 16, 32)]
        assert len(indices) == 48 and [len(set(epoch)) for epoch in epochs] == [16] * 3
        assert len({tuple(sorted(epoch)) for epoch in epochs}) == (1 if sampling == "sequential" else 3)
        runs[batch] = (losses(run), indices)
    for batch in (4, 2):
        assert runs[batch][1] == runs[8][1]
        assert runs[batch][0] == pytest.approx(runs[8][0], abs=1e-5)


@pytest.mark.parametrize(("num_videos", "batch", "accumulation"), [(22, 4, 1), (22, 2, 2), (17, 1, 4)])
def test_two_processes_share_whole_steps(tmp_path, videos, monkeypatch, num_videos, batch, accumulation):
    """The part of each process, as accelerate shares the batches out."""
    sizes = {"per_device_train_batch_size": batch, "gradient_accumulation_steps": accumulation}
    run = trainer(tmp_path, (videos * 3)[:num_videos], **sizes)
    monkeypatch.setattr(VideoMAETrainingArguments, "world_size", 2)
    assert steps_of(run.args, run.train_dataset)[0] == 2
    batches = BatchSampler(run._get_train_sampler(), batch, drop_last=True)
    parts = [BatchSamplerShard(batches, 2, index) for index in range(2)]
    assert [len(list(part)) for part in parts] == [len(part) for part in parts] == [2 * accumulation] * 2


def test_fewer_videos_than_a_step_are_refused(tmp_path, videos):
    run = trainer(tmp_path, videos[:7], gradient_accumulation_steps=4)
    with pytest.raises(ValueError, match="An epoch has 7 videos, fewer than the 8 of one step; lower per_device"):
        run.train()
    assert trainer(tmp_path, videos[:7], gradient_accumulation_steps=4, dataloader_drop_last=False, max_steps=1).train()


@pytest.mark.parametrize("accumulation", [1, 2])
def test_resume_within_an_epoch_that_leaves_videos_out(tmp_path, videos, accumulation):
    options = {"num_train_epochs": 3, "save_strategy": "steps", "save_steps": 1}
    options |= {"gradient_accumulation_steps": accumulation, "per_device_train_batch_size": 4 // accumulation}
    samples = (videos * 2)[:11]  # two steps of four
    unbroken = trainer(tmp_path / "a", samples, **options)
    unbroken.train()
    assert len(losses(unbroken)) == 6
    for step in (2, 3):
        broken = trainer(tmp_path / "b", samples, **{**options, "save_strategy": "no"})
        broken.train(resume_from_checkpoint=str(tmp_path / "a" / f"checkpoint-{step}"))
        assert losses(broken) == losses(unbroken)
        for one, other in zip(unbroken.model.parameters(), broken.model.parameters()):
            assert torch.equal(one, other)


@pytest.mark.parametrize("workers", [0, 1])
def test_resumed_run_equals_an_unbroken_one(tmp_path, videos, workers):
    options = {"num_train_epochs": 3, "save_strategy": "steps", "save_steps": 6, "dataloader_num_workers": workers}
    unbroken = trainer(tmp_path / "a", videos, **options)
    unbroken.train()
    broken = trainer(tmp_path / "a", videos, **options)
    broken.train(resume_from_checkpoint=str(tmp_path / "a" / "checkpoint-6"))  # in the middle of the second epoch
    assert len(losses(unbroken)) == 12
    assert losses(broken)[-6:] == losses(unbroken)[-6:]
    for one, other in zip(unbroken.model.parameters(), broken.model.parameters()):
        assert torch.equal(one, other)


def test_bad_videos_are_counted_and_stop_the_run_past_the_limit(tmp_path, videos):
    (tmp_path / "bad.mp4").write_bytes(b"no video")
    samples = [*videos[:7], VideoRecord(str(tmp_path / "bad.mp4"))]
    run = trainer(tmp_path, samples, num_train_epochs=1, max_bad_fraction=0.2)
    run.train()
    assert run.state.global_step == 4  # the epoch has its length
    logged = [entry.get("bad_videos", 0) for entry in run.state.log_history if "loss" in entry]
    assert logged[-1] == 1
    with pytest.raises(BadVideosError, match="1 of 8 videos cannot be read, more than max_bad_fraction=0.1"):
        trainer(tmp_path, samples, num_train_epochs=1, max_bad_fraction=0.1).train()


def test_evaluation_keeps_the_incomplete_last_batch(tmp_path, videos):
    run = trainer(tmp_path, videos, per_device_eval_batch_size=3)
    assert run.args.dataloader_drop_last
    for loader in (run.get_eval_dataloader(run.train_dataset), run.get_test_dataloader(run.train_dataset)):
        assert sum(len(batch["pixel_values"]) for batch in loader) == 8
    assert run.args.dataloader_drop_last

"""Runs that are interrupted: resumed ones equal unbroken ones, and what was saved stays good."""

import json
import multiprocessing
import os
import resource
import signal
from pathlib import Path

import pytest
import torch
from helpers.shared import TINY
from helpers.stream_shards import write_shards
from helpers.synthetic_clips import DrawnClips, losses, saved_state, trainer
from transformers import TrainerCallback

from videomae_hf import VideoMAEV2Config
from videomae_hf.checkpoints.run_folders import last_checkpoint
from videomae_hf.data.sources.hub_datasets import stream_shards
from videomae_hf.data.video_stream import Share, VideoStream
from videomae_hf.training.safeguards import CannotWriteError


WORKERS = {
    "none": {},
    "two": {"dataloader_num_workers": 2},
    "persistent": {"dataloader_num_workers": 2, "dataloader_persistent_workers": True},
}


@pytest.fixture(autouse=True)
def no_waiting(monkeypatch):
    # Persistent workers do not hear at once that a run has ended, and are given this many seconds each.
    monkeypatch.setattr(torch.utils.data._utils, "MP_STATUS_CHECK_INTERVAL", 0.2)


class AtStep(TrainerCallback):
    def __init__(self, step: int, action):
        self.step, self.action = step, action

    def on_step_begin(self, args, state, control, **kwargs):
        if state.global_step + 1 == self.step:
            self.action(**kwargs)


# ---------------------------------------------------------------------------------------- resumed equals uninterrupted


def stream(tmp_path: Path) -> VideoStream:
    if not (tmp_path / "shards").exists():
        write_shards(tmp_path / "shards", [4, 6])
    rows = stream_shards(tmp_path / "shards", labelled=False)
    return VideoStream(rows, DrawnClips(VideoMAEV2Config(**TINY)), Share(2), seed=42)


@pytest.mark.parametrize("workers", WORKERS)
@pytest.mark.parametrize("data", ["files", "stream"])
def test_resumed_equals_unbroken(tmp_path, data, workers):
    """In the middle of an epoch and between two, with all that is random in a step."""

    def run(folder: str):
        options = {"num_train_epochs": 3, "gradient_accumulation_steps": 2, "save_strategy": "steps", "save_steps": 2}
        options["dataloader_drop_last"] = False
        return trainer(
            tmp_path / folder,
            stream(tmp_path) if data == "stream" else None,
            fields={"drop_path_rate": 0.3, "hidden_dropout_prob": 0.1},
            ema_decay=0.99,
            **options,
            **WORKERS[workers],
        )

    unbroken = run("unbroken")
    unbroken.train()
    expected = losses(unbroken)
    assert len(expected) == len(set(expected)) == 9  # 5 batches are 3 steps an epoch
    resumed = run("resumed")
    resumed.train(resume_from_checkpoint=str(tmp_path / "unbroken" / "checkpoint-2"))
    assert losses(resumed) == expected
    states = [saved_state(tmp_path / name / "checkpoint-9") for name in ("unbroken", "resumed")]
    torch.testing.assert_close(states[1], states[0], rtol=0, atol=0)


def test_each_process_drops_other_paths_from_seed_and_step(tmp_path):
    def seeds(**options) -> list[int]:
        seen = []
        run = trainer(tmp_path, max_steps=3, **options)
        for step in (1, 2, 3):
            run.add_callback(AtStep(step, lambda **_: seen.append(torch.initial_seed())))
        run.train()
        return seen

    first = seeds()
    assert seeds() == first and len(set(first)) == 3
    assert not set(seeds(seed=43)) & set(first)


# ------------------------------------------------------------------------------------------------ complete checkpoints


def test_half_written_checkpoints_are_passed_over(tmp_path, caplog):
    assert last_checkpoint(tmp_path / "none") is None
    trainer(tmp_path, max_steps=5, save_strategy="steps", save_steps=1).train()
    assert last_checkpoint(tmp_path) == str(tmp_path / "checkpoint-5")
    # As a kill leaves them: before the last file, and within it.
    (tmp_path / "checkpoint-5" / "trainer_state.json").unlink()
    state = tmp_path / "checkpoint-4" / "trainer_state.json"
    state.write_text(state.read_text()[:100])
    (tmp_path / "checkpoint-10").mkdir()
    (tmp_path / "checkpoint-best").mkdir()
    assert last_checkpoint(tmp_path) == str(tmp_path / "checkpoint-3")
    assert [record.args[0].name for record in caplog.records] == ["checkpoint-10", "checkpoint-5", "checkpoint-4"]


@pytest.mark.parametrize("part", ["save_model", "_save_optimizer_and_scheduler", "_save_rng_state"])
def test_a_checkpoint_cut_short_counts_as_none_though_one_of_its_name_was_there(tmp_path, monkeypatch, part):
    options = {"max_steps": 4, "save_strategy": "steps", "save_steps": 2}
    trainer(tmp_path, **options).train()
    run = trainer(tmp_path, **options, save_total_limit=1)

    def killed(*_, **__):
        raise KeyboardInterrupt

    run.add_callback(AtStep(4, lambda **_: monkeypatch.setattr(run, part, killed)))
    with pytest.raises(KeyboardInterrupt):
        run.train(resume_from_checkpoint=str(tmp_path / "checkpoint-2"))
    assert last_checkpoint(tmp_path) == str(tmp_path / "checkpoint-2")  # nor was the older one deleted


@pytest.mark.parametrize("limit", [60_000, 200_000], ids=["model", "optimizer"])
def test_a_full_disk_leaves_the_last_checkpoint_and_one_message(tmp_path, limit):
    sizes = {path.name: path.stat().st_size for path in written(tmp_path / "sizes").iterdir()}
    assert 60_000 < sizes["model.safetensors"] < 200_000 < sizes["optimizer.pt"]
    run = trainer(tmp_path, max_steps=4, save_strategy="steps", save_steps=2)
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    run.add_callback(AtStep(3, lambda **_: resource.setrlimit(resource.RLIMIT_FSIZE, (limit, before[1]))))
    try:
        with pytest.raises(CannotWriteError) as raised:
            run.train()
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert str(raised.value).startswith(f"{tmp_path / 'checkpoint-4'} could not be written (")
    assert str(raised.value).endswith(f"The last complete checkpoint is {tmp_path / 'checkpoint-2'}.")
    assert not (tmp_path / "checkpoint-4").exists()  # room for what was to be written
    assert last_checkpoint(tmp_path) == str(tmp_path / "checkpoint-2")
    resumed = trainer(tmp_path, max_steps=4)
    resumed.train(resume_from_checkpoint=str(tmp_path / "checkpoint-2"))
    assert resumed.state.global_step == 4


def written(folder: Path) -> Path:
    trainer(folder, max_steps=1, save_strategy="steps", save_steps=1).train()
    return folder / "checkpoint-1"


# ----------------------------------------------------------------------------------------------------------- not finite


@pytest.mark.parametrize("workers", [0, 1])
def test_a_loss_that_is_not_finite_ends_the_run_and_names_the_videos(tmp_path, workers):
    options = {"gradient_accumulation_steps": 5, "save_strategy": "steps", "save_steps": 1, "num_train_epochs": 1}
    run = trainer(tmp_path, nan="7", per_device_train_batch_size=1, dataloader_num_workers=workers, **options)
    before = {name: weights.clone() for name, weights in run.model.state_dict().items()}
    with pytest.raises(FloatingPointError, match="Step [12]: the loss is nan on rank 0. .*nonfinite.json names the"):
        run.train()
    report = json.loads((tmp_path / "nonfinite.json").read_text())
    assert report["batches"] == [{"rank": 0, "loss": "nan", "videos": ["7"]}]  # of the five of this step
    assert (report["step"], report["grad_norm"]) == (run.state.global_step + 1, "nan")
    saved = [path.name for path in tmp_path.glob("checkpoint-*")]
    assert saved == ([] if report["step"] == 1 else ["checkpoint-1"])
    assert all(weights.isfinite().all() for weights in run.model.state_dict().values())
    if report["step"] == 1:
        torch.testing.assert_close(run.model.state_dict(), before, rtol=0, atol=0)


def test_a_gradient_that_is_not_finite_names_all_videos_of_the_step(tmp_path):
    run = trainer(tmp_path, max_steps=3)
    run.add_callback(AtStep(2, lambda model, **_: model.mask_token.register_hook(lambda gradient: gradient / 0)))
    with pytest.raises(FloatingPointError, match="Step 2: the gradient norm is (nan|inf)"):
        run.train()
    report = json.loads((tmp_path / "nonfinite.json").read_text())
    assert len(report["batches"]) == 1 and len(report["batches"][0]["videos"]) == 2
    assert report["batches"][0]["loss"] == pytest.approx(losses(run)[0], rel=0.5)


def test_weights_that_are_not_finite_are_not_saved(tmp_path):
    class Explode(TrainerCallback):
        def on_step_end(self, args, state, control, model, **kwargs):
            if state.global_step == 2:
                model.mask_token.data.fill_(float("inf"))

    run = trainer(tmp_path, max_steps=2, save_strategy="steps", save_steps=1)
    run.add_callback(Explode())
    with pytest.raises(FloatingPointError, match="is not finite after step 2; no checkpoint is written"):
        run.train()
    assert [path.name for path in tmp_path.glob("checkpoint-*")] == ["checkpoint-1"]


def test_paths_do_not_reach_the_model(tmp_path):
    run = trainer(tmp_path, max_steps=1)
    seen = []
    run.model.register_forward_pre_hook(lambda _, args, inputs: seen.append(sorted(inputs)), with_kwargs=True)
    run.train()
    run.evaluate()
    assert {tuple(names) for names in seen} == {("decoded_ids", "pixel_values", "visible_ids")}


# -------------------------------------------------------------------------------------------------------------- signals


@pytest.fixture(autouse=True)
def interruptible():
    """As in a terminal: what a shell starts in the background ignores SIGINT, and so would the runs here."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.mark.parametrize(("number", "status"), [(signal.SIGTERM, 143), (signal.SIGINT, 130)])
def test_a_signal_saves_after_the_step_and_leaves(tmp_path, number, status, capfd):
    options = {"num_train_epochs": 2, "ema_decay": 0.9}
    unbroken = trainer(tmp_path / "unbroken", **options)
    unbroken.train()
    handlers = [signal.getsignal(signal.SIGTERM), signal.getsignal(signal.SIGINT)]
    run = trainer(tmp_path / "run", **options)
    run.add_callback(AtStep(3, lambda **_: signal.raise_signal(number)))
    with pytest.raises(SystemExit) as left:
        run.train()
    assert left.value.code == status
    assert [signal.getsignal(signal.SIGTERM), signal.getsignal(signal.SIGINT)] == handlers
    out, err = capfd.readouterr()
    assert f"{number.name}: stopped after step 3, checkpoint in {tmp_path / 'run'}" in out
    assert f"{number.name}: a checkpoint is saved after this step." in err
    assert last_checkpoint(tmp_path / "run") == str(tmp_path / "run" / "checkpoint-3")
    resumed = trainer(tmp_path / "run", **options)
    resumed.train(resume_from_checkpoint=last_checkpoint(tmp_path / "run"))
    assert losses(resumed) == losses(unbroken)
    torch.testing.assert_close(resumed.average.weights, unbroken.average.weights, rtol=0, atol=0)


def test_what_a_signal_saves_outlives_the_limit_on_checkpoints(tmp_path):
    """transformers deletes all but the best one when a run ends with save_total_limit=1."""
    options = {"eval_strategy": "steps", "eval_steps": 1, "save_strategy": "steps", "save_steps": 1}
    run = trainer(tmp_path, max_steps=5, load_best_model_at_end=True, save_total_limit=1, **options)
    run.add_callback(AtStep(3, lambda **_: signal.raise_signal(signal.SIGTERM)))
    with pytest.raises(SystemExit):
        run.train()
    assert last_checkpoint(tmp_path) == str(tmp_path / "checkpoint-3")


def test_a_second_interrupt_stops_at_once(tmp_path):
    def twice(**_):
        signal.raise_signal(signal.SIGINT)
        signal.raise_signal(signal.SIGINT)

    run = trainer(tmp_path, max_steps=3)
    run.add_callback(AtStep(2, twice))
    with pytest.raises(KeyboardInterrupt):
        run.train()
    assert last_checkpoint(tmp_path) is None


# -------------------------------------------------------------------------------------------------------------- workers


@pytest.mark.parametrize("workers", ["two", "persistent"])
def test_workers_outlive_a_signal_to_the_whole_job_but_not_the_run(tmp_path, workers):
    def signal_all(**_):
        assert len(multiprocessing.active_children()) == 2
        for process in (*multiprocessing.active_children(), multiprocessing.process.current_process()):
            os.kill(process.pid, signal.SIGTERM)

    run = trainer(tmp_path, num_train_epochs=2, **WORKERS[workers])
    run.add_callback(AtStep(2, signal_all))
    with pytest.raises(SystemExit):
        run.train()
    assert last_checkpoint(tmp_path) == str(tmp_path / "checkpoint-2")
    for process in multiprocessing.active_children():
        process.terminate()
        process.join(timeout=30)
        assert not process.is_alive()


def test_a_killed_worker_ends_in_a_message(tmp_path):
    def kill():
        os.kill(os.getpid(), signal.SIGKILL)

    run = trainer(tmp_path, when={"3": kill}, dataloader_num_workers=1, num_train_epochs=1)
    with pytest.raises(ChildProcessError, match="A DataLoader worker died .* memory ran out"):
        run.train()

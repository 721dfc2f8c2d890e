"""train.py killed, told to end and started again, by itself and under torchrun: nothing is lost, nothing differs."""

import json
import os
import random
import re
import signal
import sys
import time
from pathlib import Path

import pytest
import torch
from helpers.commands import run as run_command
from helpers.commands import videomae
from helpers.launching import TORCHRUN, children, finish, kill, run, start, succeeded
from helpers.shared import REPO
from helpers.synthetic_clips import saved_state
from safetensors.torch import load_file

from videomae_hf.checkpoints.run_folders import last_checkpoint
from videomae_hf.data.sources.synthetic import synthesise_dataset


LAST = ["--resume_from_checkpoint", "last"]


@pytest.fixture(scope="module")
def videos(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("data") / "videos"
    synthesise_dataset(folder, videos_per_class=1, size=32, num_frames=8)
    return folder


def arguments(videos: Path, output: Path, **options) -> list[str]:
    """Eight videos, two a step, in epochs of four steps."""
    given = {
        **{"train_data": videos, "output_dir": output, "per_device_train_batch_size": 2, "sampling_rate": 1},
        **{"image_size": 32, "patch_size": 8, "hidden_size": 24, "intermediate_size": 48, "drop_path_rate": 0.3},
        **{"base_learning_rate": 0.1, "ema_decay": 0.99, "disable_tqdm": "true", "use_cpu": "true"},
        **{"save_strategy": "steps", "save_steps": 3, "num_train_epochs": 3, "save_total_limit": 2},
        **options,
    }
    given = {name: value for name, value in given.items() if value is not None}
    return ["pretrain", "examples/recipes/smoke.yaml", *(f"--{name}={value}" for name, value in given.items())]


def read_steps(process, number: int):
    """Returns when the log has come to that many steps."""
    for line in process.stdout:
        number -= line.startswith("{'loss'")
        if number == 0:
            return
    raise AssertionError("The run has ended before.")


def history(output: Path) -> list[tuple[float, float, float]]:
    """Loss, gradient norm and learning rate of each step."""
    entries = json.loads((output / "trainer_state.json").read_text())["log_history"]
    return [(entry["loss"], entry["grad_norm"], entry["learning_rate"]) for entry in entries if "loss" in entry]


def assert_same_run(output: Path, unbroken: Path, steps: int, whole_state: bool = True):
    assert len(history(unbroken)) == steps
    assert history(output) == history(unbroken)
    for name in ("model.safetensors", "ema/model.safetensors"):
        torch.testing.assert_close(load_file(output / name), load_file(unbroken / name), rtol=0, atol=0)
    if whole_state:
        states = [saved_state(folder / f"checkpoint-{steps}") for folder in (output, unbroken)]
        torch.testing.assert_close(*states, rtol=0, atol=0)


@pytest.mark.slow
def test_killed_within_an_epoch_and_resumed_equals_unbroken(videos, tmp_path, monkeypatch):
    monkeypatch.chdir(REPO)
    workers = {"dataloader_num_workers": 1, "dataloader_persistent_workers": "true"}
    videomae(*arguments(videos, tmp_path / "unbroken", **workers))
    killed = arguments(videos, tmp_path / "killed", **workers)
    process = start(*killed, PYTHONUNBUFFERED="1")
    try:
        read_steps(process, 5)
    finally:
        kill(process)
    assert last_checkpoint(tmp_path / "killed") is not None
    videomae(*killed, *LAST)
    assert_same_run(tmp_path / "killed", tmp_path / "unbroken", 12)


@pytest.mark.slow
@pytest.mark.timeout(1500)
@pytest.mark.parametrize("data", ["files", "stream"])
def test_killed_again_and_again(videos, tmp_path, data):
    """At any moment: half of the time of such a run goes into checkpoints, so that some are cut short."""
    options = {"save_steps": 1, "hidden_size": 192, "intermediate_size": 768, "num_hidden_layers": 6}
    options |= {"dataloader_num_workers": 2, "num_train_epochs": 4}
    if data == "stream":
        prepare = [sys.executable, "-m", "videomae_hf.cli", "prepare", videos, tmp_path / "shards", "--shards", "3"]
        prepared = run_command(prepare, cwd=REPO)
        assert prepared.returncode == 0, prepared.stderr
        options |= {"train_data": tmp_path / "shards", "streaming": "true"}
    succeeded(run(*arguments(videos, tmp_path / "unbroken", **options)))
    moments, kills = random.Random(0), 0
    while not (tmp_path / "killed" / "all_results.json").exists():
        process = start(*arguments(videos, tmp_path / "killed", **options), *LAST, PYTHONUNBUFFERED="1")
        try:
            for line in process.stdout:
                if line.startswith("{'loss'") and moments.random() < 0.4:
                    break
            time.sleep(moments.random() / 4)
        finally:
            kill(process)
        kills += 1
        assert kills < 40
    assert_same_run(tmp_path / "killed", tmp_path / "unbroken", 16)


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.parametrize("whom", ["rank 0", "rank 1", "torchrun", "all processes"])
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT], ids=lambda number: number.name)
def test_all_ranks_stop_after_the_same_step(videos, tmp_path, number, whom):
    options = {"per_device_train_batch_size": 1, "dataloader_num_workers": 1, "save_strategy": "no"}
    finish(start(*arguments(videos, tmp_path / "unbroken", **options), launcher=TORCHRUN))
    process = start(*arguments(videos, tmp_path / "run", **options), launcher=TORCHRUN, PYTHONUNBUFFERED="1")
    try:
        read_steps(process, 5)
        if whom == "all processes":
            os.killpg(process.pid, number)
            for rank in children(process):
                os.killpg(rank, number) if os.getpgid(rank) == rank else None
        elif whom == "torchrun":
            process.send_signal(number)
        else:
            os.kill(children(process)[int(whom[-1])], number)
    except BaseException:
        kill(process)
        raise
    output = finish(process)
    assert process.returncode != 0
    stopped = re.findall(r"(SIG[A-Z]+): stopped after step (\d+), checkpoint in", output)
    assert len(stopped) == 1, output[-3000:]
    # torchrun passes a signal on as SIGTERM
    assert stopped[0][0] in (number.name, "SIGTERM")
    checkpoint = last_checkpoint(tmp_path / "run")
    assert checkpoint == str(tmp_path / "run" / f"checkpoint-{stopped[0][1]}")
    assert (Path(checkpoint) / "rng_state_1.pth").is_file()
    output = finish(start(*arguments(videos, tmp_path / "run", **options), *LAST, launcher=TORCHRUN))
    assert f"resuming from {checkpoint}" in output
    assert_same_run(tmp_path / "run", tmp_path / "unbroken", 12, whole_state=False)


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_a_split_model_killed_and_resumed_equals_unbroken(videos, tmp_path):
    options = {"fsdp2": "true", "per_device_train_batch_size": 1, "ema_decay": None, "save_total_limit": 9}
    succeeded(run(*arguments(videos, tmp_path / "unbroken", **options), launcher=TORCHRUN))
    process = start(*arguments(videos, tmp_path / "killed", **options), launcher=TORCHRUN, PYTHONUNBUFFERED="1")
    try:
        read_steps(process, 5)
    finally:
        ranks = children(process)
        kill(process)
        for rank in ranks:  # which torchrun gives groups of their own
            os.killpg(rank, signal.SIGKILL)
    assert last_checkpoint(tmp_path / "killed") == str(tmp_path / "killed" / "checkpoint-3")
    succeeded(run(*arguments(videos, tmp_path / "killed", **options), *LAST, launcher=TORCHRUN))
    assert len(history(tmp_path / "unbroken")) == 12
    assert history(tmp_path / "killed") == history(tmp_path / "unbroken")
    runs = [tmp_path / "killed", tmp_path / "unbroken"]
    weights, other_weights = (load_file(folder / "model.safetensors") for folder in runs)
    kept, other_kept = (torch.load(folder / "checkpoint-12" / "optimizer.pt")["state"] for folder in runs)
    torch.testing.assert_close(weights, other_weights, rtol=0, atol=0)
    torch.testing.assert_close(kept, other_kept, rtol=0, atol=0)
    assert kept and all(kept[name]["exp_avg"].shape == weights[name].shape for name in kept)  # whole, of no part


@pytest.mark.slow
@pytest.mark.parametrize(("number", "status"), [(signal.SIGTERM, 143), (signal.SIGINT, 130)])
def test_a_signal_to_the_whole_job_with_workers(videos, tmp_path, number, status):
    """Ctrl-C in a terminal, or what clusters send: the workers of the data loader get it as well."""
    given = arguments(videos, tmp_path, dataloader_num_workers=2, num_train_epochs=50)
    process = start(*given, PYTHONUNBUFFERED="1")
    try:
        read_steps(process, 5)
        os.killpg(process.pid, number)
    except BaseException:
        kill(process)
        raise
    output = finish(process)
    assert process.returncode == status, output[-3000:]
    assert re.search(rf"{number.name}: stopped after step \d+, checkpoint in", output)
    assert "Traceback" not in output and last_checkpoint(tmp_path) is not None


@pytest.mark.slow
def test_a_nan_under_torchrun_ends_all_ranks_with_one_message(videos, tmp_path):
    options = {"per_device_train_batch_size": 1, "base_learning_rate": 1e30}
    process = start(*arguments(videos, tmp_path, **options), launcher=TORCHRUN)
    output = finish(process)
    assert process.returncode == 1
    assert output.count("train.py: error") == 1, output[-3000:]
    report = json.loads((tmp_path / "nonfinite.json").read_text())
    assert {batch["rank"] for batch in report["batches"]} == {0, 1}
    assert all(Path(path).is_file() for batch in report["batches"] for path in batch["videos"])

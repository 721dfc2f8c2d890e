"""Several processes: other numbers than asked for, processes that disagree, that stop or die end with a message."""

import os
import shutil
import signal
import time
from types import SimpleNamespace

import pytest
from helpers.launching import ACCELERATE, TORCHRUN, children, finish, kill, run, start, start_ranks
from helpers.runs import run_of

from videomae_hf.data.sources.folders_and_lists import VideoRecord
from videomae_hf.data.sources.synthetic import synthesise_dataset
from videomae_hf.data.video_dataset import VideoDataset
from videomae_hf.data.videos import data_facts, fingerprint
from videomae_hf.settings.training_arguments import VideoMAETrainingArguments
from videomae_hf.training.distributed import check_processes


SMOKE = ["pretrain", "examples/recipes/smoke.yaml", "--per_device_train_batch_size", "4", "--disable_tqdm", "true"]


@pytest.fixture(scope="module")
def videos(tmp_path_factory):
    folder = tmp_path_factory.mktemp("data") / "videos"
    synthesise_dataset(folder, videos_per_class=4, num_frames=16)
    return folder


@pytest.fixture
def alone(monkeypatch):
    """Arguments of a process that runs alone, in an environment without a launcher."""
    for name in (
        "WORLD_SIZE",
        "LOCAL_RANK",
        "MASTER_PORT",
        "ACCELERATE_MIXED_PRECISION",
        "SLURM_STEP_NUM_TASKS",
        "PMI_SIZE",
    ):
        monkeypatch.delenv(name, raising=False)
    return VideoMAETrainingArguments(use_cpu=True)


def test_one_process_that_was_asked_for(alone):
    check_processes(alone)
    check_processes(alone, expected=1)


@pytest.mark.parametrize(
    ("environment", "message"),
    [
        (
            {"WORLD_SIZE": "2", "RANK": "0"},
            "WORLD_SIZE=2 processes were started, but each runs alone: LOCAL_RANK is missing. Use torchrun",
        ),
        (
            {"WORLD_SIZE": "2", "RANK": "0", "LOCAL_RANK": "0"},
            "each runs alone: there is no GPU for them. Add --use_cpu true to train on CPUs",
        ),
        (
            {"ACCELERATE_MIXED_PRECISION": "no", "MASTER_PORT": "29500", "MASTER_ADDR": "127.0.0.1"},
            "accelerate launch was asked for several processes but started one",
        ),
        ({"SLURM_STEP_NUM_TASKS": "4"}, "srun started 4 tasks .* but 1 know of each other"),
        ({"OMPI_COMM_WORLD_SIZE": "2"}, "mpirun started 2 tasks"),
    ],
)
def test_other_numbers_than_asked_for_are_refused(alone, monkeypatch, environment, message):
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(ValueError, match=message):
        check_processes(alone)
    check_processes(alone, expected=1)  # who says the number knows better


def test_torchrun_in_each_task_of_srun(monkeypatch):
    monkeypatch.setenv("SLURM_STEP_NUM_TASKS", "2")
    monkeypatch.setenv("GROUP_WORLD_SIZE", "2")
    sixteen = SimpleNamespace(world_size=16, n_gpu=1)
    check_processes(sixteen)
    monkeypatch.setenv("GROUP_WORLD_SIZE", "1")  # two runs that know nothing of each other
    with pytest.raises(ValueError, match="srun started 2 tasks"):
        check_processes(sixteen)


def test_expected_number_and_data_parallel(alone):
    with pytest.raises(ValueError, match="num_processes=8, but 1 run. torchrun --nproc_per_node 8"):
        check_processes(alone, expected=8)
    with pytest.raises(ValueError, match="One process sees 4 GPUs"):
        check_processes(SimpleNamespace(world_size=1, n_gpu=4))


def test_fingerprint_of_data_sees_names_labels_and_order_but_not_the_root():
    def facts(*samples):
        return data_facts(VideoDataset([VideoRecord(*some) for some in samples], load=None))

    both = facts(("/a/data/up/1.mp4", 0), ("/a/data/down/1.mp4", 1))
    assert both == facts(("/b/up/1.mp4", 0), ("/b/down/1.mp4", 1))
    assert both["videos"].startswith("2 (")
    others = [
        facts(("/a/data/down/1.mp4", 1), ("/a/data/up/1.mp4", 0)),
        facts(("/a/data/up/1.mp4", 0), ("/a/data/down/2.mp4", 1)),
        facts(("/a/data/up/1.mp4", 0), ("/a/data/down/1.mp4", 0)),
    ]
    assert len({str(some) for some in (both, *others)}) == 4
    assert fingerprint(["a", "b"]) != fingerprint(["ab"]) == "a63d8014"


def test_settings_to_agree_on_leave_paths_out(alone):
    run = run_of(alone, overrides={"num_frames": 8}, train_data="here", sampling_rate=2.0)
    settings = run.shared_settings()
    assert settings["sampling_rate"] == 2.0 and settings["num_frames"] == 8 and settings["seed"] == 42
    assert not {"train_data", "output_dir", "checkpoint"} & set(settings)


def test_processes_with_other_data_end_with_a_message(videos, tmp_path):
    shutil.copytree(videos, tmp_path / "videos")
    (tmp_path / "videos" / "up" / "up_00000.mp4").unlink()
    options = [*SMOKE, "--output_dir", tmp_path / "out", "--train_data"]
    processes = start_ranks([[*options, videos], [*options, tmp_path / "videos"]])
    for rank, output in enumerate([finish(process) for process in processes]):
        assert f"error (process {rank}): The processes disagree on the training data. videos: 32 (" in output
        assert "in process 0, 31 (" in output
    assert [process.returncode for process in processes] == [1, 1]


@pytest.mark.slow
def test_processes_with_other_settings_end_with_a_message(videos, tmp_path):
    options = [*SMOKE, "--output_dir", tmp_path, "--train_data", videos]
    processes = start_ranks([options, [*options, "--num_frames", "16"]])
    for output in [finish(process) for process in processes]:
        assert "disagree on the settings. num_frames: 8 in process 0, 16 in process 1" in output
    assert [process.returncode for process in processes] == [1, 1]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("launcher", "message"),
    [
        ([*ACCELERATE, "--cpu", "--num_processes", "2"], "asked for several processes but started one"),
        (
            [*ACCELERATE, "--num_processes", "2", "--use_fsdp", "--fsdp_version", "2"],
            "FSDP was requested but is not active: 2 processes on cpu run as MULTI_CPU",
        ),
    ],
    ids=["accelerate --cpu", "fsdp"],
)
def test_launchers_that_fall_back_in_silence(videos, tmp_path, launcher, message):
    status, output = run(*SMOKE, "--output_dir", tmp_path, "--train_data", videos, launcher=launcher)
    assert status == 1 and message in output


@pytest.mark.slow
def test_fsdp_of_the_settings_that_is_not_active(videos, tmp_path):
    options = ["--output_dir", tmp_path, "--train_data", videos, "--fsdp", "true"]
    status, output = run(*SMOKE, *options, launcher=TORCHRUN)
    assert status == 1 and "FSDP was requested but is not active" in output


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGSTOP, signal.SIGKILL])
def test_stuck_and_dead_processes_are_named(videos, tmp_path, number):
    options = ["--num_train_epochs", "1000", "--ddp_timeout", "20", "--output_dir", tmp_path, "--train_data", videos]
    process = start(*SMOKE, *options, launcher=TORCHRUN)
    try:
        while "'loss'" not in process.stdout.readline():
            assert process.poll() is None
        time.sleep(5)  # the watch has written
        second = children(process)[1]
        os.kill(second, number)
        output = finish(process)
    finally:
        kill(process)
    assert process.returncode == 1
    if number == signal.SIGKILL:  # torchrun ends the others at once
        assert f"exitcode  : -9 (pid: {second})" in output
        return
    silent = f"pid {second})"
    for line in ("No progress for ", "error (process 0): Process 0 lost another process in a collective"):
        assert any(
            line in text and "no sign of life: process 1 (" in text and silent in text for text in output.splitlines()
        )

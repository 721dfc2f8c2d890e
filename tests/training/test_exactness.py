"""The same training in one process and in two, with and without accumulation, checkpointing and sharding.

What may be compared: clips must have equally many tokens in the loss (8 or 16 frames: the running cell decodes each
place equally often over 4 slices), and nothing may be drawn from the global generator (drop path, dropout). Mixup pairs
the clips of a batch of one process, so that there the batches of a process must be the same ones.
"""

import json

import pytest
import torch
from helpers.commands import videomae
from helpers.launching import ACCELERATE, TORCHRUN, run, succeeded
from safetensors.torch import load_file

from videomae_hf.commands import prepare
from videomae_hf.data.sources.synthetic import synthesise_dataset


SMOKE = ["examples/recipes/smoke.yaml", "--logging_steps", "1", "--learning_rate", "1e-3", "--disable_tqdm", "true"]
BATCHES = {"1 x 8": (8, 1), "2 x 4": (4, 1), "2 x 2 x 2": (2, 2), "1 x 4 x 2": (4, 2)}  # clips, accumulation steps
RUNS = {
    "V1": ["pretrain", "--model_version", "1"],
    "V2": ["pretrain"],
    "cross": ["pretrain", "--decoder_type", "cross", "--decoder_mixed_layers", "2"],
    "hard labels": ["finetune"],
    "label smoothing": ["finetune", "--label_smoothing", "0.1"],
    "class weights": ["finetune", "--class_weights", "balanced"],
    "mixup": ["finetune", "--mixup_alpha", "0.8", "--cutmix_alpha", "1.0"],
}


@pytest.fixture(scope="module")
def videos(tmp_path_factory):
    """32 videos, not equally many of each class."""
    folder = tmp_path_factory.mktemp("data") / "videos"
    synthesise_dataset(folder, videos_per_class=5, size=64, num_frames=16)
    for name in ("up", "down"):
        for number in range(4):
            (folder / name / f"{name}_{number:05}.mp4").unlink()
    return folder


def history(folder, videos, what: str, batch: str, *options, launcher=TORCHRUN, num_steps: int = 4) -> tuple:
    """Losses and gradient norms of each step, and the weights at the end."""
    command, *own = RUNS[what]
    clips, steps = BATCHES[batch]
    sizes = ["--per_device_train_batch_size", clips, "--gradient_accumulation_steps", steps]
    arguments = [command, *SMOKE, *own, *sizes, "--train_data", videos, "--output_dir", folder, *options]
    if batch.startswith("1"):
        videomae(*arguments)
    else:
        output = succeeded(run(*arguments, launcher=launcher))
        assert f"total batch 8 = {clips} a process x 2 processes x {steps} accumulation step" in output
    log = json.loads((folder / "trainer_state.json").read_text())["log_history"]
    logged = [entry for entry in log if "loss" in entry]
    assert len(logged) == num_steps
    weights = load_file(folder / "model.safetensors")
    return [entry["loss"] for entry in logged], [entry["grad_norm"] for entry in logged], weights


def assert_same(one, other):
    assert other[0] == pytest.approx(one[0], abs=1e-5)
    assert other[1] == pytest.approx(one[1], rel=1e-4)  # which a loss of another scale would change; Adam hides it
    for name, weight in one[2].items():
        # Adam makes a whole step of a gradient that is zero but for rounding: 4 steps of 1e-3 at most.
        torch.testing.assert_close(other[2][name], weight, rtol=1e-3, atol=1e-3)


def test_two_processes_with_accumulation_equal_one(tmp_path, videos):
    one = history(tmp_path / "one", videos, "V2", "1 x 8")
    assert_same(one, history(tmp_path / "two", videos, "V2", "2 x 2 x 2"))


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.parametrize("what", RUNS)
def test_every_loss_is_the_same_however_a_batch_is_split(tmp_path, videos, what):
    if what == "mixup":
        one = history(tmp_path / "one", videos, what, "1 x 4 x 2")
        assert_same(one, history(tmp_path / "two", videos, what, "2 x 4"))
        return
    one = history(tmp_path / "one", videos, what, "1 x 8")
    for batch in ("1 x 4 x 2", "2 x 4", "2 x 2 x 2"):
        assert_same(one, history(tmp_path / batch, videos, what, batch))


@pytest.fixture(scope="module")
def uneven_videos(tmp_path_factory, videos):
    """22 of them, so that 6 fill no step of 8."""
    folder = tmp_path_factory.mktemp("data") / "uneven"
    for video in sorted(videos.rglob("*.mp4"))[:22]:
        (folder / video.parent.name).mkdir(parents=True, exist_ok=True)
        (folder / video.parent.name / video.name).symlink_to(video)
    return folder


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_epochs_end_alike_however_a_batch_is_split(tmp_path, uneven_videos):
    epochs = ["--num_train_epochs", "2"]
    one = history(tmp_path / "one", uneven_videos, "V2", "1 x 8", *epochs)
    for batch in ("1 x 4 x 2", "2 x 4", "2 x 2 x 2"):
        assert_same(one, history(tmp_path / batch, uneven_videos, "V2", batch, *epochs))


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_epochs_of_a_stream_end_alike_however_a_batch_is_split(tmp_path, uneven_videos):
    """As many steps; which videos come together depends on the processes."""
    prepare.main([str(uneven_videos), str(tmp_path / "shards"), "--shards", "8"])
    options = ["--num_train_epochs", "2", "--streaming", "true"]
    for batch in BATCHES:
        history(tmp_path / batch, tmp_path / "shards", "V2", batch, *options)


@pytest.mark.slow
def test_accelerate_launch_equals_one_process(tmp_path, videos):
    one = history(tmp_path / "one", videos, "V2", "1 x 8")
    launcher = [*ACCELERATE, "--multi_gpu", "--num_processes", "2"]
    assert_same(one, history(tmp_path / "two", videos, "V2", "2 x 4", launcher=launcher))


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.parametrize("what", ["V1", "V2", "cross", "label smoothing"])
@pytest.mark.parametrize("options", ["activation_checkpointing", "fsdp2", "activation_checkpointing fsdp2"])
def test_checkpointing_and_sharding_change_nothing(tmp_path, videos, what, options):
    switches = [word for name in options.split() for word in (f"--{name}", "true")]
    plain = history(tmp_path / "plain", videos, what, "2 x 2 x 2")
    assert_same(plain, history(tmp_path / "other", videos, what, "2 x 2 x 2", *switches))


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_epochs_reach_all_processes_and_evaluation_counts_each_video_once(tmp_path, videos):
    """Two epochs with other crops each, workers that stay, and 13 videos to evaluate in batches of 3."""
    for number, video in enumerate(sorted(videos.rglob("*.mp4"))[:13]):
        copy = tmp_path / "eval" / video.parent.name / f"{number}.mp4"
        copy.parent.mkdir(parents=True, exist_ok=True)
        copy.symlink_to(video)
    options = ["--num_train_epochs", "2", "--dataloader_num_workers", "1", "--dataloader_persistent_workers", "true"]
    options += ["--eval_data", tmp_path / "eval", "--per_device_eval_batch_size", "3"]
    one = history(tmp_path / "one", videos, "hard labels", "1 x 8", *options, num_steps=8)
    two = history(tmp_path / "two", videos, "hard labels", "2 x 4", *options, num_steps=8)
    assert_same(one, two)
    alone, together = (json.loads((tmp_path / run / "all_results.json").read_text()) for run in ("one", "two"))
    assert alone["eval_videos"] == together["eval_videos"] == 13
    assert together["eval_top1"] == alone["eval_top1"] and 13 * alone["eval_top1"] == round(13 * alone["eval_top1"])

    scores = []
    for name, launcher in (("alone", ()), ("together", TORCHRUN)):
        options = ["--checkpoint", tmp_path / "one", "--eval_data", tmp_path / "eval", "--num_clips", "2"]
        options += ["--output_dir", tmp_path / name, "--per_device_eval_batch_size", "3", "--use_cpu", "true"]
        output = succeeded(run("evaluate", *options, launcher=launcher))
        assert f"13 videos, 2 clips x 3 crops each, {'2 processes' if launcher else '1 process'}" in output
        scores.append((tmp_path / name / "predictions.csv").read_text())
    assert scores[0] == scores[1] and scores[0].count("\n") == 14

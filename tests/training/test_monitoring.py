"""Seeing a pretraining run: pictures of reconstructions, k-NN accuracy, trackers, and that watching changes nothing."""

import importlib.machinery
import json
import os
import shutil
import sys
from pathlib import Path
from types import SimpleNamespace
from unittest.mock import MagicMock, call

import numpy as np
import pytest
import torch
from helpers.commands import run as run_command
from helpers.runs import parsed, run_of
from helpers.shared import REPO, TINY
from PIL import Image
from transformers import TrainerCallback

from videomae_hf import VideoMAEV2Config, VideoMAEV2ForPreTraining, VideoMAEV2ImageProcessor
from videomae_hf.data.clips import ClipSampler, PretrainTransform
from videomae_hf.data.sources.folders_and_lists import read_samples
from videomae_hf.data.sources.synthetic import synthesise_dataset
from videomae_hf.data.video_dataset import ClipCollator, VideoDataset
from videomae_hf.evaluation.pretraining_report import over_time
from videomae_hf.evaluation.probes import knn_accuracy
from videomae_hf.evaluation.reconstruction import reconstruction_strips, strip_row
from videomae_hf.labels import UNREADABLE
from videomae_hf.models.layers_videomae_v2 import VideoMAEV2DropPath
from videomae_hf.settings.training_arguments import VideoMAETrainingArguments
from videomae_hf.training import monitoring
from videomae_hf.training.monitoring import fixed_clips, log_reconstructions, make_probe
from videomae_hf.training.optimization import DropPathWarmup
from videomae_hf.training.trainer import VideoMAETrainer


CONFIG = {**TINY, "num_frames": 8, "decoder_mask_ratio": 0.5}


@pytest.fixture(scope="module")
def videos(tmp_path_factory) -> Path:
    """24 videos of 8 classes in train, 8 in val, and in each one more that cannot be read: odd numbers, which two
    processes do not share evenly."""
    folder = tmp_path_factory.mktemp("videos")
    synthesise_dataset(folder / "train", videos_per_class=3, size=32, num_frames=10)
    synthesise_dataset(folder / "val", videos_per_class=1, size=32, num_frames=10, seed=1)
    for part in ("train", "val"):
        (folder / part / "up" / "a_bad_one.mp4").write_bytes(b"no video")
    return folder


def trainer(folder, videos, probed: bool = False, **arguments) -> VideoMAETrainer:
    torch.manual_seed(0)
    model = VideoMAEV2ForPreTraining(VideoMAEV2Config(**CONFIG, drop_path_rate=0.5, hidden_dropout_prob=0.1))
    clips = PretrainTransform(model.config, ClipSampler(num_frames=8, sampling_rate=1))
    train_set, eval_set = (
        VideoDataset(read_samples(videos / part, labelled=False)[0], clips, seed=42) for part in ("train", "val")
    )
    defaults = {
        "output_dir": str(folder),
        "per_device_train_batch_size": 4,
        "learning_rate": 1e-3,
        "logging_steps": 1,
        "save_strategy": "no",
        "use_cpu": True,
        "disable_tqdm": True,
    }
    args = VideoMAETrainingArguments(**{**defaults, **arguments})
    args.label_names, args.prediction_loss_only = ["decoded_ids"], True
    run = run_of(args, "pretrain", sampling_rate=1.0)
    if probed:
        run = run.changed(probe_train_data=str(videos / "train"), probe_eval_data=str(videos / "val"))
    return VideoMAETrainer(
        model=model,
        args=args,
        train_dataset=train_set,
        eval_dataset=eval_set,
        data_collator=ClipCollator(model.config),
        probe=make_probe(run, model.config),
    )


def history(run: VideoMAETrainer, name: str) -> list[float]:
    return [entry[name] for entry in run.state.log_history if name in entry]


# ------------------------------------------------------------------------------------------------- nothing is changed


@pytest.mark.parametrize("workers", [0, 1])
def test_a_watched_run_is_the_one_that_is_not_watched(tmp_path, videos, workers):
    """Drop path and dropout draw from torch's global generator, as the loaders of evaluation and probe do."""
    alone = trainer(tmp_path / "alone", videos, max_steps=6, dataloader_num_workers=workers)
    alone.train()
    options = {"max_steps": 6, "dataloader_num_workers": workers, "save_strategy": "steps", "save_steps": 4}
    watched = trainer(tmp_path / "watched", videos, True, eval_strategy="steps", eval_steps=2, **options)
    log_reconstructions(watched, 2)
    watched.train()
    assert len(history(watched, "eval_knn_top1")) == 3
    assert history(watched, "loss") == history(alone, "loss")
    assert history(watched, "grad_norm") == history(alone, "grad_norm")
    for one, other in zip(alone.model.parameters(), watched.model.parameters(), strict=True):
        assert torch.equal(one, other)


def test_watching_puts_mode_and_generators_back(tmp_path, videos):
    run = trainer(tmp_path, videos, probed=True)
    log_reconstructions(run, 1)
    pictures = run.callback_handler.callbacks[-1]
    for training in (True, False):
        run.model.train(training)
        state = torch.get_rng_state()
        run.state.global_step += 1
        pictures.on_evaluate(run.args, run.state, run.control)
        run.probe.knn_top1(run)
        assert torch.equal(torch.get_rng_state(), state)
        assert all(module.training == training for module in run.model.modules())
    assert all(parameter.grad is None for parameter in run.model.parameters())


# ----------------------------------------------------------------------------------------------------------- pictures


def test_pictures_are_drawn_at_evaluations_saves_and_the_end(tmp_path, videos):
    options = {"eval_strategy": "steps", "eval_steps": 2, "save_strategy": "steps", "save_steps": 3}
    run = trainer(tmp_path, videos, max_steps=5, **options)
    log_reconstructions(run, 2)
    run.train()
    wanted = [f"step_{step:08d}.png" for step in (2, 3, 4, 5)]
    for number in (0, 1):
        folder = tmp_path / "reconstructions" / f"video_{number}"
        assert sorted(file.name for file in folder.iterdir()) == wanted
        strips = [Image.open(file) for file in sorted(folder.iterdir())]
        for row in range(3):  # video, crop and masks are the same in all of them
            pixels = [np.asarray(strip_row(strip, row)) for strip in strips]
            assert all(np.array_equal(pixels[0], other) for other in pixels[1:])
        assert not np.array_equal(np.asarray(strip_row(strips[0], 3)), np.asarray(strip_row(strips[-1], 3)))


def test_pictures_show_what_the_model_makes_of_them(tmp_path, videos):
    run = trainer(tmp_path, videos, max_steps=1)
    log_reconstructions(run, 3)
    run.train()
    clips = fixed_clips(run.eval_dataset, 3, run.model.config)
    assert clips["pixel_values"].dtype == torch.uint8 and clips["pixel_values"].shape == (3, 8, 3, 32, 32)
    masks = [torch.zeros(3, 64, dtype=torch.bool) for _ in range(2)]
    for row in range(3):
        masks[0][row] = True
        masks[0][row, clips["visible_ids"][row]] = False
        masks[1][row, clips["decoded_ids"][row]] = True
    strips = reconstruction_strips(run.model.eval(), clips["pixel_values"], *masks)
    for number, strip in enumerate(strips):
        drawn = Image.open(tmp_path / "reconstructions" / f"video_{number}" / "step_00000001.png")
        assert np.array_equal(np.asarray(drawn), np.asarray(strip))


def test_rows_of_a_picture():
    """Of a model whose every patch is one colour, the rows can be read from the masks."""
    config = VideoMAEV2Config(**{**CONFIG, "norm_pix_loss": False})
    model = VideoMAEV2ForPreTraining(config).eval()
    torch.nn.init.zeros_(model.decoder.head.weight)
    torch.nn.init.constant_(model.decoder.head.bias, 1.0)  # reconstructs white
    masked, decoded = torch.zeros(2, 1, 64, dtype=torch.bool)
    masked[0, 2:], decoded[0, 1:4] = True, True
    pixels = torch.zeros(1, 8, 3, 32, 32, dtype=torch.uint8)  # black
    strip = reconstruction_strips(model, pixels, masked, decoded)[0]
    first_slice_of = [np.asarray(strip_row(strip, row).convert("L")) for row in range(4)]
    # Frames of 32 pixels are drawn 3 times as large, within 2 pixels of border; patches of 8 are 24 wide.
    tokens = [[rows[2 + 12, 2 + 12 + 24 * column] for column in range(4)] for rows in first_slice_of]
    black, grey, white = 0, 128, 255
    assert tokens == [
        [black, black, black, black],
        [black, black, grey, grey],  # the encoder sees tokens 0 and 1
        [grey, grey, black, black],  # of tokens 1 to 3, which are decoded, the encoder saw the first
        [black, black, white, white],
    ]


def test_without_a_number_or_for_another_model_nothing_is_drawn(tmp_path, videos):
    run = trainer(tmp_path, videos)
    before = len(run.callback_handler.callbacks)
    log_reconstructions(run, 0)
    run.eval_dataset, run.train_dataset = None, torch.utils.data.TensorDataset(torch.zeros(1))
    log_reconstructions(run, 3)
    assert len(run.callback_handler.callbacks) == before


def test_the_report_shows_them_over_time(tmp_path):
    for number in (0, 1):
        folder = tmp_path / f"video_{number}"
        folder.mkdir()
        for step in range(1, 13):
            Image.new("RGB", (300, 80)).save(folder / f"step_{100 * step:08d}.png")
    videos = over_time(tmp_path)
    names = ["original", "encoder sees", "step 100", "step 300", "step 600", "step 900", "step 1200"]
    assert [[name for name, _ in rows] for rows in videos] == [names, names]
    assert all(picture.startswith("data:image/png;base64,") for rows in videos for _, picture in rows)
    assert over_time(tmp_path / "nowhere") == []
    for file in sorted((tmp_path / "video_1").iterdir())[1:]:
        file.unlink()
    assert len(over_time(tmp_path)) == 1  # a single picture is not over time


# -------------------------------------------------------------------------------------------------------------- probe


def features_one_by_one(run: VideoMAETrainer, folder: Path) -> tuple[torch.Tensor, torch.Tensor]:
    """Of the processor and the encoder as a user calls them."""
    config = run.model.config
    processor = VideoMAEV2ImageProcessor(
        num_frames=8,
        sampling_rate=1,
        size={"shortest_edge": 32},
        crop_size={"height": 32, "width": 32},
        image_mean=config.image_mean,
        image_std=config.image_std,
    )
    features, labels = [], []
    for sample in read_samples(folder)[0]:
        if "bad" in sample.path:
            continue
        with torch.no_grad():
            tokens = run.model.videomae(processor(sample.path, return_tensors="pt").pixel_values).last_hidden_state
        features.append(tokens.mean(dim=1)[0])
        labels.append(sample.label)
    return torch.stack(features), torch.tensor(labels)


def test_probe_is_the_accuracy_of_features_computed_one_by_one(tmp_path, videos):
    run = trainer(tmp_path, videos, probed=True, per_device_eval_batch_size=5)
    run.model.eval()
    train, evaluation = (features_one_by_one(run, videos / part) for part in ("train", "val"))
    for number, (features, labels) in enumerate((train, evaluation)):
        with torch.no_grad():
            found, found_labels = run.probe._features(run, number)
        assert found_labels.tolist() == labels.tolist() and len(labels) == (24, 8)[number]
        torch.testing.assert_close(found, features, atol=1e-5, rtol=1e-5)
    assert run.probe.knn_top1(run) == knn_accuracy(*train, *evaluation)


@torch.no_grad()
def test_parts_of_processes_come_back_in_order(tmp_path, videos):
    """25 videos over 2 processes make 13 each, the 26th being the first again. One process plays both."""
    run = trainer(tmp_path, videos, probed=True)
    run.model.eval()
    gathered = []

    def gather(tensors):
        gathered.append(tensors)
        return [torch.cat(parts) for parts in zip(*(gathered * 2)[:2])]

    accelerator = SimpleNamespace(gather=gather)
    two = SimpleNamespace(model=run.model, accelerator=accelerator)
    for process in (0, 1):
        run.probe.args = SimpleNamespace(process_index=process, world_size=2, eval_batch_size=4, device="cpu")
        run.probe.args.dataloader_num_workers, run.probe.args.dataloader_multiprocessing_context = 0, None
        run.probe._kept.clear()
        found, labels = run.probe._features(two, 0)
    assert [len(labels) for _, labels in gathered] == [13, 13]
    features, wanted = features_one_by_one(run, videos / "train")
    assert labels.tolist() == wanted.tolist()
    torch.testing.assert_close(found, features, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("limit", [10**9, 10**5])
def test_clips_are_kept_if_they_fit_in_memory(tmp_path, videos, monkeypatch, limit):
    monkeypatch.setattr(monitoring, "_KEPT_BYTES", limit)
    run = trainer(tmp_path, videos, probed=True)
    decoded = []
    for dataset in run.probe._sets:
        load = dataset.load
        dataset.load = lambda sample, generator, load=load: decoded.append(sample.path) or load(sample, generator)
    first = run.probe.knn_top1(run)
    assert len(decoded) == 25 + 9
    assert run.probe.knn_top1(run) == first
    assert len(decoded) == (34 if limit == 10**9 else 68)
    if limit == 10**9:
        kept = [batch for batches in run.probe._kept.values() for batch in batches]
        assert {batch["pixel_values"].dtype for batch in kept} == {torch.uint8}
        assert sum(int((batch["labels"] == UNREADABLE).sum()) for batch in kept) == 2


def test_probe_data_go_together_and_share_classes(tmp_path, videos):
    run, config = run_of(verb="pretrain"), VideoMAEV2Config(**CONFIG)
    assert make_probe(run, config) is None
    with pytest.raises(ValueError, match="probe_train_data=None and probe_eval_data=.*val must both be set"):
        make_probe(run.changed(probe_eval_data=str(videos / "val")), config)
    (tmp_path / "sideways").mkdir()
    shutil.copy(next((videos / "val" / "down").iterdir()), tmp_path / "sideways")
    with pytest.raises(ValueError, match="sideways"):
        make_probe(run.changed(probe_train_data=str(videos / "train"), probe_eval_data=str(tmp_path)), config)


# ----------------------------------------------------------------------------------------------------------- trackers


def recorder(name: str, monkeypatch) -> MagicMock:
    """A stand-in for a package that is not installed: it records every call."""
    module = MagicMock(name=name)
    module.__spec__ = importlib.machinery.ModuleSpec(name, None)
    module.Image.side_effect = lambda picture: ("image", picture.size)
    monkeypatch.setitem(sys.modules, name, module)
    return module


def test_pictures_and_figures_reach_wandb_and_trackio(tmp_path, videos, monkeypatch):
    """Not the real packages: what is called, with what, and before the run is closed."""
    wandb, trackio = (recorder(name, monkeypatch) for name in ("wandb", "trackio"))
    for name in ("wandb.sdk", "wandb.sdk.lib", "wandb.sdk.lib.config_util"):
        monkeypatch.setitem(sys.modules, name, wandb)
    trackio.context_vars.current_space_id.get.return_value = None
    run = trainer(tmp_path, videos, True, max_steps=2, report_to=["wandb", "trackio"], eval_strategy="epoch")
    log_reconstructions(run, 2)
    run.train()
    size = Image.open(tmp_path / "reconstructions" / "video_0" / "step_00000002.png").size
    pictures = {f"reconstruction/video_{number}": ("image", size) for number in (0, 1)}
    sent = call({**pictures, "train/global_step": 2})
    assert wandb.log.mock_calls.count(sent) == trackio.log.mock_calls.count(sent) == 1
    calls = trackio.mock_calls
    assert calls.index(call.log(*sent.args)) < calls.index(call.finish())
    logged = {name for entry in wandb.log.mock_calls for name in entry.args[0]}
    assert {"train/loss", "train/grad_norm", "train/learning_rate", "train/epoch", "train/global_step"} <= logged
    assert {"eval/loss", "eval/knn_top1"} <= logged


@pytest.mark.parametrize(
    ("options", "trackers"),
    [
        ([], []),
        (["--report_to", "tensorboard"], ["tensorboard"]),
        (["--report_to", "tensorboard", "wandb"], ["tensorboard", "wandb"]),
        (["{tmp}/one.yaml"], ["trackio"]),
        (["{tmp}/several.yaml"], ["trackio", "wandb"]),
        (["{tmp}/several.yaml", "--report_to", "none"], []),
    ],
)
def test_trackers_from_the_command_line_and_recipes(tmp_path, options, trackers):
    (tmp_path / "one.yaml").write_text("report_to: trackio\n")
    (tmp_path / "several.yaml").write_text("report_to: [trackio, wandb]\n")
    run = parsed("pretrain", *(option.format(tmp=tmp_path) for option in options), "--use_cpu", "true")
    assert run.training.report_to == trackers
    assert run.as_recipe().get("report_to", []) == trackers


SMOKE = [
    *("pretrain", "examples/recipes/smoke.yaml", "--report_to", "tensorboard", "--eval_strategy", "steps"),
    *("--eval_steps", "2", "--num_frames", "8", "--image_size", "32", "--patch_size", "8", "--sampling_rate", "1"),
]


def probe_options(videos: Path) -> list[str]:
    parts = {"train_data": "train", "probe_train_data": "train", "probe_eval_data": "val"}
    return [word for name, part in parts.items() for word in (f"--{name}", str(videos / part))]


def two_processes(videos: Path, folder: Path, *options) -> Path:
    """The output of a run from the command line, in two processes."""
    launcher = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2"]
    sizes = ["--per_device_train_batch_size", "4", "--per_device_eval_batch_size", "2", "--output_dir", folder]
    command = [*launcher, "train.py", *SMOKE, *probe_options(videos), *sizes, *options]
    done = run_command(command, timeout=300, cwd=REPO, env={**os.environ, "HF_HUB_OFFLINE": "1"})
    assert done.returncode == 0, done.stderr[-3000:]
    return folder


@pytest.fixture(scope="module")
def smoke(tmp_path_factory, videos) -> Path:
    return two_processes(videos, tmp_path_factory.mktemp("smoke") / "two")


@pytest.mark.timeout(400)
def test_tensorboard_has_the_figures_and_the_pictures(smoke):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    (folder,) = (smoke / "runs").iterdir()
    events = EventAccumulator(str(folder)).Reload()
    tags = events.Tags()
    assert {
        *("train/loss", "train/grad_norm", "train/learning_rate", "train/epoch", "train/clips_per_second"),
        *("train/data_wait", "train/bad_videos", "eval/loss", "eval/knn_top1"),
    } <= set(tags["scalars"])
    assert [event.step for event in events.Scalars("train/loss")] == [1, 2, 3]
    assert [event.step for event in events.Scalars("eval/knn_top1")][:1] == [2]
    assert sorted(tags["images"]) == [f"reconstruction/video_{number}" for number in range(3)]
    (*_, last) = events.Images("reconstruction/video_0")
    assert last.step == 3
    drawn = np.asarray(Image.open(smoke / "reconstructions" / "video_0" / "step_00000003.png"))
    assert drawn.shape == (last.height, last.width, 3)


@pytest.mark.timeout(400)
def test_two_processes_see_what_one_sees(smoke, videos, tmp_path):
    log = json.loads((smoke / "trainer_state.json").read_text())["log_history"]
    two = [entry["eval_knn_top1"] for entry in log if "eval_knn_top1" in entry]
    assert len(two) == 2  # at step 2 and at the end
    results = json.loads((smoke / "all_results.json").read_text())
    one = trainer(tmp_path, videos, probed=True)
    one.model = VideoMAEV2ForPreTraining.from_pretrained(smoke)
    assert results["eval_knn_top1"] == one.probe.knn_top1(one)


@pytest.mark.slow
@pytest.mark.timeout(800)
def test_parameters_may_be_split_over_the_processes(smoke, videos, tmp_path):
    """The probe calls a part of the model, whose root FSDP2 would not put together."""
    split = two_processes(videos, tmp_path / "split", "--fsdp2", "true")
    logs = [json.loads((folder / "trainer_state.json").read_text())["log_history"] for folder in (smoke, split)]
    whole, parts = ([entry["eval_knn_top1"] for entry in log if "eval_knn_top1" in entry] for log in logs)
    assert parts == whole and len(parts) == 2
    assert len(list((split / "reconstructions").rglob("*.png"))) == 6


# ------------------------------------------------------------------------------------- gradient clipping and drop path


def test_the_norm_that_is_logged_is_of_unclipped_gradients(tmp_path, videos):
    moved, norms = {}, {}
    for limit in (0, 1e-3):
        run = trainer(
            tmp_path, videos, max_steps=1, optim="sgd", learning_rate=1.0, weight_decay=0, max_grad_norm=limit
        )
        before = [parameter.clone() for parameter in run.model.parameters()]
        run.train()
        steps = [(one - other).pow(2).sum() for one, other in zip(before, run.model.parameters(), strict=True)]
        moved[limit], (norms[limit],) = float(sum(steps).sqrt().detach()), history(run, "grad_norm")
    assert norms[0] == norms[1e-3] > 0.01
    assert moved[0] == pytest.approx(norms[0], rel=1e-3)  # 0 is off
    assert moved[1e-3] == pytest.approx(1e-3, rel=1e-2)


def drop_path_rates(model) -> list[float]:
    layers = [layer for layer in model.modules() if isinstance(layer, VideoMAEV2DropPath)]
    return [layer.rate for layer in layers]


def test_drop_path_grows_with_the_epochs(tmp_path, videos):
    """2 layers of encoder and decoder each: rates of 0 and 0.5. 6 steps an epoch."""
    run = trainer(tmp_path, videos, num_train_epochs=3, drop_path_warmup_epochs=2, logging_steps=6)
    seen = []

    class Watch(TrainerCallback):
        def on_step_begin(self, *args, **kwargs):
            seen.append(drop_path_rates(run.model))

    run.add_callback(Watch())
    run.train()
    assert [rates[1] for rates in seen] == pytest.approx([0.5 * min(step / 12, 1) for step in range(18)])
    assert all(rates == [0, rates[1], 0, rates[1]] for rates in seen)
    assert drop_path_rates(run.model) == [0, 0.5, 0, 0.5] and run.model.config.drop_path_rate == 0.5


def test_a_warmup_needs_a_rate():
    with pytest.raises(ValueError, match="drop_path_warmup_epochs=2 needs a final rate: set drop_path_rate"):
        DropPathWarmup(VideoMAEV2ForPreTraining(VideoMAEV2Config(**CONFIG)), 2)

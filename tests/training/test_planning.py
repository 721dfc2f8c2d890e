"""The plan of a run: what it says, that it is what the Trainer does, and batches that fit."""

import re
import shutil
from types import SimpleNamespace

import pytest
import torch
from helpers.runs import parsed, run_of
from helpers.shared import REPO, TINY

from videomae_hf import VideoMAEV2Config, VideoMAEV2ForPreTraining, VideoMAEV2ForVideoClassification
from videomae_hf.commands import plan
from videomae_hf.data.clips import ClipSampler, PretrainTransform
from videomae_hf.data.sources.folders_and_lists import read_samples
from videomae_hf.data.sources.synthetic import synthesise_dataset
from videomae_hf.data.video_dataset import ClipCollator, VideoDataset
from videomae_hf.settings.training_arguments import VideoMAETrainingArguments
from videomae_hf.training import planning
from videomae_hf.training.memory_estimate import GIB, estimate_memory
from videomae_hf.training.planning import PaceCallback, duration, fit_batch, memory_settings, plan_lines, steps_of
from videomae_hf.training.trainer import VideoMAETrainer


RECIPES = REPO / "examples" / "recipes"


def arguments(**settings) -> VideoMAETrainingArguments:
    return VideoMAETrainingArguments(**{"use_cpu": True, "output_dir": "unused", **settings})


def meta_model(size: str, model_class=VideoMAEV2ForVideoClassification, **fields):
    with torch.device("meta"):
        return model_class(VideoMAEV2Config.from_size(size, **fields))


def finetuning(args: VideoMAETrainingArguments):
    return run_of(args, num_sample=2, mixup_alpha=0.8, cutmix_alpha=1.0)


def needed(run, model, batch: int, checkpointing: bool, num_gpus: int) -> float:
    settings = memory_settings(run, batch, num_gpus, checkpointing=checkpointing)
    return sum(estimate_memory(model, settings).values()) / GIB


@pytest.mark.parametrize(
    ("size", "fit", "batch", "accumulation", "checkpointing"),
    [
        ("base", "1x24GB", 16, 32, False),
        ("base", "8x24GB", 16, 4, False),
        ("base", "4x80GB", 32, 4, False),
        ("huge", "8x24GB", 1, 64, False),
        ("giant", "8x24GB", None, None, None),
        ("giant", "64x40GB", 1, 8, False),
    ],
)
def test_the_largest_batch_that_fits_is_taken(size, fit, batch, accumulation, checkpointing):
    model = meta_model(size)
    args = arguments(total_batch_size=512, per_device_train_batch_size=3, fit=fit, bf16=True, base_learning_rate=1e-3)
    number, memory = (float(part) for part in fit.removesuffix("GB").split("x"))
    if batch is None:
        with pytest.raises(ValueError, match=r"one video with activation checkpointing needs 2\d\.\d GiB"):
            fit_batch(finetuning(args), model, int(number))
        return
    lines = fit_batch(finetuning(args), model, int(number))
    assert (args.per_device_train_batch_size, args.gradient_accumulation_steps) == (batch, accumulation)
    assert bool(args.activation_checkpointing) == checkpointing
    assert args.total_batch_size == 512 and args.learning_rate == 2e-3
    assert f"chose per_device_train_batch_size {batch}" in lines[0]
    assert needed(finetuning(args), model, batch, checkpointing, int(number)) <= 0.9 * memory
    larger = next(size for size in range(batch + 1, 10**6) if 512 / number % size == 0) if accumulation > 1 else None
    assert larger is None or needed(finetuning(args), model, larger, checkpointing, int(number)) > 0.9 * memory


def test_checkpointing_is_chosen_where_nothing_else_helps():
    model = meta_model("large")
    args = arguments(total_batch_size=16, fit="1x8GB", bf16=True)
    lines = fit_batch(finetuning(args), model)
    assert args.activation_checkpointing and args.gradient_checkpointing
    assert "and activation checkpointing" in lines[0]
    assert needed(finetuning(args), model, 1, False, 1) > 7.2 >= needed(finetuning(args), model, 1, True, 1)


@pytest.mark.parametrize(
    ("fit", "total", "message"),
    [
        ("24GB", 8, "fit='24GB' is neither auto nor a number of GPUs and their memory, such as 1x24GB"),
        ("0x24GB", 8, "neither auto"),
        ("auto", 8, "fit=auto needs a GPU"),
        ("8x24GB", 8, r"for 8 GPUs, but 1 run; start with torchrun --nproc_per_node 8"),
        ("1x1GB", 8, r"one video with activation checkpointing needs \d\.\d GiB"),
    ],
)
def test_what_cannot_fit(fit, total, message):
    with pytest.raises(ValueError, match=message):
        fit_batch(finetuning(arguments(total_batch_size=total, fit=fit)), meta_model("base"))


def test_a_total_that_the_gpus_cannot_share():
    with pytest.raises(ValueError, match="total_batch_size=9 is not divisible by 2 GPUs"):
        fit_batch(finetuning(arguments(total_batch_size=9, fit="2x24GB")), meta_model("base"), num_gpus=2)


def test_without_fit_nothing_is_chosen():
    args = arguments(per_device_train_batch_size=7)
    assert fit_batch(finetuning(args), meta_model("base")) == []
    assert (args.per_device_train_batch_size, args.total_batch_size) == (7, 7)


def test_auto_asks_the_gpus(monkeypatch):
    """Two of them, as torch would describe them."""
    memory = [24 * GIB, 16 * GIB]
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda index: SimpleNamespace(total_memory=memory[index]))
    args = SimpleNamespace(fit="auto", device=torch.device("cuda"), world_size=2)
    assert planning.gpus_of(args) == (2, 16 * GIB)


def test_the_plan_of_an_official_recipe(capsys):
    """As a user without a GPU asks for it; literal lines."""
    plan.main(["pretrain", str(RECIPES / "v2" / "pretrain_hybrid_giant.yaml"), "--fit", "8x80GB"])
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].startswith("fit 8x80GB: chose per_device_train_batch_size 64; ")
    assert lines[1:6] == [
        "VideoMAEV2ForPreTraining: 1,026,306,560 parameters, 16 frames of (224, 224), 2048 tokens, of which 208 are "
        "encoded and 1024 decoded",
        "8 processes",
        "total batch 2048 videos, each as 4 clips = 64 a process x 8 processes x 4 accumulation steps",
        "learning rate 0.0048 = 0.0006 x 2048 / 256, on a cosine to 8e-05 = 1e-05 x 8, layer decay 1",
        "300 epochs, of which 30 of warmup from 0",
    ]
    assert re.match(
        r"memory of a process, by estimate: \d+\.\d GiB with activation checkpointing \(.*AdamW 7.65", lines[6]
    )


def test_the_plan_scales_a_total_that_the_recipe_leaves_open(capsys):
    """finetune_small says 8 a process x 2 steps: on four GPUs that is 64, as it would be with torchrun."""
    plan.main(["finetune", str(RECIPES / "finetune_small.yaml"), "--fit", "4x80GB"])
    output = capsys.readouterr().out
    assert "total batch 64 = 16 a process x 4 processes x 1 accumulation step" in output


@pytest.fixture(scope="module")
def dataset(tmp_path_factory):
    folder = tmp_path_factory.mktemp("data") / "videos"
    synthesise_dataset(folder, videos_per_class=2, size=32, num_frames=8, workers=1)
    samples, _ = read_samples(folder, labelled=False)
    config = VideoMAEV2Config(**{**TINY, "mask_ratio": 0.5})
    return VideoDataset(samples, PretrainTransform(config, ClipSampler(4, sampling_rate=1)), 0), config


def trainer_of(dataset, tmp_path, **settings) -> VideoMAETrainer:
    data, config = dataset
    args = arguments(
        output_dir=str(tmp_path), logging_steps=1, save_strategy="no", disable_tqdm=True, label_names=[], **settings
    )
    return VideoMAETrainer(
        VideoMAEV2ForPreTraining(config), args, train_dataset=data, data_collator=ClipCollator(config)
    )


@pytest.mark.parametrize(
    ("settings", "steps"),
    [
        ({"per_device_train_batch_size": 4, "num_train_epochs": 2}, (4, 8)),
        ({"per_device_train_batch_size": 3, "num_train_epochs": 2}, (5, 10)),
        ({"per_device_train_batch_size": 3, "num_train_epochs": 1, "dataloader_drop_last": False}, (6, 6)),
        ({"per_device_train_batch_size": 2, "gradient_accumulation_steps": 3, "num_train_epochs": 2}, (2, 4)),
        (
            {
                "per_device_train_batch_size": 2,
                "gradient_accumulation_steps": 3,
                "dataloader_drop_last": False,
                "num_train_epochs": 2,
            },
            (3, 6),
        ),
        (
            {
                "per_device_train_batch_size": 3,
                "gradient_accumulation_steps": 2,
                "max_steps": 5,
                "train_sampling_strategy": "sequential",
            },
            (2, 5),
        ),
        ({"per_device_train_batch_size": 4, "num_train_epochs": 1.5}, (4, 6)),
        ({"per_device_train_batch_size": 4, "max_steps": 3}, (4, 3)),
    ],
)
def test_steps_are_those_that_the_trainer_takes(dataset, tmp_path, settings, steps):
    trainer = trainer_of(dataset, tmp_path, **settings)
    assert steps_of(trainer.args, trainer.train_dataset) == steps
    trainer.train()
    assert trainer.state.global_step == trainer.state.max_steps == steps[1]


def test_videos_that_fill_no_step_are_said(dataset, tmp_path):
    def line(**settings):
        trainer = trainer_of(dataset, tmp_path, **settings)
        return plan_lines(run_of(trainer.args), trainer.model, trainer.train_dataset)[1]

    left_out = "1 process on cpu, 16 videos an epoch, of which 4 are left out, as they do not fill a step"
    settings = {"per_device_train_batch_size": 3, "gradient_accumulation_steps": 2}
    assert line(**settings) == left_out
    assert line(**settings, dataloader_drop_last=False) == "1 process on cpu, 16 videos an epoch"
    with pytest.raises(ValueError, match="An epoch has 16 videos, fewer than the 18 of one step; lower per_device"):
        line(per_device_train_batch_size=9, gradient_accumulation_steps=2)


def test_the_lines_of_a_run_and_its_pace(dataset, tmp_path, capsys):
    settings = {"per_device_train_batch_size": 2, "total_batch_size": 4, "num_train_epochs": 2, "warmup_epochs": 1}
    trainer = trainer_of(dataset, tmp_path, base_learning_rate=1e-3, base_min_learning_rate=1e-4, **settings)
    run = run_of(trainer.args, num_sample=3)
    lines = plan_lines(run, trainer.model, trainer.train_dataset)
    assert lines[1:5] == [
        "1 process on cpu, 16 videos an epoch",
        "total batch 4 videos, each as 3 clips = 2 a process x 1 process x 2 accumulation steps",
        "learning rate 1.5625e-05 = 0.001 x 4 / 256, on a cosine to 1.5625e-06 = 0.0001 x 0.015625, layer decay 1",
        "8 steps, 4 an epoch, 2 epochs; warmup from 0 over 4 of them",
    ]
    trainer.add_callback(PaceCallback(num_sample=3))
    trainer.train()
    output = capsys.readouterr().out
    said = re.findall(r"pace: ([\d.]+) videos/s \(([\d.]+) clips\), ([\d.]+) s/step; the 6 steps left", output)
    assert len(said) == 1  # after two steps, and once
    videos, clips, seconds = map(float, said[0])
    assert clips == pytest.approx(3 * videos, rel=0.02) and videos * seconds == pytest.approx(4, rel=0.02)
    logged = [entry["hours_left"] for entry in trainer.state.log_history if "loss" in entry]
    assert len(logged) == 8 and logged[-1] == 0 and all(hours >= 0 for hours in logged)


def test_one_video_in_a_mixed_batch_is_warned_of():
    args = arguments(per_device_train_batch_size=1)
    assert any("WARNING: clips are mixed" in line for line in plan_lines(finetuning(args), meta_model("base")))
    args = arguments(per_device_train_batch_size=2)
    assert not any("WARNING" in line for line in plan_lines(finetuning(args), meta_model("base")))


def test_durations():
    seconds = (0, 44.6, 61, 3599, 3661, 86_399, 90_061, 1e6)
    expected = ["0 s", "45 s", "1 min", "1 h 0 min", "1 h 1 min", "1 d 0 h", "1 d 1 h", "11 d 13 h"]
    assert [duration(value) for value in seconds] == expected


# ------------------------------------------------------------------------------------------ what a run costs and learns


def planned(capsys, *options) -> list[str]:
    plan.main([str(option) for option in options])
    return capsys.readouterr().out.splitlines()


def test_the_plan_of_a_number_of_videos(capsys):
    """240,000 videos at 128 a step; the rate of the GPUs is assumed, and the arithmetic counted."""
    recipe = RECIPES / "v1" / "finetune_k400_large.yaml"
    lines = planned(capsys, "finetune", recipe, "--fit", "8x24GB", "--num_videos", 240_000)
    assert "65,625 steps, 1,875 an epoch, 35 epochs; warmup from 0 over 9,375 of them" in lines
    assert not any("WARNING" in line for line in lines)
    # ViT-L: 597 GFLOP forward for 16 frames of 224 x 224 (VideoMAE, table 6), three times that with the backward pass
    assert lines[-2].startswith("arithmetic of a step: 9") and lines[-2].endswith("pass of 256 clips)")
    teraflop = float(lines[-2].split()[4])
    assert teraflop / 256 == pytest.approx(3 * 0.597 * 2, rel=0.02)
    seconds = teraflop / 800
    assert lines[-1].startswith(f"a step takes {seconds:.2g} s (on 8 GPUs at 100 TFLOP/s each, without decoding")
    hours = re.search(r"65,625 steps take about (\d+) h \d+ min$", lines[-1])
    assert int(hours[1]) == int(65_625 * seconds / 3600)


def test_the_time_on_this_machine_is_measured(capsys):
    lines = planned(capsys, "finetune", "--preset", "tiny", "--num_videos", 300, "--max_steps", 1000)
    found = re.fullmatch(r"a step takes ([\d.]+) s \(measured on this machine, with random clips, .*; 1,000 steps take "
                         r"about (\d+) (min|s|h.*)", lines[-1])  # fmt: skip
    assert found and 0.01 < float(found[1]) < 30


def test_videos_are_counted_where_they_are(capsys, tmp_path):
    synthesise_dataset(tmp_path / "videos", videos_per_class=2, size=32, num_frames=8, workers=1)
    lines = planned(capsys, "pretrain", "--preset", "tiny", "--train_data", tmp_path / "videos")
    assert lines[0].startswith("no recipe, so that these follow from 16 videos")
    assert any("5,000 steps, 4 an epoch, 1250 epochs" in line for line in lines)


def test_what_finetune_refuses_is_not_planned(capsys, tmp_path):
    synthesise_dataset(tmp_path / "videos", videos_per_class=1, size=32, num_frames=8, workers=1)
    options = ["--preset", "tiny", "--checkpoint", "none", "--train_data"]
    assert planned(capsys, "finetune", *options, tmp_path / "videos")[0].startswith("no recipe, so that these")
    shutil.copytree(tmp_path / "videos" / "left", tmp_path / "single" / "left")
    with pytest.raises(ValueError, match="have a single class, left"):
        plan.main(["finetune", *options, str(tmp_path / "single")])


@pytest.mark.parametrize("options", [("--train_data", "nowhere"), ()])
def test_without_the_number_of_videos(capsys, options):
    with pytest.raises(ValueError, match="the learning rate follow from the number of videos; give --num_videos N"):
        plan.main(["finetune", "--model_size", "small", *options])
    lines = planned(capsys, "pretrain", RECIPES / "v1" / "pretrain_k400_small.yaml", "--fit", "8x24GB")
    assert any("with --num_videos N, steps and hours are known as well" in line for line in lines)
    with pytest.raises(ValueError, match="num_videos=0 must be at least 1"):
        plan.main(["finetune", "--num_videos", "0"])


def test_the_plan_of_a_checkpoint_is_that_of_its_model(capsys, tmp_path):
    VideoMAEV2Config(**TINY).save_pretrained(tmp_path / "mine")
    for options in ((), ("--preset", "base"), ("--model_size", "large")):  # a checkpoint has its own size
        lines = planned(capsys, "finetune", "--checkpoint", tmp_path / "mine", "--num_videos", 64, *options)
        assert lines[1].endswith(" parameters, 4 frames of (32, 32), 32 tokens") and "learning rate 0.002," in lines[4]
    lines = planned(capsys, "pretrain", "--checkpoint", tmp_path / "mine", "--num_videos", 64, "--num_frames", 8)
    assert ", 8 frames of (32, 32), " in lines[1]
    lines = planned(capsys, "finetune", "--checkpoint", "me/not-here", "--num_videos", 64, "--fit", "1x24GB")
    assert lines[0] == (
        "WARNING: the configuration of me/not-here is not on this machine; this plan is for model_size=base. Set "
        "--model_size to the size of the checkpoint."
    )
    options = ("--model_size", "small", "--fit", "1x24GB")
    lines = planned(capsys, "finetune", "--checkpoint", "me/not-here", "--num_videos", 64, *options)
    assert lines[0].startswith("no recipe") and lines[2].startswith("VideoMAEV2ForVideoClassification: 21,880,706 ")


@pytest.mark.parametrize(
    ("options", "what"),
    [({"max_steps": 100}, "max_steps"), ({"num_train_epochs": 3}, "num_train_epochs, or lower the batch")],
)
def test_the_warning_of_few_steps_names_what_sets_them(options, what):
    assert planning.cannot_learn(run_of(arguments(learning_rate=2e-4, **options), "finetune"), 768, 100) == [
        f"WARNING: 100 steps are rarely enough to learn anything, for which about 1,000 are usual; raise {what}"
    ]


@pytest.mark.parametrize(
    ("verb", "options", "width", "steps", "said"),
    [
        ("finetune", {}, 768, 499, ["499 steps are rarely enough"]),
        ("finetune", {}, 768, 500, []),
        ("pretrain", {}, 768, 2499, ["2,499 steps are rarely enough"]),
        # the rule: 2e-4 x sqrt(8 / 16) = 1.4e-4 at width 768, and 8.5e-4 at 128
        ("finetune", {"learning_rate": 1e-7}, 768, 1000, ["learning_rate=1e-07 is far too low for a model of width"]),
        ("finetune", {"learning_rate": 5e-3}, 768, 1000, ["learning_rate=0.005 is far too high"]),
        ("finetune", {"learning_rate": 5e-3}, 128, 1000, []),
        ("finetune", {"base_learning_rate": 1e-7}, 768, 10, []),  # an official schedule
    ],
)
def test_runs_that_cannot_learn(verb, options, width, steps, said):
    args = arguments(**{"learning_rate": 2e-4} | options if "base_learning_rate" not in options else options)
    lines = planning.cannot_learn(run_of(args, verb), width, steps)
    assert len(lines) == len(said) and all(text in line for text, line in zip(said, lines))


@pytest.mark.parametrize("recipe", sorted(RECIPES.glob("v[12]/*.yaml")), ids=lambda path: path.stem)
def test_no_official_recipe_is_called_hopeless(recipe):
    """Even without the exception for official schedules, as the rates of the rules are theirs."""
    verb = "pretrain" if "pretrain" in recipe.stem else "finetune"
    run = parsed(verb, recipe, "--use_cpu", "true")
    run.training.base_learning_rate = None
    warned = planning.cannot_learn(run, run.new_config().hidden_size, 10_000)
    assert bool(warned) == bool(re.search("k[46]00_giant_from_k710", recipe.stem))  # K710's own classifier, at 4e-6

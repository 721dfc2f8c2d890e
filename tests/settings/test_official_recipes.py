"""The recipes of the papers against the official scripts: what a run of each computes with, as a table of its own."""

import functools
import json
import re
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from helpers.commands import videomae
from helpers.golden_files import GOLDEN
from helpers.runs import parsed
from helpers.shared import REPO

from videomae_hf import VideoMAEV2Config, VideoMAEV2ForPreTraining, VideoMAEV2ForVideoClassification
from videomae_hf.data.processors import training_processor
from videomae_hf.data.sources.folders_and_lists import VideoRecord
from videomae_hf.data.videos import clip_sampler
from videomae_hf.models.video_decoding import VideoInfo
from videomae_hf.settings.run import Run
from videomae_hf.training.memory_estimate import GIB, estimate_memory
from videomae_hf.training.planning import memory_settings
from videomae_hf.training.trainer import VideoMAETrainer


FOLDER = REPO / "examples" / "recipes"

# From the scripts of MCG-NJU/VideoMAE and OpenGVLab/VideoMAEv2; rates are effective ones, total batch / 256 times those
# of the scripts. Epochs of V1 without the one more that its scripts have.
PRETRAINING = {
    # recipe: total batch, rate, lowest rate, warmup, epochs, mask, decoder mask, stride, num_sample, clip,
    #         checkpointing
    "v1/pretrain_k400_small": (1024, 6e-4, 4e-5, 40, 1600, 0.9, 0, 4, 1, 0, False),
    "v1/pretrain_k400_base": (2048, 1.2e-3, 8e-5, 40, 1600, 0.9, 0, 4, 1, 0, False),
    "v1/pretrain_k400_base_800e": (2048, 1.2e-3, 8e-5, 40, 800, 0.9, 0, 4, 1, 0, False),
    "v1/pretrain_k400_large": (512, 3e-4, 2e-5, 40, 1600, 0.9, 0, 4, 1, 0, False),
    "v1/pretrain_k400_huge": (1024, 6e-4, 4e-5, 40, 1600, 0.9, 0, 4, 1, 0, True),
    "v1/pretrain_ssv2_small": (2048, 1.2e-3, 8e-5, 40, 2400, 0.9, 0, 2, 1, 0, False),
    "v1/pretrain_ssv2_base": (2048, 1.2e-3, 8e-5, 40, 2400, 0.9, 0, 2, 1, 0, False),
    "v1/pretrain_ssv2_base_800e": (2048, 1.2e-3, 8e-5, 40, 800, 0.9, 0, 2, 1, 0, False),
    "v1/pretrain_ucf101_base": (192, 2.25e-4, 7.5e-6, 40, 3200, 0.75, 0, 4, 1, 0, False),
    "v2/pretrain_hybrid_base": (1024, 4e-3, 4e-5, 20, 200, 0.9, 0.5, 4, 4, 0, False),
    "v2/pretrain_hybrid_large": (1536, 6e-3, 6e-5, 30, 300, 0.9, 0.5, 4, 4, 0, False),
    "v2/pretrain_hybrid_huge": (2048, 8e-3, 8e-5, 30, 300, 0.9, 0.5, 4, 4, 0, True),
    "v2/pretrain_hybrid_giant": (2048, 4.8e-3, 8e-5, 30, 300, 0.9, 0.5, 4, 4, 0.02, True),
}
FINETUNING = {
    # recipe: total batch, rate, lowest rate, warmup, epochs, num_sample, layer decay, drop path, head dropout,
    #         weight decay, clip, stride (None: uniform), checkpointing
    "v1/finetune_k400_small": (384, 7.5e-4, 1.5e-6, 5, 150, 2, 0.75, 0.1, 0, 0.05, 0, 4, False),
    "v1/finetune_k400_base": (384, 7.5e-4, 1.5e-6, 5, 75, 2, 0.75, 0.1, 0, 0.05, 0, 4, False),
    "v1/finetune_k400_base_800e": (512, 2e-3, 2e-6, 5, 100, 1, 0.75, 0.1, 0, 0.05, 0, 4, False),
    "v1/finetune_k400_large": (128, 1e-3, 5e-7, 5, 35, 2, 0.75, 0.1, 0, 0.05, 0, 4, False),
    "v1/finetune_k400_huge": (512, 2e-3, 2e-5, 5, 50, 2, 0.75, 0.2, 0.5, 0.05, 0, 4, True),
    "v1/finetune_ssv2_small": (384, 1.5e-3, 1.5e-6, 5, 40, 2, 0.7, 0.1, 0, 0.05, 0, None, False),
    "v1/finetune_ssv2_base": (384, 7.5e-4, 1.5e-6, 5, 30, 2, 0.75, 0.1, 0, 0.05, 0, None, False),
    "v1/finetune_ssv2_base_800e": (512, 1e-3, 2e-6, 5, 50, 1, 0.75, 0.1, 0, 0.05, 0, None, False),
    "v1/finetune_ucf101_base": (128, 2.5e-4, 5e-6, 5, 100, 2, 0.7, 0.2, 0.5, 0.05, 0, 4, True),
    "v2/finetune_k400_base": (512, 1.4e-3, 2e-6, 5, 90, 2, 0.75, 0.1, 0, 0.05, 0, 4, False),
    "v2/finetune_k710_base": (512, 1.4e-3, 2e-6, 5, 90, 2, 0.75, 0.1, 0, 0.05, 0, 4, False),
    "v2/finetune_ssv2_base": (256, 2e-3, 1e-6, 5, 25, 2, 0.65, 0.1, 0, 0.05, 0, None, False),
    "v2/finetune_k400_large": (192, 1.5e-3, 7.5e-7, 5, 35, 2, 0.75, 0.2, 0, 0.05, 0, 4, False),
    "v2/finetune_ssv2_large": (192, 3.75e-4, 7.5e-7, 5, 20, 2, 0.75, 0.2, 0, 0.05, 0, None, False),
    "v2/finetune_k400_huge": (128, 5e-4, 5e-7, 5, 40, 2, 0.8, 0.2, 0.5, 0.05, 0, 4, False),
    "v2/finetune_k710_huge": (128, 5e-4, 5e-7, 5, 40, 2, 0.8, 0.2, 0.5, 0.05, 0, 4, False),
    "v2/finetune_k600_huge": (128, 5e-4, 5e-7, 5, 40, 2, 0.8, 0.2, 0.5, 0.05, 0, 4, False),
    "v2/finetune_ssv2_huge": (128, 2.5e-4, 5e-7, 5, 20, 2, 0.8, 0.2, 0, 0.05, 0, None, False),
    "v2/finetune_k710_giant": (96, 3.75e-4, 3.75e-7, 5, 35, 2, 0.9, 0.3, 0, 0.1, 5.0, 4, False),
    "v2/finetune_k400_giant": (192, 7.5e-4, 7.5e-7, 5, 30, 2, 0.9, 0.2, 0, 0.1, 0, 4, False),
    "v2/finetune_k400_giant_from_k710": (96, 3.75e-6, 3.75e-7, 1, 3, 2, 0.9, 0.25, 0, 0.1, 0, 4, False),
    "v2/finetune_k600_giant_from_k710": (96, 3.75e-6, 3.75e-7, 1, 3, 2, 0.9, 0.25, 0, 0.1, 0, 4, False),
    "v2/finetune_ssv2_giant": (96, 1.125e-4, 3.75e-7, 5, 20, 2, 0.9, 0.25, 0, 0.05, 0, None, False),
    "v2/finetune_ucf101_giant_from_k710": (24, 9.375e-5, 9.375e-8, 5, 50, 2, 0.9, 0.35, 0.5, 0.05, 0, 4, False),
    "v2/finetune_hmdb51_giant_from_k710": (24, 4.6875e-5, 9.375e-8, 5, 15, 2, 0.9, 0.35, 0.5, 0.05, 0, 2, False),
}
# Parameters of the official models: pretraining with the decoder of the scripts, classification of 400 classes.
PRETRAINING_PARAMETERS = {
    ("small", 1): 24_029_376,
    ("base", 1): 94_210_944,
    ("large", 1): 342_996_992,
    ("huge", 1): 692_487_296,
    ("base", 2): 94_210_944,
    ("large", 2): 317_782_016,
    ("huge", 2): 645_659_392,
    ("giant", 2): 1_026_306_560,
}
CLASSIFICATION_PARAMETERS = {
    "small": 22_033_936,
    "base": 86_534_800,
    "large": 304_270_736,
    "huge": 632_119_440,
    "giant": 1_012_174_352,
}
SIZES = {"small": "ViT-S", "base": "ViT-B", "large": "ViT-L", "huge": "ViT-H", "giant": "ViT-g"}


def read(name: str, *options: str) -> Run:
    """The run of a recipe, as one process on a CPU has it."""
    command = "pretrain" if "/pretrain" in name else "finetune"
    return parsed(command, FOLDER / f"{name}.yaml", "--use_cpu", "true", *options)


def config_of(run: Run, **more) -> VideoMAEV2Config:
    return VideoMAEV2Config.from_size(run.model.model_size, run.model.model_version, **more, **run.config_overrides)


@functools.cache
def meta_model(name: str):
    run = read(name)
    with torch.device("meta"):
        if "/pretrain" in name:
            return VideoMAEV2ForPreTraining(config_of(run))
        return VideoMAEV2ForVideoClassification(config_of(run, num_labels=400))


def test_every_recipe_of_the_papers_is_in_the_tables():
    names = {str(path.relative_to(FOLDER).with_suffix("")) for path in FOLDER.glob("v[12]/*.yaml")}
    assert names == {*PRETRAINING, *FINETUNING}


def check_schedule(args, total: int, rate: float, lowest: float, warmup: int, epochs: int):
    """Literal values, and what the Trainer makes of them: the official schedule, step by step."""
    assert args.total_batch_size == total
    assert args.per_device_train_batch_size * args.gradient_accumulation_steps * args.world_size == total
    assert (args.warmup_epochs, args.num_train_epochs) == (warmup, epochs)
    assert args.learning_rate == pytest.approx(rate, rel=1e-9)
    steps = 3 * epochs  # as if an epoch had three
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=args.learning_rate)
    assert args.get_warmup_steps(steps) == 3 * warmup
    trainer = VideoMAETrainer(torch.nn.Linear(1, 1), args, eval_dataset=[])
    factor = trainer.create_scheduler(steps, optimizer).lr_lambdas[0]
    cosine = np.cos(np.pi * np.arange(steps - 3 * warmup) / (steps - 3 * warmup))
    official = [*np.linspace(0, rate, 3 * warmup), *lowest + (rate - lowest) * (1 + cosine) / 2]
    assert [rate * factor(step) for step in range(steps)] == pytest.approx(official, rel=1e-9)
    # Videos that do not fill a step are left out at the end of an epoch, whatever the accumulation.
    assert args.dataloader_drop_last
    assert args.steps_per_epoch(3 * total + total - 1) == 3


@pytest.mark.parametrize("name", PRETRAINING)
def test_pretraining(name):
    total, rate, lowest, warmup, epochs, mask, decoder_mask, stride, num_sample, clip, checkpointing = PRETRAINING[name]
    run = read(name)
    data, args = SimpleNamespace(**run.settings()), run.training
    check_schedule(args, total, rate, lowest, warmup, epochs)
    assert (args.weight_decay, args.adam_beta1, args.adam_beta2, args.adam_epsilon) == (0.05, 0.9, 0.95, 1e-8)
    assert (args.max_grad_norm, args.layer_decay, args.activation_checkpointing) == (clip, 1, checkpointing)
    assert (data.num_sample, data.sampling_rate, data.frame_sampling) == (num_sample, stride, "dense")
    config = config_of(run)
    assert (config.mask_type, config.mask_ratio, config.decoder_mask_ratio) == ("tube", mask, decoder_mask)
    assert (config.decoder_mask_type, config.norm_pix_loss) == ("running_cell", True)
    assert (config.num_frames, config.image_hw) == (16, (224, 224))
    assert str(data.model_version) == name[1] and name.split("_")[2] == data.model_size
    if num_sample == 4:
        assert [source.get("sampling_rate", 4) for source in data.train_data] == [4, 2]


@pytest.mark.parametrize("name", FINETUNING)
def test_finetuning(name):
    total, rate, lowest, warmup, epochs, num_sample, layer_decay, *rest = FINETUNING[name]
    drop_path, dropout, weight_decay, clip, stride, checkpointing = rest
    run = read(name)
    data, args = SimpleNamespace(**run.settings()), run.training
    check_schedule(args, total, rate, lowest, warmup, epochs)
    assert (args.adam_beta1, args.adam_beta2, args.adam_epsilon) == (0.9, 0.999, 1e-8)
    assert (args.weight_decay, args.max_grad_norm, args.layer_decay) == (weight_decay, clip, layer_decay)
    assert args.activation_checkpointing == checkpointing
    fields = run.config_overrides
    assert fields["drop_path_rate"] == drop_path and fields.get("classifier_dropout", 0) == dropout
    assert data.num_sample == num_sample
    assert (data.rand_augment, data.random_erasing) == ("rand-m7-n4-mstd0.5-inc1", 0.25)
    assert (data.mixup_alpha, data.cutmix_alpha, data.label_smoothing) == (0.8, 1.0, 0.1)
    assert data.crop_scale == [0.08, 1.0]
    # Something-Something names directions: uniform clips, never mirrored.
    assert data.frame_sampling == ("uniform" if stride is None else "dense")
    assert data.horizontal_flip == (stride is not None)
    assert stride is None or data.sampling_rate == stride


OFFICIAL_FRAMES = json.loads((GOLDEN / "sampling.json").read_text())


def sampled(sampling, length: int, monkeypatch, pretraining: bool) -> list[list[int]]:
    """The frames of many random clips of a video of so many."""

    def read_frames(video, indices, *_, transform, **options):
        return transform(torch.tensor(indices(VideoInfo(length))).view(-1, 1, 1, 1))

    monkeypatch.setattr("videomae_hf.data.clips.read_frames", read_frames)
    generator = torch.Generator().manual_seed(0)
    clips = [sampling.random_clip(VideoRecord("video"), generator, pretraining=pretraining) for _ in range(400)]
    return [clip.flatten().tolist() for clip in clips]


def assert_clips(clips: list[list[int]], expected: dict):
    ends = {clip[0]: clip for clip in clips}
    assert (min(ends), max(ends)) == tuple(expected["start"])
    assert ends[min(ends)] == expected["clip_of_lowest_start"]
    assert ends[max(ends)] == expected["clip_of_highest_start"]


@pytest.mark.parametrize("name", PRETRAINING)
@pytest.mark.parametrize("length", [31, 36, 66])
def test_pretraining_samples_the_official_frames(name, length, monkeypatch):
    run = read(name)
    config, data = config_of(run), run.data
    sources = data.train_data if isinstance(data.train_data, list) else [{}]
    for source in sources:
        stride = source.get("sampling_rate", run.clips.sampling_rate)
        sampling = clip_sampler(run.clips, config, sampling_rate=stride)
        clips = sampled(sampling, length, monkeypatch, pretraining=True)
        assert_clips(clips, OFFICIAL_FRAMES[f"pretraining_stride_{stride:g}"][str(length)])


@pytest.mark.parametrize("name", FINETUNING)
@pytest.mark.parametrize("length", [31, 36, 66])
def test_finetuning_samples_the_official_frames(name, length, monkeypatch):
    """In training, in the evaluation of a run, and in the one behind it, by the processor that is saved."""
    run = read(name).changed(checkpoint=None)
    assert run.clips.official_sampling
    if run.clips.sampling_rate == 2:
        return  # HMDB51, of whose stride there are no official values
    config = config_of(run)
    clips = sampled(clip_sampler(run.clips, config), length, monkeypatch, pretraining=False)
    processor, key = training_processor(run, config), str(length)
    if run.clips.frame_sampling == "uniform":
        segments = [[min(places), max(places)] for places in zip(*clips)]
        assert segments == OFFICIAL_FRAMES["uniform_train_segments"][key]
        several, test = 2, OFFICIAL_FRAMES["uniform_test_2_clips"][key]
    else:
        assert_clips(clips, OFFICIAL_FRAMES["dense_train"][key])
        several, test = 5, OFFICIAL_FRAMES["dense_test_5_clips"][key]["clips"]

    def evaluated(num_clips: int) -> list[list[int]]:
        return processor.sample_clips(VideoInfo(length), {**vars(processor), "num_clips": num_clips, "generator": None})

    assert evaluated(1) == [OFFICIAL_FRAMES[f"{run.clips.frame_sampling}_validation"][key]]
    assert evaluated(several) == test


@pytest.mark.parametrize("name", [*PRETRAINING, *FINETUNING])
def test_model_and_header(name):
    """Size and parameters of the official model; the header names it, and the memory that is estimated for it."""
    run, model = read(name), meta_model(name)
    args, data = run.training, run.model
    parameters = sum(parameter.numel() for parameter in model.parameters())
    if name in PRETRAINING:
        assert parameters == PRETRAINING_PARAMETERS[data.model_size, data.model_version]
    else:
        assert parameters == CLASSIFICATION_PARAMETERS[data.model_size]
    text = (FOLDER / f"{name}.yaml").read_text()
    assert text.startswith(f"# VideoMAE V{data.model_version}, {SIZES[data.model_size]}")
    settings = memory_settings(run, args.per_device_train_batch_size, 8, checkpointing=args.activation_checkpointing)
    gib = sum(estimate_memory(model, settings).values()) / GIB
    assert int(re.search(r"(\d+)\s+(?:#\s+)?GiB", text)[1]) == round(gib)
    published = re.search(r"published with (\d+) GPUs of (\d+) videos", text)
    assert int(published[1]) * int(published[2]) == args.total_batch_size
    assert int(published[2]) == args.per_device_train_batch_size


@pytest.mark.parametrize("name", FINETUNING)
def test_checkpoints_are_what_another_recipe_leaves(name):
    start = read(name).model.checkpoint.removeprefix("output/")
    assert start in {*PRETRAINING, *FINETUNING}
    assert read(start).training.output_dir == f"output/{start}"
    assert read(name).training.output_dir == f"output/{name}"
    before, after = meta_model(start), meta_model(name)
    encoder = {key: value.shape for key, value in before.videomae.state_dict().items() if "layernorm." not in key}
    assert encoder == {key: value.shape for key, value in after.videomae.state_dict().items()}


def smoke_test(name: str, folder, monkeypatch, capsys) -> str:
    """Two steps of a recipe, in this process, from a folder of its own; what is printed."""
    monkeypatch.chdir(folder)
    command = "pretrain" if "/pretrain" in name else "finetune"
    videomae(command, FOLDER / f"{name}.yaml", "--smoke_test", "true", "--disable_tqdm", "true")
    return capsys.readouterr().out


@pytest.mark.timeout(300)
def test_recipes_pass_the_smoke_test(tmp_path, monkeypatch, capsys):
    """A chain: pretraining with four clips a video, and finetuning that begins with its weights."""
    first, second = "v2/pretrain_hybrid_giant", "v2/finetune_ssv2_giant"
    output = smoke_test(first, tmp_path, monkeypatch, capsys)
    assert "total batch 4 videos, each as 4 clips = 2 a process x 1 process x 2 accumulation steps" in output
    assert "128 tokens, of which 16 are encoded and 64 decoded" in output  # 2 of 16 places, half of the tokens
    assert "learning rate 9.375e-06 = 0.0006 x 4 / 256, on a cosine to 1.5625e-07 = 1e-05 x 0.015625" in output
    assert output.count("'loss'") == 2
    output = smoke_test(second, tmp_path, monkeypatch, capsys)
    assert "total batch 4 videos, each as 2 clips" in output and "layer decay 0.9" in output
    assert output.count("'loss'") == 2 and "eval_top1" in output  # which mixed labels would not have


@pytest.mark.slow
@pytest.mark.parametrize("name", [*PRETRAINING, *FINETUNING])
def test_every_recipe_passes_the_smoke_test(name, tmp_path, monkeypatch, capsys):
    output = smoke_test(name, tmp_path, monkeypatch, capsys)
    assert output.count("'loss'") == 2
    assert (tmp_path / "output" / f"{name}_smoke_test" / "model.safetensors").is_file()

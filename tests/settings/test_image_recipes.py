"""The recipes of images against facebookresearch/mae: what a run of each computes with, as a table of its own."""

import re
from types import SimpleNamespace

import pytest
import torch
from helpers.commands import videomae
from helpers.runs import parsed
from helpers.shared import REPO

from videomae_hf import VideoMAEV2Config, VideoMAEV2ForPreTraining, VideoMAEV2ForVideoClassification
from videomae_hf.training.memory_estimate import GIB, estimate_memory
from videomae_hf.training.planning import memory_settings


FOLDER = REPO / "examples" / "recipes"
# PRETRAIN.md, FINETUNE.md and the defaults of main_pretrain.py, main_finetune.py and main_linprobe.py
FINETUNING = {
    # size: rate at a batch of 1024, layer decay, drop path, epochs, GPUs
    "base": (2e-3, 0.65, 0.1, 100, 32),
    "large": (4e-3, 0.75, 0.2, 50, 32),
    "huge": (4e-3, 0.75, 0.3, 50, 64),
}
PROBES = {"base": 90, "large": 50, "huge": 50}  # epochs
# Parameters: of transformers' ViTMAEForPreTraining less the fixed tables, which are buffers here, and less the key
# biases; of timm's ViT with 1000 classes less the key biases.
PARAMETERS = {
    "base": (111_642_368, 86_558_440),
    "large": (329_210_624, 304_302_056),
    "huge": (656_568_908, 632_004_840),
}
SIZES = {"base": "ViT-B/16", "large": "ViT-L/16", "huge": "ViT-H/14"}


def read(name: str, command: str):
    return parsed(command, FOLDER / f"{name}.yaml", "--use_cpu", "true")


def check_header(name: str, run, model) -> None:
    """The size, the GPUs of the source, and the memory that is estimated for one of them."""
    text, args = (FOLDER / f"{name}.yaml").read_text(), run.training
    assert text.startswith(f"# MAE, {SIZES[run.model.model_size]}")
    settings = memory_settings(run, args.per_device_train_batch_size, 8, checkpointing=False)
    gib = sum(estimate_memory(model, settings).values()) / GIB
    assert int(re.search(r"(\d+)\s+(?:#\s+)?GiB", text)[1]) == round(gib)
    published = re.search(r"published with (\d+) GPUs of (\d+) images", text)
    assert (int(published[1]) * int(published[2]), int(published[2])) == (
        args.total_batch_size,
        args.per_device_train_batch_size,
    )


@pytest.mark.parametrize("size", SIZES)
def test_pretraining(size):
    run = read(f"images/mae_pretrain_{size}", "pretrain")
    args, config, data = run.training, run.new_config(), SimpleNamespace(**run.settings())
    assert (args.total_batch_size, args.learning_rate, args.base_min_learning_rate) == (4096, pytest.approx(2.4e-3), 0)
    assert (args.num_train_epochs, args.warmup_epochs) == (800, 40)
    assert (args.weight_decay, args.adam_beta1, args.adam_beta2, args.max_grad_norm) == (0.05, 0.9, 0.95, 0)
    assert (config.mask_ratio, config.mask_type, config.norm_pix_loss) == (0.75, "random", True)
    assert (config.target_pixels, config.position_embedding_type) == ("normalized", "sinusoidal_2d")
    assert (data.pretrain_crop_scale, data.pretrain_flip, data.interpolation) == ([0.2, 1.0], True, None)
    with torch.device("meta"):
        model = VideoMAEV2ForPreTraining(config)
    assert sum(parameter.numel() for parameter in model.parameters()) == PARAMETERS[size][0]
    check_header(f"images/mae_pretrain_{size}", run, model)


@pytest.mark.parametrize("size", SIZES)
def test_finetuning(size):
    rate, layer_decay, drop_path, epochs, gpus = FINETUNING[size]
    run = read(f"images/mae_finetune_{size}", "finetune")
    args, config, data = run.training, run.new_config(num_labels=1000), SimpleNamespace(**run.settings())
    assert (args.total_batch_size, args.learning_rate) == (1024, pytest.approx(rate))
    assert args.base_min_learning_rate * 1024 / 256 == pytest.approx(1e-6)
    assert (args.num_train_epochs, args.warmup_epochs, args.layer_decay) == (epochs, 5, layer_decay)
    assert (args.weight_decay, args.adam_beta1, args.adam_beta2, args.max_grad_norm) == (0.05, 0.9, 0.999, 0)
    assert (data.rand_augment, data.random_erasing) == ("rand-m9-mstd0.5-inc1", 0.25)
    assert (data.mixup_alpha, data.cutmix_alpha, data.label_smoothing) == (0.8, 1.0, 0.1)
    assert (data.crop_scale, data.crop_ratio, data.horizontal_flip) == ([0.08, 1.0], [0.75, 4 / 3], True)
    assert (config.drop_path_rate, config.use_mean_pooling) == (drop_path, None)
    assert config.position_embedding_type == "learned"
    assert data.checkpoint == read(f"images/mae_pretrain_{size}", "pretrain").training.output_dir
    with torch.device("meta"):
        model = VideoMAEV2ForVideoClassification(config)
    assert sum(parameter.numel() for parameter in model.parameters()) == PARAMETERS[size][1]
    check_header(f"images/mae_finetune_{size}", run, model)


@pytest.mark.parametrize("size", SIZES)
def test_linear_probe(size):
    run = read(f"probes/mae_linear_{size}", "probe")
    args = run.training
    assert (args.total_batch_size, args.num_train_epochs) == (16384, PROBES[size])
    assert (run.probing.probe, run.probing.probe_optimizer) == ("mae", "lars")  # at 0.1 x batch / 256, without decay
    assert "published with 32 GPUs of 512 images" in (FOLDER / f"probes/mae_linear_{size}.yaml").read_text()
    assert run.model.checkpoint == read(f"images/mae_pretrain_{size}", "pretrain").training.output_dir


@pytest.mark.timeout(300)
def test_recipes_pass_the_smoke_test(tmp_path, monkeypatch, capsys):
    """A chain: pretraining, finetuning of its weights with learned positions."""
    monkeypatch.chdir(tmp_path)
    for command in ("pretrain", "finetune"):
        recipe = FOLDER / f"images/mae_{command}_base.yaml"
        videomae(command, recipe, "--smoke_test", "true", "--disable_tqdm", "true")
        output = capsys.readouterr().out
        assert output.count("'loss'") == 2
    assert "eval_top1" in output
    config = VideoMAEV2Config.from_pretrained(tmp_path / "output/images/mae_finetune_base_smoke_test")
    assert (config.num_frames, config.position_embedding_type) == (1, "learned")


def test_finetuning_on_videos():
    """An inflated image model with the settings of the pretrained ViT-B on Kinetics-400, other than its start."""
    ours, official = read("images/finetune_k400_from_mae_base", "finetune"), read("v1/finetune_k400_base", "finetune")
    different = {name for name, value in ours.settings().items() if value != official.settings()[name]}
    assert different == {"checkpoint", "official_sampling", "antialias"}
    names = ("learning_rate", "total_batch_size", "num_train_epochs", "warmup_epochs", "layer_decay", "weight_decay")
    assert [getattr(ours.training, name) for name in names] == [getattr(official.training, name) for name in names]


def test_images_and_videos_together():
    """omnimae_vitbase_ssv2_in1k.yaml of facebookresearch/omnivore."""
    run = read("images/omnimae_base", "pretrain")
    args, config = run.training, run.new_config()
    assert (args.total_batch_size, args.learning_rate, args.base_min_learning_rate) == (2048, pytest.approx(1.6e-3), 0)
    assert (args.num_train_epochs, args.warmup_epochs) == (800, 40)
    assert (args.weight_decay, args.adam_beta1, args.adam_beta2, args.max_grad_norm) == (0.05, 0.9, 0.95, 0)
    assert [source.get("image_mask_ratio") for source in run.data.train_data] == [None, 0.75]
    assert 15 / run.data.train_data[0]["fps"] == pytest.approx(2.7, abs=0.03)  # seconds
    assert (config.mask_type, config.mask_ratio, config.decoder_mask_ratio) == ("random", 0.9, 0)
    assert (config.num_frames, config.tubelet_size, config.use_cls_token, config.norm_pix_loss) == (16, 2, False, True)
    decoder = (config.decoder_hidden_size, config.decoder_num_hidden_layers, config.decoder_num_attention_heads)
    assert decoder == (384, 4, 16) and config.decoder_embed_bias and config.target_pixels == "unit"
    with torch.device("meta"):
        model = VideoMAEV2ForPreTraining(config)
    settings = memory_settings(run, 32, 8, checkpointing=False)
    text = (FOLDER / "images/omnimae_base.yaml").read_text()
    gib = sum(estimate_memory(model, settings).values()) / GIB
    assert int(re.search(r"(\d+) GiB", text)[1]) == round(gib)
    assert "published with 64 GPUs of 32 videos or images" in text


def test_images_and_videos_pass_the_smoke_test(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    options = ("--smoke_test", "true", "--disable_tqdm", "true", "--max_steps", "6")
    videomae("pretrain", FOLDER / "images/omnimae_base.yaml", *options)
    output = capsys.readouterr().out
    assert output.count("'loss'") == 6 and "'loss_images'" in output and "'loss_videos'" in output

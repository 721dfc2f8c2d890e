"""The files of examples/accelerate: read by what will read them, and the arithmetic of their README."""

import re
import subprocess

import pytest
import torch
from accelerate.commands.config.config_args import load_config_from_file
from accelerate.commands.launch import _validate_launch_command, launch_command_parser
from accelerate.utils.deepspeed import HfDeepSpeedConfig
from helpers.shared import REPO

from videomae_hf import VideoMAEV2Config, VideoMAEV2ForPreTraining
from videomae_hf.training.memory_estimate import GIB, MemorySettings, estimate_memory


FOLDER = REPO / "examples" / "accelerate"
README = (FOLDER / "README.md").read_text()
FILES = sorted(path.name for path in FOLDER.glob("*.yaml"))


def launch_arguments(name: str):
    """What `accelerate launch --config_file` makes of a file, checked as it checks it."""
    arguments = launch_command_parser().parse_args(["--config_file", str(FOLDER / name), "train.py"])
    arguments.nondefault = {"config_file", "training_script", "training_script_args"}
    return _validate_launch_command(arguments)[0]


@pytest.mark.parametrize("name", FILES)
def test_every_file_is_read_and_says_how_it_is_started(name, monkeypatch):
    monkeypatch.chdir(REPO)
    text = (FOLDER / name).read_text()
    for word in ("Command", "Use", "Run here"):
        assert f"\n# {word} " in text
    assert f"accelerate launch --config_file examples/accelerate/{name} " in text
    load_config_from_file(str(FOLDER / name))  # refuses unknown keys
    arguments = launch_arguments(name)
    assert (arguments.num_processes, arguments.num_machines) == {
        "one_gpu.yaml": (1, 1),
        "two_nodes.yaml": (16, 2),
    }.get(name, (8, 1))
    assert arguments.multi_gpu == (name in ("ddp.yaml", "two_nodes.yaml"))
    assert arguments.use_deepspeed == name.startswith("zero")
    assert arguments.use_fsdp == (name == "fsdp2.yaml")
    assert f"({name})" in README


def test_fsdp2_wraps_the_layers_that_the_model_has():
    arguments = launch_arguments("fsdp2.yaml")
    assert arguments.fsdp_version == 2
    with torch.device("meta"):
        model = VideoMAEV2ForPreTraining(VideoMAEV2Config.from_size("giant", 2))
    layers = [type(module).__name__ for module in model.modules()].count(arguments.fsdp_transformer_layer_cls_to_wrap)
    assert layers == 40 + 4
    assert arguments.fsdp_state_dict_type == "FULL_STATE_DICT"


@pytest.mark.parametrize("stage", [2, 3])
def test_deepspeed_takes_batch_and_precision_from_the_trainer(stage):
    assert launch_arguments(f"zero{stage}.yaml").deepspeed_config_file == f"examples/accelerate/zero{stage}.json"
    config = HfDeepSpeedConfig(str(FOLDER / f"zero{stage}.json"))
    assert (config.is_zero2(), config.is_zero3()) == (stage == 2, stage == 3)
    for name in ("gradient_accumulation_steps", "train_micro_batch_size_per_gpu", "bf16.enabled", "gradient_clipping"):
        assert config.get_value(name) == "auto"
    # Optimizer and schedule are the Trainer's: layer decay needs its groups.
    assert config.get_value("optimizer") is None and config.get_value("scheduler") is None


def test_slurm_script_is_bash():
    subprocess.run(["bash", "-n", str(FOLDER / "slurm.sh")], check=True, timeout=60)


def test_memory_arithmetic_of_the_readme():
    with torch.device("meta"):
        model = VideoMAEV2ForPreTraining(VideoMAEV2Config.from_size("giant", 2))
    parameters = sum(parameter.numel() for parameter in model.parameters())
    assert f"has {parameters:,} parameters" in README

    def gib(clips: int, **options) -> float:
        settings = MemorySettings(clips, mixed_precision=True, checkpointing=True, num_processes=8, **options)
        return sum(estimate_memory(model, settings).values()) / GIB

    stated = dict(re.findall(r"^\| (\S+).*\| ([\d.]+) \|$", README, re.MULTILINE))
    assert float(stated["DDP"]) == pytest.approx(gib(0), abs=0.05)
    assert float(stated["FSDP2"]) == pytest.approx(gib(0, sharded=True), abs=0.05)
    assert float(stated["ZeRO-2"]) == pytest.approx((2 + 14 / 8) * parameters / GIB, abs=0.05)
    assert float(stated["ZeRO-3"]) == pytest.approx(16 / 8 * parameters / GIB, abs=0.05)
    assert "a clip takes 0.12 GiB" in README
    assert gib(1) - gib(0) == pytest.approx(0.12, abs=0.005)
    assert 40 * 208 * 1408 * 4 / GIB == pytest.approx(0.044, abs=5e-4)
    assert gib(4) < 0.9 * 24 < gib(8)  # DDP: one video of four clips, not two
    assert gib(4 * 32, sharded=True) == pytest.approx(20.5, abs=0.05) and "20.5 of 24.0 GiB" in README

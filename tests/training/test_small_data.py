"""The preset for few videos learns from two hundred of them, through the real command; minutes."""

import json

import pytest
from helpers.launching import finish, start

from videomae_hf import VideoMAEV2Config, VideoMAEV2ForPreTraining
from videomae_hf.data.sources.synthetic import synthesise_dataset


# The sizes of `make demo`
MODEL = {"num_frames": 8, "image_size": 64, "patch_size": 16, "hidden_size": 128, "num_hidden_layers": 4}
MODEL |= {"num_attention_heads": 4, "intermediate_size": 512, "decoder_hidden_size": 96, "decoder_num_hidden_layers": 1}
MODEL |= {"decoder_num_attention_heads": 3, "decoder_intermediate_size": 96}


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_the_preset_learns_from_two_hundred_videos(tmp_path):
    synthesise_dataset(tmp_path / "train", videos_per_class=25)
    synthesise_dataset(tmp_path / "val", videos_per_class=25, seed=1)
    VideoMAEV2ForPreTraining(VideoMAEV2Config(**MODEL)).save_pretrained(tmp_path / "untrained")
    options = ["--train_data", tmp_path / "train", "--eval_data", tmp_path / "val", "--output_dir", tmp_path / "run"]
    options += ["--checkpoint", tmp_path / "untrained", "--use_cpu", "true", "--dataloader_num_workers", "1"]
    # What the recipe says to change: a rate for a tiny model that has not learned anything, and directions
    options += ["--learning_rate", "1e-3", "--horizontal_flip", "false", "--sampling_rate", "2"]
    process = start("finetune", "examples/recipes/finetune_small.yaml", *options)
    output = finish(process, timeout=1700)
    assert process.returncode == 0, output[-3000:]
    assert json.loads((tmp_path / "run" / "all_results.json").read_text())["eval_top1"] >= 0.6  # chance is 0.125

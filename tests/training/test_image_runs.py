"""Models of images in the commands: one frame of each video is trained on, masked, scored and probed."""

import numpy as np
import pytest
from helpers.image_models import images, vit, vit_mae
from safetensors.torch import load_file

from videomae_hf import VideoMAEV2ForPreTraining, VideoMAEV2ForVideoClassification
from videomae_hf.data.sources.synthetic import write_video


SETTINGS = ["--sampling_rate", "1", "--dataloader_num_workers", "0", "--disable_tqdm", "true", "--max_steps", "1"]


@pytest.fixture
def videos(tmp_path):
    for number, name in enumerate(("left", "up")):
        (tmp_path / "videos" / name).mkdir(parents=True)
        pixels = np.random.default_rng(number).integers(0, 256, (4, 36, 48, 3), dtype=np.uint8)
        write_video(tmp_path / "videos" / name / "a.mp4", pixels)
    return tmp_path / "videos"


def run(train_here, *arguments) -> str:
    done = train_here(*arguments, *SETTINGS, "--per_device_train_batch_size", "2")
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_pretraining_and_finetuning_of_vit_mae(tmp_path, videos, train_here):
    theirs = vit_mae(norm_pix_loss=True)
    theirs.save_pretrained(tmp_path / "theirs")
    data = ["--train_data", videos, "--output_dir"]
    run(train_here, "pretrain", "--checkpoint", tmp_path / "theirs", *data, tmp_path / "mae")
    model = VideoMAEV2ForPreTraining.from_pretrained(tmp_path / "mae")
    before, after = (load_file(tmp_path / name / "model.safetensors") for name in ("theirs", "mae"))
    assert not before["vit.embeddings.cls_token"].equal(after["videomae.embeddings.cls_token"])  # it is trained
    assert (model.config.mask_type, model.config.mask_ratio, model.config.num_frames) == ("random", 0.75, 1)
    assert model(images(model.config)).loss.isfinite()
    run(train_here, "finetune", "--checkpoint", tmp_path / "mae", *data, tmp_path / "finetuned", "--layer_decay", "0.5")
    model = VideoMAEV2ForVideoClassification.from_pretrained(tmp_path / "finetuned")
    assert model.fc_norm is not None and model(images(model.config)).logits.shape == (2, 2)


def test_probe_of_vit(tmp_path, videos, train_here):
    vit().save_pretrained(tmp_path / "theirs")
    data = ["--train_data", videos, "--eval_data", videos, "--output_dir", tmp_path / "probe"]
    done = train_here("probe", "--checkpoint", tmp_path / "theirs", *data, "--probe", "knn", *SETTINGS[:-2])
    assert done.returncode == 0, done.stderr

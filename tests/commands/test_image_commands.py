"""The commands on data sets of images, as a user types them."""

import json
import re
import shutil
from pathlib import Path

import numpy as np
import pytest
import yaml
from helpers.commands import videomae
from helpers.small_runs import MODEL, losses, succeeded, train
from PIL import Image
from safetensors.torch import load_file

from videomae_hf import VideoMAEV2Config
from videomae_hf.cli import main


TINY = MODEL[2:]  # without its number of frames
SHORT = ["--dataloader_num_workers", "0", "--disable_tqdm", "true", "--logging_steps", "1", "--num_train_epochs", "2"]
BATCH = ["--per_device_train_batch_size", "4"]
MAE = ["pretrain", "--model_kind", "mae", *TINY, *SHORT, *BATCH]
TWO_PROCESSES = ["-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2"]


@pytest.fixture(scope="module")
def images(tmp_path_factory) -> Path:
    """Dark cats and bright dogs of several sizes, 8 of each for training and 4 for evaluation."""
    folder, generator = tmp_path_factory.mktemp("images"), np.random.default_rng(0)
    for split, number in (("train", 8), ("val", 4)):
        for name, brightness in (("cat", 70), ("dog", 180)):
            (folder / split / name).mkdir(parents=True)
            for index in range(number):
                pixels = generator.normal(brightness, 40, (36 + index, 48, 3)).clip(0, 255).astype(np.uint8)
                Image.fromarray(pixels).save(folder / split / name / f"{index}.{('jpg', 'png')[index % 2]}")
    return folder


@pytest.fixture(scope="module")
def pretrained(images, tmp_path_factory) -> Path:
    """An MAE, pretrained with the k-NN monitor and pictures."""
    place = tmp_path_factory.mktemp("mae")
    data = ["--train_data", images / "train", "--probe_train_data", images / "train"]
    data += ["--probe_eval_data", images / "val", "--eval_strategy", "epoch", "--save_strategy", "epoch"]
    main([str(part) for part in [*MAE, *data, "--output_dir", place, "--use_cpu", "true"]])
    return place


@pytest.fixture(scope="module")
def finetuned(images, pretrained, tmp_path_factory) -> Path:
    place = tmp_path_factory.mktemp("finetuned")
    augmentation = ["--rand_augment", "rand-m9-mstd0.5-inc1", "--mixup_alpha", "0.8", "--cutmix_alpha", "1"]
    augmentation += ["--label_smoothing", "0.1", "--random_erasing", "0.25", "--layer_decay", "0.65"]
    data = ["--train_data", images / "train", "--eval_data", images / "val", "--output_dir", place]
    command = ["finetune", "--checkpoint", pretrained, *data, *augmentation, *SHORT, *BATCH, "--use_cpu", "true"]
    main([str(part) for part in command])
    return place


def results(folder: Path, name: str = "all_results.json") -> dict:
    return json.loads((folder / name).read_text())


def test_pretraining(pretrained):
    scores = results(pretrained)
    assert scores["eval_knn_top1"] >= 0.75 and 0 < scores["eval_loss"] < 10
    pictures = sorted((pretrained / "reconstructions" / "video_0").glob("*.png"))
    assert len(pictures) == 2 and Image.open(pictures[0]).size[1] >= 4 * 32
    config = VideoMAEV2Config.from_pretrained(pretrained)
    assert (config.num_frames, config.use_cls_token, config.position_embedding_type) == (1, True, "sinusoidal_2d")
    options = json.loads((pretrained / "preprocessor_config.json").read_text())
    assert (options["size"], options["resample"]) == ({"shortest_edge": 36}, 3)
    assert yaml.safe_load((pretrained / "settings.yaml").read_text())["model_kind"] == "mae"


def test_what_pretraining_says(images, tmp_path, train_here):
    options = ["--decoder_embed_bias", "false", "--target_pixels", "unit", "--sampling_rate", "2", "--max_steps", "1"]
    data = ["--train_data", images / "train", "--output_dir", tmp_path]
    lines = succeeded(train_here(*MAE, *data, *options)).splitlines()
    assert "an image has no frames in time: sampling_rate has no effect" in lines and "16 images" in lines
    assert not any(line.startswith("frames of the") for line in lines)
    config = VideoMAEV2Config.from_pretrained(tmp_path)
    assert (config.decoder_embed_bias, config.target_pixels) == (False, "unit")


def test_a_resumed_run_equals_a_whole_one(images, pretrained, tmp_path, train_here):
    shutil.copytree(pretrained / "checkpoint-4", tmp_path / "checkpoint-4")
    data = ["--train_data", images / "train", "--probe_train_data", images / "train"]
    data += ["--probe_eval_data", images / "val", "--eval_strategy", "epoch", "--save_strategy", "epoch"]
    output = succeeded(train_here(*MAE, *data, "--output_dir", tmp_path, "--resume_from_checkpoint", "last"))
    assert "resuming from" in output and len(losses(output)) == 4
    whole, resumed = (load_file(place / "model.safetensors") for place in (pretrained, tmp_path))
    assert all(values.equal(resumed[name]) for name, values in whole.items())


def test_finetuning(finetuned):
    config, scores = VideoMAEV2Config.from_pretrained(finetuned), results(finetuned)
    assert (config.use_mean_pooling, config.id2label) == (True, {0: "cat", 1: "dog"})
    assert scores["eval_videos"] == 8 and scores["eval_unreadable"] == 0


def test_vit_classifies_its_class_token(images, tmp_path, train_here):
    data = ["--train_data", images / "train", "--output_dir"]
    vit = ["finetune", "--model_kind", "vit", *TINY, *SHORT, *BATCH, "--max_steps", "1"]
    succeeded(train_here(*vit, *data, tmp_path / "vit"))
    again = ["finetune", "--checkpoint", tmp_path / "vit", *SHORT, *BATCH, "--max_steps", "1"]
    assert "2 of 2 rows gathered" in succeeded(train_here(*again, *data, tmp_path / "again"))
    for name in ("vit", "again"):
        config = VideoMAEV2Config.from_pretrained(tmp_path / name)
        assert (config.use_mean_pooling, config.position_embedding_type) == (False, "learned")


def test_evaluation_has_one_view(images, finetuned, tmp_path, train_here):
    data = ["--eval_data", images / "val", "--output_dir", tmp_path]
    output = succeeded(train_here("evaluate", "--checkpoint", finetuned, *data))
    assert "8 videos, 1 clip x 1 crop each, 1 process" in output.splitlines()
    first = results(tmp_path, "metrics.json")
    assert first["eval_loss"] == pytest.approx(results(finetuned)["eval_loss"], abs=1e-3)
    output = succeeded(train_here("evaluate", "--checkpoint", finetuned, *data, "--num_crops", "3"))
    assert "1 clip x 3 crops each" in output


@pytest.mark.parametrize("kind", ["linear", "knn", "mae"])
def test_probes(images, pretrained, tmp_path, train_here, kind):
    data = ["--train_data", images / "train", "--eval_data", images / "val", "--output_dir", tmp_path]
    protocol = ["--probe_optimizer", "adamw", "--base_learning_rate", "3", "--num_train_epochs", "30"]
    protocol += ["--total_batch_size", "16", "--per_device_train_batch_size", "8", "--warmup_epochs", "3"]
    options = protocol if kind == "mae" else []
    output = succeeded(train_here("probe", "--checkpoint", pretrained, *data, "--probe", kind, *options))
    scores = results(tmp_path, "metrics.json")
    assert scores["probe"] == kind and scores["eval_top1"] >= 0.75
    if kind == "mae":
        said = "optimizer adamw, learning_rate 0.1875, num_train_epochs 30, total_batch_size 16, features class token"
        assert said in output.splitlines() and not (tmp_path / "mae_probe.pt").exists()


def test_predict_and_extract(images, pretrained, finetuned, tmp_path, capsys):
    for command in (
        ["predict", finetuned, images / "val", "--csv", tmp_path / "a.csv"],
        ["extract", pretrained, images / "val", tmp_path / "features"],
    ):
        with pytest.raises(SystemExit) as end:
            main([str(part) for part in command])
        assert end.value.code == 0
    assert len(capsys.readouterr().out.strip().splitlines()) == 8
    assert len((tmp_path / "a.csv").read_text().strip().splitlines()) == 9
    assert len(list((tmp_path / "features").rglob("*.safetensors"))) >= 1


def test_scan_and_split(images, tmp_path, capsys):
    shutil.copytree(images / "train", tmp_path / "set")
    (tmp_path / "set" / "cat" / "0.jpg").write_bytes((images / "train" / "cat" / "0.jpg").read_bytes()[:200])
    names = ["--report", tmp_path / "report.csv", "--fix_list", tmp_path / "good.csv", "--workers", "1"]
    with pytest.raises(SystemExit) as end:
        main([str(part) for part in ["scan", tmp_path / "set", "--images", *names]])
    assert end.value.code == 1 and "15 of 16 videos in" in capsys.readouterr().out
    main([str(part) for part in ["split", tmp_path / "good.csv", tmp_path / "splits"]])
    main([str(part) for part in ["split", images / "train", tmp_path / "others", "--images"]])
    assert len((tmp_path / "others" / "val.csv").read_text().splitlines()) in (3, 4, 5)
    with pytest.raises(ValueError, match="holds 16 images and no video"):
        from videomae_hf.commands.split import main as split

        split([str(images / "train"), str(tmp_path / "more")])


def test_plan(capsys):
    options = ["--model_kind", "mae", "--model_size", "large", "--num_videos", "1000", "--fit", "1x24GB"]
    main(["plan", "pretrain", *options])
    assert "329,210,624 parameters" in capsys.readouterr().out


def test_push(finetuned, tmp_path, capsys):
    main(["push", str(finetuned), "user/cats", "--dry_run", str(tmp_path / "push")])
    assert "AutoModelForImageClassification" in (tmp_path / "push" / "config.json").read_text()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--model_kind", "mea"], "model_kind='mea' is unknown; choose one of video, mae, vit"),
        (["--model_kind", "mae", "--model_version", "1"], "model_version=1 is of VideoMAE, but model_kind is mae"),
        (["--model_kind", "mae", "--model_size", "small"], "size='small' with kind='mae' is unknown; sizes are base"),
        (["--model_kind", "mae", "--frame_template", "{:05}.jpg"], "frame_template={:05}.jpg is for folders of images"),
        (["--num_frames", "8"], "holds 16 images and no video. A model of videos takes a folder of images"),
    ],
)
def test_refusals(images, tmp_path, train_here, options, message):
    done = train_here("pretrain", "--train_data", images / "train", *options, *TINY, "--output_dir", tmp_path)
    assert done.returncode == 1 and message in done.stderr and "Traceback" not in done.stderr


def test_report(images, finetuned, tmp_path, train_here, capfd):
    """Of an evaluation: clips of one frame have no order to change, but can be noisy or covered."""
    data = ["--eval_data", images / "val", "--output_dir", tmp_path / "evaluation"]
    succeeded(train_here("evaluate", "--checkpoint", finetuned, *data))
    videomae("report", tmp_path / "evaluation")
    page = (tmp_path / "evaluation/report.html").read_text()
    scores = [results(tmp_path / "evaluation", name) for name in ("metrics.json", "report.json")]
    assert scores[0]["eval_top1"] == scores[1]["score"]["value"] and "1 clip x 1 crop" in page
    assert "<img" in page and "a grey square of" in page and "the clips of this model have one frame" in page
    assert "Top-1 accuracy" in capfd.readouterr().out


@pytest.mark.slow
def test_two_processes_learn_what_one_does(images, pretrained, tmp_path):
    data = ["--train_data", images / "train", "--output_dir", tmp_path / "mae"]
    options = [*MAE[:-2], "--per_device_train_batch_size", "2", "--total_batch_size", "4"]
    succeeded(train(*options, *data, launcher=TWO_PROCESSES))
    one, two = (load_file(place / "model.safetensors") for place in (pretrained, tmp_path / "mae"))
    assert all(values.allclose(two[name], atol=1e-5) for name, values in one.items())
    data = ["--train_data", images / "train", "--eval_data", images / "val", "--probe", "mae", "--output_dir"]
    options = ["--total_batch_size", "16", "--num_train_epochs", "3", "--base_learning_rate", "10"]
    for name, launcher in (("one", ()), ("two", TWO_PROCESSES)):
        command = ["probe", "--checkpoint", pretrained, *data, tmp_path / name, *options]
        succeeded(train(*command, "--per_device_train_batch_size", "4", launcher=launcher))
    first, second = (results(tmp_path / name, "metrics.json") for name in ("one", "two"))
    assert first == second
    tables = [(tmp_path / name / "predictions.csv").read_text() for name in ("one", "two")]
    numbers = [[float(number) for number in re.findall(r"\b0\.\d+", table)] for table in tables]
    assert numbers[0] and numbers[0] == pytest.approx(numbers[1], abs=1e-5)

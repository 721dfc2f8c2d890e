"""The preprocessing of a checkpoint goes with its weights, whatever is done with them.

The checkpoint is one of transformers, whose processor has its default of mean and std 0.5, and resizes to 36 pixels.
"""

import csv
import json

import numpy as np
import pytest
import torch
from helpers.runs import run_of
from helpers.shared import TINY, randomize
from transformers import VideoMAEConfig, VideoMAEForVideoClassification
from transformers.models.videomae import image_processing_pil_videomae

from videomae_hf import (
    VideoMAEV2Config,
    VideoMAEV2ForPreTraining,
    VideoMAEV2ForVideoClassification,
    VideoMAEV2ImageProcessor,
    VideoMAEV2VideoProcessor,
    read_frames,
)
from videomae_hf.checkpoints.bundle import build_bundle, read_checkpoint
from videomae_hf.checkpoints.model_card import Publication
from videomae_hf.checkpoints.opening import checkpoint_processor, open_checkpoint
from videomae_hf.commands import convert
from videomae_hf.data.processors import training_processor
from videomae_hf.data.sources.synthetic import write_video
from videomae_hf.models.preprocessing import normalization_of, read_preprocessing
from videomae_hf.settings.groups import DistillationSettings
from videomae_hf.training.distillation import load_teacher


TheirProcessor = image_processing_pil_videomae.VideoMAEImageProcessorPil
HALF, FLAGS = [0.5, 0.5, 0.5], {"do_resize": True, "do_center_crop": True, "do_rescale": True, "do_normalize": True}
CLASSES = {"id2label": {0: "left", 1: "up"}, "label2id": {"left": 0, "up": 1}}
SETTINGS = ["--sampling_rate", "1", "--dataloader_num_workers", "0", "--disable_tqdm", "true"]


@pytest.fixture(scope="module")
def theirs(tmp_path_factory):
    """A folder of transformers: classifier and processor."""
    folder = tmp_path_factory.mktemp("theirs")
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = randomize(VideoMAEForVideoClassification(VideoMAEConfig(**TINY, **CLASSES)), std=0.3)
    model.save_pretrained(folder)
    TheirProcessor(size={"shortest_edge": 36}, crop_size={"height": 32, "width": 32}).save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def frames():
    """uint8 (T, H, W, C), which nothing resizes."""
    return np.random.default_rng(0).integers(0, 256, (4, 36, 48, 3), dtype=np.uint8)


@pytest.fixture(scope="module")
def videos(tmp_path_factory):
    folder = tmp_path_factory.mktemp("videos")
    for number, name in enumerate(("left", "up")):
        (folder / name).mkdir()
        base = np.random.default_rng(number).integers(0, 256, (36, 48, 3), dtype=np.uint8)
        write_video(folder / name / "a.mp4", np.stack([base] * 4))  # still, so that any sampling sees about the same
    return folder


@torch.no_grad()
def by_transformers(folder, frames) -> torch.Tensor:
    """(1, 2) logits of plain transformers classes."""
    inputs = TheirProcessor.from_pretrained(folder)(list(frames), return_tensors="pt")
    return VideoMAEForVideoClassification.from_pretrained(folder).eval()(**inputs).logits


@torch.no_grad()
def by_ours(folder, frames) -> torch.Tensor:
    """(1, 2) logits, of floats and, the same, of the pixels that the model normalises itself."""
    processor = VideoMAEV2ImageProcessor.from_pretrained(folder)
    model = VideoMAEV2ForVideoClassification.from_pretrained(folder).eval()
    pixels = processor(frames, do_rescale=False, do_normalize=False, return_tensors="pt").pixel_values.to(torch.uint8)
    logits = model(**processor(frames, return_tensors="pt")).logits
    torch.testing.assert_close(model(pixels).logits, logits, rtol=0, atol=1e-5)
    return logits


def assert_same(found, expected):
    torch.testing.assert_close(found, expected, rtol=0, atol=2e-5)


def run_convert(*arguments):
    convert.main([str(argument) for argument in arguments])


def test_the_normalisation_matters(theirs, frames):
    pixels = TheirProcessor.from_pretrained(theirs)(list(frames), return_tensors="pt").pixel_values
    other = ((pixels / 2 + 0.5) - torch.tensor([0.485, 0.456, 0.406])[:, None, None]) / 0.225
    model = VideoMAEForVideoClassification.from_pretrained(theirs).eval()
    assert (model(other).logits - model(pixels).logits).abs().max() > 0.1


def test_from_pretrained_of_a_transformers_checkpoint(theirs, frames):
    assert_same(by_ours(theirs, frames), by_transformers(theirs, frames))
    config = VideoMAEV2Config.from_pretrained(theirs)
    assert config.image_mean == config.image_std == (0.5, 0.5, 0.5)
    assert VideoMAEV2Config.from_pretrained(theirs, image_mean=[0.1, 0.2, 0.3]).image_mean == [0.1, 0.2, 0.3]


def test_convert_there_and_back(theirs, frames, tmp_path, capsys):
    expected = by_transformers(theirs, frames)
    run_convert(theirs, tmp_path / "ours")
    assert "pixels are normalised as in" in capsys.readouterr().out
    assert_same(by_ours(tmp_path / "ours", frames), expected)
    saved = json.loads((tmp_path / "ours" / "preprocessor_config.json").read_text())
    assert {name: saved[name] for name in FLAGS} == FLAGS and saved["num_frames"] == 4
    assert saved["image_mean"] == saved["image_std"] == HALF and saved["size"] == {"shortest_edge": 36}
    assert saved["crop_size"] == {"height": 32, "width": 32} and saved["resample"] == 2
    run_convert(tmp_path / "ours", tmp_path / "back", "--to", "transformers")
    assert_same(by_transformers(tmp_path / "back", frames), expected)
    there, back = (
        json.loads((folder / "preprocessor_config.json").read_text()) for folder in (theirs, tmp_path / "back")
    )
    assert {name: there[name] for name in back} | {"image_processor_type": "VideoMAEImageProcessor"} == back


def test_the_official_file_takes_imagenet_pixels(theirs, frames, tmp_path, capsys):
    run_convert(theirs, tmp_path / "a.pth", "--to", "official")
    assert "folded into the patches" in capsys.readouterr().out
    shape = ["--num_attention_heads", "3", "--num_frames", "4", "--image_size", "32"]
    run_convert(tmp_path / "a.pth", tmp_path / "again", *shape, "--layer_norm_eps", "1e-6")
    processor = VideoMAEV2ImageProcessor.from_pretrained(tmp_path / "again", size={"shortest_edge": 36})
    assert tuple(processor.image_mean) == (0.485, 0.456, 0.406)
    model = VideoMAEV2ForVideoClassification.from_pretrained(tmp_path / "again", head_layer_norm_eps=1e-5).eval()
    with torch.no_grad():
        assert_same(model(**processor(frames, return_tensors="pt")).logits, by_transformers(theirs, frames))


def test_through_the_commands(theirs, frames, videos, tmp_path, train_here):
    """Finetuning at rate 0 keeps the outputs, evaluation scores the pixels of transformers, a probe reads them."""
    expected = by_transformers(theirs, frames)
    data = ["--train_data", videos, "--eval_data", videos, *SETTINGS]
    options = ["--learning_rate", "0", "--max_steps", "1", "--per_device_train_batch_size", "2", "--mixup_alpha", "0.8"]
    done = train_here("finetune", "--checkpoint", theirs, *data, *options, "--output_dir", tmp_path / "finetuned")
    assert done.returncode == 0, done.stderr
    assert f"pixels are normalised as in {theirs}: mean 0.5, 0.5, 0.5, std 0.5, 0.5, 0.5" in done.stdout
    assert_same(by_ours(tmp_path / "finetuned", frames), expected)
    saved = json.loads((tmp_path / "finetuned" / "preprocessor_config.json").read_text())
    assert saved["size"] == {"shortest_edge": 36} and saved["sampling_rate"] == 1

    scored = {}
    for name, folder in (("theirs", theirs), ("finetuned", tmp_path / "finetuned")):
        views = ["--num_clips", "1", "--num_crops", "1", "--eval_data", videos, "--output_dir", tmp_path / name / "s"]
        done = train_here("evaluate", "--checkpoint", folder, *views, "--dataloader_num_workers", "0")
        assert done.returncode == 0, done.stderr
        scored[name] = list(csv.DictReader((tmp_path / name / "s" / "predictions.csv").open()))
    assert len(scored["theirs"]) == 2
    for rows in zip(scored["theirs"], scored["finetuned"]):
        probability = by_transformers(theirs, read_frames(rows[0]["path"], range(4)).numpy()).softmax(-1).max().item()
        # With sampling_rate 4, the default of our processor, other frames of the still video are taken.
        assert [float(row["probability"]) for row in rows] == pytest.approx([probability] * 2, abs=0.01)
        assert float(rows[1]["probability"]) == pytest.approx(probability, abs=1e-4)

    probe = ["probe", "--checkpoint", theirs, *data, "--probe", "knn", "--output_dir", tmp_path / "probe"]
    done = train_here(*probe)
    assert done.returncode == 0 and "mean 0.5, 0.5, 0.5" in done.stdout


def test_the_targets_of_pretraining_are_pixels(theirs, tmp_path, capsys):
    """Of floats that were normalised with 0.5 as of uint8; transformers would undo ImageNet's, which an export says."""
    model = VideoMAEV2ForPreTraining.from_pretrained(theirs, norm_pix_loss=False)
    pixels = torch.randint(256, (1, 4, 3, 32, 32), generator=torch.Generator().manual_seed(0)).to(torch.uint8)
    targets = model.reconstruction_targets(pixels)
    torch.testing.assert_close(model.reconstruction_targets((pixels / 255 - 0.5) / 0.5), targets)
    torch.testing.assert_close(targets[0, 0, :3], pixels[0, 0, :, 0, 0] / 255)
    model.save_pretrained(tmp_path / "ours")
    for norm_pix_loss, said in ((False, True), (True, False)):
        destination = tmp_path / f"theirs_{said}"
        run_convert(tmp_path / "ours", destination, "--to", "transformers", "--norm_pix_loss", norm_pix_loss)
        assert ("transformers' targets undo ImageNet's normalisation" in capsys.readouterr().out) == said


def test_options_override_the_checkpoint(theirs, videos, tmp_path, train_here):
    options = ["--train_data", videos, *SETTINGS, "--max_steps", "1", "--per_device_train_batch_size", "2"]
    options += ["--image_mean", "[0.1, 0.2, 0.3]", "--image_std", "[1, 1, 1]", "--output_dir", tmp_path / "run"]
    done = train_here("finetune", "--checkpoint", theirs, *options)
    assert done.returncode == 0, done.stderr
    assert "with mean 0.1, 0.2, 0.3, std 1, 1, 1, but " in done.stdout and "has mean 0.5, 0.5, 0.5" in done.stdout
    saved = json.loads((tmp_path / "run" / "preprocessor_config.json").read_text())
    assert saved["image_mean"] == [0.1, 0.2, 0.3] and saved["image_std"] == [1, 1, 1]
    assert VideoMAEV2Config.from_pretrained(tmp_path / "run").image_mean == (0.1, 0.2, 0.3)


def test_the_bundle_for_the_hub(theirs, frames, tmp_path):
    build_bundle(read_checkpoint(str(theirs)), Publication("me/x"), tmp_path / "bundle")
    assert_same(by_ours(tmp_path / "bundle", frames), by_transformers(theirs, frames))


def test_a_student_sees_the_pixels_of_its_teacher(theirs):
    fields = {**TINY, **CLASSES, "problem_type": "single_label_classification"}
    data = DistillationSettings(teacher=str(theirs))
    with pytest.raises(ValueError, match=r"image_mean=\(0.485, .*\(0.5, 0.5, 0.5\) of the teacher .* --image_mean"):
        load_teacher(data, VideoMAEV2Config(**fields), ["left", "up"])
    half = {"image_mean": HALF, "image_std": HALF}
    teacher, _ = load_teacher(data, VideoMAEV2Config(**fields, **half), ["left", "up"])
    assert teacher.model.config.image_mean == (0.5, 0.5, 0.5)


# ---------------------------------------------------------------------------------------------------- which file, what


def written(folder, filename, **content):
    folder.mkdir(exist_ok=True)
    (folder / filename).write_text(json.dumps(content))
    return folder


NULLS = {"fps": None, "num_frames": None, "do_sample_frames": False, "do_convert_rgb": None, "crop_size": None}


@pytest.mark.parametrize(
    ("filename", "content"),
    [
        ("preprocessor_config.json", {"feature_extractor_type": "VideoMAEFeatureExtractor", "image_mean": HALF}),
        (
            "video_preprocessor_config.json",
            {"video_processor_type": "VideoMAEVideoProcessor", "image_mean": HALF, **NULLS},
        ),
        ("processor_config.json", {"image_processor": {"image_mean": HALF, **NULLS}}),
        (
            "processor_config.json",
            {"video_processor": {"image_mean": HALF}, "image_processor": {"image_mean": [1, 1, 1]}},
        ),
    ],
    ids=str,
)
def test_every_file_of_a_processor_is_read(tmp_path, filename, content):
    """Of other processors the preprocessing alone: their `do_sample_frames=False` takes frames as they are given."""
    written(tmp_path, filename, **content)
    assert read_preprocessing(tmp_path, {}) == {"image_mean": HALF}
    for processor_class in (VideoMAEV2ImageProcessor, VideoMAEV2VideoProcessor):
        processor = processor_class.from_pretrained(tmp_path, num_frames=8)
        assert processor.image_mean == tuple(HALF) or processor.image_mean == HALF
        assert processor.num_frames == 8 and processor.do_sample_frames is None


def test_two_files_that_differ(tmp_path, caplog):
    written(tmp_path, "preprocessor_config.json", image_mean=[0, 0, 0])
    written(tmp_path, "video_preprocessor_config.json", image_mean=HALF)
    assert read_preprocessing(tmp_path, {})["image_mean"] == HALF
    assert "normalise differently; the first is used" in caplog.text


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[]", "holds a list instead of a mapping"),
        ("{", "is not valid JSON"),
        ('{"image_std": [0.5, 0, 0.5]}', r"image_std=\[0.5, 0, 0.5\], with which pixels cannot be normalised"),
        ('{"image_mean": "x"}', "image_mean='x'"),
        ('{"image_mean": [NaN, 1, 1]}', "image_mean="),
        ('{"rescale_factor": 0}', "rescale_factor=0"),
        ("version https://git-lfs.github.com/spec/v1", "pointer of Git LFS"),
    ],
)
def test_damaged_files_are_named(tmp_path, text, message):
    (tmp_path / "preprocessor_config.json").write_text(text)
    with pytest.raises(ValueError, match=message) as caught:
        VideoMAEV2ImageProcessor.from_pretrained(tmp_path)
    assert "preprocessor_config.json" in str(caught.value) and "\n" not in str(caught.value)


def test_a_folder_without_a_processor(tmp_path):
    with pytest.raises(OSError, match="has no preprocessor_config.json"):
        VideoMAEV2ImageProcessor.from_pretrained(tmp_path)
    VideoMAEV2ForVideoClassification(VideoMAEV2Config(**TINY, image_mean=[0.1] * 3)).save_pretrained(tmp_path)
    model, lines = open_checkpoint(tmp_path)
    processor = checkpoint_processor(tmp_path, model.config)
    assert list(processor.image_mean) == [0.1] * 3 and processor.crop_size.height == 32 and processor.num_frames == 4
    assert lines == [f"pixels are normalised as in {tmp_path}: mean 0.1, 0.1, 0.1, std 0.229, 0.224, 0.225"]


@pytest.mark.parametrize(
    ("options", "mean", "std"),
    [
        ({}, 0.5, 0.5),
        ({"image_mean": [0.25] * 3, "image_std": 0.5}, 0.25, 0.5),
        ({"do_normalize": False}, 0.0, 1.0),
        ({"do_rescale": False, "image_mean": [127.5], "image_std": [51.0]}, 0.5, 0.2),
        ({"rescale_factor": 2 / 255, "image_mean": [1.0] * 3, "image_std": [1.0] * 3}, 0.5, 0.5),
        ({"do_rescale": False, "do_normalize": False}, 0.0, 1 / 255),
    ],
    ids=str,
)
def test_normalisation_by_hand(options, mean, std):
    """(p / 255 - mean) / std is what the processor makes of a pixel p."""
    assert normalization_of(options, 3) == ((mean,) * 3, (std,) * 3)
    processor = VideoMAEV2ImageProcessor(**options, do_resize=False, do_center_crop=False)
    pixel = torch.full((1, 3, 2, 2), 51, dtype=torch.uint8)
    made = processor(pixel, return_tensors="pt").pixel_values
    torch.testing.assert_close(made, torch.full_like(made, (51 / 255 - mean) / std), rtol=1e-6, atol=1e-6)


def test_a_processor_of_our_own_that_disagrees_with_the_configuration(tmp_path):
    """The weights have seen what the processor made: the configuration follows where the checkpoint is used."""
    model = randomize(VideoMAEV2ForVideoClassification(VideoMAEV2Config(**TINY)))
    model.save_pretrained(tmp_path)
    VideoMAEV2ImageProcessor(num_frames=4, crop_size={"height": 32, "width": 32}).save_pretrained(tmp_path)
    opened, lines = open_checkpoint(tmp_path)
    assert opened.config.image_mean == (0.5, 0.5, 0.5) and "as in" in lines[0]
    assert VideoMAEV2Config.from_pretrained(tmp_path).image_mean == (0.485, 0.456, 0.406)  # what it says itself


def test_other_clips_are_cropped_to_their_size(theirs):
    """Where frames of another size are asked for, the size of the checkpoint's processor means nothing."""
    run = run_of(checkpoint=str(theirs), sampling_rate=2)
    model, _ = open_checkpoint(theirs, VideoMAEV2ForPreTraining, image_size=48, num_frames=8)
    processor = training_processor(run, model.config)
    assert (processor.size.shortest_edge, processor.crop_size.height, processor.num_frames) == (48, 48, 8)
    assert list(processor.image_mean) == HALF and processor.sampling_rate == 2

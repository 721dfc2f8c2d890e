"""`videomae videobert`: from videos with captions to models, by the real command."""

import json

import numpy as np
import pytest
import torch
from helpers.commands import videomae
from helpers.launching import TORCHRUN, succeeded
from helpers.launching import run as launched
from helpers.tiny_models import build
from PIL import Image
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from videomae_hf import (
    VideoBertForCaptioning,
    VideoBertForPreTraining,
    VideoBertForRetrieval,
    VideoBertForVideoClassification,
    VideoBertProcessor,
    VideoMAEV2ImageProcessor,
    VideoMAEV2Model,
)
from videomae_hf.data.sources.synthetic import write_video


COLORS = {"red": (220, 30, 30), "blue": (30, 30, 220)}
SMALL = [
    *("--hidden_size", 16, "--num_hidden_layers", 1, "--num_attention_heads", 2, "--intermediate_size", 32),
    *("--hidden_dropout_prob", 0, "--attention_probs_dropout_prob", 0, "--num_negatives", 1, "--sampling_rate", 1),
    *("--use_cpu", "true", "--disable_tqdm", "true", "--report_to", "none", "--logging_steps", 1),
    *("--per_device_train_batch_size", 2, "--learning_rate", "1e-2", "--save_strategy", "no"),
]


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """Eight videos of one colour and 4 to 8 frames, in class folders, their captions, and a backbone of 4 frames."""
    place = tmp_path_factory.mktemp("videobert")
    lines = ["video,caption"]
    for number in range(8):
        name = list(COLORS)[number % 2]
        (place / "videos" / name).mkdir(parents=True, exist_ok=True)
        path = place / "videos" / name / f"{number}.mp4"
        write_video(path, np.full((4 + 4 * (number % 2), 32, 32, 3), COLORS[name], np.uint8))
        lines.append(f"{path.relative_to(place)},a {name} video of {'one' if number < 4 else 'two'}")
    (place / "captions.csv").write_text("\n".join(lines) + "\n")
    backbone = build(VideoMAEV2Model, num_frames=4, image_size=32)
    backbone.save_pretrained(place / "backbone")
    VideoMAEV2ImageProcessor(num_frames=4, crop_size=32, size={"shortest_edge": 32}).save_pretrained(place / "backbone")
    return place


def run(place, output, *options):
    data = ["--train_data", place / "captions.csv"] if "--train_data" not in options else []
    videomae("videobert", *data, *SMALL, "--output_dir", place / output, *options)
    lines = json.loads((place / output / "trainer_state.json").read_text())["log_history"]
    return [line for line in lines if "loss" in line]


@pytest.fixture(scope="module")
def pretrained(place):
    options = ["--backbone", place / "backbone", "--num_train_epochs", 4, "--eval_data", place / "captions.csv"]
    return run(place, "pretrained", *options)


def test_pretraining(place, pretrained):
    """Each objective is in the log, and what is saved loads and takes videos."""
    assert len(pretrained) == 16 and pretrained[-1]["loss"] < pretrained[0]["loss"]
    for line in pretrained:
        parts = line["mlm_loss"] + line["video_loss"] + line["match_loss"]
        assert line["loss"] == pytest.approx(parts, abs=2e-3)
    results = json.loads((place / "pretrained" / "all_results.json").read_text())
    assert {"eval_loss", "eval_mlm_loss", "eval_video_loss", "eval_match_loss"} <= set(results)
    assert len(list((place / "pretrained" / "features").glob("*.npz"))) == 1  # both data are the same
    model = VideoBertForPreTraining.from_pretrained(place / "pretrained").eval()
    assert model.new_parts == () and not bool((model.video_bert.video_embeddings.feature_std == 1).all())
    processor = VideoBertProcessor.from_pretrained(place / "pretrained")
    assert {"red", "blue", "[>]"} <= set(processor.tokenizer.get_vocab())
    inputs = processor(["a red video"], [str(place / "videos" / "blue" / "1.mp4")])
    assert inputs["pixel_values"].shape == (1, 2, 4, 3, 32, 32)
    assert model(**inputs).logits.isfinite().all()


@pytest.mark.parametrize(
    ("task", "model_class"), [("retrieval", VideoBertForRetrieval), ("captioning", VideoBertForCaptioning)]
)
def test_finetuning(place, pretrained, task, model_class):
    options = ["--task", task, "--checkpoint", place / "pretrained", "--num_train_epochs", 3]
    options += ["--eval_data", place / "captions.csv"]
    lines = run(place, task, *options, "--feature_cache_dir", place / "pretrained" / "features")
    assert np.mean([line["loss"] for line in lines[-4:]]) < np.mean([line["loss"] for line in lines[:4]])
    assert len(list((place / "pretrained" / "features").glob("*.npz"))) == 1  # those of the pretraining are used
    model_class.from_pretrained(place / task)
    scores = json.loads((place / task / "all_results.json").read_text())
    assert scores["eval_scored_videos"] == 8
    assert [file.name for file in (place / task / "examples").iterdir()] == ["step_00000012.png"]
    if task == "captioning":
        assert 0 <= scores["eval_exact_match"] <= 1
    else:  # four texts, of which one describes each video
        assert 1 <= scores["eval_video_to_text_median_rank"] <= 4 and scores["eval_video_to_text_recall@5"] == 1


@pytest.mark.slow
@pytest.mark.parametrize("task", ["classification", "retrieval", "captioning"])
def test_two_processes_finetune(place, pretrained, task):
    """Every parameter has a gradient, which processes exchange."""
    data = place / ("videos" if task == "classification" else "captions.csv")
    options = ["--task", task, "--checkpoint", place / "pretrained", "--max_steps", 3, "--train_data", data]
    succeeded(launched("videobert", *options, *SMALL, "--output_dir", place / f"two_{task}", launcher=TORCHRUN))


def test_unreadable_videos_are_counted_in_classification(place, pretrained, tmp_path):
    for name in COLORS:
        (tmp_path / "videos" / name).mkdir(parents=True)
        (tmp_path / "videos" / name / "broken.mp4").write_bytes(b"no video")
        source = sorted((place / "videos" / name).glob("*.mp4"))[0]
        (tmp_path / "videos" / name / "0.mp4").write_bytes(source.read_bytes())
    options = ["--task", "classification", "--checkpoint", place / "pretrained", "--max_steps", 1]
    options += ["--train_data", place / "videos", "--eval_data", tmp_path / "videos", "--max_bad_fraction", 0.5]
    run(place, "counted", *options)
    scores = json.loads((place / "counted" / "all_results.json").read_text())
    assert (scores["eval_videos"], scores["eval_unreadable"]) == (2, 2)


def test_a_damaged_cache_is_computed_anew(place, pretrained, caplog):
    cache = place / "damaged"
    options = ["--backbone", place / "backbone", "--max_steps", 1, "--feature_cache_dir", cache]
    run(place, "first", *options)
    (file,) = cache.glob("*.npz")
    whole = file.read_bytes()
    file.write_bytes(whole[: len(whole) // 2])
    run(place, "second", *options)
    assert "is damaged, and is computed anew" in caplog.text and file.read_bytes()[:4] == whole[:4]


def test_classification(place, pretrained):
    folder = place / "videos"
    options = ["--task", "classification", "--checkpoint", place / "pretrained", "--num_train_epochs", 6]
    run(place, "classes", *options, "--train_data", folder, "--eval_data", folder)
    model = VideoBertForVideoClassification.from_pretrained(place / "classes")
    assert model.config.id2label == {0: "blue", 1: "red"}
    assert json.loads((place / "classes" / "all_results.json").read_text())["eval_top1"] == 1.0


def test_joint_training_moves_the_backbone(place):
    before = VideoMAEV2Model.from_pretrained(place / "backbone").state_dict()
    options = ["--backbone", place / "backbone", "--freeze_backbone", "false", "--video_weight", 0, "--max_steps", 2]
    run(place, "joint", *options)
    after = VideoBertForPreTraining.from_pretrained(place / "joint").video_bert.backbone.state_dict()
    assert any(not torch.equal(before[name], value) for name, value in after.items())
    assert not (place / "joint" / "features").exists()


def test_extracted_features_are_those_of_the_backbone(place, pretrained):
    """Training on a folder of features equals training with the backbone that made them; other visual words are not
    taken."""

    def extract(folder: str, rate: int) -> None:
        options = ["--window", "4f", "--stride", "4f", "--device", "cpu", "--sampling_rate", rate]
        with pytest.raises(SystemExit, match="^0$"):
            videomae("extract", place / "backbone", place / "videos", place / folder, *options)

    extract("stored", 1)
    lines = run(place, "of_stored", "--features", place / "stored", "--num_train_epochs", 4)
    for line, expected in zip(lines, pretrained, strict=True):
        assert line["loss"] == pytest.approx(expected["loss"], abs=2e-3)
    with pytest.raises(ValueError, match="leave one of them out"):
        run(place, "refused", "--features", place / "stored", "--freeze_backbone", "false")
    with pytest.raises(ValueError, match="checkpoint has a backbone of its own"):
        run(place, "refused", "--checkpoint", place / "pretrained", "--features", place / "stored")
    model = VideoBertForPreTraining.from_pretrained(place / "of_stored")
    assert model.video_bert.backbone is None and model.config.feature_size == 24
    options = ["--branching", 2, "--depth", 1]
    videomae("visual-words", place / "stored", place / "words", *options)
    words = ["--visual_words_from", place / "words", "--video_loss", "words", "--features"]
    assert run(place, "of_words", *words, place / "stored", "--max_steps", 2)[-1]["video_loss"] > 0
    extract("others", 2)
    with pytest.raises(ValueError, match="sampling_rate=1.0, but the features are of 2.0; leave it out"):
        run(place, "refused", "--features", place / "others")
    header = json.loads((place / "stored" / "features.json").read_text())
    (place / "wide").mkdir()
    for name in ("manifest.jsonl", "features.json"):
        (place / "wide" / name).write_bytes((place / "stored" / name).read_bytes())
    (place / "wide" / "features.json").write_text(json.dumps({**header, "shape": [32]}))
    with pytest.raises(ValueError, match="wide has features of 32 values, but the checkpoint takes feature_size=24"):
        run(place, "refused", "--checkpoint", place / "of_stored", "--features", place / "wide")
    with pytest.raises(ValueError, match="visual words of .*words were made of other features than those of .*others"):
        run(place, "refused", *words, place / "others", "--sampling_rate", 2)


CONTRASTED = [
    *("--video_loss", "nce", "--regimes", 1, 1, 2),
    # of a trained backbone, in whose features for other batches nothing is dropped
    *("--freeze_backbone", "false"),
]


@pytest.mark.parametrize("more", [[], CONTRASTED[:6], CONTRASTED], ids=["mse", "nce", "nce, joint"])
def test_accumulation_changes_nothing(place, more):
    """The losses of a step are means over all of its terms, and compare with all of its rows: 4 at once, or 2 and 2."""
    options = ["--backbone", place / "backbone", "--max_steps", 4, "--feature_cache_dir", place / "cache", *more]
    whole = run(place, "whole", *options, "--per_device_train_batch_size", 4)
    parts = run(place, "parts", *options, "--per_device_train_batch_size", 2, "--gradient_accumulation_steps", 2)
    for one, other in zip(whole, parts, strict=True):
        for name in ("loss", "mlm_loss", "video_loss", "match_loss", "grad_norm"):
            assert one[name] == pytest.approx(other[name], rel=3e-4, abs=3e-4)


@pytest.mark.slow
@pytest.mark.parametrize("more", [["--regimes", 1, 1, 2], CONTRASTED[:6], CONTRASTED], ids=["mse", "nce", "nce, joint"])
def test_two_processes_are_one(place, more):
    options = ["--backbone", place / "backbone", "--max_steps", 4, "--feature_cache_dir", place / "cache", *more]
    one = run(place, "one", *options, "--per_device_train_batch_size", 4)
    data = ["--train_data", place / "captions.csv", *SMALL, "--output_dir", place / "two"]
    succeeded(launched("videobert", *data, *options, launcher=TORCHRUN))
    two = json.loads((place / "two" / "trainer_state.json").read_text())["log_history"]
    for line, other in zip(one, two):
        for name in ("mlm_loss", "video_loss", "match_loss", "grad_norm"):
            assert line[name] == pytest.approx(other[name], rel=3e-4, abs=3e-4)


def test_resumed_run_is_the_same(place):
    options = ["--backbone", place / "backbone", "--max_steps", 6, "--feature_cache_dir", place / "cache"]
    options += ["--hidden_dropout_prob", 0.1, "--join_probability", 0.5, "--max_subsampling", 2, "--regimes", 1, 1, 2]
    run(place, "through", *options)
    run(place, "resumed", *options, "--save_strategy", "steps", "--save_steps", 3)
    run(place, "resumed", *options, "--resume_from_checkpoint", place / "resumed" / "checkpoint-3")
    one, other = (VideoBertForPreTraining.from_pretrained(place / name).state_dict() for name in ("through", "resumed"))
    assert all(torch.equal(value, other[name]) for name, value in one.items())


@pytest.mark.parametrize("joint", [False, True])
def test_pictures_of_examples_change_nothing(place, tmp_path, joint):
    """They are made at evaluations, saves and the end, of a frozen and of a trained backbone, which sees pixels."""
    options = ["--backbone", place / "backbone", "--max_steps", 5, "--feature_cache_dir", place / "cache"]
    options += ["--hidden_dropout_prob", 0.1, "--freeze_backbone", "false" if joint else "true"]
    without = run(place, tmp_path / "without", *options, "--example_videos", 0)
    assert not (tmp_path / "without" / "examples").exists()
    broken = tmp_path / "broken.csv"
    (tmp_path / "broken.mp4").write_bytes(b"no video")
    lines = (place / "captions.csv").read_text().replace("videos/", f"{place}/videos/").splitlines()
    broken.write_text("\n".join([lines[0], "broken.mp4,a broken video", *lines[1:]]) + "\n")
    options += ["--eval_data", broken, "--eval_strategy", "steps", "--eval_steps", 2, "--report_to", "tensorboard"]
    options += ["--save_strategy", "steps", "--save_steps", 3, "--max_bad_fraction", 0.5]
    drawn = run(place, tmp_path / "with", *options)
    for one, other in zip(without, drawn, strict=True):
        assert (one["loss"], one["grad_norm"]) == (other["loss"], other["grad_norm"])
    files = sorted((tmp_path / "with" / "examples").iterdir())
    assert [file.name for file in files] == [f"step_{step:08d}.png" for step in (2, 3, 4, 5)]
    (folder,) = {file.parent for file in (tmp_path / "with" / "runs").rglob("events.*")}
    events = EventAccumulator(str(folder), size_guidance={"images": 0}).Reload()
    with Image.open(files[0]) as picture:
        sent = [(event.step, event.width, event.height) for event in events.Images("examples")]
        assert sent[0] == (2, *picture.size) and [step for step, _, _ in sent] == [2, 3, 4, 5]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ([], "no model for the features of the videos; set --backbone"),
        (["--task", "captions"], "task='captions' is unknown"),
        (["--example_videos", 17], "example_videos=17 must be between 0 and 16"),
        (["--lora_rank", 4], "lora_rank=4 is not available for videobert"),
        (["--layer_decay", 0.75], "layer_decay=0.75 is not available for videobert"),
        (["--text_checkpoint", "bert", "--tokenizer", "other"], "text_checkpoint brings its own tokenizer"),
        (["--task", "classification", "--problem_type", "regression"], "problem_type=regression is not available"),
        (["--mlm_weight", 0, "--video_weight", 0, "--match_weight", 0, "--backbone", "backbone"], "leaves no loss"),
        (["--checkpoint", "pretrained", "--segment_stride", 2], "segment_stride=2.0, but the checkpoint has None"),
        (["--checkpoint", "pretrained", "--backbone", "backbone"], "checkpoint has a backbone of its own"),
        (["--features", "videos", "--backbone", "backbone"], "features are those that backbone would compute"),
        (["--features", "videos"], "videos is no folder of features"),
        (
            ["--max_segments", 500, "--max_length", 13, "--backbone", "backbone"],
            "more than max_position_embeddings=512",
        ),
        (["--task", "retrieval", "--train_data", "videos"], "needs videos with captions, and .*videos has none"),
    ],
)
def test_refused(place, pretrained, options, message):
    options = [place / one if one in ("videos", "pretrained", "backbone") else one for one in options]
    with pytest.raises((ValueError, FileNotFoundError), match=message):
        run(place, "refused", *options)

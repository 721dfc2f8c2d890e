"""MTEB's few-shot protocol: its choice of videos and frames, the regression against scikit-learn, and the command."""

import builtins
import csv
import json

import numpy as np
import pytest
import torch
from helpers.commands import videomae
from helpers.runs import parsed
from helpers.shared import TINY
from helpers.tiny_models import build

from videomae_hf import VideoMAEV2Config, VideoMAEV2ForPreTraining, VideoMAEV2ForVideoClassification, VideoMAEV2Model
from videomae_hf.commands.probe import check_settings, mean_and_deviation
from videomae_hf.data.clips import EvalTransform
from videomae_hf.data.sources.records import VideoRecord
from videomae_hf.data.sources.synthetic import synthesise_video, write_video
from videomae_hf.evaluation.few_shot import (
    MTEBProcessor,
    embeddings,
    few_shot_logits,
    head_norm_of,
    mteb_clip,
    sample_experiments,
)
from videomae_hf.models.image_processing_videomae_v2 import clip_options, normalization_options


@pytest.mark.parametrize(
    ("num_video_frames", "expected"),
    [
        (16, [0, 5, 10, 15]),
        (19, [0, 6, 12, 18]),
        (7, [0, 2, 4, 6]),
        (6, [0, 2, 3, 5]),  # 1.67 and 3.33 are rounded
        (4, [0, 1, 2, 3]),
        (3, [0, 0, 1, 2]),  # each frame is repeated in place
        (1, [0, 0, 0, 0]),
    ],
)
def test_frames(num_video_frames, expected):
    assert mteb_clip(num_video_frames, 4) == expected


def test_videos_of_each_class_in_the_order_of_numpys_shuffles():
    """Worked out with numpy alone: each experiment shuffles the order that the one before it has left."""
    labels = [0, 1, 2, 0, 1, 2, 0, 1, 0, 0]
    first, second = sample_experiments(labels, samples_per_label=2, n_experiments=2)
    order = list(range(10))
    np.random.RandomState(42).shuffle(order)
    assert order == [8, 1, 5, 0, 7, 2, 9, 4, 3, 6]
    assert first == [8, 1, 5, 0, 7, 2]  # classes 0 1 2 0 1 2
    np.random.RandomState(42).shuffle(order)
    assert order == [3, 1, 2, 8, 4, 5, 6, 7, 0, 9] and second == [3, 1, 2, 8, 4, 5]
    assert sample_experiments(labels, 2, 1, seed=1) != [first]
    everything = sample_experiments(labels, 8, 1)[0]  # a class of two videos gives two
    assert sorted(everything) == list(range(10))
    with pytest.raises(ValueError, match="samples_per_label=0 and n_experiments=10 must be at least 1"):
        sample_experiments(labels, 0)


def clusters(generator, number: int, classes: int) -> tuple[np.ndarray, np.ndarray]:
    labels = torch.arange(number) % classes
    features = torch.eye(16)[labels] * 2 + torch.randn(number, 16, generator=generator)
    return features.numpy(), labels.numpy()


@pytest.mark.parametrize("classes", [2, 5])
def test_experiments_are_those_of_scikit_learn(generator, classes):
    """The loop of the protocol, written down with scikit-learn alone, makes the same predictions and scores."""
    linear_model = pytest.importorskip("sklearn.linear_model")
    features, labels = clusters(generator, 100, classes)
    found, truth = clusters(generator, 40, classes)
    order, scores = list(range(100)), []
    for places in sample_experiments(labels, 4, 3):
        np.random.RandomState(42).shuffle(order)
        chosen = [place for label in range(classes) for place in [p for p in order if labels[p] == label][:4]]
        assert sorted(chosen) == sorted(places) and len(places) == 4 * classes
        reference = linear_model.LogisticRegression(max_iter=100, random_state=42).fit(features[places], labels[places])
        logits, converged = few_shot_logits(features[places], labels[places], found, classes)
        assert converged and logits.shape == (40, classes)
        np.testing.assert_array_equal(logits.argmax(axis=1), reference.predict(found))
        probabilities = torch.from_numpy(logits).softmax(dim=1).numpy()
        np.testing.assert_allclose(probabilities, reference.predict_proba(found), atol=1e-5)
        scores.append({"top1": float((logits.argmax(axis=1) == truth).mean())})
    values = [score["top1"] for score in scores]
    expected = {"eval_top1": np.mean(values), "eval_top1_std": np.std(values)}
    assert mean_and_deviation(scores) == pytest.approx(expected)


def test_classes_without_a_video_and_a_solver_that_stops(generator):
    pytest.importorskip("sklearn")
    features, labels = clusters(generator, 12, 3)
    labels[labels == 1] = 3
    logits, _ = few_shot_logits(features, labels, features, 5)
    assert np.isneginf(logits[:, [1, 4]]).all() and np.isfinite(logits[:, [0, 2, 3]]).all()
    _, converged = few_shot_logits(features * np.logspace(0, 6, 16), labels, features, 5)
    assert not converged
    with pytest.raises(ValueError, match="at least two classes"):
        few_shot_logits(features, np.ones(12, dtype=int), features, 5)


def test_mean_and_deviation():
    repetitions = [{"videos": 4, "unreadable": 1, "top1": 0.5}, {"videos": 4, "unreadable": 1, "top1": 1.0}]
    assert mean_and_deviation(repetitions) == {
        "eval_videos": 4, "eval_unreadable": 1, "eval_top1": 0.75, "eval_top1_std": 0.25,
    }  # fmt: skip
    assert mean_and_deviation(repetitions[:1]) == {"eval_videos": 4, "eval_unreadable": 1, "eval_top1": 0.5}


def test_embeddings_are_those_of_the_classifier():
    """The norm of a trained head follows the mean of the tokens; an encoder, or a new head, has none."""
    model = build(VideoMAEV2ForVideoClassification, num_labels=3)
    features = np.random.default_rng(0).normal(size=(5, TINY["hidden_size"])).astype(np.float32)
    norm = head_norm_of(model)
    with torch.no_grad():
        expected = model.fc_norm(torch.from_numpy(features)).numpy()
    np.testing.assert_allclose(embeddings(features, norm), expected)
    assert head_norm_of(build(VideoMAEV2Model)) is None
    assert head_norm_of(VideoMAEV2ForVideoClassification(VideoMAEV2Config(**TINY))) is None
    np.testing.assert_array_equal(embeddings(features, None), features)


def test_the_processor_samples_and_names_its_frames(tmp_path):
    config = VideoMAEV2Config(**TINY)
    frames = np.stack([np.full((32, 32, 3), 10 * number, dtype=np.uint8) for number in range(19)])
    write_video(tmp_path / "video.mp4", frames)
    processor = MTEBProcessor(**clip_options(config), **normalization_options(config))
    # So that cached features are not those of other clips
    assert processor.to_dict()["frame_sampling"] == "mteb_linspace"
    plain = MTEBProcessor.from_dict({**processor.to_dict(), "do_normalize": False, "do_rescale": False})
    clip = EvalTransform(plain)(VideoRecord(str(tmp_path / "video.mp4"), 0), torch.Generator())["pixel_values"]
    assert (clip.float().mean(dim=(1, 2, 3)) / 10).round().tolist() == [0, 6, 12, 18]


def test_the_command(tmp_path, capsys):
    """Few videos of one class, of which one cannot be read, on a pretrained and on a finetuned checkpoint."""
    pytest.importorskip("sklearn")
    rows = {"train": [], "val": []}
    for split, label, number in (("train", "left", 4), ("train", "up", 2), ("val", "left", 2), ("val", "up", 2)):
        for index in range(number):
            path = tmp_path / f"{split}_{label}_{index}.mp4"
            write_video(path, synthesise_video(label, np.random.default_rng(index + 10 * number), 32, 8))
            rows[split].append(f"{path} {label}")
    (tmp_path / "bad.mp4").write_bytes(b"no video")
    for split in rows:
        (tmp_path / f"{split}.csv").write_text("\n".join([f"{tmp_path / 'bad.mp4'} up", *rows[split]]))
    build(VideoMAEV2ForPreTraining).save_pretrained(tmp_path / "pretrained")
    build(VideoMAEV2ForVideoClassification, num_labels=7).save_pretrained(tmp_path / "finetuned")
    for stage in ("pretrained", "finetuned"):
        out = tmp_path / f"scores_{stage}"
        videomae(
            *f"probe --checkpoint {tmp_path / stage} --train_data {tmp_path / 'train.csv'} --eval_data "
            f"{tmp_path / 'val.csv'} --probe few-shot --samples_per_label 4 --n_experiments 3 --use_cpu true "
            f"--output_dir {out}".split()
        )
        metrics = json.loads((out / "metrics.json").read_text())
        assert (metrics["probe"], metrics["samples_per_label"], metrics["n_experiments"]) == ("few-shot", 4, 3)
        assert (metrics["train_videos"], metrics["train_unreadable"]) == (6, 1)
        assert (metrics["eval_videos"], metrics["eval_unreadable"]) == (4, 1)
        top1 = [experiment["top1"] for experiment in metrics["experiments"]]
        assert metrics["eval_top1"] == pytest.approx(np.mean(top1)) and len(top1) == 3
        assert metrics["eval_top1_std"] == pytest.approx(np.std(top1))
        predictions = list(csv.DictReader((out / "predictions.csv").open()))
        right = sum(row["label"] == row["predicted"] for row in predictions)
        assert predictions[0]["predicted"] == "unreadable" and right / 4 == top1[0]  # of the first experiment
    assert "1 class with fewer than 4 training videos: up 3" in capsys.readouterr().out


def test_without_scikit_learn_the_command_says_so(monkeypatch):
    real = builtins.__import__

    def without(name, *rest, **more):
        if name.split(".")[0] == "sklearn":
            raise ImportError(name)
        return real(name, *rest, **more)

    monkeypatch.setattr(builtins, "__import__", without)
    run = parsed("probe", "--checkpoint", "output/pretrain", "--probe", "few-shot", "--use_cpu", "true")
    with pytest.raises(ValueError, match="probe=few-shot needs scikit-learn: pip install scikit-learn"):
        check_settings(run)

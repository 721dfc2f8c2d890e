"""Probes of frozen features, against scikit-learn and closed forms, and the cache of features."""

import csv
import json
import os

import numpy as np
import pytest
import torch
from helpers.commands import videomae
from helpers.shared import TINY
from helpers.tiny_models import build

from videomae_hf import (
    VideoMAEV2Config,
    VideoMAEV2ForPreTraining,
    VideoMAEV2ForVideoClassification,
    VideoMAEV2Model,
)
from videomae_hf.data.clips import EvalTransform
from videomae_hf.data.sources.folders_and_lists import VideoRecord
from videomae_hf.data.sources.synthetic import synthesise_video, write_video
from videomae_hf.evaluation import feature_cache as features_module
from videomae_hf.evaluation import probes as probe_module
from videomae_hf.evaluation.feature_cache import FeatureOptions, cached_features
from videomae_hf.evaluation.probes import AttentiveProbe, LinearProbe, ProbeTask, held_out_mask, run_probe
from videomae_hf.models.image_processing_videomae_v2 import (
    VideoMAEV2ImageProcessor,
    clip_options,
    normalization_options,
)


def clusters(generator, number: int, noise: float = 0.8) -> tuple[np.ndarray, torch.Tensor]:
    """Features (number, 8) around the centres of three classes, and the classes."""
    labels = torch.arange(number) % 3
    centres = torch.eye(8)[:3] * 2
    return (centres[labels] + noise * torch.randn(number, 8, generator=generator)).numpy(), labels


def test_the_linear_probe_is_regularised_logistic_regression(generator):
    linear_model = pytest.importorskip("sklearn.linear_model")
    features, labels = clusters(generator, 90)
    found, _ = clusters(generator, 30)
    probe = LinearProbe(features, found, labels, 3, "single_label_classification", "cpu")
    mean, std = features.mean(0), features.std(0)
    for strength in (1e-3, 1e-1):
        reference = linear_model.LogisticRegression(C=1 / (strength * 90), tol=1e-10, max_iter=5000)
        reference.fit((features - mean) / std, labels.numpy())
        expected = reference.predict_proba((found - mean) / std)
        ours = torch.from_numpy(probe.evaluate(strength)).softmax(dim=1).numpy()
        np.testing.assert_allclose(ours, expected, atol=1e-4)


def test_the_linear_probe_of_targets_is_ridge_regression(generator):
    features = torch.randn(60, 4, generator=generator, dtype=torch.float64)
    targets = (features @ torch.tensor([[3.0, -1], [0, 2], [1, 1], [0, 0]], dtype=torch.float64) + 50).float()
    probe = LinearProbe(features.numpy(), features.numpy(), targets, 2, "regression", "cpu")
    x = (features - features.mean(0)) / features.std(0, correction=0)
    mean, std = targets.double().mean(0), targets.double().std(0, correction=0)
    # mean over 60 videos and 2 targets of the squares, and 0.1 / 2 of the weights' squares
    weights = torch.linalg.solve(x.T @ x + 0.1 * 60 * 2 / 2 * torch.eye(4), x.T @ ((targets - mean) / std))
    np.testing.assert_allclose(probe.evaluate(0.1), (x @ weights * std + mean).numpy(), atol=1e-3)


def test_a_setting_is_chosen_on_held_out_videos(generator):
    features, labels = clusters(generator, 120, noise=1.5)
    found, truth = clusters(generator, 300, noise=1.5)
    result = run_probe("linear", features, labels, found, ProbeTask(3, 2))
    losses = {float(name): loss for name, loss in result.settings["held_out_loss"].items()}
    assert result.settings["weight_decay"] == min(losses, key=losses.get) and len(losses) == 7
    assert (result.logits.argmax(1) == truth.numpy()).mean() > 0.7


def test_held_out_videos_are_a_fifth_of_each_class(generator):
    labels = torch.tensor([0] * 50 + [1] * 10 + [2] * 2)
    mask = held_out_mask(labels, "single_label_classification", generator)
    assert [int(mask[labels == label].sum()) for label in range(3)] == [10, 2, 0]
    assert held_out_mask(torch.tensor([0, 1]), "single_label_classification", generator).sum() == 1
    assert held_out_mask(torch.zeros(10, 2), "multi_label_classification", generator).sum() == 2


def test_several_labels(generator):
    features, labels = clusters(generator, 90)
    several = torch.stack([labels == 0, labels != 2], dim=1).float()
    result = run_probe("linear", features, several, features, ProbeTask(2, 2, "multi_label_classification"))
    assert ((result.logits > 0) == several.bool().numpy()).mean() > 0.9


def test_knn(generator):
    features, labels = clusters(generator, 90, noise=0.4)
    result = run_probe("knn", features, labels, features[:30], ProbeTask(5, 2))
    assert result.logits.shape == (30, 5)
    assert (result.logits.argmax(1) == labels[:30].numpy()).all()
    np.testing.assert_allclose(np.exp(result.logits).sum(1), 1, atol=1e-5)


def test_the_attentive_probe_finds_the_token_that_tells(generator, monkeypatch):
    """One token of six holds the class, at another place in each video: their mean says little, attention finds it."""
    monkeypatch.setattr(probe_module, "RATES", (1e-2,))
    monkeypatch.setattr(probe_module, "STEPS", 80)
    labels = torch.arange(96) % 3
    tokens = torch.randn(96, 6, 8, generator=generator)
    place = torch.randint(6, (96,), generator=generator)
    tokens[torch.arange(96), place] = 4 * torch.eye(8)[labels] + 4 * torch.eye(8)[7]
    tokens = tokens.half().numpy()
    result = run_probe("attentive", tokens[:72], labels[:72], tokens[72:], ProbeTask(3, 2))
    assert (result.logits.argmax(1) == labels[72:].numpy()).mean() > 0.9
    state = torch.get_rng_state()
    again = run_probe("attentive", tokens[:72], labels[:72], tokens[72:], ProbeTask(3, 2))
    assert np.array_equal(again.logits, result.logits) and torch.equal(torch.get_rng_state(), state)


def test_the_order_of_tokens_does_not_matter_to_the_attentive_probe(generator):
    probe = AttentiveProbe(8, 2, 3)
    tokens = torch.randn(2, 6, 8, generator=generator)
    torch.testing.assert_close(probe(tokens), probe(tokens.flip(1)))


@pytest.mark.parametrize(
    ("kind", "problem_type", "message"),
    [
        ("cubic", "regression", "probe='cubic' is unknown; choose one of linear, attentive, knn"),
        ("knn", "regression", "votes for one class per video"),
    ],
)
def test_mistakes(kind, problem_type, message):
    with pytest.raises(ValueError, match=message):
        run_probe(kind, np.zeros((2, 2)), torch.zeros(2), np.zeros((2, 2)), ProbeTask(1, 1, problem_type))


# ----------------------------------------------------------------------------------------------------- the cache


@pytest.fixture(scope="module")
def videos(tmp_path_factory):
    folder = tmp_path_factory.mktemp("videos")
    for split, number in (("train", 5), ("val", 2)):
        for label in ("left", "up"):
            for index in range(number):
                path = folder / split / label / f"{index}.mp4"
                path.parent.mkdir(parents=True, exist_ok=True)
                write_video(path, synthesise_video(label, np.random.default_rng(index + 10 * number), 32, 8))
    return folder


@pytest.fixture
def computed(monkeypatch) -> list[int]:
    """The sizes of the batches that go through the encoder."""
    sizes, encode = [], features_module._encode

    def counted(model, pixel_values, *rest):
        sizes.append(len(pixel_values))
        return encode(model, pixel_values, *rest)

    monkeypatch.setattr(features_module, "_encode", counted)
    return sizes


def views(sampling_rate: int = 1) -> EvalTransform:
    config = VideoMAEV2Config(**TINY)
    processor = VideoMAEV2ImageProcessor(
        sampling_rate=sampling_rate, **clip_options(config), **normalization_options(config)
    )
    return EvalTransform(processor)


def test_features_are_computed_once(videos, tmp_path, computed):
    samples = [VideoRecord(str(path), 0) for path in sorted(videos.rglob("*.mp4"))][:5]
    model = build(VideoMAEV2Model)
    first = cached_features(model, samples, views(), tmp_path, FeatureOptions(batch_size=3))
    assert first.shape == (5, TINY["hidden_size"]) and first.dtype == np.float32 and computed == [3, 2]
    again = cached_features(model, samples, views(), tmp_path, FeatureOptions(batch_size=5))
    assert computed == [3, 2] and np.array_equal(first, again)
    assert [path.suffix for path in tmp_path.iterdir()] == [".npy"]
    tokens = cached_features(model, samples, views(), tmp_path, FeatureOptions(tokens=True))
    assert tokens.shape == (5, 32, TINY["hidden_size"]) and tokens.dtype == np.float16
    np.testing.assert_allclose(tokens.astype(np.float32).mean(1), first, atol=2e-3)

    clip = views()(samples[0], torch.Generator())["pixel_values"]
    with torch.no_grad():
        expected = model(clip[None]).last_hidden_state.mean(1)[0]
    np.testing.assert_allclose(first[0], expected, atol=1e-4)


def test_whatever_changes_them_makes_them_anew(videos, tmp_path, computed):
    samples = [VideoRecord(str(path), 0) for path in sorted(videos.rglob("*.mp4"))][:3]
    model = build(VideoMAEV2Model)

    def is_computed(*arguments, **options) -> bool:
        before = len(computed)
        cached_features(*arguments, tmp_path, FeatureOptions(**options))
        return len(computed) > before

    assert is_computed(model, samples, views())
    assert not is_computed(model, [VideoRecord(sample.path, 7) for sample in samples], views())  # labels are not in it
    assert is_computed(model, samples[::-1], views())
    assert is_computed(model, samples, views(sampling_rate=2))
    assert is_computed(model, samples, views(), bf16=True)
    os.utime(samples[0].path)
    assert is_computed(model, samples, views())
    with torch.no_grad():
        next(model.parameters()).mul_(1.01)
    assert is_computed(model, samples, views())
    assert not is_computed(model, samples, views())


def test_a_damaged_file_of_features_is_made_anew(videos, tmp_path, computed, caplog):
    model, samples = build(VideoMAEV2Model), [VideoRecord(str(path), 0) for path in sorted(videos.rglob("*.mp4"))][:3]
    first = np.array(cached_features(model, samples, views(), tmp_path))
    (file,) = tmp_path.glob("*.npy")
    for damaged in (b"", b"not an array", file.read_bytes()[:-5]):
        file.write_bytes(damaged)
        computed.clear()
        again = cached_features(model, samples, views(), tmp_path)
        assert np.array_equal(first, again) and computed
    assert caplog.text.count("is damaged") == 3


def test_unreadable_videos_are_nan(videos, tmp_path):
    (tmp_path / "bad.mp4").write_bytes(b"no video")
    samples = [VideoRecord(str(next(videos.rglob("*.mp4"))), 0), VideoRecord(str(tmp_path / "bad.mp4"), 0)]
    found = cached_features(build(VideoMAEV2Model), samples, views(), tmp_path)
    assert np.isfinite(found[0]).all() and np.isnan(found[1]).all()


def test_the_command(videos, tmp_path, capsys, computed):
    """Checkpoints of pretraining and of finetuning; a video that cannot be read is counted and not scored."""
    build(VideoMAEV2ForPreTraining).save_pretrained(tmp_path / "pretrained")
    build(VideoMAEV2ForVideoClassification, num_labels=7).save_pretrained(tmp_path / "finetuned")
    evaluated = tmp_path / "val.csv"
    rows = [f"{path} {path.parent.name}" for path in sorted((videos / "val").rglob("*.mp4"))]
    (tmp_path / "bad.mp4").write_bytes(b"no video")
    evaluated.write_text("\n".join([*rows, f"{tmp_path / 'bad.mp4'} up"]))
    for stage, kind in (("pretrained", "linear"), ("pretrained", "knn"), ("finetuned", "knn")):
        out = tmp_path / f"{stage}_{kind}"
        videomae(
            *f"probe --checkpoint {tmp_path / stage} --train_data {videos / 'train'} --eval_data {evaluated} --probe "
            f"{kind} --sampling_rate 1 --use_cpu true --output_dir {out} --feature_cache {tmp_path / 'cache'}".split()
        )
        metrics = json.loads((out / "metrics.json").read_text())
        assert (metrics["probe"], metrics["train_videos"]) == (kind, 10)
        assert (metrics["eval_videos"], metrics["eval_unreadable"]) == (4, 1)
        assert metrics["classes"] == ["left", "up"] and sum(map(sum, metrics["confusion_matrix"])) == 4
        predictions = list(csv.DictReader((out / "predictions.csv").open()))
        assert len(predictions) == 5 and predictions[-1]["predicted"] == "unreadable"
        right = sum(row["label"] == row["predicted"] for row in predictions)
        assert metrics["eval_top1"] == pytest.approx(right / 4)
    assert len(list((tmp_path / "cache").iterdir())) == 4  # of two checkpoints, for training and evaluation
    assert "knn probe of" in capsys.readouterr().out

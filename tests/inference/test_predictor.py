"""`videomae_hf.load`: the predictions of `videomae evaluate`, over time as well, for videos of every kind."""

import csv
import json
import subprocess
import sys
import threading

import pytest
import torch
from helpers.commands import videomae
from helpers.indexed_video import indexed_frames
from helpers.tiny_models import build, opengvlab_folder
from helpers.trained_models import CLASSES, save_trained, write_three_motions
from transformers import VideoMAEForVideoClassification

import videomae_hf
from videomae_hf import VideoDecodeError, VideoMAEV2ForVideoClassification, VideoSegment
from videomae_hf.inference.inputs import Input
from videomae_hf.inference.loading import load_ahead, run_ahead
from videomae_hf.inference.predictions import Head, Prediction, Segment, Timeline


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Six videos of three motions each, one of them damaged."""
    folder = tmp_path_factory.mktemp("videos")
    for number in range(5):
        write_three_motions(folder / f"{number}.mp4", 6 + number)
    (folder / "5.mp4").write_bytes(b"no video")
    return folder


@pytest.fixture(scope="module")
def models(tmp_path_factory):
    folder = tmp_path_factory.mktemp("models")
    return {kind: save_trained(folder / kind, kind) for kind in
            ("single_label_classification", "multi_label_classification", "regression")}  # fmt: skip


@pytest.fixture(scope="module")
def predictor(models):
    return videomae_hf.load(models["single_label_classification"], device="cpu", batch_size=3, num_workers=2)


@pytest.mark.parametrize("views", [(5, 3), (2, 1)], ids=str)
@pytest.mark.parametrize("kind", ["single_label_classification", "multi_label_classification", "regression"])
def test_predictions_are_those_of_evaluate(models, folder, tmp_path, kind, views):
    options = ["--use_cpu", "true", "--max_bad_fraction", "0.5", "--unlabelled", "true"]
    options += [] if views == (5, 3) else ["--num_clips", "2", "--num_crops", "1"]
    videomae("evaluate", "--checkpoint", models[kind], "--eval_data", folder, "--output_dir", tmp_path, *options)
    with open(tmp_path / "predictions.csv") as file:
        columns, *expected = csv.reader(file)
    predictor = videomae_hf.load(models[kind], device="cpu", batch_size=4)
    views = {} if views == (5, 3) else {"num_clips": 2, "num_crops": 1}
    found = list(predictor.predict_many([folder], **views))
    assert columns == ["path", *predictor.head.columns]
    for one, row in zip(found[:5], expected):
        *same, number = [one.name, *one.cells()]
        assert same == row[:-1]
        if kind != "multi_label_classification":  # but for the rounding of other batches
            number, row = float(number), [*row[:-1], pytest.approx(float(row[-1]), rel=1e-4)]
        assert number == row[-1]
    assert "5.mp4 cannot be decoded" in str(found[5].error) and "unreadable" in expected[5]
    with pytest.raises(VideoDecodeError, match="has no prediction: .*5.mp4 cannot be decoded"):
        found[5].top()


@pytest.mark.parametrize("spans", [{"window": "8f", "stride": "8f"}, {"window": 0.4, "stride": 0.2}], ids=str)
def test_a_window_is_predicted_like_a_video_of_its_own(predictor, tmp_path, spans):
    video = write_three_motions(tmp_path / "long.mp4")  # 60 frames, 2.4 seconds
    found = predictor.predict(video, num_clips=2, **spans)
    assert len(found.timeline.starts) == (8 if "8f" in spans.values() else 11)
    for start, end, logits in zip(found.timeline.starts, found.timeline.ends, found.timeline.logits):
        part = VideoSegment(video, start=float(start), end=None if end > 2.39 else float(end))
        torch.testing.assert_close(logits, predictor.predict(part, num_clips=2, num_crops=1).logits)
    mean = found.timeline.probabilities.mean(dim=0)
    torch.testing.assert_close(found.probabilities, mean)  # like the views of one video
    streamed = list(predictor.stream(video, num_clips=2, **spans))
    assert [one[:2] for one in streamed] == list(zip(found.timeline.starts.tolist(), found.timeline.ends.tolist()))
    torch.testing.assert_close(torch.stack([one[2].logits for one in streamed]), found.timeline.logits)
    assert streamed[0][2].name == f"{video} [0.00 to {found.timeline.ends[0]:.2f}]"


def test_frames_in_memory(predictor):
    frames = indexed_frames(20, 40, 40)
    one_clip = predictor.predict(frames[:4])  # three crops, which are the same for such frames
    with torch.inference_mode():
        expected = predictor.model(predictor.processor(frames[:4], return_tensors="pt").pixel_values).logits[0]
    torch.testing.assert_close(one_clip.probabilities, expected.softmax(dim=-1))
    # 4 frames, 2 apart, from the middle
    sampled = predictor.predict(torch.from_numpy(frames), num_clips=1, num_crops=1)
    torch.testing.assert_close(
        sampled.logits, predictor.predict(frames[6:14:2], num_crops=1).logits
    )  # 4 frames, 2 apart, central
    timeline = predictor.predict(frames, timeline=True).timeline
    assert timeline.starts.tolist() == [0, 4, 8, 12] and timeline.ends.tolist() == [8, 12, 16, 20]  # frame numbers
    torch.testing.assert_close(timeline.logits[1], predictor.predict(frames[4:12:2], num_crops=1).logits)
    with pytest.raises(VideoDecodeError, match="array 0: its frame rate is unknown; give window and stride in frames"):
        predictor.predict(frames, window=2)


def test_checkpoints_of_other_layouts(tmp_path):
    model = build(VideoMAEV2ForVideoClassification, num_labels=3)
    predictor = videomae_hf.load(opengvlab_folder(tmp_path / "official", model), device="cpu")
    frames = indexed_frames(4, 32, 32)
    expected = predictor.processor(frames, return_tensors="pt").pixel_values
    torch.testing.assert_close(predictor.predict(frames, num_crops=1).logits, model(expected).logits[0])


def test_adapters_and_models_of_transformers(models, tmp_path):
    peft = pytest.importorskip("peft")
    base = models["single_label_classification"]
    targets = {"target_modules": ["query", "value"], "modules_to_save": ["classifier"]}
    adapted = peft.get_peft_model(
        VideoMAEV2ForVideoClassification.from_pretrained(base), peft.LoraConfig(r=2, init_lora_weights=False, **targets)
    )
    adapted.save_pretrained(tmp_path / "adapter")
    adapted.get_base_model().config.save_pretrained(tmp_path / "adapter")
    videomae("convert", base, tmp_path / "theirs", "--to", "transformers")
    frames = indexed_frames(4, 32, 32)
    pixels = videomae_hf.VideoMAEV2ImageProcessor.from_pretrained(base)(frames, return_tensors="pt").pixel_values
    for name, model in (
        ("adapter", adapted.eval()),
        ("theirs", VideoMAEForVideoClassification.from_pretrained(tmp_path / "theirs").eval()),
    ):
        with torch.inference_mode():
            expected = model(pixel_values=pixels).logits[0]
        predictor = videomae_hf.load(tmp_path / name, device="cpu")
        assert predictor.head.labels == list(CLASSES)
        torch.testing.assert_close(predictor.predict(frames, num_crops=1).logits, expected, atol=1e-4, rtol=1e-4)


def test_what_load_refuses(models, tmp_path):
    videomae_hf.VideoMAEV2Model(build().config).save_pretrained(tmp_path / "encoder")
    with pytest.raises(ValueError, match="has no trained classifier and fc_norm: finetune it first"):
        videomae_hf.load(tmp_path / "encoder")
    name = models["regression"]
    with pytest.raises(ValueError, match="device='tpu' cannot be used"):
        videomae_hf.load(name, device="tpu")
    with pytest.raises(ValueError, match="dtype=int8 is unknown; choose one of float32, bfloat16, float16"):
        videomae_hf.load(name, dtype="int8")
    with pytest.raises(ValueError, match="batch_size=0 must be at least 1"):
        videomae_hf.load(name, batch_size=0)
    with pytest.raises(ValueError, match="Unknown option 'sampling_rat' .*; did you mean 'sampling_rate'"):
        videomae_hf.load(name, sampling_rat=2)
    with pytest.raises(ValueError, match="num_clips=0 must be at least 1"):
        videomae_hf.load(name, device="cpu").predict("a.mp4", num_clips=0)


def test_options_and_precision(models, folder):
    name = models["single_label_classification"]
    assert videomae_hf.load(name, device="cpu", sampling_rate=3, fps=None).processor.sampling_rate == 3
    precise = videomae_hf.load(name, device="cpu").predict(folder / "0.mp4")
    rounded = videomae_hf.load(name, device="cpu", dtype=torch.bfloat16).predict(folder / "0.mp4")
    assert rounded.logits.dtype == torch.float32 and not torch.equal(rounded.logits, precise.logits)
    torch.testing.assert_close(rounded.logits, precise.logits, atol=0.1, rtol=0.1)


def test_a_missing_video_and_an_endless_one(predictor):
    with pytest.raises(FileNotFoundError, match="No video file none.mp4"):
        predictor.predict("none.mp4")
    for views in ({}, {"timeline": True}):
        with pytest.raises(ValueError, match="camera:0 has no end; use stream"):
            predictor.predict("camera:0", **views)


def test_importing_the_package_does_not_import_inference():
    """`load` is imported when it is used."""
    text = (
        "import sys, videomae_hf; assert 'videomae_hf.inference' not in sys.modules; print(videomae_hf.load.__name__)"
    )
    assert subprocess.run([sys.executable, "-c", text], capture_output=True, text=True).stdout == "load\n"
    with pytest.raises(AttributeError, match="No videomae_hf attribute lod"):
        _ = videomae_hf.lod


# ------------------------------------------------------------------------------------------------------------- results

SINGLE, MULTI = Head(list(CLASSES), "single_label_classification"), Head(list(CLASSES), "multi_label_classification")


def over_time(head: Head, probabilities: list[list[float]], starts, ends) -> Prediction:
    values = torch.tensor(probabilities)
    logits = values.log() if head is SINGLE else torch.logit(values, eps=1e-6)
    timeline = Timeline(torch.tensor(starts).double(), torch.tensor(ends).double(), logits, head)
    return Prediction("a.mp4", head, logits.mean(dim=0), timeline)


def rounded(segments: list[Segment]) -> list[tuple]:
    return [(round(one.start, 3), round(one.end, 3), one.label, round(one.score, 3)) for one in segments]


def test_windows_with_the_same_label_are_merged():
    rows = [[0.8, 0.1, 0.1], [0.6, 0.3, 0.1], [0.4, 0.3, 0.3], [0.1, 0.2, 0.7], [0.7, 0.2, 0.1]]
    found = over_time(SINGLE, rows, [0, 1, 2, 3, 4], [2, 3, 4, 5, 6])  # windows of 2 seconds, 1 apart
    assert found.timeline.spans() == [(0, 1.5), (1.5, 2.5), (2.5, 3.5), (3.5, 4.5), (4.5, 6)]
    assert rounded(found.segments(0.5)) == [(0, 2.5, "jump", 0.7), (3.5, 4.5, "swim", 0.7), (4.5, 6, "jump", 0.7)]
    assert rounded(found.segments(0.3))[0] == (0, 3.5, "jump", 0.6)
    assert rounded(found.segments(0.75)) == [(0, 1.5, "jump", 0.8)]
    apart = over_time(SINGLE, rows[:2], [0, 5], [2, 7])  # nothing is known between two windows
    assert rounded(apart.segments(0.5)) == [(0, 2, "jump", 0.8), (5, 7, "jump", 0.6)]


def test_several_labels_have_segments_of_their_own():
    rows = [[0.9, 0.6, 0.1], [0.9, 0.2, 0.1], [0.1, 0.8, 0.1]]
    found = over_time(MULTI, rows, [0, 1, 2], [1, 2, 3])
    expected = [(0, 1, "run", 0.6), (0, 2, "jump", 0.9), (2, 3, "run", 0.8)]
    assert rounded(found.segments()) == expected
    assert found.labels(0.9) == [] and found.labels(0.3) == ["jump", "run"]


def test_a_prediction_is_printed_and_saved(tmp_path):
    found = Prediction("odd\n\x1b[31m\udcff.mp4", SINGLE, torch.tensor([0.5, 0.3, 0.2]).log())
    assert str(found) == r"odd\n\x1b[31m\udcff.mp4: jump 50.0%, run 30.0%, swim 20.0%"
    assert [label for label, _ in found.top(2)] == ["jump", "run"]
    found.save(tmp_path / "one.json")
    assert json.loads((tmp_path / "one.json").read_text())["top"][1] == {"label": "run", "probability": 0.3}
    found.save(tmp_path / "one.csv")
    (columns, row) = csv.reader(open(tmp_path / "one.csv", newline=""))
    assert columns == ["path", "predicted", "probability"] and row == ["odd\n\x1b[31m\\udcff.mp4", "jump", "0.5000"]
    with pytest.raises(ValueError, match="one.txt must end in .json or .csv"):
        found.save("one.txt")
    with pytest.raises(ValueError, match="was predicted without timeline=True"):
        found.segments()
    with pytest.raises(ValueError, match="top_k=0 must be at least 1"):
        found.top(0)


def test_a_timeline_is_saved(tmp_path):
    found = over_time(SINGLE, [[0.8, 0.1, 0.1], [0.1, 0.8, 0.1]], [0, 1], [1, 2])
    found.save(tmp_path / "t.csv")
    assert (tmp_path / "t.csv").read_text() == (
        "start,end,jump,run,swim\n0.000,1.000,0.8,0.1,0.1\n1.000,2.000,0.1,0.8,0.1\n"
    )
    found.save(tmp_path / "t.json")
    content = json.loads((tmp_path / "t.json").read_text())
    assert content["timeline"]["rows"][1] == [1.0, 2.0, 0.1, 0.8, 0.1]
    assert [segment["label"] for segment in content["segments"]] == ["jump", "run"]


def test_values_of_a_regression(tmp_path):
    head = Head(["age", "height"], "regression")
    found = Prediction("a.mp4", head, torch.tensor([31.5, 170.25]), Timeline(*torch.ones(2, 1), torch.ones(1, 2), head))
    assert str(found) == "a.mp4: age 31.5, height 170.2" and found.top(1) == [("age", 31.5), ("height", 170.25)]
    assert found.to_dict() == {"path": "a.mp4", "values": {"age": 31.5, "height": 170.25}}
    with pytest.raises(ValueError, match="Segments need classes, but this model predicts values"):
        found.segments()


# ------------------------------------------------------------------------------------------------------------- loading


def test_results_come_in_order_and_a_slow_source_is_said():
    slow = threading.Event()

    def inputs():
        yield from (Input(str(number), str(number)) for number in range(5))
        slow.wait(10)
        yield Input("5", "5")

    def prepare(one: Input) -> int:
        if one.name == "3":
            raise OSError("gone")
        return int(one.name)

    found = []
    for loaded in load_ahead(inputs(), prepare, num_workers=3):
        if loaded is None and len(found) == 5:
            slow.set()  # what is there can be used before the next video is
        elif loaded is not None:
            found.append(loaded[1] if not isinstance(loaded[1], OSError) else "error")
    assert found == [0, 1, 2, "error", 4, 5]


def test_other_errors_of_threads_are_raised():
    def broken(one):
        raise ImportError("no decoder")

    with pytest.raises(ImportError, match="no decoder"):
        list(load_ahead([Input("a", "a")], broken, 2))

    def inputs():
        yield Input("a", "a")
        raise ValueError("the list is broken")

    with pytest.raises(ValueError, match="the list is broken"):
        list(load_ahead(inputs(), str, 2))
    with pytest.raises(ZeroDivisionError):
        list(run_ahead((1 / number for number in (1, 0)), 2))
    assert list(run_ahead(range(50), 2)) == list(range(50))

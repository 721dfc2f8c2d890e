"""`videomae export`: files that other runtimes read, the check, and a runner without torch that predicts the same."""

import json
import re
import shlex
import subprocess
import sys

import numpy as np
import pytest
import torch
import transformers
from helpers.shared import REPO
from helpers.tiny_models import build
from helpers.trained_models import CLASSES, save_trained, write_three_motions

import videomae_hf
from videomae_hf import VideoMAEV2ForPreTraining, VideoMAEV2ImageProcessor, VideoMAEV2Model, cli
from videomae_hf.commands import export
from videomae_hf.inference import exporting
from videomae_hf.inference.benchmarking import runner_of
from videomae_hf.inference.preprocessing_file import preprocessing_steps
from videomae_hf.models.image_processing_videomae_v2 import clip_options, normalization_options


if tuple(map(int, transformers.__version__.split(".")[:2])) < (5, 23):
    pytest.skip("needs the exporters of transformers 5.23", allow_module_level=True)
onnxruntime = pytest.importorskip("onnxruntime")
pytest.importorskip("onnxscript")


def videomae_export(line: str) -> None:
    cli.main(["export", *shlex.split(line)])


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """A classifier in ONNX, checked on a real video."""
    place = tmp_path_factory.mktemp("place")
    save_trained(place / "model", processor={"sampling_rate": 3})
    write_three_motions(place / "a.mp4")
    write_three_motions(place / "short.mp4", 2)
    videomae_export(f"{place}/model {place}/onnx --to onnx --check {place}/a.mp4 {place}/short.mp4")
    return place


def test_help_begins_with_commands(capsys):
    with pytest.raises(SystemExit):
        cli.main(["export", "--help"])
    lines = [line for line in capsys.readouterr().out.splitlines() if line.startswith("  videomae")]
    assert len(lines) == 3
    for line in lines:
        export.parse_arguments(shlex.split(line)[2:])


def test_a_classifier_in_onnx(place):
    """Batches of any size; the logits are those of the model."""
    about = json.loads((place / "onnx/preprocessing.json").read_text())
    assert (about["model_file"], about["kind"], about["labels"]) == ("model.onnx", "classifier", list(CLASSES))
    assert about["inputs"][0]["shape"] == ["batch", 4, 3, 32, 32] and about["views"]["num_clips"] == 5
    session = onnxruntime.InferenceSession(place / "onnx" / "model.onnx")
    predictor = videomae_hf.load(place / "model", device="cpu")
    clips = torch.randn(7, 4, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    for batch in (1, 2, 7):
        (found,) = session.run(["logits"], {"pixel_values": clips[:batch].numpy()})
        np.testing.assert_allclose(found, predictor.clip_logits(clips[:batch]), atol=1e-4)


def test_the_benchmark_runs_it(place):
    run = runner_of("onnxruntime", str(place / "model"), place / "onnx", torch.device("cpu"))
    run(1), run(3)


def test_the_steps_are_told_in_numbers_and_words(place):
    steps = json.loads((place / "onnx/preprocessing.json").read_text())["steps"]
    assert [step["step"] for step in steps] == [
        "decode", "sample_frames", "resize", "crop", "rescale", "normalize", "layout"
    ]  # fmt: skip
    assert all(len(step.pop("words")) > 20 for step in steps)
    found = {step.pop("step"): step for step in steps}
    assert found["sample_frames"] == {
        **{"num_frames": 4, "frame_sampling": "dense", "sampling_rate": 3, "fps": None},
        **{"short_video": "repeat_last", "official_sampling": False},
    }
    assert found["resize"] == {"shortest_edge": 32, "resample": "bilinear", "antialias": True}
    assert found["crop"] == {"height": 32, "width": 32} and found["rescale"] == {"factor": 1 / 255}
    assert found["normalize"] == {"mean": [0.485, 0.456, 0.406], "std": [0.229, 0.224, 0.225]}


def lines_of(text: str) -> list[tuple[str, float]]:
    return [(label, float(value)) for label, value in (line.split(": ") for line in text.splitlines())]


@pytest.mark.parametrize(
    ("video", "options"), [("a.mp4", ""), ("short.mp4", ""), ("a.mp4", "--num_clips 1 --num_crops 1")]
)
def test_the_runner_predicts_the_same_without_torch(place, video, options):
    """In a process of its own, in which torch and this package cannot be imported."""
    code = (
        "import runpy, sys; sys.modules.update(dict.fromkeys(['torch', 'transformers', 'videomae_hf', 'PIL'])); "
        f"sys.argv[1:] = {[str(place / 'onnx'), str(place / video), *shlex.split(options)]!r}; "
        f"runpy.run_path({str(REPO / 'examples' / 'run_onnx.py')!r}, run_name='__main__')"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    views = {"num_clips": 1, "num_crops": 1} if options else {}
    expected = videomae_hf.load(place / "model", device="cpu").predict(place / video, **views).top(5)
    found = lines_of(done.stdout)
    assert [label for label, _ in found] == [label for label, _ in expected]
    assert [value for _, value in found] == pytest.approx([value for _, value in expected], abs=3e-3)


def runner():
    sys.path.insert(0, str(REPO / "examples"))
    try:
        import run_onnx
    finally:
        sys.path.pop(0)
    return run_onnx


@pytest.mark.parametrize("size", [(96, 128), (50, 40), (20, 24)])
@pytest.mark.parametrize("antialias", [True, False])
def test_pixels_of_the_runner(size, antialias):
    """They differ by at most 1 of 255 from the processor's, in few places."""
    frames = np.random.default_rng(0).integers(0, 256, (4, *size, 3), dtype=np.uint8)
    processor = VideoMAEV2ImageProcessor(
        size={"shortest_edge": 32}, crop_size={"height": 32, "width": 32}, antialias=antialias, do_normalize=False,
        do_rescale=False, num_crops=3,
    )  # fmt: skip
    expected = processor(frames, return_tensors="np").pixel_values[0]  # (3, T, C, 32, 32)
    step = {"shortest_edge": 32, "resample": "bilinear", "antialias": antialias}
    resized = np.stack([runner().resize(frame, step) for frame in frames])
    found = np.stack(runner().crop(resized, {"height": 32, "width": 32}, 3)).transpose(0, 1, 4, 2, 3)
    difference = np.abs(found.astype(int) - expected.astype(int))
    assert difference.max() <= 1 and (difference > 0).mean() < 0.05


@pytest.mark.parametrize("frame_sampling", ["dense", "uniform"])
@pytest.mark.parametrize("short_video", ["repeat_last", "loop"])
@pytest.mark.parametrize("num_frames", [3, 30, 61])
def test_frames_of_the_runner(frame_sampling, short_video, num_frames):
    options = {"frame_sampling": frame_sampling, "short_video": short_video, "sampling_rate": 2.5}
    processor = VideoMAEV2ImageProcessor(num_frames=8, **options)
    step = preprocessing_steps(processor)[1]
    for num_clips in (1, 3):
        metadata = videomae_hf.models.image_processing_videomae_v2.VideoMetadata(num_frames)
        expected = processor.sample_frames(metadata, num_clips=num_clips).reshape(num_clips, 8)
        assert runner().sample_clips(num_frames, step, num_clips) == expected.tolist()


@pytest.mark.parametrize(("model_class", "to"), [(VideoMAEV2Model, "torch_export"), (VideoMAEV2ForPreTraining, "onnx")])
def test_other_models_and_formats(model_class, to, tmp_path, capsys):
    model = build(model_class, **({"decoder_mask_ratio": 0.5} if to == "onnx" else {}))
    model.save_pretrained(tmp_path / "model")
    options = {**clip_options(model.config), **normalization_options(model.config)}
    VideoMAEV2ImageProcessor(**options).save_pretrained(tmp_path / "model")
    videomae_export(f"{tmp_path}/model {tmp_path}/out --to {to}")
    about = json.loads((tmp_path / "out/preprocessing.json").read_text())
    assert about["model_file"] == {"torch_export": "model.pt2", "onnx": "model.onnx"}[to]
    out = capsys.readouterr().out
    output = about["output"]
    assert re.search(rf"^{output}: differs by at most \S+, where values reach \S+ \(1 clip, synthesised\)$", out, re.M)
    if to == "onnx":
        assert [one["shape"] for one in about["inputs"]] == [["batch", 4, 3, 32, 32], ["batch", 4], ["batch", 16]]
    exported = transformers.exporters.ExportedModel.from_pretrained(tmp_path / "out")
    inputs = exporting.example_inputs(model, torch.randn(3, 4, 3, 32, 32))
    torch.testing.assert_close(
        torch.as_tensor(exported(**inputs)[output]), model(**inputs)[output], atol=1e-4, rtol=1e-4
    )


def test_of_an_untrained_classifier_the_encoder_is_exported(tmp_path, capsys):
    model = build(VideoMAEV2Model)
    model.save_pretrained(tmp_path / "model")
    config = json.loads((tmp_path / "model/config.json").read_text())
    config["architectures"] = ["VideoMAEForVideoClassification"]
    (tmp_path / "model/config.json").write_text(json.dumps(config))
    videomae_export(f"{tmp_path}/model {tmp_path}/out --to torch_export")
    assert "has no trained head: its encoder is exported" in capsys.readouterr().err
    about = json.loads((tmp_path / "out/preprocessing.json").read_text())
    assert (about["kind"], about["output"]) == ("encoder", "last_hidden_state") and "labels" not in about


def test_a_wrong_result_is_not_kept(place, tmp_path, monkeypatch):
    monkeypatch.setattr(exporting, "_compare", lambda *args: ({"logits": float("nan")}, {"logits": 2.0}))
    monkeypatch.setattr(exporting, "_export", lambda exporter, model, to, folder: folder.mkdir())
    with pytest.raises(ValueError, match="logits by up to nan, where values reach 2; --tolerance 0.0001 allows 0.0002"):
        exporting.export_model(place / "model", tmp_path / "out", "onnx")
    assert list(tmp_path.iterdir()) == []


def test_mistakes_are_told(place, tmp_path, monkeypatch, capsys):
    for line, message in (
        (
            f"{place}/model {tmp_path}/out --to tflite",
            "--to tflite is unknown; choose one of onnx, openvino",
        ),
        (f"{place}/model {place} --to onnx", f"{place} is not empty; choose a new folder"),
        (f"{place}/model {tmp_path}/out --to onnx --check {place}/b.mp4", "b.mp4"),
        (f"{place}/model {tmp_path}/out --to onnx --tolerance -1", "--tolerance -1.0 must be at least 0"),
        (f"{place}/model {tmp_path}/out --to onnx --check camera:0", "Cameras and standard input cannot be checked"),
    ):
        with pytest.raises(SystemExit):
            videomae_export(line)
        assert message in capsys.readouterr().err
    monkeypatch.setattr(exporting.transformers, "__version__", "5.17.0.dev0")
    with pytest.raises(ImportError, match="needs transformers 5.23 or newer, but 5.17.0.dev0 is installed"):
        exporting.export_model(place / "model", tmp_path / "out", "onnx")
    assert list(tmp_path.iterdir()) == []

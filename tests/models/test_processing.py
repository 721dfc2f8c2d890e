"""The image processor: transformers' VideoMAEImageProcessor on the same frames, and what it adds to it."""

import numpy as np
import pytest
import torch
from helpers.indexed_video import frame_indices, write_indexed_video
from helpers.shared import TINY, randomize
from PIL import Image
from transformers import VideoMAEImageProcessor, pipeline

from videomae_hf import (
    VideoDecodeError,
    VideoMAEV2Config,
    VideoMAEV2ForVideoClassification,
    VideoMAEV2ImageProcessor,
    VideoMAEV2VideoProcessor,
)


SMALL = {"size": {"shortest_edge": 24}, "crop_size": {"height": 24, "width": 24}}
FOR_TINY = {"size": {"shortest_edge": 32}, "crop_size": {"height": 32, "width": 32}}
GREY_LEVEL = 1 / 255 / 0.5 + 1e-6


@pytest.fixture(scope="module")
def video(tmp_path_factory):
    return write_indexed_video(tmp_path_factory.mktemp("video") / "clip.mp4", 60, g=12)


@pytest.fixture
def processor():
    return VideoMAEV2ImageProcessor(num_frames=4, **SMALL)


def noise(height: int = 30, width: int = 40, frames: int = 3, channels: int = 3) -> np.ndarray:
    """uint8 (T, H, W, C), soft enough for the rounding of PIL's two passes not to add up."""
    coarse = np.random.default_rng(0).integers(0, 256, (frames, height // 4 + 1, width // 4 + 1, channels))
    return coarse.repeat(4, axis=1).repeat(4, axis=2)[:, :height, :width].astype(np.uint8)


def shape_of(processor, videos, **options) -> tuple[int, ...]:
    return tuple(processor(videos, return_tensors="pt", **options).pixel_values.shape)


# ------------------------------------------------------------------------------------------------ as transformers does

LAYOUTS = {
    "pil": lambda frames: [Image.fromarray(frame) for frame in frames],
    "numpy channels last": list,
    "numpy channels first": lambda frames: list(frames.transpose(0, 3, 1, 2)),
    "torch channels last": lambda frames: list(torch.from_numpy(frames)),
    "torch channels first": lambda frames: list(torch.from_numpy(frames).permute(0, 3, 1, 2)),
    "batch": lambda frames: [list(frames), list(frames[::-1].copy())],
    "int64": lambda frames: list(frames.astype(np.int64)),
    "float of 0 to 255": lambda frames: list(frames.astype(np.float32)),
}


def assert_parity(videos, levels: int = 1, **options):
    theirs = VideoMAEImageProcessor()(videos, return_tensors="pt", **options).pixel_values
    ours = VideoMAEV2ImageProcessor()(videos, return_tensors="pt", **options).pixel_values
    assert (ours.shape, ours.dtype) == (theirs.shape, torch.float32)
    assert (ours - theirs).abs().max() <= levels * GREY_LEVEL


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("height_width", [(48, 64), (65, 47), (33, 100)])
def test_parity(layout, height_width):
    assert_parity(LAYOUTS[layout](noise(*height_width)), **SMALL)


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"size": 32, "crop_size": 32},
        {"size": {"height": 40, "width": 50}, "crop_size": {"height": 32, "width": 48}},
        {"size": {"shortest_edge": 24}, "do_center_crop": False},
        {"do_resize": False, "crop_size": {"height": 20, "width": 30}},
        {"do_resize": False, "crop_size": {"height": 60, "width": 50}},  # larger than the frames: padded
        {"resample": Image.Resampling.NEAREST, **SMALL},
        {"do_normalize": False, **SMALL},
        {"image_mean": [0.1, 0.2, 0.3], "image_std": [0.5, 0.6, 0.7], "rescale_factor": 1 / 300, **SMALL},
    ],
    ids=str,
)
def test_parity_of_options(options):
    assert_parity(LAYOUTS["pil"](noise(40, 30)), **options)


def test_parity_of_bicubic():
    # PIL rounds to grey levels after each of its two passes; overshoot makes that two levels now and then.
    assert_parity(LAYOUTS["pil"](noise(65, 47)), levels=2, resample=Image.Resampling.BICUBIC, **SMALL)


def test_parity_of_frames_from_0_to_1():
    assert_parity(list(noise().astype(np.float32) / 255), do_rescale=False, **SMALL)


def test_the_defaults_are_those_of_transformers():
    theirs = VideoMAEImageProcessor().to_dict()
    names = set(theirs) - {"image_processor_type"}
    assert {"size", "crop_size", "resample", "image_mean", "image_std", "rescale_factor", "do_center_crop"} <= names
    ours = VideoMAEV2ImageProcessor().to_dict()
    assert {name: ours[name] for name in names} == {name: theirs[name] for name in names}
    assert VideoMAEV2ImageProcessor.model_input_names == VideoMAEImageProcessor.model_input_names


# ------------------------------------------------------------------------------------------------------------ inputs


@pytest.mark.parametrize(
    "form",
    [lambda path: path, str, lambda path: path.read_bytes(), lambda path: [path], lambda path: [str(path)]],
    ids=["Path", "str", "bytes", "list of Path", "list of str"],
)
def test_files(processor, video, form):
    pixel_values = processor(form(video), return_tensors="pt").pixel_values
    assert pixel_values.shape == (1, 4, 3, 24, 24)
    whole = processor(form(video), do_center_crop=False, return_tensors="pt").pixel_values[0]
    assert frame_indices(whole.permute(0, 2, 3, 1) * 127.5 + 127.5) == [20, 24, 28, 32]


@pytest.mark.parametrize(
    ("form", "expected"),
    [
        (lambda frames: frames, (1, 3, 3, 24, 24)),
        (lambda frames: frames.transpose(0, 3, 1, 2), (1, 3, 3, 24, 24)),
        (lambda frames: torch.from_numpy(frames), (1, 3, 3, 24, 24)),
        (lambda frames: frames.astype(np.uint16), (1, 3, 3, 24, 24)),
        (lambda frames: np.stack([frames, frames]), (2, 3, 3, 24, 24)),
        (lambda frames: [frames, torch.from_numpy(frames)], (2, 3, 3, 24, 24)),
        (lambda frames: [LAYOUTS["pil"](frames), list(frames)], (2, 3, 3, 24, 24)),
        (lambda frames: Image.fromarray(frames[0]), (1, 1, 3, 24, 24)),
        (lambda frames: [Image.fromarray(frame).convert("L") for frame in frames], (1, 3, 3, 24, 24)),
    ],
    ids=["4-D last", "4-D first", "torch", "uint16", "5-D", "arrays", "lists", "one image", "grey images"],
)
def test_frames(processor, form, expected):
    assert shape_of(processor, form(noise())) == expected


@pytest.mark.parametrize("form", [list, lambda frames: frames], ids=["list", "4-D"])
def test_flipped_views_of_arrays(processor, form):
    """OpenCV's BGR frames come in as `frame[..., ::-1]`."""
    flipped = noise()[..., ::-1]
    expected = processor(form(flipped.copy()), return_tensors="pt").pixel_values
    assert torch.equal(processor(form(flipped), return_tensors="pt").pixel_values, expected)


def test_files_and_frames_in_one_batch(processor, video):
    assert shape_of(processor, [video, noise(frames=4)]) == (2, 4, 3, 24, 24)


@pytest.mark.parametrize("layout", ["numpy channels last", "numpy channels first"])
def test_four_channels(processor, layout):
    frames = LAYOUTS[layout](noise(channels=4))
    per_channel = {"image_mean": [0.0, 0.0, 0.0, 1.0], "image_std": [1.0] * 4}
    pixel_values = processor(frames, **per_channel, return_tensors="pt").pixel_values
    assert pixel_values.shape == (1, 3, 4, 24, 24)
    assert pixel_values[:, :, :3].min() >= 0 and pixel_values[:, :, 3].max() <= 0
    with pytest.raises(ValueError, match=r"image_mean=\(0.5, 0.5, 0.5\) has 3 values, but the videos have 4 channels"):
        processor(frames)


@pytest.mark.parametrize("form", [list, lambda grey: grey[..., None], lambda grey: grey[:, None]])
def test_one_channel(processor, form):
    assert shape_of(processor, form(noise()[..., 0]), image_mean=0.5, image_std=0.5) == (1, 3, 1, 24, 24)


def test_input_data_format_settles_what_is_ambiguous(processor):
    frames = np.zeros((2, 3, 5, 3), dtype=np.uint8)  # without it the first of two possible channel axes is taken
    unchanged = {"do_resize": False, "do_center_crop": False}
    assert shape_of(processor, frames, **unchanged) == (1, 2, 3, 5, 3)
    assert shape_of(processor, frames, **unchanged, input_data_format="channels_last") == (1, 2, 3, 3, 5)


@pytest.mark.parametrize(
    ("videos", "message"),
    [
        ([], r"Expected a video or a list of videos or frames, not list \[\]"),
        (3, "Expected a video or a list of videos or frames, not int 3"),
        ([1, 2], "int"),
        ([["a.mp4"]], "str"),
        (np.zeros((8, 8, 3)), r"this array has shape \(8, 8, 3\)"),
        ([np.zeros((8, 8, 3)), np.zeros((9, 8, 3))], r"differ in shape: \[\(8, 8, 3\), \(9, 8, 3\)\]"),
        (np.full((2, 8, 8, 3), 256), "Pixels must lie in 0 to 255, not 256 to 256"),
        (np.full((2, 8, 8, 3), -1), "Pixels must lie in 0 to 255, not -1 to -1"),
    ],
)
def test_refused_inputs(processor, videos, message):
    with pytest.raises(ValueError, match=message):
        processor(videos)


def test_unreadable_files(processor, tmp_path):
    (tmp_path / "text.mp4").write_text("no video")
    with pytest.raises(VideoDecodeError, match="text.mp4"):
        processor(tmp_path / "text.mp4")
    with pytest.raises(FileNotFoundError, match="nowhere.mp4"):
        processor([tmp_path / "nowhere.mp4"])


# ---------------------------------------------------------------------------------------------------------- pipeline


@pytest.fixture(scope="module")
def model():
    labels = {"id2label": {0: "jump", 1: "run", 2: "sit"}, "label2id": {"jump": 0, "run": 1, "sit": 2}}
    config = VideoMAEV2Config(**TINY, **labels)
    return randomize(VideoMAEV2ForVideoClassification(config), std=0.3).eval()


@pytest.mark.parametrize("face", ["image_processor", "video_processor", "saved"])
def test_pipeline(tmp_path, video, model, face):
    processor = VideoMAEV2VideoProcessor(**FOR_TINY)
    clip = processor(video, num_frames=4, return_tensors="pt").pixel_values
    if face == "saved":
        model.save_pretrained(tmp_path)
        processor.save_pretrained(tmp_path)
        classify = pipeline("video-classification", model=str(tmp_path), device="cpu")
    elif face == "video_processor":
        classify = pipeline("video-classification", model=model, device="cpu", video_processor=processor)
    else:  # transformers itself decodes for it, the first frames one after the other
        image_processor = VideoMAEV2ImageProcessor(**FOR_TINY)
        classify = pipeline("video-classification", model=model, device="cpu", image_processor=image_processor)
        clip = processor(video, do_sample_frames=False, return_tensors="pt").pixel_values[:, :4]
    with torch.no_grad():
        expected = dict(zip(("jump", "run", "sit"), model(clip).logits[0].softmax(-1).tolist()))
    assert max(expected.values()) - min(expected.values()) > 0.01
    answers = {answer["label"]: answer["score"] for answer in classify(str(video))}
    assert answers == pytest.approx(expected, abs=1e-5)


def test_pipeline_on_a_video_shorter_than_a_clip(tmp_path, model):
    path = write_indexed_video(tmp_path / "short.mp4", 2)
    processor = VideoMAEV2VideoProcessor(**FOR_TINY)
    classify = pipeline("video-classification", model=model, device="cpu", video_processor=processor)
    (answer,) = classify(str(path), top_k=1)
    assert answer["label"] in ("jump", "run", "sit")

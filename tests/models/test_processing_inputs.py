"""The image processor on pixels of every kind, other numbers of channels, and the interface of video processors."""

import warnings

import numpy as np
import pytest
import torch
from helpers.indexed_video import frame_indices, write_indexed_video
from helpers.shared import SHARED, TINY
from PIL import Image
from transformers.image_utils import PILImageResampling, SizeDict
from transformers.video_utils import VideoMetadata

from videomae_hf import (
    VideoDecodeError,
    VideoMAEV2Config,
    VideoMAEV2ForVideoClassification,
    VideoMAEV2ImageProcessor,
    VideoMAEV2VideoProcessor,
    VideoSegment,
)
from videomae_hf.models.image_processing_videomae_v2 import clip_options, normalization_options, resize


RAW = {"do_resize": False, "do_center_crop": False, "do_rescale": False, "do_normalize": False}
UNIT = {**RAW, "do_rescale": True}
RAMP = np.linspace(0, 65535, 12 * 16).reshape(12, 16).round().astype(np.uint16)
PIXELS = (RAMP / 65535 * 255).round().astype(np.uint8)


@pytest.fixture(scope="module")
def video(tmp_path_factory):
    """60 frames at 25 frames per second."""
    return write_indexed_video(tmp_path_factory.mktemp("video") / "clip.mp4", 60, g=12)


def prepared(frames, **options) -> torch.Tensor:
    return VideoMAEV2ImageProcessor(**{**RAW, **options})(frames, return_tensors="pt").pixel_values[0]


def indices_of(clip) -> list[int]:
    return frame_indices(clip.permute(0, 2, 3, 1))


# ----------------------------------------------------------------------------------------------------- kinds of pixels

FORMS = {
    "array": lambda frame: np.stack([frame] * 3),
    "torch": lambda frame: torch.stack([torch.from_numpy(np.ascontiguousarray(frame))] * 3),
    "list": lambda frame: [frame] * 3,
    "list of torch": lambda frame: [torch.from_numpy(np.ascontiguousarray(frame))] * 3,
}


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize(
    ("frame", "expected"),
    [
        (PIXELS, PIXELS),
        (RAMP, PIXELS),
        (PIXELS.astype(np.uint16), PIXELS),
        (RAMP > 30000, (RAMP > 30000) * 255),
        (PIXELS // 2, PIXELS // 2),
        ((PIXELS // 2).astype(np.int8), PIXELS // 2),
        (PIXELS.astype(np.int16), PIXELS),
        (PIXELS.astype(np.uint32), PIXELS),
        (PIXELS.astype(np.uint64), PIXELS),
        (PIXELS.astype(np.float16), PIXELS),
        (PIXELS.astype(np.float64), PIXELS),
    ],
    ids=lambda frame: str(frame.dtype),
)
def test_types_of_pixels(form, frame, expected):
    clip = prepared(FORMS[form](frame[..., None]))
    assert clip.shape == (3, 1, 12, 16) and clip.dtype == torch.float32
    assert np.array_equal(clip[1, 0], expected)


def test_types_that_torch_does_not_know():
    assert np.array_equal(prepared(np.stack([RAMP.astype(">u2")[..., None]] * 2))[0, 0], PIXELS)
    assert np.array_equal(prepared(np.stack([PIXELS.astype(np.longdouble)[..., None]] * 2))[0, 0], PIXELS)


def test_images_of_sixteen_bits():
    images = [Image.fromarray(RAMP)] * 2
    assert np.array_equal(prepared(images)[0], np.stack([PIXELS] * 3))
    assert np.array_equal(prepared(images, num_channels=1)[0], PIXELS[None])
    assert np.array_equal(prepared([Image.fromarray(PIXELS > 99)] * 2)[0, 2], (PIXELS > 99) * 255)


@pytest.mark.parametrize(
    ("frames", "message"),
    [
        (torch.zeros(2, 3, 8, 8, dtype=torch.cfloat), "dense tensor of real numbers, not of dtype torch.complex64"),
        (torch.zeros(2, 3, 8, 8).to_sparse(), r"layout torch.sparse_coo; convert it with to_dense\(\)"),
        (torch.full((2, 3, 8, 8), -1, dtype=torch.int8), "Pixels must lie in 0 to 255, not -1 to -1"),
        (torch.full((2, 3, 8, 8), torch.nan), "Pixels must be finite numbers, not nan to nan"),
        (np.where(np.arange(8) == 3, np.nan, np.zeros((2, 3, 8, 8))), "Pixels must be finite numbers"),
        (torch.full((2, 3, 8, 8), torch.inf), "Pixels must be finite numbers, not inf to inf"),
        (np.zeros((2, 3, 8, 8), np.complex64), "The pixels of a frame must be numbers, not of dtype complex64"),
        (np.full((2, 3, 8, 8), "a"), "The pixels of a frame must be numbers, not of dtype <U1"),
        (np.full((2, 3, 8, 8), None), "The pixels of a frame must be numbers, not of dtype object"),
        (np.zeros((0, 8, 8, 3), np.uint8), r"A video of shape \(0, 8, 8, 3\) has no pixels"),
        (np.zeros((2, 0, 8, 3), np.uint8), r"A video of shape \(2, 0, 8, 3\) has no pixels"),
        ([Image.fromarray(np.float32([[0, 300]]))], "pixels of mode F with values from 0.0 to 300.0"),
    ],
    ids=lambda value: str(value)[:25].replace("\n", " "),
)  # fmt: skip
def test_pixels_that_are_refused(frames, message):
    with pytest.raises(ValueError, match=message):
        prepared(frames)


# ----------------------------------------------------------------------------------------------- floats that are scaled


@pytest.mark.parametrize("form", [np.asarray, torch.from_numpy, list, lambda frames: torch.from_numpy(frames).half()])
@pytest.mark.parametrize(
    ("low", "high", "advice"),
    [
        (0.0, 1.0, "in 0 to 1 already, pass do_rescale=False"),
        (0.0, 0.5, "in 0 to 1 already, pass do_rescale=False"),
        (-1.0, 1.0, "normalised already, pass do_rescale=False and do_normalize=False"),
        (-2.1, 2.6, "normalised already, pass do_rescale=False and do_normalize=False"),
    ],
)
def test_floats_that_are_scaled_already(form, low, high, advice):
    frames = np.linspace(low, high, 2 * 8 * 8 * 3, dtype=np.float32).reshape(2, 8, 8, 3)
    with pytest.raises(ValueError, match=f"The pixels are floats from .*; if they are {advice}"):
        prepared(form(frames), **UNIT)
    scaled = prepared(form(frames), **RAW)
    assert scaled.min() == pytest.approx(low, abs=1e-3) and scaled.max() == pytest.approx(high, abs=2e-3)


@pytest.mark.parametrize(
    ("frames", "options"),
    [
        (np.zeros((2, 8, 8, 3)), {}),  # black in either range
        (np.eye(8)[None, :, :, None].repeat(2, axis=0), {}),  # nearly black in 0 to 255
        (np.linspace(0, 255, 384).reshape(2, 8, 8, 3), {}),
        (np.linspace(0, 3.5, 384).reshape(2, 8, 8, 3), {}),  # a dark clip
        (np.linspace(-9, 262, 384).reshape(2, 8, 8, 3), {}),  # what bicubic resizing leaves
        (np.linspace(0, 1, 384).reshape(2, 8, 8, 3), {"rescale_factor": 1.0}),
    ],
    ids=["zeros", "zeros and ones", "full range", "dark", "overshoot", "another factor"],
)
def test_floats_that_may_be_pixels(frames, options):
    factor = options.get("rescale_factor", 1 / 255)
    expected = torch.from_numpy(frames * factor).float().permute(0, 3, 1, 2)
    torch.testing.assert_close(prepared(frames, **{**UNIT, **options}), expected, rtol=0, atol=1e-6)


def test_given_frames_are_not_changed():
    frames = torch.rand(2, 3, 8, 8) * 255
    before = frames.clone()
    VideoMAEV2ImageProcessor(do_resize=False, do_center_crop=False)(frames)
    assert frames.equal(before)


# ------------------------------------------------------------------------------------------------------------ channels


def test_a_model_of_one_channel_takes_everything(video, tmp_path):
    config = VideoMAEV2Config(**TINY, num_channels=1, image_mean=[0.4], image_std=[0.2], num_labels=2)
    VideoMAEV2ImageProcessor(**clip_options(config), **normalization_options(config)).save_pretrained(tmp_path)
    processor = VideoMAEV2ImageProcessor.from_pretrained(tmp_path)
    assert processor.num_channels == 1
    model = VideoMAEV2ForVideoClassification(config)
    rgb = np.random.default_rng(0).integers(0, 256, (4, 40, 40, 3), dtype=np.uint8)
    luma = np.stack([np.array(Image.fromarray(frame).convert("L")) for frame in rgb])
    same = {
        "PIL RGB": [Image.fromarray(frame) for frame in rgb],
        "PIL L": [Image.fromarray(frame) for frame in luma],
        "numpy RGB": rgb,
        "torch RGB": torch.from_numpy(rgb).permute(0, 3, 1, 2),
        "list RGB": list(rgb),
        "list grey": list(luma),
        "grey with an axis": luma[..., None],
    }
    np.save(tmp_path / "rgb.npy", rgb)
    np.save(tmp_path / "grey.npy", luma)
    expected = processor(same["PIL L"], return_tensors="pt").pixel_values
    assert expected.shape == (1, 4, 1, 32, 32)
    for name, frames in same.items():
        assert processor(frames, return_tensors="pt").pixel_values.equal(expected), name
    for name in ("rgb.npy", "grey.npy"):
        assert processor(tmp_path / name, do_sample_frames=False, return_tensors="pt").pixel_values.equal(expected)
    floats = processor(rgb.astype(np.float32), return_tensors="pt").pixel_values
    assert (floats - expected).abs().max() < 1.6 / 255 / 0.2  # neither the luma nor the resizing is rounded
    assert model(**processor(video, return_tensors="pt")).logits.shape == (1, 2)


@pytest.mark.parametrize("channels", [2, 4, 7])
def test_models_of_other_channels(tmp_path, channels):
    mean, std = [0.1 * number for number in range(channels)], [0.5] * channels
    config = VideoMAEV2Config(**TINY, num_channels=channels, image_mean=mean, image_std=std, num_labels=2)
    processor = VideoMAEV2ImageProcessor(**clip_options(config), **normalization_options(config))
    frames = np.random.default_rng(0).integers(0, 256, (9, channels, 32, 32), dtype=np.uint8)
    np.save(tmp_path / "first.npy", frames)
    np.save(tmp_path / "last.npy", frames.transpose(0, 2, 3, 1).copy())
    clips = processor([tmp_path / "first.npy", tmp_path / "last.npy"], sampling_rate=2, return_tensors="pt")
    mean, std = (torch.tensor(values)[:, None, None] for values in (mean, std))
    expected = (torch.from_numpy(frames[0:8:2]) / 255 - mean) / std
    for clip in clips.pixel_values:
        torch.testing.assert_close(clip, expected, rtol=0, atol=1e-5)
    assert VideoMAEV2ForVideoClassification(config)(**clips).logits.shape == (2, 2)
    Image.new("RGB", (32, 32)).save(tmp_path / "0.png")
    with pytest.raises(
        VideoDecodeError, match=f"its frames have 3 channels .*, but num_channels={channels} is requested"
    ):
        processor(tmp_path)


def test_convert_rgb():
    grey = [PIXELS] * 2
    assert prepared(grey).shape == (2, 1, 12, 16)
    assert np.array_equal(prepared(grey, do_convert_rgb=True)[0], np.stack([PIXELS] * 3))


# ----------------------------------------------------------------------------------------------------------- antialias


@pytest.mark.skipif(not (SHARED / "golden_small").is_dir(), reason="needs the official pictures")
@pytest.mark.parametrize("target", ["64x48", "66x50"])
def test_without_antialias_as_the_official_test(target):
    golden = SHARED / "golden_small"
    picture, official = (Image.open(golden / f"resize_96x72{name}.png") for name in ("", f"_to_{target}"))
    options = {"size": {"shortest_edge": int(target[3:])}, "do_resize": True}
    ours = prepared([picture], antialias=False, **options)[0].permute(1, 2, 0).numpy()
    official = np.array(official).astype(int)
    assert ours.shape == official.shape
    assert np.abs(ours - official).max() <= 1
    antialiased = prepared([picture], **options)[0].permute(1, 2, 0).numpy()
    assert np.abs(antialiased - official).max() > 5


def test_antialias_by_hand(tmp_path):
    """Of eight columns, four: without antialiasing each is the mean of two, of three columns halfway places alone."""
    row = torch.tensor([0, 255, 0, 0, 255, 0, 0, 0, 255], dtype=torch.uint8).expand(1, 1, 9, 9)
    sizes = SizeDict(height=3, width=3)
    plain = resize(row, sizes, PILImageResampling.BILINEAR, antialias=False)
    assert plain[0, 0, 0].tolist() == [255, 255, 0]  # the middle column of each three
    assert resize(row, sizes, PILImageResampling.BILINEAR)[0, 0, 0].tolist() != plain[0, 0, 0].tolist()
    VideoMAEV2ImageProcessor(antialias=False).save_pretrained(tmp_path)
    assert VideoMAEV2VideoProcessor.from_pretrained(tmp_path).antialias is False


# ----------------------------------------------------------------------------------------------- as video processors do


def test_without_return_tensors_there_is_a_list(video):
    processor = VideoMAEV2VideoProcessor(num_frames=2)
    clips = processor([video, VideoSegment(video, end=1)]).pixel_values
    assert isinstance(clips, list) and [tuple(clip.shape) for clip in clips] == [(2, 3, 224, 224)] * 2
    stacked = processor([video, VideoSegment(video, end=1)], return_tensors="pt").pixel_values
    assert stacked.equal(torch.stack(clips))


def test_metadata_of_files(video):
    processor = VideoMAEV2VideoProcessor(num_frames=4, sampling_rate=4, num_clips=2)
    output = processor([video, VideoSegment(video, start_frame=20)], return_metadata=True, return_tensors="pt")
    assert output.pixel_values.shape == (2, 2, 4, 3, 224, 224)
    first, second = output.video_metadata
    assert (first.total_num_frames, first.fps, first.duration, first.height, first.width) == (60, 25.0, 2.4, 96, 128)
    assert first.frames_indices == [0, 4, 8, 12, 44, 48, 52, 56]
    assert (second.total_num_frames, second.frames_indices) == (40, [0, 4, 8, 12, 24, 28, 32, 36])
    assert "video_metadata" not in processor(video, return_tensors="pt")


def frames_of(count: int) -> np.ndarray:
    """uint8 (count, 8, 8, 3), each frame of its own number."""
    return np.arange(count, dtype=np.uint8)[:, None, None, None].repeat(8, 1).repeat(8, 2).repeat(3, 3)


def test_metadata_of_given_frames():
    options = {"num_frames": 4, "fps": 5}
    processor = VideoMAEV2VideoProcessor(**RAW, do_sample_frames=True, **options)

    def sampled(frames, video_metadata) -> list[int]:
        return processor(frames, video_metadata=video_metadata)["pixel_values"][0][:, 0, 0, 0].int().tolist()

    assert sampled(frames_of(50), {"total_num_frames": 50, "fps": 25}) == [15, 20, 25, 30]
    assert sampled(frames_of(50), VideoMetadata(50, fps=10)) == [20, 22, 24, 26]
    assert sampled([frames_of(50)], [[{"total_num_frames": 50, "fps": 10}]]) == [20, 22, 24, 26]
    # Every fifth frame of a video of 25 a second: five are left of each second.
    metadata = {"total_num_frames": 250, "fps": 25, "frames_indices": list(range(0, 250, 5))}
    assert sampled(frames_of(50), metadata) == [23, 24, 25, 26]
    with pytest.raises(ValueError, match="50 frames are given, but their video_metadata has total_num_frames=99"):
        sampled(frames_of(50), {"total_num_frames": 99, "fps": 10})
    with pytest.raises(ValueError, match="1 videos and 2 entries of video_metadata"):
        sampled(frames_of(50), [{"total_num_frames": 50}] * 2)
    with pytest.raises(ValueError, match="fps=5 needs a video with a known frame rate"):
        sampled(frames_of(50), None)


def test_metadata_of_given_frames_comes_back():
    output = VideoMAEV2VideoProcessor(**RAW, return_metadata=True)(frames_of(5), return_tensors="pt")
    (metadata,) = output.video_metadata
    assert (metadata.total_num_frames, metadata.frames_indices, metadata.fps) == (5, [0, 1, 2, 3, 4], None)
    assert (metadata.height, metadata.width) == (8, 8)


def test_sample_frames(video):
    processor = VideoMAEV2VideoProcessor(num_frames=4, sampling_rate=4)
    metadata = VideoMetadata(60, fps=25)
    for options in ({}, {"num_frames": 3, "num_clips": 2}, {"fps": 5}, {"frame_sampling": "uniform"}):
        indices = processor.sample_frames(metadata, **options)
        returned = processor(video, return_metadata=True, **options).video_metadata[0].frames_indices
        assert isinstance(indices, np.ndarray) and indices.tolist() == returned
    assert processor.sample_frames(metadata).tolist() == [20, 24, 28, 32]


def test_fetch_videos(video):
    processor = VideoMAEV2VideoProcessor(num_frames=4)
    frames, metadata = processor.fetch_videos(str(video))
    assert frames.shape == (60, 3, 96, 128) and frames.dtype == torch.uint8
    assert indices_of(frames) == metadata.frames_indices == list(range(60))
    assert (metadata.total_num_frames, metadata.fps, metadata.height, metadata.width) == (60, 25.0, 96, 128)
    videos, infos = processor.fetch_videos([str(video), video], sample_indices_fn=processor.sample_frames)
    assert [indices_of(frames) for frames in videos] == [[20, 24, 28, 32]] * 2
    assert [info.frames_indices for info in infos] == [[20, 24, 28, 32]] * 2


def test_nothing_of_a_call_is_saved(video, tmp_path):
    processor = VideoMAEV2VideoProcessor(num_channels=3, max_pixels=10**9)
    processor(video, return_metadata=True, generator=torch.Generator(), video_metadata=None)
    processor.save_pretrained(tmp_path)
    saved = VideoMAEV2VideoProcessor.from_pretrained(tmp_path).to_dict()
    assert (saved["num_channels"], saved["max_pixels"], saved["antialias"]) == (3, 10**9, True)
    assert not {"generator", "video_metadata"} & set(saved)


def test_no_warning(video):
    """A video decoded, transformed and normalised, without a word."""
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        VideoMAEV2ImageProcessor()([video, video.read_bytes()], return_tensors="pt")
        prepared(np.zeros((2, 8, 8, 3), np.uint8))

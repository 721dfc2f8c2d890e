"""Clips and crops of the image processor, the options that choose them, and how they are saved."""

import json
import os

import numpy as np
import pytest
import torch
from helpers.indexed_video import frame_indices, write_indexed_video
from huggingface_hub.errors import StrictDataclassError
from transformers.models.auto.image_processing_auto import AutoImageProcessor  # also without torchvision in 5.17
from transformers.models.auto.video_processing_auto import AutoVideoProcessor

from videomae_hf import VideoMAEV2ImageProcessor, VideoMAEV2VideoProcessor


RAW = {"do_resize": False, "do_rescale": False, "do_normalize": False}
CLASSES = (VideoMAEV2ImageProcessor, VideoMAEV2VideoProcessor)


@pytest.fixture(scope="module")
def video(tmp_path_factory):
    return write_indexed_video(tmp_path_factory.mktemp("video") / "clip.mp4", 60, g=12)


@pytest.fixture
def processor():
    return VideoMAEV2ImageProcessor(num_frames=4, size=24, crop_size=24)


def ramp(height: int, width: int, frames: int = 20) -> np.ndarray:
    """uint8 (T, H, W, 3): each pixel says its frame, row and column."""
    return np.stack(np.indices((frames, height, width)), axis=-1).astype(np.uint8)


@pytest.mark.parametrize(
    ("height", "width", "num_crops", "tops_lefts"),
    [
        (8, 20, 1, [(0, 6)]),
        (8, 20, 3, [(0, 0), (0, 6), (0, 12)]),
        (20, 8, 3, [(0, 0), (6, 0), (12, 0)]),
        (8, 20, 2, [(0, 0), (0, 12)]),
        (10, 18, 4, [(1, 0), (1, 3), (1, 6), (1, 10)]),  # int(k * 10 / 3); the other side is centred
        (8, 8, 3, [(0, 0), (0, 0), (0, 0)]),
    ],
)
def test_crops_cover_the_longer_side(height, width, num_crops, tops_lefts):
    processor = VideoMAEV2ImageProcessor(crop_size=8, num_crops=num_crops, **RAW)
    views = processor(ramp(height, width, 2), return_tensors="pt").pixel_values
    assert views.shape == ((1, num_crops, 2, 3, 8, 8) if num_crops > 1 else (1, 2, 3, 8, 8))
    views = views.view(num_crops, 2, 3, 8, 8)
    assert [(int(view[0, 1, 0, 0]), int(view[0, 2, 0, 0])) for view in views] == tops_lefts
    assert [(int(view[1, 1, -1, -1]) - 7, int(view[1, 2, -1, -1]) - 7) for view in views] == tops_lefts


def test_non_square_crops():
    processor = VideoMAEV2ImageProcessor(crop_size={"height": 4, "width": 10}, num_crops=2, **RAW)
    views = processor(ramp(8, 12, 2), return_tensors="pt").pixel_values[0]
    assert views.shape == (2, 2, 3, 4, 10)
    # Four rows are left over and two columns: the crops spread over the rows.
    assert [view[0, 1:, 0, 0].tolist() for view in views] == [[0, 1], [4, 1]]


def test_views_are_clip_after_clip():
    processor = VideoMAEV2ImageProcessor(num_frames=4, sampling_rate=2, num_clips=2, num_crops=3, crop_size=8, **RAW)
    views = processor(ramp(8, 20), do_sample_frames=True, return_tensors="pt").pixel_values
    assert views.shape == (1, 6, 4, 3, 8, 8)
    assert views[0, :, :, 0, 0, 0].tolist() == [[0, 2, 4, 6]] * 3 + [[12, 14, 16, 18]] * 3
    assert views[0, :, 0, 2, 0, 0].tolist() == [0, 6, 12, 0, 6, 12]


def test_small_frames_are_padded_with_black():
    frames = np.full((1, 2, 2, 3), 9, dtype=np.uint8)
    padded = VideoMAEV2ImageProcessor(crop_size={"height": 4, "width": 6}, **RAW)(frames, return_tensors="pt")
    assert padded.pixel_values[0, 0, 0].tolist() == [[0] * 6, [0, 0, 9, 9, 0, 0], [0, 0, 9, 9, 0, 0], [0] * 6]


@pytest.mark.parametrize(
    ("do_sample_frames", "from_file", "from_frames"),
    [(None, 4, 20), (True, 4, 4), (False, 60, 20)],
)
def test_do_sample_frames(processor, video, do_sample_frames, from_file, from_frames):
    options = {"do_sample_frames": do_sample_frames, "return_tensors": "pt"}
    assert processor(video, **options).pixel_values.shape == (1, from_file, 3, 24, 24)
    assert processor(ramp(30, 30), **options).pixel_values.shape == (1, from_frames, 3, 24, 24)


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({"sampling_rate": 2}, [26, 28, 30, 32]),
        ({"fps": 5}, [20, 25, 30, 35]),  # of 25
        ({"fps": 10}, [25, 27, 30, 32]),
        ({"frame_sampling": "uniform"}, [7, 22, 37, 52]),
        ({"num_frames": 6, "sampling_rate": 15}, [0, 15, 30, 45, 45, 45]),
        ({"num_frames": 6, "sampling_rate": 15, "short_video": "loop"}, [0, 15, 30, 45, 0, 15]),
        ({"official_sampling": True}, [22, 27, 32, 37]),  # four points over 16 frames in the middle
        ({"official_sampling": True, "num_frames": 7, "frame_sampling": "uniform"}, [4, 12, 20, 28, 36, 44, 52]),
        ({"official_sampling": True, "fps": 5}, [20, 26, 33, 39]),
        ({"video_backend": "pyav"}, [20, 24, 28, 32]),
    ],
    ids=str,
)
def test_sampling_options_reach_the_file(processor, video, options, expected):
    frames = processor(video, **RAW, **{"do_center_crop": False, **options}, return_tensors="pt").pixel_values[0]
    assert frame_indices(frames.permute(0, 2, 3, 1)) == expected


def test_random_sampling_repeats_with_a_generator(processor, video):
    def draw(seed):
        options = {"frame_sampling": "random", "generator": torch.Generator().manual_seed(seed), "num_clips": 6}
        return processor(video, return_tensors="pt", **options).pixel_values

    assert torch.equal(draw(1), draw(1))
    assert not torch.equal(draw(1), draw(2))


def test_fps_of_given_frames_is_unknown(processor):
    with pytest.raises(ValueError, match="fps=5 needs a video with a known frame rate; use sampling_rate"):
        processor(ramp(30, 30), fps=5, do_sample_frames=True)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"resample": 1, "do_resize": True}, "resample=1 is not supported"),
        ({"size": {"longest_edge": 50}, "do_resize": True}, "must have 'shortest_edge', or 'height' and 'width'"),
        ({"frame_sampling": "sparse"}, "frame_sampling='sparse' is unknown"),
        ({"sampling_rate": 0}, "sampling_rate=0 must be positive"),
        ({"num_crops": 3, "do_center_crop": False}, "num_crops=3 needs do_center_crop=True"),
        ({"num_crops": 0}, "num_crops=0"),
        ({"num_clips": 0}, "num_clips=0"),
    ],
    ids=str,
)
def test_refused_options(options, message):
    processor = VideoMAEV2ImageProcessor(num_frames=4, do_sample_frames=True, crop_size=8, **RAW)
    with pytest.raises(ValueError, match=message):
        processor(ramp(8, 20), **options)


def test_misspelt_options_and_wrong_types(processor):
    with pytest.raises(TypeError, match="num_frame"):
        processor(ramp(30, 30), num_frame=4)
    with pytest.raises(StrictDataclassError, match="num_frames"):
        processor(ramp(30, 30), num_frames="4")


def test_return_tensors(processor):
    same, different = [ramp(30, 40, 3)] * 2, [ramp(30, 40, 3), ramp(30, 40, 2)]
    assert processor(same, return_tensors="np").pixel_values.shape == (2, 3, 3, 24, 24)
    assert isinstance(processor(same, return_tensors="np").pixel_values, np.ndarray)
    assert isinstance(processor(same, return_tensors="pt").pixel_values, torch.Tensor)
    assert [tuple(clip.shape) for clip in processor(different).pixel_values] == [(3, 3, 24, 24), (2, 3, 24, 24)]
    with pytest.raises(ValueError, match=r"differ in shape, \[\(2, 3, 24, 24\), \(3, 3, 24, 24\)\]"):
        processor(different, return_tensors="pt")


@pytest.mark.parametrize("saved", CLASSES)
@pytest.mark.parametrize(("auto", "loaded"), list(zip((AutoImageProcessor, AutoVideoProcessor), CLASSES)))
def test_save_and_load(tmp_path, video, saved, auto, loaded):
    sampling = {"num_frames": 6, "sampling_rate": 2.5, "num_crops": 3, "official_sampling": True}
    original = saved(**sampling, image_mean=[0.1, 0.2, 0.3], size=24, crop_size=24)
    original.save_pretrained(tmp_path)
    assert [name for name in os.listdir(tmp_path) if name.endswith(".json")] == ["preprocessor_config.json"]
    written = json.loads((tmp_path / "preprocessor_config.json").read_text())
    assert (written["num_crops"], written["official_sampling"]) == (3, True)
    again = auto.from_pretrained(tmp_path)
    assert type(again) is loaded
    assert again.to_dict() == original.to_dict()
    expected = original(video, return_tensors="pt").pixel_values
    assert expected.shape == (1, 3, 6, 3, 24, 24)
    assert torch.equal(again(video, return_tensors="pt").pixel_values, expected)

"""Clips from segments of a video, by the rule of V-JEPA 2, whose indices are worked out by hand."""

import numpy as np
import pytest
import torch
from helpers.shared import TINY

from videomae_hf import VideoMAEV2Config
from videomae_hf.data.clips import ClipSampler, EvalTransform, FinetuneTransform
from videomae_hf.data.segments import SegmentProcessor, SegmentTransform, segment_clips
from videomae_hf.data.sources.records import VideoRecord
from videomae_hf.data.sources.synthetic import write_video
from videomae_hf.models.image_processing_videomae_v2 import clip_options, normalization_options


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        # 40 frames in 2 segments of 20, a span of 8: the middle start is 6, the points 6, 8.67, 11.33, 14 -> 13
        ((40, 4, 2, 2), [[6, 8, 11, 13], [26, 28, 31, 33]]),
        # 10 frames in 2 segments of 5, a span of 8: points 0, 3.5, 7 -> 6 and the last, hopping by 10 - 8
        ((10, 4, 2, 2), [[0, 3, 6, 6], [2, 5, 8, 8]]),
        # Shorter than the span: 0, 5 -> 4, then the last but one
        ((6, 4, 2, 3), [[0, 4, 4, 4]] * 3),
        ((1, 4, 2, 2), [[0, 0, 0, 0]] * 2),
        ((9, 4, 1, 1), [[2, 3, 4, 5]]),
    ],
)
def test_clips_of_segments(arguments, expected):
    assert segment_clips(*arguments) == expected


def test_windows_are_sampled_within_their_segments(generator):
    starts = np.array([[clip[0] for clip in segment_clips(40, 4, 2, 2, generator)] for _ in range(200)])
    assert starts.min(axis=0).tolist() == [0, 20] and starts.max(axis=0).tolist() == [11, 31]  # 20 - 8 = 12 of each


def test_kinetics_clips_overlap_evenly():
    """300 frames hold 8 clips that span 64, if they overlap: they begin 33 apart, without chance."""
    clips = segment_clips(300, 16, 4, 8, torch.Generator().manual_seed(0))
    assert [clip[0] for clip in clips] == [33 * number for number in range(8)]
    assert clips == segment_clips(300, 16, 4, 8)


def test_numbers_below_one_are_refused():
    with pytest.raises(ValueError, match="must be at least 1"):
        segment_clips(10, 4, 0.5, 2)


@pytest.fixture
def video(tmp_path) -> VideoRecord:
    """40 frames of 32 x 48, as bright as their number times 6."""
    frames = np.stack([np.full((32, 48, 3), 6 * number, dtype=np.uint8) for number in range(40)])
    write_video(tmp_path / "video.mp4", frames)
    return VideoRecord(str(tmp_path / "video.mp4"), 1)


def test_a_training_item_has_a_clip_of_each_segment(video, generator):
    config = VideoMAEV2Config(**TINY)
    sampling = ClipSampler(num_frames=4, sampling_rate=2)
    augmentation = FinetuneTransform(config, [sampling], horizontal_flip=False)
    items = SegmentTransform(augmentation, 2)(video, generator)
    assert len(items) == 2 and len({item["seed"] for item in items}) == 2
    for number, item in enumerate(items):
        assert item["pixel_values"].shape == (4, 3, 32, 32) and item["labels"] == 1
        shown = item["pixel_values"].float().mean(dim=(1, 2, 3)) / 6
        assert 20 * number - 1 < shown[0] < shown[-1] < 20 * (number + 1) + 1
    again = SegmentTransform(augmentation, 2)(video, torch.Generator().manual_seed(0))
    assert all(torch.equal(one["pixel_values"], other["pixel_values"]) for one, other in zip(items, again))


def test_evaluation_has_the_middle_clips_times_the_crops(video, generator):
    config = VideoMAEV2Config(**TINY)
    options = {**clip_options(config), **normalization_options(config), "sampling_rate": 2}
    views = EvalTransform(SegmentProcessor(**options, do_normalize=False, do_rescale=False), 2, 3)
    clips = views(video, generator)["pixel_values"]
    assert clips.shape == (6, 4, 3, 32, 32)
    shown = clips.float().mean(dim=(2, 3, 4)) / 6
    expected = torch.tensor([[6.0, 8, 11, 13]] * 3 + [[26.0, 28, 31, 33]] * 3)
    torch.testing.assert_close(shown, expected, rtol=0, atol=0.8)

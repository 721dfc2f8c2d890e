"""Which frames of a video make a clip: literal answers."""

import json

import numpy as np
import pytest
import torch
from helpers.golden_files import GOLDEN

from videomae_hf.models import frame_sampling
from videomae_hf.models.frame_sampling import (
    FrameSampling,
    constant_rate,
    dense_clip,
    dense_starts,
    random_start,
    random_uniform_clip,
    uniform_clip,
)


def sample_clip_indices(length: int, *, num_clips: int = 1, generator=None, **sampling) -> list[list[int]]:
    return frame_sampling.sample_clip_indices(length, FrameSampling(**sampling), num_clips, generator)


def random_clip_indices(length: int, *, pretraining: bool = False, generator=None, **sampling) -> list[int]:
    return frame_sampling.random_clip_indices(length, FrameSampling(**sampling), generator, pretraining=pretraining)


@pytest.mark.parametrize(
    ("num_video_frames", "num_frames", "sampling_rate", "expected"),
    [
        (100, 4, 4, [40, 44, 48, 52]),
        (16, 4, 4, [0, 4, 8, 12]),
        (300, 16, 4, [116, 120, 124, 128, 132, 136, 140, 144, 148, 152, 156, 160, 164, 168, 172, 176]),
        (100, 4, 1, [48, 49, 50, 51]),
        (100, 4, 3.75, [41, 45, 48, 52]),  # 8 of 30 frames a second
        (14, 5, 10 / 3, [0, 3, 6, 10, 13]),
        (31, 12, 30 / 11, [0, 2, 5, 8, 10, 13, 16, 19, 21, 24, 27, 30]),  # 11 * 30 / 11 is 29.999999999999996
        (10, 4, 0.5, [4, 4, 5, 5]),  # 50 from a video of 25 frames a second
        (1, 4, 4, [0, 0, 0, 0]),
    ],
)
def test_single_dense_clip_lies_in_the_middle(num_video_frames, num_frames, sampling_rate, expected):
    clips = sample_clip_indices(num_video_frames, num_frames=num_frames, sampling_rate=sampling_rate)
    assert clips == [expected]


@pytest.mark.parametrize(
    ("num_video_frames", "num_clips", "starts"),
    [
        (100, 2, [0, 84]),
        (100, 3, [0, 40, 84]),
        (100, 5, [0, 20, 40, 60, 84]),  # of 25 frames at stride 4, clips begin at int(k * 21 / 4)
        (10, 3, [0, 0, 0]),
    ],
)
def test_dense_clips_go_from_the_first_to_the_last_frame(num_video_frames, num_clips, starts):
    assert dense_starts(num_video_frames, 4, 4, num_clips) == starts
    clips = sample_clip_indices(num_video_frames, num_frames=4, sampling_rate=4, num_clips=num_clips)
    assert [clip[0] for clip in clips] == starts


def test_dense_clips_literal():
    clips = sample_clip_indices(20, num_frames=4, sampling_rate=2, num_clips=3)
    assert clips == [[0, 2, 4, 6], [6, 8, 10, 12], [12, 14, 16, 18]]


@pytest.mark.parametrize(
    ("short_video", "expected"),
    [
        # Official (v1/kinetics.py): the last frame that was reached and not the last of the video, 39.
        ("repeat_last", [0, 4, 8, 12, 16, 20, 24, 28, 32, 36, 36, 36, 36, 36, 36, 36]),
        ("loop", [0, 4, 8, 12, 16, 20, 24, 28, 32, 36, 0, 4, 8, 12, 16, 20]),
    ],
)
@pytest.mark.parametrize("frame_sampling", ["dense", "random"])
def test_short_videos(frame_sampling, short_video, expected):
    clips = sample_clip_indices(
        40, num_frames=16, sampling_rate=4, frame_sampling=frame_sampling, short_video=short_video
    )
    assert clips == [expected]


def test_loop_meets_other_frames_the_second_time():
    assert dense_clip(5, 0, 5, 2, "loop") == [0, 2, 4, 1, 3]


@pytest.mark.parametrize("frame_sampling", ["dense", "random"])
def test_short_video_error_names_the_values(frame_sampling):
    options = {"num_frames": 16, "sampling_rate": 4, "frame_sampling": frame_sampling, "short_video": "error"}
    with pytest.raises(ValueError, match=r"num_frames=16 at sampling_rate=4 needs 61 frames, but the video has 60"):
        sample_clip_indices(60, **options)
    assert sample_clip_indices(61, **options) == [list(range(0, 61, 4))]


@pytest.mark.parametrize(
    ("num_video_frames", "num_frames", "num_clips", "expected"),
    [
        (10, 5, 1, [[1, 3, 5, 7, 9]]),
        (100, 4, 1, [[12, 37, 62, 87]]),
        (100, 4, 2, [[0, 25, 50, 75], [12, 37, 62, 87]]),
        (60, 4, 3, [[0, 15, 30, 45], [5, 20, 35, 50], [10, 25, 40, 55]]),
        (2, 4, 1, [[0, 0, 1, 1]]),
        (1, 3, 2, [[0, 0, 0], [0, 0, 0]]),
    ],
)
def test_uniform(num_video_frames, num_frames, num_clips, expected):
    clips = sample_clip_indices(num_video_frames, num_frames=num_frames, frame_sampling="uniform", num_clips=num_clips)
    assert clips == expected


def test_uniform_takes_the_whole_video_whatever_the_sampling_rate():
    assert sample_clip_indices(8, num_frames=4, frame_sampling="uniform", sampling_rate=100) == [uniform_clip(8, 4)]


def test_random_clips_stay_inside_and_reach_both_ends(generator):
    clips = sample_clip_indices(
        24, num_frames=4, sampling_rate=4, frame_sampling="random", num_clips=300, generator=generator
    )
    # A clip spans 16 frames, so that it can start at 0 to 8.
    assert {clip[0] for clip in clips} == set(range(9))
    assert all(clip == list(range(clip[0], clip[0] + 13, 4)) for clip in clips)


def test_random_start_of_a_fractional_rate(generator):
    starts = [random_start(100, 4, 3.75, generator) for _ in range(2000)]  # spans 15 frames
    assert (min(starts), max(starts)) == (0, 85)


def test_random_uniform_takes_each_frame_from_its_segment(generator):
    clips = torch.tensor([random_uniform_clip(20, 4, generator) for _ in range(300)])
    assert clips.amin(0).tolist() == [0, 5, 10, 15]
    assert clips.amax(0).tolist() == [4, 9, 14, 19]


@pytest.mark.parametrize(
    "draw",
    [
        lambda generator: sample_clip_indices(
            500, num_frames=4, frame_sampling="random", num_clips=8, generator=generator
        ),
        lambda generator: random_uniform_clip(500, 8, generator),
    ],
)
def test_a_generator_makes_random_places_repeatable(draw):
    first, again, other = (draw(torch.Generator().manual_seed(seed)) for seed in (3, 3, 4))
    assert first == again
    assert first != other


@pytest.mark.parametrize("frame_sampling", ["dense", "random", "uniform"])
@pytest.mark.parametrize("num_clips", [1, 3])
@pytest.mark.parametrize("short_video", ["repeat_last", "loop"])
def test_every_index_is_a_frame_of_the_video(frame_sampling, num_clips, short_video, generator):
    for num_video_frames in (1, 2, 7, 15, 16, 17, 64, 101):
        for sampling_rate in (0.4, 1, 29.97 / 7, 8):
            clips = sample_clip_indices(
                num_video_frames,
                num_frames=8,
                frame_sampling=frame_sampling,
                sampling_rate=sampling_rate,
                num_clips=num_clips,
                short_video=short_video,
                generator=generator,
            )
            assert [len(clip) for clip in clips] == [8] * num_clips
            assert all(0 <= index < num_video_frames for clip in clips for index in clip)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"num_video_frames": 0}, "num_video_frames=0"),
        ({"num_frames": 0}, "num_frames=0"),
        ({"num_clips": 0}, "num_clips=0"),
        ({"frame_sampling": "sparse"}, "frame_sampling='sparse' is unknown; choose one of dense, uniform, random"),
        ({"short_video": "mirror"}, "short_video='mirror' is unknown; choose one of repeat_last, loop, error"),
        ({"sampling_rate": -1}, "sampling_rate=-1 must be positive"),
        ({"sampling_rate": 0}, "sampling_rate=0 must be positive"),
        ({"sampling_rate": 0, "frame_sampling": "random"}, "sampling_rate=0 must be positive"),
    ],
)
def test_invalid_options(options, message):
    options = {"num_video_frames": 30, "num_frames": 4, **options}
    with pytest.raises(ValueError, match=message):
        sample_clip_indices(options.pop("num_video_frames"), **options)


VARIABLE = [0, 0.1, 0.2, 0.3, 0.4, 0.5, 1, 1.5, 2, 2.5, 3, 3.5]  # 3.14 frames a second on average


@pytest.mark.parametrize(
    ("num_video_frames", "video_fps", "timestamps", "fps", "shown", "ticks_apart"),
    [
        (10, 10.0, None, 5, [0, 1, 2, 3, 4, 5, 6, 7, 8, 9], 2),
        (10, 10.0, None, 10, [0, 1, 2, 3, 4, 5, 6, 7, 8, 9], 1),
        (10, 30.0, None, 8, [0, 0, 1, 2, 3, 4, 5, 6, 7, 8, 9], 4),  # 32 ticks a second
        (3, 2.0, None, 8, [0, 0, 0, 0, 1, 1, 1, 1, 2, 2, 2, 2], 1),  # faster than the video
        (10, 10.0, [n / 10 for n in range(10)], 5, [0, 1, 2, 3, 4, 5, 6, 7, 8, 9], 2),
        (12, 3.14, VARIABLE, 2, [0, 2, 5, 5, 6, 6, 7, 7, 8, 8, 9, 9, 10, 10, 11, 11], 2),
        (12, None, VARIABLE, 2, [0, 2, 5, 5, 6, 6, 7, 7, 8, 8, 9, 9, 10, 10, 11, 11], 2),
        (12, 25.0, VARIABLE, 2, [0, 2, 5, 5, 6, 6, 7, 7, 8, 8, 9, 9, 10, 10, 11, 11], 2),  # times go before the rate
        (4, 1.0, [0, 0.1, 0.2, 5.0], 1, [0, 2, 2, 2, 2, 3, 3], 1),  # a gap
        (1, 25.0, None, 5, [0], 5),
        (1, 25.0, [0.0], 5, [0], 5),
    ],
)
def test_constant_rate(num_video_frames, video_fps, timestamps, fps, shown, ticks_apart):
    found, apart = constant_rate(num_video_frames, video_fps, timestamps, fps)
    assert (found.tolist(), apart) == (shown, ticks_apart)


@pytest.mark.parametrize("rate", [23.976, 24, 25, 29.97, 30, 50, 59.94, 60, 120])
def test_at_the_rate_of_the_file_each_frame_comes_once_whatever_the_container_rounds(rate):
    exact = np.arange(500) / rate
    for timestamps in (None, exact, exact.round(3), np.floor(exact * 1000) / 1000):
        shown, ticks_apart = constant_rate(500, rate, timestamps, rate)
        assert ticks_apart == 1 and shown.tolist() == list(range(500))


@pytest.mark.parametrize(
    ("num_video_frames", "video_fps", "timestamps"),
    [(10, None, None), (10, 0.0, None), (1, None, [0.0]), (2, None, [0.0, 0.0])],
)
def test_constant_rate_of_what_has_none(num_video_frames, video_fps, timestamps):
    with pytest.raises(ValueError, match="fps=5 needs a video with a known frame rate; use sampling_rate instead"):
        constant_rate(num_video_frames, video_fps, timestamps, 5)


# ------------------------------------------------------------------------------------------------- the official frames


OFFICIAL = json.loads((GOLDEN / "sampling.json").read_text())
LENGTHS = OFFICIAL["lengths"]
CLIP = {"num_frames": 16, "official_sampling": True}


def official_clips(length: int, seed: int = 0, **options) -> list[list[int]]:
    return sample_clip_indices(length, **CLIP, generator=torch.Generator().manual_seed(seed), **options)


@pytest.mark.parametrize("length", LENGTHS)
def test_official_evaluation(length):
    """One clip as V2's validation takes it, several as the test of V1 and V2."""
    key = str(length)
    assert official_clips(length, frame_sampling="uniform") == [OFFICIAL["uniform_validation"][key]]
    assert official_clips(length, sampling_rate=4) == [OFFICIAL["dense_validation"][key]]
    for official in (True, False):  # where the default is the official rule
        options = {"num_frames": 16, "official_sampling": official}
        for num_clips in (2, 5):
            clips = sample_clip_indices(length, frame_sampling="uniform", num_clips=num_clips, **options)
            assert clips == OFFICIAL[f"uniform_test_{num_clips}_clips"][key]
        assert sample_clip_indices(length, num_clips=5, **options) == OFFICIAL["dense_test_5_clips"][key]["clips"]
        starts = [clip[0] for clip in sample_clip_indices(length, num_clips=10, **options)]
        assert starts == OFFICIAL["dense_test_10_clips"][key]["starts"]


@pytest.mark.parametrize("length", LENGTHS)
def test_official_uniform_training(length, generator):
    sampling = {**CLIP, "frame_sampling": "uniform", "generator": generator}
    clips = torch.tensor([random_clip_indices(length, **sampling) for _ in range(400)])
    segments = OFFICIAL["uniform_train_segments"][str(length)]
    assert torch.stack([clips.amin(0), clips.amax(0)], dim=1).tolist() == segments


@pytest.mark.parametrize("length", LENGTHS)
@pytest.mark.parametrize(
    ("key", "options"),
    [
        ("dense_train", {"sampling_rate": 4}),
        ("pretraining_stride_4", {"sampling_rate": 4, "pretraining": True}),
        ("pretraining_stride_2", {"sampling_rate": 2, "pretraining": True}),
    ],
)
def test_official_dense_training(length, key, options, generator):
    """Both ends of the range of starts are reached, and give the official clips; none lies outside of it."""
    official = OFFICIAL[key][str(length)]
    clips = [random_clip_indices(length, **CLIP, **options, generator=generator) for _ in range(4000)]
    lowest, highest = official["start"]
    assert {clip[0] for clip in clips} == set(range(lowest, highest + 1))
    ends = {clip[0]: clip for clip in clips}
    assert ends[lowest] == official["clip_of_lowest_start"]
    assert ends[highest] == official["clip_of_highest_start"]


def test_random_clips_of_the_processor_are_those_of_finetuning(generator):
    options = {"frame_sampling": "random", "num_clips": 300, "sampling_rate": 4}
    clips = sample_clip_indices(66, **CLIP, **options, generator=generator)
    expected = OFFICIAL["dense_train"]["66"]
    assert sorted(map(list, set(map(tuple, clips)))) == [
        expected["clip_of_lowest_start"],
        expected["clip_of_highest_start"],
    ]


@pytest.mark.parametrize(
    ("length", "official", "expected"),
    [
        # The only step to frame 60, the last of 61, is not taken officially.
        (61, True, [*range(0, 57, 4), 56]),
        (61, False, [*range(0, 61, 4)]),
        (62, True, [*range(0, 61, 4)]),
        (37, True, [0, 4, 8, 12, 16, 20, 24, 28, 32, *[32] * 7]),
        (37, False, [0, 4, 8, 12, 16, 20, 24, 28, 32, 36, *[36] * 6]),
        (1, True, [0] * 16),
        (2, True, [0] * 16),
    ],
)
def test_pretraining_of_short_videos(length, official, expected):
    options = {"num_frames": 16, "sampling_rate": 4, "pretraining": True}
    assert random_clip_indices(length, official_sampling=official, **options) == expected


@pytest.mark.parametrize(
    ("length", "expected"),
    [(3, [2] * 16), (5, [0, *[4] * 15]), (9, [0, *[8] * 15]), (1, [0] * 16)],
)
def test_official_finetuning_of_videos_of_few_frames(length, expected):
    """A point for each 4 frames, and the last frame."""
    assert random_clip_indices(length, **CLIP) == official_clips(length)[0] == expected


@pytest.mark.parametrize("length", [1, 7, 15])
def test_uniform_clips_of_fewer_frames_than_segments_keep_their_order_in_both(length, generator):
    """Deviation: the official code gives the first frame alone, or in front of the others."""
    clip = official_clips(length, frame_sampling="uniform")[0]
    assert clip == uniform_clip(length, 16) and set(clip) == set(range(length))
    clip = random_clip_indices(length, **CLIP, frame_sampling="uniform", generator=generator)
    assert clip == sorted(clip) and clip[0] == 0 and clip[-1] == length - 1


@pytest.mark.parametrize("short_video", ["loop", "error"])
@pytest.mark.parametrize("frame_sampling", ["dense", "random", "uniform"])
def test_official_sampling_has_its_own_way_with_short_videos(short_video, frame_sampling):
    with pytest.raises(ValueError, match=f"short_video='{short_video}' cannot be combined with official_sampling"):
        official_clips(30, short_video=short_video, frame_sampling=frame_sampling)


@pytest.mark.parametrize("pretraining", [True, False])
@pytest.mark.parametrize("frame_sampling", ["dense", "uniform"])
def test_official_clips_of_any_length_and_rate_stay_inside(pretraining, frame_sampling, generator):
    for length in (1, 2, 3, 7, 15, 16, 17, 60, 64, 65, 101):
        for sampling_rate in (0.05, 0.4, 1, 29.97 / 7, 8):
            options = {"frame_sampling": frame_sampling, "sampling_rate": sampling_rate, "official_sampling": True}
            for num_frames in (1, 8):
                clip = random_clip_indices(
                    length, num_frames=num_frames, pretraining=pretraining, generator=generator, **options
                )
                (evaluated,) = sample_clip_indices(length, num_frames=num_frames, **options)
                for indices in (clip, evaluated):
                    assert len(indices) == num_frames and indices == sorted(indices)
                    assert 0 <= indices[0] <= indices[-1] < length

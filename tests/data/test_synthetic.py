"""The drawn data set: the class is the motion, and nothing else."""

import math

import numpy as np
import pytest

from videomae_hf import read_frames
from videomae_hf.data.sources.synthetic import (
    CLASSES,
    DIFFICULTIES,
    SHAPES,
    _coverage,
    _trajectory,
    synthesise_dataset,
    synthesise_video,
    write_video,
)


SIZE = 48


def drawn(label: str, seed: int = 0, **options) -> np.ndarray:
    return synthesise_video(label, np.random.default_rng(seed), **{"size": SIZE, "num_frames": 12, **options})


def trajectory(label: str, seed: int, num_frames: int = 12):
    """Motion from frame to frame: of the centre (row, column), on a frame whose borders meet, of radius and angle."""
    centers, radii, angles = _trajectory(label, np.random.default_rng(seed), SIZE, num_frames)
    moved = (np.diff(centers, axis=0) + SIZE / 2) % SIZE - SIZE / 2
    return moved, np.diff(radii), np.diff(angles)


@pytest.mark.parametrize("difficulty", DIFFICULTIES)
def test_a_video_is_uint8_and_repeats_with_its_seed(difficulty):
    video = drawn("left", difficulty=difficulty)
    assert (video.shape, video.dtype) == ((12, SIZE, SIZE, 3), np.uint8)
    assert np.array_equal(video, drawn("left", difficulty=difficulty))
    assert not np.array_equal(video, drawn("left", seed=1, difficulty=difficulty))


@pytest.mark.parametrize("difficulty", DIFFICULTIES)
@pytest.mark.parametrize("seed", range(4))
def test_classes_begin_alike_and_go_apart(difficulty, seed):
    videos = [drawn(label, seed, difficulty=difficulty) for label in CLASSES]
    assert len(videos) == 8
    assert all(np.array_equal(video[0], videos[0][0]) for video in videos)
    assert all(not np.array_equal(a[3], b[3]) for i, a in enumerate(videos) for b in videos[:i])


@pytest.mark.parametrize(
    ("label", "rows", "columns", "angle"),
    [
        ("left", 0, -1, 0),
        ("right", 0, 1, 0),
        ("up", -1, 0, 0),
        ("down", 1, 0, 0),
        ("clockwise", 0, 0, 1),
        ("counter_clockwise", 0, 0, -1),
        ("grow", 0, 0, 0),
        ("shrink", 0, 0, 0),
    ],
)
@pytest.mark.parametrize("seed", range(5))
def test_motion_is_the_one_named(label, rows, columns, angle, seed):
    moved, growth, turned = trajectory(label, seed)
    assert (np.sign(moved.round(6)) == [rows, columns]).all()
    assert (np.sign(turned) == angle).all()
    # Of 11 steps at most one goes back to the other end of the range.
    grown = np.sign(growth.round(6))
    assert {"grow": (grown == 1).sum() >= 10, "shrink": (grown == -1).sum() >= 10}.get(label, (grown == 0).all())


def circular_mean(weights: np.ndarray) -> float:
    """The middle of what is on a ring of pixels, in pixels."""
    angle = 2 * math.pi * np.arange(len(weights)) / len(weights)
    return np.angle((weights * np.exp(1j * angle)).sum()) * len(weights) / (2 * math.pi)


@pytest.mark.parametrize(("label", "step"), [("left", (0, -1)), ("right", (0, 1)), ("up", (-1, 0)), ("down", (1, 0))])
def test_motion_can_be_seen_in_the_pixels(label, step):
    video = drawn(label, seed=2).astype(float).mean(axis=3)
    brightness = video - np.median(video)  # the shape is brighter than the background
    places = np.array([[circular_mean(frame.sum(axis=axis)) for axis in (1, 0)] for frame in brightness])
    moved = (np.diff(places, axis=0) + SIZE / 2) % SIZE - SIZE / 2
    assert np.abs(moved.mean(axis=0) - 0.0375 * SIZE * np.array(step)).max() < 0.0075 * SIZE + 0.1


def test_a_growing_angle_turns_clockwise():
    bar = _coverage("bar", np.array([16.0, 16.0]), radius=8, angle=math.pi / 4, size=32)
    assert bar[20, 20] == bar[12, 12] == 1  # from horizontal, its right end went down
    assert bar[12, 20] == bar[20, 12] == 0


@pytest.mark.parametrize("shape", SHAPES)
def test_shapes_turn_and_go_over_the_border(shape):
    center = np.array([16.0, 16.0])
    level, slanted, turned = (_coverage(shape, center, 8, angle, 32) for angle in (0, 0.7, math.pi / 2))
    assert slanted.sum() == pytest.approx(level.sum(), rel=0.05)
    assert level.min() == 0 and level.max() == 1
    assert np.abs(level - turned).sum() > 0.25 * level.sum()
    over_the_border = _coverage(shape, np.array([0.0, 0.0]), 8, 0, 32)
    np.testing.assert_allclose(np.roll(over_the_border, (16, 16), axis=(0, 1)), level, atol=1e-9)


def test_written_videos_come_back(tmp_path):
    video = drawn("right")
    write_video(tmp_path / "clip.mp4", video, fps=10)
    seen = []
    frames = read_frames(tmp_path / "clip.mp4", lambda info: seen.append(info) or range(info.num_frames)).numpy()
    assert seen[0].fps == 10
    assert frames.shape == video.shape
    assert np.abs(frames.astype(float) - video).mean() < 4


def test_draw_dataset(tmp_path):
    folder = tmp_path / "drawn" / "train"
    synthesise_dataset(folder, videos_per_class=2, seed=5, size=16, num_frames=6, workers=1)
    assert sorted(path.name for path in folder.iterdir()) == list(CLASSES)
    files = sorted(folder.rglob("*.mp4"))
    assert len(files) == 16
    assert [path.parent.name for path in files] == [label for label in CLASSES for _ in range(2)]
    clips = [read_frames(path, lambda info: range(info.num_frames)).numpy() for path in files]
    assert {clip.shape for clip in clips} == {(6, 16, 16, 3)}
    expected = synthesise_video("down", np.random.default_rng((5, CLASSES.index("down"), 1)), size=16, num_frames=6)
    assert np.abs(clips[files.index(folder / "down" / "down_00001.mp4")].astype(float) - expected).mean() < 8
    assert [path.name for path in folder.parent.iterdir()] == ["train"]  # nothing half done is left behind


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"folder": "there"}, "there exists already; give another folder or remove it"),
        ({"difficulty": "hard"}, "difficulty='hard' is unknown; choose one of plain, textured, moving"),
        ({"size": 33}, "size=33 must be even"),
        ({"size": 8}, "size=8 must be even .* and at least 16"),
    ],
)
def test_draw_dataset_refuses(tmp_path, options, message):
    (tmp_path / "there").mkdir()
    options = {"folder": "new", **options}
    with pytest.raises(ValueError, match=message):
        synthesise_dataset(tmp_path / options.pop("folder"), videos_per_class=1, **options)
    assert [path.name for path in tmp_path.iterdir()] == ["there"]

"""The look at the data before a training: what it says, and what it refuses."""

import os
from pathlib import Path

import pytest
import torch
from helpers.indexed_video import write_indexed_video
from helpers.shared import TINY
from PIL import Image
from torch.utils.data import DataLoader

from videomae_hf import VideoMAEV2Config
from videomae_hf.data import checks
from videomae_hf.data.checks import check_data
from videomae_hf.data.clips import ClipSampler, FinetuneTransform
from videomae_hf.data.sources.folders_and_lists import VideoRecord
from videomae_hf.data.video_dataset import VideoDataset


CLASSES = ["jump", "run", "sit"]
SAMPLING = [ClipSampler(4, sampling_rate=1)]


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    """4.mp4, 8.mp4, 12.mp4 and 20.mp4 of so many frames, bad.mp4, and images, a folder of 6."""
    folder = tmp_path_factory.mktemp("videos")
    for count in (4, 8, 12, 20):
        write_indexed_video(folder / f"{count}.mp4", count)
    (folder / "bad.mp4").write_bytes(b"no video")
    (folder / "images").mkdir()
    for number in range(6):
        Image.new("RGB", (8, 8)).save(folder / "images" / f"{number}.png")
    return folder


def samples(folder: Path, *names_labels) -> list[VideoRecord]:
    return [VideoRecord(str(folder / name), label) for name, label in names_labels]


def test_what_it_says(folder):
    videos = samples(folder, ("8.mp4", 1), ("bad.mp4", 1), ("4.mp4", 0), ("20.mp4", 1), ("12.mp4", 1))
    lines = check_data(videos, CLASSES, SAMPLING, batch_size=5)
    assert lines[:3] == [
        "5 videos of 3 classes",
        "videos per class: 1 (jump) to 4 (run)",
        "classes without videos: sit",
    ]
    assert lines[3].startswith(f"1 of 5 checked videos cannot be read; the first: {folder}/bad.mp4 cannot be decoded")
    assert lines[4] == (
        "frames of the 4 checked videos: 4 to 20, median 12; the shortest: "
        f"{folder}/4.mp4 (4), {folder}/8.mp4 (8), {folder}/12.mp4 (12)"
    )
    assert len(lines) == 5


def test_a_video_with_two_labels(folder, monkeypatch):
    """However its path is written; twice with the same label, or in other parts, it is no contradiction."""
    monkeypatch.chdir(folder)
    here = str(folder / "8.mp4")
    videos = [VideoRecord("8.mp4", 0), VideoRecord(here, 2), VideoRecord("12.mp4", 1), VideoRecord("12.mp4", 1)]
    warning = "WARNING: 1 video is listed more than once with different labels, such as " + here + ": jump and sit"
    assert check_data(videos, CLASSES, SAMPLING)[2] == warning
    assert warning not in check_data(videos[1:], CLASSES, SAMPLING)
    parts = [VideoRecord("20.mp4", number, start_frame=4 * number, end_frame=4 * number + 4) for number in range(3)]
    assert not any("different labels" in line for line in check_data(parts, CLASSES, SAMPLING))
    several = [VideoRecord(here, (0, 1)), VideoRecord(here, (1,))]
    assert check_data(several, CLASSES, SAMPLING)[3].endswith("8.mp4: jump, run and run")


def test_without_labels_and_with_several(folder):
    lines = check_data(samples(folder, ("8.mp4", None), ("images", None)), [], SAMPLING)
    assert lines == [
        "2 videos",
        f"frames of the 2 checked videos: 6 to 8, median 8; the shortest: {folder}/images (6), {folder}/8.mp4 (8)",
    ]
    lines = check_data(samples(folder, ("8.mp4", (0, 2)), ("4.mp4", (2,)), ("12.mp4", ())), CLASSES, SAMPLING)
    assert lines[:3] == [
        "3 videos of 3 classes",
        "videos per class: 1 (jump) to 2 (sit)",
        "classes without videos: run",
    ]


def test_many_videos_are_looked_at_here_and_there(folder, monkeypatch):
    looked_at, real_look = [], checks._look

    def look(sample, sampling):
        looked_at.append(int(sample.path))
        return real_look(VideoRecord(str(folder / "8.mp4")), sampling)

    monkeypatch.setattr(checks, "_look", look)
    lines = check_data([VideoRecord(str(number), number % 3) for number in range(1000)], CLASSES, SAMPLING)
    assert sorted(looked_at) == sorted([*range(0, 1000, 5), 0, 1, 2])  # 200 of them, and the first of each class
    assert lines[-1].startswith("frames of the 200 checked videos: 8 to 8, median 8; ")


def test_fewer_videos_than_a_step_takes(folder):
    videos = samples(folder, ("8.mp4", 0), ("12.mp4", 0))
    assert check_data(videos, ["jump"], SAMPLING, batch_size=2)[0] == "2 videos of 1 classes"
    with pytest.raises(ValueError, match="There are 2 videos, fewer than the 3 of one step; lower per_device_train_ba"):
        check_data(videos, ["jump"], SAMPLING, batch_size=3)


@pytest.mark.parametrize(
    ("names_labels", "message"),
    [
        (
            [("8.mp4", 0), ("bad.mp4", 1), ("no.mp4", 1)],
            r"Class 'run' has no readable video \(2 tried\); the first: .*bad",
        ),
        ([("bad.mp4", 1)] * 20 + [("8.mp4", 1)], r"Class 'run' has no readable video \(20 tried\)"),
        ([("8.mp4", (0,)), ("bad.mp4", (0, 1))], r"Class 'run' has no readable video \(1 tried\)"),
        (
            [("bad.mp4", None), ("no.mp4", None)],
            r"The data set has no readable video \(2 tried\); the first: .*bad.mp4",
        ),
    ],
)
def test_classes_without_a_readable_video(folder, names_labels, message):
    labelled = names_labels[0][1] is not None
    with pytest.raises(ValueError, match=message):
        check_data(samples(folder, *names_labels), CLASSES if labelled else [], SAMPLING)


def test_a_readable_video_after_19_bad_ones_will_do(folder):
    videos = samples(folder, *[("bad.mp4", 0)] * 19, ("8.mp4", 0))
    assert "19 of 20 checked videos cannot be read" in check_data(videos, ["jump"], SAMPLING)[2]


def test_clips_longer_than_every_video(folder):
    videos = samples(folder, ("8.mp4", 0), ("20.mp4", 0))
    fits = [ClipSampler(4, sampling_rate=6), ClipSampler(4, sampling_rate=7)]  # 19 and 22 frames
    check_data(videos, ["jump"], fits[:1])
    message = (
        r"num_frames=4 at sampling_rate=7 spans 22 frames, more than any of the 2 checked videos has "
        r"\(the longest: 20\); use fewer or closer frames"
    )
    with pytest.raises(ValueError, match=message):
        check_data(videos, ["jump"], fits[1:])
    check_data(videos, ["jump"], [ClipSampler(32, frame_sampling="uniform")])
    # At 25 frames a second the last of 20 frames comes after 0.76 seconds.
    check_data(videos, ["jump"], [ClipSampler(4, fps=4)])
    with pytest.raises(ValueError, match=r"at fps=3.8 spans 0.789\d* seconds, .*\(the longest: 0.76\)"):
        check_data(videos, ["jump"], [ClipSampler(4, fps=3.8)])


def test_each_source_has_its_own_limit(folder):
    first, second = samples(folder, ("20.mp4", 0), ("8.mp4", 0))
    sources = [first, VideoRecord(second.path, 0, source=1)]
    check_data(sources, ["jump"], [ClipSampler(4, sampling_rate=6), ClipSampler(4, sampling_rate=2)])
    with pytest.raises(ValueError, match=r"more than any of the 1 checked videos has \(the longest: 8\)"):
        check_data(sources, ["jump"], [ClipSampler(4, sampling_rate=2), ClipSampler(4, sampling_rate=6)])


def test_a_rate_by_time_of_images_that_have_none(folder):
    with pytest.raises(ValueError, match="no readable video .*fps=8 needs a video with a known frame rate"):
        check_data(samples(folder, ("images", 0)), ["jump"], [ClipSampler(4, fps=8)])


def test_a_template_that_fits_no_image(folder):
    sampling = [ClipSampler(4, sampling_rate=1, frame_template="img_{:05}.jpg")]
    with pytest.raises(ValueError, match=r"no readable video \(1 tried\); the first: .*holds no image \(img_"):
        check_data(samples(folder, ("images", 0)), ["jump"], sampling)


def test_the_first_three_bad_videos_are_named(folder):
    for count in (2, 5):
        names = [f"no{number}.mp4" for number in range(count)]
        line = check_data(samples(folder, ("8.mp4", 0), *[(name, 0) for name in names]), ["jump"], SAMPLING)[2]
        assert line.startswith(f"{count} of {count + 1} checked videos cannot be read; the first: ")
        assert [name for name in names if name in line] == names[:3]
        assert line.endswith(
            "; `videomae scan DATA --fix_list good.csv` finds all of them and writes a list without them"
        )


def test_channels_that_do_not_fit_the_model(folder):
    videos = samples(folder, ("8.mp4", 0), ("images", 0))
    assert len(check_data(videos, ["jump"], [ClipSampler(4, sampling_rate=1, num_channels=1)])) == 3
    message = (
        "no readable video .*8.mp4 cannot be decoded: .*its frames have 3 channels, but num_channels=4 is requested"
    )
    with pytest.raises(ValueError, match=message):
        check_data(videos, ["jump"], [ClipSampler(4, sampling_rate=1, num_channels=4)])


def test_frames_larger_than_allowed(folder):
    with pytest.raises(
        ValueError, match="no readable video .*its frames have 128 x 96 pixels, more than max_pixels=99"
    ):
        check_data(samples(folder, ("8.mp4", 0)), ["jump"], [ClipSampler(4, sampling_rate=1, max_pixels=99)])


def test_nothing_is_left_open_that_a_forked_worker_would_wait_for(folder):
    videos = samples(folder, *[(f"{count}.mp4", 0) for count in (4, 8, 12, 20)] * 8, ("bad.mp4", 0))
    before = set(os.listdir("/proc/self/fd")) if Path("/proc/self/fd").is_dir() else None
    check_data(videos, ["jump"], SAMPLING)
    if before is not None:
        assert set(os.listdir("/proc/self/fd")) == before
    dataset = VideoDataset(videos, FinetuneTransform(VideoMAEV2Config(**TINY), SAMPLING[0]))
    loader = DataLoader(dataset, batch_size=None, num_workers=2, multiprocessing_context="fork", timeout=120)
    assert len([item for item in loader if isinstance(item["pixel_values"], torch.Tensor)]) == 33

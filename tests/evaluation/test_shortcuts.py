"""Features of the shortcut classifiers, and what they find."""

import sys

import numpy as np
import pytest
from helpers.encoded_videos import write_frames

from videomae_hf.data.sources.records import VideoRecord
from videomae_hf.evaluation.shortcuts import file_metadata, mean_colour, shortcut_result


def write_plain(path, colour=(120, 60, 200), number: int = 10, **options):
    frames = np.broadcast_to(np.array(colour, np.uint8), (number, 32, 48, 3)).copy()
    write_frames(path, frames, options=options)
    return path


def test_metadata_are_those_of_the_header(tmp_path):
    path = write_plain(tmp_path / "a.mp4", number=50)
    found = file_metadata(VideoRecord(str(path)))
    size = path.stat().st_size
    assert found == {
        "bytes": size, "duration": 2.0, "part": -1.0, "frame_rate": 25.0, "bit_rate": size * 4, "codec": "h264",
        "container": "mov,mp4,m4a,3gp,3g2,mj2", "width": 48, "height": 32,
    }  # fmt: skip
    assert file_metadata(VideoRecord("in_memory", content=path.read_bytes())) == found
    assert file_metadata(VideoRecord(str(path), start=0.5, end=1.25))["part"] == 0.75


def test_files_without_a_header_are_refused(tmp_path):
    (tmp_path / "bad.mp4").write_bytes(b"no video")
    for name in ("bad.mp4", "missing.mp4", "."):
        with pytest.raises(ValueError, match="Invalid data|no video file"):
            file_metadata(VideoRecord(str(tmp_path / name)))
    with pytest.raises(ValueError, match="no video file on this machine"):
        file_metadata(VideoRecord("http://127.0.0.1:9/a.mp4"))  # and nothing is fetched


def test_mean_colour(tmp_path):
    np.save(
        tmp_path / "a.npy", np.stack([np.full((8, 8, 3), (10, 20, 30), np.uint8), np.full((8, 8, 3), 50, np.uint8)])
    )
    found = mean_colour(VideoRecord(str(tmp_path / "a.npy")))
    assert found == pytest.approx({
        "mean_red": 30, "mean_green": 35, "mean_blue": 40,
        "deviation_red": 20, "deviation_green": 15, "deviation_blue": 10,
    })  # fmt: skip


@pytest.fixture(scope="module")
def coloured(tmp_path_factory):
    """Thirty videos of two classes, dark and light, with one damaged file; files alike but for their colour."""
    folder, records = tmp_path_factory.mktemp("coloured"), []
    for number in range(30):
        label = number % 2
        path = write_plain(folder / f"{number}.mp4", (40 + 150 * label + number,) * 3)
        records.append(VideoRecord(str(path), label))
    (folder / "4.mp4").write_bytes(b"no video")
    return records


def test_a_classifier_on_colour_finds_it_and_names_what_it_lacks(coloured):
    result = shortcut_result("colour", coloured[:24], coloured[24:])
    assert result.predicted.tolist() == [0, 1] * 3
    assert (result.train_videos, result.train_unreadable, result.problem) == (23, 1, None)
    result = shortcut_result("colour", coloured[6:], coloured[3:6])
    assert result.predicted.tolist() == [1, -1, 1]


def test_names_become_columns_and_unknown_ones_are_nothing(tmp_path):
    """Codec and container tell the classes; the evaluation has a container that the training does not know."""
    train = [VideoRecord(str(write_plain(tmp_path / f"{n}.{('mp4', 'mkv')[n % 2]}")), n % 2) for n in range(20)]
    evaluated = [VideoRecord(str(write_plain(tmp_path / name)), 0) for name in ("a.mp4", "b.mkv", "c.avi")]
    assert shortcut_result("metadata", train, evaluated).predicted[:2].tolist() == [0, 1]


def test_reasons_why_there_is_none(coloured, monkeypatch):
    assert "19 training videos are too few; at least 20" in shortcut_result("colour", coloured[:19], coloured).problem
    images = [VideoRecord("folder", number % 2) for number in range(20)]
    assert "only 0 of 20 training videos" in shortcut_result("metadata", images, images).problem
    monkeypatch.setitem(sys.modules, "sklearn.ensemble", None)
    assert "pip install 'videomae_hf[few-shot]'" in shortcut_result("colour", coloured, coloured).problem

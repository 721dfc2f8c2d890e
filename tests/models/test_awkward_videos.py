"""Problem files of other projects (../shared/data/awkward): what a full decode gives, or a clear error."""

import csv
import random

import av
import numpy as np
import pytest
from av.video.reformatter import VideoReformatter
from helpers.shared import SHARED

from videomae_hf.models.video_decoding import VideoDecodeError, read_frames


AWKWARD = SHARED / "data" / "awkward"
EXPECTED = AWKWARD / "EXPECTED.tsv"
ROWS = list(csv.DictReader(EXPECTED.open(), delimiter="\t")) if EXPECTED.is_file() else []
LARGE = 1280 * 720


def full_decode(path, indices) -> dict[int, np.ndarray]:
    """{index: RGB frame}, upright, of a decode from the start up to the last of the indices."""
    reformatter, frames = VideoReformatter(), {}
    options = {"metadata_errors": "ignore"} if int(av.__version__.split(".")[0]) < 19 else {}
    with av.open(str(path), **options) as container:
        stream = container.streams.best("video")
        stream.codec_context.thread_count = 1
        for index, frame in enumerate(container.decode(stream)):
            if index in indices:
                picture = reformatter.reformat(frame, format="rgb24").to_ndarray()
                frames[index] = np.rot90(picture, k=round(frame.rotation / 90) % 4)
            if index == max(indices):
                return frames
    raise AssertionError(f"{path} ended before frame {max(indices)}")


@pytest.mark.parametrize("row", [row for row in ROWS if row["verdict"] == "decodes"], ids=lambda row: row["file"])
def test_frames_are_those_of_a_full_decode(row):
    path, count, draw = AWKWARD / row["file"], int(row["frames"]), random.Random(row["file"])
    large = int(row["height"]) * int(row["width"]) >= LARGE
    indices = draw.choices(range(count), k=4 if large else 16)  # in any order, with repeats
    clips = [[0, count - 1, *indices, indices[0]], sorted(indices)[:3]]
    expected = full_decode(path, {index for clip in clips for index in clip})
    for clip in clips:
        seen = []
        frames = read_frames(path, lambda info, clip=clip, seen=seen: seen.append(info) or clip)
        assert seen[-1].num_frames == count
        assert frames.shape == (len(clip), int(row["height"]), int(row["width"]), 3)
        assert [index for index, frame in zip(clip, frames) if not np.array_equal(frame, expected[index])] == []


@pytest.mark.parametrize("row", [row for row in ROWS if row["verdict"] != "decodes"], ids=lambda row: row["file"])
def test_damaged_files(row):
    path = AWKWARD / row["file"]
    if row["verdict"] == "partial":
        good = list(range(0, int(row["frames"]), 5))
        expected = full_decode(path, set(good))
        assert np.array_equal(read_frames(path, good), np.stack([expected[index] for index in good]))
    with pytest.raises(VideoDecodeError, match=row["file"]):
        read_frames(path, lambda info: range(info.num_frames))
    with pytest.raises(VideoDecodeError, match=f"<{path.stat().st_size} bytes>"):
        read_frames(path.read_bytes(), lambda info: range(info.num_frames))

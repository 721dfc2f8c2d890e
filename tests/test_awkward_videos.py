"""Problem files of other projects (../shared/data/awkward): what a full decode gives, or a clear error."""

import csv

import pytest
from conftest import SHARED

from videomae_hf.video_decoding import VideoDecodeError, read_frames


AWKWARD = SHARED / "data" / "awkward"
EXPECTED = AWKWARD / "EXPECTED.tsv"
ROWS = list(csv.DictReader(EXPECTED.open(), delimiter="\t")) if EXPECTED.is_file() else []


@pytest.mark.parametrize("row", ROWS, ids=[row["file"] for row in ROWS])
def test_awkward_files(row):
    path = AWKWARD / row["file"]
    if row["verdict"] == "decodes":
        seen = []
        frames = read_frames(path, lambda info: seen.append(info) or [0, info.num_frames - 1])
        assert seen[-1].num_frames == int(row["frames"])
        assert frames.shape == (2, int(row["height"]), int(row["width"]), 3)
        return
    if row["verdict"] == "partial":
        assert len(read_frames(path, [0])) == 1
    with pytest.raises(VideoDecodeError, match=row["file"]):
        read_frames(path, lambda info: range(info.num_frames))

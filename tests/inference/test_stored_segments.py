"""Features of segments from a folder of features: which rows a video and a part of it have."""

import numpy as np
import pytest
import torch

from videomae_hf.data.sources.records import VideoRecord
from videomae_hf.inference.feature_folder import FeatureFolder, FeatureWriter
from videomae_hf.inference.inputs import Input
from videomae_hf.inference.stored_segments import StoredSegments
from videomae_hf.models.video_decoding import VideoSegment
from videomae_hf.models.video_sources import VideoDecodeError


FIELDS = {"key": "k", "model": "m", "dtype": "float32", "processor": {}, "weights": "w", "windows": {"length": 2}}


def write(path, videos: list[Input], values: torch.Tensor, kind: str = "pooled", layout: str = "safetensors"):
    """Features of windows of two seconds, at ten frames a second, that follow each other, the same for all videos."""
    writer = FeatureWriter(path, {**FIELDS, "layout": layout, "features": kind, "shape": list(values.shape[1:])})
    writer.plan(videos)
    for one in videos:
        file, starts = writer.open(one), np.arange(len(values))[:, None] * 2
        file.add(values, (starts + [0, 2]).astype(float), starts * 10 + [0, 20])
        writer.add(one, file)
    writer.finish()
    return FeatureFolder(path)


def whole(name: str) -> Input:
    return Input(f"/videos/{name}", "", name)


def test_a_part_has_the_windows_with_their_middle_in_it(tmp_path):
    values = torch.arange(10.0).view(5, 2)  # of seconds 0 to 10
    folder = write(tmp_path / "f", [whole("a.mp4")], values)
    path = "/videos/a.mp4"
    records = [
        VideoRecord(path),
        VideoRecord(path, start=1.5, end=7),  # middles 1, 3, 5, 7 and 9
        VideoRecord(path, start=8.0),
        VideoRecord(path, start_frame=0, end_frame=11),
        VideoRecord(path, start=9.5),
        VideoRecord("/videos/b.mp4"),
    ]
    segments = StoredSegments(folder, records, 1)
    assert segments.missing == ["/videos/b.mp4"]
    assert torch.equal(segments(0), values[:, None])
    assert torch.equal(segments(1), values[1:3, None])
    assert torch.equal(segments(2), values[4:, None])
    assert torch.equal(segments(3), values[:1, None])
    with pytest.raises(VideoDecodeError, match="no window with its middle in this part"):
        segments(4)
    with pytest.raises(VideoDecodeError, match="no features of this video"):
        segments(5)
    rows = torch.cat([values, values[1:3], values[4:], values[:1]])
    mean, std = segments.moments()
    torch.testing.assert_close(mean, rows.mean(dim=0))
    torch.testing.assert_close(std, rows.std(dim=0, correction=0))


def test_an_extracted_part_has_its_own_features(tmp_path):
    part = VideoSegment("/videos/a.mp4", 2.0, 5.0)
    values = torch.arange(6.0).view(3, 2)
    folder = write(tmp_path / "f", [Input("/videos/a.mp4 [2 to 5 s]", part, "a.mp4")], values)
    records = [VideoRecord("/videos/a.mp4", start=2.0, end=5.0), VideoRecord("/videos/a.mp4", start=2.0, end=6.0)]
    segments = StoredSegments(folder, records, 1)
    assert torch.equal(segments(0), values[:, None])
    assert segments.missing == ["/videos/a.mp4 [2 to 6 s]"]


def test_maps_become_places_and_a_constant_value_has_deviation_1(tmp_path):
    maps = torch.randn(3, 2, 2, 2, 2, generator=torch.Generator().manual_seed(0))  # (N, T', H', W', F)
    maps[..., 1] = 3
    folder = write(tmp_path / "f", [whole("a.mp4")], maps, "maps")
    segments = StoredSegments(folder, [VideoRecord("/videos/a.mp4")], 4)
    torch.testing.assert_close(segments(0), maps.mean(dim=1).flatten(1, 2))
    assert segments.moments()[1][1] == 1
    with pytest.raises(ValueError, match="features=pooled, of which tokens_per_segment=4 cannot be made"):
        StoredSegments(write(tmp_path / "g", [whole("a.mp4")], torch.zeros(1, 2)), [VideoRecord("/videos/a.mp4")], 4)


@pytest.mark.parametrize(
    ("header", "message"),
    [
        ({"views": "all", "num_clips": 2, "num_crops": 1}, "a row for each view of a segment"),
        ({"windows": None}, "one feature for each whole video"),
    ],
)
def test_rows_that_are_no_segments(tmp_path, header, message):
    folder = write(tmp_path / "f", [whole("a.mp4")], torch.zeros(1, 2))
    folder.header.update(header)
    with pytest.raises(ValueError, match=message):
        StoredSegments(folder, [VideoRecord("/videos/a.mp4", start=1.0)], 1)


def test_none_of_the_videos_and_no_times(tmp_path):
    folder = write(tmp_path / "f", [whole("a.mp4")], torch.zeros(1, 2))
    with pytest.raises(ValueError, match="features of none of the 1 videos, such as /videos/b.mp4; extract them"):
        StoredSegments(folder, [VideoRecord("/videos/b.mp4")], 1)
    tad = write(tmp_path / "g", [whole("a.mp4")], torch.zeros(1, 2), layout="tad")
    with pytest.raises(ValueError, match="layout tad, without the times of windows"):
        StoredSegments(tad, [VideoRecord("/videos/a.mp4", start=1.0)], 1)

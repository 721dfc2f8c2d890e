"""Search in folders of features: exact cosines, moments that do not overlap, and pictures of what was found."""

import importlib.util

import numpy as np
import pytest
import torch
from helpers.trained_models import write_three_motions
from PIL import Image

from videomae_hf import VideoMAEV2ImageProcessor, VideoSegment
from videomae_hf.inference import search as search_module
from videomae_hf.inference.contact_sheet import Strip, save_contact_sheet, video_of
from videomae_hf.inference.feature_folder import FeatureFolder, FeatureWriter
from videomae_hf.inference.inputs import Input
from videomae_hf.inference.search import Index, Query, unit_rows


HEADER = {"key": "k", "model": "m", "features": "pooled", "shape": [2], "dtype": "float32", "layout": "safetensors"}
HEADER |= {"processor": {}, "weights": "w", "windows": {"length": 16, "stride": 4, "unit": "f"}}


def folder_of(path, videos: dict[str, list[list[float]]], **header) -> FeatureFolder:
    """A folder of videos with these rows; windows of 2 seconds, 1 second apart."""
    writer = FeatureWriter(path, {**HEADER, **header})
    inputs = [Input(name, f"/none/{name}", name) for name in videos]
    writer.plan(inputs)
    for one in inputs:
        rows, file = torch.tensor(videos[one.name], dtype=torch.float32), writer.open(one)
        starts = np.arange(len(rows), dtype=np.float64)
        file.add(rows, np.stack([starts, starts + 2], axis=1), np.zeros((len(rows), 2), int))
        writer.add(one, file)
    writer.finish()
    return FeatureFolder(path)


def query(*rows: list[float], name: str = "query") -> Query:
    return Query(name, np.array(rows, np.float32), np.array([[i, i + 1.0] for i in range(len(rows))]))


VIDEOS = {"a.mp4": [[3, 4]], "b/a.mp4": [[0, 2]], "b/c.mp4": [[1, 0]], "d.mp4": [[-5, 0]]}


def test_cosine_similarities(tmp_path):
    index = Index(folder_of(tmp_path, VIDEOS))
    found = index.search(query([10, 0]))
    assert [(one.path, round(one.similarity, 6)) for one in found] == [
        ("b/c.mp4", 1.0),
        ("a.mp4", 0.6),
        ("b/a.mp4", 0.0),
        ("d.mp4", -1.0),
    ]
    # Two rows of the query: a part is as similar as the row that it resembles most.
    found = index.search(query([10, 0], [-1, 0]), top_k=2)
    assert {(one.path, one.similarity, one.query_start) for one in found} == {("b/c.mp4", 1, 0), ("d.mp4", 1, 1)}


def test_a_query_by_its_name(tmp_path):
    index = Index(folder_of(tmp_path, VIDEOS))
    known = index.query_of("c.mp4")
    assert known.name == "b/c.mp4" and known.values.tolist() == [[1, 0]]
    assert "b/c.mp4" not in [one.path for one in index.search(known)]  # the query itself
    assert index.query_of("a.mp4").name == "a.mp4"  # a whole path comes first
    assert index.query_of("none.mp4") is None and index.query_of("4") is None
    (tmp_path / "more").mkdir()
    twice = Index(folder_of(tmp_path / "more", {"x/a.mp4": [[1, 0]], "y/a.mp4": [[1, 0]]}))
    with pytest.raises(ValueError, match=r"a.mp4 may be x/a.mp4 or y/a.mp4 of .*; give more of the path"):
        twice.query_of("a.mp4")


def test_windows_that_overlap_are_one_moment(tmp_path):
    rows = [[1, 0], [1, 0.1], [1, 0.2], [0, 1], [1, 0.3]]  # from 0, 1, 2, 3 and 4 seconds, 2 seconds each
    index = Index(folder_of(tmp_path, {"a.mp4": rows, "b.mp4": [[1, 0.05]]}))
    found = index.search(query([1, 0]), top_k=4)
    assert [(one.path, one.start, one.end) for one in found] == [
        ("a.mp4", 0, 2),
        ("b.mp4", 0, 2),
        ("a.mp4", 2, 4),
        ("a.mp4", 4, 6),
    ]


def test_times_in_the_detection_layout(tmp_path):
    """Its files have no times: windows of 16 frames, 4 apart, in a video of 20 frames and 2 seconds."""
    writer = FeatureWriter(tmp_path, {**HEADER, "layout": "tad"})
    one = Input("a.mp4", "/none", "a.mp4")
    writer.plan([one])
    file = writer.open(one)
    file.add(torch.eye(2), np.array([[0, 1.6], [0.4, 2.0]]), np.array([[0, 16], [4, 20]]))
    writer.add(one, file)
    writer.finish()
    np.testing.assert_allclose(Index(FeatureFolder(tmp_path)).times, [[0, 1.6], [0.4, 2.0]])


def test_rows_of_many_videos_are_kept(tmp_path, monkeypatch):
    monkeypatch.setattr(search_module, "_KEPT_VIDEOS", 3)
    folder = folder_of(tmp_path, VIDEOS)
    first = Index(folder)
    assert len(list(tmp_path.glob("rows-*.npy"))) == len(list(tmp_path.glob("times-*.npy"))) == 1
    monkeypatch.setattr(FeatureFolder, "load", None)  # not read again
    again = Index(FeatureFolder(tmp_path))
    assert np.array_equal(first.rows, again.rows) and again.search(query([1, 0])) == first.search(query([1, 0]))
    monkeypatch.undo()
    monkeypatch.setattr(search_module, "_KEPT_VIDEOS", 3)
    grown = Index(folder_of(tmp_path, {**VIDEOS, "e.mp4": [[1, 1]]}))
    assert len(grown.rows) == 5 and len(list(tmp_path.glob("rows-*.npy"))) == 1


def test_mistakes(tmp_path):
    index = Index(folder_of(tmp_path / "good", VIDEOS))
    with pytest.raises(ValueError, match="top_k=0 must be at least 1"):
        index.search(query([1, 0]), 0)
    with pytest.raises(ValueError, match="The query has 3 values, but the rows 2"):
        index.search(query([1, 0, 0]))
    with pytest.raises(ValueError, match="has no features yet"):
        Index(folder_of(tmp_path / "empty", {}))
    with pytest.raises(ValueError, match="has tokens, but a search needs pooled features"):
        Index(folder_of(tmp_path / "tokens", {}, features="tokens"))


def test_usearch_finds_the_same(tmp_path, monkeypatch):
    pytest.importorskip("usearch")
    rows = unit_rows(np.random.default_rng(0).normal(size=(500, 16)))
    wanted = unit_rows(np.random.default_rng(1).normal(size=(3, 16)))
    ours, theirs = search_module._exact(rows, wanted, 20), search_module._usearch(rows, wanted, 20)
    order = np.argsort(-ours[1])
    assert ours[0][order].tolist() == theirs[0].tolist() and ours[2][order].tolist() == theirs[2].tolist()
    np.testing.assert_allclose(ours[1][order], theirs[1], atol=1e-5)


def test_a_large_index_without_usearch_says_so(tmp_path, monkeypatch):
    monkeypatch.setattr(search_module, "MANY_ROWS", 3)
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    index = Index(folder_of(tmp_path, VIDEOS))
    assert index.note() == "numpy compares 4 rows; usearch is faster: pip install 'videomae_hf[search]'"
    assert index.search(query([1, 0]), 1)[0].path == "b/c.mp4"


def test_a_contact_sheet(tmp_path):
    """The query, a moment of a video, and one that is gone; the frames are those of the moment."""
    path = str(write_three_motions(tmp_path / "a.mp4"))
    strips = [Strip(path, "query", path, 0, 2.4), Strip("1  " + path, "0.9", path, 0.8, 1.6)]
    strips.append(Strip("2  gone.mp4", "0.8", "gone.mp4", 0, 1))
    problems = save_contact_sheet(strips, VideoMAEV2ImageProcessor(), tmp_path / "sheet.png")
    assert problems == ["2  gone.mp4 is not shown: No video file gone.mp4"] or problems[0].startswith("2  gone.mp4 is")
    sheet = np.asarray(Image.open(tmp_path / "sheet.png"))
    assert sheet.shape[2] == 3 and (sheet != 255).any(axis=2).mean() > 0.05


def test_the_video_of_a_line_of_the_manifest():
    assert video_of({"path": "a.mp4"}) == "a.mp4"
    segment = {"path": "a.mp4 [1 to 2 s]", "segment": {"video": "a.mp4", "start": 1.0, "end": 2.0}}
    assert video_of(segment) == VideoSegment("a.mp4", 1.0, 2.0)

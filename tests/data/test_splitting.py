"""Dividing videos: groups stay whole, classes keep their shares, copies are found and other videos are not."""

from collections import Counter

import numpy as np
import pytest
import torch
from helpers.encoded_videos import pictures, write_encoded
from PIL import Image

from videomae_hf.data.near_duplicates import copies, fingerprint, fingerprints
from videomae_hf.data.sources.records import VideoRecord
from videomae_hf.data.splitting import balance_table, divide, groups_by_pattern, joined_groups


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def shares(parts: list[int], labels: list[tuple]) -> list[dict]:
    return [dict(Counter(some[0] for k, some in zip(parts, labels) if k == part)) for part in range(max(parts) + 1)]


def test_single_videos_are_divided_exactly():
    labels = [(name,) for name in "a" * 50 + "b" * 30 + "c" * 20]
    parts = divide(range(100), labels, [0.6, 0.2, 0.2], seeded())
    assert shares(parts, labels) == [{"a": 30, "b": 18, "c": 12}, {"a": 10, "b": 6, "c": 4}, {"a": 10, "b": 6, "c": 4}]
    assert parts == divide(range(100), labels, [0.6, 0.2, 0.2], seeded())
    assert parts != divide(range(100), labels, [0.6, 0.2, 0.2], seeded(1))


def test_groups_stay_whole_and_classes_keep_their_shares():
    """20 groups of 3 to 8 videos, each group mostly of one class."""
    rng = np.random.default_rng(0)
    groups, labels = [], []
    for group in range(20):
        for _ in range(rng.integers(3, 9)):
            groups.append(group)
            labels.append(("ab"[group % 2] if rng.random() < 0.8 else "c",))
    parts = divide(groups, labels, [0.8, 0.2], seeded())
    assert all(len({part for part, other in zip(parts, groups) if other == group}) == 1 for group in range(20))
    total, held_out = Counter(label for (label,) in labels), shares(parts, labels)[1]
    for label in "abc":
        assert 0.1 <= held_out[label] / total[label] <= 0.3, (label, held_out, total)


def test_small_classes_are_in_every_part():
    """Three videos of each of eight classes: a fifth of all would be five videos, and leave classes out."""
    labels = [(label,) for label in range(8) for _ in range(3)]
    parts = divide(range(24), labels, [0.8, 0.2], seeded())
    assert shares(parts, labels) == [{label: 2 for label in range(8)}, {label: 1 for label in range(8)}]
    # A class in a single group cannot be in two parts, and groups stay whole.
    labels, groups = [("a",)] * 6 + [("b",)] * 3, [0, 1, 2, 3, 4, 5, 6, 6, 6]
    parts = divide(groups, labels, [0.5, 0.25, 0.25], seeded())
    assert {part for part, label in zip(parts, labels) if label == ("a",)} == {0, 1, 2}
    assert len(set(parts[6:])) == 1


def test_several_labels_and_none():
    labels = [("a", "b"), ("a",), ("b",), ("a", "b")] * 10
    parts = divide(range(40), labels, [0.5, 0.5], seeded())
    for label in "ab":
        assert sum(part == 0 and label in some for part, some in zip(parts, labels)) == 15
    parts = divide(range(10), [()] * 10, [0.7, 0.3], seeded())
    assert Counter(parts) == {0: 7, 1: 3}
    with pytest.raises(ValueError, match="2 groups cannot be divided into 3 parts"):
        divide([0, 0, 1], [()] * 3, [0.4, 0.3, 0.3], seeded())


def test_groups_of_a_pattern():
    paths = ["x/set1_7_a.mp4", "x/set2_7_b.mp4"]
    assert groups_by_pattern(paths, r"set\d") == ["set1", "set2"]
    assert groups_by_pattern(paths, r"set(\d)_(\d)") == ["1|7", "2|7"]
    with pytest.raises(ValueError, match="matches nothing in 1 of 2 paths: x/set2_7_b.mp4"):
        groups_by_pattern(paths, "set1")
    with pytest.raises(ValueError, match="no regular expression"):
        groups_by_pattern(paths, "(")


def test_joining_groups_follows_chains():
    assert joined_groups(["a", "a", "b", "c", "d"], []) == [0, 0, 1, 2, 3]
    assert joined_groups(["a", "a", "b", "c", "d"], [(4, 2), (2, 1)]) == [0, 0, 0, 1, 0]


def test_the_table_counts_videos_and_groups():
    table = balance_table(["train", "val"], [0, 0, 1], [5, 5, 6], [("walk",), ("run",), ("run",)])
    assert table.splitlines() == [
        "        train  val",
        "run         1    1",
        "walk        1    0",
        "videos      2    1",
        "groups      1    1",
    ]


def test_copies_are_found_in_other_codecs_and_sizes_and_other_videos_are_not(tmp_path):
    frames = pictures(40)
    small = np.stack([np.asarray(Image.fromarray(frame).resize((96, 64))) for frame in frames])
    moved = frames.copy()
    moved[10:30, 40:60, 60:80] = 255 - moved[10:30, 40:60, 60:80]  # another person in the same place
    paths = [
        write_encoded(tmp_path / "original.mp4", "libx264", crf=18),
        write_encoded(tmp_path / "other.mp4", "libx264", frames=pictures(40, seed=1)),
        write_encoded(tmp_path / "copy.webm", "libvpx-vp9", frames=small),
        write_encoded(tmp_path / "moved.mp4", "libx264", frames=moved),
    ]
    broken = tmp_path / "broken.mp4"
    broken.write_bytes(b"no video")
    failed = []
    records = [VideoRecord(str(path)) for path in [*paths, broken]]
    found = list(fingerprints(records, lambda record, error: failed.append((record.path, str(error)))))
    assert copies(found) == [(0, 2)]
    assert found[4] is None and [path for path, _ in failed] == [str(broken)]
    assert fingerprint(records[0]).shape == (8, 16, 16)

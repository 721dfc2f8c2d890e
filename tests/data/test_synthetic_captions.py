"""Captions of synthesised videos: which combinations are held out, and what the videos show."""

import csv

import numpy as np

from videomae_hf.data.sources.synthetic_captions import (
    ATTRIBUTES,
    caption_of,
    combinations,
    synthesise_captioned,
    synthesise_captions,
    words_of,
)


def test_each_pair_of_words_is_in_training():
    train, test = (combinations(held_out=out) for out in (False, True))
    assert (len(train), len(test)) == (448, 64)
    assert not {caption_of(one) for one in train} & {caption_of(one) for one in test}
    for one in test:
        assert words_of(caption_of(one)) == one
    for name, words in ATTRIBUTES.items():
        assert {one[name] for one in train} == {one[name] for one in test} == set(words)
    for first in ATTRIBUTES:
        for second in set(ATTRIBUTES) - {first}:
            pairs = {(one[first], one[second]) for one in train}
            assert len(pairs) == len(ATTRIBUTES[first]) * len(ATTRIBUTES[second])


def test_videos_show_their_words(tmp_path):
    words = {"colour": "red", "shape": "disc", "motion": "grows", "background": "black"}
    video = synthesise_captioned(words, np.random.default_rng(0), 32, 8)
    assert video.shape == (8, 32, 32, 3) and video[..., 0].max() > 200 and video[..., 1:].max() < 100
    path = synthesise_captions(tmp_path / "test", 1, size=32, num_frames=4, held_out=True)
    rows = list(csv.DictReader(path.open()))
    assert len(rows) == 64 and all((path.parent / row["video"]).is_file() for row in rows)
    one = list(csv.DictReader((path.parent / "one_video.csv").open()))
    assert [row["caption"] for row in one] == [row["caption"] for row in rows]
    assert {row["video"] for row in one} == {rows[0]["video"]}

"""Metrics of videos and texts, by hand."""

import importlib.util

import numpy as np
import pytest

from videomae_hf import VideoBertProcessor, VideoMAEV2ImageProcessor
from videomae_hf.data.word_tokenizer import word_tokenizer
from videomae_hf.evaluation.video_text import (
    caption_scores,
    exact_match,
    masked_word_accuracy,
    retrieval_scores,
    top_k_words,
)
from videomae_hf.evaluation.video_text_scores import as_written


def test_retrieval():
    """Rows are videos. Text 0 finds its video second, texts 1 and 2 first; videos 0 and 2 find theirs first."""
    scores = np.array([[0.5, 0.1, 0.2], [0.9, 0.6, 0.3], [0.1, 0.2, 0.4]])
    found = retrieval_scores(scores, ks=(1, 2))
    assert found["text_to_video_recall@1"] == pytest.approx(2 / 3) and found["text_to_video_recall@2"] == 1
    assert found["video_to_text_recall@1"] == pytest.approx(2 / 3) and found["video_to_text_median_rank"] == 1


def test_equal_scores_are_chance_and_other_matches_do_not_count():
    """Of 4 equal scores the match has rank 1 + 3 / 2."""
    found = retrieval_scores(np.zeros((4, 4)), ks=(1, 2, 3))
    assert found["text_to_video_median_rank"] == 2.5 and found["text_to_video_recall@2"] == 0
    matches = np.array([[True, True, False], [False, False, True]])
    found = retrieval_scores(np.array([[0.1, 0.9, 0.5], [0.2, 0.0, 0.3]]), matches, ks=(1,))
    assert found["video_to_text_recall@1"] == 1 and found["text_to_video_recall@1"] == pytest.approx(1 / 3)


def test_words_and_captions():
    found = masked_word_accuracy(["cut", "fry", "oil"], ["cut", "stir", "oil"], ["verb", "verb", "noun"])
    assert found == {"noun": 1.0, "verb": 0.5, "all": pytest.approx(2 / 3)}
    assert top_k_words([["a", "b"], ["c", "d"]], ["b", "c"], ks=(1, 2)) == {"top1": 0.5, "top2": 1.0}
    assert exact_match(["A red  ball", "a cube"], [["a ball", "a red ball"], ["a sphere"]]) == 0.5


def test_scores_of_captions():
    if importlib.util.find_spec("pycocoevalcap") is None:
        with pytest.raises(ValueError, match=r"need pycocoevalcap: pip install '\.\[caption\]'"):
            caption_scores(["a"], [["a"]])
        return
    found = caption_scores(["a red ball moves left"], [["a red ball moves left"]])
    assert found["bleu4"] == pytest.approx(1) and found["rouge_l"] == pytest.approx(1)


def test_refused():
    with pytest.raises(ValueError, match="2 and 1 values; all need the same number"):
        exact_match(["a", "b"], [["a"]])
    with pytest.raises(ValueError, match="at least one match"):
        retrieval_scores(np.zeros((2, 2)), np.zeros((2, 2)))


def test_a_caption_that_a_model_wrote_word_by_word_is_right():
    """Although its tokenizer gives back neither all spaces nor accents; unknown words are never right."""
    texts = ['Cut the onion, then "fry" it; done', "na\u00efve caf\u00e9"]
    processor = VideoBertProcessor(VideoMAEV2ImageProcessor(), word_tokenizer(texts))

    def written(text: str) -> str:
        labels = processor.encode_texts([text], "caption")["labels"][0]
        return processor.tokenizer.decode(labels[labels >= 0], skip_special_tokens=True)

    references = [[as_written(processor, text)] for text in texts]
    assert exact_match([written(text) for text in texts], references) == 1
    assert exact_match([written(text) for text in reversed(texts)], references) == 0
    assert exact_match([written("cut the leek")], [[as_written(processor, "cut the leek")]]) == 0

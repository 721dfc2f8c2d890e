"""A tokenizer of the words of captions."""

import pytest
from transformers import AutoTokenizer

from videomae_hf.data.word_tokenizer import word_tokenizer


def test_words_of_captions(tmp_path):
    tokenizer = word_tokenizer(["Cut, then fry.", "cut it"])
    words = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", ",", ".", "cut", "fry", "it", "then"]
    assert sorted(tokenizer.get_vocab(), key=tokenizer.get_vocab().get) == words
    tokenizer.save_pretrained(tmp_path)
    loaded = AutoTokenizer.from_pretrained(tmp_path)
    assert loaded("CUT [MASK] salt", add_special_tokens=False)["input_ids"] == [7, 4, 1]
    assert loaded.decode([7, 9]) == "cut it"


def test_no_word():
    with pytest.raises(ValueError, match="The captions have no word"):
        word_tokenizer(["", " "])

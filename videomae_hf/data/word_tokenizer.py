# Copyright 2026 The videomae_hf authors. Licensed under the Apache License, Version 2.0.
"""A tokenizer with a token for each word of the training captions, for new models on small vocabularies."""

from collections import Counter
from collections.abc import Iterable

from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers
from transformers import PreTrainedTokenizerFast


SPECIAL = {
    "pad_token": "[PAD]",
    "unk_token": "[UNK]",
    "cls_token": "[CLS]",
    "sep_token": "[SEP]",
    "mask_token": "[MASK]",
}
MOST_WORDS = 30_000


def word_tokenizer(texts: Iterable[str]) -> PreTrainedTokenizerFast:
    """A tokenizer of the words of texts, in lower case and apart from punctuation as in BERT; others are `[UNK]`.

    Args:
        texts: the training captions; of more than 30,000 words, the most frequent ones are kept.

    Raises:
        ValueError: there is no word.
    """
    normalizer, splitter = normalizers.BertNormalizer(lowercase=True), pre_tokenizers.BertPreTokenizer()
    counts = Counter(word for text in texts for word, _ in splitter.pre_tokenize_str(normalizer.normalize_str(text)))
    if not counts:
        raise ValueError("The captions have no word to make a tokenizer of; give --tokenizer or --text_checkpoint.")
    words = sorted(counts, key=lambda word: (-counts[word], word))[:MOST_WORDS]
    vocabulary = {word: number for number, word in enumerate([*SPECIAL.values(), *sorted(words)])}
    tokenizer = Tokenizer(models.WordLevel(vocabulary, unk_token=SPECIAL["unk_token"]))
    tokenizer.normalizer, tokenizer.pre_tokenizer = normalizer, splitter
    tokenizer.decoder = decoders.WordPiece(prefix="##")
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, **SPECIAL)

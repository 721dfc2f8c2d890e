"""Tiny VideoBERT models, their inputs and a tokenizer."""

from pathlib import Path

import torch
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast

from helpers.shared import randomize
from videomae_hf import VideoBertConfig, VideoBertModel, VideoBertProcessor, VideoMAEV2ImageProcessor


PAD, CLS, SEP, MASK, TO = range(5)  # TO is the separator [>]
SPECIAL = {"pad_token_id": PAD, "cls_token_id": CLS, "sep_token_id": SEP, "mask_token_id": MASK}
TINY_BERT = {
    **{"vocab_size": 24, "hidden_size": 12, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 20},
    **{"max_position_embeddings": 24, "hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0},
}
TINY_VIDEOBERT = {**TINY_BERT, **SPECIAL, "separator_token_id": TO, "feature_size": 5}
WORDS = ("[PAD]", "[CLS]", "[SEP]", "[MASK]", "[UNK]", "a", "red", "blue", "ball", "cube", "moves", "left", "right")


def build_videobert(model_class=VideoBertModel, **fields):
    """A model in eval mode; with the same fields the same weights every time."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = model_class(VideoBertConfig(**{**TINY_VIDEOBERT, **fields}))
    return randomize(model, std=0.3).eval()


def pairs(config, segments: int = 3, seed: int = 1) -> dict[str, torch.Tensor]:
    """Two videos and texts, where the second video has a segment less and the second text a word less."""
    shape = (2, segments, config.tokens_per_segment, config.feature_size)
    features = torch.randn(shape, generator=torch.Generator().manual_seed(seed))
    return {
        "input_ids": torch.tensor([[CLS, 7, 8, 9, TO, SEP], [CLS, 10, 11, TO, SEP, PAD]]),
        "attention_mask": torch.tensor([[1, 1, 1, 1, 1, 1], [1, 1, 1, 1, 1, 0]]).bool(),
        "video_features": features[:, :, 0] if config.tokens_per_segment == 1 else features,
        "video_mask": torch.arange(segments) < torch.tensor([[segments], [segments - 1]]),
    }


def word_tokenizer() -> PreTrainedTokenizerFast:
    """A token for each of `WORDS`, without the separator."""
    tokenizer = Tokenizer(models.WordLevel({word: number for number, word in enumerate(WORDS)}, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    names = {"pad_token": "[PAD]", "cls_token": "[CLS]", "sep_token": "[SEP]", "mask_token": "[MASK]"}
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, unk_token="[UNK]", **names)


def save_videobert(model, folder: Path, **options) -> VideoBertProcessor:
    """Saves a model with a processor of `WORDS` and the separator, in one folder; returns the processor.

    Args:
        model: a model with `vocab_size=14, separator_token_id=13`.
        folder: the folder.
        options: of the processor, or of its image processor.
    """
    of_frames = {name: options.pop(name) for name in ("num_frames", "sampling_rate", "fps") if name in options}
    size = {"size": {"shortest_edge": 32}, "crop_size": {"height": 32, "width": 32}}
    frames = VideoMAEV2ImageProcessor(**{"num_frames": 4, **of_frames}, **size)
    processor = VideoBertProcessor(frames, word_tokenizer(), **options)
    model.save_pretrained(folder)
    processor.save_pretrained(folder)
    return processor

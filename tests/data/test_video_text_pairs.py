"""Items and batches of VideoBERT: independent of the batch, with the paper's regimes and alignment noise."""

import pytest
import torch
from helpers.tiny_videobert import TINY_VIDEOBERT, word_tokenizer

from videomae_hf import VideoBertConfig, VideoBertProcessor, VideoMAEV2ImageProcessor
from videomae_hf.data.captions import CaptionedVideos, Pair
from videomae_hf.data.sources.records import VideoRecord
from videomae_hf.data.video_dataset import VideoDataset
from videomae_hf.data.video_text import PairTransform, VideoTextCollator, check_pairs
from videomae_hf.settings.groups import VideoTextSettings


TEXTS = ("a red ball moves left", "a blue cube moves right", "a red cube", "a blue ball moves left")


def videos(**fields) -> CaptionedVideos:
    """Four parts of two videos, of 2 to 5 segments, whose features are their number."""
    records = [VideoRecord(path, start=start, end=start + 1) for path in ("a.mp4", "b.mp4") for start in (0.0, 1.0)]
    return CaptionedVideos(records, [Pair(number, text) for number, text in enumerate(TEXTS)], **fields)


def segments(number: int) -> torch.Tensor:
    return torch.full((number + 2, 1, 5), float(number)) + torch.arange(number + 2.0)[:, None, None] / 10


DEFAULT = VideoTextSettings()


def dataset(settings=DEFAULT, negatives: int = 2, pairs=None) -> VideoDataset:
    pairs = pairs or videos()
    return VideoDataset(pairs, PairTransform(pairs, segments, settings, negatives))


def collator(task: str = "pretraining", **fields) -> VideoTextCollator:
    processor = VideoBertProcessor(VideoMAEV2ImageProcessor(num_frames=2), word_tokenizer())
    fields = {**TINY_VIDEOBERT, **fields, **VideoBertConfig.token_fields(processor.tokenizer)}
    return VideoTextCollator(processor, VideoBertConfig(**fields), task)


def test_an_item_is_the_same_in_every_batch():
    items, collate = [dataset()[index] for index in range(4)], collator(num_negatives=2, video_mask_ratio=0.5)
    whole = collate(items)
    for index in range(4):
        alone = collate([items[index]])
        words, shown = alone["input_ids"].shape[1], alone["video_mask"].shape[1]
        assert torch.equal(whole["input_ids"][index, :words], alone["input_ids"][0])
        assert torch.equal(whole["text_labels"][index, :words], alone["text_labels"][0])
        assert torch.equal(whole["masked_segments"][index, :shown], alone["masked_segments"][0])
        width, sources = whole["video_mask"].shape[1], whole["segment_sources"][index, :shown]
        assert torch.equal(torch.where(sources < 0, sources, sources - index * width), alone["segment_sources"][0])
    assert whole["video_features"].shape == (4, 5, 1, 5) and whole["negative_input_ids"].shape[:2] == (4, 2)


def test_other_texts():
    """They differ from the own one and from each other, and change with the epoch."""
    data = dataset(negatives=3)
    first = data[0]["others"]
    assert set(first) <= set(TEXTS[1:]) and len(set(first)) == len(first)
    data.set_epoch(1)
    assert any(data[index]["others"] != dataset(negatives=3)[index]["others"] for index in range(4))
    alike = CaptionedVideos(videos().records, [Pair(number, "a ball") for number in range(4)])
    item = dataset(pairs=alike)[0]
    assert item["others"] == []
    negatives = collator(num_negatives=2)([item])["negative_input_ids"]
    assert negatives.shape[:2] == (1, 2) and torch.equal(negatives[0, 0], negatives[0, 1])  # its own, which is left out


def test_hard_negatives_share_words():
    """Among all others, "a red cube" shares two words with "a red ball moves left", and the last text four."""
    pairs = videos()
    transform = PairTransform(pairs, segments, DEFAULT, 1, hard_negatives=3)
    assert VideoDataset(pairs, transform)[0]["others"] == ["a blue ball moves left"]


@pytest.mark.parametrize(("regimes", "text", "video"), [([1, 0, 0], True, False), ([0, 1, 0], False, True)])
def test_regimes(regimes, text, video):
    item = dataset(VideoTextSettings(regimes=regimes))[1]
    assert (item["text"] != "", item["video"] is not None) == (text, video)
    batch = collator()([item])
    assert ("video_features" in batch) == video
    separator = collator().config.separator_token_id
    assert (separator in batch["input_ids"][0].tolist()) == video
    mixed = collator()([item, dataset()[1]])
    assert mixed["video_mask"].any(dim=1).tolist() == [video, True]


def test_neighbours_are_joined_and_segments_subsampled():
    data = dataset(VideoTextSettings(join_probability=1.0))
    assert data[0]["text"] == "a red ball moves left a blue cube moves right"
    assert data[0]["video"][:, 0, 0].tolist() == pytest.approx([0, 0.1, 1, 1.1, 1.2])
    assert data[1]["text"] == TEXTS[1]  # the next caption is of another video
    lengths = {len(dataset(VideoTextSettings(max_subsampling=5))[index]["video"]) for index in range(4)}
    assert lengths < {1, 2, 3, 4, 5}
    assert [len(dataset(None)[index]["video"]) for index in range(4)] == [2, 3, 4, 5]


def test_captioning_and_retrieval():
    items = [dataset()[index] for index in range(2)]
    caption = collator("captioning")(items)
    assert set(caption) == {"video_features", "video_mask", "input_ids", "attention_mask", "labels"}
    assert "text_labels" not in collator("retrieval")(items)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"task": "captions"}, "task='captions' is unknown; choose one of pretraining, classification"),
        ({"regimes": [1.0, 1.0]}, "regimes=.* must be three shares"),
        ({"join_probability": 2.0}, "join_probability=2.0 must be between 0 and 1"),
        ({"max_subsampling": 0}, "max_subsampling=0 must be at least 1"),
    ],
)
def test_refused(fields, message):
    with pytest.raises(ValueError, match=message):
        check_pairs(VideoTextSettings(**fields))

"""VideoBERT: texts, segments of videos, and visual words."""

import numpy as np
import pytest
import torch
from helpers.tiny_videobert import CLS, MASK, PAD, SEP, WORDS, word_tokenizer

from videomae_hf import VideoBertConfig, VideoBertProcessor, VideoMAEV2ImageProcessor, VisualWords
from videomae_hf.models.processing_videobert import SegmentSampler, segment_starts
from videomae_hf.models.video_sources import VideoInfo
from videomae_hf.models.visual_words import nearest


TO = len(WORDS)  # the separator, which the processor adds
A, RED, BLUE, BALL = (WORDS.index(word) for word in ("a", "red", "blue", "ball"))
SIZES = {"size": {"shortest_edge": 16}, "crop_size": {"height": 16, "width": 16}}


def processor(frames: dict | None = None, **options) -> VideoBertProcessor:
    images = VideoMAEV2ImageProcessor(**{"num_frames": 4, "sampling_rate": 2, **SIZES, **(frames or {})})
    return VideoBertProcessor(images, word_tokenizer(), **options)


# texts


def test_layouts_of_texts():
    prepared = processor()
    found = prepared.encode_texts(["a red [MASK]", "blue", ""], "pair")
    assert found["input_ids"].tolist() == [
        [CLS, A, RED, MASK, TO, SEP], [CLS, BLUE, TO, SEP, PAD, PAD], [CLS, TO, SEP, PAD, PAD, PAD],
    ]  # fmt: skip
    assert found["attention_mask"].sum(dim=1).tolist() == [6, 4, 3]
    assert prepared.encode_texts(["a red"], "text")["input_ids"].tolist() == [[CLS, A, RED, SEP]]
    found = prepared.encode_texts(["a red ball", "blue"], "caption")
    assert found["input_ids"].tolist() == [[CLS, TO, A, RED, BALL, SEP], [CLS, TO, BLUE, SEP, PAD, PAD]]
    assert found["labels"].tolist() == [[-100, -100, A, RED, BALL, SEP], [-100, -100, BLUE, SEP, -100, -100]]
    assert prepared.batch_decode(found["input_ids"], skip_special_tokens=True) == ["a red ball", "blue"]
    with pytest.raises(ValueError, match="layout='other' is unknown; choose one of pair, text, caption"):
        prepared.encode_texts(["a"], "other")


def test_long_texts_keep_their_special_tokens():
    found = processor(max_length=5).encode_texts(["a red blue ball moves"], "pair")
    assert found["input_ids"].tolist() == [[CLS, A, RED, TO, SEP]]


def test_the_separator_is_added_once():
    tokenizer = processor().tokenizer
    assert len(tokenizer) == len(WORDS) + 1 and tokenizer.convert_tokens_to_ids("[>]") == TO
    again = VideoBertProcessor(VideoMAEV2ImageProcessor(), tokenizer)
    assert len(again.tokenizer) == len(WORDS) + 1
    other = processor(separator_token="moves")  # such as [unused1] of BERT, so that the vocabulary stays as it is
    assert len(other.tokenizer) == len(WORDS)
    fields = VideoBertConfig.token_fields(other.tokenizer, "moves")
    assert fields["separator_token_id"] == WORDS.index("moves") and fields["vocab_size"] == len(WORDS)
    assert VideoBertConfig.token_fields(tokenizer) == {
        **{"vocab_size": TO + 1, "pad_token_id": PAD, "cls_token_id": CLS, "sep_token_id": SEP},
        **{"mask_token_id": MASK, "separator_token_id": TO},
    }
    with pytest.raises(ValueError, match=r"The tokenizer has no \[>\]; VideoBertProcessor adds the separator"):
        VideoBertConfig.token_fields(word_tokenizer())


def test_a_tokenizer_without_a_mask_is_refused():
    tokenizer = word_tokenizer()
    tokenizer.mask_token = None
    with pytest.raises(ValueError, match="The tokenizer has no mask token"):
        VideoBertProcessor(VideoMAEV2ImageProcessor(), tokenizer)


# segments


def test_starts_of_segments():
    assert segment_starts(12, 4, None, 16) == [0, 4, 8]
    assert segment_starts(15, 4, None, 16) == [0, 4, 8]  # a rest of three frames is left out
    assert segment_starts(12, 4, 2, 16) == [0, 2, 4, 6, 8]
    assert segment_starts(12, 4, 6, 16) == [0, 6]
    assert segment_starts(3, 4, None, 16) == [0]
    assert segment_starts(40, 4, None, 4) == [0, 12, 24, 36]  # evenly spread
    assert segment_starts(40, 4, None, 1) == [0]
    with pytest.raises(ValueError, match="segment_stride=0 and max_segments=16"):
        segment_starts(12, 4, 0, 16)


def sampled(info: VideoInfo, stride=None, **options) -> list[list[int]]:
    sampler = SegmentSampler(**options)
    sampler.segment_stride = stride
    return sampler.sample_clips(info, {"fps": None, **options})


def test_frames_of_segments():
    assert sampled(VideoInfo(17), num_frames=4, sampling_rate=2) == [[0, 2, 4, 6], [8, 10, 12, 14]]
    assert sampled(VideoInfo(17), 2, num_frames=4, sampling_rate=2) == [
        [0, 2, 4, 6], [4, 6, 8, 10], [8, 10, 12, 14],
    ]  # fmt: skip
    assert sampled(VideoInfo(5), num_frames=4, sampling_rate=2) == [[0, 2, 4, 4]]
    assert sampled(VideoInfo(1), num_frames=3, sampling_rate=1.5) == [[0, 0, 0]]
    # 20 frames a second of a video of 40: every second frame
    clips = sampled(VideoInfo(24, 40.0), num_frames=6, sampling_rate=1, fps=20)
    assert clips == [[0, 2, 4, 6, 8, 10], [12, 14, 16, 18, 20, 22]]


def test_videos_of_different_lengths():
    video = np.random.default_rng(0).integers(0, 256, (20, 16, 16, 3), dtype=np.uint8)
    prepared = processor()
    found = prepared(["a red ball", "blue"], [video, video[:5]])
    assert found["pixel_values"].shape == (2, 2, 4, 3, 16, 16)
    assert found["video_mask"].tolist() == [[True, True], [True, False]] and not found["pixel_values"][1, 1].any()
    assert found["input_ids"].tolist() == [[CLS, A, RED, BALL, TO, SEP], [CLS, BLUE, TO, SEP, PAD, PAD]]
    # a segment is what the image processor makes of its frames
    expected = prepared.image_processor(video[[8, 10, 12, 14]], return_tensors="pt").pixel_values[0]
    torch.testing.assert_close(found["pixel_values"][0, 1], expected)
    overlapping = processor(segment_stride=2, max_segments=2)(videos=video)
    expected = prepared.image_processor(video[[12, 14, 16, 18]], return_tensors="pt").pixel_values[0]
    torch.testing.assert_close(overlapping["pixel_values"][0, 1], expected)  # the last of four
    assert "input_ids" not in overlapping
    # at ten frames a second, of videos of 20 and of 10
    rates = [{"fps": 20.0, "total_num_frames": 20}, {"fps": 10.0, "total_num_frames": 10}]
    timed = prepared(videos=[video, video[:10]], fps=10, video_metadata=rates)
    for row, frames in enumerate(([8, 10, 12, 14], [4, 5, 6, 7])):
        expected = prepared.image_processor(video[frames], return_tensors="pt").pixel_values[0]
        torch.testing.assert_close(timed["pixel_values"][row, 1], expected)
    single = processor({"num_frames": 1})(videos=[video[:3]])
    assert single["pixel_values"].shape == (1, 2, 1, 3, 16, 16)


def test_given_features():
    features = [np.ones((3, 5), np.float32), np.ones((20, 5), np.float32) * np.arange(20)[:, None]]
    found = processor(max_segments=4)("a ball", video_features=features[:1])
    assert found["video_features"].shape == (1, 3, 5) and found["video_mask"].all()
    found = processor(max_segments=4)(video_features=features)
    assert found["video_features"][1, :, 0].tolist() == [0, 6, 13, 19]
    assert found["video_mask"].tolist() == [[True, True, True, False], [True] * 4]
    places = processor()(video_features=[np.ones((2, 4, 5))])
    assert places["video_features"].shape == (1, 2, 4, 5) and places["video_features"].dtype == torch.float32


@pytest.mark.parametrize(
    "inputs, message",
    [
        ({}, "Pass text, videos or video_features"),
        ({"text": ["a", "a"], "video_features": [np.ones((2, 5))]}, "2 texts and 1 videos"),
        (
            {"video_features": [np.ones((2, 5)), np.ones((2, 6))]},
            r"segments of one shape, but these have \[\(5,\), \(6,",
        ),
        ({"videos": "x.mp4", "video_features": [np.ones((2, 5))]}, "either videos or video_features"),
        ({"text": "a", "return_tensors": "np"}, "returns torch tensors"),
        ({"text": []}, "There is no text"),
    ],
)
def test_contradictions_are_refused(inputs, message):
    with pytest.raises(ValueError, match=message):
        processor()(**inputs)


def test_saved_and_read_again(tmp_path):
    prepared = processor(segment_stride=2.5, max_segments=3, max_length=10)
    prepared.save_pretrained(tmp_path)
    loaded = VideoBertProcessor.from_pretrained(tmp_path)
    assert (loaded.segment_stride, loaded.max_segments, loaded.max_length) == (2.5, 3, 10)
    video = np.random.default_rng(0).integers(0, 256, (20, 16, 16, 3), dtype=np.uint8)
    first, second = (one("a red ball", [video]) for one in (prepared, loaded))
    assert first.keys() == second.keys() and all(torch.equal(first[name], second[name]) for name in first)
    assert loaded.image_processor.to_dict() == prepared.image_processor.to_dict()
    names = {path.name for path in tmp_path.glob("*.py")}
    assert {"processing_videobert.py", "image_processing_videomae_v2.py"} <= names


# visual words


def test_nearest_centroid_by_hand():
    centroids = torch.tensor([[0.0, 0.0], [10.0, 0.0], [0.0, 3.0]])
    features = torch.tensor([[[4.0, 0.0], [6.0, 0.0]], [[0.0, 1.6], [1.0, 1.0]]])
    assert nearest(features, centroids).tolist() == [[0, 1], [2, 0]]
    assert nearest(torch.zeros(2, 0, 2), centroids).shape == (2, 0)
    with pytest.raises(ValueError, match=r"Features of 3 values cannot be compared with centroids of shape \(3, 2\)"):
        nearest(torch.zeros(1, 3), centroids)


def test_words_of_features_as_they_are(tmp_path):
    words = VisualWords(torch.tensor([[-1.0, 0.0], [1.0, 0.0]]), torch.tensor([5.0, 0.0]), torch.tensor([2.0, 1.0]))
    assert words.assign(torch.tensor([[4.0, 0.0], [6.0, 0.0]])).tolist() == [0, 1]
    words.origin["branching"] = 2
    words.save(tmp_path / "words")
    loaded = VisualWords.load(tmp_path / "words")
    assert loaded.origin == {"branching": 2}
    for name in ("centroids", "mean", "std"):
        assert torch.equal(getattr(loaded, name), getattr(words, name))
    (tmp_path / "words" / "visual_words.json").write_text("{}")
    with pytest.raises(ValueError, match="has the format None"):
        VisualWords.load(tmp_path / "words")
    with pytest.raises(FileNotFoundError, match="has no visual_words.json; videomae visual-words writes it"):
        VisualWords.load(tmp_path)


@pytest.mark.parametrize(
    "tensors, message",
    [
        ((torch.zeros(2, 3), torch.zeros(2), torch.ones(3)), "not the shapes"),
        ((torch.zeros(2, 3), torch.zeros(3), torch.zeros(3)), "std of visual words must be positive"),
        ((torch.full((2, 3), torch.nan), torch.zeros(3), torch.ones(3)), "must be finite floats"),
    ],
)
def test_damaged_words_are_refused(tensors, message):
    with pytest.raises(ValueError, match=message):
        VisualWords(*tensors)

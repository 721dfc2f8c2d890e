"""Pictures of a VideoBERT run: what they say, from models whose answers are known, and that they can be drawn."""

import math

import numpy as np
import pytest
import torch
from helpers.tiny_videobert import WORDS, build_videobert, word_tokenizer

from videomae_hf import (
    VideoBertForCaptioning,
    VideoBertForPreTraining,
    VideoBertForRetrieval,
    VideoBertForVideoClassification,
    VideoBertProcessor,
    VideoMAEV2ImageProcessor,
)
from videomae_hf.data.captions import CaptionedVideos, Pair
from videomae_hf.data.sources.records import VideoRecord
from videomae_hf.data.sources.synthetic import write_video
from videomae_hf.evaluation.video_text_examples import PLAIN, RIGHT, WRONG, choose_examples
from videomae_hf.evaluation.video_text_pictures import draw_answers, strips_of
from videomae_hf.evaluation.video_text_scores import scorer_of
from videomae_hf.models.video_decoding import VideoDecodeError


IDS = {"vocab_size": 14, "separator_token_id": 13}
PROCESSOR = VideoBertProcessor(VideoMAEV2ImageProcessor(num_frames=4), word_tokenizer())
VIDEOS = CaptionedVideos(
    [VideoRecord("no/0.mp4", label=0), VideoRecord("no/bad.mp4"), VideoRecord("no/2.mp4", label=2)],
    [Pair(0, "a red ball"), Pair(0, "a red cube"), Pair(1, "left"), Pair(2, "a blue cube"), Pair(-1, "right")],
)


def segments(number: int) -> torch.Tensor:
    """Three segments: all values of a segment are 1, 0 and 2, or 0 and 1 in the last video, which has two."""
    if number == 1:
        raise VideoDecodeError("no/bad.mp4 cannot be decoded")
    values = torch.tensor([1.0, 0.0, 2.0] if number == 0 else [0.0, 1.0])
    return values[:, None, None].expand(-1, 1, 5)


def examples(number: int = 2, videos: CaptionedVideos = VIDEOS):
    return choose_examples(videos, segments, PROCESSOR, number)


def always(module: torch.nn.Linear, **chances: float) -> None:
    """Lets a layer say the same for every input: these words or classes with these chances."""
    names = WORDS if len(module.bias) == 14 else ("red", "green", "blue")
    with torch.no_grad():
        module.weight.zero_()
        module.bias.fill_(-1e4)
        for name, chance in chances.items():
            module.bias[names.index(name)] = math.log(chance)


def text_rows(answers) -> list[list[str]]:
    return [[str(line) for line in lines] for lines in answers.lines]


def marks(answers) -> list[list[str]]:
    return [[mark for line in lines for _, mark in line.pieces] for lines in answers.lines]


def test_choice():
    """Readable videos with their captions; the texts are their first captions, and then others."""
    found = examples()
    assert [(item.number, item.texts) for item in found.items] == [
        (0, ["a red ball", "a red cube"]),
        (2, ["a blue cube"]),
    ]
    assert found.texts == ["a red ball", "a blue cube", "a red cube", "left", "right"]
    assert [item.number for item in examples(3).items] == [0, 2]  # the other one cannot be read
    assert [item.number for item in examples(1).items] == [0]
    alone = examples(1, CaptionedVideos([], [Pair(-1, "left"), Pair(-1, "right")]))
    assert [(item.record, item.texts) for item in alone.items] == [(None, ["left"])]
    unreadable = CaptionedVideos(VIDEOS.records, [Pair(1, "left")])
    assert examples(1, unreadable).items == []


def test_pretraining(monkeypatch):
    """Every word and segment is hidden. Words are filled in with "red" (60 %); a prediction of 0 fits the segment of
    zeros best."""
    fields = {"text_mask_ratio": 0.99, "video_mask_ratio": 0.99, "tie_word_embeddings": False}
    model = build_videobert(VideoBertForPreTraining, **IDS, **fields)
    always(model.cls.predictions.decoder, red=0.6, a=0.3, ball=0.1)
    for parameter in model.video_head.parameters():
        torch.nn.init.zeros_(parameter)
    scores = iter([[0, 0, math.log(4), 0, 0], [math.log(2), 0, 0, 0, 0]])
    monkeypatch.setattr(model, "match", lambda *args: torch.tensor([next(scores)]))
    answers = examples().answers(model)
    assert text_rows(answers) == [
        [
            "caption: [a] [red] [ball]",
            "filled in: [red 60%, not a 30%] [red 60%] [red 60%, not ball 10%]",
            "hidden segments: [2, not 1] [2] [2, not 3]",
            "matching: rank 1 of 5 texts",
        ],
        [
            "caption: [a] [blue] [cube]",
            "filled in: [red 60%, not a 30%] [red 60%, not blue 0%] [red 60%, not cube 0%]",
            "hidden segments: [1] [1, not 2]",
            "matching: rank 3.5 of 5 texts first: a red ball",  # 1, and half of the 3 others with the same score
        ],
    ]
    assert marks(answers)[0] == [PLAIN] * 3 + [WRONG, RIGHT, WRONG, WRONG, RIGHT, WRONG, RIGHT]
    table = answers.table
    assert table.videos == [0, 1] and answers.segments == [3, 2]
    np.testing.assert_allclose(table.shares.T, np.array([[1, 1, 4, 1, 1], [8 / 3, 4 / 3, 4 / 3, 4 / 3, 4 / 3]]) / 8)
    assert table.right.T.tolist() == [[True, False, True, False, False], [False, True, False, False, False]]


def test_masks_are_those_of_the_ratio_and_always_the_same():
    model = build_videobert(VideoBertForPreTraining, **IDS, text_mask_ratio=0.34)
    first, again = (text_rows(examples().answers(model)) for _ in range(2))
    assert first == again
    assert [row[0].count("[") for row in first] == [1, 1]


@pytest.mark.parametrize("fields", [{"video_loss": "nce"}, {"video_loss": "words", "visual_words": 2}])
def test_predicted_segments_of_other_losses(fields):
    """A prediction of ones, or of the visual word 1, fits the segments of ones: with cosines also that of twos."""
    model = build_videobert(VideoBertForPreTraining, **IDS, **fields, video_mask_ratio=0.99)
    for parameter in model.video_head.parameters():
        torch.nn.init.zeros_(parameter)
    last = [module for module in model.video_head.modules() if isinstance(module, torch.nn.Linear)][-1]
    with torch.no_grad():
        last.bias.copy_(torch.ones(5) if fields["video_loss"] == "nce" else torch.tensor([0.0, 1.0]))
        if fields["video_loss"] == "words":
            model.video_bert.video_embeddings.centroids.copy_(torch.tensor([[0.0], [1.5]]).expand(2, 5))
    lines = [row[2] for row in text_rows(examples().answers(model))]
    assert lines == ["hidden segments: [1] [1, not 2] [3]", "hidden segments: [2, not 1] [2]"]


def test_without_words_captions_or_videos():
    model = build_videobert(VideoBertForPreTraining, **IDS, mlm_weight=0.0, video_weight=0.0)
    assert [row[0] for row in text_rows(examples().answers(model))] == ["caption: a red ball", "caption: a blue cube"]
    silent = examples(2, CaptionedVideos(VIDEOS.records, [Pair(0, ""), Pair(2, "")])).answers(model)
    assert text_rows(silent) == [["caption: none"]] * 2 and silent.table is None
    texts = CaptionedVideos([], [Pair(-1, "left"), Pair(-1, "right")])
    whole = build_videobert(VideoBertForPreTraining, **IDS, tie_word_embeddings=False)
    always(whole.cls.predictions.decoder, left=0.75, right=0.25)
    assert text_rows(examples(2, texts).answers(whole)) == [
        ["caption: [left]", "filled in: [left 75%]"],
        ["caption: [right]", "filled in: [left 75%, not right 25%]"],
    ]


def test_retrieval(monkeypatch):
    model = build_videobert(VideoBertForRetrieval, **IDS, match_loss="binary")
    scores = iter([[0, -math.log(3), math.log(3), 0, 0], [1, 0, 0, 0, -1]])
    monkeypatch.setattr(model, "match", lambda *args: torch.tensor([next(scores)]))
    answers = examples().answers(model)
    assert text_rows(answers) == [
        ["caption: a red ball", "matching: rank 1 of 5 texts"],
        ["caption: a blue cube", "matching: rank 3 of 5 texts first: a red ball"],
    ]
    np.testing.assert_allclose(answers.table.shares[:, 0], [0.5, 0.25, 0.75, 0.5, 0.5], rtol=1e-6)


def test_scores_are_those_of_the_model():
    model, found = build_videobert(VideoBertForRetrieval, **IDS), examples()
    encoded = PROCESSOR.encode_texts(found.texts, "pair")
    for column, number in enumerate((0, 2)):
        scores = model.scores(**encoded, video_features=segments(number)[None])[0]  # (5,)
        shares = torch.from_numpy(found.answers(model).table.shares[:, column])
        torch.testing.assert_close(shares, scores.softmax(dim=0))


def test_captioning(monkeypatch):
    """A caption that equals any of the video's is right."""
    model = build_videobert(VideoBertForCaptioning, **IDS)
    written = iter([[1, 13, 5, 6, 9, 2], [1, 13, 5, 6, 9, 2]])  # [CLS] [>] a red cube [SEP]
    monkeypatch.setattr(model, "generate", lambda **kwargs: torch.tensor([next(written)]))
    answers = examples().answers(model)
    assert text_rows(answers) == [
        ["caption: a red ball", "written: a red cube"],
        ["caption: a blue cube", "written: a red cube"],
    ]
    assert marks(answers) == [[PLAIN, RIGHT], [PLAIN, WRONG]]


def test_captions_are_short():
    """The model never ends: 24 positions have room for 24 - 3 segments - 2 words, and for 24 - 2 - 2."""
    model = build_videobert(VideoBertForCaptioning, **IDS, tie_word_embeddings=False)
    always(model.cls.predictions.decoder, left=1.0)
    rows = text_rows(examples().answers(model))
    assert [row[1].count("left") for row in rows] == [19, 20]
    readable = CaptionedVideos(VIDEOS.records, [pair for pair in VIDEOS.pairs if pair.video in (0, 2)])
    scores = scorer_of(model, PROCESSOR, readable, segments)()  # of an evaluation, which must not fail either
    assert (scores["scored_videos"], scores["exact_match"]) == (2, 0)


def test_classification():
    names = {0: "red", 1: "green", 2: "blue"}
    model = build_videobert(VideoBertForVideoClassification, **IDS, id2label=names)
    always(model.classifier, red=0.7, green=0.1, blue=0.2)
    labelled = CaptionedVideos(VIDEOS.records, [Pair(number, "") for number in range(3)])
    answers = examples(2, labelled).answers(model)
    assert text_rows(answers) == [
        ["class: red", "predicted: [red 70%] [blue 20%] [green 10%]"],
        ["class: blue", "predicted: [red 70%] [blue 20%] [green 10%]"],
    ]
    assert marks(answers) == [[PLAIN, RIGHT, PLAIN, PLAIN], [PLAIN, WRONG, RIGHT, PLAIN]]


def test_a_video_that_disappears_is_named():
    found, model = examples(), build_videobert(VideoBertForPreTraining, **IDS)
    found.items[0] = type(found.items[0])(1, VIDEOS.records[1], ["a red ball"])
    answers = found.answers(model)
    assert text_rows(answers)[0] == ["video: cannot be read"] and len(text_rows(answers)[1]) == 4
    assert answers.table.videos == [1] and answers.segments == [0, 2]


def test_drawing(tmp_path):
    """Frames where there is a video, lines of bounded length, and each mark in its colour."""
    write_video(tmp_path / "0.mp4", np.full((12, 32, 64, 3), 200, np.uint8))
    records = [VideoRecord(str(tmp_path / "0.mp4")), *VIDEOS.records[1:]]
    long = " ".join(["ball"] * 400)
    videos = CaptionedVideos(records, [Pair(0, long), *VIDEOS.pairs])
    found, model = examples(2, videos), build_videobert(VideoBertForPreTraining, **IDS, max_position_embeddings=80)
    answers = found.answers(model)
    strips = strips_of(found.items, answers.segments, None)
    # Twice as many frames as the 3 segments, each twice as wide as high and followed by a gap
    assert strips[0].size == (6 * (192 + 2) * 796 // (6 * 194), round(96 * 796 / (6 * 194))) and strips[1] is None
    picture = draw_answers(found.items, answers, strips)
    without = draw_answers(found.items, answers, [None, None])
    assert picture.width == 820 and picture.height - without.height == strips[0].height
    colors = {color for _, color in without.getcolors(maxcolors=2**20)}
    assert (0, 115, 50) in colors and (185, 25, 25) in colors  # of right and wrong words
    assert without.height < 800

"""VideoBERT on videos: segments of files are those of the processor, and moments are the segments within windows."""

import re

import numpy as np
import pytest
import torch
from helpers.tiny_models import build
from helpers.tiny_videobert import build_videobert, save_videobert

from videomae_hf import (
    VideoBertForCaptioning,
    VideoBertForPreTraining,
    VideoBertForRetrieval,
    VideoMAEV2ForVideoClassification,
    VideoMAEV2ImageProcessor,
    VideoMAEV2Model,
    load_encoder,
)
from videomae_hf.data.sources.synthetic import synthesise_video, write_video
from videomae_hf.inference import video_text
from videomae_hf.inference.inputs import input_of
from videomae_hf.inference.video_text import Part, Segments, load_video_text, parts_of
from videomae_hf.inference.windows import Windows
from videomae_hf.models.segment_features import segment_features


IDS = {"vocab_size": 14, "separator_token_id": 13}


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """A classifier whose features (with its norm) a pretrained VideoBERT takes, one with a backbone inside, a video."""
    folder = tmp_path_factory.mktemp("video_text")
    size = {"size": {"shortest_edge": 32}, "crop_size": {"height": 32, "width": 32}}
    classifier = build(VideoMAEV2ForVideoClassification)
    classifier.save_pretrained(folder / "encoder")
    VideoMAEV2ImageProcessor(num_frames=4, **size).save_pretrained(folder / "encoder")
    outside = build_videobert(VideoBertForPreTraining, feature_size=24, **IDS)
    save_videobert(outside, folder / "outside", sampling_rate=2, max_segments=3)
    inside = build_videobert(VideoBertForPreTraining, feature_size=24, **IDS)
    inside.video_bert.load_backbone(str(folder / "encoder"))
    save_videobert(inside, folder / "inside", sampling_rate=2, max_segments=3)
    frames = synthesise_video("left", np.random.default_rng(0), 48, 45)
    write_video(folder / "long.mp4", frames)  # 45 frames of 1/25 s: 5 segments of 8 frames, and a rest of 5
    write_video(folder / "short.mp4", frames[:3])
    return folder


def test_segments_are_those_of_the_processor(place, monkeypatch):
    model = load_video_text(place / "outside", backbone=str(place / "encoder"), device="cpu")
    path = str(place / "long.mp4")
    found = model.segments(input_of(path))
    assert found.frames.tolist() == [[0, 8], [16, 24], [32, 40]]  # spread over the five
    np.testing.assert_allclose(found.times, found.frames / 25, atol=1e-6)
    pixels = model.processor.segments([path])[0]
    encoder = load_encoder(place / "encoder", device="cpu")
    torch.testing.assert_close(found.features[:, 0], encoder.encode(pixels))  # with the norm of the classifier
    monkeypatch.setattr(video_text, "_FRAMES_AT_ONCE", 8)  # two segments at a time
    every = model.segments(input_of(path), every=True)
    assert every.frames.tolist() == [[0, 8], [8, 16], [16, 24], [24, 32], [32, 40]]
    torch.testing.assert_close(every.features[::2], found.features)
    short = model.segments(input_of(str(place / "short.mp4")), every=True)
    assert short.frames.tolist() == [[0, 3]] and short.features.shape == (1, 1, 24)


def test_a_backbone_inside_has_no_norm_of_a_head(place):
    model = load_video_text(place / "inside", device="cpu")
    path = str(place / "long.mp4")
    pixels = model.processor.segments([path])[0]
    with torch.no_grad():
        expected = segment_features(VideoMAEV2Model.from_pretrained(place / "encoder").eval(), pixels[None])[0]
    torch.testing.assert_close(model.segments(input_of(path)).features, expected)


def test_segments_of_an_image_model_and_of_places(place):
    encoder = load_encoder(place / "encoder", device="cpu", batch_size=2)
    pixels = torch.randn(3, 4, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        expected = segment_features(encoder.encoder, pixels[None], None, 4)[0]
    torch.testing.assert_close(encoder.encode_segments(pixels, 4), expected)
    with pytest.raises(ValueError, match="have 5 frames, but the model takes num_frames=4"):
        encoder.encode_segments(pixels[:, [0, 1, 2, 3, 3]])
    images = build(VideoMAEV2Model, num_frames=1, tubelet_size=1)
    encoder.encoder, encoder.norm = images, None
    of_frames = encoder.encode(pixels.flatten(0, 1)[:, None]).view(3, 4, -1)
    torch.testing.assert_close(encoder.encode_segments(pixels), of_frames.mean(dim=1))


def moments(windows: Windows, times, frames=None) -> list[tuple[float, float, list[int]]]:
    """(start, end, numbers of the segments) of each moment."""
    features = torch.arange(len(times), dtype=torch.float32)[:, None, None]
    found = Segments(features, np.array(times, dtype=float), np.array(times if frames is None else frames))
    return [(part.start, part.end, part.features.flatten().tolist()) for part in parts_of(found, windows, "a.mp4")]


def test_moments():
    times, frames = [[0, 2], [2, 4], [4, 6], [6, 8], [8, 10]], [[0, 4], [4, 8], [8, 12], [12, 16], [16, 20]]
    assert moments(None, times, frames) == [(0, 10, [0, 1, 2, 3, 4])]
    assert moments(Windows(4, 4), times, frames) == [(0, 4, [0, 1]), (4, 8, [2, 3]), (8, 10, [4])]
    overlapping = [(0, 4, [0, 1]), (2, 6, [1, 2]), (4, 8, [2, 3]), (6, 10, [3, 4])]
    assert moments(Windows(4, 2), times, frames) == moments(Windows(8, 4, "f"), times, frames) == overlapping
    assert moments(Windows(60, 30), times, frames) == [(0, 10, [0, 1, 2, 3, 4])]
    assert moments(Windows(2.5, 0.5), times, frames)[:3] == [(0, 2, [0]), (0, 4, [0, 1]), (2, 4, [1])]  # each once
    # Every segment is in one of the windows that follow each other, wherever their bounds are
    assert [rows for _, _, rows in moments(Windows(3, 3), times, frames)] == [[0], [1, 2], [3], [4]]
    assert [rows for _, _, rows in moments(Windows(1.5, 1.5), times, frames)] == [[0], [1], [2], [3], [4]]
    gap = [[0, 2], [1e12, 1e12 + 2]]
    assert [rows for _, _, rows in moments(Windows(2, 0.5), gap, frames[:2])] == [[0], [1]]
    with pytest.raises(
        ValueError, match="a.mp4: no window of 0.5s has the middle of a segment; give a longer --window"
    ):
        moments(Windows(0.5, 4), times, frames)
    with pytest.raises(ValueError, match="its times are numbers of frames; give --window in frames"):
        moments(Windows(4, 4), frames, frames)
    assert moments(Windows(8, 8, "f"), frames, frames)[0] == (0, 8, [0, 1])


def test_answers_equal_those_of_the_model(place):
    parts = [Part(0, 1, torch.randn(number, 1, 24)) for number in (3, 1, 2)]
    options = {"backbone": str(place / "encoder"), "device": "cpu", "batch_size": 2}
    video = [part.features for part in parts]
    asked = load_video_text(place / "outside", VideoBertForRetrieval, **options)
    inputs = asked.processor(video_features=video)
    texts = asked.processor.encode_texts(["a red ball", "blue"])
    expected = asked.model.scores(**texts, **inputs)
    torch.testing.assert_close(asked.scores(["a red ball", "blue"], parts), expected)
    asked = load_video_text(place / "outside", VideoBertForCaptioning, **options)
    prompt = asked.processor.encode_texts(["a [MASK] ball moves [MASK]"] * 3)
    found = asked.fill("a [MASK] ball moves [MASK]", parts, top_k=2)
    special = {"[PAD]", "[CLS]", "[SEP]", "[MASK]", "[UNK]", "[>]"}
    for places, (words, probabilities) in zip(found, asked.model.fill(**prompt, **inputs, top_k=14)):
        for place, numbers, values in zip(places, words, probabilities.tolist()):
            names = asked.processor.tokenizer.convert_ids_to_tokens(numbers)
            wanted = [pair for pair in zip(names, values) if pair[0] not in special][:2]
            assert [word for word, _ in place] == [word for word, _ in wanted] and len(place) == 2
            assert [value for _, value in place] == pytest.approx([value for _, value in wanted])
    words = asked.model.generate(**asked.processor(video_features=video[:1]), max_new_tokens=5)
    assert asked.captions(parts[:1], max_new_tokens=5) == asked.processor.batch_decode(words, skip_special_tokens=True)
    torch.manual_seed(3)
    sampled = asked.captions(parts, seed=1, do_sample=True, max_new_tokens=5)
    assert sampled == asked.captions(parts, seed=1, do_sample=True, max_new_tokens=5)
    torch.testing.assert_close(torch.rand(2), torch.rand(2, generator=torch.Generator().manual_seed(3)))


def test_texts_that_the_model_cannot_read(place):
    model = load_video_text(place / "inside", VideoBertForCaptioning, device="cpu")
    assert model.check_texts(["a red ball"]) == []
    assert model.check_texts(["a green ball"]) == ["'a green ball': 1 of 3 tokens are unknown to this model"]
    for text, message in (
        (" ", "has no words"),
        ("a " * 62, "has 62 tokens, but the model reads 61: shorten it"),
    ):
        with pytest.raises(ValueError, match=message):
            model.check_texts([text])
    with pytest.raises(ValueError, match=re.escape("has no [MASK]; write it where the model shall fill in")):
        model.check_prompt("a red ball")


def test_the_model_of_the_features(place, tmp_path):
    asked = load_video_text(place / "outside", backbone=str(place / "encoder"))
    assert "encoder, mean of all tokens, followed by fc_norm" in asked.messages[0]
    assert not any("prepared otherwise" in line for line in asked.messages)
    processor = VideoMAEV2ImageProcessor.from_pretrained(place / "encoder", image_mean=[0.1, 0.1, 0.1])
    (line,) = video_text._differences(asked.processor.image_processor, processor, "encoder")
    assert line == "segments are prepared otherwise than for encoder: image_mean=(0.5, 0.5, 0.5), not (0.1, 0.1, 0.1)"
    with pytest.raises(ValueError, match="does not name the model that computes them: give --backbone"):
        load_video_text(place / "outside")
    with pytest.raises(ValueError, match="has a backbone of its own: leave --backbone x out"):
        load_video_text(place / "inside", backbone="x")
    model = build_videobert(VideoBertForRetrieval, feature_backbone=str(place / "encoder"), **IDS)
    save_videobert(model, tmp_path)
    with pytest.raises(ValueError, match="has features of 24 values, but .* takes 5"):
        load_video_text(tmp_path)
    with pytest.raises(ValueError, match="has no trained cls: it is a VideoBertForRetrieval, where a VideoBertForCapt"):
        load_video_text(tmp_path, VideoBertForCaptioning)

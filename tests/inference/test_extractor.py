"""Features of videos: those that classification uses, over time, with each frame decoded once."""

import numpy as np
import pytest
import torch
from helpers.commands import videomae
from helpers.indexed_video import indexed_frames, write_indexed_video
from helpers.shared import TINY, randomize
from helpers.tiny_models import build, opengvlab_folder
from helpers.trained_models import save_trained, write_three_motions

import videomae_hf
from videomae_hf import (
    VideoDecodeError,
    VideoMAEV2ForPreTraining,
    VideoMAEV2ForVideoClassification,
    VideoMAEV2ImageProcessor,
    VideoMAEV2Model,
    VideoSegment,
    read_frames,
)
from videomae_hf.inference import frame_stream
from videomae_hf.inference.extractor import Extraction, Throughput
from videomae_hf.inference.feature_folder import FeatureFolder, FeatureWriter
from videomae_hf.inference.inputs import input_of
from videomae_hf.inference.loading import read_together
from videomae_hf.inference.temporal_detection import detection_settings
from videomae_hf.inference.windows import Windows


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """A trained and a pretrained model, and a video of 70 frames, 2.8 seconds."""
    place = tmp_path_factory.mktemp("place")
    save_trained(place / "trained")
    build(VideoMAEV2ForPreTraining, use_mean_pooling=None).save_pretrained(place / "pretrained")
    write_indexed_video(place / "video.mp4", 70, g=12)
    (place / "bad.mp4").write_bytes(b"no video")
    return place


@pytest.fixture(scope="module")
def encoder(place):
    return videomae_hf.load_encoder(place / "trained", device="cpu", num_workers=2)


@pytest.fixture(scope="module")
def video(place) -> str:
    return str(place / "video.mp4")


def test_pooled_features_are_those_of_classification(place, encoder, video):
    predictor = videomae_hf.load(place / "trained", device="cpu")
    found = encoder.extract(video)
    assert found.values.shape == (1, TINY["hidden_size"])
    logits = predictor.model.classifier(found.values)[0]
    torch.testing.assert_close(logits, predictor.predict(video, num_clips=1, num_crops=1).logits, rtol=0, atol=1e-5)
    assert encoder.pooling == "mean of all tokens, followed by fc_norm, as in classification"
    assert (found.starts.tolist(), found.ends.tolist(), found.frames.tolist()) == ([0], [2.8], [[0, 70]])


def test_a_pretrained_encoder_has_its_own_norm(place, video):
    encoder = videomae_hf.load_encoder(place / "pretrained", device="cpu", sampling_rate=2)
    assert encoder.pooling == "mean of all tokens, after the last norm of the encoder"
    model = VideoMAEV2Model.from_pretrained(place / "pretrained")
    pixels = encoder.processor(video, return_tensors="pt").pixel_values
    with torch.no_grad():
        tokens = model(pixels).last_hidden_state
    torch.testing.assert_close(encoder.extract(video).values, tokens.mean(dim=1), rtol=0, atol=1e-5)


def test_a_checkpoint_without_a_norm_says_so(tmp_path, video):
    """OpenGVLab's layout without a head, as on the Hub."""
    model = randomize(VideoMAEV2ForVideoClassification(build().config))
    folder = opengvlab_folder(tmp_path / "theirs", model)
    encoder = videomae_hf.load_encoder(folder, device="cpu")
    assert encoder.pooling == "mean of all tokens, followed by fc_norm, as in classification"
    with torch.no_grad():
        model.fc_norm.weight.fill_(1), model.fc_norm.bias.fill_(0)
    encoder = videomae_hf.load_encoder(opengvlab_folder(tmp_path / "bare", model), device="cpu")
    assert encoder.pooling == "mean of all tokens, without a norm, of which this checkpoint has none"


def test_tokens_and_maps(encoder, video):
    tokens, maps = (encoder.extract(video, features=kind).values for kind in ("tokens", "maps"))
    assert tokens.shape == (1, 32, 24) and maps.shape == (1, 2, 4, 4, 24)
    assert torch.equal(maps[0, 1, 2, 3], tokens[0, 1 * 16 + 2 * 4 + 3])
    pooled = encoder.norm(tokens.mean(dim=1)).detach()
    torch.testing.assert_close(pooled, encoder.extract(video).values, rtol=0, atol=1e-6)


def test_views_are_averaged_or_kept(encoder, video):
    every = encoder.extract(video, num_clips=2, num_crops=3, views="all")
    assert every.values.shape == (6, 24)
    assert every.frames.tolist() == [[0, 7]] * 3 + [[62, 69]] * 3  # 4 frames, 2 apart
    assert every.starts.tolist() == [0] * 3 + [2.48] * 3
    mean = encoder.extract(video, num_clips=2, num_crops=3).values[0]
    torch.testing.assert_close(every.values.mean(dim=0), mean, rtol=0, atol=1e-6)


@pytest.mark.parametrize("spans", [("16f", "6f"), ("1", "0.4"), ("100f", "50f")], ids=str)
def test_a_window_is_a_video_of_its_own(encoder, video, spans):
    found = encoder.extract(video, window=spans[0], stride=spans[1])
    for row in range(len(found.values)):
        first, after = found.frames[row].tolist()
        expected = encoder.extract(VideoSegment(video, start_frame=first, end_frame=after)).values[0]
        torch.testing.assert_close(found.values[row], expected, rtol=0, atol=1e-5)
    assert found.frames[0, 0] == 0 and found.frames[-1, 1] in (69, 70)  # every second frame is read on the grid


def test_each_frame_is_decoded_once(encoder, video, monkeypatch):
    """70 frames in 15 windows that overlap by three quarters."""
    decoded, read = [], frame_stream._of_container

    def counted(av, container, reading):
        class Counting:
            streams = container.streams

            def decode(self, stream):
                for frame in container.decode(stream):
                    decoded.append(frame.pts)
                    yield frame

        return read(av, Counting(), reading)

    monkeypatch.setattr(frame_stream, "_of_container", counted)
    found = encoder.extract(video, window="16f", stride="4f")
    assert len(found.values) == 15 and len(decoded) == len(set(decoded)) == 70


def test_many_videos_at_once(encoder, place, video):
    """Those that cannot be read have an error, and frames in memory are videos, too."""
    array = indexed_frames(40)
    found = {one.name: one for one in encoder.extract_many([video, place / "bad.mp4", array, place / "none.mp4"])}
    assert list(map(str, (place / "bad.mp4", place / "none.mp4"))) == [
        name for name, one in sorted(found.items()) if one.error is not None
    ]
    assert isinstance(found[str(place / "bad.mp4")].error, VideoDecodeError)
    alone = encoder.extract(array)
    torch.testing.assert_close(found["array 2"].values, alone.values, rtol=0, atol=1e-5)
    assert alone.ends.tolist() == [40] and encoder.throughput.clips == 1
    with pytest.raises(VideoDecodeError):
        encoder.extract(place / "bad.mp4")


@pytest.mark.parametrize(
    ("how", "message"),
    [
        ({"features": "token"}, "features=token is unknown; choose one of pooled, tokens, maps"),
        ({"num_clips": 0}, "num_clips=0 must be at least 1"),
        ({"features": "maps", "num_crops": 3}, "their average means nothing; give views=all"),
        ({"window": "2", "stride": "8f"}, "differ in their unit"),
    ],
)
def test_mistakes(encoder, video, how, message):
    with pytest.raises(ValueError, match=message):
        encoder.extract(video, **how)
    with pytest.raises(ValueError, match="Unknown option 'num_frames' of the processor"):
        videomae_hf.load_encoder("x", num_frames=8)


def test_the_key_depends_on_everything_that_features_depend_on(place, encoder):
    def key(encoder, dtype="float32", **how) -> str:
        return encoder.header(Extraction(**how), "name", dtype)["key"]

    keys = [key(encoder), key(encoder, "float16"), key(encoder, features="tokens"), key(encoder, window="8f")]
    keys += [key(encoder, num_clips=2), key(videomae_hf.load_encoder(place / "pretrained", device="cpu"))]
    keys += [key(videomae_hf.load_encoder(place / "trained", device="cpu", **options))
             for options in ({"sampling_rate": 3}, {"dtype": "bfloat16"})]  # fmt: skip
    assert len(set(keys)) == len(keys)
    assert key(videomae_hf.load_encoder(place / "trained", device="cpu", batch_size=2)) == keys[0]


def test_features_that_are_not_finite_are_not_stored(encoder, place, video, tmp_path, monkeypatch):
    how = Extraction()
    writer = FeatureWriter(tmp_path, encoder.header(how, "name"))
    inputs = writer.plan([input_of(video), input_of(str(place / "bad.mp4"))])
    encode = encoder.encode
    monkeypatch.setattr(encoder, "encode", lambda *arguments: encode(*arguments) / 0)
    problems = {one.name: str(problem) for one, problem in encoder.extract_to(writer, inputs, how)}
    assert problems[video] == "its features are not finite in float32"
    assert writer.finish()[1].keys() == {video, str(place / "bad.mp4")} and FeatureFolder(tmp_path).records == {}


# ------------------------------------------------------------------------------------------------- temporal detection


@pytest.mark.parametrize(("frames", "starts"), [(70, range(0, 67, 4)), (4, [0]), (7, [0]), (8, [0, 4]), (2, [0])])
def test_windows_for_detection_are_those_of_the_official_script(encoder, frames, starts):
    """`range(0, n - 3, 4)` for windows of 4 frames; a shorter video has one."""
    _, how = detection_settings(encoder.processor)
    windows = how.windows(encoder.processor)
    assert windows == Windows(4, 4, "f", to_the_end=False)
    found = encoder.extract(indexed_frames(frames), **vars(how))
    assert found.frames[:, 0].tolist() == list(starts)


def test_official_preprocessing_for_detection(place, video):
    """Bilinear to a square, without antialiasing or normalisation, in float32."""
    encoder = videomae_hf.load_encoder(place / "trained", device="cpu")
    encoder.processor, how = detection_settings(encoder.processor, None, "16f", official=True)
    found = encoder.extract(video, **vars(how)).values
    frames = read_frames(video, lambda info: range(16, 20)).permute(0, 3, 1, 2) / 255  # (T, H, W, C) -> (T, C, H, W)
    pixels = torch.nn.functional.interpolate(frames, (32, 32), mode="bilinear", align_corners=False)
    expected = encoder.encode(pixels[None])[0]
    torch.testing.assert_close(found[1], expected, rtol=0, atol=1e-5)
    normalised = videomae_hf.load_encoder(place / "trained", device="cpu")
    normalised.processor, how = detection_settings(normalised.processor, None, "16f")
    assert not torch.allclose(normalised.extract(video, **vars(how)).values, found, atol=1e-3)


def test_detection_needs_frames():
    processor = VideoMAEV2ImageProcessor(num_frames=16)
    for spans in (("2", "1"), ("20f", "4f")):
        with pytest.raises(
            ValueError, match="layout=tad needs window and stride in frames, and a window of a multiple"
        ):
            detection_settings(processor, *spans)
    changed, how = detection_settings(processor, "32f", "16f")
    assert (changed.sampling_rate, how.window, how.stride) == (2, "32f", "16f")


# ------------------------------------------------------------------------------------------------------------ reading


def test_several_inputs_are_read_at_once():
    inputs = [input_of(f"{name}.mp4") for name in "abc"]

    def items_of(one):
        if one.name == "b.mp4":
            raise OSError("broken")
        yield from range(3)

    found = [entry for entry in read_together(inputs, items_of, 2, 4) if entry is not None]
    of_a = [item for one, item in found if one.name == "a.mp4"]
    assert of_a == [0, 1, 2, None] and [str(item) for one, item in found if one.name == "b.mp4"] == ["broken"]
    assert len(found) == 9
    with pytest.raises(ZeroDivisionError):  # a bug, rather than a fault of one video
        list(read_together(inputs, lambda one: [1 / 0], 2, 4))


def test_throughput_says_what_was_waited_for():
    throughput = Throughput(num_workers=2)
    throughput.clips, throughput.decoding = 30, 4.0
    assert "clips/s (decoding alone: 15.0 on 2 threads); " in throughput.describe()
    assert list(throughput.waits(throughput.decodes([1, 2]))) == [1, 2]


def test_frames_of_a_long_video_are_not_kept(encoder, tmp_path):
    path = str(write_three_motions(tmp_path / "long.mp4"))
    found = encoder.extract(path, window="0.4", stride="0.2")
    np.testing.assert_allclose(found.ends - found.starts, 0.4, atol=1e-6)
    assert found.ends[-1] == pytest.approx(2.4) and len(found.values) == 11


def test_other_layouts_of_a_checkpoint(place, encoder, video, tmp_path):
    """transformers' layout, and adapters that are merged: the features are those of classification."""
    peft = pytest.importorskip("peft")
    videomae("convert", place / "trained", tmp_path / "theirs", "--to", "transformers")
    theirs = videomae_hf.load_encoder(tmp_path / "theirs", device="cpu", sampling_rate=2)
    torch.testing.assert_close(theirs.extract(video).values, encoder.extract(video).values, rtol=0, atol=1e-5)
    base = VideoMAEV2ForVideoClassification.from_pretrained(place / "trained")
    targets = {"target_modules": ["query", "value"], "modules_to_save": ["classifier", "fc_norm"]}
    adapted = peft.get_peft_model(base, peft.LoraConfig(r=2, init_lora_weights=False, **targets))
    adapted.save_pretrained(tmp_path / "adapter")
    adapted.get_base_model().config.save_pretrained(tmp_path / "adapter")
    adapter, predictor = videomae_hf.load_encoder(tmp_path / "adapter"), videomae_hf.load(tmp_path / "adapter")
    logits = predictor.model.classifier(adapter.extract(video).values)[0]
    expected = predictor.predict(video, num_clips=1, num_crops=1).logits
    torch.testing.assert_close(logits, expected, rtol=0, atol=1e-5)


@pytest.mark.parametrize("mean_pooling", [None, False])
def test_class_tokens_are_left_out_or_pooled_alone(tmp_path, video, mean_pooling):
    model = build(VideoMAEV2Model, use_cls_token=True, use_mean_pooling=mean_pooling)
    model.save_pretrained(tmp_path / "model")
    encoder = videomae_hf.load_encoder(tmp_path / "model", device="cpu")
    tokens, maps, pooled = (encoder.extract(video, features=kind).values[0] for kind in ("tokens", "maps", "pooled"))
    assert tokens.shape[0] == model.config.sequence_length and maps.shape[:3] == model.config.grid_size
    assert torch.equal(maps.flatten(0, 2), tokens)
    if mean_pooling is None:
        torch.testing.assert_close(pooled, tokens.mean(dim=0))
    else:
        assert encoder.pooling.startswith("mean of class tokens")
        assert not torch.allclose(pooled, tokens.mean(dim=0))

"""Clip loaders: which frames of which video, what is drawn for a view and in which order, and labels."""

from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
import torch
from helpers.indexed_video import frame_indices, indexed_frames, write_indexed_video
from helpers.shared import TINY
from PIL import Image

from videomae_hf import VideoDecodeError, VideoMAEV2Config, VideoMAEV2ImageProcessor, token_counts
from videomae_hf.data.augmentation.rand_augment import RandAugment
from videomae_hf.data.augmentation.transforms import random_horizontal_flip, random_resized_crop
from videomae_hf.data.clips import ClipSampler, EvalTransform, FinetuneTransform, PretrainTransform
from videomae_hf.data.sources.folders_and_lists import VideoRecord
from videomae_hf.models import video_decoding


RAW = {"do_resize": False, "do_rescale": False, "do_normalize": False, "do_center_crop": False}


@pytest.fixture(scope="module")
def video(tmp_path_factory) -> VideoRecord:
    return VideoRecord(str(write_indexed_video(tmp_path_factory.mktemp("video") / "clip.mp4", 40, g=12)), 7)


@pytest.fixture(scope="module")
def images(tmp_path_factory) -> Path:
    """30 images img_00001.png to img_00030.png: red says which image, green the column, blue the row, all exactly."""
    folder = tmp_path_factory.mktemp("images")
    for number in range(1, 31):
        row, column = np.indices((48, 64))
        pixels = np.stack([np.full((48, 64), number), column, row], axis=-1).astype(np.uint8)
        Image.fromarray(pixels).save(folder / f"img_{number:05}.png")
    return folder


def numbers(clip: torch.Tensor) -> list[int]:
    """The images that a clip (T, C, H, W), however cropped, is made of."""
    return clip[:, 0].flatten(1).unique(dim=1)[:, 0].tolist()


def write_video(path: Path, milliseconds: list[int], pixel_aspect: int = 1) -> str:
    """Indexed frames that are shown from these times on."""
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=25)
        stream.height, stream.width, stream.pix_fmt = 96, 128, "yuv420p"
        stream.codec_context.time_base = Fraction(1, 1000)
        stream.codec_context.sample_aspect_ratio = Fraction(pixel_aspect)
        stream.thread_count = 1
        for pixels, time in zip(indexed_frames(len(milliseconds)), milliseconds):
            frame = av.VideoFrame.from_ndarray(pixels, format="rgb24")
            frame.pts, frame.time_base = time, Fraction(1, 1000)
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
    return str(path)


# ----------------------------------------------------------------------------------------------------------- sampling


@pytest.mark.parametrize(
    ("options", "distances"),
    [
        ({"sampling_rate": 4}, {4}),
        ({"fps": 12.5}, {2}),  # of 25
        ({"fps": 10}, {2, 3}),
        ({"frame_sampling": "uniform"}, set(range(1, 20))),
    ],
    ids=str,
)
def test_random_clips_of_a_file(video, generator, options, distances):
    sampling = ClipSampler(4, **options)
    clips = [sampling.random_clip(video, generator) for _ in range(40)]
    assert clips[0].shape == (4, 3, 96, 128) and clips[0].dtype == torch.uint8
    indices = torch.tensor([frame_indices(clip.permute(0, 2, 3, 1)) for clip in clips])
    assert len(indices[:, 0].unique()) > 5
    assert set(indices.diff(dim=1).unique().tolist()) <= distances


def test_a_clip_of_bytes_is_that_of_the_file(video):
    content = VideoRecord("name.mp4", content=Path(video.path).read_bytes())
    clips = [ClipSampler(4).random_clip(sample, torch.Generator().manual_seed(3)) for sample in (video, content)]
    assert torch.equal(*clips)


def test_frames_a_second_are_equally_spaced_in_time_where_those_of_the_file_are_not(tmp_path, generator):
    """Six frames 0.1 seconds apart, then six 0.5 seconds apart: 2 a second are not every so many frames."""
    path = write_video(tmp_path / "clip.mp4", [0, 100, 200, 300, 400, 500, 1000, 1500, 2000, 2500, 3000, 3500])
    clips = [ClipSampler(4, fps=2).random_clip(VideoRecord(path), generator) for _ in range(100)]
    assert {tuple(frame_indices(clip.permute(0, 2, 3, 1))) for clip in clips} == {
        *((0, 5, 6, 7), (2, 5, 6, 7), (5, 6, 7, 8)),  # 0, 0.5, 1 and 1.5 seconds; from 0.25 on; from 0.5 or 0.75 on
        *((6, 7, 8, 9), (7, 8, 9, 10), (8, 9, 10, 11)),
    }
    for num_frames, expected in ((4, [6, 7, 8, 9]), (8, [0, 5, 6, 7, 8, 9, 10, 11])):
        processor = VideoMAEV2ImageProcessor(num_frames=num_frames, fps=2, **RAW)
        frames = processor(path, return_tensors="pt").pixel_values[0]
        assert frame_indices(frames.permute(0, 2, 3, 1)) == expected


@pytest.mark.parametrize(("square_pixels", "width"), [(True, 256), (False, 128)])
def test_square_pixels(tmp_path, generator, square_pixels, width):
    path = write_video(tmp_path / "clip.mp4", list(range(0, 320, 40)), pixel_aspect=2)
    sampling = ClipSampler(4, sampling_rate=2, square_pixels=square_pixels)
    clip = sampling.random_clip(VideoRecord(path), generator)
    processor = VideoMAEV2ImageProcessor(num_frames=4, sampling_rate=2, square_pixels=square_pixels, **RAW)
    frames = processor(path, return_tensors="pt").pixel_values[0]
    assert clip.shape == frames.shape == (4, 3, 96, width)
    for found in (clip, frames):
        assert frame_indices(found.permute(0, 2, 3, 1)) == [0, 2, 4, 6]


def test_images_of_a_folder(images, generator):
    """By their template, from the first to as many as are there or as a list says; or all, in order of number."""
    template = "img_{:05}.png"

    def starts(sample, distance, **options):
        sampling = ClipSampler(4, sampling_rate=distance, **options)
        clips = [sampling.random_clip(sample, generator) for _ in range(30)]
        assert clips[0].shape == (4, 3, 48, 64)
        found = [numbers(clip) for clip in clips]
        assert all(np.diff(clip).tolist() == [distance] * 3 for clip in found)
        return {clip[0] for clip in found}

    folder = str(images)
    # A clip of 28 of the 30 images begins at one of the first three, one of 8 of 10 images too.
    assert starts(VideoRecord(folder), 7, frame_template=template) == {1, 2, 3}
    assert starts(VideoRecord(folder), 7) == {1, 2, 3}
    assert starts(VideoRecord(folder, num_frames=10), 2, frame_template=template) == {1, 2, 3}
    assert starts(VideoRecord(folder, first_frame=5, num_frames=10), 2, frame_template=template) == {5, 6, 7}
    assert starts(VideoRecord(folder, num_frames=10), 2) == {1, 2, 3}


def test_image_9_comes_before_image_10(images, tmp_path, generator):
    for number in range(1, 13):
        (tmp_path / f"frame{number}.png").symlink_to(images / f"img_{number:05}.png")
    clip = ClipSampler(12, sampling_rate=1).random_clip(VideoRecord(str(tmp_path)), generator)
    assert numbers(clip) == list(range(1, 13))


@pytest.mark.parametrize(
    ("sample_options", "options", "message"),
    [
        ({}, {"frame_template": "frame{}.png"}, r"holds no image \(frame\{\}.png\)"),
        ({"num_frames": 40}, {"frame_template": "img_{:05}.png", "sampling_rate": 10}, "img_00031.png cannot be read"),
        ({}, {"fps": 8}, "fps=8 needs a video with a known frame rate; use sampling_rate"),
        ({}, {"short_video": "error", "sampling_rate": 10}, "needs 31 frames, but the video has 30"),
    ],
    ids=str,
)
def test_folders_that_cannot_be_read(images, generator, sample_options, options, message):
    with pytest.raises(VideoDecodeError, match=message):
        ClipSampler(4, **options).random_clip(VideoRecord(str(images), **sample_options), generator)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"frame_sampling": "unifrom"}, "frame_sampling='unifrom' is unknown; choose dense or uniform"),
        ({"frame_sampling": "random"}, "frame_sampling='random' is unknown"),
        ({"short_video": "mirror"}, "short_video='mirror' is unknown; choose one of repeat_last, loop, error"),
        ({"short_video": "loop", "official_sampling": True}, "'loop' cannot be combined with official_sampling"),
        ({"sampling_rate": 0}, "sampling_rate=0 must be positive"),
        ({"fps": -1}, "fps=-1 must be positive"),
        ({"max_pixels": 0}, "max_pixels=0 must be positive"),
        ({"frame_template": "img.jpg"}, "frame_template='img.jpg' needs one placeholder for the number of an image"),
    ],
)
def test_clip_sampling_that_cannot_be(options, message):
    with pytest.raises(ValueError, match=message):
        ClipSampler(16, **options)


def test_a_short_video_may_be_an_error(video, generator):
    with pytest.raises(VideoDecodeError, match="clip.mp4: A clip of num_frames=16 at sampling_rate=4 needs 61 frames"):
        ClipSampler(16, short_video="error").random_clip(video, generator)


def test_span():
    assert ClipSampler(16, sampling_rate=4).span() == 61
    assert ClipSampler(16, sampling_rate=2.5).span() == 38.5
    assert ClipSampler(16, fps=5).span() == 3.0
    assert ClipSampler(16, frame_sampling="uniform").span() is None


# -------------------------------------------------------------------------------------------------------- pretraining


@pytest.mark.parametrize(("decoder_mask_ratio", "num_decoded"), [(0.0, 28), (0.5, 16)])
def test_pretraining_clips(video, generator, decoder_mask_ratio, num_decoded):
    config = VideoMAEV2Config(**TINY, decoder_mask_ratio=decoder_mask_ratio)
    item = PretrainTransform(config, ClipSampler(4))(video, generator)
    assert set(item) == {"pixel_values", "visible_ids", "decoded_ids", "path"}
    assert (item["pixel_values"].shape, item["pixel_values"].dtype) == ((4, 3, 32, 32), torch.uint8)
    # Two slices of 4 x 4 tokens, of which int(0.9 * 16) are hidden in each.
    assert (len(item["visible_ids"]), len(item["decoded_ids"])) == token_counts(config) == (4, num_decoded)
    for name in ("visible_ids", "decoded_ids"):
        assert item[name].unique().tolist() == item[name].tolist()
        assert 0 <= item[name].min() and item[name].max() < 32
    if decoder_mask_ratio == 0:
        assert sorted([*item["visible_ids"].tolist(), *item["decoded_ids"].tolist()]) == list(range(32))


@pytest.mark.parametrize("loader", [PretrainTransform, FinetuneTransform])
def test_each_source_has_its_sampling(images, generator, loader):
    load = loader(VideoMAEV2Config(**TINY), [ClipSampler(4, sampling_rate=1), ClipSampler(4, sampling_rate=6)])
    for source, distance in ((0, 1), (1, 6)):
        clip = load(VideoRecord(str(images), 0, source=source), generator)["pixel_values"]
        assert set(np.diff(numbers(clip))) == {distance}


@pytest.mark.parametrize(
    ("loader", "official", "expected"),
    [
        (PretrainTransform, True, [1, 5, 9, 9]),  # never the last image, the 13th
        (FinetuneTransform, True, [1, 7, 13, 13]),  # three points of 13 images, and the last one
        (PretrainTransform, False, [1, 5, 9, 13]),
        (FinetuneTransform, False, [1, 5, 9, 13]),
    ],
)
def test_official_sampling_differs_between_pretraining_and_finetuning(images, generator, loader, official, expected):
    load = loader(VideoMAEV2Config(**TINY), ClipSampler(4, official_sampling=official))
    assert numbers(load(VideoRecord(str(images), 0, num_frames=13), generator)["pixel_values"]) == expected


def test_views_of_pretraining_share_the_frames_and_nothing_else(images, generator):
    load = PretrainTransform(VideoMAEV2Config(**TINY), ClipSampler(4), num_sample=4)
    pairs = [load(VideoRecord(str(images)), generator) for _ in range(10)]
    for views in pairs:
        assert len(views) == 4
        assert len({tuple(numbers(view["pixel_values"])) for view in views}) == 1
    corners = [{tuple(view["pixel_values"][0, 1:, 0, 0].tolist()) for view in views} for views in pairs]
    visible = [{tuple(view["visible_ids"].tolist()) for view in views} for views in pairs]
    assert max(map(len, corners)) > 2 and sum(map(len, corners)) > 25
    assert max(map(len, visible)) == 4 and sum(map(len, visible)) > 35
    assert len({numbers(views[0]["pixel_values"])[0] for views in pairs}) > 4


# ---------------------------------------------------------------------------------------------------------- finetuning


def test_training_clips_are_flipped_half_of_the_time_and_only_if_wanted(video):
    config = VideoMAEV2Config(**TINY)

    def load(seed, **options):
        return FinetuneTransform(config, ClipSampler(4), **options)(video, torch.Generator().manual_seed(seed))

    items = [(load(seed, horizontal_flip=False), load(seed)) for seed in range(12)]
    assert all(item["labels"] == 7 and item["pixel_values"].shape == (4, 3, 32, 32) for pair in items for item in pair)
    pairs = [(plain["pixel_values"], maybe["pixel_values"]) for plain, maybe in items]
    flipped = [torch.equal(plain.flip(-1), maybe) and not torch.equal(plain, maybe) for plain, maybe in pairs]
    assert all(flip or torch.equal(plain, maybe) for flip, (plain, maybe) in zip(flipped, pairs))
    assert any(flipped) and not all(flipped)


def test_augmentation_is_on_whole_frames_then_the_crop_then_the_flip(images):
    policy, sampling = "rand-m9-n4-mstd0.5-inc1", ClipSampler(4)
    load = FinetuneTransform(VideoMAEV2Config(**TINY), sampling, crop_scale=(0.2, 0.5), rand_augment=policy)
    sample, changed = VideoRecord(str(images), 0), 0
    for seed in range(8):
        generator = torch.Generator().manual_seed(seed)
        frames = sampling.random_clip(sample, generator)
        augmented = RandAugment.from_string(policy)(frames, generator)
        cropped = random_resized_crop(augmented, (32, 32), generator, scale=(0.2, 0.5))
        expected = random_horizontal_flip(cropped, generator)
        item = load(sample, torch.Generator().manual_seed(seed))
        assert torch.equal(item["pixel_values"], expected)
        changed += not torch.equal(augmented, frames) and not torch.equal(expected, cropped)
    assert changed > 1  # seeds in which each of the three did something


def test_views_of_finetuning_share_the_frames_and_the_labels(images, generator):
    load = FinetuneTransform(VideoMAEV2Config(**TINY), ClipSampler(4), num_sample=2)
    pairs = [load(VideoRecord(str(images), 5), generator) for _ in range(10)]
    assert all(numbers(first["pixel_values"]) == numbers(second["pixel_values"]) for first, second in pairs)
    assert not any(torch.equal(first["pixel_values"], second["pixel_values"]) for first, second in pairs)
    assert {view["labels"] for views in pairs for view in views} == {5}
    assert len({view["seed"] for views in pairs for view in views}) == 20


def test_colours_change_where_wanted(images):
    config, sample = VideoMAEV2Config(**TINY), VideoRecord(str(images), 0)

    def load(**options):
        return FinetuneTransform(config, ClipSampler(4), **options)(sample, torch.Generator().manual_seed(1))

    plain = load()["pixel_values"]
    grey = load(grayscale=1.0)["pixel_values"]
    assert torch.equal(grey[:, 0], grey[:, 1]) and torch.equal(grey[:, 0], grey[:, 2])
    assert not torch.equal(plain[:, 0], plain[:, 1])
    assert not torch.equal(load(color_jitter=0.4)["pixel_values"], plain)


def test_several_labels_are_ones_and_zeros(video, generator):
    config = VideoMAEV2Config(**TINY, num_labels=5)
    load, views = (
        FinetuneTransform(config, ClipSampler(4)),
        EvalTransform(VideoMAEV2ImageProcessor(**RAW), num_labels=5),
    )
    for loader in (load, views):
        for label, expected in (((3, 1), [0, 1, 0, 1, 0]), ((), [0, 0, 0, 0, 0])):
            labels = loader(VideoRecord(video.path, label), generator)["labels"]
            assert labels.dtype == torch.float32 and labels.tolist() == expected


@pytest.mark.parametrize("kind", ["pretraining", "finetuning", "evaluation"])
@pytest.mark.parametrize("batch_bytes", [1, 5 * 96 * 128 * 3])
def test_clips_are_the_same_however_few_frames_are_in_memory(video, monkeypatch, kind, batch_bytes):
    config = VideoMAEV2Config(**{**TINY, "num_frames": 8})
    sampling = ClipSampler(8, sampling_rate=3)
    colours = {"color_jitter": 0.4, "grayscale": 0.5, "rand_augment": "rand-m9-n4-mstd0.5-inc1"}
    load = {
        "pretraining": PretrainTransform(config, sampling, num_sample=3),
        "finetuning": FinetuneTransform(config, sampling, num_sample=2, **colours),
        "evaluation": EvalTransform(VideoMAEV2ImageProcessor(num_frames=8), num_clips=3, num_crops=2),
    }[kind]

    def items(seed):
        found = load(video, torch.Generator().manual_seed(seed))
        return found if isinstance(found, list) else [found]

    expected = [items(seed) for seed in range(6)]
    monkeypatch.setattr(video_decoding, "BATCH_BYTES", batch_bytes)
    for seed, whole in enumerate(expected):
        for one, other in zip(whole, items(seed), strict=True):
            assert one.keys() == other.keys()
            for name, value in one.items():
                assert torch.equal(torch.as_tensor(value), torch.as_tensor(other[name])) if name != "path" else True


def test_antialias(images):
    config, sample = VideoMAEV2Config(**TINY), VideoRecord(str(images), 0)

    def load(**options):
        clips = FinetuneTransform(config, ClipSampler(4), crop_scale=(1.0, 1.0), horizontal_flip=False, **options)
        return clips(sample, torch.Generator().manual_seed(1))["pixel_values"]

    assert torch.equal(load(), load(antialias=True)) and not torch.equal(load(), load(antialias=False))


@pytest.mark.parametrize("num_channels", [1, 4])
@pytest.mark.parametrize("loader", [PretrainTransform, FinetuneTransform])
def test_clips_of_other_channels(tmp_path, video, generator, loader, num_channels):
    values = {"image_mean": [0.5] * num_channels, "image_std": [0.5] * num_channels}
    config = VideoMAEV2Config(**TINY, num_channels=num_channels, **values)
    load = loader(config, ClipSampler(4, sampling_rate=2, num_channels=num_channels))
    stack = np.arange(9, dtype=np.uint8)[:, None, None, None].repeat(40, 1).repeat(40, 2).repeat(num_channels, 3)
    np.save(tmp_path / "stack.npy", stack)
    clip = load(VideoRecord(str(tmp_path / "stack.npy"), 0), generator)["pixel_values"]
    assert clip.shape == (4, num_channels, 32, 32) and clip[:, 0].flatten(1).unique(dim=1).diff(dim=0).unique() == 2
    if num_channels == 1:
        assert load(video, generator)["pixel_values"].shape == (4, 1, 32, 32)
    else:
        with pytest.raises(VideoDecodeError, match="clip.mp4 .* 3 channels, but num_channels=4 is requested"):
            load(video, generator)


# ---------------------------------------------------------------------------------------------------------- evaluation


def test_shuffled_views_are_the_same_frames_in_another_order(video, generator):
    raw = {**RAW, "do_center_crop": True, "crop_size": {"height": 96, "width": 128}}
    processor = VideoMAEV2ImageProcessor(num_frames=8, sampling_rate=2, **raw)

    def indices(**options):
        item = EvalTransform(processor, num_clips=2, num_crops=2, **options)(video, generator)
        assert item["labels"] == 7 and item["pixel_values"].shape == (4, 8, 3, 96, 128)
        return [frame_indices(view.permute(0, 2, 3, 1)) for view in item["pixel_values"]]

    first, last = list(range(0, 15, 2)), list(range(24, 39, 2))
    assert indices() == [first, first, last, last]
    shuffled = indices(shuffle_frames=True)
    assert [sorted(view) for view in shuffled] == [first, first, last, last]
    assert all(view != sorted(view) for view in shuffled)


def test_evaluation_of_images(images, generator):
    processor = VideoMAEV2ImageProcessor(num_frames=4, sampling_rate=2, **RAW)
    views = EvalTransform(processor, frame_template="img_{:05}.png")
    sample = VideoRecord(str(images), 1, first_frame=11, num_frames=10)
    # Of 5 images two apart, a clip of 4 in their middle begins at the first.
    assert numbers(views(sample, generator)["pixel_values"]) == [11, 13, 15, 17]
    assert numbers(EvalTransform(processor)(VideoRecord(str(images), 1), generator)["pixel_values"]) == [11, 13, 15, 17]

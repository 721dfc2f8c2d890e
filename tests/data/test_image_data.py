"""Images as samples of a data set: folders, lists, tar shards and data sets of the Hub, and how they are decoded."""

import io
import tarfile
import zlib
from pathlib import Path

import datasets
import numpy as np
import pytest
import torch
from helpers.indexed_video import write_indexed_video
from helpers.shared import TINY
from PIL import Image

from videomae_hf import VideoMAEV2Config, VideoMAEV2ImageProcessor
from videomae_hf.data.checks import check_data
from videomae_hf.data.clips import ClipSampler, PretrainTransform
from videomae_hf.data.sources.folders_and_lists import Reading, read_samples
from videomae_hf.data.sources.hub_datasets import HubSplit, read_rows, stream_rows, stream_shards
from videomae_hf.data.sources.media import IMAGES, VIDEOS
from videomae_hf.data.sources.records import VideoRecord
from videomae_hf.data.sources.tar_shards import read_shards
from videomae_hf.data.video_dataset import VideoDataset
from videomae_hf.models.video_decoding import VideoDecodeError, read_frames


OF_IMAGES = Reading(media=IMAGES)
UNLABELLED = Reading(labelled=False, media=IMAGES)
ONE_FRAME = VideoMAEV2Config(**{**TINY, "num_frames": 1, "tubelet_size": 1, "mask_type": "random"})


def picture(value: int, size: tuple[int, int] = (6, 4)) -> Image.Image:
    return Image.new("RGB", size, (value, value, value))


def encoded(image: Image.Image, kind: str = "PNG", **options) -> bytes:
    file = io.BytesIO()
    image.save(file, kind, **options)
    return file.getvalue()


def write(folder: Path, *names: str, size: tuple[int, int] = (6, 4)) -> None:
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        picture(10, size).save(folder / name)


def listed(samples, root: Path) -> list[tuple[str, int]]:
    return [(Path(sample.path).relative_to(root).as_posix(), sample.label) for sample in samples]


# ------------------------------------------------------------------------------------------------------------ folders


def test_class_folders_of_images(tmp_path):
    write(tmp_path, "cat/1.jpg", "cat/deep/2.PNG", "dog/3.webp", "dog/4.bmp", "dog/5.tif", "loose.png")
    (tmp_path / "cat" / "notes.txt").write_text("x")
    write_indexed_video(tmp_path / "dog" / "6.mp4", 3)
    samples, classes = read_samples(tmp_path, reading=OF_IMAGES)
    assert classes == ["cat", "dog"]
    expected = [("cat/1.jpg", 0), ("cat/deep/2.PNG", 0), ("dog/3.webp", 1), ("dog/4.bmp", 1), ("dog/5.tif", 1)]
    assert listed(samples, tmp_path) == [*expected, ("dog/6.mp4", 1)]
    assert samples.messages == [
        f"{tmp_path}: 5 images and 1 video, of which one frame each",
        f"{tmp_path}: 1 image outside class folders left out: loose.png",
        f"{tmp_path}: files other than images and videos left out: 1 .txt",
    ]


def test_images_at_any_depth_without_labels(tmp_path):
    write(tmp_path, "1.jpg", "a/2.jpg", "a/b/3.jpg")
    samples, _ = read_samples(tmp_path, reading=UNLABELLED)
    assert len(samples) == 3 and samples.messages == []


def test_a_model_of_videos_refuses_single_images(tmp_path):
    write(tmp_path, "cat/1.jpg", "dog/2.jpg")
    message = "holds 2 images and no video. A model of videos takes a folder of images for each video; single images"
    with pytest.raises(ValueError, match=message):
        read_samples(tmp_path)
    samples, _ = read_samples(tmp_path, labelled=False)  # each folder may be a video
    assert samples.messages == [f"{tmp_path}: 2 folders of images, each of which is a video"]
    write(tmp_path, "cat/2.jpg", size=(9, 9))
    with pytest.raises(ValueError, match="holds 3 images and no video"):
        read_samples(tmp_path, labelled=False)


# -------------------------------------------------------------------------------------------------------------- lists


@pytest.mark.parametrize(
    "text",
    [
        "image,label\na b.jpg,cat\nc.png,dog\n",
        "image_path\tclass\na b.jpg\tcat\nc.png\tdog\n",
        "a b.jpg cat\nc.png dog\n",
        "a b.jpg;cat\nc.png;dog\n",
        "path,label\na b,cat\nc,dog\n",
        '{"image": "a b.jpg", "label": "cat"}\n{"image": "c.png", "label": "dog"}\n',
    ],
    ids=["header", "tabs", "spaces", "semicolons", "no suffix", "JSON lines"],
)
def test_lists_of_images(tmp_path, text):
    write(tmp_path, "a b.jpg", "c.png")
    (tmp_path / "list.csv").write_text(text)
    samples, classes = read_samples(tmp_path / "list.csv", reading=OF_IMAGES)
    assert classes == ["cat", "dog"] and listed(samples, tmp_path) == [("a b.jpg", 0), ("c.png", 1)]
    assert samples.messages == []


def test_a_list_of_videos_with_previews_remains_one_of_videos(tmp_path):
    (tmp_path / "list.csv").write_text("video,image,label\na.mp4,a.jpg,cat\nb.mp4,b.jpg,dog\n")
    samples, _ = read_samples(tmp_path / "list.csv")
    assert [Path(sample.path).name for sample in samples] == ["a.mp4", "b.mp4"]
    assert samples.messages == [f"{tmp_path / 'list.csv'}: columns not used: image"]
    write(tmp_path, "a.jpg")
    (tmp_path / "a.mp4").touch()
    (tmp_path / "list.csv").write_text("path,label\na,cat\n")
    assert read_samples(tmp_path / "list.csv")[0][0].path == str(tmp_path / "a.mp4")
    with pytest.raises(ValueError, match="could be a.jpg or a.mp4; add the suffix"):
        read_samples(tmp_path / "list.csv", reading=OF_IMAGES)


# ------------------------------------------------------------------------------------------------------ shards, the Hub


def write_shard(path: Path, members: dict[str, bytes]) -> Path:
    with tarfile.open(path, "w") as tar:
        for name, content in members.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            tar.addfile(info, io.BytesIO(content))
    return path


def test_tar_shards_of_images(tmp_path):
    members = {"0.jpg": encoded(picture(9), "JPEG"), "0.cls": b"1", "1.png": encoded(picture(200))}
    members |= {"1.json": b'{"label": "0"}', "1.npy": b""}
    shard = write_shard(tmp_path / "a.tar", members)
    samples, classes = read_shards(shard, media=IMAGES)
    assert classes == ["0", "1"] and [(sample.path, sample.label) for sample in samples] == [
        (f"{shard}/0.jpg", 1),
        (f"{shard}/1.png", 0),
    ]
    assert samples.messages == [f"{shard}: members not used: 1 .npy"]
    assert read_frames(samples[1].video(), [0]).shape == (1, 4, 6, 3)
    with pytest.raises(ValueError, match="holds 2 images and no video"):
        read_shards(shard)
    rows = stream_shards(shard, ["0", "1"], num_videos=2, media=IMAGES)
    assert [rows.sample(row).label for row in rows.rows] == [1, 0]


def test_captions_beside_images_do_not_matter_without_labels(tmp_path):
    caption = b"a cat\non a mat"
    shard = write_shard(tmp_path / "a.tar", {"0.jpg": encoded(picture(9), "JPEG"), "0.txt": caption})
    assert len(read_shards(shard, labelled=False, media=IMAGES)[0]) == 1
    with pytest.raises(ValueError, match="is a text of several lines, not a class"):
        read_shards(shard, media=IMAGES)


@pytest.fixture
def rows():
    features = datasets.Features({"image": datasets.Image(), "label": datasets.ClassLabel(names=["cat", "dog"])})
    images = [{"bytes": encoded(picture(value)), "path": None} for value in (0, 100, 200)]
    return datasets.Dataset.from_dict({"image": images, "label": [0, 1, 0]}, features=features)


@pytest.mark.parametrize("form", ["parquet", "saved", "imagefolder"])
def test_columns_of_images(tmp_path, rows, form):
    name = tmp_path / "set"
    options = {}
    if form == "parquet":
        name.mkdir()
        rows.to_parquet(name / "train.parquet")
    elif form == "saved":
        datasets.DatasetDict({"train": rows}).save_to_disk(name)
    else:
        write(name, "cat/0.png", "dog/1.png", "cat/2.png")
        options = {"data_dir": str(name)}
    split = HubSplit("imagefolder" if options else str(name), "train", options=options, media=IMAGES)
    samples, classes = read_rows(split)
    assert classes == ["cat", "dog"] and sorted(sample.label for sample in samples) == [0, 0, 1]
    assert read_frames(samples[1].video(), [0]).shape == (1, 4, 6, 3)
    if form != "saved":
        stream = stream_rows(split, num_videos=3)
        assert stream.video_column == "image" and len([stream.sample(row) for row in stream.rows]) == 3
    with pytest.raises(ValueError, match="holds images .in the column image. and no video"):
        read_rows(HubSplit(split.name, "train", options=options, media=VIDEOS))


# ----------------------------------------------------------------------------------------------------------- decoding


def test_pixels_of_every_mode(tmp_path):
    """As `convert("RGB")` of PIL, which torchvision and timm use, except that 16 bits are scaled, not clipped."""
    red = Image.new("RGB", (2, 2), (255, 0, 0))
    half = Image.new("RGBA", (2, 2), (255, 0, 0, 128))
    forms = {
        "a.png": (red, (255, 0, 0)),
        "b.png": (half, (255, 0, 0)),
        "c.png": (red.quantize(2), (255, 0, 0)),
        "d.png": (Image.fromarray(np.full((2, 2), 257 * 77, np.uint16)), (77, 77, 77)),
        "e.png": (Image.new("LA", (2, 2), (50, 0)), (50, 50, 50)),
        "f.png": (Image.new("1", (2, 2), 1), (255, 255, 255)),
        "g.tif": (Image.new("CMYK", (2, 2), (0, 255, 255, 0)), (255, 0, 0)),
    }
    for name, (image, expected) in forms.items():
        image.save(tmp_path / name)
        assert read_frames(tmp_path / name, [0])[0, 0, 0].tolist() == list(expected), name


def test_jpegs_are_upright_whatever_their_suffix(tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 6  # turned by a quarter
    content = encoded(picture(9), "JPEG", exif=exif)
    for name in ("a.jpg", "a.png"):
        (tmp_path / name).write_bytes(content)
        assert read_frames(tmp_path / name, [0]).shape == (1, 6, 4, 3)
    assert read_frames(content, [0]).shape == (1, 6, 4, 3)


def test_only_the_first_picture_of_a_phone_counts(tmp_path):
    file = io.BytesIO()
    picture(200).save(file, "MPO", save_all=True, append_images=[picture(0, (3, 3))])
    (tmp_path / "a.jpg").write_bytes(file.getvalue())
    seen = []
    for source in (tmp_path / "a.jpg", file.getvalue()):
        assert read_frames(source, lambda info: seen.append(info.num_frames) or [0])[0, 0, 0, 0] == 200
    assert seen == [1, 1]


def claiming(width: int, height: int) -> bytes:
    """A PNG of a few bytes whose header claims this size."""
    content = encoded(picture(0))
    header = b"IHDR" + width.to_bytes(4, "big") + height.to_bytes(4, "big") + content[24:29]
    return content[:12] + header + zlib.crc32(header).to_bytes(4, "big") + content[33:]


def test_bad_images_are_replaced_and_counted(tmp_path, caplog):
    write(tmp_path, "good.png", "large.png", size=(40, 40))
    good = encoded(Image.fromarray(np.random.default_rng(0).integers(0, 256, (40, 40, 3), dtype=np.uint8)), "JPEG")
    (tmp_path / "cut.jpg").write_bytes(good[: len(good) // 2])
    (tmp_path / "bomb.png").write_bytes(claiming(12000, 4000))
    (tmp_path / "text.webp").write_text("no image")
    samples, _ = read_samples(tmp_path, reading=UNLABELLED)
    dataset = VideoDataset(samples, PretrainTransform(ONE_FRAME, ClipSampler(1)))
    clips = [dataset[index]["pixel_values"] for index in range(len(dataset))]
    assert {tuple(clip.shape) for clip in clips} == {(1, 3, 32, 32)} and clips[0].dtype == torch.uint8
    assert dataset.bad_videos() == (3, 5)
    for name in ("cut.jpg", "bomb.png", "text.webp"):
        assert sum(str(tmp_path / name) in line for line in caplog.messages) == 1
    with pytest.raises(VideoDecodeError, match="12000 x 4000 pixels, more than max_pixels"):
        read_frames(tmp_path / "bomb.png", [0])


def test_a_rate_does_not_matter(tmp_path):
    write(tmp_path, "a.png", size=(40, 40))
    samples, _ = read_samples(tmp_path, reading=UNLABELLED)
    sampler = ClipSampler(1, fps=8)
    assert sampler.random_clip(samples[0], torch.Generator().manual_seed(0)).shape == (1, 3, 40, 40)
    assert check_data(samples, [], [sampler]) == ["1 images"]
    processor = VideoMAEV2ImageProcessor(num_frames=1, fps=8)
    assert processor(samples[0].path, return_tensors="pt").pixel_values.shape == (1, 1, 3, 224, 224)


def test_which_frame_of_a_video(tmp_path):
    """A random one in training, the middle one in evaluation."""
    path = write_indexed_video(tmp_path / "a.mp4", 5)
    frames = read_frames(path, range(5))
    sampler, generator = ClipSampler(1), torch.Generator().manual_seed(0)
    clips = [sampler.random_clip(VideoRecord(str(path)), generator)[0].permute(1, 2, 0) for _ in range(30)]
    seen = {next(index for index in range(5) if torch.equal(clip, frames[index])) for clip in clips}
    assert seen == {0, 1, 2, 3, 4}
    processor = VideoMAEV2ImageProcessor(num_frames=1, return_metadata=True)
    assert processor(path).video_metadata[0].frames_indices == [2]


def test_a_list_of_images_for_a_model_of_videos(tmp_path):
    write(tmp_path, "a.jpg", "b.png")
    (tmp_path / "list.csv").write_text("image,label\na.jpg,cat\nb.png,dog\n")
    samples, classes = read_samples(tmp_path / "list.csv")
    better = "a model of single images, such as a new one with --model_kind mae"
    with pytest.raises(ValueError, match=f"use fewer or closer frames, or {better}"):
        check_data(samples, classes, [ClipSampler(16)])
    found = check_data(samples, classes, [ClipSampler(16, frame_sampling="uniform")])
    assert f"WARNING: each of the 2 checked videos has a single frame; consider {better}" in found

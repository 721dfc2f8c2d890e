"""Frames from images and arrays: every depth and every number of channels becomes the right uint8, or a clear error."""

import io
import re
import warnings

import numpy as np
import pytest
import torch
from PIL import Image

from videomae_hf import FrameFolder, VideoDecodeError, VideoSegment
from videomae_hf.commands.scan import scan_file
from videomae_hf.models import frame_pixels
from videomae_hf.models.video_decoding import read_frames


RAMP = np.linspace(0, 65535, 12 * 16).reshape(12, 16).round().astype(np.uint16)  # all of 16 bits
RAMP_8 = (RAMP / 65535 * 255).round().astype(np.uint8)
RGB = np.random.default_rng(0).integers(0, 256, (12, 16, 3), dtype=np.uint8)


def folder_of(path, image: Image.Image | list, name: str = "png", **options):
    path.mkdir(exist_ok=True)
    for number, one in enumerate(image if isinstance(image, list) else [image]):
        one.save(path / f"{number}.{name}", **options)
    return path


def grey(frames) -> np.ndarray:
    """(H, W) of one frame (1, H, W, 3) whose channels are the same."""
    assert np.array_equal(frames[..., 0], frames[..., 1]) and np.array_equal(frames[..., 0], frames[..., 2])
    return frames[0, ..., 0].numpy()


def assert_refused(source, message: str, **options):
    with pytest.raises(VideoDecodeError, match=message):
        read_frames(source, [0], **options)


# -------------------------------------------------------------------------------------------------------------- depth


@pytest.mark.parametrize("dtype", ["<u2", ">u2"])
@pytest.mark.parametrize("name", ["png", "tif"])
def test_sixteen_bits(tmp_path, name, dtype):
    folder_of(tmp_path / "images", Image.fromarray(RAMP.astype(dtype)), name)
    assert np.array_equal(grey(read_frames(tmp_path / "images", [0])), RAMP_8)
    one = read_frames(tmp_path / "images", [0], num_channels=1)
    assert one.shape == (1, 12, 16, 1) and np.array_equal(one[0, ..., 0], RAMP_8)


def test_sixteen_bits_in_thirty_two(tmp_path):
    """Pillow's older releases open PNG of 16 bits so."""
    folder_of(tmp_path / "images", Image.fromarray(RAMP.astype(np.int32)), "tif")
    assert np.array_equal(grey(read_frames(tmp_path / "images", [0])), RAMP_8)


def test_floats_from_0_to_1(tmp_path):
    folder_of(tmp_path / "images", Image.fromarray((RAMP / 65535).astype(np.float32)), "tif")
    assert np.array_equal(grey(read_frames(tmp_path / "images", [0])), RAMP_8)


@pytest.mark.parametrize(
    ("pixels", "message"),
    [
        (np.float32([[0, 255]]), "mode F with values from 0.0 to 255.0; the range of such floats is unknown: scale"),
        (np.float32([[-0.5, 1]]), "mode F with values from -0.5 to 1.0"),
        (np.float32([[0, np.nan]]), "mode F with values from nan to nan"),
        (np.float32([[0, np.inf]]), "mode F with values from 0.0 to inf"),
        (np.int32([[0, 65536]]), "mode I with values from 0 to 65536; only 16 bits have a known range: scale them"),
        (np.int32([[-1, 5]]), "mode I with values from -1 to 5"),
    ],
)
def test_pixels_of_unknown_range(tmp_path, pixels, message):
    folder_of(tmp_path / "images", Image.fromarray(pixels), "tif")
    assert_refused(tmp_path / "images", f"images/0.tif cannot be read: pixels of {re.escape(message)}")
    assert re.search(re.escape(message), scan_file(str(tmp_path / "images")).reason)


def test_frames_of_12_bits_in_16_are_dark_and_say_so(tmp_path):
    folder_of(tmp_path / "images", Image.fromarray(RAMP // 16))
    with pytest.warns(UserWarning, match="no value above 4095 and come out nearly black"):
        assert read_frames(tmp_path / "images", [0]).max() == 16
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        folder_of(tmp_path / "black", Image.fromarray(RAMP * 0))
        assert read_frames(tmp_path / "black", [0]).max() == 0


BOOL = Image.fromarray(RGB[..., 0] > 127)


@pytest.mark.parametrize(
    ("image", "name"),
    [
        (BOOL, "png"),
        (BOOL, "tif"),
        (Image.fromarray(RGB[..., 0]), "png"),
        (Image.fromarray(RGB).quantize(16), "png"),
        (Image.fromarray(RGB[..., 0]).convert("LA"), "png"),
        (Image.fromarray(np.dstack([RGB, RGB[..., 0]])), "png"),  # RGBA
        (Image.fromarray(RGB).convert("CMYK"), "tif"),
        (Image.fromarray(RGB).convert("CMYK"), "jpg"),
        (Image.fromarray(RGB), "bmp"),
        (Image.fromarray(RGB), "webp"),
    ],
    ids=lambda value: getattr(value, "mode", value),
)
def test_other_modes_are_those_of_pillow(tmp_path, image, name):
    folder_of(tmp_path / "images", image, name)
    with Image.open(tmp_path / "images" / f"0.{name}") as stored:
        expected = {3: np.array(stored.convert("RGB")), 1: np.array(stored.convert("L"))[..., None]}
    for num_channels, pixels in expected.items():
        assert np.array_equal(read_frames(tmp_path / "images", [0], num_channels=num_channels)[0], pixels)
        assert num_channels == 1 or image.mode != "1" or set(np.unique(pixels)) == {0, 255}


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("name", ["jpg", "png", "webp", "tif"])
def test_exif_orientation(tmp_path, name, orientation):
    stored = RAMP_8.copy()
    stored[:6, :8] = 255  # the corner that turns
    transposed = {
        1: lambda a: a, 2: np.fliplr, 3: lambda a: np.rot90(a, 2), 4: np.flipud, 5: lambda a: a.T,
        6: lambda a: np.rot90(a, -1), 7: lambda a: np.rot90(a.T, 2), 8: np.rot90,
    }  # fmt: skip
    exif = Image.Exif()
    exif[0x0112] = orientation
    options = {"quality": 100, "lossless": True, "exif": exif} if name != "tif" else {"tiffinfo": {0x0112: orientation}}
    folder_of(tmp_path / "images", Image.fromarray(stored).convert("RGB"), name, **options)
    frame = grey(read_frames(tmp_path / "images", [0]))
    expected = transposed[orientation](stored)
    assert frame.shape == expected.shape
    assert np.abs(frame.astype(int) - expected).max() <= (30 if name == "jpg" else 0)


@pytest.mark.filterwarnings("ignore:Corrupt EXIF data")
def test_broken_exif_data_do_no_harm(tmp_path):
    folder_of(tmp_path / "images", Image.fromarray(RGB), exif=b"Exif\0\0II*\0\xff\xff\xff\xff")
    assert np.array_equal(read_frames(tmp_path / "images", [0])[0], RGB)


# ----------------------------------------------------------------------------------------------------------- channels


def test_channels_of_images(tmp_path):
    rgba, la = np.dstack([RGB, RAMP_8]), np.dstack([RAMP_8, RGB[..., 0]])
    folder_of(tmp_path / "rgba", Image.fromarray(rgba))
    folder_of(tmp_path / "la", Image.merge("LA", [Image.fromarray(RAMP_8), Image.fromarray(RGB[..., 0])]))
    assert np.array_equal(read_frames(tmp_path / "rgba", [0], num_channels=4)[0], rgba)
    assert np.array_equal(read_frames(tmp_path / "la", [0], num_channels=2)[0], la)
    folder_of(tmp_path / "rgb", Image.fromarray(RGB))
    for num_channels in (2, 4):
        message = rf"0.png cannot be read: its frames have 3 channels \(mode RGB\), but num_channels={num_channels}"
        assert_refused(tmp_path / "rgb", message, num_channels=num_channels)


@pytest.mark.parametrize("channels", [1, 2, 3, 4, 7])
@pytest.mark.parametrize("first", [False, True])
@pytest.mark.parametrize("name", ["npy", "npz", "compressed.npz"])
def test_stacks_of_any_number_of_channels(tmp_path, name, first, channels):
    frames = np.random.default_rng(1).integers(0, 256, (5, 12, 16, channels), dtype=np.uint8)
    stored = np.ascontiguousarray(frames.transpose(0, 3, 1, 2)) if first else frames
    path = tmp_path / f"video.{name}"
    {"npy": np.save, "npz": np.savez, "compressed.npz": np.savez_compressed}[name](path, stored)
    for source in (path, path.read_bytes()):
        read = read_frames(source, [4, 1, 4], num_channels=channels)
        assert np.array_equal(read, frames[[4, 1, 4]])
    if channels not in (1, 3):
        message = f"cannot be decoded: ValueError: its frames have {channels} channels, but num_channels=3 is requested"
        assert_refused(path, message)
    assert read_frames(VideoSegment(path, start_frame=3), [0], num_channels=channels).equal(
        torch.from_numpy(frames[3:4])
    )


def test_grey_stacks_fit_models_of_colour_and_the_other_way_round(tmp_path):
    np.save(tmp_path / "grey.npy", RAMP_8[None])
    assert np.array_equal(grey(read_frames(tmp_path / "grey.npy", [0])), RAMP_8)
    np.save(tmp_path / "rgb.npy", RGB[None])
    assert np.array_equal(
        read_frames(tmp_path / "rgb.npy", [0], num_channels=1)[0, ..., 0], np.array(Image.fromarray(RGB).convert("L"))
    )


@pytest.mark.parametrize(
    ("stored", "expected"),
    [
        (RAMP, RAMP_8),
        (RAMP.astype(">u2"), RAMP_8),
        ((RAMP / 65535).astype(np.float32), RAMP_8),
        ((RAMP / 65535).astype(np.float16), (RAMP / 65535).astype(np.float16).astype(float).dot(255).round()),
        (RAMP_8 > 127, (RAMP_8 > 127) * 255),
        (RAMP_8.astype(np.int64), RAMP_8),
        ((RAMP_8 // 2).astype(np.int8), RAMP_8 // 2),
    ],
    ids=lambda array: str(array.dtype),
)
def test_dtypes_of_stacks(tmp_path, stored, expected):
    np.save(tmp_path / "video.npy", stored[None])
    read = read_frames(tmp_path / "video.npy", [0], num_channels=1)[0, ..., 0].numpy()
    assert np.abs(read.astype(float) - expected).max() <= (1 if stored.dtype == np.float16 else 0)


@pytest.mark.parametrize(
    ("stored", "message"),
    [
        (np.zeros((5, 8, 8), np.complex64), "an array of dtype complex64"),
        (np.array([["a"] * 3] * 2, dtype=object), "an array of dtype object"),
        (np.array([("a", 1)], dtype=[("x", "U1"), ("y", int)]), "an array of dtype"),
        (np.zeros((8, 8)), r"an array of shape \(8, 8\); a video is \(T, H, W, C\), \(T, C, H, W\) or \(T, H, W\)"),
        (np.zeros((2, 0, 8)), "its frames have no pixels"),
        (np.zeros((0, 8, 8)), "has no decodable frame"),
        (np.full((2, 8, 8), 256), "pixels of dtype int64 with values from 256 to 256; scale them to uint8"),
        (np.full((2, 8, 8), -1, np.int8), "pixels of dtype int8 with values from -1 to -1"),
        (np.full((2, 8, 8), 7.5), "pixels of dtype float64 with values from 7.5 to 7.5; the range of such floats"),
        (np.full((2, 8, 8), np.nan), "pixels of dtype float64 with values from nan to nan"),
        (np.asfortranarray(np.zeros((2, 8, 9))), "Fortran order; apply numpy.ascontiguousarray"),
    ],
    ids=str,
)  # fmt: skip
def test_stacks_that_cannot_be_read(tmp_path, stored, message):
    np.save(tmp_path / "video.npy", stored)
    assert_refused(tmp_path / "video.npy", f"video.npy.*{message}")


def test_archives_of_several_arrays(tmp_path):
    path = tmp_path / "video.npz"
    np.savez(path, labels=np.zeros(3), frames=RGB[None])
    assert np.array_equal(read_frames(path, [0])[0], RGB)
    np.savez(path, a=RGB[None], b=RGB[None])
    assert_refused(path, "a zip archive with a.npy, b.npy; it needs one array, or one called frames or video")
    np.savez(path)
    assert_refused(path, "cannot be decoded")


@pytest.mark.parametrize("name", ["npy", "npz"])
def test_cut_off_and_boastful_arrays(tmp_path, name):
    path = tmp_path / f"video.{name}"
    (np.save if name == "npy" else np.savez_compressed)(path, np.zeros((50, 12, 16, 3), np.uint8))
    content = path.read_bytes()
    path.write_bytes(content[: len(content) // 2])
    assert_refused(path, "cannot be decoded")
    header = io.BytesIO()
    np.lib.format.write_array_header_1_0(header, {"descr": "|u1", "fortran_order": False, "shape": (10**12, 9, 9)})
    path.write_bytes(header.getvalue() + bytes(1000))
    assert_refused(
        path, r"the file is cut off: its array of shape \(1000000000000, 9, 9\) and dtype uint8 is not complete"
    )


def test_a_stack_is_read_frame_by_frame(tmp_path, monkeypatch):
    np.save(tmp_path / "video.npy", np.zeros((40, 12, 16, 3), np.uint8))
    sizes, real = [], frame_pixels.np.frombuffer
    monkeypatch.setattr(frame_pixels.np, "frombuffer", lambda data, *more: sizes.append(len(data)) or real(data, *more))
    read_frames(tmp_path / "video.npy", [3, 39])
    assert sizes == [12 * 16 * 3] * 2


# -------------------------------------------------------------------------------------------------------------- pages


@pytest.mark.parametrize("name", ["tif", "png", "webp"])
def test_images_of_several_pages(tmp_path, name):
    pages = [Image.fromarray(np.roll(RGB, number, axis=1)) for number in range(5)]
    path = tmp_path / f"video.{name}"
    pages[0].save(path, save_all=True, append_images=pages[1:], lossless=True)
    for source in (path, path.read_bytes()):
        frames = read_frames(source, lambda info: [info.num_frames - 1, 0, 2])
        assert np.array_equal(frames, np.stack([np.roll(RGB, number, axis=1) for number in (4, 0, 2)]))
    assert_refused(path, "num_channels=4 is requested", num_channels=4)
    scanned = scan_file(str(path))
    assert (scanned.verdict, scanned.frames, scanned.width, scanned.height) == ("ok", 5, 16, 12)


def test_pages_of_sixteen_bits(tmp_path):
    pages = [Image.fromarray(RAMP), Image.fromarray(RAMP[::-1].copy())]
    pages[0].save(tmp_path / "video.tif", save_all=True, append_images=pages[1:])
    assert np.array_equal(grey(read_frames(tmp_path / "video.tif", [1])), RAMP_8[::-1])


def test_one_image_is_a_video_of_one_frame(tmp_path):
    for name in ("png", "bmp", "tif", "webp", "jpg"):
        Image.fromarray(RGB).save(tmp_path / f"one.{name}", lossless=True, quality=100)
        frames = read_frames(tmp_path / f"one.{name}", lambda info: range(info.num_frames))
        assert frames.shape == (1, 12, 16, 3)


@pytest.mark.parametrize(("channels", "num_channels"), [(2, 2), (3, 3), (7, 7), (1, 3)])
def test_channels_of_imagej(tmp_path, channels, num_channels):
    """ImageJ stores each channel of each frame as a page, and says so in the description."""
    frames = np.random.default_rng(2).integers(0, 256, (4, 12, 16, channels), dtype=np.uint8)
    pages = [Image.fromarray(frames[time, ..., channel]) for time in range(4) for channel in range(channels)]
    description = f"ImageJ=1.54f\nimages={4 * channels}\nchannels={channels}\nframes=4\nhyperstack=true\n"
    path = tmp_path / "video.tif"
    pages[0].save(path, save_all=True, append_images=pages[1:], description=description)
    read = read_frames(path, lambda info: range(info.num_frames), num_channels=num_channels)
    assert np.array_equal(read, frames if channels == num_channels else frames.repeat(3, axis=-1))
    assert_refused(path, f"{channels} channels, but num_channels=5" if channels > 1 else "1 channels", num_channels=5)
    pages[0].save(path, save_all=True, append_images=pages[1:-1], description=description)
    assert_refused(path, "pages can be read, but ImageJ wrote")


# ------------------------------------------------------------------------------------------------------------ folders


@pytest.mark.parametrize(
    "template", ["img.jpg", "{}{}.jpg", "{:s}.jpg", "{name}.jpg", "{0.__class__}", "{:999d}", "{:"]
)
def test_templates_need_one_place_for_the_number(tmp_path, template):
    with pytest.raises(
        ValueError, match=re.escape(f"frame_template={template!r} needs one placeholder for the number of an")
    ):
        FrameFolder(str(tmp_path), template)


@pytest.mark.parametrize("template", ["{}.png", "{:d}.png", "{:01}.png", "{0}.png", "{0:d}.png", "{:1d}.png"])
def test_templates(tmp_path, template):
    folder_of(tmp_path / "images", [Image.fromarray(RGB), Image.fromarray(RGB // 2)])
    frames = read_frames(FrameFolder(str(tmp_path / "images"), template, 0), lambda info: range(info.num_frames))
    assert np.array_equal(frames, [RGB, RGB // 2])


def test_a_folder_that_promises_too_much(tmp_path):
    folder_of(tmp_path / "images", Image.fromarray(RGB))
    promise = FrameFolder(str(tmp_path / "images"), "{}.png", 0, 2 * 10**9)
    assert np.array_equal(read_frames(promise, [0])[0], RGB)
    with pytest.raises(VideoDecodeError, match="1999999999.png cannot be read: .*No such file"):
        read_frames(promise, lambda info: [info.num_frames - 1])


def test_numbers_of_other_kinds_in_names(tmp_path):
    folder_of(tmp_path / "images", Image.fromarray(RGB))
    (tmp_path / "images" / "0.png").rename(tmp_path / "images" / "²5.png")
    Image.fromarray(RGB // 2).save(tmp_path / "images" / "²10.png")
    assert np.array_equal(read_frames(tmp_path / "images", [0, 1]), [RGB, RGB // 2])


def test_images_of_different_sizes(tmp_path):
    folder_of(tmp_path / "images", [Image.fromarray(RGB), Image.fromarray(RGB[:6])])
    with pytest.raises(VideoDecodeError, match="its frames differ in shape, 16 x 12 and 16 x 6"):
        read_frames(tmp_path / "images", [0, 1])

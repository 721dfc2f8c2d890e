"""Files and bytes that mean harm: refused at once, as one bad video, without opening ports or other files."""

import csv
import glob
import io
import math
import os
import socket
import struct
import threading
import zipfile
import zlib
from pathlib import Path

import av
import numpy as np
import pyarrow
import pyarrow.parquet
import pytest
from helpers.encoded_videos import packets_of, pictures, write_encoded, write_packets
from helpers.indexed_video import frame_indices, write_indexed_video
from helpers.shared import SHARED
from PIL import Image

from videomae_hf import VideoDecodeError, VideoMAEV2ImageProcessor
from videomae_hf.commands.scan import scan_file
from videomae_hf.data.checks import check_data
from videomae_hf.data.clips import ClipSampler
from videomae_hf.data.sources.folders_and_lists import VideoRecord
from videomae_hf.data.video_dataset import VideoDataset
from videomae_hf.models import video_decoding
from videomae_hf.models.other_decoders import refuse_unknown_container
from videomae_hf.models.video_decoding import FORMATS, MAX_PIXELS, open_container, read_frames, usable_backend


BACKENDS = ("pyav", "decord", "torchcodec")
REFUSED = "it is not a video, or its format is not supported"


@pytest.fixture(scope="module")
def video(tmp_path_factory) -> Path:
    return write_indexed_video(tmp_path_factory.mktemp("video") / "clip.mp4", 30, g=12)


def require(backend: str) -> str:
    try:
        return usable_backend(backend)
    except ImportError as error:
        pytest.skip(str(error))


def sdp(port: int) -> str:
    return (
        f"v=0\no=- 0 0 IN IP4 127.0.0.1\ns=x\nc=IN IP4 127.0.0.1\nt=0 0\nm=video {port} RTP/AVP 96\n"
        "a=rtpmap:96 H264/90000\n"
    )


def playlists(video: Path, port: int) -> dict[str, bytes]:
    """Texts that FFmpeg takes for a video and that name others."""
    hls = f"#EXTM3U\n#EXT-X-TARGETDURATION:1\n#EXTINF:1,\n{video}\n#EXT-X-ENDLIST\n"
    dash = '<?xml version="1.0"?><MPD profiles="urn:mpeg:dash:profile:isoff-on-demand:2011"><BaseURL>{}</BaseURL></MPD>'
    texts = {
        "sdp": sdp(port),
        "concat": f"ffconcat version 1.0\nfile {video.name}\n",
        "hls": hls,
        "hls of an address": hls.replace(str(video), f"http://127.0.0.1:{port}/clip.ts"),
        "dash": dash.format(f"http://127.0.0.1:{port}/clip.mp4"),
        "redirect": f"[Reference]\nRef1=http://127.0.0.1:{port}/clip.mp4\n",
        "subtitles": "WEBVTT\n\n00:01.000 --> 00:04.000\ntext\n",
        "metadata": ";FFMETADATA1\ntitle=x\n",
    }
    files = {name: text.encode() for name, text in texts.items()}
    files["sdp behind a signature"] = b"\x1a\x45\xdf\xa3\xff\xff\xff\xff\xff\n" + sdp(port).encode()
    files["sdp in a RIFF"] = b"RIFF    AVX \n" + sdp(port).encode()
    return files


@pytest.fixture
def listener():
    """A TCP port that counts who connects, and whose number is free in UDP."""
    connections = []
    with socket.create_server(("127.0.0.1", 0)) as server:
        server.settimeout(0.2)
        stop = threading.Event()

        def accept():
            while not stop.is_set():
                try:
                    connections.append(server.accept())
                except TimeoutError:
                    continue

        thread = threading.Thread(target=accept)
        thread.start()
        yield server.getsockname()[1], connections
        stop.set()
        thread.join()


@pytest.mark.parametrize("kind", playlists(Path("clip.mp4"), 1))
@pytest.mark.parametrize("backend", BACKENDS)
def test_playlists(video, listener, backend, kind):
    port, connections = listener
    content = playlists(video, port)[kind]
    path = video.parent / f"{kind}.mp4"
    path.write_bytes(content)
    for source in (content, path):
        with pytest.raises(VideoDecodeError, match=f"cannot be decoded: ValueError: {REFUSED}|InvalidDataError"):
            read_frames(source, [0], require(backend))
    assert connections == []
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as udp:
        udp.bind(("127.0.0.1", port))  # nobody else listens there
    assert scan_file(str(path)).verdict == "error"


@pytest.mark.parametrize("name", ["clip.m3u8", "clip.sdp", "clip.ffconcat", "clip.mpd", "clip%d.mp4"])
def test_names_of_other_formats(video, tmp_path, name):
    (tmp_path / name).write_bytes(video.read_bytes())
    assert frame_indices(read_frames(tmp_path / name, [5])) == [5]


def test_a_name_that_is_a_pattern_of_names(video, tmp_path):
    """FFmpeg would open image1.png in place of a file called `image%d.png`."""
    Image.new("RGB", (8, 8)).save(tmp_path / "image1.png")
    (tmp_path / "image%d.png").write_bytes(video.read_bytes())
    with pytest.raises(VideoDecodeError, match=REFUSED):
        read_frames(tmp_path / "image%d.png", [5])


def test_every_format_of_the_list_is_known_to_ffmpeg():
    names = {name for format in av.formats_available for name in format.split(",")}
    assert set(FORMATS) - names <= {"vvc", "obu", "av1", "kux", "vc1test"}  # newer or older than some FFmpeg
    assert not {"sdp", "rtp", "rtsp", "sap", "hls", "dash", "concat", "image2", "lavfi", "tty", "imf"} & set(FORMATS)


@pytest.mark.skipif(not (SHARED / "data" / "awkward").is_dir(), reason="needs the awkward files")
def test_signatures_let_all_videos_through():
    with open(SHARED / "data" / "awkward" / "EXPECTED.tsv") as file:
        rows = [row for row in csv.DictReader(file, delimiter="\t") if row["verdict"] == "decodes"]
    assert len(rows) > 40
    for row in rows:
        refuse_unknown_container(str(SHARED / "data" / "awkward" / row["file"]))


def parquet(video: Path) -> bytes:
    file = io.BytesIO()
    pyarrow.parquet.write_table(pyarrow.table({"video": [video.read_bytes()]}), file)
    return file.getvalue()


def archive(video: Path) -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as members:
        members.write(video, "clip.mp4")
    return file.getvalue()


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (parquet, f"cannot be decoded: (ValueError: {REFUSED}|InvalidDataError)"),
        (archive, "a zip archive with no array; it needs one array"),
        (lambda video: b"", "<0 bytes> cannot be decoded: it is empty"),
        (lambda video: b"\0", "cannot be decoded"),
        (lambda video: bytes(10**5), "cannot be decoded"),
        (lambda video: b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 9\n", "cannot be decoded"),
        (lambda video: b"<!doctype html><html><body>Not found</body></html>", "cannot be decoded"),
        (lambda video: b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n", "cannot be decoded"),
    ],
    ids=["parquet", "zip", "empty", "a byte", "zeros", "lfs", "html", "postscript"],
)
def test_bytes_that_are_no_video(video, tmp_path, make, message):
    with pytest.raises(VideoDecodeError, match=message):
        read_frames(make(video), [0])
    path = tmp_path / "video.mp4"
    path.write_bytes(make(video))
    with pytest.raises(VideoDecodeError, match="video.mp4 cannot be decoded: "):
        read_frames(path, [0])


def test_postscript_named_png_starts_no_other_program(tmp_path, monkeypatch):
    monkeypatch.setattr("subprocess.check_call", lambda *_, **__: pytest.fail("started"))
    monkeypatch.setattr("PIL.EpsImagePlugin.Ghostscript", lambda *_, **__: pytest.fail("started"))
    script = b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n%%EndComments\nshowpage\n"
    (tmp_path / "1.png").write_bytes(script)
    with pytest.raises(VideoDecodeError, match="1.png cannot be read: cannot identify image file"):
        read_frames(tmp_path, [0])
    assert scan_file(str(tmp_path)).verdict == "error"


def png(width: int, height: int, data: bytes = b"") -> bytes:
    def chunk(kind: bytes, body: bytes) -> bytes:
        return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))

    header = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + header + chunk(b"IDAT", data) + chunk(b"IEND", b"")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (png(30000, 30000), "Image size .* exceeds limit"),
        (png(8000, 8000), "its frames have 8000 x 8000 pixels, more than max_pixels=35389440; raise max_pixels"),
        (b"\x89PNG\r\n\x1a\n" + bytes(40), "broken|cannot identify"),
    ],
    ids=["bomb", "large", "zeros"],
)
def test_images(tmp_path, content, message):
    (tmp_path / "1.png").write_bytes(content)
    with pytest.raises(VideoDecodeError, match=f"1.png cannot be read: .*({message})"):
        read_frames(tmp_path, [0])
    with pytest.raises(VideoDecodeError, match=f"<{len(content)} bytes> cannot be decoded: .*({message})"):
        read_frames(content, [0])
    assert scan_file(str(tmp_path)).verdict == "error"


def damaged_headers() -> list[str]:
    return sorted(glob.glob(f"{SHARED}/cases/break/inputs/*"))


def boastful_mp4(video: Path) -> bytes:
    """A table of sizes that claims two thousand million entries."""
    content = bytearray(video.read_bytes())
    at = content.find(b"stsz") + 12
    content[at : at + 4] = (2 * 10**9).to_bytes(4, "big")
    return bytes(content)


def test_headers_that_ask_for_too_much_memory(video, monkeypatch, tmp_path):
    path = tmp_path / "boastful.mp4"
    path.write_bytes(boastful_mp4(video))
    error = av.error.MemoryError(12, "Cannot allocate memory")

    def refuse(*_):
        raise error

    sources = [path, *damaged_headers()] if os.environ.get("VIDEOMAE_SHARED") else [path]
    for source in sources:
        if source == path:  # whether this FFmpeg believes the header or not
            monkeypatch.setattr(video_decoding, "open_container", refuse)
        with pytest.raises(VideoDecodeError, match=f"{source} cannot be decoded: "):
            read_frames(source, [0])
        monkeypatch.undo()
        assert scan_file(str(source)).verdict in ("ok", "warning", "error", "partial")


def test_one_hostile_file_is_replaced(video, tmp_path):
    (tmp_path / "bomb").mkdir()
    (tmp_path / "bomb" / "1.png").write_bytes(png(30000, 30000))
    (tmp_path / "ports.mp4").write_text(sdp(18998))
    samples = [VideoRecord(str(tmp_path / name)) for name in ("bomb", "ports.mp4")] + [VideoRecord(str(video))]
    sampling = ClipSampler(4, sampling_rate=1)
    dataset = VideoDataset(samples, lambda sample, generator: sampling.random_clip(sample, generator))
    assert all(dataset[index].shape == (4, 3, 96, 128) for index in range(3))
    assert dataset.bad_videos() == (2, 3)
    line = check_data(samples, [], [sampling])[1]
    assert line.startswith("2 of 3 checked videos cannot be read; the first: ")
    assert f"{tmp_path}/bomb/1.png cannot be read: Image size" in line and f"; {tmp_path}/ports.mp4 cannot be" in line
    assert line.endswith("; `videomae scan DATA --fix_list good.csv` finds all of them and writes a list without them")


# --------------------------------------------------------------------------------------------------------------- size


def write_large(path: Path, width: int, height: int, codec: str = "mpeg4") -> Path:
    with av.open(str(path), "w") as container:
        stream = container.add_stream(codec, rate=25)
        stream.height, stream.width, stream.pix_fmt = height, width, "yuv420p"
        for frame in np.zeros((2, height, width, 3), np.uint8):
            container.mux(stream.encode(av.VideoFrame.from_ndarray(frame, format="rgb24")))
        container.mux(stream.encode())
    return path


def test_the_default_limit():
    assert max(7680 * 4320, 8192 * 4320) <= MAX_PIXELS < 8000 * 8000


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("name", ["large.mp4", "large.avi"])
def test_large_frames(tmp_path, name, backend):
    path = write_large(tmp_path / name, 512, 320)
    message = f"{name} cannot be decoded: ValueError: its frames have 512 x 320 pixels, more than max_pixels=163839"
    with pytest.raises(VideoDecodeError, match=message):
        read_frames(path, [0], require(backend), max_pixels=163839)
    assert read_frames(path, [0], backend, max_pixels=163840).shape == (1, 320, 512, 3)
    assert read_frames(path, [0], backend, max_pixels=None).shape == (1, 320, 512, 3)
    with pytest.raises(VideoDecodeError, match="max_pixels=1000"):
        VideoMAEV2ImageProcessor(num_frames=1, max_pixels=1000, video_backend=backend)(path)
    with pytest.raises(VideoDecodeError, match="max_pixels=1000"):
        ClipSampler(1, max_pixels=1000).random_clip(VideoRecord(str(path)), None)
    assert "max_pixels=1000" in scan_file(str(path), max_pixels=1000).reason


def test_large_frames_are_refused_before_they_are_decoded(tmp_path, monkeypatch):
    path = write_large(tmp_path / "large.mp4", 512, 320)
    monkeypatch.setattr(video_decoding, "_packet_index", lambda *_: pytest.fail("too late"))
    with pytest.raises(VideoDecodeError, match="512 x 320 pixels"):
        read_frames(path, [0], max_pixels=1000)


def test_frames_that_grow(tmp_path):
    """The header says 64 x 48, and frames of 256 x 192 follow."""
    small, large = (
        write_encoded(tmp_path / f"{width}.mkv", "libvpx", frames=pictures(8, height, width), g=4)
        for height, width in ((48, 64), (192, 256))
    )
    late = [{**packet, "pts": packet["pts"] + 320, "dts": packet["dts"] + 320} for packet in packets_of(large)]
    path = write_packets(tmp_path / "grows.mkv", small, packets_of(small) + late)
    assert read_frames(path, [12]).shape == (1, 192, 256, 3)
    assert read_frames(path, [3], max_pixels=4000).shape == (1, 48, 64, 3)
    with pytest.raises(VideoDecodeError, match="grows.mkv (cannot be decoded|has 8 frames)"):
        read_frames(path, [12], max_pixels=4000)
    with pytest.raises(VideoDecodeError, match="its frames differ in shape, 64 x 48 and 256 x 192"):
        read_frames(path, [3, 12])


def test_a_file_that_changes_while_it_is_read(tmp_path):
    path = write_encoded(tmp_path / "changes.mp4", "libx264", qp=0)
    content = path.read_bytes()

    def cut(info):
        path.write_bytes(content[: len(content) // 2])
        return range(info.num_frames)

    with pytest.raises(VideoDecodeError, match="changes.mp4"):
        read_frames(path, cut)
    path.write_bytes(content)
    frames = read_frames(path, lambda info: path.unlink() or range(info.num_frames))  # open files outlive their names
    assert len(frames) == 40


# ------------------------------------------------------------------------------------------------------------- memory


def test_transform_gets_a_few_frames_at_a_time(video, monkeypatch):
    calls = []

    def halved(frames):
        calls.append(len(frames))
        return frames[:, ::2, ::2].float().mean(dim=-1)  # (n, H, W, C) -> (n, H / 2, W / 2)

    whole = halved(read_frames(video, [9, 2, 2, 29, 0]))
    for batch_bytes, expected in ((1, [1] * 4), (2 * 96 * 128 * 3, [2, 2]), (3 * 96 * 128 * 3, [3, 1]), (10**9, [4])):
        calls.clear()
        monkeypatch.setattr(video_decoding, "BATCH_BYTES", batch_bytes)
        assert read_frames(video, [9, 2, 2, 29, 0], transform=halved).equal(whole)
        assert calls == expected


@pytest.mark.parametrize("error", [RuntimeError, ValueError, OSError])
def test_errors_of_the_transform_are_not_those_of_the_video(video, error):
    def fail(frames):
        raise error("mine")

    with pytest.raises(error, match="^mine$") as caught:
        read_frames(video, [0], transform=fail)
    assert type(caught.value) is error


def test_no_file_stays_open_when_the_transform_fails(video):
    before = len(os.listdir("/proc/self/fd")) if os.path.isdir("/proc/self/fd") else math.nan
    for _ in range(3):
        with pytest.raises(RuntimeError):
            read_frames(video, [0], transform=lambda frames: (_ for _ in ()).throw(RuntimeError()))
    assert math.isnan(before) or len(os.listdir("/proc/self/fd")) == before


def test_the_luma_of_a_video_is_that_of_pillow(video):
    colours = read_frames(video, [3])
    grey = read_frames(video, [3], num_channels=1)
    assert np.array_equal(grey[0, ..., 0], np.array(Image.fromarray(colours[0].numpy()).convert("L")))
    with pytest.raises(VideoDecodeError, match="its frames have 3 channels, but num_channels=2 is requested"):
        read_frames(video, [3], num_channels=2)


def test_open_container_names_what_it_opens(video):
    with open_container(av, str(video)) as container:
        assert container.format.name.split(",")[0] in FORMATS

"""Videos from URLs: http and https alone, within a size and a time, and all of it or an error."""

import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
from helpers.indexed_video import frame_indices, write_indexed_video

from videomae_hf.models import video_sources
from videomae_hf.models.video_decoding import read_frames


class Handler(BaseHTTPRequestHandler):
    """Answers each path with the method of that name; `asked` are the paths."""

    def do_GET(self):
        self.server.asked.append(self.path)
        try:
            getattr(self, self.path.strip("/").removesuffix(".mp4"))()
        except (BrokenPipeError, ConnectionResetError):  # the client has gone
            self.close_connection = True

    def log_message(self, *_):
        pass

    def answer(self, body: bytes, status: int = 200, **headers):
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name.replace("_", "-"), value)
        self.end_headers()
        self.wfile.write(body)

    def clip(self):
        self.answer(self.server.video, Content_Length=len(self.server.video))

    def without_length(self):
        self.answer(self.server.video)

    def chunked(self):
        self.protocol_version = "HTTP/1.1"
        parts = [self.server.video[start : start + 4096] for start in range(0, len(self.server.video), 4096)]
        body = b"".join(b"%x\r\n%b\r\n" % (len(part), part) for part in [*parts, b""])
        self.answer(body, Transfer_Encoding="chunked", Connection="close")

    def moved(self):
        self.answer(b"", 302, Location="/clip.mp4")

    def moved_to_ftp(self):
        self.answer(b"", 302, Location="ftp://127.0.0.1/clip.mp4")

    def moved_to_file(self):
        self.answer(b"", 302, Location="file:///etc/passwd")

    def moved_for_ever(self):
        self.answer(b"", 302, Location="/moved_for_ever.mp4")

    def none(self):
        self.answer(b"", 404)

    def empty(self):
        self.answer(b"", Content_Length=0)

    def cut_off(self):
        self.answer(self.server.video[:1000], Content_Length=len(self.server.video))

    def huge(self):
        self.answer(b"", Content_Length=10**10)

    def endless(self):
        self.send_response(200)
        self.end_headers()
        while True:
            self.wfile.write(bytes(2**16))

    def slow_body(self):
        self.send_response(200)
        self.end_headers()
        self.drip(b"\0")

    def slow_headers(self):
        self.drip(b"HTTP/1.0 200 OK\r\n" + b"x: y\r\n" * 1000)

    def drip(self, data: bytes):
        for number in range(200):
            self.wfile.write(data[number % len(data)].to_bytes())
            self.wfile.flush()
            time.sleep(0.05)


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    server.asked = []
    server.video = write_indexed_video(tmp_path_factory.mktemp("video") / "clip.mp4", 60, g=12).read_bytes()
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield server
    server.shutdown()
    server.server_close()


def url(server, name: str) -> str:
    return f"http://127.0.0.1:{server.server_address[1]}/{name}.mp4"


@pytest.mark.parametrize("name", ["clip", "without_length", "chunked", "moved"])
def test_url(server, name):
    server.asked.clear()
    assert frame_indices(read_frames(url(server, name), [40, 3])) == [40, 3]
    assert server.asked == [f"/{name}.mp4"] + ["/clip.mp4"] * (name == "moved")
    assert frame_indices(read_frames(url(server, "clip").replace("http", "HTTP"), [5])) == [5]


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("none", "HTTPError: HTTP Error 404"),
        ("moved_to_ftp", "it redirects to ftp://127.0.0.1/clip.mp4, which is neither http nor https"),
        ("moved_to_file", "Redirection to url .* is not allowed"),
        ("moved_for_ever", "infinite loop"),
        ("cut_off", r"the connection ended after 1000 of \d+ bytes"),
        ("huge", "it has more than 1073741824 bytes"),
        ("refused", "refused"),
    ],
)
def test_urls_that_cannot_be_fetched(server, name, message):
    address = "http://127.0.0.1:9/clip.mp4" if name == "refused" else url(server, name)
    with pytest.raises(OSError, match=f"{address} could not be fetched: .*{message}"):
        read_frames(address, [0])


def test_an_empty_body(server):
    with pytest.raises(ValueError, match="empty.mp4 cannot be decoded: it is empty"):
        read_frames(url(server, "empty"), [0])


def test_an_endless_body(server, monkeypatch):
    monkeypatch.setattr(video_sources, "MAX_URL_BYTES", 10**6)
    with pytest.raises(OSError, match="it has more than 1000000 bytes"):
        read_frames(url(server, "endless"), [0])


@pytest.mark.parametrize("name", ["slow_body", "slow_headers"])
def test_a_byte_now_and_then(server, monkeypatch, name):
    monkeypatch.setattr(video_sources, "MAX_URL_SECONDS", 0.3)
    with pytest.raises(OSError, match=f"{name}.mp4 could not be fetched within 0.3 seconds"):
        read_frames(url(server, name), [0])


def test_other_schemes_are_paths():
    for address in ("ftp://127.0.0.1/clip.mp4", "file:///etc/passwd", "concat:a.mp4|b.mp4", "rtsp://127.0.0.1/live"):
        with pytest.raises(FileNotFoundError, match="No video file"):
            read_frames(address, [0])

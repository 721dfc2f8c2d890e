"""`videomae app`: the page as its server gives it, without a browser."""

import importlib.util
import os
import shlex
import socket
from pathlib import Path

import pytest
from helpers.page_client import PageClient, free_port
from helpers.shared import REPO, TINY, randomize
from helpers.trained_models import save_trained, write_three_motions

from videomae_hf import VideoMAEV2Config, VideoMAEV2ForPreTraining, cli, load
from videomae_hf.commands import app


pytest.importorskip("gradio")
httpx = pytest.importorskip("httpx")


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    place = tmp_path_factory.mktemp("place")
    save_trained(place / "classifier")
    randomize(VideoMAEV2ForPreTraining(VideoMAEV2Config(**TINY))).save_pretrained(place / "pretrained")
    save_trained(place / "age", "regression")
    (place / "videos").mkdir()
    write_three_motions(place / "videos" / "long.mp4")
    return place


@pytest.fixture(scope="module")
def served(place):
    """A page of the classifier with an example, whose uploads may have 100 KB."""
    from videomae_hf.inference.app_page import launch_page

    with app.private_folder():
        page = app.build_app(place / "classifier", examples=place / "videos", device="cpu")
        address, public = launch_page(page, "127.0.0.1", free_port(), "100KB")
        assert public is None
        yield PageClient(address)
        page.close()


@pytest.fixture(scope="module")
def video(served, place) -> str:
    return served.upload("long.mp4", (place / "videos" / "long.mp4").read_bytes())


def tabs(page) -> list[str]:
    return [one["props"]["label"] for one in page.get_config_file()["components"] if one["type"] == "tabitem"]


def test_help_begins_with_commands(capsys):
    with pytest.raises(SystemExit):
        cli.main(["app", "--help"])
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[:2] for line in lines[2:5]] == [["videomae", "app"]] * 3
    for line in lines[2:5]:
        app.parse_arguments(shlex.split(line)[2:])


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ("--max_size lots", "--max_size lots must be a size such as 500MB or 2GB"),
        ("--max_size 1.5GB", "--max_size 1.5GB must be a size"),
        ("--port 70000", "--port 70000 must lie in 1 to 65535"),
        ("--examples PLACE/none", "There is no folder of examples"),
        ("--index PLACE/videos", "videos is no folder of features"),
    ],
)
def test_wrong_arguments_end_in_one_line(place, capsys, monkeypatch, options, message):
    monkeypatch.setattr(app, "serve", None)  # never reached
    options = shlex.split(options.replace("PLACE", str(place)))
    with pytest.raises(SystemExit) as end:
        cli.main(["app", str(place / "classifier"), "--port", str(free_port()), *options])
    assert end.value.code == 1 and message in capsys.readouterr().err


def test_a_port_in_use_is_named_before_the_model_is_loaded(capsys):
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        port = other.getsockname()[1]
        with pytest.raises(SystemExit):
            cli.main(["app", "no/model", "--port", str(port)])
    assert f"Port {port} of 127.0.0.1 cannot be used: Address already in use" in capsys.readouterr().err


def test_without_gradio(capsys, monkeypatch):
    find = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == "gradio" else find(name))
    with pytest.raises(SystemExit):
        cli.main(["app", "no/model"])
    assert "The page needs gradio, which is not installed: pip install 'videomae_hf[app]'" in capsys.readouterr().err


def test_tabs_are_what_the_model_can_do(place):
    assert tabs(app.build_app(place / "classifier")) == ["Prediction", "Attention", "Evidence"]
    assert tabs(app.build_app(place / "pretrained")) == ["Reconstruction", "Attention"]


def test_examples_are_files(place, tmp_path):
    """Addresses in a list are left out, and so are all after the first twelve."""
    (tmp_path / "list.csv").write_text(f"path\nhttps://hub/a.mp4\n{place}/videos/long.mp4\n")
    page = app.build_app(place / "classifier", examples=tmp_path / "list.csv", device="cpu")
    (samples,) = [one["props"]["samples"] for one in page.get_config_file()["components"] if one["type"] == "dataset"]
    assert [sample[0]["orig_name"] for sample in samples] == ["long.mp4"]


def test_functions_of_the_buttons(served, video, place):
    (found,) = served.call("predict", video, 2, 1)
    wanted = load(place / "classifier", device="cpu").predict(place / "videos" / "long.mp4", num_clips=2, num_crops=1)
    assert found["label"] == wanted.top(1)[0][0]
    shown = [(one["label"], pytest.approx(one["confidence"])) for one in found["confidences"]]
    assert shown == wanted.top()
    picture, note, segments = served.call("timeline", video, "0.4", "0.2", 0.2)
    assert note == "11 windows." and served.http.get(picture["url"]).content.startswith(b"\x89PNG")
    assert segments["data"][0][0] == 0 and segments["data"][-1][1] == pytest.approx(2.4)
    picture, note, segments = served.call("timeline", video, "3", "", 0.2)
    assert picture is None and note.startswith("The video is not longer than one window")
    for name, values in (("attention", ["1", "all heads"]), ("evidence", [2])):
        (picture,) = served.call(name, video, *values)
        assert served.http.get(picture["url"]).content.startswith(b"\x89PNG")


def test_pretrained_and_regression_models(place):
    """The functions of other pages, called as the server calls them."""
    path = str(place / "videos" / "long.mp4")

    def function(model: str, name: str):
        page = app.build_app(place / model, device="cpu")
        return next(one.fn for one in page.fns.values() if one.api_name == name)

    reconstruct = function("pretrained", "reconstruct")
    first, text, moving = reconstruct(path, "tube", 0.9, "running_cell", 0.0, 0)
    second, other, _ = reconstruct(path, "tube", 0.5, "running_cell", 0.0, 0)
    assert first.size == second.size and first.tobytes() != second.tobytes() and text != other
    ((name, value),) = function("age", "predict")(path, 1, 1)
    assert name == "age" and isinstance(value, float)
    picture, note, rows = function("age", "timeline")(path, "0.4", "", 0.5)
    assert picture.width > 1000 and note == "11 windows." and rows == []


def test_errors_are_one_line(served, video):
    bad = served.upload("<b>bad</b>\n.mp4", b"no video")
    message = served.call("predict", bad, 2, 1)
    assert message.endswith(".mp4 cannot be decoded: InvalidDataError: Invalid data found when processing input")
    assert "\n" not in message and "videomae_app_" not in message
    assert served.call("attention", None, "1", "all heads") == "Choose a video first."
    assert served.call("timeline", video, "long", "", 0.5).startswith("window='long' must be a number of")


def test_a_video_that_is_too_short(place, tmp_path):
    from gradio.exceptions import Error

    page = app.build_app(save_trained(tmp_path / "strict", processor={"short_video": "error"}), device="cpu")
    predict = next(one.fn for one in page.fns.values() if one.api_name == "predict")
    write_three_motions(tmp_path / "short.mp4", 1)
    with pytest.raises(Error) as refused:
        predict(str(tmp_path / "short.mp4"), 1, 1)
    assert refused.value.message.startswith("short.mp4") and "the video has 3;" in refused.value.message
    assert str(tmp_path) not in refused.value.message and refused.value.print_exception is False


def test_nothing_outside_the_uploads_is_read(served, video, place):
    """Neither through the address of files, nor as the path of a video; files that were uploaded are."""
    secret = place / "secret.mp4"
    secret.write_bytes((place / "videos" / "long.mp4").read_bytes())
    escape = f"{video}/../../../../../../..{secret}"
    for path in (str(secret), escape, str(place / "videos" / "long.mp4"), str(REPO / "pyproject.toml"), "/etc/passwd"):
        for quoted in (path, path.replace("/", "%2f"), path.replace("..", "%2e%2e")):
            assert served.http.get(f"/file={quoted}").status_code in (403, 404)
        assert served.call("predict", path, 2, 1) is None
    for other in ("camera:0", "-", f"file://{secret}", "relative.mp4"):
        assert served.call("predict", other, 2, 1) is None
    assert served.http.get(f"/file={video}").content == secret.read_bytes()


def test_no_address_is_fetched(served):
    """Neither for a video, nor through the address of files."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        listener.settimeout(0.2)
        address = f"http://127.0.0.1:{listener.getsockname()[1]}/a.mp4"
        assert served.call("predict", address, 2, 1) == "Upload a file; addresses are not read."
        for route in ("file", "proxy"):
            assert served.http.get(f"/{route}={address}").status_code == 403
            assert served.http.get(f"/{route}={address.upper()}").status_code == 403
        with pytest.raises(TimeoutError):
            listener.accept()


def test_uploads_are_limited_and_private(served):
    assert served.http.post("/upload", files={"files": ("big.mp4", b"0" * 200_000)}).status_code == 413
    path = Path(served.upload("../../escape.mp4", b"0"))
    folder = Path(os.environ["GRADIO_TEMP_DIR"])
    assert path.parents[1] == folder and folder.name.startswith("videomae_app_") and folder.stat().st_mode & 0o77 == 0


def test_the_page_needs_no_network_and_sends_no_statistics(served):
    page = httpx.get(str(served.http.base_url).replace("/gradio_api", "")).text
    config = served.http.get(str(served.http.base_url).replace("/gradio_api", "/config")).json()
    assert config["analytics_enabled"] is False and config["stylesheets"] == [] and config["title"] == "classifier"
    sources = [part.split('"')[0] for part in page.split('src="')[1:]] + [
        part.split('"')[0] for part in page.split('<link rel="stylesheet" href="')[1:]
    ]
    assert sources and not any("://" in one or one.startswith("//") for one in sources)
    assert list((REPO / "videomae_hf").rglob("*.pyi")) == [REPO / "videomae_hf" / "__init__.pyi"]  # gradio adds none

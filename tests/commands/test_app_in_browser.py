"""`videomae app` in a real browser: uploads, clicks and sliders, and what the page then shows."""

import json
from contextlib import contextmanager

import pytest
from helpers.browser import Browser, needs_chromium
from helpers.commands import videomae
from helpers.shared import TINY, randomize
from helpers.trained_models import save_trained, write_three_motions

from videomae_hf import VideoMAEV2Config, VideoMAEV2ForPreTraining
from videomae_hf.commands import app


pytest.importorskip("gradio")
pytestmark = [pytest.mark.slow, needs_chromium]


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    place = tmp_path_factory.mktemp("place")
    save_trained(place / "classifier")
    randomize(VideoMAEV2ForPreTraining(VideoMAEV2Config(**TINY))).save_pretrained(place / "pretrained")
    (place / "videos").mkdir()
    write_three_motions(place / "videos" / "long.mp4")
    (place / "<b>bad<b>.mp4").write_bytes(b"no video")
    with pytest.raises(SystemExit):
        videomae("extract", place / "classifier", place / "videos", place / "features", "--device", "cpu")
    return place


@contextmanager
def opened(folder, model, **options):
    """A browser with the page of a model."""
    from helpers.page_client import free_port

    from videomae_hf.inference.app_page import launch_page

    with app.private_folder():
        page = app.build_app(model, device="cpu", **options)
        address, _ = launch_page(page, "127.0.0.1", free_port(), "10MB")
        browser = Browser(folder)
        try:
            browser.open(address)
            browser.wait_for("document.querySelector('#video input[type=file], #video video')")
            yield browser
            away = [one for one in browser.addresses if not one.startswith((address, "data:", "blob:"))]
            assert browser.addresses and away == []  # fonts, scripts and statistics included
        finally:
            browser.close()
            page.close()


def element(selector: str) -> str:
    return f"document.querySelector({json.dumps(selector)})"


def tab(title: str) -> str:
    return f"[...document.querySelectorAll('button[role=tab]')].find(one => one.innerText == {json.dumps(title)})"


def shown(browser: Browser, selector: str) -> str:
    """The address of a picture that is loaded and visible."""
    picture = element(f"{selector} img")
    browser.wait_for(f"(one => one && one.complete && one.naturalWidth > 100 && one.offsetWidth > 100)({picture})")
    return browser.evaluate(f"{picture}.src")


def test_a_classifier(place, tmp_path):
    with opened(tmp_path, place / "classifier", index=place / "features") as browser:
        browser.choose_file("#video input[type=file]", place / "videos" / "long.mp4")
        browser.wait_for(f"(one => one && one.videoWidth)({element('#video video')})")
        browser.click(element("#predict"))
        labels = browser.wait_for(f"(one => one.includes('%') && one)({element('#labels')}.innerText)")
        assert all(name in labels for name in ("jump", "run", "swim"))
        shown(browser, "#timeline")
        assert " windows." in browser.evaluate("document.body.innerText")
        browser.wait_for(f"{element('#segments')}.querySelectorAll('tbody tr').length >= 1")
        browser.click(tab("Attention"))
        browser.click(element("#attend"))
        shown(browser, "#attention")
        browser.click(tab("Evidence"))
        browser.click(element("#explain"))
        shown(browser, "#evidence")
        browser.click(tab("Nearest videos"))
        browser.click(element("#find"))
        shown(browser, "#sheet")
        browser.wait_for(f"{element('#matches')}.innerText.includes('long.mp4')")


def test_sliders_change_the_reconstruction(place, tmp_path):
    """The video is an example; the slider is moved by keys, and the picture follows without a click."""
    with opened(tmp_path, place / "pretrained", examples=place / "videos") as browser:
        browser.click(element(".gallery-item, .gallery button, button.gallery-item"))
        browser.wait_for(f"(one => one && one.videoWidth)({element('#video video')})")
        browser.click(element("#reconstruct"))
        first = shown(browser, "#reconstruction")
        slider = element("#mask_ratio input[type=range]")
        assert browser.evaluate(f"{slider}.value") == "0.9"
        browser.evaluate(f"{slider}.focus()")
        for _ in range(40):
            browser.press("ArrowLeft")
        assert browser.evaluate(f"{slider}.value") == "0.5"
        browser.wait_for("document.body.innerText.includes('the encoder sees 16 (50%)')")
        browser.wait_for(f"{element('#reconstruction img')}.src != {json.dumps(first)}")
        browser.evaluate(f"{element('#moving video')}.scrollIntoView()")  # Chromium plays only what is seen
        browser.wait_for(f"(one => one.readyState > 2 && !one.paused)({element('#moving video')})")


def test_errors_are_a_line_on_the_page(place, tmp_path):
    with opened(tmp_path, place / "classifier") as browser:
        browser.click(element("#predict"))
        browser.wait_for("document.body.innerText.includes('Choose a video first.')")
        browser.choose_file("#video input[type=file]", place / "<b>bad<b>.mp4")
        browser.wait_for("document.querySelectorAll('#video input[type=file]').length == 0")
        browser.click(element("#predict"))
        browser.wait_for("document.body.innerText.includes('.mp4 cannot be decoded: InvalidDataError')")
        text = browser.evaluate("document.body.innerText")
        assert "Traceback" not in text and "videomae_app_" not in text
        assert browser.evaluate("[...document.querySelectorAll('b')].every(one => one.innerText != 'bad')")

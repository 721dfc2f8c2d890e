"""A headless Chromium, driven by the Chrome DevTools protocol over a pipe, so that tests click through real pages."""

import base64
import json
import os
import select
import shutil
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest


CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
needs_chromium = pytest.mark.skipif(CHROMIUM is None, reason="needs Chromium")
_OPTIONS = (
    "--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--no-first-run",
    "--disable-background-networking", "--disable-component-update", "--disable-sync", "--hide-scrollbars",
    "--remote-debugging-pipe",
)  # fmt: skip
# The browser reads commands from file 3 and writes to file 4, whatever the numbers of the pipes are.
_START = """
import fcntl, os, sys
here, there = (fcntl.fcntl(int(one), fcntl.F_DUPFD, 10) for one in sys.argv[1:3])
os.dup2(here, 3)
os.dup2(there, 4)
os.execv(sys.argv[3], sys.argv[3:])
"""


class Browser:
    """A browser with one page.

    Args:
        folder: for its profile.
        size: width and height of the page.

    Attributes:
        addresses: everything that the page has requested.
    """

    def __init__(self, folder: Path, size: tuple[int, int] = (1280, 1000)) -> None:
        (here, to_browser), (from_browser, there) = os.pipe(), os.pipe()
        command = [sys.executable, "-S", "-c", _START, str(here), str(there), CHROMIUM, *_OPTIONS]
        command += [f"--window-size={size[0]},{size[1]}", f"--user-data-dir={folder}", "about:blank"]
        quiet = {"stdin": subprocess.DEVNULL, "stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
        self.process = subprocess.Popen(command, pass_fds=(here, there), start_new_session=True, **quiet)
        os.close(here)
        os.close(there)
        self.commands, self.answers = to_browser, from_browser
        self.number, self.received, self.session = 0, b"", None
        self.addresses: list[str] = []
        (page,) = [one for one in self.send("Target.getTargets")["targetInfos"] if one["type"] == "page"]
        target = {"targetId": page["targetId"], "flatten": True}
        self.session = self.send("Target.attachToTarget", **target)["sessionId"]
        for domain in ("Page", "Network", "Runtime", "DOM"):
            self.send(f"{domain}.enable")

    def send(self, method: str, **parameters) -> dict[str, Any]:
        """Sends a command and returns its result; events that arrive before it are noted."""
        self.number += 1
        message = {"id": self.number, "method": method, "params": parameters}
        message |= {"sessionId": self.session} if self.session else {}
        os.write(self.commands, json.dumps(message).encode() + b"\0")
        deadline = time.monotonic() + 60
        while (answer := self._next(deadline)).get("id") != self.number:
            if answer.get("method") == "Network.requestWillBeSent":
                self.addresses.append(answer["params"]["request"]["url"])
        if "error" in answer:
            raise RuntimeError(f"{method}: {answer['error']['message']}")
        return answer["result"]

    def _next(self, deadline: float) -> dict[str, Any]:
        while b"\0" not in self.received:
            readable, _, _ = select.select([self.answers], [], [], max(deadline - time.monotonic(), 0))
            more = os.read(self.answers, 1 << 20) if readable else b""
            if not more:
                raise TimeoutError("The browser does not answer.")
            self.received += more
        message, self.received = self.received.split(b"\0", 1)
        return json.loads(message)

    def evaluate(self, expression: str) -> Any:
        """The value of a JavaScript expression on the page."""
        result = self.send("Runtime.evaluate", expression=expression, returnByValue=True, awaitPromise=True)
        if "exceptionDetails" in result:
            raise RuntimeError(f"{expression}: {result['exceptionDetails'].get('exception', {}).get('description')}")
        return result["result"].get("value")

    def wait_for(self, expression: str, seconds: float = 60) -> Any:
        """The value of an expression, once it is true; of an element, True."""
        deadline = time.monotonic() + seconds
        wanted = f"(value => value instanceof Element || value)({expression})"
        while not (value := self.evaluate(wanted)):
            if time.monotonic() > deadline:
                text = self.evaluate("document.body.innerText")
                raise TimeoutError(f"{expression} did not become true; the page says: {text[:2000]}")
            time.sleep(0.1)
        return value

    def open(self, address: str) -> None:
        self.send("Page.navigate", url=address)

    def click(self, expression: str) -> None:
        """Presses the mouse in the middle of the element that an expression gives."""
        self.wait_for(expression)
        self.evaluate(f"({expression}).scrollIntoView({{block: 'center'}})")
        middle = f"(b => [b.x + b.width / 2, b.y + b.height / 2])(({expression}).getBoundingClientRect())"
        before, (x, y) = None, self.evaluate(middle)
        while before != (x, y):  # the page is still being laid out
            time.sleep(0.2)
            before, (x, y) = (x, y), self.evaluate(middle)
        for kind in ("mousePressed", "mouseReleased"):
            self.send("Input.dispatchMouseEvent", type=kind, x=x, y=y, button="left", clickCount=1)

    def press(self, key: str) -> None:
        """Presses a key, such as ArrowLeft, in the element that has the focus."""
        codes = {"ArrowLeft": 37, "ArrowRight": 39, "Home": 36, "End": 35}
        for kind in ("keyDown", "keyUp"):
            self.send("Input.dispatchKeyEvent", type=kind, key=key, code=key, windowsVirtualKeyCode=codes[key])

    def choose_file(self, selector: str, path: Path) -> None:
        """Gives a file to an input element, as if chosen in its dialogue."""
        self.wait_for(f"document.querySelector({json.dumps(selector)})")
        root = self.send("DOM.getDocument")["root"]["nodeId"]
        node = self.send("DOM.querySelector", nodeId=root, selector=selector)["nodeId"]
        self.send("DOM.setFileInputFiles", files=[str(path)], nodeId=node)

    def picture(self, path: Path) -> None:
        """Writes a picture of the page, .png."""
        path.write_bytes(base64.b64decode(self.send("Page.captureScreenshot", format="png")["data"]))

    def close(self) -> None:
        try:
            self.send("Browser.close")
            self.process.wait(20)
        except (OSError, TimeoutError, subprocess.TimeoutExpired):
            self.process.kill()  # its children end with the pipe
            self.process.wait()
        os.close(self.commands)
        os.close(self.answers)

"""A client of the page of `videomae app`."""

import json
import socket

import httpx


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


class PageClient:
    """Calls the functions of a page by HTTP, as its JavaScript does."""

    def __init__(self, address: str) -> None:
        self.http = httpx.Client(base_url=f"{address}gradio_api", timeout=60)

    def upload(self, name: str, content: bytes) -> str:
        return self.http.post("/upload", files={"files": (name, content)}).raise_for_status().json()[0]

    def call(self, name: str, path: str | None, *values) -> list | str | None:
        """The values that a function returns, or the message of its error."""
        video = None if path is None else {"path": path, "meta": {"_type": "gradio.FileData"}}
        return self.ask(name, video, *values)

    def ask(self, name: str, *values) -> list | str | None:
        """As `call`, for a function without a video."""
        event = self.http.post(f"/call/{name}", json={"data": values}).raise_for_status().json()["event_id"]
        kind, data = self.http.get(f"/call/{name}/{event}").text.strip().splitlines()[-2:]
        data = json.loads(data.removeprefix("data: "))
        return data["error"] if kind == "event: error" else data

"""The Space of a model: its folder, its page in a process of its own, and its upload."""

import os
import signal
import subprocess
import sys
import threading
from importlib.metadata import version

import pytest
import yaml
from helpers.commands import videomae
from helpers.hub_server import Hub
from helpers.trained_models import save_trained, write_three_motions

from videomae_hf.checkpoints import space
from videomae_hf.commands import push


pytest.importorskip("gradio")
from helpers.page_client import PageClient, free_port  # noqa: E402


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    place = tmp_path_factory.mktemp("place")
    save_trained(place / "model")
    write_three_motions(place / "video.mp4")
    return place


@pytest.fixture(scope="module")
def built(place):
    """The folder of a Space with an example."""
    space.build_space("me/my-videomae", place / "space", place / "video.mp4")
    return place / "space"


def test_the_folder(built):
    assert sorted(path.name for path in built.iterdir()) == [
        "LICENSE", "README.md", "app.py", "examples", "requirements.txt", "videomae_hf",
    ]  # fmt: skip
    _, header, text = (built / "README.md").read_text().split("---\n")
    header = yaml.safe_load(header)
    assert header["sdk"] == "gradio" and header["sdk_version"] == version("gradio")
    assert header["app_file"] == "app.py" and header["models"] == ["me/my-videomae"]
    assert header["python_version"] == f"{sys.version_info.major}.{sys.version_info.minor}"
    assert text.startswith("\n# my-videomae\n")
    pins = dict(line.split("==") for line in (built / "requirements.txt").read_text().splitlines())
    assert {"torch", "transformers", "gradio", "av", "matplotlib"} <= pins.keys() and pins["gradio"] == version(
        "gradio"
    )
    assert not any("+" in pin for pin in pins.values())
    assert not list(built.rglob("__pycache__")) and (built / "videomae_hf" / "checkpoints" / "model_card.md").is_file()
    assert (built / "examples" / "example.mp4").is_file()


@pytest.mark.slow
def test_its_page_in_a_process_of_its_own(built, place, tmp_path):
    """Only the libraries in requirements.txt, and what these need, are there. At the end no upload is left."""
    absent = ("accelerate", "datasets", "decord", "evaluate", "peft", "scipy", "sklearn")
    code = f"import runpy, sys; sys.modules.update(dict.fromkeys({absent})); runpy.run_path('app.py')"
    port, here = free_port(), {"MODEL": str(place / "model"), "TMPDIR": str(tmp_path), "HF_HUB_OFFLINE": "1"}
    environment = {**os.environ, **here, "GRADIO_SERVER_PORT": str(port), "PYTHONDONTWRITEBYTECODE": "1"}
    environment.pop("PYTHONPATH", None)
    process = subprocess.Popen(
        [sys.executable, "-c", code],
        cwd=built,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        assert process.stdout.readline() == f"The page is at http://127.0.0.1:{port}/ until Ctrl-C.\n", (
            process.kill(),
            process.communicate(),
        )
        client = PageClient(f"http://127.0.0.1:{port}/")
        page = client.http.get(f"http://127.0.0.1:{port}/")
        assert page.status_code == 200 and "gradio" in page.text
        functions = client.http.get("/info").json()["named_endpoints"]
        assert set(functions) == {"/predict", "/timeline", "/attention", "/evidence"}
        video = client.upload("video.mp4", (place / "video.mp4").read_bytes())
        assert client.call("predict", video, 1, 1)[0]["label"] in ("jump", "run", "swim")
        assert [path.name for path in tmp_path.glob("videomae_app_*/*/video.mp4")] == ["video.mp4"]
        for _ in range(2):  # as `timeout` sends it
            process.send_signal(signal.SIGTERM)
        assert process.wait(60) == 128 + signal.SIGTERM
    finally:
        process.kill()
        process.communicate()
    assert list(tmp_path.glob("videomae_app_*")) == []


def test_versions_that_a_space_cannot_install(tmp_path, monkeypatch):
    monkeypatch.setattr(space, "version", lambda name: {"torch": "2.13.0a0+git1234"}.get(name, "1.0"))
    with pytest.raises(ValueError, match="torch 2.13.0a0.git1234 is not a release"):
        space.build_space("me/a", tmp_path / "space")
    monkeypatch.setattr(space, "version", lambda name: "2.13.0+cpu")
    assert space._release("torch") == "2.13.0"
    monkeypatch.setattr(space, "_REQUIRED", ("gradio", "no-such-library"))
    monkeypatch.setattr(space, "version", version)
    with pytest.raises(ImportError, match="A Space needs no-such-library, which is not installed here"):
        space.build_space("me/a", tmp_path / "space")
    (tmp_path / "old.txt").touch()
    with pytest.raises(ValueError, match="is not empty"):
        space.build_space("me/a", tmp_path)


@pytest.fixture
def hub(monkeypatch):
    hub = Hub()
    threading.Thread(target=hub.serve_forever, daemon=True).start()
    hub.used_here(monkeypatch)
    yield hub
    hub.shutdown()
    hub.server_close()


def test_push_uploads_the_model_and_its_space(place, hub, monkeypatch, capsys):
    verified = []
    monkeypatch.setattr(push, "verify_bundle", lambda checkpoint, folder: None)
    monkeypatch.setattr(push, "verify_space", lambda model, folder: verified.append(model))
    videomae("push", place / "model", "me/my-videomae", "--space", "--private")
    model, files = hub.repositories["me/my-videomae"], hub.repositories["me/my-videomae:space"]
    assert "model.safetensors" in model and not any(name.startswith("videomae_hf") for name in model)
    assert {"app.py", "README.md", "requirements.txt", "videomae_hf/commands/app.py"} <= files.keys()
    assert b'"me/my-videomae"' in files["app.py"] and "model.safetensors" not in files
    assert hub.private == {"me/my-videomae": True, "me/my-videomae:space": True}
    assert "add HF_TOKEN to its secrets" in capsys.readouterr().out
    hub.requests.clear()
    videomae("push", "me/my-videomae", "me/my-videomae", "--space")  # a model that is there already
    assert verified[-1] == "me/my-videomae" and not any("/api/models/" in one for one in hub.requests)


def test_a_dry_run_builds_both_folders(place, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(push, "verify_bundle", lambda checkpoint, folder: None)
    monkeypatch.setattr(push, "verify_space", lambda model, folder: None)
    videomae("push", place / "model", "me/a", "--space", "--dry_run", tmp_path / "bundle")
    assert f"{tmp_path / 'bundle'} and {tmp_path / 'bundle-space'} are ready" in capsys.readouterr().out
    assert (tmp_path / "bundle-space" / "app.py").is_file() and not (tmp_path / "bundle" / "app.py").exists()
    with pytest.raises(ValueError, match="leave out --revision"):
        videomae("push", place / "model", "me/a", "--space", "--revision", "dev", "--dry_run", tmp_path / "other")


def test_a_page_that_cannot_be_built_is_not_uploaded(tmp_path):
    (tmp_path / "videomae_hf").mkdir()
    (tmp_path / "videomae_hf" / "__init__.py").write_text("raise ImportError('a file is missing')")
    with pytest.raises(ValueError, match="The Space in .* does not work: ImportError: a file is missing"):
        space.verify_space("me/a", tmp_path)


@pytest.mark.slow
def test_the_whole_dry_run(place, tmp_path, capsys):
    videomae("push", place / "model", "me/a", "--space", "--dry_run", tmp_path / "bundle")
    assert "The page of the Space was built from its own files." in capsys.readouterr().out
    assert not list((tmp_path / "bundle-space").rglob("__pycache__"))

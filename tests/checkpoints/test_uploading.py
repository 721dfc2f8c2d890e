"""Uploads to a Hub on this machine that works, refuses, has faults, and cuts connections."""

import threading

import huggingface_hub
import pytest
from helpers.hub_server import TOKEN, Fault, Hub
from packaging.version import Version

from videomae_hf.checkpoints.uploading import Destination, UploadError, add_tag, prepare_repository, upload


@pytest.fixture
def hub(monkeypatch):
    server = Hub()
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
    thread.start()
    server.used_here(monkeypatch)
    yield server
    server.shutdown()
    server.server_close()


@pytest.fixture
def folder(tmp_path):
    folder = tmp_path / "bundle"
    (folder / "pictures").mkdir(parents=True)
    (folder / "config.json").write_text("{}")
    (folder / "model.safetensors").write_bytes(b"weights" * 30_000)
    (folder / "pictures" / "a.png").write_bytes(b"picture")
    return folder


FILES = {"config.json", "model.safetensors", "pictures/a.png"}


def send(folder, message="Upload", mirror=False, **options):
    return upload(folder, prepare_repository(Destination("me/moves", **options)), message, mirror=mirror)


def test_one_commit_with_everything(hub, folder):
    commit = send(folder, "First")
    assert set(hub.repositories["me/moves"]) == FILES and hub.messages == ["First"]
    assert commit.commit_url.startswith(f"{hub.url}/me/moves/commit/")


def test_the_same_again_is_no_commit(hub, folder):
    first, second = send(folder), send(folder)
    assert first.oid == second.oid and len(hub.messages) == 1


@pytest.mark.parametrize(
    ("status", "message", "said"),
    [
        (
            401,
            "Invalid username or password.",
            "(401: Invalid username or password.). Run `hf auth login`, or set HF_TOKEN",
        ),
        (403, "You don't have the rights to create a model", "Use a token with write access to this repository"),
        (
            403,
            "Private repository storage limit reached, please upgrade your plan",
            "has no room for me/moves (403: Priv",
        ),
        (403, "Your storage patterns tripped our internal systems!", "has no room for me/moves (403: Your storage"),
        (413, "", "The Hub has no room for me/moves (413). Free storage or extend it, then repeat the command."),
        (409, "A commit has happened since.", "Someone else changed the repository meanwhile; repeat the command."),
        (412, "", "Someone else changed the repository meanwhile; repeat the command."),
        (400, "Bad yaml", "refused the upload to me/moves (400: Bad yaml). Its answer says why."),
        (404, "", "The repository or the branch does not exist, or the token may not see it."),
        (429, "", "There were too many requests; repeat the command in some minutes."),
        (500, "", "The Hub has a fault; repeat the command later. What has arrived is not sent again."),
        (503, "Overloaded", "(503: Overloaded). The Hub has a fault; repeat the command later."),
    ],
)
def test_refusals_are_one_line(hub, folder, status, message, said):
    prepare_repository(Destination("me/moves"))
    hub.faults = [Fault("POST /api/models/me/moves/commit", status, message)]
    with pytest.raises(UploadError) as caught:
        send(folder)
    text = str(caught.value)
    assert said in text and "\n" not in text and TOKEN not in text and hub.url not in text
    assert hub.messages == []


@pytest.mark.parametrize("request_", ["repos/create", "preupload", "objects/batch", "PUT /lfs", "/tree/"])
@pytest.mark.parametrize("status", [403, 503])
def test_refusals_of_every_request(hub, folder, request_, status):
    hub.faults = [Fault(request_, status, "no")]
    with pytest.raises(UploadError, match=rf"The Hub refused the upload to me/moves \({status}"):
        send(folder)


def test_no_token_and_a_wrong_one(hub, folder, monkeypatch, tmp_path):
    monkeypatch.setenv("HF_TOKEN", "hf_wrong")
    with pytest.raises(UploadError, match="401"):
        send(folder)
    assert send(folder, token=TOKEN).oid
    monkeypatch.delenv("HF_TOKEN")
    monkeypatch.setattr("huggingface_hub.constants.HF_TOKEN_PATH", str(tmp_path / "none"))
    with pytest.raises(UploadError, match="Run `hf auth login`, or set HF_TOKEN"):
        send(folder)


def test_offline_says_which_variable(hub, folder, monkeypatch):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    with pytest.raises(UploadError, match="because HF_HUB_OFFLINE is set"):
        send(folder)


def test_a_hub_that_is_not_there(folder, monkeypatch, hub):
    monkeypatch.setattr("huggingface_hub.constants.ENDPOINT", "http://127.0.0.1:9")
    with pytest.raises(UploadError, match="The connection to the Hub was lost while uploading to me/moves"):
        send(folder)


OLD = Version(huggingface_hub.__version__) < Version("2")
CUT = pytest.param(0, marks=pytest.mark.skipif(OLD, reason="huggingface_hub 1.5 closes its client after a cut"))


@pytest.mark.parametrize("status", [CUT, 503])
@pytest.mark.parametrize("request_", ["PUT /lfs", "objects/batch", "preupload"])  # not a commit, as in the library
def test_a_fault_that_passes_is_not_seen(hub, folder, request_, status):
    hub.faults = [Fault(request_, status, times=2)]
    send(folder)
    assert set(hub.repositories["me/moves"]) == FILES and len(hub.messages) == 1


@pytest.mark.parametrize("request_", ["PUT /lfs", "/commit/", "objects/batch", "preupload"])
def test_a_cut_upload_is_repeated_by_the_same_call(hub, folder, request_):
    whole = (folder / "model.safetensors").read_bytes()
    hub.faults = [Fault(request_, 0)]
    with pytest.raises(UploadError, match="Repeat the command: what has arrived is not sent again"):
        send(folder)
    assert hub.repositories["me/moves"] == {} and hub.messages == []
    arrived = bool(hub.objects)
    hub.faults, hub.requests = [], []
    send(folder)
    assert hub.repositories["me/moves"]["model.safetensors"] == whole and len(hub.messages) == 1
    assert any(request.startswith("PUT") for request in hub.requests) != arrived


def test_files_that_would_be_read_instead_are_deleted(hub, folder):
    old = (
        "model-00001-of-00002.safetensors",
        "model.safetensors.index.json",
        "pytorch_model.bin",
        "adapter_config.json",
    )
    others = (".gitattributes", "LICENSE", "notes.md", "last-checkpoint/model-00001.safetensors", "old.py")
    prepare_repository(Destination("me/moves"))
    hub.repositories["me/moves"] |= dict.fromkeys((*old, *others, "processor_config.json"), b"old")
    send(folder)
    assert set(hub.repositories["me/moves"]) == FILES | set(others) and len(hub.messages) == 1


def test_one_file_of_weights_is_replaced_by_shards(hub, folder):
    send(folder)
    (folder / "model.safetensors").rename(folder / "model-00001-of-00001.safetensors")
    (folder / "model.safetensors.index.json").write_text("{}")
    send(folder)
    assert "model.safetensors" not in hub.repositories["me/moves"]


def test_a_mirror_has_nothing_else(hub, folder):
    prepare_repository(Destination("me/moves"))
    hub.repositories["me/moves"] |= {".gitattributes": b"", "modeling.py": b"", "pictures/old.png": b""}
    send(folder, mirror=True, revision="transformers")
    assert set(hub.branches["me/moves", "transformers"]) == FILES | {".gitattributes"}
    assert set(hub.repositories["me/moves"]) == {".gitattributes", "modeling.py", "pictures/old.png"}


def test_branches_and_pull_requests(hub, folder):
    send(folder, revision="v2")
    assert set(hub.branches["me/moves", "v2"]) == FILES and hub.repositories["me/moves"] == {}
    commit = send(folder, create_pr=True)
    assert commit.pr_url == f"{hub.url}/me/moves/discussions/1"
    assert set(hub.branches["me/moves", "refs/pr/1"]) == FILES and hub.repositories["me/moves"] == {}
    (folder / "config.json").write_text("[]")
    send(folder, revision="refs/pr/1")  # adds to it
    assert hub.branches["me/moves", "refs/pr/1"]["config.json"] == b"[]"


def test_a_private_repository_is_never_a_public_one(hub, folder):
    send(folder, private=True)
    assert hub.private["me/moves"]
    send(folder, private=True)
    hub.private["me/moves"] = False
    with pytest.raises(ValueError, match="me/moves exists and is public; make it private in its settings"):
        send(folder, private=True)


def test_tags(hub, folder):
    destination = prepare_repository(Destination("me/moves"))
    commit = upload(folder, destination, "First")
    add_tag(destination, "v1", commit)
    add_tag(destination, "v1", commit)  # again, as a repeated command does
    assert hub.tags == {("me/moves", "v1"): commit.oid}
    (folder / "config.json").write_text("[]")
    with pytest.raises(ValueError, match="--tag v1 exists in me/moves and marks another commit"):
        add_tag(destination, "v1", upload(folder, destination, "Second"))


def test_a_missing_file_is_no_fault_of_the_hub(hub, folder):
    (folder / "config.json").unlink()
    (folder / "config.json").symlink_to(folder / "gone")
    send(folder)  # not a file: left out
    assert set(hub.repositories["me/moves"]) == FILES - {"config.json"}

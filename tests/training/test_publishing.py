"""A run with push_to_hub: the folder of `videomae push`, for each hub_strategy, with nothing private; and failures."""

import json
import logging
import threading

import pytest
import torch
from helpers.commands import videomae
from helpers.hub_server import TOKEN, Fault, Hub
from helpers.synthetic_clips import losses, trainer
from helpers.tiny_models import build

from videomae_hf import VideoMAEV2ForPreTraining, VideoMAEV2ForVideoClassification, VideoMAEV2ImageProcessor
from videomae_hf.checkpoints.bundle import build_bundle, read_checkpoint
from videomae_hf.checkpoints.model_card import Publication
from videomae_hf.checkpoints.uploading import UploadError
from videomae_hf.data.sources.synthetic import synthesise_dataset
from videomae_hf.models.image_processing_videomae_v2 import clip_options
from videomae_hf.training import publishing


BUNDLE = {"README.md", "config.json", "model.safetensors", "preprocessor_config.json", "modeling_videomae_v2.py"}
RESUMED = {"model.safetensors", "optimizer.pt", "scheduler.pt", "rng_state.pth", "trainer_state.json", "config.json"}


@pytest.fixture
def hub(monkeypatch):
    server = Hub()
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
    thread.start()
    server.used_here(monkeypatch)
    monkeypatch.delenv("HF_TOKEN")  # the runs have the token as an argument, which must not be saved either
    yield server
    server.shutdown()
    server.server_close()


@pytest.fixture
def unverified(monkeypatch):
    """Without the process that verifies the final folder: `test_a_finetuning_uploads_what_push_uploads` has it."""
    monkeypatch.setattr(publishing, "verify_bundle", lambda checkpoint, folder: None)


def pretraining(folder, **options):
    defaults = {"max_steps": 2, "save_strategy": "steps", "save_steps": 1, "hub_model_id": "me/pushed"}
    defaults |= {"push_to_hub": True, "hub_token": TOKEN, "hub_always_push": True}
    run = trainer(folder, **{**defaults, **options})
    run.processing_class = VideoMAEV2ImageProcessor(**clip_options(run.model.config))
    return run


def names(hub, prefix: str = "") -> set[str]:
    return {name.removeprefix(prefix) for name in hub.repositories["me/pushed"] if name.startswith(prefix)}


def nothing_private(hub, *secrets: str) -> None:
    """Searches all bytes that were ever received."""
    assert hub.objects and hub.uploaded()
    for secret in (TOKEN, *secrets):
        found = [name for name, content in hub.uploaded().items() if str(secret).encode() in content]
        assert not found, f"{secret} in {found}"
    pickles = [name for name in hub.uploaded() if name.endswith((".bin", ".pkl"))]
    assert not pickles and not [name for name in hub.uploaded() if name.endswith(("settings.yaml", ".lock"))]


@pytest.mark.parametrize(
    ("strategy", "commits", "more"),
    [
        ("end", ["End of training"], {}),
        ("every_save", ["Training in progress, step 1", "Training in progress, step 2", "End of training"], {}),
        ("checkpoint", ["Training in progress, step 1", "Training in progress, step 2", "End of training"],
         {"last-checkpoint/": 2}),
        ("all_checkpoints", ["Training in progress, step 1", "Training in progress, step 2", "End of training"],
         {"checkpoint-1/": 1, "checkpoint-2/": 2}),
    ],
)  # fmt: skip
def test_strategies(tmp_path, hub, unverified, strategy, commits, more):
    run = pretraining(tmp_path / "run", hub_strategy=strategy)
    run.train()
    assert names(hub) >= (BUNDLE if strategy != "end" else set())
    run.push_to_hub()
    # The last checkpoint is the final model: its card alone may differ, and without a difference there is no commit.
    assert hub.messages in (commits, commits[:-1])
    assert BUNDLE <= names(hub)
    assert {name.split("/")[0] + "/" for name in names(hub) if "/" in name} == set(more)
    for place, step in more.items():
        assert RESUMED <= names(hub, place)
        state = json.loads(hub.repositories["me/pushed"][f"{place}trainer_state.json"])
        assert state["global_step"] == step
    nothing_private(hub, tmp_path, tmp_path.name)
    assert not (tmp_path / "run" / "hub_upload").exists()


def test_a_run_resumes_from_the_hub(tmp_path, hub, unverified):
    run = pretraining(tmp_path / "run", hub_strategy="all_checkpoints", max_steps=4, save_steps=2)
    run.train()
    place = tmp_path / "fetched" / "checkpoint-2"
    place.mkdir(parents=True)
    for name in names(hub, "checkpoint-2/"):
        (place / name).write_bytes(hub.repositories["me/pushed"][f"checkpoint-2/{name}"])
    again = pretraining(tmp_path / "again", push_to_hub=False, hub_model_id=None, max_steps=4)
    again.train(resume_from_checkpoint=str(place))
    assert losses(run)[2:] == losses(again)[2:] and len(losses(again)) == 4
    torch.testing.assert_close(again.model.state_dict(), run.model.state_dict(), rtol=0, atol=0)


def test_the_average_is_uploaded_where_it_is_the_result(tmp_path, hub, unverified):
    run = pretraining(tmp_path / "run", hub_strategy="every_save", ema_decay=0.5, evaluate_ema=True)
    run.train()
    pushed = hub.repositories["me/pushed"]["model.safetensors"]
    assert pushed == (tmp_path / "run" / "checkpoint-2" / "ema" / "model.safetensors").read_bytes()
    run.push_to_hub()
    assert hub.repositories["me/pushed"]["model.safetensors"] == pushed


def test_a_branch_and_a_private_repository(tmp_path, hub, unverified):
    run = pretraining(tmp_path / "run", hub_strategy="every_save", hub_revision="trial", hub_private_repo=True)
    run.train()
    run.push_to_hub()
    assert BUNDLE <= set(hub.branches["me/pushed", "trial"]) and hub.private["me/pushed"] and names(hub) == set()


@pytest.mark.parametrize("fault", [Fault("repos/create", 403, "no"), Fault("repos/create", 0)])
def test_a_run_that_may_not_upload_ends_before_it_trains(tmp_path, hub, fault):
    hub.faults = [fault]
    with pytest.raises(UploadError, match="me/pushed"):
        pretraining(tmp_path / "run")
    hub.faults, token = [], "hf_wrong"
    with pytest.raises(UploadError, match="401"):
        pretraining(tmp_path / "run", hub_token=token)


def test_a_failure_during_a_run_is_a_warning(tmp_path, hub, unverified, caplog):
    run = pretraining(tmp_path / "run", hub_strategy="every_save")
    hub.faults = [Fault("commit", 403, "Private repository storage limit reached")]
    with caplog.at_level(logging.WARNING, logger=publishing.__name__):
        run.train()
    assert run.state.global_step == 2
    warned = [record.getMessage() for record in caplog.records if record.name == publishing.__name__]
    assert len(warned) == 2 and "The Hub has no room for me/pushed" in warned[0] and "The run continues." in warned[0]
    hub.faults = []
    run.push_to_hub()
    assert BUNDLE <= names(hub)


@pytest.mark.parametrize("fault", [Fault("commit", 403, "storage limit"), Fault("PUT /lfs", 0)], ids=["full", "cut"])
def test_a_failure_at_the_end_loses_nothing(tmp_path, hub, unverified, fault):
    run = pretraining(tmp_path / "run", hub_strategy="end")
    run.train()
    hub.faults = [fault]
    with pytest.raises(UploadError) as caught:
        run.push_to_hub()
    text, folder = str(caught.value), tmp_path / "run"
    command = f"The trained model is complete in {folder}: videomae push {folder} me/pushed"
    assert text.endswith(command) and "\n" not in text
    VideoMAEV2ForPreTraining.from_pretrained(folder)


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    folder = tmp_path_factory.mktemp("data") / "videos"
    synthesise_dataset(folder, videos_per_class=1, size=40, num_frames=16)
    return folder


def finetuning(folder, data, base) -> list:
    options = ["--sampling_rate", 1, "--max_steps", 2, "--dataloader_num_workers", 0, "--disable_tqdm", "true"]
    options += ["--per_device_train_batch_size", 2, "--use_cpu", "true", "--output_dir", folder, "--checkpoint", base]
    options += ["--push_to_hub", "true", "--hub_model_id", "me/pushed", "--hub_token", TOKEN, "--logging_steps", 1]
    return ["finetune", "--train_data", data, "--eval_data", data, *options]


@pytest.mark.parametrize("lora", [0, 2])
def test_a_finetuning_uploads_what_push_uploads(tmp_path, hub, data, lora, request, capfd):
    """Scores and all, and the plain model where adapters were trained."""
    if lora:
        pytest.importorskip("peft")
        request.getfixturevalue("unverified")
    base, folder = tmp_path / "MCG-NJU" / "videomae-tiny", tmp_path / "run"
    build(VideoMAEV2ForPreTraining).save_pretrained(base)
    saves = ["--save_strategy", "steps", "--save_steps", 1, "--hub_strategy", "checkpoint", "--hub_always_push", "true"]
    videomae(*finetuning(folder, data, base), "--lora_rank", lora, *saves)
    uploaded = hub.repositories["me/pushed"]
    assert f"Uploaded to {hub.url}/me/pushed/commit/" in capfd.readouterr().out
    card = uploaded["README.md"].decode()
    assert "license: cc-by-nc-4.0" in card and "| top-1 accuracy |" in card and "| training loss |" in card
    build_bundle(read_checkpoint(str(folder)), Publication("me/pushed"), tmp_path / "bundle")
    built = {path.name: path.read_bytes() for path in (tmp_path / "bundle").iterdir()}
    assert {name: data for name, data in uploaded.items() if "/" not in name} == built
    assert RESUMED - {"model.safetensors"} <= names(hub, "last-checkpoint/")
    nothing_private(hub, tmp_path, tmp_path.parent.name, data)
    assert VideoMAEV2ForVideoClassification.from_pretrained(folder).config.num_labels == 8


def test_a_finetuning_whose_upload_fails_is_complete(tmp_path, hub, unverified, data, train_here):
    hub.faults = [Fault("commit", 403, "You don't have the rights")]
    base, folder = tmp_path / "base", tmp_path / "run"
    build(VideoMAEV2ForPreTraining).save_pretrained(base)
    done = train_here(*finetuning(folder, data, base), "--save_strategy", "no")
    assert done.returncode == 1 and "Traceback" not in done.stderr
    message = next(line for line in done.stderr.splitlines() if line.startswith("train.py: error:"))
    assert "(403: You don't have the rights). Use a token with write access" in message
    assert message.endswith(f"The trained model is complete in {folder}: videomae push {folder} me/pushed")
    assert {"model.safetensors", "settings.yaml", "all_results.json", "run.json"} <= {p.name for p in folder.iterdir()}
    assert json.loads((folder / "run.json").read_text())["finished"] is True

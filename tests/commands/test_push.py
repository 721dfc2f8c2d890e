"""Shipping: the bundle of push_to_hub.py, loaded where the package is not, from a folder and over HTTP."""

import json
import os
import re
import subprocess
import sys
import threading
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from helpers.commands import run as run_command
from helpers.commands import videomae
from helpers.hub_server import TOKEN, Fault, Hub
from helpers.shared import REPO, TINY, randomize
from helpers.tiny_models import opengvlab_folder
from helpers.trained_models import CLASSES, save_trained, write_three_motions
from transformers import VideoMAEConfig, VideoMAEForVideoClassification, pipeline
from transformers.dynamic_module_utils import check_imports

from videomae_hf import (
    VideoMAEV2Config,
    VideoMAEV2ForPreTraining,
    VideoMAEV2ForVideoClassification,
    VideoMAEV2ImageProcessor,
    VideoMAEV2Model,
)
from videomae_hf.checkpoints import bundle
from videomae_hf.checkpoints.model_card import Checkpoint, Publication, model_card
from videomae_hf.checkpoints.uploading import UploadError
from videomae_hf.cli import run_command as run_main
from videomae_hf.commands import push
from videomae_hf.data.sources.synthetic import synthesise_video, write_video


MODELS = REPO / "videomae_hf" / "models"
SHIPPED = {path.name for path in MODELS.glob("*.py")} - {"__init__.py"}
OF_VIDEOBERT = {
    *("bert_checkpoints.py", "configuration_videobert.py", "layers_videobert.py", "modeling_videobert.py"),
    *("modeling_videobert_pretraining.py", "modeling_videobert_tasks.py", "processing_videobert.py"),
    *("segment_features.py", "video_text_masking.py", "video_text_objectives.py", "visual_words.py"),
}
OF_VIDEOMAE = SHIPPED - OF_VIDEOBERT  # what a VideoMAE needs
WITHOUT_PACKAGE = "import sys; sys.modules['videomae_hf'] = None\n"


@pytest.fixture(scope="module")
def checkpoints(tmp_path_factory) -> Path:
    """A folder for each kind of model, as `train.py` leaves them."""
    folder = tmp_path_factory.mktemp("checkpoints")
    names = {"id2label": {0: "jump", 1: "run"}, "label2id": {"jump": 0, "run": 1}}
    for kind, model_class in (
        ("pretrained", VideoMAEV2ForPreTraining),
        ("finetuned", VideoMAEV2ForVideoClassification),
        ("encoder", VideoMAEV2Model),
    ):
        model = randomize(model_class(VideoMAEV2Config(**TINY, decoder_mask_ratio=0.5, **names)))
        model.save_pretrained(folder / kind)
        processor = VideoMAEV2ImageProcessor(
            num_frames=4, size={"shortest_edge": 32}, crop_size={"height": 32, "width": 32}, sampling_rate=2
        )
        processor.save_pretrained(folder / kind)
    metrics = {"eval_top1": 0.75, "eval_top5": 1.0, "eval_mean_class_accuracy": 0.7}
    (folder / "metrics.json").write_text(json.dumps(metrics))
    settings = {"learning_rate": 5e-4, "train_data": "/home/someone/secret", "checkpoint": "MCG-NJU/videomae-base"}
    (folder / "finetuned" / "run.json").write_text(json.dumps({"base_model": "MCG-NJU/videomae-base"}))
    (folder / "finetuned" / "settings.yaml").write_text(yaml.safe_dump(settings))
    return folder


def push_to_hub(*arguments, **environment) -> subprocess.CompletedProcess:
    return run_command(
        [sys.executable, "push_to_hub.py", *map(str, arguments)], cwd=REPO, env={**os.environ, **environment}
    )


def python(code: str, folder: Path, **environment) -> str:
    """Runs code in a process that cannot import the package, in an empty folder with a module cache of its own."""
    done = run_command(
        [sys.executable, "-c", WITHOUT_PACKAGE + code],
        cwd=folder,
        env={**os.environ, "HF_MODULES_CACHE": str(folder / "modules"), **environment},
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.parametrize("name", sorted(SHIPPED))
def test_shipped_files_import_only_siblings_and_installed_packages(name):
    relative = check_imports(MODELS / name)  # raises for packages that are missing
    assert {f"{module}.py" for module in relative} <= SHIPPED
    source = (MODELS / name).read_text()
    for allowed in ("The videomae_hf authors", '"videomae_hf visual words 1"'):  # a licence, and the name of a format
        source = source.replace(allowed, "")
    assert "videomae_hf" not in re.sub(r">>> .*", "", source)


@pytest.mark.slow
def test_dry_run_builds_a_bundle_and_a_card(checkpoints, tmp_path):
    bundle = tmp_path / "bundle"
    arguments = ["--dry_run", bundle, "--metrics", checkpoints / "metrics.json", "--dataset", "two moves"]
    done = push_to_hub(checkpoints / "finetuned", "me/moves", *arguments)
    assert done.returncode == 0, done.stderr
    assert "nothing was uploaded" in done.stdout
    weights = {"README.md", "config.json", "model.safetensors", "preprocessor_config.json"}
    assert {path.name for path in bundle.iterdir()} == OF_VIDEOMAE | weights
    config = json.loads((bundle / "config.json").read_text())
    assert config["auto_map"] == {
        "AutoConfig": "configuration_videomae_v2.VideoMAEV2Config",
        "AutoModel": "modeling_videomae_v2.VideoMAEV2Model",
        "AutoModelForPreTraining": "modeling_videomae_v2.VideoMAEV2ForPreTraining",
        "AutoModelForVideoClassification": "modeling_videomae_v2.VideoMAEV2ForVideoClassification",
    }
    card = (bundle / "README.md").read_text()
    header = yaml.safe_load(card.split("---")[1])
    assert header["license"] == "cc-by-nc-4.0" and header["pipeline_tag"] == "video-classification"
    assert "`cc-by-nc-4.0`, for the weights, inherited from `MCG-NJU/videomae-base`. It does not allow" in card
    assert "Licence: cc-by-nc-4.0, inherited from MCG-NJU/videomae-base" in done.stdout
    assert header["base_model"] == "MCG-NJU/videomae-base"
    values = {metric["name"]: metric["value"] for metric in header["model-index"][0]["results"][0]["metrics"]}
    assert values == {"top-1 accuracy": 0.75, "top-5 accuracy": 1.0, "mean class accuracy": 0.7}
    assert "`jump`, `run`" in card and "| learning_rate | `0.0005` |" in card and "4 frames, 2 apart" in card
    assert "secret" not in card and "Trained and scored on: `two moves`" in card


@pytest.mark.parametrize("kind", ["pretrained", "encoder"])
def test_other_models_are_proved_too(checkpoints, tmp_path, kind, capfd):
    options = ["--also_transformers"] if kind == "encoder" else []
    videomae("push", checkpoints / kind, f"me/{kind}", "--dry_run", tmp_path / "bundle", *options)
    assert "verified without videomae_hf" in capfd.readouterr().out
    assert [path.name for path in sorted(tmp_path.iterdir())] == ["bundle", "bundle-transformers"][: 1 + len(options)]


@pytest.mark.slow
def test_bundle_that_does_not_load_is_not_shipped(checkpoints, tmp_path, monkeypatch):
    """The proof can fail: a bundle whose code is broken is refused with the reason."""
    monkeypatch.syspath_prepend(str(REPO))
    checkpoint = bundle.read_checkpoint(str(checkpoints / "finetuned"))
    bundle.build_bundle(checkpoint, Publication("me/moves"), tmp_path / "bundle")
    bundle.verify_bundle(checkpoint, tmp_path / "bundle")
    with torch.no_grad():
        checkpoint.model.classifier.bias += 1
    with pytest.raises(ValueError, match="does not work without videomae_hf"):
        bundle.verify_bundle(checkpoint, tmp_path / "bundle")
    (tmp_path / "bundle" / "masking.py").unlink()
    with pytest.raises(ValueError, match="masking"):
        bundle.verify_bundle(checkpoint, tmp_path / "bundle")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["no/such/folder", "me/x", "--dry_run", "{tmp}/b"], "no/such/folder"),
        (["{checkpoints}/finetuned", "not a name", "--dry_run", "{tmp}/b"], "not a name"),
        (["{checkpoints}/finetuned", "me/x", "--dry_run", "{checkpoints}"], "not empty"),
        (["{checkpoints}/finetuned", "me/x", "--dry_run", "{tmp}/b", "--metrics", "{tmp}/none.json"], "none.json"),
        (["{checkpoints}/finetuned", "me/x", "--license", "mit"], "--license mit is freer than cc-by-nc-4.0"),
        (["{checkpoints}/finetuned", "me/x", "--license_override"], "--license_override is for the licence of --lic"),
        (["{checkpoints}/finetuned", "me/x", "--create_pr", "--tag", "v1"], "--create_pr cannot be combined with"),
        (["{checkpoints}/finetuned", "me/x", "--also_transformers", "--revision", "transformers"], "name another"),
        (["{checkpoints}/finetuned", "me/x", "--max_shard_size", "5"], "--max_shard_size 5 must be a size such as"),
        (["{checkpoints}/finetuned", "me/x", "--example", "{tmp}/none.mp4"], "none.mp4 is not a file"),
        (["{checkpoints}/finetuned", "me/x", "--reconstructions", "1"], "has no pictures of reconstructions"),
        (["{checkpoints}/finetuned", "me/x"], "because HF_HUB_OFFLINE is set; unset it to upload"),
    ],
)
def test_mistakes_end_in_one_line(checkpoints, tmp_path, monkeypatch, capsys, arguments, message):
    """As push_to_hub.py runs its `main`; a process of its own is in `test_wrong_token_is_one_line`."""
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    monkeypatch.setattr(push, "verify_bundle", lambda checkpoint, folder: None)
    filled = [argument.format(checkpoints=checkpoints, tmp=tmp_path) for argument in arguments]
    with pytest.raises(SystemExit, match="1"):
        run_main("push_to_hub.py", push.main, filled)
    errors = capsys.readouterr().err
    assert "push_to_hub.py: error:" in errors and message in errors


def test_pipeline_from_a_folder_without_the_package(checkpoints, tmp_path):
    write_video(tmp_path / "clip.mp4", synthesise_video("left", np.random.default_rng(0)))
    code = f"""
from transformers import pipeline
classify = pipeline("video-classification", model={str(checkpoints / "finetuned")!r}, trust_remote_code=True)
print(sorted(row["label"] for row in classify("clip.mp4")))
"""
    assert "['jump', 'run']" in python(code, tmp_path, HF_HUB_OFFLINE="1")


@pytest.fixture
def hub():
    server = Hub()
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield server
    server.shutdown()
    server.server_close()


def test_push_and_load_over_the_hub_protocol(checkpoints, tmp_path, hub):
    environment = hub.environment(tmp_path)
    done = push_to_hub(checkpoints / "finetuned", "me/moves", **environment)
    assert done.returncode == 0, done.stderr
    assert f"{hub.url}/me/moves/commit/" in done.stdout
    assert set(hub.repositories["me/moves"]) >= OF_VIDEOMAE | {"README.md", "model.safetensors"}
    assert sum("/commit/" in request for request in hub.requests) == 1  # all in one

    code = """
import torch
from transformers import AutoModel, AutoModelForVideoClassification
from transformers.models.auto.image_processing_auto import AutoImageProcessor  # also without torchvision in 5.17
options = {"trust_remote_code": True}
model = AutoModelForVideoClassification.from_pretrained("me/moves", **options).eval()
processor = AutoImageProcessor.from_pretrained("me/moves", **options)
frames = torch.arange(4 * 32 * 32 * 3).reshape(4, 32, 32, 3) % 256
with torch.no_grad():
    print(model(**processor(frames, return_tensors="pt")).logits.tolist())
AutoModel.from_pretrained("me/moves", **options)
"""
    fetched = json.loads(python(code, tmp_path, **environment).splitlines()[-1])
    model = VideoMAEV2ForVideoClassification.from_pretrained(checkpoints / "finetuned").eval()
    processor = VideoMAEV2ImageProcessor.from_pretrained(checkpoints / "finetuned")
    frames = torch.arange(4 * 32 * 32 * 3).reshape(4, 32, 32, 3) % 256
    with torch.no_grad():
        expected = model(**processor(frames, return_tensors="pt")).logits
    torch.testing.assert_close(torch.tensor(fetched), expected, rtol=1e-5, atol=1e-6)


LOADING = """
import json, sys
import numpy as np
import torch
from transformers import VideoMAEForVideoClassification, pipeline
from transformers.models.auto.image_processing_auto import AutoImageProcessor
from transformers.models.auto.video_processing_auto import AutoVideoProcessor

video, url, frames = sys.argv[1], sys.argv[2], np.load(sys.argv[3])
options = {"trust_remote_code": True, "revision": "v1"}
classify = pipeline("video-classification", model="me/moves", **options)
found = {
    "image": type(AutoImageProcessor.from_pretrained("me/moves", **options)).__name__,
    "video": type(AutoVideoProcessor.from_pretrained("me/moves", **options)).__name__,
    "route": type(classify.video_processor).__name__,
    "path": classify(video), "url": classify(url), "array": classify(frames), "tensor": classify(torch.tensor(frames)),
    "list": classify([video, url]), "batch": classify([frames] * 3, batch_size=2),
    "num_frames": classify(video, num_frames=4), "top_k": classify(video, top_k=1),
}
try:
    classify(video, num_frames=8)
except ValueError as error:
    found["refused"] = str(error)
pixels = torch.arange(4 * 3 * 32 * 32).reshape(1, 4, 3, 32, 32) % 7 / 7
with torch.no_grad():
    plain = VideoMAEForVideoClassification.from_pretrained("me/moves", revision="transformers").eval()(pixels).logits
    ours = classify.model(pixels).logits
print(json.dumps({**found, "plain": plain.tolist(), "ours": ours.tolist()}))
"""


@pytest.mark.slow
def test_everything_at_once_and_the_pipeline_that_others_run(tmp_path, hub, monkeypatch, capfd):
    """A private repository with a tag, shards, pictures, an example and the copy; loaded from the Hub by others."""
    hub.used_here(monkeypatch)
    folder = save_trained(tmp_path / "run")
    (folder / "run.json").write_text(json.dumps({"base_model": None, "settings": {"learning_rate": 0.1}}))
    metrics = {"eval_top1": 1.0, "classes": list(CLASSES), "confusion_matrix": [[1, 0, 0], [0, 1, 0], [0, 0, 1]]}
    (folder / "metrics.json").write_text(json.dumps(metrics))
    video = write_three_motions(tmp_path / "video.mp4")
    options = ["--private", "--tag", "v1", "--also_transformers", "--max_shard_size", "20KB", "--example", video]
    run_push = [folder, "me/moves", "--license", "apache-2.0", "--commit_message", "First", *options]
    videomae("push", *run_push)
    files = set(hub.repositories["me/moves"])
    assert files >= OF_VIDEOMAE | {
        "README.md",
        "example.mp4",
        "pictures/confusion_matrix.png",
        "model.safetensors.index.json",
    }
    assert "model.safetensors" not in files and hub.private["me/moves"] and hub.messages == ["First", "First"]
    plain = set(hub.branches["me/moves", "transformers"])
    assert plain == {"README.md", "config.json", "model.safetensors", "preprocessor_config.json"}
    assert capfd.readouterr().out.count(f"{hub.url}/me/moves/commit/") == 2
    secrets = (TOKEN, tmp_path, "pytest-of-", Path.home() / "x")
    assert not [name for name, data in hub.uploaded().items() for one in secrets if str(one).encode() in data]

    frames = np.random.default_rng(0).integers(0, 256, (20, 40, 40, 3), dtype=np.uint8)
    np.save(tmp_path / "frames.npy", frames)
    given = [str(video), f"{hub.url}/me/moves/resolve/main/example.mp4", str(tmp_path / "frames.npy")]
    code = f"import sys\nsys.argv[1:] = {given!r}\n{LOADING}"
    found = json.loads(python(code, tmp_path, **hub.environment(tmp_path)).splitlines()[-1])
    classify = pipeline("video-classification", model=str(folder))  # with the package, from the folder
    expected = {"path": classify(str(video)), "array": classify(frames)}
    assert found["image"] == "VideoMAEV2ImageProcessor"
    assert found["video"] == found["route"] == "VideoMAEV2VideoProcessor" == type(classify.video_processor).__name__
    for kind, names in {"path": ("path", "url", "num_frames"), "array": ("array", "tensor")}.items():
        for name in names:
            assert [row["label"] for row in found[name]] == [row["label"] for row in expected[kind]], name
            scores = [row["score"] for row in expected[kind]]
            assert [row["score"] for row in found[name]] == pytest.approx(scores, abs=1e-5), name
    assert found["list"] == [found["path"], found["url"]] and found["top_k"] == found["path"][:1]
    assert [rows[0]["label"] for rows in found["batch"]] == [found["array"][0]["label"]] * 3
    assert "pixel_values of shape (1, 8, 3, 32, 32) do not fit the model" in found["refused"]
    torch.testing.assert_close(torch.tensor(found["plain"]), torch.tensor(found["ours"]), rtol=0, atol=1e-4)


def test_a_repeated_push_is_no_second_commit(tmp_path, hub, monkeypatch):
    hub.used_here(monkeypatch)
    monkeypatch.setattr(push, "verify_bundle", lambda checkpoint, folder: None)
    folder = save_trained(tmp_path / "run")
    hub.faults = [Fault("PUT /lfs", 0)]
    with pytest.raises(UploadError, match="Repeat the command"):
        videomae("push", folder, "me/moves", "--tag", "v1")
    hub.faults = []
    for _ in range(2):
        videomae("push", folder, "me/moves", "--tag", "v1")
    assert hub.messages == ["Upload with videomae_hf"] and list(hub.tags) == [("me/moves", "v1")]


@pytest.mark.slow
def test_wrong_token_is_one_line(checkpoints, tmp_path, hub):
    done = push_to_hub(checkpoints / "finetuned", "me/moves", **{**hub.environment(tmp_path), "HF_TOKEN": "hf_wrong"})
    assert TOKEN != "hf_wrong" and done.returncode == 1
    assert "401" in done.stderr and "Traceback" not in done.stderr
    assert hub.repositories == {}


def test_other_layouts_by_their_hub_id(checkpoints, tmp_path, hub):
    """transformers' layout and OpenGVLab's, fetched, not found on the disk; OpenGVLab's code is never asked for."""
    theirs = randomize(VideoMAEForVideoClassification(VideoMAEConfig(**{**TINY, "num_labels": 2}))).eval()
    theirs.save_pretrained(tmp_path / "theirs")
    ours = VideoMAEV2ForVideoClassification.from_pretrained(checkpoints / "finetuned").eval()
    opengvlab_folder(tmp_path / "opengvlab", ours)
    for name in ("theirs", "opengvlab"):
        files = {path.name: path.read_bytes() for path in (tmp_path / name).iterdir()}
        hub.repositories[f"them/{name}"] = files
    code = f"""
import sys, torch
sys.path.insert(0, {str(REPO)!r})
from videomae_hf import VideoMAEV2ForVideoClassification
pixels = (torch.arange(4 * 3 * 32 * 32).reshape(1, 4, 3, 32, 32) % 7).float()
for name in ("theirs", "opengvlab"):
    with torch.no_grad():
        print(VideoMAEV2ForVideoClassification.from_pretrained("them/" + name).eval()(pixels).logits.tolist())
"""
    environment = {**os.environ, **hub.environment(tmp_path)}
    done = run_command([sys.executable, "-c", code], cwd=tmp_path, env=environment)
    assert done.returncode == 0, done.stderr
    pixels = (torch.arange(4 * 3 * 32 * 32).reshape(1, 4, 3, 32, 32) % 7).float()
    for line, model in zip(done.stdout.splitlines(), (theirs, ours), strict=True):
        with torch.no_grad():
            torch.testing.assert_close(torch.tensor(json.loads(line)), model(pixels).logits, rtol=0, atol=1e-5)
    assert not any(".py" in request for request in hub.requests)


# ------------------------------------------------------------------------------------------------------------ the card

PLANTED = {
    "train_data": "/home/me/secret1", "teacher": "secret2/teacher", "probe_train_data": "secret3.csv",
    "probe_eval_data": "/secret4", "class_names": "secret5.txt", "feature_cache": "/secret6", "logging_dir": "secret7",
    "class_weights": "/home/me/secret8.yaml", "label_mappings": "secret9.json", "run_name": "secret10",
    "dataset_dir": "secret11", "hub_token": "hf_secret12", "deepspeed": "/secret13.json", "head_from": "secret14.json",
}  # fmt: skip


def card_of(settings=(), classes=("run", "sit"), metrics=(), **options) -> str:
    names = dict(enumerate(classes))
    model = VideoMAEV2ForVideoClassification(VideoMAEV2Config(**TINY, id2label=names))
    checkpoint = Checkpoint("x", model, VideoMAEV2ImageProcessor(), dict(settings), dict(metrics))
    return model_card(checkpoint, Publication("me/moves", **options))


def test_a_card_has_nothing_of_this_machine():
    card = card_of({**PLANTED, "learning_rate": 1e-3, "rand_augment": "rand-m7-n4-mstd0.5-inc1"})
    assert re.findall(r"secret\d+", card) == []
    assert "| learning_rate | `0.001` |" in card and "| rand_augment | `rand-m7-n4-mstd0.5-inc1` |" in card


def test_nothing_in_a_card_is_markup():
    classes = ["<script>alert(1)</script>", "a|b", "line\n# heading", "`code`", "[x](javascript:y)", "*b*"]
    card = card_of({"rand_augment": "x|y\n\n## z", "optim": "<b>"}, classes, dataset="<img src=x>\n# mine")
    shown = "`<script>alert(1)</script>`, `a\\|b`, `line # heading`, `'code'`, `[x](javascript:y)`, `*b*`"
    assert f"- Classes: {shown}\n" in card
    assert "| rand_augment | `x\\|y ## z` |" in card and "| optim | `<b>` |" in card
    assert "- Trained and scored on: `<img src=x> # mine`\n" in card
    assert [line for line in card.splitlines() if line.startswith("#")] == [
        "# moves", "## Use", "## Data", "## Results", "## Training", "## Licence", "## Citation"
    ]  # fmt: skip
    header = yaml.safe_load(card.split("\n---\n")[0].removeprefix("---\n"))
    assert header["model-index"][0]["name"] == "moves" if "model-index" in header else True


def test_metrics_that_are_no_numbers():
    for value in ("0.5", None, True, float("nan"), [1]):
        with pytest.raises(ValueError, match="The metrics have eval_top1=.*, which is not a number"):
            card_of(metrics={"eval_top1": value})
    assert "| top-1 accuracy | 75.00 % |" in card_of(metrics={"eval_top1": 0.75, "eval_confusion": [[1]]})
    assert "| mean absolute error | 1.5 |" in card_of(metrics={"eval_mae": 1.5})


def test_an_untrained_head_is_not_shipped(checkpoints, tmp_path):
    folder = tmp_path / "model"
    VideoMAEV2Model(VideoMAEV2Config(**TINY)).save_pretrained(folder)
    content = json.loads((folder / "config.json").read_text())
    content["architectures"] = ["VideoMAEV2ForVideoClassification"]
    (folder / "config.json").write_text(json.dumps(content))
    with pytest.raises(ValueError, match="has no trained classifier and fc_norm and cannot be shipped"):
        bundle.read_checkpoint(str(folder))


PUSHING = """
import sys
sys.path[:0] = [{tests!r}, {repo!r}]
from pathlib import Path
from helpers.synthetic_clips import trainer
from videomae_hf import VideoMAEV2ImageProcessor
folder = Path(sys.argv[1])
(folder / "settings.yaml").write_text("train_data: /home/someone")
(folder / "reconstructions").mkdir()
(folder / "reconstructions/step.png").write_bytes(b"a video of somebody")
run = trainer(
    folder, max_steps=2, save_strategy="steps", save_steps=1, push_to_hub=True, hub_model_id="me/pushed",
    hub_token={token!r}, hub_strategy="every_save", hub_always_push=True,
)
run.processing_class = VideoMAEV2ImageProcessor()
run.train()
run.save_model()
"""


@pytest.mark.slow
def test_a_trainer_pushes_what_is_for_others_and_no_secret(tmp_path, hub):
    (tmp_path / "run").mkdir()
    code = PUSHING.format(tests=str(REPO / "tests"), repo=str(REPO), token=TOKEN)
    environment = {**hub.environment(tmp_path), "OMP_NUM_THREADS": "1"}
    environment.pop("HF_TOKEN")
    command = [sys.executable, "-c", code, str(tmp_path / "run")]
    done = run_command(command, cwd=tmp_path, env={**os.environ, **environment})
    assert done.returncode == 0, done.stderr[-2000:]
    files = hub.repositories["me/pushed"]
    assert {"model.safetensors", "config.json", "preprocessor_config.json", "README.md"} <= set(files)
    assert not {name for name in files if name.endswith((".yaml", ".png", ".bin", ".pt", ".lock"))}
    assert not [name for name, content in files.items() if TOKEN.encode() in content or b"/home/someone" in content]
    written = [path for path in (tmp_path / "run").rglob("*") if path.is_file()]
    assert not [path for path in written if TOKEN.encode() in path.read_bytes()]

"""bf16 by default, activation checkpointing under both of its names, compilation, DDP with frozen parameters."""

import json
import warnings

import pytest
import torch
from helpers.commands import videomae
from helpers.runs import parsed, run_of
from helpers.shared import needs_dynamo
from helpers.tiny_models import build, videos

from videomae_hf import VideoMAEV2ForPreTraining, VideoMAEV2ForVideoClassification
from videomae_hf.data.sources.synthetic import synthesise_dataset
from videomae_hf.settings.training_arguments import VideoMAETrainingArguments
from videomae_hf.training.adaptation import freeze


@pytest.mark.parametrize(
    ("available", "supported", "launcher", "options", "expected"),
    [
        (True, True, "no", {}, True),
        (True, True, None, {}, True),
        (True, False, "no", {}, False),
        (False, False, "no", {}, False),
        (True, True, "fp16", {}, False),
        (True, True, "no", {"fp16": True}, False),
        (True, True, "no", {"use_cpu": True}, False),
    ],
)
def test_bf16_where_the_gpu_has_it_and_nothing_else_is_asked_for(
    monkeypatch, available, supported, launcher, options, expected
):
    args = VideoMAETrainingArguments(use_cpu=True)
    assert args.bf16 is False  # a CPU
    args.use_cpu = False
    for name, value in options.items():
        setattr(args, name, value)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: available)
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda including_emulation=True: supported)
    monkeypatch.delenv("ACCELERATE_MIXED_PRECISION", raising=False)
    if launcher is not None:
        monkeypatch.setenv("ACCELERATE_MIXED_PRECISION", launcher)
    assert args._bf16_by_default() is expected


def test_what_is_asked_for_goes_before_the_default(monkeypatch):
    monkeypatch.setattr(VideoMAETrainingArguments, "_bf16_by_default", lambda self: pytest.fail("asked"))
    for value in ("true", "false"):
        args = parsed("pretrain", "--use_cpu", "true", "--bf16", value).training
        assert args.bf16 is (value == "true")


@pytest.mark.parametrize("name", ["activation_checkpointing", "gradient_checkpointing"])
def test_checkpointing_under_both_names(name):
    with warnings.catch_warnings():
        warnings.simplefilter("error" if name == "activation_checkpointing" else "ignore")
        args = parsed("pretrain", "--use_cpu", "true", f"--{name}", "true").training
    assert args.activation_checkpointing is args.gradient_checkpointing is True
    recipe = run_of(args).as_recipe()
    assert recipe.pop("num_train_epochs") == 1600  # before the rules follow from the videos
    assert recipe == {"activation_checkpointing": True, "use_cpu": True}


@pytest.fixture
def one_process(tmp_path):
    torch.distributed.init_process_group("gloo", init_method=f"file://{tmp_path}/store", rank=0, world_size=1)
    yield
    torch.distributed.destroy_process_group()


@pytest.mark.parametrize("what", ["V1", "V2", "classifier", "frozen layers", "frozen encoder"])
@pytest.mark.parametrize("checkpointing", [False, True])
def test_ddp_need_not_look_for_unused_parameters(one_process, what, checkpointing):
    """DDP stops at the second step where a parameter had no gradient in the first."""
    if what in ("V1", "V2"):
        model = build(VideoMAEV2ForPreTraining, decoder_mask_ratio=0.5 if what == "V2" else 0.0)
        inputs = {}
    else:
        model = build(VideoMAEV2ForVideoClassification, num_labels=3)
        freeze(model, 1 if what == "frozen layers" else 0, freeze_encoder=what == "frozen encoder")
        inputs = {"labels": torch.tensor([0, 2])}
    if checkpointing:
        model.gradient_checkpointing_enable()
    model.train()
    assert VideoMAETrainingArguments(use_cpu=True).ddp_find_unused_parameters is False
    parallel = torch.nn.parallel.DistributedDataParallel(model, find_unused_parameters=False)
    for _ in range(2):
        parallel(videos(model.config), **inputs).loss.backward()
    assert all((parameter.grad is not None) == parameter.requires_grad for parameter in model.parameters())


@pytest.mark.slow
@needs_dynamo
@pytest.mark.timeout(1800)
@pytest.mark.parametrize(
    ("command", "backend"), [("pretrain", "aot_eager"), ("finetune", "aot_eager"), ("pretrain", "inductor")]
)
def test_compiled_training_equals_the_one_that_is_not(tmp_path, monkeypatch, command, backend):
    """`inductor` is what torch_compile takes by itself: it needs a C++ compiler and minutes."""
    for name, value in (("BACKEND", "no"), ("MODE", "default")):  # transformers sets these, for all that follows
        monkeypatch.setenv(f"ACCELERATE_DYNAMO_{name}", value)
    torch.compiler.reset()
    synthesise_dataset(tmp_path / "videos", videos_per_class=2, size=64, num_frames=16)
    options = ["--train_data", str(tmp_path / "videos"), "--logging_steps", "1", "--learning_rate", "1e-3"]
    losses = []
    for name, compiled in (
        ("plain", []),
        ("compiled", ["--torch_compile", "true", "--torch_compile_backend", backend]),
    ):
        output = ["--output_dir", str(tmp_path / name)]
        videomae(command, "examples/recipes/smoke.yaml", *options, *compiled, *output)
        log = json.loads((tmp_path / name / "trainer_state.json").read_text())["log_history"]
        losses.append([entry["loss"] for entry in log if "loss" in entry])
    assert len(losses[0]) == 2
    assert losses[1] == pytest.approx(losses[0], abs=1e-4)

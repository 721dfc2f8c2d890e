"""docs/works_with.md: each row names a test, and those that are nowhere else are here."""

import ast
import inspect
import re
import threading

import pytest
import torch
from helpers.hub_server import Hub
from helpers.shared import REPO, needs_dynamo
from helpers.tiny_models import videos
from helpers.trained_models import save_trained, write_three_motions
from transformers import (
    AutoModelForVideoClassification,
    TorchAoConfig,
    Trainer,
    TrainingArguments,
    VideoClassificationPipeline,
    pipeline,
)

from videomae_hf import VideoMAEV2Config, VideoMAEV2ForVideoClassification, VideoMAEV2ImageProcessor


PAGE = REPO / "docs" / "works_with.md"


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return save_trained(tmp_path_factory.mktemp("trained") / "model")


@pytest.fixture(scope="module")
def clips(folder) -> torch.Tensor:
    return videos(VideoMAEV2Config.from_pretrained(folder))


@pytest.fixture(scope="module")
def expected(folder, clips) -> torch.Tensor:
    return logits(VideoMAEV2ForVideoClassification.from_pretrained(folder), clips)


@torch.no_grad()
def logits(model, clips: torch.Tensor) -> torch.Tensor:
    return model.eval()(clips.to(model.device, model.dtype)).logits.float().cpu()


def same(model, clips, expected, atol: float = 1e-5):
    torch.testing.assert_close(logits(model, clips), expected, rtol=0, atol=atol)


def rows() -> list[list[str]]:
    lines = [line for line in PAGE.read_text(encoding="utf-8").splitlines() if line.startswith("| ")]
    return [[cell.strip() for cell in re.split(r"(?<!\\)\|", line)[1:-1]] for line in lines[1:]]


def test_every_row_has_a_test_that_exists():
    assert len(rows()) > 15
    for name, _, cell in rows():
        named = re.findall(r"`(tests/[\w/]+\.py)::(\w+)`", cell)
        assert named or cell == "not run", f"{name}: {cell}"
        for path, function in named:
            functions = [node.name for node in ast.walk(ast.parse((REPO / path).read_text(encoding="utf-8")))
                         if isinstance(node, ast.FunctionDef)]  # fmt: skip
            assert function in functions, f"{name}: {path} has no {function}"


@pytest.mark.parametrize("device_map", ["cpu", "auto", {"": "cpu"}])
def test_device_map(folder, clips, expected, device_map):
    same(VideoMAEV2ForVideoClassification.from_pretrained(folder, device_map=device_map), clips, expected, 1e-4)


def test_dtype_auto_is_that_of_the_file(folder, clips, expected, tmp_path):
    model = VideoMAEV2ForVideoClassification.from_pretrained(folder, dtype="auto")
    assert model.dtype == torch.float32
    model.to(torch.bfloat16).save_pretrained(tmp_path)
    half = AutoModelForVideoClassification.from_pretrained(tmp_path, dtype="auto")
    assert half.dtype == torch.bfloat16
    same(half, clips, expected, 0.05)


@pytest.mark.parametrize(
    "name", ["eager", "sdpa", pytest.param("flex_attention", marks=[needs_dynamo, pytest.mark.slow])]
)
def test_attention_implementations(folder, clips, expected, name):
    model = AutoModelForVideoClassification.from_pretrained(folder, attn_implementation=name)
    assert model.config._attn_implementation == name
    same(model, clips, expected)


def test_torchao_int8_weights(folder, clips, expected):
    quantization = pytest.importorskip("torchao.quantization", reason="pip install torchao")
    config = TorchAoConfig(quantization.Int8WeightOnlyConfig(), modules_to_not_convert=["classifier"])
    model = AutoModelForVideoClassification.from_pretrained(folder, quantization_config=config)
    assert "Int8" in type(model.videomae.encoder.layer[0].intermediate.dense.weight).__name__
    assert type(model.classifier.weight) is torch.nn.Parameter
    same(model, clips, expected, 0.05)


def test_adapters_by_every_way_of_loading(folder, clips, expected, tmp_path):
    """Merged by our classes, attached by transformers and by peft."""
    peft = pytest.importorskip("peft")
    base = VideoMAEV2ForVideoClassification.from_pretrained(folder)
    adapted = peft.get_peft_model(base, peft.LoraConfig(r=2, target_modules=["query", "value"]))
    with torch.no_grad():
        for name, parameter in adapted.named_parameters():
            if "lora_B" in name:
                parameter.fill_(0.1)
    adapted.save_pretrained(tmp_path)
    wanted = logits(adapted, clips)
    assert (wanted - expected).abs().max() > 0.01
    fresh = VideoMAEV2ForVideoClassification.from_pretrained(folder)
    fresh.load_adapter(str(tmp_path))
    for model in (
        VideoMAEV2ForVideoClassification.from_pretrained(tmp_path),
        AutoModelForVideoClassification.from_pretrained(tmp_path),
        peft.PeftModel.from_pretrained(VideoMAEV2ForVideoClassification.from_pretrained(folder), tmp_path),
        fresh,
    ):
        same(model, clips, wanted)


@needs_dynamo
def test_torch_compile(folder, clips, expected):
    torch.compiler.reset()
    model = VideoMAEV2ForVideoClassification.from_pretrained(folder)
    same(torch.compile(model, fullgraph=True, backend="eager"), clips, expected)


def test_trainer_of_transformers(folder, tmp_path):
    model = VideoMAEV2ForVideoClassification.from_pretrained(folder)
    clips = torch.randint(256, (4, 4, 3, 32, 32), generator=torch.Generator().manual_seed(0), dtype=torch.uint8)
    data = [{"pixel_values": clip, "labels": number % 3} for number, clip in enumerate(clips)]
    options = {"max_steps": 8, "learning_rate": 1e-2, "use_cpu": True, "disable_tqdm": True, "save_strategy": "no"}
    options |= {"per_device_train_batch_size": 4, "logging_steps": 1, "report_to": "none"}
    trainer = Trainer(model, TrainingArguments(output_dir=str(tmp_path), **options), train_dataset=data)
    trainer.train()
    losses = [entry["loss"] for entry in trainer.state.log_history if "loss" in entry]
    assert len(losses) == 8 and losses[-1] < losses[0] / 2
    trainer.save_model()
    same(VideoMAEV2ForVideoClassification.from_pretrained(tmp_path), clips / 255, logits(model, clips / 255))


def test_accelerate(folder, clips, expected):
    accelerate = pytest.importorskip("accelerate")
    model = VideoMAEV2ForVideoClassification.from_pretrained(folder)
    same(accelerate.Accelerator(cpu=True).prepare(model), clips, expected)
    with accelerate.init_empty_weights():
        empty = VideoMAEV2ForVideoClassification(model.config)
    same(accelerate.load_checkpoint_and_dispatch(empty, str(folder), device_map={"": "cpu"}), clips, expected)


def test_sharded_safetensors(folder, clips, expected, tmp_path):
    VideoMAEV2ForVideoClassification.from_pretrained(folder).save_pretrained(tmp_path, max_shard_size="20KB")
    assert len(list(tmp_path.glob("model-*.safetensors"))) > 2
    same(AutoModelForVideoClassification.from_pretrained(tmp_path), clips, expected)


SOFTMAX = inspect.signature(VideoClassificationPipeline.postprocess).parameters["function_to_apply"].default is not None
OLD = pytest.mark.skipif(SOFTMAX, reason="this transformers applies softmax to all problem types")
OTHERS = [pytest.param(name, marks=OLD) for name in ("multi_label_classification", "regression")]


@pytest.mark.parametrize("problem_type", ["single_label_classification", *OTHERS])
def test_pipeline(tmp_path, problem_type):
    """The scores are those of the model itself, on the frames that the processor samples."""
    folder = save_trained(tmp_path / "model", problem_type)
    video = str(write_three_motions(tmp_path / "video.mp4"))
    model = VideoMAEV2ForVideoClassification.from_pretrained(folder)
    processor = VideoMAEV2ImageProcessor.from_pretrained(folder)
    values = logits(model, processor(video, return_tensors="pt").pixel_values)[0]
    values = {"single_label_classification": values.softmax(-1), "regression": values}.get(
        problem_type, values.sigmoid()
    )
    wanted = {model.config.id2label[number]: value for number, value in enumerate(values.tolist())}
    found = {row["label"]: row["score"] for row in pipeline("video-classification", model=str(folder))(video)}
    assert found == pytest.approx(wanted, abs=1e-5)


def test_push_to_hub_of_a_model_and_its_processor(folder, monkeypatch):
    hub = Hub()
    threading.Thread(target=hub.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()
    hub.used_here(monkeypatch)
    try:
        VideoMAEV2ForVideoClassification.from_pretrained(folder).push_to_hub("me/mine")
        VideoMAEV2ImageProcessor.from_pretrained(folder).push_to_hub("me/mine")
    finally:
        hub.shutdown()
        hub.server_close()
    wanted = {"config.json", "model.safetensors", "preprocessor_config.json", "modeling_videomae_v2.py"}
    assert wanted <= set(hub.repositories["me/mine"])
    assert not [name for name, content in hub.uploaded().items() if str(folder).encode() in content]

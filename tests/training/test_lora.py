"""Adapters by standard names: what is trained, at which rate, what is saved, and that a run resumes."""

import pytest
import torch
from helpers.shared import TINY
from helpers.tiny_models import build, videos

from videomae_hf import VideoMAEV2ForPreTraining, VideoMAEV2ForVideoClassification, VideoMAEV2ImageProcessor
from videomae_hf.models.adapters import is_adapter
from videomae_hf.settings.training_arguments import VideoMAETrainingArguments
from videomae_hf.training.adaptation import add_adapters
from videomae_hf.training.optimization import parameter_groups
from videomae_hf.training.trainer import VideoMAETrainer


peft = pytest.importorskip("peft")


@pytest.fixture(scope="module")
def pretrained(tmp_path_factory):
    folder = tmp_path_factory.mktemp("lora") / "pretrained"
    build(VideoMAEV2ForPreTraining).save_pretrained(folder)
    return folder


def classifier(pretrained, **fields) -> VideoMAEV2ForVideoClassification:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return VideoMAEV2ForVideoClassification.from_pretrained(
            pretrained,
            id2label={0: "run", 1: "jump", 2: "sit"},
            ignore_mismatched_sizes=True,
            **{"num_labels": 3, **fields},
        )


def arguments(folder, **options) -> VideoMAETrainingArguments:
    defaults = {"per_device_train_batch_size": 4, "learning_rate": 1e-2, "use_cpu": True, "disable_tqdm": True}
    defaults |= {"output_dir": str(folder), "logging_steps": 1, "save_strategy": "no", "lora_rank": 4}
    return VideoMAETrainingArguments(**{**defaults, **options})


def trainer(folder, pretrained, fields=None, **options) -> VideoMAETrainer:
    args = arguments(folder, **options)
    torch.manual_seed(1)
    model, _ = add_adapters(classifier(pretrained, **(fields or {})), args)
    clips = torch.randn(8, TINY["num_frames"], 3, 32, 32, generator=torch.Generator().manual_seed(3))
    data = [{"pixel_values": clip, "labels": index % 3} for index, clip in enumerate(clips)]
    processor = VideoMAEV2ImageProcessor(num_frames=4, size={"height": 32, "width": 32})
    return VideoMAETrainer(model=model, args=args, train_dataset=data, eval_dataset=data, processing_class=processor)


def losses(run: VideoMAETrainer) -> list[float]:
    return [entry["loss"] for entry in run.state.log_history if "loss" in entry]


def test_adapters_with_a_bridging_classifier(pretrained, tmp_path):
    """Its layers are trained whole, as the rest of the head, and are in the merged model and in the adapters."""
    bridge = {"classifier_num_hidden_layers": 1, "classifier_hidden_size": 20, "classifier_num_attention_heads": 2}
    start = {"num_labels": 3, "use_mean_pooling": True, **bridge}
    run = trainer(tmp_path, pretrained, max_steps=2, save_strategy="steps", save_steps=2, fields=start)
    trained = {name.removeprefix("base_model.model.") for name, p in run.model.named_parameters() if p.requires_grad}
    assert len([name for name in trained if "lora_" in name]) == 8
    assert "classifier_layers.0.modules_to_save.default.output.dense.weight" in trained
    run.train()
    run.save_model()
    clip = videos(run.model.config)
    merged = VideoMAEV2ForVideoClassification.from_pretrained(tmp_path).eval()
    adapters = VideoMAEV2ForVideoClassification.from_pretrained(tmp_path / "adapter").eval()
    with torch.no_grad():
        expected = run.model.eval()(pixel_values=clip).logits
        torch.testing.assert_close(merged(clip).logits, expected, rtol=0, atol=1e-5)
        torch.testing.assert_close(adapters(clip).logits, expected, rtol=0, atol=1e-5)
    joint = VideoMAEV2ForVideoClassification.from_pretrained(pretrained, **start, reconstruction_weight=0.1)
    with pytest.raises(ValueError, match="reconstruction_weight=0.1 trains a decoder; leave out one of the two"):
        add_adapters(joint, arguments(tmp_path))


def test_adapters_and_the_head_are_trained(pretrained, tmp_path):
    model, lines = add_adapters(classifier(pretrained), arguments(tmp_path))
    trained = [name for name, parameter in model.named_parameters() if parameter.requires_grad]
    adapters = [name for name in trained if "lora_" in name]
    assert len(adapters) == 2 * 2 * 2  # layers, query and value, A and B
    assert all(".query." in name or ".value." in name for name in adapters)
    head = {name.removeprefix("base_model.model.") for name in trained if "lora_" not in name}
    assert head == {
        f"{part}.modules_to_save.default.{kind}" for part in ("fc_norm", "classifier") for kind in ("weight", "bias")
    }
    assert lines[0].startswith("LoRA of rank 4 on query, value; ")


def test_peft_by_itself_takes_the_standard_names(pretrained):
    options = peft.LoraConfig(r=2, target_modules=["query", "key", "value", "dense"], modules_to_save=["classifier"])
    model = peft.get_peft_model(classifier(pretrained), options)
    adapted = {
        name.split(".lora_A")[0].split("encoder.layer.0.")[1]
        for name in model.state_dict()
        if "layer.0" in name and "lora_A" in name
    }
    assert adapted == {
        "attention.attention.query", "attention.attention.key", "attention.attention.value", "attention.output.dense",
        "intermediate.dense", "output.dense",
    }  # fmt: skip


def test_layer_decay_reaches_the_adapters(pretrained, tmp_path):
    model, _ = add_adapters(classifier(pretrained), arguments(tmp_path))
    groups = parameter_groups(model, learning_rate=1.0, weight_decay=0.05, layer_decay=0.5)
    rates = {id(parameter): (group["lr"], group["weight_decay"]) for group in groups for parameter in group["params"]}
    rates = {name: rates[id(p)] for name, p in model.named_parameters() if p.requires_grad}
    prefix = "base_model.model.videomae.encoder.layer."
    assert rates[f"{prefix}1.attention.attention.query.lora_A.default.weight"] == (0.5, 0.05)
    assert rates[f"{prefix}0.attention.attention.value.lora_B.default.weight"] == (0.25, 0.05)
    assert rates["base_model.model.classifier.modules_to_save.default.weight"] == (1.0, 0.05)
    assert rates["base_model.model.fc_norm.modules_to_save.default.weight"] == (1.0, 0.0)


def test_what_a_run_leaves(pretrained, tmp_path):
    run = trainer(tmp_path, pretrained, num_train_epochs=3, save_strategy="epoch")
    run.train()
    assert losses(run)[-1] < losses(run)[0]
    run.save_model()
    clips = videos(run.model.config)
    expected = run.model.eval()(pixel_values=clips).logits

    merged = VideoMAEV2ForVideoClassification.from_pretrained(tmp_path).eval()
    torch.testing.assert_close(merged(clips).logits, expected, rtol=1e-4, atol=1e-4)
    assert merged.config.id2label == {0: "run", 1: "jump", 2: "sit"}
    assert VideoMAEV2ImageProcessor.from_pretrained(tmp_path).num_frames == 4

    adapted = peft.PeftModel.from_pretrained(classifier(pretrained), tmp_path / "adapter").eval()
    torch.testing.assert_close(adapted(pixel_values=clips).logits, expected)
    for name in ("adapter", "checkpoint-6"):
        assert is_adapter(tmp_path / name) and not is_adapter(tmp_path)
        loaded = VideoMAEV2ForVideoClassification.from_pretrained(tmp_path / name).eval()
        torch.testing.assert_close(loaded(clips).logits, expected, rtol=1e-4, atol=1e-4)
        assert loaded.config.id2label[1] == "jump"
    # The run's own model is as it was.
    assert torch.equal(run.model.eval()(pixel_values=clips).logits, expected)


def test_a_resumed_run_equals_an_unbroken_one(pretrained, tmp_path):
    options = {"num_train_epochs": 3, "save_strategy": "steps", "save_steps": 3, "layer_decay": 0.5}
    unbroken = trainer(tmp_path, pretrained, **options)
    unbroken.train()
    broken = trainer(tmp_path, pretrained, **options)
    broken.train(resume_from_checkpoint=str(tmp_path / "checkpoint-3"))
    assert len(losses(unbroken)) == 6 and losses(broken)[-3:] == losses(unbroken)[-3:]
    for one, other in zip(unbroken.model.parameters(), broken.model.parameters()):
        assert torch.equal(one, other)


def test_accumulation_and_checkpointed_activations_change_nothing(pretrained, tmp_path):
    options = {"num_train_epochs": 2, "per_device_train_batch_size": 8}
    whole = trainer(tmp_path / "a", pretrained, **options)
    parts = trainer(
        tmp_path / "b", pretrained, num_train_epochs=2, gradient_accumulation_steps=2, gradient_checkpointing=True
    )
    whole.train()
    parts.train()
    assert losses(parts) == pytest.approx(losses(whole), abs=1e-5)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"freeze_layers": 1}, "leave out freeze_layers"),
        ({"freeze_encoder": True}, "leave out freeze_layers"),
        (
            {"lora_target_modules": ["query", "quary"]},
            "'quary' is not a linear layer; choose from dense, key, query, value",
        ),
    ],
)
def test_mistakes(pretrained, tmp_path, options, message):
    with pytest.raises(ValueError, match=message):
        add_adapters(classifier(pretrained), arguments(tmp_path, **options))


def test_adapters_need_a_pretrained_model(tmp_path):
    with pytest.raises(ValueError, match="name it with --checkpoint"):
        add_adapters(build(VideoMAEV2ForVideoClassification), arguments(tmp_path))
    with pytest.raises(ValueError, match="lora_rank=-1"):
        arguments(tmp_path, lora_rank=-1)

"""Frozen parts: no gradient, no optimizer state, no dropout, and no change."""

import copy

import pytest
import torch
from helpers.shared import TINY
from helpers.tiny_models import build, videos

from videomae_hf import VideoMAEV2ForVideoClassification
from videomae_hf.settings.training_arguments import VideoMAETrainingArguments
from videomae_hf.training.adaptation import freeze
from videomae_hf.training.optimization import parameter_groups
from videomae_hf.training.trainer import VideoMAETrainer


# Everything that acts in training mode only
DROPPING = {"drop_path_rate": 0.5, "hidden_dropout_prob": 0.5, "attention_probs_dropout_prob": 0.5}


def classifier(**fields):
    return build(VideoMAEV2ForVideoClassification, num_labels=3, num_hidden_layers=4, **fields)


def trained_names(model) -> set[str]:
    return {name for name, parameter in model.named_parameters() if parameter.requires_grad}


def test_the_first_layers():
    model = classifier()
    lines = freeze(model, freeze_layers=3)
    names = trained_names(model)
    assert {name.split(".layer.")[1][0] for name in names if ".layer." in name} == {"3"}
    assert "classifier.weight" in names and not any("embeddings" in name for name in names)
    trained = sum(model.get_parameter(name).numel() for name in names)
    total = sum(parameter.numel() for parameter in model.parameters())
    assert lines == [f"frozen: the embeddings and 3 of 4 blocks; {trained:,} of {total:,} parameters are trained"]


def test_the_whole_encoder():
    model = classifier()
    assert "the whole encoder" in freeze(model, freeze_encoder=True)[0]
    assert trained_names(model) == {"fc_norm.weight", "fc_norm.bias", "classifier.weight", "classifier.bias"}


def test_nothing():
    model = classifier()
    assert freeze(model) == []
    assert len(trained_names(model)) == len(list(model.parameters()))


@pytest.mark.parametrize("layers", [-1, 5])
def test_a_number_of_layers_that_there_are_not(layers):
    with pytest.raises(ValueError, match=f"freeze_layers={layers} must be 0 to 4"):
        freeze(classifier(), layers)


def test_both():
    with pytest.raises(ValueError, match="both set"):
        freeze(classifier(), 1, freeze_encoder=True)


def test_frozen_parts_stay_in_eval_mode_in_copies_too():
    model = classifier(**DROPPING)
    freeze(model, freeze_layers=4)
    clips = videos(model.config)
    expected = model.eval()(clips).logits
    copied = copy.deepcopy(model)
    for one in (model, copied):
        one.train()
        assert one.training and one.dropout.training
        assert not any(module.training for module in one.videomae.encoder.layer[3].modules())
        torch.testing.assert_close(one(clips).logits, expected)
    assert copied.videomae.embeddings.train() is copied.videomae.embeddings

    model = classifier(**DROPPING)
    freeze(model, freeze_layers=1)
    model.train()
    assert not model.videomae.encoder.layer[0].training and model.videomae.encoder.layer[1].training
    assert not torch.equal(model(clips).logits, expected)


def test_the_graph_begins_at_the_first_trained_block():
    """What lies below costs what inference costs."""
    model = classifier()
    freeze(model, freeze_layers=2)
    seen = []
    for layer in model.videomae.encoder.layer:
        layer.register_forward_hook(lambda module, inputs, output: seen.append(output.requires_grad))
    model(videos(model.config))
    assert seen == [False, False, True, True]


def run(folder, model, **arguments) -> VideoMAETrainer:
    generator = torch.Generator().manual_seed(3)
    clips = torch.randn(8, TINY["num_frames"], 3, 32, 32, generator=generator)
    data = [{"pixel_values": clip, "labels": index % 3} for index, clip in enumerate(clips)]
    args = VideoMAETrainingArguments(
        output_dir=str(folder), use_cpu=True, per_device_train_batch_size=4, learning_rate=1e-2, save_strategy="no",
        disable_tqdm=True, **arguments,
    )  # fmt: skip
    trainer = VideoMAETrainer(model=model, args=args, train_dataset=data)
    trainer.train()
    return trainer


@pytest.mark.parametrize("options", [{}, {"gradient_checkpointing": True}], ids=["", "checkpointing"])
def test_a_run_leaves_frozen_parts_and_keeps_no_state_for_them(tmp_path, options):
    model = classifier(**DROPPING)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    freeze(model, freeze_layers=2)
    trained = trained_names(model)
    trainer = run(tmp_path, model, num_train_epochs=2, layer_decay=0.5, **options)
    changed = {name for name, value in model.state_dict().items() if not torch.equal(value, before[name])}
    assert changed == trained
    assert len(trainer.optimizer.state) == len(trained)
    assert all(parameter.grad is None for parameter in model.parameters() if not parameter.requires_grad)


def test_rates_of_what_is_trained_are_those_of_the_whole_model():
    """Layer decay counts from the head, whatever is frozen below."""
    model = classifier()
    freeze(model, freeze_layers=2)
    groups = parameter_groups(model, learning_rate=1.0, weight_decay=0.05, layer_decay=0.5)
    assert sorted({group["lr"] for group in groups}) == [0.25, 0.5, 1.0]

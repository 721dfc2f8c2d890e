"""The moving average of the weights: its arithmetic, its checkpoints, and where it takes the place of the weights."""

import pytest
import torch
from helpers.synthetic_clips import trainer
from safetensors.torch import load_file
from transformers import TrainerCallback

from videomae_hf import VideoMAEV2ForPreTraining
from videomae_hf.settings.training_arguments import VideoMAETrainingArguments
from videomae_hf.training.optimization import WeightAverage


class Recorder(TrainerCallback):
    """The weights before the first step and after each."""

    def __init__(self):
        self.weights = []

    def on_train_begin(self, args, state, control, model, **kwargs):
        self.weights.append({name: value.detach().clone() for name, value in model.named_parameters()})

    def on_step_end(self, args, state, control, model, **kwargs):
        self.on_train_begin(args, state, control, model)


def set_weight(model: torch.nn.Linear, value: float):
    with torch.no_grad():
        model.weight.fill_(value)


def test_average_by_hand():
    model = torch.nn.Linear(1, 1, bias=False)
    set_weight(model, 11.0)
    average = WeightAverage(0.3)
    average.start(model)
    set_weight(model, 0.0)
    average.update(model, 1)  # 2/11 of the old
    assert average.weights["weight"].item() == pytest.approx(2.0)
    average.update(model, 2)  # 3/12
    assert average.weights["weight"].item() == pytest.approx(0.5)
    set_weight(model, 1.0)
    average.update(model, 100)  # 0.3, as 101/110 is more
    assert average.weights["weight"].item() == pytest.approx(0.3 * 0.5 + 0.7)


def test_average_is_float32_and_of_trainable_weights_alone():
    model = torch.nn.Linear(2, 2).to(torch.bfloat16)
    model.bias.requires_grad_(False)
    average = WeightAverage(0.9999)
    average.start(model)
    set_weight(model, 1.0)
    average.update(model, 1_000_000)
    assert list(average.weights) == ["weight"] and average.weights["weight"].dtype == torch.float32
    with average.applied(model):
        assert torch.equal(model.weight, average.weights["weight"].bfloat16())
    assert (model.weight == 1.0).all()


def test_updated_once_an_optimizer_step_and_saved_as_a_model(tmp_path):
    options = {"gradient_accumulation_steps": 2, "dataloader_drop_last": False, "num_train_epochs": 2}
    run = trainer(tmp_path, ema_decay=0.5, save_strategy="epoch", **options)
    recorder = Recorder()
    run.add_callback(recorder)
    run.train()
    assert len(recorder.weights) == 7  # 5 batches are 3 steps, the last of one batch
    expected = recorder.weights[0]["mask_token"]
    for step, weights in enumerate(recorder.weights[1:], start=1):
        decay = min(0.5, (1 + step) / (10 + step))
        expected = decay * expected + (1 - decay) * weights["mask_token"]
    torch.testing.assert_close(run.average.weights["mask_token"], expected)
    saved = VideoMAEV2ForPreTraining.from_pretrained(tmp_path / "checkpoint-6" / "ema")
    for name, weights in saved.named_parameters():
        assert weights.dtype == torch.float32 and torch.equal(weights, run.average.weights[name])
    weights = load_file(tmp_path / "checkpoint-6" / "model.safetensors")["mask_token"]
    assert torch.equal(weights, recorder.weights[-1]["mask_token"])


@pytest.mark.parametrize("evaluate_ema", [False, True])
def test_the_average_is_evaluated_and_saved_where_asked(tmp_path, evaluate_ema):
    run = trainer(tmp_path, ema_decay=0.9, evaluate_ema=evaluate_ema, num_train_epochs=2, learning_rate=0.01)
    run.train()
    own = {name: weights.clone() for name, weights in run.model.state_dict().items()}
    scored = run.evaluate()["eval_loss"]
    torch.testing.assert_close(run.model.state_dict(), own, rtol=0, atol=0)
    run.save_model()
    torch.testing.assert_close(run.model.state_dict(), own, rtol=0, atol=0)
    saved = VideoMAEV2ForPreTraining.from_pretrained(tmp_path)
    assert torch.equal(saved.mask_token, run.average.weights["mask_token"] if evaluate_ema else own["mask_token"])
    assert (tmp_path / "ema" / "config.json").exists() != evaluate_ema  # the model of the folder is the average itself
    # The score is that of the saved model.
    other = trainer(tmp_path / "other")
    other.model.load_state_dict(saved.state_dict())
    assert other.evaluate()["eval_loss"] == scored
    other.model.load_state_dict(own if evaluate_ema else dict(run.average.weights))
    assert other.evaluate()["eval_loss"] != scored


def test_the_best_average_is_that_of_the_best_checkpoint(tmp_path):
    options = {"eval_strategy": "epoch", "save_strategy": "epoch", "load_best_model_at_end": True}
    run = trainer(
        tmp_path, ema_decay=0.5, evaluate_ema=True, num_train_epochs=2, lr_scheduler_type="constant", **options
    )

    class Worse(TrainerCallback):
        def on_epoch_begin(self, args, state, control, optimizer, **kwargs):
            for group in optimizer.param_groups:
                group["lr"] = 1e-3 if state.epoch < 1 else 1.0

    run.add_callback(Worse())
    run.train()
    assert run.state.best_model_checkpoint == str(tmp_path / "checkpoint-5")
    best = load_file(tmp_path / "checkpoint-5" / "ema" / "model.safetensors")
    assert torch.equal(run.average.weights["mask_token"], best["mask_token"])


def test_begins_with_the_weights_of_a_checkpoint_without_average(tmp_path, caplog):
    options = {"num_train_epochs": 2, "save_strategy": "epoch"}
    trainer(tmp_path, **options).train()
    run = trainer(tmp_path, ema_decay=0.9999, **options)
    recorder = Recorder()
    run.add_callback(recorder)
    run.train(resume_from_checkpoint=str(tmp_path / "checkpoint-5"))
    assert "has no average of the weights" in caplog.text
    first = recorder.weights[0]["mask_token"]
    decay = 7 / 16  # of step 6
    expected = decay * first + (1 - decay) * recorder.weights[1]["mask_token"]
    for step, weights in enumerate(recorder.weights[2:], start=7):
        decay = (1 + step) / (10 + step)
        expected = decay * expected + (1 - decay) * weights["mask_token"]
    torch.testing.assert_close(run.average.weights["mask_token"], expected)


def test_mistakes():
    with pytest.raises(ValueError, match="ema_decay=1.0 must lie between 0 and 1"):
        VideoMAETrainingArguments(use_cpu=True, ema_decay=1.0)
    with pytest.raises(ValueError, match="cannot be combined with lora_rank, which trains few weights"):
        VideoMAETrainingArguments(use_cpu=True, ema_decay=0.99, lora_rank=4)
    with pytest.raises(ValueError, match="evaluate_ema=True needs a moving average"):
        VideoMAETrainingArguments(use_cpu=True, evaluate_ema=True)

"""`--optim muon`: which matrices it gets, what a step does, and a resumed run."""

import pytest
import torch
from helpers.commands import videomae
from helpers.small_runs import MODEL
from helpers.tiny_models import build, videos
from safetensors.torch import load_file

from videomae_hf import VideoMAEV2ForVideoClassification
from videomae_hf.data.sources.synthetic import synthesise_dataset
from videomae_hf.settings.training_arguments import VideoMAETrainingArguments
from videomae_hf.training.muon import MuonAndAdamW
from videomae_hf.training.optimization import parameter_groups


needs_muon = pytest.mark.skipif(not hasattr(torch.optim, "Muon"), reason="torch before 2.9 has no Muon")


def groups_by_name(model, **options):
    names = {parameter: name for name, parameter in model.named_parameters()}
    groups = parameter_groups(model, 1e-3, 0.05, 0.5, muon=True, **options)
    return [({names[parameter] for parameter in group["params"]}, group) for group in groups]


def test_matrices_of_the_blocks_and_layer_decay():
    """Two encoder layers: rates 1e-3 for what comes after, then 5e-4 and 2.5e-4, and 1.25e-4 for the embeddings."""
    model = build(decoder_type="cross", decoder_mixed_layers=2)
    groups = groups_by_name(model)
    matrices = {name: group["lr"] for names, group in groups if group["use_muon"] for name in names}
    inner = ["attention.attention.query", "attention.attention.key", "attention.attention.value"]
    inner += ["attention.output.dense", "intermediate.dense", "output.dense"]
    expected = {f"videomae.encoder.layer.{i}.{name}.weight": 2.5e-4 * 2**i for i in range(2) for name in inner}
    expected |= {f"decoder.cross_layers.{i}.{name}.weight": 1e-3 for i in range(2) for name in inner}
    assert matrices == expected
    assert "decoder.head.weight" in groups[0][0] and groups[0][1]["lr"] == 1e-3  # the Trainer logs the first rate
    without_decay = {name for names, group in groups if not group["weight_decay"] for name in names}
    assert {"decoder.mixing.layer_weights", "mask_token", "decoder.head.bias"} <= without_decay
    assert not without_decay & set(matrices)


@needs_muon
def test_a_step_is_that_of_both_optimizers():
    model, again = (build(VideoMAEV2ForVideoClassification, num_labels=3) for _ in range(2))
    whole = MuonAndAdamW(parameter_groups(model, 1e-2, 0.05, 0.5, muon=True), betas=(0.9, 0.95))
    groups = parameter_groups(again, 1e-2, 0.05, 0.5, muon=True)
    parts = [
        torch.optim.AdamW([group for group in groups if not group["use_muon"]], betas=(0.9, 0.95)),
        torch.optim.Muon([group for group in groups if group["use_muon"]], adjust_lr_fn="match_rms_adamw"),
    ]
    for _ in range(3):
        for one, optimizers in ((model, [whole]), (again, parts)):
            one.zero_grad()
            one(videos(one.config), labels=torch.tensor([0, 2])).loss.backward()
            for optimizer in optimizers:
                optimizer.step()
    for (name, first), second in zip(model.named_parameters(), again.parameters()):
        assert torch.equal(first, second), name


@needs_muon
def test_an_update_of_a_matrix_by_hand():
    """The momentum after one step is a multiple of the gradient, whose singular values all become about 1.

    With its own scale 0.2 * sqrt(8), entries of an orthogonal 8 x 8 matrix (root mean square 8 ** -0.5) get 0.2.
    """
    weight = torch.nn.Parameter(torch.zeros(8, 8))
    generator = torch.Generator().manual_seed(0)
    groups = [{"params": [weight], "lr": 0.1, "weight_decay": 0.0, "use_muon": True}]
    groups.insert(0, {"params": [torch.nn.Parameter(torch.zeros(1))], "use_muon": False})
    weight.grad = torch.linalg.qr(torch.randn(8, 8, generator=generator))[0] @ torch.diag(torch.arange(1.0, 9))
    MuonAndAdamW(groups).step()
    singular = torch.linalg.svdvals(weight.detach() / (0.1 * 0.2 * 8**0.5))
    assert 0.6 < singular.min() and singular.max() < 1.25


@needs_muon
def test_a_resumed_run_equals_an_uninterrupted_one(tmp_path):
    """Of four steps, stopped after two: weights and states to the last bit."""
    synthesise_dataset(tmp_path / "videos", videos_per_class=2, size=40, num_frames=16)
    options = ["--train_data", tmp_path / "videos", *MODEL, "--use_cpu", "true", "--optim", "muon", "--layer_decay"]
    options += ["0.7", "--base_learning_rate", "1e-2", "--per_device_train_batch_size", "4", "--sampling_rate", "1"]
    options += ["--max_steps", "4", "--save_strategy", "steps", "--save_steps", "2", "--ema_decay", "0.9"]
    videomae("finetune", *options, "--output_dir", tmp_path / "whole")
    folder = tmp_path / "resumed"
    folder.mkdir()
    (tmp_path / "whole" / "checkpoint-2").rename(folder / "checkpoint-2")
    videomae("finetune", *options, "--output_dir", folder, "--resume_from_checkpoint", "last")
    first, second = (load_file(one / "model.safetensors") for one in (tmp_path / "whole", folder))
    assert first.keys() == second.keys() and all(torch.equal(first[name], second[name]) for name in first)
    files = (one / "checkpoint-4" / "optimizer.pt" for one in (tmp_path / "whole", folder))
    states = [torch.load(file, weights_only=True)["state"] for file in files]
    kinds = {frozenset(state) for state in states[0].values()}
    assert kinds == {frozenset({"momentum_buffer"}), frozenset({"step", "exp_avg", "exp_avg_sq"})}
    assert all(torch.equal(states[0][i][name], states[1][i][name]) for i in states[0] for name in states[0][i])


@pytest.mark.parametrize("settings", [{"fsdp2": True}, {"fsdp": "full_shard"}, {"lora_rank": 4}], ids=str)
def test_what_does_not_fit_is_refused(settings, tmp_path):
    with pytest.raises(ValueError, match="optim=muon .* leave one out"):
        VideoMAETrainingArguments(output_dir=str(tmp_path), use_cpu=True, optim="muon", **settings)


@needs_muon
def test_a_model_whose_blocks_are_frozen_is_refused():
    groups = [{"params": [torch.nn.Parameter(torch.zeros(2))], "use_muon": False}]
    with pytest.raises(ValueError, match="matrices of the blocks, which are all frozen here; leave it out"):
        MuonAndAdamW(groups)


def test_older_torch_is_refused(tmp_path, monkeypatch):
    monkeypatch.delattr(torch.optim, "Muon", raising=False)
    with pytest.raises(ValueError, match="optim=muon needs torch 2.9"):
        VideoMAETrainingArguments(output_dir=str(tmp_path), use_cpu=True, optim="muon")

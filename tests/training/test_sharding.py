"""--fsdp2 and its checkpoints. Runs that are split over processes: test_exactness, test_killed."""

import pytest
import torch
from helpers.tiny_models import build

from videomae_hf.training.sharding import load_optimizer, load_weights


def test_no_run_goes_on_without_the_state_of_its_optimizer(tmp_path):
    model = build()
    optimizer = torch.optim.AdamW(model.parameters())
    with pytest.raises(ValueError, match="has no optimizer.pt .as with save_only_model"):
        load_optimizer(model, optimizer, str(tmp_path), rank=0)
    for parameter in model.parameters():
        parameter.grad = torch.ones_like(parameter)
    optimizer.step()
    torch.save(optimizer.state_dict(), tmp_path / "optimizer.pt")
    with pytest.raises(ValueError, match="is of a run without fsdp2; resume without fsdp2, or start from its weights"):
        load_optimizer(model, optimizer, str(tmp_path), rank=0)


def test_a_folder_without_weights_is_named(tmp_path):
    with pytest.raises(ValueError, match="has no model.safetensors; name a checkpoint-N folder, or use last"):
        load_weights(build(), str(tmp_path / "none"), rank=1)

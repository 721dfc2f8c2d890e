"""What `video_loss="nce"` compares with in a divided step."""

from types import SimpleNamespace

import pytest
import torch
from helpers.shared import TINY
from helpers.tiny_videobert import build_videobert, pairs

from videomae_hf import VideoBertForPreTraining
from videomae_hf.training.video_text_contrast import add_contrast, check_contrast, contrasts, joined


def test_batches_of_one_process_get_each_other():
    """Rows are padded to the longest, and the own ones are masked out."""
    model = build_videobert(VideoBertForPreTraining, video_loss="nce").train()
    first, second = pairs(model.config), {name: one[:1] for name, one in pairs(model.config, segments=4).items()}
    alone = SimpleNamespace(num_processes=1, process_index=0, autocast=torch.no_grad, gather=lambda rows: rows)
    alone.pad_across_processes = lambda rows, dim, pad_index: rows
    add_contrast([first], model, alone)
    assert "contrast" not in first  # one batch is a whole step
    batches = [first, second]
    add_contrast(batches, model, alone)
    assert model.training and all(batch["contrast"][0].shape == (3, 4, 1, 5) for batch in batches)
    assert first["contrast"][1].tolist() == [[False] * 4, [False] * 4, [True] * 4]
    # of the first batch, three and two of the segments are no padding
    assert second["contrast"][1].tolist() == [[True, True, True, False], [True, True, False, False], [False] * 4]
    assert torch.equal(second["contrast"][0][0, :3, 0], first["video_features"][0])
    model(**first, masked_segments=torch.ones(2, 3)).loss.backward()


def test_padding_of_different_lengths():
    parts = [torch.tensor([[1, 2]]), torch.tensor([[3], [4]])]
    assert joined(parts, -1).tolist() == [[1, 2], [3, -1], [4, -1]]
    assert joined([torch.zeros(2, 0, 3)], 0).shape == (2, 0, 3)


@pytest.mark.parametrize(
    ("sharding", "freeze", "refused"), [("fsdp", False, True), ("fsdp", True, False), ("", False, False)]
)
def test_a_sharded_backbone_that_is_trained_is_refused(sharding, freeze, refused):
    fields = {"backbone_config": {**TINY, "model_type": "videomae_v2"}, "feature_size": TINY["hidden_size"]}
    model = build_videobert(VideoBertForPreTraining, video_loss="nce", freeze_backbone=freeze, **fields)
    args = SimpleNamespace(fsdp=sharding, deepspeed=None)
    assert contrasts(model) and not contrasts(build_videobert(VideoBertForPreTraining))
    if refused:
        with pytest.raises(ValueError, match="fsdp and deepspeed shard that backbone; freeze it"):
            check_contrast(model, args)
    else:
        check_contrast(model, args)

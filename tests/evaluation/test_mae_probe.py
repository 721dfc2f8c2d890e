"""MAE's linear probe: LARS and the schedule by literal values, and a head that depends on the step alone."""

import math

import pytest
import torch

from videomae_hf.evaluation.mae_probe import LARS, LinearHead, MAEHead, warmup_cosine


def test_two_steps_of_lars():
    """|w| = 5, |g| = 10: the gradient is scaled by 0.001 * 5 / 10, that of the bias is not."""
    weight, bias = torch.nn.Parameter(torch.tensor([[3.0, 4.0]])), torch.nn.Parameter(torch.tensor([1.0]))
    optimizer = LARS([weight, bias], lr=2.0)
    weight.grad, bias.grad = torch.tensor([[6.0, 8.0]]), torch.tensor([0.25])
    optimizer.step()
    torch.testing.assert_close(weight.data, torch.tensor([[3 - 2 * 0.003, 4 - 2 * 0.004]]))
    torch.testing.assert_close(bias.data, torch.tensor([0.5]))
    optimizer.param_groups[0]["lr"] = 1.0
    weight.grad, bias.grad = torch.zeros(1, 2), torch.zeros(1)
    optimizer.step()  # momentum alone
    torch.testing.assert_close(weight.data, torch.tensor([[2.994 - 0.0027, 3.992 - 0.0036]]))
    torch.testing.assert_close(bias.data, torch.tensor([0.5 - 0.225]))


def test_weight_decay_of_lars():
    """g + 0.5 w = (1.5, 2): its norm is 2.5, so that the step is 0.001 * 5 / 2.5 of it."""
    weight = torch.nn.Parameter(torch.tensor([[3.0, 4.0]]))
    weight.grad = torch.zeros(1, 2)
    LARS([weight], lr=1.0, weight_decay=0.5).step()
    torch.testing.assert_close(weight.data, torch.tensor([[3 - 0.003, 4 - 0.004]]))


def test_schedule():
    rates = [warmup_cosine(6.4, step, 10, 90) for step in (0, 5, 10, 50, 90)]
    assert rates == pytest.approx([0, 3.2, 6.4, 3.2, 0])


def test_the_head():
    head = LinearHead(4, 3)
    assert head.norm.eps == 1e-6 and not list(head.norm.parameters())
    made = MAEHead((768, 1000), "lars", 0.1, (0, 1), "cpu").head.classifier
    assert made.weight.std().item() == pytest.approx(0.01, rel=0.01) and not made.bias.any()


def features(number: int = 64) -> tuple[torch.Tensor, torch.Tensor]:
    labels = torch.arange(number) % 2
    noise = torch.randn(number, 1, 8, generator=torch.Generator().manual_seed(0))
    return noise + labels[:, None, None] * torch.linspace(0, 3, 8), labels


@pytest.mark.parametrize("optimizer", ["lars", "adamw"])
def test_an_update_does_not_depend_on_the_batches(optimizer):
    tokens, labels = features()
    heads = [MAEHead((8, 2), optimizer, 10.0 if optimizer == "lars" else 0.05, (2, 40), "cpu") for _ in range(2)]
    for _ in range(40):
        losses = [heads[0].update([(tokens, labels)], 64)]
        losses.append(heads[1].update(zip(tokens.split(24), labels.split(24)), 64))
        assert losses[0] == pytest.approx(losses[1], abs=1e-6)
    first, second = (head.probabilities([tokens]) for head in heads)
    torch.testing.assert_close(first, second, rtol=0, atol=1e-5)
    assert (first[0].argmax(dim=-1) == labels).float().mean() > 0.9
    assert losses[0] < 0.9 * math.log(2)


def test_a_head_continues_from_its_state():
    tokens, labels = features()
    whole, first = (MAEHead((8, 2), "lars", 5.0, (2, 6), "cpu", seed=1) for _ in range(2))
    for _ in range(6):
        whole.update([(tokens, labels)], 64)
    for _ in range(3):
        first.update([(tokens, labels)], 64)
    second = MAEHead((8, 2), "lars", 5.0, (2, 6), "cpu")
    second.load_state_dict(first.state_dict())
    for _ in range(3):
        second.update([(tokens, labels)], 64)
    assert torch.equal(whole.probabilities([tokens]), second.probabilities([tokens]))


def test_one_image_has_no_statistics():
    tokens, labels = features(1)
    with pytest.raises(ValueError, match="A step of MAE's probe has one image"):
        MAEHead((8, 2), "lars", 0.1, (0, 1), "cpu").update([(tokens, labels)], 1)

"""Tiny models with their inputs, for the tests of models: two videos of 2 x 4 x 4 tokens.

At the default ratios 14 of 16 places are masked: 4 tokens visible, 28 masked, and 28 (V1) or 16 (V2) decoded.
"""

import torch
from conftest import TINY, randomize

from videomae_hf import VideoMAEV2Config, VideoMAEV2ForPreTraining, draw_masks


V1, V2 = {"decoder_mask_ratio": 0.0}, {"decoder_mask_ratio": 0.5}
BATCH = 2


def build(model_class=VideoMAEV2ForPreTraining, **fields):
    """A model in eval mode; with the same fields the same weights every time."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = model_class(VideoMAEV2Config(**{**TINY, **fields}))
    return randomize(model).eval()


def videos(config, batch: int = BATCH, seed: int = 1) -> torch.Tensor:
    shape = (batch, config.num_frames, config.num_channels, *config.image_hw)
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def masks(config, seed: int = 2) -> dict[str, torch.Tensor]:
    masked, decoded = draw_masks(config, BATCH, torch.Generator().manual_seed(seed))
    return {"bool_masked_pos": masked, "bool_decoded_pos": decoded}


def step(model, **inputs) -> tuple[torch.Tensor, dict[str, torch.Tensor | None]]:
    """The loss and the gradient of every parameter."""
    model.zero_grad()
    loss = model(**inputs).loss
    loss.backward()
    return loss.detach(), {name: parameter.grad for name, parameter in model.named_parameters()}


def assert_same_step(first, second, atol: float = 1e-6):
    torch.testing.assert_close(first[0], second[0], rtol=0, atol=atol)
    torch.testing.assert_close(first[1], second[1], rtol=0, atol=atol)

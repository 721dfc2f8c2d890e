"""Places, a tiny configuration and what tests skip for."""

import os
from pathlib import Path


# Before torch is imported, here and in the processes that tests start: those beside each other would fight for the
# cores with the threads that each of them makes, and tiny models gain nothing from threads.
os.environ.setdefault("OMP_NUM_THREADS", "1")

import pytest  # noqa: E402
import torch  # noqa: E402


REPO = Path(__file__).resolve().parents[2]
# Reference checkpoints and real videos live outside the repository; without them the tests that need them are skipped.
SHARED = Path(os.environ.get("VIDEOMAE_SHARED", REPO.parent / "shared"))

# dynamo of torch 2.6 cannot trace the wrappers that transformers puts around every forward
needs_dynamo = pytest.mark.skipif(torch.__version__ < "2.7", reason="torch 2.6 cannot compile transformers' wrappers")

TINY = {
    "image_size": 32,
    "patch_size": 8,
    "num_frames": 4,
    "hidden_size": 24,
    "num_hidden_layers": 2,
    "num_attention_heads": 3,
    "intermediate_size": 48,
    "decoder_hidden_size": 16,
    "decoder_num_hidden_layers": 2,
    "decoder_num_attention_heads": 2,
    "decoder_intermediate_size": 32,
    "layer_norm_eps": 1e-6,
}


def randomize(model: torch.nn.Module, seed: int = 0, std: float = 0.1) -> torch.nn.Module:
    """Every parameter away from its initial value, biases and norms too, so that a swapped one is noticed."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(torch.randn(parameter.shape, generator=generator) * std)
    return model

# Copyright 2026 The videomae_hf authors. Licensed under the Apache License, Version 2.0.
"""The attentive probe of V-JEPA 2: its network, and the training of all of its heads at once.

The protocol is that of Assran et al. (2025, https://arxiv.org/abs/2506.09985) and of facebookresearch/vjepa2
(`evals/video_classification_frozen`, `src/models/attentive_pooler.py`, `configs/eval`); the code here is our own.

- A head has four blocks: three of self-attention over all tokens of a video, and one of cross-attention, in which a
  learned query attends to the tokens. Each has layer norms before its attention and before its MLP (ratio 4, GELU), 16
  attention heads, biases everywhere, and residuals. The cross-attention has an MLP of its own and no output projection.
  A linear classifier follows.
- Tokens have no other position than that which the encoder gave them: `use_pos_embed` is false in all configs.
- Five learning rates times four weight decays give 20 heads (the configs of Diving-48 and Jester: three times one),
  trained on the same batches with one AdamW each. The weight decay is constant and applies to all parameters, biases
  and norms included. There is no warmup, and the learning rate follows a cosine to 0, stepped before each update, so
  that the last one has a learning rate of 0.
- The head with the best top-1 accuracy on the evaluation videos is reported. The score is therefore selected on
  the videos that it is measured on.

This file knows tokens and labels only; `vjepa2_fit.py` makes them from videos.
"""

import math
from collections.abc import Iterable, Sequence
from itertools import product
from typing import NamedTuple

import torch
from torch import nn
from torch.utils.checkpoint import checkpoint

from ..settings.groups import VJEPA2_LEARNING_RATES, VJEPA2_WEIGHT_DECAYS


NUM_HEADS = 16  # attention heads, whatever the encoder has
NUM_BLOCKS = 3  # of self-attention; the fourth is the cross-attention
MLP_RATIO = 4
INIT_STD = 0.02


class HeadSetting(NamedTuple):
    """Hyperparameters of one of the heads that are trained at once."""

    learning_rate: float
    weight_decay: float


def head_settings(
    learning_rates: Sequence[float] = VJEPA2_LEARNING_RATES, weight_decays: Sequence[float] = VJEPA2_WEIGHT_DECAYS
) -> list[HeadSetting]:
    """All combinations, in the order of the configs: the learning rate changes fastest.

    Raises:
        ValueError: a learning rate is not positive, or a weight decay is negative.
    """
    if not learning_rates or not weight_decays or min(learning_rates) <= 0 or min(weight_decays) < 0:
        raise ValueError(
            f"probe_learning_rates={list(learning_rates)} must be positive and probe_weight_decays="
            f"{list(weight_decays)} not negative, with at least one of each."
        )
    return [HeadSetting(rate, decay) for decay, rate in product(weight_decays, learning_rates)]


def cosine_learning_rate(peak: float, step: int, num_steps: int) -> float:
    """The learning rate of update `step`, counted from 1: from almost `peak` to 0 at `num_steps`, without warmup."""
    return peak * 0.5 * (1 + math.cos(math.pi * step / num_steps))


class _SelfAttentionBlock(nn.Module):
    """(B, L, D) -> (B, L, D)"""

    def __init__(self, hidden_size: int) -> None:
        super().__init__()
        self.attention_norm = nn.LayerNorm(hidden_size)
        self.query_key_value = nn.Linear(hidden_size, 3 * hidden_size)
        self.projection = nn.Linear(hidden_size, hidden_size)
        self.mlp_norm = nn.LayerNorm(hidden_size)
        self.mlp = _mlp(hidden_size)

    def forward(self, tokens: torch.Tensor) -> torch.Tensor:
        query, key, value = self.query_key_value(self.attention_norm(tokens)).chunk(3, dim=-1)
        tokens = tokens + self.projection(_attention(query, key, value))
        return tokens + self.mlp(self.mlp_norm(tokens))


class _CrossAttentionBlock(nn.Module):
    """Queries (B, Q, D) and tokens (B, L, D) -> (B, Q, D)"""

    def __init__(self, hidden_size: int) -> None:
        super().__init__()
        self.token_norm = nn.LayerNorm(hidden_size)
        self.query = nn.Linear(hidden_size, hidden_size)
        self.key_value = nn.Linear(hidden_size, 2 * hidden_size)
        self.mlp_norm = nn.LayerNorm(hidden_size)
        self.mlp = _mlp(hidden_size)

    def forward(self, queries: torch.Tensor, tokens: torch.Tensor) -> torch.Tensor:
        key, value = self.key_value(self.token_norm(tokens)).chunk(2, dim=-1)
        queries = queries + _attention(self.query(queries), key, value)
        return queries + self.mlp(self.mlp_norm(queries))


def _mlp(hidden_size: int) -> nn.Sequential:
    return nn.Sequential(
        nn.Linear(hidden_size, MLP_RATIO * hidden_size), nn.GELU(), nn.Linear(MLP_RATIO * hidden_size, hidden_size)
    )


def _attention(query: torch.Tensor, key: torch.Tensor, value: torch.Tensor) -> torch.Tensor:
    """Multi-head attention of queries (B, Q, D) to keys and values (B, L, D) -> (B, Q, D)"""
    # (B, L, D) -> (B, NUM_HEADS, L, D / NUM_HEADS)
    query, key, value = (part.unflatten(-1, (NUM_HEADS, -1)).transpose(1, 2) for part in (query, key, value))
    attended = nn.functional.scaled_dot_product_attention(query, key, value)
    return attended.transpose(1, 2).flatten(2)  # (B, NUM_HEADS, Q, D / NUM_HEADS) -> (B, Q, D)


class VJEPA2Probe(nn.Module):
    """One head: 47 D^2 + 52 D parameters and a classifier, for tokens of size D.

    Args:
        hidden_size: size of the encoder's tokens, a multiple of 16.
        num_outputs: number of classes.

    Raises:
        ValueError: `hidden_size` is not a multiple of 16.
    """

    def __init__(self, hidden_size: int, num_outputs: int) -> None:
        super().__init__()
        if hidden_size % NUM_HEADS:
            raise ValueError(
                f"hidden_size={hidden_size} is not a multiple of the {NUM_HEADS} attention heads of V-JEPA 2's probe."
            )
        self.query = nn.Parameter(torch.zeros(1, 1, hidden_size))
        self.blocks = nn.ModuleList(_SelfAttentionBlock(hidden_size) for _ in range(NUM_BLOCKS))
        self.cross_attention = _CrossAttentionBlock(hidden_size)
        self._initialise()
        self.classifier = nn.Linear(hidden_size, num_outputs)  # with torch's own initial values, as in the source

    @torch.no_grad()
    def _initialise(self) -> None:
        """Truncated normal weights and zero biases; the last layer of branch pair i is divided by sqrt(2 i)."""
        nn.init.trunc_normal_(self.query, std=INIT_STD)
        for module in self.modules():
            if isinstance(module, nn.Linear):
                nn.init.trunc_normal_(module.weight, std=INIT_STD)
                nn.init.zeros_(module.bias)
        for number, block in enumerate(self.blocks, start=1):
            block.projection.weight.div_(math.sqrt(2 * number))
            block.mlp[-1].weight.div_(math.sqrt(2 * number))
        # The source counts the cross-attention like the last block before it.
        self.cross_attention.mlp[-1].weight.div_(math.sqrt(2 * NUM_BLOCKS))

    def forward(self, tokens: torch.Tensor) -> torch.Tensor:
        """(B, L, D) -> (B, num_outputs); in training, self-attention blocks are recomputed in the backward pass."""
        for block in self.blocks:
            tokens = checkpoint(block, tokens, use_reentrant=False) if self.training else block(tokens)
        query = self.cross_attention(self.query.expand(len(tokens), -1, -1), tokens)  # (B, 1, D)
        return self.classifier(query[:, 0])  # (B, 1, D) -> (B, num_outputs)


class ProbeHeads:
    """Heads that are trained on the same tokens, each by an AdamW of its own.

    The heads take turns on each batch, so that only one of them has activations at a time. Weights, gradients and
    moments take 16 bytes per parameter: 20 heads need 9 GB for ViT-B, 16 GB for ViT-L and 30 GB for ViT-g.

    Args:
        settings: learning rate and weight decay of each head.
        hidden_size, num_outputs: as of `VJEPA2Probe`.
        num_steps: number of updates, which the schedule depends on.
        device: device to compute on.
        bf16: compute under bfloat16 autocast. Difference: the source uses float16 with scaled gradients.
        seed: seed of the initial weights, which differ between heads as in the source.
    """

    def __init__(
        self,
        settings: Sequence[HeadSetting],
        hidden_size: int,
        num_outputs: int,
        num_steps: int,
        device: str | torch.device = "cpu",
        *,
        bf16: bool = False,
        seed: int = 0,
    ) -> None:
        self.settings, self.num_steps, self.step = list(settings), num_steps, 0
        self.device, self.bf16 = torch.device(device), bf16
        with torch.random.fork_rng():
            torch.manual_seed(seed)
            self.heads = [VJEPA2Probe(hidden_size, num_outputs).to(device) for _ in self.settings]
        self.optimizers = [
            torch.optim.AdamW(head.parameters(), lr=rate, weight_decay=decay)
            for head, (rate, decay) in zip(self.heads, self.settings)
        ]

    def update(self, batches: Iterable[tuple[torch.Tensor, torch.Tensor]], num_videos: int) -> float:
        """One update of all heads with the mean loss of `num_videos` videos, whose gradients are accumulated.

        Args:
            batches: tokens (B, L, D) and labels int64 (B,), which together have `num_videos` videos; of several
                processes, each passes its part.
            num_videos: number of videos of the update, over all processes.

        Returns:
            The smallest loss of a head. A head may diverge, as some learning rates are high; its loss is then not
            finite, and the others go on.
        """
        losses = torch.zeros(len(self.heads), device=self.device)
        for tokens, labels in batches:
            for number, head in enumerate(self.heads):
                head.train()
                loss = nn.functional.cross_entropy(self._logits(head, tokens), labels, reduction="sum") / num_videos
                loss.backward()
                losses[number] += loss.detach()
        self._sum_over_processes(losses)
        self.step += 1
        for optimizer, setting in zip(self.optimizers, self.settings):
            for group in optimizer.param_groups:
                group["lr"] = cosine_learning_rate(setting.learning_rate, self.step, self.num_steps)
            optimizer.step()
            optimizer.zero_grad()
        return float(losses.nan_to_num(math.inf).min())

    def _sum_over_processes(self, losses: torch.Tensor) -> None:
        if not (torch.distributed.is_available() and torch.distributed.is_initialized()):
            return
        torch.distributed.all_reduce(losses)
        for head in self.heads:
            for parameter in head.parameters():
                if parameter.grad is None:  # this process has no part of a small update
                    parameter.grad = torch.zeros_like(parameter)
                torch.distributed.all_reduce(parameter.grad)

    @torch.no_grad()
    def probabilities(self, crops: Sequence[torch.Tensor]) -> torch.Tensor:
        """The softmax of each head, averaged over the spatial crops of the videos.

        Args:
            crops: for each crop the tokens of all segments of the videos, (B, L, D).

        Returns:
            float32 (heads, B, num_outputs); NaN of a head that has diverged becomes 0.
        """
        every = []
        for head in self.heads:
            head.eval()
            every.append(torch.stack([self._logits(head, tokens).softmax(dim=-1) for tokens in crops]).mean(dim=0))
        return torch.stack(every).nan_to_num(0.0)  # (heads, B, num_outputs)

    def diverged(self) -> list[bool]:
        """For each head, whether a weight is not finite."""
        return [not all(weight.isfinite().all() for weight in head.parameters()) for head in self.heads]

    def _logits(self, head: VJEPA2Probe, tokens: torch.Tensor) -> torch.Tensor:
        with torch.autocast(self.device.type, torch.bfloat16, enabled=self.bf16):
            logits = head(tokens)
        return logits.float()

    def state_dict(self) -> dict:
        """The state between two updates."""
        return {
            "step": self.step,
            "heads": [head.state_dict() for head in self.heads],
            "optimizers": [optimizer.state_dict() for optimizer in self.optimizers],
        }

    def load_state_dict(self, state: dict) -> None:
        """Continues from a state of heads with the same settings."""
        self.step = state["step"]
        for head, weights in zip(self.heads, state["heads"]):
            head.load_state_dict(weights)
        for optimizer, moments in zip(self.optimizers, state["optimizers"]):
            optimizer.load_state_dict(moments)


def best_head(top1: Sequence[float]) -> int:
    """The number of the head with the highest top-1 accuracy; of several, the first."""
    return max(range(len(top1)), key=lambda number: top1[number])

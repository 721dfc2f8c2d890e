# Copyright 2026 The videomae_hf authors. Licensed under the Apache License, Version 2.0.
"""Probes of a frozen encoder: k-NN, linear and attentive classifiers on its features.

k nearest neighbours are the cheapest way to see whether an encoder has learned anything. The linear and the attentive
probe have one hyperparameter, which is chosen by the loss on a held-out fifth of the training videos (of each class, if
there are classes); the probe is then fitted to all training videos. The evaluation videos are not used for this choice.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from torch import nn


_ROWS = 1024  # evaluation features compared at a time, which limits memory to 1024 x N similarities


def knn_accuracy(
    train_features: torch.Tensor,
    train_labels: torch.Tensor,
    eval_features: torch.Tensor,
    eval_labels: torch.Tensor,
    k: int = 20,
    temperature: float = 0.07,
) -> float:
    """Top-1 accuracy of a weighted vote of the k most similar training features.

    The similarity s is the cosine, and the vote of a neighbour for its class has the weight exp(s / temperature). The
    rule and the defaults are those of Wu et al. (2018, https://arxiv.org/abs/1805.01978) in the evaluation of DINO,
    with k = 20.

    Args:
        train_features: (N, D), of any scale and floating-point type.
        train_labels: int64 (N,).
        eval_features: (M, D).
        eval_labels: int64 (M,).
        k: number of neighbours that vote; all training features vote if there are fewer.
        temperature: small values give the nearest neighbours more weight, large values make votes equal.

    Returns:
        The fraction of the evaluation features whose class wins, in [0, 1].

    Raises:
        ValueError: shapes do not match or are empty, features are not finite, or k or temperature is not positive.
    """
    _check(train_features, train_labels, eval_features, eval_labels, k, temperature)
    predicted = knn_predictions(train_features, train_labels, eval_features, k, temperature)
    return (predicted == eval_labels.to(predicted.device)).float().mean().item()


def knn_predictions(
    train_features: torch.Tensor,
    train_labels: torch.Tensor,
    eval_features: torch.Tensor,
    k: int = 20,
    temperature: float = 0.07,
) -> torch.Tensor:
    """int64 (M,): the predicted class of each of eval_features (M, D); ties go to the lower class number."""
    num_classes = int(train_labels.max()) + 1
    return knn_votes(train_features, train_labels, eval_features, num_classes, k, temperature).argmax(dim=1)


def knn_votes(
    train_features: torch.Tensor,
    train_labels: torch.Tensor,
    eval_features: torch.Tensor,
    num_classes: int,
    k: int = 20,
    temperature: float = 0.07,
) -> torch.Tensor:
    """float32 (M, num_classes): the fraction of the votes for each class."""
    train = torch.nn.functional.normalize(train_features.float(), dim=1)
    labels, k = train_labels.to(train.device), min(k, len(train))
    votes = []
    for rows in eval_features.to(train.device).split(_ROWS):
        similarity = torch.nn.functional.normalize(rows.float(), dim=1) @ train.T  # (rows, N)
        nearest, neighbours = similarity.topk(k, dim=1)  # (rows, k)
        weights = (nearest / temperature).softmax(dim=1)
        votes.append(weights.new_zeros(len(rows), num_classes).scatter_add_(1, labels[neighbours], weights))
    return torch.cat(votes)


def _check(train_features, train_labels, eval_features, eval_labels, k: int, temperature: float) -> None:
    for name, features, labels in (("train", train_features, train_labels), ("eval", eval_features, eval_labels)):
        if features.ndim != 2 or labels.shape != features.shape[:1] or len(features) == 0:
            raise ValueError(
                f"{name}_features {tuple(features.shape)} and {name}_labels {tuple(labels.shape)} must be (N, D) and "
                f"(N,), with N at least 1."
            )
        if not features.isfinite().all():
            raise ValueError(f"{name}_features are not all finite: the encoder returned NaN or infinity.")
    if train_features.shape[1] != eval_features.shape[1]:
        raise ValueError(
            f"train_features and eval_features differ in size: {train_features.shape[1]} and {eval_features.shape[1]}."
        )
    if k < 1 or not temperature > 0:
        raise ValueError(f"k={k} must be at least 1 and temperature={temperature} positive.")


PROBES = ("linear", "attentive", "knn")
STRENGTHS = tuple(10.0**exponent for exponent in range(-5, 2))  # candidates for the weight decay of the linear probe
RATES = (3e-4, 1e-3, 3e-3)  # candidates for the learning rate of the attentive probe
EPOCHS, STEPS, BATCH_SIZE = 20, 300, 16  # of the attentive probe; STEPS is the minimum
HELD_OUT = 0.2


@dataclass
class ProbeResult:
    """Logits (M, num_outputs) of the evaluation videos, and details of the fit for metrics.json."""

    logits: np.ndarray
    settings: dict


@dataclass(frozen=True)
class ProbeTask:
    """The outputs of a probe, and the device and seed of its fit.

    Args:
        num_outputs: number of classes or targets.
        num_heads: number of attention heads of the attentive probe.
        problem_type: as in the configuration of a model.
        device: device to compute on.
        seed: seed for the held-out part and for the attentive probe.
    """

    num_outputs: int
    num_heads: int = 1
    problem_type: str = "single_label_classification"
    device: str | torch.device = "cpu"
    seed: int = 0


def run_probe(
    kind: str,
    train_features: np.ndarray,
    train_labels: torch.Tensor,
    eval_features: np.ndarray,
    task: ProbeTask,
) -> ProbeResult:
    """Fits a probe to training features and applies it to evaluation features.

    Args:
        kind: one of `PROBES`.
        train_features, eval_features: (N, D) and (M, D); for `"attentive"` (N, L, D) and (M, L, D).
        train_labels: int64 (N,), or float (N, num_outputs) with 0 and 1 or with targets, depending on the problem type.
        task: the outputs, the device and the seed.

    Raises:
        ValueError: the kind is unknown, or k-NN is requested for labels other than a single class.
    """
    if kind not in PROBES:
        raise ValueError(f"probe={kind!r} is unknown; choose one of {', '.join(PROBES)}.")
    problem_type, device = task.problem_type, task.device
    if kind == "knn":
        if problem_type != "single_label_classification":
            raise ValueError(f"probe='knn' votes for one class per video, but problem_type is {problem_type}.")
        train, evaluation = (torch.tensor(np.asarray(x), device=device) for x in (train_features, eval_features))
        votes = knn_votes(train, train_labels, evaluation, task.num_outputs)
        return ProbeResult(votes.clamp(min=1e-12).log().cpu().numpy(), {"k": 20, "temperature": 0.07})
    generator = torch.Generator().manual_seed(task.seed)
    data = (train_features, eval_features, train_labels, task.num_outputs, problem_type, device)
    if kind == "linear":
        probe = LinearProbe(*data)
        values, name = STRENGTHS, "weight_decay"
    else:
        probe = AttentiveFit(*data, num_heads=task.num_heads, seed=task.seed)
        values, name = RATES, "learning_rate"
    held_out = held_out_mask(train_labels, problem_type, generator)
    losses = {value: probe.held_out_loss(value, held_out) for value in values}
    best = min(losses, key=lambda value: losses[value] if math.isfinite(losses[value]) else math.inf)
    settings = {name: best, "held_out_loss": {f"{value:g}": loss for value, loss in losses.items()}}
    return ProbeResult(probe.evaluate(best), settings)


def held_out_mask(labels: torch.Tensor, problem_type: str, generator: torch.Generator) -> torch.Tensor:
    """bool (N,): a random fifth of the videos, of each class separately; classes of one or two videos keep them all."""
    order = torch.randperm(len(labels), generator=generator)
    mask = torch.zeros(len(labels), dtype=torch.bool)
    if problem_type != "single_label_classification":
        mask[order[: max(round(HELD_OUT * len(labels)), 1)]] = True
        return mask
    for label in labels.unique():
        of_class = order[labels[order] == label]
        mask[of_class[: round(HELD_OUT * len(of_class))]] = True
    if not mask.any():
        mask[order[0]] = True
    return mask


def probe_loss(logits: torch.Tensor, labels: torch.Tensor, problem_type: str) -> torch.Tensor:
    if problem_type == "regression":
        return nn.functional.mse_loss(logits, labels.to(logits.dtype))
    if problem_type == "multi_label_classification":
        return nn.functional.binary_cross_entropy_with_logits(logits, labels.to(logits.dtype))
    return nn.functional.cross_entropy(logits, labels)


class _Fit:
    """The common part of both probes: data, regression targets normalised over all training videos, and the loss."""

    def __init__(self, train_features, eval_features, labels, num_outputs: int, problem_type: str, device) -> None:
        self.train_features, self.eval_features = train_features, eval_features
        self.num_outputs, self.problem_type, self.device = num_outputs, problem_type, device
        self.shift, self.scale = torch.zeros(()), torch.ones(())
        if problem_type == "regression":
            self.shift, self.scale = labels.mean(dim=0), labels.std(dim=0, correction=0).clamp(min=1e-12)
            labels = (labels - self.shift) / self.scale
        self.labels = labels.to(device)

    def held_out_loss(self, value: float, held_out: torch.Tensor) -> float:
        """The loss on the held-out videos, for a probe fitted to the other ones."""
        predict = self.fit(value, (~held_out).nonzero().flatten())
        places = held_out.nonzero().flatten()
        logits = predict(self.train_features, places)
        return probe_loss(logits, self.labels[places.to(self.device)], self.problem_type).item()

    def evaluate(self, value: float) -> np.ndarray:
        """Logits of the evaluation videos, for a probe fitted to all training videos."""
        predict = self.fit(value, torch.arange(len(self.labels)))
        logits = predict(self.eval_features, torch.arange(len(self.eval_features))).cpu().float()
        return (logits * self.scale + self.shift).numpy()

    def fit(self, value: float, places: torch.Tensor) -> Callable:
        raise NotImplementedError


class LinearProbe(_Fit):
    """A regularised linear classifier on standardised features: mean loss + weight_decay / 2 |W|^2, solved by L-BFGS.

    Features are standardised over the fitted videos, which corresponds to the batch norm without parameters in MAE's
    linear probe. The bias is not regularised.
    """

    def fit(self, value: float, places: torch.Tensor) -> Callable:
        train = self._rows(self.train_features, places)
        mean, std = train.mean(dim=0), train.std(dim=0, correction=0).clamp(min=1e-6)
        train, labels = (train - mean) / std, self.labels[places.to(self.device)]
        weight = torch.zeros(self.num_outputs, train.shape[1], dtype=train.dtype, device=self.device)
        bias = torch.zeros(self.num_outputs, dtype=train.dtype, device=self.device)
        parameters = [weight.requires_grad_(), bias.requires_grad_()]
        optimizer = torch.optim.LBFGS(
            parameters, max_iter=500, tolerance_grad=1e-6, tolerance_change=1e-12, line_search_fn="strong_wolfe"
        )

        def closure() -> torch.Tensor:
            optimizer.zero_grad()
            logits = torch.addmm(bias, train, weight.T)
            loss = probe_loss(logits, labels, self.problem_type) + value / 2 * weight.square().sum()
            loss.backward()
            return loss

        optimizer.step(closure)

        @torch.no_grad()
        def predict(features: np.ndarray, places: torch.Tensor) -> torch.Tensor:
            return torch.addmm(bias, (self._rows(features, places) - mean) / std, weight.T)

        return predict

    def _rows(self, features: np.ndarray, places: torch.Tensor) -> torch.Tensor:
        return torch.from_numpy(np.asarray(features[places.numpy()], dtype=np.float64)).to(self.device)


class AttentiveProbe(nn.Module):
    """A learned query that attends to the tokens, followed by an MLP with a residual and a linear layer.

    This is the attentive probe of V-JEPA (https://arxiv.org/abs/2404.08471): one block of cross-attention.
    """

    def __init__(self, hidden_size: int, num_heads: int, num_outputs: int) -> None:
        super().__init__()
        self.query = nn.Parameter(torch.zeros(1, 1, hidden_size))
        self.token_norm = nn.LayerNorm(hidden_size)
        self.attention = nn.MultiheadAttention(hidden_size, num_heads, batch_first=True)
        self.norm = nn.LayerNorm(hidden_size)
        self.mlp = nn.Sequential(
            nn.Linear(hidden_size, 4 * hidden_size), nn.GELU(), nn.Linear(4 * hidden_size, hidden_size)
        )
        self.classifier = nn.Linear(hidden_size, num_outputs)
        nn.init.trunc_normal_(self.query, std=0.02)

    def forward(self, tokens: torch.Tensor) -> torch.Tensor:
        """(B, L, D) -> (B, num_outputs)."""
        tokens = self.token_norm(tokens)
        query = self.query.expand(len(tokens), -1, -1)  # (B, 1, D)
        query = query + self.attention(query, tokens, tokens, need_weights=False)[0]
        query = query + self.mlp(self.norm(query))
        return self.classifier(query[:, 0])  # (B, 1, D) -> (B, num_outputs)


class AttentiveFit(_Fit):
    """Trains an `AttentiveProbe` with AdamW (weight decay 0.01, cosine schedule) on batches read from the file."""

    def __init__(self, *args, num_heads: int, seed: int) -> None:
        super().__init__(*args)
        self.num_heads, self.seed = num_heads, seed

    def fit(self, value: float, places: torch.Tensor) -> Callable:
        with torch.random.fork_rng():
            torch.manual_seed(self.seed)
            model = AttentiveProbe(self.train_features.shape[-1], self.num_heads, self.num_outputs).to(self.device)
        generator = torch.Generator().manual_seed(self.seed)
        optimizer = torch.optim.AdamW(model.parameters(), lr=value, weight_decay=0.01)
        batches = math.ceil(len(places) / BATCH_SIZE)
        steps = max(EPOCHS, math.ceil(STEPS / batches)) * batches
        schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps)
        while schedule.last_epoch < steps:
            for batch in places[torch.randperm(len(places), generator=generator)].split(BATCH_SIZE):
                logits = model(self._tokens(self.train_features, batch))
                loss = probe_loss(logits, self.labels[batch.to(self.device)], self.problem_type)
                optimizer.zero_grad()
                loss.backward()
                optimizer.step()
                schedule.step()

        @torch.no_grad()
        def predict(features: np.ndarray, places: torch.Tensor) -> torch.Tensor:
            return torch.cat([model(self._tokens(features, batch)) for batch in places.split(BATCH_SIZE)])

        return predict

    def _tokens(self, features: np.ndarray, places: torch.Tensor) -> torch.Tensor:
        return torch.from_numpy(np.asarray(features[places.numpy()], dtype=np.float32)).to(self.device)

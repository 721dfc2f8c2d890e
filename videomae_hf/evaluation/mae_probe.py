# Copyright 2026 The videomae_hf authors. Licensed under the Apache License, Version 2.0.
"""MAE's linear probe (arXiv 2111.06377, appendix A.1): a batch norm without parameters and a linear classifier.

The head is trained on the class token after the final norm, or on the mean of the patches of a model without one, of
crops that are random and flipped. The optimizer is LARS, which suits the batch of 16,384 images that MAE uses, or
AdamW.

Difference: batch statistics and the update are those of all images of a step. In MAE's code each GPU normalises its own
part, so that its result depends on the number of GPUs; here it does not.
"""

import math
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

import torch
from torch import nn

from ..data.clips import FinetuneTransform
from ..data.video_dataset import VideoDataset
from ..models.modeling_videomae_v2 import VideoMAEV2Model
from .feature_cache import encoder_collator
from .vjepa2_fit import FitOptions, ProbeFit


STATE = "mae_probe.pt"  # in output_dir, until the results are written
OPTIMIZERS = {"lars": 0.1, "adamw": 1e-3}  # name -> learning rate for 256 images of a step; MAE's, and ours
EPOCHS, WARMUP = 90, 10 / 90  # of MAE for ViT-B; the warmup is a part of the epochs
CROP_SCALE = (0.08, 1.0)
_INIT_STD = 0.01


class LARS(torch.optim.Optimizer):
    """Layer-wise adaptive rate scaling (You et al., arXiv 1708.03888), with momentum.

    The step of a weight is scaled by `trust * |weight| / |gradient + weight_decay * weight|`, so that each layer moves
    by the same part of its norm; that of a vector, such as a bias, is not. Difference: the learning rate multiplies the
    momentum, as in `torch.optim.SGD`; in the paper it is inside, which differs while the rate changes.

    Args:
        params: as for any optimizer of torch.
        lr: learning rate.
        weight_decay: of weights with more than one dimension.
        momentum: decay of the sum of the steps.
        trust: the coefficient of the paper.
    """

    def __init__(
        self, params, lr: float, weight_decay: float = 0.0, momentum: float = 0.9, trust: float = 0.001
    ) -> None:
        super().__init__(params, {"lr": lr, "weight_decay": weight_decay, "momentum": momentum, "trust": trust})

    @torch.no_grad()
    def step(self, closure: Callable | None = None) -> None:
        """One update; `closure` is not used."""
        for group in self.param_groups:
            for weight in group["params"]:
                if weight.grad is None:
                    continue
                change = weight.grad
                if weight.ndim > 1:
                    change = change + group["weight_decay"] * weight
                    norms = weight.norm(), change.norm()
                    if all(norm > 0 for norm in norms):
                        change = change * (group["trust"] * norms[0] / norms[1])
                state = self.state[weight]
                momentum = state.setdefault("momentum", torch.zeros_like(weight))
                weight.sub_(momentum.mul_(group["momentum"]).add_(change), alpha=group["lr"])


def warmup_cosine(peak: float, step: int, warmup_steps: int, num_steps: int) -> float:
    """The learning rate of update `step`, counted from 0: linear from 0 to `peak`, and on a half cosine towards 0."""
    if step < warmup_steps:
        return peak * step / warmup_steps
    return peak * 0.5 * (1 + math.cos(math.pi * (step - warmup_steps) / max(num_steps - warmup_steps, 1)))


class LinearHead(nn.Module):
    """Features (B, D) -> logits (B, num_outputs)."""

    def __init__(self, hidden_size: int, num_outputs: int) -> None:
        super().__init__()
        self.norm = nn.BatchNorm1d(hidden_size, affine=False, eps=1e-6)
        self.classifier = nn.Linear(hidden_size, num_outputs)

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        return self.classifier(self.norm(features))


class MAEHead:
    """One `LinearHead` and its optimizer, with the methods of `ProbeHeads`.

    Args:
        size: size of the features, and number of classes.
        optimizer: one of `OPTIMIZERS`.
        learning_rate: the peak.
        steps: number of updates of warmup, and of all.
        device: device to compute on.
        seed: seed of the initial weights.
    """

    def __init__(
        self,
        size: tuple[int, int],
        optimizer: str,
        learning_rate: float,
        steps: tuple[int, int],
        device: torch.device,
        seed: int = 0,
    ) -> None:
        self.learning_rate, (self.warmup_steps, self.num_steps) = learning_rate, steps
        self.device, self.step = torch.device(device), 0
        head = LinearHead(*size)
        with torch.no_grad():
            head.classifier.weight.normal_(std=_INIT_STD, generator=torch.Generator().manual_seed(seed))
            head.classifier.bias.zero_()
        self.head = head.to(device)
        self.heads = [self.head]
        optimizer_class = LARS if optimizer == "lars" else torch.optim.AdamW
        self.optimizer = optimizer_class(self.head.parameters(), lr=learning_rate, weight_decay=0.0)

    def update(self, batches: Iterable[tuple[torch.Tensor, torch.Tensor]], num_videos: int) -> float:
        """One update with the mean loss of all images of a step, which every process computes.

        Args:
            batches: features (B, 1, D) and labels int64 (B,); of several processes, each passes its part.
            num_videos: number of images of the update, over all processes.

        Returns:
            The loss.
        """
        features, labels = self._of_all_processes(list(batches))
        if len(features) == 1:
            raise ValueError("A step of MAE's probe has one image, which has no batch statistics; use more of them.")
        self.head.train()
        loss = nn.functional.cross_entropy(self.head(features), labels, reduction="sum") / num_videos
        for group in self.optimizer.param_groups:
            group["lr"] = warmup_cosine(self.learning_rate, self.step, self.warmup_steps, self.num_steps)
        self.optimizer.zero_grad()
        loss.backward()
        self.optimizer.step()
        self.step += 1
        return loss.item()

    def _of_all_processes(self, batches: list[tuple[torch.Tensor, torch.Tensor]]) -> tuple[torch.Tensor, torch.Tensor]:
        """Features (N, D) and labels (N,) of the whole step."""
        parts = [(features[:, 0].cpu(), labels.cpu()) for features, labels in batches]  # (B, 1, D) -> (B, D)
        if torch.distributed.is_available() and torch.distributed.is_initialized():
            every = [None] * torch.distributed.get_world_size()
            torch.distributed.all_gather_object(every, parts)
            parts = [part for one in every for part in one]
        features, labels = zip(*parts)
        return torch.cat(features).to(self.device), torch.cat(labels).to(self.device)

    @torch.no_grad()
    def probabilities(self, crops: Sequence[torch.Tensor]) -> torch.Tensor:
        """The softmax, averaged over the crops, features (B, 1, D) each -> float32 (1, B, num_outputs)."""
        self.head.eval()
        every = [self.head(features[:, 0]).softmax(dim=-1) for features in crops]  # (B, 1, D) -> (B, D)
        return torch.stack(every).mean(dim=0)[None].nan_to_num(0.0)

    def diverged(self) -> list[bool]:
        """Whether a weight is not finite."""
        return [not all(weight.isfinite().all() for weight in self.head.parameters())]

    def state_dict(self) -> dict:
        """The state between two updates."""
        return {"step": self.step, "head": self.head.state_dict(), "optimizer": self.optimizer.state_dict()}

    def load_state_dict(self, state: dict) -> None:
        """Continues from the state of a head with the same settings."""
        self.step = state["step"]
        self.head.load_state_dict(state["head"])
        self.optimizer.load_state_dict(state["optimizer"])


class FeatureEncoder:
    """The frozen encoder, with the interface of `SegmentEncoder`; its sequence is the pooled feature alone."""

    def __init__(self, model: VideoMAEV2Model, *, bf16: bool) -> None:
        self.model, self.bf16 = model.eval(), bf16

    @torch.no_grad()
    def tokens(self, pixel_values: torch.Tensor) -> torch.Tensor:
        """Clips (B, T, C, H, W) -> features (B, 1, D)."""
        device = self.model.device
        with torch.autocast(device.type, torch.bfloat16, enabled=self.bf16):
            hidden = self.model(pixel_values.to(device)).last_hidden_state
        features = self.model.pooled_features(hidden.float())[:, None]  # (B, D) -> (B, 1, D)
        if not features.isfinite().all():
            raise ValueError("The encoder's features of a batch are not finite; no probe can be fitted to them.")
        return features


class MAEFit(ProbeFit):
    """Trains the head by epochs, and continues an interrupted training after its last complete epoch.

    Args:
        model: the encoder, on the device to compute on; `pooled_features` gives the features.
        dataset: the training videos, with items of a `FinetuneTransform`.
        num_classes: number of classes.
        options: how the head is trained; its only setting has the learning rate.
        optimizer: one of `OPTIMIZERS`.
        warmup: part of the updates that are warmup.
        file: file in which the state is kept after each epoch.
    """

    rates = "base_learning_rate"

    def __init__(
        self,
        model: VideoMAEV2Model,
        dataset: VideoDataset,
        num_classes: int,
        options: FitOptions,
        *,
        optimizer: str,
        warmup: float,
        file: Path,
    ) -> None:
        if len(dataset) % options.videos_per_step == 1:
            raise ValueError(
                f"{len(dataset)} images in steps of {options.videos_per_step} leave a last one alone, which has no "
                f"batch statistics; choose another total_batch_size."
            )
        transform: FinetuneTransform = dataset.load
        num_steps, size = options.num_steps(len(dataset)), (model.config.hidden_size, num_classes)
        head = MAEHead(
            size,
            optimizer,
            options.settings[0].learning_rate,
            (round(warmup * num_steps), num_steps),
            model.device,
            options.seed,
        )
        facts = {
            "optimizer": optimizer,
            "warmup": str(warmup),
            "crops": f"{transform.crop_scale} {transform.interpolation}",
            "pooling": str(model.config.use_mean_pooling),
        }
        super().__init__(FeatureEncoder(model, bf16=options.bf16), head, dataset, options, file)
        self.state_facts(model, num_classes, transform, **facts)
        self.train_collator = self.collator = encoder_collator(model.config)

# Copyright 2026 The videomae_hf authors. Licensed under the Apache License, Version 2.0.
"""Compares the loss of a pretraining with predictors that need no training, and says when it is no better."""

import torch
from tqdm import tqdm
from transformers import Trainer, TrainerCallback

from ..evaluation.trivial_predictors import trivial_loss, trivial_losses
from ..models.modeling_videomae_v2 import VideoMAEV2ForPreTraining


# A pretraining whose loss lies less than this fraction below the trivial one has not begun to learn.
_PARTED = 0.05
_ENTRIES = 5  # entries of the log that are averaged, since one is a single batch
_CHECKED_AT = (0.25, 1.0)  # fractions of the run
_FEWEST_STEPS = 100  # of a run that is checked; shorter ones cannot have learned anything


def trivial_baseline(trainer: Trainer) -> "TrivialBaseline | None":
    """The baseline of a trainer; None unless its model is a `VideoMAEV2ForPreTraining`, or wraps one (adapters)."""
    model = next((part for part in trainer.model.modules() if isinstance(part, VideoMAEV2ForPreTraining)), None)
    return None if model is None else TrivialBaseline(model)


class TrivialBaseline(TrainerCallback):
    """Adds `trivial` and `explained` to the log of a pretraining, and prints a line where they show no learning.

    `trivial` is the smallest loss of the `trivial_losses` that a model could have without training, on the same batch
    and masks as the loss that it is compared with, and `explained` = 1 - loss / trivial: 0 is no better than that
    predictor, 1 a perfect reconstruction. In training this is the last micro-batch of the first process; in an
    evaluation, all batches.
    """

    def __init__(self, model: VideoMAEV2ForPreTraining) -> None:
        self.model = model
        self.batch: dict | None = None  # the last micro-batch
        self._evaluated: list[tuple[float, int]] = []  # (trivial loss, clips) of each batch of an evaluation
        self._explained: list[float] = []
        self._checks = list(_CHECKED_AT)

    def training_entries(self, loss: float) -> dict[str, float]:
        """`trivial` and `explained` of the last micro-batch, whose loss is given."""
        return _entries("", self._trivial(self.batch), loss) if _has_ids(self.batch) else {}

    def add_evaluated(self, batch: dict) -> None:
        if _has_ids(batch):
            self._evaluated.append((self._trivial(batch), len(batch["pixel_values"])))

    def evaluation_entries(self, trainer: Trainer, prefix: str, loss: float) -> dict[str, float]:
        """`trivial` and `explained` of the batches added since the last call, those of all processes together."""
        batches = torch.tensor(self._evaluated or [(0.0, 0)], dtype=torch.float64)
        self._evaluated = []
        sums = torch.stack([batches.prod(dim=1).sum(), batches[:, 1].sum()]).float().to(trainer.args.device)
        total, clips = trainer.accelerator.reduce(sums, reduction="sum").tolist()
        return _entries(f"{prefix}_", total / clips, loss) if clips else {}

    def on_log(self, args, state, control, logs: dict | None = None, **kwargs) -> None:
        if not state.is_world_process_zero or "explained" not in (logs or {}):
            return
        if state.max_steps < _FEWEST_STEPS:
            return
        self._explained = [*self._explained, logs["explained"]][-_ENTRIES:]
        due = [fraction for fraction in self._checks if state.global_step >= fraction * state.max_steps]
        if not due:
            return
        self._checks = [fraction for fraction in self._checks if fraction not in due]
        explained = sum(self._explained) / len(self._explained)
        if explained < _PARTED:
            tqdm.write(
                f"explained = {100 * explained:.1f} % at step {state.global_step:,} of {state.max_steps:,}: the "
                f"reconstruction is no better than filling patches with one colour, so the encoder has not begun to "
                f"learn. First try smaller patches, mask_type=random or a lower mask_ratio, a lower learning rate, "
                f"and more steps (see 'When does pretraining pay?' in the documentation)."
            )

    def _trivial(self, batch: dict) -> float:
        losses = trivial_losses(self.model, batch["pixel_values"], batch["visible_ids"], batch["decoded_ids"])
        return trivial_loss(losses, self.model.config)


def _has_ids(batch: dict | None) -> bool:
    """Whether a batch has its masks; those of other collators leave sampling them to the model."""
    return batch is not None and "visible_ids" in batch and "decoded_ids" in batch


def _entries(prefix: str, trivial: float, loss: float) -> dict[str, float]:
    explained = 1 - loss / trivial if trivial > 0 else 0.0  # 0: clips of a single colour
    return {f"{prefix}trivial": round(trivial, 4), f"{prefix}explained": round(explained, 4)}

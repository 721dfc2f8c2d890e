# Copyright 2026 The videomae_hf authors. Licensed under the Apache License, Version 2.0.
"""Compares the loss of a pretraining with predictors that need no training, and says when it is no better."""

import torch
from tqdm import tqdm
from transformers import Trainer, TrainerCallback

from ..evaluation.trivial_predictors import trivial_loss, trivial_losses
from ..models.modeling_videomae_v2 import VideoMAEV2ForPreTraining


_LEAST_EXPLAINED = 0.05  # below it, a reconstruction counts as no better than the trivial predictor
_ENTRIES = 5  # entries of the log that are averaged, since one is a single batch
_CHECKED_AT = 0.25  # of the run, and again at its end
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
        self._evaluated: list[tuple[float, int]] = []  # (trivial loss, clips) of each batch of an evaluation
        self._explained: list[float] = []  # of the last entries of the log
        self._checked = False

    def training_entries(self, batch: dict, loss: float) -> dict[str, float]:
        """`trivial` and `explained` of a micro-batch with this loss."""
        return _entries("", self._trivial(batch), loss) if _has_ids(batch) else {}

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

    def on_train_begin(self, args, state, control, **kwargs) -> None:
        self._checked = state.global_step >= _CHECKED_AT * state.max_steps  # by the run that this one resumes

    def on_log(self, args, state, control, logs: dict | None = None, **kwargs) -> None:
        if "explained" not in (logs or {}):
            return
        self._explained = [*self._explained, logs["explained"]][-_ENTRIES:]
        due = state.global_step >= _CHECKED_AT * state.max_steps and len(self._explained) == _ENTRIES
        if due and not self._checked:
            self._checked = True
            self._warn(state)

    def on_train_end(self, args, state, control, **kwargs) -> None:
        self._warn(state)

    def _warn(self, state) -> None:
        """Prints a line if the last entries explain too little."""
        if not self._explained or state.max_steps < _FEWEST_STEPS:
            return
        explained = sum(self._explained) / len(self._explained)
        if explained < _LEAST_EXPLAINED:
            tqdm.write(
                f"explained = {100 * explained:.1f} % at step {state.global_step:,} of {state.max_steps:,}: the "
                f"reconstruction is no better than filling patches with one colour. If this lasts, try smaller "
                f"patches, mask_type=random or a lower mask_ratio, a lower learning rate, or more steps (see 'When "
                f"does pretraining pay?' in the documentation)."
            )

    def _trivial(self, batch: dict) -> float:
        losses = trivial_losses(self.model, batch["pixel_values"], batch["visible_ids"], batch["decoded_ids"])
        return trivial_loss(losses, self.model.config)


def _has_ids(batch: dict) -> bool:
    """Whether a batch has its masks; those of other collators leave sampling them to the model."""
    return "visible_ids" in batch and "decoded_ids" in batch


def _entries(prefix: str, trivial: float, loss: float) -> dict[str, float]:
    explained = 1 - loss / trivial if trivial > 0 else 0.0  # 0: clips of a single colour
    return {f"{prefix}trivial": round(trivial, 4), f"{prefix}explained": round(explained, 4)}

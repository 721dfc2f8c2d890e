# Copyright 2026 The videomae_hf authors. Licensed under the Apache License, Version 2.0.
"""Compares the loss of a run with predictors that need no training, and says when it is no better."""

import torch
from tqdm import tqdm
from transformers import Trainer, TrainerCallback

from ..data.video_dataset import VideoDataset
from ..evaluation.trivial_predictors import trivial_loss, trivial_losses
from ..models.modeling_videomae_v2 import VideoMAEV2ForPreTraining, VideoMAEV2ForVideoClassification
from .class_weights import label_counts


_LEAST_EXPLAINED = 0.05  # below it, a model counts as no better than the trivial predictor
_ENTRIES = 5  # entries of the log that are averaged, since one is a single batch
_CHECKED_AT = 0.25  # of the run, and again at its end
_FEWEST_STEPS = 100  # of a run that is checked; shorter ones cannot have learned anything


def trivial_baseline(trainer: Trainer) -> "TrivialBaseline | None":
    """The baseline for the model of a trainer, or for the model that it wraps (adapters); None for other models.

    A classifier that reconstructs tokens as well has none: its training loss is a sum, of which labels explain a part.
    """
    for part in trainer.model.modules():
        if isinstance(part, VideoMAEV2ForPreTraining):
            return ReconstructionBaseline(part)
        if isinstance(part, VideoMAEV2ForVideoClassification) and part.decoder is None:
            return LabelBaseline(part, _class_frequencies(trainer, part.config.num_labels))
    return None


def _class_frequencies(trainer: Trainer, num_labels: int) -> torch.Tensor | None:
    """The mean label of an epoch, float64 (num_labels,), if each training video has one class; otherwise None.

    Mixing clips does not change it, and smoothing moves it towards equal frequencies.
    """
    dataset, mixing = trainer.train_dataset, getattr(trainer.data_collator, "mixing", None)
    if not isinstance(dataset, VideoDataset) or not len(dataset.samples) or type(dataset.samples[0].label) is not int:
        return None
    counts, total = label_counts(dataset.samples, num_labels, dataset.weights)
    smoothing = 0.0 if mixing is None else mixing.label_smoothing
    return (1 - smoothing) * counts / total + smoothing / num_labels


class TrivialBaseline(TrainerCallback):
    """Adds `trivial` and `explained` to the log, and prints a line where they show no learning.

    `trivial` is the loss of a predictor without training, and `explained` = 1 - loss / trivial: 0 is no better than
    that predictor, 1 a perfect prediction.
    """

    def __init__(self) -> None:
        self._explained: list[float] = []  # of the last entries of the log
        self._checked = False

    def add_trained(self, batch: dict) -> None:
        """Called for each micro-batch of this process, before the step."""

    def training_entries(self, batch: dict, batch_loss: float, mean_loss: float) -> dict[str, float]:
        """`trivial` and `explained` of the training.

        Args:
            batch: the last micro-batch of the first process.
            batch_loss: its loss.
            mean_loss: the mean loss since the last entry of the log.
        """
        raise NotImplementedError

    def add_evaluated(self, batch: dict) -> None:
        """Called for each batch of an evaluation."""

    def evaluation_entries(self, trainer: Trainer, prefix: str, loss: float) -> dict[str, float]:
        """The entries of an evaluation with this loss, over the batches added since the last call."""
        return {}

    def advice(self, args) -> str:
        """The line for a run that explains too little."""
        raise NotImplementedError

    def on_train_begin(self, args, state, control, **kwargs) -> None:
        self._checked = state.global_step >= _CHECKED_AT * state.max_steps  # by the run that this one resumes

    def on_log(self, args, state, control, logs: dict | None = None, **kwargs) -> None:
        if "explained" not in (logs or {}):
            return
        self._explained = [*self._explained, logs["explained"]][-_ENTRIES:]
        due = state.global_step >= _CHECKED_AT * state.max_steps and len(self._explained) == _ENTRIES
        if due and not self._checked:
            self._checked = True
            self._warn(args, state)

    def on_train_end(self, args, state, control, **kwargs) -> None:
        self._warn(args, state)

    def _warn(self, args, state) -> None:
        """Prints a line if the last entries explain too little."""
        if not self._explained or state.max_steps < _FEWEST_STEPS:
            return
        explained = sum(self._explained) / len(self._explained)
        if explained < _LEAST_EXPLAINED:
            at = f"explained = {100 * explained:.1f} % at step {state.global_step:,} of {state.max_steps:,}"
            tqdm.write(f"{at}: {self.advice(args)}")


class ReconstructionBaseline(TrivialBaseline):
    """Of a pretraining: the smallest of the `trivial_losses` that a model could have without training.

    It is computed on the same batch and masks as the loss that it is compared with: in training the last micro-batch
    of the first process, in an evaluation all batches.
    """

    def __init__(self, model: VideoMAEV2ForPreTraining) -> None:
        super().__init__()
        self.model = model
        self._evaluated: list[tuple[float, int]] = []  # (trivial loss, clips) of each batch of an evaluation

    def training_entries(self, batch: dict, batch_loss: float, mean_loss: float) -> dict[str, float]:
        is_clip = "pixel_values" in batch and batch["pixel_values"].shape[1] == self.model.config.num_frames
        # Images among videos have no neighbours in time.
        return _entries("", self._trivial(batch), batch_loss) if _has_ids(batch) and is_clip else {}

    def add_evaluated(self, batch: dict) -> None:
        if _has_ids(batch):
            self._evaluated.append((self._trivial(batch), len(batch["pixel_values"])))

    def evaluation_entries(self, trainer: Trainer, prefix: str, loss: float) -> dict[str, float]:
        """`trivial` and `explained` of all processes together."""
        batches = torch.tensor(self._evaluated or [(0.0, 0)], dtype=torch.float64)
        self._evaluated = []
        sums = torch.stack([batches.prod(dim=1).sum(), batches[:, 1].sum()]).float().to(trainer.args.device)
        total, clips = trainer.accelerator.reduce(sums, reduction="sum").tolist()
        return _entries(f"{prefix}_", total / clips, loss) if clips else {}

    def advice(self, args) -> str:
        return (
            "the reconstruction is no better than filling patches with one colour. If this lasts, try smaller patches, "
            "mask_type=random or a lower mask_ratio, a lower learning rate, or more steps (see 'When does pretraining "
            "pay?' in the documentation)."
        )

    def _trivial(self, batch: dict) -> float:
        losses = trivial_losses(self.model, batch["pixel_values"], batch["visible_ids"], batch["decoded_ids"])
        return trivial_loss(losses, self.model.config)


class LabelBaseline(TrivialBaseline):
    """Of a finetuning: the best prediction that is the same for every clip.

    For one label per video these are the frequencies of the classes, with a loss of log(classes) if all are as
    frequent; for several labels those of each label; for regression the mean of each target. They are those of the
    training videos or, where these are a stream or have several labels or targets, of the labels that this process has
    trained on so far.

    Args:
        model: the classifier.
        frequencies: float64 (num_labels,), the mean label of an epoch, if it is known.
    """

    def __init__(self, model: VideoMAEV2ForVideoClassification, frequencies: torch.Tensor | None = None) -> None:
        super().__init__()
        self.model, self.frequencies = model, frequencies
        self._sums = torch.zeros(3, model.config.num_labels, dtype=torch.float64)  # values, their squares, their number

    def add_trained(self, batch: dict) -> None:
        labels = batch.get("labels")
        if labels is None or self.frequencies is not None:
            return
        labels = labels.cpu()
        kind, number = self.model.inferred_problem_type(labels), self.model.config.num_labels
        if kind == "single_label_classification" and not labels.is_floating_point():
            labels = torch.nn.functional.one_hot(labels[labels >= 0], number)
        values = labels.double().view(-1, number)
        if kind == "regression":
            mean, std = (torch.tensor(some, dtype=torch.float64) for some in self.model.target_range())
            values = (values - mean) / std
        known = values.isfinite()
        values = values.where(known, 0.0)
        self._sums += torch.stack([values.sum(dim=0), values.square().sum(dim=0), known.double().sum(dim=0)])

    def training_entries(self, batch: dict, batch_loss: float, mean_loss: float) -> dict[str, float]:
        known = self.frequencies is not None or self._sums[2].any()
        return _entries("", self.constant_loss(), mean_loss) if known else {}

    def constant_loss(self) -> float:
        """The training loss of the best constant prediction for the labels so far."""
        sums, squares, number = self._sums
        means = sums / number.clamp(min=1) if self.frequencies is None else self.frequencies
        kind = self.model.config.problem_type or "single_label_classification"
        if kind == "regression":
            return float((squares - sums * means).sum() / number.sum())
        weights = self.model.class_weights
        weighted = means if weights is None else means * weights.cpu().double()
        if kind == "multi_label_classification":
            absent = 1 - means
            total = weighted + absent
            return float(-(torch.xlogy(weighted, weighted / total) + torch.xlogy(absent, absent / total)).mean())
        return float(-torch.xlogy(weighted, weighted / weighted.sum()).sum())

    def advice(self, args) -> str:
        parameters = list(self.model.parameters())
        trained = sum(one.numel() for one in parameters if one.requires_grad) / sum(one.numel() for one in parameters)
        return (
            f"the loss is no lower than that of one prediction for every video ({self.constant_loss():.3f}): nothing "
            f"was learned about the labels. To be checked, the likeliest reason first: the learning rate "
            f"({args.learning_rate:.3g} at its peak), the number of steps, labels that do not belong to their videos, "
            f"frozen parts ({100 * trained:.0f} % of the parameters are trained)."
        )


def _has_ids(batch: dict) -> bool:
    """Whether a batch has its masks; those of other collators leave sampling them to the model."""
    return "visible_ids" in batch and "decoded_ids" in batch


def _entries(prefix: str, trivial: float, loss: float) -> dict[str, float]:
    explained = 1 - loss / trivial if trivial > 0 else 0.0  # 0: clips of a single colour, or labels that are all equal
    return {f"{prefix}trivial": round(trivial, 4), f"{prefix}explained": round(explained, 4)}

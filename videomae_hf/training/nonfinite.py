# Copyright 2026 The videomae_hf authors. Licensed under the Apache License, Version 2.0.
"""A loss or gradient that is not finite ends the run before it reaches the weights, and names the videos."""

import json
import math
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch
from accelerate.utils import gather_object
from transformers import Trainer

from ..data.text_files import write_text


@dataclass
class NamingCollator:
    """A collator that adds `paths`, the names of the videos, to the batch; `StepRecord` takes them out again."""

    collate: Callable

    def __call__(self, items: list) -> dict:
        views = [view for item in items for view in (item if isinstance(item, list) else [item])]
        paths = [view.pop("path", None) for view in views]
        return {**self.collate(items), "paths": paths}


class StepRecord:
    """What an optimizer step has seen in this process: the losses of its batches, and their videos."""

    def __init__(self):
        self.paths, self.losses = [], []

    def begin(self, batches: list[dict]):
        self.paths, self.losses = [batch.pop("paths", []) for batch in batches], []

    @property
    def num_clips(self) -> int:
        """Of all batches; several of each video with `num_sample`."""
        return sum(len(paths) for paths in self.paths)

    def check(self, trainer: Trainer, grad_norm: torch.Tensor | float):
        """Raises FloatingPointError, in all processes alike, if the gradient is not finite.

        A loss that is not finite makes the gradient so, in all processes: one number tells of all. That costs one wait
        for the device in a step, and `logging_nan_inf_filter`, which is off, would cost two for each batch.
        """
        if math.isfinite(grad_norm):
            return
        scale = trainer.current_gradient_accumulation_steps  # by which the Trainer divides each
        own = [
            {"rank": trainer.args.process_index, "loss": loss.item() * scale, "videos": paths}
            for loss, paths in zip(self.losses, self.paths)
        ]
        batches = gather_object(own)
        bad = [batch for batch in batches if not math.isfinite(batch["loss"])]
        if not bad and trainer.accelerator.scaler is not None:
            return  # float16: the scaler leaves such steps out, and lowers its scale
        step, file = trainer.state.global_step + 1, Path(trainer.args.output_dir, "nonfinite.json")
        if trainer.is_world_process_zero():
            report = {"step": step, "grad_norm": _json(float(grad_norm)), "batches": bad or batches}
            for batch in report["batches"]:
                batch["loss"] = _json(batch["loss"])
            file.parent.mkdir(parents=True, exist_ok=True)
            write_text(file, json.dumps(report, indent=2))
        trainer.accelerator.wait_for_everyone()
        what = f"loss is {bad[0]['loss']} on rank {bad[0]['rank']}" if bad else f"gradient norm is {float(grad_norm)}"
        raise FloatingPointError(
            f"Step {step}: the {what}. The run stops before it reaches the weights; {file} names the videos of the "
            f"step. A lower learning rate, more warmup, max_grad_norm or bf16 in place of fp16 may help."
        )


def _json(number: float) -> float | str:
    return number if math.isfinite(number) else str(number)  # JSON has no nan

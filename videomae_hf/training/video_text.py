# Copyright 2026 The videomae_hf authors. Licensed under the Apache License, Version 2.0.
"""The Trainer of VideoBERT: exact means of each objective over accumulation and processes, each of them in the log."""

from collections import defaultdict

import torch
from transformers.trainer_utils import EvalLoopOutput

from ..data.video_dataset import VideoDataset
from ..data.video_text import VideoTextCollator
from ..evaluation.metrics import metrics_of
from ..models.modeling_videobert_pretraining import VideoBertForPreTraining
from ..settings.run import Run
from .distributed import report
from .fit import checkpoint_to_resume, origin_of_run, save_results
from .planning import DataWaitCallback, PaceCallback
from .run_checks import check_evaluation
from .run_record import RunRecord
from .trainer import VideoMAETrainer


LOSSES = ("mlm_loss", "video_loss", "match_loss")


class VideoTextTrainer(VideoMAETrainer):
    """`VideoMAETrainer` for models of videos and texts.

    In pretraining, each loss of a step is the mean over its terms in all batches of the step, however these are divided
    over processes and accumulation steps.
    """

    def __init__(self, *args, **kwargs) -> None:
        super().__init__(*args, **kwargs)
        self._counts: torch.Tensor | None = None
        self._trained, self._evaluated = defaultdict(list), defaultdict(list)

    def get_batch_samples(self, *args, **kwargs) -> tuple[list[dict], torch.Tensor | int | None]:
        batches, number = super().get_batch_samples(*args, **kwargs)
        model = self.accelerator.unwrap_model(self.model)
        if isinstance(model, VideoBertForPreTraining) and batches:
            counts = sum(model.objective_counts(**self._prepare_inputs(batch)) for batch in batches)
            counts = self.accelerator.reduce(counts, reduction="sum")
            # The Trainer divides losses by the number of batches, and processes average their gradients.
            self._counts = counts / (len(batches) * self.args.world_size)
        return batches, number

    def compute_loss(self, model, inputs: dict, *args, **kwargs):
        if self._counts is None:
            return super().compute_loss(model, inputs, *args, **kwargs)
        if model.training:
            outputs = model(**inputs, loss_counts=self._counts)
        else:
            outputs = model(**inputs)
        found = self._trained if model.training else self._evaluated
        for name in LOSSES:
            if outputs.get(name) is not None:
                found[name].append(outputs[name].detach())
        return (outputs.loss, outputs) if kwargs.get("return_outputs") else outputs.loss

    def _means(self, found: dict[str, list[torch.Tensor]]) -> dict[str, float]:
        """The mean of each loss over batches and processes; empties the lists."""
        device = self.args.device
        sums = torch.zeros(2, len(LOSSES), device=device)  # of losses, of batches
        for column, name in enumerate(LOSSES):
            if found[name]:
                sums[0, column], sums[1, column] = torch.stack(found[name]).float().sum(), len(found[name])
        found.clear()
        totals, numbers = self.accelerator.reduce(sums, reduction="sum").tolist()
        means = {name: total / number for name, total, number in zip(LOSSES, totals, numbers) if number}
        return {name: round(mean, 4) for name, mean in means.items()}

    def log(self, logs: dict[str, float], *args, **kwargs) -> None:
        """Adds the mean of each objective since the last entry."""
        if "loss" in logs and self._counts is not None:
            logs.update(self._means(self._trained))
        super().log(logs, *args, **kwargs)

    def evaluation_loop(self, *args, metric_key_prefix: str = "eval", **kwargs) -> EvalLoopOutput:
        self._evaluated.clear()
        output = super().evaluation_loop(*args, metric_key_prefix=metric_key_prefix, **kwargs)
        if self._counts is not None:
            means = self._means(self._evaluated)
            output.metrics.update({f"{metric_key_prefix}_{name}": mean for name, mean in means.items()})
        return output


def fit_video_text(
    run: Run,
    model: torch.nn.Module,
    train_set: VideoDataset,
    eval_set: VideoDataset | None,
    collator: VideoTextCollator,
) -> None:
    """Trains a model of videos and texts, and saves it with its processor and results in `output_dir`."""
    args, record = run.training, RunRecord.of(run, model.config, train_set)
    classifies = collator.task == "classification"
    check_evaluation(args, record.problem_type if classifies else None, eval_set, None)
    args.label_names, args.prediction_loss_only = (["labels"], False) if classifies else (["input_ids"], True)
    resume = checkpoint_to_resume(run, record)
    trainer = VideoTextTrainer(
        model=model,
        args=args,
        train_dataset=train_set,
        eval_dataset=eval_set,
        data_collator=collator,
        processing_class=collator.processor,
        compute_metrics=metrics_of(record.problem_type) if classifies else None,
        record=record,
    )
    trainer.add_callback(PaceCallback(1))
    trainer.add_callback(DataWaitCallback())
    number = sum(one.numel() for one in model.parameters() if one.requires_grad)
    report(args, [f"{type(model).__name__}: {number:,} trained parameters; {len(train_set):,} pairs"])
    if args.should_save:
        record.write(args.output_dir, finished=False, **origin_of_run(run))
    result = trainer.train(resume_from_checkpoint=resume)
    save_results(run, trainer, record, result.metrics)

# Copyright 2026 The videomae_hf authors. Licensed under the Apache License, Version 2.0.
"""The Trainer of VideoBERT: exact means of each objective over accumulation and processes, each of them in the log."""

from collections import defaultdict
from collections.abc import Callable

import torch
from transformers.trainer_utils import EvalLoopOutput

from ..data.video_dataset import VideoDataset
from ..data.video_text import VideoTextCollator
from ..evaluation.features import weights_digest
from ..evaluation.metrics import metrics_of
from ..models.modeling_videobert_pretraining import VideoBertForPreTraining
from ..settings.run import Run
from .distributed import report
from .fit import checkpoint_to_resume, origin_of_run, save_results
from .planning import DataWaitCallback, PaceCallback
from .run_checks import check_evaluation
from .run_record import RunRecord
from .trainer import VideoMAETrainer
from .video_text_contrast import add_contrast, check_contrast, contrasts
from .video_text_monitoring import log_examples


LOSSES = ("mlm_loss", "video_loss", "match_loss")


class VideoTextTrainer(VideoMAETrainer):
    """`VideoMAETrainer` for models of videos and texts.

    In pretraining, each loss of a step is the mean over its terms in all batches of the step, however these are divided
    over processes and accumulation steps.
    """

    def __init__(self, *args, scorer: Callable[[], dict[str, float]] | None = None, **kwargs) -> None:
        super().__init__(*args, **kwargs)
        self.scorer = scorer
        self._counts: torch.Tensor | None = None
        self._trained, self._evaluated = defaultdict(list), defaultdict(list)  # name -> (loss, weight) of each batch

    def get_batch_samples(self, *args, **kwargs) -> tuple[list[dict], torch.Tensor | int | None]:
        batches, number = super().get_batch_samples(*args, **kwargs)
        if self._pretrains and batches:
            counts = sum(self._counts_of(batch) for batch in batches).to(self.args.device)
            counts = self.accelerator.reduce(counts, reduction="sum")
            # The Trainer divides losses by the number of batches, and processes average their gradients.
            self._counts = counts / (len(batches) * self.args.world_size)
            model = self.accelerator.unwrap_model(self.model)
            if contrasts(model):
                add_contrast(batches, model, self.accelerator)
        return batches, number

    @property
    def _pretrains(self) -> bool:
        return isinstance(self.accelerator.unwrap_model(self.model), VideoBertForPreTraining)

    def _counts_of(self, batch: dict) -> torch.Tensor:
        """The numbers of terms of the losses of a batch, for which pixels and features are not needed."""
        model = self.accelerator.unwrap_model(self.model)
        names = ("input_ids", "attention_mask", "video_mask", "text_labels", "masked_segments", "negative_input_ids")
        return model.objective_counts(**{name: batch[name] for name in names if name in batch}).cpu()

    def compute_loss(self, model, inputs: dict, *args, **kwargs):
        if not self._pretrains:
            return super().compute_loss(model, inputs, *args, **kwargs)
        if model.training:
            outputs, weights = model(**inputs, loss_counts=self._counts), [1.0] * len(LOSSES)
        else:
            outputs, weights = model(**inputs), self._counts_of(inputs).tolist()
        found = self._trained if model.training else self._evaluated
        for name, weight in zip(LOSSES, weights):
            loss = outputs.get(name)
            # In training a batch without the objective counts, with 0: the others are scaled to the terms of all.
            found[name].append((torch.zeros((), device=self.args.device) if loss is None else loss.detach(), weight))
        return (outputs.loss, outputs) if kwargs.get("return_outputs") else outputs.loss

    def _means(self, found: dict[str, list[tuple[torch.Tensor, float]]]) -> dict[str, float]:
        """The mean of each loss that is not 0 throughout, over batches and processes; empties the lists."""
        sums = torch.zeros(2, len(LOSSES), device=self.args.device)  # of weighted losses, of weights
        for column, name in enumerate(LOSSES):
            for loss, weight in found[name]:
                sums[0, column] += loss.float() * weight
                sums[1, column] += weight
        found.clear()
        totals, weights = self.accelerator.reduce(sums, reduction="sum").tolist()
        return {name: round(total / weight, 4) for name, total, weight in zip(LOSSES, totals, weights) if total}

    def log(self, logs: dict[str, float], *args, **kwargs) -> None:
        """Adds the mean of each objective since the last entry."""
        if "loss" in logs and self._pretrains:
            logs.update(self._means(self._trained))
        super().log(logs, *args, **kwargs)

    def evaluation_loop(self, *args, metric_key_prefix: str = "eval", **kwargs) -> EvalLoopOutput:
        self._evaluated.clear()
        output = super().evaluation_loop(*args, metric_key_prefix=metric_key_prefix, **kwargs)
        found = self._means(self._evaluated) if self._pretrains else {}
        if self.scorer is not None:
            found |= self.scorer()
        output.metrics.update({f"{metric_key_prefix}_{name}": value for name, value in found.items()})
        return output


def fit_video_text(
    run: Run,
    model: torch.nn.Module,
    train_set: VideoDataset,
    eval_set: VideoDataset | None,
    collator: VideoTextCollator,
    *,
    features_key: str | None = None,
    scorer: Callable[[], dict[str, float]] | None = None,
) -> None:
    """Trains a model of videos and texts, and saves it with its processor and results in `output_dir`.

    Args:
        run: the settings.
        model: the model, with its backbone.
        train_set, eval_set: the pairs.
        collator: makes batches of them.
        features_key: digest of features from a folder, which a resumed run must have as well.
        scorer: further scores for each evaluation, see `scorer_of`.
    """
    args, record = run.training, RunRecord.of(run, model.config, train_set)
    backbone = model.video_bert.backbone
    if backbone is not None and model.config.freeze_backbone:  # whose features are those of the run
        record.data["backbone"] = weights_digest(backbone)[:16]
    if features_key is not None:
        record.data["features"] = features_key
    classifies = collator.task == "classification"
    check_contrast(model, args)
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
        scorer=scorer,
    )
    log_examples(trainer, run)
    trainer.add_callback(PaceCallback(1))
    trainer.add_callback(DataWaitCallback())
    number = sum(one.numel() for one in model.parameters() if one.requires_grad)
    report(args, [f"{type(model).__name__}: {number:,} trained parameters; {len(train_set):,} pairs"])
    if args.should_save:
        record.write(args.output_dir, finished=False, **origin_of_run(run))
    result = trainer.train(resume_from_checkpoint=resume)
    save_results(run, trainer, record, result.metrics)

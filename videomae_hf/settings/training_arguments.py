# Copyright 2026 The videomae_hf authors. Licensed under the Apache License, Version 2.0.
"""transformers' TrainingArguments, and the batch size and learning rate rules of the official recipes.

Rules from v1/run_mae_pretraining.py, v1/run_class_finetuning.py and v1/utils.py.
"""

import math
import os
from dataclasses import dataclass, field
from datetime import timedelta

import torch
import transformers
from packaging.version import Version
from transformers import SchedulerType, TrainingArguments

from ..labels import more_is_better
from ..messages import count


@dataclass
class VideoMAETrainingArguments(TrainingArguments):
    """transformers' TrainingArguments; new fields first, then the ones whose default is another."""

    _argument_group_name = "training"  # in --help

    base_learning_rate: float | None = field(
        default=None,
        metadata={
            "help": "Learning rate for a total batch of 256 clips; the effective one is in proportion. Also sets the "
            "official schedule, warmup and cosine."
        },
    )
    base_min_learning_rate: float = field(
        default=0.0, metadata={"help": "Where the cosine schedule ends, for a total batch of 256 clips as well."}
    )
    warmup_epochs: float = field(default=0.0, metadata={"help": "Epochs of linear warmup from 0."})
    total_batch_size: int | None = field(
        default=None,
        metadata={
            "help": "Videos of one optimizer step, over all processes: sets gradient_accumulation_steps. None is what "
            "the other settings make."
        },
    )
    fit: str | None = field(
        default=None,
        metadata={
            "help": "GPUs to fit into, as 1x24GB, or auto for those that are here: chooses the batch of each, and "
            "activation checkpointing where nothing else helps. total_batch_size stays."
        },
    )
    layer_decay: float = field(
        default=1.0, metadata={"help": "Factor of the learning rate from each encoder layer to the one below it."}
    )
    freeze_layers: int = field(
        default=0, metadata={"help": "Leave the embeddings and the first N encoder blocks as they are."}
    )
    freeze_encoder: bool = field(default=False, metadata={"help": "Leave the whole encoder as it is; train the head."})
    drop_path_warmup_epochs: float = field(
        default=0.0, metadata={"help": "Epochs in which the drop path rate grows linearly from 0."}
    )
    lora_rank: int = field(
        default=0, metadata={"help": "Finetuning: train low-rank adapters (peft) and the head alone; 0 trains all."}
    )
    lora_alpha: float = field(default=16, metadata={"help": "Scale of the adapters, divided by their rank."})
    lora_dropout: float = field(default=0.0, metadata={"help": "Dropout before the adapters."})
    lora_target_modules: list[str] = field(
        default_factory=lambda: ["query", "value"],
        metadata={"help": "Linear layers that get adapters: query, key, value, dense (the others)."},
    )
    overfit_check: bool = field(
        default=False,
        metadata={
            "help": "First see whether a copy of the model can learn one batch by heart; if not, stop and say why."
        },
    )
    early_stopping_patience: int | None = field(
        default=None,
        metadata={
            "help": "Stop when metric_for_best_model has not got better in so many evaluations; the best checkpoint is "
            "kept with load_best_model_at_end."
        },
    )
    early_stopping_threshold: float = field(
        default=0.0, metadata={"help": "How much better it must get for that to count."}
    )
    allow_changes: bool = field(
        default=False,
        metadata={"help": "Go on from a checkpoint that was made with other settings, such as more epochs."},
    )
    max_bad_fraction: float = field(
        default=0.1, metadata={"help": "Part of the videos that may turn out unreadable before the run stops."}
    )
    num_processes: int | None = field(
        default=None, metadata={"help": "How many processes must run; other numbers are refused."}
    )
    fsdp2: bool = field(
        default=False,
        metadata={"help": "Split weights, gradients and optimizer state over all processes."},
    )
    activation_checkpointing: bool | None = field(
        default=None, metadata={"help": "Compute activations again in the backward pass: less memory, a third slower."}
    )
    ema_decay: float | None = field(
        default=None,
        metadata={
            "help": "Keep a moving average of the weights, with this decay in each step (0.9999, say); it is "
            "saved as a model in the folder ema of each checkpoint and of output_dir."
        },
    )
    evaluate_ema: bool = field(
        default=False,
        metadata={"help": "Evaluate this average in place of the weights, and save it as the model of output_dir."},
    )

    resume_from_checkpoint: str | None = field(
        default=None,
        metadata={
            "help": "Go on from a checkpoint of this run, bit for bit: last (or true) for the last complete one in "
            "output_dir, or its folder."
        },
    )
    bf16: bool | None = field(
        default=None,
        metadata={"help": "Mixed precision with bfloat16: by default where the GPU has it; false: float32."},
    )
    output_dir: str | None = field(default="output", metadata={"help": "Where checkpoints and results go."})
    weight_decay: float = field(default=0.05, metadata={"help": "Weight decay; not of biases, norms and tokens."})
    remove_unused_columns: bool = field(default=False, metadata={"help": "Keep False: inputs are built here."})
    dataloader_drop_last: bool = field(
        default=True,
        metadata={"help": "Leave out the videos at the end of an epoch that do not fill an optimizer step."},
    )
    ddp_find_unused_parameters: bool | None = field(default=False, metadata={"help": "Every parameter is used."})
    logging_nan_inf_filter: bool = field(
        default=False, metadata={"help": "Keep False: a loss that is not finite stops the run."}
    )
    report_to: list[str] = field(
        default_factory=lambda: ["none"], metadata={"help": "Trackers: tensorboard, wandb, trackio, ..., or all."}
    )
    logging_steps: float = field(default=10, metadata={"help": "Steps between lines of the log."})

    def __post_init__(self):
        if self.bf16 is None:
            self.bf16 = self._bf16_by_default()
        if "activation_checkpointing" not in TrainingArguments.__dataclass_fields__:  # the older name
            self.gradient_checkpointing = bool(self.gradient_checkpointing or self.activation_checkpointing)
            self.activation_checkpointing = self.gradient_checkpointing
        self.fsdp = self.fsdp == "true" or self.fsdp  # from the command line, where transformers reads it as a name
        self._set_best_metric()
        super().__post_init__()
        if self.fsdp2:
            self._check_fsdp2()
        self._check_average()
        self.total_is_given = self.total_batch_size is not None  # then it holds for any number of processes
        if not self.total_is_given:
            self.total_batch_size = self.videos_per_step
        elif self.fit is None:
            self.accumulate()
        if self.lora_rank < 0 or not self.lora_alpha > 0:
            raise ValueError(f"lora_rank={self.lora_rank} must be 0 or more and lora_alpha={self.lora_alpha} positive.")
        if self.train_sampling_strategy not in ("random", "sequential"):
            raise ValueError(
                f"train_sampling_strategy={self.train_sampling_strategy!r} is for inputs of different lengths, and all "
                f"clips have the same; choose random or sequential."
            )
        if self.warmup_epochs and self.warmup_steps:
            raise ValueError(
                f"warmup_epochs={self.warmup_epochs:g} and warmup_steps={self.warmup_steps:g} are both set; keep one "
                f"(--warmup_epochs 0 takes out that of a recipe)."
            )
        if self.warmup_epochs > self.num_train_epochs:
            raise ValueError(
                f"warmup_epochs={self.warmup_epochs} is longer than num_train_epochs={self.num_train_epochs}."
            )
        if self.base_learning_rate is None:
            if self.base_min_learning_rate:
                raise ValueError(
                    f"base_min_learning_rate={self.base_min_learning_rate} goes with base_learning_rate; set that, or "
                    f"lr_scheduler_kwargs."
                )
            return
        given = self.learning_rate
        default = TrainingArguments.__dataclass_fields__["learning_rate"].default
        # The second is what this method wrote when the same arguments are built again (from training_args.bin, say).
        if given not in (default, self.effective_learning_rate):
            raise ValueError(
                f"learning_rate={given} and base_learning_rate={self.base_learning_rate} are both set; keep one "
                f"(--learning_rate on the command line replaces the base_learning_rate of a recipe)."
            )
        self.learning_rate = self.effective_learning_rate
        self._set_official_schedule()

    def _set_best_metric(self) -> None:
        """Says whether more of `metric_for_best_model` is better: transformers takes all but losses to be so."""
        if self.early_stopping_patience is not None:
            if self.early_stopping_patience < 1:
                raise ValueError(f"early_stopping_patience={self.early_stopping_patience} must be at least 1.")
            if str(getattr(self.eval_strategy, "value", self.eval_strategy)) == "no":
                raise ValueError("early_stopping_patience counts evaluations; set eval_strategy to epoch or steps.")
            self.metric_for_best_model = self.metric_for_best_model or "loss"
            self.restore_callback_states_from_checkpoint = True  # a resumed run goes on counting
        better = more_is_better(self.metric_for_best_model or "")
        if better is None:
            return
        if self.greater_is_better is not None and self.greater_is_better != better:
            raise ValueError(
                f"greater_is_better={self.greater_is_better} contradicts metric_for_best_model="
                f"{self.metric_for_best_model}; leave it out."
            )
        self.greater_is_better = better

    def __getstate__(self) -> dict:
        """What is pickled, into training_args.bin among others: all but the secret."""
        return {**self.__dict__, "hub_token": None}

    def _set_official_schedule(self) -> None:
        """The nearest that transformers has a name for; `VideoMAETrainer.create_scheduler` makes the official one."""
        schedule = SchedulerType.COSINE_WITH_MIN_LR
        options = {"min_lr_rate": self.base_min_learning_rate / self.base_learning_rate}
        default = TrainingArguments.__dataclass_fields__["lr_scheduler_type"].default
        # The last of each is what this method wrote when the same arguments are built again.
        for name, untouched in (
            ("lr_scheduler_type", (default, schedule)),
            ("lr_scheduler_kwargs", (None, {}, options)),
        ):
            if getattr(self, name) not in untouched:
                raise ValueError(
                    f"{name} and base_learning_rate={self.base_learning_rate} are both set; the official schedule goes "
                    f"with base_learning_rate, any other with learning_rate."
                )
        self.lr_scheduler_type, self.lr_scheduler_kwargs = schedule, options

    def _bf16_by_default(self) -> bool:
        """On a GPU that computes in bfloat16, unless float16 is asked for, here or of accelerate launch.

        Deviation: officially float16, but in V2's finetuning.
        """
        fp16 = self.fp16 or os.environ.get("ACCELERATE_MIXED_PRECISION") in ("fp16", "fp8")
        return not (fp16 or self.use_cpu) and torch.cuda.is_available() and torch.cuda.is_bf16_supported(False)

    def accumulate(self) -> None:
        """Sets `gradient_accumulation_steps` so that a step has `total_batch_size` videos.

        Raises:
            ValueError: the processes and their batches do not make that number, or not with the steps that were given.
        """
        total, batch, processes = self.total_batch_size, self.train_batch_size, self.world_size
        steps, rest = divmod(total, batch * processes)
        if rest or steps == 0:
            sizes = [size for size in range(1, total + 1) if total % (size * processes) == 0]
            way_out = f"take per_device_train_batch_size of {', '.join(map(str, sizes))}"
            if not sizes:
                way_out = f"start a number of processes that divides it, or set total_batch_size to {processes * batch}"
            raise ValueError(
                f"total_batch_size={total} is no multiple of per_device_train_batch_size={batch} x "
                f"{count(processes, 'process')}; {way_out}."
            )
        if self.gradient_accumulation_steps not in (1, steps):
            raise ValueError(
                f"gradient_accumulation_steps={self.gradient_accumulation_steps} does not make total_batch_size={total}"
                f" of {batch} videos x {count(processes, 'process')}; leave it out (it would be {steps}), or "
                f"total_batch_size."
            )
        self.gradient_accumulation_steps = steps

    def _check_fsdp2(self) -> None:
        """Raises ValueError for what does not go with fsdp2."""
        if Version(transformers.__version__) < Version("5.23") or Version(torch.__version__) < Version("2.8"):
            raise ValueError(
                f"fsdp2 needs transformers 5.23 and torch 2.8; here are {transformers.__version__} and "
                f"{torch.__version__}."
            )
        if self.fsdp or self.deepspeed:
            raise ValueError("fsdp2 does not go with fsdp or deepspeed; keep one of them.")

    def _check_average(self) -> None:
        if self.ema_decay is None:
            if self.evaluate_ema:
                raise ValueError("evaluate_ema=True needs an average of the weights; set ema_decay, to 0.9999 say.")
            return
        if not 0 < self.ema_decay < 1:
            raise ValueError(f"ema_decay={self.ema_decay} must lie between 0 and 1; 0.9999 is common.")
        if self.lora_rank:  # transformers would take the folder of the average for one more adapter, and not resume
            raise ValueError("ema_decay averages all weights, and with lora_rank few are trained; leave one out.")
        if self.deepspeed or self.fsdp or self.fsdp2:
            raise ValueError(
                "ema_decay averages whole weights, which deepspeed, fsdp and fsdp2 split up; leave it out."
            )

    @property
    def effective_learning_rate(self) -> float:
        """`base_learning_rate * total_batch_size / 256`, the rule of V1 and V2."""
        return self.base_learning_rate * self.total_batch_size / 256

    def steps_per_epoch(self, num_videos: int) -> int:
        """Optimizer steps of an epoch of so many videos, over all processes.

        With `dataloader_drop_last` whole steps alone, as in the official code (v1/run_class_finetuning.py): however a
        step is split over processes and accumulation steps, an epoch has as many of them.

        Raises:
            ValueError: not even one.
        """
        if not self.dataloader_drop_last:
            batches = math.ceil(math.ceil(num_videos / self.train_batch_size) / self.world_size)
            return math.ceil(batches / self.gradient_accumulation_steps)
        if num_videos < self.videos_per_step:
            raise ValueError(
                f"An epoch has {num_videos} videos, fewer than the {self.videos_per_step} of one step; lower "
                f"per_device_train_batch_size or gradient_accumulation_steps."
            )
        return num_videos // self.videos_per_step

    @property
    def videos_per_step(self) -> int:
        """Of the processes that run."""
        return self.train_batch_size * self.gradient_accumulation_steps * self.world_size

    def get_warmup_steps(self, num_training_steps: int) -> int:
        """Steps of `warmup_epochs`: their share of `num_train_epochs`, also where `max_steps` cuts a run short."""
        if self.warmup_epochs == 0:
            return super().get_warmup_steps(num_training_steps)
        return round(self.warmup_epochs / self.num_train_epochs * num_training_steps)


def join_processes(ddp_timeout: int) -> None:
    """Joins the processes of a launcher on CPUs. transformers does so as well, and forgets `ddp_timeout` (seconds)."""
    if int(os.environ.get("WORLD_SIZE", 1)) > 1 and not torch.distributed.is_initialized():
        torch.distributed.init_process_group("gloo", timeout=timedelta(seconds=ddp_timeout))

# Copyright 2026 The videomae_hf authors. Licensed under the Apache License, Version 2.0.
"""transformers' TrainingArguments with the batch size and learning rate rules of the official recipes.

The rules are those of v1/run_mae_pretraining.py, v1/run_class_finetuning.py and v1/utils.py.
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
    """transformers' TrainingArguments; new fields come first, then the fields whose defaults differ."""

    _argument_group_name = "training"  # in --help

    base_learning_rate: float | None = field(
        default=None,
        metadata={
            "help": "Learning rate for a total batch of 256 clips, scaled in proportion to total_batch_size. Also "
            "selects the official schedule, warmup and cosine."
        },
    )
    base_min_learning_rate: float = field(
        default=0.0,
        metadata={"help": "Learning rate at the end of the cosine schedule, for a total batch of 256 clips."},
    )
    warmup_epochs: float = field(default=0.0, metadata={"help": "Epochs of linear warmup of the learning rate from 0."})
    total_batch_size: int | None = field(
        default=None,
        metadata={
            "help": "Videos per optimizer step over all processes; sets gradient_accumulation_steps. By default it "
            "follows from the other settings."
        },
    )
    fit: str | None = field(
        default=None,
        metadata={
            "help": "GPUs that the run must fit on, such as 1x24GB, or auto for the GPUs of this machine: chooses the "
            "batch of each GPU, and activation checkpointing if necessary. total_batch_size is unchanged."
        },
    )
    layer_decay: float = field(
        default=1.0,
        metadata={"help": "Factor between the learning rates of an encoder layer and of the layer above it."},
    )
    freeze_layers: int = field(default=0, metadata={"help": "Freeze the embeddings and the first N encoder blocks."})
    freeze_encoder: bool = field(default=False, metadata={"help": "Freeze the whole encoder and train the head alone."})
    drop_path_warmup_epochs: float = field(
        default=0.0, metadata={"help": "Epochs over which the drop path rate grows linearly from 0."}
    )
    lora_rank: int = field(
        default=0,
        metadata={"help": "Finetuning: train only low-rank adapters (peft) and the head; 0 trains the whole model."},
    )
    lora_alpha: float = field(
        default=16, metadata={"help": "Scale of the adapters; their output is multiplied by lora_alpha / lora_rank."}
    )
    lora_dropout: float = field(default=0.0, metadata={"help": "Dropout rate before the adapters."})
    lora_target_modules: list[str] = field(
        default_factory=lambda: ["query", "value"],
        metadata={"help": "Linear layers that get adapters: query, key, value, dense (all others)."},
    )
    overfit_check: bool = field(
        default=False,
        metadata={
            "help": "First check that a copy of the model can overfit a single batch; otherwise stop and report why."
        },
    )
    early_stopping_patience: int | None = field(
        default=None,
        metadata={
            "help": "Stop after this many evaluations without improvement of metric_for_best_model; with "
            "load_best_model_at_end, the best checkpoint is kept."
        },
    )
    early_stopping_threshold: float = field(
        default=0.0, metadata={"help": "Smallest change of the metric that counts as an improvement."}
    )
    allow_changes: bool = field(
        default=False,
        metadata={"help": "Resume from a checkpoint even if its settings differ, for example with more epochs."},
    )
    max_bad_fraction: float = field(
        default=0.1, metadata={"help": "Fraction of unreadable videos above which the run stops."}
    )
    num_processes: int | None = field(
        default=None, metadata={"help": "Number of processes that must be running; any other number is refused."}
    )
    fsdp2: bool = field(
        default=False,
        metadata={"help": "Shard weights, gradients and optimizer state over all processes."},
    )
    activation_checkpointing: bool | None = field(
        default=None, metadata={"help": "Recompute activations in the backward pass: less memory, a third slower."}
    )
    ema_decay: float | None = field(
        default=None,
        metadata={
            "help": "Keep a moving average of the weights with this decay per step, such as 0.9999; it is saved as a "
            "model in the folder ema of each checkpoint and of output_dir."
        },
    )
    evaluate_ema: bool = field(
        default=False,
        metadata={"help": "Evaluate the moving average instead of the weights, and save it as the final model."},
    )

    resume_from_checkpoint: str | None = field(
        default=None,
        metadata={
            "help": "Resume this run bit for bit: last (or true) for the last complete checkpoint in output_dir, or "
            "the folder of a checkpoint."
        },
    )
    bf16: bool | None = field(
        default=None,
        metadata={"help": "Mixed precision with bfloat16; by default enabled if the GPU supports it. false: float32."},
    )
    output_dir: str | None = field(default="output", metadata={"help": "Folder for checkpoints and results."})
    optim: str = field(
        default=TrainingArguments.__dataclass_fields__["optim"].default,
        metadata={"help": "Optimizer: one of transformers, or muon for matrices of blocks, AdamW for others."},
    )
    weight_decay: float = field(default=0.05, metadata={"help": "Weight decay, except for biases, norms and tokens."})
    remove_unused_columns: bool = field(
        default=False, metadata={"help": "Keep False: the data sets return exactly the inputs of the models."}
    )
    dataloader_drop_last: bool = field(
        default=True,
        metadata={"help": "Leave out the videos at the end of an epoch that do not fill an optimizer step."},
    )
    ddp_find_unused_parameters: bool | None = field(
        default=False, metadata={"help": "Keep False: the loss uses every trained parameter."}
    )
    logging_nan_inf_filter: bool = field(
        default=False, metadata={"help": "Keep False: a non-finite loss must stop the run."}
    )
    report_to: list[str] = field(
        default_factory=lambda: ["none"], metadata={"help": "Trackers: tensorboard, wandb, trackio, ..., or all."}
    )
    logging_steps: float = field(default=10, metadata={"help": "Optimizer steps between log entries."})

    def __post_init__(self):
        if self.bf16 is None:
            self.bf16 = self._bf16_by_default()
        if "activation_checkpointing" not in TrainingArguments.__dataclass_fields__:  # transformers with the older name
            self.gradient_checkpointing = bool(self.gradient_checkpointing or self.activation_checkpointing)
            self.activation_checkpointing = self.gradient_checkpointing
        self.muon = self.optim == "muon"
        self.fsdp = self.fsdp == "true" or self.fsdp  # transformers reads the option of the command line as text
        self._set_best_metric()
        if self.muon:  # transformers checks the name, of which it knows no muon
            self.optim = "adamw_torch"
        super().__post_init__()
        if self.device.type == "cpu":  # transformers does so for use_cpu only, and torch warns at each evaluation
            self.dataloader_pin_memory = False
        if self.muon:
            self.optim = "muon"
            self._check_muon()
        if self.fsdp2:
            self._check_fsdp2()
        self._check_average()
        self.total_is_given = self.total_batch_size is not None  # then it is the same for any number of processes
        if not self.total_is_given:
            self.total_batch_size = self.videos_per_step
        elif self.fit is None:
            self.accumulate()
        if self.lora_rank < 0 or not self.lora_alpha > 0:
            raise ValueError(f"lora_rank={self.lora_rank} must be 0 or more and lora_alpha={self.lora_alpha} positive.")
        if self.train_sampling_strategy not in ("random", "sequential"):
            raise ValueError(
                f"train_sampling_strategy={self.train_sampling_strategy!r} is for inputs of different lengths, but all "
                f"clips have the same length; choose random or sequential."
            )
        if self.warmup_epochs and self.warmup_steps:
            raise ValueError(
                f"warmup_epochs={self.warmup_epochs:g} and warmup_steps={self.warmup_steps:g} are both set; keep one "
                f"(--warmup_epochs 0 removes the setting of a recipe)."
            )
        if self.warmup_epochs > self.num_train_epochs:
            raise ValueError(
                f"warmup_epochs={self.warmup_epochs} is longer than num_train_epochs={self.num_train_epochs}."
            )
        if self.base_learning_rate is None:
            if self.base_min_learning_rate:
                raise ValueError(
                    f"base_min_learning_rate={self.base_min_learning_rate} needs base_learning_rate; set that, or use "
                    f"lr_scheduler_kwargs."
                )
            return
        given = self.learning_rate
        default = TrainingArguments.__dataclass_fields__["learning_rate"].default
        # Arguments built again, for example from training_args.bin, already have the rate that this method sets.
        if given not in (default, self.effective_learning_rate):
            raise ValueError(
                f"learning_rate={given} and base_learning_rate={self.base_learning_rate} are both set; keep one "
                f"(--learning_rate on the command line replaces the base_learning_rate of a recipe)."
            )
        self.learning_rate = self.effective_learning_rate
        self._set_official_schedule()

    def _set_best_metric(self) -> None:
        """Sets `greater_is_better` for `metric_for_best_model`: transformers assumes True for all but losses."""
        if self.early_stopping_patience is not None:
            if self.early_stopping_patience < 1:
                raise ValueError(f"early_stopping_patience={self.early_stopping_patience} must be at least 1.")
            if str(getattr(self.eval_strategy, "value", self.eval_strategy)) == "no":
                raise ValueError("early_stopping_patience counts evaluations; set eval_strategy to epoch or steps.")
            self.metric_for_best_model = self.metric_for_best_model or "loss"
            self.restore_callback_states_from_checkpoint = True  # a resumed run continues the count
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
        """The pickled state, as in training_args.bin: everything except the token of the Hub."""
        return {**self.__dict__, "hub_token": None}

    def _set_official_schedule(self) -> None:
        """Names the closest schedule of transformers; `VideoMAETrainer.create_scheduler` creates the official one."""
        schedule = SchedulerType.COSINE_WITH_MIN_LR
        options = {"min_lr_rate": self.base_min_learning_rate / self.base_learning_rate}
        default = TrainingArguments.__dataclass_fields__["lr_scheduler_type"].default
        # Arguments built again already have the values that this method sets, the last of each line.
        for name, untouched in (
            ("lr_scheduler_type", (default, schedule)),
            ("lr_scheduler_kwargs", (None, {}, options)),
        ):
            if getattr(self, name) not in untouched:
                raise ValueError(
                    f"{name} and base_learning_rate={self.base_learning_rate} are both set; base_learning_rate selects "
                    f"the official schedule, so that any other needs learning_rate instead."
                )
        self.lr_scheduler_type, self.lr_scheduler_kwargs = schedule, options

    def _bf16_by_default(self) -> bool:
        """True on a GPU that supports bfloat16, unless float16 is requested, by `fp16` or by accelerate launch.

        Deviation: the official code uses float16, except in V2's finetuning.
        """
        fp16 = self.fp16 or os.environ.get("ACCELERATE_MIXED_PRECISION") in ("fp16", "fp8")
        return not (fp16 or self.use_cpu) and torch.cuda.is_available() and torch.cuda.is_bf16_supported(False)

    def accumulate(self) -> None:
        """Sets `gradient_accumulation_steps` so that a step has `total_batch_size` videos.

        Raises:
            ValueError: the batches of all processes do not divide that number, or do not give it with the
                `gradient_accumulation_steps` that were set.
        """
        total, batch, processes = self.total_batch_size, self.train_batch_size, self.world_size
        steps, rest = divmod(total, batch * processes)
        if rest or steps == 0:
            sizes = [size for size in range(1, total + 1) if total % (size * processes) == 0]
            way_out = f"choose per_device_train_batch_size from {', '.join(map(str, sizes))}"
            if not sizes:
                way_out = f"start a number of processes that divides it, or set total_batch_size to {processes * batch}"
            raise ValueError(
                f"total_batch_size={total} is not a multiple of per_device_train_batch_size={batch} x "
                f"{count(processes, 'process')}; {way_out}."
            )
        if self.gradient_accumulation_steps not in (1, steps):
            raise ValueError(
                f"gradient_accumulation_steps={self.gradient_accumulation_steps} does not give total_batch_size={total}"
                f" with {batch} videos x {count(processes, 'process')}; leave it out (it would be {steps}), or leave "
                f"out total_batch_size."
            )
        self.gradient_accumulation_steps = steps

    def _check_fsdp2(self) -> None:
        """Raises ValueError for versions and settings that fsdp2 cannot be used with."""
        if Version(transformers.__version__) < Version("5.23") or Version(torch.__version__) < Version("2.8"):
            raise ValueError(
                f"fsdp2 needs transformers 5.23 and torch 2.8; installed are {transformers.__version__} and "
                f"{torch.__version__}."
            )
        if self.fsdp or self.deepspeed:
            raise ValueError("fsdp2 cannot be combined with fsdp or deepspeed; keep one of them.")

    def _check_muon(self) -> None:
        """Raises ValueError for versions and settings that `optim: muon` cannot be used with."""
        if not hasattr(torch.optim, "Muon"):
            raise ValueError(f"optim=muon needs torch 2.9; installed is {torch.__version__}.")
        if self.deepspeed or self.fsdp or self.fsdp2:
            raise ValueError(
                "optim=muon orthogonalises whole matrices, but deepspeed, fsdp and fsdp2 shard them; leave one out."
            )
        if self.lora_rank:
            raise ValueError(
                "optim=muon is for the matrices of a model, not for the factors of lora_rank; leave one out."
            )

    def _check_average(self) -> None:
        """Raises ValueError for settings that a moving average of the weights cannot be used with."""
        if self.ema_decay is None:
            if self.evaluate_ema:
                raise ValueError(
                    "evaluate_ema=True needs a moving average of the weights; set ema_decay, for example 0.9999."
                )
            return
        if not 0 < self.ema_decay < 1:
            raise ValueError(f"ema_decay={self.ema_decay} must lie between 0 and 1; 0.9999 is common.")
        if self.lora_rank:  # transformers would read the folder of the average as another adapter, and fail to resume
            raise ValueError("ema_decay cannot be combined with lora_rank, which trains few weights; leave one out.")
        if self.deepspeed or self.fsdp or self.fsdp2:
            raise ValueError(
                "ema_decay averages whole weights, but deepspeed, fsdp and fsdp2 shard them; leave it out."
            )

    @property
    def effective_learning_rate(self) -> float:
        """`base_learning_rate * total_batch_size / 256`, the rule of V1 and V2."""
        return self.base_learning_rate * self.total_batch_size / 256

    def steps_per_epoch(self, num_videos: int) -> int:
        """Optimizer steps in an epoch of `num_videos` videos, over all processes.

        With `dataloader_drop_last`, only complete steps count, as in the official code (v1/run_class_finetuning.py), so
        that an epoch has the same number of steps however each is split over processes and accumulation steps.

        Raises:
            ValueError: the videos do not fill a single step.
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
        """Videos per optimizer step of the running processes."""
        return self.train_batch_size * self.gradient_accumulation_steps * self.world_size

    def get_warmup_steps(self, num_training_steps: int) -> int:
        """Steps of `warmup_epochs`: their share of `num_train_epochs`, even if `max_steps` ends the run earlier."""
        if self.warmup_epochs == 0:
            return super().get_warmup_steps(num_training_steps)
        return round(self.warmup_epochs / self.num_train_epochs * num_training_steps)


def join_processes(ddp_timeout: int) -> None:
    """Joins the processes of a launcher on CPUs with `ddp_timeout` (seconds), which transformers ignores on CPUs."""
    if int(os.environ.get("WORLD_SIZE", 1)) > 1 and not torch.distributed.is_initialized():
        torch.distributed.init_process_group("gloo", timeout=timedelta(seconds=ddp_timeout))

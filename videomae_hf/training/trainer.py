# Copyright 2026 The videomae_hf authors. Licensed under the Apache License, Version 2.0.
"""transformers' Trainer, extended for masked video transformers: parameter groups, streams, throughput, bad videos."""

import logging
import math
import time
from collections.abc import Iterator
from concurrent.futures import Future
from contextlib import AbstractContextManager, contextmanager, nullcontext, suppress
from functools import partial
from pathlib import Path

import torch
from huggingface_hub import CommitInfo
from torch.optim.lr_scheduler import LRScheduler
from torch.utils.data import DataLoader, RandomSampler, Sampler, SequentialSampler
from transformers import EarlyStoppingCallback, Trainer, TrainerCallback
from transformers.trainer import SCHEDULER_NAME
from transformers.trainer_utils import EvalLoopOutput, TrainOutput

from ..checkpoints.run_folders import list_files
from ..data.kinds import OneKindSampler
from ..data.video_dataset import BadVideosError, VideoDataset, generator_of
from ..data.video_stream import SkippingCollator, VideoStream
from ..settings.training_arguments import VideoMAETrainingArguments
from .adaptation import save_config, save_merged
from .distributed import ProcessesCallback, check_sharding
from .monitoring import KindLosses, Probe, random_state_kept
from .muon import MuonAndAdamW
from .optimization import DropPathWarmup, WeightAverage, official_schedule, parameter_groups
from .publishing import HubUploads
from .run_record import RunRecord
from .safeguards import (
    NamingCollator,
    StepRecord,
    StopOnSignal,
    check_finite,
    checkpoint_written,
    flush_to_disk,
    folder_named,
)
from .sharding import load_optimizer, load_weights, save_optimizer
from .trivial_baseline import trivial_baseline


logger = logging.getLogger(__name__)


class VideoMAETrainer(Trainer):
    """A `Trainer` for video models.

    It adds the official parameter groups and schedule, the throughput and the time spent waiting for data in the log, a
    limit on bad videos, a moving average of the weights, and checkpoints that survive interruptions.

    Raises (by `train`):
        BadVideosError: the fraction of bad videos is above `max_bad_fraction`.
        FloatingPointError: a loss or gradient is not finite; nonfinite.json in `output_dir` names the videos.
        ChildProcessError: a worker of a data loader was killed.
        SystemExit: a signal has ended the run, which has saved a checkpoint (see `StopOnSignal`).
    """

    args: VideoMAETrainingArguments

    def __init__(
        self, model=None, args=None, *others, probe: Probe | None = None, record: RunRecord | None = None, **kwargs
    ) -> None:
        # transformers refuses to save the optimizer's state with FSDP2, which it cannot resume; `sharding` saves it.
        with _replaced(args, "save_only_model", True) if args is not None and args.fsdp2 else nullcontext():
            super().__init__(model, args, *others, **kwargs)
        check_sharding(self)
        self.probe, self.record = probe, record
        self.last_evaluation: EvalLoopOutput | None = None
        self._seconds_waiting = self._seconds_computing = 0.0
        self._clips_timed = self._steps_timed = 0
        self._step = StepRecord()
        self._stop = StopOnSignal()
        self.average = WeightAverage(self.args.ema_decay) if self.args.ema_decay is not None else None
        self._kinds = None
        if getattr(self.train_dataset, "kinds", None) is not None:
            self._kinds = KindLosses(self.model.config.num_frames)
        self.trivial = trivial_baseline(self)
        if self.trivial is not None:
            self.add_callback(self.trivial)
        self.add_callback(_DataCallback(self))
        self.add_callback(ProcessesCallback(self.train_dataset))
        if self.args.drop_path_warmup_epochs > 0:
            self.add_callback(DropPathWarmup(self.model, self.args.drop_path_warmup_epochs))
        if self.average is not None:
            self.add_callback(_AverageCallback(self.average))
        self.add_callback(self._stop)
        if isinstance(self.train_dataset, VideoStream):
            self.add_callback(_SkipCallback(self.train_dataset))
        if self.args.early_stopping_patience is not None:
            options = (self.args.early_stopping_patience, self.args.early_stopping_threshold)
            self.add_callback(EarlyStoppingCallback(*options))

    def create_optimizer(self, model=None) -> torch.optim.Optimizer:
        if self.optimizer is None and self.optimizer_cls_and_kwargs is None:
            model = self.model if model is None else model
            args = self.args
            if args.muon:
                options = {"lr": args.learning_rate, "betas": (args.adam_beta1, args.adam_beta2)}
                optimizer_class, options = MuonAndAdamW, {**options, "eps": args.adam_epsilon}
            else:
                optimizer_class, options = self.get_optimizer_cls_and_kwargs(args, model)
            rates = (args.learning_rate, args.weight_decay, args.layer_decay)
            options["params"] = parameter_groups(model, *rates, muon=args.muon)
            self.optimizer_cls_and_kwargs = (optimizer_class, options)
        return super().create_optimizer(model)

    def create_scheduler(self, num_training_steps: int, optimizer: torch.optim.Optimizer | None = None) -> LRScheduler:
        """The official schedule with `base_learning_rate`, otherwise the schedule that `lr_scheduler_type` names."""
        args = self.args
        if self.lr_scheduler is None and args.base_learning_rate is not None:
            lowest = args.base_min_learning_rate / args.base_learning_rate
            warmup = args.get_warmup_steps(num_training_steps)
            optimizer = self.optimizer if optimizer is None else optimizer
            self.lr_scheduler = official_schedule(optimizer, warmup, num_training_steps, lowest)
            self._created_lr_scheduler = True  # so that another call of `train` creates a new one
        return super().create_scheduler(num_training_steps, optimizer)

    def _get_train_sampler(self, train_dataset=None) -> Sampler | None:
        """transformers' sampler, over the videos that fill whole optimizer steps."""
        dataset = self.train_dataset if train_dataset is None else train_dataset
        if getattr(dataset, "kinds", None) is not None:
            return self._one_kind_sampler(dataset)
        sampler = super()._get_train_sampler(dataset)
        if sampler is None or not self.args.dataloader_drop_last:
            return sampler
        num_videos = self.args.steps_per_epoch(len(dataset)) * self.args.videos_per_step
        if isinstance(sampler, SequentialSampler):
            return SequentialSampler(range(num_videos))
        # accelerate replaces it by a sampler that copies num_samples. Each epoch leaves out different videos.
        return RandomSampler(dataset, num_samples=num_videos)

    def _one_kind_sampler(self, dataset: VideoDataset) -> OneKindSampler:
        args, batch_size = self.args, self.args.train_batch_size
        if args.train_sampling_strategy != "random":
            raise ValueError("train_sampling_strategy=sequential cannot alternate images and videos; leave it out.")
        number = math.ceil(len(dataset) / batch_size)
        if args.dataloader_drop_last:
            number = args.steps_per_epoch(len(dataset)) * args.videos_per_step // batch_size
        return OneKindSampler(dataset, batch_size, number)

    def train(self, *args, **kwargs) -> TrainOutput:
        try:
            with self._stop.catching():
                return super().train(*args, **kwargs)
        except (RuntimeError, ConnectionError, EOFError) as error:
            if not self._is_of_killed_worker(error):
                raise
            with suppress(RuntimeError):
                # torch raises an error of its own for the worker's death, which may come after that of the closed pipe.
                time.sleep(1)
            raise ChildProcessError(
                f"A DataLoader worker died ({error}). If it was killed, memory ran out: lower "
                f"dataloader_num_workers, dataloader_prefetch_factor or, with streaming, shuffle_buffer."
            ) from error

    def _is_of_killed_worker(self, error: Exception) -> bool:
        if isinstance(error, RuntimeError):
            return str(error).startswith("DataLoader worker (pid")
        # The error must come from the transfer of a batch, not from code in the worker.
        return self.args.dataloader_num_workers > 0 and "in DataLoader worker process" not in str(error)

    def get_train_dataloader(self) -> DataLoader:
        """The data loader of the training set.

        A stream bypasses accelerate, which would divide it among the processes again: it already is the part of this
        process.
        """
        stream, args = self.train_dataset, self.args
        if not isinstance(stream, VideoStream):
            with _replaced(self, "data_collator", NamingCollator(self.data_collator)):
                return self._with_lasting_workers(super().get_train_dataloader())
        return DataLoader(
            stream,
            batch_size=stream.batch_size,
            collate_fn=SkippingCollator(NamingCollator(self.data_collator)),
            num_workers=args.dataloader_num_workers,
            worker_init_fn=self._stop.worker_init_fn(),
            pin_memory=args.dataloader_pin_memory,
            persistent_workers=args.dataloader_persistent_workers,
            prefetch_factor=args.dataloader_prefetch_factor,
            multiprocessing_context=args.dataloader_multiprocessing_context,
        )

    def get_eval_dataloader(self, *args, **kwargs) -> DataLoader:
        with _last_batch_kept(self.args):
            return self._with_lasting_workers(super().get_eval_dataloader(*args, **kwargs))

    def get_test_dataloader(self, *args, **kwargs) -> DataLoader:
        with _last_batch_kept(self.args):
            return super().get_test_dataloader(*args, **kwargs)

    def _with_lasting_workers(self, loader: DataLoader) -> DataLoader:
        """Lets the workers of a data loader of accelerate survive signals, see `StopOnSignal`."""
        loader.base_dataloader.worker_init_fn = self._stop.worker_init_fn(loader.worker_init_fn)
        return loader

    def get_batch_samples(self, *args, **kwargs) -> tuple[list, torch.Tensor | int | None]:
        start = time.perf_counter()
        batches, num_items = super().get_batch_samples(*args, **kwargs)
        self._seconds_waiting += time.perf_counter() - start
        self._step.begin(batches)
        if self.trivial is not None:
            for batch in batches:
                self.trivial.add_trained(batch)
        self._clips_timed += self._step.num_clips
        return batches, num_items

    def training_step(self, model, inputs: dict, *args, **kwargs) -> torch.Tensor:
        loss = super().training_step(model, inputs, *args, **kwargs)
        self._step.losses.append(loss)
        if self._kinds is not None:
            self._kinds.add(inputs, loss * self.current_gradient_accumulation_steps)  # the Trainer has divided it
        return loss

    def _get_grad_norm(self, *args, **kwargs) -> torch.Tensor | float:
        grad_norm = super()._get_grad_norm(*args, **kwargs)
        self._step.check(self, grad_norm)
        return grad_norm

    def _maybe_log_save_evaluate(self, *args, **kwargs) -> None:
        super()._maybe_log_save_evaluate(*args, **kwargs)
        self._stop.leave(self.args, self.state)  # here, because the end of a run may delete the checkpoint

    def _save_checkpoint(self, model, trial) -> None:
        check_finite(self.model, self.state.global_step)
        folder = Path(self._get_output_dir(trial), f"checkpoint-{self.state.global_step}")
        with checkpoint_written(folder, by_this_process=self.args.should_save):
            super()._save_checkpoint(model, trial)
            if self.record is not None and self.args.should_save:
                self.record.write(folder, step=self.state.global_step, files=list_files(folder))
        if self.args.push_to_hub and self.is_world_process_zero():
            self.uploads.add_checkpoint(folder, self.state.global_step)

    def _save_optimizer_and_scheduler(self, output_dir: str) -> None:
        if not self.args.fsdp2:
            return super()._save_optimizer_and_scheduler(output_dir)
        save_optimizer(self.model, self.optimizer, output_dir, by_this_process=self.args.should_save)
        if self.args.should_save:
            torch.save(self.lr_scheduler.state_dict(), Path(output_dir, SCHEDULER_NAME))

    def _load_optimizer_and_scheduler(self, checkpoint: str | None) -> None:
        if not self.args.fsdp2 or checkpoint is None:
            return super()._load_optimizer_and_scheduler(checkpoint)
        load_optimizer(self.model, self.optimizer, checkpoint, self.args.process_index)
        self.lr_scheduler.load_state_dict(torch.load(Path(checkpoint, SCHEDULER_NAME), weights_only=True))

    def _save_rng_state(self, output_dir: str) -> None:
        """Saves the last file that every process writes; trainer_state.json, the mark of completion, comes after."""
        super()._save_rng_state(output_dir)
        self.accelerator.wait_for_everyone()
        if self.args.should_save:
            flush_to_disk(output_dir)

    def save_model(self, output_dir: str | None = None, _internal_call: bool = False) -> None:
        """Saves the model, and its average in the folder `ema`; after a run with `evaluate_ema`, only the average.

        After a run with adapters, it saves the merged model, and the adapters in the folder `adapter`. Nothing is
        uploaded, which transformers would do here; see `push_to_hub`.
        """
        folder, save = output_dir or self.args.output_dir, partial(super().save_model, _internal_call=True)
        with folder_named(folder):
            if self.args.lora_rank and not _internal_call:
                save_merged(self, folder)
            elif self.average is None:
                save(folder)
            elif self.args.evaluate_ema and not _internal_call:
                with self.average.applied(self.model):
                    save(folder)
            else:
                with self.average.applied(self.model):
                    save(str(Path(folder, "ema")))
                save(folder)
            if self.args.lora_rank and _internal_call and self.args.should_save:
                save_config(self.accelerator.unwrap_model(self.model), folder)

    def init_hf_repo(self, token: str | None = None, private: bool | None = None) -> None:
        """Creates the repository, at the start, so that a run that may not upload ends before it trains."""
        if self.is_world_process_zero():
            self.uploads = HubUploads(self.args, token=token, private=private)
            self.hub_model_id = self.uploads.destination.repo_id
        self.push_in_progress = None  # of transformers, not used

    def push_to_hub(
        self,
        commit_message: str | None = "End of training",
        blocking: bool = True,
        token: str | None = None,
        revision: str | None = None,
        private: bool | None = None,
        **kwargs,
    ) -> CommitInfo | Future[CommitInfo] | None:
        """Saves the model in `output_dir` and uploads the folder that `videomae push` builds of it, in one commit.

        The method of transformers would upload the whole output_dir: settings with paths of this machine, logs, and
        pictures of the videos. Other arguments of it, which describe the model card, are ignored.

        Raises:
            UploadError: the Hub refuses, or cannot be reached; the message has the command to repeat it.
        """
        if self.hub_model_id is None:
            self.init_hf_repo(token=token, private=private)
        self.save_model()
        if not self.is_world_process_zero():
            return None
        return self.uploads.finish(self.args.output_dir, commit_message, revision, blocking=blocking)

    def _push_from_checkpoint(self, checkpoint_folder: str) -> None:
        """Uploads nothing: the checkpoint is not complete yet. `_save_checkpoint` uploads it afterwards."""

    def _finish_current_push(self) -> None:
        if self.args.push_to_hub and self.is_world_process_zero():
            self.uploads.wait()

    def _load_from_checkpoint(self, resume_from_checkpoint: str, model=None) -> None:
        if self.args.fsdp2:
            return load_weights(self.model, resume_from_checkpoint, self.args.process_index)
        self._load_average(resume_from_checkpoint)
        super()._load_from_checkpoint(resume_from_checkpoint, model)

    def _load_best_model(self) -> None:
        if self.args.fsdp2:
            return load_weights(self.model, self.state.best_model_checkpoint, self.args.process_index)
        self._load_average(self.state.best_model_checkpoint)
        super()._load_best_model()

    def _load_average(self, checkpoint: str) -> None:
        """Loads the average of the weights by way of the model, whose own weights are loaded afterwards."""
        if self.average is None:
            return
        if Path(checkpoint, "ema").is_dir():
            super()._load_from_checkpoint(str(Path(checkpoint, "ema")))
        else:
            logger.warning("%s has no average of the weights; the average starts from the weights.", checkpoint)
            super()._load_from_checkpoint(checkpoint)
        self.average.start(self.model)

    def log(self, logs: dict[str, float], *args, **kwargs) -> None:
        """Adds throughput and memory to the log.

        `clips_per_second` counts all processes, and each of the `num_sample` clips of a video. `data_wait` is the
        fraction of time spent waiting for data, `hours_left` the remaining time without evaluation, `bad_videos` the
        number of bad videos, if any. On a GPU, `peak_gpu_memory_gib` is the peak memory of this process's tensors since
        the start. `loss_images` and `loss_videos` are the means of each, of images and videos together. `trivial` and
        `explained` are those of `TrivialBaseline`.
        """
        seconds = self._seconds_waiting + self._seconds_computing
        if "loss" in logs and self._steps_timed and seconds > 0:
            logs["clips_per_second"] = round(self._clips_timed * self.args.world_size / seconds, 2)
            logs["data_wait"] = round(self._seconds_waiting / seconds, 3)
            steps_left = self.state.max_steps - self.state.global_step
            logs["hours_left"] = round(steps_left * seconds / self._steps_timed / 3600, 3)
            self._seconds_waiting = self._seconds_computing = 0.0
            self._clips_timed = self._steps_timed = 0
        if "loss" in logs or "train_loss" in logs:  # which every process logs
            bad, total = self._count_bad_videos()
            if bad:
                logs["bad_videos"] = bad
                self._check_bad_fraction(bad, total)
        if "loss" in logs and self._kinds is not None:
            logs.update(self._kinds.entries(self))
        if "loss" in logs and self.trivial is not None and self._step.losses and self.is_world_process_zero():
            # The Trainer divides each loss by the number of accumulated ones
            loss = self._step.losses[-1].item() * self.current_gradient_accumulation_steps
            batch = self._prepare_inputs(self._step.last_batch)
            logs.update(self.trivial.training_entries(batch, loss, logs["loss"]))
        if "loss" in logs and self.args.device.type == "cuda":
            logs["peak_gpu_memory_gib"] = round(torch.cuda.max_memory_allocated(self.args.device) / 2**30, 2)
        super().log(logs, *args, **kwargs)

    def evaluate(self, *args, **kwargs) -> dict[str, float]:
        with random_state_kept(self.args.device):  # evaluation must not change the random state
            metrics = super().evaluate(*args, **kwargs)
        self.check_readable(metrics, kwargs.get("metric_key_prefix", "eval"))
        return metrics

    def check_readable(self, metrics: dict, prefix: str = "eval") -> None:
        """Raises BadVideosError if the fraction of unreadable videos is above the limit, or if all are unreadable."""
        bad, good = metrics.get(f"{prefix}_unreadable", 0), metrics.get(f"{prefix}_videos", 0)
        if bad and not good:
            raise BadVideosError(f"None of the {bad} videos can be read; their names are in the log above.")
        self._check_bad_fraction(bad, bad + good)

    def prediction_step(self, model, inputs: dict, *args, **kwargs) -> tuple:
        if self.trivial is not None:
            self.trivial.add_evaluated(inputs)
        return super().prediction_step(model, inputs, *args, **kwargs)

    def evaluation_loop(self, *args, metric_key_prefix: str = "eval", **kwargs) -> EvalLoopOutput:
        with self.average.applied(self.model) if self.args.evaluate_ema else nullcontext():
            output = super().evaluation_loop(*args, metric_key_prefix=metric_key_prefix, **kwargs)
            if self.trivial is not None and f"{metric_key_prefix}_loss" in output.metrics:
                loss = output.metrics[f"{metric_key_prefix}_loss"]
                output.metrics.update(self.trivial.evaluation_entries(self, metric_key_prefix, loss))
            if self.probe is not None:
                output.metrics[f"{metric_key_prefix}_knn_top1"] = self.probe.knn_top1(self)
        self.last_evaluation = output
        return output

    def _count_bad_videos(self) -> tuple[int, int]:
        """(known bad videos of the training set over all processes, videos in it).

        Every process calls it at the same step. Each then knows the bad videos of all, so that none is tried again.
        """
        dataset = self.train_dataset
        if not hasattr(dataset, "bad_videos"):
            return 0, 0
        if self.args.world_size > 1:
            bad = dataset.bad.to(self.args.device, torch.uint8)
            torch.distributed.all_reduce(bad, torch.distributed.ReduceOp.MAX)
            dataset.bad[bad.cpu().bool()] = True  # only writes True: a worker may just have found another one
        return dataset.bad_videos()

    def _check_bad_fraction(self, bad: int, total: int) -> None:
        if bad > self.args.max_bad_fraction * total:
            raise BadVideosError(
                f"{bad} of {total} videos cannot be read, more than max_bad_fraction={self.args.max_bad_fraction} "
                f"allows. Their names are in the log above; repair the data or raise the limit."
            )


def _last_batch_kept(args: VideoMAETrainingArguments) -> AbstractContextManager[None]:
    """Disables `dataloader_drop_last`, which is meant for training: transformers also applies it to evaluations."""
    return _replaced(args, "dataloader_drop_last", False)


@contextmanager
def _replaced(owner: object, name: str, value: object) -> Iterator[None]:
    """Context in which an attribute has another value."""
    own = getattr(owner, name)
    setattr(owner, name, value)
    try:
        yield
    finally:
        setattr(owner, name, own)


class _AverageCallback(TrainerCallback):
    """Updates the average of the weights after each optimizer step."""

    def __init__(self, average: WeightAverage) -> None:
        self.average = average

    def on_train_begin(self, args, state, control, model, **kwargs) -> None:
        if state.global_step == 0:  # otherwise it was loaded from the checkpoint
            self.average.start(model)

    def on_step_end(self, args, state, control, model, **kwargs) -> None:
        self.average.update(model, state.global_step)


class _DataCallback(TrainerCallback):
    """Sets the epoch of the data set and the seed of each step, measures time, and stops a run with bad data."""

    def __init__(self, trainer: VideoMAETrainer) -> None:
        self.trainer = trainer

    def on_epoch_begin(self, args, state, control, **kwargs) -> None:
        # The Trainer does this in single-process runs only. A resumed run may start within an epoch.
        if hasattr(self.trainer.train_dataset, "set_epoch"):
            self.trainer.train_dataset.set_epoch(int(state.epoch + 1e-6))

    def on_step_begin(self, args, state, control, **kwargs) -> None:
        # Dropout and drop path are seeded with (seed, step, process), as clips are with (seed, epoch, index).
        # Deviation: the official code never reseeds the generator, so that resumed runs differ from uninterrupted ones.
        # The Trainer restores the state of the generators, but an epoch may sample a seed for its workers from them,
        # and does so differently after a resume (persistent workers only once); and all of its processes drop alike.
        numbers = (args.seed, state.global_step, args.process_index, 0, 0, 0)
        torch.manual_seed(generator_of(*numbers).initial_seed())
        self.started = time.perf_counter()

    def on_step_end(self, args, state, control, **kwargs) -> None:
        self.trainer._seconds_computing += time.perf_counter() - self.started
        self.trainer._steps_timed += 1
        if args.world_size == 1:  # several processes check when they log
            self.trainer._check_bad_fraction(*self.trainer._count_bad_videos())


class _SkipCallback(TrainerCallback):
    """Tells a stream which batches of a resumed epoch the Trainer skips, so that it does not decode them.

    The Trainer reads an iterable data set from the start, and skips the batches that the epoch already had.
    """

    def __init__(self, stream: VideoStream) -> None:
        self.stream = stream

    def on_epoch_begin(self, args, state, control, **kwargs) -> None:
        accumulated = args.gradient_accumulation_steps
        steps = math.ceil(self.stream.num_batches / accumulated)
        self.stream.skip_batches(0 if args.ignore_data_skip else state.global_step % steps * accumulated)

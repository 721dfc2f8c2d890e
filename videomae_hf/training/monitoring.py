# Copyright 2026 The videomae_hf authors. Licensed under the Apache License, Version 2.0.
"""Monitors a pretraining run: pictures of its reconstructions, and the k-NN accuracy of its features.

Neither changes the run: its weights are bit for bit the same without them. All processes take part in every forward
pass, because the parameters may be sharded over them.
"""

import math
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch.distributed.fsdp import FSDPModule
from torch.utils.data import DataLoader, Subset
from transformers import Trainer, TrainerCallback
from transformers.integrations import TensorBoardCallback, TrackioCallback, WandbCallback

from ..data.clips import EvalTransform
from ..data.kinds import KINDS
from ..data.processors import training_processor
from ..data.sources.folders_and_lists import EVALUATION, TRAINING
from ..data.video_dataset import UNREADABLE, ClipCollator, VideoDataset
from ..data.videos import labelled_videos
from ..evaluation.probes import knn_accuracy
from ..evaluation.reconstruction import reconstruction_strips
from ..models.configuration_videomae_v2 import VideoMAEV2Config
from ..models.masking import ids_to_mask
from ..models.modeling_videomae_v2 import VideoMAEV2ForPreTraining
from ..settings.run import Run
from ..settings.training_arguments import VideoMAETrainingArguments


_KEPT_BYTES = 2 * 2**30  # largest set of probe clips that a process keeps; a larger one is decoded at each evaluation


@contextmanager
def random_state_kept(device: torch.device) -> Iterator[None]:
    """Restores the state of torch's global generators, on the CPU and on this GPU, afterwards."""
    with torch.random.fork_rng([device] if device.type == "cuda" else [], device_type="cuda"):
        yield


@contextmanager
def _aside(trainer: Trainer) -> Iterator[None]:
    """Context of forward passes outside of training: evaluation mode, no gradients; all state is restored afterwards.

    It uses `no_grad`, because FSDP cannot use tensors of `inference_mode` again in training.
    """
    was_training = trainer.model.training
    trainer.model.eval()
    try:
        with random_state_kept(trainer.args.device), torch.no_grad(), trainer.accelerator.autocast():
            yield
    finally:
        trainer.model.train(was_training)


@contextmanager
def _root_put_together(model: torch.nn.Module) -> Iterator[None]:
    """Context in which submodules of a model sharded by FSDP2 can be called.

    The parameters that the root module holds itself, such as the final norm, are gathered only when the root is called.
    """
    if not isinstance(model, FSDPModule):
        yield
        return
    model.unshard()
    try:
        yield
    finally:
        model.reshard()


def fixed_clips(dataset: VideoDataset, number: int, config: VideoMAEV2Config) -> dict[str, torch.Tensor]:
    """A batch with the clips and masks of `number` videos, spread over a data set with a `PretrainTransform`."""
    videos = VideoDataset(dataset.samples, replace(dataset.load, num_sample=1), dataset.seed, kinds=dataset.kinds)
    videos.bad = dataset.bad  # so that a bad video is logged only once, and counted
    chosen = range(len(videos))
    if dataset.kinds is not None:
        sources = [number for number, kind in enumerate(dataset.kinds) if KINDS[kind] == "videos"]
        chosen = [index for index, sample in enumerate(dataset.samples) if sample.source in sources]
    number = min(number, len(chosen))
    return ClipCollator(config)([videos[chosen[index * len(chosen) // number]] for index in range(number)])


def log_reconstructions(trainer: Trainer, number: int) -> None:
    """Logs reconstructions of `number` evaluation videos, or training videos if there are none; none of a stream."""
    dataset = trainer.train_dataset if trainer.eval_dataset is None else trainer.eval_dataset
    if number > 0 and isinstance(trainer.model, VideoMAEV2ForPreTraining) and isinstance(dataset, VideoDataset):
        clips = fixed_clips(dataset, number, trainer.model.config)
        trainer.add_callback(ReconstructionPictures(trainer, clips))


class StepPictures(TrainerCallback):
    """Makes pictures when the run evaluates or saves, and after its last step, saves them, and sends them to those of
    TensorBoard, W&B and trackio that `report_to` names.

    All processes make them, in evaluation mode and without gradients, and the main process saves them.
    """

    def __init__(self, trainer: Trainer) -> None:
        self.trainer = trainer
        self._drawn_at = None

    def pictures(self) -> dict[tuple[str, str], Image.Image]:
        """The pictures of the current model, by their folders in `output_dir` and their names in trackers; none on
        other processes than the main one."""
        raise NotImplementedError

    def on_evaluate(self, args, state, control, **kwargs) -> None:
        self._draw(args, state)

    def on_save(self, args, state, control, **kwargs) -> None:
        self._draw(args, state)

    def on_step_end(self, args, state, control, **kwargs) -> None:
        if state.global_step >= state.max_steps:  # on_train_end is too late: the trackers are closed by then
            self._draw(args, state)

    def _draw(self, args, state) -> None:
        if self._drawn_at == state.global_step:
            return
        self._drawn_at = state.global_step
        with _aside(self.trainer):
            found = self.pictures()
        if not found or not state.is_world_process_zero:
            return
        for (place, _), picture in found.items():
            folder = Path(args.output_dir, place)
            folder.mkdir(parents=True, exist_ok=True)
            picture.save(folder / f"step_{state.global_step:08d}.png")
        named = {name: picture for (_, name), picture in found.items()}
        log_pictures(self.trainer.callback_handler.callbacks, named, state.global_step)


class ReconstructionPictures(StepPictures):
    """Draws a few videos with `reconstruction_strips`.

    Videos, crops and masks are fixed, so that only the model changes between pictures. The pictures are written to
    `output_dir/reconstructions/video_0/step_00000100.png`.

    Args:
        trainer: the trainer of a `VideoMAEV2ForPreTraining`.
        clips: a batch from `fixed_clips`.
    """

    def __init__(self, trainer: Trainer, clips: dict[str, torch.Tensor]) -> None:
        super().__init__(trainer)
        self.clips = clips

    def pictures(self) -> dict[tuple[str, str], Image.Image]:
        model, clips = self.trainer.model, self.clips
        length = model.config.sequence_length
        masked, decoded = ~ids_to_mask(clips["visible_ids"], length), ids_to_mask(clips["decoded_ids"], length)
        strips = reconstruction_strips(model, clips["pixel_values"], masked, decoded)
        names = [f"video_{number}" for number in range(len(strips))]
        return {(f"reconstructions/{name}", f"reconstruction/{name}"): one for name, one in zip(names, strips)}


def log_pictures(callbacks: list[TrainerCallback], pictures: dict[str, Image.Image], step: int) -> None:
    """Sends pictures to the runs opened by transformers' callbacks for TensorBoard, W&B and trackio."""
    for callback in callbacks:
        if isinstance(callback, TensorBoardCallback) and callback.tb_writer is not None:
            for name, picture in pictures.items():
                callback.tb_writer.add_image(name, np.asarray(picture), step, dataformats="HWC")
            callback.tb_writer.flush()
        elif isinstance(callback, WandbCallback):
            import wandb

            images = {name: wandb.Image(picture) for name, picture in pictures.items()}
            wandb.log({**images, "train/global_step": step})  # the axis that WandbCallback defines
        elif isinstance(callback, TrackioCallback):
            import trackio

            images = {name: trackio.Image(picture) for name, picture in pictures.items()}
            trackio.log({**images, "train/global_step": step})


class Probe:
    """k-NN accuracy of the encoder on labelled videos.

    The feature of a video is `pooled_features` of its centre clip, all tokens of which are visible. The videos are
    divided among the processes. Clips are decoded once and kept as uint8 if they fit in 2 GiB per process (800 clips of
    16 x 224 x 224).

    Args:
        train_set, eval_set: data sets of uint8-valued clips and labels; `UNREADABLE` videos are left out.
        collator: collator for their items.
        args: arguments of the run; `per_device_eval_batch_size` is the batch size of the encoder.
    """

    def __init__(
        self, train_set: VideoDataset, eval_set: VideoDataset, collator: ClipCollator, args: VideoMAETrainingArguments
    ) -> None:
        self.collator, self.args = collator, args
        config = collator.config
        clip_bytes = config.num_frames * config.num_channels * math.prod(config.image_hw)
        parts = [math.ceil(len(dataset) / args.world_size) for dataset in (train_set, eval_set)]
        self._keep = sum(parts) * clip_bytes <= _KEPT_BYTES
        self._sets, self._kept = (train_set, eval_set), {}

    def knn_top1(self, trainer: Trainer) -> float:
        """The accuracy of the current model; every process gets the same number."""
        with _aside(trainer), _root_put_together(trainer.model):
            train, evaluation = (self._features(trainer, number) for number in (0, 1))
        return knn_accuracy(*train, *evaluation)

    def _features(self, trainer: Trainer, number: int) -> tuple[torch.Tensor, torch.Tensor]:
        """Features (N, D) in float32 and labels (N,) of the readable videos of a set, gathered from all processes."""
        features, labels = [], []
        for batch in self._batches(number):
            encoder = trainer.model.videomae
            tokens = encoder(batch["pixel_values"].to(self.args.device)).last_hidden_state  # (B, L, D)
            features.append(encoder.pooled_features(tokens.float()))
            labels.append(batch["labels"].to(self.args.device))
        gathered = trainer.accelerator.gather((torch.cat(features), torch.cat(labels)))
        # Gathered by process: (world * part, ..) -> (world, part, ..) -> (part, world, ..), the order of the videos
        world, length = self.args.world_size, len(self._sets[number])
        features, labels = (x.unflatten(0, (world, -1)).transpose(0, 1).flatten(0, 1)[:length] for x in gathered)
        readable = labels != UNREADABLE
        return features[readable], labels[readable]

    def _batches(self, number: int) -> Iterator[dict[str, torch.Tensor]]:
        """Batches of this process's part of a set. All parts have equal length; the first videos pad the last ones."""
        if number in self._kept:
            yield from self._kept[number]
            return
        dataset, args, kept = self._sets[number], self.args, []
        places = range(args.process_index, math.ceil(len(dataset) / args.world_size) * args.world_size, args.world_size)
        loader = DataLoader(
            Subset(dataset, [place % len(dataset) for place in places]),
            batch_size=args.eval_batch_size,
            collate_fn=self.collator,
            num_workers=args.dataloader_num_workers,
            multiprocessing_context=args.dataloader_multiprocessing_context,
        )
        for batch in loader:
            batch["pixel_values"] = batch["pixel_values"].to(torch.uint8)
            if self._keep:
                kept.append(batch)
            yield batch
        if self._keep:
            self._kept[number] = kept


def make_probe(run: Run, config: VideoMAEV2Config) -> Probe | None:
    """The probe on `probe_train_data` and `probe_eval_data`; None if neither is set."""
    data = run.monitoring
    if not (data.probe_train_data or data.probe_eval_data):
        return None
    if not (data.probe_train_data and data.probe_eval_data):
        raise ValueError(
            f"probe_train_data={data.probe_train_data} and probe_eval_data={data.probe_eval_data} must both be set: "
            f"the labelled videos whose features are the neighbours, and the labelled videos to classify."
        )
    train = labelled_videos(run, data.probe_train_data, TRAINING)
    evaluated = labelled_videos(run, data.probe_eval_data, EVALUATION, train.classes)
    # Pixels stay in 0 to 255, because the model normalises them.
    plain = {"do_rescale": False, "do_normalize": False, "video_backend": run.clips.video_backend}
    processor = training_processor(run, config, **plain)
    views = EvalTransform(processor, frame_template=run.clips.frame_template)
    sets = [videos.evaluation_dataset(views, run.training) for videos in (train, evaluated)]
    return Probe(*sets, ClipCollator(config), run.training)


class KindLosses:
    """The mean loss of videos and of images, where batches of one kind take turns, since the last entry of the log.

    Args:
        num_frames: frames of a clip of the model; images have fewer.
    """

    def __init__(self, num_frames: int) -> None:
        self.num_frames, self._losses = num_frames, []

    def add(self, batch: dict, loss: torch.Tensor) -> None:
        """Adds the loss of a micro-batch, without waiting for the device."""
        self._losses.append((int(batch["pixel_values"].shape[1] < self.num_frames), loss.detach()))

    def entries(self, trainer: Trainer) -> dict[str, float]:
        """`loss_videos` and `loss_images` over all processes; of a kind without a batch there is no entry."""
        sums = torch.zeros(2, len(KINDS), dtype=torch.float32, device=trainer.args.device)  # of losses, of batches
        for kind, loss in self._losses:
            sums[0, kind] += loss
            sums[1, kind] += 1
        self._losses = []
        sums, numbers = trainer.accelerator.reduce(sums, reduction="sum").tolist()
        means = {name: total / number for name, total, number in zip(KINDS, sums, numbers) if number}
        return {f"loss_{name}": round(mean, 4) for name, mean in means.items()}

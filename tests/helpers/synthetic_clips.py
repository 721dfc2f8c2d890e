"""Pretraining on clips drawn from their generators, without videos: for tests of what happens around the steps."""

import math
from pathlib import Path

import torch
from safetensors.torch import load_file

from helpers.shared import TINY
from videomae_hf import VideoMAEV2Config, VideoMAEV2ForPreTraining
from videomae_hf.data.sources.folders_and_lists import VideoRecord
from videomae_hf.data.video_dataset import ClipCollator, VideoDataset
from videomae_hf.models.masking import mask_to_ids, sample_masks, token_counts
from videomae_hf.settings.training_arguments import VideoMAETrainingArguments
from videomae_hf.training.trainer import VideoMAETrainer


class DrawnClips:
    """A clip loader that draws the clip and its masks. `when` calls a function before the clip of that name; with `nan`
    clips are float32, and the one of that name is not a number."""

    def __init__(self, config: VideoMAEV2Config, when: dict | None = None, nan: str | None = None):
        self.config, self.when, self.nan = config, when or {}, nan

    def __call__(self, sample: VideoRecord, generator: torch.Generator) -> dict:
        if sample.path in self.when:
            self.when[sample.path]()
        masked, decoded = sample_masks(self.config, 1, generator)
        visible, num_decoded = token_counts(self.config)
        shape = (self.config.num_frames, 3, *self.config.image_hw)
        clip = torch.randint(0, 256, shape, generator=generator, dtype=torch.uint8)
        if self.nan is not None:
            clip = clip / 255 if sample.path != self.nan else torch.full(shape, math.nan)
        return {
            "pixel_values": clip,
            "visible_ids": mask_to_ids(~masked, visible)[0],
            "decoded_ids": mask_to_ids(decoded, num_decoded)[0],
            "path": sample.path,
        }


def trainer(
    folder: Path,
    dataset=None,
    when: dict | None = None,
    nan: str | None = None,
    fields: dict | None = None,
    **arguments,
) -> VideoMAETrainer:
    """Ten videos, "0" to "9", two a batch: five batches an epoch."""
    torch.manual_seed(0)
    model = VideoMAEV2ForPreTraining(VideoMAEV2Config(**TINY, **(fields or {})))
    if dataset is None:
        load = DrawnClips(model.config, when, nan)
        dataset = VideoDataset([VideoRecord(str(number)) for number in range(10)], load, seed=42)
    defaults = {"per_device_train_batch_size": 2, "learning_rate": 1e-3, "use_cpu": True, "disable_tqdm": True}
    defaults |= {"output_dir": str(folder), "logging_steps": 1, "save_strategy": "no", "prediction_loss_only": True}
    args = VideoMAETrainingArguments(**{**defaults, "label_names": ["decoded_ids"], **arguments})
    collator = ClipCollator(model.config)
    return VideoMAETrainer(model=model, args=args, train_dataset=dataset, eval_dataset=dataset, data_collator=collator)


def losses(run: VideoMAETrainer) -> list[float]:
    found = [entry["loss"] for entry in run.state.log_history if "loss" in entry]
    assert all(map(math.isfinite, found))
    return found


def saved_state(checkpoint: Path) -> dict:
    """Everything that a checkpoint has of a run."""
    found = {
        "weights": load_file(checkpoint / "model.safetensors"),
        "ema": load_file(checkpoint / "ema/model.safetensors"),
    }
    for name in ("optimizer.pt", "scheduler.pt", "rng_state.pth"):
        found[name] = torch.load(checkpoint / name, weights_only=False)
    found["rng_state.pth"].pop("numpy")  # nothing draws from it, and it is no tensor
    return found

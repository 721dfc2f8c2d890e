"""Scores a checkpoint with MTEB's video tasks, such as its few-shot classification of UCF101 or HMDB51.

    python examples/mteb_model.py CHECKPOINT HMDB51Classification UCF101Classification

CHECKPOINT is a folder or Hub id of any stage and layout that this package reads; TASKS are names of mteb's tasks, whose
data are downloaded. Needs mteb (pip install mteb), but not the torchcodec and FFmpeg of its video extra: videos are
decoded by this package. Frames and embeddings are those of mteb's own VideoMAE: frames spread evenly over the video,
the mean of all tokens, and the norm of the classification head if the checkpoint has one.

To use the class in code of your own:

    model = VideoMAEEncoder("output/pretrain")
    mteb.evaluate(model, mteb.get_tasks(["HMDB51Classification"]))

`videomae probe --probe few-shot` follows the same protocol on your own folders, without mteb.
"""

import sys
from pathlib import Path

import mteb
import numpy as np
import torch
from datasets import Video
from mteb.models import ModelMeta
from mteb.models.abs_encoder import AbsEncoder
from mteb.models.model_meta import ScoringFunction

from videomae_hf.checkpoints.opening import checkpoint_processor, open_checkpoint
from videomae_hf.evaluation.few_shot import MTEBProcessor, head_norm_of


class VideoMAEEncoder(AbsEncoder):
    """A checkpoint as a model of mteb.

    Args:
        checkpoint: folder or Hub id.
        device: device of torch; by default the first GPU, otherwise the CPU.
    """

    def __init__(self, checkpoint: str, device: str | None = None) -> None:
        model, _ = open_checkpoint(checkpoint)
        self.model = model.eval().to(device or ("cuda" if torch.cuda.is_available() else "cpu"))
        self.norm = head_norm_of(self.model)
        processor = checkpoint_processor(checkpoint, model.config)
        self.processor = MTEBProcessor.from_dict(processor.to_dict())
        self.mteb_model_meta = model_meta(checkpoint, self.model)

    @torch.inference_mode()
    def encode(self, inputs, *, show_progress_bar: bool = True, **of_the_task) -> np.ndarray:
        """Embeds the videos of a data loader of mteb: float32 (N, D)."""
        videos = inputs.dataset.cast_column("video", Video(decode=False))  # files or their bytes, decoded below
        found = []
        for row in videos:
            source = row["video"]["bytes"] or row["video"]["path"]
            pixel_values = self.processor(source, return_tensors="pt").pixel_values  # (1, T, C, H, W)
            tokens = self.model.base_model(pixel_values.to(self.model.device)).last_hidden_state  # (1, L, D)
            pooled = tokens.mean(dim=1)  # (1, D)
            found.append((pooled if self.norm is None else self.norm(pooled)).float().cpu())
        return torch.cat(found).numpy()


def model_meta(checkpoint: str, model) -> ModelMeta:
    """What mteb's results say about the model; add training_datasets, the data that it was trained on."""
    is_on_hub = checkpoint.count("/") == 1 and not Path(checkpoint).exists()
    return ModelMeta.create_empty(
        {
            "name": checkpoint if is_on_hub else f"local/{Path(checkpoint).resolve().name}",
            "n_parameters": sum(parameter.numel() for parameter in model.parameters()),
            "embed_dim": model.config.hidden_size,
            "framework": ["Transformers", "PyTorch"],
            "similarity_fn_name": ScoringFunction.COSINE,
            "use_instructions": False,
            "modalities": ["video"],
        }
    )


if __name__ == "__main__":
    if len(sys.argv) < 3:
        sys.exit(__doc__)
    results = mteb.evaluate(VideoMAEEncoder(sys.argv[1]), mteb.get_tasks(tasks=sys.argv[2:]))
    for result in results.task_results:
        print(f"{result.task_name}: {result.get_score():.4f}")

"""Finetuning in your own code, with transformers' plain Trainer: no part of train.py is needed.

    python examples/finetune.py [CHECKPOINT] [--steps 20]

Runs on videos drawn here; put your own (path, label) pairs in their place. Without a checkpoint a tiny model starts
from random weights.
"""

import argparse
import tempfile
from pathlib import Path

import torch
from transformers import Trainer, TrainingArguments

from videomae_hf import VideoMAEV2Config, VideoMAEV2ForVideoClassification, VideoMAEV2ImageProcessor
from videomae_hf.data.sources.synthetic import CLASSES, synthesise_dataset


parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
parser.add_argument("checkpoint", nargs="?")
parser.add_argument("--steps", type=int, default=20)
args = parser.parse_args()

labels = {"id2label": dict(enumerate(CLASSES)), "label2id": {name: i for i, name in enumerate(CLASSES)}}
if args.checkpoint:
    # `ignore_mismatched_sizes`: a new head where the classes are others. Anything else that does not fit is an error.
    model = VideoMAEV2ForVideoClassification.from_pretrained(args.checkpoint, ignore_mismatched_sizes=True, **labels)
    processor = VideoMAEV2ImageProcessor.from_pretrained(args.checkpoint)
else:
    tiny = {"image_size": 64, "num_frames": 8, "hidden_size": 96, "num_hidden_layers": 3, "num_attention_heads": 3}
    model = VideoMAEV2ForVideoClassification(VideoMAEV2Config(**tiny, intermediate_size=192, **labels))
    processor = VideoMAEV2ImageProcessor(
        num_frames=8, sampling_rate=2, size={"shortest_edge": 64}, crop_size={"height": 64, "width": 64}
    )

with tempfile.TemporaryDirectory() as folder:
    synthesise_dataset(Path(folder, "videos"), videos_per_class=4)
    samples = [(path, CLASSES.index(path.parent.name)) for path in sorted(Path(folder, "videos").glob("*/*.mp4"))]

    def collate(batch):
        paths, numbers = zip(*batch)
        inputs = processor(list(paths), frame_sampling="random", return_tensors="pt")
        return {"pixel_values": inputs.pixel_values, "labels": torch.tensor(numbers)}

    training = TrainingArguments(
        output_dir=str(Path(folder, "out")),
        max_steps=args.steps,
        per_device_train_batch_size=8,
        learning_rate=5e-4,
        logging_steps=5,
        save_strategy="no",
        remove_unused_columns=False,  # the samples are tuples; the collator makes the model's inputs
    )
    trainer = Trainer(model=model, args=training, train_dataset=samples, data_collator=collate)
    trainer.train()

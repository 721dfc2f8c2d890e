# %% [markdown]
"""
# Finetune a video classifier on your own folder

    python examples/finetune_your_videos.py

From a folder with one folder of videos for each class to a model on the Hub: look at the videos, split them, finetune,
evaluate, look at the confusions, predict a new video, and build what is uploaded. `finetune_your_videos.ipynb` is the
same as a notebook. As it stands it synthesises 240 short videos of eight motions and trains a tiny model on them from
scratch, in a few minutes on a CPU. For your own videos, change the first three settings.
"""

# %%
import csv
import json
import shutil
from pathlib import Path

import matplotlib.pyplot as plt
import torch

import videomae_hf
from videomae_hf.commands import evaluate, finetune, push
from videomae_hf.data.sources.synthetic import synthesise_dataset
from videomae_hf.data.splitting import divide


VIDEOS = None  # your folder, such as "my_videos": a folder of videos for each class
CHECKPOINT = None  # for your videos: "MCG-NJU/videomae-base-finetuned-kinetics"
REPOSITORY = "me/my-videomae"  # your name on the Hub, and a name for the model

HELD_OUT = 0.2  # part of the videos that is held out for evaluation
EPOCHS = 30
OUTPUT = Path("output/finetune_your_videos")

# %% [markdown]
"""
## The videos

Every container that FFmpeg reads is accepted, and a folder of images is a video, too. `videomae scan my_videos` finds
broken files beforehand; in training they are replaced by other videos and reported.
"""

# %%
OUTPUT.mkdir(parents=True, exist_ok=True)
if VIDEOS is None:
    VIDEOS = OUTPUT / "videos"
    if not VIDEOS.exists():
        synthesise_dataset(VIDEOS, videos_per_class=30, size=64)

videos = {
    folder.name: sorted(path.resolve() for path in folder.iterdir() if not path.name.startswith("."))
    for folder in sorted(Path(VIDEOS).iterdir())
    if folder.is_dir()
}
for label, paths in videos.items():
    print(f"{len(paths):5} {label}")

figure, grid = plt.subplots(len(videos), 6, figsize=(9, 1.5 * len(videos)), squeeze=False)
for row, (label, paths) in zip(grid, videos.items()):
    frames = videomae_hf.read_frames(paths[0], lambda info: [i * (info.num_frames - 1) // 5 for i in range(6)])
    row[0].set_title(label, loc="left", fontsize=9, parse_math=False)
    for axes, frame in zip(row, frames):  # frames: uint8 (6, H, W, 3)
        axes.imshow(frame.numpy())
        axes.set_axis_off()
figure.savefig(OUTPUT / "videos.png")

# %% [markdown]
"""
## Split

A part of each class is held out. Clips that were cut from one recording must stay on one side of the split: otherwise
the score is that of recognising the recording. `recording` returns what they have in common; if it is the beginning of
the file's name, return `path.stem.split("_")[0]`. `videomae split` does the same, and finds copies.

The list has one line for each video. Training reads its `train` rows, evaluation its `validation` rows.
"""


# %%
def recording(path: Path) -> str:
    return str(path)  # each video is a recording of its own


rows = [(path, label) for label, paths in videos.items() for path in paths]
recordings, classes = [recording(path) for path, _ in rows], [(label,) for _, label in rows]
parts = divide(recordings, classes, [1 - HELD_OUT, HELD_OUT], torch.Generator().manual_seed(0))

data_list = str(OUTPUT / "videos.csv")
with open(data_list, "w", newline="", encoding="utf-8") as file:
    writer = csv.writer(file)
    writer.writerow(["path", "label", "split"])
    writer.writerows((*row, ("train", "validation")[part]) for row, part in zip(rows, parts))

# %% [markdown]
"""
## Finetune

This is the command `videomae finetune finetune_small --train_data ... --checkpoint ...` in Python. The recipe
`finetune_small` is made for a few hundred or thousand videos; every setting of it can be changed here. A run that is
interrupted continues with `"--resume_from_checkpoint", "last"`.

Set `--horizontal_flip true` only where left and right do not matter, and choose `--sampling_rate` so that 16 frames, as
many apart, cover an action.
"""

# %%
options = ["--train_data", data_list, "--eval_data", data_list, "--output_dir", str(OUTPUT / "model")]
options += ["--num_train_epochs", str(EPOCHS), "--warmup_epochs", str(EPOCHS // 10), "--horizontal_flip", "false"]
if CHECKPOINT:
    options += ["--checkpoint", CHECKPOINT]
    options += ["--fit", "auto"] if torch.cuda.is_available() else []  # the batch that fits the memory of the GPU
else:  # a tiny model from scratch
    tiny = {"image_size": 64, "num_frames": 8, "hidden_size": 96, "num_hidden_layers": 4, "num_attention_heads": 3}
    tiny |= {"intermediate_size": 384, "sampling_rate": 2, "learning_rate": 1e-3, "dataloader_num_workers": 0}
    options += ["--checkpoint", "none", *(text for name, value in tiny.items() for text in (f"--{name}", str(value)))]
finetune.main(["finetune_small", *options])

# %% [markdown]
"""
## Evaluate

The probabilities of five clips and three crops of each held-out video are averaged. `metrics.json` has the scores and
the confusion matrix (a row for each true class), `predictions.csv` a line for each video.
"""

# %%
model, scores = str(OUTPUT / "model"), OUTPUT / "scores"
evaluate.main(["--checkpoint", model, "--eval_data", data_list, "--output_dir", str(scores)])

predictor = videomae_hf.load(model)
labels = predictor.head.labels
metrics = json.loads((scores / "metrics.json").read_text())
matrix = torch.tensor(metrics["confusion_matrix"])  # (classes, classes)
print(f"Top-1 accuracy {metrics['eval_top1']:.1%} on {metrics['eval_videos']} videos; chance is {1 / len(labels):.1%}")

figure, axes = plt.subplots(figsize=(6, 6), layout="constrained")
axes.imshow(matrix.numpy(), cmap="Blues")
axes.set_xticks(range(len(labels)), labels, rotation=60, ha="right", parse_math=False)
axes.set_yticks(range(len(labels)), labels, parse_math=False)
axes.set(xlabel="predicted", ylabel="class")
figure.savefig(OUTPUT / "confusion.png")

errors = matrix - torch.diag(matrix.diag())
for place in errors.flatten().argsort(descending=True)[:3].tolist():
    true, predicted = divmod(place, len(labels))
    if errors[true, predicted]:
        print(f"{errors[true, predicted]} of {matrix[true].sum()} {labels[true]!r} are taken for {labels[predicted]!r}")

# %% [markdown]
"""
## Predict

`predict` takes files, URLs, folders of images and arrays; see `examples/classify.py` and `examples/detect.py`.
"""

# %%
with open(data_list, newline="", encoding="utf-8") as file:
    held_out = [row for row in csv.DictReader(file) if row["split"] == "validation"]
for row in held_out[:: max(len(held_out) // 4, 1)]:
    prediction = predictor.predict(row["path"])
    print(
        row["label"], "is predicted as", *(f"{label} ({probability:.0%})" for label, probability in prediction.top(2))
    )

# %% [markdown]
"""
## Publish

The dry run builds the folder that the Hub gets (weights, processor, code, model card), and verifies in a process
without this package that it loads and gives the same output. To upload it, run `hf auth login` once, and call the same
without `--dry_run`. A model that was finetuned from weights under CC-BY-NC-4.0 stays under that licence.
"""

# %%
shutil.rmtree(OUTPUT / "bundle", ignore_errors=True)  # of an earlier run
push.main([model, REPOSITORY, "--metrics", str(scores / "metrics.json"), "--dry_run", str(OUTPUT / "bundle")])

"""Pretraining on unlabelled videos of your domain, and the signs that it learns.

    python examples/pretrain.py [VIDEOS] [--key value ...]
    python examples/pretrain.py my_videos --probe_train_data labelled/train --probe_eval_data labelled/val

VIDEOS is a folder, searched at any depth: a ViT-S learns from random weights with the schedule of VideoMAE V2. A few
hundred labelled videos, with one folder for each class, show whether the features improve: a k-NN probe scores them ten
times during the run. The options are those of `videomae pretrain`, which does the same, such as `--num_train_epochs`.

Without VIDEOS, a tiny model takes 50 steps on synthesised videos. With few videos, continue from published weights
instead: examples/continue_pretraining.py.
"""

import json
import sys
from itertools import takewhile
from pathlib import Path

import stand_ins
import torch

from videomae_hf.commands import pretrain


videos = list(takewhile(lambda text: not text.startswith("-"), sys.argv[1:]))
given = sys.argv[1 + len(videos) :]
output = Path(given[given.index("--output_dir") + 1] if "--output_dir" in given else "output/domain")
if len(videos) > 1 or "--help" in given:
    sys.exit(__doc__)

if videos:
    options = ["--train_data", *videos, "--model_size", "small", "--num_sample", "4"]
    options += ["--fit", "auto"] if torch.cuda.is_available() else []  # the batch that fits the memory of the GPU
    options += ["--base_learning_rate", "1.5e-4", "--num_train_epochs", "400", "--warmup_epochs", "40"]
    options += ["--adam_beta2", "0.95", "--max_grad_norm", "0"]
    options += ["--eval_strategy", "steps", "--eval_steps", "0.1"] if "--probe_train_data" in given else []
else:
    # In a run of your own, the probe is fitted to other videos than those that it is scored on.
    labelled = ["--probe_train_data", stand_ins.videos(), "--probe_eval_data", stand_ins.videos(2)]
    options = ["--train_data", stand_ins.videos(), *labelled, *stand_ins.OPTIONS, "--mask_ratio", "0.75"]
    options += ["--max_steps", "50", "--learning_rate", "1e-3", "--eval_strategy", "steps", "--eval_steps", "0.5"]
pretrain.main([*options, "--output_dir", str(output), *given])

log = json.loads((output / "trainer_state.json").read_text())["log_history"]
for entry in log:
    if "eval_knn_top1" in entry:
        print(f"step {entry['step']}: k-NN accuracy of the features {entry['eval_knn_top1']:.1%}")
for entry in [entry for entry in log if "explained" in entry][-1:]:  # 0: no better than without training; 1: perfect
    print(f"The model explains {entry['explained']:.0%} of what a predictor without training leaves open.")
print(f"Reconstructions: {output / 'reconstructions'}")
print(f"Next: videomae finetune finetune_small --checkpoint {output} --train_data my_videos/train")

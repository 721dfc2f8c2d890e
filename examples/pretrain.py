"""Pretraining on unlabelled videos of your domain, and the signs that it learns.

    python examples/pretrain.py [VIDEOS] [--labelled my_videos/val] [--output_dir output/domain]

VIDEOS is a folder, searched at any depth: a ViT-S learns from random weights with the schedule of VideoMAE V2, for
--num_train_epochs. A few hundred labelled videos (--labelled, one folder for each class) show whether the features
improve: a k-NN probe scores them during the run. Without VIDEOS, a tiny model takes 50 steps on synthesised videos.

`videomae pretrain` does the same; `--key value` of it can be given here, too. With few videos, continue from published
weights instead: examples/continue_pretraining.py.
"""

import argparse
import json
from pathlib import Path

import stand_ins

from videomae_hf.commands import pretrain


parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
parser.add_argument("videos", nargs="?")
parser.add_argument("--labelled", help="videos that a k-NN probe is scored on")
parser.add_argument("--output_dir", default="output/domain")
args, options = parser.parse_known_args()

command = ["--train_data", args.videos or stand_ins.videos(), "--output_dir", args.output_dir]
if args.labelled or not args.videos:
    labelled = args.labelled or stand_ins.videos()
    # In an evaluation of your own, fit the probe to other videos than those that it is scored on.
    command += ["--probe_train_data", labelled, "--probe_eval_data", labelled]
    command += ["--eval_strategy", "steps", "--eval_steps", "0.5"]  # twice in the run
if args.videos:
    command += ["--model_size", "small", "--base_learning_rate", "1.5e-4", "--num_train_epochs", "400"]
    command += ["--warmup_epochs", "40", "--adam_beta2", "0.95", "--max_grad_norm", "0", "--num_sample", "4"]
    command += ["--fit", "auto"]  # the batch that fits the memory of the GPU
else:
    command += [*stand_ins.OPTIONS, "--mask_ratio", "0.75", "--max_steps", "50", "--learning_rate", "1e-3"]
pretrain.main([*command, *options])

log = json.loads(Path(args.output_dir, "trainer_state.json").read_text())["log_history"]
for entry in log:
    if "explained" in entry:  # 0 is a predictor that knows nothing but the mean of the visible patches, 1 is perfect
        explained = entry["explained"]
    if "eval_knn_top1" in entry:
        print(f"step {entry['step']}: k-NN accuracy of the features {entry['eval_knn_top1']:.1%}")
print(f"The model explains {explained:.0%} of what the simplest predictor leaves open.")
print(f"Reconstructions: {args.output_dir}/reconstructions")
print(f"Next: videomae finetune finetune_small --checkpoint {args.output_dir} --train_data my_videos/train")

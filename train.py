# Copyright 2026 The videomae_hf authors. Licensed under the Apache License, Version 2.0.
"""Pretrains, finetunes, evaluates and probes VideoMAE, like `videomae VERB ...`.

    python train.py pretrain examples/recipes/smoke.yaml
    python train.py finetune --train_data data/train --eval_data data/val --checkpoint output/pretrain
    python train.py evaluate --checkpoint output/finetune --eval_data data/val --num_clips 5 --num_crops 3
    python train.py probe --checkpoint output/pretrain --train_data data/train --eval_data data/val --probe attentive
    python train.py progressive examples/recipes/demo_progressive.yaml

With several processes, on GPUs or (with --use_cpu true) on CPUs:

    torchrun --nproc_per_node 8 train.py pretrain recipe.yaml
    accelerate launch --multi_gpu --num_processes 8 train.py pretrain recipe.yaml

A recipe is a YAML file of settings named like the options. `python train.py VERB --help` lists all options of a verb.
"""

import sys

from videomae_hf.cli import main


if __name__ == "__main__":
    main(sys.argv[1:], program="train.py")

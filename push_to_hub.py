# Copyright 2026 The videomae_hf authors. Licensed under the Apache License, Version 2.0.
"""Ships a checkpoint to the Hub, like `videomae push`.

python push_to_hub.py output/finetune me/my-videomae
python push_to_hub.py output/finetune me/my-videomae --dry_run bundle
"""

import sys

from videomae_hf.cli import run_verb


if __name__ == "__main__":
    run_verb("push", sys.argv[1:], program="push_to_hub.py")

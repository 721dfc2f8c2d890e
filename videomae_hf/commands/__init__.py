# Copyright 2026 The videomae_hf authors. Licensed under the Apache License, Version 2.0.
"""The verbs of the `videomae` command, one file per verb; `cli.py` lists them."""

# Copyright 2026 The videomae_hf authors. Licensed under the Apache License, Version 2.0.
"""Lists the videos of folders, lists, tar shards and Hub data sets, with their labels; merges and synthesises sets."""

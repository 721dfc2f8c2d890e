# Copyright 2026 The videomae_hf authors. Licensed under the Apache License, Version 2.0.
"""Lists the videos of folders, lists, tar shards and Hub data sets, with their labels; merges and synthesises sets."""

from .folders_and_lists import read_samples, read_sources
from .records import VideoRecord


__all__ = ["VideoRecord", "read_samples", "read_sources"]

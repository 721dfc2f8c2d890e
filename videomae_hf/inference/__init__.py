# Copyright 2026 The videomae_hf authors. Licensed under the Apache License, Version 2.0.
"""Trained models at work: any videos in, predictions out."""

# Copyright 2026 The videomae_hf authors. Licensed under the Apache License, Version 2.0.
"""Re-encodes data sets for fast loading, packs them into shards, and reports on scans."""

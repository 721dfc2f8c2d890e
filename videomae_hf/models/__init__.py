# Copyright 2026 The videomae_hf authors. Licensed under the Apache License, Version 2.0.
"""Everything that ships to the Hub with a checkpoint: configuration, models, processor, decoding and loading.

`save_pretrained` copies these files next to the weights, where they run without this package. They are therefore flat,
import only each other (`from .x import y`), and load optional libraries through `importlib.import_module`: transformers
refuses to load checkpoint code with an ordinary import of a package that is not installed.
"""

import transformers  # noqa: F401  first of all, so that what `videomae_hf` does after this import finds no file half imported

# Copyright 2026 The videomae_hf authors. Licensed under the Apache License, Version 2.0.
"""VideoMAE V1 and V2 for Hugging Face Transformers: pretrain, finetune and ship masked video transformers.

The public names are those of `__init__.pyi`. Each is imported when it is first used: transformers' models, on which
ours are built, take seconds to import, for which `videomae --help` need not wait.
"""

from importlib import import_module
from typing import Any

import lazy_loader
from wrapt import register_post_import_hook


__version__ = "0.1.0"

_imported, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)


def __getattr__(name: str) -> Any:
    if name in __all__:
        # Before a file of ours: a thread that imports transformers waits for our files, by the registration below
        import_module("transformers")
    return _imported(name)


# The Auto classes find our models after `import videomae_hf`: they are registered when transformers is imported, or now
# if it has been.
register_post_import_hook(lambda transformers: import_module(".auto_classes", __name__), "transformers")

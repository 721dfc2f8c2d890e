# Copyright 2026 The videomae_hf authors. Licensed under the Apache License, Version 2.0.
"""The `videomae` command: `videomae convert SRC DST`; each subcommand has its own --help."""

import os
import pickle
import sys

from huggingface_hub.errors import StrictDataclassError

from . import convert


COMMANDS = {"convert": convert.main}


def main():
    if len(sys.argv) < 2 or sys.argv[1] not in COMMANDS:
        wanted = len(sys.argv) > 1 and sys.argv[1] not in ("-h", "--help")
        print(f"usage: videomae {{{','.join(COMMANDS)}}} ...   (videomae COMMAND --help)", file=sys.stderr)
        sys.exit(2 if wanted else 0)
    try:
        COMMANDS[sys.argv[1]](sys.argv[2:])
    except (ValueError, OSError, pickle.UnpicklingError, StrictDataclassError) as problem:
        if os.environ.get("VIDEOMAE_TRACEBACK"):
            raise
        print(f"videomae: error: {problem}\n(VIDEOMAE_TRACEBACK=1 shows where.)", file=sys.stderr)
        sys.exit(1)


if __name__ == "__main__":
    main()

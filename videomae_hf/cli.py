# Copyright 2026 The videomae_hf authors. Licensed under the Apache License, Version 2.0.
"""The `videomae` command: `videomae convert SRC DST`; each subcommand has its own --help."""

import io
import os
import sys
from collections.abc import Callable
from importlib import import_module

from huggingface_hub.errors import HfHubHTTPError, StrictDataclassError
from huggingface_hub.utils import HFValidationError
from safetensors import SafetensorError

from .data.video_dataset import BadVideosError


# What a user can mend. Anything else is a fault of ours and keeps its traceback.
_USER_ERRORS = (
    ValueError, OSError, ImportError, BadVideosError, FloatingPointError, StrictDataclassError, HfHubHTTPError,
    HFValidationError, SafetensorError,
)  # fmt: skip


def run_command(program: str, function: Callable[[list[str]], None], arguments: list[str]):
    """Runs a command; what the user can mend ends in one line and exit status 1."""
    for stream in (sys.stdout, sys.stderr):  # a name that the terminal cannot show ends nothing
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")
    try:
        function(arguments)
    except KeyboardInterrupt:
        print(f"\n{program}: interrupted.", file=sys.stderr)
        sys.exit(130)
    except _USER_ERRORS as problem:
        if os.environ.get("VIDEOMAE_TRACEBACK"):
            raise
        if isinstance(problem, BadVideosError | FloatingPointError) and os.environ.get("RANK", "0") != "0":
            sys.exit(1)  # all processes stop for the same reason; the first one says it
        process = f" (process {os.environ['RANK']})" if int(os.environ.get("WORLD_SIZE", 1)) > 1 else ""
        # On a line of its own, whatever a progress bar has left on this one
        print(f"\n{program}: error{process}: {problem}\n(VIDEOMAE_TRACEBACK=1 shows where.)", file=sys.stderr)
        sys.exit(1)


def main():
    commands = ("convert", "scan", "prepare", "doctor", "merge-labels")
    name, arguments = (sys.argv[1:2] or [""])[0], sys.argv[2:]
    if name not in commands:
        print(f"usage: videomae {{{','.join(commands)}}} ...   (videomae COMMAND --help)", file=sys.stderr)
        sys.exit(0 if name in ("-h", "--help") and not arguments else 2)

    def command(arguments: list[str]):
        # Each by itself: `prepare` needs PyAV, and `doctor` says why it is missing.
        import_module(f".tools.{name.replace('-', '_')}", __package__).main(arguments)

    run_command("videomae", command, arguments)


if __name__ == "__main__":
    main()

# Copyright 2026 The videomae_hf authors. Licensed under the Apache License, Version 2.0.
"""The `videomae` command: `videomae convert SRC DST`; each subcommand has its own --help."""

import io
import os
import sys
from collections.abc import Callable
from importlib import import_module


COMMANDS = {
    "convert": "checkpoints of OpenGVLab, MCG-NJU and transformers into this package's format, and back",
    "scan": "decode every video of a folder or list; report what is broken, and write a list without it",
    "prepare": "re-encode videos small and quick to read, and pack tar shards",
    "merge-labels": "merge the classes of several data sets into one list of classes",
    "doctor": "check this installation: decoders, accelerators, versions",
}


def _user_errors() -> tuple[type[Exception], ...]:
    """What a user can mend. Anything else is a fault of ours and keeps its traceback."""
    # Imported when something went wrong, so that `videomae --help` is quick
    from huggingface_hub.errors import HfHubHTTPError, StrictDataclassError
    from huggingface_hub.utils import HFValidationError
    from safetensors import SafetensorError

    from .data.video_dataset import BadVideosError

    errors = (ValueError, OSError, ImportError, FloatingPointError, BadVideosError)
    return (*errors, StrictDataclassError, HfHubHTTPError, HFValidationError, SafetensorError)


def run_command(program: str, function: Callable[[list[str]], None], arguments: list[str]):
    """Runs a command; what the user can mend ends in one line and exit status 1."""
    for stream in (sys.stdout, sys.stderr):  # a name that the terminal cannot show ends nothing
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")
    try:
        function(arguments)
    except KeyboardInterrupt as interrupt:
        print(f"\n{program}: interrupted" + (f"; {interrupt}." if interrupt.args else "."), file=sys.stderr)
        sys.exit(130)
    except Exception as problem:
        if not isinstance(problem, _user_errors()) or os.environ.get("VIDEOMAE_TRACEBACK"):
            raise
        same_everywhere = isinstance(problem, FloatingPointError) or type(problem).__name__ == "BadVideosError"
        if same_everywhere and os.environ.get("RANK", "0") != "0":
            sys.exit(1)  # all processes stop for the same reason; the first one says it
        process = f" (process {os.environ['RANK']})" if int(os.environ.get("WORLD_SIZE", 1)) > 1 else ""
        # On a line of its own, whatever a progress bar has left on this one
        print(f"\n{program}: error{process}: {problem}\n(VIDEOMAE_TRACEBACK=1 shows where.)", file=sys.stderr)
        sys.exit(1)


def main():
    name, arguments = (sys.argv[1:2] or [""])[0], sys.argv[2:]
    if name not in COMMANDS:
        asked = name in ("", "-h", "--help")
        if not asked:
            print(f"videomae: there is no command {name!r}.", file=sys.stderr)
        lines = ["usage: videomae COMMAND ...      (videomae COMMAND --help)", ""]
        lines += [f"  {command:<14}{text}" for command, text in COMMANDS.items()]
        print("\n".join(lines), file=sys.stdout if asked else sys.stderr)
        sys.exit(0 if asked else 2)

    def command(arguments: list[str]):
        # Each by itself: `prepare` needs PyAV, and `doctor` says why it is missing.
        import_module(f".tools.{name.replace('-', '_')}", __package__).main(arguments)

    run_command("videomae", command, arguments)


if __name__ == "__main__":
    main()

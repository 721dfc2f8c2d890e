# Copyright 2026 The videomae_hf authors. Licensed under the Apache License, Version 2.0.
"""The `videomae` command: one table of verbs, and how mistakes are reported."""

import io
import os
import sys
from collections.abc import Callable
from importlib import import_module


# Verb -> what it does; each is a module of `commands`
VERBS = {
    "pretrain": "pretrain VideoMAE V1 or V2 on videos without labels",
    "finetune": "train a classifier or a regression on labelled videos",
    "evaluate": "score a finetuned checkpoint, or predict without labels",
    "probe": "fit a linear, an attentive or a k-NN probe to frozen features",
    "progressive": "run several of these as stages of one recipe",
    "plan": "tell batch sizes, schedule and memory of a run before it starts",
    "scan": "decode every video of a folder or list; report what is broken, and write a list without it",
    "prepare": "re-encode videos small and quick to read, and pack tar shards",
    "merge-labels": "merge the classes of several data sets into one list of classes",
    "demo-videos": "synthesise the videos of the demo",
    "convert": "checkpoints of OpenGVLab, MCG-NJU and transformers into this package's format, and back",
    "push": "ship a checkpoint to the Hub, with its code and a model card",
    "report": "write a page about a pretraining, a finetuning and its scores",
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


def run_command(program: str, function: Callable[[list[str]], None], arguments: list[str]) -> None:
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


def run_verb(verb: str, arguments: list[str], program: str = "videomae") -> None:
    """Runs one command."""
    os.environ["VIDEOMAE_PROGRAM"] = program  # which --help names

    def command(arguments: list[str]) -> None:
        # Each is imported by itself: `prepare` needs PyAV, and `doctor` says why it is missing.
        import_module(f".commands.{verb.replace('-', '_')}", __package__).main(arguments)

    run_command(program, command, arguments)


def main(arguments: list[str] | None = None, program: str = "videomae") -> None:
    """`videomae VERB ...`"""
    arguments = sys.argv[1:] if arguments is None else arguments
    verb = arguments[0] if arguments else ""
    if verb in VERBS:
        return run_verb(verb, arguments[1:], program)
    asked = verb in ("", "-h", "--help")
    if not asked:
        print(f"{program}: there is no command {verb!r}.", file=sys.stderr)
    lines = [f"usage: {program} VERB ...      ({program} VERB --help)", ""]
    lines += [f"  {verb:<14}{text}" for verb, text in VERBS.items()]
    print("\n".join(lines), file=sys.stdout if asked else sys.stderr)
    sys.exit(0 if asked else 2)


if __name__ == "__main__":
    main()

# Copyright 2026 The videomae_hf authors. Licensed under the Apache License, Version 2.0.
"""The `videomae` command: the table of its verbs, and the reporting of errors."""

import io
import os
import sys
from collections.abc import Callable
from importlib import import_module
from pathlib import Path


# What each parser prints for --help, as text: most parsers take seconds, for their imports of torch and transformers.
# `make generated` writes it, and a test compares it with the parsers.
HELP = Path(__file__).with_name("help")
# Verb -> summary; each verb is a module of `commands`
VERBS = {
    "pretrain": "pretrain VideoMAE V1 or V2 on videos without labels",
    "finetune": "train a classifier or a regressor on labelled videos",
    "evaluate": "score a finetuned checkpoint, or predict videos without labels",
    "evaluate-timeline": "score the timelines of long videos that predict made: accuracy over time, mAP, F1",
    "predict": "label your own videos with a trained model: files, folders, long videos, cameras",
    "caption": "write captions or subtitles of videos with a VideoBERT",
    "extract": "write features of any model for many videos, over many processes",
    "search": "find the videos, or moments of videos, that are like a video or that a text describes",
    "videobert": "train VideoBERT on videos with captions, and finetune it",
    "visual-words": "cluster the features of segments into the visual words of VideoBERT",
    "visualize": "show reconstructions, attention and evidence for a class in videos, and a map of a folder",
    "export": "export a model to ONNX, OpenVINO, torch.export or ExecuTorch, with its preprocessing, and check it",
    "benchmark": "measure clips per second and memory of a model on this machine: eager, compiled, bf16, exported",
    "app": "open a page on which people try a model on their videos",
    "probe": "fit a linear, attentive or k-NN probe to frozen features, or one by the protocol of V-JEPA 2 or MTEB",
    "progressive": "run pretraining, finetuning, evaluation and probes as stages of one recipe",
    "plan": "print batch sizes, schedule and memory of a run before it starts",
    "split": "divide labelled videos into lists for training, validation and test, by groups",
    "scan": "decode every video of a folder or list, report broken ones, and write a list without them",
    "prepare": "re-encode videos so that they are small and fast to decode, and pack tar shards",
    "merge-labels": "merge the classes of several data sets into one list of classes",
    "demo-videos": "synthesise the videos of the demo",
    "convert": "convert checkpoints of OpenGVLab, MCG-NJU and transformers to this package's format, and back",
    "push": "ship a checkpoint to the Hub, with its code and a model card",
    "report": "write a page that says what a finetuned model has learned: intervals, shortcuts, changed clips",
    "doctor": "check this installation: decoders, accelerators, versions",
}


def _user_errors() -> tuple[type[Exception], ...]:
    """Exceptions that report a user's mistake. All others are bugs of this package and keep their traceback."""
    # Imported only after an error, so that `videomae --help` is fast
    from huggingface_hub.errors import HfHubHTTPError, StrictDataclassError
    from huggingface_hub.utils import HFValidationError
    from safetensors import SafetensorError

    from .data.video_dataset import BadVideosError

    errors = (ValueError, OSError, ImportError, FloatingPointError, BadVideosError)
    return (*errors, StrictDataclassError, HfHubHTTPError, HFValidationError, SafetensorError)


def run_command(program: str, function: Callable[[list[str]], None], arguments: list[str]) -> None:
    """Runs a command; a user's mistake ends it with a one-line message and exit status 1."""
    for stream in (sys.stdout, sys.stderr):  # names that the terminal cannot show are escaped instead of raising
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
            sys.exit(1)  # all processes stop for the same reason, and the first one reports it
        process = f" (process {os.environ['RANK']})" if int(os.environ.get("WORLD_SIZE", 1)) > 1 else ""
        # On a new line, because a progress bar may occupy the current one
        print(f"\n{program}: error{process}: {problem}\n(VIDEOMAE_TRACEBACK=1 shows where.)", file=sys.stderr)
        sys.exit(1)


def help_text(verb: str, program: str = "videomae") -> str:
    """What `videomae VERB --help` prints, 110 columns wide."""
    text = (HELP / f"{verb}.txt").read_text(encoding="utf-8")
    return text.replace(f"videomae {verb}", f"train.py {verb}") if program == "train.py" else text


def run_verb(verb: str, arguments: list[str], program: str = "videomae") -> None:
    """Runs one command."""
    if {"-h", "--help"} & {*arguments}:
        print(help_text(verb, program), end="")
        sys.exit(0)

    def command(arguments: list[str]) -> None:
        # Commands are imported separately: `prepare` needs PyAV, but `doctor` must run without it.
        import_module(f".commands.{verb.replace('-', '_')}", __package__).main(arguments)

    run_command(program, command, arguments)


def main(arguments: list[str] | None = None, program: str = "videomae") -> None:
    """Runs `videomae VERB ...`."""
    arguments = sys.argv[1:] if arguments is None else arguments
    verb = arguments[0] if arguments else ""
    if verb in VERBS:
        return run_verb(verb, arguments[1:], program)
    asked = verb in ("", "-h", "--help")
    if not asked:
        print(f"{program}: unknown command {verb!r}.", file=sys.stderr)
    lines = [f"usage: {program} VERB ...      ({program} VERB --help)", ""]
    lines += [f"  {verb:<19}{text}" for verb, text in VERBS.items()]
    print("\n".join(lines), file=sys.stdout if asked else sys.stderr)
    sys.exit(0 if asked else 2)


if __name__ == "__main__":
    main()

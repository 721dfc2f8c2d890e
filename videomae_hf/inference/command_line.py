# Copyright 2026 The videomae_hf authors. Licensed under the Apache License, Version 2.0.
"""What the command lines of trained models have in common: the form of their help, and options of the same name."""

import argparse


OPTIONS = {
    "data_root": {"metavar": "DIR", "help": "folder that relative paths in lists refer to [that of the list]"},
    "device": {"help": "cuda, mps, cpu, .. [the first that is available]"},
    "dtype": {"help": "float32, bfloat16 or float16 [bfloat16 on GPUs, otherwise float32]"},
    "batch_size": {"type": int, "metavar": "N", "default": 8, "help": "clips that the model processes at once [8]"},
    "num_workers": {"type": int, "metavar": "N", "help": "decoding threads [one per core, up to 4]"},
    "static_keep": {"type": float, "metavar": "P", "help": "encode the part P of the tokens that changes most [all]"},
    "token_keep": {"type": float, "metavar": "P", "help": "encode the part P of the tokens, as training with it [all]"},
    "token_keep_type": {"help": "tokens of --token_keep: running_cell or random [running_cell]"},
    "static_threshold": {
        "type": float,
        "metavar": "X",
        "help": "encode the tokens that change by more than X, in pixels of 0 to 1 [all]",
    },
}


def verb_parser(usage: str, description: str) -> argparse.ArgumentParser:
    """A parser whose help begins with command lines that run."""
    return argparse.ArgumentParser(
        usage=usage,
        description=description,
        formatter_class=lambda prog: argparse.RawDescriptionHelpFormatter(prog, max_help_position=28, width=110),
    )


def add_options(parser: argparse.ArgumentParser, *names: str) -> None:
    """Adds some of the common options."""
    for name in names:
        parser.add_argument(f"--{name}", **OPTIONS[name])

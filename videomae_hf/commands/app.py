# Copyright 2026 The videomae_hf authors. Licensed under the Apache License, Version 2.0.
"""`videomae app`: a page on which people try a model on their videos."""

import argparse
import importlib.util
import os
import re
import signal
import socket
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING

from ..checkpoints.video_text import is_video_text
from ..inference.command_line import add_options, verb_parser
from ..inference.inputs import find_inputs
from ..inference.showcase import open_showcase
from ..inference.text_showcase import open_text_showcase


if TYPE_CHECKING:
    import gradio


USAGE = """\
videomae app MODEL [options]

  videomae app output/mine
  videomae app output/mine --examples my_videos/val
  videomae app output/mine --index features
  videomae app output/videobert --index segments
"""
DESCRIPTION = """\
Opens a page for a model of any kind. A finetuned model predicts uploaded videos, long ones over time as well, and shows
the evidence for a class; a pretrained one reconstructs them, with sliders for the masks; all show attention. With
--index, the nearest videos of a folder of features are found. A VideoBERT finds those that a text
describes.

The page is on this machine alone, until Ctrl-C. Uploaded videos are removed when it ends.
"""
HOST, PORT = "127.0.0.1", 7860
_MOST_EXAMPLES = 12


def parse_arguments(arguments: list[str]) -> argparse.Namespace:
    parser = verb_parser(USAGE, DESCRIPTION)
    parser.add_argument("model", metavar="MODEL", help="folder or Hub id of a model of any kind, or of adapters")
    parser.add_argument(
        "--index",
        metavar="DIR",
        help="features of `videomae extract`, by this model, or of `search --features`",
    )
    parser.add_argument("--examples", metavar="FOLDER", help=f"videos to choose from; {_MOST_EXAMPLES} are shown")
    parser.add_argument("--host", default=HOST, help=f"address to listen on; 0.0.0.0 is every one [{HOST}]")
    parser.add_argument("--port", type=int, default=PORT, help=f"port to listen on [{PORT}]")
    parser.add_argument("--share", action="store_true", help="also open a public address, through a server of gradio")
    parser.add_argument("--max_size", metavar="SIZE", default="500MB", help="largest upload, such as 2GB [500MB]")
    add_options(parser, "device", "dtype")
    return parser.parse_args(arguments)


def check_arguments(args: argparse.Namespace) -> None:
    """Raises ValueError, OSError or ImportError for arguments that would fail only after the model is loaded."""
    if importlib.util.find_spec("gradio") is None:
        raise ImportError("The page needs gradio, which is not installed: pip install 'videomae_hf[app]'.")
    if not re.fullmatch(r"[1-9]\d*[KMG]B", args.max_size):
        raise ValueError(f"--max_size {args.max_size} must be a size such as 500MB or 2GB.")
    if not 1 <= args.port <= 65535:
        raise ValueError(f"--port {args.port} must lie in 1 to 65535.")
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((args.host, args.port))
        except OSError as error:
            raise OSError(f"Port {args.port} of {args.host} cannot be used: {error.strerror}; see --port.") from error


def build_app(
    model: str | Path,
    *,
    index: str | Path | None = None,
    examples: str | Path | None = None,
    device: str | None = None,
    dtype: str | None = None,
) -> "gradio.Blocks":
    """The page of a model in gradio; it runs within `private_folder`.

    Args:
        model: folder or Hub id of a checkpoint of any kind and layout, or of adapters.
        index: a folder of features of the model, of `videomae extract`, whose nearest videos are found.
        examples: a folder or list of videos to choose from.
        device, dtype: see `videomae_hf.load`.

    Raises:
        ValueError: a value is unknown, or the features are of another model.
        OSError: there is no such model or folder.
    """
    from ..inference.app_page import build_page, build_text_page  # imported here: gradio is part of the extra "app"

    if is_video_text(model):
        if examples is not None:
            raise ValueError(f"{model} is a VideoBERT, whose page takes words: leave --examples {examples} out.")
        return build_text_page(open_text_showcase(model, index, device, dtype))
    if examples is not None and not Path(examples).exists():
        raise FileNotFoundError(f"There is no folder of examples {examples}.")
    showcase = open_showcase(model, index, device, dtype)
    found = find_inputs([examples], media=showcase.viewer.media) if examples is not None else ()
    files = (one.video for one in found if isinstance(one.video, str) and os.path.isfile(one.video))
    return build_page(showcase, list(islice(files, _MOST_EXAMPLES)))


@contextmanager
def private_folder() -> Iterator[None]:
    """Context in which gradio keeps uploaded videos in a folder of its own, rather than in one for all programs.

    It has no statistics of its use sent, and no path opened by the environment.
    """
    with tempfile.TemporaryDirectory(prefix="videomae_app_", ignore_cleanup_errors=True) as folder:
        values = {"GRADIO_TEMP_DIR": folder, "GRADIO_EXAMPLES_CACHE": str(Path(folder, "examples"))}
        values |= {"GRADIO_ANALYTICS_ENABLED": "False", "GRADIO_ALLOWED_PATHS": ""}
        before = {name: os.environ.get(name) for name in values}
        os.environ.update(values)
        try:
            yield
        finally:
            for name, value in before.items():
                if value is None:
                    del os.environ[name]
                else:
                    os.environ[name] = value


def serve(
    page: "gradio.Blocks", host: str | None = HOST, port: int | None = PORT, max_size: str = "500MB", *, share=False
) -> None:
    """Serves a page until Ctrl-C or SIGTERM, and prints its addresses.

    Args:
        page: the page.
        host, port: where it listens; None leaves it to GRADIO_SERVER_NAME and GRADIO_SERVER_PORT, which the Hub sets.
        max_size: largest upload.
        share: also open a public address.
    """
    from ..inference.app_page import launch_page

    signal.signal(signal.SIGTERM, _stop)
    local, public = launch_page(page, host, port, max_size, share=share)
    print(f"The page is at {local} until Ctrl-C.", flush=True)
    if share:
        print(f"Public address: {public}" if public else "No public address could be opened.", flush=True)
    page.block_thread()


def _stop(number: int, frame: object) -> None:
    """Ends the program so that uploads are removed, which a second signal does not interrupt."""
    signal.signal(number, signal.SIG_IGN)
    sys.exit(128 + number)


def main(arguments: list[str]) -> None:
    args = parse_arguments(arguments)
    check_arguments(args)
    with private_folder():
        options = {name: getattr(args, name) for name in ("index", "examples", "device", "dtype")}
        page = build_app(args.model, **options)
        serve(page, args.host, args.port, args.max_size, share=args.share)

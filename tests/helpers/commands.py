"""Commands in processes of their own, which the tests start and which may not outlive them."""

import os
import shlex
import signal
import subprocess
from collections.abc import Callable
from importlib import import_module
from pathlib import Path

import pytest

from videomae_hf import cli


def run(command: list, timeout: float = 600, **options) -> subprocess.CompletedProcess:
    """`subprocess.run` with captured text that also ends what the command has started, such as the ranks of torchrun.

    `subprocess.run(timeout=...)` kills the command alone, and then waits for the pipes that its children hold.
    """
    pipes = {"stdin": subprocess.DEVNULL, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    command = [str(part) for part in command]
    process = subprocess.Popen(command, start_new_session=True, **pipes, **options)
    try:
        stdout, stderr = process.communicate(timeout=timeout)
    except BaseException:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        raise
    return subprocess.CompletedProcess(command, process.returncode, stdout, stderr)


def videomae(verb: str, *arguments) -> None:
    """A command within this process, whose errors are raised."""
    import_module(f"videomae_hf.commands.{verb.replace('-', '_')}").main([str(argument) for argument in arguments])


def command_in(place: Path, capsys: pytest.CaptureFixture, before: str = "", after: str = "") -> Callable:
    """A function that runs a line of `videomae` within this process: its exit status, output and errors.

    Args:
        place: the folder that PLACE in the line stands for.
        capsys: the fixture of pytest.
        before, after: the beginning and the end of each line.
    """

    def run(line: str) -> tuple[int, str, str]:
        capsys.readouterr()
        words = shlex.split(f"{before} {line} {after}".replace("PLACE", str(place)))
        try:
            cli.main(words)
        except SystemExit as end:
            return end.code, *capsys.readouterr()
        return 0, *capsys.readouterr()

    return run

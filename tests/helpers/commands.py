"""Commands in processes of their own, which the tests start and which may not outlive them."""

import os
import signal
import subprocess
from importlib import import_module


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

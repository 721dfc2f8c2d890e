"""Starts train.py in processes of their own, which no test leaves behind: each ends with its group when time is up."""

import os
import re
import signal
import socket
import subprocess
import sys
from pathlib import Path

from helpers.shared import REPO


TORCHRUN = ["-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2"]
ACCELERATE = ["-m", "accelerate.commands.launch", "--num_machines", "1", "--mixed_precision", "no"]
ACCELERATE += ["--dynamo_backend", "no", "--main_process_port", "0"]


def start(*arguments, launcher=(), script="train.py", **environment) -> subprocess.Popen:
    """`python [launcher] train.py [arguments]`; what it prints, errors as well, is its `stdout`.

    A launcher that ends in -m starts a module, whose name is `script`.
    """
    target = script if launcher and launcher[-1] == "-m" else str(REPO / script)
    command = [sys.executable, *launcher, target, *map(str, arguments)]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1", **environment}
    return subprocess.Popen(
        command, cwd=REPO, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
        start_new_session=True,
    )  # fmt: skip


def start_ranks(arguments: list[list], **environment) -> list[subprocess.Popen]:
    """Processes without a launcher, each with arguments of its own."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])
    common = {"WORLD_SIZE": str(len(arguments)), "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port, **environment}
    return [start(*some, RANK=str(rank), LOCAL_RANK=str(rank), **common) for rank, some in enumerate(arguments)]


def finish(process: subprocess.Popen, timeout: float = 200) -> str:
    """Its output. Past `timeout` seconds the test fails, and it and all that it started are killed."""
    try:
        return process.communicate(timeout=timeout)[0]
    finally:
        kill(process)


def kill(process: subprocess.Popen):
    try:
        os.killpg(process.pid, signal.SIGKILL)
    except ProcessLookupError:
        pass
    process.wait(timeout=10)


def run(*arguments, **options) -> tuple[int, str]:
    """Exit status and output."""
    process = start(*arguments, **options)
    output = finish(process)
    return process.returncode, output


def succeeded(done: tuple[int, str]) -> str:
    status, output = done
    assert status == 0, output[-3000:]
    return output


def losses(output: str) -> list[float]:
    return [float(value) for value in re.findall(r"\{'loss': '([^']+)'", output)]


def children(process: subprocess.Popen) -> list[int]:
    """Process ids of what it started."""
    return [int(pid) for pid in Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()]

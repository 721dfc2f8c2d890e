"""Runs of train.py in seconds, in processes of their own."""

import os
import re
import subprocess
import sys

from helpers.commands import run as run_command
from helpers.shared import REPO


MODEL = [
    *(
        "--num_frames",
        "8",
        "--image_size",
        "32",
        "--patch_size",
        "8",
        "--hidden_size",
        "24",
        "--num_hidden_layers",
        "2",
    ),
    *("--num_attention_heads", "3", "--intermediate_size", "48", "--decoder_hidden_size", "16"),
    *("--decoder_num_hidden_layers", "1", "--decoder_num_attention_heads", "2", "--decoder_intermediate_size", "32"),
]


def train(*arguments, launcher=(), **environment) -> subprocess.CompletedProcess:
    command = [sys.executable, *launcher, str(REPO / "train.py"), *map(str, arguments), "--use_cpu", "true"]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1", **environment}
    return run_command(command, cwd=REPO, env=environment)


def succeeded(done: subprocess.CompletedProcess) -> str:
    assert done.returncode == 0, done.stderr[-3000:]
    return done.stdout


def losses(output: str) -> list[float]:
    return [float(value) for value in re.findall(r"\{'loss': '([^']+)'", output)]

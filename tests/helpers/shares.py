"""A command in a process of its own that knows its share, as a launcher starts it, and that can be killed."""

import os
import subprocess
import sys
import time

from helpers.shared import REPO


def start(verb: str, arguments: list, rank: int, size: int, pause: float = 0.0, run: str = "") -> subprocess.Popen:
    """`videomae VERB` as process `rank` of `size` of a run; it waits for `pause` seconds after each result."""
    path = os.pathsep.join([str(REPO), str(REPO / "tests")])
    environment = {**os.environ, "PYTHONPATH": path, "OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1"}
    environment |= {"RANK": str(rank), "WORLD_SIZE": str(size), "TORCHELASTIC_RUN_ID": run}
    command = [sys.executable, "-m", "helpers.shares", str(pause), verb, *map(str, arguments)]
    return subprocess.Popen(command, env=environment, cwd=REPO, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)


def main(pause: str, *words: str) -> None:
    from videomae_hf import cli
    from videomae_hf.data.shared_work import SharedWork

    add = SharedWork.add

    def add_slowly(self, record: dict) -> None:
        add(self, record)
        time.sleep(float(pause))

    SharedWork.add = add_slowly
    cli.main([*words])


if __name__ == "__main__":
    main(*sys.argv[1:])

"""Commands in several processes that know their share, as a launcher starts them, and that can be killed."""

import multiprocessing
import os
import time
from multiprocessing.process import BaseProcess

from videomae_hf.data.shared_work import SharedWork


def start(verb: str, arguments: list, size: int, pause: float = 0.0) -> list[BaseProcess]:
    """`videomae VERB` in `size` processes; each waits for `pause` seconds after each result."""
    context = multiprocessing.get_context("forkserver")  # which imports everything once
    context.set_forkserver_preload(["helpers.shares", f"videomae_hf.commands.{verb}"])
    words = [verb, *map(str, arguments)]
    processes = [context.Process(target=_run, args=(words, rank, size, pause)) for rank in range(size)]
    for process in processes:
        process.start()
    return processes


def statuses(processes: list[BaseProcess]) -> list[int]:
    """The exit statuses, once all have ended."""
    for process in processes:
        process.join(120)
    return [process.exitcode for process in processes]


def _run(words: list[str], rank: int, size: int, pause: float) -> None:
    import torch

    from videomae_hf import cli

    os.environ.update({"RANK": str(rank), "WORLD_SIZE": str(size), "HF_HUB_OFFLINE": "1"})
    torch.set_num_threads(1)
    add = SharedWork.add

    def add_slowly(self, record: dict) -> None:
        add(self, record)
        time.sleep(pause)

    SharedWork.add = add_slowly
    cli.main(words)

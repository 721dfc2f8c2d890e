"""Fixtures of all tests."""

import subprocess

import pytest
import torch
from helpers.shared import REPO


def pytest_collection_modifyitems(items):
    """The file that takes longest comes first: were it last, one process of two would run it while the other waits."""
    items.sort(key=lambda item: item.path.name != "test_readme.py")


@pytest.fixture
def generator() -> torch.Generator:
    return torch.Generator().manual_seed(0)


@pytest.fixture
def train_here(capfd, monkeypatch):
    """`train` of helpers/small_runs.py in this process: most of the seconds of a small run are spent on importing."""
    from videomae_hf.cli import main

    def run_here(*arguments) -> subprocess.CompletedProcess:
        monkeypatch.chdir(REPO)
        capfd.readouterr()
        command, status = [*map(str, arguments), "--use_cpu", "true"], 0
        try:
            main(command, program="train.py")
        except SystemExit as stop:
            status = stop.code
        return subprocess.CompletedProcess(command, status, *capfd.readouterr())

    return run_here

# Copyright 2026 The videomae_hf authors. Licensed under the Apache License, Version 2.0.
"""Runs of an experiment as lines of JSON: those that a file does not hold yet are run, and added as they finish."""

import json
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor, as_completed
from contextlib import redirect_stderr, redirect_stdout
from functools import partial
from multiprocessing import get_context
from pathlib import Path

from tqdm import tqdm


def read_runs(path: Path) -> list[dict]:
    """The runs in a file; none if it does not exist."""
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()] if path.exists() else []


def missing_runs(path: Path, planned: list[dict]) -> list[dict]:
    """The planned runs, by all of their settings, that a file does not hold."""
    found = runs_of(path, planned)
    return [run for run in planned if not any(run.items() <= one.items() for one in found)]


def runs_of(path: Path, planned: list[dict]) -> list[dict]:
    """The runs in a file that are among the planned ones, with their results."""
    return [one for one in read_runs(path) if {name: one.get(name) for name in planned[0]} in planned]


def add_runs(path: Path, missing: list[dict], function: Callable[[dict], dict], processes: int) -> None:
    """Adds a line for `function(settings)` of each missing run, `processes` at a time.

    Results are kept, whatever happens to other runs; the error of a run that failed is raised at the end. What a run
    prints goes to log.txt beside the file, not to the screen.
    """
    quiet = partial(_logged, function, path.with_name("log.txt"))
    with ProcessPoolExecutor(processes, mp_context=get_context("spawn")) as pool:
        jobs = [pool.submit(quiet, run) for run in missing]
        for job in tqdm(as_completed(jobs), path.parent.name, total=len(jobs), unit="run"):
            if job.exception() is None:
                with path.open("a", encoding="utf-8") as file:
                    file.write(json.dumps(job.result()) + "\n")
    for job in jobs:
        job.result()


def _logged(function: Callable[[dict], dict], log: Path, run: dict) -> dict:
    with log.open("a", encoding="utf-8") as file, redirect_stdout(file), redirect_stderr(file):
        return function(run)

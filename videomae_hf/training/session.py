# Copyright 2026 The videomae_hf authors. Licensed under the Apache License, Version 2.0.
"""Runs a command that uses the Trainer: reads its settings, checks the processes, and claims the output folder."""

from collections.abc import Callable

from transformers import set_seed

from ..data.videos import with_smoke_test_videos
from ..settings.recipes import Verb, parse_command_line
from ..settings.run import Run
from .distributed import check_agreement, check_processes, leave_processes, lost_processes_named, report
from .output_folder import output_claimed, output_writable
from .run_checks import check_checkpoint, check_trackers


def execute(verb: Verb, command: Callable[[Run], None], arguments: list[str]) -> None:
    """Runs a command with the settings of the command line."""
    execute_run(command, parse_command_line(arguments, verb))
    leave_processes()


def execute_run(command: Callable[[Run], None], run: Run) -> None:
    """Runs a command in all processes that the launcher started."""
    args = run.training
    check_processes(args, args.num_processes)
    check_trackers(args)
    check_checkpoint(run.model.checkpoint)
    check_agreement(args, "settings", run.shared_settings())
    if run.unused:
        report(args, [f"{run.verb} does not use these settings of the recipe: {', '.join(run.unused)}"])
    run = with_smoke_test_videos(run)
    set_seed(args.seed)  # before the model is created
    claimed = output_claimed(run) if run.verb in ("pretrain", "finetune", "videobert") else output_writable(args)
    with lost_processes_named(args), claimed as messages:
        report(args, messages)
        command(run)

# Copyright 2026 The videomae_hf authors. Licensed under the Apache License, Version 2.0.
"""The `videomae` command: its list, and how a command ends."""

import sys

import pytest

from videomae_hf import cli


@pytest.mark.parametrize(("arguments", "status"), [([], 0), (["--help"], 0), (["-h"], 0), (["scna"], 2)])
def test_the_list_of_commands(monkeypatch, capsys, arguments, status):
    monkeypatch.setattr(sys, "argv", ["videomae", *arguments])
    with pytest.raises(SystemExit) as end:
        cli.main()
    captured = capsys.readouterr()
    assert end.value.code == status
    shown = captured.out if status == 0 else captured.err
    assert all(f"  {name} " in shown for name in ("convert", "scan", "prepare", "merge-labels", "doctor"))
    assert ("unknown command 'scna'" in captured.err) == (status == 2)


def raising(error: BaseException):
    def command(arguments):
        raise error

    return command


@pytest.mark.parametrize(
    ("error", "status", "text"),
    [
        (ValueError("a wrong value"), 1, "x: error: a wrong value\n(VIDEOMAE_TRACEBACK=1 shows where.)\n"),
        (FileNotFoundError("no such file"), 1, "x: error: no such file\n(VIDEOMAE_TRACEBACK=1 shows where.)\n"),
        (KeyboardInterrupt(), 130, "x: interrupted.\n"),
        (KeyboardInterrupt("what is done stays"), 130, "x: interrupted; what is done stays.\n"),
    ],
)
def test_what_a_user_can_mend_ends_in_one_line(capsys, monkeypatch, error, status, text):
    monkeypatch.delenv("VIDEOMAE_TRACEBACK", raising=False)
    with pytest.raises(SystemExit) as end:
        cli.run_command("x", raising(error), [])
    assert end.value.code == status and capsys.readouterr().err == "\n" + text


def test_a_fault_of_ours_keeps_its_traceback(monkeypatch):
    with pytest.raises(AttributeError, match="ours"):
        cli.run_command("x", raising(AttributeError("ours")), [])
    monkeypatch.setenv("VIDEOMAE_TRACEBACK", "1")
    with pytest.raises(ValueError, match="theirs"):
        cli.run_command("x", raising(ValueError("theirs")), [])

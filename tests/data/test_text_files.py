# Copyright 2026 The videomae_hf authors. Licensed under the Apache License, Version 2.0.
"""Small files are written whole or not at all."""

import csv
import errno
from pathlib import Path

import pytest

from videomae_hf.text_files import read_text, write_csv, write_text


def test_a_file_is_written_with_what_is_no_text_escaped(tmp_path):
    write_text(tmp_path / "a.txt", "grün\r\n\udce9\n")
    assert (tmp_path / "a.txt").read_bytes() == "grün\r\n\\udce9\n".encode()
    write_csv(tmp_path / "a.csv", [["path", "label"], ["a, b.mp4", 'say "hi"']])
    assert (tmp_path / "a.csv").read_text() == 'path,label\n"a, b.mp4","say ""hi"""\n'
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.csv", "a.txt"]


def test_every_line_break_in_a_cell_is_quoted(tmp_path):
    rows = [["carriage\rreturn.mp4", "line\nfeed.mp4", "both\r\n.mp4", "", "x"]]
    write_csv(tmp_path / "a.csv", rows)
    assert (tmp_path / "a.csv").read_bytes() == b'"carriage\rreturn.mp4","line\nfeed.mp4","both\r\n.mp4",,x\n'
    with open(tmp_path / "a.csv", newline="") as file:
        assert list(csv.reader(file)) == rows


@pytest.mark.parametrize(
    "start, message",
    [
        (b"PAR1\x15\x04", "is an Apache Parquet file; give its folder as --dataset_name"),
        (
            b"PK\3\4\x14\0",
            "is a zip archive or an Excel sheet; unpack it and give the folder, or export it as CSV UTF-8",
        ),
        (b"\x1f\x8b\x08\0", "is compressed by gzip; decompress it"),
    ],
    ids=["parquet", "zip", "gzip"],
)
def test_what_is_no_text_is_named_with_the_remedy(tmp_path, start, message):
    (tmp_path / "list.csv").write_bytes(start)
    with pytest.raises(ValueError, match=f"list.csv {message}"):
        read_text(tmp_path / "list.csv")


def test_a_full_disk_leaves_the_file_that_was_there(tmp_path, monkeypatch):
    path = tmp_path / "a.txt"
    path.write_text("before")
    write = Path.write_text

    def half_written(self, text, **options):
        write(self, text[: len(text) // 2])
        raise OSError(errno.ENOSPC, "No space left on device")  # without a name, as `file.write` raises it

    monkeypatch.setattr(Path, "write_text", half_written)
    with pytest.raises(OSError, match=r"cannot be written: No space left on device: .*a\.txt") as error:
        write_text(path, "after")
    assert error.value.errno == errno.ENOSPC
    assert path.read_text() == "before" and list(tmp_path.iterdir()) == [path]

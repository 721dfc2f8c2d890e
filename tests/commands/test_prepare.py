# Copyright 2026 The videomae_hf authors. Licensed under the Apache License, Version 2.0.
"""`videomae prepare`: folders, lists, interruptions and shards."""

import csv
import json
import os
import resource
import signal
import subprocess
import sys
import tarfile
import time
from pathlib import Path

import av
import numpy as np
import pytest
from helpers import shares
from helpers.commands import run as run_command
from helpers.encoded_videos import all_frames, decoded, write_frames
from helpers.indexed_video import frame_indices, write_indexed_video
from helpers.shared import REPO, SHARED

from videomae_hf.commands.prepare import Preparation, list_jobs, main, prepare_videos
from videomae_hf.data.preparation.transcoding import TranscodingOptions
from videomae_hf.data.preparation.worker_processes import run_isolated
from videomae_hf.data.shared_work import SharedWork
from videomae_hf.data.sources.folders_and_lists import read_samples
from videomae_hf.data.sources.list_editing import edit_list
from videomae_hf.models.video_decoding import read_frames


def run(*arguments) -> subprocess.CompletedProcess:
    command = [sys.executable, "-m", "videomae_hf.cli", "prepare", *map(str, arguments)]
    return run_command(command, cwd=REPO)


AWKWARD = SHARED / "data" / "awkward"


@pytest.mark.slow
@pytest.mark.skipif(not AWKWARD.is_dir(), reason="the problem files are not here")
def test_awkward_files(tmp_path):
    """All frames of what can be decoded, turned as it should be; the others are listed."""
    with pytest.raises(ValueError, match="9 of 55 videos failed"):
        main([str(AWKWARD), str(tmp_path / "new"), "--workers", "2"])
    failed = {Path(row["path"]).name for row in csv.DictReader((tmp_path / "new" / "prepare_failed.csv").open())}
    for row in csv.DictReader((AWKWARD / "EXPECTED.tsv").open(), delimiter="\t"):
        assert (row["file"] in failed) == (row["verdict"] != "decodes")
        if row["file"] not in failed:
            with av.open(str(tmp_path / "new" / Path(row["file"]).with_suffix(".mp4"))) as container:
                stream = container.streams.video[0]
                assert stream.frames == int(row["frames"])
                assert min(stream.width, stream.height) <= 256
                assert (stream.width < stream.height) == (int(row["width"]) < int(row["height"]))


# -------------------------------------------------------------------------------------------------- lists of videos


@pytest.fixture(scope="module")
def videos(tmp_path_factory) -> Path:
    """A folder of class folders; the number of frames tells the videos apart."""
    folder = tmp_path_factory.mktemp("videos")
    for count, name in enumerate(("hug/a.avi", "hug/a.mp4", "hug/deep/b c.mp4", "kick/d.mkv"), start=10):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        write_indexed_video(folder / name, count, codec="mpeg4" if name.endswith("avi") else "libx264")
    return folder


def frame_counts(samples) -> list[int]:
    return [len(all_frames(sample.path)) for sample in samples]


def test_class_folders_stay(videos, tmp_path, capsys):
    main([str(videos), str(tmp_path / "new"), "--workers", "2"])
    samples, class_names = read_samples(tmp_path / "new")
    names = [str(Path(sample.path).relative_to(tmp_path / "new")) for sample in samples]
    # a.avi and a.mp4 would both be a.mp4
    assert names == ["hug/a.avi.mp4", "hug/a.mp4.mp4", "hug/deep/b c.mp4", "kick/d.mp4"]
    assert frame_counts(samples) == [10, 11, 12, 13]
    assert class_names == ["hug", "kick"] and [sample.label for sample in samples] == [0, 0, 0, 1]
    assert not (tmp_path / "new" / "prepare_failed.csv").exists()
    report = capsys.readouterr().out
    assert report.startswith("4 videos, 0.00 hours: ") and "clips/s" in report


LISTS = {
    "official.txt": (
        "hug/a.mp4 1\nkick/d.mkv 0\n",
        "videos/hug/a.mp4 1\nvideos/kick/d.mp4 0\n",
    ),
    "spaces.txt": (
        "hug/deep/b c.mp4 hug\n./kick/d.mkv   kick\n",
        "videos/hug/deep/b c.mp4 hug\nvideos/kick/d.mp4   kick\n",
    ),
    "quoted.txt": (
        '"hug/deep/b c.mp4" 1\nhug/a.mp4 0\n',
        '"videos/hug/deep/b c.mp4" 1\nvideos/hug/a.mp4 0\n',
    ),
    "header.csv": (
        "Path,label,fold\nhug/a.mp4,hug,1\n\nkick/d.mkv,kick,2\n",
        "Path,label,fold\nvideos/hug/a.mp4,hug,1\n\nvideos/kick/d.mp4,kick,2\n",
    ),
    "table.tsv": (
        "path\tlabel\nhug/a.mp4\thug/a.mp4\nkick/d.mkv\tx\n",
        "path\tlabel\nvideos/hug/a.mp4\thug/a.mp4\nvideos/kick/d.mp4\tx\n",
    ),
    "lines.jsonl": (
        '{"label": "é", "path": "hug/a.mp4"}\n{"label": "x", "path": "kick\\/d.mkv"}\n',
        '{"label": "é", "path": "videos/hug/a.mp4"}\n{"label": "x", "path": "videos/kick/d.mp4"}\n',
    ),
    "bare.txt": (
        "hug/a 1\nhug/new 0\n",
        "videos/hug/a.mp4 1\nvideos/hug/new.mp4 0\n",
    ),
    "twice.txt": (
        "kick/d.mkv 1\nkick/d.mkv 0\n",
        "videos/kick/d.mp4 1\nvideos/kick/d.mp4 0\n",
    ),
}


@pytest.mark.parametrize("name", LISTS)
def test_lists_keep_their_columns(videos, name):
    text, expected = LISTS[name]
    source = videos / name
    source.write_text(text, encoding="utf-8")
    try:
        samples, listed, jobs = list_jobs(source, None)
        targets = {job.source: job.target for job in jobs}
        assert edit_list(source, listed, lambda sample: targets[os.path.abspath(sample.path)]) == expected
        if len(jobs) == len(samples):
            first = samples[0].path
            left_out = edit_list(
                source, listed, lambda s: None if s.path == first else targets[os.path.abspath(s.path)]
            )
            lines = [line for line in expected.splitlines() if line]
            del lines[len(lines) - len(samples)]
            assert [line for line in left_out.splitlines() if line] == lines
    finally:
        source.unlink()


def test_list_with_paths_elsewhere(videos, tmp_path):
    """Absolute paths, below the root or not: their common folder is left out of the new names."""
    elsewhere = tmp_path / "elsewhere" / "e.mp4"
    elsewhere.parent.mkdir()
    write_indexed_video(elsewhere, 14)
    source = tmp_path / "lists" / "train.csv"
    source.parent.mkdir()
    source.write_text(f"{elsewhere},kick\n{videos / 'kick' / 'd.mkv'},kick\nhug/a.mp4,hug\nhug/gone.mp4,hug\n")
    with pytest.raises(ValueError, match="1 of 4 videos failed"):
        main([str(source), str(tmp_path / "new"), "--root", str(videos), "--workers", "1"])
    samples, class_names = read_samples(tmp_path / "new" / "train.csv")
    assert frame_counts(samples) == [14, 13, 11]
    assert [class_names[sample.label] for sample in samples] == ["kick", "kick", "hug"]
    assert all(Path(sample.path).is_relative_to(tmp_path / "new" / "videos") for sample in samples)
    failed = list(csv.DictReader((tmp_path / "new" / "prepare_failed.csv").open()))
    assert failed == [
        {"path": str(videos / "hug" / "gone.mp4"), "reason": f"There is no video file {videos / 'hug/gone.mp4'}."}
    ]


def test_wrong_requests(videos, tmp_path):
    def error(*arguments) -> str:
        with pytest.raises((ValueError, OSError)) as caught:
            main([str(argument) for argument in arguments])
        return str(caught.value)

    assert "There is no folder or list of videos" in error(tmp_path / "missing", tmp_path / "new")
    assert "lies within SRC" in error(videos, videos)
    assert "lies within SRC" in error(videos, videos / "new")
    assert "lies within DST" in error(videos, videos.parent)
    assert "--shards 0" in error(videos, tmp_path / "new", "--shards", "0")
    (tmp_path / "paths.txt").write_text(f"{videos / 'hug' / 'a.mp4'}\n")
    assert "label" in error(tmp_path / "paths.txt", tmp_path / "new", "--shards", "2")
    (tmp_path / "urls.txt").write_text("http://localhost/a.mp4 1\n")
    assert "is not a video file" in error(tmp_path / "urls.txt", tmp_path / "new")
    # Two lists that would need a.mp4.mp4 both.
    for name in ("a.avi", "a.mp4", "a.avi.mp4"):
        (tmp_path / "clash").mkdir(exist_ok=True)
        (tmp_path / "clash" / name).write_bytes(b"")
    assert "rename one" in error(tmp_path / "clash", tmp_path / "new")
    assert not (tmp_path / "new").exists()


# ------------------------------------------------------------------------------------------------ interruptions


@pytest.mark.slow
def test_resumes_after_a_kill(tmp_path):
    """Killed half way: whole files only; the next run writes the rest and leaves those alone."""
    source, target = tmp_path / "raw", tmp_path / "new"
    source.mkdir()
    for index in range(24):
        write_indexed_video(source / f"{index:02d}.mp4", 200, preset="ultrafast")
    arguments = [str(source), str(target), "--workers", "2"]
    process = subprocess.Popen([sys.executable, "-m", "videomae_hf.cli", "prepare", *arguments], cwd=REPO)
    while len(list(target.glob("*.mp4"))) < 4:
        assert process.poll() is None
        time.sleep(0.005)
    process.kill()
    process.wait()
    time.sleep(0.5)  # its processes notice and end
    before = {path.name: path.stat().st_mtime_ns for path in target.glob("*.mp4")}
    assert 4 <= len(before) < 24
    main(arguments)
    after = {path.name: path.stat().st_mtime_ns for path in target.glob("*.mp4")}
    assert len(after) == 24 and before.items() <= after.items()
    assert {len(decoded(path)[0]) for path in target.glob("*.mp4")} == {200}
    assert sorted(path.name for path in target.iterdir() if path.suffix != ".mp4") == ["prepare.json"]


def test_changed_sources_and_options(tmp_path):
    source, target = tmp_path / "raw", tmp_path / "new"
    source.mkdir()
    write_indexed_video(source / "a.mp4", 10)
    write_indexed_video(source / "b.mp4", 10)
    main([str(source), str(target), "--workers", "1"])
    kept = (target / "a.mp4").stat().st_mtime_ns
    write_indexed_video(source / "b.mp4", 20)
    main([str(source), str(target), "--workers", "1"])
    assert len(decoded(target / "b.mp4")[0]) == 20
    assert (target / "a.mp4").stat().st_mtime_ns == kept
    with pytest.raises(ValueError, match="short_side=256, not 128, crf=23, not 30"):
        main([str(source), str(target), "--short_side", "128", "--crf", "30"])
    source.rename(tmp_path / "other")
    with pytest.raises(ValueError, match="source="):
        main([str(tmp_path / "other"), str(target)])


def test_failures_are_listed(tmp_path):
    source, target = tmp_path / "raw", tmp_path / "new"
    (source / "hug").mkdir(parents=True)
    write_indexed_video(source / "hug" / "good.mp4", 10)
    (source / "hug" / "bad.mp4").write_bytes(b"no video" * 99)
    result = run(source, target, "--workers", 2)
    assert result.returncode == 1
    assert f"1 of 2 videos failed: see {target / 'prepare_failed.csv'}." in result.stderr
    assert "Traceback" not in result.stderr and result.stdout.startswith("1 videos")
    rows = list(csv.DictReader((target / "prepare_failed.csv").open()))
    assert [row["path"] for row in rows] == [str(source / "hug" / "bad.mp4")]
    assert "cannot be transcoded: InvalidDataError" in rows[0]["reason"]
    assert [path.name for path in (target / "hug").iterdir()] == ["good.mp4"]
    # Mended, it is written and off the list.
    write_indexed_video(source / "hug" / "bad.mp4", 10)
    main([str(source), str(target), "--workers", "1"])
    assert not (target / "prepare_failed.csv").exists()
    assert sorted(path.name for path in (target / "hug").iterdir()) == ["bad.mp4", "good.mp4"]


def _die_on_three(number: int, alive) -> int:
    if number == 3:
        os.kill(os.getpid(), signal.SIGKILL)
    return number * number


@pytest.mark.parametrize("workers", [1, 3])
def test_a_dying_process_costs_one_job(workers):
    results = {index: (result, problem) for index, result, problem in run_isolated(_die_on_three, [*range(8)], workers)}
    died = None, "the decoder process died (SIGKILL, out of memory?)"
    assert results == {number: died if number == 3 else (number * number, "") for number in range(8)}


class SmallDisk(Preparation):
    """The largest file that a process may write stands for the disk."""

    def __call__(self, job, alive):
        resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, 20_000))
        return super().__call__(job, alive)


def test_a_full_disk_ends_the_run(tmp_path):
    """It is no fault of the video that it could not be written."""
    (tmp_path / "raw").mkdir()
    noise = np.random.default_rng(0).integers(0, 255, (40, 96, 128, 3), dtype=np.uint8)
    write_frames(tmp_path / "raw" / "a.mp4", noise)
    _, _, jobs = list_jobs(tmp_path / "raw", None)
    with pytest.raises(OSError, match="a.mp4 cannot be written: File too large"):
        prepare_videos(jobs, SmallDisk(tmp_path / "new", TranscodingOptions()), workers=1)
    assert list((tmp_path / "new").iterdir()) == []


# -------------------------------------------------------------------------------------------------------- shards


def read_shards(folder: Path) -> dict[str, dict[str, bytes]]:
    """{key: {suffix: content}} in the order of the shards."""
    samples = {}
    for shard in sorted(folder.glob("shard-*.tar")):
        with tarfile.open(shard) as tar:
            for member in tar:
                assert (member.uid, member.gid, member.mtime, member.uname) == (0, 0, 0, "")
                key, suffix = member.name.split(".")
                samples.setdefault(key, {})[suffix] = tar.extractfile(member).read()
    return samples


def test_shards(videos, tmp_path):
    target = tmp_path / "new"
    arguments = [str(videos), str(target), "--shards", "3", "--workers", "2"]
    main(arguments)
    assert json.loads((target / "index.json").read_text()) == {
        "class_names": ["hug", "kick"],
        "samples": 4,
        "shards": [{"file": "shard-000000.tar", "samples": 3}, {"file": "shard-000001.tar", "samples": 1}],
    }
    samples = read_shards(target)
    assert list(samples) == ["000000000", "000000001", "000000002", "000000003"]
    found = {}
    for sample in samples.values():
        details = json.loads(sample["json"])
        assert len(read_frames(sample["mp4"], lambda info: range(info.num_frames))) == details["frames"]
        assert sample["mp4"] == (target / details["path"]).read_bytes()
        found[details["path"]] = sample["cls"], details["label"], details["frames"], details["seconds"]
    assert found == {
        "hug/a.avi.mp4": (b"0", "hug", 10, 0.4),
        "hug/a.mp4.mp4": (b"0", "hug", 11, 0.44),
        "hug/deep/b c.mp4": (b"0", "hug", 12, 0.48),
        "kick/d.mp4": (b"1", "kick", 13, 0.52),
    }
    assert list(found) != sorted(found)  # shuffled
    # Again: nothing is written anew; with one shard lost or another size, the same samples in the same order.
    first, second = target / "shard-000000.tar", target / "shard-000001.tar"
    kept, content = first.stat().st_mtime_ns, second.read_bytes()
    second.unlink()
    main(arguments)
    assert first.stat().st_mtime_ns == kept and second.read_bytes() == content
    main([*arguments[:3], "9"])
    assert not second.exists() and read_shards(target) == samples


def test_unlabelled_shards(videos, tmp_path):
    main([str(videos), str(tmp_path / "new"), "--shards", "9", "--workers", "1", "--unlabelled"])
    assert json.loads((tmp_path / "new" / "index.json").read_text())["class_names"] == []
    for sample in read_shards(tmp_path / "new").values():
        assert sample.keys() == {"mp4", "json"} and "label" not in json.loads(sample["json"])


def test_datasets_reads_shards(videos, tmp_path, monkeypatch):
    datasets = pytest.importorskip("datasets")
    monkeypatch.setattr(datasets.config, "TORCHCODEC_AVAILABLE", False)
    main([str(videos), str(tmp_path / "new"), "--shards", "2", "--workers", "2"])
    stream = datasets.load_dataset(
        "webdataset", data_files=str(tmp_path / "new" / "shard-*.tar"), split="train", streaming=True
    )
    rows = list(stream.cast_column("mp4", datasets.Video(decode=False)))
    assert sorted((row["json"]["path"], row["cls"]) for row in rows) == [
        ("hug/a.avi.mp4", 0), ("hug/a.mp4.mp4", 0), ("hug/deep/b c.mp4", 0), ("kick/d.mp4", 1),
    ]  # fmt: skip
    for row in rows:
        assert frame_indices(read_frames(row["mp4"]["bytes"], [0, 9])) == [0, 9]


# -------------------------------------------------------------------------------------------------- several processes


def test_processes_divide_the_work(videos, tmp_path, monkeypatch, capsys):
    """One is killed after its first video; the same command writes the rest, and the last process writes the list."""
    source = tmp_path / "list.csv"
    (tmp_path / "bad.mp4").write_bytes(b"no video")
    names = ("hug/a.mp4", "hug/deep/b c.mp4", "kick/d.mkv", "hug/a.avi")
    source.write_text("".join(f"{path},x\n" for path in [*(videos / name for name in names), tmp_path / "bad.mp4"]))
    arguments = [str(source), str(tmp_path / "new"), "--workers", "1"]
    with pytest.raises(ValueError, match="1 of 5 videos failed"):
        main([str(source), str(tmp_path / "alone"), "--workers", "1"])

    def written() -> set[Path]:
        return {path.relative_to(tmp_path / "new") for path in (tmp_path / "new").rglob("*.mp4")}

    monkeypatch.setenv("WORLD_SIZE", "2")
    monkeypatch.setenv("RANK", "0")
    add = SharedWork.add

    def killed(self, record):
        raise RuntimeError("killed")

    monkeypatch.setattr(SharedWork, "add", killed)
    with pytest.raises(RuntimeError, match="killed"):
        main(arguments)
    assert len(written()) == 1
    monkeypatch.setattr(SharedWork, "add", add)
    monkeypatch.setenv("RANK", "1")
    main(arguments)
    assert "process 2 of 2 is done" in capsys.readouterr().out
    assert len(written()) == 3 and not (tmp_path / "new" / "list.csv").exists()
    before = {path: (tmp_path / "new" / path).stat().st_mtime_ns for path in written()}
    monkeypatch.setenv("RANK", "0")
    with pytest.raises(ValueError, match=r"1 of 5 videos failed: see .*prepare_failed.csv"):
        main(arguments)
    assert len(written()) == 4 and all(
        (tmp_path / "new" / path).stat().st_mtime_ns == at for path, at in before.items()
    )
    for name in ("list.csv", "prepare_failed.csv"):
        assert (tmp_path / "new" / name).read_text() == (tmp_path / "alone" / name).read_text()
    assert sorted(path.name for path in (tmp_path / "new").iterdir()) == [
        "list.csv", "prepare.json", "prepare_failed.csv", "videos"
    ]  # fmt: skip


@pytest.mark.slow
def test_a_killed_process_of_two(tmp_path):
    """Really killed, while another one works; scan and prepare continue, and nothing is done twice."""
    for index in range(12):
        (tmp_path / "raw").mkdir(exist_ok=True)
        write_indexed_video(tmp_path / "raw" / f"{index:02d}.mp4", 100, preset="ultrafast")
    for verb, arguments in (
        ("prepare", [tmp_path / "raw", tmp_path / "new", "--workers", 1]),
        ("scan", [tmp_path / "raw", "--report", tmp_path / "new" / "report.csv", "--workers", 1]),
    ):
        processes = [shares.start(verb, arguments, rank, 2, pause=0.3) for rank in range(2)]
        part = tmp_path / "new" / ("prepare" if verb == "prepare" else "report.csv")
        while not all(path.exists() and path.read_text().count("path") >= 2 for path in (
            part.with_name(f"{part.name}-0000{number}-of-00002.jsonl") for number in (1, 2))):  # fmt: skip
            assert all(process.poll() is None for process in processes)
            time.sleep(0.01)
        processes[1].kill()
        assert [process.wait(120) for process in processes] == [0, -9]
        processes = [shares.start(verb, arguments, rank, 2, run="2") for rank in range(2)]
        assert [process.wait(120) for process in processes] == [0, 0]
        assert not list((tmp_path / "new").glob("*.jsonl"))
    assert len(list((tmp_path / "new").glob("*.mp4"))) == 12
    assert [row["verdict"] for row in csv.DictReader((tmp_path / "new" / "report.csv").open())] == ["ok"] * 12

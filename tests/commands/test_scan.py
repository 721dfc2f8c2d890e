"""`videomae scan`: what it says about good, odd and broken files, and what survives them."""

import csv
import json
import os
import signal
import sys
import time
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
from helpers.indexed_video import indexed_frames, write_indexed_video
from helpers.shared import SHARED

from videomae_hf import cli
from videomae_hf.commands import scan
from videomae_hf.commands.scan import scan_file, scan_files, write_fix_list
from videomae_hf.data.preparation.scan_report import ScannedVideo, summarize
from videomae_hf.data.sources.folders_and_lists import VideoRecord, read_samples
from videomae_hf.data.sources.synthetic import write_video


AWKWARD = SHARED / "data" / "awkward"
EXPECTED = AWKWARD / "EXPECTED.tsv"
ROWS = list(csv.DictReader(EXPECTED.open(), delimiter="\t")) if EXPECTED.is_file() else []


def keep(source: Path, target: Path, part: float) -> Path:
    """The first part of a file, as an interrupted download leaves it."""
    content = source.read_bytes()
    target.write_bytes(content[: int(part * len(content))])
    return target


def write_at(path: Path, milliseconds: list[int]) -> Path:
    """A video whose frames come at these times."""
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=1000)
        stream.height, stream.width, stream.pix_fmt = 96, 128, "yuv420p"
        stream.time_base = stream.codec_context.time_base = Fraction(1, 1000)
        for pts, image in zip(milliseconds, indexed_frames(len(milliseconds))):
            frame = av.VideoFrame.from_ndarray(image, format="rgb24")
            frame.pts, frame.time_base = pts, Fraction(1, 1000)
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
    return path


# ---------------------------------------------------------------------------------------------------------- one file


@pytest.mark.parametrize("row", ROWS, ids=[row["file"] for row in ROWS])
def test_awkward_files(row):
    found = scan_file(str(AWKWARD / row["file"]))
    assert found.verdict in {"decodes": ("ok", "warning")}.get(row["verdict"], (row["verdict"],))
    assert found.frames == int(row["frames"])
    if row["frames"] != "0":
        assert (found.width, found.height) == (int(row["width"]), int(row["height"]))
        assert found.rotation == int(row["rotation"])
    assert bool(found.reason) == (found.verdict != "ok")


def test_facts_of_a_good_video(tmp_path):
    path = write_indexed_video(tmp_path / "a.mp4", 50, rate=25, rotation=90)
    assert scan_file(str(path)) == ScannedVideo(
        path=str(path),
        verdict="ok",
        reason="",
        frames=50,
        claimed_frames=50,
        fps=25.0,
        duration=2.0,
        variable_rate=False,
        width=96,  # turned
        height=128,
        rotation=90,
        pixel_aspect=1.0,
        pixel_format="yuv420p",
        codec="h264",
        container="mp4",
        bytes=path.stat().st_size,
    )


@pytest.mark.parametrize(
    ("name", "codec", "container", "claimed"),
    [("a.webm", "vp8", "webm", None), ("a.mkv", "h264", "matroska", None), ("a.avi", "mpeg4", "avi", 30)],
)
def test_containers(tmp_path, name, codec, container, claimed):
    encoder = {"vp8": "libvpx", "h264": "libx264"}.get(codec, codec)
    found = scan_file(str(write_indexed_video(tmp_path / name, 30, codec=encoder, rate=30)))
    assert (found.verdict, found.frames, found.codec, found.container) == ("ok", 30, codec, container)
    assert (found.claimed_frames, found.variable_rate) == (claimed, False)
    assert found.fps == pytest.approx(30, abs=0.05)
    assert found.duration == pytest.approx(1, abs=0.05)


@pytest.mark.parametrize(
    ("times", "variable"),
    [
        ([33 * i + i // 3 for i in range(60)], False),  # 30 frames a second in milliseconds: 33, 33, 34
        ([4 * i + i // 6 for i in range(60)], False),  # 240 frames a second: 4 or 5
        ([40 * i + 7 * (i % 2) for i in range(60)], False),  # a phone's jitter
        ([40 * i + 40 * (i > 30) for i in range(60)], False),  # one lost frame of 60
        ([40 * i + 400 * (i > 30) for i in range(60)], True),  # ten lost frames
        ([30 * i + 30 * (i // 2) for i in range(60)], True),  # 30 and 60 in turns
    ],
)
def test_variable_rate(tmp_path, times, variable):
    found = scan_file(str(write_at(tmp_path / "a.mkv", times)))
    assert found.frames == 60
    assert found.variable_rate is variable
    assert found.reason == ("variable frame rate" if variable else "")
    assert found.verdict == ("warning" if variable else "ok")


def test_a_video_cut_off(tmp_path):
    """With its index at the end mp4 is lost; at the start, it stops with an error; webm just ends."""
    whole = write_indexed_video(tmp_path / "whole.mp4", 60)
    found = scan_file(str(keep(whole, tmp_path / "a.mp4", 0.6)))
    assert (found.verdict, found.frames) == ("error", 0)
    assert found.reason == "Invalid data found when processing input (moov atom not found)"

    whole = write_indexed_video(tmp_path / "whole_fast.mp4", 60, movflags="faststart", g=10)
    found = scan_file(str(keep(whole, tmp_path / "b.mp4", 0.9)))
    assert found.verdict == "partial"
    assert 0 < found.frames < 60
    assert found.reason.startswith(f"stops after {found.frames} frames: Invalid data found")
    assert found.claimed_frames == 60

    whole = write_indexed_video(tmp_path / "whole.webm", 60, codec="libvpx")
    found = scan_file(str(keep(whole, tmp_path / "c.webm", 0.5)))
    assert found.verdict == "warning"
    assert 0 < found.frames < 50
    assert f"cut off: {found.duration:.1f} s of 2.4 s decode" in found.reason
    assert "damage: File ended prematurely" in found.reason


def test_damage_that_the_decoder_covers_up(tmp_path):
    """All frames come, without an exception; only FFmpeg's log and a flag at the frame tell."""
    noise = np.random.default_rng(0).integers(0, 256, (20, 96, 128, 3), dtype=np.uint8)
    write_video(tmp_path / "a.mp4", noise)
    content = bytearray((tmp_path / "a.mp4").read_bytes())
    middle = len(content) // 2
    content[middle : middle + 20] = bytes(byte ^ 0xFF for byte in content[middle : middle + 20])
    (tmp_path / "a.mp4").write_bytes(content)
    found = scan_file(str(tmp_path / "a.mp4"))
    assert (found.verdict, found.frames) == ("warning", 20)
    assert "damage: " in found.reason


def test_frames_of_several_sizes(tmp_path):
    """Two raw streams in a row."""
    small = write_indexed_video(tmp_path / "small.h264", 5)
    with av.open(str(tmp_path / "large.h264"), "w") as container:
        stream = container.add_stream("libx264", rate=25)
        stream.height, stream.width, stream.pix_fmt = 192, 256, "yuv420p"
        for image in indexed_frames(5, 192, 256):
            container.mux(stream.encode(av.VideoFrame.from_ndarray(image, format="rgb24")))
        container.mux(stream.encode())
    both = tmp_path / "both.h264"
    both.write_bytes(small.read_bytes() + (tmp_path / "large.h264").read_bytes())
    found = scan_file(str(both))
    assert (found.verdict, found.frames, found.width, found.height) == ("warning", 10, 128, 96)
    assert "frame size changes: to 256x192 at frame 5" in found.reason
    assert "no timestamps: the frame rate is a guess" in found.reason


def test_no_video_at_all(tmp_path):
    (tmp_path / "empty.mp4").touch()
    (tmp_path / "text.mp4").write_text("<html>404 Not Found</html>" * 20)
    with av.open(str(tmp_path / "sound.mp4"), "w") as container:
        stream = container.add_stream("aac", rate=44100, layout="stereo")
        frame = av.AudioFrame.from_ndarray(np.zeros((2, 1024), np.float32), format="fltp", layout="stereo")
        frame.sample_rate, frame.pts = 44100, 0
        container.mux(stream.encode(frame))
        container.mux(stream.encode())
    reasons = {
        "empty.mp4": "the file is empty",
        "text.mp4": "Invalid data found when processing input (moov atom not found)",
        "sound.mp4": "it has no video stream",
        "nowhere.mp4": "no such file",
        "a\udcff.mp4": "the file name is not UTF-8 and cannot be written to a list; rename it",
    }
    for name, reason in reasons.items():
        found = scan_file(str(tmp_path / name))
        assert (found.verdict, found.frames, found.reason) == ("error", 0, reason)


def test_a_single_frame_is_worth_a_warning(tmp_path):
    found = scan_file(str(write_indexed_video(tmp_path / "a.mp4", 1)))
    assert (found.verdict, found.reason, found.frames) == ("warning", "a single frame", 1)


def test_the_log_level_of_pyav_is_left_as_it_was(tmp_path):
    before = av.logging.get_level()
    scan_file(str(tmp_path / "nowhere.mp4"))
    assert av.logging.get_level() == before


# --------------------------------------------------------------------------------------------------------- processes


def misbehave(path: str, alive) -> ScannedVideo:
    """What decoders do to their process, by the name of the file."""
    name = Path(path).stem
    if name == "killed":
        os.kill(os.getpid(), signal.SIGKILL)
    if name == "aborted":
        os.abort()
    if name == "left":
        os._exit(7)
    if name == "stuck":
        time.sleep(600)
    if name == "slow":  # longer than the timeout, but it goes on
        for _ in range(12):
            time.sleep(0.25)
            alive()
    return ScannedVideo(path, frames=1)


@pytest.mark.skipif(sys.platform == "win32", reason="no such signals")
def test_a_dead_or_stuck_decoder_costs_its_file_alone():
    names = ["a", "killed", "b", "stuck", "slow", "aborted", "c", "left", "d", "killed"]
    found = {}
    for index, video in scan_files([f"{name}.mp4" for name in names], workers=3, timeout=2, scan=misbehave):
        if not found:
            time.sleep(2.5)  # a slow reader is no fault of the decoders
        found[index] = video
    assert [found[index].path for index in range(10)] == [f"{name}.mp4" for name in names]
    died = "the decoder process died (SIGKILL, out of memory?)"
    reasons = {index: found[index].reason for index in found if found[index].verdict == "error"}
    assert reasons == {
        1: died,
        3: "no result: no new frame for 2 s",
        5: "the decoder process died (SIGABRT)",
        7: "the decoder process died (exit status 7)",
        9: died,
    }


# ----------------------------------------------------------------------------------------------------- lists, command


NAMES = ["a.mp4", "my clip.mp4", 'quo"ted, clip.mp4', "übung.mp4", "broken.mp4"]


@pytest.fixture(scope="module")
def videos(tmp_path_factory) -> Path:
    """Class folders run (one broken) and jump."""
    folder = tmp_path_factory.mktemp("videos")
    for number, name in enumerate(NAMES):
        path = folder / ("run" if number % 2 else "jump") / name
        path.parent.mkdir(exist_ok=True)
        write_indexed_video(path, 10 + number)
    keep(folder / "jump/broken.mp4", folder / "jump/broken.mp4", 0.5)
    return folder


def run_scan(capsys, *arguments) -> tuple[int, str, str]:
    with pytest.raises(SystemExit) as caught:
        scan.main([str(argument) for argument in arguments])
    return int(caught.value.code), *capsys.readouterr()


def test_fix_list_of_class_folders(videos, tmp_path, capsys):
    report, fixed = tmp_path / "report.csv", tmp_path / "fixed.csv"
    code, out, _ = run_scan(capsys, videos, "--report", report, "--fix_list", fixed, "--workers", 2)
    assert code == 1
    assert f"4 of 5 videos in {fixed}, with labels." in out
    samples, classes = read_samples(fixed)
    assert classes == ["jump", "run"]
    assert list(samples) == [
        VideoRecord(str(videos / "jump/a.mp4"), 0),
        VideoRecord(str(videos / 'jump/quo"ted, clip.mp4'), 0),
        VideoRecord(str(videos / "run/my clip.mp4"), 1),
        VideoRecord(str(videos / "run/übung.mp4"), 1),
    ]
    rows = list(csv.DictReader(report.open(encoding="utf-8", newline="")))
    assert {Path(row["path"]).name: (row["verdict"], row["frames"], row["fps"]) for row in rows} == {
        "a.mp4": ("ok", "10", "25.0"),
        "my clip.mp4": ("ok", "11", "25.0"),
        'quo"ted, clip.mp4': ("ok", "12", "25.0"),
        "übung.mp4": ("ok", "13", "25.0"),
        "broken.mp4": ("error", "0", ""),
    }


def test_fix_list_of_a_folder_without_classes(videos, tmp_path, capsys):
    fixed = tmp_path / "fixed.csv"
    arguments = [videos / "jump", videos / "run/my clip.mp4", "--report", tmp_path / "report.csv", "--fix_list", fixed]
    code, out, _ = run_scan(capsys, *arguments, "--workers", 2)
    assert code == 1
    assert f"3 of 4 videos in {fixed}, without labels." in out
    samples, _ = read_samples(fixed, labelled=False)
    names = ["jump/a.mp4", 'jump/quo"ted, clip.mp4', "run/my clip.mp4"]
    assert list(samples) == [VideoRecord(str(videos / name)) for name in names]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (
            'path,label\r\n\r\na.mp4,7\r\n"broken.mp4",3\r\n\r\n"gone.mp4" ,3\r\n"a.mp4",2',
            'path,label\r\n\r\na.mp4,7\r\n\r\n"a.mp4",2',
        ),
        ("\ufeffbroken.mp4 7\na.mp4  3\n", "a.mp4  3\n"),
        ("a.mp4\t0 -1\nbroken.mp4\t0 -1\n", "a.mp4\t0 -1\n"),
        ("path\nbroken.mp4\na.mp4\n", "path\na.mp4\n"),
    ],
)
def test_fix_list_keeps_the_lines_of_a_list(tmp_path, text, expected):
    source, fixed = tmp_path / "list.txt", tmp_path / "fixed.txt"
    source.write_bytes(text.encode())
    results = [
        ScannedVideo(str(tmp_path / "a.mp4"), "warning", "variable frame rate"),
        ScannedVideo(str(tmp_path / "broken.mp4"), "partial"),
        ScannedVideo(str(tmp_path / "gone.mp4"), "error"),
    ]
    line = write_fix_list(fixed, [str(source)], None, results)
    assert fixed.read_bytes() == expected.encode()
    assert "--data_root" not in line


def test_fix_list_with_a_video_in_both_forms(tmp_path):
    (tmp_path / "other").mkdir()
    source = tmp_path / "list.csv"
    source.write_text(f"path,label\n{tmp_path}/a.mp4,0\na.mp4,0\n")
    line = write_fix_list(tmp_path / "other/list.csv", [str(source)], None, [ScannedVideo(str(tmp_path / "a.mp4"))])
    assert line.endswith(f"use it with --data_root {tmp_path}.")
    source.write_text(f"path,label\n{tmp_path}/a.mp4,0\n")
    line = write_fix_list(tmp_path / "other/list.csv", [str(source)], None, [ScannedVideo(str(tmp_path / "a.mp4"))])
    assert "--data_root" not in line


def test_fix_list_elsewhere_says_what_its_paths_are_relative_to(tmp_path):
    source = tmp_path / "list.txt"
    source.write_text("a.mp4 0\n")
    (tmp_path / "other").mkdir()
    line = write_fix_list(tmp_path / "other/list.txt", [str(source)], None, [ScannedVideo(str(tmp_path / "a.mp4"))])
    assert line.endswith(f"Its paths are relative to {tmp_path}: use it with --data_root {tmp_path}.")


def test_command_with_a_list_and_json(videos, tmp_path, capsys, monkeypatch):
    source = tmp_path / "train.csv"
    source.write_text("path,label\nrun/my clip.mp4,1\njump/gone.mp4,0\nrun/my clip.mp4,1\n", encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", ["videomae", "scan", str(source), "--root", str(videos), "--json"])
    with pytest.raises(SystemExit) as caught:
        cli.main()
    assert caught.value.code == 1
    out, err = capsys.readouterr()
    lines = {Path(line["path"]).name: line for line in map(json.loads, out.splitlines())}
    assert set(lines) == {"my clip.mp4", "gone.mp4"}  # each file once
    assert lines["my clip.mp4"]["verdict"] == "ok"
    assert lines["my clip.mp4"]["frames"] == 11
    assert lines["gone.mp4"]["reason"] == "no such file"
    assert "2 videos, 11 frames, 0:00:00 h" in err
    assert not (tmp_path / "videomae_scan.csv").exists()


def test_exit_status_and_default_report(videos, tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    code, out, _ = run_scan(capsys, videos / "run", "--workers", 1)
    assert code == 0
    assert "Report: videomae_scan.csv" in out
    assert len((tmp_path / "videomae_scan.csv").read_text(encoding="utf-8").splitlines()) == 3
    assert "Bad videos" not in out


def test_summary():
    facts = dict(width=340, height=256, rotation=0, pixel_aspect=1.2549, pixel_format="yuv420p", codec="h264")
    facts |= dict(container="mp4", bytes=500_000, fps=25.0, variable_rate=False)
    videos = [ScannedVideo(f"{n}.mp4", frames=250 + n, claimed_frames=250, duration=1800.0, **facts) for n in range(4)]
    videos.append(ScannedVideo("gone.mp4", "error", "no such file"))
    videos[3].verdict, videos[3].reason = "warning", "frame count: 9 in the header, 253 decoded; a single frame"
    assert summarize(videos) == [
        "5 videos, 1,006 frames, 2:00:00 h, 2 MB",
        "",
        "  ok             3",
        "  warning        1",
        "  partial        0",
        "  error          1",
        "",
        "Codec in container            videos",
        "  h264 in mp4                      4",
        "",
        "Size                          videos",
        "  340x256                          4",
        "",
        "Frames per second             videos",
        "  25                               4",
        "",
        "Worth knowing                 videos",
        "  non-square pixels                4",
        "",
        "Shortest clips (frames, seconds)",
        "     250   1800.00  0.mp4",
        "     251   1800.00  1.mp4",
        "     252   1800.00  2.mp4",
        "",
        "Warnings                      videos",
        "  frame count                      1",
        "  a single frame                   1",
        "",
        "Bad videos",
        "  error    gone.mp4",
        "           no such file",
    ]
    assert summarize(videos[4:] * 12)[-1] == "  .. and 2 more"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["nowhere"], "No folder or list of videos at nowhere"),
        (["movie.xyz"], "movie.xyz is not a text file in UTF-8"),
        (["list.csv", "--report", "list.csv"], "--report list.csv is a folder or one of the scanned files"),
        (["list.csv", "--fix_list", "no/such/list.csv"], "--fix_list no/such/list.csv: there is no folder"),
        (["list.csv", "a.mp4", "--fix_list", "new.csv"], "--fix_list accepts one list, or folders and videos"),
        (["list.csv", "--fix_list", "x", "--report", "x"], "--fix_list and --report are both x"),
        (["list.csv", "--workers", "0"], "--workers 0 must be at least 1"),
        (["list.csv", "--timeout", "0"], "--timeout 0.0 must be positive"),
    ],
)
def test_refused(tmp_path, monkeypatch, arguments, message):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "list.csv").write_text("a.mp4,0\n")
    (tmp_path / "movie.xyz").write_bytes(b"\xff\xfe\x00\xd8\xff")
    with pytest.raises((ValueError, FileNotFoundError), match=message):
        scan.main(arguments)
    assert not Path("videomae_scan.csv").exists()


# -------------------------------------------------------------------------------------------------- several processes


@pytest.fixture
def five(tmp_path) -> Path:
    """Five videos, of which the second and the fifth are broken."""
    for number in range(5):
        path = tmp_path / "videos" / f"{number}.mp4"
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(b"no video") if number in (1, 4) else write_indexed_video(path, 10 + number)
    return tmp_path / "videos"


def scan_here(*arguments) -> int:
    with pytest.raises(SystemExit) as end:
        scan.main([*map(str, arguments), "--workers", "1"])
    return int(end.value.code)


def test_processes_divide_a_scan(five, tmp_path, monkeypatch, capsys):
    """One is killed after its first video; the same command scans the rest, and the last process reports all."""
    arguments = [five, "--report", tmp_path / "report.csv", "--fix_list", tmp_path / "good.csv"]
    assert scan_here(five, "--report", tmp_path / "alone.csv") == 1
    monkeypatch.setenv("WORLD_SIZE", "2")
    monkeypatch.setenv("RANK", "0")
    scanned, really = [], scan.scan_files

    def killed(paths, *rest):
        yield next(really(paths, *rest))
        raise RuntimeError("killed")

    monkeypatch.setattr(scan, "scan_files", killed)
    with pytest.raises(RuntimeError, match="killed"):
        scan.main([*map(str, arguments), "--workers", "1"])

    def noted(paths, *rest):
        scanned.extend(Path(path).name for path in paths)
        return really(paths, *rest)

    monkeypatch.setattr(scan, "scan_files", noted)
    monkeypatch.setenv("RANK", "1")
    scan.main([*map(str, arguments), "--workers", "1"])  # it is not the last one
    assert scanned == ["1.mp4", "3.mp4"] and not (tmp_path / "report.csv").exists()
    assert "process 2 of 2 is done" in capsys.readouterr().err
    monkeypatch.setenv("RANK", "0")
    assert scan_here(*arguments) == 1
    assert sorted(scanned[2:]) == ["2.mp4", "4.mp4"]
    ours, alone = (list(csv.DictReader((tmp_path / name).open())) for name in ("report.csv", "alone.csv"))
    for row in (*ours, *alone):  # FFmpeg says the same only once in a process
        row["reason"] = row["reason"].removesuffix(" (moov atom not found)")
    assert ours == alone and [row["verdict"] for row in ours] == ["ok", "error", "ok", "ok", "error"]
    assert (tmp_path / "good.csv").read_text().count(".mp4") == 3
    assert sorted(path.name for path in tmp_path.iterdir()) == ["alone.csv", "good.csv", "report.csv", "videos"]


def test_an_interrupted_scan_continues(five, tmp_path, monkeypatch, capsys):
    """Videos that have changed since are scanned again."""
    report, really = tmp_path / "report.csv", scan.scan_files

    def interrupted(paths, *rest):
        found = really(paths, *rest)
        yield next(found)
        yield next(found)
        raise KeyboardInterrupt

    monkeypatch.setattr(scan, "scan_files", interrupted)
    assert scan_here(five, "--report", report) == 130
    assert len(list(csv.DictReader(report.open()))) == 2
    assert "Interrupted: 2 of 5 videos were scanned; the same command continues." in capsys.readouterr().out
    write_indexed_video(five / "1.mp4", 20)
    scanned = []
    monkeypatch.setattr(scan, "scan_files", lambda paths, *rest: scanned.extend(paths) or really(paths, *rest))
    assert scan_here(five, "--report", report) == 1
    assert sorted(Path(path).name for path in scanned) == ["1.mp4", "2.mp4", "3.mp4", "4.mp4"]
    rows = list(csv.DictReader(report.open()))
    assert [row["frames"] for row in rows] == ["10", "20", "12", "13", "0"]

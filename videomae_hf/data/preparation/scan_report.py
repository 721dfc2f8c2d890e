# Copyright 2026 The videomae_hf authors. Licensed under the Apache License, Version 2.0.
"""The findings of `videomae scan`, as a csv file for programs and a summary for people."""

import math
from collections import Counter
from dataclasses import dataclass, fields
from pathlib import Path

from ...text_files import write_csv


VERDICTS = ("ok", "warning", "partial", "error")
BAD = ("partial", "error")


@dataclass
class ScannedVideo:
    """The findings of a full decode of one file; fields without a finding are None.

    `frames` is the number of decoded frames, `claimed_frames` the number in the header. `fps` (frames per second) and
    `duration` (seconds) come from the timestamps of the frames, or from the header if there are none. `width` and
    `height` (pixels) are given after `rotation` (degrees, counter-clockwise, as in PyAV). `pixel_aspect` is the width
    of a pixel divided by its height.
    """

    path: str
    verdict: str = "ok"
    reason: str = ""
    frames: int = 0
    claimed_frames: int | None = None
    fps: float | None = None
    duration: float | None = None
    variable_rate: bool | None = None
    width: int | None = None
    height: int | None = None
    rotation: int | None = None
    pixel_aspect: float | None = None
    pixel_format: str | None = None
    codec: str | None = None
    container: str | None = None
    bytes: int | None = None


def summarize(videos: list[ScannedVideo], limit: int = 10) -> list[str]:
    """The summary of a scan, as lines for people; `limit` bounds the number of bad videos that are listed."""
    lines = [_totals(videos), ""]
    counts = Counter(video.verdict for video in videos)
    lines += [f"  {verdict:<8}{counts[verdict]:>8,}" for verdict in VERDICTS]
    decoded = [video for video in videos if video.frames]
    for title, kind in (
        ("Codec in container", lambda video: f"{video.codec} in {video.container}"),
        ("Size", lambda video: f"{video.width}x{video.height}"),
        ("Frames per second", lambda video: "unknown" if video.fps is None else f"{video.fps:.4g}"),
    ):
        lines += _table(title, Counter(map(kind, decoded)))
    lines += _peculiarities(decoded)
    if decoded:
        lines += ["", "Shortest clips (frames, seconds)"]
        for video in sorted(decoded, key=lambda video: video.frames)[:3]:
            seconds = "?" if video.duration is None else f"{video.duration:.2f}"
            lines.append(f"  {video.frames:>6,} {seconds:>9}  {_printable(video.path)}")
    odd = Counter(remark for video in videos if video.verdict == "warning" for remark in _kinds(video.reason))
    lines += _table("Warnings", odd)
    bad = [video for video in videos if video.verdict in BAD]
    if bad:
        lines += ["", "Bad videos"]
    for video in bad[:limit]:
        lines += [f"  {video.verdict:<8} {_printable(video.path)}", f"           {video.reason}"]
    if len(bad) > limit:
        lines.append(f"  .. and {len(bad) - limit} more")
    return lines


def _totals(videos: list[ScannedVideo]) -> str:
    seconds = round(sum(video.duration or 0 for video in videos))
    frames = sum(video.frames for video in videos)
    size = sum(video.bytes or 0 for video in videos)
    power = min(int(math.log(max(size, 1), 1000)), 4)
    time_text = f"{seconds // 3600}:{seconds // 60 % 60:02d}:{seconds % 60:02d} h"
    unit = ("bytes", "kB", "MB", "GB", "TB")[power]
    return f"{len(videos):,} videos, {frames:,} frames, {time_text}, {size / 1000**power:.4g} {unit}"


def _table(title: str, counts: Counter, limit: int = 6) -> list[str]:
    if not counts:
        return []
    rows = counts.most_common(limit)
    if len(counts) > limit:
        rows.append((f"{len(counts) - limit} others", counts.total() - sum(count for _, count in rows)))
    return ["", f"{title:<30}videos", *(f"  {name:<28}{count:>6,}" for name, count in rows)]


def _peculiarities(decoded: list[ScannedVideo]) -> list[str]:
    counts = Counter()
    for video in decoded:
        counts["rotated"] += video.rotation != 0
        # Below 1 %, they change the width of a frame of 224 pixels by less than three.
        counts["non-square pixels"] += abs((video.pixel_aspect or 1) - 1) > 0.01
        deep = ("p10", "p12", "p14", "p16", "I;16")  # FFmpeg's names, and Pillow's
        counts["more than 8 bits per channel"] += any(depth in (video.pixel_format or "") for depth in deep)
        counts["no frame count in the header"] += video.claimed_frames is None
    return _table("Worth knowing", +counts)


def _kinds(reason: str) -> list[str]:
    return [remark.split(":")[0] for remark in reason.split("; ")]


def _printable(path: str) -> str:
    return path.encode(errors="backslashreplace").decode()


def write_report(destination: Path, videos: list[ScannedVideo]) -> None:
    """Writes a csv file with one column per field of `ScannedVideo`."""
    names = [field.name for field in fields(ScannedVideo)]
    write_csv(destination, [names, *([getattr(video, name) for name in names] for video in videos)])

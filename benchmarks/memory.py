"""Memory of a process that decodes thousands of clips, for each backend of `read_frames`.

    python benchmarks/memory.py                   # draws its own small files, 3000 clips per backend
    python benchmarks/memory.py videos/ --clips 10000

Each backend runs in a process of its own and reads clips of 16 frames at stride 4 from random places of the files in
turn. Its resident set is noted every 250 clips; the first 250 are warm-up. A leak shows as a slope that stays.
"""

import argparse
import multiprocessing
import os
import random
import sys
import tempfile
from collections import Counter
from pathlib import Path

import numpy as np
import torch
from decoding import draw_files, installed, list_files, table

from videomae_hf.models.video_decoding import BACKENDS, VideoDecodeError, read_frames, usable_backend


EVERY = 250
# Files that all backends open and read right, of several demuxers and decoders.
DRAWN = ("h264_short_gop.mp4", "h264.mkv", "h264_variable_rate.mp4", "vp9.webm", "vp8.webm", "mpeg4.avi", "wmv2.wmv")


def resident_kib() -> int:
    with open("/proc/self/statm") as file:  # Linux only
        return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE") // 1024


def decode_clips(backend: str, paths: list[str], clips: int, pipe) -> None:
    """Sends (clips so far, KiB) every EVERY clips, and at last the number of clips of each file that failed."""
    torch.set_num_threads(1)
    draw, failed = random.Random(0), Counter()
    for number in range(clips):
        path = paths[number % len(paths)]

        def clip(info):
            start = draw.randrange(max(1, info.num_frames - 60))
            return [min(start + 4 * step, info.num_frames - 1) for step in range(16)]

        try:
            read_frames(path, clip, backend)
        except VideoDecodeError:
            failed[Path(path).name] += 1
        if (number + 1) % EVERY == 0:
            pipe.send((number + 1, resident_kib()))
    pipe.send(failed)


def measure(backend: str, paths: list[str], clips: int) -> tuple[list[tuple[int, int]], str]:
    """(clips, KiB) in order, and a remark on failures."""
    context = multiprocessing.get_context("spawn")
    pipe, other = context.Pipe()
    process = context.Process(target=decode_clips, args=(backend, paths, clips, other))
    process.start()
    other.close()  # or the pipe would not end with the process
    points = []
    try:
        while isinstance(message := pipe.recv(), tuple):
            points.append(message)
            print(f"{backend:12}{message[0]:>8} clips{message[1] / 1024:>10.1f} MiB", file=sys.stderr, flush=True)
    except EOFError:
        process.join()
        return points, f"crash (exit code {process.exitcode})"
    process.join()
    return points, ", ".join(f"{count} clips of {name} failed" for name, count in message.items()) or "-"


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("paths", nargs="*", type=Path, help="files, or folders that are searched at any depth")
    parser.add_argument("--clips", type=int, default=3000, help=f"per backend, at least {3 * EVERY}")
    args = parser.parse_args()
    if args.clips < 3 * EVERY:
        parser.error(f"--clips {args.clips}: a slope needs at least {3 * EVERY}.")
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        files = list_files(args.paths, {}) or draw_files(Path(folder), DRAWN, count=90, height=96, width=128)
        for name in BACKENDS:
            try:
                usable_backend(name)
            except ImportError as error:
                print(f"{name} is left out: {error}", file=sys.stderr)
                continue
            points, remark = measure(name, [str(file) for file in files], args.clips)
            if len(points) < 3:
                rows.append([name, points[-1][0] if points else 0, "-", "-", "-", "-", remark])
                continue
            numbers, kib = np.array(points).T  # each (P,)
            slope = np.polyfit(numbers, kib, 1)[0]
            late = np.polyfit(numbers[len(numbers) // 2 :], kib[len(kib) // 2 :], 1)[0]
            growth = f"{(kib[-1] - kib[0]) / 1024:.1f}"
            rows.append([name, numbers[-1], f"{kib[0] / 1024:.1f}", growth, f"{slope:.2f}", f"{late:.2f}", remark])
    print(
        ", ".join(installed(package) for package in ("av", "torchcodec", "decord", "torch")) + f"; {len(files)} files\n"
    )
    header = [
        "backend",
        "clips",
        f"MiB after {EVERY}",
        "growth, MiB",
        "KiB a clip",
        "KiB a clip, second half",
        "remark",
    ]
    print(table(header, rows))


if __name__ == "__main__":
    main()

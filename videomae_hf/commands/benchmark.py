# Copyright 2026 The videomae_hf authors. Licensed under the Apache License, Version 2.0.
"""`videomae benchmark`: clips per second and memory of a model on this machine."""

import argparse
import json
import platform
from dataclasses import asdict
from pathlib import Path

import torch

from .. import __version__
from ..checkpoints.opening import checkpoint_processor
from ..inference.benchmarking import RUNTIMES, DecodeRate, Measurement, benchmark, decode_rate
from ..inference.command_line import verb_parser
from ..inference.model_runner import usable_device
from ..models.configuration_videomae_v2 import VideoMAEV2Config
from ..text_files import write_text


USAGE = """\
videomae benchmark MODEL [--batch_sizes N ...] [--video VIDEO] [options]

  videomae benchmark output/mine
  videomae benchmark output/mine --batch_sizes 1 8 32 --video video.mp4 --json benchmark.json
  videomae benchmark output/mine --runtimes eager onnxruntime
"""
DESCRIPTION = """\
Measures how many clips per second a model takes on this machine, without decoding: eager and compiled in float32 and in
bfloat16 (autocast), and exported to ONNX Runtime and OpenVINO where these are installed. Each runtime has a process of
its own, with as many threads as torch (OMP_NUM_THREADS); they take turns, after two batches for warming up. The table
has the median and the lowest and highest of all repeats, and the peak memory: on a GPU what torch allocated, on Linux
that of the process, which includes some 0.4 GB of Python and its libraries.

With --video, the rate at which one thread decodes and prepares clips of this video stands beside it.
"""


def parse_arguments(arguments: list[str]) -> argparse.Namespace:
    parser = verb_parser(USAGE, DESCRIPTION)
    parser.add_argument("model", metavar="MODEL", help="folder or Hub id of a model of any kind, or of adapters")
    parser.add_argument("--batch_sizes", type=int, nargs="+", metavar="N", default=[1, 8], help="clips at once [1 8]")
    parser.add_argument("--runtimes", nargs="+", metavar="NAME", default=list(RUNTIMES),
                        help=f"any of {', '.join(map(repr, RUNTIMES))} [all]")  # fmt: skip
    parser.add_argument("--repeats", type=int, metavar="N", default=7, help="timed batches of each row [7]")
    parser.add_argument("--video", metavar="VIDEO", help="also measure how fast this video is decoded")
    parser.add_argument("--device", help="device of torch: cuda, mps, cpu, .. [the first that is available]")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write all figures to this file")
    return parser.parse_args(arguments)


def check_arguments(args: argparse.Namespace) -> None:
    """Raises ValueError for values out of range."""
    unknown = next((name for name in args.runtimes if name not in RUNTIMES), None)
    if unknown is not None:
        raise ValueError(f"--runtimes {unknown} is unknown; choose from {', '.join(RUNTIMES)}.")
    if min(args.batch_sizes) < 1 or args.repeats < 1:
        raise ValueError(f"--batch_sizes {args.batch_sizes} and --repeats {args.repeats} must be at least 1.")


def table(rows: list[Measurement]) -> list[str]:
    """The lines of the table; a row that could not run says why."""
    header = f"{'runtime':<14}{'batch size':>10}{'clips/s':>10}  {'lowest to highest':>19}{'peak memory':>13}"
    lines = [header, "-" * len(header)]
    for row in rows:
        start = f"{row.runtime:<14}{row.batch_size:>10}"
        if row.error is not None:
            lines.append(f"{start}  not run: {row.error}")
            continue
        median, lowest, highest = row.clips_per_second
        spread = f"{lowest:.2f} to {highest:.2f}"
        memory = "not measured" if row.peak_memory is None else f"{row.peak_memory / 2**30:.2f} GiB"
        lines.append(f"{start}{median:>10.2f}  {spread:>19}{memory:>13}")
    return lines


def content(args: argparse.Namespace, rows: list[Measurement], decoding: DecodeRate | None) -> dict:
    """The figures as JSON; times are seconds, memory is bytes."""
    measured = []
    for row in rows:
        rates = dict.fromkeys(("median", "lowest", "highest"))
        if row.error is None:
            rates = dict(zip(rates, row.clips_per_second))
        measured.append({**asdict(row), "clips_per_second": rates})
    device = usable_device(args.device)
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else platform.processor() or platform.machine()
    return {
        "model": args.model,
        "device": f"{device} ({name})",
        "num_threads": torch.get_num_threads(),
        "versions": {"videomae_hf": __version__, "torch": torch.__version__},
        "rows": measured,
        "decoding": decoding and asdict(decoding),
    }


def main(arguments: list[str]) -> None:
    args = parse_arguments(arguments)
    check_arguments(args)
    device = usable_device(args.device)
    config = VideoMAEV2Config.from_pretrained(args.model)
    decoding = None
    if args.video:  # first, so that a wrong name is told at once
        processor = checkpoint_processor(args.model, config, video_backend="auto")
        decoding = decode_rate(args.video, processor)
    runtimes, batch_sizes = (list(dict.fromkeys(some)) for some in (args.runtimes, args.batch_sizes))
    rows = benchmark(args.model, runtimes, batch_sizes, device, args.repeats)
    height, width = config.image_hw
    clip = f"{config.num_frames} x {height} x {width}"
    print(f"{args.model}: clips of {clip}, {device}, {torch.get_num_threads()} threads, {args.repeats} repeats\n")
    print("\n".join(table(rows)))
    if decoding is not None:
        print(
            f"\n{args.video} ({decoding.width} x {decoding.height}): one thread prepares "
            f"{decoding.clips_per_second:.2f} clips/s, and decodes {decoding.frames_per_second:.0f} frames/s"
        )
    if args.json:
        write_text(args.json, json.dumps(content(args, rows, decoding), indent=1) + "\n")

"""Which backend of `read_frames` gives the right frames of which files, and what a clip costs with each.

    python benchmarks/decoding.py                                  # draws its own files, one per container and codec
    python benchmarks/decoding.py videos/ --summary                # the files of a folder (or paths), totals only
    python benchmarks/decoding.py videos/ --expected EXPECTED.tsv  # what a full decode should give, file by file

Right is what a sequential decode of the whole file with PyAV gives: the same number of frames, and for each index the
same frame. Backends convert colours each in its own way, so the same frame is one that is nearest to the right frame
of all frames in the file and differs from it by less than SAME_FRAME grey levels on average.

Costs are CPU seconds of one clip of 16 frames at stride 4 from a random place, the file opened anew for each, decoded
on one thread. Backends take turns, so that a machine whose speed drifts drifts for all.

Each backend runs in a process of its own: where it crashes or hangs, that is its score, and the rest goes on.
"""

import argparse
import csv
import multiprocessing
import platform
import random
import re
import statistics
import sys
import tempfile
import time
from collections import Counter, defaultdict
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import av
import numpy as np
import torch

from videomae_hf.models.video_decoding import BACKENDS, VideoDecodeError, read_frames, usable_backend


SAME_FRAME = 4.0  # grey levels, mean over a frame
TIMEOUT = 300  # seconds that a backend may take for one task

DRAWN_FRAMES, DRAWN_HEIGHT, DRAWN_WIDTH = 300, 256, 340  # 10 s, the size of prepared Kinetics
DRAWN_FILES = {
    # name: encoder, its options. `pix_fmt`, `format` and `variable_rate` are taken out before the encoder sees them.
    "h264_long_gop.mp4": ("libx264", {"g": 250, "bf": 3}),
    "h264_short_gop.mp4": ("libx264", {"g": 30, "bf": 3}),
    "h264_no_b_frames.mp4": ("libx264", {"g": 250, "bf": 0}),
    "h264_open_gop.mp4": ("libx264", {"g": 30, "bf": 3, "x264-params": "open-gop=1"}),
    "h264_intra.mp4": ("libx264", {"g": 1}),
    "h264_variable_rate.mp4": ("libx264", {"g": 250, "bf": 3, "variable_rate": True}),
    "h264_fragmented.mp4": ("libx264", {"g": 30, "bf": 3, "movflags": "frag_keyframe+empty_moov"}),
    "h264.mov": ("libx264", {"g": 250, "bf": 3}),
    "h264.mkv": ("libx264", {"g": 250, "bf": 3}),
    "h264_open_gop.mkv": ("libx264", {"g": 30, "bf": 3, "x264-params": "open-gop=1"}),
    "h264.ts": ("libx264", {"g": 30, "bf": 3}),
    "h264.flv": ("libx264", {"g": 250, "bf": 3}),
    "h264.avi": ("libx264", {"g": 250, "bf": 3}),
    "raw.h264": ("libx264", {"g": 250, "bf": 3}),
    "hevc.mp4": ("libx265", {"g": 250, "x265-params": "log-level=none"}),
    "hevc_open_gop.mp4": ("libx265", {"x265-params": "log-level=none:keyint=30:open-gop=1"}),
    "av1.mp4": ("libsvtav1", {"g": 250, "preset": 10, "svtav1-params": "lp=1"}),
    "av1.mkv": ("libsvtav1", {"g": 250, "preset": 10, "svtav1-params": "lp=1"}),
    "vp9.webm": ("libvpx-vp9", {"g": 128, "deadline": "realtime", "cpu-used": 8}),
    "vp8.webm": ("libvpx", {"g": 128, "deadline": "realtime", "cpu-used": 8}),
    "mpeg4.avi": ("mpeg4", {"g": 250, "bf": 0}),
    "mpeg4_b_frames.avi": ("mpeg4", {"g": 250, "bf": 2}),
    "mpeg4_b_frames.mp4": ("mpeg4", {"g": 250, "bf": 2}),
    "mpeg1.mpg": ("mpeg1video", {"g": 15, "bf": 2}),
    "mpeg2.mpg": ("mpeg2video", {"g": 15, "bf": 2, "format": "vob"}),
    "mpeg2.ts": ("mpeg2video", {"g": 15, "bf": 2}),
    "wmv2.wmv": ("wmv2", {"g": 250, "format": "asf"}),
    "mjpeg.avi": ("mjpeg", {"pix_fmt": "yuvj420p"}),
    "animation.gif": ("gif", {"pix_fmt": "rgb8"}),
}


# ---------------------------------------------------------------------------------------------------- drawn files


def drawn_frames(count: int, height: int, width: int):
    """uint8 (height, width, 3) each: a view that wanders over a texture, with the frame's number in bits on top."""
    generator = torch.Generator().manual_seed(0)
    coarse = torch.randn(1, 3, 18, 24, generator=generator)
    texture = torch.nn.functional.interpolate(coarse, (2 * height, 2 * width), mode="bicubic")
    texture = texture * 40 + 128 + 6 * torch.randn(texture.shape, generator=generator)
    texture = texture.clamp(0, 255).byte()[0].permute(1, 2, 0).numpy()  # (2H, 2W, 3)
    side = width // 16
    for index in range(count):
        top, left = (int(size / 2 * (1 + np.sin(index / period))) for size, period in ((height, 23), (width, 37)))
        frame = texture[top : top + height, left : left + width].copy()
        for bit in range(12):
            frame[:side, (bit + 2) * side : (bit + 3) * side] = 210 if index >> bit & 1 else 40
        yield frame


def draw_file(path: Path, codec: str, options: dict, count: int, height: int, width: int) -> None:
    options = {name: value if isinstance(value, bool) else str(value) for name, value in options.items()}
    variable_rate, pix_fmt = options.pop("variable_rate", False), options.pop("pix_fmt", "yuv420p")
    container_options = {"movflags": options.pop("movflags")} if "movflags" in options else {}
    with av.open(str(path), "w", format=options.pop("format", None), options=container_options) as container:
        stream = container.add_stream(codec, rate=30)
        stream.height, stream.width, stream.pix_fmt = height, width, pix_fmt
        stream.thread_count, stream.options = 1, options
        for index, image in enumerate(drawn_frames(count, height, width)):
            frame = av.VideoFrame.from_ndarray(image, format="rgb24").reformat(format=pix_fmt)
            frame.pts = index + index // 7 * 2 if variable_rate else index  # two frames missing after every seventh
            container.mux(stream.encode(frame))
        container.mux(stream.encode())


def draw_files(folder: Path, names=tuple(DRAWN_FILES), count=DRAWN_FRAMES, height=DRAWN_HEIGHT, width=DRAWN_WIDTH):
    """Paths of the files; one whose encoder this PyAV lacks is left out."""
    paths = []
    for name in names:
        try:
            draw_file(folder / name, *DRAWN_FILES[name], count, height, width)
            paths.append(folder / name)
        except (av.codec.codec.UnknownCodecError, av.FFmpegError) as error:
            print(f"{name} is not drawn: {error}", file=sys.stderr)
    return paths


# -------------------------------------------------------------------------------------------- tasks of the workers


def decode_all(path: str, raw: str) -> dict:
    """Decodes a whole file in sequence with PyAV into the file `raw`, (T, H, W, 3) uint8. What `check` compares to."""
    facts = {"container": "?", "codec": "?", "shape": (0, 0, 0, 3), "error": None}
    try:
        with av.open(path, metadata_errors="ignore") as container, open(raw, "wb") as output:
            facts["container"] = container.format.name.split(",")[0]
            stream = container.streams.best("video")
            if stream is None:
                return {**facts, "error": "no video stream"}
            facts["codec"], stream.thread_count = stream.codec_context.name, 1
            for count, frame in enumerate(container.decode(stream), start=1):
                image = np.rot90(frame.to_ndarray(format="rgb24"), k=round(frame.rotation / 90) % 4)
                output.write(np.ascontiguousarray(image).tobytes())
                facts["shape"] = (count, *image.shape)
    except (av.FFmpegError, OSError, ValueError) as error:
        facts["error"] = type(error).__name__
    return facts


def index_lists(count: int) -> list[list[int]]:
    """First and last, sorted, unsorted, with repeats, clips of neighbours, and frames alone."""
    draw = random.Random(count)
    some = [draw.randrange(count) for _ in range(8)]
    lists = [[0, count - 1], [count - 1, 0], sorted(some), some, some[:3] * 2, [count - 1]]
    for _ in range(2):
        start = draw.randrange(count)
        lists += [[draw.randrange(count)], list(range(start, min(start + 16, count)))]
    return lists


def compare(frame: np.ndarray, index: int, right: np.ndarray, grids: np.ndarray) -> tuple[bool, float, int]:
    """(same frame, mean, greatest difference) of a frame (H, W, 3) to frame `index` of `right` (T, H, W, 3)."""
    distances = np.abs(to_grid(frame) - grids).mean(axis=(1, 2, 3))
    difference = np.maximum(frame, right[index]) - np.minimum(frame, right[index])
    nearest = distances[index] <= distances.min() * 1.05 + 0.01  # the colour error hides smaller steps between frames
    return bool(nearest and difference.mean() < SAME_FRAME), float(difference.mean()), int(difference.max())


def to_grid(frames: np.ndarray) -> np.ndarray:
    """Some pixels of frames (..., H, W, 3): enough to tell them apart."""
    step = max(1, min(frames.shape[-3:-1]) // 24)
    return frames[..., ::step, ::step, :].astype(np.int16)


def check(path: str, backend: str, raw: str, shape: tuple) -> dict:
    """What a backend gives of a file that decodes to `shape` (T, H, W, 3)."""
    right = np.memmap(raw, dtype=np.uint8, mode="r", shape=shape)
    result = {"count": None, "read": 0, "wrong": 0, "mean": 0.0, "max": 0, "errors": [], "shape": shape[1:]}
    grids, counts = to_grid(right), []
    try:
        read_frames(path, lambda info: counts.append(info.num_frames) or [0], backend)
    except Exception as error:  # whatever it raises is its score
        result["errors"].append(short(error))
        if not counts:
            return result
    result["count"] = counts[-1]
    for indices in index_lists(min(shape[0], counts[-1])):
        try:
            frames = read_frames(path, indices, backend).numpy()  # (len(indices), H, W, 3)
        except Exception as error:
            result["errors"].append(short(error))
            continue
        if frames.shape[1:] != shape[1:]:
            result["shape"] = frames.shape[1:]
            return result
        for frame, index in zip(frames, indices):
            same, mean, greatest = compare(frame, index, right, grids)
            result["read"] += 1
            result["wrong"] += not same
            result["mean"], result["max"] = max(result["mean"], mean), max(result["max"], greatest)
    return result


def check_refusal(path: str, backend: str, has_first_frame: bool) -> str:
    """Score on a file that does not decode to its end: VideoDecodeError, and the first frame where there is one."""
    try:
        if has_first_frame:
            read_frames(path, [0], backend)
    except Exception as error:
        return f"error ({short(error)}) on the first frame"
    try:
        frames = read_frames(path, lambda info: range(info.num_frames), backend)
    except VideoDecodeError:
        return "right"
    except Exception as error:
        return f"error ({short(error)})"
    return f"wrong count ({len(frames)}, no error)"


def clip_seconds(path: str, backend: str, place: float) -> float:
    def clip(info):
        start = int(place * max(1, info.num_frames - 60))
        return [min(start + 4 * step, info.num_frames - 1) for step in range(16)]

    begin = time.process_time()
    read_frames(path, clip, backend)
    return time.process_time() - begin


def short(error: Exception) -> str:
    """Its first line without times and places."""
    text = str(error).split("cannot be decoded: ")[-1].strip().split("\n")[0]
    text = re.sub(r"\[[^]]*\] ?|\S*/\S+[:,]? ?|\w+Error: |\w+, ", "", text)
    return text if isinstance(error, VideoDecodeError) else f"{type(error).__name__}: {text}"


# ---------------------------------------------------------------------------------------------------------- workers


class TaskFailed(Exception):
    """A task raised, or killed its process, or hung."""


class Worker:
    """A process that runs one task at a time; a new one takes its place when a task kills it or takes too long."""

    def __init__(self):
        self.process = None

    def run(self, task, *arguments):
        if self.process is None:
            context = multiprocessing.get_context("spawn")
            self.pipe, other = context.Pipe()
            self.process = context.Process(target=_serve, args=(other,), daemon=True)
            self.process.start()
            other.close()  # or the pipe would not end with the process
        self.pipe.send((task, arguments))
        try:
            in_time = self.pipe.poll(TIMEOUT)
            result, failure = self.pipe.recv() if in_time else (None, "hangs")
        except (EOFError, OSError):
            self.process.join()
            failure = f"crash (exit code {self.process.exitcode})"
        if failure in ("hangs", f"crash (exit code {self.process.exitcode})"):
            self.stop()
        if failure:
            raise TaskFailed(failure)
        return result

    def stop(self):
        if self.process is not None:
            self.process.kill()
            self.process.join()
            self.process = None


def _serve(pipe):
    torch.set_num_threads(1)
    while True:
        task, arguments = pipe.recv()
        try:
            answer = task(*arguments), None
        except Exception as error:
            answer = None, f"error ({short(error)})"
        pipe.send(answer)


# ------------------------------------------------------------------------------------------------------ measurement


def score(result: dict, shape: tuple) -> str:
    """One cell of the table."""
    if result["count"] is None or (result["errors"] and not result["read"]):
        return f"error ({result['errors'][0]})"
    parts = []
    if result["count"] != shape[0]:
        parts.append(f"wrong count ({result['count']})")
    if result["errors"]:
        parts.append(f"error in {len(result['errors'])} of its reads ({result['errors'][0]})")
    if result["shape"] != shape[1:]:
        parts.append("wrong frames ({1} x {0})".format(*result["shape"]))
    if result["wrong"]:
        parts.append(f"wrong frames ({result['wrong']} of {result['read']})")
    return "; ".join(parts) or "right"


def measure_file(path: Path, workers: dict[str, Worker], reference: Worker, expected: dict, repeats: int) -> dict:
    """One row: facts of the file, and for each backend its score, greatest difference and seconds."""
    with tempfile.TemporaryDirectory() as folder:
        raw = str(Path(folder) / "frames")
        try:
            facts = reference.run(decode_all, str(path), raw)
        except TaskFailed as failure:
            facts = {"container": "?", "codec": "?", "shape": (0, 0, 0, 3), "error": str(failure)}
        row = {"file": path.name, **facts, "scores": {}, "differences": {}, "seconds": defaultdict(list), "note": ""}
        # Without a list of what is expected, a file that fails part-way is held to no more than to raise.
        shape, verdict = facts["shape"], expected.get("verdict", "error" if facts["error"] else "decodes")
        size = tuple(int(expected[key]) for key in ("frames", "height", "width")) if expected else shape[:3]
        if verdict == "decodes" and facts["error"]:
            verdict, row["note"] = "error", f"expected to decode, but {facts['error']}"
        elif verdict == "decodes" and size != shape[:3]:
            row["note"] = f"expected (frames, height, width) {size}, decoded {shape[:3]}"
        for name, worker in workers.items():
            try:
                if verdict == "decodes":
                    result = worker.run(check, str(path), name, raw, shape)
                    row["scores"][name] = score(result, shape)
                    row["differences"][name] = (result["mean"], result["max"])
                else:
                    row["scores"][name] = worker.run(check_refusal, str(path), name, verdict == "partial")
            except TaskFailed as failure:
                row["scores"][name] = str(failure)
    if verdict == "decodes":
        row["seconds"] = measure_seconds(path, workers, row["scores"], repeats)
    return row


def measure_seconds(path: Path, workers: dict[str, Worker], scores: dict[str, str], repeats: int) -> dict:
    seconds, draw = defaultdict(list), random.Random(path.name)
    for repeat in range(-1, repeats):  # the first is warm-up
        place = draw.random()
        for name, worker in workers.items():
            if scores[name].startswith(("error (", "crash", "hangs")):
                continue
            try:
                taken = worker.run(clip_seconds, str(path), name, place)
            except TaskFailed:  # a read that fails now and then is in the score already
                continue
            if repeat >= 0:
                seconds[name].append(taken)
    return seconds


# ----------------------------------------------------------------------------------------------------------- report


def table(header: list[str], rows: list[list]) -> str:
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join("| " + " | ".join(str(cell).replace("|", "/") for cell in line) + " |" for line in lines) + "\n"


def kind(text: str) -> str:
    """The outcome without its figures."""
    return "; ".join(part.split(" (")[0].split(" in ")[0] for part in text.split("; "))


def times_cell(row: dict, name: str) -> str:
    seconds = row["seconds"][name]
    if not seconds:
        return "-"
    low, middle, high = (1000 * value for value in (min(seconds), statistics.median(seconds), max(seconds)))
    return f"{middle:.0f} ({low:.0f} to {high:.0f})" + ("" if row["scores"][name] == "right" else ", not right")


def differences_line(rows: list[dict], backends: list[str]) -> str:
    """Over the files that are right: how differently a backend converts colours."""
    greatest = []
    for name in backends:
        pairs = [row["differences"].get(name, (0.0, 0)) for row in rows if row["scores"][name] == "right"]
        means, tops = zip(*pairs) if pairs else ((0.0,), (0,))
        greatest.append(f"{name} {max(means):.2f} (one value {max(tops)})")
    return f"Greatest mean difference of a right frame, in grey levels: {', '.join(greatest)}."


def file_tables(rows: list[dict], backends: list[str]) -> str:
    scores = [
        [
            row["file"],
            f"{row['container']} {row['codec']}",
            row["shape"][0],
            *(row["scores"][name] for name in backends),
        ]
        for row in rows
    ]
    seconds = [
        [row["file"], *(times_cell(row, name) for name in backends), fastest(row, backends)]
        for row in rows
        if row["seconds"]
    ]
    notes = "".join(f"\n{row['file']}: {row['note']}" for row in rows if row["note"])
    return (
        f"{table(['file', 'format', 'frames', *backends], scores)}\n"
        f"{differences_line(rows, backends)}{notes}\n\n"
        f"CPU milliseconds for a clip, median (lowest to highest):\n\n"
        f"{table(['file', *backends, 'fastest that is right'], seconds)}\n"
    )


def fastest(row: dict, backends: list[str]) -> str:
    medians = {name: statistics.median(row["seconds"][name]) for name in backends if row["seconds"][name]}
    right = {name: value for name, value in medians.items() if row["scores"][name] == "right"}
    if not right:
        return "none"
    best = min(right, key=right.get)
    return f"{best}, {right['pyav'] / right[best]:.2f}x pyav" if "pyav" in right and best != "pyav" else best


def summary_tables(rows: list[dict], backends: list[str]) -> str:
    """By container and codec: files that are right, the other outcomes, and the median over files of each median."""
    groups = defaultdict(list)
    for row in rows:
        groups[row["container"], row["codec"]].append(row)
    lines = []
    for (container, codec), members in [*sorted(groups.items()), (("all", ""), rows)]:
        cells = []
        for name in backends:
            kinds = Counter(kind(row["scores"][name]) for row in members)
            middle = [statistics.median(row["seconds"][name]) for row in members if row["seconds"][name]]
            taken = f", {1000 * statistics.median(middle):.0f} ms" if middle else ""
            others = "".join(f", {count} {text}" for text, count in kinds.most_common() if text != "right")
            cells.append(f"{kinds['right']} right{others}{taken}")
        lines.append([f"{container} {codec}", len(members), *cells])
    return table(["format", "files", *backends], lines)


def installed(package: str) -> str:
    try:
        return f"{package} {version(package)}"
    except PackageNotFoundError:
        return f"no {package}"


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("paths", nargs="*", type=Path, help="files, or folders that are searched at any depth")
    parser.add_argument(
        "--expected", type=Path, help="tab separated: file, verdict (decodes, partial, error), frames, ..."
    )
    parser.add_argument("--repeats", type=int, default=9, help="clips per file and backend")
    parser.add_argument("--summary", action="store_true", help="totals by container and codec, without the files")
    parser.add_argument("--output", type=Path, help="a Markdown file; the default is the screen")
    args = parser.parse_args()

    workers = {}
    for name in BACKENDS:
        try:
            workers[usable_backend(name)] = Worker()
        except ImportError as error:
            print(f"{name} is left out: {error}", file=sys.stderr)
    expected = {}
    if args.expected:
        with open(args.expected, newline="") as file:
            expected = {row["file"]: row for row in csv.DictReader(file, delimiter="\t")}
    with tempfile.TemporaryDirectory() as folder:
        files = list_files(args.paths, expected) if args.paths else draw_files(Path(folder))
        rows, reference = [], Worker()
        for path in files:
            rows.append(measure_file(path, workers, reference, expected.get(path.name, {}), args.repeats))
            print(path.name, rows[-1]["scores"], file=sys.stderr)
    versions = ", ".join(installed(package) for package in ("av", "torchcodec", "decord", "torch"))
    text = f"{versions}, Python {platform.python_version()}; {len(rows)} files, {args.repeats} clips each\n\n"
    text += "" if args.summary else file_tables(rows, list(workers))
    text += summary_tables(rows, list(workers))
    print(text) if args.output is None else args.output.write_text(text)
    for worker in (*workers.values(), reference):
        worker.stop()


def list_files(paths: list[Path], expected: dict) -> list[Path]:
    files = []
    for path in paths:
        files += sorted(file for file in path.rglob("*") if file.is_file()) if path.is_dir() else [path]
    return [
        file for file in files if (file.name in expected if expected else file.suffix not in (".csv", ".tsv", ".txt"))
    ]


if __name__ == "__main__":
    main()

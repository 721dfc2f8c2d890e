# Copyright 2026 The videomae_hf authors. Licensed under the Apache License, Version 2.0.
"""`videomae scan`: decodes every frame of every video of a data set and reports bad files before training.

Each worker process handles one file at a time, so that a file that crashes or hangs its decoder affects no other file.
"""

import argparse
import json
import os
import statistics
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, fields
from pathlib import Path

from tqdm import tqdm

from ..data.preparation.scan_report import BAD, ScannedVideo, summarize, write_report
from ..data.preparation.worker_processes import run_isolated
from ..data.shared_work import ProcessShare, SharedWork, usable_cores
from ..data.sources.folders_and_lists import Reading, read_samples
from ..data.sources.list_editing import edit_list, is_absolute, list_every_video
from ..data.sources.media import IMAGES, VIDEOS, Media
from ..data.sources.records import VideoRecord, VideoRecords
from ..evaluation.features import content_state
from ..models.frame_files import damaged_file_errors, image_paths, open_image, reader_of, upright
from ..models.frame_pixels import image_pixels
from ..models.video_decoding import MAX_PIXELS, FrameFolder, decoding_errors, open_container, video_stream
from ..text_files import write_csv, write_text


DESCRIPTION = """\
Decodes every frame of every video, writes a report (csv) and prints a summary.

PATH is a video, a folder (searched at any depth) or a list in any format that training accepts. A folder of images is
a video; with --images each image is one of its own, as for models of images. Verdicts:

  ok       all frames can be decoded
  warning  all frames can be decoded, but something is unusual: a frame count that differs from the
           header (by more than 2 frames and 2 %), a cut-off file, damage that the decoder concealed, no
           duration or timestamps in the file, timestamps out of order, a variable frame rate (gaps make
           up more than 5 % of the duration; rounding to milliseconds does not count), frames of several
           sizes, a single frame
  partial  some frames, then an error
  error    no frame at all, no such file, or a decoder that crashed or hung

Rotation, pixel format and non-square pixels are columns of the report, not warnings. The exit
status is 0 if no video is partial or error, otherwise 1.

After an interruption, run the same command again: videos that were decoded are not decoded again. Processes of
torchrun or srun divide the videos; the one that finishes last writes the report.

  videomae scan my_videos --fix_list good.csv
  videomae scan train.csv --root /data --fix_list train_good.csv --report train_scan.csv
  videomae scan my_images --images --fix_list good.csv
  videomae scan my_videos --json | jq -r 'select(.verdict == "error") | .path'
"""


# --------------------------------------------------------------------------------------------------------- one file


def scan_file(path: str, alive: Callable[[], None] = lambda: None, max_pixels: int | None = MAX_PIXELS) -> ScannedVideo:
    """Decodes a whole video, on one thread and without converting colours.

    Args:
        path: the file, or a folder of images.
        alive: called after each frame, to show progress.
        max_pixels: maximum number of pixels per frame, see `read_frames`.
    """
    import av  # imported here, because other commands work without it

    found, remarks, problem = ScannedVideo(path), [], None
    with _decoder_messages() as messages:
        try:
            if os.path.isdir(path):
                _decode_images(found, alive, max_pixels)
                return found
            _refuse_no_file(found)
            reader = reader_of(os.path.abspath(path))
            if reader is not None:
                _decode_frames(found, reader, alive, max_pixels)
            else:
                with open_container(av, os.path.abspath(path)) as container:
                    _decode_all(container, found, remarks, alive, max_pixels)
        except decoding_errors() as error:
            problem = getattr(error, "strerror", None) or str(error) or type(error).__name__
    said = [text.strip() for _, _, text in messages if text.strip()]
    if problem is None and not found.frames:
        problem = "no decodable frame"
    if problem is not None:
        found.verdict = "partial" if found.frames else "error"
        remarks = [f"stops after {found.frames} frames: {problem}" if found.frames else problem]
        if said:
            remarks[0] += f" ({said[-1]})"
    else:
        if said:
            more = f" (and {len(said) - 1} more messages)" if len(said) > 1 else ""
            remarks.append(f"damage: {said[0]}{more}")
        found.verdict = "warning" if remarks else "ok"
    found.reason = "; ".join(remarks)
    return found


@contextmanager
def _decoder_messages() -> Iterator[list[tuple[int, str, str]]]:
    """FFmpeg's log messages, as (level, name, text): it conceals damage and reports it only there."""
    import av.logging

    level = av.logging.get_level()
    av.logging.set_level(av.logging.ERROR)
    try:
        with av.logging.Capture() as messages:
            yield messages
    finally:
        av.logging.set_level(level)


def _refuse_no_file(found: ScannedVideo) -> None:
    try:
        found.path.encode()
    except UnicodeEncodeError:
        raise ValueError("the file name is not UTF-8 and cannot be written to a list; rename it") from None
    if not os.path.isfile(found.path):
        raise ValueError("no such file")
    found.bytes = os.path.getsize(found.path)
    if not found.bytes:
        raise ValueError("the file is empty")


def _decode_all(
    container, found: ScannedVideo, remarks: list[str], alive: Callable[[], None], max_pixels: int | None
) -> None:
    """Decodes the file into `found`, and appends anything unusual to `remarks`."""
    stream = video_stream(container, max_pixels)
    names = container.format.name.split(",")  # one format has several names: mov,mp4,m4a,..
    suffix = Path(found.path).suffix.lower()[1:]
    found.container = suffix if suffix in names else names[0]
    found.codec = stream.codec_context.codec.canonical_name
    found.claimed_frames = stream.frames or None
    timestamps, sizes, damaged = [], {}, 0
    try:
        for frame in container.decode(stream):
            if not found.frames:
                _read_picture(frame, stream, found)
            sizes.setdefault((frame.width, frame.height), found.frames)
            timestamps.append(frame.pts)
            damaged += frame.is_corrupt
            found.frames += 1
            alive()
    finally:
        remarks += _read_times(container, stream, timestamps, found)
    if found.claimed_frames and abs(found.frames - found.claimed_frames) > max(2, 0.02 * found.claimed_frames):
        remarks.append(f"frame count: {found.claimed_frames} in the header, {found.frames} decoded")
    if len(sizes) > 1:
        (width, height), first = list(sizes.items())[1]
        remarks.append(f"frame size changes: to {width}x{height} at frame {first}")
    if damaged:
        remarks.append(f"damaged frames: {damaged} of {found.frames}")
    if found.frames == 1:
        remarks.append("a single frame")


def _decode_images(found: ScannedVideo, alive: Callable[[], None], max_pixels: int | None) -> None:
    """Fills `found` for a folder of images, up to the first image that cannot be read."""
    found.container, found.codec, found.rotation = "folder", "images", 0
    paths = image_paths(FrameFolder(found.path))
    found.bytes = sum(path.stat().st_size for path in paths)
    sizes = set()
    for path in paths:
        try:
            with open_image(path, max_pixels) as image:
                found.pixel_format = image.mode
                height, width, _ = image_pixels(upright(image)).shape
        except damaged_file_errors() as error:
            found.verdict = "partial" if found.frames else "error"
            found.reason = f"{path.name}: {error}"
            return
        sizes.add((width, height))
        found.width, found.height = width, height
        found.frames += 1
        alive()
    if len(sizes) > 1:
        found.verdict, found.reason = "partial", f"images of different sizes: {sorted(sizes)}"
    elif not found.frames:
        found.verdict, found.reason = "error", "no image in the folder"


def _decode_frames(found: ScannedVideo, reader: Callable, alive: Callable[[], None], max_pixels: int | None) -> None:
    """Fills `found` for an array or a multi-page image."""
    found.container, found.codec, found.rotation = Path(found.path).suffix.lower()[1:], "frames", 0
    for _, frame in reader(os.path.abspath(found.path), lambda info: range(info.num_frames), None, max_pixels):
        found.height, found.width, channels = frame.shape
        found.pixel_format = f"{channels} channel{'s' * (channels > 1)}"
        found.frames += 1
        alive()


def _read_picture(frame, stream, found: ScannedVideo) -> None:
    found.rotation = round(frame.rotation)
    turned = found.rotation % 180 != 0
    found.width, found.height = (frame.height, frame.width) if turned else (frame.width, frame.height)
    found.pixel_format = frame.format.name
    found.pixel_aspect = round(float(stream.sample_aspect_ratio or 1), 4)


def _read_times(container, stream, timestamps: list[int | None], found: ScannedVideo) -> list[str]:
    """Fills in frame rate and duration, and returns remarks about anything unusual in them."""
    remarks = []
    # Timestamps of AVI are guesses (packed B-frames), and its rate is constant.
    known = [] if container.format.name == "avi" else [stamp for stamp in timestamps if stamp is not None]
    unordered = sum(after <= before for before, after in zip(known, known[1:]))
    known.sort()
    span = float((known[-1] - known[0]) * stream.time_base) if known else 0
    if span > 0 and len(known) == len(timestamps):
        found.fps = round((len(known) - 1) / span, 3)
        found.duration = round(span * len(known) / (len(known) - 1), 3)
        found.variable_rate = _varies(known)
    elif stream.average_rate and timestamps:
        found.fps = round(float(stream.average_rate), 3)
        found.duration = round(float(len(timestamps) / stream.average_rate), 3)
        found.variable_rate = False
    if None in timestamps:
        remarks.append("no timestamps: the frame rate is a guess")
    if unordered:
        remarks.append(f"timestamps out of order: {unordered} of {len(timestamps)} frames")
    if found.variable_rate:
        remarks.append("variable frame rate")
    claimed = stream.duration * stream.time_base if stream.duration else (container.duration or 0) / 1_000_000
    if not claimed and None not in timestamps:
        remarks.append("no duration in the header")
    elif found.duration and claimed - found.duration > max(0.5, 0.1 * claimed):
        remarks.append(f"cut off: {found.duration:.1f} s of {float(claimed):.1f} s decoded")
    return remarks


def _varies(timestamps: list[int]) -> bool:
    """Whether gaps (more than 1.5 times the usual distance plus a tick of rounding) exceed 5 % of the duration."""
    distances = [after - before for before, after in zip(timestamps, timestamps[1:])]
    usual = statistics.median(distances)
    strays = [abs(distance - usual) for distance in distances]
    return sum(stray for stray in strays if stray > usual / 2 + 1) > 0.05 * sum(distances)


# -------------------------------------------------------------------------------------------------------- many files


@dataclass(frozen=True)
class ScanUpTo:
    """`scan_file` with a limit of pixels, as a picklable callable for worker processes."""

    max_pixels: int

    def __call__(self, path: str, alive: Callable[[], None]) -> ScannedVideo:
        return scan_file(path, alive, self.max_pixels)


def scan_files(
    paths: list[str], workers: int, timeout: float = 300, scan: Callable[..., ScannedVideo] = scan_file
) -> Iterator[tuple[int, ScannedVideo]]:
    """Yields (index in `paths`, findings) in the order of completion.

    Args:
        paths: video files and folders of images.
        workers: number of processes.
        timeout: seconds that a file may take without a new frame.
        scan: function that a worker calls for each file.
    """
    for index, found, problem in run_isolated(scan, paths, workers, timeout):
        yield index, found or ScannedVideo(paths[index], "error", problem)


# ------------------------------------------------------------------------------------------------------------- lists


def find_videos(sources: list[str], root: str | None = None, media: Media = VIDEOS) -> list[str]:
    """The videos of files, folders and lists, each video once.

    Raises:
        FileNotFoundError, ValueError: as in `read_samples`, for folders and lists.
    """
    paths = []
    for source in sources:
        if _is_video(source):
            paths.append(str(Path(source).expanduser()))
            continue
        paths += [sample.path for sample in _samples_of(source, root, media)]
    return list(dict.fromkeys(paths))


def _samples_of(source: str, root: str | None, media: Media) -> Sequence[VideoRecord]:
    """The videos of a folder or a list; notes about files left out are printed to standard error."""
    if _is_list(source):
        listed = list_every_video(Path(source).expanduser(), Path(root).expanduser() if root else None, media)
        samples = VideoRecords((found.sample for found in listed.found), listed.notes)
        if not len(samples):
            raise ValueError(f"{source} holds no videos.")
    else:
        samples, _ = read_samples(source, reading=Reading(labelled=False, media=media))
    for message in samples.messages:
        print(message, file=sys.stderr)
    return samples


def _is_video(source: str) -> bool:
    """Whether a source is one file, a video or an image, rather than a folder or a list."""
    return Path(source).suffix.lower() in IMAGES.suffixes and not Path(source).expanduser().is_dir()


def _is_list(source: str) -> bool:
    return not _is_video(source) and Path(source).expanduser().is_file()


def write_fix_list(
    destination: Path, sources: list[str], root: str | None, videos: list[ScannedVideo], media: Media = VIDEOS
) -> str:
    """Writes a list without the bad videos, for `read_samples`; returns a line about it.

    The remaining lines of a list are unchanged. Folders and files are written as `path,label`, with the class folder as
    the label, or only as `path` if a video lies outside class folders.
    """
    bad = {video.path for video in videos if video.verdict in BAD}
    if _is_list(sources[0]):
        return _filter_list(destination, Path(sources[0]).expanduser(), root, bad, media)
    rows = []
    for source in sources:
        for path in find_videos([source], media=media):
            below = Path(path).relative_to(Path(source).expanduser()).parts
            rows.append([os.path.abspath(path), below[0] if len(below) > 1 else None])
    good = [row for row, path in zip(rows, find_videos(sources, media=media)) if path not in bad]
    labelled = all(label is not None for _, label in rows)
    write_csv(destination, [["path", "label"], *good] if labelled else [["path"], *([path] for path, _ in good)])
    return f"{len(good)} of {len(rows)} videos in {destination}, {'with' if labelled else 'without'} labels."


def _filter_list(destination: Path, source: Path, root: str | None, bad: set[str], media: Media) -> str:
    base = Path(root).expanduser() if root else source.parent
    listed = list_every_video(source, base, media)
    text = edit_list(source, listed, lambda sample: None if sample.path in bad else sample.path)
    write_text(destination, text)
    dropped = sum(found.sample.path in bad for found in listed.found)
    line = f"{len(listed.found) - dropped} of {len(listed.found)} videos in {destination}."
    if not all(map(is_absolute, listed.rows)) and base.resolve() != destination.parent.resolve():
        line += f"\nIts paths are relative to {base}: use it with --data_root {base}."
    return line


# ----------------------------------------------------------------------------------------------------------- command


def parse_arguments(arguments: list[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="videomae scan", description=DESCRIPTION, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("paths", nargs="+", metavar="PATH", help="video, folder or list")
    parser.add_argument("--report", type=Path, metavar="CSV", help="default: videomae_scan.csv; none with --json")
    parser.add_argument("--fix_list", type=Path, metavar="OUT", help="write a list without partial and error videos")
    parser.add_argument("--root", help="folder that relative paths in lists refer to; default: that of the list")
    parser.add_argument(
        "--images", action="store_true", help="each image is a sample, rather than each folder of images"
    )
    parser.add_argument("--json", action="store_true", help="print one line of JSON per video, in order of completion")
    parser.add_argument("--workers", type=int, help="processes; default: one per core")
    parser.add_argument("--max_pixels", type=int, default=MAX_PIXELS, help="limit per frame; default: %(default)s")
    parser.add_argument("--timeout", type=float, default=300, help="limit in seconds without a new frame; default: 300")
    args = parser.parse_args(arguments)
    if args.report is None and not args.json:
        args.report = Path("videomae_scan.csv")
    _refuse_arguments(args)
    return args


def _refuse_arguments(args: argparse.Namespace) -> None:
    """Raises ValueError for arguments that would otherwise fail only after hours of decoding."""
    if args.workers is not None and args.workers < 1:
        raise ValueError(f"--workers {args.workers} must be at least 1.")
    if args.max_pixels < 1:
        raise ValueError(f"--max_pixels {args.max_pixels} must be at least 1.")
    if args.timeout <= 0:
        raise ValueError(f"--timeout {args.timeout} must be positive.")
    inputs = {Path(source).expanduser().resolve() for source in args.paths}
    for option, path in (("--report", args.report), ("--fix_list", args.fix_list)):
        if path is not None and not path.absolute().parent.is_dir():
            raise ValueError(f"{option} {path}: there is no folder {path.absolute().parent}.")
        if path is not None and (path.is_dir() or path.resolve() in inputs):
            raise ValueError(f"{option} {path} is a folder or one of the scanned files; give another name.")
    if args.fix_list is not None and args.fix_list == args.report:
        raise ValueError(f"--fix_list and --report are both {args.report}; give two different names.")
    if args.fix_list is not None and len(args.paths) > 1 and any(map(_is_list, args.paths)):
        raise ValueError("--fix_list accepts one list, or folders and videos; scan each list separately.")


def _held(work: SharedWork | None, paths: list[str], max_pixels: int) -> dict[str, ScannedVideo]:
    """The findings of an interrupted run, of videos that have not changed since."""
    found = {} if work is None else work.read()
    records = {path: found[path] for path in paths if path in found}
    return {
        path: _findings(record)
        for path, record in records.items()
        if record.get("state") == content_state(path) and record.get("max_pixels") == max_pixels
    }


def _findings(record: dict) -> ScannedVideo:
    return ScannedVideo(**{field.name: record[field.name] for field in fields(ScannedVideo) if field.name in record})


def scan_share(args: argparse.Namespace, share: ProcessShare, work: SharedWork | None, paths: list[str]) -> dict:
    """Scans the videos of this process, except those that an interrupted run has scanned; findings by path.

    Raises:
        KeyboardInterrupt: with the findings so far as its argument.
    """
    mine = share.of(paths)
    done = _held(work, mine, args.max_pixels)
    if done:
        print(f"{len(done)} of {len(mine)} videos were scanned by an interrupted run.", file=sys.stderr)
    if args.json:
        for video in done.values():
            print(json.dumps(asdict(video)), flush=True)
    waiting = [path for path in mine if path not in done]
    if work is not None:
        work.start()
    workers = args.workers or usable_cores(share)
    scanned = scan_files(waiting, workers, args.timeout, ScanUpTo(args.max_pixels))
    try:
        for _, video in tqdm(scanned, "Scanning", len(waiting), unit="video", disable=share.rank > 0):
            done[video.path] = video
            if work is not None:
                work.add({**asdict(video), "state": content_state(video.path), "max_pixels": args.max_pixels})
            if args.json:
                print(json.dumps(asdict(video)), flush=True)
    except KeyboardInterrupt as interrupt:
        raise KeyboardInterrupt(done) from interrupt
    return done


def _report(args: argparse.Namespace, videos: list[ScannedVideo]) -> None:
    """Writes the report and prints the summary."""
    text_to = sys.stderr if args.json else sys.stdout
    if args.report:
        write_report(args.report, videos)
    print("\n".join(summarize(videos)) + "\n", file=text_to)
    if args.report:
        print(f"Report: {args.report}", file=text_to)


def main(arguments: list[str]) -> None:
    """`videomae scan`."""
    args, share = parse_arguments(arguments), ProcessShare.of_environment()
    media = IMAGES if args.images else VIDEOS
    paths = find_videos(args.paths, args.root, media)
    text_to = sys.stderr if args.json else sys.stdout
    base = args.report or args.fix_list
    if base is None and share.size > 1:
        raise ValueError(f"{share.size} processes need --report, a file beside which they keep what they have found.")
    work = SharedWork(base, share) if base else None
    if share.size > 1:
        print(f"{share}: {len(share.of(paths))} videos of {len(paths)}", file=sys.stderr)
    try:
        done = scan_share(args, share, work, paths)
    except KeyboardInterrupt as interrupt:
        done = interrupt.args[0]
        if share.size == 1:
            _report(args, [done[path] for path in paths if path in done])
        continues = "; the same command continues" if work else ""
        print(f"Interrupted: {len(done)} of {len(share.of(paths))} videos were scanned{continues}.", file=text_to)
        sys.exit(130)
    if work is not None:
        if not work.finish():
            print(f"{share} is done; the process that finishes last writes the report.", file=sys.stderr)
            return
        done = {path: _findings(record) for path, record in work.read().items()}
    listed = paths if work else share.of(paths)
    videos = [done.get(path) or ScannedVideo(path, "error", "scanned by no process") for path in listed]
    _report(args, videos)
    if args.fix_list:
        print(write_fix_list(args.fix_list, args.paths, args.root, videos, media), file=text_to)
    elif any(video.verdict in BAD for video in videos):
        print("Next: --fix_list good.csv writes a list without the bad videos.", file=text_to)
    if work is not None:
        work.remove()
    sys.exit(any(video.verdict in BAD for video in videos))

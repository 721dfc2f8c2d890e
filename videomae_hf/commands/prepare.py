# Copyright 2026 The videomae_hf authors. Licensed under the Apache License, Version 2.0.
"""Re-encodes a data set for fast loading in training: small H.264 files with short groups of pictures.

    videomae prepare data/ucf101 data/ucf101_256                      # folders of classes, or of anything
    videomae prepare lists/train.csv data/train_256 --root data/raw   # a list: data/train_256/train.csv, videos/..
    videomae prepare data/ucf101 data/ucf101_256 --shards 500         # and tar shards of 500 videos (WebDataset)

DST gets the folders of SRC with .mp4 files or, for a list, the videos below `videos` and the list with their new paths.
Two videos whose names differ only in the suffix, a.avi and a.mp4, become a.avi.mp4 and a.mp4.mp4. Pixels are made
square, interlaced videos are deinterlaced, and rotation is applied; high dynamic range is not tone mapped, and audio is
dropped.

After an interruption, run the same command again: finished videos are kept. Videos that cannot be decoded completely
are listed in DST/prepare_failed.csv, and the exit status is 1. Processes of torchrun or srun divide the videos; the one
that finishes last writes lists, shards and the report. With --shards the .mp4 files are kept as well; they may
be deleted once the shards are complete.
"""

import argparse
import json
import os
import statistics
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import av
import torch
from tqdm import tqdm

from ..data.preparation.shard_writer import ShardSample, write_shards
from ..data.preparation.transcoding import DiskError, PreparedVideo, TranscodingOptions, find_prepared, transcode_video
from ..data.preparation.worker_processes import run_isolated
from ..data.shared_work import WHOLE, ProcessShare, SharedWork, usable_cores
from ..data.sources.folders_and_lists import read_samples
from ..data.sources.list_editing import edit_list, list_every_video
from ..data.sources.list_records import ReadList
from ..data.sources.lists import URLS
from ..data.sources.records import VideoRecord, VideoRecords
from ..models.frame_sampling import dense_clip, random_start
from ..models.video_decoding import VideoDecodeError, VideoInfo, read_frames
from ..text_files import write_csv, write_text


# Limits for measuring the loading speed: number of videos, clips of each, and seconds
SPEED_VIDEOS, SPEED_CLIPS, SPEED_SECONDS = 32, 3, 60


@dataclass(frozen=True)
class Job:
    """One video to write: the `name` of its source and its `target`, both relative paths with slashes."""

    source: str
    name: str
    target: str


@dataclass(frozen=True)
class Outcome:
    """The result of a job: `video` is None if it failed for `reason`; `is_fatal` means that all others would fail."""

    video: PreparedVideo | None = None
    reason: str = ""
    is_fatal: bool = False


# ------------------------------------------------------------------------------------------------------------- names


def list_jobs(source: Path, root: Path | None) -> tuple[VideoRecords, ReadList | None, list[Job]]:
    """The rows of a data set, the list that they come from (None for a folder), and the videos to write, each once.

    Raises:
        ValueError: a row is not a video file, or two videos would get the same name; also as in `read_samples`.
        FileNotFoundError: there is no such folder or list.
    """
    if source.is_dir():
        base, below = source, ""
        samples, listed = read_samples(source, labelled=False)[0], None
    elif not source.is_file():
        raise FileNotFoundError(f"There is no folder or list of videos at {source}.")
    else:
        base, below = root or source.parent, "videos/"
        listed = list_every_video(source, root)
        samples = VideoRecords((found.sample for found in listed.found), listed.notes)
    if not len(samples):
        raise ValueError(f"{source} holds no videos.")
    others = (one for one in samples if one.num_frames is not None or one.path.startswith(URLS))
    wrong = samples[0] if os.path.isdir(samples[0].path) else next(others, None)
    if wrong:
        raise ValueError(f"{source}: {wrong.path} is not a video file; folders of images and URLs cannot be prepared.")
    paths = list(dict.fromkeys(os.path.abspath(sample.path) for sample in samples))
    base = os.path.abspath(base)
    if any(os.path.commonpath([base, path]) != base for path in paths):  # absolute paths outside the root
        base = os.path.commonpath([os.path.dirname(path) for path in paths])
    names = [Path(os.path.relpath(path, base)) for path in paths]
    wanted = Counter(name.with_suffix(".mp4") for name in names)
    targets = [
        name.with_suffix(".mp4") if wanted[name.with_suffix(".mp4")] == 1 else name.with_name(name.name + ".mp4")
        for name in names
    ]
    double = [target for target, count in Counter(targets).items() if count > 1]
    if double:
        raise ValueError(f"Two videos of {source} would become {double[0]}; rename one of them.")
    jobs = [Job(path, name.as_posix(), below + target.as_posix()) for path, name, target in zip(paths, names, targets)]
    return samples, listed, jobs


# --------------------------------------------------------------------------------------------------------- processes


@dataclass(frozen=True)
class Preparation:
    """Transcodes the video of a job; called in the worker processes."""

    destination: Path
    options: TranscodingOptions

    def __call__(self, job: Job, alive: Callable[[], None]) -> Outcome:
        source, target = Path(job.source), self.destination / job.target
        try:
            if not source.is_file():
                return Outcome(reason=f"There is no video file {source}.")
            done = find_prepared(source, target, self.options, job.name)
            return Outcome(done or transcode_video(source, target, self.options, job.name))
        except DiskError as error:
            return Outcome(reason=str(error), is_fatal=True)
        except (VideoDecodeError, OSError) as error:
            return Outcome(reason=str(error))


def prepare_videos(
    jobs: list[Job], preparation: Preparation, workers: int, work: SharedWork | None = None
) -> dict[str, Outcome]:
    """The outcome of each job by the path of its source; they are added to `work` as well."""
    outcomes = {}
    finished = run_isolated(preparation, jobs, workers)
    for index, outcome, problem in tqdm(
        finished, total=len(jobs), desc=f"Writing {preparation.destination}", unit="video"
    ):
        outcome = outcome or Outcome(reason=f"{jobs[index].source}: {problem}.")
        if outcome.is_fatal:
            raise OSError(outcome.reason)
        outcomes[jobs[index].source] = outcome
        if work is not None:
            work.add({"path": jobs[index].source, **asdict(outcome)})
    return outcomes


def prepare_share(
    jobs: list[Job], preparation: Preparation, workers: int | None, share: ProcessShare
) -> dict[str, Outcome] | None:
    """Prepares the videos of this process.

    Returns:
        The outcome of each job, of all processes; None if other processes are still at work.
    """
    work, workers = SharedWork(preparation.destination / "prepare", share), workers or usable_cores(share)
    if share.size == 1:
        outcomes = prepare_videos(jobs, preparation, workers)
    else:
        work.start()
        prepare_videos(share.of(jobs), preparation, workers, work)
        if not work.finish():
            return None
        found = work.read()
        outcomes = {job.source: _outcome(found.get(job.source)) for job in jobs}
    work.remove()
    return outcomes


def _outcome(record: dict | None) -> Outcome:
    if record is None:
        return Outcome(reason="listed by no process; run the command again")
    return Outcome(PreparedVideo(**record["video"]) if record.get("video") else None, str(record.get("reason")))


# ------------------------------------------------------------------------------------------------------------ report


def loading_seconds(path: str, seed: int) -> float:
    """Average CPU seconds for loading a random clip of 16 frames, 4 apart."""
    generator = torch.Generator().manual_seed(seed)

    def indices(info: VideoInfo) -> list[int]:
        return dense_clip(info.num_frames, random_start(info.num_frames, 16, 4, generator), 16, 4)

    begin = time.process_time()
    for _ in range(SPEED_CLIPS):
        read_frames(path, indices)
    return (time.process_time() - begin) / SPEED_CLIPS


def describe_speed(pairs: list[tuple[str, str]]) -> str:
    """A line about how much faster clips load from the second file of each pair than from the first.

    The two are measured in turns.
    """
    times, end = [], time.monotonic() + SPEED_SECONDS
    for seed, (source, target) in enumerate(pairs[:: max(len(pairs) // SPEED_VIDEOS, 1)][:SPEED_VIDEOS]):
        try:
            times.append((loading_seconds(source, seed), loading_seconds(target, seed)))
        except VideoDecodeError:  # for example, a source whose frame size changes cannot be read directly
            continue
        if time.monotonic() > end:
            break
    if not times:
        return "loading: no source can be read for comparison."
    ratios = sorted(before / after for before, after in times)
    quarter = len(ratios) // 4
    before, after = (len(times) / sum(column) for column in zip(*times))
    return (
        f"loading clips of 16 frames, 4 apart, on one core: {before:.1f} -> {after:.1f} clips/s; the median video is "
        f"{statistics.median(ratios):.1f} times as fast (the middle half of {len(ratios)}: {ratios[quarter]:.1f} to "
        f"{ratios[-1 - quarter]:.1f})"
    )


def describe(jobs: list[Job], outcomes: dict[str, Outcome], destination: Path) -> str:
    written = [job for job in jobs if outcomes[job.source].video]
    before = sum(os.path.getsize(job.source) for job in written)
    after = sum((destination / job.target).stat().st_size for job in written)
    hours = sum(outcomes[job.source].video.seconds for job in written) / 3600
    lines = [
        f"{len(written)} videos, {hours:.2f} hours: {before / 1e6:.1f} MB -> {after / 1e6:.1f} MB",
        describe_speed([(job.source, str(destination / job.target)) for job in written]),
    ]
    return "\n".join(lines)


# ----------------------------------------------------------------------------------------------------------- command


def check_request(source: Path, destination: Path, jobs: list[Job]) -> None:
    """Refuses requests that would mix sources and results.

    Raises:
        ValueError: one of SRC and DST lies within the other, or a file in DST is one of the sources.
    """
    if "libx264" not in av.codecs_available:
        raise ValueError("This build of PyAV has no libx264 encoder; `pip install av` provides one.")
    outer, inner = os.path.realpath(source), os.path.realpath(destination)
    if source.is_dir() and (inner + os.sep).startswith(outer + os.sep):
        raise ValueError(f"DST={destination} lies within SRC={source}; give a folder outside it.")
    if (outer + os.sep).startswith(inner + os.sep):
        raise ValueError(f"SRC={source} lies within DST={destination}; give another folder for the result.")
    targets = {os.path.abspath(destination / job.target) for job in jobs}
    for job in jobs:
        if job.source in targets:
            raise ValueError(f"{job.source} would be overwritten; give a DST other than {destination}.")


def check_segments(samples: Sequence[VideoRecord], args: argparse.Namespace, options: TranscodingOptions) -> None:
    """Raises ValueError for parts of videos that would select other frames afterwards."""
    if args.shards and any(sample.is_segment for sample in samples):
        raise ValueError(f"{args.source} lists parts of videos, but shards hold whole videos; remove --shards.")
    by_frame = any(sample.start_frame is not None or sample.end_frame is not None for sample in samples)
    if options.max_fps and by_frame:
        raise ValueError(f"{args.source} counts frames, but --max_fps drops some of them; give parts in seconds.")


def check_options(destination: Path, source: Path, options: TranscodingOptions, share: ProcessShare = WHOLE) -> None:
    """Compares the options with those of DST/prepare.json; the first process writes it.

    Raises:
        ValueError: DST was made from another source or with other options.
    """
    record = destination / "prepare.json"
    wanted = {"source": os.path.abspath(source), **asdict(options)}
    if record.is_file():
        found = json.loads(record.read_text(encoding="utf-8"))
        names = [name for name in wanted if found.get(name) != wanted[name]]
        if names:
            other = ", ".join(f"{name}={found.get(name)!r}, not {wanted[name]!r}" for name in names)
            raise ValueError(f"{destination} was prepared with {other}; give another DST, or remove it.")
        return
    destination.mkdir(parents=True, exist_ok=True)
    if share.rank == 0:
        write_text(record, json.dumps(wanted, indent=2) + "\n")


def write_failures(destination: Path, jobs: list[Job], outcomes: dict[str, Outcome]) -> int:
    """Writes DST/prepare_failed.csv, or removes it if nothing failed; returns the number of failures."""
    failed = [
        (job.source, outcomes[job.source].reason.removeprefix(f"{job.source} "))
        for job in jobs
        if not outcomes[job.source].video
    ]
    table = destination / "prepare_failed.csv"
    if not failed:
        table.unlink(missing_ok=True)
        return 0
    write_csv(table, [("path", "reason"), *failed])
    return len(failed)


def pack(
    args: argparse.Namespace, samples: Sequence[VideoRecord], class_names: list[str], targets: dict[str, tuple]
) -> int:
    """Packs all written videos into tar shards; a video that a list names twice is packed twice."""
    packed = []
    for sample in samples:
        target, video = targets[os.path.abspath(sample.path)]
        if video is not None:
            details = {"path": target, "frames": video.frames, "seconds": round(video.seconds, 3)}
            if sample.label is not None:
                details["label"] = class_names[sample.label]
            packed.append(ShardSample(args.destination / target, sample.label, details))
    return write_shards(args.destination, packed, class_names, args.shards)


def parse_arguments(arguments: list[str]) -> tuple[argparse.Namespace, TranscodingOptions]:
    defaults = TranscodingOptions()
    parser = argparse.ArgumentParser(
        prog="videomae prepare", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("source", metavar="SRC", type=Path, help="folder or list of videos")
    parser.add_argument("destination", metavar="DST", type=Path, help="folder")
    parser.add_argument(
        "--root", type=Path, help="folder that relative paths in a list refer to; default: that of the list"
    )
    parser.add_argument("--unlabelled", action="store_true", help="SRC has no labels; a list may consist of paths only")
    parser.add_argument("--short_side", type=int, default=defaults.short_side, help="pixels, even (%(default)s)")
    parser.add_argument(
        "--keyframe_interval", type=int, default=defaults.keyframe_interval, help="in frames (%(default)s)"
    )
    parser.add_argument("--crf", type=int, default=defaults.crf, help="quality: 0 (best) to 51 (%(default)s)")
    parser.add_argument("--max_fps", type=float, help="drop frames of videos with a higher frame rate")
    parser.add_argument("--shards", type=int, metavar="N", help="also write tar shards of N videos each")
    parser.add_argument("--workers", type=int, help="processes; default: one per core")
    args = parser.parse_args(arguments)
    for name in ("workers", "shards"):
        if getattr(args, name) is not None and getattr(args, name) < 1:
            raise ValueError(f"--{name} {getattr(args, name)} must be at least 1.")
    for name in ("source", "destination", "root"):
        if getattr(args, name) is not None:
            setattr(args, name, getattr(args, name).expanduser())
    return args, TranscodingOptions(args.short_side, args.keyframe_interval, args.crf, args.max_fps)


def main(arguments: list[str]) -> None:
    """`videomae prepare`."""
    (args, options), share = parse_arguments(arguments), ProcessShare.of_environment()
    samples, listed, jobs = list_jobs(args.source, args.root)
    check_segments(samples, args, options)
    if share.rank == 0:
        print("\n".join(samples.messages), end="\n" * bool(samples.messages))
    class_names = []
    if args.shards and not args.unlabelled:  # checked early: shards need labels or --unlabelled
        samples, class_names = read_samples(args.source, root=args.root)
    check_request(args.source, args.destination, jobs)
    check_options(args.destination, args.source, options, share)
    if share.size > 1:
        print(f"{share}: {len(share.of(jobs))} videos of {len(jobs)}")
    try:
        outcomes = prepare_share(jobs, Preparation(args.destination, options), args.workers, share)
    except KeyboardInterrupt as interrupt:
        raise KeyboardInterrupt("finished videos are kept, and the same command continues from there") from interrupt
    if outcomes is None:
        print(f"{share} is done; the process that finishes last writes the report.")
        return
    targets = {job.source: (job.target, outcomes[job.source].video) for job in jobs}
    num_failed = write_failures(args.destination, jobs, outcomes)
    if num_failed < len(jobs):
        if args.source.is_file():
            written = {source: target for source, (target, video) in targets.items() if video}
            text = edit_list(args.source, listed, lambda sample: written.get(os.path.abspath(sample.path)))
            write_text(args.destination / args.source.name, text)
        if args.shards:
            print(f"{pack(args, samples, class_names, targets)} shards in {args.destination}, see index.json")
        print(describe(jobs, outcomes, args.destination))
    if num_failed:
        raise ValueError(f"{num_failed} of {len(jobs)} videos failed: see {args.destination / 'prepare_failed.csv'}.")

# Copyright 2026 The videomae_hf authors. Licensed under the Apache License, Version 2.0.
"""Clips from video files to the model, beside the two paths that people use today.

    python benchmarks/loading.py [VIDEO_OR_FOLDER ...] [--starts 6] [--output loading.md]

Every path makes the same 16 frames, four apart, of the same file into a clip of 224 x 224. The paths take turns on each
clip in one process on one thread; what counts is CPU time, and what is told are ratios. The peers:

- transformers: the code of its VideoMAE documentation, PyAV decoding from the start and `VideoMAEImageProcessor`
- official: what the recipes of the authors do: decord, PIL images, a multi-scale crop of each, floats

and this package: `read_frames` and `multi_scale_crop`, uint8 up to the model, which normalises the visible tenth; the
same with floats as the peers give them; and of the file that `videomae prepare` makes of the source, one clip and four
clips of one decoding (`num_sample`).

Without files, eight are drawn: 340 x 256, 300 frames, H.264 with the defaults of x264, as most of Kinetics is.
"""

import argparse
import statistics
import tempfile
import time
from collections import defaultdict
from fractions import Fraction
from functools import partial
from pathlib import Path

import av
import decord
import numpy as np
import torch
import transformers
from PIL import Image
from transformers import VideoMAEImageProcessor

from videomae_hf import VideoMAEV2Config
from videomae_hf.data.augmentation.transforms import MULTI_SCALE_CROP_SCALES, multi_scale_crop, normalize
from videomae_hf.data.preparation.transcoding import TranscodingOptions, transcode_video
from videomae_hf.data.sources.lists import VIDEO_SUFFIXES
from videomae_hf.models.video_decoding import VideoDecodeError, read_frames


FRAMES, RATE, SIZE = 16, 4, 224
CONFIG = VideoMAEV2Config()
MEAN, STD = (np.array(values, np.float32) for values in (CONFIG.image_mean, CONFIG.image_std))


# ------------------------------------------------------------------------------------------------------------ paths


def transformers_clip(path: str, indices: list[int], processor: VideoMAEImageProcessor) -> torch.Tensor:
    frames = []
    with av.open(path) as container:
        for index, frame in enumerate(container.decode(video=0)):
            if index > indices[-1]:
                break
            if index in indices:
                frames.append(frame.to_ndarray(format="rgb24"))
    return processor(frames, return_tensors="pt").pixel_values[0]


def official_clip(path: str, indices: list[int], generator: torch.Generator) -> torch.Tensor:
    images = [Image.fromarray(frame) for frame in decord.VideoReader(path, num_threads=1).get_batch(indices).asnumpy()]
    width, height = images[0].size
    scale = MULTI_SCALE_CROP_SCALES[int(torch.randint(4, (), generator=generator))]
    side = int(min(width, height) * scale)
    left, top = (int(torch.randint(5, (), generator=generator)) * ((spare - side) // 4) for spare in (width, height))
    box = (left, top, left + side, top + side)
    crops = [image.crop(box).resize((SIZE, SIZE), Image.Resampling.BILINEAR) for image in images]
    stacked = torch.from_numpy(np.concatenate([np.asarray(crop) for crop in crops], axis=2))  # (H, W, T * 3)
    pixels = stacked.permute(2, 0, 1).contiguous().float().div(255)  # (T * 3, H, W)
    mean, std = (torch.from_numpy(np.tile(values, FRAMES))[:, None, None] for values in (MEAN, STD))
    return pixels.sub_(mean).div_(std).view(FRAMES, 3, SIZE, SIZE)


def our_clips(path: str, indices: list[int], generator: torch.Generator, views: int = 1) -> list[torch.Tensor]:
    frames = read_frames(path, indices).permute(0, 3, 1, 2)  # (T, H, W, C) -> (T, C, H, W)
    return [multi_scale_crop(frames, (SIZE, SIZE), generator) for _ in range(views)]


def our_floats(path: str, indices: list[int], generator: torch.Generator) -> torch.Tensor:
    return normalize(our_clips(path, indices, generator)[0], CONFIG.image_mean, CONFIG.image_std)


# ----------------------------------------------------------------------------------------------------------- videos


def draw_source(path: Path, seed: int):
    """A textured scene that pans, with objects of their own motion and a little noise, as a camera gives."""
    rng = np.random.default_rng(seed)
    scene = rng.normal(size=(40, 60, 3)).cumsum(0).cumsum(1)
    scene = (scene - scene.min()) / np.ptp(scene) * 200 + 20
    scene = np.asarray(Image.fromarray(scene.astype(np.uint8)).resize((900, 600), Image.Resampling.BICUBIC))
    objects = rng.integers(0, 255, (4, 3))
    places, steps = rng.uniform(0, 250, (4, 2)), rng.uniform(-3, 3, (4, 2))
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=Fraction(30000, 1001))
        stream.width, stream.height, stream.pix_fmt = 340, 256, "yuv420p"
        for number in range(300):
            top, left = int(150 + 100 * np.sin(number / 40)), int(250 + 200 * np.cos(number / 50))
            image = scene[top : top + 256, left : left + 340].astype(np.int16)
            for colour, (y, x) in zip(objects, (places + steps * number) % 220):
                image[int(y) : int(y) + 36, int(x) : int(x) + 60] = colour
            image = image + rng.integers(-10, 11, image.shape)
            frame = av.VideoFrame.from_ndarray(image.clip(0, 255).astype(np.uint8), format="rgb24")
            container.mux(stream.encode(frame))
        container.mux(stream.encode())


def find_videos(paths: list[Path], folder: Path) -> list[Path]:
    if not paths:
        drawn = [folder / f"drawn_{number}.mp4" for number in range(8)]
        for seed, path in enumerate(drawn):
            draw_source(path, seed)
        return drawn
    found = [video for path in paths for video in (sorted(path.rglob("*")) if path.is_dir() else [path])]
    return [video for video in found if video.suffix.lower() in VIDEO_SUFFIXES]


def number_of_frames(path: Path) -> int:
    seen = []
    read_frames(path, lambda info: seen.append(info.num_frames) or [0])
    return seen[-1]


# ------------------------------------------------------------------------------------------------------ measurement


def measure(videos: list[Path], folder: Path, starts: int) -> tuple[dict[str, list[float]], list[int]]:
    """CPU seconds a clip of each path, one entry for each (video, start); bytes of the source and prepared files."""
    processor, options = VideoMAEImageProcessor(), TranscodingOptions()
    seconds, sizes = defaultdict(list), [0, 0]
    rng = np.random.default_rng(0)
    for number, video in enumerate(videos):
        prepared = folder / f"prepared_{number}.mp4"
        try:
            transcode_video(video, prepared, options, video.name)
        except (VideoDecodeError, OSError, ValueError) as error:
            print(f"left out: {video.name}: {error}")
            continue
        count = number_of_frames(video)
        sizes = [sizes[0] + video.stat().st_size, sizes[1] + prepared.stat().st_size]
        for start in rng.integers(0, max(count - FRAMES * RATE, 0) + 1, starts):
            indices = [min(int(start) + RATE * step, count - 1) for step in range(FRAMES)]
            generator = torch.Generator().manual_seed(int(start))
            paths = {
                "transformers": partial(transformers_clip, str(video), indices, processor),
                "official": partial(official_clip, str(video), indices, generator),
                "here": partial(our_clips, str(video), indices, generator),
                "here, floats": partial(our_floats, str(video), indices, generator),
                "here, prepared": partial(our_clips, str(prepared), indices, generator),
                "here, prepared, 4 clips a decoding": partial(our_clips, str(prepared), indices, generator, 4),
            }
            for name, make in paths.items():
                begin = time.process_time()
                made = make()
                clips = len(made) if isinstance(made, list) else 1
                seconds[name].append((time.process_time() - begin) / clips)
    return seconds, sizes


def table(seconds: dict[str, list[float]]) -> list[str]:
    lines = ["| path | times transformers | times official |", "|---|---|---|"]
    for name, own in seconds.items():
        cells = [ratio(seconds[peer], own) if name != peer else "1" for peer in ("transformers", "official")]
        lines.append(f"| {name} | {' | '.join(cells)} |")
    return lines


def ratio(peer: list[float], own: list[float]) -> str:
    """Median of the ratios of single clips, and their 10th and 90th percentile."""
    ratios = sorted(theirs / ours for theirs, ours in zip(peer, own))
    tenth = len(ratios) // 10
    return f"{statistics.median(ratios):.1f} ({ratios[tenth]:.1f} to {ratios[-1 - tenth]:.1f})"


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("videos", nargs="*", type=Path, help="files and folders; none: eight drawn ones")
    parser.add_argument("--starts", type=int, default=6, help="clips of each video")
    parser.add_argument("--output", type=Path, help="file for the table, besides standard output")
    args = parser.parse_args()
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as folder:
        videos = find_videos(args.videos, Path(folder))
        seconds, sizes = measure(videos, Path(folder), args.starts)
    clips = len(seconds["here"])
    versions = f"transformers {transformers.__version__}, av {av.__version__}, decord {decord.__version__}"
    lines = [*table(seconds), "", f"{clips} clips of {len(videos)} videos; {versions}, torch {torch.__version__}."]
    lines.append(f"Size: {sizes[0] / 1e6:.1f} MB, prepared {sizes[1] / 1e6:.1f} MB.")
    print("\n".join(lines))
    if args.output:
        args.output.write_text("\n".join(lines) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()

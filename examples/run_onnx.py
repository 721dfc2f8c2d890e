"""Labels a video with an exported classifier, without torch and without this package: numpy, PyAV and ONNX Runtime.

    videomae export MODEL exported --to onnx
    python examples/run_onnx.py exported video.mp4 [--num_clips 5] [--num_crops 3] [--top_k 5]

preprocessing.json beside the model says what to do; each function below is one of its steps. Pixels may differ by 1 of
255 from those of `videomae predict`, in the rounding of the resize.
"""

import argparse
import json
import math
from pathlib import Path

import av
import numpy as np
import onnxruntime


def decode(path: str, step: dict) -> list[np.ndarray]:
    """All frames of a video, upright: uint8 (H, W, 3) each."""
    frames = []
    with av.open(path) as container:
        stream = container.streams.best("video")
        for frame in container.decode(stream):
            turns = round(frame.rotation / 90) % 4
            pixels = np.rot90(frame.to_ndarray(format="rgb24"), k=turns)
            ratio = float(stream.sample_aspect_ratio or 1) or 1.0
            if step["square_pixels"] and 0.1 < ratio < 10:
                ratio = 1 / ratio if turns % 2 else ratio
                pixels = scaled(pixels, pixels.shape[0], round(pixels.shape[1] * ratio), antialias=True)
            frames.append(pixels)
    if not frames:
        raise SystemExit(f"{path} has no decodable frame.")
    return frames


def sample_clips(num_video_frames: int, step: dict, num_clips: int) -> list[list[int]]:
    """The indices of the frames of each clip."""
    if step["official_sampling"] or step["fps"] is not None or step["frame_sampling"] == "random":
        raise SystemExit(f"This example samples dense or uniform clips by frames, but the model has: {step['words']}")
    length, rate = step["num_frames"], step["sampling_rate"]
    if step["frame_sampling"] == "uniform":
        segment = num_video_frames / length
        offsets = [segment / 2] if num_clips == 1 else [clip * segment / num_clips for clip in range(num_clips)]
        return [[min(int(o + segment * i), num_video_frames - 1) for i in range(length)] for o in offsets]
    spare = max(math.ceil(num_video_frames / rate) - length, 0)
    starts = [spare // 2] if num_clips == 1 else [int(clip * spare / (num_clips - 1)) for clip in range(num_clips)]
    clips = [[math.floor(start * rate + i * rate + 1e-6) for i in range(length)] for start in starts]
    if step["short_video"] == "loop":
        return [[index % num_video_frames for index in clip] for clip in clips]
    if step["short_video"] == "error" and max(clips[-1]) >= num_video_frames:
        raise SystemExit(f"The video has {num_video_frames} frames, which is too short.")
    return [[min(index, max(i for i in clip if i < num_video_frames)) for index in clip] for clip in clips]


def resize(frame: np.ndarray, step: dict) -> np.ndarray:
    """uint8 (H, W, 3) -> (H', W', 3)."""
    if step["resample"] != "bilinear":
        raise SystemExit(f"This example resizes bilinearly, but the model has resample={step['resample']}.")
    height, width = frame.shape[:2]
    if "shortest_edge" in step:
        short, long = step["shortest_edge"], int(step["shortest_edge"] * max(height, width) / min(height, width))
        target = (short, long) if height <= width else (long, short)
    else:
        target = (step["height"], step["width"])
    return scaled(frame, *target, antialias=step["antialias"])


def scaled(frame: np.ndarray, height: int, width: int, antialias: bool) -> np.ndarray:
    """Bilinear, first across the rows and then down the columns, each rounded to 8 bits."""
    for axis, target in ((1, width), (0, height)):
        if frame.shape[axis] != target:
            weights = filter_weights(frame.shape[axis], target, antialias)
            frame = np.moveaxis(np.tensordot(weights, frame.astype(np.float32), axes=(1, axis)), 0, axis)
            frame = np.floor(frame.clip(0, 255) + 0.5).astype(np.uint8)
    return frame


def filter_weights(source: int, target: int, antialias: bool) -> np.ndarray:
    """(target, source): the share of each source pixel in each target pixel."""
    scale = source / target
    reach = max(scale, 1.0) if antialias else 1.0
    centres = ((np.arange(target) + 0.5) * scale)[:, None]
    if not antialias:  # without a wider filter, pixels at the border are repeated
        centres = centres.clip(0.5, source - 0.5)
    weights = (1 - np.abs(np.arange(source) + 0.5 - centres) / reach).clip(min=0)
    return (weights / weights.sum(axis=1, keepdims=True)).astype(np.float32)


def crop(clip: np.ndarray, step: dict, num_crops: int) -> list[np.ndarray]:
    """(T, H, W, 3) -> the crops, spread over the longer side; a single one is the centre."""
    height, width = step["height"], step["width"]
    missing = [max(height - clip.shape[1], 0), max(width - clip.shape[2], 0)]
    clip = np.pad(clip, [(0, 0), *((side // 2, side - side // 2) for side in missing), (0, 0)])
    spare = clip.shape[1] - height, clip.shape[2] - width
    crops = []
    for number in range(num_crops):
        top, left = spare[0] // 2, spare[1] // 2
        if num_crops > 1 and spare[0] > spare[1]:
            top = int(number * spare[0] / (num_crops - 1))
        elif num_crops > 1:
            left = int(number * spare[1] / (num_crops - 1))
        crops.append(clip[:, top : top + height, left : left + width])
    return crops


def prepare(path: str, steps: dict[str, dict], num_clips: int, num_crops: int) -> np.ndarray:
    """A video as the model takes it: float32 (clips * crops, T, 3, H, W)."""
    frames = decode(path, steps["decode"])
    clips = sample_clips(len(frames), steps["sample_frames"], num_clips)
    used = {index: frames[index] for clip in clips for index in clip}
    if "resize" in steps:
        used = {index: resize(frame, steps["resize"]) for index, frame in used.items()}
    views = [np.stack([used[index] for index in clip]) for clip in clips]
    if "crop" in steps:
        views = [view for clip in views for view in crop(clip, steps["crop"], num_crops)]
    pixels = np.stack(views).astype(np.float32)
    if "rescale" in steps:
        pixels *= np.float32(steps["rescale"]["factor"])
    if "normalize" in steps:
        mean, std = (np.array(steps["normalize"][name], np.float32) for name in ("mean", "std"))
        pixels = (pixels - mean) / std
    return pixels.transpose(0, 1, 4, 2, 3)  # (N, T, H, W, 3) -> (N, T, 3, H, W)


def averaged(logits: np.ndarray, problem_type: str) -> np.ndarray:
    """(views, num_labels) -> probabilities, or values in regression, (num_labels,)."""
    if problem_type == "regression":
        return logits.mean(axis=0)
    if problem_type == "multi_label_classification":
        return (1 / (1 + np.exp(-logits))).mean(axis=0)
    shares = np.exp(logits - logits.max(axis=1, keepdims=True))
    return (shares / shares.sum(axis=1, keepdims=True)).mean(axis=0)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("video")
    parser.add_argument("--num_clips", type=int)
    parser.add_argument("--num_crops", type=int)
    parser.add_argument("--top_k", type=int, default=5)
    args = parser.parse_args()
    about = json.loads((args.folder / "preprocessing.json").read_text(encoding="utf-8"))
    if about["kind"] != "classifier" or about["steps"][0]["num_channels"] != 3:
        raise SystemExit("This example is for classifiers of RGB videos.")
    steps, views = {step["step"]: step for step in about["steps"]}, about["views"]
    try:
        clips = prepare(args.video, steps, args.num_clips or views["num_clips"], args.num_crops or views["num_crops"])
    except (av.FFmpegError, OSError) as error:
        raise SystemExit(f"{args.video} cannot be decoded: {error}") from error
    session = onnxruntime.InferenceSession(args.folder / about["model_file"])
    logits = np.concatenate([session.run(["logits"], {"pixel_values": clip[None]})[0] for clip in clips])
    values = averaged(logits, about["problem_type"])
    for number in np.argsort(-values)[: args.top_k]:
        print(f"{about['labels'][number]}: {values[number]:.4f}")


if __name__ == "__main__":
    main()

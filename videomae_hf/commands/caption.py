# Copyright 2026 The videomae_hf authors. Licensed under the Apache License, Version 2.0.
"""`videomae caption`: writes captions of videos with a VideoBERT."""

import argparse
import sys
from pathlib import Path
from typing import Any

from ..checkpoints.video_text import is_video_text, video_text_class
from ..data.sources.media import VIDEOS
from ..inference.command_line import add_options, verb_parser
from ..inference.inputs import find_inputs, is_endless
from ..inference.loading import default_workers
from ..inference.pictures import file_stem
from ..inference.result_files import Results, refuse_older
from ..inference.video_text import VideoText, load_video_text
from ..inference.video_text_answers import Answer, answer_all, captioning
from ..inference.windows import Windows
from ..messages import say
from ..models.modeling_videobert_tasks import VideoBertForCaptioning
from ..text_files import write_text


USAGE = """\
videomae caption MODEL INPUT [INPUT ...] [options]

  videomae caption output/captioning video.mp4
  videomae caption output/captioning videos/ --num_beams 4 --csv captions.csv
  videomae caption output/captioning match.mp4 --window 10 --srt subtitles
"""
DESCRIPTION = """\
Writes a caption of each video with a VideoBERT that was finetuned for captions, one line for each. With --window, each
moment of a video has a caption, which --srt writes as subtitles. INPUT is a video, a folder (searched at any depth), a
list in any format that training accepts, an http(s) address, or - (paths on standard input, one per line).

Files of results grow with each video; the same command continues after an interruption and skips the videos that they
hold. The exit status is that of `videomae predict`.
"""


def parse_arguments(arguments: list[str]) -> argparse.Namespace:
    parser = verb_parser(USAGE, DESCRIPTION)
    parser.add_argument("model", metavar="MODEL", help="folder or Hub id of a VideoBERT")
    parser.add_argument("inputs", metavar="INPUT", nargs="+", help="video, folder, list, address, or -")
    parser.add_argument("--window", metavar="S", help="length of a moment: seconds, or frames as 64f [the whole video]")
    parser.add_argument("--stride", metavar="S", help="distance between moments, in the same unit [--window]")
    parser.add_argument("--num_beams", type=int, metavar="N", default=1, help="beams of the search; 1 is greedy [1]")
    parser.add_argument("--max_new_tokens", type=int, metavar="N", help="longest caption, in tokens [as trained]")
    parser.add_argument("--sample", action="store_true", help="sample each word, instead of taking the likeliest")
    parser.add_argument("--seed", type=int, metavar="N", default=0, help="of --sample [0]")
    parser.add_argument("--csv", type=Path, metavar="FILE", help="write path, start, end and caption")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the captions of each video")
    parser.add_argument("--srt", type=Path, metavar="DIR", help="write subtitles of each video to this folder")
    parser.add_argument(
        "--backbone", metavar="MODEL", help="the model of the features of segments [as in config.json of MODEL]"
    )
    add_options(parser, "data_root", "device", "dtype", "batch_size", "num_workers")
    return parser.parse_args(arguments)


def check_arguments(args: argparse.Namespace) -> None:
    """Raises ValueError for arguments that would otherwise fail only after the model is loaded."""
    for name in ("num_beams", "max_new_tokens"):
        if getattr(args, name) is not None and getattr(args, name) < 1:
            raise ValueError(f"--{name} {getattr(args, name)} must be at least 1.")
    if args.seed < 0:
        raise ValueError(f"--seed {args.seed} must be 0 or more.")
    if args.stride is not None and args.window is None:
        raise ValueError(f"--stride {args.stride} needs --window, the length of a moment.")
    if is_endless(source for source in args.inputs if source != "-"):
        raise ValueError("A camera has no end, so that it has no caption; give videos.")
    if args.csv and args.json and args.csv.resolve() == args.json.resolve():
        raise ValueError(f"--csv and --json are both {args.csv}.")
    if args.srt is not None and args.srt.is_file():
        raise ValueError(f"--srt {args.srt} is a file; give a folder.")
    if not is_video_text(args.model):
        raise ValueError(f"{args.model} is not a VideoBERT, so that it writes no captions; see `videomae predict`.")


def generation_options(args: argparse.Namespace, model: VideoText) -> dict[str, Any]:
    """The options of `VideoText.captions`.

    Raises:
        ValueError: captions would be longer than the model allows.
    """
    most = model.longest_caption()
    if args.max_new_tokens is not None and args.max_new_tokens > most:
        raise ValueError(f"--max_new_tokens {args.max_new_tokens} is more than {most}, the most of this model.")
    options = {"num_beams": args.num_beams, "max_new_tokens": args.max_new_tokens or most, "do_sample": args.sample}
    return options | ({"seed": args.seed} if args.sample else {})


def subtitles(moments: list[tuple[float, float, str]]) -> str:
    """Start, end and caption of moments in the format SubRip; those without words are left out."""
    moments = [moment for moment in moments if moment[2]]
    blocks = [f"{number}\n{_clock(start)} --> {_clock(end)}\n{caption}\n"
              for number, (start, end, caption) in enumerate(moments, 1)]  # fmt: skip
    return "\n".join(blocks)


def _clock(seconds: float) -> str:
    """Seconds as 00:00:00,000."""
    milliseconds = round(1000 * seconds)
    minutes, rest = divmod(milliseconds, 60_000)
    return f"{minutes // 60:02d}:{minutes % 60:02d}:{rest // 1000:02d},{rest % 1000:03d}"


def main(arguments: list[str]) -> None:
    args = parse_arguments(arguments)
    check_arguments(args)
    options = {name: getattr(args, name) for name in ("backbone", "device", "dtype", "batch_size")}
    model = load_video_text(args.model, VideoBertForCaptioning, **options)
    if video_text_class(args.model) is not VideoBertForCaptioning:
        say(f"{args.model} was pretrained to fill masked words; finetune it to write captions word by word")
    windows = None
    if args.window is not None:
        windows = Windows.of(model.processor.image_processor, args.window, args.stride or args.window)
    question = captioning(model, windows, generation_options(args, model))
    results = Results(question.files(args.model, args.csv, args.json))
    refuse_older(results.files, args.model)
    inputs = find_inputs(args.inputs, args.data_root, media=VIDEOS, note=say)
    inputs, total = results.remaining(inputs, endless=is_endless(args.inputs), note=say)
    written: set[Path] = set()

    def write_subtitles(name: str, answer: Answer) -> None:
        path = args.srt / f"{file_stem(name)}.srt"
        if path in written:  # of another video with the same file name
            path = args.srt / f"{file_stem(name, unique=True)}.srt"
        written.add(path)
        write_text(path, subtitles(answer.parts))

    if args.srt is not None:
        args.srt.mkdir(parents=True, exist_ok=True)
    also = write_subtitles if args.srt is not None else None
    workers = args.num_workers or default_workers()
    sys.exit(answer_all(model, question, inputs, results.files, num_workers=workers, total=total, also=also))

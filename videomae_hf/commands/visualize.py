# Copyright 2026 The videomae_hf authors. Licensed under the Apache License, Version 2.0.
"""`videomae visualize`: pictures of a trained model at work, and maps of the videos in a folder."""

import argparse
import sys
from fractions import Fraction
from pathlib import Path

import torch
from tqdm import tqdm

from ..inference.command_line import add_options, verb_parser
from ..inference.embedding_map import (
    MappedVideo,
    check_umap,
    encode_videos,
    labelled_inputs,
    principal_components,
    umap_points,
    write_map,
)
from ..inference.inputs import find_inputs, is_endless
from ..inference.loading import INPUT_ERRORS
from ..inference.pictures import file_stem
from ..inference.visualization import (
    ATTENTION,
    EVIDENCE,
    KINDS,
    RECONSTRUCTION,
    TOKENS,
    Viewer,
    kept_line,
    open_viewer,
    save_reconstruction,
)
from ..messages import count, named_error, printable, say
from ..models.token_selection import TokenSelection


USAGE = """\
videomae visualize MODEL VIDEO [VIDEO ...] --output_dir DIR [options]
       videomae visualize MODEL FOLDER --embedding map.html [options]

  videomae visualize output/pretrained video.mp4 --output_dir pictures
  videomae visualize output/finetuned video.mp4 --output_dir pictures --what evidence --label run
  videomae visualize output/finetuned video.mp4 --output_dir pictures --what tokens --static_threshold 0.05
  videomae visualize output/finetuned my_videos/val --embedding map.html
"""
DESCRIPTION = """\
Shows what a trained model makes of videos. VIDEO is a video, a folder (searched at any depth) or a list; of each video
the clip in its middle is shown.

A pretraining model gives NAME_reconstruction.png, .gif and .mp4: the original, what the encoder sees, the patches in
the training loss, and the reconstruction, where visible patches are those of the original. Any model gives
NAME_attention.png: attention rollout and, with --layer or --head, single heads. A finetuned classifier gives
NAME_evidence.png: which patches speak for a class, by gradient x attention. With --static_keep, --static_threshold or
--token_keep there is also NAME_tokens.png: the patches that the encoder gets when other commands have this option.
Columns are time slots of tubelet_size frames.

With --embedding all videos are encoded and placed on a map, one HTML page with thumbnails, coloured by the folders that
they lie in or by the labels of a list.

Videos that cannot be read are named on standard error and skipped. The exit status is 0 if all videos were shown, 1 if
some were not or a value is wrong, and 2 if none was or the command line cannot be parsed.
"""
_MASKS = ("mask_type", "mask_ratio", "decoder_mask_type", "decoder_mask_ratio")
_SELECTION = ("static_keep", "static_threshold", "token_keep", "token_keep_type")


def parse_arguments(arguments: list[str]) -> argparse.Namespace:
    parser = verb_parser(USAGE, DESCRIPTION)
    parser.add_argument("model", metavar="MODEL", help="folder or Hub id of a model of any kind, or of adapters")
    parser.add_argument("inputs", metavar="VIDEO", nargs="+", help="video, folder, list or address")
    parser.add_argument("--output_dir", type=Path, metavar="DIR", help="folder for the pictures")
    parser.add_argument("--what", nargs="+", metavar="KIND",
                        help=f"any of {', '.join(KINDS)} [whatever the model can show]")  # fmt: skip
    parser.add_argument("--layer", type=int, metavar="N", help="also show heads of this layer, from 0; -1 is the last")
    parser.add_argument("--head", type=int, metavar="N", help="this head only, from 0 [all heads of --layer]")
    parser.add_argument("--label", metavar="NAME", help="class whose evidence is shown [the one predicted]")
    parser.add_argument("--mask_type", help="mask of the encoder [that of the model]")
    parser.add_argument("--mask_ratio", type=float, metavar="R", help="share of hidden tokens [that of the model]")
    parser.add_argument("--decoder_mask_type", help="mask of the decoder [that of the model]")
    parser.add_argument("--decoder_mask_ratio", type=float, metavar="R",
                        help="share of tokens that are not decoded; 0 decodes all hidden ones")  # fmt: skip
    parser.add_argument("--seed", type=int, metavar="N", default=0, help="seed of masks, of --token_keep, of UMAP [0]")
    add_options(parser, *_SELECTION)
    parser.add_argument("--embedding", type=Path, metavar="FILE", help="write a map of the videos to this HTML file")
    parser.add_argument("--umap", action="store_true", help="place the videos by UMAP [by principal components]")
    add_options(parser, "data_root", "device", "num_workers")
    return parser.parse_args(arguments)


def check_arguments(args: argparse.Namespace) -> None:
    """Raises ValueError or ImportError for arguments that would otherwise fail only after the model is loaded."""
    if (args.output_dir is None) == (args.embedding is None):
        raise ValueError("Give either --output_dir for pictures of videos, or --embedding for a map of them.")
    if is_endless(args.inputs):
        raise ValueError("Cameras and standard input cannot be visualised; give videos, folders or lists.")
    if args.umap:
        check_umap()
        if args.embedding is None:
            raise ValueError("--umap is for the map of --embedding.")
    of_pictures = ("what", "layer", "head", "label", *_MASKS, *_SELECTION)
    given = next((name for name in of_pictures if getattr(args, name) is not None), None)
    if args.embedding and given:
        raise ValueError(f"--{given} is for pictures of videos, not for the map of --embedding.")
    if args.num_workers is not None and args.num_workers < 1:
        raise ValueError(f"--num_workers {args.num_workers} must be at least 1.")
    selection_of(args)


def selection_of(args: argparse.Namespace) -> TokenSelection | None:
    """Which tokens are shown; None if no option says so.

    Raises:
        ValueError: options contradict each other, or one is missing.
    """
    given = {name: getattr(args, name) for name in _SELECTION if getattr(args, name) is not None}
    if not given and TOKENS not in (args.what or ()):
        return None
    if not set(given) - {"token_keep_type"}:
        raise ValueError(
            f"{TOKENS} shows a part of the tokens: give --static_keep, --static_threshold or --token_keep."
        )
    return TokenSelection(**given)


def kinds_of(args: argparse.Namespace, viewer: Viewer) -> tuple[str, ...]:
    """The kinds of pictures to make; options for another kind are refused rather than ignored."""
    for kind in args.what or ():
        viewer.check_kind(kind)
    kinds = tuple(args.what or (*viewer.kinds, *([TOKENS] if selection_of(args) else [])))
    of_kinds = {ATTENTION: ("layer", "head"), EVIDENCE: ("label",), RECONSTRUCTION: _MASKS, TOKENS: _SELECTION}
    for kind, names in of_kinds.items():
        given = next((name for name in names if getattr(args, name) is not None), None)
        if given and kind not in kinds:
            viewer.check_kind(kind)
            raise ValueError(f"--{given} is for {kind}, which --what leaves out.")
    return kinds


def save_pictures(
    clip: torch.Tensor, fps: Fraction, viewer: Viewer, kinds: tuple[str, ...], stem: str, args: argparse.Namespace
) -> list[Path]:
    """Writes the pictures of a clip (1, T, C, H, W)."""
    paths = []
    if RECONSTRUCTION in kinds:
        rows = viewer.reconstruction(clip, args.seed)
        paths += save_reconstruction(rows, viewer, fps, args.output_dir / f"{stem}_reconstruction")
    if ATTENTION in kinds:
        paths.append(args.output_dir / f"{stem}_attention.png")
        viewer.attention(clip, args.layer, args.head).save(paths[-1])
    if EVIDENCE in kinds:
        paths.append(args.output_dir / f"{stem}_evidence.png")
        viewer.evidence(clip, args.label).save(paths[-1])
    if TOKENS in kinds:
        paths.append(args.output_dir / f"{stem}_tokens.png")
        kept = viewer.kept_tokens(clip, selection_of(args), args.seed)
        viewer.tokens(clip, kept).save(paths[-1])
        say(f"{stem}: {kept_line(kept)}")
    return paths


def write_pictures(args: argparse.Namespace, viewer: Viewer) -> tuple[int, int]:
    """The pictures of all videos; returns the numbers of videos that were shown and that could not be read."""
    kinds = kinds_of(args, viewer)
    viewer.check_choices(args.layer, args.head, args.label)
    if TOKENS in kinds:
        selection_of(args).check(viewer.model.config)
    args.output_dir.mkdir(parents=True, exist_ok=True)
    stems, failed = set(), 0
    inputs = list(find_inputs(args.inputs, args.data_root, media=viewer.media, note=say))
    for one in tqdm(inputs, unit="video", disable=None):
        try:
            clip, fps = viewer.clip(one)
        except INPUT_ERRORS as error:
            failed += 1
            say(f"failed: {named_error(one.name, error)}")
            continue
        stem = file_stem(one.name, unique=file_stem(one.name) in stems)
        stems.add(stem)
        paths = save_pictures(clip, fps, viewer, kinds, stem, args)
        tqdm.write(printable(f"{one.name}: {', '.join(map(str, paths))}"), file=sys.stdout)
    return len(inputs) - failed, failed


def write_embedding(args: argparse.Namespace, viewer: Viewer) -> tuple[int, int]:
    """The map of all videos; returns the numbers of videos on it and of those that could not be read."""
    args.embedding.parent.mkdir(parents=True, exist_ok=True)
    videos, failed = [], 0
    several = len(args.inputs) > 1
    options = {"is_class": several, "media": viewer.media}
    found = [pair for one in args.inputs for pair in labelled_inputs(one, args.data_root, **options)]
    for video in tqdm(encode_videos(viewer, found, args.num_workers), total=len(found), unit="video", disable=None):
        if isinstance(video, MappedVideo):
            videos.append(video)
        else:
            failed += 1
            name, error = video
            say(f"failed: {named_error(name, error)}")
    if videos:
        features = [video.feature for video in videos]
        projection = umap_points(features, args.seed) if args.umap else principal_components(features)
        write_map(args.embedding, videos, projection, args.model)
        tqdm.write(f"{args.embedding}: {count(len(videos), 'video')}", file=sys.stdout)
    return len(videos), failed


def main(arguments: list[str]) -> None:
    args = parse_arguments(arguments)
    check_arguments(args)
    viewer = open_viewer(args.model, args.device, **{name: getattr(args, name) for name in _MASKS})
    for message in viewer.messages:
        say(message)
    worked, failed = (write_pictures if args.output_dir else write_embedding)(args, viewer)
    if failed:
        say(f"{count(failed, 'video')} of {worked + failed} could not be shown, for the reasons above")
    sys.exit(0 if not failed else 1 if worked else 2)

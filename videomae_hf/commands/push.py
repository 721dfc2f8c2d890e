# Copyright 2026 The videomae_hf authors. Licensed under the Apache License, Version 2.0.
"""Ships a checkpoint to the Hub as a folder that loads without this package; this is verified before the upload.

    videomae push output/finetune me/my-videomae
    videomae push output/finetune me/my-videomae --dry_run bundle
    videomae push output/finetune me/my-videomae --metrics scores/metrics.json --private --tag v1.0

The folder holds the weights (safetensors), configuration, processor, the Python files they need, and a model card.
Before anything is uploaded, another process, in which `videomae_hf` cannot be imported, loads the folder with
`trust_remote_code=True` and must compute the same output. The token is that of `hf auth login`, or HF_TOKEN. After an
interruption, the same command continues.
"""

import argparse
import re
import tempfile
from pathlib import Path

from huggingface_hub.utils import validate_repo_id

from ..checkpoints.bundle import (
    build_bundle,
    build_transformers_copy,
    read_checkpoint,
    refuse_filled,
    verify_bundle,
)
from ..checkpoints.model_card import TRANSFORMERS_BRANCH, Checkpoint, Publication
from ..checkpoints.run_folders import run_folder
from ..checkpoints.space import build_space, verify_space
from ..checkpoints.uploading import Destination, add_tag, prepare_repository, upload


MODEL, COPY, SPACE = "model", TRANSFORMERS_BRANCH, "space"  # the folders that are built


def parse_arguments(arguments: list[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="videomae push", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "checkpoint", help="folder or Hub id of a model of this package, VideoBERT too, or of transformers' VideoMAE"
    )
    parser.add_argument("repo_id", help="user/name on the Hub")
    parser.add_argument("--dry_run", metavar="DIR", help="build and verify the folder in DIR, without uploading it")
    parser.add_argument(
        "--max_shard_size", metavar="SIZE", help="largest file of weights, such as 2GB [one of transformers]"
    )
    parser.add_argument(
        "--also_transformers",
        action="store_true",
        help=f"also upload a copy for transformers' own classes to the branch {TRANSFORMERS_BRANCH}",
    )
    parser.add_argument(
        "--space", action="store_true", help="also publish the page of `videomae app` for it, as the Space of that name"
    )
    parser.add_argument(
        "--backbone",
        metavar="ID",
        help="Hub id of the model whose features a VideoBERT takes [that of its config.json]",
    )
    card = parser.add_argument_group("model card")
    card.add_argument("--metrics", metavar="FILE", help="metrics.json of `videomae evaluate` [that in the checkpoint]")
    card.add_argument("--dataset", help="name of the data set")
    card.add_argument("--license", help="licence of the weights: apache-2.0, cc-by-nc-4.0, ... [the inherited one]")
    card.add_argument(
        "--license_override", action="store_true", help="state a licence that is freer than the inherited one"
    )
    card.add_argument("--example", metavar="VIDEO", type=Path, help="video for the widget; it is uploaded too")
    card.add_argument(
        "--reconstructions", metavar="N", type=int, default=0, help="show N of the run's videos, reconstructed [0]"
    )
    hub = parser.add_argument_group("upload")
    hub.add_argument("--private", action="store_true", help="make the repository private; a public one is refused")
    hub.add_argument("--revision", help="branch to push to; created if it does not exist")
    hub.add_argument("--create_pr", action="store_true", help="open a pull request")
    hub.add_argument("--commit_message", default="Upload with videomae_hf")
    hub.add_argument("--tag", help="tag of the commit, such as v1.0")
    return parser.parse_args(arguments)


def check_arguments(args: argparse.Namespace) -> None:
    """Raises ValueError for options that contradict each other, and FileNotFoundError for a missing example."""
    validate_repo_id(args.repo_id)
    if "/" not in args.repo_id:
        raise ValueError(f"{args.repo_id} must be user/name, as the model card names it.")
    if args.license_override and not args.license:
        raise ValueError("--license_override is for the licence of --license, which is missing.")
    if args.create_pr and (args.revision or args.tag or args.also_transformers):
        raise ValueError("--create_pr cannot be combined with --revision, --tag or --also_transformers.")
    if args.space and (args.create_pr or args.revision):
        raise ValueError("--space shows the model on the main branch: leave out --revision and --create_pr.")
    if args.also_transformers and args.revision == TRANSFORMERS_BRANCH:
        raise ValueError(f"--revision {args.revision} is the branch of the copy of --also_transformers; name another.")
    if args.max_shard_size and not re.fullmatch(r"\d+(\.\d+)?[KMGT]B", args.max_shard_size):
        raise ValueError(f"--max_shard_size {args.max_shard_size} must be a size such as 500MB or 2GB.")
    if args.reconstructions < 0:
        raise ValueError(f"--reconstructions {args.reconstructions} must be 0 or more.")
    if args.example is not None and not args.example.is_file():
        raise FileNotFoundError(f"--example {args.example} is not a file.")


def main(arguments: list[str]) -> None:
    args = parse_arguments(arguments)
    check_arguments(args)
    checkpoint = None if is_published(args) else read_checkpoint(args.checkpoint, args.metrics)
    names = ("repo_id", "license", "license_override", "dataset", "example", "reconstructions", "max_shard_size",
             "backbone")  # fmt: skip
    if checkpoint is not None and checkpoint.is_video_text and args.space:
        raise ValueError(f"{args.checkpoint} is a VideoBERT, which the page of --space does not show: leave it out.")
    publication = Publication(**{name: getattr(args, name) for name in names})
    if args.dry_run:
        return dry_run(args, checkpoint, publication)
    with tempfile.TemporaryDirectory() as scratch:
        ship(args, build(args, checkpoint, publication, Path(scratch)))


def is_published(args: argparse.Namespace) -> bool:
    """Whether the model is in its repository already, so that --space adds the Space alone."""
    named = args.checkpoint == args.repo_id and not Path(args.checkpoint).exists()
    return args.space and named and not args.also_transformers


def dry_run(args: argparse.Namespace, checkpoint: Checkpoint | None, publication: Publication) -> None:
    """Leaves what would be uploaded in the folder of --dry_run, the copy for transformers and the Space next to it."""
    beside = {MODEL: "", COPY: f"-{COPY}", SPACE: f"-{SPACE}"}
    wanted = {MODEL: checkpoint is not None, COPY: args.also_transformers, SPACE: args.space}
    places = {kind: Path(f"{Path(args.dry_run)}{end}") for kind, end in beside.items() if wanted[kind]}
    for place in places.values():
        refuse_filled(place)
        place.mkdir(parents=True, exist_ok=True)
    parent = Path(args.dry_run).parent  # so that a failure leaves no incomplete folder
    with tempfile.TemporaryDirectory(dir=parent) as scratch:
        for kind, built in build(args, checkpoint, publication, Path(scratch)).items():
            for path in built.iterdir():
                path.rename(places[kind] / path.name)
    ready = " and ".join(map(str, places.values())) + (" is" if len(places) == 1 else " are")
    print(f"Dry run: nothing was uploaded. {ready} ready; without --dry_run it goes to {args.repo_id}.")


def build(
    args: argparse.Namespace, checkpoint: Checkpoint | None, publication: Publication, scratch: Path
) -> dict[str, Path]:
    """Builds and verifies the folders to upload, and prints notes about them.

    Args:
        args: the options.
        checkpoint: the model; None builds the Space alone.
        publication: what its author states.
        scratch: an empty folder.

    Returns:
        The folders: `MODEL` and, if requested, `COPY` and `SPACE`.
    """
    folders = {}
    if checkpoint is None:
        print(f"The model is that of {args.repo_id} on the Hub, as it is; the Space alone is new.")
    else:
        if args.also_transformers:
            folders[COPY] = scratch / COPY
            differences = build_transformers_copy(checkpoint, publication, folders[COPY])
            print("\n".join(["The copy for transformers:", *differences]))
        folders[MODEL] = scratch / MODEL
        build_bundle(checkpoint, publication, folders[MODEL])
        verify_bundle(checkpoint, folders[MODEL])
        print("\n".join(notes(checkpoint, publication, folders[MODEL])))
    if args.space:
        folders[SPACE] = scratch / SPACE
        build_space(args.repo_id, folders[SPACE], args.example)
        verify_space(folders.get(MODEL, args.repo_id), folders[SPACE])
        print("The page of the Space was built from its own files.")
    return folders


def notes(checkpoint: Checkpoint, publication: Publication, folder: Path) -> list[str]:
    """Lines about the folder, and about what its card lacks."""
    files = [file for file in folder.rglob("*") if file.is_file()]
    size = sum(file.stat().st_size for file in files) / 2**20
    lines = [f"{len(files)} files, {size:.1f} MiB; verified without videomae_hf."]
    origin = checkpoint.origin
    if publication.license is None and origin.license:
        source = origin.base_model or "the weights that training started from"
        lines.append(f"Licence: {origin.license}, inherited from {source}; see --license.")
    elif publication.license is None:
        source = f", and that of {origin.base_model} is unknown" if origin.base_model else ""
        lines.append(f"The model card states no licence{source}; set one with --license.")
    if not publication.reconstructions and Path(run_folder(checkpoint.source), "reconstructions").is_dir():
        lines.append(
            "Reconstructions are left out, because they show frames of your videos; --reconstructions 2 adds two."
        )
    return lines


def ship(args: argparse.Namespace, folders: dict[str, Path]) -> None:
    """Uploads the folders, the copy for transformers to its branch, and prints their addresses."""
    private = args.private or None
    if MODEL in folders:
        options = {"create_pr": args.create_pr, "private": private}
        destination = prepare_repository(Destination(args.repo_id, revision=args.revision, **options))
        commit = upload(folders[MODEL], destination, args.commit_message)
        print(commit.pr_url or commit.commit_url)
        if args.tag:
            add_tag(destination, args.tag, commit)
    if COPY in folders:
        destination = prepare_repository(Destination(args.repo_id, revision=TRANSFORMERS_BRANCH))
        print(upload(folders[COPY], destination, args.commit_message, mirror=True).commit_url)
    if SPACE in folders:
        destination = prepare_repository(Destination(args.repo_id, repo_type="space", private=private))
        print(upload(folders[SPACE], destination, args.commit_message).commit_url)
        if args.private:
            print("The Space is private, too. To load the model it needs a token: add HF_TOKEN to its secrets.")

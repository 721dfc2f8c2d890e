"""The blocks of README.md and docs/, the folder in which a reader would run them, and what is generated from the code.

PYTHONPATH=.:tests python -m helpers.documentation    # writes docs/options.md and videomae_hf/help
"""

import dataclasses
import io
import os
import re
import shlex
import shutil
import sys
from contextlib import redirect_stdout, suppress
from importlib import import_module
from pathlib import Path
from typing import NamedTuple
from unittest.mock import patch

import numpy as np
import torch
import transformers
from transformers import VideoMAEConfig, VideoMAEForPreTraining, VideoMAEForVideoClassification

from helpers.runs import run_of
from helpers.shared import REPO, TINY, randomize
from videomae_hf import VideoMAEV2Config, VideoMAEV2ForVideoClassification
from videomae_hf.cli import HELP, VERBS
from videomae_hf.data.sources.synthetic import CLASSES, synthesise_dataset, synthesise_video, write_video
from videomae_hf.models.official_checkpoints import to_official
from videomae_hf.settings.training_arguments import VideoMAETrainingArguments


PAGES = sorted((REPO / "docs").rglob("*.md"))
_NAMES = ("train.py", "push_to_hub.py", "examples", "benchmarks", "constraints.txt")


class Block(NamedTuple):
    """A fenced block of a page."""

    page: str
    language: str
    text: str


def blocks(*pages: Path) -> list[Block]:
    """The fenced blocks of pages, with their language."""
    found = []
    for page in pages:
        fences = re.findall(r"^```(\w*)\n(.*?)^```", page.read_text(encoding="utf-8"), re.DOTALL | re.MULTILINE)
        found += [Block(page.relative_to(REPO).as_posix(), language, text) for language, text in fences]
    return found


def command_lines(text: str) -> list[list[str]]:
    """The commands of a block, as a shell splits them; a backslash joins a line to the next."""
    return [shlex.split(line) for line in text.replace("\\\n", " ").splitlines() if line.strip()]


def transformers_model(model_class, **fields):
    """A tiny random model of transformers' own VideoMAE."""
    names = {name: value for name, value in TINY.items() if name != "layer_norm_eps"}
    return randomize(model_class(VideoMAEConfig(**{**names, **fields}))).eval()


def make_clone(folder: Path) -> Path:
    """A clone as the reader sees it: their videos, and the Hub's checkpoints (tiny ones) by their names."""
    for name in _NAMES:
        (folder / name).symlink_to(REPO / name)
    # 16 frames 4 apart need 61.
    synthesise_dataset(folder / "my_videos" / "train", videos_per_class=4, size=40, num_frames=64)
    synthesise_dataset(folder / "my_videos" / "val", videos_per_class=1, size=40, num_frames=64, seed=1)
    write_video(folder / "video.mp4", synthesise_video("left", np.random.default_rng(0), 40, 16))
    labels = {"id2label": dict(enumerate(CLASSES)), "label2id": {name: i for i, name in enumerate(CLASSES)}}
    for name, model_class in (
        ("videomae-base", VideoMAEForPreTraining),
        ("videomae-base-finetuned-kinetics", VideoMAEForVideoClassification),
    ):
        transformers_model(model_class, num_frames=16, **labels).save_pretrained(folder / "MCG-NJU" / name)
        processor = transformers.VideoMAEImageProcessor(
            size={"shortest_edge": 32}, crop_size={"height": 32, "width": 32}
        )
        processor.save_pretrained(folder / "MCG-NJU" / name)
    # An official file of an official size, which needs no option; the smallest
    model = VideoMAEV2ForVideoClassification(VideoMAEV2Config.from_size("small", num_labels=8))
    torch.save({"module": to_official(model.state_dict(), pretraining=False)}, folder / "vit_b_k400.pth")
    return folder


def options_page() -> str:
    """docs/options.md, from the settings."""
    lines = [
        "---",
        "description: Every option of the training and evaluation commands",
        "---",
        "",
        "# Options",
        "",
        "Each is an option of the command line (`--sampling_rate 2`) and a key of a recipe. This page is generated",
        "from the code. Besides these, every field of transformers' `TrainingArguments` and of",
        "[`VideoMAEV2Config`](api/models.md) is an option. `videomae VERB --help` lists those that a verb uses.",
    ]
    groups = [*run_of().groups.values(), VideoMAETrainingArguments]
    for group in groups:
        lines += ["", f"## {group._argument_group_name[0].upper()}{group._argument_group_name[1:]}", ""]
        lines += ["| Option | Default | Meaning |", "|---|---|---|"]
        own = set(vars(group if isinstance(group, type) else type(group))["__annotations__"])
        for spec in dataclasses.fields(group):
            if spec.name in own and "help" in spec.metadata:
                default = spec.default_factory() if spec.default is dataclasses.MISSING else spec.default
                shown = "" if default is None else f"`{str(default).lower() if isinstance(default, bool) else default}`"
                help_text = spec.metadata["help"].replace("|", "\\|")
                lines.append(f"| `{spec.name}` | {shown} | {help_text} |")
    return "\n".join(lines) + "\n"


def help_of(verb: str, program: str = "videomae") -> str:
    """What the parser of a verb prints for --help, 110 columns wide."""
    printed = io.StringIO()
    # argparse leaves two columns free
    with patch.dict(os.environ, COLUMNS="112"), patch.object(sys, "argv", [program]), redirect_stdout(printed):
        with suppress(SystemExit):
            import_module(f"videomae_hf.commands.{verb.replace('-', '_')}").main(["--help"])
    return printed.getvalue()


def write_generated() -> None:
    """Writes docs/options.md and what each verb prints for --help."""
    (REPO / "docs" / "options.md").write_text(options_page(), encoding="utf-8")
    shutil.rmtree(HELP, ignore_errors=True)
    HELP.mkdir()
    for verb in VERBS:
        (HELP / f"{verb}.txt").write_text(help_of(verb), encoding="utf-8")


if __name__ == "__main__":
    write_generated()

"""docs/deviations.md: the options it names exist, the recipes set them, and no deviation in the code is missing."""

import dataclasses
import re

import pytest
import yaml
from helpers.runs import parsed, setting_names
from helpers.shared import REPO

from videomae_hf import VideoMAEV2Config
from videomae_hf.commands import finetune
from videomae_hf.models.image_processing_videomae_v2 import VideoMAEV2ProcessorKwargs
from videomae_hf.settings.training_arguments import VideoMAETrainingArguments


PACKAGE = REPO / "videomae_hf"
RECIPES = sorted((REPO / "examples" / "recipes").glob("v[12]/*.yaml"))
KNOWN = finetune.VERB.config_fields | setting_names() | set(VideoMAEV2ProcessorKwargs.__annotations__)
KNOWN |= {spec.name for spec in dataclasses.fields(VideoMAETrainingArguments)}


def table() -> list[list[str]]:
    """The cells of each row, without those that name a section."""
    lines = (REPO / "docs" / "deviations.md").read_text(encoding="utf-8").splitlines()
    rows = [[cell.strip() for cell in line.strip("|").split(" |")] for line in lines if line.startswith("|")][2:]
    assert {len(row) for row in rows} == {6}
    return [row for row in rows if not row[0].startswith("**")]


def settings(cell: str) -> dict:
    """`name: value` pairs of the column of options."""
    return {name: yaml.safe_load(value) for name, value in re.findall(r"`(\w+): ([^`]+)`", cell)}


@pytest.mark.parametrize("row", table(), ids=lambda row: row[0])
def test_every_option_exists(row):
    what, official, here, why, options, code = row
    assert official and here and why
    if options == "none":
        return
    named = settings(options)
    assert named, options
    assert set(named) <= KNOWN


def test_recipes_have_the_official_options():
    """Where the table does not say otherwise: as a recipe, or as the default that it leaves alone."""
    rows = [settings(row[4]) for row in table() if "not in the recipes" not in row[4]]
    official = {name: value for row in rows for name, value in row.items()}
    of_a_run = {"base_learning_rate", "frame_template", "sampling_rate", "horizontal_flip", "head_from", "problem_type"}
    for path in RECIPES:
        command = path.stem.split("_")[0]
        run = parsed(command, path, "--use_cpu", "true")
        args, model = run.training, run.model
        config = VideoMAEV2Config.from_size(model.model_size, model.model_version, **run.config_overrides)
        assert args.base_learning_rate is not None
        for name, value in official.items():
            owner = next(owner for owner in (*run.groups.values(), args, config) if name in vars(owner))
            if name in of_a_run or (name == "max_grad_norm" and getattr(owner, name) > 0):
                continue  # of the data; and two scripts of V2 clip
            if name in ("rand_augment", "antialias") and command == "pretrain":
                continue  # official pretraining has no RandAugment, and antialiases
            assert getattr(owner, name) == value, (path.name, name)


def test_every_deviation_of_the_code_is_in_the_table():
    named = {file for row in table() for file in re.findall(r"`([\w/]+\.py)`", row[5])}
    assert all((PACKAGE / file).is_file() for file in named)
    commented = {
        path.relative_to(PACKAGE).as_posix()
        for path in PACKAGE.rglob("*.py")
        if "Deviation" in path.read_text(encoding="utf-8")
    }
    assert commented <= named
    assert len(commented) > 12

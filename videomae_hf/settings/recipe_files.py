# Copyright 2026 The videomae_hf authors. Licensed under the Apache License, Version 2.0.
"""The files of recipes: those of the user by their path, and those that come with this package by their name."""

from pathlib import Path

from ..messages import did_you_mean


# setup.py copies the recipes of the repository into the installed package.
_INSTALLED = Path(__file__).parents[1] / "recipes"
_IN_REPOSITORY = Path(__file__).parents[2] / "examples" / "recipes"
_SUFFIX = ".yaml"


def named_recipes() -> dict[str, Path]:
    """The recipes of this package: `finetune_small`, `v1/finetune_k400_base`, .. and their files."""
    folder = _INSTALLED if _INSTALLED.is_dir() else _IN_REPOSITORY
    files = sorted(folder.rglob(f"*{_SUFFIX}"))
    return {file.relative_to(folder).as_posix().removesuffix(_SUFFIX): file for file in files}


def find_recipe(recipe: str | Path) -> Path:
    """The file of a recipe.

    Args:
        recipe: path of a YAML file or, if there is no such file, the name of a recipe of this package.

    Raises:
        FileNotFoundError: there is neither; the message suggests a name.
    """
    if Path(recipe).is_file():
        return Path(recipe)
    recipes = named_recipes()
    if str(recipe) in recipes:
        return recipes[str(recipe)]
    # Paths in the repository, which an installed package does not have
    name = Path(recipe).as_posix().removeprefix("examples/recipes/").removesuffix(_SUFFIX)
    hint = did_you_mean(name, recipes) or "; `videomae finetune --help` lists the recipes of this package."
    if Path(recipe).is_dir():
        hint = f"; it is a folder. Videos are given with an option, as in --train_data {recipe}"
    raise FileNotFoundError(f"The recipe {recipe} does not exist{hint}")

"""Copies the recipes of examples/recipes into the built package, so that it finds them by name without a checkout.

Everything else is in pyproject.toml.
"""

import shutil
from pathlib import Path

from setuptools import setup
from setuptools.command.build_py import build_py


class BuildWithRecipes(build_py):
    """Builds the package; an editable installation reads the recipes where they are."""

    def run(self):
        super().run()
        if not self.editable_mode:
            target = Path(self.build_lib, "videomae_hf", "recipes")
            shutil.rmtree(target, ignore_errors=True)  # of an earlier build
            shutil.copytree("examples/recipes", target, ignore=shutil.ignore_patterns("*.py", "__pycache__"))


setup(cmdclass={"build_py": BuildWithRecipes})

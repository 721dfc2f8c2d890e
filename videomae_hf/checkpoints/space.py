# Copyright 2026 The videomae_hf authors. Licensed under the Apache License, Version 2.0.
"""Builds the folder of a Space, which shows the page of `videomae app` for a model on the Hub.

This package is not on PyPI: the folder has a copy of it, and the versions of its dependencies that are installed here.
"""

import os
import shutil
import subprocess
import sys
from importlib.metadata import PackageNotFoundError, distribution, version
from pathlib import Path

import yaml
from packaging.version import Version

from ..text_files import write_text
from .bundle import refuse_filled, refuse_private


_PACKAGE = Path(__file__).parents[1]
# What the page imports. gradio is that of the Space's header, too.
_REQUIRED = (
    "av", "gradio", "huggingface_hub", "matplotlib", "numpy", "pillow", "pyyaml", "safetensors", "torch", "tqdm",
    "transformers",
)  # fmt: skip
_APP = '''\
"""The page of `videomae app` for {model}; the variable MODEL, in the settings of the Space, shows another model."""

import os

from videomae_hf.commands.app import build_app, private_folder, serve


with private_folder():
    page = build_app(os.environ.get("MODEL", "{model}"){examples})
    serve(page, host=None, port=None)  # where the Hub wants it; elsewhere on this machine alone
'''
_README = """\
# {name}

Try [{model}](https://huggingface.co/{model}) on your own videos. The code of this page is videomae_hf (Apache-2.0, see
LICENSE), which lies in the folder `videomae_hf`; the model has the licence of its own page. If the model is private,
add a token that may read it to the secrets of this Space, as HF_TOKEN.
"""
# The program of the process that tries a Space: it builds the page with the copy of the package, and without the
# dependencies of the package that requirements.txt does not name.
_VERIFY = """
import sys
for name in ("accelerate", "datasets", "decord", "evaluate", "peft", "sklearn"):
    sys.modules[name] = None
import videomae_hf
from videomae_hf.commands.app import build_app
assert videomae_hf.__file__.startswith(sys.argv[2]), videomae_hf.__file__
build_app(sys.argv[1])
"""


def build_space(model: str, folder: Path, example: Path | None = None) -> None:
    """Writes all files of a Space to a folder, which must be empty or new.

    Args:
        model: Hub id of the model, which is also the name of the Space.
        folder: the folder.
        example: a video to choose on the page.

    Raises:
        ValueError: the folder is not empty, or an installed version is not a release.
        ImportError: a library of the page is not installed.
    """
    refuse_filled(folder)
    versions = {name: _release(name) for name in _REQUIRED}
    shutil.copytree(_PACKAGE, folder / _PACKAGE.name, ignore=shutil.ignore_patterns("__pycache__", "*.py[cio]"))
    shutil.copyfile(_license(), folder / "LICENSE")
    examples = ""
    if example is not None:
        (folder / "examples").mkdir()
        shutil.copyfile(example, folder / "examples" / f"example{example.suffix.lower()}")
        examples = ', examples="examples"'
    write_text(folder / "app.py", _APP.format(model=model, examples=examples))
    write_text(folder / "requirements.txt", "".join(f"{name}=={found}\n" for name, found in versions.items()))
    header = {
        "title": model.split("/")[-1],
        "sdk": "gradio",
        "sdk_version": versions["gradio"],
        "python_version": "{}.{}".format(*sys.version_info),
        "app_file": "app.py",
        "license": "apache-2.0",
        "models": [model],
        "tags": ["video-classification", "videomae"],
    }
    text = _README.format(name=header["title"], model=model)
    write_text(folder / "README.md", f"---\n{yaml.safe_dump(header, sort_keys=False)}---\n\n{text}")
    refuse_private(folder)


def verify_space(model: str | Path, folder: Path) -> None:
    """Builds the page in another process, with the copy of the package.

    Args:
        model: folder or Hub id of the model.
        folder: the folder of the Space.

    Raises:
        ValueError: the page cannot be built.
    """
    model = str(model.resolve()) if isinstance(model, Path) else model
    environment = {**os.environ, "PYTHONDONTWRITEBYTECODE": "1"}
    environment.pop("PYTHONPATH", None)
    command = [sys.executable, "-c", _VERIFY, model, str(folder.resolve())]
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True)
    if done.returncode:
        reason = done.stderr.strip().splitlines()[-1] if done.stderr.strip() else f"exit status {done.returncode}"
        raise ValueError(f"The Space in {folder} does not work: {reason}")


def _release(name: str) -> str:
    """The installed version of a library, without what a local build adds to it, such as +cpu."""
    try:
        found = Version(version(name))
    except PackageNotFoundError as error:
        raise ImportError(
            f"A Space needs {name}, which is not installed here: pip install 'videomae_hf[app]'."
        ) from error
    if found.is_prerelease:
        raise ValueError(f"{name} {found} is not a release, so that a Space cannot install it; install a release here.")
    return found.public


def _license() -> Path:
    """The file LICENSE of a checkout, or of the installed package."""
    beside = _PACKAGE.parent / "LICENSE"
    if beside.is_file():
        return beside
    return next(Path(file.locate()) for file in distribution("videomae_hf").files if file.name == "LICENSE")

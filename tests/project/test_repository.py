"""Files around the code: the index of the recipes, versions that are named in several places, and what is installed."""

import re
import runpy
import tomllib

import pytest
import yaml
from helpers.shared import REPO

import videomae_hf


PYPROJECT = tomllib.loads((REPO / "pyproject.toml").read_text(encoding="utf-8"))


def pins(file: str) -> dict[str, str]:
    return dict(re.findall(r"^([\w-]+)==(\S+)$", (REPO / file).read_text(encoding="utf-8"), re.MULTILINE))


def test_the_index_of_the_recipes_is_current():
    generated = runpy.run_path(str(REPO / "examples" / "recipes" / "index.py"))["index"]()
    committed = (REPO / "examples" / "recipes" / "README.md").read_text(encoding="utf-8")
    assert committed == generated, "run: python examples/recipes/index.py"


def test_the_index_lists_every_recipe_with_its_settings():
    index = (REPO / "examples" / "recipes" / "README.md").read_text(encoding="utf-8")
    linked = set(re.findall(r"\]\((\S+\.yaml)\)", index))
    folder = REPO / "examples" / "recipes"
    assert linked == {path.relative_to(folder).as_posix() for path in folder.rglob("*.yaml")}
    row = next(line for line in index.splitlines() if "(v1/finetune_k400_base.yaml)" in line)
    assert [cell.strip() for cell in row.strip("|").split("|")][1:] == [
        "finetune",
        "ViT-B pretrained for 1600 epochs, finetuned on Kinetics-400",
        "384",
        "75",
        "64 x 6",
        "9 GiB",
        "81.5 %",
    ]


def test_examples_readme_lists_every_script_and_folder():
    folder = REPO / "examples"
    linked = set(re.findall(r"\]\(([\w./]+)\)", (folder / "README.md").read_text(encoding="utf-8")))
    scripts = {path.name for path in folder.glob("*.py")}
    folders = {path.parent.name for path in folder.glob("*/README.md")}
    assert scripts | folders <= linked
    assert all((folder / name).exists() for name in linked)


def test_one_version_everywhere():
    citation = yaml.safe_load((REPO / "CITATION.cff").read_text(encoding="utf-8"))
    assert citation["version"] == videomae_hf.__version__
    assert citation["license"] == PYPROJECT["project"]["license"]
    assert [reference["url"] for reference in citation["references"]] == list(PYPROJECT["project"]["urls"].values())


def test_oldest_versions_are_the_lower_bounds():
    bounds = dict(re.findall(r"^([\w-]+)>=([\d.]+)", "\n".join(PYPROJECT["project"]["dependencies"]), re.MULTILINE))
    oldest = pins(".github/oldest.txt")
    assert oldest.keys() == bounds.keys()
    for name, version in oldest.items():
        assert f"{version}.".startswith(f"{bounds[name]}."), name


def test_ruff_is_the_same_in_pre_commit():
    (hooks,) = yaml.safe_load((REPO / ".pre-commit-config.yaml").read_text(encoding="utf-8"))["repos"]
    assert hooks["rev"] == f"v{pins('constraints.txt')['ruff']}"


@pytest.mark.parametrize("workflow", ["tests.yml", "nightly.yml"])
def test_workflows_call_targets_that_exist(workflow):
    """Their jobs run make targets of the Makefile, and constraints that are in the repository."""
    text = (REPO / ".github" / "workflows" / workflow).read_text(encoding="utf-8")
    assert yaml.safe_load(text)["jobs"]
    makefile = (REPO / "Makefile").read_text(encoding="utf-8")
    targets = set(re.findall(r"run: make ([\w-]+)", text))
    assert targets and all(f"\n{target}:" in makefile for target in targets)
    assert all((REPO / path).is_file() for path in re.findall(r"constraints: ([\w./]+)", text))


def test_type_information_is_installed():
    assert (REPO / "videomae_hf" / "py.typed").is_file()
    data = PYPROJECT["tool"]["setuptools"]["package-data"]
    names = ["py.typed", "__init__.pyi", "help/*.txt", "checkpoints/model_card.md", "evaluation/report_page.html"]
    assert data == {"videomae_hf": names}
    assert all(list((REPO / "videomae_hf").glob(name)) for name in names)

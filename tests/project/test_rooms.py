"""The floors of the package: imports go downward only, and what ships with a checkpoint stands by itself."""

import ast
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from helpers.shared import REPO


PACKAGE = REPO / "videomae_hf"
# From the ground up; a room imports from itself and from the floors below it.
FLOORS = (
    ("messages", "text_files", "models"),
    ("labels", "auto_classes"),
    ("settings",),
    ("checkpoints",),
    ("data",),
    ("evaluation",),
    ("training", "inference"),
    ("commands",),
    ("cli",),
)
FLOOR = {room: number for number, rooms in enumerate(FLOORS) for room in rooms}
SHIPPED = sorted(path for path in (PACKAGE / "models").glob("*.py") if path.name != "__init__.py")
# What a checkpoint on the Hub needs to be installed where it is loaded
REQUIRED = {"torch", "transformers", "numpy", "PIL", "huggingface_hub", "safetensors"}


def imports(path: Path, *, top_level: bool = False) -> Iterator[tuple[int, str]]:
    """(dots, module) of each import of a file; of its top level alone, or within functions as well."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    for node in tree.body if top_level else ast.walk(tree):
        if isinstance(node, ast.ImportFrom):
            yield node.level, node.module or ""
        elif isinstance(node, ast.Import):
            yield from ((0, alias.name) for alias in node.names)


def rooms_of(path: Path) -> set[str]:
    """The rooms that a file imports from."""
    place = path.relative_to(PACKAGE).with_suffix("").parts
    found = set()
    for dots, module in imports(path):
        if dots:
            target = [*place[: len(place) - dots], *filter(None, module.split("."))]
            found.add(target[0] if target else "")
        elif module.split(".")[0] == PACKAGE.name:
            found.add((module.split(".") + [""])[1])
    return found


def test_every_room_has_a_floor():
    rooms = {path.relative_to(PACKAGE).parts[0].removesuffix(".py") for path in PACKAGE.rglob("*.py")}
    assert rooms - {"__init__"} == set(FLOOR)


@pytest.mark.parametrize("room", FLOOR)
def test_imports_go_downward(room):
    files = [PACKAGE / f"{room}.py"] if (PACKAGE / f"{room}.py").is_file() else (PACKAGE / room).rglob("*.py")
    for path in files:
        # The public names, of `videomae_hf` itself, are those of models.
        used = {other or "models" for other in rooms_of(path)} - {room}
        above = {other for other in used if FLOOR[other] >= FLOOR[room]}
        assert not above, f"{path.relative_to(REPO)} imports upward: {', '.join(sorted(above))}"


@pytest.mark.parametrize("path", SHIPPED, ids=lambda path: path.stem)
def test_a_shipped_file_imports_its_siblings_alone(path):
    """transformers copies the files that the classes import, and these must load without this package."""
    siblings = {file.stem for file in SHIPPED}
    for dots, module in imports(path):
        if dots:
            assert (dots, module in siblings) == (1, True), f"{path.name} imports {'.' * dots}{module}"
        else:
            assert module.split(".")[0] != PACKAGE.name


@pytest.mark.parametrize("path", SHIPPED, ids=lambda path: path.stem)
def test_a_shipped_file_needs_no_optional_library(path):
    """transformers asks for every module that a file imports, wherever it does: optional ones need importlib."""
    modules = {module.split(".")[0] for dots, module in imports(path) if not dots}
    assert modules - set(sys.stdlib_module_names) <= REQUIRED


def test_no_cycle_between_rooms():
    uses = {
        room: {other for path in PACKAGE.glob(f"{room}/**/*.py") for other in rooms_of(path)} - {room, ""}
        for room in FLOOR
    }
    assert all(room not in uses.get(other, ()) for room, others in uses.items() for other in others)


def test_files_are_short_enough_to_be_read():
    lengths = {path: len(path.read_text(encoding="utf-8").splitlines()) for path in PACKAGE.rglob("*.py")}
    assert {str(path.relative_to(REPO)): length for path, length in lengths.items() if length > 550} == {}

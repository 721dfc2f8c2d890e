"""docs/: commands parse with the parsers that would run them, code runs, names exist, and the pages build."""

import argparse
import dataclasses
import importlib
import re
import sys
import tomllib
from pathlib import Path

import pytest
import transformers
from helpers.commands import run as run_command
from helpers.documentation import PAGES, Block, blocks, command_lines, help_of, make_clone, options_page
from helpers.runs import COMMANDS, setting_names
from helpers.shared import REPO

from videomae_hf import VideoBertConfig, VideoMAEV2Config, cli
from videomae_hf.commands import convert, plan, progressive
from videomae_hf.inference import command_line
from videomae_hf.settings.recipes import parse_command_line
from videomae_hf.settings.run import config_names
from videomae_hf.settings.training_arguments import VideoMAETrainingArguments


README = REPO / "README.md"
BLOCKS = blocks(*PAGES)
# Of torchrun and accelerate launch, and the "--key value" of explanations
OF_LAUNCHERS = {"key", "nproc_per_node", "config_file", "num_processes", "multi_gpu"}
# Other programs, whose options are theirs
OTHER_PROGRAMS = ("make", "pip")


def ids(block: Block) -> str:
    return f"{block.page}: {block.text.splitlines()[0][:40]}"


class Parsed(Exception):
    """A parser got so far, and nothing has run."""


@pytest.fixture
def only_parsed(monkeypatch):
    """Commands end where their arguments have been parsed."""
    parse = argparse.ArgumentParser.parse_args

    def parse_and_end(self, args=None, namespace=None):
        parse(self, args, namespace)
        raise Parsed

    monkeypatch.setattr(argparse.ArgumentParser, "parse_args", parse_and_end)


def verb_of(command: list[str]) -> list[str] | None:
    """The verb and its arguments of a command line of ours, through whatever launcher; None for other programs."""
    if command[0] == "videomae":
        return command[1:]
    for script in ("train.py", "videomae_hf.cli"):
        if script in command:
            return command[command.index(script) + 1 :]
    return ["push", *command[2:]] if "push_to_hub.py" in command else None


def check_verb(verb: str, arguments: list[str]):
    """Parses the arguments of a verb as the verb would; raises or exits where it would refuse them."""
    if verb in COMMANDS:
        parse_command_line([*arguments, "--use_cpu", "true", "--bf16", "false"], COMMANDS[verb])
    elif verb == "plan":
        check_verb(arguments[0], plan.number_of_videos(arguments[1:])[1])
    elif verb == "progressive":
        for stage in progressive.read_stages(arguments[0], [*arguments[1:], "--use_cpu", "true"], None):
            stage.parse()
    elif verb == "convert":
        convert.parse_arguments(arguments)
    else:
        with pytest.raises(Parsed):
            importlib.import_module(f"videomae_hf.commands.{verb.replace('-', '_')}").main(arguments)


@pytest.mark.parametrize("block", [block for block in BLOCKS if block.language == "bash"], ids=ids)
def test_commands_parse(block, only_parsed, monkeypatch):
    monkeypatch.chdir(REPO)
    for command in command_lines(block.text):
        ours = verb_of(command)
        if ours is not None:
            assert ours[0] in cli.VERBS
            check_verb(ours[0], ours[1:])
        elif command[0] == "python":
            assert (REPO / command[1]).is_file()
        else:
            assert command[0] in OTHER_PROGRAMS


@pytest.fixture(scope="module")
def clone(tmp_path_factory) -> Path:
    return make_clone(tmp_path_factory.mktemp("clone"))


@pytest.mark.parametrize("block", [block for block in BLOCKS if block.language == "python"], ids=ids)
def test_python_runs(block, clone, monkeypatch):
    monkeypatch.chdir(clone)
    if "me/my-videomae" in block.text:  # runs in test_readme, after the command that builds it
        assert block.text in README.read_text(encoding="utf-8")
        return
    exec(compile(block.text, block.page, "exec"), {})


@pytest.fixture(scope="module")
def known_options() -> set[str]:
    """Every option of every verb."""
    known = setting_names() | set(config_names(VideoMAEV2Config)) | set(config_names(VideoBertConfig)) | OF_LAUNCHERS
    known |= set(command_line.OPTIONS)
    known |= {"problem_type", *(spec.name for spec in dataclasses.fields(VideoMAETrainingArguments))}
    sources = [*(REPO / "videomae_hf" / "commands").glob("*.py"), *(REPO / "examples" / "experiments").glob("*.py")]
    declared = re.compile(r'add_argument\(\s*f?"--(\w+)"')
    return known | {name for path in sources for name in declared.findall(path.read_text(encoding="utf-8"))} | {"help"}


@pytest.mark.parametrize("page", [README, *PAGES], ids=lambda page: page.name)
def test_every_option_exists(page, known_options):
    named = set(re.findall(r"(?<![\w-])--([a-z]\w+)", page.read_text(encoding="utf-8")))
    if page.name in ("deviations.md",):
        named -= {"clip_grad"}  # of the official scripts
    assert named <= known_options


@pytest.mark.parametrize("page", [README, *PAGES], ids=lambda page: page.name)
def test_links_and_files_exist(page):
    text = re.sub(r"^```.*?^```", "", page.read_text(encoding="utf-8"), flags=re.DOTALL | re.MULTILINE)
    for target in re.findall(r"\]\(([^)\s]+)\)", text):
        if "://" in target:
            continue
        path, _, anchor = target.partition("#")
        linked = (page.parent / path).resolve() if path else page
        assert linked.exists(), target
        if anchor:
            headings = re.findall(r"^#+ (.+)$", linked.read_text(encoding="utf-8"), re.MULTILINE)
            assert anchor in [re.sub(r"[^\w\s-]", "", text).lower().replace(" ", "-") for text in headings]
    # `tests/test_golden.py`, `examples/recipes/smoke.yaml`, `models/masking.py`, `masks.py`; not `sources/NAME.py`
    for name in re.findall(r"`([\w/]+\.py|\w+/[\w/]+\.(?:yaml|md|jpg))`", text):
        if not re.search(r"(^|/)[A-Z]+\.py$", name) and not name.startswith("output_dir/"):
            places = (REPO, REPO / "videomae_hf", REPO / "examples", REPO / "videomae_hf" / "models")
            assert any((place / name).exists() for place in places), name


def test_every_verb_and_recipe_folder_is_told():
    started = (REPO / "docs" / "get_started.md").read_text(encoding="utf-8")
    assert set(re.findall(r"^\| `videomae ([\w-]+)`", started, re.MULTILINE)) == set(cli.VERBS)
    recipes = (REPO / "docs" / "recipes.md").read_text(encoding="utf-8")
    patterns = re.findall(r"`([\w/*.]+)`", "".join(line for line in recipes.splitlines() if line.startswith("| `")))
    folder = REPO / "examples" / "recipes"
    told = {path for pattern in patterns for path in folder.glob(f"{pattern.removesuffix('.yaml')}.yaml")}
    assert told == set(folder.rglob("*.yaml"))


def test_the_page_of_options_is_that_of_the_code():
    """After a change: make generated"""
    assert (REPO / "docs" / "options.md").read_text(encoding="utf-8") == options_page()


PINNED = re.search(r"^transformers==(\S+)", (REPO / "constraints.txt").read_text(encoding="utf-8"), re.MULTILINE)[1]


@pytest.mark.skipif(transformers.__version__ != PINNED, reason="lists the options of the pinned transformers")
@pytest.mark.skipif(sys.version_info >= (3, 13), reason="argparse writes options in another form since Python 3.13")
@pytest.mark.parametrize("verb", cli.VERBS)
def test_help_is_that_of_the_parser(verb):
    """After a change: make generated"""
    assert cli.help_text(verb).splitlines() == help_of(verb).splitlines()
    of_train = help_of(verb, "train.py").replace(f"videomae {verb}", f"train.py {verb}")
    assert cli.help_text(verb, "train.py").splitlines() == of_train.splitlines()


def test_modules_of_the_reference_exist():
    named = {name for page in PAGES for name in re.findall(r"^::: (\S+)$", page.read_text("utf-8"), re.MULTILINE)}
    assert len(named) > 40
    for name in named:
        assert (REPO / f"{name.replace('.', '/')}.py").is_file(), name


def test_every_page_is_in_the_navigation():
    nav = tomllib.loads((REPO / "zensical.toml").read_text(encoding="utf-8"))["project"]["nav"]

    def pages(entries) -> set[str]:
        values = [value for entry in entries for value in entry.values()]
        return {path for value in values for path in ([value] if isinstance(value, str) else pages(value))}

    assert pages(nav) == {page.relative_to(REPO / "docs").as_posix() for page in PAGES}


def test_pages_build_without_warnings():
    """Into site/, which git ignores, as `make docs` does."""
    for package in ("zensical", "mkdocstrings_handlers"):
        pytest.importorskip(package, reason="pip install '.[docs]'")
    done = run_command([sys.executable, "-m", "zensical", "build", "--clean", "--strict"], cwd=REPO)
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    assert "No issues found" in done.stdout + done.stderr and "griffe:" not in done.stdout + done.stderr
    models = (REPO / "site" / "api" / "models.html").read_text(encoding="utf-8")
    assert "last_hidden_state</code> (B, K + N, D)" in models

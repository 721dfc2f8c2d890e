"""The package as pip installs it: recipes by their names, and the training verbs away from the repository."""

import json
import os
import shutil
import sys
import sysconfig
import venv
from pathlib import Path

import pytest
import yaml
from helpers.commands import run
from helpers.runs import parsed
from helpers.shared import REPO

from videomae_hf.settings.recipe_files import find_recipe, named_recipes


RECIPES = REPO / "examples" / "recipes"
# Without this repository on the path
ENVIRONMENT = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
ENVIRONMENT |= {"OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1"}
BUILT = ("videomae_hf", "examples/recipes", "pyproject.toml", "setup.py", "MANIFEST.in", "README.md", "LICENSE")


def test_recipes_have_names():
    recipes = named_recipes()
    assert recipes["finetune_small"] == RECIPES / "finetune_small.yaml"
    assert recipes["v1/finetune_k400_base"] == RECIPES / "v1" / "finetune_k400_base.yaml"
    assert set(recipes.values()) == set(RECIPES.rglob("*.yaml"))
    assert parsed("finetune", "finetune_small").training.num_train_epochs == 50
    with pytest.raises(FileNotFoundError, match=r"finetune_smal does not exist; did you mean 'finetune_small'\?"):
        find_recipe("finetune_smal")
    with pytest.raises(FileNotFoundError, match="nothing.yaml does not exist; `videomae finetune --help` lists"):
        find_recipe("nothing.yaml")


def test_a_file_overrides_the_recipe_of_its_name(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("smoke").mkdir()  # a folder is none, and hides none
    assert find_recipe("smoke") == RECIPES / "smoke.yaml"
    Path("finetune_small").write_text("num_train_epochs: 2")
    assert parsed("finetune", "finetune_small").training.num_train_epochs == 2
    # Where there is no repository, its paths lead to the names.
    with pytest.raises(FileNotFoundError, match=r"base.yaml does not exist; did you mean 'v1/finetune_k400_base'\?"):
        find_recipe("examples/recipes/v1/finetune_k400_base.yaml")
    Path("videos").mkdir()
    with pytest.raises(FileNotFoundError, match="it is a folder. Videos are given with an option, as in --train_data"):
        find_recipe("videos")


def test_help_lists_the_recipes(capsys):
    with pytest.raises(SystemExit):
        parsed("finetune", "--help")
    text = capsys.readouterr().out
    assert "finetune [RECIPE] [--key value ...]" in text
    assert all(name in text.split("recipes of this package:")[1] for name in named_recipes())


@pytest.fixture(scope="module")
def installed(tmp_path_factory) -> Path:
    """A virtual environment with this package, installed from its wheel; what it needs is that of these tests."""
    pytest.importorskip("setuptools", minversion="77")
    folder = tmp_path_factory.mktemp("installed")
    for name in BUILT:
        (folder / "source" / name).parent.mkdir(parents=True, exist_ok=True)
        copy = shutil.copytree if (REPO / name).is_dir() else shutil.copy
        copy(REPO / name, folder / "source" / name)
    pip = [sys.executable, "-m", "pip"]
    build = [*pip, "wheel", "-q", "--no-deps", "--no-build-isolation", "-w", folder / "wheels", folder / "source"]
    environment = folder / "venv"
    venv.create(environment, with_pip=False)
    done = run(build, env=ENVIRONMENT)
    assert done.returncode == 0, done.stderr[-3000:]
    (wheel,) = (folder / "wheels").iterdir()
    install = [*pip, "--python", environment / "bin" / "python", "install", "-q", "--no-deps", "--no-index", wheel]
    done = run(install, env=ENVIRONMENT)
    assert done.returncode == 0, done.stderr[-3000:]
    packages = Path(sysconfig.get_path("purelib", "venv", {"base": environment}))
    (packages / "these.pth").write_text(sysconfig.get_path("purelib"))  # after pip, which would find the package there
    return environment


def test_the_wheel_has_code_and_recipes_alone(installed):
    (package,) = installed.rglob("site-packages/videomae_hf")
    recipes = {path.relative_to(package / "recipes") for path in (package / "recipes").rglob("*") if path.is_file()}
    assert recipes == {path.relative_to(RECIPES) for path in [*RECIPES.rglob("*.yaml"), RECIPES / "README.md"]}
    assert (package / "py.typed").is_file() and (installed / "bin" / "videomae").is_file()
    assert {path.name for path in package.parent.iterdir() if "videomae" not in path.name} == {"these.pth"}


# Each command of a file, in one process
COMMANDS = """
import json, sys
from pathlib import Path
import videomae_hf
from videomae_hf.cli import main
print(videomae_hf.__file__)
for command in json.loads(Path(sys.argv[1]).read_text()):
    main(command)
"""


@pytest.mark.slow
def test_training_verbs_run_away_from_the_repository(installed, tmp_path):
    """The command itself once, then the other verbs in one process."""
    done = run([installed / "bin" / "videomae", "pretrain", "smoke"], cwd=tmp_path, env=ENVIRONMENT)
    assert done.returncode == 0, done.stderr[-3000:]
    data = ["--train_data", "output/smoke_data", "--eval_data", "output/smoke_data", "--use_cpu", "true"]
    short = ["--max_steps", "1", "--dataloader_num_workers", "0", "--save_strategy", "no", "--eval_strategy", "no"]
    short += ["--load_best_model_at_end", "false"]
    stages = [{"name": "only", "command": "finetune", "recipe": "finetune_small", "checkpoint": "output/smoke"}]
    (tmp_path / "stages.yaml").write_text(yaml.safe_dump({"output_dir": "output/stages", "stages": stages}))
    commands = [
        ["finetune", "finetune_small", *data, *short, "--checkpoint", "output/smoke"],
        ["evaluate", "--checkpoint", "output/finetune_small", *data[2:], "--output_dir", "output/scores"],
        ["probe", "--checkpoint", "output/smoke", *data, "--output_dir", "output/probe"],
        ["progressive", "stages.yaml", *data, *short],
        ["plan", "finetune", "v1/finetune_k400_base", "--fit", "8x24GB"],
    ]
    (tmp_path / "commands.json").write_text(json.dumps(commands))
    done = run([installed / "bin" / "python", "-c", COMMANDS, "commands.json"], cwd=tmp_path, env=ENVIRONMENT)
    assert done.returncode == 0, done.stderr[-3000:]
    assert done.stdout.startswith(str(installed))
    for folder in ("smoke", "finetune_small", "stages/only"):
        assert (tmp_path / "output" / folder / "model.safetensors").is_file()
    for folder in ("scores", "probe"):
        assert (tmp_path / "output" / folder / "metrics.json").is_file()

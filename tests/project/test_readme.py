"""What the README says: its commands and code run as they stand, and its claims about transformers hold."""

import os
import re
import runpy
import shutil
import sys
from pathlib import Path

import pytest
import torch
from helpers.commands import run as run_command
from helpers.documentation import blocks, command_lines, make_clone, transformers_model
from helpers.shared import REPO, needs_dynamo
from transformers import VideoMAEConfig, VideoMAEForPreTraining, VideoMAEForVideoClassification

from videomae_hf import cli
from videomae_hf.data.sources.synthetic import CLASSES


README = REPO / "README.md"
# So that each takes seconds, on a machine without a GPU
SHORT = ["--use_cpu", "true", "--bf16", "false", "--max_steps", "1", "--dataloader_num_workers", "0"]
TRAINING = ("pretrain", "finetune", "evaluate", "probe")


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    return make_clone(tmp_path_factory.mktemp("clone"))


def execute(command: list[str], folder: Path) -> str:
    environment = {**os.environ, "HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1", "PYTHONPATH": str(REPO)}
    environment["HF_MODULES_CACHE"] = str(folder / "modules")
    done = run_command(command, cwd=folder, env=environment)
    assert done.returncode == 0, f"{' '.join(command)}\n{done.stderr[-3000:]}"
    return done.stdout


def run_here(arguments: list[str], capfd):
    """`videomae ...` in this process, which imports nothing anew."""
    try:
        cli.main(arguments)
    except SystemExit as end:
        assert not end.code, f"videomae {' '.join(arguments)}\n{capfd.readouterr().err[-3000:]}"


@pytest.mark.timeout(1200)
def test_every_block_runs_in_order(folder, monkeypatch, capfd):
    """What a reader types from top to bottom. `make` is below; pip has installed what runs this."""
    monkeypatch.chdir(folder)
    ran = []
    for block in blocks(README):
        if block.language == "python" and "me/my-videomae" in block.text:
            # Built by the dry run above it, as if it had been uploaded
            shutil.move(folder / "bundle", folder / "me" / "my-videomae")
            text = block.text + 'print(classify("video.mp4")[0]["label"])'
            assert execute([sys.executable, "-c", text], folder).split()[-1] in CLASSES
            ran.append("pipeline")
        elif block.language == "python":
            exec(compile(block.text, block.page, "exec"), {})
            ran.append("python")
        for program, *arguments in command_lines(block.text) if block.language == "bash" else []:
            if program in ("make", "pip"):
                continue
            assert program == "videomae"
            run_here([*arguments, *(SHORT if arguments[0] in TRAINING else [])], capfd)
            ran.append(arguments[0])
    first_screen = ["predict", "finetune", "predict"]
    assert ran == [*first_screen, "doctor", "python", "finetune", "evaluate", "pretrain", "push", "pipeline"]


def test_the_readme_is_a_first_page():
    text = README.read_text(encoding="utf-8")
    assert len(text.encode()) < 9000
    picture = re.search(r"!\[.+\]\((.+\.png)\)", text)[1]
    assert 10_000 < (REPO / picture).stat().st_size < 150_000
    headings = re.findall(r"^## (.+)$", text, re.MULTILINE)
    wanted = ["Install", "Classify a video", "Finetune on your folder", "Pretrain", "Ship"]
    assert headings[:5] == wanted and "Which weights can I start from" in headings and "Citation" in headings


def test_the_first_screen_needs_two_commands_each():
    """From nothing to labels for a video, and from a folder to a finetuned model and its labels."""
    first = [block for block in blocks(README) if block.language == "bash"][:2]
    commands = [[command[:2] for command in command_lines(block.text)] for block in first]
    assert commands == [
        [["pip", "install"], ["videomae", "predict"]],
        [["videomae", "finetune"], ["videomae", "predict"]],
    ]
    assert README.read_text(encoding="utf-8").index(first[1].text) < 1500


def test_examples_run(folder, monkeypatch, capfd):
    """Those that take a checkpoint of the Hub; tests/project/test_examples.py runs all of them without arguments."""
    monkeypatch.chdir(folder)

    monkeypatch.syspath_prepend(str(REPO / "examples"))

    def run(script: str, *arguments: str) -> str:
        monkeypatch.setattr(sys, "argv", [script, *arguments])
        capfd.readouterr()
        runpy.run_path(script, run_name="__main__")
        return capfd.readouterr().out

    checkpoint = "MCG-NJU/videomae-base-finetuned-kinetics"
    assert "%" in run("examples/classify.py", checkpoint, "video.mp4")
    assert "8 clips x 24 values" in run("examples/features.py", checkpoint, "video.mp4")
    assert "8 tubelets" in run("examples/masks.py")
    assert (folder / "masks.png").stat().st_size > 10_000
    assert "8 tubelets" in run("examples/masks.py", "MCG-NJU/videomae-base", "video.mp4")
    assert "train_loss" in run("examples/finetune.py", "--steps", "2")
    run("examples/finetune.py", "MCG-NJU/videomae-base", "--steps", "2")


def make(*arguments) -> str:
    """make in the repository, with the environment of these tests in place of .venv."""
    command = ["make", *arguments, f"VENV={sys.prefix}", "-o", f"{sys.prefix}/installed"]
    done = run_command(command, cwd=REPO)
    assert done.returncode == 0, done.stderr[-3000:]
    return done.stdout


def test_make_targets_are_there():
    assert "pytest" in make("-n", "test")
    assert "zensical build" in make("-n", "docs")
    steps = re.findall(r"(train\.py \w+|push_to_hub\.py|videomae_hf\.cli report)", make("-n", "demo"))
    wanted = ["train.py pretrain", "train.py finetune", "train.py evaluate"]
    assert steps == [*wanted, "push_to_hub.py", "videomae_hf.cli report"]


@pytest.mark.slow
def test_make_demo():
    last = make("demo").strip().splitlines()[-1]
    accuracy, shuffled = (float(value) for value in re.findall(r"([\d.]+) % (?:on|with)", last))
    assert "on 600 held-out videos" in last
    assert accuracy >= 85 and shuffled < 50
    page = (REPO / "demo" / "report.html").read_text()
    assert page.count('<svg class="chart"') == 5 and page.count("data:image/png") == 24
    assert (REPO / "demo" / "bundle" / "model.safetensors").is_file()


def test_versions_in_the_readme_are_those_of_the_constraints():
    constraints = (REPO / "constraints.txt").read_text()
    text = README.read_text(encoding="utf-8")
    newest = re.search(r"tests pass with Python [\d.]+, transformers ([\d.]+) and torch ([\d.]+) ", text).groups()
    for package, version in zip(("transformers", "torch"), newest):
        assert f"\n{package}=={version}" in constraints


# ------------------------------------------------------------ docs/comparison.md, transformers' column


def test_transformers_moves_tokens_between_videos_where_masks_are_ragged():
    model = transformers_model(VideoMAEForPreTraining)
    pixels = torch.randn(2, 4, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    masks = torch.zeros(2, 32, dtype=torch.bool)
    masks[0, :20] = masks[1, :12] = True
    other = pixels.clone()
    other[1] = 0
    with torch.no_grad():
        before, after = (model.videomae(clip, bool_masked_pos=masks).last_hidden_state[0] for clip in (pixels, other))
    assert not torch.allclose(before, after)  # the first video's features changed with the second's pixels


@needs_dynamo
def test_transformers_pretraining_does_not_compile_whole():
    model = transformers_model(VideoMAEForPreTraining)
    masks = torch.arange(32).expand(1, 32) < 24
    with pytest.raises(Exception, match="(?i)graph break|dynamic|data.dependent|unsupported"):
        torch.compile(model, fullgraph=True, backend="eager")(torch.randn(1, 4, 3, 32, 32), bool_masked_pos=masks)


def test_transformers_targets_of_other_channels_need_norm_pix_loss():
    masks = torch.arange(32).expand(1, 32) < 24
    model = transformers_model(VideoMAEForPreTraining, num_channels=4, norm_pix_loss=False)
    with pytest.raises(ValueError, match="norm_pix_loss"):
        model(torch.randn(1, 4, 4, 32, 32), bool_masked_pos=masks)


def test_transformers_takes_other_frames_at_load_but_no_other_channels(tmp_path):
    transformers_model(VideoMAEForVideoClassification).save_pretrained(tmp_path)
    longer = VideoMAEForVideoClassification.from_pretrained(tmp_path, num_frames=8)
    assert longer(torch.randn(1, 8, 3, 32, 32)).logits.shape == (1, 2)
    with pytest.raises((RuntimeError, ValueError)):
        longer(torch.randn(1, 4, 3, 32, 32))
    with pytest.raises((RuntimeError, ValueError)):
        VideoMAEForVideoClassification.from_pretrained(tmp_path, num_channels=1)


def test_transformers_needs_a_mask_and_has_one_kind_of_decoding():
    model = transformers_model(VideoMAEForPreTraining)
    with pytest.raises(TypeError, match="bool_masked_pos"):
        model(torch.randn(1, 4, 3, 32, 32))
    assert not [name for name in vars(VideoMAEConfig()) if "mask" in name]

"""examples/: every script runs without arguments, away from the repository, and says what its docstring promises."""

import json
import os
import re
import runpy
import sys
from importlib import import_module
from pathlib import Path

import pytest
import torch
from helpers.commands import run as run_command
from helpers.commands import videomae
from helpers.runs import parsed
from helpers.shared import REPO
from safetensors.torch import load_file

import videomae_hf
from videomae_hf.data.sources.synthetic import CLASSES, synthesise_dataset
from videomae_hf.evaluation.few_shot import mteb_clip


FOLDER = REPO / "examples"
NOTEBOOK = FOLDER / "finetune_your_videos.ipynb"
# So that each takes seconds on a machine without a GPU
SHORT = ["--max_steps", "2", "--logging_steps", "1", "--use_cpu", "true"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    """Where all of them run, so that their videos are synthesised once."""
    return tmp_path_factory.mktemp("examples")


@pytest.fixture
def run(folder, monkeypatch, capfd):
    """Runs a script in this process as `python examples/NAME.py ...`, and returns what it prints."""
    monkeypatch.chdir(folder)
    monkeypatch.syspath_prepend(str(FOLDER))

    def run_here(name: str, *arguments: str) -> str:
        monkeypatch.setattr(sys, "argv", [f"{name}.py", *arguments])
        capfd.readouterr()
        runpy.run_path(str(FOLDER / f"{name}.py"), run_name="__main__")
        return capfd.readouterr().out

    return run_here


def stand_ins(name: str) -> str:
    """The path that a function of examples/stand_ins.py returns."""
    return vars(import_module("stand_ins"))[name]()


@pytest.mark.slow  # eleven commands
@pytest.mark.timeout(900)
def test_the_whole_way_with_own_videos(tmp_path):
    """With a broken file, as a process of its own, twice: the second time nothing is done again but the scores."""
    synthesise_dataset(tmp_path / "my videos", videos_per_class=5, size=32, num_frames=8, workers=1)
    (tmp_path / "my videos" / "up" / "broken.mp4").write_bytes(b"nothing")
    command = [sys.executable, FOLDER / "own_videos.py", "my videos", "--short_side", "32", "--", "--max_steps", "2"]
    command += ["--use_cpu", "true", "--dataloader_num_workers", "0"]
    environment = {**os.environ, "PYTHONPATH": str(REPO), "OMP_NUM_THREADS": "1"}
    done = run_command(command, cwd=tmp_path, env=environment)
    assert done.returncode == 0, done.stderr[-3000:]
    verbs = re.findall(r"^\$ videomae (\w+)", done.stdout, re.MULTILINE)
    assert verbs == ["scan", "split", "prepare", "prepare", "finetune", "evaluate", "report"]
    out = tmp_path / "output" / "own_videos"
    assert "40 of 41 videos in" in done.stdout and (out / "scores" / "report.html").is_file()
    parts = [(out / "splits" / f"{part}.csv").read_text().count(".mp4") for part in ("train", "val", "test")]
    assert parts == [24, 8, 8]
    assert re.search(r"^Top-1 accuracy [\d.]+ % on 8 held-out videos", done.stdout.splitlines()[-1])
    # The shortcuts are those of the files as they are, and not of the encoded ones
    found = json.loads((out / "scores" / "report.json").read_text())
    assert found["videos"] == 8 and found["shortcuts"]["metadata"]["train_videos"] == 24
    again = run_command(command, cwd=tmp_path, env=environment)
    verbs = re.findall(r"^\$ videomae (\w+)", again.stdout, re.MULTILINE)
    assert verbs == ["scan", "prepare", "prepare", "evaluate", "report"]
    # With other videos or options, the parts and the model of that run would give a score of something else
    refused = run_command([*command, "--horizontal_flip", "false"], cwd=tmp_path, env=environment)
    assert refused.returncode == 1 and refused.stderr.splitlines()[-1] == (
        "output/own_videos has a run with other options after the dashes; choose another --out (OUT), or delete it."
    )
    (tmp_path / "my videos" / "up" / "up_00000.mp4").unlink()
    refused = run_command(command, cwd=tmp_path, env=environment)
    assert refused.returncode == 1 and "output/own_videos has a run with other videos; choose" in refused.stderr


def test_own_videos_of_a_list(tmp_path, monkeypatch):
    """The commands, which know the folder of the list; with a checkpoint, videos stay as large as it needs them."""
    monkeypatch.syspath_prepend(str(FOLDER))
    own_videos = import_module("own_videos")
    monkeypatch.chdir(tmp_path)
    (tmp_path / "labels.csv").write_text("path,label\na.mp4,up\n")
    commands = []

    def record(verb: str, *words, may_fail: bool = False) -> None:
        commands.append(" ".join(map(str, (verb, *words))))
        if verb == "scan":
            (tmp_path / "out" / "good.csv").write_text("path,label\na.mp4,up\n")

    monkeypatch.setattr(own_videos, "run", record)
    monkeypatch.setattr(sys, "argv", "own_videos.py labels.csv --out out --checkpoint mine -- --max_steps 2".split())
    own_videos.main()
    assert commands == [
        "scan labels.csv --fix_list out/good.csv --report out/scan.csv",
        f"split out/good.csv out/splits --val 0.2 --test 0.2 --data_root {tmp_path}",
        f"prepare out/splits/train.csv out/train --short_side 256 --root {tmp_path}",
        f"prepare out/splits/val.csv out/val --short_side 256 --root {tmp_path}",
        "finetune --checkpoint mine --train_data out/train/train.csv --eval_data out/val/val.csv "
        "--output_dir out/model --resume_from_checkpoint last --max_steps 2",
        f"evaluate --checkpoint out/model --eval_data out/splits/test.csv --data_root {tmp_path} "
        "--output_dir out/scores",
        f"report out/scores --train_data out/splits/train.csv --data_root {tmp_path}",
    ]
    monkeypatch.setattr(own_videos, "run", lambda *words, may_fail=False: None)  # as a scan that finds nothing
    with pytest.raises(SystemExit, match="scan found no video in labels.csv"):
        own_videos.main()


def test_every_script_begins_with_its_command():
    for script in FOLDER.glob("*.py"):
        docstring = script.read_text(encoding="utf-8").split('"""')[1]
        if script.name != "stand_ins.py":
            assert f"    python examples/{script.name}" in docstring, script.name


def test_classify(run):
    lines = run("classify").splitlines()
    assert lines[0] == "output/examples/videos_4/left/left_00000.mp4"
    assert len(lines) == 6 and sum(float(line.split("%")[0]) for line in lines[1:]) > 90
    with pytest.raises(SystemExit, match="classify.py"):
        run("classify", "a checkpoint alone")


def test_features(run, folder):
    """They are what the classifier of the checkpoint sees."""
    assert "nearest to output/examples/videos_4/clockwise/clockwise_00000.mp4: output/" in run("features")
    features = load_file(folder / "features.safetensors")
    assert len(features) == 32
    predictor = videomae_hf.load(folder / "output" / "examples" / "classifier")
    vectors = features["output/examples/videos_4/left/left_00000.mp4"]  # (8, D)
    prediction = predictor.predict(folder / "output/examples/videos_4/left/left_00000.mp4", num_clips=8, num_crops=1)
    probabilities = predictor.model.classifier(vectors).softmax(dim=-1).mean(dim=0)
    torch.testing.assert_close(probabilities, prediction.probabilities, rtol=1e-4, atol=1e-5)


def test_search(run):
    lines = run("search").splitlines()
    found = [
        line for line in lines if re.fullmatch(r"[01]\.\d{4} +\d\.\d\d to +\d\.\d\d s  output/examples/.*mp4", line)
    ]
    assert len(found) == 5 and not any("left_00000" in line for line in found)  # the query itself is left out


def test_features_leave_out_broken_videos(run, folder):
    (folder / "some").mkdir()
    (folder / "some" / "broken.mp4").write_bytes(b"no video")
    (folder / "some" / "good.mp4").write_bytes(Path(stand_ins("video")).read_bytes())
    printed = run("features", stand_ins("classifier"), "some", "--num_clips", "1", "--out", "some.safetensors")
    assert printed == "some/good.mp4: 1 clips x 96 values\n"
    assert load_file(folder / "some.safetensors").keys() == {"some/good.mp4"}


def test_detect(run, folder):
    lines = run("detect", "--window", "50f", "--stride", "25f").splitlines()
    assert lines[0].startswith("11 windows")  # 300 frames
    table = (folder / "output/detect/segments.csv").read_text().splitlines()
    assert table[0] == "start,end,label,score" and len(table) == len(lines)
    assert len((folder / "output/detect/timeline.csv").read_text().splitlines()) == 12
    assert (folder / "output/detect/timeline.png").stat().st_size > 10_000


def test_pretrain(run, folder):
    printed = run("pretrain", *SHORT)
    assert re.search(r"step 2: k-NN accuracy of the features [\d.]+%", printed)
    assert "of what a predictor without training leaves open" in printed
    assert list((folder / "output/domain/reconstructions").iterdir())
    tiny = vars(import_module("stand_ins"))["OPTIONS"]
    printed = run("pretrain", stand_ins("videos"), *tiny, "--num_sample", "1", "--output_dir", "output/own", *SHORT)
    assert "Reconstructions: output/own/reconstructions" in printed
    assert "k-NN" not in printed and (folder / "output/own/model.safetensors").is_file()


def test_continue_pretraining(run, folder):
    printed = run("continue_pretraining", *SHORT)
    before, after = re.search(r"videos: ([\d.]+) before, ([\d.]+) after", printed).groups()
    assert float(before) != float(after)
    own = [stand_ins("pretrained"), stand_ins("videos"), stand_ins("video")]
    assert "Loss on held-out videos: " in run("continue_pretraining", *own, *SHORT)
    # The decoder came along, and the run has V2's dual masking.
    assert "new, untrained" not in printed
    config = videomae_hf.VideoMAEV2Config.from_pretrained(folder / "output/adapted")
    assert config.decoder_mask_ratio == 0.5
    with pytest.raises(SystemExit, match="lacks decoder, encoder_to_decoder, mask_token: take"):
        run("continue_pretraining", stand_ins("classifier"), stand_ins("videos"), stand_ins("videos"))


@pytest.mark.parametrize(("channels", "means"), [(4, 4), (1, 1)])
def test_custom_channels(run, folder, channels, means):
    printed = run("custom_channels", "--channels", str(channels), "--steps", "2")
    assert f"The model takes {channels} channels with means" in printed and "15.npy: " in printed
    config = videomae_hf.VideoMAEV2Config.from_pretrained(folder / f"output/channels_{channels}/model")
    assert config.num_channels == channels and len(config.image_mean) == means
    assert config.image_mean[-1] == pytest.approx(
        0.7, abs=0.05
    )  # the depth, 1 minus the brightest of three dark values


def test_from_transformers(run):
    printed = run("from_transformers")
    assert float(re.search(r"logits differ by at most (\S+)", printed)[1]) < 1e-5
    assert "output/from_transformers/exported is a VideoMAEForVideoClassification of 8 classes" in printed


def test_from_official_weights(run, folder):
    printed = run("from_official_weights")
    assert "num_attention_heads = 3, from an option" in printed and "none missing" in printed
    assert "VideoMAEV2ForVideoClassification, 0.4 M parameters" in printed
    first, back = (torch.load(folder / "output/from_official" / name) for name in ("tiny.pth", "back.pth"))
    first, back = first["module"], back["model"]
    assert first.keys() == back.keys() and all(torch.equal(first[name], back[name]) for name in first)


# Flags as a script gives them that runs what the recipe of the same name was made from
K400_BASE = """
# a comment with run_class_finetuning.py
export CHECKPOINT=checkpoint.pth
python -m torch.distributed.launch --nproc_per_node=8 --nnodes 8 run_class_finetuning.py \\
    --data_path lists --finetune ${CHECKPOINT} --model vit_base_patch16_224 --data_set Kinetics-400 --nb_classes 400 \\
    --batch_size 6 --lr 5e-4 --epochs 75 --num_sample=2 --opt_betas 0.9 0.999 --enable_deepspeed \\
    --frobnicate 3 ${PY_ARGS}
"""
HYBRID_BASE = """
srun -n 32 python -u run_mae_pretraining.py --model pretrain_videomae_base_patch16_224 --decoder_depth 4 \\
    --mask_type tube --mask_ratio 0.9 --decoder_mask_type run_cell --decoder_mask_ratio 0.5 --batch_size 32 \\
    --num_sample 4 --lr 1e-3 --opt_betas 0.9 0.95 --warmup_epochs 20 --epochs 200 --data_path $LISTS \\
    --with_checkpoint ${PY_ARGS}
"""
# Settings that depend on places, GPUs and the way of saving
OF_A_RUN = {"train_data", "eval_data", "checkpoint", "output_dir", "bf16", "dataloader_num_workers", "use_cpu"}
OF_A_RUN |= {"do_eval", "eval_strategy", "save_strategy", "save_steps", "save_total_limit", "total_batch_size"}


@pytest.mark.parametrize(
    ("verb", "script", "official"),
    [("finetune", K400_BASE, "v1/finetune_k400_base"), ("pretrain", HYBRID_BASE, "v2/pretrain_hybrid_base")],
)
def test_from_official_scripts(run, tmp_path, verb, script, official):
    """The translation sets what the recipe sets."""
    (tmp_path / "run.sh").write_text(script)
    printed = run("from_official_scripts", str(tmp_path / "run.sh"))
    (tmp_path / "recipe.yaml").write_text(printed)
    runs = [
        parsed(verb, recipe, "--use_cpu", "true", "--bf16", "false") for recipe in (tmp_path / "recipe.yaml", official)
    ]
    ours, theirs = ({**run.as_recipe(), **run.config_overrides} for run in runs)
    if verb == "finetune":
        assert "# without a counterpart, left out: frobnicate\n" in printed and ours["total_batch_size"] == 384
        assert "# first: videomae convert checkpoint.pth FOLDER" in printed and ours["train_data"] == "lists/train.csv"
    else:
        assert "# set total_batch_size: batch_size x GPUs of the script" in printed
        assert ours["train_data"] == "$LISTS" and ours["activation_checkpointing"] is True
    stated = {name: value for name, value in theirs.items() if name not in OF_A_RUN}
    # The version only matters to a new model; finetuning starts from a checkpoint.
    stated = {name: value for name, value in stated.items() if (verb, name) != ("finetune", "model_version")}
    assert {name: ours.get(name) for name in stated} == stated


def test_the_table_of_flags_is_that_of_the_script():
    flags = runpy.run_path(str(FOLDER / "from_official_scripts.py"))["FLAGS"]
    page = (REPO / "docs" / "moving.md").read_text(encoding="utf-8")
    for name, setting in flags.items():
        assert (f"| `{name}` | `{setting}` |" if name != setting else f"`{name}`") in page, name


def test_the_notebook_is_that_of_the_script():
    """After a change of the script: make notebook"""
    jupytext = pytest.importorskip("jupytext")
    notebook = jupytext.read(NOTEBOOK)
    script = jupytext.read(FOLDER / "finetune_your_videos.py")
    assert [(cell.cell_type, cell.source) for cell in notebook.cells] == [
        (cell.cell_type, cell.source) for cell in script.cells
    ]
    for cell in notebook.cells:
        if cell.cell_type == "code":
            assert cell.outputs == [] and cell.execution_count is None
    assert notebook.metadata.kernelspec.name == "python3"
    assert "/home/" not in NOTEBOOK.read_text() and str(REPO) not in NOTEBOOK.read_text()


def test_its_script_takes_videos_and_a_checkpoint_of_yours(run, folder, capfd):
    """All but the last step, which the notebook below does."""
    source = (FOLDER / "finetune_your_videos.py").read_text(encoding="utf-8").split('"""\n## Publish')[0]
    for default, own in (
        ("VIDEOS = None", f"VIDEOS = {stand_ins('videos')!r}"),
        ("CHECKPOINT = None", f"CHECKPOINT = {stand_ins('pretrained')!r}"),
        ("EPOCHS = 30", "EPOCHS = 1"),
    ):
        assert default in source
        source = source.replace(default, own)
    exec(compile(source, "finetune_your_videos.py", "exec"), {})
    printed = capfd.readouterr().out
    assert "    4 left" in printed and "Top-1 accuracy" in printed and "left is predicted as" in printed
    rows = (folder / "output/finetune_your_videos/videos.csv").read_text()
    assert (rows.count(",train\n"), rows.count(",validation\n")) == (24, 8)


@pytest.mark.slow
def test_the_notebook_runs(tmp_path, monkeypatch):
    """From nothing to the folder for the Hub, with fewer videos and epochs."""
    jupytext, nbclient = pytest.importorskip("jupytext"), pytest.importorskip("nbclient")
    pytest.importorskip("ipykernel")
    notebook = jupytext.read(NOTEBOOK)
    for cell in notebook.cells:
        for default, short in (("videos_per_class=30", "videos_per_class=3"), ("EPOCHS = 30", "EPOCHS = 1")):
            cell.source = cell.source.replace(default, short)
    monkeypatch.setenv("PYTHONPATH", str(REPO))
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    where = {"metadata": {"path": str(tmp_path)}}
    nbclient.NotebookClient(notebook, timeout=600, kernel_name="python3", resources=where).execute()
    printed = "".join(
        output.text
        for cell in notebook.cells
        if cell.cell_type == "code"
        for output in cell.outputs
        if "text" in output
    )
    assert "Top-1 accuracy" in printed and "chance is 12.5%" in printed
    assert "verified without videomae_hf" in printed and "left is predicted as" in printed
    output = tmp_path / "output" / "finetune_your_videos"
    for name in ("videos.png", "videos.csv", "model/model.safetensors", "confusion.png", "bundle/README.md"):
        assert (output / name).is_file(), name
    # One of three videos of each class is held out.
    assert (output / "videos.csv").read_text().count(",validation\n") == 8


@pytest.mark.slow
def test_mteb_scores_as_the_probe(run, folder, monkeypatch):
    """A task of mteb on synthesised videos: the score is that of `videomae probe --probe few-shot` on the same ones."""
    mteb = pytest.importorskip("mteb", minversion="2.26")
    import datasets
    from mteb.abstasks.classification import AbsTaskClassification
    from mteb.abstasks.task_metadata import TaskMetadata
    from mteb.models.modality_collators import frame_indices

    for number in range(1, 70):
        assert mteb_clip(number, 16) == frame_indices(number, 16)

    def split_of(folder: str) -> datasets.Dataset:
        paths = sorted(Path(folder).glob("*/*.mp4"))
        videos = [{"bytes": path.read_bytes(), "path": path.name} for path in paths]  # as in the data sets of the Hub
        columns = {"video": videos, "label": [CLASSES.index(path.parent.name) for path in paths]}
        return datasets.Dataset.from_dict(columns).cast_column("video", datasets.Video())

    class Motions(AbsTaskClassification):
        metadata = TaskMetadata(
            **{"name": "Motions", "description": "synthesised motions", "type": "VideoClassification"},
            **{"dataset": {"path": "none/none", "revision": "1"}, "eval_splits": ["test"], "eval_langs": ["eng-Latn"]},
            **{"main_score": "accuracy", "modalities": ["video"], "category": "v2c", "reference": None, "date": None},
            **dict.fromkeys(("domains", "task_subtypes", "license", "annotations_creators", "dialect")),
            **{"sample_creation": None, "bibtex_citation": None},
        )
        input_column_name, samples_per_label, n_experiments = "video", 2, 3

        def load_data(self, **options):
            self.dataset = datasets.DatasetDict(train=split_of(train), test=split_of(test))
            self.data_loaded = True

    monkeypatch.chdir(folder)
    monkeypatch.syspath_prepend(str(FOLDER))
    monkeypatch.setenv("MTEB_CACHE", str(folder / "mteb"))
    train, test, checkpoint = (
        stand_ins("videos"),
        vars(import_module("stand_ins"))["videos"](2),
        stand_ins("classifier"),
    )
    model = import_module("mteb_model").VideoMAEEncoder(checkpoint)
    (result,) = mteb.evaluate(model, Motions(), cache=None).task_results
    options = ["--train_data", train, "--eval_data", test, "--checkpoint", checkpoint, "--probe", "few-shot"]
    options += ["--samples_per_label", "2", "--n_experiments", "3", "--output_dir", "output/probe", "--use_cpu", "true"]
    videomae("probe", *options)
    expected = json.loads((folder / "output/probe/metrics.json").read_text())["eval_top1"]
    assert result.get_score() == pytest.approx(expected, abs=1e-6) and 0 < expected < 1

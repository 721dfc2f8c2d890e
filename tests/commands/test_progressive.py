"""Progressive training: which stage begins with what, what is skipped, resumed and refused, and the real thing."""

import json
import os
import sys

import pytest
import yaml
from helpers.commands import run as run_command
from helpers.commands import videomae
from helpers.shared import REPO, TINY

from videomae_hf import VideoMAEV2ForVideoClassification
from videomae_hf.commands import merge_labels
from videomae_hf.commands.progressive import run_stages
from videomae_hf.data.sources.synthetic import synthesise_dataset
from videomae_hf.training.stages import MARKER


SHAPE = {name: value for name, value in TINY.items() if name != "layer_norm_eps"}


class Recorder:
    """Commands that only note what they were called with, and may fail."""

    def __init__(self):
        self.calls, self.fail_at = [], None

    def __call__(self, command, run):
        self.calls.append(run)
        if run.training.output_dir.endswith(f"/{self.fail_at}"):
            raise RuntimeError("interrupted")

    def names(self) -> list[str]:
        return [run.training.output_dir.rsplit("/", 1)[1] for run in self.calls]


@pytest.fixture
def recorder() -> Recorder:
    return Recorder()


def write(folder, stages: list[dict], **shared):
    (folder / "stages.yaml").write_text(yaml.safe_dump({"use_cpu": True, "stages": stages, **shared}))
    return [str(folder / "stages.yaml"), "--output_dir", str(folder / "out")]


def three(folder, **options):
    (folder / "first.yaml").write_text("train_data: videos\nbase_learning_rate: 1e-3\nnum_train_epochs: 3\n")
    stages = [
        {"name": "first", "command": "pretrain", "recipe": str(folder / "first.yaml"), "num_train_epochs": 5},
        {"name": "second", "command": "finetune", "train_data": "merged", "learning_rate": 1e-3},
        {"name": "scores", "command": "evaluate"},
        {"name": "third", "command": "finetune", "train_data": "target", "head_from": "a", **options},
    ]
    return write(folder, stages, mask_ratio=0.75, num_train_epochs=4)


def test_each_stage_begins_with_the_one_before(tmp_path, recorder, capsys):
    run_stages([*three(tmp_path), "--logging_steps", "7"], recorder)
    out = tmp_path / "out"
    assert recorder.names() == ["first", "second", "scores", "third"]
    first, second, scores, third = ({**vars(run.data), **vars(run.model)} for run in recorder.calls)
    assert (first["train_data"], first["checkpoint"]) == ("videos", None)
    assert second["checkpoint"] == str(out / "first") and second["train_data"] == "merged"
    assert scores["checkpoint"] == third["checkpoint"] == str(out / "second") and third["head_from"] == "a"
    # The stage's keys override the shared ones, these the recipe's, and the command line overrides all.
    assert [run.training.num_train_epochs for run in recorder.calls] == [5, 4, 4, 4]
    assert {run.training.logging_steps for run in recorder.calls} == {7}
    assert recorder.calls[0].training.base_learning_rate == recorder.calls[1].training.learning_rate == 1e-3
    assert all(run.config_overrides == {"mask_ratio": 0.75} for run in recorder.calls)
    assert "Stage 2 of 4, second: finetune\n" in capsys.readouterr().out
    assert all((out / name / MARKER).is_file() for name in recorder.names())


def test_finished_stages_are_skipped_and_an_interrupted_one_resumes(tmp_path, recorder, capsys):
    recorder.fail_at = "second"
    with pytest.raises(RuntimeError, match="interrupted"):
        run_stages(three(tmp_path), recorder)
    assert recorder.names() == ["first", "second"]
    (tmp_path / "out" / "second" / "checkpoint-7").mkdir(parents=True)
    recorder.calls, recorder.fail_at = [], None
    run_stages(three(tmp_path), recorder)
    assert recorder.names() == ["second", "scores", "third"]
    assert [run.training.resume_from_checkpoint for run in recorder.calls] == ["last", None, None]
    recorder.calls = []
    capsys.readouterr()
    run_stages(three(tmp_path, weight_decay=0.1), recorder)
    assert recorder.calls == []
    output = capsys.readouterr().out
    assert "Stage 1 of 4, first: already finished\n" in output
    assert "third: already finished, with different settings (weight_decay None -> 0.1); to run it" in output


def test_results_that_do_not_follow_are_refused(tmp_path, recorder):
    run_stages(three(tmp_path), recorder)
    (tmp_path / "out" / "first" / MARKER).unlink()
    with pytest.raises(
        ValueError, match="out/second holds results of stage second, but the stage before it, first, is"
    ):
        run_stages(three(tmp_path), recorder)


def test_a_probe_leaves_no_model_for_the_next_stage(tmp_path, recorder):
    stages = [
        {"name": "first", "command": "pretrain", "train_data": "videos"},
        {"name": "probed", "command": "probe", "train_data": "labelled", "eval_data": "val"},
        {"name": "last", "command": "finetune", "train_data": "labelled"},
    ]
    run_stages(write(tmp_path, stages), recorder)
    assert [run.model.checkpoint for run in recorder.calls] == [None, *[str(tmp_path / "out" / "first")] * 2]


def test_options_that_no_stage_uses_are_refused(tmp_path, recorder):
    with pytest.raises(ValueError, match="^This recipe of stages does not use --feature_cache; leave it out"):
        run_stages([*three(tmp_path), "--feature_cache", "features"], recorder)
    run_stages([*three(tmp_path), "--mixup_alpha", "0.8", "--num_clips=2"], recorder)  # each is of a stage
    assert [run.augmentation.mixup_alpha for run in recorder.calls if run.verb == "finetune"] == [0.8, 0.8]


def test_mistakes_come_out_before_the_first_stage(tmp_path, recorder):
    def refused(message: str, *stages: dict, **shared):
        with pytest.raises(ValueError, match=message):
            run_stages(write(tmp_path, list(stages), **shared), recorder)

    first = {"name": "first", "command": "pretrain"}
    refused("must have a list of stages")
    refused("stage 1 must be a mapping with name and command", {"name": "a"})
    refused("command 'train' of stage a is unknown; choose from pretrain", {"name": "a", "command": "train"})
    refused("stage 'first' must have a unique name", first, first)
    refused("stage 'a/b' must have a unique name", {"name": "a/b", "command": "pretrain"})
    refused("Stage b: the recipe of stages: unknown key 'train_dta'; did you mean 'train_data'", first,
            {"name": "b", "command": "finetune", "train_dta": "x"})  # fmt: skip
    refused("Stage b: .*num_train_epochs", first, {"name": "b", "command": "finetune", "num_train_epochs": "many"})
    with pytest.raises(FileNotFoundError, match="The recipe none.yaml does not exist"):
        run_stages(["none.yaml"], recorder)
    assert recorder.calls == []


# ----------------------------------------------------------------------------------------------------- the real thing


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    """16 videos of 8 motions, as two sets that overlap and spell their classes differently, and both merged."""
    folder = tmp_path_factory.mktemp("data")
    synthesise_dataset(folder / "videos", videos_per_class=2, size=40, num_frames=8)
    for name, classes in {
        "moves": {"left": "Move left", "right": "Move right", "up": "up", "clockwise": "turn-right"},
        "turns": {"clockwise": "clockwise", "counter_clockwise": "other way", "up": "UP"},
    }.items():
        for motion, spelled in classes.items():
            (folder / name / spelled).mkdir(parents=True)
            for video in (folder / "videos" / motion).iterdir():
                os.link(video, folder / name / spelled / video.name)
    (folder / "aliases.csv").write_text("clockwise,turn right\n")
    sources = [f"moves={folder / 'moves'}", f"turns={folder / 'turns'}"]
    options = ["--aliases", str(folder / "aliases.csv"), "--same_video", "name"]
    merge_labels.main([str(folder / "merged"), *sources, *options])
    return folder


def recipe(folder, data, **options):
    merged = data / "merged"
    stages = [
        {"name": "pretrain", "command": "pretrain", "train_data": str(data / "videos"), **SHAPE, **options},
        {
            "name": "post_pretrain",
            "command": "finetune",
            "train_data": str(merged / "train.jsonl"),
            "label_mappings": str(merged / "label_mappings.json"),
        },
        {"name": "target", "command": "finetune", "train_data": str(data / "moves"), "eval_data": str(data / "moves")},
    ]
    shared = {"sampling_rate": 1, "num_train_epochs": 1, "save_strategy": "no", "per_device_train_batch_size": 4}
    return write(folder, stages, disable_tqdm=True, **shared)


def check_results(folder, data):
    merged = VideoMAEV2ForVideoClassification.from_pretrained(folder / "out" / "post_pretrain")
    assert list(merged.config.id2label.values()) == ["Move left", "Move right", "clockwise", "other way", "up"]
    assert merged.config.label_mappings["moves"] == {"Move left": 0, "Move right": 1, "turn-right": 2, "up": 4}
    target = VideoMAEV2ForVideoClassification.from_pretrained(folder / "out" / "target")
    assert list(target.config.id2label.values()) == sorted(child.name for child in (data / "moves").iterdir())
    assert json.loads((folder / "out" / "target" / "all_results.json").read_text())["eval_videos"] == 8


def test_three_stages_of_the_real_commands(tmp_path, data, capsys):
    videomae("progressive", *recipe(tmp_path, data))
    output = capsys.readouterr().out
    assert f"classifier: 4 of 4 rows gathered from the 5 of {tmp_path / 'out' / 'post_pretrain'}\n" in output
    check_results(tmp_path, data)
    videomae("progressive", *recipe(tmp_path, data))
    assert capsys.readouterr().out.count("already finished\n") == 3


@pytest.mark.slow
def test_the_published_stages_in_the_smoke_test(tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(REPO)  # where the recipe looks for those of its stages
    options = ["--smoke_test", "true", "--use_cpu", "true", "--bf16", "false", "--output_dir", str(tmp_path)]
    videomae("progressive", "examples/recipes/v2_progressive.yaml", *options)
    output = capsys.readouterr().out
    assert "Stage 4 of 4, scores: evaluate" in output and "8 of 8 rows gathered from the 8" in output
    assert sorted(folder.name for folder in tmp_path.iterdir() if (folder / MARKER).is_file()) == [
        f"{name}_smoke_test" for name in ("finetune", "post_pretrain", "pretrain", "scores")
    ]


@pytest.mark.slow
def test_stages_under_torchrun(tmp_path, data):
    """With another precision in one stage, as accelerate keeps its state from one run to the next."""
    launcher = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2"]
    arguments = recipe(tmp_path, data, bf16=True)
    environment = {**os.environ, "HF_HUB_OFFLINE": "1"}
    options = {"cwd": REPO, "env": environment, "timeout": 280}
    done = run_command([*launcher, REPO / "train.py", "progressive", *arguments], **options)
    assert done.returncode == 0, done.stderr[-3000:]
    assert done.stdout.count("2 processes on cpu") == 3
    assert done.stdout.count("rows gathered") == 1
    check_results(tmp_path, data)

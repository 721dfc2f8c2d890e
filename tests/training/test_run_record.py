"""A run knows what it is: what it may go on from, which folder it may write to, and what ends it before it begins."""

import json
import os
import pickle
import signal
import subprocess
import sys
from dataclasses import fields
from pathlib import Path

import pytest
import torch
from helpers.runs import run_of, setting_names
from helpers.shared import REPO, TINY
from helpers.synthetic_clips import trainer
from transformers import TrainingArguments

from videomae_hf import VideoMAEV2Config, VideoMAEV2ForPreTraining, VideoMAEV2ForVideoClassification
from videomae_hf.checkpoints.opening import trained_classifier
from videomae_hf.checkpoints.run_folders import last_checkpoint, list_files
from videomae_hf.data.sources.records import VideoRecord
from videomae_hf.data.video_dataset import VideoDataset
from videomae_hf.evaluation.metrics import classification_metrics, regression_metrics
from videomae_hf.labels import labels_of, more_is_better
from videomae_hf.settings.groups import LEARNING_ARGUMENTS, LEARNING_SETTINGS
from videomae_hf.settings.training_arguments import VideoMAETrainingArguments
from videomae_hf.training.output_folder import output_claimed
from videomae_hf.training.run_checks import check_evaluation
from videomae_hf.training.run_record import (
    RunRecord,
    check_same_run,
    read_record,
    resume_path,
)
from videomae_hf.training.safeguards import check_complete


def arguments(folder, **options) -> VideoMAETrainingArguments:
    return VideoMAETrainingArguments(output_dir=str(folder), use_cpu=True, **options)


def videos(labels: dict[str, int]) -> VideoDataset:
    return VideoDataset([VideoRecord(f"/data/{name}", label) for name, label in labels.items()], load=None)


def record(folder, classes=("a", "b"), labels=None, data=None, **options) -> RunRecord:
    config = VideoMAEV2Config(**TINY, id2label=dict(enumerate(classes)), problem_type="single_label_classification")
    labels = {"x/1.mp4": 0, "y/2.mp4": 1} if labels is None else labels
    run = run_of(arguments(folder, **options), **(data or {}))
    return RunRecord.of(run, config, videos(labels))


# ------------------------------------------------------------------------------------------------ going on from a run


def test_the_same_run_goes_on(tmp_path):
    record(tmp_path).write(tmp_path, step=4)
    assert check_same_run(tmp_path, record(tmp_path / "elsewhere"), allow_changes=False) == []
    assert read_record(tmp_path)["step"] == 4
    assert check_same_run(tmp_path / "no", record(tmp_path), allow_changes=False)[0].endswith(
        "so that it is unknown whether it belongs to this run"
    )


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"classes": ("a", "c")}, "classes a, b then, a, c now"),
        ({"classes": ("b", "a")}, "classes a, b then, b, a now"),
        ({"labels": {"x/1.mp4": 1, "y/2.mp4": 1}}, r"videos 2 \(\w{8}\) then, 2 \(\w{8}\) now"),
        ({"labels": {"x/1.mp4": 0}}, r"videos 2 \(\w{8}\) then, 1 \(\w{8}\) now"),
    ],
)
def test_another_run_is_refused_whatever_is_allowed(tmp_path, changed, message):
    record(tmp_path).write(tmp_path)
    with pytest.raises(ValueError, match=f"belongs to another run: {message}. Leave out --resume_from_checkpoint"):
        check_same_run(tmp_path, record(tmp_path, **changed), allow_changes=True)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"learning_rate": 1e-4}, "learning_rate 5e-05 then, 0.0001 now"),
        ({"num_train_epochs": 7}, "num_train_epochs 3.0 then, 7 now"),
        ({"seed": 1}, "seed 42 then, 1 now"),
        ({"gradient_accumulation_steps": 2}, "total_batch_size 8 then, 16 now"),
        ({"lora_rank": 4}, "lora_rank 0 then, 4 now"),
        ({"data": {"mixup_alpha": 0.8}}, "mixup_alpha 0.0 then, 0.8 now"),
    ],
)
def test_other_settings_are_refused_or_said(tmp_path, options, message):
    record(tmp_path).write(tmp_path)
    changed = record(tmp_path, **options)
    with pytest.raises(ValueError, match=f"was written with different settings: {message}. .*--allow_changes true"):
        check_same_run(tmp_path, changed, allow_changes=False)
    assert check_same_run(tmp_path, changed, allow_changes=True) == [f"resuming with different settings: {message}"]


def test_what_decides_nothing_may_change(tmp_path):
    record(tmp_path).write(tmp_path)
    same = record(
        tmp_path, per_device_train_batch_size=4, gradient_accumulation_steps=2, logging_steps=7, save_steps=3,
        data={"train_data": "elsewhere", "video_backend": "decord"},
    )  # fmt: skip
    assert check_same_run(tmp_path, same, allow_changes=False) == []


def test_every_setting_is_known_to_matter_or_not():
    """A new option must be put into one of the two lists, here or in settings/groups.py."""
    neutral_data = {
        "train_data", "eval_data", "dataset_name", "dataset_config_name", "dataset_dir", "train_split_name",
        "eval_split_name", "video_column_name", "label_column_name", "videos_per_epoch", "class_names", "data_root",
        "folds", "checkpoint", "head_from", "label_mappings", "teacher", "preset", "model_kind", "model_size",
        "model_version", "video_backend", "frame_template", "multi_label", "unlabelled", "probe", "feature_cache",
        "num_clips", "num_crops", "shuffle_frames", "smoke_test", "probe_train_data", "probe_eval_data",
        "reconstruction_videos", "demo_videos", "probe_learning_rates", "probe_weight_decays", "probe_layers",
        "probe_optimizer", "samples_per_label", "n_experiments", "group_column", "group_pattern", "text_checkpoint",
        "tokenizer", "backbone", "features", "caption_column_name", "feature_cache_dir", "visual_words_from",
        "example_videos",
    }  # fmt: skip
    assert setting_names() == neutral_data | set(LEARNING_SETTINGS)
    own = {spec.name for spec in fields(VideoMAETrainingArguments)} - {spec.name for spec in fields(TrainingArguments)}
    neutral = {
        "base_learning_rate", "base_min_learning_rate", "fit", "lora_rank", "overfit_check", "early_stopping_patience",
        "early_stopping_threshold", "allow_changes", "max_bad_fraction", "num_processes", "fsdp2", "evaluate_ema",
    }  # fmt: skip
    assert own - {"activation_checkpointing"} <= neutral | set(LEARNING_ARGUMENTS)


def test_which_checkpoint_is_meant(tmp_path):
    assert resume_path(arguments(tmp_path)) is None
    assert resume_path(arguments(tmp_path, resume_from_checkpoint="false")) is None
    assert resume_path(arguments(tmp_path, resume_from_checkpoint="last")) is None
    trainer(tmp_path, max_steps=2, save_strategy="steps", save_steps=1).train()
    for said in ("last", "true", "True"):
        assert resume_path(arguments(tmp_path, resume_from_checkpoint=said)) == str(tmp_path / "checkpoint-2")
    assert resume_path(arguments(tmp_path, resume_from_checkpoint="x/checkpoint-1")) == "x/checkpoint-1"


# ------------------------------------------------------------------------------------------------ complete checkpoints


@pytest.fixture(scope="module")
def checkpoints(tmp_path_factory) -> Path:
    """Two checkpoints, with a list of their files."""
    folder = tmp_path_factory.mktemp("run")
    kept = record(folder)  # first: new arguments set up the devices anew
    run = trainer(folder, max_steps=2, save_strategy="steps", save_steps=1)
    run.record = kept
    run.train()
    return folder


def test_a_checkpoint_lists_its_files(checkpoints):
    content = json.loads((checkpoints / "checkpoint-2" / "run.json").read_text())
    assert content["step"] == 2 and content["command"] == "finetune"
    assert {"model.safetensors", "optimizer.pt", "scheduler.pt", "trainer_state.json"} <= set(content["files"])
    assert content["files"] == list_files(checkpoints / "checkpoint-2")


NEEDED = ("optimizer.pt", "scheduler.pt", "model.safetensors", "rng_state.pth")


@pytest.mark.parametrize(
    ("name", "with_list", "cut"),
    [
        *((name, True, cut) for name in (*NEEDED, "config.json") for cut in (True, False)),
        *((name, False, False) for name in NEEDED),  # of checkpoints from elsewhere no sizes are known
    ],
)
def test_a_missing_or_cut_file_makes_it_incomplete(checkpoints, tmp_path, name, with_list, cut, caplog):
    for number in (1, 2):
        (tmp_path / f"checkpoint-{number}").mkdir()
        for file in (checkpoints / f"checkpoint-{number}").iterdir():
            if with_list or file.name != "run.json":
                (tmp_path / f"checkpoint-{number}" / file.name).write_bytes(file.read_bytes())
    broken = tmp_path / "checkpoint-2" / name
    if cut:
        broken.write_bytes(broken.read_bytes()[:-1])
    else:
        broken.unlink()
    with caplog.at_level("WARNING"):
        assert last_checkpoint(tmp_path) == str(tmp_path / "checkpoint-1")
    assert f"checkpoint-2 is incomplete ({name} is missing or damaged); it is not used." in caplog.text
    with pytest.raises(
        ValueError, match=f"checkpoint-2 is incomplete: {name} is missing or damaged. .*checkpoint-1 is comp"
    ):
        check_complete(tmp_path / "checkpoint-2")
    check_complete(tmp_path / "checkpoint-1")


def test_no_checkpoint_at_all(tmp_path):
    with pytest.raises(ValueError, match="nowhere is not a folder; `last` is the last checkpoint in output_dir"):
        check_complete(tmp_path / "nowhere")


# ---------------------------------------------------------------------------------------------------------- the folder


def claim(folder, command="finetune", **data):
    resume = data.pop("resume", None)
    args = arguments(folder, resume_from_checkpoint=resume)
    with output_claimed(run_of(args, command, **data)) as lines:
        return lines


def finished_run(folder: Path, command: str = "finetune"):
    (folder / "checkpoint-8").mkdir(parents=True)
    for name in ("config.json", "model.safetensors", "checkpoint-8/optimizer.pt", "mine.txt"):
        (folder / name).write_text(name)
    (folder / "run.json").write_text(json.dumps({"command": command, "finished": True}))


def test_an_earlier_run_is_set_aside(tmp_path):
    folder = tmp_path / "run"
    for number in (1, 2):
        finished_run(folder) if number == 1 else (folder / "run.json").write_text('{"command": "finetune"}')
        lines = claim(folder)
        how = "finetune, 1 checkpoint" if number == 1 else "finetune, 0 checkpoints, not finished"
        assert lines == [f"{folder} held an earlier run ({how}); its files are now in {folder}/earlier-{number}"]
    assert sorted(path.name for path in folder.iterdir()) == ["earlier-1", "earlier-2", "mine.txt"]
    assert (folder / "earlier-1/checkpoint-8/optimizer.pt").read_text() == "checkpoint-8/optimizer.pt"


def test_a_run_that_goes_on_stays_where_it_is(tmp_path):
    finished_run(tmp_path / "run")
    assert claim(tmp_path / "run", resume="last") == []
    assert (tmp_path / "run/checkpoint-8").is_dir()


def test_folders_that_are_refused(tmp_path):
    finished_run(tmp_path / "pre", "pretrain")
    with pytest.raises(ValueError, match="pre holds a run of 'pretrain'; choose another folder for finetune"):
        claim(tmp_path / "pre")
    with pytest.raises(ValueError, match="pre is the checkpoint itself, which would be overwritten"):
        claim(tmp_path / "pre", checkpoint=str(tmp_path / "pre"))
    with pytest.raises(ValueError, match="checkpoint-8 belongs to the run in output_dir=.*pre; choose another"):
        claim(tmp_path / "pre", "pretrain", checkpoint=str(tmp_path / "pre/checkpoint-8"))
    assert claim(tmp_path, checkpoint=str(tmp_path / "pre")) == []  # another folder in it
    (tmp_path / "foreign").mkdir()
    (tmp_path / "foreign/config.json").write_text("{}")
    with pytest.raises(ValueError, match="foreign holds a model that no run of this package wrote"):
        claim(tmp_path / "foreign")
    (tmp_path / "file").write_text("")
    with pytest.raises(ValueError, match="file is a file; choose a folder"):
        claim(tmp_path / "file")
    with pytest.raises(OSError, match="file/below cannot be written: Not a directory"):
        claim(tmp_path / "file/below")


def test_one_run_writes_at_a_time(tmp_path):
    code = (
        "import os, sys, time; sys.path.insert(0, sys.argv[2])\n"
        "from pathlib import Path\n"
        "from videomae_hf.training.output_folder import _locked\n"
        "file = _locked(Path(sys.argv[1]))\n"
        "if os.fork() == 0:\n"  # the worker speaks, and has let go of the lock by then
        "    print('locked by the parent of', os.getpid(), flush=True)\n"
        "time.sleep(60)"
    )
    other = subprocess.Popen([sys.executable, "-c", code, tmp_path, REPO], stdout=subprocess.PIPE, text=True)
    try:
        worker = int(other.stdout.readline().removeprefix("locked by the parent of "))
        with pytest.raises(ValueError, match=f"is being written by process {other.pid} on .*; wait for it"):
            claim(tmp_path)
    finally:
        other.kill()
        other.wait()
    try:  # a worker that outlives the run holds no lock
        assert claim(tmp_path) == []
    finally:
        os.kill(worker, signal.SIGKILL)


# ------------------------------------------------------------------------------------------------------ untrained heads


def test_what_was_not_trained_is_not_scored(tmp_path):
    config = VideoMAEV2Config(**TINY)
    VideoMAEV2ForPreTraining(config).save_pretrained(tmp_path / "pre")
    with pytest.raises(ValueError, match="pre is a pretrained model without classes; finetune it first"):
        trained_classifier(str(tmp_path / "pre"))
    VideoMAEV2ForVideoClassification(config).save_pretrained(tmp_path / "ft")
    model, lines = trained_classifier(str(tmp_path / "ft"))
    assert lines == [] and model.new_parts == ()
    _, lines = trained_classifier(str(tmp_path / "ft"), num_frames=8)
    assert lines[0].startswith("clips have 8 frames of (32, 32) instead of 4 of (32, 32): positions are recomputed")
    content = json.loads((tmp_path / "pre/config.json").read_text())
    content["architectures"] = None
    (tmp_path / "pre/config.json").write_text(json.dumps(content))
    with pytest.raises(ValueError, match="pre has no trained classifier and fc_norm: finetune it first"):
        trained_classifier(str(tmp_path / "pre"))


def test_an_interrupted_run_names_its_last_checkpoint(checkpoints):
    with pytest.raises(
        ValueError, match="has no finished model, because its run was interrupted; its last .* is .*checkpoint-2"
    ):
        trained_classifier(str(checkpoints))


# ---------------------------------------------------------------------------------------------------------- the metrics


def test_every_metric_has_a_direction():
    logits = torch.eye(6)[:2].numpy()
    for problem_type, labels, compute in (
        ("single_label_classification", torch.tensor([0, 1]), classification_metrics),
        ("multi_label_classification", torch.eye(6)[:2], classification_metrics),
        ("regression", torch.eye(6)[:2], regression_metrics),
    ):
        found = compute(type("Prediction", (), {"predictions": logits, "label_ids": labels.numpy()}))
        assert set(found) - {"videos", "unreadable", "majority"} == set(labels_of(problem_type).metrics) - {"loss"}
    assert more_is_better("eval_mae") is False and more_is_better("top1") is True and more_is_better("f1") is None


def test_the_best_is_the_best(tmp_path):
    assert arguments(tmp_path, metric_for_best_model="eval_rmse").greater_is_better is False
    assert arguments(tmp_path, metric_for_best_model="r2").greater_is_better is True
    with pytest.raises(ValueError, match="greater_is_better=True contradicts metric_for_best_model=mae"):
        arguments(tmp_path, metric_for_best_model="mae", greater_is_better=True)


def test_early_stopping_is_checked(tmp_path):
    with pytest.raises(ValueError, match="early_stopping_patience counts evaluations; set eval_strategy"):
        arguments(tmp_path, early_stopping_patience=2)
    with pytest.raises(ValueError, match="early_stopping_patience=0 must be at least 1"):
        arguments(tmp_path, early_stopping_patience=0, eval_strategy="epoch")
    args = arguments(tmp_path, early_stopping_patience=2, eval_strategy="epoch")
    assert (args.metric_for_best_model, args.greater_is_better) == ("loss", False)
    with pytest.raises(ValueError, match="early_stopping_patience=2 counts evaluations, which need videos; set --eval"):
        check_evaluation(args, "single_label_classification", None, None)


def test_memory_is_pinned_for_accelerators_only(tmp_path):
    """Without a GPU torch would warn of it at each evaluation, also where use_cpu is not set."""
    args = VideoMAETrainingArguments(output_dir=str(tmp_path))
    assert args.dataloader_pin_memory == (args.device.type != "cpu")


def test_a_token_is_not_pickled(tmp_path):
    args = arguments(tmp_path, hub_token="hf_secret_of_mine")
    assert b"hf_secret" not in pickle.dumps(args) and args.hub_token == "hf_secret_of_mine"
    run = trainer(tmp_path, max_steps=1, save_strategy="steps", save_steps=1, hub_token="hf_secret_of_mine")
    run.train()
    run.save_model()
    written = [path for path in tmp_path.rglob("*") if path.is_file()]
    assert any(path.name == "training_args.bin" for path in written)
    assert [path for path in written if b"hf_secret" in path.read_bytes()] == []

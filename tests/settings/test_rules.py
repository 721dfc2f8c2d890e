"""Runs without a recipe: what follows from the videos and the model, and what an option replaces."""

import pytest
import yaml
from helpers.runs import parsed

from videomae_hf.commands.finetune import without_flips
from videomae_hf.settings.presets import preset_settings
from videomae_hf.settings.rules import follow_rules


def ruled(command: str, *options, width: int = 768, videos: int = 300, evaluates: bool = True):
    """The run, and its arguments as a dictionary of plain values."""
    run = parsed(command, "--use_cpu", "true", *options)
    run, messages = follow_rules(run, width, videos, evaluates=evaluates)
    return run, messages


def chosen(run, *names) -> tuple:
    return tuple(getattr(value, "value", value) for value in (getattr(run.training, name) for name in names))


@pytest.mark.parametrize(
    ("videos", "total", "device", "accumulation", "epochs"),
    [
        # 300 // 16 = 18 steps an epoch, and 1,000 / 18 = 55.6
        (300, 16, 8, 2, 56),
        # four steps of four videos an epoch, and at most 200 epochs
        (20, 4, 4, 1, 200),
        (3, 1, 1, 1, 200),
        (5000, 16, 8, 2, 30),
    ],
)
def test_finetuning_of_a_checkpoint(videos, total, device, accumulation, epochs):
    run, messages = ruled("finetune", "--checkpoint", "x", videos=videos)
    batch = ("total_batch_size", "per_device_train_batch_size", "gradient_accumulation_steps", "num_train_epochs")
    assert chosen(run, *batch) == (total, device, accumulation, epochs)
    assert chosen(run, "lr_scheduler_type", "layer_decay", "warmup_epochs") == ("cosine", 0.75, epochs / 10)
    assert run.augmentation.crop_scale == [0.5, 1.0]
    assert messages[0].startswith(f"no recipe, so that these follow from {videos:,} videos and the size of the model: ")


def test_pretraining():
    run, _ = ruled("pretrain", width=384, videos=300, evaluates=False)
    # 16 videos a step, for fewer than 1,000 videos: 3e-4 x sqrt(16 / 64) x 768 / 384, and 5,000 / 18 epochs
    names = ("total_batch_size", "learning_rate", "num_train_epochs", "warmup_epochs", "adam_beta2", "layer_decay")
    assert chosen(run, *names) == (16, 3e-4, 278, 13.9, 0.95, 1.0)
    assert chosen(run, "eval_strategy", "load_best_model_at_end") == ("no", False)
    assert ruled("pretrain", "--checkpoint", "x", width=384)[0].training.learning_rate == 1e-4
    run, _ = ruled("pretrain", videos=240_000, evaluates=False)
    assert chosen(run, "total_batch_size", "learning_rate", "num_train_epochs") == (64, 3e-4, 50)


@pytest.mark.parametrize(
    ("options", "width", "rate"),
    [
        ((), 768, 2e-4),
        ((), 384, 4e-4),
        ((), 64, 2e-3),  # 2.4e-3, of which 2e-3 is the most
        (("--per_device_train_batch_size", "64"), 768, 4e-4),  # by the square root of the batch
        (("--total_batch_size", "64", "--per_device_train_batch_size", "4"), 768, 4e-4),
        (("--lora_rank", "8"), 768, 1e-3),
        (("--freeze_encoder", "true"), 768, 1e-3),
        (("--learning_rate", "3e-5"), 768, 3e-5),
        (("--base_learning_rate", "1e-3"), 768, None),
    ],
)
def test_rates(options, width, rate):
    run, _ = ruled("finetune", "--checkpoint", "x", *options, width=width)
    assert run.training.learning_rate == pytest.approx(run.training.effective_learning_rate if rate is None else rate)


def test_adapters_and_new_models_have_no_layer_decay():
    assert ruled("finetune")[0].training.layer_decay == 1
    assert ruled("finetune", "--checkpoint", "x", "--lora_rank", "8")[0].training.layer_decay == 1


def test_the_best_checkpoint_is_kept():
    names = ("eval_strategy", "save_strategy", "load_best_model_at_end", "metric_for_best_model", "greater_is_better")
    assert chosen(ruled("finetune", videos=5000)[0], *names) == ("epoch", "epoch", True, "top1", True)
    run, _ = ruled("finetune", videos=300)  # 56 epochs would be more than 50 evaluations
    assert chosen(run, *names, "eval_steps", "save_steps") == ("steps", "steps", True, "top1", True, 0.02, 0.02)
    run, _ = ruled("finetune", "--problem_type", "regression")
    assert chosen(run, "metric_for_best_model", "greater_is_better") == ("mae", False)
    run, _ = ruled("finetune", "--multi_label", "true")
    assert chosen(run, "metric_for_best_model", "greater_is_better") == ("mean_average_precision", True)
    run, _ = ruled("finetune", "--save_strategy", "no")  # then nothing of this is changed
    assert chosen(run, *names[:3]) == ("no", "no", False)
    run, _ = ruled("finetune", "--load_best_model_at_end", "false")
    assert chosen(run, *names[:3]) == ("steps", "steps", False)
    assert chosen(ruled("finetune", evaluates=False)[0], *names[:3]) == ("no", "steps", False)


@pytest.mark.parametrize(
    ("steps", "strategy"),
    [
        ("20", "epoch"),  # of 4 an epoch
        ("200", "epoch"),
        ("201", "steps"),  # 50 evaluations are fewer than one an epoch
    ],
)
def test_runs_of_a_number_of_steps_evaluate_no_more_than_once_an_epoch(steps, strategy):
    run, _ = ruled("finetune", "--max_steps", steps, videos=64)
    assert chosen(run, "eval_strategy", "save_strategy") == (strategy, strategy)


@pytest.mark.parametrize(
    ("options", "videos", "said"),
    [
        # 200 epochs are what the arguments are checked with at parsing, and 8 videos a step are transformers' default
        ((), 64, "total_batch_size 16, num_train_epochs 200, warmup_epochs 20, learning_rate 0.0002"),
        ((), 48, "total_batch_size 8, num_train_epochs 167, warmup_epochs 16.7, learning_rate 0.00014"),
        (("--max_steps", "20"), 64, "total_batch_size 16, learning_rate 0.0002"),
        (
            ("--checkpoint", "x", "--learning_rate", "1e-4", "--warmup_steps", "9"),
            64,
            "total_batch_size 16, num_train_epochs 200, layer_decay 0.75",
        ),
        (
            ("--checkpoint", "x", "--total_batch_size", "8", "--layer_decay", "0.9", "--num_train_epochs", "5"),
            64,
            "warmup_epochs 0.5, learning_rate 0.00014",
        ),
    ],
)
def test_the_line_says_what_follows_from_rules_and_nothing_else(options, videos, said):
    _, messages = ruled("finetune", *options, videos=videos, evaluates=False)
    assert messages == [
        f"no recipe, so that these follow from {videos} videos and the size of the model: {said}, crop_scale 0.5 1.0; "
        f"an option replaces its rule"
    ]
    _, messages = ruled("finetune", *options, videos=videos)
    assert f"{said}, crop_scale 0.5 1.0, the best checkpoint by top1; an option" in messages[0]


def test_what_is_checked_at_parsing_knows_that_rules_follow():
    run, _ = ruled("finetune", "--warmup_epochs", "5", videos=100_000)
    assert chosen(run, "warmup_epochs", "num_train_epochs") == (5, 30)
    run, _ = ruled("finetune", "--warmup_epochs", "20", videos=100_000)
    assert chosen(run, "warmup_epochs", "num_train_epochs") == (20, 40)
    run, _ = ruled(
        "finetune", "--early_stopping_patience", "3", "--eval_data", "val", "--metric_for_best_model", "top1"
    )
    assert chosen(run, "early_stopping_patience", "eval_strategy", "metric_for_best_model") == (3, "steps", "top1")
    run, _ = ruled("finetune", "--max_steps", "7")
    assert run.training.max_steps == 7


def test_several_processes_share_the_batch(monkeypatch):
    run = parsed("finetune", "--use_cpu", "true")
    monkeypatch.setattr(type(run.training), "world_size", 4)
    run, _ = follow_rules(run, 768, 300, evaluates=False)
    names = ("total_batch_size", "per_device_train_batch_size", "gradient_accumulation_steps")
    assert chosen(run, *names) == (16, 4, 1)
    assert run.training.videos_per_step == 16
    # Planned for 64 processes, with one video for each of them
    run, _ = follow_rules(parsed("finetune", "--use_cpu", "true"), 768, 300, evaluates=False, num_processes=64)
    assert chosen(run, *names, "learning_rate") == (64, 1, 1, 4e-4)


def test_a_recipe_replaces_all_rules(tmp_path):
    recipe = tmp_path / "recipe.yaml"
    recipe.write_text("num_train_epochs: 2\n")
    for options in ((recipe,), ("--smoke_test", "true")):
        run = parsed("finetune", *options, "--use_cpu", "true")
        before = dict(vars(run.training))
        assert follow_rules(run, 768, 300, evaluates=True) == (run, [])
        assert vars(run.training) == before and not run.follows_rules


def test_the_recipe_that_a_run_leaves_repeats_it(tmp_path):
    run, _ = ruled("finetune", "--preset", "tiny", "--train_data", "videos", width=128)
    recipe = run.as_recipe()
    assert "preset" not in recipe and recipe["hidden_size"] == 128 and recipe["frame_sampling"] == "uniform"
    path = tmp_path / "settings.yaml"
    path.write_text(yaml.safe_dump(recipe))
    again = parsed("finetune", path, "--use_cpu", "true")
    assert again.as_recipe() == recipe and not again.follows_rules
    assert again.learning_settings() == run.learning_settings()


def test_directions_are_not_flipped_unless_it_is_asked_for(tmp_path):
    recipe = tmp_path / "recipe.yaml"
    recipe.write_text("num_train_epochs: 2\n")
    for options, classes, flips in (
        ((), ["turn_left", "turn_right", "jump"], False),
        ((), ["jump", "run"], True),
        (("--horizontal_flip", "true"), ["left", "jump"], True),
        ((recipe,), ["left", "jump"], True),
    ):
        run, messages = without_flips(parsed("finetune", *options, "--use_cpu", "true"), classes)
        assert run.augmentation.horizontal_flip is flips
        said = "clips are not flipped horizontally, as classes name a direction: turn_left, turn_right"
        assert messages == ([] if flips else [said])


def test_presets():
    tiny = preset_settings("tiny", "finetune", {})
    assert (tiny["hidden_size"], tiny["image_size"], tiny["patch_size"], tiny["frame_sampling"]) == (
        128,
        64,
        8,
        "uniform",
    )
    assert preset_settings("tiny", "pretrain", {})["sampling_rate"] == "2"
    assert preset_settings("tiny", "finetune", {"checkpoint": "mine"}) == {"frame_sampling": "uniform"}
    assert preset_settings("tiny", "finetune", {"checkpoint": "mine", "fps": 8}) == {}
    kinetics = "MCG-NJU/videomae-small-finetuned-kinetics"
    assert preset_settings("small", "finetune", {}) == {"model_size": "small", "checkpoint": kinetics}
    assert preset_settings("base", "finetune", {"checkpoint": None}) == {"model_size": "base"}  # --checkpoint none
    assert preset_settings("base", "finetune", {"checkpoint": "mine"}) == {}
    assert preset_settings("base", "pretrain", {}) == {"model_size": "base"}
    run = parsed("finetune", "--preset", "small", "--checkpoint", "none", "--use_cpu", "true")
    assert run.new_config().hidden_size == 384 and run.model.checkpoint is None


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--preset", "large"), "preset='large' is unknown; choose from tiny, small, base"),
        (("--preset", "tiny", "--model_size", "base"), "preset=tiny and model_size=base both choose the model"),
        (
            ("finetune_small", "--preset", "tiny"),
            "preset=tiny stands in place of a recipe, but finetune_small is given",
        ),
    ],
)
def test_presets_that_are_refused(options, message):
    with pytest.raises(ValueError, match=message):
        parsed("finetune", *options, "--use_cpu", "true")


def test_a_preset_in_a_recipe_is_refused(tmp_path):
    recipe = tmp_path / "recipe.yaml"
    recipe.write_text("preset: tiny\n")
    with pytest.raises(ValueError, match="preset is for the command line, in place of a recipe"):
        parsed("finetune", recipe, "--use_cpu", "true")
    with pytest.raises(ValueError, match="evaluate does not use --preset"):
        parsed("evaluate", "--preset", "tiny")


def test_no_line_where_every_setting_is_given():
    given = ("--per_device_train_batch_size", "2", "--max_steps", "4", "--learning_rate", "1e-3", "--layer_decay", "1")
    assert ruled("videobert", *given, "--warmup_steps", "0", videos=8, evaluates=False)[1] == []

"""Recipes and the command line: what is read, what is refused and how."""

import dataclasses
from pathlib import Path

import pytest
import yaml
from helpers.runs import parsed, run_of
from helpers.shared import REPO

from videomae_hf import VideoBertConfig, VideoMAEV2Config
from videomae_hf.settings.training_arguments import VideoMAETrainingArguments


ALL_RECIPES = sorted((REPO / "examples" / "recipes").rglob("*.yaml"))
RECIPES = [path for path in ALL_RECIPES if "stages" not in yaml.safe_load(path.read_text())]


def parse(*arguments, command: str = "finetune"):
    return parsed(command, *arguments)


def write(folder: Path, **settings) -> Path:
    path = folder / "recipe.yaml"
    path.write_text(yaml.safe_dump({"use_cpu": True, **settings}))
    return path


def test_keys_go_to_data_training_and_model(tmp_path):
    recipe = write(tmp_path, train_data="videos", num_train_epochs=3, mask_ratio=0.75, image_size=[64, 96])
    run = parse(recipe, command="pretrain")
    assert run.verb == "pretrain" and run.data.train_data == "videos" and run.training.num_train_epochs == 3
    assert run.config_overrides == {"mask_ratio": 0.75, "image_size": [64, 96]}
    assert {"train_data", "num_train_epochs", "mask_ratio"} <= run.given and "sampling_rate" not in run.given


def test_the_command_line_overrides_the_recipe(tmp_path):
    recipe = write(tmp_path, train_data="videos", num_frames=16, horizontal_flip=True)
    options = ["--train_data", "others", "--num-frames", "8", "--horizontal_flip", "false", "--crop_scale", "0.5", "1"]
    run = parse(recipe, *options)
    settings = run.settings()
    assert [settings[name] for name in ("train_data", "horizontal_flip", "crop_scale")] == ["others", False, [0.5, 1.0]]
    assert run.config_overrides == {"num_frames": 8}


@pytest.mark.parametrize("none", ["none", "null", "None", ""])
def test_none_takes_out_what_a_recipe_sets(tmp_path, none):
    recipe = write(tmp_path, checkpoint="somebody/base", eval_data="val.csv", head_from="none")
    run = parse(recipe, "--checkpoint", none, f"--eval_data={none}", "--run_name", none)
    assert run.model.checkpoint is None and run.data.eval_data is None and run.training.run_name is None
    assert run.model.head_from == "none"  # a choice of its own
    run = parse(write(tmp_path, checkpoint=None, eval_data="null"))
    assert run.model.checkpoint is None and run.data.eval_data is None


def test_several_sources(tmp_path):
    sources = [{"data": "videos", "weight": 2}, {"data": "list.txt", "root": "more", "sampling_rate": 2}]
    recipe = write(tmp_path, train_data=sources, num_sample=4)
    run = parse(recipe)
    assert run.data.train_data == sources and run.clips.num_sample == 4
    assert run.as_recipe() == {"train_data": sources, "num_sample": 4, "use_cpu": True}
    assert parse(recipe, "--train_data", "others").data.train_data == "others"


def test_class_weights_by_name(tmp_path):
    recipe = write(tmp_path, class_weights={"jump": 3, "run": 0.5})
    run = parse(recipe)
    assert run.augmentation.class_weights == run.as_recipe()["class_weights"] == {"jump": 3, "run": 0.5}
    assert parse(recipe, "--class_weights", "balanced").augmentation.class_weights == "balanced"


def test_numbers_that_yaml_takes_for_text(tmp_path):
    recipe = tmp_path / "recipe.yaml"
    recipe.write_text("use_cpu: true\nlearning_rate: 5e-4\nlayer_norm_eps: 1e-6\n")
    run = parse(recipe)
    assert run.training.learning_rate == 5e-4 and run.config_overrides == {"layer_norm_eps": 1e-6}


def test_lists_in_recipes_have_the_type_of_their_option(tmp_path):
    recipe = tmp_path / "recipe.yaml"
    recipe.write_text("use_cpu: true\ncrop_scale: [5e-1, 1]\nlora_target_modules: [query, key]\n")
    run = parse(recipe)
    assert run.augmentation.crop_scale == [0.5, 1.0] and run.training.lora_target_modules == ["query", "key"]
    recipe.write_text("use_cpu: true\nprobe: vjepa2\nprobe_layers: [1, 1.5]\n")
    with pytest.raises(ValueError, match="recipe.yaml: probe_layers takes values of type int, not 1.5"):
        parse(recipe, command="probe")


@pytest.mark.parametrize(
    ("settings", "arguments", "message"),
    [
        ({"learning_rat": 1}, [], "unknown key 'learning_rat'; did you mean 'learning_rate'"),
        ({"mask_rato": 1}, [], "did you mean 'mask_ratio'"),
        ({"eval_data": ["a", "b"]}, [], "eval_data takes one value"),
        ({"num_train_epochs": "many"}, [], "num_train_epochs"),
        ({}, ["--learning_rte", "1"], "unknown option --learning_rte; did you mean 'learning_rate'"),
        ({}, ["--mask_ratio"], "--mask_ratio needs a value"),
        ({}, ["other.yaml"], "Unexpected argument 'other.yaml'"),
        ({"base_learning_rate": 1e-3, "learning_rate": 1e-3}, [], "both set"),
        ({"warmup_epochs": 5, "num_train_epochs": 3}, [], "warmup_epochs=5.0 is longer"),
        ({"base_min_learning_rate": 1e-5}, [], "base_min_learning_rate"),
    ],
)
def test_mistakes_raise_value_error(tmp_path, settings, arguments, message):
    with pytest.raises(ValueError, match="(?s)" + message.replace("(", r"\(")):
        parse(write(tmp_path, **settings), *arguments)


def test_recipe_that_is_no_mapping(tmp_path):
    path = tmp_path / "recipe.yaml"
    path.write_text("- a\n- b\n")
    with pytest.raises(ValueError, match="must be a mapping"):
        parse(path)
    path.write_text("a: [1\n")
    with pytest.raises(ValueError, match="not valid YAML"):
        parse(path)
    with pytest.raises(FileNotFoundError, match="none.yaml"):
        parse(tmp_path / "none.yaml")


def test_learning_rate_on_the_command_line_replaces_the_base_rate(tmp_path):
    recipe = write(tmp_path, base_learning_rate=1e-3, base_min_learning_rate=1e-5, per_device_train_batch_size=64)
    assert parse(recipe).training.learning_rate == pytest.approx(2.5e-4)  # 1e-3 * 64 / 256
    assert parse(recipe, "--learning_rate", "0.1").training.learning_rate == 0.1


def test_help_is_a_list_that_can_be_read(capsys):
    with pytest.raises(SystemExit) as stopped:
        parse("--help")
    lines = capsys.readouterr().out.splitlines()
    assert stopped.value.code == 0
    assert len(lines) < 240 and max(map(len, lines)) <= 110
    assert "  --mix_mode                Clips that share one random mixing value: batch, pair or elem. [batch]" in lines
    options = [line.split()[0] for line in lines if line.startswith("  --")]
    assert len(options) == len(set(options))
    assert {"--help", "--train_data", "--fit", "--smoke_test", "--learning_rate", "--weight_decay"} <= set(options)
    assert not {"--train-data", "--no_square_pixels", "--hub_token", "--mask_ratio"} & set(options)
    names = " ".join(lines).split()
    assert {"hub_token,", "mask_ratio,"} <= set(names)  # named, at the end


def test_a_total_batch_sets_the_accumulation_steps(tmp_path):
    recipe = write(tmp_path, total_batch_size=96, per_device_train_batch_size=8, base_learning_rate=1e-3)
    training = parse(recipe).training
    assert (training.gradient_accumulation_steps, training.total_batch_size) == (12, 96)
    assert training.learning_rate == pytest.approx(3.75e-4)  # 1e-3 * 96 / 256
    assert parse(recipe, "--per_device_train_batch_size", "96").training.gradient_accumulation_steps == 1
    assert parse(recipe, "--gradient_accumulation_steps", "12").training.gradient_accumulation_steps == 12
    recipe = write(tmp_path, per_device_train_batch_size=4, gradient_accumulation_steps=3)
    assert parse(recipe).training.total_batch_size == 12


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (
            {"total_batch_size": 6, "per_device_train_batch_size": 4},
            "total_batch_size=6 is not a multiple of per_device_train_batch_size=4 x 1 process; choose "
            "per_device_train_batch_size from 1, 2, 3, 6",
        ),
        (
            {"total_batch_size": 12, "per_device_train_batch_size": 4, "gradient_accumulation_steps": 2},
            r"gradient_accumulation_steps=2 does not give total_batch_size=12.*leave it out \(it would be 3\)",
        ),
    ],
)
def test_a_total_batch_that_cannot_be(tmp_path, settings, message):
    with pytest.raises(ValueError, match=message):
        parse(write(tmp_path, **settings))


def test_the_kept_settings_hold_for_any_number_of_processes(tmp_path):
    given = {"train_data": "videos", "total_batch_size": 32, "per_device_train_batch_size": 4, "use_cpu": True}
    run = parse(write(tmp_path, **given))
    assert run.training.gradient_accumulation_steps == 8 and run.as_recipe() == given
    given = {"train_data": "videos", "gradient_accumulation_steps": 8, "use_cpu": True}
    run = parse(write(tmp_path, **given))
    assert run.training.total_batch_size == 64 and run.as_recipe() == given


def test_settings_kept_beside_the_results_repeat_the_run(tmp_path):
    recipe = write(
        tmp_path, train_data="videos", base_learning_rate=1e-3, num_frames=8, save_strategy="no", hub_token="secret"
    )
    run = parse(recipe)
    kept = run.as_recipe()
    assert kept == {
        "train_data": "videos",
        "base_learning_rate": 1e-3,
        "num_frames": 8,
        "save_strategy": "no",
        "use_cpu": True,
    }
    again = tmp_path / "settings.yaml"
    again.write_text(yaml.safe_dump(kept))
    repeated = parse(again)
    assert (repeated.settings(), repeated.config_overrides) == (run.settings(), run.config_overrides)
    assert repeated.training.learning_rate == run.training.learning_rate


def test_defaults_keep_nothing():
    assert run_of(VideoMAETrainingArguments()).as_recipe() == {}


@pytest.mark.parametrize("recipe", ALL_RECIPES, ids=lambda path: str(path.relative_to(REPO / "examples" / "recipes")))
def test_shipped_recipes_say_where_they_come_from(recipe):
    text = recipe.read_text()
    for word in ("Source", "Command", "Cost", "Expected"):
        assert f"# {word}" in text
    assert str(recipe.relative_to(REPO)) in text


@pytest.mark.parametrize("recipe", RECIPES, ids=lambda path: str(path.relative_to(REPO / "examples" / "recipes")))
def test_shipped_recipes_are_valid(recipe):
    pretrains = "pretrain" in recipe.stem or recipe.stem in ("smoke", "omnimae_base")
    command = "pretrain" if pretrains else "finetune"
    command = "probe" if recipe.parent.name == "probes" else command
    command = "videobert" if recipe.stem in ("demo_videobert", "videobert_paper") else command
    run = parse(recipe, "--use_cpu", "true", "--bf16", "false", command=command)
    if command == "videobert":
        VideoBertConfig(**{**run.config_overrides, "visual_words": 20_736})
    elif not run.model.checkpoint:
        run.new_config()
    assert run.data.train_data and run.unused == ()


def test_options_of_other_commands_are_refused_and_those_of_a_recipe_said(tmp_path):
    with pytest.raises(ValueError, match="^evaluate does not use --mixup_alpha; leave it out"):
        parse("--checkpoint", "output/finetune", "--mixup_alpha", "0.8", "--use_cpu", "true", command="evaluate")
    with pytest.raises(ValueError, match="^pretrain does not use --multi_label, --rand_augment; leave it out"):
        parse("--rand_augment", "rand-m7", "--multi_label=true", "--use_cpu", "true", command="pretrain")
    run = parse("--checkpoint", "teacher", "--use_cpu", "true", command="evaluate")  # a value, and no option
    assert run.model.checkpoint == "teacher" and run.given == {"checkpoint", "use_cpu"}
    run = parse(write(tmp_path, mixup_alpha=0.8, eval_data="val"), "--num_clips", "2", command="evaluate")
    assert run.unused == ("mixup_alpha",) and run.data.eval_data == "val" and run.evaluation.num_clips == 2


def test_settings_are_frozen_and_changed_in_copies():
    run = run_of(sampling_rate=2.0)
    with pytest.raises(dataclasses.FrozenInstanceError):
        run.clips.sampling_rate = 4.0
    changed = run.changed(sampling_rate=8.0, mixup_alpha=0.8)
    assert (run.clips.sampling_rate, changed.clips.sampling_rate, changed.augmentation.mixup_alpha) == (2.0, 8.0, 0.8)
    with pytest.raises(TypeError, match="No group of settings has sampling_rat"):
        run.changed(sampling_rat=1)


def test_a_setting_has_one_home():
    names = [name for group in run_of().groups.values() for name in vars(group)]
    assert len(names) == len(set(names))
    taken = {spec.name for spec in dataclasses.fields(VideoMAETrainingArguments)} | set(
        VideoMAEV2Config.__annotations__
    )
    assert set(names) & taken == {"label_mappings"}  # a file, from which that of the configuration is read


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ([], "single_label_classification"),
        (["--multi_label", "true"], "multi_label_classification"),
        (["--problem_type", "multi_label_classification"], "multi_label_classification"),
        (["--problem_type", "regression"], "regression"),
    ],
    ids=str,
)
def test_problem_type(options, expected):
    run = parse(*options, "--use_cpu", "true")
    assert run.problem_type == expected and run.data.multi_label is (expected == "multi_label_classification")

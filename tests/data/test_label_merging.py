"""Merging the classes of several sets, and gathering the rows of a merged head for one of them."""

import json

import pytest
import torch
from helpers.runs import run_of
from helpers.shared import TINY

from videomae_hf import VideoMAEV2Config, VideoMAEV2ForPreTraining, VideoMAEV2ForVideoClassification
from videomae_hf.commands import merge_labels
from videomae_hf.data.sources.folders_and_lists import read_samples
from videomae_hf.data.sources.label_merging import (
    are_numbers,
    merge_classes,
    normalized_name,
    read_aliases,
    read_mappings,
)
from videomae_hf.data.videos import VideoSource
from videomae_hf.training.classifier_head import classifier_of, head_rows, load_classifier


def touch(folder, *names: str):
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).touch()


# ------------------------------------------------------------------------------------------------------------ merging


@pytest.mark.parametrize(
    ("name", "normalized"),
    [
        ("Playing_cards", "playing cards"),
        ("passing American football (in game)", "passing american football in game"),
        ("massaging person's head", "massaging persons head"),
        ("tai-chi ", "tai chi"),
        ("Straße", "strasse"),
    ],
)
def test_normalized_names(name, normalized):
    assert normalized_name(name) == normalized


def test_numbers_are_no_names():
    assert are_numbers(["0", "1", "2"]) and are_numbers(["LABEL_0", "LABEL_1"])
    assert not are_numbers(["1", "0"]) and not are_numbers(["0", "walk"])


def test_classes_merge_by_name_and_by_alias(tmp_path):
    (tmp_path / "aliases.csv").write_text('run,jogging\n"drawing, painting",draw,paint\nswim,swimming\n')
    aliases = read_aliases(tmp_path / "aliases.csv")
    sources = {
        "a": ["Jogging", "play cards", "cycling"],
        "b": ["Play_Cards", "run", "draw", "paint", "cyclin"],
    }
    merged = merge_classes(sources, aliases)
    assert merged.names == ["cyclin", "cycling", "drawing, painting", "play cards", "run"]
    assert merged.mappings == {
        "a": {"Jogging": 4, "play cards": 3, "cycling": 1},
        "b": {"Play_Cards": 3, "run": 4, "draw": 2, "paint": 2, "cyclin": 0},
    }
    assert list(merged.mappings["a"]) == sources["a"]  # in the order of its classes
    assert merged.lines == [
        "a: 3 classes, 3 of them new",
        "b: 5 classes, 2 of them new",
        "5 classes in total",
        "similar, not merged: 'cycling' and 'cyclin' (b)",
        "merged into 'run': 'Jogging' (a), 'run' (b)",
        "merged into 'play cards': 'play cards' (a), 'Play_Cards' (b)",
        "merged into 'drawing, painting': 'draw' (b), 'paint' (b)",
        "only in a: 'cycling'",
        "only in b: 'drawing, painting'",
        "only in b: 'cyclin'",
        "alias not found in any source: 'swimming'",
    ]


def test_classes_that_cannot_merge(tmp_path):
    with pytest.raises(ValueError, match="'a b' and 'A_b' of one would become one class"):
        merge_classes({"one": ["a b", "A_b"], "two": ["c"]})
    with pytest.raises(ValueError, match="The classes of two are numbers"):
        merge_classes({"one": ["a"], "two": ["0", "1"]})
    (tmp_path / "alone.csv").write_text("run\n")
    with pytest.raises(ValueError, match="line 1: 'run' has no other spelling"):
        read_aliases(tmp_path / "alone.csv")
    (tmp_path / "twice.csv").write_text("run,jog\nwalk,jog\n")
    with pytest.raises(ValueError, match="line 2: 'jog' is merged into 'run' and 'walk'"):
        read_aliases(tmp_path / "twice.csv")


@pytest.fixture
def sets(tmp_path):
    """Two sets whose files are named like those of Kinetics, with videos in common."""
    touch(tmp_path / "k4", *(f"run/{name}.mp4" for name in ("aaaaaaaaaaa_000001", "bbbbbbbbbbb_000001")))
    touch(tmp_path / "k4", "jump/ccccccccccc_000001.mp4", "jump/ddddddddddd_000001.mp4")
    touch(tmp_path / "k6", *(f"Run/{name}.mp4" for name in ("aaaaaaaaaaa_000001", "ccccccccccc_000009")))
    touch(tmp_path / "k6", "swim/eeeeeeeeeee_000001.mp4")
    touch(tmp_path / "val", "swim/bbbbbbbbbbb_000001.mp4")
    touch(tmp_path / "test", "fffffffffff.mp4", "ddddddddddd_000001.mp4")
    return tmp_path


def merge(folder, *options: str):
    sources = [f"k4={folder / 'k4'}", f"k6={folder / 'k6'}"]
    merge_labels.main([str(folder / "out"), *sources, *map(str, options)])
    samples, classes = read_samples(
        folder / "out" / "train.jsonl", read_mappings(folder / "out/label_mappings.json")[0]
    )
    return [(sample.path.rsplit("/", 1)[1][:3], classes[sample.label]) for sample in samples], classes


def test_command_keeps_each_video_once_and_evaluation_videos_out(sets, capsys):
    (sets / "k6_names.txt").write_text("Run\nswim\n")
    kept, classes = merge(
        sets, "--same_video", "youtube", "--eval_data", f"k6={sets / 'val'}", "--held_out", sets / "test"
    )
    assert classes == ["jump", "run", "swim"] == (sets / "out" / "classes.txt").read_text().split()
    assert kept == [("ccc", "jump"), ("aaa", "run"), ("eee", "swim")]
    output = capsys.readouterr().out
    assert "k4: 4 videos, 0 in an earlier source, 2 held out" in output
    assert "k6: 3 videos, 2 in an earlier source, 0 held out" in output
    assert "1 videos have two labels, of which the first is kept" in output
    assert "is 'jump' in k4 and 'run' in k6" in output
    assert "merged into 'run': 'run' (k4), 'Run' (k6)" in output
    samples, _ = read_samples(sets / "out" / "eval.jsonl", classes)
    assert [(sample.path, sample.label) for sample in samples] == [(str(sets / "val/swim/bbbbbbbbbbb_000001.mp4"), 2)]
    # The list by itself gives the same order of classes.
    assert read_samples(sets / "out" / "train.jsonl")[1] == classes
    content = json.loads((sets / "out" / "label_mappings.json").read_text())
    assert content["label_mappings"] == {"k4": {"jump": 0, "run": 1}, "k6": {"Run": 1, "swim": 2}}


def test_equal_names_alone_make_no_video_the_same_but_are_said(sets, capsys):
    kept, _ = merge(sets)
    assert len(kept) == 7
    assert "1 file names are in several sources (aaaaaaaaaaa_000001, ..)" in capsys.readouterr().out
    kept, _ = merge(sets, "--same_video", "name")
    assert len(kept) == 6


def test_lists_of_numbers_need_names_and_folders_of_images_keep_their_numbers(tmp_path):
    (tmp_path / "a.txt").write_text("frames/x 12 0\nframes/y 20 1\n")
    (tmp_path / "b.txt").write_text("clip.mp4 run\n")
    (tmp_path / "names.txt").write_text("run\nwalk\n")
    arguments = [str(tmp_path / "out"), f"a={tmp_path / 'a.txt'}", f"b={tmp_path / 'b.txt'}"]
    with pytest.raises(ValueError, match="a.txt has class numbers; pass --class_names a=FILE"):
        merge_labels.main(arguments)
    merge_labels.main([*arguments, "--class_names", f"a={tmp_path / 'names.txt'}"])
    samples, classes = read_samples(tmp_path / "out" / "train.jsonl")
    assert classes == ["run", "walk"]
    assert [(sample.num_frames, sample.label) for sample in samples] == [(12, 0), (20, 1), (None, 0)]
    with pytest.raises(ValueError, match="'c' is not one of the sources a, b"):
        merge_labels.main([*arguments, "--eval_data", "c=x"])
    with pytest.raises(ValueError, match="must have the form NAME=PATH"):
        merge_labels.main([str(tmp_path / "out"), "folder"])


# --------------------------------------------------------------------------------------------------------- head rows

HEAD = ["catch", "jump high", "run", "swim"]
MAPPINGS = {"small": {"Jogging": 2, "Jump-High": 1}}


@pytest.mark.parametrize(
    ("classes", "head_from", "rows"),
    [
        (["swim", "Run"], None, [3, 2]),
        (["Jump_high", "jogging"], None, [1, 2]),  # all in the mapping
        (["swim", "fly"], None, [None, None]),
        (["swim", "fly"], "names", [3, None]),
        (["swim", "jogging"], "small", [None, 2]),
        (["swim", "run"], "none", [None, None]),
        (["0", "1", "2", "3"], None, [0, 1, 2, 3]),
        (["0", "1"], "small", [2, 1]),  # in the order of its classes
        (["0", "1", "2"], None, [None, None, None]),
    ],
)
def test_head_rows(classes, head_from, rows):
    assert head_rows(classes, HEAD, MAPPINGS, head_from) == rows


def test_head_rows_of_a_file_of_numbers(tmp_path):
    path = tmp_path / "label_4to2.json"
    path.write_text("[3, 0]")
    assert head_rows(["a", "b"], HEAD, None, str(path)) == [3, 0]
    with pytest.raises(ValueError, match="must list one of the 4 rows for each of 3 classes"):
        head_rows(["a", "b", "c"], HEAD, None, str(path))
    with pytest.raises(ValueError, match="head_from='k400' is unknown; choose from names, small, none, or a JSON file"):
        head_rows(["a"], HEAD, MAPPINGS, "k400")


@pytest.fixture(scope="module")
def merged_checkpoint(tmp_path_factory):
    """A model of the four classes, which knows the mapping of a smaller set."""
    torch.manual_seed(0)
    config = VideoMAEV2Config(**TINY, id2label=dict(enumerate(HEAD)), label_mappings=MAPPINGS)
    model = VideoMAEV2ForVideoClassification(config)
    with torch.no_grad():
        model.classifier.weight.normal_()
        model.classifier.bias.copy_(torch.arange(4.0))
    folder = tmp_path_factory.mktemp("merged")
    model.save_pretrained(folder)
    return folder, model


def test_mappings_survive_saving(merged_checkpoint):
    assert VideoMAEV2Config.from_pretrained(merged_checkpoint[0]).label_mappings == MAPPINGS


def test_rows_are_gathered_and_others_new(merged_checkpoint):
    folder, merged = merged_checkpoint
    model, lines = load_classifier(folder, ["jogging", "fly", "jump high"], "small")
    assert lines == [f"classifier: 2 of 3 rows gathered from the 4 of {folder}; new, untrained: fly"]
    assert torch.equal(model.classifier.weight[[0, 2]], merged.classifier.weight[[2, 1]])
    assert torch.equal(model.classifier.bias, torch.tensor([2.0, 0.0, 1.0]))
    assert 0 < model.classifier.weight[1].abs().max() < 1e-3
    assert model.num_labels == model.config.num_labels == 3
    assert model.config.label2id == {"jogging": 0, "fly": 1, "jump high": 2} and model.config.label_mappings is None
    for name, weight in merged.state_dict().items():
        if not name.startswith("classifier"):
            assert torch.equal(model.state_dict()[name], weight), name


def test_known_classes_are_named_where_they_are_not_taken(merged_checkpoint):
    _, lines = load_classifier(merged_checkpoint[0], ["swim", "fly"])
    assert lines[0].endswith("new, untrained: swim, fly (it has 1 of these classes; --head_from names uses their rows)")


def test_other_classes_of_equal_number_do_not_inherit_the_head(merged_checkpoint):
    model, lines = load_classifier(merged_checkpoint[0], ["w", "x", "y", "z"])
    assert "0 of 4 rows gathered" in lines[0]
    assert model.classifier.weight.abs().max() < 1e-3 and not model.classifier.bias.any()


def test_a_pretrained_checkpoint_has_no_head(tmp_path):
    VideoMAEV2ForPreTraining(VideoMAEV2Config(**TINY)).save_pretrained(tmp_path)
    model, lines = load_classifier(tmp_path, ["a", "b", "c"])
    assert lines == [] and model.classifier.out_features == 3
    with pytest.raises(ValueError, match="head_from='names', but .* has no classifier"):
        load_classifier(tmp_path, ["a", "b", "c"], "names")


def test_mappings_of_merged_data_go_into_the_config(sets):
    _, classes = merge(sets)
    shape = {name: value for name, value in TINY.items() if name != "layer_norm_eps"}
    mappings = str(sets / "out" / "label_mappings.json")
    run = run_of(overrides=shape, label_mappings=mappings, model_size="small")
    model, _ = classifier_of(run, VideoSource([], classes))
    assert model.config.label_mappings["k6"] == {"Run": 1, "swim": 2}
    with pytest.raises(ValueError, match="has 3 classes .jump, run, swim., but the data have 2"):
        classifier_of(run, VideoSource([], ["jump", "run"]))

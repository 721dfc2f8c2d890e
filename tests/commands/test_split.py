"""`videomae split`: lists that training reads, groups on one side only, clear refusals."""

import csv
import json

import pytest
from helpers.commands import videomae
from helpers.encoded_videos import pictures

from videomae_hf.data.sources.folders_and_lists import read_samples
from videomae_hf.data.sources.synthetic import write_video


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Two classes of six videos each by three people, one of which is there twice."""
    root = tmp_path_factory.mktemp("videos")
    for number, label in enumerate(("run", "walk")):
        (root / label).mkdir()
        for index in range(6):
            path = root / label / f"person{index % 3}_{index}.mp4"
            write_video(path, pictures(8, 48, 64, seed=10 * number + index))
    (root / "walk/person2_copy.mp4").write_bytes((root / "walk/person0_0.mp4").read_bytes())
    return root


def names(path) -> set[str]:
    return {sample.path.rsplit("/", 1)[1] for sample in read_samples(path)[0]}


def test_a_folder_by_person(folder, tmp_path, capsys):
    videomae("split", folder, tmp_path / "out", "--val", 0.34, "--group_pattern", r"(person\d)", "--copies", "ignore")
    train, classes = read_samples(tmp_path / "out/train.csv")
    val, _ = read_samples(tmp_path / "out/val.csv", classes)
    assert classes == ["run", "walk"] and len(train) + len(val) == 13
    people = [{sample.path.split("person")[1][0] for sample in part} for part in (train, val)]
    assert len(people[0]) == 2 and len(people[1]) == 1 and not people[0] & people[1]
    said = capsys.readouterr().out
    assert "groups      2    1" in said
    assert f"Next: videomae finetune --preset base --train_data {tmp_path / 'out/train.csv'} --eval_data" in said
    videomae("split", folder, tmp_path / "my lists", "--val", 0.34, "--copies", "ignore")
    said = capsys.readouterr().out
    assert f"--train_data '{tmp_path}/my lists/train.csv' --eval_data '{tmp_path}/my lists/val.csv'" in said
    with pytest.raises(ValueError, match="exists already"):
        videomae("split", folder, tmp_path / "out")


def test_copies_join_their_groups(folder, tmp_path, capsys):
    options = ["--folds", 2, "--group_pattern", r"(person\d)"]
    videomae("split", folder, tmp_path / "out", *options)
    said = capsys.readouterr().err
    assert "1 pair of copies, kept in one part" in said and "person0 and person2" in said
    for fold in range(2):
        parts = [names(tmp_path / f"out/fold_{fold}/{part}.csv") for part in ("train", "val")]
        assert not parts[0] & parts[1] and len(parts[0] | parts[1]) == 7  # names that both classes have, and the copy
        together = [{"person0_0.mp4", "person2_copy.mp4", "person2_2.mp4"} & part for part in parts]
        assert sorted(map(len, together)) == [0, 3]
    held_out = [names(tmp_path / f"out/fold_{fold}/val.csv") for fold in range(2)]
    assert not held_out[0] & held_out[1]


def test_a_list_keeps_its_rows_and_its_segments_together(folder, tmp_path, capsys):
    rows = [["video", "label", "start", "end", "patient", "note"]]
    for label in ("run", "walk"):
        for index in range(6):
            path = f"{label}/person{index % 3}_{index}.mp4"
            rows += [[path, label, 0, 0.1, f"p{index // 2}", "a, b"], [path, label, 0.1, 0.2, f"p{index // 2}", ""]]
    with (folder / "clips.csv").open("w", newline="") as file:
        csv.writer(file).writerows(rows)
    videomae("split", folder / "clips.csv", tmp_path / "out", "--val", 0.3, "--test", 0.3, "--group_column", "patient")
    written = {part: list(csv.reader((tmp_path / f"out/{part}.csv").open())) for part in ("train", "val", "test")}
    assert all(lines[0] == rows[0] for lines in written.values())
    assert sorted(line for lines in written.values() for line in lines[1:]) == sorted(
        [str(cell) for cell in row] for row in rows[1:]
    )
    patients = [{line[4] for line in lines[1:]} for lines in written.values()]
    assert sum(map(len, patients)) == 3 and all(patients)
    said = capsys.readouterr().out
    assert f"--data_root {folder}" in said and " --group_column patient" in said
    assert len(read_samples(tmp_path / "out/val.csv", root=folder)[0]) == 8
    videomae("split", folder / "clips.csv", tmp_path / "plain", "--copies", "ignore")
    parts = [names_of(tmp_path / f"plain/{part}.csv") for part in ("train", "val")]
    assert not parts[0] & parts[1]


def names_of(path) -> set[str]:
    return {row["video"] for row in csv.DictReader(path.open())}


def test_several_labels_regression_and_json(folder, tmp_path):
    entries = [
        {"video": f"run/person{index % 3}_{index}.mp4", "labels": ["a", "b"] if index % 2 else ["a"]}
        for index in range(6)
    ]
    (folder / "many.json").write_text(json.dumps(entries))
    videomae("split", folder / "many.json", tmp_path / "many", "--val", 0.5, "--multi_label", "--copies", "ignore")
    parts = [json.loads((tmp_path / f"many/{part}.json").read_text()) for part in ("train", "val")]
    assert [len(part) for part in parts] == [3, 3]
    assert {sum("b" in entry["labels"] for entry in part) for part in parts} <= {1, 2}
    lines = "".join(f"run/person{index % 3}_{index}.mp4,{index / 7}\n" for index in range(6))
    (folder / "scores.csv").write_text("path,score\n" + lines)
    videomae("split", folder / "scores.csv", tmp_path / "scores", "--no_labels", "--copies", "ignore", "--val", 0.5)
    assert len((tmp_path / "scores/val.csv").read_text().splitlines()) == 4


def test_refusals(folder, tmp_path):
    (folder / "split.csv").write_text("path,label,split\nrun/person0_0.mp4,run,train\n")
    for arguments, message in (
        ([folder / "split.csv", "out"], "has the column 'split', which training obeys"),
        ([folder, "out", "--group_column", "x"], "is a folder of class folders, without columns"),
        ([folder / "missing.csv", "out"], "No folder or list of videos"),
        ([folder, "out", "--val", "1"], "must leave a part of the videos for training"),
        ([folder, "out", "--val", "0.5", "--test", "0.5"], "must leave a part"),
        ([folder, "out", "--folds", "1"], "must be at least 2"),
        ([folder, "out", "--folds", "3", "--val", "0.2"], "exclude each other"),
        ([folder, "out", "--group_pattern", "walk|run", "--test", "0.2", "--copies", "ignore"], "2 groups cannot be"),
    ):
        with pytest.raises((ValueError, FileNotFoundError), match=message):
            videomae("split", arguments[0], tmp_path / arguments[1], *arguments[2:])
    (folder / "clips2.csv").write_text("path,label,who\nrun/person0_0.mp4,run,\n")
    with pytest.raises(ValueError, match="line 2: the column 'who' is empty"):
        videomae("split", folder / "clips2.csv", tmp_path / "out", "--group_column", "who")
    with pytest.raises(ValueError, match="did you mean 'who'"):
        videomae("split", folder / "clips2.csv", tmp_path / "out", "--group_column", "whoo")


def test_a_class_in_too_few_groups_is_named(folder, tmp_path, capsys):
    """All videos of "walk" are in one group."""
    rows = [f"run/person{i % 3}_{i}.mp4,run,r{i}" for i in range(6)] + [
        f"walk/person{i}_{i}.mp4,walk,w" for i in range(3)
    ]
    (folder / "few.csv").write_text("\n".join(["path,label,who", *rows]))
    videomae("split", folder / "few.csv", tmp_path / "out", "--group_column", "who", "--copies", "ignore")
    assert "no video of 'walk' in val" in capsys.readouterr().err

"""Hugging Face data sets, in memory, in folders and streamed: videos, labels, and each mistake."""

import datasets
import pytest
from helpers.indexed_video import write_indexed_video
from helpers.stream_shards import write_shards

from videomae_hf.data.sources import hub_datasets
from videomae_hf.data.sources.hub_datasets import HubSplit, stream_shards


def read_rows(name, split, class_names=None, **options):
    return hub_datasets.read_rows(HubSplit(name, split, **split_of(options)), class_names)


def stream_rows(name, split, class_names=None, num_videos=None, **options):
    return hub_datasets.stream_rows(HubSplit(name, split, **split_of(options)), class_names, num_videos)


def split_of(options: dict) -> dict:
    """Fields of `HubSplit`; what is none of them is an option of `datasets`."""
    own = {name: options.pop(name) for name in list(options) if name in HubSplit.__dataclass_fields__}
    return {**own, "options": options}


@pytest.fixture(scope="module", autouse=True)
def cache(tmp_path_factory):
    before, datasets.config.HF_DATASETS_CACHE = datasets.config.HF_DATASETS_CACHE, tmp_path_factory.mktemp("cache")
    yield
    datasets.config.HF_DATASETS_CACHE = before


@pytest.fixture(scope="module")
def videos(tmp_path_factory):
    folder = tmp_path_factory.mktemp("videos")
    return [write_indexed_video(folder / f"{count}.mp4", count) for count in (4, 6, 8)]


LABELS = {
    "numbers": ([2, 0, 2], datasets.Value("int64"), ["0", "1", "2"], [2, 0, 2]),
    "text": (["kick", "hug", "kick"], datasets.Value("string"), ["hug", "kick"], [1, 0, 1]),
    "classes": ([1, 0, 1], datasets.ClassLabel(names=["run", "hug", "eat"]), ["run", "hug", "eat"], [1, 0, 1]),
}


def saved(folder, videos, labels, feature, stored="bytes", column="video", splits=("train",), **more):
    """A data set of parquet files, as a repository on the Hub has it."""
    values = [{"bytes": path.read_bytes(), "path": path.name} if stored == "bytes" else str(path) for path in videos]
    features = datasets.Features(
        {column: datasets.Video(decode=False), "label": feature, **dict.fromkeys(more, feature)}
    )
    rows = datasets.Dataset.from_dict({column: values, "label": labels, **more}, features=features)
    for split in splits:
        rows.to_parquet(folder / f"{split}-00000-of-00001.parquet")
    return str(folder)


@pytest.mark.parametrize("stored", ["bytes", "paths"])
@pytest.mark.parametrize("kind", LABELS)
def test_labels_and_videos(tmp_path, videos, kind, stored):
    labels, feature, classes, numbers = LABELS[kind]
    name = saved(tmp_path, videos, labels, feature, stored)
    samples, found = read_rows(name, "train")
    assert found == classes and [sample.label for sample in samples] == numbers
    assert [sample.path.endswith(path.name) for sample, path in zip(samples, videos)] == [True] * 3
    expected = [path.read_bytes() if stored == "bytes" else str(path) for path in videos]
    assert [sample.video() for sample in samples] == expected
    assert samples[-1].video() == expected[2] and len(samples[1:]) == 2

    stream = stream_rows(name, "train", class_names=classes, num_videos=3)
    found = [stream.sample(row) for row in stream.rows]
    assert [(sample.label, sample.video()) for sample in found] == list(zip(numbers, expected))


def test_looking_at_labels_reads_no_video(tmp_path, videos, monkeypatch):
    samples, _ = read_rows(saved(tmp_path, videos, *LABELS["classes"][:2]), "train")
    monkeypatch.setattr(hub_datasets.RowRecords, "_read", lambda *_: pytest.fail("read a video"))
    assert [sample.label for sample in samples] == [1, 0, 1]


def test_the_classes_of_a_trained_model(tmp_path, videos):
    name = saved(tmp_path, videos, *LABELS["classes"][:2])
    samples, classes = read_rows(name, "train", class_names=["hug", "jump", "run"])
    assert classes == ["hug", "jump", "run"] and [sample.label for sample in samples] == [0, 2, 0]
    with pytest.raises(ValueError, match="row 0: 4.mp4 has the unknown label 'hug'; did you mean 'hugs'"):
        read_rows(name, "train", class_names=["hugs", "run"])


def test_lists_of_labels(tmp_path, videos):
    labels, feature = [[0, 2], [], [1]], datasets.List(datasets.ClassLabel(names=["a", "b", "c"]))
    name = saved(tmp_path, videos, labels, feature)
    samples, classes = read_rows(name, "train", multi_label=True)
    assert classes == ["a", "b", "c"] and [sample.label for sample in samples] == [(0, 2), (), (1,)]
    assert samples.multi_label
    stream = stream_rows(name, "train", multi_label=True, num_videos=3)
    assert [stream.sample(row).label for row in stream.rows] == [(0, 2), (), (1,)]
    with pytest.raises(ValueError, match="The column 'label' has lists of labels; set multi_label"):
        read_rows(name, "train")


def test_video_folder(tmp_path, videos):
    for name, path in zip(("hug", "kick", "hug"), videos):
        (tmp_path / name).mkdir(exist_ok=True)
        (tmp_path / name / path.name).write_bytes(path.read_bytes())
    samples, classes = read_rows("videofolder", "train", data_dir=str(tmp_path))
    assert classes == ["hug", "kick"]
    assert sorted((sample.label, sample.video()) for sample in samples) == [
        (0, str(tmp_path / "hug" / "4.mp4")),
        (0, str(tmp_path / "hug" / "8.mp4")),
        (1, str(tmp_path / "kick" / "6.mp4")),
    ]
    stream = stream_rows("videofolder", "train", data_dir=str(tmp_path), num_videos=3)
    assert stream.class_names == ["hug", "kick"]
    assert sorted(stream.sample(row).video() for row in stream.rows) == sorted(sample.video() for sample in samples)


def test_saved_to_disk_and_without_labels(tmp_path, videos):
    values = [{"bytes": path.read_bytes(), "path": None} for path in videos]
    rows = datasets.Dataset.from_dict(
        {"clip": values}, features=datasets.Features({"clip": datasets.Video(decode=False)})
    )
    rows.save_to_disk(tmp_path / "one")
    datasets.DatasetDict({"train": rows}).save_to_disk(tmp_path / "several")
    for name in ("one", "several"):
        samples, classes = read_rows(str(tmp_path / name), "train", labelled=False)
        assert classes == [] and [sample.path for sample in samples] == ["train[0]", "train[1]", "train[2]"]
        assert [sample.video() for sample in samples] == [path.read_bytes() for path in videos]
    with pytest.raises(ValueError, match="several has no split 'test'; choose one of train"):
        read_rows(str(tmp_path / "several"), "test", labelled=False)


def test_length_and_classes_of_a_stream(tmp_path, videos):
    name = saved(tmp_path, videos, *LABELS["numbers"][:2])
    with pytest.raises(ValueError, match="does not declare its classes.*--class_names"):
        stream_rows(name, "train", num_videos=3)
    with pytest.raises(ValueError, match="The number of videos in .* is unknown; set --videos_per_epoch"):
        stream_rows(name, "train", labelled=False)
    stream = stream_rows(name, "train", class_names=["a", "b"], num_videos=3)
    with pytest.raises(ValueError, match="4.mp4 has the unknown label '2'. Known: a, b"):
        [stream.sample(row) for row in stream.rows]

    folder = write_shards(tmp_path / "shards", [2, 4], class_names=("hug", "kick", "sit"))
    stream = stream_shards(folder)
    assert (stream.num_videos, stream.class_names) == (6, ["hug", "kick", "sit"])
    assert [stream.sample(row).label for row in stream.rows] == [0, 1, 2, 0, 1, 2]
    assert stream_shards(f"{folder}/*1.tar").num_videos == 4


def test_length_of_a_stream_in_its_card(tmp_path, videos):
    name = saved(tmp_path, videos, *LABELS["classes"][:2])
    columns = "features: [{name: video, dtype: video}, {name: label, dtype: {class_label: {names: [run, hug, eat]}}}]"
    splits = "splits: [{name: train, num_bytes: 1, num_examples: 3}]"
    (tmp_path / "README.md").write_text(f"---\ndataset_info:\n  {columns}\n  {splits}\n---\n")
    assert stream_rows(name, "train").num_videos == 3


MISTAKES = {
    "split": ({"split": "trian"}, "split 'trian'.*train.*validation|split 'trian'.*validation.*train"),
    "video column": ({"video_column": "vidoe"}, "the columns are video, label, other; did you mean 'video'?"),
    "label column": ({"label_column": "lable"}, "label_column_name='lable'.*did you mean 'label'?"),
    "multi_label": ({"multi_label": True}, "has one label per video; multi_label needs lists"),
    "folder": ({"name": "./nowhere"}, "There is no folder ./nowhere"),
}


@pytest.mark.parametrize("streamed", [False, True], ids=["listed", "streamed"])
@pytest.mark.parametrize("mistake", MISTAKES)
def test_mistakes(tmp_path, videos, mistake, streamed):
    changed, message = MISTAKES[mistake]
    saved(tmp_path, videos, *LABELS["text"][:2], splits=("train", "validation"), other=["x", "y", "z"])
    options = {"name": str(tmp_path), "split": "train", "class_names": ["hug", "kick"], **changed}
    with pytest.raises((ValueError, FileNotFoundError), match=message) as error:
        (stream_rows if streamed else read_rows)(**options)
    assert "\n" not in str(error.value)


def test_rows_that_cannot_be_used(tmp_path, videos):
    name = saved(tmp_path, videos, [0, -1, None], LABELS["classes"][1])
    with pytest.raises(ValueError, match="row 1: no label; row 2: no label"):
        read_rows(name, "train")
    stream = stream_rows(name, "train", num_videos=3)
    with pytest.raises(ValueError, match="6.mp4 has no label"):
        [stream.sample(row) for row in stream.rows]
    datasets.Dataset.from_dict({"text": ["a"]}).save_to_disk(tmp_path / "text")
    with pytest.raises(ValueError, match="Found no column of videos among text; set --video_column_name"):
        read_rows(str(tmp_path / "text"), "train", labelled=False)
    (tmp_path / "none").mkdir()
    with pytest.raises(ValueError, match="none, split 'train'.* no (row|data)"):
        read_rows(saved(tmp_path / "none", [], [], LABELS["classes"][1]), "train")


def test_paths_as_plain_text_and_the_usual_names_of_columns(tmp_path, videos):
    rows = {"filepath": [str(path) for path in videos], "category": ["kick", "hug", "kick"], "note": ["x", "y", "z"]}
    datasets.Dataset.from_dict(rows).to_parquet(tmp_path / "train.parquet")
    samples, classes = read_rows(str(tmp_path), "train")
    assert classes == ["hug", "kick"] and [sample.label for sample in samples] == [1, 0, 1]
    assert [sample.video() for sample in samples] == [str(path) for path in videos]
    assert samples.messages == [f"{tmp_path}: columns not used: note"]


def test_what_went_wrong_in_a_file_is_said(tmp_path):
    (tmp_path / "train.parquet").write_bytes(b"PAR1 and no more")
    with pytest.raises(ValueError, match="split 'train': .*[Pp]arquet"):
        read_rows(str(tmp_path), "train")

"""`open_videos`: every kind of source gives the same object, for every verb."""

import datasets
import pytest
from helpers.indexed_video import write_indexed_video
from helpers.runs import run_of
from helpers.shared import TINY
from helpers.stream_shards import write_tar

from videomae_hf import VideoMAEV2Config
from videomae_hf.data.sources.folders_and_lists import EVALUATION, TRAINING
from videomae_hf.data.video_dataset import VideoDataset
from videomae_hf.data.video_stream import VideoStream
from videomae_hf.data.videos import (
    data_facts,
    evaluation_videos,
    holds_no_label,
    labelled_videos,
    training_videos,
)
from videomae_hf.settings.training_arguments import VideoMAETrainingArguments


@pytest.fixture(scope="module")
def sources(tmp_path_factory) -> dict[str, str]:
    """The same four videos, two of each class, stored in every way; paths of what settings name."""
    root = tmp_path_factory.mktemp("sources")
    paths = [root / "folder" / name / f"{name}{number}.mp4" for name in ("hug", "run") for number in (0, 1)]
    for number, path in enumerate(paths):
        path.parent.mkdir(parents=True, exist_ok=True)
        write_indexed_video(path, 4 + number)
    rows = [f"{path},{path.parent.name},{number}" for number, path in enumerate(paths)]
    (root / "list.csv").write_text("path,label,age\n" + "\n".join(rows) + "\n")
    (root / "shards").mkdir()
    members = {f"{path.stem}.mp4": path.read_bytes() for path in paths}
    members |= {f"{path.stem}.cls": path.parent.name.encode() for path in paths}
    members = dict(sorted(members.items()))  # the members of a sample follow each other
    write_tar(root / "shards" / "a.tar", members)
    values = {"video": [str(path) for path in paths], "label": [path.parent.name for path in paths]}
    (root / "hub").mkdir()
    for split in ("train", "validation"):
        datasets.Dataset.from_dict(values).to_parquet(root / "hub" / f"{split}.parquet")
    names = {"folder": root / "folder", "list": root / "list.csv", "shards": root / "shards"}
    return {**{kind: str(path) for kind, path in names.items()}, "hub": f"hf://datasets/{root / 'hub'}"}


@pytest.fixture(scope="module", autouse=True)
def cache(tmp_path_factory):
    before, datasets.config.HF_DATASETS_CACHE = datasets.config.HF_DATASETS_CACHE, tmp_path_factory.mktemp("cache")
    yield
    datasets.config.HF_DATASETS_CACHE = before


@pytest.mark.parametrize("kind", ["folder", "list", "shards", "hub"])
def test_every_source_for_every_purpose(sources, kind):
    run = run_of(train_data=sources[kind], eval_data=sources[kind])
    opened = {
        "train": training_videos(run),
        "eval": evaluation_videos(run, ["hug", "run"]),
        "probe": labelled_videos(run, sources[kind], EVALUATION),
        "probe, of the split for training": labelled_videos(run, sources[kind], TRAINING),
    }
    for purpose, videos in opened.items():
        assert sorted(videos.classes) == ["hug", "run"], purpose
        assert sorted(record.label for record in videos.records) == [0, 0, 1, 1] and not videos.is_stream
        assert (videos.overrides, videos.weights) in (([{}], None), ([{}], [1.0]))
    dataset = opened["train"].dataset(None, run)
    assert isinstance(dataset, VideoDataset) and len(dataset) == 4
    assert data_facts(dataset)["videos"].startswith("4 (")
    assert len(training_videos(run, labelled=False).records) == 4


@pytest.mark.parametrize("kind", ["shards", "hub"])
def test_streams_are_sources_too(sources, kind, tmp_path):
    (tmp_path / "classes.txt").write_text("hug\nrun\n")
    names = {"class_names": str(tmp_path / "classes.txt"), "videos_per_epoch": 4}
    args = VideoMAETrainingArguments(use_cpu=True, per_device_train_batch_size=2)
    run = run_of(args, train_data=sources[kind], streaming=True, eval_data=sources[kind], **names)
    videos = training_videos(run)
    assert videos.is_stream and videos.classes == ["hug", "run"]
    assert isinstance(videos.dataset(None, run), VideoStream)
    evaluated = evaluation_videos(run, videos.classes)
    assert not evaluated.is_stream and len(evaluated.records) == 4  # evaluation goes over a list


def test_numbers_of_a_list(sources):
    run = run_of(train_data=sources["list"], overrides={"problem_type": "regression"}, label_column_name="age")
    videos = training_videos(run)
    assert videos.classes == ["age"] and [record.targets for record in videos.records] == [(0,), (1,), (2,), (3,)]
    with pytest.raises(ValueError, match="Regression needs one list of videos with numbers"):
        training_videos(run.changed(train_data=sources["shards"]))


def test_several_sources_keep_their_clips_and_weights(sources):
    entries = [{"data": sources["folder"], "sampling_rate": 2}, {"data": sources["list"], "weight": 3}]
    videos = training_videos(run_of(train_data=entries, fps=8.0))
    assert videos.overrides == [{"sampling_rate": 2}, {}] and videos.weights == [1.0, 3.0]
    first, second = videos.samplers(run_of(fps=8.0).clips, VideoMAEV2Config(**TINY))
    assert (first.sampling_rate, second.sampling_rate, first.fps, first.num_frames) == (2, 4.0, 8.0, 4)
    assert len(videos.dataset(None, run_of())) == 4 + 12


def test_videos_in_both_are_named(sources):
    run = run_of(train_data=sources["folder"], eval_data=sources["list"])
    videos = training_videos(run)
    assert "4" in videos.overlap(evaluation_videos(run, videos.classes))[0]


def test_mistakes_of_the_settings(sources):
    with pytest.raises(ValueError, match="train_data is not set"):
        training_videos(run_of())
    with pytest.raises(ValueError, match="dataset_name and train_data are both set"):
        training_videos(run_of(train_data=sources["folder"], dataset_name="x"))
    with pytest.raises(ValueError, match="streaming needs"):
        training_videos(run_of(train_data=sources["folder"], streaming=True))
    assert evaluation_videos(run_of(train_data=sources["folder"])) is None


def test_whether_there_are_labels(sources):
    assert not holds_no_label(run_of(eval_data=sources["folder"]))
    assert not holds_no_label(run_of(eval_data=sources["hub"]))
    assert holds_no_label(run_of(eval_data=f"{sources['folder']}/hug"))
    assert holds_no_label(run_of(eval_data=sources["folder"], unlabelled=True))

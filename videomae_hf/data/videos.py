# Copyright 2026 The videomae_hf authors. Licensed under the Apache License, Version 2.0.
"""`open_videos` opens the videos of any data set, however they are stored."""

import dataclasses
import hashlib
import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from accelerate import PartialState

from ..models.configuration_videomae_v2 import VideoMAEV2Config
from ..settings.groups import MULTI_LABEL, ClipSettings, DataSettings
from ..settings.run import Run
from ..settings.smoke_test import SYNTHETIC
from ..settings.training_arguments import VideoMAETrainingArguments
from ..text_files import read_class_names
from .captions import CaptionRecord
from .checks import check_data, describe_overlap
from .clips import ClipSampler
from .sources.folders_and_lists import EVALUATION, Reading, holds_any_label, read_sources
from .sources.hub_datasets import HubSplit, StreamedRows, read_rows, stream_rows, stream_shards
from .sources.label_merging import read_mappings
from .sources.media import IMAGES, VIDEOS, Media
from .sources.records import VideoRecord
from .sources.synthetic import synthesise_dataset
from .sources.tar_shards import is_shards, read_shards
from .sources.targets import describe_targets, read_targets
from .video_dataset import VideoDataset
from .video_stream import Share, VideoStream, check_stream


_IMAGES = "image_mask_ratio"  # key of a source of images among videos
HUB_URL = "hf://datasets/"  # prefix of data sets of the Hub where a folder or list is expected


@dataclass
class VideoSource:
    """The videos of a data set.

    Args:
        records: the videos, or the rows of a stream.
        classes: names of the classes, or of the targets in regression; [] without labels.
        overrides: for each source, the clip settings that differ from those of the run.
        weights: for each source, how often an epoch has each of its videos; None is once.
        notes: messages about the settings that the videos are read with.
    """

    records: Sequence[VideoRecord] | StreamedRows
    classes: list[str]
    overrides: list[dict] = field(default_factory=lambda: [{}])
    weights: list[float] | None = None
    notes: list[str] = field(default_factory=list)

    @property
    def is_stream(self) -> bool:
        """Whether the videos are read sequentially, without being stored."""
        return isinstance(self.records, StreamedRows)

    @property
    def number(self) -> int:
        """Number of videos, of a stream those of an epoch."""
        return self.records.num_videos if self.is_stream else len(self.records)

    @property
    def kinds(self) -> list[int] | None:
        """0 for each source of videos and 1 for each one of images among videos; None if all sources are alike."""
        kinds = [int(overrides.get(_IMAGES) is not None) for overrides in self.overrides]
        return kinds if any(kinds) else None

    @property
    def messages(self) -> list[str]:
        """Messages about how the videos were read, and about videos that were left out."""
        return [*self.notes, *self.records.messages]

    def samplers(self, clips: ClipSettings, config: VideoMAEV2Config) -> list[ClipSampler]:
        """A clip sampler for each source, for a model of this configuration."""
        return [clip_sampler(clips, config, **overrides) for overrides in self.overrides]

    def dataset(self, transform, run: Run) -> VideoDataset | VideoStream:
        """The training set of a Trainer, whose items `transform` creates from the records."""
        args = run.training
        if not self.is_stream:
            return VideoDataset(self.records, transform, args.seed, weights=self.weights, kinds=self.kinds)
        share = Share(
            batch_size=args.train_batch_size,
            process_index=args.process_index,
            num_processes=args.world_size,
            batches_per_step=args.gradient_accumulation_steps,
            drop_last=args.dataloader_drop_last,
        )
        return VideoStream(self.records, transform, share, args.seed, run.data.shuffle_buffer)

    def evaluation_dataset(
        self, transform, args: VideoMAETrainingArguments, *, replace_bad: bool = False
    ) -> VideoDataset:
        """The videos as an evaluation set: unreadable ones are marked, or replaced by others with `replace_bad`."""
        return VideoDataset(self.records, transform, args.seed, replace_bad=replace_bad)

    def describe(
        self, samplers: Sequence[ClipSampler], args: VideoMAETrainingArguments, *, labelled: bool = True
    ) -> list[str]:
        """Messages about the videos, of which a sample is checked; with `labelled` also about their classes.

        Raises:
            ValueError: the videos cannot be trained on, see `check_data` and `check_stream`.
        """
        if self.is_stream:
            return self.messages + check_stream(
                self.records, samplers, args.world_size, args.dataloader_num_workers, args.total_batch_size
            )
        regression = self.records[0].targets is not None
        messages = check_data(
            self.records, self.classes if labelled and not regression else [], samplers, args.total_batch_size
        )
        return self.messages + messages + (describe_targets(self.records, self.classes) if regression else [])

    def overlap(self, other: "VideoSource") -> list[str]:
        """Warns about videos that are in both sources; for a stream, this is unknown in advance."""
        return [] if self.is_stream else describe_overlap(self.records, other.records)


def training_videos(run: Run, *, labelled: bool = True) -> VideoSource:
    """Opens the training videos that the data settings name.

    Raises:
        FileNotFoundError: the data do not exist.
        ValueError: the settings contradict each other, or the data cannot be read.
    """
    data = run.data
    if data.dataset_name and data.train_data:
        raise ValueError("dataset_name and train_data are both set; keep one.")
    if not data.dataset_name:
        _require(data, "train_data", data.train_data, data.demo_videos, seed=0)
    media = media_of(run)
    reading = _reading(data, (data.train_split_name,), media, labelled=labelled)
    videos = open_videos(data.train_data, reading, data, problem_type=run.problem_type, classes=stated_classes(run))
    if videos.kinds is not None and run.verb != "pretrain":
        raise ValueError(f"{_IMAGES} of a source in train_data is for pretrain; leave it out.")
    if videos.kinds is not None and all(videos.kinds):
        raise ValueError(f"Every source in train_data has {_IMAGES}, so that there is no video; pretrain a model of "
                         f"images instead (--model_kind mae).")  # fmt: skip
    if media.images:
        videos.notes = _sampling_notes(run, videos.overrides)
    return videos


def evaluation_videos(
    run: Run, classes: list[str] | None = None, problem_type: str | None = None, *, labelled: bool = True
) -> VideoSource | None:
    """Opens the evaluation videos, from the evaluation split of a list with a split column; None if none are set.

    Args:
        run: the run.
        classes: class names of the model, in order.
        problem_type: problem type of the model.
        labelled: whether the labels are read.
    """
    data = run.data
    if data.eval_data and data.dataset_name and data.eval_split_name:
        raise ValueError("eval_split_name of dataset_name and eval_data are both set; keep one.")
    split = (data.eval_split_name,) if data.eval_split_name else EVALUATION
    several = problem_type == MULTI_LABEL
    reading = _reading(data, split, media_of(run), labelled=labelled, multi_label=several)
    if data.dataset_name and data.eval_split_name:
        return open_videos(None, reading, data, problem_type=problem_type, classes=classes)
    source = evaluation_source(data)
    if source is None and run.monitoring.probe_eval_data and run.verb == "pretrain":
        source = run.monitoring.probe_eval_data
    if source is None:
        return None
    if source == data.eval_data:
        _require(data, "eval_data", source, max(data.demo_videos // 4, 4), seed=1)
    files = dataclasses.replace(data, dataset_name=None, streaming=False)
    return open_videos(source, reading, files, problem_type=problem_type, classes=classes)


def evaluation_source(data: DataSettings) -> str | list[dict] | None:
    """The folder or list of the evaluation videos; a list with all splits need not be set as `eval_data` too."""
    return data.eval_data or (data.train_data if data.eval_split_name else None)


def labelled_videos(run: Run, source: str, split: tuple[str, ...], classes: list[str] | None = None) -> VideoSource:
    """Opens videos with one label each, such as those of a probe."""
    data = dataclasses.replace(run.data, dataset_name=None, streaming=False, multi_label=False)
    return open_videos(source, _reading(data, split, media_of(run)), data, classes=classes)


def media_of(run: Run) -> Media:
    """What the samples of a run are: images as well as videos, if its model has a single frame.

    Raises:
        ValueError: `frame_template` is set, which is for folders of images as videos.
    """
    if not run.of_images:
        return VIDEOS
    _refuse_template(run.clips.frame_template)
    return IMAGES


def _refuse_template(template: str | None) -> None:
    if template is not None:
        raise ValueError(
            f"frame_template={template} is for folders of images as videos, but the model reads single images; leave "
            f"it out."
        )


def _sampling_notes(run: Run, overrides: Sequence[dict]) -> list[str]:
    """A note about settings of the frames of a clip, which an image does not have; `overrides` are those of sources."""
    for one in overrides:
        _refuse_template(one.get("frame_template"))
    names = ("frame_sampling", "sampling_rate", "fps", "short_video", "official_sampling")
    given = [name for name in names if name in run.given or any(name in one for one in overrides)]
    return [f"an image has no frames in time: {', '.join(given)} has no effect"] if given else []


def open_videos(
    source: str | list[dict] | None,
    reading: Reading,
    data: DataSettings,
    *,
    problem_type: str | None = None,
    classes: list[str] | None = None,
) -> VideoSource:
    """Opens a data set.

    Args:
        source: a folder, a list, tar shards, hf://datasets/USER/NAME, or several folders and lists (see
            `read_sources`). None is `data.dataset_name`.
        reading: options for reading folders and lists, including the split.
        data: settings of data sets of the Hub, and whether they are streamed.
        problem_type: problem type of the model; for regression, the targets are read.
        classes: class names in order, as in a trained model.

    Raises:
        FileNotFoundError: the data do not exist.
        ValueError: the data cannot be read as the settings request.
    """
    if isinstance(source, str) and source.startswith(HUB_URL):
        source, data = None, dataclasses.replace(data, dataset_name=source.removeprefix(HUB_URL))
    if problem_type == "regression" and reading.labelled:
        return VideoSource(*read_targets(_one_list(source, data), classes, reading))
    if source is None:
        return _hub_videos(reading, data, classes)
    if is_shards(source):
        return _shards(source, reading, data, classes)
    if data.streaming:
        raise ValueError("streaming needs dataset_name, or tar shards as train_data.")
    return VideoSource(*read_sources(source, classes, reading))


def _hub_videos(reading: Reading, data: DataSettings, classes: list[str] | None) -> VideoSource:
    split = HubSplit(
        name=data.dataset_name,
        split=reading.split[0],
        labelled=reading.labelled,
        multi_label=reading.multi_label and reading.labelled,
        video_column=data.video_column_name,
        label_column=data.label_column_name,
        options={"config_name": data.dataset_config_name, "data_dir": data.dataset_dir},
        media=reading.media,
    )
    if data.streaming and split.split == data.train_split_name:
        rows = stream_rows(split, classes, data.videos_per_epoch)
        return VideoSource(rows, rows.class_names)
    with PartialState().main_process_first():  # the main process downloads
        return VideoSource(*read_rows(split, classes))


def _shards(source: str, reading: Reading, data: DataSettings, classes: list[str] | None) -> VideoSource:
    if reading.multi_label and reading.labelled:
        raise ValueError(f"multi_label needs a list or a data set, but {source} names tar shards.")
    if data.streaming:
        options = {"labelled": reading.labelled, "num_videos": data.videos_per_epoch, "media": reading.media}
        rows = stream_shards(source, classes, **options)
        return VideoSource(rows, rows.class_names)
    return VideoSource(*read_shards(source, classes, labelled=reading.labelled, media=reading.media))


def _one_list(source, data: DataSettings) -> str:
    """The list of a regression; raises ValueError for sources that cannot hold numbers."""
    if data.streaming or not isinstance(source, str) or is_shards(source):
        raise ValueError(f"Regression needs one list of videos with numbers, not {source or data.dataset_name!r}.")
    return source


def holds_no_label(run: Run) -> bool:
    """Whether the evaluation videos have no labels: `unlabelled` is set, or nothing in the data can be a label."""
    data = run.data
    if data.unlabelled:
        return True
    if data.dataset_name or not isinstance(data.eval_data, str) or is_shards(data.eval_data):
        return False
    if data.eval_data.startswith(HUB_URL):
        return False
    return not holds_any_label(data.eval_data, _reading(data, EVALUATION, media_of(run)))


def stated_classes(run: Run) -> list[str] | None:
    """The classes in the order of `class_names` or `label_mappings`; None if neither is set."""
    if run.data.class_names:
        return read_class_names(run.data.class_names)
    return read_mappings(run.model.label_mappings)[0] if run.model.label_mappings else None


def _reading(
    data: DataSettings,
    split: tuple[str, ...],
    media: Media,
    *,
    labelled: bool = True,
    multi_label: bool | None = None,
) -> Reading:
    """The options for reading folders and lists."""
    several = (data.multi_label if multi_label is None else multi_label) and labelled
    columns = (data.video_column_name, data.label_column_name)
    return Reading(data.data_root, labelled, several, split, *columns, media)


def _require(data: DataSettings, which: str, source, videos_per_class: int, seed: int) -> None:
    """Raises ValueError if a source is not set; with `demo_videos`, synthesises it if it does not exist."""
    if not source:
        raise ValueError(f"{which} is not set: pass a folder of class folders or a list of videos as --{which}.")
    if data.demo_videos:
        if isinstance(source, list | tuple):
            raise ValueError(f"demo_videos needs one folder as {which}, not several sources.")
        with PartialState().main_process_first():
            if not Path(source).exists():
                synthesise_dataset(source, videos_per_class=videos_per_class, seed=seed)


def with_smoke_test_videos(run: Run) -> Run:
    """For a smoke test, synthesises videos in `output_dir` that are long enough for the clips, and sets their paths."""
    if not run.smoke.smoke_test:
        return run
    sources = run.data.train_data
    sources = [dict(source) for source in sources] if isinstance(sources, list) else [{"data": sources}]
    num_frames = run.config_overrides.get("num_frames", VideoMAEV2Config.num_frames)
    rates = [25 / run.clips.fps if run.clips.fps else run.clips.sampling_rate]  # in frames of the synthesised videos
    rates += [25 / source["fps"] if "fps" in source else source.get("sampling_rate", 1) for source in sources]
    length = max(math.ceil((num_frames - 1) * max(rates)) + 1, 32)
    folders = [Path(run.training.output_dir, "videos", split) for split in ("train", "val")]
    with PartialState().main_process_first():
        for seed, folder in enumerate(folders):
            if not folder.exists():
                synthesise_dataset(folder, videos_per_class=1, seed=seed, size=40, num_frames=length, workers=1)
    train, val = map(str, folders)
    for source in sources:
        source["data"] = train if source["data"] == SYNTHETIC else source["data"]
    train_data = sources if isinstance(run.data.train_data, list) else sources[0]["data"]
    return run.changed(train_data=train_data, eval_data=val if run.data.eval_data == SYNTHETIC else run.data.eval_data)


def clip_sampler(clips: ClipSettings, config: VideoMAEV2Config, **overrides) -> ClipSampler:
    """The clip sampler for a model of this configuration; `overrides` are the settings of one source.

    Raises:
        ValueError: an override is not a clip setting.
    """
    of_model = {"num_frames": config.num_frames, "num_channels": config.num_channels, "repeats": 1}
    names = [spec.name for spec in dataclasses.fields(ClipSampler) if spec.name not in (*of_model, _IMAGES)]
    unknown = sorted(set(overrides) - {*names, _IMAGES})
    if unknown:
        known = ", ".join([*names, _IMAGES])
        raise ValueError(f"Unknown key {unknown[0]!r} of a source in train_data; choose from {known}.")
    if overrides.get(_IMAGES) is not None:
        _check_images_among_videos(config, overrides[_IMAGES])
        of_model |= {"num_frames": 1, "repeats": config.tubelet_size}
    return ClipSampler(**of_model, **{**{name: getattr(clips, name) for name in names}, **overrides})


def _check_images_among_videos(config: VideoMAEV2Config, ratio: object) -> None:
    """Raises ValueError if a model cannot take images as the first slice of its clips."""
    if isinstance(ratio, bool) or not isinstance(ratio, int | float) or not 0 < ratio < 1:
        raise ValueError(f"{_IMAGES}={ratio!r} of a source in train_data must be a number between 0 and 1.")
    if config.num_frames == 1:
        raise ValueError(f"{_IMAGES} is for images among videos, but the model takes single images; leave it out.")
    if config.use_cls_token:
        raise ValueError(f"{_IMAGES} needs a model without class tokens, but use_cls_token is true.")


def data_facts(dataset: VideoDataset | VideoStream) -> dict:
    """Facts that must be equal in all processes and after a resume: number of videos, and a digest of their order.

    Only the last two parts of each path count, because the data may be in different folders on different machines.
    """
    if isinstance(dataset, VideoStream):
        return {"videos": dataset.source.num_videos, "classes": fingerprint(dataset.source.class_names)}
    rows = (
        f"{Path(record.path).parts[-2:]} {record.label} {record.source} {record.segment} {record.targets}"
        f"{f' {record.text}' if isinstance(record, CaptionRecord) else ''}"
        for record in dataset.samples
    )
    return {"videos": f"{len(dataset.samples)} ({fingerprint(rows)})"}


def fingerprint(lines: Iterable[str]) -> str:
    """A digest of lines and their order, eight hexadecimal digits."""
    digest = hashlib.sha256()
    for line in lines:
        digest.update(line.encode("utf-8", "surrogateescape") + b"\n")
    return digest.hexdigest()[:8]

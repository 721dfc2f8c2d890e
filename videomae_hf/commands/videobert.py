# Copyright 2026 The videomae_hf authors. Licensed under the Apache License, Version 2.0.
"""`videomae videobert`: pretrains VideoBERT on videos with captions, and finetunes it."""

from collections.abc import Callable
from dataclasses import replace
from operator import attrgetter
from pathlib import Path

import torch
from accelerate import PartialState
from transformers import AutoTokenizer

from ..checkpoints.opening import checkpoint_processor, stated_normalization
from ..data.captions import CaptionedVideos, Pair, read_captions
from ..data.checks import describe_overlap
from ..data.sources.folders_and_lists import EVALUATION, Reading
from ..data.video_dataset import VideoDataset
from ..data.video_text import PairTransform, VideoTextCollator, check_pairs
from ..data.videos import evaluation_source, evaluation_videos, training_videos
from ..data.word_tokenizer import word_tokenizer
from ..evaluation.segment_cache import SegmentReader, cached_segments, computed_segments
from ..evaluation.video_text_scores import scorer_of
from ..inference.feature_folder import FeatureFolder
from ..inference.stored_segments import StoredSegments
from ..messages import count, several
from ..models.configuration_videobert import VideoBertConfig
from ..models.configuration_videomae_v2 import VideoMAEV2Config
from ..models.image_processing_videomae_v2 import VideoMAEV2ImageProcessor
from ..models.modeling_videobert import VideoBertPreTrainedModel
from ..models.modeling_videobert_pretraining import VideoBertForPreTraining
from ..models.modeling_videobert_tasks import (
    VideoBertForCaptioning,
    VideoBertForRetrieval,
    VideoBertForVideoClassification,
)
from ..models.processing_videobert import VideoBertProcessor
from ..models.visual_words import VisualWords
from ..settings.recipes import Verb
from ..settings.rules import follow_rules
from ..settings.run import Run
from ..training.distributed import report
from ..training.session import execute
from ..training.video_text import fit_video_text


VERB = Verb(
    "videobert",
    "Pretrains VideoBERT on videos with captions, and finetunes it for classification, retrieval or captioning.",
    (
        "videobert --train_data captions.csv --backbone encoder/ --text_checkpoint google-bert/bert-base-uncased",
        "videobert --train_data 'shards/*.tar' --backbone encoder/ --hidden_size 256 --num_hidden_layers 4",
        "videobert --train_data captions.csv --features features/ --visual_words_from words/",
        "videobert --task captioning --checkpoint output/videobert --train_data captions.csv",
        "videobert --task classification --checkpoint output/videobert --train_data videos/ --eval_data val/",
    ),
    groups=("data", "clips", "model", "video_text"),
    unused=(
        *("folds", "streaming", "shuffle_buffer", "videos_per_epoch", "multi_label", "unlabelled", "demo_videos"),
        *("frame_sampling", "short_video", "official_sampling", "num_sample", "antialias", "interpolation"),
        *("preset", "model_kind", "model_size", "model_version", "head_from", "label_mappings"),
    ),
    config_class=VideoBertConfig,
)
MODELS = {
    "pretraining": VideoBertForPreTraining,
    "classification": VideoBertForVideoClassification,
    "retrieval": VideoBertForRetrieval,
    "captioning": VideoBertForCaptioning,
}
# Settings of a checkpoint's processor: name -> its value there
_OF_PROCESSOR = {
    "segment_frames": lambda processor: processor.image_processor.num_frames,
    "sampling_rate": lambda processor: processor.image_processor.sampling_rate,
    "fps": lambda processor: processor.image_processor.fps,
    **{name: attrgetter(name) for name in ("segment_stride", "max_segments", "max_length")},
}
_NOT_HERE = ("lora_rank", "freeze_layers", "freeze_encoder", "fit", "overfit_check", "fsdp2")
_FRAMES_OF_IMAGES = 8  # frames of a segment for a backbone of single images
_VIDEOS_OF_MOMENTS = 64  # from which joint training takes the mean and standard deviation of features


def videobert(run: Run) -> None:
    """Pretraining or finetuning, from a VideoBERT checkpoint, from BERT, or from random weights."""
    args, settings = run.training, run.video_text
    check_settings(run)
    videos, classes = training_pairs(run)
    report(args, [*videos.messages, f"{count(len(videos), 'pair')} of {count(len(videos.records), 'video')}"])
    evaluated = evaluation_pairs(run, classes)
    stored = FeatureFolder(settings.features) if settings.features else None
    processor = processor_of(run, videos, stored)
    model = model_of(run, processor, classes, stored)
    run, lines = follow_rules(run, model.config.hidden_size, len(videos), evaluates=evaluated is not None)
    report(args, lines)
    model.to(args.device)
    train_segments = segments_of(run, model, processor, videos, stored)
    standardise(run, model, train_segments, len(videos.records))
    noise = settings if settings.task == "pretraining" else replace(settings, regimes=[0.0, 0.0, 1.0])
    negatives = model.config.num_negatives if settings.task in ("pretraining", "retrieval") else 0
    options = (negatives, processor.max_segments, settings.hard_negatives)
    transform = PairTransform(videos, train_segments, noise, *options)
    train_set, eval_set, scorer = VideoDataset(videos, transform, args.seed), None, None
    if evaluated is not None:
        report(args, evaluated.messages + describe_overlap(videos.records, evaluated.records))
        segments = segments_of(run, model, processor, evaluated, stored)
        transform = PairTransform(evaluated, segments, None, *options)
        # As everywhere, unreadable videos are counted where each has a score, and replaced where there is only a loss.
        replaced = settings.task != "classification"
        eval_set = VideoDataset(evaluated, transform, args.seed, replace_bad=replaced)
        scorer = scorer_of(model, processor, evaluated, segments)
    collator = VideoTextCollator(processor, model.config, settings.task)
    key = None if stored is None else stored.header["key"]
    fit_video_text(run, model, train_set, eval_set, collator, features_key=key, scorer=scorer)


def check_settings(run: Run) -> None:
    """Raises ValueError for settings that contradict each other, or that this command does not have."""
    args, settings = run.training, run.video_text
    check_pairs(settings)
    refused = next((name for name in _NOT_HERE if getattr(args, name)), None)
    if refused:
        raise ValueError(f"{refused}={getattr(args, refused)} is not available for videobert; leave it out.")
    if args.layer_decay != 1:
        raise ValueError(f"layer_decay={args.layer_decay} is not available for videobert; leave it out.")
    if run.smoke.smoke_test:
        raise ValueError("smoke_test has no captions, and is not available for videobert; leave it out.")
    if settings.task == "classification" and run.problem_type != "single_label_classification":
        raise ValueError(f"problem_type={run.problem_type} is not available for videobert, which takes one class per "
                         f"video.")  # fmt: skip
    if settings.features and settings.backbone:
        raise ValueError("features are those that backbone would compute; set one of them.")
    if settings.features and run.config_overrides.get("freeze_backbone") is False:
        raise ValueError("freeze_backbone=False trains a backbone, but features come from none; leave one of them out.")
    if settings.text_checkpoint and settings.tokenizer:
        raise ValueError("text_checkpoint brings its own tokenizer, whose words its weights know; leave out tokenizer.")
    if run.data.train_data is not None and not isinstance(run.data.train_data, str):
        raise ValueError(f"train_data={run.data.train_data} must be a single source for videobert.")


def training_pairs(run: Run) -> tuple[CaptionedVideos, list[str]]:
    """The training pairs, and the names of the classes; [] without classes."""
    data = run.data
    if run.video_text.task == "classification":
        found = training_videos(run)
        return _labelled(found.records, found.messages), found.classes
    if not (data.train_data or data.dataset_name) or (data.train_data and data.dataset_name):
        raise ValueError("Set one of train_data and dataset_name: videos with captions.")
    return _captions(run, data.train_data, (data.train_split_name,)), []


def evaluation_pairs(run: Run, classes: list[str]) -> CaptionedVideos | None:
    """The pairs to evaluate on; None if none are set."""
    data = run.data
    if run.video_text.task == "classification":
        found = evaluation_videos(run, classes, run.problem_type)
        return None if found is None else _labelled(found.records, found.messages)
    source = evaluation_source(data)
    split = (data.eval_split_name,) if data.eval_split_name else EVALUATION
    if source is None and not (data.dataset_name and data.eval_split_name):
        return None
    return _captions(run, source, split)


def _captions(run: Run, source: str | None, split: tuple[str, ...]) -> CaptionedVideos:
    reading = Reading(run.data.data_root, split=split, video_column=run.data.video_column_name)
    videos = read_captions(source, run.data, reading, run.video_text.caption_column_name)
    if run.video_text.task != "pretraining":
        whole = [pair for pair in videos.pairs if pair.text and pair.video >= 0]
        if not whole:
            raise ValueError(f"task={run.video_text.task} needs videos with captions, and {source} has none.")
        if len(whole) < len(videos.pairs):
            videos.messages.append(f"{len(videos.pairs) - len(whole)} pairs without video or caption are left out")
        videos.pairs = whole
    return videos


def _labelled(records, messages: list[str]) -> CaptionedVideos:
    return CaptionedVideos(records, [Pair(number, "") for number in range(len(records))], list(messages))


def processor_of(run: Run, videos: CaptionedVideos, stored: FeatureFolder | None) -> VideoBertProcessor:
    """The processor of the checkpoint, or a new one of a tokenizer and the frames of the backbone or of the features.

    Raises:
        ValueError: a setting contradicts the processor of the checkpoint or of the features.
    """
    settings = run.video_text
    if run.model.checkpoint:
        processor = VideoBertProcessor.from_pretrained(run.model.checkpoint)
        if settings.backbone:  # of a checkpoint that has none, see `model_of`
            processor.image_processor = image_processor_of(run)
            return processor
        check_given(run, processor, "the checkpoint has")
        return processor
    name = settings.tokenizer or settings.text_checkpoint
    tokenizer = AutoTokenizer.from_pretrained(name) if name else word_tokenizer(pair.text for pair in videos.pairs)
    images = image_processor_of(run) if settings.backbone else VideoMAEV2ImageProcessor()
    if stored is not None:
        images = VideoMAEV2ImageProcessor.from_dict({**stored.header["processor"], "num_clips": 1, "num_crops": 1})
    processor = VideoBertProcessor(
        images,
        tokenizer,
        segment_stride=settings.segment_stride,
        max_segments=settings.max_segments,
        max_length=settings.max_length,
    )
    if stored is not None:
        check_given(run, processor, "the features are of")
    return processor


def check_given(run: Run, processor: VideoBertProcessor, what: str) -> None:
    """Raises ValueError if a setting contradicts a processor that is not made of the settings."""
    given = {**vars(run.clips), **vars(run.video_text)}
    for name in sorted(run.given & _OF_PROCESSOR.keys()):
        own = _OF_PROCESSOR[name](processor)
        if given[name] not in (None, own):
            raise ValueError(f"{name}={given[name]}, but {what} {own}; leave it out.")


def image_processor_of(run: Run) -> VideoMAEV2ImageProcessor:
    """The processor of the frames of segments, as the backbone takes them."""
    settings = run.video_text
    config = VideoMAEV2Config.from_pretrained(settings.backbone, **_normalization(settings.backbone))
    frames = settings.segment_frames or (_FRAMES_OF_IMAGES if config.num_frames == 1 else config.num_frames)
    given = ("sampling_rate", "fps", "square_pixels", "max_pixels", "video_backend")
    options = {key: getattr(run.clips, key) for key in given}
    return checkpoint_processor(settings.backbone, config, num_clips=1, num_crops=1, num_frames=frames, **options)


def _normalization(backbone: str) -> dict:
    """The fields of the normalisation of a backbone, which is that of its processor, as everywhere."""
    mean, std = stated_normalization(backbone, VideoMAEV2Config.from_pretrained(backbone))
    return {"image_mean": mean, "image_std": std}


def model_of(
    run: Run, processor: VideoBertProcessor, classes: list[str], stored: FeatureFolder | None
) -> VideoBertPreTrainedModel:
    """The model that a run starts from, with its backbone, or for the features of a folder."""
    settings, fields = run.video_text, dict(run.config_overrides)
    if classes:
        fields["id2label"] = dict(enumerate(classes))
        fields["label2id"] = {name: number for number, name in enumerate(classes)}
        fields["problem_type"] = run.problem_type
    model = _opened_model(run, fields) if run.model.checkpoint else _new_model(run, processor, fields, stored)
    if settings.backbone:
        model.video_bert.load_backbone(settings.backbone, **_normalization(settings.backbone))
    report(run.training, [f"new parts, untrained: {', '.join(model.new_parts)}"] * bool(model.new_parts))
    return model


def _opened_model(run: Run, fields: dict) -> VideoBertPreTrainedModel:
    settings = run.video_text
    if settings.text_checkpoint or settings.tokenizer:
        raise ValueError(
            "checkpoint has a text side and a tokenizer of its own; leave out text_checkpoint and tokenizer."
        )
    options = {"ignore_mismatched_sizes": True} if settings.task == "classification" else {}
    model = MODELS[settings.task].from_pretrained(run.model.checkpoint, **fields, **options)
    for name in ("backbone", "features"):
        if getattr(settings, name) and model.video_bert.backbone is not None:
            raise ValueError(f"checkpoint has a backbone of its own, which computes its features; leave out {name}.")
    return model


def _new_model(
    run: Run, processor: VideoBertProcessor, fields: dict, stored: FeatureFolder | None
) -> VideoBertPreTrainedModel:
    settings, model_class = run.video_text, MODELS[run.video_text.task]
    words = visual_words_of(settings.visual_words_from, stored)
    fields |= VideoBertConfig.token_fields(processor.tokenizer)
    if words is not None:
        fields.setdefault("visual_words", len(words.centroids))
    if settings.backbone:
        fields["feature_size"] = VideoMAEV2Config.from_pretrained(settings.backbone).hidden_size
    if stored is not None:
        fields["feature_size"] = stored.header["shape"][-1]
    if settings.text_checkpoint:
        model = model_class.from_bert(settings.text_checkpoint, **fields)
    else:
        model = model_class(VideoBertConfig(**fields))
    most = model.config.max_position_embeddings
    if processor.max_segments + processor.max_length > most:  # of a checkpoint's, each step says it
        raise ValueError(
            f"max_segments={processor.max_segments} and max_length={processor.max_length} are together more than "
            f"max_position_embeddings={most}; lower one of them."
        )
    if words is not None:
        model.video_bert.set_visual_words(words)
    return model


def visual_words_of(folder: str | None, stored: FeatureFolder | None) -> VisualWords | None:
    """The visual words of a folder; raises ValueError if they were made of other features than the stored ones."""
    if not folder:
        return None
    words = VisualWords.load(folder)
    made_of = words.origin.get("of", {}).get("key")
    if stored is not None and made_of not in (None, stored.header["key"]):
        raise ValueError(
            f"The visual words of {folder} were made of other features than those of {stored.path}; make them of "
            f"these: videomae visual-words {stored.path} OUT"
        )
    return words


def segments_of(
    run: Run,
    model: VideoBertPreTrainedModel,
    processor: VideoBertProcessor,
    videos: CaptionedVideos,
    stored: FeatureFolder | None,
) -> Callable[[int], torch.Tensor]:
    """The segments of the videos: features of a folder, features of the frozen backbone, cached, or pixels for joint
    training."""
    args, config = run.training, model.config
    if stored is not None and len(videos.records):
        if stored.header["shape"][-1] != config.feature_size:
            raise ValueError(
                f"{stored.path} has features of {stored.header['shape'][-1]} values, but the checkpoint takes "
                f"feature_size={config.feature_size}."
            )
        segments = StoredSegments(stored, videos.records, config.tokens_per_segment)
        missing = f"{count(len(segments.missing), 'video')} without features in {stored.path}: "
        report(args, [missing + several(segments.missing)] * bool(segments.missing))
        return segments
    reader = SegmentReader(videos.records, processor, run.clips.frame_template)
    if len(videos.records) == 0:
        return reader
    if model.video_bert.backbone is None:
        raise ValueError("There is no model for the features of the videos; set --backbone or --features.")
    if not config.freeze_backbone:
        return reader
    folder = run.video_text.feature_cache_dir or Path(args.output_dir, "features")
    with PartialState().main_process_first():
        return cached_segments(model.video_bert.backbone, reader, config.tokens_per_segment, folder)


def standardise(run: Run, model: VideoBertPreTrainedModel, segments: Callable, number: int) -> None:
    """Sets the mean and standard deviation of the features, unless the checkpoint or visual words have them."""
    settings = run.video_text
    is_new = settings.backbone or (settings.features and not run.model.checkpoint)
    if not is_new or settings.visual_words_from or number == 0:
        return
    if isinstance(segments, SegmentReader):
        some = torch.randperm(number, generator=torch.Generator().manual_seed(run.training.seed))[:_VIDEOS_OF_MOMENTS]
        places = model.config.tokens_per_segment
        segments = computed_segments(model.video_bert.backbone, segments, some.tolist(), places)
    mean, std = segments.moments()
    model.video_bert.set_visual_words(VisualWords(torch.zeros(0, len(mean)), mean, std))


def main(arguments: list[str]) -> None:
    execute(VERB, videobert, arguments)

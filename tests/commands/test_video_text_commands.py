"""VideoBERT at the command line: predict, caption and search by text, and what the other commands say about it."""

import csv
import json
import re
import shutil
from pathlib import Path

import numpy as np
import pytest
from helpers.commands import command_in
from helpers.tiny_models import build
from helpers.tiny_videobert import SEP, build_videobert, save_videobert
from PIL import Image

from videomae_hf import (
    VideoBertForCaptioning,
    VideoBertForPreTraining,
    VideoBertForVideoClassification,
    VideoMAEV2ImageProcessor,
    VideoMAEV2Model,
)
from videomae_hf.commands.caption import subtitles
from videomae_hf.data.sources.synthetic import synthesise_video, write_video
from videomae_hf.inference.feature_folder import FeatureFolder
from videomae_hf.inference.inputs import input_of
from videomae_hf.inference.video_text import load_video_text, parts_of
from videomae_hf.inference.windows import Windows
from videomae_hf.models.modeling_videobert_tasks import VideoBertForRetrieval


VIDEOS = ("a.mp4", "b.mp4", "c.mp4")


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """An encoder, models of its features that name it, and three videos of 2, 2 and 5 segments of 8 frames."""
    folder = tmp_path_factory.mktemp("commands")
    size = {"size": {"shortest_edge": 32}, "crop_size": {"height": 32, "width": 32}}
    build(VideoMAEV2Model).save_pretrained(folder / "encoder")
    VideoMAEV2ImageProcessor(num_frames=4, sampling_rate=2, **size).save_pretrained(folder / "encoder")
    fields = {"vocab_size": 14, "separator_token_id": 13, "feature_size": 24}
    fields["feature_backbone"] = str(folder / "encoder")
    names = {"id2label": {0: "jump", 1: "run"}, "label2id": {"jump": 0, "run": 1}}
    for name, model_class, more in (
        ("pretrained", VideoBertForPreTraining, {}),
        ("captioning", VideoBertForCaptioning, {}),
        ("classes", VideoBertForVideoClassification, names),
    ):
        model = build_videobert(model_class, **fields, **more)
        if model_class is VideoBertForCaptioning:  # captions with words
            model.cls.predictions.bias.data[SEP] -= 4
        save_videobert(model, folder / name, sampling_rate=2, max_segments=4)
    (folder / "videos").mkdir()
    for number, (name, frames) in enumerate(zip(VIDEOS, (16, 20, 40))):
        video = synthesise_video(("left", "clockwise", "up")[number], np.random.default_rng(number), 48, frames)
        write_video(folder / "videos" / name, video)
        for label in ("jump", "run"):
            (folder / "labelled" / label).mkdir(parents=True, exist_ok=True)
            shutil.copyfile(folder / "videos" / name, folder / "labelled" / label / name)
    return folder


@pytest.fixture
def run(place, capsys):
    return command_in(place, capsys, after="--device cpu")


def parts(place, model_class, windows=None):
    """The model, and the parts of each video by name."""
    folder = {VideoBertForCaptioning: "captioning", VideoBertForVideoClassification: "classes"}
    model = load_video_text(place / folder.get(model_class, "pretrained"), model_class, device="cpu")
    found = {}
    for name in VIDEOS:
        path = str(place / "videos" / name)
        found[path] = parts_of(model.segments(input_of(path), every=windows is not None), windows, path)
    return model, found


def rows_of(path) -> list[dict]:
    with open(path, newline="") as file:
        return list(csv.DictReader(file))


# predict


def test_a_prompt_is_filled(place, run, tmp_path):
    line = f"predict PLACE/pretrained PLACE/videos --prompt 'a [MASK] moves [MASK]' --top_k 2 --csv {tmp_path}/a.csv"
    status, out, err = run(f"{line} --json {tmp_path}/a.json")
    assert status == 0, err
    model, videos = parts(place, VideoBertForCaptioning)
    model = load_video_text(place / "pretrained", VideoBertForCaptioning, device="cpu")
    expected = {path: model.fill("a [MASK] moves [MASK]", some, 2)[0] for path, some in videos.items()}
    rows = rows_of(tmp_path / "a.csv")
    assert len(rows) == 3 * 2 * 2 and list(rows[0])[:5] == ["path", "mask", "rank", "word", "probability"]
    for path, places in expected.items():
        mine = [row for row in rows if row["path"] == path]
        assert [(row["mask"], row["rank"], row["word"]) for row in mine] == [
            (str(mask), str(rank), word)
            for mask, place in enumerate(places, 1)
            for rank, (word, _) in enumerate(place, 1)
        ]
        word, probability = places[0][0]
        assert float(mine[0]["probability"]) == pytest.approx(probability, rel=1e-5)
        assert f"{path}: {word} {probability:.1%}" in out
    content = [json.loads(text) for text in (tmp_path / "a.json").read_text().splitlines()]
    assert [one["path"] for one in content] == [str(place / "videos" / name) for name in VIDEOS]
    assert content[0]["masks"][1][0]["word"] == expected[content[0]["path"]][1][0][0]
    status, out, err = run(line)
    assert status == 0 and out == "" and "3 videos of 3 skipped: already in" in err
    status, out, err = run(line.replace("moves [MASK]", "[MASK]"))
    assert status == 1 and "has predictions of" in err and "give another file" in err


def test_captions_are_ranked(place, run, tmp_path):
    (tmp_path / "captions.txt").write_text("a red ball moves left\n\na blue cube\na red ball moves left\n")
    line = (
        f"predict PLACE/pretrained PLACE/videos --captions {tmp_path}/captions.txt 'green cube' --csv {tmp_path}/a.csv"
    )
    status, out, err = run(line)
    assert status == 0 and "'green cube': 1 of 2 tokens are unknown to this model" in err
    model, videos = parts(place, VideoBertForRetrieval)
    captions = ["a red ball moves left", "a blue cube", "green cube"]
    rows = rows_of(tmp_path / "a.csv")
    for path, some in videos.items():
        scores = dict(zip(captions, model.scores(captions, some)[0].tolist()))
        ranked = sorted(captions, key=lambda caption: -scores[caption])
        mine = [row for row in rows if row["path"] == path]
        assert [(row["rank"], row["caption"]) for row in mine] == [(str(n), one) for n, one in enumerate(ranked, 1)]
        assert [float(row["score"]) for row in mine] == pytest.approx([scores[one] for one in ranked], rel=1e-5)
        assert f"  {scores[ranked[0]]:9.4f}  {ranked[0]}" in out


def test_classes(place, run, tmp_path):
    status, out, err = run(f"predict PLACE/classes PLACE/videos/a.mp4 --csv {tmp_path}/a.csv")
    assert status == 0, err
    model, videos = parts(place, VideoBertForVideoClassification)
    path = str(place / "videos" / "a.mp4")
    probabilities = model.logits(videos[path])[0].softmax(-1)
    best = ["jump", "run"][int(probabilities.argmax())]
    assert out.startswith(f"{path}: {best} {probabilities.max():.1%}")
    assert rows_of(tmp_path / "a.csv")[0]["predicted"] == best


def test_broken_videos_are_named(place, run, tmp_path):
    (tmp_path / "broken.mp4").write_bytes(b"no video")
    status, out, err = run(f"predict PLACE/pretrained PLACE/videos/a.mp4 {tmp_path}/broken.mp4 --prompt '[MASK]'")
    assert status == 1 and out.count("\n") == 1 and f"failed: {tmp_path}/broken.mp4" in err
    assert run(f"predict PLACE/pretrained {tmp_path}/broken.mp4 --prompt '[MASK]'")[0] == 2


# caption


def test_captions(place, run, tmp_path):
    status, out, err = run(f"caption PLACE/captioning PLACE/videos --max_new_tokens 6 --csv {tmp_path}/a.csv")
    assert status == 0, err
    model, videos = parts(place, VideoBertForCaptioning)
    expected = {path: model.captions(some, max_new_tokens=6)[0] for path, some in videos.items()}
    assert all(expected.values())
    assert out == "".join(f"{path}: {caption}\n" for path, caption in expected.items())
    rows = rows_of(tmp_path / "a.csv")
    assert [(row["path"], row["caption"]) for row in rows] == list(expected.items())
    assert [(row["start"], row["end"]) for row in rows] == [("0.000", "0.640"), ("0.000", "0.640"), ("0.000", "1.600")]


def test_a_pretrained_model_writes_captions_with_a_remark(place, run):
    status, out, err = run("caption PLACE/pretrained PLACE/videos/a.mp4 --num_beams 2 --max_new_tokens 3")
    assert status == 0 and out.startswith(f"{place}/videos/a.mp4:")
    assert "was pretrained to fill masked words; finetune it to write captions" in err


def test_captions_of_moments_are_subtitles(place, run, tmp_path):
    line = "caption PLACE/captioning PLACE/videos/c.mp4 --window 16f --max_new_tokens 4 --sample --seed 5"
    status, out, err = run(f"{line} --json {tmp_path}/a.json --srt {tmp_path}/srt")
    assert status == 0, err
    model, videos = parts(place, VideoBertForCaptioning, Windows(16, 16, "f"))
    path = str(place / "videos" / "c.mp4")
    captions = model.captions(videos[path], max_new_tokens=4, do_sample=True, seed=5)
    assert len(captions) == 3 and all(captions)
    text = (tmp_path / "srt" / "c.srt").read_text().split("\n\n")
    assert text[0] == f"1\n00:00:00,000 --> 00:00:00,640\n{captions[0]}"
    assert text[2] == f"3\n00:00:01,280 --> 00:00:01,600\n{captions[2]}\n"
    content = json.loads((tmp_path / "a.json").read_text())
    assert content["captions"][1] == {"start": 0.64, "end": 1.28, "caption": captions[1]}
    assert f"       0.64 to      1.28  {captions[1]}" in out
    assert subtitles([(0, 1, ""), (3661.5, 3662, "a")]) == "1\n01:01:01,500 --> 01:01:02,000\na\n"


# search


def test_search_by_text(place, run, tmp_path):
    keep = f"--features {tmp_path}/segments"
    status, out, err = run(f"search PLACE/pretrained PLACE/videos --text 'a red ball' --csv {tmp_path}/a.csv {keep}")
    assert status == 0, err
    model, videos = parts(place, VideoBertForRetrieval)
    scores = {path: model.scores(["a red ball"], some)[0, 0].item() for path, some in videos.items()}
    ranked = sorted(scores, key=lambda path: -scores[path])
    rows = rows_of(tmp_path / "a.csv")
    assert [(row["rank"], row["path"]) for row in rows] == [
        (str(number), path) for number, path in enumerate(ranked, 1)
    ]
    assert [float(row["score"]) for row in rows] == pytest.approx([scores[path] for path in ranked], rel=1e-5)
    assert out.splitlines()[0].endswith(ranked[0])
    records = FeatureFolder(tmp_path / "segments").records
    shapes = {Path(name).name: record["shape"] for name, record in records.items()}
    assert shapes == {"a.mp4": [2, 1, 24], "b.mp4": [2, 1, 24], "c.mp4": [4, 1, 24]}  # of five, max_segments
    line = f"search PLACE/pretrained PLACE/videos --text 'blue cube' --picture {tmp_path}/a.png --top_k 2 {keep}"
    status, out, err = run(line)
    assert status == 0 and len(out.splitlines()) == 2 and "cannot be read" not in err
    assert Image.open(tmp_path / "a.png").size[0] > 1000
    status, out, err = run(f"search PLACE/pretrained PLACE/videos --text a --window 0.4 {keep}")
    assert status == 1 and "max_segments=4, not None" in err and "give another folder" in err


def test_moments_by_text_and_stored_features(place, run, tmp_path):
    status, out, err = run("search PLACE/pretrained PLACE/videos --text 'a red ball' --window 16f --stride 8f")
    assert status == 0, err
    model, videos = parts(place, VideoBertForRetrieval, Windows(16, 8, "f"))
    scored = [(model.scores(["a red ball"], [part])[0, 0].item(), path, part) for path, some in videos.items()
              for part in some]  # fmt: skip
    best = max(scored, key=lambda one: one[0])
    first = f"{best[0]:9.4f}  {best[2].start:9.2f} to {best[2].end:9.2f}  {best[1]}"
    assert out.splitlines()[0] == first
    found = [re.split(r" +to +|  +", line.strip()) for line in out.splitlines()]
    for number, (_, start, end, path) in enumerate(found):  # of overlapping moments the best alone
        others = [row for row in found[:number] if row[3] == path]
        assert not any(float(start) < float(row[2]) and float(row[1]) < float(end) for row in others)
    status, _, err = run(f"extract PLACE/encoder PLACE/videos {tmp_path}/rows --window 8f --stride 8f")
    assert status == 0, err
    status, out, err = run(f"search PLACE/pretrained {tmp_path}/rows --text 'a red ball' --window 16f --stride 8f")
    assert status == 0 and out.splitlines()[0] == first, err
    status, out, err = run(f"search PLACE/pretrained {tmp_path}/rows --text 'a red ball' --features {tmp_path}/b")
    assert status == 1 and "--features is for videos" in err
    status, _, err = run(f"extract PLACE/encoder PLACE/videos {tmp_path}/maps --features maps")
    status, _, err = run(f"search PLACE/pretrained {tmp_path}/maps --text 'a red ball'")
    assert status == 1 and "has maps features" in err


# what is refused


@pytest.mark.parametrize(
    "line, message",
    [
        ("predict PLACE/pretrained PLACE/videos", "has no classes: ask it with --prompt or --captions"),
        (
            "predict PLACE/captioning PLACE/videos --captions a",
            "has no trained match_head: it is a VideoBertForCaptioning",
        ),
        ("predict PLACE/pretrained PLACE/videos --prompt 'a ball'", "has no [MASK]"),
        ("predict PLACE/pretrained PLACE/videos --prompt '[MASK]' --captions a", "ask one at a time"),
        (
            "predict PLACE/pretrained PLACE/videos --prompt '[MASK]' --timeline",
            "takes whole videos: leave --timeline out",
        ),
        ("predict PLACE/pretrained camera:0 --prompt '[MASK]'", "has no end"),
        ("predict PLACE/encoder PLACE/videos --prompt '[MASK]'", "is not a VideoBERT: leave --prompt out"),
        ("caption PLACE/encoder PLACE/videos", "is not a VideoBERT, so that it writes no captions"),
        ("caption PLACE/classes PLACE/videos", "has no trained cls: it is a VideoBertForVideoClassification"),
        ("caption PLACE/captioning PLACE/videos --stride 2", "--stride 2 needs --window"),
        ("caption PLACE/captioning PLACE/videos --max_new_tokens 90", "is more than 18, the most of this model"),
        ("search PLACE/encoder PLACE/videos --text a", "is not a VideoBERT, which --text needs"),
        ("search PLACE/pretrained PLACE/videos/a.mp4", "finds videos by words: give --text"),
        ("search PLACE/videos PLACE/videos/a.mp4 --window 2", "--window is for a search by --text"),
        ("search PLACE/pretrained PLACE/videos --text ' '", "has no words"),
        (
            "extract PLACE/pretrained PLACE/videos PLACE/out",
            "has model_type 'videobert'; `videomae predict`, `caption`",
        ),
        ("benchmark PLACE/pretrained", "is not a VideoMAE checkpoint"),
    ],
)
def test_refusals(run, line, message):
    status, _, err = run(line)
    assert status == 1 and message in err and "Traceback" not in err


@pytest.mark.parametrize(
    "line",
    [
        "evaluate --checkpoint PLACE/pretrained --eval_data PLACE/labelled",
        "finetune --checkpoint PLACE/pretrained --train_data PLACE/labelled --output_dir PLACE/out",
        "pretrain --checkpoint PLACE/pretrained --train_data PLACE/videos --output_dir PLACE/out",
        "probe --checkpoint PLACE/pretrained --train_data PLACE/labelled --eval_data PLACE/labelled",
        "visualize PLACE/pretrained PLACE/videos --output_dir PLACE/pictures",
        "export PLACE/pretrained PLACE/exported --to onnx",
        "convert PLACE/pretrained PLACE/converted",
    ],
)
def test_other_commands_refuse_it_in_one_line(place, capsys, line):
    status, _, err = command_in(place, capsys)(line)
    assert status in (1, 2) and "Traceback" not in err
    assert "is not a VideoMAE checkpoint: its configuration has model_type 'videobert'" in err, err

# Copyright 2026 The videomae_hf authors. Licensed under the Apache License, Version 2.0.
"""Scores a VideoBERT of the demo on combinations of words that it was never trained on, one attribute at a time.

    python examples/experiments/videobert_attributes.py demo/videobert/pretrained --test demo/videobert/data/test \
        --name "frozen backbone" --captioner demo/videobert/captioner --out demo/videobert/results.jsonl

Random captions differ in colour and background, which a model can tell without any motion. So a caption is compared
with those that differ from it in one word. `--conditions` takes something from the videos: `text` hides them, `still`
shows the first frame again and again, `repeated` the first segment, and `shuffled` permutes the segments of each. A
segment of several frames shows motion by itself, so that only `text` and `still` must bring motion down to chance.
"""

import argparse
import base64
import html
import io
import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch

from videomae_hf import VideoBertForCaptioning, VideoBertForPreTraining, VideoBertForRetrieval, VideoBertProcessor
from videomae_hf.data.captions import read_captions
from videomae_hf.data.sources.folders_and_lists import Reading
from videomae_hf.data.sources.synthetic_captions import ATTRIBUTES, caption_of, words_of
from videomae_hf.evaluation.segment_cache import SegmentReader, computed_segments
from videomae_hf.evaluation.strips import tile_grid
from videomae_hf.evaluation.video_text import exact_match, masked_word_accuracy
from videomae_hf.settings.groups import DataSettings


CONDITIONS = ("video", "text", "still", "shuffled", "repeated")
_CHUNK = 64  # videos that are scored at once


class StillReader(SegmentReader):
    """Segments in which every frame is the first one of the video."""

    def __call__(self, number: int) -> torch.Tensor:
        segments = super().__call__(number)  # (S, T, C, H, W)
        return segments[:1, :1].expand_as(segments)


def features_of(
    model, processor: VideoBertProcessor, test: Path, reader_class: type = SegmentReader
) -> tuple[torch.Tensor, list[str]]:
    """The features of the test videos, all of the same length, float32 (V, S, P, F), and their captions."""
    videos = read_captions(str(test / "captions.csv"), DataSettings(), Reading(), None)
    reader, places = reader_class(videos.records, processor), model.config.tokens_per_segment
    found = computed_segments(model.video_bert.backbone, reader, range(len(videos.records)), places)
    features = torch.stack([found(number) for number in range(len(videos.records))])
    return features, [pair.text for pair in videos.pairs]


def changed(features: torch.Tensor, condition: str, generator: torch.Generator) -> tuple[torch.Tensor, torch.Tensor]:
    """Features (V, S, P, F) under a condition, and their mask (V, S)."""
    mask = torch.full(features.shape[:2], condition != "text")
    if condition == "shuffled":
        order = torch.rand(features.shape[:2], generator=generator).argsort(dim=1)
        features = features.gather(1, order[..., None, None].expand_as(features))
    elif condition == "repeated":
        features = features[:, :1].expand_as(features)
    return features, mask


def contrasts(caption: str, name: str) -> list[str]:
    """The caption and those that differ in one attribute, in the order of its words."""
    words = words_of(caption)
    return [caption_of({**words, name: other}) for other in ATTRIBUTES[name]]


@torch.inference_mode()
def contrast_scores(model, processor, features, mask, captions: list[str]) -> dict[str, float]:
    """Of each attribute the fraction of contrast captions that score less than the true one, and recall@1."""
    found = {}
    for name, words in ATTRIBUTES.items():
        texts = processor.encode_texts([one for caption in captions for one in contrasts(caption, name)], "pair")
        rows = torch.arange(len(captions)).repeat_interleave(len(words))
        logits = [
            model(
                texts["input_ids"][part], texts["attention_mask"][part], features[rows[part]], mask[rows[part]]
            ).logits[:, 0]
            for part in torch.arange(len(rows)).split(_CHUNK * 8)
        ]
        scores = torch.cat(logits).view(len(captions), len(words)).numpy()  # (V, W)
        true = np.array([words.index(words_of(caption)[name]) for caption in captions])
        own = scores[np.arange(len(true)), true][:, None]
        others = np.arange(len(words)) != true[:, None]
        better, equal = ((own > scores) & others).sum(), ((own == scores) & others).sum()
        found[f"contrast_{name}"] = float((better + equal / 2) / others.sum())
        found[f"recall1_{name}"] = float((scores.argmax(axis=1) == true).mean())
    return found


@torch.inference_mode()
def masked_words(model, processor, features, mask, captions: list[str]) -> tuple[dict[str, float], list[str]]:
    """The accuracy of masked words of each attribute, and the first captions with what was filled in."""
    predicted, true, classes = [], [], []
    for name in ATTRIBUTES:
        masked = [caption_of({**words_of(caption), name: processor.tokenizer.mask_token}) for caption in captions]
        texts = processor.encode_texts(masked, "pair")
        outputs = model(**texts, video_features=features, video_mask=mask)
        places = texts["input_ids"] == processor.tokenizer.mask_token_id
        predicted += processor.tokenizer.convert_ids_to_tokens(outputs.logits[places].argmax(dim=-1).tolist())
        true += [words_of(caption)[name] for caption in captions]
        classes += [name] * len(captions)
    scores = masked_word_accuracy(predicted, true, classes)
    return {f"masked_{name}": score for name, score in scores.items()}, predicted


def captions_of(model, processor, features, mask, length: int = 10) -> list[str]:
    """A caption for each video, generated greedily."""
    ids = model.generate(video_features=features, video_mask=mask, max_new_tokens=length)
    return processor.tokenizer.batch_decode(ids, skip_special_tokens=True)


@torch.inference_mode()
def retrieved(matcher, processor, features, mask, captions: list[str], number: int) -> torch.Tensor:
    """Scores of evenly spread videos with their captions, (number, number)."""
    some = torch.linspace(0, len(captions) - 1, number).long()
    texts = processor.encode_texts([captions[one] for one in some], "pair")
    return matcher.scores(**texts, video_features=features[some], video_mask=mask[some])


def picture(video: torch.Tensor) -> str:
    """Some frames of segments (S, T, C, H, W) as an image of a page."""
    rows = video[:: max(len(video) // 4, 1), 0]  # (N, C, H, W)
    rows = (rows - rows.min()) / (rows.max() - rows.min()).clamp(min=1e-6)
    file = io.BytesIO()
    tile_grid(rows[None], smallest_tile=64).save(file, "PNG")
    return f'<img src="data:image/png;base64,{base64.b64encode(file.getvalue()).decode()}">'


def page(lines: list[dict], found: dict, processor: VideoBertProcessor, test: Path, number: int = 8) -> str:
    """A self-contained page: the table, a grid of retrieval, filled sentences and captions under thumbnails."""
    videos = read_captions(str(test / "captions.csv"), DataSettings(), Reading(), None)
    some = torch.linspace(0, len(videos) - 1, number).long().tolist()
    reader = SegmentReader(videos.records, processor)
    pictures = [picture(reader(one)) for one in some]
    names = [name for name in lines[0] if name not in ("name", "condition", "seed", "videos")]
    rows = "".join(
        f"<tr><th>{html.escape(line['name'])}, {line['condition']}</th>"
        + "".join(f"<td>{line[name]:.0%}</td>" if name in line else "<td></td>" for name in names)
        + "</tr>"
        for line in lines
    )
    head = "".join(f"<th>{name.replace('_', ' ')}</th>" for name in names)
    grid = "<tr><th></th>" + "".join(f"<th>{html.escape(videos.pairs[one].text)}</th>" for one in some) + "</tr>"
    for place, scores in enumerate(found["scores"].softmax(dim=1)):
        cells = "".join(f'<td style="background: rgba(60,140,60,{score:.2f})">{score:.2f}</td>' for score in scores)
        grid += f"<tr><th>{pictures[place]}</th>{cells}</tr>"
    cards = ""
    for place, one in enumerate(some):
        filled = ", ".join(f"{name}: {word}" for name, word in zip(ATTRIBUTES, found["filled"][one]))
        written = [f"written: {found['written'][one]}"] if "written" in found else []
        texts = (videos.pairs[one].text, *written, f"filled: {filled}")
        cards += f"<figure>{pictures[place]}<figcaption>{'<br>'.join(map(html.escape, texts))}</figcaption></figure>"
    style = "body{font:14px sans-serif} td,th{padding:2px 6px;text-align:left;font-weight:normal} img{height:48px}"
    return (
        f'<!doctype html><meta charset="utf-8"><title>VideoBERT</title><style>{style}</style><h1>VideoBERT</h1>'
        f"<p>Combinations of words that were not in the training. {len(videos)} videos.</p><h2>Scores</h2>"
        f"<table><tr><th></th>{head}</tr>{rows}</table><h2>Retrieval</h2><p>Softmax of the scores of each video.</p>"
        f"<table>{grid}</table><h2>Captions and filled words</h2>{cards}"
    )


def condition_scores(
    checkpoint: Path, test: Path, conditions: Sequence[str], captioner: Path | None = None, seed: int = 0
) -> tuple[dict[str, dict[str, float]], dict]:
    """The scores of a pretrained VideoBERT on the test videos under each condition, and examples for a page.

    Args:
        checkpoint: the pretrained model.
        test: folder of the test videos and their captions.
        conditions: some of `CONDITIONS`.
        captioner: its finetuned captioner, whose backbone is frozen.
        seed: seed of shuffled segments.
    """
    processor = VideoBertProcessor.from_pretrained(checkpoint)
    model = VideoBertForPreTraining.from_pretrained(checkpoint).eval()
    matcher = VideoBertForRetrieval.from_pretrained(checkpoint).eval()
    writer = VideoBertForCaptioning.from_pretrained(captioner).eval() if captioner else None
    features, captions = features_of(model, processor, test)
    still = features_of(model, processor, test, StillReader)[0] if "still" in conditions else features
    examples = {"scores": retrieved(matcher, processor, features, torch.ones(features.shape[:2]).bool(), captions, 8)}
    found = {}
    for condition in conditions:
        generator = torch.Generator().manual_seed(seed)
        shown, mask = changed(still if condition == "still" else features, condition, generator)
        scores = {"videos": len(captions), **contrast_scores(matcher, processor, shown, mask, captions)}
        if writer is not None:
            written = captions_of(writer, processor, shown, mask)
            scores["captions_exact"] = exact_match(written, [[one] for one in captions])
            examples.setdefault("written", written)
        words, predicted = masked_words(model, processor, shown, mask, captions)
        examples.setdefault("filled", np.reshape(predicted, (len(ATTRIBUTES), -1)).T.tolist())
        found[condition] = {name: round(value, 4) for name, value in {**scores, **words}.items()}
    return found, examples


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("checkpoint", type=Path, help="a pretrained VideoBERT")
    parser.add_argument("--test", type=Path, required=True, help="folder of test videos with captions.csv")
    parser.add_argument("--captioner", type=Path, help="its finetuned captioner")
    parser.add_argument("--conditions", choices=CONDITIONS, nargs="+", default=["video"])
    parser.add_argument("--name", required=True, help="name of the rows")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, required=True, help="file to which a JSON line is added for each condition")
    parser.add_argument("--report", type=Path, help="page to write, with all lines of --out")
    args = parser.parse_args()
    scores, examples = condition_scores(args.checkpoint, args.test, args.conditions, args.captioner, args.seed)
    for condition, found in scores.items():
        line = {"name": args.name, "condition": condition, "seed": args.seed, **found}
        with open(args.out, "a", encoding="utf-8") as file:
            file.write(json.dumps(line) + "\n")
        print(json.dumps(line), flush=True)
    if args.report:
        processor = VideoBertProcessor.from_pretrained(args.checkpoint)
        lines = [json.loads(line) for line in args.out.read_text(encoding="utf-8").splitlines()]
        args.report.write_text(page(lines, examples, processor, args.test), encoding="utf-8")
        print(f"Report: {args.report}")


if __name__ == "__main__":
    main()

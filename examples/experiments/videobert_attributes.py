# Copyright 2026 The videomae_hf authors. Licensed under the Apache License, Version 2.0.
"""Scores a VideoBERT of the demo on combinations of words that it was never trained on, one attribute at a time.

    python examples/experiments/videobert_attributes.py demo/videobert/pretrained --test demo/videobert/data/test \
        --name "frozen backbone" --captioner demo/videobert/captioner --out demo/videobert/results.jsonl

Random captions differ in colour and background, which a model can tell without any motion. So a caption is compared
with those that differ from it in one word. `--condition` takes something from the videos: `text` hides them, `shuffled`
permutes the segments of each, `repeated` shows the same segment again and again.
"""

import argparse
import json
from pathlib import Path

import numpy as np
import torch

from videomae_hf import VideoBertForCaptioning, VideoBertForPreTraining, VideoBertForRetrieval, VideoBertProcessor
from videomae_hf.data.captions import read_captions
from videomae_hf.data.sources.folders_and_lists import Reading
from videomae_hf.data.sources.synthetic_captions import ATTRIBUTES, caption_of, words_of
from videomae_hf.evaluation.segment_cache import SegmentReader, computed_segments
from videomae_hf.evaluation.video_text import exact_match, masked_word_accuracy
from videomae_hf.settings.groups import DataSettings


CONDITIONS = ("video", "text", "shuffled", "repeated")
_CHUNK = 64  # videos that are scored at once


def features_of(model, processor: VideoBertProcessor, test: Path) -> tuple[torch.Tensor, list[str]]:
    """The features of the test videos, all of the same length, float32 (V, S, P, F), and their captions."""
    videos = read_captions(str(test / "captions.csv"), DataSettings(), Reading(), None)
    reader, places = SegmentReader(videos.records, processor), model.config.tokens_per_segment
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


def scored(args: argparse.Namespace) -> tuple[dict, dict]:
    """The scores of a checkpoint under a condition, and examples for the report."""
    processor = VideoBertProcessor.from_pretrained(args.checkpoint)
    model = VideoBertForPreTraining.from_pretrained(args.checkpoint).eval()
    matcher = VideoBertForRetrieval.from_pretrained(args.retriever or args.checkpoint).eval()
    features, captions = features_of(model, processor, args.test)
    shown, mask = changed(features, args.condition, torch.Generator().manual_seed(args.seed))
    scores = contrast_scores(matcher, processor, shown, mask, captions)
    words, predicted = masked_words(model, processor, shown, mask, captions)
    examples = {"captions": captions, "filled": np.reshape(predicted, (len(ATTRIBUTES), -1)).T.tolist()}
    if args.captioner:
        writer = VideoBertForCaptioning.from_pretrained(args.captioner).eval()
        # A captioner trained jointly has a backbone of its own.
        own = features if args.shared_backbone else features_of(writer, processor, args.test)[0]
        shown, mask = changed(own, args.condition, torch.Generator().manual_seed(args.seed))
        examples["written"] = captions_of(writer, processor, shown, mask)
        scores["captions_exact"] = exact_match(examples["written"], [[one] for one in captions])
    return {**scores, **words}, examples


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("checkpoint", type=Path, help="a pretrained VideoBERT")
    parser.add_argument("--test", type=Path, required=True, help="folder of test videos with captions.csv")
    parser.add_argument("--retriever", type=Path, help="its finetuned matcher; by default the pretrained one")
    parser.add_argument("--captioner", type=Path, help="its finetuned captioner")
    parser.add_argument("--shared_backbone", action="store_true", help="the captioner has the same backbone")
    parser.add_argument("--condition", choices=CONDITIONS, default="video")
    parser.add_argument("--name", required=True, help="name of the row")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, required=True, help="file to which a JSON line is added")
    parser.add_argument("--examples", type=Path, help="file for captions and filled words, for the report")
    args = parser.parse_args()
    scores, examples = scored(args)
    line = {"name": args.name, "condition": args.condition, "seed": args.seed, "videos": len(examples["captions"])}
    line |= {name: round(value, 4) for name, value in scores.items()}
    with open(args.out, "a", encoding="utf-8") as file:
        file.write(json.dumps(line) + "\n")
    if args.examples:
        args.examples.write_text(json.dumps(examples), encoding="utf-8")
    print(json.dumps(line, indent=1))


if __name__ == "__main__":
    main()

"""What happens when in a long video? A sliding window gives a timeline, and windows with one label become segments.

    python examples/detect.py [CHECKPOINT [VIDEO]] [--window 4] [--threshold 0.5]

Writes the probabilities of every window (timeline.csv), the segments (segments.csv) and a picture of both to
output/detect. The window should be about as long as the videos that the model was trained on. Each frame is decoded
once, however far windows overlap, so that films of hours are no problem. Without VIDEO, one of four synthesised motions
is watched, without CHECKPOINT by a model that has learnt nothing; `examples/finetune_your_videos.py` trains one that
knows these motions, output/finetune_your_videos/model.

`videomae predict CHECKPOINT VIDEO --timeline` does the same. A finer answer needs a detector on top of features of such
windows.
"""

import argparse
import csv
from pathlib import Path

import stand_ins

import videomae_hf
from videomae_hf.inference.pictures import save_timeline_picture, thumbnails


parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
parser.add_argument("checkpoint", nargs="?")
parser.add_argument("video", nargs="?")
parser.add_argument("--window", help='seconds, or frames as "64f"; the default is the span of one clip')
parser.add_argument("--stride", help="distance of windows; the default is half a window")
parser.add_argument("--threshold", type=float, help="probability that a segment needs [0.5]")
args = parser.parse_args()
checkpoint, video = args.checkpoint or stand_ins.classifier(), args.video or stand_ins.long_video()
# A model that has learnt nothing gives every class about the same probability.
threshold = args.threshold if args.threshold is not None else 0.5 if args.checkpoint else 0.0

predictor = videomae_hf.load(checkpoint)
prediction = predictor.predict(video, timeline=True, window=args.window, stride=args.stride)

folder = Path("output/detect")
folder.mkdir(parents=True, exist_ok=True)
prediction.save(folder / "timeline.csv")
segments = prediction.segments(threshold)
with open(folder / "segments.csv", "w", newline="", encoding="utf-8") as file:
    csv.writer(file).writerows([("start", "end", "label", "score"), *segments])
save_timeline_picture(prediction, thumbnails(prediction.video, predictor.processor), folder / "timeline.png", threshold)

print(f"{len(prediction.timeline.times)} windows; the whole video: {prediction}")
for segment in segments:
    print(f"{segment.start:8.2f} to {segment.end:8.2f} s  {segment.score:6.1%}  {segment.label}")

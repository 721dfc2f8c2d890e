"""What is in this video? The five most likely classes, from several clips and crops of it.

    python examples/classify.py CHECKPOINT VIDEO [VIDEO ...]

CHECKPOINT is a folder or a Hub id: demo/finetune after `make demo`, MCG-NJU/videomae-base-finetuned-kinetics, ...
"""

import sys

import torch

from videomae_hf import VideoMAEV2ForVideoClassification, VideoMAEV2ImageProcessor


if len(sys.argv) < 3:
    sys.exit(__doc__)
checkpoint, *videos = sys.argv[1:]
processor = VideoMAEV2ImageProcessor.from_pretrained(checkpoint)
model = VideoMAEV2ForVideoClassification.from_pretrained(checkpoint).eval()

for video in videos:
    # 5 clips over the length, 3 crops of each: (1, 15, T, C, H, W). The model averages the views' probabilities.
    inputs = processor(video, num_clips=5, num_crops=3, return_tensors="pt")
    with torch.inference_mode():
        probabilities = model(**inputs).logits.softmax(dim=-1)[0]
    print(video)
    for probability, number in zip(*probabilities.topk(min(5, model.config.num_labels))):
        print(f"  {probability:6.1%}  {model.config.id2label[number.item()]}")

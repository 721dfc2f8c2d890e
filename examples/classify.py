"""What is in this video? The five most likely classes, from several clips and crops of it.

    python examples/classify.py CHECKPOINT VIDEO [VIDEO ...]

CHECKPOINT is a folder or a Hub id: demo/finetune after `make demo`, MCG-NJU/videomae-base-finetuned-kinetics, ...
`videomae predict` does the same, with more options.
"""

import sys

import videomae_hf


if len(sys.argv) < 3:
    sys.exit(__doc__)
checkpoint, *videos = sys.argv[1:]
predictor = videomae_hf.load(checkpoint)

for prediction in predictor.predict_many(videos, num_clips=5, num_crops=3):
    print(prediction.name)
    for label, probability in prediction.top(5):
        print(f"  {probability:6.1%}  {label}")

"""What is in this video? The five most probable classes, averaged over several clips and crops of it.

    python examples/classify.py [CHECKPOINT VIDEO ...]

CHECKPOINT is a folder or a Hub id: demo/finetune after `make demo`, MCG-NJU/videomae-base-finetuned-kinetics, ...
VIDEO is a file, a URL, a folder of videos or of images. Without them, a model that has learnt nothing looks at a
synthesised video. `videomae predict` does the same, with more options.
"""

import sys

import stand_ins

import videomae_hf


if len(sys.argv) == 2:
    sys.exit(__doc__)
checkpoint, *videos = sys.argv[1:] or [stand_ins.classifier(), stand_ins.video()]
predictor = videomae_hf.load(checkpoint)

for prediction in predictor.predict_many(videos, num_clips=5, num_crops=3):
    if prediction.error is not None:  # a broken video; the others go on
        print(prediction)
        continue
    print(prediction.name)
    for label, probability in prediction.top(5):
        print(f"  {probability:6.1%}  {label}")

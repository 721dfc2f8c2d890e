"""What the encoder sees and what the decoder is asked for, as a picture.

    python examples/masks.py [CHECKPOINT VIDEO] [--out masks.png]

Without arguments: a model with random weights on a video drawn here, so that the reconstruction is noise.
"""

import argparse
import tempfile
from pathlib import Path

import numpy as np
import torch

from videomae_hf import VideoMAEV2Config, VideoMAEV2ForPreTraining, VideoMAEV2ImageProcessor
from videomae_hf.data.sources.synthetic import synthesise_video, write_video
from videomae_hf.evaluation.reconstruction import STRIP_ROWS, reconstruction_strip


parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
parser.add_argument("checkpoint", nargs="?")
parser.add_argument("video", nargs="?")
parser.add_argument("--out", default="masks.png")
args = parser.parse_args()

if args.checkpoint:
    processor = VideoMAEV2ImageProcessor.from_pretrained(args.checkpoint)
    model = VideoMAEV2ForPreTraining.from_pretrained(args.checkpoint).eval()
    clip = processor(args.video, return_tensors="pt").pixel_values
else:
    config = VideoMAEV2Config.from_size("small", version=2, image_size=96, patch_size=8, num_frames=16)
    model = VideoMAEV2ForPreTraining(config).eval()
    processor = VideoMAEV2ImageProcessor(
        size={"shortest_edge": 96}, crop_size={"height": 96, "width": 96}, sampling_rate=2
    )
    with tempfile.TemporaryDirectory() as folder:
        video = Path(folder, "video.mp4")
        write_video(video, synthesise_video("clockwise", np.random.default_rng(0), size=96, difficulty="textured"))
        clip = processor(video, return_tensors="pt").pixel_values

picture = reconstruction_strip(model, clip, torch.Generator().manual_seed(0))
picture.save(args.out)
print(f"{args.out}: rows {', '.join(STRIP_ROWS)}; a column for each of {model.config.grid_size[0]} tubelets")

"""One vector for each stretch of a video, from the encoder alone: for retrieval, probing, temporal detection.

python examples/features.py CHECKPOINT VIDEO [--num_clips 8] [--out features.safetensors]
"""

import argparse

import torch
from safetensors.torch import save_file

from videomae_hf import VideoMAEV2ImageProcessor, VideoMAEV2Model


parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
parser.add_argument("checkpoint")
parser.add_argument("video")
parser.add_argument("--num_clips", type=int, default=8)
parser.add_argument("--out", default="features.safetensors")
args = parser.parse_args()

processor = VideoMAEV2ImageProcessor.from_pretrained(args.checkpoint)
model = VideoMAEV2Model.from_pretrained(args.checkpoint).eval()  # a decoder or classifier is left out

# Clips spread evenly over the video; one is (1, T, C, H, W), several are (1, num_clips, T, C, H, W)
pixel_values = processor(args.video, num_clips=args.num_clips, return_tensors="pt").pixel_values
clips = pixel_values.reshape(args.num_clips, *pixel_values.shape[-4:])
with torch.inference_mode():
    tokens = model(clips).last_hidden_state  # (num_clips, L, D)
features = tokens.mean(dim=1)  # (num_clips, D)
save_file({"features": features}, args.out)
print(f"{args.out}: {features.shape[0]} clips x {features.shape[1]} values")

"""Feature vectors of every video in a folder, from the encoder alone: for retrieval, clustering or your own classifier.

    python examples/features.py [CHECKPOINT VIDEOS] [--num_clips 8] [--out features.safetensors]

VIDEOS is a folder, searched at any depth, a list or a video. The file has a tensor (num_clips, D) for each video, under
its path; the clips are spread evenly over the video. A vector is the mean of all tokens, followed by the norm of the
classification head if the checkpoint has one: what its classifier sees. For retrieval take finetuned weights, which are
far better for it than merely pretrained ones. Without CHECKPOINT and VIDEOS, a model that has learnt nothing encodes
synthesised videos.
"""

import argparse
import sys

import stand_ins
import torch
from safetensors.torch import save_file

import videomae_hf


parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
parser.add_argument("checkpoint", nargs="?")
parser.add_argument("videos", nargs="?")
parser.add_argument("--num_clips", type=int, default=8)
parser.add_argument("--out", default="features.safetensors")
args = parser.parse_args()
if args.checkpoint and not args.videos:
    parser.error("give videos, too")

# Of any stage: pretrained, finetuned, or adapters
encoder = videomae_hf.load_encoder(args.checkpoint or stand_ins.classifier())
features = {}
for found in encoder.extract_many([args.videos or stand_ins.videos()], num_clips=args.num_clips, views="all"):
    if found.error is not None:
        print(f"left out: {found.error}", file=sys.stderr)
        continue
    features[found.name] = found.values  # (num_clips, D)
    print(f"{found.name}: {args.num_clips} clips x {found.values.shape[1]} values")
save_file(features, args.out)

if len(features) > 1:  # the most similar video of each
    names, means = list(features), torch.stack([vectors.mean(dim=0) for vectors in features.values()])
    similarity = torch.nn.functional.cosine_similarity(means[:, None], means[None], dim=-1).fill_diagonal_(-1)
    for name, nearest in zip(names[:5], similarity.argmax(dim=1).tolist()):
        print(f"nearest to {name}: {names[nearest]}")

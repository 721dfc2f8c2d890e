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

from videomae_hf import VideoMAEV2ForVideoClassification
from videomae_hf.checkpoints.opening import checkpoint_processor, open_checkpoint
from videomae_hf.inference.inputs import find_inputs
from videomae_hf.inference.loading import INPUT_ERRORS


parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
parser.add_argument("checkpoint", nargs="?")
parser.add_argument("videos", nargs="?")
parser.add_argument("--num_clips", type=int, default=8)
parser.add_argument("--out", default="features.safetensors")
args = parser.parse_args()
if args.checkpoint and not args.videos:
    parser.error("give videos, too")
checkpoint = args.checkpoint or stand_ins.classifier()

model, _ = open_checkpoint(checkpoint)  # of any stage: pretrained, finetuned, or adapters
model.eval().to("cuda" if torch.cuda.is_available() else "cpu")
processor = checkpoint_processor(checkpoint, model.config)
has_norm = isinstance(model, VideoMAEV2ForVideoClassification) and "fc_norm" not in model.new_parts
norm = model.fc_norm if has_norm else None

features = {}
for one in find_inputs([args.videos or stand_ins.videos()]):
    try:
        # One clip is (1, T, C, H, W), several are (1, num_clips, T, C, H, W).
        pixel_values = processor(one.video, num_clips=args.num_clips, return_tensors="pt").pixel_values
    except INPUT_ERRORS as error:
        print(f"left out: {error}", file=sys.stderr)
        continue
    clips = pixel_values.reshape(args.num_clips, *pixel_values.shape[-4:]).to(model.device)
    with torch.inference_mode():
        vectors = model.base_model(clips).last_hidden_state.mean(dim=1)  # (num_clips, L, D) -> (num_clips, D)
        features[one.name] = (vectors if norm is None else norm(vectors)).cpu()
    print(f"{one.name}: {args.num_clips} clips x {vectors.shape[1]} values")
save_file(features, args.out)

if len(features) > 1:  # the most similar video of each
    names, means = list(features), torch.stack([vectors.mean(dim=0) for vectors in features.values()])
    similarity = torch.nn.functional.cosine_similarity(means[:, None], means[None], dim=-1).fill_diagonal_(-1)
    for name, nearest in zip(names[:5], similarity.argmax(dim=1).tolist()):
        print(f"nearest to {name}: {names[nearest]}")

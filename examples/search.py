"""The moments in a folder of videos that are most like a video: an index of features, and a search in it.

    python examples/search.py [CHECKPOINT VIDEOS QUERY] [--index index]

Windows of two seconds slide over every video. The index continues where it was interrupted, and only new videos are
encoded the next time. As commands: `videomae extract CHECKPOINT VIDEOS index --window 2` and
`videomae search index QUERY`. Without arguments, a model that has learnt nothing searches synthesised videos.
"""

import argparse

import stand_ins

import videomae_hf
from videomae_hf.commands import extract
from videomae_hf.inference.feature_folder import FeatureFolder
from videomae_hf.inference.search import Index, Query


parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
parser.add_argument("checkpoint", nargs="?")
parser.add_argument("videos", nargs="?")
parser.add_argument("query", nargs="?")
parser.add_argument("--index", default="output/examples/index")
args = parser.parse_args()
if args.checkpoint and not args.query:
    parser.error("give videos and a query, too")
checkpoint, videos = args.checkpoint or stand_ins.classifier(), args.videos or stand_ins.videos()

try:
    extract.main([checkpoint, videos, args.index, "--window", "2", "--stride", "1"])
except SystemExit as end:  # a command ends with a status: 1 if some videos were left out
    if end.code not in (0, 1):
        raise
encoder = videomae_hf.load_encoder(checkpoint)
query = Query.of(encoder.extract(args.query or stand_ins.video(), window=2, stride=1))
for match in Index(FeatureFolder(args.index)).search(query, top_k=5):
    print(f"{match.similarity:.4f}  {match.start:6.2f} to {match.end:6.2f} s  {match.path}")

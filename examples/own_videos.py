"""From a folder of your videos to a score that one can defend: `make demo-own VIDEOS=folder`.

    python examples/own_videos.py my_videos            # a folder for each class, or a list of videos and labels
    python examples/own_videos.py my_videos --group_pattern '(subject\\d+)'  # who or what must not be in two parts
    python examples/own_videos.py my_videos --checkpoint MCG-NJU/videomae-base-finetuned-kinetics
    python examples/own_videos.py my_videos -- --horizontal_flip false        # options of `videomae finetune`

Prints and runs the commands that you would type: it finds broken files, divides the rest into training, validation and
test, encodes the first two for fast loading, trains, scores the test videos once, and writes a report on what the score
lives on. Without a checkpoint it trains a tiny model from random weights (`--preset tiny`), in minutes on a CPU, which
shows what your videos allow at least and not the best that can be had. The same command continues a run that was
interrupted.
"""

import argparse
import json
import shlex
import subprocess
import sys
from pathlib import Path


def run(*command: str, may_fail: bool = False) -> None:
    """Runs a verb of `videomae` and prints it; ends the program if it fails."""
    words = [str(word) for word in command]
    print(f"\n$ videomae {shlex.join(words)}", flush=True)
    status = subprocess.run([sys.executable, "-m", "videomae_hf.cli", *words]).returncode
    if status and not may_fail:
        sys.exit(f"{words[0]} failed; mend what it says and run the same command again, which continues here.")


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("videos", type=Path, help="folder of class folders, or list of videos and labels")
    parser.add_argument("--out", type=Path, default=Path("output/own_videos"))
    parser.add_argument("--checkpoint", help="weights to start from, instead of random ones in a tiny model")
    parser.add_argument("--group_pattern", help="what it matches in the path of a video is its group")
    parser.add_argument(
        "--short_side", help="of the encoded videos, in pixels [128 for the tiny model, 256 for a checkpoint]"
    )
    words = sys.argv[1:]
    end = words.index("--") if "--" in words else len(words)
    args = parser.parse_args(words[:end])
    args.finetune = words[end + 1 :]
    args.short_side = args.short_side or ("256" if args.checkpoint else "128")
    if not args.videos.exists():
        parser.error(f"no folder or list of videos at {args.videos}")
    return args


def root_of(args: argparse.Namespace, option: str = "--data_root") -> list[str]:
    """The option for the folder that relative paths refer to; the lists of the parts keep the rows of the user's."""
    return [option, str(args.videos.absolute().parent)] if args.videos.is_file() else []


def begin(record: Path, done: bool, **facts) -> bool:
    """Whether a step is still to be done, of which `record` keeps the facts.

    Ends the program if it was done with other ones, whose results would be shown as those of this command.
    """
    if not done:
        record.write_text(json.dumps(facts))
        return True
    then = json.loads(record.read_text()) if record.is_file() else {}
    other = [name.replace("_", " ") for name, value in facts.items() if then.get(name) != value]
    if other:
        sys.exit(
            f"{record.parent} has a run with other {' and '.join(other)}; choose another --out (OUT), or delete it."
        )
    return False


def split_lists(args: argparse.Namespace, groups: list[str]) -> dict[str, Path]:
    """The lists of the three parts, of the videos that can be decoded."""
    good = args.out / "good.csv"
    good.unlink(missing_ok=True)  # of an earlier run, perhaps of other videos
    run("scan", args.videos, "--fix_list", good, "--report", args.out / "scan.csv", may_fail=True)
    if not good.is_file():
        sys.exit(f"scan found no video in {args.videos}; its message says why.")
    lists = {part: args.out / "splits" / f"{part}.csv" for part in ("train", "val", "test")}
    done = all(path.is_file() for path in lists.values())
    facts = {"videos": good.read_text(), "group_pattern": args.group_pattern, "short_side": args.short_side}
    if begin(args.out / "splits.json", done, **facts):
        run("split", good, args.out / "splits", "--val", 0.2, "--test", 0.2, *root_of(args), *groups)
    return lists


def main() -> None:
    args = parse_arguments()
    args.out.mkdir(parents=True, exist_ok=True)
    groups = ["--group_pattern", args.group_pattern] if args.group_pattern else []
    lists, model, scores = split_lists(args, groups), args.out / "model", args.out / "scores"
    for part in ("train", "val"):
        run("prepare", lists[part], args.out / part, "--short_side", args.short_side, *root_of(args, "--root"))
    start = ["--checkpoint", args.checkpoint] if args.checkpoint else ["--preset", "tiny"]
    data = ["--train_data", args.out / "train" / "train.csv", "--eval_data", args.out / "val" / "val.csv"]
    done = (model / "all_results.json").is_file()
    if begin(args.out / "model.json", done, checkpoint=args.checkpoint, options_after_the_dashes=args.finetune):
        run("finetune", *start, *data, "--output_dir", model, "--resume_from_checkpoint", "last", *args.finetune)
    root = root_of(args)
    run("evaluate", "--checkpoint", model, "--eval_data", lists["test"], *root, *groups, "--output_dir", scores)
    # The files as you have them, and not as they were encoded anew, since a score may live on what they are
    run("report", scores, "--train_data", lists["train"], *root)


if __name__ == "__main__":
    main()

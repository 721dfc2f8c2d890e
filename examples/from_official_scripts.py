"""Translates a training script of the official code (MCG-NJU/VideoMAE, OpenGVLab/VideoMAEv2) into a recipe.

    python examples/from_official_scripts.py finetune.sh > my_recipe.yaml
    videomae finetune my_recipe.yaml --train_data ... --eval_data ...

Flags of `run_mae_pretraining.py` and `run_class_finetuning.py` become settings with other names (FLAGS, and the table
in docs/moving.md). Flags that a script leaves out have the default of V2's code (DEFAULTS). What has no counterpart
is named in a comment. The scripts of both repositories need no translation: the recipes v1/... and v2/...
are theirs. Without a script, an example is translated.
"""

import re
import shlex
import sys
from pathlib import Path

import yaml


EXAMPLE = """
DATA=/data/k400
torchrun --nproc_per_node=8 --nnodes=8 run_class_finetuning.py --model vit_base_patch16_224 --data_set Kinetics-400 \\
    --nb_classes 400 --data_path ${DATA} --finetune /weights/checkpoint-1599.pth --output_dir output/k400 \\
    --batch_size 6 --num_sample 2 --num_frames 16 --sampling_rate 4 --input_size 224 --short_side_size 224 \\
    --opt adamw --lr 5e-4 --opt_betas 0.9 0.999 --weight_decay 0.05 --epochs 75 --test_num_segment 5 \\
    --test_num_crop 3 --dist_eval --enable_deepspeed
"""
# Official flag -> setting
FLAGS = {
    "output_dir": "output_dir", "seed": "seed", "num_workers": "dataloader_num_workers", "finetune": "checkpoint",
    "batch_size": "per_device_train_batch_size", "update_freq": "gradient_accumulation_steps",
    "epochs": "num_train_epochs", "warmup_epochs": "warmup_epochs", "warmup_steps": "warmup_steps",
    "lr": "base_learning_rate", "min_lr": "base_min_learning_rate", "layer_decay": "layer_decay",
    "weight_decay": "weight_decay", "clip_grad": "max_grad_norm", "opt_eps": "adam_epsilon",
    "model_ema_decay": "ema_decay", "with_checkpoint": "activation_checkpointing",
    "use_checkpoint": "activation_checkpointing",
    "num_frames": "num_frames", "sampling_rate": "sampling_rate", "input_size": "image_size",
    "tubelet_size": "tubelet_size", "num_sample": "num_sample", "fname_tmpl": "frame_template",
    "drop_path": "drop_path_rate", "drop": "hidden_dropout_prob", "attn_drop_rate": "attention_probs_dropout_prob",
    "head_drop_rate": "classifier_dropout", "fc_drop_rate": "classifier_dropout",
    "aa": "rand_augment", "reprob": "random_erasing", "smoothing": "label_smoothing", "mixup": "mixup_alpha",
    "cutmix": "cutmix_alpha", "mixup_prob": "mix_probability", "mixup_switch_prob": "mix_switch_probability",
    "mixup_mode": "mix_mode",
    "mask_ratio": "mask_ratio", "mask_type": "mask_type", "decoder_mask_ratio": "decoder_mask_ratio",
    "decoder_mask_type": "decoder_mask_type", "decoder_depth": "decoder_num_hidden_layers",
    "normlize_target": "norm_pix_loss",
}  # fmt: skip
# Settings of several flags, and flags that follow from the data or the launcher here, or that do nothing there
ELSEWHERE = {
    "model", "data_set", "data_path", "data_root", "nb_classes", "opt", "opt_betas", "model_ema", "sparse_sample",
    "test_num_segment", "test_num_crop", "short_side_size", "dist_eval", "enable_deepspeed", "auto_resume", "log_dir",
    "save_ckpt_freq", "world_size", "local_rank", "dist_url", "dist_on_itp", "color_jitter", "warmup_lr",
    "train_interpolation", "imagenet_default_mean_and_std", "device", "pin_mem", "no_pin_mem", "save_ckpt",
}  # fmt: skip
# Flags whose values may be variables that are set outside of the script
PLACES = ("data_path", "data_root", "finetune", "output_dir", "log_dir")
# Of V2's code, where they differ from the defaults here
DEFAULTS = {
    "finetune": {
        "batch_size": 64, "epochs": 30, "lr": 1e-3, "min_lr": 1e-6, "warmup_epochs": 5, "layer_decay": 0.75,
        "drop_path": 0.1, "num_sample": 2, "aa": "rand-m7-n4-mstd0.5-inc1", "reprob": 0.25, "smoothing": 0.1,
        "mixup": 0.8, "cutmix": 1.0, "clip_grad": 0,
    },
    "pretrain": {
        "batch_size": 64, "epochs": 300, "lr": 1.5e-4, "min_lr": 1e-5, "warmup_epochs": 40, "clip_grad": 0,
        "decoder_mask_ratio": 0.0,
    },
}  # fmt: skip


def read_flags(script: str) -> tuple[str, dict[str, str | list[str]], int]:
    """The verb, the flags of the training program with their values, and the number of processes."""
    lines = [line for line in script.replace("\\\n", " ").splitlines() if not line.lstrip().startswith("#")]
    variables = dict(re.findall(r"^\s*(?:export )?(\w+)=(\S+)\s*$", "\n".join(lines), re.MULTILINE))
    for _ in variables:  # variables may refer to each other
        lines = [re.sub(r"\$\{?(\w+)\}?", lambda found: variables.get(found[1], found[0]), line) for line in lines]
    command = next((line for line in lines if re.search(r"run_(class_finetuning|mae_pretraining)\.py", line)), None)
    if command is None:
        sys.exit("The script runs neither run_class_finetuning.py nor run_mae_pretraining.py.")
    launcher, program, given = re.split(r"run_(class_finetuning|mae_pretraining)\.py", command, maxsplit=1)
    numbers = [int(number) for number in re.findall(r"--(?:nproc_per_node|nnodes)[= ](\d+)", launcher)]
    flags, name = {}, None
    for text in shlex.split(given):
        if text.startswith("--"):
            name, _, value = text[2:].partition("=")
            flags[name] = [value] if value else []
        elif name and (name in PLACES or not text.startswith("$")):  # not ${PY_ARGS} at the end
            flags[name].append(text)
    processes = numbers[0] * (numbers[1] if len(numbers) > 1 else 1) if numbers else 0
    flags = {name: values[0] if len(values) == 1 else values for name, values in flags.items()}
    return "finetune" if program == "class_finetuning" else "pretrain", flags, processes


def recipe_of(verb: str, flags: dict[str, str | list[str]], processes: int) -> tuple[dict, list[str]]:
    """The settings of a recipe, and remarks for its reader."""
    settings = {FLAGS[name]: value for name, value in DEFAULTS[verb].items()}
    for name, value in flags.items():
        if name in FLAGS:
            settings[FLAGS[name]] = True if value == [] else value_of(value)
    settings["official_sampling"] = True  # frame by frame as the official code
    if size := re.search(r"small|base|large|huge|giant", str(flags.get("model"))):
        settings["model_size"] = size[0]
    if "opt_betas" in flags:
        settings["adam_beta1"], settings["adam_beta2"] = map(float, flags["opt_betas"])
    if settings.get("decoder_mask_type") == "run_cell":
        settings["decoder_mask_type"] = "running_cell"
    if "model_ema" not in flags:
        settings.pop("ema_decay", None)
    data = str(flags.get("data_path", "data"))
    if verb == "pretrain":
        settings |= {"train_data": data, "model_version": 2 if settings["decoder_mask_ratio"] else 1}
    else:
        settings |= {"train_data": f"{data}/train.csv", "eval_data": f"{data}/val.csv", "antialias": False}
    if flags.get("data_set") == "SSV2" or "sparse_sample" in flags:
        settings |= {"frame_sampling": "uniform", "horizontal_flip": flags.get("data_set") != "SSV2"}
    if processes:
        accumulated = settings.pop("gradient_accumulation_steps", 1)
        settings["total_batch_size"] = settings["per_device_train_batch_size"] * processes * accumulated
    return settings, remarks(flags, processes)


def value_of(text: str) -> int | float | bool | str:
    """The value of a flag; YAML takes 5e-4, which has no decimal point, for text."""
    return float(text) if re.fullmatch(r"[\d.]+e-?\d+", text) else yaml.safe_load(text)


def remarks(flags: dict[str, str | list[str]], processes: int) -> list[str]:
    """What the recipe does not say."""
    lines = []
    if not processes:
        lines.append("set total_batch_size: batch_size x GPUs of the script, which the learning rate is scaled by")
    if "test_num_segment" in flags:
        views = flags["test_num_segment"], flags.get("test_num_crop", 3)
        lines.append("then: videomae evaluate --num_clips {} --num_crops {} --checkpoint ..".format(*views))
    if str(flags.get("finetune", "")).endswith((".pth", ".pt")):
        lines.append(f"first: videomae convert {flags['finetune']} FOLDER, and set checkpoint: FOLDER")
    unknown = sorted(set(flags) - set(FLAGS) - ELSEWHERE)
    return lines + ([f"without a counterpart, left out: {', '.join(unknown)}"] if unknown else [])


if __name__ == "__main__":
    if len(sys.argv) > 2:
        sys.exit(__doc__)
    script = Path(sys.argv[1]).read_text(encoding="utf-8") if len(sys.argv) == 2 else EXAMPLE
    verb, flags, processes = read_flags(script)
    settings, lines = recipe_of(verb, flags, processes)
    print(f"# For videomae {verb}, translated from an official script")
    print("".join(f"# {line}\n" for line in lines), end="")
    print(yaml.safe_dump(settings, sort_keys=True), end="")

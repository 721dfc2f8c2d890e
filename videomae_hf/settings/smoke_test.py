# Copyright 2026 The videomae_hf authors. Licensed under the Apache License, Version 2.0.
"""`--smoke_test true` runs any recipe within seconds on a CPU.

The model becomes tiny, a few synthesised videos of eight classes replace the data, and the run takes two steps. The
recipe's training settings stay: masks, number of frames and their distance, augmentation, `num_sample`, schedule, layer
decay, precision.
"""

from pathlib import Path


SYNTHETIC = "synthetic"  # placeholder for a path until the output folder is known, see `with_smoke_test_videos`

_SETTINGS = {
    # A grid of 4 x 4 patches: tube masks of ratio 0.9 leave two positions visible, and running cells fit
    "image_size": 32,
    "patch_size": 8,
    "hidden_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "intermediate_size": 64,
    "decoder_hidden_size": 16,
    "decoder_num_hidden_layers": 2,
    "decoder_num_attention_heads": 2,
    "decoder_intermediate_size": 32,
    "per_device_train_batch_size": "2",
    "total_batch_size": "4",  # so that a single process accumulates gradients
    "max_steps": "2",
    "logging_steps": "1",
    "save_strategy": "no",
    "dataloader_num_workers": "0",
    "use_cpu": True,
}
# Settings of the data that are not read, and settings that depend on them; accumulation follows from the batch size
_LEFT_OUT = (
    "dataset_name", "dataset_config_name", "dataset_dir", "train_split_name", "video_column_name", "label_column_name",
    "streaming", "videos_per_epoch", "class_names", "data_root", "frame_template", "multi_label", "problem_type",
    "head_from", "label_mappings", "teacher", "class_weights", "gradient_accumulation_steps",
    "load_best_model_at_end", "position_grid", "group_column", "group_pattern",
)  # fmt: skip


def smoke_test_recipe(recipe: dict) -> dict:
    """The recipe of a tiny version of the same run.

    Results go to the recipe's `output_dir` with the suffix `_smoke_test`. The run starts from the recipe's checkpoint
    with the same suffix, the result of an earlier smoke test, if that exists; otherwise from random weights.
    """
    small = {name: value for name, value in recipe.items() if name not in _LEFT_OUT} | _SETTINGS
    sources = recipe.get("train_data")
    if isinstance(sources, list):
        kept = ("weight", "sampling_rate", "fps", "image_mask_ratio")
        sources = [{name: source[name] for name in kept if name in source} | {"data": SYNTHETIC} for source in sources]
    small["train_data"] = sources if isinstance(sources, list) else SYNTHETIC
    if small.pop("eval_split_name", None) or "eval_data" in small:
        small["eval_data"] = SYNTHETIC
    small["output_dir"] = f"{recipe.get('output_dir', 'output')}_smoke_test"
    checkpoint = f"{small.pop('checkpoint', None)}_smoke_test"
    if Path(checkpoint).is_dir():
        small["checkpoint"] = checkpoint
    return small

# Copyright 2026 The videomae_hf authors. Licensed under the Apache License, Version 2.0.
"""Any recipe in seconds on a CPU: `--smoke_test true`.

The model becomes tiny, the data a few drawn videos of eight classes, the run two steps. What the recipe says about
training stays: masks, frames and their distance, augmentation, `num_sample`, schedule, layer decay, precision.
"""

from pathlib import Path


SYNTHETIC = "synthetic"  # stands for a path until the output folder is known, see `with_smoke_test_videos`

_SETTINGS = {
    # A grid of 4 x 4, in which tubes of 0.9 leave two places visible, and running cells fit
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
    "total_batch_size": "4",  # so that one process accumulates, too
    "max_steps": "2",
    "logging_steps": "1",
    "save_strategy": "no",
    "dataloader_num_workers": "0",
    "use_cpu": True,
}
# Of data that are not read, and what goes with them; accumulation follows from the batch
_LEFT_OUT = (
    "dataset_name", "dataset_config_name", "dataset_dir", "train_split_name", "video_column_name", "label_column_name",
    "streaming", "videos_per_epoch", "class_names", "data_root", "frame_template", "multi_label", "problem_type",
    "head_from", "label_mappings", "teacher", "class_weights", "gradient_accumulation_steps",
    "load_best_model_at_end", "position_grid",
)  # fmt: skip


def smoke_test_recipe(recipe: dict) -> dict:
    """The recipe of the same run, tiny.

    Results go to the recipe's `output_dir` with `_smoke_test` behind it, and so for the checkpoint it starts from: the
    smoke test of that recipe, if there is one, otherwise fresh weights.
    """
    shrunk = {name: value for name, value in recipe.items() if name not in _LEFT_OUT} | _SETTINGS
    sources = recipe.get("train_data")
    if isinstance(sources, list):
        kept = ("weight", "sampling_rate", "fps")
        sources = [{name: source[name] for name in kept if name in source} | {"data": SYNTHETIC} for source in sources]
    shrunk["train_data"] = sources if isinstance(sources, list) else SYNTHETIC
    if shrunk.pop("eval_split_name", None) or "eval_data" in shrunk:
        shrunk["eval_data"] = SYNTHETIC
    shrunk["output_dir"] = f"{recipe.get('output_dir', 'output')}_smoke_test"
    checkpoint = f"{shrunk.pop('checkpoint', None)}_smoke_test"
    if Path(checkpoint).is_dir():
        shrunk["checkpoint"] = checkpoint
    return shrunk

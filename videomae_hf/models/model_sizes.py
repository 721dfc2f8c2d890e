# Copyright 2026 The videomae_hf authors. Licensed under the Apache License, Version 2.0.
"""The official sizes of VideoMAE V1 and V2, of MAE and of ViT, as fields of `VideoMAEV2Config`.

This file ships with checkpoints and may import only its siblings.
"""

# The official sizes: v1/modeling_pretrain.py, v2/models/modeling_pretrain.py and the pretraining scripts of both,
# which set the decoder's depth. No V2 script pretrains "small": its row is V1's.
SIZE_FIELDS = (
    "hidden_size", "num_hidden_layers", "num_attention_heads", "intermediate_size", "patch_size",
    "decoder_hidden_size", "decoder_num_hidden_layers", "decoder_num_attention_heads", "decoder_intermediate_size",
)  # fmt: skip
SIZES = {
    # (size, version): encoder width, depth, heads, MLP, patch | decoder width, depth, heads, MLP
    ("small", 1): (384, 12, 6, 1536, 16, 192, 4, 3, 768),
    ("base", 1): (768, 12, 12, 3072, 16, 384, 4, 6, 1536),
    ("large", 1): (1024, 24, 16, 4096, 16, 512, 12, 8, 2048),
    ("huge", 1): (1280, 32, 16, 5120, 16, 640, 12, 8, 2560),
    ("small", 2): (384, 12, 6, 1536, 16, 192, 4, 3, 768),
    ("base", 2): (768, 12, 12, 3072, 16, 384, 4, 6, 1536),
    ("large", 2): (1024, 24, 16, 4096, 16, 512, 4, 8, 2048),
    ("huge", 2): (1280, 32, 16, 5120, 16, 512, 4, 8, 2048),
    ("giant", 2): (1408, 40, 16, 6144, 14, 512, 4, 8, 2234),
}
# The sizes of image models, in the same order: mae/models_mae.py (facebookresearch/mae, efb2a80), whose encoders are
# those of table 1 of the ViT paper, with patches as in the names B/16, L/16 and H/14. One decoder serves all.
IMAGE_SIZES = {
    "base": (768, 12, 12, 3072, 16, 512, 8, 16, 2048),
    "large": (1024, 24, 16, 4096, 16, 512, 8, 16, 2048),
    "huge": (1280, 32, 16, 5120, 14, 512, 8, 16, 2048),
}
_IMAGES = {
    "num_frames": 1, "tubelet_size": 1, "use_cls_token": True, "layer_norm_eps": 1e-6, "mask_type": "random",
    "mask_ratio": 0.75, "decoder_mask_ratio": 0.0, "decoder_embed_bias": True, "target_pixels": "normalized",
}  # fmt: skip
# kind of image model -> its other fields. ViT learns its positions, and classifies the class token after a final norm.
IMAGE_KINDS = {
    "mae": {**_IMAGES, "position_embedding_type": "sinusoidal_2d", "use_mean_pooling": None},
    "vit": {**_IMAGES, "position_embedding_type": "learned", "use_mean_pooling": False},
}

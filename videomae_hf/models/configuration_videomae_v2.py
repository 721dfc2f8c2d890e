# Copyright 2026 The videomae_hf authors. Licensed under the Apache License, Version 2.0.
"""Configuration of VideoMAE V1 and V2, and of the image models of the family, MAE and ViT.

VideoMAE: Masked Autoencoders are Data-Efficient Learners for Self-Supervised Video Pre-Training
(https://arxiv.org/abs/2203.12602), V1.
VideoMAE V2: Scaling Video Masked Autoencoders with Dual Masking (https://arxiv.org/abs/2303.16727), V2.
MAE: Masked Autoencoders Are Scalable Vision Learners (https://arxiv.org/abs/2111.06377).
ViT: An Image is Worth 16x16 Words (https://arxiv.org/abs/2010.11929).

One configuration serves all: V1 is `decoder_mask_ratio=0`, and images are clips of one frame. This file ships with
checkpoints and may import only its siblings.
"""

import inspect
import math
from pathlib import Path

import torch
from huggingface_hub.dataclasses import strict
from transformers import PreTrainedConfig
from transformers.activations import ACT2FN

from .adapters import ADAPTER_CONFIG, adapted_base
from .checkpoint_files import FILE_OPTIONS, find_config, find_file, read_mapping
from .image_checkpoints import IMAGE_MODEL_TYPES, config_from_images
from .masking import DECODER_MASKS, ENCODER_MASKS
from .model_sizes import IMAGE_KINDS, IMAGE_SIZES, SIZE_FIELDS, SIZES
from .official_checkpoints import config_from_opengvlab
from .preprocessing import normalization_of, read_preprocessing
from .strict_configuration import (
    StrictConfiguration,
    require_choice,
    require_divisible,
    require_four_parts,
    require_numbers,
    require_ratio,
)


IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)

POSITION_EMBEDDING_TYPES = ("sinusoidal", "sinusoidal_2d", "sinusoidal_3d", "learned")
TARGET_PIXELS = ("unit", "normalized")
DECODER_TYPES = ("full", "cross")
PROBLEM_TYPES = ("single_label_classification", "multi_label_classification", "regression")

# Upper limits, far above any existing model: a hostile configuration must not make loading allocate unbounded memory.
_MOST = {
    "num_frames": 2**16, "tubelet_size": 2**16, "num_channels": 2**10, "image_size": 2**14, "patch_size": 2**14,
    "hidden_size": 2**16, "intermediate_size": 2**18, "num_hidden_layers": 1000,
    "decoder_hidden_size": 2**16, "decoder_intermediate_size": 2**18, "decoder_num_hidden_layers": 1000,
    "classifier_hidden_size": 2**16,
}  # fmt: skip
_MOST_LABELS, _MOST_POSITIONS = 2**17, 2**31  # positions: elements of a table, tokens x width


@strict
class VideoMAEV2Config(StrictConfiguration, PreTrainedConfig):
    r"""
    Configuration of `VideoMAEV2Model`, `VideoMAEV2ForPreTraining` and `VideoMAEV2ForVideoClassification`.

    The first block of fields is that of transformers' `VideoMAEConfig`, with its names and defaults. The rest:

    Args:
        mask_ratio (`float`, defaults to 0.9): fraction of the tokens that is hidden from the encoder.
        mask_type (`str`, defaults to `"tube"`):
            `"tube"` masks the same positions in all slices of a tube, `"random"` any tokens, `"frame"` whole slices.
        tube_length (`int`, *optional*):
            Frames that share a tube mask; a multiple of `tubelet_size`. `None` is the whole clip (official).
        decoder_mask_ratio (`float`, defaults to 0.0):
            Fraction of the tokens that the decoder does not reconstruct. 0 is V1: it reconstructs every masked token.
        decoder_mask_type (`str`, defaults to `"running_cell"`): `"running_cell"` (V2), `"random"` or `"frame"`.
        drop_path_rate (`float`, defaults to 0.0):
            Stochastic depth rate of the last block; the rate grows linearly from 0 at the first block.
        layer_scale_init_value (`float`, defaults to 0.0): initial value of the layer scale; 0 disables layer scale.
        use_cosine_attention (`bool`, defaults to `False`): cosine attention with a learned scale per head.
        position_embedding_type (`str`, defaults to `"sinusoidal"`):
            `"sinusoidal"` (fixed, over the flattened tokens; official), `"sinusoidal_2d"` (fixed, over column and row,
            the same in every slice; MAE), `"sinusoidal_3d"` (fixed, over slice, row and column separately; learns
            sooner on small grids) or `"learned"`.
        decoder_position_embedding_type (`str`, *optional*):
            The same for the decoder. `None` is that of the encoder or, if the encoder learns its positions,
            `"sinusoidal"`, as in the official code.
        position_grid (`tuple[int, int, int]`, *optional*):
            (slices, rows, columns) of the pretraining grid, from which the fixed position table is interpolated, such
            as (8, 14, 14) for 16 frames of 224 x 224 in patches of 16. `None` computes a new table for this model's
            own grid, as the official code does.
        use_cls_token (`bool`, defaults to `False`):
            A class token for each slice, before the patches; the decoder gets them too. One slice is MAE and ViT
            exactly, and a still clip keeps the features of an image model. Masks cover the patches only.
        decoder_type (`str`, defaults to `"full"`):
            `"full"`, self-attention over visible and mask tokens (VideoMAE), or `"cross"`, mask tokens that attend to
            the visible ones only (CrossMAE, https://arxiv.org/abs/2401.14391), which costs less.
        decoder_mixed_layers (`int`, defaults to 0):
            With `"cross"`: each decoder block attends to its own learned mixture of this many encoder layers, evenly
            spaced up to the output of the encoder; 0 is that output alone, without a norm for each block.
        decoder_embed_bias (`bool`, defaults to `False`): a bias in `encoder_to_decoder`, as in MAE.
        target_pixels (`str`, defaults to `"unit"`):
            Pixels that the decoder predicts: `"unit"`, pixels in [0, 1], where `norm_pix_loss` normalises each channel
            of a patch (VideoMAE); or `"normalized"`, pixels as the encoder sees them, where `norm_pix_loss` normalises
            all values of a patch together (MAE).
        classifier_dropout (`float`, defaults to 0.0): dropout before the classifier.
        classifier_num_hidden_layers (`int`, defaults to 0):
            Layers of the classifier, between the encoder, which keeps its final norm, and the mean of the tokens: the
            bridging classifier of MAR (https://arxiv.org/abs/2207.11660), which has 2. They see the tokens that the
            encoder sees, without new positions. 0 is VideoMAE's linear classifier.
        classifier_hidden_size (`int`, defaults to 512): width of these layers, whose MLP has four times that.
        classifier_num_attention_heads (`int`, defaults to 4): number of their attention heads.
        reconstruction_weight (`float`, defaults to 0.0):
            With these layers: in training, the decoder also reconstructs the tokens that are hidden from the encoder,
            and this part of its loss is added. MAR has 0.01 on Kinetics and 0.1 on Something-Something.
        image_mean, image_std (`tuple[float]`, *optional*):
            Normalisation of pixels in [0, 1], one value per channel. The model applies it to uint8 pixels, and the
            reconstruction targets undo it; see `preprocessing.py`. A checkpoint of transformers takes it from its
            processor. Defaults to ImageNet's values for 3 channels, and to 0 and 1 (no normalisation) otherwise.
        use_mean_pooling (`bool`, *optional*, defaults to `True`):
            As in transformers, `True` classifies the mean of all patches and has no final norm in the encoder; `False`
            has a final norm and classifies the first token or, with `use_cls_token`, the mean of the class tokens.
            `None`, which `from_size` sets, follows the official code: a final norm in pretraining, and mean pooling
            without one in classification.
        target_mean, target_std (`tuple[float]`, *optional*):
            For regression: mean and standard deviation of each target in the training set. The network predicts
            normalised targets, and the loss compares these; `logits` and `labels` are in the unit of the data.
        head_layer_norm_eps (`float`, *optional*):
            Epsilon of `fc_norm` and of the decoder's norm. `None` means `layer_norm_eps`, as in the official code.
            transformers' VideoMAE always uses 1e-5 there, and so do its checkpoints when they are loaded here.
        label_mappings (`dict[str, dict[str, int]]`, *optional*):
            For a model whose classes were merged from several data sets: name of a data set -> its class names ->
            class of this model. Finetuning on one of these data sets then starts from its rows of the head.

    Raises:
        ValueError: fields contradict each other; the message names them.

    Example:

    ```python
    >>> from videomae_hf import VideoMAEV2Config, VideoMAEV2ForPreTraining

    >>> config = VideoMAEV2Config.from_size("base", version=2)
    >>> model = VideoMAEV2ForPreTraining(config)
    ```"""

    model_type = "videomae_v2"
    attribute_map = {"qkv_bias": "qv_bias"}  # its name in transformers before 5.18
    base_model_fsdp_plan = {"encoder.layer.*": "free_full_weight"}

    image_size: int | list[int] | tuple[int, int] = 224
    patch_size: int | list[int] | tuple[int, int] = 16
    num_channels: int = 3
    num_frames: int = 16
    tubelet_size: int = 2
    hidden_size: int = 768
    num_hidden_layers: int = 12
    num_attention_heads: int = 12
    intermediate_size: int = 3072
    hidden_act: str = "gelu"
    hidden_dropout_prob: float | int = 0.0
    attention_probs_dropout_prob: float | int = 0.0
    initializer_range: float = 0.02
    layer_norm_eps: float | int = 1e-12
    qv_bias: bool = True
    use_mean_pooling: bool | None = True
    decoder_num_attention_heads: int = 6
    decoder_hidden_size: int = 384
    decoder_num_hidden_layers: int = 4
    decoder_intermediate_size: int = 1536
    norm_pix_loss: bool = True

    mask_ratio: float | int = 0.9
    mask_type: str = "tube"
    tube_length: int | None = None
    decoder_mask_ratio: float | int = 0.0
    decoder_mask_type: str = "running_cell"
    drop_path_rate: float | int = 0.0
    layer_scale_init_value: float | int = 0.0
    use_cosine_attention: bool = False
    position_embedding_type: str = "sinusoidal"
    position_grid: list[int] | tuple[int, ...] | None = None
    decoder_position_embedding_type: str | None = None
    use_cls_token: bool = False
    decoder_type: str = "full"
    decoder_mixed_layers: int = 0
    decoder_embed_bias: bool = False
    target_pixels: str = "unit"
    classifier_dropout: float | int = 0.0
    classifier_num_hidden_layers: int = 0
    classifier_hidden_size: int = 512
    classifier_num_attention_heads: int = 4
    reconstruction_weight: float | int = 0.0
    image_mean: list[float | int] | tuple[float | int, ...] | None = None
    image_std: list[float | int] | tuple[float | int, ...] | None = None
    head_layer_norm_eps: float | int | None = None
    target_mean: list[float | int] | tuple[float | int, ...] | None = None
    target_std: list[float | int] | tuple[float | int, ...] | None = None
    label_mappings: dict[str, dict[str, int]] | None = None

    def __post_init__(self, **kwargs):
        rgb = self.num_channels == 3
        if self.image_mean is None:
            self.image_mean = IMAGENET_MEAN if rgb else (0.0,) * self.num_channels
        if self.image_std is None:
            self.image_std = IMAGENET_STD if rgb else (1.0,) * self.num_channels
        self.image_mean, self.image_std = tuple(self.image_mean), tuple(self.image_std)  # lists when read from JSON
        # Called before the validators of `@strict`, so that the user sees a plain ValueError.
        self.validate_fields()
        self._check_other_fields(kwargs)
        super().__post_init__(**kwargs)

    @classmethod
    def from_size(cls, size: str, version: int = 2, **overrides) -> "VideoMAEV2Config":
        """The official configuration of a model size.

        Args:
            size: `"small"`, `"base"`, `"large"`, `"huge"` or, in V2 only, `"giant"`.
            version: 1, or 2, which adds the running-cell decoder mask at ratio 0.5.
            overrides: any field of the configuration.

        Raises:
            ValueError: the size does not exist in this version.
        """
        if (size, version) not in SIZES:
            known = ", ".join(f"{name} (version {number})" for name, number in SIZES)
            raise ValueError(f"size={size!r} with version={version!r} is unknown; there are {known}.")
        fields = dict(zip(SIZE_FIELDS, SIZES[size, version]))
        fields.update(layer_norm_eps=1e-6, use_mean_pooling=None, decoder_mask_ratio=0.5 if version == 2 else 0.0)
        return cls(**{**fields, **overrides})

    @classmethod
    def for_images(cls, size: str, kind: str = "mae", **overrides) -> "VideoMAEV2Config":
        """The configuration of an image model: MAE or the classic ViT at 224 x 224 pixels, as clips of one frame.

        Args:
            size: `"base"`, `"large"` or `"huge"`; base is ViT-B/16, whose images have 14 x 14 tokens.
            kind: `"mae"`, or `"vit"` with learned positions and a classifier on the class token.
            overrides: any field of the configuration.

        Raises:
            ValueError: there is no such size or kind.
        """
        if size not in IMAGE_SIZES or kind not in IMAGE_KINDS:
            raise ValueError(
                f"size={size!r} with kind={kind!r} is unknown; sizes are {', '.join(IMAGE_SIZES)}, and kinds are "
                f"{', '.join(IMAGE_KINDS)}."
            )
        return cls(**{**dict(zip(SIZE_FIELDS, IMAGE_SIZES[size])), **IMAGE_KINDS[kind], **overrides})

    @classmethod
    def get_config_dict(cls, pretrained_model_name_or_path, **kwargs):
        """Reads config.json, and converts those of transformers' VideoMAE ("videomae"), of its image models ("vit_mae",
        "vit") and of OpenGVLab's V2 to ours.

        A folder of adapters without a config.json takes the configuration of its base model.

        Raises:
            OSError: there is no such checkpoint.
            ValueError: the file belongs to another model, or is not a configuration.
        """
        name, options = pretrained_model_name_or_path, {key: kwargs.pop(key) for key in FILE_OPTIONS if key in kwargs}
        for key in ("trust_remote_code", "_from_auto", "_from_pipeline", "_commit_hash"):  # not used here
            kwargs.pop(key, None)
        if Path(name).is_file() and Path(name).suffix == ".json":
            return cls.known_fields(read_mapping(Path(name)), name), kwargs
        name, options = _with_config(name, options)
        fields = cls.known_fields(read_mapping(find_config(name, options)), name)
        return cls.with_normalization_of(name, options, fields), kwargs

    @classmethod
    def known_fields(cls, content: dict, name: str | Path) -> dict:
        """Converts a configuration of ours, of transformers' VideoMAE, ViT-MAE and ViT, or of OpenGVLab's V2 to ours.

        Args:
            content: the content of config.json, or the result of `to_dict`.
            name: the name of the checkpoint, for messages.

        Raises:
            ValueError: the configuration belongs to another model.
        """
        if "model_config" in content:
            return {"model_type": cls.model_type, **config_from_opengvlab(content)}
        model_type = content.get("model_type")
        if model_type == "videomae":
            # transformers builds fc_norm and the decoder's norm with PyTorch's epsilon, whatever layer_norm_eps says.
            return {**content, "model_type": cls.model_type, "head_layer_norm_eps": 1e-5}
        if model_type in IMAGE_MODEL_TYPES:
            return {**config_from_images(content, IMAGE_KINDS), "model_type": cls.model_type}
        if model_type != cls.model_type:
            said = f"model_type {model_type!r:.60}" if "model_type" in content else "no model_type"
            advice = (
                "; `videomae predict`, `caption`, `search`, `app` and `push` take it"
                if model_type == "videobert"
                else ""
            )
            raise ValueError(f"{name} is not a VideoMAE checkpoint: its configuration has {said}{advice}.")
        return dict(content)

    @classmethod
    def with_normalization_of(cls, name: str | Path, options: dict, fields: dict) -> dict:
        """Adds `image_mean` and `image_std` from the processor of a checkpoint, unless the fields already have them.

        Args:
            name: the checkpoint: folder, or id on the Hub.
            options: any of `FILE_OPTIONS`.
            fields: the fields of its configuration.
        """
        num_channels = fields.get("num_channels", cls.num_channels)
        stated = fields.get("image_mean") is not None or fields.get("image_std") is not None
        preprocessing = None if stated else read_preprocessing(name, options)
        if preprocessing is None or type(num_channels) is not int:
            return fields
        mean, std = normalization_of(preprocessing, num_channels)
        return {**fields, "image_mean": mean, "image_std": std}

    def to_dict(self) -> dict:
        """The content of config.json. A classifier of images is found by transformers' image pipeline, too."""
        output = super().to_dict()
        classifier = (output.get("auto_map") or {}).get("AutoModelForVideoClassification")
        if classifier is not None and self.num_frames == 1:
            output["auto_map"] = {**output["auto_map"], "AutoModelForImageClassification": classifier}
        return output

    @property
    def image_hw(self) -> tuple[int, int]:
        """(height, width) of a frame in pixels."""
        return _pair(self.image_size)

    @property
    def patch_hw(self) -> tuple[int, int]:
        """(height, width) of a patch in pixels."""
        return _pair(self.patch_size)

    @property
    def grid_size(self) -> tuple[int, int, int]:
        """(slices, rows, columns) of tokens, which are flattened in this order into a sequence of their product."""
        (height, width), (patch_height, patch_width) = self.image_hw, self.patch_hw
        return self.num_frames // self.tubelet_size, height // patch_height, width // patch_width

    @property
    def sequence_length(self) -> int:
        """Number of patch tokens in a clip, masked ones included; class tokens are not counted."""
        slices, rows, columns = self.grid_size
        return slices * rows * columns

    @property
    def num_class_tokens(self) -> int:
        """Number of class tokens, which come before the patch tokens: one for each slice, or none."""
        return self.grid_size[0] if self.use_cls_token else 0

    @property
    def has_final_norm(self) -> bool:
        """Whether the encoder ends in a norm: unless its mean is classified directly."""
        return not self.use_mean_pooling or self.classifier_num_hidden_layers > 0

    @property
    def classifier_input_size(self) -> int:
        """Number of features that are classified."""
        return self.classifier_hidden_size if self.classifier_num_hidden_layers else self.hidden_size

    @property
    def decoder_positions(self) -> str:
        """The type of the decoder's positions."""
        if self.decoder_position_embedding_type is not None:
            return self.decoder_position_embedding_type
        return "sinusoidal" if self.position_embedding_type == "learned" else self.position_embedding_type

    @property
    def mixed_layers(self) -> tuple[int, ...]:
        """The numbers of the encoder layers, from 0, that the decoder mixes with the output of the encoder."""
        number, depth = self.decoder_mixed_layers, self.num_hidden_layers
        return tuple(depth * index // number - 1 for index in range(1, number))

    def validate_fields(self) -> None:
        """Raises ValueError if fields contradict each other. Models call it again, as fields may have been set since.

        Fields that only pretraining uses are checked one by one here, and in combination by `check_pretraining`.
        """
        self._validate_geometry()
        require_divisible(self, "hidden_size", self.hidden_size, "num_attention_heads", self.num_attention_heads)
        require_choice(self, "mask_type", ENCODER_MASKS)
        require_choice(self, "decoder_mask_type", DECODER_MASKS)
        require_choice(self, "position_embedding_type", POSITION_EMBEDDING_TYPES)
        require_choice(self, "target_pixels", TARGET_PIXELS)
        require_choice(self, "decoder_type", DECODER_TYPES)
        if self.decoder_position_embedding_type is not None:
            require_choice(self, "decoder_position_embedding_type", POSITION_EMBEDDING_TYPES)
        if self.position_embedding_type == "sinusoidal_2d":
            require_four_parts(self, "hidden_size")
        if self.hidden_act not in ACT2FN:
            raise ValueError(
                f"hidden_act={self.hidden_act!r} is not an activation of transformers, such as gelu or relu."
            )
        if self.problem_type is not None:
            require_choice(self, "problem_type", PROBLEM_TYPES)
        for name in (
            "mask_ratio", "decoder_mask_ratio", "drop_path_rate", "classifier_dropout", "hidden_dropout_prob",
            "attention_probs_dropout_prob",
        ):  # fmt: skip
            require_ratio(self, name)
        for name in (
            "layer_norm_eps", "head_layer_norm_eps", "initializer_range", "layer_scale_init_value",
            "reconstruction_weight",
        ):  # fmt: skip
            value = getattr(self, name)
            if value is not None and not (math.isfinite(value) and value >= 0):
                raise ValueError(f"{name}={value} must be finite and not negative.")
        for name in ("image_mean", "image_std"):
            if len(getattr(self, name)) != self.num_channels:
                raise ValueError(
                    f"{name}={getattr(self, name)} has {len(getattr(self, name))} values for num_channels="
                    f"{self.num_channels}; give one value per channel."
                )
        if (self.target_mean is None) != (self.target_std is None):
            raise ValueError(f"target_mean={self.target_mean} and target_std={self.target_std}: give both or neither.")
        for name in ("image_mean", "image_std", "target_mean", "target_std"):
            require_numbers(self, name, positive=name.endswith("std"))

        self._validate_classifier_layers()

    def _validate_classifier_layers(self) -> None:
        depth, most = self.classifier_num_hidden_layers, _MOST["num_hidden_layers"]
        if not 0 <= depth <= most:
            raise ValueError(f"classifier_num_hidden_layers={depth} must be between 0 and {most}.")
        if depth == 0 and self.reconstruction_weight > 0:
            raise ValueError(
                f"reconstruction_weight={self.reconstruction_weight} is for the bridging classifier; set "
                f"classifier_num_hidden_layers (MAR has 2), or reconstruction_weight=0."
            )
        if depth == 0:
            return
        if self.use_mean_pooling is False:
            raise ValueError(
                f"classifier_num_hidden_layers={depth} classifies the mean of the tokens, but use_mean_pooling is "
                f"False; set use_mean_pooling=True, or classifier_num_hidden_layers=0."
            )
        require_divisible(
            self, "classifier_hidden_size", self.classifier_hidden_size,
            "classifier_num_attention_heads", self.classifier_num_attention_heads,
        )  # fmt: skip

    def _validate_geometry(self) -> None:
        for name, most in _MOST.items():
            value = getattr(self, name)
            if name in ("image_size", "patch_size") and not isinstance(value, int) and len(value) != 2:
                raise ValueError(f"{name}={value} is neither one size nor (height, width).")
            if min(_pair(value)) < 1:
                raise ValueError(f"{name}={value} must be at least 1.")
            if max(_pair(value)) > most:
                raise ValueError(f"{name}={value} is larger than in any known model; at most {most:,} is accepted.")
        require_divisible(self, "num_frames", self.num_frames, "tubelet_size", self.tubelet_size)
        if self.position_grid is not None and (len(self.position_grid) != 3 or min(self.position_grid) < 1):
            raise ValueError(f"position_grid={self.position_grid} must be (slices, rows, columns).")
        if self.position_grid is not None and self.position_embedding_type == "learned":
            raise ValueError("position_grid requires fixed positions, but position_embedding_type is 'learned'.")
        for pixels, patch in zip(self.image_hw, self.patch_hw):
            require_divisible(self, "image_size", pixels, "patch_size", patch)
        for grid in (self.grid_size, self.position_grid or (1,)):
            if math.prod(grid) * max(self.hidden_size, self.decoder_hidden_size) > _MOST_POSITIONS:
                raise ValueError(
                    f"num_frames={self.num_frames}, image_size={self.image_size} and position_grid="
                    f"{self.position_grid} result in more positions than any known model has."
                )

    def _check_other_fields(self, others: dict) -> None:
        """Raises ValueError for invalid entries of a config.json other than the fields above, or that cannot be set."""
        number, names = others.get("num_labels", 2), self.id2label
        if type(number) is not int or not 0 <= number <= _MOST_LABELS:
            raise ValueError(f"num_labels={number!r:.40} must be a whole number from 0 to {_MOST_LABELS:,}.")
        if names is not None:
            if not isinstance(names, dict) or sorted(map(str, names)) != sorted(map(str, range(len(names)))):
                raise ValueError(f"id2label={names!r:.60} must name each of the classes 0, 1, .. once.")
        attention = others.get("attn_implementation")
        if attention is not None and not isinstance(attention, str):
            raise ValueError(f"attn_implementation={attention!r:.40} must be a name.")
        architectures = self.architectures or []
        if not isinstance(architectures, list) or not all(isinstance(name, str) for name in architectures):
            raise ValueError(f"architectures={architectures!r:.60} must be a list of names.")
        if self.label2id is not None and not isinstance(self.label2id, dict):
            raise ValueError(f"label2id={self.label2id!r:.60} must map names to classes.")
        for dtype in (self.dtype, others.get("torch_dtype")):
            if dtype is not None and not isinstance(getattr(torch, str(dtype).removeprefix("torch."), 0), torch.dtype):
                raise ValueError(f"dtype={dtype!r:.40} is not a torch dtype.")
        for name in others:
            attribute = inspect.getattr_static(type(self), name, None)
            settable = not isinstance(attribute, property) or attribute.fset is not None
            if not settable or isinstance(attribute, classmethod | staticmethod) or inspect.isroutine(attribute):
                raise ValueError(f"{name!r} is not a field of {type(self).__name__}.")

    def check_decoder(self) -> None:
        """Raises ValueError if decoder fields contradict each other, in a model with a decoder."""
        require_divisible(
            self, "decoder_hidden_size", self.decoder_hidden_size,
            "decoder_num_attention_heads", self.decoder_num_attention_heads,
        )  # fmt: skip
        if not 0 <= self.decoder_mixed_layers <= (self.num_hidden_layers if self.decoder_type == "cross" else 0):
            raise ValueError(
                f"decoder_mixed_layers={self.decoder_mixed_layers} must be between 0 and num_hidden_layers="
                f"{self.num_hidden_layers}, and needs decoder_type='cross' (it is {self.decoder_type!r})."
            )
        if self.decoder_positions == "sinusoidal_2d":
            require_four_parts(self, "decoder_hidden_size")

    def check_pretraining(self) -> None:
        """Raises ValueError if decoder and mask fields contradict each other. Classifiers do not need this check."""
        self.check_decoder()
        if self.tube_length is not None:
            if self.tube_length < 1:
                raise ValueError(f"tube_length={self.tube_length} must be at least 1, or None for the whole clip.")
            require_divisible(self, "tube_length", self.tube_length, "tubelet_size", self.tubelet_size)
        if self.decoder_mask_ratio > 0 and self.mask_type == self.decoder_mask_type == "frame":
            slices = self.grid_size[0]
            if int(self.mask_ratio * slices) <= int(self.decoder_mask_ratio * slices):
                raise ValueError(
                    f"mask_ratio={self.mask_ratio} and decoder_mask_ratio={self.decoder_mask_ratio} of {slices} slices "
                    f"could select only visible tokens for decoding, which leaves no loss; with frame masks, "
                    f"mask_ratio must be larger by at least one slice."
                )
        if self.decoder_mask_ratio > 0 and self.decoder_mask_type == "running_cell":
            _, rows, columns = self.grid_size
            if rows % 2 or columns % 2:
                # Deviation: v2/masking_generator.py accepts an odd grid and makes a mask that is too small.
                raise ValueError(
                    f"decoder_mask_type='running_cell' works in cells of 2x2 patches, but image_size={self.image_size} "
                    f"and patch_size={self.patch_size} give a grid of {rows}x{columns}; make both even, or use another "
                    f"decoder_mask_type."
                )
            if int(4 * self.decoder_mask_ratio) < 1:
                raise ValueError(
                    f"decoder_mask_ratio={self.decoder_mask_ratio} drops no token: with decoder_mask_type="
                    f"'running_cell' it is rounded down to quarters; use 0.25, 0.5 or 0.75 (or 0 for V1)."
                )


def _pair(value) -> tuple[int, int]:
    """An int, or a list or tuple of two, as (height, width)."""
    return (value, value) if isinstance(value, int) else tuple(value)


def _with_config(name: str | Path, options: dict) -> tuple[str | Path, dict]:
    """The checkpoint whose config.json to read, and its file options: for adapters without one, their base model."""
    for _ in range(8):  # adapters of adapters
        adapter = find_file(name, ADAPTER_CONFIG, options) if Path(name).is_dir() else None
        if adapter is None or find_file(name, "config.json", options) is not None:
            break
        name, options = adapted_base(adapter)
    return name, options

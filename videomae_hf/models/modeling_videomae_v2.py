# Copyright 2026 The videomae_hf authors. Licensed under the Apache License, Version 2.0.
"""The models of VideoMAE V1 and V2: encoder, masked pretraining, classification.

VideoMAE (https://arxiv.org/abs/2203.12602) is V1; VideoMAE V2 (https://arxiv.org/abs/2303.16727) adds dual masking.
With clips of one frame and a class token, the same models are MAE (https://arxiv.org/abs/2111.06377) and ViT
(https://arxiv.org/abs/2010.11929). Each model accepts the inputs and returns the outputs of its counterpart in
transformers' VideoMAE, with additions. This file ships with checkpoints and may import only its siblings.
"""

import math
from copy import deepcopy
from dataclasses import dataclass

import torch
from torch import nn
from transformers import initialization as init
from transformers.modeling_outputs import BaseModelOutput, BaseModelOutputWithPooling, ImageClassifierOutput
from transformers.modeling_utils import PreTrainedModel
from transformers.utils import ModelOutput
from transformers.utils.generic import can_return_tuple, merge_with_config_defaults
from transformers.utils.output_capturing import capture_outputs

from .configuration_videomae_v2 import VideoMAEV2Config
from .decoders_videomae_v2 import VideoMAEV2LayerMixing, VideoMAEV2Reconstruction
from .geometry import position_table
from .layers_videomae_v2 import (
    VideoMAEV2Embeddings,
    VideoMAEV2Encoder,
    VideoMAEV2Layer,
    VideoMAEV2ModelOutput,
    VideoMAEV2SelfAttention,
    as_clips,
    build_layers,
    head_norm,
)
from .loading import StrictLoading
from .masking import count_per_row, ids_to_mask, mask_to_ids, sample_decoder_mask, sample_encoder_mask, token_counts
from .token_selection import TokenSelection


@dataclass
class VideoMAEV2ForPreTrainingOutput(ModelOutput):
    """
    Args:
        loss (`torch.FloatTensor` of shape `(1,)`): mean squared error over the decoded tokens hidden from the encoder.
        logits (`torch.FloatTensor` of shape `(B, N_decoded, tubelet_size * patch_height * patch_width * C)`):
            The reconstruction, normalised per patch with `norm_pix_loss`. Tokens are in ascending order, and channels
            vary fastest.
        hidden_states, attentions (`tuple(torch.FloatTensor)`, *optional*): those of the encoder, if requested.
        bool_masked_pos (`torch.BoolTensor` of shape `(B, L)`): True for tokens hidden from the encoder.
        bool_decoded_pos (`torch.BoolTensor` of shape `(B, L)`): True for tokens that the decoder reconstructed.
    """

    loss: torch.FloatTensor | None = None
    logits: torch.FloatTensor | None = None
    hidden_states: tuple[torch.FloatTensor, ...] | None = None
    attentions: tuple[torch.FloatTensor, ...] | None = None
    bool_masked_pos: torch.BoolTensor | None = None
    bool_decoded_pos: torch.BoolTensor | None = None


class VideoMAEV2PreTrainedModel(StrictLoading, PreTrainedModel):
    config: VideoMAEV2Config
    base_model_prefix = "videomae"
    main_input_name = "pixel_values"
    input_modalities = "video"
    supports_gradient_checkpointing = True
    _no_split_modules = ["VideoMAEV2Embeddings", "VideoMAEV2Layer", "VideoMAEV2CrossLayer"]
    _supports_sdpa = True
    _supports_flash_attn = True
    _supports_flex_attn = True
    _supports_attention_backend = True
    _can_record_outputs = {"hidden_states": VideoMAEV2Layer, "attentions": VideoMAEV2SelfAttention}
    # The Trainer assumes that a model whose forward has `**kwargs` divides the loss itself; without this flag it would
    # multiply the loss by the numbers of accumulation steps and processes.
    accepts_loss_kwargs = False

    def __init__(self, config: VideoMAEV2Config, *args, **kwargs) -> None:
        config.validate_fields()  # `from_pretrained(..., num_frames=7)` sets fields one by one
        super().__init__(config, *args, **kwargs)

    def _check_mask(self, mask: torch.Tensor, name: str, batch_size: int) -> None:
        """Raises ValueError if a mask is not of shape (batch_size, L)."""
        expected = (batch_size, self.config.sequence_length)
        if tuple(mask.shape) != expected:
            raise ValueError(f"{name} has shape {tuple(mask.shape)}, but the videos need {expected}.")

    def _token_ids(self, mask: torch.Tensor, name: str) -> torch.Tensor:
        """(B, L) bool -> (B, N) positions of True, where N is a Python int, so that all shapes after it are static.

        A mask may have any N, the same in each row. N is read from the mask, which waits for the device. Under
        `torch.compile`, where reading would break the graph, N is the number that the configuration implies, guarded by
        an assertion on the device. The training loop passes ids instead, whose shape gives N.
        """
        if torch.compiler.is_compiling():
            num_visible, num_decoded = token_counts(self.config)
            count = num_decoded if name == "bool_decoded_pos" else num_visible
            message = f"{name} must have {count} True in each row, as the configuration implies; otherwise pass ids."
            torch._assert_async((mask.sum(dim=1) == count).all(), message)
        else:
            count = count_per_row(mask, name)
        return mask_to_ids(mask, count)

    @torch.no_grad()
    def _init_weights(self, module: nn.Module) -> None:
        """The official initialisation (v1/modeling_pretrain.py, v1/modeling_finetune.py), for all models.

        Deviation: official finetuning from scratch initialises every Linear from a normal of std 0.02; here the blocks
        are Xavier uniform as in pretraining. Each module initialises only its own tensors, because transformers skips
        submodules that were loaded.
        """
        if isinstance(module, nn.Linear) and module is getattr(self, "classifier", None):
            # `--init_scale 0.001` of the official finetuning
            init.trunc_normal_(module.weight, std=self.config.initializer_range * 0.001)
            init.zeros_(module.bias)
        elif isinstance(module, nn.Conv3d) or module in (
            getattr(self, "encoder_to_decoder", None),
            getattr(self, "encoder_to_classifier", None),
        ):
            _init_like_pytorch(module)
        elif isinstance(module, nn.Linear):
            init.xavier_uniform_(module.weight, gain=getattr(module, "xavier_gain", 1.0))
            if module.bias is not None:
                init.zeros_(module.bias)
        elif isinstance(module, nn.LayerNorm):
            init.ones_(module.weight)
            init.zeros_(module.bias)
        elif isinstance(module, VideoMAEV2SelfAttention) and self.config.use_cosine_attention:
            init.constant_(module.scale, math.log(10.0))
        elif isinstance(module, VideoMAEV2Layer) and module.lambda_1 is not None:
            init.constant_(module.lambda_1, self.config.layer_scale_init_value)
            init.constant_(module.lambda_2, self.config.layer_scale_init_value)
        elif isinstance(module, VideoMAEV2LayerMixing):  # the output of the encoder alone
            init.copy_(
                module.layer_weights, torch.eye(module.layer_weights.shape[1])[-1].expand_as(module.layer_weights)
            )
        elif isinstance(module, VideoMAEV2Embeddings):
            self._init_positions(module.position_embeddings, self.config.position_embedding_type)
            if module.cls_token is not None:
                init.normal_(module.cls_token, std=0.02)  # mae/models_mae.py
        elif isinstance(module, VideoMAEV2Reconstruction) and module.decoder is not None:
            self._init_positions(module.position_embeddings, self.config.decoder_positions)
            init.trunc_normal_(module.mask_token, std=0.02, a=-0.02, b=0.02)  # truncated at one standard deviation

    def _init_positions(self, positions: torch.Tensor, kind: str) -> None:
        if kind == "learned":
            init.trunc_normal_(positions, std=self.config.initializer_range)
        else:  # a buffer that no file holds; after building the model on the meta device it is filled here
            init.copy_(positions, position_table(self.config, positions.shape[-1], kind))


def _init_like_pytorch(module: nn.Linear | nn.Conv3d) -> None:
    """PyTorch's default initialisation, which the official code keeps for patch projection and encoder_to_decoder."""
    init.kaiming_uniform_(module.weight, a=math.sqrt(5))
    if module.bias is not None:
        bound = module.weight[0].numel() ** -0.5
        init.uniform_(module.bias, -bound, bound)


class VideoMAEV2Model(VideoMAEV2PreTrainedModel):
    """The encoder."""

    # Which tokens it gets if the caller passes neither masks nor ids; of a run, and not saved (see `select_tokens`)
    token_selection: TokenSelection | None = None

    def __init__(self, config: VideoMAEV2Config) -> None:
        super().__init__(config)
        self.embeddings = VideoMAEV2Embeddings(config)
        self.encoder = VideoMAEV2Encoder(config)
        self.layernorm = None
        if config.has_final_norm:
            self.layernorm = nn.LayerNorm(config.hidden_size, eps=config.layer_norm_eps)
        self.post_init()

    def get_input_embeddings(self) -> nn.Module:
        return self.embeddings.patch_embeddings

    @merge_with_config_defaults
    @capture_outputs(tie_last_hidden_states=False)
    def forward(
        self,
        pixel_values: torch.Tensor,
        bool_masked_pos: torch.BoolTensor | None = None,
        visible_ids: torch.LongTensor | None = None,
        interpolate_pos_encoding: bool = False,
        kept_layers: tuple[int, ...] = (),
        **kwargs,
    ) -> BaseModelOutput:
        """Encodes all tokens of clips, or only the visible ones.

        Args:
            pixel_values: (B, T, C, H, W), either float and normalised by `config.image_mean` and `config.image_std`, or
                uint8 (0 to 255), which is normalised here, after masking, with the same result. A model of one frame
                also takes images (B, C, H, W).
            bool_masked_pos: bool (B, L), True = hidden; the same number in every row.
            visible_ids: int64 (B, N), the visible tokens, instead of a mask. Their number follows from the shape, so
                that nothing has to be read back from the device. Without class tokens, a clip may then be shorter than
                `config.num_frames`: ids address its slices, which take the positions of the first ones.
            interpolate_pos_encoding: accept clips of any size, with positions interpolated from the model's own grid;
                not together with masks.
            kept_layers: numbers of layers, from 0, whose outputs are returned as `layer_outputs`.
            kwargs: `output_hidden_states`, `output_attentions`, `return_dict`.

        Returns:
            `last_hidden_state` (B, K + N, D): the K = `config.num_class_tokens` class tokens, if any, and then the
            patch tokens in ascending order. Models of one frame also return `pooler_output` (B, D), which is
            `pooled_features`, where image pipelines look for it.

        Raises:
            ValueError: the shape or dtype of `pixel_values` does not fit the model, or a mask has another length or
                rows with different numbers of True.
        """
        pixel_values = as_clips(pixel_values, self.config)
        visible_ids = self.visible_tokens(pixel_values, bool_masked_pos, visible_ids)
        output_attentions = bool(kwargs.get("output_attentions", self.config.output_attentions))
        embeddings = self.embeddings(pixel_values, visible_ids, interpolate_pos_encoding)
        hidden_states, layer_outputs = self.encoder(embeddings, output_attentions, kept_layers)
        if self.layernorm is not None:
            hidden_states = self.layernorm(hidden_states)
        if kept_layers:
            return VideoMAEV2ModelOutput(last_hidden_state=hidden_states, layer_outputs=layer_outputs)
        if self.config.num_frames > 1:  # as transformers' VideoMAE
            return BaseModelOutput(last_hidden_state=hidden_states)
        return BaseModelOutputWithPooling(hidden_states, self.pooled_features(hidden_states))

    def visible_tokens(
        self,
        pixel_values: torch.Tensor,
        bool_masked_pos: torch.BoolTensor | None = None,
        visible_ids: torch.LongTensor | None = None,
    ) -> torch.LongTensor | None:
        """int64 (B, N), the tokens of clips (B, T, C, H, W) that `forward` encodes with these masks; None for all."""
        if visible_ids is None and bool_masked_pos is not None:
            self._check_mask(bool_masked_pos, "bool_masked_pos", pixel_values.shape[0])
            return self._token_ids(~bool_masked_pos.bool(), "~bool_masked_pos")
        if visible_ids is None and self.token_selection is not None:
            return self.token_selection.visible_ids(pixel_values, self.config, training=self.training)
        return visible_ids

    def patch_tokens(self, hidden_states: torch.Tensor) -> torch.Tensor:
        """(B, K + N, D) -> (B, N, D), without the class tokens."""
        return hidden_states[:, self.config.num_class_tokens :]

    def pooled_features(self, hidden_states: torch.Tensor) -> torch.Tensor:
        """One vector per clip, for probes and neighbours: tokens (B, K + N, D) -> (B, D).

        The mean of the patch tokens or, if the head classifies class tokens (`use_mean_pooling=False`), the mean of
        these, which is the class token of an image.
        """
        if self.config.use_cls_token and self.config.use_mean_pooling is False:
            return hidden_states[:, : self.config.num_class_tokens].mean(dim=1)
        return self.patch_tokens(hidden_states).mean(dim=1)


class VideoMAEV2ForPreTraining(VideoMAEV2Reconstruction, VideoMAEV2PreTrainedModel):
    """An encoder, and a decoder that reconstructs pixels: V1, or V2 with `config.decoder_mask_ratio` > 0."""

    head_parts = ("decoder", "mask_token", "encoder_to_decoder", "position_embeddings")

    # The encoder's is in the configuration
    _fsdp_plan = {"decoder.decoder_layers.*": "free_full_weight", "decoder.cross_layers.*": "free_full_weight"}

    def __init__(self, config: VideoMAEV2Config) -> None:
        config.check_pretraining()
        super().__init__(config)
        self.videomae = VideoMAEV2Model(config)
        self.add_decoder(config)
        self.post_init()

    @can_return_tuple
    def forward(
        self,
        pixel_values: torch.Tensor,
        bool_masked_pos: torch.BoolTensor | None = None,
        bool_decoded_pos: torch.BoolTensor | None = None,
        visible_ids: torch.LongTensor | None = None,
        decoded_ids: torch.LongTensor | None = None,
        generator: torch.Generator | None = None,
        seed: int | None = None,
        **kwargs,
    ) -> VideoMAEV2ForPreTrainingOutput:
        """Reconstructs masked clips. Masks that are not given are sampled according to the configuration.

        Args:
            pixel_values: (B, T, C, H, W), either float and normalised by `config.image_mean` and `config.image_std`, or
                uint8 (0 to 255), which takes a quarter of the memory; only the patches in use are converted to float.
                A model of one frame also takes images (B, C, H, W).
            bool_masked_pos: bool (B, L), True = hidden from the encoder; the same number in every row.
            bool_decoded_pos: bool (B, L), True = reconstructed by the decoder; the same number in every row. By default
                all masked tokens (`decoder_mask_ratio` 0), or a sampled mask.
            visible_ids, decoded_ids: int64 (B, N), ascending positions, instead of the masks. Their numbers follow from
                the shapes, so that nothing waits for the device; the collator of this package passes these. Without
                class tokens, a clip may then be shorter than `config.num_frames`, as images of OmniMAE are: its slices
                take the positions of the first ones, in the encoder and in the decoder.
            generator, seed: random generator, or seed for one, for sampling masks; by default torch's global generator.
            kwargs: `output_hidden_states`, `output_attentions` (of the encoder), `return_dict`.

        Returns:
            A `VideoMAEV2ForPreTrainingOutput`.

        Raises:
            ValueError: the rows of a mask differ in their number of True, a mask has another length, or the shape or
                dtype of `pixel_values` does not fit the model.

        Example:

        ```python
        >>> import torch
        >>> from videomae_hf import VideoMAEV2Config, VideoMAEV2ForPreTraining

        >>> model = VideoMAEV2ForPreTraining(VideoMAEV2Config.from_size("small"))
        >>> outputs = model(torch.randn(1, 16, 3, 224, 224), seed=0)
        >>> list(outputs.logits.shape)
        [1, 784, 1536]
        ```"""
        if seed is not None:
            generator = torch.Generator(pixel_values.device).manual_seed(seed)
        pixel_values = as_clips(pixel_values, self.config)
        bool_masked_pos, visible_ids = self._encoder_mask(pixel_values, bool_masked_pos, visible_ids, generator)
        if decoded_ids is None:
            decoded_ids = self._decoded_ids(bool_masked_pos, bool_decoded_pos, visible_ids.shape[1], generator)
        outputs = self.videomae(pixel_values, visible_ids=visible_ids, kept_layers=self.config.mixed_layers, **kwargs)
        logits = self.forward_decoder(outputs, visible_ids, decoded_ids)
        return VideoMAEV2ForPreTrainingOutput(
            loss=self.forward_loss(pixel_values, logits, bool_masked_pos, decoded_ids),
            logits=logits,
            hidden_states=outputs.hidden_states,
            attentions=outputs.attentions,
            bool_masked_pos=bool_masked_pos,
            bool_decoded_pos=ids_to_mask(decoded_ids, self.config.sequence_length),
        )

    def _encoder_mask(self, pixel_values, bool_masked_pos, visible_ids, generator) -> tuple[torch.Tensor, torch.Tensor]:
        """`bool_masked_pos` (B, L) and `visible_ids` (B, N), from whichever of the two is given, or sampled."""
        if visible_ids is not None:
            return ~ids_to_mask(visible_ids, self.config.sequence_length), visible_ids
        if bool_masked_pos is not None:
            self._check_mask(bool_masked_pos, "bool_masked_pos", pixel_values.shape[0])
            bool_masked_pos = bool_masked_pos.to(pixel_values.device).bool()
            visible_ids = self._token_ids(~bool_masked_pos, "~bool_masked_pos")
            if visible_ids.shape[1] == self.config.sequence_length:
                raise ValueError("bool_masked_pos hides no token, so that there is nothing to reconstruct.")
            return bool_masked_pos, visible_ids
        device = pixel_values.device if generator is None else generator.device
        bool_masked_pos = sample_encoder_mask(self.config, pixel_values.shape[0], generator, device)
        bool_masked_pos = bool_masked_pos.to(pixel_values.device)
        return bool_masked_pos, mask_to_ids(~bool_masked_pos, token_counts(self.config)[0])

    def _decoded_ids(self, bool_masked_pos, bool_decoded_pos, num_visible, generator) -> torch.Tensor:
        """`decoded_ids` (B, N): from the mask if given, otherwise all masked tokens in V1 and sampled ones in V2."""
        device = bool_masked_pos.device
        if bool_decoded_pos is not None:
            self._check_mask(bool_decoded_pos, "bool_decoded_pos", bool_masked_pos.shape[0])
            bool_decoded_pos = bool_decoded_pos.to(device).bool()
            if not torch.compiler.is_compiling() and not (bool_decoded_pos & bool_masked_pos).any():
                raise ValueError("bool_decoded_pos selects no token that bool_masked_pos hides, which leaves no loss.")
            return self._token_ids(bool_decoded_pos, "bool_decoded_pos")
        if self.config.decoder_mask_ratio == 0:
            return mask_to_ids(bool_masked_pos, self.config.sequence_length - num_visible)
        draw_device = device if generator is None else generator.device
        bool_decoded_pos = sample_decoder_mask(self.config, bool_masked_pos.shape[0], generator, draw_device)
        return mask_to_ids(bool_decoded_pos.to(device), token_counts(self.config)[1])


class VideoMAEV2ForVideoClassification(VideoMAEV2Reconstruction, VideoMAEV2PreTrainedModel):
    """An encoder and a linear classifier, on the mean of all patches or as `config.use_mean_pooling` says.

    With `config.classifier_num_hidden_layers`, layers of the classifier's own come before the mean: the bridging
    classifier of MAR (https://arxiv.org/abs/2207.11660). With `config.reconstruction_weight` as well, the decoder of
    pretraining reconstructs the tokens that training hides from the encoder, and its loss is added, as in MAR.
    """

    head_parts = ("encoder_to_classifier", "classifier_layers", "fc_norm", "classifier")
    _fsdp_plan = {"classifier_layers.*": "free_full_weight", **VideoMAEV2ForPreTraining._fsdp_plan}

    def __init__(self, config: VideoMAEV2Config) -> None:
        if config.use_mean_pooling is None:  # the official choice; pretraining checkpoints leave it open
            config = deepcopy(config)
            config.use_mean_pooling = True
        super().__init__(config)
        self.num_labels = config.num_labels
        self.videomae = VideoMAEV2Model(config)
        width = config.classifier_input_size
        self.encoder_to_classifier = self.classifier_layers = self.decoder = None
        if config.classifier_num_hidden_layers:
            sizes = (width, config.classifier_num_attention_heads, 4 * width)
            self.encoder_to_classifier = nn.Linear(config.hidden_size, width, bias=False)
            self.classifier_layers = build_layers(
                VideoMAEV2Layer, config, config.classifier_num_hidden_layers, *sizes, drop_path_rate=0.0
            )
        self.fc_norm = head_norm(config, width) if config.use_mean_pooling else None
        self.dropout = nn.Dropout(config.classifier_dropout)
        self.classifier = nn.Linear(width, config.num_labels) if config.num_labels > 0 else nn.Identity()
        if config.reconstruction_weight:
            config.check_decoder()
            self.add_decoder(config)
        # (num_labels,), weights of the classes in the training loss; they belong to a run and are not saved.
        self.register_buffer("class_weights", None, persistent=False)
        for name in ("target_mean", "target_std"):
            values = getattr(config, name)
            if values is not None and len(values) != config.num_labels:
                raise ValueError(f"{name}={values} must have one value for each of the {config.num_labels} targets.")
        self.post_init()

    @can_return_tuple
    def forward(
        self, pixel_values: torch.Tensor, labels: torch.Tensor | None = None, **kwargs
    ) -> ImageClassifierOutput:
        """Classifies videos.

        Args:
            pixel_values: (B, T, C, H, W), or (B, V, T, C, H, W) with V views per video, whose predicted probabilities
                are averaged as in the official test (v2/engine_for_finetuning.py, `merge`). Either float and normalised
                by `config.image_mean` and `config.image_std`, or uint8 (0 to 255). A model of one frame also takes
                images (B, C, H, W).
            labels: int64 (B,), class indices; float (B, num_labels) for several labels per video or, with
                `problem_type="single_label_classification"`, class probabilities; for regression float (B, num_labels)
                or (B,), in the unit of the data, where NaN is ignored.
            kwargs: `bool_masked_pos`, `visible_ids`, `interpolate_pos_encoding`, `output_hidden_states`,
                `output_attentions`, `return_dict`.

        Returns:
            `loss` (with labels), to which training adds `reconstruction_weight` times that of the hidden tokens, and
            `logits` (B, num_labels); with a single view also hidden states and attentions.

        Raises:
            ValueError: the shape or dtype of `pixel_values` does not fit the model.
        """
        hidden_states = attentions = None
        reconstructs = self.decoder is not None and self.training and pixel_values.ndim < 6
        if labels is not None and self.config.problem_type is None:
            self.config.problem_type = self.inferred_problem_type(labels)  # saved with the model, as in transformers
        if pixel_values.ndim == 6:
            # One view at a time: (B, V, T, C, H, W) -> V x (B, num_labels) -> (B, V, num_labels)
            views = [self._classify(view, **kwargs)[0] for view in pixel_values.unbind(1)]
            logits = average_views(torch.stack(views, dim=1), self.inferred_problem_type(None))
        else:
            kwargs = self._with_visible_ids(pixel_values, **kwargs) if reconstructs else kwargs
            logits, outputs = self._classify(pixel_values, **kwargs)
            hidden_states, attentions = outputs.hidden_states, outputs.attentions
        loss = None if labels is None else self._classification_loss(logits, labels)
        if loss is not None and reconstructs:
            hidden = self.hidden_loss(pixel_values, outputs, kwargs["visible_ids"])
            loss = loss + self.config.reconstruction_weight * hidden
        return ImageClassifierOutput(loss=loss, logits=logits, hidden_states=hidden_states, attentions=attentions)

    def _fitting(self, weights: dict[str, torch.Tensor], *source) -> dict[str, torch.Tensor]:
        """As in `StrictLoading`, without a head that reads other tokens: those of layers, where this model has none."""
        weights = super()._fitting(weights, *source)
        if any(name.startswith("classifier_layers.") for name in weights) == (self.classifier_layers is not None):
            return weights
        return {name: value for name, value in weights.items() if not name.startswith(("fc_norm.", "classifier."))}

    def _with_visible_ids(self, pixel_values, bool_masked_pos=None, visible_ids=None, **kwargs) -> dict:
        """The arguments of the encoder, with the visible tokens, which the decoder needs as well, as ids."""
        visible_ids = self.videomae.visible_tokens(as_clips(pixel_values, self.config), bool_masked_pos, visible_ids)
        return {**kwargs, "visible_ids": visible_ids, "kept_layers": self.config.mixed_layers}

    def _classify(self, pixel_values, **kwargs) -> tuple[torch.Tensor, BaseModelOutput]:
        outputs = self.videomae(pixel_values, **kwargs)
        return self.classify_tokens(outputs.last_hidden_state), outputs

    def classify_tokens(self, tokens: torch.Tensor) -> torch.Tensor:
        """The encoder's `last_hidden_state` (B, L, D) -> logits (B, num_labels)."""
        if self.classifier_layers is not None:
            # (B, L, D) -> (B, L, classifier_hidden_size); with mixed precision the residual stream stays float32
            tokens = self.encoder_to_classifier(tokens).to(tokens.dtype)
            for layer in self.classifier_layers:
                tokens = layer(tokens)
        if self.fc_norm is not None:
            pooled = self.fc_norm(self.videomae.pooled_features(tokens))  # (B, D)
        else:  # transformers' VideoMAE, which has no class token, takes the first patch
            pooled = self.videomae.pooled_features(tokens) if self.config.use_cls_token else tokens[:, 0]
        logits = self.classifier(self.dropout(pooled))  # (B, num_labels)
        if self.config.target_mean is not None:
            mean, std = (logits.new_tensor(v, dtype=torch.float32) for v in self.target_range())
            logits = torch.addcmul(mean, logits.float(), std)
        return logits

    def target_range(self) -> tuple[tuple[float, ...], tuple[float, ...]]:
        """Mean and standard deviation of the regression targets; (0,) and (1,) if they are not normalised."""
        config = self.config
        return ((0.0,), (1.0,)) if config.target_mean is None else (config.target_mean, config.target_std)

    def inferred_problem_type(self, labels: torch.Tensor | None) -> str:
        """`config.problem_type`, or else the type that transformers infers from the labels and their number."""
        if self.config.problem_type is not None:
            return self.config.problem_type
        if self.num_labels == 1:
            return "regression"
        soft = labels is not None and labels.is_floating_point()
        return "multi_label_classification" if soft else "single_label_classification"

    def _classification_loss(self, logits: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        """The loss of the problem type, in float32. Labels of -100 are ignored; the loss is 0 if all of them are.

        `class_weights`, in training only, multiply the terms of their classes but not the divisor, which remains the
        number of clips, so that the loss of a batch is the mean over its equal parts. With several labels per video
        they multiply the terms of the labels that are present, like `pos_weight`.
        """
        logits, problem_type = logits.float(), self.inferred_problem_type(labels)
        weights = self.class_weights if self.training else None
        if problem_type == "regression":
            return self._regression_loss(logits, labels)
        if problem_type == "single_label_classification" and labels.is_floating_point():
            loss = nn.functional.cross_entropy(logits, labels.float(), weights, reduction="sum")
            return loss / len(labels)
        counts = (labels != -100).float()
        if problem_type == "multi_label_classification":
            loss = nn.functional.binary_cross_entropy_with_logits(
                logits, labels.float(), counts, reduction="sum", pos_weight=weights
            )
        else:
            loss = nn.functional.cross_entropy(logits, labels.view(-1), weights, reduction="sum")
        return loss / counts.sum().clamp(min=1)

    def _regression_loss(self, logits: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        """Mean squared error over the normalised targets that are not NaN."""
        std = logits.new_tensor(self.target_range()[1])
        labels = labels.float().view_as(logits)
        known = labels.isfinite()
        errors = ((logits - labels.where(known, logits)) / std).square()
        return errors.sum() / known.sum().clamp(min=1)


def average_views(logits: torch.Tensor, problem_type: str) -> torch.Tensor:
    """(B, V, num_labels) -> (B, num_labels): logits whose probabilities are the mean of those of the views."""
    logits = logits.float()
    if problem_type == "regression":
        return logits.mean(dim=1)
    if problem_type == "multi_label_classification":
        return torch.logit(logits.sigmoid().mean(dim=1), eps=1e-7)
    return logits.log_softmax(dim=-1).logsumexp(dim=1) - math.log(logits.shape[1])

"""The memory estimate against what is really kept: the bytes that autograd saves, and the states of AdamW."""

import pytest
import torch

from videomae_hf import VideoMAEV2Config, VideoMAEV2ForPreTraining, VideoMAEV2ForVideoClassification
from videomae_hf.models.masking import mask_to_ids, sample_masks, token_counts
from videomae_hf.models.token_selection import select_tokens
from videomae_hf.training.adaptation import freeze
from videomae_hf.training.memory_estimate import (
    MemorySettings,
    activations,
    estimate_memory,
    trained_layers,
    weight_copies,
)
from videomae_hf.training.muon import MuonAndAdamW
from videomae_hf.training.optimization import parameter_groups


SMALL = {
    "image_size": 32,
    "patch_size": 8,
    "num_frames": 8,
    "hidden_size": 48,
    "num_hidden_layers": 3,
    "num_attention_heads": 3,
    "intermediate_size": 192,
    "decoder_hidden_size": 32,
    "decoder_num_hidden_layers": 2,
    "decoder_num_attention_heads": 2,
    "decoder_intermediate_size": 128,
    "use_mean_pooling": None,
}
V1 = {"mask_ratio": 0.75}
V2 = {"mask_ratio": 0.75, "decoder_mask_ratio": 0.5}
BRIDGE = {"classifier_num_hidden_layers": 2, "classifier_hidden_size": 40, "classifier_num_attention_heads": 2}
# The estimate leaves out indices, the classifier and what is as small: it may be 1 % off.
TOLERANCE = 0.01


def build(model_class, **fields):
    torch.manual_seed(0)
    return model_class(VideoMAEV2Config(**{**SMALL, **fields})).train()


def forward(model, clips: int):
    config = model.config
    pixel_values = torch.randint(0, 256, (clips, config.num_frames, 3, *config.image_hw), dtype=torch.uint8)
    if not isinstance(model, VideoMAEV2ForPreTraining):
        if model.config.reconstruction_weight:
            select_tokens(model, token_keep=0.5)
        return model(pixel_values, labels=torch.zeros(clips, dtype=torch.int64)).loss
    masked, decoded = sample_masks(config, clips)
    num_visible, num_decoded = token_counts(config)
    ids = {"visible_ids": mask_to_ids(~masked, num_visible), "decoded_ids": mask_to_ids(decoded, num_decoded)}
    return model(pixel_values, **ids).loss


def kept_bytes(model, settings: MemorySettings) -> int:
    """Bytes of the storages that a forward pass leaves to the backward pass, each once, without the weights."""
    weights = {tensor.untyped_storage().data_ptr() for tensor in (*model.parameters(), *model.buffers())}
    kept = []  # holds them, so that no address is used twice

    def pack(tensor: torch.Tensor) -> torch.Tensor:
        kept.append(tensor)
        return tensor

    autocast = torch.autocast("cpu", dtype=torch.bfloat16, enabled=settings.mixed_precision)
    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor), autocast:
        forward(model, settings.clips)
    storages = {tensor.untyped_storage().data_ptr(): tensor.untyped_storage().nbytes() for tensor in kept}
    return sum(size for address, size in storages.items() if address not in weights)


CONFIGURATIONS = {
    "V1": (VideoMAEV2ForPreTraining, V1),
    "V2": (VideoMAEV2ForPreTraining, V2),
    "V2, deep decoder": (VideoMAEV2ForPreTraining, {**V2, "decoder_num_hidden_layers": 5}),
    "V2, one decoder layer, frames masked": (
        VideoMAEV2ForPreTraining,
        {"mask_type": "frame", "mask_ratio": 0.5, "decoder_num_hidden_layers": 1, "num_frames": 16},
    ),
    "cross": (VideoMAEV2ForPreTraining, {**V2, "decoder_type": "cross"}),
    "cross, mixed": (VideoMAEV2ForPreTraining, {**V1, "decoder_type": "cross", "decoder_mixed_layers": 2}),
    "classification": (VideoMAEV2ForVideoClassification, {}),
    "classification, wide": (VideoMAEV2ForVideoClassification, {"hidden_size": 96, "num_frames": 4}),
    "bridging classifier": (VideoMAEV2ForVideoClassification, BRIDGE),
    "joint reconstruction": (VideoMAEV2ForVideoClassification, {**BRIDGE, "reconstruction_weight": 0.1}),
    "joint reconstruction, cross": (
        VideoMAEV2ForVideoClassification,
        {**BRIDGE, "reconstruction_weight": 0.1, "decoder_type": "cross", "decoder_mixed_layers": 2},
    ),
    "classification, drop path": (VideoMAEV2ForVideoClassification, {"drop_path_rate": 0.2, "num_hidden_layers": 6}),
}


@pytest.mark.parametrize("mixed_precision", [False, True], ids=["fp32", "bf16"])
@pytest.mark.parametrize("name", CONFIGURATIONS)
def test_what_autograd_keeps(name, mixed_precision):
    model_class, fields = CONFIGURATIONS[name]
    model = build(model_class, **fields)
    for clips in (2, 6):
        settings = MemorySettings(clips, mixed_precision, token_keep=0.5 if "joint" in name else 1.0)
        parts = activations(model.config, pretraining=model_class is VideoMAEV2ForPreTraining, settings=settings)
        expected = sum(parts.values()) + weight_copies(model, settings)
        assert expected == pytest.approx(kept_bytes(model, settings), rel=TOLERANCE)


@pytest.mark.filterwarnings("ignore:.gradient_checkpointing_enable")  # the name that transformers 5.17 has as well
@pytest.mark.parametrize("mixed_precision", [False, True], ids=["fp32", "bf16"])
@pytest.mark.parametrize("name", ["V1", "V2", "cross", "cross, mixed", "classification", "joint reconstruction"])
def test_what_autograd_keeps_with_checkpointing(name, mixed_precision):
    """Reentrant checkpointing, because the other one keeps the inputs of the layers where no hook sees them."""
    model_class, fields = CONFIGURATIONS[name]
    model = build(model_class, **fields)
    model.gradient_checkpointing_enable({"use_reentrant": True})
    kept = 0.5 if name == "joint reconstruction" else 1.0
    settings = MemorySettings(6, mixed_precision, checkpointing=True, token_keep=kept)
    parts = activations(model.config, pretraining=model_class is VideoMAEV2ForPreTraining, settings=settings)
    kept = kept_bytes(model, settings)
    # Copies of weights inside the layers are kept by autocast and not by autograd; those outside are small.
    assert sum(parts.values()) == pytest.approx(kept, rel=0.04 if mixed_precision else TOLERANCE)


@pytest.mark.parametrize("frozen", [1, 2, 3])
def test_frozen_layers_keep_nothing(frozen):
    model = build(VideoMAEV2ForVideoClassification)
    freeze(model, freeze_layers=frozen)
    assert trained_layers(model) == 3 - frozen
    settings = MemorySettings(4)
    parts = activations(model.config, pretraining=False, settings=settings, num_layers=trained_layers(model))
    kept = kept_bytes(model, settings)
    assert sum(parts.values()) == pytest.approx(kept, rel=TOLERANCE, abs=4000)


@pytest.mark.parametrize("mixed_precision", [False, True], ids=["fp32", "bf16"])
def test_half_of_the_tokens(mixed_precision):
    model = build(VideoMAEV2ForVideoClassification)
    select_tokens(model, token_keep=0.5)
    settings = MemorySettings(6, mixed_precision, token_keep=0.5)
    parts = activations(model.config, pretraining=False, settings=settings)
    assert list(parts) == ["encoder (32 tokens)"]
    expected = sum(parts.values()) + weight_copies(model, settings)
    assert expected == pytest.approx(kept_bytes(model, settings), rel=TOLERANCE)


def test_weights_gradients_and_states():
    model = build(VideoMAEV2ForPreTraining, **V2)
    model.videomae.embeddings.requires_grad_(False)
    parts = estimate_memory(model, MemorySettings(2))
    forward(model, 2).backward()
    optimizer = torch.optim.AdamW([parameter for parameter in model.parameters() if parameter.requires_grad])
    optimizer.step()

    def size(tensors) -> int:
        return sum(tensor.numel() * tensor.element_size() for tensor in tensors)

    assert parts["weights"] == size(model.parameters())
    assert parts["gradients"] == size(p.grad for p in model.parameters() if p.grad is not None)
    states = [value for state in optimizer.state.values() for name, value in state.items() if name != "step"]
    assert parts["AdamW"] == size(states)
    assert parts["clips"] == 2 * 8 * 3 * 32 * 32
    # Buckets of DistributedDataParallel; clips that the collator made floats of
    more = estimate_memory(model, MemorySettings(2, num_processes=2, float_pixels=True))
    assert more["gradients"] == 2 * parts["gradients"] and more["clips"] == 4 * parts["clips"]


def test_states_of_muon():
    model = build(VideoMAEV2ForPreTraining, **V2)
    model.videomae.embeddings.requires_grad_(False)
    forward(model, 2).backward()
    optimizer = MuonAndAdamW(parameter_groups(model, 1e-3, 0.05, 1.0, muon=True))
    optimizer.step()
    states = [value for state in optimizer.state.values() for name, value in state.items() if name != "step"]
    estimate = estimate_memory(model, MemorySettings(2, muon=True))
    assert estimate["Muon and AdamW"] == sum(tensor.numel() * tensor.element_size() for tensor in states)
    assert "AdamW" not in estimate


def test_a_literal_estimate():
    """ViT-B with V1's masks, 32 clips in bf16, worked out by hand."""
    with torch.device("meta"):
        model = VideoMAEV2ForPreTraining(VideoMAEV2Config.from_size("base", version=1))
    # A number of the residual is 4 bytes, one out of a product 2. Both norms keep their input, a mean and a deviation;
    # then three copies of the first one's output are read, and queries, keys, values, their result, the denominators of
    # each head, what the MLP reads, and twice its inner size.
    encoder_layer = 160 * (2 * 4 * (768 + 2) + 2 * 768 * (3 + 3 + 1 + 1) + 4 * 12 + 2 * 2 * 3072)
    decoder_layer = 1568 * (2 * 4 * (384 + 2) + 2 * 384 * (3 + 3 + 1 + 1) + 4 * 6 + 2 * 2 * 1536)
    # The last one asks for the 1408 masked tokens alone.
    last_layer = (1568 + 1408) * 4 * (384 + 2) + 2 * 384 * (2 * (1408 + 2 * 1568) + 1408 + 1408)
    last_layer += 1408 * (4 * 6 + 2 * 2 * 1536)
    assert estimate_memory(model, MemorySettings(32, mixed_precision=True)) == {
        "weights": 4 * 94_210_944,
        "bf16 copies": 2 * (12 * 12 * 768**2 + 4 * 12 * 384**2 + 768 * 384 + 384 * 1536),
        "gradients": 4 * 94_210_944,
        "AdamW": 8 * 94_210_944,
        "clips": 32 * 16 * 3 * 224**2,
        "encoder (160 of 1568 tokens)": 32 * (12 * encoder_layer + 160 * (2 * 1536 + 6 * 768)),
        "decoder (1568 tokens)": 32 * (3 * decoder_layer + last_layer + 1408 * 6 * 384),
        "loss": 32 * 1408 * 1536 * 8,
        "work space": 32 * decoder_layer,
    }

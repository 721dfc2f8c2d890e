"""Traced, exported and in ONNX: the same outputs for other batches than that of the example."""

import warnings

import pytest
import torch
from helpers.shared import needs_dynamo
from helpers.tiny_models import build
from torch import nn

from videomae_hf import VideoMAEV2ForPreTraining, VideoMAEV2ForVideoClassification, sample_masks, token_counts
from videomae_hf.models.masking import ids_to_mask, mask_to_ids


class Outputs(nn.Module):
    """Tensors in, tensors out, as exporters want it."""

    def __init__(self, model, names: tuple[str, ...]):
        super().__init__()
        self.model, self.names = model, names

    def forward(self, *inputs: torch.Tensor) -> tuple[torch.Tensor, ...]:
        outputs = self.model(**dict(zip(self.names, inputs)))
        return tuple(value for value in (outputs.logits, outputs.loss) if value is not None)


def clips(batch: int, dtype=torch.float32) -> torch.Tensor:
    generator = torch.Generator().manual_seed(batch)
    if dtype == torch.uint8:
        return torch.randint(256, (batch, 4, 3, 32, 32), generator=generator).to(torch.uint8)
    return torch.randn(batch, 4, 3, 32, 32, generator=generator)


def masks(config, batch: int) -> tuple[torch.Tensor, torch.Tensor]:
    return sample_masks(config, batch, torch.Generator().manual_seed(batch))


def ids(config, batch: int) -> tuple[torch.Tensor, torch.Tensor]:
    masked, decoded = masks(config, batch)
    visible, reconstructed = token_counts(config)
    return mask_to_ids(~masked, visible), mask_to_ids(decoded, reconstructed)


MASKS = ("pixel_values", "bool_masked_pos", "bool_decoded_pos")
CASES = {
    "classifier": (VideoMAEV2ForVideoClassification, {}, MASKS[:1], lambda config, batch: (clips(batch),)),
    "classifier of uint8": (
        VideoMAEV2ForVideoClassification, {}, MASKS[:1], lambda config, batch: (clips(batch, torch.uint8),),
    ),
    "cosine attention, learned positions": (
        VideoMAEV2ForVideoClassification, {"use_cosine_attention": True, "position_embedding_type": "learned"},
        MASKS[:1], lambda config, batch: (clips(batch),),
    ),
    "pretraining with a mask": (
        VideoMAEV2ForPreTraining, {}, MASKS[:2], lambda config, batch: (clips(batch), masks(config, batch)[0]),
    ),
    "pretraining with two masks": (
        VideoMAEV2ForPreTraining, {"decoder_mask_ratio": 0.5}, MASKS,
        lambda config, batch: (clips(batch), *masks(config, batch)),
    ),
    "pretraining with ids": (
        VideoMAEV2ForPreTraining, {"decoder_mask_ratio": 0.5}, ("pixel_values", "visible_ids", "decoded_ids"),
        lambda config, batch: (clips(batch), *ids(config, batch)),
    ),
}  # fmt: skip


@pytest.fixture(params=CASES)
def case(request):
    """A module of tensors, and a function that makes its inputs for a batch size."""
    model_class, fields, names, inputs = CASES[request.param]
    model = build(model_class, **fields).requires_grad_(False)
    return Outputs(model, names), lambda batch: inputs(model.config, batch)


@pytest.fixture(autouse=True)
def quiet():
    """Tracing warns of every number that it keeps, and both of the older ways that they are the older ones."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


def assert_same(run, case):
    module, inputs = case
    for batch in (1, 2, 5):
        given = inputs(batch)
        torch.testing.assert_close(tuple(run(*given)), module(*given), rtol=1e-4, atol=1e-5)


def dynamic(inputs) -> tuple:
    batch = torch.export.Dim("batch", min=1, max=64)
    return tuple({0: batch} for _ in inputs)


def test_traced(case):
    module, inputs = case
    assert_same(torch.jit.trace(module, inputs(2), check_trace=False), case)


@needs_dynamo
def test_exported(case):
    module, inputs = case
    exported = torch.export.export(module, inputs(2), dynamic_shapes=(dynamic(inputs(2)),))
    assert_same(exported.module(), case)


@needs_dynamo
def test_an_exported_model_refuses_masks_of_another_number():
    """The number is that of the configuration, as under torch.compile."""
    model = build(VideoMAEV2ForPreTraining).requires_grad_(False)
    masked = masks(model.config, 2)[0]
    exported = torch.export.export(Outputs(model, MASKS[:2]), (clips(2), masked)).module()
    masked[:, masked[0].nonzero()[0]] = False
    with pytest.raises(RuntimeError, match="must have 4 True in each row"):
        exported(clips(2), masked)


@pytest.mark.parametrize("dynamo", [True, False], ids=["dynamo", "older exporter"])
def test_onnx(case, dynamo, tmp_path):
    pytest.importorskip("onnxscript" if dynamo else "onnx")
    onnxruntime = pytest.importorskip("onnxruntime")
    module, inputs = case
    example = inputs(2)
    names = [f"input_{number}" for number in range(len(example))]
    options = {"dynamic_shapes": (dynamic(example),)} if dynamo else {"dynamic_axes": {n: {0: "batch"} for n in names}}
    torch.onnx.export(
        module, example, str(tmp_path / "a.onnx"), dynamo=dynamo, input_names=names, verbose=False, **options
    )
    session = onnxruntime.InferenceSession(tmp_path / "a.onnx")

    def run(*given):
        found = session.run(None, {entry.name: value.numpy() for entry, value in zip(session.get_inputs(), given)})
        return [torch.from_numpy(value) for value in found]

    assert_same(run, case)


def test_ids_and_masks_are_each_others_inverse():
    mask = torch.tensor([[True, False, True, True], [False, True, True, True]])
    assert mask_to_ids(mask, 3).tolist() == [[0, 2, 3], [1, 2, 3]]
    assert torch.equal(ids_to_mask(mask_to_ids(mask, 3), 4), mask)

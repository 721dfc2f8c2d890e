"""Outputs, losses, gradients and whole training runs equal those of the official V1 and V2 code (tests/data/golden)."""

import json

import numpy as np
import pytest
import torch
from helpers.golden_files import (
    CHECKPOINTS,
    GOLDEN,
    MEAN,
    STD,
    clips,
    converted,
    official_weights,
    pixel_values,
    tensors,
)
from PIL import Image
from transformers import TrainerCallback

from videomae_hf import (
    VideoMAEV2ForPreTraining,
    VideoMAEV2ForVideoClassification,
    VideoMAEV2ImageProcessor,
    VideoMAEV2Model,
)
from videomae_hf.commands import convert
from videomae_hf.data.augmentation.mixing import Mixing
from videomae_hf.data.video_dataset import ClipCollator, generator_of
from videomae_hf.models.image_processing_videomae_v2 import VideoMAEV2ProcessorKwargs
from videomae_hf.models.masking import mask_to_ids
from videomae_hf.models.official_checkpoints import to_official
from videomae_hf.settings.training_arguments import VideoMAETrainingArguments
from videomae_hf.training.planning import steps_of
from videomae_hf.training.trainer import VideoMAETrainer


TRAJECTORIES = json.loads((GOLDEN / "trajectories.json").read_text())


def close(found, expected, atol: float = 1e-5):
    torch.testing.assert_close(found, expected, rtol=0, atol=atol)


def token_ids(masks: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """visible_ids and decoded_ids of official masks, where 1 is what is not encoded, and what is not decoded."""
    masked = masks["encoder_mask"].bool()
    decoded = ~masks["decoder_mask"].bool() if "decoder_mask" in masks else masked
    rows = {"visible_ids": ~masked, "decoded_ids": decoded}
    return {name: mask_to_ids(rows, int(rows[0].sum())) for name, rows in rows.items()}


# ------------------------------------------------------------------------------------------------------- checkpoints


def test_pixel_values_are_normalised_as_the_official_ones():
    mean, std = (torch.tensor(values)[:, None, None] for values in (MEAN, STD))
    official = (clips("v2_finetune")[:2].float() / 255 - mean) / std
    close(pixel_values("v2_finetune"), official, atol=1e-6)


@pytest.mark.parametrize("name", ["v1_pretrain", "v2_pretrain_dual"])
@pytest.mark.parametrize("pixels", ["float", "uint8"])
def test_pretraining(name, pixels, tmp_path):
    expected = tensors(name)
    model = VideoMAEV2ForPreTraining.from_pretrained(converted(name, tmp_path)).eval()
    values = pixel_values(name) if pixels == "float" else clips(name)[:2]
    ids = token_ids(expected)
    outputs = model(values, **ids)
    outputs.loss.backward()

    close(outputs.logits[..., ::37], expected["prediction_every_37"])
    close(outputs.logits[:, 0], expected["prediction_first_token"])
    close(outputs.loss.detach(), expected["loss"].squeeze())
    close(model.videomae(values, visible_ids=ids["visible_ids"]).last_hidden_state, expected["encoder_last"])
    assert_gradients(model, expected, name)


@pytest.mark.parametrize("name", ["v1_finetune", "v2_finetune"])
def test_classification(name, tmp_path):
    expected = tensors(name)
    model = VideoMAEV2ForVideoClassification.from_pretrained(converted(name, tmp_path)).eval()
    outputs = model(pixel_values(name), labels=expected["labels"])
    outputs.loss.backward()

    close(outputs.logits, expected["logits"])
    close(outputs.loss.detach(), expected["loss"].squeeze())
    tokens = model.videomae(pixel_values(name)).last_hidden_state
    close(model.fc_norm(tokens.mean(dim=1)), expected["features"])
    assert_gradients(model, expected, name)


def assert_gradients(model, expected: dict[str, torch.Tensor], name: str):
    """Three of them whole, and the norm of each."""
    parameters = {
        "grad_patch_proj_every_6": model.videomae.embeddings.patch_embeddings.projection.weight.grad[::6],
        "grad_last_fc2_every_4": model.videomae.encoder.layer[-1].output.dense.weight.grad[::4],
    }
    pretraining = isinstance(model, VideoMAEV2ForPreTraining)
    if pretraining:
        parameters["grad_mask_token"] = model.mask_token.grad
    for key, gradient in parameters.items():
        close(gradient, expected[key])
    gradients = to_official({key: value.grad for key, value in model.named_parameters()}, pretraining=pretraining)
    norms = torch.stack([gradients[key].double().norm() for key in official_weights(name)])
    torch.testing.assert_close(norms, expected["grad_norms"], rtol=1e-5, atol=1e-7)


def test_opengvlab_layout(tmp_path, caplog):
    """Read as it is, and converted."""
    expected = tensors("v2_hub_layout.expected")["features"]
    source, values = GOLDEN / "v2_hub_layout", pixel_values("v2_hub_layout")
    convert.main([str(source), str(tmp_path / "ours")])
    for folder in (source, tmp_path / "ours"):
        model = VideoMAEV2ForVideoClassification.from_pretrained(folder, dtype="auto").eval()
        close(model(values).logits, expected)
    assert caplog.records == []
    encoder = VideoMAEV2Model.from_pretrained(source).eval()
    close(model.fc_norm(encoder(values).last_hidden_state.mean(dim=1)), expected)


@pytest.mark.parametrize("name", CHECKPOINTS)
def test_back_to_the_official_file(name, tmp_path):
    convert.main([str(converted(name, tmp_path)), str(tmp_path / "back.pth"), "--to", "official"])
    before, after = official_weights(name), torch.load(tmp_path / "back.pth", weights_only=True)["model"]
    assert after.keys() == before.keys()
    assert all(torch.equal(after[key], before[key]) for key in before)


# ----------------------------------------------------------------------------------------------------------- resizing


@pytest.mark.skipif("antialias" not in VideoMAEV2ProcessorKwargs.__annotations__, reason="no antialias option")
@pytest.mark.parametrize(("short_side", "size"), [(48, "64x48"), (50, "66x50")])
def test_resizing_without_antialiasing(short_side, size):
    """OpenCV's fixed point rounds some values to the neighbouring one."""
    image, expected = (np.array(Image.open(GOLDEN / f"resize_96x72{name}.png")) for name in ("", f"_to_{size}"))
    options = {"do_center_crop": False, "do_rescale": False, "do_normalize": False}
    processor = VideoMAEV2ImageProcessor(size={"shortest_edge": short_side}, antialias=False, **options)
    found = processor([image], return_tensors="np").pixel_values[0, 0].transpose(1, 2, 0)  # (C, H, W) -> (H, W, C)
    assert found.shape == expected.shape
    assert np.abs(found - expected).max() <= 1


# ------------------------------------------------------------------------------------------------------ training runs


class GivenClips(torch.utils.data.Dataset):
    """The clips of a trajectory in the order of its batches, with its masks or labels."""

    def __init__(self, name: str):
        self.steps = tensors(name)
        self.clips, self.batch_size = clips(name), self.steps["clip_index"].shape[1]
        self.set_epoch(0)

    def __len__(self) -> int:
        return TRAJECTORIES["trajectory_v1_pretrain"]["steps_per_epoch"] * self.batch_size

    def set_epoch(self, epoch: int):
        self.epoch = epoch

    def __getitem__(self, index: int) -> dict:
        step, place = divmod(self.epoch * len(self) + index, self.batch_size)
        of_step = {key: self.steps[key][step] for key in self.steps.keys() & {"encoder_mask", "decoder_mask"}}
        item = {"pixel_values": self.clips[self.steps["clip_index"][step, place]], "path": f"{step}/{place}"}
        if of_step:
            return item | {key: ids[place] for key, ids in token_ids(of_step).items()}
        return item | {"labels": self.steps["labels"][step, place], "seed": step}


class GivenMixing(Mixing):
    """`Mixing` with the shares and boxes of a trajectory in place of random ones; checks what comes out."""

    def __init__(self, steps: dict[str, torch.Tensor], num_classes: int):
        super().__init__(num_classes)
        self.steps = steps
        self.numbers = {generator_of(step, 1).initial_seed(): step for step in range(len(steps["lam"]))}

    def __call__(self, pixel_values, labels, generator):
        mixed, targets = super().__call__(pixel_values, labels, generator)
        step = self.numbers[generator.initial_seed()]
        torch.testing.assert_close(targets, self.steps["soft_targets"][step], rtol=1e-6, atol=1e-7)
        for key, values in (("mixed_sum", mixed.double()), ("mixed_square_sum", mixed.double().square())):
            torch.testing.assert_close(values.flatten(1).sum(1), self.steps[key][step], rtol=1e-6, atol=1e-2)
        return mixed, targets

    def _draw_share(self, height, width, generator):
        step = self.numbers[generator.initial_seed()]
        if not self.steps["use_cutmix"][step]:
            return torch.full((height, width), self.steps["lam"][step].item())
        top, bottom, left, right = self.steps["cutmix_box"][step].tolist()
        share = torch.ones(height, width)
        share[top:bottom, left:right] = 0
        return share


class Groups(TrainerCallback):
    """At each optimizer step, checks rate, weight decay, betas and eps of every parameter."""

    def __init__(self, official: dict, steps: dict[str, torch.Tensor], pretraining: bool):
        self.official, self.steps, self.pretraining = official, steps, pretraining
        self.checked = []

    def on_pre_optimizer_step(self, args, state, control, model, optimizer, **kwargs):
        groups = {id(parameter): group for group in optimizer.param_groups for parameter in group["params"]}
        for key, expected in (("lr", self.steps["learning_rates"]), ("weight_decay", self.steps["weight_decays"])):
            values = {
                name: torch.full(parameter.shape, groups[id(parameter)][key], dtype=torch.float64)
                for name, parameter in model.named_parameters()
            }
            values = to_official(values, pretraining=self.pretraining)
            named = [group["parameters"] for group in self.official["groups"]]
            assert sorted(name for names in named for name in names) == sorted(values)
            for names, value in zip(named, expected[state.global_step].tolist()):
                for name in names:
                    assert values[name].unique().tolist() == [pytest.approx(value, rel=1e-12, abs=0)], name
        for group in optimizer.param_groups:
            for key in ("betas", "eps", "amsgrad"):
                assert {json.dumps(group[key])} == {json.dumps(official[key]) for official in self.official["groups"]}
        self.checked.append(state.global_step)


def replay(name: str, folder, **options) -> tuple[VideoMAETrainer, Groups]:
    """A trainer as train.py makes it, for the run that the official code did."""
    official, steps, pretraining = TRAJECTORIES[name], tensors(name), "pretrain" in name
    model_class = VideoMAEV2ForPreTraining if pretraining else VideoMAEV2ForVideoClassification
    fields = {} if pretraining else {"problem_type": "single_label_classification"}
    checkpoint = converted(official["start"].removesuffix(".pth"), folder)
    model = model_class.from_pretrained(checkpoint, **fields)
    per_256 = 256 / official["batch"]
    args = VideoMAETrainingArguments(
        use_cpu=True,
        output_dir=str(folder),
        per_device_train_batch_size=official["batch"],
        num_train_epochs=official["epochs"],
        warmup_epochs=official["warmup_epochs"],
        base_learning_rate=official["base_lr"] * per_256,
        base_min_learning_rate=official["min_lr"] * per_256,
        weight_decay=official["weight_decay"],
        layer_decay=official.get("layer_decay", 1.0),
        adam_beta2=official["groups"][0]["betas"][1],
        max_grad_norm=official["clip_grad"] or 0,
        train_sampling_strategy="sequential",
        logging_steps=1,
        disable_tqdm=True,
        **{"save_strategy": "no", **options},
    )
    mixing = None if pretraining else GivenMixing(steps, model.config.num_labels)
    collator, groups = ClipCollator(model.config, mixing), Groups(official, steps, pretraining)
    trainer = VideoMAETrainer(model, args, collator, GivenClips(name), callbacks=[groups])
    return trainer, groups


def assert_replayed(trainer: VideoMAETrainer, name: str):
    """Loss and gradient norm of each step, and parameters at the end."""
    steps = tensors(name)
    logged = [entry for entry in trainer.state.log_history if "loss" in entry]
    assert [entry["loss"] for entry in logged] == pytest.approx(steps["loss"].tolist(), rel=1e-6)
    assert [entry["grad_norm"] for entry in logged] == pytest.approx(steps["grad_norm"].tolist(), rel=1e-5)
    weights = to_official(trainer.model.state_dict(), pretraining="pretrain" in name)
    for key in TRAJECTORIES[name]["final_parameters"]:
        parameter, _, every = key.partition(".every_")
        torch.testing.assert_close(weights[parameter][:: int(every or 1)], steps[f"final.{key}"], rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("name", TRAJECTORIES)
def test_training_replays_the_official_run(name, tmp_path):
    trainer, groups = replay(name, tmp_path)
    assert steps_of(trainer.args, trainer.train_dataset) == (5, 20)
    trainer.train()
    assert groups.checked == list(range(20))
    assert_replayed(trainer, name)


def test_a_resumed_run_goes_on_with_the_official_schedule(tmp_path):
    """From the middle of the warmup, and of the first epoch."""
    name = "trajectory_v2_finetune"
    replay(name, tmp_path / "whole", save_strategy="steps", save_steps=3)[0].train()
    trainer, groups = replay(name, tmp_path / "resumed")
    trainer.train(resume_from_checkpoint=str(tmp_path / "whole" / "checkpoint-3"))
    assert groups.checked == list(range(3, 20))
    assert_replayed(trainer, name)

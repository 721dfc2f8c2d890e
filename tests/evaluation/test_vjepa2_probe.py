"""V-JEPA 2's attentive probe: its network against published numbers and transformers, its training, and the command."""

import csv
import json
import math
import multiprocessing

import numpy as np
import pytest
import torch
from helpers.commands import videomae
from helpers.runs import parsed
from helpers.shared import REPO, TINY
from helpers.tiny_models import build, videos
from transformers import VJEPA2Config
from transformers.models.vjepa2.modeling_vjepa2 import VJEPA2AttentivePooler

from videomae_hf import VideoMAEV2Config, VideoMAEV2ForVideoClassification, VideoMAEV2Model
from videomae_hf.commands.probe import check_settings, fit_options
from videomae_hf.data.clips import ClipSampler, EvalTransform, FinetuneTransform
from videomae_hf.data.segments import SegmentProcessor, SegmentTransform
from videomae_hf.data.sources.records import VideoRecord
from videomae_hf.data.sources.synthetic import synthesise_video, write_video
from videomae_hf.data.video_dataset import VideoDataset
from videomae_hf.evaluation.vjepa2_fit import STATE, FitOptions, SegmentEncoder, VJEPA2Fit, split_updates
from videomae_hf.evaluation.vjepa2_probe import (
    HeadSetting,
    ProbeHeads,
    VJEPA2Probe,
    best_head,
    cosine_learning_rate,
    head_settings,
)
from videomae_hf.models.image_processing_videomae_v2 import clip_options, normalization_options


WIDE = {"hidden_size": 32, "num_attention_heads": 2}  # TINY's 24 is no multiple of 16


def parameters(module: torch.nn.Module) -> int:
    return sum(parameter.numel() for parameter in module.parameters())


@pytest.mark.parametrize(
    ("hidden_size", "num_classes", "published"),
    [
        # Parameters of the released classifiers minus those of their encoders and predictors, from their model cards
        (1024, 174, 375_485_998 - 325_971_328),
        (1024, 48, 375_356_848 - 325_971_328),
        (1408, 174, 1_128_049_454 - 1_034_555_264),
        (1408, 48, 1_127_871_920 - 1_034_555_264),
        (768, 400, 47 * 768**2 + 52 * 768 + 400 * 769),
    ],
)
def test_a_head_has_the_published_number_of_parameters(hidden_size, num_classes, published):
    with torch.device("meta"):
        assert parameters(VJEPA2Probe(hidden_size, num_classes)) == published


def test_a_head_computes_what_transformers_does(generator):
    probe = VJEPA2Probe(32, 5).eval()
    with torch.no_grad():
        for parameter in probe.parameters():
            parameter.add_(torch.randn(parameter.shape, generator=generator) * 0.1)
    # transformers has another epsilon than the source.
    pooler = VJEPA2AttentivePooler(VJEPA2Config(hidden_size=32, num_attention_heads=16, layer_norm_eps=1e-5)).eval()
    state = {"query_tokens": probe.query}
    for prefix, block in [(f"self_attention_layers.{i}.", block) for i, block in enumerate(probe.blocks)]:
        parts = zip("qkv", zip(block.query_key_value.weight.chunk(3), block.query_key_value.bias.chunk(3)))
        attention = {f"self_attn.{name}_proj.{kind}": value for name, pair in parts for kind, value in named(pair)}
        attention |= {f"self_attn.out_proj.{kind}": value for kind, value in named(block.projection)}
        state |= {
            prefix + name: value for name, value in (attention | norms_and_mlp(block, block.attention_norm)).items()
        }
    cross = probe.cross_attention
    weights = [cross.query.weight, *cross.key_value.weight.chunk(2)]
    biases = [cross.query.bias, *cross.key_value.bias.chunk(2)]
    attention = {f"cross_attn.{name}_proj.weight": value for name, value in zip("qkv", weights)}
    attention |= {f"cross_attn.{name}_proj.bias": value for name, value in zip("qkv", biases)}
    attention |= norms_and_mlp(cross, cross.token_norm)
    state |= {f"cross_attention_layer.{name}": value for name, value in attention.items()}
    pooler.load_state_dict(state)
    tokens = torch.randn(2, 7, 32, generator=generator)
    with torch.no_grad():
        torch.testing.assert_close(probe(tokens), probe.classifier(pooler(tokens)), rtol=1e-4, atol=1e-5)
        trained = probe.train()(tokens)
    torch.testing.assert_close(trained, probe.eval()(tokens))  # checkpointing changes nothing, and nothing is dropped


def named(pair) -> list[tuple[str, torch.Tensor]]:
    weight, bias = pair if isinstance(pair, tuple) else (pair.weight, pair.bias)
    return [("weight", weight), ("bias", bias)]


def norms_and_mlp(block, first_norm) -> dict[str, torch.Tensor]:
    parts = {"layer_norm1": first_norm, "layer_norm2": block.mlp_norm, "mlp.fc1": block.mlp[0], "mlp.fc2": block.mlp[2]}
    return {f"{name}.{kind}": value for name, part in parts.items() for kind, value in named(part)}


@torch.no_grad()
def test_initial_weights():
    torch.manual_seed(0)
    probe = VJEPA2Probe(64, 400)
    for number, block in enumerate(probe.blocks, start=1):
        assert block.query_key_value.weight.std().item() == pytest.approx(0.02, rel=0.05)
        for last in (block.projection, block.mlp[2]):
            assert last.weight.std().item() == pytest.approx(0.02 / math.sqrt(2 * number), rel=0.05)
    assert probe.cross_attention.mlp[2].weight.std().item() == pytest.approx(0.02 / math.sqrt(6), rel=0.05)
    assert probe.query.std().item() == pytest.approx(0.02, rel=0.3)
    assert probe.classifier.weight.std().item() == pytest.approx(1 / math.sqrt(3 * 64), rel=0.05)  # torch's own
    biases = [value for name, value in probe.named_parameters() if name.endswith("bias") and "classifier" not in name]
    assert len(biases) == 3 * 6 + 6 and not any(bias.any() for bias in biases)


def test_a_size_that_16_heads_do_not_divide_is_refused():
    with pytest.raises(ValueError, match="hidden_size=24 is not a multiple of the 16"):
        VJEPA2Probe(24, 2)


def test_twenty_heads_and_their_schedule():
    settings = head_settings()
    assert len(settings) == 20 and settings[0] == HeadSetting(5e-3, 0.01) and settings[-1] == HeadSetting(1e-4, 0.8)
    assert [setting.learning_rate for setting in settings[:5]] == [5e-3, 3e-3, 1e-3, 3e-4, 1e-4]
    rates = [cosine_learning_rate(2.0, step, 4) for step in range(1, 5)]
    assert rates == pytest.approx([1.7071068, 1.0, 0.2928932, 0.0])
    with pytest.raises(ValueError, match="must be positive"):
        head_settings([0.0])


def tokens_and_labels(generator, number: int = 96) -> tuple[torch.Tensor, torch.Tensor]:
    """Tokens (number, 6, 32) around the centres of three classes, and the classes."""
    labels = torch.arange(number) % 3
    return 2 * torch.eye(32)[labels][:, None] + 0.5 * torch.randn(number, 6, 32, generator=generator), labels


def train(heads: ProbeHeads, tokens: torch.Tensor, labels: torch.Tensor, batch: int = 8, parts: int = 1) -> None:
    batches = list(zip(tokens.split(batch), labels.split(batch)))
    for step in range(heads.num_steps):
        videos, truth = batches[step % len(batches)]
        heads.update(zip(videos.chunk(parts), truth.chunk(parts)), len(videos))


def test_a_head_alone_is_the_head_among_others(generator):
    """20 heads on the same batches do not see each other; nor does it matter how a batch is split."""
    tokens, labels = tokens_and_labels(generator, 16)
    every = ProbeHeads(head_settings(), 32, 3, num_steps=3, seed=1)
    alone = ProbeHeads(head_settings()[7:8], 32, 3, num_steps=3)
    alone.heads[0].load_state_dict(every.heads[7].state_dict())
    train(every, tokens, labels)
    train(alone, tokens, labels, parts=4)
    for one, other in zip(every.heads[7].parameters(), alone.heads[0].parameters()):
        torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-5)
    assert not torch.equal(every.heads[7].query, every.heads[8].query)
    groups = [optimizer.param_groups for optimizer in every.optimizers]
    assert all(len(group) == 1 and len(group[0]["params"]) == 51 for group in groups)  # decay on norms and biases too
    assert [group[0]["lr"] for group in groups] == pytest.approx([0.0] * 20)


def test_an_update_is_adamw_with_the_scheduled_rate(generator):
    """The first update moves each weight by the rate, against its gradient, after decoupled decay."""
    tokens, labels = tokens_and_labels(generator, 4)
    heads = ProbeHeads([HeadSetting(1e-3, 0.4)], 32, 3, num_steps=2)
    probe = heads.heads[0]
    before = probe.classifier.bias.detach().clone()
    gradient = torch.autograd.grad(torch.nn.functional.cross_entropy(probe(tokens), labels), probe.classifier.bias)[0]
    heads.update([(tokens, labels)], 4)
    rate = 0.5e-3
    expected = before * (1 - rate * 0.4) - rate * gradient.sign()
    torch.testing.assert_close(probe.classifier.bias.detach(), expected, rtol=1e-4, atol=1e-6)


def test_the_best_head_is_found_on_a_separable_set(generator):
    tokens, labels = tokens_and_labels(generator)
    heads = ProbeHeads([HeadSetting(1e-7, 0.1), HeadSetting(3e-3, 0.1), HeadSetting(1e-7, 0.8)], 32, 3, num_steps=20)
    train(heads, tokens[:72], labels[:72], batch=24)
    found = heads.probabilities([tokens[72:]]).argmax(dim=-1)
    top1 = (found == labels[72:]).float().mean(dim=-1).tolist()
    assert best_head(top1) == 1 and top1[1] > 0.9 > top1[0]
    assert best_head([0.5, 0.7, 0.7]) == 1


def test_the_softmax_is_averaged_over_crops(generator):
    heads = ProbeHeads([HeadSetting(1e-3, 0.1)] * 2, 32, 3, num_steps=1)
    crops = [torch.randn(2, 6, 32, generator=generator) for _ in range(3)]
    with torch.no_grad():
        heads.heads[1].classifier.weight.mul_(50)  # so that a mean of logits would be another
        expected = (
            sum(heads.heads[1].eval()(crop).exp() / heads.heads[1](crop).exp().sum(1, True) for crop in crops) / 3
        )
    found = heads.probabilities(crops)
    assert found.shape == (2, 2, 3)
    torch.testing.assert_close(found[1], expected)


def test_bfloat16_is_close_to_float32(generator):
    tokens, labels = tokens_and_labels(generator, 8)
    plain, half = (ProbeHeads([HeadSetting(1e-3, 0.1)], 32, 3, num_steps=2, bf16=bf16) for bf16 in (False, True))
    assert half.update([(tokens, labels)], 8) == pytest.approx(plain.update([(tokens, labels)], 8), rel=0.02)
    found = half.probabilities([tokens])
    assert found.dtype == torch.float32
    torch.testing.assert_close(found, plain.probabilities([tokens]), rtol=0, atol=0.05)


def test_a_head_that_diverges_does_not_stop_the_others(generator):
    tokens, labels = tokens_and_labels(generator, 8)
    heads = ProbeHeads([HeadSetting(1e-3, 0.1)] * 2, 32, 3, num_steps=2)
    with torch.no_grad():
        heads.heads[0].query.fill_(math.nan)
    assert math.isfinite(heads.update([(tokens, labels)], 8))
    found = heads.probabilities([tokens])
    assert not found[0].any() and found[1].sum(dim=-1) == pytest.approx(1)
    assert heads.diverged() == [True, False]


# ------------------------------------------------------------------------------------------------ videos and epochs


def options_of(**options) -> FitOptions:
    settings = (HeadSetting(3e-3, 0.1), HeadSetting(1e-3, 0.01))
    given = {
        "settings": settings,
        "num_segments": 2,
        "num_crops": 3,
        "epochs": 2,
        "videos_per_step": 4,
        "batch_size": 2,
    }
    return FitOptions(**{**given, **options})


def test_updates_are_split_over_processes():
    order = [5, 3, 8, 1, 0, 2, 7]
    assert split_updates(order, options_of()) == [(4, [[5, 3], [8, 1]]), (3, [[0, 2], [7]])]
    assert split_updates(order, options_of(process_index=1, num_processes=2)) == [(4, [[8, 1]]), (3, [[7]])]
    assert split_updates(order[:5], options_of(process_index=1, num_processes=2)) == [(4, [[8, 1]]), (1, [])]
    assert options_of().num_steps(7) == 4


def test_tokens_of_segments_and_layers():
    model = build(VideoMAEV2Model, use_mean_pooling=False, **WIDE)  # with a final norm, as after pretraining
    clips = videos(model.config, batch=4)
    with torch.no_grad():
        output = model(clips, output_hidden_states=True)
    found = SegmentEncoder(model, options_of()).tokens(clips)
    assert found.shape == (2, 64, 32) and not found.requires_grad
    torch.testing.assert_close(found[1], output.last_hidden_state[2:].flatten(0, 1))
    last = SegmentEncoder(model, options_of(layers=(1,))).tokens(clips)
    torch.testing.assert_close(last, found)
    both = SegmentEncoder(model, options_of(layers=(0, 1))).tokens(clips)
    assert both.shape == (2, 128, 32)
    first = model.layernorm(output.hidden_states[1])
    torch.testing.assert_close(both[0, :64], torch.cat([first[0], output.last_hidden_state[0]]))
    with torch.no_grad():
        next(model.parameters()).fill_(math.nan)
    with pytest.raises(ValueError, match="tokens of a batch are not finite"):
        SegmentEncoder(model, options_of()).tokens(clips)
    with pytest.raises(ValueError, match=r"probe_layers=\[2\]: layers of this encoder are 0 to 1"):
        SegmentEncoder(model, options_of(layers=(2,)))


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("videos")
    for split, number in (("train", 3), ("val", 2)):
        for label in ("left", "up"):
            for index in range(number):
                path = folder / split / label / f"{index}.mp4"
                path.parent.mkdir(parents=True, exist_ok=True)
                write_video(path, synthesise_video(label, np.random.default_rng(index + 10 * number), 32, 12))
    return folder


def fit_of(folder, file, **options) -> VJEPA2Fit:
    model = build(VideoMAEV2Model, **WIDE)
    sampling = ClipSampler(num_frames=4, sampling_rate=1)
    transform = SegmentTransform(FinetuneTransform(model.config, [sampling], horizontal_flip=False), 2)
    records = [VideoRecord(str(path), int("up" in path.parts)) for path in sorted(folder.rglob("train/*/*.mp4"))]
    return VJEPA2Fit(model, VideoDataset(records, transform, seed=3), 2, options_of(**options), file)


def weights(fit: VJEPA2Fit) -> torch.Tensor:
    return torch.cat([parameter.detach().flatten() for head in fit.heads.heads for parameter in head.parameters()])


def test_an_interrupted_training_continues_after_its_last_epoch(folder, tmp_path, monkeypatch):
    whole = fit_of(folder, tmp_path / "whole.pt")
    assert whole.resume() == 0
    whole.train()
    interrupted = fit_of(folder, tmp_path / "part.pt")
    train_epoch = VJEPA2Fit._train_epoch

    def stop_in_the_second(self):
        if self.epoch == 1:
            raise KeyboardInterrupt
        train_epoch(self)

    monkeypatch.setattr(VJEPA2Fit, "_train_epoch", stop_in_the_second)
    with pytest.raises(KeyboardInterrupt):
        interrupted.train()
    monkeypatch.undo()
    resumed = fit_of(folder, tmp_path / "part.pt", batch_size=4)  # which changes nothing but rounding
    assert resumed.resume() == 1
    resumed.train()
    torch.testing.assert_close(weights(resumed), weights(whole), rtol=1e-3, atol=1e-4)

    with torch.no_grad():
        resumed.heads.heads[0].query.fill_(math.nan)
    scores = resumed.score(evaluation_set(folder, tmp_path))
    assert scores.top1[0] == 0 and scores.best == 1
    with torch.no_grad():
        resumed.heads.heads[1].query.fill_(math.nan)
    with pytest.raises(ValueError, match="All 2 heads have diverged; lower probe_learning_rates"):
        resumed.score(evaluation_set(folder, tmp_path))

    with pytest.raises(ValueError, match=r"part.pt is an unfinished probe with epochs=2, not 3; delete .*part.pt"):
        fit_of(folder, tmp_path / "part.pt", epochs=3).resume()
    (tmp_path / "part.pt").write_bytes((tmp_path / "part.pt").read_bytes()[:1000])
    with pytest.raises(ValueError, match="part.pt, an unfinished probe, is damaged; delete"):
        fit_of(folder, tmp_path / "part.pt").resume()


def _train_in_group(rank: int, folder, place) -> None:
    torch.distributed.init_process_group("gloo", init_method=f"file://{place / 'group'}", rank=rank, world_size=2)
    fit = fit_of(folder, place / "state.pt", epochs=1, batch_size=1, process_index=rank, num_processes=2)
    fit.train()
    scores = fit.score(evaluation_set(folder, place))
    np.savez(place / f"{rank}.npz", weights=weights(fit).numpy(), **vars(scores))
    torch.distributed.destroy_process_group()


def evaluation_set(folder, place) -> VideoDataset:
    """Four videos, and a second one that cannot be read."""
    (place / "bad.mp4").write_bytes(b"no video")
    paths = sorted(folder.rglob("val/*/*.mp4"))
    records = [VideoRecord(str(path), int("up" in path.parts)) for path in [paths[0], place / "bad.mp4", *paths[1:]]]
    config = VideoMAEV2Config(**{**TINY, **WIDE})
    processor = SegmentProcessor(**clip_options(config), **normalization_options(config), sampling_rate=1)
    return VideoDataset(records, EvalTransform(processor, 2, 3), replace_bad=False)


def test_two_processes_train_what_one_does(folder, tmp_path):
    context = multiprocessing.get_context("fork")
    ranks = [context.Process(target=_train_in_group, args=(rank, folder, tmp_path)) for rank in range(2)]
    for rank in ranks:
        rank.start()
    for rank in ranks:
        rank.join(timeout=100)
    assert [rank.exitcode for rank in ranks] == [0, 0]
    first, second = (dict(np.load(tmp_path / f"{rank}.npz")) for rank in range(2))
    for name in first:
        np.testing.assert_array_equal(first[name], second[name])
    alone = fit_of(folder, tmp_path / "alone.pt", epochs=1)
    alone.train()
    scores = alone.score(evaluation_set(folder, tmp_path))
    np.testing.assert_allclose(first["weights"], weights(alone).numpy(), rtol=1e-3, atol=1e-4)
    np.testing.assert_allclose(first["probabilities"], scores.probabilities, rtol=1e-3)
    assert first["top1"].tolist() == scores.top1 and first["best"] == scores.best
    assert first["readable"].tolist() == scores.readable.tolist() == [True, False, True, True, True]


# ------------------------------------------------------------------------------------------------------ the command


SHORT = "--probe vjepa2 --num_clips 2 --num_crops 2 --num_train_epochs 1 --total_batch_size 4 "
SHORT += "--per_device_train_batch_size 2 --use_cpu true"


def test_the_command(folder, tmp_path, capsys):
    """A checkpoint that was finetuned for other labels; a video that cannot be read is counted and not scored."""
    model = build(VideoMAEV2ForVideoClassification, num_labels=3, problem_type="multi_label_classification", **WIDE)
    model.save_pretrained(tmp_path / "model")
    (tmp_path / "bad.mp4").write_bytes(b"no video")
    rows = [f"{path} {path.parent.name}" for path in sorted((folder / "val").rglob("*.mp4"))]
    (tmp_path / "val.csv").write_text("\n".join([f"{tmp_path / 'bad.mp4'} up", *rows]))
    out = tmp_path / "out"
    videomae(
        *f"probe --checkpoint {tmp_path / 'model'} --train_data {folder / 'train'} --eval_data {tmp_path / 'val.csv'} "
        f"{SHORT} --sampling_rate 1 --probe_learning_rates 3e-3 1e-4 "
        f"--per_device_eval_batch_size 1 --probe_weight_decays 0.01 0.8 --output_dir {out}".split()
    )
    metrics = json.loads((out / "metrics.json").read_text())
    assert (metrics["probe"], metrics["train_videos"], metrics["train_unreadable"]) == ("vjepa2", 6, 0)
    assert (metrics["eval_videos"], metrics["eval_unreadable"]) == (4, 1)
    names = ("num_clips", "num_crops", "num_train_epochs", "total_batch_size", "probe_layers")
    assert [metrics[name] for name in names] == [2, 2, 1, 4, []]
    heads = metrics["heads"]
    assert [(head["learning_rate"], head["weight_decay"]) for head in heads] == [
        (3e-3, 0.01), (1e-4, 0.01), (3e-3, 0.8), (1e-4, 0.8),
    ]  # fmt: skip
    best = max(heads, key=lambda head: head["top1"])
    assert metrics["eval_top1"] == best["top1"] and metrics["learning_rate"] == best["learning_rate"]
    predictions = list(csv.DictReader((out / "predictions.csv").open()))
    assert [row["predicted"] == "unreadable" for row in predictions] == [True] + [False] * 4
    right = sum(row["label"] == row["predicted"] for row in predictions)
    assert metrics["eval_top1"] == right / 4 and metrics["selected_on"] == "evaluation videos"
    assert not (out / STATE).exists() and not (out / "features").exists()
    assert "the best of 4 heads" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (
            "--probe vjepa2",
            "probe=vjepa2 needs num_clips, num_train_epochs, total_batch_size, which depend on the data",
        ),
        (f"{SHORT} --feature_cache x", "probe=vjepa2 does not use feature_cache; leave it out"),
        (f"{SHORT} --learning_rate 1e-3 --fps 8", "probe=vjepa2 does not use fps, learning_rate; leave them out"),
        (f"{SHORT} --optim sgd --max_grad_norm 1", "probe=vjepa2 does not use max_grad_norm, optim; leave them out"),
        (f"{SHORT} --smoke_test true", "probe has no smoke test"),
        (f"{SHORT} --samples_per_label 4", "probe=vjepa2 does not use samples_per_label"),
        (f"{SHORT} --multi_label true", "defined for one class per video, but problem_type is multi_label"),
        (f"{SHORT} --problem_type regression", "defined for one class per video, but problem_type is regression"),
        ("--num_clips 2 --use_cpu true", "probe=linear does not use num_clips; leave it out"),
        ("--probe attentive --probe_layers 1", "probe=attentive does not use probe_layers"),
        ("--probe few-shot --num_crops 3", "probe=few-shot does not use num_crops"),
        ("--probe few-shot --multi_label true", "probe=few-shot is defined for one class per video"),
        ("--probe few-shot --frame_sampling uniform", "probe=few-shot does not use frame_sampling"),
        ("--probe jepa", "choose one of linear, attentive, knn, vjepa2, few-shot"),
    ],
)
def test_mistakes(options, message):
    cpu = "" if "--use_cpu" in options else "--use_cpu true"
    with pytest.raises(ValueError, match=message):
        check_settings(parsed("probe", *f"--checkpoint output/pretrain {options} {cpu}".split()))


def test_settings_of_a_source_that_the_protocol_has_not_are_refused(folder, tmp_path):
    build(VideoMAEV2Model, **WIDE).save_pretrained(tmp_path / "model")
    recipe = tmp_path / "recipe.yaml"
    recipe.write_text(f"train_data:\n- data: {folder / 'train'}\n  fps: 8\n")
    with pytest.raises(ValueError, match="probe=vjepa2 does not use fps of a source in train_data"):
        videomae(
            *f"probe {recipe} --checkpoint {tmp_path / 'model'} --eval_data {folder / 'val'} {SHORT} --output_dir "
            f"{tmp_path / 'out'}".split()
        )


PUBLISHED = {
    # frames, distance, segments, crops, epochs, videos of an update: from configs/eval/vitl of facebookresearch/vjepa2
    "k400": (16, 4, 8, 3, 20, 256),
    "ssv2": (16, 4, 2, 3, 20, 256),
    "diving48": (32, 2, 4, 3, 100, 128),
    "jester": (32, 2, 4, 3, 100, 128),
}


@pytest.mark.parametrize("name", PUBLISHED)
def test_recipes_have_the_published_settings(name):
    recipe = REPO / "examples" / "recipes" / "probes" / f"vjepa2_{name}.yaml"
    run = parsed("probe", recipe, "--use_cpu", "true", "--bf16", "false")
    options = fit_options(run)
    found = (options.num_segments, options.num_crops, options.epochs, options.videos_per_step)
    frames = run.config_overrides.get("num_frames", VideoMAEV2Config().num_frames)
    assert (frames, run.clips.sampling_rate, *found) == PUBLISHED[name]
    assert run.probing.probe == "vjepa2" and run.clips.antialias is False and run.unused == ()
    if name in ("diving48", "jester"):  # whose configs have three heads, and the tokens of four layers
        assert options.settings == ((1e-3, 0.8), (3e-4, 0.8), (1e-4, 0.8)) and options.layers == (17, 19, 21, 23)
    else:
        assert options.settings == tuple(head_settings()) and options.layers == ()

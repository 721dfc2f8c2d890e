"""Lists with numbers, and the regression loss in their unit."""

import pytest
import torch
from helpers.tiny_models import build, videos

from videomae_hf import VideoMAEV2Config, VideoMAEV2ForVideoClassification
from videomae_hf.data.clips import ClipSampler, FinetuneTransform
from videomae_hf.data.sources.folders_and_lists import Reading, VideoRecord, VideoRecords
from videomae_hf.data.sources.targets import describe_targets, read_targets, target_range
from videomae_hf.data.video_dataset import ClipCollator


LISTS = {
    "no header": ("a.mp4 1 -2.5\nmy clips/b.mp4 3e2 0\n", ["target_0", "target_1"]),
    "comma": ("a.mp4,1,-2.5\nmy clips/b.mp4,300,0\n", ["target_0", "target_1"]),
    "header": ("file_name\tAge\tweight\na.mp4\t1\t-2.5\nmy clips/b.mp4\t300\t0\n", ["Age", "weight"]),
    "path last": ("Age,weight,path\n1,-2.5,a.mp4\n300,0,my clips/b.mp4\n", ["Age", "weight"]),
    "JSON": (
        '{"path": "a.mp4", "labels": [1, -2.5]}\n{"video": "my clips/b.mp4", "label": [300, 0]}',
        ["target_0", "target_1"],
    ),
}


@pytest.mark.parametrize("form", LISTS)
def test_lists(tmp_path, form):
    text, expected = LISTS[form]
    (tmp_path / "list").write_text(text)
    samples, names = read_targets(tmp_path / "list")
    assert names == expected
    assert list(samples) == [
        VideoRecord(str(tmp_path / "a.mp4"), targets=(1.0, -2.5)),
        VideoRecord(str(tmp_path / "my clips/b.mp4"), targets=(300.0, 0.0)),
    ]


def test_one_target(tmp_path):
    (tmp_path / "list").write_text("a.mp4 1\nb.mp4 2.5")
    samples, names = read_targets(tmp_path / "list", reading=Reading("/videos"))
    assert (names, samples[1]) == (["target"], VideoRecord("/videos/b.mp4", targets=(2.5,)))
    (tmp_path / "list").write_text("path,label,comment\na.mp4,1,x\nb.mp4,2.5,y\n")
    samples, names = read_targets(tmp_path / "list")
    assert (names, samples[1].targets) == (["label"], (2.5,))
    (tmp_path / "list").write_text('{"path": "a.mp4", "label": 7}')
    assert read_targets(tmp_path / "list")[0][0].targets == (7.0,)


def test_names_pick_columns_by_name(tmp_path):
    (tmp_path / "list").write_text("path,age,comment,weight\na.mp4,1,x,2\n")
    samples, names = read_targets(tmp_path / "list", ["weight", "age"])
    assert (names, samples[0].targets) == (["weight", "age"], (2.0, 1.0))
    with pytest.raises(ValueError, match="no column 'height'; its header is path, age, comment, weight"):
        read_targets(tmp_path / "list", ["height"])


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a.mp4 1\nb.mp4 many\n", r"line 2: expected a path and 1 numbers, found \['b.mp4', 'many'\]"),
        ("a.mp4 1 2\nb.mp4 1\n", "line 2: expected a path and 2 numbers"),
        ("path,age\na.mp4,nan\n", "line 2: expected"),
        ("path,age\na.mp4,\n", "line 2: expected"),
        ("a.mp4\n", "line 1: expected"),
        ('{"path": "a.mp4"}\n', "line 1: expected"),
        ("", "has no videos"),
        ("path,age\n", "has no videos"),
    ],
)
def test_mistakes_in_lists(tmp_path, text, message):
    (tmp_path / "list").write_text(text)
    with pytest.raises(ValueError, match=message):
        read_targets(tmp_path / "list")


def test_no_list(tmp_path):
    with pytest.raises(ValueError, match="needs a list with numbers"):
        read_targets(tmp_path)
    with pytest.raises(FileNotFoundError, match="none"):
        read_targets(tmp_path / "none")


def test_range_and_description():
    samples = VideoRecords(
        [VideoRecord("a", targets=(1, 5)), VideoRecord("b", targets=(3, 5)), VideoRecord("c", targets=(8, 5))]
    )
    mean, deviation = target_range(samples)
    assert mean == (4.0, 5.0) and deviation == (pytest.approx((26 / 3) ** 0.5), 1.0)
    assert describe_targets(samples, ["age", "size"])[0] == "target age: 1 to 8, mean 4, standard deviation 2.94392"


# ----------------------------------------------------------------------------------------------------------- the model

NORMALISED = {"num_labels": 2, "problem_type": "regression", "target_mean": (10.0, -5.0), "target_std": (4.0, 0.5)}


def test_logits_are_in_the_unit_of_the_data_and_the_loss_is_of_normalised_targets():
    """The network itself is the same as without `target_mean` and `target_std`."""
    plain = build(VideoMAEV2ForVideoClassification, num_labels=2, problem_type="regression")
    model = build(VideoMAEV2ForVideoClassification, **NORMALISED)
    clips = videos(model.config)
    raw = plain(clips).logits
    logits = model(clips).logits
    torch.testing.assert_close(logits, raw * torch.tensor([4.0, 0.5]) + torch.tensor([10.0, -5.0]))
    targets = torch.tensor([[14.0, -5.0], [6.0, -4.5]])  # 1, 0 and -1, 1
    expected = ((raw - torch.tensor([[1.0, 0.0], [-1.0, 1.0]])) ** 2).mean()
    torch.testing.assert_close(model(clips, labels=targets).loss, expected)
    views = model(clips[:, None].repeat(1, 3, 1, 1, 1, 1)).logits
    torch.testing.assert_close(views, logits)


def test_targets_that_are_not_known_do_not_count():
    model = build(VideoMAEV2ForVideoClassification, **NORMALISED)
    clips = videos(model.config)
    targets = torch.tensor([[14.0, float("nan")], [6.0, -4.5]])
    squares = ((model(clips).logits - targets) / torch.tensor([4.0, 0.5])).square()
    torch.testing.assert_close(model(clips, labels=targets).loss, (squares[0, 0] + squares[1].sum()) / 3)
    loss = model(clips, labels=torch.full((2, 2), torch.nan)).loss
    assert loss == 0
    loss.backward()
    assert all(parameter.grad is None or parameter.grad.isfinite().all() for parameter in model.parameters())


def test_normalisation_is_saved_with_the_model(tmp_path):
    model = build(VideoMAEV2ForVideoClassification, **NORMALISED)
    model.save_pretrained(tmp_path)
    again = VideoMAEV2ForVideoClassification.from_pretrained(tmp_path).eval()
    clips = videos(model.config)
    torch.testing.assert_close(again(clips).logits, model(clips).logits)
    assert again(clips).logits.mean(0).tolist() != [0, 0]


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"target_mean": (1.0,)}, "give both or neither"),
        ({"target_mean": (1.0,), "target_std": (0.0,)}, "must be positive"),
        ({"target_mean": (1.0,), "target_std": (2.0,), "num_labels": 2}, "one value for each of the 2 targets"),
    ],
)
def test_mistakes_in_the_configuration(fields, message):
    with pytest.raises(ValueError, match=message):
        build(VideoMAEV2ForVideoClassification, **fields)


def test_batches_of_targets():
    config = VideoMAEV2Config(**NORMALISED)
    clip = torch.zeros(4, 3, 8, 8, dtype=torch.uint8)
    batch = ClipCollator(config)(
        [{"pixel_values": clip, "labels": torch.tensor([1.0, -100.0])}, {"pixel_values": None, "labels": -100}]
    )
    assert batch["labels"][0].tolist() == [1.0, -100.0] and batch["labels"][1].isnan().all()
    loader = FinetuneTransform(config, ClipSampler(16))
    frames = torch.zeros(16, 3, 300, 300, dtype=torch.uint8)
    loader.sampling.random_clip = lambda sample, generator, transform: transform(frames)
    item = loader(VideoRecord("a.mp4", targets=(0.5, 2.0)), torch.Generator())
    assert item["labels"].tolist() == [0.5, 2.0] and item["labels"].dtype == torch.float32

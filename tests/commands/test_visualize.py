"""`videomae visualize` as a user runs it: pictures of every kind of model, and a map of a folder."""

import json
import re
import shlex

import av
import numpy as np
import pytest
import torch
from helpers.commands import command_in
from helpers.tiny_models import build
from helpers.trained_models import save_trained, write_three_motions
from PIL import Image

from videomae_hf import VideoMAEV2ImageProcessor, VideoMAEV2Model, cli
from videomae_hf.commands import visualize
from videomae_hf.data.sources.synthetic import write_video
from videomae_hf.inference.embedding_map import MappedVideo, Projection, principal_components, write_map
from videomae_hf.inference.inputs import input_of
from videomae_hf.inference.visualization import open_viewer
from videomae_hf.models.image_processing_videomae_v2 import clip_options, normalization_options
from videomae_hf.models.token_selection import TokenSelection


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """A pretrained model, a classifier and an encoder; videos in two folders, and a broken one."""
    place = tmp_path_factory.mktemp("place")
    for name, options in (("pretrained", {"decoder_mask_ratio": 0.5}), ("encoder", {"model_class": VideoMAEV2Model})):
        model = build(**options)
        model.save_pretrained(place / name)
        options = {"sampling_rate": 2, **clip_options(model.config), **normalization_options(model.config)}
        VideoMAEV2ImageProcessor(**options).save_pretrained(place / name)
    save_trained(place / "classifier")
    for folder, name in (("run", "a"), ("run", "b"), ("<script>alert(1)", "a")):
        (place / "videos" / folder).mkdir(parents=True, exist_ok=True)
        write_three_motions(place / "videos" / folder / f"{name}.mp4", 6)
    (place / "bad.mp4").write_bytes(b"no video")
    return place


@pytest.fixture
def command(place, tmp_path, capsys, monkeypatch):
    """Runs a command in `tmp_path`: exit status, output and errors."""
    monkeypatch.chdir(tmp_path)
    return command_in(place, capsys, "visualize", "--device cpu")


def test_help_begins_with_commands(capsys):
    with pytest.raises(SystemExit):
        cli.main(["visualize", "--help"])
    lines = [line for line in capsys.readouterr().out.splitlines() if line.startswith("  videomae")]
    assert len(lines) == 4
    for line in lines:
        visualize.check_arguments(visualize.parse_arguments(shlex.split(line)[2:]))


def test_reconstruction_of_a_pretrained_model(command, tmp_path):
    status, out, _ = command("PLACE/pretrained PLACE/videos/run/a.mp4 --output_dir out")
    names = sorted(path.name for path in (tmp_path / "out").iterdir())
    assert (status, names) == (0, ["a_attention.png", *(f"a_reconstruction.{end}" for end in ("gif", "mp4", "png"))])
    assert all(name in out for name in names)
    with av.open(str(tmp_path / "out/a_reconstruction.mp4")) as container:
        stream = container.streams.video[0]
        assert (stream.codec_context.name, stream.codec_context.pix_fmt) == ("h264", "yuv420p")
        assert stream.average_rate == 25 / 2 and stream.width % 2 == stream.height % 2 == 0  # every second frame
        frames = [frame.to_ndarray(format="rgb24") for frame in container.decode(stream)]
    assert len(frames) == 4 and frames[0].shape[1] > 4 * 168
    with Image.open(tmp_path / "out/a_reconstruction.gif") as picture:
        assert (picture.n_frames, picture.info["duration"], picture.info["loop"]) == (4, 80, 0)
        assert picture.size == frames[0].shape[1::-1]


def test_masks_of_a_reconstruction(place, command, tmp_path):
    """Visible patches are those of the original; options override the masks of the model, and the seed moves them."""
    line = "PLACE/pretrained PLACE/videos/run/a.mp4 --what reconstruction --output_dir"
    for folder, options in (("a", ""), ("b", ""), ("c", "--seed 1"), ("d", "--mask_ratio 0.25 --mask_type random")):
        assert command(f"{line} {folder} {options}")[0] == 0
    found = {name: (tmp_path / name / "a_reconstruction.png").read_bytes() for name in "abcd"}
    assert found["a"] == found["b"] and len(set(found.values())) == 3
    viewer = open_viewer(place / "pretrained", "cpu", mask_ratio=0.5, mask_type="random", decoder_mask_ratio=0)
    clip = torch.zeros(1, 4, 3, 32, 32)
    original, seen, decoded, rebuilt = viewer.reconstruction(clip, seed=3)
    hidden = (seen != original).any(dim=1)  # (T, H, W)
    assert hidden.float().mean() == 0.5  # half of all patches are grey
    assert torch.equal(decoded != original, seen == original)  # all that is hidden is decoded
    assert torch.equal(rebuilt.movedim(1, 3)[~hidden], original.movedim(1, 3)[~hidden])
    assert not torch.equal(rebuilt, original)


def test_what_a_classifier_shows(command, tmp_path, place):
    line = "PLACE/classifier PLACE/videos PLACE/bad.mp4 PLACE/none.mp4 --output_dir out --head 1 --label swim"
    status, out, err = command(line)
    names = [path.name for path in (tmp_path / "out").iterdir()]
    assert status == 1 and len(names) == 6 and len(out.splitlines()) == 3
    assert {"a_attention.png", "a_evidence.png", "b_evidence.png"} < set(names)
    assert sum(re.fullmatch(r"a-[0-9a-f]{8}_evidence.png", name) is not None for name in names) == 1
    assert f"failed: {place}/bad.mp4 cannot be decoded" in err and f"failed: No video file {place}/none.mp4" in err
    assert "2 videos of 5 could not be shown, for the reasons above" in err
    with Image.open(tmp_path / "out/a_attention.png") as wide, Image.open(tmp_path / "out/a_evidence.png") as narrow:
        assert wide.height - narrow.height == 100 and wide.width == narrow.width  # one row more, of the head
    assert command("PLACE/classifier PLACE/bad.mp4 --output_dir out")[0] == 2
    assert command("PLACE/encoder PLACE/videos/run/b.mp4 --output_dir enc --layer 0")[0] == 0
    assert [path.name for path in (tmp_path / "enc").iterdir()] == ["b_attention.png"]


def kept_in_picture(path) -> torch.Tensor:
    """Which tokens the second row shows: bool (2, 4, 4), for frames of 32 pixels that are drawn 3 times as large."""
    picture = np.asarray(Image.open(path))
    left, top = 136 + 2 + 12, picture.shape[0] - 100 + 2 + 12  # the centre of the first patch, of 24 pixels
    slots = [picture[top::24, left + 100 * slot :][:4, : 4 * 24 : 24] for slot in (0, 1)]
    return torch.from_numpy((np.stack(slots) != 128).any(axis=-1))  # hidden patches are grey


def test_tokens_that_are_encoded(place, command, tmp_path):
    """A white square appears in the left upper corner: the first slot is kept, and of the second the four patches."""
    frames = np.full((4, 32, 32, 3), 20, np.uint8)
    frames[2:, :16, :16] = 250
    write_video(tmp_path / "square.mp4", frames)
    model = build(VideoMAEV2Model)
    model.save_pretrained(tmp_path / "encoder")
    options = {**clip_options(model.config), **normalization_options(model.config), "sampling_rate": 1}
    VideoMAEV2ImageProcessor(**options).save_pretrained(tmp_path / "encoder")
    expected = torch.zeros(2, 4, 4, dtype=torch.bool)
    expected[0], expected[1, :2, :2] = True, True
    for folder, option in (("a", "--static_threshold 0.5"), ("b", "--static_keep 0.625")):  # 20 of 32
        status, _, err = command(f"encoder square.mp4 --output_dir {folder} --what tokens {option}")
        assert (status, "square: kept 62% of 32 tokens" in err) == (0, True)
        assert [path.name for path in (tmp_path / folder).iterdir()] == ["square_tokens.png"]
        assert torch.equal(kept_in_picture(tmp_path / folder / "square_tokens.png"), expected)
    assert command("encoder square.mp4 --output_dir both --token_keep 0.5")[0] == 0  # beside all others
    assert sorted(path.name for path in (tmp_path / "both").iterdir()) == ["square_attention.png", "square_tokens.png"]
    assert kept_in_picture(tmp_path / "both/square_tokens.png").sum(dim=(1, 2)).tolist() == [8, 8]


@pytest.mark.parametrize("settings", [
    {"static_threshold": 0.01}, {"static_keep": 0.3}, {"token_keep": 0.5}, {"static_threshold": 0.0},
    {"token_keep": 0.3, "token_keep_type": "random"}, {},
])  # fmt: skip
def test_kept_tokens_are_those_of_the_selection(place, settings):
    viewer = open_viewer(place / "classifier", "cpu")
    clip, _ = viewer.clip(input_of(str(place / "videos/run/a.mp4")))
    state = torch.get_rng_state()
    kept = viewer.kept_tokens(clip, TokenSelection(**settings), seed=3)
    assert torch.equal(torch.get_rng_state(), state)
    torch.manual_seed(3)
    ids = TokenSelection(**settings).visible_ids(clip, viewer.model.config, training=True)
    expected = list(range(len(kept))) if ids is None else ids[0].tolist()
    assert kept.nonzero().flatten().tolist() == expected


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("encoder V --output_dir o --what tokens", "tokens shows a part of the tokens: give --static_keep"),
        ("encoder V --output_dir o --token_keep_type random", "tokens shows a part of the tokens: give --static_keep"),
        ("encoder V --output_dir o --static_keep 1.5", "static_keep=1.5 must be above 0 and at most 1"),
        ("encoder V --output_dir o --token_keep 0.4", "token_keep=0.4 must be 0.25, 0.5 or 0.75"),
        ("encoder V --output_dir o --static_keep 0.5 --token_keep 0.5", "are alternatives; keep one"),
        ("encoder V --output_dir o --what attention --static_keep 0.5", "--static_keep is for tokens, which --what"),
        ("encoder V --embedding m.html --static_keep 0.5", "--static_keep is for pictures of videos, not for the map"),
        ("classifier V --output_dir o --what reconstruction", "reconstruction needs a pretraining model"),
        ("pretrained V --output_dir o --what evidence", "evidence needs a finetuned classifier"),
        ("pretrained V --output_dir o --label run", "evidence needs a finetuned classifier"),
        ("classifier V --output_dir o --mask_ratio 0.5", "mask_ratio is for pretraining models"),
        ("pretrained V --output_dir o --mask_ratio 1.5", "mask_ratio=1.5"),
        ("pretrained V --output_dir o --mask_type tub", "mask_type='tub'"),
        ("classifier V --output_dir o --what attention --label run", "--label is for evidence, which --what leaves"),
        ("classifier V --output_dir o --label runs", "label='runs' is no class of this model; did you mean 'run'?"),
        ("classifier V --output_dir o --layer 7", "layer=7: the encoder has 2 layers"),
        ("classifier V --output_dir o --head 3", "head=3: each layer has 3 heads"),
        ("classifier V --output_dir o --what look", "'look' is unknown; choose from reconstruction, attention"),
        ("classifier V", "Give either --output_dir for pictures"),
        ("classifier V --output_dir o --embedding m.html", "Give either --output_dir for pictures"),
        ("classifier V --embedding m.html --label run", "--label is for pictures of videos, not for the map"),
        ("classifier camera:0 --output_dir o", "Cameras and standard input cannot be visualised"),
        ("classifier V --output_dir o --num_workers 0", "--num_workers 0 must be at least 1"),
    ],
)
def test_mistakes_are_told(command, line, message, tmp_path):
    status, _, err = command(f"PLACE/{line.replace('V ', 'PLACE/videos/run/a.mp4 ', 1)}")
    assert (status, message in err) == (1, True), err
    assert not (tmp_path / "o").exists()


def page_data(path) -> dict:
    text = path.read_text(encoding="utf-8")
    return json.loads(re.search(r'<script type="application/json" id="data">(.*)</script>', text)[1])


@pytest.mark.parametrize("model", ["classifier", "pretrained"])
def test_a_map_of_a_folder(command, tmp_path, place, model):
    status, out, err = command(f"PLACE/{model} PLACE/videos PLACE/bad.mp4 --embedding new/map.html")
    assert (status, out) == (1, "new/map.html: 3 videos\n") and "1 video of 4 could not be shown" in err
    data = page_data(tmp_path / "new/map.html")
    assert data["labels"] == ["<script>alert(1)", "run"] and [point["label"] for point in data["points"]] == [0, 1, 1]
    assert data["points"][1]["name"] == f"{place}/videos/run/a.mp4"
    assert all(point["picture"].startswith("/9j/") for point in data["points"])  # JPEG
    # The same video in two folders has one place, and another video another one.
    places = [(point["x"], point["y"]) for point in data["points"]]
    assert np.allclose(places[0], places[1], atol=1e-4) and np.isfinite(places).all()


def test_labels_of_a_list(command, tmp_path, place):
    (tmp_path / "list.csv").write_text("path,label\nrun/a.mp4,fast\nrun/b.mp4,slow\n")
    assert command("PLACE/classifier list.csv --data_root PLACE/videos --embedding map.html")[0] == 0
    data = page_data(tmp_path / "map.html")
    assert [data["labels"][point["label"]] for point in data["points"]] == ["fast", "slow"]
    (tmp_path / "list.txt").write_text("run/a.mp4\n")
    assert command("PLACE/classifier list.txt --data_root PLACE/videos --embedding map.html")[0] == 0
    assert [point["label"] for point in page_data(tmp_path / "map.html")["points"]] == [-1]


@pytest.mark.parametrize(
    ("inputs", "labels"), [("PLACE/videos/run", [-1, -1]), ("PLACE/videos/run list.txt", [0, 0, -1])]
)
def test_labels_of_class_folders(command, tmp_path, inputs, labels):
    """As from the shell's my_videos/*; a single folder is no class."""
    (tmp_path / "list.txt").write_text("run/a.mp4\n")
    assert command(f"PLACE/classifier {inputs} --data_root PLACE/videos --embedding map.html")[0] == 0
    assert [point["label"] for point in page_data(tmp_path / "map.html")["points"]] == labels


def test_the_page_is_closed(tmp_path):
    """No name ends the script or becomes part of the page, and nothing is loaded from elsewhere."""
    hostile = "</script><script>alert(1)</script>&<!--{{DATA}}\u2028\x1b\udcff"
    videos = [MappedVideo(hostile, np.zeros(3), b"", hostile), MappedVideo("b", np.ones(3), b"\xff\xd8", None)]
    write_map(tmp_path / "map.html", videos, Projection(np.eye(2), ("a", "b")), hostile)
    text = (tmp_path / "map.html").read_text(encoding="utf-8")
    assert text.count("<script") == 2 and text.count("</script>") == 2
    assert "<script>alert" not in text
    assert "default-src 'none'; img-src data:" in text
    assert not re.search(r"https?://|//[a-z]+\.|@import|url\(", text)
    point = page_data(tmp_path / "map.html")["points"][0]
    assert point["name"].startswith("</script><script>alert(1)</script>&<!--{{DATA}}") and "\x1b" not in point["name"]
    with pytest.raises(ValueError, match="not finite"):
        write_map(tmp_path / "b.html", videos, Projection(np.full((2, 2), np.nan), ("a", "b")), "")


def test_principal_components():
    """Points on a line, and a little beside it."""
    features = np.array([[0, 0, 5], [3, 4, 5], [6, 8, 5], [9, 12, 5]], np.float32)
    points, axes = principal_components(features)
    assert points[:, 0] == pytest.approx([-7.5, -2.5, 2.5, 7.5]) and np.abs(points[:, 1]).max() < 1e-6
    assert axes == ("principal component 1 (100% of the variance)", "principal component 2 (0% of the variance)")
    assert principal_components(features[:1]).points.tolist() == [[0, 0]]


def test_umap_is_optional(command, monkeypatch):
    monkeypatch.setattr(visualize.check_umap.__globals__["importlib"].util, "find_spec", lambda name: None)
    status, _, err = command("PLACE/classifier PLACE/videos --embedding map.html --umap")
    assert status == 1 and "--umap needs umap-learn, which is not installed: pip install umap-learn" in err

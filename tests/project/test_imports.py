"""Public names are imported when they are used, and the Auto classes know our models whatever is imported first."""

import ast
import subprocess
import sys

import pytest
from helpers.shared import REPO

import videomae_hf


REGISTERED = """
from transformers import AutoConfig, AutoModelForImageTextToText, AutoModelForVideoClassification
from transformers.models.auto.image_processing_auto import IMAGE_PROCESSOR_MAPPING
from transformers.models.auto.processing_auto import PROCESSOR_MAPPING
from transformers.models.auto.video_processing_auto import VIDEO_PROCESSOR_MAPPING
configs = [type(AutoConfig.for_model(name)) for name in ("videomae_v2", "videobert")]
print(*(one.__name__ for one in configs), AutoModelForVideoClassification._model_mapping[configs[0]].__name__,
      AutoModelForImageTextToText._model_mapping[configs[1]].__name__)
assert configs[0] in IMAGE_PROCESSOR_MAPPING and configs[0] in VIDEO_PROCESSOR_MAPPING
assert configs[1] in PROCESSOR_MAPPING
import videomae_hf
assert configs == [videomae_hf.VideoMAEV2Config, videomae_hf.VideoBertConfig]
"""


def printed(script: str) -> str:
    done = subprocess.run([sys.executable, "-c", script], cwd=REPO, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


@pytest.mark.parametrize(
    "first",
    [
        "import videomae_hf",
        "import transformers.modeling_layers, videomae_hf",
        "from videomae_hf.models.layers_videomae_v2 import patchify",
    ],
)
def test_auto_classes_know_ours_whatever_is_imported_first(first):
    assert printed(first + REGISTERED) == (
        "VideoMAEV2Config VideoBertConfig VideoMAEV2ForVideoClassification VideoBertForCaptioning"
    )


def test_two_threads():
    """Neither waits for a file that the other one is importing."""
    script = """
import threading
import videomae_hf

fine = []

def run(line):
    exec(line, {})
    fine.append(line)

lines = ("import transformers; transformers.AutoConfig", "from videomae_hf import VideoMAEV2Config")
threads = [threading.Thread(target=run, args=(line,)) for line in lines]
[thread.start() for thread in threads]
[thread.join() for thread in threads]
print(sorted(fine) == sorted(lines))
"""
    assert printed(script) == "True"


def test_the_package_and_its_usage_need_no_torch():
    script = """
import sys
import videomae_hf
from videomae_hf.cli import VERBS, main
for command in (["--help"], *([verb, "--help"] for verb in VERBS)):
    try:
        main(command)
    except SystemExit as end:
        assert not end.code
print("loaded:", [name for name in ("torch", "transformers", "datasets") if name in sys.modules])
"""
    assert printed(script).splitlines()[-1] == "loaded: []"


def test_public_names():
    """Each name of the stub is there, and none of what it imports is left out."""
    tree = ast.parse((REPO / "videomae_hf" / "__init__.pyi").read_text(encoding="utf-8"))
    (listed,) = (ast.literal_eval(node.value) for node in tree.body if isinstance(node, ast.Assign))
    assert sorted(listed) == sorted(videomae_hf.__all__) and set(listed) <= set(dir(videomae_hf))
    for name in listed:
        assert getattr(videomae_hf, name).__name__ == name
    with pytest.raises(AttributeError, match="VideoMAEV3"):
        videomae_hf.VideoMAEV3  # noqa: B018

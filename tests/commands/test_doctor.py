"""`videomae doctor`: it runs whatever is broken, and says what to do."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from helpers.commands import run as run_command
from helpers.shared import REPO

from videomae_hf.commands import doctor
from videomae_hf.commands.doctor import BACKENDS, GREYS, explain_torchcodec, find_problems, judge_backend, probe, report
from videomae_hf.models.video_decoding import BACKENDS as DECODING_BACKENDS


CPU, CUDA = {"cuda": None, "gpus": []}, {"cuda": "12.8", "gpus": []}


def loading_error(*reasons: str) -> str:
    """What torchcodec 0.13 raises: a text, and the reason for each version of FFmpeg that it tried."""
    lines = [
        "Could not load libtorchcodec. Likely causes:",
        "          1. FFmpeg is not properly installed in your environment.",
        "          2. The PyTorch version (2.13.0) is not compatible with this version of TorchCodec.",
        "[start of libtorchcodec loading traceback]",
    ]
    for version, reason in zip(range(8, 3, -1), reasons):
        lines += [f"FFmpeg version {version}:", "Traceback (most recent call last):", f"OSError: {reason}"]
    return "\n".join([*lines, "[end of libtorchcodec loading traceback]."])


def missing(library: str) -> str:
    return f"{library}: cannot open shared object file: No such file or directory"


NO_FFMPEG = loading_error(*(missing(f"libavutil.so.{number}") for number in (60, 59, 58, 57, 56)))
WRONG_TORCH = loading_error(
    *(missing(f"libavutil.so.{number}") for number in (60, 59, 58)),
    "/venv/lib/torchcodec/libtorchcodec_core5.so: undefined symbol: _ZN3c104cuda9SetDeviceEa",
    missing("libavutil.so.56"),
)
# torchcodec 0.17, whose reason is in the exception's cause
CUDA_BUILD = f"Could not load this library: /venv/torchcodec/libtorchcodec_image.so\n{missing('libnvrtc.so.13')}"


def stub(folder: Path, name: str, code: str, version: str = "9.9"):
    """A package that does this when imported."""
    (folder / name).mkdir()
    (folder / name / "__init__.py").write_text(code)
    information = folder / f"{name}-{version}.dist-info"
    information.mkdir()
    (information / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n")


def run(arguments: list[str], *paths: Path, timeout: int = 300) -> subprocess.CompletedProcess:
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(map(str, paths))}
    return run_command([sys.executable, *arguments], env=environment, timeout=timeout)


# ------------------------------------------------------------------------------------------------------ whole command


def test_command(tmp_path):
    """Here, with PyAV, and with a torchcodec that does not load."""
    stub(tmp_path, "torchcodec", f"raise RuntimeError({NO_FFMPEG!r})", "0.13.0")
    done = run(["-m", "videomae_hf.cli", "doctor", "--json"], tmp_path, REPO)
    assert done.returncode == 0, done.stderr
    facts = json.loads(done.stdout)
    assert facts["ok"] is True
    assert facts["auto"] == "pyav"
    assert facts["backends"]["pyav"]["state"] == "works"
    assert facts["backends"]["pyav"]["detail"].startswith("FFmpeg")
    assert facts["backends"]["torchcodec"]["state"] == "broken"
    assert "libx264" in facts["encoders"]
    assert facts["packages"]["transformers"].startswith("5.")
    assert facts["machine"]["cores"] >= 1
    assert [problem for problem in facts["problems"] if problem.startswith("torchcodec 0.13.0 finds no shared lib")]
    assert "  pyav             works " in "\n".join(report(facts))


def test_everything_broken_at_once(tmp_path):
    """Nothing imports, this package neither; run as a file, without an installed package that has its name."""
    broken_torchvision = "operator torchvision::nms does not exist"
    stub(tmp_path, "torch", "raise ImportError('libtorch_global_deps.so: cannot open shared object file')", "2.13.0")
    stub(tmp_path, "transformers", "import torchvision", "5.17.0")
    stub(tmp_path, "torchvision", f"raise RuntimeError({broken_torchvision!r})", "0.28.0")
    stub(tmp_path, "torchcodec", f"raise RuntimeError({WRONG_TORCH!r})", "0.9.0")
    stub(tmp_path, "decord", "import os; os.abort()", "0.6.0")
    stub(tmp_path, "av", "raise ImportError('av/_core.so: file too short')", "18.0.0")
    done = run([str(REPO / "videomae_hf" / "commands" / "doctor.py")], tmp_path)
    assert done.returncode == 1, done.stderr
    assert done.stderr == ""
    lines = done.stdout.splitlines()
    assert "  pyav             broken   18.0.0   see below" in lines
    assert "  torchcodec       broken   0.9.0    see below" in lines
    assert "  decord           broken   0.6.0    see below" in lines
    assert "  auto takes       none" in lines
    assert "  transformers     5.17.0" in lines
    assert max(map(len, lines)) <= 100
    text = " ".join(done.stdout.split())
    for problem in (
        "- No backend decodes videos here. `pip install av` is enough.",
        "- pyav 18.0.0 av/_core.so: file too short.",
        "- torchcodec 0.9.0 does not fit torch 2.13.0 (undefined symbol _ZN3c104cuda9SetDeviceEa): "
        "pip install torchcodec==0.13.",
        "- torch 2.13.0 does not load: libtorch_global_deps.so: cannot open shared object file.",
        "- torchvision 0.28.0 does not load (operator torchvision::nms does not exist), and breaks transformers.",
        "(0.28, for the same CPU or CUDA)",
        f"- videomae_hf itself fails: {broken_torchvision}.",
        "- transformers 5.17.0: its own VideoMAE classes load the q and v biases of published checkpoints as zeros",
    ):
        assert problem in text
    if sys.platform != "win32":
        assert "- decord 0.6.0 its process died (SIGABRT)." in text


def test_nothing_installed(monkeypatch, capsys):
    monkeypatch.setattr(doctor, "version_of", lambda name: None)
    monkeypatch.setattr(doctor, "probe", lambda name, video, timeout: {"error": "No module named 'torch'"})
    monkeypatch.setattr(doctor, "unmet_requirements", lambda: [])
    with pytest.raises(SystemExit) as caught:
        doctor.main([])
    assert int(caught.value.code) == 1
    lines = capsys.readouterr().out.splitlines()
    assert "  pyav             missing  -        pip install av" in lines
    assert "  torch            not installed" in lines
    assert "  - No backend decodes videos here. `pip install av` is enough." in lines


# ------------------------------------------------------------------------------------------------------------- probes


def test_probes_of_this_environment(tmp_path):
    answer = probe("pyav", tmp_path / "grey.mp4")
    assert answer["greys"] == pytest.approx(GREYS, abs=4)
    assert answer["libavcodec"].count(".") == 2
    if doctor.version_of("decord"):
        assert probe("decord", tmp_path / "grey.mp4")["greys"] == pytest.approx(GREYS, abs=4)


@pytest.mark.parametrize(
    ("code", "expected"),
    [
        ("raise OSError('outer') from OSError('inner')", "outer\ninner"),
        ("raise RuntimeError", "RuntimeError"),
        ("import os; os._exit(3)", "its process died (exit status 3)"),
        ("import time; time.sleep(60)", "no answer within 3 s"),
        ("print('noise', end=''); raise ImportError('quiet')", "quiet"),
    ],
)
def test_a_probe_survives_everything(tmp_path, monkeypatch, code, expected):
    stub(tmp_path, "decord", code)
    monkeypatch.syspath_prepend(tmp_path)
    assert probe("decord", tmp_path / "grey.mp4", timeout=3 if "sleep" in code else 60) == {"error": expected}


def test_without_pyav_there_is_no_video_to_try(tmp_path, monkeypatch):
    stub(tmp_path, "decord", "")
    monkeypatch.syspath_prepend(tmp_path)
    answer = probe("decord", tmp_path / "grey.mp4")
    assert answer == {}
    assert judge_backend("decord", "0.6.0", answer, "2.13.0", CPU) == {
        "state": "loads",
        "version": "0.6.0",
        "detail": "loads; not tried, because the test video is written by PyAV",
    }


# --------------------------------------------------------------------------------------------------------- judgements


def test_backends_are_those_of_the_decoder():
    assert tuple(BACKENDS) == tuple(DECODING_BACKENDS)


@pytest.mark.parametrize(
    ("name", "answer", "state", "detail"),
    [
        ("pyav", {"greys": GREYS, "libavcodec": "62.28.102"}, "works", "FFmpeg 8, its own (libavcodec 62.28.102)"),
        ("pyav", {"greys": GREYS, "libavcodec": "99.1.0"}, "works", "FFmpeg, its own (libavcodec 99.1.0)"),
        ("torchcodec", {"greys": GREYS, "libavcodec": "59.37.100"}, "works", "FFmpeg 5, of the system (libavcodec"),
        ("decord", {"greys": GREYS}, "works", "FFmpeg: its own"),
        ("decord", {"greys": GREYS[::-1]}, "broken", "decodes wrong frames: grey levels [205, 180,"),
        ("decord", {"greys": GREYS[:-1]}, "broken", "decodes wrong frames"),
        ("decord", {"error": "bad\nmore"}, "broken", "bad"),
    ],
)
def test_judge_backend(name, answer, state, detail):
    found = judge_backend(name, "1.0", answer, "2.13.0", CPU)
    assert (found["state"], found["version"]) == (state, "1.0")
    assert found["detail"].startswith(detail)


@pytest.mark.parametrize(
    ("text", "torch_version", "torch", "expected"),
    [
        (
            CUDA_BUILD,
            "2.13.0+cpu",
            CPU,
            "is a CUDA build (libnvrtc.so.13 is missing), but torch 2.13.0+cpu is a CPU build: "
            "pip install torchcodec==0.13",
        ),
        (
            loading_error(*[missing("libnvrtc.so.13")] * 5),
            "2.10.0+cu128",
            CUDA,
            "is built for another CUDA version (libnvrtc.so.13 is missing) than torch 2.10.0+cu128 (CUDA 12.8): "
            "install the torchcodec for the same CUDA version",
        ),
        (
            WRONG_TORCH,
            "2.7.1",
            CPU,
            "does not fit torch 2.7.1 (undefined symbol _ZN3c104cuda9SetDeviceEa): pip install torchcodec==0.5",
        ),
        (
            loading_error("dlopen(x): Symbol not found: __ZN3c1011", "Library not loaded: @rpath/libavutil.58.dylib"),
            "2.10.0",
            CPU,
            "does not fit torch 2.10.0 (undefined symbol __ZN3c1011): pip install torchcodec==0.10",
        ),
        (
            NO_FFMPEG,
            "2.13.0",
            CPU,
            "finds no shared libraries of FFmpeg 4 to 8 (libavutil.so.56 is missing): apt install ffmpeg, brew install "
            "ffmpeg or conda install ffmpeg; a static ffmpeg program is not enough",
        ),
        (
            loading_error("dlopen(/x.dylib): Library not loaded: @rpath/libavutil.56.dylib"),
            "2.13.0",
            CPU,
            "finds no shared libraries of FFmpeg 4 to 8 (libavutil.56.dylib is missing): apt install ffmpeg, brew "
            "install ffmpeg or conda install ffmpeg; a static ffmpeg program is not enough",
        ),
        (
            loading_error("Could not find module 'libtorchcodec_core8.dll' (or one of its dependencies)"),
            "2.8.0",
            CPU,
            "does not load: it needs shared libraries of FFmpeg 4 to 8, and the release that fits torch: "
            "pip install torchcodec==0.7",
        ),
        ("No module named 'torch'", None, {}, "needs torch, which is not installed"),
        ("something else\nand more", "2.13.0", CPU, "something else"),
    ],
)  # fmt: skip
def test_explain_torchcodec(text, torch_version, torch, expected):
    assert explain_torchcodec(text, "0.13.0", torch_version, torch) == expected


def facts_of(transformers: str = "5.23.0", shared_memory: int | None = 2**34) -> dict:
    return {
        "packages": {"torch": "2.13.0", "torchvision": None, "transformers": transformers},
        "machine": {"shared_memory": shared_memory},
        "backends": {"pyav": {"state": "works", "version": "18.1.0", "detail": ""}},
        "encoders": ["libx264"],
    }


@pytest.fixture
def healthy(monkeypatch) -> dict:
    """Answers of probes without a problem."""
    monkeypatch.setattr(doctor, "unmet_requirements", lambda: [])
    monkeypatch.setattr(doctor.shutil, "which", lambda name: None)
    return {"pyav": {"greys": GREYS}, "torch": CPU, "videomae_hf": {"auto": "pyav"}}


@pytest.mark.parametrize(
    ("transformers", "told"), [("5.5.4", 0), ("5.6.0", 1), ("5.17.1", 1), ("5.18.0", 0), ("5.23.0", 0), (None, 0)]
)
def test_transformers_that_lose_biases(healthy, transformers, told):
    problems = find_problems(facts_of(transformers), healthy)
    assert len(problems) == told
    assert all("load the q and v biases of published checkpoints as zeros" in problem for problem in problems)


def test_small_shared_memory(healthy):
    assert find_problems(facts_of(shared_memory=None), healthy) == []
    (problem,) = find_problems(facts_of(shared_memory=2**26), healthy)
    assert problem.startswith("/dev/shm holds only 64 MiB, and data workers pass their batches through it")


def test_cpu_torch_beside_a_gpu(healthy, monkeypatch):
    monkeypatch.setattr(doctor.shutil, "which", lambda name: f"/usr/bin/{name}")
    assert find_problems(facts_of(), healthy) == ["torch 2.13.0 is a CPU build, but this machine has an NVIDIA driver."]
    assert find_problems(facts_of(), healthy | {"torch": CUDA}) == []


def test_unmet_requirements(monkeypatch):
    metadata = doctor.importlib.metadata
    wanted = ["numpy>=1", "numpy<1", "no-such-package-here>=2", "other; python_version < '3'", "pytest<0; extra == 'x'"]
    monkeypatch.setattr(metadata, "requires", lambda name: wanted)
    older = f"numpy {metadata.version('numpy')} is installed, but <1 is required."
    absent = "no-such-package-here is required but not installed: pip install 'no-such-package-here'"
    assert doctor.unmet_requirements() == [older, absent]


def test_other_commands_need_no_pyav():
    """Only `prepare` writes videos; without PyAV it ends in one line, and the others are there."""
    without = "import sys; sys.modules['av'] = None; from videomae_hf import cli; sys.argv[0] = 'videomae'; cli.main()"
    statuses = {}
    for name in ("merge-labels", "prepare"):
        done = run_command([sys.executable, "-c", without, name], cwd=REPO)  # arguments are missing
        statuses[name] = done.returncode
        assert "Traceback" not in done.stderr
    assert statuses == {"merge-labels": 2, "prepare": 1}

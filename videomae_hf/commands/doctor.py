# Copyright 2026 The videomae_hf authors. Licensed under the Apache License, Version 2.0.
"""`videomae doctor`: checks what works on this machine, and explains how to fix the rest.

This file imports only the standard library: anything that may be broken is tried in a separate process (`_PROBES`),
which may raise, hang or crash. If not even `import videomae_hf` works, run this file directly:
`python .../videomae_hf/commands/doctor.py`.
"""

import argparse
import importlib.metadata
import importlib.util
import json
import os
import platform
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import textwrap
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path


DESCRIPTION = """\
Checks what works on this machine and explains how to fix the rest: video decoding (each backend decodes a tiny video),
package versions, memory, GPUs. The exit status is 0 if a decoding backend and this package work, otherwise 1.
"""
BACKENDS = {"pyav": "av", "torchcodec": "torchcodec", "decord": "decord"}  # in the order of `auto`, with their modules
DISTRIBUTIONS = {"decord": ("decord", "decord2", "eva-decord")}  # if the package has another name than the module
PACKAGES = (
    "torch", "torchvision", "transformers", "accelerate", "datasets", "evaluate", "huggingface_hub", "safetensors",
    "numpy",
)  # fmt: skip
ENCODERS = ("libx264", "libx265", "libsvtav1", "mpeg4")
FFMPEG_OF_LIBAVCODEC = {58: 4, 59: 5, 60: 6, 61: 7, 62: 8, 63: 9}
# The table in torchcodec's README. 0.12 and newer fit torch 2.11 and newer; 0.13 is the last to load with CPU torch.
TORCHCODEC_OF_TORCH = {"2.6": "0.2", "2.7": "0.5", "2.8": "0.7", "2.9": "0.9", "2.10": "0.10"}
GREYS = tuple(range(30, 230, 25))  # grey levels of the frames of the test video
_ANSWER = "answer of the probe: "
TIMEOUT = 120  # seconds per probe; the first import of torch may take half a minute


# ------------------------------------------------------------------------------------ probes, in a separate process


def _probe_pyav(video: Path) -> dict:
    """Also writes the test video."""
    import av
    import numpy as np

    encoders = []
    for name in ENCODERS:
        try:
            av.Codec(name, "w")
            encoders.append(name)
        except ValueError:
            pass
    partial_file = video.with_suffix(".partial.mp4")
    with av.open(str(partial_file), "w") as container:
        stream = container.add_stream(encoders[0], rate=25)
        stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p"
        for grey in GREYS:
            image = np.full((48, 64, 3), grey, np.uint8)
            container.mux(stream.encode(av.VideoFrame.from_ndarray(image, format="rgb24")))
        container.mux(stream.encode())
    partial_file.rename(video)
    with av.open(str(video)) as container:
        greys = [float(frame.to_ndarray(format="rgb24").mean()) for frame in container.decode(video=0)]
    versions = {name: ".".join(map(str, version)) for name, version in av.library_versions.items()}
    return {"greys": greys, "libavcodec": versions.get("libavcodec"), "encoders": encoders}


def _probe_torchcodec(video: Path) -> dict:
    from torchcodec.decoders import VideoDecoder

    if not video.is_file():
        return {}
    decoder = VideoDecoder(str(video), dimension_order="NHWC", num_ffmpeg_threads=1)
    greys = [decoder[index].float().mean().item() for index in range(len(decoder))]
    core = sys.modules.get("torchcodec._core")
    versions = core.get_ffmpeg_library_versions() if hasattr(core, "get_ffmpeg_library_versions") else {}
    libavcodec = versions.get("libavcodec")
    return {"greys": greys, "libavcodec": ".".join(map(str, libavcodec)) if libavcodec else None}


def _probe_decord(video: Path) -> dict:
    import decord

    if not video.is_file():
        return {}
    reader = decord.VideoReader(str(video), num_threads=1)
    return {"greys": [float(reader[index].asnumpy().mean()) for index in range(len(reader))]}


def _probe_torch(video: Path) -> dict:
    import torch

    gpus = []
    for index in range(torch.cuda.device_count()):
        facts = torch.cuda.get_device_properties(index)
        gpus.append({"name": facts.name, "memory": facts.total_memory})
    bf16 = torch.cuda.is_bf16_supported() if gpus else None
    return {"cuda": torch.version.cuda or torch.version.hip, "gpus": gpus, "bf16": bf16}


def _probe_torchvision(video: Path) -> dict:
    import torchvision

    return {"version": torchvision.__version__}


def _probe_videomae_hf(video: Path) -> dict:
    from videomae_hf import read_frames
    from videomae_hf.models.video_decoding import usable_backend

    try:
        backend = usable_backend()
    except ImportError:
        return {"auto": None}
    if video.is_file():
        read_frames(str(video), [0, len(GREYS) - 1])
    return {"auto": backend}


_PROBES = {
    "pyav": _probe_pyav,
    "torchcodec": _probe_torchcodec,
    "decord": _probe_decord,
    "torch": _probe_torch,
    "torchvision": _probe_torchvision,
    "videomae_hf": _probe_videomae_hf,
}


def probe(name: str, video: Path, timeout: float = TIMEOUT) -> dict:
    """Runs a probe and returns its result, or {"error": reason} if it raises, crashes or hangs."""
    folder = str(Path(__file__).resolve().parent)
    search = [path or os.getcwd() for path in sys.path if path != folder]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(search)}
    command = [sys.executable, "-P", __file__, "--probe", name, str(video)]
    try:
        done = subprocess.run(command, capture_output=True, env=environment, timeout=timeout)
    except subprocess.TimeoutExpired:
        return {"error": f"no answer within {timeout:g} s"}
    lines = [line for line in done.stdout.decode(errors="replace").splitlines() if line.startswith(_ANSWER)]
    if lines:
        return json.loads(lines[-1].removeprefix(_ANSWER))
    names = {-number.value: number.name for number in signal.Signals}
    return {"error": f"its process died ({names.get(done.returncode, f'exit status {done.returncode}')})"}


def _answer(name: str, video: str) -> None:
    """Runs in the process of a probe: prints its result as one line, among other output of libraries."""
    try:
        result = _PROBES[name](Path(video))
    except Exception as error:  # any error is a valid answer
        reasons = []
        while error is not None:  # include causes: that of torchcodec has the reason
            reasons.append(str(error).strip() or type(error).__name__)
            error = error.__cause__
        result = {"error": "\n".join(reasons)}
    print(f"\n{_ANSWER}{json.dumps(result)}", flush=True)


# ------------------------------------------------------------------------------------------------------------- facts


def version_of(module: str) -> str | None:
    """The version of an installed package, without importing it; None if it is not installed."""
    for name in DISTRIBUTIONS.get(module, (module,)):
        try:
            return importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            pass
    return "unknown version" if importlib.util.find_spec(module) else None


def examine(timeout: float = TIMEOUT) -> dict:
    """Collects all facts that `report` shows, as JSON-serialisable values."""
    versions = {name: version_of(name) for name in PACKAGES}
    with tempfile.TemporaryDirectory() as folder:
        ask = partial(probe, video=Path(folder, "grey.mp4"), timeout=timeout)
        # PyAV comes first, because it writes the test video.
        answers = {"pyav": ask("pyav") if version_of("av") else None}
        names = [name for name in ("torchcodec", "decord", "torch", "torchvision") if version_of(name)]
        names.append("videomae_hf")
        with ThreadPoolExecutor(2) as pool:
            answers.update(zip(names, pool.map(ask, names)))
    torch = answers.get("torch") or {}
    backends = {}
    for name, module in BACKENDS.items():
        backends[name] = judge_backend(name, version_of(module), answers.get(name), versions["torch"], torch)
    package = answers["videomae_hf"]
    facts = {
        "machine": {
            "python": f"{platform.python_version()}, {sys.executable}",
            "system": f"{platform.system()} {platform.machine()}",
            "cores": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(),
            "memory": _memory(),
            "shared_memory": _shared_memory(),
            "processes": int(os.environ.get("WORLD_SIZE", 1)),
            "gpus": torch.get("gpus", []),
            "bf16": torch.get("bf16"),
        },
        "packages": versions,
        "backends": backends,
        "auto": package.get("auto"),
        "encoders": (answers["pyav"] or {}).get("encoders", []),
    }
    facts["problems"] = find_problems(facts, answers)
    facts["ok"] = "error" not in package and any(entry["state"] in ("works", "loads") for entry in backends.values())
    return facts


def judge_backend(name: str, version: str | None, answer: dict | None, torch_version: str | None, torch: dict) -> dict:
    """{"state", "version", "detail"}; the state is works, loads (not tried without a test video), broken or missing."""
    if version is None:
        return {"state": "missing", "version": None, "detail": _hint_missing(name)}
    if "error" in answer:
        explain = explain_torchcodec if name == "torchcodec" else _first_line
        return {
            "state": "broken",
            "version": version,
            "detail": explain(answer["error"], version, torch_version, torch),
        }
    if "greys" not in answer:
        detail = "loads; not tried, because the test video is written by PyAV"
        return {"state": "loads", "version": version, "detail": detail}
    greys = answer["greys"]
    if len(greys) != len(GREYS) or any(abs(found - grey) > 10 for found, grey in zip(greys, GREYS)):
        detail = f"decodes wrong frames: grey levels {[round(grey) for grey in greys]} instead of {list(GREYS)}"
        return {"state": "broken", "version": version, "detail": detail}
    return {"state": "works", "version": version, "detail": _ffmpeg(name, answer.get("libavcodec"))}


def _hint_missing(name: str) -> str:
    if name == "pyav":
        return "pip install av"
    if name == "torchcodec":
        return "optional; needs FFmpeg libraries on the system and the release that fits torch"
    return "optional; no release since 2021, for Linux x86_64 and Windows only"


def _ffmpeg(name: str, libavcodec: str | None) -> str:
    origin = "of the system" if name == "torchcodec" else "its own"
    if not libavcodec:
        return f"FFmpeg: {origin}"
    major = FFMPEG_OF_LIBAVCODEC.get(int(libavcodec.split(".")[0]))
    return f"FFmpeg{f' {major}' if major else ''}, {origin} (libavcodec {libavcodec})"


def _first_line(text: str, *_) -> str:
    return text.splitlines()[0]


def explain_torchcodec(text: str, version: str, torch_version: str | None, torch: dict) -> str:
    """Why torchcodec does not load and how to fix it, from its error message about each FFmpeg that it tried."""
    if torch_version is None or "No module named 'torch'" in text:
        return "needs torch, which is not installed"
    advice = f"pip install torchcodec=={fitting_torchcodec(torch_version)}"
    missing = re.findall(r"(lib[\w+-]+(?:\.so[.\d]*|[.\d]*\.dylib)): cannot open shared object", text)
    missing += re.findall(r"Library not loaded: \S*?(lib[\w.+-]+\.dylib)", text)
    cuda = [
        library for library in missing if re.match("lib(nv|npp|cu(da|blas|fft|rand|dnn)|c10_cuda|torch_cuda)", library)
    ]
    if cuda and torch.get("cuda") is None:
        return f"is a CUDA build ({cuda[0]} is missing), but torch {torch_version} is a CPU build: {advice}"
    if cuda:
        return (
            f"is built for another CUDA version ({cuda[0]} is missing) than torch {torch_version} (CUDA "
            f"{torch['cuda']}): install the torchcodec for the same CUDA version"
        )
    symbol = re.search(r"(undefined symbol|Symbol not found)\S* *(\S+)", text)
    if symbol:
        return f"does not fit torch {torch_version} (undefined symbol {symbol.group(2)}): {advice}"
    ffmpeg = [library for library in missing if re.match("lib(av|sw)", library)]
    if ffmpeg:
        return (
            f"finds no shared libraries of FFmpeg 4 to 8 ({ffmpeg[-1]} is missing): apt install ffmpeg, brew install "
            "ffmpeg or conda install ffmpeg; a static ffmpeg program is not enough"
        )
    if "Could not load libtorchcodec" in text:
        return f"does not load: it needs shared libraries of FFmpeg 4 to 8, and the release that fits torch: {advice}"
    return _first_line(text)


def fitting_torchcodec(torch_version: str) -> str:
    return TORCHCODEC_OF_TORCH.get(".".join(torch_version.split(".")[:2]), "0.13")


def _memory() -> dict | None:
    """Total and available memory in bytes, within the limit of a container; None if the system does not report it."""
    try:
        total = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (AttributeError, ValueError, OSError):
        return None
    available = total
    try:
        meminfo = Path("/proc/meminfo").read_text()
        available = int(re.search(r"MemAvailable:\s+(\d+)", meminfo).group(1)) * 1024
        limit = int(Path("/sys/fs/cgroup/memory.max").read_text())  # ValueError: "max"
        used = int(Path("/sys/fs/cgroup/memory.current").read_text())
        total, available = min(total, limit), min(available, max(0, limit - used))
    except (OSError, ValueError, AttributeError):
        pass
    return {"total": total, "available": available}


def _shared_memory() -> int | None:
    """The size of /dev/shm in bytes; None if it does not exist."""
    try:
        return shutil.disk_usage("/dev/shm").total
    except OSError:
        return None


# ---------------------------------------------------------------------------------------------------------- problems


def find_problems(facts: dict, answers: dict) -> list[str]:
    """Problems and likely surprises, each with a remedy."""
    versions, machine, backends = facts["packages"], facts["machine"], facts["backends"]
    problems = []
    if all(entry["state"] in ("missing", "broken") for entry in backends.values()):
        problems.append("No backend decodes videos here. `pip install av` is enough.")
    for name, entry in backends.items():
        if entry["state"] == "broken":
            effect = " While it is installed, videos in `datasets` may fail too." if name == "torchcodec" else ""
            problems.append(f"{name} {entry['version']} {entry['detail']}.{effect}")
    for name in ("torch", "torchvision"):
        error = (answers.get(name) or {}).get("error")
        if error and name == "torchvision":
            problems.append(
                f"torchvision {versions[name]} does not load ({_first_line(error)}), and breaks transformers. It is "
                f"not needed here: pip uninstall torchvision; or install {_fitting_torchvision(versions)}."
            )
        elif error:
            problems.append(f"torch {versions[name]} does not load: {_first_line(error)}.")
    if "error" in answers["videomae_hf"]:
        problems.append(f"videomae_hf itself fails: {_first_line(answers['videomae_hf']['error'])}.")
    problems += unmet_requirements()
    release = _release(versions["transformers"])
    if (5, 6) <= release <= (5, 17):
        problems.append(
            f"transformers {versions['transformers']}: its own VideoMAE classes load the q and v biases of published "
            "checkpoints as zeros (5.6 to 5.17). The classes of this package load them correctly."
        )
    if answers["pyav"] and "error" not in answers["pyav"] and "libx264" not in facts["encoders"]:
        problems.append("PyAV has no libx264 encoder, which is needed to write H.264 videos: install the wheel of av.")
    if machine["shared_memory"] is not None and machine["shared_memory"] < 2**30:
        problems.append(
            f"/dev/shm holds only {_size(machine['shared_memory'])}, and data workers pass their batches through it: "
            "start the container with --shm-size=8g or --ipc=host, or train with --dataloader_num_workers 0."
        )
    cpu_torch = "torch" in answers and answers["torch"].get("cuda") is None and "error" not in answers["torch"]
    if cpu_torch and shutil.which("nvidia-smi"):
        problems.append(f"torch {versions['torch']} is a CPU build, but this machine has an NVIDIA driver.")
    return problems


def unmet_requirements() -> list[str]:
    """Unmet requirements of this package as installed; [] if it is run from a checkout without installation."""
    try:
        from packaging.requirements import Requirement

        requirements = [Requirement(line) for line in importlib.metadata.requires("videomae_hf") or []]
    except (ImportError, importlib.metadata.PackageNotFoundError):
        return []
    lines = []
    for requirement in requirements:
        if requirement.marker and not requirement.marker.evaluate({"extra": ""}):
            continue
        try:
            found = importlib.metadata.version(requirement.name)
        except importlib.metadata.PackageNotFoundError:
            lines.append(f"{requirement.name} is required but not installed: pip install '{requirement.name}'")
            continue
        if not requirement.specifier.contains(found, prereleases=True):
            lines.append(f"{requirement.name} {found} is installed, but {requirement.specifier} is required.")
    return lines


def _release(version: str | None) -> tuple[int, ...]:
    found = re.match(r"(\d+)\.(\d+)", version or "")
    return tuple(map(int, found.groups())) if found else (0, 0)


def _fitting_torchvision(versions: dict) -> str:
    major, minor = _release(versions["torch"])
    number = f"0.{minor + 15}, " if major == 2 else ""  # 2.0 came with 0.15, and so on
    return f"the one that fits torch {versions['torch']} ({number}for the same CPU or CUDA)"


# ------------------------------------------------------------------------------------------------------------ output


def report(facts: dict) -> list[str]:
    """The facts as lines for people."""
    machine = facts["machine"]
    memory = machine["memory"]
    lines = [
        "Machine",
        _row("python", machine["python"]),
        _row("system", machine["system"]),
        _row("cores", str(machine["cores"])),
        _row("memory", f"{_size(memory['total'])}, {_size(memory['available'])} free" if memory else "unknown"),
        _row("shared memory", "none" if machine["shared_memory"] is None else _size(machine["shared_memory"])),
        _row("processes", str(machine["processes"])),
    ]
    for gpu in machine["gpus"]:
        lines.append(_row("GPU", f"{gpu['name']}, {_size(gpu['memory'])}, bf16 {'yes' if machine['bf16'] else 'no'}"))
    if not machine["gpus"]:
        lines.append(_row("GPU", "none that torch can use"))
    lines += ["", "Packages"]
    lines += [_row(name, version or "not installed") for name, version in facts["packages"].items()]
    lines += ["", "Video decoding"]
    for name, entry in facts["backends"].items():
        # Broken backends are explained under Problems.
        detail = "see below" if entry["state"] == "broken" else entry["detail"]
        lines.append(_row(name, f"{entry['state']:<8} {entry['version'] or '-':<8} {detail}"))
    lines.append(_row("auto takes", facts["auto"] or "none"))
    lines.append(_row("encoders", ", ".join(facts["encoders"]) or "none"))
    lines += ["", "Problems" if facts["problems"] else "No problem found."]
    for problem in facts["problems"]:
        lines += textwrap.wrap(
            problem, 98, initial_indent="  - ", subsequent_indent="    ", break_long_words=False, break_on_hyphens=False
        )
    return lines


def _row(name: str, value: str) -> str:
    return f"  {name:<16} {value}"


def _size(count: int) -> str:
    return f"{count / 2**30:.1f} GiB" if count >= 2**30 else f"{count / 2**20:.0f} MiB"


def main(arguments: list[str]) -> None:
    """`videomae doctor`."""
    parser = argparse.ArgumentParser(
        prog="videomae doctor", description=DESCRIPTION, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--json", action="store_true", help="print the results as JSON")
    parser.add_argument("--timeout", type=float, default=TIMEOUT, help="seconds for each check; default: %(default)s")
    args = parser.parse_args(arguments)
    facts = examine(args.timeout)
    print(json.dumps(facts, indent=2) if args.json else "\n".join(report(facts)))
    sys.exit(not facts["ok"])


if __name__ == "__main__":
    if sys.argv[1:2] == ["--probe"]:
        _answer(*sys.argv[2:])
    else:
        # Remove this folder from the path: its files are not top-level modules
        sys.path[0] = str(Path(__file__).resolve().parents[2])
        main(sys.argv[1:])

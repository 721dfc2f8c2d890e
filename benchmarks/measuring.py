"""What the benchmarks share: transformers' configuration, time, peak memory, the machine, files of results."""

import ctypes
import json
import os
import platform
import time
from collections.abc import Callable
from datetime import date
from pathlib import Path

import torch
import transformers
from transformers import VideoMAEConfig

from videomae_hf import VideoMAEV2Config


def their_config(config: VideoMAEV2Config, **fields) -> VideoMAEConfig:
    """The configuration of transformers' VideoMAE that is the same as ours, except for `fields`."""
    shared = {name: getattr(config, name) for name in VideoMAEConfig().to_dict() if hasattr(config, name)}
    shared = {name: value for name, value in shared.items() if name not in ("model_type", "architectures", "dtype")}
    return VideoMAEConfig(**{**shared, **fields})


def timed(function: Callable[[], object], device: str) -> tuple[float, object]:
    """(seconds, result) of a call: CPU time of this process, or time on the GPU."""
    if device == "cuda":
        start, end = torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)
        start.record()
        result = function()
        end.record()
        torch.cuda.synchronize()
        return start.elapsed_time(end) / 1000, result
    begin = time.process_time()
    result = function()
    return time.process_time() - begin, result


def matmul_rate(device: str, dtype: torch.dtype, rows: int, width: int, repeats: int = 20) -> float:
    """Multiply-accumulates per second of the product (rows, width) x (width, 4 width), the largest of a layer.

    On the CPU per second of CPU time of this process, on a GPU per second of its time.
    """
    left, right = (torch.randn(*shape, device=device, dtype=dtype) for shape in ((rows, width), (width, 4 * width)))
    seconds = [timed(lambda: left @ right, device)[0] for _ in range(repeats)]
    return rows * width * 4 * width / sorted(seconds)[repeats // 2]


def peak_memory(function: Callable[[], object], device: str) -> int:
    """Bytes that a call needs at its peak, beyond what is held before it.

    On a GPU, tensors. On the CPU (Linux with glibc only), resident memory of a forked process, where no earlier call
    has left freed memory behind.
    """
    if device == "cuda":
        torch.cuda.synchronize()
        before = torch.cuda.memory_allocated()
        torch.cuda.reset_peak_memory_stats()
        function()
        return torch.cuda.max_memory_allocated() - before
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            ctypes.CDLL(None).malloc_trim(0)  # gives memory that was freed before back to the system
            Path("/proc/self/clear_refs").write_text("5")  # resets the peak
            before = _resident("VmRSS")
            function()
            os.write(writing, str(_resident("VmHWM") - before).encode())
        finally:
            os._exit(0)
    os.close(writing)
    os.waitpid(child, 0)
    with os.fdopen(reading) as answer:
        return int(answer.read())


def _resident(name: str) -> int:
    lines = Path("/proc/self/status").read_text().splitlines()
    return 1024 * next(int(line.split()[1]) for line in lines if line.startswith(f"{name}:"))


def machine(device: str) -> dict[str, str | int]:
    """Date, device and versions, for a file of results."""
    name = torch.cuda.get_device_name() if device == "cuda" else _processor()
    versions = {
        "python": platform.python_version(),
        "torch": torch.__version__,
        "transformers": transformers.__version__,
    }
    return {"date": str(date.today()), "device": name, "threads": torch.get_num_threads(), **versions}


def _processor() -> str:
    info = Path("/proc/cpuinfo")
    lines = info.read_text().splitlines() if info.is_file() else []
    return next((line.split(": ")[1] for line in lines if line.startswith("model name")), platform.machine())


def save_results(path: str, device: str, settings: dict, rows: list[dict]) -> None:
    """Writes a JSON file of results: the machine, the settings of the benchmark, and a row for each model."""
    Path(path).parent.mkdir(parents=True, exist_ok=True)
    content = {**machine(device), "settings": settings, "rows": rows}
    Path(path).write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")

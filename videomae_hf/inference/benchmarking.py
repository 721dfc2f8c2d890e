# Copyright 2026 The videomae_hf authors. Licensed under the Apache License, Version 2.0.
"""Measures clips per second and memory of a model on this machine, in every runtime that is installed.

Each runtime has a process of its own, so that its memory is its own, and all of them take turns, so that a machine that
gets slower or faster meanwhile does so for all.
"""

import contextlib
import importlib
import importlib.util
import multiprocessing
import signal
import statistics
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from itertools import islice
from multiprocessing.connection import Connection
from pathlib import Path

import torch
from tqdm import tqdm

from ..checkpoints.opening import open_checkpoint
from ..models.image_processing_videomae_v2 import VideoMAEV2ImageProcessor
from ..models.modeling_videomae_v2 import VideoMAEV2PreTrainedModel
from .exporting import example_inputs, export_model, quiet
from .frame_stream import FrameReading, stream_frames


RUNTIMES = ("eager", "compiled", "bf16", "compiled-bf16", "onnxruntime", "openvino")
_EXPORTS = {"onnxruntime": "onnx", "openvino": "openvino"}
_WARM_UPS = 2
_PATIENCE = 10.0  # seconds for a process to end
_DECODED_FRAMES = 300  # of the video, for its decoding rate
# What a runtime raises where it does not work; torch.compile's own errors are RuntimeErrors.
_FAULTS = (ImportError, RuntimeError, ValueError, OSError, MemoryError, NotImplementedError)

Run = Callable[[int], None]  # a batch of this size through the model


@dataclass
class Measurement:
    """A runtime at one batch size.

    Args:
        runtime: one of `RUNTIMES`.
        batch_size: number of clips in a batch.
        seconds: of each repeat, for one batch.
        peak_memory: bytes: on a GPU what torch allocated at most, on Linux the resident memory of the process, which
            includes Python, its libraries and the weights; None where it cannot be measured.
        error: why there is no measurement.
    """

    runtime: str
    batch_size: int
    seconds: list[float] = field(default_factory=list)
    peak_memory: int | None = None
    error: str | None = None

    @property
    def clips_per_second(self) -> tuple[float, float, float]:
        """(median, lowest, highest) over the repeats."""
        rates = [self.batch_size / seconds for seconds in self.seconds]
        return statistics.median(rates), min(rates), max(rates)


@dataclass(frozen=True)
class DecodeRate:
    """How fast one thread reads a video: whole clips as the model takes them, and frames from front to back."""

    clips_per_second: float
    frames_per_second: float
    width: int
    height: int


def benchmark(
    model: str | Path, runtimes: Sequence[str], batch_sizes: Sequence[int], device: torch.device, repeats: int = 7
) -> list[Measurement]:
    """Measures a model in several runtimes, which take turns.

    Args:
        model: folder or Hub id of a model of any kind.
        runtimes: some of `RUNTIMES`; exported ones run on the CPU.
        batch_sizes: numbers of clips in a batch.
        device: device of torch.
        repeats: timed batches of each runtime and size, after two for warming up.

    Returns:
        A measurement for each runtime and batch size, in their order.
    """
    rows = [Measurement(runtime, size) for runtime in runtimes for size in batch_sizes]
    with contextlib.ExitStack() as stack:
        exports = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        workers = {}
        for runtime in tqdm(runtimes, desc="Starting", unit="runtime", disable=None):
            worker = _Worker(runtime)
            stack.callback(worker.stop)
            worker.start(str(model), exports, device)
            workers[runtime] = worker
        for number in tqdm(range(_WARM_UPS + repeats), desc="Measuring", unit="round", disable=None):
            for row in rows:
                if row.error is None:
                    seconds, memory, row.error = workers[row.runtime].run(row.batch_size)
                    if number >= _WARM_UPS and row.error is None:
                        row.seconds.append(seconds)
                        row.peak_memory = memory if memory is None else max(memory, row.peak_memory or 0)
    return rows


def decode_rate(video: str, processor: VideoMAEV2ImageProcessor, repeats: int = 3) -> DecodeRate:
    """Measures how fast one thread reads a video.

    Raises:
        VideoDecodeError, OSError: the video cannot be read.
    """
    seconds = []
    for _ in range(repeats + 1):  # the first one reads the file into the cache of the system
        start = time.perf_counter()
        processor(video, num_clips=1, num_crops=1, return_tensors="pt")
        seconds.append(time.perf_counter() - start)
    start, count = time.perf_counter(), 0
    with contextlib.closing(stream_frames(video, FrameReading.of(processor))) as frames:
        for frame in islice(frames, _DECODED_FRAMES):
            count, (height, width) = count + 1, frame.pixels.shape[1:]
    rate = count / (time.perf_counter() - start)
    return DecodeRate(1 / statistics.median(seconds[1:]), rate, width, height)


class _Worker:
    """The process of one runtime, seen from the one that measures."""

    def __init__(self, runtime: str) -> None:
        self.runtime, self.process, self.error = runtime, None, None

    def start(self, model: str, exports: Path, device: torch.device) -> None:
        """Starts the process and waits until the model is loaded; `error` says why, if it is not."""
        folder = exports / self.runtime
        try:
            if self.runtime in _EXPORTS:
                if importlib.util.find_spec(self.runtime) is None:
                    raise ImportError(f"{self.runtime} is not installed")
                export_model(model, folder, _EXPORTS[self.runtime])
        except _FAULTS as error:
            self.error = _first_line(error)
            return
        context = multiprocessing.get_context("spawn")
        self.connection, other = context.Pipe()
        arguments = (other, self.runtime, model, str(folder), str(device), torch.get_num_threads())
        self.process = context.Process(target=_serve, args=arguments, daemon=True)
        self.process.start()
        other.close()
        self.error = self._answer()[2]

    def run(self, batch_size: int) -> tuple[float, int | None, str | None]:
        """(seconds, peak memory, None), or (0.0, None, error)."""
        if self.error is not None:
            return 0.0, None, self.error
        return self._answer(batch_size)

    def _answer(self, batch_size: int | None = None) -> tuple[float, int | None, str | None]:
        try:
            if batch_size is not None:
                self.connection.send(batch_size)
            return self.connection.recv()
        except (EOFError, BrokenPipeError, ConnectionResetError):
            self.process.join()
            reason = "was killed, probably for lack of memory" if self.process.exitcode == -9 else "ended"
            self.error = f"its process {reason} (exit status {self.process.exitcode})"
            return 0.0, None, self.error

    def stop(self) -> None:
        if self.process is not None:
            self.connection.close()  # upon which the process ends
            self.process.join(_PATIENCE)
            self.process.terminate()
            self.process.join()


def _serve(connection: Connection, runtime: str, model: str, folder: str, device: str, num_threads: int) -> None:
    """The process of a runtime: loads the model, and then runs a batch of every size that it is sent."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C ends the process that measures, and that ends this one
    torch.set_num_threads(num_threads)
    place = torch.device("cpu" if runtime in _EXPORTS else device)
    try:
        run = runner_of(runtime, model, Path(folder), place)
    except _FAULTS as error:
        connection.send((0.0, None, _first_line(error)))
        return
    connection.send((0.0, None, None))
    while True:
        try:
            batch_size = connection.recv()
        except EOFError:  # the process that measures has ended
            return
        try:
            connection.send((*measured(partial(run, batch_size), place), None))
        except _FAULTS as error:
            connection.send((0.0, None, _first_line(error)))


def measured(run: Callable[[], None], device: torch.device) -> tuple[float, int | None]:
    """(seconds, peak memory in bytes or None) of a call."""
    _reset_peak_memory(device)
    _wait_for(device)
    start = time.perf_counter()
    run()
    _wait_for(device)
    return time.perf_counter() - start, _peak_memory(device)


def runner_of(runtime: str, model: str, folder: Path, device: torch.device) -> Run:
    """A function that puts a batch of normally distributed pixels through the model.

    Args:
        runtime: one of `RUNTIMES`.
        model: folder or Hub id of the model.
        folder: the exported model, for exported runtimes.
        device: device of torch; exported models run on the CPU.
    """
    opened = open_checkpoint(model)[0].eval().requires_grad_(False)
    batches = _Batches(opened, device)
    if runtime in _EXPORTS:
        exported = importlib.import_module("transformers.exporters").ExportedModel
        with quiet():
            loaded = exported.from_pretrained(folder, device="cpu", **_threads_of(runtime))
        del opened
        return lambda size: loaded(**batches.of(size))
    opened = opened.to(device)
    # One graph for each size: a dynamic batch is slower.
    forward = torch.compile(opened, dynamic=False) if "compiled" in runtime else opened

    @torch.inference_mode()
    def run(size: int) -> None:
        with torch.autocast(device.type, torch.bfloat16, enabled="bf16" in runtime):
            forward(**batches.of(size))

    return run


class _Batches:
    """The inputs of a model for batches of any size, made once for each size."""

    def __init__(self, model: VideoMAEV2PreTrainedModel, device: torch.device) -> None:
        config = model.config
        self.shape = (config.num_frames, config.num_channels, *config.image_hw)
        one = torch.randn(1, *self.shape, generator=torch.Generator().manual_seed(0))
        self.example, self.device, self.made = example_inputs(model, one), device, {}

    def of(self, size: int) -> dict[str, torch.Tensor]:
        if size not in self.made:
            self.made[size] = {
                name: values.repeat(size, *[1] * (values.ndim - 1)).to(self.device)
                for name, values in self.example.items()
            }
        return self.made[size]


def _threads_of(runtime: str) -> dict:
    """The options with which an exported runtime uses as many threads as torch."""
    if runtime == "openvino":
        return {"config": {"INFERENCE_NUM_THREADS": torch.get_num_threads()}}
    options = importlib.import_module("onnxruntime").SessionOptions()
    options.intra_op_num_threads = torch.get_num_threads()
    return {"session_options": options}


def _wait_for(device: torch.device) -> None:
    if device.type != "cpu":
        torch.accelerator.synchronize(device)


def _reset_peak_memory(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
    elif device.type == "cpu":
        with contextlib.suppress(OSError):  # only Linux has it
            Path("/proc/self/clear_refs").write_text("5")


def _peak_memory(device: torch.device) -> int | None:
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device)
    try:
        lines = Path("/proc/self/status").read_text().splitlines() if device.type == "cpu" else []
    except OSError:
        lines = []
    return next((int(line.split()[1]) * 1024 for line in lines if line.startswith("VmHWM:")), None)


def _first_line(error: BaseException) -> str:
    lines = str(error).strip().splitlines()
    return f"{type(error).__name__}: {lines[0]}" if lines else type(error).__name__

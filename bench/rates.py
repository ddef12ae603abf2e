"""The best that a machine can do, measured beside the ops: bytes copied, exponentials, multiply-adds, launches.

A CPU copies between tensors that no cache holds, with ``copy_``. Its exponentials are those of the kernels themselves,
summed in registers: ``torch.exp2`` is slower than they are, so its rate would be no bound. The other two are of GPUs
alone.
"""

from __future__ import annotations

import ctypes
import os
import shlex
import statistics
import subprocess
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch

HERE = Path(__file__).parent
OPERATIONS_IN_A_ROUND = 128  # of a thread, in exponentials.cu
EXPONENTIALS_IN_A_ROUND = 2048  # in exponentials.cpp


@dataclass(frozen=True)
class Work:
    """What an op cannot do without, however it is written.

    ``multiply_adds`` counts float32 additions, multiplications and fused pairs of them, each as one instruction.
    """

    bytes: float = 0
    exponentials: float = 0
    multiply_adds: float = 0


@dataclass(frozen=True)
class Rates:
    """Per second; zero for one that could not be measured."""

    bytes: float
    exponentials: float
    multiply_adds: float
    launch_seconds: float

    def floor(self, work: Work) -> tuple[float, str]:
        """Seconds that the work takes at least, and what bounds it."""
        bounds = {"one launch": self.launch_seconds}
        for name in ("bytes", "exponentials", "multiply_adds"):
            rate = getattr(self, name)
            if rate:
                bounds[name.replace("_", "-")] = getattr(work, name) / rate
        bound = max(bounds, key=lambda name: bounds[name])
        return bounds[bound], bound

    def __str__(self) -> str:
        parts = [f"{self.bytes / 1e9:.4g} GB/s copied (read and written)"]
        for name in ("exponentials", "multiply_adds"):
            if rate := getattr(self, name):
                parts.append(f"{rate / 1e9:.4g} G {name.replace('_', '-')}/s")
        if self.launch_seconds:
            parts.append(f"{self.launch_seconds * 1e6:.1f} us a launch in a graph")
        return ", ".join(parts)


def seconds_of(run: Callable[[], object], calls: int = 10, samples: int = 9) -> float:
    """Median time of a call on the current stream."""
    start, end = torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)
    times = []
    for _ in range(samples + 1):
        start.record()
        for _ in range(calls):
            run()
        end.record()
        end.synchronize()
        times.append(start.elapsed_time(end) / calls / 1e3)
    return statistics.median(times[1:])  # the first one warms up


def copy_rate() -> float:
    source = torch.empty(1 << 28, device="cuda").normal_()
    target = torch.empty_like(source)
    return 2 * source.nbytes / seconds_of(lambda: target.copy_(source))


def launch_seconds() -> float:
    x = torch.zeros(1, device="cuda").add_(1)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        x.add_(1)
    return seconds_of(graph.replay, calls=100)


def compiled(command: Sequence[str], source: str) -> ctypes.CDLL | None:
    """The source as a library; None, and a line that says why, where it cannot be compiled."""
    with tempfile.TemporaryDirectory() as folder:
        library = Path(folder) / "rates.so"
        try:
            whole = [*command, "-O3", "-shared", "-o", str(library), str(HERE / source)]
            subprocess.run(whole, check=True, capture_output=True, text=True)
        except (OSError, subprocess.CalledProcessError) as error:
            print(f"no rates of arithmetic, so no floors of it: {getattr(error, 'stderr', '') or error}")
            return None
        return ctypes.CDLL(str(library))


def arithmetic_rate(library: ctypes.CDLL, multiply_adds: bool) -> float:
    threads, rounds = 1024, 256
    blocks = 8 * torch.cuda.get_device_properties(0).multi_processor_count
    out = torch.empty(blocks * threads, device="cuda")

    def run() -> None:
        stream = ctypes.c_void_p(torch.cuda.current_stream().cuda_stream)
        pointer = ctypes.c_void_p(out.data_ptr())
        error = library.run_chains(int(multiply_adds), pointer, blocks, threads, rounds, stream)
        if error:
            raise RuntimeError(f"bench: the launch of exponentials.cu fails with CUDA error {error}")

    return blocks * threads * rounds * OPERATIONS_IN_A_ROUND / seconds_of(run, calls=3)


def measure_rates() -> Rates:
    exponentials = multiply_adds = 0.0
    library = compiled(["nvcc", "-arch=native", "-Xcompiler", "-fPIC"], "exponentials.cu")
    if library is not None:
        exponentials, multiply_adds = (arithmetic_rate(library, which) for which in (False, True))
    return Rates(copy_rate(), exponentials, multiply_adds, launch_seconds())


def best_seconds(run: Callable[[], object], calls: int, samples: int) -> float:
    """Shortest time of a call on the CPU: a rate that nothing exceeds, whatever else the machine is doing."""
    times = []
    for _ in range(samples):
        start = time.perf_counter()
        for _ in range(calls):
            run()
        times.append((time.perf_counter() - start) / calls)
    return min(times)


def cpu_copy_rate(count: int = 1 << 26) -> float:
    source = torch.zeros(count).add_(1)
    target = torch.zeros_like(source).add_(1)
    return 2 * source.nbytes / best_seconds(lambda: target.copy_(source), calls=1, samples=9)


def cpu_exponential_rate(samples: int = 40, rounds: int = 256) -> float:
    """The rate of all threads together, if each were as fast as one alone: a bound that no parallel loop can pass."""
    compiler = shlex.split(os.environ.get("CXX") or "c++")
    flags = ["-std=c++20", "-fPIC", "-fopenmp-simd", "-fno-math-errno", "-fno-trapping-math", "-ffp-contract=fast"]
    library = compiled([*compiler, *flags, f"-I{HERE.parent / 'csrc'}"], "exponentials.cpp")
    if library is None:
        return 0.0
    x = torch.empty(EXPONENTIALS_IN_A_ROUND).uniform_(-20, 0)
    seconds = best_seconds(lambda: library.run_exponentials(ctypes.c_void_p(x.data_ptr()), rounds), 1, samples)
    return torch.get_num_threads() * rounds * EXPONENTIALS_IN_A_ROUND / seconds


def measure_cpu_rates() -> Rates:
    return Rates(cpu_copy_rate(), cpu_exponential_rate(), multiply_adds=0.0, launch_seconds=0.0)

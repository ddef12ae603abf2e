"""Timing that can be trusted on a shared machine: values and gradients are compared first, then providers alternate."""

from __future__ import annotations

import csv
import os
import platform
import statistics
import subprocess
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

import disentangle_ext

RESULTS = Path(__file__).parent / "results" / "ops.csv"
COLUMNS = (
    *("op", "size", "threads", "provider", "milliseconds", "q20", "q80", "speedup"),
    *("machine", "simd", "torch", "disentangle_ext", "commit"),
)
IDENTITY = ("op", "size", "threads", "provider", "machine")
PLAIN, OURS = "plain PyTorch", "disentangle_ext"


@dataclass(frozen=True)
class Case:
    """One op at one size: the same inputs for every provider."""

    op: str
    size: str
    inputs: tuple[Tensor, ...]
    providers: dict[str, Callable[..., Tensor]]
    """Each maps the inputs to a scalar; backward is timed with it where the inputs require gradients."""
    tolerance: float | None = 1e-4
    """Largest relative difference between providers; None for random ones."""

    def run(self, provider: str) -> tuple[Tensor, ...]:
        """Value and gradients, as a training step would ask for them."""
        value = self.providers[provider](*self.inputs)
        if not self.inputs[0].requires_grad:
            return (value,)
        return (value.detach(), *torch.autograd.grad(value, self.inputs))


def check(case: Case) -> None:
    """Raise if the providers do not compute the same thing."""
    if case.tolerance is None:
        return
    first, second = (case.run(provider) for provider in (PLAIN, OURS))
    for ours, plain in zip(second, first, strict=True):
        error = float((ours - plain).abs().max() / plain.abs().max().clamp_min(1e-12))
        if not error <= case.tolerance:
            raise AssertionError(f"{case.op} {case.size}: providers differ by {error:.1e}")


def measure(case: Case, seconds: float) -> list[dict[str, str]]:
    """A row for each provider."""
    check(case)
    times: dict[str, list[float]] = {name: [] for name in case.providers}
    for name in times:  # warm-up
        case.run(name)
    end = time.perf_counter() + seconds
    while time.perf_counter() < end or len(times[OURS]) < 5:
        for name, taken in times.items():
            start = time.perf_counter()
            case.run(name)
            taken.append(time.perf_counter() - start)
    medians = {name: statistics.median(taken) for name, taken in times.items()}
    return [_row(case, name, taken, medians) for name, taken in times.items()]


def _row(case: Case, provider: str, taken: list[float], medians: dict[str, float]) -> dict[str, str]:
    low, high = (statistics.quantiles(taken, n=5)[i] for i in (0, 3))
    info = disentangle_ext.build_info()
    values = (
        *(case.op, case.size, torch.get_num_threads(), provider),
        *(f"{1e3 * t:.4g}" for t in (medians[provider], low, high)),
        f"{medians[PLAIN] / medians[provider]:.3g}",
        *(machine(), info["simd"], info["torch_running"], info["version"], commit()),
    )
    return dict(zip(COLUMNS, map(str, values), strict=True))


def machine() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
        name = next(line.split(":", 1)[1].strip() for line in lines if line.startswith("model name"))
    except (OSError, StopIteration):
        name = platform.processor() or platform.machine()
    return f"{name}, {torch.get_num_threads()} of {torch.multiprocessing.cpu_count()} cores"


def commit() -> str:
    """The commit, "-dirty" with changes; DISENTANGLE_EXT_COMMIT names it where the history did not travel along."""
    command = ["git", "describe", "--always", "--dirty", "--exclude=*"]
    try:
        asked = subprocess.run(command, cwd=Path(__file__).parent, capture_output=True, text=True, check=True)
    except (OSError, subprocess.CalledProcessError):
        return os.environ.get("DISENTANGLE_EXT_COMMIT") or "unknown"
    return asked.stdout.strip()


def append(
    rows: list[dict[str, str]],
    path: Path = RESULTS,
    columns: Sequence[str] = COLUMNS,
    identity: Sequence[str] = IDENTITY,
) -> None:
    """Add rows, in place of what was measured before on the same op, size and machine: by the identity's columns."""

    def key(row: dict[str, str]) -> tuple[str, ...]:
        return tuple(row[name] for name in identity)

    new = {key(row) for row in rows}
    kept = [row for row in read(path) if key(row) not in new]
    path.parent.mkdir(exist_ok=True)
    partial = path.with_suffix(".partial")
    with open(partial, "w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, columns)
        writer.writeheader()
        writer.writerows([*kept, *rows])
    partial.replace(path)


def read(path: Path = RESULTS) -> list[dict[str, str]]:
    if not path.is_file():
        return []
    with open(path, newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))

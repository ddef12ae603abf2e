"""Timing on a CPU, page faults and peak memory; and what a call of an op costs beside its kernels."""

from __future__ import annotations

import resource
import statistics
import time

import torch

import disentangle_ext
from bench import harness
from bench.harness import BOTH, OURS, Case, Step
from bench.memory import peak_mib
from bench.rates import Rates
from bench.rows import Row, commit, machine

RESULTS = harness.RESULTS / "ops.csv"
COLUMNS = (
    *("op", "size", "pass", "threads", "provider", "milliseconds", "q20", "q80", "speedup"),
    *("floor", "over_floor", "bound", "peak_mib", "page_faults"),
    *("machine", "simd", "torch", "disentangle_ext", "commit"),
)
IDENTITY = ("op", "size", "pass", "threads", "provider", "machine")
SAMPLE_MS = 1.0  # beside which reading the clock takes nothing
CALL, RAW, MUL = "call overhead", "raw ops", "torch.mul"


class Sampler:
    """Times calls and counts the pages that the system has to hand over, and to clear, in them.

    ``faults`` are those of a call in the last sample, by the identity of the list of steps.
    """

    def __init__(self) -> None:
        self.faults: dict[int, float] = {}

    def __call__(self, own: list[Step], calls: int) -> float:
        """Milliseconds of a call."""
        before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
        start = time.perf_counter()
        for call in range(calls):
            own[call % len(own)]()
        taken = time.perf_counter() - start
        self.faults[id(own)] = (resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before) / calls
        return 1e3 * taken / calls


def measure(case: Case, rates: Rates, seconds: float, memory: bool) -> list[Row]:
    """A row for each provider."""
    with harness.fresh(case):
        ready = harness.steps(case, *harness.all_inputs(case), runs=1)
        sample = Sampler()
        times = harness.time_all(ready, seconds, sample, SAMPLE_MS)
        faults = {name: sample.faults[id(own)] for name, own in ready.items()}
        ready.clear()
    where, rows = origin(), harness.timing_rows(case, times, rates)
    for row in rows:
        peak = peak_mib(case, row["provider"]) if memory else None
        row["peak_mib"] = "" if peak is None else f"{peak:.1f}"
        row["page_faults"] = f"{faults[row['provider']]:.3g}"
        row.update(where)
    return rows


def multiplication() -> Step:
    """Forward and backward of the least op there is."""
    a, b = (torch.randn(64, 10).requires_grad_() for _ in range(2))
    upstream = torch.randn(64, 10)

    def step() -> tuple[torch.Tensor, ...]:
        product = torch.mul(a, b)
        return (product, *torch.autograd.grad(product, (a, b), upstream))

    return step


def measure_call(case: Case, seconds: float) -> list[Row]:
    """What a call takes beside its kernels, sample by sample, and a ``torch.mul`` in the same rounds.

    The kernels are called in inference mode and on tensors made there, where nothing goes by way of autograd.
    """
    assert case.passes == BOTH
    assert case.raw is not None
    sets, upstream = harness.all_inputs(case)
    ours = [harness.prepare(case, case.ours, sets[0], upstream)]
    with torch.inference_mode():
        raw = [case.raw(tuple(t.detach().clone() for t in sets[0]), tuple(t.clone() for t in upstream))]
        results = harness.results_of(case, raw[0], sets[0], upstream, 1)
    harness.compare(case, RAW, results, harness.results_of(case, ours[0], sets[0], upstream, 1))

    sample = Sampler()

    def sample_in_mode(own: list[Step], calls: int) -> float:
        with torch.inference_mode(own is raw):
            return sample(own, calls)

    ready = {OURS: ours, RAW: raw, MUL: [multiplication()]}
    return call_rows(case, harness.time_all(ready, seconds, sample_in_mode, SAMPLE_MS))


def call_rows(case: Case, times: dict[str, list[float]]) -> list[Row]:
    beside = [whole - kernels for whole, kernels in zip(times[OURS], times[RAW])]
    mul = statistics.median(times[MUL])
    rows = []
    for name, taken in ((MUL, times[MUL]), (OURS, beside)):
        row = {"op": case.op, "size": case.size, "pass": CALL, "provider": name, **harness.summary(taken)}
        over = statistics.median(taken) / mul
        rows.append({**row, "floor": f"{mul:.4g}", "over_floor": f"{over:.3g}", "bound": f"one {MUL}", **origin()})
    return rows


def origin() -> Row:
    """Where a row was measured, and on what."""
    info = disentangle_ext.build_info()
    return {
        "threads": str(torch.get_num_threads()),
        "machine": machine(),
        "simd": info["simd"],
        "torch": info["torch_running"],
        "disentangle_ext": info["version"],
        "commit": commit(),
    }

"""Timing on a GPU by events: results are compared first, then providers alternate.

Where the inputs are large enough for the L2 cache to matter, several sets of them take turns, so that each call finds
its own in memory; `input_sets` of a row says how many there were.
"""

from __future__ import annotations

import math
import subprocess

import torch

import disentangle_ext
from bench import harness
from bench.harness import BACKWARD, Case, Step, Tensors, all_inputs, compare, prepare, results_of
from bench.rates import Rates
from bench.rows import Row, commit

RESULTS = harness.RESULTS / "cuda.csv"
COLUMNS = (
    *("op", "size", "pass", "provider", "milliseconds", "q20", "q80", "speedup"),
    *("floor", "over_floor", "bound", "input_sets"),
    *("gpu", "driver", "torch", "cuda", "disentangle_ext", "commit"),
)
IDENTITY = ("op", "size", "pass", "provider", "gpu")
GRAPHED = "disentangle_ext in a CUDA graph"
RUNS = 3  # a CUDA graph of torch.compile is recorded at the second call and replayed at the third
SAMPLE_MS = 2.0  # against the resolution of events


def new_leaves(inputs: Tensors) -> Tensors:
    """Leaves that no stream but the current one has seen: their gradients are added up where they were first used."""
    return tuple(t.detach().clone().requires_grad_(t.requires_grad) for t in inputs)


def in_graph(case: Case, inputs: Tensors, upstream: Tensors) -> Step:
    """The step captured once and replayed. Everything before is done on the stream of the capture, as backward runs on
    the stream of its forward pass."""
    stream = torch.cuda.Stream()
    stream.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(stream):
        step = prepare(case, case.ours, new_leaves(inputs), upstream)
        for _ in range(2):
            step()
    torch.cuda.synchronize()
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph, stream=stream):
        results = step()

    def replay() -> Tensors:
        graph.replay()
        return results

    return replay


def input_sets(inputs: Tensors, cache: int) -> int:
    """One where everything stays in the cache anyway, else as many as exceed it twice."""
    size = sum(t.nbytes for t in inputs)
    return 1 if size < cache / 8 else min(8, 1 + math.ceil(2 * cache / size))


def count_sets(inputs: Tensors) -> int:
    return input_sets(inputs, torch.cuda.get_device_properties(0).L2_cache_size) if inputs[0].is_cuda else 1


def steps(case: Case, sets: list[Tensors], upstream: Tensors) -> dict[str, list[Step]]:
    """The steps of every provider, and ours in a graph."""
    ready = harness.steps(case, sets, upstream, RUNS)
    if sets[0][0].is_cuda and case.passes != BACKWARD:  # which alone depends on work outside of the capture
        captured = [in_graph(case, leaves, upstream) for leaves in sets]
        expected = results_of(case, ready[harness.PLAIN][0], sets[0], upstream, 1)
        compare(case, GRAPHED, results_of(case, captured[0], sets[0], upstream, RUNS), expected)
        ready[GRAPHED] = captured
    return ready


def sample(own: list[Step], calls: int) -> float:
    """Milliseconds of a call."""
    start, end = torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)
    start.record()
    for call in range(calls):
        own[call % len(own)]()
    end.record()
    end.synchronize()
    return start.elapsed_time(end) / calls


def measure(case: Case, rates: Rates, seconds: float) -> list[Row]:
    """A row for each provider."""
    with harness.fresh(case):
        sets, upstream = all_inputs(case, count_sets)
        ready = steps(case, sets, upstream)
        times = harness.time_all(ready, seconds, sample, SAMPLE_MS)
        ready.clear()
    return rows(case, times, rates, len(sets), origin())


def rows(case: Case, times: dict[str, list[float]], rates: Rates, sets: int, where: Row) -> list[Row]:
    return [{**row, "input_sets": str(sets), **where} for row in harness.timing_rows(case, times, rates)]


def origin() -> Row:
    """Where a row was measured, and on what."""
    info = disentangle_ext.build_info()
    return {
        "gpu": torch.cuda.get_device_name(),
        "driver": driver(),
        "torch": info["torch_running"],
        "cuda": info["cuda"],
        "disentangle_ext": info["version"],
        "commit": commit(),
    }


def driver() -> str:
    command = ["nvidia-smi", "--query-gpu=driver_version", "--format=csv,noheader"]
    try:
        asked = subprocess.run(command, capture_output=True, text=True, check=True)
    except (OSError, subprocess.CalledProcessError):
        return "unknown"
    return asked.stdout.split("\n")[0].strip() or "unknown"

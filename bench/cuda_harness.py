"""Timing on a GPU by events: results are compared first, then providers alternate.

Where the inputs are large enough for the L2 cache to matter, several sets of them take turns, so that each call finds
its own in memory; `input_sets` of a row says how many there were.
"""

from __future__ import annotations

import gc
import math
import statistics
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import torch
import torch._dynamo
import torch._functorch.config
from torch import Tensor

import disentangle_ext
from bench.harness import OURS, PLAIN, commit
from bench.rates import Rates, Work

RESULTS = Path(__file__).parent / "results" / "cuda.csv"
COLUMNS = (
    *("op", "size", "pass", "provider", "milliseconds", "q20", "q80", "speedup"),
    *("floor", "over_floor", "bound", "input_sets"),
    *("gpu", "driver", "torch", "cuda", "disentangle_ext", "commit"),
)
IDENTITY = ("op", "size", "pass", "provider", "gpu")
COMPILED, REDUCED, GRAPHED = "torch.compile", "torch.compile reduce-overhead", "disentangle_ext in a CUDA graph"
FORWARD, BACKWARD, BOTH = "forward", "backward", "forward and backward"

Tensors = tuple[Tensor, ...]
Function = Callable[..., Tensors]
Step = Callable[[], Tensors]


@dataclass(frozen=True)
class CudaCase:
    """One op at one size."""

    op: str
    size: str
    passes: str
    make: Callable[[], Tensors]
    """A new set of inputs."""
    plain: Function
    ours: Function
    work: Work
    tolerance: float = 1e-3
    """Largest difference between providers, relative to the largest value of a tensor."""
    comparable: Callable[[Tensors], Tensors] = lambda results: results
    """From outputs and gradients to what must agree between providers: not everything does where there is noise."""
    modes: tuple[str, ...] = ("default", "reduce-overhead")
    """Of torch.compile."""
    others: dict[str, Function] = field(default_factory=dict)
    """More ways to write it in plain PyTorch."""


def prepare(case: CudaCase, function: Function, inputs: Tensors, upstream: Tensors) -> Step:
    """What is timed: outputs, gradients or both, as a tuple. Without a forward pass, that pass is done here."""
    if case.passes == FORWARD:
        return lambda: function(*inputs)
    if case.passes == BACKWARD:
        outputs = function(*inputs)
        return lambda: torch.autograd.grad(outputs, inputs, upstream, retain_graph=True)

    def step() -> Tensors:
        outputs = function(*inputs)
        return (*outputs, *torch.autograd.grad(outputs, inputs, upstream))

    return step


def new_leaves(inputs: Tensors) -> Tensors:
    """Leaves that no stream but the current one has seen: their gradients are added up where they were first used."""
    return tuple(t.detach().clone().requires_grad_(t.requires_grad) for t in inputs)


def in_graph(case: CudaCase, inputs: Tensors, upstream: Tensors) -> Step:
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


def new_iteration(step: Step) -> Step:
    """For compiled code that keeps its results in a graph: the last ones are no longer needed."""

    def run() -> Tensors:
        torch.compiler.cudagraph_mark_step_begin()
        return step()

    return run


def compiled(function: Function, mode: str) -> Function:
    return torch.compile(function, dynamic=False, mode=None if mode == "default" else mode)


def input_sets(inputs: Tensors, cache: int) -> int:
    """One where everything stays in the cache anyway, else as many as exceed it twice."""
    size = sum(t.nbytes for t in inputs)
    return 1 if size < cache / 8 else min(8, 1 + math.ceil(2 * cache / size))


def all_inputs(case: CudaCase) -> tuple[list[Tensors], Tensors]:
    """The sets of inputs, and the gradients that arrive at the outputs."""
    first = case.make()
    sets = [first]
    if first[0].is_cuda:
        count = input_sets(first, torch.cuda.get_device_properties(0).L2_cache_size)
        sets += [case.make() for _ in range(count - 1)]
    with torch.no_grad():
        upstream = tuple(torch.randn_like(output) for output in case.plain(*first))
    if case.passes != FORWARD:
        sets = [tuple(t.requires_grad_() for t in inputs) for inputs in sets]
    return sets, upstream


def functions(case: CudaCase) -> dict[str, Function]:
    """Every provider but the one in a graph, which is ours again."""
    modes = {COMPILED: "default", REDUCED: "reduce-overhead"}
    chosen = {name: compiled(case.plain, mode) for name, mode in modes.items() if mode in case.modes}
    return {PLAIN: case.plain, **case.others, **chosen, OURS: case.ours}


def steps(case: CudaCase, sets: list[Tensors], upstream: Tensors) -> dict[str, list[Step]]:
    """For every provider a step on every set of inputs, after they were found to agree; compiled here, not timed.

    A provider of torch.compile that fails is reported and left out: it is no result of ours.
    """
    ready: dict[str, list[Step]] = {}
    expected: Tensors = ()
    for name, function in functions(case).items():
        try:
            made = [prepare(case, function, inputs, upstream) for inputs in sets]
            made = [new_iteration(step) for step in made] if name == REDUCED else made
            results = results_of(case, made[0])
        except Exception as error:
            if name not in (COMPILED, REDUCED):
                raise
            print(f"  {name} of {case.op} {case.size} fails: {first_line(error)}")
            continue
        expected = expected or results
        compare(case, name, results, expected)
        ready[name] = made
    if sets[0][0].is_cuda and case.passes != BACKWARD:  # which alone depends on work outside of the capture
        captured = [in_graph(case, leaves, upstream) for leaves in sets]
        compare(case, GRAPHED, results_of(case, captured[0]), expected)
        ready[GRAPHED] = captured
    return ready


def first_line(error: Exception) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[0]


def results_of(case: CudaCase, step: Step) -> Tensors:
    for _ in range(3):  # a CUDA graph of torch.compile is recorded at the second call and replayed at the third
        results = step()
    return tuple(t.detach().clone() for t in case.comparable(results))


def compare(case: CudaCase, name: str, results: Tensors, expected: Tensors) -> None:
    for got, wanted in zip(results, expected, strict=True):
        error = float((got - wanted).abs().max() / wanted.abs().max().clamp_min(1e-12))
        if not error <= case.tolerance:
            raise AssertionError(f"{case.op} {case.size}, {case.passes}: {name} differs by {error:.1e} from {PLAIN}")


def sample(own: list[Step], calls: int) -> float:
    """Milliseconds of a call."""
    start, end = torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)
    start.record()
    for call in range(calls):
        own[call % len(own)]()
    end.record()
    end.synchronize()
    return start.elapsed_time(end) / calls


def enough_calls(own: list[Step]) -> int:
    """So many that a sample takes 2 ms, against the resolution of events, and that every set of inputs has its turn."""
    estimate = sample(own, 2 * len(own))
    return max(len(own), min(300, math.ceil(2 / estimate)))


def time_all(ready: dict[str, list[Step]], seconds: float) -> dict[str, list[float]]:
    calls = {name: enough_calls(own) for name, own in ready.items()}
    times: dict[str, list[float]] = {name: [] for name in ready}
    end = time.perf_counter() + seconds
    while time.perf_counter() < end or len(times[OURS]) < 5:
        for name, own in ready.items():
            times[name].append(sample(own, calls[name]))
    return times


@contextmanager
def fresh(case: CudaCase) -> Iterator[None]:
    """Nothing compiled for one case counts against the next one's limit of variants, or keeps its memory."""
    # Compiled backward may otherwise reuse what its forward pass saved, and then it runs only once.
    once = case.passes != BACKWARD
    try:
        with torch._functorch.config.patch(donated_buffer=once):
            yield
    finally:
        torch._dynamo.reset()
        gc.collect()
        if torch.cuda.is_available():
            torch.cuda.empty_cache()


def measure(case: CudaCase, rates: Rates, seconds: float) -> list[dict[str, str]]:
    """A row for each provider."""
    with fresh(case):
        sets, upstream = all_inputs(case)
        ready = steps(case, sets, upstream)
        times = time_all(ready, seconds)
        ready.clear()
    return rows(case, times, rates, len(sets), origin())


def rows(
    case: CudaCase, times: dict[str, list[float]], rates: Rates, sets: int, where: dict[str, str]
) -> list[dict[str, str]]:
    floor, bound = rates.floor(case.work)
    plain = statistics.median(times[PLAIN])
    made = []
    for name, taken in times.items():
        median, quantiles = statistics.median(taken), statistics.quantiles(taken, n=5)
        numbers = (median, quantiles[0], quantiles[3])
        made.append(
            {
                **{"op": case.op, "size": case.size, "pass": case.passes, "provider": name},
                **dict(zip(("milliseconds", "q20", "q80"), (f"{number:.4g}" for number in numbers))),
                **{"speedup": f"{plain / median:.3g}", "floor": f"{1e3 * floor:.4g}"},
                **{"over_floor": f"{median / (1e3 * floor):.3g}", "bound": bound, "input_sets": str(sets)},
                **where,
            }
        )
    return made


def origin() -> dict[str, str]:
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

"""What the benchmarks on CPUs and GPUs share: cases, the comparison before anything is timed, and rows of times."""

from __future__ import annotations

import gc
import importlib
import math
import os
import statistics
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import torch
import torch._dynamo
import torch._functorch.config
from torch import Tensor

from bench.rates import Rates, Work
from bench.rows import Row

RESULTS = Path(__file__).parent / "results"
PLAIN, BEST, OURS = "plain PyTorch", "best plain PyTorch", "disentangle_ext"
COMPILED, REDUCED = "torch.compile", "torch.compile reduce-overhead"
KEOPS, GEOMLOSS = "KeOps", "GeomLoss"
MODES = {COMPILED: "default", REDUCED: "reduce-overhead"}
REQUIRES = {KEOPS: "pykeops", GEOMLOSS: "geomloss"}
FORWARD, BACKWARD, BOTH = "forward", "backward", "forward and backward"
TOLERANCE = {"cpu": 1e-4, "cuda": 1e-3}

Tensors = tuple[Tensor, ...]
Function = Callable[..., Tensors]
Step = Callable[[], Tensors]


@dataclass(frozen=True)
class Case:
    """One op at one size: what is compared, timed and weighed."""

    op: str
    size: str
    passes: str
    make: Callable[[], Tensors]
    """A new set of inputs."""
    plain: Function
    ours: Function
    work: Work
    tolerance: float
    """Largest difference between providers, relative to the largest value of a tensor."""
    comparable: Callable[[Tensors, Tensors, Tensors], Tensors] = lambda results, inputs, upstream: results
    """Takes outputs and gradients, inputs and upstream gradients to what must agree between providers: where there is
    noise, not everything does."""
    modes: tuple[str, ...] = ("default", "reduce-overhead")
    """Modes of torch.compile to measure."""
    others: dict[str, Function] = field(default_factory=dict)
    """More ways to compute it, by provider."""
    to_compile: Callable[[Callable[[Function], Function]], Function] | None = None
    """Takes torch.compile to the provider of that name, where another form than ``plain`` compiles to faster code."""
    raw: Callable[[Tensors, Tensors], Step] | None = None
    """Takes inputs and upstream gradients to the raw ops alone, forward and backward, with all else made beforehand."""

    def __str__(self) -> str:
        return f"{self.op} {self.size} {self.passes}"


def prepare(case: Case, function: Function, inputs: Tensors, upstream: Tensors) -> Step:
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


def all_inputs(case: Case, count: Callable[[Tensors], int] = lambda inputs: 1) -> tuple[list[Tensors], Tensors]:
    """Make as many sets of inputs as the count says, and the gradients that arrive at the outputs."""
    first = case.make()
    sets = [first, *(case.make() for _ in range(count(first) - 1))]
    with torch.no_grad():
        upstream = tuple(torch.randn_like(output) for output in case.plain(*first))
    if case.passes != FORWARD:
        sets = [tuple(t.requires_grad_() for t in inputs) for inputs in sets]
    return sets, upstream


def compiled(function: Function, mode: str) -> Function:
    return torch.compile(function, dynamic=False, mode=None if mode == "default" else mode)


def providers(case: Case) -> list[str]:
    """Every one of the case, but for those that are not installed."""
    others = [name for name in case.others if installed(name)]
    return [PLAIN, *others, *(name for name, mode in MODES.items() if mode in case.modes), OURS]


def function_of(case: Case, provider: str) -> Function:
    if provider in MODES:
        compiler = partial(compiled, mode=MODES[provider])
        return case.to_compile(compiler) if case.to_compile else compiler(case.plain)
    return {PLAIN: case.plain, OURS: case.ours, **case.others}[provider]


def installed(provider: str) -> bool:
    if provider not in REQUIRES:
        return True
    os.environ.setdefault("PYKEOPS_VERBOSE", "0")  # it reports every formula, and every process without CUDA
    try:
        importlib.import_module(REQUIRES[provider])
    except ImportError:
        return False
    return True


def missing_providers() -> list[str]:
    """A line for each provider that is not installed and so has no rows."""
    missing = [name for name in REQUIRES if not installed(name)]
    return [f'no rows of {name}: pip install {REQUIRES[name]}, or "disentangle_ext[bench]"' for name in missing]


def steps(case: Case, sets: list[Tensors], upstream: Tensors, runs: int) -> dict[str, list[Step]]:
    """Compile a step of every provider on every set of inputs, after they were found to agree in the last of so many
    runs; nothing is timed.

    A provider of other people's that fails is reported and left out: it is no result of ours.
    """
    ready: dict[str, list[Step]] = {}
    expected: Tensors = ()
    for name in providers(case):
        try:
            function = function_of(case, name)
            made = [prepare(case, function, inputs, upstream) for inputs in sets]
            made = [new_iteration(step) for step in made] if name == REDUCED else made
            results = results_of(case, made[0], sets[0], upstream, runs)
        except Exception as error:
            if name not in (*MODES, *REQUIRES):
                raise
            print(f"  {name} of {case.op} {case.size} fails: {first_line(error)}")
            continue
        expected = expected or results
        compare(case, name, results, expected)
        ready[name] = made
    return ready


def new_iteration(step: Step) -> Step:
    """Begin an iteration before a step: compiled code that keeps its results in a graph may drop the last ones."""

    def run() -> Tensors:
        torch.compiler.cudagraph_mark_step_begin()
        return step()

    return run


def first_line(error: Exception) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[0]


def results_of(case: Case, step: Step, inputs: Tensors, upstream: Tensors, runs: int) -> Tensors:
    for _ in range(runs):
        results = step()
    with torch.no_grad():
        return tuple(t.detach().clone() for t in case.comparable(results, inputs, upstream))


def compare(case: Case, name: str, results: Tensors, expected: Tensors) -> None:
    for got, wanted in zip(results, expected, strict=True):
        if got.shape != wanted.shape:
            raise AssertionError(f"{case.op} {case.size}: {name} has {tuple(got.shape)}, {PLAIN} {tuple(wanted.shape)}")
        error = float((got - wanted).abs().max() / wanted.abs().max().clamp_min(1e-12))
        if not error <= case.tolerance:
            raise AssertionError(f"{case.op} {case.size}, {case.passes}: {name} differs by {error:.1e} from {PLAIN}")


Sample = Callable[[list[Step], int], float]
"""Takes the steps of a provider, which take turns, and a number of calls to the milliseconds of one call."""


def enough_calls(own: list[Step], sample: Sample, least: float) -> int:
    """So many that a sample takes so many milliseconds, and that every set of inputs has its turn."""
    estimate = sample(own, len(own))
    if estimate < 10 * least:  # else the first one says enough
        estimate = sample(own, 2 * len(own))
    return max(len(own), min(300, math.ceil(least / estimate)))


def time_all(ready: dict[str, list[Step]], seconds: float, sample: Sample, least: float) -> dict[str, list[float]]:
    """Samples of every provider, which alternate, for so many seconds and at least five rounds."""
    calls = {name: enough_calls(own, sample, least) for name, own in ready.items()}
    times: dict[str, list[float]] = {name: [] for name in ready}
    end = time.perf_counter() + seconds
    while time.perf_counter() < end or len(times[OURS]) < 5:
        for name, own in ready.items():
            times[name].append(sample(own, calls[name]))
    return times


@contextmanager
def fresh(case: Case) -> Iterator[None]:
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


def summary(taken: Sequence[float]) -> Row:
    """The median of milliseconds and what 20 and 80 % of them lie below."""
    quantiles = statistics.quantiles(taken, n=5)
    numbers = {"milliseconds": statistics.median(taken), "q20": quantiles[0], "q80": quantiles[3]}
    return {name: f"{number:.4g}" for name, number in numbers.items()}


def timing_rows(case: Case, times: dict[str, list[float]], rates: Rates) -> list[Row]:
    """What a row says about time, for each provider; whoever calls adds what else is known and where it was."""
    floor, bound = rates.floor(case.work)
    plain = statistics.median(times[PLAIN])
    rows = []
    for name, taken in times.items():
        median = statistics.median(taken)
        numbers = {"speedup": plain / median, "over_floor": median / (1e3 * floor)}
        rows.append(
            {
                **{"op": case.op, "size": case.size, "pass": case.passes, "provider": name},
                **summary(taken),
                **{column: f"{number:.3g}" for column, number in numbers.items()},
                **{"floor": f"{1e3 * floor:.4g}", "bound": bound},
            }
        )
    return rows

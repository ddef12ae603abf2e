"""``--fast``: how a step is computed, chosen by measuring a few steps of each way to compute it.

What is measured are trainers of its own, which are thrown away: the run starts from the state that it would have
started from without. The choice becomes settings of the run, so config.yaml records it, and a run that goes on does
not measure again.
"""

from __future__ import annotations

import dataclasses
import itertools
import os
import shutil
import sys
import time
from collections.abc import Callable, Collection, Sequence
from typing import NamedTuple, get_args

from disentangle_ext.training.config import Compilation, MemoryFormat, TrainConfig
from disentangle_ext.training.loop import Trainer

CHOICES: dict[str, tuple[str, ...]] = {
    "precision": ("fp32", "bf16"),  # not fp16, which may leave out steps
    "memory_format": get_args(MemoryFormat),
    "compilation": get_args(Compilation),
}
"""The settings that can be chosen, with their values: the first of each is what a run has without ``--fast``."""

MARGIN = 0.03
"""Part of a step that a way must save to be preferred to one before it: less than that is noise."""

WORTH_COMPILING = 100.0
"""Seconds of training from which compilation is tried. It takes about 20 (the study's networks, one core), and a fifth
of a step is about the most that it saves."""

_WARM_UP = 3
_ROUNDS = 9
_SECONDS = 8.0


class Measured(NamedTuple):
    """A way to compute the steps of a run."""

    config: TrainConfig
    trainer: Trainer
    seconds: float
    """Of the fastest step: what else the machine does makes steps slower, never faster."""

    def __str__(self) -> str:
        return f"{describe(self.config)} {self.config.batch_size / self.seconds:,.0f}"


def describe(config: TrainConfig) -> str:
    """The three settings in one phrase."""
    return " ".join(str(getattr(config, name)) for name in CHOICES)


def choose_fastest(
    config: TrainConfig, free: Collection[str], build: Callable[[TrainConfig], Trainer]
) -> tuple[TrainConfig, str]:
    """The fastest way to compute the steps of a run.

    Every combination of precision and memory format is measured, in turns; compilation only on the fastest of them,
    because it takes long.

    Args:
        config: of the run; what is not in ``free`` stays as it is.
        free: names in :data:`CHOICES`.
        build: makes a trainer from a configuration.

    Returns:
        The configuration with the choice in it, and a line that says what was measured and chosen.
    """
    values = [CHOICES[name] if name in free else (getattr(config, name),) for name in CHOICES]
    eager = itertools.product(*values[:-1], CHOICES["compilation"][:1])
    ways = [dataclasses.replace(config, **dict(zip(CHOICES, way))) for way in eager]
    measured = measure([(way, build(way)) for way in ways])
    best, note = fastest(measured), ""
    if "compilation" in free:
        again, reason = _measure_compiled(best, build)
        measured = [*(each for each in measured if each is not best), *again]
        best = again[0] if reason else again[1]
        note = f" (not compiled: {reason})" if reason else ""
    chosen = best.config if "compilation" in free else dataclasses.replace(best.config, compilation=config.compilation)
    return chosen, f"fast: {', '.join(map(str, measured))} images/s; chosen: {describe(chosen)}{note}"


def fastest(measured: Sequence[Measured]) -> Measured:
    """The fastest, where the first that come keep their place unless a later one saves :data:`MARGIN`."""
    best = measured[0]
    for each in measured[1:]:
        if each.seconds < (1 - MARGIN) * best.seconds:
            best = each
    return best


def measure(ways: Sequence[tuple[TrainConfig, Trainer]]) -> list[Measured]:
    """Time steps of each way in turns, so that what else the machine does slows all of them alike."""
    for _, trainer in ways:
        for _ in range(_WARM_UP):
            _timed_step(trainer)
    taken: list[list[float]] = [[] for _ in ways]
    end = time.perf_counter() + _SECONDS
    for count in range(_ROUNDS):
        if count >= 3 and time.perf_counter() > end:
            break
        for (_, trainer), times in zip(ways, taken):
            times.append(_timed_step(trainer))
    return [Measured(*way, min(times)) for way, times in zip(ways, taken)]


def _timed_step(trainer: Trainer) -> float:
    start = time.perf_counter()
    float(trainer.update().kl.detach()[0])  # an accelerator is waited for: this is read after the update
    return time.perf_counter() - start


def _measure_compiled(eager: Measured, build: Callable[[TrainConfig], Trainer]) -> tuple[list[Measured], str]:
    """``eager``, if need be its compiled form beside it, and why the latter is not to be taken, or ""."""
    config = dataclasses.replace(eager.config, compilation="inductor")
    if config.max_steps * eager.seconds < WORTH_COMPILING:
        return [eager], f"the run takes about {config.max_steps * eager.seconds:.0f} s, too short to win it back"
    if reason := missing_compiler():
        return [eager], reason
    start = time.perf_counter()
    try:
        compiled = build(config)
        _timed_step(compiled)
    except Exception as error:  # of any kind: torch.compile depends on a compiler, headers, a cache folder, ..
        return [eager], (str(error).strip() or type(error).__name__).splitlines()[0]
    cost = time.perf_counter() - start
    both = measure([(eager.config, eager.trainer), (config, compiled)])
    saved = (both[0].seconds - both[1].seconds) * config.max_steps
    if fastest(both) is both[0]:
        return both, "it is not faster"
    return both, "" if saved > cost else f"it saves {saved:.0f} s in {config.max_steps:,} steps and takes {cost:.0f} s"


def missing_compiler() -> str:
    """Which compiler torch.compile would not find, or "" where it finds one."""
    name = os.environ.get("CXX") or ("clang++" if sys.platform == "darwin" else "g++")
    return "" if shutil.which(name) else f"there is no C++ compiler {name}; the variable CXX can name another"

"""Peak memory of a provider, measured in a process of its own.

The process runs the step once, so that everything is imported and compiled, gives back to the system what it has freed,
sets the kernel's record of its largest resident set (VmHWM) back to the present one, and runs the step again. The peak
is how far the record has risen: temporaries, outputs and gradients, but neither inputs nor code. Linux counts it to
about half a MiB; elsewhere it is not measured.
"""

from __future__ import annotations

import ctypes
import gc
import multiprocessing
from multiprocessing.connection import Connection
from pathlib import Path

from bench import harness, registry
from bench.harness import Step

PROCESS = Path("/proc/self")


def peak_mib(case: harness.Case, provider: str, limit: float = 120.0) -> float | None:
    """MiB, of a case of the registry; None where they cannot be measured."""
    if not (PROCESS / "clear_refs").exists():
        return None
    # Forked from a process that has imported everything and run nothing.
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["bench.memory"])
    receiver, sender = context.Pipe(duplex=False)
    process = context.Process(target=_measure, args=(sender, case.op, case.size, case.passes, provider), daemon=True)
    process.start()
    sender.close()
    try:
        return receiver.recv() if receiver.poll(limit) else None
    except EOFError:  # it died, for lack of memory as a rule
        return None
    finally:
        process.kill()
        process.join()


def _measure(sender: Connection, *wanted: str) -> None:
    *identity, provider = wanted
    case = next(c for c in registry.cases("cpu") if [c.op, c.size, c.passes] == identity)
    sets, upstream = harness.all_inputs(case)
    function = harness.function_of(case, provider)
    sender.send(growth(harness.prepare(case, function, sets[0], upstream)) / 2**20)


def growth(step: Step) -> int:
    """Bytes by which the resident set of this process rises at most, at the second run."""
    step()
    gc.collect()
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)  # of glibc
    if trim is not None:
        trim(0)
    (PROCESS / "clear_refs").write_text("5")
    before = status("VmRSS")
    results = step()
    peak = status("VmHWM")
    del results
    return max(0, peak - before)


def status(name: str) -> int:
    """Bytes, from a line as in "VmRSS:   123 kB"."""
    lines = (PROCESS / "status").read_text(encoding="ascii").splitlines()
    return 1024 * next(int(line.split()[1]) for line in lines if line.startswith(f"{name}:"))

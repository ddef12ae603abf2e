"""Measure the ops, note the results in bench/results, and write the README's tables and the plot from them."""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from functools import partial

# Threads that spin while they wait take the core from the provider that is measured next.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

import torch

from bench import cpu_harness, cuda_harness, harness, pages, plot, registry, tables
from bench.rates import measure_cpu_rates, measure_rates
from bench.rows import Row, append
from disentangle_ext import _extension

QUICK_SECONDS = 0.5


def show(row: Row) -> None:
    times = f"{row['milliseconds']:>9} ms [{row['q20']}, {row['q80']}]"
    numbers = [f"{row['speedup']}x"] if row.get("speedup") else []
    numbers.append(f"{row['over_floor']} x the floor ({row['bound']})")
    numbers += [f"{row['peak_mib']} MiB"] if row.get("peak_mib") else []
    print(f"{row['op']:<20} {row['size']:>12} {row['pass']:<20} {row['provider']:<30} {times}  {', '.join(numbers)}")


def measure_all(jobs: Iterator[tuple[str, Callable[[], list[Row]]]], note: Callable[[list[Row]], None]) -> list[str]:
    """Rows are noted job by job, so that what was measured stays if the rest fails; returns what failed."""
    failed = []
    for name, job in jobs:
        try:
            rows = job()
        except Exception as error:  # the others may still be measured
            failed.append(f"{name}: {harness.first_line(error)}")
            continue
        note(rows)
        for row in rows:
            show(row)
        sys.stdout.flush()
    return failed


def measure_cpu(arguments: argparse.Namespace) -> list[str]:
    rates = measure_cpu_rates()
    single = torch.get_num_threads() == 1  # for what does not depend on their number: memory, and what a call costs
    memory = single and not arguments.quick
    print(f"{torch.get_num_threads()} threads: {rates}", *harness.missing_providers(), sep="\n", flush=True)
    seconds = arguments.seconds or (QUICK_SECONDS if arguments.quick else 2.0)

    def jobs() -> Iterator[tuple[str, Callable[[], list[Row]]]]:
        for case in registry.cases("cpu", arguments.only, arguments.quick):
            yield str(case), partial(cpu_harness.measure, case, rates, seconds, memory)
        for case in registry.small_cases("cpu", arguments.only) if single else ():
            yield f"{case.op} {cpu_harness.CALL}", partial(cpu_harness.measure_call, case, seconds)

    def note(rows: list[Row]) -> None:
        append(rows, cpu_harness.RESULTS, cpu_harness.COLUMNS, cpu_harness.IDENTITY)

    return measure_all(jobs(), note)


def measure_cuda(arguments: argparse.Namespace) -> list[str]:
    if not torch.cuda.is_available() or not _extension.available("cuda"):
        reason = _extension.describe()["cuda_reason"] or "torch sees no CUDA device"
        raise SystemExit(f"bench: nothing measured: {reason}")
    end = time.perf_counter() + arguments.in_all
    rates = measure_rates()
    print(rates, flush=True)
    late = []

    def jobs() -> Iterator[tuple[str, Callable[[], list[Row]]]]:
        for case in registry.cases("cuda", arguments.only, arguments.quick):
            if time.perf_counter() > end:
                late.append(f"{case}: the time was up")
                continue
            yield str(case), partial(cuda_harness.measure, case, rates, arguments.seconds or 1.0)

    def note(rows: list[Row]) -> None:
        append(rows, cuda_harness.RESULTS, cuda_harness.COLUMNS, cuda_harness.IDENTITY)

    return [*measure_all(jobs(), note), *late]


def in_processes(threads: list[int]) -> list[str]:
    """Run this command once for each number of threads, which KeOps takes from the environment it was started in."""
    failed = []
    for count in threads:
        command = [sys.executable, "-m", "bench", *sys.argv[1:], "--threads", str(count)]
        if subprocess.run(command, env={**os.environ, "OMP_NUM_THREADS": str(count)}, check=False).returncode:
            failed.append(f"with {count} threads: see above")
    return failed


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m bench", description=__doc__)
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu")
    parser.add_argument("--seconds", type=float, help="time spent on one op at one size: 2 on a CPU, 1 on a GPU")
    parser.add_argument("--threads", type=int, help="of a CPU: by default one, then all")
    parser.add_argument("--only", default="", help="the ops whose name contains this")
    parser.add_argument("--quick", action="store_true", help="half a second each, two sizes, one thread, no memory")
    parser.add_argument("--in-all", type=float, default=170.0, help="seconds after which no GPU case is begun")
    parser.add_argument("--table-only", action="store_true", help="write the tables, measure nothing")
    return parser.parse_args()


def main() -> None:
    arguments = parse()
    torch.manual_seed(0)
    failed = []
    if arguments.table_only:
        pass
    elif arguments.device == "cuda":
        failed = measure_cuda(arguments)
    elif arguments.threads and os.environ.get("OMP_NUM_THREADS") == str(arguments.threads):
        failed = measure_cpu(arguments)
    else:
        everyone = [1] if arguments.quick else sorted({1, torch.get_num_threads()})
        failed = in_processes([arguments.threads] if arguments.threads else everyone)
    pages.write("README.md", tables.tables())
    plot.write()
    if failed:
        raise SystemExit("\n".join(["bench: not measured:", *failed]))


if __name__ == "__main__":
    main()

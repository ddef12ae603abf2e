"""Measure the ops, note the results in bench/results, and write the tables of the README from them."""

from __future__ import annotations

import argparse
import os
import time
from pathlib import Path

# Threads that spin while they wait take the core from the provider that is measured next.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

import torch

from bench import (
    bench_aggregate_posterior,
    bench_elbo_decomposition,
    bench_mmd,
    bench_permute_dims,
    bench_rsample_kl,
    data_sets,
)
from bench import cuda_harness as cuda
from bench.harness import OURS, PLAIN, append, measure, read
from bench.rates import measure_rates
from disentangle_ext import _extension

BENCHES = (bench_elbo_decomposition, bench_rsample_kl, bench_mmd, bench_permute_dims)
# What matters most first: where the time runs out, the rest is left.
CUDA_BENCHES = (bench_aggregate_posterior, bench_elbo_decomposition, bench_mmd, bench_rsample_kl, bench_permute_dims)
README = Path(__file__).parents[1] / "README.md"

Row = dict[str, str]


def table(rows: list[Row]) -> str:
    """The rows of CPUs as Markdown: one line for each op, size and number of threads."""
    lines = [
        "| op | size | threads | plain PyTorch, ms | disentangle_ext, ms | speed-up |",
        "|---|---|---|---|---|---|",
    ]
    times = {(r["op"], r["size"], r["threads"], r["machine"], r["provider"]): r for r in rows}
    for row in rows:
        if row["provider"] == OURS:
            plain = times[(row["op"], row["size"], row["threads"], row["machine"], PLAIN)]
            cells = (f"`{row['op']}`", row["size"], row["threads"], plain["milliseconds"], row["milliseconds"])
            lines.append(f"| {' | '.join(cells)} | {row['speedup']}x |")
    origins = sorted({f"{r['machine'].rsplit(',', 1)[0]}, {r['simd']}, torch {r['torch']}" for r in rows})
    return "\n".join([*lines, "", "Medians; measured on " + "; ".join(origins) + "."]) + "\n"


def cuda_table(rows: list[Row]) -> str:
    """The rows of GPUs as Markdown: one line for each op, size and pass, one column for each way to run it."""
    if not rows:
        return "Not measured yet.\n"
    columns = (PLAIN, cuda.COMPILED, OURS, cuda.GRAPHED)
    lines = [
        f"| op | size | pass | {', ms | '.join(columns)}, ms | times the floor |",
        "|---|---|---|" + "---|" * (len(columns) + 1),
    ]
    groups: dict[tuple[str, ...], dict[str, Row]] = {}
    for row in rows:
        groups.setdefault((row["op"], row["size"], row["pass"], row["gpu"]), {})[row["provider"]] = row
    for (op, size, passes, _), own in groups.items():
        times = [own[name]["milliseconds"] if name in own else "" for name in columns]
        best = own.get(cuda.GRAPHED) or own[OURS]
        cells = (f"`{op}`", size, passes, *times, f"{best['over_floor']} ({best['bound']})")
        lines.append(f"| {' | '.join(cells)} |")
    origins = sorted({f"{r['gpu']}, torch {r['torch']}, CUDA {r['cuda']}" for r in rows})
    return "\n".join([*lines, "", "Medians; measured on " + "; ".join(origins) + "."]) + "\n"


def write_readme() -> None:
    text = README.read_text(encoding="utf-8")
    tables = {
        "bench": table(read()),
        "bench-cuda": cuda_table(read(cuda.RESULTS)),
        "bench-data": data_sets.table(read(data_sets.RESULTS)),
    }
    for name, content in tables.items():
        begin, end = f"<!-- {name}: begin -->\n", f"<!-- {name}: end -->"
        head, _, rest = text.partition(begin)
        _, _, tail = rest.partition(end)
        text = f"{head}{begin}{content}{end}{tail}"
    README.write_text(text, encoding="utf-8")


def show(row: Row, passes: str, more: str) -> None:
    what = f"{row['op']:<20} {row['size']:>12}{passes}  {row['provider']:<30}"
    print(f"{what} {row['milliseconds']:>9} ms {row['speedup']:>6}x{more}", flush=True)


def measure_cpu(seconds: float, threads: int) -> None:
    torch.set_num_threads(threads)
    for bench in BENCHES:
        for case in bench.cases():
            rows = measure(case, seconds)
            append(rows)
            for row in rows:
                show(row, "", "")


def measure_data(seconds: float, threads: int) -> None:
    torch.set_num_threads(threads)
    rows = data_sets.measure({name: make() for name, make in data_sets.SETS.items()}, batch=64, seconds=seconds)
    append(rows, data_sets.RESULTS, data_sets.COLUMNS, data_sets.IDENTITY)
    for row in rows:
        print(f"{row['set']:<26} {int(row['images_per_second']):>9,} images/s", flush=True)
    data_sets.picture()


def measure_cuda(seconds: float, in_all: float, only: str) -> None:
    """Rows are noted case by case, so that what was measured stays if the rest fails."""
    if not torch.cuda.is_available() or not _extension.available("cuda"):
        reason = _extension.describe()["cuda_reason"] or "torch sees no CUDA device"
        raise SystemExit(f"bench: nothing measured: {reason}")
    end = time.perf_counter() + in_all
    rates = measure_rates()
    print(rates, flush=True)
    missing = []
    for case in (case for bench in CUDA_BENCHES for case in bench.cuda_cases("cuda") if only in case.op):
        name = f"{case.op} {case.size} {case.passes}"
        if time.perf_counter() > end:
            missing.append(f"{name}: the time was up")
            continue
        try:
            rows = cuda.measure(case, rates, seconds)
        except Exception as error:  # the others may still be measured
            missing.append(f"{name}: {cuda.first_line(error)}")
            continue
        append(rows, cuda.RESULTS, cuda.COLUMNS, cuda.IDENTITY)
        for row in rows:
            show(row, f"  {row['pass']:<20}", f"  {row['over_floor']:>6} x the floor ({row['bound']})")
    if missing:
        raise SystemExit("\n".join(["bench: not measured:", *missing]))


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m bench", description=__doc__)
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu")
    parser.add_argument("--seconds", type=float, help="time spent on one op at one size: 4 on a CPU, 1 on a GPU")
    parser.add_argument("--threads", type=int, default=1, help="of a CPU")
    parser.add_argument("--in-all", type=float, default=170.0, help="seconds after which no GPU case is begun")
    parser.add_argument("--only", default="", help="the ops on a GPU whose name contains this")
    parser.add_argument("--data-sets", action="store_true", help="the data sets instead, and a picture of them")
    parser.add_argument("--table-only", action="store_true", help="write the README's tables, measure nothing")
    arguments = parser.parse_args()
    torch.manual_seed(0)
    if arguments.table_only:
        pass
    elif arguments.device == "cuda":
        measure_cuda(arguments.seconds or 1.0, arguments.in_all, arguments.only)
    elif arguments.data_sets:
        measure_data(arguments.seconds or 4.0, arguments.threads)
    else:
        measure_cpu(arguments.seconds or 4.0, arguments.threads)
    write_readme()


if __name__ == "__main__":
    main()

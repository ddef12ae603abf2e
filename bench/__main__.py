"""Measure the ops, append to bench/results/ops.csv, and write the table of the README from it."""

from __future__ import annotations

import argparse
import os
from pathlib import Path

# Threads that spin while they wait take the core from the provider that is measured next.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

import torch

from bench import bench_elbo_decomposition, bench_mmd, bench_permute_dims, bench_rsample_kl
from bench.harness import OURS, PLAIN, append, measure, read

BENCHES = (bench_elbo_decomposition, bench_rsample_kl, bench_mmd, bench_permute_dims)
README = Path(__file__).parents[1] / "README.md"
BEGIN, END = "<!-- bench: begin -->\n", "<!-- bench: end -->"


def table() -> str:
    """What the CSV says, as Markdown: one line for each op, size and number of threads."""
    rows = read()
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


def write_readme() -> None:
    text = README.read_text(encoding="utf-8")
    head, _, rest = text.partition(BEGIN)
    _, _, tail = rest.partition(END)
    README.write_text(f"{head}{BEGIN}{table()}{END}{tail}", encoding="utf-8")


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m bench", description=__doc__)
    parser.add_argument("--seconds", type=float, default=4.0, help="time spent on one op at one size")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--table-only", action="store_true", help="write the README's table, measure nothing")
    arguments = parser.parse_args()
    if not arguments.table_only:
        torch.set_num_threads(arguments.threads)
        torch.manual_seed(0)
        for bench in BENCHES:
            for case in bench.cases():
                rows = measure(case, arguments.seconds)
                append(rows)
                for row in rows:
                    what = f"{row['op']:<20} {row['size']:>12}  {row['provider']:<16}"
                    print(f"{what} {row['milliseconds']:>9} ms {row['speedup']:>6}x")
    write_readme()


if __name__ == "__main__":
    main()

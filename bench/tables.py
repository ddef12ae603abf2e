"""The tables of the ops in the README, made from the rows of bench/results."""

from __future__ import annotations

from bench import cpu_harness, cuda_harness
from bench.harness import BEST, COMPILED, GEOMLOSS, KEOPS, OURS, PLAIN
from bench.pages import ROOT
from bench.rows import ABSENT, Row, markdown, read

PLOT = ROOT / "docs" / "images" / "speed.png"
LIBRARIES = "KeOps / GeomLoss"


def grouped(rows: list[Row], *columns: str) -> dict[tuple[str, ...], dict[str, Row]]:
    """Rows by provider, for each combination of the columns' values."""
    groups: dict[tuple[str, ...], dict[str, Row]] = {}
    for row in rows:
        groups.setdefault(tuple(row[column] for column in columns), {})[row["provider"]] = row
    return groups


def digits(milliseconds: float) -> str:
    """Three of them, and all before the point."""
    return f"{milliseconds:.3g}" if milliseconds < 1000 else f"{milliseconds:.0f}"


def in_order(rows: list[Row]) -> list[Row]:
    """Rows by op, threads and size, whenever they were measured."""
    return sorted(rows, key=lambda row: (row["op"], int(row["threads"]), int(row["size"].split()[0])))


def cpu_table(rows: list[Row]) -> str:
    """A table of times for each machine, one line for each op, size and number of threads, and one of calls."""
    if not rows:
        return ABSENT
    parts = []
    for machine in dict.fromkeys(row["machine"] for row in rows):
        own = in_order([row for row in rows if row["machine"] == machine])
        steps = [row for row in own if row["pass"] != cpu_harness.CALL]
        calls = [row for row in own if row["pass"] == cpu_harness.CALL]
        parts += [times_table(steps)] if steps else []
        parts += [calls_table(calls)] if calls else []
        levels, versions, commits = (sorted({row[c] for row in own}) for c in ("simd", "torch", "commit"))
        parts.append([f"Medians; {machine}, {', '.join(levels)}, torch {', '.join(versions)}, {', '.join(commits)}."])
    return "\n\n".join("\n".join(part) for part in parts) + "\n"


def times_table(rows: list[Row]) -> list[str]:
    """Milliseconds, the shortest of a line in bold, whoever's it is."""
    header = ["op", "size", "threads", *(PLAIN, BEST, COMPILED, LIBRARIES, OURS), "over plain", "over floor"]
    lines = []
    for (op, size, passes, threads), own in grouped(rows, "op", "size", "pass", "threads").items():
        times = {name: float(row["milliseconds"]) for name, row in own.items()}
        best = min(times.values())

        def shown(*names: str, times: dict[str, float] = times, best: float = best) -> str:
            cells = [f"**{digits(times[n])}**" if times[n] == best else digits(times[n]) for n in names if n in times]
            return " / ".join(cells)

        what = f"`{op}`" if passes != "forward" else f"`{op}`, forward"
        cells = [shown(PLAIN), shown(BEST), shown(COMPILED), shown(KEOPS, GEOMLOSS), shown(OURS)]
        ours = own.get(OURS, {})
        last = [f"{ours['speedup']}x" if ours else "", ours.get("over_floor", "")]
        lines.append([what, size, threads, *cells, *last])
    return markdown(header, lines)


def calls_table(rows: list[Row]) -> list[str]:
    header = ("a call beside its kernels", "threads", "us", "us of one `torch.mul`", "times that")
    lines = []
    for (op, threads), own in grouped(rows, "op", "threads").items():
        ours, mul = own[OURS], own[cpu_harness.MUL]
        times = [f"{1e3 * float(row['milliseconds']):.1f}" for row in (ours, mul)]
        lines.append([f"`{op}`", threads, *times, ours["over_floor"]])
    return markdown(header, lines)


def cuda_table(rows: list[Row]) -> str:
    """The rows of GPUs as Markdown: one line for each op, size and pass, one column for each way to run it."""
    if not rows:
        return ABSENT
    columns = (PLAIN, COMPILED, OURS, cuda_harness.GRAPHED)
    lines = []
    for (op, size, passes, _), own in grouped(rows, "op", "size", "pass", "gpu").items():
        times = [own[name]["milliseconds"] if name in own else "" for name in columns]
        best = own.get(cuda_harness.GRAPHED) or own[OURS]
        lines.append([f"`{op}`", size, passes, *times, f"{best['over_floor']} ({best['bound']})"])
    header = ("op", "size", "pass", *(f"{name}, ms" for name in columns), "times the floor")
    origins = sorted({f"{r['gpu']}, torch {r['torch']}, CUDA {r['cuda']}, {r['commit']}" for r in rows})
    return "\n".join([*markdown(header, lines), "", "Medians; measured on " + "; ".join(origins) + "."]) + "\n"


def tables() -> dict[str, str]:
    """What stands in the README, by the name in the markers."""
    return {"bench": cpu_table(read(cpu_harness.RESULTS)), "bench-cuda": cuda_table(read(cuda_harness.RESULTS))}

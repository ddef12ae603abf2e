"""Rows of measurements: their CSVs, where they come from, and their tables in Markdown; for studies/ as well."""

from __future__ import annotations

import csv
import os
import platform
import subprocess
from collections.abc import Iterable, Sequence
from pathlib import Path

Row = dict[str, str]
ABSENT = "Not measured yet.\n"


def commit() -> str:
    """The commit, "-dirty" with changes; DISENTANGLE_EXT_COMMIT names it where the history did not travel along.

    What the benchmarks write themselves is no change: each row would make the next one dirty.
    """
    root = Path(__file__).parents[1]
    name = ["git", "describe", "--always", "--exclude=*"]
    written = ("bench/results", "studies/results", "docs", "README.md")
    changes = ["git", "diff", "--quiet", "HEAD", "--", ".", *(f":(exclude){path}" for path in written)]
    try:
        asked = subprocess.run(name, cwd=root, capture_output=True, text=True, check=True)
    except (OSError, subprocess.CalledProcessError):
        return os.environ.get("DISENTANGLE_EXT_COMMIT") or "unknown"
    dirty = subprocess.run(changes, cwd=root, check=False).returncode != 0
    return asked.stdout.strip() + ("-dirty" if dirty else "")


def machine() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
        name = next(line.split(":", 1)[1].strip() for line in lines if line.startswith("model name"))
    except (OSError, StopIteration):
        name = platform.processor() or platform.machine()
    return f"{name}, {os.cpu_count()} cores"


def append(rows: list[Row], path: Path, columns: Sequence[str], identity: Sequence[str]) -> None:
    """Add rows, in place of those that were measured before and agree with one in the identity's columns."""

    def key(row: Row) -> tuple[str, ...]:
        return tuple(row[name] for name in identity)

    new = {key(row) for row in rows}
    kept = [row for row in read(path) if key(row) not in new]
    path.parent.mkdir(exist_ok=True)
    partial = path.with_suffix(".partial")
    with open(partial, "w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, columns)
        writer.writeheader()
        writer.writerows([*kept, *rows])
    partial.replace(path)


def read(path: Path) -> list[Row]:
    if not path.is_file():
        return []
    with open(path, newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def markdown(header: Iterable[str], lines: Iterable[Iterable[str]]) -> list[str]:
    names = list(header)
    return [f"| {' | '.join(cells)} |" for cells in (names, ["---"] * len(names), *lines)]

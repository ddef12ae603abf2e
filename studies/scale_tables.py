"""The tables of docs/scale.md: from rows of studies/results to 12,600 runs and to 10^6."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import yaml

from bench.pages import ROOT
from bench.rows import ABSENT, Row, markdown, read
from disentangle_ext.runs.presets import SWEEPS
from studies import scale_costs

PAGE = "docs/scale.md"
RESULTS = Path(__file__).parent / "results"
SABOTAGE = RESULTS / "scale_sabotage.csv"
COMMANDS = RESULTS / "scale_commands.csv"
PARTS = RESULTS / "scale_parts.csv"

GRID = ROOT / "disentangle_ext" / "study" / "grids" / "locatello.yaml"
GRAY = ("dsprites", "smallnorb")
"""Sets whose images have one channel, for which ``dsprites_like`` stands; ``shapes3d_like``, with three, for others."""

GPU_HOURS = 1.75
"""Hours of a P100 for a model: Locatello et al. 2019 give 2.52 GPU years for the 12,600."""

MILLION = 1_000_000
MOST_JOBS = 1001
"""SLURM's MaxArraySize where slurm.conf does not set it."""

LOOK = 10.0
"""Seconds from one look of the engine ``submitit`` at its jobs to the next, at most."""


class Study(NamedTuple):
    """What the study of 12,600 takes."""

    runs: int
    cpu_hours: float
    files: float
    disk_bytes: float
    bytes: float
    picture_files: float
    picture_bytes: float


def kinds() -> list[tuple[str, str, int]]:
    """For each data set and objective of the study the measured set that stands for it, and the number of runs."""
    grid = yaml.safe_load(GRID.read_text(encoding="utf-8"))
    sets = []
    for block in grid["grid"]["sets"]:
        names = block["data"] if isinstance(block["data"], list) else [block["data"]]
        sets += [(name, effect) for name in names for effect in block.get("data_effect", ["none"])]
    stands = ["dsprites_like" if name in GRAY and effect == "none" else "shapes3d_like" for name, effect in sets]
    return [(like, model, len(values) * grid["seeds"]) for like in stands for model, (_, values) in SWEEPS.items()]


def whole(rows: list[Row]) -> Study:
    """Add up the study from what single runs cost."""
    known = {(row["data_set"], row["objective"]): row for row in rows}
    scored = known[scale_costs.SCORED]
    numbers: dict[str, float] = dict.fromkeys(Study._fields, 0)
    for like, objective, runs in kinds():
        row = known[like, objective]
        numbers["runs"] += runs
        numbers["cpu_hours"] += runs * (run_seconds(row) + float(scored["scoring_cpu_seconds"])) / 3600
        for name in ("files", "bytes", "disk_bytes"):
            numbers[name] += runs * (float(row[name]) + float(scored[f"scoring_{name}"]))
        for name in ("picture_files", "picture_bytes"):
            numbers[name] += runs * float(row[name])
    return Study(int(numbers.pop("runs")), **numbers)


def run_seconds(row: Row) -> float:
    """Processor seconds of a training."""
    return int(row["max_steps"]) * float(row["step_cpu_seconds"]) + float(row["rest_cpu_seconds"])


def tables() -> dict[str, str]:
    """The tables of the page, by the names in its markers."""
    costs, commands, parts = read(scale_costs.RESULTS), read(COMMANDS), read(PARTS)
    is_complete = {(row["data_set"], row["objective"]) for row in costs} >= set(scale_costs.wanted())
    return {
        "disturbed": disturbed(read(SABOTAGE)),
        "commands": commands_table(commands),
        "runs": runs_table(costs),
        "study": study_table(whole(costs)) if is_complete else ABSENT,
        "million": million(whole(costs), commands, parts) if is_complete and commands and parts else ABSENT,
    }


_DISTURBED: dict[str, Callable[[Row], Any]] = {
    "engine": lambda row: f"`{row['engine']}`",
    "runs": lambda row: row["runs"],
    "done": lambda row: row["done"],
    "lost": lambda row: int(row["runs"]) - int(row["done"]),
    "torn": lambda row: row["torn"],
    "done twice": lambda row: row["trained_twice"],
    "workers killed": lambda row: int(row["kills"]) + int(row["stopped_kills"]),
    "workers stopped": lambda row: row["stops"],
    "of these killed": lambda row: row["stopped_kills"],
    "calls of the command": lambda row: row["calls"],
    "of these killed ": lambda row: row["calls_killed"],
    "repeats": lambda row: int(row["attempts"]) - int(row["runs"]),
    "found half done": lambda row: row["begun_again"],
    "given up": lambda row: row["failed"],
    "left behind": lambda row: row["left_behind"],
    "seconds": lambda row: row["seconds"],
    "CPU seconds": lambda row: row["cpu_seconds"],
    "files on": lambda row: row["file_system"],
}


def disturbed(rows: list[Row]) -> str:
    """A column for each simulation."""
    if not rows:
        return ABSENT
    first, *others = ((name, *(_count(cell(row)) for row in rows)) for name, cell in _DISTURBED.items())
    return "\n".join([*markdown(first, others), "", _where(rows)]) + "\n"


def commands_table(rows: list[Row]) -> str:
    if not rows:
        return ABSENT
    header = ("command", "runs", "seconds", "CPU seconds", "MB")
    lines = [
        (f"`{row['command']}`", _count(row["runs"]), *(row[name] for name in ("seconds", "cpu_seconds", "megabytes")))
        for row in sorted(rows, key=lambda row: -int(row["runs"]))
    ]
    return "\n".join([*markdown(header, lines), "", _where(rows)]) + "\n"


def runs_table(rows: list[Row]) -> str:
    """A line for each kind of run."""
    if not rows:
        return ABSENT
    header = ("data set", "objective", "updates", "ms an update", "hours", "seconds of scoring", "files", "MB")
    lines = [
        (
            f"`{row['data_set']}`",
            f"`{row['objective']}`",
            _count(row["max_steps"]),
            f"{1000 * float(row['step_cpu_seconds']):.1f}",
            f"{run_seconds(row) / 3600:.1f}",
            row["scoring_cpu_seconds"],
            row["files"],
            f"{float(row['bytes']) / 1e6:.2f}",
        )
        for row in rows
    ]
    return "\n".join([*markdown(header, lines), "", f"{_where(rows)}, one thread, processor time."]) + "\n"


def study_table(study: Study) -> str:
    pictures, inodes = study.picture_files / study.runs, study.files + study.runs
    lines = {
        "models": f"{study.runs:,}",
        "days of one core, as measured above": f"{study.cpu_hours / 24:,.0f}",
        "days of a P100, by the published 1.75 hours a model": f"{study.runs * GPU_HOURS / 24:,.0f}",
        "files": f"{study.files:,.0f}",
        "inodes: the files, and a folder for each run": f"{inodes:,.0f}",
        "inodes with the pictures of a run in one file": f"{inodes - study.picture_files + study.runs:,.0f}",
        "GB": f"{study.bytes / 1e9:,.1f}",
        "GB on a disk that gives out blocks": f"{study.disk_bytes / 1e9:,.1f}",
        "of these GB pictures": f"{study.picture_bytes / 1e9:,.1f}, {pictures:.0f} files a run",
    }
    return "\n".join(markdown(("the study", ""), lines.items())) + "\n"


class Limit(NamedTuple):
    """Something that grows with the runs, and the most that there is of it."""

    what: str
    need: float
    limit: float
    unit: str
    of: str
    """Whose limit it is."""


def million(study: Study, commands: list[Row], parts: list[Row]) -> str:
    """What 10^6 runs need of everything that has a limit, what is furthest beyond it first."""
    limits = sorted(limits_of(study, commands, parts), key=lambda each: each.need / each.limit, reverse=True)
    header = ("10^6 runs", "need", "limit", "need / limit")
    lines = [
        (
            each.what,
            f"{_short(each.need)} {each.unit}",
            f"{_short(each.limit)}, {each.of}",
            _short(each.need / each.limit),
        )
        for each in limits
    ]
    return "\n".join(markdown(header, lines)) + "\n"


def limits_of(study: Study, commands: list[Row], parts: list[Row]) -> list[Limit]:
    grown = MILLION / study.runs
    inodes = study.files + study.runs
    known = {row["part"]: row for row in parts if row["runs"] == max(parts, key=lambda row: int(row["runs"]))["runs"]}
    amount = {part: float(row["amount"]) for part, row in known.items()}
    largest = {part: float(row["amount"]) * MILLION / int(row["runs"]) for part, row in known.items()}
    packed = inodes - study.picture_files + study.runs
    return [
        Limit("bytes on the disk", grown * study.disk_bytes / 1e12, amount["disk_bytes"] / 1e12, "TB", _DISK),
        Limit("inodes", grown * inodes / 1e6, amount["disk_inodes"] / 1e6, "million", _DISK),
        Limit(
            "inodes, pictures of a run in one file", grown * packed / 1e6, amount["disk_inodes"] / 1e6, "million", _DISK
        ),
        Limit("jobs of SLURM, one for a run", MILLION, MOST_JOBS, "jobs", "MaxArraySize"),
        Limit("jobs of SLURM, 1,000 runs in each", MILLION / 1000, MOST_JOBS, "jobs", "MaxArraySize"),
        Limit("looking at 1,000 journals", 1000 * amount["journal_seconds"], LOOK, "CPU s", "until the next look"),
        Limit("tasks of the driver, in memory", largest["tasks_bytes"] / 1e9, 1, "GB", _OURS),
        Limit("tasks that Ray knows of", 1000, MILLION, "tasks", "all of them"),
        Limit("listing the folder of the runs", largest["list_seconds"], 10, "CPU s", _OURS),
        Limit("plan.parquet", largest["plan_bytes"] / 1e9, 1, "GB", _OURS),
        Limit("scores.parquet", largest["scores_bytes"] / 1e9, 1, "GB", _OURS),
        Limit("the page, full with 12,600", amount["page_bytes"] / 1e6, 5, "MB", "what we allow ourselves for 36"),
        *(
            Limit(f"`{command}`, {what}", grow(commands, command, column) / scale, limit, unit, _OURS)
            for command in dict.fromkeys(row["command"] for row in commands)
            for what, column, scale, limit, unit in (
                ("seconds", "cpu_seconds", 1, 10, "CPU s"),
                ("memory", "megabytes", 1000, 1, "GB"),
            )
        ),
    ]


_DISK = "this machine's disk"
_OURS = "what we allow ourselves for 12,600"


def grow(commands: list[Row], command: str, column: str, runs: int = MILLION) -> float:
    """What a command takes of a number of runs, by the straight line through the smallest and the largest study."""
    own = sorted((row for row in commands if row["command"] == command), key=lambda row: int(row["runs"]))
    (small, low), (large, high) = ((int(row["runs"]), float(row[column])) for row in (own[0], own[-1]))
    return low + (runs - small) * (high - low) / max(large - small, 1)


def _count(value: Any) -> str:
    return f"{int(value):,}" if str(value).isdecimal() else str(value)


def _short(value: float) -> str:
    return f"{value:,.0f}" if value >= 100 else f"{value:.2g}"


def _where(rows: list[Row]) -> str:
    return "; ".join(sorted({f"{row['machine']}, {row['commit']}" for row in rows}))

"""How far a study reaches: docs/scale.md, from rows of studies/results that were measured.

``python -m studies.scale simulate FOLDER`` disturbs a study of fake runs in a new folder until it is done, and
``python -m studies.scale commands FOLDER`` measures the commands, and what else grows with a study, on one that is
done. ``python -m studies.scale_costs`` measures single runs.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from bench import pages
from bench.rows import Row, append, commit, machine
from disentangle_ext.study.engines.block import Block, Entry
from disentangle_ext.study.execute import tasks_of
from disentangle_ext.study.grid import read_grid
from disentangle_ext.study.plan import GRID, PLAN, Study, write_plan
from disentangle_ext.study.records import RECORDS
from studies.sabotage import Census, Disturbance, Disturbed, census, disturbed, two_nodes
from studies.scale_tables import COMMANDS, PAGE, PARTS, SABOTAGE, tables
from studies.simulated_study import Cost, cost_of, fake_work

__all__ = ["PAGE", "Cost", "measure_commands", "measure_parts", "simulate", "tables"]

SABOTAGE_COLUMNS = (
    "engine",
    "runs",
    *(field for field in Census._fields if field != "runs"),
    *Disturbed._fields,
    "cpu_seconds",
    "seed",
    "file_system",
    "machine",
    "commit",
)
COMMAND_COLUMNS = ("command", "runs", "seconds", "cpu_seconds", "megabytes", "file_system", "machine", "commit")
PART_COLUMNS = ("part", "runs", "amount", "machine", "commit")

WORKERS = 4
"""Workers of the local engine: more than cores, since some are stopped."""

JOB = 1000
"""Runs of a job in a study of 10^6, which has as many jobs as an array may have."""


def simulate(folder: Path, grid: str, engine: str, disturbance: Disturbance) -> Row:
    """Plan a study, let fake runs be disturbed until all are done, and count."""
    study, before = write_plan(folder, read_grid(grid)), _cpu_seconds()
    with ExitStack() as stack:
        flags = ["--engine", engine]
        if engine == "ray":
            cluster = stack.enter_context(tempfile.TemporaryDirectory())
            flags += ["--address", stack.enter_context(two_nodes(Path(cluster)))]
        else:
            flags += ["--workers", str(WORKERS)]
        ended = disturbed(folder, disturbance, flags)
    found = census(study)
    numbers = {**found._asdict(), **ended._asdict(), "cpu_seconds": _cpu_seconds() - before}
    row = {name: f"{value:.0f}" for name, value in numbers.items()}
    if engine == "ray":
        row["cpu_seconds"] = ""  # the workers are not ours to wait for
    return {"engine": engine, **row, "seed": str(disturbance.seed), "file_system": file_system(folder)}


def measure_commands(folder: Path) -> list[Row]:
    """Measure the commands on a study that is done."""
    study, runs = [sys.executable, "-m", "disentangle_ext.study"], str(len(Study(folder).runs))
    place = {"file_system": file_system(folder)}
    rows = []
    with tempfile.TemporaryDirectory(dir=folder.parent) as other:
        calls = {
            "plan": ["plan", str(folder / GRID), "--output-dir", other],
            "status": ["status", str(folder)],
            "collect": ["collect", str(folder)],
            "report": ["report", str(folder)],
        }
        for command, arguments in calls.items():
            cost = cost_of([*study, *arguments])
            numbers = {name: f"{value:.1f}" for name, value in cost._asdict().items()}
            rows.append({"command": command, "runs": runs, **numbers, **place})
            print(rows[-1], flush=True)
    return rows


def measure_parts(folder: Path) -> list[Row]:
    """Measure what else grows with a study, on one that is collected and reported."""
    study = Study(folder)
    names = [run.name for run in study.runs]
    disk = os.statvfs(pages.ROOT)
    parts = {
        "disk_bytes": disk.f_blocks * disk.f_frsize,
        "disk_inodes": disk.f_files,
        "plan_bytes": (folder / PLAN).stat().st_size,
        "scores_bytes": (folder / RECORDS).stat().st_size,
        "page_bytes": (folder / "report" / "index.html").stat().st_size,
        "list_seconds": _seconds(lambda: [path.name for path in (folder / "runs").iterdir()]),
        "tasks_bytes": _tasks_bytes(folder),
        "journal_seconds": _journal_seconds(names),
    }
    return [{"part": part, "runs": str(len(names)), "amount": f"{amount:.6g}"} for part, amount in parts.items()]


def _seconds(do: Callable[[], Any]) -> float:
    begun = time.process_time()
    do()
    return time.process_time() - begun


def _tasks_bytes(folder: Path) -> float:
    """The memory of the tasks of a study, in a process of their own."""
    code = "import sys, tracemalloc; from pathlib import Path; from studies.scale import tasks_of, Study;"
    code += "study = Study(Path(sys.argv[1])); study.metrics; tracemalloc.start();"
    code += "tasks = tasks_of(study, metrics=['mig']); print(tracemalloc.get_traced_memory()[0])"
    called = [sys.executable, "-c", code, str(folder)]
    return float(subprocess.run(called, stdout=subprocess.PIPE, check=True, cwd=pages.ROOT).stdout)


def _journal_seconds(names: list[str]) -> float:
    """Processor seconds of a look at the journal of one job with 1,000 runs, all of them ended."""
    with tempfile.TemporaryDirectory() as folder:
        journal = Path(folder) / "journal.jsonl"
        entries = [Entry(names[number % len(names)], 1, code) for number in range(JOB) for code in (None, 0)]
        journal.write_text("".join(json.dumps(entry) + "\n" for entry in entries))
        return _seconds(Block(fake_work, [], journal).entries)


def _cpu_seconds() -> float:
    """Processor time of the processes below this one that have ended."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def file_system(folder: Path) -> str:
    """The kind of file system that a folder is on."""
    mounts = [line.split() for line in Path("/proc/mounts").read_text(encoding="utf-8").splitlines()]
    above = [mount for mount in mounts if folder.resolve().is_relative_to(mount[1])]
    return max(above, key=lambda mount: len(mount[1]))[2]


def main() -> None:
    """Measure, and write the page."""
    parser = argparse.ArgumentParser(prog="python -m studies.scale", description=__doc__)
    commands = parser.add_subparsers(required=True, dest="command")
    simulation = commands.add_parser("simulate")
    simulation.add_argument("--engine", choices=("local", "ray"), default="local")
    simulation.add_argument(
        "--workers", type=float, help="workers that are disturbed, for each run (default: .25; Ray: .01)"
    )
    simulation.add_argument("--calls", type=float, default=0.001, help="how often the command is killed, for each run")
    simulation.add_argument("--seed", type=int, default=0)
    measured = commands.add_parser("commands")
    for each in (simulation, measured):
        each.add_argument("folder", type=Path)
        each.add_argument("--grid", default="locatello")
        each.add_argument("--results", type=Path, help="the folder of the rows, in place of that of the page")
    commands.add_parser("tables", help="write the tables, measure nothing")
    request = parser.parse_args()
    if request.command != "tables":
        _measure(request)
    if not getattr(request, "results", None):
        pages.write(PAGE, tables())


def _measure(request: argparse.Namespace) -> None:
    origin = {"machine": machine(), "commit": commit()}

    def keep(rows: list[Row], path: Path, columns: tuple[str, ...], identity: tuple[str, ...]) -> None:
        path = request.results / path.name if request.results else path
        append([{**row, **origin} for row in rows], path, columns, identity)

    os.environ["PYTHONPATH"] = os.pathsep.join(filter(None, (str(pages.ROOT), os.environ.get("PYTHONPATH"))))
    if request.command == "simulate":
        workers = request.workers or {"local": 0.25, "ray": 0.01}[request.engine]  # one of Ray starts for seconds
        disturbance = Disturbance(workers, request.calls, request.seed)
        row = simulate(request.folder, request.grid, request.engine, disturbance)
        print(json.dumps(row))
        keep([row], SABOTAGE, SABOTAGE_COLUMNS, ("engine", "runs"))
        return
    if not (request.folder / PLAN).is_file():
        for task in tasks_of(write_plan(request.folder, read_grid(request.grid))):
            fake_work(task)
    keep(measure_commands(request.folder), COMMANDS, COMMAND_COLUMNS, ("command", "runs"))
    keep(measure_parts(request.folder), PARTS, PART_COLUMNS, ("part", "runs"))


if __name__ == "__main__":
    main()

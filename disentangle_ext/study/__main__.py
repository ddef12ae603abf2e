"""Plan, run, score and report a study of many models.

Examples:
    python -m disentangle_ext.study plan quick --output-dir studies/a
    python -m disentangle_ext.study run studies/a --workers 2
    python -m disentangle_ext.study status studies/a
    python -m disentangle_ext.study score studies/a --metrics dci
    python -m disentangle_ext.study report studies/a
    python -m disentangle_ext.study report runs/a runs/b --output-dir report

Exit codes: 0 finished, 1 some runs are not, 2 a mistake in the call, 74 input or output failed, 75 stopped by SIGTERM
or SIGUSR1, 130 interrupted by Ctrl-C, 141 printed into a pipe that is closed; after the last four the same command
goes on.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence

from disentangle_ext._errors import MistakeError
from disentangle_ext._exit_codes import ExitCode
from disentangle_ext._program import launch, outcome
from disentangle_ext.scoring.tables import bars
from disentangle_ext.study.command_line import parse
from disentangle_ext.study.engines.flags import engine_of
from disentangle_ext.study.execute import Result, execute, tasks_of
from disentangle_ext.study.grid import read_grid
from disentangle_ext.study.measure import kinds_of, lines, measure, total
from disentangle_ext.study.plan import Study, write_plan
from disentangle_ext.study.report import collect_command, report_command
from disentangle_ext.study.status import State, counted, duration, state_of, status
from disentangle_ext.study.work import Task


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line and return its exit code."""
    return outcome("study", lambda: _run_command(parse(argv, __doc__)))


def _run_command(request: argparse.Namespace) -> int:
    return _COMMANDS[request.command](request)


def _plan(request: argparse.Namespace) -> int:
    grid = read_grid(request.grid)
    study = write_plan(request.output_dir, grid)
    kinds = kinds_of(grid.runs)
    print(f"{counted(len(grid.runs), 'run')} of {counted(len(kinds), 'kind')}, scored by {', '.join(grid.metrics)}")
    if request.measure:
        with bars() as bar:
            costs = measure(kinds, grid.metrics, device=request.device, show=bar("kinds"))
        print("\n".join(lines(kinds, costs)))
        print(total(kinds, costs))
    else:
        print("Hours and disk: unknown; --measure trains and scores a short run of each kind")
    print(f"Written: {study.folder}")
    return ExitCode.FINISHED


def _run(request: argparse.Namespace) -> int:
    study = Study(request.study)
    tasks = tasks_of(study, device=request.device, retry_failed=request.retry_failed)
    return _execute(study, request, tasks)


def _score(request: argparse.Namespace) -> int:
    study = Study(request.study)
    names = [run.name for run in study.runs if state_of(study.run_folder(run.name)) is State.DONE]
    if not names:
        raise MistakeError(f"study: STUDY {study.folder} has no finished run yet")
    tasks = tasks_of(study, names, metrics=request.metrics, device=request.device, again=request.again)
    return _execute(study, request, tasks)


def _execute(study: Study, request: argparse.Namespace, tasks: list[Task]) -> int:
    with bars() as bar:
        result = execute(study, engine_of(request), tasks, show=bar("runs"))
    _say(study, result)
    return result.code


def _say(study: Study, result: Result) -> None:
    print(f"{result.finished:,} of {result.asked:,} runs finished in this call")
    if result.elsewhere:
        print(f"{result.elsewhere:,} are at work in another process")
    for name, why in result.problems.items():
        print(f"{name}: {why}", file=sys.stderr)
    if result.stopped_by is not None:
        print(f"Stopped by {result.stopped_by.name}; the same command goes on.")


def _status(request: argparse.Namespace) -> int:
    study = Study(request.study)
    now = status(study)
    total = sum(now.counts.values())
    print(f"{study.folder}: {counted(total, 'run')}")
    for state, count in now.counts.items():
        print(f"  {state.value:<8} {count:>9,}")
    if now.rate is not None and now.hours_left:
        print(f"  {now.rate:.1f} runs an hour, {duration(now.hours_left)} left")
    for run in study.runs:
        folder = study.run_folder(run.name)
        if state_of(folder) is State.FAILED:
            print(f"  {run.name}: {folder.failure}")
    return ExitCode.FINISHED if now.counts[State.DONE] == total else ExitCode.INCOMPLETE


_COMMANDS = {
    "plan": _plan,
    "run": _run,
    "status": _status,
    "score": _score,
    "collect": collect_command,
    "report": report_command,
}


if __name__ == "__main__":
    launch(main)

"""The commands that make tables and pages of scores, whether ``study`` has planned their runs or not."""

from __future__ import annotations

import argparse
import shutil
import sys
from pathlib import Path

from disentangle_ext._errors import MistakeError
from disentangle_ext._exit_codes import ExitCode
from disentangle_ext.runs.folder import CONFIG
from disentangle_ext.scoring.tables import bars
from disentangle_ext.study.records import RECORDS, RUNS, Collected, collect, in_words, long_table
from disentangle_ext.study.status import counted
from disentangle_ext.study.summary import as_text, scored, summarise, write_summary

__all__ = ["REPORT", "collect_command", "report_command"]

REPORT = "report"
"""The folder in that of a study that takes its page, figures and tables."""


def collect_command(request: argparse.Namespace) -> int:
    """Write the tables of runs and scores."""
    collected = _tables(request, _output(request))
    print(f"Written: {_output(request) / RUNS}, {_output(request) / RECORDS}")
    return _tell(collected)


def report_command(request: argparse.Namespace) -> int:
    """Write the tables of runs and scores, the page with its figures, and a summary, which is printed, too."""
    from disentangle_ext.study.page import write_page

    output = _output(request)
    collected = _tables(request, output)
    code = _tell(collected)
    lines = summarise(scored(long_table(collected.runs, collected.records)))
    print(as_text(lines, width=shutil.get_terminal_size((100, 24)).columns))
    report = request.output_dir or output / REPORT
    title = (request.paths[0] if len(request.paths) == 1 else output).resolve().name
    written = [*write_summary(report / "tables", lines)]
    written.append(write_page(report, collected.runs, collected.records, title=title))
    print(f"Written: {', '.join(map(str, written))}")
    return code


def _output(request: argparse.Namespace) -> Path:
    """The folder that takes the tables of runs and scores."""
    first: Path = request.paths[0]
    if request.output_dir:
        return Path(request.output_dir)
    if len(request.paths) > 1 or (first / CONFIG).is_file():
        raise MistakeError("study: --output-dir is not given, and only one folder of runs takes their tables itself")
    return first


def _tables(request: argparse.Namespace, output: Path) -> Collected:
    with bars() as bar:
        show = bar("settings") if request.udr else lambda done, total: None
        return collect(request.paths, output, with_udr=request.udr, show=show)


def _tell(collected: Collected) -> int:
    for problem in collected.problems:
        print(problem, file=sys.stderr)
    if collected.in_several:
        repeated = counted(collected.in_several, "run")
        print(f"{repeated} in two folders or more: taken from the one with the most metrics")
    if collected.unfinished:
        count, every = sum(collected.unfinished.values()), collected.runs.num_rows
        print(f"{count:,} of {every:,} runs are not finished: {in_words(collected.unfinished)}")
    return ExitCode.INCOMPLETE if collected.unfinished or collected.problems else ExitCode.FINISHED

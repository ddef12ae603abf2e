"""The command line of studies."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

from disentangle_ext._errors import MistakeError
from disentangle_ext._names import choose
from disentangle_ext._program import Parser
from disentangle_ext.engine.device import AUTO
from disentangle_ext.metrics.suite import SUITE
from disentangle_ext.study.engines.flags import add_engine, check_engine
from disentangle_ext.study.grid import grid_files

__all__ = ["PROGRAM", "parse"]

PROGRAM = "python -m disentangle_ext.study"


def parse(argv: Sequence[str] | None, description: str | None) -> argparse.Namespace:
    """Read the command line.

    Args:
        argv: the arguments; default: those of the process.
        description: what --help says above the commands.

    Raises:
        MistakeError: for flags that do not parse, numbers out of range and unknown metrics.
        SystemExit: after --help.
    """
    parser = Parser(
        prog=PROGRAM,
        description=description,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    _add_plan(commands.add_parser("plan", help="write the plan of a study from a grid file"))
    _add_run(commands.add_parser("run", help="train and score the runs that are left"))
    status = commands.add_parser("status", help="say how far a study is")
    _add_study(status)
    _add_score(commands.add_parser("score", help="score finished runs by more metrics; trains nothing"))
    _add_tables(
        commands.add_parser("collect", help="write all scores into two tables, for any tool that reads Parquet")
    )
    _add_tables(commands.add_parser("report", help="collect, and write a page, figures and tables of all scores"))
    request = parser.read(argv)
    if hasattr(request, "engine"):
        check_engine(request)
    if request.command == "plan" and request.device != AUTO and not request.measure:
        raise MistakeError(f"study: --device belongs to --measure, got --device {request.device} alone")
    for name in getattr(request, "metrics", None) or ():
        choose("study: --metrics", name, tuple(SUITE))
    return request


def _add_study(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("study", metavar="STUDY", type=Path, help="the folder that 'plan' has written")


def _add_plan(parser: argparse.ArgumentParser) -> None:
    known = ", ".join(grid_files())
    parser.add_argument("grid", metavar="GRID", help=f"a grid file, or the name of one in the package: {known}")
    parser.add_argument("--output-dir", type=Path, required=True, help="the folder of the study")
    parser.add_argument(
        "--measure",
        action="store_true",
        help="train and score a short run of each kind, and say the hours and the disk that the study takes",
    )
    _add_device(parser)


def _add_device(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--device", default=AUTO, help="cpu, cuda, cuda:N, or auto: cuda where there is one")


def _add_run(parser: argparse.ArgumentParser) -> None:
    _add_study(parser)
    add_engine(parser)
    _add_device(parser)
    parser.add_argument("--retry-failed", action="store_true", help="try again the runs that were given up")


def _add_score(parser: argparse.ArgumentParser) -> None:
    _add_study(parser)
    parser.add_argument("--metrics", nargs="+", metavar="NAME", required=True, help=f"which: {', '.join(SUITE)}")
    parser.add_argument("--again", action="store_true", help="compute them again where a run has them")
    add_engine(parser)
    _add_device(parser)


def _add_tables(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "paths",
        metavar="STUDY | RUN",
        nargs="+",
        type=Path,
        help="the folder of a study; or run folders, and folders of run folders, as --vary and --stack of train leave",
    )
    parser.add_argument(
        "--output-dir",
        type=Path,
        help="where to write (default: into the folder that is given, for a report into its folder report)",
    )
    parser.add_argument(
        "--udr",
        action="store_true",
        help="compute UDR, too, of each run among those with other seeds; it is kept while the runs stay the same",
    )

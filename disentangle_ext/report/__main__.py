"""Draw the pictures of a finished run again: ``python -m disentangle_ext.report runs/a --only traversals --range 3``.

Exit codes: 0 all drawn, 1 some not, 2 a mistake in the call, 74 input or output failed, 130 interrupted, 141 printed
into a pipe that is closed.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from disentangle_ext._exit_codes import ExitCode
from disentangle_ext._program import Parser, launch, outcome
from disentangle_ext.models.vae import TRAVERSAL
from disentangle_ext.report.pictures import PICTURES, describe
from disentangle_ext.report.run import draw_run

PROGRAM = "python -m disentangle_ext.report"


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line and return its exit code."""
    return outcome("report", lambda: _report(_parser().read(argv)))


def _report(request: argparse.Namespace) -> ExitCode:
    written, failed = draw_run(request.run, request.only, limit=request.range)
    for path in written:
        print(path)
    for line in describe(failed):
        print(line, file=sys.stderr)
    return ExitCode.INCOMPLETE if failed else ExitCode.FINISHED


def _parser() -> Parser:
    text = "Draw the pictures of a finished run again, into its folder."
    parser = Parser(prog=PROGRAM, description=text)
    parser.add_argument("run", metavar="RUN", type=Path, help="the folder of a finished run of disentangle_ext.train")
    known = ", ".join(PICTURES)
    parser.add_argument("--only", metavar="NAME", nargs="+", help=f"these alone, of: {known} (default: all that fit)")
    parser.add_argument(
        "--range",
        type=float,
        default=TRAVERSAL[1],
        help="latents move from minus this to this, in standard deviations of the prior (default: %(default)g)",
    )
    return parser


if __name__ == "__main__":
    launch(main)

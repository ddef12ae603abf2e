"""The command line of evaluation: its flags, and which of them go together."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

from disentangle_ext._errors import MistakeError
from disentangle_ext._program import Parser
from disentangle_ext.metrics.suite import SUITE, check_metric
from disentangle_ext.runs.folder import EVALUATION, EXACT_ELBO

__all__ = ["PROGRAM", "parse"]

PROGRAM = "python -m disentangle_ext.evaluate"

_OF_ARRAYS = ("codes", "factors", "factor_names", "cyclic")


def parse(argv: Sequence[str] | None, description: str | None) -> argparse.Namespace:
    """Read the command line.

    Args:
        argv: the arguments; default: those of the process.
        description: what --help says above the flags.

    Raises:
        MistakeError: for flags that do not parse or do not go together, numbers out of range, and unknown metrics.
        SystemExit: after --help.
    """
    request = _parser(description).read(argv)
    _check_numbers(request)
    for name in request.metrics or ():
        if "," in name:
            raise MistakeError(f"evaluate: --metrics takes names with spaces between them, got {name!r}")
        check_metric("evaluate: --metrics", name)
    if request.run is None:
        _check_arrays(request)
        return request
    for name in _OF_ARRAYS:
        if getattr(request, name) is not None:
            raise MistakeError(
                f"evaluate: --{name.replace('_', '-')} is for codes without a RUN: give the one or the other"
            )
    return request


def _parser(description: str | None) -> Parser:
    parser = Parser(
        prog=PROGRAM,
        description=description,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("run", metavar="RUN", type=Path, nargs="?", help="the folder of a finished run")
    parser.add_argument("--seed", type=int, default=0, help="decides which images, and all that is drawn (default: 0)")
    _add_scores(parser)
    group = parser.add_argument_group("the KL term of the ELBO taken apart")
    group.add_argument(
        "--exact-elbo",
        action="store_true",
        help="mutual information, total correlation and dimension-wise KL under the posteriors of the whole data set, "
        f"beside the minibatch estimates: printed, and written to RUN/{EXACT_ELBO}, or to FILE_{EXACT_ELBO} beside the "
        "FILE.json of --output",
    )
    group.add_argument("--queries", type=int, default=10_000, help="images to draw a sample for (default: 10000)")
    group.add_argument("--batch-size", type=int, help="images in a minibatch (default: that of the run)")
    return parser


def _add_scores(parser: Parser) -> None:
    slow = ", ".join(name for name, entry in SUITE.items() if entry.slow)
    group = parser.add_argument_group("scores")
    group.add_argument(
        "--metrics",
        nargs="+",
        metavar="NAME",
        help=f"which: {', '.join(SUITE)} (default: all{f' but {slow}, which take minutes' if slow else ''})",
    )
    group.add_argument("--codes", metavar="FILE.npy", type=Path, help="[N, D], in the place of a RUN")
    group.add_argument("--factors", metavar="FILE.npy", type=Path, help="[N, K], the classes of the factors")
    group.add_argument("--factor-names", nargs="+", metavar="NAME", help="names of the K factors")
    group.add_argument(
        "--cyclic",
        nargs="+",
        metavar="NAME",
        help="factors on a circle, whose classes 0 to n - 1 make a turn; metrics of symmetries need all to be. A RUN's "
        "data set knows its own",
    )
    group.add_argument("--points", type=int, default=10_000, help="images of a RUN to score (default: 10000)")
    group.add_argument(
        "--bootstrap",
        type=int,
        default=0,
        help="random halves of the points for the intervals of the scores, 100 say (default: none)",
    )
    group.add_argument(
        "--output",
        metavar="FILE.json",
        type=Path,
        help=f"where to write scores and parts (default: RUN/{EVALUATION}); scores of the same name that the file "
        "holds are replaced, others stay. With a file outside of RUN, RUN need not be writable: the codes that it "
        "keeps for the next call are then encoded each time",
    )


def _check_numbers(request: argparse.Namespace) -> None:
    if request.seed < 0:
        raise MistakeError(f"evaluate: --seed must be at least 0, got {request.seed}")
    if request.seed >= 1 << 63:
        raise MistakeError(f"evaluate: --seed must be below 2^63, got {request.seed}")
    if request.points < 2:
        raise MistakeError(f"evaluate: --points must be at least 2, got {request.points}")
    if request.queries < 2:
        raise MistakeError(f"evaluate: --queries must be at least 2, got {request.queries}")
    if request.bootstrap < 0 or request.bootstrap == 1:
        raise MistakeError(f"evaluate: --bootstrap must be 0, or 2 at least, got {request.bootstrap}")


def _check_arrays(request: argparse.Namespace) -> None:
    if request.codes is None:
        raise MistakeError("evaluate: nothing is asked for: give a RUN, or --codes and --factors")
    if request.exact_elbo:
        raise MistakeError("evaluate: --exact-elbo needs a RUN; for posteriors of your own call metrics.exact_elbo")

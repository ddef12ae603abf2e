"""What known errors and conventions of public codes do to a number: the tables of docs/known_errors.md, computed.

Each foreign value is computed by a few lines that make the same error, on inputs that the tests hold as well. The tests
compare it with what the code itself returned.
"""

from __future__ import annotations

from bench.rows import markdown
from studies.known_errors.error import CODES, Error
from studies.known_errors.losses import DIP, DSPRITES, KERNELS, MMD, PAIRS, TOTAL_CORRELATION, share_of_ties
from studies.known_errors.metrics import CONVENTIONS, METRICS

__all__ = ["PAGE", "TABLES", "tables"]

PAGE = "docs/known_errors.md"

TABLES = {
    "known-tc": TOTAL_CORRELATION,
    "known-dip": DIP,
    "known-pairs": PAIRS,
    "known-mmd": MMD,
    "known-metrics": METRICS,
    "known-conventions": CONVENTIONS,
}


def error_table(errors: tuple[Error, ...]) -> str:
    header = ("of", "what is computed", "in", "on", "gives", "instead of", "here")
    return "\n".join(markdown(header, [error.line() for error in errors])) + "\n"


def kernel_table() -> str:
    lines = [
        [kernel.formula, ", ".join(kernel.codes), f"`{kernel.here}`", f"{kernel.value():.5f}"] for kernel in KERNELS
    ]
    return "\n".join(markdown(("k", "in", "here", f"MMD^2, {DSPRITES}"), lines)) + "\n"


def tie_table() -> str:
    lines = [[f"{rows:,}", f"{100 * share_of_ties(rows):.2g} %"] for rows in (64, 256, 1024, 4096)]
    return "\n".join(markdown(("B", "columns with a tie"), lines)) + "\n"


def code_table() -> str:
    lines = [
        [name, f"[{code.repository}](https://github.com/{code.repository})", code.commit]
        for name, code in CODES.items()
    ]
    return "\n".join(markdown(("here called", "repository", "commit"), lines)) + "\n"


def tables() -> dict[str, str]:
    """The tables of the page, by the names in its markers."""
    return {
        **{name: error_table(errors) for name, errors in TABLES.items()},
        "known-kernels": kernel_table(),
        "known-ties": tie_table(),
        "known-codes": code_table(),
    }

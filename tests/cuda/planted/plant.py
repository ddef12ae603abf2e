"""A mistake to plant into a kernel."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Plant:
    """What stands between « and » in a text that occurs once in the kernels of its op, and what replaces it.

    White space does not matter. What is replaced is an expression, or statements to the semicolon.
    """

    name: str
    text: str
    new: str
    mode: str = "plain"
    """The mode that has to notice it."""
    noticed: str = ""
    """In the names of tests that run before the others: those that notice it soonest."""
    crashes: bool = False
    """Whether it writes where it must not, so that a crash may come before a failed test."""

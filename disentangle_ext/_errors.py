"""The exception for what a caller got wrong."""

from __future__ import annotations

import textwrap

__all__ = ["MistakeError", "describe"]


class MistakeError(ValueError):
    """An argument is wrong; the message names it, what was expected and what came.

    It is raised where arguments are checked. A program prints it as one line; any other exception keeps its traceback.
    """


def describe(value: object) -> str:
    """What came, in one short line: the type, and the shape of an array or tensor or the representation of the rest.

    "float 50.0", "Tensor (8, 3)"; what has neither in a line is cut short.
    """
    kind = type(value).__name__
    shape = getattr(value, "shape", None)
    if isinstance(shape, tuple):
        return f"{kind} {tuple(shape)}"
    return f"{kind} {textwrap.shorten(repr(value), _LONGEST, placeholder=' ..')}"


_LONGEST = 80

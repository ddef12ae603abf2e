"""The exception for what a caller got wrong."""

from __future__ import annotations

__all__ = ["MistakeError"]


class MistakeError(ValueError):
    """An argument is wrong; the message names it, what was expected and what came.

    It is raised where arguments are checked. A program prints it as one line; any other exception keeps its traceback.
    """

"""Imported before anything else, so that Ctrl-C ends a program quietly while Python imports the rest of it."""

from __future__ import annotations

import os
import signal
import sys
from types import FrameType

__all__ = ["begin"]


def _end(number: int, frame: FrameType | None) -> None:
    os._exit(128 + number)


def begin() -> None:
    """Give Ctrl-C back to a program, which is imported now."""
    if signal.getsignal(signal.SIGINT) is _end:
        signal.signal(signal.SIGINT, signal.default_int_handler)


# Python calls a program "-m" while it imports the packages around it, and its name stands before its arguments.
_is_program = sys.argv[:1] == ["-m"] and sys.orig_argv[-len(sys.argv)].startswith("disentangle_ext.")
if _is_program and signal.getsignal(signal.SIGINT) is signal.default_int_handler:
    signal.signal(signal.SIGINT, _end)

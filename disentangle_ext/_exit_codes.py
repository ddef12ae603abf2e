"""What a command of this package says to the shell when it ends, the same for all of them."""

from __future__ import annotations

import errno
from enum import IntEnum

from disentangle_ext._errors import MistakeError

__all__ = ["ExitCode", "describe_codes", "describe_error"]


class ExitCode(IntEnum):
    """The codes, with what they mean. From 64 on they are those of BSD's sysexits.h."""

    FINISHED = 0, "finished"
    INCOMPLETE = 1, "finished, but some of what was asked for could not be made"
    MISTAKE = 2, "a mistake in the call"
    NON_FINITE = 5, "a loss, or weights, that are not finite"
    CANNOT_WRITE = 74, "input or output failed: a full disk, a folder that cannot be written or has vanished"
    STOPPED = 75, "stopped by SIGTERM or SIGUSR1, and can be queued again"
    INTERRUPTED = 130, "interrupted by Ctrl-C"
    UNREAD = 141, "nobody reads any more what is printed"

    meaning: str

    def __new__(cls, code: int, meaning: str) -> ExitCode:
        member = int.__new__(cls, code)
        member._value_ = code
        member.meaning = meaning
        return member

    @classmethod
    def of(cls, error: BaseException) -> int:
        """The code for an error; 1, as Python itself, for one that is nobody's mistake but ours.

        A name in the call that is wrong is a mistake; a file that cannot be written is not.
        """
        if isinstance(error, MistakeError):
            return cls.MISTAKE
        if isinstance(error, BrokenPipeError):
            return cls.UNREAD
        if not isinstance(error, OSError):
            return 1
        wrong_name = (None, errno.ENOENT, errno.EEXIST, errno.ENOTDIR, errno.EISDIR, errno.ENAMETOOLONG)
        return cls.MISTAKE if error.errno in wrong_name else cls.CANNOT_WRITE


def describe_codes(*codes: ExitCode) -> str:
    """One line for --help: "Exit codes: 0 finished, 2 a mistake in the call"."""
    return f"Exit codes: {'; '.join(f'{int(code)} {code.meaning}' for code in codes)}."


def describe_error(program: str, error: OSError) -> str:
    """The error in one line. One that this package raises begins with the name of its command already."""
    if error.errno is None:
        return str(error)
    where = f"{error.filename}: " if error.filename else ""
    return f"{program}: {error if type(error).__str__ is not OSError.__str__ else where + str(error.strerror)}"

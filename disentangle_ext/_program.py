"""What every program of this package does about its arguments, errors, signals and pipes."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Callable, Sequence
from typing import Any, NoReturn

from disentangle_ext import _start
from disentangle_ext._errors import MistakeError
from disentangle_ext._exit_codes import ExitCode, describe_error
from disentangle_ext._files import WriteError
from disentangle_ext._names import choose

__all__ = ["Parser", "launch", "outcome"]


class Parser(argparse.ArgumentParser):
    """A command line whose mistakes are raised, so that they are told in one line, as all others are.

    An option has to be written out, in the commands below it, too: a later option may begin in the same way.
    """

    def __init__(self, **options: Any) -> None:
        super().__init__(**{**options, "allow_abbrev": False})

    def read(self, argv: Sequence[str] | None = None) -> argparse.Namespace:
        """Parse the arguments; default: those of the process.

        Raises:
            MistakeError: "report: unknown option '--onyl': did you mean '--only'? known: --help, --only, --range".
            SystemExit: after --help.
        """
        request, unknown = self.parse_known_args(argv)
        for each in unknown:
            if each.startswith("--"):
                known = [name for name in self._chosen(request)._option_string_actions if name.startswith("--")]
                choose(f"{self._program}: option", each.partition("=")[0], known)
            self.error(f"unexpected argument {each!r}")
        return request

    def _chosen(self, request: argparse.Namespace) -> argparse.ArgumentParser:
        """The parser of the command that was given, if there are commands."""
        for action in self._actions:
            if isinstance(action, argparse._SubParsersAction):
                return action.choices[getattr(request, action.dest)]
        return self

    def error(self, message: str) -> NoReturn:
        """Raise what argparse would print below its usage."""
        raise MistakeError(f"{self._program}: {message}")

    @property
    def _program(self) -> str:
        return self.prog.removeprefix("python -m disentangle_ext.").partition(" ")[0]


def outcome(program: str, work: Callable[[], int], *, unwritten: str = "") -> int:
    """Do the work of a program and return its exit code; what a person can mend is told in one line.

    Args:
        program: begins the line.
        work: returns an exit code.
        unwritten: ends the line where a file cannot be written.

    Raises:
        BrokenPipeError: if nobody reads what is printed any more.
    """
    try:
        return work()
    except MistakeError as error:
        print(error, file=sys.stderr)
        return ExitCode.MISTAKE
    except BrokenPipeError:
        raise
    except OSError as error:  # a name that is wrong, a folder that cannot be read or written
        print(f"{describe_error(program, error)}{unwritten * isinstance(error, WriteError)}", file=sys.stderr)
        return ExitCode.of(error)
    except KeyboardInterrupt:
        print(f"{program}: interrupted", file=sys.stderr)
        return ExitCode.INTERRUPTED


def launch(main: Callable[[], int]) -> NoReturn:
    """End the process with the exit code of ``main``, quietly if nobody reads what it prints any more."""
    _start.begin()
    code: int | str | None
    try:
        try:
            code = main()
        except SystemExit as end:  # --help
            code = end.code
        sys.stdout.flush()
    except BrokenPipeError:
        code = ExitCode.UNREAD
        nowhere = os.open(os.devnull, os.O_WRONLY)
        for stream in (sys.stdout, sys.stderr):  # which Python flushes once more
            os.dup2(nowhere, stream.fileno())
    sys.exit(code)

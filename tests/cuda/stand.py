"""Tries the tests of the kernels on one mistake after another.

A process of its own imports torch and collects the tests once, then forks for each trial: a mistake may crash it, hang
it, or overwrite its memory.
"""

from __future__ import annotations

import contextlib
import importlib
import multiprocessing
import os
import resource
import signal
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path
from types import TracebackType

import pytest

from tests.cuda import harness, switches

HERE = Path(__file__).resolve().parent
LATE_IMPORT = "torch._dynamo"  # torch imports it in the first backward or dispatch mode, which takes a second
LONGEST = 60  # seconds of a processor, several times what the tests of an op take: whoever needs more runs forever


@dataclass(frozen=True)
class Trial:
    op: str
    mode: str
    library: Path
    number: int
    """The number of the edit that is in force; zero for none."""
    first: str = ""
    """Tests with this in their name run first."""
    alone: bool = False
    """Whether only the test of this name runs."""


@dataclass(frozen=True)
class Outcome:
    test: str
    """The first test that failed; empty if all passed."""
    how: str


class Server:
    """A pytest plugin that answers trials instead of running what was collected."""

    def __init__(self, trials: Connection) -> None:
        self._trials = trials
        self.answer: Connection | None = None
        """In a forked process: where it says which test runs, and how the first failed."""

    @pytest.hookimpl(tryfirst=True)
    def pytest_runtestloop(self, session: pytest.Session) -> bool | None:
        with contextlib.suppress(EOFError):
            while True:
                trial = self._trials.recv()
                receiver, sender = multiprocessing.Pipe(duplex=False)
                process = os.fork()
                if process == 0:
                    self.answer = sender
                    _prepare(session, trial)
                    return None  # pytest runs what is left in the session
                sender.close()
                self._trials.send(_outcome(process, receiver))
                receiver.close()
        return True

    def pytest_runtest_logstart(self, nodeid: str) -> None:
        if self.answer:
            self.answer.send((nodeid.rpartition("::")[2], ""))

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        if self.answer and report.failed:
            crash = getattr(report.longrepr, "reprcrash", None)
            message = getattr(crash, "message", str(report.longrepr))
            self.answer.send((report.nodeid.rpartition("::")[2], message))
            os._exit(pytest.ExitCode.TESTS_FAILED)

    @pytest.hookimpl(tryfirst=True)
    def pytest_sessionfinish(self, exitstatus: int) -> None:
        if self.answer:
            os._exit(exitstatus)  # the rest, a summary for nobody, takes longer than most tests


def _prepare(session: pytest.Session, trial: Trial) -> None:
    resource.setrlimit(resource.RLIMIT_CPU, (LONGEST, LONGEST + 5))
    switches.put_in_force(trial.library, trial.op, trial.mode, trial.number)
    items = [item for item in session.items if item.path.stem == f"test_{trial.op}" and _mode(item) == trial.mode]
    items.sort(key=lambda item: trial.first not in item.name)
    session.items[:] = [item for item in items if item.name == trial.first] if trial.alone else items


def _mode(item: pytest.Item) -> str:
    """Tests without a choice of modes run in mode plain."""
    return item.callspec.params.get("mode", "plain") if hasattr(item, "callspec") else "plain"


def _outcome(process: int, receiver: Connection) -> Outcome:
    """What a forked process says until it ends, and how it ends."""
    test = message = ""
    with contextlib.suppress(EOFError):
        while True:
            test, message = receiver.recv()
    code = os.waitstatus_to_exitcode(os.waitpid(process, 0)[1])
    if code == -signal.SIGXCPU:
        return Outcome(test, "ran forever")
    if code < 0:
        return Outcome(test, f"crashed with signal {-code}")
    if code not in (pytest.ExitCode.OK, pytest.ExitCode.TESTS_FAILED):
        return Outcome("", f"pytest ended with {code}")
    return Outcome(test, message) if code else Outcome("", "")


def serve(trials: Connection, ops: Sequence[str], output: str) -> None:
    """The process that forks: pytest, without the settings and the conftest of the session around it."""
    with open(output, "w") as file:
        os.dup2(file.fileno(), 1)
        os.dup2(file.fileno(), 2)
    importlib.import_module(LATE_IMPORT)
    os.environ.pop("PYTEST_ADDOPTS", None)
    os.environ["PYTEST_DISABLE_PLUGIN_AUTOLOAD"] = "1"
    os.environ["DX_MODES"] = ",".join(switches.FLAGS)
    options = ["-o", "addopts=--import-mode=importlib", "-p", "no:cacheprovider", "--capture=no", "--tb=native"]
    options += ["-q", f"--rootdir={harness.ROOT}", f"--confcutdir={HERE}"]
    pytest.main([*options, *(str(HERE / f"test_{op}.py") for op in ops)], plugins=[Server(trials)])


class Stand:
    """The process that serves the trials of these ops, while the context lasts."""

    def __init__(self, ops: Sequence[str]) -> None:
        self._ops = ops

    def __enter__(self) -> Stand:
        context = multiprocessing.get_context("spawn")
        self._folder = tempfile.TemporaryDirectory(prefix="planted-")
        self._output = Path(self._folder.name) / "output.txt"
        self._trials, theirs = context.Pipe()
        self._process = context.Process(target=serve, args=(theirs, self._ops, str(self._output)), daemon=True)
        self._process.start()
        theirs.close()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._trials.close()
        self._process.join()
        self._folder.cleanup()

    def run(self, trial: Trial) -> Outcome:
        """The first test of the op that fails in this mode."""
        try:
            self._trials.send(trial)
            outcome: Outcome = self._trials.recv()
        except (EOFError, OSError):
            raise RuntimeError(f"the process of the trials ended:\n{self._output.read_text()[-4000:]}") from None
        if not outcome.test and outcome.how:
            raise RuntimeError(f"{outcome.how}:\n{self._output.read_text()[-4000:]}")
        return outcome

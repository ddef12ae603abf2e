"""Tries the tests of the kernels on one mistake after another.

A process of its own imports torch and collects the tests once, then forks for each trial: a mistake may crash it, hang
it, or overwrite its memory.

A mistake is caught by a test that fails, or by a crash where one is expected. What ends a trial from outside says
nothing about the kernels: a limit of time or memory, a signal that someone sends, a test that was skipped.
"""

from __future__ import annotations

import contextlib
import enum
import importlib
import multiprocessing
import os
import re
import resource
import signal
import tempfile
from collections.abc import Sequence, Set
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path
from types import TracebackType

import pytest

from tests.cuda import harness, switches

HERE = Path(__file__).resolve().parent
LATE_IMPORT = "torch._dynamo"  # torch imports it in the first backward or dispatch mode, which takes a second
LONGEST = 60  # seconds of a processor, several times what the tests of an op take
FAULTS = {signal.SIGSEGV, signal.SIGBUS, signal.SIGFPE, signal.SIGILL, signal.SIGABRT}
OUT_OF_MEMORY = re.compile(r"MemoryError|bad_alloc|can't allocate memory")  # Python, C++, torch


class TrialError(RuntimeError):
    """A trial that does not run the tests that it is meant to run."""


class Verdict(enum.Enum):
    PASSED = "passed"
    """Every selected test ran and passed."""
    FAILED = "failed"
    """A test failed: by an assertion, or by an error that the execution model or the checker reports."""
    CRASHED = "crashed"
    """A fault of its own ended the process."""
    STOPPED = "stopped"
    """Something else ended it: the limit of time, a lack of memory, a signal from outside."""


@dataclass(frozen=True)
class Trial:
    op: str
    mode: str
    library: Path
    number: int
    """The number of the edit that is in force; zero for none."""
    first: str = ""
    """Tests with this in their name run first."""
    tests: tuple[str, ...] = ()
    """Node ids of the tests to run; all of the op and mode if empty."""


@dataclass(frozen=True)
class Outcome:
    verdict: Verdict
    passed: tuple[str, ...]
    """Node ids of the tests that passed, in their order."""
    test: str = ""
    """Node id of the test that failed, or that ran when the process ended; empty if all passed."""
    how: str = ""


class Server:
    """A pytest plugin that answers trials instead of running what was collected."""

    def __init__(self, trials: Connection) -> None:
        self._trials = trials
        self.answer: Connection | None = None
        """In a forked process: where it says which test starts, passes or fails, and how."""

    @pytest.hookimpl(tryfirst=True)
    def pytest_runtestloop(self, session: pytest.Session) -> bool | None:
        with contextlib.suppress(EOFError):
            while True:
                trial = self._trials.recv()
                try:
                    items = selected(session.items, trial)
                except TrialError as error:
                    self._trials.send(error)
                    continue
                receiver, sender = multiprocessing.Pipe(duplex=False)
                process = os.fork()
                if process == 0:
                    self.answer = sender
                    resource.setrlimit(resource.RLIMIT_CPU, (LONGEST, LONGEST + 5))
                    switches.put_in_force(trial.library, trial.op, trial.mode, trial.number)
                    session.items[:] = items
                    return None  # pytest runs what is left in the session
                sender.close()
                self._trials.send(outcome(process, receiver, {item.nodeid for item in items}))
                receiver.close()
        return True

    def pytest_runtest_logstart(self, nodeid: str) -> None:
        if self.answer:
            self.answer.send((nodeid, "starts", ""))

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        if self.answer and report.failed:
            crash = getattr(report.longrepr, "reprcrash", None)
            message = getattr(crash, "message", str(report.longrepr))
            self.answer.send((report.nodeid, "fails", message))
            os._exit(pytest.ExitCode.TESTS_FAILED)
        if self.answer and report.when == "call" and report.passed:
            self.answer.send((report.nodeid, "passes", ""))

    @pytest.hookimpl(tryfirst=True)
    def pytest_sessionfinish(self, exitstatus: int) -> None:
        if self.answer:
            os._exit(exitstatus)  # the rest, a summary for nobody, takes longer than most tests


def selected(items: Sequence[pytest.Item], trial: Trial) -> list[pytest.Item]:
    """The items that a trial runs, in their order."""
    items = [item for item in items if item.path.stem == f"test_{trial.op}" and _mode(item) == trial.mode]
    if trial.tests:
        items = [item for item in items if item.nodeid in trial.tests]
        if sorted(item.nodeid for item in items) != sorted(trial.tests):
            wanted = f"{len(items)} of the {len(trial.tests)} tests {', '.join(trial.tests)}"
            raise TrialError(f"{trial.op}, {trial.mode}: the trial selects {wanted}")
    if not any(trial.first in item.name for item in items):
        raise TrialError(f"{trial.op}, {trial.mode}: no test has {trial.first!r} in its name")
    return sorted(items, key=lambda item: trial.first not in item.name)


def _mode(item: pytest.Item) -> str:
    """Tests without a choice of modes run in mode plain."""
    return item.callspec.params.get("mode", "plain") if hasattr(item, "callspec") else "plain"


def outcome(process: int, receiver: Connection, expected: Set[str]) -> Outcome | TrialError:
    """What a forked process says until it ends, and how it ends; the tests with the expected node ids have to run."""
    test = message = ""
    passed = []
    with contextlib.suppress(EOFError):
        while True:
            test, event, message = receiver.recv()
            if event == "passes":
                passed.append(test)
    code = os.waitstatus_to_exitcode(os.waitpid(process, 0)[1])
    if code < 0:
        verdict = Verdict.CRASHED if -code in FAULTS else Verdict.STOPPED
        return Outcome(verdict, tuple(passed), test, f"ended by {signal.Signals(-code).name}")
    if code == pytest.ExitCode.TESTS_FAILED:
        verdict = Verdict.STOPPED if OUT_OF_MEMORY.search(message) else Verdict.FAILED
        return Outcome(verdict, tuple(passed), test, message)
    if code != pytest.ExitCode.OK:
        return TrialError(f"pytest ended with {code}")
    if len(passed) != len(expected) or set(passed) != expected:
        return TrialError(f"{len(passed)} tests passed and none failed, of {len(expected)} that had to run")
    return Outcome(Verdict.PASSED, tuple(passed))


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
        """What the tests of the op find in this mode, up to the first that fails.

        Raises:
            TrialError: the trial does not run the tests that it is meant to run.
        """
        try:
            self._trials.send(trial)
            answer: Outcome | TrialError = self._trials.recv()
        except (EOFError, OSError):
            raise RuntimeError(f"the process of the trials ended:\n{self._output.read_text()[-4000:]}") from None
        if isinstance(answer, TrialError):
            raise answer
        return answer

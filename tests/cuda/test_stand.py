"""What the end of a trial says about the kernels."""

from __future__ import annotations

import multiprocessing
import os
import signal
from collections.abc import Callable
from multiprocessing.connection import Connection

import pytest

from tests.cuda.stand import Outcome, TrialError, Verdict, outcome

pytestmark = pytest.mark.forks

TEST = "test_op.py::test"


def trial(end: Callable[[Connection], object]) -> Outcome | TrialError:
    """The outcome of a process that runs one test and ends like this."""
    receiver, sender = multiprocessing.Pipe(duplex=False)
    process = os.fork()
    if process == 0:
        sender.send((TEST, "starts", ""))
        end(sender)
        os._exit(pytest.ExitCode.OK)
    sender.close()
    return outcome(process, receiver, {TEST})


@pytest.mark.parametrize(
    ("number", "verdict"),
    [
        (signal.SIGKILL, Verdict.STOPPED),
        (signal.SIGXCPU, Verdict.STOPPED),
        (signal.SIGTERM, Verdict.STOPPED),
        (signal.SIGSEGV, Verdict.CRASHED),
        (signal.SIGFPE, Verdict.CRASHED),
    ],
    ids=lambda value: value.name,
)
def test_a_signal(number: signal.Signals, verdict: Verdict) -> None:
    """A limit of time or memory is no crash."""

    def end(_: Connection) -> None:
        signal.signal(number, signal.SIG_DFL) if number != signal.SIGKILL else None
        os.kill(os.getpid(), number)

    assert trial(end) == Outcome(verdict, (), TEST, f"ended by {number.name}")


@pytest.mark.parametrize(
    ("message", "verdict"),
    [
        ("AssertionError: off by 1", Verdict.FAILED),
        ("tests.cuda.harness.HostRunError: mmd_forward: 60 bad accesses", Verdict.FAILED),
        ("MemoryError", Verdict.STOPPED),
        ("tests.cuda.harness.HostRunError: mmd_forward: std::bad_alloc", Verdict.STOPPED),
        ("RuntimeError: [enforce fail] DefaultCPUAllocator: can't allocate memory", Verdict.STOPPED),
    ],
)
def test_a_test_that_fails(message: str, verdict: Verdict) -> None:
    """For want of memory, it says nothing about the kernels."""

    def end(sender: Connection) -> None:
        sender.send((TEST, "fails", message))
        os._exit(pytest.ExitCode.TESTS_FAILED)

    assert trial(end) == Outcome(verdict, (), TEST, message)


def test_a_test_that_passes() -> None:
    assert trial(lambda sender: sender.send((TEST, "passes", ""))) == Outcome(Verdict.PASSED, (TEST,))


@pytest.mark.parametrize(
    ("end", "message"),
    [
        (lambda sender: None, "0 tests passed and none failed, of 1"),
        (lambda sender: sender.send(("test_other.py::test", "passes", "")), "1 tests passed and none failed, of 1"),
        (lambda sender: os._exit(pytest.ExitCode.NO_TESTS_COLLECTED), "pytest ended with 5"),
    ],
    ids=["skipped", "another test", "nothing collected"],
)
def test_a_trial_without_its_tests_has_no_outcome(end: Callable[[Connection], object], message: str) -> None:
    answer = trial(end)
    assert isinstance(answer, TrialError)
    assert message in str(answer)

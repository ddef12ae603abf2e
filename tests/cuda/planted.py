"""Mistakes planted into the kernels, to see that the tests of the ops catch them; and the run that decides it."""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import shutil
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.cuda import harness

HERE = Path(__file__).resolve().parent
LONGEST_RUN = 120.0  # seconds; a mistake that makes a kernel run forever is caught by this


@dataclass(frozen=True)
class Plant:
    """A text of a source that occurs once, and what replaces it.

    `modes` are tried in turn until one catches it. Name the one that should: it is the only one that is built then.
    """

    name: str
    op: str
    file: str
    old: str
    new: str
    modes: tuple[str, ...] = ("plain", "check", "asan")

    def source(self) -> str:
        text = (harness.ROOT / "csrc" / self.file).read_text(encoding="utf-8")
        count = text.count(self.old)
        assert count == 1, f"{self.name}: {self.old!r} occurs {count} times in {self.file}"
        return text.replace(self.old, self.new)


# Which mode should catch what.
RACE = ("check", "plain", "asan")
OVERRUN = ("check", "asan", "plain")

PLANTS: list[Plant] = []


class Copies:
    """Copies of csrc, each with one mistake in it."""

    def __init__(self) -> None:
        self._folder: Path | None = None
        self._copies: dict[Plant, Path] = {}

    def of(self, plant: Plant) -> Path:
        if plant not in self._copies:
            self._copies[plant] = self.make(plant.file, plant.source())
        return self._copies[plant]

    def make(self, file: str, text: str) -> Path:
        """A copy of csrc whose `file` has this text."""
        if self._folder is None:
            self._folder = Path(tempfile.mkdtemp(prefix="planted-"))
        csrc = Path(tempfile.mkdtemp(dir=self._folder)) / "csrc"
        for part in ("cuda", "math", "testing"):
            shutil.copytree(harness.ROOT / "csrc" / part, csrc / part)
        (csrc / file).write_text(text, encoding="utf-8")
        return csrc

    def prepare(self, plant: Plant) -> None:
        """Begins to build what the test of this plant will run. That its text is gone is for the test to say."""
        with contextlib.suppress(AssertionError):
            harness.builder.start(plant.op, plant.modes[0], self.of(plant))

    def remove(self) -> None:
        if self._folder is not None:
            shutil.rmtree(self._folder, ignore_errors=True)


copies = Copies()

# For the summary at the end of the tests: plant, the mode that caught it, how.
MISSED = "MISSED"
verdicts: list[tuple[Plant, str, str]] = []


class FirstFailure:
    """A pytest plugin: which test failed first, and with what."""

    def __init__(self) -> None:
        self.test = ""
        self.message = ""

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        if report.failed and not self.test:
            crash = getattr(report.longrepr, "reprcrash", None)
            self.test = report.nodeid.rpartition("::")[2]
            self.message = getattr(crash, "message", str(report.longrepr))


def _run_tests(answer: Any, op: str, mode: str, csrc: str, output: str) -> None:
    """In a process of its own: a mistake may crash it."""
    os.environ.update(DX_CSRC=csrc, DX_MODES=mode)
    with open(output, "w") as file:
        os.dup2(file.fileno(), 1)
        os.dup2(file.fileno(), 2)
    os.chdir(harness.ROOT)
    first = FirstFailure()
    arguments = ["-x", "-q", "-p", "no:cacheprovider", str(HERE / f"test_{op}.py")]
    status = int(pytest.main(arguments, plugins=[first]))
    answer.send((status, first.test, first.message))


@dataclass(frozen=True)
class Outcome:
    caught: bool
    how: str


def _preload() -> Any:
    """Processes are forked from one that has torch but has not run anything: importing it takes seconds."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["torch", "pytest", "disentangle_ext"])
    return context


def outcome(op: str, mode: str, csrc: Path) -> Outcome:
    """Runs the tests of the op on the planted kernels in this mode."""
    context = _preload()
    receiver, sender = context.Pipe(duplex=False)
    output = csrc.parent / f"{mode}.txt"
    process = context.Process(target=_run_tests, args=(sender, op, mode, str(csrc), str(output)))
    process.start()
    sender.close()
    process.join(LONGEST_RUN)
    if process.is_alive():
        process.kill()
        process.join()
        return Outcome(True, "ran forever")
    if process.exitcode and process.exitcode < 0:
        return Outcome(True, f"crashed with signal {-process.exitcode}")
    assert process.exitcode == 0, output.read_text()[-4000:]
    status, test, message = receiver.recv()
    assert status in (pytest.ExitCode.OK, pytest.ExitCode.TESTS_FAILED), output.read_text()[-4000:]
    return Outcome(status == pytest.ExitCode.TESTS_FAILED, f"{test}: {message}")

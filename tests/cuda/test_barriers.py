"""The program that removes barriers: what it takes for missed, and what it does not."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.cuda import barriers, switches
from tests.cuda.stand import Outcome, Trial, Verdict
from tests.cuda.switches import Edit

EDIT = Edit("cuda/mmd.cuh", 0, "", "")
TEST = "test_mmd.py::test"


class Answers:
    """A stand on which every trial with a removal ends like this, and those without like that."""

    def __init__(self, removed: Verdict, control: Verdict = Verdict.PASSED) -> None:
        self.removed, self.control = removed, control
        self.trials: list[tuple[str, int]] = []

    def run(self, trial: Trial) -> Outcome:
        self.trials.append((trial.mode, trial.number))
        return Outcome(self.removed if trial.number else self.control, (), TEST, "how")


@pytest.fixture(autouse=True)
def no_compiler(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(switches, "build", lambda op, mode, edits: Path("library"))


def test_kernels_with_every_barrier_run_in_both_modes() -> None:
    stand = Answers(Verdict.FAILED)
    barriers.control(stand, "mmd", [EDIT])
    assert stand.trials == [("check", 0), ("plain", 0)]


@pytest.mark.parametrize("verdict", [Verdict.FAILED, Verdict.CRASHED, Verdict.STOPPED], ids=lambda v: v.value)
def test_kernels_that_fail_with_every_barrier_end_the_program(verdict, monkeypatch) -> None:
    stand = Answers(Verdict.FAILED, control=verdict)
    monkeypatch.setattr(barriers.sys, "argv", ["barriers", "mmd"])
    monkeypatch.setattr(barriers.Stand, "__enter__", lambda self: stand)
    monkeypatch.setattr(barriers.Stand, "__exit__", lambda self, *error: None)
    with pytest.raises(SystemExit, match=rf"mmd, check, with every barrier: {verdict.value} in {TEST}: how"):
        barriers.main()
    assert stand.trials == [("check", 0)]


@pytest.mark.parametrize(
    ("verdict", "missed"),
    [(Verdict.PASSED, False), (Verdict.STOPPED, False), (Verdict.FAILED, True), (Verdict.CRASHED, True)],
    ids=lambda value: getattr(value, "value", ""),
)
def test_a_barrier_is_missed_when_a_test_fails(verdict, missed, capsys) -> None:
    """Not when a limit ends the trial."""
    assert barriers.report(Answers(verdict), "mmd", [EDIT], 1) == missed
    assert ("NOT MISSED" in capsys.readouterr().out) != missed

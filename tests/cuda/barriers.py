"""Removes each barrier of the kernels in turn, to see whether the host runs notice.

    python -m tests.cuda.barriers [OP ...]

One that nobody misses is redundant, or the tests lack the case that needs it. The kernels with all their barriers must
pass the same tests in the same libraries first. Takes a minute for each op.
"""

from __future__ import annotations

import re
import sys

from tests.cuda import harness, switches
from tests.cuda.planted import PLANTS
from tests.cuda.stand import Stand, Trial, Verdict
from tests.cuda.switches import Edit

BARRIER = re.compile(r"__sync(threads|warp)\(\);")
MODES = ("check", "plain")
MISSED = {Verdict.FAILED, Verdict.CRASHED}  # threads that do not wait may also read an index that is not there yet


def removals(op: str) -> list[Edit]:
    found = [(file, match) for file, text in switches.kernels(op).items() for match in BARRIER.finditer(text)]
    return [Edit(file, match.start(), match[0], "") for file, match in found]


def control(stand: Stand, op: str, edits: list[Edit]) -> None:
    """Ends the program if the tests fail without a removal: every barrier would seem to be missed."""
    for mode in MODES:
        outcome = stand.run(Trial(op, mode, switches.build(op, mode, edits), 0))
        if outcome.verdict is not Verdict.PASSED:
            how = f"{outcome.verdict.value} in {outcome.test}: {outcome.how}"
            raise SystemExit(f"{op}, {mode}, with every barrier: {how}")


def report(stand: Stand, op: str, edits: list[Edit], number: int) -> bool:
    edit = edits[number - 1]
    for mode in MODES:
        outcome = stand.run(Trial(op, mode, switches.build(op, mode, edits), number))
        if outcome.verdict is not Verdict.PASSED:
            how = " ".join(f"{outcome.verdict.value} in {outcome.test}: {outcome.how}".split())
            print(f"{edit.file}:{edit.line()}: {mode}: {how[:150]}", flush=True)
        if outcome.verdict in MISSED:
            return True
    print(f"{edit.file}:{edit.line()}: NOT MISSED by the tests of {op}", flush=True)
    return False


def main() -> None:
    reason = harness.unavailable()
    if reason:
        raise SystemExit(reason)
    ops = sys.argv[1:] or list(PLANTS)
    noticed = []
    with Stand(ops) as stand:
        for op in ops:
            edits = removals(op)
            control(stand, op, edits)
            noticed += [report(stand, op, edits, number) for number in range(1, len(edits) + 1)]
    print(f"{sum(noticed)} of {len(noticed)} barriers are missed when removed")


if __name__ == "__main__":
    main()

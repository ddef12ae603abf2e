"""Removes each barrier of the kernels in turn, to see whether the host runs notice.

    python -m tests.cuda.barriers [OP ...]

One that nobody misses is redundant, or the tests lack the case that needs it. Takes a minute for each op.
"""

from __future__ import annotations

import re
import sys

from tests.cuda import harness, switches
from tests.cuda.planted import PLANTS
from tests.cuda.stand import Stand, Trial
from tests.cuda.switches import Edit

BARRIER = re.compile(r"__sync(threads|warp)\(\);")
MODES = ("check", "plain")


def removals(op: str) -> list[Edit]:
    found = [(file, match) for file, text in switches.kernels(op).items() for match in BARRIER.finditer(text)]
    return [Edit(file, match.start(), match[0], "") for file, match in found]


def report(stand: Stand, op: str, edits: list[Edit], number: int) -> bool:
    edit = edits[number - 1]
    for mode in MODES:
        outcome = stand.run(Trial(op, mode, switches.build(op, mode, edits), number))
        if outcome.test:
            how = " ".join(f"{outcome.test}: {outcome.how}".split())
            print(f"{edit.file}:{edit.line()}: {mode}: {how[:150]}", flush=True)
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
            noticed += [report(stand, op, edits, number) for number in range(1, len(edits) + 1)]
    print(f"{sum(noticed)} of {len(noticed)} barriers are missed when removed")


if __name__ == "__main__":
    main()

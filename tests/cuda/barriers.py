"""Removes each barrier of the kernels in turn, to see whether the host runs notice.

    python -m tests.cuda.barriers [OP ...]

One that nobody misses is redundant, or the tests lack the case that needs it. Takes some seconds for each barrier.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator
from dataclasses import dataclass

from tests.cuda import harness
from tests.cuda.planted import copies, outcome

BARRIER = re.compile(r"__sync(threads|warp)\(\);")


@dataclass(frozen=True)
class Removal:
    op: str
    file: str
    line: int
    text: str  # of the file without the barrier


def ops() -> list[str]:
    names = [path.stem.removeprefix("run_") for path in (harness.ROOT / "csrc" / "testing").glob("run_*.cpp")]
    return sorted(name for name in names if (harness.ROOT / "tests" / "cuda" / f"test_{name}.py").exists())


def removals(op: str) -> Iterator[Removal]:
    csrc = harness.ROOT / "csrc"
    for file, content in sorted(harness.included(csrc / "testing" / f"run_{op}.cpp", csrc).items()):
        text = content.decode()
        for match in BARRIER.finditer(text) if file.startswith("cuda/") else []:
            without = text[: match.start()] + ";" + text[match.end() :]
            yield Removal(op, file, text[: match.start()].count("\n") + 1, without)


def report(removal: Removal) -> bool:
    csrc = copies.make(removal.file, removal.text)
    for mode in ("check", "plain"):
        harness.builder.start(removal.op, mode, csrc).result()
        result = outcome(removal.op, mode, csrc)
        if result.caught:
            print(f"{removal.file}:{removal.line}: {mode}: {' '.join(result.how.split())[:150]}", flush=True)
            return True
    print(f"{removal.file}:{removal.line}: NOT MISSED by the tests of {removal.op}", flush=True)
    return False


def main() -> None:
    try:
        noticed = [report(removal) for op in sys.argv[1:] or ops() for removal in removals(op)]
    finally:
        copies.remove()
    print(f"{sum(noticed)} of {len(noticed)} barriers are missed when removed")


if __name__ == "__main__":
    main()

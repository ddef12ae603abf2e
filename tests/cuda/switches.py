"""Builds the kernels of an op with many edits at once, each behind a switch: the variable `dx_planted` chooses one.

A library for each edit would keep compilers busy for minutes. With zero the kernels are what they were.
"""

from __future__ import annotations

import ctypes
import re
import shutil
import tempfile
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from tests.cuda import harness

DECLARATION = 'extern "C" {\n__attribute__((visibility("default"))) int dx_planted = 0;\n}\n#line 1\n'
# Kernels with a mistake do not run for long. The checker needs an optimiser, which drops loads made in vain.
FLAGS = {"plain": ["-O0"], "check": harness.OPTIMISED}


@dataclass(frozen=True)
class Edit:
    """What stands at a place of a source, and what stands there instead: an expression, or statements."""

    file: str
    """Path below csrc."""
    begin: int
    old: str
    new: str

    @property
    def end(self) -> int:
        return self.begin + len(self.old)

    def line(self, csrc: Path = harness.CSRC) -> int:
        return (csrc / self.file).read_text(encoding="utf-8").count("\n", 0, self.begin) + 1


def kernels(op: str) -> dict[str, str]:
    """The sources below csrc/cuda that the host run of an op includes: path below csrc -> text."""
    included = harness.included(harness.CSRC / "testing" / f"run_{op}.cpp", harness.CSRC)
    return {file: content.decode() for file, content in sorted(included.items()) if file.startswith("cuda/")}


def find(op: str, marked: str, new: str) -> Edit:
    """The edit of what stands between « and » in a text that the kernels contain once, whatever its white space."""
    before, old, after = (re.sub(r"\s", "", part) for part in re.split("[«»]", marked))
    spaced = [r"\s*".join(map(re.escape, part)) for part in (before, old, after)]
    pattern = re.compile(rf"{spaced[0]}\s*(?P<old>{spaced[1]})\s*{spaced[2]}")
    found = [(file, match) for file, text in kernels(op).items() for match in pattern.finditer(text)]
    assert len(found) == 1, f"{op}: {marked!r} occurs {len(found)} times in its kernels: {[file for file, _ in found]}"
    ((file, match),) = found
    return Edit(file, match.start("old"), match["old"], new)


def _switch(old: str, choices: Iterable[tuple[int, str]]) -> str:
    """The text that is `old` unless one of the numbers is in force. It has as many lines."""
    if old.endswith((";", "}")):
        return "".join(f"if (dx_planted == {number}) {{ {new} }} else " for number, new in choices) + f"{{ {old} }}"
    return "(" + "".join(f"dx_planted == {number} ? ({new}) : " for number, new in choices) + f"({old}))"


def switched(text: str, edits: Iterable[tuple[int, Edit]]) -> str:
    """The text of a file with its edits, which have numbers. Edits of one place share it; others must not overlap."""
    places: dict[tuple[int, int], list[tuple[int, str]]] = {}
    for number, edit in edits:
        assert text[edit.begin : edit.end] == edit.old
        places.setdefault((edit.begin, edit.end), []).append((number, edit.new))
    following = len(text)
    for begin, end in sorted(places, reverse=True):
        assert end <= following, f"two edits overlap at {text[begin:end]!r}"
        text, following = text[:begin] + _switch(text[begin:end], places[begin, end]) + text[end:], begin
    return text


def build(op: str, mode: str, edits: Sequence[Edit]) -> Path:
    """The library in which the number i + 1 puts edits[i] in force."""
    with tempfile.TemporaryDirectory(prefix="planted-") as folder:
        csrc = Path(folder) / "csrc"
        for part in ("cuda", "math", "testing"):
            shutil.copytree(harness.CSRC / part, csrc / part)
        for file in {edit.file for edit in edits}:
            own = [(number, edit) for number, edit in enumerate(edits, 1) if edit.file == file]
            (csrc / file).write_text(switched((harness.CSRC / file).read_text(encoding="utf-8"), own), encoding="utf-8")
        source = csrc / "testing" / f"run_{op}.cpp"
        source.write_text(DECLARATION + source.read_text(encoding="utf-8"), encoding="utf-8")
        return harness.build(op, mode, csrc, FLAGS[mode])


def put_in_force(path: Path, op: str, mode: str, number: int) -> None:
    """Lets this process run the kernels of the library with one edit; zero is none."""
    harness.libraries[op, mode] = harness.InProcess(path, op in harness.PADDED_ROWS)
    ctypes.c_int.in_dll(ctypes.CDLL(str(path)), "dx_planted").value = number

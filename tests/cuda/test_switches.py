"""Mistakes behind switches: they are found in the text, and leave the other lines where they are."""

from __future__ import annotations

import pytest

from tests.cuda import switches
from tests.cuda.switches import Edit

TEXT = "int f(int n) {\n  g(n);\n  return n +\n         1;\n}\n"


@pytest.fixture
def one_kernel(monkeypatch):
    monkeypatch.setattr(switches, "kernels", lambda op: {"cuda/f.cuh": TEXT})


def test_white_space_does_not_matter(one_kernel):
    edit = switches.find("f", "return «n+1»;", "n")
    assert (edit.file, edit.old, edit.new) == ("cuda/f.cuh", "n +\n         1", "n")


@pytest.mark.parametrize(("text", "times"), [("«m»", 0), ("«int»", 2)])
def test_a_text_that_does_not_occur_once_is_refused(one_kernel, text, times):
    with pytest.raises(AssertionError, match=f"occurs {times} times"):
        switches.find("f", text, "0")


def test_the_lines_of_a_switched_text_stay_where_they_are(one_kernel):
    edits = [
        switches.find("f", *texts) for texts in (("«g(n);»", ""), ("return «n + 1»;", "n"), ("return «n+1»;", "0"))
    ]
    lines = switches.switched(TEXT, enumerate(edits, 1)).splitlines()
    assert len(lines) == len(TEXT.splitlines())
    assert lines[1] == "  if (dx_planted == 1) {  } else { g(n); }"
    assert lines[2] == "  return (dx_planted == 2 ? (n) : dx_planted == 3 ? (0) : (n +"


def test_edits_that_overlap_are_refused():
    edits = [Edit("cuda/f.cuh", TEXT.index("g(n)"), "g(n)", "0"), Edit("cuda/f.cuh", TEXT.index("(n);"), "(n)", "")]
    with pytest.raises(AssertionError, match="overlap"):
        switches.switched(TEXT, enumerate(edits, 1))

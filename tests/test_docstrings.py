"""Docstrings say what they are about: a reader who opens the file at that line has no sentence before it."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
WITHOUT_A_NOUN = re.compile(r"\s*(Of|That of|Those of)\b")


def docstrings(path: Path) -> Iterator[ast.Constant]:
    """The docstrings of a file, those of attributes among them: strings that stand as statements of their own."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant) and isinstance(node.value.value, str):
            yield node.value


@pytest.mark.parametrize("folder", ["disentangle_ext", "bench", "build_support", "examples", "studies", "tests"])
def test_no_docstring_begins_without_its_noun(folder: str) -> None:
    files = list((ROOT / folder).rglob("*.py"))
    assert files
    wrong = [
        f"{path.relative_to(ROOT)}:{each.lineno}: {str(each.value).strip().splitlines()[0]}"
        for path in files
        for each in docstrings(path)
        if WITHOUT_A_NOUN.match(str(each.value))
    ]
    assert wrong == []

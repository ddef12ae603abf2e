"""Options read off signatures, and values read off YAML."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

import pytest

from disentangle_ext.runs.options import REQUIRED, argument_help, coerce, options_of, placeholder, read_text


class Example:
    """One line.

    Args:
        size: how large it is,
            in metres.
        name: what it is called.
        rest: not asked for.

    Raises:
        ValueError: never.
    """

    def __init__(self, size: float, *, name: str = "a", rest: int = 0, **more: Any) -> None:
        self.size = size


def test_options_of_a_class() -> None:
    size, name = options_of(Example, without=("rest",))
    assert (size.name, size.type, size.default, size.help) == ("size", float, REQUIRED, "how large it is, in metres")
    assert (name.name, name.type, name.default, name.help) == ("name", str, "a", "what it is called")


def test_help_of_a_docstring_without_arguments() -> None:
    assert argument_help("Nothing.\n\nRaises:\n    ValueError: x") == {}


@pytest.mark.parametrize(
    ("value", "kind", "want"),
    [
        (1, float, 1.0),
        ("1e-4", float, 1e-4),
        (3.0, int, 3),
        (True, bool, True),
        ("x", str, "x"),
        ("a/b", Path, Path("a/b")),
        (None, float | None, None),
        (2, float | None, 2.0),
        ("mws", Literal["mws", "mss"], "mws"),
        ([1, 2.0], tuple[int, ...], (1, 2)),
        ([1, "x"], tuple[int, str], (1, "x")),
    ],
)
def test_coerce(value: Any, kind: Any, want: Any) -> None:
    got = coerce(value, kind, "k")
    assert got == want
    assert type(got) is type(want)


@pytest.mark.parametrize(
    ("text", "kind", "want"),
    [
        ("3", int, 3),
        ("-3", int | None, -3),
        ("3", float, 3.0),
        ("3", str, "3"),
        (["1", "2"], tuple[float, float], (1, 2)),
    ],
)
def test_read_text(text: Any, kind: Any, want: Any) -> None:
    got = read_text(text, kind, "k")
    assert got == want
    assert type(got) is type(want)


def test_placeholder() -> None:
    assert placeholder(float | Literal["learned"]) == "FLOAT|learned"
    assert placeholder(Path | None) == "PATH"


@pytest.mark.parametrize(
    ("value", "kind", "message"),
    [
        ("fast", float, "k must be a float, got 'fast'"),
        (True, float, "k must be a float, got True"),
        (1.5, int, "k must be an int, got 1.5"),
        (True, int, "k must be an int, got True"),
        ("3", int, "k must be an int, got '3'"),
        (1, bool, "k must be a bool, got 1"),
        (1, str, "k must be a str, got 1"),
        ([1], float, r"k must be a float, got \[1\]"),
        ("x", float | None, "k must be a float or null, got 'x'"),
        ("mvs", Literal["mws", "mss"], "k must be one of mws, mss, got 'mvs'"),
        ([1], tuple[int, str], r"k must be a tuple, got \[1\]"),
    ],
)
def test_coerce_refuses(value: Any, kind: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        coerce(value, kind, "k")
